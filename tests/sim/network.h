/* SPDX-License-Identifier: Apache-2.0
 *
 * The network between hosts: directed links, each with faults of its own. port.c implements
 * dataplane/port.h on it.
 */
#ifndef LEAT_SIM_NETWORK_H
#define LEAT_SIM_NETWORK_H

#include "system.h"

struct sim_link {
    bool cut;
    uint32_t bytes_max;              /* longer datagrams are lost; 0: no bound */
    uint64_t clogged_until_ns;       /* what is sent meanwhile arrives after that */
    uint64_t burst_until_ns;         /* everything is lost */
    uint64_t lag_from_ns, lag_to_ns; /* it becomes longer and longer meanwhile, by lag_ns at most */
    uint64_t lag_ns;
    uint64_t free_ns; /* when the last datagram had left, at its bandwidth */
    uint64_t last_ns; /* when the last one arrives: none comes before, but for reordering */
};

/* Of all links, as the run drew them; the healing turns all off. */
struct sim_network {
    uint64_t delay_ns;  /* least */
    uint64_t jitter_ns; /* mean of what is added */
    uint64_t loss_ppm;
    uint64_t burst_ppm; /* begins at a datagram; lasts burst_ns on average */
    uint64_t burst_ns;
    uint64_t twice_ppm;  /* delivered again, a little later */
    uint64_t replay_ppm; /* kept, and delivered again up to replay_ns later */
    uint64_t replay_ns;
    uint64_t reorder_ppm; /* delayed by up to reorder_ns more */
    uint64_t reorder_ns;
    uint64_t damage_ppm;   /* a bit or a run of bytes is changed */
    uint64_t bytes_per_ms; /* of a link; 0: no bound */
    uint64_t mtu_ppm;      /* a datagram above a small MTU is lost */
    uint64_t full_ppm;     /* the sender's queue is found full */
    uint64_t stray_ppm;    /* datagrams beside which a stranger's comes */
    struct sim_link links[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
    uint64_t sent, delivered, lost;
};
extern struct sim_network network;

/* The port of a worker that is up; NULL: none. */
void network_attach(unsigned host, unsigned worker, struct leat_port *port);
/* No link is cut any more. */
void network_join(void);
void network_heal(void);

#endif
