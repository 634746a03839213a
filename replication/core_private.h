/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the files of the core:
 *   core.c      init, step, poll, deadlines: the one way in and out
 *   runs.c      the list of runs: where two logs part
 *   disk.c      what was asked of the disk and what is durable (sequence numbers, clamped)
 *   election.c  timeouts, pre-vote, votes, who wins (W1, W5, W7)
 *   follower.c  the leader's messages: reconcile gate (G1), commit clamps (W2), amnesia cleared
 *   leader.c    acks, commits, sends, check-quorum, transfer
 */
#ifndef LEAT_REPLICATION_CORE_PRIVATE_H
#define LEAT_REPLICATION_CORE_PRIVATE_H

#include "base/assert.h"
#include "replication/core.h"

static inline unsigned core_majority(const struct leat_core *core)
{
    return core->config.member_count / 2u + 1u;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* core.c */
void core_set_role(struct leat_core *core, enum leat_role role);
/* Adopts `term` (not lower) as a follower of `leader` (or nobody). */
void core_follow(struct leat_core *core, uint32_t term, uint8_t leader, uint64_t incarnation);
struct leat_message *core_message(struct leat_core *core, struct leat_core_effects *effects,
                                  unsigned kind, uint8_t to);
/* Notes a peer's incarnation; what an earlier one said no longer counts (W7). False: it is of the
 * past. */
bool core_note_incarnation(struct leat_core *core, uint8_t peer, uint64_t incarnation);
/* Notes the newest incarnation of a peer. False: the message is of a past one, or echoes a past
 * one of this node, and is to be dropped. */
bool core_accept_incarnations(struct leat_core *core, const struct leat_message *message);

/* runs.c */
struct leat_run runs_last(const struct leat_core *core);
void runs_add(struct leat_core *core, uint32_t term, uint64_t first_pos);
void runs_cut(struct leat_core *core, uint64_t end_pos);
bool runs_full(const struct leat_core *core);
/* The term at `position` by a list; 0 below its first run. */
uint32_t runs_term_at(const struct leat_run *runs, uint32_t count, uint64_t position);
/* Where this log and the leader's part: all below agrees. */
uint64_t runs_agreement(const struct leat_core *core, const struct leat_run *leader_runs,
                        uint32_t leader_count, uint64_t leader_end);

/* disk.c */
void disk_issue(struct leat_core *core, struct leat_core_effects *effects);
void disk_persisted(struct leat_core *core, uint64_t sequence);
void disk_cut(struct leat_core *core, uint64_t end_pos);
uint64_t disk_vote(struct leat_core *core);

/* election.c */
void election_reset_timer(struct leat_core *core);
/* One more term, and no leader of it known. */
void election_note_term(struct leat_core *core);
bool election_may_campaign(const struct leat_core *core);
void election_tick(struct leat_core *core);
void election_campaign(struct leat_core *core, bool transfer);
void election_vote_request(struct leat_core *core, const struct leat_message *message);
void election_vote_reply(struct leat_core *core, const struct leat_message *message);
void election_vote_persisted(struct leat_core *core);
void election_emit(struct leat_core *core, struct leat_core_effects *effects);

/* follower.c */
void follower_append(struct leat_core *core, const struct leat_message *message);
void follower_heartbeat(struct leat_core *core, uint8_t peer, uint32_t term, uint64_t incarnation);
void follower_reconcile_reply(struct leat_core *core, const struct leat_message *message,
                              const struct leat_run *runs);
void follower_advance(struct leat_core *core);
void follower_heal_damage(struct leat_core *core);
void follower_begin_again(struct leat_core *core);
void follower_cut_settled(struct leat_core *core, uint64_t cut_epoch);
void follower_emit(struct leat_core *core, struct leat_core_effects *effects);

/* leader.c */
void leader_begin(struct leat_core *core);
void leader_ack(struct leat_core *core, const struct leat_message *message);
void leader_nak(struct leat_core *core, const struct leat_message *message);
void leader_reconcile_request(struct leat_core *core, const struct leat_message *message);
void leader_tick(struct leat_core *core);
uint64_t leader_deadline_ns(const struct leat_core *core);
void leader_advance(struct leat_core *core);
void leader_transfer(struct leat_core *core, uint8_t peer);
void leader_emit(struct leat_core *core, struct leat_core_effects *effects);

#endif
