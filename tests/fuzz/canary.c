/* SPDX-License-Identifier: Apache-2.0
 *
 * A parser that is broken on purpose. The fuzzer must find that within seconds, or its clean runs
 * elsewhere mean nothing: what it takes to get here (a magic, a nested length) is found only when
 * coverage guides it, and what is wrong (a byte behind a heap block) only when a sanitizer looks.
 */
#include "fuzz.h"

#define ITEM_BYTES_MAX 16u

/* "LEAT", a count of items, then each: length, bytes. The longest item is copied out. */
static void canary_parse(const uint8_t *bytes, size_t length)
{
    static const uint8_t magic[] = {'L', 'E', 'A', 'T'};
    uint8_t *longest = calloc(1, ITEM_BYTES_MAX);
    LEAT_ASSERT(longest);
    size_t at = sizeof(magic) + 1;
    bool fits = length > sizeof(magic);
    for (size_t i = 0; fits && i < sizeof(magic); i++) {
        if (bytes[i] != magic[i])
            fits = false;
    }
    for (unsigned item = 0; fits && item < bytes[sizeof(magic)]; item++) {
        if (at >= length || bytes[at] > length - at - 1)
            break;
        size_t item_bytes = bytes[at];
        if (item_bytes <= ITEM_BYTES_MAX + 1) /* one too many */
            memcpy(longest, bytes + at + 1, item_bytes);
        at += 1 + item_bytes;
    }
    fuzz_touch(longest, ITEM_BYTES_MAX);
    free(longest);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    canary_parse(bytes, length);
    return 0;
}
