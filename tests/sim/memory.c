/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of simulated processes: each allocation and mapping is on its process' list, so that
 * killing one is as thorough as the kernel is. A shared mapping of a simulated file is the file's
 * own memory. Memory that a process returns or leaves is unmapped or freed, so sanitizers see a
 * late use.
 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "files.h"
#include "state.h"
#include "system.h"

#define MARK 0x6c6c6f632d6d6973ull

/* Lies right before what the program gets. */
struct sim_allocation {
    struct sim_allocation *next, **before;
    void *begin;
    size_t bytes;
    uint64_t pad;
    uint64_t mark;
};

struct sim_mapping {
    struct sim_mapping *next;
    void *address;
    size_t bytes;
    struct sim_inode *inode; /* NULL: anonymous */
};

void *__real_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t bytes);
int __real_madvise(void *address, size_t bytes, int advice);

/* ---- the heap ---- */

/* A run's time goes into page faults otherwise, most of all in a virtual machine: memory is of huge
 * pages, and what is freed is used again. */
#define HUGE_PAGE_BYTES (2u << 20)
#define HEAP_BYTES      (1u << 30) /* of addresses; a run touches some 150 MiB */

static size_t huge_round(size_t bytes)
{
    return (bytes + HUGE_PAGE_BYTES - 1) & ~(size_t)(HUGE_PAGE_BYTES - 1);
}

void *memory_map(size_t bytes)
{
    return __real_mmap64(NULL, huge_round(bytes), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void memory_unmap(void *map, size_t bytes)
{
    __real_munmap(map, huge_round(bytes));
}

/* Clients' rings: made and given up by the hundred in a run, and little of each is touched, so
 * these are of small pages and are used again. Nobody may touch one meanwhile: one in KEPT_GUARD is
 * protected, since that takes longer than all else (the processor's tables are flushed). */
#define SMALL_BYTES_MAX (1u << 20)
#define KEPT_MAX        32u
#define KEPT_GUARD      8u

static struct kept {
    void *map;
    size_t bytes;
    bool guarded;
} kept[KEPT_MAX];
static unsigned kept_count, kept_given;

static void *kept_take(size_t bytes)
{
    for (unsigned i = 0; i < kept_count; i++) {
        struct kept one = kept[i];
        if (one.bytes != bytes ||
            (one.guarded && mprotect(one.map, bytes, PROT_READ | PROT_WRITE) != 0))
            continue;
        kept[i] = kept[--kept_count];
        return memset(one.map, 0, bytes);
    }
    return NULL;
}

static bool kept_give(void *map, size_t bytes)
{
    struct kept one = {map, bytes, kept_given++ % KEPT_GUARD == 0};
    if (bytes > SMALL_BYTES_MAX || kept_count == KEPT_MAX ||
        (one.guarded && mprotect(map, bytes, PROT_NONE) != 0))
        return false;
    kept[kept_count++] = one;
    return true;
}

static size_t guarded_round(size_t bytes)
{
    return bytes > SMALL_BYTES_MAX ? huge_round(bytes)
                                   : (bytes + SIM_PAGE_BYTES - 1) & ~(size_t)(SIM_PAGE_BYTES - 1);
}

/* Ends where nothing may be touched: who goes beyond a client's ring or an arena dies of it. */
void *memory_map_guarded(size_t bytes)
{
    size_t whole = guarded_round(bytes);
    uint8_t *map = kept_take(whole);
    if (!map) {
        map = memory_map(whole + HUGE_PAGE_BYTES);
        if (map == MAP_FAILED || mprotect(map + whole, HUGE_PAGE_BYTES, PROT_NONE) != 0)
            return MAP_FAILED;
        if (bytes > SMALL_BYTES_MAX)
            (void)__real_madvise(map, whole, MADV_HUGEPAGE);
    }
    return map + whole - bytes;
}

void memory_unmap_guarded(void *memory, size_t bytes)
{
    size_t whole = guarded_round(bytes);
    uint8_t *map = (uint8_t *)memory + bytes - whole;
    if (!kept_give(map, whole))
        memory_unmap(map, whole + HUGE_PAGE_BYTES);
}

void memory_begin(void)
{
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, HEAP_BYTES);
    uint8_t *begin = (uint8_t *)huge_round((size_t)sbrk(0));
    __real_free(__real_calloc(1, 1u << 20)); /* now the heap has it all */
    uint8_t *end = sbrk(0);
    if (end > begin)
        (void)__real_madvise(begin, (size_t)(end - begin), MADV_HUGEPAGE);
}

static void *allocation_link(void *begin, size_t head, size_t bytes)
{
    uint8_t *memory = (uint8_t *)begin + head;
    struct sim_allocation *allocation = (void *)(memory - sizeof(*allocation));
    struct sim_allocation **list = &sim_current->process->allocations;
    *allocation = (struct sim_allocation){
        .next = *list, .before = list, .begin = begin, .bytes = bytes, .mark = MARK};
    if (*list)
        (*list)->before = &allocation->next;
    *list = allocation;
    return memory;
}

static void allocation_free(struct sim_allocation *allocation)
{
    *allocation->before = allocation->next;
    if (allocation->next)
        allocation->next->before = allocation->before;
    allocation->mark = 0;
    __real_free(allocation->begin);
}

static struct sim_allocation *allocation_of(void *memory)
{
    struct sim_allocation *allocation = (void *)((uint8_t *)memory - sizeof(*allocation));
    return allocation->mark == MARK ? allocation : NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    if (!sim_current)
        return __real_aligned_alloc(alignment, bytes);
    size_t head = alignment < 64 ? 64 : alignment;
    void *begin = __real_aligned_alloc(head, (head + bytes + head - 1) & ~(head - 1));
    return begin ? allocation_link(begin, head, bytes) : NULL;
}

void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes)
{
    if (!sim_current)
        return __real_calloc(count, bytes);
    void *begin = __real_calloc(1, 64 + count * bytes);
    return begin ? allocation_link(begin, 64, count * bytes) : NULL;
}

/* Never what an earlier owner left: that would differ between two runs of one seed. */
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
    return __wrap_calloc(1, bytes);
}

void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
    struct sim_allocation *allocation = memory ? allocation_of(memory) : NULL;
    if (allocation)
        allocation_free(allocation);
    else
        __real_free(memory); /* a library's own */
}

void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes)
{
    struct sim_allocation *before = memory ? allocation_of(memory) : NULL;
    if (memory && !before)
        return __real_realloc(memory, bytes);
    void *after = __wrap_calloc(1, bytes);
    if (before) {
        memcpy(after, memory, before->bytes < bytes ? before->bytes : bytes);
        allocation_free(before);
    }
    return after;
}

/* ---- mappings ---- */

#define BUFFER_BYTES (4u << 20) /* what is larger is mostly never touched */

/* Each start reads its journal, which is mostly holes, into a buffer of leat_block_alloc() of that
 * size, and writes nothing there but how much it mapped, in the first page: such buffers are used
 * again, only what was read is made zeros again, and holes are not touched. One in KEPT_GUARD is
 * unmapped and, before that, looked through for anything else. */
#define IMAGES_MAX  16u
#define IMAGE_BYTES (LEAT_JOURNAL_BYTES + LEAT_BLOCK_BYTES)

static struct image {
    uint8_t *map; /* NULL: none */
    bool used;
    bool written[IMAGE_BYTES / SIM_PAGE_BYTES];
} images[IMAGES_MAX];
static unsigned images_given;

static struct image *image_at(const void *memory)
{
    const uint8_t *at = memory;
    for (unsigned i = 0; i < IMAGES_MAX; i++) {
        if (images[i].map && at >= images[i].map && at < images[i].map + IMAGE_BYTES)
            return &images[i];
    }
    return NULL;
}

static void *image_take(void)
{
    struct image *place = NULL;
    for (unsigned i = 0; i < IMAGES_MAX; i++) {
        if (!images[i].map)
            place = &images[i];
        if (!images[i].map || images[i].used)
            continue;
        images[i].used = true;
        return images[i].map;
    }
    void *map = memory_map(IMAGE_BYTES);
    if (place && map != MAP_FAILED) {
        place->map = map;
        place->used = true;
    }
    return map;
}

/* True: it is kept. */
static bool image_give(struct image *image)
{
    for (size_t page = 0; page < IMAGE_BYTES / SIM_PAGE_BYTES; page++) {
        if (page == 0 || image->written[page])
            memset(image->map + page * SIM_PAGE_BYTES, 0, SIM_PAGE_BYTES);
        image->written[page] = false;
    }
    image->used = false;
    if (images_given++ % KEPT_GUARD != 0)
        return true;
    if (memcmp(image->map, image->map + 1, IMAGE_BYTES - 1) != 0)
        world_fail("SIM", "a program wrote into the image of its journal");
    image->map = NULL;
    return false;
}

void memory_read(void *to, const void *bytes, size_t count)
{
    struct image *image = image_at(to);
    bool *written =
        image ? &image->written[(size_t)((uint8_t *)to - image->map) / SIM_PAGE_BYTES] : NULL;
    if (bytes && written)
        *written = true; /* what is read into it are whole blocks */
    if (bytes)
        memcpy(to, bytes, count);
    else if (!written || *written)
        memset(to, 0, count);
}

static void *pages_take(size_t bytes)
{
    if (bytes == IMAGE_BYTES && bytes > BUFFER_BYTES)
        return image_take();
    if (bytes > BUFFER_BYTES)
        return memory_map(bytes);
    size_t whole = (bytes + SIM_PAGE_BYTES - 1) & ~(size_t)(SIM_PAGE_BYTES - 1);
    void *pages = __real_aligned_alloc(SIM_PAGE_BYTES, whole);
    return pages ? memset(pages, 0, whole) : MAP_FAILED;
}

static void pages_give(void *pages, size_t bytes)
{
    struct image *image = image_at(pages);
    if (image && image_give(image))
        return;
    if (bytes > BUFFER_BYTES)
        memory_unmap(pages, bytes);
    else
        __real_free(pages);
}

void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (!sim_current)
        return __real_mmap64(address, bytes, protection, flags, fd, offset);
    struct sim_open *open = fd >= 0 ? open_of(fd) : NULL;
    void *map;
    if (fd < 0)
        map = pages_take(bytes);
    else
        map = open && open->kind == OPEN_FILE ? inode_map(open->inode, (uint64_t)offset, bytes)
                                              : NULL;
    if (!map || map == MAP_FAILED) {
        errno = fd < 0 ? ENOMEM : ENODEV;
        return MAP_FAILED;
    }
    struct sim_mapping *mapping = sim_new(sizeof(*mapping));
    *mapping = (struct sim_mapping){.next = sim_current->process->mappings,
                                    .address = map,
                                    .bytes = bytes,
                                    .inode = open ? inode_hold(open->inode) : NULL};
    sim_current->process->mappings = mapping;
    return map;
}

static void mapping_end(struct sim_mapping *mapping)
{
    if (mapping->inode)
        inode_release(mapping->inode);
    else
        pages_give(mapping->address, mapping->bytes);
    __real_free(mapping);
}

int __wrap_munmap(void *address, size_t bytes);
int __wrap_munmap(void *address, size_t bytes)
{
    if (!sim_current)
        return __real_munmap(address, bytes);
    for (struct sim_mapping **at = &sim_current->process->mappings; *at; at = &(*at)->next) {
        struct sim_mapping *mapping = *at;
        if (mapping->address != address || mapping->bytes != bytes)
            continue;
        *at = mapping->next;
        mapping_end(mapping);
        return 0;
    }
    world_fail("SIM", "munmap of what was not mapped");
    return -1;
}

int __wrap_madvise(void *address, size_t bytes, int advice);
int __wrap_madvise(void *address, size_t bytes, int advice)
{
    return advice == MADV_HUGEPAGE ? __real_madvise(address, huge_round(bytes), advice) : 0;
}

void memory_free_all(struct sim_process *process)
{
    while (process->allocations)
        allocation_free(process->allocations);
    while (process->mappings) {
        struct sim_mapping *mapping = process->mappings;
        process->mappings = mapping->next;
        mapping_end(mapping);
    }
}
