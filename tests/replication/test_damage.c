/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica whose disk was hurt (V2), by itself: when it is whole again, and whom it asks for a
 * vote. Of the simulator's seeds 200000655 and 200000470: logs that had no leader for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* after the others */
#include <cmocka.h>

#include "replication/core.h"

#define ELECTION_NS 150000000u
#define CLAIM_TERM  3u
#define CLAIM_END   1000u

static struct leat_core core;
static struct leat_core_effects effects;
static uint64_t now_ns;

static void boot_at(bool damaged, uint64_t memory_pos, uint64_t durable_pos)
{
    static const struct leat_run runs[] = {{.first_pos = 0, .term = 1},
                                           {.first_pos = 200, .term = CLAIM_TERM}};
    struct leat_core_config config = {.member_count = 3,
                                      .self = 0,
                                      .election_min_ns = ELECTION_NS,
                                      .election_max_ns = 2 * ELECTION_NS,
                                      .retransmit_ns = 20000000,
                                      .window_bytes = 1u << 20,
                                      .seed = 5};
    struct leat_core_boot found = {.now_ns = now_ns = 1000000000,
                                   .incarnation = 10,
                                   .vote_term = CLAIM_TERM,
                                   .voted_for = LEAT_CORE_NOBODY,
                                   .damaged = damaged,
                                   .claim_term = CLAIM_TERM,
                                   .claim_end = CLAIM_END,
                                   .runs = runs,
                                   .run_count = 2,
                                   .memory_pos = memory_pos,
                                   .durable_pos = durable_pos};
    leat_core_init(&core, &config, &found);
}

static void boot(bool damaged, uint64_t memory_pos)
{
    boot_at(damaged, memory_pos, 400);
}

static void poll_for(uint64_t ns)
{
    now_ns += ns;
    leat_core_poll(&core, now_ns, &effects);
}

/* Its disk takes what the core asked for. */
static void written(void)
{
    assert_true(effects.write);
    struct leat_core_input done = {
        .kind = LEAT_INPUT_PERSISTED, .now_ns = now_ns, .sequence = effects.write_seq};
    leat_core_step(&core, &done);
}

static void memory_that_was_whole_heals_without_a_leader(void **state)
{
    (void)state;
    boot(true, CLAIM_END);
    poll_for(2 * ELECTION_NS + 1000);
    assert_int_equal(core.role, LEAT_FOLLOWER); /* it may not campaign yet */
    assert_true(core.damaged);
    assert_false(effects.damage_ended);
    written();
    assert_false(core.damaged);
    poll_for(2 * ELECTION_NS + 1000);
    assert_true(effects.damage_ended); /* storage is told, once */
    assert_int_equal(core.role, LEAT_PRE_CANDIDATE);
    assert_int_equal(effects.message_count, 2);
}

static void what_ends_below_the_claim_does_not(void **state)
{
    (void)state;
    boot(true, CLAIM_END - 8);
    poll_for(1000);
    written();
    for (unsigned i = 0; i < 20; i++)
        poll_for(2 * ELECTION_NS + 1000);
    assert_true(core.damaged);
    assert_int_equal(core.role, LEAT_FOLLOWER);
    assert_int_equal(core.term, CLAIM_TERM);
}

/* The process died before its journal could say that all was there again. */
static void what_is_durable_at_the_start_heals_at_once(void **state)
{
    (void)state;
    boot_at(true, CLAIM_END, CLAIM_END);
    assert_false(core.damaged);
    poll_for(1000);
    assert_true(effects.damage_ended);
    poll_for(1000);
    assert_false(effects.damage_ended);
    boot_at(true, CLAIM_END, CLAIM_END - 8);
    assert_true(core.damaged);
}

static uint64_t asked_incarnation(uint8_t peer)
{
    for (uint32_t i = 0; i < effects.message_count; i++) {
        if (effects.messages[i].to == peer && effects.messages[i].kind == LEAT_MESSAGE_VOTE_REQUEST)
            return effects.messages[i].to_incarnation;
    }
    return UINT64_MAX;
}

static void a_peer_that_says_hello_is_asked_by_its_new_name(void **state)
{
    (void)state;
    boot(false, CLAIM_END);
    const uint64_t lives[] = {70, 77};
    for (unsigned i = 0; i < 2; i++) {
        struct leat_core_input hello = {
            .kind = LEAT_INPUT_PEER_ALIVE, .now_ns = now_ns, .peer = 2, .incarnation = lives[i]};
        leat_core_step(&core, &hello);
        poll_for(2 * ELECTION_NS + 1000);
        assert_int_equal(core.role, LEAT_PRE_CANDIDATE);
        assert_int_equal(asked_incarnation(2), lives[i]);
        assert_int_equal(asked_incarnation(1), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_was_whole_heals_without_a_leader),
        cmocka_unit_test(what_ends_below_the_claim_does_not),
        cmocka_unit_test(what_is_durable_at_the_start_heals_at_once),
        cmocka_unit_test(a_peer_that_says_hello_is_asked_by_its_new_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
