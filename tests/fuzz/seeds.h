/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes the seeds of the corpora from the structures themselves: what an honest writer would give,
 * for a fuzzer to go on from. Usage: fuzz_seeds CORPUS EXAMPLE_YAML
 */
#ifndef LEAT_TESTS_FUZZ_SEEDS_H
#define LEAT_TESTS_FUZZ_SEEDS_H

#include <stddef.h>
#include <stdint.h>

/* Appends to the seed that is being made. */
void seed_put(const void *bytes, size_t length);
void seed_u8(uint8_t value);
void seed_u16(uint16_t value);
void seed_u32(uint32_t value);
void seed_u64(uint64_t value);
/* Zeros up to a multiple of `align` bytes behind the first `from`. */
void seed_align(size_t from, size_t align);
size_t seed_length(void);
/* Writes it to CORPUS/target/seed-name and begins the next. */
void seed_end(const char *target, const char *name);

void seeds_wire(void);
void seeds_frames(void);
void seeds_base(void);
void seeds_catalogue(void);
void seeds_ring(void);
void seeds_ring_bounds(void);
void seeds_control(void);
void seeds_journal(void);
void seeds_votes(void);
void seeds_recovery(void);

#endif
