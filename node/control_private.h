/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket's rooms: control.c (the socket, the loop, who comes and goes),
 * control_serve.c (one request, its command, its reply), control_events.c (who is woken).
 *
 * A connection's states, all moves on the control thread:
 *
 *   FREE -> IDLE       accepted
 *   IDLE -> BUSY       a request went to the worker as a command
 *   BUSY -> IDLE       the worker is done; the reply is sent
 *   IDLE -> LEAVING    hung up, broke the protocol, too slow, or the node stops
 *   LEAVING -> FREE    the worker is done with its rings, if it had any; all is given back
 *
 * A connection that hangs up while BUSY leaves when the worker is done: what a command points to
 * is never taken away under it.
 */
#ifndef LEAT_NODE_CONTROL_PRIVATE_H
#define LEAT_NODE_CONTROL_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "dataplane/port.h"
#include "rings.h"

#define CONTROL_CONNECTIONS_MAX         256u
#define CONTROL_CONNECTIONS_PER_UID_MAX 64u /* others than the node's user and root */
#define CONTROL_RING_BYTES_PER_UID_MAX  (1ull << 30)
#define CONTROL_IDLE_NS                 10000000000ull /* without rings and without a request */
#define CONTROL_EVENTS_NS               1000000ull     /* between looks for who is to be woken */
#define CONTROL_WATCHES_MAX             64u            /* logs of a connection */
#define CONTROL_STOP_NS                 5000000000ull  /* for the worker to let go of all rings */

enum control_state { CONTROL_FREE, CONTROL_IDLE, CONTROL_BUSY, CONTROL_LEAVING };

struct control_connection {
    enum control_state state;
    int descriptor;
    uint32_t uid;
    bool allowed;  /* may attach and read */
    bool operates; /* may transfer, accept amnesia, trim */
    bool hung_up;  /* leaves when it is no longer BUSY */
    bool attached; /* the worker has the rings */
    bool queued;   /* `command` is in the worker's queue */
    uint64_t heard_ns;
    uint64_t ring_memory_bytes;
    struct node_rings *rings;
    int client_region;                /* until sealed; -1 */
    uint16_t kind;                    /* of the request being served */
    uint32_t worker;                  /* that has, or will have, the rings */
    struct node_catalogue *catalogue; /* LOGS: being filled */
    struct node_status *status;       /* STATUS: being filled, worker by worker */
    struct control_events *events;    /* EVENTS: what wakes the client; else NULL */
    struct node_command command;
    char *text; /* LEAT_CONTROL_TEXT_BYTES_MAX while a command that may answer with text is out */
};

struct node_control {
    const struct leat_config *config;
    struct leat_uuid instance;
    struct node_commands *queues[LEAT_WORKERS_MAX];
    int listener;
    int wake; /* eventfd: node_control_stop */
    uint64_t socket_device, socket_inode;
    char socket[LEAT_CONFIG_TEXT_BYTES];
    pthread_t thread;
    bool stopping;
    uint64_t now_ns;
    uint64_t events_ns; /* of the last look for who is to be woken */

    /* counters, shown in the status */
    uint64_t accepted;
    uint64_t refused_full;
    uint64_t refused_user;
    uint64_t refused_requests; /* size, magic, version, kind, rights, bounds */
    uint64_t dropped_slow;

    struct control_connection connections[CONTROL_CONNECTIONS_MAX];
};

/* control_events.c: wakes clients that wait for a descriptor. */
struct control_events *events_new(void); /* NULL: no memory or descriptor */
void events_free(struct control_events *events);
int events_descriptor(const struct control_events *events);
/* Also when this log moves; the descriptor, of its arena, stays the caller's. */
int events_watch(struct control_events *events, uint32_t log_id, int descriptor);
/* At most every CONTROL_EVENTS_NS. */
void events_look(struct control_events *events, const struct node_rings *rings);

/* control_serve.c: reads one request and answers it or hands it to the worker. False: hang up. */
bool serve_request(struct node_control *control, struct control_connection *connection);

/* control_serve.c: the worker is done with a BUSY connection's command. False: hang up. */
bool serve_done(struct node_control *control, struct control_connection *connection);

#endif
