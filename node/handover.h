/* SPDX-License-Identifier: Apache-2.0
 *
 * Between two workers of a node: a queue in each direction (single producer, single consumer), so
 * that a client may append to every log though its rings belong to one worker, its home (CM4).
 *
 *   RECORD    home -> the log's worker: a record that lies in a client's ring; the log's worker
 *             keeps a guest of the client, reads the payload from that ring, seals or forwards it
 *   ENDED     back: the completion, or the client's breach of protocol (EPROTO)
 *   DETACH    home -> every worker: the rings are used no more after its DETACHED
 *
 * What is out is bounded on both sides by counting, so that an answer always finds room.
 */
#ifndef LEAT_NODE_HANDOVER_H
#define LEAT_NODE_HANDOVER_H

#include <stdatomic.h>

#include "commands.h"

#define HANDOVER_MESSAGES_MAX                                                                      \
    4096u                          /* power of two; of a queue: records out, their answers to the  \
                                      other side's, and as many detaches as there are clients */
#define HANDOVER_RECORDS_MAX 1536u /* out at one time, to one worker */

enum handover_kind { HANDOVER_RECORD, HANDOVER_ENDED, HANDOVER_DETACH, HANDOVER_DETACHED };

struct handover_message {
    enum handover_kind kind;
    uint32_t log_id; /* RECORD */
    struct node_rings *rings;
    uint64_t slot; /* home's number of it; DETACHED: how many records end with it, unanswered */
    struct client_slot record;         /* RECORD */
    struct leat_completion completion; /* ENDED */
};

struct handover_queue {
    _Alignas(128) _Atomic uint32_t tail;
    _Alignas(128) _Atomic uint32_t head;
    struct handover_message messages[HANDOVER_MESSAGES_MAX];
};

/* The place of the next message, or NULL: full. To be filled, then handover_push(). */
static inline struct handover_message *handover_room(struct handover_queue *queue)
{
    uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
    return tail - head == HANDOVER_MESSAGES_MAX ? NULL
                                                : &queue->messages[tail % HANDOVER_MESSAGES_MAX];
}

static inline void handover_push(struct handover_queue *queue)
{
    uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release); /* the message first */
}

/* The oldest message, or NULL; its place is given back by handover_pop(). */
static inline const struct handover_message *handover_peek(struct handover_queue *queue)
{
    uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    return head == atomic_load_explicit(&queue->tail, memory_order_acquire)
               ? NULL
               : &queue->messages[head % HANDOVER_MESSAGES_MAX];
}

static inline void handover_pop(struct handover_queue *queue)
{
    uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
}

#endif
