/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "client.h"
#include "draw.h"
#include "faults.h"
#include "files.h"
#include "leat/error.h"
#include "node/node.h"
#include "storage/format.h"

struct sim_cluster cluster;

/* ---- configuration ---- */

static void node_configure(struct sim_node *node, unsigned number)
{
    struct leat_config *config = &node->config;
    memset(config, 0, sizeof(*config));
    for (unsigned i = 0; i < sizeof(config->cluster.bytes); i++)
        config->cluster.bytes[i] = (uint8_t)(i + 1);
    config->node_id = number + 1;
    config->node_count = cluster.count;
    for (unsigned i = 0; i < cluster.count; i++)
        config->nodes[i] = (struct leat_config_node){.id = i + 1, .ipv4 = 0x0a000001 + i};
    snprintf(config->data_dir, sizeof(config->data_dir), "/n%u/data/leat", number);
    snprintf(config->arena_dir, sizeof(config->arena_dir), "/n%u/arenas", number);
    snprintf(config->socket, sizeof(config->socket), "/n%u/socket", number);
    snprintf(config->memif_dir, sizeof(config->memif_dir), "/n%u/memif", number);
    config->log_severity = world.trace ? LEAT_LOG_INFO : LEAT_LOG_ERROR;
    config->net = LEAT_NET_MEMIF;
    config->udp_port_base = 7000;
    config->mtu_bytes = (uint16_t)draw.mtu;
    config->worker_count = (uint32_t)draw.workers;
    config->idle = LEAT_IDLE_SLEEP;
    config->lcore = -1;
    config->writes_in_flight_max = (uint32_t)draw.writes_in_flight;
    config->election_min_ns = draw.election_ms * SIM_MS;
    config->election_max_ns = 2 * draw.election_ms * SIM_MS;
    config->heartbeat_ns = draw.heartbeat_ms * SIM_MS;
    config->window_bytes = draw.window_kib << 10;
    config->session_ttl_ns = draw.session_s * SIM_S;
    config->scrub_bytes_per_s = draw.scrub_kib_s << 10;
    config->segment_bytes = draw.segment_kib << 10;
    config->arena_bytes = draw.arena_kib << 10;
    config->entry_bytes_max = (uint32_t)draw.entry_kib << 10;
    config->accepts_replicated = draw.replicated_ppm > 0;
    config->arena_budget_bytes = 64u << 20;
    config->quota_sessions = 256;
    config->quota_logs = 64;
    config->quota_memory_bytes = 64u << 20;
}

/* ---- lives ---- */

#define YOUNG_NS      (100 * SIM_MS)
#define FAILURES_FREE 8u /* so many are tried at once */

static void node_start(void *context, uint64_t life);

static void node_start_later(struct sim_node *node)
{
    uint64_t most_ns = faults_are_on() ? draw.down_most_ms * SIM_MS : 10 * SIM_MS;
    uint64_t at_ns = world.now_ns + world_log_uniform(STREAM_FAULTS, SIM_MS / 2, most_ns + SIM_MS);
    if (faults_are_on() && at_ns < node->absent_until_ns)
        at_ns = node->absent_until_ns;
    /* one that does not come up is tried less and less often, up to every second */
    if (node->failures > FAILURES_FREE)
        at_ns +=
            SIM_MS << (node->failures - FAILURES_FREE < 10 ? node->failures - FAILURES_FREE : 10);
    world_at(at_ns, EVENT_ACTION, node_start, node, node->life);
}

static void node_down(struct sim_node *node)
{
    check_node_down((unsigned)(node - cluster.nodes));
    node->process = NULL;
    node->stopping = false;
    node->life++;
    node_start_later(node);
}

static void *node_main(void *context)
{
    struct sim_node *node = context;
    int rc = leat_node_run(&node->config);
    return (void *)(intptr_t)rc;
}

static void node_ended(struct sim_process *process, void *result)
{
    struct sim_node *node = process->owner;
    int rc = (int)(intptr_t)result;
    world_trace("node %u ended: %s", node->host.number + 1, leat_error_name(rc));
    world_note((uint64_t)rc);
    if (rc == LEAT_EFENCED)
        cluster.fences++;
    node->died_in_pass = false;
    node->failures = rc == LEAT_OK ? 0 : node->failures + 1;
    check_node_ended(node->host.number, rc);
    if (node->victim && rc == LEAT_ECORRUPT)
        clients_leave(node->host.number);
    node_down(node);
}

static void node_dying(struct sim_process *process)
{
    const struct sim_node *node = process->owner;
    check_node_dying(node->host.number);
}

static void node_killed(struct sim_process *process)
{
    struct sim_node *node = process->owner;
    fault_counts.young += world.now_ns - process->lives_since_ns < YOUNG_NS;
    fault_counts.old_rings += clients_attached(node->host.number);
    node->died_in_pass = process->dies_in == 0 && process->would_die;
    node->failures = 0;
    world_trace("node %u is killed%s", node->host.number + 1,
                node->died_in_pass ? " between two calls" : "");
    node_down(node);
}

static void node_start(void *context, uint64_t life)
{
    struct sim_node *node = context;
    if (node->process || node->life != life || !node->formatted)
        return;
    world.events[EVENT_ACTION]++;
    world_trace("node %u starts", node->host.number + 1);
    cluster.starts++;
    node->process = process_start(&node->host, node_main, node);
    node->process->owner = node;
    node->process->ended = node_ended;
    node->process->dying = node_dying;
    node->process->killed = node_killed;
    faults_ambush(node->host.number);
}

/* ---- formatting ---- */

static void *format_main(void *context)
{
    struct sim_node *node = context;
    char error[512];
    int rc = leat_node_format(&node->config, error, sizeof(error));
    if (rc != LEAT_OK && !faults_are_on())
        world_fail("SIM", "node %u cannot be formatted: %s", node->host.number + 1, error);
    return NULL;
}

static void format_ended(struct sim_process *process, void *result)
{
    struct sim_node *node = process->owner;
    (void)result;
    node->formatted = true;
    node_start(node, node->life);
}

static void node_format(struct sim_node *node)
{
    struct sim_process *process = process_start(&node->host, format_main, node);
    node->formatted = false;
    process->owner = node;
    process->ended = format_ended;
}

void cluster_begin(void)
{
    memset(&cluster, 0, sizeof(cluster));
    cluster.count = (unsigned)draw.nodes;
    for (unsigned i = 0; i < cluster.count; i++) {
        struct sim_node *node = &cluster.nodes[i];
        node->host.number = i;
        node->host.flush_ns = draw.flush_us * SIM_US;
        host_new_boot(&node->host);
        host_set_rate(&node->host, 0);
        files_host(&node->host);
        node_configure(node, i);
        node_format(node);
    }
}

/* ---- what happens to nodes ---- */

void cluster_kill(struct sim_node *node)
{
    if (node->process)
        process_kill(node->process);
}

void cluster_kill_soon(struct sim_node *node)
{
    if (!node->process)
        return;
    node->process->would_die = true;
    node->process->dies_in = (unsigned)world_between(STREAM_FAULTS, 1, 40);
}

void cluster_spare(struct sim_node *node)
{
    if (!node->process)
        return;
    node->process->would_die = false;
    node->process->dies_in = 0;
}

void cluster_power_cut(struct sim_node *node)
{
    if (!node->formatted)
        return;
    world_trace("node %u loses power", node->host.number + 1);
    cluster_kill(node);
    clients_host_down(node->host.number);
    disk_power_cut(&node->host);
    files_power_cut(&node->host);
    host_new_boot(&node->host);
    check_memory_lost(node->host.number);
}

static bool identity_of(const struct sim_node *node, struct leat_identity *ret_identity)
{
    char path[LEAT_CONFIG_TEXT_BYTES + 32];
    snprintf(path, sizeof(path), "%s/identity", node->config.data_dir);
    struct sim_inode *file = path_find(path);
    return file &&
           inode_read(file, ret_identity, sizeof(*ret_identity), 0) == sizeof(*ret_identity);
}

/* All others have these bytes on their disks, where they remember whom they met. */
static bool is_remembered_by_all(const struct sim_node *node, const void *bytes, size_t count)
{
    for (unsigned i = 0; i < cluster.count * draw.workers; i++) {
        const struct sim_node *other = &cluster.nodes[i / draw.workers];
        char path[LEAT_CONFIG_TEXT_BYTES + 32];
        snprintf(path, sizeof(path), "%s/w%u/votes", other->config.data_dir,
                 (unsigned)(i % draw.workers));
        if (other != node && !other->lost && !files_hold(path, bytes, count))
            return false;
    }
    return true;
}

/* Whoever is asked for anything by it has to refuse. */
static void node_lose(struct sim_node *node, const char *how)
{
    node->lost = true;
    check_node_lost(node->host.number);
    world_trace("node %u %s", node->host.number + 1, how);
}

/* Without membership nobody can tell a new disk but who met the old one. */
bool cluster_wipe(struct sim_node *node)
{
    struct leat_identity identity;
    if (!node->formatted || !identity_of(node, &identity) ||
        !is_remembered_by_all(node, &identity.node, sizeof(identity.node)))
        return false;
    cluster_power_cut(node);
    files_wipe(&node->host);
    node_lose(node, "has a new disk");
    node->life++; /* not before it is formatted */
    node_format(node);
    return true;
}

void cluster_image(struct sim_node *node)
{
    node->image_incarnation = check_incarnation(node->host.number);
    if (node->image_incarnation > 0)
        node->image = files_image(&node->host);
}

bool cluster_roll_back(struct sim_node *node)
{
    struct leat_identity identity;
    struct leat_peer_pin pin = {.incarnation = check_incarnation(node->host.number)};
    if (!identity_of(node, &identity) || pin.incarnation < node->image_incarnation + 2)
        return false; /* started again from there it could not be told from the life after it */
    pin.node = identity.node;
    if (!is_remembered_by_all(node, &pin, offsetof(struct leat_peer_pin, durable_high)))
        return false;
    cluster_power_cut(node);
    files_restore(&node->host, node->image);
    node->image = NULL;
    node_lose(node, "has its disk of earlier");
    return true;
}

void cluster_stop_node(struct sim_node *node)
{
    if (!node->process || node->stopping)
        return;
    node->stopping = true;
    process_signal(node->process);
}

void cluster_start_all(void)
{
    for (unsigned i = 0; i < cluster.count; i++) {
        if (!cluster.nodes[i].process)
            node_start(&cluster.nodes[i], cluster.nodes[i].life);
    }
}

const char *cluster_socket(unsigned node)
{
    const char *path = cluster.nodes[node].config.socket;
    const struct sim_inode *inode = path_find(path);
    return inode && inode->kind == INODE_SOCKET && inode->listener ? path : NULL;
}
