/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal's records: how one is laid out, and which of those found in the ring count.
 *
 * The ring as open finds it, from the newest record S backwards: the current pass (offsets up to
 * that of S), then what is left of the pass before it (offsets behind S). Anything older, in the
 * part that was skipped at the ring's end, counts no more. A sequence missing in between is
 * damage, unless the next valid record says that it was in flight beside it.
 */
#include "state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"

#define ALL_BLOCKS (LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES)

_Static_assert(LEAT_JOURNAL_BYTES >=
                   2 * JOURNAL_STATE_BYTES + (IN_FLIGHT_MAX + 1) * LEAT_JOURNAL_RECORD_BYTES_MAX,
               "the ring holds twice the full state, what is in flight, and a skipped end");

/* ---- writing ---- */

void journal_entry_fill(const struct log *log, uint64_t end_pos, uint64_t floor_pos,
                        uint32_t tail_bytes, uint32_t flags, struct leat_journal_entry *ret_entry)
{
    LEAT_ASSERT(floor_pos <= end_pos && log->start_pos <= end_pos);
    *ret_entry = (struct leat_journal_entry){
        .log = log->uuid,
        .log_id = log->log_id,
        .generation = log->generation,
        .cut_epoch = log->cut_epoch,
        .start_pos = log->start_pos,
        .floor_pos = floor_pos,
        .placed_pos = min_u64(log->placed_done, block_of(end_pos)),
        .end_pos = end_pos,
        .commit_d = min_u64(log->commit_d, floor_pos), /* W6 */
        .arena = log->arena_id,
        .boot = log->boot,
        .last_term = log->last_term,
        .flags = flags,
        .tail_bytes = tail_bytes,
        .segment_log2 = (uint32_t)__builtin_ctzll(log->shape.segment_bytes),
    };
    LEAT_ASSERT(ret_entry->commit_d <= ret_entry->floor_pos);
}

uint32_t journal_entry_bytes(const struct leat_journal_entry *entry)
{
    uint32_t claim_bytes =
        entry->flags & LEAT_JOURNAL_DAMAGED ? sizeof(struct leat_journal_claim) : 0;
    uint32_t tail_bytes = (entry->tail_bytes + 7u) & ~7u;
    return (uint32_t)sizeof(*entry) + tail_bytes + claim_bytes;
}

void journal_record_write_head(struct leat_journal_record *head, const struct leat_uuid *node,
                               uint64_t incarnation, uint64_t sequence, uint64_t ring_offset,
                               uint32_t entry_count, uint32_t in_flight, uint32_t used_bytes)
{
    uint32_t record_bytes = (uint32_t)block_end(used_bytes);
    LEAT_ASSERT(record_bytes <= LEAT_JOURNAL_RECORD_BYTES_MAX);
    LEAT_ASSERT(ring_offset + record_bytes <= LEAT_JOURNAL_BYTES);
    *head = (struct leat_journal_record){
        .magic = LEAT_JOURNAL_MAGIC,
        .version = LEAT_STORAGE_VERSION,
        .record_bytes = record_bytes,
        .node = *node,
        .incarnation = incarnation,
        .sequence = sequence,
        .ring_offset = ring_offset,
        .entry_count = entry_count,
        .in_flight = in_flight,
    };
    memset((uint8_t *)head + used_bytes, 0, record_bytes - used_bytes);
    head->crc = leat_crc32c(0, head, record_bytes);
}

void journal_record_seal(const struct leat_storage *storage, struct batch *batch,
                         uint32_t used_bytes)
{
    struct leat_journal_record *head = (void *)batch->record;
    LEAT_ASSERT(batch->item_count > 0 && batch->record_bytes == block_end(used_bytes));
    journal_record_write_head(head, &storage->identity.node, storage->incarnation, batch->sequence,
                              batch->at % LEAT_JOURNAL_BYTES, batch->item_count,
                              storage->batch_count, used_bytes);
}

/* ---- reading ---- */

static bool journal_record_is_valid(const uint8_t *ring, uint32_t offset,
                                    const struct leat_uuid *node)
{
    struct leat_journal_record head;
    static const uint32_t zero = 0;
    memcpy(&head, ring + offset, sizeof(head));
    if (head.magic != LEAT_JOURNAL_MAGIC || head.record_bytes < LEAT_BLOCK_BYTES ||
        head.record_bytes % LEAT_BLOCK_BYTES != 0 ||
        head.record_bytes > LEAT_JOURNAL_RECORD_BYTES_MAX ||
        offset + head.record_bytes > LEAT_JOURNAL_BYTES || head.ring_offset != offset ||
        !leat_uuid_equal(&head.node, node))
        return false;
    const size_t crc_at = offsetof(struct leat_journal_record, crc);
    uint32_t crc = leat_crc32c(0, ring + offset, crc_at);
    crc = leat_crc32c(crc, &zero, sizeof(zero));
    crc = leat_crc32c(crc, ring + offset + crc_at + sizeof(zero),
                      head.record_bytes - crc_at - sizeof(zero));
    return crc == head.crc;
}

bool journal_entry_next(const struct journal_image *image, unsigned row, uint32_t *at,
                        struct journal_cursor *ret_cursor)
{
    const struct journal_index_row *found = &image->rows[row];
    const uint8_t *record = image->bytes + found->offset;
    uint32_t begin = *at == 0 ? (uint32_t)BATCH_HEAD_BYTES : *at;
    const struct leat_journal_entry *entry = (const void *)(record + begin);

    if (begin + sizeof(*entry) > found->record_bytes || leat_uuid_is_zero(&entry->log))
        return false;
    uint32_t bytes = journal_entry_bytes(entry);
    if (entry->tail_bytes > TAIL_BYTES_MAX || entry->tail_bytes > entry->end_pos ||
        entry->placed_pos % LEAT_BLOCK_BYTES != 0 || begin + bytes > found->record_bytes)
        return false;
    const uint8_t *tail = (const uint8_t *)(entry + 1);
    *ret_cursor = (struct journal_cursor){
        .entry = entry,
        .tail = tail,
        .claim = entry->flags & LEAT_JOURNAL_DAMAGED
                     ? (const void *)(tail + ((entry->tail_bytes + 7u) & ~7u))
                     : NULL,
        .row = found,
    };
    *at = begin + bytes;
    return true;
}

bool journal_entry_of(const struct journal_image *image, unsigned row, const struct leat_uuid *log,
                      uint32_t generation, struct journal_cursor *ret_cursor)
{
    struct journal_cursor cursor;
    uint32_t at = 0;
    LEAT_ASSERT(row < image->row_count);
    while (journal_entry_next(image, row, &at, &cursor)) {
        if (leat_uuid_equal(&cursor.entry->log, log) && cursor.entry->generation == generation) {
            *ret_cursor = cursor;
            return true;
        }
    }
    return false;
}

/* All valid records in the order of their offsets; the newest's row. */
static unsigned journal_collect(struct journal_image *image, const struct leat_uuid *node,
                                bool *ret_newer_version)
{
    unsigned newest = 0;
    image->row_count = 0;
    for (uint32_t offset = 0; offset < LEAT_JOURNAL_BYTES;) {
        const struct leat_journal_record *head = (const void *)(image->bytes + offset);
        if (!journal_record_is_valid(image->bytes, offset, node)) {
            offset += LEAT_BLOCK_BYTES;
            continue;
        }
        *ret_newer_version |= head->version > LEAT_STORAGE_VERSION;
        LEAT_ASSERT(image->row_count < ALL_BLOCKS);
        image->rows[image->row_count] =
            (struct journal_index_row){head->sequence, offset, head->record_bytes, head->in_flight};
        if (head->sequence > image->rows[newest].sequence)
            newest = image->row_count;
        image->row_count++;
        offset += head->record_bytes;
    }
    return newest;
}

/* Leaves the rows that count, ascending by sequence. */
static void journal_order(struct journal_image *image, unsigned newest)
{
    struct journal_index_row *rows = image->rows;
    unsigned current = newest + 1, older = newest + 1;
    /* behind the newest: the pass before, up to where sequences fall back */
    while (older < image->row_count && rows[older].sequence < rows[newest].sequence &&
           (older == newest + 1 || rows[older].sequence > rows[older - 1].sequence))
        older++;
    unsigned before = older - current;
    /* rotate: [current pass][pass before] -> [pass before][current pass]; rows has twice the room
     */
    memmove(rows + ALL_BLOCKS, rows + current, before * sizeof(*rows));
    memmove(rows + before, rows, current * sizeof(*rows));
    memmove(rows, rows + ALL_BLOCKS, before * sizeof(*rows));
    image->row_count = current + before;
    for (unsigned i = 1; i < image->row_count; i++) {
        uint64_t missing_first = rows[i - 1].sequence + 1;
        /* J3, but for J4: what the next record saw in flight */
        if (rows[i].sequence > missing_first &&
            missing_first + rows[i].in_flight < rows[i].sequence)
            image->gap_sequence = rows[i].sequence - rows[i].in_flight - 1;
    }
}

int journal_scan(struct journal_image *image, const struct leat_uuid *node, char *error,
                 unsigned error_bytes)
{
    bool newer_version = false;
    LEAT_ASSERT(image->bytes && !image->rows);
    image->rows = calloc(2 * ALL_BLOCKS, sizeof(*image->rows));
    if (!image->rows)
        return leat_refuse(error, error_bytes, LEAT_ENOMEM, "out of memory");
    unsigned newest = journal_collect(image, node, &newer_version);
    if (newer_version) /* J0 */
        return leat_refuse(error, error_bytes, LEAT_EVERSION,
                           "the journal was written by a newer version: run that one");
    if (image->row_count == 0) /* J1 */
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "the journal holds no valid record of this node: replace the node");
    journal_order(image, newest); /* J2 */
    const struct journal_index_row *last = &image->rows[image->row_count - 1];
    image->next_offset = last->offset + last->record_bytes;
    LEAT_ASSERT(image->next_offset <= LEAT_JOURNAL_BYTES);
    return LEAT_OK;
}
