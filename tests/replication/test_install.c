/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replica says of its memory while it installs: until the first write of the new log is
 * durable, a start finds the old log, and none of the new one's memory (W4; simulator's seed 30100
 * at 4033286). It does not lead until then either: it would count that memory of itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* after the others */
#include <cmocka.h>

#include "replication/core.h"

#define LEADER   1u
#define TERM     4u
#define BASE     (1u << 20)
#define RECEIVED 5000u /* bytes above the base */
#define MINE     10u   /* incarnations */
#define LEADERS  20u
#define FOREVER  1000000000u

static struct leat_core core;
static struct leat_core_effects effects;
static uint64_t now_ns;

static void step(struct leat_core_input input)
{
    input.now_ns = now_ns += 1000;
    leat_core_step(&core, &input);
}

static void poll(void)
{
    leat_core_poll(&core, now_ns += 1000, &effects);
}

static const struct leat_message *said(unsigned kind)
{
    for (uint32_t i = 0; i < effects.message_count; i++) {
        if (effects.messages[i].kind == kind)
            return &effects.messages[i];
    }
    return NULL;
}

static void boot(void)
{
    static const struct leat_run runs[] = {{.first_pos = 0, .term = 1}};
    struct leat_core_config config = {.member_count = 3,
                                      .self = 0,
                                      .accepts_replicated = true,
                                      .election_min_ns = FOREVER,
                                      .election_max_ns = 2 * FOREVER,
                                      .retransmit_ns = FOREVER / 10,
                                      .window_bytes = 1u << 20,
                                      .seed = 5};
    struct leat_core_boot found = {.now_ns = now_ns = 1000000000,
                                   .incarnation = MINE,
                                   .vote_term = 1,
                                   .voted_for = LEAT_CORE_NOBODY,
                                   .runs = runs,
                                   .run_count = 1,
                                   .memory_pos = 600,
                                   .durable_pos = 600,
                                   .commit_d = 600};
    leat_core_init(&core, &config, &found);
}

/* The leader has nothing below BASE any more. */
static void begin_anew(void)
{
    static const struct leat_run runs[] = {{.first_pos = 0, .term = 1},
                                           {.first_pos = BASE - 4096, .term = TERM}};
    step((struct leat_core_input){
        .kind = LEAT_INPUT_HEARTBEAT, .peer = LEADER, .term = TERM, .incarnation = LEADERS});
    poll();
    const struct leat_message *asked = said(LEAT_MESSAGE_RECONCILE_REQUEST);
    assert_non_null(asked);
    struct leat_message reply = {.kind = LEAT_MESSAGE_RECONCILE_REPLY,
                                 .from = LEADER,
                                 .term = TERM,
                                 .from_incarnation = LEADERS,
                                 .to_incarnation = MINE,
                                 .request = asked->request,
                                 .begin_pos = BASE,
                                 .end_pos = BASE + 2 * RECEIVED,
                                 .run_count = 2};
    step((struct leat_core_input){.kind = LEAT_INPUT_MESSAGE, .message = &reply, .runs = runs});
    poll();
    assert_true(effects.reset);
    step((struct leat_core_input){.kind = LEAT_INPUT_CUT_SETTLED, .sequence = effects.cut_epoch});
}

static void memory_above_the_base_is_told_when_it_is_on_record(void **state)
{
    (void)state;
    boot();
    begin_anew();
    step((struct leat_core_input){.kind = LEAT_INPUT_VERIFIED, .position = BASE + RECEIVED});
    poll();
    const struct leat_message *ack = said(LEAT_MESSAGE_APPEND_ACK);
    assert_non_null(ack); /* so that the leader goes on */
    assert_int_equal(ack->memory_pos, BASE);
    assert_int_equal(ack->durable_pos, 0);
    assert_true(effects.write);
    assert_int_equal(effects.write_end, BASE + RECEIVED);
    step((struct leat_core_input){.kind = LEAT_INPUT_PERSISTED, .sequence = effects.write_seq});
    poll();
    ack = said(LEAT_MESSAGE_APPEND_ACK);
    assert_non_null(ack);
    assert_int_equal(ack->memory_pos, BASE + RECEIVED);
    assert_int_equal(ack->durable_pos, BASE + RECEIVED);
}

static void asked_to_take_over(void)
{
    struct leat_message now = {.kind = LEAT_MESSAGE_TIMEOUT_NOW,
                               .from = LEADER,
                               .term = TERM,
                               .from_incarnation = LEADERS,
                               .to_incarnation = MINE};
    step((struct leat_core_input){.kind = LEAT_INPUT_MESSAGE, .message = &now});
    poll();
}

static void let_the_timer_run_out(void)
{
    now_ns += 3 * FOREVER;
    step((struct leat_core_input){.kind = LEAT_INPUT_TICK});
    poll();
}

static void nobody_leads_by_what_it_installs(void **state)
{
    (void)state;
    boot();
    begin_anew();
    step((struct leat_core_input){.kind = LEAT_INPUT_VERIFIED, .position = BASE + RECEIVED});
    poll();
    uint64_t write = effects.write_seq;
    assert_true(effects.write);
    asked_to_take_over();
    assert_int_equal(core.role, LEAT_FOLLOWER);
    let_the_timer_run_out();
    assert_int_equal(core.role, LEAT_FOLLOWER);
    assert_null(said(LEAT_MESSAGE_VOTE_REQUEST));
    assert_int_equal(core.term, TERM);

    step((struct leat_core_input){.kind = LEAT_INPUT_PERSISTED, .sequence = write});
    let_the_timer_run_out();
    assert_int_equal(core.role, LEAT_PRE_CANDIDATE);
    assert_non_null(said(LEAT_MESSAGE_VOTE_REQUEST));
}

static void who_installed_may_take_over(void **state)
{
    (void)state;
    boot();
    begin_anew();
    step((struct leat_core_input){.kind = LEAT_INPUT_VERIFIED, .position = BASE + RECEIVED});
    poll();
    step((struct leat_core_input){.kind = LEAT_INPUT_PERSISTED, .sequence = effects.write_seq});
    asked_to_take_over();
    assert_int_equal(core.role, LEAT_CANDIDATE);
    assert_int_equal(core.term, TERM + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_above_the_base_is_told_when_it_is_on_record),
        cmocka_unit_test(nobody_leads_by_what_it_installs),
        cmocka_unit_test(who_installed_may_take_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
