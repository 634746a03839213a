/* SPDX-License-Identifier: Apache-2.0
 *
 * From a log's files and arena to a running log: judge the arena (W4), recover, decide amnesia
 * (W5); in service only when the new incarnation is durable. And the arena of a log that is to be
 * created. Before the worker runs, any thread; log_prepare: the lifecycle thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "worker.h"

int node_boot_id(struct leat_uuid *ret_boot)
{
    char text[64] = {0};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return LEAT_ESYSTEM;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got < 36)
        return LEAT_ESYSTEM;
    text[36] = '\0';
    return leat_uuid_parse(text, ret_boot);
}

struct boot_walk {
    struct node_log *log;
    uint64_t commit_d; /* as journalled */
    uint32_t run_count;
    struct leat_run runs[LEAT_RUNS_MAX];
    bool begun;
    bool misfit; /* a frame that was committed does not fit what came before it, at misfit_pos */
    uint64_t misfit_pos;
};

struct boot_log {
    struct leat_storage_log_info info;
    struct leat_recovered recovered;
    struct boot_walk walk;
    bool amnesiac;
};

static void boot_add_run(struct boot_walk *walk, uint32_t term, uint64_t first_pos)
{
    if (walk->run_count == LEAT_RUNS_MAX) {
        walk->run_count--;
        memmove(walk->runs, walk->runs + 1, walk->run_count * sizeof(walk->runs[0]));
    }
    walk->runs[walk->run_count++] = (struct leat_run){.first_pos = first_pos, .term = term};
}

static void boot_begin_at(struct boot_walk *walk, const void *payload)
{
    struct node_log *log = walk->log;
    struct leat_base base = leat_base_parts(payload);
    struct leat_chain chain = leat_base_chain(base.head);
    log->base_head = *base.head;
    memcpy(log->members, base.members, base.head->member_count * sizeof(log->members[0]));
    log_load_base(log, &chain, payload);
    boot_add_run(walk, base.head->run_term, base.head->run_first_pos);
    walk->begun = true;
}

/* A committed frame: what it does to sessions and catalogue. False: it is none that a correct
 * leader writes, whatever its CRC says. */
static bool boot_apply(struct node_log *log, uint64_t position, const struct leat_frame *frame,
                       const void *payload)
{
    if (leat_sessions_apply(log->committed, position, frame, payload) != LEAT_OK)
        return false;
    if (leat_frame_type(frame) == LEAT_FRAME_CATALOGUE && log->id == 0) {
        if (catalogue_apply(log->worker->catalogue, payload) != LEAT_OK)
            return false;
        admin_recovered(log->worker, payload);
    }
    return true;
}

/* Every frame from the base on, in order, checked by storage. */
static void boot_visit(void *context, uint64_t position, const struct leat_frame *frame,
                       const void *payload)
{
    struct boot_walk *walk = context;
    struct node_log *log = walk->log;
    if (!walk->begun)
        boot_begin_at(walk, payload);
    if (leat_frame_type(frame) == LEAT_FRAME_TERM)
        boot_add_run(walk, frame->term, position);
    log_note_frame(log, position, frame);
    if (position >= walk->commit_d || walk->misfit)
        return;
    if (!boot_apply(log, position, frame, payload)) {
        walk->misfit = true;
        walk->misfit_pos = position;
        return;
    }
    if (leat_frame_type(frame) == LEAT_FRAME_TRIM)
        memcpy(&log->trim_committed, payload, sizeof(log->trim_committed));
    else if (leat_frame_type(frame) == LEAT_FRAME_FENCE)
        memcpy(&log->fence_committed, payload, sizeof(log->fence_committed));
    leat_chain_advance(&log->applied, frame,
                       leat_frame_extent(&log->shape, position, frame->length_bytes));
}

static void boot_core(struct node_log *log, const struct boot_walk *walk,
                      const struct leat_storage_log_info *info,
                      const struct leat_recovered *recovered, bool amnesiac)
{
    struct node_worker *worker = log->worker;
    const struct leat_config *config = worker->config;
    struct leat_core_config core_config = {
        .member_count = (uint8_t)config->node_count,
        .self = worker->self,
        .accepts_replicated = log->accepts_replicated,
        .election_min_ns = config->election_min_ns,
        .election_max_ns = config->election_max_ns,
        .retransmit_ns = config->heartbeat_ns / 4,
        .window_bytes = config->window_bytes < log->arena.arena_bytes / 4
                            ? config->window_bytes
                            : log->arena.arena_bytes / 4,
        .seed = ((uint64_t)config->node_id << 32 | log->id) * 0x9e3779b97f4a7c15ULL,
    };
    int voted =
        info->voted_for == LEAT_VOTED_NONE ? -1 : leat_config_node_index(config, info->voted_for);
    struct leat_core_boot boot = {
        .now_ns = worker->now_ns,
        .incarnation = worker->incarnation,
        .vote_term = info->vote_term,
        .voted_for = voted < 0 ? LEAT_CORE_NOBODY : (uint8_t)voted,
        .amnesiac = amnesiac,
        .damaged = recovered->damaged,
        .runs = walk->runs,
        .run_count = walk->run_count,
        .claim_term = recovered->claim_term,
        .claim_end = recovered->claim_end,
        .base_pos = recovered->base_pos,
        .memory_pos = recovered->chain.position,
        .durable_pos = recovered->durable_pos,
        .commit_d = log->applied.position,
        .cut_epoch = recovered->cut_epoch,
    };
    leat_core_init(&log->core, &core_config, &boot);
}

static void boot_publish(struct node_log *log, const struct leat_recovered *recovered)
{
    struct leat_arena_header *header = log->arena.header;
    if (recovered->kind == LEAT_RECOVERED_DISK)
        header->horizon.value = recovered->horizon_pos;
    log->told_commit_r = header->commit_r.value;
    header->published_end.value = recovered->chain.position;
    header->commit_d.value = log->applied.position;
    header->commit_r.value = log->applied.position;
    header->base_pos.value = recovered->base_pos;
    log_tell_leadership(log);
    __atomic_store_n(&header->instance.value, header->instance.value + 1, __ATOMIC_RELEASE);
}

static void boot_report(struct node_log *log, const struct leat_recovered *recovered, bool amnesiac)
{
    struct node_logger *out = log->worker->out;
    logger_line(out, LEAT_LOG_INFO,
                "log %u: recovered from %s: [%lu, %lu) durable to %lu, committed to %lu, %s; "
                "acknowledges %s",
                log->id, recovered->kind == LEAT_RECOVERED_ARENA ? "memory and disk" : "disk",
                (unsigned long)recovered->base_pos, (unsigned long)recovered->chain.position,
                (unsigned long)recovered->durable_pos, (unsigned long)log->applied.position,
                recovered->clean ? "clean stop" : "no clean stop",
                log->accepts_replicated ? "durable and replicated" : "durable only");
    if (recovered->torn)
        logger_line(out, LEAT_LOG_INFO, "log %u: cut a torn tail [%lu, %lu)", log->id,
                    (unsigned long)recovered->torn_pos, (unsigned long)recovered->torn_end);
    if (recovered->damaged)
        logger_line(out, LEAT_LOG_ERROR,
                    "log %u: damaged at %lu, below what was durable (to %lu in term %u): waits "
                    "for repair from its peers",
                    log->id, (unsigned long)recovered->chain.position,
                    (unsigned long)recovered->claim_end, recovered->claim_term);
    if (amnesiac)
        logger_line(out, LEAT_LOG_WARNING,
                    "log %u: memory was lost: votes are marked until the leader clears it",
                    log->id);
}

/* What is damaged on disk may have been committed beyond what recovery answers for: it is applied
 * up to there, and the rest when the leader says again that it is committed. */
static int boot_recover(struct node_log *log, const struct leat_storage_arena *arena,
                        struct boot_log *state, char *error, unsigned error_bytes)
{
    uint64_t commit_d = state->info.entry.commit_d;
    for (unsigned i = 0; i < 2; i++) {
        state->walk = (struct boot_walk){.log = log, .commit_d = commit_d};
        if (log->id == 0)
            admin_recovering(log->worker);
        int rc = leat_storage_recover(log->worker->storage, log->index, arena, boot_visit,
                                      &state->walk, &state->recovered, error, error_bytes);
        if (rc != LEAT_OK)
            return rc;
        bool misfit = state->walk.misfit;
        if (misfit && state->walk.misfit_pos < state->recovered.commit_d) {
            snprintf(error, error_bytes,
                     "log %u: the committed frame at %lu does not fit what came before it: replace "
                     "the node",
                     log->id, (unsigned long)state->walk.misfit_pos);
            return LEAT_ECORRUPT;
        }
        if (!state->walk.begun) { /* small-ring seeds 910000202 and 910000938 at cfb7e7d */
            snprintf(error, error_bytes,
                     "log %u: no record of the journal is left that says how far it goes, or its "
                     "segment at %lu cannot be read: replace the node",
                     log->id, (unsigned long)state->recovered.start_pos);
            return LEAT_ECORRUPT;
        }
        commit_d = state->recovered.commit_d;
        if (!misfit && log->applied.position <= commit_d)
            return LEAT_OK;
    }
    snprintf(error, error_bytes, "log %u: committed to %lu but recovered to %lu only", log->id,
             (unsigned long)log->applied.position, (unsigned long)commit_d);
    return LEAT_ECORRUPT;
}

struct node_log *log_new(void)
{
    struct node_log *log = aligned_alloc(64, (sizeof(*log) + 63) & ~63ul);
    if (!log)
        return NULL;
    memset(log, 0, sizeof(*log));
    log->committed = calloc(1, sizeof(*log->committed));
    log->tail = calloc(1, sizeof(*log->tail));
    if (log->committed && log->tail)
        return log;
    log_free(log);
    return NULL;
}

void log_free(struct node_log *log)
{
    if (!log)
        return;
    node_arena_close(&log->arena);
    free(log->boot);
    free(log->committed);
    free(log->tail);
    free(log);
}

static int boot_log(struct node_log *log, const struct leat_uuid *boot, char *error,
                    unsigned error_bytes)
{
    struct node_worker *worker = log->worker;
    struct boot_log *state = log->boot;
    struct leat_storage_log_info *info = &state->info;
    bool valid;

    leat_storage_log_info(worker->storage, log->index, info);
    log->id = info->log_id;
    log->generation = info->generation;
    log->uuid = info->log;
    log->shape = info->shape;
    log->accepts_replicated = info->accepts_replicated;
    int rc = node_arena_open(&log->arena, worker->config->arena_dir, &worker->node, info, boot,
                             &valid, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    bool was_amnesiac = (info->entry.flags & LEAT_JOURNAL_AMNESIAC) != 0;
    struct leat_storage_arena arena = {
        .bytes = log->arena.bytes,
        .valid = valid, /* an amnesiac's too: it has what it acknowledged since (ADR 0060) */
        .published_end = &log->arena.header->published_end.value,
    };
    rc = boot_recover(log, &arena, state, error, error_bytes);
    if (rc != LEAT_OK)
        return rc;
    log->chain = state->recovered.chain;
    log->completed = log->applied;
    bool first_boot = leat_uuid_is_zero(&info->entry.arena);
    bool lost = state->recovered.kind == LEAT_RECOVERED_DISK;
    state->amnesiac = log->accepts_replicated &&
                      (was_amnesiac || (lost && !first_boot && !state->recovered.clean));
    if (lost)
        node_arena_reset(&log->arena, info, boot);
    return leat_storage_begin(worker->storage, log->index, &state->recovered,
                              &log->arena.header->arena, boot, state->amnesiac);
}

int log_boot(struct node_worker *worker, uint32_t index, const struct leat_uuid *boot,
             struct node_log **ret_log, char *error, unsigned error_bytes)
{
    struct node_log *log = log_new();
    if (log)
        log->boot = calloc(1, sizeof(*log->boot));
    if (!log || !log->boot) {
        snprintf(error, error_bytes, "out of memory for a log");
        log_free(log);
        return LEAT_ENOMEM;
    }
    log->worker = worker;
    log->index = index;
    int rc = boot_log(log, boot, error, error_bytes);
    if (rc != LEAT_OK)
        log_free(log);
    else
        *ret_log = log;
    return rc;
}

void log_boot_serve(struct node_log *log)
{
    struct boot_log *state = log->boot;
    boot_core(log, &state->walk, &state->info, &state->recovered, state->amnesiac);
    boot_publish(log, &state->recovered);
    boot_report(log, &state->recovered, state->amnesiac);
    free(state);
    log->boot = NULL;
    worker_add_log(log->worker, log);
}

void log_begin_created(struct node_log *log, uint64_t genesis_end)
{
    const uint8_t *genesis = log_at(log, 0);
    struct leat_storage_log_info info = {.vote_term = 0, .voted_for = LEAT_VOTED_NONE};
    struct leat_recovered recovered = {.kind = LEAT_RECOVERED_DISK, .durable_pos = genesis_end};
    struct boot_walk walk = {.log = log, .commit_d = genesis_end};
    uint64_t extent;
    int rc = leat_frame_check(&log->shape, &recovered.chain, genesis, genesis_end, &extent);
    LEAT_ASSERT(rc == LEAT_OK && extent == genesis_end); /* sealed by storage just now */
    boot_visit(&walk, 0, (const void *)genesis, genesis + LEAT_FRAME_HEADER_BYTES);
    log->chain = recovered.chain;
    log->completed = log->applied;
    boot_core(log, &walk, &info, &recovered, false);
    boot_publish(log, &recovered);
    if (log->worker->self == log->id % log->core.config.member_count)
        leat_core_campaign_soon(&log->core); /* so that leaders of many logs are spread */
    worker_add_log(log->worker, log);
}

int log_prepare(struct node_log *log, struct node_worker *worker, const struct leat_uuid *boot,
                const struct leat_catalogue_row *row, char *error, unsigned error_bytes)
{
    struct leat_storage_log_info info = {
        .log_id = row->log_id,
        .generation = row->generation,
        .log = leat_uuid_of_log(&worker->cluster, row->log_id),
        .arena_bytes = row->arena_bytes,
        .accepts_replicated = (row->flags & LEAT_BASE_ACCEPTS_REPLICATED) != 0,
    };
    bool valid;
    info.shape = (struct leat_log_shape){leat_frame_salt(&info.log, row->generation),
                                         row->entry_bytes_max, row->segment_bytes};
    log->worker = worker;
    log->id = row->log_id;
    log->generation = row->generation;
    log->uuid = info.log;
    log->shape = info.shape;
    log->accepts_replicated = info.accepts_replicated;
    int rc = node_arena_open(&log->arena, worker->config->arena_dir, &worker->node, &info, boot,
                             &valid, error, error_bytes);
    if (rc == LEAT_OK)
        node_arena_reset(&log->arena, &info, boot); /* what lies there is of a failed creation */
    return rc;
}
