/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node's disk does and what survives: writes that read the memory when they complete, in
 * order; the ways to die; recovery as node/boot.c and storage/recover.c do it (W4, W5, W7, V2).
 */
#include "harness.h"

#include <string.h>

#include "base/assert.h"

void disk_add(struct cluster *cluster, struct replica *replica, struct disk_request request)
{
    LEAT_ASSERT(replica->request_count < DISK_QUEUE);
    uint64_t latency = cluster->disk_ns / 2 + leat_rng_below(&cluster->disk_rng, cluster->disk_ns);
    if (cluster->disk_ns > 2000000)
        cluster->injected[INJECTED_SLOW_DISK]++;
    request.done_ns = cluster->by_hand ? UINT64_MAX : cluster->now_ns + latency;
    if (!cluster->by_hand && replica->request_count > 0 &&
        replica->requests[replica->request_count - 1].done_ns > request.done_ns)
        request.done_ns = replica->requests[replica->request_count - 1].done_ns;
    replica->requests[replica->request_count++] = request;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void journal_take(struct journal *journal, const struct disk_request *request)
{
    if (request->floor > journal->floor)
        journal->floor = request->floor;
    if (request->commit_d > journal->commit_d)
        journal->commit_d = request->commit_d;
    journal->claim_end = request->end;
    journal->claim_term = request->term;
    journal->clean = false;
}

void disk_land(struct replica *replica, const struct disk_request *request)
{
    struct journal *journal = &replica->journal;
    switch (request->kind) {
    case DISK_WRITE:
        for (uint32_t i = cell_of(request->begin); i < cell_of(request->end); i++)
            replica->disk[i] = replica->arena[i];
        journal_take(journal, request);
        break;
    case DISK_VOTE:
        journal->vote_term = request->term;
        journal->voted_for = request->voted_for;
        break;
    case DISK_CUT:
        if (request->reset) {
            journal->base_pos = request->end;
            journal->floor = request->end;
            journal->commit_d = request->end;
            replica->resetting = false;
            memset(replica->disk + cell_of(request->end), 0,
                   sizeof(replica->disk) - cell_of(request->end) * sizeof(replica->disk[0]));
        }
        journal->floor = lower(journal->floor, request->end);
        journal->claim_end = request->end;
        journal->claim_term = request->term;
        break;
    }
}

void disk_finish_first(struct cluster *cluster, struct replica *replica)
{
    static const enum leat_input_kind inputs[] = {
        [DISK_WRITE] = LEAT_INPUT_PERSISTED,
        [DISK_VOTE] = LEAT_INPUT_VOTE_PERSISTED,
        [DISK_CUT] = LEAT_INPUT_CUT_SETTLED,
    };
    LEAT_ASSERT(replica->request_count > 0);
    struct disk_request request = replica->requests[0];
    replica->request_count--;
    memmove(replica->requests, replica->requests + 1,
            replica->request_count * sizeof(replica->requests[0]));
    disk_land(replica, &request);
    cluster->events++;
    cluster_hash(cluster, request.sequence << 8 | request.kind);
    static const char *const words[] = {"write", "vote", "cut"};
    cluster_line(cluster, "  %c disk: %s %lu done", replica_name(replica->self),
                 words[request.kind], (unsigned long)request.sequence);
    if (!replica->up)
        return;
    struct leat_core_input input = {.kind = inputs[request.kind], .sequence = request.sequence};
    replica_step(cluster, replica, &input);
}

/* ---- dying ---- */

static void go_down(struct cluster *cluster, struct replica *replica)
{
    replica->up = false;
    replica->fenced = false;
    replica->request_count = 0;
    replica->paused_until_ns = 0;
    replica->role_epoch++;
    cluster_hash(cluster, 0xdead00 + replica->self);
}

/* The process dies: what was submitted lands all the same, before anyone reads (V3). */
void replica_crash(struct cluster *cluster, struct replica *replica)
{
    LEAT_ASSERT(replica->up);
    uint32_t landed = 0;
    if (replica->request_count > 0 && !cluster->by_hand)
        landed = (uint32_t)leat_rng_below(&cluster->disk_rng, replica->request_count + 1);
    for (uint32_t i = 0; i < landed; i++)
        disk_land(replica, &replica->requests[i]);
    if (landed > 0)
        cluster->injected[INJECTED_LATE_WRITE]++;
    cluster_line(cluster, "  %c dies; of %u requests %u land", replica_name(replica->self),
                 replica->request_count, landed);
    replica->arena_valid = true;
    go_down(cluster, replica);
}

/* Of what is in flight each cell lands or not; the memory is gone. */
void replica_power_cut(struct cluster *cluster, struct replica *replica)
{
    for (uint32_t r = 0; replica->up && r < replica->request_count; r++) {
        const struct disk_request *request = &replica->requests[r];
        if (request->kind != DISK_WRITE) {
            if (cluster->by_hand || !cluster_chance(&cluster->disk_rng, 500))
                break; /* the journal is in order: nothing behind it is known */
            disk_land(replica, request);
            continue;
        }
        if (cluster->by_hand)
            break;
        uint32_t part = (uint32_t)leat_rng_below(&cluster->disk_rng, 3) * 500;
        cluster->injected[INJECTED_TORN_WRITE] += part == 500;
        for (uint32_t i = cell_of(request->begin); i < cell_of(request->end); i++) {
            if (cluster_chance(&cluster->disk_rng, part))
                replica->disk[i] = replica->arena[i];
        }
        if (part != 1000)
            break;
        journal_take(&replica->journal, request);
    }
    cluster_line(cluster, "  %c loses power; of %u requests some land in part",
                 replica_name(replica->self), replica->up ? replica->request_count : 0);
    memset(replica->arena, 0, sizeof(replica->arena));
    replica->arena_valid = false;
    replica->acked_memory = 0;
    go_down(cluster, replica);
}

/* SIGTERM: drained, D = M, then gone. */
void replica_stop(struct cluster *cluster, struct replica *replica)
{
    if (replica->core.role == LEAT_LEADER)
        replica_publish(cluster, replica);
    while (replica->request_count > 0)
        disk_finish_first(cluster, replica);
    if (!replica->core.cut_settling && replica->core.durable_pos == replica->core.memory_pos) {
        replica->journal.clean = true;
        replica->journal.floor = replica->core.durable_pos;
    }
    cluster_line(cluster, "  %c stops", replica_name(replica->self));
    replica->arena_valid = true;
    go_down(cluster, replica);
}

/* ---- recovery ---- */

struct recovery {
    uint64_t end;
    uint32_t last_frame;
    uint32_t run_count;
    struct leat_run runs[LEAT_RUNS_MAX];
};

static void recovery_run(struct recovery *recovery, uint32_t term, uint64_t first_pos)
{
    if (recovery->run_count == LEAT_RUNS_MAX) {
        recovery->run_count--;
        memmove(recovery->runs, recovery->runs + 1,
                recovery->run_count * sizeof(recovery->runs[0]));
    }
    recovery->runs[recovery->run_count++] = (struct leat_run){.first_pos = first_pos, .term = term};
}

/* Goes over the frames of `cells` from the base while the chain holds. */
static void recovery_walk(const struct cluster *cluster, const uint32_t *cells, uint64_t base,
                          uint64_t limit, struct recovery *recovery)
{
    memset(recovery, 0, sizeof(*recovery));
    recovery->end = base;
    const struct frame *first = frame_in(cluster, cells, base);
    if (first && frame_end(first) <= limit) {
        recovery->last_frame = first->before;
        const struct frame *before = &cluster->frames[first->before];
        recovery_run(recovery, before->term, before->run_first_pos);
    } else {
        recovery_run(recovery, 0, base);
    }
    while (recovery->end < limit) {
        const struct frame *frame = frame_in(cluster, cells, recovery->end);
        if (!frame || frame->before != recovery->last_frame || frame_end(frame) > limit)
            break;
        if (frame->type == LEAT_FRAME_TERM)
            recovery_run(recovery, frame->term, frame->position);
        recovery->last_frame = cells[cell_of(frame->position)] >> 8;
        recovery->end = frame_end(frame);
    }
}

/* W4: D is the longest prefix on which disk and memory agree, after one flush. */
static uint64_t agreed_end(const struct cluster *cluster, const struct replica *replica,
                           uint64_t base, uint64_t end)
{
    uint64_t at = base;
    while (at < end) {
        const struct frame *frame = frame_in(cluster, replica->arena, at);
        if (!frame || frame != frame_in(cluster, replica->disk, at))
            break;
        at = frame_end(frame);
    }
    return at;
}

static void boot_apply(struct cluster *cluster, struct replica *replica, uint64_t base,
                       uint64_t commit_d)
{
    uint32_t before = NO_FRAME;
    uint64_t at = base;
    const struct frame *first = frame_in(cluster, replica->arena, base);
    if (first)
        before = first->before;
    while (at < commit_d) {
        before = replica->arena[cell_of(at)] >> 8;
        at = frame_end(&cluster->frames[before]);
    }
    sessions_rebuild(cluster, &replica->committed, before);
    replica->applied_pos = at;
    replica->applied_frame = before;
    replica->completed_pos = at;
    replica->installing =
        base > 0 && replica->published_end == base; /* its BASE frame is to come */
}

static void boot_core(struct cluster *cluster, struct replica *replica,
                      const struct leat_core_boot *boot)
{
    struct leat_core_config config = {
        .member_count = cluster->count,
        .self = replica->self,
        .accepts_replicated = cluster->accepts_replicated,
        .election_min_ns = cluster->election_min_ns,
        .election_max_ns = cluster->election_max_ns,
        .retransmit_ns = cluster->retransmit_ns,
        .window_bytes = cluster->window_bytes,
        .seed = (replica->self + 1) * 0x9e3779b97f4a7c15ULL,
    };
    leat_core_init(&replica->core, &config, boot);
    memset(replica->got, 0, sizeof(replica->got));
    memset(replica->believed_of, 0, sizeof(replica->believed_of));
    memset(replica->known_incarnation, 0, sizeof(replica->known_incarnation));
    replica->got_high = 0;
    replica->gap_since_ns = 0;
    replica->heartbeat_ns = cluster->now_ns;
    replica->tail_is_valid = false;
    replica->resetting = false;
    replica->up = true;
    replica->seen_commit_d = boot->commit_d;
    replica->seen_commit_r = boot->commit_d;
    replica->seen_term = replica->core.term;
    replica->seen_role = LEAT_FOLLOWER;
}

void replica_boot(struct cluster *cluster, struct replica *replica)
{
    struct journal *journal = &replica->journal;
    static struct recovery recovery;
    bool from_arena = replica->arena_valid; /* an amnesiac's too (ADR 0060) */
    bool first_boot = journal->incarnation == 0;
    uint64_t base = journal->base_pos;
    LEAT_ASSERT(!replica->up);
    if (from_arena) {
        recovery_walk(cluster, replica->arena, base, replica->published_end, &recovery);
        from_arena = recovery.end == replica->published_end;
        if (!from_arena && !replica->resetting)
            check_fail(cluster, "W4: the arena of %c does not verify up to its published end",
                       replica_name(replica->self));
    }
    if (!from_arena) {
        replica->acked_memory = 0;
        recovery_walk(cluster, replica->disk, base, LOG_CELLS * CELL_BYTES, &recovery);
        memcpy(replica->arena, replica->disk, sizeof(replica->arena));
        if (!first_boot && !journal->clean && cluster->accepts_replicated)
            journal->amnesiac = true; /* W5: stored before the new arena is used */
    }
    static struct recovery of_disk;
    recovery_walk(cluster, replica->disk, base, LOG_CELLS * CELL_BYTES, &of_disk);
    uint64_t durable = from_arena ? agreed_end(cluster, replica, base, recovery.end) : recovery.end;
    journal->incarnation++;
    struct leat_core_boot boot = {
        .now_ns = cluster->now_ns,
        .incarnation = journal->incarnation,
        .vote_term = journal->vote_term,
        .voted_for = journal->voted_for,
        .amnesiac = journal->amnesiac,
        .damaged = of_disk.end < journal->floor,
        .runs = recovery.runs,
        .run_count = recovery.run_count,
        .claim_term = journal->claim_term,
        .claim_end = journal->claim_end,
        .base_pos = base,
        .memory_pos = recovery.end,
        .durable_pos = durable,
        .commit_d = lower(journal->commit_d, durable),
        .cut_epoch = replica->seen_cut_epoch,
    };
    if (boot.commit_d < base)
        boot.commit_d = base;
    replica->published_end = recovery.end;
    replica->arena_valid = true;
    replica->chain_pos = recovery.end;
    replica->chain_frame = recovery.last_frame;
    replica->issued_end = durable;
    journal->clean = false;
    check_boot(cluster, replica, &boot);
    boot_apply(cluster, replica, base, boot.commit_d);
    boot_core(cluster, replica, &boot);
    cluster_line(cluster, "  %c starts: M %lu D %lu commit %lu%s%s", replica_name(replica->self),
                 (unsigned long)boot.memory_pos, (unsigned long)boot.durable_pos,
                 (unsigned long)boot.commit_d, boot.amnesiac ? " amnesiac" : "",
                 boot.damaged ? " damaged" : "");
    cluster_hash(cluster, boot.memory_pos << 16 ^ boot.durable_pos);
}
