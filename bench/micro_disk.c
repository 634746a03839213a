/* SPDX-License-Identifier: Apache-2.0
 *
 * storage/disk.h without a disk: a write is done when it was submitted, and forgotten. What is read
 * is what the files hold from before.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk.h"
#include "leat/error.h"

struct leat_disk {
    unsigned queued, submitted; /* of `done` */
    struct leat_disk_done done[LEAT_DISK_DEPTH];
    int fds[LEAT_DISK_DEPTH * 16];
};

int leat_disk_open(struct leat_disk **ret_disk)
{
    *ret_disk = calloc(1, sizeof(**ret_disk));
    return *ret_disk ? LEAT_OK : LEAT_ESYSTEM;
}

void leat_disk_close(struct leat_disk *disk)
{
    free(disk);
}

int leat_disk_register_files(struct leat_disk *disk, const int *fds, unsigned count)
{
    LEAT_ASSERT(count <= sizeof(disk->fds) / sizeof(disk->fds[0]));
    for (unsigned i = 0; i < count; i++)
        disk->fds[i] = fds[i];
    return LEAT_OK;
}

int leat_disk_register_buffers(struct leat_disk *disk, const struct iovec *buffers, unsigned count)
{
    (void)disk, (void)buffers, (void)count;
    return LEAT_OK;
}

void leat_disk_release_buffer(struct leat_disk *disk, int buffer)
{
    (void)disk, (void)buffer;
}

static void disk_done(struct leat_disk *disk, uint64_t tag, int64_t result)
{
    LEAT_ASSERT(disk->queued < LEAT_DISK_DEPTH);
    disk->done[disk->queued++] = (struct leat_disk_done){tag, result};
}

void leat_disk_write(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file,
                     const void *bytes, uint32_t length_bytes, uint64_t offset, int buffer)
{
    (void)file, (void)bytes, (void)offset, (void)buffer;
    disk_done(disk, tag, length_bytes);
}

void leat_disk_read(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file, void *bytes,
                    uint32_t length_bytes, uint64_t offset)
{
    int fd = file.slot == LEAT_DISK_NO_SLOT ? file.fd : disk->fds[file.slot];
    ssize_t got = pread(fd, bytes, length_bytes, (off_t)offset);
    disk_done(disk, tag, got < 0 ? -errno : got);
}

int leat_disk_submit(struct leat_disk *disk)
{
    disk->submitted = disk->queued;
    return LEAT_OK;
}

unsigned leat_disk_reap(struct leat_disk *disk, struct leat_disk_done *done, unsigned max)
{
    unsigned count = disk->submitted < max ? disk->submitted : max;
    for (unsigned i = 0; i < count; i++)
        done[i] = disk->done[i];
    for (unsigned i = count; i < disk->queued; i++)
        disk->done[i - count] = disk->done[i];
    disk->queued -= count;
    disk->submitted -= count;
    return count;
}

int leat_disk_wait(struct leat_disk *disk)
{
    return leat_disk_submit(disk);
}
