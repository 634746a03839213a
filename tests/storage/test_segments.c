/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments: rolling, the arena's wrap, install, trim, the clean stop, and recovery from a valid
 * arena (tables S and A of docs/recovery.md).
 */
#include "support.h"

#include <string.h>
#include <unistd.h>

#include "disk_fake.h"

static int setup(void **state)
{
    static struct rig rig;
    fake_rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    rig_append_durably(&rig, 1, 64);
    *state = &rig;
    return 0;
}

static void reopen(struct rig *rig)
{
    rig_crash(rig);
    rig_start(rig);
}

/* Appends until the log is `position` long, all of it durable and committed. */
static void fill_to(struct rig *rig, uint64_t position)
{
    while (rig->logs[1].chain.position < position) {
        rig_append_durably(rig, 1, 60000);
        leat_storage_commit(rig->storage, 1, rig->logs[1].reported_end);
    }
    rig_append_durably(rig, 1, 16);
    rig_append_durably(rig, 1, 16);
}

static void segments_roll_and_are_prepared_ahead(void **state)
{
    struct rig *rig = *state;
    char path[600];
    rig_prepare_all(rig);
    rig_segment_path(rig, 1, RIG_SEGMENT, path);
    assert_false(rig_file_exists(path)); /* an idle log holds one segment */
    fill_to(rig, RIG_SEGMENT / 2);
    rig_prepare_all(rig);
    assert_true(rig_file_exists(path)); /* before a byte is wanted there */
    fill_to(rig, 3 * RIG_SEGMENT + 100000);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    assert_int_equal(rig->logs[1].recovered.start_pos, 3 * RIG_SEGMENT); /* S1 */
    assert_int_equal(rig->logs[1].recovered.base_pos, 0);
}

static void a_write_waits_for_its_segment(void **state)
{
    struct rig *rig = *state;
    while (rig->logs[1].chain.position < RIG_SEGMENT + 70000)
        rig_append(rig, 1, 60000);
    uint64_t seq = rig_write(rig, 1);
    for (int i = 0; i < 10; i++)
        rig_turn(rig);
    assert_true(rig->logs[1].reported_seq < seq);
    assert_int_equal(leat_storage_counters(rig->storage)->segment_waits, 1);
    rig_append_durably(rig, 0, 64); /* other logs go on */
    rig_settle(rig);
    assert_int_equal(rig->logs[1].reported_seq, seq);
}

/* Found by test_random, seed 14: the first bytes of a segment lie in the journal only. */
static void a_tail_in_a_segment_that_is_not_made_yet(void **state)
{
    struct rig *rig = *state;
    rig_prepare_all(rig);
    while (RIG_SEGMENT - rig->logs[1].chain.position > 61000)
        rig_append(rig, 1, 60000);
    rig_roll(rig, 1);
    rig_write(rig, 1);
    char path[600];
    rig_segment_path(rig, 1, RIG_SEGMENT, path);
    unlink(path);
    while (rig->logs[1].reported_seq < rig->logs[1].write_seq)
        assert_true(rig_turn(rig) >= 0);
    uint64_t end = rig->logs[1].reported_end;
    assert_true(end > RIG_SEGMENT);
    assert_false(rig_file_exists(path));
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    assert_false(rig->logs[1].recovered.damaged);
    rig_append_durably(rig, 1, 9000);
}

static void a_log_longer_than_its_arena_is_recovered(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, 2 * RIG_ARENA + RIG_SEGMENT / 2);
    uint64_t end = rig->logs[1].reported_end;
    rig_crash(rig);
    assert_int_equal(rig_open(rig), LEAT_OK);
    rig_recover(rig, 0);
    rig_recover(rig, 1);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    assert_true(rig->logs[1].recovered.horizon_pos <= rig->logs[1].recovered.start_pos);
    rig_begin(rig);
    fill_to(rig, 3 * RIG_ARENA);
    end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

static void a_damaged_base_gives_way_to_the_one_below(void **state)
{
    struct rig *rig = *state;
    char path[600];
    fill_to(rig, 2 * RIG_SEGMENT + 200000);
    rig_crash(rig);
    rig_segment_path(rig, 1, 2 * RIG_SEGMENT, path);
    rig_file_flip(path, 70, 1);
    rig_start(rig); /* S2 and V4 */
    assert_int_equal(rig->logs[1].recovered.start_pos, RIG_SEGMENT);
    assert_int_equal(rig->logs[1].recovered.durable_pos, 2 * RIG_SEGMENT);
    assert_true(rig->logs[1].recovered.damaged);
}

/* ADR 0030: recovery ends at a boundary, whatever of a batch is on disk. */
static void a_batch_in_part_is_a_torn_tail(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, 100000);
    rig_append_batch(rig, 1, 600, 20, 20);
    rig_write(rig, 1);
    rig_settle(rig);
    uint64_t boundary = rig->logs[1].chain.position;
    rig_append_batch(rig, 1, 600, 20, 19); /* two blocks and more of it */
    rig_write(rig, 1);
    rig_settle(rig);
    uint64_t end = rig->logs[1].chain.position;
    rig_crash(rig);
    rig_start(rig);
    const struct leat_recovered *recovered = &rig->logs[1].recovered;
    assert_int_equal(recovered->durable_pos, boundary);
    assert_int_equal(recovered->chain.position, boundary);
    assert_false(leat_chain_in_batch(&recovered->chain));
    assert_int_equal(rig->logs[1].visited_end, boundary); /* nor was it shown to the node */
    assert_true(recovered->torn && !recovered->damaged);
    assert_int_equal(recovered->torn_end, end);
    rig_append_durably(rig, 1, 64); /* and the log goes on there */
    end = rig->logs[1].chain.position;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

/* ---- damage and claims ---- */

static void damage_below_the_floor_is_claimed_until_repaired(void **state)
{
    struct rig *rig = *state;
    char path[600];
    fill_to(rig, 400000);
    struct leat_chain good = rig->logs[1].chain;
    static uint8_t copy[RIG_SEGMENT];
    memcpy(copy, rig->logs[1].arena, good.position);
    rig_crash(rig);
    rig_segment_path(rig, 1, 0, path);
    rig_file_flip(path, 200000, 6);
    for (int i = 0; i < 3; i++) { /* stays so over restarts */
        rig_start(rig);
        const struct leat_recovered *recovered = &rig->logs[1].recovered;
        assert_true(recovered->damaged);
        assert_false(recovered->torn || recovered->clean);
        assert_true(recovered->durable_pos <= 200000);
        assert_int_equal(recovered->claim_end, good.position);
        assert_int_equal(recovered->claim_term, 1);
        if (i == 1)
            assert_int_equal(leat_storage_clean_stop(rig->storage), LEAT_OK);
        rig_crash(rig);
    }
    rig_start(rig);
    memcpy(rig->logs[1].arena, copy, good.position); /* a peer sent the bytes */
    rig->logs[1].chain = good;
    rig_write(rig, 1);
    rig_settle(rig);
    reopen(rig);
    assert_true(rig->logs[1].recovered.damaged); /* nobody judged yet */
    leat_storage_drop_claim(rig->storage, 1);
    rig_append_durably(rig, 1, 64);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_false(rig->logs[1].recovered.damaged);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

/* Repaired in part, its process dies, its disk is hurt once more, and the memory is whole (A2):
 * what it once had and said is claimed still. Simulator's seed 80007894: it led without what was
 * committed. */
static void an_older_claim_outlives_new_damage(void **state)
{
    struct rig *rig = *state;
    char path[600];
    static uint8_t copy[RIG_SEGMENT];
    fill_to(rig, 300000);
    struct leat_chain part = rig->logs[1].chain;
    fill_to(rig, 400000);
    uint64_t claimed = rig->logs[1].chain.position;
    memcpy(copy, rig->logs[1].arena, part.position);
    rig_crash(rig);
    rig_segment_path(rig, 1, 0, path);
    rig_file_flip(path, 200000, 6);
    rig_start(rig);
    assert_int_equal(rig->logs[1].recovered.claim_end, claimed);
    memcpy(rig->logs[1].arena, copy, part.position); /* a peer sent so much */
    rig->logs[1].chain = part;
    rig_write(rig, 1);
    rig_settle(rig);
    rig_stop(rig);
    rig_file_flip(path, 100000, 6);
    rig_start(rig);
    const struct leat_recovered *recovered = &rig->logs[1].recovered;
    assert_int_equal(recovered->kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(recovered->chain.position, part.position);
    assert_true(recovered->damaged && !recovered->clean && recovered->durable_pos <= 100000);
    assert_int_equal(recovered->claim_end, claimed);
}

/* The record of a write lands, its blocks do not, and the power goes. */
static void crash_between_record_and_blocks(struct rig *rig)
{
    for (unsigned i = 0; i < fake_queued(); i++) {
        if (fake_is_write_to(i, "journal")) {
            assert_true(fake_step(i));
            break;
        }
    }
    fake.dead = true;
    fake.held = false;
    rig_crash(rig);
    fake.dead = false;
    rig_start(rig);
}

/* A frame of a later term in memory is no proof that what is below it is durable again. */
static void a_claim_outlives_a_later_term_in_memory(void **state)
{
    struct rig *rig = *state;
    char path[600];
    fill_to(rig, 400000);
    uint64_t claimed = rig->logs[1].chain.position;
    rig_append_term(rig, 1, 2);
    rig_stop(rig);
    rig_segment_path(rig, 1, 0, path);
    rig_file_flip(path, 200000, 6);
    rig_start(rig);
    const struct leat_recovered *recovered = &rig->logs[1].recovered;
    assert_int_equal(recovered->kind, LEAT_RECOVERED_ARENA);
    assert_true(recovered->damaged && recovered->durable_pos < claimed);
    assert_int_equal(recovered->claim_end, claimed);
    fake.held = true;
    rig_write(rig, 1);
    rig_turn(rig);
    crash_between_record_and_blocks(rig);
    assert_true(recovered->damaged && recovered->durable_pos < claimed);
    assert_true(recovered->claim_end >= claimed);
}

/* Nor is one that was asked for while a write of what comes before it was on its way. */
static void a_claim_outlives_a_later_term_that_is_asked_for(void **state)
{
    struct rig *rig = *state;
    char path[600];
    static uint8_t copy[RIG_SEGMENT];
    fill_to(rig, 300000);
    struct leat_chain part = rig->logs[1].chain;
    fill_to(rig, 400000);
    struct leat_chain good = rig->logs[1].chain;
    memcpy(copy, rig->logs[1].arena, good.position);
    rig_crash(rig);
    rig_segment_path(rig, 1, 0, path);
    rig_file_flip(path, 200000, 6);
    rig_start(rig);
    memcpy(rig->logs[1].arena, copy, good.position); /* the leader of term 2 sends in two bursts */
    rig->logs[1].chain = part;
    fake.held = true;
    rig_write(rig, 1);
    rig_turn(rig);
    rig->logs[1].chain = good;
    rig_append_term(rig, 1, 2);
    for (int i = 0; i < 5; i++)
        rig_append(rig, 1, 60000);
    rig_write(rig, 1);
    while (fake_queued() > 0)
        fake_step(0);
    rig_turn(rig);
    rig_turn(rig);
    assert_int_equal(rig->logs[1].reported_end, part.position);
    crash_between_record_and_blocks(rig);
    const struct leat_recovered *recovered = &rig->logs[1].recovered;
    assert_true(recovered->damaged && recovered->claim_end >= good.position);
}

/* ---- clean stop ---- */

static void a_clean_stop_says_so_once(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, 300000);
    uint64_t end = rig->logs[1].reported_end;
    assert_int_equal(leat_storage_clean_stop(rig->storage), LEAT_OK);
    reopen(rig);
    assert_true(rig->logs[1].recovered.clean);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    reopen(rig);
    assert_false(rig->logs[1].recovered.clean);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

/* ---- trim ---- */

static void a_trim_unlinks_after_its_record(void **state)
{
    struct rig *rig = *state;
    char path[600];
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    leat_storage_trim(rig->storage, 1, 2 * RIG_SEGMENT);
    rig_prepare_all(rig);
    rig_segment_path(rig, 1, 0, path);  /* of an earlier life: not used again (test_reuse.c) */
    assert_true(rig_file_exists(path)); /* the record is not written yet */
    while (leat_storage_base_pos(rig->storage, 1) < 2 * RIG_SEGMENT)
        rig_turn(rig);
    rig_prepare_all(rig);
    assert_false(rig_file_exists(path));
    static uint8_t buffer[4096] __attribute__((aligned(4096)));
    assert_int_equal(leat_storage_read(rig->storage, 1, 0, 4096, buffer, NULL), LEAT_ETRIMMED);
    assert_int_equal(leat_storage_segment_fd(rig->storage, 1, 0), LEAT_ETRIMMED);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.base_pos, 2 * RIG_SEGMENT);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

/* ---- reads ---- */

static void reads_give_the_log_and_zeros_behind_it(void **state)
{
    struct rig *rig = *state;
    static uint8_t buffer[65536] __attribute__((aligned(4096)));
    for (int i = 0; i < 40; i++)
        rig_append_durably(rig, 1, 1000);
    uint64_t end = rig->logs[1].reported_end;
    memset(buffer, 0xff, sizeof(buffer));
    assert_int_equal(leat_storage_read(rig->storage, 1, 4096, 61440, buffer, NULL), LEAT_OK);
    while (rig->reads == 0)
        assert_true(rig_turn(rig) >= 0);
    assert_int_equal(rig->read_result, 61440);
    assert_memory_equal(buffer, rig->logs[1].arena + 4096, end - 4096);
    for (uint64_t i = end - 4096; i < 61440; i++)
        assert_int_equal(buffer[i], 0);
    fill_to(rig, RIG_SEGMENT + 10000);
    int fd = leat_storage_segment_fd(rig->storage, 1, 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(leat_storage_segment_fd(rig->storage, 1, RIG_SEGMENT), LEAT_EAGAIN);
}

/* ---- install ---- */

#define INSTALL_BASE (8 * RIG_SEGMENT)

static void install_begin(struct rig *rig, uint64_t base_pos)
{
    struct rig_log *log = &rig->logs[1];
    uint64_t epoch = ++log->recovered.cut_epoch;
    leat_storage_reset(rig->storage, 1, base_pos, epoch);
    while (log->cut_done < epoch)
        assert_true(rig_turn(rig) >= 0);
    log->chain = (struct leat_chain){
        .position = base_pos, .next_offset = 1000, .last_time_ns = 5, .term = 3, .crc = 77};
    memset(log->arena, 0xcc, RIG_ARENA); /* what was there is gone */
    rig_append_base(rig, 1);
    rig_append(rig, 1, 5000);
    rig_write(rig, 1);
}

/* Lets `writes` writes of the install land, then the node dies. True when all of it landed. */
static bool install_until(struct rig *rig, unsigned writes, uint64_t base_pos)
{
    install_begin(rig, base_pos);
    fake.held = true;
    bool prepared = false;
    unsigned landed = 0;
    while (rig->logs[1].reported_seq < rig->logs[1].write_seq) {
        assert_true(rig_turn(rig) >= 0);
        if (!prepared)
            rig_prepare_all(rig);
        prepared = true;
        if (fake_queued() == 0)
            continue;
        if (landed == writes)
            break;
        fake_step(0);
        landed++;
    }
    return rig->logs[1].reported_seq == rig->logs[1].write_seq;
}

static void install_at_each_step(struct rig *rig, uint64_t base_pos)
{
    bool done = false;
    for (unsigned writes = 0; !done; writes++) {
        uint64_t old_end = rig->logs[1].reported_end;
        done = install_until(rig, writes, base_pos);
        uint64_t new_end = rig->logs[1].chain.position;
        fake.held = true;
        rig_crash(rig); /* close lets what is in flight land, as a disk may */
        fake.held = false;
        rig_start(rig);
        const struct leat_recovered *recovered = &rig->logs[1].recovered;
        assert_false(recovered->damaged);
        bool is_new = recovered->base_pos == base_pos;
        if (done)
            assert_true(is_new);
        assert_int_equal(recovered->durable_pos, is_new               ? new_end
                                                 : old_end < base_pos ? old_end
                                                                      : base_pos);
        if (is_new)
            done = true;
    }
    rig_prepare_all(rig);
    char path[600];
    rig_segment_path(rig, 1, 0, path);
    assert_false(rig_file_exists(path));
    rig_append_durably(rig, 1, 3000);
    uint64_t end = rig->logs[1].reported_end;
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

static void an_install_leaves_the_old_log_or_the_new(void **state)
{
    fill_to(*state, 100000);
    install_at_each_step(*state, INSTALL_BASE);
}

static void an_install_below_the_old_end(void **state)
{
    fill_to(*state, 2 * RIG_SEGMENT + 5000);
    install_at_each_step(*state, RIG_SEGMENT);
}

/* ---- the arena ---- */

static void a_valid_arena_keeps_what_the_disk_has_not(void **state)
{
    struct rig *rig = *state;
    rig_append_durably(rig, 1, 9000);
    uint64_t durable = rig->logs[1].reported_end;
    for (int i = 0; i < 5; i++)
        rig_append(rig, 1, 3000); /* in memory only */
    uint64_t memory = rig->logs[1].chain.position;
    rig_stop(rig);
    rig_start(rig);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(rig->logs[1].recovered.durable_pos, durable);
    assert_int_equal(rig->logs[1].recovered.chain.position, memory);
    assert_false(rig->logs[1].recovered.damaged || rig->logs[1].recovered.torn);
    rig_write(rig, 1);
    rig_settle(rig);
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
    assert_int_equal(rig->logs[1].recovered.durable_pos, memory);
}

static void a_broken_arena_is_dropped(void **state)
{
    struct rig *rig = *state;
    rig_append_durably(rig, 1, 9000);
    uint64_t durable = rig->logs[1].reported_end;
    rig_append(rig, 1, 3000);
    rig->logs[1].arena[durable + 100] ^= 1;
    rig_stop(rig);
    rig_start(rig);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
    assert_int_equal(rig->logs[1].recovered.durable_pos, durable);
}

static void an_arena_that_wrapped_is_used(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, RIG_ARENA + 2 * RIG_SEGMENT + 77777);
    uint64_t durable = rig->logs[1].reported_end;
    rig_append(rig, 1, 3000);
    uint64_t memory = rig->logs[1].chain.position;
    rig_stop(rig);
    rig_start(rig);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(rig->logs[1].recovered.durable_pos, durable);
    assert_int_equal(rig->logs[1].recovered.chain.position, memory);
}

static void a_cut_without_its_record_is_in_the_published_end(void **state)
{
    struct rig *rig = *state;
    struct leat_chain kept = rig->logs[1].chain;
    for (int i = 0; i < 4; i++)
        rig_append_durably(rig, 1, 3000);
    rig->logs[1].chain = kept; /* lowered before the range is overwritten */
    rig_append_term(rig, 1, 4);
    rig_append(rig, 1, 100);
    uint64_t memory = rig->logs[1].chain.position;
    rig_stop(rig);
    rig_start(rig);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(rig->logs[1].recovered.durable_pos, kept.position);
    assert_int_equal(rig->logs[1].recovered.chain.position, memory);
    rig_write(rig, 1);
    rig_settle(rig);
    reopen(rig);
    assert_int_equal(rig->logs[1].recovered.durable_pos, memory);
    assert_int_equal(rig->logs[1].recovered.chain.term, 4);
}

static void an_amnesiac_keeps_its_arena(void **state)
{
    struct rig *rig = *state;
    leat_storage_set_amnesiac(rig->storage, 1, true);
    rig_append_durably(rig, 1, 100);
    uint64_t durable = rig->logs[1].reported_end;
    rig_append(rig, 1, 100);
    uint64_t memory = rig->logs[1].chain.position;
    rig_stop(rig);
    assert_int_equal(rig_open(rig), LEAT_OK);
    struct leat_storage_log_info info;
    leat_storage_log_info(rig->storage, 1, &info);
    assert_true(info.entry.flags & LEAT_JOURNAL_AMNESIAC);
    rig_recover(rig, 0);
    rig_recover(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(rig->logs[1].recovered.durable_pos, durable);
    assert_int_equal(rig->logs[1].recovered.chain.position, memory);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(segments_roll_and_are_prepared_ahead),
        CASE(a_write_waits_for_its_segment),
        CASE(a_tail_in_a_segment_that_is_not_made_yet),
        CASE(a_log_longer_than_its_arena_is_recovered),
        CASE(a_damaged_base_gives_way_to_the_one_below),
        CASE(a_batch_in_part_is_a_torn_tail),
        CASE(damage_below_the_floor_is_claimed_until_repaired),
        CASE(an_older_claim_outlives_new_damage),
        CASE(a_claim_outlives_a_later_term_in_memory),
        CASE(a_claim_outlives_a_later_term_that_is_asked_for),
        CASE(a_clean_stop_says_so_once),
        CASE(a_trim_unlinks_after_its_record),
        CASE(reads_give_the_log_and_zeros_behind_it),
        CASE(an_install_leaves_the_old_log_or_the_new),
        CASE(an_install_below_the_old_end),
        CASE(a_valid_arena_keeps_what_the_disk_has_not),
        CASE(a_broken_arena_is_dropped),
        CASE(an_arena_that_wrapped_is_used),
        CASE(a_cut_without_its_record_is_in_the_published_end),
        CASE(an_amnesiac_keeps_its_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
