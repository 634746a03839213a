/* SPDX-License-Identifier: Apache-2.0
 *
 * An arena that was filled from the disk is no memory that was kept: it proves nothing of what the
 * disk may have lost (simulator's seed 1000002204 at 60d8f54: a node looks twice at a damaged log,
 * the second time with less taken for committed, and the second look saw what the first had put
 * there).
 */
#include "support.h"

#include <string.h>

static struct rig the_rig;

static int setup(void **state)
{
    fake_rig_start(&the_rig);
    for (unsigned i = 0; i < 4; i++)
        rig_append_durably(&the_rig, 1, 3000);
    *state = &the_rig;
    return 0;
}

/* The node's process died, and its arena has nothing of what the disk has. */
static void come_back_with_foreign_bytes(struct rig *rig)
{
    rig_stop(rig);
    memset(rig->logs[1].arena, 0xa5, RIG_ARENA);
    assert_int_equal(rig_open(rig), LEAT_OK);
    rig_recover(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
}

static void a_second_look_is_of_the_disk_too(void **state)
{
    struct rig *rig = *state;
    uint64_t end = rig->logs[1].chain.position;
    come_back_with_foreign_bytes(rig);
    rig_recover_again(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    rig_recover(rig, 0);
    rig_begin(rig);
}

/* The second look begins above what the header says then: row A0, not A4. */
static void a_second_look_at_a_long_log(void **state)
{
    struct rig *rig = *state;
    rig_roll(rig, 1);
    for (unsigned i = 0; i < 100; i++) { /* until a record places what lies before it */
        rig_append_durably(rig, 1, 8000);
        leat_storage_commit(rig->storage, 1, rig->logs[1].reported_end);
    }
    uint64_t end = rig->logs[1].chain.position;
    come_back_with_foreign_bytes(rig);
    assert_int_equal(rig->logs[1].recovered.start_pos, RIG_SEGMENT);
    rig_recover_again(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

static void a_start_that_died_leaves_no_memory(void **state)
{
    struct rig *rig = *state;
    uint64_t end = rig->logs[1].chain.position;
    come_back_with_foreign_bytes(rig);
    rig_stop(rig); /* before it wrote anything */
    assert_int_equal(rig_open(rig), LEAT_OK);
    rig_recover_again(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
}

static void memory_that_was_kept_is_looked_at_twice(void **state)
{
    struct rig *rig = *state;
    rig_append(rig, 1, 3000); /* in memory only */
    uint64_t memory = rig->logs[1].chain.position;
    rig_stop(rig);
    assert_int_equal(rig_open(rig), LEAT_OK);
    rig_recover(rig, 1);
    rig_recover_again(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_ARENA);
    assert_int_equal(rig->logs[1].recovered.chain.position, memory);
    assert_int_equal(rig->logs[1].published_end, memory);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)
    const struct CMUnitTest tests[] = {
        CASE(a_second_look_is_of_the_disk_too),
        CASE(a_second_look_at_a_long_log),
        CASE(a_start_that_died_leaves_no_memory),
        CASE(memory_that_was_kept_is_looked_at_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
