/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of a BASE frame (rule B1): f(log[0, B)) and nothing else, so no commit position
 * and no wall clock; sorted, fixed width, bounded. It holds all that recovery or an installing
 * follower needs to go on from B.
 *
 * payload = struct leat_base_head, then members, sessions, closed sessions, catalogue entries.
 */
#ifndef LEAT_BASE_BASE_FRAME_H
#define LEAT_BASE_BASE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/frame.h"

#define LEAT_BASE_VERSION 4u
#define LEAT_MEMBERS_MAX  7u
#ifndef LEAT_SESSIONS_MAX /* the simulator has a build in which they are all taken soon */
#define LEAT_SESSIONS_MAX 1024u
#endif
#ifndef LEAT_SESSIONS_CLOSED /* of so many that were closed last it is known whose they were */
#define LEAT_SESSIONS_CLOSED 64u
#endif
#define LEAT_LOGS_MAX 1024u

enum leat_base_flag {
    LEAT_BASE_ACCEPTS_REPLICATED = 1, /* the log accepts appends at the replicated level (W5) */
};

struct leat_base_head {
    uint32_t version;
    uint32_t flags; /* enum leat_base_flag */
    struct leat_uuid cluster;
    struct leat_uuid log;
    uint32_t log_id;
    uint32_t generation;
    uint64_t position; /* B */
    uint64_t segment_bytes;
    uint64_t arena_bytes;
    uint32_t entry_bytes_max;
    uint32_t config_epoch;
    uint64_t next_offset;
    uint64_t last_time_ns;
    uint64_t run_first_pos; /* the run that holds B - 1 */
    uint32_t run_term;
    uint32_t chain_crc; /* of the frame before B */
    uint64_t trim_pos;  /* as committed before B */
    uint16_t member_count;
    uint16_t session_count;
    uint16_t catalogue_count; /* log 0 only */
    uint16_t closed_count;
    uint64_t fence_epoch;        /* writers below it are shut out; 0: none was ever set */
    uint64_t closed_unknown_pos; /* of the newest SESSION_CLOSE that is not listed; 0: all are */
    uint64_t reserved_words[2];
};
_Static_assert(sizeof(struct leat_base_head) == 160, "no padding");

struct leat_base_member {
    uint32_t node_id;
    uint32_t flags; /* reserved: learner */
};
_Static_assert(sizeof(struct leat_base_member) == 8, "no padding");

/* One row of the session table; sorted by session. */
struct leat_session_row {
    struct leat_uuid client;
    uint64_t last_sequence;
    uint64_t last_position;
    uint64_t last_offset; /* of a batch: its last record's; of a refused append: the detail */
    uint64_t last_time_ns;
    uint32_t session;   /* table index + 1 */
    int32_t last_error; /* 0, or why last_sequence was refused: a retry gets the same answer */
};
_Static_assert(sizeof(struct leat_session_row) == 56, "no padding");

/* One that was closed; sorted by position. */
struct leat_session_closed {
    struct leat_uuid client;
    uint64_t position; /* of its SESSION_CLOSE */
};
_Static_assert(sizeof(struct leat_session_closed) == 24, "no padding");

#define LEAT_CATALOGUE_ROW_BYTES  128u
#define LEAT_CATALOGUE_NAME_BYTES 48u

/* Log ids are never reused: the row of the highest id stays behind when that log is deleted. */
#define LEAT_CATALOGUE_DELETED (1u << 31)

/* One log, as the catalogue (log 0) has it; sorted by log id. */
struct leat_catalogue_row {
    char name[LEAT_CATALOGUE_NAME_BYTES]; /* zero-padded, unique among the logs that exist */
    uint32_t log_id;
    uint32_t generation;
    uint32_t flags; /* enum leat_base_flag, LEAT_CATALOGUE_DELETED */
    uint32_t entry_bytes_max;
    uint64_t segment_bytes;
    uint64_t arena_bytes;
    uint64_t retention_bytes; /* the leader trims what exceeds it; 0: nothing */
    uint64_t retention_ns;    /* the leader trims what is older; 0: nothing */
    uint64_t created_ns;      /* log time of log 0 */
    uint32_t owner_uid;
    uint32_t reserved_word;
    uint64_t reserved[2];
};
_Static_assert(sizeof(struct leat_catalogue_row) == LEAT_CATALOGUE_ROW_BYTES, "no padding");

enum leat_catalogue_operation {
    LEAT_CATALOGUE_CREATE = 1,
    LEAT_CATALOGUE_DELETE = 2,    /* row.log_id */
    LEAT_CATALOGUE_CONFIGURE = 3, /* row.log_id, retention_* */
};

/* The payload of a CATALOGUE frame (log 0 only). */
struct leat_catalogue_payload {
    uint32_t operation; /* enum leat_catalogue_operation */
    uint32_t reserved;
    struct leat_uuid request; /* of the administrator who asked: tells retries apart */
    struct leat_catalogue_row row;
};
_Static_assert(sizeof(struct leat_catalogue_payload) == 152, "no padding");

#define LEAT_BASE_PAYLOAD_BYTES_MAX                                                                \
    (sizeof(struct leat_base_head) + LEAT_MEMBERS_MAX * sizeof(struct leat_base_member) +          \
     LEAT_SESSIONS_MAX * sizeof(struct leat_session_row) +                                         \
     LEAT_SESSIONS_CLOSED * sizeof(struct leat_session_closed) +                                   \
     LEAT_LOGS_MAX * LEAT_CATALOGUE_ROW_BYTES)
_Static_assert(LEAT_BASE_PAYLOAD_BYTES_MAX + LEAT_FRAME_HEADER_BYTES < LEAT_SEGMENT_BYTES_MIN / 4,
               "a base frame leaves the smallest segment its room");

static inline uint32_t leat_base_payload_bytes(const struct leat_base_head *head)
{
    return (uint32_t)(sizeof(*head) + head->member_count * sizeof(struct leat_base_member) +
                      head->session_count * sizeof(struct leat_session_row) +
                      head->closed_count * sizeof(struct leat_session_closed) +
                      head->catalogue_count * LEAT_CATALOGUE_ROW_BYTES);
}

/* Where a payload's parts lie; its head has the counts. */
struct leat_base {
    const struct leat_base_head *head;
    const struct leat_base_member *members;
    const struct leat_session_row *sessions;
    const struct leat_session_closed *closed;
    const struct leat_catalogue_row *catalogue;
};

/* Of a payload that leat_base_parse accepted. */
static inline struct leat_base leat_base_parts(const void *payload)
{
    struct leat_base base = {.head = payload};
    base.members = (const void *)(base.head + 1);
    base.sessions = (const void *)(base.members + base.head->member_count);
    base.closed = (const void *)(base.sessions + base.head->session_count);
    base.catalogue = (const void *)(base.closed + base.head->closed_count);
    return base;
}

/* Where the log goes on from: the chain before the base frame. */
static inline struct leat_chain leat_base_chain(const struct leat_base_head *head)
{
    return (struct leat_chain){
        .position = head->position,
        .next_offset = head->next_offset,
        .last_time_ns = head->last_time_ns,
        .run_first_pos = head->run_first_pos,
        .term = head->run_term,
        .crc = head->chain_crc,
    };
}

/* What every log's sizes keep to: powers of two, an arena of two segments at least, an entry of a
 * quarter of a segment at most. */
bool leat_log_sizes_are_legal(uint64_t segment_bytes, uint64_t arena_bytes,
                              uint32_t entry_bytes_max);

/* Checks a payload read from disk or wire: version, counts against its length and the limits,
 * order, and the shape's bounds. Returns 0, LEAT_EVERSION or LEAT_ECORRUPT. On success what is
 * returned leads into `payload`. */
int leat_base_parse(const void *payload, uint32_t length_bytes, struct leat_base *ret_base);

#endif
