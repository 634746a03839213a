/* SPDX-License-Identifier: Apache-2.0
 *
 * Virtual time: one queue of events in order of (time, number), one thread of the machine, one
 * seed. Everything random is drawn from a stream of its own per subject, so that one draw more in
 * the network does not move the disks'. Every event goes into a hash: the same seed twice gives the
 * same hash, or the simulator is not deterministic.
 */
#ifndef LEAT_SIM_WORLD_H
#define LEAT_SIM_WORLD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_US 1000ull
#define SIM_MS 1000000ull
#define SIM_S  1000000000ull

enum sim_stream {
    STREAM_DRAW,    /* the configuration of the run */
    STREAM_FAULTS,  /* what happens to whom, and when */
    STREAM_NETWORK, /* packets */
    STREAM_DISK,    /* writes and flushes */
    STREAM_CLIENTS, /* what is appended */
    STREAM_SYSTEM,  /* what processes get from the kernel */
    STREAM_AMBUSH,  /* whom it befalls at the worst moment */
    STREAM_COUNT,
};

enum sim_event_kind {
    EVENT_THREAD, /* a thread goes on: its timer fired, or somebody woke it */
    EVENT_PACKET, /* a datagram arrives */
    EVENT_DISK,   /* a request of a disk completes */
    EVENT_ACTION, /* a fault, a repair, a wish of an operator */
    EVENT_KINDS,
};

typedef void sim_run(void *context, uint64_t argument);

struct sim_world {
    uint64_t now_ns;
    uint64_t hash;
    uint64_t events[EVENT_KINDS];
    uint64_t seed;
    bool trace;  /* everything that happens, to standard error */
    bool ending; /* world_stop() was called */
    bool failed;
    char failure[96];   /* the invariant's name */
    char sentence[768]; /* what was seen */
};
extern struct sim_world world;

void world_begin(uint64_t seed);

/* Calls run(context, argument) at at_ns, or now if that has passed. */
void world_at(uint64_t at_ns, enum sim_event_kind kind, sim_run *run, void *context,
              uint64_t argument);

/* Runs events until until_ns has come or world_stop() was called. */
void world_run(uint64_t until_ns);
void world_stop(void);

/* Something that shall be the same whenever this seed is run. */
void world_note(uint64_t word);

uint64_t world_draw(enum sim_stream stream, uint64_t bound);                 /* [0, bound) */
uint64_t world_between(enum sim_stream stream, uint64_t low, uint64_t high); /* both included */
/* Every order of magnitude is as likely as another. low > 0 */
uint64_t world_log_uniform(enum sim_stream stream, uint64_t low, uint64_t high);
bool world_chance(enum sim_stream stream, uint64_t ppm);
uint64_t world_exponential(enum sim_stream stream, uint64_t mean);

/* An invariant does not hold: noted once, and the run ends with the present event. */
void world_fail(const char *invariant, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void world_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory of the simulator itself: zeroed, never of a simulated process, there until the end. */
void *sim_new(size_t bytes);

#endif
