/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena: a log's newest bytes in a tmpfs file that survives the death of every process
 * (rules W4, H2, H3). One page of header, then a ring of arena_bytes; the byte at position p lies
 * at p modulo arena_bytes; then the hints. The node's worker is the only writer; readers map it
 * read-only.
 *
 * Writer, before it overwrites: horizon (store), release fence, bytes. Then published_end
 * (release) before any acknowledgement leaves, and lowered before a cut range is overwritten.
 * Reader: bound the length, copy out, acquire fence, check horizon and epoch, check the CRC, only
 * then trust. A commit word never exceeds what may be read at its level.
 */
#ifndef LEAT_BASE_ARENA_H
#define LEAT_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"

#define LEAT_ARENA_MAGIC        0x314152414554414cULL
#define LEAT_ARENA_VERSION      3u
#define LEAT_ARENA_HEADER_BYTES 4096u

/* A sparse index of the ring, behind it: a position for each LEAT_ARENA_HINT_STEP_BYTES of it, at
 * (position / step) modulo their count: where the first frame begins that begins in that piece.
 * Only a hint: 0, or of another piece, is none, and whoever follows one checks the frame. */
#define LEAT_ARENA_HINT_STEP_BYTES (64u << 10)

enum leat_arena_flag {
    LEAT_ARENA_ACCEPTS_REPLICATED = 1, /* the log takes appends at the replicated level */
    LEAT_ARENA_DELETED = 2,            /* set once, while others may look: nothing comes any more */
};

/* One writer, many readers: a cache line for itself. */
struct leat_arena_word {
    uint64_t value;
    uint64_t pad[7];
};

enum leat_arena_role {
    LEAT_ARENA_FOLLOWER = 0,
    LEAT_ARENA_CANDIDATE = 1,
    LEAT_ARENA_LEADER = 2,
};

/* Who leads, as this node knows it: a cache line, written as a whole. The writer makes `counter`
 * odd (release fence), stores the rest, makes it even (release); a reader takes what it read
 * between two equal even counters (acquire), and gives up for now otherwise. */
struct leat_arena_leadership {
    uint64_t counter;     /* 2 x the changes of role, leader or term that were published */
    uint64_t term;        /* of this node */
    uint64_t leader_node; /* id; 0: none is known */
    uint64_t role;        /* of this node: enum leat_arena_role */
    uint64_t pad[4];
};

struct leat_arena_header {
    uint64_t magic;
    uint32_t version;
    uint32_t log_id;
    struct leat_uuid boot; /* the kernel's boot id under which it was made */
    struct leat_uuid log;
    struct leat_uuid arena; /* made anew with every new arena; the journal names it */
    uint32_t generation;
    uint32_t entry_bytes_max;
    uint64_t arena_bytes;
    uint64_t segment_bytes;
    uint32_t flags; /* enum leat_arena_flag */
    uint32_t reserved_word;
    uint64_t reserved[4];
    struct leat_arena_word published_end;
    struct leat_arena_word horizon;  /* lowest position whose bytes are whole */
    struct leat_arena_word commit_d; /* readers at the durable level stop here */
    struct leat_arena_word commit_r; /* readers at the replicated level stop here */
    struct leat_arena_word epoch;    /* counts cuts below a published commit_r (W6) */
    struct leat_arena_word base_pos; /* lowest segment held; below: trimmed */
    struct leat_arena_word instance; /* counts starts of the node; 0 while it is not serving */
    struct leat_arena_leadership leadership;
};
_Static_assert(offsetof(struct leat_arena_header, published_end) == 128, "own cache lines");
_Static_assert(sizeof(struct leat_arena_header) <= LEAT_ARENA_HEADER_BYTES, "one page");

static inline uint64_t leat_arena_hint_count(uint64_t arena_bytes)
{
    return arena_bytes / LEAT_ARENA_HINT_STEP_BYTES;
}

static inline uint64_t leat_arena_file_bytes(uint64_t arena_bytes)
{
    uint64_t hint_bytes = leat_arena_hint_count(arena_bytes) * sizeof(uint64_t);
    return LEAT_ARENA_HEADER_BYTES + arena_bytes +
           ((hint_bytes + LEAT_ARENA_HEADER_BYTES - 1) & ~(uint64_t)(LEAT_ARENA_HEADER_BYTES - 1));
}

#endif
