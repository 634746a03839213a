/* SPDX-License-Identifier: Apache-2.0
 *
 * A node around its core, in the order of node/pass.c: packets in, frames verified, published,
 * poll, effects, commits gone over. What a leader seals and what a follower verifies.
 */
#include "harness.h"

#include <string.h>

#include "base/assert.h"
#include "clients.h"

void replica_step(struct cluster *cluster, struct replica *replica,
                  const struct leat_core_input *input)
{
    struct leat_core_input timed = *input;
    timed.now_ns = cluster->now_ns;
    leat_core_step(&replica->core, &timed);
}

static void step_at(struct cluster *cluster, struct replica *replica, enum leat_input_kind kind,
                    uint64_t position, uint32_t term)
{
    struct leat_core_input input = {.kind = kind, .position = position, .term = term};
    replica_step(cluster, replica, &input);
}

/* The frame whose cells lie whole at `position`; NULL: none. */
const struct frame *frame_in(const struct cluster *cluster, const uint32_t *cells,
                             uint64_t position)
{
    uint32_t at = cell_of(position);
    if (at >= LOG_CELLS)
        return NULL;
    uint32_t id = cells[at] >> 8;
    if (id == NO_FRAME || (cells[at] & 0xff) != 0)
        return NULL;
    const struct frame *frame = &cluster->frames[id];
    for (uint32_t i = 0; i < frame->cells; i++) {
        if (at + i >= LOG_CELLS || cells[at + i] != (id << 8 | i))
            return NULL;
    }
    return frame->position == position ? frame : NULL;
}

void sessions_apply_frame(struct cluster *cluster, struct leat_sessions *sessions,
                          const struct frame *frame)
{
    struct leat_frame header = {
        .type_flags = frame->type,
        .session = frame->session,
        .sequence = frame->sequence,
        .term = frame->term,
        .time_ns = frame->position,
        .offset = frame->payload,
    };
    struct leat_session_payload payload = {.client = {{frame->client, frame->client >> 4, 7}},
                                           .session = frame->session};
    int rc = leat_sessions_apply(sessions, frame->position, &header, &payload);
    if (rc != LEAT_OK)
        check_fail(cluster, "C1: frame %lu of session %u, sequence %lu does not fit the table",
                   (unsigned long)frame->position, frame->session, (unsigned long)frame->sequence);
}

/* The table as of the end of a frame, as a BASE frame would carry it. */
void sessions_rebuild(struct cluster *cluster, struct leat_sessions *sessions, uint32_t last)
{
    static uint32_t path[FRAMES_MAX];
    uint32_t count = 0;
    leat_sessions_init(sessions);
    for (; last != NO_FRAME; last = cluster->frames[last].before)
        path[count++] = last;
    while (count > 0)
        sessions_apply_frame(cluster, sessions, &cluster->frames[path[--count]]);
}

/* ---- leader ---- */

bool replica_append(struct cluster *cluster, struct replica *replica, const struct frame *frame)
{
    uint64_t end = replica->chain_pos + (uint64_t)frame->cells * CELL_BYTES;
    LEAT_ASSERT(replica->core.role == LEAT_LEADER && replica->tail_is_valid);
    if (cell_of(end) > LOG_CELLS - 64 || cluster->frame_count == FRAMES_MAX ||
        (frame->type != LEAT_FRAME_TERM && end > leat_core_append_limit(&replica->core)))
        return false;
    uint32_t id = cluster->frame_count++;
    const struct frame *before = &cluster->frames[replica->chain_frame];
    struct frame *own = &cluster->frames[id];
    *own = *frame;
    own->position = replica->chain_pos;
    own->before = replica->chain_frame;
    own->term = replica->core.term;
    own->run_first_pos =
        frame->type == LEAT_FRAME_TERM ? replica->chain_pos : before->run_first_pos;
    for (uint32_t i = 0; i < own->cells; i++)
        replica->arena[cell_of(own->position) + i] = id << 8 | i;
    replica->chain_pos = end;
    replica->chain_frame = id;
    sessions_apply_frame(cluster, &replica->tail, own);
    return true;
}

void replica_publish(struct cluster *cluster, struct replica *replica)
{
    if (replica->chain_pos == replica->core.memory_pos)
        return;
    replica->published_end = replica->chain_pos; /* W4: before it counts itself */
    step_at(cluster, replica, LEAT_INPUT_APPENDED, replica->chain_pos, 0);
}

static void replica_append_term(struct cluster *cluster, struct replica *replica)
{
    LEAT_ASSERT(replica->chain_pos == replica->core.memory_pos);
    replica->tail = replica->committed;
    uint64_t position = replica->applied_pos;
    while (position < replica->chain_pos) {
        const struct frame *frame = frame_in(cluster, replica->arena, position);
        LEAT_ASSERT(frame);
        sessions_apply_frame(cluster, &replica->tail, frame);
        position = frame_end(frame);
    }
    replica->tail_is_valid = true;
    step_at(cluster, replica, LEAT_INPUT_RUN, replica->chain_pos, replica->core.term);
    struct frame term = {.type = LEAT_FRAME_TERM, .cells = TERM_CELLS};
    if (replica_append(cluster, replica, &term))
        replica_publish(cluster, replica);
}

static void send_append(struct cluster *cluster, struct replica *replica,
                        const struct leat_message *message)
{
    struct leat_message piece = *message;
    if (message->begin_pos >= message->end_pos) {
        network_send_message(cluster, message, NULL, NULL, 0);
        return;
    }
    while (piece.begin_pos < message->end_pos) {
        uint64_t end = piece.begin_pos + (uint64_t)cluster->datagram_cells * CELL_BYTES;
        piece.end_pos = end < message->end_pos ? end : message->end_pos;
        if (piece.begin_pos >= replica->core.base_pos) /* else trimmed: not there to be sent */
            network_send_message(cluster, &piece, NULL, &replica->arena[cell_of(piece.begin_pos)],
                                 cell_of(piece.end_pos - piece.begin_pos));
        piece.begin_pos = piece.end_pos;
    }
}

/* As in a real log the frame at the new base, a BASE frame there, is committed itself. */
bool replica_trim(struct cluster *cluster, struct replica *replica)
{
    const struct leat_core *core = &replica->core;
    uint64_t to = core->commit_d < core->durable_pos ? core->commit_d : core->durable_pos;
    uint64_t position = core->base_pos;
    uint64_t middle = core->base_pos + (to - core->base_pos) / 2;
    const struct frame *frame = frame_in(cluster, replica->arena, position);
    while (frame && position < to && (position <= middle || frame->type == LEAT_FRAME_TERM)) {
        position = frame_end(frame);
        frame = frame_in(cluster, replica->arena, position);
    }
    if (!frame || frame_end(frame) > to || position > replica->applied_pos)
        return false;
    step_at(cluster, replica, LEAT_INPUT_BASE, position, 0);
    replica->journal.base_pos = position;
    if (replica->journal.commit_d < position)
        replica->journal.commit_d = position;
    cluster_line(cluster, "%c trims to %lu", replica_name(replica->self), (unsigned long)position);
    return true;
}

/* ---- follower ---- */

static void receive_cells(struct cluster *cluster, struct replica *replica,
                          const struct packet *packet)
{
    uint32_t at = cell_of(packet->message.begin_pos);
    (void)cluster;
    for (uint32_t i = 0; i < packet->cell_count; i++, at++) {
        if (at < cell_of(replica->chain_pos) || at >= LOG_CELLS)
            continue;
        replica->arena[at] = packet->cells[i];
        replica->got[at] = 1;
        if (at >= replica->got_high)
            replica->got_high = at + 1;
    }
}

static void assembler_clear(struct replica *replica)
{
    memset(replica->got, 0, sizeof(replica->got));
    replica->got_high = 0;
    replica->gap_since_ns = 0;
}

static uint32_t got_end(const struct replica *replica, uint32_t at)
{
    while (at < replica->got_high && replica->got[at])
        at++;
    return at;
}

/* One frame at the verified end. 1: taken, 0: more must come, -1: refused. */
static int verify_one(struct cluster *cluster, struct replica *replica)
{
    uint32_t at = cell_of(replica->chain_pos);
    uint32_t id = replica->arena[at] >> 8;
    const struct frame *frame = &cluster->frames[id];
    if ((replica->arena[at] & 0xff) != 0 || frame->position != replica->chain_pos ||
        (!replica->installing && frame->before != replica->chain_frame))
        return -1;
    if (got_end(replica, at) < at + frame->cells)
        return 0;
    uint32_t expected = leat_core_expected_term(&replica->core, replica->chain_pos);
    if (!frame_in(cluster, replica->arena, replica->chain_pos) ||
        (expected != 0 && frame->term != expected))
        return -1;
    uint32_t term = cluster->frames[replica->chain_frame].term;
    if (replica->installing) { /* the BASE frame says what lies before it */
        replica->installing = false;
        term = cluster->frames[frame->before].term;
        replica->applied_frame = frame->before;
        sessions_rebuild(cluster, &replica->committed, frame->before);
    }
    replica->chain_pos = frame_end(frame);
    replica->chain_frame = id;
    if (frame->term != term) {
        step_at(cluster, replica, LEAT_INPUT_RUN, frame->position, frame->term);
        replica->published_end = replica->chain_pos;
        step_at(cluster, replica, LEAT_INPUT_VERIFIED, replica->chain_pos, 0);
    }
    return 1;
}

static void replica_verify(struct cluster *cluster, struct replica *replica)
{
    uint64_t begin = replica->chain_pos;
    while (cell_of(replica->chain_pos) < replica->got_high &&
           replica->got[cell_of(replica->chain_pos)]) {
        int rc = verify_one(cluster, replica);
        if (rc > 0)
            continue;
        if (rc < 0) { /* the first copy does not win */
            uint32_t at = cell_of(replica->chain_pos);
            memset(&replica->got[at], 0, got_end(replica, at) - at);
        }
        break;
    }
    if (replica->chain_pos == begin)
        return;
    replica->published_end = replica->chain_pos;
    if (replica->chain_pos > replica->core.memory_pos)
        step_at(cluster, replica, LEAT_INPUT_VERIFIED, replica->chain_pos, 0);
}

static void replica_nak(struct cluster *cluster, struct replica *replica)
{
    struct leat_core *core = &replica->core;
    uint32_t begin = got_end(replica, cell_of(replica->chain_pos));
    uint32_t end = begin;
    while (end < replica->got_high && !replica->got[end])
        end++;
    if (end == begin || end >= replica->got_high || core->role != LEAT_FOLLOWER ||
        !core->reconciled) {
        replica->gap_since_ns = 0;
        return;
    }
    if (replica->gap_since_ns == 0)
        replica->gap_since_ns = cluster->now_ns;
    if (cluster->now_ns - replica->gap_since_ns < cluster->nak_delay_ns ||
        cluster->now_ns - replica->nak_sent_ns < 2 * cluster->nak_delay_ns)
        return;
    replica->nak_sent_ns = cluster->now_ns;
    struct leat_message nak = {
        .kind = LEAT_MESSAGE_NAK,
        .from = replica->self,
        .to = core->leader,
        .term = core->term,
        .from_incarnation = core->incarnation,
        .to_incarnation = core->leader_incarnation,
        .begin_pos = (uint64_t)begin * CELL_BYTES,
        .end_pos = (uint64_t)end * CELL_BYTES,
        .memory_pos = core->memory_pos,
        .durable_pos = core->durable_pos,
    };
    network_send_message(cluster, &nak, NULL, NULL, 0);
}

static void receive_heartbeat(struct cluster *cluster, struct replica *replica,
                              const struct packet *packet)
{
    if (packet->to_incarnation != 0 && packet->to_incarnation != replica->core.incarnation)
        return;
    struct leat_core_input input = {
        .peer = packet->from, .incarnation = packet->from_incarnation, .term = packet->led_term};
    if (packet->kind == PACKET_HEARTBEAT_REPLY) {
        input.kind = LEAT_INPUT_PEER_ALIVE;
        if (cluster->now_ns - packet->sent_ns < cluster->election_min_ns)
            replica_step(cluster, replica, &input);
        return;
    }
    input.kind = LEAT_INPUT_HEARTBEAT;
    if (packet->led_term != 0)
        replica_step(cluster, replica, &input);
    struct packet reply = {.kind = PACKET_HEARTBEAT_REPLY,
                           .from = replica->self,
                           .to = packet->from,
                           .from_incarnation = replica->core.incarnation,
                           .to_incarnation = packet->from_incarnation,
                           .sent_ns = packet->sent_ns};
    network_send(cluster, &reply);
}

void replica_receive(struct cluster *cluster, struct replica *replica, const struct packet *packet)
{
    if (packet->kind != PACKET_LOG) {
        receive_heartbeat(cluster, replica, packet);
        return;
    }
    struct leat_core_input input = {
        .kind = LEAT_INPUT_MESSAGE, .message = &packet->message, .runs = packet->runs};
    replica_step(cluster, replica, &input);
    if (packet->cell_count > 0 && leat_core_admits(&replica->core, &packet->message))
        receive_cells(cluster, replica, packet);
}

void replica_tick(struct cluster *cluster, struct replica *replica)
{
    if (cluster->now_ns < replica->heartbeat_ns)
        return;
    replica->heartbeat_ns = cluster->now_ns + cluster->heartbeat_every_ns;
    for (uint8_t i = 0; i < cluster->count; i++) {
        if (i == replica->self)
            continue;
        struct packet packet = {
            .kind = PACKET_HEARTBEAT,
            .from = replica->self,
            .to = i,
            .led_term = replica->core.role == LEAT_LEADER ? replica->core.term : 0,
            .from_incarnation = replica->core.incarnation,
            .to_incarnation = replica->known_incarnation[i],
            .sent_ns = cluster->now_ns,
        };
        network_send(cluster, &packet);
    }
}

/* ---- what the core asks for ---- */

static void replica_cut(struct cluster *cluster, struct replica *replica)
{
    const struct leat_core_effects *effects = &replica->effects;
    uint64_t position = effects->cut_pos;
    cluster_line(cluster, "  %c %s %lu", replica_name(replica->self),
                 effects->reset ? "begins anew at" : "cuts to", (unsigned long)position);
    if (effects->cut_epoch <= replica->seen_cut_epoch)
        check_fail(cluster, "V1: %c cuts in epoch %lu, and had one in %lu",
                   replica_name(replica->self), (unsigned long)effects->cut_epoch,
                   (unsigned long)replica->seen_cut_epoch);
    replica->seen_cut_epoch = effects->cut_epoch;
    assembler_clear(replica);
    replica->tail_is_valid = false;
    replica->published_end = position; /* W4: lowered before the range is overwritten */
    replica->chain_pos = position;
    replica->installing = effects->reset;
    replica->issued_end =
        position < replica->issued_end || effects->reset ? position : replica->issued_end;
    if (effects->reset) {
        replica->chain_frame = NO_FRAME;
        replica->applied_pos = position;
        replica->completed_pos = position;
        replica->resetting = true;
    } else {
        uint64_t at = replica->applied_pos;
        uint32_t frame = replica->applied_frame;
        while (at < position) {
            frame = replica->arena[cell_of(at)] >> 8;
            at = frame_end(&cluster->frames[frame]);
        }
        if (at != position)
            check_fail(cluster, "G2: %c cuts to %lu, inside a frame", replica_name(replica->self),
                       (unsigned long)position);
        replica->chain_frame = frame;
        if (replica->completed_pos > position)
            replica->completed_pos = replica->applied_pos;
    }
    if (replica->acked_durable > position)
        replica->acked_durable = position;
    if (replica->acked_memory > position)
        replica->acked_memory = position;
    if (replica->seen_commit_r > position)
        replica->seen_commit_r = position;
    disk_add(cluster, replica,
             (struct disk_request){.kind = DISK_CUT,
                                   .sequence = effects->cut_epoch,
                                   .reset = effects->reset,
                                   .end = position,
                                   .term = replica->core.runs[replica->core.run_count - 1].term});
}

static void replica_apply_commits(struct cluster *cluster, struct replica *replica)
{
    const struct leat_core *core = &replica->core;
    if (replica->installing)
        return;
    while (replica->applied_pos < core->commit_d) {
        const struct frame *frame = frame_in(cluster, replica->arena, replica->applied_pos);
        if (!frame || frame_end(frame) > core->commit_d) {
            check_fail(cluster, "G2: %c commits %lu, not a frame's end",
                       replica_name(replica->self), (unsigned long)core->commit_d);
            return;
        }
        sessions_apply_frame(cluster, &replica->committed, frame);
        replica->applied_frame = replica->arena[cell_of(replica->applied_pos)] >> 8;
        replica->applied_pos = frame_end(frame);
        clients_complete(cluster, replica, frame, true);
    }
    if (replica->completed_pos < replica->applied_pos)
        replica->completed_pos = replica->applied_pos;
    while (replica->completed_pos < core->commit_r) {
        const struct frame *frame = frame_in(cluster, replica->arena, replica->completed_pos);
        if (!frame || frame_end(frame) > core->commit_r) {
            check_fail(cluster, "G2: %c commits %lu as replicated, not a frame's end",
                       replica_name(replica->self), (unsigned long)core->commit_r);
            return;
        }
        replica->completed_pos = frame_end(frame);
        clients_complete(cluster, replica, frame, false);
    }
}

static void replica_role(struct cluster *cluster, struct replica *replica)
{
    static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader"};
    const struct leat_core *core = &replica->core;
    replica->role_epoch++;
    if (!replica->effects.cut)
        assembler_clear(replica);
    if (core->role != LEAT_LEADER)
        replica->tail_is_valid = false;
    if (core->role == LEAT_FOLLOWER && core->leader != LEAT_CORE_NOBODY)
        cluster_line(cluster, "  %c follows %c in term %u", replica_name(replica->self),
                     replica_name(core->leader), core->term);
    else
        cluster_line(cluster, "  %c is %s in term %u", replica_name(replica->self),
                     names[core->role], core->term);
    cluster_hash(cluster, (uint64_t)core->role << 40 | (uint64_t)core->term << 8 | replica->self);
}

static void replica_effects(struct cluster *cluster, struct replica *replica)
{
    struct leat_core_effects *effects = &replica->effects;
    struct leat_core *core = &replica->core;
    if (effects->cut)
        replica_cut(cluster, replica);
    if (effects->role_changed)
        replica_role(cluster, replica);
    if (effects->won_by_amnesiacs) {
        cluster_line(cluster, "  %c won by amnesiacs: replicated appends may be lost since %lu",
                     replica_name(replica->self), (unsigned long)core->commit_d);
        check_forgive(cluster);
    }
    if (effects->amnesia_changed) {
        cluster_line(cluster, "  %c is %s", replica_name(replica->self),
                     core->amnesiac ? "amnesiac" : "no longer amnesiac");
        replica->journal.amnesiac = core->amnesiac;
    }
    if (effects->vote)
        disk_add(cluster, replica,
                 (struct disk_request){.kind = DISK_VOTE,
                                       .voted_for = effects->voted_for,
                                       .term = effects->vote_term,
                                       .sequence = effects->vote_seq});
    if (effects->write) {
        uint64_t durable = core->durable_pos;
        disk_add(cluster, replica,
                 (struct disk_request){
                     .kind = DISK_WRITE,
                     .sequence = effects->write_seq,
                     .begin = replica->issued_end,
                     .end = effects->write_end,
                     .term = effects->write_last_term,
                     .floor = durable,
                     .commit_d = core->commit_d < durable ? core->commit_d : durable,
                 });
        replica->issued_end = effects->write_end;
    }
    for (uint32_t i = 0; i < effects->message_count; i++) {
        const struct leat_message *message = &effects->messages[i];
        check_message(cluster, replica, message);
        if (message->kind == LEAT_MESSAGE_APPEND)
            send_append(cluster, replica, message);
        else
            network_send_message(cluster, message, core->runs, NULL, 0);
    }
    if (effects->append_term)
        replica_append_term(cluster, replica);
}

void replica_pass(struct cluster *cluster, struct replica *replica)
{
    if (!replica->up || replica->fenced)
        return;
    if (replica->got_high > 0)
        replica_verify(cluster, replica);
    if (replica->core.role == LEAT_LEADER && replica->tail_is_valid)
        replica_publish(cluster, replica);
    replica_nak(cluster, replica);
    leat_core_hold(&replica->core, cluster->hold_ns);
    leat_core_poll(&replica->core, cluster->now_ns, &replica->effects);
    replica_effects(cluster, replica);
    check_replica(cluster, replica);
    replica_apply_commits(cluster, replica);
}
