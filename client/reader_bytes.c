/* SPDX-License-Identifier: Apache-2.0
 *
 * A reader's two sources (rule H3). The arena is written while we look: copy out, fence, and trust
 * the copy only if the horizon has not passed it and no cut was made. What is behind the horizon
 * lies in segment files, which are passed only when sealed and are never written again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "reader_private.h"

#define VERIFYING_NS (2000 * CLIENT_MS) /* mostly it is done already */

/* The largest frame with its padding; a BASE frame may be larger than any record. */
static uint64_t frame_bytes_max(const struct leat_log_shape *shape)
{
    uint64_t payload = shape->entry_bytes_max > LEAT_BASE_PAYLOAD_BYTES_MAX
                           ? shape->entry_bytes_max
                           : LEAT_BASE_PAYLOAD_BYTES_MAX;
    return LEAT_FRAME_HEADER_BYTES + payload + LEAT_TERM_FRAME_BYTES + 2 * LEAT_FRAME_ALIGN;
}

void reader_forget_segment(struct leat_reader *reader)
{
    if (reader->segment >= 0)
        close(reader->segment);
    reader->segment = -1;
    reader->segment_base = READER_NO_SEGMENT;
    reader->piece_begin = reader->piece_end = 0;
}

void reader_unmap(struct leat_reader *reader)
{
    if (reader->arena)
        munmap((void *)reader->arena, reader->map_bytes);
    reader->arena = NULL;
    reader_forget_segment(reader);
}

static bool same_log(const struct leat_reader *reader, const struct leat_arena_header *arena)
{
    return reader->shape.segment_bytes == 0 ||
           (reader->shape.salt == leat_frame_salt(&arena->log, arena->generation) &&
            reader->shape.segment_bytes == arena->segment_bytes);
}

int reader_map(struct leat_reader *reader)
{
    const struct leat_arena_header *arena;
    size_t bytes;
    struct leat_client *client = reader->client;
    if (reader->arena &&
        (client->state != CLIENT_UP || reader->attach_count == client->attach_count))
        return LEAT_OK; /* while the node is away the old mapping tells what it holds */
    int rc = client_map_arena(client, reader->log_id, 0, &arena, &bytes);
    if (rc == LEAT_EAGAIN && reader->arena)
        return LEAT_OK; /* the old one still, until it can be had */
    if (rc != LEAT_OK)
        return rc;
    if (!same_log(reader, arena)) { /* another log under the same number */
        munmap((void *)arena, bytes);
        return LEAT_ENOLOG;
    }
    reader_unmap(reader);
    reader->arena = arena;
    reader->map_bytes = bytes;
    reader->bytes = (const uint8_t *)arena + LEAT_ARENA_HEADER_BYTES;
    reader->arena_bytes = arena->arena_bytes;
    reader->attach_count = client->attach_count;
    reader->epoch = client_load(&arena->epoch.value);
    reader->shape = (struct leat_log_shape){
        .salt = leat_frame_salt(&arena->log, arena->generation),
        .entry_bytes_max = arena->entry_bytes_max,
        .segment_bytes = arena->segment_bytes,
    };
    if (reader->buffer)
        return LEAT_OK;
    reader->buffer_bytes = frame_bytes_max(&reader->shape);
    reader->buffer = malloc(reader->buffer_bytes);
    reader->piece = malloc(READER_PIECE_BYTES);
    if (reader->buffer && reader->piece)
        return LEAT_OK;
    free(reader->buffer);
    free(reader->piece);
    reader->buffer = reader->piece = NULL;
    reader_unmap(reader);
    return LEAT_ENOMEM;
}

uint64_t reader_commit(const struct leat_reader *reader)
{
    return client_load(reader->level == LEAT_ACK_DURABLE ? &reader->arena->commit_d.value
                                                         : &reader->arena->commit_r.value);
}

/* ---- the arena ---- */

bool reader_in_arena(const struct leat_reader *reader, uint64_t position)
{
    return client_load(&reader->arena->horizon.value) <= position;
}

/* False: it was overwritten or cut while we copied. */
static bool arena_copy(const struct leat_reader *reader, uint64_t position, uint64_t length,
                       void *to)
{
    uint64_t at = position & (reader->arena_bytes - 1);
    uint64_t epoch = client_load(&reader->arena->epoch.value);
    LEAT_ASSERT(at + length <= reader->arena_bytes); /* no frame wraps: whole segments */
    memcpy(to, reader->bytes + at, length);
    __atomic_thread_fence(
        __ATOMIC_ACQUIRE); /* pairs with the writer's fence before it overwrites */
    return __atomic_load_n(&reader->arena->horizon.value, __ATOMIC_RELAXED) <= position &&
           __atomic_load_n(&reader->arena->epoch.value, __ATOMIC_RELAXED) == epoch;
}

/* ---- segment files ---- */

/* A node reads a segment through before it gives it away, mostly when it was sealed; until it has,
 * LEAT_EVERIFYING: the reader's caller is told after a while. */
static int segment_ask(struct leat_reader *reader, const struct leat_control_request *request,
                       struct client_reply *ret_reply)
{
    struct client_pace pace = {0};
    uint64_t deadline_ns = client_now_ns() + VERIFYING_NS;
    int rc;
    while ((rc = client_ask(reader->client, request, ret_reply)) == LEAT_EVERIFYING &&
           client_now_ns() < deadline_ns)
        client_pause(&pace);
    return rc;
}

static int segment_open(struct leat_reader *reader, uint64_t position)
{
    struct client_reply reply;
    uint64_t base = leat_segment_base(&reader->shape, position);
    if (reader->segment_base == base)
        return LEAT_OK;
    reader_forget_segment(reader);
    struct leat_control_request request = client_request(LEAT_CONTROL_SEGMENT, reader->log_id);
    request.position = position;
    int rc = segment_ask(reader, &request, &reply);
    if (rc != LEAT_OK)
        return rc;
    if (reply.descriptors[1] >= 0)
        close(reply.descriptors[1]);
    if (reply.descriptors[0] < 0 || reply.head.position != base) {
        if (reply.descriptors[0] >= 0)
            close(reply.descriptors[0]);
        return LEAT_EPROTO;
    }
    reader->segment = reply.descriptors[0];
    reader->segment_base = base;
    return LEAT_OK;
}

static int segment_read(const struct leat_reader *reader, uint64_t position, uint64_t length,
                        uint8_t *to)
{
    while (length > 0) {
        ssize_t bytes =
            pread(reader->segment, to, length, (off_t)(position - reader->segment_base));
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes <= 0)
            return LEAT_EIO;
        to += bytes;
        position += (uint64_t)bytes;
        length -= (uint64_t)bytes;
    }
    return LEAT_OK;
}

static int segment_copy(struct leat_reader *reader, uint64_t position, uint64_t length, void *to)
{
    int rc = segment_open(reader, position);
    if (rc != LEAT_OK)
        return rc;
    if (length > READER_PIECE_BYTES)
        return segment_read(reader, position, length, to);
    if (position < reader->piece_begin || position + length > reader->piece_end) {
        uint64_t bytes = leat_segment_room(&reader->shape, position);
        bytes = bytes < READER_PIECE_BYTES ? bytes : READER_PIECE_BYTES;
        reader->piece_begin = reader->piece_end = 0;
        rc = segment_read(reader, position, bytes, reader->piece);
        if (rc != LEAT_OK)
            return rc;
        reader->piece_begin = position;
        reader->piece_end = position + bytes;
    }
    memcpy(to, reader->piece + (position - reader->piece_begin), length);
    return LEAT_OK;
}

int reader_copy(struct leat_reader *reader, uint64_t position, uint64_t length, void *to)
{
    LEAT_ASSERT(length <= leat_segment_room(&reader->shape, position));
    if (position < client_load(&reader->arena->base_pos.value))
        return LEAT_ETRIMMED;
    if (reader_in_arena(reader, position) && arena_copy(reader, position, length, to))
        return LEAT_OK;
    if (reader_in_arena(reader, position))
        return LEAT_EAGAIN; /* a cut: look again */
    return segment_copy(reader, position, length, to);
}
