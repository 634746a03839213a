/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is there. A peer says hello with its identity; it is checked against what this node
 * remembers of it (a cloned, wiped or rolled-back disk is refused) before anything else it says
 * counts. Then one heartbeat per peer and worker carries the set of logs that the sender leads
 * (rule G4). Worker's thread. Tests: tests/system/.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc.h"
#include "worker.h"

#define HELLO_INTERVAL_NS 100000000u
#define HELLO_FLAG_ANSWER 1u
#define PEER_SILENT_NS    1000000000u
#define PIN_INTERVAL_NS   5000000000u

struct node_log *worker_log(struct node_worker *worker, uint32_t log_id)
{
    for (uint32_t i = 0; i < worker->log_count; i++) {
        if (worker->logs[i].id == log_id)
            return &worker->logs[i];
    }
    return NULL;
}

void peers_header(const struct node_worker *worker, unsigned peer, unsigned kind,
                  struct leat_wire_header *header)
{
    memset(header, 0, sizeof(*header));
    header->kind = (uint16_t)kind;
    header->cluster = worker->cluster;
    header->from_node = worker->config->node_id;
    header->to_node = worker->peers[peer].node_id;
    header->from_incarnation = worker->incarnation;
    header->worker_count = (uint8_t)worker->config->worker_count;
}

static void peers_send(struct node_worker *worker, unsigned peer, struct leat_wire_header *header,
                       const void *body, uint16_t body_bytes, const void *payload,
                       uint32_t payload_bytes)
{
    uint8_t bytes[sizeof(*header) + 64];
    LEAT_ASSERT(body_bytes <= 64);
    header->body_bytes = body_bytes;
    header->payload_bytes = payload_bytes;
    leat_wire_seal(header, body, payload);
    memcpy(bytes, header, sizeof(*header));
    memcpy(bytes + sizeof(*header), body, body_bytes);
    leat_port_send(worker->port, peer, 0, bytes, (uint32_t)sizeof(*header) + body_bytes, payload,
                   payload_bytes, LEAT_PORT_NO_ARENA, 0);
}

/* ---- hello ---- */

static void peers_send_hello(struct node_worker *worker, unsigned peer, bool ask)
{
    struct leat_wire_header header;
    struct leat_wire_hello hello = {
        .node = worker->node,
        .incarnation = worker->incarnation,
        .flags = ask ? HELLO_FLAG_ANSWER : 0,
    };
    for (uint32_t i = 0; i < worker->log_count && i < 2; i++) {
        const struct leat_core *core = &worker->logs[i].core;
        hello.durable_high[i] = core->damaged ? core->claim_end : core->durable_pos;
    }
    memcpy(hello.genesis_crc, worker->genesis_crc, sizeof(hello.genesis_crc));
    peers_header(worker, peer, LEAT_WIRE_HELLO, &header);
    peers_send(worker, peer, &header, &hello, sizeof(hello), NULL, 0);
    worker->peers[peer].hello_sent_ns = worker->now_ns;
}

static void peers_refuse(struct node_worker *worker, struct node_peer *peer,
                         enum leat_wire_drop drop, const char *why)
{
    worker->drops[drop]++;
    if (!peer->refused)
        logger_line(worker->out, LEAT_LOG_ERROR,
                    "node %u is refused: %s; replace it as docs/operations.md says", peer->node_id,
                    why);
    peer->refused = true;
    /* one who is here is not sent away by a datagram that somebody else may have sent */
    if (worker->now_ns - peer->heard_ns > PEER_SILENT_NS)
        peer->known = false;
}

/* The same count of starts with other random bits is another life of the same disk: a copy that
 * runs beside the first, or an old one restored. */
static bool incarnation_went_back(uint64_t known, uint64_t said)
{
    return said != known &&
           said >> LEAT_INCARNATION_RANDOM_BITS <= known >> LEAT_INCARNATION_RANDOM_BITS;
}

static bool peers_identity_holds(struct node_worker *worker, struct node_peer *peer,
                                 const struct leat_wire_hello *hello)
{
    const struct leat_peer_pin *pin = leat_storage_peer_pin(worker->storage, peer->node_id);
    if (memcmp(hello->genesis_crc, worker->genesis_crc, sizeof(hello->genesis_crc)) != 0) {
        peers_refuse(worker, peer, LEAT_WIRE_DROP_IDENTITY,
                     "it was formatted with other members or log settings");
        return false;
    }
    if (!pin || leat_uuid_is_zero(&pin->node))
        return true;
    if (!leat_uuid_equal(&pin->node, &hello->node)) {
        peers_refuse(worker, peer, LEAT_WIRE_DROP_IDENTITY,
                     "its data directory is not the one this node knows (formatted anew?)");
        return false;
    }
    if (incarnation_went_back(pin->incarnation, hello->incarnation) ||
        hello->durable_high[0] < pin->durable_high[0] ||
        hello->durable_high[1] < pin->durable_high[1]) {
        peers_refuse(worker, peer, LEAT_WIRE_DROP_ROLLED_BACK,
                     "its data directory went back in time (restored from an old copy?)");
        return false;
    }
    return true;
}

bool peers_take_hello(struct node_worker *worker, unsigned index, const struct leat_wire_view *view)
{
    const struct leat_wire_hello *hello = view->body;
    struct node_peer *peer = &worker->peers[index];
    if (hello->incarnation != view->header->from_incarnation || hello->incarnation == 0) {
        worker->drops[LEAT_WIRE_DROP_BODY]++;
        return false;
    }
    if (peer->known && incarnation_went_back(peer->incarnation, hello->incarnation)) {
        static struct logger_rate rate; /* a late copy of an old hello, or a second life */
        worker->drops[LEAT_WIRE_DROP_ROLLED_BACK]++;
        logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                       "node %u: a hello of another life of its disk is ignored", peer->node_id);
        return false;
    }
    if (!peers_identity_holds(worker, peer, hello))
        return false;
    if (!peer->known || peer->incarnation != hello->incarnation) {
        struct leat_peer_pin pin = {
            .node = hello->node, .incarnation = hello->incarnation, .node_id = peer->node_id};
        /* what it says it has may not be committed and be cut yet: only what it acknowledged below
         * a commit is held against it (peers_raise_pins) */
        const struct leat_peer_pin *known = leat_storage_peer_pin(worker->storage, peer->node_id);
        if (known)
            memcpy(pin.durable_high, known->durable_high, sizeof(pin.durable_high));
        leat_storage_pin_peer(worker->storage, &pin);
        logger_line(worker->out, LEAT_LOG_INFO, "node %u is here, incarnation %lu", peer->node_id,
                    (unsigned long)hello->incarnation);
        peer->incarnation = hello->incarnation;
        peer->worker_count = view->header->worker_count;
        peer->set_is_held = false;
        peer->told_counter = 0;
    }
    peer->known = true;
    peer->refused = false;
    peer->heard_ns = worker->now_ns;
    if (hello->flags & HELLO_FLAG_ANSWER)
        peers_send_hello(worker, index, false);
    return true;
}

/* ---- heartbeats ---- */

void peers_update_led(struct node_worker *worker)
{
    struct leat_wire_led led[NODE_LOGS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->log_count; i++) {
        const struct leat_core *core = &worker->logs[i].core;
        if (core->role == LEAT_LEADER)
            led[count++] = (struct leat_wire_led){worker->logs[i].id, core->term};
    }
    worker->led_counter++;
    worker->led_count = count;
    worker->led_hash = leat_crc32c(0, led, count * sizeof(led[0]));
    memcpy(worker->led, led, count * sizeof(led[0]));
}

static void peers_send_heartbeat(struct node_worker *worker, unsigned index, uint32_t flags,
                                 uint64_t sequence)
{
    struct node_peer *peer = &worker->peers[index];
    struct leat_wire_header header;
    bool full = peer->asked || peer->told_counter != worker->led_counter;
    struct leat_wire_heartbeat heartbeat = {
        .incarnation = worker->incarnation,
        .to_incarnation = peer->incarnation,
        .set_counter = worker->led_counter,
        .set_hash = worker->led_hash,
        .led_count = full ? worker->led_count : 0,
        .heard_counter = peer->set_is_held ? peer->set_counter : 0,
        .sequence = sequence,
        .flags = flags | (full ? LEAT_HEARTBEAT_FULL : 0),
    };
    peers_header(worker, index, LEAT_WIRE_HEARTBEAT, &header);
    peers_send(worker, index, &header, &heartbeat, sizeof(heartbeat), worker->led,
               heartbeat.led_count * (uint32_t)sizeof(worker->led[0]));
    peer->asked = false;
}

/* The set that a peer leads resets just those logs' timers. */
static void peers_spread_heartbeat(struct node_worker *worker, const struct node_peer *peer)
{
    for (uint32_t i = 0; i < peer->set_count; i++) {
        struct node_log *log = worker_log(worker, peer->set[i].log_id);
        if (!log || peer->set[i].term >= LEAT_TERM_MAX)
            continue;
        if (log->core.role == LEAT_LEADER)
            log_publish(log); /* as before every message that may end the reign */
        struct leat_core_input input = {
            .kind = LEAT_INPUT_HEARTBEAT,
            .peer = peer->member,
            .term = peer->set[i].term,
            .incarnation = peer->incarnation,
            .now_ns = worker->now_ns,
        };
        leat_core_step(&log->core, &input);
    }
}

static bool peers_take_set(struct node_worker *worker, struct node_peer *peer,
                           const struct leat_wire_view *view)
{
    const struct leat_wire_heartbeat *heartbeat = view->body;
    if (heartbeat->flags & LEAT_HEARTBEAT_FULL) {
        if (heartbeat->led_count > NODE_LOGS_MAX ||
            leat_crc32c(0, view->payload, view->payload_bytes) != heartbeat->set_hash) {
            worker->drops[LEAT_WIRE_DROP_BODY]++;
            return false;
        }
        peer->set_is_held = true;
        peer->set_counter = heartbeat->set_counter;
        peer->set_hash = heartbeat->set_hash;
        peer->set_count = heartbeat->led_count;
        memcpy(peer->set, view->payload, view->payload_bytes);
    }
    return peer->set_is_held && peer->set_counter == heartbeat->set_counter &&
           peer->set_hash == heartbeat->set_hash;
}

static void peers_are_alive(struct node_worker *worker, const struct node_peer *peer)
{
    for (uint32_t i = 0; i < worker->log_count; i++) {
        struct leat_core_input input = {
            .kind = LEAT_INPUT_PEER_ALIVE,
            .peer = peer->member,
            .incarnation = peer->incarnation,
            .now_ns = worker->now_ns,
        };
        leat_core_step(&worker->logs[i].core, &input);
    }
}

void peers_take_heartbeat(struct node_worker *worker, unsigned index,
                          const struct leat_wire_view *view)
{
    const struct leat_wire_heartbeat *heartbeat = view->body;
    struct node_peer *peer = &worker->peers[index];
    if (heartbeat->incarnation != peer->incarnation ||
        (heartbeat->to_incarnation != 0 && heartbeat->to_incarnation != worker->incarnation)) {
        worker->drops[LEAT_WIRE_DROP_INCARNATION]++;
        return;
    }
    peer->heard_ns = worker->now_ns;
    peer->told_counter = heartbeat->heard_counter;
    if (heartbeat->flags & LEAT_HEARTBEAT_ASK)
        peer->asked = true;
    if (heartbeat->flags & LEAT_HEARTBEAT_REPLY) {
        /* it heard this node a moment ago: both directions work */
        if (peer->heartbeat_sequence - heartbeat->sequence < 3)
            peers_are_alive(worker, peer);
        return;
    }
    bool held = peers_take_set(worker, peer, view);
    if (held)
        peers_spread_heartbeat(worker, peer);
    peers_send_heartbeat(worker, index, LEAT_HEARTBEAT_REPLY | (held ? 0 : LEAT_HEARTBEAT_ASK),
                         heartbeat->sequence);
}

/* What a peer acknowledged as durable below the commit it must still have when it comes back: kept
 * with its pin, now and then on disk. */
static void peers_raise_pins(struct node_worker *worker, struct node_peer *peer)
{
    const struct leat_peer_pin *known = leat_storage_peer_pin(worker->storage, peer->node_id);
    if (!known || worker->now_ns - peer->pinned_ns < PIN_INTERVAL_NS)
        return;
    struct leat_peer_pin pin = *known;
    bool raised = false;
    peer->pinned_ns = worker->now_ns;
    for (uint32_t i = 0; i < worker->log_count && i < 2; i++) {
        const struct leat_core *core = &worker->logs[i].core;
        const struct leat_core_peer *of_core = &core->peers[peer->member];
        uint64_t durable =
            of_core->durable_pos < core->commit_d ? of_core->durable_pos : core->commit_d;
        if (core->role != LEAT_LEADER || !of_core->matched || durable <= pin.durable_high[i])
            continue;
        pin.durable_high[i] = durable;
        raised = true;
    }
    if (raised)
        leat_storage_pin_peer(worker->storage, &pin);
}

void peers_tick(struct node_worker *worker)
{
    for (unsigned i = 0; i < worker->peer_count; i++) {
        struct node_peer *peer = &worker->peers[i];
        if (!peer->known) {
            if (worker->now_ns - peer->hello_sent_ns >= HELLO_INTERVAL_NS)
                peers_send_hello(worker, i, true);
            continue;
        }
        peers_raise_pins(worker, peer);
        bool changed = worker->led_count > 0 && peer->told_counter != worker->led_counter &&
                       worker->now_ns - peer->heartbeat_sent_ns >= worker->config->heartbeat_ns / 8;
        if (!changed && worker->now_ns - peer->heartbeat_sent_ns < worker->config->heartbeat_ns)
            continue;
        peer->heartbeat_sent_ns = worker->now_ns;
        peers_send_heartbeat(worker, i, 0, ++peer->heartbeat_sequence);
    }
}
