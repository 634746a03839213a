/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal's ring (a small one): pieces of the input laid into blocks of it, scanned, and every
 * entry of what counts looked at, as open does. FUZZ_FIT: a piece is finished as a record (node,
 * length, place, CRC); FUZZ_FIT_RULES: and counts its entries itself.
 */
#include "base/crc.h"
#include "fuzz.h"
#include "state.h"

#define PIECES_MAX 64u
#define BLOCKS     (LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES)

static uint8_t *ring;
static const struct leat_identity identity = {.node = {{1, 2, 3}}, .journal_secret = 77};

/* As many as lie there in one row, whatever the record says. */
static uint32_t count_entries(uint8_t *record, uint32_t record_bytes)
{
    struct journal_index_row row = {.at = (uint64_t)(record - ring), .record_bytes = record_bytes};
    struct journal_image image = {.bytes = ring, .rows = &row, .row_count = 1};
    struct journal_cursor cursor;
    uint32_t at = 0, count = 0;
    while (journal_entry_next(&image, 0, &at, &cursor))
        count++;
    return count;
}

static void piece_fit(uint8_t *at, uint32_t used_bytes, uint8_t flags)
{
    struct leat_journal_record *head = (void *)at;
    uint64_t offset = (uint64_t)(at - ring);
    uint64_t record_bytes = block_end(used_bytes);
    if (!(flags & FUZZ_FIT) || used_bytes < sizeof(*head) ||
        record_bytes > LEAT_JOURNAL_RECORD_BYTES_MAX || offset + record_bytes > LEAT_JOURNAL_BYTES)
        return;
    head->at += offset - head->at % LEAT_JOURNAL_BYTES;
    if (head->at % LEAT_JOURNAL_BYTES != offset) /* beyond 64 bits */
        return;
    uint32_t version = head->version;
    if (flags & FUZZ_FIT_RULES) {
        memset(at + used_bytes, 0, record_bytes - used_bytes);
        head->entry_count = count_entries(at, (uint32_t)record_bytes);
    }
    journal_record_finish(head, &identity, used_bytes);
    if (!(flags & FUZZ_FIT_RULES) && version != 0) { /* of another version, and sound */
        head->version = version;
        head->crc = 0;
        head->crc = leat_crc32c(identity.journal_secret, head, head->record_bytes);
    }
}

/* Block, length, bytes. Returns the blocks that are not zero any more. */
static void piece_lay(struct fuzz_input *input, uint8_t flags, bool dirty[BLOCKS])
{
    uint32_t block = fuzz_u8(input) % BLOCKS;
    uint32_t length = fuzz_u16(input) % (LEAT_JOURNAL_RECORD_BYTES_MAX + 1);
    uint32_t room = LEAT_JOURNAL_BYTES - block * LEAT_BLOCK_BYTES;
    uint8_t *at = ring + (size_t)block * LEAT_BLOCK_BYTES;
    length = length < room ? length : room;
    fuzz_take(input, at, length);
    piece_fit(at, length, flags);
    for (uint32_t i = block; i * LEAT_BLOCK_BYTES < block * LEAT_BLOCK_BYTES + block_end(length);
         i++)
        dirty[i] = true;
}

static void entry_touch(const struct journal_cursor *cursor)
{
    fuzz_touch(cursor->entry, sizeof(*cursor->entry));
    fuzz_touch(cursor->tail, cursor->entry->tail_bytes);
    if (cursor->claim)
        fuzz_touch(cursor->claim, sizeof(*cursor->claim));
    LEAT_ASSERT((const uint8_t *)cursor->entry >= ring &&
                cursor->tail + cursor->entry->tail_bytes <= ring + LEAT_JOURNAL_BYTES);
}

static void image_check(const struct journal_image *image)
{
    struct journal_cursor cursor;
    LEAT_ASSERT(image->row_count > 0);
    for (unsigned row = 0; row < image->row_count; row++) {
        const struct journal_index_row *found = &image->rows[row];
        uint32_t at = 0, entries = 0;
        LEAT_ASSERT(row == 0 || found->sequence > image->rows[row - 1].sequence);
        LEAT_ASSERT(found->at % LEAT_JOURNAL_BYTES + found->record_bytes <= LEAT_JOURNAL_BYTES);
        while (journal_entry_next(image, row, &at, &cursor)) {
            entry_touch(&cursor);
            entries++;
        }
        LEAT_ASSERT(entries == found->entry_count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    bool dirty[BLOCKS] = {false};
    char error[256];
    uint8_t flags = fuzz_u8(&input);
    if (!ring) { /* of exactly its size: a read beyond its end is seen */
        LEAT_ASSERT(posix_memalign((void **)&ring, LEAT_BLOCK_BYTES, LEAT_JOURNAL_BYTES) == 0);
        memset(ring, 0, LEAT_JOURNAL_BYTES);
    }
    for (unsigned i = 0; i < PIECES_MAX && input.left > 0; i++)
        piece_lay(&input, flags, dirty);
    struct journal_image image = {.bytes = ring};
    int rc = journal_scan(&image, &identity, error, sizeof(error));
    if (rc == LEAT_OK)
        image_check(&image);
    free(image.rows);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (dirty[i])
            memset(ring + (size_t)i * LEAT_BLOCK_BYTES, 0, LEAT_BLOCK_BYTES);
    }
    return 0;
}
