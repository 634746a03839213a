/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the DPDK port share. Private to dataplane/port_*.c, the only files of the
 * project that see an rte type (rule X1).
 *
 *   port_eal.c     starts and ends the EAL, quietly and without a file left behind
 *   port_open.c    makes a port's devices and buffer pools
 *   port_receive.c the receiving side of a pass
 *   port_send.c    the sending side, and what datagrams still reference
 *   port_memif.c   memif's links: exclusion of control path and bursts, reconnection (rule X2)
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

#define PORT_COUNT_MAX            64u /* ports of one process: its workers */
#define PORT_NAME_BYTES           64u
#define PORT_PATH_BYTES           108u /* sockaddr_un's */
#define PORT_DESCRIBE_BYTES       160u
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

struct port_device {
    char name[PORT_NAME_BYTES];
    uint16_t ethdev;
    unsigned peer;   /* memif: whom the link leads to */
    bool references; /* sends payloads from where they lie */
    /* memif: written by the control thread, see port_memif.c */
    bool client;
    char path[PORT_PATH_BYTES]; /* of the link's socket */
    atomic_bool running;        /* bursts are allowed */
    atomic_bool up;             /* the peer is connected */
    bool was_up;                /* the worker's */
    unsigned queued;
    struct rte_mbuf *queue[LEAT_PORT_BURST_MAX];
    uint32_t queued_bytes[LEAT_PORT_BURST_MAX]; /* behind UDP; 0: a frame of ours, not a datagram */
};

struct leat_port {
    struct leat_port_config config; /* its strings are not kept */
    unsigned slot;                  /* of the process's ports: names, memif gate */
    struct leat_net net;
    struct leat_port_counters counters;
    struct rte_mempool *rx_pool;
    struct rte_mempool *tx_pool; /* never the RX pool: af_xdp takes RX buffers for its own memory */
    unsigned device_count;
    unsigned first_device; /* whose turn it is to be asked first */
    struct port_device devices[LEAT_PORT_PEERS_MAX];
    unsigned chunk_count; /* in use */
    unsigned chunk_last;  /* found last: the next datagram is mostly of the same chunk */
    struct port_chunk chunks[PORT_CHUNKS_MAX];
    char describe[PORT_DESCRIBE_BYTES];
};

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

/* --- port_memif.c */

/* Called by leat_dataplane_start: finds the control thread and the interposed functions. */
int port_memif_start(void);
void port_memif_stop(void);

/* Settles the device's role and socket and makes its arguments. Removes a dead server's socket
 * file. */
int port_memif_arguments(const struct leat_port_config *config, struct port_device *device,
                         char *arguments, unsigned bytes, char *error, unsigned error_bytes);

/* Hands configured links to the control thread, which starts them and keeps them connected; and
 * takes them back, stopped and closed. Calling thread: open's and close's. */
void port_memif_add(struct leat_port *port);
void port_memif_remove(struct leat_port *port);

/* The worker's side of the exclusion, around each burst: false means that the control path has
 * the links now and the burst is to be skipped. */
bool port_memif_enter(const struct leat_port *port);
void port_memif_leave(const struct leat_port *port);

/* --- port_send.c */

void port_send_init(struct leat_port *port);

/* Queues a finished frame of ours (ARP, ICMP) on a device. */
void port_send_frame(struct leat_port *port, struct port_device *device, const uint8_t *frame,
                     uint32_t frame_bytes);

/* Frees what is still queued. */
void port_send_drop_all(struct leat_port *port);

#endif
