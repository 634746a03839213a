/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker: one lcore with its own port, storage, logs and client rings. What it shares with
 * other threads are queues of one writer and one reader: commands (commands.h) and what is for
 * another worker's log (handover.h). The rooms beside a log's (log.h):
 *
 *   pass.c         the pass, on one screen
 *   worker_logs.c  its logs: by id, which are busy, which are due
 *   peers.c        who is there: hello, pins, heartbeats (G4)
 *   clients.c      rings in, completions out; rings.c reads them, submit.c makes appends of them
 *   path.c         what the way to a peer carries
 *   forward.c      appends of clients on followers' hosts
 *   handover.c     appends for logs of other workers
 *   tail.c         the read index: where a log ends
 *   admin.c        requests for the catalogue, on their way to its leader
 *   operate.c      trims and transfers, on their way to a log's leader
 *   repair.c       damaged segments, fetched from peers
 *   commands.c     what the control and lifecycle threads ask for
 *   trace.c        when a log got how far, for who measures
 */
#ifndef LEAT_NODE_WORKER_H
#define LEAT_NODE_WORKER_H

#include "catalogue.h"
#include "commands.h"
#include "handover.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "dataplane/port.h"
#include "dataplane/wire.h"
#include "logger.h"
#include "log.h"
#include "node/config.h"

/* How long a leader spins for the acknowledgements of what is asked for in memory only: about the
 * time of two switches to another task and back on a shared core. Spinning for as long as the
 * alternative would cost is never worse than twice the best (Karlin, Manasse, McGeoch, Owicki:
 * Competitive randomized algorithms for non-uniform problems, SODA 1990, section 2). */
#define NODE_EXPECT_NS       20000u
#define NODE_CLIENTS_MAX     256u                 /* as many as control connections; of any home */
#define NODE_PLACES          (2u * NODE_LOGS_MAX) /* power of two */
#define NODE_REASSEMBLY_MAX  4u                   /* large forwarded records at one time */
#define NODE_ENTRY_BYTES_MAX (LEAT_SEGMENT_BYTES_MAX / 4)
#define NODE_CATCHUP_BYTES   (256u << 10)
#define NODE_CATCHUPS_MAX    16u /* peers that are sent bytes from disk at one time, over all logs */
#define NODE_SEND_BURST      256u /* datagrams per peer and pass */
/* Records that are taken in a pass: shared by the clients that are attached, each of which gets
 * some. What one client costs the others is its share. */
#define NODE_PASS_RECORDS   1024u
#define NODE_CLIENT_RECORDS 64u
/* Of a log; root and the node's user may have all. */
#define NODE_SESSIONS_PER_USER (LEAT_SESSIONS_MAX / 2)
#define NODE_CROWD_NS          100000000u
#define NODE_FORWARD_WINDOW    1024u
#define NODE_FORWARD_BYTES     (256u << 10) /* per client and pass, but for one record */

#define CLIENT_NO_SLOT     UINT64_MAX
#define CLIENT_FOREIGN_LOG UINT16_MAX /* of a slot whose log is another worker's */

/* Per client and log: its unended slots are a list, by number. */
struct client_log {
    uint64_t next_sequence;   /* the lowest that the ring may bring next */
    uint64_t sent_sequence;   /* the highest that was sealed or forwarded, by a former node too */
    uint64_t former_sequence; /* the highest that a former leader may have: LEAT_ENOSPACE of a
                               * leader that does not rule yet says nothing of these */
    uint64_t first;           /* the oldest unended slot; the words here hold while unended > 0 */
    uint64_t last;
    uint64_t found;        /* the highest that was looked for, or any number */
    uint64_t submit;       /* the slot to be sealed or forwarded next, or none */
    uint64_t forwarded_ns; /* when the oldest was last forwarded, or one last ended */
    uint32_t forwards;     /* how often everything was forwarded again since one ended */
    uint32_t unended;
    uint32_t submitted;  /* about: of the unended ones */
    uint32_t role_epoch; /* of the log when `submit` was set */
};

/* An attached client at its home, or its guest at another worker (handover.h). */
struct node_client {
    struct node_rings *rings; /* NULL: free */
    uint32_t home;            /* the worker that has its ring */
    bool let_go;              /* broke the protocol: waits to be detached */
    uint32_t detach_waits;
    uint32_t detach_asked; /* bits of workers */
    struct node_command *detaching;
    uint64_t taken;    /* ring position up to which records were taken */
    uint64_t released; /* ring position given back */
    uint64_t completion_tail;
    uint64_t
        completion_told; /* as the client was told: the line is on its core, so not each time */
    uint64_t slot_first; /* count of the oldest slot not given back */
    uint64_t slot_next;
    uint64_t slot_mask;
    struct client_slot *slots;         /* completion_count many */
    uint64_t busy[NODE_LOGS_MAX / 64]; /* logs with unended slots */
    struct client_log logs[NODE_LOGS_MAX];
};

/* The worker of a node with so many that hosts the log. */
static inline uint32_t node_worker_of(uint32_t log_id, uint32_t worker_count)
{
    return worker_count <= 1 ? 0 : log_id % worker_count; /* no division where there is one */
}

static inline struct client_slot *client_slot_at(const struct node_client *client, uint64_t number)
{
    return &client->slots[number & client->slot_mask];
}

struct node_reassembly {
    uint8_t peer; /* of the sender; NODE free: LEAT_CORE_NOBODY */
    uint16_t log;
    struct leat_uuid client;
    uint64_t sequence;
    uint32_t total_bytes;
    uint32_t filled_bytes;
    uint64_t touched_ns;
    uint8_t *bytes;
};

/* This worker and one worker of a peer. Both speak in the name of their nodes' incarnations. */
struct node_link {
    bool known;    /* hello accepted: identity checked against the pin */
    bool refused;  /* identity wrong: said once */
    bool no_space; /* its disk is full, as it said last */
    uint64_t incarnation;
    uint64_t hello_sent_ns;
    uint64_t heartbeat_sent_ns;
    uint64_t heard_ns;
    uint64_t pinned_ns;
    uint32_t asks; /* of its word for our set, in a row */
    /* the logs it leads, as it said */
    bool set_is_held;
    uint64_t set_counter;
    uint32_t set_hash;
    uint32_t set_count;
    uint32_t set_filled; /* of a set that comes in parts; == set_count: whole */
    struct leat_wire_led set[NODE_LOGS_MAX];
    /* our own set, as it holds it */
    uint64_t told_counter;
    bool asked;
};

struct node_peer {
    uint32_t node_id;
    uint8_t member;                           /* index in the sorted list of nodes */
    uint8_t worker_count;                     /* 0: not known yet */
    struct node_link links[LEAT_WORKERS_MAX]; /* by its worker */
    bool is_short;           /* the way there seems to lose long datagrams (path.c) */
    uint64_t short_until_ns; /* short ones go until then, or went */
    uint64_t short_ns;       /* for how long */
};

/* Questions of this node's clients where a log ends (tail.c). */
#define NODE_TAILS_MAX 64u

struct node_tail_question {
    struct node_command *command; /* NULL: free */
    uint32_t log_id;
    bool replicated;
    bool answered; /* target_pos is what this replica must reach */
    uint64_t request;
    uint64_t target_pos;
    uint64_t began_ns;
    uint64_t asked_ns;
};

/* Trims and transfers that wait for a leader's word (operate.c). */
#define NODE_OPERATIONS_MAX 16u

struct node_operation {
    struct node_command *command; /* NULL: free */
    uint32_t log_id;
    uint64_t began_ns;
    uint64_t asked_ns; /* 0: not yet */
    struct leat_wire_operate asked;
};

/* A BASE frame that is read to know how old a segment is (retention.c). */
#define NODE_BASE_BLOCKS_BYTES                                                                     \
    ((LEAT_FRAME_HEADER_BYTES + LEAT_BASE_PAYLOAD_BYTES_MAX + LEAT_BLOCK_BYTES - 1) &              \
     ~(uint64_t)(LEAT_BLOCK_BYTES - 1))

struct node_retention {
    struct node_log *log; /* NULL: none */
    uint64_t base_pos;
    uint8_t *block;
};

/* Sealed segments that are repaired from peers (repair.c). */
#define NODE_REPAIRS_MAX 64u

struct node_repair_item {
    uint32_t log_id;
    uint64_t base_pos;
};

struct node_repair {
    uint32_t count;
    struct node_repair_item queue[NODE_REPAIRS_MAX]; /* the first is being repaired */
    bool asking;
    unsigned peer;
    unsigned tries;
    uint64_t position; /* of the next byte */
    uint64_t window_end;
    uint64_t asked_ns;
    uint64_t pause_until_ns;
};

/* A peer's request that is being served; `buffer` NULL: none. */
struct node_repair_serve {
    uint8_t *buffer;
    uint32_t log_id;
    unsigned peer;
    uint64_t block_pos, begin_pos, end_pos;
};

/* Changes of the catalogue that wait (admin.c). */
#define NODE_ADMIN_REQUESTS 32u
#define NODE_ADMIN_RECENT   256u

struct node_admin_request {
    struct node_command *command; /* NULL: free */
    uint64_t began_ns;
    uint64_t asked_ns;
};

struct node_admin_recent {
    struct leat_uuid request;
    uint32_t term; /* in which this node wrote it */
    bool applied;
};

struct node_admin {
    uint32_t waiting;
    uint32_t recent_next;
    struct node_admin_request requests[NODE_ADMIN_REQUESTS];
    struct node_admin_recent recent[NODE_ADMIN_RECENT];
};

/* Events of trace.c; header NULL: off. */
struct node_trace {
    struct leat_trace_header *header;
    struct leat_trace_event *events;
    uint64_t written;
};

struct node_worker {
    const struct leat_config *config;
    struct node_logger *out; /* the log for people */
    uint32_t number;         /* of the node's workers: it hosts the logs id % worker_count */
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
    struct node_commands commands[NODE_COMMAND_QUEUES];
    /* worker 0 only: log 0's state, as committed and as of its end */
    struct node_catalogue *catalogue;
    struct node_catalogue *catalogue_tail;
    struct node_admin *admin;
    _Atomic uint64_t catalogue_version; /* counts its changes, for the lifecycle thread */
    struct node_command *creation;      /* a log that storage makes; NULL: none */
    struct node_command *deletion;      /* a log that ends */
    bool deletion_asked;                /* of storage */

    /* by index in storage; NULL: none. Found by id through `places`, a hash (worker_logs.c). */
    uint32_t log_count; /* the highest index ever used, plus one */
    struct node_log *logs[NODE_LOGS_MAX];
    uint16_t places[NODE_PLACES];
    /* what the pass goes over: logs with something to do; the others when their time comes */
    uint32_t active_count;
    struct node_log *active[NODE_LOGS_MAX];
    uint64_t due_ns[NODE_LOGS_MAX];
    uint64_t due_next_ns;             /* not above the lowest of them */
    struct leat_core_effects effects; /* of the log that is being gone over */
    uint32_t genesis_crc[2];
    uint32_t peer_count;
    struct node_peer peers[LEAT_MEMBERS_MAX]; /* as in the port's configuration */
    uint8_t peer_of_member[LEAT_MEMBERS_MAX];
    bool led_changed;
    uint64_t led_counter; /* of the own set of led logs */
    uint32_t led_hash;
    uint32_t led_count;
    struct leat_wire_led led[NODE_LOGS_MAX];

    /* between workers; of itself: NULL */
    struct handover_queue *inbox[LEAT_WORKERS_MAX];
    struct handover_queue *outbox[LEAT_WORKERS_MAX];
    uint32_t handed[LEAT_WORKERS_MAX]; /* records that are out */

    struct node_client *clients; /* NODE_CLIENTS_MAX */
    uint32_t clients_high;       /* slots ever used */
    uint32_t client_records;     /* a client's share of NODE_PASS_RECORDS, as of the last pass */
    uint32_t clients_attached;   /* as of the last pass */
    uint32_t await_memory;       /* unended appends here of clients that wait for memory's commit */
    struct node_reassembly reassembly[NODE_REASSEMBLY_MAX];
    uint8_t *catchup;      /* NODE_CATCHUPS_MAX buffers of NODE_CATCHUP_BYTES */
    uint32_t catchup_used; /* one bit each */

    uint64_t tail_request;
    uint32_t tail_count;
    struct node_tail_question tails[NODE_TAILS_MAX];
    uint64_t operation_request;
    uint32_t operation_count;
    struct node_operation operations[NODE_OPERATIONS_MAX];
    struct node_retention retention;
    struct node_repair repair;
    struct node_repair_serve repair_serve;

    struct node_trace trace;
    uint8_t *base_scratch; /* LEAT_BASE_PAYLOAD_BYTES_MAX */
    uint64_t drops[LEAT_WIRE_DROP_COUNT];
    uint64_t expect_ns; /* acknowledgements may come any moment, until then; 0: not */
    uint64_t passes;
    uint64_t full_seen;  /* the port's tx_full at the last pass */
    uint32_t send_turn;  /* moves on when the port was full: another log is the first to send */
    bool send_backwards; /* and another member */
    uint64_t busy_passes;
    uint64_t client_violations;
    uint64_t short_paths; /* how often long datagrams seemed not to arrive (path.c) */
    uint64_t absences;    /* how often a pass came later than peers may wait to hear (pass.c) */
    uint64_t absence_max_ns;
    uint64_t segment_waits_seen, segment_waited_ns, segment_wait_began_ns;
    int fatal;       /* a negative enum leat_error: stop now, let nothing leave */
    bool draining;   /* SIGTERM: no new appends */
    bool closing;    /* no packets taken any more */
    bool disk_stuck; /* a write is in flight for longer than a disk may take */
    uint64_t drain_deadline_ns;
};

/* worker_logs.c */
struct node_log *worker_log(const struct node_worker *worker, uint32_t log_id);
void worker_add_log(struct node_worker *worker, struct node_log *log);
void worker_remove_log(struct node_worker *worker, struct node_log *log);
/* The log shall be gone over in this pass; what depends on the pass is made anew for it. */
void worker_wake(struct node_log *log);
/* The log shall be gone over at due_ns, if not before. */
void worker_due(struct node_log *log, uint64_t due_ns);
/* Wakes the logs whose time has come. */
void worker_wake_due(struct node_worker *worker);
uint8_t *worker_catchup_take(struct node_worker *worker);
void worker_catchup_give(struct node_worker *worker, uint8_t *buffer);

/* pass.c: one pass; returns the work done. */
unsigned node_pass(struct node_worker *worker);
void node_fatal(struct node_worker *worker, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* peers.c */
void peers_tick(struct node_worker *worker);
bool peers_take_hello(struct node_worker *worker, unsigned peer, const struct leat_wire_view *view);
/* Of a datagram of a life that this link does not know: counted, and asked about if it may be
 * newer. */
void peers_hear_stranger(struct node_worker *worker, unsigned peer,
                         const struct leat_wire_header *header);
void peers_take_heartbeat(struct node_worker *worker, unsigned peer,
                          const struct leat_wire_view *view);
/* Header fields of a datagram to `peer`; kind, log and lengths are the caller's. */
void peers_header(const struct node_worker *worker, unsigned peer, unsigned kind,
                  struct leat_wire_header *header);
/* The worker of a peer that hosts a log (0 while its count is not known), and the link to it. */
unsigned peers_worker_of(const struct node_peer *peer, uint32_t log_id);
struct node_link *peers_link(struct node_worker *worker, unsigned peer, uint32_t log_id);
/* Sends a datagram about a log to the worker of `peer` that hosts it: header fields but kind, log
 * and generation are filled here. */
void peers_send(struct node_log *log, unsigned peer, unsigned kind, const void *body,
                uint16_t body_bytes, const void *payload, uint32_t payload_bytes);

/* clients.c */
uint32_t clients_find(const struct node_worker *worker, const struct leat_uuid *client);
/* Who of the attached clients owns which session of a log, anew from its committed table. */
void clients_adopt(struct node_worker *worker, struct node_log *log);
/* Which attached client's session that is, or NODE_NO_CLIENT. The owners are as of the end of the
 * walk over commits that is ahead; for the one behind it, which is at the durable level, the
 * committed table is as of the frame. */
uint32_t clients_owner(const struct node_log *log, uint32_t session, bool behind);
int clients_attach(struct node_worker *worker, struct node_rings *rings);
/* OK or NODE_COMMAND_LATER. */
int clients_detach(struct node_worker *worker, struct node_command *command);
/* One more worker has let go of the client's rings. */
void clients_detached(struct node_worker *worker, struct node_client *client);
/* Records of these rings that are being worked on here. */
uint32_t clients_unended(const struct node_worker *worker, const struct node_rings *rings);
/* Nothing of these rings is used here any more. */
void clients_forget(struct node_worker *worker, const struct node_rings *rings);
/* A record of another worker's client for a log of this one. */
void clients_take_guest(struct node_worker *worker, uint32_t home, struct node_rings *rings,
                        uint32_t log_id, uint64_t home_slot, const struct client_slot *record);
/* A record that was handed over has ended. */
void clients_foreign_ended(struct node_worker *worker, struct node_client *client, uint64_t number,
                           const struct leat_completion *completion);
void client_end_slot(struct node_worker *worker, struct node_client *client, uint64_t number,
                     const struct leat_completion *completion);
/* Tells clients what ended since, and gives back their rings' room. */
void clients_tell(struct node_worker *worker);
/* submit.c */
/* The log begins anew, above frames that were not gone over: what is unended may be among them. */
void clients_doubt(struct node_worker *worker, struct node_log *log);
/* The log's leader has no room for a client's appends from `sequence` on: they end. */
void clients_refuse_from(struct node_worker *worker, uint32_t owner, struct node_log *log,
                         uint64_t sequence);
unsigned client_submit_all(struct node_worker *worker, uint32_t owner);
unsigned clients_poll(struct node_worker *worker);
void clients_complete(struct node_worker *worker, uint32_t owner, struct node_log *log,
                      const struct leat_frame *frame, uint64_t position, enum leat_level level);
/* Ends the append (log, sequence) of a client, if it has not ended. */
void clients_end(struct node_worker *worker, uint32_t owner, uint32_t log_index,
                 const struct leat_completion *completion);
/* Ends all of a client's appends to a log: the session is gone or lost appends (W8). */
void clients_end_session(struct node_worker *worker, uint32_t owner, struct node_log *log,
                         int error, uint64_t last_sequence);
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
 * before it; only then can it be told that its session is unknown or has a gap. `applied_pos`: what
 * the client's node had applied of the log when it handed the append over. */
enum append_verdict session_append(struct node_log *log, const struct leat_uuid *client,
                                   const struct node_append *append, uint64_t applied_pos,
                                   bool oldest, struct leat_session_row *ret_row, int *ret_error);
/* Leader only: ends a session of the tail's table. EAGAIN: no room now. */
int session_close(struct node_log *log, uint32_t session);
/* `oldest`: no unended append of this client to this log comes before it. */
bool forward_record(struct node_log *log, const struct leat_uuid *client,
                    const struct node_append *append, bool oldest);
void forward_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                  const struct leat_wire_view *view);
void forward_take_reply(struct node_worker *worker, struct node_log *log,
                        const struct leat_wire_view *view);

/* path.c: the longest datagram for the peer now; bytes for its worker `other` go again and again,
 * and do not arrive. */
uint32_t path_datagram_bytes(struct node_worker *worker, unsigned peer);
void path_stalls(struct node_worker *worker, unsigned peer, unsigned other);

/* trace.c: unlinks what a former life left; makes a file if configured. */
int trace_open(struct node_worker *worker, char *error, unsigned error_bytes);
void trace_close(struct node_worker *worker);
void trace_look(struct node_worker *worker, enum leat_trace_point point);
static inline void trace_point(struct node_worker *worker, enum leat_trace_point point)
{
    if (__builtin_expect(worker->trace.header != NULL, 0))
        trace_look(worker, point);
}

/* commands.c */
unsigned commands_run(struct node_worker *worker);

/* handover.c */
bool handover_has_room(const struct node_worker *worker, uint32_t log_id);
void handover_record(struct node_worker *worker, struct node_client *client, uint32_t log_id,
                     uint64_t slot, const struct client_slot *record);
void handover_detach(struct node_worker *worker, struct node_client *client);
void handover_ended(struct node_worker *worker, const struct node_client *guest, uint64_t slot,
                    const struct leat_completion *completion);
unsigned handover_poll(struct node_worker *worker);

/* operate.c */
int operate_begin(struct node_worker *worker, struct node_log *log, struct node_command *command);
void operate_tick(struct node_worker *worker);
void operate_take(struct node_log *log, unsigned peer, const struct leat_wire_view *view);
void operate_take_reply(struct node_log *log, const struct leat_wire_view *view);

/* admin.c */
int admin_begin(struct node_worker *worker, struct node_command *command);
unsigned admin_tick(struct node_worker *worker);
/* A CATALOGUE frame lies in this leader's log, whoever sealed it. */
void admin_written(struct node_worker *worker, const struct leat_catalogue_payload *payload);
/* A CATALOGUE frame was applied before this start. */
/* Catalogue frames that count are told from the first on, by a second pass once more. */
void admin_recovering(struct node_worker *worker);
void admin_recovered(struct node_worker *worker, const struct leat_catalogue_payload *payload);
/* A CATALOGUE frame was applied here. */
void admin_applied(struct node_worker *worker, const struct leat_catalogue_payload *payload);
void admin_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                const struct leat_wire_view *view);
void admin_take_reply(struct node_worker *worker, struct node_log *log, unsigned peer,
                      const struct leat_wire_view *view);

/* tail.c */
int tail_begin(struct node_worker *worker, struct node_log *log, struct node_command *command);
void tail_tick(struct node_worker *worker);
void tail_lead(struct node_log *log);
void tail_clear(struct node_log *log);
bool tail_is_busy(const struct node_log *log);
void tail_take(struct node_log *log, unsigned peer, const struct leat_wire_view *view);
void tail_take_reply(struct node_log *log, const struct leat_wire_view *view);

/* retention.c */
void retention_tick(struct node_log *log);
void retention_read_done(struct node_worker *worker, int64_t result);

/* repair.c */
void repair_note(struct node_log *log, uint64_t begin_pos, uint64_t end_pos);
void repair_tick(struct node_worker *worker);
void repair_done(struct node_log *log, uint64_t base_pos, int64_t result);
void repair_take(struct node_worker *worker, struct node_log *log, unsigned peer,
                 const struct leat_wire_view *view);
void repair_take_data(struct node_worker *worker, struct node_log *log, unsigned peer,
                      const struct leat_wire_view *view);
void repair_read_done(struct node_worker *worker, int64_t result);

/* log_life.c: logs that come and go while the node serves */
int life_create(struct node_worker *worker, struct node_command *command);
int life_delete(struct node_worker *worker, struct node_command *command);
void life_created(struct node_worker *worker, uint64_t genesis_end, int64_t result);
void life_read_done(struct node_worker *worker, const struct leat_storage_event *event);
void life_deleted(struct node_worker *worker, uint32_t index);
void life_tick(struct node_worker *worker);

/* boot.c */
int worker_boot(struct node_worker *worker, char *error, unsigned error_bytes);
void worker_shut(struct node_worker *worker);
/* The port of a worker, by the configuration; its strings are the configuration's. */
void worker_port_config(const struct leat_config *config, uint32_t number,
                        struct leat_port_config *ret_port);

/* log_boot.c */
struct node_log *log_new(void);
void log_free(struct node_log *log);
/* Recovers log `index` of the worker's storage from disk and arena. */
int log_boot(struct node_worker *worker, uint32_t index, const struct leat_uuid *boot,
             struct node_log **ret_log, char *error, unsigned error_bytes);
/* Takes it into service, once the incarnation is durable. */
void log_boot_serve(struct node_log *log);
/* The same for a log that was created: nothing lies in it but the genesis frame. */
void log_begin_created(struct node_log *log, uint64_t genesis_end);
/* A log that is to be created: its arena, empty but for the genesis frame, and its state. Lifecycle
 * thread; blocks. */
int log_prepare(struct node_log *log, struct node_worker *worker, const struct leat_uuid *boot,
                const struct leat_catalogue_row *row, char *error, unsigned error_bytes);
int node_boot_id(struct leat_uuid *ret_boot);

#endif
