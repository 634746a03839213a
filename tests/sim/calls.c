/* SPDX-License-Identifier: Apache-2.0
 *
 * The file calls of simulated processes. Only fsync() takes time; a disk that is full, or fails a
 * flush, says so here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/uuid.h"
#include "faults.h"
#include "files.h"

static int refuse(int error_number)
{
    errno = error_number;
    return -1;
}

static int outcome(int error_number)
{
    return error_number == 0 ? 0 : refuse(error_number);
}

/* ---- descriptors ---- */

struct sim_open *open_new(enum sim_open_kind kind)
{
    struct sim_open *open = sim_new(sizeof(*open));
    open->kind = kind;
    open->references = 1;
    return open;
}

struct sim_open *open_hold(struct sim_open *open)
{
    open->references++;
    return open;
}

void open_release(struct sim_open *open)
{
    if (--open->references > 0)
        return;
    if (open->inode) {
        if (open->inode->lock == open)
            open->inode->lock = NULL;
        inode_release(open->inode);
    }
    socket_closed(open);
    __real_free(open);
}

struct sim_open *open_of(int fd)
{
    if (!sim_current || fd < SIM_FD_FIRST || fd >= SIM_FD_FIRST + SIM_FDS_MAX)
        return NULL;
    return sim_current->process->opens[fd - SIM_FD_FIRST];
}

int fd_new(struct sim_open *open)
{
    struct sim_process *process = sim_current->process;
    for (int i = 0; i < SIM_FDS_MAX; i++) {
        if (process->opens[i])
            continue;
        process->opens[i] = open;
        if (i >= process->fd_high)
            process->fd_high = i + 1;
        return SIM_FD_FIRST + i;
    }
    open_release(open);
    return refuse(EMFILE);
}

void process_close_all(struct sim_process *process)
{
    for (int i = 0; i < process->fd_high; i++) {
        struct sim_open *open = process->opens[i];
        process->opens[i] = NULL;
        if (open)
            open_release(open);
    }
    process->fd_high = 0;
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    struct sim_open *open = open_of(fd);
    if (!open)
        return refuse(EBADF);
    sim_current->process->opens[fd - SIM_FD_FIRST] = NULL;
    open_release(open);
    return 0;
}

static struct sim_inode *inode_of(int fd)
{
    struct sim_open *open = open_of(fd);
    return open && open->kind == OPEN_FILE ? open->inode : NULL;
}

/* ---- opening ---- */

/* A file in memory with a line of text, as of /proc. */
static int open_text(const char *text)
{
    struct sim_open *open = open_new(OPEN_FILE);
    open->inode = inode_new(INODE_MEMORY, NULL);
    inode_write(open->inode, text, strlen(text), 0);
    return fd_new(open);
}

static int open_proc(const char *path)
{
    char text[192];
    int number;
    if (sscanf(path, "/proc/self/fd/%d", &number) == 1) {
        struct sim_inode *inode = inode_of(number);
        if (!inode)
            return refuse(ENOENT);
        struct sim_open *open = open_new(OPEN_FILE);
        open->inode = inode_hold(inode);
        open->flags = O_RDONLY;
        return fd_new(open);
    }
    if (!strcmp(path, "/proc/sys/kernel/random/boot_id")) {
        leat_uuid_format(&sim_current->process->host->boot, text);
        strcat(text, "\n");
        return open_text(text);
    }
    if (sscanf(path, "/proc/%d/stat", &number) == 1 && process_lives(number)) {
        snprintf(text, sizeof(text), "%d (leatd) S 1 1 1 0 0 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n",
                 number, number);
        return open_text(text);
    }
    return refuse(ENOENT);
}

int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    struct sim_inode *inode;
    if (!strncmp(path, "/proc/", 6))
        return open_proc(path);
    inode = path_find(path);
    if (!inode && (flags & O_CREAT)) {
        int rc = sim_current->process->host->disk_full && strstr(path, "/data/")
                     ? ENOSPC
                     : path_make(path, INODE_DISK, &inode);
        if (rc != 0)
            return refuse(rc);
    }
    if (!inode)
        return refuse(ENOENT);
    if (inode->kind == INODE_SOCKET)
        return refuse(ENXIO);
    struct sim_open *open = open_new(OPEN_FILE);
    open->inode = inode_hold(inode);
    open->flags = flags & (O_ACCMODE | O_DIRECT);
    if (flags & O_TRUNC)
        inode_truncate(inode, 0);
    return fd_new(open);
}

int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
    (void)name, (void)flags;
    struct sim_open *open = open_new(OPEN_FILE);
    open->inode = inode_new(INODE_MEMORY, NULL);
    open->flags = O_RDWR;
    return fd_new(open);
}

/* ---- bytes ---- */

ssize_t __wrap_pread64(int fd, void *to, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t bytes, off_t offset)
{
    struct sim_inode *inode = inode_of(fd);
    if (!inode)
        return refuse(EBADF);
    if (inode->of_log && world_chance(STREAM_DISK, inode->host->read_error_ppm / 8)) {
        fault_counts.read_error++;
        return refuse(EIO);
    }
    return (ssize_t)inode_read(inode, to, bytes, (uint64_t)offset);
}

ssize_t __wrap_pwrite64(int fd, const void *from, size_t bytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *from, size_t bytes, off_t offset)
{
    struct sim_inode *inode = inode_of(fd);
    if (!inode)
        return refuse(EBADF);
    thread_yield_point();
    if (inode->kind == INODE_DISK && inode->host->disk_full &&
        (uint64_t)offset + bytes > inode->medium_bytes)
        return refuse(ENOSPC);
    inode_write(inode, from, bytes, (uint64_t)offset);
    return (ssize_t)bytes;
}

ssize_t __real_write(int fd, const void *from, size_t bytes);
ssize_t __wrap_write(int fd, const void *from, size_t bytes);
ssize_t __wrap_write(int fd, const void *from, size_t bytes)
{
    struct sim_open *open = open_of(fd);
    if (!sim_current)
        return __real_write(fd, from, bytes);
    if (fd == STDERR_FILENO) {
        world_trace("%.*s", (int)bytes - 1, (const char *)from);
        return (ssize_t)bytes;
    }
    if (!open || (open->kind != OPEN_FILE && open->kind != OPEN_EVENT))
        return refuse(EBADF);
    if (open->kind == OPEN_EVENT) {
        open->count++;
        thread_wake_pollers();
    } else {
        inode_write(open->inode, from, bytes, open->offset);
        open->offset += bytes;
    }
    return (ssize_t)bytes;
}

ssize_t __wrap_read(int fd, void *to, size_t bytes);
ssize_t __wrap_read(int fd, void *to, size_t bytes)
{
    struct sim_open *open = open_of(fd);
    if (!open || (open->kind != OPEN_FILE && open->kind != OPEN_EVENT))
        return refuse(EBADF);
    if (open->kind == OPEN_EVENT) {
        if (open->count == 0)
            return refuse(EAGAIN);
        memcpy(to, &open->count, sizeof(open->count));
        open->count = 0;
        return sizeof(open->count);
    }
    uint64_t got = inode_read(open->inode, to, bytes, open->offset);
    open->offset += got;
    return (ssize_t)got;
}

int __wrap_ftruncate64(int fd, off_t bytes);
int __wrap_ftruncate64(int fd, off_t bytes)
{
    struct sim_inode *inode = inode_of(fd);
    if (!inode)
        return refuse(EBADF);
    inode_truncate(inode, (uint64_t)bytes);
    return 0;
}

static int reserve(int fd)
{
    struct sim_inode *inode = inode_of(fd);
    if (!inode)
        return EBADF;
    return inode->kind == INODE_DISK && inode->host->disk_full ? ENOSPC : 0;
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
    (void)mode, (void)offset, (void)bytes;
    return outcome(reserve(fd));
}

int __wrap_posix_fallocate64(int fd, off_t offset, off_t bytes);
int __wrap_posix_fallocate64(int fd, off_t offset, off_t bytes)
{
    (void)offset, (void)bytes;
    return reserve(fd);
}

/* A failed flush is said once; what it should have made durable is lost in the next power cut or is
 * not, as before. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    struct sim_inode *inode = inode_of(fd);
    struct sim_host *host = sim_current->process->host;
    if (!inode)
        return refuse(EBADF);
    if (!inode->host) /* tmpfs */
        return 0;
    do
        thread_sleep(world_exponential(STREAM_DISK, host->flush_ns) + 1);
    while (host->stuck_until_ns > world.now_ns);
    if (world_chance(STREAM_DISK, host->flush_error_ppm)) {
        fault_counts.flush_error++;
        return refuse(EIO);
    }
    inode_flush(inode);
    return 0;
}

/* ---- names ---- */

static void stat_fill(const struct sim_inode *inode, struct stat64 *status)
{
    static const mode_t modes[] = {[INODE_DIRECTORY] = S_IFDIR | 0700,
                                   [INODE_DISK] = S_IFREG | 0600,
                                   [INODE_MEMORY] = S_IFREG | 0600,
                                   [INODE_SOCKET] = S_IFSOCK | 0600};
    memset(status, 0, sizeof(*status));
    status->st_mode = modes[inode->kind];
    status->st_size = (off_t)inode->bytes;
    status->st_ino = inode->number;
    status->st_uid = geteuid();
    status->st_dev = inode->host ? inode->host->number + 1 : 0;
}

int __wrap_stat64(const char *path, struct stat64 *status);
int __wrap_stat64(const char *path, struct stat64 *status)
{
    const struct sim_inode *inode = path_find(path);
    if (!inode)
        return refuse(ENOENT);
    stat_fill(inode, status);
    return 0;
}

int __wrap_lstat64(const char *path, struct stat64 *status);
int __wrap_lstat64(const char *path, struct stat64 *status)
{
    return __wrap_stat64(path, status);
}

int __wrap_fstat64(int fd, struct stat64 *status);
int __wrap_fstat64(int fd, struct stat64 *status)
{
    const struct sim_inode *inode = inode_of(fd);
    if (!inode)
        return refuse(EBADF);
    stat_fill(inode, status);
    return 0;
}

int __wrap_statfs64(const char *path, struct statfs64 *fs);
int __wrap_statfs64(const char *path, struct statfs64 *fs)
{
    memset(fs, 0, sizeof(*fs));
    fs->f_type = strstr(path, "/data") ? EXT4_SUPER_MAGIC : TMPFS_MAGIC;
    return 0;
}

int __wrap_statvfs64(const char *path, struct statvfs64 *fs);
int __wrap_statvfs64(const char *path, struct statvfs64 *fs)
{
    (void)path;
    memset(fs, 0, sizeof(*fs));
    return 0;
}

int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    struct sim_inode *inode;
    (void)mode;
    thread_yield_point();
    return outcome(path_make(path, INODE_DIRECTORY, &inode));
}

int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    thread_yield_point();
    return outcome(path_remove(path, false));
}

int __wrap_rmdir(const char *path);
int __wrap_rmdir(const char *path)
{
    thread_yield_point();
    return outcome(path_remove(path, true));
}

int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    thread_yield_point();
    return outcome(path_rename(from, to));
}

int __wrap_chmod(const char *path, mode_t mode);
int __wrap_chmod(const char *path, mode_t mode)
{
    (void)mode;
    return path_find(path) ? 0 : refuse(ENOENT);
}

int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
    (void)mode;
    return open_of(fd) ? 0 : refuse(EBADF);
}

/* Seals are promised, not kept: who breaks them is not simulated. */
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
    const struct sim_open *open = open_of(fd);
    if (!open)
        return refuse(EBADF);
    return command == F_GETFL ? open->flags : 0;
}

int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
    struct sim_open *open = open_of(fd);
    struct sim_inode *inode = inode_of(fd);
    if (!open || !inode)
        return refuse(EBADF);
    if (operation & LOCK_UN) {
        if (inode->lock == open)
            inode->lock = NULL;
        return 0;
    }
    if (inode->lock && inode->lock != open)
        return refuse(EWOULDBLOCK);
    inode->lock = open;
    return 0;
}

const struct sim_open *file_locker(const struct sim_open *open)
{
    return open->inode->lock;
}

struct directory {
    struct sim_inode *inode;
    uint32_t count, next;
    struct dirent64 entry;
    char names[][SIM_NAME_BYTES];
};

/* What it held when it was opened: entries that come or go meanwhile are not seen. */
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    struct sim_inode *inode = path_find(path);
    if (!inode || inode->kind != INODE_DIRECTORY) {
        errno = inode ? ENOTDIR : ENOENT;
        return NULL;
    }
    struct directory *directory = sim_new(sizeof(*directory) + inode->entry_count * SIM_NAME_BYTES);
    directory->count = inode->entry_count;
    for (uint32_t i = 0; i < inode->entry_count; i++)
        memcpy(directory->names[i], inode->entries[i].name, SIM_NAME_BYTES);
    return (DIR *)directory;
}

struct dirent64 *__wrap_readdir64(DIR *stream);
struct dirent64 *__wrap_readdir64(DIR *stream)
{
    struct directory *directory = (struct directory *)stream;
    if (directory->next == directory->count)
        return NULL;
    memcpy(directory->entry.d_name, directory->names[directory->next++], SIM_NAME_BYTES);
    return &directory->entry;
}

int __wrap_closedir(DIR *stream);
int __wrap_closedir(DIR *stream)
{
    __real_free(stream);
    return 0;
}
