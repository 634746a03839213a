/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's records for logs of other workers, and other workers' clients' records for logs of
 * this one (handover.h). The record's bytes stay where they are, in the client's ring, until it
 * has ended: home gives them back no sooner. Worker's thread.
 * Tests: tests/system/test_logs.py, with two workers.
 */
#include "handover.h"

#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define HANDOVER_BURST 256u /* messages of one worker a pass */

/* ---- at home ---- */

bool handover_has_room(const struct node_worker *worker, uint32_t log_id)
{
    uint32_t other = node_worker_of(log_id, worker->config->worker_count);
    return other == worker->number || worker->handed[other] < HANDOVER_RECORDS_MAX;
}

void handover_record(struct node_worker *worker, struct node_client *client, uint32_t log_id,
                     uint64_t slot, const struct client_slot *record)
{
    uint32_t other = node_worker_of(log_id, worker->config->worker_count);
    struct handover_message *message = handover_room(worker->outbox[other]);
    LEAT_ASSERT(message && other != worker->number);
    message->kind = HANDOVER_RECORD;
    message->log_id = log_id;
    message->rings = client->rings;
    message->slot = slot;
    message->record = *record;
    worker->handed[other]++;
    handover_push(worker->outbox[other]);
}

static void handover_take_ended(struct node_worker *worker, uint32_t other,
                                const struct handover_message *message)
{
    struct node_client *client = &worker->clients[message->rings->slot];
    LEAT_ASSERT(worker->handed[other] > 0 && client->rings == message->rings);
    worker->handed[other]--;
    clients_foreign_ended(worker, client, message->slot, &message->completion);
}

/* Asks every other worker to let go of a client's rings; again while a queue is full. */
void handover_detach(struct node_worker *worker, struct node_client *client)
{
    for (uint32_t other = 0; other < worker->config->worker_count; other++) {
        struct handover_message *message;
        if (other == worker->number || (client->detach_asked & 1u << other) ||
            !(message = handover_room(worker->outbox[other])))
            continue;
        message->kind = HANDOVER_DETACH;
        message->rings = client->rings;
        handover_push(worker->outbox[other]);
        client->detach_asked |= 1u << other;
    }
}

/* ---- at the log's worker ---- */

void handover_ended(struct node_worker *worker, const struct node_client *guest, uint64_t slot,
                    const struct leat_completion *completion)
{
    struct handover_queue *queue = worker->outbox[guest->home];
    struct handover_message *message = handover_room(queue);
    LEAT_ASSERT(message); /* home counts what is out */
    message->kind = HANDOVER_ENDED;
    message->rings = guest->rings;
    message->slot = slot;
    message->completion = *completion;
    handover_push(queue);
}

static bool handover_take_detach(struct node_worker *worker, uint32_t other,
                                 const struct handover_message *message)
{
    struct node_rings *rings = message->rings;
    struct handover_message *answer = handover_room(worker->outbox[other]);
    if (!answer)
        return false;
    answer->slot = clients_unended(worker, rings); /* they are answered by this one word */
    clients_forget(worker, rings);
    answer->kind = HANDOVER_DETACHED;
    answer->rings = rings;
    handover_push(worker->outbox[other]);
    return true;
}

static bool handover_take(struct node_worker *worker, uint32_t other,
                          const struct handover_message *message)
{
    switch (message->kind) {
    case HANDOVER_RECORD:
        clients_take_guest(worker, other, message->rings, message->log_id, message->slot,
                           &message->record);
        return true;
    case HANDOVER_ENDED:
        handover_take_ended(worker, other, message);
        return true;
    case HANDOVER_DETACH:
        return handover_take_detach(worker, other, message);
    case HANDOVER_DETACHED:
        LEAT_ASSERT(worker->handed[other] >= message->slot);
        worker->handed[other] -= (uint32_t)message->slot;
        clients_detached(worker, &worker->clients[message->rings->slot]);
        return true;
    }
    return true;
}

unsigned handover_poll(struct node_worker *worker)
{
    unsigned work = 0;
    for (uint32_t other = 0; other < worker->config->worker_count; other++) {
        const struct handover_message *message;
        struct handover_queue *queue = worker->inbox[other];
        for (unsigned i = 0; i < HANDOVER_BURST && queue; i++) {
            message = handover_peek(queue);
            if (!message || !handover_take(worker, other, message))
                break;
            handover_pop(queue);
            work++;
        }
    }
    return work;
}
