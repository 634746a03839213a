/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes a failing run smaller: numbers of the draw are set to less, one after the other, as long as
 * the same invariant fails. Any change moves everything behind it, so what counts is that it still
 * fails, not that it fails alike.
 */
#ifndef LEAT_SIM_SHRINK_H
#define LEAT_SIM_SHRINK_H

#include "options.h"
#include "run.h"

/* Writes what is left to options->shrunk_path, or to leat-sim-SEED.replay, and says so. */
void shrink(const struct sim_options *options, uint64_t seed, const struct sim_result *failed);

/* main.c: runs it in a child; seconds since some time. */
void sim_run_in_child(uint64_t seed, const struct sim_options *options, struct sim_result *ret);
double sim_wall_s(void);

#endif
