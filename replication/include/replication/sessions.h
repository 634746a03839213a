/* SPDX-License-Identifier: Apache-2.0
 *
 * Client sessions of one log: exactly-once appends (Ongaro's thesis, 6.3). Pure, like the core.
 *
 * A table is a function of a log's prefix: it changes only by leat_sessions_apply(), frame by
 * frame. A batch is one sequence: its last RECORD moves the row. A refused append and a fence are
 * the frame of their sequence like any record: the row says how the last one ended. A replica keeps
 * one as of commitD; a leader keeps a second as of its log's end (a copy of the first, gone over
 * the uncommitted tail), which judges new appends and fills base frames.
 */
#ifndef LEAT_REPLICATION_SESSIONS_H
#define LEAT_REPLICATION_SESSIONS_H

#include <stdint.h>

#include "base/base_frame.h"
#include "base/frame.h"

#define LEAT_SESSION_SLOTS (2u * LEAT_SESSIONS_MAX) /* of the hash by client */

struct leat_sessions {
    uint32_t count;
    uint32_t closed_next;        /* of the ring `closed` */
    uint64_t closed_unknown_pos; /* of the newest that is not among `closed`; 0: all are */
    struct leat_session_closed closed[LEAT_SESSIONS_CLOSED]; /* a ring; position 0: not used yet */
    struct leat_session_row rows[LEAT_SESSIONS_MAX];         /* [session - 1]; session 0: free */
    uint16_t slots[LEAT_SESSION_SLOTS];                      /* open addressing; session or 0 */
};

enum leat_session_verdict {
    LEAT_SESSION_NEXT,    /* the sequence that the session takes next: append it */
    LEAT_SESSION_LAST,    /* a retry of the last: row has its position, or why it was refused */
    LEAT_SESSION_OLDER,   /* recorded, position unknown */
    LEAT_SESSION_GAP,     /* a sequence before it is missing */
    LEAT_SESSION_UNKNOWN, /* never opened, closed or expired */
};

void leat_sessions_init(struct leat_sessions *sessions);

/* From a base frame's payload (checked by leat_base_parse). */
void leat_sessions_load(struct leat_sessions *sessions, const struct leat_base *base);

/* Goes over one frame. Returns 0, or LEAT_ECORRUPT when the frame does not fit the table (a
 * sequence out of order, a session twice): such a frame is never written by a correct leader. */
int leat_sessions_apply(struct leat_sessions *sessions, uint64_t position,
                        const struct leat_frame *frame, const void *payload);

/* The session of a client, or 0. */
uint32_t leat_sessions_find(const struct leat_sessions *sessions, const struct leat_uuid *client);

/* Where a session of the client, which began at `began_pos` or above, was closed, or may have been:
 * a position at or above its SESSION_CLOSE; 0: it was not, for sure (ADR 0076). */
uint64_t leat_sessions_closed(const struct leat_sessions *sessions, const struct leat_uuid *client,
                              uint64_t began_pos);

/* The session number that a new client would get; 0: the table is full. */
uint32_t leat_sessions_free(const struct leat_sessions *sessions);

enum leat_session_verdict leat_sessions_judge(const struct leat_sessions *sessions,
                                              uint32_t session, uint64_t sequence);

/* NULL when there is no such session. */
const struct leat_session_row *leat_sessions_row(const struct leat_sessions *sessions,
                                                 uint32_t session);

/* A session whose last frame lies below `below_pos`, or that took none and was opened before log
 * time below_time_ns; 0: none. Looks at `effort` rows from *cursor on and moves it. */
uint32_t leat_sessions_idle(const struct leat_sessions *sessions, uint64_t below_pos,
                            uint64_t below_time_ns, uint32_t effort, uint32_t *cursor);

/* Writes the rows in use in order of session to `rows` (room for LEAT_SESSIONS_MAX); returns how
 * many. */
uint32_t leat_sessions_list(const struct leat_sessions *sessions, struct leat_session_row *rows);

/* Of how many closed sessions it is known whose they were. */
uint32_t leat_sessions_closed_known(const struct leat_sessions *sessions);

/* Writes these to `closed` (room for LEAT_SESSIONS_CLOSED) in order of position. */
void leat_sessions_list_closed(const struct leat_sessions *sessions,
                               struct leat_session_closed *closed);

#endif
