/* SPDX-License-Identifier: Apache-2.0
 *
 * The vote slots: every combination of what the two may hold, and rounds.
 */
#include "support.h"

#include <string.h>

#include "disk_fake.h"

#define SLOT LEAT_VOTE_SLOT_BYTES

static struct rig rig;
static uint8_t newer[2][LEAT_BLOCK_BYTES], olds[2][LEAT_BLOCK_BYTES];
static char votes_path[600];

static int setup(void **state)
{
    fake_rig_start(&rig);
    rig_path(&rig, "w0/votes", votes_path);
    *state = &rig;
    return 0;
}

static void vote_and_wait(uint32_t term, uint32_t for_node, uint64_t seq)
{
    leat_storage_vote(rig.storage, 1, term, for_node, seq);
    while (rig.logs[1].voted_seq < seq)
        assert_true(rig_turn(&rig) >= 0);
}

static void a_vote_is_reported_after_both_slots(void **state)
{
    (void)state;
    fake.held = true;
    leat_storage_vote(rig.storage, 1, 3, 2, 1);
    rig_turn(&rig);
    assert_int_equal(fake_queued(), 1); /* one slot at a time */
    leat_storage_vote(rig.storage, 0, 4, 3, 1);
    leat_storage_vote(rig.storage, 1, 5, LEAT_VOTED_NONE, 2);
    fake_step(0);
    rig_turn(&rig);
    rig_turn(&rig);
    assert_int_equal(rig.logs[1].voted_seq, 0);
    assert_int_equal(fake_queued(), 1); /* the other slot */
    fake_step(0);
    rig_turn(&rig);
    assert_int_equal(rig.logs[1].voted_seq, 1);
    assert_int_equal(rig.logs[0].voted_seq, 0);
    uint64_t writes = fake.writes;
    fake.held = false;
    while (rig.logs[1].voted_seq < 2)
        rig_turn(&rig);
    assert_int_equal(rig.logs[0].voted_seq, 1);
    assert_int_equal(fake.writes, writes + 2); /* both in the same round */
}

static void pins_are_remembered(void **state)
{
    (void)state;
    struct leat_peer_pin pin = {
        .node = {{9}}, .incarnation = 4, .durable_high = {1, 2}, .node_id = 3};
    leat_storage_pin_peer(rig.storage, &pin);
    rig_turn(&rig);
    rig.now_ns += 1000000000;
    uint64_t writes = leat_storage_counters(rig.storage)->vote_writes;
    while (leat_storage_counters(rig.storage)->vote_writes < writes + 2)
        rig_turn(&rig);
    rig_crash(&rig);
    rig_start(&rig);
    assert_memory_equal(leat_storage_peer_pin(rig.storage, 3), &pin, sizeof(pin));
    assert_null(leat_storage_peer_pin(rig.storage, 2));
}

/* What one slot may hold: as written, the round before, torn at any sector between the two, or with
 * a flipped bit. */
enum content { WHOLE, OLDER, TORN, FLIPPED, CONTENTS };

static const unsigned flips[] = {0, 4, 8, 12, 16, 32, 40, 48, 52, 56, 60, 64, 68};
#define FLIPS (sizeof(flips) / sizeof(flips[0]))
#define TEARS 7u

static unsigned variants_of(enum content content)
{
    return content == TORN ? TEARS : content == FLIPPED ? FLIPS * 8 : 1;
}

/* Returns the term that the slot speaks for, 0 when it is bad. */
static uint32_t put_slot(unsigned slot, enum content content, unsigned variant)
{
    uint8_t block[LEAT_BLOCK_BYTES];
    memcpy(block, newer[slot], sizeof(block));
    if (content == OLDER)
        memcpy(block, olds[slot], sizeof(block));
    if (content == TORN) /* the sectors behind are garbage */
        memset(block + 512 * (variant + 1), 0xa5, sizeof(block) - 512 * (variant + 1));
    if (content == TORN) /* and the first one is half old */
        memcpy(block, olds[slot], 64);
    if (content == FLIPPED)
        block[flips[variant / 8]] ^= (uint8_t)(1u << (variant % 8));
    rig_file_write(votes_path, slot * SLOT, block, sizeof(block));
    return content == WHOLE ? 6 : content == OLDER ? 5 : 0;
}

static void check_pair(enum content a, unsigned av, enum content b, unsigned bv)
{
    struct leat_storage_log_info info;
    uint32_t term_a = put_slot(0, a, av), term_b = put_slot(1, b, bv);
    uint32_t expect = term_a > term_b ? term_a : term_b;
    int rc = rig_open(&rig);
    if (expect == 0) {
        assert_int_equal(rc, LEAT_EVOTES);
        rig.storage = NULL;
        return;
    }
    assert_int_equal(rc, LEAT_OK);
    leat_storage_log_info(rig.storage, 1, &info);
    assert_int_equal(info.vote_term, expect);
    assert_int_equal(info.voted_for, expect == 6 ? 3 : 2);
    rig_stop(&rig);
}

/* Of the votes, since a start began. */
static uint64_t first_write_offset;

static void first_write_note(struct fake_write *write)
{
    if (first_write_offset == UINT64_MAX && strstr(write->path, "/votes"))
        first_write_offset = write->offset;
}

/* What put_slot() chooses from; the node is dead then. */
static void keep_two_rounds(void)
{
    vote_and_wait(5, 2, 1);
    for (unsigned slot = 0; slot < 2; slot++)
        rig_file_read(votes_path, slot * SLOT, olds[slot], LEAT_BLOCK_BYTES);
    vote_and_wait(6, 3, 2);
    for (unsigned slot = 0; slot < 2; slot++)
        rig_file_read(votes_path, slot * SLOT, newer[slot], LEAT_BLOCK_BYTES);
    rig_crash(&rig);
}

static void every_pair_of_slots_has_one_outcome(void **state)
{
    (void)state;
    keep_two_rounds();
    for (enum content a = WHOLE; a < CONTENTS; a++) {
        for (enum content b = WHOLE; b < CONTENTS; b++) {
            unsigned most = variants_of(a) > variants_of(b) ? variants_of(a) : variants_of(b);
            for (unsigned v = 0; v < most; v++)
                check_pair(a, v % variants_of(a), b, v % variants_of(b));
        }
    }
}

static void a_bad_slot_is_healed_at_the_start(void **state)
{
    (void)state;
    vote_and_wait(5, 2, 1);
    rig_crash(&rig);
    rig_file_flip(votes_path, 30, 1);
    rig_start(&rig);
    rig_crash(&rig);
    rig_file_flip(votes_path, SLOT + 30, 1); /* now the other */
    rig_start(&rig);
    struct leat_storage_log_info info;
    leat_storage_log_info(rig.storage, 1, &info);
    assert_int_equal(info.vote_term, 5);
    assert_int_equal(rig.incarnation >> LEAT_INCARNATION_RANDOM_BITS, 3);
}

/* One slot is torn or of the round before: a start that dies in its first write, of which any
 * sectors landed, leaves the other one. */
static void a_start_that_dies_leaves_the_slot_that_was_read(void **state)
{
    (void)state;
    keep_two_rounds();
    for (unsigned bad = 0; bad < 2; bad++) {
        for (enum content content = OLDER; content <= TORN; content++) {
            struct leat_storage_log_info info;
            put_slot(1 - bad, WHOLE, 0);
            put_slot(bad, content, 0);
            fake_reset();
            fake.keep = true;
            fake.note = first_write_note;
            first_write_offset = UINT64_MAX;
            rig_start(&rig);
            fake_reset();
            assert_int_equal(first_write_offset, bad * SLOT);
            rig_crash(&rig);
            put_slot(1 - bad, WHOLE, 0);
            put_slot(bad, TORN, 3);
            assert_int_equal(rig_open(&rig), LEAT_OK);
            leat_storage_log_info(rig.storage, 1, &info);
            assert_int_equal(info.vote_term, 6);
            rig_stop(&rig);
        }
    }
}

static void a_crash_in_a_round_loses_no_vote_that_was_reported(void **state)
{
    (void)state;
    struct leat_storage_log_info info;
    for (unsigned landed = 0; landed < 2; landed++) {
        uint32_t before = 10 * (landed + 1);
        vote_and_wait(before, 2, before);
        fake.held = true;
        leat_storage_vote(rig.storage, 1, before + 1, 3, before + 1);
        rig_turn(&rig);
        if (landed == 1) {
            fake_step(0);
            fake.fail_after = 0; /* B never lands */
            fake.fail_errno = 5;
        } else {
            fake.fail_after = 0;
            fake.fail_errno = 5;
        }
        fake.held = false;
        while (rig_turn(&rig) >= 0)
            ;
        rig_crash(&rig);
        rig_start(&rig);
        leat_storage_log_info(rig.storage, 1, &info);
        assert_int_equal(info.vote_term, before + landed);
        rig.logs[1].voted_seq = 0;
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_vote_is_reported_after_both_slots),
        CASE(pins_are_remembered),
        CASE(every_pair_of_slots_has_one_outcome),
        CASE(a_bad_slot_is_healed_at_the_start),
        CASE(a_start_that_dies_leaves_the_slot_that_was_read),
        CASE(a_crash_in_a_round_loses_no_vote_that_was_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
