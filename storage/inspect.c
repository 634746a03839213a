/* SPDX-License-Identifier: Apache-2.0
 *
 * Offline reading of a stopped node's directory: all workers, by the same code that opens and
 * recovers, so what is printed is what a start would find. Nothing is written.
 */
#include "storage/inspect.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "state.h"

struct inspection {
    leat_inspect_line *line;
    void *context;
    uint32_t log_id;
};

__attribute__((format(printf, 2, 3))) static void say(const struct inspection *inspection,
                                                      const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    LEAT_ASSERT(inspection->line);
    inspection->line(inspection->context, line);
}

/* ---- what there is ---- */

static void inspect_identity(const struct inspection *inspection,
                             const struct leat_identity *identity)
{
    char cluster[LEAT_UUID_TEXT_BYTES], node[LEAT_UUID_TEXT_BYTES];
    leat_uuid_format(&identity->cluster, cluster);
    leat_uuid_format(&identity->node, node);
    say(inspection, "identity: node %u %s of cluster %s, format %u, %u workers, %u members",
        identity->node_id, node, cluster, identity->version, identity->worker_count,
        identity->member_count);
}

static void inspect_votes(const struct inspection *inspection, const struct leat_storage *storage)
{
    say(inspection, "votes: round %" PRIu64 ", incarnation %" PRIu64, storage->vote_sequence,
        storage->incarnation);
    for (unsigned i = 0; i < storage->pin_count; i++) {
        char node[LEAT_UUID_TEXT_BYTES];
        leat_uuid_format(&storage->pins[i].node, node);
        say(inspection, "votes: peer %u is %s, incarnation %" PRIu64, storage->pins[i].node_id,
            node, storage->pins[i].incarnation);
    }
    for (uint32_t i = 0; i < storage->log_count; i++) {
        const struct log *log = &storage->logs[i];
        if (log->voted_for == LEAT_VOTED_NONE)
            say(inspection, "votes: log %u term %u, no vote", log->log_id, log->vote_term);
        else
            say(inspection, "votes: log %u term %u for node %u", log->log_id, log->vote_term,
                log->voted_for);
    }
}

static void inspect_journal(const struct inspection *inspection, const struct leat_storage *storage)
{
    const struct journal_image *image = &storage->image;
    struct journal_cursor cursor;
    for (unsigned row = 0; row < image->row_count; row++) {
        const struct journal_index_row *found = &image->rows[row];
        uint32_t at = 0;
        say(inspection, "journal: record %" PRIu64 " at %" PRIu64 ", %u bytes, %u in flight",
            found->sequence, found->at % LEAT_JOURNAL_BYTES, found->record_bytes, found->in_flight);
        while (journal_entry_next(image, row, &at, &cursor)) {
            const struct leat_journal_entry *entry = cursor.entry;
            say(inspection,
                "journal:   log %u epoch %" PRIu64 " start %" PRIu64 " floor %" PRIu64
                " placed %" PRIu64 " tail %" PRIu64 " end %" PRIu64 " commit %" PRIu64
                " term %u%s%s%s%s%s",
                entry->log_id, entry->cut_epoch, entry->start_pos, entry->floor_pos,
                entry->placed_pos, entry->end_pos - entry->tail_bytes, entry->end_pos,
                entry->commit_d, entry->last_term,
                entry->flags & LEAT_JOURNAL_CLEAN ? " clean" : "",
                entry->flags & LEAT_JOURNAL_AMNESIAC ? " amnesiac" : "",
                entry->flags & LEAT_JOURNAL_INSTALLED ? " installed" : "",
                entry->flags & LEAT_JOURNAL_DAMAGED ? " damaged" : "",
                entry->flags & LEAT_JOURNAL_DELETED ? " deleted" : "");
        }
    }
    if (image->gap_sequence)
        say(inspection, "journal: record %" PRIu64 " is missing: damaged", image->gap_sequence);
}

static void inspect_segments(const struct inspection *inspection,
                             const struct leat_storage *storage)
{
    char path[LEAT_PATH_BYTES];
    for (uint32_t i = 0; i < storage->log_count; i++) {
        const struct log *log = &storage->logs[i];
        uint64_t base = log->base_pos;
        for (;; base += log->shape.segment_bytes) {
            segment_path(storage, log, base, path);
            int64_t size = leat_path_size(path);
            if (size < 0 && base > min_u64(log->found.end_pos, log->highest_pos))
                break;
            say(inspection, "segment: log %u base %" PRIu64 ", %" PRId64 " bytes%s", log->log_id,
                base, size < 0 ? 0 : size,
                size < 0                                   ? ", missing"
                : base > log->found.end_pos                ? ", prepared"
                : size < (int64_t)log->shape.segment_bytes ? ", short"
                                                           : "");
        }
        if (base < log->found.end_pos) /* in one line, however far the journal says it goes */
            say(inspection, "segment: log %u base %" PRIu64 ", 0 bytes, missing, to %" PRIu64,
                log->log_id, base, log->found.end_pos);
    }
}

static void inspect_frame(void *context, uint64_t position, const struct leat_frame *frame,
                          const void *payload)
{
    static const char *const names[] = {
        [LEAT_FRAME_RECORD] = "record",
        [LEAT_FRAME_PAD] = "pad",
        [LEAT_FRAME_TERM] = "term",
        [LEAT_FRAME_BASE] = "base",
        [LEAT_FRAME_SESSION_OPEN] = "session",
        [LEAT_FRAME_SESSION_CLOSE] = "session close",
        [LEAT_FRAME_TRIM] = "trim",
        [LEAT_FRAME_CATALOGUE] = "catalogue",
        [LEAT_FRAME_FENCE] = "fence",
        [LEAT_FRAME_REFUSED] = "refused",
    };
    const struct inspection *inspection = context;
    unsigned type = leat_frame_type(frame);
    (void)payload;
    say(inspection,
        "frame: log %u position %" PRIu64 " %s, %u bytes, offset %" PRIu64 ", term %u, session %u"
        " sequence %" PRIu64 ", time %" PRIu64 ", crc %08x%s%s",
        inspection->log_id, position,
        type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "?",
        frame->length_bytes, frame->offset, frame->term, frame->session, frame->sequence,
        frame->time_ns, frame->crc, frame->type_flags & LEAT_FRAME_FLAG_CONTINUES ? ", batch" : "",
        frame->type_flags & LEAT_FRAME_FLAG_CONDITIONAL ? ", conditional" : "");
}

/* ---- opening without a change ---- */

static int inspect_open(const char *directory, uint32_t worker, struct leat_storage **ret_storage,
                        char *error, unsigned error_bytes)
{
    struct leat_identity identity;
    int rc = identity_read(directory, &identity, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    struct leat_storage_config config = {
        .directory = directory, .worker = worker, .worker_count = identity.worker_count};
    return storage_open(&config, true, ret_storage, error, error_bytes);
}

/* Verifies all frames of a log from its lowest segment on. */
static int inspect_walk(struct leat_storage *storage, uint32_t index, leat_frame_visit *visit,
                        void *context, struct leat_recovered *ret_recovered, char *error,
                        unsigned error_bytes)
{
    struct log *log = &storage->logs[index];
    struct leat_storage_arena none = {.bytes = NULL};
    log->found.commit_d = 0; /* from the lowest base */
    log->found.flags &= ~(uint32_t)LEAT_JOURNAL_BASE;
    return leat_storage_recover(storage, index, &none, visit, context, ret_recovered, error,
                                error_bytes);
}

int leat_inspect(const char *directory, unsigned what, leat_inspect_line *line, void *context,
                 char *error, unsigned error_bytes)
{
    struct inspection inspection = {line, context, 0};
    struct leat_identity identity;
    int rc = identity_read(directory, &identity, error, error_bytes);
    if (rc == LEAT_OK && (what & LEAT_INSPECT_IDENTITY))
        inspect_identity(&inspection, &identity);
    for (uint32_t worker = 0; rc == LEAT_OK && worker < identity.worker_count; worker++) {
        struct leat_storage *storage = NULL;
        struct leat_recovered recovered;
        rc = inspect_open(directory, worker, &storage, error, error_bytes);
        if (rc != LEAT_OK)
            break;
        if (what & LEAT_INSPECT_VOTES)
            inspect_votes(&inspection, storage);
        if (what & LEAT_INSPECT_JOURNAL)
            inspect_journal(&inspection, storage);
        if (what & LEAT_INSPECT_SEGMENTS)
            inspect_segments(&inspection, storage);
        for (uint32_t i = 0; (what & LEAT_INSPECT_FRAMES) && i < storage->log_count; i++) {
            inspection.log_id = storage->logs[i].log_id;
            rc = inspect_walk(storage, i, inspect_frame, &inspection, &recovered, error,
                              error_bytes);
        }
        leat_storage_close(storage);
    }
    return rc;
}

/* ---- verify and digest ---- */

struct digest_walk {
    const struct leat_log_shape *shape;
    uint64_t begin_pos;
    uint64_t end_pos;
    uint64_t records;
    uint32_t crc;
};

static void digest_frame(void *context, uint64_t position, const struct leat_frame *frame,
                         const void *payload)
{
    struct digest_walk *walk = context;
    uint64_t extent = leat_frame_extent(walk->shape, position, frame->length_bytes);
    uint64_t begin = max_u64(position, walk->begin_pos);
    uint64_t end = min_u64(position + extent, walk->end_pos);
    (void)payload;
    walk->records += leat_frame_type(frame) == LEAT_FRAME_RECORD;
    if (begin < end)
        walk->crc =
            leat_crc32c(walk->crc, (const uint8_t *)frame + (begin - position), end - begin);
}

static int inspect_open_log(const char *directory, uint32_t log_id,
                            struct leat_storage **ret_storage, uint32_t *ret_index, char *error,
                            unsigned error_bytes)
{
    struct leat_identity identity;
    int rc = identity_read(directory, &identity, error, error_bytes);
    for (uint32_t worker = 0; rc == LEAT_OK && worker < identity.worker_count; worker++) {
        struct leat_storage *storage = NULL;
        rc = inspect_open(directory, worker, &storage, error, error_bytes);
        if (rc != LEAT_OK)
            break;
        *ret_index = log_find(storage, log_id);
        if (*ret_index != NO_LOG) {
            *ret_storage = storage;
            return LEAT_OK;
        }
        leat_storage_close(storage);
    }
    return rc != LEAT_OK ? rc
                         : leat_refuse(error, error_bytes, LEAT_ENOLOG, "%s holds no log %u",
                                       directory, log_id);
}

static int digest_log(const char *directory, uint32_t log_id, struct digest_walk *walk,
                      struct leat_digest *ret_digest, char *error, unsigned error_bytes)
{
    struct leat_storage *storage = NULL;
    struct leat_recovered recovered;
    uint32_t index;
    int rc = inspect_open_log(directory, log_id, &storage, &index, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    uint64_t commit_d = storage->logs[index].found.commit_d;
    bool genesis_damaged = storage->logs[index].genesis_damaged;
    walk->shape = &storage->logs[index].shape;
    rc = inspect_walk(storage, index, digest_frame, walk, &recovered, error, error_bytes);
    leat_storage_close(storage);
    if (rc != LEAT_OK)
        return rc;
    if (recovered.damaged)
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "log %u is damaged at position %" PRIu64 " (it had %" PRIu64 " bytes)",
                           log_id, recovered.durable_pos, recovered.claim_end);
    if (genesis_damaged)
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "log %u is damaged at position 0: the next start restores its first "
                           "frame from the copy",
                           log_id);
    *ret_digest = (struct leat_digest){
        .log_id = log_id,
        .begin_pos = recovered.start_pos,
        .end_pos = recovered.durable_pos,
        .commit_d = min_u64(commit_d, recovered.durable_pos),
        .digest_end_pos = recovered.durable_pos,
        .records = walk->records,
        .digest = walk->crc,
    };
    return LEAT_OK;
}

int leat_verify_log(const char *directory, uint32_t log_id, struct leat_digest *ret_digest,
                    char *error, unsigned error_bytes)
{
    struct digest_walk walk = {.end_pos = UINT64_MAX};
    return digest_log(directory, log_id, &walk, ret_digest, error, error_bytes);
}

int leat_digest_range(const char *directory, uint32_t log_id, uint64_t begin_pos, uint64_t end_pos,
                      uint32_t *ret_digest, char *error, unsigned error_bytes)
{
    struct digest_walk walk = {.begin_pos = begin_pos, .end_pos = end_pos};
    struct leat_digest digest;
    int rc = digest_log(directory, log_id, &walk, &digest, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    if (begin_pos > end_pos)
        return leat_refuse(error, error_bytes, LEAT_EINVAL, "the range ends before it begins");
    if (begin_pos < digest.begin_pos)
        return leat_refuse(error, error_bytes, LEAT_ETRIMMED, "log %u begins at position %" PRIu64,
                           log_id, digest.begin_pos);
    if (end_pos > digest.end_pos)
        return leat_refuse(error, error_bytes, LEAT_EINVAL, "log %u ends at position %" PRIu64,
                           log_id, digest.end_pos);
    *ret_digest = walk.crc;
    return LEAT_OK;
}
