/* SPDX-License-Identifier: Apache-2.0
 *
 * What was seen: a table for people, one JSON object for programs.
 */
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "html.h"

static bool progress_stands;

void progress(const struct bench_options *options, const char *format, ...)
{
    va_list arguments;
    if (options->quiet || !isatty(STDERR_FILENO))
        return;
    va_start(arguments, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, arguments);
    fflush(stderr);
    va_end(arguments);
    progress_stands = true;
}

static void progress_clear(void)
{
    if (progress_stands)
        fputs("\r\033[K", stderr);
    progress_stands = false;
}

static double us(uint64_t ns)
{
    return (double)ns / 1000;
}

static void read_line_of(const char *path, const char *key, char *text, size_t text_bytes)
{
    char line[512];
    FILE *file = fopen(path, "r");
    snprintf(text, text_bytes, "unknown");
    while (file && fgets(line, sizeof(line), file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !value)
            continue;
        value[strcspn(value, "\n")] = '\0';
        snprintf(text, text_bytes, "%s", value + 2);
        break;
    }
    if (file)
        fclose(file);
}

/* The device that holds a directory, by the mount table. */
static void disk_of(const char *directory, char *text, size_t text_bytes)
{
    char real[512], line[1024], device[256], mount[256], type[64];
    size_t best = 0;
    snprintf(text, text_bytes, "unknown");
    if (!realpath(directory, real))
        return;
    FILE *file = fopen("/proc/mounts", "r");
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%255s %255s %63s", device, mount, type) != 3)
            continue;
        size_t length = strlen(mount);
        if (strncmp(real, mount, length) == 0 && length >= best) {
            best = length;
            snprintf(text, text_bytes, "%.150s %.60s", device, type);
        }
    }
    if (file)
        fclose(file);
}

static cJSON *host_json(const struct bench_options *options)
{
    struct utsname name;
    char text[256];
    cJSON *host = cJSON_CreateObject();
    uname(&name);
    read_line_of("/proc/cpuinfo", "model name", text, sizeof(text));
    cJSON_AddStringToObject(host, "cpu", text);
    cJSON_AddNumberToObject(host, "cores", (double)sysconf(_SC_NPROCESSORS_ONLN));
    cJSON_AddStringToObject(host, "kernel", name.release);
    disk_of(options->directory, text, sizeof(text));
    cJSON_AddStringToObject(host, "disk", text);
    snprintf(text, sizeof(text), "net_%s", options->net);
    cJSON_AddStringToObject(host, "pmd", text);
    return host;
}

static cJSON *limits_json(const struct bench_limits *limits)
{
    cJSON *object = cJSON_CreateObject();
    if (limits->net_rtt_ns_p50 > 0) /* one node needs no port */
        cJSON_AddNumberToObject(object, "net_rtt_us_p50", us(limits->net_rtt_ns_p50));
    cJSON_AddNumberToObject(object, "disk_write_us_p50", us(limits->disk_ns_p50));
    cJSON_AddNumberToObject(object, "disk_write_shared_us_p50", us(limits->disk_shared_ns_p50));
    cJSON_AddNumberToObject(object, "shm_rtt_us_p50", us(limits->shm_rtt_ns_p50));
    return object;
}

/* Takes it: to stdout, onto the page, or both. */
static void emit(const struct bench_options *options, cJSON *object)
{
    char *text = options->json ? cJSON_PrintUnformatted(object) : NULL;
    if (text)
        puts(text);
    free(text);
    html_add(object);
    cJSON_Delete(object);
}

static void print_limits(const struct bench_options *options, const struct bench_limits *limits)
{
    printf("limits of this machine            p50 us     p99 us\n");
    printf("  shared words, round trip    %10.2f %10.2f\n", us(limits->shm_rtt_ns_p50),
           us(limits->shm_rtt_ns_p99));
    if (limits->net_rtt_ns_p50)
        printf("  port pair, round trip       %10.2f %10.2f   %s, 64 B\n",
               us(limits->net_rtt_ns_p50), us(limits->net_rtt_ns_p99), options->net);
    if (limits->disk_ns_p50)
        printf("  durable 4 KiB, one writer   %10.2f %10.2f\n"
               "  durable 4 KiB, %u writers    %10.2f %10.2f\n",
               us(limits->disk_ns_p50), us(limits->disk_ns_p99),
               options->nodes ? options->nodes : 3, us(limits->disk_shared_ns_p50),
               us(limits->disk_shared_ns_p99));
}

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

/* Of the whole intervals: the last ones are cut. */
static const struct bench_interval *slowest(const struct bench_result *result)
{
    const struct bench_interval *least = NULL;
    unsigned whole = (unsigned)(result->seconds * 1e9 / BENCH_INTERVAL_NS);
    for (unsigned i = 0; i < whole && i < result->interval_count; i++) {
        if (!least || result->timeline[i].appends < least->appends)
            least = &result->timeline[i];
    }
    return least;
}

static void print_slowest(const struct bench_result *result)
{
    const struct bench_interval *least = slowest(result);
    if (least)
        printf("  the slowest 100 ms, %.1f s in, had %lu appends; the longest took %.1f us\n",
               (double)(least - result->timeline) * BENCH_INTERVAL_NS / 1e9,
               (unsigned long)least->appends, us(least->max_ns));
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
    printf("    p50 us    p90 us    p99 us  p99.9 us    max us   appends/s  errors\n");
    printf("%10.1f%10.1f%10.1f%10.1f%10.1f%12.0f%8lu\n", us(leat_histogram_at(latency, 0.5)),
           us(leat_histogram_at(latency, 0.9)), us(leat_histogram_at(latency, 0.99)),
           us(leat_histogram_at(latency, 0.999)), us(latency->max_ns),
           (double)result->appends / result->seconds, (unsigned long)result->errors);
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

/* Pairs of fraction and us, as far as there are values for them; the last is the highest. */
static void add_percentiles(cJSON *row, const struct leat_histogram *latency)
{
    static const double fractions[] = {0,    0.1,   0.25,  0.5,    0.75,   0.9,     0.95,
                                       0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 0.999999};
    cJSON *list = cJSON_AddArrayToObject(row, "percentiles");
    double count = (double)latency->count;
    for (unsigned i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++) {
        if ((1 - fractions[i]) * count <= 1)
            break;
        double pair[] = {fractions[i], us(leat_histogram_at(latency, fractions[i]))};
        cJSON_AddItemToArray(list, cJSON_CreateDoubleArray(pair, 2));
    }
    double last[] = {count > 0 ? 1 - 1 / (count + 1) : 0, us(latency->max_ns)};
    cJSON_AddItemToArray(list, cJSON_CreateDoubleArray(last, 2));
}

static void add_latency(cJSON *object, const char *name, const struct leat_histogram *latency)
{
    cJSON *row = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(row, "count", (double)latency->count);
    cJSON_AddNumberToObject(row, "p50", us(leat_histogram_at(latency, 0.5)));
    cJSON_AddNumberToObject(row, "p90", us(leat_histogram_at(latency, 0.9)));
    cJSON_AddNumberToObject(row, "p99", us(leat_histogram_at(latency, 0.99)));
    cJSON_AddNumberToObject(row, "p999", us(leat_histogram_at(latency, 0.999)));
    cJSON_AddNumberToObject(row, "max", us(latency->max_ns));
    add_percentiles(row, latency);
}

static void add_timeline(cJSON *object, const struct bench_result *result)
{
    cJSON *line = cJSON_AddObjectToObject(object, "timeline");
    cJSON_AddNumberToObject(line, "interval_ms", BENCH_INTERVAL_NS / 1e6);
    cJSON *appends = cJSON_AddArrayToObject(line, "appends");
    cJSON *longest = cJSON_AddArrayToObject(line, "max_us");
    for (unsigned i = 0; i < result->interval_count; i++) {
        cJSON_AddItemToArray(appends, cJSON_CreateNumber((double)result->timeline[i].appends));
        cJSON_AddItemToArray(longest, cJSON_CreateNumber(us(result->timeline[i].max_ns)));
    }
}

/* What was measured, and how. */
static cJSON *run_json(const struct bench_options *options, const char *what)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "bench", what);
    cJSON_AddNumberToObject(object, "nodes", options->nodes);
    cJSON_AddStringToObject(object, "net", options->net);
    cJSON_AddStringToObject(object, "profile", options->profile);
    cJSON_AddStringToObject(object, "ack", options->replicated ? "replicated" : "durable");
    cJSON_AddNumberToObject(object, "size", options->size_bytes);
    cJSON_AddNumberToObject(object, "inflight", options->in_flight);
    cJSON_AddNumberToObject(object, "clients", options->clients);
    cJSON_AddNumberToObject(object, "logs", options->logs);
    cJSON_AddNumberToObject(object, "workers", options->workers);
    cJSON_AddBoolToObject(object, "pinned", place_node(options, 0) >= 0);
    cJSON_AddNumberToObject(object, "rate", options->rate);
    return object;
}

static void add_result(cJSON *object, const struct bench_result *result)
{
    cJSON_AddNumberToObject(object, "appends", (double)result->appends);
    cJSON_AddNumberToObject(object, "errors", (double)result->errors);
    cJSON_AddNumberToObject(object, "behind", (double)result->behind);
    cJSON_AddNumberToObject(object, "seconds", result->seconds);
    cJSON_AddNumberToObject(object, "appends_per_s", (double)result->appends / result->seconds);
    add_latency(object, "latency_us", &result->latency);
    add_timeline(object, result);
    if (result->log_gib > 0) {
        cJSON_AddNumberToObject(object, "log_gib", result->log_gib);
        cJSON_AddNumberToObject(object, "restart_seconds", result->restart_seconds);
    }
    cJSON_AddNumberToObject(object, "cpu_us_per_append", result->cpu_us_per_append);
    cJSON_AddNumberToObject(object, "cpu_seconds", result->cpu_seconds);
    cJSON_AddNumberToObject(object, "client_cpu_seconds", result->client_cpu_seconds);
    cJSON_AddNumberToObject(object, "rss_mib_per_node", result->rss_mib_per_node);
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
