/* SPDX-License-Identifier: Apache-2.0
 *
 * The CRC of long runs is a library's assembly, which no sanitizer sees into: linked with
 * --wrap=leat_crc32c, every target has the range looked at before.
 */
#include <sanitizer/asan_interface.h>

#include "base/crc.h"
#include "fuzz.h"

uint32_t __real_leat_crc32c(uint32_t crc, const void *bytes, size_t length_bytes);
uint32_t __wrap_leat_crc32c(uint32_t crc, const void *bytes, size_t length_bytes);

uint32_t __wrap_leat_crc32c(uint32_t crc, const void *bytes, size_t length_bytes)
{
    const uint8_t *bad = __asan_region_is_poisoned((void *)(uintptr_t)bytes, length_bytes);
    if (bad)
        fuzz_touch(bad, 1); /* the sanitizer's own report */
    return __real_leat_crc32c(crc, bytes, length_bytes);
}
