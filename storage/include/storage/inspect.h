/* SPDX-License-Identifier: Apache-2.0
 *
 * Offline reading of a data directory whose node is stopped: nothing is written. For `leat inspect`
 * and `leat verify`. One thread.
 */
#ifndef LEAT_STORAGE_INSPECT_H
#define LEAT_STORAGE_INSPECT_H

#include <stdint.h>

#include "storage/storage.h"

/* Receives the findings a line at a time, without newline. */
typedef void leat_inspect_line(void *context, const char *line);

enum leat_inspect_what {
    LEAT_INSPECT_IDENTITY = 1,
    LEAT_INSPECT_VOTES = 2,
    LEAT_INSPECT_JOURNAL = 4,
    LEAT_INSPECT_SEGMENTS = 8,
    LEAT_INSPECT_FRAMES = 16,
};

/* Prints what is there, valid or not, without judging. */
int leat_inspect(const char *directory, unsigned what, leat_inspect_line *line, void *context,
                 char *error, unsigned error_bytes);

struct leat_digest {
    uint32_t log_id;
    uint64_t begin_pos; /* the lowest position held */
    uint64_t end_pos;   /* of the intact chain, journal tail included */
    uint64_t commit_d;  /* as journalled */
    uint64_t digest_end_pos;
    uint64_t records;
    uint32_t digest; /* CRC32C of [digest_begin, digest_end_pos) as given by the caller */
    uint32_t reserved;
};

/* Verifies every frame of a log from its lowest held segment on (chain, CRCs, journal tail) and
 * reports where the intact chain ends. Returns 0, LEAT_ENOLOG, LEAT_ECORRUPT (damage; `error`
 * names the position) or what opening said. */
int leat_verify_log(const char *directory, uint32_t log_id, struct leat_digest *ret_digest,
                    char *error, unsigned error_bytes);

/* CRC32C of the verified bytes [begin_pos, end_pos), journal tail included. */
int leat_digest_range(const char *directory, uint32_t log_id, uint64_t begin_pos, uint64_t end_pos,
                      uint32_t *ret_digest, char *error, unsigned error_bytes);

#endif
