/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes that use libleat: clients that append, and an operator.
 */
#ifndef LEAT_SIM_CLIENT_H
#define LEAT_SIM_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

/* By the draw: their processes start, and start again when they die. */
void clients_begin(void);
/* Every process of a client on that host is dead. */
void clients_host_down(unsigned host);
void clients_kill_one(void);
void clients_switch_one(void);
/* How many hold rings of this node. */
unsigned clients_attached(unsigned node);
/* It starts no append until then. */
void clients_rest_one(uint64_t until_ns);
/* Its node refuses to start, and will not be replaced. */
void clients_leave(unsigned node);
void clients_fence_one(void);
/* The dishonest client writes what it likes into the words and records that it shares with its
 * node. */
void clients_scribble_one(void);
/* True when all appends of the draw were started and have ended. */
bool clients_are_done(void);
/* What each waits for. */
void clients_trace(void);
/* Start what is left at once: the faults are over. Over slow links it is less. */
void clients_hurry(void);
/* Who is attached appends once more to each log; clients_are_done() waits for it. */
void clients_close(void);
void clients_stop(void);

enum operator_wish {
    OPERATOR_CREATE_LOGS,
    OPERATOR_TRANSFER,
    OPERATOR_TRIM,
    OPERATOR_TAIL,
    OPERATOR_ACCEPT_AMNESIA,
};
/* A process of its own on a host; it gives up when the node does not answer. */
void operator_wish(enum operator_wish wish, unsigned node, uint32_t log, uint64_t argument);
void operators_begin(void);
/* All logs were made, as far as that goes. */
bool operators_are_done(void);

#endif
