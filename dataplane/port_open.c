/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes a port: its buffer pools and devices (memif: one per peer; else one), and undoes it.
 *
 *   config checked -> pools -> devices attached, configured -> started (memif: handed to the
 *   control thread). Any failure undoes what was done and says in one line what was wrong.
 *
 * Threads: open and close on one thread, as port.h says. Tests: tests/dataplane/.
 */
#include "port_dpdk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_mempool.h>

#include "base/assert.h"
#include "leat/error.h"

#define OPEN_ARGUMENT_BYTES 320u
#define OPEN_RING           1024u
#define OPEN_MTU_SMALL      1500u
#define OPEN_MTU_LARGE      9000u
/* RX: what the device's ring holds and what the worker has not given back (16 bursts). */
#define OPEN_RX_BUFFERS 2047u
/* af_xdp: fill ring 4096, sends copied into the same memory 2048, held by the worker. */
#define OPEN_RX_BUFFERS_AF_XDP 8191u
/* TX: a queue of 64 per device (448), and a NIC's ring of 1024. */
#define OPEN_TX_BUFFERS 1535u
#define OPEN_POOL_CACHE 64u
/* Frames of copying drivers are placed so that the UDP payload (at 42) is 8-byte aligned. */
#define OPEN_FRAME_SHIFT 6u
#define OPEN_SHIFT_ROOM  8u
/* A frame and af_packet's header fit one slot of its ring, 16 slots are whole pages, and a buffer
 * takes what the driver thinks a slot can hold; af_xdp's least is 2 KiB. */
#define OPEN_SLOT_SMALL     2048u
#define OPEN_SLOT_LARGE     9216u
#define OPEN_SLOTS_IN_BLOCK 16u

static bool open_slots[PORT_COUNT_MAX];

static const char *const open_driver[] = {
    [LEAT_PORT_MEMIF] = "net_memif",
    [LEAT_PORT_AF_PACKET] = "net_af_packet",
    [LEAT_PORT_AF_XDP] = "net_af_xdp",
    [LEAT_PORT_PCI] = "pci",
};

/* --- what is asked for */

static const char *open_config_fault(const struct leat_port_config *config)
{
    if (!port_eal_is_running())
        return "leat_dataplane_start was not called";
    if ((unsigned)config->kind > LEAT_PORT_PCI)
        return "unknown kind";
    if (config->mtu_bytes != OPEN_MTU_SMALL && config->mtu_bytes != OPEN_MTU_LARGE)
        return "mtu_bytes is neither 1500 nor 9000";
    if (config->peer_count > LEAT_PORT_PEERS_MAX)
        return "too many peers";
    if (config->udp_port_base == 0 || config->udp_port_base + config->worker > UINT16_MAX)
        return "no UDP port for the worker";
    if (config->kind == LEAT_PORT_MEMIF ? config->memif_dir == NULL : config->interface == NULL)
        return "memif_dir or interface is missing";
    if (config->kind != LEAT_PORT_MEMIF && strpbrk(config->interface, ",[]\"") != NULL)
        return "the interface's name holds one of ,[]\"";
    for (unsigned i = 0; i < config->peer_count; i++) {
        if (config->peers[i].node_id == config->node_id || config->peers[i].ipv4 == config->ipv4)
            return "a peer has this node's id or address";
        for (unsigned j = 0; j < i; j++) {
            if (config->peers[i].node_id == config->peers[j].node_id ||
                config->peers[i].ipv4 == config->peers[j].ipv4)
                return "two peers have the same id or address";
        }
    }
    return NULL;
}

/* memif knows no ARP: each link has one end, and its address follows from the node's id. */
static void open_memif_mac(uint32_t node_id, uint8_t mac[6])
{
    const uint8_t made[6] = {0x02,
                             0x4c,
                             (uint8_t)(node_id >> 24),
                             (uint8_t)(node_id >> 16),
                             (uint8_t)(node_id >> 8),
                             (uint8_t)node_id};
    memcpy(mac, made, sizeof(made));
}

/* --- pools */

static void open_shift_buffer(struct rte_mempool *pool, void *unused, void *object, unsigned index)
{
    struct rte_mbuf *mbuf = object;
    (void)pool, (void)unused, (void)index;
    mbuf->buf_addr = (char *)mbuf->buf_addr + OPEN_FRAME_SHIFT;
    mbuf->buf_iova += OPEN_FRAME_SHIFT;
    mbuf->buf_len = (uint16_t)(mbuf->buf_len - OPEN_SHIFT_ROOM);
}

/* The pool's stated room shrinks with the buffers': drivers trust it. */
static void open_shift_pool(struct rte_mempool *pool)
{
    struct rte_pktmbuf_pool_private *private = rte_mempool_get_priv(pool);
    private->mbuf_data_room_size = (uint16_t)(private->mbuf_data_room_size - OPEN_SHIFT_ROOM);
    rte_mempool_obj_iter(pool, open_shift_buffer, NULL);
}

static unsigned open_slot_bytes(const struct leat_port_config *config)
{
    return config->mtu_bytes == OPEN_MTU_SMALL ? OPEN_SLOT_SMALL : OPEN_SLOT_LARGE;
}

static struct rte_mempool *open_pool(const struct leat_port *port, const char *name, unsigned count)
{
    char full[RTE_MEMPOOL_NAMESIZE];
    unsigned room = RTE_PKTMBUF_HEADROOM + open_slot_bytes(&port->config);
    snprintf(full, sizeof(full), "leat-%s-%u", name, port->slot);
    return rte_pktmbuf_pool_create(full, count, OPEN_POOL_CACHE, 0, (uint16_t)room, SOCKET_ID_ANY);
}

static int open_pools(struct leat_port *port)
{
    bool af_xdp = port->config.kind == LEAT_PORT_AF_XDP;
    port->rx_pool = open_pool(port, "rx", af_xdp ? OPEN_RX_BUFFERS_AF_XDP : OPEN_RX_BUFFERS);
    port->tx_pool = open_pool(port, "tx", OPEN_TX_BUFFERS);
    if (port->rx_pool == NULL || port->tx_pool == NULL)
        return LEAT_ENOMEM;
    if (port->config.kind == LEAT_PORT_MEMIF || port->config.kind == LEAT_PORT_AF_PACKET)
        open_shift_pool(port->rx_pool); /* af_xdp computes addresses from the object's */
    return 0;
}

/* --- devices */

static int open_arguments(const struct leat_port_config *config, struct port_device *device,
                          char *arguments, char *error, unsigned error_bytes)
{
    unsigned slot_bytes = open_slot_bytes(config);
    int used;
    switch (config->kind) {
    case LEAT_PORT_MEMIF:
        return port_memif_arguments(config, device, arguments, OPEN_ARGUMENT_BYTES, error,
                                    error_bytes);
    case LEAT_PORT_AF_PACKET:
        used = snprintf(arguments, OPEN_ARGUMENT_BYTES,
                        "iface=%s,qpairs=1,blocksz=%u,framesz=%u,framecnt=1024", config->interface,
                        slot_bytes * OPEN_SLOTS_IN_BLOCK, slot_bytes);
        break;
    case LEAT_PORT_AF_XDP:
        used = snprintf(arguments, OPEN_ARGUMENT_BYTES, "iface=%s,start_queue=0,queue_count=1",
                        config->interface);
        break;
    default:
        used = snprintf(arguments, OPEN_ARGUMENT_BYTES, "%s", "");
        break;
    }
    if (used < 0 || (unsigned)used >= OPEN_ARGUMENT_BYTES)
        return port_error(error, error_bytes, "interface", NULL, "its name is too long",
                          LEAT_EINVAL);
    return 0;
}

static int open_attach(struct leat_port *port, struct port_device *device, const char *arguments)
{
    int rc;
    if (port->config.kind == LEAT_PORT_PCI) {
        snprintf(device->name, sizeof(device->name), "%s", port->config.interface);
        rc = rte_eal_hotplug_add("pci", device->name, "");
    } else {
        snprintf(device->name, sizeof(device->name), "%s_%u_%u", open_driver[port->config.kind],
                 port->slot, device->peer);
        rc = rte_vdev_init(device->name, arguments);
    }
    if (rc != 0 || rte_eth_dev_get_port_by_name(device->name, &device->ethdev) != 0) {
        device->name[0] = '\0';
        return LEAT_ESYSTEM;
    }
    return 0;
}

/* Virtual drivers copy inside themselves: gathering is faster there (docs/adr/0011). af_packet's
 * must not get chains at all: port_send.c holds one reference per frame. */
static bool open_wants_references(const struct leat_port_config *config)
{
    return config->kind == LEAT_PORT_PCI ||
           (config->kind == LEAT_PORT_MEMIF && config->reference_payloads);
}

static int open_configure(struct leat_port *port, struct port_device *device)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = {0};
    uint16_t rx_ring = OPEN_RING, tx_ring = OPEN_RING;
    if (rte_eth_dev_info_get(device->ethdev, &info) != 0)
        return LEAT_ESYSTEM;
    if (port->config.kind == LEAT_PORT_PCI) {
        conf.rxmode.mtu = port->config.mtu_bytes;
        conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_CHECKSUM;
    }
    if (open_wants_references(&port->config) &&
        (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0) {
        device->references = true;
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    }
    if (port->config.kind == LEAT_PORT_AF_XDP && info.max_mtu < port->config.mtu_bytes)
        return LEAT_EINVAL;
    if (rte_eth_dev_configure(device->ethdev, 1, 1, &conf) != 0 ||
        rte_eth_dev_adjust_nb_rx_tx_desc(device->ethdev, &rx_ring, &tx_ring) != 0 ||
        rte_eth_rx_queue_setup(device->ethdev, 0, rx_ring, SOCKET_ID_ANY, NULL, port->rx_pool) !=
            0 ||
        rte_eth_tx_queue_setup(device->ethdev, 0, tx_ring, SOCKET_ID_ANY, NULL) != 0)
        return LEAT_ESYSTEM;
    return 0;
}

static int open_device(struct leat_port *port, unsigned peer, char *error, unsigned error_bytes)
{
    char arguments[OPEN_ARGUMENT_BYTES];
    struct port_log_capture capture;
    struct port_device *device = &port->devices[port->device_count];
    *device = (struct port_device){.peer = peer};
    int rc = open_arguments(&port->config, device, arguments, error, error_bytes);
    if (rc != 0)
        return rc;
    port_log_capture_begin(&capture);
    rc = open_attach(port, device, arguments);
    if (rc == 0) {
        port->device_count++;
        rc = open_configure(port, device);
    }
    if (rc == 0 && !port_is_memif(port)) {
        rc = rte_eth_dev_start(device->ethdev) == 0 ? 0 : LEAT_ESYSTEM;
        atomic_store(&device->running, rc == 0);
        atomic_store(&device->up, rc == 0);
    }
    port_log_capture_end();
    if (rc != 0)
        return port_error(error, error_bytes, "opening the port", &capture,
                          rc == LEAT_EINVAL ? "the device does not take this MTU"
                                            : "the device cannot be set up",
                          rc);
    return 0;
}

static int open_devices(struct leat_port *port, char *error, unsigned error_bytes)
{
    unsigned count = port_is_memif(port) ? port->config.peer_count : 1;
    for (unsigned i = 0; i < count; i++) {
        int rc = open_device(port, i, error, error_bytes);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static void open_net(struct leat_port *port)
{
    struct rte_ether_addr mac;
    if (port_is_memif(port)) {
        open_memif_mac(port->config.node_id, mac.addr_bytes);
        for (unsigned i = 0; i < port->config.peer_count; i++)
            open_memif_mac(port->config.peers[i].node_id, port->config.peers[i].mac);
    } else {
        int rc = rte_eth_macaddr_get(port->devices[0].ethdev, &mac);
        LEAT_ASSERT(rc == 0);
    }
    leat_net_init(&port->net, &port->config, mac.addr_bytes);
}

static void open_describe(struct leat_port *port)
{
    bool references = port->device_count > 0 && port->devices[0].references;
    snprintf(port->describe, sizeof(port->describe), "%s, %s huge pages, payloads %s, %u bytes",
             open_driver[port->config.kind], port_eal_has_huge_pages() ? "with" : "without",
             references ? "sent from where they lie" : "gathered",
             leat_port_datagram_bytes_max(port));
}

/* --- closing, also of a half-opened port */

static void close_devices(struct leat_port *port)
{
    struct port_log_capture capture;
    port_log_capture_begin(&capture);
    for (unsigned i = 0; i < port->device_count; i++) {
        struct port_device *device = &port->devices[i];
        rte_eth_dev_stop(device->ethdev);
        if (port->config.kind == LEAT_PORT_PCI)
            rte_eal_hotplug_remove("pci", device->name);
        else
            rte_vdev_uninit(device->name);
    }
    port_log_capture_end();
}

static void close_port(struct leat_port *port)
{
    port_send_drop_all(port);
    if (port_is_memif(port))
        port_memif_remove(port);
    else
        close_devices(port);
    rte_mempool_free(port->rx_pool);
    rte_mempool_free(port->tx_pool);
    open_slots[port->slot] = false;
    free(port);
}

static struct leat_port *open_allocate(const struct leat_port_config *config)
{
    unsigned slot = 0;
    while (slot < PORT_COUNT_MAX && open_slots[slot])
        slot++;
    struct leat_port *port = slot < PORT_COUNT_MAX ? calloc(1, sizeof(*port)) : NULL;
    if (port == NULL)
        return NULL;
    open_slots[slot] = true;
    port->slot = slot;
    port->config = *config;
    port_send_init(port);
    return port;
}

int leat_port_open(const struct leat_port_config *config, struct leat_port **ret_port, char *error,
                   unsigned error_bytes)
{
    const char *fault = open_config_fault(config);
    if (fault != NULL)
        return port_error(error, error_bytes, "port", NULL, fault, LEAT_EINVAL);
    struct leat_port *port = open_allocate(config);
    if (port == NULL)
        return port_error(error, error_bytes, "port", NULL, "too many ports, or no memory",
                          LEAT_ENOMEM);
    struct port_log_capture capture;
    port_log_capture_begin(&capture);
    int rc = open_pools(port);
    port_log_capture_end();
    if (rc != 0)
        port_error(error, error_bytes, "packet buffers", &capture,
                   "no memory: raise the dataplane's memory", rc);
    else
        rc = open_devices(port, error, error_bytes);
    if (rc != 0) {
        close_port(port);
        return rc;
    }
    open_net(port);
    open_describe(port);
    port->config.interface = port->config.memif_dir = NULL;
    if (port_is_memif(port))
        port_memif_add(port);
    *ret_port = port;
    return 0;
}

void leat_port_close(struct leat_port *port)
{
    close_port(port);
}

const char *leat_port_describe(const struct leat_port *port)
{
    return port->describe;
}

uint32_t leat_port_datagram_bytes_max(const struct leat_port *port)
{
    return port->config.mtu_bytes - LEAT_NET_IPV4_BYTES - LEAT_NET_UDP_BYTES;
}
