/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of runs and where two logs part. Tests: tests/replication/, traces ce01, ce07.
 *
 * Runs are dropped from the front only when the list is full and the TERM frame of a later run is
 * below the durable commit (G3). So whatever lies before a leader's first run is committed, and
 * committed again by a quorum that holds that first run.
 */
#include "core_private.h"

#include <string.h>

struct leat_run runs_last(const struct leat_core *core)
{
    LEAT_ASSERT(core->run_count >= 1 && core->run_count <= LEAT_RUNS_MAX);
    return core->runs[core->run_count - 1];
}

static bool runs_first_may_go(const struct leat_core *core)
{
    return core->run_count >= 2 && core->runs[1].first_pos < core->commit_d;
}

bool runs_full(const struct leat_core *core)
{
    return core->run_count == LEAT_RUNS_MAX && !runs_first_may_go(core);
}

void runs_add(struct leat_core *core, uint32_t term, uint64_t first_pos)
{
    LEAT_ASSERT(!runs_full(core));
    LEAT_ASSERT(term > runs_last(core).term && first_pos >= runs_last(core).first_pos);
    if (core->run_count == LEAT_RUNS_MAX) {
        core->run_count--;
        memmove(core->runs, core->runs + 1, core->run_count * sizeof(core->runs[0]));
    }
    core->runs[core->run_count++] = (struct leat_run){.first_pos = first_pos, .term = term};
}

void runs_cut(struct leat_core *core, uint64_t end_pos)
{
    LEAT_ASSERT(core->runs[0].first_pos <= end_pos);
    while (core->run_count > 1 && core->runs[core->run_count - 1].first_pos >= end_pos)
        core->run_count--;
    LEAT_ASSERT(core->run_count >= 1);
}

/* Index of the run that holds the byte at `position`, or -1 below the first. */
static int runs_find(const struct leat_run *runs, uint32_t count, uint64_t position)
{
    int found = -1;
    for (uint32_t i = 0; i < count && runs[i].first_pos <= position; i++)
        found = (int)i;
    return found;
}

uint32_t runs_term_at(const struct leat_run *runs, uint32_t count, uint64_t position)
{
    int index = runs_find(runs, count, position);
    return index < 0 ? 0 : runs[index].term;
}

static bool runs_hold(const struct leat_core *core, const struct leat_run *run)
{
    int index = runs_find(core->runs, core->run_count, run->first_pos);
    return index >= 0 && run->first_pos < core->memory_pos &&
           core->runs[index].first_pos == run->first_pos && core->runs[index].term == run->term;
}

/* Begins above the own durable commit, or where the own list begins: what lies before that was
 * known to be committed when it was dropped, though a restart may have forgotten so. When the
 * leader's list begins later still, there are two cases. Its first run is in this log too: then all
 * below agrees (F1). It is not: then all before that run was committed again, by a quorum without
 * this replica, so what lies above the own commit is nobody's last copy and the own commit is a
 * safe place to go on from (ADR 0004). */
uint64_t runs_agreement(const struct leat_core *core, const struct leat_run *leader_runs,
                        uint32_t leader_count, uint64_t leader_end)
{
    uint64_t position = max_u64(core->commit_d, core->runs[0].first_pos);
    uint64_t end = min_u64(core->memory_pos, leader_end);

    LEAT_ASSERT(leader_count >= 1);
    if (leader_runs[0].first_pos > position) {
        if (!runs_hold(core, &leader_runs[0]))
            return position;
        position = leader_runs[0].first_pos;
    }
    while (position < end) {
        int mine = runs_find(core->runs, core->run_count, position);
        int theirs = runs_find(leader_runs, leader_count, position);
        LEAT_ASSERT(mine >= 0 && theirs >= 0);
        if (core->runs[mine].term != leader_runs[theirs].term)
            return position;
        uint64_t next = end;
        if ((uint32_t)mine + 1 < core->run_count)
            next = min_u64(next, core->runs[mine + 1].first_pos);
        if ((uint32_t)theirs + 1 < leader_count)
            next = min_u64(next, leader_runs[theirs + 1].first_pos);
        LEAT_ASSERT(next > position);
        position = next;
    }
    return min_u64(position, core->memory_pos);
}
