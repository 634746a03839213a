/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEAT_BENCH_OPTIONS_H
#define LEAT_BENCH_OPTIONS_H

#include "bench.h"

enum command_name {
    COMMAND_LIMITS,
    COMMAND_APPEND,
    COMMAND_TAIL,
    COMMAND_FAILOVER,
    COMMAND_BREAKDOWN,
    COMMAND_SWEEP,
    COMMAND_SCALE,
    COMMAND_SUSTAIN,
};

#define ARGUMENTS_HELP (-1)

/* The command line. A list that was not given has count 0. */
struct arguments {
    enum command_name command;
    struct bench_options options;
    struct bench_lists lists;
    uint32_t given; /* bits of options */
};

/* 0; 2 after a line on stderr; ARGUMENTS_HELP: help was asked for, and is on stdout. */
int arguments_read(int argc, char **argv, struct arguments *ret_arguments);
/* A line on stderr; returns 2. */
int usage_error(const char *what, const char *value);

#endif
