/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests and port_echo processes share: a page of numbers in a memfd whose descriptor is
 * handed over as argument, written by port_echo and read by the test.
 */
#ifndef LEAT_TESTS_PORT_ECHO_H
#define LEAT_TESTS_PORT_ECHO_H

#include <stdatomic.h>
#include <stdint.h>

#include "dataplane/port.h"

struct echo_page {
    atomic_int ready;                            /* 1: the port is open */
    atomic_int stop;                             /* written by the test: end now */
    _Atomic uint64_t sent;                       /* datagrams */
    _Atomic uint64_t good;                       /* received with every byte as sent */
    _Atomic uint64_t bad;                        /* received with a wrong one */
    _Atomic uint64_t lost;                       /* gaps in the peer's sequence */
    _Atomic uint32_t heard[LEAT_PORT_PEERS_MAX]; /* --run of the peer's datagram received last */
    atomic_int affinity_kept; /* 1: starting DPDK left the thread's CPUs as they were */
    atomic_int patient; /* written by the test: nothing is sent to a full queue while it is 1 */
    atomic_int hold; /* written by the test: received datagrams are not given back while it is 1 */
    /* good datagrams, by [own worker][peer][its worker] */
    _Atomic uint64_t from[LEAT_WORKERS_MAX][LEAT_PORT_PEERS_MAX][LEAT_WORKERS_MAX];
    _Atomic uint32_t peers_up;                           /* worker 0's view, a bit each */
    struct leat_port_counters counters;                  /* worker 0's */
    struct leat_port_counters workers[LEAT_WORKERS_MAX]; /* each one's */
};

#endif
