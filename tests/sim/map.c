/* SPDX-License-Identifier: Apache-2.0 */
#include "map.h"

#include "system.h"

static size_t map_place(const struct sim_map *map, struct sim_map_key key)
{
    uint64_t hash = key.position * 0x9e3779b97f4a7c15ull ^ key.term * 0xbf58476d1ce4e5b9ull ^
                    key.log * 0x94d049bb133111ebull;
    size_t at = (hash ^ hash >> 32) & (map->room - 1);
    while (map->rows[at].used &&
           (map->rows[at].key.position != key.position || map->rows[at].key.term != key.term ||
            map->rows[at].key.log != key.log))
        at = (at + 1) & (map->room - 1);
    return at;
}

static void map_grow(struct sim_map *map)
{
    struct sim_map before = *map;
    map->room = before.room ? 2 * before.room : 4096;
    map->rows = sim_new(map->room * sizeof(map->rows[0]));
    for (size_t i = 0; i < before.room; i++) {
        if (before.rows[i].used)
            map->rows[map_place(map, before.rows[i].key)] = before.rows[i];
    }
    __real_free(before.rows);
}

uint64_t map_put(struct sim_map *map, struct sim_map_key key, uint64_t value)
{
    if (2 * map->count >= map->room)
        map_grow(map);
    struct sim_map_row *row = &map->rows[map_place(map, key)];
    if (row->used)
        return row->value;
    *row = (struct sim_map_row){.key = key, .value = value, .used = true};
    map->count++;
    return value;
}

bool map_get(const struct sim_map *map, struct sim_map_key key, uint64_t *ret_value)
{
    if (map->room == 0)
        return false;
    const struct sim_map_row *row = &map->rows[map_place(map, key)];
    if (row->used)
        *ret_value = row->value;
    return row->used;
}
