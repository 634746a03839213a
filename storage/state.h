/* SPDX-License-Identifier: Apache-2.0
 *
 * The state of one worker's storage, private to storage/. Everything belongs to the worker's
 * thread but `struct log_helper`, whose words say who writes them.
 *
 * Positions of a log, in order:
 *   start_pos <= durable_pos <= issued_end <= want_end
 *   placed_done <= placed_pos <= block of issued_end
 * A batch is one journal record and the blocks that go in place with it. Batches are issued and
 * completed in order; durable_pos moves only when the oldest batch is complete.
 *
 * A log's entry in a record is whole or continues the entries before it (ADR 0025). One that
 * continues has the log's bytes from issued_end on. A whole one places all full blocks and has the
 * partial one: when it is complete, older records of the log are needed no more. The bytes from
 * placed_done on are in the tails of the records from live_at on.
 *
 * The journal's ring is addressed by a "virtual" offset that only grows; the place in the file
 * is that modulo LEAT_JOURNAL_BYTES. live_at of a log is where its newest completed record with a
 * whole entry is; as open finds it, the newest that is known to be that, or begins at or below what
 * is known to be in place.
 */
#ifndef LEAT_STORAGE_STATE_H
#define LEAT_STORAGE_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "damage.h"
#include "disk.h"
#include "files.h"
#include "image.h"
#include "storage/storage.h"

#define IN_FLIGHT_DEFAULT  1u
#define IN_FLIGHT_MAX      4u
#define READS_MAX          32u
#define PIECE_BYTES_MAX    (256u << 10) /* of a write in place */
#define WHOLE_PER_RECORD   16u          /* logs begun anew in a record before they have to be */
#define PIECES_PER_SUBMIT  8u           /* with hundreds of logs a submit else takes milliseconds */
#define READY_SLOTS        16u
#define BASE_SLOTS         16u
#define WHOLE_SLOTS        8u
#define WHOLE_EPOCH_BITS   20u
#define SEGMENT_FDS_MAX    (LEAT_DISK_DEPTH + 64u) /* more than requests: one is always free to go */
#define FULL_RETRY_NS      100000000ull
#define CHECK_NS           1000000000ull /* between two looks at the files */
#define LOG_WORDS          (LEAT_LOGS_MAX / 64)
#define AHEAD_MAX          8u
#define RECORD_BUFFERS     0 /* registered buffers: all records, then each arena */
#define ARENA_BUFFERS      1
#define OPERATIONS_MAX     (LEAT_DISK_DEPTH)
#define TRIES_MAX          1000u /* of one request that makes no progress */
#define IDLE_FLOOR_NS      1000000ull
#define PIN_WRITE_NS       500000000ull
#define HELPER_WRITE_BYTES (1u << 20)
#define REASON_BYTES       256u
#define NO_LOG             UINT32_MAX
#define NO_LINK            UINT32_MAX
#define BATCH_HEAD_BYTES   sizeof(struct leat_journal_record)

enum disk_slot { SLOT_LOCK, SLOT_JOURNAL, SLOT_VOTES, SLOT_COUNT };

static inline uint64_t block_of(uint64_t position)
{
    return position & ~(uint64_t)(LEAT_BLOCK_BYTES - 1);
}

static inline uint64_t block_end(uint64_t position)
{
    return block_of(position + LEAT_BLOCK_BYTES - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* All logs' whole entries at their longest, and what may be in flight or lost at the ring's end. */
#define JOURNAL_STATE_BYTES                                                                        \
    (LEAT_JOURNAL_LOGS *                                                                           \
     (sizeof(struct leat_journal_entry) + sizeof(struct leat_journal_claim) + LEAT_BLOCK_BYTES))
/* A log's newest whole entry may be this old before there is another: what is left of the ring
 * holds everybody's turn and once more that of a start, the records in flight, one that died with a
 * start, and one skipped at the ring's end each time. */
#define REEMIT_BYTES                                                                               \
    (LEAT_JOURNAL_BYTES - 2 * JOURNAL_STATE_BYTES -                                                \
     (IN_FLIGHT_MAX + 3) * LEAT_JOURNAL_RECORD_BYTES_MAX)

/* ---- requests to the disk ---- */

enum operation_kind { OPERATION_RECORD, OPERATION_PLACE, OPERATION_VOTE, OPERATION_READ };

struct operation {
    enum operation_kind kind;
    struct leat_disk_file file;
    uint8_t *bytes;
    uint32_t left_bytes;
    uint32_t rest_bytes; /* of a read, behind left_bytes: halved after an error */
    uint64_t offset;
    int buffer;
    struct segment_fd *segment; /* in use until this is done */
    unsigned tries;
    struct batch *batch;
    struct read_request *read;
    struct operation *next_free;
};

struct read_request {
    void *cookie;
    uint8_t *buffer;
    uint64_t position;
    uint32_t length_bytes; /* of the disk's */
    uint32_t done_bytes;
    uint32_t log_index;
    int64_t result;
    uint64_t durable_pos; /* as of the request */
    bool busy;
    bool finished;
    int fd; /* -1: nothing to read from disk */
};

/* ---- a log ---- */

/* A descriptor for writing, one of SEGMENT_FDS_MAX for all logs. */
struct segment_fd {
    uint64_t base_pos;
    uint64_t used_at; /* by a count of uses */
    uint32_t log_index;
    unsigned users; /* requests that name it */
    int fd;         /* -1: none */
};

/* The life of an index. What the helper has in hand is left alone by the worker but for its words;
 * every arrow is one function in life.c.
 *
 *   FREE -> MAKING (helper: files) -> NAMING (journal record) -> PLACING (helper: rename) -> LIVE
 *   LIVE -> ENDING (writes in flight) -> UNNAMING (journal record) -> REMOVING (helper) -> FREE
 */
enum log_state {
    LOG_FREE,
    LOG_MAKING,
    LOG_NAMING,
    LOG_PLACING,
    LOG_LIVE,
    LOG_ENDING,
    LOG_UNNAMING,
    LOG_REMOVING,
    LOG_REMOVED, /* its last records are still in flight */
};

enum helper_task { TASK_NONE, TASK_MAKE, TASK_PLACE, TASK_REMOVE };

/* Words shared with the helper. */
struct log_helper {
    _Atomic uint64_t want_begin;   /* worker writes: the first base not known to be ready */
    _Atomic uint64_t want_end;     /* worker writes: prepare the bases below */
    _Atomic uint64_t held_below;   /* worker writes, before unlink_below: not used again (H3) */
    _Atomic uint64_t unlink_below; /* worker writes, after the start record is durable */
    _Atomic bool waited_for;       /* worker writes: a write waits for a segment */
    _Atomic uint64_t ready[READY_SLOTS]; /* helper writes: base + 1, by (base / segment) % slots */
    uint64_t unlinked_pos;               /* the helper's: files below are gone */
    uint64_t preparing_pos;              /* the helper's: base, when preparing_fd >= 0 */
    uint64_t preparing_done;
    int preparing_fd;
    _Atomic int task;              /* worker writes: enum helper_task; helper: TASK_NONE */
    _Atomic int task_result;       /* helper writes, before TASK_NONE */
    _Atomic uint64_t sealed_begin; /* worker writes: the lowest base held */
    _Atomic uint64_t sealed_end;   /* worker writes: below, whole, durable and committed */
    _Atomic uint64_t sealed_epoch; /* worker writes: counts cuts and installs */
    _Atomic uint64_t suspect;      /* worker writes, where it is 0: base + 1 of bytes in doubt */
    _Atomic uint64_t asked;        /* worker writes: base + 1 that somebody waits for; helper: 0 */
    bool known;                    /* the helper's: the log is in service */
    uint64_t indexed_pos; /* the helper's: of segments below it made the index, or saw it */
    _Atomic uint64_t bases[BASE_SLOTS];  /* worker writes: a base's number << 32 | CRC below it */
    _Atomic uint64_t whole[WHOLE_SLOTS]; /* helper writes: segments that hold, without an index */
    _Atomic bool was_cut;                /* worker writes, before sealed_epoch: in any life */
    uint64_t doubted;    /* the helper's: base + 1 to be read for its own sake; 0: none */
    uint64_t sought;     /* the helper's: base + 1 of the lowest that somebody asks for; 0: none */
    uint64_t proved_pos; /* the helper's: the last that held and ended as it must */
    uint64_t proved_epoch;
    uint32_t proved_crc;    /* what the BASE frame at proved_pos continues */
    uint64_t failed;        /* the helper's: base + 1 of the last that was read in vain; 0: none */
    uint64_t rest_until_ns; /* who asks for anything meanwhile asks again */
    uint64_t active_pos;    /* the helper's: base of the file looked at, and its inode */
    uint64_t active_inode;
};

/* A log's whole entry as it is re-emitted while its arena is another log's already: between an
 * install's cut and its start record. The first record with it places what was not placed yet. */
struct frozen_entry {
    struct leat_journal_entry entry;
    struct leat_journal_claim claim;
    uint8_t tail[LEAT_BLOCK_BYTES];
    uint64_t place_pos;
    uint64_t place_end;
};

struct log {
    enum log_state state;
    unsigned flying; /* items in batches that are not reported */
    unsigned reads_flying;
    uint32_t log_id;
    uint32_t generation;
    struct leat_uuid uuid;
    struct leat_log_shape shape;
    uint64_t arena_bytes;
    bool accepts_replicated;
    bool lost_record;   /* a record that may have named this log is damaged */
    char directory[64]; /* relative to the worker's */

    struct leat_journal_entry found; /* as open found it */
    uint32_t newest_link;            /* until commit_begin: that entry, and the older ones */
    uint64_t found_placed;           /* blocks below are in place for certain */

    uint8_t *arena;
    int arena_buffer; /* registered buffer, or none */
    struct leat_uuid arena_id;
    struct leat_uuid boot;
    uint64_t recovered_placed_pos;

    bool begun;
    bool clean;      /* the clean-stop record is being written */
    bool installing; /* reset, and no record of the new base issued yet */
    bool amnesiac;
    bool installed_flag;
    bool genesis_damaged; /* the first frame was found damaged in its segment */
    bool claims;
    struct leat_journal_claim claim;

    uint64_t base_pos;    /* the lowest file held */
    uint64_t highest_pos; /* as open found it: the base of the highest file */
    uint64_t start_pos;
    uint64_t cut_epoch;
    uint64_t durable_pos;
    uint64_t issued_end;
    uint64_t want_end;
    uint32_t durable_crc; /* of the last frame below each of the three; 0: not known */
    uint32_t issued_crc;
    uint32_t want_crc;
    uint64_t placed_pos;  /* blocks below are in place or in an issued batch */
    uint64_t placed_done; /* blocks below are in place */
    bool whole_wanted;    /* the next entry has to be whole */
    uint64_t want_seq;
    uint64_t commit_d;
    uint64_t recorded_floor;
    uint64_t noted_base; /* the highest known to be committed and in place; UINT64_MAX: none */
    uint32_t noted_crc;  /* of the last frame below it */
    uint32_t last_term;
    bool want_report; /* want_seq is to be reported */
    bool say;         /* the next record shall name the log */
    bool cut_wanted;  /* a cut waits for its record */
    unsigned cuts_flying;
    uint64_t cut_pos;
    bool trim_wanted;

    bool queued;       /* in the queue of logs with something to say */
    bool floor_queued; /* in the queue of logs whose floor is behind */
    uint32_t next_queued;
    uint32_t next_floor;
    uint32_t younger; /* list by issued_at */
    uint32_t older;
    uint64_t issued_at; /* virtual offset of the newest issued record with a whole entry */
    uint64_t live_at;   /* of the newest completed one */
    uint64_t in_batch;  /* sequence of the newest record that names the log */

    uint64_t sealed_begin; /* both as published to the helper */
    uint64_t sealed_end;
    uint64_t ready_end; /* worker: segments below are ready */
    uint64_t want_ready;
    unsigned segment_hint; /* where its descriptor was last */

    uint32_t vote_term;
    uint32_t voted_for;
    uint64_t vote_seq; /* the highest asked for */
    bool vote_wanted;  /* waits for the next round */
    bool vote_flying;
    bool vote_report; /* round done, not reported yet */
    uint64_t vote_flying_seq;

    struct frozen_entry frozen;
    struct log_helper helper;
};

/* ---- a batch ---- */

struct batch_item {
    uint32_t log_index;
    bool report_write;
    bool report_cut;
    bool frozen; /* says what an older record said */
    bool whole;
    bool start_moved; /* the record's start_pos lets older files go */
    uint64_t end_pos; /* lowered by a cut */
    uint32_t end_crc;
    uint64_t write_seq;
    uint64_t cut_epoch;
    uint64_t floor_pos;
    uint64_t start_pos;
    uint64_t place_pos; /* next byte to be written in place */
    uint64_t place_end;
};

struct batch {
    uint8_t *record; /* LEAT_JOURNAL_RECORD_BYTES_MAX, block-aligned */
    uint32_t record_bytes;
    uint64_t at; /* virtual offset */
    uint64_t sequence;
    uint64_t oldest_live_at; /* of its logs, before it completes */
    uint64_t issued_ns;
    struct batch_item *items;
    unsigned item_count;
    unsigned placing; /* item whose blocks are being issued */
    unsigned reporting;
    unsigned operations; /* in flight */
    bool place_first;    /* the record only after all blocks in place (install, recovery) */
    bool record_issued;
};

/* ---- the whole ---- */

struct leat_storage {
    char path[LEAT_PATH_BYTES]; /* the data directory */
    char worker_path[LEAT_PATH_BYTES];
    struct leat_storage_config config;
    struct leat_identity identity;
    int lock_fd;
    int journal_fd;
    int votes_fd;
    struct leat_disk *disk;
    bool buffers_registered;
    bool read_only; /* inspection: not even the lock is signed */
    bool serving;   /* commit_begin is done */
    bool fenced;
    char fence_reason[REASON_BYTES];

    struct log *logs;   /* LEAT_LOGS_MAX */
    uint32_t log_count; /* the high-water mark */
    uint64_t *deleted;  /* until open is done: keys of logs that the journal says are deleted */
    uint32_t deleted_count;
    struct segment_fd segment_fds[SEGMENT_FDS_MAX];
    uint64_t segment_uses;
    uint64_t incarnation;
    struct journal_image image;
    uint8_t *segment_buffer; /* of the largest segment; until commit_begin */
    uint64_t segment_buffer_bytes;
    uint8_t *helper_zeros;

    struct operation operations[OPERATIONS_MAX];
    struct operation *free_operations;
    unsigned operations_free;
    bool unsubmitted; /* something was issued since the last submit */
    struct read_request reads[READS_MAX];
    unsigned reads_busy;

    uint64_t ring_head;       /* virtual */
    uint64_t record_sequence; /* of the next record */
    struct batch batches[IN_FLIGHT_MAX];
    unsigned batch_first;
    unsigned batch_count;
    unsigned batch_max;
    bool exclusive;      /* a place_first batch is in flight */
    unsigned whole_left; /* of WHOLE_PER_RECORD, in the record that is being built */
    uint32_t queue_head, queue_tail, queue_length;
    bool urgent;            /* something in the queue does not wait */
    uint64_t lazy_since_ns; /* when the oldest of what may wait was queued; 0: nothing */
    uint64_t lazy_bytes;
    uint32_t floor_head, floor_tail;
    uint32_t oldest, youngest;
    uint64_t active_ns; /* when a batch was last issued or completed */
    uint64_t seen_ns;   /* the clock of the last submit */

    uint8_t *vote_slot;  /* the image being written */
    unsigned vote_stage; /* 0: none in flight, 1: a round's first slot, 2: its second one */
    uint32_t vote_first; /* the slot that rounds begin with: not the one that was read at open */
    uint32_t vote_bytes;
    uint64_t vote_sequence;
    unsigned votes_wanted; /* logs that wait for a round */
    unsigned votes_to_report;
    struct leat_peer_pin pins[LEAT_MEMBERS_MAX];
    unsigned pin_count;
    bool pins_changed;
    uint64_t pins_changed_ns;

    uint64_t vote_issued_ns;

    /* between worker and helper: a bit for each log */
    _Atomic uint64_t work[LOG_WORDS];     /* worker sets, helper takes: look at this log */
    _Atomic uint64_t pressing[LOG_WORDS]; /* the same, first of all: something waits for it */
    _Atomic uint64_t done[LOG_WORDS];     /* helper sets, worker takes: its task is done */
    _Atomic uint32_t attention;           /* helper raises: something is done, or it fences */
    _Atomic int helper_errno;             /* helper writes after helper_what: fence */
    const char *helper_what;
    _Atomic bool full;
    _Atomic uint64_t full_waits;
    _Atomic uint64_t scrubbed_bytes;
    struct damage damages[DAMAGES_MAX];        /* known: reported, or to be */
    unsigned damage_count;                     /* to be reported */
    struct helper_report reports[REPORTS_MAX]; /* helper writes, worker reads */
    _Atomic uint32_t report_head;              /* worker writes */
    _Atomic uint32_t report_tail;              /* helper writes */
    struct repair repair;
    struct scrub *scrub; /* the helper's, as are the rest */
    uint64_t full_since_ns;
    uint64_t checked_ns;
    uint32_t checked_log;
    uint32_t helper_log;

    struct leat_storage_counters counters;
    struct leat_histogram latency;
};

/* A failed write or flush: nothing leaves this node any more (V4). */
void storage_fence(struct leat_storage *storage, const char *what, int error_number);
struct operation *operation_take(struct leat_storage *storage, enum operation_kind kind);
void operation_issue(struct leat_storage *storage, struct operation *operation);

/* lock.c */
int lock_take(const char *path, const struct leat_storage_config *config, int *ret_fd, char *error,
              unsigned error_bytes);
void lock_sign(int fd);
/* At once, though the kernel takes its time to drop a ring's table of files. Only when nothing
 * is in flight. */
void lock_release(int fd);

/* tidy.c: what a crash left of logs being made or deleted */
/* Every directory of the worker belongs to a log, or to one that came or went. */
int tidy_check(struct leat_storage *storage, char *error, unsigned error_bytes);
int tidy(struct leat_storage *storage, char *error, unsigned error_bytes);

/* open.c */
int identity_read(const char *directory, struct leat_identity *ret_identity, char *error,
                  unsigned error_bytes);
void storage_free(struct leat_storage *storage);
int storage_open(const struct leat_storage_config *config, bool read_only,
                 struct leat_storage **ret_storage, char *error, unsigned error_bytes);

/* log.c: queues and the list by age of the newest record */
void log_queue(struct leat_storage *storage, uint32_t index);
/* As above, but the queue as a whole may wait (leat_storage_write_lazily). */
void log_queue_lazily(struct leat_storage *storage, uint32_t index);
uint32_t log_unqueue(struct leat_storage *storage);
void log_floor_queue(struct leat_storage *storage, uint32_t index);
uint32_t log_floor_unqueue(struct leat_storage *storage);
void log_age_insert(struct leat_storage *storage, uint32_t index);
void log_age_remove(struct leat_storage *storage, uint32_t index);
void log_age_touch(struct leat_storage *storage, uint32_t index);
uint32_t log_find(const struct leat_storage *storage, uint32_t log_id);
uint64_t log_key(uint32_t log_id, uint32_t generation);

/* segment.c */
void segment_path(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                  char path[LEAT_PATH_BYTES]);
void segment_index_path(const struct leat_storage *storage, const struct log *log,
                        uint64_t base_pos, char path[LEAT_PATH_BYTES]);
/* Its index is there and whole: all of the segment was read through since it was sealed. */
bool segment_index_holds(const struct leat_storage *storage, const struct log *log,
                         uint64_t base_pos);
void segment_repair_path(const struct leat_storage *storage, const struct log *log,
                         uint64_t base_pos, char path[LEAT_PATH_BYTES]);
void log_directory_name(uint32_t log_id, uint32_t generation, char name[64]);
bool segment_parse_name(const char *name, uint64_t *ret_base_pos);
/* NULL with errno set: the file cannot be opened. */
struct segment_fd *segment_for_write(struct leat_storage *storage, uint32_t index,
                                     uint64_t base_pos);
void segment_close_of(struct leat_storage *storage, uint32_t index);
/* What lies below has left the log, durably: descriptors go, and the helper is told. */
void segment_leave_below(struct leat_storage *storage, uint32_t index, uint64_t end_pos);
bool log_waits(const struct log *log); /* for a segment; either thread */
/* Somebody has files below open: they will not be used again. */
void segment_hold_below(struct log *log, uint64_t end_pos);
int segment_open_for_read(const struct leat_storage *storage, const struct log *log,
                          uint64_t base_pos);
void segment_close_all(struct leat_storage *storage);
bool segment_reserve(int fd, uint64_t segment_bytes);
/* Takes note of segments that the helper has made ready; true when all below end_pos are. */
bool segment_ready_below(struct log *log, uint64_t end_pos);
void segment_want(struct leat_storage *storage, uint32_t index, uint64_t end_pos);

/* journal.c */
void journal_entry_fill(const struct log *log, uint64_t end_pos, uint64_t floor_pos,
                        uint64_t placed_pos, uint32_t tail_bytes, uint32_t flags,
                        struct leat_journal_entry *ret_entry);
uint32_t journal_entry_bytes(const struct leat_journal_entry *entry);
void journal_record_seal(const struct leat_storage *storage, struct batch *batch,
                         uint32_t used_bytes);
/* Fills what is the same in each record, pads the record that is laid behind it, and seals. */
void journal_record_finish(struct leat_journal_record *head, const struct leat_identity *identity,
                           uint32_t used_bytes);

/* overlay.c: the tails of journal records over blocks as the disk has them. */
/* Finds what of the log is in place for certain, and the oldest record that has the rest. */
void overlay_find_live(const struct journal_image *image, struct log *log);
/* Lays them over `bytes`, the content of [begin_pos, end_pos) as the segment has it. Returns the
 * lowest block that the disk did not hold, or end_pos. */
uint64_t overlay_apply(const struct leat_storage *storage, const struct log *log, uint8_t *bytes,
                       uint64_t begin_pos, uint64_t end_pos);
/* Reads [begin_pos, end_pos), whole blocks within one segment, overlaid; what cannot be read is
 * zero. Returns 0, or LEAT_EIO when the file cannot be opened. */
int overlay_read(const struct leat_storage *storage, struct log *log, uint8_t *bytes,
                 uint64_t begin_pos, uint64_t end_pos, uint64_t *ret_missing_pos);

/* genesis.c: the copy of a log's first frame, which says its sizes */
/* Into a directory that is flushed later. Returns 0 or LEAT_ESYSTEM with errno set. */
int genesis_write(const char *directory, const void *frame, uint64_t extent);
static inline uint32_t genesis_crc(const void *frame)
{
    return ((const struct leat_frame *)frame)->crc;
}
/* Lays the copy over the log's first bytes where the frame there does not hold. */
void genesis_lay(const struct leat_storage *storage, struct log *log, uint8_t *bytes,
                 uint64_t length);
/* And in place. */
int genesis_mend(struct leat_storage *storage, char *error, unsigned error_bytes);

/* batch.c */
/* The BASE frame at base_pos is committed, in place, and behind a frame of this CRC. */
void log_note_base(struct log *log, uint64_t base_pos, uint32_t crc);
/* Notes the highest such base, if memory up to `reach` has it. */
void log_look_for_base(struct log *log, uint64_t reach);
bool batch_build(struct leat_storage *storage, uint64_t now_ns, bool floors);
void batch_issue(struct leat_storage *storage);
void batch_clamp(struct leat_storage *storage, uint32_t index, uint64_t position, uint32_t crc);
bool batch_is_complete(const struct batch *batch);

/* pass.c */
void pass_reap(struct leat_storage *storage, uint64_t now_ns);
/* Gives back what has completed, whatever its result. */
void pass_reap_and_drop(struct leat_storage *storage);
unsigned pass_report(struct leat_storage *storage, uint64_t now_ns,
                     struct leat_storage_event *events, unsigned max);
/* Blocks until every batch and vote round is complete; events are dropped. */
int pass_drain(struct leat_storage *storage);

/* votes.c */
struct vote_state {
    struct leat_vote_slot head;
    struct leat_peer_pin pins[LEAT_MEMBERS_MAX];
    struct leat_vote votes[LEAT_LOGS_MAX];
};
uint32_t votes_encode(uint8_t *slot_bytes, const struct vote_state *state, uint32_t slot);
bool votes_decode(const uint8_t *slot_bytes, uint32_t slot, const struct leat_uuid *node,
                  struct vote_state *ret_state);
int votes_read(struct leat_storage *storage, char *error, unsigned error_bytes);
void votes_issue(struct leat_storage *storage, uint64_t now_ns);
void votes_written(struct leat_storage *storage);
unsigned votes_report(struct leat_storage *storage, struct leat_storage_event *events,
                      unsigned max);

/* life.c: logs at run time */
/* A record that names the log is complete; a read of it is. */
static inline bool life_has_record(enum log_state state)
{
    return state != LOG_FREE && state != LOG_MAKING && state != LOG_REMOVED;
}
void life_settle(struct leat_storage *storage, uint32_t index);
/* Once for each segment until it is repaired. */
void life_damage(struct leat_storage *storage, const struct helper_report *report);
bool life_damage_is_known(const struct leat_storage *storage, uint32_t index, uint64_t base_pos);
void life_publish_sealed(struct leat_storage *storage, uint32_t index);
unsigned life_report(struct leat_storage *storage, struct leat_storage_event *events, unsigned max);

/* prepare.c */
uint64_t helper_now_ns(void);
/* A failure of the helper's that is the node's end. */
void helper_fence(struct leat_storage *storage, const char *what, int error_number);
void helper_look_at(struct leat_storage *storage, uint32_t index);
void helper_press(struct leat_storage *storage, uint32_t index);
bool helper_has_no_space(struct leat_storage *storage, int error_number);

/* making.c: the helper's tasks of a log's life */
bool making_step(struct leat_storage *storage, uint32_t index);
void making_path(const struct leat_storage *storage, const struct log *log, const char *prefix,
                 char path[LEAT_PATH_BYTES]);
int making_remove(const char *directory);

/* read.c */
/* The block at `offset` of the segment that is being read cannot be. */
void read_damaged(struct leat_storage *storage, const struct read_request *read, uint64_t offset);
unsigned reads_report(struct leat_storage *storage, struct leat_storage_event *events,
                      unsigned max);

#endif
