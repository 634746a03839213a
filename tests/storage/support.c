/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc.h"

/* ---- the directory ---- */

void rig_format(struct rig *rig)
{
    const char *parent = getenv("LEAT_TEST_DIRECTORY");
    memset(rig, 0, sizeof(*rig));
    snprintf(rig->directory, sizeof(rig->directory), "%s/leat-storage-XXXXXX",
             parent ? parent : ".");
    assert_non_null(mkdtemp(rig->directory));
    rig->format = (struct leat_format_config){
        .directory = rig->directory,
        .cluster = {{7, 7, 7}},
        .node_id = 1,
        .worker_count = 1,
        .member_count = 3,
        .member_ids = {1, 2, 3},
        .log_count = RIG_FORMATTED,
        .logs = {{.log_id = 0,
                  .entry_bytes_max = 64 << 10,
                  .segment_bytes = RIG_SEGMENT,
                  .arena_bytes = RIG_ARENA},
                 {.log_id = 1,
                  .entry_bytes_max = 64 << 10,
                  .segment_bytes = RIG_SEGMENT,
                  .arena_bytes = RIG_ARENA,
                  .accepts_replicated = true}},
    };
    rig->config = (struct leat_storage_config){
        .directory = rig->directory,
        .cluster = rig->format.cluster,
        .node_id = 1,
        .worker_count = 1,
        .segments_ahead = 1,
    };
    rig->boot.bytes[0] = 0xb0;
    rig->log_count = RIG_FORMATTED;
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        rig->log_uuids[i] = leat_uuid_of_log(&rig->format.cluster, i);
        rig->shapes[i] = rig_shape(rig, i);
        assert_int_equal(posix_memalign((void **)&rig->logs[i].arena, 4096, RIG_ARENA), 0);
        memset(rig->logs[i].arena, 0, RIG_ARENA);
        rig->logs[i].arena_id.bytes[0] = (uint8_t)(i + 1);
    }
    int rc = leat_storage_format(&rig->format, rig->error, sizeof(rig->error));
    if (rc != LEAT_OK)
        fail_msg("format: %s", rig->error);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void rig_remove(struct rig *rig)
{
    if (rig->storage)
        rig_stop(rig);
    nftw(rig->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        free(rig->logs[i].arena);
}

/* ---- life ---- */

int rig_open(struct rig *rig)
{
    return leat_storage_open(&rig->config, &rig->storage, rig->error, sizeof(rig->error));
}

static void rig_visit(void *context, uint64_t position, const struct leat_frame *frame,
                      const void *payload)
{
    struct rig_log *log = context;
    (void)payload;
    assert_true(log->visited == 0 || position == log->visited_end);
    log->visited++;
    log->visited_end = position + ((frame->length_bytes + 7u) & ~7u);
    uint64_t room = RIG_SEGMENT - position % RIG_SEGMENT;
    uint64_t extent = (frame->length_bytes + 7u) & ~7u;
    if (room - extent < LEAT_TERM_FRAME_BYTES)
        log->visited_end = position + room;
}

void rig_recover(struct rig *rig, uint32_t index)
{
    struct rig_log *log = &rig->logs[index];
    log->published_end = log->chain.position;
    rig_recover_again(rig, index);
}

void rig_recover_again(struct rig *rig, uint32_t index)
{
    struct rig_log *log = &rig->logs[index];
    struct leat_storage_arena arena = {log->arena, log->arena_valid, &log->published_end};
    log->visited = 0;
    int rc = leat_storage_recover(rig->storage, index, &arena, rig_visit, log, &log->recovered,
                                  rig->error, sizeof(rig->error));
    if (rc != LEAT_OK)
        fail_msg("recover: %s", rig->error);
    if (log->visited > 0)
        assert_int_equal(log->visited_end, log->recovered.chain.position);
    log->chain = log->recovered.chain;
    log->write_seq = log->reported_seq = log->cut_done = 0;
    log->reported_end = log->recovered.durable_pos;
}

void rig_begin(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->log_count; i++)
        assert_int_equal(leat_storage_begin(rig->storage, i, &rig->logs[i].recovered,
                                            &rig->logs[i].arena_id, &rig->boot, false),
                         LEAT_OK);
    rig->incarnation = 0;
    assert_int_equal(leat_storage_commit_begin(rig->storage, &rig->incarnation), LEAT_OK);
    for (uint32_t i = 0; i < rig->log_count; i++)
        rig->logs[i].arena_valid = true;
}

struct leat_log_shape rig_shape(const struct rig *rig, uint32_t log_id)
{
    struct leat_uuid uuid = leat_uuid_of_log(&rig->format.cluster, log_id);
    return (struct leat_log_shape){leat_frame_salt(&uuid, 1), 64 << 10, RIG_SEGMENT};
}

struct leat_chain rig_genesis_chain(const struct leat_log_shape *shape, const uint8_t *arena)
{
    struct leat_chain chain = {0};
    uint64_t extent;
    assert_int_equal(leat_chain_at_base(shape, 0, arena, LEAT_BLOCK_BYTES, &chain), LEAT_OK);
    assert_int_equal(leat_frame_check(shape, &chain, arena, LEAT_BLOCK_BYTES, &extent), LEAT_OK);
    return chain;
}

uint32_t rig_make(struct rig *rig, const struct leat_storage_create *create)
{
    unsigned before = rig->events[LEAT_STORAGE_CREATED];
    uint32_t index;
    assert_int_equal(leat_storage_log_create(rig->storage, create, &index), LEAT_OK);
    while (rig->events[LEAT_STORAGE_CREATED] == before) {
        leat_storage_prepare_step(rig->storage);
        assert_true(rig_turn(rig) >= 0);
    }
    assert_int_equal(rig->last[LEAT_STORAGE_CREATED].result, LEAT_OK);
    assert_int_equal(rig->last[LEAT_STORAGE_CREATED].log_index, index);
    assert_true(leat_storage_log_exists(rig->storage, index));
    return index;
}

static void rig_make_next(struct rig *rig)
{
    struct rig_log *log = &rig->logs[rig->log_count];
    struct leat_storage_create create = {.log = {.log_id = rig->log_count,
                                                 .entry_bytes_max = 64 << 10,
                                                 .segment_bytes = RIG_SEGMENT,
                                                 .arena_bytes = RIG_ARENA},
                                         .arena_bytes = log->arena,
                                         .arena = log->arena_id,
                                         .boot = rig->boot};
    assert_int_equal(rig_make(rig, &create), rig->log_count);
    log->chain = rig_genesis_chain(&rig->shapes[rig->log_count], log->arena);
    log->reported_end = log->chain.position;
    log->arena_valid = true;
    rig->log_count++;
}

void rig_start(struct rig *rig)
{
    int rc = rig_open(rig);
    if (rc != LEAT_OK)
        fail_msg("open: %s", rig->error);
    assert_int_equal(leat_storage_log_count(rig->storage), rig->log_count);
    for (uint32_t i = 0; i < rig->log_count; i++)
        rig_recover(rig, i);
    rig_begin(rig);
    while (rig->log_count < RIG_LOGS)
        rig_make_next(rig);
}

void rig_stop(struct rig *rig)
{
    leat_storage_close(rig->storage);
    rig->storage = NULL;
}

void rig_crash(struct rig *rig)
{
    rig_stop(rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        memset(rig->logs[i].arena, 0xee, RIG_ARENA);
        rig->logs[i].arena_valid = false;
    }
}

/* ---- frames ---- */

static void rig_seal(struct rig *rig, uint32_t index, struct leat_frame *frame, const void *payload)
{
    struct rig_log *log = &rig->logs[index];
    frame->time_ns = ++rig->session_time_ns > log->chain.last_time_ns ? rig->session_time_ns
                                                                      : log->chain.last_time_ns;
    leat_frame_seal(&rig->shapes[index], &log->chain, log->arena + log->chain.position % RIG_ARENA,
                    frame, payload);
}

void rig_append(struct rig *rig, uint32_t index, uint32_t payload_bytes)
{
    static uint8_t payload[64 << 10];
    memset(payload, (int)(rig->session_time_ns * 31 + 1), payload_bytes);
    rig_append_payload(rig, index, payload, payload_bytes);
}

void rig_append_payload(struct rig *rig, uint32_t index, const void *payload,
                        uint32_t payload_bytes)
{
    struct rig_log *log = &rig->logs[index];
    uint64_t room = leat_segment_room(&rig->shapes[index], log->chain.position);
    if (room < payload_bytes + 256u || log->chain.position % RIG_SEGMENT == 0)
        rig_roll(rig, index);
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + payload_bytes,
                               .type_flags = LEAT_FRAME_RECORD};
    rig_seal(rig, index, &frame, payload);
}

void rig_append_batch(struct rig *rig, uint32_t index, uint32_t payload_bytes, unsigned count,
                      unsigned sealed_count)
{
    static uint8_t payload[4096];
    uint64_t sequence = rig->session_time_ns + 1;
    assert_true(payload_bytes <= sizeof(payload) && sealed_count <= count);
    for (unsigned i = 0; i < sealed_count; i++) {
        struct leat_frame frame = {
            .length_bytes = LEAT_FRAME_HEADER_BYTES + payload_bytes,
            .type_flags = LEAT_FRAME_RECORD | (i + 1 < count ? LEAT_FRAME_FLAG_CONTINUES : 0u),
            .session = 1,
            .sequence = sequence,
        };
        rig_seal(rig, index, &frame, payload);
    }
}

void rig_append_term(struct rig *rig, uint32_t index, uint32_t term)
{
    const struct leat_chain *chain = &rig->logs[index].chain;
    if (chain->position > 0 && chain->position % RIG_SEGMENT == 0)
        rig_append_base(rig, index); /* a cut went back to the segment's begin */
    struct leat_term_payload payload = {term, chain->term, chain->run_first_pos, 1, 1, 0};
    struct leat_frame frame = {
        .length_bytes = LEAT_TERM_FRAME_BYTES, .type_flags = LEAT_FRAME_TERM, .term = term};
    rig_seal(rig, index, &frame, &payload);
}

void rig_append_base(struct rig *rig, uint32_t index)
{
    const struct leat_chain *chain = &rig->logs[index].chain;
    struct leat_base_head head = {
        .version = LEAT_BASE_VERSION,
        .cluster = rig->format.cluster,
        .log = rig->log_uuids[index],
        .log_id = index,
        .generation = 1,
        .position = chain->position,
        .segment_bytes = RIG_SEGMENT,
        .arena_bytes = RIG_ARENA,
        .entry_bytes_max = 64 << 10,
        .next_offset = chain->next_offset,
        .last_time_ns = chain->last_time_ns,
        .run_first_pos = chain->run_first_pos,
        .run_term = chain->term,
        .chain_crc = chain->crc,
        .member_count = 1,
    };
    uint8_t payload[sizeof(head) + sizeof(struct leat_base_member)];
    struct leat_base_member member = {1, 0};
    memcpy(payload, &head, sizeof(head));
    memcpy(payload + sizeof(head), &member, sizeof(member));
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + sizeof(payload),
                               .type_flags = LEAT_FRAME_BASE};
    rig_seal(rig, index, &frame, payload);
}

void rig_roll(struct rig *rig, uint32_t index)
{
    struct rig_log *log = &rig->logs[index];
    uint64_t room = leat_segment_room(&rig->shapes[index], log->chain.position);
    if (room < RIG_SEGMENT) {
        struct leat_frame frame = {.length_bytes = (uint32_t)room, .type_flags = LEAT_FRAME_PAD};
        rig_seal(rig, index, &frame, NULL);
    }
    rig_append_base(rig, index);
}

/* ---- the pass ---- */

static struct rig_log *rig_write_next(struct rig *rig, uint32_t index)
{
    struct rig_log *log = &rig->logs[index];
    log->write_seq++;
    log->end_of_seq[log->write_seq % 64] = log->chain.position;
    return log;
}

uint64_t rig_write(struct rig *rig, uint32_t index)
{
    struct rig_log *log = rig_write_next(rig, index);
    leat_storage_write(rig->storage, index, log->write_seq, &log->chain);
    return log->write_seq;
}

uint64_t rig_write_lazily(struct rig *rig, uint32_t index)
{
    struct rig_log *log = rig_write_next(rig, index);
    leat_storage_write_lazily(rig->storage, index, log->write_seq, &log->chain);
    return log->write_seq;
}

static void rig_take(struct rig *rig, const struct leat_storage_event *event)
{
    struct rig_log *log = &rig->logs[event->log_index % RIG_LOGS];
    rig->events[event->kind]++;
    rig->last[event->kind] = *event;
    if (event->log_index >= RIG_LOGS)
        return; /* a log made at run time: the test's */
    switch (event->kind) {
    case LEAT_STORAGE_WRITTEN:
        assert_true(event->sequence > log->reported_seq);
        log->reported_seq = event->sequence;
        log->reported_end = log->end_of_seq[event->sequence % 64];
        break;
    case LEAT_STORAGE_VOTED:
        log->voted_seq = event->sequence;
        break;
    case LEAT_STORAGE_CUT_DONE:
        log->cut_done = event->sequence;
        break;
    case LEAT_STORAGE_READ:
        rig->reads++;
        rig->read_result = event->result;
        break;
    case LEAT_STORAGE_CREATED:
    case LEAT_STORAGE_DELETED:
    case LEAT_STORAGE_DAMAGE:
    case LEAT_STORAGE_REPAIRED:
        break;
    }
}

int rig_turn(struct rig *rig)
{
    struct leat_storage_event events[8];
    rig->now_ns += 1000;
    leat_storage_submit(rig->storage, rig->now_ns);
    int count = leat_storage_poll(rig->storage, rig->now_ns, events, 8);
    for (int i = 0; i < count; i++)
        rig_take(rig, &events[i]);
    return count;
}

void rig_settle(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->log_count; i++) {
        while (rig->logs[i].reported_seq < rig->logs[i].write_seq) {
            if (rig_turn(rig) < 0)
                fail_msg("fenced: %s", leat_storage_fence_reason(rig->storage));
            leat_storage_prepare_step(rig->storage);
        }
    }
}

void rig_append_durably(struct rig *rig, uint32_t index, uint32_t payload_bytes)
{
    rig_append(rig, index, payload_bytes);
    rig_write(rig, index);
    rig_settle(rig);
}

void rig_prepare_all(struct rig *rig)
{
    while (leat_storage_prepare_step(rig->storage))
        ;
}

void rig_cut(struct rig *rig, uint32_t index, const struct leat_chain *chain)
{
    struct rig_log *log = &rig->logs[index];
    uint64_t epoch = ++log->recovered.cut_epoch;
    leat_storage_cut(rig->storage, index, chain, epoch);
    while (log->cut_done < epoch)
        assert_true(rig_turn(rig) >= 0);
    log->chain = *chain;
    if (log->reported_end > chain->position)
        log->reported_end = chain->position;
    for (unsigned i = 0; i < 64; i++) { /* the clamp that is the core's */
        if (log->end_of_seq[i] > chain->position)
            log->end_of_seq[i] = chain->position;
    }
}

/* ---- files ---- */

uint64_t rig_find_record(const struct rig *rig, uint64_t sequence,
                         struct leat_journal_record *ret_head)
{
    char path[600];
    rig_path(rig, "w0/journal", path);
    for (uint64_t at = 0; at < LEAT_JOURNAL_BYTES; at += LEAT_BLOCK_BYTES) {
        rig_file_read(path, at, ret_head, sizeof(*ret_head));
        if (ret_head->magic == LEAT_JOURNAL_MAGIC && ret_head->sequence == sequence)
            return at;
    }
    fail_msg("no record %llu", (unsigned long long)sequence);
    return 0;
}

void rig_path(const struct rig *rig, const char *name, char path[600])
{
    snprintf(path, 600, "%s/%s", rig->directory, name);
}

void rig_segment_path(const struct rig *rig, uint32_t index, uint64_t base_pos, char path[600])
{
    snprintf(path, 600, "%s/w0/log-%u.1/%016" PRIx64 ".segment", rig->directory, index, base_pos);
}

static int rig_file_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        fail_msg("cannot open %s", path);
    return fd;
}

void rig_file_read(const char *path, uint64_t offset, void *bytes, uint32_t length_bytes)
{
    int fd = rig_file_open(path, O_RDONLY);
    assert_int_equal(pread(fd, bytes, length_bytes, (off_t)offset), length_bytes);
    close(fd);
}

void rig_file_write(const char *path, uint64_t offset, const void *bytes, uint32_t length_bytes)
{
    int fd = rig_file_open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, length_bytes, (off_t)offset), length_bytes);
    close(fd);
}

void rig_file_flip(const char *path, uint64_t offset, unsigned bit)
{
    uint8_t byte;
    rig_file_read(path, offset, &byte, 1);
    byte ^= (uint8_t)(1u << bit);
    rig_file_write(path, offset, &byte, 1);
}

bool rig_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static uint32_t fingerprint;

static int fingerprint_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    static uint8_t bytes[1 << 16];
    (void)ftw;
    uint32_t crc = leat_crc32c(0, path, strlen(path));
    crc = leat_crc32c(crc, &st->st_size, type == FTW_F ? sizeof(st->st_size) : 0);
    if (type == FTW_F) {
        int fd = rig_file_open(path, O_RDONLY);
        ssize_t got;
        while ((got = read(fd, bytes, sizeof(bytes))) > 0)
            crc = leat_crc32c(crc, bytes, (size_t)got);
        close(fd);
    }
    fingerprint ^= crc; /* order does not matter: the path is in each */
    return 0;
}

uint32_t rig_fingerprint(const struct rig *rig)
{
    fingerprint = 0;
    assert_int_equal(nftw(rig->directory, fingerprint_one, 16, FTW_PHYS), 0);
    return fingerprint;
}
