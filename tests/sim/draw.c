/* SPDX-License-Identifier: Apache-2.0 */
#include "draw.h"

#include <string.h>

#include "base/base_frame.h"
#include "profile.h"
#include "scenes.h"
#include "world.h"

#define SESSIONS_MANY 64u /* of a log: more than the clients of a run ever open */

struct sim_draw draw;

static const char *const names[] = {
#define SIM_DRAW_NAME(name, text) #name,
    SIM_PARAMETERS(SIM_DRAW_NAME)
#undef SIM_DRAW_NAME
};

static const char *const texts[] = {
#define SIM_DRAW_TEXT(name, text) text,
    SIM_PARAMETERS(SIM_DRAW_TEXT)
#undef SIM_DRAW_TEXT
};

_Static_assert(sizeof(struct sim_draw) == SIM_PARAMETER_COUNT * sizeof(uint64_t), "one word each");

const char *draw_name(unsigned parameter)
{
    return names[parameter];
}

const char *draw_text(unsigned parameter)
{
    return texts[parameter];
}

uint64_t draw_value(unsigned parameter)
{
    uint64_t value;
    memcpy(&value, (const uint8_t *)&draw + parameter * sizeof(value), sizeof(value));
    return value;
}

void draw_set(unsigned parameter, uint64_t value)
{
    memcpy((uint8_t *)&draw + parameter * sizeof(value), &value, sizeof(value));
}

bool draw_find(const char *name, unsigned *ret_parameter)
{
    for (unsigned i = 0; i < SIM_PARAMETER_COUNT; i++) {
        if (strcmp(names[i], name))
            continue;
        *ret_parameter = i;
        return true;
    }
    return false;
}

static uint64_t pick(uint64_t low, uint64_t high)
{
    return world_log_uniform(STREAM_DRAW, low, high);
}

/* The number is drawn in any case, so that a feature that is left out moves nothing else. */
static uint64_t maybe(uint64_t low, uint64_t high)
{
    uint64_t value = pick(low, high);
    return world_draw(STREAM_DRAW, 2) ? value : 0;
}

static void draw_cluster(void)
{
    static const uint64_t node_counts[] = {3, 3, 3, 3, 5, 5, 7};
    draw.nodes = node_counts[world_draw(STREAM_DRAW, 7)];
    draw.workers = 1 + (world_draw(STREAM_DRAW, 4) == 0);
    draw.logs = 1 + (maybe(1, 4));
    draw.clients = world_between(STREAM_DRAW, 1, 4);
    draw.appends = pick(1000, 1400);
    draw.payload_bytes = pick(16, 65536);
    if (world_draw(STREAM_DRAW, 3) == 0) /* so much that segments roll */
        draw.payload_bytes = pick(16384, 65536);
    draw.in_flight = pick(1, 128);
    draw.replicated_ppm = maybe(10000, 1000000);
    draw.safety_ms = pick(4000, 10000);
    draw.segment_kib = 1024;
    draw.arena_kib = 2048u << world_draw(STREAM_DRAW, 2);
    draw.entry_kib = draw.payload_bytes / 1024 + 1;
    if (draw.entry_kib < 9)
        draw.entry_kib = 9;
    draw.window_kib = 256 + 2 * draw.entry_kib + world_draw(STREAM_DRAW, 512 - 256 - 2 * 65 + 1);
    draw.writes_in_flight = world_between(STREAM_DRAW, 1, 4);
    draw.election_ms = pick(60, 300);
    draw.heartbeat_ms = draw.election_ms / world_between(STREAM_DRAW, 3, 6);
    draw.session_s = maybe(1, 20);
    if (draw.session_s == 0)
        draw.session_s = 600;
    draw.mtu = world_draw(STREAM_DRAW, 2) ? 1500 : 9000;
}

static void draw_network(void)
{
    draw.delay_us = pick(5, 2000);
    draw.jitter_us = pick(1, 5000);
    draw.loss_ppm = maybe(100, 300000);
    draw.burst_ppm = maybe(10, 5000);
    draw.burst_ms = pick(1, 300);
    draw.twice_ppm = maybe(100, 300000);
    draw.replay_ppm = maybe(10, 20000);
    draw.replay_ms = pick(10, 100000);
    draw.reorder_ppm = maybe(100, 300000);
    draw.reorder_ms = pick(1, 200);
    draw.damage_ppm = maybe(10, 50000);
    draw.bandwidth_kib_ms = maybe(10, 10000);
    draw.mtu_ppm = maybe(1000, 200000);
    draw.small_ms = maybe(500, 8000);
    draw.partition_ms = maybe(300, 5000);
    draw.partition_most_ms = pick(10, 4000);
    draw.clog_ms = maybe(200, 5000);
    draw.clog_most_ms = pick(10, 2000);
}

static void draw_disk(void)
{
    draw.write_us = pick(5, 2000);
    draw.write_jitter_us = pick(1, 10000);
    draw.flush_us = pick(10, 20000);
    draw.slow_ppm = maybe(100, 30000);
    draw.slow_ms = pick(5, 1000);
    draw.short_ppm = maybe(100, 100000);
    draw.again_ppm = maybe(100, 100000);
    draw.write_error_ppm = maybe(10, 2000);
    draw.flush_error_ppm = maybe(100, 20000);
    draw.stuck_ms = maybe(500, 8000);
    draw.stuck_most_ms = pick(10, 3000);
    draw.full_ms = maybe(1000, 8000);
}

static void draw_processes(void)
{
    draw.crash_ms = maybe(200, 5000);
    draw.mid_pass_ppm = maybe(1000, 1000000);
    draw.power_ms = maybe(400, 8000);
    draw.rack_ppm = maybe(10000, 1000000);
    draw.stop_ms = maybe(500, 8000);
    draw.pause_ms = maybe(200, 5000);
    draw.pause_most_ms = pick(1, 4000);
    draw.down_most_ms = pick(1, 5000);
    draw.absent_ms = maybe(1000, 20000);
    draw.absent_most_ms = draw.safety_ms;
    draw.drift_ppm = maybe(10, 100000);
    draw.realtime_ms = maybe(200, 5000);
    draw.transfer_ms = maybe(200, 5000);
    draw.trim_ms = maybe(500, 5000);
    draw.client_death_ms = maybe(300, 5000);
    draw.client_switch_ms = maybe(300, 5000);
    draw.scribble_ms = maybe(5, 1000);
    draw.scrub_kib_s = maybe(64, 65536);
    draw.rot_ms = maybe(200, 5000);
    draw.wipe_ms = maybe(500, 10000);
    draw.tail_ms = maybe(20, 1000);
    draw.batch_ppm = maybe(10000, 500000);
    draw.condition_ppm = maybe(10000, 500000);
    draw.fence_ms = maybe(200, 5000);
    draw.readers = maybe(1, 4);
    draw.misdirect_ppm = maybe(1000, 200000);
    draw.ambush_ppm = maybe(10000, 500000);
    draw.garbage_ppm = maybe(10000, 500000);
    if (world_draw(STREAM_DRAW, 2)) /* most seeds are as they were without these two */
        draw.ambush_ppm = draw.garbage_ppm = 0;
    draw.ring_full_ppm = maybe(1000, 500000);
    draw.lag_ms = maybe(300, 5000);
    draw.lag_most_ms = pick(10, 2000);
    draw.client_rest_ms = maybe(300, 5000);
    draw.desert_ppm = maybe(10000, 500000);
    draw.stray_ppm = maybe(100, 50000);
    draw.read_error_ppm = maybe(1000, 200000);
    draw.stall_ms = maybe(200, 5000);
}

static void draw_scene(const struct sim_overrides *overrides)
{
    draw.scene = world_draw(STREAM_DRAW, 2 * scenes_count()) + 1;
    if (overrides && overrides->set[SIM_scene])
        draw.scene = overrides->value[SIM_scene];
    else if (draw.scene > scenes_count() || (overrides && overrides->profile != 0))
        draw.scene = 0;
    else
        draw.loose = world_draw(STREAM_DRAW, 2);
    if (overrides && overrides->set[SIM_loose])
        draw.loose = overrides->value[SIM_loose];
    scene_apply(draw.scene);
}

void draw_make(const struct sim_overrides *overrides)
{
    memset(&draw, 0, sizeof(draw));
    draw_cluster();
    draw_network();
    draw_disk();
    draw_processes();
    draw_scene(overrides);
    if (draw.replicated_ppm > 0) /* one lost for good and one amnesiac wait for an operator (W5) */
        draw.rot_ms = draw.wipe_ms = draw.misdirect_ppm = draw.read_error_ppm = draw.rewrite_ppm =
            0;
    if (LEAT_SESSIONS_MAX < SESSIONS_MANY && draw.session_s > 3) /* the dead make room in time */
        draw.session_s = 3;
    if (overrides)
        profile_apply(overrides->profile);
    for (unsigned i = 0; overrides && i < SIM_PARAMETER_COUNT; i++) {
        if (overrides->set[i])
            draw_set(i, overrides->value[i]);
    }
}

uint64_t draw_append_ns(void)
{
    return SIM_US * (1 + 4 * (draw.delay_us + draw.jitter_us) +
                     2 * (draw.write_us + draw.write_jitter_us + draw.flush_us));
}

void draw_print(FILE *to)
{
    for (unsigned i = 0; i < SIM_PARAMETER_COUNT; i++) {
        if (draw_value(i) != 0)
            fprintf(to, "%s=%lu ", names[i], (unsigned long)draw_value(i));
    }
    fputc('\n', to);
}
