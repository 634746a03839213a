/* SPDX-License-Identifier: Apache-2.0
 *
 * See recovery.h. What is random elsewhere (the node's uuid, its journal's secret) is not here, or
 * an input would mean something else in each process.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc.h"
#include "files.h"
#include "recovery.h"

static struct scene *listed; /* nftw() takes no context */
static unsigned strangers;   /* files that are not the image's, or not as large */

ssize_t getrandom(void *bytes, size_t length, unsigned flags)
{
    static uint8_t next;
    (void)flags;
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)(next += 41);
    return (ssize_t)length;
}

/* ---- filling ---- */

static void fill_log(struct rig *rig, uint32_t index, unsigned segments)
{
    rig_append_term(rig, index, 2);
    for (unsigned i = 0; i < segments; i++) {
        for (unsigned j = 0; j < 16; j++)
            rig_append(rig, index, 100 + j * 37);
        rig_append_batch(rig, index, 60, 4, 4);
        rig_append_durably(rig, index, 3000);
        if (i + 1 < segments)
            rig_roll(rig, index);
        rig_append_durably(rig, index, 20);
    }
    for (unsigned i = 0; i < 4; i++) /* the last blocks are in the journal's tails only */
        rig_append_durably(rig, index, 10 + i);
}

static void fill(struct rig *rig)
{
    rig_format(rig);
    rig_start(rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        fill_log(rig, i, 1 + i);
        leat_storage_vote(rig->storage, i, 2, i % 2 ? 1 : LEAT_VOTED_NONE, 1);
        leat_storage_commit(rig->storage, i, rig->logs[i].reported_end);
    }
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_append_durably(rig, i, 500);
    while (rig->logs[0].voted_seq == 0 || rig->logs[RIG_LOGS - 1].voted_seq == 0)
        assert_true(rig_turn(rig) >= 0);
    rig_prepare_all(rig);
    rig_stop(rig);
}

/* ---- the image ---- */

static void file_map(struct scene_file *file)
{
    int descriptor = open(file->path, O_RDWR | O_CLOEXEC);
    LEAT_ASSERT(descriptor >= 0);
    file->mapped = mmap(NULL, file->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    LEAT_ASSERT(file->mapped != MAP_FAILED);
    struct stat status;
    LEAT_ASSERT(fstat(descriptor, &status) == 0);
    file->inode = status.st_ino;
    close(descriptor);
}

static struct scene_file *find_file(struct scene *scene, const char *path)
{
    for (unsigned i = 0; i < scene->file_count; i++) {
        if (strcmp(scene->files[i].path, path) == 0)
            return &scene->files[i];
    }
    return NULL;
}

static bool is_kept(const char *path, const struct stat *status)
{
    return status->st_size > 0 && !strstr(path, "/lock");
}

static int image_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type != FTW_F || !is_kept(path, status))
        return 0;
    LEAT_ASSERT(listed->file_count < SCENE_FILES_MAX);
    struct scene_file *file = &listed->files[listed->file_count++];
    snprintf(file->path, sizeof(file->path), "%s", path);
    snprintf(file->name, sizeof(file->name), "%s", path + strlen(listed->rig.directory) + 1);
    file->bytes = (size_t)status->st_size;
    file_map(file);
    file->original = malloc(file->bytes);
    file->patched = calloc(file->bytes / LEAT_BLOCK_BYTES + 1, sizeof(*file->patched));
    LEAT_ASSERT(file->original && file->patched);
    memcpy(file->original, file->mapped, file->bytes);
    file->crc = leat_crc32c(0, file->original, file->bytes);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct scene_file *)a)->name, ((const struct scene_file *)b)->name);
}

void scene_make(struct scene *scene)
{
    setenv("CMOCKA_TEST_ABORT", "1", 1); /* the rig's assertions are not a test's here */
    memset(scene, 0, sizeof(*scene));
    fill(&scene->rig);
    scene->rig.config.member_count = scene->rig.format.member_count; /* as a node knows them */
    memcpy(scene->rig.config.member_ids, scene->rig.format.member_ids,
           sizeof(scene->rig.config.member_ids));
    listed = scene;
    LEAT_ASSERT(nftw(scene->rig.directory, image_one, 16, FTW_PHYS) == 0);
    qsort(scene->files, scene->file_count, sizeof(scene->files[0]), by_name);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        scene->ends[i] = scene->rig.logs[i].chain.position;
        scene->arenas[i] = malloc(RIG_ARENA);
        LEAT_ASSERT(scene->arenas[i] && scene->ends[i] <= RIG_ARENA);
        memcpy(scene->arenas[i], scene->rig.logs[i].arena, RIG_ARENA);
    }
}

void scene_remove(struct scene *scene)
{
    for (unsigned i = 0; i < scene->file_count; i++) {
        munmap(scene->files[i].mapped, scene->files[i].bytes);
        free(scene->files[i].original);
        free(scene->files[i].patched);
    }
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        free(scene->arenas[i]);
    rig_remove(&scene->rig);
}

/* ---- putting back ---- */

static int look_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type != FTW_F || !is_kept(path, status))
        return 0;
    const struct scene_file *file = find_file(listed, path);
    if (!file || file->inode != status->st_ino || file->bytes != (size_t)status->st_size)
        strangers += SCENE_FILES_MAX;
    else
        strangers--;
    return 0;
}

static bool files_are_the_images(struct scene *scene)
{
    listed = scene;
    strangers = scene->file_count;
    return nftw(scene->rig.directory, look_one, 16, FTW_PHYS) == 0 && strangers == 0;
}

static int remove_file(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)ftw;
    return type == FTW_F && !strstr(path, "/lock") ? unlink(path) : 0;
}

static void write_anew(struct scene *scene)
{
    LEAT_ASSERT(nftw(scene->rig.directory, remove_file, 16, FTW_PHYS) == 0);
    for (unsigned i = 0; i < scene->file_count; i++) {
        struct scene_file *file = &scene->files[i];
        char directory[sizeof(file->path)];
        munmap(file->mapped, file->bytes);
        snprintf(directory, sizeof(directory), "%s", file->path);
        *strrchr(directory, '/') = 0;
        mkdir(directory, 0700);
        int descriptor = open(file->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        LEAT_ASSERT(descriptor >= 0 &&
                    write(descriptor, file->original, file->bytes) == (ssize_t)file->bytes);
        close(descriptor);
        file_map(file);
    }
}

/* By CRC: a sanitizer's memcmp() takes longer for these megabytes than all the rest of a run. */
static bool is_original(const struct scene_file *file)
{
    return leat_crc32c(0, file->mapped, file->bytes) == file->crc;
}

static size_t block_bytes(const struct scene_file *file, size_t at)
{
    return file->bytes - at < LEAT_BLOCK_BYTES ? file->bytes - at : LEAT_BLOCK_BYTES;
}

static void file_restore(struct scene_file *file)
{
    memset(file->patched, 0, (file->bytes / LEAT_BLOCK_BYTES + 1) * sizeof(*file->patched));
    if (is_original(file))
        return;
    for (size_t at = 0; at < file->bytes; at += LEAT_BLOCK_BYTES) {
        if (memcmp(file->mapped + at, file->original + at, block_bytes(file, at)) != 0)
            memcpy(file->mapped + at, file->original + at, block_bytes(file, at));
    }
}

void scene_restore(struct scene *scene)
{
    if (!files_are_the_images(scene))
        write_anew(scene);
    for (unsigned i = 0; i < scene->file_count; i++)
        file_restore(&scene->files[i]);
}

static bool file_is_untouched(const struct scene_file *file)
{
    if (is_original(file))
        return true;
    for (size_t at = 0; at < file->bytes; at += LEAT_BLOCK_BYTES) {
        if (!file->patched[at / LEAT_BLOCK_BYTES] &&
            memcmp(file->mapped + at, file->original + at, block_bytes(file, at)) != 0)
            return false;
    }
    return true;
}

bool scene_is_untouched(struct scene *scene)
{
    bool untouched = files_are_the_images(scene);
    for (unsigned i = 0; i < scene->file_count && untouched; i++)
        untouched = file_is_untouched(&scene->files[i]);
    return untouched;
}

/* ---- patching ---- */

static void mark(struct scene_file *file, size_t offset, size_t length)
{
    for (size_t i = offset / LEAT_BLOCK_BYTES; i * LEAT_BLOCK_BYTES < offset + length; i++)
        file->patched[i] = true;
}

void scene_patch(struct scene_file *file, size_t offset, const void *bytes, size_t length)
{
    if (offset >= file->bytes)
        return;
    if (length > file->bytes - offset)
        length = file->bytes - offset;
    memcpy(file->mapped + offset, bytes, length);
    mark(file, offset, length);
}

static bool is_patched(const struct scene_file *file)
{
    for (size_t i = 0; i * LEAT_BLOCK_BYTES < file->bytes; i++) {
        if (file->patched[i])
            return true;
    }
    return false;
}

static void fit_identity(struct scene_file *file)
{
    struct leat_identity *identity = (void *)file->mapped;
    identity->crc = 0;
    identity->crc = leat_crc32c(0, identity, sizeof(*identity));
}

static void fit_votes(struct scene_file *file)
{
    for (size_t at = 0; at + LEAT_VOTE_SLOT_BYTES <= file->bytes; at += LEAT_VOTE_SLOT_BYTES) {
        struct leat_vote_slot *head = (void *)(file->mapped + at);
        size_t used = sizeof(*head) + (size_t)head->peer_count * sizeof(struct leat_peer_pin) +
                      (size_t)head->vote_count * sizeof(struct leat_vote);
        if (!file->patched[at / LEAT_BLOCK_BYTES])
            continue;
        head->crc = 0;
        head->crc = leat_crc32c(0, head, used < LEAT_VOTE_SLOT_BYTES ? used : LEAT_VOTE_SLOT_BYTES);
    }
}

static void fit_journal(struct scene_file *file, uint32_t secret)
{
    for (size_t at = 0; at + LEAT_BLOCK_BYTES <= file->bytes; at += LEAT_BLOCK_BYTES) {
        struct leat_journal_record *head = (void *)(file->mapped + at);
        if (head->magic != LEAT_JOURNAL_MAGIC || head->record_bytes > file->bytes - at ||
            head->record_bytes > LEAT_JOURNAL_RECORD_BYTES_MAX)
            continue;
        bool patched = false;
        for (size_t i = 0; i < head->record_bytes; i += LEAT_BLOCK_BYTES)
            patched |= file->patched[(at + i) / LEAT_BLOCK_BYTES];
        if (!patched)
            continue;
        head->crc = 0;
        head->crc = leat_crc32c(secret, head, head->record_bytes);
        mark(file, at, sizeof(*head));
    }
}

/* The frames of one segment from its base on: links and CRCs. `chain` runs on over segments. */
static void fit_segment(struct scene_file *file, const struct leat_log_shape *shape,
                        struct leat_chain *chain, bool rules)
{
    for (uint64_t at = 0; at + LEAT_FRAME_HEADER_BYTES <= file->bytes;) {
        struct leat_frame *frame = (void *)(file->mapped + at);
        uint8_t *payload = (uint8_t *)(frame + 1);
        if (frame->length_bytes < sizeof(*frame) || frame->length_bytes > file->bytes - at)
            return;
        struct leat_base_head *head = (void *)payload;
        if (at == 0 && rules && frame->length_bytes >= sizeof(*frame) + sizeof(*head))
            head->chain_crc = chain->crc;
        uint32_t crc = frame->crc;
        frame->previous_crc = chain->crc;
        frame->crc = leat_frame_crc(shape, chain->position, frame, payload);
        if (crc != frame->crc)
            mark(file, at, sizeof(*frame) + sizeof(*head));
        uint64_t extent = leat_frame_extent(shape, chain->position, frame->length_bytes);
        leat_chain_advance(chain, frame, extent);
        at += extent;
    }
}

static void fit_log(struct scene *scene, uint32_t index, bool rules)
{
    struct leat_chain chain = {0};
    char part[32];
    snprintf(part, sizeof(part), "log-%u.1/", index);
    for (unsigned i = 0; i < scene->file_count; i++) {
        struct scene_file *file = &scene->files[i];
        if (!strstr(file->name, part) || file->bytes != RIG_SEGMENT)
            continue;
        fit_segment(file, &scene->rig.shapes[index], &chain, rules);
        if (chain.position % RIG_SEGMENT != 0)
            return;
    }
}

void scene_fit(struct scene *scene, bool rules)
{
    struct leat_identity identity;
    for (unsigned i = 0; i < scene->file_count; i++) {
        struct scene_file *file = &scene->files[i];
        if (strcmp(file->name, "identity") == 0) {
            memcpy(&identity, file->mapped, sizeof(identity));
            if (is_patched(file))
                fit_identity(file);
        } else if (is_patched(file) && strcmp(file->name, "w0/journal") == 0) {
            fit_journal(file, identity.journal_secret);
        } else if (is_patched(file) && strcmp(file->name, "w0/votes") == 0) {
            fit_votes(file);
        }
    }
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        fit_log(scene, i, rules);
}
