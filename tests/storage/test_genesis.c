/* SPDX-License-Identifier: Apache-2.0
 *
 * The first frame of a log, which says its sizes: damaged in its segment, the copy stands in for it
 * and goes in place. Logs 0 and 1 are formatted, log 2 is made at run time.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "disk_fake.h"
#include "state.h"
#include "storage/inspect.h"

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    fake_reset();
    memset(&rig, 0, sizeof(rig));
    rig_format(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop(&rig);
    rig_remove(&rig);
    return 0;
}

static void copy_path(uint32_t index, char path[600])
{
    char segment[600];
    rig_segment_path(&rig, index, 0, segment);
    *strrchr(segment, '/') = 0;
    assert_true(snprintf(path, 600, "%s/genesis", segment) < 600);
}

/* All logs have their first blocks in their segments only; nothing is in memory. */
static void settle_in_place(void)
{
    rig_start(&rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        for (unsigned n = 0; n < 4; n++)
            rig_append_durably(&rig, i, 5000);
    }
    assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK);
    rig_crash(&rig);
}

static uint32_t genesis_bytes(uint32_t index)
{
    struct leat_frame frame;
    char path[600];
    rig_segment_path(&rig, index, 0, path);
    rig_file_read(path, 0, &frame, sizeof(frame));
    assert_int_equal(leat_frame_type(&frame), LEAT_FRAME_BASE);
    return frame.length_bytes;
}

/* Starts, and finds all of the log; its segment is as it was before the damage. */
static void expect_whole(uint32_t index, uint64_t end, const uint8_t before[LEAT_BLOCK_BYTES])
{
    uint8_t after[LEAT_BLOCK_BYTES];
    char path[600];
    if (rig_open(&rig) != LEAT_OK)
        fail_msg("open: %s", rig.error);
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_recover(&rig, i);
    assert_false(rig.logs[index].recovered.damaged);
    assert_int_equal(rig.logs[index].chain.position, end);
    rig_segment_path(&rig, index, 0, path);
    rig_file_read(path, 0, after, sizeof(after));
    assert_memory_equal(before, after, sizeof(after));
    rig_crash(&rig);
}

static void a_flipped_bit_anywhere_is_mended(void **state)
{
    (void)state;
    settle_in_place();
    for (uint32_t index = 0; index < RIG_LOGS; index++) {
        uint64_t end = rig.logs[index].chain.position;
        uint8_t before[LEAT_BLOCK_BYTES];
        struct leat_digest digest;
        char path[600];
        rig_segment_path(&rig, index, 0, path);
        rig_file_read(path, 0, before, sizeof(before));
        for (uint32_t at = 0; at < genesis_bytes(index); at += 7) {
            rig_file_flip(path, at, at % 8);
            assert_int_equal(
                leat_verify_log(rig.directory, index, &digest, rig.error, sizeof(rig.error)),
                LEAT_ECORRUPT);
            assert_non_null(strstr(rig.error, "position 0"));
            expect_whole(index, end, before);
            assert_int_equal(
                leat_verify_log(rig.directory, index, &digest, rig.error, sizeof(rig.error)),
                LEAT_OK);
        }
    }
}

/* A sector of zeros, as a disk gives for one that it lost: what lay behind the frame is damage. */
static void a_lost_block_costs_its_records_only(void **state)
{
    (void)state;
    static const uint8_t zeros[LEAT_BLOCK_BYTES];
    char path[600];
    settle_in_place();
    rig_segment_path(&rig, 2, 0, path);
    rig_file_write(path, 0, zeros, sizeof(zeros));
    assert_int_equal(rig_open(&rig), LEAT_OK);
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_recover(&rig, i);
    const struct leat_recovered *recovered = &rig.logs[2].recovered;
    assert_true(recovered->damaged);
    assert_true(recovered->claim_end > recovered->durable_pos);
    assert_int_equal(recovered->durable_pos,
                     leat_frame_extent(&rig.shapes[2], 0, genesis_bytes(2)));
    rig_begin(&rig);
}

static void a_damaged_copy_is_not_asked(void **state)
{
    (void)state;
    uint8_t before[LEAT_BLOCK_BYTES];
    char path[600];
    settle_in_place();
    rig_segment_path(&rig, 2, 0, path);
    rig_file_read(path, 0, before, sizeof(before));
    copy_path(2, path);
    rig_file_flip(path, 40, 1);
    expect_whole(2, rig.logs[2].chain.position, before);
    assert_int_equal(unlink(path), 0);
    expect_whole(2, rig.logs[2].chain.position, before);
}

static void both_damaged_are_refused_and_nothing_is_changed(void **state)
{
    (void)state;
    char path[600];
    settle_in_place();
    copy_path(1, path);
    rig_file_flip(path, 40, 1);
    rig_segment_path(&rig, 1, 0, path);
    rig_file_flip(path, 50, 1);
    uint32_t fingerprint = rig_fingerprint(&rig);
    assert_int_equal(rig_open(&rig), LEAT_ECORRUPT);
    assert_non_null(strstr(rig.error, "no intact BASE frame"));
    assert_int_equal(rig_fingerprint(&rig), fingerprint);
}

/* Another log's copy, or one of a former log of this id, is not this log's. */
static void a_foreign_copy_is_not_taken(void **state)
{
    (void)state;
    uint8_t block[LEAT_BLOCK_BYTES];
    char path[600];
    settle_in_place();
    copy_path(1, path);
    rig_file_read(path, 0, block, sizeof(block));
    copy_path(2, path);
    rig_file_write(path, 0, block, sizeof(block));
    rig_segment_path(&rig, 2, 0, path);
    rig_file_flip(path, 50, 1);
    assert_int_equal(rig_open(&rig), LEAT_ECORRUPT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_flipped_bit_anywhere_is_mended),
        CASE(a_lost_block_costs_its_records_only),
        CASE(a_damaged_copy_is_not_asked),
        CASE(both_damaged_are_refused_and_nothing_is_changed),
        CASE(a_foreign_copy_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
