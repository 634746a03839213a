/* SPDX-License-Identifier: Apache-2.0
 *
 * See catalogue.h. Tests: tests/node/test_catalogue.c.
 */
#include "catalogue.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static bool row_exists(const struct leat_catalogue_row *row)
{
    return (row->flags & LEAT_CATALOGUE_DELETED) == 0;
}

/* The place of the first row whose id is not below. */
static uint32_t row_place(const struct node_catalogue *catalogue, uint32_t log_id)
{
    uint32_t low = 0, high = catalogue->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (catalogue->rows[middle].log_id < log_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct leat_catalogue_row *catalogue_find(const struct node_catalogue *catalogue,
                                                uint32_t log_id)
{
    uint32_t place = row_place(catalogue, log_id);
    const struct leat_catalogue_row *row = &catalogue->rows[place];
    return place < catalogue->count && row->log_id == log_id && row_exists(row) ? row : NULL;
}

const struct leat_catalogue_row *catalogue_find_name(const struct node_catalogue *catalogue,
                                                     const char *name)
{
    for (uint32_t i = 0; i < catalogue->count; i++) {
        if (row_exists(&catalogue->rows[i]) &&
            strncmp(catalogue->rows[i].name, name, LEAT_CATALOGUE_NAME_BYTES) == 0)
            return &catalogue->rows[i];
    }
    return NULL;
}

void catalogue_load(struct node_catalogue *catalogue, const struct leat_catalogue_row *rows,
                    uint32_t count)
{
    LEAT_ASSERT(count <= LEAT_LOGS_MAX);
    catalogue->count = count;
    memcpy(catalogue->rows, rows, count * sizeof(*rows));
}

/* ---- applying ---- */

static void row_remove(struct node_catalogue *catalogue, uint32_t place)
{
    memmove(&catalogue->rows[place], &catalogue->rows[place + 1],
            (catalogue->count - place - 1) * sizeof(catalogue->rows[0]));
    catalogue->count--;
}

static int apply_create(struct node_catalogue *catalogue, const struct leat_catalogue_row *row)
{
    uint32_t last = catalogue->count;
    if (catalogue->count > 0 && row->log_id <= catalogue_last_id(catalogue))
        return LEAT_ECORRUPT;
    if (catalogue_find_name(catalogue, row->name))
        return LEAT_ECORRUPT;
    if (last > 0 && !row_exists(&catalogue->rows[last - 1]))
        last--; /* the mark has done its duty */
    if (last == LEAT_LOGS_MAX)
        return LEAT_ECORRUPT;
    catalogue->rows[last] = *row;
    catalogue->count = last + 1;
    return LEAT_OK;
}

int catalogue_apply(struct node_catalogue *catalogue, const struct leat_catalogue_payload *payload)
{
    const struct leat_catalogue_row *row = &payload->row;
    if (payload->operation == LEAT_CATALOGUE_CREATE)
        return apply_create(catalogue, row);
    if (!catalogue_find(catalogue, row->log_id))
        return LEAT_ECORRUPT;
    uint32_t place = row_place(catalogue, row->log_id);
    switch (payload->operation) {
    case LEAT_CATALOGUE_DELETE:
        if (place == catalogue->count - 1)
            catalogue->rows[place].flags |= LEAT_CATALOGUE_DELETED;
        else
            row_remove(catalogue, place);
        return LEAT_OK;
    case LEAT_CATALOGUE_CONFIGURE:
        catalogue->rows[place].retention_bytes = row->retention_bytes;
        catalogue->rows[place].retention_ns = row->retention_ns;
        return LEAT_OK;
    default:
        return LEAT_ECORRUPT;
    }
}

/* ---- judging ---- */

static bool name_is_legal(const char *name)
{
    size_t length = strnlen(name, LEAT_CATALOGUE_NAME_BYTES);
    if (length == 0 || length == LEAT_CATALOGUE_NAME_BYTES)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
        if (!letter && (i == 0 || !other))
            return false;
    }
    for (size_t i = length; i < LEAT_CATALOGUE_NAME_BYTES; i++) {
        if (name[i] != 0)
            return false;
    }
    return true;
}

static int judge_sizes(const struct leat_catalogue_row *row,
                       const struct node_catalogue_limits *limits, char *why, unsigned why_bytes)
{
    uint64_t window =
        row->arena_bytes / 4 < limits->window_bytes ? row->arena_bytes / 4 : limits->window_bytes;
    if (!leat_log_sizes_are_legal(row->segment_bytes, row->arena_bytes, row->entry_bytes_max)) {
        snprintf(why, why_bytes,
                 "sizes are powers of two: segment %u MiB at least, arena two segments at least, "
                 "largest entry %u bytes to a quarter of a segment",
                 LEAT_SEGMENT_BYTES_MIN >> 20, LEAT_ENTRY_BYTES_MIN);
        return LEAT_EINVAL;
    }
    /* the largest entry, the PAD that it may need before it, and a full BASE frame in between */
    if (2 * (uint64_t)row->entry_bytes_max + LEAT_BASE_PAYLOAD_BYTES_MAX > window) {
        snprintf(why, why_bytes,
                 "the replication window of %" PRIu64 " bytes (a quarter of the arena at most) "
                 "takes entries of %" PRIu64 " bytes at most",
                 window,
                 window > LEAT_BASE_PAYLOAD_BYTES_MAX ? (window - LEAT_BASE_PAYLOAD_BYTES_MAX) / 2
                                                      : 0);
        return LEAT_EINVAL;
    }
    if (row->retention_bytes != 0 && row->retention_bytes < 2 * row->segment_bytes) {
        snprintf(why, why_bytes, "a retention of bytes is two segments at least");
        return LEAT_EINVAL;
    }
    return LEAT_OK;
}

static int judge_budget(const struct node_catalogue *catalogue,
                        const struct leat_catalogue_row *row,
                        const struct node_catalogue_limits *limits, char *why, unsigned why_bytes)
{
    uint64_t bytes = 0;
    uint32_t count = 0, own = 0;
    for (uint32_t i = 0; i < catalogue->count; i++) {
        if (!row_exists(&catalogue->rows[i]))
            continue;
        bytes += catalogue->rows[i].arena_bytes;
        own += catalogue->rows[i].owner_uid == limits->uid;
        count++;
    }
    if (count >= LEAT_LOGS_MAX) {
        snprintf(why, why_bytes, "there are %u logs, as many as a cluster can have", count);
        return LEAT_EBUDGET;
    }
    if (bytes + row->arena_bytes > limits->arena_budget_bytes) {
        snprintf(why, why_bytes,
                 "the arenas take %" PRIu64 " MiB and memory.budget is %" PRIu64
                 " MiB: an arena of %" PRIu64 " MiB does not fit; delete a log or raise the budget",
                 bytes >> 20, limits->arena_budget_bytes >> 20, row->arena_bytes >> 20);
        return LEAT_EBUDGET;
    }
    if (!limits->unlimited && own >= limits->logs_per_user) {
        snprintf(why, why_bytes, "user %u has %u logs, as many as quotas.logs allows", limits->uid,
                 own);
        return LEAT_EQUOTA;
    }
    return LEAT_OK;
}

static int judge_create(const struct node_catalogue *catalogue,
                        const struct node_catalogue_limits *limits, uint64_t log_time_ns,
                        struct leat_catalogue_row *row, char *why, unsigned why_bytes)
{
    if (!name_is_legal(row->name)) {
        snprintf(why, why_bytes,
                 "a name is a letter, then letters, digits, '-', '.', '_', %u at most",
                 LEAT_CATALOGUE_NAME_BYTES - 1);
        return LEAT_EINVAL;
    }
    if (catalogue_find_name(catalogue, row->name)) {
        snprintf(why, why_bytes, "there is a log of that name");
        return LEAT_EEXISTS;
    }
    int rc = judge_sizes(row, limits, why, why_bytes);
    if (rc == LEAT_OK)
        rc = judge_budget(catalogue, row, limits, why, why_bytes);
    if (rc == LEAT_OK && catalogue_last_id(catalogue) == UINT32_MAX)
        rc = LEAT_EBUDGET;
    if (rc != LEAT_OK)
        return rc;
    row->log_id = (catalogue_last_id(catalogue) > 1 ? catalogue_last_id(catalogue) : 1) + 1;
    row->generation = 1;
    row->created_ns = log_time_ns;
    row->owner_uid = limits->uid;
    row->flags &= LEAT_BASE_ACCEPTS_REPLICATED;
    row->reserved_word = 0;
    memset(row->reserved, 0, sizeof(row->reserved));
    return LEAT_OK;
}

int catalogue_judge(const struct node_catalogue *catalogue,
                    const struct node_catalogue_limits *limits, uint64_t log_time_ns,
                    struct leat_catalogue_payload *payload, char *why, unsigned why_bytes)
{
    why[0] = 0;
    payload->reserved = 0;
    if (payload->operation == LEAT_CATALOGUE_CREATE)
        return judge_create(catalogue, limits, log_time_ns, &payload->row, why, why_bytes);
    const struct leat_catalogue_row *known = catalogue_find(catalogue, payload->row.log_id);
    if (!known) {
        snprintf(why, why_bytes, "there is no log %u", payload->row.log_id);
        return LEAT_ENOLOG;
    }
    if (!limits->unlimited && known->owner_uid != limits->uid) {
        snprintf(why, why_bytes, "log %u belongs to user %u", known->log_id, known->owner_uid);
        return LEAT_EPERM;
    }
    struct leat_catalogue_row row = *known;
    if (payload->operation == LEAT_CATALOGUE_CONFIGURE) {
        row.retention_bytes = payload->row.retention_bytes;
        row.retention_ns = payload->row.retention_ns;
    } else if (payload->operation != LEAT_CATALOGUE_DELETE || row.log_id <= 1) {
        snprintf(why, why_bytes, "logs 0 and 1 are the cluster's own");
        return LEAT_EINVAL;
    }
    if (row.log_id == 0 ||
        (row.retention_bytes != 0 && row.retention_bytes < 2 * row.segment_bytes)) {
        snprintf(why, why_bytes, "a retention of bytes is two segments at least, of a log but 0");
        return LEAT_EINVAL;
    }
    payload->row = row;
    return LEAT_OK;
}
