/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes, cuts, faults: what is reported is there afterwards, and nothing is reported early.
 */
#include "support.h"

#include <errno.h>
#include <string.h>

#include "disk_fake.h"

static int setup(void **state)
{
    static struct rig rig;
    fake_rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    rig_append_durably(&rig, 1, 64);
    rig_append_durably(&rig, 0, 64);
    *state = &rig;
    return 0;
}

static void reopen(struct rig *rig)
{
    rig_crash(rig);
    rig_start(rig);
}

static void one_append_is_one_block_and_one_submit(void **state)
{
    struct rig *rig = *state;
    struct leat_storage_counters before = *leat_storage_counters(rig->storage);
    uint64_t writes = fake.writes, submits = fake.submits;
    rig_append_durably(rig, 1, 64);
    const struct leat_storage_counters *after = leat_storage_counters(rig->storage);
    assert_int_equal(after->journal_writes, before.journal_writes + 1);
    assert_int_equal(after->journal_bytes, before.journal_bytes + LEAT_BLOCK_BYTES);
    assert_int_equal(after->segment_writes, before.segment_writes);
    assert_int_equal(fake.writes, writes + 1);
    assert_int_equal(fake.submits, submits + 1);
}

static void two_logs_go_into_one_record(void **state)
{
    struct rig *rig = *state;
    uint64_t writes = fake.writes;
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        rig_append(rig, i, 100);
        rig_write(rig, i);
    }
    rig_settle(rig);
    assert_int_equal(fake.writes, writes + 1);
    uint64_t ends[] = {rig->logs[0].reported_end, rig->logs[1].reported_end};
    reopen(rig);
    assert_int_equal(rig->logs[0].recovered.durable_pos, ends[0]);
    assert_int_equal(rig->logs[1].recovered.durable_pos, ends[1]);
}

/* Turns of a microsecond until the write is on its way. */
static unsigned turns_until_written(struct rig *rig)
{
    uint64_t writes = fake.writes;
    unsigned turns = 0;
    for (; fake.writes == writes; turns++) {
        assert_true(turns < 100000);
        rig_turn(rig);
    }
    return turns;
}

static void a_lazy_write_waits_for_others(void **state)
{
    struct rig *rig = *state;
    const unsigned bound = LEAT_STORAGE_LAZY_NS / 1000;
    rig_append(rig, 1, 100);
    rig_write_lazily(rig, 1);
    assert_in_range(turns_until_written(rig), bound, bound + 2);
    rig_append(rig, 1, 100);
    rig_write_lazily(rig, 1);
    rig_turn(rig);
    rig_append(rig, 0, 100); /* goes with one that does not wait */
    rig_write(rig, 0);
    assert_int_equal(turns_until_written(rig), 1);
    rig_settle(rig);
    assert_int_equal(rig->logs[1].reported_end, rig->logs[1].chain.position);
    rig_append(rig, 1, LEAT_STORAGE_LAZY_BYTES - 1000);
    rig_write_lazily(rig, 1);
    rig_turn(rig);
    uint64_t writes = fake.writes;
    rig_append(rig, 0, 1000); /* or when there is enough */
    rig_write_lazily(rig, 0);
    rig_turn(rig);
    assert_true(fake.writes > writes);
    rig_settle(rig);
}

static void sizes_around_blocks_survive(void **state)
{
    struct rig *rig = *state;
    const uint32_t sizes[] = {0, 1, 3900, 4096 - 48, 4096, 5000, 40000, 64 << 10, 7};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_append_durably(rig, 1, sizes[i]);
        uint64_t end = rig->logs[1].reported_end;
        assert_int_equal(end, rig->logs[1].chain.position);
        reopen(rig);
        assert_int_equal(rig->logs[1].recovered.durable_pos, end);
        assert_int_equal(rig->logs[1].recovered.chain.term, 1);
    }
}

static void nothing_is_reported_before_all_of_it_is_written(void **state)
{
    struct rig *rig = *state;
    rig_append(rig, 1, 60000); /* a record and blocks in place */
    uint64_t seq = rig_write(rig, 1);
    fake.held = true;
    assert_int_equal(rig_turn(rig), 0);
    assert_true(fake_queued() >= 2);
    while (fake_queued() > 0) {
        assert_true(rig->logs[1].reported_seq < seq);
        fake_step(fake_queued() - 1);
        rig_turn(rig);
    }
    fake.held = false;
    assert_int_equal(rig->logs[1].reported_seq, seq);
}

static void batches_in_flight_are_reported_in_order(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->config.writes_in_flight_max = 4;
    rig_start(rig);
    fake.held = true;
    for (int i = 0; i < 4; i++) {
        rig_append(rig, 1, 6000);
        rig_write(rig, 1);
        rig_turn(rig);
    }
    while (fake_queued() > 1) { /* all but the oldest */
        fake_step(fake_queued() - 1);
        rig_turn(rig);
        assert_int_equal(rig->logs[1].reported_seq, 0);
    }
    fake.held = false;
    rig_settle(rig);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

static void an_idle_log_outlives_the_ring(void **state)
{
    struct rig *rig = *state;
    uint64_t idle_end = rig->logs[0].reported_end;
    uint64_t rounds = 2 * LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES + 100;
    for (uint64_t i = 0; i < rounds; i++)
        rig_append_durably(rig, 1, 8);
    assert_true(leat_storage_counters(rig->storage)->reemitted_logs >= 2);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[0].recovered.durable_pos, idle_end);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    assert_false(rig->logs[0].recovered.damaged || rig->logs[1].recovered.damaged);
}

static void large_records_wrap_the_ring(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->config.writes_in_flight_max = 3;
    rig_start(rig);
    for (int i = 0; i < 3000; i++) {
        rig_append(rig, i % 2, (uint32_t)(i * 37 % 4000));
        rig_write(rig, i % 2);
        rig_turn(rig);
        if (i % 5 == 0)
            rig_settle(rig);
    }
    rig_settle(rig);
    uint64_t ends[] = {rig->logs[0].reported_end, rig->logs[1].reported_end};
    reopen(rig);
    assert_int_equal(rig->logs[0].recovered.durable_pos, ends[0]);
    assert_int_equal(rig->logs[1].recovered.durable_pos, ends[1]);
}

static void a_floor_record_closes_the_window(void **state)
{
    struct rig *rig = *state;
    rig_append_durably(rig, 1, 64);
    uint64_t before = leat_storage_counters(rig->storage)->floor_records;
    rig->now_ns += 2000000;
    rig_turn(rig);
    rig_turn(rig);
    assert_int_equal(leat_storage_counters(rig->storage)->floor_records, before + 1);
    rig->now_ns += 2000000;
    uint64_t writes = fake.writes;
    rig_turn(rig);
    assert_int_equal(fake.writes, writes); /* once is enough */
    rig_crash(rig);
    assert_int_equal(rig_open(rig), LEAT_OK);
    struct leat_storage_log_info info;
    leat_storage_log_info(rig->storage, 1, &info);
    assert_int_equal(info.entry.floor_pos, info.entry.end_pos);
}

static void a_commit_position_is_never_above_the_floor(void **state)
{
    struct rig *rig = *state;
    uint64_t floor = rig->logs[1].reported_end;
    rig_append(rig, 1, 64);
    leat_storage_commit(rig->storage, 1, rig->logs[1].chain.position);
    rig_write(rig, 1);
    rig_settle(rig);
    rig_crash(rig);
    assert_int_equal(rig_open(rig), LEAT_OK);
    struct leat_storage_log_info info;
    leat_storage_log_info(rig->storage, 1, &info);
    assert_int_equal(info.entry.commit_d, floor);
    assert_int_equal(info.entry.floor_pos, floor);
}

/* ---- cuts ---- */

static void a_cut_range_does_not_come_back(void **state)
{
    struct rig *rig = *state;
    struct leat_chain kept = rig->logs[1].chain;
    for (int i = 0; i < 20; i++)
        rig_append_durably(rig, 1, 1000);
    rig_cut(rig, 1, &kept);
    rig_crash(rig);
    rig_start(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, kept.position);
    assert_false(rig->logs[1].recovered.damaged || rig->logs[1].recovered.torn);
    rig_append_term(rig, 1, 7);
    rig_append_durably(rig, 1, 2000);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    assert_int_equal(rig->logs[1].recovered.chain.term, 7);
}

static void cut_write_cut_write(void **state)
{
    struct rig *rig = *state;
    rig_append_durably(rig, 1, 3000);
    for (uint32_t round = 0; round < 12; round++) {
        struct leat_chain kept = rig->logs[1].chain;
        for (uint32_t i = 0; i <= round % 4; i++)
            rig_append_durably(rig, 1, 700 + 531 * round);
        rig_cut(rig, 1, &kept);
        rig_append_term(rig, 1, 10 + round);
        rig_append_durably(rig, 1, 50 * round);
        uint64_t end = rig->logs[1].reported_end;
        reopen(rig);
        assert_int_equal(rig->logs[1].recovered.durable_pos, end);
        assert_int_equal(rig->logs[1].recovered.chain.term, 10 + round);
        assert_false(rig->logs[1].recovered.damaged || rig->logs[1].recovered.torn);
    }
}

static void a_cut_waits_for_every_write_above_it(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->config.writes_in_flight_max = 4;
    rig_start(rig);
    struct rig_log *log = &rig->logs[1];
    struct leat_chain kept = log->chain;
    fake.held = true;
    for (int i = 0; i < 3; i++) {
        rig_append(rig, 1, 9000);
        rig_write(rig, 1);
        rig_turn(rig);
    }
    uint64_t epoch = log->recovered.cut_epoch + 1;
    leat_storage_cut(rig->storage, 1, &kept, epoch);
    rig_turn(rig);
    while (fake_queued() > 0) { /* the cut's own record lands first, the rest newest first */
        assert_true(log->cut_done < epoch);
        fake_step(fake_queued() - 1);
        rig_turn(rig);
    }
    assert_int_equal(log->cut_done, epoch);
    assert_int_equal(log->reported_seq, 3); /* reported still */
    fake.held = false;
    log->recovered.cut_epoch = epoch;
    log->chain = kept;
    reopen(rig);
    assert_int_equal(log->recovered.durable_pos, kept.position);
    assert_false(log->recovered.damaged);
}

static void two_cuts_before_one_record(void **state)
{
    struct rig *rig = *state;
    struct rig_log *log = &rig->logs[1];
    struct leat_chain low = log->chain;
    rig_append_durably(rig, 1, 500);
    struct leat_chain high = log->chain;
    rig_append_durably(rig, 1, 9000);
    uint64_t epoch = log->recovered.cut_epoch;
    leat_storage_cut(rig->storage, 1, &high, epoch + 1);
    leat_storage_cut(rig->storage, 1, &low, epoch + 2);
    while (log->cut_done < epoch + 2)
        assert_true(rig_turn(rig) >= 0);
    reopen(rig);
    assert_int_equal(log->recovered.durable_pos, low.position);
}

/* ---- faults ---- */

static void a_failed_write_fences(void **state)
{
    struct rig *rig = *state;
    rig_append(rig, 1, 64);
    uint64_t seq = rig_write(rig, 1);
    fake.fail_after = 0;
    fake.fail_errno = EIO;
    assert_int_equal(rig_turn(rig), LEAT_EFENCED);
    assert_true(rig->logs[1].reported_seq < seq);
    assert_non_null(strstr(leat_storage_fence_reason(rig->storage), "a journal write"));
    uint64_t writes = fake.writes;
    rig_append(rig, 1, 64);
    rig_write(rig, 1);
    leat_storage_vote(rig->storage, 1, 9, 2, 1);
    assert_int_equal(rig_turn(rig), LEAT_EFENCED);
    assert_int_equal(fake.writes, writes);
    assert_int_equal(leat_storage_clean_stop(rig->storage), LEAT_EFENCED);
}

static void a_failed_write_in_place_fences(void **state)
{
    struct rig *rig = *state;
    rig_append(rig, 1, LEAT_PLACE_BYTES_MAX + 9000);
    rig_write(rig, 1);
    fake.fail_after = 1;
    fake.fail_errno = ENOSPC;
    int rc = 0;
    for (int i = 0; i < 3 && rc >= 0; i++)
        rc = rig_turn(rig);
    assert_int_equal(rc, LEAT_EFENCED);
    assert_non_null(strstr(leat_storage_fence_reason(rig->storage), "a segment write"));
}

static void a_short_write_is_carried_on(void **state)
{
    struct rig *rig = *state;
    fake.short_after = 1;
    fake.short_bytes = 4096 + 512;
    rig_append(rig, 1, 30000);
    rig_write(rig, 1);
    rig_settle(rig);
    fake.again_after = 0;
    rig_append_durably(rig, 1, 64);
    assert_int_equal(leat_storage_counters(rig->storage)->resubmitted, 2);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(one_append_is_one_block_and_one_submit),
        CASE(two_logs_go_into_one_record),
        CASE(a_lazy_write_waits_for_others),
        CASE(sizes_around_blocks_survive),
        CASE(nothing_is_reported_before_all_of_it_is_written),
        CASE(batches_in_flight_are_reported_in_order),
        CASE(an_idle_log_outlives_the_ring),
        CASE(large_records_wrap_the_ring),
        CASE(a_floor_record_closes_the_window),
        CASE(a_commit_position_is_never_above_the_floor),
        CASE(a_cut_range_does_not_come_back),
        CASE(cut_write_cut_write),
        CASE(a_cut_waits_for_every_write_above_it),
        CASE(two_cuts_before_one_record),
        CASE(a_failed_write_fences),
        CASE(a_failed_write_in_place_fences),
        CASE(a_short_write_is_carried_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
