/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of frames in a log of drawn shape, from a drawn place in its chain: what recovery, a
 * follower and a reader check. FUZZ_FIT: links and CRCs are made to fit; FUZZ_FIT_RULES: so are
 * offset, time, term and batch. A frame that is accepted must be the very bytes that sealing its
 * header and payload gives.
 */
#include "base/base_frame.h"
#include "fuzz.h"

#define STREAM_BYTES_MAX (1u << 20)

struct stream {
    struct leat_log_shape shape;
    struct leat_chain chain;
    uint8_t *bytes;
    uint64_t length;
    uint8_t flags;
};

static void stream_draw(struct stream *stream, struct fuzz_input *input)
{
    static const struct leat_uuid log = {{1, 2, 3}};
    memset(stream, 0, sizeof(*stream));
    stream->flags = fuzz_u8(input);
    stream->shape.salt = leat_frame_salt(&log, 1);
    stream->shape.entry_bytes_max = LEAT_ENTRY_BYTES_MIN << fuzz_u8(input) % 9;
    stream->shape.segment_bytes = (uint64_t)LEAT_SEGMENT_BYTES_MIN << fuzz_u8(input) % 3;
    uint32_t before_end = fuzz_u16(input) * LEAT_FRAME_ALIGN; /* 0: at a segment's begin */
    uint32_t segment = fuzz_u8(input);
    stream->chain.position = (segment + 1) * stream->shape.segment_bytes - before_end;
    stream->chain.next_offset = fuzz_u8(input);
    stream->chain.last_time_ns = fuzz_u8(input);
    stream->chain.term = fuzz_u8(input);
    stream->chain.batch_sequence = fuzz_u8(input) % 4;
    stream->chain.batch_session = stream->chain.batch_sequence ? 1 : 0;
    size_t length;
    stream->bytes = fuzz_rest(input, &length);
    stream->length = length < STREAM_BYTES_MAX ? length : STREAM_BYTES_MAX;
}

static void fit_rules(const struct leat_chain *chain, struct leat_frame *frame, uint8_t *payload)
{
    frame->offset = chain->next_offset;
    if (frame->time_ns < chain->last_time_ns)
        frame->time_ns = chain->last_time_ns;
    if (leat_chain_in_batch(chain)) {
        frame->session = chain->batch_session;
        frame->sequence = chain->batch_sequence;
    }
    if (leat_frame_type(frame) != LEAT_FRAME_TERM) {
        frame->term = chain->term;
        return;
    }
    frame->length_bytes = LEAT_TERM_FRAME_BYTES;
    frame->term = chain->term + 1;
    struct leat_term_payload term = {frame->term, chain->term, chain->run_first_pos, 1, 1, 0};
    memcpy(payload, &term, sizeof(term));
}

/* The next frame's link and CRC, if it is there with all its bytes. */
static void fit_frame(const struct stream *stream, uint8_t *bytes, uint64_t available)
{
    struct leat_frame frame;
    if (!(stream->flags & FUZZ_FIT) || available < LEAT_TERM_FRAME_BYTES)
        return;
    memcpy(&frame, bytes, sizeof(frame));
    if (stream->flags & FUZZ_FIT_RULES)
        fit_rules(&stream->chain, &frame, bytes + sizeof(frame));
    if (frame.length_bytes < sizeof(frame) || frame.length_bytes > available)
        return;
    frame.previous_crc = stream->chain.crc;
    frame.crc =
        leat_frame_crc(&stream->shape, stream->chain.position, &frame, bytes + sizeof(frame));
    memcpy(bytes, &frame, sizeof(frame));
}

/* The chain that a BASE frame begins. It says itself what came before: no link can be wrong. */
static void stream_begin(struct stream *stream)
{
    struct leat_chain chain = stream->chain;
    if (stream->chain.position % stream->shape.segment_bytes != 0)
        return;
    stream->chain.batch_sequence = stream->chain.batch_session = 0;
    if (stream->length > sizeof(struct leat_frame) + sizeof(struct leat_base_head)) {
        const struct leat_base_head *head =
            (const void *)(stream->bytes + sizeof(struct leat_frame));
        chain.crc = head->chain_crc;
        stream->chain.crc = stream->flags & FUZZ_FIT ? head->chain_crc : 0;
    }
    fit_frame(stream, stream->bytes, stream->length);
    if (leat_chain_at_base(&stream->shape, stream->chain.position, stream->bytes, stream->length,
                           &chain) != LEAT_OK)
        return;
    LEAT_ASSERT(chain.position == stream->chain.position && !leat_chain_in_batch(&chain));
    stream->chain = chain;
}

/* Frame and extent as leat_frame_check() took them. */
static void frame_accepted(const struct stream *stream, const struct leat_chain *before,
                           const uint8_t *bytes, uint64_t extent)
{
    struct leat_chain chain = *before;
    struct leat_frame frame;
    uint8_t *sealed = malloc(extent);
    LEAT_ASSERT(sealed);
    memcpy(&frame, bytes, sizeof(frame));
    LEAT_ASSERT(extent >= frame.length_bytes && extent % LEAT_FRAME_ALIGN == 0);
    LEAT_ASSERT(extent <= leat_segment_room(&stream->shape, before->position));
    uint64_t again = leat_frame_seal(&stream->shape, &chain, sealed, &frame, bytes + sizeof(frame));
    LEAT_ASSERT(again == extent && memcmp(sealed, bytes, extent) == 0);
    LEAT_ASSERT(memcmp(&chain, &stream->chain, sizeof(chain)) == 0);
    uint64_t room = leat_segment_room(&stream->shape, chain.position);
    LEAT_ASSERT(room >= LEAT_TERM_FRAME_BYTES);
    free(sealed);
}

static void stream_walk(struct stream *stream)
{
    for (uint64_t at = 0; at < stream->length;) {
        struct leat_chain before = stream->chain;
        uint64_t extent = UINT64_MAX, available = stream->length - at;
        fit_frame(stream, stream->bytes + at, available);
        int rc = leat_frame_check(&stream->shape, &stream->chain, stream->bytes + at, available,
                                  &extent);
        if (rc != LEAT_OK) {
            LEAT_ASSERT(rc == LEAT_EAGAIN || rc == LEAT_ECHAIN || rc == LEAT_EVERSION);
            LEAT_ASSERT(memcmp(&before, &stream->chain, sizeof(before)) == 0);
            LEAT_ASSERT(extent == UINT64_MAX);
            return;
        }
        LEAT_ASSERT(extent <= available && stream->chain.position == before.position + extent);
        frame_accepted(stream, &before, stream->bytes + at, extent);
        at += extent;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct stream stream;
    stream_draw(&stream, &input);
    stream_begin(&stream);
    stream_walk(&stream);
    free(stream.bytes);
    return 0;
}
