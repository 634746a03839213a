/* SPDX-License-Identifier: Apache-2.0
 *
 * What a worker does after a pass that found nothing to do. One struct per worker, used by its
 * thread only. The only system calls here are sched_yield and nanosleep.
 *
 *   SPIN   a pause instruction: the core is the worker's alone
 *   YIELD  sched_yield: workers share cores (the default on few cores). After LEAT_IDLE_YIELD_NS
 *          without work one sleep of `sleep_ns`, then yields again: a task that only yields never
 *          leaves the run queue, and there are kernels whose group scheduling then starves all
 *          others on that core, the threads that end disk writes among them (ADR 0016)
 *   SLEEP  yields LEAT_IDLE_YIELDS_BEFORE_SLEEP times in a row, then sleeps `sleep_ns`; after
 *          LEAT_IDLE_SLEEPS_BEFORE_LONGER such sleeps in a row twice as long each time, up to
 *          `longest_ns`: the bound on what it adds to the next packet's latency (plus the kernel's
 *          timer slack)
 */
#ifndef LEAT_DATAPLANE_IDLE_H
#define LEAT_DATAPLANE_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#define LEAT_IDLE_YIELD_NS             500000u
#define LEAT_IDLE_YIELDS_BEFORE_SLEEP  100u
#define LEAT_IDLE_SLEEPS_BEFORE_LONGER 200u
#define LEAT_IDLE_SLEEP_NS_MAX         10000000u

enum leat_idle_strategy {
    LEAT_IDLE_SPIN,
    LEAT_IDLE_YIELD,
    LEAT_IDLE_SLEEP,
};

struct leat_idle {
    enum leat_idle_strategy strategy;
    uint32_t sleep_ns;       /* YIELD, SLEEP */
    uint32_t longest_ns;     /* SLEEP */
    uint32_t idle_passes;    /* in a row */
    uint64_t awake_ns;       /* YIELD: the first pass without work since it worked or slept */
    uint64_t yields, sleeps; /* counted for the worker's counters */
};

/* `longest_ns`: at least `sleep_ns`, at most LEAT_IDLE_SLEEP_NS_MAX. */
void leat_idle_init(struct leat_idle *idle, enum leat_idle_strategy strategy, uint32_t sleep_ns,
                    uint32_t longest_ns);

/* `work_count`: what the pass just done, at `now_ns`, found to do; 0 makes it idle. `expects`: what
 * is awaited comes sooner than another task would be switched to and back: then a pause
 * instruction, whatever the strategy. */
void leat_idle_step(struct leat_idle *idle, uint64_t now_ns, unsigned work_count, bool expects);

#endif
