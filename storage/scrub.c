/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealed segments read by the helper, one at a time and as a whole, with its own O_DIRECT reads:
 * the chain is verified from the BASE frame to the segment's end and to the next one's BASE, and
 * the sparse index is written where it is missing. A segment just sealed is read at once for its
 * index; all of them in turn at the configured rate. Memory: one segment, of the largest so far.
 *
 * Sealed is what lies below log_helper.sealed_end: no write is in flight there. A cut or an install
 * meanwhile raises sealed_epoch, and what was read is forgotten. Tests: test_scrub.c,
 * test_before_cut.c.
 */
#include "scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/segment_index.h"

#define SCRUB_READ_BYTES (256u << 10)
#define SCRUB_PAUSE_NS   1000000000ull /* when there is nothing to read */

struct scrub {
    bool busy;
    bool paced;  /* scrubbing; else for the index */
    bool wanted; /* somebody waits for it */
    bool asked;  /* it was begun for that */
    uint32_t log_index;
    uint64_t base_pos;
    uint64_t epoch;
    uint64_t begin_ns;
    int fd;         /* -1: the file is not there */
    uint8_t *bytes; /* room for the largest segment so far: kept, its pages are costly */
    uint64_t room_bytes;
    uint64_t read_bytes;
    struct leat_chain chain;
    bool stopped; /* at a frame that does not hold, or that this build does not know */
    bool unknown;
    struct leat_index_head *index;
    uint64_t index_room_bytes;
    uint64_t next_row_pos;

    uint32_t turn_log; /* the next to be scrubbed */
    uint64_t turn_pos;
    uint64_t put_off; /* base + 1 of the last that made room for another; 0: none */
    uint64_t pause_ns;
    uint64_t budget_bytes;
    uint64_t budget_ns;
};

static struct leat_index_row *scrub_rows(const struct scrub *scrub)
{
    return (struct leat_index_row *)(void *)(scrub->index + 1);
}

static void scrub_end(struct scrub *scrub)
{
    if (scrub->fd >= 0)
        close(scrub->fd);
    leat_block_free(scrub->index);
    scrub->index = NULL;
    scrub->busy = false;
}

void scrub_drop(struct leat_storage *storage, uint32_t index)
{
    struct scrub *scrub = storage->scrub;
    if (scrub && scrub->busy && scrub->log_index == index)
        scrub_end(scrub);
}

void scrub_leave(struct leat_storage *storage, uint32_t index, uint64_t base_pos)
{
    const struct scrub *scrub = storage->scrub;
    if (scrub && scrub->busy && scrub->log_index == index && scrub->base_pos == base_pos)
        scrub_drop(storage, index);
}

void scrub_free(struct leat_storage *storage)
{
    if (storage->scrub && storage->scrub->busy)
        scrub_end(storage->scrub);
    if (storage->scrub)
        leat_block_free(storage->scrub->bytes);
    free(storage->scrub);
    storage->scrub = NULL;
}

/* Whoever reads waits until the worker has taken some. */
static bool reports_are_full(struct leat_storage *storage)
{
    uint32_t tail = atomic_load_explicit(&storage->report_tail, memory_order_relaxed);
    /* acquire: pairs with life_report_damage(), which has read the slot */
    return tail - atomic_load_explicit(&storage->report_head, memory_order_acquire) == REPORTS_MAX;
}

static void report_damage(struct leat_storage *storage, const struct helper_report *report)
{
    uint32_t tail = atomic_load_explicit(&storage->report_tail, memory_order_relaxed);
    LEAT_ASSERT(!reports_are_full(storage));
    storage->reports[tail % REPORTS_MAX] = *report;
    atomic_store_explicit(&storage->report_tail, tail + 1, memory_order_release);
    atomic_store_explicit(&storage->attention, 1, memory_order_release);
}

/* ---- one segment ---- */

static bool scrub_begin(struct leat_storage *storage, uint32_t index, uint64_t base_pos, bool paced)
{
    struct scrub *scrub = storage->scrub;
    const struct log *log = &storage->logs[index];
    LEAT_ASSERT(!scrub->busy && base_pos % log->shape.segment_bytes == 0);
    uint64_t rows = log->shape.segment_bytes / LEAT_INDEX_STEP_BYTES;
    scrub->index_room_bytes =
        block_end(sizeof(struct leat_index_head) + rows * sizeof(struct leat_index_row));
    if (scrub->room_bytes < log->shape.segment_bytes) {
        leat_block_free(scrub->bytes);
        scrub->bytes = leat_block_alloc(log->shape.segment_bytes);
        scrub->room_bytes = scrub->bytes ? log->shape.segment_bytes : 0;
    }
    scrub->index = leat_block_alloc(scrub->index_room_bytes);
    scrub->fd = -1;
    scrub->log_index = index;
    if (!scrub->bytes || !scrub->index) {
        scrub_end(scrub);
        return false;
    }
    scrub->busy = true;
    scrub->paced = paced;
    scrub->wanted = scrub->asked = false;
    scrub->stopped = scrub->unknown = false;
    scrub->base_pos = scrub->next_row_pos = base_pos;
    scrub->read_bytes = 0;
    scrub->begin_ns = helper_now_ns();
    scrub->chain = (struct leat_chain){.position = base_pos};
    scrub->epoch = atomic_load_explicit(&log->helper.sealed_epoch, memory_order_acquire);
    scrub->fd = segment_open_for_read(storage, log, base_pos);
    if (scrub->fd < 0) /* not what another segment left there */
        memset(scrub->bytes, 0, log->shape.segment_bytes);
    return true;
}

/* What cannot be read counts as damaged, and no more than that. */
static void scrub_read(struct leat_storage *storage, struct scrub *scrub, uint64_t length)
{
    uint8_t *to = scrub->bytes + scrub->read_bytes;
    if (scrub->fd >= 0 && leat_file_read(scrub->fd, to, length, scrub->read_bytes) != LEAT_OK) {
        for (uint64_t at = 0; at < length; at += LEAT_BLOCK_BYTES) {
            if (leat_file_read(scrub->fd, to + at, LEAT_BLOCK_BYTES, scrub->read_bytes + at) !=
                LEAT_OK)
                memset(to + at, 0, LEAT_BLOCK_BYTES);
        }
    }
    scrub->read_bytes += length;
    atomic_fetch_add_explicit(&storage->scrubbed_bytes, length, memory_order_relaxed);
    atomic_store_explicit(&storage->attention, 1, memory_order_release);
}

static void scrub_row(struct scrub *scrub, uint64_t position, const struct leat_frame *frame)
{
    if (position < scrub->next_row_pos)
        return;
    uint64_t room = scrub->index_room_bytes - sizeof(*scrub->index);
    LEAT_ASSERT((scrub->index->row_count + 1) * sizeof(struct leat_index_row) <= room);
    scrub_rows(scrub)[scrub->index->row_count++] =
        (struct leat_index_row){position, frame->offset, frame->time_ns};
    scrub->next_row_pos = (position / LEAT_INDEX_STEP_BYTES + 1) * LEAT_INDEX_STEP_BYTES;
}

static void scrub_verify(struct scrub *scrub, const struct leat_log_shape *shape)
{
    bool all = scrub->read_bytes == shape->segment_bytes;
    int rc = LEAT_OK;
    if (scrub->chain.position == scrub->base_pos) {
        rc = leat_chain_at_base(shape, scrub->base_pos, scrub->bytes, scrub->read_bytes,
                                &scrub->chain);
    }
    while (rc == LEAT_OK && scrub->chain.position < scrub->base_pos + shape->segment_bytes) {
        uint64_t position = scrub->chain.position, at = position - scrub->base_pos, extent;
        if (at >= scrub->read_bytes)
            return;
        rc = leat_frame_check(shape, &scrub->chain, scrub->bytes + at, scrub->read_bytes - at,
                              &extent);
        if (rc == LEAT_OK)
            scrub_row(scrub, position, (const void *)(scrub->bytes + at));
    }
    scrub->unknown = rc == LEAT_EVERSION;
    scrub->stopped = rc != LEAT_OK && (rc != LEAT_EAGAIN || all);
}

/* ---- the index ---- */

/* Under another name until it is whole. Nothing depends on it: no space, no index. */
static bool index_write(struct leat_storage *storage, struct scrub *scrub, const struct log *log)
{
    char path[LEAT_PATH_BYTES], new_path[LEAT_PATH_BYTES + 8];
    struct leat_index_head *head = scrub->index;
    uint64_t used = sizeof(*head) + head->row_count * sizeof(struct leat_index_row);
    LEAT_ASSERT(head->row_count >= 1 && used <= scrub->index_room_bytes);
    head->magic = LEAT_INDEX_MAGIC;
    head->version = LEAT_INDEX_VERSION;
    head->log = log->uuid;
    head->generation = log->generation;
    head->base_pos = scrub->base_pos;
    head->segment_bytes = log->shape.segment_bytes;
    head->end_offset = scrub->chain.next_offset;
    head->crc = 0;
    head->crc = leat_crc32c(0, head, used);
    segment_index_path(storage, log, scrub->base_pos, path);
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    int fd = leat_file_create(new_path);
    if (fd < 0)
        return false;
    bool whole = leat_file_write(fd, head, block_end(used), 0) == LEAT_OK && fsync(fd) == 0;
    close(fd);
    whole = whole && rename(new_path, path) == 0;
    if (!whole)
        unlink(new_path);
    return whole;
}

/* ---- its end ---- */

/* A frame whose header is whole says where the next one begins: if that continues it, only the body
 * is bad. */
static uint64_t scrub_proven_again(const struct scrub *scrub, const struct leat_log_shape *shape)
{
    uint64_t end_pos = scrub->base_pos + shape->segment_bytes;
    struct leat_chain chain = scrub->chain;
    uint64_t at = chain.position - scrub->base_pos, extent;
    const struct leat_frame *frame = (const void *)(scrub->bytes + at);
    if (at + sizeof(*frame) > shape->segment_bytes ||
        frame->length_bytes < LEAT_FRAME_HEADER_BYTES ||
        frame->length_bytes > shape->segment_bytes - at)
        return end_pos;
    leat_chain_advance(&chain, frame,
                       leat_frame_extent(shape, chain.position, frame->length_bytes));
    uint64_t next_pos = chain.position;
    if (next_pos >= end_pos ||
        leat_frame_check(shape, &chain, scrub->bytes + (next_pos - scrub->base_pos),
                         end_pos - next_pos, &extent) != LEAT_OK)
        return end_pos;
    return next_pos;
}

static bool scrub_is_true(const struct scrub *scrub, const struct log *log)
{
    return scrub->epoch == atomic_load_explicit(&log->helper.sealed_epoch, memory_order_acquire) &&
           scrub->base_pos < atomic_load_explicit(&log->helper.sealed_end, memory_order_acquire) &&
           scrub->base_pos >=
               max_u64(log->helper.unlinked_pos,
                       atomic_load_explicit(&log->helper.unlink_below, memory_order_acquire));
}

/* The segment below may have waited for this one's index, since nobody knew what it must end in. */
static void scrub_look_below(struct leat_storage *storage, const struct scrub *scrub,
                             struct log *log)
{
    uint64_t begin_pos = atomic_load_explicit(&log->helper.sealed_begin, memory_order_relaxed);
    if (scrub->base_pos <= begin_pos)
        return;
    uint64_t below_pos = scrub->base_pos - log->shape.segment_bytes;
    if (segment_index_holds(storage, log, below_pos))
        return;
    log->helper.indexed_pos = min_u64(log->helper.indexed_pos, below_pos);
    helper_look_at(storage, scrub->log_index);
}

/* It does not hold, or nobody knows what it must end in. Where that was read for somebody who
 * waits, all who wait for a segment of the log wait for longer: no more than a fifth of the time
 * goes into what is read in vain. */
static void scrub_failed(const struct scrub *scrub, struct log_helper *helper)
{
    if (!scrub->asked)
        return;
    uint64_t now_ns = helper_now_ns(), took_ns = now_ns - scrub->begin_ns;
    helper->failed = scrub->base_pos + 1;
    helper->rest_until_ns = now_ns + max_u64(SCRUB_PAUSE_NS, 4 * took_ns);
}

static void scrub_proved(struct leat_storage *storage, struct scrub *scrub, struct log *log)
{
    log->helper.proved_pos = scrub->base_pos;
    log->helper.proved_crc = ((const struct leat_frame *)(const void *)scrub->bytes)->previous_crc;
    log->helper.proved_epoch = scrub->epoch;
    if (segment_index_holds(storage, log, scrub->base_pos))
        return;
    if (index_write(storage, scrub, log))
        scrub_look_below(storage, scrub, log);
    else
        prove_note_whole(log, scrub->base_pos, scrub->epoch);
}

static void scrub_judge(struct leat_storage *storage, struct scrub *scrub)
{
    struct log *log = &storage->logs[scrub->log_index];
    uint64_t end_pos = scrub->base_pos + log->shape.segment_bytes;
    struct helper_report report = {scrub->log_index, scrub->epoch, scrub->base_pos,
                                   scrub->chain.position, end_pos};
    bool whole = scrub->chain.position == end_pos;
    uint32_t next_crc;
    bool next_is_known = whole && prove_next_crc(storage, log, scrub->base_pos, &next_crc);
    if (!scrub_is_true(scrub, log))
        return;
    if (next_is_known && next_crc == scrub->chain.crc) {
        scrub_proved(storage, scrub, log);
        return;
    }
    scrub_failed(scrub, &log->helper);
    if (whole && !next_is_known && prove_knows_next(storage, log, scrub->base_pos))
        scrub_doubt(storage, scrub->log_index, end_pos); /* its BASE frame cannot be read */
    if (scrub->unknown || (whole && !next_is_known))
        return;
    if (whole)
        report.begin_pos = scrub->base_pos;
    else
        report.end_pos = scrub_proven_again(scrub, &log->shape);
    report_damage(storage, &report);
}

static void scrub_go_on(struct leat_storage *storage, struct scrub *scrub)
{
    struct log *log = &storage->logs[scrub->log_index];
    uint64_t left = log->shape.segment_bytes - scrub->read_bytes;
    LEAT_ASSERT(log->helper.known && left > 0);
    scrub_read(storage, scrub, min_u64(left, SCRUB_READ_BYTES));
    if (!scrub->stopped)
        scrub_verify(scrub, &log->shape);
    if (scrub->read_bytes < log->shape.segment_bytes)
        return;
    if (!scrub_is_true(scrub, log)) { /* cut meanwhile */
        log->helper.indexed_pos = min_u64(log->helper.indexed_pos, scrub->base_pos);
        helper_look_at(storage, scrub->log_index);
    }
    scrub_judge(storage, scrub);
    scrub_end(scrub);
}

/* ---- which segment ---- */

static bool scrub_make(struct leat_storage *storage)
{
    if (storage->scrub)
        return true;
    storage->scrub = calloc(1, sizeof(*storage->scrub));
    return storage->scrub != NULL;
}

bool scrub_wants_index(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    struct log_helper *helper = &log->helper;
    uint64_t end_pos = atomic_load_explicit(&helper->sealed_end, memory_order_acquire);
    uint64_t begin_pos = atomic_load_explicit(&helper->sealed_begin, memory_order_relaxed);
    helper->indexed_pos = max_u64(helper->indexed_pos, begin_pos);
    if (helper->indexed_pos >= end_pos)
        return false;
    uint64_t base_pos = helper->indexed_pos;
    if (!scrub_make(storage))
        return true;
    const struct scrub *scrub = storage->scrub;
    bool reads_for_it = scrub->busy && !scrub->paced && scrub->log_index == index;
    if (!reads_for_it && segment_index_holds(storage, log, base_pos)) {
        helper->indexed_pos = base_pos + log->shape.segment_bytes;
        return true;
    }
    if (scrub->busy)
        return true;
    /* those between wait for it: scrub_look_below(). Damaged ones are not tried again until they
     * are repaired, which writes the index too */
    uint64_t first_pos = prove_first(storage, log, base_pos);
    if (first_pos == UINT64_MAX)
        helper->indexed_pos = end_pos;
    else if (scrub_begin(storage, index, first_pos, false))
        helper->indexed_pos = first_pos + log->shape.segment_bytes;
    return true;
}

/* Who paces itself makes room for what somebody waits for and begins with its segment again; once,
 * and then hurries. */
static void scrub_put_off(struct scrub *scrub)
{
    bool again = scrub->put_off == scrub->base_pos + 1;
    scrub->put_off = again ? 0 : scrub->base_pos + 1;
    scrub->paced = !again;
    if (again)
        return;
    scrub->turn_pos = scrub->base_pos;
    scrub_end(scrub);
}

void leat_storage_suspect(struct leat_storage *storage, uint32_t index, uint64_t position)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    struct log *log = &storage->logs[index];
    uint64_t none = 0, base_pos = leat_segment_base(&log->shape, position);
    if (life_damage_is_known(storage, index, base_pos))
        return;
    atomic_compare_exchange_strong_explicit(&log->helper.suspect, &none, base_pos + 1,
                                            memory_order_relaxed, memory_order_relaxed);
    helper_look_at(storage, index); /* releases it */
}

void scrub_doubt(struct leat_storage *storage, uint32_t index, uint64_t base_pos)
{
    struct log_helper *helper = &storage->logs[index].helper;
    if (helper->doubted == 0)
        helper->doubted = base_pos + 1;
    helper_look_at(storage, index);
}

static bool is_sealed(const struct log_helper *helper, uint64_t base_pos)
{
    return base_pos < atomic_load_explicit(&helper->sealed_end, memory_order_acquire) &&
           base_pos >= atomic_load_explicit(&helper->sealed_begin, memory_order_relaxed);
}

/* What the worker left in its two words, and what is still to be looked at of it. */
static void scrub_take_asked(const struct leat_storage *storage, struct log *log)
{
    struct log_helper *helper = &log->helper;
    bool rests = helper_now_ns() < helper->rest_until_ns;
    uint64_t asked = atomic_exchange_explicit(&helper->asked, 0, memory_order_relaxed);
    if (helper->doubted == 0) {
        helper->doubted = atomic_exchange_explicit(&helper->suspect, 0, memory_order_relaxed);
        if (helper->doubted != 0 && !prove_knows_next(storage, log, helper->doubted - 1))
            asked = helper->doubted; /* it may be whole, and not the log's */
    }
    if (helper->doubted != 0 &&
        (!is_sealed(helper, helper->doubted - 1) || (rests && helper->failed == helper->doubted)))
        helper->doubted = 0;
    if (asked != 0 && (helper->sought == 0 || asked < helper->sought))
        helper->sought = asked;
    if (helper->sought != 0 && (rests || !is_sealed(helper, helper->sought - 1)))
        helper->sought = 0;
}

/* What is to be read for the one that is sought: what it must end in comes first, from above. */
static uint64_t scrub_next_sought(const struct leat_storage *storage, const struct log *log,
                                  uint64_t sought_pos)
{
    const struct log_helper *helper = &log->helper;
    uint64_t epoch = atomic_load_explicit(&helper->sealed_epoch, memory_order_acquire);
    uint64_t first_pos = helper->proved_pos - log->shape.segment_bytes; /* it goes on from there */
    if (prove_knows_next(storage, log, sought_pos))
        return sought_pos;
    if (helper->proved_pos <= sought_pos || helper->proved_epoch != epoch ||
        prove_found_whole(storage, log, first_pos))
        first_pos = prove_first(storage, log, sought_pos);
    /* where that was in vain the last time, it is looked at by itself */
    return first_pos == UINT64_MAX || first_pos + 1 == helper->failed ? sought_pos : first_pos;
}

static uint64_t scrub_take_next(const struct leat_storage *storage, struct log *log)
{
    struct log_helper *helper = &log->helper;
    if (helper->doubted != 0) {
        uint64_t doubted_pos = helper->doubted - 1;
        helper->doubted = 0;
        return doubted_pos;
    }
    uint64_t sought_pos = helper->sought - 1;
    uint64_t base_pos = scrub_next_sought(storage, log, sought_pos);
    if (base_pos == sought_pos)
        helper->sought = 0;
    return base_pos;
}

bool scrub_wants_look(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    scrub_take_asked(storage, log);
    if (log->helper.doubted == 0 && log->helper.sought == 0)
        return false;
    if (!scrub_make(storage))
        return true;
    struct scrub *scrub = storage->scrub;
    if (scrub->busy && scrub->paced)
        scrub_put_off(scrub);
    if (scrub->busy) {
        scrub->wanted |= scrub->log_index == index;
        return true;
    }
    uint64_t base_pos = scrub_take_next(storage, log);
    scrub->asked = scrub->wanted = scrub_begin(storage, index, base_pos, false);
    return true;
}

/* The next sealed segment in turn, over all logs. */
static bool scrub_choose(struct leat_storage *storage, struct scrub *scrub)
{
    for (uint32_t i = 0; i <= LEAT_LOGS_MAX; i++) {
        const struct log *log = &storage->logs[scrub->turn_log];
        if (log->helper.known) {
            uint64_t end_pos = atomic_load_explicit(&log->helper.sealed_end, memory_order_acquire);
            uint64_t begin_pos =
                max_u64(scrub->turn_pos,
                        atomic_load_explicit(&log->helper.sealed_begin, memory_order_relaxed));
            if (begin_pos < end_pos) {
                scrub->turn_pos = begin_pos + log->shape.segment_bytes;
                return scrub_begin(storage, scrub->turn_log, begin_pos, true);
            }
        }
        scrub->turn_log = (scrub->turn_log + 1) % LEAT_LOGS_MAX;
        scrub->turn_pos = 0;
    }
    return false;
}

/* Allows a quarter of a second's worth at once. */
static bool scrub_may_read(const struct leat_storage *storage, struct scrub *scrub)
{
    uint64_t rate = storage->config.scrub_bytes_per_s, now_ns = helper_now_ns();
    uint64_t passed_ns = min_u64(now_ns - scrub->budget_ns, 1000000000ull);
    uint64_t gained = (uint64_t)((double)rate * (double)passed_ns / 1e9);
    if (gained > 0)
        scrub->budget_ns = now_ns;
    scrub->budget_bytes =
        min_u64(scrub->budget_bytes + gained, max_u64(rate / 4, SCRUB_READ_BYTES));
    if (scrub->budget_bytes < SCRUB_READ_BYTES)
        return false;
    scrub->budget_bytes -= SCRUB_READ_BYTES;
    return true;
}

enum leat_storage_step scrub_step(struct leat_storage *storage)
{
    if (!storage->scrub && storage->config.scrub_bytes_per_s == 0)
        return LEAT_STORAGE_IDLE;
    if (!scrub_make(storage))
        return LEAT_STORAGE_IDLE;
    struct scrub *scrub = storage->scrub;
    if (!scrub->busy && (storage->config.scrub_bytes_per_s == 0 ||
                         helper_now_ns() - scrub->pause_ns < SCRUB_PAUSE_NS))
        return LEAT_STORAGE_IDLE;
    if (!scrub->busy && !scrub_choose(storage, scrub)) {
        scrub->pause_ns = helper_now_ns();
        return LEAT_STORAGE_IDLE;
    }
    if (scrub->paced && !scrub_may_read(storage, scrub))
        return LEAT_STORAGE_IDLE;
    if (reports_are_full(storage))
        return LEAT_STORAGE_IDLE;
    bool ahead = !scrub->paced && !scrub->wanted;
    scrub_go_on(storage, scrub);
    return ahead ? LEAT_STORAGE_AHEAD : LEAT_STORAGE_WORKED;
}
