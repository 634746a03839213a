/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving side of a port: bursts from its devices, each frame judged by net.c, datagrams
 * handed to the worker, ARP and ICMP answered on the way.
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

/* True when `packet` was filled and now owns the mbuf; else the mbuf is done with. */
static bool receive_one(struct leat_port *port, struct port_device *device, struct rte_mbuf *mbuf,
                        struct leat_packet *packet)
{
    struct leat_net_datagram datagram;
    uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
    if (mbuf->nb_segs != 1) {
        port->counters.rx_drop_segmented++;
        return false;
    }
    switch (leat_net_receive(&port->net, &port->counters, frame, rte_pktmbuf_data_len(mbuf),
                             receive_checksum(mbuf), &datagram)) {
    case LEAT_NET_NOTHING:
        return false;
    case LEAT_NET_REPLY:
        port_send_frame(port, device, frame, datagram.length_bytes);
        return false;
    case LEAT_NET_DATAGRAM:
        break;
    }
    if (port_is_memif(port) && datagram.peer != device->peer) {
        port->counters.rx_drop_source++; /* a link speaks for one peer */
        return false;
    }
    *packet = (struct leat_packet){
        .data = receive_align(frame + datagram.payload_offset, datagram.length_bytes),
        .length_bytes = datagram.length_bytes,
        .peer = (uint16_t)datagram.peer,
        .cookie = mbuf,
    };
    port->counters.rx_packets++;
    port->counters.rx_bytes += datagram.length_bytes;
    return true;
}

static unsigned receive_device(struct leat_port *port, struct port_device *device,
                               struct leat_packet *packets, unsigned max)
{
    struct rte_mbuf *burst[LEAT_PORT_BURST_MAX];
    unsigned taken = 0;
    unsigned received = rte_eth_rx_burst(device->ethdev, 0, burst, (uint16_t)max);
    for (unsigned i = 0; i < received; i++) {
        if (receive_one(port, device, burst[i], &packets[taken]))
            taken++;
        else
            rte_pktmbuf_free(burst[i]);
    }
    return taken;
}

static void receive_note_links(struct leat_port *port)
{
    for (unsigned i = 0; i < port->device_count; i++) {
        struct port_device *device = &port->devices[i];
        bool up = atomic_load_explicit(&device->up, memory_order_acquire);
        if (up == device->was_up)
            continue;
        device->was_up = up;
        if (up)
            port->counters.link_up++;
        else
            port->counters.link_down++;
    }
}

static void receive_ask(struct leat_port *port, uint64_t now_ns)
{
    uint8_t request[LEAT_NET_ARP_BYTES];
    while (leat_net_arp_due(&port->net, now_ns, request))
        port_send_frame(port, &port->devices[0], request, sizeof(request));
}

unsigned leat_port_receive(struct leat_port *port, uint64_t now_ns, struct leat_packet *packets,
                           unsigned max)
{
    LEAT_ASSERT(max <= LEAT_PORT_BURST_MAX);
    unsigned taken = 0, count = port->device_count;
    receive_note_links(port);
    if (port->net.asking_count > 0 && count > 0)
        receive_ask(port, now_ns);
    if (count == 0 || (port_is_memif(port) && !port_memif_enter(port)))
        return 0;
    unsigned first = port->first_device++ % count; /* a busy link must not starve the others */
    for (unsigned i = 0; i < count && taken < max; i++) {
        struct port_device *device = &port->devices[(first + i) % count];
        if (atomic_load_explicit(&device->running, memory_order_acquire))
            taken += receive_device(port, device, packets + taken, max - taken);
    }
    if (port_is_memif(port))
        port_memif_leave(port);
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
    const struct port_device *device = &port->devices[port_is_memif(port) ? peer : 0];
    return atomic_load_explicit(&device->up, memory_order_acquire) &&
           leat_net_peer_is_known(&port->net, peer);
}

const struct leat_port_counters *leat_port_counters(const struct leat_port *port)
{
    return &port->counters;
}
