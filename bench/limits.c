/* SPDX-License-Identifier: Apache-2.0
 *
 * What the machine can do, by programs as small as possible: each limit is measured between or in
 * child processes (one EAL a process), with the waiting that suits it best.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/histogram.h"
#include "bench.h"
#include "dataplane/clock.h"
#include "dataplane/port.h"
#include "leat/error.h"
#include "storage/probe.h"

#define LIMIT_SECONDS    0.6
#define LIMIT_TIMEOUT_NS 10000000000u
#define PING_BYTES       64u

#define DISK_FILE_BYTES (16u << 20)
#define WIDE_FILE_BYTES (64u << 20)
#define DISK_READY_NS   60000000000u
#define WIDE_SECONDS    1.0
#define HICCUP_SECONDS  1.0
#define WIDE_IN_FLIGHT  32u
#define LARGE_BYTES     (1u << 20)
#define LARGE_IN_FLIGHT 4u

struct shared {
    struct leat_histogram histogram;
    struct leat_probe_result probes[BENCH_NODES_MAX];
    _Alignas(64) uint64_t ping;
    _Alignas(64) uint64_t pong;
    _Alignas(64) uint32_t ready;
    _Alignas(64) uint32_t stop;
    int error_number;
};

static struct shared *shared_make(void)
{
    void *map = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return map == MAP_FAILED ? NULL : map;
}

/* Waits for children; kills the rest when one fails. Returns 0 when all exited with 0. */
static int children_wait(const pid_t *pids, unsigned count)
{
    int failed = 0;
    for (unsigned i = 0; i < count; i++) {
        int status = 0;
        if (failed || bench_interrupted)
            kill(pids[i], SIGKILL);
        while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR) {
            if (bench_interrupted)
                kill(pids[i], SIGKILL);
        }
        failed = failed || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    return failed;
}

typedef int child_body(struct shared *shared, unsigned index, const void *context);

static int children_run(unsigned count, bool pinned, child_body *body, struct shared *shared,
                        const void *context)
{
    pid_t pids[BENCH_NODES_MAX];
    memset(shared, 0, sizeof(*shared));
    fflush(NULL);
    for (unsigned i = 0; i < count; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            signal(SIGINT, SIG_DFL);
            signal(SIGTERM, SIG_DFL);
        }
        if (pids[i] == 0 && pinned)
            place_pin_this_thread(place_spread(i));
        if (pids[i] == 0)
            _exit(body(shared, i, context));
        if (pids[i] < 0)
            return children_wait(pids, i) + 1;
    }
    return children_wait(pids, count) + (bench_interrupted != 0);
}

/* Best p50 of all variants: the machine's limit is what it can do when asked well. */
static void keep_best(const struct leat_histogram *histogram, uint64_t *p50, uint64_t *p99)
{
    uint64_t middle = leat_histogram_at(histogram, 0.5);
    if (histogram->count > 0 && (*p50 == 0 || middle < *p50)) {
        *p50 = middle;
        *p99 = leat_histogram_at(histogram, 0.99);
    }
}

static void relax(bool yields)
{
    if (yields)
        sched_yield();
    else
        __builtin_ia32_pause();
}

/* ---- shared words ---- */

static int shm_child(struct shared *shared, unsigned index, const void *context)
{
    bool yields = *(const bool *)context;
    uint64_t end = leat_clock_monotonic_ns() + (uint64_t)(LIMIT_SECONDS * 1e9);
    for (uint64_t n = 1;; n++) {
        uint64_t begin = leat_clock_monotonic_ns();
        uint64_t *mine = index == 0 ? &shared->ping : &shared->pong;
        uint64_t *other = index == 0 ? &shared->pong : &shared->ping;
        if (index == 0)
            __atomic_store_n(mine, n, __ATOMIC_RELEASE);
        while (__atomic_load_n(other, __ATOMIC_ACQUIRE) != n) {
            if (__atomic_load_n(&shared->stop, __ATOMIC_RELAXED))
                return 0;
            relax(yields);
        }
        if (index == 1)
            __atomic_store_n(mine, n, __ATOMIC_RELEASE);
        else
            leat_histogram_record(&shared->histogram, leat_clock_monotonic_ns() - begin);
        if (index == 0 && begin >= end) {
            __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
            return 0;
        }
    }
}

/* ---- the raw port pair ---- */

struct net_context {
    char directory[BENCH_PATH_BYTES];
    bool yields;
};

static int net_open(unsigned index, const struct net_context *net, struct leat_port **port)
{
    char error[256];
    struct leat_dataplane_config dataplane = {.memory_mib = 32};
    struct leat_port_config config = {
        .kind = LEAT_PORT_MEMIF,
        .node_id = index + 1,
        .ipv4 = 0x0a4d0001 + index,
        .udp_port_base = 7400,
        .mtu_bytes = 1500,
        .peer_count = 1,
        .memif_dir = net->directory,
        .peers = {{.node_id = 2 - index, .ipv4 = 0x0a4d0002 - index}},
    };
    int rc = leat_dataplane_start(&dataplane, error, sizeof(error));
    if (rc == LEAT_OK)
        rc = leat_port_open(&config, port, error, sizeof(error));
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: the port pair: %s\n", error);
    return rc;
}

/* Returns true when a ping (or pong) was there; it is given back. */
static bool net_receive(struct leat_port *port, uint64_t *ret_number)
{
    struct leat_packet packets[LEAT_PORT_BURST_MAX];
    unsigned count =
        leat_port_receive(port, leat_clock_monotonic_ns(), packets, LEAT_PORT_BURST_MAX);
    if (count > 0)
        memcpy(ret_number, packets[count - 1].data, sizeof(*ret_number));
    leat_port_release(port, packets, count);
    return count > 0;
}

static void net_send(struct leat_port *port, uint64_t number)
{
    uint8_t bytes[PING_BYTES] = {0};
    memcpy(bytes, &number, sizeof(number));
    leat_port_send(port, 0, 0, bytes, sizeof(bytes), NULL, 0, LEAT_PORT_NO_ARENA, 0);
    leat_port_flush(port);
}

static int net_ping(struct shared *shared, struct leat_port *port, bool yields)
{
    uint64_t started = leat_clock_monotonic_ns(), measured = 0, number = 0;
    for (uint64_t n = 1;; n++) {
        uint64_t begin = leat_clock_monotonic_ns();
        if (begin - started > LIMIT_TIMEOUT_NS) {
            fprintf(stderr, "logbench: the port pair: no answer within %u s\n",
                    (unsigned)(LIMIT_TIMEOUT_NS / 1000000000u));
            return 1;
        }
        if (measured != 0 && begin - measured > (uint64_t)(LIMIT_SECONDS * 1e9))
            return 0;
        net_send(port, n);
        while (number != n) {
            relax(yields);
            if (!net_receive(port, &number) &&
                leat_clock_monotonic_ns() - begin > 50000000u) /* lost, or no link yet */
                break;
        }
        if (number != n)
            continue;
        if (measured == 0)
            measured = leat_clock_monotonic_ns();
        else
            leat_histogram_record(&shared->histogram, leat_clock_monotonic_ns() - begin);
    }
}

static int net_child(struct shared *shared, unsigned index, const void *context)
{
    const struct net_context *net = context;
    struct leat_port *port;
    uint64_t number;
    if (net_open(index, net, &port) != LEAT_OK) {
        __atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
        return 1;
    }
    int failed = 0;
    if (index == 0) {
        failed = net_ping(shared, port, net->yields);
        __atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
    }
    while (index == 1 && !__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
        if (net_receive(port, &number))
            net_send(port, number);
        else
            relax(net->yields);
    }
    leat_port_close(port);
    leat_dataplane_stop();
    return failed;
}

static int limit_net(struct shared *shared, const char *directory, struct bench_limits *limits)
{
    struct net_context net;
    snprintf(net.directory, sizeof(net.directory), "%.200s/limit-memif", directory);
    if (mkdir(net.directory, 0700) != 0) {
        fprintf(stderr, "logbench: %s: %s\n", net.directory, strerror(errno));
        return 1;
    }
    int failed = 0;
    for (int yields = 0; yields < 2 && !failed; yields++) {
        net.yields = yields;
        failed = children_run(2, true, net_child, shared, &net);
        keep_best(&shared->histogram, &limits->net_rtt_ns_p50, &limits->net_rtt_ns_p99);
    }
    rmdir(net.directory);
    return failed;
}

/* ---- the durable write ---- */

struct disk_context {
    const char *directory;
    struct leat_probe probe;
    unsigned processes;
};

struct disk_start {
    struct shared *shared;
    unsigned processes;
};

/* Until all have prepared their files: what is measured beside others is beside all of them. */
static void disk_wait_for_all(void *context)
{
    const struct disk_start *start = context;
    uint64_t end_ns = leat_clock_monotonic_ns() + DISK_READY_NS;
    __atomic_add_fetch(&start->shared->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&start->shared->ready, __ATOMIC_ACQUIRE) < start->processes &&
           leat_clock_monotonic_ns() < end_ns)
        usleep(100);
}

static int disk_child(struct shared *shared, unsigned index, const void *context)
{
    const struct disk_context *disk = context;
    struct disk_start start = {shared, disk->processes};
    struct leat_probe probe = disk->probe;
    char path[BENCH_PATH_BYTES + 32];
    snprintf(path, sizeof(path), "%s/limit-disk-%u", disk->directory, index);
    probe.prepared = disk_wait_for_all;
    probe.context = &start;
    int rc = leat_disk_probe(path, &probe, &shared->probes[index]);
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: %s: %s: %s\n", path, leat_error_text(rc), strerror(errno));
    return rc != LEAT_OK;
}

static int limit_disk(struct shared *shared, const char *directory, unsigned writers, uint64_t *p50,
                      uint64_t *p99)
{
    struct disk_context disk = {.directory = directory,
                                .processes = writers,
                                .probe = {.block_bytes = LEAT_BLOCK_BYTES,
                                          .in_flight = 1,
                                          .file_bytes = DISK_FILE_BYTES,
                                          .seconds = LIMIT_SECONDS}};
    struct leat_histogram *all = calloc(1, sizeof(*all));
    int failed = all == NULL;
    const int waits = LEAT_PROBE_SPIN + 1;
    for (int variant = 0; variant < 2 * waits && !failed; variant++) {
        disk.probe.wait = (enum leat_probe_wait)(variant % waits);
        failed = children_run(writers, variant >= waits, disk_child, shared, &disk);
        leat_histogram_reset(all);
        for (unsigned i = 0; i < writers; i++)
            leat_histogram_add(all, &shared->probes[i].latency);
        keep_best(all, p50, p99);
    }
    free(all);
    return failed;
}

/* ---- how many bytes a second ---- */

static int limit_wide(struct shared *shared, const char *directory, unsigned processes,
                      uint32_t block_bytes, bool reads, double *ret_bytes_per_second)
{
    bool large = block_bytes == LARGE_BYTES;
    struct disk_context disk = {.directory = directory,
                                .processes = processes,
                                .probe = {.wait = LEAT_PROBE_BLOCK,
                                          .block_bytes = block_bytes,
                                          .in_flight = large ? LARGE_IN_FLIGHT : WIDE_IN_FLIGHT,
                                          .file_bytes = WIDE_FILE_BYTES,
                                          .reads = reads,
                                          .seconds = WIDE_SECONDS}};
    int failed = children_run(processes, false, disk_child, shared, &disk);
    *ret_bytes_per_second = 0;
    for (unsigned i = 0; i < processes; i++)
        *ret_bytes_per_second += shared->probes[i].bytes_per_second;
    return failed;
}

/* Blocks of the records' size, as far as a disk takes such; and of 1 MiB. */
static int limit_bandwidth(const struct bench_options *options, struct shared *shared,
                           const char *directory, unsigned writers, struct bench_limits *limits)
{
    uint32_t block = (options->size_bytes + LEAT_BLOCK_BYTES - 1) & ~(LEAT_BLOCK_BYTES - 1);
    block = block == 0 ? LEAT_BLOCK_BYTES : block;
    limits->disk_block_bytes = block;
    progress(options, "limits: %u writers of %u KiB, of 1 MiB, one reader", writers, block / 1024);
    return limit_wide(shared, directory, writers, block, false, &limits->disk_write_bytes_s) ||
           limit_wide(shared, directory, writers, LARGE_BYTES, false,
                      &limits->disk_write_large_bytes_s) ||
           limit_wide(shared, directory, 1, LARGE_BYTES, true, &limits->disk_read_bytes_s);
}

/* ---- who takes the core ---- */

static int hiccup_child(struct shared *shared, unsigned index, const void *context)
{
    (void)index, (void)context;
    uint64_t last_ns = leat_clock_monotonic_ns(),
             end_ns = last_ns + (uint64_t)(HICCUP_SECONDS * 1e9);
    while (last_ns < end_ns) {
        uint64_t now_ns = leat_clock_monotonic_ns();
        leat_histogram_record(&shared->histogram, now_ns - last_ns);
        last_ns = now_ns;
    }
    return 0;
}

static int limit_hiccup(const struct bench_options *options, struct shared *shared,
                        struct bench_limits *limits)
{
    progress(options, "limits: a thread that spins");
    int failed = children_run(1, true, hiccup_child, shared, NULL);
    limits->hiccup_ns_max = shared->histogram.max_ns;
    return failed;
}

static int limit_words(const struct bench_options *options, struct shared *shared,
                       struct bench_limits *limits)
{
    int failed = 0;
    for (int yields = 0; yields < 2 && !failed; yields++) {
        bool flag = yields;
        progress(options, "limits: shared words");
        failed = children_run(2, true, shm_child, shared, &flag);
        keep_best(&shared->histogram, &limits->shm_rtt_ns_p50, &limits->shm_rtt_ns_p99);
    }
    return failed;
}

static int limit_writes(const struct bench_options *options, struct shared *shared,
                        const char *directory, unsigned writers, struct bench_limits *limits)
{
    progress(options, "limits: durable write, one writer");
    int failed = limit_disk(shared, directory, 1, &limits->disk_ns_p50, &limits->disk_ns_p99);
    progress(options, "limits: durable write, %u writers", writers);
    return failed || limit_disk(shared, directory, writers, &limits->disk_shared_ns_p50,
                                &limits->disk_shared_ns_p99);
}

int limits_measure(const struct bench_options *options, unsigned which, struct bench_limits *limits)
{
    char directory[BENCH_PATH_BYTES];
    unsigned writers = options->nodes ? options->nodes : 3;
    struct shared *shared = shared_make();
    memset(limits, 0, sizeof(*limits));
    snprintf(directory, sizeof(directory), "%s/logbench-limits-XXXXXX", options->directory);
    if (!shared || !mkdtemp(directory)) {
        fprintf(stderr, "logbench: %s: %s; choose another place with --directory\n", directory,
                strerror(errno));
        return 1;
    }
    int failed = limit_words(options, shared, limits);
    if ((which & BENCH_LIMIT_NET) && !failed) {
        progress(options, "limits: raw port pair");
        failed = limit_net(shared, directory, limits);
    }
    if ((which & BENCH_LIMIT_WRITE) && !failed)
        failed = limit_writes(options, shared, directory, writers, limits);
    if ((which & BENCH_LIMIT_BANDWIDTH) && !failed)
        failed = limit_bandwidth(options, shared, directory, writers, limits);
    if ((which & BENCH_LIMIT_HICCUP) && !failed)
        failed = limit_hiccup(options, shared, limits);
    tree_remove(directory); /* also what an interrupted child left */
    munmap(shared, sizeof(*shared));
    if (failed && !bench_interrupted)
        fprintf(stderr, "logbench: the machine's limits could not be measured; --no-limits leaves "
                        "them out\n");
    return failed;
}
