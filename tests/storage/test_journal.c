/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged journal records (table J of docs/recovery.md) and inspection.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "base/crc.h"
#include "disk_fake.h"
#include "storage/inspect.h"

static struct rig rig;
static char journal_path[600];

static int setup(void **state)
{
    (void)state;
    fake_reset();
    rig_format(&rig);
    rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    rig_append_durably(&rig, 1, 64);
    rig_path(&rig, "w0/journal", journal_path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(&rig);
    fake_reset();
    return 0;
}

/* Offset and head of the record with the given sequence, which must be there. */
static uint64_t find_record(uint64_t sequence, struct leat_journal_record *ret_head)
{
    for (uint64_t at = 0; at < LEAT_JOURNAL_BYTES; at += LEAT_BLOCK_BYTES) {
        rig_file_read(journal_path, at, ret_head, sizeof(*ret_head));
        if (ret_head->magic == LEAT_JOURNAL_MAGIC && ret_head->sequence == sequence)
            return at;
    }
    fail_msg("no record %llu", (unsigned long long)sequence);
    return 0;
}

static uint64_t newest_sequence(void)
{
    struct leat_journal_record head;
    uint64_t newest = 0;
    for (uint64_t at = 0; at < LEAT_JOURNAL_BYTES; at += LEAT_BLOCK_BYTES) {
        rig_file_read(journal_path, at, &head, sizeof(head));
        if (head.magic == LEAT_JOURNAL_MAGIC && head.sequence > newest)
            newest = head.sequence;
    }
    return newest;
}

static void open_and_recover(void)
{
    assert_int_equal(rig_open(&rig), LEAT_OK);
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_recover(&rig, i);
}

/* J2: the record before the newest says less; nothing tells this from a torn write. */
static void a_damaged_newest_record_counts_as_torn(void **state)
{
    (void)state;
    struct leat_journal_record head;
    uint64_t before = rig.logs[1].reported_end;
    rig_append_durably(&rig, 1, 100);
    rig_crash(&rig);
    uint64_t at = find_record(newest_sequence(), &head);
    for (unsigned bit = 0; bit < 64 + 112 + 100; bit += 3) { /* anywhere in it */
        rig_file_flip(journal_path, at + bit, bit % 8);
        open_and_recover();
        assert_int_equal(rig.logs[1].recovered.durable_pos, before);
        assert_false(rig.logs[1].recovered.damaged);
        rig_stop(&rig);
        rig_file_flip(journal_path, at + bit, bit % 8);
    }
}

/* J3: a record is missing below a newer one that did not see it in flight. */
static void a_record_missing_in_between_is_damage(void **state)
{
    (void)state;
    struct leat_journal_record head;
    rig_append_durably(&rig, 1, 100); /* the last that log 1 says */
    uint64_t sequence = newest_sequence();
    rig_append_durably(&rig, 0, 100);
    rig_append_durably(&rig, 0, 100);
    rig_crash(&rig);
    rig_file_flip(journal_path, find_record(sequence, &head) + 200, 2);
    open_and_recover();
    assert_true(rig.logs[1].recovered.damaged);
    assert_int_equal(rig.logs[1].recovered.claim_end, UINT64_MAX);
    assert_false(rig.logs[0].recovered.damaged); /* a newer record speaks for it */
    rig_begin(&rig);
    rig_crash(&rig);
    open_and_recover();
    assert_true(rig.logs[1].recovered.damaged); /* and is not forgotten */
    assert_int_equal(rig.logs[1].recovered.claim_end, UINT64_MAX);
}

/* J3's exception: the newer record was issued while the missing one was in flight. */
static void a_record_that_was_in_flight_may_be_missing(void **state)
{
    (void)state;
    struct leat_journal_record head;
    rig_stop(&rig);
    rig.config.writes_in_flight_max = 2;
    rig.logs[0].arena_valid = rig.logs[1].arena_valid = false;
    rig_start(&rig);
    uint64_t before = rig.logs[1].reported_end;
    fake.held = true;
    for (uint32_t i = 2; i-- > 0;) {
        rig_append(&rig, i, 100);
        rig_write(&rig, i);
        rig_turn(&rig);
    }
    assert_int_equal(fake_queued(), 2);
    fake_step(1); /* only the second lands */
    rig_turn(&rig);
    assert_int_equal(rig.logs[0].reported_seq, 0);
    fake.fail_after = 0;
    fake.fail_errno = 5;
    rig_crash(&rig);
    fake.held = false;
    fake.fail_after = -1;
    find_record(newest_sequence(), &head);
    assert_int_equal(head.in_flight, 1);
    open_and_recover();
    assert_false(rig.logs[0].recovered.damaged || rig.logs[1].recovered.damaged);
    assert_int_equal(rig.logs[1].recovered.durable_pos, before);
}

static void a_journal_without_a_valid_record_is_refused(void **state)
{
    (void)state;
    struct leat_journal_record head;
    rig_crash(&rig);
    for (uint64_t sequence = newest_sequence(); sequence > 0; sequence--)
        rig_file_flip(journal_path, find_record(sequence, &head) + 40, 1);
    assert_int_equal(rig_open(&rig), LEAT_ECORRUPT);
    rig.storage = NULL;
    assert_non_null(strstr(rig.error, "no valid record"));
}

static void a_record_elsewhere_does_not_count(void **state)
{
    (void)state;
    struct leat_journal_record head;
    static uint8_t block[LEAT_BLOCK_BYTES];
    rig_append_durably(&rig, 1, 100);
    uint64_t end = rig.logs[1].reported_end;
    rig_crash(&rig);
    uint64_t newest = newest_sequence();
    uint64_t at = find_record(newest - 1, &head);
    rig_file_read(journal_path, at, block, sizeof(block));
    rig_file_write(journal_path, LEAT_JOURNAL_BYTES / 2, block, sizeof(block)); /* D3 */
    open_and_recover();
    assert_int_equal(rig.logs[1].recovered.durable_pos, end);
    assert_false(rig.logs[1].recovered.damaged);
}

/* ---- inspection ---- */

static unsigned lines;
static bool names_log_1;

static void take_line(void *context, const char *line)
{
    (void)context;
    lines++;
    names_log_1 |= strstr(line, "log 1") != NULL;
    assert_null(strchr(line, '\n'));
}

static void inspection_changes_nothing_and_verifies(void **state)
{
    (void)state;
    char error[256];
    struct leat_digest digest;
    uint32_t crc;
    for (int i = 0; i < 30; i++)
        rig_append_durably(&rig, 1, 1300); /* blocks in place, and some that are not yet */
    uint64_t end = rig.logs[1].reported_end;
    assert_true(end > LEAT_PLACE_BYTES_MAX + 2 * LEAT_BLOCK_BYTES);
    assert_int_equal(leat_inspect(rig.directory, ~0u, take_line, NULL, error, sizeof(error)),
                     LEAT_EINUSE);
    static uint8_t copy[1 << 16];
    memcpy(copy, rig.logs[1].arena, end);
    rig_crash(&rig);
    uint32_t before = rig_fingerprint(&rig);
    lines = 0;
    assert_int_equal(leat_inspect(rig.directory, ~0u, take_line, NULL, error, sizeof(error)), 0);
    assert_true(lines > 40 && names_log_1);
    assert_int_equal(leat_verify_log(rig.directory, 1, &digest, error, sizeof(error)), 0);
    assert_int_equal(digest.begin_pos, 0);
    assert_int_equal(digest.end_pos, end);
    assert_int_equal(digest.records, 31);
    assert_int_equal(digest.digest, leat_crc32c(0, copy, end));
    assert_int_equal(leat_digest_range(rig.directory, 1, 232, end - 8, &crc, error, sizeof(error)),
                     0);
    assert_int_equal(crc, leat_crc32c(0, copy + 232, end - 240));
    assert_int_equal(leat_verify_log(rig.directory, 9, &digest, error, sizeof(error)), LEAT_ENOLOG);
    assert_int_equal(rig_fingerprint(&rig), before);
    char path[600];
    rig_segment_path(&rig, 1, 0, path);
    rig_file_flip(path, 9000, 1);
    assert_int_equal(leat_verify_log(rig.directory, 1, &digest, error, sizeof(error)),
                     LEAT_ECORRUPT);
    assert_non_null(strstr(error, "position"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_damaged_newest_record_counts_as_torn),
        CASE(a_record_missing_in_between_is_damage),
        CASE(a_record_that_was_in_flight_may_be_missing),
        CASE(a_journal_without_a_valid_record_is_refused),
        CASE(a_record_elsewhere_does_not_count),
        CASE(inspection_changes_nothing_and_verifies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
