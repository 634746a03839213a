/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a microsecond goes: what the nodes of a private cluster noted of their logs' progress
 * (base/trace.h), put beside when a client published each append and saw it end. All on one host,
 * so by one clock.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/trace.h"
#include "bench.h"

/* A node came to `position` at `ns`; both rise. */
struct mark {
    uint64_t ns;
    uint64_t position;
};

struct trail {
    struct mark *marks;
    size_t count;
};

struct node_trails {
    uint64_t from_ns; /* what came before was overwritten */
    struct trail trails[LEAT_TRACE_POINTS];
};

/* ---- what the nodes noted ---- */

static bool event_read(const struct leat_trace_event *from, uint64_t number,
                       struct leat_trace_event *ret_event)
{
    if (__atomic_load_n(&from->number, __ATOMIC_ACQUIRE) != number)
        return false;
    *ret_event = *from;
    atomic_thread_fence(memory_order_acquire); /* pairs with the writer's release fence */
    return __atomic_load_n(&from->number, __ATOMIC_RELAXED) == number;
}

static void trail_add(struct trail *trail, const struct leat_trace_event *event)
{
    if (trail->count > 0 && trail->marks[trail->count - 1].position >= event->position)
        return;
    trail->marks[trail->count++] = (struct mark){event->ns, event->position};
}

static int trails_fill(const struct leat_trace_header *header, struct node_trails *trails)
{
    const struct leat_trace_event *events =
        (const void *)((const uint8_t *)header + LEAT_TRACE_HEADER_BYTES);
    uint64_t count = header->event_count, last = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = __atomic_load_n(&events[i].number, __ATOMIC_RELAXED);
        last = number > last ? number : last;
    }
    uint64_t first = last > count ? last - count + 1 : 1;
    for (unsigned point = 0; point < LEAT_TRACE_POINTS; point++) {
        trails->trails[point].marks = malloc((last - first + 1) * sizeof(struct mark) + 1);
        if (!trails->trails[point].marks)
            return 1;
    }
    for (uint64_t number = first; number <= last; number++) {
        struct leat_trace_event event;
        bool whole = event_read(&events[(number - 1) & (count - 1)], number, &event);
        if (whole && first > 1 && trails->from_ns == 0)
            trails->from_ns = event.ns;
        if (whole && event.log_id == BENCH_LOG && event.point < LEAT_TRACE_POINTS)
            trail_add(&trails->trails[event.point], &event);
    }
    return 0;
}

static int trails_read(const char *path, struct node_trails *nodes, unsigned node_count)
{
    struct stat status;
    int failed = 1, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        perror(path);
    } else {
        const struct leat_trace_header *header =
            mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (header == MAP_FAILED) {
            perror(path);
        } else {
            if (__atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) == LEAT_TRACE_MAGIC &&
                header->version == LEAT_TRACE_VERSION && header->node_id - 1 < node_count &&
                leat_trace_file_bytes(header->event_count) == (size_t)status.st_size)
                failed = trails_fill(header, &nodes[header->node_id - 1]);
            munmap((void *)(uintptr_t)header, (size_t)status.st_size);
        }
    }
    if (fd >= 0)
        close(fd);
    if (failed)
        fprintf(stderr, "logbench: %s is no trace of these nodes\n", path);
    return failed;
}

static int trails_find(const struct bench_cluster *cluster, struct node_trails *nodes)
{
    char pattern[BENCH_PATH_BYTES + 32];
    glob_t found = {0};
    snprintf(pattern, sizeof(pattern), "/dev/shm/%s/*/trace-0",
             strrchr(cluster->directory, '/') + 1);
    glob(pattern, 0, NULL, &found);
    int failed = found.gl_pathc != cluster->count;
    if (failed)
        fprintf(stderr, "logbench: %zu traces of %u nodes\n", found.gl_pathc, cluster->count);
    for (size_t i = 0; i < found.gl_pathc && !failed; i++)
        failed = trails_read(found.gl_pathv[i], nodes, cluster->count);
    globfree(&found);
    return failed;
}

static void trails_free(struct node_trails *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        for (unsigned point = 0; point < LEAT_TRACE_POINTS; point++)
            free(nodes[i].trails[point].marks);
    }
}

/* When the record at `position` was there; UINT64_MAX: never. */
static uint64_t trail_at(const struct node_trails *node, enum leat_trace_point point,
                         uint64_t position)
{
    const struct trail *trail = &node->trails[point];
    size_t low = 0, high = trail->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (trail->marks[middle].position > position)
            high = middle;
        else
            low = middle + 1;
    }
    return low < trail->count ? trail->marks[low].ns : UINT64_MAX;
}

/* ---- one append ---- */

static int by_time(const void *a, const void *b)
{
    const uint64_t *one = a, *other = b;
    return (*one > *other) - (*one < *other);
}

/* Who took it last, before the client saw it end: leadership may move while it is measured. */
static unsigned leader_of(const struct node_trails *nodes, unsigned node_count,
                          const struct bench_sample *sample)
{
    unsigned leader = 0;
    uint64_t last_ns = 0;
    for (unsigned i = 0; i < node_count; i++) {
        uint64_t ns = trail_at(&nodes[i], LEAT_TRACE_SEALED, sample->position);
        if (ns < sample->seen_ns && ns > last_ns) {
            leader = i;
            last_ns = ns;
        }
    }
    return leader;
}

/* When the n-th of the nodes (1: the first) but one had come to a point. */
static uint64_t nth(const struct node_trails *nodes, unsigned node_count, unsigned but,
                    enum leat_trace_point point, uint64_t position, unsigned n)
{
    uint64_t times[BENCH_NODES_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < node_count; i++) {
        if (i != but)
            times[count++] = trail_at(&nodes[i], point, position);
    }
    qsort(times, count, sizeof(times[0]), by_time);
    return n >= 1 && n <= count ? times[n - 1] : UINT64_MAX;
}

/* When an append came to each point, and when to the one that it waited for: what lies between is
 * the point's own. */
struct way {
    uint64_t at[BENCH_POINTS];
    uint64_t after[BENCH_POINTS];
};

static void way_of(const struct node_trails *nodes, unsigned count,
                   const struct bench_sample *sample, bool replicated, struct way *way)
{
    unsigned leads = leader_of(nodes, count, sample), majority = count / 2 + 1;
    const struct node_trails *leader = &nodes[leads];
    uint64_t position = sample->position;
    uint64_t *at = way->at;
    at[BENCH_PICKED] = trail_at(leader, LEAT_TRACE_SEALED, position);
    at[BENCH_SENT] = trail_at(leader, LEAT_TRACE_SENT, position);
    at[BENCH_RECEIVED] = nth(nodes, count, leads, LEAT_TRACE_RECEIVED, position, majority - 1);
    at[BENCH_LEADER_DURABLE] = trail_at(leader, LEAT_TRACE_DURABLE, position);
    at[BENCH_FOLLOWER_DURABLE] =
        nth(nodes, count, leads, LEAT_TRACE_DURABLE, position, majority - 1);
    at[BENCH_COMMITTED] =
        trail_at(leader, replicated ? LEAT_TRACE_COMMIT_R : LEAT_TRACE_COMMIT_D, position);
    at[BENCH_SEEN] = sample->seen_ns;
    way->after[BENCH_PICKED] = sample->sent_ns;
    way->after[BENCH_SENT] = at[BENCH_PICKED];
    way->after[BENCH_RECEIVED] = at[BENCH_SENT];
    way->after[BENCH_LEADER_DURABLE] = at[BENCH_PICKED];
    way->after[BENCH_FOLLOWER_DURABLE] = at[BENCH_RECEIVED];
    way->after[BENCH_COMMITTED] = nth(nodes, count, count, LEAT_TRACE_DURABLE, position, majority);
    if (replicated)
        way->after[BENCH_COMMITTED] = count > 1 ? at[BENCH_RECEIVED] : at[BENCH_PICKED];
    way->after[BENCH_SEEN] = at[BENCH_COMMITTED];
}

/* ---- all of them ---- */

static int by_value(const void *a, const void *b)
{
    const int64_t *one = a, *other = b;
    return (*one > *other) - (*one < *other);
}

static struct bench_spread spread_of(int64_t *values, uint32_t count)
{
    qsort(values, count, sizeof(values[0]), by_value);
    return (struct bench_spread){.p50_ns = values[count / 2],
                                 .p99_ns = values[(uint64_t)count * 99 / 100]};
}

/* The points that this level and so many nodes have; durable ones come after a replicated
 * acknowledgement, when somebody needs them. */
static bool is_passed(enum bench_point point, unsigned nodes, bool replicated)
{
    if (point == BENCH_SENT || point == BENCH_RECEIVED)
        return nodes > 1;
    if (point == BENCH_LEADER_DURABLE)
        return !replicated;
    return point != BENCH_FOLLOWER_DURABLE || (nodes > 1 && !replicated);
}

/* values: 2 x sample_count for each point. */
static int breakdown_fill(const struct bench_options *options, const struct bench_cluster *cluster,
                          const struct node_trails *nodes, const struct bench_result *load,
                          int64_t *values, struct bench_breakdown *ret)
{
    uint64_t from_ns = 0;
    for (unsigned i = 0; i < cluster->count; i++)
        from_ns = nodes[i].from_ns > from_ns ? nodes[i].from_ns : from_ns;
    for (unsigned point = 0; point < BENCH_POINTS; point++)
        ret->passed[point] = is_passed(point, cluster->count, options->replicated);
    uint32_t count = 0, total = load->sample_count;
    for (uint32_t i = 0; i < total; i++) {
        const struct bench_sample *sample = &load->samples[i];
        struct way way;
        if (sample->sent_ns <= from_ns)
            continue;
        way_of(nodes, cluster->count, sample, options->replicated, &way);
        bool whole = true;
        for (unsigned point = 0; point < BENCH_POINTS; point++) {
            if (!ret->passed[point])
                continue;
            whole = whole && way.at[point] != UINT64_MAX && way.after[point] != UINT64_MAX;
            int64_t *to = &values[2 * (size_t)point * total];
            to[count] = (int64_t)(way.at[point] - way.after[point]);
            to[total + count] = (int64_t)(way.at[point] - sample->sent_ns);
        }
        count += whole;
        ret->missed += !whole;
    }
    ret->appends = count;
    for (unsigned point = 0; point < BENCH_POINTS && count > 0; point++) {
        if (!ret->passed[point])
            continue;
        ret->own[point] = spread_of(&values[2 * (size_t)point * total], count);
        ret->since[point] = spread_of(&values[(2 * (size_t)point + 1) * total], count);
    }
    if (count == 0)
        fprintf(stderr, "logbench: no append was traced from end to end: did leadership move?\n");
    return count == 0;
}

int breakdown_run(const struct bench_options *options, const struct bench_cluster *cluster,
                  struct bench_result *load, struct bench_breakdown *ret)
{
    static struct node_trails nodes[BENCH_NODES_MAX];
    memset(ret, 0, sizeof(*ret));
    int failed = load_run(options, cluster, load);
    if (!failed && !bench_interrupted)
        failed = trails_find(cluster, nodes);
    int64_t *values =
        failed ? NULL : malloc(2 * BENCH_POINTS * (load->sample_count + 1) * sizeof(*values));
    if (values && !bench_interrupted)
        failed = breakdown_fill(options, cluster, nodes, load, values, ret);
    free(values);
    trails_free(nodes, cluster->count);
    return failed || !values;
}
