/* SPDX-License-Identifier: Apache-2.0
 *
 * One log on its worker: the consensus core, the arena, the end of the chain, the session tables
 * and the cursors that go over committed frames. The rooms:
 *
 *   arena.c     the tmpfs file: open, judge (W4), publish
 *   log.c       what a frame does to the state: append, walk, commit, base frames, cut
 *   assemble.c  a follower's half: bytes in any order to verified frames, NAKs
 *   send.c      a leader's half: ranges to datagrams, catch-up from disk
 *   retention.c trims by bytes and age
 *   log_boot.c  recovery to a running log
 *   log_life.c  a log that comes or goes while its worker runs
 *   pass.c      who calls all of these, in what order
 */
#ifndef LEAT_NODE_LOG_H
#define LEAT_NODE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/base_frame.h"
#include "base/frame.h"
#include "base/ring.h"
#include "base/trace.h"
#include "replication/core.h"
#include "replication/sessions.h"
#include "storage/storage.h"

#define NODE_LOGS_MAX      LEAT_LOGS_MAX
#define NODE_INTERVALS_MAX 64u
#define NODE_NO_CLIENT     UINT32_MAX
#define NODE_PADS          8u
/* Of the arena, kept free for the BASE and TERM frames of a later leader, whatever else waits. */
#define NODE_ARENA_RESERVE_BYTES (1u << 19)

struct node_worker;
struct boot_log;

struct node_arena {
    struct leat_arena_header *header;
    uint8_t *bytes; /* ring of arena_bytes */
    uint64_t *hints;
    uint64_t arena_bytes;
    int descriptor; /* read-write, the worker's */
    char path[320];
};

struct node_interval {
    uint64_t begin;
    uint64_t end;
};

/* Bytes received above the verified end, sorted, disjoint, not touching. */
struct node_assembler {
    /* The end of what is verified: beyond log->chain while a batch is not there to its last frame.
     * Dropped with all that lies above log->chain; valid only when beyond it. */
    struct leat_chain ahead;
    uint32_t count;
    struct node_interval intervals[NODE_INTERVALS_MAX];
    uint64_t gap_since_ns; /* a gap stands since; 0 none */
    uint64_t nak_sent_ns;
    uint64_t nak_begin;   /* what it asked for, */
    uint64_t nak_wait_ns; /* and how long it waits before it asks again */
};

/* What goes to one peer, sliced into datagrams a burst at a time. */
struct node_send {
    struct leat_message header; /* the newest APPEND for that peer */
    struct node_interval range;
    struct node_interval resend;
    bool reading;      /* a catch-up read from disk is in flight */
    uint64_t retry_ns; /* not before: the last read failed */
    uint64_t read_begin;
    uint64_t read_end;
    uint32_t read_bytes;
    uint8_t *read_buffer; /* one of the worker's catch-up buffers, while it is used; else NULL */
    uint64_t again_pos;   /* where the peer ended when it needed it, and how often it did */
    uint32_t again_count;
    uint32_t head_count; /* how often the bytes at head_pos went, where the peer ends; 0: never */
    uint64_t head_pos;
    uint64_t head_ns;
};

/* A client whose session seems lost at its leader: said only when a round, begun after that was
 * seen, proves that this node leads still (forward.c). */
#define NODE_DOUBTS 8u
struct node_doubt {
    struct leat_uuid client;
    uint64_t round; /* 0: free */
    uint64_t begun_ns;
    uint32_t term;
};

/* Who asked where the log ends, at its leader (tail.c): by member, the highest question. */
struct node_tail {
    uint64_t round; /* under way; 0: none */
    uint32_t pending_count;
    uint64_t pending[LEAT_MEMBERS_MAX];
    uint64_t flying[LEAT_MEMBERS_MAX];
};

/* A session is idle when all its appends lie below a mark of that age (ADR 0061). */
#define NODE_MARKS 8u

struct node_mark {
    uint64_t ns; /* monotonic */
    uint64_t position;
    uint64_t time_ns; /* log time */
};

struct node_log_counters {
    uint64_t appends; /* records sealed here as leader */
    uint64_t append_bytes;
    uint64_t frames_verified;
    uint64_t frames_refused; /* broke the chain: interval cleared and asked for again */
    uint64_t datagrams_duplicate;
    uint64_t datagrams_window;
    uint64_t naks_sent;
    uint64_t catchup_reads;
    uint64_t catchup_errors;
    uint64_t rollbacks;
    uint64_t forwards_in;
    uint64_t forward_gaps;
    uint64_t damages; /* segments found damaged */
    uint64_t repairs; /* and repaired from peers */
    uint64_t appends_no_space;
};

/* What each pass touches comes first, and the large tables lie elsewhere: with hundreds of logs a
 * pass goes over as many of these, and every page of one costs a TLB entry. */
struct node_log {
    struct node_worker *worker;
    struct leat_sessions *committed;
    struct leat_sessions *tail; /* leader only: as of the log's end */
    struct boot_log *boot;      /* what recovery found, until the log serves */
    uint32_t index;             /* in storage, and the arena's number for the port */
    uint32_t id;
    uint32_t generation;
    uint32_t role_epoch; /* counts changes of leader: clients submit again */
    bool active;         /* in the worker's list of logs to be gone over in this pass */
    bool accepts_replicated;
    bool tail_is_valid;
    bool installing; /* reset to a base whose frame has not come yet: the chains are not known */
    uint32_t mark_count;
    uint64_t cut_settled;     /* cut epoch that storage is done with; 0 none */
    uint64_t durable_wanted;  /* somebody waits for what lies below to be durable */
    uint64_t write_asked;     /* end of the last write asked of storage */
    uint64_t kept_end;        /* of the BASE frame at which it was cut, which storage keeps */
    uint64_t needed_from;     /* log_needed_from() as of this pass */
    uint64_t append_limit;    /* of the core, as of this pass */
    uint64_t commit_moved_ns; /* when commitD last rose */
    uint64_t told_commit_r;   /* the highest commitR that readers were ever shown here (W6) */
    uint64_t expired_ns;      /* when sessions were last looked through */
    uint64_t trim_committed;
    uint64_t trim_tail;
    uint64_t fence_committed; /* writers of a lower epoch are shut out */
    uint64_t fence_tail;
    uint64_t retention_bytes; /* 0: keeps everything */
    uint64_t retention_ns;
    uint64_t retention_ns_looked;
    struct leat_log_shape shape;
    struct leat_chain chain;     /* at the log's end: sealed or verified; a batch's end */
    struct leat_chain applied;   /* at commitD: sessions, base frames, completions */
    struct leat_chain completed; /* at commitR, or behind: completions of that level */
    struct node_tail tail_asked;
    struct node_arena arena;
    struct leat_core core;
    struct node_assembler assembler;
    struct node_send sends[LEAT_MEMBERS_MAX];
    uint64_t traced[LEAT_TRACE_POINTS]; /* how far trace.c saw it */
    struct node_log_counters counters;
    uint64_t pads[NODE_PADS]; /* by segment modulo: where its closing PAD frame lies, 0 none */
    uint32_t owners[LEAT_SESSIONS_MAX]; /* by session - 1: attached client slot, or none */

    struct leat_uuid uuid;
    struct leat_base_head base_head; /* what does not change, from the genesis frame */
    struct leat_base_member members[LEAT_MEMBERS_MAX];
    struct node_mark marks[NODE_MARKS]; /* of the present reign; where its log ended, when */
    struct node_doubt doubts[NODE_DOUBTS];
    uint32_t expire_cursor;
    uint32_t crowd_uid;        /* the user that was last refused for its share of sessions, */
    uint64_t crowd_ns;         /* and when; 0: none was */
    uint64_t oldest_next_base; /* the BASE behind the oldest segment, when it was read: */
    uint64_t oldest_time_ns;   /* the oldest segment's last log time */
};

static inline uint8_t *log_at(const struct node_log *log, uint64_t position)
{
    return log->arena.bytes + (position & (log->arena.arena_bytes - 1));
}

/* arena.c */
/* The node's own directory below `directory`, made and judged. */
int node_arena_directory(const char *directory, const struct leat_uuid *node, char *path,
                         size_t path_bytes, char *error, unsigned error_bytes);
int node_arena_open(struct node_arena *arena, const char *directory, const struct leat_uuid *node,
                    const struct leat_storage_log_info *info, const struct leat_uuid *boot,
                    bool *ret_valid, char *error, unsigned error_bytes);
/* Begins a new arena in the file: all state dropped, a new id. */
void node_arena_reset(struct node_arena *arena, const struct leat_storage_log_info *info,
                      const struct leat_uuid *boot);
void node_arena_close(struct node_arena *arena);
void node_arena_horizon(struct node_arena *arena, uint64_t end_pos);
/* A frame begins at `position`: noted when it is its piece's first. */
void node_arena_hint(struct node_arena *arena, uint64_t position);
/* [position, end_pos) is cut. */
void node_arena_unhint(struct node_arena *arena, uint64_t position, uint64_t end_pos);
static inline uint64_t node_arena_low(const struct node_arena *arena)
{
    return arena->header->horizon.value;
}

/* log.c */
/* Who leads, for clients: written when it changed (base/arena.h). */
void node_arena_leadership(struct node_arena *arena, uint32_t term, uint32_t leader_node,
                           enum leat_arena_role role);

/* What a client wants appended, wherever it came from. */
struct node_append {
    uint64_t sequence;
    enum leat_level level;
    enum leat_ring_kind kind; /* APPEND, BATCH, FENCE */
    bool conditional;
    bool again; /* a former node had it */
    uint32_t writer_epoch;
    uint64_t condition; /* conditional: the offset that the log must be at */
    const void *payload;
    uint32_t payload_bytes;
};

/* Seals one frame (and what must come before it: a closing PAD, a BASE) at the end of a led log.
 * Returns 0, LEAT_EAGAIN (window or arena full: nothing changed), LEAT_ETOOBIG. */
int log_append(struct node_log *log, uint32_t type_flags, uint32_t session, uint64_t sequence,
               const void *payload, uint32_t payload_bytes);
/* Seals a client's append of `session`: its frame, a batch's frames, or the REFUSED frame that its
 * condition or its writer's epoch earned it. Also LEAT_EPROTO: not a batch. */
int log_append_client(struct node_log *log, uint32_t session, const struct node_append *append);
/* A batch's records: their lengths (room for LEAT_BATCH_RECORDS_MAX), and what they take in the
 * log. Returns 0, LEAT_EPROTO or LEAT_ETOOBIG. */
int log_batch_parse(const struct node_log *log, const void *payload, uint32_t payload_bytes,
                    uint32_t *lengths, uint32_t *ret_count, uint64_t *ret_frames_bytes);
/* What is told of an append whose sequence is in the session's committed row or below. Of an older
 * one only: LEAT_EUNKNOWN, recorded, or LEAT_ECLOSED when it may have been refused at that time. */
int log_recorded_error(const struct node_log *log, const struct leat_session_row *row,
                       const struct node_append *append);
void log_append_term(struct node_log *log);
/* Tells clients who leads now. */
void log_tell_leadership(struct node_log *log);
/* Publishes what was sealed in this pass and tells the core. */
void log_publish(struct node_log *log);
/* Goes over frames that commits now cover: sessions, base frames, trims, completions. Returns
 * LEAT_OK, or LEAT_ECORRUPT when a base frame differs from this replica's own (fence). */
int log_apply_commits(struct node_log *log);
void log_cut(struct node_log *log, const struct leat_core_effects *effects);
/* Takes over what a BASE frame says: sessions, trim, the chains at its position. */
void log_load_base(struct node_log *log, const struct leat_chain *chain, const void *payload);
void log_rebuild_tail(struct node_log *log);
/* The follower that is furthest, by member index; -1: none has reconciled. */
int log_best_follower(const struct node_log *log);
/* Asks the core to hand leadership to a member. */
void log_transfer(struct node_log *log, int member);
/* The lowest position whose arena bytes are still needed by disk, port or cursors. */
uint64_t log_needed_from(struct node_log *log);
/* Bytes of frames may be laid below this: beyond, the arena still holds what is needed. */
static inline uint64_t log_arena_limit(const struct node_log *log)
{
    return log->needed_from + log->arena.arena_bytes - NODE_ARENA_RESERVE_BYTES;
}
/* This node leads the log, and its TERM frame is committed: no log without it can win any more, so
 * what this one lacks is not going to be committed. */
bool log_rules(const struct node_log *log);
/* Appends cannot go on for want of space on this node's disk, and no majority commits without. A
 * leader that has not committed its TERM frame for that very reason says so too: log_rules() is
 * another matter. */
bool log_has_no_space(const struct node_log *log);
/* A frame was sealed, verified or found at `position`. */
void log_note_frame(struct node_log *log, uint64_t position, const struct leat_frame *frame);

/* assemble.c */
void log_receive(struct node_log *log, const struct leat_message *message, const uint8_t *payload,
                 uint32_t payload_bytes);
/* Verifies what became contiguous. Returns LEAT_OK, or LEAT_EVERSION: an unknown frame, halt. */
int log_verify(struct node_log *log);
void log_assembler_clear(struct node_log *log);
void log_nak(struct node_log *log, uint64_t now_ns);

/* send.c */
void log_send_append(struct node_log *log, const struct leat_message *message);
/* Sends up to a burst per peer of what is queued. Returns the work done. */
unsigned log_send_burst(struct node_log *log);
void log_send_message(struct node_log *log, const struct leat_message *message);
void log_send_read_done(struct node_log *log, unsigned member,
                        const struct leat_storage_event *event);
void log_send_clear(struct node_log *log);
/* Something is still to be sent, or read to be sent. */
bool log_send_pending(const struct node_log *log);

#endif
