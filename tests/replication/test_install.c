/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replica says of its memory while it installs: until the first write of the new log is
 * durable, a start finds the old log, and none of the new one's memory (W4; simulator's seed 30100
 * at 4033286).
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_above_the_base_is_told_when_it_is_on_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
