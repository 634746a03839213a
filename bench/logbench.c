/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const char usage[] =
    "usage: logbench limits [--net memif] [--directory DIR] [--json]\n"
    "       logbench append --local NODES | --attach SOCKET [options]\n"
    "\n"
    "limits measures this machine: round trips between two processes over shared words and\n"
    "over the raw port, and the durable 4 KiB write, alone and with as many writers as nodes.\n"
    "append starts a private cluster (or attaches to a node), appends, and prints latency and\n"
    "rate beside the limits measured in the same run.\n"
    "\n"
    "  --local N         1, 3, 5 or 7 nodes on this host\n"
    "  --attach SOCKET   a running node's control socket instead\n"
    "  --net KIND        memif [memif]\n"
    "  --ack LEVEL       durable: on disk on a majority; replicated: in memory on one [durable]\n"
    "  --size BYTES      of a record [64]\n"
    "  --inflight N      appends not ended at one time, per client [1]\n"
    "  --clients N       threads that append, each with its own rings [1]\n"
    "  --logs N          the appends go round over N logs, all led by the clients' node [1]\n"
    "  --workers N       of each node [1]\n"
    "  --rate R          appends a second in all, open loop [0: as fast as the window lets]\n"
    "  --seconds S       measured time [3]\n"
    "  --warm S          time before it [0.5]\n"
    "  --directory DIR   on a real disk; everything in it that is logbench's is removed "
    "[/var/tmp]\n"
    "  --no-pin          leaves it to the scheduler which node and client runs where [the\n"
    "                    leader beside the clients, the others on the other cores]\n"
    "  --no-limits       leaves the machine's limits out\n"
    "  --json            one JSON object on stdout\n"
    "  --quiet           no progress line\n"
    "  --help\n"
    "\n"
    "example: logbench append --local 3 --ack durable --size 64 --inflight 1 --seconds 3\n"
    "exit codes: 0 measured, 1 failed, 2 usage\n";

enum option_code {
    OPTION_LOCAL = 256,
    OPTION_ATTACH,
    OPTION_NET,
    OPTION_ACK,
    OPTION_SIZE,
    OPTION_IN_FLIGHT,
    OPTION_CLIENTS,
    OPTION_LOGS,
    OPTION_WORKERS,
    OPTION_RATE,
    OPTION_SECONDS,
    OPTION_WARM,
    OPTION_DIRECTORY,
    OPTION_NO_LIMITS,
    OPTION_NO_PIN,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"local", required_argument, NULL, OPTION_LOCAL},
    {"attach", required_argument, NULL, OPTION_ATTACH},
    {"net", required_argument, NULL, OPTION_NET},
    {"ack", required_argument, NULL, OPTION_ACK},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"inflight", required_argument, NULL, OPTION_IN_FLIGHT},
    {"clients", required_argument, NULL, OPTION_CLIENTS},
    {"logs", required_argument, NULL, OPTION_LOGS},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"warm", required_argument, NULL, OPTION_WARM},
    {"directory", required_argument, NULL, OPTION_DIRECTORY},
    {"no-limits", no_argument, NULL, OPTION_NO_LIMITS},
    {"no-pin", no_argument, NULL, OPTION_NO_PIN},
    {"json", no_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static struct bench_cluster running; /* for the signal handler's sake */
volatile sig_atomic_t bench_interrupted;

static int usage_error(const char *what, const char *value)
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

/* Returns 0, or 2 after a line. */
static int take_option(struct bench_options *options, int code, const char *value)
{
    double number = 0;
    bool good = true;
    switch (code) {
    case OPTION_LOCAL:
        good = parse_number(value, 1, 7, &number) && (unsigned)number % 2 == 1;
        options->nodes = (unsigned)number;
        break;
    case OPTION_ATTACH:
        options->attach = value;
        break;
    case OPTION_NET:
        good = strcmp(value, "memif") == 0;
        options->net = value;
        break;
    case OPTION_ACK:
        options->replicated = strcmp(value, "replicated") == 0;
        good = options->replicated || strcmp(value, "durable") == 0;
        break;
    case OPTION_SIZE:
        good = parse_number(value, 0, 1 << 20, &number);
        options->size_bytes = (uint32_t)number;
        break;
    case OPTION_IN_FLIGHT:
        good = parse_number(value, 1, 65536, &number);
        options->in_flight = (uint32_t)number;
        break;
    case OPTION_CLIENTS:
        good = parse_number(value, 1, BENCH_CLIENTS_MAX, &number);
        options->clients = (uint32_t)number;
        break;
    case OPTION_LOGS:
        good = parse_number(value, 1, 1000, &number);
        options->logs = (uint32_t)number;
        break;
    case OPTION_WORKERS:
        good = parse_number(value, 1, 16, &number);
        options->workers = (uint32_t)number;
        break;
    case OPTION_RATE:
        good = parse_number(value, 0, 1e9, &number);
        options->rate = (uint64_t)number;
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
    case OPTION_NO_LIMITS:
        options->no_limits = true;
        break;
    case OPTION_NO_PIN:
        options->no_pin = true;
        break;
    case OPTION_JSON:
        options->json = true;
        break;
    case OPTION_QUIET:
        options->quiet = true;
        break;
    default:
        return usage_error("an option is not known or lacks its value", NULL);
    }
    return good ? 0 : usage_error("this value is not allowed here:", value);
}

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    bench_interrupted = 1;
    for (unsigned i = 0; i < running.count; i++) {
        if (running.pids[i] > 0)
            kill(running.pids[i], SIGTERM); /* the appends then end, and the run with them */
    }
}

static int run_limits(struct bench_options *options)
{
    struct bench_limits limits;
    if (limits_measure(options, true, true, &limits))
        return 1;
    report_limits(options, &limits);
    return 0;
}

static int run_append(struct bench_options *options)
{
    static struct bench_result result;
    struct bench_limits limits = {0};
    if (!options->attach && options->nodes == 0)
        return usage_error("append needs --local NODES or --attach SOCKET", NULL);
    if (!options->no_limits && limits_measure(options, options->nodes != 1, true, &limits))
        return 1;
    if (!options->attach && cluster_start(options, &running))
        return 1;
    if (options->attach && options->logs != 1)
        return usage_error("--logs needs a cluster of its own: --local NODES", NULL);
    int failed =
        logs_make(options, &running) || bench_interrupted || load_run(options, &running, &result);
    cluster_stop(&running);
    free(running.log_ids);
    if (!failed && !bench_interrupted)
        report_append(options, &limits, &result);
    return failed || bench_interrupted;
}

int main(int argc, char **argv)
{
    struct bench_options options = {
        .net = "memif",
        .directory = "/var/tmp",
        .size_bytes = 64,
        .in_flight = 1,
        .clients = 1,
        .logs = 1,
        .workers = 1,
        .seconds = 3,
        .warm_seconds = 0.5,
    };
    int code;
    while ((code = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (code == OPTION_HELP || code == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        int rc = take_option(&options, code, optarg);
        if (rc != 0)
            return rc;
    }
    if (optind + 1 != argc)
        return usage_error("say what to do: limits or append", NULL);
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    bool limits = strcmp(argv[optind], "limits") == 0;
    if (!limits && strcmp(argv[optind], "append") != 0)
        return usage_error("not known:", argv[optind]);
    int failed = limits ? run_limits(&options) : run_append(&options);
    if (bench_interrupted)
        fprintf(stderr, "logbench: interrupted\n");
    return failed;
}
