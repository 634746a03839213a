/* SPDX-License-Identifier: Apache-2.0
 *
 * leat-sim's command line, and replay files.
 */
#ifndef LEAT_SIM_OPTIONS_H
#define LEAT_SIM_OPTIONS_H

#include "draw.h"

struct sim_options {
    uint64_t first_seed, seed_count;
    bool seed_is_given;
    unsigned jobs;
    unsigned seconds_max; /* of one seed, before it is ended as stuck */
    uint64_t failures_max;
    bool json, trace, twice, no_shrink;
    const char *excepted[8]; /* invariants whose failure is known: counted, not an error */
    unsigned excepted_count;
    const char *shrunk_path; /* where a shrunk schedule is written; NULL: leat-sim-SEED.replay */
    struct sim_overrides overrides;
};

/* 0: go on; else the exit code, negative for "all was said". */
int options_read(int argc, char **argv, struct sim_options *ret_options);

/* The options that a seed was run with, as they are given. */
void options_print(const struct sim_options *options, FILE *to);

bool replay_write(const char *path, uint64_t seed, const struct sim_overrides *overrides,
                  const char *comment); /* false: it cannot be written */

#endif
