/* SPDX-License-Identifier: Apache-2.0
 *
 * The helper's steps: makes segments to come of trimmed ones or of zeros (ADR 0070), unlinks what
 * has left a log, and calls the rest of what it does (making.c, repair.c, scrub.c). Runs on any one
 * thread beside the worker's, with its own descriptors and blocking I/O; the two meet only in the
 * words of struct log_helper and the bits of `work`, so that a thousand idle logs are not looked
 * at. A file counts as ready when it has its full size and both it and its directory were flushed;
 * one left short by a crash is filled up again. No space is a state that passes; a failed write or
 * flush, or a file that is no more what was opened, is the node's end.
 */
#include "scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define UNLINKS_PER_STEP 64u
#define CHECKS_PER_STEP  16u /* logs whose active segment is looked at, each CHECK_NS */

enum prepared {
    PREPARED_NOTHING,
    PREPARED_MORE,  /* something was done */
    PREPARED_AHEAD, /* something was done that nobody waits for */
    PREPARED_WAITS,
};

uint64_t helper_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void helper_fence(struct leat_storage *storage, const char *what, int error_number)
{
    LEAT_ASSERT(what && error_number > 0);
    if (atomic_load_explicit(&storage->helper_errno, memory_order_relaxed) != 0)
        return;
    storage->helper_what = what;
    /* release: pairs with life_report() */
    atomic_store_explicit(&storage->helper_errno, error_number, memory_order_release);
    atomic_store_explicit(&storage->attention, 1, memory_order_release);
}

/* Trimmed files that wait to be used again give back their space, those of idle logs too. */
static void helper_give_back(struct leat_storage *storage)
{
    for (uint32_t i = 0; i < LEAT_LOGS_MAX; i++) {
        const struct log_helper *helper = &storage->logs[i].helper;
        if (helper->known && helper->unlinked_pos <
                                 atomic_load_explicit(&helper->unlink_below, memory_order_relaxed))
            helper_look_at(storage, i);
    }
}

bool helper_has_no_space(struct leat_storage *storage, int error_number)
{
    if (error_number != ENOSPC && error_number != EDQUOT && error_number != EMFILE &&
        error_number != ENFILE && error_number != ENOMEM)
        return false;
    atomic_store_explicit(&storage->full, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&storage->full_waits, 1, memory_order_relaxed);
    storage->full_since_ns = helper_now_ns();
    helper_give_back(storage);
    atomic_store_explicit(&storage->attention, 1, memory_order_release);
    return true;
}

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

static enum prepared prepare_publish(struct leat_storage *storage, struct log *log)
{
    char directory[LEAT_PATH_BYTES];
    making_path(storage, log, "log", directory);
    int rc = fsync(log->helper.preparing_fd) == 0 ? 0 : -errno;
    close(log->helper.preparing_fd);
    log->helper.preparing_fd = -1;
    if (rc == 0 && leat_path_flush(directory) != LEAT_OK)
        rc = -errno;
    if (rc != 0) {
        helper_fence(storage, "a flush", -rc);
        return PREPARED_WAITS;
    }
    uint64_t base_pos = log->helper.preparing_pos;
    unsigned slot = (unsigned)(base_pos / log->shape.segment_bytes % READY_SLOTS);
    /* release: pairs with segment_ready_below() */
    atomic_store_explicit(&log->helper.ready[slot], base_pos + 1, memory_order_release);
    atomic_store_explicit(&storage->full, false, memory_order_relaxed);
    return PREPARED_MORE;
}

/* Space that does not suffice for a segment is given back: others may need less. */
static enum prepared prepare_failed(struct leat_storage *storage, struct log *log, const char *path)
{
    int error_number = errno;
    if (log->helper.preparing_fd >= 0) {
        close(log->helper.preparing_fd);
        unlink(path);
    }
    log->helper.preparing_fd = -1;
    if (!helper_has_no_space(storage, error_number))
        helper_fence(storage, "preparing a segment", error_number);
    return PREPARED_WAITS;
}

/* What lies beside the lowest segment that has left goes, and the helper's hands off it. */
static void leave_lowest(struct leat_storage *storage, uint32_t index, char path[LEAT_PATH_BYTES])
{
    const struct log *log = &storage->logs[index];
    uint64_t base_pos = log->helper.unlinked_pos;
    segment_index_path(storage, log, base_pos, path);
    unlink(path);
    segment_repair_path(storage, log, base_pos, path);
    unlink(path);
    scrub_leave(storage, index, base_pos);
    segment_path(storage, log, base_pos, path);
}

/* The lowest trimmed segment's file becomes the one at `to`, and need not be written with zeros: of
 * what it holds nothing verifies at another position (ADR 0070). False: there is none that nobody
 * else may have open. */
static bool prepare_reuse(struct leat_storage *storage, uint32_t index, const char *to)
{
    struct log_helper *helper = &storage->logs[index].helper;
    uint64_t segment_bytes = storage->logs[index].shape.segment_bytes;
    char path[LEAT_PATH_BYTES];
    /* acquire: pairs with segment_leave_below() */
    if (helper->unlinked_pos >= atomic_load_explicit(&helper->unlink_below, memory_order_acquire) ||
        helper->unlinked_pos < atomic_load_explicit(&helper->held_below, memory_order_relaxed))
        return false;
    leave_lowest(storage, index, path);
    if (leat_path_size(path) != (int64_t)segment_bytes || rename(path, to) != 0)
        return false;
    helper->unlinked_pos += segment_bytes;
    return true;
}

static enum prepared prepare_open(struct leat_storage *storage, uint32_t index, uint64_t base_pos)
{
    struct log *log = &storage->logs[index];
    struct log_helper *helper = &log->helper;
    int64_t segment_bytes = (int64_t)log->shape.segment_bytes;
    char path[LEAT_PATH_BYTES];
    segment_path(storage, log, base_pos, path);
    int64_t bytes = leat_path_size(path);
    bool whole = bytes >= segment_bytes || (bytes < 0 && prepare_reuse(storage, index, path));
    if (!whole && leat_storage_is_full(storage) &&
        helper_now_ns() - storage->full_since_ns < FULL_RETRY_NS)
        return PREPARED_WAITS;
    helper->preparing_fd = leat_file_create(path);
    if (helper->preparing_fd < 0)
        return prepare_failed(storage, log, path);
    helper->preparing_pos = base_pos;
    helper->preparing_done = whole ? log->shape.segment_bytes : 0;
    if (!whole && !segment_reserve(helper->preparing_fd, log->shape.segment_bytes))
        return prepare_failed(storage, log, path);
    return PREPARED_MORE;
}

static enum prepared prepare_segment(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    struct log_helper *helper = &log->helper;
    uint64_t base_pos;
    char path[LEAT_PATH_BYTES];
    if (helper->preparing_fd < 0)
        return prepare_find(log, &base_pos) ? prepare_open(storage, index, base_pos)
                                            : PREPARED_NOTHING;
    if (helper->preparing_done == log->shape.segment_bytes)
        return prepare_publish(storage, log);
    LEAT_ASSERT(log->shape.segment_bytes % HELPER_WRITE_BYTES == 0);
    segment_path(storage, log, helper->preparing_pos, path);
    if (leat_file_write(helper->preparing_fd, storage->helper_zeros, HELPER_WRITE_BYTES,
                        helper->preparing_done) != LEAT_OK)
        return prepare_failed(storage, log, path);
    helper->preparing_done += HELPER_WRITE_BYTES;
    return PREPARED_MORE;
}

/* The next segment, of those wanted because the active one is over half full, is needed soon. */
static bool prepare_is_ahead(const struct leat_storage *storage, const struct log *log)
{
    uint64_t ahead_bytes = storage->config.segments_ahead * log->shape.segment_bytes;
    return log->helper.preparing_pos + ahead_bytes >
           atomic_load_explicit(&log->helper.want_end, memory_order_relaxed);
}

/* Trimmed segments go, but for some that wait to be used again. */
static enum prepared prepare_leave(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    struct log_helper *helper = &log->helper;
    bool full = leat_storage_is_full(storage);
    uint64_t spare_bytes = full ? 0 : storage->config.segments_ahead * log->shape.segment_bytes;
    char path[LEAT_PATH_BYTES];
    /* acquire: pairs with segment_leave_below() */
    uint64_t below = atomic_load_explicit(&helper->unlink_below, memory_order_acquire);
    uint64_t held = atomic_load_explicit(&helper->held_below, memory_order_relaxed);
    uint64_t unlink_end = below > spare_bytes ? max_u64(below - spare_bytes, min_u64(held, below))
                                              : min_u64(held, below);
    for (unsigned i = 0; i < UNLINKS_PER_STEP && helper->unlinked_pos < unlink_end; i++) {
        leave_lowest(storage, index, path);
        helper->unlinked_pos += log->shape.segment_bytes;
        if (unlink(path) == 0)
            return full ? PREPARED_MORE : PREPARED_AHEAD;
    }
    return helper->unlinked_pos < unlink_end ? PREPARED_AHEAD : PREPARED_NOTHING;
}

static enum prepared prepare_log(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    /* acquire: pairs with life_ask() */
    if (atomic_load_explicit(&log->helper.task, memory_order_acquire) != TASK_NONE ||
        !log->helper.known)
        return PREPARED_NOTHING; /* what is asked for is pressing_look()'s */
    enum prepared left = prepare_leave(storage, index);
    if (left != PREPARED_NOTHING)
        return left;
    enum prepared segment = prepare_segment(storage, index);
    if (segment == PREPARED_MORE)
        return prepare_is_ahead(storage, log) ? PREPARED_AHEAD : PREPARED_MORE;
    if (scrub_wants_look(storage, index) || scrub_wants_index(storage, index))
        return PREPARED_WAITS;
    return segment;
}

/* ---- are the files still what was opened? ---- */

static void check_file(struct leat_storage *storage, int fd, const char *name, int64_t bytes,
                       const char *what)
{
    char path[LEAT_PATH_BYTES + 16];
    struct stat held, named;
    snprintf(path, sizeof(path), "%s/%s", storage->worker_path, name);
    if (fstat(fd, &held) != 0 || held.st_size != bytes || stat(path, &named) != 0 ||
        named.st_ino != held.st_ino || named.st_dev != held.st_dev)
        helper_fence(storage, what, ESTALE);
}

/* The lowest segment that is not sealed: bytes are being written there. */
static void check_active(struct leat_storage *storage, struct log *log)
{
    struct log_helper *helper = &log->helper;
    char path[LEAT_PATH_BYTES];
    struct stat st = {0};
    uint64_t base_pos = atomic_load_explicit(&helper->sealed_end, memory_order_acquire);
    uint64_t epoch = atomic_load_explicit(&helper->sealed_epoch, memory_order_acquire);
    uint64_t ready_end = atomic_load_explicit(&helper->want_begin, memory_order_acquire);
    segment_path(storage, log, base_pos, path);
    bool there = stat(path, &st) == 0 && st.st_size >= (int64_t)log->shape.segment_bytes;
    bool same = helper->active_inode == 0 || helper->active_pos != base_pos ||
                helper->active_inode == (uint64_t)st.st_ino;
    if (ready_end <= base_pos ||
        base_pos < atomic_load_explicit(&helper->sealed_begin, memory_order_acquire) ||
        base_pos != atomic_load_explicit(&helper->sealed_end, memory_order_acquire) ||
        epoch != atomic_load_explicit(&helper->sealed_epoch, memory_order_acquire))
        return;
    if (!there || !same)
        helper_fence(storage, "looking at a segment (truncated, deleted or replaced)", ESTALE);
    helper->active_pos = base_pos;
    helper->active_inode = (uint64_t)st.st_ino;
}

static void helper_check(struct leat_storage *storage)
{
    struct statvfs fs;
    uint64_t now_ns = helper_now_ns();
    if (now_ns - storage->checked_ns < CHECK_NS)
        return;
    storage->checked_ns = now_ns;
    check_file(storage, storage->journal_fd, "journal", LEAT_JOURNAL_BYTES,
               "looking at the journal (truncated, deleted or replaced)");
    check_file(storage, storage->votes_fd, "votes", 2 * LEAT_VOTE_SLOT_BYTES,
               "looking at the votes (truncated, deleted or replaced)");
    if (statvfs(storage->worker_path, &fs) == 0 && (fs.f_flag & ST_RDONLY))
        helper_fence(storage, "writing", EROFS);
    for (unsigned i = 0, looked = 0; i < LEAT_LOGS_MAX && looked < CHECKS_PER_STEP; i++) {
        struct log *log = &storage->logs[storage->checked_log];
        if (log->helper.known) {
            check_active(storage, log);
            looked++;
        }
        storage->checked_log = (storage->checked_log + 1) % LEAT_LOGS_MAX;
    }
}

/* ---- the step ---- */

static bool log_is_pressing(const struct log *log)
{
    return log_waits(log) ||
           atomic_load_explicit(&log->helper.task, memory_order_relaxed) != TASK_NONE;
}

/* A log that waits for its segment, or for its making or removal. True: something was done. */
static bool pressing_look(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    uint64_t bit = 1ull << index % 64;
    bool worked = false;
    /* acquire: pairs with helper_press() */
    atomic_fetch_and_explicit(&storage->pressing[index / 64], ~bit, memory_order_acq_rel);
    if (atomic_load_explicit(&log->helper.task, memory_order_acquire) != TASK_NONE) {
        if (making_step(storage, index)) /* the log is the worker's again */
            return true;
        worked = true;
    } else if (log_waits(log) && log->helper.known) {
        worked = prepare_segment(storage, index) == PREPARED_MORE;
    }
    if (log_is_pressing(log))
        atomic_fetch_or_explicit(&storage->pressing[index / 64], bit, memory_order_relaxed);
    return worked;
}

static bool pressing_step(struct leat_storage *storage)
{
    for (uint32_t word = 0; word < LOG_WORDS; word++) {
        uint64_t bits = atomic_load_explicit(&storage->pressing[word], memory_order_relaxed);
        for (; bits != 0; bits &= bits - 1) {
            if (pressing_look(storage, word * 64 + (uint32_t)__builtin_ctzll(bits)))
                return true;
        }
    }
    return false;
}

static enum leat_storage_step prepare_look(struct leat_storage *storage, uint32_t index)
{
    uint64_t bit = 1ull << index % 64;
    atomic_fetch_and_explicit(&storage->work[index / 64], ~bit, memory_order_acq_rel);
    enum prepared prepared = prepare_log(storage, index);
    if (prepared != PREPARED_NOTHING)
        atomic_fetch_or_explicit(&storage->work[index / 64], bit, memory_order_relaxed);
    return prepared == PREPARED_AHEAD  ? LEAT_STORAGE_AHEAD
           : prepared == PREPARED_MORE ? LEAT_STORAGE_WORKED
                                       : LEAT_STORAGE_IDLE;
}

/* From where the last step ended: no log waits for ever behind a busy one. */
static enum leat_storage_step prepare_next(struct leat_storage *storage)
{
    uint32_t from = storage->helper_log;
    for (uint32_t i = 0; i <= LOG_WORDS; i++) {
        uint32_t word = (from / 64 + i) % LOG_WORDS;
        /* acquire: pairs with helper_look_at() */
        uint64_t bits = atomic_load_explicit(&storage->work[word], memory_order_acquire);
        if (i == 0)
            bits &= ~0ull << from % 64;
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
            enum leat_storage_step step = prepare_look(storage, index);
            storage->helper_log = (index + 1) % LEAT_LOGS_MAX;
            if (step != LEAT_STORAGE_IDLE)
                return step;
        }
    }
    return LEAT_STORAGE_IDLE;
}

enum leat_storage_step leat_storage_prepare_step(struct leat_storage *storage)
{
    LEAT_ASSERT(storage && storage->helper_zeros);
    helper_check(storage);
    if (pressing_step(storage) || repair_step(storage))
        return LEAT_STORAGE_WORKED;
    enum leat_storage_step step = prepare_next(storage);
    return step != LEAT_STORAGE_IDLE ? step : scrub_step(storage);
}
