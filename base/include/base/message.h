/* SPDX-License-Identifier: Apache-2.0
 *
 * What replicas of one log say to each other. The consensus core takes and gives these values;
 * the wire carries the same bytes behind its header (docs/format.md). One flat struct for all
 * kinds: a field that a kind does not use is zero.
 */
#ifndef LEAT_BASE_MESSAGE_H
#define LEAT_BASE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define LEAT_RUNS_MAX 64u /* runs above the durable commit; a full table forbids candidacy (G3) */

/* A run of frames of one term: [first_pos, first_pos of the next run or the log's end). */
struct leat_run {
    uint64_t first_pos; /* of its TERM frame; 0 for the genesis run */
    uint32_t term;
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_run) == 16, "no padding");

enum leat_message_kind {
    LEAT_MESSAGE_VOTE_REQUEST = 1,      /* last_term, memory_pos; flags PRE, AMNESIAC, TRANSFER */
    LEAT_MESSAGE_VOTE_REPLY = 2,        /* flags GRANTED, PRE, AMNESIAC */
    LEAT_MESSAGE_APPEND = 3,            /* [begin_pos, end_pos) of the leader's log, may be empty;
                                           with a request number it wants an answer all the
                                           same; empty at the leader's base, above the
                                           follower's M: the bytes between were trimmed */
    LEAT_MESSAGE_APPEND_ACK = 4,        /* memory_pos, durable_pos; flags AMNESIAC, DAMAGED */
    LEAT_MESSAGE_NAK = 5,               /* [begin_pos, end_pos) is missing here; empty: only the
                                           term is told, to a leader of the past */
    LEAT_MESSAGE_RECONCILE_REQUEST = 6, /* asks the leader for its runs */
    LEAT_MESSAGE_RECONCILE_REPLY = 7, /* runs follow; begin_pos: leader's base, end_pos: its end */
    LEAT_MESSAGE_TIMEOUT_NOW = 8,     /* leadership transfer: campaign at once */
    LEAT_MESSAGE_KIND_LAST = LEAT_MESSAGE_TIMEOUT_NOW,
};

enum leat_message_flag {
    LEAT_MESSAGE_PRE = 1,      /* pre-vote: nothing changes on either side */
    LEAT_MESSAGE_GRANTED = 2,  /* VOTE_REPLY */
    LEAT_MESSAGE_AMNESIAC = 4, /* the sender lost its memory and was not cleared yet (W5) */
    LEAT_MESSAGE_TRANSFER = 8, /* VOTE_REQUEST: the old leader asked for it */
    LEAT_MESSAGE_CLEARS = 16,  /* APPEND: commit_r may end this incarnation's amnesia (W5 b, c) */
    LEAT_MESSAGE_DAMAGED = 32, /* the sender waits for repair (V2) */
    LEAT_MESSAGE_LAZY = 64,    /* APPEND: nobody waits for these bytes to be durable */
    LEAT_MESSAGE_FLAGS_ALL = 127,
};

struct leat_message {
    uint8_t kind; /* enum leat_message_kind */
    uint8_t from; /* member index: place in the sorted list of node ids */
    uint8_t to;
    uint8_t flags; /* enum leat_message_flag */
    uint32_t term;
    uint32_t last_term; /* VOTE_REQUEST: of the candidate's last run */
    uint32_t config_epoch;
    uint64_t from_incarnation; /* of the sending node's process */
    uint64_t to_incarnation;   /* as the sender knows it; 0: not yet. Replies echo it (W7) */
    uint64_t request;          /* requests count up; replies echo */
    uint64_t begin_pos;
    uint64_t end_pos;
    uint64_t memory_pos;  /* M of the sender */
    uint64_t durable_pos; /* D of the sender */
    uint64_t commit_r;    /* as the leader knows it */
    uint64_t commit_d;
    uint64_t round;     /* the leader's nonce; ACK: the newest seen in this term (W5 c) */
    uint32_t run_count; /* RECONCILE_REPLY */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_message) == 104, "no padding");
_Static_assert(offsetof(struct leat_message, from_incarnation) == 16, "layout");

#endif
