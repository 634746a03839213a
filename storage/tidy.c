/* SPDX-License-Identifier: Apache-2.0
 *
 * What a crash leaves of a log that was being made or deleted (docs/recovery.md, rows J5-J8). At
 * open, once all else was accepted; blocks. Tests: test_life.c.
 */
#include "state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tidying {
    const struct leat_storage *storage;
    char found[64];
    uint64_t key;
    bool is_new;
};

static bool tidy_parse(const char *name, bool *ret_is_new, uint64_t *ret_key)
{
    uint32_t log_id, generation;
    int used = 0;
    *ret_is_new = strncmp(name, "new-", 4) == 0;
    *ret_key = 0;
    if (!*ret_is_new && strncmp(name, "log-", 4) != 0)
        return false;
    if (sscanf(name + 4, "%" SCNu32 ".%" SCNu32 "%n", &log_id, &generation, &used) == 2 &&
        name[4 + used] == 0 && generation > 0)
        *ret_key = log_key(log_id, generation);
    return true;
}

static struct log *tidy_log(const struct leat_storage *storage, uint64_t key)
{
    for (uint32_t i = 0; i < storage->log_count; i++) {
        if (log_key(storage->logs[i].log_id, storage->logs[i].generation) == key)
            return &storage->logs[i];
    }
    return NULL;
}

static bool tidy_is_deleted(const struct leat_storage *storage, uint64_t key)
{
    LEAT_ASSERT(storage->deleted);
    for (uint32_t i = 0; i < storage->deleted_count; i++) {
        if (storage->deleted[i] == key)
            return true;
    }
    return false;
}

/* J5: a log's directory that nothing names. */
static bool tidy_check_one(void *context, const char *name)
{
    struct tidying *tidying = context;
    bool is_new;
    uint64_t key;
    if (!tidy_parse(name, &is_new, &key) || is_new || tidy_log(tidying->storage, key) ||
        tidy_is_deleted(tidying->storage, key))
        return true;
    snprintf(tidying->found, sizeof(tidying->found), "%.63s", name);
    return false;
}

int tidy_check(struct leat_storage *storage, char *error, unsigned error_bytes)
{
    struct tidying tidying = {.storage = storage};
    if (leat_directory_list(storage->worker_path, tidy_check_one, &tidying) != LEAT_OK)
        return leat_refuse(error, error_bytes, LEAT_ESYSTEM, "cannot list %s",
                           storage->worker_path);
    if (tidying.found[0])
        return leat_refuse(error, error_bytes, LEAT_ECORRUPT,
                           "the journal says nothing of %s: replace the node", tidying.found);
    return LEAT_OK;
}

/* J6: made, not named. J7: named, not in its place. J8: deleted, not gone. */
static bool tidy_find_one(void *context, const char *name)
{
    struct tidying *tidying = context;
    if (!tidy_parse(name, &tidying->is_new, &tidying->key) ||
        (!tidying->is_new && tidy_log(tidying->storage, tidying->key)))
        return true;
    snprintf(tidying->found, sizeof(tidying->found), "%.63s", name);
    return false;
}

static int tidy_one(struct leat_storage *storage, const struct tidying *tidying)
{
    struct log *log = tidy_log(storage, tidying->key);
    char path[LEAT_PATH_BYTES + 80], name[64], to[LEAT_PATH_BYTES + 80];
    snprintf(path, sizeof(path), "%s/%s", storage->worker_path, tidying->found);
    if (!log || strcmp(log->directory, tidying->found) != 0)
        return making_remove(path);
    log_directory_name(log->log_id, log->generation, name);
    snprintf(to, sizeof(to), "%s/%s", storage->worker_path, name);
    memcpy(log->directory, name, sizeof(name));
    return rename(path, to) == 0 ? LEAT_OK : LEAT_ESYSTEM;
}

int tidy(struct leat_storage *storage, char *error, unsigned error_bytes)
{
    for (bool changed = false;; changed = true) {
        struct tidying tidying = {.storage = storage};
        int rc = leat_directory_list(storage->worker_path, tidy_find_one, &tidying);
        if (rc == LEAT_OK && tidying.found[0])
            rc = tidy_one(storage, &tidying);
        else if (rc == LEAT_OK && changed)
            rc = leat_path_flush(storage->worker_path);
        if (rc != LEAT_OK)
            return leat_refuse(error, error_bytes, LEAT_ESYSTEM, "cannot tidy %s up: %s",
                               storage->worker_path, strerror(errno));
        if (!tidying.found[0])
            break;
    }
    free(storage->deleted);
    storage->deleted = NULL;
    storage->deleted_count = 0;
    return LEAT_OK;
}
