/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/clock.h"

#include <time.h>

#include "base/assert.h"

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    int rc = clock_gettime(clock, &now);
    LEAT_ASSERT(rc == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t leat_clock_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t leat_clock_realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
