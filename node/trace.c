/* SPDX-License-Identifier: Apache-2.0
 *
 * When each log got how far (base/trace.h). Off unless configured: then a point costs the pass one
 * branch. On, it costs a look at each busy log, and 32 bytes for each that moved.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "worker.h"

/* The highest position that left for any peer. */
static uint64_t trace_sent(const struct node_log *log)
{
    uint64_t sent = 0;
    for (unsigned member = 0; member < log->core.config.member_count; member++) {
        uint64_t begin = log->sends[member].range.begin;
        sent = begin > sent ? begin : sent;
    }
    return sent < log->chain.position ? sent : log->chain.position;
}

/* What the log has reached; 0: the point is not this role's. */
static uint64_t trace_position(const struct node_log *log, enum leat_trace_point point)
{
    bool leads = log->core.role == LEAT_LEADER;
    switch (point) {
    case LEAT_TRACE_SEALED:
        return leads ? log->chain.position : 0;
    case LEAT_TRACE_SENT:
        return leads ? trace_sent(log) : 0;
    case LEAT_TRACE_RECEIVED:
        return leads ? 0 : log->chain.position;
    case LEAT_TRACE_DURABLE:
        return log->core.durable_pos;
    case LEAT_TRACE_COMMIT_R:
        return log->core.commit_r;
    case LEAT_TRACE_COMMIT_D:
        return log->core.commit_d;
    case LEAT_TRACE_POINTS:
        break;
    }
    return 0;
}

static void trace_put(struct node_trace *trace, const struct leat_trace_event *event)
{
    struct leat_trace_event *to = &trace->events[trace->written & (trace->header->event_count - 1)];
    __atomic_store_n(&to->number, 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release); /* pairs with a reader's acquire fence */
    __atomic_store_n(&to->ns, event->ns, __ATOMIC_RELAXED);
    __atomic_store_n(&to->position, event->position, __ATOMIC_RELAXED);
    __atomic_store_n(&to->log_id, event->log_id, __ATOMIC_RELAXED);
    __atomic_store_n(&to->point, event->point, __ATOMIC_RELAXED);
    __atomic_store_n(&to->number, ++trace->written, __ATOMIC_RELEASE);
}

void trace_look(struct node_worker *worker, enum leat_trace_point point)
{
    uint64_t now_ns = leat_clock_monotonic_ns();
    LEAT_ASSERT(point < LEAT_TRACE_POINTS);
    for (uint32_t i = 0; i < worker->active_count; i++) {
        struct node_log *log = worker->active[i];
        uint64_t position = trace_position(log, point);
        uint64_t *last = &log->traced[point];
        if (position > *last)
            trace_put(&worker->trace,
                      &(struct leat_trace_event){
                          .ns = now_ns, .position = position, .log_id = log->id, .point = point});
        *last = position;
    }
}

int trace_open(struct node_worker *worker, char *error, unsigned error_bytes)
{
    char directory[256], path[320];
    struct node_trace *trace = &worker->trace;
    const struct leat_config *config = worker->config;
    int rc = node_arena_directory(config->arena_dir, &worker->node, directory, sizeof(directory),
                                  error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    snprintf(path, sizeof(path), "%s/trace-%u", directory, worker->number);
    unlink(path); /* a reader of the last life's keeps that */
    if (config->trace_bytes == 0)
        return LEAT_OK;
    uint64_t count = 1;
    while (2 * count * sizeof(trace->events[0]) <= config->trace_bytes)
        count *= 2;
    size_t bytes = leat_trace_file_bytes(count);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    void *map = MAP_FAILED;
    if (fd >= 0 && (errno = posix_fallocate(fd, 0, (off_t)bytes)) == 0)
        map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED)
        snprintf(error, error_bytes, "%s: %s (worker: trace asks for %zu KiB)", path,
                 strerror(errno), bytes >> 10);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED) {
        if (fd >= 0)
            unlink(path);
        return LEAT_ESYSTEM;
    }
    trace->header = map;
    trace->events = (void *)((uint8_t *)map + LEAT_TRACE_HEADER_BYTES);
    *trace->header = (struct leat_trace_header){.version = LEAT_TRACE_VERSION,
                                                .node_id = config->node_id,
                                                .worker = worker->number,
                                                .event_count = count};
    __atomic_store_n(&trace->header->magic, LEAT_TRACE_MAGIC, __ATOMIC_RELEASE);
    return LEAT_OK;
}

void trace_close(struct node_worker *worker)
{
    if (worker->trace.header)
        munmap(worker->trace.header, leat_trace_file_bytes(worker->trace.header->event_count));
    worker->trace.header = NULL;
}
