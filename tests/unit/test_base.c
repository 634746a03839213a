/* SPDX-License-Identifier: Apache-2.0
 *
 * base/: crc, histogram, uuid, the table of errors, random numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/histogram.h"
#include "base/rng.h"
#include "base/uuid.h"
#include "leat/error.h"

/* Bit by bit, as the polynomial says (reflected 0x1edc6f41). */
static uint32_t crc_of_the_book(uint32_t crc, const uint8_t *bytes, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void crc_of_every_short_length_and_alignment(void **state)
{
    (void)state;
    struct leat_rng rng = {.state = 7};
    uint8_t bytes[720];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)leat_rng_next(&rng);
    for (size_t at = 0; at < 9; at++) {
        for (size_t length = 0; at + length <= sizeof(bytes); length++)
            assert_int_equal(leat_crc32c((uint32_t)length, bytes + at, length),
                             crc_of_the_book((uint32_t)length, bytes + at, length));
    }
}

static void crc_has_the_known_answer(void **state)
{
    (void)state;
    assert_int_equal(leat_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(leat_crc32c(0, "", 0), 0);
    assert_int_equal(leat_crc32c(leat_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

static void copying_and_hashing_is_hashing(void **state)
{
    (void)state;
    static uint8_t from[20000], to[20001];
    struct leat_rng rng = {.state = 1};
    for (unsigned i = 0; i < sizeof(from); i++)
        from[i] = (uint8_t)leat_rng_next(&rng);
    static const size_t sizes[] = {0, 1, 7, 8, 4095, 4096, 4097, 8192, 20000};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memset(to, 0xee, sizeof(to));
        assert_int_equal(leat_crc32c_copy(3, to, from, sizes[i]), leat_crc32c(3, from, sizes[i]));
        assert_memory_equal(to, from, sizes[i]);
        assert_int_equal(to[sizes[i]], 0xee);
    }
}

static void a_histogram_is_right_to_a_sixty_fourth(void **state)
{
    (void)state;
    static struct leat_histogram histogram, sum;
    assert_int_equal(leat_histogram_at(&histogram, 0.5), 0);
    for (uint64_t value = 1; value != 0; value <<= 1) {
        leat_histogram_reset(&histogram);
        leat_histogram_record(&histogram, value + value / 3);
        leat_histogram_record(&histogram, UINT64_MAX);
        uint64_t half = leat_histogram_at(&histogram, 0.5);
        assert_true(half >= value + value / 3 && half - (value + value / 3) <= value / 32);
        assert_true(leat_histogram_at(&histogram, 1.0) == UINT64_MAX);
    }
    leat_histogram_reset(&histogram);
    for (uint64_t value = 0; value < 64; value++)
        leat_histogram_record(&histogram, value);
    leat_histogram_add(&sum, &histogram);
    leat_histogram_add(&sum, &histogram);
    assert_int_equal(sum.count, 128);
    assert_int_equal(leat_histogram_at(&sum, 0.0), 0);
    assert_int_equal(leat_histogram_at(&sum, 0.5), 31);
    assert_int_equal(leat_histogram_at(&sum, 1.0), 63);
}

static void a_uuid_survives_its_text(void **state)
{
    (void)state;
    struct leat_uuid uuid, again;
    char text[LEAT_UUID_TEXT_BYTES];
    assert_int_equal(leat_uuid_random(&uuid), 0);
    leat_uuid_format(&uuid, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '4');
    assert_int_equal(leat_uuid_parse(text, &again), 0);
    assert_true(leat_uuid_equal(&uuid, &again));
    for (unsigned cut = 0; cut < 36; cut++) {
        char part[LEAT_UUID_TEXT_BYTES];
        memcpy(part, text, sizeof(part));
        part[cut] = '\0';
        assert_int_equal(leat_uuid_parse(part, &again), LEAT_EINVAL);
        part[cut] = 'x';
        assert_int_equal(leat_uuid_parse(part, &again), LEAT_EINVAL);
    }
    struct leat_uuid zero = leat_uuid_of_log(&uuid, 0), one = leat_uuid_of_log(&uuid, 1);
    again = leat_uuid_of_log(&uuid, 1);
    assert_false(leat_uuid_equal(&zero, &one));
    assert_true(leat_uuid_equal(&one, &again));
}

static void every_error_has_its_own_name_and_sentence(void **state)
{
    (void)state;
    static const int values[] = {
#define VALUE(name, value, sentence) value,
        LEAT_ERRORS(VALUE)
#undef VALUE
    };
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_int_equal(values[i], -(int)i);
        assert_true(strncmp(leat_error_name(values[i]), "LEAT_", 5) == 0);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(leat_error_text(values[i]), leat_error_text(values[j]));
    }
    assert_non_null(leat_error_text(1));
    assert_string_equal(leat_error_name(-9999), "LEAT_E?");
}

/* Computed from the paper's definition by other means: the first three numbers of seed 0. */
static void random_numbers_repeat(void **state)
{
    (void)state;
    struct leat_rng rng = {0}, other;
    assert_true(leat_rng_next(&rng) == 0xe220a8397b1dcdafULL);
    assert_true(leat_rng_next(&rng) == 0x6e789e6aa1b965f4ULL);
    assert_true(leat_rng_next(&rng) == 0x06c45d188009454fULL);
    for (uint64_t bound = 1; bound < 100; bound++)
        assert_true(leat_rng_below(&rng, bound) < bound);
    assert_int_equal(leat_rng_seed_from_system(&rng), 0);
    assert_int_equal(leat_rng_seed_from_system(&other), 0);
    assert_true(rng.state != other.state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_has_the_known_answer),
        cmocka_unit_test(crc_of_every_short_length_and_alignment),
        cmocka_unit_test(copying_and_hashing_is_hashing),
        cmocka_unit_test(a_histogram_is_right_to_a_sixty_fourth),
        cmocka_unit_test(a_uuid_survives_its_text),
        cmocka_unit_test(every_error_has_its_own_name_and_sentence),
        cmocka_unit_test(random_numbers_repeat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
