/* SPDX-License-Identifier: Apache-2.0
 *
 * A log was cut, the disk lost what was written in the cut's place, and shows there the frames of
 * before, which fit what lies below: they are not taken for the log's (docs/recovery.md, behind
 * table V).
 */
#include "support.h"

#include "disk_fake.h"

#define OLD_FRAMES 4u
#define PAYLOAD    60000u

static struct rig rig;
static uint8_t old[RIG_SEGMENT]; /* the segment before the cut */
static uint64_t cut_block;       /* where what was cut begins in it */

/* A log whose appended frames are as long on both sides of a cut, and end with a block. */
static void fill(uint32_t term)
{
    rig_append_term(&rig, 1, term);
    for (unsigned i = 0; i < OLD_FRAMES; i++)
        rig_append_durably(&rig, 1, PAYLOAD);
    uint64_t left = LEAT_BLOCK_BYTES - rig.logs[1].chain.position % LEAT_BLOCK_BYTES;
    left += left < 2 * LEAT_FRAME_HEADER_BYTES ? LEAT_BLOCK_BYTES : 0;
    rig_append_durably(&rig, 1, (uint32_t)left - LEAT_FRAME_HEADER_BYTES);
    assert_int_equal(rig.logs[1].chain.position % LEAT_BLOCK_BYTES, 0);
}

static int setup(void **state)
{
    char path[600];
    (void)state;
    fake_reset();
    rig_format(&rig);
    rig_start(&rig);
    fill(1);
    struct leat_chain kept = rig.logs[1].chain;
    leat_storage_commit(rig.storage, 1, kept.position);
    cut_block = kept.position;
    fill(2);                                                         /* and not committed */
    assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK); /* all of it in place */
    rig_crash(&rig);
    rig_segment_path(&rig, 1, 0, path);
    rig_file_read(path, 0, old, RIG_SEGMENT);
    rig_start(&rig);
    assert_int_equal(rig.logs[1].recovered.chain.term, 2);
    rig_cut(&rig, 1, &kept);
    fill(3);
    leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(&rig);
    fake_reset();
    return 0;
}

/* As if the writes of [cut_block, end_pos) had never been. */
static void forget_rewrite(uint64_t end_pos)
{
    char path[600];
    assert_true(end_pos > cut_block && end_pos < RIG_SEGMENT);
    rig_segment_path(&rig, 1, 0, path);
    rig_file_write(path, cut_block, old + cut_block, (uint32_t)(end_pos - cut_block));
}

static void expect_claim(uint64_t end_pos)
{
    const struct leat_recovered *recovered = &rig.logs[1].recovered;
    assert_true(recovered->damaged && !recovered->clean && !recovered->torn);
    assert_int_equal(recovered->claim_term, 3);
    assert_int_equal(recovered->claim_end, end_pos);
    assert_true(recovered->commit_d <= cut_block);
}

/* Simulator's seed 320802870. */
static void they_break_below_the_floor(void **state)
{
    (void)state;
    uint64_t end_pos = rig.logs[1].chain.position;
    rig_append_durably(&rig, 1, PAYLOAD);
    rig_append_durably(&rig, 1, 64); /* a record that says so */
    uint64_t floor_pos = rig.logs[1].chain.position;
    rig_crash(&rig);
    forget_rewrite(end_pos);
    rig_start(&rig);
    assert_int_equal(rig.logs[1].recovered.chain.term, 2); /* of before, indeed */
    expect_claim(floor_pos);
}

/* A second start and stop: no tail in the journal has any of it then. */
static void stop_and_forget(uint64_t end_pos)
{
    rig_crash(&rig);
    rig_start(&rig);
    assert_false(rig.logs[1].recovered.damaged);
    assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK);
    rig_crash(&rig);
    forget_rewrite(end_pos);
}

static void they_end_where_a_clean_stop_was(void **state)
{
    (void)state;
    uint64_t end_pos = rig.logs[1].chain.position;
    stop_and_forget(end_pos);
    rig_start(&rig);
    assert_int_equal(rig.logs[1].recovered.chain.position, end_pos); /* not a byte is amiss */
    assert_int_equal(rig.logs[1].recovered.chain.term, 2);
    expect_claim(end_pos);
}

static void they_end_at_the_floor_of_a_running_node(void **state)
{
    (void)state;
    uint64_t end_pos = rig.logs[1].chain.position;
    rig_crash(&rig);
    rig_start(&rig); /* its first record has all below it in place */
    assert_false(rig.logs[1].recovered.damaged);
    rig_crash(&rig);
    forget_rewrite(end_pos);
    rig_start(&rig);
    assert_int_equal(rig.logs[1].recovered.chain.position, end_pos);
    assert_int_equal(rig.logs[1].recovered.chain.term, 2);
    expect_claim(end_pos);
}

/* What is said of the log while nobody has mended it is no less. */
static void the_claim_is_kept(void **state)
{
    (void)state;
    uint64_t end_pos = rig.logs[1].chain.position;
    stop_and_forget(end_pos);
    for (unsigned start = 0; start < 3; start++) {
        rig_start(&rig);
        expect_claim(end_pos);
        rig_crash(&rig);
    }
    rig_start(&rig);
}

/* Memory that was kept has the log itself; the disk is not taken to have it. */
static void memory_is_kept(void **state)
{
    (void)state;
    uint64_t end_pos = rig.logs[1].chain.position;
    assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK);
    rig_stop(&rig);
    forget_rewrite(end_pos);
    rig_start(&rig);
    const struct leat_recovered *recovered = &rig.logs[1].recovered;
    assert_int_equal(recovered->kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(recovered->chain.term, 3);
    assert_true(recovered->damaged && recovered->durable_pos <= cut_block);
    assert_int_equal(recovered->claim_end, end_pos);
}

/* The journal speaks of the floor only: what lies above it was never said to be there. */
static void what_was_kept_is_whole(void **state)
{
    (void)state;
    uint64_t end_pos = rig.logs[1].chain.position;
    for (unsigned start = 0; start < 3; start++) {
        rig_append_durably(&rig, 1, 100 * (start + 1));
        end_pos = rig.logs[1].chain.position;
        if (start == 1)
            assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK);
        rig_crash(&rig);
        rig_start(&rig);
        assert_false(rig.logs[1].recovered.damaged);
        assert_int_equal(rig.logs[1].recovered.chain.position, end_pos);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(they_break_below_the_floor),
        CASE(they_end_where_a_clean_stop_was),
        CASE(they_end_at_the_floor_of_a_running_node),
        CASE(the_claim_is_kept),
        CASE(memory_is_kept),
        CASE(what_was_kept_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
