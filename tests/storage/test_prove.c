/* SPDX-License-Identifier: Apache-2.0
 *
 * Many sealed segments without an index: each is read once, from the top down, whoever asks how
 * often for one of them meanwhile; and no more than the scrub's rate where no index can be made.
 */
#include "support.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MANY 24u

static struct rig rig;

static int setup(void **state)
{
    fake_rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    *state = &rig;
    return 0;
}

static void grow_to(uint64_t position)
{
    while (rig.logs[1].chain.position < position) {
        rig_append_durably(&rig, 1, 60000);
        leat_storage_commit(rig.storage, 1, rig.logs[1].reported_end);
    }
}

static void index_path(uint64_t base_pos, char path[600])
{
    rig_segment_path(&rig, 1, base_pos, path);
    strcpy(path + strlen(path) - strlen("segment"), "index");
}

static bool has_index(uint64_t base_pos)
{
    char path[600];
    index_path(base_pos, path);
    return rig_file_exists(path);
}

static uint64_t segments_read(void)
{
    rig_turn(&rig);
    return leat_storage_counters(rig.storage)->scrubbed_bytes / RIG_SEGMENT;
}

static void cut_once(void)
{
    rig_append_durably(&rig, 1, 100);
    struct leat_chain kept = rig.logs[1].chain;
    rig_append_durably(&rig, 1, 100);
    rig_cut(&rig, 1, &kept);
    rig_append_term(&rig, 1, 2);
}

/* The node comes back, and of the sealed segments none has an index; no bases are noted but the one
 * that recovery began at. */
static void restart_without_indices(unsigned count)
{
    char path[600];
    grow_to(count * RIG_SEGMENT + 200000);
    rig_prepare_all(&rig);
    rig_crash(&rig);
    for (unsigned i = 0; i < count; i++) {
        index_path(i * RIG_SEGMENT, path);
        unlink(path);
    }
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
}

static void expect_all_read_once(void)
{
    rig_prepare_all(&rig);
    for (unsigned i = 0; i < MANY; i++)
        assert_true(has_index(i * RIG_SEGMENT));
    assert_int_equal(segments_read(), MANY);
}

static void indices_of_a_log_that_was_never_cut(void **state)
{
    (void)state;
    restart_without_indices(MANY);
    expect_all_read_once();
}

static void indices_of_a_log_that_was_cut(void **state)
{
    (void)state;
    cut_once();
    restart_without_indices(MANY);
    expect_all_read_once();
}

static void a_helper_that_fell_behind(void **state)
{
    (void)state;
    cut_once();
    grow_to(MANY * RIG_SEGMENT + 200000); /* it did nothing but make segments */
    uint64_t before = segments_read();
    rig_prepare_all(&rig);
    for (unsigned i = 0; i < MANY; i++)
        assert_true(has_index(i * RIG_SEGMENT));
    assert_in_range(segments_read() - before, 0, MANY);
}

/* Of a cut log a segment is given out when it is proved, and the proof comes from above. */
static void ask_after_each(unsigned steps)
{
    cut_once();
    restart_without_indices(MANY);
    int fd = LEAT_EVERIFYING;
    for (unsigned asks = 0; fd == LEAT_EVERIFYING; asks++) {
        assert_in_range(asks, 0, 100 * MANY);
        for (unsigned i = 0; i < steps; i++)
            leat_storage_prepare_step(rig.storage);
        fd = leat_storage_segment_fd(rig.storage, 1, 0);
    }
    assert_true(fd >= 0);
    close(fd);
    assert_in_range(segments_read(), MANY, 2 * MANY);
}

static void one_who_asks_after_each_step(void **state)
{
    (void)state;
    ask_after_each(1);
}

static void one_who_asks_after_three(void **state)
{
    (void)state;
    ask_after_each(3);
}

static void one_who_asks_after_eight(void **state)
{
    (void)state;
    ask_after_each(8);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void the_rate_holds_where_no_index_can_be_made(void **state)
{
    const double rate = 4 << 20, at_once = rate / 4 + (256 << 10);
    char path[600];
    (void)state;
    cut_once();
    restart_without_indices(MANY);
    for (unsigned i = 0; i < MANY; i++) {
        index_path(i * RIG_SEGMENT, path);
        strcat(path, ".new");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    rig_prepare_all(&rig); /* in vain */
    rig_stop(&rig);
    rig.config.scrub_bytes_per_s = (uint64_t)rate;
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    while (leat_storage_prepare_step(rig.storage) != LEAT_STORAGE_IDLE)
        ; /* for the index, in vain again */
    uint64_t before = segments_read();
    double begin = seconds();
    while (segments_read() - before < 3)
        leat_storage_prepare_step(rig.storage);
    assert_true(3.0 * RIG_SEGMENT <= rate * (seconds() - begin) + at_once);
    assert_int_equal(segments_read() - before, 3);
}

static void a_cut_while_a_segment_is_read(void **state)
{
    (void)state;
    grow_to(RIG_SEGMENT - 70000);
    rig_roll(&rig, 1);
    rig_append_durably(&rig, 1, 50000);
    rig_prepare_all(&rig);
    struct leat_chain kept = rig.logs[1].chain;
    rig_append_durably(&rig, 1, 50000);
    leat_storage_commit(rig.storage, 1, kept.position); /* the first segment is sealed */
    for (unsigned i = 0; i < 3; i++)
        leat_storage_prepare_step(rig.storage);
    assert_false(has_index(0));
    rig_cut(&rig, 1, &kept);
    rig_prepare_all(&rig);
    assert_true(has_index(0));
}

/* One between is damaged, and nobody repairs it: who asks for what lies below keeps nobody busy. */
static void one_who_asks_in_vain(void **state)
{
    char path[600];
    (void)state;
    cut_once();
    restart_without_indices(MANY);
    rig_segment_path(&rig, 1, MANY / 2 * RIG_SEGMENT, path);
    rig_file_flip(path, RIG_SEGMENT / 2, 3);
    double begin = seconds();
    for (unsigned asks = 0; asks < 20 * MANY; asks++) {
        leat_storage_prepare_step(rig.storage);
        assert_int_equal(leat_storage_segment_fd(rig.storage, 1, 0), LEAT_EVERIFYING);
    }
    assert_true((double)segments_read() <= MANY / 2 + 4 + 2 * (seconds() - begin));
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 1);
    assert_int_equal(leat_segment_base(&rig.shapes[1], rig.last[LEAT_STORAGE_DAMAGE].sequence),
                     MANY / 2 * RIG_SEGMENT);
}

/* What is proved rots in its BASE frame, and nobody scrubs: those below wait for it, so it is found
 * when one of them is asked for. */
static void a_proved_segments_base_rots(void **state)
{
    char path[600];
    (void)state;
    cut_once();
    grow_to(6 * RIG_SEGMENT + 200000);
    rig_prepare_all(&rig);
    rig_crash(&rig);
    for (unsigned i = 0; i < 3; i++) {
        index_path(i * RIG_SEGMENT, path);
        unlink(path);
    }
    rig_segment_path(&rig, 1, 3 * RIG_SEGMENT, path);
    rig_file_flip(path, offsetof(struct leat_frame, previous_crc), 3);
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    assert_int_equal(leat_storage_segment_fd(rig.storage, 1, 0), LEAT_EVERIFYING);
    rig_prepare_all(&rig);
    rig_turn(&rig);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 1);
    assert_int_equal(leat_segment_base(&rig.shapes[1], rig.last[LEAT_STORAGE_DAMAGE].sequence),
                     3 * RIG_SEGMENT);
    assert_int_equal(leat_storage_segment_fd(rig.storage, 1, 3 * RIG_SEGMENT), LEAT_ECORRUPT);
}

/* A suspicion is not lost among the asks of one who waits in vain. */
static void a_suspicion_beside_asks_in_vain(void **state)
{
    char path[600];
    (void)state;
    cut_once();
    restart_without_indices(8);
    for (unsigned i = 4; i < 8; i += 2) {
        rig_segment_path(&rig, 1, i * RIG_SEGMENT, path);
        rig_file_flip(path, RIG_SEGMENT / 2, 3);
    }
    bool suspected = false;
    for (unsigned asks = 0; asks < 400; asks++) {
        if (rig.events[LEAT_STORAGE_DAMAGE] == 1 && !suspected) { /* it rests now */
            leat_storage_suspect(rig.storage, 1, 4 * RIG_SEGMENT);
            suspected = true;
        }
        assert_int_equal(leat_storage_segment_fd(rig.storage, 1, 0), LEAT_EVERIFYING);
        leat_storage_prepare_step(rig.storage);
        rig_turn(&rig);
    }
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 2);
    assert_int_equal(leat_segment_base(&rig.shapes[1], rig.last[LEAT_STORAGE_DAMAGE].sequence),
                     4 * RIG_SEGMENT);
}

/* Each is told once there is room, however many were trimmed away before they were repaired. */
static void damage_that_was_trimmed_away(void **state)
{
    enum { DAMAGED = 70 }; /* more than storage keeps in mind */
    char path[600];
    (void)state;
    grow_to((DAMAGED + 2) * RIG_SEGMENT);
    rig_prepare_all(&rig);
    for (unsigned i = 0; i < DAMAGED; i++) {
        rig_segment_path(&rig, 1, i * RIG_SEGMENT, path);
        rig_file_flip(path, RIG_SEGMENT / 2, 3);
        leat_storage_suspect(rig.storage, 1, i * RIG_SEGMENT);
        rig_prepare_all(&rig);
        rig_turn(&rig);
        assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], i + 1);
        leat_storage_trim(rig.storage, 1, (i + 1) * RIG_SEGMENT);
        while (leat_storage_base_pos(rig.storage, 1) <= i * RIG_SEGMENT)
            rig_turn(&rig);
    }
}

/* The scrub makes room for who waits, and is not kept from its segment for ever. */
static void a_scrub_beside_asks_in_vain(void **state)
{
    char path[600];
    (void)state;
    cut_once();
    restart_without_indices(4);
    rig_stop(&rig);
    rig.config.scrub_bytes_per_s = 768 << 10; /* a segment takes longer than an ask rests */
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    rig_prepare_all(&rig);
    index_path(0, path);
    unlink(path);
    index_path(RIG_SEGMENT, path);
    unlink(path);
    for (unsigned i = 1; i < 4; i++) {
        rig_segment_path(&rig, 1, i * RIG_SEGMENT, path);
        rig_file_flip(path, RIG_SEGMENT / 2, 3);
    }
    double end = seconds() + 60;
    while (rig.events[LEAT_STORAGE_DAMAGE] < 3 && seconds() < end) {
        int fd = leat_storage_segment_fd(rig.storage, 1, 0);
        assert_int_equal(fd, LEAT_EVERIFYING);
        leat_storage_prepare_step(rig.storage);
        rig_turn(&rig);
    }
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 3);
}

/* One is intact, and what the one behind it says of it is damaged. */
static void a_damaged_base_is_its_own_segments_damage(void **state)
{
    char path[600];
    (void)state;
    grow_to(3 * RIG_SEGMENT + 200000);
    rig_prepare_all(&rig);
    rig_crash(&rig);
    rig_segment_path(&rig, 1, 2 * RIG_SEGMENT, path);
    rig_file_flip(path, offsetof(struct leat_frame, previous_crc), 3);
    rig_start(&rig);
    leat_storage_commit(rig.storage, 1, rig.logs[1].recovered.durable_pos);
    leat_storage_suspect(rig.storage, 1, RIG_SEGMENT);
    rig_prepare_all(&rig);
    rig_turn(&rig);
    assert_int_equal(rig.events[LEAT_STORAGE_DAMAGE], 1);
    assert_int_equal(leat_segment_base(&rig.shapes[1], rig.last[LEAT_STORAGE_DAMAGE].sequence),
                     2 * RIG_SEGMENT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(indices_of_a_log_that_was_never_cut),
        CASE(indices_of_a_log_that_was_cut),
        CASE(a_helper_that_fell_behind),
        CASE(one_who_asks_after_each_step),
        CASE(one_who_asks_after_three),
        CASE(one_who_asks_after_eight),
        CASE(one_who_asks_in_vain),
        CASE(the_rate_holds_where_no_index_can_be_made),
        CASE(a_cut_while_a_segment_is_read),
        CASE(a_proved_segments_base_rots),
        CASE(a_suspicion_beside_asks_in_vain),
        CASE(damage_that_was_trimmed_away),
        CASE(a_scrub_beside_asks_in_vain),
        CASE(a_damaged_base_is_its_own_segments_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
