/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers. Some follow logs while everything fails, at either level, from anywhere; at the end one
 * on each node reads all that there is.
 */
#include "reader.h"

#include <string.h>

#include "check.h"
#include "cluster.h"
#include "draw.h"
#include "ledger.h"
#include "leat/leat.h"

#define FOLLOWERS_MAX 4u
#define ATTACH_NS     (300 * SIM_MS)
#define AWAY_NS       (20 * SIM_MS)
#define SHOWN_MAX     256u

/* ---- following ---- */

struct shown {
    uint64_t offset, number;
};

struct follower {
    unsigned number;
    unsigned node;
    struct sim_process *process; /* NULL: dead, starts again soon */
    struct leat_client *client;
    uint32_t log;
    enum leat_ack level;
    uint64_t expected; /* the next offset; LEDGER_NOWHERE: any from `least` on */
    uint64_t least;
    struct shown shown[SHOWN_MAX]; /* at the replicated level, and not proved yet */
    unsigned shown_count;
};

static struct {
    struct follower followers[FOLLOWERS_MAX];
    unsigned count;
    bool stop;
} all;

/* C7: what the node knows to be durable, and all that the reader was shown before it, is the log.
 */
static void shown_look(struct follower *self, const struct leat_record *record)
{
    struct leat_log_info info;
    if (self->shown_count == SHOWN_MAX)
        self->shown_count = 0; /* long behind: what they were is not looked at */
    self->shown[self->shown_count++] =
        (struct shown){record->offset, ledger_record_number(record->data, record->length)};
    if (leat_log_info(self->client, self->log, &info) != LEAT_OK ||
        info.commit_durable <= record->position)
        return;
    for (unsigned i = 0; i < self->shown_count; i++) {
        if (!ledger_has(self->log, self->shown[i].offset, self->shown[i].number))
            world_fail("C7",
                       "a reader of log %u on node %u was shown offset %lu as another record than "
                       "the log has, and not told of a rollback",
                       self->log, self->node + 1, (unsigned long)self->shown[i].offset);
    }
    self->shown_count = 0;
}

static void record_look(struct follower *self, const struct leat_record *record)
{
    reached.followed++;
    if (record->offset < self->least ||
        (self->expected != LEDGER_NOWHERE && record->offset != self->expected))
        world_fail(
            "C3", "a reader of log %u on node %u is given offset %lu, not %lu", self->log,
            self->node + 1, (unsigned long)record->offset,
            (unsigned long)(self->expected != LEDGER_NOWHERE ? self->expected : self->least));
    self->expected = self->least = record->offset + 1;
    if (self->level == LEAT_ACK_REPLICATED)
        shown_look(self, record);
    else if (!ledger_is_record(self->log, record->offset, record->data, record->length))
        world_fail("C7", "a reader of log %u on node %u is shown offset %lu as another record",
                   self->log, self->node + 1, (unsigned long)record->offset);
}

static void rolled_back(struct follower *self, const struct leat_reader *reader)
{
    unsigned kept = 0;
    reached.rolled_back++;
    if (self->level == LEAT_ACK_DURABLE)
        world_fail("C7", "a reader of log %u on node %u at the durable level is rolled back",
                   self->log, self->node + 1);
    self->expected = LEDGER_NOWHERE;
    self->least = leat_reader_offset(reader);
    for (unsigned i = 0; i < self->shown_count; i++) {
        if (self->shown[i].offset < self->least)
            self->shown[kept++] = self->shown[i];
    }
    self->shown_count = kept;
}

/* False: this reader can go on no more. */
static bool follow_once(struct follower *self, struct leat_reader *reader)
{
    struct leat_record record;
    int rc = leat_reader_next(reader, &record);
    if (rc == LEAT_OK)
        record_look(self, &record);
    else if (rc == LEAT_EROLLBACK)
        rolled_back(self, reader);
    else if (rc == LEAT_ETRIMMED)
        self->expected = LEDGER_NOWHERE;
    else if (rc == LEAT_ECORRUPT && !cluster.nodes[self->node].victim)
        world_fail("J5", "a reader of log %u on node %u meets damage, and nobody hurt its disk",
                   self->log, self->node + 1);
    else if (rc != LEAT_EAGAIN && rc != LEAT_EVERIFYING)
        return false;
    if (rc != LEAT_OK)
        thread_sleep(world_exponential(STREAM_CLIENTS, 3 * SIM_MS));
    return true;
}

static void follow(struct follower *self)
{
    static const enum leat_from froms[] = {LEAT_FROM_START, LEAT_FROM_END, LEAT_FROM_OFFSET};
    enum leat_from from = froms[world_draw(STREAM_CLIENTS, 3)];
    struct leat_reader *reader;
    uint64_t until_ns = world.now_ns + world_exponential(STREAM_CLIENTS, SIM_S);
    self->log = 1 + (uint32_t)world_draw(STREAM_CLIENTS, draw.logs);
    self->level = world_chance(STREAM_CLIENTS, 500000) && draw.replicated_ppm > 0
                      ? LEAT_ACK_REPLICATED
                      : LEAT_ACK_DURABLE;
    self->least = from == LEAT_FROM_OFFSET
                      ? world_draw(STREAM_CLIENTS, ledger.logs[self->log].record_count + 1)
                      : 0;
    self->expected = LEDGER_NOWHERE;
    self->shown_count = 0;
    if (leat_reader_open(self->client, self->log, from, self->least, self->level, &reader) !=
        LEAT_OK)
        return;
    while (!all.stop && world.now_ns < until_ns && follow_once(self, reader))
        leat_poll(self->client, NULL, 0); /* attaches again when the node is back */
    leat_reader_close(reader);
}

static void *follower_main(void *context)
{
    struct follower *self = context;
    struct leat_options options = {.socket = cluster_socket(self->node),
                                   .ring_bytes = 64u << 10,
                                   .in_flight_max = 16, /* it appends nothing */
                                   .attach_timeout_ns = ATTACH_NS};
    if (!options.socket || leat_attach(&options, &self->client) != LEAT_OK) {
        thread_sleep(AWAY_NS);
        return NULL;
    }
    for (unsigned logs = (unsigned)world_between(STREAM_CLIENTS, 1, 8); logs > 0 && !all.stop;
         logs--) {
        follow(self);
        thread_sleep(world_exponential(STREAM_CLIENTS, 3 * SIM_MS));
    }
    leat_detach(self->client);
    return NULL;
}

static void follower_start(void *context, uint64_t argument);

static void follower_dead(struct sim_process *process)
{
    struct follower *self = process->owner;
    self->process = NULL;
    do
        self->node = (unsigned)world_draw(STREAM_CLIENTS, cluster.count);
    while (cluster.nodes[self->node].lost);
    if (!all.stop)
        world_at(world.now_ns + world_draw(STREAM_CLIENTS, 20 * SIM_MS), EVENT_ACTION,
                 follower_start, self, 0);
}

static void follower_ended(struct sim_process *process, void *result)
{
    (void)result;
    follower_dead(process);
}

static void follower_start(void *context, uint64_t argument)
{
    struct follower *self = context;
    (void)argument;
    if (all.stop)
        return;
    world.events[EVENT_ACTION]++;
    self->process = process_start(&cluster.nodes[self->node].host, follower_main, self);
    self->process->owner = self;
    self->process->ended = follower_ended;
    self->process->killed = follower_dead;
}

void followers_begin(void)
{
    memset(&all, 0, sizeof(all));
    all.count = draw.readers < FOLLOWERS_MAX ? (unsigned)draw.readers : FOLLOWERS_MAX;
    for (unsigned i = 0; i < all.count; i++) {
        all.followers[i].number = i;
        all.followers[i].node = (unsigned)world_draw(STREAM_CLIENTS, cluster.count);
        follower_start(&all.followers[i], 0);
    }
}

void followers_host_down(unsigned host)
{
    for (unsigned i = 0; i < all.count; i++) {
        if (all.followers[i].process && all.followers[i].process->host->number == host)
            process_kill(all.followers[i].process);
    }
}

void followers_stop(void)
{
    all.stop = true;
}

/* ---- the end: everything, on every node ---- */

static unsigned reading;
static uint64_t logs_there; /* one that is being made just now, after all, need not be everywhere */

static void read_log(struct leat_client *client, unsigned node, uint32_t log)
{
    struct leat_reader *reader;
    struct leat_record record;
    uint64_t expected = LEDGER_NOWHERE, count = ledger.logs[log].record_count;
    int rc;
    while ((rc = leat_reader_open(client, log, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader)) ==
           LEAT_EAGAIN) {
        thread_sleep(AWAY_NS);      /* READ_NS of run.c bounds it */
        leat_poll(client, NULL, 0); /* the node may have started again */
    }
    if (rc == LEAT_ECORRUPT && cluster.nodes[node].victim)
        return; /* it says so, and gives nothing that is wrong */
    if (rc != LEAT_OK) {
        world_fail("C2", "log %u cannot be read on node %u: %s", log, node + 1,
                   leat_error_text(rc));
        return;
    }
    while ((rc = leat_reader_next(reader, &record)) == LEAT_OK || rc == LEAT_EVERIFYING) {
        if (rc != LEAT_OK)
            continue;
        if (expected != LEDGER_NOWHERE && record.offset != expected)
            world_fail("C3", "a reader of log %u on node %u is given offset %lu behind %lu", log,
                       node + 1, (unsigned long)record.offset, (unsigned long)expected - 1);
        if (!ledger_is_record(log, record.offset, record.data, record.length))
            world_fail("C6", "offset %lu of log %u is read on node %u as another record",
                       (unsigned long)record.offset, log, node + 1);
        expected = record.offset + 1;
    }
    if (rc == LEAT_ECORRUPT && cluster.nodes[node].victim)
        rc = LEAT_EAGAIN, expected = count; /* it says so, and gives nothing that is wrong */
    /* what ended as unknown may be taken still, while it is read */
    bool whole = (expected >= count && expected <= ledger.logs[log].record_count) ||
                 (expected == LEDGER_NOWHERE && count == 0);
    if (rc != LEAT_EAGAIN || (!whole && expected != LEDGER_NOWHERE))
        world_fail("C3", "a reader of log %u on node %u ends at offset %lu of %lu: %s", log,
                   node + 1, (unsigned long)expected, (unsigned long)count, leat_error_name(rc));
    leat_reader_close(reader);
}

static void *reader_main(void *context)
{
    unsigned node = (unsigned)(uintptr_t)context;
    struct leat_options options = {
        .socket = cluster_socket(node), .ring_bytes = 64u << 10, .in_flight_max = 16};
    struct leat_client *client;
    int rc = options.socket ? leat_attach(&options, &client) : LEAT_ESYSTEM;
    if (rc != LEAT_OK) {
        world_fail("L1", "a healed node %u takes no client: %s", node + 1, leat_error_text(rc));
        return NULL;
    }
    for (uint32_t log = 1; log <= draw.logs && !world.failed; log++) {
        if (logs_there >> log & 1)
            read_log(client, node, log);
    }
    leat_detach(client);
    reading--;
    return NULL;
}

static void reader_ended(struct sim_process *process, void *result)
{
    (void)process, (void)result;
}

void readers_begin(void)
{
    reading = 0;
    logs_there = 0;
    for (uint32_t log = 1; log <= draw.logs; log++)
        logs_there |= (uint64_t)check_log_exists(log) << log;
    for (unsigned i = 0; i < cluster.count; i++) {
        bool tries = cluster.nodes[i].victim && !cluster_socket(i); /* to start, in vain */
        if (cluster.nodes[i].lost || !cluster.nodes[i].process || tries)
            continue; /* excused, or it would not have converged */
        reading++;
        struct sim_process *process =
            process_start(&cluster.nodes[i].host, reader_main, (void *)(uintptr_t)i);
        process->ended = reader_ended;
    }
}

bool readers_are_done(void)
{
    return reading == 0;
}
