/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a reader begins: at an offset, at a log time, at the start, at the end.
 *
 * Every segment begins with a BASE frame that carries the next offset and the last time, so the
 * segment is found by halving those that are held. Within it a sparse index is halved: the arena's
 * hints (base/arena.h), or behind its horizon the segment's own (base/segment_index.h). An index is
 * believed in nothing but where to look: the frame that it leads to is checked like any other, and
 * what it says of itself decides. Without an index the segment is walked from its beginning.
 * Tests: tests/client/test_seek.c.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/segment_index.h"
#include "reader_private.h"

/* What is sought: the first record of this offset, or of this log time, or above. */
struct seek {
    bool by_time;
    uint64_t value;
};

/* Is all that is sought behind a place with this next offset and last time? */
static bool seek_is_behind(const struct seek *seek, uint64_t next_offset, uint64_t last_time_ns)
{
    return seek->by_time ? last_time_ns < seek->value : next_offset <= seek->value;
}

/* The chain at a segment's beginning. ECHAIN: there is no BASE frame that says so. */
static int base_chain(struct leat_reader *reader, uint64_t base, struct leat_chain *ret_chain)
{
    struct leat_frame frame;
    int rc = reader_copy(reader, base, sizeof(frame), &frame);
    if (rc != LEAT_OK)
        return rc;
    if (leat_frame_type(&frame) != LEAT_FRAME_BASE || frame.length_bytes < sizeof(frame) ||
        frame.length_bytes > LEAT_FRAME_HEADER_BYTES + LEAT_BASE_PAYLOAD_BYTES_MAX)
        return LEAT_ECHAIN;
    uint64_t extent = leat_frame_extent(&reader->shape, base, frame.length_bytes);
    if (extent > reader->buffer_bytes)
        return LEAT_ECHAIN;
    rc = reader_copy(reader, base, extent, reader->buffer);
    if (rc != LEAT_OK)
        return rc;
    return leat_chain_at_base(&reader->shape, base, reader->buffer, extent, ret_chain);
}

/* ---- the segment ---- */

/* The last segment behind whose beginning all lies that is sought; the first held, if none is. */
static int seek_segment(struct leat_reader *reader, uint64_t first, uint64_t last,
                        const struct seek *seek, struct leat_chain *ret_chain)
{
    struct leat_chain best, chain;
    int rc = base_chain(reader, first, &best);
    if (rc != LEAT_OK)
        return rc;
    if (!seek_is_behind(seek, best.next_offset, best.last_time_ns)) {
        if (!seek->by_time)
            reader->pending = LEAT_ETRIMMED;
        *ret_chain = best;
        return LEAT_OK;
    }
    while (first < last) {
        uint64_t count = (last - first) / reader->shape.segment_bytes;
        uint64_t middle = first + (count + 1) / 2 * reader->shape.segment_bytes;
        rc = base_chain(reader, middle, &chain);
        if (rc != LEAT_OK)
            return rc;
        if (seek_is_behind(seek, chain.next_offset, chain.last_time_ns)) {
            first = middle;
            best = chain;
        } else {
            last = middle - reader->shape.segment_bytes;
        }
    }
    *ret_chain = best;
    return LEAT_OK;
}

/* ---- within it ---- */

/* The chain at a frame that an index leads to, taken from the frame: its CRC is checked, its link
 * to the frame before cannot be. ECHAIN: there is none, or one that cannot be begun at. */
static int frame_chain(struct leat_reader *reader, uint64_t position, struct leat_chain *ret_chain)
{
    struct leat_frame frame;
    int rc = reader_copy(reader, position, sizeof(frame), &frame);
    if (rc != LEAT_OK)
        return rc;
    unsigned type = leat_frame_type(&frame);
    if (type == LEAT_FRAME_PAD || type == LEAT_FRAME_BASE || type == LEAT_FRAME_TERM ||
        frame.length_bytes < sizeof(frame) ||
        frame.length_bytes > leat_segment_room(&reader->shape, position))
        return LEAT_ECHAIN;
    uint64_t extent = leat_frame_extent(&reader->shape, position, frame.length_bytes);
    if (extent > reader->buffer_bytes)
        return LEAT_ECHAIN;
    rc = reader_copy(reader, position, extent, reader->buffer);
    if (rc != LEAT_OK)
        return rc;
    memcpy(&frame, reader->buffer, sizeof(frame));
    struct leat_chain chain = {
        .position = position,
        .next_offset = frame.offset,
        .last_time_ns = frame.time_ns,
        .run_first_pos = READER_RUN_UNKNOWN,
        .term = frame.term,
        .crc = frame.previous_crc,
    };
    struct leat_chain probe = chain;
    rc = leat_frame_check(&reader->shape, &probe, reader->buffer, extent, &extent);
    if (rc == LEAT_OK)
        *ret_chain = chain;
    return rc == LEAT_EAGAIN ? LEAT_ECHAIN : rc;
}

enum seek_side { SEEK_BEFORE, SEEK_BEHIND, SEEK_UNUSABLE };

/* Where is what is sought, seen from the frame at `position`? Before it, the reader may begin
 * there: then *io_chain is that place. */
static enum seek_side seek_try(struct leat_reader *reader, const struct seek *seek,
                               uint64_t position, struct leat_chain *io_chain)
{
    struct leat_chain chain;
    if (frame_chain(reader, position, &chain) != LEAT_OK)
        return SEEK_UNUSABLE;
    if (!seek_is_behind(seek, chain.next_offset, chain.last_time_ns))
        return SEEK_BEHIND;
    *io_chain = chain;
    return SEEK_BEFORE;
}

static uint64_t hint_at(const struct leat_reader *reader, uint64_t piece)
{
    const uint64_t *hints = (const void *)(reader->bytes + reader->arena_bytes);
    uint64_t at = piece & (leat_arena_hint_count(reader->arena_bytes) - 1);
    uint64_t position = __atomic_load_n(&hints[at], __ATOMIC_RELAXED);
    return position / LEAT_ARENA_HINT_STEP_BYTES == piece && position % LEAT_FRAME_ALIGN == 0
               ? position
               : READER_NO_SEGMENT;
}

/* The nearest hint at or before `piece`, behind `first`, that leads to a frame decides. */
static enum seek_side seek_piece(struct leat_reader *reader, const struct seek *seek,
                                 uint64_t first, uint64_t piece, uint64_t end,
                                 struct leat_chain *io_chain)
{
    for (; piece > first; piece--) {
        uint64_t position = hint_at(reader, piece);
        if (position == READER_NO_SEGMENT || position >= end)
            continue;
        enum seek_side side = seek_try(reader, seek, position, io_chain);
        if (side != SEEK_UNUSABLE)
            return side;
    }
    return SEEK_UNUSABLE;
}

/* Halves the pieces of the arena behind the chain's and below `end`. */
static void seek_in_arena(struct leat_reader *reader, const struct seek *seek, uint64_t end,
                          struct leat_chain *io_chain)
{
    uint64_t first = io_chain->position / LEAT_ARENA_HINT_STEP_BYTES;
    uint64_t last = (end - 1) / LEAT_ARENA_HINT_STEP_BYTES;
    while (first < last) {
        uint64_t middle = first + (last - first + 1) / 2;
        if (seek_piece(reader, seek, first, middle, end, io_chain) == SEEK_BEHIND)
            last = middle - 1;
        else
            first = middle; /* nothing between is of use, if none was found */
    }
}

/* ---- the index of a sealed segment ---- */

static bool index_is_sound(const struct leat_reader *reader, struct leat_index_head *head,
                           uint64_t bytes, uint64_t base)
{
    uint32_t crc = head->crc;
    if (bytes < sizeof(*head) || head->magic != LEAT_INDEX_MAGIC ||
        head->version != LEAT_INDEX_VERSION || head->base_pos != base ||
        head->segment_bytes != reader->shape.segment_bytes || head->row_count == 0 ||
        bytes != sizeof(*head) + (uint64_t)head->row_count * sizeof(struct leat_index_row) ||
        leat_frame_salt(&head->log, head->generation) != reader->shape.salt)
        return false;
    head->crc = 0;
    bool sound = leat_crc32c(0, head, bytes) == crc;
    head->crc = crc;
    return sound;
}

/* NULL: none, or not a sound one. */
static struct leat_index_head *index_read(struct leat_reader *reader, uint64_t base)
{
    uint64_t most = sizeof(struct leat_index_head) + reader->shape.segment_bytes /
                                                         LEAT_INDEX_STEP_BYTES *
                                                         sizeof(struct leat_index_row);
    struct client_reply reply;
    struct leat_control_request request = client_request(LEAT_CONTROL_INDEX, reader->log_id);
    request.position = base;
    if (client_ask(reader->client, &request, &reply) != LEAT_OK)
        return NULL;
    struct leat_index_head *head = malloc(most);
    ssize_t bytes =
        head && reply.descriptors[0] >= 0 ? pread(reply.descriptors[0], head, most, 0) : -1;
    for (unsigned i = 0; i < 2; i++) {
        if (reply.descriptors[i] >= 0)
            close(reply.descriptors[i]);
    }
    if (bytes > 0 && index_is_sound(reader, head, (uint64_t)bytes, base))
        return head;
    free(head);
    return NULL;
}

static void seek_in_file(struct leat_reader *reader, const struct seek *seek, uint64_t end,
                         struct leat_chain *io_chain)
{
    struct leat_index_head *head = index_read(reader, io_chain->position);
    if (!head)
        return;
    const struct leat_index_row *rows = (const void *)(head + 1);
    uint32_t first = 0, last = head->row_count - 1;
    while (first < last) {
        uint32_t middle = first + (last - first + 1) / 2;
        if (seek_is_behind(seek, rows[middle].offset, rows[middle].time_ns))
            first = middle;
        else
            last = middle - 1;
    }
    for (; first > 0; first--) { /* it may be a frame that cannot be begun at */
        uint64_t position = rows[first].position;
        if (position > io_chain->position && position < end &&
            leat_segment_base(&reader->shape, position) == head->base_pos &&
            seek_try(reader, seek, position, io_chain) == SEEK_BEFORE)
            break;
    }
    free(head);
}

/* Frames up to `end`, or to what is sought. At the tail it stands as near as can be: the records
 * before are passed over when they come. */
static int walk(struct leat_reader *reader, const struct seek *seek, uint64_t end)
{
    struct leat_frame frame;
    while (reader->chain.position < end &&
           (seek->by_time || reader->chain.next_offset < seek->value)) {
        struct leat_chain before = reader->chain;
        int rc = reader_step(reader, &frame);
        if (rc != LEAT_OK)
            return rc;
        if (seek->by_time && leat_frame_type(&frame) == LEAT_FRAME_RECORD &&
            frame.time_ns >= seek->value) {
            reader->chain = before;
            return LEAT_OK;
        }
    }
    return LEAT_OK;
}

static int seek_run(struct leat_reader *reader, const struct seek *seek, uint64_t first,
                    uint64_t commit)
{
    uint64_t last = leat_segment_base(&reader->shape, commit - 1);
    int rc = seek_segment(reader, first, last, seek, &reader->chain);
    if (rc != LEAT_OK)
        return rc;
    uint64_t end = reader->chain.position + reader->shape.segment_bytes;
    if (end > commit)
        end = commit;
    if (reader->pending == LEAT_OK && reader_in_arena(reader, reader->chain.position))
        seek_in_arena(reader, seek, end, &reader->chain);
    else if (reader->pending == LEAT_OK)
        seek_in_file(reader, seek, end, &reader->chain);
    return walk(reader, seek, commit);
}

int reader_locate(struct leat_reader *reader)
{
    uint64_t commit = reader_commit(reader);
    uint64_t first = client_load(&reader->arena->base_pos.value);
    struct seek seek = {.by_time = reader->from == LEAT_FROM_TIME, .value = reader->value};
    if (commit == 0 || commit <= first) {
        if (reader->from == LEAT_FROM_END && commit == 0) {
            reader->from = LEAT_FROM_OFFSET; /* what comes next is the first of all */
            reader->value = 0;
        }
        return LEAT_EAGAIN;
    }
    if (seek.by_time)
        seek.value = reader->time_from_ns;
    else if (reader->from == LEAT_FROM_END)
        seek.value = UINT64_MAX;
    int rc = reader->from == LEAT_FROM_START ? base_chain(reader, first, &reader->chain)
                                             : seek_run(reader, &seek, first, commit);
    if (rc == LEAT_ETRIMMED)
        return LEAT_EAGAIN; /* trimmed while we looked: from the new beginning */
    if (rc == LEAT_ECHAIN)
        return LEAT_ECORRUPT;
    if (rc != LEAT_OK)
        return rc;
    reader->durable = reader->chain;
    reader->durable_is_known =
        reader->chain.position <= client_load(&reader->arena->commit_d.value);
    reader->is_proved = reader->placed = true;
    if (reader->from == LEAT_FROM_END)
        reader->value = reader->chain.next_offset;
    reader->placed_offset =
        reader->from == LEAT_FROM_OFFSET ? reader->value : reader->chain.next_offset;
    return LEAT_OK;
}
