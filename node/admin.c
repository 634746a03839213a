/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes of the catalogue, on worker 0: asked by an administrator here or on another node, judged
 * and written by the leader of log 0, done when the frame is applied on the asker's node. A change
 * is named by its asker's request uuid, which rides in the frame: asking again, of a later leader
 * too, neither makes it twice nor loses its answer.
 *
 *   WAITING -> done   the frame was applied here, the leader refused, or time ran out (unknown)
 *
 * Worker's thread. Tests: tests/system/test_logs.py.
 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define ADMIN_RETRY_NS    50000000u
#define ADMIN_DEADLINE_NS 10000000000u

static struct node_log *admin_log(struct node_worker *worker)
{
    struct node_log *log = worker_log(worker, 0);
    LEAT_ASSERT(log && worker->admin);
    return log;
}

static void admin_finish(struct node_admin_request *request, int error, const char *why,
                         uint32_t log_id)
{
    struct node_command *command = request->command;
    request->command = NULL;
    command->error = error;
    command->ret_position = log_id;
    snprintf(command->text, command->text_bytes, "%s", why);
    atomic_store_explicit(&command->done, true, memory_order_release);
}

/* Was it written already, in a frame that is applied or is on its way? */
static bool admin_is_written(const struct node_admin *admin, uint32_t term,
                             const struct leat_uuid *request)
{
    for (uint32_t i = 0; i < NODE_ADMIN_RECENT; i++) {
        if ((admin->recent[i].applied || admin->recent[i].term == term) &&
            leat_uuid_equal(&admin->recent[i].request, request))
            return true;
    }
    return false;
}

static void admin_note(struct node_admin *admin, const struct leat_uuid *request, uint32_t term,
                       bool applied)
{
    for (uint32_t i = 0; i < NODE_ADMIN_RECENT; i++) {
        if (leat_uuid_equal(&admin->recent[i].request, request)) {
            admin->recent[i].applied |= applied;
            admin->recent[i].term = term;
            return;
        }
    }
    admin->recent[admin->recent_next++ % NODE_ADMIN_RECENT] =
        (struct node_admin_recent){.request = *request, .term = term, .applied = applied};
}

/* At the leader. Returns 0 when it is written (or was), LEAT_EAGAIN to ask again, or a refusal. */
static int admin_write(struct node_worker *worker, const struct leat_catalogue_payload *asked,
                       uint32_t uid, char *why, unsigned why_bytes)
{
    struct node_log *log = admin_log(worker);
    struct leat_catalogue_payload payload = *asked;
    if (!log_rules(log) || !log->tail_is_valid || worker->draining)
        return LEAT_EAGAIN; /* before its TERM frame is committed it does not know what was done */
    if (admin_is_written(worker->admin, log->core.term, &asked->request))
        return LEAT_OK;
    struct node_catalogue_limits limits = {
        .arena_budget_bytes = worker->config->arena_budget_bytes,
        .window_bytes = worker->config->window_bytes,
        .logs_per_user = worker->config->quota_logs,
        .unlimited = uid == NODE_ADMIN_OPERATOR,
        .uid = uid == NODE_ADMIN_OPERATOR ? 0 : uid,
    };
    int rc = catalogue_judge(worker->catalogue_tail, &limits, worker->realtime_ns, &payload, why,
                             why_bytes);
    if (rc != LEAT_OK)
        return rc;
    rc = log_append(log, LEAT_FRAME_CATALOGUE, 0, 0, &payload, sizeof(payload));
    if (rc != LEAT_OK)
        return rc;
    worker_wake(log);
    return LEAT_OK;
}

void admin_written(struct node_worker *worker, const struct leat_catalogue_payload *payload)
{
    admin_note(worker->admin, &payload->request, worker_log(worker, 0)->core.term, false);
}

void admin_recovering(struct node_worker *worker)
{
    memset(worker->admin->recent, 0, sizeof(worker->admin->recent));
    worker->admin->recent_next = 0;
}

void admin_recovered(struct node_worker *worker, const struct leat_catalogue_payload *payload)
{
    admin_note(worker->admin, &payload->request, 0, true);
}

/* ---- who asks here ---- */

int admin_begin(struct node_worker *worker, struct node_command *command)
{
    if (!worker->admin)
        return LEAT_EWORKER;
    for (uint32_t i = 0; i < NODE_ADMIN_REQUESTS; i++) {
        struct node_admin_request *request = &worker->admin->requests[i];
        if (request->command)
            continue;
        *request = (struct node_admin_request){
            .command = command,
            .began_ns = worker->now_ns,
        };
        worker->admin->waiting++;
        return NODE_COMMAND_LATER;
    }
    snprintf(command->text, command->text_bytes, "other changes are being made: try again");
    return LEAT_EAGAIN;
}

static void admin_ask_leader(struct node_worker *worker, const struct node_command *command)
{
    struct node_log *log = admin_log(worker);
    if (log->core.role != LEAT_FOLLOWER || log->core.leader == LEAT_CORE_NOBODY)
        return;
    struct leat_wire_admin body = {.request = command->change.request, .uid = command->uid};
    peers_send(log, worker->peer_of_member[log->core.leader], LEAT_WIRE_ADMIN, &body, sizeof(body),
               &command->change, sizeof(command->change));
}

static void admin_step(struct node_worker *worker, struct node_admin_request *request)
{
    struct node_log *log = admin_log(worker);
    char why[LEAT_WIRE_TEXT_BYTES_MAX] = "";
    if (worker->now_ns - request->began_ns > ADMIN_DEADLINE_NS) {
        admin_finish(request, LEAT_EDEADLINE,
                     log->core.leader == LEAT_CORE_NOBODY
                         ? "log 0 has no leader: is a majority of the nodes up?"
                         : "the change was not seen to be made in time: look at the list of logs",
                     0);
        return;
    }
    if (log->core.role != LEAT_LEADER) {
        if (worker->now_ns - request->asked_ns < ADMIN_RETRY_NS)
            return;
        request->asked_ns = worker->now_ns;
        admin_ask_leader(worker, request->command);
        return;
    }
    int rc =
        admin_write(worker, &request->command->change, request->command->uid, why, sizeof(why));
    if (rc != LEAT_OK && rc != LEAT_EAGAIN)
        admin_finish(request, rc, why, 0);
}

unsigned admin_tick(struct node_worker *worker)
{
    struct node_admin *admin = worker->admin;
    if (!admin || admin->waiting == 0)
        return 0;
    admin->waiting = 0;
    for (uint32_t i = 0; i < NODE_ADMIN_REQUESTS; i++) {
        if (!admin->requests[i].command)
            continue;
        admin_step(worker, &admin->requests[i]);
        admin->waiting += admin->requests[i].command != NULL;
    }
    return 0;
}

void admin_applied(struct node_worker *worker, const struct leat_catalogue_payload *payload)
{
    struct node_admin *admin = worker->admin;
    admin_note(admin, &payload->request, worker_log(worker, 0)->core.term, true);
    for (uint32_t i = 0; i < NODE_ADMIN_REQUESTS; i++) {
        struct node_command *command = admin->requests[i].command;
        if (command && leat_uuid_equal(&command->change.request, &payload->request))
            admin_finish(&admin->requests[i], LEAT_OK, "", payload->row.log_id);
    }
}

/* ---- from other nodes ---- */

void admin_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                const struct leat_wire_view *view)
{
    const struct leat_wire_admin *asked = view->body;
    struct leat_catalogue_payload payload;
    char why[LEAT_WIRE_TEXT_BYTES_MAX] = "";
    if (log->id != 0 || log->core.role != LEAT_LEADER)
        return; /* it asks again */
    memcpy(&payload, view->payload, sizeof(payload));
    if (!leat_uuid_equal(&payload.request, &asked->request)) {
        worker->drops[LEAT_WIRE_DROP_BODY]++;
        return;
    }
    int rc = admin_write(worker, &payload, asked->uid, why, sizeof(why));
    if (rc == LEAT_OK || rc == LEAT_EAGAIN)
        return;
    struct leat_wire_administered reply = {.request = asked->request, .error = rc};
    peers_send(log, peer, LEAT_WIRE_ADMINISTERED, &reply, sizeof(reply), why,
               (uint32_t)strlen(why));
}

void admin_take_reply(struct node_worker *worker, struct node_log *log, unsigned peer,
                      const struct leat_wire_view *view)
{
    const struct leat_wire_administered *reply = view->body;
    const struct leat_core *core = &log->core;
    if (log->id != 0 || core->role != LEAT_FOLLOWER || core->leader == LEAT_CORE_NOBODY ||
        worker->peer_of_member[core->leader] != peer)
        return; /* only the present leader's word counts */
    for (uint32_t i = 0; i < NODE_ADMIN_REQUESTS; i++) {
        struct node_admin_request *request = &worker->admin->requests[i];
        char why[LEAT_WIRE_TEXT_BYTES_MAX + 1];
        if (!request->command ||
            !leat_uuid_equal(&request->command->change.request, &reply->request))
            continue;
        memcpy(why, view->payload, view->payload_bytes);
        why[view->payload_bytes] = 0;
        admin_finish(request, reply->error, why, 0);
    }
}
