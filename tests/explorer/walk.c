/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded random walks with restarts, and shrinking of the schedule that broke something. */
#include "search.h"

#include <string.h>

/* Rare events are rare in a walk too, or nothing would ever commit between two elections. */
static const uint8_t event_weight[EVENT_KINDS] = {
    [EVENT_CAMPAIGN] = 2, [EVENT_GRANT] = 12,    [EVENT_WIN] = 20,     [EVENT_APPEND] = 8,
    [EVENT_ASK] = 8,      [EVENT_RECONCILE] = 8, [EVENT_STORE] = 10,   [EVENT_PUBLISH] = 8,
    [EVENT_ACK] = 10,     [EVENT_COMMIT] = 8,    [EVENT_LEARN] = 6,    [EVENT_ROUND] = 6,
    [EVENT_CLEAR] = 12,   [EVENT_ISSUE] = 8,     [EVENT_COMPLETE] = 8, [EVENT_JOURNAL] = 6,
    [EVENT_CRASH] = 2,    [EVENT_POWER] = 2,     [EVENT_ACCEPT] = 1,
};

static uint64_t random_next(uint64_t *seed)
{
    uint64_t mixed = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

static struct event event_pick(const struct event *events, unsigned count, uint64_t *seed)
{
    unsigned total = 0, aim;
    for (unsigned at = 0; at < count; at++)
        total += event_weight[events[at].kind];
    aim = (unsigned)(random_next(seed) % total);
    for (unsigned at = 0; at < count; at++) {
        if (aim < event_weight[events[at].kind])
            return events[at];
        aim -= event_weight[events[at].kind];
    }
    return events[count - 1];
}

/* Walks once; returns the sentence that fell, with the way there in path. */
static const char *walk_once(const struct model *model, struct state state, unsigned length,
                             uint64_t *seed, struct path *path, uint64_t fired[EVENT_KINDS])
{
    struct event events[EVENTS_MAX];
    path->length = 0;
    while (path->length < length) {
        unsigned count = events_list(model, &state, events);
        struct event event;
        const char *broken;
        if (count == 0)
            return NULL;
        event = event_pick(events, count, seed);
        broken = event_apply(model, &state, event);
        path->event[path->length++] = event;
        fired[event.kind]++;
        if (broken)
            return broken;
    }
    return NULL;
}

/* Follows the path; the sentence that falls, with the path cut there, or NULL. */
static const char *replay(const struct model *model, struct state state, struct path *path)
{
    for (unsigned at = 0; at < path->length; at++) {
        const char *broken;
        if (!event_enabled(model, &state, path->event[at]))
            return NULL;
        broken = event_apply(model, &state, path->event[at]);
        if (broken) {
            path->length = at + 1;
            return broken;
        }
    }
    return NULL;
}

static void path_without(const struct path *path, unsigned at, unsigned count,
                         struct path *ret_path)
{
    *ret_path = *path;
    memmove(ret_path->event + at, path->event + at + count,
            (path->length - at - count) * sizeof path->event[0]);
    ret_path->length = path->length - count;
}

/* Leaves out runs of one, two and three events while the same invariant still falls. */
static void path_shrink(const struct model *model, const struct state *start, const char *broken,
                        struct path *path)
{
    struct path shorter;
    bool shrunk = true;
    while (shrunk) {
        shrunk = false;
        for (unsigned count = 3; count >= 1; count--) {
            for (unsigned at = path->length; at-- > 0;) {
                if (at + count > path->length)
                    continue;
                path_without(path, at, count, &shorter);
                if (replay(model, *start, &shorter) == broken) {
                    *path = shorter;
                    shrunk = true;
                }
            }
        }
    }
}

void search_random(const struct model *model, const struct state *start,
                   const struct search_limits *limits, struct search_result *result)
{
    uint64_t seed = limits->seed;
    double started = clock_seconds();
    unsigned length = limits->walk_length < PATH_MAX_EVENTS ? limits->walk_length : PATH_MAX_EVENTS;
    memset(result, 0, sizeof *result);
    result->depth = length;
    while (result->states < limits->steps && clock_seconds() - started < limits->seconds) {
        result->broken = walk_once(model, *start, length, &seed, &result->path, result->fired);
        result->states += result->path.length;
        if (result->broken) {
            path_shrink(model, start, result->broken, &result->path);
            break;
        }
        if (result->path.length == 0)
            break;
    }
    result->events = result->states;
    result->seconds = clock_seconds() - started;
}
