/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens and closes the ports of a node's workers. Worker 0's makes the host, which holds what they
 * share: devices (port_device.c), rings between workers, the places of their ports. The others find
 * it by kind, node id and where, and add their own buffers and queues to it.
 *
 *   config checked -> host made or found -> buffers for sending -> links watched (worker 0's)
 *
 * Any failure undoes what was done and says in one line what was wrong.
 *
 * Threads: open and close on one thread, as port.h says. Tests: tests/dataplane/.
 */
#include "port_dpdk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_lcore.h>
#include <rte_mempool.h>

#include "base/assert.h"
#include "leat/error.h"

static bool open_slots[PORT_COUNT_MAX];
static struct port_host *open_hosts;

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

/* --- the host */

static uint16_t open_worker_count(const struct leat_port_config *config)
{
    return config->worker_count > 0 ? config->worker_count : 1;
}

static const char *open_where(const struct leat_port_config *config)
{
    return config->kind == LEAT_PORT_MEMIF ? config->memif_dir : config->interface;
}

static struct port_host *open_find_host(const struct leat_port_config *config)
{
    struct port_host *host = open_hosts;
    while (host != NULL && (host->kind != config->kind || host->node_id != config->node_id ||
                            strcmp(host->where, open_where(config)) != 0))
        host = host->next;
    return host;
}

static void close_host(struct port_host *host)
{
    struct port_host **link = &open_hosts;
    while (*link != NULL && *link != host)
        link = &(*link)->next;
    if (*link == host) { /* it was complete */
        *link = host->next;
        port_watch_remove(host);
    }
    port_handover_close(host);
    if (host->kind == LEAT_PORT_MEMIF)
        port_memif_remove(host);
    port_device_close_all(host);
    for (unsigned i = 0; i < host->worker_count; i++)
        rte_mempool_free(host->tx_pools[i]); /* the devices held buffers of all */
    free(host);
}

static int open_host(struct leat_port *port, const struct leat_port_config *config, char *error,
                     unsigned error_bytes)
{
    struct port_host *host = calloc(1, sizeof(*host));
    if (host == NULL)
        return port_error(error, error_bytes, "port", NULL, "no memory", LEAT_ENOMEM);
    host->kind = config->kind;
    host->node_id = config->node_id;
    host->worker_count = open_worker_count(config);
    host->mtu_bytes = config->mtu_bytes;
    host->slot = port->slot;
    port->host = host;
    int used = snprintf(host->where, sizeof(host->where), "%s", open_where(config));
    if ((unsigned)used >= sizeof(host->where))
        return port_error(error, error_bytes, "memif_dir or interface", NULL,
                          "its name is too long", LEAT_EINVAL);
    if (port_handover_open(host) != 0)
        return port_error(error, error_bytes, "rings between workers", NULL, "no memory",
                          LEAT_ENOMEM);
    return port_device_open_all(host, config, error, error_bytes);
}

/* Worker 0's host is made, the others' is there. */
static int open_join(struct leat_port *port, const struct leat_port_config *config, char *error,
                     unsigned error_bytes)
{
    struct port_host *host = open_find_host(config);
    if (config->worker == 0) {
        if (host != NULL)
            return port_error(error, error_bytes, "port", NULL, "worker 0 has this device already",
                              LEAT_EINUSE);
        return open_host(port, config, error, error_bytes);
    }
    if (host == NULL || host->worker_count != open_worker_count(config) ||
        host->mtu_bytes != config->mtu_bytes || host->ports[config->worker] != NULL)
        return port_error(error, error_bytes, "port", NULL,
                          "worker 0's is not open, differs, or this worker's is open", LEAT_EINVAL);
    port->host = host;
    return 0;
}

/* --- the port */

static int open_tx_pool(struct leat_port *port)
{
    struct rte_mempool **pool = &port->host->tx_pools[port->worker];
    unsigned count = port->config.tx_buffer_count;
    if (count == 0)
        count = PORT_TX_BUFFERS;
    if (*pool == NULL) /* else the worker's port was open before */
        *pool = port_device_pool(port->host, "tx", port->worker, count);
    port->tx_pool = *pool;
    return *pool != NULL ? 0 : LEAT_ENOMEM;
}

static void open_lanes(struct leat_port *port)
{
    uint16_t queues = port->worker_count;
    port->device_count = port->host->device_count;
    port->rx_pool = port->host->rx_pools[port->worker];
    for (unsigned i = 0; i < port->device_count; i++) {
        struct port_device *device = &port->host->devices[i];
        port->lanes[i].device = device;
        if (device->tx_queue_count < queues)
            queues = device->tx_queue_count;
    }
    port->via = port->worker % queues;
}

static void open_net(struct leat_port *port)
{
    struct rte_ether_addr mac;
    if (port_is_memif(port)) {
        open_memif_mac(port->config.node_id, mac.addr_bytes);
        for (unsigned i = 0; i < port->config.peer_count; i++)
            open_memif_mac(port->config.peers[i].node_id, port->config.peers[i].mac);
    } else {
        int rc = rte_eth_macaddr_get(port->lanes[0].device->ethdev, &mac);
        LEAT_ASSERT(rc == 0);
    }
    leat_net_init(&port->net, &port->config, mac.addr_bytes);
}

static void open_describe(struct leat_port *port)
{
    const struct port_device *device = port->device_count > 0 ? port->lanes[0].device : NULL;
    bool references = device != NULL && device->references;
    int used = snprintf(
        port->describe, sizeof(port->describe), "%s, %s huge pages, payloads %s, %u bytes%s",
        port_device_drivers[port->config.kind], port_eal_has_huge_pages() ? "with" : "without",
        references ? "sent from where they lie" : "gathered", leat_port_datagram_bytes_max(port),
        device == NULL || !device->sums_ip ? ""
        : device->sums_udp                 ? ", IP and UDP checksums by the device"
                                           : ", IP checksums by the device");
    if (port->worker_count > 1 && used > 0 && (unsigned)used < sizeof(port->describe))
        snprintf(port->describe + used, sizeof(port->describe) - (unsigned)used,
                 ", %u workers: received by %s%s", port->worker_count, port->host->steering,
                 device != NULL && device->tx_queue_count < port->worker_count
                     ? ", sent through fewer queues"
                     : "");
}

static void close_port(struct leat_port *port)
{
    struct port_host *host = port->host;
    port_send_drop_all(port);
    if (host != NULL && port->worker == 0) {
        for (unsigned i = 1; i < host->worker_count; i++)
            LEAT_ASSERT(host->ports[i] == NULL); /* closed in the reverse order */
        close_host(host);
    } else if (host != NULL) {
        host->ports[port->worker] = NULL;
    }
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
    port->worker = config->worker;
    port->worker_count = open_worker_count(config);
    port_send_init(port);
    return port;
}

/* The control thread may use the host from here on. */
static void open_finish(struct leat_port *port)
{
    struct port_host *host = port->host;
    host->ports[port->worker] = port;
    port->config.interface = port->config.memif_dir = NULL;
    if (port->worker != 0)
        return;
    host->next = open_hosts;
    open_hosts = host;
    if (port_is_memif(port))
        port_memif_add(host);
    port_watch_add(host);
}

int leat_port_open(const struct leat_port_config *config, struct leat_port **ret_port, char *error,
                   unsigned error_bytes)
{
    const char *fault = port_device_fault(config);
    if (fault != NULL)
        return port_error(error, error_bytes, "port", NULL, fault, LEAT_EINVAL);
    struct leat_port *port = open_allocate(config);
    if (port == NULL)
        return port_error(error, error_bytes, "port", NULL, "too many ports, or no memory",
                          LEAT_ENOMEM);
    int rc = open_join(port, config, error, error_bytes);
    if (rc == 0) {
        struct port_log_capture capture;
        port_log_capture_begin(&capture);
        rc = open_tx_pool(port);
        port_log_capture_end();
        if (rc != 0)
            port_error(error, error_bytes, "packet buffers", &capture,
                       "no memory: raise the dataplane's memory", rc);
    }
    if (rc != 0) {
        close_port(port);
        return rc;
    }
    open_lanes(port);
    open_net(port);
    open_describe(port);
    open_finish(port);
    *ret_port = port;
    return 0;
}

void leat_port_close(struct leat_port *port)
{
    close_port(port);
}

/* --- the worker's thread */

void leat_port_thread_begin(struct leat_port *port)
{
    if (rte_lcore_id() == LCORE_ID_ANY)
        port->registered = rte_thread_register() == 0; /* if not: no cache, no harm */
}

void leat_port_thread_end(struct leat_port *port)
{
    if (port->registered)
        rte_thread_unregister();
    port->registered = false;
}

const char *leat_port_describe(const struct leat_port *port)
{
    return port->describe;
}

uint32_t leat_port_datagram_bytes_max(const struct leat_port *port)
{
    return port->config.mtu_bytes - LEAT_NET_IPV4_BYTES - LEAT_NET_UDP_BYTES;
}
