/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealed segments: scrubbed, repaired, indexed.
 */
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/segment_index.h"
#include "disk_fake.h"

#define SEALED  3u
#define WAIT_NS 30000000000ull
#define PIECE   65536u

static struct rig rig;
static uint8_t good[SEALED * RIG_SEGMENT]; /* what the sealed segments hold */

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void step(void)
{
    leat_storage_prepare_step(rig.storage);
    assert_true(rig_turn(&rig) >= 0);
}

static bool index_is_there(uint64_t base_pos)
{
    int fd = leat_storage_index_fd(rig.storage, 1, base_pos);
    if (fd >= 0)
        close(fd);
    else
        assert_int_equal(fd, LEAT_EAGAIN);
    return fd >= 0;
}

static void wait_for_indices(void)
{
    uint64_t end_ns = clock_ns() + WAIT_NS;
    for (unsigned i = 0; i < SEALED;) {
        assert_true(clock_ns() < end_ns);
        step();
        i += index_is_there(i * RIG_SEGMENT);
    }
}

static void wait_for(enum leat_storage_event_kind kind, unsigned count)
{
    uint64_t end_ns = clock_ns() + WAIT_NS;
    while (rig.events[kind] < count) {
        assert_true(clock_ns() < end_ns);
        step();
    }
}

static void scrub_whole_turns(unsigned turns)
{
    uint64_t bytes = leat_storage_counters(rig.storage)->scrubbed_bytes;
    uint64_t end_ns = clock_ns() + WAIT_NS;
    while (leat_storage_counters(rig.storage)->scrubbed_bytes <
           bytes + (turns * SEALED + 1) * RIG_SEGMENT) {
        assert_true(clock_ns() < end_ns);
        step();
    }
}

static int setup(void **state)
{
    char path[600];
    fake_reset();
    rig_format(&rig);
    rig.config.scrub_bytes_per_s = 4ull << 30;
    rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    while (rig.logs[1].chain.position < SEALED * RIG_SEGMENT + 50000) {
        rig_append_durably(&rig, 1, 20000);
        leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
    }
    wait_for_indices();
    for (unsigned i = 0; i < SEALED; i++) {
        rig_segment_path(&rig, 1, i * RIG_SEGMENT, path);
        rig_file_read(path, 0, good + i * RIG_SEGMENT, RIG_SEGMENT);
    }
    *state = &rig;
    return 0;
}

/* ---- the index ---- */

static void index_read(uint64_t base_pos, struct leat_index_head *head, struct leat_index_row *rows)
{
    int fd = leat_storage_index_fd(rig.storage, 1, base_pos);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, head, sizeof(*head), 0), sizeof(*head));
    assert_in_range(head->row_count, 1, RIG_SEGMENT / LEAT_INDEX_STEP_BYTES);
    size_t bytes = head->row_count * sizeof(*rows);
    assert_int_equal(pread(fd, rows, bytes, sizeof(*head)), bytes);
    close(fd);
    struct leat_index_head blank = *head;
    blank.crc = 0;
    uint32_t crc = leat_crc32c(0, &blank, sizeof(blank));
    assert_int_equal(leat_crc32c(crc, rows, bytes), head->crc);
}

static void an_index_names_the_first_frame_of_each_step(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SEALED; i++) {
        struct leat_index_head head;
        struct leat_index_row rows[RIG_SEGMENT / LEAT_INDEX_STEP_BYTES];
        struct leat_chain chain;
        uint64_t base = i * RIG_SEGMENT, step_pos = base, extent;
        unsigned row = 0;
        index_read(base, &head, rows);
        assert_int_equal(head.base_pos, base);
        assert_int_equal(leat_chain_at_base(&rig.shapes[1], base, good + base, RIG_SEGMENT, &chain),
                         LEAT_OK);
        while (chain.position < base + RIG_SEGMENT) {
            uint64_t position = chain.position;
            const struct leat_frame *frame = (const void *)(good + position);
            assert_int_equal(leat_frame_check(&rig.shapes[1], &chain, good + position,
                                              base + RIG_SEGMENT - position, &extent),
                             LEAT_OK);
            if (position < step_pos)
                continue;
            assert_true(row < head.row_count);
            assert_int_equal(rows[row].position, position);
            assert_int_equal(rows[row].offset, frame->offset);
            assert_int_equal(rows[row].time_ns, frame->time_ns);
            row++;
            step_pos = (position / LEAT_INDEX_STEP_BYTES + 1) * LEAT_INDEX_STEP_BYTES;
        }
        assert_int_equal(row, head.row_count);
        assert_int_equal(head.end_offset, chain.next_offset);
    }
    assert_false(index_is_there(SEALED * RIG_SEGMENT)); /* not sealed yet */
}

static void index_path(uint64_t base_pos, char path[600])
{
    rig_segment_path(&rig, 1, base_pos, path);
    strcpy(path + strlen(path) - strlen("segment"), "index");
}

static void a_missing_or_damaged_index_is_made_again(void **state)
{
    (void)state;
    char path[600];
    struct leat_index_head head;
    struct leat_index_row rows[RIG_SEGMENT / LEAT_INDEX_STEP_BYTES];
    rig_crash(&rig);
    index_path(0, path);
    assert_int_equal(unlink(path), 0);
    index_path(RIG_SEGMENT, path);
    rig_file_flip(path, 70, 3);
    rig.config.scrub_bytes_per_s = 0; /* by itself */
    rig_start(&rig);
    uint64_t end_ns = clock_ns() + WAIT_NS;
    while (!index_is_there(0) ||
           leat_storage_counters(rig.storage)->scrubbed_bytes < 2 * RIG_SEGMENT) {
        assert_true(clock_ns() < end_ns);
        step();
    }
    for (unsigned i = 0; i < SEALED; i++)
        index_read(i * RIG_SEGMENT, &head, rows);
}

static void a_trim_takes_the_index_along(void **state)
{
    (void)state;
    char path[600];
    index_path(0, path);
    leat_storage_trim(rig.storage, 1, RIG_SEGMENT);
    uint64_t end_ns = clock_ns() + WAIT_NS;
    while (rig_file_exists(path)) {
        assert_true(clock_ns() < end_ns);
        step();
    }
    assert_int_equal(leat_storage_index_fd(rig.storage, 1, 0), LEAT_ETRIMMED);
    assert_int_equal(leat_storage_bytes_held(rig.storage, 1) % RIG_SEGMENT, 0);
}

/* ---- scrub and repair ---- */

static void whole_segments_are_no_damage(void **state)
{
    (void)state;
    scrub_whole_turns(3);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 0);
}

static int repair_with(uint64_t base_pos, const uint8_t *bytes)
{
    unsigned before = rig.events[LEAT_STORAGE_REPAIRED];
    assert_int_equal(leat_storage_repair_begin(rig.storage, 1, base_pos), LEAT_OK);
    assert_int_equal(leat_storage_repair_begin(rig.storage, 1, base_pos), LEAT_EAGAIN);
    assert_int_equal(leat_storage_repair_put(rig.storage, 1, base_pos, bytes, PIECE), LEAT_EAGAIN);
    uint64_t end_ns = clock_ns() + WAIT_NS;
    for (uint64_t at = 0; at < RIG_SEGMENT;) {
        int rc = leat_storage_repair_put(rig.storage, 1, base_pos + at, bytes + at, PIECE);
        assert_true(rc == LEAT_OK || (rc == LEAT_EAGAIN && at == 0));
        at += rc == LEAT_OK ? PIECE : 0;
        if (at == PIECE && rc == LEAT_OK) /* out of order */
            assert_int_equal(leat_storage_repair_put(rig.storage, 1, base_pos, bytes, PIECE),
                             LEAT_EINVAL);
        assert_true(clock_ns() < end_ns);
        step();
    }
    wait_for(LEAT_STORAGE_REPAIRED, before + 1);
    assert_int_equal(rig.last[LEAT_STORAGE_REPAIRED].sequence, base_pos);
    return (int)rig.last[LEAT_STORAGE_REPAIRED].result;
}

static void flip_find_and_repair(unsigned segment, uint64_t at, unsigned bit)
{
    char path[600];
    static uint8_t bytes[RIG_SEGMENT];
    uint64_t base = segment * RIG_SEGMENT;
    unsigned before = rig.events[LEAT_STORAGE_DAMAGE];
    rig_segment_path(&rig, 1, base, path);
    rig_file_flip(path, at, bit);
    wait_for(LEAT_STORAGE_DAMAGE, before + 1);
    const struct leat_storage_event *event = &rig.last[LEAT_STORAGE_DAMAGE];
    assert_true(event->sequence >= base && event->sequence <= base + at);
    assert_true(base + at < (uint64_t)event->result &&
                (uint64_t)event->result <= base + RIG_SEGMENT);
    scrub_whole_turns(1);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], before + 1); /* once */
    assert_int_equal(repair_with(base, good + base), LEAT_OK);
    rig_file_read(path, 0, bytes, RIG_SEGMENT);
    assert_memory_equal(bytes, good + base, RIG_SEGMENT);
    scrub_whole_turns(1);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], before + 1);
}

static void flipped_bits_are_found_and_repaired(void **state)
{
    (void)state;
    flip_find_and_repair(1, 100, 0);              /* the BASE frame's payload */
    flip_find_and_repair(0, 4, 7);                /* its header */
    flip_find_and_repair(1, 500000, 3);           /* a body */
    flip_find_and_repair(2, RIG_SEGMENT - 50, 1); /* the PAD, next to the active segment */
    assert_int_equal(leat_storage_counters(rig.storage)->repairs, 4);
    rig_crash(&rig);
    rig_start(&rig);
    assert_false(rig.logs[1].recovered.damaged);
}

static void a_lost_file_is_found_and_repaired(void **state)
{
    (void)state;
    char path[600];
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    assert_int_equal(unlink(path), 0);
    wait_for(LEAT_STORAGE_DAMAGE, 1);
    assert_int_equal(rig.last[LEAT_STORAGE_DAMAGE].sequence, RIG_SEGMENT);
    assert_int_equal(repair_with(RIG_SEGMENT, good + RIG_SEGMENT), LEAT_OK);
    assert_true(rig_file_exists(path));
}

static void what_is_not_this_log_repairs_nothing(void **state)
{
    (void)state;
    char path[600];
    static uint8_t bytes[RIG_SEGMENT];
    memcpy(bytes, good + RIG_SEGMENT, RIG_SEGMENT);
    bytes[700000] ^= 4;
    assert_int_equal(repair_with(RIG_SEGMENT, bytes), LEAT_ECHAIN);
    assert_int_equal(repair_with(RIG_SEGMENT, good), LEAT_ECHAIN); /* another segment's */
    /* a chain of its own that the next segment does not continue */
    memcpy(bytes, good + RIG_SEGMENT, RIG_SEGMENT);
    struct leat_chain chain;
    uint64_t extent;
    leat_chain_at_base(&rig.shapes[1], RIG_SEGMENT, bytes, RIG_SEGMENT, &chain);
    leat_frame_check(&rig.shapes[1], &chain, bytes, RIG_SEGMENT, &extent);
    for (uint64_t at = extent; at < RIG_SEGMENT; at += extent) {
        struct leat_frame frame = *(const struct leat_frame *)(const void *)(bytes + at);
        static uint8_t payload[RIG_SEGMENT];
        memcpy(payload, bytes + at + sizeof(frame), frame.length_bytes - sizeof(frame));
        frame.time_ns++;
        extent = leat_frame_seal(&rig.shapes[1], &chain, bytes + at, &frame, payload);
    }
    assert_int_equal(repair_with(RIG_SEGMENT, bytes), LEAT_ECHAIN);
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    rig_file_read(path, 0, bytes, RIG_SEGMENT);
    assert_memory_equal(bytes, good + RIG_SEGMENT, RIG_SEGMENT);
    assert_int_equal(leat_storage_counters(rig.storage)->repairs, 0);
}

static void a_repair_needs_a_whole_next_segment(void **state)
{
    (void)state;
    char path[600];
    rig_stop(&rig); /* what was noted of it is gone */
    rig_segment_path(&rig, 1, 2 * RIG_SEGMENT, path);
    rig_file_flip(path, 80, 1); /* the next one's BASE frame */
    rig.config.scrub_bytes_per_s = 0;
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    unsigned damages = rig.events[LEAT_STORAGE_DAMAGE];
    assert_int_equal(repair_with(RIG_SEGMENT, good + RIG_SEGMENT), LEAT_EDAMAGED);
    wait_for(LEAT_STORAGE_DAMAGE, damages + 1); /* that is told, though nobody scrubs */
    assert_int_equal(leat_segment_base(&rig.shapes[1], rig.last[LEAT_STORAGE_DAMAGE].sequence),
                     2 * RIG_SEGMENT);
    assert_int_equal(repair_with(2 * RIG_SEGMENT, good + 2 * RIG_SEGMENT), LEAT_OK);
    assert_int_equal(repair_with(RIG_SEGMENT, good + RIG_SEGMENT), LEAT_OK);
}

/* Its bytes have come, and the helper has not looked: the segment must not come back. */
static void a_repair_of_what_was_trimmed_ends(void **state)
{
    (void)state;
    char path[600];
    unsigned before = rig.events[LEAT_STORAGE_REPAIRED];
    assert_int_equal(leat_storage_repair_begin(rig.storage, 1, 0), LEAT_OK);
    step();
    for (uint64_t at = 0; at < RIG_SEGMENT; at += PIECE)
        assert_int_equal(leat_storage_repair_put(rig.storage, 1, at, good + at, PIECE), LEAT_OK);
    leat_storage_trim(rig.storage, 1, RIG_SEGMENT);
    while (leat_storage_base_pos(rig.storage, 1) < RIG_SEGMENT)
        rig_turn(&rig);
    wait_for(LEAT_STORAGE_REPAIRED, before + 1);
    assert_int_equal(rig.last[LEAT_STORAGE_REPAIRED].result, LEAT_ETRIMMED);
    rig_prepare_all(&rig);
    rig_segment_path(&rig, 1, 0, path);
    assert_false(rig_file_exists(path));
}

static void a_repair_may_be_abandoned(void **state)
{
    (void)state;
    struct leat_storage *storage = rig.storage;
    assert_int_equal(leat_storage_repair_begin(storage, 1, SEALED * RIG_SEGMENT), LEAT_EINVAL);
    assert_int_equal(leat_storage_repair_begin(storage, 1, 4096), LEAT_EINVAL);
    for (unsigned ready = 0; ready < 2; ready++) {
        assert_int_equal(leat_storage_repair_begin(storage, 1, 0), LEAT_OK);
        uint64_t end_ns = clock_ns() + WAIT_NS;
        while (ready && leat_storage_repair_put(storage, 1, 0, good, PIECE) == LEAT_EAGAIN) {
            assert_true(clock_ns() < end_ns);
            step();
        }
        leat_storage_repair_abandon(storage, 1);
        assert_int_equal(leat_storage_repair_put(storage, 1, PIECE, good, PIECE), LEAT_EINVAL);
        while (leat_storage_repair_begin(storage, 1, 0) == LEAT_EAGAIN) {
            assert_true(clock_ns() < end_ns);
            step();
        }
        leat_storage_repair_abandon(storage, 1);
        for (int i = 0; i < 10; i++)
            step();
    }
    assert_int_equal(rig.events[LEAT_STORAGE_REPAIRED], 0);
    assert_int_equal(repair_with(0, good), LEAT_OK);
}

/* ---- what readers are given ---- */

static int give(uint64_t base_pos)
{
    int fd = leat_storage_segment_fd(rig.storage, 1, base_pos);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? LEAT_OK : fd;
}

static int give_when_known(uint64_t base_pos)
{
    uint64_t end_ns = clock_ns() + WAIT_NS;
    int rc = give(base_pos);
    while (rc == LEAT_EVERIFYING) {
        assert_true(clock_ns() < end_ns);
        step();
        rc = give(base_pos);
    }
    return rc;
}

/* No index: nobody has read the segment through since it was written. */
static void forget_index(uint64_t base_pos)
{
    char path[600];
    index_path(base_pos, path);
    assert_int_equal(unlink(path), 0);
}

static void cut_once(void)
{
    struct leat_chain chain = rig.logs[1].chain;
    rig_append_durably(&rig, 1, 20000);
    rig_cut(&rig, 1, &chain);
}

static void a_log_that_was_cut_gives_what_was_looked_at(void **state)
{
    char path[600];
    (void)state;
    cut_once();
    forget_index(RIG_SEGMENT);
    forget_index(2 * RIG_SEGMENT);
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    rig_file_flip(path, 900000, 1);
    rig_crash(&rig);
    rig_start(&rig);
    assert_true(rig.logs[1].recovered.cut_epoch > 0);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    step();
    assert_int_equal(give(0), LEAT_OK); /* its index says that it was whole */
    assert_int_equal(give(RIG_SEGMENT), LEAT_EVERIFYING);
    assert_int_equal(give_when_known(2 * RIG_SEGMENT), LEAT_OK);
    assert_int_equal(give_when_known(RIG_SEGMENT), LEAT_ECORRUPT); /* nor what lies below the bit */
    assert_int_equal(repair_with(RIG_SEGMENT, good + RIG_SEGMENT), LEAT_OK);
    assert_int_equal(give_when_known(RIG_SEGMENT), LEAT_OK);
}

/* The helper's report is of before a cut when the worker takes it: it says nothing any more. */
static void damage_that_went_unheard_is_looked_for_again(void **state)
{
    char path[600];
    (void)state;
    cut_once();
    forget_index(RIG_SEGMENT);
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    rig_file_flip(path, 900000, 1);
    assert_int_equal(give(RIG_SEGMENT), LEAT_EVERIFYING);
    for (unsigned i = 0; i < 3 * RIG_SEGMENT / 65536; i++)
        leat_storage_prepare_step(rig.storage); /* it reads, and reports; nobody listens */
    cut_once();
    unsigned asked = 0;
    while (give(RIG_SEGMENT) == LEAT_EVERIFYING && rig.events[LEAT_STORAGE_DAMAGE] == 0) {
        assert_true(++asked < 100000);
        step();
    }
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 1);
    assert_int_equal(give(RIG_SEGMENT), LEAT_ECORRUPT);
}

/* A directory stands where the index is made: what was read through is given all the same. */
static void no_index_can_be_written(void **state)
{
    char path[600], new_path[610];
    (void)state;
    cut_once();
    for (uint64_t base = 0; base < 2 * RIG_SEGMENT; base += RIG_SEGMENT) {
        forget_index(base);
        index_path(base, path);
        snprintf(new_path, sizeof(new_path), "%s.new", path);
        assert_int_equal(mkdir(new_path, 0700), 0);
    }
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    rig_file_flip(path, 900000, 1);
    assert_int_equal(give(0), LEAT_EVERIFYING);
    assert_int_equal(give_when_known(0), LEAT_OK);
    assert_false(index_is_there(0));
    assert_int_equal(give(0), LEAT_OK); /* and is not read again */
    assert_int_equal(give_when_known(RIG_SEGMENT), LEAT_ECORRUPT);
    cut_once();
    assert_int_equal(give(0), LEAT_EVERIFYING); /* of before the cut: once more */
    assert_int_equal(give_when_known(0), LEAT_OK);
}

static void a_log_that_was_never_cut_gives_what_is_intact(void **state)
{
    char path[600];
    (void)state;
    forget_index(RIG_SEGMENT);
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    rig_file_flip(path, 900000, 1);
    wait_for(LEAT_STORAGE_DAMAGE, 1);
    assert_int_equal(give(RIG_SEGMENT), LEAT_OK);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_index_names_the_first_frame_of_each_step),
        CASE(a_missing_or_damaged_index_is_made_again),
        CASE(a_trim_takes_the_index_along),
        CASE(whole_segments_are_no_damage),
        CASE(flipped_bits_are_found_and_repaired),
        CASE(a_lost_file_is_found_and_repaired),
        CASE(a_repair_of_what_was_trimmed_ends),
        CASE(what_is_not_this_log_repairs_nothing),
        CASE(a_repair_needs_a_whole_next_segment),
        CASE(a_repair_may_be_abandoned),
        CASE(a_log_that_was_cut_gives_what_was_looked_at),
        CASE(damage_that_went_unheard_is_looked_for_again),
        CASE(no_index_can_be_written),
        CASE(a_log_that_was_never_cut_gives_what_is_intact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
