/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk over io_uring; the only file that knows liburing. COOP_TASKRUN with TASKRUN_FLAG:
 * the kernel does not interrupt the worker to post a completion but raises a flag in shared
 * memory, so that reaping is two memory reads until there is something to reap (CM13).
 */
#include "disk.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "leat/error.h"

struct leat_disk {
    struct io_uring ring;
    unsigned queued; /* not handed over yet */
    bool buffers_registered;
};

int leat_disk_open(struct leat_disk **ret_disk)
{
    struct leat_disk *disk = calloc(1, sizeof(*disk));
    if (!disk)
        return LEAT_ENOMEM;
    int rc = io_uring_queue_init(LEAT_DISK_DEPTH, &disk->ring,
                                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
    if (rc == -EINVAL) /* a kernel before 5.19: completions then come by interrupt */
        rc = io_uring_queue_init(LEAT_DISK_DEPTH, &disk->ring, 0);
    if (rc < 0) {
        free(disk);
        errno = -rc;
        return LEAT_ESYSTEM;
    }
    *ret_disk = disk;
    return LEAT_OK;
}

void leat_disk_close(struct leat_disk *disk)
{
    if (!disk)
        return;
    io_uring_queue_exit(&disk->ring);
    free(disk);
}

int leat_disk_register_files(struct leat_disk *disk, const int *fds, unsigned count)
{
    int rc = io_uring_register_files(&disk->ring, fds, count);
    errno = rc < 0 ? -rc : 0;
    return rc < 0 ? LEAT_ESYSTEM : LEAT_OK;
}

int leat_disk_register_buffers(struct leat_disk *disk, const struct iovec *buffers, unsigned count)
{
    LEAT_ASSERT(!disk->buffers_registered);
    int rc = io_uring_register_buffers(&disk->ring, buffers, count);
    disk->buffers_registered = rc == 0;
    errno = rc < 0 ? -rc : 0;
    return rc < 0 ? LEAT_ESYSTEM : LEAT_OK;
}

void leat_disk_release_buffer(struct leat_disk *disk, int buffer)
{
    static const struct iovec nothing;
    static const __u64 tag;
    /* a kernel that refuses keeps the pages until the ring is closed: no harm but their memory */
    if (disk->buffers_registered)
        io_uring_register_buffers_update_tag(&disk->ring, (unsigned)buffer, &nothing, &tag, 1);
}

static struct io_uring_sqe *disk_take(struct leat_disk *disk)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&disk->ring);
    LEAT_ASSERT(sqe); /* the callers have at most LEAT_DISK_DEPTH requests */
    disk->queued++;
    return sqe;
}

static void disk_aim(struct io_uring_sqe *sqe, uint64_t tag, struct leat_disk_file file)
{
    io_uring_sqe_set_data64(sqe, tag);
    if (file.slot != LEAT_DISK_NO_SLOT)
        sqe->flags |= IOSQE_FIXED_FILE;
}

static int disk_target(struct leat_disk_file file)
{
    return file.slot != LEAT_DISK_NO_SLOT ? file.slot : file.fd;
}

void leat_disk_write(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file,
                     const void *bytes, uint32_t length_bytes, uint64_t offset, int buffer)
{
    struct io_uring_sqe *sqe = disk_take(disk);
    if (buffer != LEAT_DISK_NO_BUFFER && disk->buffers_registered)
        io_uring_prep_write_fixed(sqe, disk_target(file), bytes, length_bytes, offset, buffer);
    else
        io_uring_prep_write(sqe, disk_target(file), bytes, length_bytes, offset);
    sqe->rw_flags = RWF_DSYNC;
    disk_aim(sqe, tag, file);
}

void leat_disk_read(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file, void *bytes,
                    uint32_t length_bytes, uint64_t offset)
{
    struct io_uring_sqe *sqe = disk_take(disk);
    io_uring_prep_read(sqe, disk_target(file), bytes, length_bytes, offset);
    disk_aim(sqe, tag, file);
}

int leat_disk_submit(struct leat_disk *disk)
{
    while (disk->queued > 0) {
        int rc = io_uring_submit(&disk->ring);
        if (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY)
            return LEAT_OK; /* stays queued; the next call tries again */
        if (rc < 0)
            return rc;
        LEAT_ASSERT((unsigned)rc <= disk->queued);
        disk->queued -= (unsigned)rc;
    }
    return LEAT_OK;
}

/* Pairs with the kernel's store of the flag: relaxed is enough, the ring's enter orders. */
static bool disk_kernel_has_work(const struct leat_disk *disk)
{
    return __atomic_load_n(disk->ring.sq.kflags, __ATOMIC_RELAXED) &
           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

unsigned leat_disk_reap(struct leat_disk *disk, struct leat_disk_done *done, unsigned max)
{
    unsigned count = 0, head;
    struct io_uring_cqe *cqe;
    if (io_uring_cq_ready(&disk->ring) == 0) {
        if (!disk_kernel_has_work(disk))
            return 0;
        io_uring_get_events(&disk->ring);
    }
    io_uring_for_each_cqe(&disk->ring, head, cqe)
    {
        if (count == max)
            break;
        done[count++] = (struct leat_disk_done){cqe->user_data, cqe->res};
    }
    io_uring_cq_advance(&disk->ring, count);
    return count;
}

int leat_disk_wait(struct leat_disk *disk)
{
    struct io_uring_cqe *cqe;
    int rc = leat_disk_submit(disk);
    if (rc < 0)
        return rc;
    rc = io_uring_wait_cqe(&disk->ring, &cqe);
    return rc == -EINTR ? 0 : rc;
}
