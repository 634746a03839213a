/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving side of a port: bursts from its devices, each frame judged by net.c, datagrams
 * handed to the worker, ARP and ICMP answered on the way.
 *
 * A worker polls, of each device, the queues that are its (port_dpdk.h), and the rings of the other
 * workers. What it finds for another worker it hands over, judged already.
 *
 * Threads: the worker. Ownership: a handed-out packet's cookie is its mbuf, freed by release.
 * Tests: tests/dataplane/.
 */
#include "port_dpdk.h"

#include <string.h>

#include "base/assert.h"

/* The payload at an address that is a multiple of 8. Drivers that copy put it there already. */
static uint8_t *receive_align(uint8_t *payload, uint32_t length_bytes)
{
    uint8_t *aligned = (uint8_t *)((uintptr_t)payload & ~(uintptr_t)7);
    if (aligned != payload) /* into the headers in front of it: 42 bytes */
        memmove(aligned, payload, length_bytes);
    return aligned;
}

static enum leat_net_checksum receive_checksum(const struct rte_mbuf *mbuf)
{
    return (mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD
               ? LEAT_NET_CHECKSUM_GOOD
               : LEAT_NET_CHECKSUM_UNKNOWN;
}

/* To the worker whose port it came to. True when that one owns the mbuf now. */
static bool receive_hand_over(struct leat_port *port, const struct leat_net_datagram *datagram,
                              struct rte_mbuf *mbuf)
{
    uint8_t *payload = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, datagram->payload_offset);
    struct port_item item = {.mbuf = mbuf,
                             .data = receive_align(payload, datagram->length_bytes),
                             .length_bytes = datagram->length_bytes,
                             .peer = (uint16_t)datagram->peer,
                             .kind = PORT_ITEM_DATAGRAM};
    if (port_handover_push(port, datagram->worker, &item)) {
        port->counters.rx_handed_over++;
        return true;
    }
    port->counters.rx_drop_handover++;
    return false;
}

enum receive_fate {
    RECEIVE_DONE,        /* the mbuf is to be freed */
    RECEIVE_TAKEN,       /* `packet` was filled and owns the mbuf */
    RECEIVE_HANDED_OVER, /* another worker owns it */
};

static enum receive_fate receive_one(struct leat_port *port, struct port_lane *lane,
                                     struct rte_mbuf *mbuf, struct leat_packet *packet)
{
    struct leat_net_datagram datagram;
    uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
    if (mbuf->nb_segs != 1) {
        port->counters.rx_drop_segmented++;
        return RECEIVE_DONE;
    }
    switch (leat_net_receive(&port->net, &port->counters, frame, rte_pktmbuf_data_len(mbuf),
                             receive_checksum(mbuf), &datagram)) {
    case LEAT_NET_NOTHING:
        return RECEIVE_DONE;
    case LEAT_NET_REPLY:
        port_send_frame(port, lane, frame, datagram.length_bytes);
        return RECEIVE_DONE;
    case LEAT_NET_DATAGRAM:
        break;
    }
    if (port_is_memif(port) && datagram.peer != lane->device->peer) {
        port->counters.rx_drop_source++; /* a link speaks for one peer */
        return RECEIVE_DONE;
    }
    if (datagram.worker != port->worker)
        return receive_hand_over(port, &datagram, mbuf) ? RECEIVE_HANDED_OVER : RECEIVE_DONE;
    *packet = (struct leat_packet){
        .data = receive_align(frame + datagram.payload_offset, datagram.length_bytes),
        .length_bytes = datagram.length_bytes,
        .peer = (uint16_t)datagram.peer,
        .cookie = mbuf,
    };
    port->counters.rx_packets++;
    port->counters.rx_bytes += datagram.length_bytes;
    return RECEIVE_TAKEN;
}

static unsigned receive_queue(struct leat_port *port, struct port_lane *lane, uint16_t queue,
                              struct leat_packet *packets, unsigned max)
{
    struct rte_mbuf *burst[LEAT_PORT_BURST_MAX];
    unsigned taken = 0;
    unsigned received = rte_eth_rx_burst(lane->device->ethdev, queue, burst, (uint16_t)max);
    for (unsigned i = 0; i < received; i++) {
        enum receive_fate fate = receive_one(port, lane, burst[i], &packets[taken]);
        if (fate == RECEIVE_TAKEN)
            taken++;
        else if (fate == RECEIVE_DONE)
            rte_pktmbuf_free(burst[i]);
    }
    return taken;
}

/* The queues that are this worker's: w, w + workers, ... They take turns in being first. */
static unsigned receive_lane(struct leat_port *port, struct port_lane *lane,
                             struct leat_packet *packets, unsigned max)
{
    uint16_t queues = lane->device->rx_queue_count, step = port->worker_count;
    unsigned taken = 0;
    if (queues <= port->worker)
        return 0;
    if (queues <= port->worker + step)
        return receive_queue(port, lane, port->worker, packets, max);
    uint16_t own = (uint16_t)((queues - port->worker + step - 1) / step);
    uint16_t first = lane->next_queue++;
    for (uint16_t i = 0; i < own && taken < max; i++) {
        uint16_t queue = (uint16_t)(port->worker + (first + i) % own * step);
        taken += receive_queue(port, lane, queue, packets + taken, max - taken);
    }
    return taken;
}

static void receive_note_links(struct leat_port *port)
{
    for (unsigned i = 0; i < port->device_count; i++) {
        struct port_lane *lane = &port->lanes[i];
        bool up = atomic_load_explicit(&lane->device->up, memory_order_acquire);
        if (up == lane->was_up)
            continue;
        lane->was_up = up;
        if (up)
            port->counters.link_up++;
        else
            port->counters.link_down++;
    }
}

/* What need not be done in each pass: ARP requests that are due, the devices' own drops. */
static void receive_look(struct leat_port *port, uint64_t now_ns)
{
    uint8_t request[LEAT_NET_ARP_BYTES];
    uint64_t no_buffer = 0, missed = 0;
    port->look_ns = now_ns + PORT_LOOK_NS;
    for (unsigned i = 0; i < port->device_count; i++) {
        const struct port_device *device = port->lanes[i].device;
        no_buffer += atomic_load_explicit(&device->rx_no_buffer, memory_order_relaxed);
        missed += atomic_load_explicit(&device->rx_missed, memory_order_relaxed);
    }
    if (port->rx_pool != NULL && rte_mempool_avail_count(port->rx_pool) < LEAT_PORT_BURST_MAX)
        port->counters.rx_pool_empty++; /* not every driver counts what it cannot receive */
    if (port->worker == 0) {
        port->counters.rx_no_buffer = no_buffer;
        port->counters.rx_missed = missed;
    }
    while (leat_net_arp_due(&port->net, now_ns, request)) {
        port_send_frame(port, &port->lanes[0], request, sizeof(request));
        port->counters.tx_arp++;
    }
}

static unsigned receive_lanes(struct leat_port *port, struct leat_packet *packets, unsigned max)
{
    unsigned taken = 0, count = port->device_count;
    if (count == 0 || (port_is_memif(port) && !port_memif_enter(port)))
        return 0;
    if (++port->first_device >= count) /* a busy link must not starve the others */
        port->first_device = 0;
    for (unsigned i = 0; i < count && taken < max; i++) {
        unsigned at = port->first_device + i;
        struct port_lane *lane = &port->lanes[at < count ? at : at - count];
        if (atomic_load_explicit(&lane->device->running, memory_order_acquire))
            taken += receive_lane(port, lane, packets + taken, max - taken);
    }
    if (port_is_memif(port))
        port_memif_leave(port);
    return taken;
}

unsigned leat_port_receive(struct leat_port *port, uint64_t now_ns, struct leat_packet *packets,
                           unsigned max)
{
    LEAT_ASSERT(max <= LEAT_PORT_BURST_MAX);
    unsigned taken = 0;
    port->net.now_ns = now_ns;
    receive_note_links(port);
    if (now_ns >= port->look_ns)
        receive_look(port, now_ns);
    if (port->worker_count > 1) /* half at most, or busy rings would starve the devices */
        taken = port_handover_take(port, packets, (max + 1) / 2);
    taken += receive_lanes(port, packets + taken, max - taken);
    if (port->net.spoke != 0) {
        if (port->worker_count > 1)
            port_handover_learned(port, port->net.spoke - 1u);
        port->net.spoke = 0;
    }
    return taken;
}

void leat_port_release(struct leat_port *port, const struct leat_packet *packets, unsigned count)
{
    (void)port;
    for (unsigned i = 0; i < count; i++)
        rte_pktmbuf_free(packets[i].cookie);
}

bool leat_port_peer_is_up(const struct leat_port *port, unsigned peer)
{
    LEAT_ASSERT(peer < port->config.peer_count);
    const struct port_device *device = port->lanes[port_is_memif(port) ? peer : 0].device;
    return atomic_load_explicit(&device->up, memory_order_acquire) &&
           leat_net_peer_is_known(&port->net, peer);
}

const struct leat_port_counters *leat_port_counters(const struct leat_port *port)
{
    return &port->counters;
}
