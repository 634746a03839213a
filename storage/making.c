/* SPDX-License-Identifier: Apache-2.0
 *
 * The helper's share of a log's life (life.c is the worker's): files made under a name that is no
 * log's, the name, and their removal. Blocks. Tests: test_life.c.
 */
#include "scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAKING_MORE 1

void making_path(const struct leat_storage *storage, const struct log *log, const char *prefix,
                 char path[LEAT_PATH_BYTES])
{
    int length = snprintf(path, LEAT_PATH_BYTES, "%s/%s-%" PRIu32 ".%" PRIu32, storage->worker_path,
                          prefix, log->log_id, log->generation);
    LEAT_ASSERT(length > 0 && length < (int)LEAT_PATH_BYTES);
}

static bool making_remove_one(void *context, const char *name)
{
    const char *directory = context;
    char path[LEAT_PATH_BYTES + 256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return unlink(path) == 0 || errno == ENOENT;
}

/* Returns LEAT_OK, also when there is none, or LEAT_ESYSTEM with errno set. */
int making_remove(const char *directory)
{
    LEAT_ASSERT(directory[0]);
    if (leat_directory_list(directory, making_remove_one, (void *)(uintptr_t)directory) !=
            LEAT_OK &&
        errno != ENOENT)
        return LEAT_ESYSTEM;
    return rmdir(directory) == 0 || errno == ENOENT ? LEAT_OK : LEAT_ESYSTEM;
}

static int making_begin(struct log *log, const char *directory)
{
    char path[LEAT_PATH_BYTES + 64];
    LEAT_ASSERT(log->helper.preparing_fd < 0);
    if (making_remove(directory) != LEAT_OK || mkdir(directory, 0700) != 0)
        return -errno;
    snprintf(path, sizeof(path), "%s/%016x.segment", directory, 0);
    log->helper.preparing_fd = leat_file_create(path);
    log->helper.preparing_done = 0;
    if (log->helper.preparing_fd < 0)
        return -errno;
    return segment_reserve(log->helper.preparing_fd, log->shape.segment_bytes) ? MAKING_MORE
                                                                               : -errno;
}

static int making_end(struct leat_storage *storage, struct log *log, const char *directory)
{
    const struct leat_frame *genesis = (const void *)log->arena; /* sealed by life.c */
    int rc = fsync(log->helper.preparing_fd) == 0 ? 0 : -errno;
    close(log->helper.preparing_fd);
    log->helper.preparing_fd = -1;
    if (rc == 0 &&
        genesis_write(directory, genesis,
                      leat_frame_extent(&log->shape, 0, genesis->length_bytes)) != LEAT_OK)
        rc = -errno;
    if (rc == 0 &&
        (leat_path_flush(directory) != LEAT_OK || leat_path_flush(storage->worker_path) != LEAT_OK))
        rc = -errno;
    return rc;
}

/* 0, MAKING_MORE, or a negative errno value. */
static int making_files(struct leat_storage *storage, struct log *log)
{
    char directory[LEAT_PATH_BYTES];
    making_path(storage, log, "new", directory);
    if (log->helper.preparing_fd < 0)
        return making_begin(log, directory);
    if (log->helper.preparing_done == log->shape.segment_bytes)
        return making_end(storage, log, directory);
    if (leat_file_write(log->helper.preparing_fd, storage->helper_zeros, HELPER_WRITE_BYTES,
                        log->helper.preparing_done) != LEAT_OK)
        return -errno;
    log->helper.preparing_done += HELPER_WRITE_BYTES;
    return MAKING_MORE;
}

/* What was begun is taken back: a log that cannot be made leaves nothing. */
static int making_give_up(struct leat_storage *storage, struct log *log, int error_number)
{
    char directory[LEAT_PATH_BYTES];
    making_path(storage, log, "new", directory);
    if (log->helper.preparing_fd >= 0)
        close(log->helper.preparing_fd);
    log->helper.preparing_fd = -1;
    if (error_number == EIO || error_number == EROFS || making_remove(directory) != LEAT_OK)
        helper_fence(storage, "making a log", error_number);
    return helper_has_no_space(storage, error_number) ? LEAT_ENOSPACE : LEAT_ESYSTEM;
}

static void making_place(struct leat_storage *storage, struct log *log)
{
    char from[LEAT_PATH_BYTES], to[LEAT_PATH_BYTES];
    making_path(storage, log, "new", from);
    making_path(storage, log, "log", to);
    if (rename(from, to) != 0 || leat_path_flush(storage->worker_path) != LEAT_OK)
        helper_fence(storage, "naming a log", errno);
    log->helper.known = true;
}

static void making_unmake(struct leat_storage *storage, struct log *log, uint32_t index)
{
    char directory[LEAT_PATH_BYTES];
    making_path(storage, log, "log", directory);
    if (log->helper.preparing_fd >= 0)
        close(log->helper.preparing_fd);
    log->helper.preparing_fd = -1;
    log->helper.known = false;
    scrub_drop(storage, index);
    repair_drop(storage, index);
    if (making_remove(directory) != LEAT_OK || leat_path_flush(storage->worker_path) != LEAT_OK)
        helper_fence(storage, "removing a log", errno);
}

/* One step of the log's task; true when it is done and the log is the worker's again. */
bool making_step(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    int result = LEAT_OK;
    /* acquire: pairs with life_ask() */
    int task = atomic_load_explicit(&log->helper.task, memory_order_acquire);
    LEAT_ASSERT(task != TASK_NONE);
    if (task == TASK_MAKE) {
        int rc = making_files(storage, log);
        if (rc == MAKING_MORE)
            return false;
        result = rc < 0 ? making_give_up(storage, log, -rc) : LEAT_OK;
    } else if (task == TASK_PLACE) {
        making_place(storage, log);
    } else {
        making_unmake(storage, log, index);
    }
    atomic_store_explicit(&log->helper.task_result, result, memory_order_relaxed);
    atomic_store_explicit(&log->helper.task, TASK_NONE, memory_order_relaxed);
    /* release: pairs with life_report_tasks() */
    atomic_fetch_or_explicit(&storage->done[index / 64], 1ull << index % 64, memory_order_release);
    atomic_store_explicit(&storage->attention, 1, memory_order_release);
    return true;
}
