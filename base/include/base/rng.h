/* SPDX-License-Identifier: Apache-2.0
 *
 * Deterministic random numbers: splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
 * number generators", OOPSLA 2014, fig. 17). For jitter, simulation and tests; never for keys.
 */
#ifndef LEAT_BASE_RNG_H
#define LEAT_BASE_RNG_H

#include <stdint.h>

struct leat_rng {
    uint64_t state;
};

static inline uint64_t leat_rng_next(struct leat_rng *rng)
{
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* Uniform enough for our uses in [0, bound); bound > 0. */
static inline uint64_t leat_rng_below(struct leat_rng *rng, uint64_t bound)
{
    return leat_rng_next(rng) % bound;
}

/* Seeds from the kernel's entropy. Returns 0 or LEAT_ESYSTEM. */
int leat_rng_seed_from_system(struct leat_rng *rng);

#endif
