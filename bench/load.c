/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients that append: one thread each, on the leader's host. Closed loop (a window of appends in
 * flight) or open loop at a fixed rate, whose latency counts from the intended time of sending, so
 * that a stall is not hidden by the load that it held back. An append belongs to what is measured
 * when it was meant to be sent within the window, whenever it ends: those in flight at the stop are
 * waited for, and those that were due and could not be started count with their age.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "cpu.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "leat/leat.h"

#define LOAD_SLEEP_NS   50000u
#define LOAD_TIMEOUT_NS 10000000000u
#define LOAD_DRAIN_NS   (LOAD_TIMEOUT_NS + 1000000000u) /* each ends by then, well or not */
#define LOAD_BATCH      256u
#define LOAD_SAMPLES    (1u << 18) /* kept of a client, where they are asked for */

_Atomic uint64_t load_began_ns;
static _Atomic uint64_t load_stop_ns; /* known before load_began_ns is; UINT64_MAX: not yet */

struct load_client {
    const struct bench_options *options;
    const char *socket;
    const uint32_t *log_ids;
    uint32_t number; /* among the clients */
    uint32_t next_log;
    int core; /* to run on; -1: any */
    pthread_t thread;
    uint64_t began_ns, stop_ns; /* the window, as far as it is known: 0, UINT64_MAX */
    uint64_t base_ns;           /* open loop: when the first was due */
    uint64_t started;
    struct leat_histogram latency;
    struct bench_interval *timeline;
    unsigned interval_count;
    struct bench_sample *samples;
    uint32_t sample_count;
    struct leat_log_info seen; /* of the first log, by the first client, at the last interval */
    unsigned seen_interval;
    uint64_t first_position; /* committed when the window began; 0: not seen yet */
    uint64_t looked_ns;      /* when this thread looked last */
    uint64_t away_ns_max;
    uint64_t appends;
    uint64_t errors;
    uint64_t behind;
    int failed;
    int first_error;
};

static void load_look(struct load_client *load)
{
    load->began_ns = atomic_load_explicit(&load_began_ns, memory_order_acquire);
    load->stop_ns = atomic_load_explicit(&load_stop_ns, memory_order_relaxed);
}

/* It waited from `since_ns` to `until_ns`: each interval that ended in between saw it wait. Where
 * one saw an older wait, those before it did too. */
static void timeline_wait(struct load_client *load, uint64_t since_ns, uint64_t until_ns)
{
    uint64_t ended = (until_ns - load->began_ns) / BENCH_INTERVAL_NS;
    for (uint64_t i = ended < load->interval_count ? ended : load->interval_count; i-- > 0;) {
        uint64_t end_ns = load->began_ns + (i + 1) * BENCH_INTERVAL_NS;
        if (end_ns <= since_ns || load->timeline[i].max_ns >= end_ns - since_ns)
            return;
        load->timeline[i].max_ns = end_ns - since_ns;
    }
}

/* The time line and the rate go by when an append ended; latency by when it was meant to begin. */
static void load_take(struct load_client *load, const struct leat_result *result, uint64_t now_ns)
{
    if (load->began_ns == 0 || now_ns < load->began_ns)
        return;
    uint64_t latency_ns = now_ns - result->user;
    timeline_wait(load, result->user, now_ns < load->stop_ns ? now_ns : load->stop_ns);
    if (result->error != LEAT_OK) {
        load->errors++;
        load->first_error = load->first_error ? load->first_error : result->error;
        return;
    }
    if (now_ns < load->stop_ns) {
        struct bench_interval *interval =
            &load->timeline[(now_ns - load->began_ns) / BENCH_INTERVAL_NS];
        load->appends++;
        interval->appends++;
        if (latency_ns > interval->max_ns)
            interval->max_ns = latency_ns;
    }
    if (result->user < load->began_ns)
        return;
    if (load->samples && load->sample_count < LOAD_SAMPLES)
        load->samples[load->sample_count++] =
            (struct bench_sample){result->user, now_ns, result->position};
    leat_histogram_record(&load->latency, latency_ns);
}

static uint64_t committed(const struct load_client *load, const struct leat_log_info *info)
{
    return load->options->replicated ? info->commit_replicated : info->commit_durable;
}

static uint8_t marks_between(const struct load_client *load, const struct leat_log_info *was,
                             const struct leat_log_info *is)
{
    uint64_t segment_bytes = is->segment_bytes;
    uint8_t marks = 0;
    if (committed(load, was) / segment_bytes != committed(load, is) / segment_bytes)
        marks |= BENCH_MARK_ROLL;
    if (was->begin_position != is->begin_position)
        marks |= BENCH_MARK_TRIM;
    if (was->term != is->term || was->leader_node != is->leader_node)
        marks |= BENCH_MARK_ELECTION;
    return marks;
}

/* Once an interval the first client looks, in shared memory, at what became of the first log. */
static void load_watch(struct load_client *load, struct leat_client *client, uint64_t now_ns)
{
    struct leat_log_info info;
    if (load->number != 0 || load->began_ns == 0 || now_ns < load->began_ns)
        return;
    unsigned interval = (unsigned)((now_ns - load->began_ns) / BENCH_INTERVAL_NS);
    bool begins = load->first_position == 0;
    if (interval > load->interval_count)
        interval = load->interval_count;
    if ((interval == load->seen_interval && !begins) ||
        leat_log_info(client, load->log_ids[0], &info) != LEAT_OK)
        return;
    if (begins)
        load->first_position = committed(load, &info);
    else /* it happened in the interval that has ended, or in one before, if nobody looked */
        load->timeline[interval - 1].marks |= marks_between(load, &load->seen, &info);
    load->seen = info;
    load->seen_interval = interval;
}

/* Between two looks others had the core, or this thread had much to do. */
static void load_note_away(struct load_client *load, uint64_t now_ns)
{
    if (load->looked_ns > load->began_ns && load->began_ns != 0 && now_ns < load->stop_ns &&
        now_ns - load->looked_ns > load->away_ns_max)
        load->away_ns_max = now_ns - load->looked_ns;
    load->looked_ns = now_ns;
}

/* Open loop: when this client's n-th is due. They take turns. */
static uint64_t load_due_ns(const struct load_client *load, uint64_t n)
{
    uint64_t rate = load->options->rate;
    uint64_t turn = n * load->options->clients + load->number;
    return load->base_ns + turn / rate * 1000000000u + turn % rate * 1000000000u / rate;
}

/* Starts what the window and the rate allow. Returns how many, or a negative error. */
static int load_start(struct load_client *load, struct leat_client *client, uint8_t *bytes,
                      uint64_t now_ns)
{
    const struct bench_options *options = load->options;
    enum leat_ack ack = options->replicated ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE;
    int started = 0;
    while (leat_in_flight(client) < options->in_flight && started < (int)LOAD_BATCH) {
        uint64_t sequence, intended = options->rate ? load_due_ns(load, load->started) : now_ns;
        if (intended > now_ns)
            break;
        if (options->size_bytes >= sizeof(intended))
            memcpy(bytes, &intended, sizeof(intended));
        int rc = leat_append_start(client, load->log_ids[load->next_log], bytes,
                                   options->size_bytes, ack, LOAD_TIMEOUT_NS, intended, &sequence);
        if (rc == LEAT_EAGAIN)
            break;
        if (++load->next_log == options->logs)
            load->next_log = 0;
        if (rc != LEAT_OK)
            return rc;
        load->started++;
        started++;
    }
    return started;
}

/* Those that were due before the stop and were not started: as old as they are then, at least. */
static void load_count_behind(struct load_client *load)
{
    if (load->options->rate == 0 || bench_interrupted)
        return;
    for (uint64_t due_ns; (due_ns = load_due_ns(load, load->started)) < load->stop_ns;
         load->started++) {
        timeline_wait(load, due_ns, load->stop_ns);
        if (due_ns < load->began_ns)
            continue;
        leat_histogram_record(&load->latency, load->stop_ns - due_ns);
        load->behind++;
    }
}

static int load_loop(struct load_client *load, struct leat_client *client, uint8_t *bytes)
{
    struct leat_result results[LOAD_BATCH];
    bool stopping = false;
    struct leat_idle idle;
    load->base_ns = leat_clock_monotonic_ns();
    leat_idle_init(&idle, LEAT_IDLE_YIELD, LOAD_SLEEP_NS, LOAD_SLEEP_NS);
    while (!bench_interrupted && (!stopping || leat_in_flight(client) > 0)) {
        uint64_t now_ns = leat_clock_monotonic_ns();
        load_look(load);
        load_note_away(load, now_ns);
        load_watch(load, client, now_ns);
        stopping = now_ns >= load->stop_ns;
        if (stopping && now_ns - load->stop_ns > LOAD_DRAIN_NS)
            break;
        int started = stopping ? 0 : load_start(load, client, bytes, now_ns);
        if (started < 0)
            return started;
        int count = leat_poll(client, results, LOAD_BATCH);
        now_ns = leat_clock_monotonic_ns();
        for (int i = 0; i < count; i++)
            load_take(load, &results[i], now_ns);
        leat_idle_step(&idle, now_ns, count > 0 || started > 0, false);
    }
    if (!bench_interrupted)
        load->errors += leat_in_flight(client); /* lost */
    load_count_behind(load);
    return LEAT_OK;
}

static void *load_thread(void *context)
{
    struct load_client *load = context;
    struct leat_client *client;
    uint32_t window = load->options->in_flight;
    place_pin_this_thread(load->core);
    size_t record = (load->options->size_bytes + 95) & ~(size_t)63;
    size_t ring_bytes = 1u << 20;
    while (ring_bytes < 4 * record * window && ring_bytes < (64u << 20))
        ring_bytes *= 2;
    struct leat_options options = {.socket = load->socket,
                                   .ring_bytes = ring_bytes,
                                   .in_flight_max = window < 64 ? 64 : window};
    uint8_t *bytes = malloc(load->options->size_bytes + 1);
    int rc = bytes ? leat_attach(&options, &client) : LEAT_ENOMEM;
    if (rc == LEAT_OK) {
        memset(bytes, 0x5a, load->options->size_bytes);
        rc = load_loop(load, client, bytes);
        leat_detach(client);
    }
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: client: %s\n", leat_error_text(rc));
    load->failed = rc != LEAT_OK;
    free(bytes);
    return NULL;
}

/* ---- what the nodes cost ---- */

static double node_rss_mib(pid_t pid)
{
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "VmRSS: %lu", &kib) == 1)
            break;
    }
    if (file)
        fclose(file);
    return (double)kib / 1024;
}

static double cluster_cpu_seconds(const struct bench_cluster *cluster)
{
    double sum = 0;
    for (unsigned i = 0; i < cluster->count; i++)
        sum += cpu_seconds_of(cluster->pids[i]);
    return sum;
}

static void sleep_until(const struct bench_options *options, uint64_t end_ns, const char *what)
{
    for (uint64_t now_ns; (now_ns = leat_clock_monotonic_ns()) < end_ns && !bench_interrupted;) {
        uint64_t left = end_ns - now_ns;
        progress(options, "%s: %.1f s to go", what, (double)left / 1e9);
        usleep((useconds_t)((left < 200000000u ? left : 200000000u) / 1000 + 1));
    }
}

/* Returns how many could be started. */
static uint32_t clients_start(const struct bench_options *options,
                              const struct bench_cluster *cluster, struct load_client *clients,
                              unsigned intervals)
{
    for (uint32_t i = 0; i < options->clients; i++) {
        struct load_client *client = &clients[i];
        client->options = options;
        client->socket = options->attach ? options->attach : cluster->sockets[cluster->leader];
        client->number = i;
        client->log_ids = cluster->log_ids;
        client->next_log = i % options->logs;
        client->core = place_client(options, i);
        client->interval_count = intervals;
        client->timeline = calloc(intervals, sizeof(*client->timeline));
        client->samples = options->trace ? calloc(LOAD_SAMPLES, sizeof(*client->samples)) : NULL;
        if (!client->timeline || (options->trace && !client->samples) ||
            pthread_create(&client->thread, NULL, load_thread, client) != 0) {
            free(client->timeline);
            free(client->samples);
            return i;
        }
    }
    return options->clients;
}

/* True: it failed. */
static bool client_join(struct load_client *client, unsigned number, struct bench_result *result)
{
    pthread_join(client->thread, NULL);
    leat_histogram_add(&result->latency, &client->latency);
    result->appends += client->appends;
    result->errors += client->errors;
    result->behind += client->behind;
    if (number == 0)
        result->segment_bytes = client->seen.segment_bytes;
    if (committed(client, &client->seen) > client->first_position)
        result->log_bytes += committed(client, &client->seen) - client->first_position;
    if (client->away_ns_max > result->away_ns_max)
        result->away_ns_max = client->away_ns_max;
    for (unsigned i = 0; i < client->interval_count; i++) {
        result->timeline[i].appends += client->timeline[i].appends;
        if (client->timeline[i].max_ns > result->timeline[i].max_ns)
            result->timeline[i].max_ns = client->timeline[i].max_ns;
        result->timeline[i].marks |= client->timeline[i].marks;
    }
    free(client->timeline);
    for (uint32_t i = 0; i < client->sample_count; i++)
        result->samples[result->sample_count++] = client->samples[i];
    free(client->samples);
    if (client->first_error)
        fprintf(stderr, "logbench: client %u: first error: %s\n", number,
                leat_error_text(client->first_error));
    return client->failed;
}

static void measure(const struct bench_options *options, const struct bench_cluster *cluster,
                    struct bench_result *result)
{
    /* told ahead, so that no client misses its begin */
    uint64_t begin_ns = leat_clock_monotonic_ns() + (uint64_t)(options->warm_seconds * 1e9);
    uint64_t stop_ns = begin_ns + (uint64_t)(options->seconds * 1e9);
    atomic_store(&load_stop_ns, stop_ns);
    atomic_store(&load_began_ns, begin_ns);
    sleep_until(options, begin_ns, "warming up");
    double cpu = cluster_cpu_seconds(cluster), own = cpu_seconds_own();
    sleep_until(options, stop_ns, "measuring");
    result->seconds = (double)(stop_ns - begin_ns) / 1e9;
    result->cpu_seconds = cluster_cpu_seconds(cluster) - cpu;
    result->client_cpu_seconds = cpu_seconds_own() - own;
    for (unsigned i = 0; i < cluster->count; i++)
        result->rss_mib_per_node += node_rss_mib(cluster->pids[i]) / cluster->count;
}

int load_run(const struct bench_options *options, const struct bench_cluster *cluster,
             struct bench_result *result)
{
    struct load_client *clients = calloc(options->clients, sizeof(*clients));
    memset(result, 0, sizeof(*result));
    load_began_ns = 0;
    load_stop_ns = UINT64_MAX;
    uint64_t window_ns = (uint64_t)(options->seconds * 1e9);
    result->interval_count = (unsigned)((window_ns + BENCH_INTERVAL_NS - 1) / BENCH_INTERVAL_NS);
    result->timeline = calloc(result->interval_count, sizeof(*result->timeline));
    if (options->trace)
        result->samples = calloc((size_t)options->clients * LOAD_SAMPLES, sizeof(*result->samples));
    uint32_t started = 0;
    if (clients && result->timeline && (result->samples || !options->trace))
        started = clients_start(options, cluster, clients, result->interval_count);
    bool failed = started < options->clients;
    if (failed)
        fprintf(stderr, "logbench: no memory or no thread for client %u\n", started);
    else
        measure(options, cluster, result);
    if (failed)
        load_stop_ns = 0;
    for (uint32_t i = 0; i < started; i++)
        failed = client_join(&clients[i], i, result) || failed;
    if (result->appends > 0)
        result->cpu_us_per_append = result->cpu_seconds * 1e6 / (double)result->appends;
    free(clients);
    if (!failed && result->appends == 0 && !bench_interrupted)
        fprintf(stderr,
                "logbench: no append ended within the %.1f s that were measured; is the "
                "machine busy? --seconds measures for longer\n",
                result->seconds);
    return failed || result->appends == 0;
}
