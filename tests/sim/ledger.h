/* SPDX-License-Identifier: Apache-2.0
 *
 * Every append that a client started, what it was told, and where it lies in the committed log.
 * Payloads carry the append's number, so one look at a record says which it is. The truth about a
 * log is what the first replica to commit each frame showed; everybody else is compared with it
 * (check.c).
 */
#ifndef LEAT_SIM_LEDGER_H
#define LEAT_SIM_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/uuid.h"

#include "draw.h"

#define LEDGER_LOGS_MAX 16u /* ids of logs below */
#define LEDGER_NOWHERE  UINT64_MAX

enum ledger_state { LEDGER_STARTED, LEDGER_ACKED, LEDGER_REFUSED, LEDGER_UNKNOWN };

/* A record: an append, or one of a batch, whose records have consecutive numbers and one sequence.
 */
struct ledger_append {
    /* as it was started */
    uint32_t log;
    uint32_t identity; /* of the client's session: another after each attach and each end of one */
    uint64_t sequence;
    uint32_t bytes;
    uint32_t record, records; /* the so-manieth, from 0, of so many of its batch */
    uint64_t condition;       /* the offset that its first record has to get; LEDGER_NOWHERE: any */
    uint32_t epoch;           /* of its writer */
    bool replicated;          /* asked for; else durable */
    /* what became of it */
    bool told_durable;  /* the level that was acknowledged */
    bool told_position; /* its own */
    enum ledger_state state;
    uint64_t acked_before; /* the highest durable position acknowledged when it was started */
    uint64_t started_ns, acked_ns;
    uint64_t told;  /* position; of a batch, that of its last record */
    uint64_t found; /* end position of its frame, committed; LEDGER_NOWHERE */
    uint64_t found_begin, offset;
};

struct ledger_log {
    uint64_t acked_pos;      /* the highest position acknowledged as durable */
    uint64_t memory_lost_ns; /* a majority had lost its memory then: replicated is void; 0: never */
    uint64_t memory_lost_pos; /* what was committed as replicated by then ended there at most */
    uint64_t closed_pos;      /* the end of the last session that was closed */
    bool closes;              /* a node has a frame that closes one, committed or not */
    uint64_t forgets_pos;  /* of the newest of which a node does not know any more whose it was */
    uint64_t fence_epoch;  /* of the newest fence that is committed */
    uint64_t batch_next;   /* committed up to within a batch: what follows; else LEDGER_NOWHERE */
    uint64_t record_count; /* committed */
    uint64_t *records;     /* numbers of appends by offset; LEDGER_NOWHERE: not of ours */
    uint64_t record_room;
};

struct ledger {
    struct ledger_append *appends;
    uint64_t count, room;
    struct ledger_log logs[LEDGER_LOGS_MAX];
    uint64_t started, acked, refused, unknown, replicated_lost;
    uint32_t identities;
};
extern struct ledger ledger;

void ledger_begin(void);
uint32_t ledger_new_identity(void);

/* The bytes of append `number`; payload has room for `bytes`, at least LEDGER_BYTES_MIN. */
#define LEDGER_BYTES_MIN 16u
void ledger_payload(uint64_t number, uint8_t *payload, uint32_t bytes);

/* A number for an append that is going to be started, perhaps. */
uint64_t ledger_number(void);
/* As it was started; `found` and what follows `replicated` need not be set. */
void ledger_started(uint64_t number, const struct ledger_append *append);
/* The same for a fence, whose frame carries no number. */
void ledger_fence_started(uint32_t log, uint32_t identity, uint64_t sequence);
void ledger_fence_acked(uint32_t log, uint64_t epoch);

/* A node has a frame that closes the client's session, committed or not. */
void ledger_closes(uint32_t log, const struct leat_uuid *client);
bool ledger_may_be_closed(uint32_t log, const struct leat_uuid *client);

/* What was told of an append, or of the first record of a batch and so of all of it. Position and
 * offset: of its last record; LEDGER_NOWHERE: recorded, not known where. */
void ledger_acked(uint64_t number, bool durable, uint64_t position, uint64_t offset);
void ledger_refused(uint64_t number, int error);
void ledger_unknown(uint64_t number);

/* A RECORD frame is committed, by the first who did. In order of offset, without gaps. */
void ledger_committed(uint32_t log, uint64_t begin, uint64_t end, uint64_t offset,
                      uint64_t sequence, const uint8_t *payload, uint32_t bytes);

void ledger_fenced(uint32_t log, uint64_t begin, uint64_t epoch);
/* Something else than a record follows in the log, or nothing yet. */
void ledger_boundary(uint32_t log, uint64_t position);

/* At the end: all that was acknowledged is there. */
void ledger_audit(void);

/* The number of a record's append; LEDGER_NOWHERE: it is none of ours. */
uint64_t ledger_record_number(const uint8_t *payload, uint64_t bytes);
bool ledger_has(uint32_t log, uint64_t offset, uint64_t number);
/* What a reader gave: is it what the log has at that offset? */
bool ledger_is_record(uint32_t log, uint64_t offset, const uint8_t *payload, uint64_t bytes);

#endif
