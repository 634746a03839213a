/* SPDX-License-Identifier: Apache-2.0
 *
 * What was seen: a table for people, one JSON object for programs.
 */
#include <stdio.h>

#include "bench.h"
#include "parts.h"

void report_limits(const struct bench_options *options, const struct bench_limits *limits)
{
    progress_clear();
    if (!options->json) {
        print_limits(options, limits);
        return;
    }
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "bench", "limits");
    cJSON_AddItemToObject(object, "limits", limits_json(limits));
    cJSON_AddItemToObject(object, "host", host_json(options));
    emit(options, object);
}

/* p50 over what the level cannot go below: the shared durable write, or the wire and the hand-over.
 */
static double ratio_to_limit(const struct bench_options *options, const struct bench_limits *limits,
                             uint64_t p50_ns)
{
    uint64_t limit = options->replicated ? limits->net_rtt_ns_p50 + limits->shm_rtt_ns_p50
                                         : limits->disk_shared_ns_p50;
    return limit ? (double)p50_ns / (double)limit : 0;
}

static void print_rate(const struct bench_options *options, const struct bench_result *result)
{
    if (options->rate == 0)
        return;
    printf("  open loop: %u/s offered, %.0f/s done", options->rate,
           (double)result->appends / result->seconds);
    if (result->behind > 0)
        printf("; %lu that were due had not been started at the stop",
               (unsigned long)result->behind);
    printf("\n");
}

static void print_append(const struct bench_options *options, const struct bench_limits *limits,
                         const struct bench_result *result)
{
    const struct leat_histogram *latency = &result->latency;
    printf("append  %u node%s over %s, %s, %u B, %u in flight, %u client%s, %.1f s\n",
           options->nodes, options->nodes == 1 ? "" : "s", options->net,
           options->replicated ? "replicated" : "durable", options->size_bytes, options->in_flight,
           options->clients, options->clients == 1 ? "" : "s", result->seconds);
    print_latency(result);
    print_rate(options, result);
    print_slowest(result);
    printf("  %.2f us of cpu an append in the nodes, %.2f in the clients, %.0f MiB a node",
           result->cpu_us_per_append, result->client_cpu_seconds * 1e6 / (double)result->appends,
           result->rss_mib_per_node);
    double ratio = ratio_to_limit(options, limits, leat_histogram_at(latency, 0.5));
    if (ratio > 0)
        printf(", p50 is %.2f x the limit", ratio);
    printf("\n");
    if (!options->no_limits)
        print_limits(options, limits);
}

static void append_json(const struct bench_options *options, const struct bench_limits *limits,
                        const struct bench_result *result)
{
    cJSON *object = run_json(options, "append");
    add_result(object, result);
    if (!options->no_limits) {
        cJSON_AddItemToObject(object, "limits", limits_json(limits));
        cJSON_AddNumberToObject(
            object, "ratio_to_limit",
            ratio_to_limit(options, limits, leat_histogram_at(&result->latency, 0.5)));
    }
    cJSON_AddItemToObject(object, "host", host_json(options));
    emit(options, object);
}

void report_append(const struct bench_options *options, const struct bench_limits *limits,
                   const struct bench_result *result)
{
    progress_clear();
    append_json(options, limits, result);
    if (!options->json)
        print_append(options, limits, result);
}

void report_point(const struct bench_options *options, const struct bench_limits *limits,
                  const struct bench_result *result)
{
    static bool headed;
    const struct leat_histogram *latency = &result->latency;
    progress_clear();
    append_json(options, limits, result);
    if (!options->json) {
        if (!headed)
            printf("nodes logs        ack   size inflight clients   appends/s    p50 us    p99 us"
                   "    max us   MB/s\n");
        printf("%5u %4u %10s %6u %8u %7u %11.0f %9.1f %9.1f %9.1f %6.1f\n", options->nodes,
               options->logs, options->replicated ? "replicated" : "durable", options->size_bytes,
               options->in_flight, options->clients, (double)result->appends / result->seconds,
               us(leat_histogram_at(latency, 0.5)), us(leat_histogram_at(latency, 0.99)),
               us(latency->max_ns),
               (double)result->appends * options->size_bytes / result->seconds / 1e6);
        if (result->log_gib > 0)
            printf("      behind %u GiB of log; all killed, %.2f s to the first append\n",
                   result->log_gib, result->restart_seconds);
        if (result->verify_bytes_s > 0)
            printf("      leat verify: %.1f MB/s%s\n", result->verify_bytes_s / 1e6,
                   over_text(result->verify_bytes_s, limits->disk_read_bytes_s, " of the reads"));
        headed = true;
    }
    fflush(stdout);
}

/* ---- readers ---- */

static double per_second(const struct bench_replay *replay, uint64_t count)
{
    return replay->seconds > 0 ? (double)count / replay->seconds : 0;
}

static void print_replay(const char *from, const struct bench_replay *replay)
{
    if (replay->records == 0)
        printf("  replay from %s: nothing, the log is too short; try a longer --seconds\n", from);
    else
        printf("  replay from %s: %.0f records/s, %.1f MB/s, of %lu records\n", from,
               per_second(replay, replay->records), per_second(replay, replay->bytes) / 1e6,
               (unsigned long)replay->records);
}

static void add_replay(cJSON *object, const char *name, const struct bench_replay *replay)
{
    cJSON *row = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(row, "records", (double)replay->records);
    cJSON_AddNumberToObject(row, "seconds", replay->seconds);
    cJSON_AddNumberToObject(row, "records_per_s", per_second(replay, replay->records));
    cJSON_AddNumberToObject(row, "bytes_per_s", per_second(replay, replay->bytes));
}

void report_tail(const struct bench_options *options, const struct bench_result *load,
                 const struct bench_tail *tail)
{
    progress_clear();
    cJSON *object = run_json(options, "tail");
    cJSON_AddNumberToObject(object, "readers", options->readers);
    add_result(object, load);
    add_latency(object, "follow_us", &tail->latency);
    cJSON *replay = cJSON_AddObjectToObject(object, "replay");
    add_replay(replay, "files", &tail->files);
    add_replay(replay, "memory", &tail->memory);
    cJSON_AddItemToObject(object, "host", host_json(options));
    emit(options, object);
    if (options->json)
        return;
    printf("tail    %u reader%s of %.0f appends/s, %s, %u B\n", options->readers,
           options->readers == 1 ? "" : "s", (double)load->appends / load->seconds,
           options->replicated ? "replicated" : "durable", options->size_bytes);
    printf("  from sent to read: p50 %.1f us, p99 %.1f us, max %.1f us, of %lu records\n",
           us(leat_histogram_at(&tail->latency, 0.5)), us(leat_histogram_at(&tail->latency, 0.99)),
           us(tail->latency.max_ns), (unsigned long)tail->latency.count);
    print_replay("files", &tail->files);
    print_replay("memory", &tail->memory);
}

/* ---- failover ---- */

static void print_times(const char *what, const struct leat_histogram *times)
{
    printf("  %-44s %9.2f %9.2f %9.2f\n", what, us(leat_histogram_at(times, 0.5)) / 1e3,
           us(leat_histogram_at(times, 0.9)) / 1e3, us(times->max_ns) / 1e3);
}

void report_failover(const struct bench_options *options, const struct bench_failover *failover)
{
    static const char *const faults[] = {"kill", "pause", "transfer"};
    progress_clear();
    cJSON *object = run_json(options, "failover");
    cJSON_AddStringToObject(object, "fault", faults[options->fault]);
    cJSON_AddNumberToObject(object, "runs", failover->runs);
    if (failover->first.count > 0)
        add_latency(object, "first_us", &failover->first);
    add_latency(object, "gap_us", &failover->gap);
    cJSON_AddItemToObject(object, "host", host_json(options));
    emit(options, object);
    if (options->json)
        return;
    printf(
        "failover  %u runs of %s, %u nodes, %s profile, %s, %u in flight, client at another node\n"
        "  %-44s %9s %9s %9s\n",
        failover->runs, faults[options->fault], options->nodes, options->profile,
        options->replicated ? "replicated" : "durable", options->in_flight, "", "p50 ms", "p90 ms",
        "max ms");
    if (failover->first.count > 0)
        print_times("to the first acknowledgement of a new append", &failover->first);
    print_times("the longest time without an acknowledgement", &failover->gap);
}

/* ---- for long ---- */

/* The longest wait, less the longest write of a disk and the longest time that a client's thread
 * did not look. Both hold some of the software's own time, so it added at least that. */
static uint64_t beyond(const struct bench_result *load, const struct bench_sustain *sustain)
{
    uint64_t excused = sustain->disk_write_ns_max + load->away_ns_max;
    return load->latency.max_ns > excused ? load->latency.max_ns - excused : 0;
}

static void print_sustain(const struct bench_options *options, const struct bench_limits *limits,
                          const struct bench_result *load, const struct bench_sustain *sustain)
{
    double bytes_s = (double)load->log_bytes * options->nodes / load->seconds;
    printf("sustain  %u nodes over %s, %s, %u B, %u in flight, %u client%s, %.1f s, the log keeps "
           "%u MiB\n",
           options->nodes, options->net, options->replicated ? "replicated" : "durable",
           options->size_bytes, options->in_flight, options->clients,
           options->clients == 1 ? "" : "s", load->seconds, options->retain_mib);
    print_latency(load);
    if (sustain->top_rate > 0)
        printf("  open loop: %u %% of %lu/s offered, %.0f/s done, %lu not started at the stop\n",
               options->share, (unsigned long)sustain->top_rate,
               (double)load->appends / load->seconds, (unsigned long)load->behind);
    printf("  log: %.1f MB/s committed, of all %u nodes together", bytes_s / 1e6, options->nodes);
    printf("%s", over_text(bytes_s, limits->disk_write_bytes_s, " of the disk in such blocks"));
    printf("%s\n", over_text(bytes_s, limits->disk_write_large_bytes_s, " by 1 MiB"));
    printf("  %lu MiB of log; 100 ms with a segment's roll: %lu, with a trim: %lu, with an "
           "election: %lu\n",
           (unsigned long)(load->log_bytes >> 20), (unsigned long)sustain->rolls,
           (unsigned long)sustain->trims, (unsigned long)sustain->elections);
    printf("  the longest wait %.1f ms; the longest write of a disk %.1f ms, the longest that a "
           "client did not\n  look %.1f ms: at least %.1f ms beyond both",
           (double)load->latency.max_ns / 1e6, (double)sustain->disk_write_ns_max / 1e6,
           (double)load->away_ns_max / 1e6, (double)beyond(load, sustain) / 1e6);
    if (sustain->worker_away_ns_max > 0)
        printf("; a worker was away for %.1f ms", (double)sustain->worker_away_ns_max / 1e6);
    printf("\n");
    print_slowest(load);
    if (!options->no_limits)
        print_limits(options, limits);
}

void report_sustain(const struct bench_options *options, const struct bench_limits *limits,
                    const struct bench_result *load, const struct bench_sustain *sustain)
{
    progress_clear();
    cJSON *object = run_json(options, "sustain");
    add_result(object, load);
    cJSON_AddNumberToObject(object, "retain_mib", options->retain_mib);
    cJSON_AddNumberToObject(object, "share", options->share);
    cJSON_AddNumberToObject(object, "top_rate", (double)sustain->top_rate);
    cJSON_AddNumberToObject(object, "prepared_bytes_max", (double)sustain->prepared_bytes);
    cJSON_AddNumberToObject(object, "log_bytes_s_all_nodes",
                            (double)load->log_bytes * options->nodes / load->seconds);
    cJSON_AddNumberToObject(object, "disk_write_us_max", us(sustain->disk_write_ns_max));
    cJSON_AddNumberToObject(object, "worker_away_us_max", us(sustain->worker_away_ns_max));
    cJSON_AddNumberToObject(object, "beyond_us", us(beyond(load, sustain)));
    if (!options->no_limits)
        cJSON_AddItemToObject(object, "limits", limits_json(limits));
    cJSON_AddItemToObject(object, "host", host_json(options));
    emit(options, object);
    if (!options->json)
        print_sustain(options, limits, load, sustain);
}

/* ---- where the time goes ---- */

static const char *const point_names[BENCH_POINTS] = {
    [BENCH_PICKED] = "the leader picked it up",
    [BENCH_SENT] = "first handed to the port",
    [BENCH_RECEIVED] = "a follower has it",
    [BENCH_LEADER_DURABLE] = "on the leader's disk",
    [BENCH_FOLLOWER_DURABLE] = "on a follower's disk",
    [BENCH_COMMITTED] = "committed",
    [BENCH_SEEN] = "the client saw it",
};

static const char *const point_after[BENCH_POINTS] = {
    [BENCH_PICKED] = "published",
    [BENCH_SENT] = "picked up",
    [BENCH_RECEIVED] = "handed to the port",
    [BENCH_LEADER_DURABLE] = "picked up",
    [BENCH_FOLLOWER_DURABLE] = "a follower has it",
    [BENCH_COMMITTED] = "a majority has it",
    [BENCH_SEEN] = "committed",
};

static cJSON *point_json(const struct bench_breakdown *breakdown, unsigned point)
{
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "point", point_names[point]);
    cJSON_AddStringToObject(row, "after", point_after[point]);
    cJSON_AddNumberToObject(row, "stage_p50", (double)breakdown->own[point].p50_ns / 1e3);
    cJSON_AddNumberToObject(row, "stage_p99", (double)breakdown->own[point].p99_ns / 1e3);
    cJSON_AddNumberToObject(row, "since_p50", (double)breakdown->since[point].p50_ns / 1e3);
    cJSON_AddNumberToObject(row, "since_p99", (double)breakdown->since[point].p99_ns / 1e3);
    return row;
}

void report_breakdown(const struct bench_options *options, const struct bench_result *load,
                      const struct bench_breakdown *breakdown)
{
    progress_clear();
    cJSON *object = run_json(options, "breakdown");
    add_result(object, load);
    cJSON_AddNumberToObject(object, "traced", breakdown->appends);
    cJSON_AddNumberToObject(object, "missed", breakdown->missed);
    cJSON *points = cJSON_AddArrayToObject(object, "points_us");
    for (unsigned i = 0; i < BENCH_POINTS; i++) {
        if (breakdown->passed[i])
            cJSON_AddItemToArray(points, point_json(breakdown, i));
    }
    cJSON_AddItemToObject(object, "host", host_json(options));
    emit(options, object);
    if (options->json)
        return;
    printf(
        "breakdown  %u node%s over %s, %s, %u B, %u in flight: %u appends traced, %u not whole\n",
        options->nodes, options->nodes == 1 ? "" : "s", options->net,
        options->replicated ? "replicated" : "durable", options->size_bytes, options->in_flight,
        breakdown->appends, breakdown->missed);
    printf("  %-26s %10s %10s   %-20s %10s %10s\n", "us", "stage p50", "p99", "after", "in all p50",
           "p99");
    for (unsigned i = 0; i < BENCH_POINTS; i++) {
        if (breakdown->passed[i])
            printf("  %-26s %10.2f %10.2f   %-20s %10.2f %10.2f\n", point_names[i],
                   (double)breakdown->own[i].p50_ns / 1e3, (double)breakdown->own[i].p99_ns / 1e3,
                   point_after[i], (double)breakdown->since[i].p50_ns / 1e3,
                   (double)breakdown->since[i].p99_ns / 1e3);
    }
}
