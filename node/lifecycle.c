/* SPDX-License-Identifier: Apache-2.0
 *
 * See lifecycle.h. A round: take the catalogue when its version has moved (or something is left to
 * be done), then one creation or deletion at a time per worker. What fails is tried again after a
 * pause and said once.
 *
 * It begins when the catalogue is known not to be older than this start. Even so, a log that runs
 * here is deleted only when the catalogue has it no more and has given an id at
 * least as high: a catalogue that was recovered short of its commit knows less than the disk.
 * Tests: tests/system/test_logs.py.
 */
#include "lifecycle.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "pause.h"

#define LIFE_PAUSE_NS 2000000
#define LIFE_RETRY_NS 1000000000u

struct life_slot {
    struct node_command command;
    bool busy;
};

struct node_lifecycle {
    const struct leat_config *config;
    struct node_logger *out;
    struct node_worker *workers[LEAT_WORKERS_MAX];
    struct leat_uuid boot;
    pthread_t thread;
    atomic_bool stop;
    struct node_catalogue catalogue;
    uint64_t version; /* of it */
    uint32_t running_count;
    struct {
        uint32_t log_id;
        uint32_t worker;
        uint64_t retention_bytes, retention_ns; /* as the worker was told */
    } running[2 * NODE_LOGS_MAX];               /* created, being created or being deleted here */
    uint64_t retry_ns;
    bool left; /* something may be left to be done */
    struct life_slot slots[LEAT_WORKERS_MAX];
};

static void life_pause(void)
{
    struct timespec pause = {.tv_nsec = LIFE_PAUSE_NS};
    nanosleep(&pause, NULL);
}

static uint32_t running_find(const struct node_lifecycle *life, uint32_t log_id)
{
    for (uint32_t i = 0; i < life->running_count; i++) {
        if (life->running[i].log_id == log_id)
            return i;
    }
    return UINT32_MAX;
}

static void running_add(struct node_lifecycle *life, uint32_t log_id, uint32_t worker)
{
    LEAT_ASSERT(life->running_count < 2 * NODE_LOGS_MAX);
    uint32_t at = life->running_count++;
    memset(&life->running[at], 0, sizeof(life->running[at]));
    life->running[at].log_id = log_id;
    life->running[at].worker = worker;
}

static void running_remove(struct node_lifecycle *life, uint32_t log_id)
{
    uint32_t at = running_find(life, log_id);
    LEAT_ASSERT(at != UINT32_MAX);
    life->running[at] = life->running[--life->running_count];
}

/* Hands a command to a worker and waits for it; false: the node stops. */
static bool life_ask(struct node_lifecycle *life, uint32_t worker, struct node_command *command)
{
    while (!node_commands_push(&life->workers[worker]->commands[NODE_QUEUE_LIFECYCLE], command))
        life_pause();
    while (!atomic_load_explicit(&command->done, memory_order_acquire)) {
        if (atomic_load(&life->stop))
            return false;
        life_pause();
    }
    return true;
}

/* ---- the catalogue ---- */

static bool life_take_catalogue(struct node_lifecycle *life)
{
    struct node_command *command = calloc(1, sizeof(*command));
    uint64_t version = atomic_load(&life->workers[0]->catalogue_version);
    if (!command)
        return false;
    command->kind = NODE_COMMAND_CATALOGUE;
    command->catalogue = &life->catalogue;
    if (!life_ask(life, 0, command))
        return false; /* the worker may still hold it: it is left behind, the process ends */
    life->version = version;
    free(command);
    return true;
}

/* Waits until the catalogue here is not older than this start, by a read index of log 0: one that
 * was recovered short of its commit would make a log again that was deleted. False: the node stops.
 */
static bool life_catch_up(struct node_lifecycle *life)
{
    struct node_command *command = calloc(1, sizeof(*command));
    bool caught_up = false;
    while (command && !caught_up && !atomic_load(&life->stop)) {
        memset(command, 0, sizeof(*command));
        command->kind = NODE_COMMAND_TAIL;
        command->log_id = 0;
        command->node_id = LEAT_LEVEL_DURABLE;
        if (!life_ask(life, 0, command))
            return false; /* left behind, as above */
        caught_up = command->error == LEAT_OK;
        life_pause();
    }
    free(command);
    return caught_up;
}

/* ---- creating ---- */

static void slot_start(struct node_lifecycle *life, uint32_t worker)
{
    struct life_slot *slot = &life->slots[worker];
    slot->busy = true;
    while (
        !node_commands_push(&life->workers[worker]->commands[NODE_QUEUE_LIFECYCLE], &slot->command))
        life_pause();
}

static void life_create_log(struct node_lifecycle *life, const struct leat_catalogue_row *row)
{
    uint32_t worker = row->log_id % life->config->worker_count;
    struct life_slot *slot = &life->slots[worker];
    char error[512];
    struct node_log *log = log_new();
    int rc = log ? log_prepare(log, life->workers[worker], &life->boot, row, error, sizeof(error))
                 : LEAT_ENOMEM;
    if (rc != LEAT_OK) {
        static struct logger_rate rate;
        logger_limited(life->out, &rate, leat_clock_monotonic_ns(), LEAT_LOG_ERROR,
                       "log %u (%s) cannot be made here: %s; it is tried again", row->log_id,
                       row->name, log ? error : "out of memory");
        log_free(log);
        life->retry_ns = leat_clock_monotonic_ns() + LIFE_RETRY_NS;
        return;
    }
    memset(&slot->command, 0, sizeof(slot->command));
    slot->command.kind = NODE_COMMAND_LOG_CREATE;
    slot->command.log_id = row->log_id;
    slot->command.change.row = *row;
    slot->command.log = log;
    running_add(life, row->log_id, worker);
    life->running[life->running_count - 1].retention_bytes = row->retention_bytes;
    life->running[life->running_count - 1].retention_ns = row->retention_ns;
    slot_start(life, worker);
}

/* Tells the worker of a running log what retention it has now. False: it has it already. */
static bool life_configure_log(struct node_lifecycle *life, uint32_t at,
                               const struct leat_catalogue_row *row)
{
    struct life_slot *slot = &life->slots[life->running[at].worker];
    if (life->running[at].retention_bytes == row->retention_bytes &&
        life->running[at].retention_ns == row->retention_ns)
        return false;
    if (slot->busy)
        return true;
    memset(&slot->command, 0, sizeof(slot->command));
    slot->command.kind = NODE_COMMAND_LOG_CONFIGURE;
    slot->command.log_id = row->log_id;
    slot->command.change.row = *row;
    life->running[at].retention_bytes = row->retention_bytes;
    life->running[at].retention_ns = row->retention_ns;
    slot_start(life, life->running[at].worker);
    return true;
}

static void life_delete_log(struct node_lifecycle *life, uint32_t log_id, uint32_t worker)
{
    struct life_slot *slot = &life->slots[worker];
    memset(&slot->command, 0, sizeof(slot->command));
    slot->command.kind = NODE_COMMAND_LOG_DELETE;
    slot->command.log_id = log_id;
    slot_start(life, worker);
}

static void life_finish(struct node_lifecycle *life, struct life_slot *slot)
{
    struct node_command *command = &slot->command;
    slot->busy = false;
    life->left = true;
    if (command->kind == NODE_COMMAND_LOG_CREATE && command->error != LEAT_OK) {
        static struct logger_rate rate;
        logger_limited(life->out, &rate, leat_clock_monotonic_ns(), LEAT_LOG_ERROR,
                       "log %u (%s) cannot be made here: %s; it is tried again", command->log_id,
                       command->change.row.name, leat_error_text(command->error));
        life->retry_ns = leat_clock_monotonic_ns() + LIFE_RETRY_NS;
        unlink(command->log->arena.path);
        log_free(command->log);
        running_remove(life, command->log_id);
    } else if (command->kind == NODE_COMMAND_LOG_DELETE && command->log) {
        unlink(command->log->arena.path);
        log_free(command->log);
        running_remove(life, command->log_id);
    } else if (command->kind == NODE_COMMAND_LOG_DELETE) {
        life->retry_ns = leat_clock_monotonic_ns() + LIFE_RETRY_NS;
    }
}

/* ---- a round ---- */

static void life_settle(struct node_lifecycle *life)
{
    for (uint32_t w = 0; w < life->config->worker_count; w++) {
        struct life_slot *slot = &life->slots[w];
        if (slot->busy && atomic_load_explicit(&slot->command.done, memory_order_acquire))
            life_finish(life, slot);
    }
}

static bool life_start_some(struct node_lifecycle *life)
{
    bool started = false;
    for (uint32_t i = 0; i < life->catalogue.count; i++) {
        const struct leat_catalogue_row *row = &life->catalogue.rows[i];
        uint32_t at = running_find(life, row->log_id);
        if (row->flags & LEAT_CATALOGUE_DELETED)
            continue;
        if (at != UINT32_MAX) {
            started |= life_configure_log(life, at, row);
            continue;
        }
        if (row->log_id < 2)
            continue;
        if (!life->slots[row->log_id % life->config->worker_count].busy)
            life_create_log(life, row);
        started = true;
        if (life->retry_ns > leat_clock_monotonic_ns())
            break; /* a deletion may be what makes room */
    }
    for (uint32_t i = 0; i < life->running_count; i++) {
        uint32_t id = life->running[i].log_id, worker = life->running[i].worker;
        if (id < 2 || id > catalogue_last_id(&life->catalogue) ||
            catalogue_find(&life->catalogue, id))
            continue;
        if (!life->slots[worker].busy)
            life_delete_log(life, id, worker);
        started = true;
    }
    return started;
}

static bool life_is_busy(const struct node_lifecycle *life)
{
    for (uint32_t w = 0; w < life->config->worker_count; w++) {
        if (life->slots[w].busy)
            return true;
    }
    return false;
}

static void *lifecycle_thread(void *context)
{
    struct node_lifecycle *life = context;
    struct node_pause pause = {.pause_ns = LIFE_PAUSE_NS};
    if (!life_catch_up(life))
        return NULL;
    life->left = true;
    while (!atomic_load(&life->stop)) {
        life_settle(life);
        if (atomic_load(&life->workers[0]->catalogue_version) != life->version) {
            if (!life_take_catalogue(life))
                break;
            life->left = true;
        }
        if (life->left && leat_clock_monotonic_ns() >= life->retry_ns)
            life->left = life_start_some(life);
        node_pause(&pause, life->left || life_is_busy(life));
    }
    return NULL;
}

int lifecycle_start(const struct leat_config *config, struct node_logger *out,
                    struct node_worker *const *workers, struct node_lifecycle **ret_lifecycle)
{
    struct node_lifecycle *life = calloc(1, sizeof(*life));
    if (!life || node_boot_id(&life->boot) != LEAT_OK) {
        free(life);
        return LEAT_ESYSTEM;
    }
    life->config = config;
    life->out = out;
    memcpy(life->workers, workers, config->worker_count * sizeof(*workers));
    for (uint32_t w = 0; w < config->worker_count; w++) {
        for (uint32_t i = 0; i < workers[w]->log_count; i++) {
            if (workers[w]->logs[i])
                running_add(life, workers[w]->logs[i]->id, w);
        }
    }
    if (pthread_create(&life->thread, NULL, lifecycle_thread, life) != 0) {
        free(life);
        return LEAT_ENOMEM;
    }
    *ret_lifecycle = life;
    return LEAT_OK;
}

void lifecycle_stop(struct node_lifecycle *lifecycle)
{
    atomic_store(&lifecycle->stop, true);
    pthread_join(lifecycle->thread, NULL);
}

void lifecycle_free(struct node_lifecycle *lifecycle)
{
    /* a creation or deletion that was under way is finished at the next start */
    free(lifecycle);
}
