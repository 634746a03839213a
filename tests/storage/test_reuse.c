/* SPDX-License-Identifier: Apache-2.0
 *
 * Trimmed segments are used again, unless somebody may have their files open (H3, ADR 0070); and of
 * what the helper has to do what is waited for comes first (ADR 0071).
 */
#include "support.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk_fake.h"
#include "state.h"

#define BASES 16u /* of segments that the tests look at */

static struct rig the_rig;

static int setup(void **state)
{
    fake_reset();
    rig_format(&the_rig);
    the_rig.config.segments_ahead = 2;
    rig_start(&the_rig);
    *state = &the_rig;
    return 0;
}

static void fill_to(struct rig *rig, uint64_t position)
{
    struct rig_log *log = &rig->logs[1];
    while (log->chain.position < position) {
        if (leat_segment_room(&rig->shapes[1], log->chain.position) < 40000)
            rig_roll(rig, 1);
        rig_append(rig, 1, 30000);
        rig_write(rig, 1);
        rig_settle(rig);
        leat_storage_commit(rig->storage, 1, log->reported_end);
    }
}

/* 0: there is none. */
static ino_t inode_at(const struct rig *rig, uint64_t number)
{
    char path[600];
    struct stat st;
    rig_segment_path(rig, 1, number * RIG_SEGMENT, path);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* The number of the segment whose file this is now; BASES: it is no segment's. */
static uint64_t segment_of(const struct rig *rig, ino_t inode)
{
    uint64_t number = 0;
    while (number < BASES && inode_at(rig, number) != inode)
        number++;
    return number;
}

static void trim_to(struct rig *rig, uint64_t number)
{
    leat_storage_trim(rig->storage, 1, number * RIG_SEGMENT);
    while (leat_storage_base_pos(rig->storage, 1) < number * RIG_SEGMENT)
        rig_turn(rig);
    rig_prepare_all(rig);
}

/* A log of its fourth segment; returns the file of the second, which waits to be used again. */
static ino_t trim_two(struct rig *rig)
{
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    ino_t second = inode_at(rig, 1);
    trim_to(rig, 3);
    assert_int_equal(segment_of(rig, second), 1);
    return second;
}

/* Whatever the file held: the log is what was written since, after a crash too. */
static void goes_on(struct rig *rig, uint64_t to_number)
{
    fill_to(rig, to_number * RIG_SEGMENT + 100000);
    uint64_t end = rig->logs[1].reported_end, base = leat_storage_base_pos(rig->storage, 1);
    rig_crash(rig);
    assert_int_equal(rig_open(rig), LEAT_OK);
    rig_recover(rig, 0);
    rig_recover(rig, 1);
    assert_int_equal(rig->logs[1].recovered.kind, LEAT_RECOVERED_DISK);
    assert_false(rig->logs[1].recovered.damaged);
    assert_int_equal(rig->logs[1].recovered.base_pos, base);
    assert_int_equal(rig->logs[1].recovered.durable_pos, end);
    rig_begin(rig);
}

/* Over half of the active one: those to come are wanted. */
static void want_more(struct rig *rig)
{
    fill_to(rig, leat_segment_base(&rig->shapes[1], rig->logs[1].chain.position) + RIG_SEGMENT / 2 +
                     100000);
    rig_prepare_all(rig);
}

/* A segment to come. */
static uint64_t now_at(const struct rig *rig, ino_t inode)
{
    uint64_t now = segment_of(rig, inode);
    assert_in_range(now, 4, 9);
    return now;
}

static void a_trimmed_file_is_a_segment_to_come(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    ino_t first = inode_at(rig, 0), second = inode_at(rig, 1), third = inode_at(rig, 2);
    trim_to(rig, 3);
    assert_int_equal(segment_of(rig, first), BASES); /* it was there when the node started */
    assert_int_equal(segment_of(rig, second), 1);    /* they wait, below the log */
    assert_int_equal(segment_of(rig, third), 2);
    want_more(rig);
    uint64_t now = now_at(rig, second);
    fill_to(rig, now * RIG_SEGMENT + 1000);
    want_more(rig);
    uint64_t next = now_at(rig, third);
    goes_on(rig, next); /* through both */
    assert_int_equal(inode_at(rig, now), second);
    assert_int_equal(inode_at(rig, next), third);
}

/* What waits below the log is unlinked by the next life; what was renamed is prepared. */
static void a_crash_while_it_waits(void **state)
{
    struct rig *rig = *state;
    ino_t second = trim_two(rig);
    goes_on(rig, 3);
    rig_prepare_all(rig);
    assert_int_equal(segment_of(rig, second), BASES);
    goes_on(rig, 5);
}

static void a_crash_before_it_is_filled(void **state)
{
    struct rig *rig = *state;
    ino_t second = trim_two(rig);
    want_more(rig);
    uint64_t now = now_at(rig, second);
    goes_on(rig, 3);
    assert_int_equal(segment_of(rig, second), now);
    goes_on(rig, now);
    assert_int_equal(inode_at(rig, now), second);
}

static void a_cut_below_what_is_prepared(void **state)
{
    struct rig *rig = *state;
    ino_t second = trim_two(rig);
    want_more(rig);
    struct leat_chain chain = rig->logs[1].chain;
    uint64_t now = now_at(rig, second);
    while (rig->logs[1].chain.position < now * RIG_SEGMENT + 200000) { /* into the reused one */
        if (leat_segment_room(&rig->shapes[1], rig->logs[1].chain.position) < 40000)
            rig_roll(rig, 1);
        rig_append_durably(rig, 1, 30000);
    }
    rig_cut(rig, 1, &chain);
    assert_int_equal(segment_of(rig, second), now);
    goes_on(rig, now);
    assert_int_equal(inode_at(rig, now), second);
}

static void what_a_reader_has_open_is_unlinked(void **state)
{
    struct rig *rig = *state;
    static uint8_t before[RIG_SEGMENT], after[RIG_SEGMENT];
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    ino_t second = inode_at(rig, 1), third = inode_at(rig, 2);
    int fd = leat_storage_segment_fd(rig->storage, 1, RIG_SEGMENT);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, before, sizeof(before), 0), sizeof(before));
    trim_to(rig, 3);
    want_more(rig);
    assert_int_equal(segment_of(rig, second), BASES);
    goes_on(rig, now_at(rig, third));
    assert_int_equal(pread(fd, after, sizeof(after), 0), sizeof(after));
    assert_memory_equal(before, after, sizeof(before));
    close(fd);
}

static void a_former_life_may_have_passed_it(void **state)
{
    struct rig *rig = *state;
    ino_t inodes[4];
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    rig_stop(rig);
    rig_start(rig);
    fill_to(rig, rig->logs[1].chain.position + 1); /* committed in this life */
    for (unsigned i = 0; i < 4; i++)
        inodes[i] = inode_at(rig, i);
    trim_to(rig, 3);
    want_more(rig);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(segment_of(rig, inodes[i]), BASES);
    assert_int_equal(segment_of(rig, inodes[3]), 3);
    goes_on(rig, 5);
}

static void what_a_read_names_is_unlinked(void **state)
{
    struct rig *rig = *state;
    static uint8_t buffer[4096] __attribute__((aligned(4096)));
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    ino_t second = inode_at(rig, 1);
    uint64_t position = 3 * RIG_SEGMENT;
    leat_storage_trim(rig->storage, 1, position);
    fake.held = true;
    assert_int_equal(leat_storage_read(rig->storage, 1, RIG_SEGMENT, 4096, buffer, NULL), LEAT_OK);
    while (leat_storage_base_pos(rig->storage, 1) < position) { /* all but the read */
        rig_turn(rig);
        unsigned which = 0;
        while (which < fake_queued() && !fake_is_write_to(which, ""))
            which++;
        if (which < fake_queued())
            fake_step(which);
    }
    rig_prepare_all(rig);
    assert_int_equal(segment_of(rig, second), BASES);
    fake.held = false;
    while (rig->reads == 0)
        rig_turn(rig);
    assert_int_equal(rig->read_result, 4096);
    goes_on(rig, 5);
}

/* A write that waits is given the trimmed file of its log, which needs no space. */
static void a_full_disk_has_room_for_what_was_trimmed(void **state)
{
    struct rig *rig = *state;
    ino_t second = trim_two(rig);
    fake.no_space = true;
    fill_to(rig, 5 * RIG_SEGMENT + 1000);
    now_at(rig, second);
    fake.no_space = false;
    goes_on(rig, 8);
}

/* What waits below an idle log is given back when another one finds no room. */
static void space_goes_back_where_it_is_short(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, 3 * RIG_SEGMENT + 1000);
    ino_t second = inode_at(rig, 1), third = inode_at(rig, 2);
    trim_to(rig, 3);
    assert_int_equal(segment_of(rig, second), 1);
    fake.no_space = true;
    rig_roll(rig, 0);
    rig_append(rig, 0, 10000);
    rig_write(rig, 0);
    rig_turn(rig);
    rig_prepare_all(rig);
    assert_true(leat_storage_is_full(rig->storage));
    assert_int_equal(segment_of(rig, second), BASES);
    assert_int_equal(segment_of(rig, third), BASES);
    fake.no_space = false;
    rig_settle(rig);
    goes_on(rig, 6);
}

/* No more are kept than are prepared ahead. */
static void a_pool_has_its_size(void **state)
{
    struct rig *rig = *state;
    fill_to(rig, 8 * RIG_SEGMENT + 1000);
    ino_t inodes[8];
    unsigned waiting = 0;
    for (unsigned i = 1; i < 8; i++)
        inodes[i] = inode_at(rig, i);
    trim_to(rig, 8);
    for (unsigned i = 1; i < 8; i++)
        waiting += segment_of(rig, inodes[i]) < BASES;
    assert_int_equal(waiting, 2);
    goes_on(rig, 12);
}

static void a_waiting_write_comes_first(void **state)
{
    struct rig *rig = *state;
    char path[600];
    rig_prepare_all(rig);
    fill_to(rig, RIG_SEGMENT / 2 + 100000); /* log 1 wants three segments, one of them soon */
    enum leat_storage_step step;
    while ((step = leat_storage_prepare_step(rig->storage)) == LEAT_STORAGE_WORKED)
        ;
    assert_int_equal(step, LEAT_STORAGE_AHEAD);
    assert_true(inode_at(rig, 1) != 0);
    assert_false(leat_storage_is_pressed(rig->storage));
    rig_roll(rig, 0); /* beyond log 0's only segment, which asked for none */
    rig_append(rig, 0, 10000);
    rig_write(rig, 0);
    rig_turn(rig);
    assert_true(leat_storage_is_pressed(rig->storage));
    rig_segment_path(rig, 0, RIG_SEGMENT, path);
    assert_int_equal(leat_storage_prepare_step(rig->storage), LEAT_STORAGE_WORKED);
    assert_true(rig_file_exists(path));
    assert_true(rig->storage->logs[1].helper.preparing_fd >= 0); /* it waits meanwhile */
    rig_settle(rig);
    rig_prepare_all(rig);
    assert_false(leat_storage_is_pressed(rig->storage));
    assert_true(rig->storage->logs[1].helper.preparing_fd < 0);
    assert_true(inode_at(rig, 2) != 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, fake_rig_remove)
    const struct CMUnitTest tests[] = {
        CASE(a_trimmed_file_is_a_segment_to_come), CASE(a_crash_while_it_waits),
        CASE(a_crash_before_it_is_filled),         CASE(a_cut_below_what_is_prepared),
        CASE(what_a_reader_has_open_is_unlinked),  CASE(a_former_life_may_have_passed_it),
        CASE(what_a_read_names_is_unlinked),       CASE(a_full_disk_has_room_for_what_was_trimmed),
        CASE(space_goes_back_where_it_is_short),   CASE(a_pool_has_its_size),
        CASE(a_waiting_write_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
