/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of logs: those with something to say, those whose floor is behind, and the list by age
 * of the newest whole entry, from which re-emission takes the oldest. Intrusive: no memory.
 */
#include "state.h"

void log_queue(struct leat_storage *storage, uint32_t index)
{
    storage->urgent = true;
    log_queue_lazily(storage, index);
}

void log_queue_lazily(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    if (log->queued)
        return;
    log->queued = true;
    storage->queue_length++;
    log->next_queued = NO_LOG;
    if (storage->queue_tail == NO_LOG)
        storage->queue_head = index;
    else
        storage->logs[storage->queue_tail].next_queued = index;
    storage->queue_tail = index;
}

uint32_t log_unqueue(struct leat_storage *storage)
{
    uint32_t index = storage->queue_head;
    if (index == NO_LOG)
        return NO_LOG;
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(log->queued);
    log->queued = false;
    storage->queue_length--;
    storage->queue_head = log->next_queued;
    if (storage->queue_head == NO_LOG)
        storage->queue_tail = NO_LOG;
    return index;
}

void log_floor_queue(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    if (log->floor_queued)
        return;
    log->floor_queued = true;
    log->next_floor = NO_LOG;
    if (storage->floor_tail == NO_LOG)
        storage->floor_head = index;
    else
        storage->logs[storage->floor_tail].next_floor = index;
    storage->floor_tail = index;
}

uint32_t log_floor_unqueue(struct leat_storage *storage)
{
    uint32_t index = storage->floor_head;
    if (index == NO_LOG)
        return NO_LOG;
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(log->floor_queued);
    log->floor_queued = false;
    storage->floor_head = log->next_floor;
    if (storage->floor_head == NO_LOG)
        storage->floor_tail = NO_LOG;
    return index;
}

void log_age_insert(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(storage->youngest == NO_LOG ||
                storage->logs[storage->youngest].issued_at <= log->issued_at);
    log->older = storage->youngest;
    log->younger = NO_LOG;
    if (storage->youngest == NO_LOG)
        storage->oldest = index;
    else
        storage->logs[storage->youngest].younger = index;
    storage->youngest = index;
}

void log_age_remove(struct leat_storage *storage, uint32_t index)
{
    struct log *log = &storage->logs[index];
    LEAT_ASSERT(storage->oldest != NO_LOG);
    if (log->younger != NO_LOG)
        storage->logs[log->younger].older = log->older;
    else
        storage->youngest = log->older;
    if (log->older != NO_LOG)
        storage->logs[log->older].younger = log->younger;
    else
        storage->oldest = log->younger;
}

void log_age_touch(struct leat_storage *storage, uint32_t index)
{
    log_age_remove(storage, index);
    log_age_insert(storage, index);
}

uint64_t log_key(uint32_t log_id, uint32_t generation)
{
    LEAT_ASSERT(generation > 0);
    return (uint64_t)log_id << 32 | generation;
}

uint32_t log_find(const struct leat_storage *storage, uint32_t log_id)
{
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (storage->logs[i].state == LOG_LIVE && storage->logs[i].log_id == log_id)
            return i;
    }
    return NO_LOG;
}
