/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold after every step. Each check returns NULL or a sentence.
 *
 * Checks of a node against its own word (marked local) see the fault early; `end_to_end` leaves
 * them out, so that only what a client, a reader or an assertion would notice is reported.
 */
#include "model.h"

const char *check_vote(struct state *state, unsigned voter, uint8_t term, uint8_t candidate)
{
    uint8_t *given = &state->votes[term][voter];
    if (*given != 0 && *given != candidate + 1)
        return "a node gave its vote twice in one term";
    *given = (uint8_t)(candidate + 1);
    return NULL;
}

const char *check_new_frame(const struct state *state, uint8_t term, uint8_t position)
{
    for (unsigned frame = 1; frame <= state->frame_count; frame++)
        if (state->frame[frame].term == term && state->frame[frame].position == position)
            return "a (term, position) names two payloads";
    return NULL;
}

static bool log_holds(const struct state *state, const uint8_t log[SLOTS_MAX + 1], unsigned length,
                      unsigned frame)
{
    unsigned position = state->frame[frame].position;
    return position <= length && log[position] == frame;
}

static bool promise_void(const struct state *state, unsigned frame, uint8_t term)
{
    return frame <= state->excused_frame && term <= state->excused_term;
}

/* Leader completeness, for both levels: what earlier terms acknowledged is in this log. */
const char *check_new_leader(const struct state *state, unsigned index, uint8_t term)
{
    const struct node *node = &state->node[index];
    if (state->record[term].leader != 0)
        return "a term has two leaders";
    for (unsigned position = 1; position <= SLOTS_MAX; position++)
        if (state->committed[position] != 0 && state->committed_term[position] < term &&
            !log_holds(state, node->arena, node->memory_end, state->committed[position]))
            return "a later leader lacks an append that was acknowledged as durable";
    for (unsigned frame = 1; frame <= state->frame_count; frame++)
        if (state->promised[frame] != 0 && state->promised[frame] < term &&
            !log_holds(state, node->arena, node->memory_end, frame))
            return "a later leader lacks an append that was acknowledged as replicated, "
                   "and nothing was counted";
    return NULL;
}

/* A leader of an older term commits after a newer leader began without what it commits. */
static bool newer_leader_lacks(const struct state *state, unsigned frame, uint8_t term)
{
    for (unsigned newer = term + 1u; newer <= TERMS_MAX; newer++) {
        const struct term_record *record = &state->record[newer];
        if (record->leader != 0 && !log_holds(state, record->log, record->length, frame))
            return true;
    }
    return false;
}

static const char *check_commit_durable(struct state *state, const struct node *node)
{
    for (unsigned position = 1; position <= node->commit_d; position++) {
        uint8_t frame = node->arena[position];
        if (state->committed[position] != 0 && state->committed[position] != frame)
            return "two leaders acknowledged different bytes as durable at one position";
        if (newer_leader_lacks(state, frame, node->term))
            return "an append is acknowledged as durable that a newer leader lacks";
        if (state->committed[position] == 0 || node->term < state->committed_term[position])
            state->committed_term[position] = node->term;
        state->committed[position] = frame;
    }
    return NULL;
}

static const char *check_commit_replicated(struct state *state, const struct node *node)
{
    for (unsigned position = 1; position <= node->commit_r; position++) {
        uint8_t frame = node->arena[position];
        if (state->frame[frame].kind != FRAME_REPLICATED || promise_void(state, frame, node->term))
            continue;
        if (newer_leader_lacks(state, frame, node->term))
            return "an append is acknowledged as replicated that a newer leader lacks";
        if (state->promised[frame] == 0 || node->term < state->promised[frame])
            state->promised[frame] = node->term;
    }
    return NULL;
}

const char *check_commit(const struct model *model, struct state *state, unsigned index)
{
    const struct node *node = &state->node[index];
    const char *broken = check_commit_durable(state, node);
    if (!broken && model->replicated)
        broken = check_commit_replicated(state, node);
    return broken;
}

/* W3's assertion. It looks from the log's start, where the protocol looks above commitD only. */
const char *check_cut(const struct model *model, const struct state *state, unsigned index,
                      const struct term_record *record)
{
    const struct node *node = &state->node[index];
    uint8_t commit = rule_holds(model, RULE_W3_COMMIT) ? node->commit_d : node->commit_r;
    for (unsigned position = 1; position <= commit; position++)
        if (position > record->length ||
            state->frame[node->arena[position]].term != state->frame[record->log[position]].term)
            return "a replica must cut below its own commit, which is an assertion";
    return NULL;
}

const char *check_recovery(const struct model *model, const struct state *state, unsigned index,
                           uint8_t disk_end, bool memory_kept)
{
    const struct node *node = &state->node[index];
    if (disk_end < node->journal_floor)
        return "an intact disk is classed as damaged";
    if (model->end_to_end)
        return NULL;
    for (unsigned position = 1; position <= node->memory_end; position++)
        if (state->frame[node->arena[position]].parent != node->arena[position - 1])
            return "recovery built a log that nobody wrote"; /* local */
    if (node->durable_end < node->acked_d)
        return "recovery gave less than the D that this log was counted for"; /* local */
    if (memory_kept && node->memory_end < node->acked_m)
        return "a process death lost bytes that its M was counted for"; /* local */
    return NULL;
}

static const char *check_node(const struct state *state, const struct node *node)
{
    if (node->commit_d > node->memory_end)
        return "a replica's commit is above its own verified M";
    for (unsigned position = 1; position <= node->commit_d; position++)
        if (state->committed[position] != node->arena[position])
            return "a reader at the durable level is shown bytes that were never committed";
    return NULL;
}

const char *check_nodes(const struct model *model, const struct state *state)
{
    const char *broken = NULL;
    for (unsigned index = 0; index < model->nodes && !broken; index++)
        broken = check_node(state, &state->node[index]);
    return broken;
}
