/* SPDX-License-Identifier: Apache-2.0
 *
 * Elections: Raft section 5.2 and 5.4.1 with pre-vote (thesis 9.6) and check-quorum (6.2), votes
 * by (last run's term, M) on both sides (W1), amnesiacs (W5). Tests: tests/replication/.
 */
#include "core_private.h"

#define LEADERLESS_TERMS_FREE 2u
#define LEADERLESS_TERMS_MAX  (LEADERLESS_TERMS_FREE + 4u)

static uint64_t core_random(struct leat_core *core)
{
    core->random = core->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return core->random >> 33;
}

/* A candidacy waits for disks, the candidate's and its voters'. Where these take longer than the
 * timeout no candidacy would ever end but by the next one; so after two terms in a row without a
 * leader each further one doubles the wait, on whoever saw it. */
void election_reset_timer(struct leat_core *core)
{
    uint64_t spread = core->config.election_max_ns - core->config.election_min_ns;
    unsigned doublings = core->leaderless_terms > LEADERLESS_TERMS_FREE
                             ? core->leaderless_terms - LEADERLESS_TERMS_FREE
                             : 0;
    uint64_t wait_ns = core->config.election_min_ns + (spread ? core_random(core) % spread : 0);
    core->election_deadline_ns = core->now_ns + (wait_ns << doublings);
}

void election_note_term(struct leat_core *core)
{
    if (core->leaderless_terms < LEADERLESS_TERMS_MAX)
        core->leaderless_terms++;
}

/* A replica that installs would count memory that its own death may still lose (ADR 0067). */
bool election_may_campaign(const struct leat_core *core)
{
    return !core->damaged && !core->installing && !runs_full(core) && core->term < UINT32_MAX - 1 &&
           !core->cut_settling;
}

static bool counts_as_amnesiac(const struct leat_core *core, bool amnesiac)
{
    return amnesiac && core->config.accepts_replicated;
}

static void election_clear_votes(struct leat_core *core)
{
    for (unsigned i = 0; i < core->config.member_count; i++) {
        core->peers[i].vote_granted = false;
        core->peers[i].vote_answered = false;
        core->peers[i].vote_amnesiac = false;
    }
    core->request++;
    core->candidacy_ns = core->now_ns;
    core->votes_asked_ns = 0;
}

static void election_grant_self(struct leat_core *core)
{
    struct leat_core_peer *self = &core->peers[core->config.self];
    self->vote_granted = true;
    self->vote_answered = true;
    self->vote_amnesiac = core->amnesiac;
}

struct vote_count {
    unsigned answered;
    unsigned granted;
    unsigned amnesiac;
};

static struct vote_count election_count(const struct leat_core *core)
{
    struct vote_count count = {0};
    for (unsigned i = 0; i < core->config.member_count; i++) {
        const struct leat_core_peer *peer = &core->peers[i];
        count.answered += peer->vote_answered;
        count.granted += peer->vote_granted;
        count.amnesiac += peer->vote_granted && counts_as_amnesiac(core, peer->vote_amnesiac);
    }
    return count;
}

/* W5: (i) a majority of intact grants, or (ii) any majority when the amnesiac granters are one
 * by themselves; (ii) waits for intact replicas to answer first. */
static bool election_is_won(const struct leat_core *core, bool *ret_by_amnesiacs)
{
    struct vote_count count = election_count(core);
    unsigned majority = core_majority(core);
    bool waited = count.answered == core->config.member_count ||
                  core->now_ns >= core->candidacy_ns + core->config.election_min_ns;

    *ret_by_amnesiacs = false;
    if (count.granted - count.amnesiac >= majority)
        return true;
    *ret_by_amnesiacs = true;
    return count.amnesiac >= majority && waited;
}

static void election_try_win(struct leat_core *core)
{
    bool by_amnesiacs;
    if (core->role == LEAT_PRE_CANDIDATE && election_is_won(core, &by_amnesiacs)) {
        election_campaign(core, false);
        return;
    }
    if (core->role != LEAT_CANDIDATE || !election_is_won(core, &by_amnesiacs))
        return;
    if (by_amnesiacs) {
        core->won_by_amnesiacs = true;
        core->counters.won_by_amnesiacs++;
        core->amnesia_changed = core->amnesia_changed || core->amnesiac;
        core->amnesiac = false;
    }
    leader_begin(core);
}

static void election_pre_campaign(struct leat_core *core)
{
    core_set_role(core, LEAT_PRE_CANDIDATE);
    core->leader = LEAT_CORE_NOBODY;
    core->transfer_campaign = false;
    election_clear_votes(core);
    election_reset_timer(core);
    election_grant_self(core);
    election_try_win(core);
}

void election_campaign(struct leat_core *core, bool transfer)
{
    LEAT_ASSERT(election_may_campaign(core));
    core_set_role(core, LEAT_CANDIDATE);
    core->term++;
    election_note_term(core);
    core->leader = LEAT_CORE_NOBODY;
    core->reconciled = false;
    core->voted_for = core->config.self;
    core->own_vote_seq = disk_vote(core);
    core->transfer_campaign = transfer;
    core->counters.elections++;
    election_clear_votes(core);
    election_reset_timer(core);
}

void election_tick(struct leat_core *core)
{
    if (core->role == LEAT_LEADER)
        return;
    election_try_win(core);
    if (core->role == LEAT_LEADER || core->now_ns < core->election_deadline_ns)
        return;
    if (election_may_campaign(core))
        election_pre_campaign(core);
    else
        election_reset_timer(core);
}

/* A leader was heard recently, or this node is one: the thesis' check against disruption. */
static bool election_is_sticky(const struct leat_core *core, const struct leat_message *message)
{
    if (message->flags & LEAT_MESSAGE_TRANSFER)
        return false;
    if (core->role == LEAT_LEADER)
        return true;
    return core->leader != LEAT_CORE_NOBODY && core->leader_heard_ns != 0 &&
           core->now_ns - core->leader_heard_ns < core->config.election_min_ns;
}

static bool log_is_up_to_date(uint32_t term, uint64_t end, uint32_t own_term, uint64_t own_end)
{
    return term > own_term || (term == own_term && end >= own_end);
}

/* W1; a damaged replica answers for what it had (V2). */
static bool election_log_is_up_to_date(const struct leat_core *core,
                                       const struct leat_message *request)
{
    return log_is_up_to_date(request->last_term, request->memory_pos, runs_last(core).term,
                             core->memory_pos) &&
           (!core->damaged || log_is_up_to_date(request->last_term, request->memory_pos,
                                                core->claim_term, core->claim_end));
}

static void election_reply(struct leat_core *core, const struct leat_message *request, bool granted,
                           uint64_t after_vote)
{
    struct leat_core_peer *peer = &core->peers[request->from];
    peer->owes_vote_reply = true;
    peer->vote_reply_request = request->request;
    peer->vote_reply_after = after_vote;
    peer->vote_reply_term = granted ? request->term : core->term;
    peer->vote_reply_flags =
        (uint8_t)((request->flags & LEAT_MESSAGE_PRE) | (granted ? LEAT_MESSAGE_GRANTED : 0) |
                  (core->amnesiac ? LEAT_MESSAGE_AMNESIAC : 0));
}

static void election_pre_vote_request(struct leat_core *core, const struct leat_message *request)
{
    bool granted = request->term > core->term && !election_is_sticky(core, request) &&
                   election_log_is_up_to_date(core, request);
    election_reply(core, request, granted, 0);
}

/* Table of figure 2, RequestVote: term, one vote a term, log up to date; then the vote is made
 * durable before the reply leaves (R3). */
void election_vote_request(struct leat_core *core, const struct leat_message *request)
{
    if (request->flags & LEAT_MESSAGE_PRE) {
        election_pre_vote_request(core, request);
        return;
    }
    if (request->term > core->term && !election_is_sticky(core, request))
        core_follow(core, request->term, LEAT_CORE_NOBODY, 0);
    bool granted = request->term == core->term && core->role == LEAT_FOLLOWER &&
                   (core->voted_for == LEAT_CORE_NOBODY || core->voted_for == request->from) &&
                   election_log_is_up_to_date(core, request);
    if (granted && core->voted_for == LEAT_CORE_NOBODY) {
        core->voted_for = request->from;
        disk_vote(core);
        election_reset_timer(core);
    }
    election_reply(core, request, granted, granted ? core->vote_next_seq : 0);
}

void election_vote_reply(struct leat_core *core, const struct leat_message *reply)
{
    struct leat_core_peer *peer = &core->peers[reply->from];
    bool pre = (reply->flags & LEAT_MESSAGE_PRE) != 0;

    if (!(reply->flags & LEAT_MESSAGE_GRANTED) && reply->term > core->term) {
        core_follow(core, reply->term, LEAT_CORE_NOBODY, 0);
        return;
    }
    uint32_t asked_term = pre ? core->term + 1 : core->term;
    if (core->role != (pre ? LEAT_PRE_CANDIDATE : LEAT_CANDIDATE) ||
        reply->request != core->request ||
        ((reply->flags & LEAT_MESSAGE_GRANTED) && reply->term != asked_term)) {
        core->counters.stale_messages++;
        return;
    }
    peer->vote_answered = true;
    peer->vote_granted = (reply->flags & LEAT_MESSAGE_GRANTED) != 0;
    peer->vote_amnesiac = (reply->flags & LEAT_MESSAGE_AMNESIAC) != 0;
    peer->heard_ns = core->now_ns;
    election_try_win(core);
}

void election_vote_persisted(struct leat_core *core)
{
    if (core->role != LEAT_CANDIDATE || core->vote_done_seq < core->own_vote_seq ||
        core->peers[core->config.self].vote_granted)
        return;
    election_grant_self(core);
    election_try_win(core);
}

static void election_emit_requests(struct leat_core *core, struct leat_core_effects *effects)
{
    bool pre = core->role == LEAT_PRE_CANDIDATE;
    if (!pre && core->vote_done_seq < core->own_vote_seq)
        return; /* a candidate speaks only when its own vote cannot be forgotten */
    if (core->votes_asked_ns != 0 &&
        core->now_ns - core->votes_asked_ns < core->config.retransmit_ns)
        return;
    core->votes_asked_ns = core->now_ns;
    for (uint8_t i = 0; i < core->config.member_count; i++) {
        if (core->peers[i].vote_answered)
            continue;
        struct leat_message *message = core_message(core, effects, LEAT_MESSAGE_VOTE_REQUEST, i);
        message->term = pre ? core->term + 1 : core->term;
        message->last_term = runs_last(core).term;
        message->request = core->request;
        message->flags = (uint8_t)((pre ? LEAT_MESSAGE_PRE : 0) |
                                   (core->transfer_campaign ? LEAT_MESSAGE_TRANSFER : 0) |
                                   (core->amnesiac ? LEAT_MESSAGE_AMNESIAC : 0));
    }
}

void election_emit(struct leat_core *core, struct leat_core_effects *effects)
{
    for (uint8_t i = 0; i < core->config.member_count; i++) {
        struct leat_core_peer *peer = &core->peers[i];
        if (!peer->owes_vote_reply || peer->vote_reply_after > core->vote_done_seq)
            continue;
        peer->owes_vote_reply = false;
        struct leat_message *message = core_message(core, effects, LEAT_MESSAGE_VOTE_REPLY, i);
        message->term = peer->vote_reply_term;
        message->flags = peer->vote_reply_flags;
        message->request = peer->vote_reply_request;
    }
    if (core->role == LEAT_PRE_CANDIDATE || core->role == LEAT_CANDIDATE)
        election_emit_requests(core, effects);
}
