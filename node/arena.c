/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena's file (rules W4, H2): tmpfs, 0600 in a directory 0700, the node's uid. It survives
 * the death of every process; losing it is memory loss. Worker's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "log.h"

/* False: errno says why. */
static bool arena_directory(const char *directory, const struct leat_uuid *node, char *path,
                            size_t path_bytes)
{
    char text[LEAT_UUID_TEXT_BYTES];
    leat_uuid_format(node, text);
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return false;
    snprintf(path, path_bytes, "%s/%s", directory, text);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return false;
    struct stat status;
    if (lstat(path, &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid()) {
        errno = EPERM;
        return false;
    }
    return true;
}

int node_arena_directory(const char *directory, const struct leat_uuid *node, char *path,
                         size_t path_bytes, char *error, unsigned error_bytes)
{
    if (arena_directory(directory, node, path, path_bytes))
        return LEAT_OK;
    snprintf(error, error_bytes, "%s: cannot be made or is not this user's directory: %s",
             directory, strerror(errno));
    return LEAT_ESYSTEM;
}

/* W4: same boot, log, generation and arena as the journal says, of the same shape. */
static bool arena_is_valid(const struct leat_arena_header *header,
                           const struct leat_storage_log_info *info, const struct leat_uuid *boot)
{
    return header->magic == LEAT_ARENA_MAGIC && header->version == LEAT_ARENA_VERSION &&
           header->log_id == info->log_id && header->generation == info->generation &&
           header->arena_bytes == info->arena_bytes &&
           header->segment_bytes == info->shape.segment_bytes &&
           leat_uuid_equal(&header->boot, boot) && leat_uuid_equal(&info->entry.boot, boot) &&
           leat_uuid_equal(&header->log, &info->log) &&
           leat_uuid_equal(&header->arena, &info->entry.arena);
}

void node_arena_reset(struct node_arena *arena, const struct leat_storage_log_info *info,
                      const struct leat_uuid *boot)
{
    struct leat_arena_header *header = arena->header;
    memset(header, 0, sizeof(*header));
    header->version = LEAT_ARENA_VERSION;
    header->log_id = info->log_id;
    header->generation = info->generation;
    header->arena_bytes = info->arena_bytes;
    header->segment_bytes = info->shape.segment_bytes;
    header->entry_bytes_max = info->shape.entry_bytes_max;
    header->flags = info->accepts_replicated ? LEAT_ARENA_ACCEPTS_REPLICATED : 0;
    header->boot = *boot;
    header->log = info->log;
    int rc = leat_uuid_random(&header->arena);
    LEAT_ASSERT(rc == LEAT_OK);
    atomic_thread_fence(memory_order_release);
    header->magic = LEAT_ARENA_MAGIC;
}

int node_arena_open(struct node_arena *arena, const char *directory, const struct leat_uuid *node,
                    const struct leat_storage_log_info *info, const struct leat_uuid *boot,
                    bool *ret_valid, char *error, unsigned error_bytes)
{
    char path[256];
    int rc = node_arena_directory(directory, node, path, sizeof(path), error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    snprintf(arena->path, sizeof(arena->path), "%s/log-%u.arena", path, info->log_id);
    int fd = open(arena->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat status;
    off_t bytes = (off_t)leat_arena_file_bytes(info->arena_bytes);
    if (fd < 0 || fstat(fd, &status) != 0)
        goto failed;
    bool was_whole = status.st_size == bytes;
    if (!was_whole && (ftruncate(fd, 0) != 0 || ftruncate(fd, bytes) != 0))
        goto failed;
    rc = posix_fallocate(fd, 0, bytes); /* a full tmpfs shall say so now, not as SIGBUS */
    if (rc != 0) {
        errno = rc;
        goto failed;
    }
    /* all of it now: a page that is first touched under load costs the worker a fault */
    void *map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED)
        goto failed;
    arena->header = map;
    arena->bytes = (uint8_t *)map + LEAT_ARENA_HEADER_BYTES;
    arena->hints = (uint64_t *)(void *)(arena->bytes + info->arena_bytes);
    arena->arena_bytes = info->arena_bytes;
    arena->descriptor = fd;
    *ret_valid = was_whole && arena_is_valid(arena->header, info, boot);
    return LEAT_OK;
failed:
    snprintf(error, error_bytes, "%s: %s (it needs %lu MiB)", arena->path, strerror(errno),
             (unsigned long)(bytes >> 20));
    if (fd >= 0)
        close(fd);
    return LEAT_ESYSTEM;
}

void node_arena_close(struct node_arena *arena)
{
    if (!arena->header)
        return;
    munmap(arena->header, leat_arena_file_bytes(arena->arena_bytes));
    close(arena->descriptor);
    arena->header = NULL;
}

void node_arena_leadership(struct node_arena *arena, uint32_t term, uint32_t leader_node,
                           enum leat_arena_role role)
{
    struct leat_arena_leadership *to = &arena->header->leadership;
    uint64_t counter = (to->counter + 1) & ~1ull; /* odd: a former life died in between */
    if (counter == to->counter && to->term == term && to->leader_node == leader_node &&
        to->role == (uint64_t)role)
        return;
    __atomic_store_n(&to->counter, counter + 1, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release); /* pairs with the reader's acquire fence */
    __atomic_store_n(&to->term, term, __ATOMIC_RELAXED);
    __atomic_store_n(&to->leader_node, leader_node, __ATOMIC_RELAXED);
    __atomic_store_n(&to->role, (uint64_t)role, __ATOMIC_RELAXED);
    __atomic_store_n(&to->counter, counter + 2, __ATOMIC_RELEASE); /* pairs with its acquire */
}

/* Before bytes below end_pos are laid: what they overwrite is no longer whole (H3). */
void node_arena_horizon(struct node_arena *arena, uint64_t end_pos)
{
    if (end_pos <= arena->arena_bytes)
        return;
    uint64_t horizon =
        (end_pos - arena->arena_bytes + LEAT_FRAME_ALIGN - 1) & ~(uint64_t)(LEAT_FRAME_ALIGN - 1);
    if (horizon <= arena->header->horizon.value)
        return;
    __atomic_store_n(&arena->header->horizon.value, horizon, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release); /* pairs with the reader's acquire fence */
}

static uint64_t *arena_hint(const struct node_arena *arena, uint64_t piece)
{
    return &arena->hints[piece & (leat_arena_hint_count(arena->arena_bytes) - 1)];
}

void node_arena_hint(struct node_arena *arena, uint64_t position)
{
    uint64_t piece = position / LEAT_ARENA_HINT_STEP_BYTES;
    uint64_t *hint = arena_hint(arena, piece);
    if (*hint / LEAT_ARENA_HINT_STEP_BYTES == piece && *hint < position)
        return;                                         /* not the piece's first */
    __atomic_store_n(hint, position, __ATOMIC_RELAXED); /* what it leads to proves itself */
}

void node_arena_unhint(struct node_arena *arena, uint64_t position, uint64_t end_pos)
{
    uint64_t first = position / LEAT_ARENA_HINT_STEP_BYTES;
    for (uint64_t piece = first; piece <= end_pos / LEAT_ARENA_HINT_STEP_BYTES; piece++) {
        uint64_t *hint = arena_hint(arena, piece);
        if (*hint >= position)
            __atomic_store_n(hint, 0, __ATOMIC_RELAXED);
    }
}
