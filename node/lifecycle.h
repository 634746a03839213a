/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that makes the logs of this node those of the catalogue: it compares what worker 0
 * has applied with what the workers run, makes arenas for what is missing and hands them over,
 * takes back what was deleted. State against state, so a crash, a lost race or an installed
 * catalogue leaves nothing to remember. Everything slow or allocating about a log happens here.
 */
#ifndef LEAT_NODE_LIFECYCLE_H
#define LEAT_NODE_LIFECYCLE_H

#include "worker.h"

struct node_lifecycle;

/* `workers`: one per worker of the configuration, all booted. */
int lifecycle_start(const struct leat_config *config, struct node_logger *out,
                    struct node_worker *const *workers, struct node_lifecycle **ret_lifecycle);
/* The workers must still run. */
void lifecycle_stop(struct node_lifecycle *lifecycle);
/* NULL is fine. */
void lifecycle_free(struct node_lifecycle *lifecycle);

#endif
