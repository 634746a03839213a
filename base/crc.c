/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"

#include <isa-l.h>
#include <string.h>

/* ISA-L takes an int length and neither inverts at the start nor at the end. */
#define CRC_CALL_BYTES_MAX   (1u << 30)
#define CRC_COPY_PIECE_BYTES 4096u

uint32_t leat_crc32c(uint32_t crc, const void *bytes, size_t length_bytes)
{
    const unsigned char *at = bytes;
    crc = ~crc;
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
