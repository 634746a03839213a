/* SPDX-License-Identifier: Apache-2.0
 *
 * A small deterministic cluster of real cores (replication/) over fakes: the content of the log,
 * memory, disk, network and clock. Drives each core as node/ does, in the order of a pass.
 *
 *   harness.c     the cluster: network, clock, lines for people
 *   replica.c     a node around its core: memory, frames, effects, what a follower verifies
 *   disk.c        writes, votes and cuts in flight; crash, power cut, recovery (W4, W5, V2)
 *   clients.c     sessions, appends, retries, the ledger
 *   invariants.c  what must hold, looked at after every step
 *
 * Content. A position counts bytes, as the core's do; 8 bytes are a cell. A frame takes some
 * cells; a cell's value is (frame, index in the frame), so two replicas hold the same bytes
 * exactly when their cells are equal. A frame names the frame before it: rule F1's chain, with
 * the identity of a frame in the place of its CRC.
 *
 * Memory and disk are arrays of cells without a ring. A write reads the memory when it completes,
 * as hardware may. Not modelled: segments, BASE and PAD frames, the journal's ring, repair.
 */
#ifndef LEAT_TESTS_HARNESS_H
#define LEAT_TESTS_HARNESS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "replication/core.h"
#include "replication/sessions.h"

#define CELL_BYTES      8u
#define LOG_CELLS       16384u
#define FRAMES_MAX      12288u
#define PACKETS_MAX     4096u
#define DATAGRAM_CELLS  64u
#define FRAME_CELLS_MAX 64u
#define DISK_QUEUE      (2 * LEAT_CORE_WRITES_MAX) /* outstanding, and cut while outstanding */
#define TERMS_MAX       4096u
#define LINES_KEPT      48u
#define LINE_BYTES      200u
#define GENESIS_CELLS   8u
#define TERM_CELLS      10u /* a TERM frame takes 80 bytes */
#define NO_FRAME        0u

struct frame {
    uint64_t position;
    uint64_t run_first_pos;
    uint64_t sequence;
    uint32_t before; /* the frame that ends where this begins */
    uint32_t term;
    uint32_t session;
    uint32_t payload; /* client and number, unique */
    uint8_t cells;
    uint8_t type; /* enum leat_frame_type */
    uint8_t client;
    uint8_t level; /* 1: replicated was asked for */
};

enum packet_kind {
    PACKET_FREE,
    PACKET_LOG,
    PACKET_HEARTBEAT,
    PACKET_HEARTBEAT_REPLY,
};

struct packet {
    uint8_t kind; /* enum packet_kind */
    uint8_t from;
    uint8_t to;
    uint8_t cell_count;
    uint32_t led_term; /* heartbeat: 0 leads nothing */
    uint64_t at_ns;
    uint64_t order;
    uint64_t from_incarnation;
    uint64_t to_incarnation;
    uint64_t sent_ns; /* a heartbeat that is asked, or was */
    struct leat_message message;
    uint32_t cells[DATAGRAM_CELLS];
    struct leat_run runs[LEAT_RUNS_MAX];
};

enum disk_kind {
    DISK_WRITE,
    DISK_VOTE,
    DISK_CUT,
};

/* Something in flight. All of a node complete in order, as its journal does. */
struct disk_request {
    uint8_t kind; /* enum disk_kind */
    uint8_t voted_for;
    bool reset;
    uint32_t term; /* vote: its term; write: of the last run */
    uint64_t sequence;
    uint64_t begin;
    uint64_t end;
    uint64_t floor; /* D when it was issued (V1, V2) */
    uint64_t commit_d;
    uint64_t done_ns;
};

/* What survives everything. */
struct journal {
    uint64_t incarnation;
    uint64_t base_pos;
    uint64_t floor;
    uint64_t commit_d;
    uint64_t claim_end;
    uint32_t claim_term;
    uint32_t vote_term;
    uint8_t voted_for;
    bool amnesiac;
    bool clean;
};

struct replica {
    uint8_t self;
    bool up;
    bool arena_valid;
    bool installing;
    bool tail_is_valid;
    bool fenced;
    bool resetting; /* the start record of an install is not durable yet */
    uint64_t paused_until_ns;

    uint32_t arena[LOG_CELLS];
    uint32_t disk[LOG_CELLS];
    uint8_t got[LOG_CELLS]; /* above the verified end: bytes that came */
    uint32_t got_high;
    uint64_t published_end;
    struct journal journal;
    struct disk_request requests[DISK_QUEUE];
    uint32_t request_count;
    uint64_t issued_end; /* writes were issued up to here */

    struct leat_core core;
    struct leat_core_effects effects;
    uint64_t chain_pos;
    uint32_t chain_frame;
    uint64_t applied_pos; /* commitD, frame by frame */
    uint32_t applied_frame;
    uint64_t completed_pos; /* commitR */
    struct leat_sessions committed;
    struct leat_sessions tail;
    uint32_t role_epoch;

    uint64_t gap_since_ns;
    uint64_t nak_sent_ns;
    uint64_t heartbeat_ns;
    uint64_t known_incarnation[LEAT_MEMBERS_MAX]; /* as a hello would tell */

    /* what the checks remember about this node */
    uint64_t acked_durable; /* highest D that left it and was not cut since */
    uint64_t acked_memory;
    uint64_t seen_commit_d;
    uint64_t seen_commit_r;
    uint64_t seen_cut_epoch; /* over all its lives: the journal compares by it */
    uint32_t seen_term;
    enum leat_role seen_role;
    uint64_t believed_memory[LEAT_MEMBERS_MAX];
    uint64_t believed_durable[LEAT_MEMBERS_MAX];
    uint64_t believed_of[LEAT_MEMBERS_MAX]; /* incarnation */
};

struct checks {
    uint8_t leader_of[TERMS_MAX];                 /* 1 + node, 0 nobody */
    uint8_t vote_of[LEAT_MEMBERS_MAX][TERMS_MAX]; /* 1 + candidate */
    uint32_t committed[LOG_CELLS];                /* at commitD: for ever */
    uint64_t committed_end;
    uint32_t replicated[LOG_CELLS]; /* at commitR: until a counted loss */
    uint64_t replicated_end;
    bool replicated_excused; /* W5 (ii) or accept happened: loss above commitD is allowed */
    bool damage;             /* a disk was damaged on purpose */
    uint32_t highest_led;
    uint64_t replicated_lost; /* frames */
    uint64_t durable_acks;
    uint64_t replicated_acks;
    char broken[512]; /* the invariant, in a sentence */
};

enum injected {
    INJECTED_LOSS,
    INJECTED_DUPLICATE,
    INJECTED_REORDER,
    INJECTED_PARTITION,
    INJECTED_ONE_WAY,
    INJECTED_CRASH,
    INJECTED_POWER_CUT,
    INJECTED_RACK_POWER_CUT,
    INJECTED_TORN_WRITE,
    INJECTED_LATE_WRITE,
    INJECTED_SLOW_DISK,
    INJECTED_PAUSE,
    INJECTED_TRANSFER,
    INJECTED_TRIM,
    INJECTED_ACCEPT,
    INJECTED_RETRY,
    INJECTED_BURST,
    INJECTED_CLEAN_STOP,
    INJECTED_COUNT,
};
extern const char *const injected_names[INJECTED_COUNT];

struct clients;

struct cluster {
    uint8_t count;
    bool accepts_replicated;
    bool by_hand; /* a trace: packets and disk wait for commands */
    bool told;    /* lines are wanted */
    bool burst;   /* several packets before a pass */
    uint64_t now_ns;
    uint64_t order;
    uint64_t heartbeat_every_ns;
    uint64_t nak_delay_ns;
    uint64_t window_bytes;
    uint64_t election_min_ns;
    uint64_t election_max_ns;
    uint64_t retransmit_ns;
    uint64_t hold_ns; /* leat_core_hold() */

    struct leat_rng net_rng;
    struct leat_rng disk_rng;
    struct leat_rng fault_rng;
    uint32_t loss_permille;
    uint32_t duplicate_permille;
    uint32_t reorder_permille;
    uint32_t datagram_cells;
    uint64_t delay_ns;
    uint64_t disk_ns;
    bool cut_link[LEAT_MEMBERS_MAX][LEAT_MEMBERS_MAX];

    struct replica replicas[LEAT_MEMBERS_MAX];
    struct frame frames[FRAMES_MAX];
    uint32_t frame_count;
    uint32_t packet_high;
    uint32_t packet_live;
    struct packet packets[PACKETS_MAX];
    struct checks checks;
    struct clients *clients;
    uint64_t injected[INJECTED_COUNT];
    uint64_t event_hash;
    uint64_t events;

    uint32_t line_count;
    char lines[LINES_KEPT][LINE_BYTES];
    void (*line_sink)(void *context, const char *line);
    void *line_context;
};

static inline uint32_t cell_of(uint64_t position)
{
    return (uint32_t)(position / CELL_BYTES);
}

static inline uint64_t frame_end(const struct frame *frame)
{
    return frame->position + (uint64_t)frame->cells * CELL_BYTES;
}

/* harness.c */
void cluster_init(struct cluster *cluster, uint8_t count, bool accepts_replicated, uint64_t seed);
void cluster_line(struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cluster_hash(struct cluster *cluster, uint64_t value);
bool cluster_chance(struct leat_rng *rng, uint32_t permille);
char replica_name(uint8_t self);
const char *network_kind_name(const struct packet *packet);
/* Lays a packet down to be delivered at `at_ns`, past all faults. */
void network_put(struct cluster *cluster, const struct packet *packet, uint64_t at_ns);
void network_send(struct cluster *cluster, const struct packet *packet);
void network_send_message(struct cluster *cluster, const struct leat_message *message,
                          const struct leat_run *runs, const uint32_t *cells, uint32_t cell_count);
void network_deliver(struct cluster *cluster, uint32_t index);
void network_drop_all_of(struct cluster *cluster, uint8_t node);
/* The earliest thing that waits; UINT64_MAX nothing. */
uint64_t cluster_next_ns(const struct cluster *cluster);
/* Moves the clock and does all that is due. */
void cluster_advance(struct cluster *cluster, uint64_t to_ns);
void cluster_heal(struct cluster *cluster);
uint8_t cluster_leader(const struct cluster *cluster); /* of the highest term; or NOBODY */

/* replica.c */
void replica_pass(struct cluster *cluster, struct replica *replica);
void replica_step(struct cluster *cluster, struct replica *replica,
                  const struct leat_core_input *input);
void replica_receive(struct cluster *cluster, struct replica *replica, const struct packet *packet);
void replica_tick(struct cluster *cluster, struct replica *replica);
/* Seals a frame at the end of a led log; false: no room. */
bool replica_append(struct cluster *cluster, struct replica *replica, const struct frame *frame);
void replica_publish(struct cluster *cluster, struct replica *replica);
bool replica_trim(struct cluster *cluster, struct replica *replica);
void sessions_apply_frame(struct cluster *cluster, struct leat_sessions *sessions,
                          const struct frame *frame);
void sessions_rebuild(struct cluster *cluster, struct leat_sessions *sessions, uint32_t last);
const struct frame *frame_in(const struct cluster *cluster, const uint32_t *cells,
                             uint64_t position);

/* disk.c */
void disk_add(struct cluster *cluster, struct replica *replica, struct disk_request request);
/* Its bytes reach the disk; nobody is told. */
void disk_land(struct replica *replica, const struct disk_request *request);
void disk_finish_first(struct cluster *cluster, struct replica *replica);
void replica_crash(struct cluster *cluster, struct replica *replica);
void replica_power_cut(struct cluster *cluster, struct replica *replica);
void replica_stop(struct cluster *cluster, struct replica *replica);
void replica_boot(struct cluster *cluster, struct replica *replica);

/* invariants.c */
void check_fail(struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void check_replica(struct cluster *cluster, struct replica *replica);
void check_message(struct cluster *cluster, struct replica *replica,
                   const struct leat_message *message);
void check_boot(struct cluster *cluster, struct replica *replica,
                const struct leat_core_boot *boot);
void check_forgive(struct cluster *cluster); /* replicated loss is allowed from here (W5) */
void check_equal(struct cluster *cluster);   /* after healing: all replicas are the same */

#endif
