/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash table from three words to one, which only grows: what was seen once, for ever.
 */
#ifndef LEAT_SIM_MAP_H
#define LEAT_SIM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_map_key {
    uint64_t log, position, term;
};

struct sim_map_row {
    struct sim_map_key key;
    uint64_t value;
    bool used;
};

struct sim_map {
    struct sim_map_row *rows;
    size_t count, room; /* room: a power of two, or 0 */
};

/* The value under the key: `value` if it was not there, and is now. */
uint64_t map_put(struct sim_map *map, struct sim_map_key key, uint64_t value);
/* False: not there. */
bool map_get(const struct sim_map *map, struct sim_map_key key, uint64_t *ret_value);

#endif
