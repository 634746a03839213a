/* SPDX-License-Identifier: Apache-2.0
 *
 * What fuzz targets share: an input that is taken apart from its front and never runs out (then
 * zeros come), and a touch that makes a sanitizer look at every byte.
 *
 * A target is one function of bytes, without memory of its former runs. It is linked twice: with
 * libFuzzer (tests/fuzz/run) and with replay.c, which goes over its corpus in every build.
 * Where bytes carry CRCs the first byte holds flags: with FUZZ_FIT the CRCs are made to fit, as a
 * hostile writer or bad luck would, or nothing behind them were ever reached.
 */
#ifndef LEAT_TESTS_FUZZ_H
#define LEAT_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum fuzz_flag {
    FUZZ_FIT = 1,       /* CRCs */
    FUZZ_FIT_RULES = 2, /* and what ties the parts together: positions, sequences, counts */
};

struct fuzz_input {
    const uint8_t *bytes;
    size_t left;
};

/* Up to `length` bytes from the front; how many there were. */
static inline size_t fuzz_take(struct fuzz_input *input, void *to, size_t length)
{
    size_t taken = length < input->left ? length : input->left;
    memset(to, 0, length);
    if (taken > 0)
        memcpy(to, input->bytes, taken);
    input->bytes += taken;
    input->left -= taken;
    return taken;
}

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
    uint8_t value;
    fuzz_take(input, &value, sizeof(value));
    return value;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
    uint16_t value;
    fuzz_take(input, &value, sizeof(value));
    return value;
}

static inline uint32_t fuzz_u32(struct fuzz_input *input)
{
    uint32_t value;
    fuzz_take(input, &value, sizeof(value));
    return value;
}

static inline uint64_t fuzz_u64(struct fuzz_input *input)
{
    uint64_t value;
    fuzz_take(input, &value, sizeof(value));
    return value;
}

/* What is left, in memory of exactly its size: a byte too far is seen. The caller's to free(). */
static inline uint8_t *fuzz_rest(struct fuzz_input *input, size_t *ret_length)
{
    size_t length = input->left;
    uint8_t *copy = malloc(length > 0 ? length : 1);
    LEAT_ASSERT(copy);
    fuzz_take(input, copy, length);
    *ret_length = length;
    return copy;
}

/* Reads every byte. */
static inline void fuzz_touch(const void *bytes, size_t length)
{
    static volatile uint8_t sink;
    uint8_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    sink = sum;
    (void)sink;
}

#endif
