/* SPDX-License-Identifier: Apache-2.0 */
#include "scenes.h"

#include <string.h>

#include "draw.h"
#include "world.h"

#define SETS_MAX 40u

struct scene {
    const char *name, *text;
    bool hurts; /* disks of a minority may be hurt, as drawn */
    struct {
        enum sim_parameter parameter;
        uint64_t value;
    } sets[SETS_MAX]; /* to the first one that is `nodes` = 0 */
};

#define ONE_LOG                                                                                    \
    {SIM_nodes, 3}, {SIM_workers, 1},                                                              \
    {                                                                                              \
        SIM_logs, 1                                                                                \
    }
#define FAST_VOTES                                                                                 \
    {SIM_election_ms, 60},                                                                         \
    {                                                                                              \
        SIM_heartbeat_ms, 15                                                                       \
    }
#define LARGE                                                                                      \
    {SIM_payload_bytes, 65536}, {SIM_entry_kib, 65},                                               \
    {                                                                                              \
        SIM_window_kib, 400                                                                        \
    }
#define DEEP                                                                                       \
    {SIM_clients, 4},                                                                              \
    {                                                                                              \
        SIM_in_flight, 64                                                                          \
    }
#define DURABLE_ONLY                                                                               \
    {                                                                                              \
        SIM_replicated_ppm, 0                                                                      \
    }
#define SOON_BACK                                                                                  \
    {                                                                                              \
        SIM_down_most_ms, 2                                                                        \
    }
#define QUIET_NETWORK                                                                              \
    {SIM_loss_ppm, 0}, {SIM_mtu_ppm, 0}, {SIM_burst_ppm, 0}, {SIM_damage_ppm, 0},                  \
        {SIM_bandwidth_kib_ms, 0}, {SIM_clog_ms, 0}, {SIM_delay_us, 50},                           \
    {                                                                                              \
        SIM_jitter_us, 100                                                                         \
    }
#define FAST_DISK                                                                                  \
    {SIM_write_us, 50},                                                                            \
    {                                                                                              \
        SIM_write_jitter_us, 100                                                                   \
    }

static const struct scene scenes[] = {
    {"amnesia",
     "memory is lost again and again where it was promised",
     false,
     {{SIM_replicated_ppm, 1000000},
      {SIM_power_ms, 400},
      {SIM_crash_ms, 500},
      {SIM_down_most_ms, 300},
      {SIM_partition_ms, 400},
      {SIM_partition_most_ms, 1500},
      {SIM_safety_ms, 4000}}},
    {"rack",
     "all hosts lose power at once, with disks that take their time",
     false,
     {{SIM_nodes, 3},
      {SIM_replicated_ppm, 1000000},
      {SIM_power_ms, 1200},
      {SIM_rack_ppm, 1000000},
      {SIM_down_most_ms, 300},
      {SIM_crash_ms, 0},
      {SIM_pause_ms, 0},
      {SIM_clients, 6},
      {SIM_in_flight, 4},
      {SIM_batch_ppm, 0},
      {SIM_condition_ppm, 0},
      {SIM_client_switch_ms, 0},
      {SIM_client_death_ms, 0},
      {SIM_session_s, 600},
      {SIM_partition_ms, 150},
      {SIM_partition_most_ms, 400},
      {SIM_write_us, 20000},
      {SIM_write_jitter_us, 20000},
      {SIM_safety_ms, 2500}}},
    {"votes",
     "nodes die right after they started or voted, in the middle of a sector",
     false,
     {FAST_VOTES,
      {SIM_ambush_ppm, 300000},
      {SIM_garbage_ppm, 300000},
      {SIM_down_most_ms, 30},
      {SIM_write_jitter_us, 3000},
      {SIM_safety_ms, 4000}}},
    {"late-votes",
     "words of one election arrive in the next",
     false,
     {FAST_VOTES,
      DEEP,
      {SIM_delay_us, 2000},
      {SIM_jitter_us, 8000},
      {SIM_crash_ms, 300},
      {SIM_partition_ms, 300},
      {SIM_partition_most_ms, 600},
      {SIM_safety_ms, 5000}}},
    {"cuts",
     "logs are cut, and nodes die in the middle of it",
     false,
     {ONE_LOG,
      FAST_VOTES,
      DEEP,
      DURABLE_ONLY,
      {SIM_partition_ms, 250},
      {SIM_partition_most_ms, 700},
      {SIM_ambush_ppm, 300000},
      {SIM_garbage_ppm, 100000},
      {SIM_payload_bytes, 20000},
      {SIM_entry_kib, 20},
      {SIM_crash_ms, 400},
      {SIM_down_most_ms, 20},
      {SIM_write_us, 2000},
      {SIM_write_jitter_us, 8000},
      {SIM_safety_ms, 6000}}},
    {"late-writes",
     "writes complete long after their log was cut or their process died",
     false,
     {ONE_LOG,
      FAST_VOTES,
      DEEP,
      {SIM_partition_ms, 300},
      {SIM_partition_most_ms, 1200},
      {SIM_crash_ms, 600},
      {SIM_power_ms, 0},
      {SIM_payload_bytes, 2000},
      {SIM_write_us, 20000},
      {SIM_write_jitter_us, 60000},
      {SIM_safety_ms, 5000}}},
    {"locks",
     "processes come back while the disk still writes for the former ones",
     false,
     {ONE_LOG,
      SOON_BACK,
      {SIM_payload_bytes, 500},
      {SIM_crash_ms, 100},
      {SIM_power_ms, 0},
      {SIM_write_us, 2000},
      {SIM_write_jitter_us, 10000},
      {SIM_slow_ppm, 30000},
      {SIM_slow_ms, 300},
      {SIM_safety_ms, 4000}}},
    {"lives",
     "nodes live briefly, and words of former lives are replayed",
     false,
     {SOON_BACK,
      {SIM_crash_ms, 150},
      {SIM_reorder_ppm, 200000},
      {SIM_reorder_ms, 100},
      {SIM_replay_ppm, 50000},
      {SIM_replay_ms, 300},
      {SIM_safety_ms, 4000}}},
    {"lossy-lives",
     "nodes live briefly on a network that loses a third",
     false,
     {SOON_BACK,
      {SIM_crash_ms, 150},
      {SIM_loss_ppm, 500000},
      {SIM_ring_full_ppm, 0},
      {SIM_safety_ms, 4000}}},
    {"retries",
     "deep pipelines are handed over again and again",
     false,
     {ONE_LOG,
      FAST_VOTES,
      DEEP,
      SOON_BACK,
      {SIM_payload_bytes, 200},
      {SIM_crash_ms, 150},
      {SIM_safety_ms, 5000}}},
    {"sessions",
     "sessions expire, and clients come back to them",
     false,
     {{SIM_nodes, 3},           {SIM_workers, 1},          {SIM_logs, 4},
      {SIM_clients, 7},         {SIM_in_flight, 1},        {SIM_ambush_ppm, 0},
      {SIM_desert_ppm, 300000}, {SIM_session_s, 1},        {SIM_client_rest_ms, 150},
      {SIM_crash_ms, 4000},     {SIM_down_most_ms, 2000},  {SIM_power_ms, 0},
      {SIM_client_death_ms, 0}, {SIM_client_switch_ms, 0}, {SIM_payload_bytes, 100},
      {SIM_fence_ms, 0},        {SIM_condition_ppm, 0},    {SIM_batch_ppm, 0},
      {SIM_readers, 0},         {SIM_tail_ms, 0},          {SIM_scribble_ms, 0},
      {SIM_drift_ppm, 0},       {SIM_safety_ms, 8000}}},
    {"install",
     "who was away is so far behind that all it lacks is trimmed",
     false,
     {ONE_LOG,
      LARGE,
      DEEP,
      DURABLE_ONLY,
      QUIET_NETWORK,
      FAST_DISK,
      {SIM_trim_ms, 80},
      {SIM_absent_ms, 2000},
      {SIM_down_most_ms, 100},
      {SIM_safety_ms, 5000}}},
    {"install-ambush",
     "and it, or who leads, dies while it installs, on a slow disk",
     false,
     {ONE_LOG,
      LARGE,
      DEEP,
      DURABLE_ONLY,
      QUIET_NETWORK,
      {SIM_write_us, 400},
      {SIM_write_jitter_us, 3000},
      {SIM_ambush_ppm, 150000},
      {SIM_trim_ms, 80},
      {SIM_absent_ms, 800},
      {SIM_absent_most_ms, 1500},
      {SIM_appends, 2000},
      {SIM_safety_ms, 8000}}},
    {"trims",
     "segments roll and are trimmed while nodes come and go",
     false,
     {{SIM_nodes, 3},
      {SIM_logs, 2},
      LARGE,
      DURABLE_ONLY,
      {SIM_trim_ms, 30},
      {SIM_crash_ms, 200},
      {SIM_down_most_ms, 1500},
      {SIM_ambush_ppm, 300000},
      {SIM_absent_ms, 700},
      {SIM_appends, 2000},
      {SIM_safety_ms, 4000}}},
    {"trims-stuck",
     "what is trimmed elsewhere is not durable yet where the disk is stuck",
     false,
     {ONE_LOG,
      LARGE,
      DEEP,
      DURABLE_ONLY,
      QUIET_NETWORK,
      FAST_DISK,
      {SIM_power_ms, 0},
      {SIM_stuck_ms, 300},
      {SIM_stuck_most_ms, 2500},
      {SIM_trim_ms, 40},
      {SIM_safety_ms, 5000}}},
    {"rolls",
     "hosts lose power while segments roll",
     false,
     {ONE_LOG,
      LARGE,
      DEEP,
      DURABLE_ONLY,
      {SIM_power_ms, 300},
      {SIM_rack_ppm, 0},
      {SIM_down_most_ms, 100},
      {SIM_partition_ms, 0},
      {SIM_safety_ms, 5000}}},
    {"stuck-leader",
     "disks are stuck under leaders that are cut off",
     false,
     {ONE_LOG,
      FAST_VOTES,
      DEEP,
      QUIET_NETWORK,
      {SIM_replicated_ppm, 500000},
      {SIM_partition_ms, 200},
      {SIM_partition_most_ms, 500},
      {SIM_stuck_ms, 150},
      {SIM_stuck_most_ms, 3000},
      {SIM_payload_bytes, 500},
      {SIM_power_ms, 0},
      {SIM_crash_ms, 0},
      {SIM_safety_ms, 5000}}},
    {"full",
     "disks are full again and again",
     false,
     {{SIM_nodes, 3}, {SIM_clients, 4}, {SIM_full_ms, 100}, {SIM_safety_ms, 5000}}},
    {"tails",
     "somebody asks all the time where logs end, while leaders are cut off",
     false,
     {ONE_LOG,
      QUIET_NETWORK,
      {SIM_tail_ms, 10},
      {SIM_partition_ms, 250},
      {SIM_partition_most_ms, 2500},
      {SIM_election_ms, 150},
      {SIM_heartbeat_ms, 40},
      {SIM_payload_bytes, 200},
      {SIM_client_switch_ms, 300},
      {SIM_write_us, 50},
      {SIM_write_jitter_us, 100},
      {SIM_scribble_ms, 0},
      {SIM_safety_ms, 5000}}},
    {"echoes",
     "a leader that is cut off goes on hearing what the others said before",
     false,
     {{SIM_nodes, 3},
      {SIM_workers, 1},
      FAST_VOTES,
      {SIM_lag_ms, 400},
      {SIM_lag_most_ms, 1000},
      {SIM_tail_ms, 10},
      {SIM_client_switch_ms, 100},
      {SIM_payload_bytes, 200},
      {SIM_delay_us, 50},
      {SIM_jitter_us, 100},
      {SIM_safety_ms, 5000}}},
    {"transfers",
     "leadership is handed over all the time",
     false,
     {{SIM_transfer_ms, 60}, {SIM_delay_us, 2000}, {SIM_jitter_us, 3000}, {SIM_safety_ms, 4000}}},
    {"far",
     "each way takes 60 ms",
     false,
     {DEEP,
      {SIM_delay_us, 60000},
      {SIM_jitter_us, 100},
      {SIM_election_ms, 300},
      {SIM_heartbeat_ms, 50},
      {SIM_bandwidth_kib_ms, 0},
      {SIM_safety_ms, 4000}}},
    {"dirt", "datagrams are damaged", false, {{SIM_damage_ppm, 20000}}},
    {"rot",
     "disks rot under nodes that come and go",
     true,
     {ONE_LOG,
      DURABLE_ONLY,
      {SIM_rot_ms, 150},
      {SIM_wipe_ms, 0},
      {SIM_power_ms, 600},
      {SIM_crash_ms, 300},
      {SIM_partition_ms, 300},
      {SIM_partition_most_ms, 700},
      {SIM_down_most_ms, 300},
      {SIM_safety_ms, 6000}}},
    {"lost-rewrites",
     "a disk loses what is written where its log was cut; all frames have one length",
     true,
     {ONE_LOG,
      FAST_VOTES,
      DEEP,
      DURABLE_ONLY,
      QUIET_NETWORK,
      FAST_DISK,
      {SIM_payload_bytes, 8000},
      {SIM_same_bytes, 1},
      {SIM_batch_ppm, 0},
      {SIM_rot_ms, 0},
      {SIM_wipe_ms, 0},
      {SIM_misdirect_ppm, 0},
      {SIM_read_error_ppm, 0},
      {SIM_trim_ms, 0},
      {SIM_rewrite_ppm, 300000},
      {SIM_rewrite_run_ppm, 950000},
      {SIM_partition_ms, 120},
      {SIM_partition_most_ms, 300},
      {SIM_crash_ms, 200},
      {SIM_down_most_ms, 20},
      {SIM_pause_ms, 0},
      {SIM_power_ms, 0},
      {SIM_ambush_ppm, 0},
      {SIM_readers, 2},
      {SIM_appends, 2500},
      {SIM_safety_ms, 6000}}},
    {"wipes",
     "disks are replaced",
     true,
     {DURABLE_ONLY,
      {SIM_logs, 1},
      {SIM_rot_ms, 0},
      {SIM_misdirect_ppm, 0},
      {SIM_wipe_ms, 400},
      {SIM_down_most_ms, 300},
      {SIM_safety_ms, 8000}}},
};
#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

unsigned scenes_count(void)
{
    return SCENES;
}

bool scene_find(const char *name, uint64_t *ret_scene)
{
    for (unsigned i = 0; i < SCENES; i++) {
        if (strcmp(scenes[i].name, name))
            continue;
        *ret_scene = i + 1;
        return true;
    }
    return false;
}

/* Numbers of the scene beside others that were drawn: a node takes them, and a leader is elected
 * within the time that it has. */
static void scene_reconcile(void)
{
    uint64_t way_ms = 4 * (draw.delay_us + draw.jitter_us) / 1000;
    if (draw.election_ms < way_ms)
        draw.election_ms = way_ms;
    if (draw.heartbeat_ms > draw.election_ms / 3)
        draw.heartbeat_ms = draw.election_ms / 3;
    if (draw.entry_kib < draw.payload_bytes / 1024 + 1)
        draw.entry_kib = draw.payload_bytes / 1024 + 1;
    if (draw.window_kib < 256 + 2 * draw.entry_kib)
        draw.window_kib = 256 + 2 * draw.entry_kib;
}

void scene_apply(uint64_t number)
{
    if (number == 0 || number > SCENES)
        return;
    const struct scene *scene = &scenes[number - 1];
    if (!scene->hurts)
        draw.rot_ms = draw.wipe_ms = draw.misdirect_ppm = draw.read_error_ppm = draw.rewrite_ppm =
            0;
    for (unsigned i = 0; i < SETS_MAX; i++) {
        if (scene->sets[i].parameter == SIM_nodes && scene->sets[i].value == 0)
            break;
        if (draw.loose == 0 || world_draw(STREAM_DRAW, 4) != 0)
            draw_set(scene->sets[i].parameter, scene->sets[i].value);
    }
    if (draw.loose != 0)
        scene_reconcile();
}

void scenes_list(FILE *to)
{
    for (unsigned i = 0; i < SCENES; i++)
        fprintf(to, "%-18s %s\n", scenes[i].name, scenes[i].text);
}
