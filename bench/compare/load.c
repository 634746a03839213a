/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../cpu.h"
#include "base/histogram.h"

#define LOAD_DRAIN_S 5.0 /* for what is in flight at the end */

static struct {
    struct load_options options;
    struct leat_histogram latency; /* of what was started within what is measured */
    uint64_t began_ns;
    bool measuring, over;
    double client_cpu_s, servers_cpu_s, seconds; /* of the measured phase, when it is over */
    uint64_t measure_ns;                         /* when it began; 0: warming up */
    uint32_t in_flight;
    uint64_t appends; /* that ended within it */
    uint64_t errors;  /* within it and after it */
} load;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void usage(const char *what)
{
    fprintf(stderr,
            "load: %s: --address A --size BYTES --inflight N --warm S --seconds S "
            "[--pids P,...] [--mode M]\n",
            what);
    exit(2);
}

static void take_pids(char *text)
{
    for (char *word; (word = strsep(&text, ",")) != NULL;) {
        if (load.options.pid_count == LOAD_PIDS_MAX)
            usage("too many pids");
        load.options.pids[load.options.pid_count++] = atoi(word);
    }
}

void load_begin(int argc, char **argv, struct load_options *ret_options)
{
    struct load_options *options = &load.options;
    *options = (struct load_options){
        .mode = "", .size_bytes = 64, .in_flight = 1, .warm_seconds = 0.5, .seconds = 3};
    for (int i = 1; i < argc; i += 2) {
        char *value = argv[i + 1];
        if (!value)
            usage(argv[i]);
        else if (strcmp(argv[i], "--address") == 0)
            options->address = value;
        else if (strcmp(argv[i], "--mode") == 0)
            options->mode = value;
        else if (strcmp(argv[i], "--size") == 0)
            options->size_bytes = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--inflight") == 0)
            options->in_flight = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--warm") == 0)
            options->warm_seconds = atof(value);
        else if (strcmp(argv[i], "--seconds") == 0)
            options->seconds = atof(value);
        else if (strcmp(argv[i], "--pids") == 0)
            take_pids(value);
        else
            usage(argv[i]);
    }
    if (!options->address || options->in_flight == 0 || options->size_bytes == 0 ||
        options->seconds <= 0)
        usage("bad values");
    *ret_options = *options;
}

/* Taken at the begin of what is measured, and again at its end: then it holds what lies between. */
static void cpu_take(void)
{
    double servers = 0;
    for (unsigned i = 0; i < load.options.pid_count; i++)
        servers += cpu_seconds_of(load.options.pids[i]);
    load.servers_cpu_s = servers - load.servers_cpu_s;
    load.client_cpu_s = cpu_seconds_own() - load.client_cpu_s;
}

static double since_began_s(uint64_t ns)
{
    return load.began_ns ? (double)(ns - load.began_ns) / 1e9 : 0;
}

/* The phases go by time. */
static void load_tick(uint64_t ns)
{
    double gone = since_began_s(ns);
    if (!load.measuring && !load.over && gone >= load.options.warm_seconds) {
        load.measuring = true;
        load.measure_ns = ns;
        cpu_take();
    } else if (load.measuring && gone >= load.options.warm_seconds + load.options.seconds) {
        load.measuring = false;
        load.over = true;
        load.seconds = (double)(ns - load.measure_ns) / 1e9;
        cpu_take();
    }
}

bool load_may_start(void)
{
    return !load.over && load.in_flight < load.options.in_flight;
}

uint64_t load_start(void)
{
    uint64_t ns = now_ns();
    if (load.began_ns == 0)
        load.began_ns = ns;
    load.in_flight++;
    return ns;
}

void load_end(uint64_t stamp, bool good)
{
    uint64_t ns = now_ns();
    load.in_flight--;
    load_tick(ns);
    if (load.measure_ns == 0)
        return;
    if (!good) {
        load.errors++;
        return;
    }
    if (!load.over)
        load.appends++;
    if (stamp >= load.measure_ns)
        leat_histogram_record(&load.latency, ns - stamp);
}

bool load_is_over(void)
{
    uint64_t ns = now_ns();
    load_tick(ns);
    double most = load.options.warm_seconds + load.options.seconds + LOAD_DRAIN_S;
    return (load.over && load.in_flight == 0) || since_began_s(ns) > most;
}

int load_report(void)
{
    printf("{\"appends\":%" PRIu64 ",\"errors\":%" PRIu64
           ",\"seconds\":%.3f,\"p50_us\":%.2f,\"p99_us\":%.2f,\"max_us\":%.2f,"
           "\"client_cpu_s\":%.3f,\"servers_cpu_s\":%.3f,\"left\":%u}\n",
           load.appends, load.errors, load.seconds,
           (double)leat_histogram_at(&load.latency, 0.5) / 1e3,
           (double)leat_histogram_at(&load.latency, 0.99) / 1e3, (double)load.latency.max_ns / 1e3,
           load.client_cpu_s, load.servers_cpu_s, load.in_flight);
    return load.in_flight > 0 || load.appends == 0;
}
