/* SPDX-License-Identifier: Apache-2.0
 *
 * A follower's half of replication: bytes arrive in any order, are laid where they belong in the
 * arena, and become frames when the chain reaches them (G1, F1). A datagram is stored only when
 * the core admits it; never below the verified end. Worker's thread.
 */
#include "log.h"

#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define NAK_DELAY_NS    200000u /* about one round trip on any of our ports */
#define NAK_WAIT_NS_MAX 12000000u
#define NAK_BYTES_MAX   (256u << 10)

/* Up to here all is verified: never written again. */
static const struct leat_chain *assembler_verified(const struct node_log *log)
{
    const struct leat_chain *ahead = &log->assembler.ahead;
    return ahead->position > log->chain.position ? ahead : &log->chain;
}

void log_assembler_clear(struct node_log *log)
{
    memset(&log->assembler, 0, sizeof(log->assembler));
}

/* Adds [begin, end), merging what it touches. False: no room for another interval. */
static bool assembler_add(struct node_assembler *assembler, uint64_t begin, uint64_t end)
{
    struct node_interval *intervals = assembler->intervals;
    uint32_t first = 0;
    while (first < assembler->count && intervals[first].end < begin)
        first++;
    uint32_t last = first;
    while (last < assembler->count && intervals[last].begin <= end)
        last++;
    if (last == first) {
        if (assembler->count == NODE_INTERVALS_MAX)
            return false;
        memmove(&intervals[first + 1], &intervals[first],
                (assembler->count - first) * sizeof(*intervals));
        intervals[first] = (struct node_interval){begin, end};
        assembler->count++;
        return true;
    }
    if (intervals[first].begin < begin)
        begin = intervals[first].begin;
    if (intervals[last - 1].end > end)
        end = intervals[last - 1].end;
    intervals[first] = (struct node_interval){begin, end};
    memmove(&intervals[first + 1], &intervals[last],
            (assembler->count - last) * sizeof(*intervals));
    assembler->count -= last - first - 1;
    return true;
}

/* Forgets everything below `position`. */
static void assembler_drop_below(struct node_assembler *assembler, uint64_t position)
{
    uint32_t gone = 0;
    while (gone < assembler->count && assembler->intervals[gone].end <= position)
        gone++;
    assembler->count -= gone;
    memmove(assembler->intervals, assembler->intervals + gone,
            assembler->count * sizeof(assembler->intervals[0]));
    if (assembler->count > 0 && assembler->intervals[0].begin < position)
        assembler->intervals[0].begin = position;
}

void log_receive(struct node_log *log, const struct leat_message *message, const uint8_t *payload,
                 uint32_t payload_bytes)
{
    uint64_t begin = message->begin_pos;
    uint64_t end = begin + payload_bytes;
    uint64_t verified = assembler_verified(log)->position;
    uint64_t limit = log_arena_limit(log);

    if (end <= verified) {
        log->counters.datagrams_duplicate++;
        return;
    }
    if (begin < verified) {
        payload += verified - begin;
        begin = verified;
    }
    if (end > limit || begin % LEAT_FRAME_ALIGN != 0 || end % LEAT_FRAME_ALIGN != 0 ||
        (begin & (log->arena.arena_bytes - 1)) + (end - begin) > log->arena.arena_bytes ||
        !assembler_add(&log->assembler, begin, end)) {
        log->counters.datagrams_window++;
        return;
    }
    if (!(message->flags & LEAT_MESSAGE_LAZY) && end > log->durable_wanted)
        log->durable_wanted = end;
    node_arena_horizon(&log->arena, end);
    uint64_t kept = begin < log->kept_end ? log->kept_end - begin : 0;
    if (kept < end - begin) /* what storage keeps is the same everywhere, and this may not be */
        memcpy(log_at(log, begin + kept), payload + kept, end - begin - kept);
}

static void step_follower(struct node_log *log, enum leat_input_kind kind, uint64_t position,
                          uint32_t term)
{
    struct leat_core_input input = {
        .kind = kind, .now_ns = log->worker->now_ns, .position = position, .term = term};
    leat_core_step(&log->core, &input);
}

/* A PAD's body is zeros by rule and never sent: laid down here, once its header has proved itself
 * (of a PAD the CRC covers nothing else) and the arena has room for it. */
static void assembler_fill_pad(struct node_log *log, const struct leat_chain *chain,
                               uint64_t available)
{
    struct leat_frame frame;
    uint64_t position = chain->position;
    if (available < sizeof(frame))
        return;
    memcpy(&frame, log_at(log, position), sizeof(frame));
    if (leat_frame_type(&frame) != LEAT_FRAME_PAD || frame.length_bytes < sizeof(frame) ||
        frame.length_bytes > leat_segment_room(&log->shape, position) ||
        frame.previous_crc != chain->crc ||
        leat_frame_crc(&log->shape, position, &frame, NULL) != frame.crc)
        return;
    uint64_t begin = position + sizeof(frame);
    uint64_t end = position + leat_frame_extent(&log->shape, position, frame.length_bytes);
    if (end > log_arena_limit(log) || !assembler_add(&log->assembler, begin, end))
        return;
    node_arena_horizon(&log->arena, end);
    memset(log_at(log, begin), 0, end - begin);
}

/* The frame at the verified end does not continue the chain: what was laid there is dropped and
 * asked for again (the first copy does not win). */
static void assembler_refuse(struct node_log *log)
{
    log->counters.frames_refused++;
    assembler_drop_below(&log->assembler, log->assembler.intervals[0].end);
    log->assembler.gap_since_ns = log->worker->now_ns;
}

/* An install's first frame: the chain begins with what it says itself. */
static int assembler_begin_at_base(struct node_log *log, uint64_t available)
{
    struct leat_chain chain;
    const uint8_t *bytes = log_at(log, log->chain.position);
    int rc = leat_chain_at_base(&log->shape, log->chain.position, bytes, available, &chain);
    if (rc == LEAT_OK) {
        log_load_base(log, &chain, bytes + LEAT_FRAME_HEADER_BYTES);
        log->installing = false;
    }
    return rc;
}

/* The frame at the end of `chain`. The log's own chain follows when that is a boundary: of a batch
 * only the whole is reported, acknowledged, written or published (ADR 0030). */
static int assembler_check(struct node_log *log, struct leat_chain *chain, uint64_t available)
{
    struct leat_chain probe = *chain;
    uint64_t extent;
    uint8_t *bytes = log_at(log, chain->position);
    int rc = leat_frame_check(&log->shape, &probe, bytes, available, &extent);
    if (rc != LEAT_OK)
        return rc;
    uint32_t expected = leat_core_expected_term(&log->core, chain->position);
    if (expected != 0 && probe.term != expected &&
        leat_frame_type((const void *)bytes) != LEAT_FRAME_BASE)
        return LEAT_ECHAIN;
    if (probe.term != chain->term) { /* never inside a batch: leat_frame_check */
        step_follower(log, LEAT_INPUT_RUN, chain->position, probe.term);
        step_follower(log, LEAT_INPUT_VERIFIED, probe.position, 0);
    }
    log_note_frame(log, chain->position, (const void *)bytes);
    *chain = probe;
    if (!leat_chain_in_batch(chain))
        log->chain = *chain;
    return LEAT_OK;
}

int log_verify(struct node_log *log)
{
    struct node_assembler *assembler = &log->assembler;
    uint64_t begin = log->chain.position;
    int rc = LEAT_OK;

    /* the leader changed in this very burst: what it laid here is dropped when roles are told */
    if (log->core.role != LEAT_FOLLOWER || !log->core.reconciled || log->core.cut_settling)
        return LEAT_OK;
    struct leat_chain *chain = &assembler->ahead;
    *chain = *assembler_verified(log);
    while (assembler->count > 0 && assembler->intervals[0].begin <= chain->position) {
        uint64_t available = assembler->intervals[0].end - chain->position;
        if (log->installing) {
            rc = assembler_begin_at_base(log, available);
            *chain = log->chain;
        } else {
            assembler_fill_pad(log, chain, available);
        }
        available = assembler->intervals[0].end - chain->position;
        if (rc == LEAT_OK)
            rc = assembler_check(log, chain, available);
        if (rc == LEAT_OK) {
            log->counters.frames_verified++;
            assembler_drop_below(assembler, chain->position);
            continue;
        }
        if (rc == LEAT_ECHAIN)
            assembler_refuse(log);
        break;
    }
    if (log->chain.position != begin) {
        /* W4: published before the acknowledgement that covers it */
        __atomic_store_n(&log->arena.header->published_end.value, log->chain.position,
                         __ATOMIC_RELEASE);
        if (log->chain.position > log->core.memory_pos)
            step_follower(log, LEAT_INPUT_VERIFIED, log->chain.position, 0);
    }
    return rc == LEAT_EVERSION ? LEAT_EVERSION : LEAT_OK;
}

/* Asks for the first gap once it has stood for a round trip; for the same one again after twice as
 * long each time, since what is answered in full each time may be what does not arrive. */
void log_nak(struct node_log *log, uint64_t now_ns)
{
    struct node_assembler *assembler = &log->assembler;
    if (assembler->count == 0 || log->core.role != LEAT_FOLLOWER || !log->core.reconciled) {
        assembler->gap_since_ns = 0;
        return;
    }
    uint64_t begin = assembler_verified(log)->position;
    uint64_t end = assembler->intervals[0].begin;
    if (end <= begin) { /* contiguous: an incomplete frame; its end is still to come */
        begin = assembler->intervals[0].end;
        end = assembler->count > 1 ? assembler->intervals[1].begin : begin;
    }
    if (begin >= end) {
        assembler->gap_since_ns = 0;
        return;
    }
    if (assembler->gap_since_ns == 0)
        assembler->gap_since_ns = now_ns;
    if (begin != assembler->nak_begin)
        assembler->nak_wait_ns = 2 * NAK_DELAY_NS;
    if (now_ns - assembler->gap_since_ns < NAK_DELAY_NS ||
        now_ns - assembler->nak_sent_ns < assembler->nak_wait_ns)
        return;
    if (begin == assembler->nak_begin && assembler->nak_wait_ns < NAK_WAIT_NS_MAX)
        assembler->nak_wait_ns *= 2;
    assembler->nak_begin = begin;
    assembler->nak_sent_ns = now_ns;
    struct leat_message nak = {
        .kind = LEAT_MESSAGE_NAK,
        .from = log->core.config.self,
        .to = log->core.leader,
        .term = log->core.term,
        .from_incarnation = log->core.incarnation,
        .to_incarnation = log->core.leader_incarnation,
        .begin_pos = begin,
        .end_pos = end - begin > NAK_BYTES_MAX ? begin + NAK_BYTES_MAX : end,
        .memory_pos = log->core.memory_pos,
        .durable_pos = log->core.durable_pos,
    };
    log->counters.naks_sent++;
    log_send_message(log, &nak);
}
