/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a log that the test writes into an arena and segment files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_node.h"

#define SECOND (1000 * FAKE_MS)

static struct fake_node *node;
static struct leat_client *client;
static uint64_t written; /* records: the payload begins with its offset */

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

static uint32_t length_of(uint64_t offset)
{
    return 8 + (uint32_t)(offset * 2654435761u % 5000u);
}

static void write_records(uint64_t count)
{
    static char data[8 + 5000];
    for (uint64_t i = 0; i < count; i++, written++) {
        memset(data, (int)(written & 0xff), sizeof(data));
        memcpy(data, &written, sizeof(written));
        fake_log_record(&node->log, data, length_of(written));
    }
}

static void commit_all(void)
{
    fake_log_commit(&node->log, node->log.chain.position, node->log.chain.position);
}

static void assert_record(const struct leat_record *record, uint64_t offset)
{
    uint64_t first;
    assert_int_equal(record->offset, offset);
    assert_int_equal(record->length, length_of(offset));
    memcpy(&first, record->data, sizeof(first));
    assert_int_equal(first, offset);
    if (record->length > 8)
        assert_int_equal(((const uint8_t *)record->data)[record->length - 1], offset & 0xff);
}

static struct leat_reader *open_reader(enum leat_from from, uint64_t value, enum leat_ack level)
{
    struct leat_reader *reader;
    int rc = leat_reader_open(client, 1, from, value, level, &reader);
    if (rc != LEAT_OK)
        fail_msg("open: %s", leat_error_name(rc));
    return reader;
}

static void expect(struct leat_reader *reader, uint64_t first, uint64_t end)
{
    struct leat_record record;
    for (uint64_t offset = first; offset < end; offset++) {
        assert_int_equal(leat_reader_offset(reader), offset);
        int rc = leat_reader_wait(reader, 10 * SECOND, &record);
        if (rc != LEAT_OK)
            fail_msg("record %lu: %s", (unsigned long)offset, leat_error_name(rc));
        assert_record(&record, offset);
    }
}

static void expect_error(struct leat_reader *reader, int error)
{
    struct leat_record record;
    int rc = leat_reader_next(reader, &record);
    if (rc != error)
        fail_msg("%s, expected %s", leat_error_name(rc), leat_error_name(error));
}

static void test_empty_log_then_live(void **state)
{
    (void)state;
    struct leat_reader *from_start = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    struct leat_reader *from_end = open_reader(LEAT_FROM_END, 0, LEAT_ACK_DURABLE);
    struct leat_record record;
    expect_error(from_start, LEAT_EAGAIN);
    assert_int_equal(leat_reader_wait(from_start, 5 * FAKE_MS, &record), LEAT_EDEADLINE);
    write_records(10);
    expect_error(from_start, LEAT_EAGAIN); /* not committed */
    commit_all();
    expect(from_start, 0, 10);
    expect(from_end, 0, 10);
    expect_error(from_start, LEAT_EAGAIN);
    write_records(1);
    fake_log_term(&node->log, 2);
    write_records(1);
    commit_all();
    expect(from_start, 10, 12); /* over the control frame */
    leat_reader_close(from_start);
    leat_reader_close(from_end);
}

static void test_levels(void **state)
{
    (void)state;
    write_records(5);
    uint64_t durable = node->log.chain.position;
    write_records(5);
    fake_log_commit(&node->log, durable, node->log.chain.position);
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    expect(reader, 0, 5);
    expect_error(reader, LEAT_EAGAIN);
    leat_reader_close(reader);
    reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_REPLICATED);
    expect(reader, 0, 10);
    leat_reader_close(reader);
}

/* Eight segments, the arena holds two: files first, then the arena, without a gap. */
static void test_from_files_into_the_arena(void **state)
{
    (void)state;
    while (node->log.chain.position < 8 * FAKE_SEGMENT_BYTES + 4096) {
        write_records(1);
        commit_all();
    }
    assert_true(node->log.header->horizon.value > 5 * FAKE_SEGMENT_BYTES);
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    expect(reader, 0, written);
    expect_error(reader, LEAT_EAGAIN);
    write_records(600); /* goes on live, over the next segment's boundary */
    commit_all();
    expect(reader, written - 600, written);
    leat_reader_close(reader);
}

/* A node reads a segment through before it gives it away: that is no end of the log. */
static void test_a_segment_is_waited_for(void **state)
{
    (void)state;
    struct leat_record record;
    while (node->log.chain.position < 5 * FAKE_SEGMENT_BYTES) {
        write_records(1);
        commit_all();
    }
    atomic_store(&node->verifying, 3);
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    expect(reader, 0, 2); /* nobody notices */
    leat_reader_close(reader);
    atomic_store(&node->verifying, INT_MAX);
    reader = open_reader(LEAT_FROM_OFFSET, 1, LEAT_ACK_DURABLE);
    assert_int_equal(leat_reader_wait(reader, FAKE_MS, &record), LEAT_EVERIFYING);
    atomic_store(&node->verifying, 0);
    expect(reader, 1, written);
    leat_reader_close(reader);
}

static void test_seek_by_offset(void **state)
{
    (void)state;
    while (node->log.chain.position < 5 * FAKE_SEGMENT_BYTES + 100000) {
        write_records(1);
        commit_all();
    }
    const uint64_t offsets[] = {0, 1, 399, 400, 401, 777, written - 2, written - 1};
    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct leat_reader *reader = open_reader(LEAT_FROM_OFFSET, offsets[i], LEAT_ACK_DURABLE);
        expect(reader, offsets[i], offsets[i] + 1);
        leat_reader_close(reader);
    }
    struct leat_reader *ahead = open_reader(LEAT_FROM_OFFSET, written + 3, LEAT_ACK_DURABLE);
    struct leat_reader *end = open_reader(LEAT_FROM_END, 0, LEAT_ACK_DURABLE);
    expect_error(ahead, LEAT_EAGAIN);
    write_records(5);
    commit_all();
    expect(end, written - 5, written);
    expect(ahead, written - 2, written);
    leat_reader_close(ahead);
    leat_reader_close(end);
}

static void test_trimmed(void **state)
{
    (void)state;
    struct leat_reader *slow = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    write_records(10);
    commit_all();
    expect(slow, 0, 3);
    while (node->log.chain.position < 6 * FAKE_SEGMENT_BYTES + 4096) {
        write_records(1);
        commit_all();
    }
    fake_log_trim(&node->log, 2 * FAKE_SEGMENT_BYTES);
    expect_error(slow, LEAT_ETRIMMED);
    struct leat_record record;
    assert_int_equal(leat_reader_next(slow, &record), LEAT_OK);
    uint64_t oldest = record.offset;
    assert_true(oldest > 3);
    assert_in_range(record.position, 2 * FAKE_SEGMENT_BYTES, 2 * FAKE_SEGMENT_BYTES + 4096);
    expect(slow, oldest + 1, written);
    leat_reader_close(slow);
    struct leat_reader *reader = open_reader(LEAT_FROM_OFFSET, 5, LEAT_ACK_DURABLE);
    expect_error(reader, LEAT_ETRIMMED); /* told once, then from the oldest */
    assert_int_equal(leat_reader_offset(reader), oldest);
    expect(reader, oldest, oldest + 3);
    leat_reader_close(reader);
}

/* Who waits for a record still to come has missed nothing when earlier ones are trimmed. */
static void test_trimmed_before_what_is_wanted(void **state)
{
    (void)state;
    write_records(10);
    commit_all();
    struct leat_reader *reader = open_reader(LEAT_FROM_OFFSET, 1u << 20, LEAT_ACK_DURABLE);
    expect_error(reader, LEAT_EAGAIN);
    while (node->log.chain.position < 6 * FAKE_SEGMENT_BYTES + 4096) {
        write_records(1);
        commit_all();
    }
    fake_log_trim(&node->log, 2 * FAKE_SEGMENT_BYTES);
    expect_error(reader, LEAT_EAGAIN);
    assert_int_equal(leat_reader_offset(reader), 1u << 20);
    leat_reader_close(reader);
}

static void test_rolled_back(void **state)
{
    (void)state;
    struct leat_reader *durable = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    struct leat_reader *replicated = open_reader(LEAT_FROM_START, 0, LEAT_ACK_REPLICATED);
    write_records(6);
    struct leat_chain kept = node->log.chain;
    fake_log_commit(&node->log, kept.position, kept.position);
    expect(replicated, 0, 6);
    expect_error(replicated, LEAT_EAGAIN);
    write_records(4);
    fake_log_commit(&node->log, kept.position, node->log.chain.position);
    expect(replicated, 6, 10);
    fake_log_cut(&node->log, &kept);
    written = 6;
    expect_error(replicated, LEAT_EROLLBACK);
    assert_int_equal(leat_reader_offset(replicated), 6);
    expect_error(replicated, LEAT_EAGAIN);
    fake_log_term(&node->log, 2);
    write_records(3);
    commit_all();
    expect(replicated, 6, 9);
    expect(durable, 0, 9);
    leat_reader_close(durable);
    leat_reader_close(replicated);
}

/* The cut is seen only when what replaced it is longer: the chain shows it. */
static void test_rolled_back_and_overtaken(void **state)
{
    (void)state;
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_REPLICATED);
    write_records(6);
    struct leat_chain kept = node->log.chain;
    fake_log_commit(&node->log, kept.position, kept.position);
    expect(reader, 0, 6);
    expect_error(reader, LEAT_EAGAIN);
    write_records(2);
    fake_log_commit(&node->log, kept.position, node->log.chain.position);
    expect(reader, 6, 8);
    fake_log_cut(&node->log, &kept);
    written = 6;
    fake_log_term(&node->log, 2);
    write_records(20);
    commit_all();
    expect_error(reader, LEAT_EROLLBACK);
    expect(reader, 6, 26);
    leat_reader_close(reader);
}

/* Placed beyond what is durable, it has no boundary that is sure: it begins again where it was
 * placed. */
static void test_rolled_back_from_where_it_began(void **state)
{
    (void)state;
    write_records(6);
    struct leat_chain kept = node->log.chain;
    fake_log_commit(&node->log, kept.position, kept.position);
    write_records(4);
    fake_log_commit(&node->log, kept.position, node->log.chain.position);
    struct leat_reader *quiet = open_reader(LEAT_FROM_END, 0, LEAT_ACK_REPLICATED);
    struct leat_reader *reader = open_reader(LEAT_FROM_OFFSET, 8, LEAT_ACK_REPLICATED);
    expect(reader, 8, 10);
    fake_log_cut(&node->log, &kept);
    written = 6;
    fake_log_term(&node->log, 2);
    write_records(20);
    commit_all();
    expect_error(quiet, LEAT_EROLLBACK);
    assert_int_equal(leat_reader_offset(quiet), 10);
    expect(quiet, 10, 26);
    expect_error(reader, LEAT_EROLLBACK);
    assert_int_equal(leat_reader_offset(reader), 8);
    expect(reader, 8, 26);
    leat_reader_close(quiet);
    leat_reader_close(reader);
}

static void test_damage_is_told(void **state)
{
    (void)state;
    write_records(4);
    commit_all();
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    expect(reader, 0, 2);
    uint64_t at = node->log.chain.position - 16;
    node->log.bytes[at & (FAKE_ARENA_BYTES - 1)] ^= 1;
    expect(reader, 2, 3);
    expect_error(reader, LEAT_ECORRUPT);
    leat_reader_close(reader);
}

/* The node writes a repaired segment anew and renames it over the damaged one: the reader that met
 * the damage must not hold on to the old file. */
static void test_goes_on_behind_a_repair(void **state)
{
    (void)state;
    char path[160], whole[170], line[400];
    write_records(2);
    off_t at =
        (off_t)node->log.chain.position + LEAT_FRAME_HEADER_BYTES; /* the third's first byte */
    while (node->log.chain.position < 4 * FAKE_SEGMENT_BYTES)
        write_records(1);
    commit_all();
    snprintf(path, sizeof(path), "%s/%016x.segment", node->log.directory, 0);
    snprintf(whole, sizeof(whole), "%s.whole", path);
    snprintf(line, sizeof(line), "cp %s %s", path, whole);
    assert_int_equal(system(line), 0);
    int file = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    assert_int_equal(pread(file, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    close(file);
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    expect(reader, 0, 2);
    expect_error(reader, LEAT_ECORRUPT);
    expect_error(reader, LEAT_ECORRUPT);
    assert_int_equal(rename(whole, path), 0);
    expect(reader, 2, written);
    leat_reader_close(reader);
}

static void test_restart_of_the_node(void **state)
{
    (void)state;
    write_records(5);
    commit_all();
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    expect(reader, 0, 3);
    fake_node_go_down(node);
    expect(reader, 3, 5); /* the arena survives */
    fake_node_come_up(node);
    uint64_t until_ns = fake_now_ns() + 10 * SECOND;
    struct leat_record record;
    while (atomic_load(&node->attaches) < 2 && fake_now_ns() < until_ns)
        assert_int_equal(leat_reader_next(reader, &record), LEAT_EAGAIN);
    while (node->log.chain.position < 4 * FAKE_SEGMENT_BYTES) {
        write_records(1);
        commit_all();
    }
    expect(reader, 5, written); /* files of the new process, too */
    leat_reader_close(reader);
}

/* ---- while the arena is written over ---- */

static atomic_bool writing;

static void *writer_thread(void *context)
{
    (void)context;
    uint64_t until_ns = fake_now_ns() + 30 * SECOND;
    while (node->log.chain.position < 40ull * FAKE_SEGMENT_BYTES && fake_now_ns() < until_ns) {
        write_records(20);
        commit_all();
    }
    atomic_store(&writing, false);
    return NULL;
}

static void test_overwritten_while_reading(void **state)
{
    (void)state;
    pthread_t thread;
    struct leat_reader *reader = open_reader(LEAT_FROM_START, 0, LEAT_ACK_DURABLE);
    struct leat_record record;
    uint64_t next = 0;
    atomic_store(&writing, true);
    assert_int_equal(pthread_create(&thread, NULL, writer_thread, NULL), 0);
    for (;;) {
        bool was_writing = atomic_load(&writing);
        int rc = leat_reader_next(reader, &record);
        if (rc == LEAT_OK)
            assert_record(&record, next++);
        else if (rc != LEAT_EAGAIN)
            fail_msg("record %lu: %s", (unsigned long)next, leat_error_name(rc));
        else if (!was_writing && next == written)
            break;
    }
    pthread_join(thread, NULL);
    assert_true(next > 10000);
    leat_reader_close(reader);
}

static void test_deleted_while_read(void **state)
{
    (void)state;
    struct leat_reader *reader;
    write_records(3);
    commit_all();
    assert_int_equal(leat_reader_open(client, 1, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader),
                     LEAT_OK);
    node->log.header->flags |= LEAT_ARENA_DELETED;
    expect(reader, 0, 3); /* what was committed and is here still */
    expect_error(reader, LEAT_ENOLOG);
    assert_int_equal(leat_wait_position(client, 1, UINT64_MAX - 1, LEAT_ACK_DURABLE, 1000000000u),
                     LEAT_ENOLOG);
    leat_reader_close(reader);
}

static void test_no_such_log(void **state)
{
    (void)state;
    struct leat_reader *reader;
    assert_int_equal(leat_reader_open(client, 9, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader),
                     LEAT_ENOLOG);
    assert_int_equal(leat_reader_open(client, 1, LEAT_FROM_START, 0, (enum leat_ack)0, &reader),
                     LEAT_EINVAL);
    leat_reader_close(NULL);
}

int main(void)
{
#define WITH_NODE(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        WITH_NODE(test_empty_log_then_live),
        WITH_NODE(test_levels),
        WITH_NODE(test_from_files_into_the_arena),
        WITH_NODE(test_a_segment_is_waited_for),
        WITH_NODE(test_seek_by_offset),
        WITH_NODE(test_trimmed),
        WITH_NODE(test_trimmed_before_what_is_wanted),
        WITH_NODE(test_rolled_back),
        WITH_NODE(test_rolled_back_and_overtaken),
        WITH_NODE(test_rolled_back_from_where_it_began),
        WITH_NODE(test_damage_is_told),
        WITH_NODE(test_goes_on_behind_a_repair),
        WITH_NODE(test_restart_of_the_node),
        WITH_NODE(test_overwritten_while_reading),
        WITH_NODE(test_deleted_while_read),
        WITH_NODE(test_no_such_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
