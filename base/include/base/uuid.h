/* SPDX-License-Identifier: Apache-2.0
 *
 * 16-byte identities of clusters, nodes, logs, arenas and clients.
 */
#ifndef LEAT_BASE_UUID_H
#define LEAT_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct leat_uuid {
    uint8_t bytes[16];
};

#define LEAT_UUID_TEXT_BYTES 37 /* with the terminating zero */

/* A random (version 4) identity. Returns 0 or LEAT_ESYSTEM. */
int leat_uuid_random(struct leat_uuid *ret_uuid);

/* The identity of log `log_id` of a cluster: a pure function, so that every node forms the
 * same genesis (a version 8 identity, RFC 9562 section 5.8). */
struct leat_uuid leat_uuid_of_log(const struct leat_uuid *cluster, uint32_t log_id);

/* Writes the 36-character form and a zero. */
void leat_uuid_format(const struct leat_uuid *uuid, char text[LEAT_UUID_TEXT_BYTES]);

/* Reads the 36-character form. Returns 0 or LEAT_EINVAL. */
int leat_uuid_parse(const char *text, struct leat_uuid *ret_uuid);

static inline bool leat_uuid_equal(const struct leat_uuid *a, const struct leat_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool leat_uuid_is_zero(const struct leat_uuid *uuid)
{
    static const struct leat_uuid zero;
    return leat_uuid_equal(uuid, &zero);
}

#endif
