/* SPDX-License-Identifier: Apache-2.0
 *
 * Journal tails over blocks as a segment has them: from the newest entry's placed_pos on, bytes may
 * be in records only. A tail holds true bytes of the log as far as no later cut took them
 * away, whatever the block in place holds; so all are laid over, from the newest back to the one
 * that begins at or below placed_pos.
 */
#include "state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct overlay_target {
    uint8_t *bytes;
    uint64_t begin_pos;
    uint64_t end_pos;
    uint64_t missing_pos;
};

static void overlay_lay(struct overlay_target *target, const struct journal_cursor *cursor,
                        uint64_t limit_pos)
{
    uint64_t tail_pos = cursor->entry->end_pos - cursor->entry->tail_bytes;
    uint64_t begin = max_u64(tail_pos, target->begin_pos);
    uint64_t end = min_u64(min_u64(cursor->entry->end_pos, limit_pos), target->end_pos);
    if (begin >= end)
        return;
    uint8_t *to = target->bytes + (begin - target->begin_pos);
    const uint8_t *from = cursor->tail + (begin - tail_pos);
    if (memcmp(to, from, end - begin) == 0)
        return;
    memcpy(to, from, end - begin);
    target->missing_pos = min_u64(target->missing_pos, block_of(begin));
}

/* Entries of a log from the newest back, as far as they may hold bytes of it. */
struct overlay_walk {
    const struct journal_image *image;
    uint32_t link;       /* of the next one */
    uint64_t placed_pos; /* blocks below are in place for certain */
    uint64_t limit_pos;  /* a newer cut took away what is above */
    struct journal_cursor cursor;
};

static bool overlay_next(struct overlay_walk *walk)
{
    const struct journal_cursor newer = walk->cursor;
    if (walk->link == NO_LINK)
        return false;
    journal_entry_at(walk->image, walk->link, &walk->cursor);
    walk->link = walk->image->links[walk->link].older;
    const struct leat_journal_entry *entry = walk->cursor.entry;
    if (newer.entry && newer.entry->cut_epoch != entry->cut_epoch) {
        if (walk->image->gap_sequence > walk->cursor.row->sequence)
            return false; /* the cut's own record may be the one that is missing */
        walk->limit_pos = min_u64(walk->limit_pos, newer.entry->end_pos);
    }
    if (newer.entry && (newer.entry->flags & LEAT_JOURNAL_INSTALLED) &&
        !(entry->flags & LEAT_JOURNAL_INSTALLED))
        return false;
    uint64_t tail_pos = entry->end_pos - entry->tail_bytes;
    bool placed = walk->cursor.row->complete && (entry->flags & LEAT_JOURNAL_WHOLE);
    if (placed)
        walk->placed_pos = max_u64(walk->placed_pos, block_of(min_u64(tail_pos, walk->limit_pos)));
    if (placed || tail_pos <= walk->placed_pos)
        walk->link =
            NO_LINK; /* older ones hold nothing that is not here, in newer ones or in place */
    return true;
}

void overlay_find_live(const struct journal_image *image, struct log *log)
{
    struct overlay_walk walk = {image, log->newest_link, log->found.placed_pos, UINT64_MAX, {0}};
    while (overlay_next(&walk))
        log->live_at = walk.cursor.row->at;
    log->issued_at = log->live_at;
    log->found_placed = walk.placed_pos;
}

uint64_t overlay_apply(const struct leat_storage *storage, const struct log *log, uint8_t *bytes,
                       uint64_t begin_pos, uint64_t end_pos)
{
    uint64_t first_pos = max_u64(begin_pos, log->found_placed);
    LEAT_ASSERT(storage->image.bytes && begin_pos % LEAT_BLOCK_BYTES == 0);
    if (end_pos <= first_pos)
        return end_pos;
    struct overlay_walk walk = {
        &storage->image, log->newest_link, log->found_placed, UINT64_MAX, {0}};
    struct overlay_target target = {bytes + (first_pos - begin_pos), first_pos, end_pos, end_pos};
    while (overlay_next(&walk))
        overlay_lay(&target, &walk.cursor, walk.limit_pos);
    return target.missing_pos;
}

static void overlay_finish(const struct leat_storage *storage, struct log *log, uint8_t *bytes,
                           uint64_t begin_pos, uint64_t end_pos, uint64_t *ret_missing_pos)
{
    *ret_missing_pos = overlay_apply(storage, log, bytes, begin_pos, end_pos);
    if (begin_pos == 0)
        genesis_lay(storage, log, bytes, end_pos);
}

int overlay_read(const struct leat_storage *storage, struct log *log, uint8_t *bytes,
                 uint64_t begin_pos, uint64_t end_pos, uint64_t *ret_missing_pos)
{
    char path[LEAT_PATH_BYTES];
    uint64_t base_pos = leat_segment_base(&log->shape, begin_pos);
    LEAT_ASSERT(begin_pos < end_pos && end_pos <= base_pos + log->shape.segment_bytes);
    segment_path(storage, log, base_pos, path);
    int fd = leat_file_open(path, false);
    if (fd < 0 && errno != ENOENT)
        return LEAT_EIO;
    if (fd < 0) { /* not made yet: its first bytes may be in the journal all the same */
        memset(bytes, 0, end_pos - begin_pos);
        overlay_finish(storage, log, bytes, begin_pos, end_pos, ret_missing_pos);
        return LEAT_OK;
    }
    for (uint64_t at = begin_pos; at < end_pos; at += HELPER_WRITE_BYTES) {
        uint64_t length = min_u64(HELPER_WRITE_BYTES, end_pos - at);
        if (leat_file_read(fd, bytes + (at - begin_pos), length, at - base_pos) != LEAT_OK)
            leat_file_read_by_blocks(fd, bytes + (at - begin_pos), length, at - base_pos);
    }
    close(fd);
    overlay_finish(storage, log, bytes, begin_pos, end_pos, ret_missing_pos);
    return LEAT_OK;
}
