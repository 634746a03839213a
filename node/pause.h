/* SPDX-License-Identifier: Apache-2.0
 *
 * How the threads beside the workers wait for work that no descriptor tells of: they look again
 * after a while, and after PAUSE_ROUNDS looks in vain eight times as seldom. Any thread, its own
 * struct.
 */
#ifndef LEAT_NODE_PAUSE_H
#define LEAT_NODE_PAUSE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define PAUSE_ROUNDS 64u
#define PAUSE_LONGER 8u

struct node_pause {
    uint64_t pause_ns; /* below a second / PAUSE_LONGER */
    uint32_t rounds;   /* in vain, in a row */
};

/* Below a second. */
static inline void node_rest(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

static inline void node_pause(struct node_pause *pause, bool worked)
{
    pause->rounds = worked ? 0 : pause->rounds + (pause->rounds < PAUSE_ROUNDS);
    node_rest(pause->rounds < PAUSE_ROUNDS ? pause->pause_ns : PAUSE_LONGER * pause->pause_ns);
}

#endif
