/* SPDX-License-Identifier: Apache-2.0
 *
 * Segment files: names, descriptors, and what the worker knows of readiness. A segment is ready
 * when it was really written with zeros and flushed, file first, then directory (prepare.c).
 */
#include "state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void log_directory_name(uint32_t log_id, uint32_t generation, char name[64])
{
    snprintf(name, 64, "log-%" PRIu32 ".%" PRIu32, log_id, generation);
}

void segment_path(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                  char path[LEAT_PATH_BYTES])
{
    int length = snprintf(path, LEAT_PATH_BYTES, "%s/%s/%016" PRIx64 ".segment",
                          storage->worker_path, log->directory, base_pos);
    LEAT_ASSERT(length > 0 && length < (int)LEAT_PATH_BYTES);
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

/* What is not durable yet lies within an arena's length, so with one descriptor more than segments
 * that this can touch, the one given up belongs to no request, queued or in flight. */
int segment_fds_make(struct log *log)
{
    LEAT_ASSERT(log->segment_fds == NULL && log->arena_bytes >= log->shape.segment_bytes);
    log->segment_fd_count = (unsigned)(log->arena_bytes / log->shape.segment_bytes) + 2;
    log->segment_fds = calloc(log->segment_fd_count, sizeof(*log->segment_fds));
    if (!log->segment_fds)
        return LEAT_ENOMEM;
    for (unsigned i = 0; i < log->segment_fd_count; i++)
        log->segment_fds[i].fd = -1;
    return LEAT_OK;
}

int segment_fd_for_write(struct leat_storage *storage, struct log *log, uint64_t base_pos)
{
    struct segment_fd *oldest = &log->segment_fds[0];
    char path[LEAT_PATH_BYTES];

    LEAT_ASSERT(base_pos % log->shape.segment_bytes == 0);
    for (unsigned i = 0; i < log->segment_fd_count; i++) {
        if (log->segment_fds[i].fd >= 0 && log->segment_fds[i].base_pos == base_pos)
            return log->segment_fds[i].fd;
        if (log->segment_fds[i].fd < 0 ||
            (oldest->fd >= 0 && log->segment_fds[i].base_pos < oldest->base_pos))
            oldest = &log->segment_fds[i];
    }
    if (oldest->fd >= 0)
        close(oldest->fd);
    segment_path(storage, log, base_pos, path);
    oldest->fd = leat_file_open(path, true);
    oldest->base_pos = base_pos;
    return oldest->fd;
}

int segment_open_for_read(const struct leat_storage *storage, const struct log *log,
                          uint64_t base_pos)
{
    char path[LEAT_PATH_BYTES];
    LEAT_ASSERT(base_pos % log->shape.segment_bytes == 0);
    segment_path(storage, log, base_pos, path);
    return leat_file_open(path, false);
}

void segment_close_all(struct log *log)
{
    for (unsigned i = 0; i < log->segment_fd_count; i++) {
        if (log->segment_fds[i].fd >= 0)
            close(log->segment_fds[i].fd);
        log->segment_fds[i].fd = -1;
    }
    free(log->segment_fds);
    log->segment_fds = NULL;
    log->segment_fd_count = 0;
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

void segment_want(const struct leat_storage *storage, struct log *log, uint64_t end_pos)
{
    uint64_t segment_bytes = log->shape.segment_bytes;
    uint64_t want = leat_segment_base(&log->shape, end_pos) +
                    (1 + storage->config.segments_ahead) * segment_bytes;
    LEAT_ASSERT(storage->config.segments_ahead <= AHEAD_MAX);
    if (want <= log->want_ready)
        return;
    log->want_ready = want;
    atomic_store_explicit(&log->helper.want_end, want, memory_order_release);
}
