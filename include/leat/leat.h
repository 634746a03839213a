/* SPDX-License-Identifier: Apache-2.0
 *
 * The client library: append to and read from the logs of the Leat node on this host, through
 * shared memory. No system call on the append path.
 *
 * Threads: a struct leat_client and the readers opened on it belong to one thread at a time; any
 * number of clients per process. Times are nanoseconds; a timeout counts from the call.
 * Processes: a client belongs to the process that attached it. In a child after fork() every call
 * on it answers LEAT_EFORK, but for leat_detach and leat_reader_close, which free the child's copy;
 * the parent's is not touched. The child attaches anew. Errors: leat/error.h. ret_ outputs are
 * written only on success.
 *
 * Every append ends in one of three ways, within its deadline:
 *   ok       error 0: it has a position and an offset, at the level asked for or better;
 *   no       it is certainly not in the log, and never will be;
 *   unknown  it may be in the log: LEAT_EDEADLINE, LEAT_ECLOSED, LEAT_ESESSION, LEAT_ENOSESSION,
 *            LEAT_ESESSIONS, LEAT_ENOSPACE, LEAT_EDELETED, LEAT_ENOLEADER, LEAT_EPROTO, and
 *            whatever is not known.
 * leat_outcome() tells which. Exactly once: an append's record is in the log at most once, whatever
 * fails, as long as this client is attached; the library keeps its identity over restarts of the
 * node. Every attach has a random identity of its own: nothing is kept over the application's end.
 */
#ifndef LEAT_LEAT_H
#define LEAT_LEAT_H

#include <stddef.h>
#include <stdint.h>

#include "leat/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LEAT_API __attribute__((visibility("default")))

#define LEAT_DEFAULT_LOG    1u
#define LEAT_DEFAULT_SOCKET "/run/leat/leat.sock"

enum leat_ack {
    LEAT_ACK_DURABLE = 1,    /* on disk on a majority of nodes */
    LEAT_ACK_REPLICATED = 2, /* in memory on a majority; survives the death of every process */
};

enum leat_end {
    LEAT_END_OK,
    LEAT_END_NO,
    LEAT_END_UNKNOWN,
};

struct leat_client;
struct leat_reader;

struct leat_options {
    const char *socket;         /* NULL: $LEAT_SOCKET, else LEAT_DEFAULT_SOCKET */
    size_t ring_bytes;          /* power of two; 0: 8 MiB */
    uint32_t in_flight_max;     /* appends not ended at one time; 0: 4096 */
    uint64_t attach_timeout_ns; /* 0: 5 s; the node may still be starting */
    uint64_t reserved[4];       /* zero: room for later options */
};

struct leat_result {
    uint64_t sequence; /* as given by leat_append_start; begins anew after a session's end */
    uint64_t position; /* of a batch: its last record's; ECONDITION, EFENCEDOUT: of the refusal */
    uint64_t offset;   /* of a batch: its last record's; UINT64_MAX: none, or not known */
    uint64_t user;     /* as given to leat_append_start: tells appends apart */
    uint32_t log;
    int32_t error;
    enum leat_ack ack;      /* the level reached */
    uint64_t last_sequence; /* ESESSION: the last known to be recorded; see below */
    uint64_t latency_ns;    /* from leat_append_start to the node's completion being seen */
    uint64_t detail;        /* ECONDITION: the next offset; EFENCEDOUT: the log's fence epoch */
    uint32_t record_count;  /* records of the append: 1, those of a batch, 0 of a fence */
    uint32_t reserved_word;
    uint64_t reserved[3]; /* zero: room for later results */
};

/* Connects to the node. Errors: ESYSTEM (no such socket: is leatd running?), EPERM, EVERSION,
 * EDEADLINE, ENOMEM. */
LEAT_API int leat_attach(const struct leat_options *options, struct leat_client **ret_client);

/* Lets go; what has not ended by now ends as unknown, unreported. The node is asked to close the
 * client's sessions, and waited for: for a commit as a rule, for 200 ms at most (a log without a
 * leader, a full disk, appends that do not end). What is not closed then expires. NULL is fine. */
LEAT_API void leat_detach(struct leat_client *client);

/* Starts an append of `length` bytes (zero is legal). Never blocks. The bytes are copied. `user`
 * comes back in the result. Errors: EAGAIN (ring or in-flight limit full, or a new identity is due:
 * leat_poll, then try again; do not wait for a result when nothing is in flight), ETOOBIG, ENOLOG,
 * EINVAL. */
LEAT_API int leat_append_start(struct leat_client *client, uint32_t log, const void *data,
                               size_t length, enum leat_ack ack, uint64_t timeout_ns, uint64_t user,
                               uint64_t *ret_sequence);

/* As above without the copy: claim room in the client's own ring, fill it, publish it. One claim
 * at a time; leat_claim_abort gives it back. */
LEAT_API int leat_claim(struct leat_client *client, uint32_t log, size_t length, void **ret_bytes);
LEAT_API int leat_publish(struct leat_client *client, enum leat_ack ack, uint64_t timeout_ns,
                          uint64_t user, uint64_t *ret_sequence);
LEAT_API void leat_claim_abort(struct leat_client *client);

/* When a session loses appends (LEAT_ESESSION) or is unknown (LEAT_ENOSESSION), all unended appends
 * of the log end so, and the library resends none of them: the application decides what to append
 * again. Copies of them may still be on their way, so the client takes a new identity: when the
 * appends of its other logs have ended too (they keep their deadlines) and all results are taken,
 * leat_poll has its other sessions closed (for 200 ms at most) and attaches again. Until then every
 * new append, of any log, is refused with LEAT_EAGAIN.
 * The sequences of all logs then begin at 1 again; `user` is what tells appends apart. The same
 * follows LEAT_ESESSIONS (the log's session table is full) and LEAT_ENOSPACE, which end the append
 * that was refused and those started after it; those before it end by themselves. */

/* Takes up to `max` results of appends that ended, in order per log; also keeps deadlines and
 * reconnects after a restart of the node (unended appends are then handed to it again: the
 * session makes that safe). Returns how many; never blocks. A node that let this client go for
 * good makes every append end with its error. */
LEAT_API int leat_poll(struct leat_client *client, struct leat_result *results, unsigned max);

/* leat_poll until there is one result at least; LEAT_EDEADLINE when there is none in time. Spins
 * a little, then yields, then sleeps. */
LEAT_API int leat_wait(struct leat_client *client, struct leat_result *results, unsigned max,
                       uint64_t timeout_ns);

/* One append from start to end. Not to be mixed with unended asynchronous ones. Returns
 * result->error; the result is always written. */
LEAT_API int leat_append(struct leat_client *client, uint32_t log, const void *data, size_t length,
                         enum leat_ack ack, uint64_t timeout_ns, struct leat_result *result);

/* ---- event loops ---- */

/* A descriptor for poll, select, epoll: readable when there may be results, when a log that is
 * watched (leat_watch) or read here moved, when a deadline passed, when the node went or is back.
 * It is the client's: not to be read or closed. It is armed by looking and finding nothing, so
 * after it woke call leat_poll until it returns 0, leat_reader_next until LEAT_EAGAIN, leat_events
 * until it returns 0, whichever are used; it may wake for nothing. The node's control thread looks
 * every millisecond for whom to wake (a half more on average than a client that spins sees; up to
 * 64 logs a client); the append path has no part in it. Errors: ESYSTEM. */
LEAT_API int leat_poll_fd(struct leat_client *client);

/* ---- conditions ----
 *
 * A conditional append is in the log only if the log's next offset is `offset` when the leader
 * comes to it; of any number of writers that ask for one offset exactly one gets it. Else it ends
 * with LEAT_ECONDITION, and `detail` is the next offset that the leader found: certainly not in the
 * log, and that is itself in the log, at the level asked for, so no later leader decides otherwise.
 */

/* leat_append_start with a condition. */
LEAT_API int leat_append_at(struct leat_client *client, uint32_t log, uint64_t offset,
                            const void *data, size_t length, enum leat_ack ack, uint64_t timeout_ns,
                            uint64_t user, uint64_t *ret_sequence);

/* leat_append with a condition: from start to end. */
LEAT_API int leat_append_if(struct leat_client *client, uint32_t log, uint64_t offset,
                            const void *data, size_t length, enum leat_ack ack, uint64_t timeout_ns,
                            struct leat_result *result);

/* ---- batches: all or nothing within one log ----
 *
 * A batch is built in the client's own ring and handed over by its commit: 1 to
 * LEAT_BATCH_RECORDS records, with consecutive offsets, one sequence, one result (that of the last
 * record; record_count says how many). No reader and no crash ever shows a part of it as all that
 * is committed. Together with 48 bytes for each record, each rounded up to 8, a batch is at most
 * one largest entry and 48 bytes. While one is open, no other append is started (LEAT_EINVAL). */

#define LEAT_BATCH_RECORDS 1024u

/* Opens a batch of up to `records_max` records of `bytes_max` bytes together, which is the room
 * taken in the ring until then; 0: as many as go. Errors: as leat_append_start. */
LEAT_API int leat_batch_begin(struct leat_client *client, uint32_t log, uint32_t records_max,
                              size_t bytes_max);
/* Adds a record, copied into its place. LEAT_ETOOBIG: it does not fit; the batch is as it was. */
LEAT_API int leat_batch_add(struct leat_client *client, const void *data, size_t length);
/* Adds a record of `length` bytes to be written to *ret_bytes before the next call. */
LEAT_API int leat_batch_reserve(struct leat_client *client, size_t length, void **ret_bytes);
/* Hands it over, as leat_publish. Also LEAT_EINVAL: no record. On an error it stays open. */
LEAT_API int leat_batch_commit(struct leat_client *client, enum leat_ack ack, uint64_t timeout_ns,
                               uint64_t user, uint64_t *ret_sequence);
/* Under the condition that its first record gets `offset`. */
LEAT_API int leat_batch_commit_at(struct leat_client *client, uint64_t offset, enum leat_ack ack,
                                  uint64_t timeout_ns, uint64_t user, uint64_t *ret_sequence);
LEAT_API void leat_batch_abort(struct leat_client *client);

/* ---- fences ----
 *
 * Shuts older writers out of a log: once leat_fence has ended well, no append of a client with a
 * lower epoch (0: one that never fenced) gets into the log; it ends with LEAT_EFENCEDOUT, `detail`
 * the log's epoch. This client's appends to the log carry `epoch` from then on. An epoch (not 0)
 * that is not above the log's ends the same way. Durable. Not to be mixed with unended appends. */
LEAT_API int leat_fence(struct leat_client *client, uint32_t log, uint32_t epoch,
                        uint64_t timeout_ns, struct leat_result *result);

/* This client's appends to the log carry `epoch` from now on, without a fence of its own: for a
 * writer that comes back under the epoch it once fenced with. 0: none. Errors: as leat_log_info. */
LEAT_API int leat_writer_epoch(struct leat_client *client, uint32_t log, uint32_t epoch);

/* ---- waiting ---- */

/* Until every append has ended; results stay to be taken. LEAT_EDEADLINE: not all have. */
LEAT_API int leat_flush(struct leat_client *client, uint64_t timeout_ns);

/* Until the record at `position` (of a result, a leat_record) is committed at `level` as this node
 * knows: a reader of this node at that level sees it from now on. Looks at shared memory only.
 * Errors: EDEADLINE, ENOLOG, EINVAL, what ended the client. */
LEAT_API int leat_wait_position(struct leat_client *client, uint32_t log, uint64_t position,
                                enum leat_ack level, uint64_t timeout_ns);

/* How many appends have not ended. */
LEAT_API unsigned leat_in_flight(const struct leat_client *client);

LEAT_API enum leat_end leat_outcome(int error);

/* ---- reading ---- */

enum leat_from {
    LEAT_FROM_OFFSET, /* value: the first record's offset */
    LEAT_FROM_START,  /* the oldest record held */
    LEAT_FROM_END,    /* what comes next */
    LEAT_FROM_TIME,   /* value: nanoseconds since 1970; the first record whose log time is not below
                       */
};

struct leat_record {
    const void *data; /* valid until the next call on the reader */
    size_t length;
    uint64_t offset;
    uint64_t position;
    uint64_t time_ns; /* log time, since 1970 */
};

/* Follows a log at `level`: sees what is committed there, in order, without gaps. Errors: EAGAIN
 * (the node is away, or too slow to answer: poll and try again), EINVAL, ENOLOG, ENOMEM, EFORK,
 * ECORRUPT, EIO, and what ended the client. */
LEAT_API int leat_reader_open(struct leat_client *client, uint32_t log, enum leat_from from,
                              uint64_t value, enum leat_ack level, struct leat_reader **ret_reader);
LEAT_API void leat_reader_close(struct leat_reader *reader);

/* The next record. Errors: EAGAIN (at the tail: nothing new), ETRIMMED (what comes next was
 * trimmed; the reader moves to the oldest held), EROLLBACK (records read at the replicated level
 * were rolled back; the reader moves to where it can go on; see leat_reader_offset), ENOLOG (the
 * log was deleted), ECLOSED, ECORRUPT, EIO. Behind what lies in memory it asks the node for each
 * segment, which may read it through first: that is waited for, two seconds at most, then
 * EVERIFYING (there is more; call again). */
LEAT_API int leat_reader_next(struct leat_reader *reader, struct leat_record *ret_record);

/* leat_reader_next, waiting up to timeout_ns at the tail; then LEAT_EDEADLINE, or LEAT_EVERIFYING
 * when it was not at the tail. */
LEAT_API int leat_reader_wait(struct leat_reader *reader, uint64_t timeout_ns,
                              struct leat_record *ret_record);

/* The offset of the record that leat_reader_next would give. */
LEAT_API uint64_t leat_reader_offset(const struct leat_reader *reader);

/* Where the log ends, linearizable at the level: not below any append acknowledged at it, by
 * whichever node, before the call. Costs a round trip between the leader and a majority; many calls
 * share one. Waits up to 5 s. Errors: ENOLEADER, EDEADLINE, ENOLOG, EAGAIN (not attached now). */
LEAT_API int leat_tail(struct leat_client *client, uint32_t log, enum leat_ack level,
                       uint64_t *ret_position, uint64_t *ret_offset);

/* ---- logs ---- */

#define LEAT_LOG_NAME_BYTES 48u /* with the zero */

/* A log as the cluster's catalogue has it. Sizes in bytes, powers of two. */
struct leat_log_entry {
    char name[LEAT_LOG_NAME_BYTES];
    uint32_t log;             /* its id, never reused */
    uint32_t entry_bytes_max; /* largest record; at most a quarter of a segment */
    uint64_t segment_bytes;   /* at least 1 MiB */
    uint64_t arena_bytes;     /* memory of each node; at least two segments */
    uint64_t retention_bytes; /* what exceeds it is trimmed by segments; 0: nothing */
    uint64_t retention_ns;    /* what is older is trimmed by segments; 0: nothing */
    uint64_t created_ns;      /* since 1970 */
    uint32_t owner_uid;
    int accepts_replicated; /* takes appends at LEAT_ACK_REPLICATED */
};

/* Creates a log on every node. Fields of `settings` that are 0 take defaults (segment 16 MiB, arena
 * two segments, largest entry: what they allow up to 1 MiB); name is required: a letter, then
 * letters, digits, '-', '.', '_'. Returns when the log takes appends at this node, or with
 * EDEADLINE (it may come to be: look at leat_logs), EEXISTS, EBUDGET (memory.budget), EQUOTA,
 * EINVAL; `explanation` (may be NULL) receives a line. Blocks. Any thread. */
LEAT_API int leat_log_create(const char *socket, const struct leat_log_entry *settings,
                             uint64_t timeout_ns, uint32_t *ret_log, char *explanation,
                             size_t explanation_bytes);

/* Deletes a log and all its records, on every node, for good. Logs 0 and 1 stay. */
LEAT_API int leat_log_delete(const char *socket, uint32_t log, char *explanation,
                             size_t explanation_bytes);

/* Sets a log's retention. */
LEAT_API int leat_log_configure(const char *socket, uint32_t log, uint64_t retention_bytes,
                                uint64_t retention_ns, char *explanation, size_t explanation_bytes);

/* Up to `max` logs in order of id; *ret_count: how many there are. */
LEAT_API int leat_logs(const char *socket, struct leat_log_entry *entries, size_t max,
                       size_t *ret_count);

/* The log of that name, or ENOLOG. */
LEAT_API int leat_log_find(const char *socket, const char *name, struct leat_log_entry *ret_entry);

/* ---- what a log is, who leads it ---- */

enum leat_role {
    LEAT_ROLE_FOLLOWER = 0,
    LEAT_ROLE_CANDIDATE = 1,
    LEAT_ROLE_LEADER = 2,
};

struct leat_log_info {
    uint32_t log;
    uint32_t entry_bytes_max;
    uint32_t batch_records_max;
    uint32_t sessions_max;       /* clients with a session at one time */
    uint32_t accepts_replicated; /* 0: LEAT_ACK_REPLICATED is refused (LEAT_ELEVEL) */
    uint32_t writer_epoch;       /* that this client's appends carry */
    uint64_t segment_bytes;
    uint64_t arena_bytes;
    uint64_t begin_position; /* lower ones were trimmed */
    uint64_t commit_durable; /* positions, as this node knows them */
    uint64_t commit_replicated;
    uint32_t term;
    uint32_t leader_node; /* 0: none is known */
    uint32_t role;        /* enum leat_role of this node */
    uint32_t reserved_word;
    uint64_t rollbacks; /* counts cuts of what readers at the replicated level were shown */
    uint64_t reserved[6];
};

/* Errors: ENOLOG, EAGAIN (not attached just now, and the log was not used before), ECLOSED. */
LEAT_API int leat_log_info(struct leat_client *client, uint32_t log,
                           struct leat_log_info *ret_info);

/* What holds for every log and client. */
struct leat_limits {
    uint32_t batch_records_max;
    uint32_t in_flight_max;
    uint32_t sessions_max;
    uint32_t logs_max;
    uint64_t ring_bytes_min;
    uint64_t ring_bytes_max;
    uint64_t entry_bytes_max; /* of any log; one's own: leat_log_info */
};
LEAT_API const struct leat_limits *leat_limits(void);

enum leat_event_kind {
    LEAT_EVENT_LEADER = 1,   /* another leader, none, or the same in another term */
    LEAT_EVENT_ROLE = 2,     /* this node's role is another */
    LEAT_EVENT_ROLLBACK = 4, /* records at the replicated level were rolled back */
};

struct leat_event {
    uint32_t log;
    uint32_t kinds; /* enum leat_event_kind, one or more: what lay in between is not told */
    uint32_t term;
    uint32_t leader_node; /* 0: none is known */
    uint32_t role;        /* enum leat_role of this node */
    uint32_t reserved_word;
    uint64_t rollbacks;
    uint64_t reserved[2];
};

/* leat_events tells of this log from now on, first what holds now. Errors: as leat_log_info. */
LEAT_API int leat_watch(struct leat_client *client, uint32_t log);

/* Changes of the watched logs since the last call, one event per log at most. Returns how many.
 * Looks at shared memory only, but for a log's first look after the node was started anew. */
LEAT_API int leat_events(struct leat_client *client, struct leat_event *events, unsigned max);

/* ---- operating ---- */

/* The node's state as one JSON object, for leat status: to be freed by the caller. */
LEAT_API int leat_status(const char *socket, char **ret_json);

/* The same of one log, with a row for each of its sessions ("session_rows"); "logs"
 * is empty when this node has none of that number. */
LEAT_API int leat_status_log(const char *socket, uint32_t log, char **ret_json);

/* Has something done to a log; `explanation` (may be NULL) receives a line. Transfers (to_node 0:
 * to the follower that is furthest) and trims (of whole segments below `position`) may be asked of
 * any node: it sends them on to the log's leader and waits for its word, 3 s at most.
 * LEAT_ENOTLEADER: there is no leader; LEAT_EDEADLINE: it may have been done. */
LEAT_API int leat_transfer(const char *socket, uint32_t log, uint32_t to_node, char *explanation,
                           size_t explanation_bytes);
LEAT_API int leat_amnesia_accept(const char *socket, uint32_t log, char *explanation,
                                 size_t explanation_bytes);
LEAT_API int leat_trim(const char *socket, uint32_t log, uint64_t position, char *explanation,
                       size_t explanation_bytes);

/* The operator's word that a replica which lost what it had acknowledged as durable shall vote and
 * lead again, though that may be lost by it: for a log that no other replica can bring back. */
LEAT_API int leat_damage_accept(const char *socket, uint32_t log, char *explanation,
                                size_t explanation_bytes);

#ifdef __cplusplus
}
#endif

#endif
