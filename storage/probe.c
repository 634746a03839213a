/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/frame.h"
#include "disk.h"
#include "files.h"
#include "leat/error.h"

#define PROBE_FILE_BYTES  (16u << 20)
#define PROBE_PIECE_BYTES (1u << 20)
#define PROBE_WARM_WRITES 50u

static uint64_t probe_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int probe_prepare(const char *path, void *zeros)
{
    int fd = leat_file_create(path);
    if (fd < 0)
        return -1;
    for (uint64_t at = 0; at < PROBE_FILE_BYTES; at += PROBE_PIECE_BYTES) {
        if (leat_file_write(fd, zeros, PROBE_PIECE_BYTES, at) != LEAT_OK) {
            close(fd);
            return -1;
        }
    }
    fsync(fd);
    return fd;
}

static int probe_write(struct leat_disk *disk, int fd, const void *block, uint64_t offset,
                       enum leat_probe_wait wait)
{
    struct leat_disk_file file = {.fd = fd, .slot = LEAT_DISK_NO_SLOT};
    struct leat_disk_done done;
    leat_disk_write(disk, 0, file, block, LEAT_BLOCK_BYTES, offset, 0);
    if (leat_disk_submit(disk) != 0)
        return LEAT_EIO;
    while (leat_disk_reap(disk, &done, 1) == 0) {
        if (wait == LEAT_PROBE_YIELD)
            sched_yield();
        else if (wait == LEAT_PROBE_BLOCK && leat_disk_wait(disk) != 0)
            return LEAT_EIO;
    }
    return done.result == LEAT_BLOCK_BYTES ? LEAT_OK : LEAT_EIO;
}

static int probe_run(struct leat_disk *disk, int fd, void *block, enum leat_probe_wait wait,
                     double seconds, struct leat_histogram *histogram)
{
    uint64_t end = probe_now_ns() + (uint64_t)(seconds * 1e9);
    struct iovec buffer = {.iov_base = block, .iov_len = LEAT_BLOCK_BYTES};
    leat_disk_register_buffers(disk, &buffer, 1); /* unregistered writes work as well */
    for (uint64_t count = 0;; count++) {
        uint64_t begin = probe_now_ns();
        if (begin >= end)
            return LEAT_OK;
        memcpy(block, &count, sizeof(count));
        int rc = probe_write(disk, fd, block, count * LEAT_BLOCK_BYTES % PROBE_FILE_BYTES, wait);
        if (rc != LEAT_OK)
            return rc;
        if (count >= PROBE_WARM_WRITES)
            leat_histogram_record(histogram, probe_now_ns() - begin);
    }
}

int leat_disk_probe(const char *path, enum leat_probe_wait wait, double seconds,
                    struct leat_histogram *histogram)
{
    struct leat_disk *disk;
    void *memory = leat_block_alloc(PROBE_PIECE_BYTES);
    if (!memory)
        return LEAT_ENOMEM;
    int fd = probe_prepare(path, memory);
    int rc = fd < 0 ? LEAT_ESYSTEM : leat_disk_open(&disk);
    if (rc == LEAT_OK) {
        rc = probe_run(disk, fd, memory, wait, seconds, histogram);
        leat_disk_close(disk);
    }
    int saved = errno;
    if (fd >= 0)
        close(fd);
    unlink(path);
    leat_block_free(memory);
    errno = saved;
    return rc;
}
