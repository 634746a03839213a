/* SPDX-License-Identifier: Apache-2.0
 *
 * The rings between a client process and its node (rule H1). Two sealed memfds:
 *
 *   client region (client writes, node reads): struct leat_ring_client, one page; then ring_bytes
 *     of records, each a struct leat_ring_record and its payload, aligned to 32 bytes, never
 *     wrapping: a SKIP record fills the rest of the ring.
 *   node region (node writes, client reads; sealed before the client maps it): struct
 *     leat_ring_node, one page; then completion_count struct leat_completion.
 *
 * Positions are counts of bytes (records) and of completions since attach; the place is position
 * modulo size, both powers of two. A record's bytes stay the node's until head passes them: it
 * passes when the append has ended, so that the node can read it again after a leader change.
 *
 * A record of kind BATCH holds up to LEAT_BATCH_RECORDS_MAX records that are appended all or not at
 * all: one sequence, one completion (position and offset of the last). Its payload is a row of
 * struct leat_batch_item, each with its bytes behind it, zero-padded to 8. A FENCE record has no
 * payload; `writer_epoch` is the epoch that it asks for. A CLOSE record has none of either: it asks
 * for the end of the client's session in the log, behind what the client appended before, and is
 * answered as what comes behind that end is: ENOSESSION.
 *
 * A client that waits for its descriptor (LEAT_CONTROL_EVENTS) stores `armed`, a value other than
 * `signaled`; the node's control thread looks every millisecond, and when there is something to be
 * seen makes the descriptor readable and then sets `signaled` to it. The worker has no part in it.
 *
 * The node trusts nothing in the client region: each shared word is loaded once, bounded, then
 * used; payload is copied once into the arena and that copy is what is hashed, sent and written.
 */
#ifndef LEAT_BASE_RING_H
#define LEAT_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/frame.h"
#include "base/uuid.h"

#define LEAT_RING_HEADER_BYTES    4096u
#define LEAT_RING_ALIGN           32u
#define LEAT_RING_BYTES_MIN       (64u << 10)
#define LEAT_RING_BYTES_MAX       (256u << 20)
#define LEAT_RING_COMPLETIONS_MIN 64u
#define LEAT_RING_COMPLETIONS_MAX (64u << 10)

struct leat_ring_word {
    uint64_t value;
    uint64_t pad[15]; /* two cache lines: adjacent-line prefetch */
};

struct leat_ring_client {
    struct leat_ring_word tail;            /* release by client; acquire by node */
    struct leat_ring_word completion_head; /* completions taken; release by client */
    struct leat_ring_word armed;           /* EVENTS: asks to be woken; release by client */
};

struct leat_ring_node {
    struct leat_uuid instance; /* of the node's process: a restart makes another */
    uint64_t ring_bytes;
    uint64_t completion_count;
    uint64_t reserved[12];
    struct leat_ring_word head;            /* record bytes given back; release by node */
    struct leat_ring_word completion_tail; /* release by node; acquire by client */
    struct leat_ring_word closed;          /* a negative enum leat_error: the node let go */
    struct leat_ring_word signaled;        /* `armed` as it was when the client was woken last */
};
_Static_assert(offsetof(struct leat_ring_node, head) == 128, "own cache lines");
_Static_assert(sizeof(struct leat_ring_node) <= LEAT_RING_HEADER_BYTES, "one page");

enum leat_ring_kind {
    LEAT_RING_APPEND = 1,
    LEAT_RING_SKIP = 2,
    LEAT_RING_BATCH = 3,
    LEAT_RING_FENCE = 4,
    LEAT_RING_CLOSE = 5,
};

enum leat_ring_flag {
    LEAT_RING_FLAG_CONDITION = 1, /* APPEND, BATCH: only if the log's next offset is `condition` */
    LEAT_RING_FLAG_AGAIN = 2,     /* a former node had it: it may be on its way into the log */
};

enum leat_level {
    LEAT_LEVEL_DURABLE = 1,    /* on disk on a majority */
    LEAT_LEVEL_REPLICATED = 2, /* in the memory of a majority */
};

struct leat_ring_record {
    uint32_t payload_bytes;
    uint8_t kind;   /* enum leat_ring_kind */
    uint8_t level;  /* enum leat_level */
    uint16_t flags; /* enum leat_ring_flag */
    uint32_t log_id;
    uint32_t writer_epoch; /* refused when the log's fence epoch is above it; 0: none; FENCE: new */
    uint64_t sequence;     /* per client and log, from 1 */
    /* FLAG_CONDITION: the offset; else of sequence 1 how far the log was committed when it was
     * appended, or less (ADR 0076); else zero */
    uint64_t condition;
};
_Static_assert(sizeof(struct leat_ring_record) == LEAT_RING_ALIGN, "one alignment unit");

#define LEAT_BATCH_RECORDS_MAX 1024u

/* Before each record of a batch. The frames that become of them, headers and padding included,
 * take no more of the log than one entry of the largest size (leat_batch_fits). */
struct leat_batch_item {
    uint32_t payload_bytes;
    uint32_t zero;
};
_Static_assert(sizeof(struct leat_batch_item) == 8, "no padding");

/* Bytes that a record of a batch takes in the composite payload. */
static inline uint64_t leat_batch_item_extent(uint32_t payload_bytes)
{
    return sizeof(struct leat_batch_item) + (((uint64_t)payload_bytes + 7) & ~(uint64_t)7);
}

/* Bytes that it takes in the log. */
static inline uint64_t leat_batch_frame_extent(uint32_t payload_bytes)
{
    return LEAT_FRAME_HEADER_BYTES + (((uint64_t)payload_bytes + 7) & ~(uint64_t)7);
}

/* `payload_bytes` of the composite, `frames_bytes` in the log. */
static inline bool leat_batch_fits(uint64_t payload_bytes, uint64_t frames_bytes,
                                   uint32_t entry_bytes_max)
{
    return payload_bytes <= entry_bytes_max &&
           frames_bytes <= LEAT_FRAME_HEADER_BYTES + (uint64_t)entry_bytes_max;
}

/* The composite payload's records: their lengths, and how many. It may change while it is read
 * (it lies in a client's memory): what is returned was bounded against `bytes` and holds for
 * whatever lies there later. 0: not a batch (none, too many, an overrun, a byte left over). */
uint32_t leat_batch_parse(const void *payload, uint32_t payload_bytes, uint32_t *lengths);

struct leat_completion {
    uint32_t log_id;
    int32_t error; /* enum leat_error; ESESSION: `sequence` and on are lost or not recorded */
    uint64_t sequence;
    uint64_t
        position;    /* of a batch: its last record's, like offset; refused: of its REFUSED frame */
    uint64_t offset; /* FENCE: the next record's */
    uint64_t last_sequence; /* ESESSION, ENOSESSION: the session's last durable one */
    uint8_t level;          /* enum leat_level that was reached */
    uint8_t reserved[7];
    uint64_t detail; /* ECONDITION: the next offset; EFENCEDOUT: the log's fence epoch */
    uint64_t reserved_word;
};
_Static_assert(sizeof(struct leat_completion) == 64, "one cache line");

/* Bytes that a record takes in the ring. */
static inline uint64_t leat_ring_extent(uint32_t payload_bytes)
{
    return (sizeof(struct leat_ring_record) + (uint64_t)payload_bytes + LEAT_RING_ALIGN - 1) &
           ~(uint64_t)(LEAT_RING_ALIGN - 1);
}

#endif
