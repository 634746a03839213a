/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster: who exists, what is on the way, what time it is.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

const char *const injected_names[INJECTED_COUNT] = {
    "loss",      "duplicate",      "reorder",    "partition",  "one-way cut", "crash",
    "power cut", "rack power cut", "torn write", "late write", "slow disk",   "pause",
    "transfer",  "trim",           "accept",     "retry",      "burst",       "clean stop",
};

char replica_name(uint8_t self)
{
    return (char)('A' + self);
}

bool cluster_chance(struct leat_rng *rng, uint32_t permille)
{
    return permille > 0 && leat_rng_below(rng, 1000) < permille;
}

void cluster_hash(struct cluster *cluster, uint64_t value)
{
    cluster->event_hash = (cluster->event_hash ^ value) * 0x100000001b3ULL;
    cluster->event_hash ^= cluster->event_hash >> 29;
}

void cluster_line(struct cluster *cluster, const char *format, ...)
{
    if (!cluster->told)
        return;
    char *line = cluster->lines[cluster->line_count++ % LINES_KEPT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, LINE_BYTES, format, arguments);
    va_end(arguments);
    if (cluster->line_sink)
        cluster->line_sink(cluster->line_context, line);
}

static void cluster_genesis(struct cluster *cluster)
{
    struct frame *genesis = &cluster->frames[1];
    *genesis = (struct frame){.cells = GENESIS_CELLS, .type = LEAT_FRAME_BASE};
    cluster->frame_count = 2;
    for (uint8_t i = 0; i < cluster->count; i++) {
        struct replica *replica = &cluster->replicas[i];
        replica->self = i;
        for (uint32_t c = 0; c < GENESIS_CELLS; c++)
            replica->disk[c] = 1u << 8 | c;
        replica->journal = (struct journal){
            .floor = GENESIS_CELLS * CELL_BYTES,
            .commit_d = GENESIS_CELLS * CELL_BYTES,
            .claim_end = GENESIS_CELLS * CELL_BYTES,
            .voted_for = LEAT_CORE_NOBODY,
            .clean = true,
        };
    }
    for (uint32_t c = 0; c < GENESIS_CELLS; c++) {
        cluster->checks.committed[c] = 1u << 8 | c;
        cluster->checks.replicated[c] = 1u << 8 | c;
    }
    cluster->checks.committed_end = GENESIS_CELLS * CELL_BYTES;
    cluster->checks.replicated_end = GENESIS_CELLS * CELL_BYTES;
}

void cluster_init(struct cluster *cluster, uint8_t count, bool accepts_replicated, uint64_t seed)
{
    /* packets are written whole before they are read: no need to clear four megabytes a seed */
    memset(cluster, 0, offsetof(struct cluster, packets));
    for (uint32_t i = 0; i < PACKETS_MAX; i++)
        cluster->packets[i].kind = PACKET_FREE;
    memset(&cluster->checks, 0, sizeof(*cluster) - offsetof(struct cluster, checks));
    struct leat_rng rng = {.state = seed};
    cluster->net_rng.state = leat_rng_next(&rng);
    cluster->disk_rng.state = leat_rng_next(&rng);
    cluster->fault_rng.state = leat_rng_next(&rng);
    cluster->count = count;
    cluster->accepts_replicated = accepts_replicated;
    cluster->now_ns = 1000000;
    cluster->election_min_ns = 12000000;
    cluster->election_max_ns = 24000000;
    cluster->retransmit_ns = 1000000;
    cluster->heartbeat_every_ns = 4000000;
    cluster->nak_delay_ns = 400000;
    cluster->window_bytes = 4096;
    cluster->datagram_cells = DATAGRAM_CELLS;
    cluster->delay_ns = 100000;
    cluster->disk_ns = 200000;
    cluster_genesis(cluster);
}

/* ---- network ---- */

static const char *const message_names[] = {
    [LEAT_MESSAGE_VOTE_REQUEST] = "vote-request",
    [LEAT_MESSAGE_VOTE_REPLY] = "vote-reply",
    [LEAT_MESSAGE_APPEND] = "append",
    [LEAT_MESSAGE_APPEND_ACK] = "ack",
    [LEAT_MESSAGE_NAK] = "nak",
    [LEAT_MESSAGE_RECONCILE_REQUEST] = "reconcile-request",
    [LEAT_MESSAGE_RECONCILE_REPLY] = "reconcile-reply",
    [LEAT_MESSAGE_TIMEOUT_NOW] = "timeout-now",
};

const char *network_kind_name(const struct packet *packet)
{
    if (packet->kind == PACKET_LOG)
        return message_names[packet->message.kind];
    return packet->kind == PACKET_HEARTBEAT ? "heartbeat" : "heartbeat-reply";
}

static void message_text(const struct leat_message *m, char *text, size_t bytes)
{
    static const struct {
        unsigned flag;
        const char *word;
    } words[] = {{LEAT_MESSAGE_PRE, " pre"},
                 {LEAT_MESSAGE_AMNESIAC, " amnesiac"},
                 {LEAT_MESSAGE_TRANSFER, " transfer"},
                 {LEAT_MESSAGE_CLEARS, " clears"},
                 {LEAT_MESSAGE_DAMAGED, " damaged"}};
    int at = snprintf(text, bytes, "%s", message_names[m->kind]);
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (m->flags & words[i].flag)
            at += snprintf(text + at, bytes - (size_t)at, "%s", words[i].word);
    }
    at += snprintf(text + at, bytes - (size_t)at, " term %u", m->term);
    unsigned long begin = m->begin_pos, end = m->end_pos, memory = m->memory_pos;
    switch (m->kind) {
    case LEAT_MESSAGE_VOTE_REQUEST:
        snprintf(text + at, bytes - (size_t)at, " last (%u, %lu)", m->last_term, memory);
        break;
    case LEAT_MESSAGE_VOTE_REPLY:
        snprintf(text + at, bytes - (size_t)at, " %s",
                 m->flags & LEAT_MESSAGE_GRANTED ? "grant" : "refuse");
        break;
    case LEAT_MESSAGE_APPEND:
        snprintf(text + at, bytes - (size_t)at, " [%lu, %lu) commit %lu/%lu", begin, end,
                 (unsigned long)m->commit_r, (unsigned long)m->commit_d);
        break;
    case LEAT_MESSAGE_APPEND_ACK:
        snprintf(text + at, bytes - (size_t)at, " M %lu D %lu", memory,
                 (unsigned long)m->durable_pos);
        break;
    case LEAT_MESSAGE_NAK:
        snprintf(text + at, bytes - (size_t)at, " [%lu, %lu)", begin, end);
        break;
    case LEAT_MESSAGE_RECONCILE_REPLY:
        snprintf(text + at, bytes - (size_t)at, " %u runs of [%lu, %lu)", m->run_count, begin, end);
        break;
    default:
        break;
    }
}

static void packet_line(struct cluster *cluster, const struct packet *packet, const char *how)
{
    char text[160];
    if (!cluster->told)
        return;
    if (packet->kind == PACKET_LOG)
        message_text(&packet->message, text, sizeof(text));
    else
        snprintf(text, sizeof(text), "%s%s", network_kind_name(packet),
                 packet->led_term ? " leads" : "");
    cluster_line(cluster, "%c > %c %s%s", replica_name(packet->from), replica_name(packet->to),
                 text, how);
}

void network_put(struct cluster *cluster, const struct packet *packet, uint64_t at_ns)
{
    uint32_t slot = 0;
    while (slot < cluster->packet_high && cluster->packets[slot].kind != PACKET_FREE)
        slot++;
    if (slot == PACKETS_MAX)
        return; /* a full queue is loss */
    if (slot == cluster->packet_high)
        cluster->packet_high++;
    struct packet *to = &cluster->packets[slot];
    memcpy(to, packet, offsetof(struct packet, cells));
    memcpy(to->cells, packet->cells, packet->cell_count * sizeof(packet->cells[0]));
    if (packet->kind == PACKET_LOG && packet->message.kind == LEAT_MESSAGE_RECONCILE_REPLY)
        memcpy(to->runs, packet->runs, packet->message.run_count * sizeof(packet->runs[0]));
    to->at_ns = at_ns;
    to->order = cluster->order++;
    cluster->packet_live++;
}

void network_send(struct cluster *cluster, const struct packet *packet)
{
    LEAT_ASSERT(packet->from != packet->to && packet->to < cluster->count);
    if (cluster->cut_link[packet->from][packet->to])
        return;
    if (cluster->by_hand) {
        network_put(cluster, packet, UINT64_MAX);
        return;
    }
    if (cluster_chance(&cluster->net_rng, cluster->loss_permille)) {
        cluster->injected[INJECTED_LOSS]++;
        packet_line(cluster, packet, " - lost");
        return;
    }
    uint64_t delay = cluster->delay_ns / 2 + leat_rng_below(&cluster->net_rng, cluster->delay_ns);
    if (cluster_chance(&cluster->net_rng, cluster->reorder_permille)) {
        cluster->injected[INJECTED_REORDER]++;
        delay += leat_rng_below(&cluster->net_rng, 40 * cluster->delay_ns);
    }
    network_put(cluster, packet, cluster->now_ns + delay);
    if (cluster_chance(&cluster->net_rng, cluster->duplicate_permille)) {
        cluster->injected[INJECTED_DUPLICATE]++;
        delay += leat_rng_below(&cluster->net_rng, 300 * cluster->delay_ns);
        network_put(cluster, packet, cluster->now_ns + delay);
    }
}

void network_send_message(struct cluster *cluster, const struct leat_message *message,
                          const struct leat_run *runs, const uint32_t *cells, uint32_t cell_count)
{
    static struct packet packet;
    LEAT_ASSERT(cell_count <= DATAGRAM_CELLS);
    packet.kind = PACKET_LOG;
    packet.from = message->from;
    packet.to = message->to;
    packet.message = *message;
    packet.led_term = 0;
    packet.cell_count = (uint8_t)cell_count;
    if (cell_count > 0)
        memcpy(packet.cells, cells, cell_count * sizeof(cells[0]));
    if (message->kind == LEAT_MESSAGE_RECONCILE_REPLY)
        memcpy(packet.runs, runs, message->run_count * sizeof(runs[0]));
    network_send(cluster, &packet);
}

void network_deliver(struct cluster *cluster, uint32_t index)
{
    static struct packet packet;
    struct packet *slot = &cluster->packets[index];
    memcpy(&packet, slot, sizeof(packet));
    slot->kind = PACKET_FREE;
    cluster->packet_live--;
    while (cluster->packet_high > 0 &&
           cluster->packets[cluster->packet_high - 1].kind == PACKET_FREE)
        cluster->packet_high--;
    struct replica *replica = &cluster->replicas[packet.to];
    bool heard = replica->up && !replica->fenced;
    if (packet.kind == PACKET_LOG || cluster->by_hand)
        packet_line(cluster, &packet, heard ? "" : " - nobody there");
    if (!heard)
        return;
    cluster->events++;
    cluster_hash(cluster, (uint64_t)packet.from << 8 | packet.to | (uint64_t)packet.kind << 16);
    if (packet.kind == PACKET_LOG)
        cluster_hash(cluster, packet.message.kind ^ packet.message.memory_pos << 8 ^
                                  packet.message.end_pos << 24 ^ packet.message.term);
    replica_receive(cluster, replica, &packet);
}

void network_drop_all_of(struct cluster *cluster, uint8_t node)
{
    for (uint32_t i = 0; i < cluster->packet_high; i++) {
        struct packet *packet = &cluster->packets[i];
        if (packet->kind != PACKET_FREE && packet->from == node) {
            packet->kind = PACKET_FREE;
            cluster->packet_live--;
        }
    }
}

/* ---- clock ---- */

static bool is_running(const struct cluster *cluster, const struct replica *replica)
{
    return replica->up && !replica->fenced && replica->paused_until_ns <= cluster->now_ns;
}

static uint64_t replica_next_ns(const struct cluster *cluster, const struct replica *replica)
{
    if (!replica->up || replica->fenced)
        return UINT64_MAX;
    uint64_t next = leat_core_deadline_ns(&replica->core);
    if (next <= cluster->now_ns)
        next = cluster->now_ns + cluster->retransmit_ns;
    if (replica->heartbeat_ns < next)
        next = replica->heartbeat_ns;
    if (replica->request_count > 0 && replica->requests[0].done_ns < next)
        next = replica->requests[0].done_ns;
    if (replica->paused_until_ns > next)
        next = replica->paused_until_ns;
    return next;
}

uint64_t cluster_next_ns(const struct cluster *cluster)
{
    uint64_t next = UINT64_MAX;
    for (uint8_t i = 0; i < cluster->count; i++) {
        uint64_t of_node = replica_next_ns(cluster, &cluster->replicas[i]);
        next = of_node < next ? of_node : next;
    }
    for (uint32_t i = 0; i < cluster->packet_high; i++) {
        const struct packet *packet = &cluster->packets[i];
        if (packet->kind == PACKET_FREE)
            continue;
        uint64_t at_ns = packet->at_ns;
        if (cluster->replicas[packet->to].paused_until_ns > at_ns)
            at_ns = cluster->replicas[packet->to].paused_until_ns;
        next = at_ns < next ? at_ns : next;
    }
    return next;
}

/* The earliest packet due for a node that runs, or -1. */
static int network_due(const struct cluster *cluster)
{
    int found = -1;
    for (uint32_t i = 0; i < cluster->packet_high; i++) {
        const struct packet *packet = &cluster->packets[i];
        if (packet->kind == PACKET_FREE || packet->at_ns > cluster->now_ns)
            continue;
        if (cluster->replicas[packet->to].up &&
            !is_running(cluster, &cluster->replicas[packet->to]))
            continue;
        if (found < 0 || packet->at_ns < cluster->packets[found].at_ns ||
            (packet->at_ns == cluster->packets[found].at_ns &&
             packet->order < cluster->packets[found].order))
            found = (int)i;
    }
    return found;
}

void cluster_advance(struct cluster *cluster, uint64_t to_ns)
{
    LEAT_ASSERT(to_ns >= cluster->now_ns);
    cluster->now_ns = to_ns;
    bool touched[LEAT_MEMBERS_MAX] = {false};
    for (int due = network_due(cluster); due >= 0; due = network_due(cluster)) {
        uint8_t to = cluster->packets[due].to;
        if (touched[to] && !cluster->burst) {
            replica_pass(cluster, &cluster->replicas[to]);
        } else if (touched[to]) {
            cluster->injected[INJECTED_BURST]++;
        }
        touched[to] = true;
        network_deliver(cluster, (uint32_t)due);
    }
    for (uint8_t i = 0; i < cluster->count; i++) {
        struct replica *replica = &cluster->replicas[i];
        if (!is_running(cluster, replica))
            continue;
        while (replica->request_count > 0 && replica->requests[0].done_ns <= cluster->now_ns)
            disk_finish_first(cluster, replica);
        replica_tick(cluster, replica);
        replica_pass(cluster, replica);
    }
}

void cluster_heal(struct cluster *cluster)
{
    memset(cluster->cut_link, 0, sizeof(cluster->cut_link));
    cluster->loss_permille = 0;
    cluster->duplicate_permille = 0;
    cluster->reorder_permille = 0;
    cluster->delay_ns = 100000;
    cluster->disk_ns = 100000;
    for (uint8_t i = 0; i < cluster->count; i++) {
        cluster->replicas[i].paused_until_ns = 0;
        if (!cluster->replicas[i].up)
            replica_boot(cluster, &cluster->replicas[i]);
    }
}

uint8_t cluster_leader(const struct cluster *cluster)
{
    uint8_t found = LEAT_CORE_NOBODY;
    for (uint8_t i = 0; i < cluster->count; i++) {
        const struct replica *replica = &cluster->replicas[i];
        if (replica->up && !replica->fenced && replica->core.role == LEAT_LEADER &&
            (found == LEAT_CORE_NOBODY || replica->core.term > cluster->replicas[found].core.term))
            found = i;
    }
    return found;
}
