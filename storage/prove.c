/* SPDX-License-Identifier: Apache-2.0
 *
 * What a sealed segment must end in: the frame that the next one's BASE frame continues. A segment
 * of a log that was ever cut may be whole and end in frames of before the cut, where a disk lost
 * what was written there, and the next one may begin with such frames. So the next one's word
 * counts only where that is proved itself, and else the worker's (log_note_base()). Proofs go from
 * the top down: each segment that is read through says what the one below must end in. The helper's
 * side. Tests: test_before_cut.c, test_prove.c.
 */
#include "scrub.h"

#include <unistd.h>

#define BASE_BYTES_MAX (256u << 10) /* holds any BASE frame */

/* A place in `whole`, and what stands there: nothing that was said before a cut counts. */
static uint64_t whole_word(const struct log *log, uint64_t base_pos, uint64_t epoch,
                           unsigned *ret_slot)
{
    uint64_t number = base_pos / log->shape.segment_bytes + 1;
    *ret_slot = (unsigned)(number % WHOLE_SLOTS);
    return number << WHOLE_EPOCH_BITS | (epoch & ((1ull << WHOLE_EPOCH_BITS) - 1));
}

void prove_note_whole(struct log *log, uint64_t base_pos, uint64_t epoch)
{
    unsigned slot;
    uint64_t word = whole_word(log, base_pos, epoch, &slot);
    /* release: pairs with is_noted_whole() */
    atomic_store_explicit(&log->helper.whole[slot], word, memory_order_release);
}

static bool is_noted_whole(const struct log *log, uint64_t base_pos)
{
    unsigned slot;
    uint64_t epoch = atomic_load_explicit(&log->helper.sealed_epoch, memory_order_acquire);
    uint64_t word = whole_word(log, base_pos, epoch, &slot);
    return atomic_load_explicit(&log->helper.whole[slot], memory_order_acquire) == word;
}

bool prove_found_whole(const struct leat_storage *storage, const struct log *log, uint64_t base_pos)
{
    char path[LEAT_PATH_BYTES];
    if (is_noted_whole(log, base_pos))
        return true;
    segment_index_path(storage, log, base_pos, path);
    return leat_path_size(path) >= 0;
}

int prove_read_base(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                    uint32_t *ret_crc)
{
    struct leat_chain chain;
    int fd = segment_open_for_read(storage, log, base_pos);
    uint8_t *bytes = fd >= 0 ? leat_block_alloc(BASE_BYTES_MAX) : NULL;
    int rc = bytes ? LEAT_EAGAIN : LEAT_EDAMAGED;
    for (uint32_t length = LEAT_BLOCK_BYTES; rc == LEAT_EAGAIN && length <= BASE_BYTES_MAX;
         length *= 8) { /* it is short where few sessions are open */
        rc = leat_file_read(fd, bytes, length, 0);
        if (rc == LEAT_OK)
            rc = leat_chain_at_base(&log->shape, base_pos, bytes, length, &chain);
    }
    if (fd >= 0)
        close(fd);
    leat_block_free(bytes);
    *ret_crc = rc == LEAT_OK ? chain.crc : 0;
    return rc == LEAT_OK ? LEAT_OK : LEAT_EDAMAGED;
}

/* As the worker noted it, or as a segment said that the helper just read through. */
static bool next_is_noted(const struct log *log, uint64_t next_pos, uint32_t *ret_crc)
{
    const struct log_helper *helper = &log->helper;
    uint64_t number = next_pos / log->shape.segment_bytes;
    uint64_t word = atomic_load_explicit(&helper->bases[number % BASE_SLOTS], memory_order_acquire);
    uint64_t epoch = atomic_load_explicit(&helper->sealed_epoch, memory_order_acquire);
    bool was_read = helper->proved_pos == next_pos && helper->proved_epoch == epoch;
    *ret_crc = word >> 32 == number ? (uint32_t)word : helper->proved_crc;
    return word >> 32 == number || was_read;
}

/* What the disk shows there is the log's. */
static bool next_is_proved(const struct leat_storage *storage, const struct log *log,
                           uint64_t next_pos)
{
    return !atomic_load_explicit(&log->helper.was_cut, memory_order_relaxed) ||
           is_noted_whole(log, next_pos) || segment_index_holds(storage, log, next_pos);
}

bool prove_next_crc(const struct leat_storage *storage, const struct log *log, uint64_t base_pos,
                    uint32_t *ret_crc)
{
    uint64_t next_pos = base_pos + log->shape.segment_bytes;
    return next_is_noted(log, next_pos, ret_crc) ||
           (next_is_proved(storage, log, next_pos) &&
            prove_read_base(storage, log, next_pos, ret_crc) == LEAT_OK);
}

bool prove_knows_next(const struct leat_storage *storage, const struct log *log, uint64_t base_pos)
{
    uint64_t next_pos = base_pos + log->shape.segment_bytes;
    uint32_t crc;
    return next_is_noted(log, next_pos, &crc) || next_is_proved(storage, log, next_pos);
}

uint64_t prove_first(const struct leat_storage *storage, const struct log *log, uint64_t base_pos)
{
    uint64_t end_pos = atomic_load_explicit(&log->helper.sealed_end, memory_order_acquire);
    while (base_pos < end_pos && !prove_knows_next(storage, log, base_pos))
        base_pos += log->shape.segment_bytes;
    return base_pos < end_pos ? base_pos : UINT64_MAX;
}
