/* SPDX-License-Identifier: Apache-2.0
 *
 * The network port of one worker: UDP datagrams to and from peers, without the kernel's network
 * stack. Plain functions over an opaque struct, chosen at link time (rule X1): production links
 * dataplane/port_dpdk*.c, the simulator its own. No rte type is visible here.
 *
 * One process, one EAL: leat_dataplane_start() once, then one port per worker. The workers of a
 * node share its devices and nothing that needs a lock (docs/adr/0013): each sends on a queue of
 * its own and polls the receive queues that are its; a datagram that comes to another worker is
 * handed over in memory. So the ports of one node are opened by ONE thread, worker 0's first, and
 * closed by one thread in the reverse order, after their workers have stopped using them.
 *
 * Threads: everything else only on the worker that owns the port. A worker's thread brackets its
 * use of the port with leat_port_thread_begin and _end.
 *
 * Ownership: received packets are the port's and must be given back by leat_port_release(); what
 * `leat_port_send` takes as `header` is copied at once, the payload range may be referenced until
 * the port no longer reports it (leat_port_lowest_referenced).
 */
#ifndef LEAT_DATAPLANE_PORT_H
#define LEAT_DATAPLANE_PORT_H

#include <stdbool.h>
#include <stdint.h>

#define LEAT_WORKERS_MAX    16u
#define LEAT_PORT_PEERS_MAX 7u
#define LEAT_PORT_BURST_MAX 64u
#define LEAT_WORKERS_MAX    16u /* of one process */
/* Datagrams, or ARP news, that wait for one worker from one other: four bursts. */
#define LEAT_PORT_HANDOVER_MAX 256u

enum leat_port_kind {
    LEAT_PORT_MEMIF,     /* same host, one link per pair of nodes; one trust domain */
    LEAT_PORT_AF_PACKET, /* any kernel interface */
    LEAT_PORT_AF_XDP,    /* any kernel interface with an XDP program */
    LEAT_PORT_PCI,       /* a device bound to vfio-pci */
};

struct leat_port_peer {
    uint32_t node_id;
    uint32_t ipv4;  /* host byte order */
    uint8_t mac[6]; /* all zero: ask by ARP */
    /* 0: as many as this node has. memif makes as many queue pairs as the larger of both nodes'
     * counts: two nodes that were told different things do not connect (the link stays down). */
    uint16_t worker_count;
};

struct leat_port_config {
    enum leat_port_kind kind;
    uint32_t node_id;
    uint32_t ipv4; /* host byte order */
    uint16_t udp_port_base;
    uint16_t worker;       /* under worker_count */
    uint16_t worker_count; /* of this process; 0 means 1. The same in each of its ports */
    uint16_t mtu_bytes;    /* 1500 or 9000: of the IP datagram; the interface must carry as much */
    uint16_t peer_count;
    uint16_t tx_buffer_count; /* packet buffers for sending; 0: the default (tests) */
    bool bundles; /* what goes to one worker in one burst shares datagrams: leat_port_send() */
    bool reference_payloads; /* MEMIF: send from the arena though a copy is faster (tests) */
    const char *interface;   /* AF_PACKET, AF_XDP: kernel interface; PCI: device address */
    const char *memif_dir;   /* MEMIF: directory of the links' sockets, shared by all nodes */
    struct leat_port_peer peers[LEAT_PORT_PEERS_MAX];
};

struct leat_port;

/* A received datagram: the UDP payload, 8-byte aligned, of a known peer to this worker's port. */
struct leat_packet {
    const void *data;
    uint32_t length_bytes;
    uint16_t peer; /* index into the config's peers, by source address */
    uint16_t reserved;
    void *cookie; /* the port's */
};

/* Why a packet never reached the worker, and what became of those sent. One writer: the worker. */
#define LEAT_PORT_COUNTERS(X)                                                                      \
    X(rx_packets, "datagrams handed to the worker")                                                \
    X(rx_handed_over, "datagrams for another worker, handed to it")                                \
    X(rx_taken_over, "datagrams got from another worker, among rx_packets")                        \
    X(rx_drop_handover, "not handed over: the other worker's ring was full")                       \
    X(rx_bytes, "their bytes")                                                                     \
    X(rx_arp, "ARP packets taken")                                                                 \
    X(rx_icmp, "ICMP echo requests answered")                                                      \
    X(rx_drop_runt, "shorter than its headers")                                                    \
    X(rx_drop_segmented, "in more than one buffer")                                                \
    X(rx_drop_ethertype, "neither IPv4 nor ARP")                                                   \
    X(rx_drop_ip, "IPv4 header damaged, with options, or a fragment")                              \
    X(rx_drop_address, "for another address")                                                      \
    X(rx_drop_protocol, "not UDP")                                                                 \
    X(rx_drop_udp, "UDP length or checksum wrong")                                                 \
    X(rx_drop_port, "for another UDP port")                                                        \
    X(rx_drop_source, "from an address that is not a peer's")                                      \
    X(rx_no_buffer, "not received: no packet buffer (all workers; worker 0 counts)")               \
    X(rx_pool_empty, "tenths of a second at which the receive buffers were used up")               \
    X(rx_missed, "not received: the device dropped it (all workers; worker 0 counts)")             \
    X(tx_packets, "datagrams sent")                                                                \
    X(tx_bundled, "messages put into a datagram that was queued already")                          \
    X(tx_bytes, "their bytes")                                                                     \
    X(tx_arp, "ARP requests sent")                                                                 \
    X(tx_handed_over, "datagrams sent through another worker's queue")                             \
    X(tx_drop_handover, "not sent: the other worker's ring was full")                              \
    X(tx_drop_size, "not sent: larger than the path's MTU")                                        \
    X(tx_drop_full, "not sent: the device's queue was full")                                       \
    X(tx_full, "times a sender that can wait was told that the device's queue is full")            \
    X(tx_drop_no_buffer, "not sent: no packet buffer")                                             \
    X(tx_drop_no_link, "not sent: no link to the peer")                                            \
    X(tx_drop_no_mac, "not sent: the peer's hardware address is not known yet")                    \
    X(tx_gathered, "payloads copied into the packet buffer")                                       \
    X(tx_referenced, "payloads sent from where they lie")                                          \
    X(link_up, "times a link came up")                                                             \
    X(link_down, "times a link went down")

struct leat_port_counters {
#define LEAT_PORT_COUNTER_FIELD(name, text) uint64_t name;
    LEAT_PORT_COUNTERS(LEAT_PORT_COUNTER_FIELD)
#undef LEAT_PORT_COUNTER_FIELD
};

struct leat_dataplane_config {
    bool pci;                /* a port of kind LEAT_PORT_PCI will be opened */
    bool huge_pages;         /* take them when the system has some; else always without */
    const char *file_prefix; /* distinguishes processes; NULL: made from the process id */
    unsigned memory_mib;     /* for packet buffers, see leat_port_memory_mib; 0: 64 */
};

/* Starts the EAL in this process, as any user. `error` receives one line on failure. Returns 0,
 * LEAT_EINVAL, LEAT_ENOMEM or LEAT_ESYSTEM. */
int leat_dataplane_start(const struct leat_dataplane_config *config, char *error,
                         unsigned error_bytes);

/* Ends it and removes every file it made. */
void leat_dataplane_stop(void);

/* What the packet buffers of all workers of such a port need: for leat_dataplane_config. */
unsigned leat_port_memory_mib(const struct leat_port_config *config);

/* Worker 0's opens the devices, the others' attach to them by kind, node id and where. Of all
 * ports of a node only `worker` and `reference_payloads` may differ. */
int leat_port_open(const struct leat_port_config *config, struct leat_port **ret_port, char *error,
                   unsigned error_bytes);
void leat_port_close(struct leat_port *port);

/* The worker's thread says so before its first and after its last call: DPDK then gives it a cache
 * of packet buffers (without one it works, slower). Nothing to do for the thread that started the
 * dataplane, which may call them all the same. */
void leat_port_thread_begin(struct leat_port *port);
void leat_port_thread_end(struct leat_port *port);

/* One line for the log at start: PMD, huge pages, offloads used, payload bytes per datagram, and
 * with several workers how a datagram finds its worker. */
const char *leat_port_describe(const struct leat_port *port);

/* The most bytes (header and payload of ours, behind UDP) that one datagram carries. */
uint32_t leat_port_datagram_bytes_max(const struct leat_port *port);

/* Up to `max` (at most LEAT_PORT_BURST_MAX) datagrams. `now_ns`: the pass's monotonic time (for
 * ARP). Answers ARP and ICMP echo on the way. Never blocks. */
unsigned leat_port_receive(struct leat_port *port, uint64_t now_ns, struct leat_packet *packets,
                           unsigned max);

/* Gives packets back. */
void leat_port_release(struct leat_port *port, const struct leat_packet *packets, unsigned count);

/* Queues one message to worker `worker` of peer `peer` (index): the destination, by UDP port:
 * `header` (copied now), then `payload`, which lies at position `payload_pos` of arena `arena` (a
 * small number of the caller's, under LEAT_PORT_ARENAS_MAX; UINT32_MAX: no arena, copied now).
 * Returns 0, or LEAT_EAGAIN when it was dropped (counted): the caller's timers make up for it. What
 * is larger than the path's MTU is dropped and counted too, never fragmented.
 *
 * A message is a datagram of its own, or with `bundles` one of several in it: each begins at a
 * multiple of LEAT_PORT_BUNDLE_ALIGN bytes, in the order in which they were sent, with zeros
 * between; they say themselves how long they are. */
#define LEAT_PORT_BUNDLE_ALIGN 8u
#define LEAT_PORT_ARENAS_MAX   1024u
#define LEAT_PORT_NO_ARENA     UINT32_MAX
int leat_port_send(struct leat_port *port, unsigned peer, unsigned worker, const void *header,
                   uint32_t header_bytes, const void *payload, uint32_t payload_bytes,
                   uint32_t arena, uint64_t payload_pos);

/* Messages to the peer share datagrams of so many bytes at most from now on (UINT32_MAX: of what
 * one carries). One that is longer by itself goes as it is. */
void leat_port_bundle_limit(struct leat_port *port, unsigned peer, uint32_t bytes_max);

/* Whether the queue to `peer` is full and its device takes nothing now, so that what is sent takes
 * the place of what was queued. Who can wait for a later pass asks first, and is counted. With
 * fewer device queues than workers those who send through another one's are never told so. */
bool leat_port_is_full(struct leat_port *port, unsigned peer);

/* Hands everything queued to the device. What it does not take now stays queued for the next
 * flush. */
void leat_port_flush(struct leat_port *port);

/* The lowest arena position that a queued or in-flight datagram still references; UINT64_MAX:
 * none. Reclaims what the device is done with. */
uint64_t leat_port_lowest_referenced(struct leat_port *port, uint32_t arena);

/* True when a datagram can reach the peer's host now (link up, hardware address known). */
bool leat_port_peer_is_up(const struct leat_port *port, unsigned peer);

const struct leat_port_counters *leat_port_counters(const struct leat_port *port);

#endif
