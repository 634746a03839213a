/* SPDX-License-Identifier: Apache-2.0
 *
 * The way in: claim room in the client's own ring, fill it, publish it; the table of appends.
 * Whatever the node would refuse by the record alone is refused here, before it has a sequence: a
 * refused sequence would leave a gap in the session.
 *
 * While the node is away appends go on into the old ring as far as it has room; all that is in
 * there unanswered moves to the next one.
 */
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "client_private.h"

static uint8_t *ring_at(const struct leat_client *client, const struct client_rings *rings,
                        uint64_t position)
{
    return rings->records + (position & (client->ring_bytes - 1));
}

static void ring_publish(struct client_rings *rings, uint64_t tail)
{
    rings->tail = tail;
    __atomic_store_n(&rings->shared->tail.value, tail, __ATOMIC_RELEASE); /* the records first */
}

/* Room for `extent` contiguous bytes. What is left at the ring's end becomes a SKIP at once, so
 * that a record of any size finds room when the node has taken it. */
static int ring_reserve(struct leat_client *client, uint64_t extent, uint64_t *ret_position)
{
    struct client_rings *rings = &client->rings;
    uint64_t room = client->ring_bytes - (rings->tail & (client->ring_bytes - 1));
    uint64_t wanted = extent > room ? room + extent : extent;
    if (wanted > client->ring_bytes - (rings->tail - rings->head))
        rings->head = client_load(&rings->answers->head.value);
    uint64_t used = rings->tail - rings->head;
    if (used > client->ring_bytes)
        return LEAT_EPROTO;
    uint64_t available = client->ring_bytes - used;
    if (extent > room) {
        if (room > available)
            return LEAT_EAGAIN;
        struct leat_ring_record skip = {
            .kind = LEAT_RING_SKIP,
            .payload_bytes = (uint32_t)(room - sizeof(skip)),
        };
        memcpy(ring_at(client, rings, rings->tail), &skip, sizeof(skip));
        ring_publish(rings, rings->tail + room);
        available -= room;
    }
    if (extent > available)
        return LEAT_EAGAIN;
    *ret_position = rings->tail;
    return LEAT_OK;
}

static int append_room(struct leat_client *client, uint32_t log_id, size_t length,
                       uint32_t *ret_place, uint64_t *ret_position)
{
    uint32_t place;
    int rc = client_log(client, log_id, &place);
    if (rc != LEAT_OK)
        return rc;
    struct client_log *log = &client->logs[place];
    if (length > log->entry_bytes_max || leat_ring_extent((uint32_t)length) > client->ring_bytes)
        return LEAT_ETOOBIG;
    if (client->in_flight >= client->in_flight_max ||
        client->next - client->first >= client->table_count || client->identity != CLIENT_ID_GOOD)
        return LEAT_EAGAIN;
    rc = ring_reserve(client, leat_ring_extent((uint32_t)length), ret_position);
    if (rc == LEAT_OK)
        *ret_place = place;
    return rc;
}

static int check_level(const struct client_log *log, enum leat_ack ack)
{
    if (ack != LEAT_ACK_DURABLE && ack != LEAT_ACK_REPLICATED)
        return LEAT_EINVAL;
    return ack == LEAT_ACK_REPLICATED && !log->accepts_replicated ? LEAT_ELEVEL : LEAT_OK;
}

/* Of a first append, so that its session is told from those that were closed before: how far the
 * log was committed. What is not known is said to be 0, which is always true. */
static uint64_t append_began(const struct client_log *log)
{
    if (log->next_sequence != 1 || !log->header || client_arena_is_deleted(log->header))
        return 0;
    return client_load(&log->header->commit_d.value);
}

/* The record at `position` is whole but for its header. */
static uint64_t append_enter(struct leat_client *client, uint32_t place, uint64_t position,
                             uint32_t payload_bytes, const struct client_wish *wish)
{
    struct client_log *log = &client->logs[place];
    struct client_append *append = client_at(client, client->next);
    uint64_t now_ns = client_now_ns();
    struct leat_ring_record record = {
        .payload_bytes = payload_bytes,
        .kind = (uint8_t)wish->kind,
        .level = (uint8_t)wish->ack,
        .flags = wish->conditional ? LEAT_RING_FLAG_CONDITION : 0,
        .log_id = log->log_id,
        .writer_epoch = wish->record_count > 0 ? log->writer_epoch : wish->fence_epoch,
        .sequence = log->next_sequence,
        .condition = wish->conditional ? wish->condition : append_began(log),
    };
    LEAT_ASSERT(position == client->rings.tail);
    *append = (struct client_append){
        .sequence = log->next_sequence,
        .user = wish->user,
        .start_ns = now_ns,
        .deadline_ns = client_deadline(now_ns, wish->timeout_ns),
        .ring_pos = position,
        .payload_bytes = payload_bytes,
        .log_place = place,
        .record_count = wish->record_count,
        .fence_epoch = wish->fence_epoch,
        .level = (uint8_t)wish->ack,
    };
    if (append->deadline_ns < client->deadline_next_ns)
        client->deadline_next_ns = append->deadline_ns;
    log->places[log->next_sequence & (client->table_count - 1)] = client->next;
    log->held++;
    client->next++;
    client->in_flight++;
    memcpy(ring_at(client, &client->rings, position), &record, sizeof(record));
    ring_publish(&client->rings, position + leat_ring_extent(payload_bytes));
    return log->next_sequence++;
}

int client_start(struct leat_client *client, uint32_t log, const void *data, size_t length,
                 const struct client_wish *wish, uint64_t *ret_sequence)
{
    uint32_t place;
    uint64_t position;
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->claimed || (length > 0 && !data))
        return LEAT_EINVAL;
    int rc = append_room(client, log, length, &place, &position);
    if (rc == LEAT_OK)
        rc = check_level(&client->logs[place], wish->ack);
    if (rc != LEAT_OK)
        return rc;
    if (length > 0)
        memcpy(ring_at(client, &client->rings, position) + sizeof(struct leat_ring_record), data,
               length);
    uint64_t sequence = append_enter(client, place, position, (uint32_t)length, wish);
    if (ret_sequence)
        *ret_sequence = sequence;
    return LEAT_OK;
}

static struct client_wish wish_of_one(enum leat_ack ack, uint64_t timeout_ns, uint64_t user)
{
    return (struct client_wish){.kind = LEAT_RING_APPEND,
                                .record_count = 1,
                                .ack = ack,
                                .timeout_ns = timeout_ns,
                                .user = user};
}

int leat_append_start(struct leat_client *client, uint32_t log, const void *data, size_t length,
                      enum leat_ack ack, uint64_t timeout_ns, uint64_t user, uint64_t *ret_sequence)
{
    struct client_wish wish = wish_of_one(ack, timeout_ns, user);
    return client_start(client, log, data, length, &wish, ret_sequence);
}

int leat_append_at(struct leat_client *client, uint32_t log, uint64_t offset, const void *data,
                   size_t length, enum leat_ack ack, uint64_t timeout_ns, uint64_t user,
                   uint64_t *ret_sequence)
{
    struct client_wish wish = wish_of_one(ack, timeout_ns, user);
    wish.conditional = true;
    wish.condition = offset;
    return client_start(client, log, data, length, &wish, ret_sequence);
}

int leat_append(struct leat_client *client, uint32_t log, const void *data, size_t length,
                enum leat_ack ack, uint64_t timeout_ns, struct leat_result *result)
{
    struct client_wish wish = wish_of_one(ack, timeout_ns, 0);
    return client_start_and_wait(client, log, data, length, &wish, result);
}

int leat_append_if(struct leat_client *client, uint32_t log, uint64_t offset, const void *data,
                   size_t length, enum leat_ack ack, uint64_t timeout_ns,
                   struct leat_result *result)
{
    struct client_wish wish = wish_of_one(ack, timeout_ns, 0);
    wish.conditional = true;
    wish.condition = offset;
    return client_start_and_wait(client, log, data, length, &wish, result);
}

int leat_fence(struct leat_client *client, uint32_t log, uint32_t epoch, uint64_t timeout_ns,
               struct leat_result *result)
{
    struct client_wish wish = {
        .kind = LEAT_RING_FENCE,
        .fence_epoch = epoch,
        .ack = LEAT_ACK_DURABLE,
        .timeout_ns = timeout_ns,
    };
    if (epoch != 0) /* its completion sets the epoch that appends carry */
        return client_start_and_wait(client, log, NULL, 0, &wish, result);
    memset(result, 0, sizeof(*result));
    result->log = log;
    result->error = LEAT_EINVAL;
    return LEAT_EINVAL;
}

int leat_writer_epoch(struct leat_client *client, uint32_t log, uint32_t epoch)
{
    uint32_t place;
    int rc = client_log(client, log, &place);
    if (rc == LEAT_OK)
        client->logs[place].writer_epoch = epoch;
    return rc;
}

int client_claim(struct leat_client *client, uint32_t log, size_t length)
{
    uint32_t place;
    uint64_t position;
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->claimed)
        return LEAT_EINVAL;
    int rc = append_room(client, log, length, &place, &position);
    if (rc != LEAT_OK)
        return rc;
    client->claimed = true;
    client->claim_pos = position;
    client->claim_bytes = (uint32_t)length;
    client->claim_log = place;
    client->claim_is_batch = false;
    return LEAT_OK;
}

uint8_t *client_claimed(const struct leat_client *client)
{
    const struct client_rings *rings =
        client->claim_rings.shared ? &client->claim_rings : &client->rings;
    return ring_at(client, rings, client->claim_pos) + sizeof(struct leat_ring_record);
}

int leat_claim(struct leat_client *client, uint32_t log, size_t length, void **ret_bytes)
{
    int rc = client_claim(client, log, length);
    if (rc == LEAT_OK)
        *ret_bytes = client_claimed(client);
    return rc;
}

/* The ring was replaced under an open claim: its bytes move to the new one. */
static int claim_move(struct leat_client *client)
{
    uint64_t position;
    if (!client->claim_rings.shared)
        return LEAT_OK;
    int rc = ring_reserve(client, leat_ring_extent(client->claim_bytes), &position);
    if (rc != LEAT_OK)
        return rc;
    memcpy(ring_at(client, &client->rings, position) + sizeof(struct leat_ring_record),
           ring_at(client, &client->claim_rings, client->claim_pos) +
               sizeof(struct leat_ring_record),
           client->claim_bytes);
    client_rings_unmap(client, &client->claim_rings);
    client->claim_pos = position;
    return LEAT_OK;
}

int client_publish(struct leat_client *client, const struct client_wish *wish,
                   uint64_t *ret_sequence)
{
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->state == CLIENT_FAILED)
        return client->error;
    struct client_log *log = &client->logs[client->claim_log];
    int rc = check_level(log, wish->ack);
    if (rc == LEAT_OK && client->identity != CLIENT_ID_GOOD) /* a session ended since the claim */
        rc = LEAT_EAGAIN;
    if (rc == LEAT_OK)
        rc = claim_move(client);
    if (rc != LEAT_OK)
        return rc;
    client->claimed = false;
    uint64_t sequence =
        append_enter(client, client->claim_log, client->claim_pos, client->claim_bytes, wish);
    if (ret_sequence)
        *ret_sequence = sequence;
    return LEAT_OK;
}

int leat_publish(struct leat_client *client, enum leat_ack ack, uint64_t timeout_ns, uint64_t user,
                 uint64_t *ret_sequence)
{
    struct client_wish wish = wish_of_one(ack, timeout_ns, user);
    if (!client->claimed || client->claim_is_batch)
        return client_is_forked(client) ? LEAT_EFORK : LEAT_EINVAL;
    return client_publish(client, &wish, ret_sequence);
}

int client_close_session(struct leat_client *client, uint32_t place)
{
    const struct client_wish wish = {
        .kind = LEAT_RING_CLOSE, .ack = LEAT_ACK_DURABLE, .timeout_ns = UINT64_MAX};
    uint64_t position;
    if (client->next - client->first >= client->table_count)
        return LEAT_EAGAIN;
    int rc = ring_reserve(client, leat_ring_extent(0), &position);
    if (rc != LEAT_OK)
        return rc;
    struct client_append *append = client_at(client, client->next);
    append_enter(client, place, position, 0, &wish);
    append->ended = append->taken = true;
    client->in_flight--;
    return LEAT_OK;
}

void leat_claim_abort(struct leat_client *client)
{
    client->claimed = false;
    client_rings_unmap(client, &client->claim_rings);
}

unsigned leat_in_flight(const struct leat_client *client)
{
    return client->in_flight;
}

void client_resubmit(struct leat_client *client, const struct client_rings *from)
{
    uint64_t tail = 0;
    LEAT_ASSERT(client->rings.tail == 0);
    for (uint64_t i = client->first; i < client->next; i++) {
        struct client_append *append = client_at(client, i);
        if (client->logs[append->log_place].session_ended && append->ended)
            append->answered = true; /* lost with the session: never sent again by us */
        if (append->answered)
            continue;
        uint64_t bytes = sizeof(struct leat_ring_record) + append->payload_bytes;
        LEAT_ASSERT(from->shared && tail + bytes <= client->ring_bytes);
        memcpy(ring_at(client, &client->rings, tail), ring_at(client, from, append->ring_pos),
               bytes);
        ((struct leat_ring_record *)ring_at(client, &client->rings, tail))->flags |=
            LEAT_RING_FLAG_AGAIN;
        append->ring_pos = tail;
        tail += leat_ring_extent(append->payload_bytes);
    }
    ring_publish(&client->rings, tail);
}
