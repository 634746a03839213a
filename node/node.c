/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's life: threads, signals, stopping. The worker runs on the process' first thread; beside
 * it the control thread (control.c), a helper that prepares segments, and a supervisor that waits
 * for signals and leads the way out:
 *
 *   SERVING -> DRAINING (SIGTERM: no new appends, leadership handed over)
 *           -> CLOSING (no packets taken any more, the disk catches up: D = M) -> STOPPED
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
#include "worker.h"

#define NODE_DRAIN_NS          5000000000u
#define NODE_TRANSFER_NS       50000000u
#define NODE_SLEEP_NS          50000u
#define NODE_PREPARE_IDLE_NS   5000000
#define NODE_PACKET_MEMORY_MIB 32u

enum node_phase { NODE_SERVING, NODE_DRAINING, NODE_CLOSING, NODE_STOPPED };

struct node {
    struct node_worker *worker;
    struct node_commands commands;
    struct node_control *control;
    struct node_logger out;
    struct leat_idle idle;
    _Atomic int phase;        /* raised by the worker */
    atomic_bool stop_wanted;  /* by the supervisor: a signal came */
    atomic_bool control_gone; /* by the supervisor: every client is detached */
    atomic_bool helper_stop;
    pthread_t supervisor, helper;
    uint64_t transfer_asked_ns;
};

/* ---- the threads beside the worker ---- */

static void *node_helper(void *context)
{
    struct node *node = context;
    while (!atomic_load(&node->helper_stop)) {
        logger_flush(&node->out);
        if (leat_storage_prepare_step(node->worker->storage))
            continue;
        struct timespec pause = {.tv_nsec = NODE_PREPARE_IDLE_NS};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void node_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

/* Waits for a signal; then closes the clients' connections, which needs the worker to be running
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
    node_control_stop(node->control);
    atomic_store(&node->control_gone, true);
    return NULL;
}

/* ---- the worker's loop ---- */

static bool node_leads(const struct node_worker *worker)
{
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->logs[i].core.role == LEAT_LEADER)
            return true;
    }
    return false;
}

static bool node_is_durable(const struct node_worker *worker)
{
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->logs[i].core.durable_pos != worker->logs[i].core.memory_pos)
            return false;
    }
    return true;
}

static void node_hand_over(struct node *node)
{
    struct node_worker *worker = node->worker;
    if (worker->now_ns - node->transfer_asked_ns < NODE_TRANSFER_NS)
        return;
    node->transfer_asked_ns = worker->now_ns;
    for (uint32_t l = 0; l < worker->log_count; l++) {
        struct node_log *log = &worker->logs[l];
        int best = log_best_follower(log);
        if (log->core.role == LEAT_LEADER && best >= 0)
            log_transfer(log, best);
    }
}

static void node_advance_phase(struct node *node)
{
    struct node_worker *worker = node->worker;
    int phase = atomic_load_explicit(&node->phase, memory_order_relaxed);
    bool late = worker->drain_deadline_ns != 0 && worker->now_ns > worker->drain_deadline_ns;
    if (phase == NODE_SERVING && atomic_load_explicit(&node->stop_wanted, memory_order_relaxed)) {
        logger_line(&node->out, LEAT_LOG_INFO, "stopping: hands leadership over and drains");
        worker->draining = true;
        worker->drain_deadline_ns = worker->now_ns + NODE_DRAIN_NS;
        atomic_store(&node->phase, NODE_DRAINING);
    } else if (phase == NODE_DRAINING) {
        if (node_leads(worker) && worker->config->node_count > 1 && !late) {
            node_hand_over(node);
            return;
        }
        worker->closing = true;
        worker->drain_deadline_ns = worker->now_ns + NODE_DRAIN_NS;
        atomic_store(&node->phase, NODE_CLOSING);
    } else if (phase == NODE_CLOSING && (node_is_durable(worker) || late) &&
               atomic_load_explicit(&node->control_gone, memory_order_acquire)) {
        atomic_store(&node->phase, NODE_STOPPED);
    }
}

static void node_loop(struct node *node)
{
    struct node_worker *worker = node->worker;
    while (atomic_load_explicit(&node->phase, memory_order_relaxed) != NODE_STOPPED) {
        unsigned work = node_pass(worker);
        if (worker->fatal)
            return;
        node_advance_phase(node);
        leat_idle_step(&node->idle, work);
    }
}

/* ---- starting and stopping ---- */

static void node_report_start(struct node *node)
{
    const struct leat_config *config = node->worker->config;
    static const char *const idles[] = {"spin", "yield", "sleep"};
    logger_line(&node->out, LEAT_LOG_INFO, "port: %s", leat_port_describe(node->worker->port));
    logger_line(&node->out, LEAT_LOG_INFO, "disk: %s, buffers %s", config->data_dir,
                leat_storage_buffers_registered(node->worker->storage)
                    ? "registered"
                    : "not registered (RLIMIT_MEMLOCK): plain O_DIRECT writes");
    logger_line(&node->out, LEAT_LOG_INFO,
                "worker: idle strategy %s, lcore %d; election %lu-%lu ms, heartbeat %lu ms, "
                "window %lu KiB, largest entry %u bytes",
                idles[config->idle], config->lcore,
                (unsigned long)(config->election_min_ns / 1000000),
                (unsigned long)(config->election_max_ns / 1000000),
                (unsigned long)(config->heartbeat_ns / 1000000),
                (unsigned long)(config->window_bytes >> 10), config->entry_bytes_max);
    logger_line(&node->out, LEAT_LOG_INFO, "ready: node %u of %u, incarnation %lu, socket %s",
                config->node_id, config->node_count, (unsigned long)node->worker->incarnation,
                config->socket);
}

static int node_pin(struct node *node, int lcore)
{
    cpu_set_t set;
    if (lcore < 0)
        return LEAT_OK;
    CPU_ZERO(&set);
    CPU_SET((unsigned)lcore, &set);
    if (sched_setaffinity(0, sizeof(set), &set) == 0)
        return LEAT_OK;
    logger_line(&node->out, LEAT_LOG_ERROR, "lcore %d cannot be used: %s", lcore, strerror(errno));
    return LEAT_ESYSTEM;
}

static int node_serve(struct node *node, const struct leat_config *config)
{
    char error[512];
    struct node_worker *worker = node->worker;
    int rc = node_pin(node, config->lcore);
    if (rc != LEAT_OK)
        return rc;
    rc = node_control_start(config, &worker->instance, &node->commands, &node->control, error,
                            sizeof(error));
    if (rc != LEAT_OK) {
        logger_line(&node->out, LEAT_LOG_ERROR, "%s", error);
        return rc;
    }
    if (pthread_create(&node->helper, NULL, node_helper, node) != 0 ||
        pthread_create(&node->supervisor, NULL, node_supervise, node) != 0)
        return LEAT_ENOMEM;
    node_report_start(node);
    logger_defer(&node->out, true);
    node_loop(node);
    if (worker->fatal) { /* the process ends here: nothing may leave any more but the reason */
        logger_defer(&node->out, false);
        return worker->fatal;
    }
    pthread_join(node->supervisor, NULL);
    atomic_store(&node->helper_stop, true);
    pthread_join(node->helper, NULL);
    logger_defer(&node->out, false);
    rc = node_is_durable(worker) ? leat_storage_clean_stop(worker->storage) : LEAT_EDEADLINE;
    logger_line(&node->out, LEAT_LOG_INFO, "stopped%s", rc == LEAT_OK ? "" : ", not clean");
    return rc;
}

int leat_node_run(const struct leat_config *config)
{
    char error[512];
    struct node *node = aligned_alloc(64, (sizeof(*node) + 63) & ~63ul);
    struct node_worker *worker = calloc(1, sizeof(*worker));
    sigset_t set;
    if (!node || !worker)
        return LEAT_ENOMEM;
    memset(node, 0, sizeof(*node));
    node->worker = worker;
    worker->config = config;
    worker->out = &node->out;
    worker->commands = &node->commands;
    int rc = logger_open(&node->out, config);
    if (rc != LEAT_OK) {
        fprintf(stderr, "leatd: %s: %s\n", config->log_file, strerror(errno));
        return rc;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write past a limit shall fail, and fence */
    node_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct leat_dataplane_config dataplane = {.huge_pages = config->huge_pages,
                                              .pci = config->net == LEAT_NET_PCI,
                                              .memory_mib = NODE_PACKET_MEMORY_MIB};
    rc = leat_uuid_random(&worker->instance);
    if (rc == LEAT_OK)
        rc = leat_dataplane_start(&dataplane, error, sizeof(error));
    if (rc != LEAT_OK) {
        logger_line(&node->out, LEAT_LOG_ERROR, "%s", error);
        return rc;
    }
    rc = worker_boot(worker);
    if (rc == LEAT_OK) {
        leat_idle_init(&node->idle, config->idle, NODE_SLEEP_NS);
        rc = node_serve(node, config);
    }
    if (worker
            ->fatal) /* said by then. Nothing is taken down: the caller ends the process at once */
        return LEAT_EFENCED;
    worker_shut(worker);
    leat_dataplane_stop();
    logger_close(&node->out);
    free(worker);
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
