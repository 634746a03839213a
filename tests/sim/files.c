/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "window.h"

/* A change of a directory's names that a power cut may undo, newest last. */
struct change {
    struct sim_inode *directory;
    char from[SIM_NAME_BYTES], to[SIM_NAME_BYTES]; /* from: of a rename, else empty */
    struct sim_inode *before, *after;              /* what `to` named and names; NULL: nothing */
};

static struct sim_inode *root;
static struct change *changes;
static size_t change_count, change_room;
static uint64_t next_inode = 1;
static uint8_t *free_pages; /* a list through their first words */

/* ---- pages ---- */

static uint8_t *page_take(void)
{
    uint8_t *page = free_pages;
    if (page) {
        memcpy(&free_pages, page, sizeof(free_pages));
        return page;
    }
    page = __real_aligned_alloc(SIM_PAGE_BYTES, 64 * SIM_PAGE_BYTES);
    if (!page)
        abort();
    for (unsigned i = 1; i < 64; i++) {
        memcpy(page + i * SIM_PAGE_BYTES, &free_pages, sizeof(free_pages));
        free_pages = page + i * SIM_PAGE_BYTES;
    }
    return page;
}

static void page_give(uint8_t *page)
{
    if (!page)
        return;
    memcpy(page, &free_pages, sizeof(free_pages));
    free_pages = page;
}

static bool is_zero(const void *bytes, size_t count)
{
    const uint64_t *words = bytes;
    for (size_t i = 0; i < count / 8; i += 8) {
        if (words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] |
            words[i + 6] | words[i + 7])
            return false;
    }
    return true;
}

static void page_put(uint8_t **page, const void *from, uint64_t bytes, uint64_t offset)
{
    bool whole = bytes == SIM_PAGE_BYTES;
    if (whole && is_zero(from, bytes)) {
        page_give(*page);
        *page = NULL;
        return;
    }
    if (!*page) {
        *page = page_take();
        if (!whole)
            memset(*page, 0, SIM_PAGE_BYTES);
    }
    memcpy(*page + offset, from, bytes);
}

/* ---- inodes ---- */

struct sim_inode *inode_new(enum inode_kind kind, struct sim_host *host)
{
    struct sim_inode *inode = sim_new(sizeof(*inode));
    inode->kind = kind;
    inode->host = host;
    inode->number = next_inode++;
    inode->references = 1;
    return inode;
}

struct sim_inode *inode_hold(struct sim_inode *inode)
{
    inode->references++;
    return inode;
}

void inode_release(struct sim_inode *inode)
{
    if (--inode->references > 0)
        return;
    for (uint64_t i = 0; i < inode->page_count; i++) {
        page_give(inode->pages[i].now);
        if (inode->pages[i].dirty)
            page_give(inode->pages[i].medium);
    }
    if (inode->memory)
        memory_unmap_guarded(inode->memory, inode->memory_bytes);
    for (uint32_t i = 0; i < inode->entry_count; i++)
        inode_release(inode->entries[i].inode);
    __real_free(inode->pages);
    __real_free(inode->dirty);
    __real_free(inode->entries);
    __real_free(inode);
}

static void memory_grow(struct sim_inode *inode, uint64_t bytes)
{
    uint64_t room = (bytes + SIM_PAGE_BYTES - 1) & ~(uint64_t)(SIM_PAGE_BYTES - 1);
    if (room <= inode->memory_bytes)
        return;
    uint8_t *memory = memory_map_guarded(room);
    if (memory == MAP_FAILED)
        abort();
    if (inode->memory) {
        memcpy(memory, inode->memory, inode->bytes);
        memory_unmap_guarded(inode->memory, inode->memory_bytes);
    }
    inode->memory = memory;
    inode->memory_bytes = room;
}

void *inode_map(struct sim_inode *inode, uint64_t offset, size_t bytes)
{
    if (inode->kind != INODE_MEMORY || offset + bytes > inode->memory_bytes)
        return NULL;
    return inode->memory + offset;
}

static void pages_grow(struct sim_inode *inode, uint64_t bytes)
{
    uint64_t count = (bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
    if (count <= inode->page_count)
        return;
    if (count < 2 * inode->page_count)
        count = 2 * inode->page_count;
    inode->pages = __real_realloc(inode->pages, count * sizeof(inode->pages[0]));
    if (!inode->pages)
        abort();
    memset(inode->pages + inode->page_count, 0,
           (count - inode->page_count) * sizeof(inode->pages[0]));
    inode->page_count = count;
}

static void page_dirty(struct sim_inode *inode, uint64_t number)
{
    struct sim_page *page = &inode->pages[number];
    if (page->dirty)
        return;
    page->dirty = true;
    page->medium = page->now;
    if (page->now) {
        page->now = page_take();
        memcpy(page->now, page->medium, SIM_PAGE_BYTES);
    }
    if (inode->dirty_count == inode->dirty_room) {
        inode->dirty_room = inode->dirty_room ? 2 * inode->dirty_room : 64;
        inode->dirty = __real_realloc(inode->dirty, inode->dirty_room * sizeof(uint32_t));
        if (!inode->dirty)
            abort();
    }
    inode->dirty[inode->dirty_count++] = (uint32_t)number;
}

static void pages_write(struct sim_inode *inode, const uint8_t *from, uint64_t bytes,
                        uint64_t offset, bool through)
{
    pages_grow(inode, offset + bytes);
    while (bytes > 0) {
        uint64_t number = offset / SIM_PAGE_BYTES, at = offset % SIM_PAGE_BYTES;
        uint64_t count = SIM_PAGE_BYTES - at < bytes ? SIM_PAGE_BYTES - at : bytes;
        struct sim_page *page = &inode->pages[number];
        if (!through)
            page_dirty(inode, number);
        page_put(&page->now, from, count, at);
        if (through && page->dirty)
            page_put(&page->medium, from, count, at);
        from += count;
        offset += count;
        bytes -= count;
    }
}

uint64_t inode_read(struct sim_inode *inode, void *to, uint64_t bytes, uint64_t offset)
{
    if (offset >= inode->bytes)
        return 0;
    uint64_t left = inode->bytes - offset < bytes ? inode->bytes - offset : bytes, total = left;
    if (inode->kind == INODE_MEMORY) {
        memcpy(to, inode->memory + offset, left);
        return total;
    }
    while (left > 0) {
        uint64_t number = offset / SIM_PAGE_BYTES, at = offset % SIM_PAGE_BYTES;
        uint64_t count = SIM_PAGE_BYTES - at < left ? SIM_PAGE_BYTES - at : left;
        const uint8_t *page = number < inode->page_count ? inode->pages[number].now : NULL;
        memory_read(to, page ? page + at : NULL, count);
        to = (uint8_t *)to + count;
        offset += count;
        left -= count;
    }
    return total;
}

void inode_write(struct sim_inode *inode, const void *from, uint64_t bytes, uint64_t offset)
{
    if (inode->kind == INODE_MEMORY) {
        memory_grow(inode, offset + bytes);
        memcpy(inode->memory + offset, from, bytes);
    } else {
        pages_write(inode, from, bytes, offset, false);
    }
    if (offset + bytes > inode->bytes)
        inode->bytes = offset + bytes;
}

void inode_write_through(struct sim_inode *inode, const void *from, uint64_t bytes, uint64_t offset)
{
    pages_write(inode, from, bytes, offset, true);
    if (offset + bytes > inode->bytes)
        inode->bytes = offset + bytes;
    if (offset + bytes > inode->medium_bytes)
        inode->medium_bytes = offset + bytes;
}

void inode_truncate(struct sim_inode *inode, uint64_t bytes)
{
    if (inode->kind == INODE_MEMORY) {
        if (bytes < inode->bytes)
            memset(inode->memory + bytes, 0, inode->bytes - bytes);
        else
            memory_grow(inode, bytes);
    } else {
        uint64_t first = (bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
        for (uint64_t i = first; i < inode->page_count; i++) {
            page_dirty(inode, i);
            page_give(inode->pages[i].now);
            inode->pages[i].now = NULL;
        }
    }
    inode->bytes = bytes;
}

static void changes_keep(struct sim_inode *directory);

void inode_flush(struct sim_inode *inode)
{
    if (inode->kind == INODE_DIRECTORY) {
        changes_keep(inode);
        return;
    }
    for (uint32_t i = 0; i < inode->dirty_count; i++) {
        struct sim_page *page = &inode->pages[inode->dirty[i]];
        page_give(page->medium);
        page->medium = NULL;
        page->dirty = false;
    }
    inode->dirty_count = 0;
    inode->medium_bytes = inode->bytes;
}

/* ---- names ---- */

static struct sim_entry *entry_find(const struct sim_inode *directory, const char *name)
{
    for (uint32_t i = 0; i < directory->entry_count; i++) {
        if (!strcmp(directory->entries[i].name, name))
            return &directory->entries[i];
    }
    return NULL;
}

/* `inode` NULL: the name is removed. References move with the names. */
static void entry_set(struct sim_inode *directory, const char *name, struct sim_inode *inode)
{
    struct sim_entry *entry = entry_find(directory, name);
    struct sim_inode *before = entry ? entry->inode : NULL;
    if (inode)
        inode_hold(inode);
    if (!entry && inode) {
        if (directory->entry_count == directory->entry_room) {
            directory->entry_room = directory->entry_room ? 2 * directory->entry_room : 8;
            directory->entries = __real_realloc(directory->entries,
                                                directory->entry_room * sizeof(struct sim_entry));
            if (!directory->entries)
                abort();
        }
        entry = &directory->entries[directory->entry_count++];
        snprintf(entry->name, sizeof(entry->name), "%s", name);
    }
    if (entry && inode)
        entry->inode = inode;
    else if (entry)
        *entry = directory->entries[--directory->entry_count];
    if (before)
        inode_release(before);
}

/* The directory that `path` lies in, and its last part. */
static struct sim_inode *path_parent(const char *path, char name[SIM_NAME_BYTES])
{
    if (!root)
        root = inode_new(INODE_DIRECTORY, NULL);
    struct sim_inode *at = root;
    for (;;) {
        while (*path == '/')
            path++;
        size_t length = strcspn(path, "/");
        if (length >= SIM_NAME_BYTES)
            return NULL;
        memcpy(name, path, length);
        name[length] = 0;
        path += length;
        if (path[strspn(path, "/")] == 0)
            return at;
        struct sim_entry *entry = entry_find(at, name);
        if (!entry || entry->inode->kind != INODE_DIRECTORY)
            return NULL;
        at = entry->inode;
    }
}

struct sim_inode *path_find(const char *path)
{
    char name[SIM_NAME_BYTES];
    struct sim_inode *parent = path_parent(path, name);
    struct sim_entry *entry = parent ? entry_find(parent, name) : NULL;
    return entry ? entry->inode : NULL;
}

/* ---- changes of names ---- */

static void change_note(struct sim_inode *directory, const char *from, const char *to,
                        struct sim_inode *before, struct sim_inode *after)
{
    if (!directory->host) /* tmpfs */
        return;
    if (change_count == change_room) {
        change_room = change_room ? 2 * change_room : 64;
        changes = __real_realloc(changes, change_room * sizeof(changes[0]));
        if (!changes)
            abort();
    }
    struct change *change = &changes[change_count++];
    *change = (struct change){.directory = inode_hold(directory),
                              .before = before ? inode_hold(before) : NULL,
                              .after = after ? inode_hold(after) : NULL};
    snprintf(change->from, sizeof(change->from), "%s", from);
    snprintf(change->to, sizeof(change->to), "%s", to);
}

static void change_end(struct change *change)
{
    inode_release(change->directory);
    if (change->before)
        inode_release(change->before);
    if (change->after)
        inode_release(change->after);
}

static void changes_keep(struct sim_inode *directory)
{
    size_t kept = 0;
    for (size_t i = 0; i < change_count; i++) {
        if (changes[i].directory == directory)
            change_end(&changes[i]);
        else
            changes[kept++] = changes[i];
    }
    change_count = kept;
}

static void change_undo(const struct change *change)
{
    entry_set(change->directory, change->to, change->before);
    if (change->from[0])
        entry_set(change->directory, change->from, change->after);
}

int path_make(const char *path, enum inode_kind kind, struct sim_inode **ret_inode)
{
    char name[SIM_NAME_BYTES];
    struct sim_inode *parent = path_parent(path, name);
    if (!parent)
        return ENOENT;
    if (entry_find(parent, name))
        return EEXIST;
    if (kind == INODE_DISK && !parent->host)
        kind = INODE_MEMORY;
    struct sim_inode *inode = inode_new(kind, parent->host);
    inode->of_log = parent->of_log || !strncmp(name, "log-", 4);
    entry_set(parent, name, inode);
    change_note(parent, "", name, NULL, inode);
    inode_release(inode); /* the name holds it */
    *ret_inode = inode;
    return 0;
}

int path_remove(const char *path, bool directory)
{
    char name[SIM_NAME_BYTES];
    struct sim_inode *parent = path_parent(path, name);
    struct sim_entry *entry = parent ? entry_find(parent, name) : NULL;
    if (!entry)
        return ENOENT;
    if (directory != (entry->inode->kind == INODE_DIRECTORY))
        return directory ? ENOTDIR : EISDIR;
    if (directory && entry->inode->entry_count > 0)
        return ENOTEMPTY;
    change_note(parent, "", name, entry->inode, NULL);
    entry_set(parent, name, NULL);
    return 0;
}

int path_rename(const char *from, const char *to)
{
    char from_name[SIM_NAME_BYTES], to_name[SIM_NAME_BYTES];
    struct sim_inode *parent = path_parent(from, from_name);
    struct sim_entry *entry = parent ? entry_find(parent, from_name) : NULL;
    if (!entry)
        return ENOENT;
    if (path_parent(to, to_name) != parent)
        return EXDEV; /* nothing of ours moves between directories */
    struct sim_inode *inode = entry->inode;
    struct sim_entry *target = entry_find(parent, to_name);
    if (target && target->inode->kind == INODE_DIRECTORY && target->inode->entry_count > 0)
        return ENOTEMPTY;
    change_note(parent, from_name, to_name, target ? target->inode : NULL, inode);
    entry_set(parent, to_name, inode);
    entry_set(parent, from_name, NULL);
    return 0;
}

/* ---- power ---- */

/* Of a directory's changes the newest ones may be lost, however many. */
static void names_cut(struct sim_host *host)
{
    for (size_t i = change_count; i-- > 0;) {
        struct sim_inode *directory = changes[i].directory;
        if (directory->host != host || directory->names_kept)
            continue;
        directory->names_kept = world_chance(STREAM_DISK, 500000);
        if (!directory->names_kept)
            change_undo(&changes[i]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < change_count; i++) {
        changes[i].directory->names_kept = false;
        if (changes[i].directory->host == host)
            change_end(&changes[i]);
        else
            changes[kept++] = changes[i];
    }
    change_count = kept;
}

static void page_cut(struct sim_page *page)
{
    static const uint8_t zeros[SIM_SECTOR_BYTES];
    for (unsigned at = 0; at < SIM_PAGE_BYTES; at += SIM_SECTOR_BYTES) {
        if (world_chance(STREAM_DISK, 500000))
            page_put(&page->now, page->medium ? page->medium + at : zeros, SIM_SECTOR_BYTES, at);
    }
    page_give(page->medium);
    page->medium = NULL;
    page->dirty = false;
}

static void inode_cut(struct sim_inode *inode)
{
    if (inode->kind == INODE_DIRECTORY) {
        for (uint32_t i = 0; i < inode->entry_count; i++)
            inode_cut(inode->entries[i].inode);
        return;
    }
    for (uint32_t i = 0; i < inode->dirty_count; i++)
        page_cut(&inode->pages[inode->dirty[i]]);
    inode->dirty_count = 0;
    if (inode->medium_bytes < inode->bytes && world_chance(STREAM_DISK, 500000))
        inode->bytes = inode->medium_bytes;
    inode->medium_bytes = inode->bytes;
}

static void files_forget(struct sim_host *host, bool disk)
{
    char path[32];
    snprintf(path, sizeof(path), "/n%u", host->number);
    struct sim_inode *top = path_find(path);
    for (uint32_t i = top ? top->entry_count : 0; i-- > 0;) {
        char name[SIM_NAME_BYTES];
        memcpy(name, top->entries[i].name, sizeof(name));
        if (disk || strcmp(name, "data"))
            entry_set(top, name, NULL);
    }
}

void files_power_cut(struct sim_host *host)
{
    char path[32];
    snprintf(path, sizeof(path), "/n%u/data", host->number);
    names_cut(host);
    struct sim_inode *disk = path_find(path);
    if (disk)
        inode_cut(disk);
    files_forget(host, false);
}

void files_host(struct sim_host *host)
{
    char path[32];
    struct sim_inode *directory;
    snprintf(path, sizeof(path), "/n%u", host->number);
    if (!path_find(path))
        path_make(path, INODE_DIRECTORY, &directory);
    snprintf(path, sizeof(path), "/n%u/data", host->number);
    if (path_make(path, INODE_DIRECTORY, &directory) == 0)
        directory->host = host;
}

void files_wipe(struct sim_host *host)
{
    files_power_cut(host); /* so that no change of names outlives it */
    files_forget(host, true);
    files_host(host);
}

bool files_hold(const char *path, const void *bytes, size_t count)
{
    const struct sim_inode *inode = path_find(path);
    uint8_t seam[2 * FILES_HOLD_MAX];
    size_t before = 0; /* the end of the page before, which may begin what is looked for */
    for (uint64_t i = 0; inode && i < inode->page_count; i++) {
        const struct sim_page *page = &inode->pages[i];
        if (!page->now || page->dirty) {
            before = 0;
            continue;
        }
        memcpy(seam + before, page->now, count - 1);
        if (memmem(seam, before + count - 1, bytes, count) ||
            memmem(page->now, SIM_PAGE_BYTES, bytes, count))
            return true;
        before = count - 1;
        memcpy(seam, page->now + SIM_PAGE_BYTES - before, before);
    }
    return false;
}

/* ---- rot ---- */

struct segments {
    struct sim_inode *found; /* one of those seen, each as likely */
    uint64_t seen;
};

static void segments_walk(struct sim_inode *directory, struct segments *segments)
{
    for (uint32_t i = 0; i < directory->entry_count; i++) {
        struct sim_inode *inode = directory->entries[i].inode;
        if (inode->kind == INODE_DIRECTORY)
            segments_walk(inode, segments);
        else if (inode->of_log && inode->page_count > 0 &&
                 world_draw(STREAM_FAULTS, ++segments->seen) == 0)
            segments->found = inode;
    }
}

struct sim_inode *files_segment(struct sim_host *host)
{
    struct segments segments = {0};
    char path[32];
    snprintf(path, sizeof(path), "/n%u/data", host->number);
    struct sim_inode *disk = path_find(path);
    if (disk)
        segments_walk(disk, &segments);
    return segments.found;
}

bool files_rot(struct sim_host *host)
{
    struct sim_inode *segment = files_segment(host);
    for (unsigned tries = 0; segment && tries < 16; tries++) {
        uint64_t number = world_draw(STREAM_FAULTS, segment->page_count);
        struct sim_page *page = &segment->pages[number];
        if (!page->now || page->dirty ||
            window_has(segment, number * SIM_PAGE_BYTES, SIM_PAGE_BYTES))
            continue;
        page->now[world_draw(STREAM_FAULTS, SIM_PAGE_BYTES)] ^=
            (uint8_t)(1u << world_draw(STREAM_FAULTS, 8));
        world_trace("a bit changes in block %lu of a segment of node %u", (unsigned long)number,
                    host->number + 1);
        return true;
    }
    return false;
}
