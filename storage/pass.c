/* SPDX-License-Identifier: Apache-2.0
 *
 * The pass: what the worker asks for (write, cut, reset, trim), submit, and poll. Nothing here
 * blocks but pass_drain(). Completions may come in any order; batches are reported in theirs.
 */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- requests ---- */

void storage_fence(struct leat_storage *storage, const char *what, int error_number)
{
    if (storage->fenced)
        return;
    LEAT_ASSERT(what);
    storage->fenced = true;
    snprintf(storage->fence_reason, sizeof(storage->fence_reason), "%s in %.128s failed: %s", what,
             storage->worker_path, strerror(error_number));
}

struct operation *operation_take(struct leat_storage *storage, enum operation_kind kind)
{
    struct operation *operation = storage->free_operations;
    LEAT_ASSERT(operation && storage->operations_free > 0);
    storage->free_operations = operation->next_free;
    storage->operations_free--;
    *operation = (struct operation){.kind = kind, .buffer = LEAT_DISK_NO_BUFFER};
    return operation;
}

static void operation_give(struct leat_storage *storage, struct operation *operation)
{
    LEAT_ASSERT(storage->operations_free < OPERATIONS_MAX);
    if (operation->segment)
        operation->segment->users--;
    operation->segment = NULL;
    operation->next_free = storage->free_operations;
    storage->free_operations = operation;
    storage->operations_free++;
}

void operation_issue(struct leat_storage *storage, struct operation *operation)
{
    uint64_t tag = (uint64_t)(operation - storage->operations);
    LEAT_ASSERT(tag < OPERATIONS_MAX && operation->left_bytes > 0);
    storage->unsubmitted = true;
    if (operation->kind == OPERATION_READ)
        leat_disk_read(storage->disk, tag, operation->file, operation->bytes, operation->left_bytes,
                       operation->offset);
    else
        leat_disk_write(storage->disk, tag, operation->file, operation->bytes,
                        operation->left_bytes, operation->offset, operation->buffer);
}

static const char *operation_name(const struct operation *operation)
{
    static const char *const names[] = {"a journal write", "a segment write", "a vote write",
                                        "a read"};
    return names[operation->kind];
}

static void operation_finish(struct leat_storage *storage, struct operation *operation,
                             uint64_t now_ns)
{
    struct batch *batch = operation->batch;
    switch (operation->kind) {
    case OPERATION_RECORD:
        if (storage->serving)
            leat_histogram_record(&storage->latency, now_ns - batch->issued_ns);
        batch->operations--;
        break;
    case OPERATION_PLACE:
        LEAT_ASSERT(batch->operations > 0);
        batch->operations--;
        break;
    case OPERATION_VOTE:
        break;
    case OPERATION_READ:
        operation->read->finished = true;
        break;
    }
    enum operation_kind kind = operation->kind;
    operation_give(storage, operation);
    if (kind == OPERATION_VOTE)
        votes_written(storage);
}

/* A read that fails is halved down to the block that cannot be read, which is damage. */
static void operation_read_completed(struct leat_storage *storage, struct operation *operation,
                                     int64_t result, uint64_t now_ns)
{
    struct read_request *read = operation->read;
    if (result < 0 && operation->left_bytes > LEAT_BLOCK_BYTES) {
        uint32_t half = (uint32_t)block_end(operation->left_bytes / 2);
        operation->rest_bytes += operation->left_bytes - half;
        operation->left_bytes = half;
        operation_issue(storage, operation);
        return;
    }
    read->result += result > 0 ? result : 0;
    if (result == (int64_t)operation->left_bytes && operation->rest_bytes > 0) {
        operation->bytes += operation->left_bytes;
        operation->offset += operation->left_bytes;
        operation->left_bytes = operation->rest_bytes;
        operation->rest_bytes = 0;
        operation_issue(storage, operation);
        return;
    }
    if (result < (int64_t)operation->left_bytes)
        read_damaged(storage, read, operation->offset);
    operation_finish(storage, operation, now_ns);
}

/* A read that fails is the reader's; a write that fails is the node's end. */
static void operation_completed(struct leat_storage *storage, struct operation *operation,
                                int64_t result, uint64_t now_ns)
{
    bool again = result == -EAGAIN || result == -EINTR;
    if (storage->fenced) { /* nothing is begun any more, not even the rest of a write */
        operation_give(storage, operation);
        return;
    }
    if (operation->kind == OPERATION_READ && !again) {
        operation_read_completed(storage, operation, result, now_ns);
        return;
    }
    if ((result <= 0 && !again) || ++operation->tries > TRIES_MAX) {
        storage_fence(storage, operation_name(operation), result < 0 ? (int)-result : EIO);
        operation_give(storage, operation);
        return;
    }
    uint32_t done = again ? 0 : (uint32_t)result;
    LEAT_ASSERT(done <= operation->left_bytes);
    if (done == operation->left_bytes) {
        operation_finish(storage, operation, now_ns);
        return;
    }
    done = (uint32_t)block_of(done); /* what was begun of a block is written again */
    operation->bytes += done;
    operation->offset += done;
    operation->left_bytes -= done;
    storage->counters.resubmitted++;
    operation_issue(storage, operation);
}

void pass_reap(struct leat_storage *storage, uint64_t now_ns)
{
    struct leat_disk_done done[32];
    unsigned count;
    do {
        count = leat_disk_reap(storage->disk, done, 32);
        for (unsigned i = 0; i < count; i++) {
            LEAT_ASSERT(done[i].tag < OPERATIONS_MAX);
            operation_completed(storage, &storage->operations[done[i].tag], done[i].result, now_ns);
        }
    } while (count == 32);
}

void pass_reap_and_drop(struct leat_storage *storage)
{
    struct leat_disk_done done[32];
    unsigned count = leat_disk_reap(storage->disk, done, 32);
    for (unsigned i = 0; i < count; i++) {
        LEAT_ASSERT(done[i].tag < OPERATIONS_MAX);
        operation_give(storage, &storage->operations[done[i].tag]);
    }
    LEAT_ASSERT(storage->operations_free <= OPERATIONS_MAX);
}

/* ---- what is asked for ---- */

static void write_want(struct leat_storage *storage, uint32_t index, uint64_t write_seq,
                       const struct leat_chain *end, bool lazy)
{
    LEAT_ASSERT(index < storage->log_count);
    struct log *log = &storage->logs[index];
    uint64_t end_pos = end->position;
    if (storage->fenced)
        return;
    LEAT_ASSERT(log->state == LOG_LIVE);
    LEAT_ASSERT(log->begun && end_pos >= log->want_end && end_pos % LEAT_FRAME_ALIGN == 0);
    LEAT_ASSERT((!log->cut_wanted && log->cuts_flying == 0) || end_pos <= log->cut_pos); /* V1 */
    LEAT_ASSERT(end_pos - log->placed_done <= log->arena_bytes);
    storage->lazy_bytes += lazy ? end_pos - log->want_end : 0;
    log->want_end = end_pos;
    log->want_crc = end->crc;
    log->want_seq = write_seq;
    log->want_report = true;
    log->last_term = end->term;
    segment_want(storage, index, end_pos);
    if (lazy && end_pos - log->issued_end <= log->arena_bytes / 8)
        log_queue_lazily(storage, index);
    else
        log_queue(storage, index);
    if (lazy && storage->lazy_since_ns == 0)
        storage->lazy_since_ns = storage->seen_ns;
}

void leat_storage_write(struct leat_storage *storage, uint32_t index, uint64_t write_seq,
                        const struct leat_chain *end)
{
    write_want(storage, index, write_seq, end, false);
}

void leat_storage_write_lazily(struct leat_storage *storage, uint32_t index, uint64_t write_seq,
                               const struct leat_chain *end)
{
    write_want(storage, index, write_seq, end, true);
}

/* Else no further base is committed, whatever else became durable or went in place. */
static bool log_may_seal_more(const struct log *log)
{
    return log->noted_base == UINT64_MAX ||
           log->commit_d > log->noted_base + log->shape.segment_bytes;
}

void leat_storage_commit(struct leat_storage *storage, uint32_t index, uint64_t commit_d)
{
    LEAT_ASSERT(index < storage->log_count);
    struct log *log = &storage->logs[index];
    if (commit_d <= log->commit_d)
        return;
    log->commit_d = commit_d;
    if (log_may_seal_more(log))
        life_publish_sealed(storage, index);
}

static void log_say(struct leat_storage *storage, uint32_t index)
{
    storage->logs[index].say = true;
    log_queue(storage, index);
}

static void cut_end(const struct leat_chain *end, uint64_t *io_pos, uint32_t *io_crc)
{
    if (*io_pos <= end->position)
        return;
    *io_pos = end->position;
    *io_crc = end->crc;
}

/* An installing log has nothing on record above its new base: there is nothing to cut. */
void leat_storage_cut(struct leat_storage *storage, uint32_t index, const struct leat_chain *end,
                      uint64_t cut_epoch)
{
    LEAT_ASSERT(index < storage->log_count);
    struct log *log = &storage->logs[index];
    uint64_t position = end->position;
    if (storage->fenced)
        return;
    LEAT_ASSERT(log->begun && cut_epoch > log->cut_epoch);
    LEAT_ASSERT(position > log->start_pos && position >= log->commit_d);
    LEAT_ASSERT(log->want_end <= block_of(position) + log->arena_bytes); /* its tail is there */
    batch_clamp(storage, index, position, end->crc);
    log->cut_epoch = cut_epoch;
    log->cut_pos = position;
    log->cut_wanted = true;
    cut_end(end, &log->want_end, &log->want_crc);
    cut_end(end, &log->issued_end, &log->issued_crc);
    cut_end(end, &log->durable_pos, &log->durable_crc);
    log->placed_pos = min_u64(log->placed_pos, block_of(position));
    log->placed_done = min_u64(log->placed_done, block_of(position));
    log->whole_wanted = true;
    if (!log->installing)
        log->installed_flag = false;
    atomic_store_explicit(&log->helper.was_cut, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->helper.sealed_epoch, 1, memory_order_release);
    log_say(storage, index);
}

/* What the journal is to say until the new base is in place: the log that was, up to there. */
static void reset_freeze(struct log *log, uint64_t position)
{
    uint64_t end_pos = max_u64(log->start_pos, min_u64(log->issued_end, position));
    uint32_t flags = LEAT_JOURNAL_WHOLE | (log->amnesiac ? LEAT_JOURNAL_AMNESIAC : 0u) |
                     (log->claims ? LEAT_JOURNAL_DAMAGED : 0u);
    journal_entry_fill(log, end_pos, min_u64(log->durable_pos, end_pos), log->placed_done,
                       (uint32_t)(end_pos % LEAT_BLOCK_BYTES), flags, &log->frozen.entry);
    if (log->durable_pos > end_pos)
        log->frozen.entry.floor_crc = 0;
    log->frozen.place_end = block_of(end_pos);
    log->frozen.place_pos = min_u64(log->placed_pos, log->frozen.place_end);
    log->frozen.claim = log->claim;
    memcpy(log->frozen.tail, log->arena + block_of(end_pos) % log->arena_bytes,
           log->frozen.entry.tail_bytes);
}

/* A second install before the first was written: the old log ends no higher than it begins. */
static void reset_refreeze(struct log *log, uint64_t position)
{
    struct leat_journal_entry *entry = &log->frozen.entry;
    LEAT_ASSERT(log->installing);
    entry->cut_epoch = log->cut_epoch;
    if (entry->end_pos <= position || position < entry->start_pos)
        return;
    entry->end_pos = position;
    entry->tail_bytes = 0;
    entry->placed_pos = min_u64(entry->placed_pos, position);
    log->frozen.place_end = min_u64(log->frozen.place_end, position);
    log->frozen.place_pos = min_u64(log->frozen.place_pos, position);
    if (entry->base_pos >= position) {
        entry->flags &= ~(uint32_t)LEAT_JOURNAL_BASE;
        entry->base_pos = entry->base_crc = 0;
    }
    entry->floor_crc = entry->floor_pos <= position ? entry->floor_crc : 0;
    entry->floor_pos = min_u64(entry->floor_pos, position);
    entry->commit_d = min_u64(entry->commit_d, entry->floor_pos);
}

void leat_storage_reset(struct leat_storage *storage, uint32_t index, uint64_t position,
                        uint64_t cut_epoch)
{
    LEAT_ASSERT(index < storage->log_count);
    struct log *log = &storage->logs[index];
    if (storage->fenced)
        return;
    LEAT_ASSERT(log->begun && cut_epoch > log->cut_epoch);
    LEAT_ASSERT(position % log->shape.segment_bytes == 0);
    batch_clamp(storage, index, position, 0);
    log->cut_epoch = cut_epoch;
    if (!log->installing)
        reset_freeze(log, position);
    else
        reset_refreeze(log, position);
    log->installing = true;
    log->installed_flag = true;
    log->cut_pos = position;
    log->cut_wanted = true;
    log->start_pos = log->commit_d = log->want_end = log->issued_end = position;
    log->durable_pos = log->placed_pos = log->placed_done = log->recorded_floor = position;
    log->durable_crc = log->want_crc = log->issued_crc = 0;
    log->noted_base = UINT64_MAX;
    log->noted_crc = 0;
    log->whole_wanted = true;
    log->ready_end = position;
    log->want_ready = 0;
    atomic_store_explicit(&log->helper.want_begin, position, memory_order_relaxed);
    atomic_store_explicit(&log->helper.was_cut, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->helper.sealed_epoch, 1, memory_order_release);
    life_publish_sealed(storage, index);
    segment_want(storage, index, position);
    log_say(storage, index);
}

void leat_storage_trim(struct leat_storage *storage, uint32_t index, uint64_t trim_pos)
{
    LEAT_ASSERT(index < storage->log_count);
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(trim_pos % log->shape.segment_bytes == 0);
    LEAT_ASSERT(trim_pos <= log->commit_d && trim_pos < log->durable_pos);
    if (storage->fenced || trim_pos <= log->start_pos)
        return;
    log->start_pos = trim_pos;
    log->trim_wanted = true;
    log->whole_wanted = true; /* what is below goes in place before its file goes away */
    log_say(storage, index);
}

void leat_storage_set_amnesiac(struct leat_storage *storage, uint32_t index, bool amnesiac)
{
    LEAT_ASSERT(index < storage->log_count);
    struct log *log = &storage->logs[index];
    if (log->amnesiac == amnesiac)
        return;
    log->amnesiac = amnesiac;
    LEAT_ASSERT(log->begun);
    log_say(storage, index);
}

void leat_storage_drop_claim(struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(index < storage->log_count && storage->logs[index].begun);
    if (!storage->logs[index].claims)
        return;
    storage->logs[index].claims = false;
    log_say(storage, index);
}

/* ---- submit ---- */

static bool floors_are_due(const struct leat_storage *storage, uint64_t now_ns)
{
    return storage->floor_head != NO_LOG && storage->batch_count == 0 &&
           storage->queue_head == NO_LOG && now_ns - storage->active_ns >= IDLE_FLOOR_NS;
}

void leat_storage_hurry(struct leat_storage *storage)
{
    storage->urgent = storage->urgent || storage->queue_head != NO_LOG;
}

static bool queue_is_due(const struct leat_storage *storage, uint64_t now_ns)
{
    LEAT_ASSERT((storage->queue_length > 0) == (storage->queue_head != NO_LOG));
    if (storage->queue_length == 0)
        return false;
    if (storage->urgent)
        return true;
    uint64_t times = 1 + (storage->queue_length - 1) / LEAT_STORAGE_LAZY_LOGS;
    uint64_t waits_ns = min_u64(times, LEAT_STORAGE_LAZY_MOST) * LEAT_STORAGE_LAZY_NS;
    return storage->lazy_bytes >= times * LEAT_STORAGE_LAZY_BYTES ||
           now_ns - storage->lazy_since_ns >= waits_ns;
}

static void queue_was_built(struct leat_storage *storage)
{
    storage->urgent = storage->queue_head != NO_LOG; /* what did not fit waits no longer */
    storage->lazy_since_ns = 0;
    storage->lazy_bytes = 0;
}

void leat_storage_submit(struct leat_storage *storage, uint64_t now_ns)
{
    bool floors = floors_are_due(storage, now_ns);
    storage->seen_ns = now_ns;
    if (storage->fenced)
        return;
    if (storage->votes_wanted > 0 || storage->pins_changed)
        votes_issue(storage, now_ns);
    if ((floors || queue_is_due(storage, now_ns)) && storage->batch_count < storage->batch_max &&
        !storage->exclusive) {
        bool built = batch_build(storage, now_ns, floors);
        queue_was_built(storage);
        storage->counters.floor_records += built && floors;
    }
    if (storage->batch_count > 0)
        batch_issue(storage);
    if (storage->operations_free == OPERATIONS_MAX)
        return;
    storage->counters.submits += storage->unsubmitted;
    storage->unsubmitted = false;
    int rc = leat_disk_submit(storage->disk);
    if (rc < 0)
        storage_fence(storage, "io_uring_enter", -rc);
}

/* ---- poll ---- */

static void item_settle(struct leat_storage *storage, const struct batch *batch,
                        const struct batch_item *item)
{
    struct log *log = &storage->logs[item->log_index];
    if (item->whole && item->cut_epoch == log->cut_epoch) /* a cut since may have left blocks out */
        log->live_at = batch->at;
    if (item->report_cut) {
        LEAT_ASSERT(log->cuts_flying > 0);
        log->cuts_flying--;
    }
    if (item->frozen)
        return;
    if (log->durable_pos < item->end_pos) {
        log->durable_pos = item->end_pos;
        log->durable_crc = item->end_crc;
    }
    if (item->whole)
        log->placed_done =
            max_u64(log->placed_done, min_u64(item->place_end, block_of(item->end_pos)));
    LEAT_ASSERT(log->durable_pos <= log->issued_end);
    if (log->recorded_floor < log->durable_pos)
        log_floor_queue(storage, item->log_index);
    if (item->start_moved && !log->installing) {
        log->base_pos = max_u64(log->base_pos, item->start_pos);
        segment_leave_below(storage, item->log_index, item->start_pos);
    }
    if (item->start_moved || log_may_seal_more(log))
        life_publish_sealed(storage, item->log_index);
}

static unsigned item_report(struct leat_storage *storage, const struct batch *batch,
                            const struct batch_item *item, struct leat_storage_event *events)
{
    unsigned count = 0;
    struct log *log = &storage->logs[item->log_index];
    bool told = log->state == LOG_LIVE; /* nothing is said of one that is being deleted */
    item_settle(storage, batch, item);
    LEAT_ASSERT(log->flying > 0);
    log->flying--;
    life_settle(storage, item->log_index);
    if (item->report_write && told)
        events[count++] = (struct leat_storage_event){.kind = LEAT_STORAGE_WRITTEN,
                                                      .log_index = item->log_index,
                                                      .sequence = item->write_seq};
    if (item->report_cut && told)
        events[count++] = (struct leat_storage_event){.kind = LEAT_STORAGE_CUT_DONE,
                                                      .log_index = item->log_index,
                                                      .sequence = item->cut_epoch};
    return count;
}

unsigned pass_report(struct leat_storage *storage, uint64_t now_ns,
                     struct leat_storage_event *events, unsigned max)
{
    unsigned count = 0;
    while (storage->batch_count > 0) {
        struct batch *batch = &storage->batches[storage->batch_first];
        if (!batch_is_complete(batch))
            break;
        while (batch->reporting < batch->item_count && count + 2 <= max)
            count += item_report(storage, batch, &batch->items[batch->reporting++], events + count);
        if (batch->reporting < batch->item_count)
            return count;
        storage->batch_first = (storage->batch_first + 1) % storage->batch_max;
        storage->batch_count--;
        storage->exclusive = storage->exclusive && storage->batch_count > 0;
        storage->active_ns = now_ns;
    }
    if (storage->votes_to_report > 0)
        count += votes_report(storage, events + count, max - count);
    if (storage->reads_busy > 0)
        count += reads_report(storage, events + count, max - count);
    /* acquire: pairs with the helper's release after what it did */
    if (atomic_load_explicit(&storage->attention, memory_order_acquire) ||
        storage->damage_count > 0)
        count += life_report(storage, events + count, max - count);
    return count;
}

int leat_storage_poll(struct leat_storage *storage, uint64_t now_ns,
                      struct leat_storage_event *events, unsigned max)
{
    LEAT_ASSERT(max >= 2);
    if (storage->fenced)
        return LEAT_EFENCED;
    if (storage->operations_free == OPERATIONS_MAX && storage->batch_count == 0 &&
        storage->votes_to_report == 0 && storage->reads_busy == 0 && storage->damage_count == 0 &&
        !atomic_load_explicit(&storage->attention, memory_order_relaxed))
        return 0;
    pass_reap(storage, now_ns);
    if (storage->fenced)
        return LEAT_EFENCED;
    int count = (int)pass_report(storage, now_ns, events, max);
    return storage->fenced ? LEAT_EFENCED : count;
}

uint64_t leat_storage_oldest_write_ns(const struct leat_storage *storage, uint64_t now_ns)
{
    uint64_t oldest_ns = now_ns;
    LEAT_ASSERT(storage->batch_count <= storage->batch_max);
    if (storage->batch_count > 0)
        oldest_ns = min_u64(oldest_ns, storage->batches[storage->batch_first].issued_ns);
    if (storage->vote_stage != 0)
        oldest_ns = min_u64(oldest_ns, storage->vote_issued_ns);
    return now_ns - oldest_ns;
}

static bool pass_is_idle(const struct leat_storage *storage)
{
    return storage->operations_free == OPERATIONS_MAX && storage->batch_count == 0;
}

int pass_drain(struct leat_storage *storage)
{
    struct leat_storage_event events[16];
    leat_storage_hurry(storage);
    for (;;) {
        bool was_idle = pass_is_idle(storage);
        leat_storage_submit(storage, storage->seen_ns);
        if (was_idle && pass_is_idle(storage)) /* what is queued waits for a segment */
            return storage->fenced ? LEAT_EFENCED : LEAT_OK;
        int rc = storage->operations_free < OPERATIONS_MAX ? leat_disk_wait(storage->disk) : 0;
        if (rc < 0)
            storage_fence(storage, "waiting for the disk", -rc);
        pass_reap(storage, storage->seen_ns);
        while (!storage->fenced && pass_report(storage, storage->seen_ns, events, 16) > 0)
            ;
        if (storage->fenced)
            return LEAT_EFENCED;
    }
}

const char *leat_storage_fence_reason(const struct leat_storage *storage)
{
    return storage->fenced ? storage->fence_reason : "not fenced";
}
