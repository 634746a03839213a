/* SPDX-License-Identifier: Apache-2.0
 *
 * What was asked of the disk and what is known to be durable. A write is known by its sequence
 * number only; a cut lowers what outstanding writes may prove, so that a completion that comes
 * after the cut (trap 2: A-B-A) proves nothing about bytes written since. At most
 * LEAT_CORE_WRITES_MAX are outstanding; what comes meanwhile rides in the next.
 */
#include "core_private.h"

#include <string.h>

void disk_issue(struct leat_core *core, struct leat_core_effects *effects)
{
    LEAT_ASSERT(core->write_issued_end <= core->memory_pos);
    if (core->write_issued_end == core->memory_pos || core->write_count == LEAT_CORE_WRITES_MAX)
        return;
    struct leat_core_write *write = &core->writes[core->write_count++];
    write->sequence = core->write_next_seq++;
    write->end_pos = core->memory_pos;
    core->write_issued_end = core->memory_pos;
    effects->write = true;
    effects->write_seq = write->sequence;
    effects->write_end = write->end_pos;
    effects->write_last_term = runs_last(core).term;
}

void disk_persisted(struct leat_core *core, uint64_t sequence)
{
    uint32_t done = 0;
    while (done < core->write_count && core->writes[done].sequence <= sequence) {
        core->durable_pos = max_u64(core->durable_pos, core->writes[done].end_pos);
        core->installing = false;
        done++;
    }
    core->write_count -= done;
    memmove(core->writes, core->writes + done, core->write_count * sizeof(core->writes[0]));
    LEAT_ASSERT(core->durable_pos <= core->memory_pos);
    core->ack_due = core->ack_due || done > 0;
}

void disk_cut(struct leat_core *core, uint64_t end_pos)
{
    for (uint32_t i = 0; i < core->write_count; i++)
        core->writes[i].end_pos = min_u64(core->writes[i].end_pos, end_pos);
    core->write_issued_end = min_u64(core->write_issued_end, end_pos);
    core->durable_pos = min_u64(core->durable_pos, end_pos);
}

/* Asks for the vote record (term, voted_for); returns the number that will prove it. */
uint64_t disk_vote(struct leat_core *core)
{
    core->vote_due = true;
    return ++core->vote_next_seq;
}
