/* SPDX-License-Identifier: Apache-2.0
 *
 * A private cluster of this build's leatd in a temporary directory: configured, formatted,
 * started, waited for, stopped; nothing of it is left.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/uuid.h"
#include "bench.h"
#include "dataplane/clock.h"
#include "leat/leat.h"

#define TMPFS_MAGIC_NUMBER 0x01021994
#define CLUSTER_READY_NS   20000000000u
#define CLUSTER_STOP_NS    15000000000u
#define CLUSTER_LEVEL_NS   60000000000u

static void pause_ms(unsigned ms)
{
    usleep(ms * 1000);
}

/* Beside this program, in the build's tools folder, or on the PATH. */
static void program_path(const char *name, char *path, size_t path_bytes)
{
    static const char *const places[] = {"%s/%s", "%s/../tools/%s"};
    char self[BENCH_PATH_BYTES] = "";
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    for (unsigned i = 0; length > 0 && i < 2; i++) {
        char copy[BENCH_PATH_BYTES];
        memcpy(copy, self, sizeof(copy));
        snprintf(path, path_bytes, places[i], dirname(copy), name);
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, path_bytes, "%s", name);
}

static pid_t spawn(const char *const *arguments, const char *log_path)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
    }
    execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static int write_config(const struct bench_options *options, const struct bench_cluster *cluster,
                        const char *uuid, unsigned index)
{
    char path[BENCH_PATH_BYTES + 32];
    snprintf(path, sizeof(path), "%s/node%u.yaml", cluster->directory, index + 1);
    FILE *file = fopen(path, "w");
    if (!file)
        return 1;
    fprintf(file, "cluster: %s\nnode: %u\nnodes:\n", uuid, index + 1);
    for (unsigned i = 0; i < cluster->count; i++)
        fprintf(file, "  - {id: %u, ip: 10.77.0.%u}\n", i + 1, i + 1);
    fprintf(file,
            "socket: %s\n"
            "net: {kind: %s, memif_dir: memif}\n"
            "storage: {data_dir: data%u}\n"
            "memory: {arena_dir: /dev/shm/%s, budget: 16GiB}\n"
            "worker: {count: %u, lcore: %d, trace: %s}\n"
            "default_log: {replicated: true}\n"
            "profile: %s\n",
            cluster->sockets[index], options->net, index + 1, strrchr(cluster->directory, '/') + 1,
            options->workers, place_node(options, index), options->trace ? "64MiB" : "0",
            options->profile);
    return fclose(file) != 0;
}

static int format_node(const struct bench_cluster *cluster, unsigned index)
{
    char program[BENCH_PATH_BYTES], config[BENCH_PATH_BYTES + 32], log[BENCH_PATH_BYTES + 32];
    int status;
    program_path("leat", program, sizeof(program));
    snprintf(config, sizeof(config), "%s/node%u.yaml", cluster->directory, index + 1);
    snprintf(log, sizeof(log), "%s/node%u.log", cluster->directory, index + 1);
    const char *arguments[] = {program, "format", "--config", config, NULL};
    pid_t pid = spawn(arguments, log);
    return pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0;
}

int cluster_start_node(struct bench_cluster *cluster, unsigned index)
{
    char program[BENCH_PATH_BYTES], config[BENCH_PATH_BYTES + 32], log[BENCH_PATH_BYTES + 32];
    program_path("leatd", program, sizeof(program));
    snprintf(config, sizeof(config), "%s/node%u.yaml", cluster->directory, index + 1);
    snprintf(log, sizeof(log), "%s/node%u.log", cluster->directory, index + 1);
    const char *arguments[] = {program, "--config", config, NULL};
    cluster->pids[index] = spawn(arguments, log);
    return cluster->pids[index] < 0;
}

/* What a node says of the default log; false: nothing. */
static bool log_state(const struct bench_cluster *cluster, unsigned index, bool *ret_leads,
                      double *ret_durable)
{
    char *json = NULL;
    bool found = false;
    if (leat_status(cluster->sockets[index], &json) != LEAT_OK)
        return false;
    cJSON *root = cJSON_Parse(json);
    cJSON *log;
    cJSON_ArrayForEach(log, cJSON_GetObjectItem(root, "logs"))
    {
        cJSON *id = cJSON_GetObjectItem(log, "log");
        cJSON *role = cJSON_GetObjectItem(log, "role");
        cJSON *durable = cJSON_GetObjectItem(log, "durable");
        if (!id || id->valueint != (int)BENCH_LOG || !cJSON_IsString(role) ||
            !cJSON_IsNumber(durable))
            continue;
        found = true;
        *ret_leads = strcmp(role->valuestring, "leader") == 0;
        *ret_durable = durable->valuedouble;
    }
    cJSON_Delete(root);
    free(json);
    return found;
}

int cluster_leader(const struct bench_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->count; i++) {
        bool leads;
        double durable;
        if (log_state(cluster, i, &leads, &durable) && leads)
            return (int)i;
    }
    return -1;
}

static bool is_level(struct bench_cluster *cluster)
{
    double first = 0, durable;
    bool led = false, leads;
    for (unsigned i = 0; i < cluster->count; i++) {
        if (!log_state(cluster, i, &leads, &durable) || (i > 0 && durable != first))
            return false;
        first = durable;
        if (leads)
            cluster->leader = i;
        led = led || leads;
    }
    return led;
}

int cluster_level(struct bench_cluster *cluster)
{
    uint64_t end = leat_clock_monotonic_ns() + CLUSTER_LEVEL_NS;
    while (leat_clock_monotonic_ns() < end && !bench_interrupted) {
        if (is_level(cluster))
            return 0;
        pause_ms(20);
    }
    if (!bench_interrupted)
        fprintf(stderr, "logbench: the nodes did not become level\n");
    return 1;
}

/* The place of each node supposes that the first leads. */
static bool leads_well(const struct bench_options *options, const struct bench_cluster *cluster,
                       int leader)
{
    if (leader > 0 && place_node(options, 0) >= 0) {
        leat_transfer(cluster->sockets[leader], BENCH_LOG, 1, NULL, 0); /* or later, asked again */
        return false;
    }
    return leader >= 0;
}

static int cluster_wait(const struct bench_options *options, struct bench_cluster *cluster)
{
    uint64_t end = leat_clock_monotonic_ns() + CLUSTER_READY_NS;
    while (leat_clock_monotonic_ns() < end) {
        progress(options, "cluster: waiting for a leader");
        int leader = cluster_leader(cluster);
        if (leads_well(options, cluster, leader)) {
            cluster->leader = (unsigned)leader;
            return 0;
        }
        for (unsigned i = 0; i < cluster->count; i++) {
            if (waitpid(cluster->pids[i], NULL, WNOHANG) == cluster->pids[i]) {
                cluster->pids[i] = 0;
                return 1;
            }
        }
        pause_ms(20);
    }
    return 1;
}

static int refuse_tmpfs(const struct bench_options *options)
{
    struct statfs status;
    if (statfs(options->directory, &status) != 0) {
        fprintf(stderr, "logbench: %s: %s\n", options->directory, strerror(errno));
        return 1;
    }
    if (!options->replicated && (long)status.f_type == TMPFS_MAGIC_NUMBER) {
        fprintf(stderr,
                "logbench: %s is a tmpfs, where nothing is durable: choose a disk with "
                "--directory\n",
                options->directory);
        return 1;
    }
    return 0;
}

static void say_logs(const struct bench_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->count; i++) {
        char path[BENCH_PATH_BYTES + 32], line[512], last[512] = "no output";
        snprintf(path, sizeof(path), "%s/node%u.log", cluster->directory, i + 1);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof(line), file))
            memcpy(last, line, sizeof(last));
        if (file)
            fclose(file);
        last[strcspn(last, "\n")] = '\0';
        fprintf(stderr, "logbench: node %u said last: %s\n", i + 1, last);
    }
}

int cluster_restart(const struct bench_options *options, struct bench_cluster *cluster,
                    uint64_t *ret_begin_ns)
{
    for (unsigned i = 0; i < cluster->count; i++)
        kill(cluster->pids[i], SIGKILL);
    for (unsigned i = 0; i < cluster->count; i++) {
        waitpid(cluster->pids[i], NULL, 0);
        cluster->pids[i] = 0;
    }
    *ret_begin_ns = leat_clock_monotonic_ns();
    for (unsigned i = 0; i < cluster->count; i++) {
        if (cluster_start_node(cluster, i))
            return 1;
    }
    return cluster_wait(options, cluster);
}

static void stop_node(pid_t pid, uint64_t end)
{
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (leat_clock_monotonic_ns() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            return;
        }
        pause_ms(5);
    }
}

double cluster_verify(struct bench_cluster *cluster, unsigned index, uint64_t log_bytes)
{
    char program[BENCH_PATH_BYTES], data[BENCH_PATH_BYTES + 32], log[BENCH_PATH_BYTES + 32];
    int status = 1;
    kill(cluster->pids[index], SIGTERM);
    stop_node(cluster->pids[index], leat_clock_monotonic_ns() + CLUSTER_STOP_NS);
    cluster->pids[index] = 0;
    program_path("leat", program, sizeof(program));
    snprintf(data, sizeof(data), "%s/data%u", cluster->directory, index + 1);
    snprintf(log, sizeof(log), "%s/verify.log", cluster->directory);
    const char *arguments[] = {program, "verify", data, NULL};
    uint64_t begin_ns = leat_clock_monotonic_ns();
    pid_t pid = spawn(arguments, log);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        if (bench_interrupted)
            kill(pid, SIGKILL);
    }
    double seconds = (double)(leat_clock_monotonic_ns() - begin_ns) / 1e9;
    if (status != 0 && !bench_interrupted)
        fprintf(stderr, "logbench: leat verify failed: status %d\n", status);
    return status == 0 ? (double)log_bytes / seconds : 0;
}

int cluster_start(const struct bench_options *options, struct bench_cluster *cluster)
{
    char uuid_text[LEAT_UUID_TEXT_BYTES];
    struct leat_uuid uuid;
    memset(cluster, 0, sizeof(*cluster));
    if (refuse_tmpfs(options) || leat_uuid_random(&uuid) != LEAT_OK)
        return 1;
    leat_uuid_format(&uuid, uuid_text);
    snprintf(cluster->directory, sizeof(cluster->directory), "%s/logbench-XXXXXX",
             options->directory);
    if (!mkdtemp(cluster->directory)) {
        fprintf(stderr, "logbench: %s: %s\n", cluster->directory, strerror(errno));
        return 1;
    }
    cluster->count = options->nodes;
    int failed = 0;
    for (unsigned i = 0; i < cluster->count && !failed; i++) {
        snprintf(cluster->sockets[i], sizeof(cluster->sockets[i]), "%s/node%u.sock",
                 cluster->directory, i + 1);
        progress(options, "cluster: node %u", i + 1);
        failed = write_config(options, cluster, uuid_text, i) || format_node(cluster, i) ||
                 cluster_start_node(cluster, i);
    }
    if (!failed)
        failed = cluster_wait(options, cluster);
    if (failed) {
        fprintf(stderr, "logbench: the cluster did not come up\n");
        say_logs(cluster);
        cluster_stop(cluster);
    }
    return failed;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

void tree_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void cluster_stop(struct bench_cluster *cluster)
{
    char arenas[BENCH_PATH_BYTES];
    uint64_t end = leat_clock_monotonic_ns() + CLUSTER_STOP_NS;
    for (unsigned i = 0; i < cluster->count; i++) {
        if (cluster->pids[i] > 0)
            kill(cluster->pids[i], SIGTERM);
        if (cluster->pids[i] > 0)
            kill(cluster->pids[i], SIGCONT); /* one that was stopped */
    }
    for (unsigned i = 0; i < cluster->count; i++) {
        if (cluster->pids[i] > 0)
            stop_node(cluster->pids[i], end);
    }
    if (cluster->directory[0] == '\0')
        return;
    snprintf(arenas, sizeof(arenas), "/dev/shm/%s", strrchr(cluster->directory, '/') + 1);
    tree_remove(arenas);
    tree_remove(cluster->directory);
    cluster->directory[0] = '\0';
}
