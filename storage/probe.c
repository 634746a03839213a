/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/frame.h"
#include "disk.h"
#include "files.h"
#include "leat/error.h"

#define PROBE_PIECE_BYTES   (1u << 20)
#define PROBE_WARM_BLOCKS   50u
#define PROBE_WARM_NS       200000000u
#define PROBE_IN_FLIGHT_MAX 64u

struct probe_run {
    const struct leat_probe *probe;
    struct leat_disk *disk;
    int fd;
    uint8_t *memory;                        /* a block for each that may be in flight */
    uint64_t begin_ns[PROBE_IN_FLIGHT_MAX]; /* by tag */
    uint64_t started, ended;
};

static uint64_t probe_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool probe_is_sane(const struct leat_probe *probe)
{
    return probe->block_bytes > 0 && probe->block_bytes % LEAT_BLOCK_BYTES == 0 &&
           probe->block_bytes <= PROBE_PIECE_BYTES && probe->in_flight > 0 &&
           probe->in_flight <= PROBE_IN_FLIGHT_MAX && probe->file_bytes % PROBE_PIECE_BYTES == 0 &&
           probe->file_bytes / probe->block_bytes >= probe->in_flight;
}

/* Writes the whole file, as the journal is written when it is made. */
static int probe_prepare(const char *path, const struct leat_probe *probe)
{
    void *zeros = leat_block_alloc(PROBE_PIECE_BYTES);
    int fd = zeros ? leat_file_create(path) : -1;
    int rc = fd < 0 ? LEAT_ESYSTEM : LEAT_OK;
    for (uint64_t at = 0; at < probe->file_bytes && rc == LEAT_OK; at += PROBE_PIECE_BYTES)
        rc = leat_file_write(fd, zeros, PROBE_PIECE_BYTES, at);
    leat_block_free(zeros);
    if (rc == LEAT_OK && fsync(fd) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static void probe_start(struct probe_run *run, uint32_t tag)
{
    const struct leat_probe *probe = run->probe;
    struct leat_disk_file file = {.fd = run->fd, .slot = LEAT_DISK_NO_SLOT};
    uint8_t *block = run->memory + (size_t)tag * probe->block_bytes;
    uint64_t offset = run->started % (probe->file_bytes / probe->block_bytes) * probe->block_bytes;
    run->begin_ns[tag] = probe_now_ns();
    if (probe->reads) {
        leat_disk_read(run->disk, tag, file, block, probe->block_bytes, offset);
    } else {
        memcpy(block, &run->started, sizeof(run->started));
        leat_disk_write(run->disk, tag, file, block, probe->block_bytes, offset, 0);
    }
    run->started++;
}

/* Waits for one or more. Returns how many, or a negative error. */
static int probe_reap(struct probe_run *run, struct leat_disk_done *done)
{
    unsigned count;
    if (leat_disk_submit(run->disk) != 0)
        return LEAT_EIO;
    while ((count = leat_disk_reap(run->disk, done, PROBE_IN_FLIGHT_MAX)) == 0) {
        if (run->probe->wait == LEAT_PROBE_YIELD)
            sched_yield();
        else if (run->probe->wait == LEAT_PROBE_BLOCK && leat_disk_wait(run->disk) != 0)
            return LEAT_EIO;
    }
    for (unsigned i = 0; i < count; i++) {
        if (done[i].result != run->probe->block_bytes)
            return LEAT_EIO;
    }
    return (int)count;
}

static int probe_loop(struct probe_run *run, struct leat_probe_result *result)
{
    struct leat_disk_done done[PROBE_IN_FLIGHT_MAX];
    uint64_t begin_ns = probe_now_ns(), end_ns = UINT64_MAX;
    uint64_t warm_ns = 0, now_ns = 0, blocks = 0;
    for (uint32_t tag = 0; tag < run->probe->in_flight; tag++)
        probe_start(run, tag);
    while (run->ended < run->started) {
        int count = probe_reap(run, done);
        if (count < 0)
            return count;
        now_ns = probe_now_ns();
        for (int i = 0; i < count; i++) {
            if (warm_ns != 0)
                leat_histogram_record(&result->latency, now_ns - run->begin_ns[done[i].tag]);
            blocks += warm_ns != 0;
            if (now_ns < end_ns)
                probe_start(run, (uint32_t)done[i].tag);
        }
        run->ended += (uint64_t)count;
        if (warm_ns == 0 &&
            (run->ended >= PROBE_WARM_BLOCKS || now_ns - begin_ns >= PROBE_WARM_NS)) {
            warm_ns = now_ns;
            end_ns = now_ns + (uint64_t)(run->probe->seconds * 1e9);
        }
    }
    LEAT_ASSERT(blocks > 0 && now_ns > warm_ns); /* in_flight were started when it was warm */
    result->bytes_per_second =
        (double)blocks * run->probe->block_bytes * 1e9 / (double)(now_ns - warm_ns);
    return LEAT_OK;
}

int leat_disk_probe(const char *path, const struct leat_probe *probe,
                    struct leat_probe_result *ret_result)
{
    struct probe_run run = {.probe = probe, .fd = -1};
    memset(ret_result, 0, sizeof(*ret_result));
    if (!probe_is_sane(probe))
        return LEAT_EINVAL;
    size_t bytes = (size_t)probe->in_flight * probe->block_bytes;
    run.memory = leat_block_alloc(bytes);
    if (!run.memory)
        return LEAT_ENOMEM;
    run.fd = probe_prepare(path, probe);
    int rc = run.fd < 0 ? LEAT_ESYSTEM : leat_disk_open(&run.disk);
    if (rc == LEAT_OK) {
        struct iovec buffer = {.iov_base = run.memory, .iov_len = bytes};
        leat_disk_register_buffers(run.disk, &buffer, 1); /* unregistered writes work as well */
        if (probe->prepared)
            probe->prepared(probe->context);
        rc = probe_loop(&run, ret_result);
        leat_disk_close(run.disk);
    }
    int saved = errno;
    if (run.fd >= 0)
        close(run.fd);
    unlink(path);
    leat_block_free(run.memory);
    errno = saved;
    return rc;
}
