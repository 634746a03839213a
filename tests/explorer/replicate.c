/* SPDX-License-Identifier: Apache-2.0 */
/* Reconcile, append, acknowledge, commit (G1, G2, W2, W3, W4's published end, W7). */
#include "model.h"

#include <string.h>

/* V1: a range of the arena is rewritten only when no write in flight covers it. */
bool arena_slot_free(const struct model *model, const struct node *node, unsigned position)
{
    if (!rule_holds(model, RULE_V1_OVERLAP_ARENA) || (node->cached & slot_bit(position)))
        return true;
    return node->flight[position] == 0 && node->older[position] == 0;
}

static void arena_store(const struct model *model, struct node *node, uint8_t frame)
{
    uint8_t bit = slot_bit(node->memory_end + 1u);
    node->memory_end++;
    node->arena[node->memory_end] = frame;
    node->settled &= (uint8_t)~bit;
    node->current &= (uint8_t)~bit;
    if (!model->lazy_publish)
        node->published = greater(node->published, node->memory_end);
}

const char *leader_extend(const struct model *model, struct state *state, unsigned index,
                          enum frame_kind kind)
{
    struct node *node = &state->node[index];
    struct term_record *record = &state->record[node->term];
    uint8_t position = (uint8_t)(node->memory_end + 1);
    const char *broken = check_new_frame(state, node->term, position);
    uint8_t frame = ++state->frame_count;
    state->frame[frame].term = node->term;
    state->frame[frame].kind = (uint8_t)kind;
    state->frame[frame].position = position;
    state->frame[frame].parent = node->arena[node->memory_end];
    arena_store(model, node, frame);
    record->log[position] = frame;
    record->length = position;
    return broken;
}

bool append_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    return node->role == ROLE_LEADER && state->appends < model->bounds.appends &&
           node->memory_end < model->bounds.slots && state->frame_count < FRAMES_MAX &&
           arena_slot_free(model, node, node->memory_end + 1u);
}

const char *append_apply(const struct model *model, struct state *state, struct event event)
{
    state->appends++;
    return leader_extend(model, state, event.node,
                         model->replicated ? FRAME_REPLICATED : FRAME_DURABLE);
}

/* event.node hears the leader event.other, and its reconcile request arrives there. */
bool ask_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *follower = &state->node[event.node];
    const struct node *leader = &state->node[event.other];
    (void)model;
    return event.node != event.other && leader->role == ROLE_LEADER &&
           follower->term <= leader->term &&
           state->record[leader->term].heard[event.node] != follower->incarnation;
}

const char *ask_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *follower = &state->node[event.node];
    uint8_t term = state->node[event.other].term;
    struct term_record *record = &state->record[term];
    node_set_term(state, event.node, term);
    record->heard[event.node] = follower->incarnation;
    if (rule_holds(model, RULE_W7_INCARNATION)) {
        record->match_m[event.node] = 0;
        record->match_d[event.node] = 0;
    }
    record->round[event.node] = follower->amnesiac ? (uint8_t)(1u << event.other) : 0;
    record->stated[event.node] = 0;
    leader_try_state(model, record, event.node);
    return NULL;
}

/* The answer to the request arrives: the leader's runs, of this term and incarnation. */
bool reconcile_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    const struct term_record *record = &state->record[node->term];
    (void)model;
    return record->leader != 0 && record->leader != event.node + 1 &&
           record->heard[event.node] == node->incarnation && node->reconciled != node->term;
}

static void log_cut(const struct model *model, struct node *node, uint8_t end)
{
    uint8_t kept = (uint8_t)((2u << end) - 1u);
    node->memory_end = end;
    if (rule_holds(model, RULE_W4_LOWER))
        node->published = lesser(node->published, end);
    node->durable_end = lesser(node->durable_end, end);
    node->settled &= kept;
    node->current &= kept;
    node->acked_m = lesser(node->acked_m, end);
    node->acked_d = lesser(node->acked_d, end);
    node->commit_r = lesser(node->commit_r, end);
    node->commit_d = lesser(node->commit_d, end);
    if (rule_holds(model, RULE_W4_LOWER))
        memset(node->arena + end + 1, 0, SLOTS_MAX - end);
}

const char *reconcile_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    const struct term_record *record = &state->record[node->term];
    const char *broken = check_cut(model, state, event.node, record);
    uint8_t end = node->commit_d; /* G3: compared above the durable commit only */
    while (end < node->memory_end && end < record->length &&
           state->frame[node->arena[end + 1]].term == state->frame[record->log[end + 1]].term)
        end++;
    if (end < node->memory_end)
        log_cut(model, node, end);
    node->reconciled = node->term;
    return broken;
}

bool store_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    const struct term_record *record = &state->record[node->term];
    return record->leader != 0 && record->leader != event.node + 1 &&
           node->reconciled == node->term && node->memory_end < record->length &&
           arena_slot_free(model, node, node->memory_end + 1u);
}

const char *store_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    arena_store(model, node, state->record[node->term].log[node->memory_end + 1]);
    return NULL;
}

bool publish_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    (void)state;
    return model->lazy_publish && node->published < node->memory_end;
}

const char *publish_apply(const struct model *model, struct state *state, struct event event)
{
    (void)model;
    state->node[event.node].published = state->node[event.node].memory_end;
    return NULL;
}

/* The M that may be counted: what the published end covers (W4). */
static uint8_t countable_memory(const struct model *model, const struct node *node, enum rule rule)
{
    if (!rule_holds(model, rule))
        return node->memory_end;
    return lesser(node->published, node->memory_end);
}

bool ack_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    const struct term_record *record = &state->record[node->term];
    uint8_t memory = countable_memory(model, node, RULE_W4_PUBLISH_ACK);
    if (record->leader == 0 || record->leader == event.node + 1)
        return false;
    if (state->node[record->leader - 1].role != ROLE_LEADER ||
        state->node[record->leader - 1].term != node->term)
        return false;
    if (record->heard[event.node] != node->incarnation)
        return false;
    if (rule_holds(model, RULE_G1_ACK) && node->reconciled != node->term)
        return false;
    return memory > record->match_m[event.node] || node->durable_end > record->match_d[event.node];
}

const char *ack_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    struct term_record *record = &state->record[node->term];
    uint8_t memory = countable_memory(model, node, RULE_W4_PUBLISH_ACK);
    record->match_m[event.node] = greater(record->match_m[event.node], memory);
    record->match_d[event.node] = greater(record->match_d[event.node], node->durable_end);
    node->acked_m = greater(node->acked_m, memory);
    node->acked_d = greater(node->acked_d, node->durable_end);
    return NULL;
}

/* The highest position that a majority holds, the leader's own share given apart. */
static uint8_t quorum_position(const struct model *model, const uint8_t match[NODES_MAX],
                               unsigned leader, uint8_t own)
{
    for (uint8_t position = own > SLOTS_MAX ? own : SLOTS_MAX; position > 0; position--) {
        unsigned holders = 0;
        for (unsigned peer = 0; peer < model->nodes; peer++)
            holders += (peer == leader ? own : match[peer]) >= position;
        if (holders >= majority(model))
            return position;
    }
    return 0;
}

static void commit_positions(const struct model *model, const struct state *state, unsigned index,
                             uint8_t *ret_replicated, uint8_t *ret_durable)
{
    const struct node *node = &state->node[index];
    const struct term_record *record = &state->record[node->term];
    uint8_t own = countable_memory(model, node, RULE_W4_PUBLISH_LEADER);
    uint8_t replicated = quorum_position(model, record->match_m, index, own);
    uint8_t durable = quorum_position(model, record->match_d, index, node->durable_end);
    bool any_term = !rule_holds(model, RULE_G2_TERM);
    replicated = lesser(replicated, node->memory_end);
    durable = lesser(durable, node->memory_end);
    *ret_replicated = any_term || replicated >= record->term_position ? replicated : 0;
    *ret_durable = any_term || durable >= record->term_position ? durable : 0;
}

bool commit_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    uint8_t replicated, durable;
    if (node->role != ROLE_LEADER)
        return false;
    commit_positions(model, state, event.node, &replicated, &durable);
    return replicated > node->commit_r || durable > node->commit_d;
}

const char *commit_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    struct term_record *record = &state->record[node->term];
    uint8_t own = countable_memory(model, node, RULE_W4_PUBLISH_LEADER);
    uint8_t replicated, durable;
    commit_positions(model, state, event.node, &replicated, &durable);
    node->commit_r = greater(node->commit_r, replicated);
    node->commit_d = greater(node->commit_d, durable);
    node->acked_m = greater(node->acked_m, lesser(own, node->commit_r));
    node->acked_d = greater(node->acked_d, lesser(node->durable_end, node->commit_d));
    record->commit_r = node->commit_r;
    record->commit_d = node->commit_d;
    if (model->replicated && node->commit_r >= record->term_position)
        record->stated_history |= slot_bit(node->commit_r);
    for (unsigned peer = 0; peer < model->nodes; peer++)
        leader_try_state(model, record, peer);
    return check_commit(model, state, event.node);
}

static void learnable(const struct model *model, const struct node *node,
                      const struct term_record *record, uint8_t *ret_replicated,
                      uint8_t *ret_durable)
{
    bool clamped = rule_holds(model, RULE_W2_CLAMP);
    *ret_replicated = clamped ? lesser(record->commit_r, node->memory_end) : record->commit_r;
    *ret_durable = clamped ? lesser(record->commit_d, node->memory_end) : record->commit_d;
}

/* A leader message arrives: the commit positions, clamped to the follower's reconciled M. */
bool learn_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    const struct term_record *record = &state->record[node->term];
    uint8_t replicated, durable;
    if (record->leader == 0 || record->leader == event.node + 1 || node->reconciled != node->term)
        return false;
    learnable(model, node, record, &replicated, &durable);
    return replicated > node->commit_r || durable > node->commit_d;
}

const char *learn_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    uint8_t replicated, durable;
    learnable(model, node, &state->record[node->term], &replicated, &durable);
    node->commit_r = greater(node->commit_r, replicated);
    node->commit_d = greater(node->commit_d, durable);
    return NULL;
}
