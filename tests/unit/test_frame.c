/* SPDX-License-Identifier: Apache-2.0
 *
 * base/frame.c: what is sealed is checked, at every place near a segment's end; what is not a
 * frame of this chain is refused, down to a single bit; base frames, and hostile input to them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base_frame.h"
#include "base/frame.h"
#include "base/rng.h"

#define SEGMENT LEAT_SEGMENT_BYTES_MIN

static const struct leat_log_shape shape = {
    .salt = 0x1234567, .entry_bytes_max = SEGMENT / 4, .segment_bytes = SEGMENT};
static _Alignas(8) uint8_t place[2 * SEGMENT];
static uint8_t payload[SEGMENT / 4];

static struct leat_chain chain_at(uint64_t position)
{
    return (struct leat_chain){.position = position,
                               .next_offset = 7,
                               .last_time_ns = 1000,
                               .run_first_pos = 8,
                               .term = 3,
                               .crc = 0xabcdef};
}

static uint64_t seal(struct leat_chain *chain, uint32_t type, uint32_t payload_bytes, uint8_t *to)
{
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + payload_bytes,
                               .type_flags = type,
                               .time_ns = chain->last_time_ns + 5,
                               .sequence = 9,
                               .session = 2};
    struct leat_term_payload term = {.term = chain->term + 2,
                                     .previous_term = chain->term,
                                     .previous_first_pos = chain->run_first_pos};
    frame.term = chain->term + 2;
    return leat_frame_seal(&shape, chain, to, &frame,
                           type == LEAT_FRAME_TERM ? (void *)&term : payload);
}

static void after_every_frame_there_is_no_room_or_room_for_a_term(void **state)
{
    (void)state;
    for (uint64_t left = 8; left <= 4 * LEAT_TERM_FRAME_BYTES; left += LEAT_FRAME_ALIGN) {
        for (uint32_t length = LEAT_FRAME_HEADER_BYTES; length <= left; length++) {
            uint64_t extent = leat_frame_extent(&shape, SEGMENT - left, length);
            uint64_t rest = left - extent;
            assert_true(extent >= length && extent <= left && extent % LEAT_FRAME_ALIGN == 0);
            assert_true(rest == 0 || rest >= LEAT_TERM_FRAME_BYTES);
        }
    }
}

static void what_is_sealed_is_checked_near_a_segments_end(void **state)
{
    (void)state;
    for (uint64_t left = 48; left <= 320; left += LEAT_FRAME_ALIGN) {
        for (uint32_t bytes = 0; bytes + LEAT_FRAME_HEADER_BYTES <= left; bytes += 7) {
            struct leat_chain sealed = chain_at(SEGMENT - left);
            struct leat_chain checked = sealed;
            uint64_t ret_extent = 0;
            memset(place, 0xee, 512);
            uint64_t extent = seal(&sealed, LEAT_FRAME_RECORD, bytes, place);
            assert_int_equal(leat_frame_check(&shape, &checked, place, extent, &ret_extent), 0);
            assert_int_equal(ret_extent, extent);
            assert_memory_equal(&sealed, &checked, sizeof(sealed));
            assert_int_equal(place[extent], 0xee);
        }
    }
}

static void a_single_flipped_bit_is_refused(void **state)
{
    (void)state;
    static const uint32_t types[] = {LEAT_FRAME_RECORD, LEAT_FRAME_TERM, LEAT_FRAME_PAD};
    for (unsigned t = 0; t < 3; t++) {
        struct leat_chain sealed = chain_at(4096);
        uint64_t extent = seal(&sealed, types[t], types[t] == LEAT_FRAME_TERM ? 32 : 101, place);
        for (uint64_t bit = 0; bit < extent * 8; bit++) {
            struct leat_chain chain = chain_at(4096), before = chain;
            uint64_t ret_extent = 0;
            place[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int rc = leat_frame_check(&shape, &chain, place, extent, &ret_extent);
            place[bit / 8] ^= (uint8_t)(1u << bit % 8);
            /* a longer length asks for more bytes first */
            assert_true(rc == LEAT_ECHAIN || (rc == LEAT_EAGAIN && bit < 32));
            assert_memory_equal(&chain, &before, sizeof(chain));
        }
    }
}

static void a_part_of_a_frame_asks_for_more(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(4096);
    uint64_t extent = seal(&sealed, LEAT_FRAME_RECORD, 100, place);
    for (uint64_t have = 0; have < extent; have++) {
        struct leat_chain chain = chain_at(4096);
        uint64_t ret_extent = 77;
        assert_int_equal(leat_frame_check(&shape, &chain, place, have, &ret_extent), LEAT_EAGAIN);
        assert_int_equal(ret_extent, 77);
    }
}

static void refuse(struct leat_chain chain, uint64_t extent)
{
    uint64_t ret_extent;
    assert_int_equal(leat_frame_check(&shape, &chain, place, extent, &ret_extent), LEAT_ECHAIN);
}

static void another_place_time_offset_or_term_is_refused(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(4096), other = sealed;
    uint64_t extent = seal(&sealed, LEAT_FRAME_RECORD, 100, place);
    other.position += 8;
    refuse(other, extent);
    other = chain_at(4096);
    other.crc++;
    refuse(other, extent);
    other = chain_at(4096);
    other.next_offset++;
    refuse(other, extent);
    other = chain_at(4096);
    other.last_time_ns = 1006;
    refuse(other, extent);
    other = chain_at(4096);
    other.term++;
    refuse(other, extent);
    refuse(sealed, extent); /* the same frame once more */
}

static void a_term_frame_must_fit_the_runs(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(4096), chain = sealed, other = sealed;
    uint64_t ret_extent, extent = seal(&sealed, LEAT_FRAME_TERM, 32, place);
    assert_int_equal(extent, LEAT_TERM_FRAME_BYTES);
    assert_int_equal(leat_frame_check(&shape, &chain, place, extent, &ret_extent), 0);
    assert_int_equal(chain.term, 5);
    assert_int_equal(chain.run_first_pos, 4096);
    other.run_first_pos++;
    refuse(other, extent);
    other = chain_at(4096);
    other.term = 2;
    refuse(other, extent);
    other.term = 5;
    refuse(other, extent);
}

static void a_pads_body_is_zeros(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(SEGMENT - 512), chain = sealed;
    uint64_t ret_extent, extent = seal(&sealed, LEAT_FRAME_PAD, 512 - 48, place);
    assert_int_equal(extent, 512);
    for (unsigned i = 48; i < 512; i++)
        assert_int_equal(place[i], 0);
    assert_int_equal(leat_frame_check(&shape, &chain, place, extent, &ret_extent), 0);
    assert_int_equal(chain.position, SEGMENT);
    place[511] = 1;
    refuse(chain_at(SEGMENT - 512), extent);
}

static void an_unknown_type_is_named(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(4096), chain = sealed;
    uint64_t ret_extent, extent = seal(&sealed, LEAT_FRAME_CONFIG, 100, place);
    assert_int_equal(leat_frame_check(&shape, &chain, place, extent, &ret_extent), LEAT_EVERSION);
    sealed = chain;
    extent = seal(&sealed, LEAT_FRAME_RECORD | LEAT_FRAME_FLAG_ENCRYPTED, 100, place);
    assert_int_equal(leat_frame_check(&shape, &chain, place, extent, &ret_extent), LEAT_EVERSION);
}

/* ---- base frames ---- */

#define SESSIONS 3u
static struct {
    struct leat_base_head head;
    struct leat_base_member members[3];
    struct leat_session_row sessions[SESSIONS];
    struct leat_session_closed closed[LEAT_SESSIONS_CLOSED];
} base;

static void base_fill(uint64_t position)
{
    memset(&base, 0, sizeof(base));
    base.head = (struct leat_base_head){.version = LEAT_BASE_VERSION,
                                        .position = position,
                                        .segment_bytes = SEGMENT,
                                        .arena_bytes = LEAT_ARENA_BYTES_MIN,
                                        .entry_bytes_max = SEGMENT / 4,
                                        .next_offset = 7,
                                        .last_time_ns = 1000,
                                        .run_first_pos = 8,
                                        .run_term = 3,
                                        .chain_crc = 0xabcdef,
                                        .member_count = 3,
                                        .session_count = SESSIONS,
                                        .closed_count = LEAT_SESSIONS_CLOSED,
                                        .closed_unknown_pos = 64};
    for (unsigned i = 0; i < 3; i++) {
        base.members[i].node_id = i + 1;
        base.sessions[i].session = 2 * i + 1;
    }
    for (unsigned i = 0; i < LEAT_SESSIONS_CLOSED; i++)
        base.closed[i].position = SEGMENT - 8 * (LEAT_SESSIONS_CLOSED - i);
}

static uint64_t base_seal(struct leat_chain *chain)
{
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + sizeof(base),
                               .type_flags = LEAT_FRAME_BASE,
                               .time_ns = chain->last_time_ns};
    return leat_frame_seal(&shape, chain, place, &frame, &base);
}

static void a_base_frame_stands_at_a_boundary_and_only_there(void **state)
{
    (void)state;
    struct leat_chain sealed = chain_at(SEGMENT), chain = sealed, begun;
    uint64_t ret_extent;
    base_fill(SEGMENT);
    uint64_t extent = base_seal(&sealed);
    assert_int_equal(leat_chain_at_base(&shape, SEGMENT, place, extent, &begun), 0);
    assert_memory_equal(&begun, &chain, sizeof(chain));
    assert_int_equal(leat_frame_check(&shape, &chain, place, extent, &ret_extent), 0);
    sealed = chain_at(SEGMENT + 8);
    extent = base_seal(&sealed);
    refuse(chain_at(SEGMENT + 8), extent);
    sealed = chain_at(SEGMENT);
    extent = seal(&sealed, LEAT_FRAME_RECORD, 100, place);
    refuse(chain_at(SEGMENT), extent);
}

static int base_parse(uint32_t bytes)
{
    struct leat_base parts;
    return leat_base_parse(&base, bytes, &parts);
}

static void a_base_that_lies_is_refused(void **state)
{
    (void)state;
    base_fill(SEGMENT);
    assert_int_equal(base_parse(sizeof(base)), 0);
    for (uint32_t bytes = 0; bytes < sizeof(base); bytes++)
        assert_int_not_equal(base_parse(bytes), 0);
    base.head.version++;
    assert_int_equal(base_parse(sizeof(base)), LEAT_EVERSION);
    base_fill(SEGMENT);
    base.closed[LEAT_SESSIONS_CLOSED - 1].position = SEGMENT;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.closed[7].position = base.closed[6].position;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.closed[0].position = base.head.closed_unknown_pos;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.head.closed_count--; /* there was room for all */
    assert_int_equal(base_parse(sizeof(base) - sizeof(base.closed[0])), LEAT_ECORRUPT);
    base.head.closed_unknown_pos = 0;
    assert_int_equal(base_parse(sizeof(base) - sizeof(base.closed[0])), 0);
    base_fill(SEGMENT);
    base.head.closed_count++;
    assert_int_equal(base_parse(sizeof(base) + sizeof(base.closed[0])), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.head.session_count = UINT16_MAX;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.sessions[1].session = 1;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.sessions[2].session = LEAT_SESSIONS_MAX + 1;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.members[2].node_id = 1;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.head.segment_bytes = SEGMENT + 8;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
    base_fill(SEGMENT);
    base.head.trim_pos = 2 * SEGMENT;
    assert_int_equal(base_parse(sizeof(base)), LEAT_ECORRUPT);
}

/* Whatever the bytes: no read beyond them (the sanitizers look), no success by luck. */
static void noise_is_no_base(void **state)
{
    (void)state;
    struct leat_rng rng = {.state = 5};
    struct leat_chain chain;
    for (unsigned round = 0; round < 20000; round++) {
        struct leat_chain sealed = chain_at(SEGMENT);
        base_fill(SEGMENT);
        uint64_t extent = base_seal(&sealed);
        uint8_t *copy = malloc(extent);
        memcpy(copy, place, extent);
        copy[leat_rng_below(&rng, extent)] ^= (uint8_t)(1 + leat_rng_below(&rng, 255));
        assert_int_not_equal(leat_chain_at_base(&shape, SEGMENT, copy, extent, &chain), 0);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_every_frame_there_is_no_room_or_room_for_a_term),
        cmocka_unit_test(what_is_sealed_is_checked_near_a_segments_end),
        cmocka_unit_test(a_single_flipped_bit_is_refused),
        cmocka_unit_test(a_part_of_a_frame_asks_for_more),
        cmocka_unit_test(another_place_time_offset_or_term_is_refused),
        cmocka_unit_test(a_term_frame_must_fit_the_runs),
        cmocka_unit_test(a_pads_body_is_zeros),
        cmocka_unit_test(an_unknown_type_is_named),
        cmocka_unit_test(a_base_frame_stands_at_a_boundary_and_only_there),
        cmocka_unit_test(a_base_that_lies_is_refused),
        cmocka_unit_test(noise_is_no_base),
    };
    for (unsigned i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 31 + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
