/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket's server: one thread, poll(2) over the listening socket and all connections.
 * Checks peer credentials and every field, makes and seals the rings, passes commands to the
 * workers, detaches a client whose connection ends (killed at any point: its rings go back).
 */
#ifndef LEAT_NODE_CONTROL_H
#define LEAT_NODE_CONTROL_H

#include "commands.h"
#include "node/config.h"

struct node_control;

/* Binds the socket (replacing one that nobody listens on any more; one in use is refused), starts
 * the thread. `error`: one line. */
/* `queues`: one per worker of the configuration. */
int node_control_start(const struct leat_config *config, const struct leat_uuid *instance,
                       struct node_commands *const *queues, struct node_control **ret_control,
                       char *error, unsigned error_bytes);

/* Stops taking connections and closes every one: attached clients see LEAT_ECLOSED. The worker
 * must still be running (it confirms each DETACH). Removes the socket. */
void node_control_stop(struct node_control *control);

#endif
