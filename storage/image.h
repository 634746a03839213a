/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal as open reads it: the whole ring, which of its records count, and each log's entries
 * in them from the newest back (journal.c). Gone when the log is in service.
 */
#ifndef LEAT_STORAGE_IMAGE_H
#define LEAT_STORAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/format.h"

struct journal_index_row {
    uint64_t sequence;
    uint64_t incarnation;
    uint64_t at;
    uint32_t record_bytes;
    uint32_t in_flight;
    uint32_t entry_count;
    bool complete; /* the batch, as far as newer records of its incarnation know */
};

/* An entry in the image, and the log's next older one. */
struct journal_link {
    uint32_t row;
    uint32_t at; /* byte offset in the record; 0: the first */
    uint32_t older;
};

struct journal_image {
    uint8_t *bytes;                 /* the whole ring; freed by commit_begin */
    struct journal_index_row *rows; /* ascending by sequence */
    unsigned row_count;
    struct journal_link *links; /* all entries; a log's begin at newest_link */
    uint32_t link_count;
    uint64_t gap_sequence; /* the highest record that is missing and must not be; 0: none */
};

/* Reads image->bytes, LEAT_JOURNAL_BYTES. Returns 0, or what the rows J0 to J3 of docs/recovery.md
 * say, with its reason in `error`. */
int journal_scan(struct journal_image *image, const struct leat_identity *identity, char *error,
                 unsigned error_bytes);
const uint8_t *journal_record_at(const struct journal_image *image, unsigned row);

struct journal_cursor {
    const struct leat_journal_entry *entry;
    const uint8_t *tail;
    const struct leat_journal_claim *claim; /* NULL: none */
    const struct journal_index_row *row;
};

/* The entry at *at, a byte offset in the record (0: the first), which is moved on. False when there
 * is none left. */
bool journal_entry_next(const struct journal_image *image, unsigned row, uint32_t *at,
                        struct journal_cursor *ret_cursor);
void journal_entry_at(const struct journal_image *image, uint32_t link,
                      struct journal_cursor *ret_cursor);

#endif
