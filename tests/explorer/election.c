/* SPDX-License-Identifier: Apache-2.0 */
/* Votes (W1, W7) and amnesia (W5): campaign, grant, win, the nonce round, clearing, accepting. */
#include "model.h"

#include <string.h>

void leader_drop_volatile(struct state *state, uint8_t term)
{
    struct term_record *record = &state->record[term];
    memset(record->match_m, 0, sizeof record->match_m);
    memset(record->match_d, 0, sizeof record->match_d);
    memset(record->round, 0, sizeof record->round);
}

/* A node that hears of a higher term follows in it, not yet reconciled with its leader. */
void node_set_term(struct state *state, unsigned index, uint8_t term)
{
    struct node *node = &state->node[index];
    if (node->role == ROLE_LEADER)
        leader_drop_volatile(state, node->term);
    node->role = ROLE_FOLLOWER;
    node->grants_intact = 0;
    node->grants_amnesiac = 0;
    if (node->term != term)
        node->reconciled = 0;
    node->term = term;
}

static void node_vote(struct node *node, uint8_t candidate)
{
    node->vote_term = node->term;
    node->vote_for = candidate;
}

bool campaign_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    return event.choice > node->term && event.choice <= state->highest_term + 1 &&
           event.choice <= model->bounds.terms;
}

const char *campaign_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    node_set_term(state, event.node, event.choice);
    node->role = ROLE_CANDIDATE;
    node_vote(node, event.node);
    if (node->amnesiac && rule_holds(model, RULE_W5_OWN_MARK))
        node->grants_amnesiac = (uint8_t)(1u << event.node);
    else
        node->grants_intact = (uint8_t)(1u << event.node);
    state->highest_term = greater(state->highest_term, event.choice);
    return check_vote(state, event.node, event.choice, event.node);
}

/* W1: (last run's term, M) on both sides; without it, by what is durable. */
static unsigned log_rank(const struct model *model, const struct state *state,
                         const struct node *node)
{
    unsigned end = rule_holds(model, RULE_W1_MEMORY) ? node->memory_end : node->durable_end;
    return state->frame[node->arena[end]].term * (SLOTS_MAX + 1u) + end;
}

bool grant_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *voter = &state->node[event.node];
    const struct node *candidate = &state->node[event.other];
    if (event.node == event.other || candidate->role != ROLE_CANDIDATE)
        return false;
    if (voter->term > candidate->term)
        return false;
    if (voter->term == candidate->term && voter->vote_term == voter->term)
        return false;
    return log_rank(model, state, candidate) >= log_rank(model, state, voter);
}

const char *grant_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *voter = &state->node[event.node];
    struct node *candidate = &state->node[event.other];
    (void)model;
    node_set_term(state, event.node, candidate->term);
    node_vote(voter, event.other);
    if (voter->amnesiac)
        candidate->grants_amnesiac |= (uint8_t)(1u << event.node);
    else
        candidate->grants_intact |= (uint8_t)(1u << event.node);
    return check_vote(state, event.node, voter->term, event.other);
}

bool win_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    unsigned intact = bits_set(node->grants_intact);
    unsigned amnesiac = bits_set(node->grants_amnesiac);
    if (node->role != ROLE_CANDIDATE || node->memory_end >= model->bounds.slots)
        return false;
    if (state->frame_count >= FRAMES_MAX || !arena_slot_free(model, node, node->memory_end + 1u))
        return false;
    return intact >= majority(model) || amnesiac >= majority(model);
}

/* What was acknowledged as replicated before this may be lost, and that is said aloud. */
static void excuse_promises(struct state *state, uint8_t last_term)
{
    for (unsigned frame = 1; frame <= state->frame_count; frame++)
        state->promised[frame] = 0;
    state->excused_frame = state->frame_count;
    state->excused_term = greater(state->excused_term, last_term);
    state->excuses++;
}

const char *win_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    struct term_record *record = &state->record[node->term];
    bool by_amnesiacs = bits_set(node->grants_intact) < majority(model);
    const char *broken;
    if (by_amnesiacs) {
        excuse_promises(state, (uint8_t)(node->term - 1));
        node->amnesiac = 0;
        node->journal_amnesiac = 0;
    }
    broken = check_new_leader(state, event.node, node->term);
    if (broken)
        return broken;
    node->role = ROLE_LEADER;
    node->reconciled = node->term;
    node->grants_intact = 0;
    node->grants_amnesiac = 0;
    memset(record, 0, sizeof *record);
    record->leader = (uint8_t)(event.node + 1);
    record->length = node->memory_end;
    memcpy(record->log, node->arena, sizeof record->log);
    memset(record->log + node->memory_end + 1, 0, SLOTS_MAX - node->memory_end);
    record->term_position = (uint8_t)(node->memory_end + 1);
    record->commit_r = node->commit_r;
    record->commit_d = node->commit_d;
    record->heard[event.node] = node->incarnation;
    if (node->amnesiac)
        record->round[event.node] = (uint8_t)(1u << event.node);
    return leader_extend(model, state, event.node, FRAME_TERM);
}

/* W5 (b), (c): the first, so the lowest, commitR that the leader may state to clear this peer. */
void leader_try_state(const struct model *model, struct term_record *record, unsigned peer)
{
    if (record->round[peer] == 0 || record->stated[peer] != 0)
        return;
    if (rule_holds(model, RULE_W5_ROUND) && bits_set(record->round[peer]) < majority(model))
        return;
    if (rule_holds(model, RULE_W5_TERM) && record->commit_r < record->term_position)
        return;
    record->stated[peer] = (uint8_t)(record->commit_r + 1);
}

/* event.node answers, in event.other's term, the nonce round begun for peer event.choice. */
bool round_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *answerer = &state->node[event.node];
    const struct node *leader = &state->node[event.other];
    const struct term_record *record = &state->record[leader->term];
    if (!model->replicated || leader->role != ROLE_LEADER || event.node == event.other)
        return false;
    if (answerer->term > leader->term || record->stated[event.choice] != 0)
        return false;
    return record->round[event.choice] != 0 &&
           (record->round[event.choice] & (1u << event.node)) == 0;
}

const char *round_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *answerer = &state->node[event.node];
    uint8_t term = state->node[event.other].term;
    if (answerer->term < term)
        node_set_term(state, event.node, term);
    state->record[term].round[event.choice] |= (uint8_t)(1u << event.node);
    leader_try_state(model, &state->record[term], event.choice);
    return NULL;
}

bool clear_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    const struct term_record *record = &state->record[node->term];
    if (!node->amnesiac || record->leader == 0 || node->reconciled != node->term)
        return false;
    if (!rule_holds(model, RULE_W5_ECHO)) {
        /* Without the echo any old heartbeat will do, and (c) cannot be tied to anything. */
        unsigned reached = (2u << node->memory_end) - 1u;
        return (record->stated_history & reached) != 0;
    }
    return record->heard[event.node] == node->incarnation && record->stated[event.node] != 0 &&
           node->memory_end + 1 >= record->stated[event.node];
}

const char *clear_apply(const struct model *model, struct state *state, struct event event)
{
    (void)model;
    state->node[event.node].amnesiac = 0;
    if (event.choice == 0) /* else its record is on its way until the next crash */
        state->node[event.node].journal_amnesiac = 0;
    return NULL;
}

bool accept_enabled(const struct model *model, const struct state *state, struct event event)
{
    return state->node[event.node].amnesiac && state->accepts < model->bounds.accepts;
}

const char *accept_apply(const struct model *model, struct state *state, struct event event)
{
    (void)model;
    state->node[event.node].amnesiac = 0;
    state->node[event.node].journal_amnesiac = 0;
    state->accepts++;
    excuse_promises(state, state->highest_term);
    return NULL;
}
