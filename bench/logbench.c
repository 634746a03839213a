/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "html.h"
#include "options.h"

static struct bench_cluster running; /* for the signal handler's sake */
volatile sig_atomic_t bench_interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    bench_interrupted = 1;
    for (unsigned i = 0; i < running.count; i++) {
        if (running.pids[i] > 0)
            kill(running.pids[i], SIGTERM); /* the appends then end, and the run with them */
    }
}

/* ---- commands ---- */

static int run_limits(struct arguments *arguments)
{
    struct bench_limits limits;
    if (limits_measure(&arguments->options, BENCH_LIMIT_ALL, &limits))
        return 1;
    report_limits(&arguments->options, &limits);
    return 0;
}

/* One node needs no port. */
static unsigned with_net(const struct bench_options *options, unsigned which)
{
    return options->nodes == 1 ? which & ~BENCH_LIMIT_NET : which | BENCH_LIMIT_NET;
}

/* A cluster and its logs, or nothing to do where a running node is attached to. */
static int prepare(struct bench_options *options)
{
    if (!options->attach && options->nodes == 0)
        return usage_error("say where: --local NODES or --attach SOCKET", NULL);
    if (!options->attach && cluster_start(options, &running))
        return 1;
    return logs_make(options, &running) || bench_interrupted;
}

static void put_away(void)
{
    cluster_stop(&running);
    free(running.log_ids);
}

static int run_append(struct arguments *arguments)
{
    struct bench_options *options = &arguments->options;
    static struct bench_result result;
    struct bench_limits limits = {0};
    if ((options->attach || options->nodes > 0) && !options->no_limits &&
        limits_measure(options, with_net(options, BENCH_LIMIT_WRITE), &limits))
        return 1;
    int failed = prepare(options);
    if (!failed)
        failed = load_run(options, &running, &result);
    put_away();
    if (!failed && !bench_interrupted)
        report_append(options, &limits, &result);
    free(result.timeline);
    return failed;
}

static int run_tail(struct arguments *arguments)
{
    struct bench_options *options = &arguments->options;
    static struct bench_result load;
    static struct bench_tail tail;
    if (options->size_bytes < 8)
        return usage_error("tail needs records of at least 8 bytes, for the time they were sent",
                           NULL);
    int failed = prepare(options);
    if (!failed)
        failed = tail_run(options, &running, &load, &tail);
    put_away();
    if (!failed && !bench_interrupted)
        report_tail(options, &load, &tail);
    free(load.timeline);
    return failed;
}

static int run_sustain(struct arguments *arguments)
{
    struct bench_options *options = &arguments->options;
    static struct bench_result load;
    static struct bench_sustain sustain;
    struct bench_limits limits = {0};
    if (options->nodes == 0)
        options->nodes = 3;
    if (!options->no_limits && limits_measure(options, with_net(options, BENCH_LIMIT_ALL), &limits))
        return 1;
    int failed = prepare(options);
    if (!failed)
        failed = sustain_run(options, &running, &load, &sustain);
    put_away();
    options->rate = sustain.offered_rate;
    if (!failed && !bench_interrupted)
        report_sustain(options, &limits, &load, &sustain);
    free(load.timeline);
    return failed;
}

static int run_breakdown(struct arguments *arguments)
{
    struct bench_options *options = &arguments->options;
    static struct bench_result load;
    static struct bench_breakdown breakdown;
    options->trace = true;
    if (options->nodes == 0)
        options->nodes = 3;
    int failed = prepare(options);
    if (!failed)
        failed = breakdown_run(options, &running, &load, &breakdown);
    put_away();
    if (!failed && !bench_interrupted)
        report_breakdown(options, &load, &breakdown);
    free(load.timeline);
    free(load.samples);
    return failed;
}

static int run_failover(struct arguments *arguments)
{
    struct bench_options *options = &arguments->options;
    static struct bench_failover failover;
    options->no_pin = true; /* each node leads in its turn */
    if (options->nodes == 0)
        options->nodes = 3;
    if (options->nodes < 3)
        return usage_error("failover needs 3, 5 or 7 nodes", NULL);
    int failed = prepare(options);
    if (!failed)
        failed = failover_run(options, &running, &failover);
    put_away();
    if (!failed && !bench_interrupted)
        report_failover(options, &failover);
    return failed;
}

static void or_else(struct bench_list *list, struct bench_list otherwise)
{
    if (list->count == 0)
        *list = otherwise;
}

static int run_sweep(struct arguments *arguments)
{
    struct bench_limits limits = {0};
    struct bench_lists *lists = &arguments->lists;
    or_else(&lists->nodes, (struct bench_list){1, {3}});
    or_else(&lists->logs, (struct bench_list){1, {1}});
    or_else(&lists->levels, (struct bench_list){2, {0, 1}});
    or_else(&lists->sizes, (struct bench_list){6, {32, 64, 288, 1024, 4096, 65536}});
    or_else(&lists->in_flights, (struct bench_list){3, {1, 64, 1024}});
    or_else(&lists->clients, (struct bench_list){2, {1, 4}});
    if (!arguments->options.no_limits &&
        limits_measure(&arguments->options, BENCH_LIMIT_NET | BENCH_LIMIT_WRITE, &limits))
        return 1;
    return sweep_run(&arguments->options, lists, &running, &limits);
}

static int run_scale(struct arguments *arguments)
{
    struct bench_limits limits = {0};
    if (arguments->lists.in_flights.count == 0)
        arguments->options.in_flight = 64;
    if (!arguments->options.no_limits &&
        limits_measure(&arguments->options, BENCH_LIMIT_ALL, &limits))
        return 1;
    or_else(&arguments->lists.lengths, (struct bench_list){1, {1}});
    return scale_run(&arguments->options, &arguments->lists.lengths, &running, &limits);
}

int main(int argc, char **argv)
{
    static int (*const runs[])(struct arguments * arguments) = {
        [COMMAND_LIMITS] = run_limits,       [COMMAND_APPEND] = run_append,
        [COMMAND_TAIL] = run_tail,           [COMMAND_FAILOVER] = run_failover,
        [COMMAND_BREAKDOWN] = run_breakdown, [COMMAND_SWEEP] = run_sweep,
        [COMMAND_SCALE] = run_scale,         [COMMAND_SUSTAIN] = run_sustain,
    };
    struct arguments arguments;
    int rc = arguments_read(argc, argv, &arguments);
    if (rc != 0)
        return rc == ARGUMENTS_HELP ? 0 : rc;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (arguments.options.html && html_begin(arguments.options.html))
        return 1;
    rc = runs[arguments.command](&arguments);
    if (bench_interrupted)
        fprintf(stderr, "logbench: interrupted\n");
    rc = bench_interrupted ? 1 : rc;
    return html_end(rc == 0) ? 1 : rc;
}
