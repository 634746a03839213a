/* SPDX-License-Identifier: Apache-2.0
 *
 * What single operations cost: instructions under callgrind, TSC ticks without it. bench/micro runs
 * both and holds the instructions against bench/micro.budget.
 *
 *   micro_ops   one line an operation: name, TSC ticks (the median of ROUNDS rounds)
 *
 * Under callgrind only what lies between MICRO_BEGIN and MICRO_END is counted, and a profile is
 * dumped under each operation's name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>
#include <x86intrin.h>

#include "base/assert.h"
#include "base/crc.h"
#include "base/frame.h"
#include "dataplane/wire.h"
#include "micro.h"
#include "replication/sessions.h"

#define ROUNDS     41u
#define REPEAT     256u
#define REPEAT_FEW 4u /* of what fills a log */
#define SEGMENT    (1u << 20)
#define POSITION   4096u

static const struct leat_log_shape shape = {
    .salt = 7, .entry_bytes_max = SEGMENT / 4, .segment_bytes = SEGMENT};
static _Alignas(64) uint8_t place[SEGMENT], payload[8192];
static struct leat_sessions sessions;

static struct leat_chain chain_begin(void)
{
    return (struct leat_chain){
        .position = POSITION, .next_offset = 1, .last_time_ns = 1, .term = 1, .crc = 99};
}

static void op_crc(uint32_t bytes)
{
    MICRO_BEGIN();
    uint32_t crc = leat_crc32c(0, payload, bytes);
    MICRO_END();
    payload[bytes] = (uint8_t)crc; /* it is used */
}

static void op_crc_copy(uint32_t bytes)
{
    MICRO_BEGIN();
    leat_crc32c_copy(0, place, payload, bytes);
    MICRO_END();
}

static void frame_seal(struct leat_chain *chain, uint32_t bytes)
{
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + bytes,
                               .type_flags = LEAT_FRAME_RECORD,
                               .session = 1,
                               .sequence = 1,
                               .time_ns = 2};
    leat_frame_seal(&shape, chain, place, &frame, payload);
}

static void op_frame_seal(uint32_t bytes)
{
    struct leat_chain chain = chain_begin();
    MICRO_BEGIN();
    frame_seal(&chain, bytes);
    MICRO_END();
}

static void op_frame_check(uint32_t bytes)
{
    struct leat_chain chain = chain_begin();
    uint64_t extent;
    frame_seal(&chain, bytes);
    chain = chain_begin();
    MICRO_BEGIN();
    int rc = leat_frame_check(&shape, &chain, place, SEGMENT - POSITION, &extent);
    MICRO_END();
    LEAT_ASSERT(rc == LEAT_OK);
}

static const struct leat_uuid cluster = {{1, 2, 3}};

static void append_datagram(uint32_t bytes)
{
    struct leat_wire_header *header = (void *)place;
    struct leat_message message = {.kind = LEAT_MESSAGE_APPEND, .term = 1, .end_pos = bytes};
    memset(header, 0, sizeof(*header));
    header->kind = LEAT_WIRE_LOG;
    header->cluster = cluster;
    header->from_node = 1;
    header->to_node = 2;
    header->log_id = 1;
    header->worker_count = 1;
    header->body_bytes = sizeof(message);
    header->payload_bytes = bytes;
    memcpy(header + 1, &message, sizeof(message));
    leat_wire_seal(header, header + 1, (const uint8_t *)(header + 1) + sizeof(message));
}

static void op_wire_seal(uint32_t bytes)
{
    MICRO_BEGIN();
    append_datagram(bytes);
    MICRO_END();
}

static void op_wire_parse(uint32_t bytes)
{
    struct leat_wire_view view;
    append_datagram(bytes);
    MICRO_BEGIN();
    int rc = leat_wire_parse(
        place, (uint32_t)(sizeof(struct leat_wire_header) + sizeof(struct leat_message) + bytes),
        &cluster, 2, &view);
    MICRO_END();
    LEAT_ASSERT(rc == -1);
}

/* Of a client that is one of 500: found, judged, moved on. */
static void op_session_append(uint32_t unused)
{
    static uint64_t sequence;
    struct leat_uuid client = {{(uint8_t)(321 & 0xff), 321 >> 8, 9}};
    (void)unused;
    if (sequence == 0) {
        for (uint32_t i = 1; i <= 500; i++) {
            struct leat_session_payload open = {.client = {{(uint8_t)i, (uint8_t)(i >> 8), 9}},
                                                .session = i};
            struct leat_frame frame = {.type_flags = LEAT_FRAME_SESSION_OPEN, .session = i};
            LEAT_ASSERT(leat_sessions_apply(&sessions, i, &frame, &open) == LEAT_OK);
        }
    }
    struct leat_frame frame = {
        .type_flags = LEAT_FRAME_RECORD, .session = 321, .sequence = ++sequence};
    MICRO_BEGIN();
    uint32_t session = leat_sessions_find(&sessions, &client);
    enum leat_session_verdict verdict = leat_sessions_judge(&sessions, session, sequence);
    leat_sessions_apply(&sessions, 1000 + sequence, &frame, NULL);
    MICRO_END();
    LEAT_ASSERT(verdict == LEAT_SESSION_NEXT);
}

static const struct micro_op {
    const char *name;
    void (*run)(uint32_t argument);
    uint32_t argument;
    bool writes; /* to disk, in the end */
} ops[] = {
    {"crc 64 B", op_crc, 64, false},
    {"crc 4096 B", op_crc, 4096, false},
    {"crc and copy 4096 B", op_crc_copy, 4096, false},
    {"frame seal 64 B", op_frame_seal, 64, false},
    {"frame seal 1024 B", op_frame_seal, 1024, false},
    {"frame check 64 B", op_frame_check, 64, false},
    {"frame check 1024 B", op_frame_check, 1024, false},
    {"datagram seal 1024 B", op_wire_seal, 1024, false},
    {"datagram parse 1024 B", op_wire_parse, 1024, false},
    {"session append", op_session_append, 0, false},
    {"core: a leader's append", micro_core_leader, 1, false},
    {"core: a follower's append", micro_core_follower, 1, false},
    {"node: an idle pass", micro_node_idle, 0, false},
    {"node: leader, 1 append", micro_node_leader, 1, true},
    {"node: leader, 64 appends", micro_node_leader, 64, true},
    {"node: leader, 1024 appends", micro_node_leader, 1024, true},
    {"node: leader, 64 replicated", micro_node_leader_replicated, 64, true},
    {"node: follower, 1 append", micro_node_follower, 1, true},
    {"node: follower, 64 appends", micro_node_follower, 64, true},
    {"node: leader, 64 in 64 logs", micro_node_leader_many, 64, true},
    {"node: leader, 64 replicated in 64 logs", micro_node_leader_many_replicated, 64, true},
    {"node: follower, 64 in 64 logs", micro_node_follower_many, 64, true},
};

uint64_t micro_begin_ticks, micro_ticks;

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void measure(const struct micro_op *op)
{
    uint64_t rounds[ROUNDS];
    unsigned repeat = RUNNING_ON_VALGRIND ? 1 : op->writes ? REPEAT_FEW : REPEAT;
    op->run(op->argument); /* what is done once, and the caches */
    CALLGRIND_ZERO_STATS;
    for (unsigned i = 0; i < ROUNDS; i++) {
        micro_ticks = 0;
        for (unsigned k = 0; k < repeat; k++)
            op->run(op->argument);
        rounds[i] = micro_ticks / repeat;
    }
    CALLGRIND_DUMP_STATS_AT(op->name);
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
    printf("%s\t%lu\n", op->name, (unsigned long)rounds[ROUNDS / 2]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--rounds") == 0) {
        printf("%u\n", ROUNDS);
        return 0;
    }
    for (unsigned i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 31);
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        measure(&ops[i]);
    return 0;
}
