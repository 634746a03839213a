/* SPDX-License-Identifier: Apache-2.0
 *
 * Into service and out of it: begin, the first record of an incarnation, the clean stop.
 */
#include "state.h"

#include "base/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what open found ---- */

uint32_t leat_storage_log_count(const struct leat_storage *storage)
{
    return storage->log_count;
}

int leat_storage_log_info(const struct leat_storage *storage, uint32_t index,
                          struct leat_storage_log_info *ret_info)
{
    if (!leat_storage_log_exists(storage, index))
        return LEAT_ENOLOG;
    const struct log *log = &storage->logs[index];
    LEAT_ASSERT(log->arena_bytes % log->shape.segment_bytes == 0);
    *ret_info = (struct leat_storage_log_info){
        .log_id = log->log_id,
        .generation = log->generation,
        .log = log->uuid,
        .shape = log->shape,
        .arena_bytes = log->arena_bytes,
        .accepts_replicated = log->accepts_replicated,
        .entry = log->found,
        .vote_term = log->vote_term,
        .voted_for = log->voted_for,
    };
    return LEAT_OK;
}

bool leat_storage_buffers_registered(const struct leat_storage *storage)
{
    return storage->buffers_registered;
}

const struct leat_storage_counters *leat_storage_counters(const struct leat_storage *storage)
{
    return &storage->counters;
}

const struct leat_histogram *leat_storage_latency(const struct leat_storage *storage)
{
    return &storage->latency;
}

/* ---- begin ---- */

int leat_storage_begin(struct leat_storage *storage, uint32_t index,
                       const struct leat_recovered *recovered, const struct leat_uuid *arena,
                       const struct leat_uuid *boot, bool amnesiac)
{
    LEAT_ASSERT(index < storage->log_count && !storage->serving);
    struct log *log = &storage->logs[index];
    if (log->begun || !log->arena)
        return LEAT_EINVAL;
    LEAT_ASSERT(recovered->durable_pos <= recovered->chain.position);
    log->begun = true;
    log->amnesiac = amnesiac;
    log->arena_id = *arena;
    log->boot = *boot;
    log->cut_epoch = recovered->cut_epoch;
    atomic_store_explicit(&log->helper.was_cut, log->cut_epoch != 0, memory_order_relaxed);
    log->commit_d = recovered->commit_d;
    log->durable_pos = log->issued_end = log->want_end = recovered->durable_pos;
    log->durable_crc = log->issued_crc = log->want_crc = recovered->durable_crc;
    log_note_base(log, recovered->start_pos, recovered->start_crc);
    log->recorded_floor = recovered->durable_pos;
    log->placed_pos = log->placed_done = log->recovered_placed_pos;
    log->whole_wanted = true;
    log->last_term = recovered->chain.term;
    log->installed_flag =
        log->found.cut_epoch == recovered->cut_epoch && (log->found.flags & LEAT_JOURNAL_INSTALLED);
    log->claims = recovered->damaged;
    log->claim = (struct leat_journal_claim){recovered->claim_end, recovered->claim_term, 0};
    log->ready_end = leat_segment_base(&log->shape, log->placed_pos);
    return LEAT_OK;
}

/* The segment that is being filled exists already; the helper only prepares those to come. */
static void begin_segments(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    char path[LEAT_PATH_BYTES];
    LEAT_ASSERT(log->ready_end % log->shape.segment_bytes == 0);
    for (;;) {
        segment_path(storage, log, log->ready_end, path);
        if (leat_path_size(path) < (int64_t)log->shape.segment_bytes ||
            leat_path_flush(path) != LEAT_OK)
            break;
        log->ready_end += log->shape.segment_bytes;
    }
    atomic_store_explicit(&log->helper.want_begin, log->ready_end, memory_order_relaxed);
    log->helper.known = true; /* no helper is running yet */
    log->helper.indexed_pos = log->base_pos;
    segment_want(storage, index, log->want_end);
    life_publish_sealed(storage, index);
    helper_look_at(storage, index);
}

static void register_buffers(struct leat_storage *storage)
{
    struct iovec *buffers = calloc(ARENA_BUFFERS + storage->log_count, sizeof(*buffers));
    unsigned count = ARENA_BUFFERS;
    if (!buffers)
        return;
    buffers[RECORD_BUFFERS] = (struct iovec){
        storage->batches[0].record, (size_t)storage->batch_max * LEAT_JOURNAL_RECORD_BYTES_MAX};
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (log->begun)
            buffers[count++] = (struct iovec){log->arena, log->arena_bytes};
    }
    storage->buffers_registered =
        leat_disk_register_buffers(storage->disk, buffers, count) == LEAT_OK;
    for (uint32_t i = 0, next = ARENA_BUFFERS; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (log->begun)
            log->arena_buffer = storage->buffers_registered ? (int)next++ : LEAT_DISK_NO_BUFFER;
    }
    free(buffers);
}

static int commit_votes(struct leat_storage *storage)
{
    LEAT_ASSERT(storage->vote_stage == 0);
    storage->pins_changed = true; /* a round without a vote */
    storage->pins_changed_ns = 0;
    votes_issue(storage, PIN_WRITE_NS);
    return pass_drain(storage);
}

int leat_storage_commit_begin(struct leat_storage *storage, uint64_t *io_incarnation)
{
    LEAT_ASSERT(!storage->serving);
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (!storage->logs[i].begun) /* its bytes would be overwritten in the journal */
            return LEAT_EINVAL;
    }
    struct leat_rng random;
    if (leat_rng_seed_from_system(&random) != LEAT_OK)
        return LEAT_ESYSTEM;
    if (*io_incarnation != 0 && *io_incarnation <= storage->incarnation)
        return LEAT_ECORRUPT; /* the workers' directories are of different times */
    storage->incarnation = *io_incarnation
                               ? *io_incarnation
                               : ((storage->incarnation >> LEAT_INCARNATION_RANDOM_BITS) + 1)
                                         << LEAT_INCARNATION_RANDOM_BITS |
                                     leat_rng_below(&random, 1u << LEAT_INCARNATION_RANDOM_BITS);
    register_buffers(storage);
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (storage->logs[i].begun)
            begin_segments(storage, i);
    }
    if (commit_votes(storage) != LEAT_OK) /* the incarnation before anything speaks in its name */
        return LEAT_EFENCED;
    /* the oldest first: a start that dies, and the next one, do not write over what others wait
     * with */
    for (uint32_t i = storage->oldest; i != NO_LOG; i = storage->logs[i].younger) {
        storage->logs[i].say = true;
        log_queue(storage, i);
    }
    if (pass_drain(storage) != LEAT_OK)
        return LEAT_EFENCED;
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (log->begun)
            segment_leave_below(storage, i, log->start_pos);
    }
    storage->checked_ns = helper_now_ns();
    leat_block_free(storage->image.bytes);
    free(storage->image.rows);
    free(storage->image.links);
    leat_block_free(storage->segment_buffer);
    storage->image = (struct journal_image){0};
    storage->segment_buffer = NULL;
    storage->serving = true;
    *io_incarnation = storage->incarnation;
    return LEAT_OK;
}

/* ---- clean stop ---- */

int leat_storage_clean_stop(struct leat_storage *storage)
{
    if (storage->fenced || pass_drain(storage) != LEAT_OK)
        return LEAT_EFENCED;
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (log->begun && log->durable_pos != log->want_end)
            return LEAT_EAGAIN; /* it waits for a segment: nothing is written for any log */
    }
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        LEAT_ASSERT(!log_waits(log));
        if (!life_has_record(log->state))
            continue;
        log->clean = log->begun && !log->claims && !log->installing;
        log->whole_wanted = true; /* what is stopped lies in its segments, where it is scrubbed */
        log->say = true;
        log_queue(storage, i);
    }
    return pass_drain(storage);
}
