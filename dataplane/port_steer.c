/* SPDX-License-Identifier: Apache-2.0
 *
 * How a PCI device brings a datagram to its worker, the best that it has (docs/adr/0013):
 *
 *   flow rules  one per worker: UDP port base + w goes to queue w
 *   RSS         queues by a hash of addresses and ports: right by chance, else handed over
 *   one queue   worker 0 receives and hands over
 *
 * None is fatal when missing. Threads: open's. Tests: tests/pci (one queue).
 */
#include "port_dpdk.h"

#include <rte_flow.h>

#define STEER_PATTERN_ITEMS 4u

static uint16_t steer_least(uint16_t one, uint16_t other)
{
    return one < other ? one : other;
}

void port_steer_configure(struct port_device *device, const struct rte_eth_dev_info *info,
                          uint16_t worker_count, struct rte_eth_conf *conf)
{
    uint64_t hash = info->flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV4_UDP;
    device->tx_queue_count = steer_least(worker_count, info->max_tx_queues);
    device->rx_queue_count = steer_least(worker_count, info->max_rx_queues);
    if (device->rx_queue_count > 1 && hash != 0) {
        conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf->rx_adv_conf.rss_conf.rss_hf = hash;
    }
}

/* Validates or creates the rule that brings a UDP port's datagrams to a queue. */
static bool steer_rule(uint16_t ethdev, uint16_t udp_port, uint16_t queue, bool create)
{
    const struct rte_flow_attr attributes = {.ingress = 1};
    const struct rte_flow_item_udp port = {.hdr.dst_port = rte_cpu_to_be_16(udp_port)};
    const struct rte_flow_item_udp mask = {.hdr.dst_port = UINT16_MAX};
    const struct rte_flow_item pattern[STEER_PATTERN_ITEMS] = {
        {.type = RTE_FLOW_ITEM_TYPE_ETH},
        {.type = RTE_FLOW_ITEM_TYPE_IPV4},
        {.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &port, .mask = &mask},
        {.type = RTE_FLOW_ITEM_TYPE_END},
    };
    const struct rte_flow_action_queue to = {.index = queue};
    const struct rte_flow_action actions[] = {
        {.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &to},
        {.type = RTE_FLOW_ACTION_TYPE_END},
    };
    struct rte_flow_error error;
    if (!create)
        return rte_flow_validate(ethdev, &attributes, pattern, actions, &error) == 0;
    return rte_flow_create(ethdev, &attributes, pattern, actions, &error) != NULL;
}

const char *port_steer_start(const struct port_device *device,
                             const struct leat_port_config *config, uint16_t worker_count)
{
    bool ruled = device->rx_queue_count == worker_count;
    if (device->rx_queue_count <= 1)
        return "one queue, handed over";
    for (uint16_t step = 0; step < 2 * worker_count && ruled; step++) {
        uint16_t worker = step % worker_count;
        ruled = steer_rule(device->ethdev, (uint16_t)(config->udp_port_base + worker), worker,
                           step >= worker_count); /* all are validated before one is made */
    }
    if (ruled)
        return "flow rules by UDP port";
    struct rte_flow_error error;
    rte_flow_flush(device->ethdev, &error);
    return "RSS, the rest handed over";
}
