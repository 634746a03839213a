/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage of sealed segments as worker and helper speak of it: what was found, and the one repair
 * that goes on (scrub.c, repair.c, life.c).
 */
#ifndef LEAT_STORAGE_DAMAGE_H
#define LEAT_STORAGE_DAMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DAMAGES_MAX 64u
#define REPORTS_MAX 64u

/* A sealed segment that does not hold, once until it is repaired. */
struct damage {
    uint32_t log_index;
    bool known;
    bool report;
    uint64_t base_pos;
    uint64_t begin_pos;
    uint64_t end_pos;
};

/* What the helper found; the worker checks that it is still true of the log. */
struct helper_report {
    uint32_t log_index;
    uint64_t epoch; /* sealed_epoch when it was read */
    uint64_t base_pos;
    uint64_t begin_pos;
    uint64_t end_pos;
};

/* IDLE -> (worker) ASKED -> (helper) READY -> (worker, all bytes put) WHOLE -> (helper) DONE ->
 * IDLE; (worker) ASKED, READY -> ABANDONED -> (helper) IDLE. */
enum repair_state {
    REPAIR_IDLE,
    REPAIR_ASKED,
    REPAIR_READY,
    REPAIR_WHOLE,
    REPAIR_DONE,
    REPAIR_ABANDONED
};

struct repair {
    _Atomic int state;
    uint32_t log_index;
    uint64_t base_pos;
    uint64_t put_pos;
    uint8_t *bytes;     /* a segment; the helper's to take and free */
    bool next_is_known; /* next_crc: what the next segment's BASE frame says of this one's last */
    uint32_t next_crc;
    int result;
};

#endif
