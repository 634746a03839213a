/* SPDX-License-Identifier: Apache-2.0
 *
 * From a data directory to a running worker: open, judge the arenas (W4), recover, decide amnesia
 * (W5), persist the new incarnation, and only then take the arenas into use and say hello.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "worker.h"

struct boot_walk {
    struct node_log *log;
    uint64_t commit_d; /* as journalled */
    uint32_t run_count;
    struct leat_run runs[LEAT_RUNS_MAX];
    bool begun;
};

static void boot_add_run(struct boot_walk *walk, uint32_t term, uint64_t first_pos)
{
    if (walk->run_count == LEAT_RUNS_MAX) {
        walk->run_count--;
        memmove(walk->runs, walk->runs + 1, walk->run_count * sizeof(walk->runs[0]));
    }
    walk->runs[walk->run_count++] = (struct leat_run){.first_pos = first_pos, .term = term};
}

static void boot_begin_at(struct boot_walk *walk, const struct leat_base_head *head,
                          const void *payload)
{
    struct node_log *log = walk->log;
    struct leat_chain chain = {
        .position = head->position,
        .next_offset = head->next_offset,
        .last_time_ns = head->last_time_ns,
        .run_first_pos = head->run_first_pos,
        .term = head->run_term,
        .crc = head->chain_crc,
    };
    log->base_head = *head;
    memcpy(log->members, (const uint8_t *)payload + sizeof(*head),
           head->member_count * sizeof(log->members[0]));
    log_load_base(log, &chain, payload);
    boot_add_run(walk, head->run_term, head->run_first_pos);
    walk->begun = true;
}

/* Every frame from the base on, in order, checked by storage. */
static void boot_visit(void *context, uint64_t position, const struct leat_frame *frame,
                       const void *payload)
{
    struct boot_walk *walk = context;
    struct node_log *log = walk->log;
    if (!walk->begun)
        boot_begin_at(walk, payload, payload);
    if (leat_frame_type(frame) == LEAT_FRAME_TERM)
        boot_add_run(walk, frame->term, position);
    log_note_pad(log, position, frame);
    if (position >= walk->commit_d)
        return;
    int rc = leat_sessions_apply(&log->committed, position, frame, payload);
    LEAT_ASSERT(rc == LEAT_OK); /* committed here before */
    if (leat_frame_type(frame) == LEAT_FRAME_TRIM)
        memcpy(&log->trim_committed, payload, sizeof(log->trim_committed));
    else if (leat_frame_type(frame) == LEAT_FRAME_FENCE)
        memcpy(&log->fence_committed, payload, sizeof(log->fence_committed));
    leat_chain_advance(&log->applied, frame,
                       leat_frame_extent(&log->shape, position, frame->length_bytes));
}

static int boot_id(struct leat_uuid *ret_boot)
{
    char text[64] = {0};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return LEAT_ESYSTEM;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got < 36)
        return LEAT_ESYSTEM;
    text[36] = '\0';
    return leat_uuid_parse(text, ret_boot);
}

static void boot_core(struct node_log *log, const struct boot_walk *walk,
                      const struct leat_storage_log_info *info,
                      const struct leat_recovered *recovered, bool amnesiac)
{
    struct node_worker *worker = log->worker;
    const struct leat_config *config = worker->config;
    struct leat_core_config core_config = {
        .member_count = (uint8_t)config->node_count,
        .self = worker->self,
        .accepts_replicated = log->accepts_replicated,
        .election_min_ns = config->election_min_ns,
        .election_max_ns = config->election_max_ns,
        .retransmit_ns = config->heartbeat_ns / 4,
        .window_bytes = config->window_bytes < log->arena.arena_bytes / 4
                            ? config->window_bytes
                            : log->arena.arena_bytes / 4,
        .seed = ((uint64_t)config->node_id << 32 | log->id) * 0x9e3779b97f4a7c15ULL,
    };
    int voted =
        info->voted_for == LEAT_VOTED_NONE ? -1 : leat_config_node_index(config, info->voted_for);
    struct leat_core_boot boot = {
        .now_ns = leat_clock_monotonic_ns(),
        .incarnation = worker->incarnation,
        .vote_term = info->vote_term,
        .voted_for = voted < 0 ? LEAT_CORE_NOBODY : (uint8_t)voted,
        .amnesiac = amnesiac,
        .damaged = recovered->damaged,
        .runs = walk->runs,
        .run_count = walk->run_count,
        .claim_term = recovered->claim_term,
        .claim_end = recovered->claim_end,
        .base_pos = recovered->base_pos,
        .memory_pos = recovered->chain.position,
        .durable_pos = recovered->durable_pos,
        .commit_d = log->applied.position,
    };
    leat_core_init(&log->core, &core_config, &boot);
}

static void boot_publish(struct node_log *log, const struct leat_recovered *recovered)
{
    struct leat_arena_header *header = log->arena.header;
    if (recovered->kind == LEAT_RECOVERED_DISK)
        header->horizon.value = recovered->horizon_pos;
    log->told_commit_r = header->commit_r.value;
    header->published_end.value = recovered->chain.position;
    header->commit_d.value = log->applied.position;
    header->commit_r.value = log->applied.position;
    header->base_pos.value = recovered->base_pos;
    log_tell_leadership(log);
    __atomic_store_n(&header->instance.value, header->instance.value + 1, __ATOMIC_RELEASE);
}

static void boot_report(struct node_log *log, const struct leat_recovered *recovered, bool amnesiac)
{
    struct node_logger *out = log->worker->out;
    logger_line(out, LEAT_LOG_INFO,
                "log %u: recovered from %s: [%lu, %lu) durable to %lu, committed to %lu, %s; "
                "acknowledges %s",
                log->id, recovered->kind == LEAT_RECOVERED_ARENA ? "memory and disk" : "disk",
                (unsigned long)recovered->base_pos, (unsigned long)recovered->chain.position,
                (unsigned long)recovered->durable_pos, (unsigned long)log->applied.position,
                recovered->clean ? "clean stop" : "no clean stop",
                log->accepts_replicated ? "durable and replicated" : "durable only");
    if (recovered->torn)
        logger_line(out, LEAT_LOG_INFO, "log %u: cut a torn tail [%lu, %lu)", log->id,
                    (unsigned long)recovered->torn_pos, (unsigned long)recovered->torn_end);
    if (recovered->damaged)
        logger_line(out, LEAT_LOG_ERROR,
                    "log %u: damaged at %lu, below what was durable (to %lu in term %u): waits "
                    "for repair from its peers",
                    log->id, (unsigned long)recovered->chain.position,
                    (unsigned long)recovered->claim_end, recovered->claim_term);
    if (amnesiac)
        logger_line(out, LEAT_LOG_WARNING,
                    "log %u: memory was lost: votes are marked until the leader clears it",
                    log->id);
}

struct boot_log {
    struct leat_storage_log_info info;
    struct leat_recovered recovered;
    struct boot_walk walk;
    bool amnesiac;
};

/* What is damaged on disk and whole in memory may be committed: it is applied up to what is
 * durable, and the rest when the leader says again that it is committed. */
static int boot_recover(struct node_log *log, const struct leat_storage_arena *arena,
                        struct boot_log *state, char *error, unsigned error_bytes)
{
    uint64_t commit_d = state->info.entry.commit_d;
    for (unsigned i = 0; i < 2; i++) {
        state->walk = (struct boot_walk){.log = log, .commit_d = commit_d};
        int rc = leat_storage_recover(log->worker->storage, log->index, arena, boot_visit,
                                      &state->walk, &state->recovered, error, error_bytes);
        if (rc != LEAT_OK)
            return rc;
        commit_d = state->recovered.durable_pos;
        if (log->applied.position <= commit_d)
            return LEAT_OK;
    }
    snprintf(error, error_bytes, "log %u: committed to %lu but durable to %lu only", log->id,
             (unsigned long)log->applied.position, (unsigned long)commit_d);
    return LEAT_ECORRUPT;
}

static int boot_log(struct node_worker *worker, uint32_t index, const struct leat_uuid *boot,
                    struct boot_log *state, char *error, unsigned error_bytes)
{
    struct node_log *log = &worker->logs[index];
    struct leat_storage_log_info *info = &state->info;
    bool valid;

    leat_storage_log_info(worker->storage, index, info);
    log->worker = worker;
    log->index = index;
    log->id = info->log_id;
    log->generation = info->generation;
    log->uuid = info->log;
    log->shape = info->shape;
    log->accepts_replicated = info->accepts_replicated;
    int rc = node_arena_open(&log->arena, worker->config->arena_dir, &worker->node, info, boot,
                             &valid, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    bool was_amnesiac = (info->entry.flags & LEAT_JOURNAL_AMNESIAC) != 0;
    struct leat_storage_arena arena = {
        .bytes = log->arena.bytes,
        .valid = valid && !was_amnesiac,
        .published_end = log->arena.header->published_end.value,
    };
    rc = boot_recover(log, &arena, state, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    log->chain = state->recovered.chain;
    log->completed = log->applied;
    bool first_boot = leat_uuid_is_zero(&info->entry.arena);
    bool lost = state->recovered.kind == LEAT_RECOVERED_DISK;
    state->amnesiac = log->accepts_replicated &&
                      (was_amnesiac || (lost && !first_boot && !state->recovered.clean));
    if (lost)
        node_arena_reset(&log->arena, info, boot);
    return leat_storage_begin(worker->storage, index, &state->recovered, &log->arena.header->arena,
                              boot, state->amnesiac);
}

static void boot_genesis(struct node_worker *worker, const struct boot_log *states)
{
    const struct leat_identity *identity = leat_storage_identity(worker->storage);
    static _Alignas(8) uint8_t block[LEAT_BLOCK_BYTES];
    struct leat_format_config format = {.cluster = identity->cluster,
                                        .member_count = identity->member_count};
    memcpy(format.member_ids, identity->member_ids, sizeof(format.member_ids));
    for (uint32_t i = 0; i < worker->log_count && i < 2; i++) {
        struct leat_format_log log = {
            .log_id = states[i].info.log_id,
            .entry_bytes_max = states[i].info.shape.entry_bytes_max,
            .segment_bytes = states[i].info.shape.segment_bytes,
            .arena_bytes = states[i].info.arena_bytes,
            .accepts_replicated = states[i].info.accepts_replicated,
        };
        leat_genesis_frame(&format, &log, block);
        worker->genesis_crc[i] = ((const struct leat_frame *)(const void *)block)->crc;
    }
}

static int boot_logs(struct node_worker *worker, struct boot_log *states, char *error,
                     unsigned error_bytes)
{
    struct leat_uuid boot;
    int rc = boot_id(&boot);
    if (rc != LEAT_OK) {
        snprintf(error, error_bytes, "/proc/sys/kernel/random/boot_id cannot be read");
        return rc;
    }
    worker->log_count = leat_storage_log_count(worker->storage);
    LEAT_ASSERT(worker->log_count <= NODE_LOGS_MAX);
    for (uint32_t i = 0; i < worker->log_count; i++) {
        rc = boot_log(worker, i, &boot, &states[i], error, error_bytes);
        if (rc != LEAT_OK)
            return rc;
    }
    rc = leat_storage_commit_begin(worker->storage, &worker->incarnation);
    if (rc != LEAT_OK) {
        snprintf(error, error_bytes, "%s", leat_storage_fence_reason(worker->storage));
        return rc;
    }
    boot_genesis(worker, states);
    for (uint32_t i = 0; i < worker->log_count; i++) {
        struct node_log *log = &worker->logs[i];
        boot_core(log, &states[i].walk, &states[i].info, &states[i].recovered, states[i].amnesiac);
        boot_publish(log, &states[i].recovered);
        boot_report(log, &states[i].recovered, states[i].amnesiac);
    }
    return LEAT_OK;
}

static int boot_memory(struct node_worker *worker)
{
    worker->base_scratch = aligned_alloc(64, (LEAT_BASE_PAYLOAD_BYTES_MAX + 63) & ~63ul);
    if (!worker->base_scratch)
        return LEAT_ENOMEM;
    for (uint32_t l = 0; l < NODE_LOGS_MAX; l++) {
        for (unsigned i = 0; i < worker->config->node_count; i++) {
            uint8_t *buffer = aligned_alloc(LEAT_BLOCK_BYTES, NODE_CATCHUP_BYTES);
            worker->logs[l].sends[i].read_buffer = buffer;
            if (!buffer)
                return LEAT_ENOMEM;
        }
    }
    return LEAT_OK;
}

/* By what the logs were formatted with, not by what the configuration says today. */
static int boot_reassembly(struct node_worker *worker)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->logs[i].shape.entry_bytes_max > largest)
            largest = worker->logs[i].shape.entry_bytes_max;
    }
    for (unsigned i = 0; i < NODE_REASSEMBLY_MAX; i++) {
        worker->reassembly[i].bytes = malloc(largest);
        if (!worker->reassembly[i].bytes)
            return LEAT_ENOMEM;
    }
    return LEAT_OK;
}

static int boot_port(struct node_worker *worker, char *error, unsigned error_bytes)
{
    const struct leat_config *config = worker->config;
    static const enum leat_port_kind kinds[] = {
        [LEAT_NET_MEMIF] = LEAT_PORT_MEMIF,
        [LEAT_NET_AF_PACKET] = LEAT_PORT_AF_PACKET,
        [LEAT_NET_AF_XDP] = LEAT_PORT_AF_XDP,
        [LEAT_NET_PCI] = LEAT_PORT_PCI,
    };
    struct leat_port_config port = {
        .kind = kinds[config->net],
        .node_id = config->node_id,
        .udp_port_base = config->udp_port_base,
        .mtu_bytes = config->mtu_bytes,
        .interface = config->interface,
        .memif_dir = config->memif_dir,
    };
    for (uint8_t i = 0; i < config->node_count; i++) {
        const struct leat_config_node *node = &config->nodes[i];
        if (node->id == config->node_id) {
            port.ipv4 = node->ipv4;
            continue;
        }
        struct leat_port_peer *peer = &port.peers[port.peer_count];
        peer->node_id = node->id;
        peer->ipv4 = node->ipv4;
        memcpy(peer->mac, node->mac, sizeof(peer->mac));
        worker->peers[port.peer_count].node_id = node->id;
        worker->peers[port.peer_count].member = i;
        worker->peer_of_member[i] = (uint8_t)port.peer_count++;
    }
    worker->peer_count = port.peer_count;
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
        .worker_count = config->worker_count,
        .writes_in_flight_max = config->writes_in_flight_max,
        .segments_ahead = config->segments_ahead,
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

int worker_boot(struct node_worker *worker)
{
    char error[512] = "out of memory";
    struct boot_log *states = calloc(NODE_LOGS_MAX, sizeof(*states));
    int rc = states ? boot_memory(worker) : LEAT_ENOMEM;
    worker->self = (uint8_t)leat_config_node_index(worker->config, worker->config->node_id);
    if (rc == LEAT_OK)
        rc = boot_storage(worker, error, sizeof(error));
    if (rc == LEAT_OK)
        rc = boot_logs(worker, states, error, sizeof(error));
    if (rc == LEAT_OK)
        rc = boot_reassembly(worker);
    if (rc == LEAT_OK)
        rc = boot_port(worker, error, sizeof(error));
    free(states);
    if (rc != LEAT_OK) {
        logger_line(worker->out, LEAT_LOG_ERROR, "%s", error);
        return rc;
    }
    worker->started_ns = leat_clock_monotonic_ns();
    peers_update_led(worker);
    return LEAT_OK;
}

void worker_shut(struct node_worker *worker)
{
    if (worker->port)
        leat_port_close(worker->port);
    if (worker->storage)
        leat_storage_close(worker->storage);
    for (uint32_t l = 0; l < NODE_LOGS_MAX; l++) {
        node_arena_close(&worker->logs[l].arena);
        for (unsigned i = 0; i < LEAT_MEMBERS_MAX; i++)
            free(worker->logs[l].sends[i].read_buffer);
    }
    for (unsigned i = 0; i < NODE_REASSEMBLY_MAX; i++)
        free(worker->reassembly[i].bytes);
    free(worker->base_scratch);
}
