/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests: tests/unit/test_frame.c.
 */
#include "base/frame.h"

#include <string.h>

#include "base/assert.h"
#include "base/base_frame.h"
#include "base/crc.h"

#define FRAME_CRC_AT offsetof(struct leat_frame, crc)

static uint64_t align_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) & ~(to - 1);
}

uint64_t leat_frame_extent(const struct leat_log_shape *shape, uint64_t position,
                           uint32_t length_bytes)
{
    uint64_t room = leat_segment_room(shape, position);
    uint64_t extent = align_up(length_bytes, LEAT_FRAME_ALIGN);
    return room - extent < LEAT_TERM_FRAME_BYTES ? room : extent;
}

uint32_t leat_frame_salt(const struct leat_uuid *log, uint32_t generation)
{
    uint32_t crc = leat_crc32c(0, log->bytes, sizeof(log->bytes));
    return leat_crc32c(crc, &generation, sizeof(generation));
}

static uint32_t frame_header_crc(const struct leat_log_shape *shape, uint64_t position,
                                 const struct leat_frame *frame)
{
    struct {
        uint64_t position;
        struct leat_frame frame;
    } covered = {position, *frame};
    covered.frame.crc = 0;
    return leat_crc32c(shape->salt, &covered, sizeof(covered));
}

static bool frame_body_is_hashed(const struct leat_frame *frame)
{
    return leat_frame_type(frame) != LEAT_FRAME_PAD;
}

uint32_t leat_frame_crc(const struct leat_log_shape *shape, uint64_t position,
                        const struct leat_frame *frame, const void *payload)
{
    uint32_t crc = frame_header_crc(shape, position, frame);
    if (frame_body_is_hashed(frame))
        crc = leat_crc32c(crc, payload, frame->length_bytes - LEAT_FRAME_HEADER_BYTES);
    return crc;
}

void leat_chain_advance(struct leat_chain *chain, const struct leat_frame *frame, uint64_t extent)
{
    if (leat_frame_type(frame) == LEAT_FRAME_TERM) {
        chain->term = frame->term;
        chain->run_first_pos = chain->position;
    }
    chain->crc = frame->crc;
    chain->last_time_ns = frame->time_ns;
    chain->next_offset = frame->offset + (leat_frame_type(frame) == LEAT_FRAME_RECORD);
    bool continues = (frame->type_flags & LEAT_FRAME_FLAG_CONTINUES) != 0;
    chain->batch_sequence = continues ? frame->sequence : 0;
    chain->batch_session = continues ? frame->session : 0;
    chain->position += extent;
}

uint64_t leat_frame_seal(const struct leat_log_shape *shape, struct leat_chain *chain, void *to,
                         struct leat_frame *frame, const void *payload)
{
    uint64_t extent = leat_frame_extent(shape, chain->position, frame->length_bytes);
    uint32_t payload_bytes = frame->length_bytes - LEAT_FRAME_HEADER_BYTES;
    char *body = (char *)to + LEAT_FRAME_HEADER_BYTES;

    LEAT_ASSERT(frame->length_bytes >= LEAT_FRAME_HEADER_BYTES);
    LEAT_ASSERT(align_up(frame->length_bytes, LEAT_FRAME_ALIGN) <=
                leat_segment_room(shape, chain->position));
    LEAT_ASSERT(frame->time_ns >= chain->last_time_ns);
    if (leat_frame_type(frame) != LEAT_FRAME_TERM)
        frame->term = chain->term;
    frame->previous_crc = chain->crc;
    frame->offset = chain->next_offset;
    frame->crc = frame_header_crc(shape, chain->position, frame);
    if (frame_body_is_hashed(frame)) {
        frame->crc = leat_crc32c_copy(frame->crc, body, payload, payload_bytes);
        memset(body + payload_bytes, 0, extent - frame->length_bytes);
    } else {
        memset(body, 0, extent - LEAT_FRAME_HEADER_BYTES);
    }
    memcpy(to, frame, sizeof(*frame));
    leat_chain_advance(chain, frame, extent);
    return extent;
}

static bool bytes_are_zero(const char *bytes, uint64_t count)
{
    if (count == 0)
        return true;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;
}

/* Bounds that must hold before a single byte behind the header is looked at. */
static bool frame_length_is_legal(const struct leat_log_shape *shape, uint64_t position,
                                  const struct leat_frame *frame)
{
    uint64_t room = leat_segment_room(shape, position);
    if (frame->length_bytes < LEAT_FRAME_HEADER_BYTES || frame->length_bytes > room)
        return false;
    uint32_t payload_bytes = frame->length_bytes - LEAT_FRAME_HEADER_BYTES;
    switch (leat_frame_type(frame)) {
    case LEAT_FRAME_PAD:
        return true;
    case LEAT_FRAME_BASE:
        return payload_bytes <= LEAT_BASE_PAYLOAD_BYTES_MAX;
    case LEAT_FRAME_TERM:
        return payload_bytes == LEAT_TERM_PAYLOAD_BYTES;
    case LEAT_FRAME_SESSION_OPEN:
    case LEAT_FRAME_SESSION_CLOSE:
        return payload_bytes == sizeof(struct leat_session_payload);
    case LEAT_FRAME_TRIM:
        return payload_bytes == sizeof(struct leat_trim_payload);
    case LEAT_FRAME_CATALOGUE:
        return payload_bytes == sizeof(struct leat_catalogue_payload);
    case LEAT_FRAME_FENCE:
        return payload_bytes == sizeof(struct leat_fence_payload);
    case LEAT_FRAME_REFUSED:
        return payload_bytes == sizeof(struct leat_refused_payload);
    default:
        return payload_bytes <= shape->entry_bytes_max;
    }
}

/* The rules of F1 that tie a frame to its place, beyond CRC and link. */
static bool frame_keeps_rules(const struct leat_log_shape *shape, const struct leat_chain *chain,
                              const struct leat_frame *frame, const void *payload)
{
    bool at_base = (chain->position & (shape->segment_bytes - 1)) == 0;
    if (at_base != (leat_frame_type(frame) == LEAT_FRAME_BASE))
        return false;
    if (frame->offset != chain->next_offset || frame->time_ns < chain->last_time_ns)
        return false;
    if (leat_chain_in_batch(chain) &&
        (leat_frame_type(frame) != LEAT_FRAME_RECORD || frame->session != chain->batch_session ||
         frame->sequence != chain->batch_sequence))
        return false;
    if ((frame->type_flags & LEAT_FRAME_FLAG_CONTINUES) &&
        (frame->session == 0 || frame->sequence == 0))
        return false;
    if (leat_frame_type(frame) != LEAT_FRAME_TERM)
        return frame->term == chain->term;
    struct leat_term_payload term;
    memcpy(&term, payload, sizeof(term));
    return frame->term > chain->term && term.term == frame->term &&
           term.previous_term == chain->term && term.previous_first_pos == chain->run_first_pos;
}

static bool frame_is_known(const struct leat_frame *frame)
{
    unsigned type = leat_frame_type(frame);
    uint32_t flags = type == LEAT_FRAME_RECORD ? LEAT_FRAME_FLAGS_BUILT : 0;
    return type < 32 && (1u << type & LEAT_FRAME_TYPES_BUILT) != 0 &&
           (frame->type_flags & ~0xffffu & ~flags) == 0;
}

int leat_frame_check(const struct leat_log_shape *shape, struct leat_chain *chain,
                     const void *bytes, uint64_t available_bytes, uint64_t *ret_extent_bytes)
{
    struct leat_frame frame;
    if (available_bytes < sizeof(frame))
        return LEAT_EAGAIN;
    memcpy(&frame, bytes, sizeof(frame));
    if (frame.previous_crc != chain->crc || !frame_length_is_legal(shape, chain->position, &frame))
        return LEAT_ECHAIN;
    uint64_t extent = leat_frame_extent(shape, chain->position, frame.length_bytes);
    if (available_bytes < extent)
        return LEAT_EAGAIN;
    const char *payload = (const char *)bytes + LEAT_FRAME_HEADER_BYTES;
    if (leat_frame_crc(shape, chain->position, &frame, payload) != frame.crc)
        return LEAT_ECHAIN;
    if (!frame_is_known(&frame))
        return LEAT_EVERSION;
    uint64_t zeros_at = frame_body_is_hashed(&frame) ? frame.length_bytes : LEAT_FRAME_HEADER_BYTES;
    if (!bytes_are_zero((const char *)bytes + zeros_at, extent - zeros_at) ||
        !frame_keeps_rules(shape, chain, &frame, payload))
        return LEAT_ECHAIN;
    leat_chain_advance(chain, &frame, extent);
    *ret_extent_bytes = extent;
    return LEAT_OK;
}

int leat_chain_at_base(const struct leat_log_shape *shape, uint64_t position, const void *bytes,
                       uint64_t available_bytes, struct leat_chain *ret_chain)
{
    struct leat_frame frame;
    struct leat_base base;

    if (available_bytes < sizeof(frame))
        return LEAT_EAGAIN;
    memcpy(&frame, bytes, sizeof(frame));
    if (leat_frame_type(&frame) != LEAT_FRAME_BASE || frame.length_bytes < sizeof(frame) ||
        frame.length_bytes > LEAT_FRAME_HEADER_BYTES + LEAT_BASE_PAYLOAD_BYTES_MAX)
        return LEAT_ECHAIN;
    if (available_bytes < leat_frame_extent(shape, position, frame.length_bytes))
        return LEAT_EAGAIN;
    const char *payload = (const char *)bytes + LEAT_FRAME_HEADER_BYTES;
    if (leat_base_parse(payload, frame.length_bytes - LEAT_FRAME_HEADER_BYTES, &base) != LEAT_OK ||
        base.head->position != position || base.head->segment_bytes != shape->segment_bytes)
        return LEAT_ECHAIN;
    struct leat_chain chain = leat_base_chain(base.head);
    struct leat_chain probe = chain;
    uint64_t extent;
    int rc = leat_frame_check(shape, &probe, bytes, available_bytes, &extent);
    if (rc == LEAT_OK)
        *ret_chain = chain;
    return rc;
}

/* ---- the base frame's payload ---- */

bool leat_log_sizes_are_legal(uint64_t segment_bytes, uint64_t arena_bytes,
                              uint32_t entry_bytes_max)
{
    return segment_bytes >= LEAT_SEGMENT_BYTES_MIN && segment_bytes <= LEAT_SEGMENT_BYTES_MAX &&
           (segment_bytes & (segment_bytes - 1)) == 0 && arena_bytes >= 2 * segment_bytes &&
           arena_bytes <= LEAT_ARENA_BYTES_MAX && (arena_bytes & (arena_bytes - 1)) == 0 &&
           entry_bytes_max >= LEAT_ENTRY_BYTES_MIN && entry_bytes_max <= segment_bytes / 4;
}

static bool base_head_is_sane(const struct leat_base_head *head)
{
    return head->member_count >= 1 && head->member_count <= LEAT_MEMBERS_MAX &&
           head->session_count <= LEAT_SESSIONS_MAX && head->closed_count <= LEAT_SESSIONS_CLOSED &&
           head->catalogue_count <= LEAT_LOGS_MAX &&
           leat_log_sizes_are_legal(head->segment_bytes, head->arena_bytes,
                                    head->entry_bytes_max) &&
           head->position % head->segment_bytes == 0 && head->trim_pos <= head->position &&
           head->run_first_pos <= head->position;
}

static bool base_members_are_sane(const struct leat_base *base)
{
    for (unsigned i = 1; i < base->head->member_count; i++) {
        if (base->members[i].node_id <= base->members[i - 1].node_id)
            return false;
    }
    return true;
}

static bool base_sessions_are_sane(const struct leat_base *base)
{
    const struct leat_session_row *rows = base->sessions;
    for (unsigned i = 0; i < base->head->session_count; i++) {
        if (rows[i].session == 0 || rows[i].session > LEAT_SESSIONS_MAX ||
            (rows[i].last_error != LEAT_OK && rows[i].last_error != LEAT_ECONDITION &&
             rows[i].last_error != LEAT_EFENCEDOUT) ||
            (i > 0 && rows[i].session <= rows[i - 1].session))
            return false;
    }
    return true;
}

/* One is left out for want of room only. */
static bool base_closed_are_sane(const struct leat_base *base)
{
    uint64_t above_pos = base->head->closed_unknown_pos;
    if (above_pos != 0 && base->head->closed_count != LEAT_SESSIONS_CLOSED)
        return false;
    for (unsigned i = 0; i < base->head->closed_count; i++) {
        if (base->closed[i].position <= above_pos)
            return false;
        above_pos = base->closed[i].position;
    }
    return above_pos == 0 || above_pos < base->head->position;
}

static bool base_catalogue_is_sane(const struct leat_base *base)
{
    const struct leat_catalogue_row *rows = base->catalogue;
    if (base->head->catalogue_count > 0 && base->head->log_id != 0)
        return false;
    for (unsigned i = 0; i < base->head->catalogue_count; i++) {
        if ((i > 0 && rows[i].log_id <= rows[i - 1].log_id) ||
            rows[i].name[LEAT_CATALOGUE_NAME_BYTES - 1] != 0 ||
            !leat_log_sizes_are_legal(rows[i].segment_bytes, rows[i].arena_bytes,
                                      rows[i].entry_bytes_max))
            return false;
    }
    return true;
}

int leat_base_parse(const void *payload, uint32_t length_bytes, struct leat_base *ret_base)
{
    const struct leat_base_head *head = payload;
    if (length_bytes < sizeof(*head))
        return LEAT_ECORRUPT;
    if (head->version != LEAT_BASE_VERSION)
        return LEAT_EVERSION;
    if (!base_head_is_sane(head) || leat_base_payload_bytes(head) != length_bytes)
        return LEAT_ECORRUPT;
    *ret_base = leat_base_parts(payload);
    bool is_sane = base_members_are_sane(ret_base) && base_sessions_are_sane(ret_base) &&
                   base_closed_are_sane(ret_base) && base_catalogue_is_sane(ret_base);
    return is_sane ? LEAT_OK : LEAT_ECORRUPT;
}
