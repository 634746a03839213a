/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a reader begins: by offset and by log time, in segment files and in the arena, with and
 * without an index. That an index was used shows by damage between the segment's beginning and the
 * place that is sought: whoever walks there stumbles over it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fake_node.h"

#define RECORDS_MAX 16384u

static struct fake_node *node;
static struct leat_client *client;
static unsigned written;
static uint64_t positions[RECORDS_MAX], times[RECORDS_MAX];

static int start(void **state)
{
    (void)state;
    node = fake_node_start(true);
    written = 0;
    fake_log_term(&node->log, 1);
    client = fake_attach(node, 0, 0);
    return client ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    leat_detach(client);
    fake_node_stop(node);
    return 0;
}

static void write_records(unsigned count, uint32_t length)
{
    static char data[FAKE_ENTRY_BYTES];
    for (unsigned i = 0; i < count; i++, written++) {
        memcpy(data, &written, sizeof(written));
        if (written % 1000 == 999)
            fake_log_term(&node->log, 2 + written / 1000);
        positions[written] = fake_log_record(&node->log, data, length);
        times[written] = node->log.chain.last_time_ns;
    }
    fake_log_commit(&node->log, node->log.chain.position, node->log.chain.position);
}

/* The first record that a reader from there gives; LEAT_EAGAIN and so on. */
static int first_record(enum leat_from from, uint64_t value, struct leat_record *ret_record)
{
    struct leat_reader *reader;
    int rc = leat_reader_open(client, 1, from, value, LEAT_ACK_DURABLE, &reader);
    if (rc != LEAT_OK)
        return rc;
    rc = leat_reader_next(reader, ret_record);
    leat_reader_close(reader);
    return rc;
}

static void expect_first(enum leat_from from, uint64_t value, unsigned number)
{
    struct leat_record record;
    int rc = first_record(from, value, &record);
    if (rc != LEAT_OK || record.offset != number)
        fail_msg("from %d %" PRIu64 ": %s, offset %" PRIu64 ", expected %u", (int)from, value,
                 leat_error_name(rc), rc == LEAT_OK ? record.offset : 0, number);
    assert_int_equal(record.position, positions[number]);
    assert_int_equal(record.time_ns, times[number]);
}

/* Every so many records, by what names each exactly, and by the times between two. */
static void expect_everywhere(unsigned first, unsigned step)
{
    for (unsigned i = first; i < written; i += step) {
        expect_first(LEAT_FROM_OFFSET, i, i);
        expect_first(LEAT_FROM_TIME, times[i], i);
        expect_first(LEAT_FROM_TIME, times[i] - 1, times[i] - 1 == times[i - 1] ? i - 1 : i);
    }
}

static void test_everywhere(void **state)
{
    (void)state;
    write_records(9000, 900); /* nine segments, of which the arena holds two */
    expect_everywhere(1, 97);
    expect_everywhere(written - 20, 1);
    assert_in_range(atomic_load(&node->index_asked), 1, 1000);
    node->log.index_error = LEAT_EAGAIN; /* walks */
    expect_everywhere(1, 997);
    node->log.index_error = LEAT_OK;
    node->log.index_flips = true;
    expect_everywhere(3, 997);
}

static void test_without_hints(void **state)
{
    (void)state;
    node->log.hinted = false;
    write_records(9000, 900);
    expect_everywhere(written - 2500, 101);
}

static void test_large_records(void **state)
{
    (void)state;
    write_records(150, FAKE_ENTRY_BYTES); /* pieces in which no frame begins */
    expect_everywhere(1, 1);
}

static void test_lying_hints(void **state)
{
    (void)state;
    write_records(2500, 900);
    uint64_t count = leat_arena_hint_count(FAKE_ARENA_BYTES);
    for (uint64_t i = 0; i < count; i++) /* into the middle of frames, beyond the end, back */
        node->log.hints[i] = i % 3 == 0   ? node->log.hints[i] + 8
                             : i % 3 == 1 ? UINT64_MAX - 7
                                          : node->log.hints[(i + 5) % count];
    expect_everywhere(written - 2000, 37);
}

static void test_time_before_and_behind(void **state)
{
    struct leat_record record;
    struct leat_reader *reader;
    (void)state;
    write_records(100, 100);
    expect_first(LEAT_FROM_TIME, 0, 0);
    expect_first(LEAT_FROM_TIME, times[99], 99);
    assert_int_equal(first_record(LEAT_FROM_TIME, times[99] + 1, &record), LEAT_EAGAIN);
    uint64_t later_ns = times[99] + 4; /* records come before that time does */
    assert_int_equal(
        leat_reader_open(client, 1, LEAT_FROM_TIME, later_ns, LEAT_ACK_DURABLE, &reader), LEAT_OK);
    assert_int_equal(leat_reader_next(reader, &record), LEAT_EAGAIN);
    write_records(10, 100);
    assert_int_equal(leat_reader_next(reader, &record), LEAT_OK);
    assert_in_range(record.time_ns, later_ns, later_ns + 1);
    assert_true(times[record.offset - 1] < later_ns);
    leat_reader_close(reader);
}

static void test_trimmed(void **state)
{
    struct leat_record record;
    (void)state;
    write_records(5000, 900);
    fake_log_trim(&node->log, 2 * FAKE_SEGMENT_BYTES);
    assert_int_equal(first_record(LEAT_FROM_OFFSET, 3, &record), LEAT_ETRIMMED);
    assert_int_equal(first_record(LEAT_FROM_TIME, times[3], &record), LEAT_OK);
    assert_in_range(record.position, 2 * FAKE_SEGMENT_BYTES, 2 * FAKE_SEGMENT_BYTES + 2000);
}

static unsigned record_at(uint64_t position)
{
    unsigned i = 0;
    while (positions[i] < position)
        i++;
    return i;
}

static void flip_in_file(uint64_t position)
{
    char path[160];
    uint8_t byte;
    uint64_t base = position & ~(uint64_t)(FAKE_SEGMENT_BYTES - 1);
    snprintf(path, sizeof(path), "%s/%016" PRIx64 ".segment", node->log.directory, base);
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    assert_true(descriptor >= 0);
    assert_int_equal(pread(descriptor, &byte, 1, (off_t)(position - base)), 1);
    byte ^= 1;
    assert_int_equal(pwrite(descriptor, &byte, 1, (off_t)(position - base)), 1);
    close(descriptor);
}

static void test_index_is_used(void **state)
{
    struct leat_record record;
    (void)state;
    write_records(5000, 900);
    unsigned sought = record_at(FAKE_SEGMENT_BYTES + FAKE_SEGMENT_BYTES / 2 + 3000);
    flip_in_file(FAKE_SEGMENT_BYTES + 300000);
    expect_first(LEAT_FROM_OFFSET, sought, sought);
    expect_first(LEAT_FROM_TIME, times[sought], sought);
    node->log.index_error = LEAT_EAGAIN;
    assert_int_equal(first_record(LEAT_FROM_OFFSET, sought, &record), LEAT_ECORRUPT);
}

static void test_hints_are_used(void **state)
{
    struct leat_record record;
    (void)state;
    write_records(5000, 900);
    uint64_t base = node->log.chain.position & ~(uint64_t)(FAKE_SEGMENT_BYTES - 1);
    assert_true(node->log.chain.position - base > 400000);
    unsigned sought = record_at(base + 350000);
    node->log.bytes[(base + 100000) & (FAKE_ARENA_BYTES - 1)] ^= 1;
    expect_first(LEAT_FROM_OFFSET, sought, sought);
    expect_first(LEAT_FROM_TIME, times[sought], sought);
    assert_int_equal(first_record(LEAT_FROM_END, 0, &record), LEAT_EAGAIN);
    memset(node->log.hints, 0, leat_arena_hint_count(FAKE_ARENA_BYTES) * sizeof(uint64_t));
    assert_int_equal(first_record(LEAT_FROM_OFFSET, sought, &record), LEAT_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_everywhere, start, stop),
        cmocka_unit_test_setup_teardown(test_without_hints, start, stop),
        cmocka_unit_test_setup_teardown(test_large_records, start, stop),
        cmocka_unit_test_setup_teardown(test_lying_hints, start, stop),
        cmocka_unit_test_setup_teardown(test_time_before_and_behind, start, stop),
        cmocka_unit_test_setup_teardown(test_trimmed, start, stop),
        cmocka_unit_test_setup_teardown(test_index_is_used, start, stop),
        cmocka_unit_test_setup_teardown(test_hints_are_used, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
