/* SPDX-License-Identifier: Apache-2.0
 *
 * What other threads ask the worker for: one command a pass and queue. Worker's thread.
 */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "status.h"
#include "worker.h"

static int command_log_fd(struct node_command *command, struct node_log *log)
{
    /* a descriptor that can only read, of a file that only this uid can open (H2) */
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", log->arena.descriptor);
    command->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    return command->descriptor < 0 ? LEAT_ESYSTEM : LEAT_OK;
}

static int command_segment_fd(struct node_worker *worker, struct node_command *command,
                              struct node_log *log)
{
    uint64_t base = leat_segment_base(&log->shape, command->position);
    int fd = leat_storage_segment_fd(worker->storage, log->index, base);
    if (fd < 0)
        return fd;
    command->descriptor = fd;
    command->ret_position = base;
    return LEAT_OK;
}

static int command_index_fd(struct node_worker *worker, struct node_command *command,
                            struct node_log *log)
{
    uint64_t base = leat_segment_base(&log->shape, command->position);
    int fd = leat_storage_index_fd(worker->storage, log->index, base);
    if (fd < 0)
        return fd;
    command->descriptor = fd;
    command->ret_position = base;
    return LEAT_OK;
}

static int command_amnesia(struct node_worker *worker, struct node_command *command,
                           struct node_log *log)
{
    if (!log->core.amnesiac) {
        snprintf(command->text, command->text_bytes, "log %u of this node is not amnesiac",
                 log->id);
        return LEAT_OK;
    }
    struct leat_core_input input = {.kind = LEAT_INPUT_AMNESIA_ACCEPT, .now_ns = worker->now_ns};
    leat_core_step(&log->core, &input);
    logger_line(worker->out, LEAT_LOG_WARNING,
                "log %u: the operator accepted amnesia: replicated appends may be lost since "
                "position %lu",
                log->id, (unsigned long)log->core.commit_d);
    snprintf(command->text, command->text_bytes,
             "accepted: replicated appends may be lost since position %lu",
             (unsigned long)log->core.commit_d);
    return LEAT_OK;
}

static int command_damage(struct node_worker *worker, struct node_command *command,
                          struct node_log *log)
{
    const struct leat_core *core = &log->core;
    if (!core->damaged) {
        snprintf(command->text, command->text_bytes, "log %u of this node is not damaged", log->id);
        return LEAT_OK;
    }
    struct leat_core_input input = {.kind = LEAT_INPUT_DAMAGE_ACCEPT, .now_ns = worker->now_ns};
    leat_core_step(&log->core, &input);
    logger_line(worker->out, LEAT_LOG_WARNING,
                "log %u: the operator accepted damage: what this node had acknowledged from "
                "position %lu on may be lost",
                log->id, (unsigned long)core->durable_pos);
    snprintf(command->text, command->text_bytes,
             "accepted: what this node had acknowledged from position %lu on may be lost",
             (unsigned long)core->durable_pos);
    return LEAT_OK;
}

/* For the lifecycle thread: which logs shall exist. */
static int command_catalogue(struct node_worker *worker, struct node_command *command)
{
    if (!worker->catalogue)
        return LEAT_EWORKER;
    *command->catalogue = *worker->catalogue;
    return LEAT_OK;
}

static int command_run(struct node_worker *worker, struct node_command *command)
{
    struct node_log *log = worker_log(worker, command->log_id);
    switch (command->kind) {
    case NODE_COMMAND_ATTACH:
        return worker->draining ? LEAT_ECLOSED : clients_attach(worker, command->rings);
    case NODE_COMMAND_DETACH:
        return clients_detach(worker, command);
    case NODE_COMMAND_STATUS:
        node_status_fill(worker, command->status);
        return LEAT_OK;
    case NODE_COMMAND_CATALOGUE:
        return command_catalogue(worker, command);
    case NODE_COMMAND_CHANGE:
        return admin_begin(worker, command);
    case NODE_COMMAND_LOG_CREATE:
        return life_create(worker, command);
    case NODE_COMMAND_LOG_DELETE:
        return life_delete(worker, command);
    default:
        break;
    }
    if (!log)
        return LEAT_ENOLOG;
    worker_wake(log);
    switch (command->kind) {
    case NODE_COMMAND_LOG:
        return command_log_fd(command, log);
    case NODE_COMMAND_SEGMENT:
        return command_segment_fd(worker, command, log);
    case NODE_COMMAND_INDEX:
        return command_index_fd(worker, command, log);
    case NODE_COMMAND_TRANSFER:
    case NODE_COMMAND_TRIM:
        return operate_begin(worker, log, command);
    case NODE_COMMAND_AMNESIA_ACCEPT:
        return command_amnesia(worker, command, log);
    case NODE_COMMAND_DAMAGE_ACCEPT:
        return command_damage(worker, command, log);
    case NODE_COMMAND_TAIL:
        return tail_begin(worker, log, command);
    case NODE_COMMAND_LOG_CONFIGURE:
        log->retention_bytes = command->change.row.retention_bytes;
        log->retention_ns = command->change.row.retention_ns;
        return LEAT_OK;
    default:
        return LEAT_EINVAL;
    }
}

static unsigned commands_run_one(struct node_worker *worker, struct node_commands *commands)
{
    struct node_command *command = node_commands_pop(commands);
    if (!command)
        return 0;
    command->descriptor = -1;
    int rc = command_run(worker, command);
    if (rc != NODE_COMMAND_LATER) {
        command->error = rc;
        atomic_store_explicit(&command->done, true, memory_order_release);
    }
    return 1;
}

unsigned commands_run(struct node_worker *worker)
{
    unsigned work = 0;
    for (unsigned i = 0; i < NODE_COMMAND_QUEUES; i++)
        work += commands_run_one(worker, &worker->commands[i]);
    return work;
}
