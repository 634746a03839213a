/* SPDX-License-Identifier: Apache-2.0
 *
 * The last window of a disk: what was written of a segment, and no journal record says yet that it
 * was durable. Damage there cannot be told from a torn write by the replica alone
 * (docs/recovery.md, rows J2 and V3), so losing it counts as losing the node, which is more than
 * the atlas has. So nothing is hurt there while the window is open; what a disk loses silently is
 * lost, and found again if the power goes before a record says that it was there.
 */
#ifndef LEAT_SIM_WINDOW_H
#define LEAT_SIM_WINDOW_H

#include "files.h"

/* A write of a segment is complete; `lost`: what it should have written, if it did not. */
void window_wrote(struct sim_inode *segment, uint64_t offset, uint32_t length_bytes,
                  struct sim_inode *journal, const void *lost);
/* And one of a journal. */
void window_recorded(struct sim_inode *journal);
/* Does any of it lie in the last window? */
bool window_has(const struct sim_inode *segment, uint64_t offset, uint64_t length_bytes);
void window_power_cut(const struct sim_host *host);

#endif
