/* SPDX-License-Identifier: Apache-2.0
 *
 * The datagrams between nodes: Ethernet / IPv4 / UDP / struct leat_wire_header / body / payload.
 * The UDP destination port is base + worker. Byte tables: docs/format.md. Little-endian behind
 * the UDP header.
 *
 *   kind        body                       payload
 *   LOG         struct leat_message        APPEND: bytes [begin_pos, end_pos) of the log, without
 *                                          a PAD's body; RECONCILE_REPLY: struct leat_run each
 *   HELLO       struct leat_wire_hello     -
 *   HEARTBEAT   struct leat_wire_heartbeat struct leat_wire_led each (when FULL)
 *   FORWARD     struct leat_wire_forward   bytes of a client's record
 *   FORWARDED   struct leat_wire_forwarded -
 *   ADMIN       struct leat_wire_admin     struct leat_catalogue_payload: to the leader of log 0
 *   ADMINISTERED struct leat_wire_administered  one line of text that explains an error
 *   TAIL        struct leat_wire_tail      -
 *   TAIL_REPLY  struct leat_wire_tail_reply -
 *   REPAIR      struct leat_wire_repair    -
 *   REPAIR_DATA struct leat_wire_repair_data  bytes of the log from begin_pos on
 *   OPERATE     struct leat_wire_operate   -
 *   OPERATED    struct leat_wire_operated  one line of text that explains
 *
 * The header's CRC covers header and body. The payload of an APPEND is proved by the chain of
 * frames in it (ADR 0003), every other (RECONCILE_REPLY's runs too) by payload_crc.
 */
#ifndef LEAT_DATAPLANE_WIRE_H
#define LEAT_DATAPLANE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/base_frame.h"
#include "base/message.h"
#include "base/uuid.h"

#define LEAT_WIRE_MAGIC          0x5441454cu /* "LEAT" */
#define LEAT_WIRE_VERSION        6u
#define LEAT_WIRE_ALIGN          8u /* where a message in a datagram begins: a multiple of it */
#define LEAT_WIRE_TEXT_BYTES_MAX 256u
#define LEAT_NET_HEADERS_BYTES   42u /* Ethernet 14, IPv4 20, UDP 8 */

enum leat_wire_kind {
    LEAT_WIRE_LOG = 1,
    LEAT_WIRE_HELLO = 2,
    LEAT_WIRE_HEARTBEAT = 3,
    LEAT_WIRE_FORWARD = 4,
    LEAT_WIRE_FORWARDED = 5,
    LEAT_WIRE_ADMIN = 6,
    LEAT_WIRE_ADMINISTERED = 7,
    LEAT_WIRE_TAIL = 8,
    LEAT_WIRE_TAIL_REPLY = 9,
    LEAT_WIRE_REPAIR = 10,
    LEAT_WIRE_REPAIR_DATA = 11,
    LEAT_WIRE_OPERATE = 12,
    LEAT_WIRE_OPERATED = 13,
    LEAT_WIRE_KIND_LAST = LEAT_WIRE_OPERATED,
};

struct leat_wire_header {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;        /* enum leat_wire_kind */
    uint32_t crc;         /* header (this word zero) and body */
    uint32_t payload_crc; /* 0 for an APPEND and without a payload */
    struct leat_uuid cluster;
    uint32_t from_node;
    uint32_t to_node;
    uint64_t from_incarnation;
    uint32_t log_id;         /* LOG, FORWARD, FORWARDED */
    uint32_t log_generation; /* a deleted and re-created log's late packets are dropped by it */
    uint32_t payload_bytes;
    uint16_t body_bytes;
    uint8_t worker;       /* the sender's */
    uint8_t worker_count; /* of the sending node */
    uint64_t key_epoch;   /* reserved for encryption; zero */
};
_Static_assert(sizeof(struct leat_wire_header) == 72, "no padding");
_Static_assert(offsetof(struct leat_wire_header, from_incarnation) == 40, "layout");

struct leat_wire_hello {
    struct leat_uuid node; /* pinned by the receiver */
    uint64_t incarnation;
    /* the sender's D of logs 0 and 1, or what it had before damage; of a log that its worker does
     * not host: UINT64_MAX */
    uint64_t durable_high[2];
    uint32_t genesis_crc[2]; /* of the genesis frames of logs 0 and 1; 0: not hosted */
    uint32_t flags;          /* 1: please answer */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_hello) == 56, "no padding");

enum leat_wire_heartbeat_flag {
    LEAT_HEARTBEAT_FULL = 1,  /* of the whole set of led logs the part from led_first on follows */
    LEAT_HEARTBEAT_ASK = 2,   /* the sender lacks the receiver's current set: send it in full */
    LEAT_HEARTBEAT_REPLY = 4, /* answers a heartbeat: not to be answered again */
    LEAT_HEARTBEAT_NO_SPACE = 8, /* the sender's disk is full */
};

/* One per peer and pair of workers, whatever the number of logs (rule G4). A set that does not fit
 * one datagram is listed over as many as it takes, in order. */
struct leat_wire_heartbeat {
    uint64_t incarnation;
    uint64_t to_incarnation; /* as known to the sender; 0 unknown */
    uint64_t set_counter;    /* rises whenever the set of led (log, term) changes */
    uint32_t set_hash;       /* CRC32C of the set's struct leat_wire_led in order of log id */
    uint32_t led_count;
    uint64_t heard_counter; /* the newest set_counter of the receiver that the sender holds */
    uint64_t sent_ns;       /* by the monotonic clock of who asks; a reply echoes it */
    uint32_t flags;
    uint32_t led_first; /* FULL: place of the first that follows */
    uint32_t led_total; /* of the set */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_heartbeat) == 64, "no padding");

struct leat_wire_led {
    uint32_t log_id;
    uint32_t term;
};
_Static_assert(sizeof(struct leat_wire_led) == 8, "no padding");

enum leat_wire_forward_flag {
    LEAT_FORWARD_OLDEST = 1,     /* no unended append of this client to this log comes before it */
    LEAT_FORWARD_REPLICATED = 2, /* asks for the replicated level; else durable */
    LEAT_FORWARD_BATCH = 4,      /* the bytes are a batch's as in the client's ring */
    LEAT_FORWARD_FENCE = 8,      /* asks to fence at writer_epoch; no bytes */
    LEAT_FORWARD_CONDITION = 16, /* only if the log's next offset is `condition` */
    LEAT_FORWARD_AGAIN = 32,     /* a former node of the client had it */
    LEAT_FORWARD_CLOSE = 64,     /* asks for the session's end; no bytes */
};

/* A client's append on its way from a follower's host to the leader. */
struct leat_wire_forward {
    struct leat_uuid client;
    uint64_t sequence;
    uint32_t total_bytes; /* of the record or batch */
    uint32_t begin_byte;  /* of this piece */
    uint32_t flags;       /* enum leat_wire_forward_flag */
    uint32_t writer_epoch;
    uint64_t condition;   /* as in struct leat_ring_record */
    uint64_t applied_pos; /* what the sender has applied of the log (ADR 0061) */
};
_Static_assert(sizeof(struct leat_wire_forward) == 56, "no padding");

/* The leader's word on a forwarded append that did not become a frame. */
struct leat_wire_forwarded {
    struct leat_uuid client;
    uint64_t sequence;
    uint64_t expected_sequence; /* the next that the session takes */
    uint64_t position;
    uint64_t offset; /* ECONDITION, EFENCEDOUT: the detail */
    int32_t error;   /* enum leat_error */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_forwarded) == 56, "no padding");

/* A change of the catalogue, from an administrator on a follower's host. */
struct leat_wire_admin {
    struct leat_uuid request; /* names it: a repeated one is the same */
    uint32_t uid;             /* who asks */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_admin) == 24, "no padding");

/* The leader's refusal; a change that was made is seen in the catalogue itself. */
struct leat_wire_administered {
    struct leat_uuid request;
    int32_t error; /* enum leat_error */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_administered) == 24, "no padding");

/* Where does the log end? Asked of its leader (a read index: Ongaro's thesis, 6.4). */
struct leat_wire_tail {
    uint64_t request; /* the asker's number; the answer holds for all up to it */
    uint64_t reserved;
};
_Static_assert(sizeof(struct leat_wire_tail) == 16, "no padding");

/* What was committed when the question came, said after a round of the leader's that began later.
 */
struct leat_wire_tail_reply {
    uint64_t request;
    uint64_t commit_d;
    uint64_t commit_r;
    uint64_t reserved;
};
_Static_assert(sizeof(struct leat_wire_tail_reply) == 32, "no padding");

/* Bytes [begin_pos, end_pos) of a sealed segment, please: the asker's are damaged. */
struct leat_wire_repair {
    uint64_t begin_pos;
    uint64_t end_pos;
};
_Static_assert(sizeof(struct leat_wire_repair) == 16, "no padding");

struct leat_wire_repair_data {
    uint64_t begin_pos;
    int32_t error; /* enum leat_error: this node has them not either */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_repair_data) == 16, "no padding");

enum leat_wire_operation { LEAT_OPERATE_TRIM = 1, LEAT_OPERATE_TRANSFER = 2 };

/* An operator's wish, from a follower's host to the log's leader. */
struct leat_wire_operate {
    uint64_t request;   /* the asker's number; a repeated one is the same */
    uint64_t position;  /* TRIM: what is below may go; else zero */
    uint32_t operation; /* enum leat_wire_operation */
    uint32_t to_node;   /* TRANSFER: its id, 0: to the follower that is furthest; else zero */
    uint32_t term;      /* of the leader that is asked */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_operate) == 32, "no padding");

struct leat_wire_operated {
    uint64_t request;
    uint64_t position; /* TRIM: the segment base that it trims to */
    int32_t error;     /* enum leat_error, 0: done */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_wire_operated) == 24, "no padding");

/* Fills magic, version, crc and payload_crc of a datagram whose other header fields, body and
 * payload are in place. */
void leat_wire_seal(struct leat_wire_header *header, const void *body, const void *payload);

/* Why a datagram was refused; each is counted by name. */
#define LEAT_WIRE_DROPS(X)                                                                         \
    X(SHORT, "shorter than its header says")                                                       \
    X(LONG, "longer than its header says")                                                         \
    X(MAGIC, "not a Leat datagram")                                                                \
    X(VERSION, "another protocol version")                                                         \
    X(KIND, "unknown kind or wrong body length")                                                   \
    X(CRC, "damaged header or body")                                                               \
    X(PAYLOAD_CRC, "damaged payload")                                                              \
    X(CLUSTER, "another cluster")                                                                  \
    X(TO, "for another node")                                                                      \
    X(FROM, "from a node that is not a member or not at this address")                             \
    X(WORKER, "from a worker out of range")                                                        \
    X(INCARNATION, "from or to a past incarnation")                                                \
    X(IDENTITY, "from another node under a member's id")                                           \
    X(ROLLED_BACK, "from a node whose disk was rolled back")                                       \
    X(LOG, "for an unknown log or generation")                                                     \
    X(BODY, "field out of range")                                                                  \
    X(UNRECONCILED, "before runs were reconciled (G1)")                                            \
    X(WINDOW, "outside the window")

enum leat_wire_drop {
#define LEAT_WIRE_DROP_ENUM(name, text) LEAT_WIRE_DROP_##name,
    LEAT_WIRE_DROPS(LEAT_WIRE_DROP_ENUM)
#undef LEAT_WIRE_DROP_ENUM
        LEAT_WIRE_DROP_COUNT
};

const char *leat_wire_drop_name(enum leat_wire_drop drop);

/* A checked view of one message in a received datagram; valid as long as the packet is held. */
struct leat_wire_view {
    const struct leat_wire_header *header;
    const void *body;
    const uint8_t *payload;
    uint32_t payload_bytes;
    uint32_t extent_bytes; /* where the next message begins, of a refused one too; the given length:
                            * there is none, or it cannot be told */
};

/* The message at the beginning of `bytes`. Checks everything that can be known without state:
 * lengths, magic, version, kind, body length, CRCs, cluster, destination. `bytes` is 8-byte aligned
 * (the port sees to it). Returns -1 and the view when it may be used, else the reason. Any thread.
 */
int leat_wire_parse(const void *bytes, uint32_t length_bytes, const struct leat_uuid *cluster,
                    uint32_t self_node, struct leat_wire_view *ret_view);

#endif
