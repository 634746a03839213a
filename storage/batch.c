/* SPDX-License-Identifier: Apache-2.0
 *
 * A batch: one journal record and blocks in place. Built from the logs that have something to say,
 * after those whose newest whole entry is REEMIT_BYTES behind (re-emission, before the ring comes
 * round). What is new of a log goes into the record until config.place_bytes wait there, then all
 * of its full blocks in place, straight from the arena (ADR 0025).
 */
#include "state.h"

#include <errno.h>
#include <string.h>

enum add_result { ADDED, NO_ROOM, NOTHING_TO_SAY };

static uint32_t log_flags(const struct log *log)
{
    return (log->amnesiac ? LEAT_JOURNAL_AMNESIAC : 0u) |
           (log->installed_flag ? LEAT_JOURNAL_INSTALLED : 0u) |
           (log->claims ? LEAT_JOURNAL_DAMAGED : 0u) | (log->clean ? LEAT_JOURNAL_CLEAN : 0u);
}

/* How far the log can go now: all that is wanted, or nothing while a segment is missing. */
static uint64_t log_reach(struct leat_storage *storage, struct log *log)
{
    LEAT_ASSERT(log->issued_end <= log->want_end);
    bool waited = log_waits(log);
    bool waits =
        log->want_end != log->issued_end && !segment_ready_below(log, block_of(log->want_end));
    if (waits != waited)
        atomic_store_explicit(&log->helper.waited_for, waits, memory_order_relaxed);
    if (waits && !waited) {
        storage->counters.segment_waits++;
        helper_press(storage, (uint32_t)(log - storage->logs));
    }
    return waits ? log->issued_end : log->want_end;
}

/* Between an install's cut and its first write the journal goes on saying what the old log was. */
static bool log_is_frozen(const struct log *log, uint64_t reach)
{
    return !log->begun || (log->installing && reach == log->start_pos);
}

static void batch_lay_frozen(const struct log *log, uint8_t *to)
{
    const struct frozen_entry *frozen = &log->frozen;
    LEAT_ASSERT(frozen->entry.tail_bytes <= LEAT_BLOCK_BYTES);
    uint32_t tail_room = (frozen->entry.tail_bytes + 7u) & ~7u;
    memcpy(to, &frozen->entry, sizeof(frozen->entry));
    memset(to + sizeof(frozen->entry), 0, tail_room);
    memcpy(to + sizeof(frozen->entry), frozen->tail, frozen->entry.tail_bytes);
    if (frozen->entry.flags & LEAT_JOURNAL_DAMAGED)
        memcpy(to + sizeof(frozen->entry) + tail_room, &frozen->claim, sizeof(frozen->claim));
}

static void batch_lay_entry(const struct log *log, const struct leat_journal_entry *entry,
                            uint8_t *to)
{
    uint32_t tail_room = (entry->tail_bytes + 7u) & ~7u;
    uint64_t tail_pos = entry->end_pos - entry->tail_bytes;
    LEAT_ASSERT((tail_pos & (log->arena_bytes - 1)) + entry->tail_bytes <= log->arena_bytes);
    memcpy(to, entry, sizeof(*entry));
    if (entry->tail_bytes > 0)
        memcpy(to + sizeof(*entry), log->arena + (tail_pos & (log->arena_bytes - 1)),
               entry->tail_bytes);
    memset(to + sizeof(*entry) + entry->tail_bytes, 0, tail_room - entry->tail_bytes);
    if (entry->flags & LEAT_JOURNAL_DAMAGED)
        memcpy(to + sizeof(*entry) + tail_room, &log->claim, sizeof(log->claim));
}

/* Whether all full blocks have to go in place with this record, and the partial one into it. */
static bool log_has_to_begin_anew(const struct leat_storage *storage, const struct log *log,
                                  uint64_t reach)
{
    LEAT_ASSERT(log->placed_pos <= block_of(reach) && log->issued_end <= reach);
    uint64_t arena_left = log->arena_bytes - (log->issued_end & (log->arena_bytes - 1));
    if (leat_segment_base(&log->shape, log->placed_pos) < leat_segment_base(&log->shape, reach))
        return true; /* the end of a segment does not wait: it is to be read, scrubbed, repaired
                        from */
    if ((log->issued_end & (log->shape.segment_bytes - 1)) < LEAT_BLOCK_BYTES)
        return true; /* nor does its BASE frame, without which there is no log: it is in each
                        record, then in place */
    return log->whole_wanted ||
           block_of(reach) - log->placed_pos >= 2 * storage->config.place_bytes ||
           reach - log->issued_end > min_u64(LEAT_JOURNAL_TAIL_BYTES_MAX, arena_left);
}

/* Whether enough waits; some logs in each record, so that not all have to in one. */
static bool log_may_begin_anew(const struct leat_storage *storage, const struct log *log,
                               uint64_t reach)
{
    return storage->whole_left > 0 &&
           block_of(reach) - log->placed_pos >= storage->config.place_bytes;
}

static void batch_item_fill(struct log *log, uint32_t index, bool frozen, bool whole,
                            const struct leat_journal_entry *entry, struct batch_item *item)
{
    *item = (struct batch_item){
        .log_index = index,
        .frozen = frozen,
        .whole = whole,
        .report_cut = log->cut_wanted,
        .cut_epoch = log->cut_epoch,
        .end_pos = entry->end_pos,
        .floor_pos = entry->floor_pos,
        .start_pos = entry->start_pos,
    };
    if (log->cut_wanted)
        log->cuts_flying++;
    log->cut_wanted = false;
    log->say = false;
    log->flying++;
    if (frozen) {
        item->place_pos = log->frozen.place_pos;
        item->place_end = log->frozen.place_end;
        log->frozen.place_pos = log->frozen.place_end;
        return;
    }
    LEAT_ASSERT(entry->end_pos == log->want_end || !log->want_report || log_waits(log));
    item->start_moved = log->trim_wanted || log->installing;
    item->report_write = log->want_report && entry->end_pos == log->want_end;
    item->write_seq = log->want_seq;
    item->place_pos = log->placed_pos;
    item->place_end = whole ? block_of(entry->end_pos) : log->placed_pos;
    if (entry->end_pos == log->want_end)
        log->issued_crc = log->want_crc;
    item->end_crc = log->issued_crc;
    log->whole_wanted = log->whole_wanted && !whole;
    log->want_report = log->want_report && !item->report_write;
    log->trim_wanted = false;
    log->issued_end = entry->end_pos;
    log->placed_pos = item->place_end;
    log->recorded_floor = entry->floor_pos;
}

void log_note_base(struct log *log, uint64_t base_pos, uint32_t crc)
{
    uint64_t number = base_pos / log->shape.segment_bytes;
    log->noted_base = base_pos;
    log->noted_crc = crc;
    /* release: pairs with scrub_next_crc() */
    atomic_store_explicit(&log->helper.bases[number % BASE_SLOTS], number << 32 | crc,
                          memory_order_release);
}

/* Where recovery may begin: the journal remembers what that BASE frame continues, since a disk that
 * lost a write may show another there (ADR 0073). One that has left memory is not noted. */
void log_look_for_base(struct log *log, uint64_t reach)
{
    struct leat_chain chain;
    uint64_t whole_pos = min_u64(min_u64(log->durable_pos, log->commit_d), log->placed_done);
    uint64_t base_pos =
        whole_pos > log->start_pos ? leat_segment_base(&log->shape, whole_pos - 1) : log->start_pos;
    bool none = log->noted_base == UINT64_MAX;
    if ((!none && base_pos <= log->noted_base) || base_pos >= reach ||
        reach - base_pos > log->arena_bytes)
        return;
    if (leat_chain_at_base(&log->shape, base_pos, log->arena + base_pos % log->arena_bytes,
                           log->shape.segment_bytes, &chain) != LEAT_OK)
        return; /* memory went on over it */
    log_note_base(log, base_pos, chain.crc);
}

static void log_entry_fill(struct log *log, uint64_t reach, bool whole, uint64_t placed_pos,
                           struct leat_journal_entry *ret_entry)
{
    uint64_t tail_bytes = whole ? reach % LEAT_BLOCK_BYTES : reach - log->issued_end;
    uint32_t flags = log_flags(log) | (whole ? LEAT_JOURNAL_WHOLE : 0u);
    if (log->noted_base == UINT64_MAX)
        log_look_for_base(log, reach);
    journal_entry_fill(log, reach, log->durable_pos, placed_pos, (uint32_t)tail_bytes, flags,
                       ret_entry);
}

enum add_why { HAS_NEWS, FLOOR_IS_BEHIND, IS_OLDEST };

static enum add_result batch_add(struct leat_storage *storage, struct batch *batch, uint32_t index,
                                 uint32_t *used_bytes, enum add_why why)
{
    struct log *log = &storage->logs[index];
    struct leat_journal_entry entry;

    if (log->in_batch == batch->sequence || !life_has_record(log->state))
        return NOTHING_TO_SAY;
    uint64_t reach = log->begun ? log_reach(storage, log) : 0;
    bool frozen = log_is_frozen(log, reach);
    if (why == HAS_NEWS && !log->say &&
        (frozen || (reach == log->issued_end && !(log->want_report && reach == log->want_end))))
        return NOTHING_TO_SAY;
    bool whole = frozen || log_has_to_begin_anew(storage, log, reach);
    bool early = !whole && (why == IS_OLDEST || log_may_begin_anew(storage, log, reach));
    /* then the record is issued when its blocks are in place */
    bool first = !storage->serving || (log->installing && !frozen);
    whole |= early;
    if (frozen)
        entry = log->frozen.entry;
    else
        log_entry_fill(log, reach, whole, first && whole ? reach : log->placed_done, &entry);
    uint32_t bytes = journal_entry_bytes(&entry);
    if (*used_bytes + bytes > LEAT_JOURNAL_RECORD_BYTES_MAX)
        return NO_ROOM;
    if (frozen)
        batch_lay_frozen(log, batch->record + *used_bytes);
    else
        batch_lay_entry(log, &entry, batch->record + *used_bytes);
    batch->oldest_live_at = min_u64(batch->oldest_live_at, log->live_at);
    batch->place_first |= first;
    LEAT_ASSERT(batch->item_count < storage->log_count);
    batch_item_fill(log, index, frozen, whole, &entry, &batch->items[batch->item_count++]);
    log->installing = log->installing && frozen;
    log->in_batch = batch->sequence;
    if (whole) {
        log->issued_at = storage->ring_head;
        log_age_touch(storage, index);
    }
    storage->whole_left -= early && storage->whole_left > 0;
    *used_bytes += bytes;
    return ADDED;
}

/* Before anything else: a log must not be caught up by the ring's head. Some take their turn early,
 * so that not all are due in one record. */
static void batch_add_oldest(struct leat_storage *storage, struct batch *batch,
                             uint32_t *used_bytes)
{
    for (;;) {
        uint32_t index = storage->oldest;
        if (index == NO_LOG)
            return;
        uint64_t age = storage->ring_head - storage->logs[index].issued_at;
        if (age <= (storage->whole_left > 0 ? REEMIT_BYTES / 4 * 3 : REEMIT_BYTES))
            return;
        if (batch_add(storage, batch, index, used_bytes, IS_OLDEST) != ADDED)
            return;
        storage->counters.reemitted_logs++;
    }
}

static void batch_add_queued(struct leat_storage *storage, struct batch *batch,
                             uint32_t *used_bytes)
{
    uint32_t last = storage->queue_tail, index;
    while ((index = storage->queue_head) != NO_LOG) {
        if (batch_add(storage, batch, index, used_bytes, HAS_NEWS) == NO_ROOM)
            return;
        log_unqueue(storage);
        if (log_waits(&storage->logs[index]))
            log_queue(storage, index); /* for a segment */
        if (index == last)
            return;
    }
}

static void batch_add_floors(struct leat_storage *storage, struct batch *batch,
                             uint32_t *used_bytes)
{
    uint32_t index;
    while ((index = storage->floor_head) != NO_LOG) {
        const struct log *log = &storage->logs[index];
        if (log->begun && log->recorded_floor < log->durable_pos &&
            batch_add(storage, batch, index, used_bytes, FLOOR_IS_BEHIND) == NO_ROOM)
            return;
        log_floor_unqueue(storage);
    }
}

/* No region that holds what a log needs is ever overwritten. */
static void batch_assert_room(const struct leat_storage *storage, const struct batch *batch)
{
    uint64_t oldest = min_u64(batch->oldest_live_at, storage->logs[storage->oldest].live_at);
    for (unsigned i = 0; i < storage->batch_count; i++) {
        const struct batch *flying =
            &storage->batches[(storage->batch_first + i) % storage->batch_max];
        oldest = min_u64(oldest, flying->oldest_live_at);
    }
    LEAT_ASSERT(batch->at + batch->record_bytes <= oldest + LEAT_JOURNAL_BYTES);
}

static void batch_seal(struct leat_storage *storage, struct batch *batch, uint32_t used_bytes,
                       uint64_t now_ns)
{
    batch->record_bytes = (uint32_t)block_end(used_bytes);
    uint64_t left = LEAT_JOURNAL_BYTES - storage->ring_head % LEAT_JOURNAL_BYTES;
    if (left < batch->record_bytes)
        storage->ring_head += left; /* a record does not wrap */
    batch->at = storage->ring_head;
    batch->issued_ns = now_ns;
    batch_assert_room(storage, batch);
    for (unsigned i = 0; i < batch->item_count; i++) {
        if (batch->items[i].whole)
            storage->logs[batch->items[i].log_index].issued_at = batch->at;
    }
    journal_record_seal(storage, batch, used_bytes);
    storage->ring_head += batch->record_bytes;
    storage->record_sequence++;
    storage->batch_count++;
    storage->exclusive = batch->place_first;
    storage->active_ns = now_ns;
    storage->counters.journal_writes++;
    storage->counters.journal_bytes += batch->record_bytes;
}

bool batch_build(struct leat_storage *storage, uint64_t now_ns, bool floors)
{
    LEAT_ASSERT(storage->batch_count < storage->batch_max && !storage->exclusive);
    unsigned slot = (storage->batch_first + storage->batch_count) % storage->batch_max;
    struct batch *batch = &storage->batches[slot];
    uint32_t used_bytes = (uint32_t)BATCH_HEAD_BYTES;

    *batch = (struct batch){
        .record = batch->record,
        .items = batch->items,
        .sequence = storage->record_sequence,
        .oldest_live_at = UINT64_MAX,
    };
    storage->whole_left = WHOLE_PER_RECORD;
    batch_add_oldest(storage, batch, &used_bytes);
    batch_add_queued(storage, batch, &used_bytes);
    if (floors)
        batch_add_floors(storage, batch, &used_bytes);
    if (batch->item_count == 0)
        return false;
    batch_seal(storage, batch, used_bytes, now_ns);
    return true;
}

/* ---- issue ---- */

static void batch_issue_record(struct leat_storage *storage, struct batch *batch)
{
    struct operation *operation = operation_take(storage, OPERATION_RECORD);
    LEAT_ASSERT(!batch->record_issued);
    operation->file = (struct leat_disk_file){storage->journal_fd, SLOT_JOURNAL};
    operation->bytes = batch->record;
    operation->left_bytes = batch->record_bytes;
    operation->offset = batch->at % LEAT_JOURNAL_BYTES;
    operation->buffer = RECORD_BUFFERS;
    operation->batch = batch;
    batch->record_issued = true;
    batch->operations++;
    operation_issue(storage, operation);
}

/* One write of the item's blocks: split at the arena's wrap, the segment's end and a maximum. */
static bool batch_issue_piece(struct leat_storage *storage, struct batch *batch,
                              struct batch_item *item)
{
    struct log *log = &storage->logs[item->log_index];
    uint64_t base_pos = leat_segment_base(&log->shape, item->place_pos);
    uint64_t arena_at = item->place_pos & (log->arena_bytes - 1);
    uint64_t length = min_u64(item->place_end - item->place_pos, PIECE_BYTES_MAX);
    length = min_u64(length, log->arena_bytes - arena_at);
    length = min_u64(length, base_pos + log->shape.segment_bytes - item->place_pos);
    struct segment_fd *segment = segment_for_write(storage, item->log_index, base_pos);
    if (!segment) {
        storage_fence(storage, "opening a segment", errno);
        return false;
    }
    struct operation *operation = operation_take(storage, OPERATION_PLACE);
    LEAT_ASSERT(length > 0 && length % LEAT_BLOCK_BYTES == 0);
    segment->users++;
    operation->segment = segment;
    operation->file = (struct leat_disk_file){segment->fd, LEAT_DISK_NO_SLOT};
    operation->bytes = log->arena + arena_at;
    operation->left_bytes = (uint32_t)length;
    operation->offset = item->place_pos - base_pos;
    operation->buffer = log->arena_buffer;
    operation->batch = batch;
    batch->operations++;
    item->place_pos += length;
    storage->counters.segment_writes++;
    storage->counters.segment_bytes += length;
    operation_issue(storage, operation);
    return true;
}

static void batch_issue_one(struct leat_storage *storage, struct batch *batch, unsigned *pieces)
{
    /* one request is kept back so that votes always get through */
    if (!batch->record_issued && !batch->place_first && storage->operations_free > 1)
        batch_issue_record(storage, batch);
    while (batch->placing < batch->item_count) {
        struct batch_item *item = &batch->items[batch->placing];
        if (item->place_pos >= item->place_end)
            batch->placing++;
        else if (*pieces == 0 || storage->operations_free <= 1 ||
                 !batch_issue_piece(storage, batch, item))
            return;
        else
            (*pieces)--;
    }
    if (!batch->record_issued && batch->operations == 0 && storage->operations_free > 1)
        batch_issue_record(storage, batch);
}

void batch_issue(struct leat_storage *storage)
{
    unsigned pieces = PIECES_PER_SUBMIT;
    LEAT_ASSERT(storage->batch_count <= storage->batch_max);
    for (unsigned i = 0; i < storage->batch_count && !storage->fenced; i++)
        batch_issue_one(storage, &storage->batches[(storage->batch_first + i) % storage->batch_max],
                        &pieces);
}

bool batch_is_complete(const struct batch *batch)
{
    return batch->record_issued && batch->operations == 0 && batch->placing == batch->item_count;
}

/* A cut: what is in flight says no more than `position`, and blocks above are not begun. */
void batch_clamp(struct leat_storage *storage, uint32_t index, uint64_t position, uint32_t crc)
{
    LEAT_ASSERT(index < storage->log_count);
    for (unsigned i = 0; i < storage->batch_count; i++) {
        struct batch *batch = &storage->batches[(storage->batch_first + i) % storage->batch_max];
        for (unsigned j = 0; j < batch->item_count; j++) {
            struct batch_item *item = &batch->items[j];
            if (item->log_index != index)
                continue;
            item->end_crc = item->end_pos > position ? crc : item->end_crc;
            item->end_pos = min_u64(item->end_pos, position);
            item->place_end =
                max_u64(item->place_pos, min_u64(item->place_end, block_of(position)));
        }
    }
}
