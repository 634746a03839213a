/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include <sys/random.h>

#include "leat/error.h"

int leat_rng_seed_from_system(struct leat_rng *rng)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return LEAT_ESYSTEM;
    rng->state = seed;
    return LEAT_OK;
}
