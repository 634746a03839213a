/* SPDX-License-Identifier: Apache-2.0
 *
 * A damaged sealed segment replaced by a peer's bytes. The worker collects them into a segment's
 * worth of memory, the helper verifies them, writes a new file and renames it over the damaged one:
 * no sector that holds a good byte is overwritten (V1), and a crash leaves the old file or the new.
 * States: enum repair_state. Tests: test_scrub.c.
 */
#include "scrub.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the worker's side ---- */

static int repair_state(const struct leat_storage *storage)
{
    /* acquire: pairs with repair_move() */
    return atomic_load_explicit(&storage->repair.state, memory_order_acquire);
}

static void repair_move(struct leat_storage *storage, enum repair_state state)
{
    atomic_store_explicit(&storage->repair.state, state, memory_order_release);
}

int leat_storage_repair_begin(struct leat_storage *storage, uint32_t index, uint64_t segment_base)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    const struct log *log = &storage->logs[index];
    struct repair *repair = &storage->repair;
    uint64_t next_pos = segment_base + log->shape.segment_bytes;
    if (segment_base % log->shape.segment_bytes != 0 || next_pos > log->sealed_end)
        return LEAT_EINVAL;
    if (segment_base < log->base_pos)
        return LEAT_ETRIMMED;
    if (repair_state(storage) != REPAIR_IDLE)
        return LEAT_EAGAIN;
    repair->next_is_known = next_pos == log->noted_base; /* else as the disk shows it */
    repair->next_crc = log->noted_crc;
    repair->log_index = index;
    repair->base_pos = repair->put_pos = segment_base;
    repair_move(storage, REPAIR_ASKED);
    return LEAT_OK;
}

int leat_storage_repair_put(struct leat_storage *storage, uint32_t index, uint64_t position,
                            const void *bytes, uint32_t length_bytes)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    struct repair *repair = &storage->repair;
    int state = repair_state(storage);
    if (state == REPAIR_ASKED && repair->log_index == index)
        return LEAT_EAGAIN;
    if (state != REPAIR_READY || repair->log_index != index || position != repair->put_pos)
        return LEAT_EINVAL;
    uint64_t end_pos = repair->base_pos + storage->logs[index].shape.segment_bytes;
    if (length_bytes > end_pos - position)
        return LEAT_EINVAL;
    memcpy(repair->bytes + (position - repair->base_pos), bytes, length_bytes);
    repair->put_pos += length_bytes;
    if (repair->put_pos == end_pos)
        repair_move(storage, REPAIR_WHOLE);
    return LEAT_OK;
}

void leat_storage_repair_abandon(struct leat_storage *storage, uint32_t index)
{
    int asked = REPAIR_ASKED;
    struct repair *repair = &storage->repair;
    if (repair_state(storage) == REPAIR_IDLE || repair->log_index != index)
        return;
    /* the helper may be about to make it ready */
    if (!atomic_compare_exchange_strong(&repair->state, &asked, REPAIR_ABANDONED) &&
        asked == REPAIR_READY)
        repair_move(storage, REPAIR_ABANDONED);
    /* one that is whole goes on; of a log that is being deleted its report is dropped */
}

static void repair_close_old(struct leat_storage *storage, uint32_t index, uint64_t base_pos)
{
    for (unsigned i = 0; i < SEGMENT_FDS_MAX; i++) {
        struct segment_fd *segment = &storage->segment_fds[i];
        if (segment->fd < 0 || segment->log_index != index || segment->base_pos != base_pos)
            continue;
        LEAT_ASSERT(segment->users == 0); /* sealed: nothing is written there */
        close(segment->fd);
        segment->fd = -1;
    }
}

unsigned repair_report(struct leat_storage *storage, struct leat_storage_event *events,
                       unsigned max)
{
    struct repair *repair = &storage->repair;
    if (max == 0 || repair_state(storage) != REPAIR_DONE)
        return 0;
    uint32_t index = repair->log_index;
    uint64_t base_pos = repair->base_pos;
    int result = repair->result;
    repair_move(storage, REPAIR_IDLE);
    if (!leat_storage_log_exists(storage, index))
        return 0;
    if (result == LEAT_OK) {
        storage->counters.repairs++;
        repair_close_old(storage, index, base_pos);
    }
    for (unsigned i = 0; i < DAMAGES_MAX && result == LEAT_OK; i++) {
        struct damage *damage = &storage->damages[i];
        if (!damage->known || damage->log_index != index || damage->base_pos != base_pos)
            continue;
        storage->damage_count -= damage->report;
        *damage = (struct damage){0};
    }
    events[0] = (struct leat_storage_event){
        .kind = LEAT_STORAGE_REPAIRED, .log_index = index, .sequence = base_pos, .result = result};
    return 1;
}

/* ---- the helper's side ---- */

static int repair_verify(struct leat_storage *storage, struct log *log)
{
    const struct repair *repair = &storage->repair;
    uint64_t end_pos = repair->base_pos + log->shape.segment_bytes, extent;
    struct leat_chain chain;
    uint32_t next_crc = repair->next_crc;
    int rc = leat_chain_at_base(&log->shape, repair->base_pos, repair->bytes,
                                log->shape.segment_bytes, &chain);
    while (rc == LEAT_OK && chain.position < end_pos)
        rc = leat_frame_check(&log->shape, &chain,
                              repair->bytes + (chain.position - repair->base_pos),
                              end_pos - chain.position, &extent);
    if (rc != LEAT_OK)
        return LEAT_ECHAIN;
    if (!repair->next_is_known && !prove_next_crc(storage, log, repair->base_pos, &next_crc)) {
        rc = prove_read_base(storage, log, end_pos, &next_crc);
        if (rc != LEAT_OK) { /* that one is to be repaired first */
            scrub_doubt(storage, repair->log_index, end_pos);
            return rc;
        }
    }
    return chain.crc == next_crc ? LEAT_OK : LEAT_ECHAIN;
}

static int repair_write(struct leat_storage *storage, const struct log *log)
{
    char path[LEAT_PATH_BYTES], new_path[LEAT_PATH_BYTES], directory[LEAT_PATH_BYTES];
    const struct repair *repair = &storage->repair;
    segment_path(storage, log, repair->base_pos, path);
    segment_repair_path(storage, log, repair->base_pos, new_path);
    making_path(storage, log, "log", directory);
    unlink(new_path); /* of a repair that a crash ended */
    int fd = leat_file_create(new_path);
    bool done = fd >= 0 &&
                leat_file_write(fd, repair->bytes, log->shape.segment_bytes, 0) == LEAT_OK &&
                fsync(fd) == 0 && rename(new_path, path) == 0;
    int error_number = errno;
    if (fd >= 0)
        close(fd);
    if (done && leat_path_flush(directory) == LEAT_OK)
        return LEAT_OK;
    unlink(new_path);
    if (!done && helper_has_no_space(storage, error_number))
        return LEAT_ENOSPACE;
    helper_fence(storage, "repairing a segment", done ? errno : error_number);
    return LEAT_ESYSTEM;
}

static void repair_finish(struct leat_storage *storage, int result)
{
    struct repair *repair = &storage->repair;
    leat_block_free(repair->bytes);
    repair->bytes = NULL;
    repair->result = result;
    repair_move(storage, REPAIR_DONE);
    atomic_store_explicit(&storage->attention, 1, memory_order_release);
}

void repair_drop(struct leat_storage *storage, uint32_t index)
{
    struct repair *repair = &storage->repair;
    int state = repair_state(storage);
    if (state == REPAIR_IDLE || state == REPAIR_DONE || repair->log_index != index)
        return;
    leat_block_free(repair->bytes);
    repair->bytes = NULL;
    repair_move(storage, REPAIR_IDLE);
}

bool repair_step(struct leat_storage *storage)
{
    struct repair *repair = &storage->repair;
    int state = repair_state(storage);
    if (state == REPAIR_IDLE || state == REPAIR_READY || state == REPAIR_DONE)
        return false;
    struct log *log = &storage->logs[repair->log_index];
    if (state == REPAIR_ABANDONED) {
        leat_block_free(repair->bytes);
        repair->bytes = NULL;
        repair_move(storage, REPAIR_IDLE);
        return true;
    }
    LEAT_ASSERT(log->helper.known); /* or it was dropped */
    if (state == REPAIR_ASKED) {
        int asked = REPAIR_ASKED;
        repair->bytes = leat_block_alloc(log->shape.segment_bytes);
        if (!repair->bytes)
            repair_finish(storage, LEAT_ENOMEM);
        else
            atomic_compare_exchange_strong(&repair->state, &asked, REPAIR_READY);
        return true;
    }
    /* acquire: pairs with segment_leave_below() */
    bool left =
        repair->base_pos < atomic_load_explicit(&log->helper.unlink_below, memory_order_acquire);
    int rc = left ? LEAT_ETRIMMED : repair_verify(storage, log);
    if (rc == LEAT_OK)
        rc = repair_write(storage, log);
    repair_finish(storage, rc);
    if (rc == LEAT_OK) {
        uint64_t below_pos = /* it may have waited for this one */
            repair->base_pos > 0 ? repair->base_pos - log->shape.segment_bytes : 0;
        log->helper.indexed_pos = min_u64(log->helper.indexed_pos, below_pos);
        log->helper.failed = log->helper.rest_until_ns = 0;
        helper_look_at(storage, repair->log_index);
    }
    return true;
}
