/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold after every pass of every node, named as in the catalogue of invariants: R1-R15 of
 * the consensus, J1-J7 and V1-V4 of the disk, W1-W8 of memory. What clients see (C1-C10) is
 * ledger.c's. README.md lists which of them are looked at where.
 */
#ifndef LEAT_SIM_CHECK_H
#define LEAT_SIM_CHECK_H

#include "system.h"

/* How often the product came to do it, over all nodes, logs and lives: what a run reached. */
#define SIM_REACHED(X)                                                                             \
    X(elections_won)                                                                               \
    X(won_by_amnesiacs)                                                                            \
    X(amnesia_cleared)                                                                             \
    X(stepped_down_quorum)                                                                         \
    X(transfers)                                                                                   \
    X(cuts)                                                                                        \
    X(resets)                                                                                      \
    X(naks)                                                                                        \
    X(rollbacks)                                                                                   \
    X(catchup_reads)                                                                               \
    X(forwards_in)                                                                                 \
    X(damages)                                                                                     \
    X(repairs)                                                                                     \
    X(segments)                                                                                    \
    X(trimmed)                                                                                     \
    X(followed)                                                                                    \
    X(ring_rounds)                                                                                 \
    X(rolled_back)                                                                                 \
    X(batches)                                                                                     \
    X(conditions_met)                                                                              \
    X(fenced)

struct sim_reached {
#define SIM_REACHED_FIELD(name) uint64_t name;
    SIM_REACHED(SIM_REACHED_FIELD)
#undef SIM_REACHED_FIELD
};
extern struct sim_reached reached;

void check_begin(void);
/* Counts what the nodes that still run reached. */
void check_end(void);

/* A node's process ends, perhaps within a pass, and its memory is still there; it is gone; it ended
 * by itself with this result. */
void check_node_dying(unsigned node);
void check_node_down(unsigned node);
void check_node_ended(unsigned node, int result);
/* The host lost its power, and the arenas. */
void check_memory_lost(unsigned node);

/* The highest that its first worker started as; 0: it never did. */
uint64_t check_incarnation(unsigned node);
/* Its disk is gone for good. */
void check_node_lost(unsigned node);

/* A datagram reached a node's port. */
void check_heard(unsigned node, unsigned from);
/* A message is handed to the port: header and body. */
void check_sent(unsigned node, const struct sim_process *process, const void *header,
                uint32_t bytes);
/* A node was told that a write failed: from now on nothing leaves it (V4, J7). */
void check_disk_failed(struct sim_process *process);
/* A dead process' write lands: nobody else may have its lock (V3). */
void check_late_write(const struct sim_open *lock);
/* Before a vote slot is written. */
void check_vote_write(unsigned node, struct sim_inode *inode, const void *bytes, uint64_t offset);

/* What every worker knows of its peers and logs. */
void check_trace(void);

/* A node that leads the log, or believes so; false: none does. */
bool check_leader(uint32_t log, unsigned *ret_node);
/* Some node has it, or had. */
bool check_log_exists(uint32_t log);
/* Its log ends there, by what any replica has committed. */
uint64_t check_committed_end(uint32_t log);
/* All replicas of all logs have the same, durable, committed; false: not yet, *ret_why says what is
 * missed. */
/* From now on there are no faults: a log that has no leader for long is an operator's. */
void check_healed(void);
void check_leaderless(void);
/* What was acknowledged of the log at the replicated level may be gone: a majority lost it, or an
 * operator accepted that. */
void check_memory_given_up(uint32_t log);
bool check_converged(const char **ret_why);
/* Nothing happens in between. */
void check_quiet_begin(void);
void check_quiet_end(void);

#endif
