/* SPDX-License-Identifier: Apache-2.0
 *
 * The datagrams of wire.h: what is sealed is parsed, what is damaged is refused by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/rng.h"
#include "dataplane/wire.h"

#define ROOM_BYTES 2048u
#define SELF_NODE  2u

static const struct leat_uuid cluster = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

/* A datagram under construction, at the alignment that a port guarantees. */
struct datagram {
    _Alignas(8) uint8_t bytes[ROOM_BYTES];
};

static struct leat_wire_header *head_of(struct datagram *datagram)
{
    return (struct leat_wire_header *)datagram->bytes;
}

static void *body_of(struct datagram *datagram)
{
    return datagram->bytes + sizeof(struct leat_wire_header);
}

static uint8_t *payload_of(struct datagram *datagram)
{
    return (uint8_t *)body_of(datagram) + head_of(datagram)->body_bytes;
}

static uint32_t length_of(struct datagram *datagram)
{
    return (uint32_t)(payload_of(datagram) - datagram->bytes) + head_of(datagram)->payload_bytes;
}

static void begin(struct datagram *datagram, enum leat_wire_kind kind, uint16_t body_bytes,
                  uint32_t payload_bytes)
{
    memset(datagram, 0, sizeof(*datagram));
    *head_of(datagram) = (struct leat_wire_header){.kind = kind,
                                                   .cluster = cluster,
                                                   .from_node = 1,
                                                   .to_node = SELF_NODE,
                                                   .from_incarnation = 7,
                                                   .log_id = 1,
                                                   .payload_bytes = payload_bytes,
                                                   .body_bytes = body_bytes,
                                                   .worker = 0,
                                                   .worker_count = 1};
    for (uint32_t i = 0; i < payload_bytes; i++)
        payload_of(datagram)[i] = (uint8_t)(i * 7 + 1);
}

static void seal(struct datagram *datagram)
{
    leat_wire_seal(head_of(datagram), body_of(datagram), payload_of(datagram));
}

static struct leat_message *begin_log(struct datagram *datagram, uint8_t kind,
                                      uint32_t payload_bytes)
{
    begin(datagram, LEAT_WIRE_LOG, sizeof(struct leat_message), payload_bytes);
    struct leat_message *message = body_of(datagram);
    message->kind = kind;
    message->end_pos = kind == LEAT_MESSAGE_APPEND ? payload_bytes : 0;
    return message;
}

static void make_append(struct datagram *datagram)
{
    begin_log(datagram, LEAT_MESSAGE_APPEND, 200);
}

static void make_reply(struct datagram *datagram)
{
    struct leat_message *message =
        begin_log(datagram, LEAT_MESSAGE_RECONCILE_REPLY, 3 * sizeof(struct leat_run));
    message->run_count = 3;
}

static void make_hello(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_HELLO, sizeof(struct leat_wire_hello), 0);
}

static void make_heartbeat(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_HEARTBEAT, sizeof(struct leat_wire_heartbeat),
          5 * sizeof(struct leat_wire_led));
    struct leat_wire_heartbeat *heartbeat = body_of(datagram);
    heartbeat->flags = LEAT_HEARTBEAT_FULL;
    heartbeat->led_count = 5;
    heartbeat->led_first = 2;
    heartbeat->led_total = 8;
}

static void make_forward(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_FORWARD, sizeof(struct leat_wire_forward), 100);
    struct leat_wire_forward *forward = body_of(datagram);
    forward->total_bytes = 150;
    forward->begin_byte = 50;
}

static void make_forwarded(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_FORWARDED, sizeof(struct leat_wire_forwarded), 0);
    struct leat_wire_forwarded *forwarded = body_of(datagram);
    forwarded->error = -2;
}

static void make_admin(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_ADMIN, sizeof(struct leat_wire_admin),
          sizeof(struct leat_catalogue_payload));
}

static void make_administered(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_ADMINISTERED, sizeof(struct leat_wire_administered), 20);
    struct leat_wire_administered *administered = body_of(datagram);
    administered->error = -2;
}

static void make_tail(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_TAIL, sizeof(struct leat_wire_tail), 0);
}

static void make_tail_reply(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_TAIL_REPLY, sizeof(struct leat_wire_tail_reply), 0);
    struct leat_wire_tail_reply *reply = body_of(datagram);
    reply->commit_d = 100;
    reply->commit_r = 200;
}

static void make_repair(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_REPAIR, sizeof(struct leat_wire_repair), 0);
    struct leat_wire_repair *repair = body_of(datagram);
    repair->begin_pos = 4096;
    repair->end_pos = 8192;
}

static void make_repair_data(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_REPAIR_DATA, sizeof(struct leat_wire_repair_data), 64);
}

static void make_operate(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_OPERATE, sizeof(struct leat_wire_operate), 0);
    struct leat_wire_operate *operate = body_of(datagram);
    operate->operation = LEAT_OPERATE_TRANSFER;
    operate->to_node = 3;
}

static void make_operated(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_OPERATED, sizeof(struct leat_wire_operated), 20);
}

static void (*const makers[])(struct datagram *) = {
    make_append,      make_reply,        make_hello,   make_heartbeat,  make_forward,
    make_forwarded,   make_admin,        make_tail,    make_tail_reply, make_repair,
    make_repair_data, make_administered, make_operate, make_operated,
};
#define MAKERS (sizeof(makers) / sizeof(makers[0]))

static int parse_bytes(const void *bytes, uint32_t length, struct leat_wire_view *view)
{
    return leat_wire_parse(bytes, length, &cluster, SELF_NODE, view);
}

static int parse(struct datagram *datagram)
{
    struct leat_wire_view view;
    return parse_bytes(datagram->bytes, length_of(datagram), &view);
}

/* After a change below the CRC: makes it fit again, as a hostile sender would. */
static void forge(struct datagram *datagram)
{
    struct leat_wire_header *header = head_of(datagram);
    header->crc = 0;
    uint32_t crc = leat_crc32c(0, header, sizeof(*header));
    header->crc = leat_crc32c(crc, body_of(datagram), header->body_bytes);
}

static void what_is_sealed_is_parsed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct datagram datagram;
        struct leat_wire_view view;
        makers[i](&datagram);
        seal(&datagram);
        assert_int_equal(parse_bytes(datagram.bytes, length_of(&datagram), &view), -1);
        assert_ptr_equal(view.header, head_of(&datagram));
        assert_ptr_equal(view.body, body_of(&datagram));
        assert_ptr_equal(view.payload, payload_of(&datagram));
        assert_int_equal(view.payload_bytes, head_of(&datagram)->payload_bytes);
    }
}

/* Each length is tried in an allocation of exactly that size, so that a read past it is seen. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct datagram datagram;
        struct leat_wire_view view;
        makers[i](&datagram);
        seal(&datagram);
        uint32_t length = length_of(&datagram);
        for (uint32_t cut = 0; cut < length; cut++) {
            uint8_t *exact = malloc(cut > 0 ? cut : 1);
            memcpy(exact, datagram.bytes, cut);
            assert_int_equal(parse_bytes(exact, cut, &view), LEAT_WIRE_DROP_SHORT);
            free(exact);
        }
        assert_int_equal(parse_bytes(datagram.bytes, length + 1, &view), LEAT_WIRE_DROP_LONG);
    }
}

/* Each message in turn with each other behind it; what is cut off the second does not touch the
 * first. */
static void messages_share_a_datagram(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MAKERS * MAKERS; i++) {
        static uint64_t bytes[2 * sizeof(struct datagram) / sizeof(uint64_t) + 1];
        struct datagram first, second;
        struct leat_wire_view view;
        makers[i / MAKERS](&first);
        makers[i % MAKERS](&second);
        seal(&first);
        seal(&second);
        uint32_t begin = (length_of(&first) + 7u) & ~7u, length = begin + length_of(&second);
        memset(bytes, 0, sizeof(bytes));
        memcpy(bytes, first.bytes, length_of(&first));
        memcpy((uint8_t *)bytes + begin, second.bytes, length_of(&second));
        const uint8_t *behind = (const uint8_t *)bytes + begin;

        assert_int_equal(parse_bytes(bytes, length, &view), -1);
        assert_int_equal(view.extent_bytes, begin);
        assert_ptr_equal(view.header, bytes);
        assert_int_equal(parse_bytes(behind, length - begin, &view), -1);
        assert_int_equal(view.extent_bytes, length - begin);
        assert_ptr_equal(view.header, behind);

        struct leat_wire_header *header = (struct leat_wire_header *)bytes;
        if (header->payload_crc != 0) { /* torn: the second is found behind it */
            ((uint8_t *)bytes)[length_of(&first) - 1] ^= 1;
            assert_int_equal(parse_bytes(bytes, length, &view), LEAT_WIRE_DROP_PAYLOAD_CRC);
            assert_int_equal(view.extent_bytes, begin);
            ((uint8_t *)bytes)[length_of(&first) - 1] ^= 1;
        }
        header->from_node ^= 1; /* how long it is is not believed either */
        assert_int_equal(parse_bytes(bytes, length, &view), LEAT_WIRE_DROP_CRC);
        assert_int_equal(view.extent_bytes, length);
        header->from_node ^= 1;

        assert_int_equal(parse_bytes(bytes, begin + (uint32_t)sizeof(*view.header), &view), -1);
        assert_int_equal(parse_bytes(behind, sizeof(*view.header), &view), LEAT_WIRE_DROP_SHORT);
        assert_int_equal(parse_bytes(bytes, begin + (uint32_t)sizeof(*view.header) - 1, &view),
                         LEAT_WIRE_DROP_LONG);
    }
}

static void every_flipped_bit_is_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct datagram datagram;
        makers[i](&datagram);
        seal(&datagram);
        uint32_t length = length_of(&datagram);
        /* the payload of an APPEND is the chain's to prove */
        uint32_t covered = i == 0 ? length - head_of(&datagram)->payload_bytes : length;
        for (uint32_t bit = 0; bit < covered * 8; bit++) {
            struct leat_wire_view view;
            datagram.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_true(parse_bytes(datagram.bytes, length, &view) >= 0);
            datagram.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        assert_int_equal(parse(&datagram), -1);
    }
}

static void random_bytes_are_refused(void **state)
{
    (void)state;
    struct leat_rng rng = {.state = 20};
    for (unsigned round = 0; round < 200000; round++) {
        uint32_t length = (uint32_t)leat_rng_below(&rng, 400);
        uint8_t *exact = malloc(length > 0 ? length : 1);
        struct leat_wire_view view;
        for (uint32_t i = 0; i < length; i++)
            exact[i] = (uint8_t)leat_rng_next(&rng);
        if (length >= sizeof(struct leat_wire_header) && round % 2 == 0) {
            struct leat_wire_header *header = (struct leat_wire_header *)exact;
            header->magic = LEAT_WIRE_MAGIC; /* deeper */
            header->version = LEAT_WIRE_VERSION;
            header->kind = (uint16_t)(1 + leat_rng_below(&rng, 5));
            header->body_bytes = header->kind == LEAT_WIRE_LOG       ? 104
                                 : header->kind == LEAT_WIRE_FORWARD ? 40
                                                                     : 56;
            if (round % 4 == 0)
                header->payload_bytes = length - (uint32_t)sizeof(*header) - header->body_bytes;
        }
        assert_true(parse_bytes(exact, length, &view) >= 0);
        free(exact);
    }
}

static void each_header_field_has_its_reason(void **state)
{
    (void)state;
    struct datagram datagram;
#define REFUSED(maker, change, reason)                                                             \
    do {                                                                                           \
        maker(&datagram);                                                                          \
        seal(&datagram);                                                                           \
        uint32_t length = length_of(&datagram);                                                    \
        struct leat_wire_header *header = head_of(&datagram);                                      \
        struct leat_wire_view view;                                                                \
        change;                                                                                    \
        forge(&datagram);                                                                          \
        (void)header;                                                                              \
        assert_int_equal(parse_bytes(datagram.bytes, length, &view), LEAT_WIRE_DROP_##reason);     \
    } while (0)
    REFUSED(make_hello, header->magic++, MAGIC);
    REFUSED(make_hello, header->version++, VERSION);
    REFUSED(make_hello, header->kind = 0, KIND);
    REFUSED(make_hello, header->kind = LEAT_WIRE_KIND_LAST + 1, KIND);
    REFUSED(make_append, header->body_bytes--, KIND);
    REFUSED(make_append, header->payload_bytes++, SHORT);
    REFUSED(make_append, header->payload_bytes = UINT32_MAX, SHORT);
    REFUSED(make_append, header->payload_bytes--, LONG);
    REFUSED(make_hello, header->cluster.bytes[0]++, CLUSTER);
    REFUSED(make_hello, header->to_node++, TO);
    REFUSED(make_hello, header->worker_count = 0, WORKER);
    REFUSED(make_hello, header->worker = 1, WORKER);
    REFUSED(make_hello, header->key_epoch = 1, BODY);
    REFUSED(make_append, header->payload_crc = 1, PAYLOAD_CRC);
    REFUSED(make_reply, payload_of(&datagram)[0]++, PAYLOAD_CRC);
    REFUSED(make_heartbeat, payload_of(&datagram)[0]++, PAYLOAD_CRC);
    make_hello(&datagram);
    seal(&datagram);
    head_of(&datagram)->crc++;
    assert_int_equal(parse(&datagram), LEAT_WIRE_DROP_CRC);
}

static void make_close(struct datagram *datagram)
{
    begin(datagram, LEAT_WIRE_FORWARD, sizeof(struct leat_wire_forward), 0);
    struct leat_wire_forward *forward = body_of(datagram);
    forward->flags = LEAT_FORWARD_CLOSE | LEAT_FORWARD_OLDEST;
    forward->sequence = 2;
}

static void make_first(struct datagram *datagram)
{
    make_forward(datagram);
    struct leat_wire_forward *forward = body_of(datagram);
    forward->sequence = 1;
    forward->condition = 4711; /* how far the log was */
}

static void a_close_and_a_first_append_are_checked(void **state)
{
    (void)state;
    struct datagram datagram;
    make_close(&datagram);
    seal(&datagram);
    assert_int_equal(parse(&datagram), -1);
    make_first(&datagram);
    seal(&datagram);
    assert_int_equal(parse(&datagram), -1);
#define BODY(maker, change)                                                                        \
    REFUSED(maker, struct leat_wire_forward *body = body_of(&datagram); change, BODY)
    BODY(make_close, body->flags |= LEAT_FORWARD_FENCE; body->writer_epoch = 1);
    BODY(make_close, body->flags |= LEAT_FORWARD_BATCH);
    BODY(make_close, body->flags |= LEAT_FORWARD_CONDITION);
    BODY(make_close, body->writer_epoch = 1);
    BODY(make_close, body->sequence = 1);
    BODY(make_close, body->sequence = 0);
    BODY(make_close, body->condition = 1);
    BODY(make_close, body->total_bytes = 8);
    BODY(make_first, body->sequence = 2);
#undef BODY
}

static void each_body_field_is_checked(void **state)
{
    (void)state;
    struct datagram datagram;
#define BODY(maker, type, change)                                                                  \
    REFUSED(maker, struct type *body = body_of(&datagram); change, BODY)
    BODY(make_append, leat_message, body->kind = 0);
    BODY(make_append, leat_message, body->kind = LEAT_MESSAGE_KIND_LAST + 1);
    BODY(make_append, leat_message, body->flags = 128);
    BODY(make_append, leat_message, body->reserved = 1);
    BODY(make_append, leat_message, body->run_count = 1);
    BODY(make_append, leat_message, body->begin_pos = 1); /* 200 bytes in a range of 199 */
    BODY(make_append, leat_message, body->begin_pos = body->end_pos + 1);
    BODY(make_append, leat_message, body->kind = LEAT_MESSAGE_NAK); /* carries no bytes */
    BODY(make_reply, leat_message, body->run_count = 2);
    BODY(make_reply, leat_message, body->run_count = LEAT_RUNS_MAX + 1);
    BODY(make_hello, leat_wire_hello, body->flags = 2);
    BODY(make_hello, leat_wire_hello, body->reserved = 1);
    BODY(make_heartbeat, leat_wire_heartbeat, body->flags = 16 | LEAT_HEARTBEAT_FULL);
    BODY(make_heartbeat, leat_wire_heartbeat, body->flags = 0);
    BODY(make_heartbeat, leat_wire_heartbeat, body->led_count = 6);
    BODY(make_heartbeat, leat_wire_heartbeat, body->led_first = 4); /* 4 + 5 of 8 */
    BODY(make_heartbeat, leat_wire_heartbeat, body->led_first = UINT32_MAX - 2);
    BODY(make_heartbeat, leat_wire_heartbeat, body->led_total = LEAT_LOGS_MAX + 1);
    BODY(make_heartbeat, leat_wire_heartbeat, body->led_count = 5 + (1u << 29)); /* times 8 */
    BODY(make_heartbeat, leat_wire_heartbeat, body->reserved = 1);
    BODY(make_forward, leat_wire_forward, body->flags = 128);
    BODY(make_forward, leat_wire_forward, body->flags = LEAT_FORWARD_CLOSE | LEAT_FORWARD_BATCH);
    BODY(make_forward, leat_wire_forward, body->flags = LEAT_FORWARD_FENCE); /* carries no bytes */
    BODY(make_forward, leat_wire_forward, body->flags = LEAT_FORWARD_CLOSE); /* nor does this */
    BODY(make_forward, leat_wire_forward, body->condition = 1);              /* without its flag */
    BODY(make_forward, leat_wire_forward, body->begin_byte = 51);
    BODY(make_forward, leat_wire_forward, body->begin_byte = UINT32_MAX - 49);
    BODY(make_operate, leat_wire_operate, body->operation = 0);
    BODY(make_operate, leat_wire_operate, body->operation = 3);
    BODY(make_operate, leat_wire_operate, body->operation = LEAT_OPERATE_TRIM); /* to_node is set */
    BODY(make_operate, leat_wire_operate, body->position = 1);
    BODY(make_operate, leat_wire_operate, body->reserved = 1);
    BODY(make_operated, leat_wire_operated, body->error = 1);
    BODY(make_operated, leat_wire_operated, body->reserved = 1);
    BODY(make_forwarded, leat_wire_forwarded, body->error = 1);
    BODY(make_admin, leat_wire_admin, body->reserved = 1);
    BODY(make_administered, leat_wire_administered, body->error = 0); /* a change is not told so */
    BODY(make_administered, leat_wire_administered, body->reserved = 1);
    BODY(make_tail, leat_wire_tail, body->reserved = 1);
    BODY(make_tail_reply, leat_wire_tail_reply, body->commit_d = 201);
    BODY(make_tail_reply, leat_wire_tail_reply, body->reserved = 1);
    BODY(make_repair, leat_wire_repair, body->end_pos = 4096);
    BODY(make_repair_data, leat_wire_repair_data, body->error = -1); /* and bytes */
    BODY(make_repair_data, leat_wire_repair_data, body->reserved = 1);
    BODY(make_forwarded, leat_wire_forwarded, body->reserved = 1);
}

static void the_largest_run_list_is_taken(void **state)
{
    (void)state;
    struct datagram datagram;
    struct leat_message *message =
        begin_log(&datagram, LEAT_MESSAGE_RECONCILE_REPLY, LEAT_RUNS_MAX * sizeof(struct leat_run));
    message->run_count = LEAT_RUNS_MAX;
    seal(&datagram);
    assert_int_equal(parse(&datagram), -1);
}

static void every_reason_has_a_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LEAT_WIRE_DROP_COUNT; i++)
        assert_string_not_equal(leat_wire_drop_name(i), "?");
    assert_string_equal(leat_wire_drop_name(LEAT_WIRE_DROP_ROLLED_BACK), "ROLLED_BACK");
    assert_string_equal(leat_wire_drop_name(LEAT_WIRE_DROP_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_is_parsed),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(messages_share_a_datagram),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(random_bytes_are_refused),
        cmocka_unit_test(each_header_field_has_its_reason),
        cmocka_unit_test(each_body_field_is_checked),
        cmocka_unit_test(a_close_and_a_first_append_are_checked),
        cmocka_unit_test(the_largest_run_list_is_taken),
        cmocka_unit_test(every_reason_has_a_name),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
