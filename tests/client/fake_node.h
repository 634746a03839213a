/* SPDX-License-Identifier: Apache-2.0
 *
 * A node without a network and a disk: the real control socket, and a thread in the worker's place
 * that serves the command queue, the rings (a session per client and log, contiguous sequences) and
 * log 1 in an arena and segment files of its own; log 2 takes records and forgets them. The test
 * tells it what to do by its switches.
 */
#ifndef LEAT_TESTS_FAKE_NODE_H
#define LEAT_TESTS_FAKE_NODE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/base_frame.h"
#include "base/frame.h"
#include "commands.h"
#include "control.h"
#include "leat/leat.h"

#define FAKE_SEGMENT_BYTES    (1u << 20)
#define FAKE_ARENA_BYTES      (2u << 20)
#define FAKE_ENTRY_BYTES      (64u << 10)
#define FAKE_RECORDS_MAX      65536u
#define FAKE_SESSIONS_MAX     256u
#define FAKE_MS               1000000ull
#define FAKE_PARENT_BYTES_MAX 40u

struct fake_log {
    char directory[96];
    int descriptor;
    struct leat_arena_header *header;
    uint8_t *bytes;
    uint64_t *hints;
    bool hinted;      /* writes the arena's hints */
    bool index_flips; /* a bit of each segment's index is wrong */
    int index_error;  /* instead of an index */
    struct leat_log_shape shape;
    struct leat_chain chain;
    struct leat_uuid cluster;
};

void fake_log_open(struct fake_log *log, const char *directory, uint32_t log_id,
                   bool accepts_replicated);
void fake_log_close(struct fake_log *log);
/* Seals a record (and a PAD and BASE before it where they are due). Returns its position. */
uint64_t fake_log_record(struct fake_log *log, const void *data, uint32_t length);
void fake_log_term(struct fake_log *log, uint32_t term);
void fake_log_commit(struct fake_log *log, uint64_t durable, uint64_t replicated);
void fake_log_cut(struct fake_log *log, const struct leat_chain *to);
void fake_log_trim(struct fake_log *log, uint64_t position);
int fake_log_segment(struct fake_log *log, uint64_t position, uint64_t *ret_base);

int fake_log_index(struct fake_log *log, uint64_t position, uint64_t *ret_base);

struct fake_session {
    struct leat_uuid client;
    uint32_t log_id;
    uint64_t last_sequence;
};

/* A record as it was seen in a ring. */
struct fake_seen {
    struct leat_uuid client;
    uint32_t log_id;
    uint64_t sequence;
    uint8_t first_byte;
};

struct fake_taken {
    uint64_t sequence;
    uint32_t log_id;
    uint64_t ring_end;
    uint32_t payload_bytes;
    uint8_t level;
    uint8_t first_byte;
    bool ended;
    struct leat_ring_record record; /* as it was in the ring */
};

struct fake_client {
    struct node_rings *rings;
    uint64_t taken, completion_tail;
    struct fake_taken *slots;
    uint64_t first, next;
};

struct fake_node {
    char directory[FAKE_PARENT_BYTES_MAX + sizeof("/leat-client-XXXXXX")];
    struct leat_config config;
    struct node_commands commands;
    struct node_control *control;
    struct fake_log log, other; /* 1, 2 */
    pthread_t thread;
    atomic_bool stop;
    atomic_bool deaf;         /* takes nothing from rings */
    atomic_bool hold_durable; /* takes, but ends only appends at the replicated level */
    atomic_bool hold;         /* takes and ends nothing */
    atomic_bool writes_log;   /* seals what it records into the log and commits it */
    atomic_int hold_log;      /* takes and ends nothing of this log */
    atomic_int lose;          /* ends the first held of log 1 with this error once */
    atomic_ulong lose_from;   /* the first of this sequence or above */
    atomic_int attached;
    atomic_int attaches;
    atomic_int refusal;    /* of ATTACH */
    atomic_int verifying;  /* so often a segment is still read through */
    atomic_int close_with; /* set `closed` to this once */
    struct fake_client clients[4];

    /* survive the process */
    struct fake_session sessions[FAKE_SESSIONS_MAX];
    uint64_t recorded_bytes[FAKE_RECORDS_MAX]; /* by record, from 1: length << 8 | first byte */
    atomic_uint record_count;
    struct fake_seen seen[FAKE_RECORDS_MAX];
    atomic_uint seen_count;
    struct fake_seen closes[FAKE_RECORDS_MAX]; /* CLOSE records; not among those seen */
    atomic_uint close_count;
    atomic_uint index_asked;
    uint64_t fence_epoch;  /* of log 1 */
    uint64_t next_offset;  /* of log 1 */
    uint32_t writer_epoch; /* of the record taken last */
    uint32_t batch_count;
    uint32_t batch_lengths[LEAT_BATCH_RECORDS_MAX]; /* of the batch taken last */
    uint8_t batch_bytes[FAKE_ENTRY_BYTES];
};

struct fake_node *fake_node_start(bool accepts_replicated);
void fake_node_stop(struct fake_node *node);
/* The process dies and another takes its place: new rings, the same log and session. */
void fake_node_go_down(struct fake_node *node);
void fake_node_come_up(struct fake_node *node);
struct leat_client *fake_attach(struct fake_node *node, size_t ring_bytes, uint32_t in_flight);

#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        uint64_t until_ns = fake_now_ns() + 10000 * FAKE_MS;                                       \
        while (!(condition)) {                                                                     \
            if (fake_now_ns() > until_ns)                                                          \
                fail_msg("not within 10 s: %s", #condition);                                       \
            fake_pause();                                                                          \
        }                                                                                          \
    } while (0)

uint64_t fake_now_ns(void);
void fake_pause(void);

#endif
