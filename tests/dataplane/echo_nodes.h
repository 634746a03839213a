/* SPDX-License-Identifier: Apache-2.0
 *
 * port_echo processes as tests see them: started, waited for, killed by pid. Included after
 * cmocka.h. Every wait is for a condition, with a bound.
 */
#ifndef LEAT_TESTS_ECHO_NODES_H
#define LEAT_TESTS_ECHO_NODES_H

#include <stdbool.h>
#include <sys/types.h>

#include "dataplane/clock.h"
#include "port_echo.h"

#define NODES          4u
#define NODE_WAIT_NS   20000000000u
#define NODE_DATAGRAMS 2000u /* that make a link's working believable */
#define NODE_NO_NETNS  (-1)

struct node {
    pid_t pid; /* 0: not running */
    struct echo_page *page;
    int page_fd;
};

/* How nodes are started, until changed; nodes_reset() sets it back. */
struct node_setting {
    const char *kind;  /* of port */
    const char *where; /* directory or interface */
    int netns_fd;      /* entered by the process; NODE_NO_NETNS */
    int cpu;           /* the only one it may use; -1 any */
    bool unprivileged;
    bool reference;           /* payloads are sent from where they lie */
    bool bundles;             /* messages of a pass share datagrams */
    bool flood;               /* nearly all of its time is spent within bursts */
    unsigned workers;         /* 0: one */
    const char *peer_workers; /* NULL: as many */
    unsigned mtu, bytes;      /* 0: port_echo's defaults */
    unsigned gap_us;          /* 0: sends all the time */
    unsigned tx_buffers;      /* 0: the default */
};

extern struct node nodes[NODES];
extern struct node_setting node_setting;
extern uint32_t node_runs; /* number of the process started last */

void node_pause(void);

#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        uint64_t wait_end = leat_clock_monotonic_ns() + NODE_WAIT_NS;                              \
        while (!(condition)) {                                                                     \
            if (leat_clock_monotonic_ns() > wait_end)                                              \
                fail_msg("waited in vain for " #condition);                                        \
            node_pause();                                                                          \
        }                                                                                          \
    } while (0)

void node_start(unsigned id, const char *peers);
void node_kill(unsigned id);
bool node_is_alive(unsigned id);

/* True when each of `workers` of node `id` has `count` good datagrams of each of peer `peer`'s. */
bool node_heard_all(unsigned id, unsigned workers, unsigned peer, unsigned peer_workers,
                    uint64_t count);

/* A counter of port.h, of all workers of a node; WHICH is its name. */
#define NODE_SUM(id, which) node_sum(id, offsetof(struct leat_port_counters, which))
uint64_t node_sum(unsigned id, size_t counter);

/* Tells it to stop; it must end with status 0, no wrong byte and no file left behind. */
void node_end_well(unsigned id);

/* A process that uses its CPU all the time. */
pid_t node_start_busy(void);

/* Kills what runs and forgets everything. */
void nodes_reset(void);

#endif
