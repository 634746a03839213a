/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/frame.h"
#include "leat/error.h"

#define LARGE_PAGE_BYTES (2u << 20)

int leat_file_open(const char *path, bool writable)
{
    return open(path, (writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
}

int leat_file_create(const char *path)
{
    return open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
}

int leat_file_read(int fd, void *bytes, uint64_t length_bytes, uint64_t offset)
{
    uint64_t done = 0;
    LEAT_ASSERT((uintptr_t)bytes % LEAT_BLOCK_BYTES == 0);
    LEAT_ASSERT(length_bytes % LEAT_BLOCK_BYTES == 0 && offset % LEAT_BLOCK_BYTES == 0);
    while (done < length_bytes) {
        ssize_t got = pread(fd, (char *)bytes + done, length_bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return LEAT_EIO;
        if (got == 0 || got % LEAT_BLOCK_BYTES != 0) { /* the file ends here */
            uint64_t kept = done + (uint64_t)got;
            memset((char *)bytes + kept, 0, length_bytes - kept);
            return LEAT_OK;
        }
        done += (uint64_t)got;
    }
    return LEAT_OK;
}

void leat_file_read_by_blocks(int fd, void *bytes, uint64_t length_bytes, uint64_t offset)
{
    LEAT_ASSERT(length_bytes % LEAT_BLOCK_BYTES == 0);
    for (uint64_t at = 0; at < length_bytes; at += LEAT_BLOCK_BYTES) {
        if (leat_file_read(fd, (char *)bytes + at, LEAT_BLOCK_BYTES, offset + at) != LEAT_OK)
            memset((char *)bytes + at, 0, LEAT_BLOCK_BYTES);
    }
}

int leat_file_write(int fd, const void *bytes, uint64_t length_bytes, uint64_t offset)
{
    uint64_t done = 0;
    LEAT_ASSERT((uintptr_t)bytes % LEAT_BLOCK_BYTES == 0);
    LEAT_ASSERT(length_bytes % LEAT_BLOCK_BYTES == 0 && offset % LEAT_BLOCK_BYTES == 0);
    while (done < length_bytes) {
        ssize_t put =
            pwrite(fd, (const char *)bytes + done, length_bytes - done, (off_t)(offset + done));
        if (put < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (put <= 0)
            return LEAT_EIO;
        done += (uint64_t)put;
    }
    return LEAT_OK;
}

int leat_path_flush(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return LEAT_EIO;
    int rc = fsync(fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc == 0 ? LEAT_OK : LEAT_EIO;
}

int64_t leat_path_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

int leat_directory_list(const char *path, leat_name_visit *each, void *context)
{
    DIR *directory = opendir(path);
    if (!directory)
        return LEAT_ESYSTEM;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (!each(context, entry->d_name))
            break;
    }
    closedir(directory);
    return LEAT_OK;
}

/* The page before the memory says how much was mapped. */
void *leat_block_alloc(uint64_t length_bytes)
{
    LEAT_ASSERT(length_bytes > 0);
    uint64_t bytes = length_bytes + LEAT_BLOCK_BYTES;
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    if (length_bytes >= LARGE_PAGE_BYTES) /* the ring, a segment: spare the page faults */
        madvise(map, bytes, MADV_HUGEPAGE);
    memcpy(map, &bytes, sizeof(bytes));
    return map + LEAT_BLOCK_BYTES;
}

void leat_block_free(void *memory)
{
    if (!memory)
        return;
    uint8_t *map = (uint8_t *)memory - LEAT_BLOCK_BYTES;
    uint64_t bytes;
    memcpy(&bytes, map, sizeof(bytes));
    munmap(map, bytes);
}

int leat_refuse(char *error, unsigned error_bytes, int rc, const char *format, ...)
{
    va_list arguments;
    LEAT_ASSERT(rc < 0);
    va_start(arguments, format);
    if (error && error_bytes > 0)
        vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return rc;
}
