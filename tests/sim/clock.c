/* SPDX-License-Identifier: Apache-2.0
 *
 * Time and chance as processes see them: a host's clocks, sleeps, what the kernel calls random; and
 * the dataplane's clock and idle strategy in place of dataplane/clock.c and idle.c. An idle worker
 * sleeps until something comes for it, or for as long as a real one may.
 */
#include <errno.h>
#include <time.h>

#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "system.h"

/* A pass that found work costs this much; one that found none waits at most for longest_ns. */
#define PASS_NS 2000u

#define REALTIME_BASE_NS (1760000000ull * SIM_S)

uint64_t host_monotonic_ns(const struct sim_host *host)
{
    int64_t passed = (int64_t)(world.now_ns - host->rate_from_ns);
    return host->rate_base_ns + (uint64_t)(passed + passed * host->rate_ppm / 1000000);
}

void host_set_rate(struct sim_host *host, int64_t rate_ppm)
{
    host->rate_base_ns = host->rate_from_ns ? host_monotonic_ns(host) : SIM_S;
    host->rate_from_ns = world.now_ns;
    host->rate_ppm = rate_ppm;
}

void host_new_boot(struct sim_host *host)
{
    for (unsigned i = 0; i < sizeof(host->boot.bytes); i++)
        host->boot.bytes[i] = (uint8_t)world_draw(STREAM_SYSTEM, 256);
}

uint64_t leat_clock_monotonic_ns(void)
{
    thread_yield_point(); /* at the beginning of a pass, and within a start */
    return host_monotonic_ns(sim_current->process->host);
}

uint64_t leat_clock_realtime_ns(void)
{
    const struct sim_host *host = sim_current->process->host;
    return REALTIME_BASE_NS + world.now_ns + (uint64_t)host->realtime_offset_ns;
}

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    if (!sim_current)
        return __real_clock_gettime(clock, ret_time);
    uint64_t ns = clock == CLOCK_REALTIME ? leat_clock_realtime_ns() : leat_clock_monotonic_ns();
    *ret_time = (struct timespec){.tv_sec = (time_t)(ns / SIM_S), .tv_nsec = (long)(ns % SIM_S)};
    return 0;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void)left;
    thread_sleep((uint64_t)time->tv_sec * SIM_S + (uint64_t)time->tv_nsec);
    return 0;
}

int __wrap_usleep(unsigned us);
int __wrap_usleep(unsigned us)
{
    thread_sleep(us * SIM_US);
    return 0;
}

int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
    thread_sleep(20 * SIM_US); /* to another task and back */
    return 0;
}

ssize_t __real_getrandom(void *to, size_t bytes, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t bytes, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t bytes, unsigned flags)
{
    uint8_t *at = to;
    if (!sim_current) /* leat-sim itself wants a fresh seed */
        return __real_getrandom(to, bytes, flags);
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)world_draw(STREAM_SYSTEM, 256);
    return (ssize_t)bytes;
}

/* ---- idle.h ---- */

void leat_idle_init(struct leat_idle *idle, enum leat_idle_strategy strategy, uint32_t sleep_ns,
                    uint32_t longest_ns)
{
    *idle =
        (struct leat_idle){.strategy = strategy, .sleep_ns = sleep_ns, .longest_ns = longest_ns};
}

void leat_idle_step(struct leat_idle *idle, uint64_t now_ns, unsigned work_count, bool expects)
{
    (void)now_ns, (void)expects;
    if (work_count > 0)
        thread_sleep(PASS_NS);
    if (work_count > 0)
        return;
    sim_current->idle = sim_current->works = true;
    thread_wait(world.now_ns + idle->longest_ns);
    sim_current->idle = false;
}
