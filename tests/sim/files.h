/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated file system. Below "/n<host>/data" lies a host's disk: what is not flushed may be
 * lost in a power cut, page by page and name by name; elsewhere is tmpfs, gone with the power.
 * Contents of a disk's file are pages, each as programs see it and, while it differs, as it is on
 * the medium. Files of tmpfs are plain memory, which is also what is mapped.
 */
#ifndef LEAT_SIM_FILES_H
#define LEAT_SIM_FILES_H

#include "system.h"

#define SIM_PAGE_BYTES   4096u
#define SIM_SECTOR_BYTES 512u
#define SIM_NAME_BYTES   64u

enum inode_kind { INODE_DIRECTORY, INODE_DISK, INODE_MEMORY, INODE_SOCKET };

struct sim_page {
    uint8_t *now;    /* NULL: zeros */
    uint8_t *medium; /* dirty: what a power cut may bring back; NULL: zeros */
    bool dirty;
};

struct sim_entry {
    char name[SIM_NAME_BYTES];
    struct sim_inode *inode;
};

struct sim_inode {
    enum inode_kind kind;
    uint64_t number;
    unsigned references; /* names, opens, mappings, changes of names that are not flushed */
    struct sim_host *host;
    uint64_t bytes, medium_bytes;
    bool of_log;     /* a segment, or on its way to be one */
    bool loses;      /* of a segment: its last write where something lay before was lost */
    uint64_t writes; /* of a journal: complete ones */
    /* DISK */
    struct sim_page *pages;
    uint64_t page_count;
    uint32_t *dirty; /* numbers of pages that may be */
    uint32_t dirty_count, dirty_room;
    /* MEMORY */
    uint8_t *memory;
    uint64_t memory_bytes;
    /* DIRECTORY */
    struct sim_entry *entries;
    uint32_t entry_count, entry_room;
    bool names_kept; /* in the power cut that is being worked out */
    /* SOCKET */
    struct sim_listener *listener;
    struct sim_open *lock; /* who holds flock() */
};

struct sim_inode *inode_hold(struct sim_inode *inode);
void inode_release(struct sim_inode *inode);
struct sim_inode *inode_new(enum inode_kind kind, struct sim_host *host);
void *inode_map(struct sim_inode *inode, uint64_t offset, size_t bytes);

/* Both clip to the file's end (reads) or move it (writes). */
uint64_t inode_read(struct sim_inode *inode, void *to, uint64_t bytes, uint64_t offset);
void inode_write(struct sim_inode *inode, const void *from, uint64_t bytes, uint64_t offset);
/* On the medium too when it returns: O_DIRECT with data sync. */
void inode_write_through(struct sim_inode *inode, const void *from, uint64_t bytes,
                         uint64_t offset);
void inode_truncate(struct sim_inode *inode, uint64_t bytes);
/* What was written, or what happened to a directory's names, is on the medium. */
void inode_flush(struct sim_inode *inode);

/* NULL: nothing there. */
struct sim_inode *path_find(const char *path);
/* These return 0 or an errno value. DISK: MEMORY on a tmpfs. */
int path_make(const char *path, enum inode_kind kind, struct sim_inode **ret_inode);
int path_remove(const char *path, bool directory);
int path_rename(const char *from, const char *to);

/* Does a file hold these bytes, at most FILES_HOLD_MAX of them, on the medium too? */
#define FILES_HOLD_MAX 64u
bool files_hold(const char *path, const void *bytes, size_t count);
/* Any of the host's segments; NULL: there is none. */
struct sim_inode *files_segment(struct sim_host *host);
/* A bit of a segment's file changes, on the medium; false: there is none. */
bool files_rot(struct sim_host *host);

/* The host loses power: its tmpfs is empty, of its disk's unflushed bytes and names some are lost.
 */
void files_power_cut(struct sim_host *host);
/* Its directories, with nothing in them. */
void files_host(struct sim_host *host);
/* Every file of a host is forgotten. */
void files_wipe(struct sim_host *host);

/* image.c: what is on the host's disk now; what was, is again (after a power cut), and the image is
 * used up. */
struct sim_inode *files_image(const struct sim_host *host);
void files_restore(struct sim_host *host, struct sim_inode *image);

#endif
