/* SPDX-License-Identifier: Apache-2.0 */
#include "disk_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk.h"
#include "leat/error.h"

#define FAKE_FILES 8

struct request {
    bool write;
    uint64_t tag;
    int fd;
    uint8_t *bytes;
    uint32_t length_bytes;
    uint64_t offset;
    uint64_t issued_at;
};

struct leat_disk {
    int files[FAKE_FILES];
    struct request queue[LEAT_DISK_DEPTH];
    unsigned queued;
    unsigned submitted; /* the first of the queue: handed over */
    struct leat_disk_done done[LEAT_DISK_DEPTH];
    unsigned done_count;
};

/* ---- the file system under the tests ----
 * The fake decides what a crash leaves, so files may lie in memory and flushes cost nothing:
 * thousands of images are opened. */

#define MEMORY_DIRECTORY "/dev/shm"

__attribute__((constructor)) static void fake_directory(void)
{
    const char *path = MEMORY_DIRECTORY "/leat-storage-probe";
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd >= 0 && !getenv("LEAT_TEST_ON_DISK")) /* tmpfs takes O_DIRECT since Linux 6.6 */
        setenv("LEAT_TEST_DIRECTORY", MEMORY_DIRECTORY, 1);
    if (fd >= 0)
        close(fd);
    unlink(path);
}

/* Storage refuses to be formatted in memory; the tests' directories pass for a disk's. */
int statfs(const char *path, struct statfs *buf)
{
    long rc = syscall(SYS_statfs, path, buf);
    if (rc == 0 && strstr(path, "leat-storage-"))
        buf->f_type = EXT4_SUPER_MAGIC;
    return (int)rc;
}

int fsync(int fd)
{
    (void)fd;
    fake.flushes++;
    if (fake.flush_errno == 0)
        return 0;
    errno = fake.flush_errno;
    return -1;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (!fake.no_space)
        return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    errno = ENOSPC;
    return -1;
}

/* ---- the disk ---- */

struct fake fake = {.fail_after = -1, .short_after = -1, .again_after = -1};
static struct leat_disk *the_disk; /* one at a time, as the tests have it */

void fake_reset(void)
{
    for (unsigned i = 0; i < FAKE_KEPT; i++) {
        free(fake.kept[i].before);
        free(fake.kept[i].after);
    }
    fake = (struct fake){.fail_after = -1, .short_after = -1, .again_after = -1};
}

int leat_disk_open(struct leat_disk **ret_disk)
{
    the_disk = calloc(1, sizeof(*the_disk));
    *ret_disk = the_disk;
    return the_disk ? LEAT_OK : LEAT_ENOMEM;
}

void leat_disk_close(struct leat_disk *disk)
{
    if (!disk)
        return;
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        if (disk->files[i] > 0)
            close(disk->files[i]);
    }
    free(disk);
    the_disk = NULL;
}

int leat_disk_register_files(struct leat_disk *disk, const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        disk->files[i] = dup(fds[i]);
    return LEAT_OK;
}

int leat_disk_register_buffers(struct leat_disk *disk, const struct iovec *buffers, unsigned count)
{
    (void)disk, (void)buffers, (void)count;
    return LEAT_ESYSTEM;
}

void leat_disk_release_buffer(struct leat_disk *disk, int buffer)
{
    (void)disk, (void)buffer;
}

static void fake_queue(struct leat_disk *disk, struct request request, struct leat_disk_file file)
{
    /* a descriptor of its own, as the kernel holds the file */
    request.fd = dup(file.slot != LEAT_DISK_NO_SLOT ? disk->files[file.slot] : file.fd);
    if (disk->queued == LEAT_DISK_DEPTH || request.fd < 0)
        abort();
    request.issued_at = ++fake.clock;
    disk->queue[disk->queued++] = request;
}

void leat_disk_write(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file,
                     const void *bytes, uint32_t length_bytes, uint64_t offset, int buffer)
{
    (void)buffer;
    fake_queue(disk, (struct request){true, tag, -1, (uint8_t *)bytes, length_bytes, offset, 0},
               file);
}

void leat_disk_read(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file, void *bytes,
                    uint32_t length_bytes, uint64_t offset)
{
    fake_queue(disk, (struct request){false, tag, -1, bytes, length_bytes, offset, 0}, file);
}

static void fake_path(int fd, char *path, size_t path_bytes)
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, path_bytes - 1);
    path[length > 0 ? length : 0] = 0;
}

static void fake_keep(const struct request *request)
{
    if (fake.kept_count == FAKE_KEPT) {
        free(fake.kept[0].before);
        free(fake.kept[0].after);
        memmove(fake.kept, fake.kept + 1, (FAKE_KEPT - 1) * sizeof(fake.kept[0]));
        fake.kept_count--;
    }
    struct fake_write *kept = &fake.kept[fake.kept_count++];
    fake_path(request->fd, kept->path, sizeof(kept->path));
    kept->offset = request->offset;
    kept->length_bytes = request->length_bytes;
    if (posix_memalign((void **)&kept->before, 4096, request->length_bytes) ||
        posix_memalign((void **)&kept->after, 4096, request->length_bytes) ||
        pread(request->fd, kept->before, request->length_bytes, (off_t)request->offset) !=
            (ssize_t)request->length_bytes)
        abort();
    memcpy(kept->after, request->bytes, request->length_bytes);
    kept->issued_at = request->issued_at;
    kept->done_at = ++fake.clock;
    if (fake.note)
        fake.note(kept);
}

static int64_t fake_write_now(const struct request *request)
{
    uint32_t length = request->length_bytes;
    fake.writes++;
    if (fake.dead)
        return -EIO;
    if (fake.again_after >= 0 && fake.again_after-- == 0)
        return -EAGAIN;
    if (fake.fail_after >= 0 && fake.fail_after-- == 0)
        return -fake.fail_errno;
    if (fake.short_after >= 0 && fake.short_after-- == 0 && fake.short_bytes < length)
        length = fake.short_bytes;
    if (fake.keep)
        fake_keep(request);
    return pwrite(request->fd, request->bytes, length, (off_t)request->offset);
}

static int64_t fake_read_now(const struct request *request)
{
    uint64_t end = request->offset + request->length_bytes;
    if (fake.bad_block && request->offset <= fake.bad_block && fake.bad_block < end)
        return -EIO;
    return pread(request->fd, request->bytes, request->length_bytes, (off_t)request->offset);
}

static void fake_run(struct leat_disk *disk, unsigned which)
{
    struct request request = disk->queue[which];
    int64_t result = request.write ? fake_write_now(&request) : fake_read_now(&request);
    close(request.fd);
    memmove(disk->queue + which, disk->queue + which + 1,
            (disk->queued - which - 1) * sizeof(disk->queue[0]));
    disk->queued--;
    disk->submitted--;
    disk->done[disk->done_count++] = (struct leat_disk_done){request.tag, result};
}

bool fake_step(unsigned which)
{
    if (!the_disk || which >= the_disk->submitted)
        return false;
    fake_run(the_disk, which);
    return true;
}

unsigned fake_queued(void)
{
    return the_disk ? the_disk->submitted : 0;
}

bool fake_is_write_to(unsigned which, const char *part)
{
    char path[512];
    if (!the_disk || which >= the_disk->submitted)
        return false;
    fake_path(the_disk->queue[which].fd, path, sizeof(path));
    return the_disk->queue[which].write && strstr(path, part);
}

int leat_disk_submit(struct leat_disk *disk)
{
    fake.submits += disk->submitted < disk->queued;
    disk->submitted = disk->queued;
    return LEAT_OK;
}

unsigned leat_disk_reap(struct leat_disk *disk, struct leat_disk_done *done, unsigned max)
{
    while (!fake.held && disk->submitted > 0)
        fake_run(disk, fake.newest_first ? disk->submitted - 1 : 0);
    unsigned count = disk->done_count < max ? disk->done_count : max;
    memcpy(done, disk->done, count * sizeof(*done));
    memmove(disk->done, disk->done + count, (disk->done_count - count) * sizeof(*done));
    disk->done_count -= count;
    return count;
}

int leat_disk_wait(struct leat_disk *disk)
{
    leat_disk_submit(disk);
    if (disk->done_count == 0 && disk->submitted > 0)
        fake_run(disk, fake.newest_first ? disk->submitted - 1 : 0);
    return LEAT_OK;
}
