/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules whose breach costs something only when much else goes wrong as well: looked at as rules.
 */
#include <string.h>

#include "check_private.h"
#include "draw.h"
#include "state.h"

#define DEAF_PASSES 50u

static struct {
    uint64_t trim_pos; /* of the committed TRIM frames */
    /* By term of the leader that said so: known as replicated. Nothing up to `lost_pos`, when a
     * majority lost its memory last. */
    uint64_t replicated[TERMS_MAX];
    uint64_t known_pos, lost_pos;
} rules[LEDGER_LOGS_MAX];
static uint64_t heard_ns[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
static uint64_t leads_since_ns[SIM_HOSTS_MAX][LEDGER_LOGS_MAX];
static uint32_t deaf_passes[SIM_HOSTS_MAX][LEDGER_LOGS_MAX];

void check_rules_begin(void)
{
    memset(rules, 0, sizeof(rules));
    memset(heard_ns, 0, sizeof(heard_ns));
    memset(leads_since_ns, 0, sizeof(leads_since_ns));
    memset(deaf_passes, 0, sizeof(deaf_passes));
}

void check_heard(unsigned node, unsigned from)
{
    heard_ns[node][from] = world.now_ns;
}

void check_trimmed(uint32_t log, uint64_t trim_pos)
{
    if (rules[log].trim_pos < trim_pos)
        rules[log].trim_pos = trim_pos;
}

void check_majority_amnesiac(uint32_t log)
{
    memset(rules[log].replicated, 0, sizeof(rules[log].replicated));
    rules[log].lost_pos = rules[log].known_pos;
}

/* W5, W1: who is elected has what was replicated in earlier terms, unless a majority was amnesiac.
 */
static void replicated_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    uint64_t *replicated = rules[log->id].replicated;
    if (core->role != LEAT_LEADER || !log->accepts_replicated || core->term >= TERMS_MAX)
        return;
    for (uint32_t term = 0;
         term < core->term && (before->role != LEAT_LEADER || before->term != core->term); term++) {
        if (core->memory_pos < replicated[term])
            world_fail("W5",
                       "node %u leads log %u in term %u to %lu, below %lu, which was replicated in "
                       "term %u, and no majority was amnesiac since",
                       node + 1, log->id, core->term, (unsigned long)core->memory_pos,
                       (unsigned long)replicated[term], term);
    }
    if (core->commit_r > rules[log->id].known_pos)
        rules[log->id].known_pos = core->commit_r;
    if (core->commit_r > rules[log->id].lost_pos && core->commit_r > replicated[core->term])
        replicated[core->term] = core->commit_r;
}

/* N6: who leads hears a majority, or steps down; one that was paused, within some passes. */
static void hearing_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    uint64_t *since_ns = &leads_since_ns[node][log->id];
    uint64_t long_ns = 6 * draw.election_ms * SIM_MS + 100 * SIM_MS;
    uint32_t *passes = &deaf_passes[node][log->id];
    unsigned hears = 1;
    if (core->role != LEAT_LEADER)
        return;
    if (before->role != LEAT_LEADER || before->term != core->term || before->log != log)
        *since_ns = world.now_ns;
    for (unsigned i = 0; i < cluster.count; i++)
        hears += i != node && world.now_ns - heard_ns[node][i] < long_ns;
    const struct sim_process *process = cluster.nodes[node].process;
    /* what waited while it was paused it hears when it goes on */
    bool was_paused = process && world.now_ns < process->paused_until_ns + long_ns;
    bool deaf = world.now_ns - *since_ns > long_ns && hears <= cluster.count / 2 && !was_paused;
    *passes = deaf ? *passes + 1 : 0;
    if (*passes > DEAF_PASSES)
        world_fail("N6", "node %u leads log %u in term %u and heard %u of %u nodes for %lu ms",
                   node + 1, log->id, core->term, hears, cluster.count,
                   (unsigned long)(long_ns / SIM_MS));
}

/* T1: let go is what a committed frame says, and what this disk has all of. */
static void trim_look(unsigned node, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    if (core->base_pos > rules[log->id].trim_pos)
        world_fail("T1", "node %u let go of log %u below %lu, and the log was trimmed to %lu",
                   node + 1, log->id, (unsigned long)core->base_pos,
                   (unsigned long)rules[log->id].trim_pos);
    if (core->base_pos > core->durable_pos)
        world_fail("T1", "node %u let go of log %u below %lu, and its disk has it to %lu", node + 1,
                   log->id, (unsigned long)core->base_pos, (unsigned long)core->durable_pos);
}

void check_rules(unsigned node, const struct replica *before, const struct node_log *log)
{
    replicated_look(node, before, log);
    hearing_look(node, before, log);
    trim_look(node, log);
}

/* R3: a vote is durable before it is spoken of, a candidate's own as well. */
void check_vote_spoken(unsigned node, const struct node_log *log, uint32_t term)
{
    const struct log *kept = &log->worker->storage->logs[log->index];
    if (kept->vote_term == term && (kept->vote_wanted || kept->vote_flying))
        world_fail("R3",
                   "node %u speaks of its vote in term %u of log %u, which is not on its disk",
                   node + 1, term, log->id);
}
