/* SPDX-License-Identifier: Apache-2.0
 *
 * The clocks of a worker's pass, read once per pass and handed down. Chosen at link time: the
 * simulator links its own. Any thread; no system call where the vdso serves the clock.
 */
#ifndef LEAT_DATAPLANE_CLOCK_H
#define LEAT_DATAPLANE_CLOCK_H

#include <stdint.h>

/* Never goes back; counts from an arbitrary moment. For timers. */
uint64_t leat_clock_monotonic_ns(void);

/* Since 1970, may jump. For log time only, which the core keeps from going back. */
uint64_t leat_clock_realtime_ns(void);

#endif
