/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands between a node and its libraries (LD_PRELOAD): counts the calls by which it changes
 * its disk and kills it at one of them; cuts writes short, refuses submissions, answers EAGAIN and
 * lets completions overtake each other; tells it another time of day.
 *
 * A page of words, a file named by LEAT_FAULTCALLS that the rig (faultcalls.py) maps too, says what
 * to do and counts what was done. The words' order is faultcalls.py's. Shares are per million.
 *
 * A write that was cut short is a real one: the kernel gets the shorter request. EAGAIN is said of
 * what was done: to do it again must do no harm.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"

#define PAGE_BYTES   4096
#define SECTOR_BYTES 512u
#define MILLION      1000000u

struct page {
    _Atomic uint64_t calls;       /* that change the disk, submissions included */
    _Atomic uint64_t submits;     /* submissions */
    _Atomic uint64_t kill_call;   /* the number of the call that is the last; 0: none */
    _Atomic uint64_t kill_submit; /* likewise of the submission */
    _Atomic uint64_t kill_after;  /* it is done, and then the process dies */
    _Atomic uint64_t killed;
    _Atomic uint64_t short_share; /* of writes */
    _Atomic uint64_t shortened;
    _Atomic uint64_t refuse_share; /* of submissions */
    _Atomic uint64_t refused;
    _Atomic uint64_t again_share; /* of completions */
    _Atomic uint64_t again;
    _Atomic uint64_t swap_share; /* of submissions when two requests are under way */
    _Atomic uint64_t swapped;
    _Atomic int64_t realtime_ns;    /* what is added to the time of day */
    _Atomic uint64_t realtime_told; /* answers that were changed so */
};

static struct page *page;
static _Thread_local struct leat_rng rng;

__attribute__((constructor)) static void calls_begin(void)
{
    const char *path = getenv("LEAT_FAULTCALLS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at =
        fd < 0 ? MAP_FAILED : mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        perror("faultcalls: LEAT_FAULTCALLS");
        _exit(2);
    }
    close(fd);
    page = at;
}

/* The function of that name that would have been called. */
static void *calls_real(const char *name)
{
    void *real = dlsym(RTLD_NEXT, name);
    if (!real)
        abort();
    return real;
}

static bool calls_chance(_Atomic uint64_t *share)
{
    uint64_t wanted = atomic_load_explicit(share, memory_order_relaxed);
    if (wanted == 0)
        return false;
    if (rng.state == 0)
        rng.state = (uint64_t)(uintptr_t)&rng ^ (uint64_t)getpid() << 32;
    return leat_rng_below(&rng, MILLION) < wanted;
}

static void calls_die(void)
{
    atomic_fetch_add(&page->killed, 1);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Returns whether the process ends after the call. */
static bool calls_count(bool submission)
{
    uint64_t call = atomic_fetch_add(&page->calls, 1) + 1;
    uint64_t submit = submission ? atomic_fetch_add(&page->submits, 1) + 1 : 0;
    uint64_t kill_call = atomic_load(&page->kill_call);
    uint64_t kill_submit = atomic_load(&page->kill_submit);
    bool last = (kill_call && call >= kill_call) || (kill_submit && submit >= kill_submit);
    if (last && !atomic_load(&page->kill_after))
        calls_die();
    return last;
}

#define CHANGES_THE_DISK(type, name, parameters, arguments)                                        \
    __attribute__((visibility("default"))) type name parameters                                    \
    {                                                                                              \
        static type(*real) parameters;                                                             \
        bool last = calls_count(false);                                                            \
        if (!real)                                                                                 \
            *(void **)&real = calls_real(#name);                                                   \
        type result = real arguments;                                                              \
        if (last)                                                                                  \
            calls_die();                                                                           \
        return result;                                                                             \
    }

CHANGES_THE_DISK(ssize_t, pwrite, (int fd, const void *bytes, size_t length, off_t offset),
                 (fd, bytes, length, offset))
CHANGES_THE_DISK(int, fsync, (int fd), (fd))
CHANGES_THE_DISK(int, ftruncate, (int fd, off_t length), (fd, length))
CHANGES_THE_DISK(int, fallocate, (int fd, int mode, off_t offset, off_t length),
                 (fd, mode, offset, length))
CHANGES_THE_DISK(int, posix_fallocate, (int fd, off_t offset, off_t length), (fd, offset, length))
CHANGES_THE_DISK(int, rename, (const char *from, const char *to), (from, to))
CHANGES_THE_DISK(int, unlink, (const char *path), (path))
CHANGES_THE_DISK(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
CHANGES_THE_DISK(int, mkdir, (const char *path, mode_t mode), (path, mode))

/* ---- io_uring ---- */

static void requests_shorten(struct io_uring *ring)
{
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];
        bool writes = sqe->opcode == IORING_OP_WRITE || sqe->opcode == IORING_OP_WRITE_FIXED;
        if (!writes || sqe->len <= SECTOR_BYTES || !calls_chance(&page->short_share))
            continue;
        sqe->len = SECTOR_BYTES * (1 + (uint32_t)leat_rng_below(&rng, sqe->len / SECTOR_BYTES - 1));
        atomic_fetch_add(&page->shortened, 1);
    }
}

static struct io_uring_cqe *completion(struct io_uring *ring, unsigned at)
{
    return &ring->cq.cqes[at & ring->cq.ring_mask];
}

static void completions_refuse(struct io_uring *ring)
{
    unsigned end = __atomic_load_n(ring->cq.ktail, __ATOMIC_ACQUIRE);
    for (unsigned i = *ring->cq.khead; i != end; i++) {
        struct io_uring_cqe *cqe = completion(ring, i);
        if (cqe->res <= 0 || !calls_chance(&page->again_share))
            continue;
        cqe->res = -EAGAIN;
        atomic_fetch_add(&page->again, 1);
    }
}

/* The second of two requests is done before the first: waits a while for both, if two are under
 * way. */
static void completions_swap(struct io_uring *ring, int (*get_events)(struct io_uring *))
{
    unsigned first = *ring->cq.khead;
    unsigned under_way = __atomic_load_n(ring->sq.khead, __ATOMIC_ACQUIRE) - first;
    if (under_way < 2 || !calls_chance(&page->swap_share))
        return;
    for (unsigned i = 0; i < 20 && io_uring_cq_ready(ring) < 2; i++) {
        get_events(ring);
        usleep(50);
    }
    if (io_uring_cq_ready(ring) < 2)
        return;
    struct io_uring_cqe *one = completion(ring, first), *two = completion(ring, first + 1);
    uint64_t data = one->user_data;
    int32_t res = one->res;
    one->user_data = two->user_data, one->res = two->res;
    two->user_data = data, two->res = res;
    atomic_fetch_add(&page->swapped, 1);
}

__attribute__((visibility("default"))) int io_uring_submit(struct io_uring *ring)
{
    static int (*real)(struct io_uring *), (*get_events)(struct io_uring *);
    if (calls_chance(&page->refuse_share)) {
        atomic_fetch_add(&page->refused, 1);
        return -EAGAIN;
    }
    requests_shorten(ring);
    bool last = calls_count(true);
    if (!real) {
        *(void **)&get_events = calls_real("io_uring_get_events");
        *(void **)&real = calls_real("io_uring_submit");
    }
    int result = real(ring);
    if (last)
        calls_die();
    completions_swap(ring, get_events);
    completions_refuse(ring);
    return result;
}

__attribute__((visibility("default"))) int io_uring_get_events(struct io_uring *ring)
{
    static int (*real)(struct io_uring *);
    if (!real)
        *(void **)&real = calls_real("io_uring_get_events");
    int result = real(ring);
    completions_refuse(ring);
    return result;
}

/* ---- the time of day ---- */

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        *(void **)&real = calls_real("clock_gettime");
    int result = real(clock, ret_time);
    int64_t moved = page ? atomic_load_explicit(&page->realtime_ns, memory_order_relaxed) : 0;
    if (clock != CLOCK_REALTIME || result != 0 || moved == 0)
        return result;
    int64_t now_ns = ret_time->tv_sec * 1000000000 + ret_time->tv_nsec + moved;
    ret_time->tv_sec = now_ns / 1000000000;
    ret_time->tv_nsec = now_ns % 1000000000;
    atomic_fetch_add_explicit(&page->realtime_told, 1, memory_order_relaxed);
    return 0;
}
