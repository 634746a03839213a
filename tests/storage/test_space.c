/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk that is full, slow or failing, and files that are no more what was opened.
 */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "disk_fake.h"

#define WAIT_NS 20000000000ull /* a bound for what takes the helper's clock */

static struct rig rig;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static int setup(void **state)
{
    fake_rig_start(&rig);
    *state = &rig;
    return 0;
}

static void fill_segment(void)
{
    while (rig.logs[1].chain.position < RIG_SEGMENT + 70000)
        rig_append(&rig, 1, 60000);
    rig_write(&rig, 1);
}

static void no_space_is_a_state_that_passes(void **state)
{
    (void)state;
    struct leat_storage *storage = rig.storage;
    fake.no_space = true;
    fill_segment();
    for (int i = 0; i < 1000; i++) {
        leat_storage_prepare_step(storage);
        assert_true(rig_turn(&rig) >= 0);
    }
    assert_true(leat_storage_is_full(storage));
    assert_true(rig.logs[1].reported_seq < rig.logs[1].write_seq); /* it waits */
    rig_append(&rig, 0, 64);                                       /* all else goes on */
    uint64_t seq = rig_write(&rig, 0);
    leat_storage_vote(storage, 0, 3, 2, 1);
    static uint8_t buffer[4096] __attribute__((aligned(4096)));
    assert_int_equal(leat_storage_read(storage, 1, 0, 4096, buffer, NULL), LEAT_OK);
    while (rig.logs[0].reported_seq < seq || rig.logs[0].voted_seq < 1 || rig.reads == 0)
        assert_true(rig_turn(&rig) >= 0);
    assert_true(leat_storage_counters(storage)->full_waits > 0);
    assert_true(leat_storage_counters(storage)->full_waits < 100); /* at a bounded rate */
    fake.no_space = false;
    uint64_t end_ns = clock_ns() + WAIT_NS;
    while (rig.logs[1].reported_seq < rig.logs[1].write_seq) {
        assert_true(clock_ns() < end_ns);
        leat_storage_prepare_step(storage);
        assert_true(rig_turn(&rig) >= 0);
    }
    assert_false(leat_storage_is_full(storage));
}

static void a_log_that_finds_no_space_is_not_made(void **state)
{
    (void)state;
    struct leat_storage_create create = {.log = {.log_id = 9,
                                                 .entry_bytes_max = 64 << 10,
                                                 .segment_bytes = RIG_SEGMENT,
                                                 .arena_bytes = 2 * RIG_SEGMENT},
                                         .arena = {{1}}};
    uint32_t index;
    create.arena_bytes =
        mmap(NULL, 2 * RIG_SEGMENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fake.no_space = true;
    assert_int_equal(leat_storage_log_create(rig.storage, &create, &index), LEAT_OK);
    while (rig.events[LEAT_STORAGE_CREATED] == 0) {
        leat_storage_prepare_step(rig.storage);
        assert_true(rig_turn(&rig) >= 0);
    }
    assert_int_equal(rig.last[LEAT_STORAGE_CREATED].result, LEAT_ENOSPACE);
    assert_false(leat_storage_log_exists(rig.storage, index));
    char path[600];
    rig_path(&rig, "w0/new-9.1", path);
    assert_false(rig_file_exists(path));
    fake.no_space = false;
    assert_int_equal(leat_storage_log_create(rig.storage, &create, &index), LEAT_OK);
    while (rig.events[LEAT_STORAGE_CREATED] == 1) {
        leat_storage_prepare_step(rig.storage);
        assert_true(rig_turn(&rig) >= 0);
    }
    assert_int_equal(rig.last[LEAT_STORAGE_CREATED].result, LEAT_OK);
    rig_stop(&rig);
    munmap(create.arena_bytes, 2 * RIG_SEGMENT);
}

static void expect_fence(const char *says)
{
    int count = 0;
    for (uint64_t end_ns = clock_ns() + WAIT_NS; count >= 0 && clock_ns() < end_ns;) {
        leat_storage_prepare_step(rig.storage);
        count = rig_turn(&rig);
    }
    assert_int_equal(count, LEAT_EFENCED);
    if (!strstr(leat_storage_fence_reason(rig.storage), says))
        fail_msg("'%s' does not say '%s'", leat_storage_fence_reason(rig.storage), says);
}

static void a_failed_flush_of_the_helper_fences(void **state)
{
    (void)state;
    fill_segment();
    fake.flush_errno = EIO;
    expect_fence("a flush");
}

static void a_truncated_journal_fences(void **state)
{
    (void)state;
    char path[600];
    rig_path(&rig, "w0/journal", path);
    assert_int_equal(truncate(path, 4096), 0);
    expect_fence("the journal (truncated");
}

static void replaced_votes_fence(void **state)
{
    (void)state;
    char path[600], to[600];
    rig_path(&rig, "w0/votes", path);
    rig_path(&rig, "w0/other", to);
    assert_int_equal(rename(path, to), 0);
    expect_fence("the votes (truncated");
}

static void a_deleted_active_segment_fences(void **state)
{
    (void)state;
    char path[600];
    rig_segment_path(&rig, 1, 0, path);
    assert_int_equal(unlink(path), 0);
    expect_fence("a segment (truncated");
}

static void the_age_of_the_oldest_write_is_told(void **state)
{
    (void)state;
    assert_int_equal(leat_storage_oldest_write_ns(rig.storage, rig.now_ns), 0);
    fake.held = true;
    rig_append(&rig, 1, 64);
    rig_write(&rig, 1);
    rig_turn(&rig);
    assert_int_equal(leat_storage_oldest_write_ns(rig.storage, rig.now_ns + 5000), 5000);
    fake.held = false;
    rig_settle(&rig);
    assert_int_equal(leat_storage_oldest_write_ns(rig.storage, rig.now_ns), 0);
    fake.held = true;
    leat_storage_vote(rig.storage, 1, 3, 2, 1);
    rig_turn(&rig);
    assert_int_equal(leat_storage_oldest_write_ns(rig.storage, rig.now_ns + 7000), 7000);
    fake.held = false;
}

static void a_block_that_cannot_be_read_is_damage(void **state)
{
    (void)state;
    static uint8_t buffer[65536] __attribute__((aligned(4096)));
    for (int i = 0; i < 40; i++)
        rig_append_durably(&rig, 1, 2000);
    fake.bad_block = 5 * 4096;
    assert_int_equal(leat_storage_read(rig.storage, 1, 0, 65536, buffer, NULL), LEAT_OK);
    while (rig.reads < 1 || rig.events[LEAT_STORAGE_DAMAGE] < 1)
        assert_true(rig_turn(&rig) >= 0);
    assert_int_equal(rig.read_result, 5 * 4096);
    assert_memory_equal(buffer, rig.logs[1].arena, 5 * 4096);
    assert_int_equal(rig.last[LEAT_STORAGE_DAMAGE].log_index, 1);
    assert_int_equal(rig.last[LEAT_STORAGE_DAMAGE].sequence, 5 * 4096);
    assert_int_equal(rig.last[LEAT_STORAGE_DAMAGE].result, 6 * 4096);
    assert_int_equal(leat_storage_read(rig.storage, 1, 5 * 4096, 4096, buffer, NULL), LEAT_OK);
    while (rig.reads < 2)
        assert_true(rig_turn(&rig) >= 0);
    assert_int_equal(rig.read_result, LEAT_EDAMAGED);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 1); /* once */
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(no_space_is_a_state_that_passes),
        CASE(a_log_that_finds_no_space_is_not_made),
        CASE(a_failed_flush_of_the_helper_fences),
        CASE(a_truncated_journal_fences),
        CASE(replaced_votes_fence),
        CASE(a_deleted_active_segment_fences),
        CASE(the_age_of_the_oldest_write_is_told),
        CASE(a_block_that_cannot_be_read_is_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
