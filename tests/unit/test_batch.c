/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches: their payload in a ring (base/batch.c) and their frames in a log (base/frame.c): the
 * chain knows where a batch goes on, and lets nothing else in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/frame.h"
#include "base/ring.h"
#include "base/rng.h"

#define SEGMENT LEAT_SEGMENT_BYTES_MIN

static const struct leat_log_shape shape = {
    .salt = 0x1234567, .entry_bytes_max = SEGMENT / 4, .segment_bytes = SEGMENT};
static _Alignas(8) uint8_t place[1024];
static uint32_t lengths[LEAT_BATCH_RECORDS_MAX];

static uint32_t item_put(uint8_t *to, uint32_t at, uint32_t payload_bytes)
{
    struct leat_batch_item item = {.payload_bytes = payload_bytes};
    memcpy(to + at, &item, sizeof(item));
    return at + (uint32_t)leat_batch_item_extent(payload_bytes);
}

static void a_batch_is_parsed(void **state)
{
    (void)state;
    uint8_t payload[64] = {0};
    uint32_t bytes = item_put(payload, 0, 5);
    bytes = item_put(payload, bytes, 0);
    bytes = item_put(payload, bytes, 16);
    assert_int_equal(bytes, 16 + 8 + 24);
    assert_int_equal(leat_batch_parse(payload, bytes, lengths), 3);
    assert_int_equal(lengths[0], 5);
    assert_int_equal(lengths[1], 0);
    assert_int_equal(lengths[2], 16);
}

static void what_is_no_batch_is_refused(void **state)
{
    (void)state;
    static uint8_t payload[8 * (LEAT_BATCH_RECORDS_MAX + 1)];
    assert_int_equal(leat_batch_parse(payload, 0, lengths), 0);
    assert_int_equal(leat_batch_parse(payload, 8 * LEAT_BATCH_RECORDS_MAX, lengths),
                     LEAT_BATCH_RECORDS_MAX);
    assert_int_equal(leat_batch_parse(payload, sizeof(payload), lengths), 0); /* one too many */
    item_put(payload, 0, 9);
    for (uint32_t bytes = 1; bytes < 24; bytes++) /* cut short anywhere */
        assert_int_equal(leat_batch_parse(payload, bytes, lengths), 0);
    assert_int_equal(leat_batch_parse(payload, 24, lengths), 1);
    for (uint32_t bytes = 25; bytes < 32; bytes++) /* bytes left over */
        assert_int_equal(leat_batch_parse(payload, bytes, lengths), 0);
    item_put(payload, 0, UINT32_MAX);
    assert_int_equal(leat_batch_parse(payload, sizeof(payload), lengths), 0);
    item_put(payload, 0, 0);
    payload[4] = 1; /* the zero word */
    assert_int_equal(leat_batch_parse(payload, 8, lengths), 0);
}

/* Whatever lies there: every length stays inside (the sanitizers look for a read beyond). */
static void noise_stays_inside(void **state)
{
    (void)state;
    struct leat_rng rng = {.state = 3};
    unsigned parsed = 0;
    for (unsigned round = 0; round < 20000; round++) {
        uint32_t bytes = (uint32_t)leat_rng_below(&rng, 80);
        uint8_t *payload = malloc(bytes + 1);
        for (uint32_t i = 0; i < bytes; i++)
            payload[i] = i % 8 == 0 ? (uint8_t)leat_rng_below(&rng, 40) : 0;
        uint32_t count = leat_batch_parse(payload, bytes, lengths);
        uint64_t total = 0;
        for (uint32_t i = 0; i < count; i++)
            total += leat_batch_item_extent(lengths[i]);
        assert_true(count == 0 || total == bytes);
        parsed += count > 0;
        free(payload);
    }
    assert_true(parsed > 100);
}

static void the_limit_counts_headers(void **state)
{
    (void)state;
    assert_true(leat_batch_fits(1024, 48 + 1024, 1024));
    assert_false(leat_batch_fits(1024, 48 + 1032, 1024));
    assert_false(leat_batch_fits(1032, 48, 1024));
}

/* ---- frames ---- */

static struct leat_chain chain_at(uint64_t position)
{
    return (struct leat_chain){.position = position, .last_time_ns = 1000, .term = 3};
}

static uint64_t seal(struct leat_chain *chain, uint32_t type_flags, uint32_t session,
                     uint64_t sequence)
{
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + 8,
                               .type_flags = type_flags,
                               .time_ns = chain->last_time_ns,
                               .session = session,
                               .sequence = sequence};
    static const uint64_t payload = 1;
    return leat_frame_seal(&shape, chain, place, &frame, &payload);
}

static int check(struct leat_chain *chain, uint64_t available)
{
    uint64_t extent;
    return leat_frame_check(&shape, chain, place, available, &extent);
}

#define CONTINUES (LEAT_FRAME_RECORD | LEAT_FRAME_FLAG_CONTINUES)

static void a_chain_knows_that_it_is_in_a_batch(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(4096), chain = sealed;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(check(&chain, seal(&sealed, i < 2 ? CONTINUES : LEAT_FRAME_RECORD, 2, 9)),
                         LEAT_OK);
        assert_int_equal(leat_chain_in_batch(&chain), i < 2);
        assert_memory_equal(&chain, &sealed, sizeof(chain));
    }
    assert_int_equal(chain.next_offset, 3); /* an offset each */
}

static void nothing_comes_between(void **state)
{
    (void)state;
    static const struct {
        uint32_t type_flags, session;
        uint64_t sequence;
        int expected;
    } rows[] = {
        {LEAT_FRAME_RECORD, 2, 9, LEAT_OK},      {CONTINUES, 2, 9, LEAT_OK},
        {LEAT_FRAME_RECORD, 2, 10, LEAT_ECHAIN}, {LEAT_FRAME_RECORD, 3, 9, LEAT_ECHAIN},
        {LEAT_FRAME_RECORD, 0, 0, LEAT_ECHAIN},  {LEAT_FRAME_TRIM, 2, 9, LEAT_ECHAIN},
        {LEAT_FRAME_PAD, 2, 9, LEAT_ECHAIN},     {LEAT_FRAME_FENCE, 2, 9, LEAT_ECHAIN},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct leat_chain sealed = chain_at(4096);
        seal(&sealed, CONTINUES, 2, 9);
        struct leat_chain chain = sealed;
        uint64_t extent = seal(&sealed, rows[i].type_flags, rows[i].session, rows[i].sequence);
        assert_int_equal(check(&chain, extent), rows[i].expected);
    }
}

static void a_batch_belongs_to_a_session(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(4096), chain = sealed;
    assert_int_equal(check(&chain, seal(&sealed, CONTINUES, 0, 0)), LEAT_ECHAIN);
    sealed = chain;
    assert_int_equal(check(&chain, seal(&sealed, CONTINUES, 1, 0)), LEAT_ECHAIN);
    sealed = chain;
    assert_int_equal(
        check(&chain, seal(&sealed, LEAT_FRAME_TRIM | LEAT_FRAME_FLAG_CONTINUES, 1, 1)),
        LEAT_EVERSION); /* only records go on */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_parsed),
        cmocka_unit_test(what_is_no_batch_is_refused),
        cmocka_unit_test(noise_stays_inside),
        cmocka_unit_test(the_limit_counts_headers),
        cmocka_unit_test(a_chain_knows_that_it_is_in_a_batch),
        cmocka_unit_test(nothing_comes_between),
        cmocka_unit_test(a_batch_belongs_to_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
