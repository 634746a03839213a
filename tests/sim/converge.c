/* SPDX-License-Identifier: Apache-2.0
 *
 * Have all replicas the same? And what runs reached, and what nodes know when they do not converge.
 */
#include "check_private.h"
#include "client.h"
#include "state.h"

#define ACCEPT_NS (10 * SIM_S) /* without a leader, and without faults */

struct sim_reached reached;

void check_log_reached(const struct node_log *log)
{
    const struct leat_core_counters *core = &log->core.counters;
    const struct node_log_counters *counters = &log->counters;
    reached.elections_won += core->elections_won;
    reached.won_by_amnesiacs += core->won_by_amnesiacs;
    reached.amnesia_cleared += core->amnesia_cleared;
    reached.stepped_down_quorum += core->stepped_down_quorum;
    reached.transfers += core->transfers;
    reached.cuts += core->cuts;
    reached.resets += core->resets;
    reached.naks += core->naks;
    reached.rollbacks += counters->rollbacks;
    reached.catchup_reads += counters->catchup_reads;
    reached.forwards_in += counters->forwards_in;
    reached.damages += counters->damages;
    reached.repairs += counters->repairs;
}

void check_end(void)
{
    for (unsigned node = 0; node < cluster.count; node++) {
        for (uint32_t id = 0; id < LEDGER_LOGS_MAX; id++) {
            const struct node_log *log = check_replicas[node][id].log;
            if (!log)
                continue;
            check_log_reached(log);
            reached.segments += log->core.memory_pos / log->shape.segment_bytes;
            reached.trimmed += log->core.base_pos / log->shape.segment_bytes;
            if (log->worker->number == id) /* once a worker */
                reached.ring_rounds += log->worker->storage->ring_head / LEAT_JOURNAL_BYTES;
        }
    }
}

/* ---- the end ---- */

static void worker_trace(const struct node_worker *worker)
{
    for (unsigned drop = 0; drop < LEAT_WIRE_DROP_COUNT; drop++) {
        if (worker->drops[drop] > 0)
            world_trace("  %lu datagrams dropped: %s", (unsigned long)worker->drops[drop],
                        leat_wire_drop_name((enum leat_wire_drop)drop));
    }
    for (unsigned peer = 0; peer < worker->peer_count; peer++) {
        for (unsigned i = 0; i < worker->config->worker_count; i++) {
            const struct node_link *link = &worker->peers[peer].links[i];
            world_trace("  node %u worker %u: %s, incarnation %lu, heard %.1f ms ago, holds %u of "
                        "%u led logs",
                        worker->peers[peer].node_id, i, link->known ? "known" : "not known",
                        (unsigned long)link->incarnation,
                        (double)(worker->now_ns - link->heard_ns) / 1e6, link->set_filled,
                        link->set_count);
        }
    }
    for (uint32_t i = 0; i < worker->log_count; i++) {
        const struct node_log *log = worker->logs[i];
        if (log)
            world_trace("  log %u: role %d, leader %u, term %u, M %lu, D %lu, commit %lu, %s%s%s%s",
                        log->id, log->core.role, log->core.leader, log->core.term,
                        (unsigned long)log->core.memory_pos, (unsigned long)log->core.durable_pos,
                        (unsigned long)log->core.commit_d,
                        log->core.reconciled ? "reconciled " : "",
                        log->core.cut_settling ? "settling " : "",
                        log->core.damaged ? "damaged " : "", log->core.amnesiac ? "amnesiac" : "");
    }
}

void check_trace(void)
{
    for (unsigned node = 0; node < cluster.count; node++) {
        for (unsigned i = 0; i < LEAT_WORKERS_MAX; i++) {
            if (!check_workers[node][i])
                continue;
            world_trace("node %u worker %u, incarnation %lu:", node + 1, i,
                        (unsigned long)check_workers[node][i]->incarnation);
            worker_trace(check_workers[node][i]);
        }
    }
}

/* What a replaced disk had is gone, and what a damaged one refuses to start with; the others make a
 * majority. */
static bool is_excused(unsigned node)
{
    return cluster.nodes[node].lost || (cluster.nodes[node].victim && !cluster.nodes[node].process);
}

bool check_log_exists(uint32_t log)
{
    return log <= 1 || check_truths[log].end.position > 0;
}

/* Of those who believe so the one of the oldest term: what a deposed leader says is what matters.
 */
bool check_leader(uint32_t log, unsigned *ret_node)
{
    bool found = false;
    uint32_t term = 0;
    for (unsigned i = 0; i < cluster.count; i++) {
        const struct replica *replica = &check_replicas[i][log];
        if (!replica->log || replica->role != LEAT_LEADER || (found && replica->term >= term))
            continue;
        *ret_node = i;
        term = replica->term;
        found = true;
    }
    return found;
}

uint64_t check_committed_end(uint32_t log)
{
    return check_truths[log].end.position;
}

/* ---- idle ---- */

static struct {
    bool led;
    unsigned node;
    uint32_t term;
} reigns[LEDGER_LOGS_MAX];

void check_quiet_begin(void)
{
    for (uint32_t id = 0; id < LEDGER_LOGS_MAX; id++) {
        reigns[id].led = check_leader(id, &reigns[id].node);
        reigns[id].term = reigns[id].led ? check_replicas[reigns[id].node][id].term : 0;
    }
}

/* L2: in a cluster that is whole and idle who leads goes on leading. */
void check_quiet_end(void)
{
    for (uint32_t id = 0; id < LEDGER_LOGS_MAX; id++) {
        const struct replica *replica = &check_replicas[reigns[id].node][id];
        if (reigns[id].led && (replica->role != LEAT_LEADER || replica->term != reigns[id].term))
            world_fail("L2", "log %u of a healed, idle cluster is not led on by node %u in term %u",
                       id, reigns[id].node + 1, reigns[id].term);
    }
}

/* ---- an operator's part ---- */

static uint64_t led_ns[LEDGER_LOGS_MAX]; /* when the log was last seen to have a leader */

void check_healed(void)
{
    for (uint32_t id = 0; id < LEDGER_LOGS_MAX; id++)
        led_ns[id] = world.now_ns;
}

/* A majority that lost its memory elects by itself (W5). Fewer, and one that is gone or claims what
 * no other has, leave a log without a leader until somebody decides: so an operator does. */
static void accept_amnesia(uint32_t id)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < cluster.count; i++) {
        const struct replica *replica = &check_replicas[i][id];
        voters += replica->log && replica->amnesiac && !replica->log->core.damaged;
    }
    if (voters > cluster.count / 2)
        return;
    for (unsigned i = 0; i < cluster.count; i++) {
        if (!check_replicas[i][id].log || !check_replicas[i][id].amnesiac)
            continue;
        world_trace("node %u is told to accept its amnesia of log %u", i + 1, id);
        check_memory_given_up(id);
        operator_wish(OPERATOR_ACCEPT_AMNESIA, i, id, 0);
    }
}

void check_leaderless(void)
{
    unsigned leader;
    for (uint32_t id = 0; id <= draw.logs; id++) {
        if (!check_log_exists(id) || check_leader(id, &leader))
            led_ns[id] = world.now_ns;
        if (world.now_ns - led_ns[id] < ACCEPT_NS)
            continue;
        led_ns[id] = world.now_ns;
        accept_amnesia(id);
    }
}

bool check_converged(const char **ret_why)
{
    for (uint32_t id = 0; id <= draw.logs; id++) {
        uint64_t end = 0;
        unsigned leading = 0;
        if (!check_log_exists(id))
            continue; /* it was never made */
        for (unsigned i = 0; i < cluster.count; i++) {
            const struct replica *replica = &check_replicas[i][id];
            if (is_excused(i) && replica->role != LEAT_LEADER)
                continue;
            *ret_why = "a node does not run, or not all logs, or is stopping";
            if (!cluster.nodes[i].process || !replica->log || cluster.nodes[i].stopping)
                return false;
            if (replica->role == LEAT_LEADER) {
                leading++;
                end = replica->memory_pos;
            }
        }
        *ret_why = "a log has no leader, or two";
        if (leading != 1)
            return false;
        *ret_why = "a replica is behind";
        for (unsigned i = 0; i < cluster.count; i++) {
            const struct replica *replica = &check_replicas[i][id];
            if (is_excused(i))
                continue;
            if (replica->memory_pos != end || replica->durable_pos != end ||
                replica->commit_d != end || check_truths[id].end.position != end)
                return false;
        }
    }
    return true;
}
