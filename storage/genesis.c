/* SPDX-License-Identifier: Apache-2.0
 *
 * A log's genesis frame, twice. Its sizes are in its BASE frames only, and until its second segment
 * that is one frame in one block: the file `genesis` beside the segments holds a copy, made with
 * the first segment and never written again. Where the segment's own does not hold, the copy counts
 * (docs/recovery.md, row S0) and goes in place when all else was accepted. Tests: test_genesis.c.
 */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int genesis_write(const char *directory, const void *frame, uint64_t extent)
{
    char path[LEAT_PATH_BYTES + 192];
    _Alignas(LEAT_BLOCK_BYTES) uint8_t block[LEAT_BLOCK_BYTES] = {0};
    LEAT_ASSERT(extent <= sizeof(block));
    memcpy(block, frame, extent);
    snprintf(path, sizeof(path), "%s/genesis", directory);
    int fd = leat_file_create(path);
    if (fd < 0)
        return LEAT_ESYSTEM;
    int rc = leat_file_write(fd, block, sizeof(block), 0) == LEAT_OK && fsync(fd) == 0
                 ? LEAT_OK
                 : LEAT_ESYSTEM;
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

/* The extent in bytes of the genesis frame at `bytes`, or 0 when none holds there. */
static uint64_t genesis_extent(const struct log *log, const uint8_t *bytes, uint64_t length)
{
    struct leat_chain chain;
    struct leat_frame frame;
    if (leat_chain_at_base(&log->shape, 0, bytes, length, &chain) != LEAT_OK)
        return 0;
    memcpy(&frame, bytes, sizeof(frame));
    return leat_frame_extent(&log->shape, 0, frame.length_bytes);
}

/* Returns the copy's extent, or 0. */
static uint64_t genesis_read(const struct leat_storage *storage, const struct log *log,
                             uint8_t block[LEAT_BLOCK_BYTES])
{
    char path[LEAT_PATH_BYTES + 192];
    snprintf(path, sizeof(path), "%s/%s/genesis", storage->worker_path, log->directory);
    int fd = leat_file_open(path, false);
    if (fd < 0)
        return 0;
    int rc = leat_file_read(fd, block, LEAT_BLOCK_BYTES, 0);
    close(fd);
    return rc == LEAT_OK ? genesis_extent(log, block, LEAT_BLOCK_BYTES) : 0;
}

void genesis_lay(const struct leat_storage *storage, struct log *log, uint8_t *bytes,
                 uint64_t length)
{
    _Alignas(LEAT_BLOCK_BYTES) uint8_t block[LEAT_BLOCK_BYTES];
    if (genesis_extent(log, bytes, length) != 0)
        return;
    uint64_t extent = genesis_read(storage, log, block);
    if (extent == 0 || extent > length)
        return;
    memcpy(bytes, block, extent);
    log->genesis_damaged = true;
}

/* A sector of the block may tear: what is not the frame's stays what it was, and the frame has its
 * copy. */
static int genesis_mend_log(struct leat_storage *storage, struct log *log)
{
    _Alignas(LEAT_BLOCK_BYTES) uint8_t block[LEAT_BLOCK_BYTES];
    _Alignas(LEAT_BLOCK_BYTES) uint8_t copy[LEAT_BLOCK_BYTES];
    char path[LEAT_PATH_BYTES];
    uint64_t extent = genesis_read(storage, log, copy);
    segment_path(storage, log, 0, path);
    int fd = leat_file_open(path, true);
    if (fd < 0 || extent == 0)
        return LEAT_ESYSTEM;
    leat_file_read_by_blocks(fd, block, sizeof(block), 0);
    memcpy(block, copy, extent);
    int rc = leat_file_write(fd, block, sizeof(block), 0) == LEAT_OK && fsync(fd) == 0
                 ? LEAT_OK
                 : LEAT_ESYSTEM;
    close(fd);
    return rc;
}

int genesis_mend(struct leat_storage *storage, char *error, unsigned error_bytes)
{
    char line[128];
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (!log->genesis_damaged)
            continue;
        if (genesis_mend_log(storage, log) != LEAT_OK)
            return leat_refuse(error, error_bytes, LEAT_ESYSTEM,
                               "the first segment of log %u cannot be written: %s", log->log_id,
                               strerror(errno));
        log->genesis_damaged = false;
        snprintf(line, sizeof(line),
                 "log %u: its first frame was damaged and is restored from its copy", log->log_id);
        if (storage->config.progress)
            storage->config.progress(storage->config.progress_context, line);
    }
    return LEAT_OK;
}
