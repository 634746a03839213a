/* SPDX-License-Identifier: Apache-2.0
 *
 * Starts that die behind one of their first writes, again and again, over a ring so small that the
 * records they leave come round it: what a log has in records that are as old as they get must stay
 * until the log's own turn has come.
 */
#include "support.h"

#include "disk_fake.h"

#define BUSY_LOG 0u
#define OLD_LOG  9u
#define STARTS   30u
#define STEP     8u /* records of the busy log between two points where the power is cut */

static struct rig rig;
static uint64_t ends[RIG_LOGS];

static int setup(void **state)
{
    (void)state;
    fake_reset();
    return 0;
}

/* Each log has a block that is not in place, and an entry that continues others. */
static void begin_to_grow_old(void)
{
    rig_format(&rig);
    rig_start(&rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        rig_append_durably(&rig, i, 3400); /* with the BASE frame, all but a block */
        rig_append_durably(&rig, i, LEAT_BLOCK_BYTES);
        rig_append_durably(&rig, i, 3900); /* so that a record has not room for all */
    }
}

static void lose_power(void)
{
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        ends[i] = rig.logs[i].reported_end;
    rig_crash(&rig);
}

/* All but the busy one fall silent; at every other point the old one says a last word, which needs
 * what is old. */
static void grow_old(unsigned records)
{
    begin_to_grow_old();
    for (unsigned i = 0; i < records; i++)
        rig_append_durably(&rig, BUSY_LOG, 100);
    if (records / STEP % 2 == 1)
        rig_append_durably(&rig, OLD_LOG, 100);
    lose_power();
}

static void recover_all(unsigned records, unsigned starts)
{
    if (rig_open(&rig) != LEAT_OK)
        fail_msg("%u records, %u starts: %s", records, starts, rig.error);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        rig_recover(&rig, i);
        if (rig.logs[i].recovered.durable_pos != ends[i] || rig.logs[i].recovered.damaged)
            fail_msg("%u records, %u starts: log %u ends at %llu of %llu, damaged %d", records,
                     starts, i, (unsigned long long)rig.logs[i].recovered.durable_pos,
                     (unsigned long long)ends[i], rig.logs[i].recovered.damaged);
    }
}

static bool start_with(int writes)
{
    fake.fail_after = writes;
    fake.fail_errno = 5;
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        assert_int_equal(leat_storage_begin(rig.storage, i, &rig.logs[i].recovered,
                                            &rig.logs[i].arena_id, &rig.boot, false),
                         LEAT_OK);
    rig.incarnation = 0;
    bool served = leat_storage_commit_begin(rig.storage, &rig.incarnation) == LEAT_OK;
    fake.dead = true;
    rig_stop(&rig);
    fake.dead = false;
    fake.fail_after = -1;
    return served;
}

static void starts_that_die(int writes)
{
    unsigned round = LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES, died = 0;
    for (unsigned records = 0; records < round; records += STEP) {
        grow_old(records);
        for (unsigned starts = 0; starts < STARTS; starts++) {
            recover_all(records, starts);
            died += !start_with(writes);
        }
        recover_all(records, STARTS);
        rig_remove(&rig);
    }
    assert_true(died > 0);
}

static void starts_that_die_behind_three_writes(void **state)
{
    (void)state;
    starts_that_die(3);
}

static void starts_that_die_behind_four_writes(void **state)
{
    (void)state;
    starts_that_die(4);
}

static void starts_that_die_behind_five_writes(void **state)
{
    (void)state;
    starts_that_die(5);
}

/* The old log is being installed anew, and its first bytes do not come: what it was stays for as
 * long as the ring goes round. */
static void an_install_that_waits(void **state)
{
    (void)state;
    unsigned round = LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES;
    for (unsigned records = 0; records < 3 * round; records += 5 * STEP) {
        begin_to_grow_old();
        struct rig_log *old = &rig.logs[OLD_LOG];
        uint64_t epoch = ++old->recovered.cut_epoch;
        leat_storage_reset(rig.storage, OLD_LOG, 4 * RIG_SEGMENT, epoch);
        while (old->cut_done < epoch)
            assert_true(rig_turn(&rig) >= 0);
        for (unsigned i = 0; i < records; i++)
            rig_append_durably(&rig, BUSY_LOG, 100);
        lose_power();
        for (unsigned starts = 0; starts < 3; starts++) {
            recover_all(records, starts);
            start_with(4);
        }
        rig_remove(&rig);
    }
}

#define CASE(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(starts_that_die_behind_three_writes),
        CASE(starts_that_die_behind_four_writes),
        CASE(starts_that_die_behind_five_writes),
        CASE(an_install_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
