/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader's messages as a follower takes them: the reconcile gate (G1), the cut, commits
 * clamped to what this replica verified itself (W2), the end of amnesia (W5 a-c) and of damage.
 */
#include "core_private.h"

#include <string.h>

/* True when `peer` is the leader of this term, taking it on as that if none was known. */
static bool follower_takes_leader(struct leat_core *core, uint8_t peer, uint32_t term,
                                  uint64_t incarnation)
{
    if (term < core->term) {
        core->peers[peer].owes_term = true;
        return false;
    }
    if (term > core->term || (core->role != LEAT_LEADER && core->leader == LEAT_CORE_NOBODY))
        core_follow(core, term, peer, incarnation);
    if (core->role != LEAT_FOLLOWER || core->leader != peer ||
        core->leader_incarnation != incarnation) {
        core->counters.stale_messages++;
        return false;
    }
    core->leader_heard_ns = core->now_ns;
    election_reset_timer(core);
    if (!core->reconciled)
        core->reconcile_wanted = true;
    return true;
}

void follower_heartbeat(struct leat_core *core, uint8_t peer, uint32_t term, uint64_t incarnation)
{
    follower_takes_leader(core, peer, term, incarnation);
}

void follower_append(struct leat_core *core, const struct leat_message *message)
{
    if (!follower_takes_leader(core, message->from, message->term, message->from_incarnation))
        return;
    if (!core->reconciled || message->to_incarnation != core->incarnation)
        return;
    core->leader_commit_r = max_u64(core->leader_commit_r, message->commit_r);
    core->leader_commit_d = max_u64(core->leader_commit_d, message->commit_d);
    if (message->round > core->round_seen) {
        core->round_seen = message->round;
        core->ack_due = true;
    }
    if (message->flags & LEAT_MESSAGE_CLEARS)
        core->clear_at = min_u64(core->clear_at, message->commit_r); /* each is enough */
    if (message->begin_pos == message->end_pos && message->begin_pos > core->memory_pos)
        core->behind_base = true;
    /* what goes on from here is acknowledged when it is verified (core_extend); bytes that were
     * there already, or that leave a gap, at once: an acknowledgement was lost, or bytes were */
    bool goes_on = message->begin_pos <= core->memory_pos && message->end_pos > core->memory_pos;
    if ((message->begin_pos < message->end_pos && !goes_on) || message->request != 0)
        core->ack_due = true;
}

static bool leader_runs_are_sane(const struct leat_core *core, const struct leat_message *message,
                                 const struct leat_run *runs)
{
    if (message->run_count == 0 || message->run_count > LEAT_RUNS_MAX ||
        message->begin_pos > message->end_pos)
        return false;
    for (uint32_t i = 1; i < message->run_count; i++) {
        if (runs[i].term <= runs[i - 1].term || runs[i].first_pos <= runs[i - 1].first_pos)
            return false;
    }
    const struct leat_run *last = &runs[message->run_count - 1];
    return last->term == core->term && last->first_pos < message->end_pos;
}

static void follower_cut(struct leat_core *core, uint64_t position)
{
    LEAT_ASSERT(position >= core->commit_d); /* W3: what is committed is never cut */
    LEAT_ASSERT(position < core->memory_pos);
    core->memory_pos = position;
    runs_cut(core, position);
    disk_cut(core, position);
    core->commit_r = min_u64(core->commit_r, position); /* W6: legal, told to readers */
    core->cut_due = true;
    core->cut_settling = true;
    core->cut_pos = position;
    core->cut_epoch++;
    core->counters.cuts++;
}

/* Install: the leader no longer has what this replica lacks. Everything below its base is
 * committed, and committed by a quorum without this replica. */
static void follower_reset(struct leat_core *core, const struct leat_message *message)
{
    uint64_t base = message->begin_pos;
    LEAT_ASSERT(base > core->commit_d);
    core->run_count = 0;
    for (uint32_t i = 0; i < core->leader_run_count; i++) {
        if (core->leader_runs[i].first_pos < base)
            core->runs[core->run_count++] = core->leader_runs[i];
    }
    if (core->run_count == 0)
        core->runs[core->run_count++] = (struct leat_run){.first_pos = base, .term = 0};
    disk_cut(core, 0);
    core->base_pos = base;
    core->memory_pos = base;
    core->durable_pos = base;
    core->installing = true;
    core->write_issued_end = base;
    core->write_count = 0;
    core->commit_d = base;
    core->commit_r = base;
    core->cut_due = true;
    core->reset_due = true;
    core->cut_settling = true;
    core->cut_pos = base;
    core->cut_epoch++;
    core->counters.resets++;
}

void follower_reconcile_reply(struct leat_core *core, const struct leat_message *message,
                              const struct leat_run *runs)
{
    if (core->role != LEAT_FOLLOWER || core->reconciled || core->leader != message->from ||
        message->term != core->term || message->from_incarnation != core->leader_incarnation ||
        message->request != core->reconcile_request || core->cut_settling ||
        !leader_runs_are_sane(core, message, runs)) {
        core->counters.stale_messages++;
        return;
    }
    core->leader_run_count = message->run_count;
    memcpy(core->leader_runs, runs, message->run_count * sizeof(runs[0]));
    uint64_t agreed = runs_agreement(core, runs, message->run_count, message->end_pos);
    if (agreed < message->begin_pos)
        follower_reset(core, message);
    else if (agreed < core->memory_pos)
        follower_cut(core, agreed);
    core->reconciled = true;
    core->reconcile_wanted = false;
    core->leader_commit_r = message->commit_r;
    core->leader_commit_d = message->commit_d;
    core->round_seen = message->round;
    core->ack_due = true;
}

void follower_cut_settled(struct leat_core *core, uint64_t cut_epoch)
{
    if (core->cut_settling && cut_epoch == core->cut_epoch)
        core->cut_settling = false;
}

static void follower_heal(struct leat_core *core)
{
    if (core->amnesiac && core->clear_at <= core->memory_pos) {
        core->amnesiac = false;
        core->amnesia_changed = true;
        core->ack_due = true;
        core->counters.amnesia_cleared++;
    }
}

/* Whoever repaired it: a log that is durable to a later term, or as far in the claim's own, holds
 * what the replica had (Ongaro's thesis, section 3.5, Log Matching) or what a leader had instead.
 * It needs no leader: memory that was whole is written again before there is one. */
void follower_heal_damage(struct leat_core *core)
{
    if (!core->damaged || core->installing || core->durable_pos == 0)
        return;
    uint32_t term = runs_term_at(core->runs, core->run_count, core->durable_pos - 1);
    if (term < core->claim_term ||
        (term == core->claim_term && core->durable_pos < core->claim_end))
        return;
    core->damaged = false;
    core->damage_ended = true;
    core->ack_due = true;
}

/* The leader trimmed what this replica needs next: from the reconcile on, once more. At the poll,
 * so that the caller has dealt with the frames of its burst; role_changed tells it. */
void follower_begin_again(struct leat_core *core)
{
    if (!core->behind_base)
        return;
    core->behind_base = false;
    if (core->role != LEAT_FOLLOWER || !core->reconciled)
        return;
    core->reconciled = false;
    core->reconcile_wanted = true;
    core->reconcile_sent_ns = 0;
    core->role_changed = true;
}

void follower_advance(struct leat_core *core)
{
    if (core->role != LEAT_FOLLOWER || !core->reconciled)
        return;
    core->commit_r = max_u64(core->commit_r, min_u64(core->leader_commit_r, core->memory_pos));
    core->commit_d = max_u64(core->commit_d, min_u64(core->leader_commit_d, core->memory_pos));
    core->commit_r = max_u64(core->commit_r, core->commit_d);
    LEAT_ASSERT(core->commit_r <= core->memory_pos);
    follower_heal(core);
}

static void follower_emit_reconcile(struct leat_core *core, struct leat_core_effects *effects)
{
    if (core->reconcile_sent_ns != 0 &&
        core->now_ns - core->reconcile_sent_ns < core->config.retransmit_ns)
        return;
    if (core->reconcile_sent_ns == 0) /* one number for all of this leader's: any answer will do */
        core->reconcile_request = ++core->request;
    core->reconcile_sent_ns = core->now_ns;
    struct leat_message *message =
        core_message(core, effects, LEAT_MESSAGE_RECONCILE_REQUEST, core->leader);
    message->request = core->reconcile_request;
}

/* Tells a leader of the past the present term. Not as an acknowledgement: by the time it arrives
 * the other may lead that term, and this M is not reconciled with it (G1). An empty NAK asks for
 * nothing. */
static void follower_emit_terms(struct leat_core *core, struct leat_core_effects *effects)
{
    for (uint8_t i = 0; i < core->config.member_count; i++) {
        if (!core->peers[i].owes_term)
            continue;
        core->peers[i].owes_term = false;
        core_message(core, effects, LEAT_MESSAGE_NAK, i);
    }
}

void follower_emit(struct leat_core *core, struct leat_core_effects *effects)
{
    follower_emit_terms(core, effects);
    if (core->role != LEAT_FOLLOWER || core->leader == LEAT_CORE_NOBODY || core->cut_settling)
        return;
    if (core->reconcile_wanted && !core->reconciled)
        follower_emit_reconcile(core, effects);
    bool waited = core->ack_since_ns != 0 && core->now_ns - core->ack_since_ns >= core->hold_ns;
    if ((!core->ack_due && !waited) || !core->reconciled)
        return;
    core->ack_due = false;
    core->ack_since_ns = 0;
    struct leat_message *ack = core_message(core, effects, LEAT_MESSAGE_APPEND_ACK, core->leader);
    ack->round = core->round_seen;
    ack->flags = (uint8_t)((core->amnesiac ? LEAT_MESSAGE_AMNESIAC : 0) |
                           (core->damaged ? LEAT_MESSAGE_DAMAGED : 0));
}
