/* SPDX-License-Identifier: Apache-2.0
 *
 * Making, sealing and giving back a client's rings (rule H1, base/ring.h). Control thread.
 *
 *   rings_make     both regions sized, filled, sealed SHRINK and GROW; the node region mapped for
 *                  writing here and sealed FUTURE_WRITE before its descriptor goes anywhere
 *   (descriptors passed; the client maps both; it says READY)
 *   rings_seal     the client region sealed FUTURE_WRITE: its one writable mapping stays, no other
 *                  can be made and no hole punched; holes punched before are filled
 *   (the worker attaches, uses, detaches)
 *   rings_free     unmapped
 */
#ifndef LEAT_NODE_RINGS_H
#define LEAT_NODE_RINGS_H

#include "commands.h"

struct rings_descriptors {
    int client_region; /* kept until rings_seal */
    int node_region;
};

/* Returns 0, LEAT_EINVAL (a size that ring.h does not allow), LEAT_ENOMEM or LEAT_ESYSTEM. */
int rings_make(const struct leat_uuid *client, uint32_t uid, const struct leat_uuid *instance,
               uint64_t ring_bytes, uint64_t completion_count, uint32_t worker_count,
               struct node_rings **ret_rings, struct rings_descriptors *ret_descriptors);

/* Returns 0, LEAT_ENOMEM or LEAT_ESYSTEM. */
int rings_seal(const struct node_rings *rings, int client_region);

/* Memory that rings of these sizes take; 0 when ring.h does not allow them. */
uint64_t rings_memory_bytes(uint64_t ring_bytes, uint64_t completion_count, uint32_t worker_count);

void rings_free(struct node_rings *rings);

#endif
