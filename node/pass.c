/* SPDX-License-Identifier: Apache-2.0
 *
 * The pass: everything a worker does, in one order, on one screen (node_pass at the end). Packets
 * go out before completions and before the disk, whose submission costs the core ten times what a
 * packet does; acknowledgements depend on completions only, so this is safe (CM1).
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define PASS_EVENTS_MAX    64u
#define PASS_EXPIRE_EFFORT 64u
#define PASS_EXPIRE_NS     1000000000u /* a log's sessions are looked through a part at a time */
#define PASS_WAIT_NS       1000000000u
#define PASS_STUCK_NS_MIN  500000000u
/* Commits of more busy logs than these are told at most once in so long and log. */
#define PASS_FEW_LOGS  4u
#define PASS_COMMIT_NS 16000u

void node_fatal(struct node_worker *worker, int error, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (worker->fatal == 0)
        logger_line(worker->out, LEAT_LOG_ERROR, "stopping at once: %s (%s)", text,
                    leat_error_text(error));
    worker->fatal = error;
}

/* ---- disk completions ---- */

static void pass_step(struct node_log *log, enum leat_input_kind kind, uint64_t sequence)
{
    struct leat_core_input input = {
        .kind = kind, .now_ns = log->worker->now_ns, .sequence = sequence};
    leat_core_step(&log->core, &input);
}

/* Of a log that comes or goes. */
static void pass_take_life(struct node_worker *worker, const struct leat_storage_event *event)
{
    switch (event->kind) {
    case LEAT_STORAGE_CREATED:
        life_created(worker, event->sequence, event->result);
        break;
    case LEAT_STORAGE_DELETED:
        life_deleted(worker, event->log_index);
        break;
    case LEAT_STORAGE_READ:
        if (event->cookie == &worker->retention)
            retention_read_done(worker, event->result);
        else if (event->cookie == &worker->repair_serve)
            repair_read_done(worker, event->result);
        else
            life_read_done(worker, event);
        break;
    default:
        break; /* what a deleted log had asked for */
    }
}

static unsigned pass_storage(struct node_worker *worker)
{
    struct leat_storage_event events[PASS_EVENTS_MAX];
    int count = leat_storage_poll(worker->storage, worker->now_ns, events, PASS_EVENTS_MAX);
    if (count < 0) {
        node_fatal(worker, count, "%s", leat_storage_fence_reason(worker->storage));
        return 1;
    }
    for (int i = 0; i < count; i++) {
        struct node_log *log = worker->logs[events[i].log_index];
        if (!log) {
            pass_take_life(worker, &events[i]);
            continue;
        }
        worker_wake(log);
        switch (events[i].kind) {
        case LEAT_STORAGE_WRITTEN:
            pass_step(log, LEAT_INPUT_PERSISTED, events[i].sequence);
            break;
        case LEAT_STORAGE_VOTED:
            pass_step(log, LEAT_INPUT_VOTE_PERSISTED, events[i].sequence);
            break;
        case LEAT_STORAGE_CUT_DONE:
            log->cut_settled = events[i].sequence;
            break;
        case LEAT_STORAGE_READ:
            if (events[i].cookie == &worker->retention) {
                retention_read_done(worker, events[i].result);
                break;
            }
            if (events[i].cookie == &worker->repair_serve) {
                repair_read_done(worker, events[i].result);
                break;
            }
            log_send_read_done(log, (unsigned)((struct node_send *)events[i].cookie - log->sends),
                               &events[i]);
            break;
        case LEAT_STORAGE_DAMAGE:
            repair_note(log, events[i].sequence, (uint64_t)events[i].result);
            break;
        case LEAT_STORAGE_REPAIRED:
            repair_done(log, events[i].sequence, events[i].result);
            break;
        case LEAT_STORAGE_CREATED:
        case LEAT_STORAGE_DELETED:
            LEAT_ASSERT(!"a log that serves");
        }
    }
    return (unsigned)count;
}

/* V1: a range is overwritten only when neither a write nor a packet refers to it any more. */
static void pass_settle_cut(struct node_log *log)
{
    if (log->cut_settled == 0 ||
        leat_port_lowest_referenced(log->worker->port, log->index) != UINT64_MAX)
        return;
    pass_step(log, LEAT_INPUT_CUT_SETTLED, log->cut_settled);
    log->cut_settled = 0;
}

/* ---- packets ---- */

static void pass_take_log(struct node_worker *worker, struct node_log *log, unsigned peer,
                          const struct leat_wire_view *view)
{
    const struct leat_message *message = view->body;
    const struct node_peer *from = &worker->peers[peer];
    const struct node_link *link = &from->links[view->header->worker];
    bool carries = message->kind == LEAT_MESSAGE_APPEND && message->begin_pos < message->end_pos;
    if (message->from != from->member || message->to != worker->self ||
        message->from_incarnation != link->incarnation || message->term >= LEAT_TERM_MAX ||
        message->memory_pos < message->durable_pos ||
        (carries && message->end_pos - message->begin_pos != view->payload_bytes) ||
        (message->kind == LEAT_MESSAGE_RECONCILE_REPLY &&
         message->begin_pos % log->shape.segment_bytes != 0)) {
        worker->drops[LEAT_WIRE_DROP_BODY]++;
        return;
    }
    if (log->core.role == LEAT_LEADER)
        log_publish(
            log); /* what was sealed in this burst is the log's, should this end the reign */
    struct leat_core_input input = {
        .kind = LEAT_INPUT_MESSAGE,
        .now_ns = worker->now_ns,
        .message = message,
        .runs = (const struct leat_run *)(const void *)view->payload,
    };
    leat_core_step(&log->core, &input);
    if (!carries)
        return;
    if (leat_core_admits(&log->core, message))
        log_receive(log, message, view->payload, view->payload_bytes);
    else
        worker->drops[LEAT_WIRE_DROP_UNRECONCILED]++;
}

/* False for a heartbeat: a node that hears no more than those may sleep as if it heard nothing. */
static bool pass_take_message(struct node_worker *worker, unsigned index,
                              const struct leat_wire_view *view)
{
    const struct node_peer *peer = &worker->peers[index];
    if (view->header->kind == LEAT_WIRE_HELLO) {
        peers_take_hello(worker, index, view);
        return true;
    }
    struct node_link *link = &worker->peers[index].links[view->header->worker];
    if (!link->known || view->header->from_incarnation != link->incarnation) {
        peers_hear_stranger(worker, index, view->header);
        return true;
    }
    if (view->header->kind == LEAT_WIRE_HEARTBEAT) {
        peers_take_heartbeat(worker, index, view);
        return false;
    }
    struct node_log *log = worker_log(worker, view->header->log_id);
    if (!log || log->generation != view->header->log_generation ||
        view->header->worker != peers_worker_of(peer, log->id)) {
        worker->drops[LEAT_WIRE_DROP_LOG]++;
        return true;
    }
    worker_wake(log);
    if (view->header->kind == LEAT_WIRE_LOG)
        pass_take_log(worker, log, index, view);
    else if (view->header->kind == LEAT_WIRE_FORWARD)
        forward_take(worker, log, index, view);
    else if (view->header->kind == LEAT_WIRE_FORWARDED)
        forward_take_reply(worker, log, view);
    else if (view->header->kind == LEAT_WIRE_ADMIN)
        admin_take(worker, log, index, view);
    else if (view->header->kind == LEAT_WIRE_ADMINISTERED)
        admin_take_reply(worker, log, index, view);
    else if (view->header->kind == LEAT_WIRE_TAIL)
        tail_take(log, index, view);
    else if (view->header->kind == LEAT_WIRE_TAIL_REPLY)
        tail_take_reply(log, view);
    else if (view->header->kind == LEAT_WIRE_OPERATE)
        operate_take(log, index, view);
    else if (view->header->kind == LEAT_WIRE_OPERATED)
        operate_take_reply(log, view);
    else if (view->header->kind == LEAT_WIRE_REPAIR)
        repair_take(worker, log, index, view);
    else if (view->header->kind == LEAT_WIRE_REPAIR_DATA)
        repair_take_data(worker, log, index, view);
    else
        worker->drops[LEAT_WIRE_DROP_KIND]++;
    return true;
}

/* A datagram holds one message or several, of which one that is refused costs the others nothing:
 * a client's torn bytes are its own loss. Behind a damaged header nothing is to be found. */
static bool pass_take_packet(struct node_worker *worker, const struct leat_packet *packet)
{
    struct leat_wire_view view;
    const uint8_t *bytes = packet->data;
    uint32_t at = 0;
    bool works = false;
    do {
        int drop = leat_wire_parse(bytes + at, packet->length_bytes - at, &worker->cluster,
                                   worker->config->node_id, &view);
        if (drop < 0 && view.header->from_node != worker->peers[packet->peer].node_id)
            drop = LEAT_WIRE_DROP_FROM;
        if (drop < 0 && view.header->worker >= LEAT_WORKERS_MAX)
            drop = LEAT_WIRE_DROP_WORKER;
        if (drop >= 0)
            worker->drops[drop]++;
        works |= drop >= 0 || pass_take_message(worker, packet->peer, &view);
        at += view.extent_bytes;
    } while (at < packet->length_bytes);
    return works;
}

static unsigned pass_receive(struct node_worker *worker)
{
    struct leat_packet packets[LEAT_PORT_BURST_MAX];
    unsigned count = leat_port_receive(worker->port, worker->now_ns, packets, LEAT_PORT_BURST_MAX);
    unsigned work = 0;
    if (count == 0)
        return 0;
    for (unsigned i = 0; i < count; i++)
        work += pass_take_packet(worker, &packets[i]);
    leat_port_release(worker->port, packets, count);
    for (uint32_t i = 0; i < worker->active_count; i++) {
        struct node_log *log = worker->active[i];
        if (log->assembler.count > 0 && log_verify(log) != LEAT_OK)
            node_fatal(worker, LEAT_EVERSION, "log %u has a frame of an unknown type at %lu",
                       log->id, (unsigned long)log->chain.position);
    }
    return work;
}

/* ---- what the core asks for ---- */

static const char *const role_names[] = {"follower", "pre-candidate", "candidate", "leader"};

static void pass_role_changed(struct node_log *log, const struct leat_core_effects *effects)
{
    struct node_worker *worker = log->worker;
    const struct leat_core *core = &log->core;
    log->role_epoch++;
    log->mark_count = 0;
    if (!effects->cut)
        log_assembler_clear(log);
    tail_clear(log);
    if (core->role != LEAT_LEADER) {
        log->tail_is_valid = false;
        log_send_clear(log);
    }
    worker->led_changed = true;
    log_tell_leadership(log);
    uint32_t leader = core->leader == LEAT_CORE_NOBODY ? 0 : worker->config->nodes[core->leader].id;
    logger_line(worker->out, LEAT_LOG_INFO,
                "log %u: %s in term %u, leader %u, end %lu, durable %lu, commit %lu%s%s", log->id,
                role_names[core->role], core->term, leader, (unsigned long)core->memory_pos,
                (unsigned long)core->durable_pos, (unsigned long)core->commit_d,
                core->amnesiac ? ", amnesiac" : "", core->damaged ? ", damaged" : "");
}

/* Only what somebody waits for goes to disk at once. */
static void pass_write(struct node_log *log, const struct leat_core_effects *effects)
{
    struct leat_storage *storage = log->worker->storage;
    bool wanted = log->durable_wanted > log->write_asked || log->core.installing;
    if (effects->write) {
        /* an installed log's core does not know the run that its base lies in; the frame does */
        LEAT_ASSERT(effects->write_end == log->chain.position &&
                    effects->write_last_term <= log->chain.term);
        (wanted ? leat_storage_write : leat_storage_write_lazily)(storage, log->index,
                                                                  effects->write_seq, &log->chain);
        log->write_asked = effects->write_end;
    } else if (wanted || log->core.write_count == LEAT_CORE_WRITES_MAX) {
        leat_storage_hurry(storage); /* the core asks for no more until some is done */
    }
}

static void pass_effects(struct node_log *log, const struct leat_core_effects *effects)
{
    struct node_worker *worker = log->worker;
    if (effects->cut) {
        logger_line(worker->out, LEAT_LOG_INFO, "log %u: %s at %lu", log->id,
                    effects->reset ? "begins anew" : "cut", (unsigned long)effects->cut_pos);
        log_cut(log, effects);
    }
    if (effects->role_changed)
        pass_role_changed(log, effects);
    if (effects->amnesia_changed)
        leat_storage_set_amnesiac(worker->storage, log->index, log->core.amnesiac);
    if (effects->damage_ended) {
        leat_storage_drop_claim(worker->storage, log->index);
        logger_line(worker->out, LEAT_LOG_INFO, "log %u: no longer damaged", log->id);
    }
    if (effects->won_by_amnesiacs)
        logger_line(worker->out, LEAT_LOG_WARNING,
                    "log %u: elected by nodes that lost their memory: replicated appends may be "
                    "lost since position %lu",
                    log->id, (unsigned long)log->core.commit_d);
    if (effects->vote)
        leat_storage_vote(worker->storage, log->index, effects->vote_term,
                          effects->voted_for == LEAT_CORE_NOBODY
                              ? LEAT_VOTED_NONE
                              : worker->config->nodes[effects->voted_for].id,
                          effects->vote_seq);
    pass_write(log, effects);
    for (uint32_t i = 0; i < effects->message_count; i++)
        log_send_message(log, &effects->messages[i]);
    if (effects->append_term)
        log_append_term(log);
}

/* A leader whose own disk makes no progress for half an arena, or in whose disk a write is stuck
 * for long, hands leadership over (CM9). */
static void pass_watch_disk(struct node_log *log)
{
    static _Thread_local struct logger_rate rate;
    const struct leat_core *core = &log->core;
    int best;
    bool stuck = log->worker->disk_stuck && core->memory_pos > core->durable_pos;
    if (core->role != LEAT_LEADER ||
        (!stuck && core->memory_pos - core->durable_pos <= log->arena.arena_bytes / 2) ||
        (best = log_best_follower(log)) < 0 || core->peers[best].durable_pos <= core->durable_pos)
        return;
    logger_limited(log->worker->out, &rate, log->worker->now_ns, LEAT_LOG_WARNING,
                   "log %u: this node's disk is %lu KiB behind: hands leadership over", log->id,
                   (unsigned long)((core->memory_pos - core->durable_pos) >> 10));
    log_transfer(log, best);
}

/* Longer than any election takes, and than a slow disk's slowest writes. */
static void pass_look_at_disk(struct node_worker *worker)
{
    uint64_t limit_ns = 4 * worker->config->election_max_ns;
    if (limit_ns < PASS_STUCK_NS_MIN)
        limit_ns = PASS_STUCK_NS_MIN;
    worker->disk_stuck = leat_storage_oldest_write_ns(worker->storage, worker->now_ns) > limit_ns;
}

/* A wait for a segment is normal for a moment; one that lasts explains itself. */
static void pass_watch_space(struct node_worker *worker)
{
    static _Thread_local struct logger_rate rate;
    uint64_t waits = leat_storage_counters(worker->storage)->segment_waits;
    if (waits != worker->segment_waits_seen) {
        worker->segment_waits_seen = waits;
        worker->segment_waited_ns = worker->now_ns;
        if (worker->segment_wait_began_ns == 0)
            worker->segment_wait_began_ns = worker->now_ns;
    } else if (worker->now_ns - worker->segment_waited_ns > PASS_WAIT_NS) {
        worker->segment_wait_began_ns = 0;
    }
    if (worker->segment_wait_began_ns != 0 &&
        worker->now_ns - worker->segment_wait_began_ns > PASS_WAIT_NS)
        logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                       "appends wait for a segment to be prepared: is there space left in %s?",
                       worker->config->data_dir);
}

/* The newest mark that is as old as a session may be idle; NULL: none in this reign. By this node's
 * monotonic clock: a wall clock that jumps ends nobody's session. */
static const struct node_mark *pass_mark(struct node_log *log)
{
    uint64_t now_ns = log->worker->now_ns, ttl_ns = log->worker->config->session_ttl_ns;
    const struct node_mark *newest = &log->marks[(log->mark_count + NODE_MARKS - 1) % NODE_MARKS];
    if (log->mark_count == 0 || now_ns - newest->ns >= ttl_ns / (NODE_MARKS / 2))
        log->marks[log->mark_count++ % NODE_MARKS] =
            (struct node_mark){now_ns, log->chain.position, log->chain.last_time_ns};
    const struct node_mark *found = NULL;
    for (uint32_t i = 0; i < NODE_MARKS && i < log->mark_count; i++) {
        const struct node_mark *mark = &log->marks[i];
        if (now_ns - mark->ns >= ttl_ns && (!found || found->ns < mark->ns))
            found = mark;
    }
    return found;
}

static void pass_expire(struct node_log *log)
{
    if (!leat_core_may_append(&log->core) || log->tail->count == 0 ||
        log->worker->now_ns - log->expired_ns < PASS_EXPIRE_NS)
        return;
    log->expired_ns = log->worker->now_ns;
    const struct node_mark *mark = pass_mark(log);
    uint32_t session = mark ? leat_sessions_idle(log->tail, mark->position, mark->time_ns,
                                                 PASS_EXPIRE_EFFORT, &log->expire_cursor)
                            : 0;
    if (session != 0)
        session_close(log, session);
}

/* ---- the pass ---- */

static void pass_log(struct node_worker *worker, struct node_log *log, unsigned *work)
{
    pass_expire(log);
    pass_watch_disk(log);
    retention_tick(log);
    if (log->core.role == LEAT_LEADER) {
        log_publish(log);
        tail_lead(log);
    }
    log_nak(log, worker->now_ns);
    leat_core_hold(&log->core, worker->active_count > PASS_FEW_LOGS
                                   ? worker->active_count * PASS_COMMIT_NS
                                   : 0);
    leat_core_poll(&log->core, worker->now_ns, &worker->effects);
    pass_effects(log, &worker->effects);
    *work += log_send_burst(log);
}

/* Whose turn it is to send first. As long as the port takes all that is always the same one. */
static uint32_t pass_first(struct node_worker *worker)
{
    uint64_t full = leat_port_counters(worker->port)->tx_full;
    if (full != worker->full_seen) {
        worker->send_turn++;
        worker->send_backwards = !worker->send_backwards;
    }
    worker->full_seen = full;
    if (worker->send_turn >= worker->active_count)
        worker->send_turn = 0;
    return worker->send_turn;
}

/* Something to do in the very next pass, whatever comes? */
static bool pass_stays_active(const struct node_log *log)
{
    return log->assembler.count > 0 || log->cut_settled != 0 || log->core.role_changed ||
           log->chain.position != log->core.memory_pos || log_send_pending(log) ||
           tail_is_busy(log);
}

/* Logs that are done sleep until their core's time, or a look at the sessions, comes. */
static void pass_put_to_sleep(struct node_worker *worker)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < worker->active_count; i++) {
        struct node_log *log = worker->active[i];
        uint64_t due_ns = leat_core_deadline_ns(&log->core);
        if (pass_stays_active(log) || due_ns <= worker->now_ns) {
            worker->active[kept++] = log;
            continue;
        }
        log->active = false;
        bool looks = log->tail->count > 0 || log->retention_bytes > 0 || log->retention_ns > 0;
        if (log->core.role == LEAT_LEADER && looks && due_ns > worker->now_ns + PASS_EXPIRE_NS)
            due_ns = worker->now_ns + PASS_EXPIRE_NS;
        worker_due(log, due_ns);
    }
    worker->active_count = kept;
}

/* A worker that does not come to its next pass is taken for dead by its peers: whoever looks for
 * the cause of an election should not have to guess it. */
static void pass_begin(struct node_worker *worker)
{
    static _Thread_local struct logger_rate rate;
    uint64_t before_ns = worker->now_ns;
    worker->now_ns = leat_clock_monotonic_ns();
    worker->realtime_ns = leat_clock_realtime_ns();
    uint64_t absence_ns = worker->now_ns - before_ns;
    if (absence_ns < worker->config->election_min_ns / 2 || worker->passes == 0)
        return;
    worker->absences++;
    if (absence_ns > worker->absence_max_ns)
        worker->absence_max_ns = absence_ns;
    logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                   "worker %u was away for %lu ms: another task had its core, or the process stood",
                   worker->number, (unsigned long)(absence_ns / 1000000));
}

unsigned node_pass(struct node_worker *worker)
{
    unsigned work = 0;
    pass_begin(worker);

    work += pass_storage(worker);
    if (worker->fatal)
        return 1;
    trace_point(worker, LEAT_TRACE_DURABLE);
    pass_look_at_disk(worker);
    if (!worker->closing)
        work += pass_receive(worker);
    trace_point(worker, LEAT_TRACE_RECEIVED);
    for (uint32_t i = 0; i < worker->active_count; i++) {
        struct node_log *log = worker->active[i];
        pass_settle_cut(log);
        log->needed_from = log_needed_from(log);
        log->append_limit = leat_core_append_limit(&log->core);
    }
    if (worker->config->worker_count > 1)
        work += handover_poll(worker);
    work += clients_poll(worker);
    trace_point(worker, LEAT_TRACE_SEALED);
    peers_tick(worker);
    work += admin_tick(worker);
    tail_tick(worker);
    operate_tick(worker);
    life_tick(worker);
    repair_tick(worker);
    worker_wake_due(worker);
    uint32_t first = pass_first(worker);
    for (uint32_t i = first; i < worker->active_count; i++)
        pass_log(worker, worker->active[i], &work);
    for (uint32_t i = 0; i < first && i < worker->active_count; i++)
        pass_log(worker, worker->active[i], &work);
    trace_point(worker, LEAT_TRACE_SENT);
    leat_port_flush(worker->port);
    trace_point(worker, LEAT_TRACE_COMMIT_R);
    trace_point(worker, LEAT_TRACE_COMMIT_D);
    for (uint32_t i = 0; i < worker->active_count; i++) {
        struct node_log *log = worker->active[i];
        if (log_apply_commits(log) != LEAT_OK)
            node_fatal(worker, LEAT_ECORRUPT,
                       "log %u: this replica differs from the log at position %lu", log->id,
                       (unsigned long)log->applied.position);
    }
    if (worker->fatal)
        return 1;
    clients_tell(worker);
    leat_storage_submit(worker->storage, worker->now_ns);
    pass_watch_space(worker);
    pass_put_to_sleep(worker);
    if (commands_run(worker) > 0) {
        clients_tell(worker);
        work++;
    }
    worker->passes++;
    worker->busy_passes += work > 0;
    return work;
}
