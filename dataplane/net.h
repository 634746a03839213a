/* SPDX-License-Identifier: Apache-2.0
 *
 * Ethernet, IPv4, UDP, ARP and ICMP echo, as much as a port between a handful of known peers
 * needs. Pure: no device, no clock (now_ns comes in), no allocation. Private to dataplane/.
 *
 * Threads: the worker that owns the port. State: one ARP entry per peer,
 *
 *   FIXED    the configuration names the address; never overwritten
 *   ASKING   not known; a request goes out every LEAT_NET_ARP_RETRY_NS until an answer came
 *   LEARNED  an ARP packet of the peer named it; a later one replaces it (the peer was replaced).
 *            A peer that says nothing for LEAT_NET_ARP_SILENCE_NS is asked for again, at most that
 *            often, and sent to as before: its card may have been replaced
 *
 * Tests: tests/dataplane/test_net.c.
 */
#ifndef LEAT_DATAPLANE_NET_H
#define LEAT_DATAPLANE_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/port.h"
#include "dataplane/wire.h"

#define LEAT_NET_ETHERNET_BYTES 14u
#define LEAT_NET_IPV4_BYTES     20u
#define LEAT_NET_UDP_BYTES      8u
#define LEAT_NET_ARP_BYTES      42u /* frame of an ARP packet, without padding */
#define LEAT_NET_ARP_RETRY_NS   100000000u
#define LEAT_NET_ARP_SILENCE_NS 2000000000u
_Static_assert(LEAT_NET_ETHERNET_BYTES + LEAT_NET_IPV4_BYTES + LEAT_NET_UDP_BYTES ==
                   LEAT_NET_HEADERS_BYTES,
               "headers");

enum leat_net_arp_state { LEAT_NET_ARP_FIXED, LEAT_NET_ARP_ASKING, LEAT_NET_ARP_LEARNED };

struct leat_net_peer {
    uint32_t ipv4; /* host byte order */
    uint8_t mac[6];
    uint8_t state; /* enum leat_net_arp_state */
    bool was_asked;
    uint64_t asked_ns;
    uint64_t heard_ns; /* a datagram or an ARP packet of the peer */
};

struct leat_net {
    uint8_t mac[6];
    uint32_t ipv4;
    uint16_t udp_port_base;
    uint16_t worker;
    uint16_t worker_count; /* datagrams to the ports of all of these are taken */
    uint16_t spoke;        /* 1 + the peer that the ARP packet taken last spoke for; who reads it
                              sets it to 0 */
    uint64_t now_ns;       /* the caller's clock, of this pass */
    unsigned peer_count;
    unsigned learnable_count; /* peers not FIXED: 0 makes leat_net_arp_due a compare */
    struct leat_net_peer peers[LEAT_PORT_PEERS_MAX];
};

enum leat_net_action {
    LEAT_NET_NOTHING,  /* dropped or taken, and counted */
    LEAT_NET_DATAGRAM, /* for the worker that ret->worker names */
    LEAT_NET_REPLY,    /* the frame was turned into an answer: send ret->length_bytes of it back */
};

struct leat_net_datagram {
    uint32_t payload_offset; /* DATAGRAM: in the frame */
    uint32_t length_bytes;   /* DATAGRAM: of the payload; REPLY: of the frame */
    unsigned peer;
    unsigned worker; /* DATAGRAM: whose UDP port it came to; under worker_count */
};

/* What the device says about a received frame's checksums. */
enum leat_net_checksum { LEAT_NET_CHECKSUM_UNKNOWN, LEAT_NET_CHECKSUM_GOOD };

void leat_net_init(struct leat_net *net, const struct leat_port_config *config,
                   const uint8_t mac[6]);

/* Judges one frame, hostile until proven otherwise. May rewrite it in place (REPLY); a reply is
 * never longer than what it answers, but an ARP packet's padding is dropped. */
enum leat_net_action leat_net_receive(struct leat_net *net, struct leat_port_counters *counters,
                                      uint8_t *frame, uint32_t frame_bytes,
                                      enum leat_net_checksum checksum,
                                      struct leat_net_datagram *ret);

static inline bool leat_net_peer_is_known(const struct leat_net *net, unsigned peer)
{
    return net->peers[peer].state != LEAT_NET_ARP_ASKING;
}

/* What another worker of this process learned of a peer. */
void leat_net_learn(struct leat_net *net, unsigned peer, const uint8_t mac[6]);

/* The 42 bytes in front of a payload of `payload_bytes` to worker `worker` of `peer`, whose
 * hardware address is known. */
void leat_net_write_headers(const struct leat_net *net, unsigned peer, unsigned worker,
                            uint32_t payload_bytes, uint8_t headers[LEAT_NET_HEADERS_BYTES]);

/* True when an ARP request is due: `frame` holds it. Call until it is false. */
bool leat_net_arp_due(struct leat_net *net, uint64_t now_ns, uint8_t frame[LEAT_NET_ARP_BYTES]);

/* The Internet checksum (RFC 1071) of `length_bytes`, in network order, on top of the running
 * `sum`; not yet complemented. */
uint32_t leat_net_sum(uint32_t sum, const uint8_t *bytes, uint32_t length_bytes);
uint16_t leat_net_fold(uint32_t sum);

#endif
