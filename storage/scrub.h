/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealed segments: read through, proved, indexed, repaired. The helper's, where nothing else is
 * said.
 */
#ifndef LEAT_STORAGE_SCRUB_H
#define LEAT_STORAGE_SCRUB_H

#include "state.h"

/* scrub.c */
enum leat_storage_step scrub_step(struct leat_storage *storage);
/* Sealed segments of the log lack their index; the next free step takes one up. */
bool scrub_wants_index(struct leat_storage *storage, uint32_t index);
/* The same for segments that leat_storage_suspect(), leat_storage_prove() or scrub_doubt() named.
 */
bool scrub_wants_look(struct leat_storage *storage, uint32_t index);
/* The segment is read soon, for what it holds. */
void scrub_doubt(struct leat_storage *storage, uint32_t index, uint64_t base_pos);
void scrub_drop(struct leat_storage *storage, uint32_t index);
/* That segment's file becomes another's. */
void scrub_leave(struct leat_storage *storage, uint32_t index, uint64_t base_pos);
void scrub_free(struct leat_storage *storage);

/* prove.c */
/* All of the segment was read through since it was sealed, and held. The worker's too. */
bool prove_found_whole(const struct leat_storage *storage, const struct log *log,
                       uint64_t base_pos);
/* That is so in this epoch, and no index says it. */
void prove_note_whole(struct log *log, uint64_t base_pos, uint64_t epoch);
/* The CRC of the frame that the one behind the segment continues. False: nobody knows it. */
bool prove_next_crc(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                    uint32_t *ret_crc);
/* Somebody does, unless that segment is damaged: it was not looked at. */
bool prove_knows_next(const struct leat_storage *storage, const struct log *log, uint64_t base_pos);
/* The lowest segment from there on of which it is known; UINT64_MAX: none. */
uint64_t prove_first(const struct leat_storage *storage, const struct log *log, uint64_t base_pos);
/* The CRC that a BASE frame continues, as the disk shows it. LEAT_EDAMAGED. */
int prove_read_base(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                    uint32_t *ret_crc);

/* repair.c */
/* The log is gone, and with it what was collected. */
void repair_drop(struct leat_storage *storage, uint32_t index);
bool repair_step(struct leat_storage *storage);
/* The worker's. */
unsigned repair_report(struct leat_storage *storage, struct leat_storage_event *events,
                       unsigned max);

#endif
