/* SPDX-License-Identifier: Apache-2.0
 *
 * Following a log: the next record, proved by the chain before it is given out. Control frames are
 * passed over; trim, rollback and a restart of the node move the reader to where it can go on and
 * are told once.
 * Tests: tests/client/test_reader.c.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "reader_private.h"

/* ---- one frame ---- */

/* A PAD's body is zeros by rule and not hashed: its header is all there is to check. */
static int step_pad(struct leat_reader *reader, const struct leat_frame *frame)
{
    struct leat_chain *chain = &reader->chain;
    if (frame->previous_crc != chain->crc || frame->offset != chain->next_offset ||
        frame->term != chain->term || frame->time_ns < chain->last_time_ns ||
        leat_frame_crc(&reader->shape, chain->position, frame, NULL) != frame->crc)
        return LEAT_ECHAIN;
    leat_chain_advance(chain, frame,
                       leat_frame_extent(&reader->shape, chain->position, frame->length_bytes));
    return LEAT_OK;
}

/* The frame in `buffer`. A chain that was begun within a run learns where that began from the TERM
 * frame that ends it. */
static int step_frame(struct leat_reader *reader, const struct leat_frame *frame, uint64_t extent)
{
    struct leat_chain chain = reader->chain;
    if (chain.run_first_pos == READER_RUN_UNKNOWN && leat_frame_type(frame) == LEAT_FRAME_TERM &&
        frame->length_bytes == LEAT_FRAME_HEADER_BYTES + LEAT_TERM_PAYLOAD_BYTES) {
        struct leat_term_payload term;
        memcpy(&term, reader->buffer + LEAT_FRAME_HEADER_BYTES, sizeof(term));
        chain.run_first_pos = term.previous_first_pos;
    }
    int rc = leat_frame_check(&reader->shape, &chain, reader->buffer, extent, &extent);
    if (rc != LEAT_OK)
        return rc;
    reader->chain = chain;
    reader->is_proved = true;
    return LEAT_OK;
}

/* How far may be read. A node that starts again says less of what is committed at first; who is
 * inside a batch reads it to its end all the same, as far as the node has it. */
static uint64_t step_limit(struct leat_reader *reader)
{
    uint64_t commit = reader_commit(reader);
    if (!leat_chain_in_batch(&reader->chain))
        reader->batch_end = commit;
    if (reader->chain.position < commit)
        return commit;
    uint64_t held = client_load(&reader->arena->published_end.value);
    return held < reader->batch_end ? held : reader->batch_end;
}

int reader_step(struct leat_reader *reader, struct leat_frame *ret_frame)
{
    uint64_t position = reader->chain.position;
    struct leat_frame frame;
    uint64_t extent;
    if (position >= step_limit(reader))
        return LEAT_EAGAIN;
    int rc = reader_copy(reader, position, sizeof(frame), &frame);
    if (rc != LEAT_OK)
        return rc;
    if (frame.length_bytes < sizeof(frame) ||
        frame.length_bytes > leat_segment_room(&reader->shape, position))
        return LEAT_ECHAIN;
    if (leat_frame_type(&frame) == LEAT_FRAME_PAD) {
        rc = step_pad(reader, &frame);
    } else {
        extent = leat_frame_extent(&reader->shape, position, frame.length_bytes);
        if (extent > reader->buffer_bytes)
            return LEAT_ECHAIN;
        rc = reader_copy(reader, position, extent, reader->buffer);
        if (rc != LEAT_OK)
            return rc;
        memcpy(&frame, reader->buffer, sizeof(frame)); /* the copy is what is checked and used */
        rc = step_frame(reader, &frame, extent);
        if (rc == LEAT_EAGAIN)
            rc = LEAT_ECHAIN; /* between two copies its length changed */
    }
    if (rc == LEAT_OK)
        *ret_frame = frame;
    return rc;
}

/* ---- what moves a reader ---- */

static void note_durable(struct leat_reader *reader)
{
    if (!reader->is_proved || reader->chain.position > client_load(&reader->arena->commit_d.value))
        return;
    reader->durable = reader->chain;
    reader->durable_is_known = true;
}

static int roll_back(struct leat_reader *reader)
{
    if (!reader->durable_is_known) {
        reader->placed = false;
        reader->from = LEAT_FROM_OFFSET;
        reader->value = reader->placed_offset;
        return LEAT_EROLLBACK;
    }
    LEAT_ASSERT(reader->durable.position <= reader->chain.position);
    reader->chain = reader->durable;
    reader->is_proved = true;
    reader->value = reader->chain.next_offset;
    return LEAT_EROLLBACK;
}

/* Cuts below a published commit_r since the last look (W6). */
static int look_for_cut(struct leat_reader *reader)
{
    uint64_t epoch = client_load(&reader->arena->epoch.value);
    if (epoch == reader->epoch)
        return LEAT_OK;
    reader->epoch = epoch;
    reader->is_proved = reader->level == LEAT_ACK_DURABLE;
    if (reader->level == LEAT_ACK_DURABLE ||
        reader->chain.position <= client_load(&reader->arena->commit_r.value))
        return LEAT_OK; /* below the cut; if not, the chain shows it */
    return roll_back(reader);
}

/* What it stood at is gone. One that waits for a later record has missed nothing. */
static int move_to_oldest(struct leat_reader *reader)
{
    uint64_t wanted = reader->value;
    reader->placed = false;
    reader->from = LEAT_FROM_START;
    int rc = reader_locate(reader); /* else by the next call */
    if (rc == LEAT_OK && reader->chain.next_offset <= wanted)
        return LEAT_OK;
    if (rc == LEAT_OK)
        reader->value = reader->chain.next_offset;
    return LEAT_ETRIMMED;
}

static int told(struct leat_reader *reader, int rc)
{
    if (rc == LEAT_ETRIMMED)
        return move_to_oldest(reader);
    if (rc == LEAT_EIO)
        reader_forget_segment(reader);
    if (rc != LEAT_ECHAIN)
        return rc;
    if (reader->level == LEAT_ACK_REPLICATED &&
        (!reader->durable_is_known || reader->chain.position > reader->durable.position))
        return roll_back(reader);
    reader_forget_segment(reader);
    return LEAT_ECORRUPT;
}

/* ---- the interface ---- */

int leat_reader_open(struct leat_client *client, uint32_t log, enum leat_from from, uint64_t value,
                     enum leat_ack level, struct leat_reader **ret_reader)
{
    if (client_is_forked(client))
        return LEAT_EFORK;
    if ((level != LEAT_ACK_DURABLE && level != LEAT_ACK_REPLICATED) ||
        (from != LEAT_FROM_OFFSET && from != LEAT_FROM_START && from != LEAT_FROM_END &&
         from != LEAT_FROM_TIME))
        return LEAT_EINVAL;
    struct leat_reader *reader = calloc(1, sizeof(*reader));
    if (!reader)
        return LEAT_ENOMEM;
    reader->client = client;
    reader->log_id = log;
    reader->level = level;
    reader->from = from;
    reader->value = from == LEAT_FROM_OFFSET ? value : 0;
    reader->time_from_ns = from == LEAT_FROM_TIME ? value : 0;
    reader->segment = -1;
    reader->segment_base = READER_NO_SEGMENT;
    int rc = reader_map(reader);
    if (rc == LEAT_OK)
        rc = reader_locate(reader);
    for (unsigned i = 0; i < 100 && rc == LEAT_EAGAIN && reader->arena; i++) {
        if (reader_commit(reader) == 0)
            break;
        usleep(1000); /* it moves while we look; a restarting node says what is committed later */
        rc = reader_locate(reader);
    }
    bool later = rc == LEAT_EAGAIN || rc == LEAT_EVERIFYING;
    if (rc != LEAT_OK && !(later && reader->arena)) {
        leat_reader_close(reader);
        return rc;
    }
    uint32_t place;
    if (client_log(client, log, &place) == LEAT_OK) {
        client->logs[place].readers++;
        reader->is_counted = true;
    }
    *ret_reader = reader;
    return LEAT_OK;
}

void leat_reader_close(struct leat_reader *reader)
{
    if (!reader)
        return;
    for (uint32_t i = 0; i < reader->client->log_count && reader->is_counted; i++)
        reader->client->logs[i].readers -= reader->client->logs[i].log_id == reader->log_id;
    reader_unmap(reader);
    free(reader->piece);
    free(reader->buffer);
    free(reader);
}

/* The mapping is right, the reader placed, nothing to be told. */
static int reader_ready(struct leat_reader *reader)
{
    if (client_is_forked(reader->client))
        return LEAT_EFORK;
    if (reader->client->state == CLIENT_FAILED)
        return reader->client->error;
    int rc = reader_map(reader);
    if (rc == LEAT_OK && !reader->placed)
        rc = reader_locate(reader);
    if (rc == LEAT_OK && reader->pending != LEAT_OK) {
        rc = reader->pending;
        reader->pending = LEAT_OK;
        return rc;
    }
    return rc == LEAT_OK ? look_for_cut(reader) : rc;
}

int leat_reader_next(struct leat_reader *reader, struct leat_record *ret_record)
{
    struct leat_frame frame;
    int rc = reader_ready(reader);
    bool deleted = reader->arena && client_arena_is_deleted(reader->arena); /* before the commit */
    while (rc == LEAT_OK) {
        uint64_t position = reader->chain.position;
        rc = reader_step(reader, &frame);
        if (rc != LEAT_OK)
            break;
        if (leat_frame_type(&frame) != LEAT_FRAME_RECORD || frame.offset < reader->value ||
            frame.time_ns < reader->time_from_ns)
            continue;
        note_durable(reader);
        reader->value = frame.offset + 1;
        *ret_record = (struct leat_record){
            .data = reader->buffer + LEAT_FRAME_HEADER_BYTES,
            .length = frame.length_bytes - LEAT_FRAME_HEADER_BYTES,
            .offset = frame.offset,
            .position = position,
            .time_ns = frame.time_ns,
        };
        return LEAT_OK;
    }
    if (rc == LEAT_EAGAIN && deleted)
        return LEAT_ENOLOG; /* all that it held was given */
    if (rc == LEAT_EAGAIN) {
        if (reader->placed)
            note_durable(reader);
        client_drive(reader->client, client_now_ns()); /* the node may have gone */
        client_arm(reader->client, client_now_ns());
    }
    if (!reader->arena)
        return rc;
    rc = told(reader, rc);
    return rc == LEAT_OK ? leat_reader_next(reader, ret_record) : rc;
}

int leat_reader_wait(struct leat_reader *reader, uint64_t timeout_ns,
                     struct leat_record *ret_record)
{
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    struct client_pace pace = {0};
    for (;;) {
        int rc = leat_reader_next(reader, ret_record);
        if (rc != LEAT_EAGAIN && rc != LEAT_EVERIFYING)
            return rc;
        if (client_now_ns() >= deadline_ns)
            return rc == LEAT_EAGAIN ? LEAT_EDEADLINE : rc;
        client_pause(&pace);
    }
}

uint64_t leat_reader_offset(const struct leat_reader *reader)
{
    return reader->placed && reader->chain.next_offset > reader->value ? reader->chain.next_offset
                                                                       : reader->value;
}
