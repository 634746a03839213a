/* SPDX-License-Identifier: Apache-2.0
 *
 * Logs that come and go while the node serves. The lifecycle thread has made a log's memory and
 * arena; here it is given its files and begins to serve, or it ends:
 *
 *   CREATE  storage makes the files (its helper writes them) -> CREATED -> the core begins at the
 *           genesis frame -> the command is done
 *   DELETE  its clients' appends end, it is found no more -> no packet and no read refers to its
 *           arena -> storage forgets it -> DELETED -> the command is done
 *
 * Worker's thread. Tests: tests/system/test_logs.py.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

/* ---- creating ---- */

int life_create(struct node_worker *worker, struct node_command *command)
{
    const struct leat_catalogue_row *row = &command->change.row;
    struct node_log *log = command->log;
    struct leat_storage_create create = {
        .log = {.log_id = row->log_id,
                .generation = row->generation,
                .entry_bytes_max = row->entry_bytes_max,
                .segment_bytes = row->segment_bytes,
                .arena_bytes = row->arena_bytes,
                .accepts_replicated = log->accepts_replicated},
        .arena_bytes = log->arena.bytes,
        .arena = log->arena.header->arena,
        .boot = log->arena.header->boot,
    };
    if (worker->creation)
        return LEAT_EAGAIN;
    int rc = leat_storage_log_create(worker->storage, &create, &log->index);
    if (rc != LEAT_OK)
        return rc;
    worker->creation = command;
    return NODE_COMMAND_LATER;
}

void life_created(struct node_worker *worker, uint64_t genesis_end, int64_t result)
{
    struct node_command *command = worker->creation;
    LEAT_ASSERT(command);
    worker->creation = NULL;
    command->error = (int32_t)result;
    if (result == LEAT_OK) {
        const struct leat_catalogue_row *row = &command->change.row;
        command->log->retention_bytes = row->retention_bytes;
        command->log->retention_ns = row->retention_ns;
        log_begin_created(command->log, genesis_end);
        logger_line(worker->out, LEAT_LOG_INFO, "log %u (%s): created on worker %u", row->log_id,
                    row->name, worker->number);
    }
    atomic_store_explicit(&command->done, true, memory_order_release);
}

/* ---- deleting ---- */

static void life_end_clients(struct node_worker *worker, struct node_log *log)
{
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        if (!worker->clients[i].rings)
            continue;
        clients_end_session(worker, i, log, LEAT_EDELETED, 0);
        memset(&worker->clients[i].logs[log->index], 0, sizeof(worker->clients[i].logs[0]));
    }
    for (unsigned i = 0; i < NODE_REASSEMBLY_MAX; i++) {
        if (worker->reassembly[i].log == log->index)
            worker->reassembly[i].total_bytes = 0;
    }
}

int life_delete(struct node_worker *worker, struct node_command *command)
{
    struct node_log *log = worker_log(worker, command->log_id);
    if (!log)
        return LEAT_ENOLOG;
    if (worker->deletion)
        return LEAT_EAGAIN;
    life_end_clients(worker, log);
    __atomic_fetch_or(&log->arena.header->flags, LEAT_ARENA_DELETED, __ATOMIC_RELEASE);
    /* whoever watches is woken: nobody leads it */
    node_arena_leadership(&log->arena, log->core.term, 0, LEAT_ARENA_FOLLOWER);
    log_assembler_clear(log);
    log_send_clear(log);
    worker_remove_log(worker, log);
    worker->led_changed = true;
    worker->deletion = command;
    worker->deletion_asked = false;
    command->log = log;
    logger_line(worker->out, LEAT_LOG_INFO, "log %u: deleted", log->id);
    return NODE_COMMAND_LATER;
}

/* A read that its catch-up still had in flight. */
void life_read_done(struct node_worker *worker, const struct leat_storage_event *event)
{
    LEAT_ASSERT(worker->deletion);
    struct node_log *log = worker->deletion->log;
    log_send_read_done(log, (unsigned)((struct node_send *)event->cookie - log->sends), event);
}

void life_tick(struct node_worker *worker)
{
    struct node_command *command = worker->deletion;
    if (!command || worker->deletion_asked)
        return;
    struct node_log *log = command->log;
    if (log_send_pending(log) || worker->retention.log == log ||
        leat_port_lowest_referenced(worker->port, log->index) != UINT64_MAX)
        return;
    leat_storage_log_delete(worker->storage, log->index);
    worker->deletion_asked = true;
}

void life_deleted(struct node_worker *worker, uint32_t index)
{
    struct node_command *command = worker->deletion;
    LEAT_ASSERT(command && command->log->index == index);
    worker->deletion = NULL;
    command->error = LEAT_OK;
    atomic_store_explicit(&command->done, true, memory_order_release);
}
