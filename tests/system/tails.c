/* SPDX-License-Identifier: Apache-2.0
 *
 * Is the tail linearizable? Clients on every node append and note the highest offset acknowledged;
 * others ask where the log ends and must never be told less than what was acknowledged before they
 * asked, by whichever node (PR4, C8).
 *
 *   tails SECONDS LEAST SOCKET...      for SECONDS, and on until LEAST appends and tails were seen
 *
 * One JSON object: {"appends", "tails", "failed_tails", "stale"}; exit code 1 when one was stale.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "leat/leat.h"

#define SOCKETS_MAX 7
#define LONGER_NS   60000000000u /* on a machine whose disk or cores are taken */

static _Atomic uint64_t acknowledged; /* the offset behind the highest acknowledged record */
static _Atomic uint64_t appends, tails, failed_tails, stale;
static uint64_t end_ns, give_up_ns;
static uint64_t least;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is_over(void)
{
    uint64_t now = now_ns();
    return now >= give_up_ns ||
           (now >= end_ns && atomic_load(&appends) >= least && atomic_load(&tails) >= least);
}

static struct leat_client *attach(const char *socket)
{
    struct leat_options options = {.socket = socket, .attach_timeout_ns = 20000000000u};
    struct leat_client *client;
    while (leat_attach(&options, &client) != LEAT_OK) {
        if (is_over())
            return NULL;
    }
    return client;
}

static void *append_loop(void *context)
{
    struct leat_client *client = attach(context);
    while (client && !is_over()) {
        struct leat_result result;
        if (leat_append(client, LEAT_DEFAULT_LOG, "tail", 4, LEAT_ACK_DURABLE, 2000000000u,
                        &result) != LEAT_OK ||
            result.offset == UINT64_MAX)
            continue;
        atomic_fetch_add(&appends, 1);
        uint64_t known = atomic_load(&acknowledged);
        while (known < result.offset + 1 &&
               !atomic_compare_exchange_weak(&acknowledged, &known, result.offset + 1))
            ;
    }
    leat_detach(client);
    return NULL;
}

static void *tail_loop(void *context)
{
    struct leat_client *client = attach(context);
    while (client && !is_over()) {
        struct leat_result result;
        uint64_t before = atomic_load(&acknowledged), offset;
        if (leat_tail(client, LEAT_DEFAULT_LOG, LEAT_ACK_DURABLE, NULL, &offset) != LEAT_OK) {
            atomic_fetch_add(&failed_tails, 1);
            leat_poll(client, &result, 1); /* attaches again */
            usleep(1000);
            continue;
        }
        atomic_fetch_add(&tails, 1);
        if (offset < before) {
            atomic_fetch_add(&stale, 1);
            fprintf(stderr, "tails: %s says %lu, %lu was acknowledged\n", (const char *)context,
                    (unsigned long)offset, (unsigned long)before);
        }
    }
    leat_detach(client);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[2 * SOCKETS_MAX];
    int count = argc - 3;
    if (count < 1 || count > SOCKETS_MAX)
        return 2;
    end_ns = now_ns() + (uint64_t)(atof(argv[1]) * 1e9);
    give_up_ns = end_ns + LONGER_NS;
    least = strtoul(argv[2], NULL, 10);
    for (int i = 0; i < count; i++) {
        pthread_create(&threads[2 * i], NULL, append_loop, argv[3 + i]);
        pthread_create(&threads[2 * i + 1], NULL, tail_loop, argv[3 + i]);
    }
    for (int i = 0; i < 2 * count; i++)
        pthread_join(threads[i], NULL);
    printf("{\"appends\": %lu, \"tails\": %lu, \"failed_tails\": %lu, \"stale\": %lu}\n",
           (unsigned long)appends, (unsigned long)tails, (unsigned long)failed_tails,
           (unsigned long)stale);
    return stale != 0;
}
