/* SPDX-License-Identifier: Apache-2.0
 *
 * What one worker's port gives to another's of the same node (docs/adr/0013): a datagram that came
 * to the wrong worker, a frame to send for a worker without a device queue of its own, and what an
 * ARP packet said. One ring per ordered pair of workers, one producer and one consumer, no lock. A
 * full ring drops, counted: as on the wire, timers make up for it.
 *
 * Threads: push on the producing port's worker, take on the consuming one's. Buffers may be freed
 * by any worker: pools are safe for that. With one worker there are no rings, and nobody comes
 * here. Tests: tests/dataplane/test_memif.c, test_veth.c.
 */
#include "port_dpdk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "leat/error.h"

_Static_assert((LEAT_PORT_HANDOVER_MAX & (LEAT_PORT_HANDOVER_MAX - 1)) == 0, "positions wrap");

static struct port_ring *handover_ring(const struct port_host *host, unsigned to, unsigned from)
{
    return &host->rings[to * host->worker_count + from];
}

static bool ring_push(struct port_ring *ring, const struct port_item *item)
{
    unsigned filled = atomic_load_explicit(&ring->filled, memory_order_relaxed);
    if (filled - ring->freed_seen == LEAT_PORT_HANDOVER_MAX) {
        /* the consumer has read the slot: with its release in ring_pop */
        ring->freed_seen = atomic_load_explicit(&ring->freed, memory_order_acquire);
        if (filled - ring->freed_seen == LEAT_PORT_HANDOVER_MAX)
            return false;
    }
    ring->items[filled % LEAT_PORT_HANDOVER_MAX] = *item;
    /* the item, and what it points to, before its position: with the acquire in ring_pop */
    atomic_store_explicit(&ring->filled, filled + 1, memory_order_release);
    return true;
}

static bool ring_pop(struct port_ring *ring, struct port_item *ret_item)
{
    unsigned freed = atomic_load_explicit(&ring->freed, memory_order_relaxed);
    if (freed == ring->filled_seen) {
        ring->filled_seen = atomic_load_explicit(&ring->filled, memory_order_acquire);
        if (freed == ring->filled_seen)
            return false;
    }
    *ret_item = ring->items[freed % LEAT_PORT_HANDOVER_MAX];
    atomic_store_explicit(&ring->freed, freed + 1, memory_order_release);
    return true;
}

int port_handover_open(struct port_host *host)
{
    size_t bytes = sizeof(struct port_ring) * host->worker_count * host->worker_count;
    if (host->worker_count == 1)
        return 0;
    host->rings = aligned_alloc(_Alignof(struct port_ring), bytes);
    if (host->rings == NULL)
        return LEAT_ENOMEM;
    memset(host->rings, 0, bytes);
    return 0;
}

void port_handover_close(struct port_host *host)
{
    struct port_item item;
    for (unsigned i = 0; host->rings != NULL && i < host->worker_count * host->worker_count; i++) {
        while (ring_pop(&host->rings[i], &item))
            rte_pktmbuf_free(item.mbuf);
    }
    free(host->rings);
    host->rings = NULL;
}

bool port_handover_push(struct leat_port *port, unsigned to, const struct port_item *item)
{
    LEAT_DASSERT(to < port->worker_count && to != port->worker);
    return ring_push(handover_ring(port->host, to, port->worker), item);
}

void port_handover_learned(struct leat_port *port, unsigned peer)
{
    struct port_item item = {.peer = (uint16_t)peer, .kind = PORT_ITEM_ARP};
    memcpy(item.mac, port->net.peers[peer].mac, sizeof(item.mac));
    for (unsigned to = 0; to < port->worker_count; to++) {
        if (to != port->worker)
            port_handover_push(port, to, &item); /* full: that worker will ask for itself */
    }
}

/* True when `packet` was filled. */
static bool handover_take_one(struct leat_port *port, const struct port_item *item,
                              struct leat_packet *packet)
{
    switch ((enum port_item_kind)item->kind) {
    case PORT_ITEM_ARP:
        leat_net_learn(&port->net, item->peer, item->mac);
        return false;
    case PORT_ITEM_SEND:
        port_send_for_other(port, item);
        return false;
    case PORT_ITEM_DATAGRAM:
        break;
    }
    port->net.peers[item->peer].heard_ns = port->net.now_ns;
    port->counters.rx_taken_over++;
    port->counters.rx_packets++;
    port->counters.rx_bytes += item->length_bytes;
    *packet = (struct leat_packet){.data = item->data,
                                   .length_bytes = item->length_bytes,
                                   .peer = item->peer,
                                   .cookie = item->mbuf};
    return true;
}

/* Other workers in turn; of each at most what its ring holds, so this ends. */
unsigned port_handover_take(struct leat_port *port, struct leat_packet *packets, unsigned max)
{
    unsigned taken = 0;
    for (unsigned i = 1; i < port->worker_count; i++) {
        unsigned from = (port->worker + i) % port->worker_count;
        struct port_ring *ring = handover_ring(port->host, port->worker, from);
        struct port_item item;
        for (unsigned n = 0; n < LEAT_PORT_HANDOVER_MAX && taken < max && ring_pop(ring, &item);
             n++)
            taken += handover_take_one(port, &item, &packets[taken]);
    }
    return taken;
}
