/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker's durable state: its journal, vote slots and the segments of its logs, written
 * through one io_uring with O_DIRECT and RWF_DSYNC.
 *
 * Threads: everything on the worker's thread, but for leat_storage_prepare_step (the helper
 * thread that makes segments ahead of need, of trimmed ones or of zeros). Nothing allocates
 * after leat_storage_open. The functions of the pass (write, cut, vote, submit, poll) never block.
 *
 * A write is named by its sequence number, not by a position: the core withholds a vote or an
 * acknowledgement until the number that justifies it is reported. Numbers of
 * one log are reported in order. Any failed write or flush fences (V4): every function of the
 * pass then returns or reports LEAT_EFENCED for ever and nothing further is reported as durable.
 *
 * Life of a log: open -> leat_storage_recover -> leat_storage_begin -> writes ... -> stop.
 */
#ifndef LEAT_STORAGE_STORAGE_H
#define LEAT_STORAGE_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base_frame.h"
#include "base/histogram.h"
#include "storage/format.h"

struct leat_storage;

/* ---- format ---- */

/* What struct leat_catalogue_row says of a log. */
struct leat_format_log {
    uint32_t log_id;
    uint32_t entry_bytes_max;
    uint64_t segment_bytes;
    uint64_t arena_bytes;
    bool accepts_replicated;
    uint32_t generation; /* 0: the first */
    uint32_t owner_uid;
    uint64_t retention_bytes;             /* 0: none */
    uint64_t retention_ns;                /* 0: none */
    char name[LEAT_CATALOGUE_NAME_BYTES]; /* empty: log 0 "catalogue", log 1 "default" */
};

struct leat_format_config {
    const char *directory;
    struct leat_uuid cluster;
    uint32_t node_id;
    uint32_t worker_count;
    uint32_t member_count;
    uint32_t member_ids[LEAT_MEMBERS_MAX]; /* sorted */
    uint32_t log_count;
    struct leat_format_log logs[2]; /* 0: catalogue, 1: default */
};

#define LEAT_WORKERS_MAX 16u

/* The genesis BASE frame of a log: a pure function of its arguments. That of log 0 carries the
 * catalogue rows of config->logs, so these must be what format was given; for any other log only
 * cluster and members of `config` count. `to` has room for a block. Returns its extent in bytes. */
uint64_t leat_genesis_frame(const struct leat_format_config *config,
                            const struct leat_format_log *log, void *to);

/* Makes a data directory with a new node uuid and the logs' genesis frames, all durable; the
 * identity last, so that a crash in between leaves an unformatted directory. Refuses a directory
 * that is formatted (LEAT_EEXISTS) or holds anything else (LEAT_EINVAL). `error`: one line. */
int leat_storage_format(const struct leat_format_config *config, char *error, unsigned error_bytes);

/* ---- open ---- */

#define LEAT_PLACE_BYTES_MAX (32u << 10)

struct leat_storage_config {
    const char *directory;
    struct leat_uuid cluster;              /* zero: not checked */
    uint32_t node_id;                      /* 0: not checked */
    uint32_t member_count;                 /* 0: not checked */
    uint32_t member_ids[LEAT_MEMBERS_MAX]; /* sorted */
    uint32_t worker;
    uint32_t worker_count;
    uint32_t writes_in_flight_max; /* journal records at once; 0: the default */
    uint32_t place_bytes;    /* of a log wait in the journal before they go in place, twice as many
                              * when    it is many logs' turn; whole blocks, at most
                              * LEAT_PLACE_BYTES_MAX;    0: that */
    uint32_t segments_ahead; /* made ahead of need, once the active one is half full */
    uint64_t scrub_bytes_per_s; /* of sealed segments, by the helper; 0: none are read */
    uint32_t lock_wait_ms;      /* for a dead owner's last writes */
    void (*progress)(void *context, const char *line); /* NULL: silent */
    void *progress_context;
};

/* Locks (V3), checks the identity, flushes, reads vote slots and journal. Everything that is
 * refused is refused before a byte is changed. Errors: LEAT_EUNFORMATTED, ECLUSTER, ENODE,
 * ECONFIG (other members), EWORKERS, EVERSION, EINUSE, EVOTES, ECORRUPT (no valid journal record),
 * ESYSTEM; `error`: one line that names the thing and says what to do. */
int leat_storage_open(const struct leat_storage_config *config, struct leat_storage **ret_storage,
                      char *error, unsigned error_bytes);

/* Waits for what is in flight, then closes. After a fence too. */
void leat_storage_close(struct leat_storage *storage);

const struct leat_identity *leat_storage_identity(const struct leat_storage *storage);

/* True when the arenas' memory was registered with the ring. */
bool leat_storage_buffers_registered(const struct leat_storage *storage);

/* ---- recovery ---- */

/* What the journal knows of a log before its frames are read. */
struct leat_storage_log_info {
    uint32_t log_id;
    uint32_t generation;
    struct leat_uuid log;
    struct leat_log_shape shape;
    uint64_t arena_bytes;
    bool accepts_replicated;
    struct leat_journal_entry entry; /* of the newest valid record */
    uint32_t vote_term;
    uint32_t voted_for; /* node id, or LEAT_VOTED_NONE */
};

/* The high-water mark of indices: those of deleted logs are used again. */
uint32_t leat_storage_log_count(const struct leat_storage *storage);

/* True from open, or from its CREATED event, until leat_storage_log_delete(). */
bool leat_storage_log_exists(const struct leat_storage *storage, uint32_t index);
int leat_storage_log_info(const struct leat_storage *storage, uint32_t index,
                          struct leat_storage_log_info *ret_info);

/* The arena as the caller found it: `bytes` is its ring of arena_bytes, page-aligned; NULL: none,
 * the log is only looked through. */
struct leat_storage_arena {
    uint8_t *bytes;
    bool valid; /* boot id, log uuid, generation and arena id agree with the journal's (W4) */
    uint64_t *published_end; /* of a valid one: 0 from when its bytes are taken from the disk */
};

enum leat_recovery_kind {
    LEAT_RECOVERED_DISK,  /* arena invalid or dropped: M = D = disk */
    LEAT_RECOVERED_ARENA, /* M = the arena's published end, D = where disk and arena agree */
};

struct leat_recovered {
    enum leat_recovery_kind kind;
    bool clean;         /* after a clean stop */
    bool torn;          /* something above the highest floor was cut: [torn_pos, torn_end) */
    bool damaged;       /* a bad byte below the highest floor at end: claim_* name what it had */
    uint64_t base_pos;  /* the lowest segment held */
    uint64_t start_pos; /* the base that recovery began at */
    struct leat_chain chain; /* at M */
    uint64_t durable_pos;    /* D, flushed */
    uint32_t durable_crc;    /* of the last frame below D */
    uint64_t commit_d; /* the highest that the journal knew, at most D; damaged: less (recover.c) */
    uint64_t cut_epoch;
    uint64_t torn_pos;
    uint64_t torn_end;
    uint32_t start_crc; /* of the last frame below start_pos */
    uint32_t claim_term;
    uint32_t reserved;
    uint64_t claim_end;
    uint64_t horizon_pos; /* the lowest position whose bytes are in the arena now */
};

/* Called for every frame from start_pos on, in order, each one checked. */
typedef void leat_frame_visit(void *context, uint64_t position, const struct leat_frame *frame,
                              const void *payload);

/* Applies the decision tables of W4 and V2 (docs/recovery.md) to log `index`: flushes, chooses
 * the base to begin at (the highest committed one whose segment is held), verifies the chain,
 * fills the arena. Reads only; nothing is written to disk. An arena that is filled from the disk
 * says so from the first byte on (its published end is 0): neither a second call nor the start
 * behind one that died takes it for memory that was kept. */
int leat_storage_recover(struct leat_storage *storage, uint32_t index,
                         const struct leat_storage_arena *arena, leat_frame_visit *visit,
                         void *context, struct leat_recovered *ret_recovered, char *error,
                         unsigned error_bytes);

/* Takes the log into service at `recovered`: the arena id and boot id to journal, amnesia as the
 * caller decided it. Nothing is durable until leat_storage_commit_begin(). */
int leat_storage_begin(struct leat_storage *storage, uint32_t index,
                       const struct leat_recovered *recovered, const struct leat_uuid *arena,
                       const struct leat_uuid *boot, bool amnesiac);

/* Persists a new incarnation (both vote slots) and one journal record with the state of every
 * log that began. Blocks; to be called once, before the first packet and before the arenas are
 * used. *io_incarnation: 0, or the one that the node's first worker was given (the same for all
 * workers of a process). Returns 0 and the incarnation, LEAT_ECORRUPT (this worker's directory has
 * seen a later one), or LEAT_EFENCED. */
int leat_storage_commit_begin(struct leat_storage *storage, uint64_t *io_incarnation);

/* ---- logs at run time ---- */

struct leat_storage_create {
    struct leat_format_log log; /* its sizes: leat_log_sizes_are_legal() */
    uint8_t *arena_bytes;       /* the ring, log.arena_bytes, page-aligned */
    struct leat_uuid arena;     /* as for leat_storage_begin() */
    struct leat_uuid boot;
};

/* Makes a log while the storage serves: never blocks. The genesis frame is laid into the arena at
 * once; the helper makes directory and first segment, a journal record names the log, then
 * LEAT_STORAGE_CREATED is reported: result LEAT_OK, and the log is in service with M = D = the
 * genesis frame's extent (event.sequence), or LEAT_ENOSPACE / LEAT_ESYSTEM, and there is no such
 * log. Until then nothing else may be asked of the index. Returns LEAT_OK and the index,
 * LEAT_EINVAL (sizes), LEAT_EEXISTS (id and generation are in use, also by one being deleted),
 * LEAT_EBUDGET (LEAT_LOGS_MAX logs: the journal's ring holds no more), LEAT_EFENCED. */
int leat_storage_log_create(struct leat_storage *storage, const struct leat_storage_create *create,
                            uint32_t *ret_index);

/* Deletes a log that exists: never blocks. From now on nothing may be asked of the index and
 * nothing of the log is reported but reads in flight and, when its writes in flight are done, its
 * deletion is journalled and its files are gone, LEAT_STORAGE_DELETED. Only then may the arena's
 * memory go; only then is the index used again. After a crash in between, open ends it. */
void leat_storage_log_delete(struct leat_storage *storage, uint32_t index);

/* Bytes of the log's segment files. */
uint64_t leat_storage_bytes_held(const struct leat_storage *storage, uint32_t index);

/* ---- the pass ---- */

/* All frames below end->position shall become durable; of `end`, the log's chain there, also term
 * and CRC are noted. `write_seq` counts up per log. The bytes lie in the arena at position modulo
 * arena size and stay unchanged until the number is reported or a cut below them has settled. */
void leat_storage_write(struct leat_storage *storage, uint32_t index, uint64_t write_seq,
                        const struct leat_chain *end);

/* As above for bytes whose durability nobody waits for: the write may wait for others, up to
 * LEAT_STORAGE_LAZY_NS or until LEAT_STORAGE_LAZY_BYTES are waiting. Submitting a durable write
 * costs the core ten times what a packet does, so appends at the replicated level leave it to few.
 * A record has an entry of 136 bytes and more for each log it speaks of: with more than
 * LEAT_STORAGE_LAZY_LOGS of them waiting both bounds grow with their number, the first
 * LEAT_STORAGE_LAZY_MOST times at most. No log waits with more than an eighth of its arena, which
 * is half of the largest window. */
#define LEAT_STORAGE_LAZY_NS    1000000u
#define LEAT_STORAGE_LAZY_BYTES (64u << 10)
#define LEAT_STORAGE_LAZY_LOGS  16u
#define LEAT_STORAGE_LAZY_MOST  8u
void leat_storage_write_lazily(struct leat_storage *storage, uint32_t index, uint64_t write_seq,
                               const struct leat_chain *end);

/* What waits lazily waits no longer. */
void leat_storage_hurry(struct leat_storage *storage);

/* Told whenever it rises: goes into the next record that is written anyway. */
void leat_storage_commit(struct leat_storage *storage, uint32_t index, uint64_t commit_d);

/* The log ends at `end` from now on; `cut_epoch` counts up. Reported when the cut record is
 * durable and no write in flight covers a byte above it (V1): only then may the arena above
 * end->position be overwritten. Writes named before are reported still (the core clamps). */
void leat_storage_cut(struct leat_storage *storage, uint32_t index, const struct leat_chain *end,
                      uint64_t cut_epoch);

/* Install: the log begins anew at base `position`, a segment base. Reported as a cut. The start
 * record is written with the first write that covers the BASE frame; old files go after it. */
void leat_storage_reset(struct leat_storage *storage, uint32_t index, uint64_t position,
                        uint64_t cut_epoch);

void leat_storage_vote(struct leat_storage *storage, uint32_t index, uint32_t term,
                       uint32_t voted_for, uint64_t vote_seq);
void leat_storage_set_amnesiac(struct leat_storage *storage, uint32_t index, bool amnesiac);

/* What the log claims to have had (recovered.claim_*) is durable again, or a later term's in its
 * place, as the core judges by the terms of its runs: the journal need not say it any more. */
void leat_storage_drop_claim(struct leat_storage *storage, uint32_t index);

/* Remembers a peer; written with the next vote slots, or by itself within a second. */
void leat_storage_pin_peer(struct leat_storage *storage, const struct leat_peer_pin *pin);
const struct leat_peer_pin *leat_storage_peer_pin(const struct leat_storage *storage,
                                                  uint32_t node_id);

/* The log's blocks below are in place; its bytes from there on are not yet to be overwritten in the
 * arena, durable or not: they go in place from there. */
uint64_t leat_storage_placed_pos(const struct leat_storage *storage, uint32_t index);

/* Whole segments below trim_pos (a segment base, committed) leave the log, after a start record. */
void leat_storage_trim(struct leat_storage *storage, uint32_t index, uint64_t trim_pos);

/* Something is odd about the sealed segment at `position`: it is looked through soon, whatever the
 * scrub's rate. What it finds is reported as LEAT_STORAGE_DAMAGE. One at a time per log: while
 * another waits for its look, this one is forgotten; nothing is looked at whose damage is known. */
void leat_storage_suspect(struct leat_storage *storage, uint32_t index, uint64_t position);

/* Issues what was asked for since the last call: at most one journal record and the full blocks
 * below it (one io_uring submit). A record with nothing but floors after 1 ms of idleness. */
void leat_storage_submit(struct leat_storage *storage, uint64_t now_ns);

enum leat_storage_event_kind {
    LEAT_STORAGE_WRITTEN,  /* sequence = write_seq */
    LEAT_STORAGE_VOTED,    /* sequence = vote_seq */
    LEAT_STORAGE_CUT_DONE, /* sequence = cut_epoch */
    LEAT_STORAGE_READ,     /* cookie; result: length_bytes read, or a negative error; sequence: the
                              durable end as of the request, zeros lie behind it */
    LEAT_STORAGE_CREATED,  /* result; sequence = the end of the genesis frame */
    LEAT_STORAGE_DELETED,  /* the index is free */
    LEAT_STORAGE_DAMAGE,   /* [sequence, result): positions of a sealed segment that do not hold */
    LEAT_STORAGE_REPAIRED, /* sequence = segment base; result: leat_storage_repair_begin() */
};

struct leat_storage_event {
    enum leat_storage_event_kind kind;
    uint32_t log_index;
    uint64_t sequence;
    void *cookie;
    int64_t result;
};

/* Reaps completions. Returns how many events were stored (up to max), or LEAT_EFENCED after a
 * failed write: the caller must let nothing leave and exit; leat_storage_fence_reason() says why.
 */
int leat_storage_poll(struct leat_storage *storage, uint64_t now_ns,
                      struct leat_storage_event *events, unsigned max);
const char *leat_storage_fence_reason(const struct leat_storage *storage);

/* How long the oldest write in flight has been so; 0: none is. */
uint64_t leat_storage_oldest_write_ns(const struct leat_storage *storage, uint64_t now_ns);

/* The helper found no space for a segment and tries again, ten times a second: writes that need
 * one wait, all else goes on. */
bool leat_storage_is_full(const struct leat_storage *storage);

/* Reads [position, position + length_bytes) of durable bytes for catch-up; `buffer` is
 * block-aligned, position and length are multiples of a block, within one segment. Bytes of a
 * partial last block are zero behind the durable end. Reported as READ: fewer bytes than asked for,
 * or LEAT_EDAMAGED, when a block cannot be read (which is reported as DAMAGE too). The bytes are
 * as the disk has them: whoever gets them verifies them by the frames' chain, also a peer that
 * asked for them to repair. Returns 0, LEAT_EAGAIN (too many reads in flight), LEAT_ETRIMMED. */
int leat_storage_read(struct leat_storage *storage, uint32_t index, uint64_t position,
                      uint32_t length_bytes, void *buffer, void *cookie);

/* Whether what a sealed segment holds at `position` is known to be the log's. Where a log was cut
 * once, a disk that lost what was written in the cut's place shows frames of before: they fit what
 * lies below, and the chain breaks behind them only. So nothing of a segment is known before all of
 * it was read through since it was sealed. Returns LEAT_OK, also of a log that was never cut and of
 * what is not sealed; LEAT_EVERIFYING (it is read through now: ask again), LEAT_ECORRUPT (damaged,
 * until it is repaired). Worker's thread; may ask for a file's name. */
int leat_storage_prove(struct leat_storage *storage, uint32_t index, uint64_t position);

/* A new read-only descriptor of the sealed segment with base `position`, for a reader (H3); its
 * file is never recycled. Returns the descriptor, LEAT_ETRIMMED, LEAT_EAGAIN (not sealed yet), or
 * as leat_storage_prove(). Worker's thread; opens a file. */
int leat_storage_segment_fd(struct leat_storage *storage, uint32_t index, uint64_t position);

/* As above, of the segment's sparse index (base/segment_index.h). The helper makes it when the
 * segment is sealed and committed: LEAT_EAGAIN until then. Whoever reads it checks its CRC. */
int leat_storage_index_fd(struct leat_storage *storage, uint32_t index, uint64_t position);

/* ---- repair of sealed segments ---- */

/* One at a time: replaces the sealed segment with base `segment_base` by bytes of a peer. Returns
 * LEAT_OK, LEAT_EAGAIN (another repair is on), LEAT_ETRIMMED, LEAT_EINVAL (not a base, or not
 * sealed and committed). */
int leat_storage_repair_begin(struct leat_storage *storage, uint32_t index, uint64_t segment_base);

/* The next bytes of the segment, in strictly ascending order, gapless from its base. After its last
 * byte the helper verifies the chain from the BASE frame to the next segment's, writes a new file,
 * flushes it and renames it over the old one (V1); then LEAT_STORAGE_REPAIRED is reported: LEAT_OK,
 * LEAT_ECHAIN (what was put is not this log: ask another peer), LEAT_EDAMAGED (the next segment's
 * BASE frame is damaged: repair that one first), LEAT_ENOSPACE. Returns LEAT_OK, LEAT_EAGAIN (the
 * helper is not ready: later), LEAT_EINVAL (no repair of this log, or not the next position). */
int leat_storage_repair_put(struct leat_storage *storage, uint32_t index, uint64_t position,
                            const void *bytes, uint32_t length_bytes);

/* Gives up a repair that is not whole; nothing is reported. None is on: nothing happens. */
void leat_storage_repair_abandon(struct leat_storage *storage, uint32_t index);

/* The lowest segment base held. */
uint64_t leat_storage_base_pos(const struct leat_storage *storage, uint32_t index);

/* Writes the clean-stop record: to be called when every log has D = M and nothing more will be
 * acknowledged. Blocks. */
int leat_storage_clean_stop(struct leat_storage *storage);

enum leat_storage_step {
    LEAT_STORAGE_IDLE, /* there was nothing to do */
    LEAT_STORAGE_WORKED,
    LEAT_STORAGE_AHEAD, /* nobody waits for what was done: whoever calls may rest */
};

/* One step of the helper: at most about 1 MiB of I/O. Prepares segments to come, makes and removes
 * logs, unlinks or uses again what was trimmed, puts repaired segments in place, indexes sealed
 * ones, scrubs, and looks now and then whether the files are still what was opened. Any one thread.
 */
enum leat_storage_step leat_storage_prepare_step(struct leat_storage *storage);
/* Something waits for the helper: it should not rest. Any thread. */
bool leat_storage_is_pressed(const struct leat_storage *storage);

struct leat_storage_counters {
    uint64_t journal_writes;
    uint64_t journal_bytes;
    uint64_t segment_writes;
    uint64_t segment_bytes;
    uint64_t vote_writes;
    uint64_t floor_records;
    uint64_t reemitted_logs;
    uint64_t submits;
    uint64_t segment_waits; /* times a write waited for a segment to be prepared */
    uint64_t resubmitted;   /* short writes and EAGAIN */
    uint64_t logs_created;
    uint64_t logs_deleted;
    uint64_t full_waits;     /* preparations that found no space */
    uint64_t scrubbed_bytes; /* read by the helper to verify sealed segments */
    uint64_t damages;        /* segments reported damaged */
    uint64_t repairs;        /* segments put in place */
};

/* The worker's thread. */
const struct leat_storage_counters *leat_storage_counters(const struct leat_storage *storage);

/* Nanoseconds from submit to completion of journal records. */
const struct leat_histogram *leat_storage_latency(const struct leat_storage *storage);

#endif
