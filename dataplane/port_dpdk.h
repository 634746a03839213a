/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the DPDK port share. Private to dataplane/port_*.c, the only files of the
 * project that see an rte type (rule X1).
 *
 *   port_eal.c     starts and ends the EAL, quietly and without a file left behind
 *   port_open.c    opens and closes a worker's port, and the host of all workers' ports
 *   port_device.c  makes the host's devices, their queues and buffer pools
 *   port_steer.c   a PCI device's queues: flow rules, RSS, or one queue
 *   port_receive.c the receiving side of a pass
 *   port_send.c    the sending side, and what datagrams still reference
 *   port_handover.c what one worker's port gives to another's
 *   port_memif.c   memif's links: exclusion of control path and bursts, reconnection (rule X2)
 *   port_watch.c   what is looked at now and then, off the workers: links, MTUs, the device's drops
 */
#ifndef LEAT_DATAPLANE_PORT_DPDK_H
#define LEAT_DATAPLANE_PORT_DPDK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/port.h"
#include "net.h"

#define PORT_COUNT_MAX      64u /* ports of one process: its workers */
#define PORT_NAME_BYTES     64u
#define PORT_PATH_BYTES     108u /* sockaddr_un's */
#define PORT_DESCRIBE_BYTES 256u
#define PORT_QUEUES_MAX     LEAT_WORKERS_MAX /* of one device, in each direction */
/* TX: a queue of 64 per device (448), a NIC's ring of 1024, and what another worker is to send. */
#define PORT_TX_BUFFERS           (1535u + LEAT_PORT_HANDOVER_MAX)
#define PORT_LOOK_NS              100000000u /* between looks at what is not looked at per pass */
#define PORT_ERROR_BYTES          160u
#define PORT_CHUNK_SHIFT          20u /* references are counted per 1 MiB of arena */
#define PORT_CHUNKS_MAX           64u
#define PORT_CHUNK_REFERENCES_MAX 60000u /* rte_mbuf_ext_shared_info counts in 16 bits */
#define PORT_REFERENCE_BYTES_MIN  512u   /* below, a copy is cheaper than a second segment */

/* One chunk of an arena that queued or in-flight datagrams reference. */
struct port_chunk {
    struct rte_mbuf_ext_shared_info info; /* one reference is ours while `used` */
    uint64_t lowest_pos;
    uint64_t chunk; /* position >> PORT_CHUNK_SHIFT */
    uint32_t arena;
    bool used;
};

/* A device, shared by the workers. Written by open and by the control thread only. */
struct port_device {
    char name[PORT_NAME_BYTES];
    uint16_t ethdev;
    uint16_t rx_queue_count; /* queue q is polled by worker q % workers */
    uint16_t tx_queue_count; /* worker w sends on queue w, or through worker w % queues */
    unsigned peer;           /* memif: whom the link leads to */
    bool references;         /* sends payloads from where they lie */
    bool sums_ip, sums_udp;  /* computes checksums of what is sent */
    /* memif: written by the control thread, see port_memif.c */
    bool client;
    char path[PORT_PATH_BYTES]; /* of the link's socket */
    atomic_bool running;        /* bursts are allowed */
    atomic_bool up;             /* memif: the peer is connected; else: the link is up */
    /* written by port_watch.c */
    atomic_uint datagram_bytes_max; /* behind UDP, by the interface's MTU and the configured */
    _Atomic uint64_t rx_no_buffer, rx_missed;
};

/* One worker's end of a device. */
struct port_lane {
    struct port_device *device;
    bool was_up;
    uint16_t next_queue; /* whose turn it is to be polled first */
    unsigned queued;
    struct rte_mbuf *queue[LEAT_PORT_BURST_MAX];
    uint32_t queued_bytes[LEAT_PORT_BURST_MAX]; /* behind UDP; 0: a frame of ours, not a datagram */
    uint64_t flushes; /* what was queued before the last one is the device's */
};

/* The newest datagram to a peer: while it is queued, more may be put into it. */
struct port_bundle {
    unsigned place;   /* in its lane's queue */
    unsigned worker;  /* of the peer */
    uint64_t flushes; /* of its lane, when it was queued; UINT64_MAX: none yet */
};

/* What goes from one worker's port to another's. */
enum port_item_kind { PORT_ITEM_DATAGRAM, PORT_ITEM_SEND, PORT_ITEM_ARP };
struct port_item {
    struct rte_mbuf *mbuf;
    union {
        const void *data; /* DATAGRAM */
        uint8_t mac[6];   /* ARP */
        uint64_t device;  /* SEND: index */
    };
    uint32_t length_bytes; /* behind UDP */
    uint16_t peer;         /* DATAGRAM, ARP */
    uint16_t kind;         /* enum port_item_kind */
};

/* One producer, one consumer. Positions count on for ever; each end keeps a copy of the other's. */
struct port_ring {
    _Alignas(64) atomic_uint filled; /* the producer's */
    unsigned freed_seen;
    _Alignas(64) atomic_uint freed; /* the consumer's */
    unsigned filled_seen;
    _Alignas(64) struct port_item items[LEAT_PORT_HANDOVER_MAX];
};

/* What the ports of one node's workers share. */
struct port_host {
    struct port_host *next; /* of the process */
    enum leat_port_kind kind;
    uint32_t node_id;
    uint16_t worker_count;
    uint16_t mtu_bytes;
    char where[PORT_PATH_BYTES]; /* interface or directory */
    unsigned slot;               /* worker 0's, for names */
    unsigned device_count;
    struct port_device devices[LEAT_PORT_PEERS_MAX];
    struct rte_mempool *rx_pools[PORT_QUEUES_MAX]; /* by queue number, of all devices */
    struct rte_mempool
        *tx_pools[LEAT_WORKERS_MAX]; /* outlive a worker's port: devices hold buffers */
    const char *steering;            /* several workers: how datagrams find theirs */
    struct port_ring *rings;         /* [to][from]; NULL with one worker */
    struct leat_port *ports[LEAT_WORKERS_MAX];
};

struct leat_port {
    struct leat_port_config config; /* its strings are not kept */
    unsigned slot;                  /* of the process's ports: names, memif gate */
    struct port_host *host;
    bool registered; /* the worker's thread, with DPDK, by us */
    struct leat_net net;
    struct leat_port_counters counters;
    struct rte_mempool *rx_pool; /* the host's, of the worker's first queue; NULL: it has none */
    struct rte_mempool *tx_pool; /* never the RX pool: af_xdp takes RX buffers for its own memory */
    uint16_t worker, worker_count;
    uint16_t via;          /* the worker whose queue is sent on: mostly this one */
    unsigned device_count; /* the host's */
    unsigned first_device; /* whose turn it is to be asked first */
    uint64_t look_ns;      /* when to look at what is not looked at per pass */
    struct port_lane lanes[LEAT_PORT_PEERS_MAX];
    struct port_bundle bundles[LEAT_PORT_PEERS_MAX];
    uint32_t bundle_max[LEAT_PORT_PEERS_MAX];
    unsigned chunk_count; /* in use */
    unsigned chunk_last;  /* found last: the next datagram is mostly of the same chunk */
    struct port_chunk chunks[PORT_CHUNKS_MAX];
    char describe[PORT_DESCRIBE_BYTES];
};

static inline struct port_lane *port_lane_of(struct leat_port *port, unsigned peer)
{
    return &port->lanes[port->config.kind == LEAT_PORT_MEMIF ? peer : 0];
}

static inline bool port_is_memif(const struct leat_port *port)
{
    return port->config.kind == LEAT_PORT_MEMIF;
}

/* --- port_eal.c */

/* Errors that DPDK logs on this thread between the two calls; `first` is the first line. Nested
 * captures are not allowed. */
struct port_log_capture {
    char first[PORT_ERROR_BYTES];
};
void port_log_capture_begin(struct port_log_capture *capture);
void port_log_capture_end(void);

/* Writes "what: the captured line or `why`". Returns `result`. */
int port_error(char *error, unsigned error_bytes, const char *what,
               const struct port_log_capture *capture, const char *why, int result);

bool port_eal_is_running(void);
bool port_eal_has_huge_pages(void);

/* --- port_device.c */

/* Why the configuration cannot be; NULL: it can. */
const char *port_device_fault(const struct leat_port_config *config);

/* Makes all devices of `host` (its device_count grows as they come) and their receive pools;
 * memif's are left to be started. The other undoes it; of memif's, which the control thread has
 * closed, the pools. */
int port_device_open_all(struct port_host *host, const struct leat_port_config *config, char *error,
                         unsigned error_bytes);
void port_device_close_all(struct port_host *host);

struct rte_mempool *port_device_pool(const struct port_host *host, const char *name, unsigned queue,
                                     unsigned count);

extern const char *const port_device_drivers[]; /* by kind */

/* --- port_steer.c */

/* Queues and RSS for a PCI device of `worker_count` workers. */
void port_steer_configure(struct port_device *device, const struct rte_eth_dev_info *info,
                          uint16_t worker_count, struct rte_eth_conf *conf);

/* Once it is started: flow rules by UDP port where it has them. Says in a few words what it does.
 */
const char *port_steer_start(const struct port_device *device,
                             const struct leat_port_config *config, uint16_t worker_count);

/* --- port_watch.c */

/* Begins and ends looking after the host's devices. Calling thread: open's and close's. */
void port_watch_add(struct port_host *host);
void port_watch_remove(struct port_host *host);

/* The interface's MTU in bytes, or 0; and how many receive queues it spreads packets over. */
unsigned port_watch_mtu(const char *interface);
void port_watch_queues(const char *interface, unsigned *ret_rx, unsigned *ret_combined);

/* --- port_handover.c */

int port_handover_open(struct port_host *host);
void port_handover_close(struct port_host *host); /* frees what waits */

/* To worker `to` of the same host. False: its ring is full, and `item` is still the caller's. */
bool port_handover_push(struct leat_port *port, unsigned to, const struct port_item *item);

/* Takes what other workers gave, up to `max` datagrams. */
unsigned port_handover_take(struct leat_port *port, struct leat_packet *packets, unsigned max);

/* Tells the other workers what was just learned of a peer. */
void port_handover_learned(struct leat_port *port, unsigned peer);

/* --- port_memif.c */

/* Runs `function` on the control thread and waits for it. Returns 0 or LEAT_ESYSTEM. */
int port_control_do(void (*function)(void *), void *argument);

/* Called by leat_dataplane_start: finds the control thread and the interposed functions. */
int port_memif_start(void);
void port_memif_stop(void);

/* Settles the device's role and socket and makes its arguments. Removes a dead server's socket
 * file. */
int port_memif_arguments(const struct leat_port_config *config, struct port_device *device,
                         char *arguments, unsigned bytes, char *error, unsigned error_bytes);

/* Hands configured links to the control thread, which starts them and keeps them connected; and
 * takes them back, stopped and closed. Calling thread: open's and close's. */
void port_memif_add(struct port_host *host);
void port_memif_remove(struct port_host *host);

/* The worker's side of the exclusion, around each burst: false means that the control path has
 * the links now and the burst is to be skipped. */
bool port_memif_enter(const struct leat_port *port);
void port_memif_leave(const struct leat_port *port);

/* --- port_send.c */

void port_send_init(struct leat_port *port);

/* Queues a finished frame of ours (ARP, ICMP) on a lane. */
void port_send_frame(struct leat_port *port, struct port_lane *lane, const uint8_t *frame,
                     uint32_t frame_bytes);

/* Queues what another worker sends through this one's queue. */
void port_send_for_other(struct leat_port *port, const struct port_item *item);

/* Frees what is still queued. */
void port_send_drop_all(struct leat_port *port);

#endif
