/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of a host's disk, kept by an operator and put back by one who knows no better.
 */
#include <stdio.h>
#include <string.h>

#include "files.h"

static struct sim_inode *copy_of(const struct sim_inode *inode)
{
    struct sim_inode *copy = inode_new(inode->kind, inode->host);
    copy->of_log = inode->of_log;
    for (uint64_t i = 0; i < inode->page_count; i++) {
        if (inode->pages[i].now)
            inode_write_through(copy, inode->pages[i].now, SIM_PAGE_BYTES, i * SIM_PAGE_BYTES);
    }
    copy->bytes = copy->medium_bytes = inode->bytes;
    if (inode->entry_count == 0)
        return copy;
    copy->entry_count = copy->entry_room = inode->entry_count;
    copy->entries = __real_calloc(inode->entry_count, sizeof(copy->entries[0]));
    for (uint32_t i = 0; copy->entries && i < inode->entry_count; i++) {
        memcpy(copy->entries[i].name, inode->entries[i].name, SIM_NAME_BYTES);
        copy->entries[i].inode = copy_of(inode->entries[i].inode);
    }
    return copy;
}

static struct sim_inode *disk_of(const struct sim_host *host)
{
    char path[32];
    snprintf(path, sizeof(path), "/n%u/data", host->number);
    return path_find(path);
}

struct sim_inode *files_image(const struct sim_host *host)
{
    return copy_of(disk_of(host));
}

void files_restore(struct sim_host *host, struct sim_inode *image)
{
    files_wipe(host);
    struct sim_inode *disk = disk_of(host);
    disk->entries = image->entries;
    disk->entry_count = image->entry_count;
    disk->entry_room = image->entry_room;
    image->entries = NULL;
    image->entry_count = 0;
    inode_release(image);
}
