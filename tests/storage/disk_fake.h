/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk for tests in place of disk_uring.c: writes reach the real file only when the test lets
 * them, and read their buffer only then. It owns its faults and keeps the last writes.
 */
#ifndef LEAT_TESTS_DISK_FAKE_H
#define LEAT_TESTS_DISK_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_KEPT 4u

/* A write as it went to a file: what was there before and what came. */
struct fake_write {
    char path[512];
    uint64_t offset;
    uint32_t length_bytes;
    uint8_t *before;
    uint8_t *after;
    uint64_t issued_at; /* a clock of issues and completions */
    uint64_t done_at;
    uint64_t note[4]; /* the test's, as of just before it went */
};

struct fake {
    bool held;         /* nothing completes until released or stepped */
    bool dead;         /* no write reaches a file any more */
    bool newest_first; /* completes in reverse order */
    int fail_after;    /* this many more writes succeed, then one fails; -1: none */
    int fail_errno;
    int short_after; /* this many more writes are whole, then one is cut; -1: none */
    uint32_t short_bytes;
    int again_after; /* then one completes with EAGAIN; -1: none */
    uint64_t writes;
    uint64_t submits;
    uint64_t flushes;   /* of files and directories, which cost nothing here */
    int flush_errno;    /* 0: they succeed */
    bool no_space;      /* no room for a file any more */
    uint64_t bad_block; /* offset of a block that no file gives; 0: none */
    bool keep;
    void (*note)(struct fake_write *write);
    uint64_t clock;
    struct fake_write kept[FAKE_KEPT]; /* the last ones, oldest first */
    unsigned kept_count;
};

extern struct fake fake;

void fake_reset(void);
/* Lets one held request go to its file: the oldest, or of index `which`. False: there is none. */
bool fake_step(unsigned which);
unsigned fake_queued(void);
/* The next request to go is a write to a file whose path holds `part`. */
bool fake_is_write_to(unsigned which, const char *part);

#endif
