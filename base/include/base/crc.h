/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC32C (Castagnoli) by ISA-L, short ones by the CPU's own instruction. A running value: pass 0
 * to start, the result to go on. Any thread.
 */
#ifndef LEAT_BASE_CRC_H
#define LEAT_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t leat_crc32c(uint32_t crc, const void *bytes, size_t length_bytes);

/* Copies and hashes in pieces that stay in the first-level cache (4 KiB). */
uint32_t leat_crc32c_copy(uint32_t crc, void *to, const void *from, size_t length_bytes);

#endif
