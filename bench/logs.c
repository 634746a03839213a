/* SPDX-License-Identifier: Apache-2.0
 *
 * Many logs for one measurement: made side by side, then all led by the node whose clients append,
 * so that one log and many do the same work.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "dataplane/clock.h"
#include "leat/leat.h"

#define LOGS_MAKERS     16u
#define LOGS_SEGMENT    (2u << 20)
#define LOGS_ARENA      (4u << 20)
#define LOGS_TIMEOUT_NS 60000000000u

struct logs_making {
    const struct bench_options *options;
    struct bench_cluster *cluster;
    atomic_uint next, failed;
};

static void *logs_maker(void *context)
{
    struct logs_making *making = context;
    const struct bench_options *options = making->options;
    const char *socket = making->cluster->sockets[making->cluster->leader];
    for (;;) {
        char why[256];
        uint32_t i = atomic_fetch_add(&making->next, 1);
        if (i >= options->logs || atomic_load(&making->failed) || bench_interrupted)
            return NULL;
        struct leat_log_entry settings = {.segment_bytes = LOGS_SEGMENT,
                                          .arena_bytes = LOGS_ARENA,
                                          .accepts_replicated = options->replicated};
        snprintf(settings.name, sizeof(settings.name), "bench-%u", i);
        int rc = leat_log_create(socket, &settings, LOGS_TIMEOUT_NS, &making->cluster->log_ids[i],
                                 why, sizeof(why));
        if (rc == LEAT_OK)
            continue;
        fprintf(stderr, "logbench: log %s: %s %s\n", settings.name, leat_error_text(rc), why);
        atomic_store(&making->failed, 1);
    }
}

/* Leadership of a log to the clients' node. Returns 0 when it is there. */
static int log_bring(struct leat_client *client, const struct bench_cluster *cluster, uint32_t log)
{
    uint64_t end_ns = leat_clock_monotonic_ns() + LOGS_TIMEOUT_NS;
    struct leat_log_info info;
    while (leat_clock_monotonic_ns() < end_ns && !bench_interrupted) {
        int rc = leat_log_info(client, log, &info);
        if (rc == LEAT_OK && info.leader_node == cluster->leader + 1)
            return 0;
        if (rc == LEAT_OK && info.leader_node != 0)
            leat_transfer(cluster->sockets[info.leader_node - 1], log, cluster->leader + 1, NULL,
                          0);
        leat_poll(client, NULL, 0);
        usleep(5000);
    }
    fprintf(stderr, "logbench: log %u cannot be led by the clients' node\n", log);
    return 1;
}

int logs_make(const struct bench_options *options, struct bench_cluster *cluster)
{
    struct logs_making making = {.options = options, .cluster = cluster};
    pthread_t threads[LOGS_MAKERS];
    struct leat_client *client;
    cluster->log_ids = calloc(options->logs, sizeof(*cluster->log_ids));
    if (!cluster->log_ids)
        return 1;
    cluster->log_ids[0] = LEAT_DEFAULT_LOG;
    if (options->logs == 1)
        return 0;
    progress(options, "making %u logs", options->logs);
    for (unsigned i = 0; i < LOGS_MAKERS; i++)
        pthread_create(&threads[i], NULL, logs_maker, &making);
    for (unsigned i = 0; i < LOGS_MAKERS; i++)
        pthread_join(threads[i], NULL);
    struct leat_options attach = {.socket = cluster->sockets[cluster->leader]};
    if (atomic_load(&making.failed) || leat_attach(&attach, &client) != LEAT_OK)
        return 1;
    int failed = 0;
    for (uint32_t i = 0; i < options->logs && !failed; i++)
        failed = log_bring(client, cluster, cluster->log_ids[i]);
    leat_detach(client);
    return failed;
}
