/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a follower lays what it receives: above what is verified, and above what its storage keeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log.h"

#define ARENA      (1u << 20)
#define BASE       (3ull * ARENA + ARENA / 4)
#define KEPT_BYTES 64u
#define PAYLOAD    256u

static struct node_log *the_log;
static uint8_t payload[PAYLOAD];

/* Cut at a segment's base: the chain ends there, and the BASE frame is on the disk. */
static int setup(void **state)
{
    (void)state;
    the_log = calloc(1, sizeof(*the_log));
    assert_non_null(the_log);
    the_log->arena.arena_bytes = ARENA;
    the_log->arena.bytes = calloc(1, ARENA);
    the_log->arena.header = aligned_alloc(4096, 4096);
    assert_non_null(the_log->arena.header);
    memset(the_log->arena.header, 0, 4096);
    the_log->needed_from = the_log->chain.position = BASE;
    the_log->kept_end = BASE + KEPT_BYTES;
    memset(log_at(the_log, BASE), 'k', KEPT_BYTES);
    memset(payload, 'p', sizeof(payload));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(the_log->arena.header);
    free(the_log->arena.bytes);
    free(the_log);
    return 0;
}

static void receive(uint64_t begin_pos, uint32_t bytes)
{
    struct leat_message message = {.begin_pos = begin_pos, .end_pos = begin_pos + bytes};
    log_receive(the_log, &message, payload, bytes);
}

static void expect(uint64_t from_pos, uint64_t to_pos, uint8_t byte)
{
    for (uint64_t at = from_pos; at < to_pos; at++)
        assert_int_equal(*log_at(the_log, at), byte);
}

/* Whose first bytes may be anything, as long as the chain has not proved them. */
static void what_storage_keeps_is_not_written(void **state)
{
    (void)state;
    receive(BASE, PAYLOAD);
    expect(BASE, BASE + KEPT_BYTES, 'k');
    expect(BASE + KEPT_BYTES, BASE + PAYLOAD, 'p');
    expect(BASE + PAYLOAD, BASE + PAYLOAD + 64, 0);
    assert_int_equal(the_log->assembler.count, 1); /* all of it is there to be verified */
    assert_int_equal(the_log->assembler.intervals[0].begin, BASE);
    assert_int_equal(the_log->assembler.intervals[0].end, BASE + PAYLOAD);
}

static void nor_by_what_ends_within_it(void **state)
{
    (void)state;
    receive(BASE, KEPT_BYTES / 2);
    expect(BASE, BASE + KEPT_BYTES, 'k');
    receive(BASE + KEPT_BYTES / 2, KEPT_BYTES);
    expect(BASE, BASE + KEPT_BYTES, 'k');
    expect(BASE + KEPT_BYTES, BASE + KEPT_BYTES + KEPT_BYTES / 2, 'p');
    assert_int_equal(the_log->assembler.intervals[0].end, BASE + KEPT_BYTES + KEPT_BYTES / 2);
}

static void what_is_verified_is_not_written_again(void **state)
{
    (void)state;
    the_log->chain.position = BASE + 128;
    receive(BASE, PAYLOAD);
    expect(BASE, BASE + KEPT_BYTES, 'k');
    expect(BASE + KEPT_BYTES, BASE + 128, 0);
    expect(BASE + 128, BASE + PAYLOAD, 'p');
    receive(BASE, 128);
    assert_int_equal(the_log->counters.datagrams_duplicate, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_storage_keeps_is_not_written),
        CASE(nor_by_what_ends_within_it),
        CASE(what_is_verified_is_not_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
