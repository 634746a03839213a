/* SPDX-License-Identifier: Apache-2.0
 *
 * A reader: a place in the chain, and bytes from the arena or, behind its horizon, from sealed
 * segment files.
 *
 *   LOST -> PLACED     located (reader_seek.c): `chain` is a frame boundary
 *   PLACED -> LOST     trimmed or rolled back and no boundary is held any more
 *
 * `chain` proves each frame that follows. `durable` is the newest boundary that was read below
 * commit_d: nothing can be rolled back below it, so that is where a rolled back reader goes on. One
 * that was placed beyond commit_d has none at first, and is LOST when it is rolled back.
 */
#ifndef LEAT_CLIENT_READER_PRIVATE_H
#define LEAT_CLIENT_READER_PRIVATE_H

#include "client_private.h"

#define READER_PIECE_BYTES (1u << 20)
#define READER_NO_SEGMENT  UINT64_MAX
#define READER_RUN_UNKNOWN UINT64_MAX /* of a chain that was begun within a run */

struct leat_reader {
    struct leat_client *client;
    uint32_t log_id;
    bool is_counted; /* in the client's log */
    enum leat_ack level;

    const struct leat_arena_header *arena; /* NULL: not mapped */
    const uint8_t *bytes;
    size_t map_bytes;
    uint64_t arena_bytes;
    uint64_t attach_count; /* of the client when it was mapped */
    struct leat_log_shape shape;
    uint64_t epoch;

    bool placed;
    enum leat_from from;   /* !placed: where to go */
    uint64_t value;        /* records of lower offsets are passed over */
    uint64_t time_from_ns; /* and those of lower times */
    struct leat_chain chain;
    bool is_proved; /* no cut was told since the chain was last seen to go on */
    struct leat_chain durable;
    bool durable_is_known;  /* else nothing that was read was below commit_d yet: */
    uint64_t placed_offset; /* a rolled back reader begins again where it was placed */
    uint64_t batch_end; /* of the batch that the reader is in, at most: it was committed whole */
    int pending;        /* an error to be told by the next call */

    int segment; /* descriptor; -1 */
    uint64_t segment_base;
    uint64_t piece_begin, piece_end; /* positions that `piece` holds */
    uint8_t *piece;

    uint8_t *buffer; /* one frame */
    uint64_t buffer_bytes;
};

/* ---- reader_bytes.c ---- */

/* Maps the log's arena, again when the client attached anew. 0, EAGAIN, ENOLOG, ... */
int reader_map(struct leat_reader *reader);
void reader_unmap(struct leat_reader *reader);
/* The next read asks for the segment's file anew: the node may have put a repaired one in its
 * place. */
void reader_forget_segment(struct leat_reader *reader);

/* Up to where this reader's level may read. */
uint64_t reader_commit(const struct leat_reader *reader);

/* Copies [position, position + length), which lies in one segment and below the commit, from where
 * it is: arena (checked after the copy, H3) or a sealed segment's file. 0, EAGAIN (it moved while
 * we looked: again later), ETRIMMED, EIO, ENOMEM, ECLOSED. */
int reader_copy(struct leat_reader *reader, uint64_t position, uint64_t length, void *to);

/* The arena holds it, and what lies behind it. */
bool reader_in_arena(const struct leat_reader *reader, uint64_t position);

/* ---- reader_seek.c ---- */

/* Finds `from` and `value`. 0, EAGAIN (nothing is committed yet), or an error. */
int reader_locate(struct leat_reader *reader);

/* ---- reader.c ---- */

/* Reads, checks and passes the frame at the chain; it then lies in `buffer`, but for a PAD, of
 * which the header does. EAGAIN at the tail. ECHAIN: whole, but not a continuation. */
int reader_step(struct leat_reader *reader, struct leat_frame *ret_frame);

#endif
