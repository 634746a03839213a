/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker: one lcore with its own port, storage, logs and client rings. It shares nothing but
 * the command queue with the control thread. The rooms beside a log's (log.h):
 *
 *   pass.c      the pass, on one screen
 *   peers.c     who is there: hello, pins, heartbeats (G4)
 *   clients.c   rings in, completions out
 *   forward.c   appends of clients on followers' hosts
 *   commands.c  what the control thread asks for
 */
#ifndef LEAT_NODE_WORKER_H
#define LEAT_NODE_WORKER_H

#include "commands.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "dataplane/port.h"
#include "dataplane/wire.h"
#include "logger.h"
#include "log.h"
#include "node/config.h"

#define NODE_CLIENTS_MAX    64u
#define NODE_REASSEMBLY_MAX 4u /* large forwarded records at one time */
#define NODE_CATCHUP_BYTES  (256u << 10)
#define NODE_SEND_BURST     256u /* datagrams per peer and pass */
#define NODE_CLIENT_BURST   256u /* records per client and pass: what one client costs a pass */
#define NODE_FORWARD_WINDOW 1024u
#define NODE_FORWARD_BYTES  (256u << 10) /* per client and pass, but for one record */

/* Per client and log. */
struct client_log {
    uint64_t next_sequence; /* the lowest that the ring may bring next */
    uint64_t submit;        /* slot that is to be sealed or forwarded next */
    uint64_t forwarded_ns;  /* when the oldest was last forwarded, or one last ended */
    uint64_t first_slot;    /* no unended slot of this log below it */
    uint32_t role_epoch;    /* of the log when `submit` was set */
};

struct node_client {
    struct node_rings *rings; /* NULL: free */
    uint64_t taken;           /* ring position up to which records were taken */
    uint64_t released;        /* ring position given back */
    uint64_t completion_tail;
    uint64_t slot_first; /* count of the oldest slot not given back */
    uint64_t slot_next;
    uint64_t slot_mask;
    struct client_slot *slots; /* completion_count many */
    struct client_log logs[NODE_LOGS_MAX];
};

struct node_reassembly {
    uint8_t peer; /* of the sender; NODE free: LEAT_CORE_NOBODY */
    uint8_t log;
    struct leat_uuid client;
    uint64_t sequence;
    uint32_t total_bytes;
    uint32_t filled_bytes;
    uint64_t touched_ns;
    uint8_t *bytes;
};

struct node_peer {
    uint32_t node_id;
    uint8_t member; /* index in the sorted list of nodes */
    bool known;     /* hello accepted: identity checked against the pin */
    bool refused;   /* identity wrong: said once */
    uint8_t worker_count;
    uint64_t incarnation;
    uint64_t hello_sent_ns;
    uint64_t heartbeat_sent_ns;
    uint64_t heartbeat_sequence;
    uint64_t heard_ns;
    uint64_t pinned_ns;
    /* the logs it leads, as it said */
    bool set_is_held;
    uint64_t set_counter;
    uint32_t set_hash;
    uint32_t set_count;
    struct leat_wire_led set[NODE_LOGS_MAX];
    /* our own set, as it holds it */
    uint64_t told_counter;
    bool asked;
};

struct node_worker {
    const struct leat_config *config;
    struct node_logger *out; /* the log for people */
    struct leat_uuid instance;
    struct leat_uuid cluster;
    struct leat_uuid node;
    uint64_t incarnation;
    uint8_t self; /* member index */
    uint64_t now_ns;
    uint64_t realtime_ns;
    uint64_t started_ns;

    struct leat_port *port;
    struct leat_storage *storage;
    struct node_commands *commands;

    uint32_t log_count;
    struct node_log logs[NODE_LOGS_MAX];
    uint32_t genesis_crc[2];
    uint32_t peer_count;
    struct node_peer peers[LEAT_MEMBERS_MAX]; /* as in the port's configuration */
    uint8_t peer_of_member[LEAT_MEMBERS_MAX];
    uint64_t led_counter; /* of the own set of led logs */
    uint32_t led_hash;
    uint32_t led_count;
    struct leat_wire_led led[NODE_LOGS_MAX];

    struct node_client clients[NODE_CLIENTS_MAX];
    uint32_t clients_high; /* slots ever used */
    struct node_reassembly reassembly[NODE_REASSEMBLY_MAX];

    uint8_t *base_scratch; /* LEAT_BASE_PAYLOAD_BYTES_MAX */
    uint64_t drops[LEAT_WIRE_DROP_COUNT];
    uint64_t passes;
    uint64_t busy_passes;
    uint64_t client_violations;
    uint64_t segment_waits_seen, segment_waited_ns, segment_wait_began_ns;
    int fatal;     /* a negative enum leat_error: stop now, let nothing leave */
    bool draining; /* SIGTERM: no new appends */
    bool closing;  /* no packets taken any more */
    uint64_t drain_deadline_ns;
};

/* pass.c: one pass; returns the work done. */
unsigned node_pass(struct node_worker *worker);
void node_fatal(struct node_worker *worker, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* peers.c */
void peers_tick(struct node_worker *worker);
bool peers_take_hello(struct node_worker *worker, unsigned peer, const struct leat_wire_view *view);
void peers_take_heartbeat(struct node_worker *worker, unsigned peer,
                          const struct leat_wire_view *view);
void peers_update_led(struct node_worker *worker);
/* Header fields of a datagram to `peer`; kind, log and lengths are the caller's. */
void peers_header(const struct node_worker *worker, unsigned peer, unsigned kind,
                  struct leat_wire_header *header);
struct node_log *worker_log(struct node_worker *worker, uint32_t log_id);

/* clients.c */
uint32_t clients_find(const struct node_worker *worker, const struct leat_uuid *client);
/* Who of the attached clients owns which session of a log, anew from its committed table. */
void clients_adopt(struct node_worker *worker, struct node_log *log);
int clients_attach(struct node_worker *worker, struct node_rings *rings);
void clients_detach(struct node_worker *worker, struct node_rings *rings);
unsigned clients_poll(struct node_worker *worker);
void clients_complete(struct node_worker *worker, uint32_t owner, struct node_log *log,
                      const struct leat_frame *frame, uint64_t position, enum leat_level level);
/* Ends the append (log, sequence) of a client, if it has not ended. */
void clients_end(struct node_worker *worker, uint32_t owner, uint32_t log_index,
                 const struct leat_completion *completion);
/* Ends all of a client's appends to a log: the session is gone or lost appends (W8). */
void clients_end_session(struct node_worker *worker, uint32_t owner, struct node_log *log,
                         int error, uint64_t last_sequence);
/* Makes the next submission of (client, log) begin at its oldest unended append. */
void clients_resubmit(struct node_worker *worker, uint32_t owner, uint32_t log_index);
/* What a slot asks for; its payload lies in the client's ring. */
struct node_append client_append(const struct node_client *client, const struct client_slot *slot);

/* forward.c */
enum append_verdict {
    APPEND_SEALED,   /* in the log, or its refusal is: completes when that commits */
    APPEND_RECORDED, /* was in the log already */
    APPEND_WAIT,     /* no room now */
    APPEND_GAP,      /* a sequence before it is missing */
    APPEND_REFUSED,  /* ret_error says why */
};
/* A client's record at its leader. `oldest`: no unended append of this client to this log comes
 * before it; only then can it be told that its session is unknown or has a gap. */
enum append_verdict session_append(struct node_log *log, const struct leat_uuid *client,
                                   const struct node_append *append, bool oldest,
                                   struct leat_session_row *ret_row, int *ret_error);
/* `oldest`: no unended append of this client to this log comes before it. */
bool forward_record(struct node_log *log, const struct leat_uuid *client,
                    const struct node_append *append, bool oldest);
void forward_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                  const struct leat_wire_view *view);
void forward_take_reply(struct node_worker *worker, struct node_log *log,
                        const struct leat_wire_view *view);

/* commands.c */
unsigned commands_run(struct node_worker *worker);

/* boot.c */
int worker_boot(struct node_worker *worker);
void worker_shut(struct node_worker *worker);

#endif
