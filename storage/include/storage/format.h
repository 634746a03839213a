/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies in a data directory beside the frames themselves (docs/format.md has the byte
 * tables). Little-endian, reserved bytes zero, every write 4 KiB-aligned.
 *
 *   DIR/identity                      struct leat_identity, one block, written once by format
 *   DIR/lock                          flocked before anything else is touched (V3); a worker
 *                                     above 0 has its own, DIR/w<worker>/lock
 *   DIR/w<worker>/votes               two slots of LEAT_VOTE_SLOT_BYTES
 *   DIR/w<worker>/journal             a ring of records, LEAT_JOURNAL_BYTES
 *   DIR/w<worker>/log-<id>.<generation>/<base, 16 hex digits>.segment
 *                                       <base, 16 hex digits>.index (base/segment_index.h)
 *   DIR/w<worker>/new-<id>.<generation>/ a log in the making: no log's until the journal names it
 */
#ifndef LEAT_STORAGE_FORMAT_H
#define LEAT_STORAGE_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/base_frame.h"
#include "base/frame.h"
#include "base/uuid.h"

#define LEAT_STORAGE_VERSION 5u
#define LEAT_IDENTITY_MAGIC  0x314449544145544cULL
#define LEAT_JOURNAL_MAGIC   0x4c4e524au
#define LEAT_VOTES_MAGIC     0x45544f56u

/* The ring, a record at its longest, and the logs whose whole entries the ring has room for. A test
 * builds the storage with small ones, so that the ring comes round. */
#ifndef LEAT_JOURNAL_BYTES
#define LEAT_JOURNAL_BYTES            (32u << 20)
#define LEAT_JOURNAL_RECORD_BYTES_MAX (1u << 20)
#define LEAT_JOURNAL_LOGS             LEAT_LOGS_MAX
#endif
#define LEAT_JOURNAL_TAIL_BYTES_MAX (16u << 10) /* of an entry that continues older ones */

struct leat_identity {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* of this struct with this word zero */
    struct leat_uuid cluster;
    struct leat_uuid node;
    uint32_t node_id;
    uint32_t worker_count;
    uint32_t member_count;
    uint32_t member_ids[LEAT_MEMBERS_MAX]; /* sorted; as formatted */
    uint64_t created_ns;
    uint32_t
        journal_secret; /* random, and told to nobody: the CRC of a journal record begins with it */
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_identity) == 104, "no padding");

/* ---- journal ---- */

/* A record: this header, `entry_count` entries each followed by its tail bytes (8-byte aligned),
 * zeros to a whole number of blocks. */
struct leat_journal_record {
    uint32_t magic;
    uint32_t version;
    uint32_t crc;          /* of the whole record, `record_bytes`, with this word zero; begins with
                            * the identity's secret: clients' bytes can not look like a record */
    uint32_t record_bytes; /* multiple of LEAT_BLOCK_BYTES */
    struct leat_uuid node;
    uint64_t incarnation;
    uint64_t sequence; /* counts up by one, for ever */
    uint64_t at; /* grows for ever; modulo LEAT_JOURNAL_BYTES, where it was written: one that was
                  * misdirected shows, and so does one of an older round */
    uint32_t entry_count;
    uint32_t in_flight; /* records before this one that were not complete when it was issued: these
                         * may be missing without being damage, until one says less of them */
};
_Static_assert(sizeof(struct leat_journal_record) == 64, "no padding");

enum leat_journal_flag {
    LEAT_JOURNAL_CLEAN = 1,     /* clean stop: floor == end and nothing was acknowledged since */
    LEAT_JOURNAL_AMNESIAC = 2,  /* memory was lost and not cleared yet (W5) */
    LEAT_JOURNAL_DELETED = 4,   /* the log was deleted: its directory goes */
    LEAT_JOURNAL_INSTALLED = 8, /* the log began anew at start_pos: no older record counts */
    LEAT_JOURNAL_DAMAGED = 16,  /* a struct leat_journal_claim follows the tail bytes */
    LEAT_JOURNAL_BASE = 64,     /* base_pos and base_crc are known */
    LEAT_JOURNAL_WHOLE = 32, /* all blocks below the tail are in place when the batch is complete */
};

/* What a damaged replica had, kept until (last_term, floor) reaches it: it says no less when it
 * compares votes (V2). */
struct leat_journal_claim {
    uint64_t end_pos;
    uint32_t term;
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_journal_claim) == 16, "no padding");

/* The state of one log as of a record; the newest valid record that names a log counts. */
struct leat_journal_entry {
    struct leat_uuid log;
    uint32_t log_id;
    uint32_t generation;
    uint64_t cut_epoch;
    uint64_t start_pos;  /* a segment base; files wholly below it are ignored */
    uint64_t floor_pos;  /* contiguous durable position when issued */
    uint64_t placed_pos; /* all blocks below were in place when issued; of a block boundary */
    uint64_t end_pos;    /* of what this record and all in-place writes below it make durable */
    uint64_t commit_d;   /* as known, at most floor_pos (W6) */
    struct leat_uuid arena;
    struct leat_uuid boot; /* the kernel's boot id under which the arena was made */
    uint32_t last_term;    /* of the frames below end_pos */
    uint32_t flags;        /* enum leat_journal_flag */
    uint32_t tail_bytes;   /* the log's bytes [end_pos - tail_bytes, end_pos) follow */
    uint32_t segment_log2;
    uint32_t floor_crc; /* of the last frame below floor_pos, which stands for all below it; 0: not
                         * known */
    uint32_t base_crc;  /* of the last frame below base_pos */
    uint64_t base_pos;  /* of a segment whose BASE frame was committed and in place */
};
_Static_assert(sizeof(struct leat_journal_entry) == 136, "no padding");

/* ---- vote slots ---- */

/* An incarnation: a count of starts, and random bits that tell two lives with the same count apart
 * (a disk that was copied or restored). Still rising with the count. */
#define LEAT_INCARNATION_RANDOM_BITS 16u

#define LEAT_VOTE_SLOT_BYTES (64u << 10)
#define LEAT_VOTED_NONE      UINT32_MAX

struct leat_vote_slot {
    uint32_t magic;
    uint32_t version;
    uint32_t crc;  /* of head, peers and votes, with this word zero */
    uint32_t slot; /* 0 or 1 */
    struct leat_uuid node;
    uint64_t sequence;
    uint64_t incarnation;
    uint32_t vote_count;
    uint32_t peer_count;
};
_Static_assert(sizeof(struct leat_vote_slot) == 56, "no padding");

/* What this node remembers of a peer: another uuid, a lower incarnation or a lower durable
 * position under the same node id is refused (a cloned, wiped or rolled-back disk). */
struct leat_peer_pin {
    struct leat_uuid node;
    uint64_t incarnation;
    uint64_t durable_high[2]; /* of logs 0 and 1: acknowledged as durable and committed */
    uint32_t node_id;
    uint32_t reserved;
};
_Static_assert(sizeof(struct leat_peer_pin) == 48, "no padding");

struct leat_vote {
    uint32_t log_id;
    uint32_t generation;
    uint32_t term;
    uint32_t voted_for; /* node id, or LEAT_VOTED_NONE */
};
_Static_assert(sizeof(struct leat_vote) == 16, "no padding");

_Static_assert(sizeof(struct leat_vote_slot) + LEAT_MEMBERS_MAX * sizeof(struct leat_peer_pin) +
                       LEAT_LOGS_MAX * sizeof(struct leat_vote) <=
                   LEAT_VOTE_SLOT_BYTES,
               "a slot holds every peer and every log");

#endif
