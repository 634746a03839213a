/* SPDX-License-Identifier: Apache-2.0
 *
 * Which process of a private cluster runs on which core. With enough of them each worker and each
 * client has its own. With fewer, the node that leads shares the first with the clients, as on a
 * host of an application, and the others share the rest: a request and its answer are a switch
 * each, and what the leader waits for is computed elsewhere. A worker's core is a setting of its
 * node
 * (`worker: {lcore}`), as in a rack.
 */
#include <pthread.h>
#include <sched.h>

#include "bench.h"

/* The n-th core this process may run on; -1: there are not so many. */
static int allowed_core(unsigned n)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return -1;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &set) && n-- == 0)
            return core;
    }
    return -1;
}

static unsigned allowed_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static bool places(const struct bench_options *options, unsigned cores)
{
    return options->nodes > 0 && !options->attach && options->workers == 1 && !options->no_pin &&
           cores > 1;
}

int place_node(const struct bench_options *options, unsigned index)
{
    unsigned cores = allowed_count();
    if (!places(options, cores))
        return -1;
    return allowed_core(index == 0 ? 0 : 1 + (index - 1) % (cores - 1));
}

int place_client(const struct bench_options *options, unsigned index)
{
    unsigned cores = allowed_count();
    if (!places(options, cores))
        return -1;
    return allowed_core(cores > options->nodes ? options->nodes + index % (cores - options->nodes)
                                               : 0);
}

int place_spread(unsigned index)
{
    return allowed_core(index % allowed_count());
}

void place_pin_this_thread(int core)
{
    cpu_set_t set;
    if (core < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)core, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}
