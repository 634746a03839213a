/* SPDX-License-Identifier: Apache-2.0
 *
 * libleat's rooms:
 *
 *   attach.c          the connection's state machine: attach, notice the end, attach again
 *   request.c         one request and its reply on a control socket
 *   log.c             what is known of each log: limits, sequences
 *   append.c          claim and publish in the ring, the table of appends
 *   batch.c           batches, built in a claim
 *   watch.c           limits, positions, leaders: what a log's arena header says
 *   poll.c            completions, deadlines, results
 *   session.c         an identity ends
 *   reader.c          the next record; reader_seek.c: where to begin; reader_bytes.c: arena, files
 *   wake.c            the descriptor for event loops
 *   fork.c            a child's copy of a client is none
 *   admin.c           status and operating; logs.c: the catalogue's logs
 *
 * Everything of a client belongs to one thread at a time. Words that the node writes are loaded
 * with acquire, those it reads are stored with release; the partner is node/clients.c.
 */
#ifndef LEAT_CLIENT_PRIVATE_H
#define LEAT_CLIENT_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/base_frame.h"
#include "base/control.h"
#include "base/frame.h"
#include "base/ring.h"
#include "leat/leat.h"

#define CLIENT_MS               1000000ull
#define CLIENT_RING_BYTES       (8u << 20)
#define CLIENT_IN_FLIGHT        4096u
#define CLIENT_ATTACH_NS        (5000 * CLIENT_MS)
#define CLIENT_REQUEST_NS       (2000 * CLIENT_MS) /* the worker answers within a pass or two */
#define CLIENT_LOOK_NS          (10 * CLIENT_MS)   /* between looks at the socket */
#define CLIENT_SPINS            64u
#define CLIENT_YIELD_NS         (CLIENT_MS / 2) /* ADR 0016 */
#define CLIENT_SLEEP_NS         50000
#define CLIENT_GOODBYE_NS       (200 * CLIENT_MS) /* for the node to close sessions */
#define CLIENT_BACKOFF_FIRST_NS (5 * CLIENT_MS)
#define CLIENT_BACKOFF_LAST_NS  (500 * CLIENT_MS)

/*
 *   DOWN -> ASKED      connected, ATTACH sent
 *   ASKED -> MAPPED    both regions mapped, READY sent
 *   MAPPED -> UP       the worker looks into the ring; unended appends are put into it again
 *   any -> DOWN        hung up, refused for now: again after a pause
 *   any -> FAILED      the node let this client go for good
 */
enum client_state { CLIENT_DOWN, CLIENT_ASKED, CLIENT_MAPPED, CLIENT_UP, CLIENT_FAILED };

/*
 * A sequence never names two payloads: copies of an append may reach the leader long after its
 * session ended. So an identity in use by a session that ended takes no append any more.
 *
 *   GOOD -> SPENT   a log's session ended
 *   SPENT -> FRESH  all appends ended and were taken, and its other sessions were closed or that
 *                   took too long: forgotten; hung up, a new random identity
 *   FRESH -> GOOD   UP with it, in new rings: the old ones' node still reads for the old identity
 *
 * Appends are accepted in GOOD only.
 */
enum client_identity { CLIENT_ID_GOOD, CLIENT_ID_SPENT, CLIENT_ID_FRESH };

struct client_rings {
    struct leat_ring_client *shared;
    uint8_t *records;
    const struct leat_ring_node *answers;
    const struct leat_completion *completions;
    uint64_t tail;            /* ours; the shared word is for the node */
    uint64_t head;            /* the node's, as of the last look: its line is on the node's core */
    uint64_t completion_head; /* ours */
};

/* An append from start until the node answered it and its result was taken. An append that ended
 * by its deadline stays until then: it must go into a new ring too, or the session has a gap. */
struct client_append {
    uint64_t sequence;
    uint64_t user;
    uint64_t start_ns;
    uint64_t deadline_ns;
    uint64_t ring_pos; /* of its record in the current ring */
    uint32_t payload_bytes;
    uint32_t log_place; /* in client.logs */
    uint32_t record_count;
    uint32_t fence_epoch; /* FENCE: the epoch asked for; else 0 */
    uint8_t level;        /* asked for */
    bool ended;           /* `result` holds */
    bool answered;        /* the node is done with it */
    bool taken;           /* the application has the result */
    struct leat_result result;
};

struct client_log {
    uint32_t log_id;
    uint64_t attach_count; /* of the client when the limits were read; 0: never */
    uint32_t entry_bytes_max;
    bool accepts_replicated;
    bool session_ended; /* with this identity */
    bool watched;
    uint32_t readers;                       /* open ones */
    uint64_t wake_attach_count;             /* when the node was asked to wake for it; 0: never */
    uint32_t writer_epoch;                  /* that appends carry */
    const struct leat_arena_header *header; /* one page, of the newest attach; NULL: never */
    struct leat_event told;                 /* the last event; kinds 0: none yet */
    uint64_t next_sequence;
    uint64_t deliver;    /* the sequence whose result comes next */
    uint32_t held;       /* appends of this log in the table */
    bool ready;          /* in the client's queue */
    uint32_t ready_next; /* place + 1 of the log behind it there; 0: it is the last */
    uint64_t *places;    /* sequence modulo the table's size -> count of the append */
};

struct leat_client {
    uint64_t process; /* client_process() when it was made: another in a child */
    enum client_state state;
    int error;  /* FAILED: why; DOWN: why not yet */
    int socket; /* -1: none */
    char path[108];
    struct leat_uuid id;
    enum client_identity identity;
    uint64_t goodbye_ns;   /* its sessions are being closed, for no longer than this; 0: not */
    uint32_t goodbye_next; /* place of the log whose session is the next to be closed */
    uint64_t ring_bytes;
    uint32_t in_flight_max;
    uint64_t table_count; /* power of two; also the completion count */
    uint64_t attach_count;
    uint64_t looked_ns;
    uint64_t asked_ns;
    uint64_t retry_ns;
    uint64_t backoff_ns;

    struct client_rings rings;       /* of the newest attach; stay mapped until replaced */
    struct client_rings fresh;       /* MAPPED: to replace them */
    struct client_rings claim_rings; /* replaced ones that hold an open claim */

    struct client_append *appends; /* table_count many, by count of starts */
    uint64_t first;                /* oldest still held */
    uint64_t next;
    unsigned in_flight;        /* not ended */
    uint64_t deadline_next_ns; /* no deadline before it */

    bool claimed;
    uint64_t claim_pos;
    uint32_t claim_bytes;
    uint32_t claim_room; /* BATCH: claim_bytes grows up to it */
    uint32_t claim_log;  /* place */
    bool claim_is_batch;
    uint32_t batch_count;
    uint64_t batch_frames_bytes; /* what it takes in the log */

    struct client_log *logs;
    uint32_t log_count;
    uint16_t log_places[LEAT_LOGS_MAX]; /* place + 1 by id; 0: not used yet */
    uint32_t ready_first, ready_last;   /* logs of which an append ended: place + 1; 0: none */

    int wake;       /* epoll: what follows, and the socket; -1: never asked for */
    int wake_event; /* the node's eventfd; -1 */
    int wake_timer;
    uint64_t wake_timer_ns;     /* it is set to; 0: not set */
    uint64_t wake_attach_count; /* that wake_event is of */
    uint64_t wake_armed;
};

static inline struct client_append *client_at(const struct leat_client *client, uint64_t count)
{
    return &client->appends[count & (client->table_count - 1)];
}

static inline uint64_t client_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline bool client_arena_is_deleted(const struct leat_arena_header *arena)
{
    return __atomic_load_n(&arena->flags, __ATOMIC_ACQUIRE) & LEAT_ARENA_DELETED;
}

uint64_t client_now_ns(void);

/* now + timeout, without wrapping. */
uint64_t client_deadline(uint64_t now_ns, uint64_t timeout_ns);

/* A wait between two looks: spins CLIENT_SPINS times, yields for CLIENT_YIELD_NS, then sleeps
 * CLIENT_SLEEP_NS each time. Begin with zeros. */
struct client_pace {
    unsigned looks;
    uint64_t yields_until_ns;
};
void client_pause(struct client_pace *pace);

/* ---- fork.c ---- */

extern const uint64_t *client_process_word; /* 0 in a child that attached nothing yet */
/* What tells this process from those it was forked from; 0: no memory. */
uint64_t client_process(void);
static inline bool client_is_forked(const struct leat_client *client)
{
    return *client_process_word != client->process;
}

/* ---- wake.c ---- */

/* Nothing was there to be seen: the descriptor shall say when there is. */
void client_arm(struct leat_client *client, uint64_t now_ns);
void client_wake_close(struct leat_client *client);

/* ---- attach.c ---- */

/* Drives the connection; never blocks. */
void client_drive(struct leat_client *client, uint64_t now_ns);
void client_hang_up(struct leat_client *client, int error, uint64_t now_ns);
/* UP: hangs up if the node went or let go. */
void client_look(struct leat_client *client, uint64_t now_ns);
void client_rings_unmap(const struct leat_client *client, struct client_rings *rings);

/* ---- request.c ---- */

struct client_reply {
    struct leat_control_reply head;
    char *text; /* text_bytes + 1, a zero behind; the caller's; NULL: not wanted */
    int descriptors[2];
};

/* The socket's path: the argument, $LEAT_SOCKET or the default. */
const char *client_socket_path(const char *socket);

/* Returns a non-blocking descriptor, or ESYSTEM (nobody there), EPERM, EAGAIN, EINVAL (too long).
 */
int client_connect(const char *path);
int client_send(int socket, const struct leat_control_request *request);

/* 0 (a whole reply, which may carry an error), EAGAIN, ECLOSED, EPROTO. Descriptors are the
 * caller's on 0. `text`: LEAT_CONTROL_TEXT_BYTES_MAX + 1, or NULL. */
int client_receive(int socket, unsigned kind, struct client_reply *ret_reply, char *text);

/* Send and receive, waiting. Also EDEADLINE. */
int client_exchange(int socket, const struct leat_control_request *request,
                    struct client_reply *ret_reply, char *text, uint64_t timeout_ns);

struct leat_control_request client_request(enum leat_control_kind kind, uint32_t log_id);

/* On an attached client's socket; the reply's error is returned too. EAGAIN while it is not UP. */
int client_ask(struct leat_client *client, const struct leat_control_request *request,
               struct client_reply *ret_reply);

/* ---- log.c ---- */

/* Maps `bytes` (0: all) of the log's arena, checks the header. */
int client_map_arena(struct leat_client *client, uint32_t log_id, size_t bytes,
                     const struct leat_arena_header **ret_header, size_t *ret_bytes);

/* The log's entry, its limits read in this attach. Errors: ENOLOG, EAGAIN, ENOMEM, ... */
int client_log(struct leat_client *client, uint32_t log_id, uint32_t *ret_place);

void client_log_unmap(struct client_log *log);

/* Sequences of all logs begin at 1. */
void client_logs_begin(struct leat_client *client);

/* ---- append.c ---- */

/* What is appended, beside its bytes. */
struct client_wish {
    enum leat_ring_kind kind;
    bool conditional;
    uint64_t condition;
    uint32_t record_count;
    uint32_t fence_epoch;
    enum leat_ack ack;
    uint64_t timeout_ns;
    uint64_t user;
};

/* Copies a record into the ring and hands it over. */
int client_start(struct leat_client *client, uint32_t log_id, const void *data, size_t length,
                 const struct client_wish *wish, uint64_t *ret_sequence);
/* client_start until there is room, then until it ended. */
int client_start_and_wait(struct leat_client *client, uint32_t log_id, const void *data,
                          size_t length, const struct client_wish *wish,
                          struct leat_result *result);
int client_claim(struct leat_client *client, uint32_t log_id, size_t length);
/* Where the open claim's bytes are. */
uint8_t *client_claimed(const struct leat_client *client);
int client_publish(struct leat_client *client, const struct client_wish *wish,
                   uint64_t *ret_sequence);

/* Asks the node to close the identity's session in a log, behind what was appended to it. Nobody is
 * told of the answer. EAGAIN: no room. */
int client_close_session(struct leat_client *client, uint32_t place);

/* Copies what the node has not answered from the former ring into the present, empty one. It fits:
 * it lay in a ring of the same size, and from the beginning it needs no SKIP. */
void client_resubmit(struct leat_client *client, const struct client_rings *from);

/* ---- session.c ---- */

/* The identity is not used again: has its sessions closed. False: not yet, look again; true: they
 * are, or it took too long. */
bool client_goodbye(struct leat_client *client, uint64_t now_ns);
void client_goodbye_and_wait(struct leat_client *client);

/* ---- poll.c ---- */

/* Ends everything unended; the client is FAILED. */
void client_end_all(struct leat_client *client, int error, uint64_t now_ns);
/* All appends ended and their results were taken. */
bool client_all_taken(const struct leat_client *client);
void client_take_completions(struct leat_client *client, uint64_t now_ns);
/* Gives back the places of what has all three ends. */
void client_retire(struct leat_client *client);

#endif
