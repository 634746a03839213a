/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/idle.h"

#include <sched.h>
#include <time.h>

#include "base/assert.h"

static void idle_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

void leat_idle_init(struct leat_idle *idle, enum leat_idle_strategy strategy, uint32_t sleep_ns,
                    uint32_t longest_ns)
{
    LEAT_ASSERT(strategy <= LEAT_IDLE_SLEEP && sleep_ns <= longest_ns);
    LEAT_ASSERT(sleep_ns > 0 && longest_ns <= LEAT_IDLE_SLEEP_NS_MAX);
    *idle =
        (struct leat_idle){.strategy = strategy, .sleep_ns = sleep_ns, .longest_ns = longest_ns};
}

static void idle_yield(struct leat_idle *idle)
{
    idle->yields++;
    sched_yield();
}

static void idle_sleep(struct leat_idle *idle, uint64_t sleep_ns)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)sleep_ns};
    idle->sleeps++;
    nanosleep(&pause, NULL); /* a signal ends it early: that is as good */
}

static uint64_t idle_longer_ns(const struct leat_idle *idle)
{
    uint32_t asleep = idle->idle_passes - LEAT_IDLE_YIELDS_BEFORE_SLEEP;
    uint64_t sleep_ns = idle->sleep_ns;
    for (uint32_t i = LEAT_IDLE_SLEEPS_BEFORE_LONGER; i < asleep && sleep_ns < idle->longest_ns;
         i++)
        sleep_ns *= 2;
    return sleep_ns < idle->longest_ns ? sleep_ns : idle->longest_ns;
}

void leat_idle_step(struct leat_idle *idle, uint64_t now_ns, unsigned work_count, bool expects)
{
    if (work_count > 0) {
        idle->idle_passes = 0;
        return;
    }
    if (expects) {
        idle_pause();
        return;
    }
    if (idle->idle_passes < UINT32_MAX)
        idle->idle_passes++;
    if (idle->idle_passes == 1)
        idle->awake_ns = now_ns;
    switch (idle->strategy) {
    case LEAT_IDLE_SPIN:
        idle_pause();
        break;
    case LEAT_IDLE_YIELD:
        if (now_ns - idle->awake_ns < LEAT_IDLE_YIELD_NS) {
            idle_yield(idle);
        } else {
            idle->awake_ns = now_ns;
            idle_sleep(idle, idle->sleep_ns);
        }
        break;
    case LEAT_IDLE_SLEEP:
        if (idle->idle_passes <= LEAT_IDLE_YIELDS_BEFORE_SLEEP)
            idle_yield(idle);
        else
            idle_sleep(idle, idle_longer_ns(idle));
        break;
    }
}
