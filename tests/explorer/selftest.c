/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of expectations, as TAP. First each rule is taken out, and some invariant must fall;
 * then all rules are in, and none may. A rule counts as found only when the model's own
 * transitions led to the violation: scripts choose among enabled events, a search does the rest.
 */
#include "search.h"

#include <stdio.h>
#include <string.h>

struct expectation {
    const char *rule;
    const char *script; /* NULL: from the boot */
    bool replicated;    /* for the boot; a script says itself */
    bool end_to_end;
    struct bounds bounds;
    const char *sentence; /* part of the invariant that must fall */
};

static const struct expectation expectations[] = {
    {"F1-chain", "CE2", false, false, {0}, "log that nobody wrote"},
    {"G1-ack", NULL, false, true, {3, 2, 0, 0, 0, 1, 4}, "acknowledged as durable"},
    {"G2-term", "figure-8", false, true, {0}, "acknowledged as durable"},
    {"W1-votes", NULL, true, true, {2, 1, 0, 0, 0, 1, 3}, "acknowledged as replicated"},
    {"W2-clamp", NULL, false, true, {1, 1, 0, 0, 0, 1, 3}, "above its own verified M"},
    {"W3-commit", NULL, false, true, {2, 1, 0, 1, 0, 1, 3}, "cut below its own commit"},
    {"W4-publish-ack", NULL, true, true, {2, 1, 1, 0, 0, 1, 3}, "acknowledged as replicated"},
    {"W4-publish-leader", "CE17", true, true, {0}, "acknowledged as replicated"},
    {"W4-publish-disk", NULL, false, false, {1, 1, 1, 0, 0, 1, 3}, "recovery gave less"},
    {"W4-lower", NULL, true, false, {2, 2, 1, 0, 0, 1, 4}, "process death lost"},
    {"W4-flush", "CE18", false, true, {0}, "classed as damaged"},
    {"W4-keep", "CE15", true, false, {0}, "process death lost"},
    {"W5-off", NULL, true, true, {2, 1, 0, 1, 0, 1, 3}, "acknowledged as replicated"},
    {"W5a-echo", "CE13", true, true, {0}, "acknowledged as replicated"},
    {"W5b-term", "W5b", true, true, {0}, "acknowledged as replicated"},
    {"W5c-round", "CE14", true, true, {0}, "acknowledged as replicated"},
    {"W5-journal", "CE15", true, true, {0}, "acknowledged as replicated"},
    {"W5-own-mark", "CE16", true, true, {0}, "acknowledged as replicated"},
    {"W6-clamp", "CE19", false, true, {0}, "never committed"},
    {"W7-term", "W7", false, true, {0}, "acknowledged as durable"},
    {"W7-resume", NULL, false, true, {2, 1, 1, 1, 0, 1, 3}, "two payloads"},
    {"W7-incarnation", NULL, true, true, {2, 1, 0, 1, 0, 1, 3}, "acknowledged as replicated"},
    {"V1-tail", NULL, false, true, {1, 1, 0, 1, 0, 1, 3}, "classed as damaged"},
    {"V1-overlap", "overlap", false, false, {0}, "recovery gave less"},
    {"V1-cut-first", "CE20", false, true, {0}, "classed as damaged"},
    {"W-sequence", "overlap", false, true, {0}, "classed as damaged"},
    {"R3-vote", NULL, false, true, {2, 0, 1, 0, 0, 1, 3}, "vote twice"},
};

struct full_space {
    bool replicated;
    bool lazy_publish;
    struct bounds bounds;
};

/* Small enough to be exhausted: each must be, or the test fails. */
static const struct full_space full_spaces[] = {
    {false, false, {2, 1, 0, 0, 0, 1, 3}}, {false, false, {2, 0, 1, 1, 0, 1, 2}},
    {true, false, {2, 1, 0, 0, 0, 1, 3}},  {true, false, {2, 0, 1, 0, 0, 1, 2}},
    {true, false, {2, 0, 0, 1, 0, 1, 2}},
};

struct full_walk {
    uint8_t nodes;
    bool replicated;
    bool lazy_publish;
    bool from_empty;
};

static const struct full_walk full_walks[] = {
    {1, true, true, true}, {3, false, true, false},  {3, true, false, false},
    {3, true, true, true}, {5, false, false, false}, {5, true, false, false},
};

enum {
    RULES = sizeof expectations / sizeof expectations[0],
    SPACES = sizeof full_spaces / sizeof full_spaces[0],
    WALKS = sizeof full_walks / sizeof full_walks[0]
};

static const struct bounds walk_bounds = {5, 4, 2, 2, 1, 2, SLOTS_MAX};
static unsigned test_number, test_failures;
static double test_scale; /* 1 by default; --seconds lengthens the searches with all rules in */

static uint64_t walked_kinds[EVENT_KINDS];

static void report(bool good, const char *text)
{
    printf("%s %u - %s\n", good ? "ok" : "not ok", ++test_number, text);
    fflush(stdout);
    test_failures += !good;
}

static void print_path(const struct model *model, const struct path *prefix,
                       const struct path *found)
{
    struct state state;
    char text[256];
    state_init(&state);
    for (unsigned at = 0; at < prefix->length + found->length; at++) {
        struct event event =
            at < prefix->length ? prefix->event[at] : found->event[at - prefix->length];
        event_describe(model, &state, event, text, sizeof text);
        printf("# %3u. %s\n", at + 1, text);
        event_apply(model, &state, event);
    }
}

/* Boots, follows the script if there is one; false when either cannot be followed. */
static bool prepare(const struct model *model, const struct script *script, struct state *state,
                    struct path *prefix, const char **ret_broken)
{
    unsigned bad;
    state_init(state);
    *ret_broken = NULL;
    if (!boot_follow(model, state, prefix))
        return false;
    return !script || script_follow(model, state, script->events, prefix, ret_broken, &bad);
}

static void model_of_script(const struct script *script, struct model *model)
{
    model->nodes = script->nodes;
    model->replicated = script->replicated;
    model->lazy_publish = script->lazy_publish;
    model->bounds = script->bounds;
}

/* Exhaustive first, because its schedule is a shortest one; random when that is too far away. */
static const char *hunt(const struct model *model, const struct state *start, bool progress,
                        struct search_result *result)
{
    struct search_limits limits = {.seconds = 20,
                                   .states = 700000,
                                   .steps = 8000000,
                                   .seed = 7,
                                   .walk_length = 60,
                                   .progress = progress};
    search_exhaustive(model, start, &limits, result);
    if (result->broken)
        return "exhaustive";
    search_random(model, start, &limits, result);
    return "random, shrunk";
}

static unsigned boot_length(const struct model *model)
{
    struct state state;
    struct path boot;
    state_init(&state);
    boot_follow(model, &state, &boot);
    return boot.length;
}

static void test_without(const struct expectation *row, bool progress)
{
    struct model model = {.nodes = 3,
                          .replicated = row->replicated,
                          .bounds = row->bounds,
                          .end_to_end = row->end_to_end};
    const struct script *script = row->script ? script_find(row->script) : NULL;
    struct search_result result = {0};
    struct path prefix;
    struct state state;
    const char *early, *how = "scripted prefix alone";
    unsigned scripted;
    char text[400];
    if (script)
        model_of_script(script, &model);
    model.without = rule_find(row->rule)->bits;
    model.lazy_publish |= strncmp(row->rule, "W4-publish", 10) == 0;
    if (!prepare(&model, script, &state, &prefix, &early)) {
        snprintf(text, sizeof text, "without %s: its prefix cannot be followed", row->rule);
        report(false, text);
        return;
    }
    scripted = prefix.length - boot_length(&model);
    result.broken = early;
    if (!early)
        how = hunt(&model, &state, progress, &result);
    snprintf(text, sizeof text, "without %s: %s; %u events after the boot, then %u (%s%s%s)",
             row->rule, result.broken ? result.broken : "NOTHING FELL", scripted,
             result.broken ? result.path.length : 0, script ? script->name : "",
             script ? ", then " : "", how);
    report(result.broken && strstr(result.broken, row->sentence), text);
}

static void report_full(const struct model *model, const struct path *prefix,
                        const struct search_result *result, const char *text, bool good)
{
    report(good && !result->broken, text);
    if (result->broken) {
        printf("# broken with all rules in: %s\n", result->broken);
        print_path(model, prefix, &result->path);
    }
}

static void test_full_space(const struct full_space *space, bool progress)
{
    struct model model = {.nodes = 3,
                          .replicated = space->replicated,
                          .lazy_publish = space->lazy_publish,
                          .bounds = space->bounds};
    struct search_limits limits = {.seconds = 1e9, .states = 20000000, .progress = progress};
    struct search_result result;
    struct path prefix;
    struct state state;
    const char *early;
    char text[400];
    bool ready = prepare(&model, NULL, &state, &prefix, &early);
    search_exhaustive(&model, &state, &limits, &result);
    snprintf(text, sizeof text,
             "all rules, 3 nodes, %s: terms %u appends %u crashes %u powercuts %u slots %u "
             "in flight %u: %llu states, depth %u, %s",
             model.replicated ? "replicated" : "durable", model.bounds.terms, model.bounds.appends,
             model.bounds.crashes, model.bounds.power_cuts, model.bounds.slots,
             model.bounds.in_flight, (unsigned long long)result.states, result.depth,
             result.exhausted ? "exhausted" : "CUT OFF");
    report_full(&model, &prefix, &result, text, ready && result.exhausted);
}

/* Around a script: everything near its end breadth first, then walks with more room. */
static void test_full_script(const struct script *script, bool progress)
{
    struct model model = {0};
    struct search_limits limits = {.seconds = 1e9,
                                   .states = (uint64_t)(200000 * test_scale),
                                   .steps = (uint64_t)(150000 * test_scale),
                                   .seed = 11,
                                   .walk_length = 50,
                                   .progress = progress};
    struct search_result result, walked = {0};
    struct path prefix;
    struct state state;
    const char *early;
    char text[400];
    bool ready;
    model_of_script(script, &model);
    ready = prepare(&model, script, &state, &prefix, &early) && !early;
    search_exhaustive(&model, &state, &limits, &result);
    if (!result.broken) {
        model.bounds = walk_bounds;
        model.bounds.accepts = 0;
        search_random(&model, &state, &limits, &walked);
    }
    snprintf(text, sizeof text,
             "all rules, %u nodes, %s, after %s: %llu states to depth %u (%s), %llu random steps",
             model.nodes, model.replicated ? "replicated" : "durable", script->name,
             (unsigned long long)result.states, result.depth,
             result.exhausted ? "exhausted" : "cut off", (unsigned long long)walked.states);
    report_full(&model, &prefix, result.broken ? &result : &walked, text, ready);
}

static void test_full_walk(const struct full_walk *walk, bool progress)
{
    struct model model = {.nodes = walk->nodes,
                          .replicated = walk->replicated,
                          .lazy_publish = walk->lazy_publish,
                          .bounds = walk_bounds};
    struct search_limits limits = {.seconds = 1e9,
                                   .steps = (uint64_t)(1500000 * test_scale),
                                   .seed = 3,
                                   .walk_length = 100,
                                   .progress = progress};
    struct search_result result;
    struct path prefix = {0};
    struct state state;
    const char *early;
    char text[400];
    bool ready = true;
    if (!walk->from_empty)
        model.bounds.accepts = 0; /* each one voids what was promised before it */
    if (walk->from_empty)
        state_init(&state);
    else
        ready = prepare(&model, NULL, &state, &prefix, &early);
    search_random(&model, &state, &limits, &result);
    snprintf(text, sizeof text, "all rules, %u nodes, %s%s%s: %llu random steps in walks of %u",
             model.nodes, model.replicated ? "replicated" : "durable",
             model.lazy_publish ? ", lazy publishing" : "",
             walk->from_empty ? ", from the empty state" : "", (unsigned long long)result.states,
             limits.walk_length);
    for (unsigned kind = 0; kind < EVENT_KINDS; kind++)
        walked_kinds[kind] += result.fired[kind];
    report_full(&model, &prefix, &result, text, ready && result.states >= limits.steps);
}

/* A search that never takes some event would pass for the wrong reason. */
static void test_kinds_walked(void)
{
    bool all = true;
    for (unsigned kind = 0; kind < EVENT_KINDS; kind++) {
        printf("# %-10s %llu times\n", event_rules[kind].name,
               (unsigned long long)walked_kinds[kind]);
        all = all && walked_kinds[kind] >= 1000;
    }
    report(all, "the walks took each kind of event a thousand times or more");
}

int selftest_run(double seconds, bool progress)
{
    unsigned covered = 0;
    test_scale = seconds > 60 ? seconds / 60 : 1;
    printf("1..%u\n", RULES + SPACES + script_count + WALKS + 2);
    for (unsigned rule = 0; rule < rule_entry_count; rule++)
        for (unsigned row = 0; row < RULES; row++)
            covered += strcmp(expectations[row].rule, rule_entries[rule].name) == 0;
    report(covered == rule_entry_count && covered == RULES, "each rule has one expectation");
    for (unsigned row = 0; row < RULES; row++)
        test_without(&expectations[row], progress);
    for (unsigned row = 0; row < SPACES; row++)
        test_full_space(&full_spaces[row], progress);
    for (unsigned row = 0; row < script_count; row++)
        test_full_script(&scripts[row], progress);
    for (unsigned row = 0; row < WALKS; row++)
        test_full_walk(&full_walks[row], progress);
    test_kinds_walked();
    return test_failures != 0;
}
