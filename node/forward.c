/* SPDX-License-Identifier: Apache-2.0
 *
 * Appends of clients on followers' hosts: the follower's node sends a record to
 * the leader in pieces (session, sequence, byte offset), in order, and completes it when it sees
 * the frame commit in its own copy of the log. The leader takes a record only when it is the next
 * of its session; what is lost or out of order is dropped, and the follower's timer sends again.
 * Worker's thread.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define DOUBT_NS           1000000000u
#define REASSEMBLY_IDLE_NS 1000000000u

/* The client's doubt; else a place for it, or NULL: others' are being settled. A client that does
 * not come back for its answer keeps its place for a while only. */
static struct node_doubt *doubt_of(struct node_log *log, const struct leat_uuid *client)
{
    struct node_doubt *room = NULL;
    for (unsigned i = 0; i < NODE_DOUBTS; i++) {
        struct node_doubt *doubt = &log->doubts[i];
        bool is_void =
            doubt->term != log->core.term || log->worker->now_ns - doubt->begun_ns > DOUBT_NS;
        if (doubt->round != 0 && is_void)
            doubt->round = 0;
        if (doubt->round != 0 && leat_uuid_equal(&doubt->client, client))
            return doubt;
        if (doubt->round == 0)
            room = doubt;
    }
    return room;
}

/* A verdict that a session is unknown or lost appends is said only by a leader that proves by a
 * quorum round, begun after the doubt arose, that no other has taken over: else a deposed one would
 * tell it of appends that its successor holds. */
static bool session_verdict_stands(struct node_log *log, const struct leat_uuid *client)
{
    if (!log_rules(log))
        return false; /* a log without this term's TERM frame may still win, and hold more */
    struct node_doubt *doubt = doubt_of(log, client);
    if (!doubt)
        return false;
    if (doubt->round == 0) {
        *doubt = (struct node_doubt){.client = *client,
                                     .round = leat_core_begin_round(&log->core),
                                     .begun_ns = log->worker->now_ns,
                                     .term = log->core.term};
        return false;
    }
    if (!leat_core_round_is_answered(&log->core, doubt->round))
        return false;
    doubt->round = 0;
    return true;
}

/* ---- at the leader: the one place where a client's record becomes a frame ---- */

/* Has this user its share of the log's sessions? A refusal is remembered for a while: a client that
 * asks again and again is not to make the leader count each time. */
static bool session_user_has_all(struct node_log *log, const struct leat_uuid *client)
{
    uint32_t uid = node_client_uid(client), held = 0;
    uint64_t now_ns = log->worker->now_ns;
    if (uid == NODE_ADMIN_OPERATOR || log->tail->count < NODE_SESSIONS_PER_USER)
        return false;
    if (log->crowd_uid == uid && log->crowd_ns != 0 && now_ns - log->crowd_ns < NODE_CROWD_NS)
        return true;
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++)
        held +=
            log->tail->rows[i].session != 0 && node_client_uid(&log->tail->rows[i].client) == uid;
    if (held < NODE_SESSIONS_PER_USER)
        return false;
    log->crowd_uid = uid;
    log->crowd_ns = now_ns;
    return true;
}

/* How far the log was committed when the append was begun, or less. (Its own node may have been
 * restarted since, and know of less: the leader's word is the log's.) */
static uint64_t append_began(const struct node_log *log, const struct node_append *append)
{
    bool is_known = !append->conditional && append->condition <= log->core.commit_d;
    return is_known ? append->condition : 0;
}

/* Never a silent new session for an old one, in which the append may be already: not for a later
 * sequence; and where this client's may have been closed since it began, not for an append that a
 * former node had, and not for a node that has not applied that close (it ends the closed session's
 * appends when it does; an old datagram's never will; ADR 0061, ADR 0076). */
static enum append_verdict session_open(struct node_log *log, const struct leat_uuid *client,
                                        const struct node_append *append, uint64_t applied_pos,
                                        bool oldest, uint32_t *ret_session, int *ret_error)
{
    uint64_t closed_pos = leat_sessions_closed(log->tail, client, append_began(log, append));
    if (append->sequence != 1 || (append->again && closed_pos != 0)) {
        *ret_error = LEAT_ENOSESSION;
        return oldest && session_verdict_stands(log, client) ? APPEND_REFUSED : APPEND_WAIT;
    }
    if (closed_pos != 0 && applied_pos <= closed_pos)
        return APPEND_WAIT;
    struct leat_session_payload payload = {.client = *client,
                                           .session = leat_sessions_free(log->tail)};
    if (payload.session == 0 || session_user_has_all(log, client)) {
        *ret_error = LEAT_ESESSIONS;
        return log_rules(log) ? APPEND_REFUSED : APPEND_WAIT;
    }
    if (log_append(log, LEAT_FRAME_SESSION_OPEN, payload.session, 0, &payload, sizeof(payload)) !=
        LEAT_OK)
        return APPEND_WAIT;
    *ret_session = payload.session;
    return APPEND_SEALED;
}

int session_close(struct node_log *log, uint32_t session)
{
    log->crowd_ns = 0; /* its user may have room again */
    struct leat_session_payload payload = {.client = leat_sessions_row(log->tail, session)->client,
                                           .session = session};
    return log_append(log, LEAT_FRAME_SESSION_CLOSE, session, 0, &payload, sizeof(payload));
}

enum append_verdict session_append(struct node_log *log, const struct leat_uuid *client,
                                   const struct node_append *append, uint64_t applied_pos,
                                   bool oldest, struct leat_session_row *ret_row, int *ret_error)
{
    uint32_t session = leat_sessions_find(log->tail, client);
    bool full = log_has_no_space(log); /* what is sealed now would end as unknown: it is refused */
    if (session == 0 && (full || leat_sessions_find(log->committed, client) != 0))
        return APPEND_WAIT; /* in the latter case its close is on its way to be committed */
    if (session == 0) {
        enum append_verdict opened =
            session_open(log, client, append, applied_pos, oldest, &session, ret_error);
        if (opened != APPEND_SEALED)
            return opened;
    }
    *ret_row = *leat_sessions_row(log->tail, session);
    switch (leat_sessions_judge(log->tail, session, append->sequence)) {
    case LEAT_SESSION_NEXT:
        if (full)
            return APPEND_WAIT;
        break;
    case LEAT_SESSION_LAST:
    case LEAT_SESSION_OLDER:
        return APPEND_RECORDED;
    case LEAT_SESSION_GAP:
        return oldest && session_verdict_stands(log, client) ? APPEND_GAP : APPEND_WAIT;
    case LEAT_SESSION_UNKNOWN:
        LEAT_ASSERT(!"the session was found or opened");
    }
    uint64_t wanted = log->durable_wanted;
    int rc = append->kind == LEAT_RING_CLOSE ? session_close(log, session)
                                             : log_append_client(log, session, append);
    if (append->level == LEAT_LEVEL_REPLICATED)
        log->durable_wanted = wanted; /* nobody waits for the disk */
    if (rc == LEAT_OK)
        return APPEND_SEALED;
    *ret_error = rc;
    return rc == LEAT_EAGAIN ? APPEND_WAIT : APPEND_REFUSED;
}

/* ---- at the follower ---- */

struct forward_datagram {
    struct leat_wire_header header;
    struct leat_wire_forward body;
};

static uint32_t forward_flags(const struct node_append *append, bool oldest)
{
    return (oldest ? LEAT_FORWARD_OLDEST : 0u) |
           (append->level == LEAT_LEVEL_REPLICATED ? LEAT_FORWARD_REPLICATED : 0u) |
           (append->kind == LEAT_RING_BATCH ? LEAT_FORWARD_BATCH : 0u) |
           (append->kind == LEAT_RING_FENCE ? LEAT_FORWARD_FENCE : 0u) |
           (append->kind == LEAT_RING_CLOSE ? LEAT_FORWARD_CLOSE : 0u) |
           (append->again ? LEAT_FORWARD_AGAIN : 0u) |
           (append->conditional ? LEAT_FORWARD_CONDITION : 0u);
}

static struct node_append forward_wants(const struct leat_wire_forward *forward,
                                        const void *payload)
{
    return (struct node_append){
        .sequence = forward->sequence,
        .level =
            forward->flags & LEAT_FORWARD_REPLICATED ? LEAT_LEVEL_REPLICATED : LEAT_LEVEL_DURABLE,
        .kind = forward->flags & LEAT_FORWARD_BATCH   ? LEAT_RING_BATCH
                : forward->flags & LEAT_FORWARD_FENCE ? LEAT_RING_FENCE
                : forward->flags & LEAT_FORWARD_CLOSE ? LEAT_RING_CLOSE
                                                      : LEAT_RING_APPEND,
        .conditional = (forward->flags & LEAT_FORWARD_CONDITION) != 0,
        .again = (forward->flags & LEAT_FORWARD_AGAIN) != 0,
        .writer_epoch = forward->writer_epoch,
        .condition = forward->condition,
        .payload = payload,
        .payload_bytes = forward->total_bytes,
    };
}

/* False: the port takes no more now. */
bool forward_record(struct node_log *log, const struct leat_uuid *client,
                    const struct node_append *append, bool oldest)
{
    struct node_worker *worker = log->worker;
    const uint8_t *payload = append->payload;
    unsigned peer = worker->peer_of_member[log->core.leader];
    uint32_t room = path_datagram_bytes(worker, peer) - (uint32_t)sizeof(struct forward_datagram);
    uint32_t begin = 0;
    do {
        struct forward_datagram datagram;
        uint32_t bytes =
            append->payload_bytes - begin < room ? append->payload_bytes - begin : room;
        peers_header(worker, peer, LEAT_WIRE_FORWARD, &datagram.header);
        datagram.header.log_id = log->id;
        datagram.header.log_generation = log->generation;
        datagram.header.body_bytes = sizeof(datagram.body);
        datagram.header.payload_bytes = bytes;
        datagram.body = (struct leat_wire_forward){
            .client = *client,
            .sequence = append->sequence,
            .total_bytes = append->payload_bytes,
            .begin_byte = begin,
            .flags = forward_flags(append, oldest),
            .writer_epoch = append->writer_epoch,
            .condition = append->condition,
            .applied_pos = log->applied.position,
        };
        /* the client may change its bytes meanwhile: the CRC is over what is copied out last,
         * so a torn piece is refused at the leader and the client's own loss */
        leat_wire_seal(&datagram.header, &datagram.body, payload + begin);
        if (leat_port_send(worker->port, peer, peers_worker_of(&worker->peers[peer], log->id),
                           &datagram, sizeof(datagram), payload + begin, bytes, LEAT_PORT_NO_ARENA,
                           0) != LEAT_OK)
            return false;
        begin += bytes;
    } while (begin < append->payload_bytes);
    return true;
}

void forward_take_reply(struct node_worker *worker, struct node_log *log,
                        const struct leat_wire_view *view)
{
    const struct leat_wire_forwarded *reply = view->body;
    const struct leat_core *core = &log->core;
    if (core->role != LEAT_FOLLOWER || core->leader == LEAT_CORE_NOBODY ||
        worker->config->nodes[core->leader].id != view->header->from_node)
        return; /* only the present leader's word counts */
    uint32_t owner = clients_find(worker, &reply->client);
    if (owner == NODE_NO_CLIENT)
        return;
    if (reply->error == LEAT_ESESSION || reply->error == LEAT_ENOSESSION ||
        reply->error == LEAT_ESESSIONS) {
        clients_end_session(worker, owner, log, reply->error, reply->expected_sequence - 1);
        return;
    }
    if (reply->error == LEAT_ENOSPACE) { /* what comes before is sealed there: it may commit */
        clients_refuse_from(worker, owner, log, reply->expected_sequence);
        return;
    }
    struct leat_completion completion = {
        .log_id = log->id,
        .error = reply->error,
        .sequence = reply->sequence,
        .position = reply->position,
        .offset = reply->offset,
        .level = LEAT_LEVEL_DURABLE,
    };
    if (reply->error == LEAT_ECONDITION || reply->error == LEAT_EFENCEDOUT) {
        completion.detail = reply->offset;
        completion.offset = UINT64_MAX;
    }
    clients_end(worker, owner, log->index, &completion);
}

/* ---- at the leader: pieces in ---- */

static void forward_answer(struct node_log *log, unsigned peer,
                           const struct leat_wire_forward *forward,
                           const struct leat_session_row *row, int error)
{
    struct leat_wire_forwarded body = {
        .client = forward->client,
        .sequence = forward->sequence,
        .expected_sequence = row ? row->last_sequence + 1 : 1,
        .position = row ? row->last_position : 0,
        .offset = row ? row->last_offset : UINT64_MAX,
        .error = error,
    };
    peers_send(log, peer, LEAT_WIRE_FORWARDED, &body, sizeof(body), NULL, 0);
}

static void forward_append(struct node_log *log, unsigned peer,
                           const struct leat_wire_forward *forward, const void *payload)
{
    struct leat_session_row row = {0};
    int error = LEAT_OK;
    struct node_append append = forward_wants(forward, payload);
    switch (session_append(log, &forward->client, &append, forward->applied_pos,
                           (forward->flags & LEAT_FORWARD_OLDEST) != 0, &row, &error)) {
    case APPEND_SEALED:
        log->counters.forwards_in++;
        return;
    case APPEND_RECORDED: {
        uint32_t session = leat_sessions_find(log->committed, &forward->client);
        const struct leat_session_row *committed = leat_sessions_row(log->committed, session);
        if (committed && forward->sequence <= committed->last_sequence)
            forward_answer(log, peer, forward, committed,
                           log_recorded_error(log, committed, &append));
        return;
    }
    case APPEND_GAP: /* those before it were lost with a majority's memory (W8) */
        log->counters.forward_gaps++;
        forward_answer(log, peer, forward, &row, LEAT_ESESSION);
        return;
    case APPEND_WAIT:
        if (log_has_no_space(log))
            forward_answer(log, peer, forward, &row, LEAT_ENOSPACE);
        return;
    case APPEND_REFUSED:
        forward_answer(log, peer, forward, NULL, error);
        return;
    }
}

static struct node_reassembly *reassembly_find(struct node_worker *worker, struct node_log *log,
                                               unsigned peer,
                                               const struct leat_wire_forward *forward)
{
    struct node_reassembly *free_one = NULL;
    for (unsigned i = 0; i < NODE_REASSEMBLY_MAX; i++) {
        struct node_reassembly *buffer = &worker->reassembly[i];
        if (buffer->total_bytes != 0 && buffer->peer == peer && buffer->log == log->index &&
            leat_uuid_equal(&buffer->client, &forward->client))
            return buffer;
        if (buffer->total_bytes == 0 || worker->now_ns - buffer->touched_ns > REASSEMBLY_IDLE_NS)
            free_one = buffer;
    }
    if (free_one) {
        free_one->total_bytes = 0;
        free_one->peer = (uint8_t)peer;
        free_one->log = (uint16_t)log->index;
        free_one->client = forward->client;
    }
    return free_one;
}

/* One piece of a record larger than a datagram: contiguous only, one record per client. */
static void forward_reassemble(struct node_worker *worker, struct node_log *log, unsigned peer,
                               const struct leat_wire_forward *forward,
                               const struct leat_wire_view *view)
{
    struct node_reassembly *buffer = reassembly_find(worker, log, peer, forward);
    if (!buffer)
        return;
    if (forward->begin_byte == 0) {
        buffer->sequence = forward->sequence;
        buffer->total_bytes = forward->total_bytes;
        buffer->filled_bytes = 0;
    }
    if (buffer->total_bytes == 0 || buffer->sequence != forward->sequence ||
        buffer->total_bytes != forward->total_bytes || buffer->filled_bytes != forward->begin_byte)
        return;
    memcpy(buffer->bytes + forward->begin_byte, view->payload, view->payload_bytes);
    buffer->filled_bytes += view->payload_bytes;
    buffer->touched_ns = worker->now_ns;
    if (buffer->filled_bytes == buffer->total_bytes) {
        buffer->total_bytes = 0;
        forward_append(log, peer, forward, buffer->bytes);
    }
}

void forward_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                  const struct leat_wire_view *view)
{
    const struct leat_wire_forward *forward = view->body;
    if (!leat_core_may_append(&log->core) || worker->draining)
        return;
    if (log->id == 0 || forward->total_bytes > log->shape.entry_bytes_max ||
        forward->begin_byte > forward->total_bytes || forward->sequence == 0 ||
        view->payload_bytes > forward->total_bytes - forward->begin_byte) {
        worker->drops[LEAT_WIRE_DROP_BODY]++;
        return;
    }
    if (view->payload_bytes == forward->total_bytes)
        forward_append(log, peer, forward, view->payload);
    else
        forward_reassemble(worker, log, peer, forward, view);
}
