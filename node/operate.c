/* SPDX-License-Identifier: Apache-2.0
 *
 * Trims and transfers: asked of any node, done by the log's leader. A follower's node sends the
 * question until the leader answers. A trim asked twice is one. A transfer counts in the term in
 * which it was asked for: when the term is another, it happened, or somebody else's did.
 *
 *   asked -> done here (it leads)
 *         -> sent, again and again -> answered, or time ran out
 *
 * Worker's thread. Tests: tests/system/test_logs.py.
 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define OPERATE_RETRY_NS    50000000u
#define OPERATE_DEADLINE_NS 3000000000u /* libleat waits for 5 s */

/* ---- at the leader ---- */

static int operate_transfer(struct node_log *log, uint32_t to_node, char *text, size_t text_bytes)
{
    struct leat_core *core = &log->core;
    int to =
        to_node ? leat_config_node_index(log->worker->config, to_node) : log_best_follower(log);
    if (to == core->config.self) {
        snprintf(text, text_bytes, "node %u leads log %u", to_node, log->id);
        return LEAT_OK;
    }
    if (to < 0 || !core->peers[to].matched) {
        snprintf(text, text_bytes, "no such follower that is caught up");
        return LEAT_EINVAL;
    }
    log_transfer(log, to);
    return LEAT_OK;
}

static int operate_trim(struct node_log *log, uint64_t position, uint64_t *ret_position, char *text,
                        size_t text_bytes)
{
    uint64_t below = position < log->core.commit_d ? position : log->core.commit_d;
    struct leat_trim_payload trim = {.trim_pos = leat_segment_base(&log->shape, below)};
    if (!leat_core_may_append(&log->core))
        return LEAT_EAGAIN;
    *ret_position = trim.trim_pos;
    snprintf(text, text_bytes, "trims to position %lu", (unsigned long)trim.trim_pos);
    if (trim.trim_pos <= log->trim_tail)
        return LEAT_OK;
    return log_append(log, LEAT_FRAME_TRIM, 0, 0, &trim, sizeof(trim));
}

static int operate_here(struct node_log *log, const struct leat_wire_operate *asked,
                        uint64_t *ret_position, char *text, size_t text_bytes)
{
    LEAT_ASSERT(log->core.role == LEAT_LEADER);
    worker_wake(log);
    return asked->operation == LEAT_OPERATE_TRIM
               ? operate_trim(log, asked->position, ret_position, text, text_bytes)
               : operate_transfer(log, asked->to_node, text, text_bytes);
}

void operate_take(struct node_log *log, unsigned peer, const struct leat_wire_view *view)
{
    const struct leat_wire_operate *asked = view->body;
    struct leat_wire_operated reply = {.request = asked->request};
    char text[LEAT_WIRE_TEXT_BYTES_MAX] = "";
    if (log->core.role != LEAT_LEADER || log->core.term != asked->term)
        return; /* it asks again */
    reply.error = operate_here(log, asked, &reply.position, text, sizeof(text));
    if (reply.error != LEAT_EAGAIN)
        peers_send(log, peer, LEAT_WIRE_OPERATED, &reply, sizeof(reply), text,
                   (uint32_t)strlen(text));
}

/* ---- who asks here ---- */

static void operate_finish(struct node_worker *worker, struct node_operation *operation, int error)
{
    struct node_command *command = operation->command;
    operation->command = NULL;
    worker->operation_count--;
    command->error = error;
    atomic_store_explicit(&command->done, true, memory_order_release);
}

int operate_begin(struct node_worker *worker, struct node_log *log, struct node_command *command)
{
    bool trims = command->kind == NODE_COMMAND_TRIM;
    if (worker->operation_request == 0) /* answers to a former life are none to this one */
        worker->operation_request = worker->incarnation << 24;
    if (!trims && command->node_id != 0 &&
        leat_config_node_index(worker->config, command->node_id) < 0) {
        snprintf(command->text, command->text_bytes, "there is no node %u", command->node_id);
        return LEAT_EINVAL;
    }
    for (unsigned i = 0; i < NODE_OPERATIONS_MAX; i++) {
        struct node_operation *operation = &worker->operations[i];
        if (operation->command)
            continue;
        *operation = (struct node_operation){
            .command = command,
            .log_id = log->id,
            .began_ns = worker->now_ns,
            .asked = {.request = ++worker->operation_request,
                      .operation = trims ? LEAT_OPERATE_TRIM : LEAT_OPERATE_TRANSFER,
                      .position = command->position,
                      .to_node = trims ? 0 : command->node_id},
        };
        worker->operation_count++;
        return NODE_COMMAND_LATER;
    }
    snprintf(command->text, command->text_bytes, "other operations are on their way: try again");
    return LEAT_EAGAIN;
}

static void operate_give_up(struct node_worker *worker, struct node_operation *operation,
                            const struct node_log *log)
{
    uint8_t leader = log->core.leader;
    bool known = leader != LEAT_CORE_NOBODY && leader != log->core.config.self;
    if (known)
        snprintf(operation->command->text, operation->command->text_bytes,
                 "node %u leads log %u and did not answer: it may have been done",
                 worker->config->nodes[leader].id, log->id);
    else
        snprintf(operation->command->text, operation->command->text_bytes,
                 "log %u has no leader now: is a majority of the nodes up?", log->id);
    operate_finish(worker, operation, known ? LEAT_EDEADLINE : LEAT_ENOTLEADER);
}

/* Leadership moved since it was asked for: to where it should, or anywhere when that is as good. */
static bool operate_has_moved(const struct node_worker *worker, struct node_operation *operation,
                              const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    uint8_t leader = core->role == LEAT_LEADER ? core->config.self : core->leader;
    if (operation->asked.operation != LEAT_OPERATE_TRANSFER || operation->asked_ns == 0 ||
        core->term == operation->asked.term || leader == LEAT_CORE_NOBODY)
        return false;
    uint32_t node_id = worker->config->nodes[leader].id;
    if (operation->asked.to_node != 0 && operation->asked.to_node != node_id)
        return false;
    snprintf(operation->command->text, operation->command->text_bytes, "node %u leads log %u",
             node_id, log->id);
    return true;
}

static void operate_step(struct node_worker *worker, struct node_operation *operation)
{
    struct node_command *command = operation->command;
    struct node_log *log = worker_log(worker, operation->log_id);
    if (!log) {
        operate_finish(worker, operation, LEAT_ENOLOG);
        return;
    }
    if (operate_has_moved(worker, operation, log)) {
        operate_finish(worker, operation, LEAT_OK);
        return;
    }
    if (worker->now_ns - operation->began_ns > OPERATE_DEADLINE_NS) {
        operate_give_up(worker, operation, log);
        return;
    }
    operation->asked.term = log->core.term;
    if (log->core.role == LEAT_LEADER) {
        int rc = operate_here(log, &operation->asked, &command->ret_position, command->text,
                              command->text_bytes);
        if (rc != LEAT_EAGAIN)
            operate_finish(worker, operation, rc);
        return;
    }
    if (log->core.role != LEAT_FOLLOWER || log->core.leader == LEAT_CORE_NOBODY ||
        (operation->asked_ns != 0 && worker->now_ns - operation->asked_ns < OPERATE_RETRY_NS))
        return;
    operation->asked_ns = worker->now_ns;
    peers_send(log, worker->peer_of_member[log->core.leader], LEAT_WIRE_OPERATE, &operation->asked,
               sizeof(operation->asked), NULL, 0);
}

void operate_tick(struct node_worker *worker)
{
    for (unsigned i = 0; i < NODE_OPERATIONS_MAX && worker->operation_count > 0; i++) {
        if (worker->operations[i].command)
            operate_step(worker, &worker->operations[i]);
    }
}

void operate_take_reply(struct node_log *log, const struct leat_wire_view *view)
{
    const struct leat_wire_operated *reply = view->body;
    struct node_worker *worker = log->worker;
    for (unsigned i = 0; i < NODE_OPERATIONS_MAX && worker->operation_count > 0; i++) {
        struct node_operation *operation = &worker->operations[i];
        if (!operation->command || operation->log_id != log->id ||
            operation->asked.request != reply->request)
            continue;
        snprintf(operation->command->text, operation->command->text_bytes, "%.*s",
                 (int)view->payload_bytes, (const char *)view->payload);
        operation->command->ret_position = reply->position;
        operate_finish(worker, operation, reply->error);
    }
}
