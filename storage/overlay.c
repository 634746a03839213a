/* SPDX-License-Identifier: Apache-2.0
 *
 * Journal tails over blocks as a segment has them: from the newest entry's placed_pos on, bytes may
 * be in records only. A tail holds true bytes of the log as far as no later cut took them
 * away, whatever the block in place holds; so all valid ones are laid over, the newest last.
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

uint64_t overlay_apply(const struct leat_storage *storage, const struct log *log, uint8_t *bytes,
                       uint64_t begin_pos, uint64_t end_pos)
{
    const struct journal_image *image = &storage->image;
    struct journal_cursor newer = {0}, cursor;
    uint64_t first_pos = max_u64(begin_pos, log->found.placed_pos);
    uint64_t limit_pos = UINT64_MAX;

    LEAT_ASSERT(image->bytes && begin_pos % LEAT_BLOCK_BYTES == 0);
    if (end_pos <= first_pos)
        return end_pos;
    struct overlay_target target = {bytes + (first_pos - begin_pos), first_pos, end_pos, end_pos};
    for (unsigned row = image->row_count; row-- > 0;) {
        if (!journal_entry_of(image, row, &log->uuid, log->generation, &cursor))
            continue;
        if (newer.entry && newer.entry->cut_epoch != cursor.entry->cut_epoch) {
            if (image->gap_sequence > cursor.row->sequence)
                break; /* the cut's own record may be the one that is missing */
            limit_pos = min_u64(limit_pos, newer.entry->end_pos);
        }
        if (newer.entry && (newer.entry->flags & LEAT_JOURNAL_INSTALLED) &&
            !(cursor.entry->flags & LEAT_JOURNAL_INSTALLED))
            break;
        overlay_lay(&target, &cursor, limit_pos);
        newer = cursor;
    }
    return target.missing_pos;
}

int overlay_read(const struct leat_storage *storage, const struct log *log, uint8_t *bytes,
                 uint64_t begin_pos, uint64_t end_pos, uint64_t *ret_missing_pos)
{
    char path[LEAT_PATH_BYTES];
    uint64_t base_pos = leat_segment_base(&log->shape, begin_pos);
    LEAT_ASSERT(begin_pos < end_pos && end_pos <= base_pos + log->shape.segment_bytes);
    segment_path(storage, log, base_pos, path);
    int fd = leat_file_open(path, false), rc = LEAT_OK;
    if (fd < 0 && errno != ENOENT)
        return LEAT_EIO;
    if (fd < 0) { /* not made yet: its first bytes may be in the journal all the same */
        memset(bytes, 0, end_pos - begin_pos);
        *ret_missing_pos = overlay_apply(storage, log, bytes, begin_pos, end_pos);
        return LEAT_OK;
    }
    uint64_t step = HELPER_WRITE_BYTES;
    for (uint64_t at = begin_pos; at < end_pos && rc == LEAT_OK; at += step) {
        uint64_t length = min_u64(step, end_pos - at);
        rc = leat_file_read(fd, bytes + (at - begin_pos), length, at - base_pos);
    }
    close(fd);
    if (rc == LEAT_OK)
        *ret_missing_pos = overlay_apply(storage, log, bytes, begin_pos, end_pos);
    return rc;
}
