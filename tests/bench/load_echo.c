/* SPDX-License-Identifier: Apache-2.0
 *
 * A load client (bench/compare/load.h) whose appends end after --address microseconds, all that are
 * in flight at once; with --mode bad every second one fails, with --mode lost the last never ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../bench/compare/load.h"

int main(int argc, char **argv)
{
    struct load_options options;
    uint64_t stamps[64], number = 0;
    unsigned count = 0, most = 0;
    load_begin(argc, argv, &options);
    bool loses = strcmp(options.mode, "lost") == 0, fails = strcmp(options.mode, "bad") == 0;
    while (!load_is_over()) {
        while (count < 64 && load_may_start())
            stamps[count++] = load_start();
        most = count > most ? count : most;
        usleep((useconds_t)atoi(options.address));
        while (count > loses)
            load_end(stamps[--count], !fails || number++ % 2 == 0);
    }
    fprintf(stderr, "most %u\n", most);
    return load_report();
}
