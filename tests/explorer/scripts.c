/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripted prefixes: the faults and the asynchrony of a known counter-example, up to where the
 * rule must bite. A script only chooses among enabled events, so it holds with all rules in;
 * what follows it is searched.
 *
 * An event is a word, a node, then as needed a second node and a number (a term, a position, or
 * the outcome code of power and crash). `round E A B`: E answers A's nonce round for B.
 */
#include "search.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct script scripts[] = {
    {"CE13",
     3,
     true,
     false,
     {2, 1, 0, 1, 0, 1, 3},
     "append A; store B; ack B; commit A; power B; ask B A; reconcile B",
     "an old heartbeat meets a new incarnation"},
    {"CE14",
     5,
     true,
     false,
     {3, 1, 0, 1, 0, 1, 4},
     "campaign C 2; grant D C; grant E C; win C; append C;"
     "ask B C; reconcile B; store B; store B; ack B;"
     "ask D C; reconcile D; store D; store D; ack D; commit C; power B; ask B A; reconcile B",
     "a deposed leader meets an amnesiac that forgot the newer term"},
    {"CE15",
     3,
     true,
     false,
     {2, 1, 1, 1, 0, 1, 3},
     "append A; store B; ack B; commit A; power B",
     "an amnesiac's process restarts"},
    {"CE16",
     3,
     true,
     false,
     {2, 1, 0, 1, 0, 1, 3},
     "append A; store B; ack B; commit A; power B; campaign B 2",
     "an amnesiac campaigns"},
    {"CE17",
     3,
     true,
     true,
     {2, 1, 1, 0, 0, 1, 3},
     "append A; store B; publish B; ack B",
     "the leader has stored what it has not published"},
    {"CE18",
     3,
     false,
     false,
     {2, 1, 1, 1, 0, 1, 3},
     "append A; store B; issue B; issue A; complete A 2; crash B 1",
     "a process dies with a write in the device's cache"},
    {"CE19",
     3,
     false,
     false,
     {3, 0, 0, 1, 0, 1, 3},
     "campaign C 2; grant B C; win C; issue C; complete C 2;"
     "campaign A 3; grant B A; win A; ask B A; reconcile B; store B; issue B; complete B 2; ack B;"
     "issue A; complete A 2; commit A; ask C A; reconcile C; store C",
     "a replica holds in memory only what the others committed over its old disk"},
    {"CE20",
     3,
     false,
     false,
     {3, 0, 0, 1, 0, 1, 3},
     "campaign C 2; grant B C; win C; issue C; complete C 2; journal C;"
     "campaign A 3; grant B A; win A; ask C A; reconcile C; store C",
     "a cut below the journalled floor"},
    {"CE2",
     3,
     false,
     false,
     {2, 3, 0, 1, 0, 2, 4},
     "append A; append A; campaign C 2; grant B C; win C;"
     "issue A; complete A 2; issue A; complete A 3;"
     "append C; ask A C; reconcile A; store A; store A; issue A; issue A",
     "two blocks of a cut range are written in parallel"},
    {"figure-8",
     3,
     false,
     false,
     {4, 1, 0, 0, 0, 1, 4},
     "append A; issue A; complete A 2; campaign C 2; grant B C; win C; issue C; complete C 2;"
     "campaign A 3; grant B A; win A; ask B A; reconcile B; store B; issue B; complete B 2; ack B",
     "a frame of an older term reaches a majority"},
    {"overlap",
     3,
     false,
     false,
     {3, 1, 0, 1, 0, 2, 3},
     "append A; issue A; campaign C 2; grant B C; win C; ask A C; reconcile A",
     "a cut while the disk write of the cut bytes is in flight"},
    {"W5b",
     3,
     true,
     false,
     {3, 1, 0, 1, 0, 1, 3},
     "append A; store B; ack B; commit A; campaign B 2; grant C B; win B; power A; ask A B",
     "an amnesiac meets a leader that does not know yet what the last one committed"},
    {"W7",
     5,
     false,
     false,
     {3, 1, 1, 0, 0, 1, 3},
     "campaign C 2; grant D C; grant E C; win C; issue C; complete C 2;"
     "ask B C; reconcile B; store B; issue B; complete B 2; ack B;"
     "ask D C; reconcile D; store D; issue D; complete D 2; ack D; commit C; append A; crash B",
     "a replica that never voted in a term holds its bytes and restarts"},
};
const unsigned script_count = sizeof scripts / sizeof scripts[0];

const struct script *script_find(const char *name)
{
    for (unsigned at = 0; at < script_count; at++)
        if (strcmp(scripts[at].name, name) == 0)
            return &scripts[at];
    return NULL;
}

static bool kind_find(const char *word, size_t length, uint8_t *ret_kind)
{
    for (uint8_t kind = 0; kind < EVENT_KINDS; kind++) {
        const char *name = event_rules[kind].name;
        if (strlen(name) == length && memcmp(name, word, length) == 0) {
            *ret_kind = kind;
            return true;
        }
    }
    return false;
}

/* Reads one event up to the semicolon; NULL when it cannot be read. */
static const char *event_parse(const char *text, struct event *ret_event)
{
    struct event event = {0};
    unsigned letters = 0;
    size_t length = strcspn(text, " ;");
    if (!kind_find(text, length, &event.kind))
        return NULL;
    for (text += length; *text != '\0' && *text != ';'; text++) {
        if (isdigit((unsigned char)*text)) {
            event.choice = (uint8_t)(event.choice * 10 + (*text - '0'));
        } else if (*text >= 'A' && *text < 'A' + NODES_MAX) {
            uint8_t node = (uint8_t)(*text - 'A');
            if (letters == 0)
                event.node = node;
            else if (letters == 1)
                event.other = node;
            else
                event.choice = node;
            letters++;
        }
    }
    *ret_event = event;
    return text;
}

bool script_follow(const struct model *model, struct state *state, const char *text,
                   struct path *path, const char **ret_broken, unsigned *ret_bad)
{
    struct event event;
    unsigned number = 0;
    *ret_broken = NULL;
    while (*(text += strspn(text, "; ")) != '\0') {
        number++;
        text = event_parse(text, &event);
        if (!text || !event_enabled(model, state, event) || path->length >= PATH_MAX_EVENTS) {
            *ret_bad = number;
            return false;
        }
        path->event[path->length++] = event;
        *ret_broken = event_apply(model, state, event);
        if (*ret_broken)
            return true;
    }
    return true;
}

bool boot_follow(const struct model *model, struct state *state, struct path *path)
{
    static const char *const follow[] = {"ask %c A;", "reconcile %c;",  "store %c;",
                                         "issue %c;", "complete %c 1;", "ack %c;"};
    char text[1024];
    int used = snprintf(text, sizeof text, "campaign A 1;");
    const char *broken;
    unsigned bad;
    for (int node = 'B'; node < 'A' + model->nodes; node++)
        used += snprintf(text + used, sizeof text - (size_t)used, "grant %c A;", node);
    used += snprintf(text + used, sizeof text - (size_t)used, "win A; %s issue A; complete A 1;",
                     model->lazy_publish ? "publish A;" : "");
    for (int node = 'B'; node < 'A' + model->nodes; node++)
        for (unsigned at = 0; at < sizeof follow / sizeof follow[0]; at++) {
            if (at == 3 && model->lazy_publish)
                used += snprintf(text + used, sizeof text - (size_t)used, "publish %c;", node);
            used += snprintf(text + used, sizeof text - (size_t)used, follow[at], node);
        }
    used += snprintf(text + used, sizeof text - (size_t)used, "commit A; journal A;");
    for (int node = 'B'; node < 'A' + model->nodes; node++)
        used +=
            snprintf(text + used, sizeof text - (size_t)used, "learn %c; journal %c;", node, node);
    path->length = 0;
    return script_follow(model, state, text, path, &broken, &bad) && broken == NULL;
}
