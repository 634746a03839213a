/* SPDX-License-Identifier: Apache-2.0
 *
 * The helper's steps: zero-writes segments to come, uses trimmed ones again or unlinks them (ADR
 * 0070), and calls the rest of
 * what it does (making.c, repair.c, scrub.c). Runs on any one thread beside the worker's, with its
 * own descriptors and blocking I/O; the two meet only in the words of struct log_helper and the
 * bits of `work`, so that a thousand idle logs are not looked at. A file counts as ready when it
 * has its full size and both it and its directory were flushed; one left short by a crash is filled
 * up again. No space is a state that passes; a failed write or flush, or a file that is no more
 * what was opened, is the node's end.
 */
#include "state.h"

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
    PREPARED_MORE,
    PREPARED_AHEAD, /* the same, and nobody waits for it */
    PREPARED_WAITS,
    PREPARED_DONE,
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

bool helper_has_no_space(struct leat_storage *storage, int error_number)
{
    if (error_number != ENOSPC && error_number != EDQUOT && error_number != EMFILE &&
        error_number != ENFILE && error_number != ENOMEM)
        return false;
    atomic_store_explicit(&storage->full, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&storage->full_waits, 1, memory_order_relaxed);
    storage->full_since_ns = helper_now_ns();
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

static enum prepared prepare_segment(struct leat_storage *storage, struct log *log)
{
    struct log_helper *helper = &log->helper;
    uint64_t segment_bytes = log->shape.segment_bytes, base_pos;
    char path[LEAT_PATH_BYTES];

    if (helper->preparing_fd < 0) {
        if (!prepare_find(log, &base_pos))
            return PREPARED_NOTHING;
        if (leat_storage_is_full(storage) &&
            helper_now_ns() - storage->full_since_ns < FULL_RETRY_NS)
            return PREPARED_WAITS;
        segment_path(storage, log, base_pos, path);
        helper->preparing_fd = leat_file_create(path);
        if (helper->preparing_fd < 0)
            return prepare_failed(storage, log, path);
        helper->preparing_pos = base_pos;
        bool whole = leat_path_size(path) >= (int64_t)segment_bytes;
        helper->preparing_done = whole ? segment_bytes : 0;
        if (!whole && !segment_reserve(helper->preparing_fd, segment_bytes))
            return prepare_failed(storage, log, path);
    }
    segment_path(storage, log, helper->preparing_pos, path);
    if (helper->preparing_done == segment_bytes)
        return prepare_publish(storage, log);
    LEAT_ASSERT(segment_bytes % HELPER_WRITE_BYTES == 0);
    if (leat_file_write(helper->preparing_fd, storage->helper_zeros, HELPER_WRITE_BYTES,
                        helper->preparing_done) != LEAT_OK)
        return prepare_failed(storage, log, path);
    helper->preparing_done += HELPER_WRITE_BYTES;
    return PREPARED_MORE;
}

/* The trimmed segment's file becomes that of one to come, and need not be written with zeros: of
 * what it holds nothing verifies at another position (docs/recovery.md). At most as many wait as
 * are prepared ahead. False: it does not. */
static bool prepare_reuse(struct leat_storage *storage, uint32_t index, const char *path)
{
    struct log *log = &storage->logs[index];
    struct log_helper *helper = &log->helper;
    uint64_t segment_bytes = log->shape.segment_bytes;
    uint64_t begin = atomic_load_explicit(&helper->want_begin, memory_order_relaxed);
    uint64_t end = atomic_load_explicit(&helper->want_end, memory_order_acquire) +
                   storage->config.segments_ahead * segment_bytes;
    char to[LEAT_PATH_BYTES];
    if (helper->unlinked_pos < atomic_load_explicit(&helper->held_below, memory_order_relaxed) ||
        leat_storage_is_full(storage) || leat_path_size(path) != (int64_t)segment_bytes)
        return false;
    for (uint64_t base = begin; base < end; base += segment_bytes) {
        segment_path(storage, log, base, to);
        if (leat_path_size(to) >= 0)
            continue;
        scrub_leave(storage, index, helper->unlinked_pos);
        return rename(path, to) == 0;
    }
    return false;
}

/* Trimmed segments go, each with its index. */
static enum prepared prepare_leave(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    struct log_helper *helper = &log->helper;
    char path[LEAT_PATH_BYTES];
    /* acquire: pairs with the worker's release once the start record is durable */
    uint64_t below = atomic_load_explicit(&helper->unlink_below, memory_order_acquire);
    for (unsigned i = 0; i < UNLINKS_PER_STEP && helper->unlinked_pos < below; i++) {
        segment_index_path(storage, log, helper->unlinked_pos, path);
        unlink(path);
        segment_repair_path(storage, log, helper->unlinked_pos, path);
        unlink(path);
        segment_path(storage, log, helper->unlinked_pos, path);
        bool reused = prepare_reuse(storage, index, path);
        helper->unlinked_pos += log->shape.segment_bytes;
        if (reused || unlink(path) == 0)
            return PREPARED_AHEAD;
    }
    return helper->unlinked_pos < below ? PREPARED_AHEAD : PREPARED_NOTHING;
}

static enum prepared prepare_log(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    /* acquire: pairs with life_ask() */
    if (atomic_load_explicit(&log->helper.task, memory_order_acquire) != TASK_NONE)
        return making_step(storage, index) ? PREPARED_DONE : PREPARED_MORE;
    if (!log->helper.known)
        return PREPARED_NOTHING;
    bool waited_for = log_waits(log);
    enum prepared segment = prepare_segment(storage, log);
    if (segment == PREPARED_MORE)
        return waited_for ? PREPARED_MORE : PREPARED_AHEAD;
    enum prepared rest = prepare_leave(storage, index);
    if (rest == PREPARED_NOTHING &&
        (scrub_wants_look(storage, index) || scrub_wants_index(storage, index)))
        rest = PREPARED_WAITS;
    return rest == PREPARED_NOTHING ? segment : rest;
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

static enum leat_storage_step prepare_word(struct leat_storage *storage, uint32_t word)
{
    /* acquire: pairs with helper_look_at() */
    uint64_t bits = atomic_load_explicit(&storage->work[word], memory_order_acquire);
    for (; bits != 0; bits &= bits - 1) {
        uint64_t bit = bits & -bits;
        uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
        atomic_fetch_and_explicit(&storage->work[word], ~bit, memory_order_acq_rel);
        enum prepared prepared = prepare_log(storage, index);
        /* done: the log is the worker's again, and not looked at without being asked */
        if (prepared != PREPARED_NOTHING && prepared != PREPARED_DONE)
            atomic_fetch_or_explicit(&storage->work[word], bit, memory_order_relaxed);
        if (prepared == PREPARED_MORE || prepared == PREPARED_DONE)
            return LEAT_STORAGE_WORKED;
        if (prepared == PREPARED_AHEAD)
            return LEAT_STORAGE_AHEAD;
    }
    return LEAT_STORAGE_IDLE;
}

enum leat_storage_step leat_storage_prepare_step(struct leat_storage *storage)
{
    LEAT_ASSERT(storage && storage->helper_zeros);
    helper_check(storage);
    for (uint32_t i = 0; i < LOG_WORDS; i++) {
        /* from where the last step ended: no log waits for ever behind a busy one */
        uint32_t word = (storage->helper_word + i) % LOG_WORDS;
        enum leat_storage_step step = prepare_word(storage, word);
        if (step != LEAT_STORAGE_IDLE) {
            storage->helper_word = word;
            return step;
        }
    }
    return repair_step(storage) ? LEAT_STORAGE_WORKED : scrub_step(storage);
}
