/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "client.h"
#include "cluster.h"
#include "ledger.h"
#include "network.h"
#include "reader.h"

#define START_NS    (20 * SIM_S) /* for all nodes to be formatted and up, before any fault */
#define CONVERGE_NS (60 * SIM_S) /* after the healing */
#define READ_NS     (20 * SIM_S)
#define STEP_NS     (10 * SIM_MS)
#define QUIET       8u /* least election timeouts */

/* True: it came to be within `most_ns`. */
static bool run_until(bool (*done)(const char **ret_why), uint64_t most_ns, const char **ret_why)
{
    uint64_t until_ns = world.now_ns + most_ns;
    while (!world.ending && world.now_ns < until_ns) {
        if (done(ret_why))
            return true;
        world_run(world.now_ns + STEP_NS);
    }
    return false;
}

static bool converged(const char **ret_why)
{
    check_leaderless();
    *ret_why = "appends have not ended";
    return clients_are_done() && check_converged(ret_why);
}

static bool all_listen(const char **ret_why)
{
    *ret_why = "a node does not start";
    for (unsigned i = 0; i < cluster.count; i++) {
        if (!cluster_socket(i))
            return false;
    }
    return true;
}

static bool all_read(const char **ret_why)
{
    *ret_why = "a reader waits";
    return readers_are_done();
}

static bool halted;

static void run_phases(void)
{
    const char *why = "";
    halted = false;
    cluster_begin();
    if (!run_until(all_listen, START_NS, &why))
        world_fail("L1", "a new cluster does not start: %s", why);
    operators_begin();
    clients_begin();
    followers_begin();
    if (draw.logs > 1)
        operator_wish(OPERATOR_CREATE_LOGS, 0, 0, 0);
    faults_begin();
    world_run(world.now_ns + draw.safety_ms * SIM_MS);
    if (world.failed)
        return;
    faults_heal();
    check_healed();
    cluster_start_all();
    clients_hurry();
    if (draw.logs > 1)
        operator_wish(OPERATOR_CREATE_LOGS, 0, 0, 0);
    if (!run_until(converged, CONVERGE_NS, &why) && draw.beyond) {
        clients_stop(); /* it halted; what it said until then was right */
        followers_stop();
        halted = true;
        return;
    }
    if (!converged(&why)) {
        clients_trace();
        check_trace();
        world_fail("L1", "a healed cluster does not converge within %lu s: %s",
                   (unsigned long)(CONVERGE_NS / SIM_S), why);
    }
    clients_close();
    if (!run_until(converged, CONVERGE_NS, &why) && !world.failed)
        world_fail("L3", "a healed cluster does not take each client's last append: %s", why);
    clients_stop();
    followers_stop();
    if (world.failed)
        return;
    ledger_audit();
    world_run(world.now_ns + QUIET * draw.election_ms * SIM_MS); /* candidacies, transfers end */
    check_quiet_begin();
    world_run(world.now_ns + QUIET * draw.election_ms * SIM_MS);
    check_quiet_end();
    readers_begin();
    if (!run_until(all_read, READ_NS, &why) && !world.failed)
        world_fail("L1", "the logs of a healed cluster cannot be read: %s", why);
}

static void result_fill(struct sim_result *result)
{
    memset(result, 0, sizeof(*result));
    result->failed = world.failed;
    result->halted = halted;
    snprintf(result->failure, sizeof(result->failure), "%s", world.failure);
    snprintf(result->sentence, sizeof(result->sentence), "%s", world.sentence);
    result->hash = world.hash;
    memcpy(result->events, world.events, sizeof(result->events));
    result->virtual_ns = world.now_ns;
    result->appends = ledger.started;
    result->acked = ledger.acked;
    result->refused = ledger.refused;
    result->unknown = ledger.unknown;
    result->replicated_lost = ledger.replicated_lost;
    result->starts = cluster.starts;
    result->fences = cluster.fences;
    result->packets = network.sent;
    result->lost = network.lost;
    result->faults = fault_counts;
    check_end();
    result->reached = reached;
}

void run_seed(uint64_t seed, const struct sim_overrides *overrides, struct sim_result *ret_result)
{
    world_begin(seed);
    draw_make(overrides);
    ledger_begin();
    check_begin();
    run_phases();
    result_fill(ret_result);
}
