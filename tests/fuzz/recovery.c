/* SPDX-License-Identifier: Apache-2.0
 *
 * Start from a damaged disk: patches to the files of a filled data directory (recovery.h), then
 * open, recovery of every log, begin, a few turns, close. Over the tests' fake disk with a small
 * ring. FUZZ_FIT: CRCs are made to fit; FUZZ_FIT_RULES: so is what base frames say of their chain.
 *
 * A look at it (inspect, verify) comes to an end and changes nothing.
 * Whatever lies there is refused in one line, with nothing changed, or taken; and unless CRCs were
 * made to fit, what is taken is the log's bytes and no others.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "leat/error.h"
#include "recovery.h"
#include "storage/inspect.h"

#define PATCHES_MAX     32u
#define LINES_MAX       100000u /* of an inspection: more than there are frames */
#define PATCH_BYTES_MAX 255u
#define COPY_BLOCKS_MAX 8u
#define ARENA_BYTES_MAX (64ull << 20)

static struct scene scene;
static struct leat_storage *storage;

struct visit {
    struct leat_log_shape shape;
    uint64_t next_pos;
    unsigned count;
};

static void scene_end(void)
{
    scene_remove(&scene);
}

/* Blocks from one place to another, as a misdirected or a lost write leaves them. */
static void copy_draw(struct fuzz_input *input, struct scene_file *file)
{
    const struct scene_file *source = &scene.files[fuzz_u8(input) % scene.file_count];
    size_t from = (size_t)fuzz_u16(input) * LEAT_BLOCK_BYTES % source->bytes;
    size_t to = (size_t)fuzz_u16(input) * LEAT_BLOCK_BYTES % file->bytes;
    size_t length = (1 + (size_t)fuzz_u8(input) % COPY_BLOCKS_MAX) * LEAT_BLOCK_BYTES;
    if (length > source->bytes - from)
        length = source->bytes - from;
    scene_patch(file, to, source->original + from, length);
}

/* File and, with PATCH_COPY, what to copy; else offset, length, bytes. */
static void patch_draw(struct fuzz_input *input)
{
    uint8_t bytes[PATCH_BYTES_MAX];
    uint8_t which = fuzz_u8(input);
    struct scene_file *file = &scene.files[(which & ~PATCH_COPY) % scene.file_count];
    if (which & PATCH_COPY) {
        copy_draw(input, file);
        return;
    }
    size_t offset = fuzz_u16(input);
    offset = offset << 8 | fuzz_u8(input);
    size_t length = fuzz_u8(input);
    length = fuzz_take(input, bytes, length);
    scene_patch(file, offset % file->bytes, bytes, length);
}

static void check_error(const char *error, unsigned error_bytes)
{
    LEAT_ASSERT(memchr(error, 0, error_bytes) && error[0] != 0 && !strchr(error, '\n'));
}

static void visit(void *context, uint64_t position, const struct leat_frame *frame,
                  const void *payload)
{
    struct visit *seen = context;
    LEAT_ASSERT(seen->count == 0 || position == seen->next_pos);
    fuzz_touch(payload, leat_frame_type(frame) == LEAT_FRAME_PAD
                            ? 0
                            : frame->length_bytes - LEAT_FRAME_HEADER_BYTES);
    seen->next_pos = position + leat_frame_extent(&seen->shape, position, frame->length_bytes);
    seen->count++;
}

static void check_recovered(const struct leat_storage_log_info *info, const uint8_t *arena,
                            const struct leat_recovered *recovered, bool fits)
{
    uint64_t end = recovered->chain.position;
    LEAT_ASSERT(recovered->durable_pos <= end && recovered->commit_d <= recovered->durable_pos);
    LEAT_ASSERT(recovered->base_pos <= recovered->start_pos && recovered->start_pos <= end);
    LEAT_ASSERT(!leat_chain_in_batch(&recovered->chain));
    LEAT_ASSERT(!(recovered->clean && recovered->damaged) &&
                !(recovered->torn && recovered->damaged));
    if (fits)
        return;
    LEAT_ASSERT(info->log_id < RIG_LOGS && end <= scene.ends[info->log_id]);
    LEAT_ASSERT(memcmp(arena + recovered->horizon_pos,
                       scene.arenas[info->log_id] + recovered->horizon_pos,
                       end - recovered->horizon_pos) == 0);
}

/* True when it was taken into service. `*ret_arena` is to be unmapped after close. */
static bool recover_one(uint32_t index, uint8_t flags, uint8_t **ret_arena, uint64_t *ret_bytes)
{
    struct leat_storage_log_info info;
    struct leat_recovered recovered;
    struct visit seen = {0};
    char error[256] = "";
    LEAT_ASSERT(leat_storage_log_info(storage, index, &info) == LEAT_OK);
    LEAT_ASSERT(info.voted_for == LEAT_VOTED_NONE ||
                (info.voted_for >= 1 && info.voted_for <= scene.rig.format.member_count));
    if (info.arena_bytes > ARENA_BYTES_MAX) /* as on a node without the memory */
        return false;
    *ret_bytes = info.arena_bytes;
    *ret_arena =
        mmap(NULL, info.arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    LEAT_ASSERT(*ret_arena != MAP_FAILED);
    uint64_t published_end = 0;
    struct leat_storage_arena arena = {.bytes = *ret_arena, .published_end = &published_end};
    if ((flags & RECOVERY_ARENAS) && info.log_id < RIG_LOGS && info.arena_bytes == RIG_ARENA) {
        memcpy(*ret_arena, scene.arenas[info.log_id], RIG_ARENA);
        arena.valid = true;
        published_end = scene.ends[info.log_id];
    }
    seen.shape = info.shape;
    int rc = leat_storage_recover(storage, index, &arena, visit, &seen, &recovered, error,
                                  sizeof(error));
    if (rc != LEAT_OK) {
        check_error(error, sizeof(error));
        return false;
    }
    LEAT_ASSERT(seen.count == 0 || seen.next_pos == recovered.chain.position);
    check_recovered(&info, *ret_arena, &recovered, flags & FUZZ_FIT);
    return leat_storage_begin(storage, index, &recovered, &scene.rig.logs[0].arena_id,
                              &scene.rig.boot, false) == LEAT_OK;
}

static void serve(void)
{
    struct leat_storage_event events[8];
    uint64_t incarnation = 0, now_ns = 1;
    if (leat_storage_commit_begin(storage, &incarnation) != LEAT_OK)
        return;
    for (uint32_t i = 1; i < scene.rig.format.member_count; i++) /* whatever pins were found */
        leat_storage_pin_peer(
            storage,
            &(struct leat_peer_pin){.node = {{9}}, .node_id = scene.rig.format.member_ids[i]});
    for (unsigned i = 0; i < 8; i++) {
        now_ns += LEAT_STORAGE_LAZY_NS;
        leat_storage_prepare_step(storage);
        leat_storage_submit(storage, now_ns);
        if (leat_storage_poll(storage, now_ns, events, 8) < 0)
            return;
    }
}

static void start(uint8_t flags)
{
    uint8_t *arenas[LEAT_LOGS_MAX] = {NULL};
    uint64_t arena_bytes[LEAT_LOGS_MAX] = {0};
    char error[256] = "";
    int rc = leat_storage_open(&scene.rig.config, &storage, error, sizeof(error));
    if (rc != LEAT_OK) {
        check_error(error, sizeof(error));
        LEAT_ASSERT(scene_is_untouched(&scene));
        return;
    }
    bool taken = true;
    for (uint32_t i = 0; i < leat_storage_log_count(storage) && taken; i++)
        taken = recover_one(i, flags, &arenas[i], &arena_bytes[i]);
    if (taken)
        serve();
    leat_storage_close(storage);
    for (uint32_t i = 0; i < LEAT_LOGS_MAX; i++) {
        if (arenas[i])
            munmap(arenas[i], arena_bytes[i]);
    }
}

static void look_line(void *context, const char *line)
{
    unsigned *lines = context;
    fuzz_touch(line, strlen(line));
    LEAT_ASSERT(!strchr(line, '\n') && ++*lines < LINES_MAX);
}

/* Both only read, and come to an end. */
static void look(void)
{
    const unsigned what = LEAT_INSPECT_IDENTITY | LEAT_INSPECT_VOTES | LEAT_INSPECT_JOURNAL |
                          LEAT_INSPECT_SEGMENTS | LEAT_INSPECT_FRAMES;
    struct leat_digest digest;
    char error[256] = "";
    unsigned lines = 0;
    if (leat_inspect(scene.rig.directory, what, look_line, &lines, error, sizeof(error)) != LEAT_OK)
        check_error(error, sizeof(error));
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        if (leat_verify_log(scene.rig.directory, i, &digest, error, sizeof(error)) != LEAT_OK)
            check_error(error, sizeof(error));
    }
    LEAT_ASSERT(scene_is_untouched(&scene));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    uint8_t flags = fuzz_u8(&input);
    if (scene.file_count == 0) {
        scene_make(&scene);
        atexit(scene_end);
    }
    for (unsigned i = 0; i < PATCHES_MAX && input.left > 0; i++)
        patch_draw(&input);
    if (flags & FUZZ_FIT)
        scene_fit(&scene, flags & FUZZ_FIT_RULES);
    if (flags & RECOVERY_LOOK)
        look();
    start(flags);
    scene_restore(&scene);
    return 0;
}
