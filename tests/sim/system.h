/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated operating system under the real programs. The executable is linked with
 * --wrap=SYMBOL for every libc function that the product calls and that touches time, threads,
 * files, sockets or memory (wraps.txt), so the product's own archives run unchanged: a node is
 * leat_node_run() with all its threads, a client is libleat.
 *
 *   thread.c   processes, threads (stacks that are switched between; only blocking calls yield)
 *   memory.c   malloc and mmap: a killed process leaves nothing behind
 *   files.c    the file system: names and pages, as programs see them and as a power cut leaves
 * them calls.c    the file calls; sockets.c: the control socket's; clock.c: time and chance
 *
 * A host has a disk, a tmpfs, a clock and a boot id. A process lives on a host.
 */
#ifndef LEAT_SIM_SYSTEM_H
#define LEAT_SIM_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/uuid.h"
#include "world.h"

/* ---- hosts ---- */

#define SIM_HOSTS_MAX 8u

struct sim_host {
    unsigned number; /* of its node, from 0 */
    struct leat_uuid boot;
    int64_t rate_ppm; /* its monotonic clock gains or loses */
    uint64_t rate_from_ns, rate_base_ns;
    int64_t realtime_offset_ns;
    bool disk_full;
    uint64_t flush_ns; /* mean of a flush */
    uint32_t flush_error_ppm;
    uint32_t misdirect_ppm;   /* writes of segments that land elsewhere */
    uint32_t rewrite_ppm;     /* writes of segments that are lost where something lay before */
    uint32_t rewrite_run_ppm; /* of the next such one of the segment, after one that was lost */
    uint32_t read_error_ppm;
    uint64_t stuck_until_ns; /* its disk does nothing until then */
};

uint64_t host_monotonic_ns(const struct sim_host *host);
/* Its clock gains or loses so much from now on. */
void host_set_rate(struct sim_host *host, int64_t rate_ppm);
void host_new_boot(struct sim_host *host);

/* ---- processes and threads ---- */

#define SIM_FDS_MAX  512
#define SIM_FD_FIRST 1000

struct sim_thread {
    struct sim_process *process;
    struct sim_thread *next; /* of the process */
    void *stack_pointer;
    uint8_t *stack;
    void *(*entry)(void *context);
    void *context;
    void *result;
    uint64_t ticket; /* of its present wait */
    bool waiting, waking, done;
    bool polling; /* in poll(): looks again whenever a descriptor changed */
    bool idle;    /* a worker without work: goes on when something comes for it */
    bool put_off; /* it was due while its process was paused */
    bool works;   /* it was idle once: a worker's */
    uint64_t stalled_until_ns;
};

struct sim_allocation;
struct sim_mapping;
struct sim_open;
struct leat_disk;
struct leat_port;

struct sim_process {
    struct sim_host *host;
    int pid;
    bool alive, doomed;
    bool would_die;   /* dies_in was set once */
    unsigned dies_in; /* at the so-many-th of its calls that could be its last; 0: it does not */
    bool signaled;    /* SIGTERM is pending */
    bool disk_failed; /* it was told so */
    uint64_t paused_until_ns;
    uint64_t stood_until_ns; /* all of it, or one of its workers */
    struct sim_thread *threads;
    struct sim_allocation *allocations;
    struct sim_mapping *mappings;
    struct leat_disk *disks;
    struct leat_port *ports;
    struct sim_open *opens[SIM_FDS_MAX];
    int fd_high;
    uint64_t lives_since_ns;
    void (*ended)(struct sim_process *process, void *result); /* its first thread returned */
    void (*dying)(struct sim_process *process);               /* its memory is still there */
    void (*killed)(struct sim_process *process);
    void *owner; /* for these */
};

/* Who runs; NULL: the simulator itself. */
extern struct sim_thread *sim_current;

struct sim_process *process_start(struct sim_host *host, void *(*entry)(void *), void *context);
/* As by SIGKILL: nothing of its own code runs any more. What its disks have in flight goes on. In
 * one of its own threads this does not return. */
void process_kill(struct sim_process *process);
void process_signal(struct sim_process *process);
/* Nothing of it runs before then; of one that is paused: the pause ends then instead. */
void process_pause(struct sim_process *process, uint64_t until_ns);
/* One of its workers, the others go on; false: none works yet. */
bool process_stall(struct sim_process *process, uint64_t until_ns);

/* Of the thread that calls. */
void thread_sleep(uint64_t ns);
void thread_wait(uint64_t until_ns); /* until woken, or then */
void thread_yield_point(void);       /* a place to die at, if that is its fate */
void thread_wake(struct sim_thread *thread);
void thread_wake_pollers(void);
void thread_poll_wait(uint64_t until_ns);
/* What its workers look at has changed. */
void process_wake_workers(struct sim_process *process);
/* Is there a process of this number? */
bool process_lives(int pid);

/* ---- memory.c ---- */

void memory_free_all(struct sim_process *process);
void memory_begin(void);        /* once, before the first run */
void *memory_map(size_t bytes); /* zeroed; MAP_FAILED */
void memory_unmap(void *map, size_t bytes);
/* Of a file into a program's memory; NULL: a hole. */
void memory_read(void *to, const void *bytes, size_t count);
/* Nothing may be touched right behind it, nor in it after memory_unmap_guarded(). */
void *memory_map_guarded(size_t bytes);
void memory_unmap_guarded(void *memory, size_t bytes);

/* libc's own, for the simulator. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void __real_free(void *memory);
void *__real_aligned_alloc(size_t alignment, size_t bytes);

/* ---- calls.c: open files ---- */

enum sim_open_kind { OPEN_FILE, OPEN_SOCKET, OPEN_LISTENER, OPEN_EVENT };

/* An open file description: shared by descriptors, and by what a disk holds registered. */
struct sim_open {
    enum sim_open_kind kind;
    unsigned references;
    int flags;
    struct sim_inode *inode; /* FILE */
    uint64_t offset;
    bool locked;
    struct sim_socket *socket;     /* SOCKET */
    struct sim_listener *listener; /* LISTENER */
    uint64_t count;                /* EVENT */
};

struct sim_open *open_new(enum sim_open_kind kind);
struct sim_open *open_hold(struct sim_open *open);
void open_release(struct sim_open *open);
/* Of the process that calls; NULL: no such descriptor. */
struct sim_open *open_of(int fd);
int fd_new(struct sim_open *open); /* takes the reference over */
void process_close_all(struct sim_process *process);
/* Who holds the lock of the file that `open` is of; NULL: nobody. */
const struct sim_open *file_locker(const struct sim_open *open);

/* ---- sockets.c ---- */

void socket_closed(struct sim_open *open);
short socket_ready(const struct sim_open *open);

/* ---- disk.c, port.c: what a killed process leaves in the kernel's hands ---- */

void disk_orphan(struct sim_process *process);
void port_orphan(struct sim_process *process);

#endif
