/* SPDX-License-Identifier: Apache-2.0
 *
 * One measurement of appends after another, over all combinations of what the lists name. Clusters
 * are shared by those that differ in their clients only.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

/* Returns 0 or 1. */
static int sweep_clients(const struct bench_options *options, const struct bench_lists *lists,
                         struct bench_cluster *cluster, struct bench_limits *limits)
{
    struct bench_options point = *options;
    for (unsigned s = 0; s < lists->sizes.count; s++) {
        for (unsigned f = 0; f < lists->in_flights.count; f++) {
            for (unsigned c = 0; c < lists->clients.count; c++) {
                struct bench_result result;
                point.size_bytes = lists->sizes.values[s];
                point.in_flight = lists->in_flights.values[f];
                point.clients = lists->clients.values[c];
                int failed = load_run(&point, cluster, &result);
                if (!failed && !bench_interrupted)
                    report_point(&point, limits, &result);
                free(result.timeline);
                if (failed || bench_interrupted)
                    return 1;
            }
        }
    }
    return 0;
}

static int sweep_levels(const struct bench_options *options, const struct bench_lists *lists,
                        struct bench_cluster *cluster, struct bench_limits *limits)
{
    struct bench_options point = *options;
    for (unsigned a = 0; a < lists->levels.count; a++) {
        point.replicated = lists->levels.values[a] != 0;
        if (sweep_clients(&point, lists, cluster, limits))
            return 1;
    }
    return 0;
}

int sweep_run(const struct bench_options *options, const struct bench_lists *lists,
              struct bench_cluster *cluster, struct bench_limits *limits)
{
    struct bench_options point = *options;
    for (unsigned n = 0; n < lists->nodes.count; n++) {
        for (unsigned l = 0; l < lists->logs.count; l++) {
            point.nodes = lists->nodes.values[n];
            point.logs = lists->logs.values[l];
            point.replicated = true; /* as the logs are made: they take both levels */
            int failed = cluster_start(&point, cluster) || logs_make(&point, cluster) ||
                         sweep_levels(&point, lists, cluster, limits);
            cluster_stop(cluster);
            free(cluster->log_ids);
            cluster->log_ids = NULL;
            if (failed || bench_interrupted)
                return 1;
        }
    }
    return 0;
}

static const struct bench_list one = {.count = 1, .values = {1}},
                               three = {.count = 1, .values = {3}};

int scale_run(const struct bench_options *options, const struct bench_list *lengths,
              struct bench_cluster *cluster, struct bench_limits *limits)
{
    struct bench_lists base = {
        .nodes = three,
        .logs = one,
        .levels = {.count = 1, .values = {options->replicated}},
        .sizes = {.count = 1, .values = {options->size_bytes}},
        .in_flights = {.count = 1, .values = {options->in_flight}},
        .clients = one,
    };
    struct bench_lists logs = base, nodes = base, clients = base;
    logs.logs = (struct bench_list){.count = 4, .values = {1, 16, 256, BENCH_LOGS_MAX}};
    nodes.nodes = (struct bench_list){.count = 4, .values = {1, 3, 5, 7}};
    clients.clients = (struct bench_list){.count = 5, .values = {1, 4, 16, 32, 64}};
    const struct bench_lists *sweeps[] = {
        [BENCH_OVER_LOGS] = &logs, [BENCH_OVER_NODES] = &nodes, [BENCH_OVER_CLIENTS] = &clients};
    for (int over = BENCH_OVER_LOGS; over <= BENCH_OVER_CLIENTS; over++) {
        if ((options->over < 0 || options->over == over) &&
            sweep_run(options, sweeps[over], cluster, limits))
            return 1;
    }
    return (options->over < 0 || options->over == BENCH_OVER_LENGTH) &&
           length_run(options, lengths, cluster, limits);
}
