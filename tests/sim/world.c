/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "system.h"

struct event {
    uint64_t at_ns;
    uint64_t number;
    sim_run *run;
    void *context;
    uint64_t argument;
    enum sim_event_kind kind;
};

struct sim_world world;
static struct leat_rng streams[STREAM_COUNT];
static struct event *heap;
static size_t heap_count, heap_room;
static uint64_t next_number;

void *sim_new(size_t bytes)
{
    void *memory = __real_calloc(1, bytes);
    if (!memory)
        abort();
    return memory;
}

void world_begin(uint64_t seed)
{
    struct leat_rng root = {.state = seed};
    bool trace = world.trace;
    world = (struct sim_world){.seed = seed, .hash = 0xcbf29ce484222325ull, .trace = trace};
    world.now_ns = SIM_S; /* zero means "never" to many */
    heap_count = 0;
    next_number = 0;
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        streams[i].state = leat_rng_next(&root) ^ seed << 1;
}

/* ---- the queue ---- */

static bool event_is_before(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->number < b->number;
}

static void heap_rise(size_t at)
{
    struct event moving = heap[at];
    for (; at > 0 && event_is_before(&moving, &heap[(at - 1) / 4]); at = (at - 1) / 4)
        heap[at] = heap[(at - 1) / 4];
    heap[at] = moving;
}

static void heap_sink(size_t at)
{
    struct event moving = heap[at];
    for (;;) {
        size_t first = 4 * at + 1, best = at;
        const struct event *least = &moving;
        for (size_t child = first; child < first + 4 && child < heap_count; child++) {
            if (event_is_before(&heap[child], least)) {
                least = &heap[child];
                best = child;
            }
        }
        if (best == at)
            break;
        heap[at] = heap[best];
        at = best;
    }
    heap[at] = moving;
}

void world_at(uint64_t at_ns, enum sim_event_kind kind, sim_run *run, void *context,
              uint64_t argument)
{
    if (heap_count == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 1024;
        heap = __real_realloc(heap, heap_room * sizeof(heap[0]));
        if (!heap)
            abort();
    }
    heap[heap_count] = (struct event){.at_ns = at_ns > world.now_ns ? at_ns : world.now_ns,
                                      .number = next_number++,
                                      .run = run,
                                      .context = context,
                                      .argument = argument,
                                      .kind = kind};
    heap_rise(heap_count++);
}

void world_run(uint64_t until_ns)
{
    while (heap_count > 0 && !world.ending && heap[0].at_ns <= until_ns) {
        struct event event = heap[0];
        heap[0] = heap[--heap_count];
        if (heap_count > 0)
            heap_sink(0);
        world.now_ns = event.at_ns;
        event.run(event.context, event.argument);
    }
    if (!world.ending && world.now_ns < until_ns)
        world.now_ns = until_ns;
}

void world_stop(void)
{
    world.ending = true;
}

void world_note(uint64_t word)
{
    world.hash = (world.hash ^ word ^ world.now_ns) * 0x100000001b3ull;
    world.hash ^= world.hash >> 29;
}

/* ---- chance ---- */

uint64_t world_draw(enum sim_stream stream, uint64_t bound)
{
    return leat_rng_below(&streams[stream], bound);
}

uint64_t world_between(enum sim_stream stream, uint64_t low, uint64_t high)
{
    return low + world_draw(stream, high - low + 1);
}

uint64_t world_log_uniform(enum sim_stream stream, uint64_t low, uint64_t high)
{
    double unit = (double)(leat_rng_next(&streams[stream]) >> 11) * 0x1p-53;
    double value = (double)low * pow((double)high / (double)low, unit);
    return value < (double)low ? low : value > (double)high ? high : (uint64_t)value;
}

bool world_chance(enum sim_stream stream, uint64_t ppm)
{
    return ppm > 0 && world_draw(stream, 1000000) < ppm;
}

uint64_t world_exponential(enum sim_stream stream, uint64_t mean)
{
    double unit = ((double)(leat_rng_next(&streams[stream]) >> 11) + 1) * 0x1p-53;
    return (uint64_t)(-log(unit) * (double)mean);
}

/* ---- what is said ---- */

void world_fail(const char *invariant, const char *format, ...)
{
    va_list arguments;
    if (world.failed)
        return;
    world.failed = true;
    snprintf(world.failure, sizeof(world.failure), "%s", invariant);
    va_start(arguments, format);
    vsnprintf(world.sentence, sizeof(world.sentence), format, arguments);
    va_end(arguments);
    world_trace("FAILED %s: %s", world.failure, world.sentence);
    world_stop();
}

void world_trace(const char *format, ...)
{
    va_list arguments;
    if (!world.trace)
        return;
    fprintf(stderr, "%12.6f ", (double)world.now_ns / 1e9);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
