/* SPDX-License-Identifier: Apache-2.0
 *
 * Which logs a worker has, and which of them a pass goes over. A log is woken by whatever touches
 * it (a packet, a completion, a client, a command) and stays active while it has something to do;
 * then it sleeps until its core's deadline. So a pass costs what is busy, not what exists.
 *
 * Deadlines lie in one array that is read through when the lowest may have come: a thousand words,
 * a few times per election timeout and log. Worker's thread. Tests: tests/system/.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

/* ---- by id: open addressing, index + 1 or 0 ---- */

static uint32_t place_of(uint32_t log_id)
{
    return (log_id * 0x9e3779b1u >> 16) & (NODE_PLACES - 1);
}

static uint32_t place_find(const struct node_worker *worker, uint32_t log_id)
{
    uint32_t place = place_of(log_id);
    while (worker->places[place] != 0 && worker->logs[worker->places[place] - 1]->id != log_id)
        place = (place + 1) & (NODE_PLACES - 1);
    return place;
}

struct node_log *worker_log(const struct node_worker *worker, uint32_t log_id)
{
    uint16_t index = worker->places[place_find(worker, log_id)];
    return index ? worker->logs[index - 1] : NULL;
}

void worker_add_log(struct node_worker *worker, struct node_log *log)
{
    LEAT_ASSERT(log->index < NODE_LOGS_MAX && !worker->logs[log->index]);
    LEAT_ASSERT(!worker_log(worker, log->id));
    worker->logs[log->index] = log;
    worker->places[place_find(worker, log->id)] = (uint16_t)(log->index + 1);
    if (log->index >= worker->log_count)
        worker->log_count = log->index + 1;
    worker->due_ns[log->index] = UINT64_MAX;
    worker_wake(log);
}

void worker_remove_log(struct node_worker *worker, struct node_log *log)
{
    LEAT_ASSERT(worker->logs[log->index] == log);
    memset(worker->places, 0, sizeof(worker->places));
    worker->logs[log->index] = NULL;
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->logs[i])
            worker->places[place_find(worker, worker->logs[i]->id)] = (uint16_t)(i + 1);
    }
    worker->due_ns[log->index] = UINT64_MAX;
    for (uint32_t i = 0; i < worker->active_count; i++) {
        if (worker->active[i] == log)
            worker->active[i] = worker->active[--worker->active_count];
    }
    log->active = false;
}

/* ---- what a pass goes over ---- */

void worker_wake(struct node_log *log)
{
    struct node_worker *worker = log->worker;
    if (log->active)
        return;
    LEAT_ASSERT(worker->active_count < NODE_LOGS_MAX);
    log->active = true;
    worker->active[worker->active_count++] = log;
    worker->due_ns[log->index] = UINT64_MAX;
    log->needed_from = log_needed_from(log);
    log->append_limit = leat_core_append_limit(&log->core);
}

void worker_due(struct node_log *log, uint64_t due_ns)
{
    struct node_worker *worker = log->worker;
    if (due_ns >= worker->due_ns[log->index])
        return;
    worker->due_ns[log->index] = due_ns;
    if (due_ns < worker->due_next_ns)
        worker->due_next_ns = due_ns;
}

/* A follower that sleeps waits for its election only, which heartbeats have put off meanwhile. */
static uint64_t due_again_ns(const struct node_log *log)
{
    return !log->active && log->core.role == LEAT_FOLLOWER ? leat_core_deadline_ns(&log->core) : 0;
}

void worker_wake_due(struct node_worker *worker)
{
    uint64_t next_ns = UINT64_MAX;
    if (worker->now_ns < worker->due_next_ns)
        return;
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->due_ns[i] <= worker->now_ns) {
            uint64_t due_ns = due_again_ns(worker->logs[i]);
            worker->due_ns[i] = due_ns > worker->now_ns ? due_ns : UINT64_MAX;
            if (due_ns <= worker->now_ns)
                worker_wake(worker->logs[i]); /* or it is awake */
        }
        if (worker->due_ns[i] < next_ns)
            next_ns = worker->due_ns[i];
    }
    worker->due_next_ns = next_ns;
}

/* ---- catch-up buffers ---- */

uint8_t *worker_catchup_take(struct node_worker *worker)
{
    uint32_t free_bits = ~worker->catchup_used & ((1u << NODE_CATCHUPS_MAX) - 1);
    if (free_bits == 0)
        return NULL;
    unsigned i = (unsigned)__builtin_ctz(free_bits);
    worker->catchup_used |= 1u << i;
    return worker->catchup + (size_t)i * NODE_CATCHUP_BYTES;
}

void worker_catchup_give(struct node_worker *worker, uint8_t *buffer)
{
    size_t i = (size_t)(buffer - worker->catchup) / NODE_CATCHUP_BYTES;
    LEAT_ASSERT(i < NODE_CATCHUPS_MAX && (worker->catchup_used & 1u << i));
    worker->catchup_used &= ~(1u << i);
}
