/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame: an entry as it lies in memory, on the wire, on disk and in a reader's mapping.
 * A log is a byte stream of frames; a position is the count of bytes since the log began.
 *
 * Layout (little-endian, 48-byte header, frames 8-byte aligned, padding zero): docs/format.md.
 *
 * Geometry. A frame never crosses a segment's end. After every frame boundary a segment has
 * either no room left or room for a TERM frame (LEAT_TERM_FRAME_BYTES): a frame that would leave
 * less takes the rest as zero padding. So the frame of a new leader's term always fits where the
 * old leader's frames end, and only the leader that closes a segment pads it (ADR 0002).
 * A segment begins with a BASE frame, a pure function of the log before it, that carries the
 * term of the run before it and so is the same whoever writes it.
 *
 * The chain (rule F1). Each header carries the CRC of the frame before it; its own CRC covers
 * that, the log's uuid, generation and position (the salt): a frame proves its whole prefix.
 */
#ifndef LEAT_BASE_FRAME_H
#define LEAT_BASE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"
#include "leat/error.h"

#define LEAT_BLOCK_BYTES        4096u /* the unit of every write to disk */
#define LEAT_FRAME_HEADER_BYTES 48u
#define LEAT_FRAME_ALIGN        8u
#define LEAT_TERM_PAYLOAD_BYTES 32u
#define LEAT_TERM_FRAME_BYTES   (LEAT_FRAME_HEADER_BYTES + LEAT_TERM_PAYLOAD_BYTES)
#define LEAT_SEGMENT_BYTES_MIN  (1u << 20)
#define LEAT_SEGMENT_BYTES_MAX  (1ull << 30)
#define LEAT_ARENA_BYTES_MIN    (2u << 20)
#define LEAT_ARENA_BYTES_MAX    (64ull << 30)
#define LEAT_ENTRY_BYTES_MIN    1024u
#define LEAT_TERM_MAX           UINT32_MAX /* no candidacy at the maximum term */

enum leat_frame_type {
    LEAT_FRAME_RECORD = 1,        /* a client's record; the only type that takes an offset */
    LEAT_FRAME_PAD = 2,           /* fills up to a block's or segment's end; body zeros, not sent */
    LEAT_FRAME_TERM = 3,          /* begins a run: struct leat_term_payload */
    LEAT_FRAME_BASE = 4,          /* begins a segment: base/base_frame.h */
    LEAT_FRAME_SESSION_OPEN = 5,  /* struct leat_session_payload */
    LEAT_FRAME_SESSION_CLOSE = 6, /* struct leat_session_payload */
    LEAT_FRAME_TRIM = 7,          /* struct leat_trim_payload */
    LEAT_FRAME_CATALOGUE = 8,     /* log 0's changes: struct leat_catalogue_payload */
    LEAT_FRAME_CONFIG = 9,        /* reserved: membership */
    LEAT_FRAME_FENCE = 10,        /* struct leat_fence_payload */
    LEAT_FRAME_PREPARE = 11,      /* reserved: transactions over logs */
    LEAT_FRAME_DECIDE = 12,       /* reserved: transactions over logs */
    LEAT_FRAME_REFUSED = 13,      /* struct leat_refused_payload: an append that did not hold */
};

#define LEAT_FRAME_TYPES_BUILT                                                                     \
    (1u << LEAT_FRAME_RECORD | 1u << LEAT_FRAME_PAD | 1u << LEAT_FRAME_TERM |                      \
     1u << LEAT_FRAME_BASE | 1u << LEAT_FRAME_SESSION_OPEN | 1u << LEAT_FRAME_SESSION_CLOSE |      \
     1u << LEAT_FRAME_TRIM | 1u << LEAT_FRAME_CATALOGUE | 1u << LEAT_FRAME_FENCE |                 \
     1u << LEAT_FRAME_REFUSED)

enum leat_frame_flag {
    LEAT_FRAME_FLAG_CONTINUES = 1 << 16,   /* RECORD: its batch goes on in the next frame; no
                                              boundary that the core knows lies behind it */
    LEAT_FRAME_FLAG_CONDITIONAL = 1 << 17, /* RECORD: was appended under an offset condition */
    LEAT_FRAME_FLAG_TRANSACTION = 1 << 18, /* reserved */
    LEAT_FRAME_FLAG_ENCRYPTED = 1 << 19,   /* reserved */
    LEAT_FRAME_FLAGS_BUILT = LEAT_FRAME_FLAG_CONTINUES | LEAT_FRAME_FLAG_CONDITIONAL, /* RECORD */
};

struct leat_frame {
    uint32_t length_bytes; /* header and payload, unpadded */
    uint32_t type_flags;   /* low 16 bits: enum leat_frame_type; high: enum leat_frame_flag */
    uint32_t crc;          /* over salt, the header but this word, and payload (PAD: header only) */
    uint32_t previous_crc; /* crc of the frame before; 0 at position 0 */
    uint64_t offset;       /* RECORD: its own; other types: the next record's */
    uint64_t time_ns;      /* log time: nanoseconds since 1970, never going back */
    uint32_t session;      /* session table index + 1; 0: none */
    uint32_t term;
    uint64_t sequence; /* per session and log, from 1; 0 without a session */
};
_Static_assert(sizeof(struct leat_frame) == LEAT_FRAME_HEADER_BYTES, "no padding");
_Static_assert(offsetof(struct leat_frame, session) == 32, "layout");

struct leat_term_payload {
    uint32_t term;
    uint32_t previous_term;
    uint64_t previous_first_pos; /* where the previous run begins */
    uint32_t leader_node;
    uint32_t config_epoch;
    uint64_t reserved;
};
_Static_assert(sizeof(struct leat_term_payload) == LEAT_TERM_PAYLOAD_BYTES, "no padding");

struct leat_session_payload {
    struct leat_uuid client;
    uint32_t session; /* table index + 1 */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_session_payload) == 24, "no padding");

struct leat_trim_payload {
    uint64_t trim_pos; /* a segment boundary: all below it may be unlinked */
};
_Static_assert(sizeof(struct leat_trim_payload) == 8, "no padding");

/* From here on only writers of this epoch or a higher one append (session, sequence: the asker's).
 */
struct leat_fence_payload {
    uint64_t epoch; /* above the one before */
};
_Static_assert(sizeof(struct leat_fence_payload) == 8, "no padding");

/* The append (session, sequence) of this frame was refused, for good: its condition did not hold
 * at this place in the log, or its writer was fenced. As a frame, so that a retry at a later leader
 * gets the same answer, and the session goes on. */
struct leat_refused_payload {
    int32_t error; /* enum leat_error: LEAT_ECONDITION or LEAT_EFENCEDOUT */
    uint32_t reserved;
    uint64_t detail; /* the next offset, or the log's fence epoch */
};
_Static_assert(sizeof(struct leat_refused_payload) == 16, "no padding");

/* What a log's frames are checked against, fixed for a generation of the log. */
struct leat_log_shape {
    uint32_t salt;            /* leat_frame_salt() */
    uint32_t entry_bytes_max; /* payload; at most a quarter of a segment */
    uint64_t segment_bytes;   /* power of two, at least LEAT_SEGMENT_BYTES_MIN */
};

/* A place in the chain: all that is needed to check the frame that begins there. */
struct leat_chain {
    uint64_t position;
    uint64_t next_offset;
    uint64_t last_time_ns;
    uint64_t run_first_pos; /* where the current run begins */
    uint32_t term;          /* of the current run; 0 before the first TERM frame */
    uint32_t crc;           /* of the frame before */
    /* Inside a batch: whose; the next frame is a RECORD of the same. 0 at a boundary. */
    uint64_t batch_sequence;
    uint32_t batch_session;
    uint32_t reserved; /* zero: no padding, so that two are compared as bytes */
};

/* Between two frames of one batch there is no boundary: the core, commits, disk writes and recovery
 * know only places where this is false (ADR 0030). */
static inline bool leat_chain_in_batch(const struct leat_chain *chain)
{
    return chain->batch_sequence != 0;
}

static inline unsigned leat_frame_type(const struct leat_frame *frame)
{
    return frame->type_flags & 0xffffu;
}

static inline uint64_t leat_segment_base(const struct leat_log_shape *shape, uint64_t position)
{
    return position & ~(shape->segment_bytes - 1);
}

/* Bytes from `position` to the end of its segment; a whole segment at a boundary. */
static inline uint64_t leat_segment_room(const struct leat_log_shape *shape, uint64_t position)
{
    return shape->segment_bytes - (position & (shape->segment_bytes - 1));
}

/* Bytes that a frame of `length_bytes` takes at `position`, padding included. The caller has
 * made sure that it fits the segment. */
uint64_t leat_frame_extent(const struct leat_log_shape *shape, uint64_t position,
                           uint32_t length_bytes);

uint32_t leat_frame_salt(const struct leat_uuid *log, uint32_t generation);

/* The CRC of a frame whose header (its crc word is not read) and payload are given. */
uint32_t leat_frame_crc(const struct leat_log_shape *shape, uint64_t position,
                        const struct leat_frame *frame, const void *payload);

/* Lays a frame out at `to` (contiguous room for its extent): fills the chain's fields of `frame`
 * (previous_crc, term unless TERM, offset), copies the payload while hashing it, zeroes the
 * padding and advances `chain`. frame->length_bytes, type_flags, time_ns, session, sequence are
 * the caller's. Returns the extent in bytes. The one copy of rule "one layout, one copy". */
uint64_t leat_frame_seal(const struct leat_log_shape *shape, struct leat_chain *chain, void *to,
                         struct leat_frame *frame, const void *payload);

/* Checks the frame at chain->position against chain, shape and every rule that needs nothing
 * else, and advances `chain` past it. `bytes` is the frame's place, `available_bytes` what may be
 * read there. Returns 0 and its extent; LEAT_EAGAIN when more bytes are needed (nothing
 * changed); LEAT_ECHAIN when it is not a frame that continues this chain (nothing changed);
 * LEAT_EVERSION when its type or flags are unknown but its CRC holds (halt, by name). */
int leat_frame_check(const struct leat_log_shape *shape, struct leat_chain *chain,
                     const void *bytes, uint64_t available_bytes, uint64_t *ret_extent_bytes);

/* Moves `chain` past a frame that is known to be good (sealed or checked before). */
void leat_chain_advance(struct leat_chain *chain, const struct leat_frame *frame, uint64_t extent);

/* The chain position of a segment's BASE frame, taken from the frame itself (its CRC is
 * checked, its link to the frame before cannot be): where recovery, readers and install begin.
 * `position` is the segment's base. Returns 0, LEAT_EAGAIN or LEAT_ECHAIN. */
int leat_chain_at_base(const struct leat_log_shape *shape, uint64_t position, const void *bytes,
                       uint64_t available_bytes, struct leat_chain *ret_chain);

#endif
