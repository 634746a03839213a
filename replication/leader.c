/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader: acks, both commits (W2, G2), pipelined sends and retransmission, nonce rounds and
 * the end of others' amnesia (W5), check-quorum (thesis 6.2), transfer (3.10).
 */
#include "core_private.h"

#include <string.h>

#define LEADER_BACKOFF_MAX 6u

static void peer_forget_match(struct leat_core_peer *peer)
{
    peer->matched = false;
    peer->amnesiac = false;
    peer->reconcile_reply = false;
    peer->backoff = 0;
    peer->memory_pos = 0;
    peer->durable_pos = 0;
    peer->next_pos = 0;
    peer->known_commit_r = 0;
    peer->known_commit_d = 0;
    peer->untold_ns = 0;
    peer->progress_ns = 0;
    peer->resend_begin = 0;
    peer->resend_end = 0;
    peer->round_acked = 0;
    peer->clearing_round = 0;
    peer->notice = true;
}

bool core_note_incarnation(struct leat_core *core, uint8_t index, uint64_t incarnation)
{
    struct leat_core_peer *peer = &core->peers[index];
    if (incarnation > peer->incarnation) {
        peer->incarnation = incarnation;
        peer->owes_vote_reply = false;
        peer_forget_match(peer);
    }
    return incarnation == peer->incarnation;
}

bool core_accept_incarnations(struct leat_core *core, const struct leat_message *message)
{
    struct leat_core_peer *peer = &core->peers[message->from];
    bool echoes =
        message->kind != LEAT_MESSAGE_VOTE_REQUEST && message->kind != LEAT_MESSAGE_APPEND;

    if (!core_note_incarnation(core, message->from, message->from_incarnation)) {
        core->counters.stale_messages++;
        return false;
    }
    if (message->to_incarnation == core->incarnation || (!echoes && message->to_incarnation == 0))
        return true;
    /* a live peer that knows only a past incarnation of this node: tell it of the present one */
    core->counters.stale_messages++;
    peer->notice = true;
    return false;
}

void leader_begin(struct leat_core *core)
{
    core_set_role(core, LEAT_LEADER);
    core->leader = core->config.self;
    core->counters.elections_won++;
    core->leaderless_terms = 0;
    core->append_term_due = true;
    core->term_end = 0;
    core->round = 1;
    core->transfer_to = LEAT_CORE_NOBODY;
    for (unsigned i = 0; i < core->config.member_count; i++) {
        peer_forget_match(&core->peers[i]);
        core->peers[i].heard_ns = core->now_ns;
    }
    if (core->amnesiac)
        core->peers[core->config.self].clearing_round = ++core->round;
}

uint64_t leat_core_begin_round(struct leat_core *core)
{
    LEAT_ASSERT(core->role == LEAT_LEADER);
    core->round++;
    for (unsigned i = 0; i < core->config.member_count; i++)
        core->peers[i].notice = true;
    return core->round;
}

static void leader_note_amnesia(struct leat_core *core, struct leat_core_peer *peer, bool amnesiac)
{
    if (!amnesiac) {
        peer->amnesiac = false;
        peer->clearing_round = 0;
        return;
    }
    peer->amnesiac = true;
    if (peer->clearing_round != 0)
        return;
    peer->clearing_round = leat_core_begin_round(core);
}

/* Everything that a lost datagram can leave open, in either direction: the reconcile, bytes, the
 * word that they are durable, a nonce round, a commit that was told. Nothing else repeats them in
 * a log without traffic. */
static bool leader_awaits(const struct leat_core *core, const struct leat_core_peer *peer)
{
    return !peer->matched || peer->next_pos > peer->memory_pos ||
           peer->durable_pos < peer->memory_pos || peer->amnesiac ||
           peer->round_acked < core->round || peer->known_commit_r < core->commit_r ||
           peer->known_commit_d < core->commit_d;
}

/* An acknowledgement is the peer's own word that it reconciled in this term (G1). */
void leader_ack(struct leat_core *core, const struct leat_message *ack)
{
    struct leat_core_peer *peer = &core->peers[ack->from];
    if (core->role != LEAT_LEADER || ack->term != core->term ||
        ack->memory_pos > core->memory_pos || ack->durable_pos > ack->memory_pos) {
        core->counters.stale_messages++;
        return;
    }
    peer->heard_ns = core->now_ns;
    if (!peer->matched) {
        peer->matched = true;
        peer->next_pos = ack->memory_pos;
        peer->progress_ns = core->now_ns;
    }
    if (ack->memory_pos > peer->memory_pos || ack->durable_pos > peer->durable_pos) {
        peer->progress_ns = core->now_ns;
        peer->backoff = 0;
    }
    peer->memory_pos = max_u64(peer->memory_pos, ack->memory_pos);
    peer->durable_pos = max_u64(peer->durable_pos, ack->durable_pos);
    peer->known_commit_r = max_u64(peer->known_commit_r, ack->commit_r);
    peer->known_commit_d = max_u64(peer->known_commit_d, ack->commit_d);
    peer->next_pos = max_u64(peer->next_pos, peer->memory_pos);
    if (ack->round <= core->round)
        peer->round_acked = max_u64(peer->round_acked, ack->round);
    leader_note_amnesia(core, peer, (ack->flags & LEAT_MESSAGE_AMNESIAC) != 0);
    if (!leader_awaits(core, peer))
        peer->backoff = 0;
}

void leader_nak(struct leat_core *core, const struct leat_message *nak)
{
    struct leat_core_peer *peer = &core->peers[nak->from];
    uint64_t begin = max_u64(nak->begin_pos, peer->memory_pos);
    uint64_t end = min_u64(nak->end_pos, peer->next_pos);
    if (core->role != LEAT_LEADER || nak->term != core->term || !peer->matched || begin >= end) {
        core->counters.stale_messages++;
        return;
    }
    peer->heard_ns = core->now_ns;
    peer->resend_begin = begin;
    peer->resend_end = end;
    core->counters.naks++;
}

void leader_reconcile_request(struct leat_core *core, const struct leat_message *message)
{
    struct leat_core_peer *peer = &core->peers[message->from];
    if (core->role != LEAT_LEADER || message->term != core->term) {
        core->counters.stale_messages++;
        return;
    }
    peer->heard_ns = core->now_ns;
    peer->reconcile_reply = true;
    peer->reconcile_request = message->request;
}

void leader_transfer(struct leat_core *core, uint8_t to)
{
    if (core->role != LEAT_LEADER || to >= core->config.member_count || to == core->config.self ||
        core->transfer_to != LEAT_CORE_NOBODY)
        return;
    core->transfer_to = to;
    core->transfer_sent_ns = 0;
    core->transfer_deadline_ns = core->now_ns + core->config.election_max_ns;
    core->counters.transfers++;
}

static bool leader_hears(const struct leat_core *core, const struct leat_core_peer *peer)
{
    return core->now_ns - peer->heard_ns < core->config.election_max_ns;
}

static void leader_retransmit(struct leat_core *core, struct leat_core_peer *peer)
{
    if (core->now_ns - peer->progress_ns < core->config.retransmit_ns << peer->backoff ||
        !leader_awaits(core, peer))
        return;
    if (peer->next_pos > peer->memory_pos)
        core->counters.retransmits++;
    peer->progress_ns = core->now_ns;
    peer->next_pos = peer->memory_pos;
    peer->notice = true;
    peer->asked = true;
    if (peer->backoff < LEADER_BACKOFF_MAX)
        peer->backoff++;
}

void leader_tick(struct leat_core *core)
{
    unsigned heard = 0;
    if (core->role != LEAT_LEADER)
        return;
    for (unsigned i = 0; i < core->config.member_count; i++) {
        struct leat_core_peer *peer = &core->peers[i];
        if (i == core->config.self) {
            heard++;
            continue;
        }
        heard += leader_hears(core, peer);
        leader_retransmit(core, peer);
    }
    if (core->transfer_to != LEAT_CORE_NOBODY && core->now_ns >= core->transfer_deadline_ns)
        core->transfer_to = LEAT_CORE_NOBODY;
    if (heard < core_majority(core)) {
        core->counters.stepped_down_quorum++;
        core_follow(core, core->term, LEAT_CORE_NOBODY, 0);
    }
}

/* Retransmissions while something is awaited; else when the first of the peers that are heard may
 * fall silent. A leader of an idle log asks for no more than that. */
uint64_t leader_deadline_ns(const struct leat_core *core)
{
    uint64_t soon = core->now_ns + core->config.retransmit_ns;
    uint64_t deadline = core->now_ns + core->config.election_max_ns;
    LEAT_ASSERT(core->role == LEAT_LEADER);
    if (core->term_end == 0 || core->transfer_to != LEAT_CORE_NOBODY || core->amnesiac)
        return soon;
    for (unsigned i = 0; i < core->config.member_count; i++) {
        const struct leat_core_peer *peer = &core->peers[i];
        if (i == core->config.self)
            continue;
        if (peer->notice || peer->reconcile_reply)
            return soon;
        if (peer->untold_ns != 0)
            deadline = min_u64(deadline, peer->untold_ns + core->hold_ns);
        if (leader_hears(core, peer))
            deadline = min_u64(deadline, peer->heard_ns + core->config.election_max_ns);
        if (leader_awaits(core, peer))
            deadline = min_u64(deadline,
                               max_u64(core->now_ns, peer->progress_ns + (core->config.retransmit_ns
                                                                          << peer->backoff)));
    }
    return deadline;
}

static uint64_t member_position(const struct leat_core *core, unsigned member, bool durable)
{
    if (member == core->config.self)
        return durable ? core->durable_pos : core->memory_pos;
    return durable ? core->peers[member].durable_pos : core->peers[member].memory_pos;
}

/* The position that a majority has reached: the majority-th largest. */
static uint64_t leader_quorum_position(const struct leat_core *core, bool durable)
{
    uint64_t sorted[LEAT_MEMBERS_MAX] = {0};
    unsigned count = core->config.member_count;
    if (count == 3) { /* at each poll of each log: the middle one */
        uint64_t a = member_position(core, 0, durable), b = member_position(core, 1, durable);
        uint64_t c = member_position(core, 2, durable);
        return max_u64(min_u64(a, b), min_u64(max_u64(a, b), c));
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t value = member_position(core, i, durable);
        unsigned at = i;
        for (; at > 0 && sorted[at - 1] < value; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = value;
    }
    return sorted[core_majority(core) - 1];
}

static bool leader_round_is_answered(const struct leat_core *core, uint64_t round)
{
    unsigned answered = 1;
    for (unsigned i = 0; i < core->config.member_count; i++)
        answered += i != core->config.self && core->peers[i].round_acked >= round;
    return answered >= core_majority(core);
}

bool leat_core_round_is_answered(const struct leat_core *core, uint64_t round)
{
    return core->role == LEAT_LEADER && leader_round_is_answered(core, round);
}

/* W5 (b) and (c): the TERM frame is commitR and a quorum answered a round begun after the
 * amnesiac incarnation became known. */
static bool leader_clears(const struct leat_core *core, const struct leat_core_peer *peer)
{
    return peer->clearing_round != 0 && core->term_end != 0 && core->commit_r >= core->term_end &&
           leader_round_is_answered(core, peer->clearing_round);
}

void leader_advance(struct leat_core *core)
{
    if (core->role != LEAT_LEADER || core->term_end == 0)
        return;
    uint64_t memory = leader_quorum_position(core, false);
    uint64_t durable = leader_quorum_position(core, true);
    LEAT_ASSERT(durable <= memory && memory <= core->memory_pos);
    if (memory >= core->term_end) /* G2: nothing commits before the own TERM frame does */
        core->commit_r = max_u64(core->commit_r, memory);
    if (durable >= core->term_end)
        core->commit_d = max_u64(core->commit_d, durable);
    LEAT_ASSERT(core->commit_d <= core->commit_r);
    if (core->amnesiac && leader_clears(core, &core->peers[core->config.self])) {
        core->amnesiac = false;
        core->amnesia_changed = true;
        core->counters.amnesia_cleared++;
        core->peers[core->config.self].clearing_round = 0;
    }
}

static void leader_emit_append(struct leat_core *core, struct leat_core_effects *effects,
                               uint8_t to, uint64_t begin, uint64_t end)
{
    struct leat_core_peer *peer = &core->peers[to];
    struct leat_message *message = core_message(core, effects, LEAT_MESSAGE_APPEND, to);
    message->begin_pos = begin;
    message->end_pos = end;
    message->round = core->round;
    message->flags = leader_clears(core, peer) ? LEAT_MESSAGE_CLEARS : 0;
    if (peer->asked)
        message->request = ++core->request;
    peer->notice = false;
    peer->asked = false;
    peer->told_commit_r = core->commit_r;
    peer->told_commit_d = core->commit_d;
    peer->untold_ns = 0;
}

static bool leader_untold(const struct leat_core *core, const struct leat_core_peer *peer)
{
    return peer->matched &&
           (peer->told_commit_r != core->commit_r || peer->told_commit_d != core->commit_d);
}

static void leader_emit_sends(struct leat_core *core, struct leat_core_effects *effects, uint8_t to)
{
    struct leat_core_peer *peer = &core->peers[to];
    uint64_t limit = min_u64(core->memory_pos, peer->memory_pos + core->config.window_bytes);

    if (peer->matched && peer->memory_pos < core->base_pos) {
        if (peer->notice) /* what it needs was trimmed: it shall reconcile again, and install */
            leader_emit_append(core, effects, to, core->base_pos, core->base_pos);
        peer->untold_ns = 0;
        return;
    }
    if (peer->matched && leader_hears(core, peer)) {
        if (peer->resend_begin < peer->resend_end && peer->resend_end > peer->memory_pos)
            leader_emit_append(core, effects, to, max_u64(peer->resend_begin, peer->memory_pos),
                               peer->resend_end);
        peer->resend_end = peer->resend_begin;
        if (peer->next_pos < limit) {
            leader_emit_append(core, effects, to, peer->next_pos, limit);
            if (peer->next_pos == peer->memory_pos) { /* a wait for durability alone ends here */
                peer->progress_ns = core->now_ns;
                peer->backoff = 0;
            }
            peer->next_pos = limit;
        }
    }
    bool untold = leader_untold(core, peer);
    if (untold && peer->untold_ns == 0)
        peer->untold_ns = core->now_ns;
    if (peer->notice || (untold && core->now_ns - peer->untold_ns >= core->hold_ns))
        leader_emit_append(core, effects, to, 0, 0);
}

static void leader_emit_transfer(struct leat_core *core, struct leat_core_effects *effects)
{
    if (core->transfer_to == LEAT_CORE_NOBODY)
        return;
    const struct leat_core_peer *peer = &core->peers[core->transfer_to];
    if (!peer->matched || peer->memory_pos != core->memory_pos ||
        (core->transfer_sent_ns != 0 &&
         core->now_ns - core->transfer_sent_ns < core->config.retransmit_ns))
        return;
    core->transfer_sent_ns = core->now_ns;
    core_message(core, effects, LEAT_MESSAGE_TIMEOUT_NOW, core->transfer_to);
}

void leader_emit(struct leat_core *core, struct leat_core_effects *effects)
{
    if (core->role != LEAT_LEADER || core->term_end == 0)
        return;
    for (uint8_t i = 0; i < core->config.member_count; i++) {
        struct leat_core_peer *peer = &core->peers[i];
        if (i == core->config.self)
            continue;
        if (peer->reconcile_reply) {
            peer->reconcile_reply = false;
            struct leat_message *message =
                core_message(core, effects, LEAT_MESSAGE_RECONCILE_REPLY, i);
            message->request = peer->reconcile_request;
            message->begin_pos = core->base_pos;
            message->end_pos = core->memory_pos;
            message->round = core->round;
            message->run_count = core->run_count;
        }
        leader_emit_sends(core, effects, i);
    }
    leader_emit_transfer(core, effects);
}
