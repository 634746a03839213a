/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage in sealed segments, found by the scrub or by a read that failed, repaired from peers while
 * everything else goes on. One segment at a time per worker: its bytes are asked for in windows,
 * in order, put to storage, which verifies the whole by the chain before it takes the place of the
 * damaged file; a peer whose bytes do not hold is followed by the next.
 *
 *   queue: (log, segment) -> asking peer p for [position, + window) -> whole -> REPAIRED
 *                                 ^ no progress, or not this log: p + 1
 *
 * The other half serves such requests: one read at a time per worker, of durable bytes only; what
 * it sends is verified by who asked. Worker's thread. Tests: tests/system/test_repair.py.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define REPAIR_WINDOW_BYTES (64u << 10)
#define REPAIR_RETRY_NS     50000000u
#define REPAIR_TRIES        20u         /* of one peer without progress */
#define REPAIR_PAUSE_NS     1000000000u /* after every peer failed */

/* ---- asking ---- */

/* Of what is being repaired storage tells the end; the others may be of segments that left. */
static void repair_leave_trimmed(struct node_worker *worker)
{
    struct node_repair *repair = &worker->repair;
    uint32_t kept = repair->asking;
    for (uint32_t i = kept; i < repair->count; i++) {
        const struct node_log *log = worker_log(worker, repair->queue[i].log_id);
        if (log && repair->queue[i].base_pos >= log->core.base_pos)
            repair->queue[kept++] = repair->queue[i];
    }
    repair->count = kept;
}

void repair_note(struct node_log *log, uint64_t begin_pos, uint64_t end_pos)
{
    struct node_worker *worker = log->worker;
    struct node_repair *repair = &worker->repair;
    uint64_t base_pos = leat_segment_base(&log->shape, begin_pos);
    logger_line(worker->out, LEAT_LOG_ERROR,
                "log %u: damaged between %lu and %lu, in a sealed segment: it is repaired from "
                "peers",
                log->id, (unsigned long)begin_pos, (unsigned long)end_pos);
    log->counters.damages++;
    for (uint32_t i = 0; i < repair->count; i++) {
        if (repair->queue[i].log_id == log->id && repair->queue[i].base_pos == base_pos)
            return;
    }
    if (repair->count == NODE_REPAIRS_MAX)
        repair_leave_trimmed(worker);
    if (repair->count == NODE_REPAIRS_MAX)
        return; /* storage knows of no more at one time, unless their logs are being deleted */
    repair->queue[repair->count++] = (struct node_repair_item){log->id, base_pos};
}

static void repair_drop_first(struct node_repair *repair)
{
    repair->count--;
    memmove(repair->queue, repair->queue + 1, repair->count * sizeof(repair->queue[0]));
    repair->asking = false;
}

/* To the back of the queue: another segment may be what it waits for. */
static void repair_postpone(struct node_worker *worker)
{
    struct node_repair *repair = &worker->repair;
    struct node_repair_item item = repair->queue[0];
    repair_drop_first(repair);
    repair->queue[repair->count++] = item;
    repair->pause_until_ns = worker->now_ns + REPAIR_PAUSE_NS;
}

static void repair_next_peer(struct node_worker *worker, struct node_log *log)
{
    struct node_repair *repair = &worker->repair;
    leat_storage_repair_abandon(worker->storage, log->index);
    repair->asking = false;
    repair->tries = 0;
    if (++repair->peer < worker->peer_count)
        return;
    repair->peer = 0;
    repair_postpone(worker);
}

static void repair_ask(struct node_worker *worker, struct node_log *log)
{
    struct node_repair *repair = &worker->repair;
    uint64_t end_pos = repair->queue[0].base_pos + log->shape.segment_bytes;
    if (repair->position == end_pos || worker->now_ns - repair->asked_ns < REPAIR_RETRY_NS)
        return; /* whole: storage is looking through it */
    if (repair->tries++ == REPAIR_TRIES || !peers_link(worker, repair->peer, log->id)->known) {
        repair_next_peer(worker, log);
        return;
    }
    struct leat_wire_repair body = {.begin_pos = repair->position,
                                    .end_pos = repair->position + REPAIR_WINDOW_BYTES};
    if (body.end_pos > end_pos)
        body.end_pos = end_pos;
    repair->window_end = body.end_pos;
    repair->asked_ns = worker->now_ns;
    peers_send(log, repair->peer, LEAT_WIRE_REPAIR, &body, sizeof(body), NULL, 0);
}

void repair_tick(struct node_worker *worker)
{
    struct node_repair *repair = &worker->repair;
    if (repair->count == 0 || worker->now_ns < repair->pause_until_ns)
        return;
    struct node_log *log = worker_log(worker, repair->queue[0].log_id);
    if (!log || worker->peer_count == 0) {
        repair_drop_first(repair); /* deleted; or nobody has a copy: it is said, and stays */
        return;
    }
    if (!repair->asking) {
        int rc = leat_storage_repair_begin(worker->storage, log->index, repair->queue[0].base_pos);
        if (rc == LEAT_EAGAIN) {
            repair_postpone(worker);
            return;
        }
        if (rc != LEAT_OK) { /* trimmed meanwhile */
            repair_drop_first(repair);
            return;
        }
        repair->asking = true;
        repair->position = repair->queue[0].base_pos;
        repair->asked_ns = 0;
    }
    repair_ask(worker, log);
}

void repair_take_data(struct node_worker *worker, struct node_log *log, unsigned peer,
                      const struct leat_wire_view *view)
{
    const struct leat_wire_repair_data *data = view->body;
    struct node_repair *repair = &worker->repair;
    if (!repair->asking || peer != repair->peer || log->id != repair->queue[0].log_id)
        return;
    if (data->error != LEAT_OK) {
        repair_next_peer(worker, log);
        return;
    }
    if (data->begin_pos != repair->position ||
        view->payload_bytes > repair->window_end - repair->position)
        return; /* lost or late: asked for again */
    int rc = leat_storage_repair_put(worker->storage, log->index, repair->position, view->payload,
                                     view->payload_bytes);
    if (rc == LEAT_EAGAIN)
        return;
    if (rc != LEAT_OK) {
        repair_next_peer(worker, log);
        return;
    }
    repair->position += view->payload_bytes;
    repair->tries = 0;
    if (repair->position == repair->window_end)
        repair->asked_ns = 0; /* the next window at once */
}

void repair_done(struct node_log *log, uint64_t base_pos, int64_t result)
{
    struct node_worker *worker = log->worker;
    struct node_repair *repair = &worker->repair;
    if (!repair->asking || repair->queue[0].log_id != log->id ||
        repair->queue[0].base_pos != base_pos)
        return;
    repair->asking = false;
    if (result == LEAT_OK) {
        logger_line(worker->out, LEAT_LOG_INFO, "log %u: the segment at %lu is repaired", log->id,
                    (unsigned long)base_pos);
        log->counters.repairs++;
        repair->peer = 0;
        repair_drop_first(repair);
    } else if (result == LEAT_ECHAIN) {
        repair_next_peer(worker, log);
    } else {
        repair_postpone(worker); /* no space, or the next segment is to be repaired first */
    }
}

/* ---- serving ---- */

static void repair_refuse(struct node_log *log, unsigned peer, uint64_t begin_pos, int error)
{
    struct leat_wire_repair_data body = {.begin_pos = begin_pos, .error = error};
    peers_send(log, peer, LEAT_WIRE_REPAIR_DATA, &body, sizeof(body), NULL, 0);
}

void repair_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                 const struct leat_wire_view *view)
{
    const struct leat_wire_repair *asked = view->body;
    struct node_repair_serve *serve = &worker->repair_serve;
    uint64_t block_pos = asked->begin_pos & ~(uint64_t)(LEAT_BLOCK_BYTES - 1);
    uint64_t block_end =
        (asked->end_pos + LEAT_BLOCK_BYTES - 1) & ~(uint64_t)(LEAT_BLOCK_BYTES - 1);
    if (serve->buffer || asked->end_pos - asked->begin_pos > REPAIR_WINDOW_BYTES)
        return; /* it asks again */
    if (asked->end_pos > log->core.commit_d || asked->end_pos > log->core.durable_pos ||
        leat_segment_base(&log->shape, asked->begin_pos) + log->shape.segment_bytes < block_end) {
        repair_refuse(log, peer, asked->begin_pos, LEAT_ENOTFOUND);
        return;
    }
    serve->buffer = worker_catchup_take(worker);
    if (!serve->buffer)
        return;
    int rc = leat_storage_read(worker->storage, log->index, block_pos,
                               (uint32_t)(block_end - block_pos), serve->buffer, serve);
    if (rc != LEAT_OK) {
        worker_catchup_give(worker, serve->buffer);
        serve->buffer = NULL;
        if (rc != LEAT_EAGAIN)
            repair_refuse(log, peer, asked->begin_pos, rc);
        return;
    }
    serve->log_id = log->id;
    serve->peer = peer;
    serve->block_pos = block_pos;
    serve->begin_pos = asked->begin_pos;
    serve->end_pos = asked->end_pos;
}

void repair_read_done(struct node_worker *worker, int64_t result)
{
    struct node_repair_serve *serve = &worker->repair_serve;
    struct node_log *log = worker_log(worker, serve->log_id);
    uint32_t room = 0;
    if (log)
        room = path_datagram_bytes(worker, serve->peer) -
               (uint32_t)sizeof(struct leat_wire_header) -
               (uint32_t)sizeof(struct leat_wire_repair_data);
    if (log && result < (int64_t)(serve->end_pos - serve->block_pos))
        repair_refuse(log, serve->peer, serve->begin_pos, LEAT_EDAMAGED);
    else if (log) {
        for (uint64_t at = serve->begin_pos; at < serve->end_pos;) {
            uint64_t left = serve->end_pos - at;
            uint32_t bytes = left < room ? (uint32_t)left : room & ~7u;
            struct leat_wire_repair_data body = {.begin_pos = at};
            peers_send(log, serve->peer, LEAT_WIRE_REPAIR_DATA, &body, sizeof(body),
                       serve->buffer + (at - serve->block_pos), bytes);
            at += bytes;
        }
    }
    worker_catchup_give(worker, serve->buffer);
    serve->buffer = NULL;
}
