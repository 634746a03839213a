/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches: a claim in the client's own ring that grows by records until it is committed. What the
 * node would refuse by the batch alone is refused here. Tests: tests/client/test_sequencer.c.
 */
#include <string.h>

#include "base/assert.h"
#include "client_private.h"

_Static_assert(LEAT_BATCH_RECORDS == LEAT_BATCH_RECORDS_MAX, "one limit, two headers");

#define BATCH_RECORD_ROOM (sizeof(struct leat_batch_item) + 8) /* and the padding at most */

int leat_batch_begin(struct leat_client *client, uint32_t log, uint32_t records_max,
                     size_t bytes_max)
{
    uint32_t place;
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->claimed || records_max > LEAT_BATCH_RECORDS_MAX)
        return LEAT_EINVAL;
    int rc = client_log(client, log, &place);
    if (rc != LEAT_OK)
        return rc;
    size_t most = client->logs[place].entry_bytes_max;
    if (most > client->ring_bytes / 4) /* a small ring holds a few all the same */
        most = client->ring_bytes / 4;
    size_t records = records_max ? records_max : LEAT_BATCH_RECORDS_MAX;
    size_t room = bytes_max && bytes_max < most ? bytes_max + records * BATCH_RECORD_ROOM : most;
    rc = client_claim(client, log, room < most ? room : most);
    if (rc != LEAT_OK)
        return rc;
    client->claim_room = client->claim_bytes;
    client->claim_bytes = 0;
    client->claim_is_batch = true;
    client->batch_count = 0;
    client->batch_frames_bytes = 0;
    return LEAT_OK;
}

int leat_batch_reserve(struct leat_client *client, size_t length, void **ret_bytes)
{
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (!client->claimed || !client->claim_is_batch)
        return LEAT_EINVAL;
    if (length > client->claim_room || client->batch_count == LEAT_BATCH_RECORDS_MAX)
        return LEAT_ETOOBIG;
    struct leat_batch_item item = {.payload_bytes = (uint32_t)length};
    uint64_t bytes = client->claim_bytes + leat_batch_item_extent(item.payload_bytes);
    uint64_t frames_bytes =
        client->batch_frames_bytes + leat_batch_frame_extent(item.payload_bytes);
    if (bytes > client->claim_room ||
        !leat_batch_fits(bytes, frames_bytes, client->logs[client->claim_log].entry_bytes_max))
        return LEAT_ETOOBIG;
    uint8_t *at = client_claimed(client) + client->claim_bytes;
    memcpy(at, &item, sizeof(item));
    memset(client_claimed(client) + bytes - 8, 0, length > 0 ? 8 : 0); /* the padding, before it */
    client->claim_bytes = (uint32_t)bytes;
    client->batch_frames_bytes = frames_bytes;
    client->batch_count++;
    *ret_bytes = at + sizeof(item);
    return LEAT_OK;
}

int leat_batch_add(struct leat_client *client, const void *data, size_t length)
{
    void *to;
    if (length > 0 && !data)
        return LEAT_EINVAL;
    int rc = leat_batch_reserve(client, length, &to);
    if (rc == LEAT_OK && length > 0)
        memcpy(to, data, length);
    return rc;
}

static int batch_commit(struct leat_client *client, struct client_wish *wish,
                        uint64_t *ret_sequence)
{
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (!client->claimed || !client->claim_is_batch || client->batch_count == 0)
        return LEAT_EINVAL;
    wish->kind = LEAT_RING_BATCH;
    wish->record_count = client->batch_count;
    LEAT_ASSERT(client->claim_bytes <= client->claim_room);
    return client_publish(client, wish, ret_sequence);
}

int leat_batch_commit(struct leat_client *client, enum leat_ack ack, uint64_t timeout_ns,
                      uint64_t user, uint64_t *ret_sequence)
{
    struct client_wish wish = {.ack = ack, .timeout_ns = timeout_ns, .user = user};
    return batch_commit(client, &wish, ret_sequence);
}

int leat_batch_commit_at(struct leat_client *client, uint64_t offset, enum leat_ack ack,
                         uint64_t timeout_ns, uint64_t user, uint64_t *ret_sequence)
{
    struct client_wish wish = {.conditional = true,
                               .condition = offset,
                               .ack = ack,
                               .timeout_ns = timeout_ns,
                               .user = user};
    return batch_commit(client, &wish, ret_sequence);
}

void leat_batch_abort(struct leat_client *client)
{
    leat_claim_abort(client);
}
