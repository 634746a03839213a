/* SPDX-License-Identifier: Apache-2.0
 *
 * A log that keeps little: its segments roll, are trimmed, unlinked and made anew while clients
 * append at full speed, or at a share of the top rate that is measured first. What it takes for
 * long, and how long the longest append waited.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "leat/leat.h"

#define SUSTAIN_TOP_SECONDS 5.0
#define SUSTAIN_AHEAD_MAX   8u /* the most that `storage: segments_ahead` may be */
#define MIB                 (1u << 20)

static uint64_t number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : 0;
}

/* A node that does not answer is left out, after a line. */
static void note_node(const char *socket, struct bench_sustain *sustain)
{
    char *json = NULL;
    cJSON *root = leat_status(socket, &json) == LEAT_OK ? cJSON_Parse(json) : NULL;
    free(json);
    if (!root) {
        fprintf(stderr, "logbench: %s says nothing of its counters\n", socket);
        return;
    }
    uint64_t disk = number_of(cJSON_GetObjectItemCaseSensitive(root, "disk"), "write_max_ns");
    uint64_t away = number_of(root, "absence_max_ns");
    cJSON_Delete(root);
    if (disk > sustain->disk_write_ns_max)
        sustain->disk_write_ns_max = disk;
    if (away > sustain->worker_away_ns_max)
        sustain->worker_away_ns_max = away;
}

static void count_marks(const struct bench_result *load, struct bench_sustain *sustain)
{
    for (unsigned i = 0; i < load->interval_count; i++) {
        sustain->rolls += (load->timeline[i].marks & BENCH_MARK_ROLL) != 0;
        sustain->trims += (load->timeline[i].marks & BENCH_MARK_TRIM) != 0;
        sustain->elections += (load->timeline[i].marks & BENCH_MARK_ELECTION) != 0;
    }
}

/* What the window lets, for a share of it. */
static int top_rate(const struct bench_options *options, const struct bench_cluster *cluster,
                    uint64_t *ret_rate)
{
    struct bench_options closed = *options;
    struct bench_result result;
    closed.rate = 0;
    closed.seconds = SUSTAIN_TOP_SECONDS;
    progress(options, "the top rate");
    int failed = load_run(&closed, cluster, &result);
    if (!failed)
        *ret_rate = (uint64_t)((double)result.appends / result.seconds);
    free(result.timeline);
    return failed;
}

int sustain_run(const struct bench_options *options, struct bench_cluster *cluster,
                struct bench_result *load, struct bench_sustain *ret_sustain)
{
    struct bench_options offered = *options;
    char why[256] = "";
    *ret_sustain = (struct bench_sustain){0};
    int rc = leat_log_configure(cluster->sockets[cluster->leader], BENCH_LOG,
                                (uint64_t)options->retain_mib * MIB, 0, why, sizeof(why));
    if (rc != LEAT_OK) {
        fprintf(stderr, "logbench: retention: %s %s\n", leat_error_text(rc), why);
        return 1;
    }
    if (options->share > 0) {
        uint64_t begin_ns; /* anew: the nodes' largest waits are of what comes, not of what was */
        if (top_rate(options, cluster, &ret_sustain->top_rate) ||
            cluster_restart(options, cluster, &begin_ns))
            return 1;
        offered.rate = (unsigned)(ret_sustain->top_rate * options->share / 100);
        offered.rate = offered.rate > 0 ? offered.rate : 1;
    }
    if (load_run(&offered, cluster, load))
        return 1;
    ret_sustain->offered_rate = offered.rate;
    count_marks(load, ret_sustain);
    ret_sustain->prepared_bytes = SUSTAIN_AHEAD_MAX * load->segment_bytes;
    for (unsigned i = 0; i < cluster->count; i++)
        note_node(cluster->sockets[i], ret_sustain);
    if (load->log_bytes < 3 * ret_sustain->prepared_bytes)
        fprintf(stderr,
                "logbench: the log grew by %lu MiB; to go three times over what may be prepared "
                "(%lu MiB) takes more --seconds\n",
                (unsigned long)(load->log_bytes / MIB),
                (unsigned long)(ret_sustain->prepared_bytes / MIB));
    return 0;
}
