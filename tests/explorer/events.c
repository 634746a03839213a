/* SPDX-License-Identifier: Apache-2.0 */
/* The table of events: listing those enabled, applying one, and saying it in words. */
#include "model.h"

#include <stdio.h>
#include <string.h>

const struct event_rule event_rules[EVENT_KINDS] = {
    [EVENT_CAMPAIGN] = {"campaign", campaign_enabled, campaign_apply},
    [EVENT_GRANT] = {"grant", grant_enabled, grant_apply},
    [EVENT_WIN] = {"win", win_enabled, win_apply},
    [EVENT_APPEND] = {"append", append_enabled, append_apply},
    [EVENT_ASK] = {"ask", ask_enabled, ask_apply},
    [EVENT_RECONCILE] = {"reconcile", reconcile_enabled, reconcile_apply},
    [EVENT_STORE] = {"store", store_enabled, store_apply},
    [EVENT_PUBLISH] = {"publish", publish_enabled, publish_apply},
    [EVENT_ACK] = {"ack", ack_enabled, ack_apply},
    [EVENT_COMMIT] = {"commit", commit_enabled, commit_apply},
    [EVENT_LEARN] = {"learn", learn_enabled, learn_apply},
    [EVENT_ROUND] = {"round", round_enabled, round_apply},
    [EVENT_CLEAR] = {"clear", clear_enabled, clear_apply},
    [EVENT_ISSUE] = {"issue", issue_enabled, issue_apply},
    [EVENT_COMPLETE] = {"complete", complete_enabled, complete_apply},
    [EVENT_JOURNAL] = {"journal", journal_enabled, journal_apply},
    [EVENT_CRASH] = {"crash", crash_enabled, crash_apply},
    [EVENT_POWER] = {"power", power_enabled, power_apply},
    [EVENT_ACCEPT] = {"accept", accept_enabled, accept_apply},
};

/* How many values an event's second node and its choice run through. */
static void event_ranges(const struct model *model, const struct state *state, enum event_kind kind,
                         unsigned *ret_others, unsigned *ret_choices)
{
    *ret_others = 1;
    *ret_choices = 1;
    if (kind == EVENT_GRANT || kind == EVENT_ASK || kind == EVENT_ROUND)
        *ret_others = model->nodes;
    if (kind == EVENT_ROUND)
        *ret_choices = model->nodes;
    if (kind == EVENT_CAMPAIGN)
        *ret_choices = state->highest_term + 2u;
    if (kind == EVENT_CLEAR)
        *ret_choices = 2;
    if (kind == EVENT_COMPLETE) {
        *ret_others = 2;
        *ret_choices = SLOTS_MAX + 1u;
    }
    if (kind == EVENT_CRASH || kind == EVENT_POWER)
        *ret_choices = 64;
}

void state_init(struct state *state)
{
    memset(state, 0, sizeof *state);
    for (unsigned index = 0; index < NODES_MAX; index++)
        state->node[index].incarnation = 1;
}

size_t state_size(const struct model *model)
{
    return offsetof(struct state, node) + model->nodes * sizeof(struct node);
}

bool event_enabled(const struct model *model, const struct state *state, struct event event)
{
    return event.kind < EVENT_KINDS && event.node < model->nodes &&
           event_rules[event.kind].enabled(model, state, event);
}

const char *event_apply(const struct model *model, struct state *state, struct event event)
{
    const char *broken = event_rules[event.kind].apply(model, state, event);
    return broken ? broken : check_nodes(model, state);
}

static unsigned list_one_kind(const struct model *model, const struct state *state,
                              struct event event, struct event *events, unsigned room)
{
    unsigned others, choices, count = 0;
    event_ranges(model, state, event.kind, &others, &choices);
    for (unsigned other = 0; other < others; other++) {
        for (unsigned choice = 0; choice < choices; choice++) {
            event.other = (uint8_t)other;
            event.choice = (uint8_t)choice;
            if (count < room && event_rules[event.kind].enabled(model, state, event))
                events[count++] = event;
        }
    }
    return count;
}

static bool nothing_in_flight(const struct node *node)
{
    for (unsigned position = 1; position <= SLOTS_MAX; position++)
        if (node->flight[position] || node->older[position])
            return false;
    return true;
}

unsigned events_list(const struct model *model, const struct state *state,
                     struct event events[EVENTS_MAX])
{
    unsigned count = 0;
    for (uint8_t index = 0; index < model->nodes; index++) {
        bool idle = nothing_in_flight(&state->node[index]);
        for (uint8_t kind = 0; kind < EVENT_KINDS; kind++) {
            struct event event = {.kind = kind, .node = index};
            if (idle && kind == EVENT_COMPLETE)
                continue;
            if (idle && (kind == EVENT_CRASH || kind == EVENT_POWER)) {
                if (event_rules[kind].enabled(model, state, event))
                    events[count++] = event;
                continue;
            }
            count += list_one_kind(model, state, event, events + count, EVENTS_MAX - count);
        }
    }
    return count;
}

static const char *term_frame_or_append(const struct state *state, uint8_t frame)
{
    return state->frame[frame].kind == FRAME_TERM ? "TERM" : "append";
}

static void describe_frame(const struct state *state, uint8_t frame, unsigned position, char *text,
                           size_t size)
{
    snprintf(text, size, "%s of term %u at %u", term_frame_or_append(state, frame),
             state->frame[frame].term, position);
}

static void describe_outcome(const struct node *node, uint8_t code, char *text, size_t size)
{
    static const char *const names[] = {"old", "new", "the older write", "unreadable"};
    unsigned slots = 0;
    size_t used = 0;
    text[0] = '\0';
    for (unsigned position = 1; position <= SLOTS_MAX && used < size; position++) {
        if ((node->flight[position] || node->older[position]) && slots < 3) {
            used += (size_t)snprintf(text + used, size - used, "%s%u is %s",
                                     slots ? ", " : "; write in flight at ", position,
                                     names[code >> (2 * slots) & 3]);
            slots++;
        }
    }
}

static void describe_replication(const struct state *before, struct event event, char *text,
                                 size_t size)
{
    const struct node *node = &before->node[event.node];
    const struct term_record *record = &before->record[node->term];
    char name = (char)('A' + event.node), other = (char)('A' + event.other), frame[64];
    switch (event.kind) {
    case EVENT_APPEND:
        snprintf(text, size, "client appends at leader %c, term %u, position %u", name, node->term,
                 node->memory_end + 1);
        break;
    case EVENT_ASK:
        snprintf(text, size, "%c (incarnation %u) hears leader %c of term %u and asks for its runs",
                 name, node->incarnation, other, before->node[event.other].term);
        break;
    case EVENT_RECONCILE:
        snprintf(text, size, "%c reconciles with the runs of term %u's leader", name, node->term);
        break;
    case EVENT_STORE:
        describe_frame(before, record->log[node->memory_end + 1], node->memory_end + 1u, frame,
                       sizeof frame);
        snprintf(text, size, "%c stores %s in memory", name, frame);
        break;
    case EVENT_ACK:
        snprintf(text, size, "%c's ack in term %u reaches %c: M = %u (published %u), D = %u", name,
                 node->term, 'A' + record->leader - 1, node->memory_end, node->published,
                 node->durable_end);
        break;
    default:
        snprintf(text, size, "%c learns the leader's commit of term %u: commitR %u, commitD %u",
                 name, node->term, record->commit_r, record->commit_d);
    }
}

static void describe_election(const struct state *before, struct event event, char *text,
                              size_t size)
{
    const struct node *node = &before->node[event.node];
    char name = (char)('A' + event.node), other = (char)('A' + event.other);
    switch (event.kind) {
    case EVENT_CAMPAIGN:
        snprintf(text, size, "%c%s campaigns in term %u with M = %u, last term %u", name,
                 node->amnesiac ? " (amnesiac)" : "", event.choice, node->memory_end,
                 before->frame[node->arena[node->memory_end]].term);
        break;
    case EVENT_GRANT:
        snprintf(text, size, "%c%s grants %c its vote in term %u", name,
                 node->amnesiac ? " (amnesiac)" : "", other, before->node[event.other].term);
        break;
    case EVENT_WIN:
        snprintf(text, size, "%c leads term %u and writes its TERM frame at %u", name, node->term,
                 node->memory_end + 1);
        break;
    case EVENT_ROUND:
        snprintf(text, size, "%c answers %c's nonce round for %c in term %u", name, other,
                 'A' + event.choice, before->node[event.other].term);
        break;
    case EVENT_CLEAR:
        snprintf(text, size, "%c is no longer amnesiac (M = %u, leader of term %u)%s", name,
                 node->memory_end, node->term, event.choice ? ", its journal is yet" : "");
        break;
    default:
        snprintf(text, size, "the operator accepts %c's amnesia, counted", name);
    }
}

static void describe_storage(const struct model *model, const struct state *before,
                             struct event event, char *text, size_t size)
{
    const struct node *node = &before->node[event.node];
    char name = (char)('A' + event.node), detail[160];
    struct state after = *before;
    switch (event.kind) {
    case EVENT_PUBLISH:
        snprintf(text, size, "%c publishes its end %u", name, node->memory_end);
        break;
    case EVENT_ISSUE:
        event_rules[EVENT_ISSUE].apply(model, &after, event);
        for (unsigned position = 1; position <= SLOTS_MAX; position++)
            if (after.node[event.node].current & ~node->current & (1u << position))
                describe_frame(before, node->arena[position], position, detail, sizeof detail);
        snprintf(text, size, "%c issues the disk write of %s", name, detail);
        break;
    case EVENT_COMPLETE:
        describe_frame(before, event.other ? node->older[event.choice] : node->flight[event.choice],
                       event.choice, detail, sizeof detail);
        snprintf(text, size, "%c's disk write of %s completes", name, detail);
        break;
    case EVENT_JOURNAL:
        event_rules[EVENT_JOURNAL].apply(model, &after, event);
        snprintf(text, size, "%c's journal record is durable: floor %u, commitD %u", name,
                 after.node[event.node].journal_floor, after.node[event.node].journal_commit);
        break;
    default:
        describe_outcome(node, event.choice, detail, sizeof detail);
        snprintf(text, size, "%c %s%s", name,
                 event.kind == EVENT_POWER ? "loses power and starts again"
                                           : "'s process dies and starts again",
                 detail);
    }
}

static void describe_commit(const struct model *model, const struct state *before,
                            struct event event, char *text, size_t size)
{
    struct state after = *before;
    event_rules[EVENT_COMMIT].apply(model, &after, event);
    snprintf(text, size, "leader %c of term %u commits: commitR %u, commitD %u", 'A' + event.node,
             before->node[event.node].term, after.node[event.node].commit_r,
             after.node[event.node].commit_d);
}

void event_describe(const struct model *model, const struct state *before, struct event event,
                    char *text, size_t size)
{
    switch (event.kind) {
    case EVENT_CAMPAIGN:
    case EVENT_GRANT:
    case EVENT_WIN:
    case EVENT_ROUND:
    case EVENT_CLEAR:
    case EVENT_ACCEPT:
        describe_election(before, event, text, size);
        break;
    case EVENT_COMMIT:
        describe_commit(model, before, event, text, size);
        break;
    case EVENT_APPEND:
    case EVENT_ASK:
    case EVENT_RECONCILE:
    case EVENT_STORE:
    case EVENT_ACK:
    case EVENT_LEARN:
        describe_replication(before, event, text, size);
        break;
    default:
        describe_storage(model, before, event, text, size);
    }
}
