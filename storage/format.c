/* SPDX-License-Identifier: Apache-2.0
 *
 * Format: a data directory from nothing. Everything is written and flushed before the identity,
 * which makes it one; a crash in between leaves a directory that open calls unformatted. The
 * genesis BASE frame of a log is less than a block, so it lies in the first journal record.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/rng.h"

#define FORMAT_GENERATION 1u

struct format {
    const struct leat_format_config *config;
    struct leat_identity identity;
    uint8_t *buffer; /* HELPER_WRITE_BYTES */
    char *error;
    unsigned error_bytes;
};

static uint32_t format_generation(const struct leat_format_log *log)
{
    return log->generation ? log->generation : FORMAT_GENERATION;
}

static struct leat_catalogue_row genesis_row(const struct leat_format_log *log)
{
    struct leat_catalogue_row row = {
        .log_id = log->log_id,
        .generation = format_generation(log),
        .flags = log->accepts_replicated ? LEAT_BASE_ACCEPTS_REPLICATED : 0,
        .entry_bytes_max = log->entry_bytes_max,
        .segment_bytes = log->segment_bytes,
        .arena_bytes = log->arena_bytes,
        .retention_bytes = log->retention_bytes,
        .retention_ns = log->retention_ns,
        .owner_uid = log->owner_uid,
    };
    const char *name = log->name[0] ? log->name : log->log_id == 0 ? "catalogue" : "default";
    size_t length = strnlen(name, sizeof(row.name) - 1);
    memcpy(row.name, name, length);
    return row;
}

uint64_t leat_genesis_frame(const struct leat_format_config *config,
                            const struct leat_format_log *log, void *to)
{
    struct leat_uuid uuid = leat_uuid_of_log(&config->cluster, log->log_id);
    uint32_t generation = format_generation(log);
    struct leat_log_shape shape = {leat_frame_salt(&uuid, generation), log->entry_bytes_max,
                                   log->segment_bytes};
    struct {
        struct leat_base_head head;
        uint8_t rest[LEAT_MEMBERS_MAX * sizeof(struct leat_base_member) +
                     2 * sizeof(struct leat_catalogue_row)];
    } payload = {.head = {
                     .version = LEAT_BASE_VERSION,
                     .flags = log->accepts_replicated ? LEAT_BASE_ACCEPTS_REPLICATED : 0,
                     .cluster = config->cluster,
                     .log = uuid,
                     .log_id = log->log_id,
                     .generation = generation,
                     .segment_bytes = log->segment_bytes,
                     .arena_bytes = log->arena_bytes,
                     .entry_bytes_max = log->entry_bytes_max,
                     .config_epoch = 1,
                     .member_count = (uint16_t)config->member_count,
                     .catalogue_count = log->log_id == 0 ? (uint16_t)config->log_count : 0,
                 }};
    LEAT_ASSERT(config->member_count >= 1 && config->member_count <= LEAT_MEMBERS_MAX);
    LEAT_ASSERT(log->log_id != 0 || config->log_count <= 2);
    uint8_t *rest = payload.rest;
    for (unsigned i = 0; i < config->member_count; i++, rest += sizeof(struct leat_base_member))
        memcpy(rest, &(struct leat_base_member){.node_id = config->member_ids[i]},
               sizeof(struct leat_base_member));
    for (unsigned i = 0; i < payload.head.catalogue_count; i++) {
        struct leat_catalogue_row row = genesis_row(&config->logs[i]);
        memcpy(rest + i * sizeof(row), &row, sizeof(row));
    }
    struct leat_frame frame = {
        .length_bytes = LEAT_FRAME_HEADER_BYTES + leat_base_payload_bytes(&payload.head),
        .type_flags = LEAT_FRAME_BASE,
    };
    struct leat_chain chain = {0};
    uint64_t extent = leat_frame_seal(&shape, &chain, to, &frame, &payload);
    LEAT_ASSERT(extent < LEAT_BLOCK_BYTES);
    return extent;
}

static int format_failed(const struct format *format, const char *path)
{
    if (errno == EINVAL)
        return leat_refuse(format->error, format->error_bytes, LEAT_ESYSTEM,
                           "%s refuses O_DIRECT: use a file system that takes it (ext4, xfs)",
                           path);
    if (errno == ENOSPC || errno == EDQUOT)
        return leat_refuse(format->error, format->error_bytes, LEAT_ENOSPACE,
                           "no space for %s: free some, empty the directory and format again",
                           path);
    return leat_refuse(format->error, format->error_bytes, LEAT_ESYSTEM, "cannot write %s: %s",
                       path, strerror(errno));
}

/* ---- refusals ---- */

static bool format_logs_are_legal(const struct leat_format_config *config)
{
    if (config->log_count < 1 || config->log_count > 2)
        return false;
    for (unsigned i = 0; i < config->log_count; i++) {
        const struct leat_format_log *log = &config->logs[i];
        if (!leat_log_sizes_are_legal(log->segment_bytes, log->arena_bytes, log->entry_bytes_max) ||
            memchr(log->name, 0, sizeof(log->name)) == NULL)
            return false;
        if (i > 0 && log->log_id <= config->logs[i - 1].log_id)
            return false;
    }
    return true;
}

static bool format_config_is_legal(const struct leat_format_config *config)
{
    if (config->member_count < 1 || config->member_count > LEAT_MEMBERS_MAX ||
        config->worker_count < 1 || config->worker_count > LEAT_WORKERS_MAX ||
        leat_uuid_is_zero(&config->cluster) || strlen(config->directory) > LEAT_PATH_BYTES - 128)
        return false;
    bool member = false;
    for (unsigned i = 0; i < config->member_count; i++) {
        member |= config->member_ids[i] == config->node_id;
        if (i > 0 && config->member_ids[i] <= config->member_ids[i - 1])
            return false;
    }
    return member && format_logs_are_legal(config);
}

static bool format_see_name(void *context, const char *name)
{
    char *seen = context;
    LEAT_ASSERT(seen && name);
    if (strcmp(name, "lost+found") == 0)
        return true;
    snprintf(seen, 64, "%.63s", name);
    return strcmp(name, "identity") != 0;
}

/* The directory's own name, in the one that holds it, which may have been made just now. */
static int format_flush_parent(const struct format *format)
{
    char parent[LEAT_PATH_BYTES];
    snprintf(parent, sizeof(parent), "%s", format->config->directory);
    size_t length = strlen(parent);
    while (length > 1 && parent[length - 1] == '/')
        length--;
    while (length > 0 && parent[length - 1] != '/')
        length--;
    snprintf(parent, sizeof(parent), "%.*s", length > 0 ? (int)length : 1,
             length > 0 ? format->config->directory : ".");
    return leat_path_flush(parent) == LEAT_OK ? LEAT_OK : format_failed(format, parent);
}

static int format_check_directory(const struct format *format)
{
    const char *directory = format->config->directory;
    char seen[64] = "";
    struct statfs fs;
    if (!format_config_is_legal(format->config))
        return leat_refuse(format->error, format->error_bytes, LEAT_EINVAL,
                           "the node's identity or a log's sizes are not valid");
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return format_failed(format, directory);
    if (leat_directory_list(directory, format_see_name, seen) != LEAT_OK)
        return format_failed(format, directory);
    if (strcmp(seen, "identity") == 0)
        return leat_refuse(format->error, format->error_bytes, LEAT_EEXISTS,
                           "%s is formatted already: nothing was changed", directory);
    if (seen[0])
        return leat_refuse(format->error, format->error_bytes, LEAT_EINVAL,
                           "%s is not empty (it holds %s): empty it or name another", directory,
                           seen);
    if (statfs(directory, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
        return leat_refuse(format->error, format->error_bytes, LEAT_ESYSTEM,
                           "%s lies in memory (tmpfs): name a directory on a disk", directory);
    return LEAT_OK;
}

/* ---- files ---- */

/* A file of zeros but for `head` at its front; flushed. */
static int format_file(struct format *format, const char *path, uint64_t bytes, const void *head,
                       uint64_t head_bytes)
{
    int rc = LEAT_OK;
    LEAT_ASSERT(head_bytes <= HELPER_WRITE_BYTES && bytes % LEAT_BLOCK_BYTES == 0);
    int fd = leat_file_create(path);
    if (fd < 0)
        return format_failed(format, path);
    for (uint64_t at = 0; at < bytes && rc == LEAT_OK; at += HELPER_WRITE_BYTES) {
        memset(format->buffer, 0, HELPER_WRITE_BYTES);
        if (at == 0 && head)
            memcpy(format->buffer, head, head_bytes);
        rc = leat_file_write(fd, format->buffer, min_u64(HELPER_WRITE_BYTES, bytes - at), at);
    }
    int saved = errno;
    close(fd);
    errno = saved;
    if (rc != LEAT_OK || leat_path_flush(path) != LEAT_OK)
        return format_failed(format, path);
    return LEAT_OK;
}

static int format_directory(const struct format *format, const char *path)
{
    return mkdir(path, 0700) == 0 ? LEAT_OK : format_failed(format, path);
}

static int format_lock(const struct format *format, const char *directory)
{
    char path[LEAT_PATH_BYTES + 32];
    snprintf(path, sizeof(path), "%s/lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return format_failed(format, path);
    close(fd);
    return leat_path_flush(path) == LEAT_OK ? LEAT_OK : format_failed(format, path);
}

/* ---- what they hold ---- */

static void format_entry(const struct format *format, const struct leat_format_log *log,
                         uint8_t *to, uint32_t *ret_bytes)
{
    uint8_t genesis[LEAT_BLOCK_BYTES];
    uint64_t extent = leat_genesis_frame(format->config, log, genesis);
    struct leat_journal_entry entry = {
        .log = leat_uuid_of_log(&format->config->cluster, log->log_id),
        .log_id = log->log_id,
        .generation = format_generation(log),
        .floor_pos = extent,
        .end_pos = extent,
        .commit_d = extent, /* the genesis is the same on every member */
        .flags = LEAT_JOURNAL_CLEAN | LEAT_JOURNAL_WHOLE | LEAT_JOURNAL_BASE,
        .tail_bytes = (uint32_t)extent,
        .segment_log2 = (uint32_t)__builtin_ctzll(log->segment_bytes),
        .floor_crc = genesis_crc(genesis),
    };
    LEAT_ASSERT(extent % LEAT_FRAME_ALIGN == 0);
    memcpy(to, &entry, sizeof(entry));
    memcpy(to + sizeof(entry), genesis, extent);
    *ret_bytes = journal_entry_bytes(&entry);
}

/* Logs are spread over the workers by id. */
static uint32_t format_first_record(const struct format *format, uint32_t worker, uint8_t *record)
{
    const struct leat_format_config *config = format->config;
    uint32_t used = (uint32_t)BATCH_HEAD_BYTES, count = 0, bytes;
    for (unsigned i = 0; i < config->log_count; i++) {
        if (config->logs[i].log_id % config->worker_count != worker)
            continue;
        format_entry(format, &config->logs[i], record + used, &bytes);
        used += bytes;
        count++;
    }
    struct leat_journal_record *head = (void *)record;
    *head = (struct leat_journal_record){.sequence = 1, .entry_count = count};
    journal_record_finish(head, &format->identity, used);
    return (uint32_t)block_end(used);
}

static int format_log_files(struct format *format, const char *worker_path,
                            const struct leat_format_log *log)
{
    char name[64], directory[LEAT_PATH_BYTES + 128], path[LEAT_PATH_BYTES + 192];
    log_directory_name(log->log_id, format_generation(log), name);
    snprintf(directory, sizeof(directory), "%s/%s", worker_path, name);
    snprintf(path, sizeof(path), "%s/%016x.segment", directory, 0);
    int rc = format_directory(format, directory);
    if (rc == LEAT_OK)
        rc = format_file(format, path, log->segment_bytes, NULL, 0);
    uint8_t genesis[LEAT_BLOCK_BYTES];
    uint64_t extent = leat_genesis_frame(format->config, log, genesis);
    if (rc == LEAT_OK && genesis_write(directory, genesis, extent) != LEAT_OK)
        rc = format_failed(format, directory);
    if (rc == LEAT_OK && leat_path_flush(directory) != LEAT_OK)
        rc = format_failed(format, directory);
    return rc;
}

static int format_votes(struct format *format, const char *path)
{
    struct vote_state *state = calloc(1, sizeof(*state));
    uint8_t *slots = leat_block_alloc(2 * LEAT_VOTE_SLOT_BYTES);
    int rc = LEAT_ENOMEM;
    if (state && slots) {
        state->head.node = format->identity.node;
        state->head.sequence = 1;
        votes_encode(slots, state, 0);
        votes_encode(slots + LEAT_VOTE_SLOT_BYTES, state, 1);
        rc = format_file(format, path, 2 * LEAT_VOTE_SLOT_BYTES, slots, 2 * LEAT_VOTE_SLOT_BYTES);
    }
    free(state);
    leat_block_free(slots);
    return rc;
}

static int format_worker(struct format *format, uint32_t worker)
{
    const struct leat_format_config *config = format->config;
    char directory[LEAT_PATH_BYTES], path[LEAT_PATH_BYTES + 32];
    uint8_t *record = leat_block_alloc(4 * LEAT_BLOCK_BYTES);
    if (!record)
        return LEAT_ENOMEM;
    uint32_t record_bytes = format_first_record(format, worker, record);
    snprintf(directory, sizeof(directory), "%s/w%u", config->directory, worker);
    int rc = format_directory(format, directory);
    if (rc == LEAT_OK && worker > 0)
        rc = format_lock(format, directory);
    snprintf(path, sizeof(path), "%s/votes", directory);
    if (rc == LEAT_OK)
        rc = format_votes(format, path);
    for (unsigned i = 0; i < config->log_count && rc == LEAT_OK; i++) {
        if (config->logs[i].log_id % config->worker_count == worker)
            rc = format_log_files(format, directory, &config->logs[i]);
    }
    snprintf(path, sizeof(path), "%s/journal", directory);
    if (rc == LEAT_OK)
        rc = format_file(format, path, LEAT_JOURNAL_BYTES, record, record_bytes);
    if (rc == LEAT_OK && leat_path_flush(directory) != LEAT_OK)
        rc = format_failed(format, directory);
    leat_block_free(record);
    return rc;
}

static int format_identity(struct format *format)
{
    const struct leat_format_config *config = format->config;
    char path[LEAT_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/identity", config->directory);
    format->identity.crc = leat_crc32c(0, &format->identity, sizeof(format->identity));
    int rc =
        format_file(format, path, LEAT_BLOCK_BYTES, &format->identity, sizeof(format->identity));
    if (rc == LEAT_OK && leat_path_flush(config->directory) != LEAT_OK)
        rc = format_failed(format, config->directory);
    return rc;
}

static void format_name_node(struct format *format)
{
    const struct leat_format_config *config = format->config;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    format->identity = (struct leat_identity){
        .magic = LEAT_IDENTITY_MAGIC,
        .version = LEAT_STORAGE_VERSION,
        .cluster = config->cluster,
        .node_id = config->node_id,
        .worker_count = config->worker_count,
        .member_count = config->member_count,
        .created_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec,
    };
    LEAT_ASSERT(sizeof(format->identity.member_ids) == sizeof(config->member_ids));
    memcpy(format->identity.member_ids, config->member_ids, sizeof(config->member_ids));
}

int leat_storage_format(const struct leat_format_config *config, char *error, unsigned error_bytes)
{
    struct format format = {.config = config, .error = error, .error_bytes = error_bytes};
    int rc = format_check_directory(&format);
    if (rc != LEAT_OK)
        return rc;
    format_name_node(&format);
    format.buffer = leat_block_alloc(HELPER_WRITE_BYTES);
    struct leat_rng random;
    if (!format.buffer || leat_uuid_random(&format.identity.node) != LEAT_OK ||
        leat_rng_seed_from_system(&random) != LEAT_OK) {
        leat_block_free(format.buffer);
        return leat_refuse(error, error_bytes, LEAT_ESYSTEM, "no memory or no randomness");
    }
    format.identity.journal_secret = (uint32_t)leat_rng_next(&random);
    rc = format_lock(&format, config->directory);
    for (uint32_t worker = 0; worker < config->worker_count && rc == LEAT_OK; worker++)
        rc = format_worker(&format, worker);
    if (rc == LEAT_OK && leat_path_flush(config->directory) != LEAT_OK)
        rc = format_failed(&format, config->directory);
    if (rc == LEAT_OK)
        rc = format_flush_parent(&format);
    if (rc == LEAT_OK)
        rc = format_identity(&format);
    leat_block_free(format.buffer);
    return rc;
}
