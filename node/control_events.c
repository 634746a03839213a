/* SPDX-License-Identifier: Apache-2.0
 *
 * Waking clients that sleep in an event loop (LEAT_CONTROL_EVENTS): the control thread looks at the
 * words that the worker stores anyway, so the worker makes no system call for them. A client is
 * woken at most once for each value of its `armed` word, and at most every CONTROL_EVENTS_NS.
 *
 * Nothing is missed: results are there as long as the client's completion_head says so, and a log's
 * state is compared with what it was when the client was woken last, not when it armed.
 * Control thread. Tests: tests/client/test_wake.c.
 */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/assert.h"
#include "control_private.h"
#include "leat/error.h"

struct events_log {
    uint32_t log_id;
    const struct leat_arena_header *header;         /* one page of the arena, read only */
    uint64_t commit_d, commit_r, leadership, epoch; /* when the client was woken last */
};

struct control_events {
    int descriptor;
    uint64_t signaled;
    uint32_t log_count;
    struct events_log logs[CONTROL_WATCHES_MAX];
};

struct control_events *events_new(void)
{
    struct control_events *events = calloc(1, sizeof(*events));
    if (!events)
        return NULL;
    events->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (events->descriptor >= 0)
        return events;
    free(events);
    return NULL;
}

void events_free(struct control_events *events)
{
    if (!events)
        return;
    for (uint32_t i = 0; i < events->log_count; i++)
        munmap((void *)events->logs[i].header, LEAT_ARENA_HEADER_BYTES);
    close(events->descriptor);
    free(events);
}

int events_descriptor(const struct control_events *events)
{
    return events->descriptor;
}

int events_watch(struct control_events *events, uint32_t log_id, int descriptor)
{
    struct stat status;
    for (uint32_t i = 0; i < events->log_count; i++) {
        if (events->logs[i].log_id == log_id)
            return LEAT_OK;
    }
    if (events->log_count == CONTROL_WATCHES_MAX)
        return LEAT_EQUOTA;
    if (fstat(descriptor, &status) != 0 || status.st_size < (off_t)LEAT_ARENA_HEADER_BYTES)
        return LEAT_ESYSTEM;
    const void *map = mmap(NULL, LEAT_ARENA_HEADER_BYTES, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED)
        return LEAT_ENOMEM;
    events->logs[events->log_count++] = (struct events_log){.log_id = log_id, .header = map};
    return LEAT_OK;
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE); /* pairs with the worker's release */
}

static struct events_log log_now(const struct events_log *log)
{
    return (struct events_log){
        .log_id = log->log_id,
        .header = log->header,
        .commit_d = load(&log->header->commit_d.value),
        .commit_r = load(&log->header->commit_r.value),
        .leadership = load(&log->header->leadership.counter),
        .epoch = load(&log->header->epoch.value),
    };
}

/* Takes note of what all watched logs are at now. */
static bool logs_moved(struct control_events *events)
{
    bool moved = false;
    for (uint32_t i = 0; i < events->log_count; i++) {
        struct events_log *log = &events->logs[i], now = log_now(log);
        moved |= now.commit_d != log->commit_d || now.commit_r != log->commit_r ||
                 now.leadership != log->leadership || now.epoch != log->epoch;
        *log = now;
    }
    return moved;
}

void events_look(struct control_events *events, const struct node_rings *rings)
{
    uint64_t one = 1;
    uint64_t armed = load(&rings->shared->armed.value); /* the client's: compared, no more */
    if (armed == events->signaled)
        return;
    bool results =
        load(&rings->answers->completion_tail.value) != load(&rings->shared->completion_head.value);
    bool closed = load(&rings->answers->closed.value) != 0;
    if (!logs_moved(events) && !results && !closed)
        return;
    events->signaled = armed;
    if (write(events->descriptor, &one, sizeof(one)) != sizeof(one))
        return; /* full: it is readable */
    __atomic_store_n(&rings->answers->signaled.value, armed, __ATOMIC_RELEASE);
}
