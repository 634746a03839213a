/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk writes, the journal, process crash and power loss (F1 at recovery, W4-W7, V1).
 *
 * A write in flight is issued, and at some time complete (durable, and reported). A process that
 * dies leaves each of its writes undone or in the device's cache; power loss leaves each write
 * that was not complete old, new or unreadable. An outcome is two bits for each of the first
 * three slots with a write in flight, lowest position first; further ones stay old.
 */
#include "model.h"

#include <string.h>

enum outcome { OUTCOME_OLD, OUTCOME_NEW, OUTCOME_OLDER_WRITE, OUTCOME_UNREADABLE };
enum { OUTCOME_SLOTS = 3, SLOTS_PER_BLOCK_IN_PLACE = 2 };

static bool slot_in_flight(const struct node *node, unsigned position)
{
    return node->flight[position] != 0 || node->older[position] != 0;
}

static unsigned writes_in_flight(const struct node *node)
{
    unsigned count = 0;
    for (unsigned position = 1; position <= SLOTS_MAX; position++)
        count += slot_in_flight(node, position) && !(node->cached & slot_bit(position));
    return count;
}

/* The lowest slot whose bytes are neither durable nor on their way, or 0. */
static uint8_t slot_to_write(const struct model *model, const struct node *node)
{
    uint8_t end = node->memory_end;
    if (rule_holds(model, RULE_W4_PUBLISH_DISK))
        end = lesser(end, node->published);
    for (uint8_t position = 1; position <= end; position++)
        if (!((node->settled | node->current) & slot_bit(position)))
            return position;
    return 0;
}

bool issue_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    uint8_t position = slot_to_write(model, node);
    if (position == 0 || writes_in_flight(node) >= model->bounds.in_flight)
        return false;
    if (rule_holds(model, RULE_V1_CUT_FIRST) && node->journal_floor >= position)
        return false;
    if (node->cached & slot_bit(position))
        return true;
    if (node->older[position] != 0)
        return false;
    return node->flight[position] == 0 || !rule_holds(model, RULE_V1_OVERLAP_DISK);
}

const char *issue_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    uint8_t position = slot_to_write(model, node);
    if (node->cached & slot_bit(position))
        node->cached &= (uint8_t)~slot_bit(position);
    else
        node->older[position] = node->flight[position];
    node->flight[position] = node->arena[position];
    node->current |= slot_bit(position);
    return NULL;
}

static bool is_older(struct event event)
{
    return event.other != 0;
}

bool complete_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    (void)model;
    if (event.choice == 0 || event.choice > SLOTS_MAX)
        return false;
    if (is_older(event))
        return node->older[event.choice] != 0;
    return node->flight[event.choice] != 0 && !(node->cached & slot_bit(event.choice));
}

/* D is the contiguous part whose writes were reported, by sequence number: a completion of a
 * write from before a cut counts for nothing. Without that rule the position alone counts. */
const char *complete_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    uint8_t position = event.choice, bit = slot_bit(position);
    bool counts = !is_older(event) && (node->current & bit) != 0;
    uint8_t *write = is_older(event) ? &node->older[position] : &node->flight[position];
    node->disk[position] = *write;
    *write = 0;
    if (!is_older(event)) {
        node->flight[position] = node->older[position];
        node->older[position] = 0;
        node->current &= (uint8_t)~bit;
    }
    if (!rule_holds(model, RULE_SEQUENCE) && position <= node->memory_end)
        counts = true;
    if (counts)
        node->settled |= bit;
    node->durable_end = 0;
    while (node->durable_end < node->memory_end &&
           (node->settled & slot_bit(node->durable_end + 1u)))
        node->durable_end++;
    return NULL;
}

static uint8_t journal_commit_value(const struct model *model, const struct node *node)
{
    return rule_holds(model, RULE_W6_CLAMP) ? lesser(node->commit_d, node->durable_end)
                                            : node->commit_d;
}

bool journal_enabled(const struct model *model, const struct state *state, struct event event)
{
    const struct node *node = &state->node[event.node];
    return node->journal_floor != node->durable_end ||
           node->journal_commit != journal_commit_value(model, node);
}

const char *journal_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    node->journal_floor = node->durable_end;
    node->journal_commit = journal_commit_value(model, node);
    if (!model->end_to_end && node->journal_commit > node->journal_floor)
        return "a journal record states a commitD above its own D";
    return NULL;
}

/* Splits the outcome code over the slots in flight; false when it asks for the impossible. */
static bool outcomes_read(const struct model *model, const struct node *node, uint8_t code,
                          bool power, uint8_t outcome[SLOTS_MAX + 1])
{
    unsigned slots = 0;
    memset(outcome, 0, SLOTS_MAX + 1);
    for (unsigned position = 1; position <= SLOTS_MAX; position++) {
        if (!slot_in_flight(node, position) || slots++ >= OUTCOME_SLOTS)
            continue;
        outcome[position] = code & 3u;
        code >>= 2;
        if (outcome[position] == OUTCOME_NEW && node->flight[position] == 0)
            return false;
        if (outcome[position] == OUTCOME_OLDER_WRITE && node->older[position] == 0)
            return false;
        if (outcome[position] == OUTCOME_UNREADABLE &&
            (!power || (node->disk[position] == 0 && rule_holds(model, RULE_V1_TAIL))))
            return false;
    }
    return code == 0;
}

bool crash_enabled(const struct model *model, const struct state *state, struct event event)
{
    uint8_t outcome[SLOTS_MAX + 1];
    return state->crashes < model->bounds.crashes &&
           outcomes_read(model, &state->node[event.node], event.choice, false, outcome);
}

bool power_enabled(const struct model *model, const struct state *state, struct event event)
{
    uint8_t outcome[SLOTS_MAX + 1];
    return state->power_cuts < model->bounds.power_cuts &&
           outcomes_read(model, &state->node[event.node], event.choice, true, outcome);
}

/* Without V1's tail rule a write in place covers its whole block, acknowledged bytes included. */
static void block_spoil(struct node *node, unsigned position)
{
    unsigned first = position - (position - 1) % SLOTS_PER_BLOCK_IN_PLACE;
    for (unsigned slot = first; slot <= position; slot++)
        node->disk[slot] = 0;
}

static void power_resolve(const struct model *model, struct node *node,
                          const uint8_t outcome[SLOTS_MAX + 1])
{
    for (unsigned position = 1; position <= SLOTS_MAX; position++) {
        if (outcome[position] == OUTCOME_NEW)
            node->disk[position] = node->flight[position];
        else if (outcome[position] == OUTCOME_OLDER_WRITE)
            node->disk[position] = node->older[position];
        else if (outcome[position] == OUTCOME_UNREADABLE) {
            node->disk[position] = 0;
            if (!rule_holds(model, RULE_V1_TAIL))
                block_spoil(node, position);
        }
        node->flight[position] = 0;
        node->older[position] = 0;
    }
    node->cached = 0;
}

/* After the flush that W4 asks for, what landed is durable; without it, it is only readable. */
static void crash_resolve(const struct model *model, struct node *node,
                          const uint8_t outcome[SLOTS_MAX + 1])
{
    for (unsigned position = 1; position <= SLOTS_MAX; position++) {
        uint8_t landed = 0;
        if (outcome[position] == OUTCOME_NEW)
            landed = node->flight[position];
        else if (outcome[position] == OUTCOME_OLDER_WRITE)
            landed = node->older[position];
        node->flight[position] = 0;
        node->older[position] = 0;
        node->cached &= (uint8_t)~slot_bit(position);
        if (landed == 0)
            continue;
        if (rule_holds(model, RULE_W4_FLUSH)) {
            node->disk[position] = landed;
        } else {
            node->flight[position] = landed;
            node->cached |= slot_bit(position);
        }
    }
}

static uint8_t slot_readable(const struct node *node, unsigned position)
{
    return (node->cached & slot_bit(position)) ? node->flight[position] : node->disk[position];
}

/* F1: a frame proves its whole prefix. Without it, a frame proves itself, and terms may rise. */
static bool frame_follows(const struct model *model, const struct state *state, uint8_t frame,
                          uint8_t before)
{
    if (frame == 0)
        return false;
    if (rule_holds(model, RULE_F1_CHAIN))
        return state->frame[frame].parent == before;
    return state->frame[frame].term >= state->frame[before].term;
}

static uint8_t disk_prefix(const struct model *model, const struct state *state,
                           const struct node *node)
{
    uint8_t end = 0, before = 0;
    while (end < SLOTS_MAX && frame_follows(model, state, slot_readable(node, end + 1u), before)) {
        end++;
        before = slot_readable(node, end);
    }
    return end;
}

static bool arena_valid(const struct model *model, const struct state *state,
                        const struct node *node)
{
    for (uint8_t position = 1; position <= node->published; position++)
        if (!frame_follows(model, state, node->arena[position], node->arena[position - 1]))
            return false;
    return true;
}

static void arena_keep(struct node *node)
{
    node->memory_end = node->published;
    memset(node->arena + node->memory_end + 1, 0, SLOTS_MAX - node->memory_end);
}

static void arena_drop(const struct model *model, struct node *node, uint8_t disk_end)
{
    memset(node->arena, 0, sizeof node->arena);
    for (unsigned position = 1; position <= disk_end; position++)
        node->arena[position] = slot_readable(node, position);
    node->memory_end = disk_end;
    node->published = disk_end;
    if (model->replicated && rule_holds(model, RULE_W5_AMNESIA)) {
        node->amnesiac = 1;
        node->journal_amnesiac = 1;
    }
}

/* D = the longest prefix where disk and arena agree; the rest is written again. */
static void durable_derive(struct node *node)
{
    node->settled = 0;
    node->current = 0;
    node->durable_end = 0;
    for (uint8_t position = 1; position <= node->memory_end; position++) {
        if (slot_readable(node, position) != node->arena[position])
            break;
        node->settled |= slot_bit(position);
        node->durable_end = position;
    }
}

static void node_restart(const struct model *model, struct state *state, unsigned index)
{
    struct node *node = &state->node[index];
    uint8_t last_run = state->frame[node->arena[node->memory_end]].term;
    if (node->role == ROLE_LEADER)
        leader_drop_volatile(state, node->term);
    if (!rule_holds(model, RULE_VOTE_DURABLE)) {
        node->vote_term = 0;
        node->vote_for = 0;
    }
    node->role = ROLE_FOLLOWER;
    node->term =
        rule_holds(model, RULE_W7_TERM) ? greater(node->vote_term, last_run) : node->vote_term;
    node->reconciled = 0;
    node->grants_intact = 0;
    node->grants_amnesiac = 0;
    node->incarnation++;
    node->commit_d = node->journal_commit;
    node->commit_r = node->journal_commit;
    if (!rule_holds(model, RULE_W7_RESUME) && state->record[node->term].leader == index + 1) {
        node->role = ROLE_LEADER;
        node->reconciled = node->term;
    }
}

const char *crash_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    uint8_t outcome[SLOTS_MAX + 1];
    uint8_t disk_end;
    bool was_amnesiac = node->amnesiac, keep;
    const char *broken;
    state->crashes++;
    outcomes_read(model, node, event.choice, false, outcome);
    crash_resolve(model, node, outcome);
    disk_end = disk_prefix(model, state, node);
    keep = arena_valid(model, state, node);
    node->amnesiac = rule_holds(model, RULE_W5_JOURNAL) ? node->journal_amnesiac : 0;
    if (node->amnesiac && !rule_holds(model, RULE_W4_KEEP))
        keep = false;
    if (keep)
        arena_keep(node);
    else
        arena_drop(model, node, disk_end);
    durable_derive(node);
    node_restart(model, state, event.node);
    broken = check_recovery(model, state, event.node, disk_end,
                            !was_amnesiac || rule_holds(model, RULE_W4_KEEP));
    node->acked_m = lesser(node->acked_m, node->memory_end);
    node->acked_d = lesser(node->acked_d, node->durable_end);
    return broken;
}

const char *power_apply(const struct model *model, struct state *state, struct event event)
{
    struct node *node = &state->node[event.node];
    uint8_t outcome[SLOTS_MAX + 1];
    uint8_t disk_end;
    const char *broken;
    state->power_cuts++;
    outcomes_read(model, node, event.choice, true, outcome);
    power_resolve(model, node, outcome);
    disk_end = disk_prefix(model, state, node);
    arena_drop(model, node, disk_end);
    durable_derive(node);
    node_restart(model, state, event.node);
    broken = check_recovery(model, state, event.node, disk_end, false);
    node->acked_m = lesser(node->acked_m, node->memory_end);
    node->acked_d = lesser(node->acked_d, node->durable_end);
    return broken;
}
