/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes the devices that the workers of a node share (memif: one per peer; else one), their queues
 * and the pools that they receive into, and undoes it.
 *
 *   pools -> devices attached, configured -> started (memif: the control thread does that)
 *
 *   receive queues    memif: as many as the larger node has workers; af_packet: one per worker;
 *                     af_xdp: what the interface has; PCI: port_steer.c
 *   send queues       one per worker, or as many as there are: then worker w % queues sends
 *
 * Threads: open's and close's. Tests: tests/dataplane/.
 */
#include "port_dpdk.h"

#include <stdio.h>
#include <string.h>

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include "base/assert.h"
#include "leat/error.h"

#define DEVICE_ARGUMENT_BYTES     320u
#define DEVICE_BUFFER_EXTRA_BYTES 448u /* headroom, an mbuf, the pool's own */
#define DEVICE_PAGE_BYTES         4096u
#define DEVICE_MEMORY_SPARE_MIB   24u /* the EAL's and the drivers' */
#define DEVICE_RING               1024u
#define DEVICE_MTU_SMALL          1500u
#define DEVICE_MTU_LARGE          9000u
/* RX: what the device's ring holds and what the worker has not given back (16 bursts). */
#define DEVICE_RX_BUFFERS 2047u
/* af_xdp: fill ring 4096, sends copied into the same memory 2048, held by the worker. */
#define DEVICE_RX_BUFFERS_AF_XDP 8191u
#define DEVICE_POOL_CACHE        64u
/* Frames of copying drivers are placed so that the UDP payload (at 42) is 8-byte aligned. */
#define DEVICE_FRAME_SHIFT 6u
#define DEVICE_SHIFT_ROOM  8u
/* A frame and af_packet's header fit one slot of its ring, 16 slots are whole pages, and a buffer
 * takes what the driver thinks a slot can hold; af_xdp's least is 2 KiB. */
#define DEVICE_SLOT_SMALL     2048u
#define DEVICE_SLOT_LARGE     9216u
#define DEVICE_SLOTS_IN_BLOCK 16u

const char *const port_device_drivers[] = {
    [LEAT_PORT_MEMIF] = "net_memif",
    [LEAT_PORT_AF_PACKET] = "net_af_packet",
    [LEAT_PORT_AF_XDP] = "net_af_xdp",
    [LEAT_PORT_PCI] = "pci",
};

/* --- what is asked for */

static const char *device_peers_fault(const struct leat_port_config *config)
{
    for (unsigned i = 0; i < config->peer_count; i++) {
        if (config->peers[i].node_id == config->node_id || config->peers[i].ipv4 == config->ipv4)
            return "a peer has this node's id or address";
        if (config->peers[i].worker_count > LEAT_WORKERS_MAX)
            return "a peer has too many workers";
        for (unsigned j = 0; j < i; j++) {
            if (config->peers[i].node_id == config->peers[j].node_id ||
                config->peers[i].ipv4 == config->peers[j].ipv4)
                return "two peers have the same id or address";
        }
    }
    return NULL;
}

const char *port_device_fault(const struct leat_port_config *config)
{
    if (!port_eal_is_running())
        return "leat_dataplane_start was not called";
    if ((unsigned)config->kind > LEAT_PORT_PCI)
        return "unknown kind";
    if (config->mtu_bytes != DEVICE_MTU_SMALL && config->mtu_bytes != DEVICE_MTU_LARGE)
        return "mtu_bytes is neither 1500 nor 9000";
    if (config->peer_count > LEAT_PORT_PEERS_MAX)
        return "too many peers";
    if (config->worker_count > LEAT_WORKERS_MAX)
        return "too many workers";
    if (config->worker >= (config->worker_count > 0 ? config->worker_count : 1))
        return "worker is not under worker_count";
    if (config->udp_port_base == 0 || config->udp_port_base + LEAT_WORKERS_MAX > UINT16_MAX)
        return "no UDP port for each worker";
    if (config->kind == LEAT_PORT_MEMIF ? config->memif_dir == NULL : config->interface == NULL)
        return "memif_dir or interface is missing";
    if (config->kind != LEAT_PORT_MEMIF && strpbrk(config->interface, ",[]\"") != NULL)
        return "the interface's name holds one of ,[]\"";
    return device_peers_fault(config);
}

/* --- pools */

static void device_shift_buffer(struct rte_mempool *pool, void *unused, void *object,
                                unsigned index)
{
    struct rte_mbuf *mbuf = object;
    (void)pool, (void)unused, (void)index;
    mbuf->buf_addr = (char *)mbuf->buf_addr + DEVICE_FRAME_SHIFT;
    mbuf->buf_iova += DEVICE_FRAME_SHIFT;
    mbuf->buf_len = (uint16_t)(mbuf->buf_len - DEVICE_SHIFT_ROOM);
}

/* The pool's stated room shrinks with the buffers': drivers trust it. */
static void device_shift_pool(struct rte_mempool *pool)
{
    struct rte_pktmbuf_pool_private *private = rte_mempool_get_priv(pool);
    private->mbuf_data_room_size = (uint16_t)(private->mbuf_data_room_size - DEVICE_SHIFT_ROOM);
    rte_mempool_obj_iter(pool, device_shift_buffer, NULL);
}

static unsigned device_slot_bytes(unsigned mtu_bytes)
{
    return mtu_bytes == DEVICE_MTU_SMALL ? DEVICE_SLOT_SMALL : DEVICE_SLOT_LARGE;
}

/* Buffers of a card lie within pages; those of virtual ports lie one after another, across pages
 * too. That saves 40 % of the memory, and af_xdp needs it: the driver registers count times size
 * bytes with the kernel, and what lies beyond is refused there and lost to the ring for good. */
static struct rte_mempool *device_pool_make(const char *name, unsigned count, unsigned room_bytes,
                                            bool packed)
{
    struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = (uint16_t)room_bytes};
    unsigned cache = count >= 4 * DEVICE_POOL_CACHE ? DEVICE_POOL_CACHE : 0;
    struct rte_mempool *pool = rte_mempool_create_empty(
        name, count, (unsigned)sizeof(struct rte_mbuf) + room_bytes, cache, sizeof(private),
        SOCKET_ID_ANY, packed ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0);
    if (pool == NULL)
        return NULL;
    if (rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL) != 0) {
        rte_mempool_free(pool);
        return NULL;
    }
    rte_pktmbuf_pool_init(pool, &private);
    if (rte_mempool_populate_default(pool) < 0) {
        rte_mempool_free(pool);
        return NULL;
    }
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

struct rte_mempool *port_device_pool(const struct port_host *host, const char *name, unsigned queue,
                                     unsigned count)
{
    char full[RTE_MEMPOOL_NAMESIZE];
    unsigned room = RTE_PKTMBUF_HEADROOM + device_slot_bytes(host->mtu_bytes);
    snprintf(full, sizeof(full), "leat-%s-%u-%u", name, host->slot, queue);
    return device_pool_make(full, count, room, host->kind != LEAT_PORT_PCI);
}

/* Also what waits in other workers' rings. */
static unsigned device_rx_buffers(enum leat_port_kind kind, unsigned worker_count)
{
    unsigned own = kind == LEAT_PORT_AF_XDP ? DEVICE_RX_BUFFERS_AF_XDP : DEVICE_RX_BUFFERS;
    return own + (worker_count - 1) * LEAT_PORT_HANDOVER_MAX;
}

/* One per worker, but af_xdp makes a queue's memory of its pool. */
static unsigned device_pool_of(const struct port_host *host, unsigned queue)
{
    return host->kind == LEAT_PORT_AF_XDP ? queue : queue % host->worker_count;
}

static struct rte_mempool *device_rx_pool(struct port_host *host, unsigned queue)
{
    struct rte_mempool **pool = &host->rx_pools[device_pool_of(host, queue)];
    if (*pool != NULL)
        return *pool;
    *pool = port_device_pool(host, "rx", device_pool_of(host, queue),
                             device_rx_buffers(host->kind, host->worker_count));
    if (*pool != NULL && (host->kind == LEAT_PORT_MEMIF || host->kind == LEAT_PORT_AF_PACKET))
        device_shift_pool(*pool); /* af_xdp computes addresses from the object's */
    return *pool;
}

unsigned leat_port_memory_mib(const struct leat_port_config *config)
{
    unsigned workers = config->worker_count > 0 ? config->worker_count : 1, pools = workers;
    unsigned rx_queues;
    uint64_t buffer_bytes = device_slot_bytes(config->mtu_bytes) + DEVICE_BUFFER_EXTRA_BYTES;
    if (config->kind == LEAT_PORT_PCI) /* without huge pages none shares a page with another */
        buffer_bytes =
            (buffer_bytes + DEVICE_PAGE_BYTES - 1) / DEVICE_PAGE_BYTES * DEVICE_PAGE_BYTES;
    if (config->kind == LEAT_PORT_AF_XDP && config->interface != NULL)
        port_watch_queues(config->interface, &rx_queues, &pools);
    if (pools < workers)
        pools = workers;
    uint64_t buffers = (uint64_t)pools * device_rx_buffers(config->kind, workers) +
                       (uint64_t)workers * PORT_TX_BUFFERS;
    return (unsigned)(buffers * buffer_bytes >> 20) + DEVICE_MEMORY_SPARE_MIB;
}

/* --- devices */

static int device_xdp_queues(const struct leat_port_config *config, struct port_device *device,
                             char *error, unsigned error_bytes)
{
    unsigned rx, combined;
    port_watch_queues(config->interface, &rx, &combined);
    if (rx > combined)
        return port_error(error, error_bytes, config->interface, NULL,
                          "it spreads packets over receive queues that the driver cannot take: "
                          "ethtool -L makes them one",
                          LEAT_EINVAL);
    if (combined > PORT_QUEUES_MAX)
        return port_error(error, error_bytes, config->interface, NULL,
                          "it has more than 16 queues: ethtool -L makes them fewer", LEAT_EINVAL);
    device->rx_queue_count = device->tx_queue_count = (uint16_t)combined;
    return 0;
}

static int device_arguments(const struct port_host *host, const struct leat_port_config *config,
                            struct port_device *device, char *arguments, char *error,
                            unsigned error_bytes)
{
    unsigned slot_bytes = device_slot_bytes(config->mtu_bytes);
    int used, rc;
    device->rx_queue_count = device->tx_queue_count = host->worker_count;
    switch (config->kind) {
    case LEAT_PORT_MEMIF:
        return port_memif_arguments(config, device, arguments, DEVICE_ARGUMENT_BYTES, error,
                                    error_bytes);
    case LEAT_PORT_AF_PACKET:
        used = snprintf(arguments, DEVICE_ARGUMENT_BYTES,
                        "iface=%s,qpairs=%u,blocksz=%u,framesz=%u,framecnt=1024", config->interface,
                        device->rx_queue_count, slot_bytes * DEVICE_SLOTS_IN_BLOCK, slot_bytes);
        break;
    case LEAT_PORT_AF_XDP:
        rc = device_xdp_queues(config, device, error, error_bytes);
        if (rc != 0)
            return rc;
        used = snprintf(arguments, DEVICE_ARGUMENT_BYTES, "iface=%s,start_queue=0,queue_count=%u",
                        config->interface, device->rx_queue_count);
        break;
    default:
        used = snprintf(arguments, DEVICE_ARGUMENT_BYTES, "%s", "");
        break;
    }
    if (used < 0 || (unsigned)used >= DEVICE_ARGUMENT_BYTES)
        return port_error(error, error_bytes, "interface", NULL, "its name is too long",
                          LEAT_EINVAL);
    return 0;
}

/* A kernel interface must carry what is sent: it would be dropped, later and silently. */
static int device_check_mtu(const struct leat_port_config *config, char *error,
                            unsigned error_bytes)
{
    char why[PORT_ERROR_BYTES];
    if (config->kind != LEAT_PORT_AF_PACKET && config->kind != LEAT_PORT_AF_XDP)
        return 0;
    unsigned mtu = port_watch_mtu(config->interface);
    if (mtu == 0 || mtu >= config->mtu_bytes) /* 0: the driver says what is wrong */
        return 0;
    snprintf(why, sizeof(why), "its MTU is %u, configured are %u: ip link set %.15s mtu %u", mtu,
             config->mtu_bytes, config->interface, config->mtu_bytes);
    return port_error(error, error_bytes, config->interface, NULL, why, LEAT_EINVAL);
}

static int device_attach(const struct port_host *host, struct port_device *device,
                         const char *arguments)
{
    int rc;
    if (host->kind == LEAT_PORT_PCI) {
        snprintf(device->name, sizeof(device->name), "%.63s", host->where);
        rc = rte_eal_hotplug_add("pci", device->name, "");
    } else {
        snprintf(device->name, sizeof(device->name), "%s_%u_%u", port_device_drivers[host->kind],
                 host->slot, device->peer);
        rc = rte_vdev_init(device->name, arguments);
    }
    if (rc != 0 || rte_eth_dev_get_port_by_name(device->name, &device->ethdev) != 0) {
        device->name[0] = '\0';
        return LEAT_ESYSTEM;
    }
    return 0;
}

/* Virtual drivers copy inside themselves: gathering is faster there. af_packet's must not get
 * chains at all: port_send.c holds one reference per frame. A NIC reads through the IOMMU, which
 * knows DPDK's own memory and no arena (docs/adr/0011). */
static bool device_wants_references(const struct leat_port_config *config)
{
    return config->kind == LEAT_PORT_MEMIF && config->reference_payloads;
}

/* What a PCI device does by itself, each where it is advertised. */
static void device_offloads(struct port_device *device, const struct rte_eth_dev_info *info,
                            struct rte_eth_conf *conf)
{
    device->sums_ip = (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
    device->sums_udp =
        device->sums_ip && (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
    conf->rxmode.offloads =
        info->rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
    conf->txmode.offloads |=
        info->tx_offload_capa & (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
}

static int device_queues(struct port_host *host, struct port_device *device)
{
    uint16_t rx_ring = DEVICE_RING, tx_ring = DEVICE_RING;
    if (rte_eth_dev_adjust_nb_rx_tx_desc(device->ethdev, &rx_ring, &tx_ring) != 0)
        return LEAT_ESYSTEM;
    for (uint16_t queue = 0; queue < device->rx_queue_count; queue++) {
        struct rte_mempool *pool = device_rx_pool(host, queue);
        if (pool == NULL)
            return LEAT_ENOMEM;
        if (rte_eth_rx_queue_setup(device->ethdev, queue, rx_ring, SOCKET_ID_ANY, NULL, pool) != 0)
            return LEAT_ESYSTEM;
    }
    for (uint16_t queue = 0; queue < device->tx_queue_count; queue++) {
        if (rte_eth_tx_queue_setup(device->ethdev, queue, tx_ring, SOCKET_ID_ANY, NULL) != 0)
            return LEAT_ESYSTEM;
    }
    return 0;
}

static int device_configure(struct port_host *host, const struct leat_port_config *config,
                            struct port_device *device)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = {0};
    if (rte_eth_dev_info_get(device->ethdev, &info) != 0)
        return LEAT_ESYSTEM;
    if (host->kind == LEAT_PORT_PCI) {
        conf.rxmode.mtu = config->mtu_bytes;
        device_offloads(device, &info, &conf);
        port_steer_configure(device, &info, host->worker_count, &conf);
    }
    if (device_wants_references(config) &&
        (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0) {
        device->references = true;
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    }
    if ((host->kind == LEAT_PORT_AF_XDP || host->kind == LEAT_PORT_PCI) &&
        info.max_mtu < config->mtu_bytes)
        return LEAT_EINVAL;
    if (rte_eth_dev_configure(device->ethdev, device->rx_queue_count, device->tx_queue_count,
                              &conf) != 0)
        return LEAT_ESYSTEM;
    return device_queues(host, device);
}

static int device_start(struct port_host *host, const struct leat_port_config *config,
                        struct port_device *device)
{
    if (rte_eth_dev_start(device->ethdev) != 0)
        return LEAT_ESYSTEM;
    if (host->kind == LEAT_PORT_PCI)
        host->steering = port_steer_start(device, config, host->worker_count);
    atomic_store(&device->running, true); /* whether it is up is port_watch.c's to say */
    return 0;
}

static int device_device(struct port_host *host, const struct leat_port_config *config,
                         unsigned peer, char *error, unsigned error_bytes)
{
    char arguments[DEVICE_ARGUMENT_BYTES];
    struct port_log_capture capture;
    struct port_device *device = &host->devices[host->device_count];
    *device = (struct port_device){.peer = peer};
    atomic_store(&device->datagram_bytes_max,
                 config->mtu_bytes - LEAT_NET_IPV4_BYTES - LEAT_NET_UDP_BYTES);
    int rc = device_arguments(host, config, device, arguments, error, error_bytes);
    if (rc != 0)
        return rc;
    port_log_capture_begin(&capture);
    rc = device_attach(host, device, arguments);
    if (rc == 0) {
        host->device_count++;
        rc = device_configure(host, config, device);
    }
    if (rc == 0 && host->kind != LEAT_PORT_MEMIF)
        rc = device_start(host, config, device);
    port_log_capture_end();
    if (rc != 0)
        return port_error(error, error_bytes, "opening the port", &capture,
                          rc == LEAT_EINVAL ? "the device does not take this MTU"
                          : rc == LEAT_ENOMEM
                              ? "no memory for packet buffers: raise the dataplane's"
                              : "the device cannot be set up",
                          rc);
    return 0;
}

int port_device_open_all(struct port_host *host, const struct leat_port_config *config, char *error,
                         unsigned error_bytes)
{
    static const char *const steering[] = {[LEAT_PORT_MEMIF] = "a queue each",
                                           [LEAT_PORT_AF_PACKET] = "fanout, the rest handed over",
                                           [LEAT_PORT_AF_XDP] = "by interface queue, handed over",
                                           [LEAT_PORT_PCI] = ""};
    unsigned count = host->kind == LEAT_PORT_MEMIF ? config->peer_count : 1;
    int rc = device_check_mtu(config, error, error_bytes);
    host->steering = steering[host->kind];
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = device_device(host, config, i, error, error_bytes);
    return rc;
}

void port_device_close_all(struct port_host *host)
{
    struct port_log_capture capture;
    port_log_capture_begin(&capture);
    for (unsigned i = 0; host->kind != LEAT_PORT_MEMIF && i < host->device_count; i++) {
        struct port_device *device = &host->devices[i];
        rte_eth_dev_stop(device->ethdev);
        if (host->kind == LEAT_PORT_PCI)
            rte_eal_hotplug_remove("pci", device->name);
        else
            rte_vdev_uninit(device->name);
    }
    port_log_capture_end();
    for (unsigned i = 0; i < PORT_QUEUES_MAX; i++)
        rte_mempool_free(host->rx_pools[i]);
}
