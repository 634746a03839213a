/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is there. A peer says hello with its identity; it is checked against what this node
 * remembers of it (a cloned, wiped or rolled-back disk is refused) before anything else it says
 * counts. Then one heartbeat per peer and pair of workers carries the set of logs that the sender
 * leads (rule G4).
 *
 * Nodes may have different counts of workers. A log lives on worker id modulo count on each, so
 * worker w here and worker v there share logs if w and v agree modulo the counts' greatest common
 * divisor: those pairs keep a link. A peer's count is asked of its worker 0, which is always there.
 * Worker's thread. Tests: tests/system/.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc.h"
#include "worker.h"

#define HELLO_INTERVAL_NS 100000000u
#define HELLO_FLAG_ANSWER 1u
#define PEER_SILENT_NS    1000000000u
#define ASKS_MOST         4u /* for a set that was sent in full as often */
#define PIN_INTERVAL_NS   5000000000u
#define PEER_BODY_MAX     64u

void peers_header(const struct node_worker *worker, unsigned peer, unsigned kind,
                  struct leat_wire_header *header)
{
    memset(header, 0, sizeof(*header));
    header->kind = (uint16_t)kind;
    header->cluster = worker->cluster;
    header->from_node = worker->config->node_id;
    header->to_node = worker->peers[peer].node_id;
    header->from_incarnation = worker->incarnation;
    header->worker = (uint8_t)worker->number;
    header->worker_count = (uint8_t)worker->config->worker_count;
}

static void link_send(struct node_worker *worker, unsigned peer, unsigned to_worker,
                      struct leat_wire_header *header, const void *body, uint16_t body_bytes,
                      const void *payload, uint32_t payload_bytes)
{
    uint8_t bytes[sizeof(*header) + PEER_BODY_MAX];
    LEAT_ASSERT(body_bytes <= PEER_BODY_MAX);
    header->body_bytes = body_bytes;
    header->payload_bytes = payload_bytes;
    leat_wire_seal(header, body, payload);
    memcpy(bytes, header, sizeof(*header));
    memcpy(bytes + sizeof(*header), body, body_bytes);
    leat_port_send(worker->port, peer, to_worker, bytes, (uint32_t)sizeof(*header) + body_bytes,
                   payload, payload_bytes, LEAT_PORT_NO_ARENA, 0);
}

void peers_send(struct node_log *log, unsigned peer, unsigned kind, const void *body,
                uint16_t body_bytes, const void *payload, uint32_t payload_bytes)
{
    struct leat_wire_header header;
    peers_header(log->worker, peer, kind, &header);
    header.log_id = log->id;
    header.log_generation = log->generation;
    link_send(log->worker, peer, peers_worker_of(&log->worker->peers[peer], log->id), &header, body,
              body_bytes, payload, payload_bytes);
}

unsigned peers_worker_of(const struct node_peer *peer, uint32_t log_id)
{
    return node_worker_of(log_id, peer->worker_count);
}

struct node_link *peers_link(struct node_worker *worker, unsigned peer, uint32_t log_id)
{
    return &worker->peers[peer].links[peers_worker_of(&worker->peers[peer], log_id)];
}

/* Do this worker and worker `other` of a peer host logs in common? */
static bool link_is_needed(const struct node_worker *worker, const struct node_peer *peer,
                           unsigned other)
{
    unsigned a = worker->config->worker_count, b = peer->worker_count;
    if (b == 0)
        return other == 0;
    while (b != 0) {
        unsigned rest = a % b;
        a = b;
        b = rest;
    }
    return other < peer->worker_count && worker->number % a == other % a;
}

/* ---- hello ---- */

static void peers_send_hello(struct node_worker *worker, unsigned peer, unsigned other, bool ask)
{
    struct leat_wire_header header;
    struct leat_wire_hello hello = {
        .node = worker->node,
        .incarnation = worker->incarnation,
        .flags = ask ? HELLO_FLAG_ANSWER : 0,
        .durable_high = {UINT64_MAX, UINT64_MAX},
    };
    for (uint32_t id = 0; id < 2; id++) {
        const struct node_log *log = worker_log(worker, id);
        if (!log)
            continue;
        const struct leat_core *core = &log->core;
        hello.durable_high[id] = core->damaged ? core->claim_end : core->durable_pos;
        hello.genesis_crc[id] = worker->genesis_crc[id];
    }
    peers_header(worker, peer, LEAT_WIRE_HELLO, &header);
    link_send(worker, peer, other, &header, &hello, sizeof(hello), NULL, 0);
    worker->peers[peer].links[other].hello_sent_ns = worker->now_ns;
}

static void peers_refuse(struct node_worker *worker, uint32_t node_id, struct node_link *link,
                         enum leat_wire_drop drop, const char *why)
{
    static _Thread_local struct logger_rate rate;
    worker->drops[drop]++;
    /* one who is here is not sent away by a datagram that somebody else may have sent */
    if (link->known && worker->now_ns - link->heard_ns <= PEER_SILENT_NS) {
        logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                       "node %u: a hello in its name is refused: %s", node_id, why);
        return;
    }
    if (!link->refused)
        logger_line(worker->out, LEAT_LOG_ERROR,
                    "node %u is refused: %s; replace it as docs/operations.md says", node_id, why);
    link->refused = true;
    link->known = false;
}

/* The same count of starts with other random bits is another life of the same disk: a copy that
 * runs beside the first, or an old one restored. */
static bool incarnation_went_back(uint64_t known, uint64_t said)
{
    return said != known &&
           said >> LEAT_INCARNATION_RANDOM_BITS <= known >> LEAT_INCARNATION_RANDOM_BITS;
}

static bool genesis_differs(const struct node_worker *worker, const struct leat_wire_hello *hello)
{
    for (uint32_t id = 0; id < 2; id++) {
        if (worker_log(worker, id) && hello->genesis_crc[id] != 0 &&
            hello->genesis_crc[id] != worker->genesis_crc[id])
            return true;
    }
    return false;
}

/* Pinned: what this node remembers of the peer's disk; NULL: it never met it. */
static const struct leat_peer_pin *peers_pinned(const struct node_worker *worker, uint32_t node_id)
{
    const struct leat_peer_pin *pin = leat_storage_peer_pin(worker->storage, node_id);
    return pin && !leat_uuid_is_zero(&pin->node) ? pin : NULL;
}

/* A disk of this cluster, and the one that is known under this id. */
static bool peers_disk_is_known(struct node_worker *worker, uint32_t node_id,
                                struct node_link *link, const struct leat_wire_hello *hello)
{
    const struct leat_peer_pin *pin = peers_pinned(worker, node_id);
    if (genesis_differs(worker, hello)) {
        peers_refuse(worker, node_id, link, LEAT_WIRE_DROP_IDENTITY,
                     "it was formatted with other members or log settings");
        return false;
    }
    if (pin && !leat_uuid_equal(&pin->node, &hello->node)) {
        peers_refuse(worker, node_id, link, LEAT_WIRE_DROP_IDENTITY,
                     "its data directory is not the one this node knows (formatted anew?)");
        return false;
    }
    return true;
}

/* The known disk, not behind what it was. */
static bool peers_disk_is_current(struct node_worker *worker, uint32_t node_id,
                                  struct node_link *link, const struct leat_wire_hello *hello)
{
    const struct leat_peer_pin *pin = peers_pinned(worker, node_id);
    if (!pin)
        return true;
    if (incarnation_went_back(pin->incarnation, hello->incarnation) ||
        hello->durable_high[0] < pin->durable_high[0] ||
        hello->durable_high[1] < pin->durable_high[1]) {
        peers_refuse(worker, node_id, link, LEAT_WIRE_DROP_ROLLED_BACK,
                     "its data directory went back in time (restored from an old copy?)");
        return false;
    }
    return true;
}

static void peers_pin(struct node_worker *worker, uint32_t node_id,
                      const struct leat_wire_hello *hello)
{
    struct leat_peer_pin pin = {
        .node = hello->node, .incarnation = hello->incarnation, .node_id = node_id};
    /* what it says it has may not be committed and be cut yet: only what it acknowledged below
     * a commit is held against it (peers_raise_pins) */
    const struct leat_peer_pin *known = leat_storage_peer_pin(worker->storage, node_id);
    if (known && leat_uuid_equal(&known->node, &hello->node) &&
        known->incarnation == hello->incarnation)
        return; /* another worker of the same life */
    if (known)
        memcpy(pin.durable_high, known->durable_high, sizeof(pin.durable_high));
    leat_storage_pin_peer(worker->storage, &pin);
    logger_line(worker->out, LEAT_LOG_INFO, "node %u is here, incarnation %lu", node_id,
                (unsigned long)hello->incarnation);
}

static void peer_is_alive(struct node_log *log, const struct node_peer *peer, unsigned other)
{
    struct leat_core_input input = {
        .kind = LEAT_INPUT_PEER_ALIVE,
        .peer = peer->member,
        .incarnation = peer->links[other].incarnation,
        .now_ns = log->worker->now_ns,
    };
    leat_core_step(&log->core, &input);
}

/* All logs that it hosts too learn of its new life: one that says nothing by itself, since it is
 * damaged and has no leader, would be asked for its vote by its former name for ever. */
static void peers_new_life(struct node_worker *worker, unsigned index, unsigned other)
{
    struct node_peer *peer = &worker->peers[index];
    for (uint32_t i = 0; i < worker->log_count; i++) {
        struct node_log *log = worker->logs[i];
        if (!log || peers_worker_of(peer, log->id) != other)
            continue;
        peer_is_alive(log, peer, other);
        worker_wake(log);
    }
}

bool peers_take_hello(struct node_worker *worker, unsigned index, const struct leat_wire_view *view)
{
    const struct leat_wire_hello *hello = view->body;
    struct node_peer *peer = &worker->peers[index];
    unsigned other = view->header->worker;
    if (hello->incarnation != view->header->from_incarnation || hello->incarnation == 0 ||
        view->header->worker_count > LEAT_WORKERS_MAX) {
        worker->drops[LEAT_WIRE_DROP_BODY]++;
        return false;
    }
    struct node_link *link = &peer->links[other];
    if (!peers_disk_is_known(worker, peer->node_id, link, hello))
        return false;
    if (link->known && incarnation_went_back(link->incarnation, hello->incarnation)) {
        static _Thread_local struct logger_rate rate; /* a late copy of an old one, or a clone */
        worker->drops[LEAT_WIRE_DROP_ROLLED_BACK]++;
        logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                       "node %u: a hello of another life of its disk is ignored", peer->node_id);
        return false;
    }
    if (!peers_disk_is_current(worker, peer->node_id, link, hello))
        return false;
    peer->worker_count = view->header->worker_count;
    if (!link->known || link->incarnation != hello->incarnation) {
        peers_pin(worker, peer->node_id, hello);
        link->incarnation = hello->incarnation;
        link->set_is_held = false;
        link->told_counter = 0;
        peers_new_life(worker, index, other);
    }
    link->known = true;
    link->refused = false;
    link->heard_ns = worker->now_ns;
    if (hello->flags & HELLO_FLAG_ANSWER)
        peers_send_hello(worker, index, other, false);
    return true;
}

/* A new life says hello by itself, and anybody's datagram is not to mute the one that is known. But
 * that hello may be lost, while this node's was heard; or both started anew and heard a late hello
 * of the other's former life. Whoever knows the other says no more hellos, so one that may be newer
 * is asked who it is. */
void peers_hear_stranger(struct node_worker *worker, unsigned index,
                         const struct leat_wire_header *header)
{
    const struct node_link *link = &worker->peers[index].links[header->worker];
    worker->drops[LEAT_WIRE_DROP_INCARNATION]++;
    if (link->known && !incarnation_went_back(link->incarnation, header->from_incarnation) &&
        worker->now_ns - link->hello_sent_ns >= HELLO_INTERVAL_NS)
        peers_send_hello(worker, index, header->worker, true);
}

/* ---- heartbeats ---- */

static void peers_update_led(struct node_worker *worker)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->log_count; i++) {
        const struct node_log *log = worker->logs[i];
        if (log && log->core.role == LEAT_LEADER)
            worker->led[count++] = (struct leat_wire_led){log->id, log->core.term};
    }
    worker->led_changed = false;
    worker->led_counter++;
    worker->led_count = count;
    worker->led_hash = leat_crc32c(0, worker->led, count * sizeof(worker->led[0]));
}

static void peers_send_heartbeat(struct node_worker *worker, unsigned index, unsigned other,
                                 uint32_t flags, uint64_t sent_ns)
{
    struct node_link *link = &worker->peers[index].links[other];
    struct leat_wire_header header;
    bool full = link->asked || link->told_counter != worker->led_counter;
    struct leat_wire_heartbeat heartbeat = {
        .incarnation = worker->incarnation,
        .to_incarnation = link->incarnation,
        .set_counter = worker->led_counter,
        .set_hash = worker->led_hash,
        .heard_counter = link->set_is_held ? link->set_counter : 0,
        .sent_ns = sent_ns,
        .flags = flags | (full ? LEAT_HEARTBEAT_FULL : 0) |
                 (leat_storage_is_full(worker->storage) ? LEAT_HEARTBEAT_NO_SPACE : 0),
    };
    uint32_t room = (path_datagram_bytes(worker, index) - (uint32_t)sizeof(header) -
                     (uint32_t)sizeof(heartbeat)) /
                    (uint32_t)sizeof(worker->led[0]);
    do { /* a set that does not fit one datagram goes out over several, in order */
        if (full) {
            uint32_t left = worker->led_count - heartbeat.led_first;
            heartbeat.led_count = left < room ? left : room;
            heartbeat.led_total = worker->led_count;
        }
        peers_header(worker, index, LEAT_WIRE_HEARTBEAT, &header);
        link_send(worker, index, other, &header, &heartbeat, sizeof(heartbeat),
                  worker->led + heartbeat.led_first,
                  heartbeat.led_count * (uint32_t)sizeof(worker->led[0]));
        heartbeat.led_first += heartbeat.led_count;
    } while (full && heartbeat.led_first < worker->led_count);
    link->asked = false;
}

/* The set that a peer's worker leads resets just those logs' timers. */
static void peers_spread_heartbeat(struct node_worker *worker, const struct node_peer *peer,
                                   const struct node_link *link)
{
    for (uint32_t i = 0; i < link->set_count; i++) {
        struct node_log *log = worker_log(worker, link->set[i].log_id);
        if (!log || link->set[i].term >= LEAT_TERM_MAX)
            continue;
        if (log->core.role == LEAT_LEADER)
            log_publish(log); /* as before every message that may end the reign */
        struct leat_core_input input = {
            .kind = LEAT_INPUT_HEARTBEAT,
            .peer = peer->member,
            .term = link->set[i].term,
            .incarnation = link->incarnation,
            .now_ns = worker->now_ns,
        };
        leat_core_step(&log->core, &input);
        if (log->core.role_changed)
            worker_wake(log);
    }
}

/* One part of the peer's set, or all of it. False: the set is not whole (yet). */
static bool peers_take_set(struct node_worker *worker, struct node_link *link,
                           const struct leat_wire_view *view)
{
    const struct leat_wire_heartbeat *heartbeat = view->body;
    if (heartbeat->flags & LEAT_HEARTBEAT_FULL) {
        if (heartbeat->led_first == 0 || link->set_counter != heartbeat->set_counter) {
            link->set_is_held = false;
            link->set_counter = heartbeat->set_counter;
            link->set_filled = 0;
        }
        if (heartbeat->led_first != link->set_filled)
            return false; /* a part was lost: it is asked for again */
        memcpy(link->set + link->set_filled, view->payload, view->payload_bytes);
        link->set_filled += heartbeat->led_count;
        if (link->set_filled < heartbeat->led_total)
            return false;
        link->set_count = heartbeat->led_total;
        link->set_hash = leat_crc32c(0, link->set, link->set_count * sizeof(link->set[0]));
        link->set_is_held = link->set_hash == heartbeat->set_hash;
        if (!link->set_is_held)
            worker->drops[LEAT_WIRE_DROP_BODY]++;
    }
    return link->set_is_held && link->set_counter == heartbeat->set_counter &&
           link->set_hash == heartbeat->set_hash;
}

static void peers_are_alive(struct node_worker *worker, unsigned index, unsigned other)
{
    struct node_peer *peer = &worker->peers[index];
    for (uint32_t i = 0; i < worker->log_count; i++) {
        struct node_log *log = worker->logs[i];
        if (!log || log->core.role != LEAT_LEADER || peers_worker_of(peer, log->id) != other)
            continue; /* only a leader asks who hears it */
        peer_is_alive(log, peer, other);
        worker_due(log, leat_core_deadline_ns(&log->core));
    }
}

/* Heartbeats that waited here together ask once: the set was sent once between them at most. */
static void peers_take_asking(struct node_worker *worker, unsigned index, unsigned other, bool asks)
{
    struct node_link *link = &worker->peers[index].links[other];
    if (!asks)
        link->asks = 0;
    else if (!link->asked)
        link->asks++;
    link->asked |= asks;
    if (link->asks >= ASKS_MOST)
        path_stalls(worker, index, other);
}

void peers_take_heartbeat(struct node_worker *worker, unsigned index,
                          const struct leat_wire_view *view)
{
    const struct leat_wire_heartbeat *heartbeat = view->body;
    unsigned other = view->header->worker;
    struct node_link *link = &worker->peers[index].links[other];
    if (heartbeat->incarnation != link->incarnation ||
        (heartbeat->to_incarnation != 0 && heartbeat->to_incarnation != worker->incarnation)) {
        worker->drops[LEAT_WIRE_DROP_INCARNATION]++; /* it will ask: peers_hear_stranger() */
        return;
    }
    link->heard_ns = worker->now_ns;
    link->told_counter = heartbeat->heard_counter;
    link->no_space = (heartbeat->flags & LEAT_HEARTBEAT_NO_SPACE) != 0;
    peers_take_asking(worker, index, other, (heartbeat->flags & LEAT_HEARTBEAT_ASK) != 0);
    if (heartbeat->flags & LEAT_HEARTBEAT_REPLY) {
        /* it heard this node within that time: both directions work, however long they are */
        if (worker->now_ns - heartbeat->sent_ns < worker->config->election_min_ns)
            peers_are_alive(worker, index, other);
        return;
    }
    bool held = peers_take_set(worker, link, view);
    if (held)
        peers_spread_heartbeat(worker, &worker->peers[index], link);
    if ((heartbeat->flags & LEAT_HEARTBEAT_FULL) &&
        heartbeat->led_first + heartbeat->led_count < heartbeat->led_total)
        return; /* its last part is answered */
    peers_send_heartbeat(worker, index, other,
                         LEAT_HEARTBEAT_REPLY | (held ? 0 : LEAT_HEARTBEAT_ASK),
                         heartbeat->sent_ns);
}

/* What a peer acknowledged as durable below the commit it must still have when it comes back: kept
 * with its pin, now and then on disk. */
static void peers_raise_pins(struct node_worker *worker, struct node_peer *peer,
                             struct node_link *link)
{
    const struct leat_peer_pin *known = leat_storage_peer_pin(worker->storage, peer->node_id);
    if (!known || worker->now_ns - link->pinned_ns < PIN_INTERVAL_NS)
        return;
    struct leat_peer_pin pin = *known;
    bool raised = false;
    link->pinned_ns = worker->now_ns;
    for (uint32_t id = 0; id < 2; id++) {
        const struct node_log *log = worker_log(worker, id);
        if (!log || log->core.role != LEAT_LEADER || !log->core.peers[peer->member].matched)
            continue;
        uint64_t durable = log->core.peers[peer->member].durable_pos;
        if (durable > log->core.commit_d)
            durable = log->core.commit_d;
        if (durable <= pin.durable_high[id])
            continue;
        pin.durable_high[id] = durable;
        raised = true;
    }
    if (raised)
        leat_storage_pin_peer(worker->storage, &pin);
}

static void peers_tick_link(struct node_worker *worker, unsigned index, unsigned other)
{
    struct node_link *link = &worker->peers[index].links[other];
    if (!link->known) {
        if (worker->now_ns - link->hello_sent_ns >= HELLO_INTERVAL_NS)
            peers_send_hello(worker, index, other, true);
        return;
    }
    peers_raise_pins(worker, &worker->peers[index], link);
    uint64_t since_ns = worker->now_ns - link->heartbeat_sent_ns;
    bool changed = worker->led_count > 0 && link->told_counter != worker->led_counter &&
                   since_ns >= worker->config->heartbeat_ns / 8;
    if (!changed && since_ns < worker->config->heartbeat_ns)
        return;
    link->heartbeat_sent_ns = worker->now_ns;
    peers_send_heartbeat(worker, index, other, 0, worker->now_ns);
}

void peers_tick(struct node_worker *worker)
{
    if (worker->led_changed)
        peers_update_led(worker);
    for (unsigned i = 0; i < worker->peer_count; i++) {
        unsigned count = worker->peers[i].worker_count ? worker->peers[i].worker_count : 1;
        for (unsigned other = 0; other < count; other++) {
            if (link_is_needed(worker, &worker->peers[i], other))
                peers_tick_link(worker, i, other);
        }
    }
}
