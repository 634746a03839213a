/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged journal records (table J of docs/recovery.md) and inspection.
 */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "disk_fake.h"
#include "state.h"
#include "storage/inspect.h"

#define ROUND LEAT_JOURNAL_BYTES

static struct rig rig;
static char journal_path[600];

static int setup(void **state)
{
    fake_rig_start(&rig);
    rig_append_term(&rig, 1, 1);
    rig_append_durably(&rig, 1, 64);
    rig_path(&rig, "w0/journal", journal_path);
    *state = &rig;
    return 0;
}

/* Of those issued; while the storage is open. */
static uint64_t newest_sequence(void)
{
    return rig.storage->record_sequence - 1;
}

static void flip_record(uint64_t sequence, unsigned byte, unsigned bit)
{
    struct leat_journal_record head;
    rig_file_flip(journal_path, rig_find_record(&rig, sequence, &head) + byte, bit);
}

static void open_and_recover(void)
{
    if (rig_open(&rig) != LEAT_OK)
        fail_msg("open: %s", rig.error);
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_recover(&rig, i);
}

static void expect_whole(uint32_t index, uint64_t end_pos)
{
    assert_false(rig.logs[index].recovered.damaged);
    assert_int_equal(rig.logs[index].recovered.durable_pos, end_pos);
}

/* J2: the record before the newest says less; nothing tells this from a torn write. */
static void a_damaged_newest_record_counts_as_torn(void **state)
{
    (void)state;
    struct leat_journal_record head;
    uint64_t before = rig.logs[1].reported_end;
    rig_append_durably(&rig, 1, 100);
    uint64_t newest = newest_sequence();
    rig_crash(&rig);
    uint64_t at = rig_find_record(&rig, newest, &head);
    for (unsigned bit = 0; bit < 64 + 112 + 100; bit += 3) { /* anywhere in it */
        rig_file_flip(journal_path, at + bit, bit % 8);
        open_and_recover();
        expect_whole(1, before);
        rig_stop(&rig);
        rig_file_flip(journal_path, at + bit, bit % 8);
    }
}

/* J3: a record is missing below a newer one that did not see it in flight. */
static void a_record_missing_in_between_is_damage(void **state)
{
    (void)state;
    rig_append_durably(&rig, 1, 100); /* the last that log 1 says */
    uint64_t sequence = newest_sequence();
    rig_append_durably(&rig, 0, 100);
    rig_append_durably(&rig, 0, 100);
    rig_crash(&rig);
    flip_record(sequence, 200, 2);
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

/* ---- two in flight ---- */

static void start_again(uint32_t writes_in_flight_max)
{
    if (rig.storage)
        rig_crash(&rig);
    rig.config.writes_in_flight_max = writes_in_flight_max;
    rig_start(&rig);
}

static void issue_two(uint32_t first, uint32_t second)
{
    const uint32_t logs[] = {first, second};
    fake.held = true;
    for (unsigned i = 0; i < 2; i++) {
        rig_append(&rig, logs[i], 100);
        rig_write(&rig, logs[i]);
        rig_turn(&rig);
    }
}

/* Blocks may go in place with either. */
static unsigned find_second_record(void)
{
    unsigned which = 0, records = 0;
    for (;; which++) {
        assert_true(which < fake_queued());
        if (fake_is_write_to(which, "journal") && ++records == 2)
            return which;
    }
}

/* Only the second lands before the power is cut. */
static void lose_the_first_of_two(uint32_t first, uint32_t second)
{
    issue_two(first, second);
    uint64_t reported = rig.logs[second].reported_seq;
    fake_step(find_second_record());
    rig_turn(&rig);
    assert_int_equal(rig.logs[second].reported_seq, reported);
    fake.dead = true;
    rig_crash(&rig);
    fake.held = fake.dead = false;
}

/* J4: the newer record was issued while the missing one was in flight. */
static void a_record_that_was_in_flight_may_be_missing(void **state)
{
    (void)state;
    struct leat_journal_record head;
    start_again(2);
    uint64_t before = rig.logs[1].reported_end;
    uint64_t sequence = newest_sequence();
    lose_the_first_of_two(1, 0);
    rig_find_record(&rig, sequence + 2, &head);
    assert_int_equal(head.in_flight, 1);
    open_and_recover();
    assert_false(rig.logs[0].recovered.damaged);
    expect_whole(1, before);
}

/* J3 again: a record behind the two knows that both were complete. */
static void a_record_that_was_in_flight_and_landed_may_not(void **state)
{
    (void)state;
    struct leat_journal_record head;
    start_again(2);
    uint64_t sequence = newest_sequence();
    issue_two(1, 0);
    fake.held = false;
    rig_settle(&rig);
    rig_append_durably(&rig, 0, 100);
    uint64_t end = rig.logs[0].reported_end;
    rig_crash(&rig);
    rig_find_record(&rig, sequence + 2, &head);
    assert_int_equal(head.in_flight, 1);
    flip_record(sequence + 1, 200, 2);
    open_and_recover();
    assert_true(rig.logs[1].recovered.damaged);
    assert_int_equal(rig.logs[1].recovered.claim_end, UINT64_MAX);
    expect_whole(0, end);
}

/* ---- the ring comes round ---- */

/* Log 1 alone writes, until the next record lies at `at`, an offset that grows. */
static void go_on_to(uint64_t at)
{
    while (rig.storage->ring_head < at)
        rig_append_durably(&rig, 1, 16);
    assert_int_equal(rig.storage->ring_head, at);
}

/* Log 2 is made, used and deleted. Returns where the last record lies that knows it; right behind
 * is the one that deletes it. */
static uint64_t a_log_comes_and_goes(void)
{
    uint8_t *arena;
    assert_int_equal(posix_memalign((void **)&arena, LEAT_BLOCK_BYTES, RIG_ARENA), 0);
    struct leat_storage_create create = {.log = {.log_id = 2,
                                                 .entry_bytes_max = 64 << 10,
                                                 .segment_bytes = RIG_SEGMENT,
                                                 .arena_bytes = RIG_ARENA},
                                         .arena_bytes = arena};
    uint32_t index = rig_make(&rig, &create);
    uint64_t at = rig.storage->ring_head - LEAT_BLOCK_BYTES;
    leat_storage_log_delete(rig.storage, index);
    while (rig.events[LEAT_STORAGE_DELETED] == 0) {
        leat_storage_prepare_step(rig.storage);
        assert_true(rig_turn(&rig) >= 0);
    }
    assert_int_equal(rig.storage->ring_head, at + 2 * LEAT_BLOCK_BYTES);
    free(arena);
    return at;
}

/* In the place of the record that is missing lies, valid, the one of the round before; it names a
 * log whose deletion was written over. */
static void a_record_missing_where_an_old_one_lies(void **state)
{
    (void)state;
    struct leat_journal_record old;
    start_again(2);
    uint64_t at = a_log_comes_and_goes();
    go_on_to(at + ROUND);
    uint64_t before[] = {rig.logs[0].reported_end, rig.logs[1].reported_end};
    lose_the_first_of_two(1, 0);
    rig_file_read(journal_path, at, &old, sizeof(old));
    assert_int_equal(old.at, at);
    open_and_recover();
    assert_int_equal(leat_storage_log_count(rig.storage), RIG_LOGS);
    assert_true(rig.logs[0].recovered.durable_pos > before[0]);
    assert_false(rig.logs[0].recovered.damaged);
    expect_whole(1, before[1]);
}

/* The same, nearly a round later: the old one lies there still, and what is behind it in the ring
 * is newer. */
static void what_lies_behind_a_missing_record_counts(void **state)
{
    (void)state;
    struct leat_journal_record old;
    start_again(2);
    go_on_to(64 * LEAT_BLOCK_BYTES);
    uint64_t at = a_log_comes_and_goes();
    go_on_to(at + ROUND);
    lose_the_first_of_two(1, 0);
    start_again(1);
    rig_append_durably(&rig, 0, 100);
    go_on_to(at + 2 * ROUND - 32 * LEAT_BLOCK_BYTES);
    uint64_t ends[] = {rig.logs[0].reported_end, rig.logs[1].reported_end};
    rig_crash(&rig);
    rig_file_read(journal_path, at, &old, sizeof(old));
    assert_int_equal(old.at, at);
    open_and_recover();
    assert_int_equal(leat_storage_log_count(rig.storage), RIG_LOGS);
    expect_whole(0, ends[0]);
    expect_whole(1, ends[1]);
}

/* ---- what clients write ---- */

#define FORGED_BLOCK 2u /* of its record: what is written over the first may be two blocks long */

/* A record, but for the secret, that deletes log 1. */
static void forge_record(uint8_t block[LEAT_BLOCK_BYTES], uint64_t at)
{
    struct leat_journal_record head = {
        .magic = LEAT_JOURNAL_MAGIC,
        .version = LEAT_STORAGE_VERSION,
        .record_bytes = LEAT_BLOCK_BYTES,
        .node = leat_storage_identity(rig.storage)->node,
        .sequence = 1ull << 60,
        .at = at,
        .entry_count = 1,
    };
    struct leat_journal_entry entry = {
        .log = rig.log_uuids[1],
        .log_id = 1,
        .generation = 1,
        .flags = LEAT_JOURNAL_DELETED,
        .segment_log2 = (uint32_t)__builtin_ctzll(RIG_SEGMENT),
    };
    memset(block, 0, LEAT_BLOCK_BYTES);
    memcpy(block, &head, sizeof(head));
    memcpy(block + sizeof(head), &entry, sizeof(entry));
    head.crc = leat_crc32c(0, block, LEAT_BLOCK_BYTES);
    memcpy(block, &head, sizeof(head));
}

static void expect_forged(uint64_t at)
{
    struct leat_journal_record head;
    rig_file_read(journal_path, at % ROUND, &head, sizeof(head));
    assert_int_equal(head.sequence, 1ull << 60);
    assert_int_equal(head.at, at);
}

/* An entry's tail lies in the journal as the client wrote it, and stays when the begin of its
 * record is written over: it must not pass for a record then. */
static void a_payload_that_looks_like_a_record(void **state)
{
    (void)state;
    static uint8_t payload[12 << 10];
    const uint32_t payload_at = sizeof(struct leat_journal_record) +
                                sizeof(struct leat_journal_entry) + LEAT_FRAME_HEADER_BYTES;
    rig_append_durably(&rig, 1, 6000); /* from the second block on entries continue */
    uint64_t at = rig.storage->ring_head, forged_at = at + FORGED_BLOCK * LEAT_BLOCK_BYTES;
    forge_record(payload + FORGED_BLOCK * LEAT_BLOCK_BYTES - payload_at, forged_at);
    rig_append_payload(&rig, 1, payload, sizeof(payload));
    rig_write(&rig, 1);
    rig_settle(&rig);
    expect_forged(forged_at);
    go_on_to(at + ROUND);
    rig_append_durably(&rig, 1, 16);
    uint64_t end = rig.logs[1].reported_end;
    rig_crash(&rig);
    expect_forged(forged_at);
    open_and_recover();
    assert_int_equal(leat_storage_log_count(rig.storage), RIG_LOGS);
    expect_whole(1, end);
}

/* ---- none, or elsewhere ---- */

static void a_journal_without_a_valid_record_is_refused(void **state)
{
    (void)state;
    uint64_t newest = newest_sequence();
    rig_crash(&rig);
    for (uint64_t sequence = newest; sequence > 0; sequence--)
        flip_record(sequence, 40, 1);
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
    uint64_t newest = newest_sequence();
    rig_crash(&rig);
    uint64_t at = rig_find_record(&rig, newest - 1, &head);
    rig_file_read(journal_path, at, block, sizeof(block));
    rig_file_write(journal_path, LEAT_JOURNAL_BYTES / 2, block, sizeof(block)); /* D3 */
    open_and_recover();
    expect_whole(1, end);
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

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_damaged_newest_record_counts_as_torn),
        CASE(a_record_missing_in_between_is_damage),
        CASE(a_record_that_was_in_flight_may_be_missing),
        CASE(a_record_that_was_in_flight_and_landed_may_not),
        CASE(a_record_missing_where_an_old_one_lies),
        CASE(what_lies_behind_a_missing_record_counts),
        CASE(a_payload_that_looks_like_a_record),
        CASE(a_journal_without_a_valid_record_is_refused),
        CASE(a_record_elsewhere_does_not_count),
        CASE(inspection_changes_nothing_and_verifies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
