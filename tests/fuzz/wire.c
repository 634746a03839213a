/* SPDX-License-Identifier: Apache-2.0
 *
 * A datagram of one message or several, gone over as node/pass.c does. FUZZ_FIT: a message whose
 * only fault is a CRC is sealed and looked at again.
 */
#include "dataplane/wire.h"
#include "fuzz.h"

#define SELF_NODE 2u

static const struct leat_uuid cluster = {{7, 7, 7}};

static int wire_parse(uint8_t *bytes, uint32_t length, bool fit, struct leat_wire_view *ret_view)
{
    int drop = leat_wire_parse(bytes, length, &cluster, SELF_NODE, ret_view);
    if (!fit || (drop != LEAT_WIRE_DROP_CRC && drop != LEAT_WIRE_DROP_PAYLOAD_CRC))
        return drop;
    struct leat_wire_header *header = (void *)bytes; /* its lengths were checked before its CRC */
    const uint8_t *body = bytes + sizeof(*header);
    leat_wire_seal(header, body, body + header->body_bytes);
    drop = leat_wire_parse(bytes, length, &cluster, SELF_NODE, ret_view);
    LEAT_ASSERT(drop != LEAT_WIRE_DROP_CRC && drop != LEAT_WIRE_DROP_PAYLOAD_CRC);
    return drop;
}

/* What a worker reads of an accepted message lies in the datagram. */
static void wire_accepted(const uint8_t *bytes, uint32_t length, const struct leat_wire_view *view)
{
    const uint8_t *end = view->payload + view->payload_bytes;
    LEAT_ASSERT((const uint8_t *)view->header == bytes);
    LEAT_ASSERT((const uint8_t *)view->body == bytes + sizeof(*view->header));
    LEAT_ASSERT(view->payload == (const uint8_t *)view->body + view->header->body_bytes);
    LEAT_ASSERT(end <= bytes + length && end <= bytes + view->extent_bytes);
    LEAT_ASSERT(view->payload_bytes == view->header->payload_bytes);
    fuzz_touch(view->body, view->header->body_bytes);
    fuzz_touch(view->payload, view->payload_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *input_bytes, size_t input_length)
{
    struct fuzz_input input = {input_bytes, input_length};
    struct leat_wire_view view;
    size_t length;
    bool fit = fuzz_u8(&input) & FUZZ_FIT;
    uint8_t *bytes = fuzz_rest(&input, &length);
    uint32_t at = 0;
    do {
        uint32_t left = (uint32_t)length - at;
        int drop = wire_parse(bytes + at, left, fit, &view);
        LEAT_ASSERT(drop < LEAT_WIRE_DROP_COUNT);
        LEAT_ASSERT(view.extent_bytes <= left && (view.extent_bytes > 0 || left == 0));
        LEAT_ASSERT(view.extent_bytes == left || view.extent_bytes % LEAT_WIRE_ALIGN == 0);
        if (drop < 0)
            wire_accepted(bytes + at, left, &view);
        at += view.extent_bytes;
    } while (at < length);
    free(bytes);
    return 0;
}
