/* SPDX-License-Identifier: Apache-2.0
 *
 * What the reports are made of: pieces of the tables and of the JSON objects.
 */
#include "parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

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

void progress_clear(void)
{
    if (progress_stands)
        fputs("\r\033[K", stderr);
    progress_stands = false;
}

double us(uint64_t ns)
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

cJSON *host_json(const struct bench_options *options)
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

cJSON *limits_json(const struct bench_limits *limits)
{
    cJSON *object = cJSON_CreateObject();
    if (limits->net_rtt_ns_p50 > 0) /* one node needs no port */
        cJSON_AddNumberToObject(object, "net_rtt_us_p50", us(limits->net_rtt_ns_p50));
    cJSON_AddNumberToObject(object, "disk_write_us_p50", us(limits->disk_ns_p50));
    cJSON_AddNumberToObject(object, "disk_write_shared_us_p50", us(limits->disk_shared_ns_p50));
    cJSON_AddNumberToObject(object, "shm_rtt_us_p50", us(limits->shm_rtt_ns_p50));
    if (limits->disk_read_bytes_s > 0) {
        cJSON_AddNumberToObject(object, "disk_block_bytes", limits->disk_block_bytes);
        cJSON_AddNumberToObject(object, "disk_write_shared_bytes_s", limits->disk_write_bytes_s);
        cJSON_AddNumberToObject(object, "disk_write_shared_large_bytes_s",
                                limits->disk_write_large_bytes_s);
        cJSON_AddNumberToObject(object, "disk_read_bytes_s", limits->disk_read_bytes_s);
    }
    if (limits->hiccup_ns_max > 0)
        cJSON_AddNumberToObject(object, "hiccup_us_max", us(limits->hiccup_ns_max));
    return object;
}

/* Takes it: to stdout, onto the page, or both. */
void emit(const struct bench_options *options, cJSON *object)
{
    char *text = options->json ? cJSON_PrintUnformatted(object) : NULL;
    if (text)
        puts(text);
    free(text);
    html_add(object);
    cJSON_Delete(object);
}

void print_limits(const struct bench_options *options, const struct bench_limits *limits)
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
    if (limits->disk_read_bytes_s > 0)
        printf("  durable %4u KiB, %u writers, many in flight   %8.1f MB/s\n"
               "  durable 1024 KiB, %u writers, many in flight   %8.1f MB/s\n"
               "  reads of 1024 KiB, one reader                 %8.1f MB/s\n",
               limits->disk_block_bytes / 1024, options->nodes ? options->nodes : 3,
               limits->disk_write_bytes_s / 1e6, options->nodes ? options->nodes : 3,
               limits->disk_write_large_bytes_s / 1e6, limits->disk_read_bytes_s / 1e6);
    if (limits->hiccup_ns_max > 0)
        printf("  a thread that spins was kept from its core for %.1f us at most\n",
               us(limits->hiccup_ns_max));
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

static const char *const mark_names[BENCH_MARKS] = {"rolls", "trims", "elections"};

void print_slowest(const struct bench_result *result)
{
    const struct bench_interval *least = slowest(result);
    if (!least)
        return;
    printf("  the slowest 100 ms, %.1f s in, had %lu appends; the longest took %.1f us",
           (double)(least - result->timeline) * BENCH_INTERVAL_NS / 1e9,
           (unsigned long)least->appends, us(least->max_ns));
    for (unsigned i = 0; i < BENCH_MARKS; i++) {
        if (least->marks & 1u << i)
            printf(", %s", mark_names[i]);
    }
    printf("\n");
}

/* ", 0.61 ..."; nothing where the limit was not measured. One at a time. */
const char *over_text(double value, double limit, const char *of)
{
    static char text[64];
    text[0] = '\0';
    if (limit > 0)
        snprintf(text, sizeof(text), ", %.2f%s", value / limit, of);
    return text;
}

void print_latency(const struct bench_result *result)
{
    const struct leat_histogram *latency = &result->latency;
    printf("    p50 us    p90 us    p99 us  p99.9 us    max us   appends/s  errors\n");
    printf("%10.1f%10.1f%10.1f%10.1f%10.1f%12.0f%8lu\n", us(leat_histogram_at(latency, 0.5)),
           us(leat_histogram_at(latency, 0.9)), us(leat_histogram_at(latency, 0.99)),
           us(leat_histogram_at(latency, 0.999)), us(latency->max_ns),
           (double)result->appends / result->seconds, (unsigned long)result->errors);
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

void add_latency(cJSON *object, const char *name, const struct leat_histogram *latency)
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
    for (unsigned k = 0; k < BENCH_MARKS; k++) { /* the intervals in which such was seen */
        cJSON *marks = cJSON_AddArrayToObject(line, mark_names[k]);
        for (unsigned i = 0; i < result->interval_count; i++) {
            if (result->timeline[i].marks & 1u << k)
                cJSON_AddItemToArray(marks, cJSON_CreateNumber(i));
        }
    }
}

/* What was measured, and how. */
cJSON *run_json(const struct bench_options *options, const char *what)
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

void add_result(cJSON *object, const struct bench_result *result)
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
    if (result->verify_bytes_s > 0)
        cJSON_AddNumberToObject(object, "verify_bytes_s", result->verify_bytes_s);
    cJSON_AddNumberToObject(object, "log_bytes", (double)result->log_bytes);
    cJSON_AddNumberToObject(object, "away_us_max", us(result->away_ns_max));
    cJSON_AddNumberToObject(object, "cpu_us_per_append", result->cpu_us_per_append);
    cJSON_AddNumberToObject(object, "cpu_seconds", result->cpu_seconds);
    cJSON_AddNumberToObject(object, "client_cpu_seconds", result->client_cpu_seconds);
    cJSON_AddNumberToObject(object, "rss_mib_per_node", result->rss_mib_per_node);
}
