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
    check_words_forgiven(log);
}

uint64_t check_replicated(uint32_t log)
{
    return rules[log].known_pos > rules[log].lost_pos ? rules[log].known_pos : 0;
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
    bool was_paused = process && world.now_ns < process->stood_until_ns + long_ns;
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

/* W6: of a cut below what readers were shown as replicated they are told. */
static void shown_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    struct replica *replica = &check_replicas[node][log->id];
    const struct leat_arena_header *header = log->arena.header;
    bool cut =
        before->log == log && log->core.counters.cuts + log->core.counters.resets != before->cuts;
    uint64_t shown_pos = before->log == log ? before->shown_pos : log->told_commit_r;
    if (cut && log->core.cut_pos < shown_pos) {
        if (header->epoch.value == before->shown_epoch)
            world_fail("W6", "node %u cuts log %u at %lu, shown to %lu, and tells no reader",
                       node + 1, log->id, (unsigned long)log->core.cut_pos,
                       (unsigned long)shown_pos);
        shown_pos = log->core.cut_pos;
    }
    replica->shown_pos = shown_pos > header->commit_r.value ? shown_pos : header->commit_r.value;
    replica->shown_epoch = header->epoch.value;
}

/* Who hands a log over takes nothing more into it (Ongaro's thesis, 3.10). */
static void handover_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    struct replica *replica = &check_replicas[node][log->id];
    const struct leat_core *core = &log->core;
    bool hands_over = core->role == LEAT_LEADER && core->transfer_to != LEAT_CORE_NOBODY;
    if (hands_over && before->hands_over && before->log == log && before->term == core->term &&
        log->chain.position > before->sealed_pos)
        world_fail("TRANSFER", "node %u hands log %u over in term %u and appends to it", node + 1,
                   log->id, core->term);
    replica->hands_over = hands_over;
    replica->sealed_pos = log->chain.position;
}

/* CM3, J5: what a leader sends is the log; nothing of it is refused but what was hurt on a disk or
 * on the way. */
static void refused_look(unsigned node, const struct node_log *log)
{
    bool hurt = draw.damage_ppm > 0;
    for (unsigned i = 0; i < cluster.count; i++)
        hurt |= cluster.nodes[i].victim;
    if (log->counters.frames_refused > 0 && !hurt)
        world_fail("CM3", "node %u was sent other bytes than log %u has", node + 1, log->id);
}

/* G3, W7: the runs say what the log has, and no frame is of a later term than the node's. */
static void runs_look(unsigned node, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    const struct leat_run *last = &core->runs[core->run_count - 1];
    if (core->term < last->term)
        world_fail("W7", "node %u is in term %u and has log %u to term %u", node + 1, core->term,
                   log->id, last->term);
    if (log->installing || log->chain.position != core->memory_pos ||
        core->memory_pos == core->base_pos || /* damaged from its beginning on */
        last->term == 0) /* an install, of what lies below its leader's first run */
        return;
    if (last->term != log->chain.term || last->first_pos >= core->memory_pos)
        world_fail("G3",
                   "node %u has log %u to %lu, term %u, and takes it to end in term %u, from %lu "
                   "on",
                   node + 1, log->id, (unsigned long)core->memory_pos, log->chain.term, last->term,
                   (unsigned long)last->first_pos);
}

void check_rules(unsigned node, const struct replica *before, const struct node_log *log)
{
    runs_look(node, log);
    shown_look(node, before, log);
    handover_look(node, before, log);
    refused_look(node, log);
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
