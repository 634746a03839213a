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
 * The node trusts nothing in the client region: each shared word is loaded once, bounded, then
 * used; payload is copied once into the arena and that copy is what is hashed, sent and written.
 */
#ifndef LEAT_BASE_RING_H
#define LEAT_BASE_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"

#define LEAT_RING_VERSION         1u
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
};

struct leat_ring_node {
    struct leat_uuid instance; /* of the node's process: a restart makes another */
    uint64_t ring_bytes;
    uint64_t completion_count;
    uint64_t reserved[12];
    struct leat_ring_word head;            /* record bytes given back; release by node */
    struct leat_ring_word completion_tail; /* release by node; acquire by client */
    struct leat_ring_word closed;          /* a negative enum leat_error: the node let go */
};
_Static_assert(offsetof(struct leat_ring_node, head) == 128, "own cache lines");
_Static_assert(sizeof(struct leat_ring_node) <= LEAT_RING_HEADER_BYTES, "one page");

enum leat_ring_kind {
    LEAT_RING_APPEND = 1,
    LEAT_RING_SKIP = 2,
};

enum leat_level {
    LEAT_LEVEL_DURABLE = 1,    /* on disk on a majority */
    LEAT_LEVEL_REPLICATED = 2, /* in the memory of a majority */
};

struct leat_ring_record {
    uint32_t payload_bytes;
    uint8_t kind;   /* enum leat_ring_kind */
    uint8_t level;  /* enum leat_level */
    uint16_t flags; /* reserved: batch, conditional, fence; zero */
    uint32_t log_id;
    uint32_t reserved;
    uint64_t sequence;  /* per client and log, from 1 */
    uint64_t condition; /* reserved: only if the next offset is this; zero */
};
_Static_assert(sizeof(struct leat_ring_record) == LEAT_RING_ALIGN, "one alignment unit");

struct leat_completion {
    uint32_t log_id;
    int32_t error; /* enum leat_error; ESESSION: `sequence` and on are lost or not recorded */
    uint64_t sequence;
    uint64_t position;
    uint64_t offset;
    uint64_t last_sequence; /* ESESSION, ENOSESSION: the session's last durable one */
    uint8_t level;          /* enum leat_level that was reached */
    uint8_t reserved[7];
    uint64_t reserved_words[2];
};
_Static_assert(sizeof(struct leat_completion) == 64, "one cache line");

/* Bytes that a record takes in the ring. */
static inline uint64_t leat_ring_extent(uint32_t payload_bytes)
{
    return (sizeof(struct leat_ring_record) + (uint64_t)payload_bytes + LEAT_RING_ALIGN - 1) &
           ~(uint64_t)(LEAT_RING_ALIGN - 1);
}

#endif
