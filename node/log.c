/* SPDX-License-Identifier: Apache-2.0
 *
 * What frames do to a log's state: sealing them as a leader, going over them once commits cover
 * them. Worker's thread. Tests: tests/system/, and the simulator of the core in tests/replication/.
 */
#include "log.h"

#include <stdatomic.h>
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define LOG_NO_SPACE_NS 500000000u

static void store_release(struct leat_arena_word *word, uint64_t value)
{
    __atomic_store_n(&word->value, value, __ATOMIC_RELEASE); /* pairs with readers' acquire */
}

static bool at_segment_base(const struct node_log *log, uint64_t position)
{
    return (position & (log->shape.segment_bytes - 1)) == 0;
}

uint64_t log_needed_from(struct node_log *log)
{
    uint64_t low = log->core.durable_pos & ~(uint64_t)(LEAT_BLOCK_BYTES - 1);
    uint64_t placed = leat_storage_placed_pos(log->worker->storage, log->index);
    low = placed < low ? placed : low;
    uint64_t port = leat_port_lowest_referenced(log->worker->port, log->index);
    if (log->applied.position < low && !log->installing) /* then it is of the old log */
        low = log->applied.position;
    return port < low ? port : low;
}

/* ---- base frames ---- */

/* How much a base frame holds beside the members. */
static void base_count(const struct node_log *log, const struct leat_sessions *sessions,
                       const struct node_catalogue *catalogue, struct leat_base_head *head)
{
    head->session_count = (uint16_t)sessions->count;
    head->closed_count = (uint16_t)leat_sessions_closed_known(sessions);
    head->catalogue_count = log->id == 0 ? (uint16_t)catalogue->count : 0;
}

static uint32_t base_payload(struct node_log *log, const struct leat_chain *chain,
                             const struct leat_sessions *sessions,
                             const struct node_catalogue *catalogue, uint64_t trim_pos,
                             uint64_t fence_epoch)
{
    uint8_t *to = log->worker->base_scratch;
    struct leat_base_head *head = (struct leat_base_head *)to;
    *head = log->base_head;
    head->position = chain->position;
    head->next_offset = chain->next_offset;
    head->last_time_ns = chain->last_time_ns;
    head->run_first_pos = chain->run_first_pos;
    head->run_term = chain->term;
    head->chain_crc = chain->crc;
    head->trim_pos = trim_pos;
    head->fence_epoch = fence_epoch;
    head->closed_unknown_pos = sessions->closed_unknown_pos;
    base_count(log, sessions, catalogue, head);
    uint8_t *rest = to + sizeof(*head);
    memcpy(rest, log->members, head->member_count * sizeof(log->members[0]));
    rest += head->member_count * sizeof(log->members[0]);
    leat_sessions_list(sessions, (struct leat_session_row *)(void *)rest);
    rest += head->session_count * sizeof(struct leat_session_row);
    leat_sessions_list_closed(sessions, (struct leat_session_closed *)(void *)rest);
    rest += head->closed_count * sizeof(struct leat_session_closed);
    if (head->catalogue_count > 0) /* else there is none: worker 0 alone has it */
        memcpy(rest, catalogue->rows, head->catalogue_count * sizeof(catalogue->rows[0]));
    return leat_base_payload_bytes(head);
}

void log_load_base(struct node_log *log, const struct leat_chain *chain, const void *payload)
{
    struct leat_base base = leat_base_parts(payload);
    leat_sessions_load(log->committed, &base);
    clients_adopt(log->worker, log);
    if (log->id == 0) {
        catalogue_load(log->worker->catalogue, base.catalogue, base.head->catalogue_count);
        log->worker->catalogue_version++;
    }
    log->trim_committed = base.head->trim_pos;
    log->fence_committed = base.head->fence_epoch;
    log->chain = *chain;
    log->applied = *chain;
    log->completed = *chain;
}

/* ---- sealing ---- */

/* What is kept as of the log's end, beside the sessions. */
static void log_note_tail(struct node_log *log, const struct leat_frame *frame, const void *payload)
{
    if (leat_frame_type(frame) == LEAT_FRAME_TRIM)
        memcpy(&log->trim_tail, payload, sizeof(log->trim_tail));
    else if (leat_frame_type(frame) == LEAT_FRAME_FENCE)
        memcpy(&log->fence_tail, payload, sizeof(log->fence_tail));
    else if (leat_frame_type(frame) == LEAT_FRAME_CATALOGUE) {
        int rc = catalogue_apply(log->worker->catalogue_tail, payload);
        LEAT_ASSERT(rc == LEAT_OK); /* judged before it was sealed */
        admin_written(log->worker, payload);
    }
}

static void log_seal(struct node_log *log, uint32_t type_flags, uint32_t session, uint64_t sequence,
                     const void *payload, uint32_t payload_bytes)
{
    uint64_t position = log->chain.position;
    unsigned type = type_flags & 0xffffu;
    struct leat_frame frame = {
        .length_bytes = LEAT_FRAME_HEADER_BYTES + payload_bytes,
        .type_flags = type_flags,
        .time_ns = log->chain.last_time_ns,
        .session = session,
        .sequence = sequence,
    };
    /* log time never goes back; a BASE frame's is the prefix's */
    if (type != LEAT_FRAME_BASE && log->worker->realtime_ns > frame.time_ns)
        frame.time_ns = log->worker->realtime_ns;
    if (type == LEAT_FRAME_TERM)
        frame.term = log->core.term;
    uint64_t extent = leat_frame_extent(&log->shape, position, frame.length_bytes);
    node_arena_horizon(&log->arena, position + extent);
    leat_frame_seal(&log->shape, &log->chain, log_at(log, position), &frame, payload);
    /* the arena's copy: what the caller points to may lie in a client's memory */
    const void *sealed = log_at(log, position) + LEAT_FRAME_HEADER_BYTES;
    int rc = leat_sessions_apply(log->tail, position, &frame, sealed);
    LEAT_ASSERT(rc == LEAT_OK);
    log_note_tail(log, &frame, sealed);
    log_note_frame(log, position, &frame);
}

void log_note_frame(struct node_log *log, uint64_t position, const struct leat_frame *frame)
{
    node_arena_hint(&log->arena, position);
    if (leat_frame_type(frame) == LEAT_FRAME_PAD)
        log->pads[position / log->shape.segment_bytes % NODE_PADS] = position;
}

static void log_seal_base(struct node_log *log)
{
    uint32_t bytes = base_payload(log, &log->chain, log->tail, log->worker->catalogue_tail,
                                  log->trim_tail, log->fence_tail);
    log_seal(log, LEAT_FRAME_BASE, 0, 0, log->worker->base_scratch, bytes);
}

/* Bytes from the end that a frame needs, with the PAD and BASE that come before it. */
static uint64_t log_append_span(const struct node_log *log, uint64_t frame_bytes)
{
    uint64_t position = log->chain.position;
    uint64_t room = leat_segment_room(&log->shape, position);
    bool is_at_base = at_segment_base(log, position);
    if (!is_at_base && frame_bytes <= room)
        return frame_bytes;
    struct leat_base_head head = log->base_head;
    base_count(log, log->tail, log->worker->catalogue_tail, &head);
    return (is_at_base ? 0 : room) + LEAT_FRAME_HEADER_BYTES + leat_base_payload_bytes(&head) +
           LEAT_TERM_FRAME_BYTES + frame_bytes;
}

/* Makes the log's end a place where frames of `exact` bytes fit one segment, and `spare` behind
 * them: what must come before (a closing PAD, a BASE) is sealed. LEAT_EAGAIN: nothing changed. */
static int log_make_room(struct node_log *log, bool is_term, uint64_t exact, uint64_t spare)
{
    LEAT_ASSERT(log->core.role == LEAT_LEADER && log->tail_is_valid);
    /* and what a frame at a segment's end takes in addition */
    uint64_t frame_bytes = exact + LEAT_FRAME_ALIGN + LEAT_TERM_FRAME_BYTES;
    uint64_t end = log->chain.position + log_append_span(log, frame_bytes);
    if (!is_term && (end > log->append_limit || end > log_arena_limit(log)))
        return LEAT_EAGAIN;
    LEAT_ASSERT(end <= log_arena_limit(log) + NODE_ARENA_RESERVE_BYTES);
    uint64_t room = leat_segment_room(&log->shape, log->chain.position);
    if (!at_segment_base(log, log->chain.position) && exact + spare > room)
        log_seal(log, LEAT_FRAME_PAD, 0, 0, NULL, (uint32_t)(room - LEAT_FRAME_HEADER_BYTES));
    if (at_segment_base(log, log->chain.position))
        log_seal_base(log);
    return LEAT_OK;
}

static void log_seal_record(struct node_log *log, uint32_t flags, uint32_t session,
                            uint64_t sequence, const void *payload, uint32_t payload_bytes)
{
    log_seal(log, LEAT_FRAME_RECORD | flags, session, sequence, payload, payload_bytes);
    log->counters.appends++;
    log->counters.append_bytes += payload_bytes;
}

int log_append(struct node_log *log, uint32_t type_flags, uint32_t session, uint64_t sequence,
               const void *payload, uint32_t payload_bytes)
{
    unsigned type = type_flags & 0xffffu;
    if (type == LEAT_FRAME_RECORD && payload_bytes > log->shape.entry_bytes_max)
        return LEAT_ETOOBIG;
    int rc = log_make_room(log, type == LEAT_FRAME_TERM, leat_batch_frame_extent(payload_bytes), 0);
    if (rc != LEAT_OK)
        return rc;
    if (type == LEAT_FRAME_RECORD)
        log_seal_record(log, type_flags & ~0xffffu, session, sequence, payload, payload_bytes);
    else
        log_seal(log, type_flags, session, sequence, payload, payload_bytes);
    log->durable_wanted = log->chain.position;
    return LEAT_OK;
}

/* ---- what clients want appended ---- */

/* In one go and in one segment, so that what is published ends at the batch's end (ADR 0030). */
static int log_append_batch(struct node_log *log, uint32_t flags, uint32_t session,
                            const struct node_append *append)
{
    uint32_t lengths[LEAT_BATCH_RECORDS_MAX], count;
    uint64_t frames_bytes;
    const uint8_t *item = append->payload;
    int rc = log_batch_parse(log, item, append->payload_bytes, lengths, &count, &frames_bytes);
    /* room for a TERM frame behind it: or a frame before the last would take the segment's rest */
    if (rc == LEAT_OK)
        rc = log_make_room(log, false, frames_bytes, LEAT_TERM_FRAME_BYTES);
    if (rc != LEAT_OK)
        return rc;
    uint64_t begin = log->chain.position;
    for (uint32_t i = 0; i < count; i++) { /* the lengths as parsed, whatever lies there now */
        log_seal_record(log, flags | (i + 1 < count ? LEAT_FRAME_FLAG_CONTINUES : 0u), session,
                        append->sequence, item + sizeof(struct leat_batch_item), lengths[i]);
        item += leat_batch_item_extent(lengths[i]);
    }
    LEAT_ASSERT(!leat_chain_in_batch(&log->chain));
    LEAT_ASSERT(leat_segment_base(&log->shape, begin) ==
                leat_segment_base(&log->shape, log->chain.position - 1));
    log->durable_wanted = log->chain.position;
    return LEAT_OK;
}

/* Judged against the log's end, so the answer is the log's: it stands when its frame commits. */
static struct leat_refused_payload log_judge(const struct node_log *log,
                                             const struct node_append *append)
{
    bool fenced = append->kind == LEAT_RING_FENCE ? append->writer_epoch <= log->fence_tail
                                                  : append->writer_epoch < log->fence_tail;
    if (fenced)
        return (struct leat_refused_payload){.error = LEAT_EFENCEDOUT, .detail = log->fence_tail};
    if (append->conditional && append->condition != log->chain.next_offset)
        return (struct leat_refused_payload){.error = LEAT_ECONDITION,
                                             .detail = log->chain.next_offset};
    return (struct leat_refused_payload){.error = LEAT_OK};
}

int log_recorded_error(const struct node_log *log, const struct leat_session_row *row,
                       const struct node_append *append)
{
    LEAT_ASSERT(append->sequence <= row->last_sequence);
    if (append->sequence == row->last_sequence)
        return row->last_error;
    bool may_be_refused = append->conditional || append->kind == LEAT_RING_FENCE ||
                          append->writer_epoch < log->fence_committed;
    return may_be_refused ? LEAT_ECLOSED : LEAT_EUNKNOWN;
}

int log_append_client(struct node_log *log, uint32_t session, const struct node_append *append)
{
    struct leat_refused_payload refused = log_judge(log, append);
    uint32_t flags = append->conditional ? LEAT_FRAME_FLAG_CONDITIONAL : 0u;
    if (refused.error != LEAT_OK)
        return log_append(log, LEAT_FRAME_REFUSED, session, append->sequence, &refused,
                          sizeof(refused));
    if (append->kind == LEAT_RING_BATCH)
        return log_append_batch(log, flags, session, append);
    if (append->kind == LEAT_RING_FENCE) {
        struct leat_fence_payload fence = {.epoch = append->writer_epoch};
        return log_append(log, LEAT_FRAME_FENCE, session, append->sequence, &fence, sizeof(fence));
    }
    return log_append(log, LEAT_FRAME_RECORD | flags, session, append->sequence, append->payload,
                      append->payload_bytes);
}

static void core_step_at(struct node_log *log, enum leat_input_kind kind, uint64_t position,
                         uint32_t term)
{
    struct leat_core_input input = {
        .kind = kind, .now_ns = log->worker->now_ns, .position = position, .term = term};
    leat_core_step(&log->core, &input);
}

void log_tell_leadership(struct node_log *log)
{
    const struct leat_core *core = &log->core;
    uint32_t leader =
        core->leader == LEAT_CORE_NOBODY ? 0 : log->worker->config->nodes[core->leader].id;
    enum leat_arena_role role = core->role == LEAT_LEADER     ? LEAT_ARENA_LEADER
                                : core->role == LEAT_FOLLOWER ? LEAT_ARENA_FOLLOWER
                                                              : LEAT_ARENA_CANDIDATE;
    node_arena_leadership(&log->arena, core->term, leader, role);
}

void log_publish(struct node_log *log)
{
    LEAT_DASSERT(!leat_chain_in_batch(&log->chain));
    if (log->chain.position == log->core.memory_pos)
        return;
    /* W4: published before any acknowledgement, and before this leader counts itself */
    store_release(&log->arena.header->published_end, log->chain.position);
    core_step_at(log, LEAT_INPUT_APPENDED, log->chain.position, 0);
}

void log_append_term(struct node_log *log)
{
    LEAT_ASSERT(log->core.role == LEAT_LEADER && log->chain.position == log->core.memory_pos);
    log_rebuild_tail(log);
    log->needed_from = log_needed_from(log);
    struct leat_term_payload payload = {
        .term = log->core.term,
        .previous_term = log->chain.term,
        .previous_first_pos = log->chain.run_first_pos,
        .leader_node = log->worker->config->node_id,
    };
    if (at_segment_base(log, log->chain.position)) {
        log_seal_base(log);
        log_publish(log);
    }
    core_step_at(log, LEAT_INPUT_RUN, log->chain.position, log->core.term);
    int rc = log_append(log, LEAT_FRAME_TERM, 0, 0, &payload, sizeof(payload));
    LEAT_ASSERT(rc == LEAT_OK);
    log_publish(log);
}

/* ---- walking ---- */

/* The header of a frame that was sealed or verified here and is still in the arena. */
static const struct leat_frame *log_frame(const struct node_log *log, uint64_t position)
{
    LEAT_DASSERT(position >= node_arena_low(&log->arena) && position < log->chain.position);
    return (const struct leat_frame *)(const void *)log_at(log, position);
}

static void chain_step(const struct node_log *log, struct leat_chain *chain,
                       const struct leat_frame *frame)
{
    leat_chain_advance(chain, frame,
                       leat_frame_extent(&log->shape, chain->position, frame->length_bytes));
}

void log_rebuild_tail(struct node_log *log)
{
    struct leat_chain chain = log->applied;
    *log->tail = *log->committed;
    log->trim_tail = log->trim_committed;
    log->fence_tail = log->fence_committed;
    if (log->id == 0)
        *log->worker->catalogue_tail = *log->worker->catalogue;
    while (chain.position < log->chain.position) {
        const struct leat_frame *frame = log_frame(log, chain.position);
        int rc = leat_sessions_apply(log->tail, chain.position, frame, frame + 1);
        LEAT_ASSERT(rc == LEAT_OK);
        log_note_tail(log, frame, frame + 1);
        chain_step(log, &chain, frame);
    }
    log->tail_is_valid = true;
}

static void log_apply_trim(struct node_log *log, const void *payload)
{
    struct leat_trim_payload trim;
    memcpy(&trim, payload, sizeof(trim));
    /* B1: only when the next base is committed, which a base at or below this frame is */
    if (trim.trim_pos <= log->trim_committed || trim.trim_pos > log->applied.position ||
        !at_segment_base(log, trim.trim_pos))
        return;
    log->trim_committed = trim.trim_pos;
}

/* What the log was trimmed of is let go only when it is all on this replica's own disk, and the
 * BASE frame behind it: no log is without one. Others may have committed it long before, and what
 * becomes durable later makes the log busy again. */
static void log_let_go(struct node_log *log)
{
    const struct leat_core *core = &log->core;
    uint64_t trim_pos = log->trim_committed;
    if (log->installing || trim_pos <= core->base_pos || core->durable_pos <= trim_pos ||
        log->applied.position <= trim_pos)
        return;
    leat_storage_trim(log->worker->storage, log->index, trim_pos);
    core_step_at(log, LEAT_INPUT_BASE, trim_pos, 0);
    store_release(&log->arena.header->base_pos, core->base_pos);
}

static bool log_apply_fence(struct node_log *log, const void *payload)
{
    struct leat_fence_payload fence;
    memcpy(&fence, payload, sizeof(fence));
    if (fence.epoch <= log->fence_committed)
        return false; /* a leader refuses it */
    log->fence_committed = fence.epoch;
    return true;
}

static void log_apply_session(struct node_log *log, const struct leat_frame *frame,
                              const void *payload)
{
    struct leat_session_payload session;
    memcpy(&session, payload, sizeof(session));
    uint32_t owner = clients_find(log->worker, &session.client);
    bool opened = leat_frame_type(frame) == LEAT_FRAME_SESSION_OPEN;
    log->owners[session.session - 1] = opened ? owner : NODE_NO_CLIENT;
    if (!opened && owner != NODE_NO_CLIENT) /* some may be in the log: never again */
        clients_end_session(log->worker, owner, log, LEAT_ENOSESSION, 0);
}

static bool log_apply_catalogue(struct node_log *log, const struct leat_catalogue_payload *payload)
{
    struct node_worker *worker = log->worker;
    if (log->id != 0 || catalogue_apply(worker->catalogue, payload) != LEAT_OK)
        return false;
    worker->catalogue_version++;
    admin_applied(worker, payload);
    return true;
}

/* One committed frame. Returns false when it proves that this replica went astray. */
static bool log_apply_frame(struct node_log *log, const struct leat_frame *frame)
{
    uint64_t position = log->applied.position;
    if (leat_frame_type(frame) == LEAT_FRAME_BASE) {
        uint32_t bytes = base_payload(log, &log->applied, log->committed, log->worker->catalogue,
                                      log->trim_committed, log->fence_committed);
        return bytes == frame->length_bytes - LEAT_FRAME_HEADER_BYTES &&
               memcmp(log->worker->base_scratch, frame + 1, bytes) == 0;
    }
    if (leat_sessions_apply(log->committed, position, frame, frame + 1) != LEAT_OK)
        return false;
    if (leat_frame_type(frame) == LEAT_FRAME_CATALOGUE)
        return log_apply_catalogue(log, (const void *)(frame + 1));
    if (leat_frame_type(frame) == LEAT_FRAME_TRIM)
        log_apply_trim(log, frame + 1);
    else if (leat_frame_type(frame) == LEAT_FRAME_FENCE)
        return log_apply_fence(log, frame + 1);
    return true;
}

static void log_complete(struct node_log *log, uint64_t position, const struct leat_frame *frame,
                         enum leat_level level)
{
    unsigned type = leat_frame_type(frame);
    bool behind = position < log->completed.position;
    if (!behind && (type == LEAT_FRAME_SESSION_OPEN || type == LEAT_FRAME_SESSION_CLOSE))
        log_apply_session(log, frame, frame + 1);
    bool ends = type == LEAT_FRAME_RECORD || type == LEAT_FRAME_FENCE || type == LEAT_FRAME_REFUSED;
    if (frame->session == 0 || !ends || (frame->type_flags & LEAT_FRAME_FLAG_CONTINUES))
        return;
    uint32_t owner = clients_owner(log, frame->session, behind);
    if (owner != NODE_NO_CLIENT)
        clients_complete(log->worker, owner, log, frame, position, level);
}

/* What is committed in memory only is gone over when somebody waits for that; else the walk that
 * follows the disk goes over it once. */
static bool log_memory_is_awaited(const struct node_log *log)
{
    return log->completed.position < log->core.commit_r &&
           (log->worker->await_memory > 0 || log->worker->tail_count > 0);
}

static void log_complete_memory(struct node_log *log)
{
    if (log->completed.position < log->applied.position)
        log->completed = log->applied;
    while (log_memory_is_awaited(log)) {
        const struct leat_frame *frame = log_frame(log, log->completed.position);
        log_complete(log, log->completed.position, frame, LEAT_LEVEL_REPLICATED);
        chain_step(log, &log->completed, frame);
    }
}

/* Readers poll these words from other cores. */
static void log_publish_commits(struct node_log *log)
{
    struct leat_arena_header *header = log->arena.header;
    if (header->commit_d.value != log->core.commit_d)
        store_release(&header->commit_d, log->core.commit_d);
    if (header->commit_r.value != log->core.commit_r)
        store_release(&header->commit_r, log->core.commit_r);
    if (log->core.commit_r > log->told_commit_r)
        log->told_commit_r = log->core.commit_r;
}

int log_apply_commits(struct node_log *log)
{
    uint64_t commit_r = log->core.commit_r;
    uint64_t commit_d = log->core.commit_d;
    if (log->applied.position < commit_d)
        log->commit_moved_ns = log->worker->now_ns;
    if (log->installing || (log->applied.position == commit_d && !log_memory_is_awaited(log) &&
                            log->arena.header->commit_r.value == commit_r)) {
        log_let_go(log);
        return LEAT_OK;
    }
    while (log->applied.position < commit_d) {
        const struct leat_frame *frame = log_frame(log, log->applied.position);
        if (!log_apply_frame(log, frame))
            return LEAT_ECORRUPT;
        log_complete(log, log->applied.position, frame, LEAT_LEVEL_DURABLE);
        chain_step(log, &log->applied, frame);
    }
    log->worker->expect_ns = 0; /* what was awaited has come: a client may want this core */
    log_complete_memory(log);
    leat_storage_commit(log->worker->storage, log->index, commit_d);
    log_publish_commits(log);
    log_let_go(log); /* here, not at a next pass: a log that falls idle now has none */
    return LEAT_OK;
}

/* ---- cutting ---- */

static void log_cut_published(struct node_log *log, uint64_t position)
{
    struct leat_arena_header *header = log->arena.header;
    if (header->published_end.value > position)
        node_arena_unhint(&log->arena, position, header->published_end.value);
    if (header->commit_r.value > position)
        store_release(&header->commit_r, position);
    if (log->told_commit_r > position) {
        log->told_commit_r = position;
        log->counters.rollbacks++;
        store_release(&header->epoch, header->epoch.value + 1);
    }
    store_release(&header->published_end, position);
    atomic_thread_fence(memory_order_seq_cst);
}

void log_cut(struct node_log *log, const struct leat_core_effects *effects)
{
    uint64_t position = effects->cut_pos;
    log_assembler_clear(log);
    log_send_clear(log);
    log->tail_is_valid = false;
    log->durable_wanted = position;
    log->write_asked = position;
    for (unsigned i = 0; i < NODE_PADS; i++) { /* what lay there is not the log's any more */
        if (log->pads[i] >= position || effects->reset)
            log->pads[i] = 0;
    }
    if (effects->reset) {
        log_cut_published(log, position);
        store_release(&log->arena.header->horizon, position);
        store_release(&log->arena.header->base_pos, position);
        log->installing = true;
        log->kept_end = position;
        log->chain = (struct leat_chain){.position = position};
        log->applied = log->chain; /* nothing of what was is needed any more */
        log->completed = log->chain;
        log->needed_from = position;
        clients_doubt(log->worker, log);
        leat_storage_reset(log->worker->storage, log->index, position, effects->cut_epoch);
        return;
    }
    struct leat_chain chain = log->applied;
    while (chain.position < position)
        chain_step(log, &chain, log_frame(log, chain.position));
    LEAT_ASSERT(chain.position == position);
    log->chain = chain;
    if (log->completed.position > position) {
        log->completed = log->applied;
        clients_adopt(log->worker, log); /* what the walk ahead knew of sessions was cut */
    }
    log_cut_published(log, position);
    /* a log is never without a BASE frame, which is the same everywhere (B1): it stays on disk */
    if (position == leat_segment_base(&log->shape, position))
        chain_step(log, &chain, (const void *)log_at(log, position));
    log->kept_end = chain.position;
    leat_storage_cut(log->worker->storage, log->index, &chain, effects->cut_epoch);
}

bool log_rules(const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    return leat_core_may_append(core) && core->term_end != 0 && core->commit_d >= core->term_end;
}

/* Fewer than a majority have room, and it shows: what is sealed does not get committed. */
bool log_has_no_space(const struct node_log *log)
{
    const struct node_worker *worker = log->worker;
    if (!leat_core_may_append(&log->core) || log->core.commit_d == log->chain.position ||
        worker->now_ns - log->commit_moved_ns <= LOG_NO_SPACE_NS)
        return false;
    uint32_t have_room = !leat_storage_is_full(worker->storage);
    for (uint32_t i = 0; i < worker->peer_count; i++)
        have_room += !peers_link((struct node_worker *)worker, i, log->id)->no_space;
    return have_room <= (worker->peer_count + 1) / 2;
}

/* ---- handing over ---- */

int log_best_follower(const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    int best = -1;
    for (int i = 0; i < core->config.member_count; i++) {
        if (i != core->config.self && core->peers[i].matched &&
            core->now_ns - core->peers[i].heard_ns < core->config.election_min_ns &&
            (best < 0 || core->peers[i].memory_pos > core->peers[best].memory_pos))
            best = i;
    }
    return best;
}

void log_transfer(struct node_log *log, int member)
{
    LEAT_ASSERT(member >= 0 && member < log->core.config.member_count);
    struct leat_core_input input = {
        .kind = LEAT_INPUT_TRANSFER, .peer = (uint8_t)member, .now_ns = log->worker->now_ns};
    leat_core_step(&log->core, &input);
}
