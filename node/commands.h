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
#include <string.h>

#include "base/base_frame.h"
#include "base/control.h"
#include "base/ring.h"

#define NODE_COMMANDS_MAX 64u /* power of two; of a queue */
/* A worker's queues, by who fills them. */
enum { NODE_QUEUE_CONTROL, NODE_QUEUE_LIFECYCLE, NODE_COMMAND_QUEUES };

/* An append taken from a ring and not ended: in ring order, which is order of sequence per log. */
struct client_slot {
    uint64_t sequence;
    uint64_t ring_end; /* position behind its record */
    uint64_t ring_pos;
    uint64_t condition;   /* conditional: the offset asked for */
    uint64_t next_of_log; /* number of the next slot of the same log, or none */
    uint64_t home_slot;   /* a guest's: its number at home */
    uint32_t payload_bytes;
    uint32_t writer_epoch;
    uint16_t log;  /* index */
    uint8_t level; /* enum leat_level asked for */
    uint8_t kind;  /* enum leat_ring_kind: APPEND, BATCH, FENCE */
    bool conditional;
    bool again; /* a former node had it */
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
    struct client_slot *slots; /* completion_count many for each worker, by its number: what it
                                  took */
};

/* A client's identity belongs to its user: the node puts the uid (NODE_ADMIN_OPERATOR: root or the
 * node's own) in the place of its last four bytes. So no user continues another's session, whatever
 * identities it reads in a log, and a leader knows whose sessions a log holds. */
static inline void node_client_stamp(struct leat_uuid *client, uint32_t uid)
{
    memcpy(client->bytes + sizeof(client->bytes) - sizeof(uid), &uid, sizeof(uid));
}

static inline uint32_t node_client_uid(const struct leat_uuid *client)
{
    uint32_t uid;
    memcpy(&uid, client->bytes + sizeof(client->bytes) - sizeof(uid), sizeof(uid));
    return uid;
}

struct node_log;
struct node_status;
struct node_catalogue;

enum node_command_kind {
    NODE_COMMAND_ATTACH,  /* rings */
    NODE_COMMAND_DETACH,  /* rings: unused by the worker from done on */
    NODE_COMMAND_LOG,     /* log_id -> descriptor (a duplicate, the control thread closes it) */
    NODE_COMMAND_SEGMENT, /* log_id, position -> descriptor, ret_position: the segment's base */
    NODE_COMMAND_INDEX,   /* log_id, position -> descriptor of its sparse index */
    NODE_COMMAND_STATUS,  /* status: filled from its log_first on, as far as a pass may take */
    NODE_COMMAND_TRANSFER,
    NODE_COMMAND_AMNESIA_ACCEPT,
    NODE_COMMAND_TRIM,
    NODE_COMMAND_DAMAGE_ACCEPT,
    NODE_COMMAND_TAIL,       /* log_id, node_id: enum leat_level -> ret_position, ret_offset */
    NODE_COMMAND_CHANGE,     /* worker 0: change, uid; done when it is made, ret_position: log id */
    NODE_COMMAND_CATALOGUE,  /* worker 0: catalogue is filled */
    NODE_COMMAND_LOG_CREATE, /* log, made by the lifecycle thread: done when it runs */
    NODE_COMMAND_LOG_CONFIGURE, /* log_id, change.row: its retention */
    NODE_COMMAND_LOG_DELETE,    /* log_id -> log, unused by the worker from done on */
};

/* A command's result that is not one: it is done later. */
#define NODE_COMMAND_LATER 1
/* The node's user or root, as `uid` of a change: without quotas, over every log. */
#define NODE_ADMIN_OPERATOR UINT32_MAX

struct node_command {
    enum node_command_kind kind;
    uint32_t log_id;
    uint32_t node_id;
    uint64_t position;
    uint32_t uid;
    struct node_rings *rings;
    struct leat_catalogue_payload change;
    struct node_log *log;
    struct node_status *status;
    struct node_catalogue *catalogue;
    char *text; /* one line that explains `error`, may stay empty */
    uint32_t text_bytes;
    int32_t error;  /* enum leat_error */
    int descriptor; /* -1: none */
    uint64_t ret_position;
    uint64_t ret_offset;
    atomic_bool done; /* release by the worker */
};

/* The node's state while it is gathered (status.c; a test of the control socket brings its own). */
struct node_status *node_status_new(bool one, uint32_t log_id); /* NULL: no memory */
void node_status_free(struct node_status *status);
/* Which worker is to fill the next part? False: all is told. */
bool node_status_next(struct node_status *status, uint32_t worker_count, uint32_t *ret_worker);
/* One JSON object; the text is the caller's to free(). NULL: no memory. */
char *node_status_json(struct node_status *status);

/* Single producer (the control or the lifecycle thread), single consumer (worker). */
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
