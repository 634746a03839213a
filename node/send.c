/* SPDX-License-Identifier: Apache-2.0
 *
 * A leader's half of replication: ranges of the log to datagrams. The arena is the retransmit
 * buffer; a peer that lacks older bytes gets them from the segments, a block-aligned read at a
 * time. A burst per peer and pass bounds what one laggard costs the others. Worker's thread.
 */
#include "log.h"

#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define SEND_READ_RETRY_NS  500000000u
#define SEND_PROOF_RETRY_NS 5000000u
#define SEND_DOUBT_READS    8u
#define SEND_STALLS         4u /* so often the very next bytes a peer needs, though it answers */

struct datagram {
    struct leat_wire_header header;
    struct leat_message message;
};
_Static_assert(sizeof(struct datagram) ==
                   sizeof(struct leat_wire_header) + sizeof(struct leat_message),
               "header and body lie together");

static void send_datagram(struct node_log *log, const struct leat_message *message,
                          const void *payload, uint32_t payload_bytes, uint32_t arena,
                          uint64_t payload_pos)
{
    struct node_worker *worker = log->worker;
    unsigned peer = worker->peer_of_member[message->to];
    unsigned to_worker = peers_worker_of(&worker->peers[peer], log->id);
    struct datagram datagram;
    peers_header(worker, peer, LEAT_WIRE_LOG, &datagram.header);
    datagram.header.log_id = log->id;
    datagram.header.log_generation = log->generation;
    datagram.header.body_bytes = sizeof(*message);
    datagram.header.payload_bytes = payload_bytes;
    datagram.message = *message;
    leat_wire_seal(&datagram.header, &datagram.message, payload);
    leat_port_send(worker->port, peer, to_worker, &datagram, sizeof(datagram), payload,
                   payload_bytes, arena, payload_pos);
}

void log_send_message(struct node_log *log, const struct leat_message *message)
{
    if (message->kind == LEAT_MESSAGE_APPEND && message->begin_pos < message->end_pos) {
        log_send_append(log, message);
        return;
    }
    const void *runs = NULL;
    uint32_t bytes = 0;
    if (message->kind == LEAT_MESSAGE_RECONCILE_REPLY) {
        runs = log->core.runs;
        bytes = message->run_count * (uint32_t)sizeof(struct leat_run);
    }
    send_datagram(log, message, runs, bytes, LEAT_PORT_NO_ARENA, 0);
}

/* Queues a range. One that goes on where the queued one ends extends it; another is a
 * retransmission and takes its own place. */
void log_send_append(struct node_log *log, const struct leat_message *message)
{
    struct node_send *send = &log->sends[message->to];
    if (message->flags & LEAT_MESSAGE_CLEARS) {
        /* said at once and to this incarnation only (W5 a): never from a queue */
        struct leat_message clears = *message;
        clears.begin_pos = clears.end_pos = 0;
        log_send_message(log, &clears);
    }
    send->header = *message;
    send->header.flags &= (uint8_t)~LEAT_MESSAGE_CLEARS;
    struct node_interval *range = &send->range;
    bool waits = range->begin < range->end;
    if (waits && message->begin_pos == range->end)
        range->end = message->end_pos;
    else if (!waits || (message->begin_pos < range->begin && message->end_pos >= range->end))
        *range = (struct node_interval){message->begin_pos, message->end_pos};
    else if (message->begin_pos < range->begin && message->end_pos >= range->begin)
        range->begin = message->begin_pos;
    else
        send->resend = (struct node_interval){message->begin_pos, message->end_pos};
}

static bool send_is_empty(const struct node_send *send)
{
    return send->range.begin >= send->range.end && send->resend.begin >= send->resend.end;
}

/* A buffer whose read is in flight is given back when that is done. */
static void send_release(struct node_log *log, struct node_send *send)
{
    if (send->reading || !send->read_buffer)
        return;
    worker_catchup_give(log->worker, send->read_buffer);
    send->read_buffer = NULL;
    send->read_begin = send->read_end = 0;
}

void log_send_clear(struct node_log *log)
{
    for (unsigned i = 0; i < LEAT_MEMBERS_MAX; i++) {
        log->sends[i].range = (struct node_interval){0, 0};
        log->sends[i].resend = (struct node_interval){0, 0};
        send_release(log, &log->sends[i]);
    }
}

bool log_send_pending(const struct node_log *log)
{
    for (unsigned i = 0; i < log->core.config.member_count; i++) {
        if (log->sends[i].reading || !send_is_empty(&log->sends[i]))
            return true;
    }
    return false;
}

/* Where the bytes to send from `begin` end: the arena's wrap, the datagram with room for so many,
 * or a PAD's header (its body is not sent). Sets *ret_next to where sending goes on. */
static uint64_t send_piece_end(const struct node_log *log, uint32_t room, uint64_t begin,
                               uint64_t end, uint64_t *ret_next)
{
    uint64_t segment_end = leat_segment_base(&log->shape, begin) + log->shape.segment_bytes;
    uint64_t piece_end = begin + room < end ? begin + room : end;
    if (piece_end > segment_end)
        piece_end = segment_end;
    *ret_next = piece_end;
    uint64_t pad = log->pads[(begin >> __builtin_ctzll(log->shape.segment_bytes)) % NODE_PADS];
    if (pad == 0 || pad >= segment_end || pad < segment_end - log->shape.segment_bytes)
        return piece_end;
    uint64_t body = pad + LEAT_FRAME_HEADER_BYTES;
    if (piece_end <= body)
        return piece_end;
    *ret_next = segment_end;
    return begin < body ? body : begin;
}

/* A peer that goes on needing the very bytes where it ends is slow, gone, or refuses them because
 * they are damaged here: the segment is looked through, at growing distances. */
static void send_doubt(struct node_log *log, unsigned member, uint64_t block)
{
    struct node_send *send = &log->sends[member];
    uint64_t peer_pos = log->core.peers[member].memory_pos;
    if (block != (peer_pos & ~(uint64_t)(LEAT_BLOCK_BYTES - 1)))
        return;
    send->again_count = send->again_pos == peer_pos ? send->again_count + 1 : 1;
    send->again_pos = peer_pos;
    if (send->again_count >= SEND_DOUBT_READS && (send->again_count & (send->again_count - 1)) == 0)
        leat_storage_suspect(log->worker->storage, log->index, peer_pos);
}

static void send_read_issue(struct node_log *log, unsigned member, uint64_t begin)
{
    struct node_send *send = &log->sends[member];
    uint64_t block = begin & ~(uint64_t)(LEAT_BLOCK_BYTES - 1);
    uint64_t segment_end = leat_segment_base(&log->shape, begin) + log->shape.segment_bytes;
    uint64_t length = NODE_CATCHUP_BYTES;
    if (leat_storage_prove(log->worker->storage, log->index, begin) != LEAT_OK) {
        send->retry_ns = log->worker->now_ns + SEND_PROOF_RETRY_NS;
        return;
    }
    if (block + length > segment_end)
        length = segment_end - block;
    if (!send->read_buffer)
        send->read_buffer = worker_catchup_take(log->worker);
    if (!send->read_buffer)
        return; /* others are being caught up: their turn ends */
    if (leat_storage_read(log->worker->storage, log->index, block, (uint32_t)length,
                          send->read_buffer, send) != LEAT_OK)
        return;
    send->reading = true;
    send->read_begin = block;
    send->read_bytes = (uint32_t)length;
    send->read_end = 0;
    log->counters.catchup_reads++;
    send_doubt(log, member, block);
}

void log_send_read_done(struct node_log *log, unsigned member,
                        const struct leat_storage_event *event)
{
    struct node_send *send = &log->sends[member];
    int64_t result = event->result;
    LEAT_ASSERT(send->reading);
    send->reading = false;
    send->retry_ns = 0;
    if (result < 0) { /* a peer that lacks these bytes waits for a leader that can read them */
        static _Thread_local struct logger_rate rate;
        logger_limited(log->worker->out, &rate, log->worker->now_ns, LEAT_LOG_ERROR,
                       "log %u: cannot read %lu for node %u's catch-up: %s", log->id,
                       (unsigned long)send->read_begin, log->worker->config->nodes[member].id,
                       leat_error_text((int)result));
        send->retry_ns = log->worker->now_ns + SEND_READ_RETRY_NS;
        log->counters.catchup_errors++;
    }
    if (result > 0)
        send->read_end = send->read_begin + (uint64_t)result;
    /* bytes that were not durable yet were read as zeros: they are in the arena still */
    uint64_t durable = event->sequence & ~(uint64_t)(LEAT_BLOCK_BYTES - 1);
    if (send->read_end > durable)
        send->read_end = durable;
    if (send_is_empty(send))
        send_release(log, send);
}

static bool send_from_buffer(const struct node_send *send, uint64_t position)
{
    return send->read_buffer && !send->reading && position >= send->read_begin &&
           position < send->read_end;
}

/* Bytes of the log in a datagram. */
static uint32_t send_room(const struct node_log *log, unsigned member)
{
    struct node_worker *worker = log->worker;
    unsigned peer = worker->peer_of_member[member];
    uint32_t bytes = path_datagram_bytes(worker, peer) - (uint32_t)sizeof(struct datagram);
    return bytes & ~(LEAT_FRAME_ALIGN - 1);
}

/* The very next bytes that a peer needs go out. If they went before, and it was heard since, and
 * needs them still, they did not arrive; congestion loses others, but these seldom time and again.
 */
static void send_head(struct node_log *log, unsigned member)
{
    struct node_worker *worker = log->worker;
    struct node_send *send = &log->sends[member];
    const struct leat_core_peer *peer = &log->core.peers[member];
    unsigned index = worker->peer_of_member[member];
    if (send->head_pos != peer->memory_pos || send->head_count == 0)
        send->head_count = 0;
    else if (peer->heard_ns <= send->head_ns)
        return;
    send->head_pos = peer->memory_pos;
    send->head_ns = worker->now_ns;
    if (++send->head_count > SEND_STALLS)
        path_stalls(worker, index, peers_worker_of(&worker->peers[index], log->id));
}

/* Sends from *range up to `burst` datagrams; moves its begin. While the port is full the rest
 * waits. */
static unsigned send_range(struct node_log *log, unsigned member, struct node_interval *range,
                           unsigned burst)
{
    struct node_send *send = &log->sends[member];
    uint32_t room = send_room(log, member);
    unsigned sent = 0;
    while (range->begin < range->end && sent < burst &&
           !leat_port_is_full(log->worker->port, log->worker->peer_of_member[member])) {
        struct leat_message message = send->header;
        const uint8_t *bytes = log_at(log, range->begin);
        uint64_t end = range->end;
        uint32_t arena = log->index;
        uint64_t next;
        if (range->begin < node_arena_low(&log->arena)) {
            if (!send_from_buffer(send, range->begin)) {
                if (!send->reading && log->worker->now_ns >= send->retry_ns)
                    send_read_issue(log, member, range->begin);
                break;
            }
            bytes = send->read_buffer + (range->begin - send->read_begin);
            end = end < send->read_end ? end : send->read_end;
            arena = LEAT_PORT_NO_ARENA;
        }
        uint64_t piece_end = send_piece_end(log, room, range->begin, end, &next);
        message.begin_pos = range->begin;
        message.end_pos = piece_end;
        if (range->begin >= log->durable_wanted) {
            message.flags |= LEAT_MESSAGE_LAZY;
            log->worker->expect_ns = log->worker->now_ns + NODE_EXPECT_NS;
        }
        if (piece_end > range->begin) {
            if (range->begin == log->core.peers[member].memory_pos)
                send_head(log, member);
            send_datagram(log, &message, bytes, (uint32_t)(piece_end - range->begin), arena,
                          range->begin);
        }
        range->begin = next;
        sent++;
    }
    return sent;
}

static void send_give_up(struct node_log *log, struct node_send *send)
{
    send->range.begin = send->range.end;
    send->resend.begin = send->resend.end;
    send_release(log, send);
}

/* A peer that is silent and takes nothing is paused or gone: nothing waits for it, nor keeps a
 * buffer. The core's timer begins again at what it had. */
static bool send_is_stuck(const struct node_log *log, unsigned member)
{
    const struct node_worker *worker = log->worker;
    return worker->now_ns - log->core.peers[member].heard_ns > log->core.config.election_max_ns &&
           leat_port_is_full(worker->port, worker->peer_of_member[member]);
}

/* Members take turns at being the first where they share a queue that is full. */
unsigned log_send_burst(struct node_log *log)
{
    unsigned work = 0, count = log->core.config.member_count;
    for (unsigned i = 0; i < count; i++) {
        unsigned member = log->worker->send_backwards ? count - 1 - i : i;
        struct node_send *send = &log->sends[member];
        if (send_is_empty(send))
            continue;
        const struct leat_core_peer *peer = &log->core.peers[member];
        if (log->core.role != LEAT_LEADER || send->header.term != log->core.term ||
            send->header.to_incarnation != peer->incarnation || send_is_stuck(log, member)) {
            send_give_up(log, send);
            continue;
        }
        /* what the peer acknowledged meanwhile needs no sending; commits ride on the newest */
        if (send->range.begin < peer->memory_pos)
            send->range.begin = peer->memory_pos;
        if (send->resend.begin < peer->memory_pos)
            send->resend.begin = peer->memory_pos;
        send->header.commit_r = log->core.commit_r;
        send->header.commit_d = log->core.commit_d;
        work += send_range(log, member, &send->resend, NODE_SEND_BURST);
        work += send_range(log, member, &send->range, NODE_SEND_BURST);
        if (send_is_empty(send))
            send_release(log, send);
    }
    return work;
}
