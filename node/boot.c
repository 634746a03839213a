/* SPDX-License-Identifier: Apache-2.0
 *
 * From a data directory to a running worker: open, recover every log (log_boot.c), persist the new
 * incarnation, and only then take the arenas into use and say hello. Before the worker's thread
 * runs; worker 0 first, since its incarnation is the node's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/crc.h"
#include "worker.h"

/* What a log's genesis frame is a function of, for the hello: clusters that were formatted with
 * other members or settings are told apart. */
static uint32_t boot_genesis_crc(const struct node_log *log)
{
    const struct leat_base_head *head = &log->base_head;
    uint32_t crc = leat_crc32c(0, &head->cluster, sizeof(head->cluster));
    crc = leat_crc32c(crc, &head->log, sizeof(head->log));
    const uint64_t words[] = {head->flags,         head->log_id,      head->generation,
                              head->segment_bytes, head->arena_bytes, head->entry_bytes_max,
                              head->member_count};
    crc = leat_crc32c(crc, words, sizeof(words));
    return leat_crc32c(crc, log->members, head->member_count * sizeof(log->members[0]));
}

static int boot_logs(struct node_worker *worker, char *error, unsigned error_bytes)
{
    struct leat_uuid boot;
    struct node_log **logs = calloc(NODE_LOGS_MAX, sizeof(*logs));
    int rc = logs ? node_boot_id(&boot) : LEAT_ENOMEM;
    if (rc != LEAT_OK)
        snprintf(error, error_bytes, "/proc/sys/kernel/random/boot_id cannot be read");
    uint32_t count = leat_storage_log_count(worker->storage);
    LEAT_ASSERT(count <= NODE_LOGS_MAX);
    for (uint32_t i = 0; i < count && rc == LEAT_OK; i++)
        rc = log_boot(worker, i, &boot, &logs[i], error, error_bytes);
    if (rc == LEAT_OK) {
        rc = leat_storage_commit_begin(worker->storage, &worker->incarnation);
        if (rc != LEAT_OK)
            snprintf(error, error_bytes, "worker %u: %s", worker->number,
                     rc == LEAT_ECORRUPT ? "its directory is of another time than worker 0's"
                                         : leat_storage_fence_reason(worker->storage));
    }
    worker->now_ns = leat_clock_monotonic_ns(); /* what was read took its time */
    for (uint32_t i = 0; i < count; i++) {
        if (rc != LEAT_OK) {
            log_free(logs[i]);
            continue;
        }
        if (logs[i]->id < 2)
            worker->genesis_crc[logs[i]->id] = boot_genesis_crc(logs[i]);
        log_boot_serve(logs[i]);
    }
    free(logs);
    return rc;
}

/* Zeroed, and costing nothing until it is touched, whatever the allocator does to what it gives. */
static void *boot_map(size_t bytes)
{
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return map == MAP_FAILED ? NULL : map;
}

static void boot_unmap(void *map, size_t bytes)
{
    if (map)
        munmap(map, bytes);
}

static int boot_memory(struct node_worker *worker)
{
    worker->base_scratch = aligned_alloc(64, (LEAT_BASE_PAYLOAD_BYTES_MAX + 63) & ~63ul);
    worker->catchup = aligned_alloc(LEAT_BLOCK_BYTES, NODE_CATCHUPS_MAX * NODE_CATCHUP_BYTES);
    worker->retention.block = aligned_alloc(LEAT_BLOCK_BYTES, NODE_BASE_BLOCKS_BYTES);
    worker->clients = boot_map(NODE_CLIENTS_MAX * sizeof(worker->clients[0]));
    if (!worker->base_scratch || !worker->catchup || !worker->retention.block || !worker->clients)
        return LEAT_ENOMEM;
    for (unsigned i = 0; i < NODE_REASSEMBLY_MAX; i++) {
        worker->reassembly[i].bytes = boot_map(NODE_ENTRY_BYTES_MAX);
        if (!worker->reassembly[i].bytes)
            return LEAT_ENOMEM;
    }
    if (worker->number != 0)
        return LEAT_OK;
    worker->catalogue = calloc(1, sizeof(*worker->catalogue));
    worker->catalogue_tail = calloc(1, sizeof(*worker->catalogue_tail));
    worker->admin = calloc(1, sizeof(*worker->admin));
    return worker->catalogue && worker->catalogue_tail && worker->admin ? LEAT_OK : LEAT_ENOMEM;
}

void worker_port_config(const struct leat_config *config, uint32_t number,
                        struct leat_port_config *ret_port)
{
    static const enum leat_port_kind kinds[] = {
        [LEAT_NET_MEMIF] = LEAT_PORT_MEMIF,
        [LEAT_NET_AF_PACKET] = LEAT_PORT_AF_PACKET,
        [LEAT_NET_AF_XDP] = LEAT_PORT_AF_XDP,
        [LEAT_NET_PCI] = LEAT_PORT_PCI,
    };
    *ret_port = (struct leat_port_config){
        .kind = kinds[config->net],
        .node_id = config->node_id,
        .udp_port_base = config->udp_port_base,
        .worker = (uint16_t)number,
        .worker_count = (uint16_t)config->worker_count,
        .mtu_bytes = config->mtu_bytes,
        .bundles = true,
        .interface = config->interface,
        .memif_dir = config->memif_dir,
    };
    for (uint32_t i = 0; i < config->node_count; i++) {
        const struct leat_config_node *node = &config->nodes[i];
        if (node->id == config->node_id) {
            ret_port->ipv4 = node->ipv4;
            continue;
        }
        struct leat_port_peer *peer = &ret_port->peers[ret_port->peer_count++];
        peer->node_id = node->id;
        peer->ipv4 = node->ipv4;
        peer->worker_count = node->worker_count;
        memcpy(peer->mac, node->mac, sizeof(peer->mac));
    }
}

static int boot_port(struct node_worker *worker, char *error, unsigned error_bytes)
{
    const struct leat_config *config = worker->config;
    struct leat_port_config port;
    worker_port_config(config, worker->number, &port);
    for (uint8_t i = 0; i < config->node_count; i++) {
        if (config->nodes[i].id == config->node_id)
            continue;
        worker->peers[worker->peer_count].node_id = config->nodes[i].id;
        worker->peers[worker->peer_count].member = i;
        worker->peer_of_member[i] = (uint8_t)worker->peer_count++;
    }
    if (config->net == LEAT_NET_MEMIF && mkdir(config->memif_dir, 0700) != 0 && errno != EEXIST) {
        snprintf(error, error_bytes, "%.200s: %s", config->memif_dir, strerror(errno));
        return LEAT_ESYSTEM;
    }
    return leat_port_open(&port, &worker->port, error, error_bytes);
}

static void boot_progress(void *context, const char *line)
{
    struct node_worker *worker = context;
    logger_line(worker->out, LEAT_LOG_INFO, "%s", line);
}

static int boot_storage(struct node_worker *worker, char *error, unsigned error_bytes)
{
    const struct leat_config *config = worker->config;
    struct leat_storage_config storage = {
        .directory = config->data_dir,
        .cluster = config->cluster,
        .node_id = config->node_id,
        .member_count = config->node_count,
        .worker = worker->number,
        .worker_count = config->worker_count,
        .writes_in_flight_max = config->writes_in_flight_max,
        .segments_ahead = config->segments_ahead,
        .scrub_bytes_per_s = config->scrub_bytes_per_s / config->worker_count,
        .lock_wait_ms = 10000,
        .progress = boot_progress,
        .progress_context = worker,
    };
    for (uint32_t i = 0; i < config->node_count; i++)
        storage.member_ids[i] = config->nodes[i].id;
    int rc = leat_storage_open(&storage, &worker->storage, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    worker->node = leat_storage_identity(worker->storage)->node;
    worker->cluster = leat_storage_identity(worker->storage)->cluster;
    return LEAT_OK;
}

int worker_boot(struct node_worker *worker, char *error, unsigned error_bytes)
{
    snprintf(error, error_bytes, "out of memory");
    int rc = boot_memory(worker);
    worker->self = (uint8_t)leat_config_node_index(worker->config, worker->config->node_id);
    worker->now_ns = leat_clock_monotonic_ns();
    if (rc == LEAT_OK)
        rc = boot_storage(worker, error, error_bytes);
    if (rc == LEAT_OK)
        rc = trace_open(worker, error, error_bytes);
    if (rc == LEAT_OK)
        rc = boot_port(worker, error, error_bytes);
    if (rc == LEAT_OK)
        rc = boot_logs(worker, error, error_bytes);
    worker->started_ns = leat_clock_monotonic_ns();
    worker->led_changed = true;
    return rc;
}

void worker_shut(struct node_worker *worker)
{
    if (worker->port)
        leat_port_close(worker->port);
    if (worker->storage)
        leat_storage_close(worker->storage);
    for (uint32_t l = 0; l < worker->log_count; l++)
        log_free(worker->logs[l]);
    for (unsigned i = 0; i < NODE_REASSEMBLY_MAX; i++)
        boot_unmap(worker->reassembly[i].bytes, NODE_ENTRY_BYTES_MAX);
    trace_close(worker);
    free(worker->base_scratch);
    free(worker->catchup);
    free(worker->retention.block);
    boot_unmap(worker->clients, NODE_CLIENTS_MAX * sizeof(worker->clients[0]));
    free(worker->catalogue);
    free(worker->catalogue_tail);
    free(worker->admin);
    free(worker);
}
