/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients of the simulated log: sessions with pipelined appends and retries, each attached to one
 * node, which seals the appends or forwards them to its leader, as node/clients.c and
 * node/forward.c do. Keeps the ledger of what was promised (C1-C5).
 */
#ifndef LEAT_TESTS_CLIENTS_H
#define LEAT_TESTS_CLIENTS_H

#include "harness.h"

#define CLIENTS_MAX 8u
#define APPENDS_MAX 96u /* per client, sequence 1 .. */

struct append {
    uint8_t level; /* 1: replicated is enough */
    bool ended;
    bool acked_durable;
    bool acked_replicated;
    uint32_t committed_frame; /* at commitD, wherever it was seen first */
    uint64_t after_pos;       /* C5: acknowledged by anyone before this one was begun */
};

struct client {
    uint8_t id;
    uint8_t home;
    bool lost;       /* its session was lost with replicated appends (W8) */
    uint32_t wanted; /* appends to make in all */
    uint32_t depth;
    uint32_t begun;
    uint32_t first;  /* oldest that has not ended */
    uint32_t submit; /* next to hand in */
    uint32_t epoch;  /* of the home */
    uint64_t handed_ns;
    struct append appends[APPENDS_MAX + 1];
};

struct clients {
    uint32_t count;
    uint32_t forward_loss_permille;
    uint64_t highest_acked_pos;
    uint64_t retry_ns;
    struct leat_rng rng;
    struct client list[CLIENTS_MAX];
};

void clients_init(struct cluster *cluster, struct clients *clients, uint32_t count, uint64_t seed);
/* Lets every client do what it can now. */
void clients_poll(struct cluster *cluster);
/* A frame became committed at a level where `replica` is. */
void clients_complete(struct cluster *cluster, struct replica *replica, const struct frame *frame,
                      bool durable);
/* A frame was committed durably for the first time anywhere. */
void clients_committed(struct cluster *cluster, uint32_t id);
bool clients_are_done(const struct cluster *cluster);
/* One append at a leader, as forward.c's session_append. 1 sealed, 0 wait, -1 recorded, -2 gap,
 * -3 refused. */
int client_append_at(struct cluster *cluster, struct replica *leader, uint8_t client,
                     uint64_t sequence, uint8_t level, uint8_t cells);

#endif
