/* SPDX-License-Identifier: Apache-2.0
 *
 * What is looked at now and then and never per packet: is a device's link up, what does its
 * interface carry, how much did the device drop by itself. The answers go into the shared device,
 * where workers read them as plain words.
 *
 * The virtual drivers of kernel interfaces do not follow their interface: it is asked itself.
 * memif's links are port_memif.c's; here only their drops are read.
 *
 * Threads: an alarm on the control thread; port_watch_mtu and _queues on any.
 * Tests: tests/dataplane/test_veth.c.
 */
#include "port_dpdk.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_alarm.h>

#include "base/assert.h"

static struct port_host *watch_hosts[PORT_COUNT_MAX]; /* the control thread's */
static unsigned watch_count;

/* One question to the kernel about an interface. Returns true when `request` holds the answer. */
static bool watch_ask(const char *interface, unsigned long question, struct ifreq *request)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    snprintf(request->ifr_name, sizeof(request->ifr_name), "%.15s", interface);
    int rc = ioctl(fd, question, request);
    close(fd);
    return rc == 0;
}

unsigned port_watch_mtu(const char *interface)
{
    struct ifreq request = {.ifr_mtu = 0};
    return watch_ask(interface, SIOCGIFMTU, &request) && request.ifr_mtu > 0
               ? (unsigned)request.ifr_mtu
               : 0;
}

void port_watch_queues(const char *interface, unsigned *ret_rx, unsigned *ret_combined)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq request = {.ifr_data = (void *)&channels};
    if (!watch_ask(interface, SIOCETHTOOL, &request))
        channels = (struct ethtool_channels){.rx_count = 1};
    /* the driver knows combined channels only, and takes everything else for one */
    *ret_combined =
        channels.max_combined > 0 && channels.combined_count > 0 ? channels.combined_count : 1;
    *ret_rx = channels.rx_count + channels.combined_count;
}

static void watch_interface(const struct port_host *host, struct port_device *device)
{
    struct ifreq request = {.ifr_flags = 0};
    bool up = watch_ask(host->where, SIOCGIFFLAGS, &request) && (request.ifr_flags & IFF_UP) != 0 &&
              (request.ifr_flags & IFF_RUNNING) != 0;
    unsigned mtu = port_watch_mtu(host->where);
    if (mtu > host->mtu_bytes)
        mtu = host->mtu_bytes;
    if (mtu > LEAT_NET_IPV4_BYTES + LEAT_NET_UDP_BYTES)
        atomic_store_explicit(&device->datagram_bytes_max,
                              mtu - LEAT_NET_IPV4_BYTES - LEAT_NET_UDP_BYTES, memory_order_relaxed);
    atomic_store_explicit(&device->up, up, memory_order_release);
}

static void watch_pci(struct port_device *device)
{
    struct rte_eth_link state = {.link_status = RTE_ETH_LINK_DOWN};
    bool up = rte_eth_link_get_nowait(device->ethdev, &state) == 0 &&
              state.link_status == RTE_ETH_LINK_UP;
    atomic_store_explicit(&device->up, up, memory_order_release);
}

static void watch_drops(struct port_device *device)
{
    struct rte_eth_stats stats;
    if (rte_eth_stats_get(device->ethdev, &stats) != 0)
        return;
    atomic_store_explicit(&device->rx_no_buffer, stats.rx_nombuf, memory_order_relaxed);
    atomic_store_explicit(&device->rx_missed, stats.imissed, memory_order_relaxed);
}

static void watch_host(struct port_host *host)
{
    for (unsigned i = 0; i < host->device_count; i++) {
        if (host->kind == LEAT_PORT_PCI)
            watch_pci(&host->devices[i]);
        else if (host->kind != LEAT_PORT_MEMIF)
            watch_interface(host, &host->devices[i]);
        watch_drops(&host->devices[i]);
    }
}

static void watch_alarm(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < watch_count; i++)
        watch_host(watch_hosts[i]);
    if (watch_count > 0) {
        int rc = rte_eal_alarm_set(PORT_LOOK_NS / 1000, watch_alarm, NULL);
        LEAT_ASSERT(rc == 0); /* the entry that just ran is free again */
    }
}

static void watch_add(void *argument)
{
    LEAT_ASSERT(watch_count < PORT_COUNT_MAX);
    watch_hosts[watch_count++] = argument;
    rte_eal_alarm_cancel(watch_alarm, NULL);
    watch_alarm(NULL);
}

static void watch_remove(void *argument)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < watch_count; i++) {
        if (watch_hosts[i] != argument)
            watch_hosts[kept++] = watch_hosts[i];
    }
    watch_count = kept;
    if (kept == 0)
        rte_eal_alarm_cancel(watch_alarm, NULL);
}

void port_watch_add(struct port_host *host)
{
    int rc = port_control_do(watch_add, host);
    LEAT_ASSERT(rc == 0); /* the control thread is ours and never waits */
}

void port_watch_remove(struct port_host *host)
{
    int rc = port_control_do(watch_remove, host);
    LEAT_ASSERT(rc == 0);
}
