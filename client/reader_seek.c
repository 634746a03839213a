/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a reader begins. Every segment begins with a BASE frame that carries the next offset, so an
 * offset is found by halving the segments that are held and walking the last one's frames.
 */
#include "reader_private.h"

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

/* The last segment whose first record is not above `offset`. */
static int segment_by_offset(struct leat_reader *reader, uint64_t first, uint64_t last,
                             uint64_t offset, struct leat_chain *ret_chain)
{
    struct leat_chain best, chain;
    int rc = base_chain(reader, first, &best);
    if (rc != LEAT_OK)
        return rc;
    if (best.next_offset > offset) {
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
        if (chain.next_offset <= offset) {
            first = middle;
            best = chain;
        } else {
            last = middle - reader->shape.segment_bytes;
        }
    }
    *ret_chain = best;
    return LEAT_OK;
}

/* Frames up to `end`, or to the record `offset`. At the tail it stands as near as can be: the
 * records before `offset` are passed over when they come. */
static int walk(struct leat_reader *reader, uint64_t end, uint64_t offset)
{
    struct leat_frame frame;
    while (reader->chain.position < end && reader->chain.next_offset < offset) {
        int rc = reader_step(reader, &frame);
        if (rc != LEAT_OK)
            return rc;
    }
    return LEAT_OK;
}

int reader_locate(struct leat_reader *reader)
{
    uint64_t commit = reader_commit(reader);
    uint64_t first = client_load(&reader->arena->base_pos.value);
    if (commit == 0 || commit <= first) {
        if (reader->from == LEAT_FROM_END && commit == 0) {
            reader->from = LEAT_FROM_OFFSET; /* what comes next is the first of all */
            reader->value = 0;
        }
        return LEAT_EAGAIN;
    }
    uint64_t last = leat_segment_base(&reader->shape, commit - 1);
    int rc;
    if (reader->from == LEAT_FROM_OFFSET)
        rc = segment_by_offset(reader, first, last, reader->value, &reader->chain);
    else
        rc = base_chain(reader, reader->from == LEAT_FROM_START ? first : last, &reader->chain);
    if (rc == LEAT_OK && reader->from == LEAT_FROM_OFFSET)
        rc = walk(reader, commit, reader->value);
    else if (rc == LEAT_OK && reader->from == LEAT_FROM_END)
        rc = walk(reader, commit, UINT64_MAX);
    if (rc == LEAT_ETRIMMED)
        return LEAT_EAGAIN; /* trimmed while we looked: from the new beginning */
    if (rc == LEAT_ECHAIN)
        return LEAT_ECORRUPT;
    if (rc != LEAT_OK)
        return rc;
    reader->durable = reader->chain;
    reader->placed = true;
    if (reader->from == LEAT_FROM_END)
        reader->value = reader->chain.next_offset;
    return LEAT_OK;
}
