/* SPDX-License-Identifier: Apache-2.0
 *
 * The sending side of a port: datagrams become mbufs on their device's queue, a flush hands the
 * queue to the device. What it does not take stays queued, so that a full device holds its senders
 * up (leat_port_is_full) instead of losing what they sent. What a device takes later than the flush
 * is referenced, not copied, and remembered per chunk of arena until the device is done.
 *
 *   mbuf of the TX pool: headers, our header, and the payload when it is gathered
 *   chained to it otherwise: an mbuf whose external buffer is the payload in the arena
 *
 * A chunk's count of references starts at 1, ours; each datagram adds 1, taken off when the
 * device frees its mbuf. Threads: the worker. Tests: tests/dataplane/test_memif.c.
 */
#include "port_dpdk.h"

#include <string.h>

#include <rte_ip.h>
#include <rte_udp.h>

#include "base/assert.h"
#include "leat/error.h"

#define SEND_ATTEMPTS_MAX 4u /* of a flush whose device takes nothing more */

void port_send_init(struct leat_port *port)
{
    port->chunk_count = 0;
    port->chunk_last = 0;
    for (unsigned i = 0; i < LEAT_PORT_PEERS_MAX; i++) {
        port->bundles[i].flushes = UINT64_MAX;
        port->bundle_max[i] = UINT32_MAX;
    }
}

/* --- what is referenced */

static void chunk_freed(void *address, void *opaque)
{
    (void)address, (void)opaque; /* our own reference keeps a chunk alive: never called for real */
}

static bool chunk_is_of(const struct port_chunk *chunk, uint32_t arena, uint64_t number)
{
    return chunk->used && chunk->arena == arena && chunk->chunk == number;
}

/* The chunk's entry, a new one if need be; NULL: the table is full, so copy. */
static struct port_chunk *chunk_of(struct leat_port *port, uint32_t arena, uint64_t pos)
{
    uint64_t number = pos >> PORT_CHUNK_SHIFT;
    struct port_chunk *unused = NULL;
    if (chunk_is_of(&port->chunks[port->chunk_last], arena, number))
        return &port->chunks[port->chunk_last];
    for (unsigned i = 0; i < PORT_CHUNKS_MAX; i++) {
        struct port_chunk *chunk = &port->chunks[i];
        if (chunk_is_of(chunk, arena, number)) {
            port->chunk_last = i;
            return chunk;
        }
        if (!chunk->used && unused == NULL)
            unused = chunk;
    }
    if (unused == NULL)
        return NULL;
    *unused = (struct port_chunk){
        .lowest_pos = UINT64_MAX, .chunk = number, .arena = arena, .used = true};
    unused->info.free_cb = chunk_freed;
    rte_mbuf_ext_refcnt_set(&unused->info, 1);
    port->chunk_count++;
    port->chunk_last = (unsigned)(unused - port->chunks);
    return unused;
}

static void chunks_sweep(struct leat_port *port)
{
    for (unsigned i = 0; i < PORT_CHUNKS_MAX; i++) {
        struct port_chunk *chunk = &port->chunks[i];
        if (chunk->used && rte_mbuf_ext_refcnt_read(&chunk->info) == 1) {
            chunk->used = false;
            port->chunk_count--;
        }
    }
}

static void send_reclaim(struct leat_port *port)
{
    for (unsigned i = 0; i < port->device_count; i++) {
        const struct port_device *device = port->lanes[i].device;
        if (device->references && port->via == port->worker)
            rte_eth_tx_done_cleanup(device->ethdev, port->worker, 0);
    }
    if (port->chunk_count > 0)
        chunks_sweep(port);
}

uint64_t leat_port_lowest_referenced(struct leat_port *port, uint32_t arena)
{
    uint64_t lowest = UINT64_MAX;
    LEAT_ASSERT(arena < LEAT_PORT_ARENAS_MAX);
    if (port->chunk_count == 0)
        return lowest;
    send_reclaim(port);
    for (unsigned i = 0; i < PORT_CHUNKS_MAX && port->chunk_count > 0; i++) {
        const struct port_chunk *chunk = &port->chunks[i];
        if (chunk->used && chunk->arena == arena && chunk->lowest_pos < lowest)
            lowest = chunk->lowest_pos;
    }
    return lowest;
}

/* --- flush */

static void send_drop(struct port_lane *lane, uint64_t *counter)
{
    for (unsigned i = 0; i < lane->queued; i++) {
        *counter += lane->queued_bytes[i] > 0;
        rte_pktmbuf_free(lane->queue[i]);
    }
    lane->queued = 0;
    lane->flushes++;
}

/* The first `count` are the device's now; what is left moves to the queue's front. */
static void send_sent(struct leat_port *port, struct port_lane *lane, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        port->counters.tx_packets += lane->queued_bytes[i] > 0;
        port->counters.tx_bytes += lane->queued_bytes[i];
    }
    unsigned left = lane->queued - count;
    memmove(lane->queue, lane->queue + count, left * sizeof(lane->queue[0]));
    memmove(lane->queued_bytes, lane->queued_bytes + count, left * sizeof(lane->queued_bytes[0]));
    lane->queued = left;
}

/* af_packet frees what it took and then, when the interface is down, says that it took nothing:
 * to believe it is to free twice. A reference of ours on each mbuf tells what it really did. */
static unsigned send_burst_guarded(struct leat_port *port, struct port_lane *lane)
{
    unsigned count = lane->queued, taken = 0;
    for (unsigned i = 0; i < count; i++)
        rte_mbuf_refcnt_update(lane->queue[i], 1);
    unsigned sent =
        rte_eth_tx_burst(lane->device->ethdev, port->worker, lane->queue, (uint16_t)count);
    while (taken < count && rte_mbuf_refcnt_read(lane->queue[taken]) == 1)
        taken++;
    for (unsigned i = 0; i < count; i++) {
        if (i < taken)
            rte_pktmbuf_free(lane->queue[i]);
        else
            rte_mbuf_refcnt_update(lane->queue[i], -1);
    }
    for (unsigned i = sent; i < taken; i++) {
        port->counters.tx_drop_full += lane->queued_bytes[i] > 0;
        lane->queued_bytes[i] = 0;
    }
    return taken;
}

static unsigned send_burst(struct leat_port *port, struct port_lane *lane)
{
    if (port->config.kind == LEAT_PORT_AF_PACKET)
        return send_burst_guarded(port, lane);
    return rte_eth_tx_burst(lane->device->ethdev, port->worker, lane->queue,
                            (uint16_t)lane->queued);
}

/* The device has fewer queues than there are workers: another one sends. */
static void send_through_other(struct leat_port *port, struct port_lane *lane)
{
    for (unsigned i = 0; i < lane->queued; i++) {
        struct port_item item = {.mbuf = lane->queue[i],
                                 .device = (uint64_t)(lane - port->lanes),
                                 .length_bytes = lane->queued_bytes[i],
                                 .kind = PORT_ITEM_SEND};
        bool datagram = item.length_bytes > 0;
        if (port_handover_push(port, port->via, &item)) {
            port->counters.tx_handed_over += datagram;
        } else {
            port->counters.tx_drop_handover += datagram;
            rte_pktmbuf_free(item.mbuf);
        }
    }
    lane->queued = 0;
}

/* Within the gate, if there is one. */
static void send_flush_device(struct leat_port *port, struct port_lane *lane)
{
    lane->flushes++;
    if (!atomic_load_explicit(&lane->device->up, memory_order_acquire)) {
        send_drop(lane, &port->counters.tx_drop_no_link);
        return;
    }
    if (port->via != port->worker) {
        send_through_other(port, lane);
        return;
    }
    for (unsigned i = 0; i < SEND_ATTEMPTS_MAX && lane->queued > 0; i++)
        send_sent(port, lane, send_burst(port, lane));
}

/* False: the control path has the links, and the queue stays as it is. */
static bool send_try_flush(struct leat_port *port, struct port_lane *lane)
{
    if (!port_is_memif(port)) {
        send_flush_device(port, lane);
        return true;
    }
    if (!port_memif_enter(port))
        return false;
    send_flush_device(port, lane);
    port_memif_leave(port);
    return true;
}

void leat_port_flush(struct leat_port *port)
{
    for (unsigned i = 0; i < port->device_count; i++) {
        if (port->lanes[i].queued > 0)
            send_try_flush(port, &port->lanes[i]);
    }
}

void port_send_drop_all(struct leat_port *port)
{
    for (unsigned i = 0; i < port->device_count; i++)
        send_drop(&port->lanes[i], &port->counters.tx_drop_no_link);
}

/* --- queue */

static struct rte_mbuf *send_buffer(struct leat_port *port)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(port->tx_pool);
    if (mbuf == NULL) {
        send_reclaim(port);
        mbuf = rte_pktmbuf_alloc(port->tx_pool);
    }
    return mbuf;
}

/* Who cannot wait takes the place of what a full device did not take: it is the newer. False: the
 * control path has the links. */
static bool send_make_room(struct leat_port *port, struct port_lane *lane)
{
    if (lane->queued < LEAT_PORT_BURST_MAX)
        return true;
    if (!send_try_flush(port, lane))
        return false;
    if (lane->queued == LEAT_PORT_BURST_MAX)
        send_drop(lane, &port->counters.tx_drop_full);
    return true;
}

bool leat_port_is_full(struct leat_port *port, unsigned peer)
{
    LEAT_ASSERT(peer < port->config.peer_count);
    struct port_lane *lane = port_lane_of(port, peer);
    bool full = lane->queued == LEAT_PORT_BURST_MAX &&
                (!send_try_flush(port, lane) || lane->queued == LEAT_PORT_BURST_MAX);
    port->counters.tx_full += full;
    return full;
}

static void send_queue(struct port_lane *lane, struct rte_mbuf *mbuf, uint32_t datagram_bytes)
{
    LEAT_DASSERT(lane->queued < LEAT_PORT_BURST_MAX);
    lane->queue[lane->queued] = mbuf;
    lane->queued_bytes[lane->queued++] = datagram_bytes;
}

void port_send_frame(struct leat_port *port, struct port_lane *lane, const uint8_t *frame,
                     uint32_t frame_bytes)
{
    /* answered within the receiving burst: no flush here, a full queue drops it */
    struct rte_mbuf *mbuf =
        lane->queued < LEAT_PORT_BURST_MAX ? rte_pktmbuf_alloc(port->tx_pool) : NULL;
    if (mbuf == NULL)
        return;
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)frame_bytes), frame, frame_bytes);
    send_queue(lane, mbuf, 0);
}

void port_send_for_other(struct leat_port *port, const struct port_item *item)
{
    struct port_lane *lane = &port->lanes[item->device];
    if (send_make_room(port, lane)) {
        send_queue(lane, item->mbuf, item->length_bytes);
        return;
    }
    port->counters.tx_drop_full += item->length_bytes > 0;
    rte_pktmbuf_free(item->mbuf);
}

/* Chains the payload to `head` where it lies. False: gather it instead. */
static bool send_reference(struct leat_port *port, struct rte_mbuf *head, const void *payload,
                           uint32_t payload_bytes, uint32_t arena, uint64_t payload_pos)
{
    struct port_chunk *chunk = chunk_of(port, arena, payload_pos);
    if (chunk == NULL || rte_mbuf_ext_refcnt_read(&chunk->info) >= PORT_CHUNK_REFERENCES_MAX)
        return false;
    struct rte_mbuf *tail = send_buffer(port);
    if (tail == NULL)
        return false;
    if (!chunk->used) /* swept by send_buffer: nothing referenced it yet */
        chunk = chunk_of(port, arena, payload_pos);
    LEAT_ASSERT(chunk != NULL);
    rte_mbuf_ext_refcnt_update(&chunk->info, 1);
    if (payload_pos < chunk->lowest_pos)
        chunk->lowest_pos = payload_pos;
    void *bytes = (void *)(uintptr_t)payload; /* read only */
    rte_pktmbuf_attach_extbuf(tail, bytes, rte_mem_virt2iova(bytes), (uint16_t)payload_bytes,
                              &chunk->info);
    tail->data_off = 0;
    tail->data_len = (uint16_t)payload_bytes;
    tail->pkt_len = payload_bytes;
    head->next = tail;
    head->nb_segs = 2;
    head->pkt_len += payload_bytes;
    return true;
}

static void send_payload(struct leat_port *port, bool refers, struct rte_mbuf *mbuf,
                         const void *payload, uint32_t payload_bytes, uint32_t arena,
                         uint64_t payload_pos)
{
    if (refers && send_reference(port, mbuf, payload, payload_bytes, arena, payload_pos)) {
        port->counters.tx_referenced++;
        return;
    }
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)payload_bytes), payload, payload_bytes);
    port->counters.tx_gathered++;
}

/* The device fills in the IP header's checksum, and the UDP checksum from that of the pseudo header
 * that it finds there. Else UDP datagrams carry none: their own CRC is stronger. */
static void send_offload(const struct port_device *device, struct rte_mbuf *mbuf, uint8_t *frame)
{
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + LEAT_NET_ETHERNET_BYTES);
    struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
    mbuf->l2_len = LEAT_NET_ETHERNET_BYTES;
    mbuf->l3_len = LEAT_NET_IPV4_BYTES;
    mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
    ip->hdr_checksum = 0;
    if (!device->sums_udp)
        return;
    mbuf->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
    udp->dgram_cksum = rte_ipv4_phdr_cksum(ip, mbuf->ol_flags);
}

static int send_refuse(uint64_t *counter)
{
    (*counter)++;
    return LEAT_EAGAIN;
}

static void send_headers(struct leat_port *port, const struct port_device *device, unsigned peer,
                         unsigned worker, uint32_t datagram_bytes, struct rte_mbuf *mbuf)
{
    uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
    leat_net_write_headers(&port->net, peer, worker, datagram_bytes, frame);
    if (device->sums_ip)
        send_offload(device, mbuf, frame);
}

/* Puts the message into the datagram that was queued last for the same worker. False: it is not of
 * this burst, or full. */
static bool send_bundled(struct leat_port *port, struct port_lane *lane, unsigned peer,
                         unsigned worker, const void *header, uint32_t header_bytes,
                         const void *payload, uint32_t payload_bytes, uint32_t bytes_max)
{
    const struct port_bundle *bundle = &port->bundles[peer];
    if (bundle->flushes != lane->flushes || bundle->worker != worker)
        return false;
    struct rte_mbuf *mbuf = lane->queue[bundle->place];
    uint32_t held = lane->queued_bytes[bundle->place];
    uint32_t begin = (held + LEAT_PORT_BUNDLE_ALIGN - 1) & ~(LEAT_PORT_BUNDLE_ALIGN - 1);
    uint32_t whole = begin + header_bytes + payload_bytes;
    if (mbuf->nb_segs != 1 || whole > bytes_max || whole > port->bundle_max[peer])
        return false;
    char *at = rte_pktmbuf_append(mbuf, (uint16_t)(whole - held));
    if (at == NULL)
        return false;
    memset(at, 0, begin - held);
    memcpy(at + (begin - held), header, header_bytes);
    if (payload_bytes > 0)
        memcpy(at + (begin - held) + header_bytes, payload, payload_bytes);
    send_headers(port, lane->device, peer, worker, whole, mbuf);
    lane->queued_bytes[bundle->place] = whole;
    port->counters.tx_gathered += payload_bytes > 0;
    port->counters.tx_bundled++;
    return true;
}

void leat_port_bundle_limit(struct leat_port *port, unsigned peer, uint32_t bytes_max)
{
    LEAT_ASSERT(peer < port->config.peer_count);
    port->bundle_max[peer] = bytes_max;
}

static bool send_refers(const struct port_device *device, uint32_t payload_bytes, uint32_t arena)
{
    return device->references && arena != LEAT_PORT_NO_ARENA &&
           payload_bytes >= PORT_REFERENCE_BYTES_MIN;
}

int leat_port_send(struct leat_port *port, unsigned peer, unsigned worker, const void *header,
                   uint32_t header_bytes, const void *payload, uint32_t payload_bytes,
                   uint32_t arena, uint64_t payload_pos)
{
    uint64_t bytes = (uint64_t)header_bytes + payload_bytes;
    LEAT_ASSERT(peer < port->config.peer_count && worker < LEAT_WORKERS_MAX);
    LEAT_ASSERT(arena < LEAT_PORT_ARENAS_MAX || arena == LEAT_PORT_NO_ARENA);
    struct port_lane *lane = port_lane_of(port, peer);
    struct port_device *device = lane->device;
    uint32_t bytes_max = atomic_load_explicit(&device->datagram_bytes_max, memory_order_relaxed);
    if (bytes > bytes_max)
        return send_refuse(&port->counters.tx_drop_size);
    if (!atomic_load_explicit(&device->up, memory_order_acquire))
        return send_refuse(&port->counters.tx_drop_no_link);
    if (!leat_net_peer_is_known(&port->net, peer))
        return send_refuse(&port->counters.tx_drop_no_mac);
    bool refers = send_refers(device, payload_bytes, arena);
    if (port->config.bundles && !refers &&
        send_bundled(port, lane, peer, worker, header, header_bytes, payload, payload_bytes,
                     bytes_max))
        return 0;
    if (!send_make_room(port, lane))
        return send_refuse(&port->counters.tx_drop_full);
    struct rte_mbuf *mbuf = send_buffer(port);
    if (mbuf == NULL)
        return send_refuse(&port->counters.tx_drop_no_buffer);
    send_headers(port, device, peer, worker, (uint32_t)bytes, mbuf);
    memcpy(rte_pktmbuf_mtod_offset(mbuf, uint8_t *, LEAT_NET_HEADERS_BYTES), header, header_bytes);
    mbuf->data_len = (uint16_t)(LEAT_NET_HEADERS_BYTES + header_bytes);
    mbuf->pkt_len = mbuf->data_len;
    if (payload_bytes > 0)
        send_payload(port, refers, mbuf, payload, payload_bytes, arena, payload_pos);
    port->bundles[peer] = (struct port_bundle){lane->queued, worker, lane->flushes};
    send_queue(lane, mbuf, (uint32_t)bytes);
    return 0;
}
