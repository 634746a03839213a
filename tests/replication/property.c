/* SPDX-License-Identifier: Apache-2.0
 *
 * A seeded property test of the core: random clusters, clients and faults, every invariant after
 * every step, then all faults off and everything must converge. Each seed switches each fault on
 * or off first (Groce et al., "Swarm testing", 2012), then draws its intensity.
 *
 *   property                   DEFAULT_SEEDS seeds, as TAP
 *   property --seeds N --from S
 *   property --seed S --trace  prints what happens
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "clients.h"

#define DEFAULT_SEEDS  8000u
#define REPEATED_SEEDS 20u /* run twice, to compare the hash of their events */
#define LINES_SHOWN    40u
#define EVENTS_MAX     400000u
#define HEAL_ELECTIONS 40u /* leader, appends, equality: within so many maximal timeouts */

static struct cluster cluster;
static struct clients clients;
static jmp_buf assertion;
static char assertion_text[256];

_Noreturn void leat_assert_fail(const char *expression, const char *file, int line)
{
    snprintf(assertion_text, sizeof(assertion_text), "an assertion: %s (%s:%d)", expression, file,
             line);
    longjmp(assertion, 1);
}

struct plan {
    uint64_t seed;
    uint64_t end_ns;
    uint32_t fault_every_ns;
    uint32_t on; /* bit per enum injected */
    uint64_t down_ns;
    uint64_t restart_ns[LEAT_MEMBERS_MAX];
    uint64_t links_until_ns;
};

static bool plan_has(const struct plan *plan, enum injected fault)
{
    return plan->on >> fault & 1;
}

static void plan_network(const struct plan *plan)
{
    struct leat_rng *rng = &cluster.fault_rng;
    static const uint32_t losses[] = {5, 20, 100, 300};
    if (plan_has(plan, INJECTED_LOSS))
        cluster.loss_permille = losses[leat_rng_below(rng, 4)];
    if (plan_has(plan, INJECTED_DUPLICATE))
        cluster.duplicate_permille = 10u + (uint32_t)leat_rng_below(rng, 200);
    if (plan_has(plan, INJECTED_REORDER))
        cluster.reorder_permille = 10u + (uint32_t)leat_rng_below(rng, 300);
    cluster.delay_ns = 20000u << leat_rng_below(rng, 6);
    cluster.datagram_cells = 4u << leat_rng_below(rng, 5);
    cluster.burst = plan_has(plan, INJECTED_BURST);
    cluster.disk_ns = 50000u << leat_rng_below(rng, 6);
    if (plan_has(plan, INJECTED_SLOW_DISK))
        cluster.disk_ns = 3000000u << leat_rng_below(rng, 4);
    cluster.hold_ns = plan->seed % 4 * 700000;
}

static void plan_draw(struct plan *plan, uint64_t seed)
{
    static const uint8_t sizes[] = {1, 3, 3, 3, 3, 5, 5, 7};
    struct leat_rng rng = {.state = seed * 0x2545f4914f6cdd1dULL + 1};
    uint8_t count = sizes[leat_rng_below(&rng, sizeof(sizes))];
    bool accepts = leat_rng_below(&rng, 2);
    memset(plan, 0, sizeof(*plan));
    plan->seed = seed;
    plan->on = (uint32_t)leat_rng_next(&rng);
    cluster_init(&cluster, count, accepts, leat_rng_next(&rng));
    plan_network(plan);
    plan->fault_every_ns = 3000000u << leat_rng_below(&rng, 4);
    plan->down_ns = 2000000u << leat_rng_below(&rng, 6);
    plan->end_ns = cluster.now_ns + 100000000u + leat_rng_below(&rng, 400000000u);
    cluster.window_bytes = 512u << leat_rng_below(&rng, 5);
    clients_init(&cluster, &clients, 1 + (uint32_t)leat_rng_below(&rng, 4), leat_rng_next(&rng));
    clients.forward_loss_permille = (uint32_t)leat_rng_below(&rng, 200);
    for (uint32_t i = 0; i < clients.count; i++)
        clients.list[i].wanted = 4 + (uint32_t)leat_rng_below(&rng, 40);
}

/* ---- faults ---- */

static struct replica *some_replica(bool up)
{
    uint32_t at = (uint32_t)leat_rng_below(&cluster.fault_rng, cluster.count);
    for (uint32_t i = 0; i < cluster.count; i++) {
        struct replica *replica = &cluster.replicas[(at + i) % cluster.count];
        if (replica->up == up)
            return replica;
    }
    return NULL;
}

static void cut_links(struct plan *plan, bool one_way)
{
    uint8_t side = (uint8_t)leat_rng_next(&cluster.fault_rng);
    memset(cluster.cut_link, 0, sizeof(cluster.cut_link));
    for (uint8_t a = 0; a < cluster.count; a++) {
        for (uint8_t b = 0; b < cluster.count; b++) {
            bool apart = (side >> a & 1) != (side >> b & 1);
            cluster.cut_link[a][b] = apart && (!one_way || (side >> a & 1));
        }
    }
    plan->links_until_ns = cluster.now_ns + leat_rng_below(&cluster.fault_rng, 100000000);
    cluster_line(&cluster, "links cut by %u%s", side, one_way ? ", one way" : "");
}

static void die(struct plan *plan, struct replica *replica, enum injected how)
{
    if (!replica)
        return;
    cluster.injected[how]++;
    if (how == INJECTED_CRASH)
        replica_crash(&cluster, replica);
    else if (how == INJECTED_CLEAN_STOP)
        replica_stop(&cluster, replica);
    else
        replica_power_cut(&cluster, replica);
    plan->restart_ns[replica->self] =
        cluster.now_ns + leat_rng_below(&cluster.fault_rng, plan->down_ns);
}

static void fault_role(enum injected fault)
{
    struct replica *replica = some_replica(true);
    if (!replica)
        return;
    struct leat_core_input input = {
        .kind = LEAT_INPUT_AMNESIA_ACCEPT,
        .peer = (uint8_t)leat_rng_below(&cluster.fault_rng, cluster.count),
    };
    if (fault == INJECTED_ACCEPT) {
        if (!replica->core.amnesiac || leat_rng_below(&cluster.fault_rng, 8) != 0)
            return;
        check_forgive(&cluster);
    } else {
        uint8_t leader = cluster_leader(&cluster);
        if (leader == LEAT_CORE_NOBODY || leader == input.peer)
            return;
        replica = &cluster.replicas[leader];
        input.kind = LEAT_INPUT_TRANSFER;
    }
    cluster.injected[fault]++;
    replica_step(&cluster, replica, &input);
    cluster_line(&cluster, "%c is told to %s", replica_name(replica->self),
                 fault == INJECTED_ACCEPT ? "accept amnesia" : "hand over");
}

static void fault_one(struct plan *plan, enum injected fault)
{
    struct replica *replica;
    switch (fault) {
    case INJECTED_PARTITION:
    case INJECTED_ONE_WAY:
        cluster.injected[fault]++;
        cut_links(plan, fault == INJECTED_ONE_WAY);
        break;
    case INJECTED_CRASH:
    case INJECTED_POWER_CUT:
    case INJECTED_CLEAN_STOP:
        die(plan, some_replica(true), fault);
        break;
    case INJECTED_RACK_POWER_CUT:
        for (uint8_t i = 0; leat_rng_below(&cluster.fault_rng, 4) == 0 && i < cluster.count; i++) {
            if (cluster.replicas[i].up)
                die(plan, &cluster.replicas[i], fault);
        }
        break;
    case INJECTED_PAUSE:
        replica = some_replica(true);
        if (replica) {
            cluster.injected[fault]++;
            replica->paused_until_ns =
                cluster.now_ns + leat_rng_below(&cluster.fault_rng, 3 * cluster.election_max_ns);
        }
        break;
    case INJECTED_TRIM:
        replica = some_replica(true);
        if (replica && replica_trim(&cluster, replica))
            cluster.injected[fault]++;
        break;
    case INJECTED_TRANSFER:
    case INJECTED_ACCEPT:
        fault_role(fault);
        break;
    default:
        break;
    }
}

static void faults_due(struct plan *plan, uint64_t *next_ns)
{
    for (uint8_t i = 0; i < cluster.count; i++) {
        if (!cluster.replicas[i].up && plan->restart_ns[i] <= cluster.now_ns)
            replica_boot(&cluster, &cluster.replicas[i]);
    }
    if (plan->links_until_ns != 0 && plan->links_until_ns <= cluster.now_ns) {
        memset(cluster.cut_link, 0, sizeof(cluster.cut_link));
        plan->links_until_ns = 0;
    }
    if (cluster.now_ns < *next_ns)
        return;
    *next_ns = cluster.now_ns + leat_rng_below(&cluster.fault_rng, 2 * plan->fault_every_ns);
    static const uint8_t acts[] = {
        INJECTED_PARTITION, INJECTED_ONE_WAY, INJECTED_CRASH,          INJECTED_CRASH,
        INJECTED_POWER_CUT, INJECTED_PAUSE,   INJECTED_RACK_POWER_CUT, INJECTED_TRANSFER,
        INJECTED_TRIM,      INJECTED_ACCEPT,  INJECTED_CLEAN_STOP,
    };
    uint8_t act = acts[leat_rng_below(&cluster.fault_rng, sizeof(acts))];
    for (uint32_t i = 0; i < sizeof(acts) && !plan_has(plan, act); i++)
        act = acts[leat_rng_below(&cluster.fault_rng, sizeof(acts))];
    if (plan_has(plan, act))
        fault_one(plan, act);
    uint32_t mover = (uint32_t)leat_rng_below(&cluster.fault_rng, clients.count);
    if (leat_rng_below(&cluster.fault_rng, 4) == 0) {
        clients.list[mover].home = (uint8_t)leat_rng_below(&cluster.fault_rng, cluster.count);
        clients.list[mover].submit = clients.list[mover].first;
    }
}

/* ---- one seed ---- */

static void step_to(uint64_t next_ns)
{
    uint64_t due = cluster_next_ns(&cluster);
    if (due <= cluster.now_ns)
        due = cluster.now_ns + 1;
    cluster_advance(&cluster, due < next_ns ? due : next_ns);
    clients_poll(&cluster);
    for (uint8_t i = 0; i < cluster.count; i++) {
        struct replica *replica = &cluster.replicas[i];
        if (replica->up && replica->chain_pos != replica->core.memory_pos &&
            replica->core.role == LEAT_LEADER)
            replica_pass(&cluster, replica);
    }
    if (cluster.events > EVENTS_MAX)
        check_fail(&cluster, "L1: more than %u events", EVENTS_MAX);
}

static bool broken(void)
{
    return cluster.checks.broken[0] != '\0';
}

static bool is_level(void)
{
    uint8_t leader = cluster_leader(&cluster);
    if (leader == LEAT_CORE_NOBODY || !clients_are_done(&cluster))
        return false;
    uint64_t end = cluster.replicas[leader].core.memory_pos;
    for (uint8_t i = 0; i < cluster.count; i++) {
        const struct leat_core *core = &cluster.replicas[i].core;
        if (core->commit_d != end || core->durable_pos != end || core->amnesiac ||
            core->term != cluster.replicas[leader].core.term)
            return false;
    }
    return true;
}

static void heal(void)
{
    cluster_line(&cluster, "---- all faults off");
    cluster_heal(&cluster);
    clients.forward_loss_permille = 0;
    uint64_t end = cluster.now_ns + HEAL_ELECTIONS * cluster.election_max_ns;
    while (cluster.now_ns < end && !broken() && !is_level())
        step_to(cluster.now_ns + 1000000);
    if (broken())
        return;
    check_equal(&cluster);
    if (!clients_are_done(&cluster))
        check_fail(&cluster, "L1: after healing appends are still pending");
}

static void run_plan(struct plan *plan)
{
    uint64_t next_fault_ns = cluster.now_ns + plan->fault_every_ns;
    for (uint8_t i = 0; i < cluster.count; i++)
        replica_boot(&cluster, &cluster.replicas[i]);
    while (cluster.now_ns < plan->end_ns && !broken()) {
        step_to(cluster.now_ns + 1000000);
        faults_due(plan, &next_fault_ns);
    }
    if (!broken())
        heal();
}

static void print_line(void *context, const char *line)
{
    (void)context;
    printf("# %8.3f %s\n", (double)cluster.now_ns / 1e6, line);
}

static bool run_seed(uint64_t seed, bool told, bool traced)
{
    static struct plan plan;
    plan_draw(&plan, seed);
    cluster.told = told;
    cluster.line_sink = traced ? print_line : NULL;
    if (setjmp(assertion) == 0)
        run_plan(&plan);
    else
        check_fail(&cluster, "%s", assertion_text);
    return !broken();
}

static void report(uint64_t seed)
{
    char sentence[sizeof(cluster.checks.broken)];
    memcpy(sentence, cluster.checks.broken, sizeof(sentence));
    run_seed(seed, true, false);
    printf("# seed %lu: %u nodes, %s: %s\n", (unsigned long)seed, cluster.count,
           cluster.accepts_replicated ? "accepts replicated" : "durable only", sentence);
    uint32_t from = cluster.line_count > LINES_SHOWN ? cluster.line_count - LINES_SHOWN : 0;
    for (uint32_t i = from; i < cluster.line_count; i++)
        printf("#   %s\n", cluster.lines[i % LINES_KEPT]);
}

static bool is_repeatable(uint64_t seed)
{
    run_seed(seed, false, false);
    uint64_t hash = cluster.event_hash;
    uint64_t events = cluster.events;
    run_seed(seed, false, false);
    return hash == cluster.event_hash && events == cluster.events;
}

struct totals {
    uint64_t injected[INJECTED_COUNT];
    uint64_t events;
    uint64_t durable_acks;
    uint64_t replicated_acks;
    uint64_t replicated_lost;
    uint64_t sizes[LEAT_MEMBERS_MAX + 1];
    struct leat_core_counters counters;
};

static void totals_add(struct totals *totals)
{
    for (unsigned i = 0; i < INJECTED_COUNT; i++)
        totals->injected[i] += cluster.injected[i];
    totals->events += cluster.events;
    totals->durable_acks += cluster.checks.durable_acks;
    totals->replicated_acks += cluster.checks.replicated_acks;
    totals->replicated_lost += cluster.checks.replicated_lost;
    totals->sizes[cluster.count]++;
    for (uint8_t i = 0; i < cluster.count; i++) { /* of last lives only: a floor */
        const struct leat_core_counters *of = &cluster.replicas[i].core.counters;
        totals->counters.elections_won += of->elections_won;
        totals->counters.won_by_amnesiacs += of->won_by_amnesiacs;
        totals->counters.amnesia_cleared += of->amnesia_cleared;
        totals->counters.stepped_down_quorum += of->stepped_down_quorum;
        totals->counters.cuts += of->cuts;
        totals->counters.resets += of->resets;
        totals->counters.naks += of->naks;
    }
}

static bool totals_report(const struct totals *totals)
{
    bool all = totals->durable_acks > 0 && totals->replicated_acks > 0 &&
               totals->counters.cuts > 0 && totals->counters.resets > 0 &&
               totals->counters.won_by_amnesiacs > 0 && totals->counters.amnesia_cleared > 0 &&
               totals->counters.stepped_down_quorum > 0 && totals->counters.naks > 0;
    for (unsigned i = 0; i < INJECTED_COUNT; i++) {
        printf("# injected %-15s %lu\n", injected_names[i], (unsigned long)totals->injected[i]);
        all = all && totals->injected[i] > 0;
    }
    printf("# events %lu, acknowledged %lu durable, %lu replicated; counted losses %lu\n",
           (unsigned long)totals->events, (unsigned long)totals->durable_acks,
           (unsigned long)totals->replicated_acks, (unsigned long)totals->replicated_lost);
    printf("# at least: elections %lu, by amnesiacs %lu, cleared %lu, step-downs %lu, cuts %lu, "
           "resets %lu, naks %lu\n",
           (unsigned long)totals->counters.elections_won,
           (unsigned long)totals->counters.won_by_amnesiacs,
           (unsigned long)totals->counters.amnesia_cleared,
           (unsigned long)totals->counters.stepped_down_quorum,
           (unsigned long)totals->counters.cuts, (unsigned long)totals->counters.resets,
           (unsigned long)totals->counters.naks);
    return all;
}

static int run_all(uint64_t from, uint64_t count)
{
    static struct totals totals;
    uint64_t failed = 0;
    bool repeatable = true;
    printf("1..3\n");
    for (uint64_t seed = from; seed < from + count && failed < 3; seed++) {
        if (!run_seed(seed, false, false)) {
            report(seed);
            failed++;
        }
        totals_add(&totals);
    }
    printf("%s 1 - every invariant holds in %lu seeds\n", failed ? "not ok" : "ok",
           (unsigned long)count);
    for (uint64_t seed = from; failed == 0 && seed < from + REPEATED_SEEDS; seed++)
        repeatable = repeatable && is_repeatable(seed);
    printf("%s 2 - the same seed gives the same events\n", repeatable ? "ok" : "not ok");
    bool all = totals_report(&totals);
    printf("%s 3 - every fault was injected, every rare path taken\n", all ? "ok" : "not ok");
    return failed || !repeatable || !all;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, count = DEFAULT_SEEDS, seed = 0;
    bool one = false, traced = false;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            traced = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[++i], NULL, 0);
            one = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0) {
            count = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "--from") == 0) {
            from = strtoull(argv[++i], NULL, 0);
        } else {
            fprintf(stderr, "usage: property [--seeds N] [--from S] | --seed S [--trace]\n");
            return 2;
        }
    }
    if (!one)
        return run_all(from, count);
    bool held = run_seed(seed, true, traced);
    printf("1..1\n");
    if (!held)
        report(seed);
    printf("%s 1 - seed %lu, %lu events, hash %016lx\n", held ? "ok" : "not ok",
           (unsigned long)seed, (unsigned long)cluster.events, (unsigned long)cluster.event_hash);
    return !held;
}
