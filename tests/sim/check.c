/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <string.h>

#include "check_private.h"
#include "faults.h"
#include "map.h"

struct replica check_replicas[SIM_HOSTS_MAX][LEDGER_LOGS_MAX];
struct truth check_truths[LEDGER_LOGS_MAX];
struct node_worker *check_workers[SIM_HOSTS_MAX][LEAT_WORKERS_MAX];
static struct leat_uuid disks_met[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* by node, of its peers */
static bool stopping_clean[SIM_HOSTS_MAX][LEAT_WORKERS_MAX];     /* and its disk may say so */
/* Booted since the node's memory was lost, though another of its workers may have failed to. */
static bool memory_is_back[SIM_HOSTS_MAX][LEAT_WORKERS_MAX];
static struct sim_map frames;    /* (log, end of a frame, term): its CRC */
static struct sim_map committed; /* (log, end of a committed frame): CRC and offset behind it */
static struct sim_map leaders;   /* (log, term): node and life */

void check_begin(void)
{
    memset(&reached, 0, sizeof(reached));
    memset(check_replicas, 0, sizeof(check_replicas));
    memset(check_truths, 0, sizeof(check_truths));
    memset(disks_met, 0, sizeof(disks_met));
    memset(stopping_clean, 0, sizeof(stopping_clean));
    memset(memory_is_back, 0, sizeof(memory_is_back));
    frames = committed = leaders = (struct sim_map){0};
    check_said_begin();
    check_journal_begin();
    check_rules_begin();
    check_base_begin();
    check_words_begin();
}

static unsigned majority(void)
{
    return cluster.count / 2 + 1;
}

/* ---- frames ---- */

/* R4, R6: a position and a term name one frame, and by its CRC all that lies before it. */
static void frame_look(unsigned node, const struct node_log *log, uint64_t end,
                       const struct leat_frame *frame)
{
    struct sim_map_key key = {.log = log->id, .position = end, .term = frame->term};
    if (map_put(&frames, key, frame->crc) != frame->crc)
        world_fail("R4",
                   "node %u has another frame of term %u before %lu of log %u than a node "
                   "before it",
                   node + 1, frame->term, (unsigned long)end, log->id);
}

static const struct leat_frame *frame_at(const struct node_log *log, uint64_t position,
                                         uint64_t *ret_end)
{
    const struct leat_frame *frame = (const void *)log_at(log, position);
    *ret_end = position + leat_frame_extent(&log->shape, position, frame->length_bytes);
    return frame;
}

static bool in_arena(const struct node_log *log, uint64_t position)
{
    return position >= node_arena_low(&log->arena) &&
           log->chain.position - position <= log->arena.arena_bytes;
}

static void walk_from(struct replica *replica, const struct leat_chain *chain)
{
    replica->walked_pos = chain->position;
    replica->walked_crc = chain->crc;
    replica->walked_known = true;
}

static void frames_walk(unsigned node, struct replica *replica, const struct node_log *log)
{
    uint64_t cuts = log->core.counters.cuts + log->core.counters.resets;
    if (cuts != replica->cuts || replica->walked_pos > log->chain.position ||
        !in_arena(log, replica->walked_pos))
        /* where they were is not known any more */
        walk_from(replica, in_arena(log, log->applied.position) ? &log->applied : &log->chain);
    replica->cuts = cuts;
    uint64_t *forgets_pos = &ledger.logs[log->id].forgets_pos;
    if (*forgets_pos < log->tail->closed_unknown_pos)
        *forgets_pos = log->tail->closed_unknown_pos;
    while (replica->walked_pos < log->chain.position && !world.failed) {
        const struct leat_frame *frame = frame_at(log, replica->walked_pos, &replica->walked_pos);
        frame_look(node, log, replica->walked_pos, frame);
        if (replica->walked_known && frame->previous_crc != replica->walked_crc)
            world_fail("R6", "node %u has a frame before %lu of log %u that does not go on there",
                       node + 1, (unsigned long)replica->walked_pos, log->id);
        replica->walked_crc = frame->crc;
        replica->walked_known = true;
        if (leat_frame_type(frame) == LEAT_FRAME_SESSION_CLOSE)
            ledger_closes(
                log->id, &((const struct leat_session_payload *)(const void *)(frame + 1))->client);
    }
}

/* ---- commits ---- */

static uint64_t place_value(const struct leat_chain *chain)
{
    return (uint64_t)chain->crc << 32 | (chain->next_offset & 0xffffffffu);
}

static void truth_advance(unsigned node, struct truth *truth, const struct node_log *log)
{
    while (truth->end.position < log->applied.position && !world.failed) {
        uint64_t begin = truth->end.position, end;
        if (!in_arena(log, begin)) {
            world_fail("SIM", "node %u committed log %u to %lu and lost sight of %lu", node + 1,
                       log->id, (unsigned long)log->applied.position, (unsigned long)begin);
            return;
        }
        const struct leat_frame *frame = frame_at(log, begin, &end);
        if (leat_frame_type(frame) != LEAT_FRAME_RECORD)
            ledger_boundary(log->id, begin);
        else
            ledger_committed(log->id, begin, end, frame->offset, frame->sequence,
                             (const uint8_t *)(frame + 1),
                             frame->length_bytes - LEAT_FRAME_HEADER_BYTES);
        if (leat_frame_type(frame) == LEAT_FRAME_SESSION_CLOSE)
            ledger.logs[log->id].closed_pos = end;
        if (leat_frame_type(frame) == LEAT_FRAME_FENCE)
            ledger_fenced(log->id, begin, ((const struct leat_fence_payload *)(frame + 1))->epoch);
        if (leat_frame_type(frame) == LEAT_FRAME_TRIM)
            check_trimmed(log->id, ((const struct leat_trim_payload *)(frame + 1))->trim_pos);
        check_base(node, log->id, begin, frame);
        leat_chain_advance(&truth->end, frame, end - begin);
        truth->end_by_term[log->core.term < TERMS_MAX ? log->core.term : TERMS_MAX - 1] = end;
        struct sim_map_key key = {.log = log->id, .position = end};
        map_put(&committed, key, place_value(&truth->end));
    }
    ledger_boundary(log->id, truth->end.position);
}

/* C6, R6: what two nodes committed is the same up to the shorter one. */
static void commit_look(unsigned node, const struct node_log *log)
{
    struct truth *truth = &check_truths[log->id];
    truth_advance(node, truth, log);
    struct sim_map_key key = {.log = log->id, .position = log->applied.position};
    uint64_t value;
    if (log->applied.position == 0 || world.failed)
        return;
    if (!map_get(&committed, key, &value) || value != place_value(&log->applied))
        world_fail("C6", "node %u committed log %u to %lu and another node committed other bytes",
                   node + 1, log->id, (unsigned long)log->applied.position);
}

/* Memory of a log that begins anew does not outlive its process yet (ADR 0067). */
static void held_note(struct replica *replica, const struct leat_core *core)
{
    uint64_t held_pos = core->installing ? core->base_pos : core->memory_pos;
    if (replica->held_pos < held_pos)
        replica->held_pos = held_pos;
}

/* R9, W2: counted anew from what the replicas' disks have, running or not. */
static void quorum_look(unsigned node, const struct leat_core *core, uint32_t log_id)
{
    struct truth *truth = &check_truths[log_id];
    unsigned durable = 0, held = 0;
    if (truth->commit_d == 0) { /* the genesis frame: everybody is given it */
        truth->commit_d = core->commit_d;
        truth->commit_r = core->commit_r;
    }
    if (core->commit_d <= truth->commit_d && core->commit_r <= truth->commit_r)
        return;
    for (unsigned i = 0; i < cluster.count; i++) {
        durable += check_replicas[i][log_id].durable_pos >= core->commit_d ||
                   cluster.nodes[i].victim; /* it may have had it when it was asked */
        held += check_replicas[i][log_id].held_pos >= core->commit_r || cluster.nodes[i].victim;
    }
    if (core->commit_d > truth->commit_d && durable < majority())
        world_fail("R9", "node %u commits log %u to %lu, which %u of %u disks have", node + 1,
                   log_id, (unsigned long)core->commit_d, durable, cluster.count);
    if (core->commit_r > truth->commit_r && held < majority())
        world_fail("W2",
                   "node %u commits log %u to %lu as replicated, which %u of %u memories have",
                   node + 1, log_id, (unsigned long)core->commit_r, held, cluster.count);
    if (core->commit_d > truth->commit_d)
        truth->commit_d = core->commit_d;
    if (core->commit_r > truth->commit_r)
        truth->commit_r = core->commit_r;
}

/* ---- roles ---- */

static void leader_look(unsigned node, const struct replica *replica, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    if (core->role != LEAT_LEADER || (replica->role == LEAT_LEADER && replica->term == core->term))
        return;
    struct sim_map_key key = {.log = log->id, .term = core->term};
    uint64_t life = (uint64_t)node << 32 | cluster.nodes[node].life;
    if (map_put(&leaders, key, life) != life)
        world_fail("R1",
                   "node %u leads log %u in term %u, which another node, or it in an earlier "
                   "life, has led",
                   node + 1, log->id, core->term);
    uint64_t before = 0; /* what was committed in earlier terms: an old candidate may win late */
    for (uint32_t term = 0; term < core->term && term < TERMS_MAX; term++) {
        if (before < check_truths[log->id].end_by_term[term])
            before = check_truths[log->id].end_by_term[term];
    }
    if (core->memory_pos < before)
        world_fail("R11",
                   "node %u leads log %u in term %u and ends at %lu, below %lu, committed in "
                   "an earlier term",
                   node + 1, log->id, core->term, (unsigned long)core->memory_pos,
                   (unsigned long)before);
    world_trace("node %u leads log %u in term %u", node + 1, log->id, core->term);
}

static void monotone_look(unsigned node, const struct replica *replica, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    if (replica->log == log && core->term < replica->term)
        world_fail("R2", "node %u goes back from term %u to %u of log %u", node + 1, replica->term,
                   core->term, log->id);
    if (replica->log == log && core->commit_d < replica->commit_d)
        world_fail("R2", "node %u goes back from commit %lu to %lu of log %u", node + 1,
                   (unsigned long)replica->commit_d, (unsigned long)core->commit_d, log->id);
    if (core->durable_pos > core->memory_pos || core->commit_d > core->memory_pos)
        world_fail("R12", "node %u has log %u to %lu, durable to %lu, committed to %lu", node + 1,
                   log->id, (unsigned long)core->memory_pos, (unsigned long)core->durable_pos,
                   (unsigned long)core->commit_d);
}

/* R5, R7: nobody cuts what it knows to be committed, and a leader nothing of its term. R14: who
 * waits for repair does not ask for votes. */
static void cut_look(unsigned node, const struct replica *replica, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    bool cut = replica->log == log && core->counters.cuts + core->counters.resets != replica->cuts;
    if (cut && replica->role == LEAT_LEADER && core->role == LEAT_LEADER &&
        replica->term == core->term)
        world_fail("R5", "node %u cuts log %u, which it leads in term %u", node + 1, log->id,
                   core->term);
    if (cut && core->counters.resets == replica->resets && core->cut_pos < replica->commit_d)
        world_fail("R7", "node %u cuts log %u at %lu and knew it to be committed to %lu", node + 1,
                   log->id, (unsigned long)core->cut_pos, (unsigned long)replica->commit_d);
    if (core->damaged && core->role != LEAT_FOLLOWER)
        world_fail("R14", "node %u waits for repair of log %u and is no follower", node + 1,
                   log->id);
}

/* G1: who has what its leader begins with is cut, and not begun anew: it may have said that it has
 * it. In the pass of the reset its memory still shows what was there. A leader that does not know
 * the runs from this replica's commit on cannot tell (ADR 0004). */
static void reset_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    uint64_t base_pos = log->core.cut_pos, end, value;
    if (before->log != log || log->core.leader_runs[0].first_pos > before->commit_d ||
        base_pos + sizeof(struct leat_frame) > before->memory_pos ||
        before->memory_pos - base_pos > log->arena.arena_bytes)
        return;
    const struct leat_frame *frame = frame_at(log, base_pos, &end);
    struct sim_map_key key = {.log = log->id, .position = end};
    if (leat_frame_type(frame) == LEAT_FRAME_BASE && end <= before->memory_pos &&
        map_get(&committed, key, &value) && value >> 32 == frame->crc)
        world_fail("G1", "node %u begins log %u anew at %lu, and had it to %lu", node + 1, log->id,
                   (unsigned long)base_pos, (unsigned long)before->memory_pos);
}

/* W4: what the arena says that it has is what others are told; a cut lowers it at once. */
static void published_look(unsigned node, const struct node_log *log)
{
    uint64_t published = log->arena.header->published_end.value;
    if (published != log->core.memory_pos)
        world_fail("W4", "node %u has log %u to %lu, and its arena says %lu", node + 1, log->id,
                   (unsigned long)log->core.memory_pos, (unsigned long)published);
}

/* W5: when a majority has lost its memory, what was only replicated may be gone. */
static void memory_look(uint32_t log_id)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < cluster.count; i++)
        lost += check_replicas[i][log_id].amnesiac || cluster.nodes[i].memory_lost;
    if (lost < majority())
        return;
    check_memory_given_up(log_id);
}

void check_memory_given_up(uint32_t log_id)
{
    ledger.logs[log_id].memory_lost_ns = world.now_ns;
    ledger.logs[log_id].memory_lost_pos = check_truths[log_id].commit_r;
    check_majority_amnesiac(log_id);
}

static void replica_look(unsigned node, struct node_log *log)
{
    struct replica *replica = &check_replicas[node][log->id];
    const struct leat_core *core = &log->core;
    const struct replica before = *replica;
    monotone_look(node, replica, log);
    cut_look(node, replica, log);
    published_look(node, log);
    if (core->term != before.term || core->voted_for != before.voted_for)
        faults_ambush(node);
    if (core->counters.cuts + core->counters.resets != replica->cuts) {
        if (core->counters.resets != before.resets)
            reset_look(node, &before, log);
        if (core->counters.resets != before.resets && core->leader != LEAT_CORE_NOBODY)
            faults_install(node, core->leader);
        else
            faults_ambush(node);
        replica->said_memory_pos = 0; /* what it said of a longer log is void */
        replica->said_durable_pos = 0;
        replica->held_pos = 0;
    }
    if (before.cut_settling && !core->cut_settling && core->installing)
        faults_begun_anew(node, core->leader);
    held_note(replica, core);
    if (log->installing || leat_chain_in_batch(&log->chain))
        walk_from(replica, &log->chain);
    else
        frames_walk(node, replica, log);
    leader_look(node, replica, log);
    replica->log = log;
    replica->known = true;
    replica->resets = core->counters.resets;
    replica->cut_settling = core->cut_settling;
    replica->amnesiac = core->amnesiac;
    replica->role = core->role;
    replica->term = core->term;
    replica->voted_for = core->voted_for;
    replica->memory_pos = core->memory_pos;
    replica->durable_pos = core->durable_pos;
    replica->commit_d = core->commit_d;
    replica->commit_r = core->commit_r;
    if (!log->installing)
        commit_look(node, log);
    quorum_look(node, core, log->id);
    if (core->amnesiac && !before.amnesiac)
        memory_look(log->id);
    check_rules(node, &before, log);
    check_words(node, &before, log);
}

/* ---- disks ---- */

/* PR9: who was met with one disk is not heard with another. */
static void disks_look(const struct node_worker *worker, bool starts)
{
    unsigned node = worker->config->node_id - 1;
    for (unsigned i = 0; i < cluster.count; i++) {
        const struct leat_peer_pin *pin = leat_storage_peer_pin(worker->storage, i + 1);
        struct leat_uuid *met = &disks_met[node][i];
        struct leat_uuid now = pin ? pin->node : (struct leat_uuid){{0}};
        if (leat_uuid_equal(met, &now))
            continue;
        if (!starts && !leat_uuid_is_zero(met))
            world_fail("PR9", "node %u takes another disk for that of node %u", node + 1, i + 1);
        *met = now;
    }
}

/* ---- the product's calls that are looked at (see wraps.txt) ---- */

unsigned __real_node_pass(struct node_worker *worker);
unsigned __wrap_node_pass(struct node_worker *worker);
unsigned __wrap_node_pass(struct node_worker *worker)
{
    unsigned node = worker->config->node_id - 1;
    check_workers[node][worker->number] = worker;
    unsigned work = __real_node_pass(worker);
    if (worker->fatal)
        return work;
    check_links(node, worker);
    if (draw.wipe_ms > 0 && worker->number == 0)
        disks_look(worker, false);
    for (uint32_t i = 0; i < worker->log_count && !world.failed; i++) {
        struct node_log *log = worker->logs[i];
        if (log && log->id < LEDGER_LOGS_MAX)
            replica_look(node, log);
    }
    return work;
}

/* J4, W4, R2: a new life has what the former one told others that it had. */
static void boot_look(unsigned node, unsigned worker, const struct node_log *log)
{
    struct replica *replica = &check_replicas[node][log->id];
    const struct leat_core *core = &log->core;
    if (!core->damaged && !cluster.nodes[node].victim &&
        core->durable_pos < replica->said_durable_pos)
        world_fail("J4", "node %u comes back with log %u durable to %lu and had said %lu", node + 1,
                   log->id, (unsigned long)core->durable_pos,
                   (unsigned long)replica->said_durable_pos);
    if (core->damaged && !cluster.nodes[node].victim)
        world_fail("J4", "node %u comes back with log %u damaged, and nobody hurt its disk",
                   node + 1, log->id);
    bool kept = !cluster.nodes[node].memory_lost || memory_is_back[node][worker];
    if (log->accepts_replicated && replica->known && !kept && !stopping_clean[node][worker] &&
        !core->amnesiac)
        world_fail("W5", "node %u lost its memory of log %u and comes back as intact", node + 1,
                   log->id);
    if (replica->amnesiac && !core->amnesiac)
        world_fail("W5", "node %u was amnesiac of log %u and comes back as intact", node + 1,
                   log->id);
    if (kept && /* only its process died (ADR 0060) */
        !cluster.nodes[node].died_in_pass && !core->damaged &&
        core->memory_pos < replica->said_memory_pos)
        world_fail("W4",
                   "node %u lost its process only and comes back with log %u to %lu, and had "
                   "said %lu",
                   node + 1, log->id, (unsigned long)core->memory_pos,
                   (unsigned long)replica->said_memory_pos);
    if (core->term < replica->granted_term ||
        (replica->granted_term > 0 && core->term == replica->granted_term &&
         core->voted_for != replica->granted_to))
        world_fail("R3", "node %u comes back in term %u of log %u and had voted in term %u",
                   node + 1, core->term, log->id, replica->granted_term);
    if (replica->said_memory_pos > core->memory_pos)
        replica->said_memory_pos = core->memory_pos;
    replica->log = NULL;
    walk_from(replica, &log->applied); /* what was recovered is looked at as well */
    replica->cuts = core->counters.cuts + core->counters.resets;
    replica->resets = core->counters.resets;
    replica->amnesiac = core->amnesiac;
    replica->role = core->role;
    replica->memory_pos = core->memory_pos;
    replica->durable_pos = core->durable_pos;
    check_words_life(node, log->id, check_replicated(log->id));
}

int __real_worker_boot(struct node_worker *worker, char *error, unsigned error_bytes);
int __wrap_worker_boot(struct node_worker *worker, char *error, unsigned error_bytes);
int __wrap_worker_boot(struct node_worker *worker, char *error, unsigned error_bytes)
{
    unsigned node = worker->config->node_id - 1;
    int rc = __real_worker_boot(worker, error, error_bytes);
    if (rc != LEAT_OK) {
        world_trace("node %u does not start: %s", node + 1, error);
        return rc;
    }
    if (worker->number == 0)
        disks_look(worker, true);
    check_life(node, worker);
    for (uint32_t i = 0; i < worker->log_count; i++) {
        const struct node_log *log = worker->logs[i];
        if (log && log->id < LEDGER_LOGS_MAX)
            boot_look(node, worker->number, log);
    }
    stopping_clean[node][worker->number] = false;
    memory_is_back[node][worker->number] = true;
    if (worker->number + 1 == worker->config->worker_count) {
        for (uint32_t i = 0; i < LEDGER_LOGS_MAX; i++)
            memory_look(i);
        cluster.nodes[node].memory_lost = false;
    }
    return rc;
}

/* All that its logs have is durable. */
int __real_leat_storage_clean_stop(struct leat_storage *storage);
int __wrap_leat_storage_clean_stop(struct leat_storage *storage);
int __wrap_leat_storage_clean_stop(struct leat_storage *storage)
{
    for (unsigned i = 0; i < SIM_HOSTS_MAX * LEAT_WORKERS_MAX; i++) {
        const struct node_worker *worker =
            check_workers[i / LEAT_WORKERS_MAX][i % LEAT_WORKERS_MAX];
        if (worker && worker->storage == storage)
            stopping_clean[i / LEAT_WORKERS_MAX][i % LEAT_WORKERS_MAX] = true;
    }
    return __real_leat_storage_clean_stop(storage);
}

/* Its logs' memory goes before its process ends. */
void __real_worker_shut(struct node_worker *worker);
void __wrap_worker_shut(struct node_worker *worker);
void __wrap_worker_shut(struct node_worker *worker)
{
    unsigned node = worker->config->node_id - 1;
    check_node_dying(node);
    check_node_down(node);
    __real_worker_shut(worker);
}

/* ---- what others tell ---- */

/* What it came to have in its last pass it may have told others. */
void check_node_dying(unsigned node)
{
    for (uint32_t i = 0; i < LEDGER_LOGS_MAX; i++) {
        struct replica *replica = &check_replicas[node][i];
        if (!replica->log)
            continue;
        const struct leat_core *core = &replica->log->core;
        replica->amnesiac = core->amnesiac;
        check_log_reached(replica->log);
        if (replica->durable_pos < core->durable_pos)
            replica->durable_pos = core->durable_pos;
        held_note(replica, core);
        if (!replica->log->installing)
            commit_look(node, replica->log); /* clients may have been told */
    }
}

void check_node_down(unsigned node)
{
    for (uint32_t i = 0; i < LEDGER_LOGS_MAX; i++) {
        check_replicas[node][i].log = NULL;
        check_replicas[node][i].role = LEAT_FOLLOWER;
    }
    memset(check_workers[node], 0, sizeof(check_workers[node]));
}

void check_memory_lost(unsigned node)
{
    cluster.nodes[node].memory_lost = true;
    memset(memory_is_back[node], 0, sizeof(memory_is_back[node]));
    for (uint32_t i = 0; i < LEDGER_LOGS_MAX; i++)
        memory_look(i);
}

void check_node_lost(unsigned node)
{
    check_said_forget(node);
    check_journal_forget(node);
    memset(check_replicas[node], 0, sizeof(check_replicas[node]));
}

void check_node_ended(unsigned node, int result)
{
    const struct sim_node *which = &cluster.nodes[node];
    if (result == LEAT_OK || result == LEAT_EFENCED || result == LEAT_EINUSE ||
        result == LEAT_EDEADLINE || /* stopped, and not clean */
        which->host.disk_full || which->host.flush_error_ppm > 0 || which->victim)
        return; /* for what its disk is, it may */
    world_fail("START", "node %u does not start: %s", node + 1, leat_error_name(result));
}

void check_disk_failed(struct sim_process *process)
{
    process->disk_failed = true;
}

void check_late_write(const struct sim_open *lock)
{
    const struct sim_open *holder = file_locker(lock);
    if (holder && holder != lock)
        world_fail("V3", "a write of a dead process lands when another has its directory's lock");
}
