/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal's records: how one is laid out, and which of those found in the ring count.
 *
 * A record says where it is by an offset that only grows, so it counts when nothing up to the end
 * of the newest, S, was written over it: what lies in the place of a record that never landed is of
 * the round before, and does not. A sequence missing in between is damage, unless all that is known
 * says that it was in flight.
 */
#include "state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"

#define ALL_BLOCKS (LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES)

/* Of places, sequences and positions: nothing honest gets there. */
#define NUMBER_MAX (UINT64_MAX / 2)

_Static_assert(LEAT_JOURNAL_BYTES >=
                   3 * JOURNAL_STATE_BYTES + (IN_FLIGHT_MAX + 4) * LEAT_JOURNAL_RECORD_BYTES_MAX,
               "the full state is re-emitted seldom enough to leave room for appends");

/* ---- writing ---- */

void journal_entry_fill(const struct log *log, uint64_t end_pos, uint64_t floor_pos,
                        uint64_t placed_pos, uint32_t tail_bytes, uint32_t flags,
                        struct leat_journal_entry *ret_entry)
{
    LEAT_ASSERT(floor_pos <= end_pos && log->start_pos <= end_pos);
    bool base_is_known = log->noted_base < end_pos;
    *ret_entry = (struct leat_journal_entry){
        .log = log->uuid,
        .log_id = log->log_id,
        .generation = log->generation,
        .cut_epoch = log->cut_epoch,
        .start_pos = log->start_pos,
        .floor_pos = floor_pos,
        .placed_pos = min_u64(placed_pos, block_of(end_pos)),
        .end_pos = end_pos,
        .commit_d = min_u64(log->commit_d, floor_pos), /* W6 */
        .arena = log->arena_id,
        .boot = log->boot,
        .last_term = log->last_term,
        .flags = flags | (base_is_known ? LEAT_JOURNAL_BASE : 0u),
        .tail_bytes = tail_bytes,
        .segment_log2 = (uint32_t)__builtin_ctzll(log->shape.segment_bytes),
        .floor_crc = log->durable_crc,
        .base_crc = base_is_known ? log->noted_crc : 0,
        .base_pos = base_is_known ? log->noted_base : 0,
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

void journal_record_finish(struct leat_journal_record *head, const struct leat_identity *identity,
                           uint32_t used_bytes)
{
    LEAT_ASSERT(block_end(used_bytes) <= LEAT_JOURNAL_RECORD_BYTES_MAX);
    head->magic = LEAT_JOURNAL_MAGIC;
    head->version = LEAT_STORAGE_VERSION;
    head->node = identity->node;
    head->record_bytes = (uint32_t)block_end(used_bytes);
    head->crc = 0;
    LEAT_ASSERT(head->at % LEAT_JOURNAL_BYTES + head->record_bytes <= LEAT_JOURNAL_BYTES);
    memset((uint8_t *)head + used_bytes, 0, head->record_bytes - used_bytes);
    head->crc = leat_crc32c(identity->journal_secret, head, head->record_bytes);
}

void journal_record_seal(const struct leat_storage *storage, struct batch *batch,
                         uint32_t used_bytes)
{
    struct leat_journal_record *head = (void *)batch->record;
    LEAT_ASSERT(batch->item_count > 0 && batch->record_bytes == block_end(used_bytes));
    *head = (struct leat_journal_record){
        .incarnation = storage->incarnation,
        .sequence = batch->sequence,
        .at = batch->at,
        .entry_count = batch->item_count,
        .in_flight = storage->batch_count,
    };
    journal_record_finish(head, &storage->identity, used_bytes);
}

/* ---- reading ---- */

static bool journal_record_is_valid(const uint8_t *ring, uint32_t offset,
                                    const struct leat_identity *identity)
{
    struct leat_journal_record head;
    static const uint32_t zero = 0;
    memcpy(&head, ring + offset, sizeof(head));
    if (head.magic != LEAT_JOURNAL_MAGIC || head.record_bytes < LEAT_BLOCK_BYTES ||
        head.record_bytes % LEAT_BLOCK_BYTES != 0 ||
        head.record_bytes > LEAT_JOURNAL_RECORD_BYTES_MAX ||
        offset + head.record_bytes > LEAT_JOURNAL_BYTES || head.at % LEAT_JOURNAL_BYTES != offset ||
        !leat_uuid_equal(&head.node, &identity->node))
        return false;
    const size_t crc_at = offsetof(struct leat_journal_record, crc);
    uint32_t crc = leat_crc32c(identity->journal_secret, ring + offset, crc_at);
    crc = leat_crc32c(crc, &zero, sizeof(zero));
    crc = leat_crc32c(crc, ring + offset + crc_at + sizeof(zero),
                      head.record_bytes - crc_at - sizeof(zero));
    return crc == head.crc;
}

const uint8_t *journal_record_at(const struct journal_image *image, unsigned row)
{
    LEAT_DASSERT(row < image->row_count);
    return image->bytes + image->rows[row].at % LEAT_JOURNAL_BYTES;
}

bool journal_entry_next(const struct journal_image *image, unsigned row, uint32_t *at,
                        struct journal_cursor *ret_cursor)
{
    const struct journal_index_row *found = &image->rows[row];
    const uint8_t *record = journal_record_at(image, row);
    uint32_t begin = *at == 0 ? (uint32_t)BATCH_HEAD_BYTES : *at;
    const struct leat_journal_entry *entry = (const void *)(record + begin);

    if (begin + sizeof(*entry) > found->record_bytes || leat_uuid_is_zero(&entry->log))
        return false;
    if (entry->tail_bytes > LEAT_JOURNAL_TAIL_BYTES_MAX || entry->tail_bytes > entry->end_pos ||
        entry->placed_pos % LEAT_BLOCK_BYTES != 0 ||
        begin + journal_entry_bytes(entry) > found->record_bytes)
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
    *at = begin + journal_entry_bytes(entry);
    return true;
}

void journal_entry_at(const struct journal_image *image, uint32_t link,
                      struct journal_cursor *ret_cursor)
{
    uint32_t at = image->links[link].at;
    bool found = journal_entry_next(image, image->links[link].row, &at, ret_cursor);
    LEAT_ASSERT(found);
}

/* All valid records. Returns the newest's row. */
static unsigned journal_collect(struct journal_image *image, const struct leat_identity *identity,
                                bool *ret_newer_version)
{
    unsigned newest = 0;
    image->row_count = 0;
    for (uint32_t offset = 0; offset < LEAT_JOURNAL_BYTES;) {
        const struct leat_journal_record *head = (const void *)(image->bytes + offset);
        if (!journal_record_is_valid(image->bytes, offset, identity)) {
            offset += LEAT_BLOCK_BYTES;
            continue;
        }
        *ret_newer_version |= head->version > LEAT_STORAGE_VERSION;
        LEAT_ASSERT(image->row_count < ALL_BLOCKS);
        image->rows[image->row_count] = (struct journal_index_row){
            .sequence = head->sequence,
            .incarnation = head->incarnation,
            .at = head->at,
            .record_bytes = head->record_bytes,
            .in_flight = head->in_flight,
            .entry_count = head->entry_count,
        };
        if (head->sequence > image->rows[newest].sequence)
            newest = image->row_count;
        image->row_count++;
        offset += head->record_bytes;
    }
    return newest;
}

static int rows_by_offset(const void *a, const void *b)
{
    const struct journal_index_row *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Leaves the rows that count, ascending. */
static void journal_order(struct journal_image *image, unsigned newest)
{
    struct journal_index_row *rows = image->rows;
    uint64_t end = rows[newest].at + rows[newest].record_bytes;
    unsigned count = 0;
    for (unsigned i = 0; i < image->row_count; i++) {
        if (rows[i].at + LEAT_JOURNAL_BYTES >= end)
            rows[count++] = rows[i];
    }
    image->row_count = count;
    qsort(rows, count, sizeof(*rows), rows_by_offset);
}

/* Numbers that only grow from small ones, and what is counted from them: none wraps. */
static bool journal_numbers_hold(const struct journal_image *image)
{
    for (unsigned row = 0; row < image->row_count; row++) {
        const struct journal_index_row *found = &image->rows[row];
        if (found->at > NUMBER_MAX || found->sequence > NUMBER_MAX ||
            found->in_flight > found->sequence)
            return false;
    }
    return true;
}

/* What journal_entry_fill() sees to. */
static bool journal_entry_holds(const struct leat_journal_entry *entry)
{
    return entry->generation > 0 && entry->segment_log2 < 64 &&
           1ull << entry->segment_log2 >= LEAT_SEGMENT_BYTES_MIN &&
           1ull << entry->segment_log2 <= LEAT_SEGMENT_BYTES_MAX &&
           entry->start_pos % (1ull << entry->segment_log2) == 0 &&
           entry->start_pos <= entry->end_pos && entry->floor_pos <= entry->end_pos &&
           entry->placed_pos <= entry->end_pos && entry->commit_d <= entry->floor_pos &&
           entry->base_pos % (1ull << entry->segment_log2) == 0 &&
           entry->base_pos <= entry->end_pos && entry->end_pos <= NUMBER_MAX;
}

/* Records that contradict each other, or what they say of themselves: no power cut leaves those. */
static bool journal_holds(const struct journal_image *image)
{
    struct journal_cursor cursor;
    for (unsigned row = 0; row < image->row_count; row++) {
        uint32_t at = 0, entries = 0;
        while (journal_entry_next(image, row, &at, &cursor)) {
            if (!journal_entry_holds(cursor.entry))
                return false;
            entries++;
        }
        if (entries != image->rows[row].entry_count ||
            (row > 0 && image->rows[row].sequence <= image->rows[row - 1].sequence))
            return false;
    }
    return true;
}

/* Records complete in order, so each names the lowest one that was not complete when it was issued:
 * which were, as far as anything newer of their incarnation says, and the highest sequence that is
 * missing and must not be (J3). What may have been in flight to the last may be missing (J4). */
static void journal_judge(struct journal_image *image)
{
    struct journal_index_row *rows = image->rows;
    uint64_t complete_below = 0;
    for (unsigned i = image->row_count; i-- > 0;) {
        if (i + 1 == image->row_count || rows[i].incarnation != rows[i + 1].incarnation)
            complete_below = 0;
        rows[i].complete = rows[i].sequence < complete_below;
        complete_below = max_u64(complete_below, rows[i].sequence - rows[i].in_flight);
        uint64_t missing_end = min_u64(rows[i].sequence, complete_below);
        if (i > 0 && rows[i - 1].sequence + 1 < missing_end)
            image->gap_sequence = max_u64(image->gap_sequence, missing_end - 1);
    }
}

int journal_scan(struct journal_image *image, const struct leat_identity *identity, char *error,
                 unsigned error_bytes)
{
    bool newer_version = false;
    LEAT_ASSERT(image->bytes && !image->rows);
    image->rows = calloc(ALL_BLOCKS, sizeof(*image->rows));
    if (!image->rows)
        return leat_refuse(error, error_bytes, LEAT_ENOMEM, "out of memory");
    unsigned newest = journal_collect(image, identity, &newer_version);
    if (newer_version) /* J0 */
        return leat_refuse(error, error_bytes, LEAT_EVERSION,
                           "the journal was written by a newer version: run that one");
    if (image->row_count == 0) /* J1 */
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "the journal holds no valid record of this node: replace the node");
    bool holds = journal_numbers_hold(image);
    if (holds)
        journal_order(image, newest); /* J2 */
    if (!holds || !journal_holds(image))
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "the journal's records contradict each other: replace the node");
    journal_judge(image);
    return LEAT_OK;
}
