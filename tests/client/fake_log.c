/* SPDX-License-Identifier: Apache-2.0
 *
 * A log as its worker would leave it in the arena and in segment files.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc.h"
#include "base/segment_index.h"
#include "fake_node.h"

static uint8_t *log_at(struct fake_log *log, uint64_t position)
{
    return log->bytes + (position & (FAKE_ARENA_BYTES - 1));
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void log_path(const struct fake_log *log, uint64_t base, char path[160])
{
    snprintf(path, 160, "%s/%016" PRIx64 ".segment", log->directory, base);
}

void fake_log_open(struct fake_log *log, const char *directory, uint32_t log_id,
                   bool accepts_replicated)
{
    char path[160];
    memset(log, 0, sizeof(*log));
    snprintf(log->directory, sizeof(log->directory), "%s", directory);
    snprintf(path, sizeof(path), "%s/%u.arena", directory, log_id);
    log->descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    LEAT_ASSERT(log->descriptor >= 0);
    size_t bytes = leat_arena_file_bytes(FAKE_ARENA_BYTES);
    LEAT_ASSERT(ftruncate(log->descriptor, (off_t)bytes) == 0);
    log->header = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, log->descriptor, 0);
    LEAT_ASSERT(log->header != MAP_FAILED);
    log->bytes = (uint8_t *)log->header + LEAT_ARENA_HEADER_BYTES;
    memset(log->cluster.bytes, 7, sizeof(log->cluster.bytes));
    log->hints = (uint64_t *)(void *)(log->bytes + FAKE_ARENA_BYTES);
    log->hinted = true;
    struct leat_arena_header *header = log->header;
    header->magic = LEAT_ARENA_MAGIC;
    header->version = LEAT_ARENA_VERSION;
    header->log_id = log_id;
    header->log = leat_uuid_of_log(&log->cluster, log_id);
    header->generation = 1;
    header->entry_bytes_max = FAKE_ENTRY_BYTES;
    header->arena_bytes = FAKE_ARENA_BYTES;
    header->segment_bytes = FAKE_SEGMENT_BYTES;
    header->flags = accepts_replicated ? LEAT_ARENA_ACCEPTS_REPLICATED : 0;
    store(&header->instance.value, 1);
    log->shape = (struct leat_log_shape){
        .salt = leat_frame_salt(&header->log, 1),
        .entry_bytes_max = FAKE_ENTRY_BYTES,
        .segment_bytes = FAKE_SEGMENT_BYTES,
    };
}

void fake_log_close(struct fake_log *log)
{
    char path[160];
    for (uint64_t base = 0; base < log->chain.position; base += FAKE_SEGMENT_BYTES) {
        log_path(log, base, path);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/%u.arena", log->directory, log->header->log_id);
    unlink(path);
    munmap(log->header, leat_arena_file_bytes(FAKE_ARENA_BYTES));
    close(log->descriptor);
}

static uint64_t log_seal(struct fake_log *log, uint32_t type, const void *payload,
                         uint32_t payload_bytes)
{
    struct leat_frame frame = {
        .length_bytes = LEAT_FRAME_HEADER_BYTES + payload_bytes,
        .type_flags = type,
        .time_ns = log->chain.last_time_ns + 1,
    };
    if (type == LEAT_FRAME_TERM)
        frame.term = ((const struct leat_term_payload *)payload)->term;
    if (type == LEAT_FRAME_BASE)
        frame.time_ns = log->chain.last_time_ns;
    uint64_t position = log->chain.position;
    uint64_t end = position + leat_frame_extent(&log->shape, position, frame.length_bytes);
    if (end > FAKE_ARENA_BYTES && end - FAKE_ARENA_BYTES > log->header->horizon.value)
        store(&log->header->horizon.value, end - FAKE_ARENA_BYTES);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    leat_frame_seal(&log->shape, &log->chain, log_at(log, position), &frame, payload);
    uint64_t *hint = &log->hints[position / LEAT_ARENA_HINT_STEP_BYTES %
                                 leat_arena_hint_count(FAKE_ARENA_BYTES)];
    if (log->hinted &&
        (*hint / LEAT_ARENA_HINT_STEP_BYTES != position / LEAT_ARENA_HINT_STEP_BYTES ||
         *hint >= position))
        store(hint, position);
    return position;
}

/* A segment is whole: into its file before the arena is written over. */
static void log_close_segment(struct fake_log *log)
{
    char path[160];
    uint64_t base = log->chain.position - FAKE_SEGMENT_BYTES;
    log_path(log, base, path);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    LEAT_ASSERT(descriptor >= 0);
    LEAT_ASSERT(write(descriptor, log_at(log, base), FAKE_SEGMENT_BYTES) == FAKE_SEGMENT_BYTES);
    close(descriptor);
}

static void log_seal_base(struct fake_log *log)
{
    struct {
        struct leat_base_head head;
        struct leat_base_member member;
    } base = {
        .head = {.version = LEAT_BASE_VERSION,
                 .cluster = log->cluster,
                 .log = log->header->log,
                 .log_id = 1,
                 .generation = 1,
                 .position = log->chain.position,
                 .segment_bytes = FAKE_SEGMENT_BYTES,
                 .arena_bytes = FAKE_ARENA_BYTES,
                 .entry_bytes_max = FAKE_ENTRY_BYTES,
                 .next_offset = log->chain.next_offset,
                 .last_time_ns = log->chain.last_time_ns,
                 .run_first_pos = log->chain.run_first_pos,
                 .run_term = log->chain.term,
                 .chain_crc = log->chain.crc,
                 .member_count = 1},
        .member = {.node_id = 1},
    };
    log_seal(log, LEAT_FRAME_BASE, &base, sizeof(base));
}

static void log_make_room(struct fake_log *log, uint64_t bytes)
{
    uint64_t into = log->chain.position & (FAKE_SEGMENT_BYTES - 1);
    uint64_t room = FAKE_SEGMENT_BYTES - into;
    if (into != 0 && bytes > room) {
        log_seal(log, LEAT_FRAME_PAD, NULL, (uint32_t)room - LEAT_FRAME_HEADER_BYTES);
        into = 0;
    }
    if (into != 0)
        return;
    if (log->chain.position > 0)
        log_close_segment(log);
    log_seal_base(log);
}

uint64_t fake_log_record(struct fake_log *log, const void *data, uint32_t length)
{
    log_make_room(log, (LEAT_FRAME_HEADER_BYTES + length + 7u) & ~7u);
    return log_seal(log, LEAT_FRAME_RECORD, data, length);
}

void fake_log_term(struct fake_log *log, uint32_t term)
{
    log_make_room(log, LEAT_TERM_FRAME_BYTES);
    struct leat_term_payload payload = {
        .term = term,
        .previous_term = log->chain.term,
        .previous_first_pos = log->chain.run_first_pos,
        .leader_node = 1,
    };
    log_seal(log, LEAT_FRAME_TERM, &payload, sizeof(payload));
}

void fake_log_commit(struct fake_log *log, uint64_t durable, uint64_t replicated)
{
    store(&log->header->commit_d.value, durable);
    store(&log->header->commit_r.value, replicated);
}

void fake_log_cut(struct fake_log *log, const struct leat_chain *to)
{
    store(&log->header->commit_r.value, to->position);
    store(&log->header->epoch.value, log->header->epoch.value + 1);
    log->chain = *to;
}

void fake_log_trim(struct fake_log *log, uint64_t position)
{
    store(&log->header->base_pos.value, position);
}

/* The sparse index of a sealed segment, as the node's helper writes it. */
static void index_build(const struct fake_log *log, const uint8_t *segment, uint64_t base,
                        struct leat_index_head *head)
{
    struct leat_index_row *rows = (void *)(head + 1);
    *head = (struct leat_index_head){.magic = LEAT_INDEX_MAGIC,
                                     .version = LEAT_INDEX_VERSION,
                                     .log = log->header->log,
                                     .generation = 1,
                                     .base_pos = base,
                                     .segment_bytes = FAKE_SEGMENT_BYTES};
    uint64_t due = 0;
    for (uint64_t at = 0; at < FAKE_SEGMENT_BYTES;) {
        struct leat_frame frame;
        memcpy(&frame, segment + at, sizeof(frame));
        if (at >= due) {
            rows[head->row_count++] =
                (struct leat_index_row){base + at, frame.offset, frame.time_ns};
            due = (at / LEAT_INDEX_STEP_BYTES + 1) * LEAT_INDEX_STEP_BYTES;
        }
        head->end_offset = frame.offset + (leat_frame_type(&frame) == LEAT_FRAME_RECORD);
        at += leat_frame_extent(&log->shape, base + at, frame.length_bytes);
    }
    head->crc = leat_crc32c(0, head, sizeof(*head) + head->row_count * sizeof(*rows));
}

int fake_log_index(struct fake_log *log, uint64_t position, uint64_t *ret_base)
{
    static uint8_t segment[FAKE_SEGMENT_BYTES];
    union {
        struct leat_index_head head;
        uint8_t bytes[4096];
    } index;
    int from = fake_log_segment(log, position, ret_base);
    if (from < 0 || log->index_error != LEAT_OK) {
        if (from >= 0)
            close(from);
        return from < 0 ? from : log->index_error;
    }
    LEAT_ASSERT(pread(from, segment, sizeof(segment), 0) == FAKE_SEGMENT_BYTES);
    close(from);
    index_build(log, segment, *ret_base, &index.head);
    size_t bytes = sizeof(index.head) + index.head.row_count * sizeof(struct leat_index_row);
    LEAT_ASSERT(bytes <= sizeof(index));
    index.bytes[log->index_flips ? sizeof(index.head) + 40 : 0] ^= log->index_flips ? 1 : 0;
    int descriptor = memfd_create("index", MFD_CLOEXEC);
    LEAT_ASSERT(descriptor >= 0 && write(descriptor, index.bytes, bytes) == (ssize_t)bytes);
    return descriptor;
}

int fake_log_segment(struct fake_log *log, uint64_t position, uint64_t *ret_base)
{
    char path[160];
    uint64_t base = position & ~(uint64_t)(FAKE_SEGMENT_BYTES - 1);
    if (base < log->header->base_pos.value)
        return LEAT_ETRIMMED;
    if (log->header->commit_d.value < base + FAKE_SEGMENT_BYTES)
        return LEAT_EAGAIN;
    log_path(log, base, path);
    int descriptor = open(path, O_RDWR | O_CLOEXEC); /* made read-only on its way out */
    if (descriptor >= 0)
        *ret_base = base;
    return descriptor >= 0 ? descriptor : LEAT_EIO;
}
