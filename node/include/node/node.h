/* SPDX-License-Identifier: Apache-2.0
 *
 * A running node: leatd is a thin shell around this. node_run() owns the process' signals, threads
 * and files until it returns.
 */
#ifndef LEAT_NODE_NODE_H
#define LEAT_NODE_NODE_H

#include "node/config.h"

/* Makes the node's data directory and logs (leat format). One line on failure. */
int leat_node_format(const struct leat_config *config, char *error, unsigned error_bytes);

/* Opens, recovers, serves until SIGTERM or SIGINT, hands leadership over, drains, stops clean.
 * Returns 0 after a clean stop; LEAT_EFENCED after a failed write; else the error that kept it
 * from starting, explained on the log. */
int leat_node_run(const struct leat_config *config);

#endif
