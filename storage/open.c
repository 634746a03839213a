/* SPDX-License-Identifier: Apache-2.0
 *
 * Open and close. The order is the rule: lock (V3), identity, flush (V4), journal, logs, vote
 * slots. Until all of it was accepted nothing is written, not even the lock's signature.
 */
#include "scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"

#define BASE_READ_BYTES (256u << 10)
_Static_assert(LEAT_BASE_PAYLOAD_BYTES_MAX + LEAT_FRAME_HEADER_BYTES <= BASE_READ_BYTES,
               "a BASE frame is read at once");

struct refusal {
    char *error;
    unsigned bytes;
};

int identity_read(const char *directory, struct leat_identity *ret_identity, char *error,
                  unsigned error_bytes)
{
    char path[LEAT_PATH_BYTES];
    struct leat_identity identity, blank;
    snprintf(path, sizeof(path), "%s/identity", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return leat_refuse(error, error_bytes, LEAT_EUNFORMATTED,
                           "%s is not formatted: run 'leat format'", directory);
    ssize_t got = pread(fd, &identity, sizeof(identity), 0);
    close(fd);
    blank = identity;
    blank.crc = 0;
    if (got != (ssize_t)sizeof(identity) || identity.magic != LEAT_IDENTITY_MAGIC)
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT, "%s is not an identity", path);
    if (identity.version != LEAT_STORAGE_VERSION)
        return leat_refuse(error, error_bytes, LEAT_EVERSION,
                           "%s has format %u, this build reads %u: run the build that wrote it",
                           directory, identity.version, LEAT_STORAGE_VERSION);
    if (leat_crc32c(0, &blank, sizeof(blank)) != identity.crc)
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT, "%s is damaged", path);
    if (identity.member_count < 1 || identity.member_count > LEAT_MEMBERS_MAX ||
        identity.worker_count < 1 || identity.worker_count > LEAT_WORKERS_MAX)
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "%s names %u members and %u workers: that cannot be", path,
                           identity.member_count, identity.worker_count);
    *ret_identity = identity;
    return LEAT_OK;
}

static int open_check_identity(const struct leat_storage *storage, struct refusal refusal)
{
    const struct leat_storage_config *config = &storage->config;
    const struct leat_identity *identity = &storage->identity;
    if (!leat_uuid_is_zero(&config->cluster) &&
        !leat_uuid_equal(&config->cluster, &identity->cluster)) {
        char text[LEAT_UUID_TEXT_BYTES];
        leat_uuid_format(&identity->cluster, text);
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ECLUSTER,
                           "%s belongs to cluster %s: check the configuration", config->directory,
                           text);
    }
    if (config->node_id != 0 && config->node_id != identity->node_id)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ENODE,
                           "%s belongs to node %u, not %u: check the configuration",
                           config->directory, identity->node_id, config->node_id);
    if (config->member_count != 0 &&
        (config->member_count != identity->member_count ||
         memcmp(config->member_ids, identity->member_ids,
                config->member_count * sizeof(config->member_ids[0])) != 0))
        return leat_refuse(
            refusal.error, refusal.bytes, LEAT_ECONFIG,
            "%s was formatted for other members than the configuration's nodes: check the "
            "configuration",
            config->directory);
    if (config->worker_count != identity->worker_count || config->worker >= identity->worker_count)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_EWORKERS,
                           "%s was formatted for %u workers, not %u: set workers to %u",
                           config->directory, identity->worker_count, config->worker_count,
                           identity->worker_count);
    return LEAT_OK;
}

static int open_files(struct leat_storage *storage, struct refusal refusal)
{
    char path[LEAT_PATH_BYTES];
    const char *const names[] = {"journal", "votes"};
    int *const fds[] = {&storage->journal_fd, &storage->votes_fd};
    const int64_t sizes[] = {LEAT_JOURNAL_BYTES, 2 * LEAT_VOTE_SLOT_BYTES};

    for (unsigned i = 0; i < 2; i++) {
        int length = snprintf(path, sizeof(path), "%s/%s", storage->worker_path, names[i]);
        LEAT_ASSERT(length > 0 && length < (int)sizeof(path));
        *fds[i] = leat_file_open(path, true);
        if (*fds[i] < 0 && errno == EINVAL)
            return leat_refuse(refusal.error, refusal.bytes, LEAT_ESYSTEM,
                               "%s refuses O_DIRECT: use a file system that takes it (ext4, xfs)",
                               path);
        if (*fds[i] < 0)
            return leat_refuse(refusal.error, refusal.bytes, LEAT_ESYSTEM, "cannot open %s: %s",
                               path, strerror(errno));
        if (leat_path_size(path) != sizes[i])
            return leat_refuse(refusal.error, refusal.bytes, LEAT_ECORRUPT,
                               "%s has not the size it was formatted with: replace the node", path);
        if (leat_path_flush(path) != LEAT_OK)
            return leat_refuse(refusal.error, refusal.bytes, LEAT_ESYSTEM, "cannot flush %s: %s",
                               path, strerror(errno));
    }
    int table[SLOT_COUNT] = {storage->lock_fd, storage->journal_fd, storage->votes_fd};
    if (leat_disk_open(&storage->disk) != LEAT_OK ||
        leat_disk_register_files(storage->disk, table, SLOT_COUNT) != LEAT_OK)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ESYSTEM, "cannot set io_uring up: %s",
                           strerror(errno));
    return LEAT_OK;
}

static int open_journal(struct leat_storage *storage, struct refusal refusal)
{
    struct journal_image *image = &storage->image;
    image->bytes = leat_block_alloc(LEAT_JOURNAL_BYTES);
    if (!image->bytes)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ENOMEM, "out of memory");
    for (uint32_t at = 0; at < LEAT_JOURNAL_BYTES; at += HELPER_WRITE_BYTES) {
        if (leat_file_read(storage->journal_fd, image->bytes + at, HELPER_WRITE_BYTES, at) !=
            LEAT_OK)
            leat_file_read_by_blocks(storage->journal_fd, image->bytes + at, HELPER_WRITE_BYTES,
                                     at);
    }
    int rc = journal_scan(image, &storage->identity, refusal.error, refusal.bytes);
    if (rc != LEAT_OK)
        return rc;
    const struct journal_index_row *last = &image->rows[image->row_count - 1];
    storage->incarnation = last->incarnation;
    storage->record_sequence = last->sequence + 1;
    storage->ring_head = last->at + last->record_bytes;
    return LEAT_OK;
}

/* ---- logs ---- */

static void log_init(struct leat_storage *storage, struct log *log,
                     const struct journal_cursor *cursor)
{
    const struct leat_journal_entry *entry = cursor->entry;
    *log = (struct log){
        .state = LOG_LIVE,
        .log_id = entry->log_id,
        .generation = entry->generation,
        .uuid = entry->log,
        .shape = {.salt = leat_frame_salt(&entry->log, entry->generation),
                  .segment_bytes = 1ull << entry->segment_log2},
        .found = *entry,
        .newest_link = storage->image.link_count,
        .arena_buffer = LEAT_DISK_NO_BUFFER,
        .lost_record = storage->image.gap_sequence > cursor->row->sequence,
        .helper = {.preparing_fd = -1},
    };
    log_directory_name(log->log_id, log->generation, log->directory);
    char path[LEAT_PATH_BYTES];
    making_path(storage, log, "log", path);
    if (leat_path_size(path) < 0) { /* a crash before it got its name; tidy() gives it */
        making_path(storage, log, "new", path);
        if (leat_path_size(path) >= 0)
            snprintf(log->directory, sizeof(log->directory), "new-%" PRIu32 ".%" PRIu32,
                     log->log_id, log->generation);
    }
    log->start_pos = entry->start_pos;
    if (cursor->claim)
        log->frozen.claim = *cursor->claim;
}

/* The logs that a newer record has named: by log_key(), never 0; the oldest entry so far. */
struct seen {
    struct {
        uint64_t key;
        uint32_t link; /* NO_LINK: deleted */
    } * slots;
    size_t mask;
};

/* The key's slot, or a free one that is its from now on. */
static size_t seen_find(struct seen *seen, uint64_t key, bool *ret_before)
{
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15ull >> 20) & seen->mask;
    while (seen->slots[at].key != 0 && seen->slots[at].key != key)
        at = (at + 1) & seen->mask;
    *ret_before = seen->slots[at].key == key;
    seen->slots[at].key = key;
    return at;
}

static size_t open_count_entries(const struct journal_image *image)
{
    size_t count = 0;
    for (unsigned row = 0; row < image->row_count; row++)
        count += image->rows[row].entry_count;
    return count;
}

static int logs_by_id(const void *a, const void *b)
{
    const struct log *x = a, *y = b;
    return x->log_id < y->log_id ? -1 : x->log_id > y->log_id;
}

/* The newest entry that names a log counts; what older ones say of its bytes is chained to it. */
static int open_entry(struct leat_storage *storage, struct seen *seen,
                      const struct journal_cursor *cursor, struct journal_link at,
                      struct refusal refusal)
{
    const struct leat_journal_entry *entry = cursor->entry;
    struct journal_image *image = &storage->image;
    uint64_t key = log_key(entry->log_id, entry->generation);
    bool before;
    size_t slot = seen_find(seen, key, &before);
    if (before && seen->slots[slot].link == NO_LINK)
        return LEAT_OK;
    if (before) {
        image->links[seen->slots[slot].link].older = image->link_count;
        seen->slots[slot].link = image->link_count;
        image->links[image->link_count++] = at;
        return LEAT_OK;
    }
    seen->slots[slot].link = NO_LINK;
    if (entry->flags & LEAT_JOURNAL_DELETED) {
        storage->deleted[storage->deleted_count++] = key;
        return LEAT_OK;
    }
    if (storage->log_count == LEAT_LOGS_MAX)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ECORRUPT,
                           "the journal names too many logs: replace the node");
    seen->slots[slot].link = image->link_count;
    log_init(storage, &storage->logs[storage->log_count++], cursor);
    image->links[image->link_count++] = at;
    return LEAT_OK;
}

static int open_entries(struct leat_storage *storage, struct refusal refusal)
{
    struct journal_cursor cursor;
    size_t entries = open_count_entries(&storage->image), room = 16;
    while (room < 2 * entries)
        room *= 2;
    struct seen seen = {calloc(room, sizeof(*seen.slots)), room - 1};
    storage->image.links = calloc(entries + 1, sizeof(*storage->image.links));
    storage->logs = calloc(LEAT_LOGS_MAX, sizeof(*storage->logs));
    storage->deleted = calloc(entries + 1, sizeof(*storage->deleted));
    int rc = LEAT_OK;
    if (!storage->logs || !storage->deleted || !storage->image.links || !seen.slots)
        rc = leat_refuse(refusal.error, refusal.bytes, LEAT_ENOMEM, "out of memory");
    for (unsigned row = storage->image.row_count; row-- > 0 && rc == LEAT_OK;) {
        uint32_t at = 0;
        struct journal_link link = {.row = row, .older = NO_LINK};
        while (rc == LEAT_OK && journal_entry_next(&storage->image, row, &at, &cursor)) {
            rc = open_entry(storage, &seen, &cursor, link, refusal);
            link.at = at; /* where the next one is */
        }
    }
    free(seen.slots);
    return rc;
}

static int open_logs(struct leat_storage *storage, struct refusal refusal)
{
    int rc = open_entries(storage, refusal);
    if (rc != LEAT_OK)
        return rc;
    qsort(storage->logs, storage->log_count, sizeof(*storage->logs), logs_by_id);
    for (uint32_t i = 0; i < storage->log_count; i++)
        overlay_find_live(&storage->image, &storage->logs[i]);
    storage->queue_head = storage->queue_tail = NO_LOG;
    storage->floor_head = storage->floor_tail = NO_LOG;
    storage->oldest = storage->youngest = NO_LOG;
    for (uint32_t inserted = 0; inserted < storage->log_count; inserted++) {
        uint32_t next = NO_LOG; /* by age, stable */
        for (uint32_t i = 0; i < storage->log_count; i++) {
            if (!storage->logs[i].queued &&
                (next == NO_LOG || storage->logs[i].live_at < storage->logs[next].live_at))
                next = i;
        }
        storage->logs[next].queued = true;
        log_age_insert(storage, next);
    }
    for (uint32_t i = 0; i < storage->log_count; i++)
        storage->logs[i].queued = false;
    return LEAT_OK; /* a worker may have no log */
}

struct segment_list {
    uint64_t segment_bytes;
    uint64_t start_pos;
    uint64_t held_pos;   /* lowest from start_pos on */
    uint64_t lowest_pos; /* lowest of all */
    uint64_t highest_pos;
};

static bool segment_list_one(void *context, const char *name)
{
    struct segment_list *list = context;
    uint64_t base_pos;
    if (!segment_parse_name(name, &base_pos) || base_pos % list->segment_bytes != 0)
        return true;
    list->lowest_pos = min_u64(list->lowest_pos, base_pos);
    list->highest_pos = max_u64(list->highest_pos, base_pos);
    if (base_pos >= list->start_pos)
        list->held_pos = min_u64(list->held_pos, base_pos);
    return true;
}

/* Beyond the highest file there are only the journal's tails, and those are the log's last bytes:
 * whatever a record says its end is, this is no endless way to it. */
static uint64_t log_next_base(const struct log *log, uint64_t base_pos)
{
    uint64_t end_pos = log->found.end_pos, next_pos = base_pos + log->shape.segment_bytes;
    uint64_t tails_pos = end_pos > LEAT_JOURNAL_BYTES ? end_pos - LEAT_JOURNAL_BYTES : 0;
    return next_pos > log->highest_pos
               ? max_u64(next_pos, leat_segment_base(&log->shape, tails_pos))
               : next_pos;
}

static int log_read_shape(struct leat_storage *storage, struct log *log, uint8_t *buffer)
{
    uint64_t missing_pos;
    struct leat_chain chain;
    for (uint64_t base = log->base_pos; base <= log->found.end_pos;
         base = log_next_base(log, base)) {
        if (overlay_read(storage, log, buffer, base, base + BASE_READ_BYTES, &missing_pos) !=
                LEAT_OK ||
            leat_chain_at_base(&log->shape, base, buffer, BASE_READ_BYTES, &chain) != LEAT_OK)
            continue;
        const struct leat_base_head *head = (const void *)(buffer + LEAT_FRAME_HEADER_BYTES);
        log->shape.entry_bytes_max = head->entry_bytes_max;
        log->arena_bytes = head->arena_bytes;
        log->accepts_replicated = head->flags & LEAT_BASE_ACCEPTS_REPLICATED;
        return LEAT_OK;
    }
    return LEAT_ECORRUPT;
}

static int open_log_files(struct leat_storage *storage, struct log *log, struct refusal refusal)
{
    char path[LEAT_PATH_BYTES];
    uint64_t floor_base =
        leat_segment_base(&log->shape, min_u64(log->found_placed, log->found.floor_pos));
    int length = snprintf(path, sizeof(path), "%s/%s", storage->worker_path, log->directory);
    LEAT_ASSERT(length > 0 && length < (int)sizeof(path));
    struct segment_list list = {log->shape.segment_bytes, log->start_pos, UINT64_MAX, UINT64_MAX,
                                0};
    if (leat_directory_list(path, segment_list_one, &list) != LEAT_OK ||
        leat_path_flush(path) != LEAT_OK)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ESYSTEM, "cannot read %s: %s", path,
                           strerror(errno));
    /* a log trimmed to its newest segment, which was not made yet: its BASE frame is in the journal
     */
    bool none = list.held_pos == UINT64_MAX;
    log->base_pos = none ? log->start_pos : list.held_pos;
    log->highest_pos = max_u64(list.highest_pos, log->base_pos);
    log->helper.unlinked_pos = min_u64(list.lowest_pos, log->base_pos);
    /* readers that the last life served may have them open */
    segment_hold_below(log, log->highest_pos + log->shape.segment_bytes);
    for (uint64_t base = max_u64(floor_base, log->base_pos);
         base <= min_u64(log->found.end_pos, log->highest_pos); base += log->shape.segment_bytes) {
        segment_path(storage, log, base, path);
        if (leat_path_flush(path) != LEAT_OK && errno != ENOENT)
            return leat_refuse(refusal.error, refusal.bytes, LEAT_ESYSTEM, "cannot flush %s: %s",
                               path, strerror(errno));
    }
    bool holds = log_read_shape(storage, log, storage->segment_buffer) == LEAT_OK;
    if (!holds && none)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ECORRUPT,
                           "%s/%s holds no segment from position %" PRIu64 " on: replace the node",
                           storage->worker_path, log->directory, log->start_pos);
    if (!holds)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ECORRUPT,
                           "log %u holds no intact BASE frame: replace the node", log->log_id);
    return LEAT_OK;
}

static int open_segments(struct leat_storage *storage, struct refusal refusal)
{
    int rc = tidy_check(storage, refusal.error, refusal.bytes);
    if (rc != LEAT_OK)
        return rc;
    for (uint32_t i = 0; i < storage->log_count; i++)
        storage->segment_buffer_bytes =
            max_u64(storage->segment_buffer_bytes, storage->logs[i].shape.segment_bytes);
    storage->segment_buffer_bytes = max_u64(storage->segment_buffer_bytes, BASE_READ_BYTES);
    storage->segment_buffer = leat_block_alloc(storage->segment_buffer_bytes);
    if (!storage->segment_buffer)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < storage->log_count; i++) {
        rc = open_log_files(storage, &storage->logs[i], refusal);
        if (rc != LEAT_OK)
            return rc;
    }
    return LEAT_OK;
}

/* ---- open and close ---- */

static int open_memory(struct leat_storage *storage, struct refusal refusal)
{
    uint64_t records_bytes = (uint64_t)storage->batch_max * LEAT_JOURNAL_RECORD_BYTES_MAX;
    storage->helper_zeros = leat_block_alloc(HELPER_WRITE_BYTES);
    storage->vote_slot = leat_block_alloc(LEAT_VOTE_SLOT_BYTES);
    uint8_t *records = leat_block_alloc(records_bytes);
    storage->batches[0].record = records; /* owned by the first */
    if (!storage->helper_zeros || !storage->vote_slot || !records)
        return leat_refuse(refusal.error, refusal.bytes, LEAT_ENOMEM, "out of memory");
    for (unsigned i = 0; i < storage->batch_max; i++) {
        struct batch *batch = &storage->batches[i];
        batch->record = records + (uint64_t)i * LEAT_JOURNAL_RECORD_BYTES_MAX;
        batch->items = calloc(LEAT_LOGS_MAX, sizeof(*batch->items));
        if (!batch->items)
            return leat_refuse(refusal.error, refusal.bytes, LEAT_ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < OPERATIONS_MAX; i++) {
        storage->operations[i].next_free = storage->free_operations;
        storage->free_operations = &storage->operations[i];
    }
    storage->operations_free = OPERATIONS_MAX;
    return LEAT_OK;
}

static int open_steps(struct leat_storage *storage, struct refusal refusal)
{
    char lock_path[LEAT_PATH_BYTES];
    const struct leat_storage_config *config = &storage->config;
    int length = config->worker == 0
                     ? snprintf(lock_path, sizeof(lock_path), "%s/lock", storage->path)
                     : snprintf(lock_path, sizeof(lock_path), "%s/lock", storage->worker_path);
    LEAT_ASSERT(length > 0 && length < (int)sizeof(lock_path));
    int rc = lock_take(lock_path, config, &storage->lock_fd, refusal.error, refusal.bytes);
    if (rc == LEAT_OK)
        rc = identity_read(storage->path, &storage->identity, refusal.error, refusal.bytes);
    if (rc == LEAT_OK)
        rc = open_check_identity(storage, refusal);
    if (rc == LEAT_OK)
        rc = open_files(storage, refusal);
    if (rc == LEAT_OK)
        rc = open_journal(storage, refusal);
    if (rc == LEAT_OK)
        rc = open_logs(storage, refusal);
    if (rc == LEAT_OK)
        rc = open_segments(storage, refusal);
    if (rc == LEAT_OK)
        rc = open_memory(storage, refusal);
    if (rc == LEAT_OK)
        rc = votes_read(storage, refusal.error, refusal.bytes);
    if (rc == LEAT_OK && !storage->read_only)
        rc = tidy(storage, refusal.error, refusal.bytes);
    if (rc == LEAT_OK && !storage->read_only)
        rc = genesis_mend(storage, refusal.error, refusal.bytes);
    if (rc == LEAT_OK && !storage->read_only)
        lock_sign(storage->lock_fd);
    return rc;
}

int leat_storage_open(const struct leat_storage_config *config, struct leat_storage **ret_storage,
                      char *error, unsigned error_bytes)
{
    return storage_open(config, false, ret_storage, error, error_bytes);
}

int storage_open(const struct leat_storage_config *config, bool read_only,
                 struct leat_storage **ret_storage, char *error, unsigned error_bytes)
{
    struct leat_storage *storage = calloc(1, sizeof(*storage));
    if (!storage)
        return leat_refuse(error, error_bytes, LEAT_ENOMEM, "out of memory");
    storage->lock_fd = storage->journal_fd = storage->votes_fd = -1;
    for (unsigned i = 0; i < SEGMENT_FDS_MAX; i++)
        storage->segment_fds[i].fd = -1;
    storage->config = *config;
    storage->read_only = read_only;
    if (strlen(config->directory) > LEAT_PATH_BYTES - 128) {
        free(storage);
        return leat_refuse(error, error_bytes, LEAT_EINVAL,
                           "the path of the directory is too long");
    }
    snprintf(storage->path, sizeof(storage->path), "%s", config->directory);
    snprintf(storage->worker_path, sizeof(storage->worker_path), "%s/w%u", config->directory,
             config->worker);
    storage->config.directory = storage->path;
    storage->batch_max =
        config->writes_in_flight_max ? config->writes_in_flight_max : IN_FLIGHT_DEFAULT;
    if (storage->batch_max > IN_FLIGHT_MAX)
        storage->batch_max = IN_FLIGHT_MAX;
    if (storage->config.place_bytes == 0 || storage->config.place_bytes > LEAT_PLACE_BYTES_MAX)
        storage->config.place_bytes = LEAT_PLACE_BYTES_MAX;
    if (storage->config.segments_ahead == 0)
        storage->config.segments_ahead = 2;
    if (storage->config.segments_ahead > AHEAD_MAX)
        storage->config.segments_ahead = AHEAD_MAX;
    int rc = open_steps(storage, (struct refusal){error, error_bytes});
    if (rc != LEAT_OK)
        storage_free(storage);
    else
        *ret_storage = storage;
    return rc;
}

void storage_free(struct leat_storage *storage)
{
    bool quiet = !storage->free_operations || storage->operations_free == OPERATIONS_MAX;
    leat_disk_close(storage->disk);
    if (quiet && storage->lock_fd >= 0)
        lock_release(storage->lock_fd);
    segment_close_all(storage);
    scrub_free(storage);
    leat_block_free(storage->repair.bytes);
    free(storage->deleted);
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (storage->logs[i].helper.preparing_fd >= 0)
            close(storage->logs[i].helper.preparing_fd);
    }
    for (unsigned i = 0; i < IN_FLIGHT_MAX; i++)
        free(storage->batches[i].items);
    leat_block_free(storage->batches[0].record);
    leat_block_free(storage->vote_slot);
    leat_block_free(storage->helper_zeros);
    leat_block_free(storage->segment_buffer);
    leat_block_free(storage->image.bytes);
    free(storage->image.rows);
    free(storage->image.links);
    free(storage->logs);
    const int fds[] = {storage->journal_fd, storage->votes_fd, storage->lock_fd};
    for (unsigned i = 0; i < 3; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    free(storage);
}

void leat_storage_close(struct leat_storage *storage)
{
    if (!storage)
        return;
    /* what the disk still reads must stay until it is done, also after a fence */
    while (storage->operations_free < OPERATIONS_MAX) {
        if (leat_disk_wait(storage->disk) < 0)
            break;
        pass_reap_and_drop(storage);
    }
    storage_free(storage);
}

const struct leat_identity *leat_storage_identity(const struct leat_storage *storage)
{
    return &storage->identity;
}
