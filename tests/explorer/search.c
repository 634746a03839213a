/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Breadth-first search. Visited states are remembered by a 64-bit hash only, so two different
 * states could be taken for one: with n states the chance is about n * n / 2^65, which is one
 * in 370,000 for ten million. Each remembered state keeps its parent and event for the schedule.
 */
#include "search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct origin {
    uint32_t parent;
    struct event event;
};

struct frontier {
    uint8_t *bytes;
    uint32_t *ids;
    size_t count;
    size_t capacity;
};

struct visited {
    uint64_t *slots;
    uint64_t mask;
    struct origin *origins;
    size_t count;
    size_t capacity;
};

struct search {
    const struct model *model;
    const struct search_limits *limits;
    struct search_result *result;
    size_t state_bytes;
    struct visited visited;
    struct frontier now, next;
    double started;
};

double clock_seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *grow(void *memory, size_t bytes)
{
    void *grown = realloc(memory, bytes);
    if (!grown) {
        fprintf(stderr, "leat-explorer: out of memory; give tighter --bounds\n");
        exit(2);
    }
    return grown;
}

static uint64_t state_hash(const struct state *state, size_t bytes)
{
    const uint8_t *from = (const uint8_t *)state;
    uint64_t hash = UINT64_C(0x243f6a8885a308d3), word;
    for (size_t at = 0; at < bytes; at += sizeof word) {
        word = 0;
        memcpy(&word, from + at, bytes - at < sizeof word ? bytes - at : sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    hash *= UINT64_C(0xd6e8feb86659fd93);
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

static uint64_t state_class_hash(const struct search *search, const struct state *state)
{
    uint64_t hash = state_hash(state, search->state_bytes), other;
    struct state exchanged;
    if (search->model->nodes < 3)
        return hash;
    state_exchange_last_two(search->model, state, &exchanged);
    other = state_hash(&exchanged, search->state_bytes);
    return hash < other ? hash : other;
}

static void visited_rehash(struct visited *visited)
{
    uint64_t old_mask = visited->mask, *old = visited->slots;
    visited->mask = old_mask * 2 + 1;
    visited->slots = calloc(visited->mask + 1, sizeof *visited->slots);
    if (!visited->slots)
        visited->slots = grow(NULL, SIZE_MAX / 2);
    for (uint64_t slot = 0; old && slot <= old_mask; slot++) {
        uint64_t at = old[slot] & visited->mask;
        if (old[slot] == 0)
            continue;
        while (visited->slots[at] != 0)
            at = (at + 1) & visited->mask;
        visited->slots[at] = old[slot];
    }
    free(old);
}

/* True when the state is new. */
static bool visited_add(struct visited *visited, uint64_t hash, struct origin origin)
{
    uint64_t at = hash & visited->mask;
    while (visited->slots[at] != 0) {
        if (visited->slots[at] == hash)
            return false;
        at = (at + 1) & visited->mask;
    }
    visited->slots[at] = hash;
    if (visited->count == visited->capacity) {
        visited->capacity = visited->capacity ? visited->capacity * 2 : 1u << 16;
        visited->origins = grow(visited->origins, visited->capacity * sizeof origin);
    }
    visited->origins[visited->count++] = origin;
    if (visited->count * 2 > visited->mask)
        visited_rehash(visited);
    return true;
}

static void frontier_push(struct frontier *frontier, const struct state *state, size_t bytes,
                          uint32_t id)
{
    if (frontier->count == frontier->capacity) {
        frontier->capacity = frontier->capacity ? frontier->capacity * 2 : 1u << 12;
        frontier->bytes = grow(frontier->bytes, frontier->capacity * bytes);
        frontier->ids = grow(frontier->ids, frontier->capacity * sizeof *frontier->ids);
    }
    memcpy(frontier->bytes + frontier->count * bytes, state, bytes);
    frontier->ids[frontier->count++] = id;
}

static void path_collect(const struct search *search, uint32_t id, struct event last)
{
    struct path *path = &search->result->path;
    unsigned length = 1, at;
    for (uint32_t walk = id; walk != 0; walk = search->visited.origins[walk].parent)
        length++;
    if (length > PATH_MAX_EVENTS)
        length = PATH_MAX_EVENTS;
    path->length = length;
    at = length - 1;
    path->event[at] = last;
    for (uint32_t walk = id; walk != 0 && at > 0; walk = search->visited.origins[walk].parent)
        path->event[--at] = search->visited.origins[walk].event;
}

/* Visits all successors of one state; true when an invariant fell. */
static bool expand(struct search *search, const struct state *state, uint32_t id)
{
    struct event events[EVENTS_MAX];
    unsigned count = events_list(search->model, state, events);
    bool spent = faults_spent(search->model, state);
    for (unsigned at = 0; at < count; at++) {
        struct state successor = *state;
        struct origin origin = {.parent = id, .event = events[at]};
        const char *broken;
        if (spent && events[at].kind == EVENT_JOURNAL)
            continue;
        broken = event_apply(search->model, &successor, events[at]);
        search->result->events++;
        if (broken) {
            search->result->broken = broken;
            path_collect(search, id, events[at]);
            return true;
        }
        state_forget(search->model, &successor);
        if (visited_add(&search->visited, state_class_hash(search, &successor), origin))
            frontier_push(&search->next, &successor, search->state_bytes,
                          (uint32_t)(search->visited.count - 1));
    }
    return false;
}

static bool out_of_budget(const struct search *search)
{
    return search->visited.count >= search->limits->states ||
           clock_seconds() - search->started > search->limits->seconds;
}

/* One layer; true to go on with the next. */
static bool search_layer(struct search *search)
{
    struct state state;
    memset(&state, 0, sizeof state);
    for (size_t at = 0; at < search->now.count; at++) {
        if ((at & 255u) == 0 && out_of_budget(search))
            return false;
        memcpy(&state, search->now.bytes + at * search->state_bytes, search->state_bytes);
        if (expand(search, &state, search->now.ids[at]))
            return false;
    }
    search->result->depth++;
    if (search->next.count == 0) {
        search->result->exhausted = true;
        return false;
    }
    return true;
}

static void search_loop(struct search *search)
{
    while (search_layer(search)) {
        struct frontier spent = search->now;
        search->now = search->next;
        search->next = spent;
        search->next.count = 0;
        if (search->limits->progress)
            fprintf(stderr, "# depth %u: %zu states, frontier %zu, %.1f s\n", search->result->depth,
                    search->visited.count, search->now.count, clock_seconds() - search->started);
    }
}

void search_exhaustive(const struct model *model, const struct state *start,
                       const struct search_limits *limits, struct search_result *result)
{
    struct search search = {.model = model, .limits = limits, .result = result};
    struct origin none = {0};
    memset(result, 0, sizeof *result);
    search.state_bytes = state_size(model);
    search.started = clock_seconds();
    search.visited.mask = (1u << 16) - 1;
    visited_rehash(&search.visited);
    visited_add(&search.visited, state_class_hash(&search, start), none);
    frontier_push(&search.now, start, search.state_bytes, 0);
    search_loop(&search);
    result->states = search.visited.count;
    result->seconds = clock_seconds() - search.started;
    free(search.visited.slots);
    free(search.visited.origins);
    free(search.now.bytes);
    free(search.now.ids);
    free(search.next.bytes);
    free(search.next.ids);
}
