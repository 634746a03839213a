/* SPDX-License-Identifier: Apache-2.0
 *
 * Crash images, exhaustively: the last four disk writes of a run, every subset of them landed,
 * and in each subset every landed write torn at every 512-byte boundary, with old bytes or
 * garbage behind the tear. Every image is recovered from. Whatever the image:
 *   - the recovered bytes are a prefix of what the log was at some moment;
 *   - what was reported before the first missing write went is there, or the log says that it is
 *     damaged and claims no less (V2), or the node stays down by name (both vote slots bad, no
 *     BASE frame left);
 * and of an image that a power cut can leave (no landed write was issued after a missing one was
 * complete): nothing is damaged, and nothing that was reported is missing.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk_fake.h"

#define SECTOR    512u
#define HISTORIES 48u

static struct rig rig;

/* What the logs were, at every cut and at the end. */
static struct history {
    uint32_t index;
    uint64_t begin_pos;
    uint64_t end_pos;
    uint8_t *bytes;
} histories[HISTORIES];
static unsigned history_count;
static unsigned images;

static void remember(uint32_t index, uint64_t begin_pos)
{
    struct history *history = &histories[history_count++];
    assert_true(history_count <= HISTORIES);
    uint64_t end_pos = rig.logs[index].chain.position;
    *history = (struct history){index, begin_pos, end_pos, malloc(end_pos - begin_pos + 1)};
    for (uint64_t pos = begin_pos; pos < end_pos; pos++)
        history->bytes[pos - begin_pos] = rig.logs[index].arena[pos % RIG_ARENA];
}

static bool is_prefix_of(const struct history *history, uint32_t index, uint64_t start_pos,
                         uint64_t end_pos)
{
    if (history->index != index || start_pos < history->begin_pos || end_pos > history->end_pos)
        return false;
    for (uint64_t pos = start_pos; pos < end_pos; pos++) {
        if (history->bytes[pos - history->begin_pos] != rig.logs[index].arena[pos % RIG_ARENA])
            return false;
    }
    return true;
}

/* Notes with a write: what was reported when it went (log 0 and 1), the vote of log 1, the lowest
 * end that a cut asked for meanwhile may leave of log 1. */
static uint64_t cut_floor = UINT64_MAX;
static uint32_t voted_term;
static uint64_t reported_at_end[RIG_LOGS];

static void note(struct fake_write *write)
{
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        write->note[i] = rig.logs[i].reported_end;
    if (cut_floor < write->note[1])
        write->note[1] = cut_floor;
    write->note[2] = voted_term;
}

/* ---- images ---- */

struct image {
    unsigned landed; /* bits: the kept write is there */
    int torn;        /* this one is there up to torn_bytes only; -1: none */
    uint32_t torn_bytes;
    bool garbage; /* the sector behind the tear */
};

static void put(const struct fake_write *write, const uint8_t *bytes, uint32_t begin, uint32_t end)
{
    if (begin < end)
        rig_file_write(write->path, write->offset + begin, bytes + begin, end - begin);
}

static void image_clear(void)
{
    for (unsigned i = fake.kept_count; i-- > 0;)
        put(&fake.kept[i], fake.kept[i].before, 0, fake.kept[i].length_bytes);
}

static void image_make(const struct image *image)
{
    static uint8_t garbage[SECTOR];
    memset(garbage, 0x5a, sizeof(garbage));
    for (unsigned i = 0; i < fake.kept_count; i++) {
        const struct fake_write *write = &fake.kept[i];
        bool torn = image->torn == (int)i;
        if (!(image->landed & 1u << i))
            continue;
        put(write, write->after, 0, torn ? image->torn_bytes : write->length_bytes);
        if (torn && image->garbage)
            rig_file_write(write->path, write->offset + image->torn_bytes, garbage, SECTOR);
    }
}

static bool image_misses(const struct image *image, unsigned i)
{
    return !(image->landed & 1u << i) || image->torn == (int)i;
}

/* Can a power cut leave this, if a completed write is durable? */
static bool image_is_honest(const struct image *image)
{
    for (unsigned missing = 0; missing < fake.kept_count; missing++) {
        for (unsigned i = 0; image_misses(image, missing) && i < fake.kept_count; i++) {
            if ((image->landed & 1u << i) && fake.kept[i].issued_at > fake.kept[missing].done_at)
                return false;
        }
    }
    return true;
}

static const uint64_t *image_bounds(const struct image *image)
{
    static uint64_t now[4];
    for (unsigned i = 0; i < fake.kept_count; i++) {
        if (image_misses(image, i))
            return fake.kept[i].note;
    }
    now[0] = reported_at_end[0];
    now[1] = reported_at_end[1];
    now[2] = voted_term;
    return now;
}

static void image_complain(const struct image *image, uint32_t index, const char *what)
{
    const struct leat_recovered *recovered = &rig.logs[index].recovered;
    fail_msg("log %u: %s (landed %x torn %d at %u garbage %d; start %llu end %llu damaged %d "
             "claim %llu bound %llu)",
             index, what, image->landed, image->torn, image->torn_bytes, image->garbage,
             (unsigned long long)recovered->start_pos, (unsigned long long)recovered->durable_pos,
             recovered->damaged, (unsigned long long)recovered->claim_end,
             (unsigned long long)image_bounds(image)[index]);
}

static void image_check_log(const struct image *image, uint32_t index)
{
    const struct leat_recovered *recovered = &rig.logs[index].recovered;
    uint64_t bound = image_bounds(image)[index];
    bool honest = image_is_honest(image), prefix = false;
    for (unsigned i = 0; i < history_count && !prefix; i++)
        prefix = is_prefix_of(&histories[i], index, recovered->start_pos, recovered->durable_pos);
    if (!prefix)
        image_complain(image, index, "not a prefix of what was written");
    if (honest && recovered->damaged)
        image_complain(image, index, "torn was taken for damaged");
    if (honest && recovered->durable_pos < bound)
        image_complain(image, index, "what was reported is lost");
    if (!honest && recovered->durable_pos < bound &&
        !(recovered->damaged && recovered->claim_end >= bound))
        image_complain(image, index, "lost without a word");
}

static bool image_recover(const struct image *image)
{
    struct leat_storage_log_info info;
    images++;
    image_clear();
    image_make(image);
    int rc = rig_open(&rig);
    if ((rc == LEAT_EVOTES || rc == LEAT_ECORRUPT) && !image_is_honest(image)) {
        rig.storage = NULL;
        return false; /* the node stays down */
    }
    if (rc != LEAT_OK)
        fail_msg("open (landed %x torn %d): %s", image->landed, image->torn, rig.error);
    leat_storage_log_info(rig.storage, 1, &info);
    if (image_is_honest(image) && info.vote_term < image_bounds(image)[2])
        image_complain(image, 1, "a vote is lost");
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_recover(&rig, i);
    rig_stop(&rig);
    return true;
}

static void image_run(const struct image *image)
{
    bool up = image_recover(image);
    for (uint32_t i = 0; up && i < RIG_LOGS; i++)
        image_check_log(image, i);
}

static void all_images(void)
{
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        remember(i, 0);
        reported_at_end[i] = rig.logs[i].reported_end;
    }
    assert_int_equal(fake.kept_count, FAKE_KEPT);
    fake.keep = false;
    rig_crash(&rig);
    for (unsigned landed = 0; landed < 1u << FAKE_KEPT; landed++) {
        image_run(&(struct image){landed, -1, 0, false});
        for (int torn = 0; torn < (int)FAKE_KEPT; torn++) {
            uint32_t bytes = fake.kept[torn].length_bytes;
            for (uint32_t at = SECTOR; (landed & 1u << torn) && at < bytes; at += SECTOR)
                image_run(&(struct image){landed, torn, at, (at / SECTOR + landed) % 2 == 0});
        }
    }
}

/* ---- runs ---- */

static int setup(void **state)
{
    (void)state;
    fake_reset();
    fake.note = note;
    history_count = 0;
    cut_floor = UINT64_MAX;
    voted_term = 0;
    rig_format(&rig);
    rig.config.place_bytes = LEAT_BLOCK_BYTES;
    rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    rig_append_durably(&rig, 1, 64);
    rig_append_durably(&rig, 0, 3000);
    rig_prepare_all(&rig);
    fake.keep = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < history_count; i++)
        free(histories[i].bytes);
    rig_remove(&rig);
    fake_reset();
    return 0;
}

static void in_flight_at_once(void)
{
    rig_stop(&rig);
    rig.config.writes_in_flight_max = 4;
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig.logs[i].arena_valid = false;
    rig_start(&rig);
    rig_prepare_all(&rig);
}

static void small_appends_one_at_a_time(void **state)
{
    (void)state;
    for (int i = 0; i < 9; i++)
        rig_append_durably(&rig, i % 2, 900);
    all_images();
}

static void blocks_in_place_one_at_a_time(void **state)
{
    (void)state;
    rig_append_durably(&rig, 1, 3000);
    rig_append_durably(&rig, 1, 3500);
    rig_append_durably(&rig, 1, 3700);
    all_images();
}

static void four_records_in_flight(void **state)
{
    (void)state;
    in_flight_at_once();
    rig_append_durably(&rig, 1, 700);
    fake.held = true;
    for (int i = 0; i < 4; i++) {
        rig_append(&rig, i % 2, 200);
        rig_write(&rig, i % 2);
        rig_turn(&rig);
    }
    assert_int_equal(fake_queued(), 4);
    fake.held = false;
    rig_settle(&rig);
    all_images();
}

static void records_and_blocks_in_flight(void **state)
{
    (void)state;
    in_flight_at_once();
    rig_append_durably(&rig, 1, 1500); /* reported; then two batches over it at once */
    fake.held = true;
    for (int i = 0; i < 2; i++) {
        rig_append(&rig, 1, 3900);
        rig_write(&rig, 1);
        rig_turn(&rig);
    }
    assert_int_equal(fake_queued(), 4);
    fake.newest_first = true;
    fake.held = false;
    rig_settle(&rig);
    all_images();
}

static void a_cut_and_what_is_written_over_it(void **state)
{
    (void)state;
    rig_append_durably(&rig, 1, 1000);
    struct leat_chain kept = rig.logs[1].chain;
    rig_append_durably(&rig, 1, 5000);
    remember(1, 0);
    cut_floor = kept.position;
    rig_cut(&rig, 1, &kept);
    rig_append_term(&rig, 1, 2);
    rig_append_durably(&rig, 1, 5200);
    rig_append_durably(&rig, 1, 100);
    all_images();
}

static void a_cut_behind_writes_in_flight(void **state)
{
    (void)state;
    in_flight_at_once();
    rig_append_durably(&rig, 1, 1000);
    struct leat_chain kept = rig.logs[1].chain;
    fake.held = true;
    rig_append(&rig, 1, 5000);
    rig_write(&rig, 1);
    rig_turn(&rig);
    remember(1, 0);
    uint64_t epoch = ++rig.logs[1].recovered.cut_epoch;
    cut_floor = kept.position;
    leat_storage_cut(rig.storage, 1, &kept, epoch);
    rig_turn(&rig);
    fake.newest_first = true;
    fake.held = false;
    while (rig.logs[1].cut_done < epoch)
        assert_true(rig_turn(&rig) >= 0);
    rig.logs[1].chain = kept;
    rig_append_term(&rig, 1, 2);
    rig_append_durably(&rig, 1, 300);
    rig.logs[1].reported_end = rig.logs[1].chain.position;
    all_images();
}

/* Two blocks wait for each other: the newest bytes of four records, then they go in place. */
static void wait_for_two(void)
{
    rig_stop(&rig);
    rig.config.place_bytes = 2 * LEAT_BLOCK_BYTES;
    rig_start(&rig);
    rig_prepare_all(&rig);
    rig_append_durably(&rig, 1, 3000);
}

static void blocks_that_wait(void **state)
{
    (void)state;
    wait_for_two();
    rig_append_durably(&rig, 1, 3000);
    rig_append_durably(&rig, 1, 100);
    rig_append_durably(&rig, 0, 100);
    rig_append_durably(&rig, 1, 2900);
    all_images();
}

static void blocks_that_waited(void **state)
{
    (void)state;
    wait_for_two();
    rig_append_durably(&rig, 1, 3000);
    rig_append_durably(&rig, 1, 100);
    rig_append_durably(&rig, 1, 5000);
    rig_append_durably(&rig, 1, 100);
    all_images();
}

static void a_cut_below_what_waits(void **state)
{
    (void)state;
    wait_for_two();
    rig_append_durably(&rig, 1, 1300);
    struct leat_chain kept = rig.logs[1].chain;
    rig_append_durably(&rig, 1, 3000);
    remember(1, 0);
    cut_floor = kept.position;
    rig_cut(&rig, 1, &kept);
    rig_append_term(&rig, 1, 2);
    rig_append_durably(&rig, 1, 700);
    rig_append_durably(&rig, 1, 100);
    all_images();
}

static void what_waits_at_a_start(void **state)
{
    (void)state;
    wait_for_two();
    rig_append_durably(&rig, 1, 3000);
    rig_append_durably(&rig, 1, 100);
    rig_crash(&rig);
    rig_start(&rig);
    rig_append_durably(&rig, 1, 100);
    all_images();
}

static void a_vote_and_an_append(void **state)
{
    (void)state;
    rig_append_durably(&rig, 1, 100);
    leat_storage_vote(rig.storage, 1, 4, 2, 1);
    while (rig.logs[1].voted_seq < 1)
        rig_turn(&rig);
    voted_term = 4;
    rig_append_durably(&rig, 0, 100);
    rig_append_durably(&rig, 1, 100);
    all_images();
}

static void the_start_of_an_incarnation(void **state)
{
    (void)state;
    rig_append_durably(&rig, 1, 2222);
    rig_crash(&rig);
    rig_start(&rig);
    rig_append_durably(&rig, 1, 100);
    all_images();
}

static void a_clean_stop(void **state)
{
    (void)state;
    rig_append_durably(&rig, 1, 2222);
    rig_append_durably(&rig, 0, 6000);
    assert_int_equal(leat_storage_clean_stop(rig.storage), LEAT_OK);
    all_images();
}

static void report(void **state)
{
    (void)state;
    print_message("# %u images\n", images);
    assert_true(images > 1000);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(small_appends_one_at_a_time),
        CASE(blocks_in_place_one_at_a_time),
        CASE(four_records_in_flight),
        CASE(records_and_blocks_in_flight),
        CASE(a_cut_and_what_is_written_over_it),
        CASE(a_cut_behind_writes_in_flight),
        CASE(blocks_that_wait),
        CASE(blocks_that_waited),
        CASE(a_cut_below_what_waits),
        CASE(what_waits_at_a_start),
        CASE(a_vote_and_an_append),
        CASE(the_start_of_an_incarnation),
        CASE(a_clean_stop),
        cmocka_unit_test(report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
