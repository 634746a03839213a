/* SPDX-License-Identifier: Apache-2.0
 *
 * A load client (bench/compare/load.h) whose appends end after --address microseconds, all that are
 * in flight at once; with --mode bad every second one fails, with --mode lost the last never ends,
 * with --mode stall those in flight 0.3 s after the begin take half a second, and half of them
 * fail.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../bench/compare/load.h"

#define STALL_AFTER_S 0.3
#define STALL_US      500000u

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct load_options options;
    uint64_t stamps[64], number = 0;
    unsigned count = 0, most = 0;
    load_begin(argc, argv, &options);
    bool loses = strcmp(options.mode, "lost") == 0, fails = strcmp(options.mode, "bad") == 0;
    bool stalls = strcmp(options.mode, "stall") == 0;
    double began_s = now_s();
    while (!load_is_over()) {
        while (count < 64 && load_may_start())
            stamps[count++] = load_start();
        most = count > most ? count : most;
        usleep((useconds_t)atoi(options.address));
        if (stalls && now_s() > began_s + STALL_AFTER_S) {
            usleep(STALL_US);
            stalls = false;
            fails = true;
        }
        while (count > loses)
            load_end(stamps[--count], !fails || number++ % 2 == 0);
    }
    fprintf(stderr, "most %u\n", most);
    return load_report();
}
