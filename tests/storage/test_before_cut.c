/* SPDX-License-Identifier: Apache-2.0
 *
 * A log was cut, the disk lost what was written in the cut's place, and shows there the frames of
 * before, which fit what lies below: they are not taken for the log's (docs/recovery.md, behind
 * table V).
 */
#include "support.h"

#include <string.h>
#include <unistd.h>

#define OLD_FRAMES 4u
#define PAYLOAD    60000u

static struct rig rig;
static uint8_t old[RIG_SEGMENT]; /* the segment before the cut */
static uint64_t cut_block;       /* where what was cut begins in it */

typedef void append_call(struct rig *rig, uint32_t index, uint32_t payload_bytes);

/* A log whose appended frames are as long on both sides of a cut, and end with a block. */
static void fill_by(append_call *append, uint32_t term)
{
    rig_append_term(&rig, 1, term);
    for (unsigned i = 0; i < OLD_FRAMES; i++)
        append(&rig, 1, PAYLOAD);
    uint64_t left = LEAT_BLOCK_BYTES - rig.logs[1].chain.position % LEAT_BLOCK_BYTES;
    left += left < 2 * LEAT_FRAME_HEADER_BYTES ? LEAT_BLOCK_BYTES : 0;
    append(&rig, 1, (uint32_t)left - LEAT_FRAME_HEADER_BYTES);
    assert_int_equal(rig.logs[1].chain.position % LEAT_BLOCK_BYTES, 0);
}

static void fill(uint32_t term)
{
    fill_by(rig_append_durably, term);
}

static int setup(void **state)
{
    char path[600];
    fake_rig_start(&rig);
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
    *state = &rig;
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
    rig_crash(&rig);
    rig_start(&rig);
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

/* ---- no cut, but a life that left more than its journal says ---- */

/* The process dies when its writes are in place and the record that names them is not: the journal
 * says that the log ends below them. */
static int setup_without_a_record(void **state)
{
    char path[600];
    fake_rig_start(&rig);
    fill(1);
    cut_block = rig.logs[1].chain.position;
    leat_storage_commit(rig.storage, 1, cut_block);
    fill_by(rig_append, 2); /* in memory only */
    memcpy(old, rig.logs[1].arena, RIG_SEGMENT);
    uint64_t end_pos = rig.logs[1].chain.position;
    rig_crash(&rig);
    rig_segment_path(&rig, 1, 0, path);
    rig_file_write(path, cut_block, old + cut_block, (uint32_t)(end_pos - cut_block));
    rig_start(&rig);
    assert_false(rig.logs[1].recovered.damaged);
    assert_int_equal(rig.logs[1].recovered.chain.position, cut_block);
    fill(3);
    leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
    *state = &rig;
    return 0;
}

/* Simulator's seed 78 of 2026-12-01, with power cuts in the scene lost-rewrites: what the dead life
 * had left was taken for committed, since the log was never cut. */
static void what_no_record_named_is_like_what_was_cut(void **state)
{
    they_break_below_the_floor(state);
}

/* ---- the frame to begin at ---- */

static uint8_t other[RIG_SEGMENT]; /* the segment above, before the cut */
static uint8_t below[RIG_SEGMENT]; /* the one that was cut */

static void grow(uint64_t position, bool committed)
{
    while (rig.logs[1].chain.position < position) {
        rig_append_durably(&rig, 1, PAYLOAD);
        if (committed)
            leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
    }
}

static void forget_index(uint64_t base_pos)
{
    char path[600];
    rig_segment_path(&rig, 1, base_pos, path);
    strcpy(path + strlen(path) - strlen("segment"), "index");
    assert_true(rig_file_exists(path));
    assert_int_equal(unlink(path), 0);
}

/* The log is cut below the BASE frame at `base_pos`, which is written again, and committed; the
 * former one was in place. All sealed segments have their index. */
static void cut_below_a_base(uint64_t base_pos)
{
    char path[600];
    grow(base_pos - 200000, true);
    struct leat_chain kept = rig.logs[1].chain;
    grow(base_pos + 200000, false);
    assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK);
    rig_crash(&rig);
    rig_segment_path(&rig, 1, base_pos, path);
    rig_file_read(path, 0, other, RIG_SEGMENT);
    rig_segment_path(&rig, 1, base_pos - RIG_SEGMENT, path);
    rig_file_read(path, 0, below, RIG_SEGMENT);
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, kept.position);
    rig_cut(&rig, 1, &kept);
    rig_append_term(&rig, 1, 4);
    grow(base_pos + 400000, true);
    rig_prepare_all(&rig);
    rig_crash(&rig);
    rig_start(&rig); /* its first record has all of it in place */
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    rig_append_durably(&rig, 1, 64);
    rig_prepare_all(&rig);
    rig_crash(&rig);
}

/* The disk shows the former one. */
static void recover_with_the_former(uint64_t base_pos)
{
    char path[600];
    struct leat_storage_log_info info;
    rig_segment_path(&rig, 1, base_pos, path);
    rig_file_write(path, 0, other, RIG_SEGMENT);
    assert_int_equal(rig_open(&rig), LEAT_OK);
    assert_int_equal(leat_storage_log_info(rig.storage, 1, &info), LEAT_OK);
    assert_int_equal(info.entry.base_pos, base_pos);
    rig_recover(&rig, 0);
    rig_recover(&rig, 1);
    assert_true(rig.logs[1].recovered.damaged && rig.logs[1].recovered.claim_term == 4);
}

/* Simulator's seed 150 of 2026-11-30: the former one was taken for committed. */
static void a_base_of_before_is_no_place_to_begin(void **state)
{
    (void)state;
    cut_below_a_base(2 * RIG_SEGMENT);
    recover_with_the_former(2 * RIG_SEGMENT);
    const struct leat_recovered *recovered = &rig.logs[1].recovered;
    assert_int_equal(recovered->start_pos, RIG_SEGMENT); /* its index says that it is the log's */
    assert_int_equal(recovered->chain.position, 2 * RIG_SEGMENT);
    assert_int_equal(recovered->commit_d, 2 * RIG_SEGMENT);
}

static void without_an_index_the_one_below_is_none_either(void **state)
{
    (void)state;
    cut_below_a_base(2 * RIG_SEGMENT);
    forget_index(RIG_SEGMENT);
    recover_with_the_former(2 * RIG_SEGMENT);
    const struct leat_recovered *recovered = &rig.logs[1].recovered;
    assert_int_equal(recovered->start_pos, 0);
    assert_int_equal(recovered->chain.position, 2 * RIG_SEGMENT);
    assert_int_equal(recovered->commit_d, 2 * RIG_SEGMENT); /* so far it is what was noted */
}

/* Seed 237: what may be cut has to be in memory. */
static void no_more_is_recovered_than_a_cut_finds_in_memory(void **state)
{
    char path[600];
    (void)state;
    const uint64_t base_pos = RIG_ARENA + 2 * RIG_SEGMENT;
    cut_below_a_base(base_pos);
    for (uint64_t at = 0; at < base_pos; at += RIG_SEGMENT)
        forget_index(at);
    rig_segment_path(&rig, 1, base_pos - RIG_SEGMENT, path);
    rig_file_flip(path, RIG_SEGMENT / 2, 1);
    recover_with_the_former(base_pos);
    const struct leat_recovered *recovered = &rig.logs[1].recovered;
    assert_int_equal(recovered->start_pos, 0);
    assert_int_equal(recovered->commit_d, 0);
    assert_in_range(recovered->durable_pos, RIG_ARENA - 2 * PAYLOAD, RIG_ARENA);
    assert_int_equal(recovered->chain.position, recovered->durable_pos);
    rig_begin(&rig);
    struct leat_chain first = rig_genesis_chain(&rig.shapes[1], rig.logs[1].arena);
    rig_cut(&rig, 1, &first);
    rig_append_term(&rig, 1, 5);
    rig_append_durably(&rig, 1, 64);
    assert_int_equal(rig.logs[1].reported_end, rig.logs[1].chain.position);
}

static void a_base_that_was_noted_is_begun_at(void **state)
{
    (void)state;
    cut_below_a_base(2 * RIG_SEGMENT);
    forget_index(RIG_SEGMENT);
    rig_start(&rig);
    const struct leat_recovered *recovered = &rig.logs[1].recovered;
    assert_int_equal(recovered->start_pos, 2 * RIG_SEGMENT);
    assert_false(recovered->damaged);
    assert_int_equal(recovered->durable_pos, recovered->chain.position);
}

/* Nothing above it counts as committed after damage, and a start begins there all the same. */
static void a_base_that_was_noted_is_begun_at_again(void **state)
{
    (void)state;
    char path[600];
    cut_below_a_base(2 * RIG_SEGMENT);
    forget_index(0);
    forget_index(RIG_SEGMENT);
    rig_segment_path(&rig, 1, 2 * RIG_SEGMENT, path);
    rig_file_flip(path, 300000, 1);
    for (unsigned start = 0; start < 3; start++) {
        rig_start(&rig);
        assert_true(rig.logs[1].recovered.damaged);
        assert_int_equal(rig.logs[1].recovered.start_pos, 2 * RIG_SEGMENT);
        assert_int_equal(rig.logs[1].recovered.commit_d, 2 * RIG_SEGMENT);
        rig_crash(&rig);
    }
    rig_start(&rig);
}

/* Its frames hold up to its end: what was cut had gone on into the next one. */
static void a_segment_that_ends_in_frames_of_before_is_damaged(void **state)
{
    (void)state;
    char path[600];
    cut_below_a_base(2 * RIG_SEGMENT);
    forget_index(RIG_SEGMENT);
    rig_segment_path(&rig, 1, RIG_SEGMENT, path);
    rig_file_write(path, 0, below, RIG_SEGMENT);
    rig_start(&rig);
    assert_false(rig.logs[1].recovered.damaged); /* it lies below the base that was noted */
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    assert_int_equal(leat_storage_segment_fd(rig.storage, 1, RIG_SEGMENT), LEAT_EVERIFYING);
    rig_prepare_all(&rig);
    assert_true(rig_turn(&rig) >= 0);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 1);
    assert_int_equal(leat_storage_segment_fd(rig.storage, 1, RIG_SEGMENT), LEAT_ECORRUPT);
    assert_int_equal(leat_storage_index_fd(rig.storage, 1, RIG_SEGMENT), LEAT_EAGAIN);
}

/* A cut in the first block of the next one puts that in place again: what is sealed stays so. */
static void what_is_sealed_stays_sealed(void **state)
{
    (void)state;
    grow(RIG_SEGMENT + 1, true);
    struct leat_chain kept = rig.logs[1].chain;
    while (kept.position >=
           RIG_SEGMENT + LEAT_BLOCK_BYTES) { /* with little behind the BASE frame */
        rig_append_durably(&rig, 1, PAYLOAD);
        leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
        uint64_t room = RIG_SEGMENT - rig.logs[1].chain.position % RIG_SEGMENT;
        if (room > 2 * PAYLOAD)
            continue;
        rig_roll(&rig, 1);
        rig_append_durably(&rig, 1, 16);
        leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
        kept = rig.logs[1].chain;
        break;
    }
    uint64_t sealed_pos = kept.position & ~(uint64_t)(RIG_SEGMENT - 1);
    assert_true(kept.position < sealed_pos + LEAT_BLOCK_BYTES);
    for (unsigned i = 0; i < 5; i++)
        rig_append_durably(&rig, 1, PAYLOAD);
    rig_prepare_all(&rig);
    int fd = leat_storage_segment_fd(rig.storage, 1, sealed_pos - RIG_SEGMENT);
    assert_true(fd >= 0);
    close(fd);
    rig_cut(&rig, 1, &kept);
    fd = leat_storage_segment_fd(rig.storage, 1, sealed_pos - RIG_SEGMENT);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(leat_storage_repair_begin(rig.storage, 1, sealed_pos - RIG_SEGMENT), LEAT_OK);
    leat_storage_repair_abandon(rig.storage, 1);
}

/* Nor does a start unseal it, which begins above it. */
static void what_was_sealed_is_given_after_a_restart(void **state)
{
    (void)state;
    grow(2 * RIG_SEGMENT - 70000, true);
    rig_roll(&rig, 1);
    rig_append_durably(&rig, 1, 100);
    struct leat_chain kept = rig.logs[1].chain;
    leat_storage_commit(rig.storage, 1, kept.position);
    for (unsigned i = 0; i < 3; i++)
        rig_append_durably(&rig, 1, 50000); /* and not committed */
    rig_prepare_all(&rig);
    rig_cut(&rig, 1, &kept);
    rig_append_term(&rig, 1, 4);
    for (unsigned i = 0; i < 3; i++) {
        rig_append_durably(&rig, 1, 8);
        leat_storage_commit(rig.storage, 1, rig.logs[1].chain.position);
    }
    assert_true(rig.logs[1].chain.position < 2 * RIG_SEGMENT + LEAT_BLOCK_BYTES);
    rig_prepare_all(&rig);
    rig_crash(&rig);
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].chain.position);
    rig_prepare_all(&rig);
    int fd = leat_storage_segment_fd(rig.storage, 1, RIG_SEGMENT);
    assert_true(fd >= 0 || rig.logs[1].recovered.horizon_pos <= RIG_SEGMENT);
    if (fd >= 0)
        close(fd);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(they_break_below_the_floor),
        CASE(they_end_where_a_clean_stop_was),
        CASE(they_end_at_the_floor_of_a_running_node),
        CASE(the_claim_is_kept),
        CASE(memory_is_kept),
        CASE(what_was_kept_is_whole),
        cmocka_unit_test_setup_teardown(what_no_record_named_is_like_what_was_cut,
                                        setup_without_a_record, fake_rig_remove),
        CASE(a_base_of_before_is_no_place_to_begin),
        CASE(without_an_index_the_one_below_is_none_either),
        CASE(no_more_is_recovered_than_a_cut_finds_in_memory),
        CASE(a_base_that_was_noted_is_begun_at),
        CASE(a_base_that_was_noted_is_begun_at_again),
        CASE(a_segment_that_ends_in_frames_of_before_is_damaged),
        CASE(what_is_sealed_stays_sealed),
        CASE(what_was_sealed_is_given_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
