/* SPDX-License-Identifier: Apache-2.0
 *
 * Rule V3: the directory's lock. A killed owner's lock is held until its last write is done, as
 * its descriptor sits in the ring's table of files: that wait is bounded and reported. A live
 * owner is refused at once. The file names the owner by process id and start time.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define LOCK_POLL_MS 10u

/* The start time of a process in clock ticks since boot (field 22); 0 when it is gone, or dead
 * and only not collected by its parent yet. */
static uint64_t lock_process_start(long pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got <= 0)
        return 0;
    text[got] = 0;
    char *field = strrchr(text, ')'); /* the name may hold anything */
    if (!field || field[1] != ' ' || strchr("ZXx", field[2]))
        return 0;
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field + 1, NULL, 10) : 0;
}

static bool lock_owner_lives(int fd, long *ret_pid)
{
    char text[64];
    uint64_t start = 0;
    long pid = 0;
    ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
    text[got > 0 ? got : 0] = 0;
    if (sscanf(text, "%ld %" SCNu64, &pid, &start) != 2 || pid <= 0)
        return false;
    *ret_pid = pid;
    return lock_process_start(pid) == start;
}

static void lock_sleep_ms(uint32_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

int lock_take(const char *path, const struct leat_storage_config *config, int *ret_fd, char *error,
              unsigned error_bytes)
{
    char line[160];
    long pid = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return leat_refuse(error, error_bytes, LEAT_EUNFORMATTED,
                           "%s is not formatted: run 'leat format'", config->directory);
    if (fd < 0)
        return leat_refuse(error, error_bytes, LEAT_ESYSTEM, "cannot open %s: %s", path,
                           strerror(errno));
    for (uint32_t waited_ms = 0;; waited_ms += LOCK_POLL_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            break;
        bool lives = lock_owner_lives(fd, &pid);
        if (lives || waited_ms >= config->lock_wait_ms) {
            close(fd);
            return leat_refuse(error, error_bytes, LEAT_EINUSE,
                               lives ? "%s is in use by process %ld: stop it first"
                                     : "%s is locked by the last writes of process %ld: wait",
                               config->directory, pid);
        }
        if (config->progress && waited_ms % 1000 == 0) {
            snprintf(line, sizeof(line), "waiting for the last writes of process %ld (%u s)", pid,
                     waited_ms / 1000);
            config->progress(config->progress_context, line);
        }
        lock_sleep_ms(LOCK_POLL_MS);
    }
    *ret_fd = fd;
    return LEAT_OK;
}

void lock_release(int fd)
{
    LEAT_ASSERT(fd >= 0);
    flock(fd, LOCK_UN);
}

void lock_sign(int fd)
{
    char text[64];
    long pid = (long)getpid();
    int length = snprintf(text, sizeof(text), "%ld %" PRIu64 "\n", pid, lock_process_start(pid));
    LEAT_ASSERT(fd >= 0 && length > 0);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length)
        return; /* only a message gets worse */
}
