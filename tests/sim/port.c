/* SPDX-License-Identifier: Apache-2.0
 *
 * dataplane/port.h over simulated links. Payloads are copied when they are sent, as memif's are.
 */
#include "dataplane/port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "check.h"
#include "faults.h"
#include "leat/error.h"
#include "network.h"

#define RING_MAX       1024u /* datagrams that wait for a worker: more are dropped */
#define REPLAYS_MAX    64u
#define UDP_IP_BYTES   28u
#define DATAGRAM_BYTES 9216u
#define FULL_NS_MAX    5000000u
#define KEPT_MAX       512u

struct datagram {
    struct datagram *next;
    uint8_t from, to, worker, from_worker;
    uint32_t length_bytes;
    _Alignas(8) uint8_t bytes[];
};

struct pending { /* what goes to one peer's worker in this burst */
    uint32_t length_bytes;
    uint8_t peer, worker;
    _Alignas(8) uint8_t bytes[DATAGRAM_BYTES];
};

struct leat_port {
    struct sim_process *process;
    struct leat_port *next;
    struct leat_port_config config;
    unsigned host;
    struct datagram *first, *last;
    unsigned waiting;
    unsigned pending_count;
    struct pending pending[LEAT_PORT_PEERS_MAX * 2];
    uint32_t bundle_max[LEAT_PORT_PEERS_MAX];
    uint64_t full_until_ns[LEAT_PORT_PEERS_MAX];
    struct leat_port_counters counters;
};

struct sim_network network;
static struct leat_port *attached[SIM_HOSTS_MAX][LEAT_WORKERS_MAX];
static struct datagram *pool[2]; /* small ones, large ones */

/* ---- datagrams ---- */

static unsigned pool_of(uint32_t bytes)
{
    return bytes > 1536;
}

static struct datagram *datagram_new(uint32_t bytes)
{
    unsigned which = pool_of(bytes);
    struct datagram *datagram = pool[which];
    if (datagram)
        pool[which] = datagram->next;
    else
        datagram = sim_new(sizeof(*datagram) + (which ? DATAGRAM_BYTES : 1536));
    datagram->length_bytes = bytes;
    datagram->next = NULL;
    return datagram;
}

static void datagram_free(struct datagram *datagram)
{
    unsigned which = pool_of(datagram->length_bytes);
    datagram->next = pool[which];
    pool[which] = datagram;
}

static struct datagram *datagram_copy(const struct datagram *from)
{
    struct datagram *datagram = datagram_new(from->length_bytes);
    memcpy(datagram, from, sizeof(*from) + from->length_bytes);
    datagram->next = NULL;
    return datagram;
}

static void datagram_damage(struct datagram *datagram)
{
    uint64_t at = world_draw(STREAM_NETWORK, datagram->length_bytes);
    fault_counts.damage++;
    if (world_chance(STREAM_NETWORK, 500000)) {
        datagram->bytes[at] ^= (uint8_t)(1u << world_draw(STREAM_NETWORK, 8));
        return;
    }
    uint64_t count = world_between(STREAM_NETWORK, 1, 16);
    for (; count > 0 && at < datagram->length_bytes; count--)
        datagram->bytes[at++] = (uint8_t)world_draw(STREAM_NETWORK, 256);
}

/* ---- links ---- */

void network_attach(unsigned host, unsigned worker, struct leat_port *port)
{
    attached[host][worker] = port;
}

void network_join(void)
{
    for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
        for (unsigned j = 0; j < SIM_HOSTS_MAX; j++)
            network.links[i][j].cut = false;
    }
}

void network_heal(void)
{
    struct sim_network healed = {.delay_ns = network.delay_ns,
                                 .jitter_ns = network.jitter_ns,
                                 .sent = network.sent,
                                 .delivered = network.delivered,
                                 .lost = network.lost};
    network = healed;
}

static void deliver(void *context, uint64_t argument)
{
    struct datagram *datagram = context;
    struct leat_port *port = attached[datagram->to][datagram->worker];
    (void)argument;
    world.events[EVENT_PACKET]++;
    if (!port || port->waiting == RING_MAX || network.links[datagram->from][datagram->to].cut) {
        network.lost++;
        datagram_free(datagram);
        return;
    }
    network.delivered++;
    check_heard(datagram->to, datagram->from);
    world_note((uint64_t)datagram->from << 32 | (uint64_t)datagram->to << 24 |
               datagram->length_bytes);
    if (port->last)
        port->last->next = datagram;
    else
        port->first = datagram;
    port->last = datagram;
    port->waiting++;
    process_wake_workers(port->process);
}

/* A queue on the way that fills: what is sent at one rate arrives at half of it. */
static uint64_t link_lag(const struct sim_link *link)
{
    if (world.now_ns >= link->lag_to_ns)
        return 0;
    uint64_t grown_ns = world.now_ns - link->lag_from_ns;
    return grown_ns < link->lag_ns ? grown_ns : link->lag_ns;
}

static uint64_t link_delay(struct sim_link *link, uint32_t bytes)
{
    uint64_t at_ns = world.now_ns;
    if (network.bytes_per_ms > 0) {
        if (link->free_ns < at_ns)
            link->free_ns = at_ns;
        link->free_ns += bytes * SIM_MS / network.bytes_per_ms;
        at_ns = link->free_ns;
    }
    at_ns +=
        network.delay_ns + world_exponential(STREAM_NETWORK, network.jitter_ns) + link_lag(link);
    if (link->clogged_until_ns > at_ns)
        at_ns = link->clogged_until_ns;
    if (link->last_ns > at_ns)
        at_ns = link->last_ns;
    link->last_ns = at_ns;
    if (world_chance(STREAM_NETWORK, network.reorder_ppm)) {
        fault_counts.reorder++;
        at_ns += world_draw(STREAM_NETWORK, network.reorder_ns + 1);
    }
    return at_ns;
}

static bool link_loses(struct sim_link *link, uint32_t bytes)
{
    if (link->cut || link->burst_until_ns > world.now_ns)
        return true;
    if (link->bytes_max > 0 && bytes > link->bytes_max)
        return ++fault_counts.too_long;
    if (world_chance(STREAM_NETWORK, network.burst_ppm)) {
        fault_counts.burst++;
        link->burst_until_ns = world.now_ns + world_exponential(STREAM_NETWORK, network.burst_ns);
        return true;
    }
    if (link->free_ns > world.now_ns + 100 * SIM_MS) /* its buffer is full */
        return ++fault_counts.overflow;
    if (world_chance(STREAM_NETWORK, network.loss_ppm))
        return ++fault_counts.loss;
    return bytes > 600 && world_chance(STREAM_NETWORK, network.mtu_ppm) && ++fault_counts.too_long;
}

/* N11: what nobody of the cluster sent comes the same way. */
static void stray(const struct datagram *beside)
{
    struct datagram *datagram = datagram_new((uint32_t)world_between(STREAM_NETWORK, 1, 1400));
    datagram->from = beside->from;
    datagram->to = beside->to;
    datagram->worker = beside->worker;
    for (uint32_t i = 0; i < datagram->length_bytes; i++)
        datagram->bytes[i] = (uint8_t)world_draw(STREAM_NETWORK, 256);
    uint32_t head = beside->length_bytes < 64 ? beside->length_bytes : 64;
    if (world_draw(STREAM_NETWORK, 2) && datagram->length_bytes > head)
        memcpy(datagram->bytes, beside->bytes, head); /* and begins like what they send */
    fault_counts.stray++;
    world_at(world.now_ns + network.delay_ns, EVENT_PACKET, deliver, datagram, 0);
}

static void transmit(struct datagram *datagram)
{
    struct sim_link *link = &network.links[datagram->from][datagram->to];
    network.sent++;
    if (world_chance(STREAM_NETWORK, network.replay_ppm)) {
        fault_counts.replay++;
        world_at(world.now_ns + world_draw(STREAM_NETWORK, network.replay_ns + 1), EVENT_PACKET,
                 deliver, datagram_copy(datagram), 0);
    }
    if (link_loses(link, datagram->length_bytes)) {
        network.lost++;
        datagram_free(datagram);
        return;
    }
    if (world_chance(STREAM_NETWORK, network.twice_ppm)) {
        fault_counts.twice++;
        world_at(link_delay(link, datagram->length_bytes), EVENT_PACKET, deliver,
                 datagram_copy(datagram), 0);
    }
    if (world_chance(STREAM_NETWORK, network.stray_ppm))
        stray(datagram);
    if (world_chance(STREAM_NETWORK, network.damage_ppm))
        datagram_damage(datagram);
    world_at(link_delay(link, datagram->length_bytes), EVENT_PACKET, deliver, datagram, 0);
}

/* ---- port.h ---- */

int leat_dataplane_start(const struct leat_dataplane_config *config, char *error,
                         unsigned error_bytes)
{
    (void)config, (void)error, (void)error_bytes;
    return LEAT_OK;
}

void leat_dataplane_stop(void)
{
}

unsigned leat_port_memory_mib(const struct leat_port_config *config)
{
    (void)config;
    return 1;
}

int leat_port_open(const struct leat_port_config *config, struct leat_port **ret_port, char *error,
                   unsigned error_bytes)
{
    (void)error, (void)error_bytes;
    struct leat_port *port = sim_new(sizeof(*port));
    struct sim_process *process = sim_current->process;
    port->process = process;
    port->next = process->ports;
    process->ports = port;
    port->config = *config;
    port->host = config->node_id - 1;
    for (unsigned i = 0; i < LEAT_PORT_PEERS_MAX; i++)
        port->bundle_max[i] = UINT32_MAX;
    network_attach(port->host, config->worker, port);
    *ret_port = port;
    return LEAT_OK;
}

static void port_end(struct leat_port *port)
{
    while (port->first) {
        struct datagram *datagram = port->first;
        port->first = datagram->next;
        datagram_free(datagram);
    }
    if (attached[port->host][port->config.worker] == port)
        network_attach(port->host, port->config.worker, NULL);
    __real_free(port);
}

void leat_port_close(struct leat_port *port)
{
    struct leat_port **at = &port->process->ports;
    while (*at != port)
        at = &(*at)->next;
    *at = port->next;
    port_end(port);
}

void port_orphan(struct sim_process *process)
{
    while (process->ports) {
        struct leat_port *port = process->ports;
        process->ports = port->next;
        port_end(port);
    }
}

void leat_port_thread_begin(struct leat_port *port)
{
    (void)port;
}

void leat_port_thread_end(struct leat_port *port)
{
    (void)port;
}

const char *leat_port_describe(const struct leat_port *port)
{
    (void)port;
    return "simulated";
}

uint32_t leat_port_datagram_bytes_max(const struct leat_port *port)
{
    return port->config.mtu_bytes - UDP_IP_BYTES;
}

unsigned leat_port_receive(struct leat_port *port, uint64_t now_ns, struct leat_packet *packets,
                           unsigned max)
{
    unsigned count = 0;
    (void)now_ns;
    while (port->first && count < max) {
        struct datagram *datagram = port->first;
        port->first = datagram->next;
        port->waiting--;
        uint16_t peer = 0;
        while (port->config.peers[peer].node_id != datagram->from + 1u)
            peer++;
        packets[count++] = (struct leat_packet){.data = datagram->bytes,
                                                .length_bytes = datagram->length_bytes,
                                                .peer = peer,
                                                .cookie = datagram};
        port->counters.rx_packets++;
        port->counters.rx_bytes += datagram->length_bytes;
    }
    if (!port->first)
        port->last = NULL;
    return count;
}

void leat_port_release(struct leat_port *port, const struct leat_packet *packets, unsigned count)
{
    (void)port;
    for (unsigned i = 0; i < count; i++)
        datagram_free(packets[i].cookie);
}

static void pending_send(struct leat_port *port, struct pending *pending)
{
    struct datagram *datagram = datagram_new(pending->length_bytes);
    datagram->from = (uint8_t)port->host;
    datagram->to = (uint8_t)(port->config.peers[pending->peer].node_id - 1);
    datagram->worker = pending->worker;
    memcpy(datagram->bytes, pending->bytes, pending->length_bytes);
    pending->length_bytes = 0;
    port->counters.tx_packets++;
    transmit(datagram);
}

static struct pending *pending_for(struct leat_port *port, unsigned peer, unsigned worker)
{
    for (unsigned i = 0; i < port->pending_count; i++) {
        if (port->pending[i].peer == peer && port->pending[i].worker == worker)
            return &port->pending[i];
    }
    if (port->pending_count == sizeof(port->pending) / sizeof(port->pending[0]))
        leat_port_flush(port);
    struct pending *pending = &port->pending[port->pending_count++];
    pending->peer = (uint8_t)peer;
    pending->worker = (uint8_t)worker;
    pending->length_bytes = 0;
    return pending;
}

int leat_port_send(struct leat_port *port, unsigned peer, unsigned worker, const void *header,
                   uint32_t header_bytes, const void *payload, uint32_t payload_bytes,
                   uint32_t arena, uint64_t payload_pos)
{
    uint32_t bytes = header_bytes + payload_bytes, most = leat_port_datagram_bytes_max(port);
    (void)arena, (void)payload_pos;
    if (bytes > most) {
        port->counters.tx_drop_size++;
        return LEAT_EAGAIN;
    }
    check_sent(port->host, port->process, header, header_bytes);
    struct pending *pending = pending_for(port, peer, worker);
    uint32_t at =
        (pending->length_bytes + LEAT_PORT_BUNDLE_ALIGN - 1) & ~(LEAT_PORT_BUNDLE_ALIGN - 1);
    if (pending->length_bytes > 0 &&
        (!port->config.bundles || at + bytes > most || at + bytes > port->bundle_max[peer])) {
        pending_send(port, pending);
        at = 0;
    }
    memset(pending->bytes + pending->length_bytes, 0, at - pending->length_bytes);
    memcpy(pending->bytes + at, header, header_bytes);
    if (payload_bytes > 0)
        memcpy(pending->bytes + at + header_bytes, payload, payload_bytes);
    pending->length_bytes = at + bytes;
    port->counters.tx_bytes += bytes;
    return LEAT_OK;
}

void leat_port_bundle_limit(struct leat_port *port, unsigned peer, uint32_t bytes_max)
{
    port->bundle_max[peer] = bytes_max;
}

bool leat_port_is_full(struct leat_port *port, unsigned peer)
{
    uint64_t now_ns = world.now_ns;
    if (network.full_ppm > 0 && world_chance(STREAM_NETWORK, (uint32_t)network.full_ppm))
        port->full_until_ns[peer] = now_ns + world_draw(STREAM_NETWORK, (uint32_t)FULL_NS_MAX);
    bool full = network.full_ppm > 0 && now_ns < port->full_until_ns[peer];
    port->counters.tx_full += full;
    fault_counts.full_queue += full;
    return full;
}

void leat_port_flush(struct leat_port *port)
{
    for (unsigned i = 0; i < port->pending_count; i++) {
        if (port->pending[i].length_bytes > 0)
            pending_send(port, &port->pending[i]);
    }
    port->pending_count = 0;
    thread_yield_point();
}

uint64_t leat_port_lowest_referenced(struct leat_port *port, uint32_t arena)
{
    (void)port, (void)arena;
    return UINT64_MAX;
}

bool leat_port_peer_is_up(const struct leat_port *port, unsigned peer)
{
    (void)port, (void)peer;
    return true;
}

const struct leat_port_counters *leat_port_counters(const struct leat_port *port)
{
    return &port->counters;
}
