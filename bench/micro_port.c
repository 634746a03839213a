/* SPDX-License-Identifier: Apache-2.0
 *
 * dataplane/port.h between the nodes of one process and one thread: a message is copied when it is
 * sent, as over memif, into the datagram that its receiver then reads. Nothing is lost.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/port.h"
#include "leat/error.h"

#define QUEUE_MAX      256u /* datagrams; a power of two */
#define DATAGRAM_BYTES 1472u
#define NODES_MAX      3u

struct datagram {
    uint32_t from; /* node id */
    uint32_t length_bytes;
    _Alignas(64) uint8_t bytes[DATAGRAM_BYTES];
};

struct leat_port {
    struct leat_port_config config;
    struct leat_port_counters counters;
    uint32_t head, tail; /* of what comes in */
    struct datagram queue[QUEUE_MAX];
    struct datagram pending[LEAT_PORT_PEERS_MAX]; /* what goes to a peer, until the flush */
};

static struct leat_port *ports[NODES_MAX + 1]; /* by node id */

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
    return 0;
}

int leat_port_open(const struct leat_port_config *config, struct leat_port **ret_port, char *error,
                   unsigned error_bytes)
{
    (void)error, (void)error_bytes;
    LEAT_ASSERT(config->node_id <= NODES_MAX);
    struct leat_port *port = aligned_alloc(64, (sizeof(*port) + 63) & ~63ul);
    if (!port)
        return LEAT_ENOMEM;
    memset(port, 0, sizeof(*port));
    port->config = *config;
    *ret_port = ports[config->node_id] = port;
    return LEAT_OK;
}

void leat_port_close(struct leat_port *port)
{
    ports[port->config.node_id] = NULL;
    free(port);
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
    return "within one process";
}

uint32_t leat_port_datagram_bytes_max(const struct leat_port *port)
{
    (void)port;
    return DATAGRAM_BYTES;
}

unsigned leat_port_receive(struct leat_port *port, uint64_t now_ns, struct leat_packet *packets,
                           unsigned max)
{
    unsigned count = 0;
    (void)now_ns;
    for (; port->head != port->tail && count < max; port->head++) {
        struct datagram *datagram = &port->queue[port->head & (QUEUE_MAX - 1)];
        uint16_t peer = 0;
        while (port->config.peers[peer].node_id != datagram->from)
            peer++;
        packets[count++] = (struct leat_packet){
            .data = datagram->bytes, .length_bytes = datagram->length_bytes, .peer = peer};
    }
    return count;
}

void leat_port_release(struct leat_port *port, const struct leat_packet *packets, unsigned count)
{
    (void)port, (void)packets, (void)count;
}

static void pending_send(struct leat_port *port, unsigned peer)
{
    struct datagram *pending = &port->pending[peer];
    struct leat_port *to = ports[port->config.peers[peer].node_id];
    if (to) {
        LEAT_ASSERT(to->tail - to->head < QUEUE_MAX);
        struct datagram *datagram = &to->queue[to->tail++ & (QUEUE_MAX - 1)];
        datagram->from = port->config.node_id;
        datagram->length_bytes = pending->length_bytes;
        memcpy(datagram->bytes, pending->bytes, pending->length_bytes);
    }
    pending->length_bytes = 0;
    port->counters.tx_packets++;
}

int leat_port_send(struct leat_port *port, unsigned peer, unsigned worker, const void *header,
                   uint32_t header_bytes, const void *payload, uint32_t payload_bytes,
                   uint32_t arena, uint64_t payload_pos)
{
    struct datagram *pending = &port->pending[peer];
    uint32_t align = LEAT_PORT_BUNDLE_ALIGN, bytes = header_bytes + payload_bytes;
    (void)worker, (void)arena, (void)payload_pos;
    LEAT_ASSERT(bytes <= DATAGRAM_BYTES);
    uint32_t at = (pending->length_bytes + align - 1) & ~(align - 1);
    if (at + bytes > DATAGRAM_BYTES) {
        pending_send(port, peer);
        at = 0;
    }
    memset(pending->bytes + pending->length_bytes, 0, at - pending->length_bytes);
    memcpy(pending->bytes + at, header, header_bytes);
    if (payload_bytes > 0)
        memcpy(pending->bytes + at + header_bytes, payload, payload_bytes);
    pending->length_bytes = at + bytes;
    return LEAT_OK;
}

void leat_port_bundle_limit(struct leat_port *port, unsigned peer, uint32_t bytes_max)
{
    (void)port, (void)peer, (void)bytes_max;
}

bool leat_port_is_full(struct leat_port *port, unsigned peer)
{
    (void)port, (void)peer;
    return false;
}

void leat_port_flush(struct leat_port *port)
{
    for (unsigned peer = 0; peer < port->config.peer_count; peer++) {
        if (port->pending[peer].length_bytes > 0)
            pending_send(port, peer);
    }
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
