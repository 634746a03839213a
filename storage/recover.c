/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery of one log: the decision tables of docs/recovery.md, in the same order and with the
 * same row names. Reads only. Segments are read whole, since no frame crosses one's end.
 *
 *   1. choose the base to begin at            (table S)
 *   2. with a valid arena: compare, then go on in the arena  (table A)
 *   3. walk the disk's frames, filling the arena             (table A, rows A0 and A4)
 *   4. clean, torn or damaged                 (table V)
 */
#include "state.h"

#include <inttypes.h>
#include <string.h>

struct walk {
    struct leat_storage *storage;
    struct log *log;
    struct leat_chain chain;
    uint64_t limit_pos;   /* frames that reach beyond do not count */
    uint64_t missing_pos; /* lowest block that is not in place */
    leat_frame_visit *visit;
    void *context;
    bool fill_arena;
    uint8_t *arena;
    uint64_t arena_low_pos;   /* compare from here on; UINT64_MAX: do not */
    uint64_t agree_begin_pos; /* the last run of frames on which disk and arena agree */
    uint64_t agree_end_pos;
    bool is_other;    /* at a place that the journal notes the chain is not what it says (V8) */
    bool base_is_met; /* at its base it is: all below is the log's */
};

static void walk_copy_to_arena(struct walk *walk, uint64_t position, const uint8_t *bytes,
                               uint64_t length)
{
    uint64_t arena_bytes = walk->log->arena_bytes;
    uint64_t at = position % arena_bytes;
    LEAT_ASSERT(at + length <= arena_bytes); /* whole segments: no frame wraps */
    memcpy(walk->arena + at, bytes, length);
}

static void walk_compare(struct walk *walk, uint64_t position, const uint8_t *bytes,
                         uint64_t length)
{
    uint64_t at = position % walk->log->arena_bytes;
    if (position < walk->arena_low_pos || memcmp(walk->arena + at, bytes, length) != 0)
        return;
    if (walk->agree_end_pos != position)
        walk->agree_begin_pos = position;
    walk->agree_end_pos = position + length;
}

/* Takes the frames [position, end_pos) at `bytes`: one, or a whole batch. */
static void walk_take(struct walk *walk, uint64_t position, uint64_t end_pos, const uint8_t *bytes)
{
    if (walk->fill_arena)
        walk_copy_to_arena(walk, position, bytes, end_pos - position);
    else if (walk->arena_low_pos != UINT64_MAX)
        walk_compare(walk, position, bytes, end_pos - position);
    while (walk->visit && position < end_pos) {
        const struct leat_frame *frame = (const struct leat_frame *)(const void *)bytes;
        uint64_t extent = leat_frame_extent(&walk->log->shape, position, frame->length_bytes);
        walk->visit(walk->context, position, frame, bytes + LEAT_FRAME_HEADER_BYTES);
        position += extent;
        bytes += extent;
    }
}

/* One at the very end has no BASE frame. */
static bool base_is_noted(const struct log *log)
{
    return (log->found.flags & LEAT_JOURNAL_BASE) && log->found.base_pos >= log->base_pos &&
           log->found.base_pos <= log->highest_pos && log->found.base_pos < log->found.end_pos;
}

static bool walk_passed(const struct walk *walk, uint64_t from_pos, uint64_t position)
{
    return from_pos < position && walk->chain.position >= position;
}

/* The journal notes what the chain is at two places, floor and base: boundaries of the log, and the
 * CRC there stands for all that lies below. */
static void walk_look(struct walk *walk, uint64_t from_pos)
{
    const struct leat_journal_entry *found = &walk->log->found;
    const struct leat_chain *chain = &walk->chain;
    if (found->floor_crc != 0 && walk_passed(walk, from_pos, found->floor_pos))
        walk->is_other |= chain->position != found->floor_pos || chain->crc != found->floor_crc;
    if (!base_is_noted(walk->log) || !walk_passed(walk, from_pos, found->base_pos))
        return;
    walk->base_is_met = chain->position == found->base_pos && chain->crc == found->base_crc;
    walk->is_other |= !walk->base_is_met;
}

/* Checks the frames of one segment at `bytes`. True when it holds up to its end. A batch counts
 * when it is there to its last frame (one in pieces is a torn tail, ADR 0030): what is checked runs
 * ahead of walk->chain, which stands at boundaries only. */
static int walk_segment(struct walk *walk, uint64_t base_pos, const uint8_t *bytes, bool *ret_whole)
{
    const struct leat_log_shape *shape = &walk->log->shape;
    uint64_t end_pos = min_u64(base_pos + shape->segment_bytes, walk->limit_pos);
    struct leat_chain ahead = walk->chain;
    LEAT_ASSERT(walk->chain.position >= base_pos && !leat_chain_in_batch(&walk->chain));
    while (ahead.position < end_pos) {
        uint64_t extent;
        int rc = leat_frame_check(shape, &ahead, bytes + (ahead.position - base_pos),
                                  end_pos - ahead.position, &extent);
        if (rc == LEAT_EVERSION)
            return rc;
        if (rc != LEAT_OK)
            break;
        if (leat_chain_in_batch(&ahead))
            continue;
        uint64_t position = walk->chain.position;
        walk->chain = ahead;
        walk_look(walk, position);
        walk_take(walk, position, ahead.position, bytes + (position - base_pos));
    }
    *ret_whole = walk->chain.position == base_pos + shape->segment_bytes;
    return LEAT_OK;
}

/* Walks the disk from chain.position to limit_pos or the first frame that does not hold. */
static int walk_disk(struct walk *walk)
{
    struct leat_storage *storage = walk->storage;
    bool whole = true;
    int rc = LEAT_OK;
    while (rc == LEAT_OK && whole && walk->chain.position < walk->limit_pos) {
        uint64_t base_pos = leat_segment_base(&walk->log->shape, walk->chain.position);
        uint64_t end_pos =
            min_u64(base_pos + walk->log->shape.segment_bytes, block_end(walk->limit_pos));
        uint64_t missing_pos;
        LEAT_ASSERT(end_pos - base_pos <= storage->segment_buffer_bytes);
        if (overlay_read(storage, walk->log, storage->segment_buffer, base_pos, end_pos,
                         &missing_pos) != LEAT_OK)
            break; /* a segment that is not there or cannot be read: the chain ends here */
        if (missing_pos < end_pos)
            walk->missing_pos = min_u64(walk->missing_pos, missing_pos);
        rc = walk_segment(walk, base_pos, storage->segment_buffer, &whole);
    }
    return rc;
}

/* Goes on in the arena itself. */
static int walk_arena(struct walk *walk)
{
    bool whole = true;
    int rc = LEAT_OK;
    while (rc == LEAT_OK && whole && walk->chain.position < walk->limit_pos) {
        uint64_t base_pos = leat_segment_base(&walk->log->shape, walk->chain.position);
        LEAT_ASSERT(base_pos % walk->log->arena_bytes + walk->log->shape.segment_bytes <=
                    walk->log->arena_bytes);
        rc = walk_segment(walk, base_pos, walk->arena + base_pos % walk->log->arena_bytes, &whole);
    }
    return rc;
}

/* ---- table S: where to begin ---- */

static bool start_holds(struct leat_storage *storage, struct log *log, uint64_t base_pos,
                        struct leat_chain *ret_chain)
{
    uint64_t missing_pos;
    uint64_t bytes = min_u64(log->shape.segment_bytes, 256u << 10);
    return overlay_read(storage, log, storage->segment_buffer, base_pos, base_pos + bytes,
                        &missing_pos) == LEAT_OK &&
           leat_chain_at_base(&log->shape, base_pos, storage->segment_buffer, bytes, ret_chain) ==
               LEAT_OK;
}

/* Where a log was cut once, a disk that lost what was written in the cut's place may show a BASE
 * frame of before: it holds by itself. One that was noted, or whose segment was read through when
 * it was sealed, is the log's. */
static bool start_is_known(struct leat_storage *storage, const struct log *log,
                           const struct leat_chain *chain)
{
    const struct leat_journal_entry *found = &log->found;
    if (found->cut_epoch == 0 || chain->position == 0 || !base_is_noted(log))
        return true;
    if (chain->position == found->base_pos)
        return chain->crc == found->base_crc;
    return segment_index_holds(storage, log, chain->position);
}

/* The lowest that holds: of what no start knows to be the log's the likeliest. */
static bool start_lowest(struct leat_storage *storage, struct log *log, uint64_t highest_pos,
                         struct leat_chain *ret_chain)
{
    uint64_t base_pos = log->base_pos;
    while (base_pos <= highest_pos && !start_holds(storage, log, base_pos, ret_chain))
        base_pos += log->shape.segment_bytes;
    return base_pos <= highest_pos;
}

static bool start_choose(struct leat_storage *storage, struct log *log,
                         struct leat_chain *ret_chain)
{
    /* S1: the highest base below commit_d, or the one noted; S2: the next lower that holds and is
     * known; S3: the lowest held; S4: none */
    uint64_t commit_d = min_u64(min_u64(log->found.commit_d, log->found.floor_pos),
                                log->found_placed); /* what is not in place is to be found */
    uint64_t base_pos =
        commit_d > log->base_pos ? leat_segment_base(&log->shape, commit_d - 1) : log->base_pos;
    base_pos = min_u64(base_pos, log->highest_pos); /* what is in place has its file */
    if (base_is_noted(log))
        base_pos = max_u64(base_pos, log->found.base_pos);
    LEAT_ASSERT(base_pos >= log->base_pos);
    for (uint64_t at = base_pos;; at -= log->shape.segment_bytes) {
        if (start_holds(storage, log, at, ret_chain) && start_is_known(storage, log, ret_chain))
            return true;
        if (at == log->base_pos)
            return start_lowest(storage, log, base_pos, ret_chain);
    }
}

/* Once more over what held a moment ago. LEAT_ESYSTEM: it does not any more (D5). */
static int walk_disk_again(struct walk *walk, uint64_t end_pos)
{
    walk->limit_pos = end_pos;
    int rc = walk_disk(walk);
    return rc == LEAT_OK && walk->chain.position != end_pos ? LEAT_ESYSTEM : rc;
}

/* ---- table A: disk or arena ---- */

/* True when the arena holds the log up to its published end (rows A1-A3). */
static int arena_choose(struct leat_storage *storage, struct log *log,
                        const struct leat_storage_arena *arena, const struct leat_chain *start,
                        bool *ret_use, struct walk *ret_walk)
{
    *ret_use = false;
    if (!arena->valid || *arena->published_end < start->position)
        return LEAT_OK; /* A0 */
    uint64_t published_end = *arena->published_end;
    uint64_t low = published_end > log->arena_bytes ? published_end - log->arena_bytes : 0;
    struct walk walk = {
        .storage = storage,
        .log = log,
        .chain = *start,
        .limit_pos = min_u64(published_end, log->found.end_pos),
        .missing_pos = UINT64_MAX,
        .arena = arena->bytes,
        .arena_low_pos = low,
    };
    int rc = walk_disk(&walk);
    if (rc != LEAT_OK)
        return rc;
    if (walk.agree_end_pos == 0)
        return LEAT_OK; /* A4: not a frame of the disk's is in it */
    struct walk again = walk;
    again.chain = *start;
    again.arena_low_pos = UINT64_MAX;
    rc = walk_disk_again(&again, walk.agree_end_pos); /* the chain at the end of agreement */
    if (rc != LEAT_OK)
        return rc;
    again.limit_pos = published_end;
    rc = walk_arena(&again);
    *ret_use = rc == LEAT_OK && again.chain.position == published_end;
    *ret_walk = walk;
    return rc;
}

/* ---- table V: clean, torn, damaged ---- */

/* In the order that votes compare. */
static bool claim_exceeds(const struct leat_journal_claim *claim, uint32_t term, uint64_t end_pos)
{
    if (claim->term != term)
        return claim->term > term;
    return claim->end_pos > end_pos;
}

static struct leat_journal_claim claim_of(const struct log *log)
{
    struct leat_journal_claim claim = {log->found.end_pos, log->found.last_term, 0};
    if (log->lost_record) /* V6: what the missing record said is unknown */
        return (struct leat_journal_claim){UINT64_MAX, LEAT_TERM_MAX, 0};
    if ((log->found.flags & LEAT_JOURNAL_DAMAGED) &&
        claim_exceeds(&log->frozen.claim, claim.term, claim.end_pos))
        claim = log->frozen.claim;
    return claim;
}

/* An older claim outlives new damage: what it names was acknowledged too. */
static void judge_damaged(const struct log *log, struct leat_recovered *recovered)
{
    struct leat_journal_claim claim = claim_of(log);
    recovered->damaged = true;
    recovered->claim_term = claim.term;
    recovered->claim_end = claim.end_pos;
    recovered->clean = false;
}

static void judge(const struct log *log, uint64_t disk_end, bool is_other,
                  struct leat_recovered *recovered)
{
    const struct leat_journal_entry *found = &log->found;
    uint64_t claimed_pos = found->flags & LEAT_JOURNAL_CLEAN ? found->end_pos : found->floor_pos;
    LEAT_ASSERT(disk_end <= found->end_pos);
    recovered->clean = (found->flags & LEAT_JOURNAL_CLEAN) != 0;            /* V1, V2 */
    recovered->damaged = disk_end < claimed_pos || log->lost_record ||      /* V2, V4, V6 */
                         is_other || (found->flags & LEAT_JOURNAL_DAMAGED); /* V8, V5 */
    recovered->torn = !recovered->damaged && disk_end < found->end_pos;     /* V3 */
    if (recovered->torn) {
        recovered->torn_pos = disk_end;
        recovered->torn_end = found->end_pos;
    }
    if (recovered->damaged)
        judge_damaged(log, recovered);
}

/* What was recovered ends below what some record says: from now on such records are of a past
 * epoch, or their tails would come back (docs/recovery.md). And a life that did not stop clean may
 * have left frames above its end, of which no record came to say: what is written in their place is
 * like what is written in a cut's. */
static uint64_t recovered_epoch(const struct log *log, const struct leat_recovered *recovered)
{
    bool in_doubt = !recovered->clean || recovered->durable_pos < log->found.end_pos;
    return log->found.cut_epoch + (in_doubt ? 1 : 0);
}

/* A disk that lost or misplaced a write shows, where the log was cut once, frames of before the
 * cut: they fit what lies below, and the chain breaks behind them only. So of a damaged disk no
 * more is known to be committed than the frame that the walk began at, the base that it met, and
 * from there on the segments that were read through when they were sealed; the leader says the rest
 * again. */
static uint64_t recovered_commit(const struct walk *walk, const struct leat_recovered *recovered)
{
    const struct log *log = walk->log;
    uint64_t known_pos = min_u64(log->found.commit_d, recovered->durable_pos);
    uint64_t position = recovered->start_pos;
    if (!recovered->damaged || recovered->kind != LEAT_RECOVERED_DISK || log->found.cut_epoch == 0)
        return known_pos;
    if (walk->base_is_met)
        position = max_u64(position, log->found.base_pos);
    while (position + log->shape.segment_bytes <= known_pos &&
           segment_index_holds(walk->storage, log, position))
        position += log->shape.segment_bytes;
    return position;
}

/* All above what is committed may be cut, and has to be in memory then. Where a damaged log is
 * longer, the rest of it is left to its peers. Returns also where the chain ends, UINT64_MAX where
 * that was not looked for. */
static int recovered_limit(const struct walk *walk, uint64_t *ret_limit_pos, uint64_t *ret_end_pos)
{
    const struct log *log = walk->log;
    uint64_t start_pos = walk->chain.position;
    *ret_end_pos = UINT64_MAX;
    *ret_limit_pos = max_u64(log->found.end_pos, start_pos);
    if (!walk->fill_arena || log->found.cut_epoch == 0 ||
        *ret_limit_pos - start_pos <= log->arena_bytes)
        return LEAT_OK;
    struct walk look = *walk;
    look.visit = NULL;
    look.fill_arena = false;
    look.limit_pos = *ret_limit_pos;
    int rc = walk_disk(&look);
    struct leat_recovered found = {
        .kind = LEAT_RECOVERED_DISK, .start_pos = start_pos, .durable_pos = look.chain.position};
    judge(log, min_u64(look.chain.position, log->found.end_pos), look.is_other, &found);
    *ret_end_pos = look.chain.position;
    if (found.damaged)
        *ret_limit_pos =
            min_u64(*ret_limit_pos, block_of(recovered_commit(&look, &found)) + log->arena_bytes);
    return rc;
}

static int recover_from_disk(struct walk *walk, const struct leat_storage_arena *arena,
                             struct leat_recovered *recovered)
{
    uint64_t start_pos = walk->chain.position;
    uint64_t looked_end;
    walk->fill_arena = arena->bytes != NULL;
    int rc = recovered_limit(walk, &walk->limit_pos, &looked_end);
    if (rc != LEAT_OK)
        return rc;
    if (arena->valid) /* in this order: the memory outlives a start that dies in between */
        __atomic_store_n(arena->published_end, 0, __ATOMIC_SEQ_CST);
    rc = walk_disk(walk);
    if (rc != LEAT_OK)
        return rc;
    uint64_t end_pos = walk->chain.position;
    if (looked_end <= walk->limit_pos && looked_end != end_pos)
        return LEAT_ESYSTEM; /* D5, as in walk_disk_again() */
    recovered->kind = LEAT_RECOVERED_DISK;
    recovered->durable_pos = end_pos;
    recovered->durable_crc = walk->chain.crc;
    recovered->chain = walk->chain;
    recovered->horizon_pos =
        max_u64(start_pos, end_pos > walk->log->arena_bytes ? end_pos - walk->log->arena_bytes : 0);
    judge(walk->log, min_u64(end_pos, walk->log->found.end_pos), walk->is_other, recovered);
    return LEAT_OK;
}

static int recover_from_arena(struct walk *walk, const struct walk *compared,
                              const struct leat_storage_arena *arena,
                              struct leat_recovered *recovered)
{
    int rc = walk_disk_again(walk, compared->agree_end_pos);
    recovered->durable_crc = walk->chain.crc;
    walk->limit_pos = *arena->published_end;
    if (rc == LEAT_OK)
        rc = walk_arena(walk);
    if (rc != LEAT_OK)
        return rc;
    recovered->kind = LEAT_RECOVERED_ARENA;
    recovered->durable_pos = compared->agree_end_pos;
    recovered->chain = walk->chain;
    recovered->horizon_pos = compared->agree_begin_pos;
    /* a cut whose record never came lowered the published end: nothing is torn above it */
    judge(walk->log, walk->log->found.end_pos, false, recovered);
    if (compared->chain.position < min_u64(walk->log->found.floor_pos, *arena->published_end) ||
        compared->is_other)
        judge_damaged(walk->log, recovered); /* A2 */
    return LEAT_OK;
}

int leat_storage_recover(struct leat_storage *storage, uint32_t index,
                         const struct leat_storage_arena *arena, leat_frame_visit *visit,
                         void *context, struct leat_recovered *ret_recovered, char *error,
                         unsigned error_bytes)
{
    LEAT_ASSERT(index < storage->log_count && !storage->serving);
    struct log *log = &storage->logs[index];
    struct leat_recovered recovered = {.base_pos = log->base_pos};
    struct leat_chain start;
    struct walk compared = {0};
    bool use_arena = false;

    LEAT_ASSERT((uintptr_t)arena->bytes % LEAT_BLOCK_BYTES == 0);
    if (!start_choose(storage, log, &start))
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "log %u holds no intact BASE frame: replace the node", log->log_id);
    int rc = arena_choose(storage, log, arena, &start, &use_arena, &compared);
    struct walk walk = {
        .storage = storage,
        .log = log,
        .chain = start,
        .missing_pos = UINT64_MAX,
        .visit = visit,
        .context = context,
        .arena = arena->bytes,
        .arena_low_pos = UINT64_MAX,
        .base_is_met = base_is_noted(log) && start.position == log->found.base_pos,
    };
    if (rc == LEAT_OK)
        rc = use_arena ? recover_from_arena(&walk, &compared, arena, &recovered)
                       : recover_from_disk(&walk, arena, &recovered);
    if (rc == LEAT_ESYSTEM)
        return leat_refuse(error, error_bytes, rc,
                           "log %u reads otherwise than a moment before: its disk fails; start the "
                           "node again, or replace the disk",
                           log->log_id);
    if (rc != LEAT_OK)
        return leat_refuse(error, error_bytes, rc,
                           "log %u has a frame of an unknown type at position %" PRIu64
                           ": run the build that wrote it",
                           log->log_id, walk.chain.position);
    recovered.start_pos = start.position;
    recovered.start_crc = start.crc;
    recovered.commit_d = recovered_commit(&walk, &recovered);
    recovered.cut_epoch = recovered_epoch(log, &recovered);
    log->arena = arena->bytes;
    log->recovered_placed_pos = min_u64(walk.missing_pos, block_of(recovered.durable_pos));
    *ret_recovered = recovered;
    return LEAT_OK;
}
