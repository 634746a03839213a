/* SPDX-License-Identifier: Apache-2.0
 *
 * One run: a cluster is formatted and started, faults for safety_ms, then all heals and the cluster
 * has to converge; at last every node's logs are read and the ledger is audited.
 */
#ifndef LEAT_SIM_RUN_H
#define LEAT_SIM_RUN_H

#include "check.h"
#include "draw.h"
#include "faults.h"
#include "world.h"

struct sim_result {
    bool halted; /* beyond the atlas: it did not go on */
    bool failed;
    bool died; /* the process that ran it did, of a signal */
    char failure[96];
    char sentence[768];
    uint64_t hash;
    uint64_t events[EVENT_KINDS];
    uint64_t virtual_ns;
    uint64_t appends, acked, refused, unknown, replicated_lost;
    uint64_t starts, fences;
    uint64_t packets, lost;
    struct sim_fault_counts faults;
    struct sim_reached reached;
};

/* In a process that did not run anything before: leat's statics are fresh then. */
void run_seed(uint64_t seed, const struct sim_overrides *overrides, struct sim_result *ret_result);

#endif
