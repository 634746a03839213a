/* SPDX-License-Identifier: Apache-2.0
 *
 * Seals and checks the datagrams of wire.h. Pure: no state, any thread.
 *
 * Everything that arrives is hostile: each length is checked before what it measures is read, and
 * what fails is named by an enum leat_wire_drop, never asserted. The order of checks is that of
 * growing trust: room for a header, whose protocol, sizes, CRC, whom it is for, contents.
 *
 * Tests: tests/dataplane/test_wire.c.
 */
#include "dataplane/wire.h"

#include <stdbool.h>

#include "base/assert.h"
#include "base/crc.h"

static const uint16_t wire_body_bytes[LEAT_WIRE_KIND_LAST + 1] = {
    [LEAT_WIRE_LOG] = sizeof(struct leat_message),
    [LEAT_WIRE_HELLO] = sizeof(struct leat_wire_hello),
    [LEAT_WIRE_HEARTBEAT] = sizeof(struct leat_wire_heartbeat),
    [LEAT_WIRE_FORWARD] = sizeof(struct leat_wire_forward),
    [LEAT_WIRE_FORWARDED] = sizeof(struct leat_wire_forwarded),
    [LEAT_WIRE_ADMIN] = sizeof(struct leat_wire_admin),
    [LEAT_WIRE_ADMINISTERED] = sizeof(struct leat_wire_administered),
    [LEAT_WIRE_TAIL] = sizeof(struct leat_wire_tail),
    [LEAT_WIRE_TAIL_REPLY] = sizeof(struct leat_wire_tail_reply),
    [LEAT_WIRE_REPAIR] = sizeof(struct leat_wire_repair),
    [LEAT_WIRE_REPAIR_DATA] = sizeof(struct leat_wire_repair_data),
    [LEAT_WIRE_OPERATE] = sizeof(struct leat_wire_operate),
    [LEAT_WIRE_OPERATED] = sizeof(struct leat_wire_operated),
};

static uint32_t wire_header_crc(const struct leat_wire_header *header, const void *body)
{
    struct leat_wire_header copy = *header;
    copy.crc = 0;
    uint32_t crc = leat_crc32c(0, &copy, sizeof(copy));
    return leat_crc32c(crc, body, header->body_bytes);
}

/* The frames of an APPEND prove themselves by their chain; all other payloads need a CRC. */
static bool wire_payload_has_chain(const struct leat_wire_header *header, const void *body)
{
    const struct leat_message *message = body;
    return header->kind == LEAT_WIRE_LOG && message->kind == LEAT_MESSAGE_APPEND;
}

static uint32_t wire_payload_crc(const struct leat_wire_header *header, const void *body,
                                 const void *payload)
{
    if (header->payload_bytes == 0 || wire_payload_has_chain(header, body))
        return 0;
    return leat_crc32c(0, payload, header->payload_bytes);
}

void leat_wire_seal(struct leat_wire_header *header, const void *body, const void *payload)
{
    LEAT_ASSERT(header->kind >= 1 && header->kind <= LEAT_WIRE_KIND_LAST);
    LEAT_ASSERT(header->body_bytes == wire_body_bytes[header->kind]);
    header->magic = LEAT_WIRE_MAGIC;
    header->version = LEAT_WIRE_VERSION;
    header->payload_crc = wire_payload_crc(header, body, payload);
    header->crc = wire_header_crc(header, body);
}

static bool wire_log_is_valid(const struct leat_message *message, uint32_t payload_bytes)
{
    if (message->kind < 1 || message->kind > LEAT_MESSAGE_KIND_LAST || message->reserved != 0 ||
        (message->flags & ~LEAT_MESSAGE_FLAGS_ALL) != 0 || message->begin_pos > message->end_pos)
        return false;
    switch (message->kind) {
    case LEAT_MESSAGE_APPEND: /* a PAD's body lies in the range but is not sent */
        return message->run_count == 0 && payload_bytes <= message->end_pos - message->begin_pos;
    case LEAT_MESSAGE_RECONCILE_REPLY:
        return message->run_count <= LEAT_RUNS_MAX &&
               payload_bytes == message->run_count * sizeof(struct leat_run);
    default:
        return message->run_count == 0 && payload_bytes == 0;
    }
}

static bool wire_hello_is_valid(const struct leat_wire_hello *hello, uint32_t payload_bytes)
{
    return (hello->flags & ~1u) == 0 && hello->reserved == 0 && payload_bytes == 0;
}

static bool wire_heartbeat_is_valid(const struct leat_wire_heartbeat *heartbeat,
                                    uint32_t payload_bytes)
{
    const uint32_t flags_all =
        LEAT_HEARTBEAT_FULL | LEAT_HEARTBEAT_ASK | LEAT_HEARTBEAT_REPLY | LEAT_HEARTBEAT_NO_SPACE;
    if ((heartbeat->flags & ~flags_all) != 0 || heartbeat->reserved != 0)
        return false;
    if ((heartbeat->flags & LEAT_HEARTBEAT_FULL) == 0)
        return payload_bytes == 0 && heartbeat->led_first == 0;
    return heartbeat->led_total <= LEAT_LOGS_MAX && heartbeat->led_first <= heartbeat->led_total &&
           heartbeat->led_count <= heartbeat->led_total - heartbeat->led_first &&
           payload_bytes == (uint64_t)heartbeat->led_count * sizeof(struct leat_wire_led);
}

static bool wire_forward_is_valid(const struct leat_wire_forward *forward, uint32_t payload_bytes)
{
    const uint32_t flags_all = LEAT_FORWARD_OLDEST | LEAT_FORWARD_REPLICATED | LEAT_FORWARD_BATCH |
                               LEAT_FORWARD_FENCE | LEAT_FORWARD_CONDITION | LEAT_FORWARD_AGAIN |
                               LEAT_FORWARD_CLOSE;
    const uint32_t kinds = LEAT_FORWARD_BATCH | LEAT_FORWARD_FENCE | LEAT_FORWARD_CLOSE;
    const uint32_t kind = forward->flags & kinds, without_bytes = kind & ~LEAT_FORWARD_BATCH;
    if ((forward->flags & ~flags_all) != 0 ||
        (forward->condition != 0 && (forward->flags & LEAT_FORWARD_CONDITION) == 0 &&
         forward->sequence != 1) ||
        (kind & (kind - 1)) != 0 || /* one of them at most */
        (without_bytes &&
         ((forward->flags & LEAT_FORWARD_CONDITION) != 0 || forward->total_bytes != 0)) ||
        (kind == LEAT_FORWARD_FENCE && forward->writer_epoch == 0) ||
        (kind == LEAT_FORWARD_CLOSE && (forward->writer_epoch != 0 || forward->sequence <= 1)))
        return false;
    if (payload_bytes == 0) /* only a record without bytes has a piece without bytes */
        return forward->total_bytes == 0 && forward->begin_byte == 0;
    return (uint64_t)forward->begin_byte + payload_bytes <= forward->total_bytes;
}

static bool wire_forwarded_is_valid(const struct leat_wire_forwarded *forwarded,
                                    uint32_t payload_bytes)
{
    return forwarded->error <= 0 && forwarded->reserved == 0 && payload_bytes == 0;
}

static bool wire_admin_is_valid(const struct leat_wire_admin *admin, uint32_t payload_bytes)
{
    return admin->reserved == 0 && payload_bytes == sizeof(struct leat_catalogue_payload);
}

static bool wire_administered_is_valid(const struct leat_wire_administered *administered,
                                       uint32_t payload_bytes)
{
    return administered->error < 0 && administered->reserved == 0 &&
           payload_bytes <= LEAT_WIRE_TEXT_BYTES_MAX;
}

static bool wire_tail_reply_is_valid(const struct leat_wire_tail_reply *reply,
                                     uint32_t payload_bytes)
{
    return reply->reserved == 0 && reply->commit_d <= reply->commit_r && payload_bytes == 0;
}

static bool wire_repair_is_valid(const struct leat_wire_repair *repair, uint32_t payload_bytes)
{
    return repair->begin_pos < repair->end_pos && payload_bytes == 0;
}

static bool wire_repair_data_is_valid(const struct leat_wire_repair_data *data,
                                      uint32_t payload_bytes)
{
    return data->reserved == 0 && data->error <= 0 && (data->error == 0) == (payload_bytes > 0);
}

static bool wire_operate_is_valid(const struct leat_wire_operate *operate, uint32_t payload_bytes)
{
    bool trims = operate->operation == LEAT_OPERATE_TRIM && operate->to_node == 0;
    bool transfers = operate->operation == LEAT_OPERATE_TRANSFER && operate->position == 0;
    return (trims || transfers) && operate->reserved == 0 && payload_bytes == 0;
}

static bool wire_operated_is_valid(const struct leat_wire_operated *operated,
                                   uint32_t payload_bytes)
{
    return operated->error <= 0 && operated->reserved == 0 &&
           payload_bytes <= LEAT_WIRE_TEXT_BYTES_MAX;
}

static bool wire_body_is_valid(const struct leat_wire_header *header, const void *body)
{
    if (header->key_epoch != 0)
        return false;
    switch ((enum leat_wire_kind)header->kind) {
    case LEAT_WIRE_LOG:
        return wire_log_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_HELLO:
        return wire_hello_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_HEARTBEAT:
        return wire_heartbeat_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_FORWARD:
        return wire_forward_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_FORWARDED:
        return wire_forwarded_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_ADMIN:
        return wire_admin_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_ADMINISTERED:
        return wire_administered_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_TAIL:
        return ((const struct leat_wire_tail *)body)->reserved == 0 && header->payload_bytes == 0;
    case LEAT_WIRE_TAIL_REPLY:
        return wire_tail_reply_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_REPAIR:
        return wire_repair_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_REPAIR_DATA:
        return wire_repair_data_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_OPERATE:
        return wire_operate_is_valid(body, header->payload_bytes);
    case LEAT_WIRE_OPERATED:
        return wire_operated_is_valid(body, header->payload_bytes);
    }
    return false;
}

static uint64_t wire_align(uint64_t bytes)
{
    return (bytes + LEAT_WIRE_ALIGN - 1) & ~(uint64_t)(LEAT_WIRE_ALIGN - 1);
}

/* Lengths, protocol and kind: after it, header and body and payload may be read. */
static int wire_check_shape(const struct leat_wire_header *header, uint32_t length_bytes)
{
    if (length_bytes < sizeof(*header))
        return LEAT_WIRE_DROP_SHORT;
    if (header->magic != LEAT_WIRE_MAGIC)
        return LEAT_WIRE_DROP_MAGIC;
    if (header->version != LEAT_WIRE_VERSION)
        return LEAT_WIRE_DROP_VERSION;
    if (header->kind < 1 || header->kind > LEAT_WIRE_KIND_LAST ||
        header->body_bytes != wire_body_bytes[header->kind])
        return LEAT_WIRE_DROP_KIND;
    uint64_t need_bytes = sizeof(*header) + (uint64_t)header->body_bytes + header->payload_bytes;
    if (length_bytes < need_bytes)
        return LEAT_WIRE_DROP_SHORT;
    if (length_bytes > need_bytes &&
        length_bytes < wire_align(need_bytes) + sizeof(struct leat_wire_header))
        return LEAT_WIRE_DROP_LONG; /* what follows is no message */
    return -1;
}

int leat_wire_parse(const void *bytes, uint32_t length_bytes, const struct leat_uuid *cluster,
                    uint32_t self_node, struct leat_wire_view *ret_view)
{
    LEAT_DASSERT(((uintptr_t)bytes & 7u) == 0);
    const struct leat_wire_header *header = bytes;
    ret_view->extent_bytes = length_bytes;
    int drop = wire_check_shape(header, length_bytes);
    if (drop >= 0)
        return drop;
    const uint8_t *body = (const uint8_t *)bytes + sizeof(*header);
    const uint8_t *payload = body + header->body_bytes;
    if (header->crc != wire_header_crc(header, body))
        return LEAT_WIRE_DROP_CRC;
    uint64_t end_bytes = (uint64_t)(payload - (const uint8_t *)bytes) + header->payload_bytes;
    if (length_bytes > end_bytes)
        ret_view->extent_bytes = (uint32_t)wire_align(end_bytes);
    if (!leat_uuid_equal(&header->cluster, cluster))
        return LEAT_WIRE_DROP_CLUSTER;
    if (header->to_node != self_node)
        return LEAT_WIRE_DROP_TO;
    if (header->worker >= header->worker_count)
        return LEAT_WIRE_DROP_WORKER;
    if (!wire_body_is_valid(header, body))
        return LEAT_WIRE_DROP_BODY;
    if (header->payload_crc != wire_payload_crc(header, body, payload))
        return LEAT_WIRE_DROP_PAYLOAD_CRC;
    ret_view->header = header;
    ret_view->body = body;
    ret_view->payload = payload;
    ret_view->payload_bytes = header->payload_bytes;
    return -1;
}

const char *leat_wire_drop_name(enum leat_wire_drop drop)
{
    static const char *const names[LEAT_WIRE_DROP_COUNT] = {
#define WIRE_DROP_NAME(name, text) [LEAT_WIRE_DROP_##name] = #name,
        LEAT_WIRE_DROPS(WIRE_DROP_NAME)
#undef WIRE_DROP_NAME
    };
    return (unsigned)drop < LEAT_WIRE_DROP_COUNT ? names[drop] : "?";
}
