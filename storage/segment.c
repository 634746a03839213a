/* SPDX-License-Identifier: Apache-2.0
 *
 * Segment files: names, descriptors, and what the worker knows of readiness. A segment is ready
 * when all of it was really written once, with zeros or as a segment that was trimmed since, and
 * flushed, file first, then directory (prepare.c).
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/segment_index.h"

void log_directory_name(uint32_t log_id, uint32_t generation, char name[64])
{
    snprintf(name, 64, "log-%" PRIu32 ".%" PRIu32, log_id, generation);
}

static void segment_file_path(const struct leat_storage *storage, const struct log *log,
                              uint64_t base_pos, const char *suffix, char path[LEAT_PATH_BYTES])
{
    int length = snprintf(path, LEAT_PATH_BYTES, "%s/%s/%016" PRIx64 ".%s", storage->worker_path,
                          log->directory, base_pos, suffix);
    LEAT_ASSERT(length > 0 && length < (int)LEAT_PATH_BYTES);
}

void segment_path(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                  char path[LEAT_PATH_BYTES])
{
    segment_file_path(storage, log, base_pos, "segment", path);
}

void segment_index_path(const struct leat_storage *storage, const struct log *log,
                        uint64_t base_pos, char path[LEAT_PATH_BYTES])
{
    segment_file_path(storage, log, base_pos, "index", path);
}

void segment_repair_path(const struct leat_storage *storage, const struct log *log,
                         uint64_t base_pos, char path[LEAT_PATH_BYTES])
{
    segment_file_path(storage, log, base_pos, "repair", path);
}

bool segment_parse_name(const char *name, uint64_t *ret_base_pos)
{
    char *end;
    if (strlen(name) != 16 + strlen(".segment") || strspn(name, "0123456789abcdef") != 16)
        return false;
    uint64_t base_pos = strtoull(name, &end, 16);
    if (strcmp(end, ".segment") != 0)
        return false;
    *ret_base_pos = base_pos;
    return true;
}

/* The least recently used that no request names, queued or in flight, makes room. */
static struct segment_fd *segment_fd_oldest(struct leat_storage *storage)
{
    struct segment_fd *oldest = NULL;
    for (unsigned i = 0; i < SEGMENT_FDS_MAX; i++) {
        struct segment_fd *segment = &storage->segment_fds[i];
        if (segment->fd < 0)
            return segment;
        if (segment->users == 0 && (!oldest || segment->used_at < oldest->used_at))
            oldest = segment;
    }
    LEAT_ASSERT(oldest); /* there are more of them than requests */
    close(oldest->fd);
    oldest->fd = -1;
    return oldest;
}

static bool segment_fd_is(const struct segment_fd *segment, uint32_t index, uint64_t base_pos)
{
    return segment->fd >= 0 && segment->log_index == index && segment->base_pos == base_pos;
}

struct segment_fd *segment_for_write(struct leat_storage *storage, uint32_t index,
                                     uint64_t base_pos)
{
    struct log *log = &storage->logs[index];
    struct segment_fd *segment = &storage->segment_fds[log->segment_hint];
    char path[LEAT_PATH_BYTES];

    LEAT_ASSERT(base_pos % log->shape.segment_bytes == 0);
    for (unsigned i = 0; i < SEGMENT_FDS_MAX && !segment_fd_is(segment, index, base_pos); i++)
        segment = &storage->segment_fds[i];
    if (!segment_fd_is(segment, index, base_pos)) {
        segment = segment_fd_oldest(storage);
        segment_path(storage, log, base_pos, path);
        segment->fd = leat_file_open(path, true);
        if (segment->fd < 0)
            return NULL;
        segment->base_pos = base_pos;
        segment->log_index = index;
    }
    log->segment_hint = (unsigned)(segment - storage->segment_fds);
    segment->used_at = ++storage->segment_uses;
    return segment;
}

void segment_close_of(struct leat_storage *storage, uint32_t index)
{
    for (unsigned i = 0; i < SEGMENT_FDS_MAX; i++) {
        struct segment_fd *segment = &storage->segment_fds[i];
        if (segment->fd < 0 || segment->log_index != index)
            continue;
        LEAT_ASSERT(segment->users == 0);
        close(segment->fd);
        segment->fd = -1;
    }
}

void segment_hold_below(struct log *log, uint64_t end_pos)
{
    /* relaxed: unlink_below is released later */
    if (atomic_load_explicit(&log->helper.held_below, memory_order_relaxed) < end_pos)
        atomic_store_explicit(&log->helper.held_below, end_pos, memory_order_relaxed);
}

/* A descriptor that is kept would keep an unlinked file's space, and a close that frees it would be
 * the worker's. What a request names still is not used again. */
void segment_leave_below(struct leat_storage *storage, uint32_t index, uint64_t end_pos)
{
    struct log *log = &storage->logs[index];
    bool held = log->reads_flying > 0;
    for (unsigned i = 0; i < SEGMENT_FDS_MAX; i++) {
        struct segment_fd *segment = &storage->segment_fds[i];
        if (segment->fd < 0 || segment->log_index != index || segment->base_pos >= end_pos)
            continue;
        if (segment->users > 0) {
            held = true;
            continue;
        }
        close(segment->fd);
        segment->fd = -1;
    }
    if (held)
        segment_hold_below(log, end_pos);
    /* release: pairs with prepare_leave() */
    atomic_store_explicit(&log->helper.unlink_below, end_pos, memory_order_release);
    helper_look_at(storage, index);
}

int segment_open_for_read(const struct leat_storage *storage, const struct log *log,
                          uint64_t base_pos)
{
    char path[LEAT_PATH_BYTES];
    LEAT_ASSERT(base_pos % log->shape.segment_bytes == 0);
    segment_path(storage, log, base_pos, path);
    return leat_file_open(path, false);
}

void segment_close_all(struct leat_storage *storage)
{
    for (unsigned i = 0; i < SEGMENT_FDS_MAX; i++) {
        if (storage->segment_fds[i].fd >= 0)
            close(storage->segment_fds[i].fd);
        storage->segment_fds[i].fd = -1;
    }
}

bool log_waits(const struct log *log)
{
    return atomic_load_explicit(&log->helper.waited_for, memory_order_relaxed);
}

/* All the space or none; the size follows what is written. A file system that cannot tell says so
 * at the write. */
bool segment_reserve(int fd, uint64_t segment_bytes)
{
    LEAT_ASSERT(fd >= 0);
    return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)segment_bytes) == 0 || errno == EOPNOTSUPP;
}

bool segment_ready_below(struct log *log, uint64_t end_pos)
{
    uint64_t segment_bytes = log->shape.segment_bytes;
    LEAT_ASSERT(log->ready_end % segment_bytes == 0);
    if (log->ready_end >= end_pos)
        return true;
    uint64_t before = log->ready_end;
    for (;;) {
        unsigned slot = (unsigned)(log->ready_end / segment_bytes % READY_SLOTS);
        /* acquire: pairs with the helper's release after its flushes */
        uint64_t ready = atomic_load_explicit(&log->helper.ready[slot], memory_order_acquire);
        if (ready != log->ready_end + 1)
            break;
        log->ready_end += segment_bytes;
    }
    if (log->ready_end != before)
        atomic_store_explicit(&log->helper.want_begin, log->ready_end, memory_order_relaxed);
    return log->ready_end >= end_pos;
}

/* Segments ahead only when the active one is over half full: a thousand idle logs hold one each. */
void segment_want(struct leat_storage *storage, uint32_t index, uint64_t end_pos)
{
    struct log *log = &storage->logs[index];
    uint64_t segment_bytes = log->shape.segment_bytes;
    uint64_t base_pos = leat_segment_base(&log->shape, end_pos);
    bool ahead = end_pos - base_pos > segment_bytes / 2;
    uint64_t want = base_pos + (1 + (ahead ? storage->config.segments_ahead : 0)) * segment_bytes;
    LEAT_ASSERT(storage->config.segments_ahead <= AHEAD_MAX);
    if (want <= log->want_ready)
        return;
    log->want_ready = want;
    atomic_store_explicit(&log->helper.want_end, want, memory_order_release);
    helper_look_at(storage, index);
}

bool segment_index_holds(const struct leat_storage *storage, const struct log *log,
                         uint64_t base_pos)
{
    char path[LEAT_PATH_BYTES];
    uint64_t rows_max = log->shape.segment_bytes / LEAT_INDEX_STEP_BYTES;
    uint64_t room = sizeof(struct leat_index_head) + rows_max * sizeof(struct leat_index_row);
    segment_index_path(storage, log, base_pos, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct leat_index_head *head = fd >= 0 ? calloc(1, room) : NULL;
    bool holds = false;
    ssize_t got = head ? pread(fd, head, room, 0) : -1;
    if (got >= (ssize_t)sizeof(*head) && head->magic == LEAT_INDEX_MAGIC &&
        head->version == LEAT_INDEX_VERSION && head->row_count >= 1 &&
        head->row_count <= rows_max && head->base_pos == base_pos &&
        leat_uuid_equal(&head->log, &log->uuid) && head->generation == log->generation) {
        uint64_t used = sizeof(*head) + head->row_count * sizeof(struct leat_index_row);
        uint32_t crc = head->crc;
        head->crc = 0;
        holds = got >= (ssize_t)used && leat_crc32c(0, head, used) == crc;
    }
    free(head);
    if (fd >= 0)
        close(fd);
    return holds;
}
