/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's life: threads, signals, stopping. Worker 0 runs on the process' first thread, the others
 * on their own; beside them the control thread (control.c), a helper that prepares segments, the
 * lifecycle thread (lifecycle.c) and a supervisor that waits for signals and leads the way out:
 *
 *   SERVING -> DRAINING (SIGTERM: no new appends, leadership handed over by every worker)
 *           -> CLOSING (no packets taken any more, the disks catch up: D = M) -> STOPPED
 *
 * Worker 0 moves the phase on; each worker says, one word each, how far it is.
 */
#include "node/node.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "control.h"
#include "lifecycle.h"
#include "pause.h"
#include "worker.h"

#define NODE_DRAIN_NS        5000000000u
#define NODE_TRANSFER_NS     50000000u
#define NODE_SLEEP_NS        50000u
#define NODE_SLEEP_LONGEST   4000000u /* or a quarter of the time between heartbeats */
#define NODE_PREPARE_IDLE_NS 3000000
#define NODE_REST_NS         10000000u
#define NODE_REST_PIECE_NS   1000000u

enum node_phase { NODE_SERVING, NODE_DRAINING, NODE_CLOSING, NODE_STOPPED };

struct node;

/* A worker and its thread. */
struct node_lane {
    struct node *node;
    struct node_worker *worker;
    struct leat_idle idle;
    pthread_t thread;
    int phase; /* as this worker has taken it */
    uint64_t deadline_ns;
    uint64_t transfer_asked_ns;
    atomic_int reached; /* the phase that it is done with */
    atomic_bool durable;
};

struct node {
    const struct leat_config *config;
    uint32_t lane_count;
    struct node_lane lanes[LEAT_WORKERS_MAX];
    struct node_control *control;
    struct node_lifecycle *lifecycle;
    struct node_logger out;
    struct leat_uuid instance;
    atomic_int phase;         /* raised by worker 0 */
    atomic_int fatal;         /* a negative enum leat_error, of any worker: all stop at once (V4) */
    atomic_bool stop_wanted;  /* by the supervisor: a signal came */
    atomic_bool control_gone; /* by the supervisor: every client is detached */
    atomic_bool helper_stop;
    pthread_t supervisor, helper;
};

/* ---- the threads beside the workers ---- */

/* A step of each worker's storage; the most pressing of what they did. */
static enum leat_storage_step helper_step(struct node *node)
{
    enum leat_storage_step did = LEAT_STORAGE_IDLE;
    for (uint32_t i = 0; i < node->lane_count; i++) {
        enum leat_storage_step step = leat_storage_prepare_step(node->lanes[i].worker->storage);
        if (did == LEAT_STORAGE_IDLE || step == LEAT_STORAGE_WORKED)
            did = step;
    }
    return did;
}

/* What nobody waits for gets a quarter of the time, or half where a step takes long: on the disk,
 * and on cores that the workers share with it, it comes between appends (ADR 0071). */
static void helper_rest(const struct node *node, uint64_t rest_ns)
{
    bool pressed = false;
    rest_ns = rest_ns < NODE_REST_NS ? rest_ns : NODE_REST_NS;
    while (rest_ns > 0 && !pressed) {
        uint64_t piece_ns = rest_ns < NODE_REST_PIECE_NS ? rest_ns : NODE_REST_PIECE_NS;
        node_rest(piece_ns);
        rest_ns -= piece_ns;
        for (uint32_t i = 0; i < node->lane_count; i++)
            pressed |= leat_storage_is_pressed(node->lanes[i].worker->storage);
    }
}

static void *node_helper(void *context)
{
    struct node *node = context;
    struct node_pause pause = {.pause_ns = NODE_PREPARE_IDLE_NS};
    while (!atomic_load(&node->helper_stop)) {
        uint64_t begin_ns = leat_clock_monotonic_ns();
        logger_flush(&node->out);
        enum leat_storage_step did = helper_step(node);
        if (did == LEAT_STORAGE_IDLE) {
            node_pause(&pause, false);
            continue;
        }
        pause.rounds = 0;
        if (did == LEAT_STORAGE_AHEAD)
            helper_rest(node, 3 * (leat_clock_monotonic_ns() - begin_ns));
    }
    return NULL;
}

static void node_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

/* Waits for a signal; then closes the clients' connections, which needs the workers to be running
 * still. */
static void *node_supervise(void *context)
{
    struct node *node = context;
    sigset_t set;
    int signal_number;
    node_signals(&set);
    sigwait(&set, &signal_number);
    atomic_store(&node->stop_wanted, true);
    while (atomic_load(&node->phase) < NODE_CLOSING) {
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
    lifecycle_stop(node->lifecycle);
    node_control_stop(node->control);
    atomic_store(&node->control_gone, true);
    return NULL;
}

/* ---- a worker's loop ---- */

static bool lane_leads(const struct node_worker *worker)
{
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->logs[i] && worker->logs[i]->core.role == LEAT_LEADER)
            return true;
    }
    return false;
}

static bool lane_is_durable(const struct node_worker *worker)
{
    for (uint32_t i = 0; i < worker->log_count; i++) {
        const struct node_log *log = worker->logs[i];
        if (log && log->core.durable_pos != log->core.memory_pos)
            return false;
    }
    return true;
}

static void lane_hand_over(struct node_lane *lane)
{
    struct node_worker *worker = lane->worker;
    if (worker->now_ns - lane->transfer_asked_ns < NODE_TRANSFER_NS)
        return;
    lane->transfer_asked_ns = worker->now_ns;
    for (uint32_t l = 0; l < worker->log_count; l++) {
        struct node_log *log = worker->logs[l];
        if (!log || log->core.role != LEAT_LEADER)
            continue;
        int best = log_best_follower(log);
        if (best >= 0) {
            log_transfer(log, best);
            worker_wake(log);
        }
    }
}

/* Takes the node's phase over and does what it asks of this worker. */
static void lane_follow_phase(struct node_lane *lane)
{
    struct node_worker *worker = lane->worker;
    int phase = atomic_load_explicit(&lane->node->phase, memory_order_relaxed);
    if (phase == NODE_SERVING)
        return;
    if (phase != lane->phase) {
        lane->phase = phase;
        lane->deadline_ns = worker->now_ns + NODE_DRAIN_NS;
        worker->draining = true;
        worker->closing = phase >= NODE_CLOSING;
    }
    bool late = worker->now_ns > lane->deadline_ns;
    if (phase == NODE_DRAINING && worker->config->node_count > 1 && !late && lane_leads(worker)) {
        lane_hand_over(lane);
        return;
    }
    bool durable = lane_is_durable(worker);
    if (phase == NODE_CLOSING && !durable && !late)
        return;
    atomic_store_explicit(&lane->durable, durable, memory_order_relaxed);
    atomic_store_explicit(&lane->reached, phase, memory_order_release);
}

static bool node_all_reached(const struct node *node, int phase)
{
    for (uint32_t i = 0; i < node->lane_count; i++) {
        if (atomic_load_explicit(&node->lanes[i].reached, memory_order_acquire) < phase)
            return false;
    }
    return true;
}

static void node_advance_phase(struct node *node)
{
    int phase = atomic_load_explicit(&node->phase, memory_order_relaxed);
    if (phase == NODE_SERVING && atomic_load_explicit(&node->stop_wanted, memory_order_relaxed)) {
        logger_line(&node->out, LEAT_LOG_INFO, "stopping: hands leadership over and drains");
        atomic_store(&node->phase, NODE_DRAINING);
    } else if (phase == NODE_DRAINING && node_all_reached(node, NODE_DRAINING)) {
        atomic_store(&node->phase, NODE_CLOSING);
    } else if (phase == NODE_CLOSING && node_all_reached(node, NODE_CLOSING) &&
               atomic_load_explicit(&node->control_gone, memory_order_acquire)) {
        atomic_store(&node->phase, NODE_STOPPED);
    }
}

static void lane_loop(struct node_lane *lane)
{
    struct node *node = lane->node;
    struct node_worker *worker = lane->worker;
    while (atomic_load_explicit(&node->phase, memory_order_relaxed) != NODE_STOPPED) {
        if (atomic_load_explicit(&node->fatal, memory_order_relaxed) != 0)
            return;
        unsigned work = node_pass(worker);
        if (worker->fatal) {
            atomic_store(&node->fatal, worker->fatal);
            return;
        }
        if (worker->number == 0)
            node_advance_phase(node);
        lane_follow_phase(lane);
        leat_idle_step(&lane->idle, worker->now_ns, work, worker->now_ns < worker->expect_ns);
    }
}

/* -1: the scheduler's choice. */
static int lane_lcore(const struct leat_config *config, uint32_t number)
{
    if (number < config->lcore_count)
        return (int)config->lcores[number];
    return number == 0 ? config->lcore : -1;
}

static void lane_pin(struct node_lane *lane)
{
    uint32_t number = lane->worker->number;
    int lcore = lane_lcore(lane->node->config, number);
    cpu_set_t set;
    if (lcore < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)lcore, &set);
    if (sched_setaffinity(0, sizeof(set), &set) == 0)
        return;
    node_fatal(lane->worker, LEAT_ESYSTEM, "worker %u: lcore %d cannot be used: %s", number, lcore,
               strerror(errno));
    atomic_store(&lane->node->fatal, LEAT_ESYSTEM);
}

static void *lane_run(void *context)
{
    struct node_lane *lane = context;
    lane_pin(lane);
    leat_port_thread_begin(lane->worker->port);
    lane_loop(lane);
    if (atomic_load(&lane->node->fatal) == 0)
        leat_port_thread_end(lane->worker->port);
    return NULL;
}

/* ---- starting and stopping ---- */

/* A core that others want takes a spinning worker away for whole slices of the scheduler. */
static void warn_of_floating(struct node *node)
{
    const struct leat_config *config = node->config;
    uint32_t floating = 0;
    for (uint32_t i = 0; i < config->worker_count; i++)
        floating += lane_lcore(config, i) < 0;
    if (config->idle == LEAT_IDLE_SPIN && floating > 0)
        logger_line(&node->out, LEAT_LOG_WARNING,
                    "%u of %u workers spin without a core of their own: give each one "
                    "(worker.lcore, worker.lcores), and nothing else to do",
                    floating, config->worker_count);
}

static void lcores_text(const struct leat_config *config, char *text, size_t text_bytes)
{
    size_t at = 0;
    for (uint32_t i = 0; i < config->worker_count && at < text_bytes; i++) {
        const char *between = i > 0 ? " " : "";
        int lcore = lane_lcore(config, i);
        int length = lcore < 0 ? snprintf(text + at, text_bytes - at, "%sany", between)
                               : snprintf(text + at, text_bytes - at, "%s%d", between, lcore);
        at += (size_t)length;
    }
}

static void node_report_start(struct node *node)
{
    const struct leat_config *config = node->config;
    const struct node_worker *first = node->lanes[0].worker;
    static const char *const idles[] = {"spin", "yield", "sleep"};
    char lcores[LEAT_WORKERS_MAX * 8];
    lcores_text(config, lcores, sizeof(lcores));
    logger_line(&node->out, LEAT_LOG_INFO, "mode: %s, %u of %u nodes make a majority, %u worker%s",
                config->node_count == 1 ? "one node" : "replicated", config->node_count / 2 + 1,
                config->node_count, config->worker_count, config->worker_count == 1 ? "" : "s");
    logger_line(&node->out, LEAT_LOG_INFO, "port: %s", leat_port_describe(first->port));
    logger_line(&node->out, LEAT_LOG_INFO, "disk: %s, buffers %s", config->data_dir,
                leat_storage_buffers_registered(first->storage)
                    ? "registered"
                    : "not registered (RLIMIT_MEMLOCK): plain O_DIRECT writes");
    logger_line(&node->out, LEAT_LOG_INFO,
                "worker: idle strategy %s, lcore %s; election %lu-%lu ms, heartbeat %lu ms, "
                "window %lu KiB, largest entry %u bytes",
                idles[config->idle], lcores, (unsigned long)(config->election_min_ns / 1000000),
                (unsigned long)(config->election_max_ns / 1000000),
                (unsigned long)(config->heartbeat_ns / 1000000),
                (unsigned long)(config->window_bytes >> 10), config->entry_bytes_max);
    warn_of_floating(node);
    logger_line(&node->out, LEAT_LOG_INFO, "ready: node %u of %u, incarnation %lu, socket %s",
                config->node_id, config->node_count, (unsigned long)first->incarnation,
                config->socket);
}

static int node_start_front(struct node *node)
{
    char error[512];
    struct node_commands *queues[LEAT_WORKERS_MAX];
    struct node_worker *workers[LEAT_WORKERS_MAX];
    for (uint32_t i = 0; i < node->lane_count; i++) {
        workers[i] = node->lanes[i].worker;
        queues[i] = &workers[i]->commands[NODE_QUEUE_CONTROL];
    }
    int rc = node_control_start(node->config, &node->instance, queues, &node->control, error,
                                sizeof(error));
    if (rc != LEAT_OK)
        logger_line(&node->out, LEAT_LOG_ERROR, "%s", error);
    if (rc == LEAT_OK)
        rc = lifecycle_start(node->config, &node->out, workers, &node->lifecycle);
    return rc;
}

static int node_start_threads(struct node *node)
{
    if (pthread_create(&node->helper, NULL, node_helper, node) != 0 ||
        pthread_create(&node->supervisor, NULL, node_supervise, node) != 0)
        return LEAT_ENOMEM;
    node_report_start(node);
    logger_defer(&node->out, true);
    for (uint32_t i = 1; i < node->lane_count; i++) {
        if (pthread_create(&node->lanes[i].thread, NULL, lane_run, &node->lanes[i]) != 0)
            return LEAT_ENOMEM;
    }
    return LEAT_OK;
}

static int node_stop_clean(struct node *node)
{
    int rc = LEAT_OK;
    for (uint32_t i = 1; i < node->lane_count; i++)
        pthread_join(node->lanes[i].thread, NULL);
    pthread_join(node->supervisor, NULL);
    atomic_store(&node->helper_stop, true);
    pthread_join(node->helper, NULL);
    logger_defer(&node->out, false);
    for (uint32_t i = 0; i < node->lane_count; i++) {
        int one = atomic_load(&node->lanes[i].durable)
                      ? leat_storage_clean_stop(node->lanes[i].worker->storage)
                      : LEAT_EDEADLINE;
        rc = rc == LEAT_OK ? one : rc;
    }
    logger_line(&node->out, LEAT_LOG_INFO, "stopped%s", rc == LEAT_OK ? "" : ", not clean");
    return rc;
}

static int node_serve(struct node *node)
{
    int rc = node_start_front(node);
    if (rc == LEAT_OK)
        rc = node_start_threads(node);
    if (rc != LEAT_OK)
        return rc;
    lane_run(&node->lanes[0]);
    int fatal = atomic_load(&node->fatal);
    if (fatal) { /* the process ends here: nothing may leave any more but the reason */
        logger_defer(&node->out, false);
        return LEAT_EFENCED;
    }
    return node_stop_clean(node);
}

/* A queue to and from each worker before it. */
static int node_make_queues(struct node *node, uint32_t number)
{
    struct node_worker *worker = node->lanes[number].worker;
    for (uint32_t i = 0; i < number; i++) {
        struct node_worker *other = node->lanes[i].worker;
        struct handover_queue *queues = aligned_alloc(128, 2 * sizeof(*queues)); /* until the end */
        if (!queues)
            return LEAT_ENOMEM;
        for (unsigned q = 0; q < 2; q++)
            queues[q].head = queues[q].tail = 0;
        worker->outbox[i] = other->inbox[number] = &queues[0];
        worker->inbox[i] = other->outbox[number] = &queues[1];
    }
    return LEAT_OK;
}

static uint32_t node_longest_sleep(const struct leat_config *config)
{
    uint64_t longest_ns = config->heartbeat_ns / 4;
    if (longest_ns > NODE_SLEEP_LONGEST)
        longest_ns = NODE_SLEEP_LONGEST;
    return longest_ns > NODE_SLEEP_NS ? (uint32_t)longest_ns : NODE_SLEEP_NS;
}

static int node_make_lane(struct node *node, uint32_t number)
{
    char error[512];
    struct node_lane *lane = &node->lanes[number];
    struct node_worker *worker = aligned_alloc(128, (sizeof(*worker) + 127) & ~127ul);
    if (!worker)
        return LEAT_ENOMEM;
    memset(worker, 0, sizeof(*worker));
    *lane = (struct node_lane){.node = node, .worker = worker};
    worker->number = number;
    worker->config = node->config;
    worker->out = &node->out;
    worker->instance = node->instance;
    worker->incarnation = number == 0 ? 0 : node->lanes[0].worker->incarnation;
    if (node_make_queues(node, number) != LEAT_OK)
        return LEAT_ENOMEM;
    leat_idle_init(&lane->idle, node->config->idle, NODE_SLEEP_NS,
                   node_longest_sleep(node->config));
    node->lane_count = number + 1;
    int rc = worker_boot(worker, error, sizeof(error));
    if (rc != LEAT_OK)
        logger_line(&node->out, LEAT_LOG_ERROR, "%s", error);
    return rc;
}

static int node_start_dataplane(struct node *node)
{
    char error[512];
    struct leat_port_config port;
    worker_port_config(node->config, 0, &port);
    struct leat_dataplane_config dataplane = {.huge_pages = node->config->huge_pages,
                                              .pci = node->config->net == LEAT_NET_PCI,
                                              .memory_mib = leat_port_memory_mib(&port)};
    int rc = leat_dataplane_start(&dataplane, error, sizeof(error));
    if (rc != LEAT_OK)
        logger_line(&node->out, LEAT_LOG_ERROR, "%s", error);
    return rc;
}

static int node_open(struct node *node, const struct leat_config *config)
{
    sigset_t set;
    node->config = config;
    int rc = logger_open(&node->out, config);
    if (rc != LEAT_OK) {
        fprintf(stderr, "leatd: %s: %s\n", config->log_file, strerror(errno));
        return rc;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write past a limit shall fail, and fence */
    node_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    rc = leat_uuid_random(&node->instance);
    if (rc == LEAT_OK)
        rc = node_start_dataplane(node);
    return rc;
}

int leat_node_run(const struct leat_config *config)
{
    struct node *node = aligned_alloc(64, (sizeof(*node) + 63) & ~63ul);
    if (!node)
        return LEAT_ENOMEM;
    memset(node, 0, sizeof(*node));
    int rc = node_open(node, config);
    if (rc != LEAT_OK)
        return rc;
    for (uint32_t i = 0; i < config->worker_count && rc == LEAT_OK; i++)
        rc = node_make_lane(node, i);
    if (rc == LEAT_OK)
        rc = node_serve(node);
    if (atomic_load(&node->fatal)) /* nothing is taken down: the caller ends the process at once */
        return LEAT_EFENCED;
    for (uint32_t i = node->lane_count; i-- > 0;)
        worker_shut(node->lanes[i].worker);
    lifecycle_free(node->lifecycle);
    leat_dataplane_stop();
    logger_close(&node->out);
    free(node);
    return rc;
}

int leat_node_format(const struct leat_config *config, char *error, unsigned error_bytes)
{
    struct leat_format_config format = {
        .directory = config->data_dir,
        .cluster = config->cluster,
        .node_id = config->node_id,
        .worker_count = config->worker_count,
        .member_count = config->node_count,
        .log_count = 2,
        .logs = {{.log_id = 0,
                  .entry_bytes_max = LEAT_SEGMENT_BYTES_MIN / 4 - LEAT_FRAME_HEADER_BYTES,
                  .segment_bytes = LEAT_SEGMENT_BYTES_MIN,
                  .arena_bytes = LEAT_ARENA_BYTES_MIN},
                 {.log_id = 1,
                  .entry_bytes_max = config->entry_bytes_max,
                  .segment_bytes = config->segment_bytes,
                  .arena_bytes = config->arena_bytes,
                  .accepts_replicated = config->accepts_replicated}},
    };
    for (uint32_t i = 0; i < config->node_count; i++)
        format.member_ids[i] = config->nodes[i].id;
    return leat_storage_format(&format, error, error_bytes);
}
