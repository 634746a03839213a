/* SPDX-License-Identifier: Apache-2.0
 *
 * storage/disk.h over the simulated files. A request completes after a while, in any order; a write
 * reads its buffer only then, so a program that touches it too early is seen. Requests of a killed
 * process complete all the same, from a copy of its memory, and hold its files (and their locks)
 * until then. In a power cut each sector of a write in flight is old or new.
 */
#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "faults.h"
#include "files.h"
#include "leat/error.h"
#include "state.h"
#include "window.h"

#define FILES_MAX 8u

struct request {
    struct request *next; /* free */
    struct leat_disk *disk;
    struct sim_open *open;
    uint64_t tag;
    uint8_t *bytes;
    uint8_t *copy; /* of a killed process' memory */
    uint64_t offset;
    uint32_t length_bytes;
    bool write, busy;
    uint64_t due_ns;
};

struct leat_disk {
    struct sim_process *process; /* NULL: killed */
    struct leat_disk *next;      /* of the process; or of all that are orphans */
    struct sim_host *host;
    struct sim_thread *waiter; /* in leat_disk_wait() */
    struct sim_open *files[FILES_MAX];
    unsigned file_count;
    struct request requests[LEAT_DISK_DEPTH];
    uint16_t queue[LEAT_DISK_DEPTH];
    unsigned queued, flying;
    struct leat_disk_done done[LEAT_DISK_DEPTH];
    unsigned done_count;
    bool write_failed; /* of those, or of ones that were handed over */
};

struct sim_disk_faults disk_faults;
static struct leat_disk *orphans;

/* ---- opening and closing ---- */

int leat_disk_open(struct leat_disk **ret_disk)
{
    struct leat_disk *disk = sim_new(sizeof(*disk));
    disk->process = sim_current->process;
    disk->host = disk->process->host;
    disk->next = disk->process->disks;
    disk->process->disks = disk;
    *ret_disk = disk;
    return LEAT_OK;
}

static void disk_free(struct leat_disk *disk)
{
    for (unsigned i = 0; i < disk->file_count; i++)
        open_release(disk->files[i]);
    __real_free(disk);
}

static void disk_unlink(struct leat_disk **at, const struct leat_disk *disk)
{
    while (*at != disk)
        at = &(*at)->next;
    *at = disk->next;
}

/* An orphan without requests is gone. */
static void disk_settle(struct leat_disk *disk)
{
    if (disk->flying > 0)
        return;
    disk_unlink(&orphans, disk);
    disk_free(disk);
}

void leat_disk_close(struct leat_disk *disk)
{
    if (!disk)
        return;
    disk_unlink(&disk->process->disks, disk);
    disk->process = NULL;
    disk->next = orphans;
    orphans = disk;
    disk_settle(disk);
}

int leat_disk_register_files(struct leat_disk *disk, const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count && i < FILES_MAX; i++)
        disk->files[disk->file_count++] = open_hold(open_of(fds[i]));
    return LEAT_OK;
}

int leat_disk_register_buffers(struct leat_disk *disk, const struct iovec *buffers, unsigned count)
{
    (void)disk, (void)buffers, (void)count;
    return LEAT_OK;
}

void leat_disk_release_buffer(struct leat_disk *disk, int buffer)
{
    (void)disk, (void)buffer;
}

/* ---- requests ---- */

static void disk_queue(struct leat_disk *disk, const struct request *request,
                       struct leat_disk_file file)
{
    unsigned at = 0;
    while (at < LEAT_DISK_DEPTH && disk->requests[at].busy)
        at++;
    if (at == LEAT_DISK_DEPTH || disk->queued == LEAT_DISK_DEPTH)
        abort(); /* the caller has no more than that */
    struct sim_open *open =
        file.slot != LEAT_DISK_NO_SLOT ? disk->files[file.slot] : open_of(file.fd);
    disk->requests[at] = *request;
    disk->requests[at].disk = disk;
    disk->requests[at].open = open_hold(open);
    disk->requests[at].busy = true;
    disk->queue[disk->queued++] = (uint16_t)at;
}

void leat_disk_write(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file,
                     const void *bytes, uint32_t length_bytes, uint64_t offset, int buffer)
{
    (void)buffer;
    struct request request = {.tag = tag,
                              .bytes = (uint8_t *)(uintptr_t)bytes,
                              .offset = offset,
                              .length_bytes = length_bytes,
                              .write = true};
    if (file.slot == SLOT_VOTES)
        check_vote_write(disk->host->number, disk->files[SLOT_VOTES]->inode, bytes, offset);
    disk_queue(disk, &request, file);
}

void leat_disk_read(struct leat_disk *disk, uint64_t tag, struct leat_disk_file file, void *bytes,
                    uint32_t length_bytes, uint64_t offset)
{
    struct request request = {
        .tag = tag, .bytes = bytes, .offset = offset, .length_bytes = length_bytes};
    disk_queue(disk, &request, file);
}

/* The old content stays (D2): nothing shows by itself that a write is missing. */
static bool rewrite_is_lost(const struct request *request, struct sim_inode *inode)
{
    static uint8_t page[SIM_PAGE_BYTES];
    static const uint8_t zeros[SIM_PAGE_BYTES];
    const struct sim_host *host = request->disk->host;
    if (host->rewrite_ppm == 0)
        return false;
    inode_read(inode, page, sizeof(page), request->offset);
    if (memcmp(page, zeros, sizeof(page)) == 0)
        return false;
    bool in_run = inode->loses && host->rewrite_run_ppm > 0;
    inode->loses = world_chance(STREAM_DISK, in_run ? host->rewrite_run_ppm : host->rewrite_ppm);
    return inode->loses;
}

/* In any other place of the host's segments: a block of theirs is lost, beside the one that it
 * should have been. Behind a file's end, or where something was written just now, it is lost only.
 */
static void write_elsewhere(struct sim_host *host, const void *bytes, uint32_t length)
{
    struct sim_inode *inode = files_segment(host);
    uint64_t offset = world_draw(STREAM_DISK, inode->page_count) * SIM_PAGE_BYTES;
    if (offset + length > inode->bytes || window_has(inode, offset, length))
        return;
    fault_counts.misdirect++;
    world_trace("a write of node %u lands in a wrong place", host->number + 1);
    inode_write_through(inode, bytes, length, offset);
}

/* Where it was asked for, or nowhere, or elsewhere. */
static void segment_write(const struct request *request, const void *bytes, uint32_t length)
{
    struct sim_host *host = request->disk->host;
    struct sim_inode *inode = request->open->inode;
    bool lost =
        rewrite_is_lost(request, inode) || world_chance(STREAM_DISK, host->misdirect_ppm / 2);
    bool elsewhere = !lost && world_chance(STREAM_DISK, host->misdirect_ppm);
    fault_counts.lost_write += lost;
    if (lost)
        world_trace("a write of node %u is lost: [%lu, %lu) of a segment", host->number + 1,
                    (unsigned long)request->offset, (unsigned long)(request->offset + length));
    if (elsewhere)
        write_elsewhere(host, bytes, length);
    else if (!lost)
        inode_write_through(inode, bytes, length, request->offset);
    window_wrote(inode, request->offset, length, request->disk->files[SLOT_JOURNAL]->inode,
                 lost || elsewhere ? bytes : NULL);
}

static void request_write(const struct request *request, uint32_t length)
{
    struct sim_inode *inode = request->open->inode;
    const struct leat_disk *disk = request->disk;
    const void *bytes = request->copy ? request->copy : request->bytes;
    if (inode->of_log && disk->file_count > SLOT_JOURNAL) {
        segment_write(request, bytes, length);
        return;
    }
    inode_write_through(inode, bytes, length, request->offset);
    if (disk->file_count > SLOT_JOURNAL && inode == disk->files[SLOT_JOURNAL]->inode)
        window_recorded(inode);
}

static int64_t request_do(struct request *request)
{
    struct sim_inode *inode = request->open->inode;
    uint32_t length = request->length_bytes;
    if (!request->write && world_chance(STREAM_DISK, request->disk->host->read_error_ppm)) {
        fault_counts.read_error++;
        return -EIO;
    }
    if (!request->write)
        return (int64_t)inode_read(inode, request->bytes, length, request->offset);
    if (world_chance(STREAM_DISK, disk_faults.again_ppm)) {
        fault_counts.again++;
        return -EAGAIN;
    }
    bool in_part = world_chance(STREAM_DISK, disk_faults.short_ppm) && length > SIM_SECTOR_BYTES;
    fault_counts.part += in_part;
    if (in_part)
        length = (uint32_t)world_between(STREAM_DISK, 1, length / SIM_SECTOR_BYTES - 1) *
                 SIM_SECTOR_BYTES;
    bool fails = world_chance(STREAM_DISK, disk_faults.error_ppm);
    fault_counts.write_error += fails;
    if (!fails || world_chance(STREAM_DISK, 500000)) /* a failed write may have been done */
        request_write(request, length);
    return fails ? -EIO : (int64_t)length;
}

static void request_end(struct request *request)
{
    open_release(request->open);
    __real_free(request->copy);
    request->copy = NULL;
    request->busy = false;
}

static void request_event(void *context, uint64_t due_ns)
{
    struct request *request = context;
    struct leat_disk *disk = request->disk;
    if (!request->busy || request->due_ns != due_ns)
        return; /* gone with the power */
    if (disk->host->stuck_until_ns > world.now_ns) {
        request->due_ns = disk->host->stuck_until_ns + world_draw(STREAM_DISK, SIM_MS);
        world_at(request->due_ns, EVENT_DISK, request_event, request, request->due_ns);
        return;
    }
    world.events[EVENT_DISK]++;
    if (!disk->process && request->write && disk->file_count > 0) {
        fault_counts.late_write++;
        check_late_write(disk->files[0]);
    }
    int64_t result = disk->process || request->write ? request_do(request) : 0;
    world_note(request->offset ^ (uint64_t)result);
    request_end(request);
    disk->flying--;
    if (!disk->process) {
        disk_settle(disk);
        return;
    }
    disk->write_failed |= request->write && result < 0 && result != -EAGAIN;
    disk->done[disk->done_count++] = (struct leat_disk_done){request->tag, result};
    if (disk->waiter)
        thread_wake(disk->waiter);
    process_wake_workers(disk->process);
}

/* J2: no sector is the target of two writes at one time. */
static void overlap_look(const struct leat_disk *disk, const struct request *request)
{
    unsigned left = disk->flying;
    for (unsigned i = 0; i < LEAT_DISK_DEPTH && left > 0 && request->write; i++) {
        const struct request *other = &disk->requests[i];
        if (!other->busy || other->due_ns == 0)
            continue;
        left--;
        if (other->write && other->open->inode == request->open->inode &&
            other->offset < request->offset + request->length_bytes &&
            request->offset < other->offset + other->length_bytes)
            world_fail("J2", "node %u writes [%lu, %lu) of a file while [%lu, %lu) is in flight",
                       disk->host->number + 1, (unsigned long)request->offset,
                       (unsigned long)(request->offset + request->length_bytes),
                       (unsigned long)other->offset,
                       (unsigned long)(other->offset + other->length_bytes));
    }
}

int leat_disk_submit(struct leat_disk *disk)
{
    for (unsigned i = 0; i < disk->queued; i++) {
        struct request *request = &disk->requests[disk->queue[i]];
        overlap_look(disk, request);
        request->due_ns = world.now_ns + disk_faults.write_ns +
                          world_exponential(STREAM_DISK, disk_faults.jitter_ns);
        bool is_slow = world_chance(STREAM_DISK, disk_faults.slow_ppm);
        fault_counts.slow += is_slow;
        if (is_slow)
            request->due_ns += world_exponential(STREAM_DISK, disk_faults.slow_ns);
        disk->flying++;
        world_at(request->due_ns, EVENT_DISK, request_event, request, request->due_ns);
    }
    disk->queued = 0;
    thread_yield_point();
    return LEAT_OK;
}

unsigned leat_disk_reap(struct leat_disk *disk, struct leat_disk_done *done, unsigned max)
{
    unsigned count = disk->done_count < max ? disk->done_count : max;
    memcpy(done, disk->done, count * sizeof(*done));
    disk->done_count -= count;
    memmove(disk->done, disk->done + count, disk->done_count * sizeof(*done));
    if (disk->write_failed && disk->done_count == 0)
        check_disk_failed(disk->process);
    return count;
}

int leat_disk_wait(struct leat_disk *disk)
{
    leat_disk_submit(disk);
    disk->waiter = sim_current;
    while (disk->done_count == 0 && disk->flying > 0)
        thread_wait(UINT64_MAX);
    disk->waiter = NULL;
    return LEAT_OK;
}

/* ---- ends ---- */

void disk_orphan(struct sim_process *process)
{
    while (process->disks) {
        struct leat_disk *disk = process->disks;
        process->disks = disk->next;
        for (unsigned i = 0; i < disk->queued; i++)
            request_end(&disk->requests[disk->queue[i]]); /* never handed over */
        disk->queued = 0;
        disk->process = NULL;
        disk->next = orphans;
        orphans = disk;
        for (unsigned i = 0; i < LEAT_DISK_DEPTH; i++) {
            struct request *request = &disk->requests[i];
            if (!request->busy || !request->write)
                continue;
            request->copy = sim_new(request->length_bytes);
            memcpy(request->copy, request->bytes, request->length_bytes);
        }
        disk_settle(disk);
    }
}

/* It was being written when the power went. */
static void sector_spoil(struct request *request, uint32_t at)
{
    uint64_t from = world_draw(STREAM_DISK, SIM_SECTOR_BYTES);
    uint64_t to = world_between(STREAM_DISK, from + 1, SIM_SECTOR_BYTES);
    for (; from < to; from++)
        request->copy[at + from] = (uint8_t)world_draw(STREAM_DISK, 256);
    fault_counts.garbage++;
}

static void request_cut(struct request *request)
{
    fault_counts.torn++;
    for (uint32_t at = 0; at < request->length_bytes; at += SIM_SECTOR_BYTES) {
        bool spoilt = disk_faults.garbage_ppm > 0 &&
                      world_chance(STREAM_DISK, (uint32_t)disk_faults.garbage_ppm);
        if (spoilt)
            sector_spoil(request, at);
        if (spoilt || world_chance(STREAM_DISK, 500000))
            inode_write_through(request->open->inode, request->copy + at, SIM_SECTOR_BYTES,
                                request->offset + at);
    }
}

void disk_power_cut(struct sim_host *host)
{
    window_power_cut(host);
    for (struct leat_disk **at = &orphans; *at;) {
        struct leat_disk *disk = *at;
        if (disk->host != host) {
            at = &disk->next;
            continue;
        }
        for (unsigned i = 0; i < LEAT_DISK_DEPTH; i++) {
            struct request *request = &disk->requests[i];
            if (!request->busy)
                continue;
            if (request->write)
                request_cut(request);
            request->due_ns = 0;
            request_end(request);
        }
        disk->flying = 0;
        *at = disk->next;
        for (unsigned i = 0; i < disk->file_count; i++)
            open_release(disk->files[i]);
        disk->file_count = 0; /* its memory stays: events of its requests are on their way */
    }
}
