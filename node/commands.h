/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the control thread and the worker: a queue of commands that the worker carries out one
 * a pass. The control thread owns a command and everything it points to until `done`; it waits by
 * looking, since the worker makes no system call for it.
 */
#ifndef LEAT_NODE_COMMANDS_H
#define LEAT_NODE_COMMANDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/control.h"
#include "base/ring.h"

#define NODE_COMMANDS_MAX 64u /* power of two; of the queue */

/* An append taken from a ring and not ended: in ring order, which is order of sequence per log. */
struct client_slot {
    uint64_t sequence;
    uint64_t ring_end; /* position behind its record */
    uint64_t ring_pos;
    uint64_t condition; /* conditional: the offset asked for */
    uint32_t payload_bytes;
    uint32_t writer_epoch;
    uint8_t log;   /* index */
    uint8_t level; /* enum leat_level asked for */
    uint8_t kind;  /* enum leat_ring_kind: APPEND, BATCH, FENCE */
    bool conditional;
    bool ended;
};

/* The mapped rings of one attached client. Made and unmapped by the control thread; used by the
 * worker between ATTACH and DETACH. Hostile: see base/ring.h. */
struct node_rings {
    struct leat_uuid client;
    uint32_t uid;
    uint32_t slot; /* the worker's, set on ATTACH */
    uint64_t ring_bytes;
    uint64_t completion_count;
    struct leat_ring_client *shared; /* client region */
    const uint8_t *records;
    struct leat_ring_node *answers; /* node region */
    struct leat_completion *completions;
    struct client_slot *slots; /* completion_count many: the worker's memory of what it took */
};

enum node_command_kind {
    NODE_COMMAND_ATTACH,  /* rings */
    NODE_COMMAND_DETACH,  /* rings: unused by the worker from done on */
    NODE_COMMAND_LOG,     /* log_id -> descriptor (a duplicate, the control thread closes it) */
    NODE_COMMAND_SEGMENT, /* log_id, position -> descriptor, ret_position: the segment's base */
    NODE_COMMAND_STATUS,  /* text, text_bytes: one JSON object */
    NODE_COMMAND_TRANSFER,
    NODE_COMMAND_AMNESIA_ACCEPT,
    NODE_COMMAND_TRIM,
};

struct node_command {
    enum node_command_kind kind;
    uint32_t log_id;
    uint32_t node_id;
    uint64_t position;
    struct node_rings *rings;
    char *text; /* STATUS: the object; others: one line that explains `error`, may stay empty */
    uint32_t text_bytes;
    int32_t error;  /* enum leat_error */
    int descriptor; /* -1: none */
    uint64_t ret_position;
    void (*finish)(struct node_command *command); /* set by the worker when something is left to
                                                     do that is not for its thread: to be called
                                                     by the control thread after `done` */
    atomic_bool done;                             /* release by the worker */
};

/* Single producer (control thread), single consumer (worker). */
struct node_commands {
    _Alignas(64) _Atomic uint32_t tail;
    _Alignas(64) _Atomic uint32_t head;
    struct node_command *slots[NODE_COMMANDS_MAX];
};

/* Control thread. False: full. */
static inline bool node_commands_push(struct node_commands *commands, struct node_command *command)
{
    uint32_t tail = atomic_load_explicit(&commands->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&commands->head, memory_order_acquire);
    if (tail - head == NODE_COMMANDS_MAX)
        return false;
    atomic_store_explicit(&command->done, false, memory_order_relaxed);
    commands->slots[tail % NODE_COMMANDS_MAX] = command;
    atomic_store_explicit(&commands->tail, tail + 1, memory_order_release);
    return true;
}

/* Worker. NULL: none. */
static inline struct node_command *node_commands_pop(struct node_commands *commands)
{
    uint32_t head = atomic_load_explicit(&commands->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&commands->tail, memory_order_acquire))
        return NULL;
    struct node_command *command = commands->slots[head % NODE_COMMANDS_MAX];
    atomic_store_explicit(&commands->head, head + 1, memory_order_release);
    return command;
}

#endif
