/* SPDX-License-Identifier: Apache-2.0
 *
 * The helper's steps: zero-writes segments to come and unlinks trimmed ones. Runs on any one
 * thread beside the worker's, with its own descriptors and blocking writes; the two meet only in
 * the words of struct log_helper. A file counts as ready when it has its full size and both it and
 * its directory were flushed; one left short by a crash is filled up again.
 */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define UNLINKS_PER_STEP 64u

static bool prepare_is_ready(const struct log *log, uint64_t base_pos)
{
    unsigned slot = (unsigned)(base_pos / log->shape.segment_bytes % READY_SLOTS);
    return atomic_load_explicit(&log->helper.ready[slot], memory_order_relaxed) == base_pos + 1;
}

/* The first base that the worker wants and that is not ready. */
static bool prepare_find(struct log *log, uint64_t *ret_base_pos)
{
    uint64_t end = atomic_load_explicit(&log->helper.want_end, memory_order_acquire);
    uint64_t begin = atomic_load_explicit(&log->helper.want_begin, memory_order_relaxed);
    uint64_t limit = begin + READY_SLOTS * log->shape.segment_bytes;
    for (uint64_t base = begin; base < min_u64(end, limit); base += log->shape.segment_bytes) {
        if (!prepare_is_ready(log, base)) {
            *ret_base_pos = base;
            return true;
        }
    }
    return false;
}

static bool prepare_publish(struct leat_storage *storage, struct log *log, const char *path)
{
    char directory[LEAT_PATH_BYTES];
    int length =
        snprintf(directory, sizeof(directory), "%s/%s", storage->worker_path, log->directory);
    LEAT_ASSERT(length > 0 && length < (int)sizeof(directory));
    close(log->helper.preparing_fd);
    log->helper.preparing_fd = -1;
    if (leat_path_flush(path) != LEAT_OK || leat_path_flush(directory) != LEAT_OK)
        return false;
    uint64_t base_pos = log->helper.preparing_pos;
    unsigned slot = (unsigned)(base_pos / log->shape.segment_bytes % READY_SLOTS);
    /* release: pairs with segment_ready_below() */
    atomic_store_explicit(&log->helper.ready[slot], base_pos + 1, memory_order_release);
    return true;
}

static bool prepare_segment(struct leat_storage *storage, struct log *log)
{
    struct log_helper *helper = &log->helper;
    char path[LEAT_PATH_BYTES];

    if (helper->preparing_fd < 0) {
        uint64_t base_pos;
        if (!prepare_find(log, &base_pos))
            return false;
        segment_path(storage, log, base_pos, path);
        helper->preparing_fd = leat_file_create(path);
        if (helper->preparing_fd < 0)
            return false; /* no space or no descriptors: the worker waits, and says so */
        helper->preparing_pos = base_pos;
        bool whole = leat_path_size(path) >= (int64_t)log->shape.segment_bytes;
        helper->preparing_done = whole ? log->shape.segment_bytes : 0;
    }
    segment_path(storage, log, helper->preparing_pos, path);
    if (helper->preparing_done < log->shape.segment_bytes) {
        LEAT_ASSERT(log->shape.segment_bytes % HELPER_WRITE_BYTES == 0);
        if (leat_file_write(helper->preparing_fd, storage->helper_zeros, HELPER_WRITE_BYTES,
                            helper->preparing_done) != LEAT_OK) {
            close(helper->preparing_fd);
            helper->preparing_fd = -1;
            return false;
        }
        helper->preparing_done += HELPER_WRITE_BYTES;
        return true;
    }
    return prepare_publish(storage, log, path);
}

static bool prepare_unlink(struct leat_storage *storage, struct log *log)
{
    struct log_helper *helper = &log->helper;
    char path[LEAT_PATH_BYTES];
    /* acquire: pairs with the worker's release once the start record is durable */
    uint64_t below = atomic_load_explicit(&helper->unlink_below, memory_order_acquire);
    for (unsigned i = 0; i < UNLINKS_PER_STEP && helper->unlinked_pos < below; i++) {
        segment_path(storage, log, helper->unlinked_pos, path);
        helper->unlinked_pos += log->shape.segment_bytes;
        if (unlink(path) == 0)
            return true;
    }
    return helper->unlinked_pos < below;
}

bool leat_storage_prepare_step(struct leat_storage *storage)
{
    LEAT_ASSERT(storage && storage->helper_zeros);
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (prepare_segment(storage, &storage->logs[i]) ||
            prepare_unlink(storage, &storage->logs[i]))
            return true;
    }
    return false;
}
