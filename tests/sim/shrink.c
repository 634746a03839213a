/* SPDX-License-Identifier: Apache-2.0 */
#include "shrink.h"

#include <inttypes.h>
#include <string.h>

#define ROUNDS  3u
#define SECONDS 300 /* then what is reached is enough */

/* The least that each number may be; all others may be zero: the fault is left out. */
static const struct least {
    enum sim_parameter parameter;
    uint64_t value;
} leasts[] = {
    {SIM_nodes, 3},           {SIM_workers, 1},     {SIM_logs, 1},
    {SIM_clients, 1},         {SIM_appends, 1},     {SIM_payload_bytes, 16},
    {SIM_in_flight, 1},       {SIM_safety_ms, 100}, {SIM_writes_in_flight, 1},
    {SIM_down_most_ms, 1},    {SIM_delay_us, 1},    {SIM_jitter_us, 1},
    {SIM_write_jitter_us, 1}, {SIM_flush_us, 1},
};

/* What says how the cluster is made is kept as it is. */
static const enum sim_parameter kept[] = {
    SIM_segment_kib, SIM_arena_kib,    SIM_window_kib, SIM_entry_kib,
    SIM_election_ms, SIM_heartbeat_ms, SIM_session_s,  SIM_mtu,
};

static uint64_t least_of(unsigned parameter, uint64_t value)
{
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (kept[i] == parameter)
            return value;
    }
    for (unsigned i = 0; i < sizeof(leasts) / sizeof(leasts[0]); i++) {
        if (leasts[i].parameter == parameter)
            return leasts[i].value;
    }
    return 0;
}

static bool still_fails(struct sim_options *options, uint64_t seed, const char *invariant)
{
    struct sim_result result;
    sim_run_in_child(seed, options, &result);
    return result.failed && !strcmp(result.failure, invariant);
}

/* The least first, then half of what is left. */
static bool shrink_one(struct sim_options *options, uint64_t seed, const char *invariant,
                       unsigned parameter, uint64_t value)
{
    uint64_t least = least_of(parameter, value);
    struct sim_overrides before = options->overrides;
    const uint64_t tries[] = {least, least + (value - least) / 2};
    for (unsigned i = 0; i < 2 && value > least; i++) {
        if (tries[i] == value || (parameter == SIM_nodes && tries[i] % 2 == 0))
            continue;
        options->overrides.set[parameter] = true;
        options->overrides.value[parameter] = tries[i];
        if (still_fails(options, seed, invariant))
            return true;
        options->overrides = before;
    }
    return false;
}

void shrink(const struct sim_options *options, uint64_t seed, const struct sim_result *failed)
{
    struct sim_options smaller = *options;
    char comment[160], path[64];
    const double until_s = sim_wall_s() + SECONDS;
    smaller.trace = false;
    bool changed = true;
    for (unsigned round = 0; round < ROUNDS && changed; round++) {
        changed = false;
        for (unsigned i = 0; i < SIM_PARAMETER_COUNT && sim_wall_s() < until_s; i++) {
            world_begin(seed);
            draw_make(&smaller.overrides);
            changed |= shrink_one(&smaller, seed, failed->failure, i, draw_value(i));
        }
    }
    world_begin(seed);
    draw_make(&smaller.overrides);
    printf("  smaller: ");
    draw_print(stdout);
    snprintf(comment, sizeof(comment), "%s of seed %" PRIu64, failed->failure, seed);
    snprintf(path, sizeof(path), "leat-sim-%" PRIu64 ".replay", seed);
    const char *to = options->shrunk_path ? options->shrunk_path : path;
    if (replay_write(to, seed, &smaller.overrides, comment))
        printf("  again: leat-sim --replay %s\n", to);
    else
        fprintf(stderr, "leat-sim: %s cannot be written\n", to);
}
