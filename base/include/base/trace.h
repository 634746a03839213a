/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a microsecond goes: a worker that is configured to (worker: trace) writes down when each of
 * its logs got how far, at fixed points of its pass. One tmpfs file a worker, beside its arenas: a
 * page of header, then a ring of events. The worker is the only writer; others map it read-only.
 *
 * An event says that everything below `position` had come to the point by then; a record was there
 * with the first event of a higher position than its own.
 *
 * Writer: number = 0 (release fence), the rest, number (release). Reader: number (acquire), copy,
 * acquire fence, the same number again, or the event is not whole.
 */
#ifndef LEAT_BASE_TRACE_H
#define LEAT_BASE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define LEAT_TRACE_MAGIC        0x314352545441454cULL
#define LEAT_TRACE_VERSION      1u
#define LEAT_TRACE_HEADER_BYTES 4096u

enum leat_trace_point {
    LEAT_TRACE_SEALED,   /* leader: taken from a ring and laid in the arena */
    LEAT_TRACE_SENT,     /* leader: handed to the port, for one follower at least */
    LEAT_TRACE_RECEIVED, /* follower: verified in its arena */
    LEAT_TRACE_DURABLE,  /* on this node's disk */
    LEAT_TRACE_COMMIT_R, /* committed in memory, as this node knows */
    LEAT_TRACE_COMMIT_D, /* committed on disk, as this node knows */
    LEAT_TRACE_POINTS,
};

struct leat_trace_event {
    uint64_t number; /* how many came before, plus one; 0: none, or being written */
    uint64_t ns;     /* CLOCK_MONOTONIC */
    uint64_t position;
    uint32_t log_id;
    uint32_t point; /* enum leat_trace_point */
};
_Static_assert(sizeof(struct leat_trace_event) == 32, "two in a cache line");

struct leat_trace_header {
    uint64_t magic; /* written last */
    uint32_t version;
    uint32_t node_id;
    uint32_t worker;
    uint32_t reserved;
    uint64_t event_count; /* of the ring, a power of two; event n lies at (n - 1) modulo it */
};
_Static_assert(sizeof(struct leat_trace_header) == 32, "layout");

static inline size_t leat_trace_file_bytes(uint64_t event_count)
{
    return LEAT_TRACE_HEADER_BYTES + event_count * sizeof(struct leat_trace_event);
}

#endif
