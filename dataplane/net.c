/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include <string.h>

#include "base/assert.h"

enum {
    NET_ETHERTYPE_IPV4 = 0x0800,
    NET_ETHERTYPE_ARP = 0x0806,
    NET_PROTOCOL_ICMP = 1,
    NET_PROTOCOL_UDP = 17,
    NET_ARP_REQUEST = 1,
    NET_ARP_REPLY = 2,
    NET_ICMP_ECHO_REPLY = 0,
    NET_ICMP_ECHO = 8,
    NET_ICMP_BYTES_MIN = 8,
    NET_TIME_TO_LIVE = 64,
    /* offsets in the frame */
    NET_AT_ETHERTYPE = 12,
    NET_AT_IP = 14,
    NET_AT_IP_SUM = 24,
    NET_AT_IP_SOURCE = 26,
    NET_AT_IP_TARGET = 30,
    NET_AT_L4 = 34,
    NET_AT_ARP_OPERATION = 20,
    NET_AT_ARP_SENDER_MAC = 22,
    NET_AT_ARP_SENDER_IP = 28,
    NET_AT_ARP_TARGET_MAC = 32,
    NET_AT_ARP_TARGET_IP = 38,
};

/* Ethernet, IPv4, 6-byte and 4-byte addresses: the fixed start of every ARP packet we know. */
static const uint8_t net_arp_start[6] = {0, 1, 8, 0, 6, 4};

static uint16_t net_get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t net_get32(const uint8_t *at)
{
    return (uint32_t)net_get16(at) << 16 | net_get16(at + 2);
}

static void net_put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void net_put32(uint8_t *at, uint32_t value)
{
    net_put16(at, value >> 16);
    net_put16(at + 2, value);
}

uint32_t leat_net_sum(uint32_t sum, const uint8_t *bytes, uint32_t length_bytes)
{
    LEAT_DASSERT(length_bytes <= UINT16_MAX); /* so that 32 bits cannot overflow */
    uint32_t i = 0;
    for (; i + 1 < length_bytes; i += 2)
        sum += net_get16(bytes + i);
    if (i < length_bytes)
        sum += (uint32_t)bytes[i] << 8;
    return sum;
}

uint16_t leat_net_fold(uint32_t sum)
{
    sum = (sum & 0xffffu) + (sum >> 16);
    sum = (sum & 0xffffu) + (sum >> 16);
    return (uint16_t)~sum;
}

static bool net_mac_is_zero(const uint8_t mac[6])
{
    static const uint8_t zero[6];
    return memcmp(mac, zero, sizeof(zero)) == 0;
}

void leat_net_init(struct leat_net *net, const struct leat_port_config *config,
                   const uint8_t mac[6])
{
    LEAT_ASSERT(config->peer_count <= LEAT_PORT_PEERS_MAX);
    *net = (struct leat_net){
        .ipv4 = config->ipv4,
        .udp_port_base = config->udp_port_base,
        .worker = config->worker,
        .worker_count = config->worker_count > 0 ? config->worker_count : 1,
        .peer_count = config->peer_count,
    };
    memcpy(net->mac, mac, sizeof(net->mac));
    for (unsigned i = 0; i < config->peer_count; i++) {
        struct leat_net_peer *peer = &net->peers[i];
        peer->ipv4 = config->peers[i].ipv4;
        memcpy(peer->mac, config->peers[i].mac, sizeof(peer->mac));
        peer->state = net_mac_is_zero(peer->mac) ? LEAT_NET_ARP_ASKING : LEAT_NET_ARP_FIXED;
        net->learnable_count += peer->state == LEAT_NET_ARP_ASKING;
    }
}

static unsigned net_peer_of(const struct leat_net *net, uint32_t ipv4)
{
    unsigned peer = 0;
    while (peer < net->peer_count && net->peers[peer].ipv4 != ipv4)
        peer++;
    return peer;
}

void leat_net_learn(struct leat_net *net, unsigned index, const uint8_t mac[6])
{
    LEAT_ASSERT(index < net->peer_count);
    struct leat_net_peer *peer = &net->peers[index];
    if (peer->state == LEAT_NET_ARP_FIXED)
        return;
    peer->state = LEAT_NET_ARP_LEARNED;
    peer->heard_ns = net->now_ns;
    memcpy(peer->mac, mac, sizeof(peer->mac));
}

/* Only what a peer says of itself is learned, and only unicast addresses. */
static void net_arp_learn(struct leat_net *net, uint32_t ipv4, const uint8_t mac[6])
{
    unsigned index = net_peer_of(net, ipv4);
    if (index == net->peer_count || (mac[0] & 1) != 0 || net_mac_is_zero(mac))
        return;
    leat_net_learn(net, index, mac);
    net->spoke = (uint16_t)(index + 1);
}

static enum leat_net_action net_receive_arp(struct leat_net *net,
                                            struct leat_port_counters *counters, uint8_t *frame,
                                            uint32_t frame_bytes, struct leat_net_datagram *ret)
{
    if (frame_bytes < LEAT_NET_ARP_BYTES) {
        counters->rx_drop_runt++;
        return LEAT_NET_NOTHING;
    }
    if (memcmp(frame + NET_AT_IP, net_arp_start, sizeof(net_arp_start)) != 0) {
        counters->rx_drop_ethertype++;
        return LEAT_NET_NOTHING;
    }
    counters->rx_arp++;
    net_arp_learn(net, net_get32(frame + NET_AT_ARP_SENDER_IP), frame + NET_AT_ARP_SENDER_MAC);
    if (net_get16(frame + NET_AT_ARP_OPERATION) != NET_ARP_REQUEST ||
        net_get32(frame + NET_AT_ARP_TARGET_IP) != net->ipv4)
        return LEAT_NET_NOTHING;
    memcpy(frame, frame + NET_AT_ARP_SENDER_MAC, 6);
    memcpy(frame + 6, net->mac, 6);
    net_put16(frame + NET_AT_ARP_OPERATION, NET_ARP_REPLY);
    /* the sender's hardware and protocol addresses become the target's, ours the sender's */
    memcpy(frame + NET_AT_ARP_TARGET_MAC, frame + NET_AT_ARP_SENDER_MAC, 10);
    memcpy(frame + NET_AT_ARP_SENDER_MAC, net->mac, 6);
    net_put32(frame + NET_AT_ARP_SENDER_IP, net->ipv4);
    *ret = (struct leat_net_datagram){.length_bytes = LEAT_NET_ARP_BYTES};
    return LEAT_NET_REPLY;
}

static enum leat_net_action net_receive_icmp(const struct leat_net *net,
                                             struct leat_port_counters *counters, uint8_t *frame,
                                             uint32_t ip_bytes, struct leat_net_datagram *ret)
{
    uint8_t *icmp = frame + NET_AT_L4;
    uint32_t icmp_bytes = ip_bytes - LEAT_NET_IPV4_BYTES;
    if (icmp_bytes < NET_ICMP_BYTES_MIN || icmp[0] != NET_ICMP_ECHO || icmp[1] != 0 ||
        leat_net_fold(leat_net_sum(0, icmp, icmp_bytes)) != 0) {
        counters->rx_drop_protocol++;
        return LEAT_NET_NOTHING;
    }
    counters->rx_icmp++;
    memcpy(frame, frame + 6, 6);
    memcpy(frame + 6, net->mac, 6);
    memcpy(frame + NET_AT_IP_TARGET, frame + NET_AT_IP_SOURCE, 4);
    net_put32(frame + NET_AT_IP_SOURCE, net->ipv4);
    frame[NET_AT_IP + 8] = NET_TIME_TO_LIVE;
    net_put16(frame + NET_AT_IP_SUM, 0);
    net_put16(frame + NET_AT_IP_SUM,
              leat_net_fold(leat_net_sum(0, frame + NET_AT_IP, LEAT_NET_IPV4_BYTES)));
    icmp[0] = NET_ICMP_ECHO_REPLY;
    net_put16(icmp + 2, 0);
    net_put16(icmp + 2, leat_net_fold(leat_net_sum(0, icmp, icmp_bytes)));
    *ret = (struct leat_net_datagram){.length_bytes = LEAT_NET_ETHERNET_BYTES + ip_bytes};
    return LEAT_NET_REPLY;
}

static bool net_udp_sum_is_good(const uint8_t *frame, uint32_t udp_bytes)
{
    uint32_t sum = leat_net_sum(NET_PROTOCOL_UDP + udp_bytes, frame + NET_AT_IP_SOURCE, 8);
    return leat_net_fold(leat_net_sum(sum, frame + NET_AT_L4, udp_bytes)) == 0;
}

static enum leat_net_action
net_receive_udp(struct leat_net *net, struct leat_port_counters *counters, const uint8_t *frame,
                uint32_t ip_bytes, enum leat_net_checksum checksum, struct leat_net_datagram *ret)
{
    const uint8_t *udp = frame + NET_AT_L4;
    uint32_t udp_bytes = ip_bytes - LEAT_NET_IPV4_BYTES;
    if (udp_bytes < LEAT_NET_UDP_BYTES || net_get16(udp + 4) != udp_bytes) {
        counters->rx_drop_udp++;
        return LEAT_NET_NOTHING;
    }
    uint32_t worker = net_get16(udp + 2) - (uint32_t)net->udp_port_base; /* below: wraps */
    if (worker >= net->worker_count) {
        counters->rx_drop_port++;
        return LEAT_NET_NOTHING;
    }
    unsigned peer = net_peer_of(net, net_get32(frame + NET_AT_IP_SOURCE));
    if (peer == net->peer_count) {
        counters->rx_drop_source++;
        return LEAT_NET_NOTHING;
    }
    /* last, since it reads the whole payload; 0 says that the sender computed none */
    if (net_get16(udp + 6) != 0 && checksum != LEAT_NET_CHECKSUM_GOOD &&
        !net_udp_sum_is_good(frame, udp_bytes)) {
        counters->rx_drop_udp++;
        return LEAT_NET_NOTHING;
    }
    net->peers[peer].heard_ns = net->now_ns;
    *ret = (struct leat_net_datagram){.payload_offset = LEAT_NET_HEADERS_BYTES,
                                      .length_bytes = udp_bytes - LEAT_NET_UDP_BYTES,
                                      .peer = peer,
                                      .worker = worker};
    return LEAT_NET_DATAGRAM;
}

/* No options, no fragments, a length that the frame holds. */
static bool net_ip_is_valid(const uint8_t *frame, uint32_t frame_bytes)
{
    const uint8_t *ip = frame + NET_AT_IP;
    uint32_t ip_bytes = net_get16(ip + 2);
    const uint16_t reserved_more_offset = 0xbfff; /* all but "don't fragment" */
    return ip[0] == 0x45 && ip_bytes >= LEAT_NET_IPV4_BYTES &&
           ip_bytes <= frame_bytes - LEAT_NET_ETHERNET_BYTES &&
           (net_get16(ip + 6) & reserved_more_offset) == 0 &&
           leat_net_fold(leat_net_sum(0, ip, LEAT_NET_IPV4_BYTES)) == 0;
}

static enum leat_net_action net_receive_ip(struct leat_net *net,
                                           struct leat_port_counters *counters, uint8_t *frame,
                                           uint32_t frame_bytes, enum leat_net_checksum checksum,
                                           struct leat_net_datagram *ret)
{
    if (frame_bytes < LEAT_NET_ETHERNET_BYTES + LEAT_NET_IPV4_BYTES) {
        counters->rx_drop_runt++;
        return LEAT_NET_NOTHING;
    }
    if (!net_ip_is_valid(frame, frame_bytes)) {
        counters->rx_drop_ip++;
        return LEAT_NET_NOTHING;
    }
    if (net_get32(frame + NET_AT_IP_TARGET) != net->ipv4) {
        counters->rx_drop_address++;
        return LEAT_NET_NOTHING;
    }
    uint32_t ip_bytes = net_get16(frame + NET_AT_IP + 2); /* the rest is Ethernet's padding */
    switch (frame[NET_AT_IP + 9]) {
    case NET_PROTOCOL_UDP:
        return net_receive_udp(net, counters, frame, ip_bytes, checksum, ret);
    case NET_PROTOCOL_ICMP:
        return net_receive_icmp(net, counters, frame, ip_bytes, ret);
    default:
        counters->rx_drop_protocol++;
        return LEAT_NET_NOTHING;
    }
}

enum leat_net_action leat_net_receive(struct leat_net *net, struct leat_port_counters *counters,
                                      uint8_t *frame, uint32_t frame_bytes,
                                      enum leat_net_checksum checksum,
                                      struct leat_net_datagram *ret)
{
    if (frame_bytes < LEAT_NET_ETHERNET_BYTES) {
        counters->rx_drop_runt++;
        return LEAT_NET_NOTHING;
    }
    switch (net_get16(frame + NET_AT_ETHERTYPE)) {
    case NET_ETHERTYPE_IPV4:
        return net_receive_ip(net, counters, frame, frame_bytes, checksum, ret);
    case NET_ETHERTYPE_ARP:
        return net_receive_arp(net, counters, frame, frame_bytes, ret);
    default:
        counters->rx_drop_ethertype++;
        return LEAT_NET_NOTHING;
    }
}

void leat_net_write_headers(const struct leat_net *net, unsigned peer, unsigned worker,
                            uint32_t payload_bytes, uint8_t headers[LEAT_NET_HEADERS_BYTES])
{
    LEAT_DASSERT(peer < net->peer_count && leat_net_peer_is_known(net, peer));
    memset(headers, 0, LEAT_NET_HEADERS_BYTES);
    memcpy(headers, net->peers[peer].mac, 6);
    memcpy(headers + 6, net->mac, 6);
    net_put16(headers + NET_AT_ETHERTYPE, NET_ETHERTYPE_IPV4);
    uint8_t *ip = headers + NET_AT_IP;
    ip[0] = 0x45;
    net_put16(ip + 2, LEAT_NET_IPV4_BYTES + LEAT_NET_UDP_BYTES + payload_bytes);
    net_put16(ip + 6, 0x4000); /* don't fragment: a datagram never exceeds the MTU */
    ip[8] = NET_TIME_TO_LIVE;
    ip[9] = NET_PROTOCOL_UDP;
    net_put32(headers + NET_AT_IP_SOURCE, net->ipv4);
    net_put32(headers + NET_AT_IP_TARGET, net->peers[peer].ipv4);
    net_put16(headers + NET_AT_IP_SUM, leat_net_fold(leat_net_sum(0, ip, LEAT_NET_IPV4_BYTES)));
    uint8_t *udp = headers + NET_AT_L4;
    net_put16(udp, (uint32_t)net->udp_port_base + net->worker);
    net_put16(udp + 2, net->udp_port_base + worker);
    net_put16(udp + 4, LEAT_NET_UDP_BYTES + payload_bytes);
    /* no UDP checksum: the datagram's own CRC32C (wire.h) is stronger */
}

static void net_write_arp_request(const struct leat_net *net, uint32_t target_ipv4,
                                  uint8_t frame[LEAT_NET_ARP_BYTES])
{
    memset(frame, 0, LEAT_NET_ARP_BYTES);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, net->mac, 6);
    net_put16(frame + NET_AT_ETHERTYPE, NET_ETHERTYPE_ARP);
    memcpy(frame + NET_AT_IP, net_arp_start, sizeof(net_arp_start));
    net_put16(frame + NET_AT_ARP_OPERATION, NET_ARP_REQUEST);
    memcpy(frame + NET_AT_ARP_SENDER_MAC, net->mac, 6);
    net_put32(frame + NET_AT_ARP_SENDER_IP, net->ipv4);
    net_put32(frame + NET_AT_ARP_TARGET_IP, target_ipv4);
}

static bool net_arp_peer_is_due(const struct leat_net_peer *peer, uint64_t now_ns)
{
    switch (peer->state) {
    case LEAT_NET_ARP_ASKING:
        return !peer->was_asked || now_ns - peer->asked_ns >= LEAT_NET_ARP_RETRY_NS;
    case LEAT_NET_ARP_LEARNED:
        return now_ns - peer->heard_ns >= LEAT_NET_ARP_SILENCE_NS &&
               (!peer->was_asked || now_ns - peer->asked_ns >= LEAT_NET_ARP_SILENCE_NS);
    default:
        return false;
    }
}

bool leat_net_arp_due(struct leat_net *net, uint64_t now_ns, uint8_t frame[LEAT_NET_ARP_BYTES])
{
    for (unsigned i = 0; net->learnable_count > 0 && i < net->peer_count; i++) {
        struct leat_net_peer *peer = &net->peers[i];
        if (!net_arp_peer_is_due(peer, now_ns))
            continue;
        peer->was_asked = true;
        peer->asked_ns = now_ns;
        net_write_arp_request(net, peer->ipv4, frame);
        return true;
    }
    return false;
}
