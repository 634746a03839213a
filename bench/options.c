/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of logbench: what may be said, and what of it each command uses.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUSTAIN_SECONDS 30

static const char usage[] =
    "usage: logbench limits [--local NODES] [--size BYTES] [--directory DIR] [--json]\n"
    "       logbench append | tail   --local NODES | --attach SOCKET [options]\n"
    "       logbench breakdown [options]\n"
    "       logbench sustain [--share PERCENT] [--retain MIB] [options]\n"
    "       logbench failover [--fault kill|pause|transfer] [--runs N] [options]\n"
    "       logbench sweep | scale [options]\n"
    "\n"
    "limits    what this machine can do: round trips between two processes over shared words and\n"
    "          over the raw port, the durable 4 KiB write, alone and with as many writers as\n"
    "          nodes, bytes a second that the disk takes (in blocks of --size, and of 1 MiB) and\n"
    "          gives, and how long a thread that spins is kept from its core\n"
    "append    clients append: latency, rate, the time line by 100 ms, beside the limits of the\n"
    "          same run\n"
    "tail      readers follow while clients append, then one replays the log: from files and from\n"
    "          memory\n"
    "breakdown where the time of an append goes: the median of each stage of its way, by what\n"
    "          client and nodes noted\n"
    "sustain   the log keeps little, so that its segments roll, are trimmed, unlinked and made\n"
    "          anew: bytes a second beside the disk's, the longest wait beside the longest write\n"
    "          and the longest time without a core\n"
    "failover  the leader is killed, stopped or asked to hand over, again and again, while a "
    "client\n"
    "          at another node appends: how long it waits\n"
    "sweep     append, over all combinations of sizes, appends in flight, clients and levels; "
    "each\n"
    "          of these options, --logs and --local may be a list: --size 64,1024\n"
    "scale     append, one thing at a time: 1 to 1022 logs, 1 to 7 nodes, 1 to 64 clients, and "
    "logs\n"
    "          that are long already, with the time that a cluster takes to come back from a kill\n"
    "\n"
    "All but limits and --attach run on a private cluster of this build, removed afterwards.\n"
    "An option that a command does not use is refused.\n"
    "\n"
    "  --local N         1, 3, 5 or 7 nodes on this host [breakdown, sustain, failover, sweep: 3]\n"
    "  --attach SOCKET   a running node's control socket instead\n"
    "  --net KIND        memif [memif]\n"
    "  --profile NAME    of the nodes' settings: development or rack (short timeouts) "
    "[development]\n"
    "  --ack LEVEL       durable: on disk on a majority; replicated: in memory on one [durable;\n"
    "                    sweep: both]\n"
    "  --size BYTES      of a record [64; sweep: 32,64,288,1024,4096,65536]\n"
    "  --inflight N      appends not ended at one time, per client [1; scale: 64; sweep: "
    "1,64,1024]\n"
    "  --clients N       threads that append, each with its own rings [1; sweep: 1,4]\n"
    "  --readers N       threads that follow [1]\n"
    "  --logs N          the appends go round over N logs, all led by the clients' node [1]\n"
    "  --over WHAT       logs, nodes, clients or length alone [scale: all]\n"
    "  --length GIB,...  of the log, on each of three nodes [scale: 1]\n"
    "  --workers N       of each node [1]\n"
    "  --rate R          appends a second in all, open loop: latency counts from when each was\n"
    "                    meant to be sent [none: closed loop, as fast as the window lets]\n"
    "  --share PERCENT   of the top rate, measured first, is offered, open loop [none]\n"
    "  --retain MIB      what the log keeps [64]\n"
    "  --fault KIND      kill, pause or transfer [kill]\n"
    "  --runs N          so many faults [10]\n"
    "  --seconds S       measured time [3; sustain: 30; sweep, scale: 1 each]\n"
    "  --warm S          time before it [0.5]\n"
    "  --directory DIR   on a real disk; everything in it that is logbench's is removed "
    "[/var/tmp]\n"
    "  --no-pin          leaves it to the scheduler which node and client runs where [the\n"
    "                    leader beside the clients, the others on the other cores; failover: "
    "this]\n"
    "  --no-limits       leaves the machine's limits out\n"
    "  --json            one JSON object on stdout; of a sweep one a line\n"
    "  --html FILE       also one page of charts that needs nothing else: percentiles, time line,\n"
    "                    latency over throughput, limits, host\n"
    "  --quiet           no progress line\n"
    "  --help\n"
    "\n"
    "examples: logbench append --local 3 --ack durable --size 64 --inflight 1 --seconds 3\n"
    "          logbench failover --fault transfer --runs 20 --profile rack\n"
    "exit codes: 0 measured, 1 failed, 2 usage\n";

enum option_code {
    OPTION_LOCAL = 256,
    OPTION_ATTACH,
    OPTION_NET,
    OPTION_PROFILE,
    OPTION_FAULT,
    OPTION_RUNS,
    OPTION_READERS,
    OPTION_ACK,
    OPTION_SIZE,
    OPTION_IN_FLIGHT,
    OPTION_CLIENTS,
    OPTION_LOGS,
    OPTION_LENGTH,
    OPTION_OVER,
    OPTION_WORKERS,
    OPTION_RATE,
    OPTION_SECONDS,
    OPTION_WARM,
    OPTION_DIRECTORY,
    OPTION_SHARE,
    OPTION_RETAIN,
    OPTION_NO_LIMITS,
    OPTION_NO_PIN,
    OPTION_JSON,
    OPTION_HTML,
    OPTION_QUIET,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"local", required_argument, NULL, OPTION_LOCAL},
    {"attach", required_argument, NULL, OPTION_ATTACH},
    {"net", required_argument, NULL, OPTION_NET},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"fault", required_argument, NULL, OPTION_FAULT},
    {"runs", required_argument, NULL, OPTION_RUNS},
    {"readers", required_argument, NULL, OPTION_READERS},
    {"ack", required_argument, NULL, OPTION_ACK},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"inflight", required_argument, NULL, OPTION_IN_FLIGHT},
    {"clients", required_argument, NULL, OPTION_CLIENTS},
    {"logs", required_argument, NULL, OPTION_LOGS},
    {"length", required_argument, NULL, OPTION_LENGTH},
    {"over", required_argument, NULL, OPTION_OVER},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"warm", required_argument, NULL, OPTION_WARM},
    {"directory", required_argument, NULL, OPTION_DIRECTORY},
    {"share", required_argument, NULL, OPTION_SHARE},
    {"retain", required_argument, NULL, OPTION_RETAIN},
    {"no-limits", no_argument, NULL, OPTION_NO_LIMITS},
    {"no-pin", no_argument, NULL, OPTION_NO_PIN},
    {"json", no_argument, NULL, OPTION_JSON},
    {"html", required_argument, NULL, OPTION_HTML},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

#define BIT(code) (1u << ((code)-OPTION_LOCAL))

struct command {
    const char *name;
    bool lists;    /* its options may be lists */
    uint32_t uses; /* BIT(option_code), ...: others are refused, not ignored */
};

int usage_error(const char *what, const char *value)
{
    fprintf(stderr, "logbench: %s%s%s; see logbench --help\n", what, value ? " " : "",
            value ? value : "");
    return 2;
}

static bool parse_number(const char *text, double low, double high, double *ret_value)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= low && value <= high))
        return false;
    *ret_value = value;
    return true;
}

static bool parse_whole(const char *text, double low, double high, unsigned *ret_value)
{
    double value;
    if (!parse_number(text, low, high, &value) || value != (double)(unsigned)value)
        return false;
    *ret_value = (unsigned)value;
    return true;
}

/* Whole numbers, separated by commas. */
static bool parse_list(const char *text, double low, double high, struct bench_list *ret_list)
{
    char copy[256], *rest = copy, *word;
    if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
        return false;
    ret_list->count = 0;
    while ((word = strsep(&rest, ",")) != NULL) {
        unsigned value;
        if (ret_list->count == BENCH_LIST_MAX || !parse_whole(word, low, high, &value))
            return false;
        ret_list->values[ret_list->count++] = value;
    }
    return true;
}

/* The place of a word among those that are allowed, or -1. */
static int parse_word(const char *text, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
    }
    return -1;
}

static bool parse_levels(const char *text, struct bench_list *ret_list)
{
    static const char *const levels[] = {"durable", "replicated", "durable,replicated", NULL};
    int level = parse_word(text, levels);
    *ret_list =
        level == 2 ? (struct bench_list){2, {0, 1}} : (struct bench_list){1, {(uint32_t)level}};
    return level >= 0;
}

static bool parse_nodes(const char *text, struct bench_list *ret_list)
{
    if (!parse_list(text, 1, BENCH_NODES_MAX, ret_list))
        return false;
    for (unsigned i = 0; i < ret_list->count; i++) {
        if (ret_list->values[i] % 2 == 0)
            return false;
    }
    return true;
}

/* Returns 0, or 2 after a line. */
static int take_option(struct arguments *arguments, int code, const char *value)
{
    static const char *const faults[] = {"kill", "pause", "transfer", NULL};
    static const char *const overs[] = {"logs", "nodes", "clients", "length", NULL};
    static const char *const profiles[] = {"development", "rack", NULL};
    struct bench_options *options = &arguments->options;
    struct bench_lists *lists = &arguments->lists;
    int word;
    bool good = true;
    if (code >= OPTION_LOCAL)
        arguments->given |= BIT(code);
    switch (code) {
    case OPTION_LOCAL:
        good = parse_nodes(value, &lists->nodes);
        break;
    case OPTION_ATTACH:
        options->attach = value;
        break;
    case OPTION_NET:
        good = strcmp(value, "memif") == 0;
        options->net = value;
        break;
    case OPTION_PROFILE:
        good = parse_word(value, profiles) >= 0;
        options->profile = value;
        break;
    case OPTION_FAULT:
        word = parse_word(value, faults);
        good = word >= 0;
        options->fault = (enum bench_fault)word;
        break;
    case OPTION_RUNS:
        good = parse_whole(value, 1, 100000, &options->runs);
        break;
    case OPTION_READERS:
        good = parse_whole(value, 1, BENCH_CLIENTS_MAX, &options->readers);
        break;
    case OPTION_ACK:
        good = parse_levels(value, &lists->levels);
        break;
    case OPTION_SIZE:
        good = parse_list(value, 0, 1 << 20, &lists->sizes);
        break;
    case OPTION_IN_FLIGHT:
        good = parse_list(value, 1, 65536, &lists->in_flights);
        break;
    case OPTION_CLIENTS:
        good = parse_list(value, 1, BENCH_CLIENTS_MAX, &lists->clients);
        break;
    case OPTION_LOGS:
        good = parse_list(value, 1, BENCH_LOGS_MAX, &lists->logs);
        break;
    case OPTION_OVER:
        options->over = parse_word(value, overs);
        good = options->over >= 0;
        break;
    case OPTION_LENGTH:
        good = parse_list(value, 1, 1000, &lists->lengths);
        for (unsigned i = 1; i < lists->lengths.count; i++)
            good = good && lists->lengths.values[i] > lists->lengths.values[i - 1];
        break;
    case OPTION_WORKERS:
        good = parse_whole(value, 1, 16, &options->workers);
        break;
    case OPTION_RATE:
        good = parse_whole(value, 1, 1e9, &options->rate);
        break;
    case OPTION_SECONDS:
        good = parse_number(value, 0.1, 86400, &options->seconds);
        break;
    case OPTION_WARM:
        good = parse_number(value, 0, 3600, &options->warm_seconds);
        break;
    case OPTION_DIRECTORY:
        options->directory = value;
        break;
    case OPTION_SHARE:
        good = parse_whole(value, 1, 100, &options->share);
        break;
    case OPTION_RETAIN:
        good = parse_whole(value, 1, 1 << 20, &options->retain_mib);
        break;
    case OPTION_NO_LIMITS:
        options->no_limits = true;
        break;
    case OPTION_NO_PIN:
        options->no_pin = true;
        break;
    case OPTION_JSON:
        options->json = true;
        break;
    case OPTION_HTML:
        options->html = value;
        break;
    case OPTION_QUIET:
        options->quiet = true;
        break;
    default:
        return usage_error("an option is not known or lacks its value", NULL);
    }
    return good ? 0 : usage_error("this value is not allowed here:", value);
}

#define USES_HOST   (BIT(OPTION_NET) | BIT(OPTION_DIRECTORY) | BIT(OPTION_JSON) | BIT(OPTION_QUIET))
#define USES_NODES  (USES_HOST | BIT(OPTION_PROFILE) | BIT(OPTION_HTML) | BIT(OPTION_NO_PIN))
#define USES_APPEND (BIT(OPTION_ACK) | BIT(OPTION_SIZE) | BIT(OPTION_IN_FLIGHT))
#define USES_LOAD                                                                                  \
    (USES_APPEND | BIT(OPTION_CLIENTS) | BIT(OPTION_RATE) | BIT(OPTION_SECONDS) | BIT(OPTION_WARM))
/* A running node is as it is. */
#define NOT_ATTACHED                                                                               \
    (BIT(OPTION_LOCAL) | BIT(OPTION_PROFILE) | BIT(OPTION_WORKERS) | BIT(OPTION_NO_PIN) |          \
     BIT(OPTION_LOGS))

static const struct command commands[] = {
    [COMMAND_LIMITS] = {"limits", false, USES_HOST | BIT(OPTION_LOCAL) | BIT(OPTION_SIZE)},
    [COMMAND_APPEND] = {"append", false,
                        USES_NODES | USES_LOAD | BIT(OPTION_LOCAL) | BIT(OPTION_ATTACH) |
                            BIT(OPTION_WORKERS) | BIT(OPTION_LOGS) | BIT(OPTION_NO_LIMITS)},
    [COMMAND_TAIL] = {"tail", false,
                      USES_NODES | USES_LOAD | BIT(OPTION_LOCAL) | BIT(OPTION_ATTACH) |
                          BIT(OPTION_WORKERS) | BIT(OPTION_READERS)},
    [COMMAND_FAILOVER] = {"failover", false,
                          USES_NODES | USES_APPEND | BIT(OPTION_LOCAL) | BIT(OPTION_WORKERS) |
                              BIT(OPTION_FAULT) | BIT(OPTION_RUNS)},
    [COMMAND_BREAKDOWN] = {"breakdown", false, USES_NODES | USES_LOAD | BIT(OPTION_LOCAL)},
    [COMMAND_SUSTAIN] = {"sustain", false,
                         USES_NODES | USES_LOAD | BIT(OPTION_LOCAL) | BIT(OPTION_SHARE) |
                             BIT(OPTION_RETAIN) | BIT(OPTION_WORKERS) | BIT(OPTION_NO_LIMITS)},
    [COMMAND_SWEEP] = {"sweep", true,
                       USES_NODES | USES_LOAD | BIT(OPTION_LOCAL) | BIT(OPTION_WORKERS) |
                           BIT(OPTION_LOGS) | BIT(OPTION_NO_LIMITS)},
    [COMMAND_SCALE] = {"scale", false,
                       USES_NODES | USES_LOAD | BIT(OPTION_WORKERS) | BIT(OPTION_OVER) |
                           BIT(OPTION_LENGTH) | BIT(OPTION_NO_LIMITS)},
};

/* Says which of the options that were given is not used; 0: each is. */
static int refuse_unused(const struct arguments *arguments)
{
    const struct bench_options *options = &arguments->options;
    const struct command *command = &commands[arguments->command];
    const char *what = command->name;
    uint32_t unused = arguments->given & ~command->uses;
    if (unused == 0 && options->attach) {
        unused = arguments->given & NOT_ATTACHED;
        what = "a node that runs already (--attach)";
    } else if (unused == 0 && options->over >= 0 && options->over != BENCH_OVER_LENGTH) {
        unused = arguments->given & BIT(OPTION_LENGTH);
        what = "scale --over another thing";
    }
    if (unused == 0 && arguments->command == COMMAND_SCALE && options->over != BENCH_OVER_LENGTH) {
        unused = arguments->given & BIT(OPTION_CLIENTS);
        what = "scale but with --over length";
    }
    for (const struct option *option = long_options; option->name && unused; option++) {
        if (option->val >= OPTION_LOCAL && (unused & BIT(option->val))) {
            char text[64];
            snprintf(text, sizeof(text), "--%s is not for", option->name);
            return usage_error(text, what);
        }
    }
    return 0;
}

/* What is measured once is the first of each list; more of them only in a sweep. */
static int settle(struct arguments *arguments)
{
    struct bench_options *options = &arguments->options;
    struct bench_lists *lists = &arguments->lists;
    const struct {
        const struct bench_list *list;
        uint32_t *value;
    } firsts[] = {{&lists->nodes, &options->nodes},
                  {&lists->logs, &options->logs},
                  {&lists->sizes, &options->size_bytes},
                  {&lists->clients, &options->clients},
                  {&lists->in_flights, &options->in_flight}};
    bool one = lists->levels.count < 2;
    if (refuse_unused(arguments))
        return 2;
    if (lists->levels.count > 0)
        options->replicated = lists->levels.values[0] != 0;
    for (unsigned i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
        one = one && firsts[i].list->count < 2;
        if (firsts[i].list->count > 0)
            *firsts[i].value = firsts[i].list->values[0];
    }
    if (!one && !commands[arguments->command].lists)
        return usage_error("lists are for sweep, not for", commands[arguments->command].name);
    if (!(arguments->given & BIT(OPTION_SECONDS)) &&
        (arguments->command == COMMAND_SWEEP || arguments->command == COMMAND_SCALE))
        options->seconds = 1;
    if (!(arguments->given & BIT(OPTION_SECONDS)) && arguments->command == COMMAND_SUSTAIN)
        options->seconds = SUSTAIN_SECONDS;
    if (options->share > 0 && options->rate > 0)
        return usage_error("one of --share and --rate", NULL);
    return 0;
}

static bool command_of(const char *name, enum command_name *ret_command)
{
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) != 0)
            continue;
        *ret_command = (enum command_name)i;
        return true;
    }
    return false;
}

int arguments_read(int argc, char **argv, struct arguments *ret_arguments)
{
    static const struct bench_options defaults = {
        .net = "memif",
        .profile = "development",
        .directory = "/var/tmp",
        .over = -1,
        .runs = 10,
        .readers = 1,
        .retain_mib = 64,
        .size_bytes = 64,
        .in_flight = 1,
        .clients = 1,
        .logs = 1,
        .workers = 1,
        .seconds = 3,
        .warm_seconds = 0.5,
    };
    struct arguments *arguments = ret_arguments;
    int code;
    *arguments = (struct arguments){.options = defaults};
    while ((code = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (code == OPTION_HELP || code == 'h') {
            fputs(usage, stdout);
            return ARGUMENTS_HELP;
        }
        int rc = take_option(arguments, code, optarg);
        if (rc != 0)
            return rc;
    }
    if (optind + 1 != argc)
        return usage_error(
            "say what to do: limits, append, tail, breakdown, sustain, failover, sweep or scale",
            NULL);
    if (!command_of(argv[optind], &arguments->command))
        return usage_error("not known:", argv[optind]);
    return settle(arguments);
}
