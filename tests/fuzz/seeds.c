/* SPDX-License-Identifier: Apache-2.0
 *
 * See seeds.h: the files, and the seeds of what is no disk's.
 */
#include "seeds.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/control.h"
#include "base/ring.h"
#include "dataplane/wire.h"
#include "fuzz.h"
#include "ring_steps.h"
#include "storage/storage.h"

static const char *corpus;
static uint8_t seed[256u << 10];
static size_t seed_bytes;

/* ---- the files ---- */

void seed_put(const void *bytes, size_t length)
{
    LEAT_ASSERT(length <= sizeof(seed) - seed_bytes);
    if (length > 0)
        memcpy(seed + seed_bytes, bytes, length);
    seed_bytes += length;
}

void seed_u8(uint8_t value)
{
    seed_put(&value, sizeof(value));
}

void seed_u16(uint16_t value)
{
    seed_put(&value, sizeof(value));
}

void seed_u32(uint32_t value)
{
    seed_put(&value, sizeof(value));
}

void seed_u64(uint64_t value)
{
    seed_put(&value, sizeof(value));
}

void seed_align(size_t from, size_t align)
{
    while ((seed_bytes - from) % align != 0)
        seed_u8(0);
}

size_t seed_length(void)
{
    return seed_bytes;
}

void seed_end(const char *target, const char *name)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", corpus, target);
    LEAT_ASSERT(mkdir(path, 0777) == 0 || errno == EEXIST);
    snprintf(path, sizeof(path), "%s/%s/seed-%s", corpus, target, name);
    FILE *file = fopen(path, "we");
    LEAT_ASSERT(file && fwrite(seed, 1, seed_bytes, file) == seed_bytes);
    LEAT_ASSERT(fclose(file) == 0);
    seed_bytes = 0;
}

static void seeds_config(const char *example)
{
    FILE *file = fopen(example, "re");
    LEAT_ASSERT(file);
    seed_bytes = fread(seed, 1, sizeof(seed), file);
    fclose(file);
    seed_end("config", "example");
}

static void seeds_canary(void)
{
    seed_put("LEAT", 4);
    seed_end("canary", "magic");
}

/* ---- wire ---- */

static const struct leat_uuid cluster = {{7, 7, 7}};

static void put_message(unsigned kind, const void *body, size_t body_bytes, const void *payload,
                        size_t payload_bytes)
{
    struct leat_wire_header header = {.kind = (uint16_t)kind,
                                      .cluster = cluster,
                                      .from_node = 1,
                                      .to_node = 2,
                                      .from_incarnation = 1,
                                      .log_id = 1,
                                      .log_generation = 1,
                                      .payload_bytes = (uint32_t)payload_bytes,
                                      .body_bytes = (uint16_t)body_bytes,
                                      .worker_count = 1};
    leat_wire_seal(&header, body, payload);
    seed_align(1, LEAT_WIRE_ALIGN);
    seed_put(&header, sizeof(header));
    seed_put(body, body_bytes);
    seed_put(payload, payload_bytes);
}

static void put_log_message(unsigned kind)
{
    const struct leat_run runs[2] = {{0}};
    const uint8_t bytes[64] = {0};
    struct leat_message message = {.kind = (uint8_t)kind, .term = 1, .end_pos = sizeof(bytes)};
    if (kind == LEAT_MESSAGE_RECONCILE_REPLY)
        message.run_count = 2;
    put_message(LEAT_WIRE_LOG, &message, sizeof(message),
                kind == LEAT_MESSAGE_APPEND ? (const void *)bytes : runs,
                kind == LEAT_MESSAGE_APPEND            ? sizeof(bytes)
                : kind == LEAT_MESSAGE_RECONCILE_REPLY ? sizeof(runs)
                                                       : 0);
}

/* Each kind with the body and payload it takes. */
static void put_kind(unsigned kind)
{
    const struct leat_wire_led led[2] = {{1, 1}, {2, 1}};
    const struct leat_catalogue_payload change = {.operation = LEAT_CATALOGUE_CREATE};
    const uint8_t bytes[24] = {0};
#define PUT(type, payload, payload_bytes, ...)                                                     \
    do {                                                                                           \
        struct type body = {__VA_ARGS__};                                                          \
        put_message(kind, &body, sizeof(body), payload, payload_bytes);                            \
    } while (0)
    switch ((enum leat_wire_kind)kind) {
    case LEAT_WIRE_LOG:
        put_log_message(LEAT_MESSAGE_APPEND);
        break;
    case LEAT_WIRE_HELLO:
        PUT(leat_wire_hello, NULL, 0, .flags = 1);
        break;
    case LEAT_WIRE_HEARTBEAT:
        PUT(leat_wire_heartbeat, led, sizeof(led), .flags = LEAT_HEARTBEAT_FULL, .led_count = 2,
            .led_total = 2);
        break;
    case LEAT_WIRE_FORWARD:
        PUT(leat_wire_forward, bytes, sizeof(bytes), .total_bytes = sizeof(bytes), .sequence = 1);
        break;
    case LEAT_WIRE_FORWARDED:
        PUT(leat_wire_forwarded, NULL, 0, .error = -1);
        break;
    case LEAT_WIRE_ADMIN:
        PUT(leat_wire_admin, &change, sizeof(change), .uid = 1);
        break;
    case LEAT_WIRE_ADMINISTERED:
        PUT(leat_wire_administered, "no", 2, .error = -1);
        break;
    case LEAT_WIRE_TAIL:
        PUT(leat_wire_tail, NULL, 0, .request = 1);
        break;
    case LEAT_WIRE_TAIL_REPLY:
        PUT(leat_wire_tail_reply, NULL, 0, .request = 1);
        break;
    case LEAT_WIRE_REPAIR:
        PUT(leat_wire_repair, NULL, 0, .end_pos = 4096);
        break;
    case LEAT_WIRE_REPAIR_DATA:
        PUT(leat_wire_repair_data, bytes, sizeof(bytes), .begin_pos = 0);
        break;
    case LEAT_WIRE_OPERATE:
        PUT(leat_wire_operate, NULL, 0, .operation = LEAT_OPERATE_TRIM);
        break;
    case LEAT_WIRE_OPERATED:
        PUT(leat_wire_operated, "done", 4, .request = 1);
        break;
    }
#undef PUT
}

void seeds_wire(void)
{
    char name[32];
    for (unsigned kind = 1; kind <= LEAT_WIRE_KIND_LAST; kind++) {
        seed_u8(FUZZ_FIT);
        put_kind(kind);
        snprintf(name, sizeof(name), "kind-%02u", kind);
        seed_end("wire", name);
    }
    seed_u8(0);
    put_log_message(LEAT_MESSAGE_RECONCILE_REPLY);
    put_kind(LEAT_WIRE_ADMINISTERED);
    put_log_message(LEAT_MESSAGE_APPEND_ACK);
    seed_end("wire", "three");
}

/* ---- frames and base ---- */

static size_t genesis(uint8_t block[LEAT_BLOCK_BYTES])
{
    struct leat_format_log log = {.log_id = 0,
                                  .entry_bytes_max = LEAT_ENTRY_BYTES_MIN,
                                  .segment_bytes = LEAT_SEGMENT_BYTES_MIN,
                                  .arena_bytes = LEAT_ARENA_BYTES_MIN};
    struct leat_format_config config = {.cluster = cluster,
                                        .member_count = 3,
                                        .member_ids = {1, 2, 3},
                                        .log_count = 2,
                                        .logs = {log, log}};
    config.logs[1].log_id = 1;
    memset(block, 0, LEAT_BLOCK_BYTES);
    return leat_genesis_frame(&config, &log, block);
}

static void put_shape(uint8_t flags, uint16_t before_end)
{
    seed_u8(flags);
    seed_u8(0); /* the smallest entries and segments */
    seed_u8(0);
    seed_u16(before_end);
    seed_u8(0); /* the second segment */
    for (unsigned i = 0; i < 4; i++)
        seed_u8(0); /* offset, time, term, batch */
}

static void put_frame(unsigned type_flags, size_t payload_bytes, uint32_t session)
{
    struct leat_frame frame = {.length_bytes = (uint32_t)(sizeof(frame) + payload_bytes),
                               .type_flags = type_flags,
                               .session = session,
                               .sequence = session};
    uint8_t payload[256] = {0};
    size_t from = seed_length();
    seed_put(&frame, sizeof(frame));
    seed_put(payload, payload_bytes);
    seed_align(from, LEAT_FRAME_ALIGN);
}

void seeds_frames(void)
{
    uint8_t block[LEAT_BLOCK_BYTES];
    size_t extent = genesis(block);
    struct leat_frame *frame = (void *)block;
    struct leat_base_head *head = (void *)(frame + 1);
    head->position = LEAT_SEGMENT_BYTES_MIN;
    put_shape(FUZZ_FIT | FUZZ_FIT_RULES, 0);
    seed_put(block, extent);
    put_frame(LEAT_FRAME_TERM, LEAT_TERM_PAYLOAD_BYTES, 0);
    put_frame(LEAT_FRAME_SESSION_OPEN, sizeof(struct leat_session_payload), 0);
    put_frame(LEAT_FRAME_RECORD, 13, 1);
    seed_end("frames", "base");
    put_shape(FUZZ_FIT | FUZZ_FIT_RULES, 128);
    put_frame(LEAT_FRAME_RECORD | LEAT_FRAME_FLAG_CONTINUES, 5, 1);
    put_frame(LEAT_FRAME_RECORD, 100, 1);
    put_frame(LEAT_FRAME_FENCE, sizeof(struct leat_fence_payload), 1);
    put_frame(LEAT_FRAME_REFUSED, sizeof(struct leat_refused_payload), 1);
    put_frame(LEAT_FRAME_TRIM, sizeof(struct leat_trim_payload), 0);
    put_frame(LEAT_FRAME_PAD, 48, 0);
    seed_end("frames", "batch");
    put_shape(FUZZ_FIT, 32);
    put_frame(LEAT_FRAME_PAD, 208, 0);
    seed_end("frames", "pad-to-the-end");
}

void seeds_base(void)
{
    uint8_t block[LEAT_BLOCK_BYTES];
    genesis(block);
    struct leat_frame *frame = (void *)block;
    struct leat_base_head head;
    const uint8_t *payload = (const uint8_t *)(frame + 1);
    size_t payload_bytes = frame->length_bytes - sizeof(*frame);
    seed_put(payload, payload_bytes);
    seed_end("base", "catalogue");
    memcpy(&head, payload, sizeof(head));
    head.session_count = 3;
    head.closed_count = 2;
    head.position = LEAT_SEGMENT_BYTES_MIN;
    size_t catalogue_bytes = head.catalogue_count * LEAT_CATALOGUE_ROW_BYTES;
    seed_put(&head, sizeof(head));
    seed_put(payload + sizeof(head), payload_bytes - sizeof(head) - catalogue_bytes);
    for (uint32_t i = 1; i <= head.session_count; i++) {
        struct leat_session_row row = {.client = {{(uint8_t)i}}, .session = 2 * i};
        seed_put(&row, sizeof(row));
    }
    for (uint32_t i = 1; i <= head.closed_count; i++) {
        struct leat_session_closed closed = {.client = {{(uint8_t)(8 + i)}}, .position = 4096 * i};
        seed_put(&closed, sizeof(closed));
    }
    seed_put(payload + payload_bytes - catalogue_bytes, catalogue_bytes);
    seed_end("base", "sessions");
}

/* ---- catalogue, ring, control ---- */

static void put_change(unsigned operation, uint32_t log_id, const char *name)
{
    struct leat_catalogue_payload change = {.operation = operation,
                                            .row = {.log_id = log_id,
                                                    .entry_bytes_max = LEAT_ENTRY_BYTES_MIN,
                                                    .segment_bytes = LEAT_SEGMENT_BYTES_MIN,
                                                    .arena_bytes = LEAT_ARENA_BYTES_MIN}};
    snprintf(change.row.name, sizeof(change.row.name), "%s", name);
    seed_u8(0); /* judged, by one whom nothing limits */
    seed_put(&change, sizeof(change));
}

void seeds_catalogue(void)
{
    seed_u16(UINT16_MAX); /* budget, window, logs per user, user */
    seed_u16(UINT16_MAX);
    seed_u8(2);
    seed_u8(1);
    put_change(LEAT_CATALOGUE_CREATE, 0, "a");
    put_change(LEAT_CATALOGUE_CREATE, 0, "b-1");
    put_change(LEAT_CATALOGUE_CONFIGURE, 2, "");
    put_change(LEAT_CATALOGUE_DELETE, 3, "");
    put_change(LEAT_CATALOGUE_CREATE, 0, "c");
    put_change(LEAT_CATALOGUE_DELETE, 2, "");
    seed_end("catalogue", "life");
}

/* Its payload, modulo 64, is to follow. */
static void put_header(unsigned kind, uint8_t flags, uint8_t log_id, uint8_t sequence,
                       uint16_t payload_bytes)
{
    seed_u8(STEP_RECORD);
    seed_u8((uint8_t)kind);
    seed_u8(LEAT_LEVEL_DURABLE);
    seed_u8(flags);
    seed_u8(log_id);
    seed_u8(kind == LEAT_RING_FENCE); /* the writer's epoch */
    seed_u8(sequence);
    seed_u8(0); /* condition */
    seed_u16(payload_bytes);
    for (unsigned i = 0; i < payload_bytes % 64u && payload_bytes > 64; i++)
        seed_u8(0);
}

static void put_record(unsigned kind, uint8_t flags, uint8_t log_id, uint8_t sequence,
                       uint8_t payload_bytes)
{
    const struct leat_batch_item item = {.payload_bytes = 8};
    const uint8_t payload[64] = {0};
    put_header(kind, flags, log_id, sequence, payload_bytes);
    if (kind == LEAT_RING_BATCH)
        seed_put(&item, sizeof(item));
    seed_put(payload, payload_bytes - (kind == LEAT_RING_BATCH ? sizeof(item) : 0));
}

static void put_steps(const uint8_t *steps, size_t count)
{
    seed_put(steps, count);
}

void seeds_ring(void)
{
    static const uint8_t commit[] = {STEP_PASS, STEP_COMMIT, 0, 1, 1, STEP_COMMIT, 1, 1, 3};
    static const uint8_t follow[] = {STEP_ROLE, 0,         1,   STEP_ROLE, 1,         1,
                                     STEP_PASS, STEP_TIME, 255, 255,       STEP_PASS, STEP_CONSUME};
    static const uint8_t end[] = {STEP_SESSION, 0, 0, STEP_SPACE, 1, 0, STEP_DETACH, STEP_PASS};
    for (uint8_t log = 0; log < 4; log++) {
        seed_u8(log);
        for (uint8_t i = 1; i < 4; i++)
            put_record(LEAT_RING_APPEND, i == 1 ? LEAT_RING_FLAG_AGAIN : 0, log, i,
                       (uint8_t)(i * 9));
        put_record(LEAT_RING_BATCH, LEAT_RING_FLAG_CONDITION, log, 4, 32);
        put_record(LEAT_RING_FENCE, 0, log, 5, 0);
        put_record(LEAT_RING_CLOSE, 0, log, 6, 0);
        put_record(LEAT_RING_SKIP, 0, log, 0, 60);
        put_steps(commit, sizeof(commit));
        put_steps(follow, sizeof(follow));
        put_steps(end, sizeof(end));
        char name[16];
        snprintf(name, sizeof(name), "log-%u", log);
        seed_end("ring", name);
    }
}

/* More that ends than there is room for, and nothing taken; a record that reaches over the end. */
void seeds_ring_bounds(void)
{
    seed_u8(0);
    for (unsigned i = 0; i < LEAT_RING_COMPLETIONS_MIN + 8; i++) {
        put_record(LEAT_RING_APPEND, 0, 0, (uint8_t)(i + 1), 0);
        if (i % 8 == 7)
            seed_u8(STEP_PASS);
    }
    seed_u8(STEP_CONSUME);
    seed_u8(STEP_PASS);
    seed_end("ring", "unread");
    seed_u8(0);
    put_header(LEAT_RING_SKIP, 0, 0, 0, 60000);
    seed_u8(STEP_PASS);
    put_header(LEAT_RING_APPEND, 0, 3, 1, 6000);
    seed_u8(STEP_PASS);
    seed_u8(STEP_PASS);
    seed_end("ring", "over-the-end");
}

static void put_request(unsigned kind)
{
    struct leat_control_request request = {.magic = LEAT_CONTROL_MAGIC,
                                           .version = LEAT_CONTROL_VERSION,
                                           .kind = (uint16_t)kind,
                                           .log_id = 1,
                                           .client = {{1, 2, 3}},
                                           .ring_bytes = LEAT_RING_BYTES_MIN,
                                           .completion_count = LEAT_RING_COMPLETIONS_MIN};
    seed_u16(sizeof(request));
    seed_put(&request, sizeof(request));
}

void seeds_control(void)
{
    static const unsigned attached[] = {LEAT_CONTROL_ATTACH, LEAT_CONTROL_READY,
                                        LEAT_CONTROL_EVENTS};
    for (unsigned i = 0; i < sizeof(attached) / sizeof(attached[0]); i++)
        put_request(attached[i]);
    seed_end("control", "attached");
    for (unsigned kind = 1; kind <= LEAT_CONTROL_KIND_LAST; kind++)
        put_request(kind);
    seed_end("control", "kinds");
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS EXAMPLE_YAML\n", argv[0]);
        return 2;
    }
    corpus = argv[1];
    LEAT_ASSERT(mkdir(corpus, 0777) == 0 || errno == EEXIST);
    seeds_canary();
    seeds_config(argv[2]);
    seeds_wire();
    seeds_frames();
    seeds_base();
    seeds_catalogue();
    seeds_ring();
    seeds_ring_bounds();
    seeds_control();
    seeds_journal();
    seeds_votes();
    seeds_recovery();
    return 0;
}
