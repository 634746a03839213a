/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers: some that follow the log at its tail while clients append, then one that replays it from
 * the oldest record held. What follows is late by the time between the moment a record was meant to
 * be sent, which it carries, and the moment its reader has it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "leat/leat.h"

#define TAIL_SLEEP_NS 50000u
#define TAIL_WAIT_NS  5000000000u
#define TAIL_REPLAYS  5u /* of what memory holds: it takes some milliseconds each */

struct tail_reader {
    const struct bench_options *options;
    const char *socket;
    int core;
    pthread_t thread;
    atomic_bool ready, *stop;
    struct leat_histogram latency;
    int rc;
};

static enum leat_ack level_of(const struct bench_options *options)
{
    return options->replicated ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE;
}

static void tail_take(struct tail_reader *self, const struct leat_record *record)
{
    uint64_t sent_ns, began_ns = atomic_load_explicit(&load_began_ns, memory_order_relaxed);
    if (began_ns == 0 || record->length < sizeof(sent_ns))
        return;
    memcpy(&sent_ns, record->data, sizeof(sent_ns));
    if (sent_ns >= began_ns)
        leat_histogram_record(&self->latency, leat_clock_monotonic_ns() - sent_ns);
}

static int tail_follow(struct tail_reader *self, struct leat_reader *reader)
{
    struct leat_idle idle;
    struct leat_record record;
    leat_idle_init(&idle, LEAT_IDLE_YIELD, TAIL_SLEEP_NS, TAIL_SLEEP_NS);
    atomic_store(&self->ready, true);
    for (;;) {
        int rc = leat_reader_next(reader, &record);
        if (rc == LEAT_OK)
            tail_take(self, &record);
        else if (rc != LEAT_EAGAIN && rc != LEAT_EVERIFYING)
            return rc;
        else if (rc == LEAT_EAGAIN && (atomic_load(self->stop) || bench_interrupted))
            return LEAT_OK; /* at the tail, and nobody appends any more */
        leat_idle_step(&idle, leat_clock_monotonic_ns(), rc == LEAT_OK, false);
    }
}

static void *tail_thread(void *context)
{
    struct tail_reader *self = context;
    struct leat_options options = {.socket = self->socket};
    struct leat_client *client;
    struct leat_reader *reader;
    place_pin_this_thread(self->core);
    self->rc = leat_attach(&options, &client);
    if (self->rc == LEAT_OK) {
        self->rc =
            leat_reader_open(client, BENCH_LOG, LEAT_FROM_END, 0, level_of(self->options), &reader);
        if (self->rc == LEAT_OK) {
            self->rc = tail_follow(self, reader);
            leat_reader_close(reader);
        }
        leat_detach(client);
    }
    atomic_store(&self->ready, true);
    return NULL;
}

/* ---- replay ---- */

/* Reads the records of offsets [from, to) at one go. False: an error, said. */
static bool replay(struct leat_client *client, const struct bench_options *options, uint64_t from,
                   uint64_t to, struct bench_replay *sum)
{
    struct leat_reader *reader;
    struct leat_record record;
    if (from >= to)
        return true;
    int rc =
        leat_reader_open(client, BENCH_LOG, LEAT_FROM_OFFSET, from, level_of(options), &reader);
    if (rc != LEAT_OK) {
        fprintf(stderr, "logbench: replay: %s\n", leat_error_text(rc));
        return false;
    }
    uint64_t begin_ns = leat_clock_monotonic_ns(), bytes = 0, records = 0;
    do {
        rc = leat_reader_wait(reader, TAIL_WAIT_NS, &record);
        records += rc == LEAT_OK;
        bytes += rc == LEAT_OK ? record.length : 0;
    } while (rc == LEAT_OK && record.offset + 1 < to && !bench_interrupted);
    sum->records += records;
    sum->bytes += bytes;
    sum->seconds += (double)(leat_clock_monotonic_ns() - begin_ns) / 1e9;
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: replay: %s\n", leat_error_text(rc));
    leat_reader_close(reader);
    return rc == LEAT_OK;
}

/* The records are of one size, so positions and offsets keep step: what lies two arenas back is in
 * files only, what lies half an arena back is in memory. */
static bool replay_all(struct leat_client *client, const struct bench_options *options,
                       struct bench_tail *tail)
{
    struct leat_log_info info;
    struct leat_reader *reader;
    uint64_t end_pos, end;
    int rc = leat_tail(client, BENCH_LOG, level_of(options), &end_pos, &end);
    if (rc == LEAT_OK)
        rc = leat_log_info(client, BENCH_LOG, &info);
    if (rc == LEAT_OK)
        rc = leat_reader_open(client, BENCH_LOG, LEAT_FROM_START, 0, level_of(options), &reader);
    if (rc != LEAT_OK) {
        fprintf(stderr, "logbench: replay: %s\n", leat_error_text(rc));
        return false;
    }
    uint64_t first = leat_reader_offset(reader);
    leat_reader_close(reader);
    double per_byte = (double)(end - first) / (double)(end_pos - info.begin_position);
    uint64_t hot = (uint64_t)(per_byte * (double)info.arena_bytes / 2);
    uint64_t cold_end = end - first > 4 * hot ? end - 4 * hot : first;
    bool good = replay(client, options, first, cold_end, &tail->files);
    for (unsigned i = 0; i < TAIL_REPLAYS && good; i++)
        good = replay(client, options, end - first > hot ? end - hot : first, end, &tail->memory);
    return good;
}

/* Returns how many follow. */
static unsigned readers_start(struct tail_reader *readers, unsigned count)
{
    unsigned started = 0;
    while (started < count &&
           pthread_create(&readers[started].thread, NULL, tail_thread, &readers[started]) == 0)
        started++;
    for (unsigned i = 0; i < started; i++) {
        while (!atomic_load(&readers[i].ready) && !bench_interrupted)
            usleep(1000);
    }
    return started;
}

/* True: it failed. */
static bool reader_join(struct tail_reader *reader, unsigned number, struct bench_tail *tail)
{
    pthread_join(reader->thread, NULL);
    leat_histogram_add(&tail->latency, &reader->latency);
    if (reader->rc != LEAT_OK)
        fprintf(stderr, "logbench: reader %u: %s\n", number, leat_error_text(reader->rc));
    return reader->rc != LEAT_OK;
}

int tail_run(const struct bench_options *options, const struct bench_cluster *cluster,
             struct bench_result *load, struct bench_tail *ret_tail)
{
    static struct tail_reader readers[BENCH_CLIENTS_MAX];
    struct leat_options attach = {.socket = options->attach ? options->attach
                                                            : cluster->sockets[cluster->leader]};
    struct leat_client *client;
    atomic_bool stop = false;
    memset(ret_tail, 0, sizeof(*ret_tail));
    for (unsigned i = 0; i < options->readers; i++)
        readers[i] = (struct tail_reader){.options = options,
                                          .socket = attach.socket,
                                          .core = place_client(options, options->clients + i),
                                          .stop = &stop};
    unsigned started = readers_start(readers, options->readers);
    int failed = started < options->readers || load_run(options, cluster, load);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < started; i++)
        failed = reader_join(&readers[i], i, ret_tail) || failed;
    if (failed || bench_interrupted || leat_attach(&attach, &client) != LEAT_OK)
        return 1;
    progress(options, "replaying");
    failed = !replay_all(client, options, ret_tail);
    leat_detach(client);
    return failed;
}
