/* SPDX-License-Identifier: Apache-2.0
 *
 * Random lives of a node, each from its seed: appends, cuts, rolls, commits, trims, votes, one to
 * four records in flight, completions in any order; then its power is cut between any two writes.
 */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "disk_fake.h"

#define SEEDS 100u
#define LIVES 4u

static struct rig rig;
static struct leat_rng rng;
static struct leat_chain kept[RIG_LOGS]; /* where a cut may go back to */
static uint64_t committed[RIG_LOGS];
static uint64_t highest[RIG_LOGS]; /* ever laid into the arena in this life */

static uint64_t below(uint64_t bound)
{
    return leat_rng_below(&rng, bound);
}

/* Some of what is held lands, in any order. */
static void some_land(void)
{
    for (uint64_t i = below(4); i > 0 && fake_queued() > 0; i--)
        fake_step((unsigned)below(fake_queued()));
    assert_true(rig_turn(&rig) >= 0);
}

static void settle(void)
{
    fake.held = false;
    rig_settle(&rig);
    fake.held = true;
}

static void act(uint32_t index)
{
    struct rig_log *log = &rig.logs[index];
    switch (below(24)) {
    case 0:
        fake.held = false;
        /* a cut goes back no further than the arena reaches */
        if (kept[index].position >= committed[index] &&
            log->chain.position - kept[index].position < RIG_ARENA / 2)
            rig_cut(&rig, index, &kept[index]);
        fake.held = true;
        rig_append_term(&rig, index, log->chain.term + 1);
        break;
    case 1:
        kept[index] = log->chain;
        break;
    case 2:
        if (below(4) == 0)
            rig_roll(&rig, index);
        break;
    case 3:
        settle();
        committed[index] = log->reported_end;
        leat_storage_commit(rig.storage, index, committed[index]);
        break;
    case 4:
        if (committed[index] > RIG_SEGMENT)
            leat_storage_trim(rig.storage, index, committed[index] & ~(RIG_SEGMENT - 1));
        break;
    case 5:
        rig.now_ns += 2000000;
        break;
    case 6:
        rig_prepare_all(&rig);
        break;
    default:
        rig_append(&rig, index, (uint32_t)below(below(8) == 0 ? 60000 : 3000));
    }
    if (highest[index] < log->chain.position)
        highest[index] = log->chain.position;
    /* an arena may not run ahead of what is durable, nor the rig's table of ends */
    if (log->write_seq - log->reported_seq > 40 ||
        log->chain.position - log->reported_end > RIG_ARENA / 4)
        settle();
    if (below(3) > 0)
        rig_write(&rig, index);
    some_land();
}

static void power_cut(uint64_t seed)
{
    static uint8_t copies[RIG_LOGS][RIG_ARENA];
    uint64_t reported[RIG_LOGS], ends[RIG_LOGS];
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        memcpy(copies[i], rig.logs[i].arena, RIG_ARENA);
        reported[i] = rig.logs[i].reported_end;
        ends[i] = rig.logs[i].chain.position;
    }
    unsigned in_flight = rig.config.writes_in_flight_max;
    fake.dead = true;
    rig_crash(&rig);
    fake.dead = fake.held = false;
    rig.config.writes_in_flight_max = (uint32_t)(1 + below(4));
    rig.config.place_bytes = LEAT_BLOCK_BYTES << below(4);
    rig_start(&rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        const struct leat_recovered *recovered = &rig.logs[i].recovered;
        uint64_t end = recovered->durable_pos;
        if (end < reported[i] || end > ends[i] || recovered->damaged)
            fail_msg("seed %llu log %u (of %u in flight): end %llu, reported %llu, written %llu, "
                     "damaged %d",
                     (unsigned long long)seed, i, in_flight, (unsigned long long)end,
                     (unsigned long long)reported[i], (unsigned long long)ends[i],
                     recovered->damaged);
        /* above what was reported a cut range may come back: docs/recovery.md */
        uint64_t low = highest[i] > RIG_ARENA ? highest[i] - RIG_ARENA : 0;
        for (uint64_t pos = recovered->start_pos > low ? recovered->start_pos : low;
             pos < reported[i]; pos++) {
            if (copies[i][pos % RIG_ARENA] != rig.logs[i].arena[pos % RIG_ARENA])
                fail_msg("seed %llu log %u: another byte at %llu", (unsigned long long)seed, i,
                         (unsigned long long)pos);
        }
        kept[i] = rig.logs[i].chain;
        committed[i] = recovered->commit_d;
        highest[i] = kept[i].position;
    }
}

static void random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fake_reset();
        rng.state = seed;
        rig_format(&rig);
        rig_start(&rig);
        for (uint32_t i = 0; i < RIG_LOGS; i++) {
            kept[i] = rig.logs[i].chain;
            committed[i] = kept[i].position;
            highest[i] = kept[i].position;
        }
        for (unsigned life = 0; life < LIVES; life++) {
            fake.held = true;
            for (uint64_t acts = 20 + below(300); acts > 0; acts--)
                act((uint32_t)below(RIG_LOGS));
            power_cut(seed);
        }
        rig_remove(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
