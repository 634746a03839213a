/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"

#include <immintrin.h>
#include <isa-l.h>
#include <stdbool.h>
#include <string.h>

/* ISA-L takes an int length and neither inverts at the start nor at the end. */
#define CRC_CALL_BYTES_MAX   (1u << 30)
#define CRC_COPY_PIECE_BYTES 4096u
#define CRC_SHORT_BYTES      256u /* below it, the CPU's instruction in a row is faster (ADR 0017) */

static bool crc_is_short(size_t length_bytes)
{
    return length_bytes < CRC_SHORT_BYTES && __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_short(uint32_t crc, const unsigned char *at,
                                                            size_t length_bytes)
{
    uint64_t running = crc;
    for (; length_bytes >= sizeof(uint64_t); length_bytes -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        running = _mm_crc32_u64(running, word);
        at += sizeof(word);
    }
    crc = (uint32_t)running;
    for (; length_bytes > 0; length_bytes--)
        crc = _mm_crc32_u8(crc, *at++);
    return crc;
}

uint32_t leat_crc32c(uint32_t crc, const void *bytes, size_t length_bytes)
{
    const unsigned char *at = bytes;
    crc = ~crc;
    if (crc_is_short(length_bytes))
        return ~crc_short(crc, at, length_bytes);
    while (length_bytes > 0) {
        size_t piece = length_bytes < CRC_CALL_BYTES_MAX ? length_bytes : CRC_CALL_BYTES_MAX;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)at, (int)piece, crc);
        at += piece;
        length_bytes -= piece;
    }
    return ~crc;
}

uint32_t leat_crc32c_copy(uint32_t crc, void *to, const void *from, size_t length_bytes)
{
    char *dst = to;
    const char *src = from;
    while (length_bytes > 0) {
        size_t piece = length_bytes < CRC_COPY_PIECE_BYTES ? length_bytes : CRC_COPY_PIECE_BYTES;
        memcpy(dst, src, piece);
        crc = leat_crc32c(crc, dst, piece);
        dst += piece;
        src += piece;
        length_bytes -= piece;
    }
    return crc;
}
