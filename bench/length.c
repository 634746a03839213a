/* SPDX-License-Identifier: Apache-2.0
 *
 * What the length of a log costs: one is filled, and at each of some lengths it is measured how
 * fast appends are, and how long a cluster that was killed as a whole takes to its first
 * acknowledged one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "bench.h"
#include "dataplane/clock.h"
#include "leat/leat.h"

#define LENGTH_RECORD_BYTES 65536u
#define LENGTH_WINDOW       64u
#define LENGTH_BATCH        64u
#define LENGTH_TIMEOUT_NS   60000000000u
#define GIB                 (1ull << 30)

/* The log once on each node, and the segments that are made ahead. */
static int has_room(const struct bench_options *options, uint32_t gib)
{
    struct statvfs status;
    if (statvfs(options->directory, &status) != 0) {
        fprintf(stderr, "logbench: %s: %s\n", options->directory, strerror(errno));
        return 0;
    }
    uint64_t there = (uint64_t)status.f_bavail * status.f_frsize;
    uint64_t needed = options->nodes * ((uint64_t)gib * GIB + GIB);
    if (there >= needed)
        return 1;
    fprintf(stderr,
            "logbench: %u nodes with a log of %u GiB need %lu GiB in %s, where %lu are free; "
            "--length takes less\n",
            options->nodes, gib, (unsigned long)(needed / GIB), options->directory,
            (unsigned long)(there / GIB));
    return 0;
}

/* Appends until the log ends at `end_pos` or beyond. */
static int fill(const struct bench_options *options, const struct bench_cluster *cluster,
                uint64_t end_pos)
{
    struct leat_options attach = {.socket = cluster->sockets[cluster->leader],
                                  .ring_bytes = 16u << 20,
                                  .in_flight_max = LENGTH_WINDOW};
    struct leat_client *client;
    struct leat_result results[LENGTH_BATCH];
    uint8_t *bytes = calloc(1, LENGTH_RECORD_BYTES);
    uint64_t at = 0, sequence;
    int rc = bytes ? leat_attach(&attach, &client) : LEAT_ENOMEM;
    if (rc != LEAT_OK) {
        free(bytes);
        return 1;
    }
    while (rc == LEAT_OK && at < end_pos && !bench_interrupted) {
        rc = leat_append_start(client, BENCH_LOG, bytes, LENGTH_RECORD_BYTES, LEAT_ACK_DURABLE,
                               LENGTH_TIMEOUT_NS, 0, &sequence);
        if (rc != LEAT_OK && rc != LEAT_EAGAIN)
            break;
        int count = rc == LEAT_EAGAIN ? leat_wait(client, results, LENGTH_BATCH, LENGTH_TIMEOUT_NS)
                                      : leat_poll(client, results, LENGTH_BATCH);
        rc = count < 0 ? count : LEAT_OK;
        for (int i = 0; i < count; i++) {
            rc = results[i].error != LEAT_OK ? results[i].error : rc;
            at = results[i].position > at ? results[i].position : at;
        }
        progress(options, "filling: %.1f of %.1f GiB", (double)at / GIB, (double)end_pos / GIB);
    }
    if (rc == LEAT_OK)
        rc = leat_flush(client, LENGTH_TIMEOUT_NS);
    leat_detach(client);
    free(bytes);
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: filling the log: %s\n", leat_error_text(rc));
    return rc != LEAT_OK || bench_interrupted;
}

/* One append to a cluster that was just started. */
static int first_append(const struct bench_cluster *cluster)
{
    struct leat_options attach = {.socket = cluster->sockets[cluster->leader],
                                  .attach_timeout_ns = LENGTH_TIMEOUT_NS};
    struct leat_client *client;
    struct leat_result result;
    int rc = leat_attach(&attach, &client);
    if (rc == LEAT_OK) {
        rc = leat_append(client, BENCH_LOG, "x", 1, LEAT_ACK_DURABLE, LENGTH_TIMEOUT_NS, &result);
        leat_detach(client);
    }
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: after the restart: %s\n", leat_error_text(rc));
    return rc != LEAT_OK;
}

/* `longest`: nothing comes after it, so a node may be stopped and looked at. */
static int measure(const struct bench_options *options, struct bench_cluster *cluster, uint32_t gib,
                   bool longest, struct bench_limits *limits)
{
    struct bench_result result;
    if (fill(options, cluster, gib * GIB))
        return 1;
    int failed = load_run(options, cluster, &result);
    uint64_t begin_ns = leat_clock_monotonic_ns();
    failed = failed || cluster_restart(options, cluster, &begin_ns) || first_append(cluster);
    result.log_gib = gib;
    result.restart_seconds = (double)(leat_clock_monotonic_ns() - begin_ns) / 1e9;
    if (!failed && longest && !bench_interrupted) {
        progress(options, "verifying %u GiB", gib);
        result.verify_bytes_s = cluster_verify(cluster, 0, gib * GIB);
        failed = result.verify_bytes_s == 0;
    }
    if (!failed && !bench_interrupted)
        report_point(options, limits, &result);
    free(result.timeline);
    return failed || bench_interrupted;
}

int length_run(const struct bench_options *options, const struct bench_list *lengths,
               struct bench_cluster *cluster, struct bench_limits *limits)
{
    struct bench_options point = *options;
    uint32_t longest = 0;
    for (unsigned i = 0; i < lengths->count; i++)
        longest = lengths->values[i] > longest ? lengths->values[i] : longest;
    point.nodes = 3;
    point.logs = 1; /* the one that is filled */
    if (!has_room(&point, longest))
        return 1;
    int failed = cluster_start(&point, cluster) || logs_make(&point, cluster);
    for (unsigned i = 0; i < lengths->count && !failed; i++)
        failed = measure(&point, cluster, lengths->values[i], i + 1 == lengths->count, limits);
    cluster_stop(cluster);
    free(cluster->log_ids);
    cluster->log_ids = NULL;
    return failed;
}
