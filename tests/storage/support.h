/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's data directory, its arenas and a writer of frames, for the tests of storage.
 */
#ifndef LEAT_TESTS_STORAGE_SUPPORT_H
#define LEAT_TESTS_STORAGE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "storage/storage.h"

#ifndef RIG_LOGS
#define RIG_LOGS 2u
#endif
#define RIG_FORMATTED 2u /* the other logs are made at run time, by the first rig_start() */
#define RIG_SEGMENT   (1ull << 20)
#define RIG_ARENA     (4ull << 20)

struct rig_log {
    uint8_t *arena;
    bool arena_valid;
    struct leat_uuid arena_id;
    uint64_t published_end;  /* as the arena's header has it */
    struct leat_chain chain; /* M: where the next frame goes */
    uint64_t write_seq;
    uint64_t reported_seq;
    uint64_t reported_end;   /* the highest end whose write was reported */
    uint64_t end_of_seq[64]; /* by write_seq % 64 */
    uint64_t cut_done;
    uint64_t voted_seq;
    struct leat_recovered recovered;
    unsigned visited;
    uint64_t visited_end;
};

struct rig {
    char directory[512];
    struct leat_format_config format;
    struct leat_storage_config config;
    struct leat_storage *storage;
    uint64_t incarnation;
    uint64_t now_ns;
    uint64_t session_time_ns;
    struct leat_uuid boot;
    struct leat_log_shape shapes[RIG_LOGS];
    struct rig_log logs[RIG_LOGS];
    uint32_t log_count; /* there are by now */
    char error[256];
    unsigned reads;
    int64_t read_result;
    unsigned events[LEAT_STORAGE_REPAIRED + 1]; /* by kind: how many came, and the last */
    struct leat_storage_event last[LEAT_STORAGE_REPAIRED + 1];
    struct leat_uuid log_uuids[RIG_LOGS];
};

/* A new directory under LEAT_TEST_DIRECTORY, formatted. */
void rig_format(struct rig *rig);
/* Removes the directory and frees the arenas. */
void rig_remove(struct rig *rig);

int rig_open(struct rig *rig); /* open only */
void rig_recover(struct rig *rig, uint32_t index);
/* The same, of what the former call left in the arena. */
void rig_recover_again(struct rig *rig, uint32_t index);
void rig_begin(struct rig *rig); /* begin of every log and commit_begin */
void rig_start(struct rig *rig); /* all of it, must succeed */
void rig_stop(struct rig *rig);  /* closes without a clean stop */
void rig_crash(struct rig *rig); /* the same, and the arenas are gone */

/* A log beyond those of format. */
struct leat_log_shape rig_shape(const struct rig *rig, uint32_t log_id);
/* Makes it and waits until it is in service. Returns its index. */
uint32_t rig_make(struct rig *rig, const struct leat_storage_create *create);
/* Behind the genesis frame. */
struct leat_chain rig_genesis_chain(const struct leat_log_shape *shape, const uint8_t *arena);

/* Lays frames into the arena and moves M. */
void rig_append(struct rig *rig, uint32_t index, uint32_t payload_bytes);
void rig_append_payload(struct rig *rig, uint32_t index, const void *payload,
                        uint32_t payload_bytes);
/* Seals the first `sealed_count` records of a batch of `count`, which fits the segment. */
void rig_append_batch(struct rig *rig, uint32_t index, uint32_t payload_bytes, unsigned count,
                      unsigned sealed_count);
void rig_append_term(struct rig *rig, uint32_t index, uint32_t term);
/* Fills up to the segment's end and begins the next with a BASE frame. */
void rig_roll(struct rig *rig, uint32_t index);
void rig_append_base(struct rig *rig, uint32_t index);

uint64_t rig_write(struct rig *rig, uint32_t index);        /* asks for all up to M; its number */
uint64_t rig_write_lazily(struct rig *rig, uint32_t index); /* the same, that may wait */
int rig_turn(struct rig *rig);    /* submit, poll, take events; poll's result */
void rig_settle(struct rig *rig); /* until everything asked for is reported */
void rig_append_durably(struct rig *rig, uint32_t index, uint32_t payload_bytes);
void rig_prepare_all(struct rig *rig); /* the helper until it has nothing to do */
/* Cuts storage and chain back to `chain`, waits until the cut settled. */
void rig_cut(struct rig *rig, uint32_t index, const struct leat_chain *chain);

/* Where the record lies in the journal's file, which must have it; and its head. */
uint64_t rig_find_record(const struct rig *rig, uint64_t sequence,
                         struct leat_journal_record *ret_head);

void rig_path(const struct rig *rig, const char *name, char path[600]);
void rig_segment_path(const struct rig *rig, uint32_t index, uint64_t base_pos, char path[600]);
void rig_file_read(const char *path, uint64_t offset, void *bytes, uint32_t length_bytes);
void rig_file_write(const char *path, uint64_t offset, const void *bytes, uint32_t length_bytes);
void rig_file_flip(const char *path, uint64_t offset, unsigned bit);
bool rig_file_exists(const char *path);
/* A hash over names and contents of the whole directory. */
uint32_t rig_fingerprint(const struct rig *rig);

/* fake_rig.c, for tests over the fake disk: a new data directory, and its node started. */
void fake_rig_start(struct rig *rig);
/* A test's teardown, whose state is the rig. */
int fake_rig_remove(void **state);

#endif
