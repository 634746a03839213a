/* SPDX-License-Identifier: Apache-2.0
 *
 * Between these two it is measured: ticks are added up, callgrind collects.
 */
#ifndef LEAT_BENCH_MICRO_H
#define LEAT_BENCH_MICRO_H

#include <stdint.h>
#include <valgrind/callgrind.h>
#include <x86intrin.h>

extern uint64_t micro_begin_ticks, micro_ticks;

#define MICRO_BEGIN()                                                                              \
    do {                                                                                           \
        CALLGRIND_TOGGLE_COLLECT;                                                                  \
        micro_begin_ticks = __rdtsc();                                                             \
    } while (0)

#define MICRO_END()                                                                                \
    do {                                                                                           \
        micro_ticks += __rdtsc() - micro_begin_ticks;                                              \
        CALLGRIND_TOGGLE_COLLECT;                                                                  \
    } while (0)

/* micro_core.c: three cores in one process, nothing lost, all at once durable. `appends` appends
 * come in one pass; what the leader's, or one follower's, core takes for them is measured: its
 * inputs and its polls. */
void micro_core_leader(uint32_t appends);
void micro_core_follower(uint32_t appends);

/* micro_node.c: three nodes' passes in turn. `appends` records of 64 bytes lie in the leader's
 * client's ring; what the passes of the leader, or of one follower, take until all have ended is
 * measured: at one and at many in a pass. Also a pass that finds nothing to do. */
void micro_node_leader(uint32_t appends);
void micro_node_leader_replicated(uint32_t appends);
void micro_node_follower(uint32_t appends);
void micro_node_leader_many(uint32_t appends); /* over 64 logs by turns */
void micro_node_leader_many_replicated(uint32_t appends);
void micro_node_follower_many(uint32_t appends);
void micro_node_idle(uint32_t unused);

#endif
