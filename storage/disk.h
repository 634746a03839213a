/* SPDX-License-Identifier: Apache-2.0
 *
 * The seam between storage and the disk: one queue of writes and reads, chosen at link time
 * (disk_uring.c, a fake in tests, the simulator's). The disk may read a buffer at any time
 * until its completion. Every write is durable when it completes without an error: O_DIRECT on
 * the descriptor, data-sync on the write. One thread.
 */
#ifndef LEAT_STORAGE_DISK_H
#define LEAT_STORAGE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct leat_disk;

/* Requests that may be in flight at once; the queue has room for all of them. */
#define LEAT_DISK_DEPTH     256u
#define LEAT_DISK_NO_SLOT   (-1)
#define LEAT_DISK_NO_BUFFER (-1)

/* A file: its descriptor, or its place in the disk's table of registered files. */
struct leat_disk_file {
    int fd;
    int slot; /* LEAT_DISK_NO_SLOT: use the descriptor */
};

struct leat_disk_done {
    uint64_t tag;
    int64_t result; /* bytes, or a negative errno value */
};

/* Returns 0 or LEAT_ESYSTEM with errno set. */
int leat_disk_open(struct leat_disk **ret_disk);

/* Nothing is in flight any more, or the caller gives it up. */
void leat_disk_close(struct leat_disk *disk);

/* The queue holds on to these files until the last of its requests is done, also when the
 * process is killed: that is what keeps a lock held (V3). Slots are counted from 0. */
int leat_disk_register_files(struct leat_disk *disk, const int *fds, unsigned count);

/* Returns 0, or LEAT_ESYSTEM when the memory may not be locked: unregistered writes work. */
int leat_disk_register_buffers(struct leat_disk *disk, const struct iovec *buffers, unsigned count);

/* No request names this buffer any more: its memory is the caller's again. */
void leat_disk_release_buffer(struct leat_disk *disk, int buffer);

/* Queue a request; `tag` comes back. `buffer` is the registered buffer that `bytes` lies in. */
void leat_disk_write(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file,
                     const void *bytes, uint32_t length_bytes, uint64_t offset, int buffer);
void leat_disk_read(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file, void *bytes,
                    uint32_t length_bytes, uint64_t offset);

/* Hands over what was queued: one system call, none when the queue is empty. Returns 0 or
 * a negative errno value. */
int leat_disk_submit(struct leat_disk *disk);

/* Completions, up to max. No system call when there is nothing to reap. */
unsigned leat_disk_reap(struct leat_disk *disk, struct leat_disk_done *done, unsigned max);

/* Submits and blocks until something can be reaped. Returns 0 or a negative errno value. */
int leat_disk_wait(struct leat_disk *disk);

#endif
