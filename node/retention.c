/* SPDX-License-Identifier: Apache-2.0
 *
 * Retention: ten times a second while a log is busy, else once, its leader trims what exceeds the
 * log's budget of bytes or is older than its age, whole segments at a time, by a committed TRIM
 * frame: every replica lets go of the same. The segment at the end is never trimmed, nor the one
 * before it.
 *
 * How old a segment is says the BASE frame of the next one (its last log time); it is read once per
 * segment, verified, and remembered.
 * Worker's thread. Tests: tests/system/test_logs.py.
 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define RETENTION_LOOK_NS 100000000u

static uint64_t retention_limit(const struct node_log *log)
{
    uint64_t end = leat_segment_base(&log->shape, log->core.commit_d);
    return end > log->shape.segment_bytes ? end - log->shape.segment_bytes : 0;
}

/* The segment base below which bytes exceed the budget. */
static uint64_t retention_by_bytes(const struct node_log *log)
{
    uint64_t held = log->core.commit_d - log->core.base_pos;
    if (log->retention_bytes == 0 || held <= log->retention_bytes)
        return 0;
    uint64_t excess = held - log->retention_bytes;
    return leat_segment_base(&log->shape,
                             log->core.base_pos + excess + log->shape.segment_bytes - 1);
}

/* Asks for the BASE frame behind the oldest segment; the answer comes to retention_read_done(). */
static void retention_read(struct node_log *log, uint64_t next_base)
{
    struct node_worker *worker = log->worker;
    struct node_retention *retention = &worker->retention;
    if (retention->log)
        return; /* one at a time per worker */
    if (leat_storage_read(worker->storage, log->index, next_base, NODE_BASE_BLOCKS_BYTES,
                          retention->block, retention) != LEAT_OK)
        return;
    retention->log = log;
    retention->base_pos = next_base;
}

void retention_read_done(struct node_worker *worker, int64_t result)
{
    struct node_retention *retention = &worker->retention;
    struct node_log *log = retention->log;
    struct leat_chain chain;
    retention->log = NULL;
    if (!log || worker->logs[log->index] != log || result < (int64_t)LEAT_BLOCK_BYTES)
        return;
    if (leat_chain_at_base(&log->shape, retention->base_pos, retention->block, (uint64_t)result,
                           &chain) != LEAT_OK) {
        leat_storage_suspect(worker->storage, log->index, retention->base_pos);
        return; /* nothing is let go on the word of a damaged frame */
    }
    log->oldest_next_base = retention->base_pos;
    log->oldest_time_ns = chain.last_time_ns;
    log->retention_ns_looked = 0; /* at once */
    worker_wake(log);
}

static uint64_t retention_by_age(struct node_log *log)
{
    uint64_t next_base =
        leat_segment_base(&log->shape, log->core.base_pos) + log->shape.segment_bytes;
    if (log->retention_ns == 0 || next_base > retention_limit(log))
        return 0;
    if (log->oldest_next_base != next_base) {
        retention_read(log, next_base);
        return 0;
    }
    return log->worker->realtime_ns > log->oldest_time_ns &&
                   log->worker->realtime_ns - log->oldest_time_ns > log->retention_ns
               ? next_base
               : 0;
}

void retention_tick(struct node_log *log)
{
    struct node_worker *worker = log->worker;
    if ((log->retention_bytes == 0 && log->retention_ns == 0) ||
        worker->now_ns - log->retention_ns_looked < RETENTION_LOOK_NS ||
        !leat_core_may_append(&log->core) || !log->tail_is_valid)
        return;
    log->retention_ns_looked = worker->now_ns;
    uint64_t by_bytes = retention_by_bytes(log), by_age = retention_by_age(log);
    struct leat_trim_payload trim = {.trim_pos = by_bytes > by_age ? by_bytes : by_age};
    if (trim.trim_pos > retention_limit(log))
        trim.trim_pos = retention_limit(log);
    if (trim.trim_pos <= log->trim_tail || trim.trim_pos <= log->core.base_pos)
        return;
    log_append(log, LEAT_FRAME_TRIM, 0, 0, &trim, sizeof(trim));
}
