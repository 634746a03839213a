/* SPDX-License-Identifier: Apache-2.0
 *
 * The one way in and the one way out. Tests: tests/replication/, golden traces in tests/traces/.
 */
#include "core_private.h"

#include <string.h>

/* Allowed moves, by role: the table of the header's comment. */
static const uint8_t role_moves[] = {
    [LEAT_FOLLOWER] = 1 << LEAT_FOLLOWER | 1 << LEAT_PRE_CANDIDATE | 1 << LEAT_CANDIDATE,
    [LEAT_PRE_CANDIDATE] = 1 << LEAT_FOLLOWER | 1 << LEAT_PRE_CANDIDATE | 1 << LEAT_CANDIDATE,
    [LEAT_CANDIDATE] = 1 << LEAT_FOLLOWER | 1 << LEAT_PRE_CANDIDATE | 1 << LEAT_LEADER,
    [LEAT_LEADER] = 1 << LEAT_FOLLOWER,
};

void core_set_role(struct leat_core *core, enum leat_role role)
{
    LEAT_ASSERT(role_moves[core->role] & 1 << role);
    core->role_changed = core->role_changed || core->role != role;
    core->role = role;
}

void core_follow(struct leat_core *core, uint32_t term, uint8_t leader, uint64_t incarnation)
{
    LEAT_ASSERT(term >= core->term);
    LEAT_ASSERT(leader != core->config.self);
    if (term > core->term) {
        core->term = term;
        core->voted_for = LEAT_CORE_NOBODY;
        election_note_term(core);
    }
    if (leader != LEAT_CORE_NOBODY)
        core->leaderless_terms = 0;
    core_set_role(core, LEAT_FOLLOWER);
    core->role_changed = true;
    core->leader = leader;
    core->leader_incarnation = incarnation;
    core->leader_heard_ns = leader == LEAT_CORE_NOBODY ? 0 : core->now_ns;
    core->reconciled = false;
    core->reconcile_wanted = leader != LEAT_CORE_NOBODY;
    core->reconcile_sent_ns = 0;
    core->ack_due = false;
    core->ack_since_ns = 0;
    core->behind_base = false;
    core->leader_commit_r = 0;
    core->leader_commit_d = 0;
    core->leader_run_count = 0;
    core->round_seen = 0;
    core->clear_at = UINT64_MAX;
    core->append_term_due = false;
    core->term_end = 0;
    core->transfer_to = LEAT_CORE_NOBODY;
    core->run_announced.term = 0;
    election_reset_timer(core);
}

struct leat_message *core_message(struct leat_core *core, struct leat_core_effects *effects,
                                  unsigned kind, uint8_t to)
{
    LEAT_ASSERT(effects->message_count < LEAT_CORE_MESSAGES_MAX);
    LEAT_ASSERT(to < core->config.member_count && to != core->config.self);
    struct leat_message *message = &effects->messages[effects->message_count++];
    memset(message, 0, sizeof(*message));
    message->kind = (uint8_t)kind;
    message->from = core->config.self;
    message->to = to;
    message->term = core->term;
    message->from_incarnation = core->incarnation;
    message->to_incarnation = core->peers[to].incarnation;
    /* until the journal says that the log begins anew, no memory above the new base outlives this
     * process: recovery finds the old log, and that the arena does not go on from it (W4) */
    message->memory_pos = core->installing ? core->base_pos : core->memory_pos;
    message->durable_pos = core->installing ? 0 : core->durable_pos;
    message->commit_r = core->commit_r;
    message->commit_d = core->commit_d;
    return message;
}

void leat_core_init(struct leat_core *core, const struct leat_core_config *config,
                    const struct leat_core_boot *boot)
{
    LEAT_ASSERT(config->member_count >= 1 && config->member_count <= LEAT_MEMBERS_MAX);
    LEAT_ASSERT(config->member_count % 2 == 1 && config->self < config->member_count);
    LEAT_ASSERT(boot->run_count >= 1 && boot->run_count <= LEAT_RUNS_MAX);
    LEAT_ASSERT(boot->commit_d <= boot->durable_pos && boot->durable_pos <= boot->memory_pos);
    memset(core, 0, sizeof(*core));
    core->config = *config;
    core->incarnation = boot->incarnation;
    core->now_ns = boot->now_ns;
    core->random = config->seed ^ (boot->incarnation << 32);
    core->role = LEAT_FOLLOWER;
    core->leader = LEAT_CORE_NOBODY;
    core->transfer_to = LEAT_CORE_NOBODY;
    core->amnesiac = boot->amnesiac && config->accepts_replicated;
    core->damaged = boot->damaged;
    core->claim_term = boot->claim_term;
    core->claim_end = boot->claim_end;
    core->run_count = boot->run_count;
    memcpy(core->runs, boot->runs, boot->run_count * sizeof(boot->runs[0]));
    core->base_pos = boot->base_pos;
    core->memory_pos = boot->memory_pos;
    core->durable_pos = boot->durable_pos;
    core->write_issued_end = boot->durable_pos;
    core->write_next_seq = 1;
    core->commit_d = boot->commit_d;
    core->commit_r = boot->commit_d;
    core->cut_epoch = boot->cut_epoch;
    core->clear_at = UINT64_MAX;
    /* W7: the term at start is the higher of vote record and last run */
    core->term = boot->vote_term;
    core->voted_for = boot->voted_for;
    if (runs_last(core).term > core->term) {
        core->term = runs_last(core).term;
        core->voted_for = LEAT_CORE_NOBODY;
    }
    election_reset_timer(core);
    follower_heal_damage(core); /* before the journal could say so */
}

static void core_campaign_now(struct leat_core *core, const struct leat_message *message)
{
    if (core->role != LEAT_FOLLOWER || message->term != core->term ||
        message->from != core->leader || !election_may_campaign(core)) {
        core->counters.stale_messages++;
        return;
    }
    election_campaign(core, true);
}

static void core_take_message(struct leat_core *core, const struct leat_core_input *input)
{
    const struct leat_message *message = input->message;
    LEAT_ASSERT(message->from < core->config.member_count);
    LEAT_ASSERT(message->from != core->config.self && message->to == core->config.self);
    if (!core_accept_incarnations(core, message))
        return;
    switch (message->kind) {
    case LEAT_MESSAGE_VOTE_REQUEST:
        election_vote_request(core, message);
        return;
    case LEAT_MESSAGE_VOTE_REPLY:
        election_vote_reply(core, message);
        return;
    case LEAT_MESSAGE_APPEND:
        follower_append(core, message);
        return;
    case LEAT_MESSAGE_RECONCILE_REPLY:
        follower_reconcile_reply(core, message, input->runs);
        return;
    case LEAT_MESSAGE_TIMEOUT_NOW:
        core_campaign_now(core, message);
        return;
    default:
        break;
    }
    /* the rest goes to a leader; a higher term deposes it (trap 12: every reply carries one) */
    if (message->term > core->term) {
        core_follow(core, message->term, LEAT_CORE_NOBODY, 0);
        return;
    }
    if (message->kind == LEAT_MESSAGE_APPEND_ACK)
        leader_ack(core, message);
    else if (message->kind == LEAT_MESSAGE_NAK)
        leader_nak(core, message);
    else if (message->kind == LEAT_MESSAGE_RECONCILE_REQUEST)
        leader_reconcile_request(core, message);
}

/* Frames now lie below `position`: sealed by this leader, or verified by this follower. */
static void core_extend(struct leat_core *core, uint64_t position)
{
    LEAT_ASSERT(position >= core->memory_pos);
    struct leat_run run = core->run_announced;
    if (run.term != 0 && run.first_pos < position) {
        if (runs_full(core))
            follower_advance(core); /* more than LEAT_RUNS_MAX terms may come in one burst */
        runs_add(core, run.term, run.first_pos);
        core->run_announced.term = 0;
        if (core->role == LEAT_LEADER && run.term == core->term)
            core->term_end = position;
    }
    core->memory_pos = position;
    if (core->config.accepts_replicated)
        core->ack_due = true;
    else if (core->ack_since_ns == 0)
        core->ack_since_ns = core->now_ns;
}

void leat_core_step(struct leat_core *core, const struct leat_core_input *input)
{
    LEAT_ASSERT(input->now_ns >= core->now_ns);
    core->now_ns = input->now_ns;
    switch (input->kind) {
    case LEAT_INPUT_TICK:
        break;
    case LEAT_INPUT_MESSAGE:
        core_take_message(core, input);
        break;
    case LEAT_INPUT_HEARTBEAT:
        if (core_note_incarnation(core, input->peer, input->incarnation))
            follower_heartbeat(core, input->peer, input->term, input->incarnation);
        break;
    case LEAT_INPUT_PEER_ALIVE:
        if (core_note_incarnation(core, input->peer, input->incarnation))
            core->peers[input->peer].heard_ns = core->now_ns;
        break;
    case LEAT_INPUT_RUN:
        LEAT_ASSERT(input->position >= core->memory_pos);
        core->run_announced = (struct leat_run){.first_pos = input->position, .term = input->term};
        break;
    case LEAT_INPUT_APPENDED:
        LEAT_ASSERT(core->role == LEAT_LEADER);
        core_extend(core, input->position);
        break;
    case LEAT_INPUT_VERIFIED:
        /* also when a later packet of the same burst ended the reconciled state: the frames were
         * admitted before, prove themselves by the chain, and are acknowledged by no one until
         * the next reconcile */
        LEAT_ASSERT(core->role != LEAT_LEADER && !core->cut_settling);
        core_extend(core, input->position);
        break;
    case LEAT_INPUT_PERSISTED:
        disk_persisted(core, input->sequence);
        follower_heal_damage(core);
        break;
    case LEAT_INPUT_VOTE_PERSISTED:
        LEAT_ASSERT(input->sequence <= core->vote_next_seq);
        core->vote_done_seq = max_u64(core->vote_done_seq, input->sequence);
        election_vote_persisted(core);
        break;
    case LEAT_INPUT_CUT_SETTLED:
        follower_cut_settled(core, input->sequence);
        break;
    case LEAT_INPUT_TRANSFER:
        leader_transfer(core, input->peer);
        break;
    case LEAT_INPUT_AMNESIA_ACCEPT:
        core->amnesia_changed = core->amnesia_changed || core->amnesiac;
        core->counters.amnesia_accepted += core->amnesiac;
        core->amnesiac = false;
        break;
    case LEAT_INPUT_DAMAGE_ACCEPT:
        core->damage_ended = core->damage_ended || core->damaged;
        core->counters.damage_accepted += core->damaged;
        core->damaged = false;
        break;
    case LEAT_INPUT_BASE:
        LEAT_ASSERT(input->position >= core->base_pos && input->position <= core->commit_d);
        core->base_pos = input->position;
        break;
    }
}

static void core_emit_disk(struct leat_core *core, struct leat_core_effects *effects)
{
    effects->cut = core->cut_due;
    effects->reset = core->reset_due;
    effects->cut_pos = core->cut_pos;
    effects->cut_epoch = core->cut_epoch;
    core->cut_due = false;
    core->reset_due = false;
    effects->vote = core->vote_due;
    effects->vote_term = core->term;
    effects->voted_for = core->voted_for;
    effects->vote_seq = core->vote_next_seq;
    core->vote_due = false;
    disk_issue(core, effects);
}

void leat_core_poll(struct leat_core *core, uint64_t now_ns, struct leat_core_effects *effects)
{
    LEAT_ASSERT(now_ns >= core->now_ns);
    core->now_ns = now_ns;
    memset(effects, 0, offsetof(struct leat_core_effects, messages));
    election_tick(core);
    leader_tick(core);
    follower_advance(core);
    follower_begin_again(core);
    leader_advance(core);
    core_emit_disk(core, effects);
    effects->append_term = core->append_term_due;
    core->append_term_due = false;
    effects->role_changed = core->role_changed;
    core->role_changed = false;
    effects->amnesia_changed = core->amnesia_changed;
    core->amnesia_changed = false;
    effects->damage_ended = core->damage_ended;
    core->damage_ended = false;
    effects->won_by_amnesiacs = core->won_by_amnesiacs;
    core->won_by_amnesiacs = false;
    election_emit(core, effects);
    follower_emit(core, effects);
    leader_emit(core, effects);
    LEAT_ASSERT(core->commit_d <= core->commit_r && core->commit_r <= core->memory_pos);
}

void leat_core_hold(struct leat_core *core, uint64_t hold_ns)
{
    core->hold_ns = min_u64(hold_ns, core->config.retransmit_ns / 2);
}

uint64_t leat_core_deadline_ns(const struct leat_core *core)
{
    if (core->role == LEAT_FOLLOWER && (core->reconciled || core->leader == LEAT_CORE_NOBODY))
        return core->ack_since_ns == 0
                   ? core->election_deadline_ns
                   : min_u64(core->election_deadline_ns, core->ack_since_ns + core->hold_ns);
    if (core->role == LEAT_LEADER)
        return leader_deadline_ns(core);
    return min_u64(core->election_deadline_ns, core->now_ns + core->config.retransmit_ns);
}

void leat_core_campaign_soon(struct leat_core *core)
{
    if (core->role == LEAT_FOLLOWER && core->leader == LEAT_CORE_NOBODY)
        core->election_deadline_ns = core->now_ns;
}

bool leat_core_admits(const struct leat_core *core, const struct leat_message *append)
{
    return core->role == LEAT_FOLLOWER && core->reconciled && !core->cut_settling &&
           append->term == core->term && append->from == core->leader &&
           append->from_incarnation == core->leader_incarnation &&
           append->to_incarnation == core->incarnation && !runs_full(core);
}

uint32_t leat_core_expected_term(const struct leat_core *core, uint64_t position)
{
    return runs_term_at(core->leader_runs, core->leader_run_count, position);
}

bool leat_core_may_append(const struct leat_core *core)
{
    return core->role == LEAT_LEADER && core->term_end != 0 &&
           core->transfer_to == LEAT_CORE_NOBODY;
}

uint64_t leat_core_append_limit(const struct leat_core *core)
{
    if (!leat_core_may_append(core))
        return core->memory_pos;
    return max_u64(core->commit_d + core->config.window_bytes, core->memory_pos);
}
