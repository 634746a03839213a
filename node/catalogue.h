/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalogue: which logs exist, a pure function of log 0's prefix (like its sessions). It
 * changes only by catalogue_apply(), frame by frame; the leader of log 0 keeps a second one as of
 * the log's end, which judges new changes and fills base frames. No I/O, no clock, no allocation.
 *
 * Ids count up and are never reused: when the log of the highest id is deleted, its row stays as a
 * mark (LEAT_CATALOGUE_DELETED) until a higher id exists. Rows are sorted by id.
 */
#ifndef LEAT_NODE_CATALOGUE_H
#define LEAT_NODE_CATALOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base_frame.h"

struct node_catalogue {
    uint32_t count;
    struct leat_catalogue_row rows[LEAT_LOGS_MAX];
};

/* What a leader holds against a change beyond the catalogue itself. */
struct node_catalogue_limits {
    uint64_t arena_budget_bytes; /* of all logs together */
    uint64_t window_bytes;       /* of replication */
    uint32_t logs_per_user;      /* the node's user and root have no such limit */
    bool unlimited;              /* asked by the node's user or root */
    uint32_t uid;
};

void catalogue_load(struct node_catalogue *catalogue, const struct leat_catalogue_row *rows,
                    uint32_t count);

/* Goes over one committed or sealed CATALOGUE frame. Returns 0, or LEAT_ECORRUPT when it does not
 * fit: a correct leader never writes such a frame. */
int catalogue_apply(struct node_catalogue *catalogue, const struct leat_catalogue_payload *payload);

/* May this change be made? Completes the row of a CREATE (id, generation, time) and of the others
 * (what they leave as it is). Returns 0 or an error that `why` (one line) explains. */
int catalogue_judge(const struct node_catalogue *catalogue,
                    const struct node_catalogue_limits *limits, uint64_t log_time_ns,
                    struct leat_catalogue_payload *payload, char *why, unsigned why_bytes);

/* NULL: no such log (any more). */
const struct leat_catalogue_row *catalogue_find(const struct node_catalogue *catalogue,
                                                uint32_t log_id);
const struct leat_catalogue_row *catalogue_find_name(const struct node_catalogue *catalogue,
                                                     const char *name);

/* The highest id that was ever given. */
static inline uint32_t catalogue_last_id(const struct node_catalogue *catalogue)
{
    return catalogue->count ? catalogue->rows[catalogue->count - 1].log_id : 0;
}

#endif
