/* SPDX-License-Identifier: Apache-2.0
 *
 * Logs made and deleted while the storage serves: the worker's side (making.c is the helper's), and
 * what else the helper has to tell. The states are enum log_state's. Nothing blocks.
 *
 * Making: files under a name that is no log's, the journal record, the log's name. Deleting: the
 * journal record, the files. So a directory of a log without a record is a damaged record, and a
 * leftover of a crash is named as one (docs/recovery.md, table J). Tests: test_life.c.
 */
#include "scrub.h"

#include <string.h>

bool leat_storage_log_exists(const struct leat_storage *storage, uint32_t index)
{
    return index < storage->log_count && storage->logs[index].state == LOG_LIVE;
}

uint64_t leat_storage_bytes_held(const struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    const struct log *log = &storage->logs[index];
    return log->ready_end > log->base_pos ? log->ready_end - log->base_pos : 0;
}

uint64_t leat_storage_placed_pos(const struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(index < storage->log_count);
    return storage->logs[index].placed_done;
}

bool leat_storage_is_full(const struct leat_storage *storage)
{
    return atomic_load_explicit(&storage->full, memory_order_relaxed);
}

void helper_look_at(struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(index < LEAT_LOGS_MAX);
    /* release: pairs with leat_storage_prepare_step() */
    atomic_fetch_or_explicit(&storage->work[index / 64], 1ull << index % 64, memory_order_release);
}

void helper_press(struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(index < LEAT_LOGS_MAX);
    /* release: pairs with pressing_step() */
    atomic_fetch_or_explicit(&storage->pressing[index / 64], 1ull << index % 64,
                             memory_order_release);
}

bool leat_storage_is_pressed(const struct leat_storage *storage)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < LOG_WORDS; i++)
        bits |= atomic_load_explicit(&storage->pressing[i], memory_order_relaxed);
    return bits != 0;
}

static void life_ask(struct leat_storage *storage, uint32_t index, enum helper_task task)
{
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(atomic_load_explicit(&log->helper.task, memory_order_relaxed) == TASK_NONE);
    atomic_store_explicit(&log->helper.task, task, memory_order_release);
    helper_press(storage, index);
}

/* With the next one's first block, which says what it continues; a cut in that very block puts it
 * in place again, with the same BASE frame. A noted base was in place. */
static uint64_t log_sealed_end(const struct log *log)
{
    if (log->installing)
        return log->start_pos;
    uint64_t end_pos = max_u64(log->start_pos, log->sealed_end);
    if (log->noted_base != UINT64_MAX)
        end_pos = max_u64(end_pos, log->noted_base);
    uint64_t whole_pos =
        min_u64(min_u64(block_of(log->durable_pos), log->placed_done), log->commit_d);
    return whole_pos <= end_pos + log->shape.segment_bytes
               ? end_pos
               : leat_segment_base(&log->shape, whole_pos - 1);
}

void life_publish_sealed(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    if (!log->begun)
        return;
    if (!log->installing)
        log_look_for_base(log, log->issued_end); /* the helper compares with it */
    uint64_t end_pos = log_sealed_end(log);
    uint64_t begin_pos = max_u64(log->base_pos, log->start_pos);
    if (end_pos == log->sealed_end && begin_pos == log->sealed_begin)
        return;
    log->sealed_begin = begin_pos;
    bool more = end_pos > log->sealed_end;
    log->sealed_end = end_pos;
    atomic_store_explicit(&log->helper.sealed_begin, begin_pos, memory_order_relaxed);
    atomic_store_explicit(&log->helper.sealed_end, end_pos, memory_order_release);
    if (more)
        helper_look_at(storage, index); /* for the index */
}

/* ---- making ---- */

static uint32_t life_free_index(const struct leat_storage *storage)
{
    uint32_t index = 0;
    while (index < LEAT_LOGS_MAX && storage->logs[index].state != LOG_FREE)
        index++;
    return index;
}

static int life_check(const struct leat_storage *storage, const struct leat_format_log *log,
                      uint32_t generation)
{
    if (!leat_log_sizes_are_legal(log->segment_bytes, log->arena_bytes, log->entry_bytes_max) ||
        log->log_id % storage->identity.worker_count != storage->config.worker || log->log_id == 0)
        return LEAT_EINVAL;
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (storage->logs[i].state != LOG_FREE && storage->logs[i].log_id == log->log_id &&
            storage->logs[i].generation == generation)
            return LEAT_EEXISTS;
    }
    return LEAT_OK;
}

static void life_init(struct leat_storage *storage, struct log *log,
                      const struct leat_storage_create *create, uint32_t generation)
{
    const struct leat_format_log *format = &create->log;
    struct leat_uuid uuid = leat_uuid_of_log(&storage->identity.cluster, format->log_id);
    struct log before = {.queued = log->queued,
                         .floor_queued = log->floor_queued,
                         .next_queued = log->next_queued,
                         .next_floor = log->next_floor};
    /* what the helper still reports of the log that was here is told apart by the epoch */
    uint64_t epoch = atomic_load_explicit(&log->helper.sealed_epoch, memory_order_relaxed) + 1;
    memset(log, 0, sizeof(*log));
    atomic_store_explicit(&log->helper.sealed_epoch, epoch, memory_order_relaxed);
    log->queued = before.queued; /* an index may lie in a queue still */
    log->next_queued = before.next_queued;
    log->floor_queued = before.floor_queued;
    log->next_floor = before.next_floor;
    log->state = LOG_MAKING;
    log->log_id = format->log_id;
    log->generation = generation;
    log->uuid = uuid;
    log->shape = (struct leat_log_shape){leat_frame_salt(&uuid, generation),
                                         format->entry_bytes_max, format->segment_bytes};
    log->arena_bytes = format->arena_bytes;
    log->accepts_replicated = format->accepts_replicated;
    log_directory_name(log->log_id, log->generation, log->directory);
    log->arena = create->arena_bytes;
    log->arena_buffer = LEAT_DISK_NO_BUFFER;
    log->arena_id = create->arena;
    log->boot = create->boot;
    log->voted_for = LEAT_VOTED_NONE;
    log->helper.preparing_fd = -1;
}

int leat_storage_log_create(struct leat_storage *storage, const struct leat_storage_create *create,
                            uint32_t *ret_index)
{
    uint32_t generation = create->log.generation ? create->log.generation : 1;
    LEAT_ASSERT(storage->serving && (uintptr_t)create->arena_bytes % LEAT_BLOCK_BYTES == 0);
    if (storage->fenced)
        return LEAT_EFENCED;
    int rc = life_check(storage, &create->log, generation);
    if (rc != LEAT_OK)
        return rc;
    uint32_t index = life_free_index(storage);
    if (index == LEAT_LOGS_MAX)
        return LEAT_EBUDGET;
    struct log *log = &storage->logs[index];
    struct leat_format_config config = {.cluster = storage->identity.cluster,
                                        .member_count = storage->identity.member_count};
    memcpy(config.member_ids, storage->identity.member_ids, sizeof(config.member_ids));
    life_init(storage, log, create, generation);
    log->durable_pos = leat_genesis_frame(&config, &create->log, create->arena_bytes);
    log->issued_end = log->want_end = log->recorded_floor = log->commit_d = log->durable_pos;
    log->durable_crc = log->issued_crc = log->want_crc = genesis_crc(create->arena_bytes);
    log->ready_end = log->want_ready = log->shape.segment_bytes; /* the first is made with it */
    atomic_store_explicit(&log->helper.want_begin, log->ready_end, memory_order_relaxed);
    atomic_store_explicit(&log->helper.want_end, log->ready_end, memory_order_relaxed);
    storage->log_count = index >= storage->log_count ? index + 1 : storage->log_count;
    life_ask(storage, index, TASK_MAKE);
    *ret_index = index;
    return LEAT_OK;
}

/* The record itself makes the genesis frame durable: it is in its tail. */
static void life_name(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(log->state == LOG_MAKING && !log->begun);
    log->state = LOG_NAMING;
    log->begun = true;
    log->whole_wanted = true;
    log->issued_at = log->live_at = storage->ring_head;
    log->say = true;
    log_age_insert(storage, index);
    log_queue(storage, index);
}

/* ---- deleting ---- */

static void life_forget_votes(struct leat_storage *storage, struct log *log)
{
    storage->votes_wanted -= log->vote_wanted;
    storage->votes_to_report -= log->vote_report;
    log->vote_wanted = log->vote_flying = log->vote_report = false;
}

static void life_forget_damage(struct leat_storage *storage, uint32_t index)
{
    for (unsigned i = 0; i < DAMAGES_MAX; i++) {
        struct damage *damage = &storage->damages[i];
        if (!damage->known || damage->log_index != index)
            continue;
        storage->damage_count -= damage->report;
        *damage = (struct damage){0};
    }
}

void leat_storage_log_delete(struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index) && storage->serving);
    struct log *log = &storage->logs[index];
    if (storage->fenced)
        return;
    leat_storage_repair_abandon(storage, index);
    life_forget_votes(storage, log);
    life_forget_damage(storage, index);
    log->state = LOG_ENDING;
    log->want_end = log->issued_end;
    log->want_report = log->cut_wanted = log->trim_wanted = false;
    atomic_store_explicit(&log->helper.waited_for, false, memory_order_relaxed);
    life_settle(storage, index);
}

/* Its entry is what the journal says of the log until its files are gone: the arena's no more. */
static void life_unname(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(log->flying == 0 && log->reads_flying == 0);
    log->state = LOG_UNNAMING;
    log->begun = false;
    log->frozen.place_pos = log->frozen.place_end = 0;
    log->frozen.entry = (struct leat_journal_entry){
        .log = log->uuid,
        .log_id = log->log_id,
        .generation = log->generation,
        .cut_epoch = log->cut_epoch + 1,
        .flags = LEAT_JOURNAL_DELETED,
        .segment_log2 = (uint32_t)__builtin_ctzll(log->shape.segment_bytes),
    };
    if (log->arena_buffer != LEAT_DISK_NO_BUFFER)
        leat_disk_release_buffer(storage->disk, log->arena_buffer);
    log->arena_buffer = LEAT_DISK_NO_BUFFER;
    segment_close_of(storage, index);
    log->say = true;
    log_queue(storage, index);
}

void life_settle(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    switch (log->state) {
    case LOG_NAMING:
        log->state = LOG_PLACING;
        life_ask(storage, index, TASK_PLACE);
        break;
    case LOG_ENDING:
        if (log->flying == 0 && log->reads_flying == 0)
            life_unname(storage, index);
        break;
    case LOG_UNNAMING:
        log->state = LOG_REMOVING;
        life_ask(storage, index, TASK_REMOVE);
        break;
    case LOG_REMOVED:
        if (log->flying == 0)
            atomic_store_explicit(&storage->attention, 1, memory_order_relaxed);
        break;
    default:
        break;
    }
}

/* ---- what the helper did ---- */

static bool life_task_done(struct leat_storage *storage, uint32_t index,
                           struct leat_storage_event *ret_event)
{
    struct log *log = &storage->logs[index];
    int result = atomic_load_explicit(&log->helper.task_result, memory_order_relaxed);
    *ret_event = (struct leat_storage_event){.kind = LEAT_STORAGE_CREATED,
                                             .log_index = index,
                                             .sequence = log->durable_pos,
                                             .result = result};
    if (log->state == LOG_MAKING && result == LEAT_OK) {
        life_name(storage, index);
        return false;
    }
    if (log->state == LOG_MAKING) {
        log->state = LOG_FREE;
        return true;
    }
    if (log->state == LOG_PLACING) {
        log->state = LOG_LIVE;
        life_publish_sealed(storage, index);
        storage->counters.logs_created++;
        return true;
    }
    LEAT_ASSERT(log->state == LOG_REMOVING || log->state == LOG_REMOVED);
    if (log->state == LOG_REMOVING)
        log_age_remove(storage, index);
    log->state = log->flying == 0 ? LOG_FREE : LOG_REMOVED;
    if (log->state == LOG_REMOVED)
        return false;
    storage->counters.logs_deleted++;
    ret_event->kind = LEAT_STORAGE_DELETED;
    ret_event->sequence = 0;
    return true;
}

static unsigned life_report_tasks(struct leat_storage *storage, struct leat_storage_event *events,
                                  unsigned max)
{
    unsigned count = 0;
    for (uint32_t word = 0; word < LOG_WORDS; word++) {
        /* acquire: pairs with the helper's release of what it did */
        uint64_t bits = atomic_load_explicit(&storage->done[word], memory_order_acquire);
        for (; bits != 0; bits &= bits - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(bits);
            if (count == max)
                return count;
            if (life_task_done(storage, word * 64 + bit, &events[count]))
                count++;
            else if (storage->logs[word * 64 + bit].state == LOG_REMOVED)
                continue; /* looked at again when its last record is complete */
            atomic_fetch_and_explicit(&storage->done[word], ~(1ull << bit), memory_order_relaxed);
        }
    }
    return count;
}

bool life_damage_is_known(const struct leat_storage *storage, uint32_t index, uint64_t base_pos)
{
    for (unsigned i = 0; i < DAMAGES_MAX; i++) {
        const struct damage *damage = &storage->damages[i];
        if (damage->known && damage->log_index == index && damage->base_pos == base_pos)
            return true;
    }
    return false;
}

/* One that is free, or of a segment that was trimmed before it was repaired. */
static struct damage *damage_place(struct leat_storage *storage)
{
    for (unsigned i = 0; i < DAMAGES_MAX; i++) {
        struct damage *damage = &storage->damages[i];
        if (!damage->known)
            return damage;
        if (damage->base_pos < storage->logs[damage->log_index].base_pos) {
            storage->damage_count -= damage->report;
            return damage;
        }
    }
    return NULL;
}

void life_damage(struct leat_storage *storage, const struct helper_report *report)
{
    struct log *log = &storage->logs[report->log_index];
    if (log->state != LOG_LIVE || report->base_pos < log->base_pos ||
        life_damage_is_known(storage, report->log_index, report->base_pos))
        return;
    if (report->epoch != atomic_load_explicit(&log->helper.sealed_epoch, memory_order_relaxed)) {
        leat_storage_suspect(storage, report->log_index, report->base_pos); /* cut meanwhile */
        return;
    }
    struct damage *place = damage_place(storage);
    if (!place)
        return; /* found again when others are repaired */
    *place = (struct damage){report->log_index, true,           true, report->base_pos,
                             report->begin_pos, report->end_pos};
    storage->damage_count++;
    storage->counters.damages++;
}

static unsigned life_report_damage(struct leat_storage *storage, struct leat_storage_event *events,
                                   unsigned max)
{
    unsigned count = 0;
    uint32_t head = atomic_load_explicit(&storage->report_head, memory_order_relaxed);
    /* acquire: pairs with report_damage() */
    uint32_t tail = atomic_load_explicit(&storage->report_tail, memory_order_acquire);
    for (; head != tail; head++)
        life_damage(storage, &storage->reports[head % REPORTS_MAX]);
    atomic_store_explicit(&storage->report_head, head, memory_order_release);
    for (unsigned i = 0; i < DAMAGES_MAX && storage->damage_count > 0 && count < max; i++) {
        struct damage *damage = &storage->damages[i];
        if (!damage->report)
            continue;
        damage->report = false;
        storage->damage_count--;
        events[count++] = (struct leat_storage_event){.kind = LEAT_STORAGE_DAMAGE,
                                                      .log_index = damage->log_index,
                                                      .sequence = damage->begin_pos,
                                                      .result = (int64_t)damage->end_pos};
    }
    return count;
}

unsigned life_report(struct leat_storage *storage, struct leat_storage_event *events, unsigned max)
{
    int error_number = atomic_load_explicit(&storage->helper_errno, memory_order_acquire);
    if (error_number != 0)
        storage_fence(storage, storage->helper_what, error_number);
    if (storage->fenced)
        return 0;
    /* taken before the look, so that what comes meanwhile is seen at the next */
    atomic_store_explicit(&storage->attention, 0, memory_order_seq_cst);
    unsigned count = life_report_tasks(storage, events, max);
    count += life_report_damage(storage, events + count, max - count);
    count += repair_report(storage, events + count, max - count);
    if (count == max)
        atomic_store_explicit(&storage->attention, 1, memory_order_relaxed);
    storage->counters.full_waits = atomic_load_explicit(&storage->full_waits, memory_order_relaxed);
    storage->counters.scrubbed_bytes =
        atomic_load_explicit(&storage->scrubbed_bytes, memory_order_relaxed);
    return count;
}
