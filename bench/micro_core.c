/* SPDX-License-Identifier: Apache-2.0 */
#include "micro.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/frame.h"
#include "replication/core.h"

#define NODES        3u
#define APPEND_BYTES 112u /* the frame of 64 bytes */
#define PASS_NS      1000u
#define ELECTION_NS  150000000u
#define ROUNDS_MAX   1000u

static struct {
    struct leat_core cores[NODES];
    uint64_t now_ns;
    uint64_t end_pos;  /* of the leader's log */
    uint64_t term_pos; /* where its TERM frame lies */
    int measured;      /* whose core is measured; -1: none */
} micro;

static void boot(void)
{
    static const struct leat_run genesis = {0};
    micro.now_ns = 1000000000;
    micro.end_pos = 4096;
    for (uint8_t i = 0; i < NODES; i++) {
        struct leat_core_config config = {.member_count = NODES,
                                          .self = i,
                                          .accepts_replicated = true,
                                          .election_min_ns = ELECTION_NS,
                                          .election_max_ns = 2 * ELECTION_NS,
                                          .retransmit_ns = 20000000,
                                          .window_bytes = 4u << 20,
                                          .seed = i + 1u};
        struct leat_core_boot found = {.now_ns = micro.now_ns,
                                       .incarnation = i + 1u,
                                       .voted_for = LEAT_CORE_NOBODY,
                                       .runs = &genesis,
                                       .run_count = 1,
                                       .memory_pos = micro.end_pos,
                                       .durable_pos = micro.end_pos,
                                       .commit_d = micro.end_pos};
        leat_core_init(&micro.cores[i], &config, &found);
    }
}

static void step(uint8_t node, struct leat_core_input input)
{
    input.now_ns = micro.now_ns;
    if (micro.measured == node)
        MICRO_BEGIN();
    leat_core_step(&micro.cores[node], &input);
    if (micro.measured == node)
        MICRO_END();
}

static void deliver(const struct leat_message *message, const struct leat_core *from)
{
    uint8_t to = message->to;
    const struct leat_core *core = &micro.cores[to];
    if (from->role == LEAT_LEADER && core->leader != message->from)
        step(to, (struct leat_core_input){.kind = LEAT_INPUT_HEARTBEAT,
                                          .peer = message->from,
                                          .term = from->term,
                                          .incarnation = message->from_incarnation});
    step(to, (struct leat_core_input){
                 .kind = LEAT_INPUT_MESSAGE, .message = message, .runs = from->runs});
    if (message->kind != LEAT_MESSAGE_APPEND || message->end_pos <= core->memory_pos ||
        message->begin_pos > core->memory_pos || !leat_core_admits(core, message))
        return;
    if (micro.term_pos >= core->memory_pos && micro.term_pos < message->end_pos)
        step(to, (struct leat_core_input){
                     .kind = LEAT_INPUT_RUN, .position = micro.term_pos, .term = message->term});
    step(to, (struct leat_core_input){.kind = LEAT_INPUT_VERIFIED, .position = message->end_pos});
}

/* What the node's worker does for its core: all that is asked for is done at once. */
static bool act(uint8_t node, const struct leat_core_effects *effects)
{
    struct leat_core *core = &micro.cores[node];
    if (effects->cut)
        step(node, (struct leat_core_input){.kind = LEAT_INPUT_CUT_SETTLED,
                                            .sequence = effects->cut_epoch});
    if (effects->vote)
        step(node, (struct leat_core_input){.kind = LEAT_INPUT_VOTE_PERSISTED,
                                            .sequence = effects->vote_seq});
    if (effects->append_term) {
        micro.term_pos = micro.end_pos;
        micro.end_pos += LEAT_TERM_FRAME_BYTES;
        step(node, (struct leat_core_input){
                       .kind = LEAT_INPUT_RUN, .position = micro.term_pos, .term = core->term});
        step(node,
             (struct leat_core_input){.kind = LEAT_INPUT_APPENDED, .position = micro.end_pos});
    }
    if (effects->write)
        step(node, (struct leat_core_input){.kind = LEAT_INPUT_PERSISTED,
                                            .sequence = effects->write_seq});
    for (uint32_t i = 0; i < effects->message_count; i++)
        deliver(&effects->messages[i], core);
    return effects->cut || effects->vote || effects->append_term || effects->write ||
           effects->message_count > 0;
}

static bool pass(uint8_t node)
{
    static struct leat_core_effects effects;
    if (micro.measured == node)
        MICRO_BEGIN();
    leat_core_poll(&micro.cores[node], micro.now_ns, &effects);
    if (micro.measured == node)
        MICRO_END();
    return act(node, &effects);
}

/* Until nobody has anything to do. */
static void settle(void)
{
    bool busy = true;
    for (unsigned round = 0; busy; round++) {
        LEAT_ASSERT(round < ROUNDS_MAX);
        busy = false;
        micro.now_ns += PASS_NS;
        for (uint8_t i = 0; i < NODES; i++)
            busy = pass(i) || busy;
    }
}

static void appends(uint32_t count, int measured)
{
    if (micro.now_ns == 0) {
        boot();
        micro.now_ns += ELECTION_NS;
        leat_core_campaign_soon(&micro.cores[0]);
        settle();
        LEAT_ASSERT(micro.cores[0].role == LEAT_LEADER);
    }
    micro.measured = measured;
    micro.end_pos += (uint64_t)count * APPEND_BYTES;
    step(0, (struct leat_core_input){.kind = LEAT_INPUT_APPENDED, .position = micro.end_pos});
    settle();
    micro.measured = -1;
    LEAT_ASSERT(micro.cores[0].commit_d == micro.end_pos &&
                micro.cores[1].commit_d == micro.end_pos);
}

void micro_core_leader(uint32_t count)
{
    appends(count, 0);
}

void micro_core_follower(uint32_t count)
{
    appends(count, 1);
}
