/* SPDX-License-Identifier: Apache-2.0
 *
 * Random lives of a node, each row of them from its seed: appends, cuts, rolls, commits, trims,
 * installs, one to four records in flight, completions in any order. A life ends between any two
 * writes: the power is cut, or the process is killed and its arenas stay; and starts that die come
 * behind it. What was reported is there then.
 *
 * Built twice: storage_random_ring has ten logs and a ring so small that lives come round it.
 * By hand, other seeds and more of them: LEAT_FIRST_SEED=1000 LEAT_SEEDS=500 test_storage_random.
 */
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "disk_fake.h"

#define SEEDS      (RIG_LOGS > RIG_FORMATTED ? 64u : 32u)
#define LIVES      4u
#define DEATHS_MAX 40u /* of starts, one behind the other */

static struct rig rig;
static struct leat_rng rng;
static uint64_t seed;

static struct {
    struct leat_chain kept; /* where a cut may go back to */
    uint64_t committed;
    uint64_t highest; /* ever laid into the arena in this life */
} models[RIG_LOGS];

/* An install that the life's end interrupted: the old log is there, or the new one. */
static struct {
    bool unfinished;
    uint32_t index;
    uint64_t base_pos;
    uint64_t old_end; /* reported */
    uint8_t old_arena[RIG_ARENA];
} install;

static uint64_t below(uint64_t bound)
{
    return leat_rng_below(&rng, bound);
}

static void model_begin(uint32_t index, uint64_t committed)
{
    models[index].kept = rig.logs[index].chain;
    models[index].committed = committed;
    models[index].highest = rig.logs[index].chain.position;
}

static void model_grow(uint32_t index)
{
    if (models[index].highest < rig.logs[index].chain.position)
        models[index].highest = rig.logs[index].chain.position;
}

/* ---- acts ---- */

static void one_lands(void)
{
    if (fake_queued() > 0)
        fake_step((unsigned)below(fake_queued()));
}

static void turn(void)
{
    assert_true(rig_turn(&rig) >= 0);
}

static void some_land(void)
{
    for (uint64_t i = below(4); i > 0; i--)
        one_lands();
    turn();
}

static void settle(void)
{
    fake.held = false;
    rig_settle(&rig);
    fake.held = true;
}

static void cut(uint32_t index)
{
    const struct leat_chain *to = &models[index].kept;
    fake.held = false;
    /* no further back than the arena reaches */
    if (to->position >= models[index].committed &&
        rig.logs[index].chain.position - to->position < RIG_ARENA / 2)
        rig_cut(&rig, index, to);
    fake.held = true;
    rig_append_term(&rig, index, rig.logs[index].chain.term + 1);
}

static void commit(uint32_t index)
{
    settle();
    models[index].committed = rig.logs[index].reported_end;
    leat_storage_commit(rig.storage, index, models[index].committed);
}

/* False: the life ends here. */
static bool install_goes_on(unsigned *steps)
{
    if (*steps == 0)
        return false;
    (*steps)--;
    rig_prepare_all(&rig);
    one_lands();
    turn();
    return true;
}

static void install_begin(uint32_t index)
{
    const struct rig_log *log = &rig.logs[index];
    settle();
    rig_append(&rig, index, (uint32_t)below(9000)); /* not in place, perhaps not durable */
    model_grow(index);
    rig_write(&rig, index);
    some_land();
    memcpy(install.old_arena, log->arena, RIG_ARENA);
    install.unfinished = true;
    install.index = index;
    install.base_pos = (log->chain.position / RIG_SEGMENT + 1 + below(3)) * RIG_SEGMENT;
    install.old_end = log->reported_end;
}

static void install_lay(uint32_t index)
{
    struct rig_log *log = &rig.logs[index];
    log->chain = (struct leat_chain){.position = install.base_pos,
                                     .next_offset = 1000,
                                     .last_time_ns = 5,
                                     .term = log->chain.term + 1,
                                     .crc = 77};
    memset(log->arena, 0xcc, RIG_ARENA);
    log->reported_end = install.base_pos;
    rig_append_base(&rig, index);
    rig_append(&rig, index, (uint32_t)below(9000));
}

static void install_some(uint32_t index)
{
    struct rig_log *log = &rig.logs[index];
    unsigned steps = (unsigned)below(40);
    install_begin(index);
    uint64_t epoch = ++log->recovered.cut_epoch;
    leat_storage_reset(rig.storage, index, install.base_pos, epoch);
    while (log->cut_done < epoch) {
        if (!install_goes_on(&steps))
            return;
        install.old_end = log->reported_end;
    }
    install_lay(index);
    uint64_t sequence = rig_write(&rig, index);
    while (log->reported_seq < sequence) {
        if (!install_goes_on(&steps))
            return;
    }
    install.unfinished = false;
    model_begin(index, log->reported_end);
    leat_storage_commit(rig.storage, index, log->reported_end);
}

static void write_some(uint32_t index)
{
    const struct rig_log *log = &rig.logs[index];
    model_grow(index);
    /* an arena may not run ahead of what is durable, nor the rig's table of ends */
    if (log->write_seq - log->reported_seq > 40 ||
        log->chain.position - log->reported_end > RIG_ARENA / 4)
        settle();
    if (below(3) > 0)
        rig_write(&rig, index);
    some_land();
}

static void act(uint32_t index)
{
    switch (below(24)) {
    case 0:
        cut(index);
        break;
    case 1:
        models[index].kept = rig.logs[index].chain;
        break;
    case 2:
        if (below(4) == 0)
            rig_roll(&rig, index);
        break;
    case 3:
        commit(index);
        break;
    case 4:
        if (models[index].committed > RIG_SEGMENT)
            leat_storage_trim(rig.storage, index, models[index].committed & ~(RIG_SEGMENT - 1));
        break;
    case 5:
        rig.now_ns += 2000000;
        break;
    case 6:
        rig_prepare_all(&rig);
        break;
    case 7:
        if (below(12) == 0)
            install_some(index);
        break;
    default:
        rig_append(&rig, index, (uint32_t)below(below(8) == 0 ? 60000 : 3000));
    }
    if (!install.unfinished)
        write_some(index);
}

/* In half of the lives one log is busy and the others grow old in the ring. */
static void live(void)
{
    uint32_t busy = (uint32_t)below(RIG_LOGS);
    uint64_t quiet = below(2) ? 2u << below(7) : 1; /* one act in so many is of any log */
    fake.held = true;
    for (uint64_t acts = 20 + below(900); acts > 0 && !install.unfinished; acts--)
        act(below(quiet) > 0 ? busy : (uint32_t)below(RIG_LOGS));
}

/* ---- the end of a life ---- */

static struct {
    uint8_t arena[RIG_ARENA];
    uint64_t reported;
    uint64_t end_pos;
} before[RIG_LOGS];

static void die(bool killed)
{
    fake.dead = true;
    if (killed)
        rig_stop(&rig);
    else
        rig_crash(&rig);
    fake.dead = fake.held = fake.newest_first = false;
    fake.fail_after = -1;
}

static void end_life(bool killed)
{
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        memcpy(before[i].arena, rig.logs[i].arena, RIG_ARENA);
        before[i].reported = rig.logs[i].reported_end;
        before[i].end_pos = rig.logs[i].chain.position;
    }
    die(killed);
    rig.config.writes_in_flight_max = (uint32_t)(1 + below(4));
    rig.config.place_bytes = LEAT_BLOCK_BYTES << below(4);
}

/* One of its first writes fails, if it has so many. */
static void die_in_start(bool killed)
{
    if (rig_open(&rig) != LEAT_OK)
        fail_msg("open: %s", rig.error);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        rig_recover(&rig, i);
        assert_int_equal(leat_storage_begin(rig.storage, i, &rig.logs[i].recovered,
                                            &rig.logs[i].arena_id, &rig.boot, false),
                         LEAT_OK);
    }
    fake.fail_after = (int)below(12);
    fake.fail_errno = 5;
    fake.newest_first = below(2);
    rig.incarnation = 0;
    leat_storage_commit_begin(rig.storage, &rig.incarnation);
    die(killed);
}

/* From where on the arena had the log's bytes. */
static void expect_bytes(uint32_t index, const uint8_t *arena, uint64_t end_pos)
{
    uint64_t highest = models[index].highest;
    uint64_t pos = highest > RIG_ARENA ? highest - RIG_ARENA : 0;
    if (pos < rig.logs[index].recovered.start_pos)
        pos = rig.logs[index].recovered.start_pos;
    for (; pos < end_pos; pos++) {
        if (arena[pos % RIG_ARENA] != rig.logs[index].arena[pos % RIG_ARENA])
            fail_msg("log %u: another byte at %llu", index, (unsigned long long)pos);
    }
}

static void expect_end(uint32_t index, uint64_t reported, uint64_t end_pos)
{
    const struct leat_recovered *recovered = &rig.logs[index].recovered;
    uint64_t end = recovered->durable_pos;
    if (end < reported || end > end_pos || recovered->damaged)
        fail_msg("log %u: end %llu, reported %llu, written %llu, damaged %d", index,
                 (unsigned long long)end, (unsigned long long)reported, (unsigned long long)end_pos,
                 recovered->damaged);
}

static void expect_install(void)
{
    uint32_t i = install.index;
    const struct leat_recovered *recovered = &rig.logs[i].recovered;
    install.unfinished = false;
    if (recovered->durable_pos > install.base_pos) {
        assert_int_equal(recovered->start_pos, install.base_pos);
        expect_end(i, before[i].reported, before[i].end_pos);
        return;
    }
    expect_end(i, install.old_end, install.base_pos);
    expect_bytes(i, install.old_arena, install.old_end);
}

static void expect_log(uint32_t index, bool killed)
{
    const struct rig_log *log = &rig.logs[index];
    expect_end(index, before[index].reported, before[index].end_pos);
    /* above what was reported a cut range may come back: docs/recovery.md */
    expect_bytes(index, before[index].arena, before[index].reported);
    if (killed && (log->recovered.kind != LEAT_RECOVERED_ARENA ||
                   log->chain.position != before[index].end_pos))
        fail_msg("log %u: killed at %llu, has %llu", index,
                 (unsigned long long)before[index].end_pos,
                 (unsigned long long)log->chain.position);
}

static void live_again(void)
{
    bool killed = !install.unfinished && below(3) == 0;
    end_life(killed);
    for (uint64_t deaths = below(below(8) == 0 ? DEATHS_MAX : 3); deaths > 0; deaths--)
        die_in_start(killed);
    rig_start(&rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        uint64_t highest = killed ? models[i].highest : 0;
        if (install.unfinished && i == install.index)
            expect_install();
        else
            expect_log(i, killed);
        model_begin(i, rig.logs[i].recovered.commit_d);
        if (models[i].highest < highest)
            models[i].highest = highest;
    }
}

/* ---- seeds ---- */

static void say_seed(void)
{
    print_message("# seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
}

static void say_seed_of_abort(int signal_number)
{
    (void)signal_number;
    say_seed();
}

static uint64_t number_in(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_lives(void **state)
{
    (void)state;
    uint64_t first = number_in("LEAT_FIRST_SEED", 1);
    uint64_t end = first + number_in("LEAT_SEEDS", SEEDS);
    for (seed = first; seed < end; seed++) {
        fake_reset();
        rng.state = seed;
        rig_format(&rig);
        rig_start(&rig);
        for (uint32_t i = 0; i < RIG_LOGS; i++)
            model_begin(i, rig.logs[i].chain.position);
        for (unsigned life = 0; life < LIVES; life++) {
            live();
            live_again();
        }
        rig_remove(&rig);
    }
    seed = 0;
}

static int teardown(void **state)
{
    (void)state;
    if (seed == 0)
        return 0;
    say_seed(); /* it did not come to its end */
    rig_remove(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(random_lives, teardown)};
    signal(SIGABRT, say_seed_of_abort);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
