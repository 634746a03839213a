/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <string.h>

#include "draw.h"

enum subject { NETWORK = 1, DISK = 2, PROCESS = 4, CLOCK = 8, USERS = 16, DAMAGE = 32 };

static const struct {
    enum sim_parameter parameter;
    enum subject subject;
} faults[] = {
    {SIM_loss_ppm, NETWORK},         {SIM_burst_ppm, NETWORK},      {SIM_twice_ppm, NETWORK},
    {SIM_replay_ppm, NETWORK},       {SIM_reorder_ppm, NETWORK},    {SIM_damage_ppm, NETWORK},
    {SIM_bandwidth_kib_ms, NETWORK}, {SIM_mtu_ppm, NETWORK},        {SIM_small_ms, NETWORK},
    {SIM_partition_ms, NETWORK},     {SIM_clog_ms, NETWORK},        {SIM_slow_ppm, DISK},
    {SIM_short_ppm, DISK},           {SIM_again_ppm, DISK},         {SIM_write_error_ppm, DISK},
    {SIM_flush_error_ppm, DISK},     {SIM_stuck_ms, DISK},          {SIM_full_ms, DISK},
    {SIM_crash_ms, PROCESS},         {SIM_power_ms, PROCESS},       {SIM_stop_ms, PROCESS},
    {SIM_pause_ms, PROCESS},         {SIM_absent_ms, PROCESS},      {SIM_drift_ppm, CLOCK},
    {SIM_realtime_ms, CLOCK},        {SIM_transfer_ms, USERS},      {SIM_trim_ms, USERS},
    {SIM_client_death_ms, USERS},    {SIM_client_switch_ms, USERS}, {SIM_scribble_ms, USERS},
    {SIM_fence_ms, USERS},           {SIM_rot_ms, DAMAGE},          {SIM_wipe_ms, DAMAGE},
    {SIM_rollback_ms, DAMAGE},       {SIM_misdirect_ppm, DAMAGE},   {SIM_rewrite_ppm, DAMAGE},
    {SIM_ambush_ppm, PROCESS},       {SIM_garbage_ppm, DISK},       {SIM_ring_full_ppm, NETWORK},
    {SIM_lag_ms, NETWORK},           {SIM_stray_ppm, NETWORK},      {SIM_read_error_ppm, DAMAGE},
    {SIM_stall_ms, PROCESS},         {SIM_client_rest_ms, USERS},   {SIM_desert_ppm, PROCESS},
};

static const struct {
    const char *name, *text;
    unsigned keeps; /* subjects */
} profiles[] = {
    {"swarm", "each fault is there with an even chance (the default)", ~0u},
    {"calm", "no faults: how fast, and that nothing else fails", 0},
    {"network", "only what networks do", NETWORK},
    {"disk", "only what disks do, within the atlas", DISK | DAMAGE},
    {"process", "only deaths, power cuts, pauses, and clocks", PROCESS | CLOCK},
    {"clients", "only what clients and operators do", USERS},
    {"beyond", "swarm, and any disk may rot: right or halted is owed, not that it goes on", ~0u},
};
#define PROFILES (sizeof(profiles) / sizeof(profiles[0]))

bool profile_find(const char *name, unsigned *ret_profile)
{
    for (unsigned i = 0; i < PROFILES; i++) {
        if (strcmp(profiles[i].name, name))
            continue;
        *ret_profile = i;
        return true;
    }
    return false;
}

const char *profile_name(unsigned profile)
{
    return profiles[profile].name;
}

/* What is damaged on more disks than a minority nobody has to repair. */
static void go_beyond(void)
{
    draw.beyond = 1;
    draw.replicated_ppm = draw.wipe_ms = draw.rollback_ms = 0;
    if (draw.rot_ms == 0)
        draw.rot_ms = 500;
}

void profile_apply(unsigned profile)
{
    for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (!(profiles[profile].keeps & faults[i].subject))
            draw_set(faults[i].parameter, 0);
    }
    if (!strcmp(profiles[profile].name, "beyond"))
        go_beyond();
}

void profiles_list(FILE *to)
{
    for (unsigned i = 0; i < PROFILES; i++)
        fprintf(to, "%-18s %s\n", profiles[i].name, profiles[i].text);
}
