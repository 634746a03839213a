/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk that can be told to fail: a file system in user space with one file, /disk, to put a loop
 * device on. It stands between the real file system of a node and memory.
 *
 *   faultdisk --seed S --bytes N MOUNTPOINT
 *
 * Commands on stdin, one a line, each answered by a line on stdout:
 *
 *   set WHAT NUMBER       eio_write, eio_flush, eio_read (per mille), slow_ms (each write and
 *                         flush), late_ms (each flush), stuck (1: no write, no flush ends)
 *   bad OFFSET LENGTH     sectors that cannot be read until they are written
 *   only OFFSET LENGTH    eio_write and eio_read happen there, and nowhere else
 *   rot OFFSET BIT        a bit flips where it lies
 *   move FROM TO LENGTH   bytes that were meant for one place lie at another, too
 *   lie OFFSET LENGTH     writes there are not kept by a flush, though it says so
 *   cut                   the power goes: of what was not flushed each sector is new or old, of
 *                         what was lied about all is old; writes and flushes fail from now on
 *   power                 it is back
 *   clear                 no more faults; bad, rotten and moved sectors stay
 *   counts                one JSON object: what was done how often
 *
 * State: what is not flushed yet is a list of what it replaced, newest last. `lock` guards all;
 * what waits, waits without it. Ends when it is unmounted. Used by tests/chaos (rows D1 to D12).
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"

#define SECTOR     512u
#define RANGES_MAX 256u

enum what {
    EIO_WRITE,
    EIO_FLUSH,
    EIO_READ,
    SLOW_MS,
    LATE_MS,
    STUCK,
    BAD,
    ROT,
    MOVE,
    LIE,
    TORN,
    LOST,
    WHATS
};

static const char *const names[WHATS] = {"eio_write", "eio_flush", "eio_read", "slow_ms",
                                         "late_ms",   "stuck",     "bad",      "rot",
                                         "move",      "lie",       "torn",     "lost"};

struct range {
    uint64_t begin, end;
};

/* What a write replaced: `bytes` lay at `offset`. */
struct replaced {
    struct replaced *older;
    uint64_t offset;
    size_t length;
    bool lied; /* a flush has been told of it */
    uint8_t bytes[];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved_on;
    uint8_t *image;
    uint64_t bytes;
    struct leat_rng rng;
    uint64_t set[WHATS], done[WHATS], writes, flushes;
    struct replaced *volatile_list;
    struct range bad[RANGES_MAX], lies[RANGES_MAX], only[RANGES_MAX];
    unsigned bad_count, lie_count, only_count;
    bool off;
} self = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved_on = PTHREAD_COND_INITIALIZER};

/* ---- faults ---- */

static bool chance(enum what what)
{
    bool hit = self.set[what] && leat_rng_next(&self.rng) % 1000 < self.set[what];
    self.done[what] += hit;
    return hit;
}

static bool touches(const struct range *ranges, unsigned count, uint64_t offset, size_t length)
{
    for (unsigned i = 0; i < count; i++)
        if (offset < ranges[i].end && offset + length > ranges[i].begin)
            return true;
    return false;
}

static bool fails(enum what what, uint64_t offset, size_t length)
{
    return (self.only_count == 0 || touches(self.only, self.only_count, offset, length)) &&
           chance(what);
}

/* A sector that is written can be read again. */
static void mend(uint64_t offset, size_t length)
{
    for (unsigned i = 0; i < self.bad_count; i++) {
        struct range *bad = &self.bad[i];
        if (offset <= bad->begin && offset + length >= bad->end)
            self.bad[i--] = self.bad[--self.bad_count];
    }
}

/* Waits as a slow or stuck disk does; holds the lock before and after. */
static void dawdle(enum what what)
{
    uint64_t ms = self.set[SLOW_MS] + (what == EIO_FLUSH ? self.set[LATE_MS] : 0);
    if (ms) {
        struct timespec rest = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
        self.done[SLOW_MS] += self.set[SLOW_MS] != 0;
        self.done[LATE_MS] += self.set[SLOW_MS] == 0;
        pthread_mutex_unlock(&self.lock);
        nanosleep(&rest, NULL);
        pthread_mutex_lock(&self.lock);
    }
    self.done[STUCK] += self.set[STUCK] != 0;
    while (self.set[STUCK])
        pthread_cond_wait(&self.moved_on, &self.lock);
}

static int remember(uint64_t offset, size_t length)
{
    struct replaced *entry = malloc(sizeof(*entry) + length);
    if (!entry)
        return -ENOMEM;
    *entry = (struct replaced){.older = self.volatile_list, .offset = offset, .length = length};
    memcpy(entry->bytes, self.image + offset, length);
    self.volatile_list = entry;
    return 0;
}

/* What is flushed stays, but for what is lied about. */
static void forget(void)
{
    struct replaced **at = &self.volatile_list;
    while (*at) {
        struct replaced *entry = *at;
        if (touches(self.lies, self.lie_count, entry->offset, entry->length)) {
            self.done[LIE] += !entry->lied;
            entry->lied = true;
            at = &entry->older;
        } else {
            *at = entry->older;
            free(entry);
        }
    }
}

/* Newest first; a sector that is to stay as it is stays so whatever older writes replaced there. */
static void cut(void)
{
    bool *stays = calloc(self.bytes / SECTOR, sizeof(*stays));
    while (self.volatile_list && stays) {
        struct replaced *entry = self.volatile_list;
        bool kept = false, undone = false;
        for (size_t at = 0; at < entry->length; at += SECTOR) {
            uint64_t sector = (entry->offset + at) / SECTOR;
            stays[sector] |= !entry->lied && leat_rng_next(&self.rng) % 2;
            kept |= stays[sector];
            undone |= !stays[sector];
            if (!stays[sector])
                memcpy(self.image + sector * SECTOR, entry->bytes + at, SECTOR);
        }
        self.done[TORN] += kept && undone;
        self.done[LOST] += !kept;
        self.volatile_list = entry->older;
        free(entry);
    }
    free(stays);
    self.off = true;
}

/* ---- the file ---- */

static int disk_getattr(const char *path, struct stat *stat, struct fuse_file_info *info)
{
    (void)info;
    memset(stat, 0, sizeof(*stat));
    bool root = strcmp(path, "/") == 0;
    if (!root && strcmp(path, "/disk") != 0)
        return -ENOENT;
    stat->st_mode = root ? S_IFDIR | 0700 : S_IFREG | 0600;
    stat->st_nlink = root ? 2 : 1;
    stat->st_size = root ? 0 : (off_t)self.bytes;
    return 0;
}

static int disk_open(const char *path, struct fuse_file_info *info)
{
    info->direct_io = 1;
    return strcmp(path, "/disk") == 0 ? 0 : -ENOENT;
}

static bool within(off_t offset, size_t length)
{
    return offset >= 0 && (uint64_t)offset <= self.bytes && length <= self.bytes - (uint64_t)offset;
}

static int disk_read(const char *path, char *to, size_t length, off_t offset,
                     struct fuse_file_info *info)
{
    (void)path;
    (void)info;
    if (!within(offset, length))
        return -EINVAL;
    pthread_mutex_lock(&self.lock);
    bool bad = touches(self.bad, self.bad_count, (uint64_t)offset, length);
    self.done[BAD] += bad;
    int rc = bad || fails(EIO_READ, (uint64_t)offset, length) ? -EIO : (int)length;
    if (rc > 0)
        memcpy(to, self.image + offset, length);
    pthread_mutex_unlock(&self.lock);
    return rc;
}

static int disk_write(const char *path, const char *from, size_t length, off_t offset,
                      struct fuse_file_info *info)
{
    (void)path;
    (void)info;
    if (!within(offset, length) || length % SECTOR || (uint64_t)offset % SECTOR)
        return -EINVAL;
    pthread_mutex_lock(&self.lock);
    dawdle(EIO_WRITE);
    self.writes++;
    int rc = self.off || fails(EIO_WRITE, (uint64_t)offset, length) ? -EIO : 0;
    if (rc == 0)
        rc = remember((uint64_t)offset, length);
    if (rc == 0) {
        memcpy(self.image + offset, from, length);
        mend((uint64_t)offset, length);
    }
    pthread_mutex_unlock(&self.lock);
    return rc == 0 ? (int)length : rc;
}

static int disk_flush(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)path;
    (void)data_only;
    (void)info;
    pthread_mutex_lock(&self.lock);
    dawdle(EIO_FLUSH);
    self.flushes++;
    int rc = self.off || chance(EIO_FLUSH) ? -EIO : 0;
    if (rc == 0)
        forget();
    pthread_mutex_unlock(&self.lock);
    return rc;
}

static const struct fuse_operations operations = {.getattr = disk_getattr,
                                                  .open = disk_open,
                                                  .read = disk_read,
                                                  .write = disk_write,
                                                  .fsync = disk_flush};

/* ---- commands ---- */

static void say_counts(void)
{
    uint64_t pending = 0;
    for (const struct replaced *entry = self.volatile_list; entry; entry = entry->older)
        pending++;
    printf("{\"writes\":%" PRIu64 ",\"flushes\":%" PRIu64 ",\"pending\":%" PRIu64, self.writes,
           self.flushes, pending);
    for (int what = 0; what < WHATS; what++)
        printf(",\"%s\":%" PRIu64, names[what], self.done[what]);
    printf("}\n");
}

static bool set(const char *name, uint64_t number)
{
    for (int what = EIO_WRITE; what <= STUCK; what++) {
        if (strcmp(names[what], name) == 0) {
            self.set[what] = number;
            pthread_cond_broadcast(&self.moved_on);
            return true;
        }
    }
    return false;
}

static bool add(struct range *ranges, unsigned *count, uint64_t offset, uint64_t length)
{
    if (*count == RANGES_MAX)
        return false;
    ranges[(*count)++] = (struct range){offset, offset + length};
    return true;
}

static bool harm(const char *what, uint64_t a, uint64_t b, uint64_t length)
{
    if (!within((off_t)a, b < self.bytes ? 1 : 0))
        return false;
    if (strcmp(what, "bad") == 0)
        return add(self.bad, &self.bad_count, a, b);
    if (strcmp(what, "lie") == 0)
        return add(self.lies, &self.lie_count, a, b);
    if (strcmp(what, "only") == 0)
        return add(self.only, &self.only_count, a, b);
    if (strcmp(what, "rot") == 0 && b < 8) {
        self.image[a] ^= (uint8_t)(1u << b);
        self.done[ROT]++;
        return true;
    }
    if (strcmp(what, "move") == 0 && within((off_t)a, length) && within((off_t)b, length)) {
        memmove(self.image + b, self.image + a, length);
        self.done[MOVE]++;
        return true;
    }
    return false;
}

static bool obey(const char *line)
{
    char word[32], name[32];
    uint64_t a = 0, b = 0, c = 0;
    if (sscanf(line, "set %31s %" SCNu64, name, &a) == 2)
        return set(name, a);
    if (sscanf(line, "%31s %" SCNu64 " %" SCNu64 " %" SCNu64, word, &a, &b, &c) >= 3)
        return harm(word, a, b, c);
    if (strcmp(line, "cut\n") == 0) {
        cut();
    } else if (strcmp(line, "power\n") == 0) {
        self.off = false;
    } else if (strcmp(line, "clear\n") == 0) {
        memset(self.set, 0, sizeof(self.set));
        self.lie_count = self.only_count = 0;
        pthread_cond_broadcast(&self.moved_on);
    } else {
        return false;
    }
    return true;
}

static void *listen_to_stdin(void *unused)
{
    char line[160];
    (void)unused;
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        pthread_mutex_lock(&self.lock);
        if (strcmp(line, "counts\n") == 0)
            say_counts();
        else
            puts(obey(line) ? "ok" : "what?");
        pthread_mutex_unlock(&self.lock);
        fflush(stdout);
    }
    return NULL;
}

/* Called when the kernel has answered. */
static void *disk_begin(struct fuse_conn_info *connection, struct fuse_config *config)
{
    pthread_t thread;
    (void)connection;
    (void)config;
    if (pthread_create(&thread, NULL, listen_to_stdin, NULL) != 0)
        abort();
    pthread_detach(thread);
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {{"seed", required_argument, NULL, 's'},
                                                 {"bytes", required_argument, NULL, 'b'},
                                                 {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == 's')
            self.rng.state = strtoull(optarg, NULL, 10);
        else if (option == 'b')
            self.bytes = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    if (optind + 1 != argc || self.bytes == 0 || self.bytes % SECTOR) {
        fprintf(stderr, "usage: faultdisk --seed S --bytes N MOUNTPOINT\n");
        return 2;
    }
    self.image = mmap(NULL, self.bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (self.image == MAP_FAILED) {
        perror("faultdisk");
        return 1;
    }
    char foreground[] = "-f", option_word[] = "-o", threads[] = "max_threads=32";
    char *arguments[] = {argv[0], foreground, option_word, threads, argv[optind], NULL};
    struct fuse_operations with_begin = operations;
    with_begin.init = disk_begin;
    return fuse_main(5, arguments, &with_begin, NULL);
}
