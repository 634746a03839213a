/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader goes while a client at another node appends: killed, stopped, or asked to hand over.
 * How long does that client wait? Each run begins with all nodes level and ends so.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "bench.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "leat/leat.h"

#define FAILOVER_WARM_NS    300000000u
#define FAILOVER_TIMEOUT_NS 60000000000u
#define FAILOVER_SLEEP_NS   50000u
#define FAILOVER_BATCH      256u
#define FAILOVER_TRIES      10u /* per run that counts */

struct failover {
    const struct bench_options *options;
    struct bench_cluster *cluster;
    unsigned leader;
    _Atomic uint64_t fault_ns; /* when it was done; 0: not yet */
    uint64_t moved_ns;         /* when the client's node knew of another leader */
    uint64_t first_ns;        /* acknowledged by then: the first that was started after the fault */
    uint64_t last_ns, gap_ns; /* of acknowledgements, until one of another leader */
    bool over;
    _Atomic bool
        spoiled; /* leadership moved before the fault, or the transfer was refused: not counted */
    uint8_t *bytes;
};

/* Beside the client: a transfer waits for its answer. */
static void *failover_fault(void *context)
{
    struct failover *run = context;
    pid_t pid = run->cluster->pids[run->leader];
    char why[256] = "";
    run->fault_ns = leat_clock_monotonic_ns();
    if (run->options->fault == BENCH_KILL)
        kill(pid, SIGKILL);
    else if (run->options->fault == BENCH_PAUSE)
        kill(pid, SIGSTOP);
    else if (leat_transfer(run->cluster->sockets[run->leader], BENCH_LOG, 0, why, sizeof(why)) !=
             LEAT_OK)
        run->spoiled = true; /* a follower lags behind: another time */
    return NULL;
}

static void failover_take(struct failover *run, const struct leat_result *result, uint64_t now_ns)
{
    uint64_t fault_ns = atomic_load(&run->fault_ns);
    if (result->error != LEAT_OK)
        return;
    if (fault_ns != 0 && run->last_ns != 0 && now_ns - run->last_ns > run->gap_ns)
        run->gap_ns = now_ns - run->last_ns;
    run->last_ns = now_ns;
    /* one that the old leader still acknowledged came before anybody knew of another */
    if (run->moved_ns != 0 && run->first_ns == 0 && result->user > fault_ns)
        run->first_ns = now_ns;
    run->over = run->moved_ns != 0 && result->user > run->moved_ns;
}

static void failover_look(struct failover *run, struct leat_client *client)
{
    struct leat_log_info info;
    if (run->moved_ns == 0 && atomic_load(&run->fault_ns) != 0 &&
        leat_log_info(client, BENCH_LOG, &info) == LEAT_OK && info.leader_node != 0 &&
        info.leader_node != run->leader + 1)
        run->moved_ns = leat_clock_monotonic_ns();
}

static int failover_start(struct failover *run, struct leat_client *client)
{
    const struct bench_options *options = run->options;
    enum leat_ack ack = options->replicated ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE;
    uint64_t sequence;
    while (leat_in_flight(client) < options->in_flight) {
        int rc = leat_append_start(client, BENCH_LOG, run->bytes, options->size_bytes, ack,
                                   FAILOVER_TIMEOUT_NS, leat_clock_monotonic_ns(), &sequence);
        if (rc != LEAT_OK)
            return rc == LEAT_EAGAIN ? LEAT_OK : rc;
    }
    return LEAT_OK;
}

/* Appends until end_ns; or, where that is 0, until one that was started under another leader is
 * acknowledged. */
static int failover_append(struct failover *run, struct leat_client *client, uint64_t end_ns)
{
    struct leat_result results[FAILOVER_BATCH];
    struct leat_idle idle;
    uint64_t begin_ns = leat_clock_monotonic_ns(), now_ns = begin_ns;
    leat_idle_init(&idle, LEAT_IDLE_YIELD, FAILOVER_SLEEP_NS, FAILOVER_SLEEP_NS);
    while (end_ns ? now_ns < end_ns : !run->over && !run->spoiled) {
        int rc = failover_start(run, client);
        if (rc != LEAT_OK || bench_interrupted)
            return rc;
        int count = leat_poll(client, results, FAILOVER_BATCH);
        failover_look(run, client);
        now_ns = leat_clock_monotonic_ns();
        for (int i = 0; i < count; i++)
            failover_take(run, &results[i], now_ns);
        if (now_ns - begin_ns > FAILOVER_TIMEOUT_NS)
            return LEAT_EDEADLINE;
        leat_idle_step(&idle, now_ns, count > 0, false);
    }
    return LEAT_OK;
}

static int failover_load(struct failover *run, struct leat_client *client)
{
    pthread_t thread;
    int rc = failover_append(run, client, leat_clock_monotonic_ns() + FAILOVER_WARM_NS);
    struct leat_log_info info;
    run->spoiled = rc == LEAT_OK && (leat_log_info(client, BENCH_LOG, &info) != LEAT_OK ||
                                     info.leader_node != run->leader + 1);
    if (run->spoiled)
        return leat_flush(client, FAILOVER_TIMEOUT_NS);
    if (rc != LEAT_OK || pthread_create(&thread, NULL, failover_fault, run) != 0)
        return rc ? rc : LEAT_ENOMEM;
    rc = failover_append(run, client, 0);
    pthread_join(thread, NULL);
    return rc == LEAT_OK ? leat_flush(client, FAILOVER_TIMEOUT_NS) : rc;
}

static int failover_mend(struct failover *run)
{
    pid_t *pid = &run->cluster->pids[run->leader];
    if (run->options->fault == BENCH_PAUSE)
        kill(*pid, SIGCONT);
    if (run->options->fault == BENCH_KILL && run->fault_ns != 0) {
        waitpid(*pid, NULL, 0);
        *pid = 0;
        if (cluster_start_node(run->cluster, run->leader))
            return 1;
    }
    return cluster_level(run->cluster);
}

static int failover_once(struct failover *run)
{
    unsigned home = (run->leader + 1) % run->cluster->count;
    struct leat_options attach = {.socket = run->cluster->sockets[home]};
    struct leat_client *client;
    int rc = leat_attach(&attach, &client);
    if (rc == LEAT_OK) {
        rc = failover_load(run, client);
        leat_detach(client);
    }
    int failed = failover_mend(run);
    if (rc != LEAT_OK)
        fprintf(stderr, "logbench: %s\n", leat_error_text(rc));
    return rc != LEAT_OK || failed;
}

int failover_run(const struct bench_options *options, struct bench_cluster *cluster,
                 struct bench_failover *ret_failover)
{
    uint8_t *bytes = calloc(1, options->size_bytes + 1);
    int failed = bytes == NULL || cluster_level(cluster);
    memset(ret_failover, 0, sizeof(*ret_failover));
    for (unsigned tries = 0; ret_failover->runs < options->runs && !failed; tries++) {
        struct failover run = {
            .options = options, .cluster = cluster, .leader = cluster->leader, .bytes = bytes};
        progress(options, "run %u of %u", ret_failover->runs + 1, options->runs);
        failed = failover_once(&run);
        if (failed || bench_interrupted || tries > FAILOVER_TRIES * options->runs)
            break;
        if (run.spoiled)
            continue;
        if (options->fault != BENCH_TRANSFER)
            leat_histogram_record(&ret_failover->first, run.first_ns - run.fault_ns);
        leat_histogram_record(&ret_failover->gap, run.gap_ns);
        ret_failover->runs++;
    }
    free(bytes);
    if (!failed && !bench_interrupted && ret_failover->runs < options->runs) {
        fprintf(stderr, "logbench: leadership moves by itself too often here: %u of %u runs\n",
                ret_failover->runs, options->runs);
        failed = 1;
    }
    return failed;
}
