/* SPDX-License-Identifier: Apache-2.0
 *
 * Each kind of fault is a row: how often on average, and what it does. Its next time is drawn when
 * it has happened.
 */
#include "faults.h"

#include <string.h>

#include "check.h"
#include "client.h"
#include "cluster.h"
#include "draw.h"
#include "files.h"
#include "ledger.h"
#include "network.h"

struct sim_fault_counts fault_counts;
static bool on;
static unsigned partition_number;

static struct sim_node *any_node(void)
{
    return &cluster.nodes[world_draw(STREAM_FAULTS, cluster.count)];
}

/* As often as not one that leads: what befalls a leader has more to it. */
static struct sim_node *any_target(void)
{
    unsigned leader;
    uint32_t log = (uint32_t)world_draw(STREAM_FAULTS, draw.logs + 1);
    struct sim_node *node = any_node();
    if (world_chance(STREAM_FAULTS, 500000) && check_leader(log, &leader))
        node = &cluster.nodes[leader];
    return node;
}

static uint64_t until(uint64_t most_ms)
{
    return world.now_ns + world_log_uniform(STREAM_FAULTS, SIM_MS, most_ms * SIM_MS + SIM_MS);
}

/* ---- processes ---- */

static void do_crash(void)
{
    struct sim_node *node = any_target();
    if (!node->process)
        return;
    fault_counts.crash++;
    if (world_chance(STREAM_FAULTS, draw.mid_pass_ppm)) {
        fault_counts.mid_pass++;
        cluster_kill_soon(node);
    } else
        cluster_kill(node);
}

/* All hosts are in it, or just a majority. */
static void cut_rack(void)
{
    unsigned first = (unsigned)world_draw(STREAM_FAULTS, cluster.count);
    unsigned hosts = world_chance(STREAM_FAULTS, 500000) ? cluster.count : cluster.count / 2 + 1;
    for (unsigned i = 0; i < hosts; i++)
        cluster_power_cut(&cluster.nodes[(first + i) % cluster.count]);
}

static void do_power(void)
{
    fault_counts.power++;
    if (world_chance(STREAM_FAULTS, draw.rack_ppm))
        cut_rack();
    else
        cluster_power_cut(any_target());
}

/* Within this life of the node. */
static void befalls_soon(struct sim_node *node, void (*event)(void *context, uint64_t life))
{
    world_at(world.now_ns + world_log_uniform(STREAM_AMBUSH, 20 * SIM_US, 40 * SIM_MS),
             EVENT_ACTION, event, node, node->life);
}

static void ambush_event(void *context, uint64_t life)
{
    struct sim_node *node = context;
    if (!on || node->life != life)
        return;
    world.events[EVENT_ACTION]++;
    fault_counts.ambush++;
    if (world_chance(STREAM_AMBUSH, 700000))
        cluster_power_cut(node);
    else
        cluster_kill(node);
}

void faults_ambush(unsigned number)
{
    struct sim_node *node = &cluster.nodes[number];
    if (on && world_chance(STREAM_AMBUSH, draw.ambush_ppm))
        befalls_soon(node, ambush_event);
}

static void deserted_event(void *context, uint64_t life)
{
    struct sim_node *node = context;
    if (!on || node->life != life)
        return;
    world.events[EVENT_ACTION]++;
    fault_counts.desert++;
    node->absent_until_ns = world.now_ns + world_draw(STREAM_AMBUSH, 3 * SIM_S);
    cluster_kill(node);
}

void faults_desert(unsigned number)
{
    struct sim_node *node = &cluster.nodes[number];
    if (on && world_chance(STREAM_AMBUSH, draw.desert_ppm))
        befalls_soon(node, deserted_event);
}

void faults_install(unsigned number, unsigned leader)
{
    struct sim_node *node = &cluster.nodes[leader];
    if (!on || !world_chance(STREAM_AMBUSH, draw.ambush_ppm))
        return;
    if (world_draw(STREAM_AMBUSH, 2)) {
        befalls_soon(&cluster.nodes[number], ambush_event);
        return;
    }
    if (world_draw(STREAM_AMBUSH, 2))
        cluster.nodes[number].host.stuck_until_ns = until(1000);
    world_at(world.now_ns + world_draw(STREAM_AMBUSH, SIM_MS), EVENT_ACTION, deserted_event, node,
             node->life);
}

void faults_begun_anew(unsigned number, unsigned leader)
{
    if (!on || leader >= cluster.count || !world_chance(STREAM_AMBUSH, draw.ambush_ppm))
        return;
    struct sim_node *node = &cluster.nodes[leader];
    cluster.nodes[number].host.stuck_until_ns =
        world.now_ns + world_between(STREAM_AMBUSH, 300, 1500) * SIM_MS;
    world_at(world.now_ns + world_draw(STREAM_AMBUSH, SIM_MS), EVENT_ACTION, deserted_event, node,
             node->life);
}

static void do_absent(void)
{
    struct sim_node *node = any_target();
    fault_counts.absent++;
    node->absent_until_ns =
        world.now_ns +
        world_between(STREAM_FAULTS, draw.absent_most_ms / 4, draw.absent_most_ms) * SIM_MS;
    cluster_kill(node);
}

static void do_stop(void)
{
    fault_counts.stop++;
    cluster_stop_node(any_node());
}

static void do_pause(void)
{
    struct sim_node *node = any_target();
    if (!node->process || node->process->paused_until_ns > world.now_ns)
        return;
    fault_counts.pause++;
    process_pause(node->process, until(draw.pause_most_ms));
    world_trace("node %u pauses for %.1f ms", node->host.number + 1,
                (double)(node->process->paused_until_ns - world.now_ns) / 1e6);
}

static void do_stall(void)
{
    struct sim_node *node = any_target();
    if (!node->process || !process_stall(node->process, until(draw.pause_most_ms)))
        return;
    fault_counts.stall++;
    world_trace("a worker of node %u stands for %.1f ms", node->host.number + 1,
                (double)(node->process->stood_until_ns - world.now_ns) / 1e6);
}

/* ---- the network ---- */

static void partition_end(void *context, uint64_t number)
{
    (void)context;
    if (number != partition_number)
        return;
    world.events[EVENT_ACTION]++;
    network_join();
    world_trace("the partition ends");
}

static void cut(unsigned from, unsigned to)
{
    network.links[from][to].cut = true;
}

/* Symmetric or of one direction: one node, any two halves, one pair, any links. */
static void do_partition(void)
{
    unsigned kind = (unsigned)world_draw(STREAM_FAULTS, 4);
    unsigned one = any_target()->host.number;
    unsigned other =
        (one + 1 + (unsigned)world_draw(STREAM_FAULTS, cluster.count - 1)) % cluster.count;
    uint64_t half = world_draw(STREAM_FAULTS, 1u << cluster.count);
    bool both = world_chance(STREAM_FAULTS, 600000);
    if (!both)
        fault_counts.one_way++;
    else if (kind < 2)
        fault_counts.partition++;
    else
        fault_counts.partial++;
    network_join();
    for (unsigned i = 0; i < cluster.count; i++) {
        for (unsigned j = 0; j < cluster.count; j++) {
            bool cuts = kind == 0   ? i == one
                        : kind == 1 ? (half >> i & 1) && !(half >> j & 1)
                        : kind == 2 ? i == one && j == other
                                    : world_chance(STREAM_FAULTS, 400000);
            if (cuts)
                cut(i, j);
            if (cuts && both)
                cut(j, i);
        }
    }
    world_trace("a partition of kind %u%s begins, node %u", kind, both ? ", both ways," : "",
                one + 1);
    world_at(until(draw.partition_most_ms), EVENT_ACTION, partition_end, NULL, ++partition_number);
}

static void small_set(unsigned node, uint32_t bytes_max)
{
    for (unsigned i = 0; i < cluster.count; i++) {
        network.links[node][i].bytes_max = bytes_max;
        network.links[i][node].bytes_max = bytes_max;
    }
}

static void small_end(void *context, uint64_t node)
{
    (void)context;
    small_set((unsigned)node, 0);
}

/* Of UDP; the least that every path carries is 548. */
static void do_small(void)
{
    unsigned node = any_target()->host.number;
    uint32_t bytes_max = (uint32_t)world_between(STREAM_FAULTS, 548, 1400);
    fault_counts.small++;
    small_set(node, bytes_max);
    world_trace("datagrams of more than %u bytes are lost at node %u", bytes_max, node + 1);
    world_at(until(8000), EVENT_ACTION, small_end, NULL, node);
}

static void do_clog(void)
{
    struct sim_node *from = any_target(), *to = any_node();
    fault_counts.clog++;
    network.links[from->host.number][to->host.number].clogged_until_ns = until(draw.clog_most_ms);
}

static void lag_deaf(void *context, uint64_t lag_ns)
{
    struct sim_node *node = context;
    if (!on)
        return;
    world.events[EVENT_ACTION]++;
    fault_counts.one_way++;
    for (unsigned i = 0; i < cluster.count; i++)
        cut(node->host.number, i);
    world_trace("nobody hears node %u", node->host.number + 1);
    world_at(world.now_ns + lag_ns, EVENT_ACTION, partition_end, NULL, ++partition_number);
}

/* Then, most often, it is heard no more: it goes on hearing what the others said before. */
static void do_lag(void)
{
    struct sim_node *node = any_target();
    uint64_t lag_ns = until(draw.lag_most_ms) - world.now_ns;
    fault_counts.lag++;
    for (unsigned i = 0; i < cluster.count; i++) {
        struct sim_link *link = &network.links[i][node->host.number];
        link->lag_from_ns = world.now_ns;
        link->lag_to_ns = world.now_ns + 3 * lag_ns;
        link->lag_ns = lag_ns;
    }
    world_trace("the ways to node %u become longer by %.1f ms", node->host.number + 1,
                (double)lag_ns / 1e6);
    if (world_chance(STREAM_FAULTS, 700000))
        world_at(world.now_ns + lag_ns, EVENT_ACTION, lag_deaf, node, lag_ns);
}

/* ---- disks and clocks ---- */

static void do_stuck(void)
{
    fault_counts.stuck++;
    any_target()->host.stuck_until_ns = until(draw.stuck_most_ms);
}

static void full_end(void *context, uint64_t argument)
{
    struct sim_node *node = context;
    (void)argument;
    node->host.disk_full = false;
}

static void do_full(void)
{
    struct sim_node *node = any_node();
    if (!node->process || !node->formatted)
        return;
    fault_counts.full++;
    node->host.disk_full = true;
    world_at(until(2000), EVENT_ACTION, full_end, node, 0);
}

static void do_realtime(void)
{
    fault_counts.realtime++;
    int64_t jump_ns = (int64_t)world_log_uniform(STREAM_FAULTS, SIM_MS, 86400 * SIM_S);
    any_node()->host.realtime_offset_ns += world_draw(STREAM_FAULTS, 2) ? jump_ns : -jump_ns;
}

/* ---- operators and clients ---- */

static void do_transfer(void)
{
    fault_counts.transfer++;
    operator_wish(OPERATOR_TRANSFER, any_node()->host.number,
                  (uint32_t)world_draw(STREAM_FAULTS, draw.logs + 1),
                  1 + world_draw(STREAM_FAULTS, cluster.count));
}

static void do_trim(void)
{
    uint32_t log = 1 + (uint32_t)world_draw(STREAM_FAULTS, draw.logs);
    unsigned leader = any_node()->host.number;
    fault_counts.trim++;
    (void)check_leader(log, &leader);
    operator_wish(OPERATOR_TRIM, leader, log,
                  world_draw(STREAM_FAULTS, ledger.logs[log].acked_pos + 1));
}

static void do_client_death(void)
{
    fault_counts.client_death++;
    clients_kill_one();
}

static void do_client_switch(void)
{
    fault_counts.client_switch++;
    clients_switch_one();
}

static void do_client_rest(void)
{
    fault_counts.client_rest++;
    clients_rest_one(world.now_ns + world_draw(STREAM_FAULTS, 3 * SIM_S));
}

static void do_fence(void)
{
    fault_counts.fence++;
    clients_fence_one();
}

static void do_scribble(void)
{
    fault_counts.scribble++;
    clients_scribble_one();
}

static void do_tail(void)
{
    uint32_t log = 1 + (uint32_t)world_draw(STREAM_FAULTS, draw.logs);
    unsigned node = any_node()->host.number;
    fault_counts.tail++;
    if (world_chance(STREAM_FAULTS, 700000))
        (void)check_leader(log, &node); /* or who believes so */
    operator_wish(OPERATOR_TAIL, node, log, 0);
}

/* ---- what does not heal, within the atlas ---- */

static struct sim_node *any_victim(void)
{
    for (unsigned tries = 0; tries < 32; tries++) {
        struct sim_node *node = any_node();
        if (node->victim && !node->lost)
            return node;
    }
    return NULL;
}

static void rot_seen(void *context, uint64_t loses_power)
{
    struct sim_node *node = context;
    if (on && loses_power)
        cluster_power_cut(node);
    else if (on)
        cluster_kill(node);
}

/* What is hurt is met when the node starts again: often soon, before it was repaired or came to lie
 * far behind. */
static void do_rot(void)
{
    struct sim_node *node = any_victim();
    if (!node || !files_rot(&node->host))
        return;
    fault_counts.rot++;
    if (world_chance(STREAM_FAULTS, 400000))
        world_at(world.now_ns + world_log_uniform(STREAM_FAULTS, SIM_MS, 300 * SIM_MS),
                 EVENT_ACTION, rot_seen, node, world_draw(STREAM_FAULTS, 2));
}

static void do_wipe(void)
{
    struct sim_node *node = any_victim();
    fault_counts.wipe += node && cluster_wipe(node);
}

static void do_rollback(void)
{
    struct sim_node *node = any_victim();
    if (!node || !node->formatted)
        return;
    if (!node->image)
        cluster_image(node);
    else
        fault_counts.rollback += cluster_roll_back(node);
}

/* A minority: what the others have is enough. Beyond that it may be gone everywhere. */
static void victims_choose(void)
{
    bool hurts = draw.rot_ms > 0 || draw.wipe_ms > 0 || draw.rollback_ms > 0 ||
                 draw.misdirect_ppm > 0 || draw.read_error_ppm > 0 || draw.rewrite_ppm > 0;
    unsigned count = draw.beyond ? cluster.count : hurts ? (cluster.count - 1) / 2 : 0;
    while (count > 0) {
        struct sim_node *node = any_node();
        count -= !node->victim;
        node->victim = true;
    }
}

/* ---- the table ---- */

static const struct fault {
    void (*run)(void);
    enum sim_parameter mean_ms;
} faults[] = {
    {do_crash, SIM_crash_ms},
    {do_power, SIM_power_ms},
    {do_stop, SIM_stop_ms},
    {do_absent, SIM_absent_ms},
    {do_pause, SIM_pause_ms},
    {do_stall, SIM_stall_ms},
    {do_partition, SIM_partition_ms},
    {do_small, SIM_small_ms},
    {do_clog, SIM_clog_ms},
    {do_lag, SIM_lag_ms},
    {do_stuck, SIM_stuck_ms},
    {do_full, SIM_full_ms},
    {do_realtime, SIM_realtime_ms},
    {do_transfer, SIM_transfer_ms},
    {do_trim, SIM_trim_ms},
    {do_client_death, SIM_client_death_ms},
    {do_client_switch, SIM_client_switch_ms},
    {do_client_rest, SIM_client_rest_ms},
    {do_fence, SIM_fence_ms},
    {do_scribble, SIM_scribble_ms},
    {do_rot, SIM_rot_ms},
    {do_wipe, SIM_wipe_ms},
    {do_rollback, SIM_rollback_ms},
    {do_tail, SIM_tail_ms},
};

static void fault_event(void *context, uint64_t argument);

static void fault_plan(const struct fault *fault)
{
    uint64_t mean_ns = draw_value(fault->mean_ms) * SIM_MS;
    if (mean_ns > 0)
        world_at(world.now_ns + world_exponential(STREAM_FAULTS, mean_ns) + 1, EVENT_ACTION,
                 fault_event, (void *)(uintptr_t)fault, 0);
}

static void fault_event(void *context, uint64_t argument)
{
    const struct fault *fault = context;
    (void)argument;
    if (!on)
        return;
    world.events[EVENT_ACTION]++;
    world_note(fault->mean_ms);
    fault->run();
    fault_plan(fault);
}

static void network_begin(void)
{
    memset(&network, 0, sizeof(network));
    network.delay_ns = draw.delay_us * SIM_US;
    network.jitter_ns = draw.jitter_us * SIM_US;
    network.loss_ppm = draw.loss_ppm;
    network.burst_ppm = draw.burst_ppm;
    network.burst_ns = draw.burst_ms * SIM_MS;
    network.twice_ppm = draw.twice_ppm;
    network.replay_ppm = draw.replay_ppm;
    network.replay_ns = draw.replay_ms * SIM_MS;
    network.reorder_ppm = draw.reorder_ppm;
    network.reorder_ns = draw.reorder_ms * SIM_MS;
    network.damage_ppm = draw.damage_ppm;
    network.bytes_per_ms = draw.bandwidth_kib_ms << 10;
    network.mtu_ppm = draw.mtu_ppm;
    network.full_ppm = draw.ring_full_ppm;
    network.stray_ppm = draw.stray_ppm;
}

static void disks_begin(void)
{
    disk_faults = (struct sim_disk_faults){
        .write_ns = draw.write_us * SIM_US,
        .jitter_ns = draw.write_jitter_us * SIM_US,
        .slow_ppm = draw.slow_ppm,
        .slow_ns = draw.slow_ms * SIM_MS,
        .short_ppm = draw.short_ppm,
        .again_ppm = draw.again_ppm,
        .error_ppm = draw.write_error_ppm,
        .garbage_ppm = draw.garbage_ppm,
    };
}

void faults_begin(void)
{
    memset(&fault_counts, 0, sizeof(fault_counts));
    on = true;
    victims_choose();
    network_begin();
    disks_begin();
    for (unsigned i = 0; i < cluster.count; i++) {
        struct sim_host *host = &cluster.nodes[i].host;
        host->flush_error_ppm = (uint32_t)draw.flush_error_ppm;
        host->misdirect_ppm = cluster.nodes[i].victim ? (uint32_t)draw.misdirect_ppm : 0;
        host->rewrite_ppm = cluster.nodes[i].victim ? (uint32_t)draw.rewrite_ppm : 0;
        host->rewrite_run_ppm = host->rewrite_ppm > 0 ? (uint32_t)draw.rewrite_run_ppm : 0;
        host->read_error_ppm = cluster.nodes[i].victim ? (uint32_t)draw.read_error_ppm : 0;
        fault_counts.drift += draw.drift_ppm > 0;
        if (draw.drift_ppm > 0)
            host_set_rate(host, (int64_t)world_draw(STREAM_FAULTS, 2 * draw.drift_ppm + 1) -
                                    (int64_t)draw.drift_ppm);
    }
    for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        fault_plan(&faults[i]);
}

void faults_heal(void)
{
    on = false;
    network_heal();
    disk_faults.slow_ppm = disk_faults.short_ppm = disk_faults.again_ppm = 0;
    disk_faults.error_ppm = disk_faults.garbage_ppm = 0;
    for (unsigned i = 0; i < cluster.count; i++) {
        struct sim_node *node = &cluster.nodes[i];
        node->host.flush_error_ppm = node->host.misdirect_ppm = node->host.read_error_ppm = 0;
        node->host.rewrite_ppm = 0;
        node->host.stuck_until_ns = 0;
        node->host.disk_full = false;
        cluster_spare(node); /* or it dies after the cluster was found whole */
        if (node->process && node->process->paused_until_ns > world.now_ns)
            process_pause(node->process, world.now_ns);
    }
    world_trace("everything heals");
}

bool faults_are_on(void)
{
    return on;
}
