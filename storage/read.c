/* SPDX-License-Identifier: Apache-2.0
 *
 * Catch-up reads and readers' descriptors. Blocks that are complete in place are read from their
 * segment; the partial last one lies in the journal only, so its bytes come from the arena.
 */
#include "scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Full blocks below are complete in place. */
static uint64_t read_placed_pos(const struct log *log)
{
    return min_u64(block_of(log->durable_pos), log->placed_done);
}

/* Each read has a descriptor of its own: a shared one could be given up, and its number taken by
 * another file, while a read that names it waits in the queue. */
static void read_close(struct read_request *read)
{
    if (read->fd >= 0)
        close(read->fd);
    read->fd = -1;
}

int leat_storage_read(struct leat_storage *storage, uint32_t index, uint64_t position,
                      uint32_t length_bytes, void *buffer, void *cookie)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index) && length_bytes > 0);
    LEAT_ASSERT(position % LEAT_BLOCK_BYTES == 0 && length_bytes % LEAT_BLOCK_BYTES == 0);
    struct log *log = &storage->logs[index];
    struct read_request *read = storage->reads;
    uint64_t end_pos = position + length_bytes;
    uint64_t base_pos = leat_segment_base(&log->shape, position);

    if (storage->fenced)
        return LEAT_EFENCED;
    if (position < log->base_pos)
        return LEAT_ETRIMMED;
    if (end_pos > base_pos + log->shape.segment_bytes)
        return LEAT_EINVAL;
    if (storage->reads_busy == READS_MAX || storage->operations_free <= 1)
        return LEAT_EAGAIN;
    while (read->busy)
        read++;
    *read = (struct read_request){.cookie = cookie,
                                  .buffer = buffer,
                                  .position = position,
                                  .length_bytes = length_bytes,
                                  .log_index = index,
                                  .result = length_bytes,
                                  .durable_pos = log->durable_pos,
                                  .busy = true,
                                  .finished = true,
                                  .fd = -1};
    uint64_t placed_pos = min_u64(end_pos, max_u64(position, read_placed_pos(log)));
    uint32_t from_disk = (uint32_t)(placed_pos - position);
    memset(read->buffer + from_disk, 0, length_bytes - from_disk);
    if (log->durable_pos > placed_pos)
        memcpy(read->buffer + from_disk, log->arena + placed_pos % log->arena_bytes,
               min_u64(log->durable_pos, end_pos) - placed_pos);
    if (from_disk > 0) {
        int fd = segment_open_for_read(storage, log, base_pos);
        if (fd < 0) {
            read->busy = false;
            return LEAT_EIO;
        }
        struct operation *operation = operation_take(storage, OPERATION_READ);
        operation->file = (struct leat_disk_file){fd, LEAT_DISK_NO_SLOT};
        operation->bytes = buffer;
        operation->left_bytes = from_disk;
        operation->offset = position - base_pos;
        operation->read = read;
        read->length_bytes = from_disk;
        read->fd = fd;
        read->finished = false;
        read->result = 0;
        operation_issue(storage, operation);
    }
    read->done_bytes = length_bytes;
    log->reads_flying++;
    storage->reads_busy++;
    return LEAT_OK;
}

/* From here on a read gives what it has: the bytes before. */
void read_damaged(struct leat_storage *storage, const struct read_request *read, uint64_t offset)
{
    const struct log *log = &storage->logs[read->log_index];
    uint64_t base_pos = leat_segment_base(&log->shape, read->position);
    LEAT_ASSERT(offset < log->shape.segment_bytes);
    life_damage(storage,
                &(struct helper_report){
                    .log_index = read->log_index,
                    .epoch = atomic_load_explicit(&log->helper.sealed_epoch, memory_order_relaxed),
                    .base_pos = base_pos,
                    .begin_pos = base_pos + offset,
                    .end_pos = base_pos + offset + LEAT_BLOCK_BYTES,
                });
}

unsigned reads_report(struct leat_storage *storage, struct leat_storage_event *events, unsigned max)
{
    unsigned count = 0;
    for (unsigned i = 0; i < READS_MAX && count < max; i++) {
        struct read_request *read = &storage->reads[i];
        if (!read->busy || !read->finished)
            continue;
        bool whole = read->result >= (int64_t)read->length_bytes;
        events[count++] = (struct leat_storage_event){
            .kind = LEAT_STORAGE_READ,
            .log_index = read->log_index,
            .cookie = read->cookie,
            .sequence = read->durable_pos,
            .result = whole              ? (int64_t)read->done_bytes
                      : read->result > 0 ? (int64_t)block_of((uint64_t)read->result)
                                         : LEAT_EDAMAGED,
        };
        storage->logs[read->log_index].reads_flying--;
        life_settle(storage, read->log_index);
        read_close(read);
        read->busy = false;
        LEAT_ASSERT(storage->reads_busy > 0);
        storage->reads_busy--;
    }
    return count;
}

/* The helper does it when it makes the index, which so is a proof as well. */
int leat_storage_prove(struct leat_storage *storage, uint32_t index, uint64_t position)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    struct log *log = &storage->logs[index];
    uint64_t base_pos = leat_segment_base(&log->shape, position);
    if (log->cut_epoch == 0 || base_pos >= log->sealed_end)
        return LEAT_OK;
    if (life_damage_is_known(storage, index, base_pos))
        return LEAT_ECORRUPT;
    if (prove_found_whole(storage, log, base_pos))
        return LEAT_OK;
    atomic_store_explicit(&log->helper.asked, base_pos + 1, memory_order_relaxed);
    helper_look_at(storage, index); /* releases it */
    return LEAT_EVERIFYING;
}

int leat_storage_segment_fd(struct leat_storage *storage, uint32_t index, uint64_t position)
{
    char path[LEAT_PATH_BYTES];
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(position % log->shape.segment_bytes == 0);
    if (position < log->base_pos)
        return LEAT_ETRIMMED;
    if (position >= log->sealed_end) /* what is committed is not cut, nor written again */
        return LEAT_EAGAIN;
    int rc = leat_storage_prove(storage, index, position);
    if (rc != LEAT_OK)
        return rc;
    segment_path(storage, log, position, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        segment_hold_below(log, position + log->shape.segment_bytes);
    return fd >= 0 ? fd : LEAT_ESYSTEM;
}

int leat_storage_index_fd(struct leat_storage *storage, uint32_t index, uint64_t position)
{
    char path[LEAT_PATH_BYTES];
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(position % log->shape.segment_bytes == 0);
    if (position < log->base_pos)
        return LEAT_ETRIMMED;
    segment_index_path(storage, log, position, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : errno == ENOENT ? LEAT_EAGAIN : LEAT_ESYSTEM;
}

uint64_t leat_storage_base_pos(const struct leat_storage *storage, uint32_t index)
{
    LEAT_ASSERT(index < storage->log_count);
    return storage->logs[index].base_pos;
}
