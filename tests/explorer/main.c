/* SPDX-License-Identifier: Apache-2.0 */
/* Command line of the explorer. Exit: 0 nothing fell, 1 an invariant fell, 2 wrong usage. */
#include "search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct model model;
    struct search_limits limits;
    const struct script *script;
    const struct rule_entry *without;
    bool random;
    bool selftest;
    bool from_empty;
    bool all;
};

static const char help_text[] =
    "leat-explorer: explores a model of the consensus rules for a schedule that breaks one.\n"
    "  --nodes 1|3|5             nodes (default 3)\n"
    "  --mode replicated|durable a log that accepts replicated appends, or not (default durable)\n"
    "  --exhaustive              breadth first, every interleaving within the bounds (default)\n"
    "  --random                  seeded random walks; --seed S, --steps N, --walk LENGTH\n"
    "  --script NAME             start after a scripted prefix, with its nodes, mode and bounds\n"
    "  --bounds K=N,...          terms, appends, crashes, powercuts, accepts, messages, slots;\n"
    "                            messages = disk writes in flight per node (the network is never\n"
    "                            bounded: every message ever sent can still arrive)\n"
    "  --without RULE            take a rule out (see --list)\n"
    "  --lazy-publish            storing and publishing are two steps\n"
    "  --end-to-end              report only what clients, readers or assertions would notice\n"
    "  --from-empty              start before the first election, not after it\n"
    "  --seconds N, --states N   limits of time and memory (defaults 60, 20000000)\n"
    "  --all                     each rule in turn with the given search, then all rules\n"
    "  --selftest                the table of expectations, as TAP\n"
    "  --list  --progress  --help\n";

static void print_list(void)
{
    printf("rules that --without takes:\n");
    for (unsigned at = 0; at < rule_entry_count; at++)
        printf("  %-18s %s\n", rule_entries[at].name, rule_entries[at].sentence);
    printf("scripts that --script takes:\n");
    for (unsigned at = 0; at < script_count; at++)
        printf("  %-18s %u nodes, %s: %s\n", scripts[at].name, scripts[at].nodes,
               scripts[at].replicated ? "replicated" : "durable", scripts[at].sentence);
}

static bool bound_set(struct bounds *bounds, const char *key, size_t length, uint8_t value)
{
    const struct {
        const char *name;
        uint8_t *value;
        uint8_t most;
    } rows[] = {
        {"terms", &bounds->terms, TERMS_MAX}, {"appends", &bounds->appends, 8},
        {"crashes", &bounds->crashes, 50},    {"powercuts", &bounds->power_cuts, 50},
        {"accepts", &bounds->accepts, 50},    {"messages", &bounds->in_flight, SLOTS_MAX},
        {"slots", &bounds->slots, SLOTS_MAX},
    };
    for (unsigned at = 0; at < sizeof rows / sizeof rows[0]; at++) {
        if (strlen(rows[at].name) != length || memcmp(rows[at].name, key, length) != 0)
            continue;
        if (value > rows[at].most)
            return false;
        *rows[at].value = value;
        return true;
    }
    return false;
}

static bool bounds_parse(struct bounds *bounds, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "=");
        char *end;
        unsigned long value;
        if (text[length] == '\0')
            return false;
        value = strtoul(text + length + 1, &end, 10);
        if (end == text + length + 1 || value > 255 || (*end != ',' && *end != '\0'))
            return false;
        if (!bound_set(bounds, text, length, (uint8_t)value))
            return false;
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

static bool script_option(struct options *options, const char *name)
{
    options->script = script_find(name);
    if (!options->script)
        return false;
    options->model.nodes = options->script->nodes;
    options->model.replicated = options->script->replicated;
    options->model.lazy_publish |= options->script->lazy_publish;
    options->model.bounds = options->script->bounds;
    return true;
}

static bool option_with_value(struct options *options, const char *name, const char *value)
{
    if (strcmp(name, "--nodes") == 0) {
        options->model.nodes = (uint8_t)atoi(value);
        return strcmp(value, "1") == 0 || strcmp(value, "3") == 0 || strcmp(value, "5") == 0;
    }
    if (strcmp(name, "--mode") == 0) {
        options->model.replicated = strcmp(value, "replicated") == 0;
        return options->model.replicated || strcmp(value, "durable") == 0;
    }
    if (strcmp(name, "--bounds") == 0)
        return bounds_parse(&options->model.bounds, value);
    if (strcmp(name, "--script") == 0)
        return script_option(options, value);
    if (strcmp(name, "--without") == 0) {
        options->without = rule_find(value);
        return options->without != NULL;
    }
    if (strcmp(name, "--seed") == 0)
        options->limits.seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "--steps") == 0)
        options->limits.steps = strtoull(value, NULL, 10);
    else if (strcmp(name, "--states") == 0)
        options->limits.states = strtoull(value, NULL, 10);
    else if (strcmp(name, "--walk") == 0)
        options->limits.walk_length = (unsigned)strtoul(value, NULL, 10);
    else if (strcmp(name, "--seconds") == 0)
        options->limits.seconds = strtod(value, NULL);
    else
        return false;
    return true;
}

static bool option_flag(struct options *options, const char *name)
{
    const struct {
        const char *name;
        bool *flag;
    } rows[] = {
        {"--random", &options->random},
        {"--selftest", &options->selftest},
        {"--from-empty", &options->from_empty},
        {"--all", &options->all},
        {"--lazy-publish", &options->model.lazy_publish},
        {"--end-to-end", &options->model.end_to_end},
        {"--progress", &options->limits.progress},
    };
    for (unsigned at = 0; at < sizeof rows / sizeof rows[0]; at++) {
        if (strcmp(rows[at].name, name) == 0) {
            *rows[at].flag = true;
            return true;
        }
    }
    return strcmp(name, "--exhaustive") == 0;
}

/* -1 to go on, else the exit code. */
static int options_parse(struct options *options, int count, char **words)
{
    for (int at = 1; at < count; at++) {
        if (strcmp(words[at], "--help") == 0) {
            fputs(help_text, stdout);
            return 0;
        }
        if (strcmp(words[at], "--list") == 0) {
            print_list();
            return 0;
        }
        if (option_flag(options, words[at]))
            continue;
        if (at + 1 >= count || !option_with_value(options, words[at], words[at + 1])) {
            fprintf(stderr, "leat-explorer: cannot use '%s'; see --help and --list\n", words[at]);
            return 2;
        }
        at++;
    }
    if (options->without) {
        options->model.without = options->without->bits;
        if (options->model.without &
            (RULE_BIT(RULE_W4_PUBLISH_ACK) | RULE_BIT(RULE_W4_PUBLISH_LEADER) |
             RULE_BIT(RULE_W4_PUBLISH_DISK)))
            options->model.lazy_publish = true;
    }
    return -1;
}

static void print_schedule(const struct model *model, const struct path *prefix,
                           const struct path *found)
{
    struct state state;
    char text[256];
    unsigned number = 0;
    state_init(&state);
    for (unsigned part = 0; part < 2; part++) {
        const struct path *path = part == 0 ? prefix : found;
        for (unsigned at = 0; at < path->length; at++) {
            event_describe(model, &state, path->event[at], text, sizeof text);
            printf("%4u. %s\n", ++number, text);
            event_apply(model, &state, path->event[at]);
        }
        if (part == 0 && prefix->length > 0)
            printf("      -- above: boot and script; below: found --\n");
    }
}

static void print_bounds(const struct model *model)
{
    const struct bounds *bounds = &model->bounds;
    printf("%u nodes, %s log; terms <= %u, appends <= %u, crashes <= %u, power cuts <= %u, "
           "accepts <= %u, positions <= %u, disk writes in flight per node <= %u%s%s\n",
           model->nodes, model->replicated ? "replicated" : "durable", bounds->terms,
           bounds->appends, bounds->crashes, bounds->power_cuts, bounds->accepts, bounds->slots,
           bounds->in_flight, model->lazy_publish ? ", lazy publishing" : "",
           model->end_to_end ? ", end-to-end invariants only" : "");
}

static void print_result(const struct options *options, const struct search_result *result)
{
    double rate = result->seconds > 0 ? (double)result->events / result->seconds : 0;
    print_bounds(&options->model);
    if (options->random) {
        printf("random: seed %llu, %llu steps in walks of %u, %.1f s, %.0f steps/s\n",
               (unsigned long long)options->limits.seed, (unsigned long long)result->states,
               result->depth, result->seconds, rate);
        return;
    }
    printf("exhaustive: %llu states, %llu transitions, depth %u, %.1f s, %.0f transitions/s\n",
           (unsigned long long)result->states, (unsigned long long)result->events, result->depth,
           result->seconds, rate);
    if (!result->broken)
        printf("%s\n", result->exhausted ? "the space within these bounds is exhausted"
                                         : "CUT OFF by time or memory: the space is not exhausted");
}

static int explore(const struct options *options)
{
    const struct model *model = &options->model;
    struct state state;
    struct path prefix = {0};
    struct search_result result = {0};
    unsigned bad = 0;
    state_init(&state);
    if (!options->from_empty && !boot_follow(model, &state, &prefix)) {
        fprintf(stderr, "leat-explorer: the boot of term 1 cannot be followed\n");
        return 2;
    }
    if (options->script &&
        !script_follow(model, &state, options->script->events, &prefix, &result.broken, &bad)) {
        fprintf(stderr, "leat-explorer: event %u of the script is not enabled\n", bad);
        return 2;
    }
    if (!result.broken && options->random)
        search_random(model, &state, &options->limits, &result);
    else if (!result.broken)
        search_exhaustive(model, &state, &options->limits, &result);
    print_result(options, &result);
    if (!result.broken) {
        printf("no invariant fell\n");
        return 0;
    }
    print_schedule(model, &prefix, &result.path);
    printf("broken: %s\n", result.broken);
    return 1;
}

static int explore_all(struct options *options)
{
    int worst = 0;
    for (unsigned at = 0; at <= rule_entry_count; at++) {
        bool full = at == rule_entry_count;
        int code;
        options->model.without = full ? 0 : rule_entries[at].bits;
        printf("== %s\n", full ? "all rules" : rule_entries[at].name);
        code = explore(options);
        fflush(stdout);
        if (code == 2 || (full && code != 0))
            worst = code;
    }
    return worst;
}

int main(int count, char **words)
{
    struct options options = {
        .model = {.nodes = 3,
                  .bounds = {.terms = 3,
                             .appends = 1,
                             .crashes = 1,
                             .power_cuts = 1,
                             .accepts = 0,
                             .in_flight = 2,
                             .slots = 4}},
        .limits =
            {.seconds = 60, .states = 20000000, .steps = 100000000, .seed = 1, .walk_length = 60},
    };
    int code = options_parse(&options, count, words);
    if (code >= 0)
        return code;
    if (options.selftest)
        return selftest_run(options.limits.seconds, options.limits.progress);
    return options.all ? explore_all(&options) : explore(&options);
}
