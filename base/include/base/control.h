/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's control socket: AF_UNIX, SOCK_SEQPACKET. A client sends a struct leat_control_request,
 * the node answers each with a struct leat_control_reply (and text or descriptors). A connection
 * that attached holds its rings until it is closed.
 */
#ifndef LEAT_BASE_CONTROL_H
#define LEAT_BASE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "base/base_frame.h"
#include "base/uuid.h"

#define LEAT_CONTROL_MAGIC          0x4c544354u
#define LEAT_CONTROL_VERSION        3u /* of the rings too */
#define LEAT_CONTROL_TEXT_BYTES_MAX (48u << 10)

enum leat_control_kind {
    LEAT_CONTROL_ATTACH = 1,   /* client, ring_bytes, completion_count, log_id: rings served by
                                  the worker that hosts that log (id modulo worker count) -> 2
                                  descriptors: client region, node region; position: the node's
                                  worker count; to be followed by READY */
    LEAT_CONTROL_LOG = 2,      /* log_id -> descriptor of the arena file, read-only */
    LEAT_CONTROL_SEGMENT = 3,  /* log_id, position -> descriptor of the sealed segment that holds
                                  position; LEAT_EAGAIN: not sealed, LEAT_ETRIMMED */
    LEAT_CONTROL_STATUS = 4,   /* position 1: of log_id only, else of all -> one JSON object: text,
                                  or, if it is long, a descriptor of a sealed memfd that holds
                                  `position` bytes of it */
    LEAT_CONTROL_TRANSFER = 5, /* log_id, node_id (0: any) */
    LEAT_CONTROL_AMNESIA_ACCEPT = 6, /* log_id */
    LEAT_CONTROL_TRIM = 7,           /* log_id, position: at most, rounded down to a segment */
    LEAT_CONTROL_READY = 8,   /* the client has mapped its region: the node seals it against new
                                 writable mappings and holes, and only then looks into it */
    LEAT_CONTROL_CHANGE = 9,  /* change -> position: the log's id. Done when this node has applied
                                 it; a request repeated under the same uuid is the same */
    LEAT_CONTROL_INDEX = 10,  /* log_id, position -> descriptor of the sparse index of the sealed
                                 segment that holds position; LEAT_EAGAIN: none yet */
    LEAT_CONTROL_TAIL = 11,   /* log_id, node_id: enum leat_level -> position, offset: where the log
                                 ends, linearizable */
    LEAT_CONTROL_LOGS = 12,   /* -> descriptor of a sealed memfd: `position` many struct
                                 leat_catalogue_row */
    LEAT_CONTROL_EVENTS = 13, /* attached; log_id 0 -> an eventfd that becomes readable when results
                                 are there (base/ring.h); else: also when this log moved */
    LEAT_CONTROL_DAMAGE_ACCEPT = 14, /* log_id */
    LEAT_CONTROL_KIND_LAST = LEAT_CONTROL_DAMAGE_ACCEPT,
};

struct leat_control_request {
    uint32_t magic;
    uint16_t version;
    uint16_t kind; /* enum leat_control_kind */
    uint32_t log_id;
    uint32_t node_id;
    struct leat_uuid client;
    uint64_t position;
    uint64_t ring_bytes;
    uint64_t completion_count;
    struct leat_catalogue_payload change; /* CHANGE; else zero */
};
_Static_assert(sizeof(struct leat_control_request) == 208, "no padding");

struct leat_control_reply {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    int32_t error; /* enum leat_error */
    uint32_t node_id;
    struct leat_uuid instance;
    uint64_t position;
    uint64_t offset;
    uint32_t text_bytes; /* behind this struct, in the same packet; errors explain themselves */
    uint32_t descriptor_count;
};
_Static_assert(sizeof(struct leat_control_reply) == 56, "no padding");

#endif
