/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node writes into its journal of a log, entry by entry, and its vote slots, whether it is
 * there before others rely on it, and whether it is found again. (Calls between files of the
 * product; see wraps.txt.)
 */
#include <stdio.h>
#include <string.h>

#include "check_private.h"
#include "files.h"
#include "leat/error.h"
#include "state.h"

static uint64_t recorded[SIM_HOSTS_MAX][LEDGER_LOGS_MAX]; /* cut epochs that are on the disk */

void check_journal_begin(void)
{
    memset(recorded, 0, sizeof(recorded));
}

void check_journal_forget(unsigned node)
{
    memset(recorded[node], 0, sizeof(recorded[node]));
}

/* ---- what is written ---- */

static void entry_look(unsigned node, const struct log *log, const struct leat_journal_entry *entry)
{
    const struct leat_journal_entry *found = &log->found;
    const struct node_log *serves =
        log->log_id < LEDGER_LOGS_MAX ? check_replicas[node][log->log_id].log : NULL;
    if (entry->commit_d > entry->floor_pos || entry->floor_pos > entry->end_pos)
        world_fail("W6",
                   "node %u's journal says that log %u is committed to %lu, has it to %lu, and "
                   "ends it at %lu",
                   node + 1, log->log_id, (unsigned long)entry->commit_d,
                   (unsigned long)entry->floor_pos, (unsigned long)entry->end_pos);
    if (entry->generation == found->generation && entry->cut_epoch == found->cut_epoch &&
        entry->end_pos < found->end_pos)
        world_fail("CE2",
                   "node %u's journal ends log %u at %lu in the epoch in which it ended at %lu "
                   "when the node started: that one's bytes would come back",
                   node + 1, log->log_id, (unsigned long)entry->end_pos,
                   (unsigned long)found->end_pos);
    if (serves && serves->core.damaged && !(entry->flags & LEAT_JOURNAL_DAMAGED))
        world_fail("V5",
                   "node %u's journal says nothing of the damage of log %u, whose claim is not met",
                   node + 1, log->log_id);
}

typedef void entry_fill_call(const struct log *log, uint64_t end_pos, uint64_t floor_pos,
                             uint64_t placed_pos, uint32_t tail_bytes, uint32_t flags,
                             struct leat_journal_entry *ret_entry);
entry_fill_call __real_journal_entry_fill, __wrap_journal_entry_fill;
void __wrap_journal_entry_fill(const struct log *log, uint64_t end_pos, uint64_t floor_pos,
                               uint64_t placed_pos, uint32_t tail_bytes, uint32_t flags,
                               struct leat_journal_entry *ret_entry)
{
    __real_journal_entry_fill(log, end_pos, floor_pos, placed_pos, tail_bytes, flags, ret_entry);
    entry_look(sim_current->process->host->number, log, ret_entry);
}

/* K2: while one slot is written the other one is whole. */
void check_vote_write(unsigned node, struct sim_inode *inode, const void *bytes, uint64_t offset)
{
    static uint8_t other[LEAT_VOTE_SLOT_BYTES];
    static struct vote_state state;
    struct leat_vote_slot head;
    uint32_t slot = offset == 0;
    memcpy(&head, bytes, sizeof(head));
    memset(other, 0, sizeof(other));
    inode_read(inode, other, sizeof(other), (uint64_t)slot * LEAT_VOTE_SLOT_BYTES);
    if (!votes_decode(other, slot, &head.node, &state))
        world_fail("K2", "node %u writes vote slot %lu, and the other one is damaged", node + 1,
                   (unsigned long)(offset / LEAT_VOTE_SLOT_BYTES));
}

/* ---- what is found ---- */

/* V5: what was damaged when the node died is damaged still, and its claim no lower. */
static void found_look(unsigned node, const struct log *log, const struct leat_recovered *recovered)
{
    const struct leat_journal_claim *before = &log->frozen.claim;
    if (!(log->found.flags & LEAT_JOURNAL_DAMAGED))
        return;
    if (!recovered->damaged || recovered->claim_term < before->term ||
        (recovered->claim_term == before->term && recovered->claim_end < before->end_pos))
        world_fail(
            "V5",
            "node %u starts with a claim of term %u, %lu in log %u; its journal has term %u, "
            "%lu",
            node + 1, recovered->damaged ? recovered->claim_term : 0,
            recovered->damaged ? (unsigned long)recovered->claim_end : 0, log->log_id, before->term,
            (unsigned long)before->end_pos);
}

typedef int recover_call(struct leat_storage *storage, uint32_t index,
                         const struct leat_storage_arena *arena, leat_frame_visit *visit,
                         void *context, struct leat_recovered *ret_recovered, char *error,
                         unsigned error_bytes);
recover_call __real_leat_storage_recover, __wrap_leat_storage_recover;
int __wrap_leat_storage_recover(struct leat_storage *storage, uint32_t index,
                                const struct leat_storage_arena *arena, leat_frame_visit *visit,
                                void *context, struct leat_recovered *ret_recovered, char *error,
                                unsigned error_bytes)
{
    int rc = __real_leat_storage_recover(storage, index, arena, visit, context, ret_recovered,
                                         error, error_bytes);
    if (rc == LEAT_OK)
        found_look(sim_current->process->host->number, &storage->logs[index], ret_recovered);
    return rc;
}

/* ---- what is relied on ---- */

static bool is_recorded(unsigned node, const struct node_log *log)
{
    const struct log *stored = &log->worker->storage->logs[log->index];
    struct leat_journal_entry entry = {.log = stored->uuid,
                                       .log_id = stored->log_id,
                                       .generation = stored->generation,
                                       .cut_epoch = log->core.cut_epoch};
    char path[LEAT_CONFIG_TEXT_BYTES + 32];
    snprintf(path, sizeof(path), "%s/w%u/journal", cluster.nodes[node].config.data_dir,
             log->worker->number);
    return files_hold(path, &entry, offsetof(struct leat_journal_entry, start_pos));
}

/* CE20: what follows a cut is acknowledged when the cut is on record. */
void check_cut_recorded(unsigned node, const struct node_log *log)
{
    uint64_t *newest = &recorded[node][log->id];
    if (log->core.counters.cuts == 0 || log->core.installing || log->core.cut_epoch <= *newest)
        return;
    if (!is_recorded(node, log))
        world_fail("CE20",
                   "node %u acknowledges what follows cut %lu of log %u, of which its journal has "
                   "no record",
                   node + 1, (unsigned long)log->core.cut_epoch, log->id);
    *newest = log->core.cut_epoch;
}
