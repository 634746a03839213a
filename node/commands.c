/* SPDX-License-Identifier: Apache-2.0
 *
 * What the control thread asks the worker for: one command a pass. Worker's thread.
 */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "status.h"
#include "worker.h"

_Static_assert(sizeof(struct node_status) <= LEAT_CONTROL_TEXT_BYTES_MAX, "fits a command");

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

static int command_transfer(struct node_worker *worker, struct node_command *command,
                            struct node_log *log)
{
    struct leat_core *core = &log->core;
    int to = command->node_id ? leat_config_node_index(worker->config, command->node_id) : -1;
    if (core->role != LEAT_LEADER) {
        uint32_t leader =
            core->leader == LEAT_CORE_NOBODY ? 0 : worker->config->nodes[core->leader].id;
        snprintf(command->text, command->text_bytes, "node %u leads log %u: ask it", leader,
                 log->id);
        return LEAT_ENOTLEADER;
    }
    if (command->node_id == 0)
        to = log_best_follower(log);
    if (to < 0 || to == core->config.self || !core->peers[to].matched) {
        snprintf(command->text, command->text_bytes, "no such follower that is caught up");
        return LEAT_EINVAL;
    }
    log_transfer(log, to);
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

static int command_trim(struct node_worker *worker, struct node_command *command,
                        struct node_log *log)
{
    struct leat_trim_payload trim = {
        .trim_pos = leat_segment_base(&log->shape, command->position < log->core.commit_d
                                                       ? command->position
                                                       : log->core.commit_d)};
    (void)worker;
    if (!leat_core_may_append(&log->core)) {
        snprintf(command->text, command->text_bytes, "only the leader of a log can trim it");
        return LEAT_ENOTLEADER;
    }
    command->ret_position = trim.trim_pos;
    snprintf(command->text, command->text_bytes, "trims to position %lu",
             (unsigned long)trim.trim_pos);
    if (trim.trim_pos <= log->trim_tail)
        return LEAT_OK;
    return log_append(log, LEAT_FRAME_TRIM, 0, 0, &trim, sizeof(trim));
}

/* Control thread: the worker left its state as it lies, here it becomes text. */
static void command_finish_status(struct node_command *command)
{
    struct node_status *status = malloc(sizeof(*status));
    if (status)
        memcpy(status, command->text, sizeof(*status));
    memset(command->text, 0, command->text_bytes);
    command->error =
        status ? node_status_json(status, command->text, command->text_bytes) : LEAT_ENOMEM;
    free(status);
}

static int command_run(struct node_worker *worker, struct node_command *command)
{
    struct node_log *log = worker_log(worker, command->log_id);
    switch (command->kind) {
    case NODE_COMMAND_ATTACH:
        return worker->draining ? LEAT_ECLOSED : clients_attach(worker, command->rings);
    case NODE_COMMAND_DETACH:
        clients_detach(worker, command->rings);
        return LEAT_OK;
    case NODE_COMMAND_STATUS:
        LEAT_ASSERT(command->text_bytes >= sizeof(struct node_status));
        node_status_fill(worker, (struct node_status *)(void *)command->text);
        command->finish = command_finish_status;
        return LEAT_OK;
    default:
        break;
    }
    if (!log)
        return LEAT_ENOLOG;
    switch (command->kind) {
    case NODE_COMMAND_LOG:
        return command_log_fd(command, log);
    case NODE_COMMAND_SEGMENT:
        return command_segment_fd(worker, command, log);
    case NODE_COMMAND_TRANSFER:
        return command_transfer(worker, command, log);
    case NODE_COMMAND_AMNESIA_ACCEPT:
        return command_amnesia(worker, command, log);
    case NODE_COMMAND_TRIM:
        return command_trim(worker, command, log);
    default:
        return LEAT_EINVAL;
    }
}

unsigned commands_run(struct node_worker *worker)
{
    struct node_command *command = node_commands_pop(worker->commands);
    if (!command)
        return 0;
    command->descriptor = -1;
    command->error = command_run(worker, command);
    atomic_store_explicit(&command->done, true, memory_order_release);
    return 1;
}
