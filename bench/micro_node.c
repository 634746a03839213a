/* SPDX-License-Identifier: Apache-2.0
 *
 * Three whole nodes' passes in one thread, each in its turn: the product's own workers over a port
 * of memory (micro_port.c) and a disk that forgets (micro_disk.c), with a clock that moves when it
 * is told, and helpers that help when they are called. A client's ring is filled by hand.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "micro.h"
#include "node/node.h"
#include "rings.h"
#include "worker.h"

#define NODES         3u
#define LOG_INDEX     1u
#define PASS_NS       1000u
#define SETTLE_NS     1000000u /* a pass while they get to know each other */
#define ROUNDS_MAX    20000u
#define ROUNDS_USUAL  64u
#define RING_BYTES    (1u << 20)
#define COMPLETIONS   1024u
#define PAYLOAD_BYTES 64u
#define MANY_LOGS     64u /* beside logs 0 and 1 */

static struct {
    bool up;
    char directory[64];
    struct leat_config configs[NODES];
    struct node_logger out[NODES];
    struct node_worker *workers[NODES];
    struct node_rings *rings; /* the leader's client's */
    struct leat_ring_client *shared;
    uint8_t *records;
    uint64_t sequences[MANY_LOGS + 2]; /* by log id */
    uint64_t now_ns;
    int measured; /* whose passes are measured; -1: nobody's */
} node;

uint64_t leat_clock_monotonic_ns(void)
{
    return node.now_ns;
}

uint64_t leat_clock_realtime_ns(void)
{
    return 1700000000000000000u + node.now_ns;
}

/* ---- three nodes ---- */

static void must(int rc, const char *what)
{
    if (rc == LEAT_OK)
        return;
    fprintf(stderr, "micro_ops: %s: %s\n", what, leat_error_text(rc));
    exit(1);
}

static int entry_remove(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static void directory_remove(void)
{
    if (node.directory[0])
        nftw(node.directory, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static void configure(unsigned index)
{
    char path[128], error[512];
    snprintf(path, sizeof(path), "%s/%u.yaml", node.directory, index + 1);
    FILE *file = fopen(path, "w");
    LEAT_ASSERT(file);
    fprintf(file,
            "cluster: 6f1f7c5e-6f0a-4a55-9a0b-1d2c3b4a5968\nnode: %u\nnodes:\n"
            "  - {id: 1, ip: 10.0.0.1}\n  - {id: 2, ip: 10.0.0.2}\n  - {id: 3, ip: 10.0.0.3}\n"
            "net: {kind: memif, memif_dir: memif}\nsocket: %u.sock\n"
            "storage: {data_dir: data%u, scrub: 0}\nmemory: {arena_dir: arena%u}\n"
            "log: {file: %u.log}\ndefault_log: {replicated: true}\n",
            index + 1, index + 1, index + 1, index + 1, index + 1);
    LEAT_ASSERT(fclose(file) == 0);
    int rc = leat_config_read(path, &node.configs[index], error, sizeof(error));
    must(rc, error);
    must(leat_node_format(&node.configs[index], error, sizeof(error)), error);
}

static void boot(unsigned index)
{
    char error[512];
    struct node_worker *worker = aligned_alloc(128, (sizeof(*worker) + 127) & ~127ul);
    LEAT_ASSERT(worker);
    memset(worker, 0, sizeof(*worker));
    worker->config = &node.configs[index];
    worker->out = &node.out[index];
    must(leat_uuid_random(&worker->instance), "instance");
    must(logger_open(worker->out, worker->config), "log");
    must(worker_boot(worker, error, sizeof(error)), error);
    node.workers[index] = worker;
}

static void pass(unsigned index)
{
    if (node.measured == (int)index)
        MICRO_BEGIN();
    node_pass(node.workers[index]);
    if (node.measured == (int)index)
        MICRO_END();
    LEAT_ASSERT(!node.workers[index]->fatal);
}

static void round_of_passes(uint64_t step_ns)
{
    for (unsigned i = 0; i < NODES; i++)
        pass(i);
    node.now_ns += step_ns;
}

/* What a node's helper thread does: segments are made ahead. */
static void help(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        while (leat_storage_prepare_step(node.workers[i]->storage))
            ;
    }
}

static void elect(void)
{
    for (unsigned round = 0;; round++) {
        struct node_log **logs = node.workers[0]->logs;
        LEAT_ASSERT(round < ROUNDS_MAX);
        if (logs[0]->core.role == LEAT_LEADER && logs[LOG_INDEX]->core.role == LEAT_LEADER &&
            log_rules(logs[LOG_INDEX]))
            return;
        if (round % 100 == 50) { /* they know each other by then */
            for (unsigned i = 0; i <= LOG_INDEX; i++) {
                leat_core_campaign_soon(&logs[i]->core);
                worker_wake(logs[i]);
            }
        }
        round_of_passes(SETTLE_NS);
        help();
    }
}

/* As the lifecycle thread does it, without a catalogue that asks for it. */
static void create(unsigned index, uint32_t log_id)
{
    char error[512];
    struct leat_uuid boot_id;
    struct node_worker *worker = node.workers[index];
    struct node_command command = {.kind = NODE_COMMAND_LOG_CREATE, .log_id = log_id};
    command.change.row = (struct leat_catalogue_row){.log_id = log_id,
                                                     .generation = 1,
                                                     .flags = LEAT_BASE_ACCEPTS_REPLICATED,
                                                     .entry_bytes_max = LEAT_ENTRY_BYTES_MIN,
                                                     .segment_bytes = LEAT_SEGMENT_BYTES_MIN,
                                                     .arena_bytes = LEAT_ARENA_BYTES_MIN};
    must(node_boot_id(&boot_id), "boot id");
    command.log = log_new();
    LEAT_ASSERT(command.log);
    must(log_prepare(command.log, worker, &boot_id, &command.change.row, error, sizeof(error)),
         error);
    LEAT_ASSERT(node_commands_push(&worker->commands[NODE_QUEUE_LIFECYCLE], &command));
    for (unsigned round = 0; !atomic_load(&command.done); round++) {
        LEAT_ASSERT(round < ROUNDS_MAX);
        help();
        round_of_passes(PASS_NS);
    }
    must(command.error, "a log");
}

/* Until the first node leads the log, whoever came first. */
static void lead(uint32_t log_id)
{
    for (unsigned round = 0; !log_rules(worker_log(node.workers[0], log_id)); round++) {
        LEAT_ASSERT(round < ROUNDS_MAX);
        for (unsigned i = 1; i < NODES && round % 100 == 0; i++) {
            struct node_log *log = worker_log(node.workers[i], log_id);
            worker_wake(log);
            if (log->core.role == LEAT_LEADER)
                log_transfer(log, 0);
        }
        round_of_passes(SETTLE_NS);
    }
}

static void create_many(void)
{
    for (uint32_t log_id = 2; log_id < MANY_LOGS + 2; log_id++) {
        for (unsigned i = 0; i < NODES; i++)
            create(i, log_id);
        lead(log_id);
    }
}

static void attach(void)
{
    struct rings_descriptors descriptors;
    struct leat_uuid client;
    must(leat_uuid_random(&client), "client");
    node_client_stamp(&client, NODE_ADMIN_OPERATOR);
    must(rings_make(&client, NODE_ADMIN_OPERATOR, &node.workers[0]->instance, RING_BYTES,
                    COMPLETIONS, 1, &node.rings, &descriptors),
         "rings");
    void *map = mmap(NULL, LEAT_RING_HEADER_BYTES + RING_BYTES, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_POPULATE, descriptors.client_region, 0);
    LEAT_ASSERT(map != MAP_FAILED);
    node.shared = map;
    node.records = (uint8_t *)map + LEAT_RING_HEADER_BYTES;
    must(clients_attach(node.workers[0], node.rings), "attach");
    close(descriptors.client_region);
    close(descriptors.node_region);
}

static void start(void)
{
    snprintf(node.directory, sizeof(node.directory), "/var/tmp/leat-micro-XXXXXX");
    LEAT_ASSERT(mkdtemp(node.directory));
    atexit(directory_remove);
    node.now_ns = 1000000000;
    node.measured = -1;
    for (unsigned i = 0; i < NODES; i++)
        configure(i);
    for (unsigned i = 0; i < NODES; i++)
        boot(i);
    elect();
    attach();
    node.up = true;
}

/* ---- appends ---- */

/* From log `first` on, in `logs` of them by turns. */
static void publish(uint32_t count, enum leat_level level, uint32_t first, uint32_t logs)
{
    uint64_t tail = node.shared->tail.value;
    for (uint32_t i = 0; i < count; i++) {
        struct leat_ring_record record = {.payload_bytes = PAYLOAD_BYTES,
                                          .kind = LEAT_RING_APPEND,
                                          .level = (uint8_t)level,
                                          .log_id = first + i % logs};
        record.sequence = ++node.sequences[record.log_id];
        uint64_t at = tail & (RING_BYTES - 1), extent = leat_ring_extent(PAYLOAD_BYTES);
        if (at + extent > RING_BYTES) { /* no record goes round the end */
            struct leat_ring_record skip = {.payload_bytes =
                                                (uint32_t)(RING_BYTES - at - sizeof(skip)),
                                            .kind = LEAT_RING_SKIP};
            memcpy(node.records + at, &skip, sizeof(skip));
            tail += RING_BYTES - at;
            at = 0;
        }
        uint8_t *to = node.records + at;
        memcpy(to, &record, sizeof(record));
        memset(to + sizeof(record), 0x5a, PAYLOAD_BYTES);
        tail += extent;
    }
    __atomic_store_n(&node.shared->tail.value, tail, __ATOMIC_RELEASE);
}

/* From the ring until all have ended, and then until nobody has anything to tell any more. */
static void appends(uint32_t count, enum leat_level level, int measured, uint32_t first,
                    uint32_t logs)
{
    uint64_t goal = node.rings->answers->completion_tail.value + count;
    publish(count, level, first, logs);
    node.measured = measured;
    for (unsigned round = 0; node.rings->answers->completion_tail.value < goal; round++) {
        LEAT_ASSERT(round < ROUNDS_MAX);
        round_of_passes(PASS_NS);
        if (round > ROUNDS_USUAL)
            help(); /* it waits for a segment */
    }
    node.measured = -1;
    for (uint64_t i = goal - count; i < goal; i++)
        LEAT_ASSERT(node.rings->completions[i & (COMPLETIONS - 1)].error == LEAT_OK);
    node.shared->completion_head.value = goal;
    for (unsigned round = 0; round < 4; round++)
        round_of_passes(PASS_NS);
}

static void one_log(uint32_t count, enum leat_level level, int measured)
{
    if (!node.up)
        start();
    appends(count, level, measured, 1, 1);
}

static void many_logs(uint32_t count, enum leat_level level, int measured)
{
    if (!node.up)
        start();
    if (node.sequences[2] == 0)
        create_many();
    appends(count, level, measured, 2, MANY_LOGS);
}

void micro_node_leader(uint32_t count)
{
    one_log(count, LEAT_LEVEL_DURABLE, 0);
}

void micro_node_follower(uint32_t count)
{
    one_log(count, LEAT_LEVEL_DURABLE, 1);
}

void micro_node_leader_replicated(uint32_t count)
{
    one_log(count, LEAT_LEVEL_REPLICATED, 0);
}

void micro_node_leader_many(uint32_t count)
{
    many_logs(count, LEAT_LEVEL_DURABLE, 0);
}

void micro_node_leader_many_replicated(uint32_t count)
{
    many_logs(count, LEAT_LEVEL_REPLICATED, 0);
}

void micro_node_follower_many(uint32_t count)
{
    many_logs(count, LEAT_LEVEL_DURABLE, 1);
}

void micro_node_idle(uint32_t count)
{
    (void)count;
    if (!node.up)
        start();
    node.measured = 0;
    pass(0);
    node.measured = -1;
}
