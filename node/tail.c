/* SPDX-License-Identifier: Apache-2.0
 *
 * Where does a log end, for certain? A read index (Ongaro's thesis, 6.4): the leader answers with
 * its commit once a nonce round that began after the question proves that it still leads; there
 * are no leases. Questions that come while a round is on its way share the next one, so any number
 * of them costs a round per round trip. A follower's node asks its leader, and answers when its
 * own replica has committed that far.
 *
 *   asked -> pending (at the leader) -> flying (a round begun since) -> answered -> reached here
 *
 * Worker's thread. Tests: tests/system/test_tail.py.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define TAIL_RETRY_NS    20000000u
#define TAIL_DEADLINE_NS 5000000000u

/* ---- at the leader ---- */

static void tail_ask(struct node_log *log, unsigned member, uint64_t request)
{
    struct node_tail *tail = &log->tail_asked;
    if (request <= tail->pending[member] || request <= tail->flying[member])
        return;
    tail->pending[member] = request;
    tail->pending_count++;
    worker_wake(log);
}

/* This node's own questions up to `request` are answered. */
static void tail_answered(struct node_log *log, uint64_t request, uint64_t commit_d,
                          uint64_t commit_r)
{
    struct node_worker *worker = log->worker;
    for (unsigned i = 0; i < NODE_TAILS_MAX; i++) {
        struct node_tail_question *question = &worker->tails[i];
        if (!question->command || question->log_id != log->id || question->answered ||
            question->request > request)
            continue;
        question->answered = true;
        question->target_pos = question->replicated ? commit_r : commit_d;
    }
}

static void tail_land(struct node_log *log)
{
    struct node_tail *tail = &log->tail_asked;
    const struct leat_core *core = &log->core;
    for (unsigned member = 0; member < core->config.member_count; member++) {
        uint64_t request = tail->flying[member];
        tail->flying[member] = 0;
        if (request == 0)
            continue;
        if (member == core->config.self) {
            tail_answered(log, request, core->commit_d, core->commit_r);
            continue;
        }
        struct leat_wire_tail_reply reply = {
            .request = request, .commit_d = core->commit_d, .commit_r = core->commit_r};
        peers_send(log, log->worker->peer_of_member[member], LEAT_WIRE_TAIL_REPLY, &reply,
                   sizeof(reply), NULL, 0);
    }
    tail->round = 0;
}

void tail_lead(struct node_log *log)
{
    struct node_tail *tail = &log->tail_asked;
    if (tail->round != 0 && leat_core_round_is_answered(&log->core, tail->round))
        tail_land(log);
    /* before its own TERM frame is committed a leader does not know what is (G2) */
    if (tail->round != 0 || tail->pending_count == 0 || log->core.term_end == 0 ||
        log->core.commit_d < log->core.term_end)
        return;
    memcpy(tail->flying, tail->pending, sizeof(tail->flying));
    memset(tail->pending, 0, sizeof(tail->pending));
    tail->pending_count = 0;
    tail->round = leat_core_begin_round(&log->core);
}

void tail_clear(struct node_log *log)
{
    memset(&log->tail_asked, 0, sizeof(log->tail_asked)); /* the askers ask again */
}

bool tail_is_busy(const struct node_log *log)
{
    return log->tail_asked.round != 0 || log->tail_asked.pending_count > 0;
}

void tail_take(struct node_log *log, unsigned peer, const struct leat_wire_view *view)
{
    const struct leat_wire_tail *asked = view->body;
    if (log->core.role == LEAT_LEADER)
        tail_ask(log, log->worker->peers[peer].member, asked->request);
}

void tail_take_reply(struct node_log *log, const struct leat_wire_view *view)
{
    const struct leat_wire_tail_reply *reply = view->body;
    if (log->core.role == LEAT_FOLLOWER && reply->request <= log->worker->tail_request)
        tail_answered(log, reply->request, reply->commit_d, reply->commit_r);
}

/* ---- who asks here ---- */

int tail_begin(struct node_worker *worker, struct node_log *log, struct node_command *command)
{
    if (worker->tail_request == 0) /* an answer to a former life answers nothing of this one */
        worker->tail_request = worker->incarnation << 24;
    for (unsigned i = 0; i < NODE_TAILS_MAX; i++) {
        struct node_tail_question *question = &worker->tails[i];
        if (question->command)
            continue;
        *question = (struct node_tail_question){
            .command = command,
            .log_id = log->id,
            .replicated = command->node_id == LEAT_LEVEL_REPLICATED,
            .request = ++worker->tail_request,
            .began_ns = worker->now_ns,
        };
        worker->tail_count++;
        return NODE_COMMAND_LATER;
    }
    return LEAT_EAGAIN;
}

static void tail_finish(struct node_worker *worker, struct node_tail_question *question, int error)
{
    struct node_command *command = question->command;
    question->command = NULL;
    worker->tail_count--;
    command->error = error;
    atomic_store_explicit(&command->done, true, memory_order_release);
}

static void tail_step(struct node_worker *worker, struct node_tail_question *question)
{
    struct node_log *log = worker_log(worker, question->log_id);
    if (!log || worker->now_ns - question->began_ns > TAIL_DEADLINE_NS) {
        tail_finish(worker, question,
                    !log                                   ? LEAT_ENOLOG
                    : log->core.leader == LEAT_CORE_NOBODY ? LEAT_ENOLEADER
                                                           : LEAT_EDEADLINE);
        return;
    }
    const struct leat_chain *reached = question->replicated ? &log->completed : &log->applied;
    if (question->answered) {
        if (reached->position < question->target_pos) {
            worker_wake(log); /* what is committed in memory is gone over for whoever asks */
            return;
        }
        question->command->ret_position = reached->position;
        question->command->ret_offset = reached->next_offset;
        tail_finish(worker, question, LEAT_OK);
        return;
    }
    if (question->asked_ns != 0 && worker->now_ns - question->asked_ns < TAIL_RETRY_NS)
        return;
    question->asked_ns = worker->now_ns;
    if (log->core.role == LEAT_LEADER) {
        tail_ask(log, worker->self, question->request);
    } else if (log->core.role == LEAT_FOLLOWER && log->core.leader != LEAT_CORE_NOBODY) {
        struct leat_wire_tail body = {.request = question->request};
        peers_send(log, worker->peer_of_member[log->core.leader], LEAT_WIRE_TAIL, &body,
                   sizeof(body), NULL, 0);
    }
}

void tail_tick(struct node_worker *worker)
{
    for (unsigned i = 0; i < NODE_TAILS_MAX && worker->tail_count > 0; i++) {
        if (worker->tails[i].command)
            tail_step(worker, &worker->tails[i]);
    }
}
