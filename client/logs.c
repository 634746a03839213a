/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalogue's logs: create, delete, configure, list; and a log's linearizable tail. Each is a
 * request over a connection of its own, but for leat_tail. Any thread.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client_private.h"

#define LOGS_CHANGE_NS (12000 * CLIENT_MS) /* the node gives up after ten seconds */
#define LOGS_SEGMENT   (16u << 20)
#define LOGS_ENTRY     (1u << 20)

static void reply_close(struct client_reply *reply)
{
    for (unsigned i = 0; i < 2; i++) {
        if (reply->descriptors[i] >= 0)
            close(reply->descriptors[i]);
    }
}

/* One request on a connection of its own; `text` as for client_exchange. */
static int logs_ask(const char *socket, const struct leat_control_request *request, char *text,
                    uint64_t timeout_ns, struct client_reply *ret_reply)
{
    int descriptor = client_connect(client_socket_path(socket));
    if (descriptor < 0)
        return descriptor;
    int rc = client_exchange(descriptor, request, ret_reply, text, timeout_ns);
    close(descriptor);
    if (rc == LEAT_OK && ret_reply->head.error != LEAT_OK) {
        reply_close(ret_reply);
        return ret_reply->head.error;
    }
    return rc;
}

static int logs_change(const char *socket, struct leat_catalogue_payload *change,
                       uint64_t timeout_ns, uint32_t *ret_log, char *explanation,
                       size_t explanation_bytes)
{
    struct client_reply reply;
    static _Thread_local char text[LEAT_CONTROL_TEXT_BYTES_MAX + 1];
    struct leat_control_request request = client_request(LEAT_CONTROL_CHANGE, 0);
    int rc = leat_uuid_random(&change->request);
    if (rc != LEAT_OK)
        return rc;
    request.change = *change;
    text[0] = 0;
    rc = logs_ask(socket, &request, text, timeout_ns, &reply);
    if (explanation && explanation_bytes > 0)
        snprintf(explanation, explanation_bytes, "%s", text);
    if (rc == LEAT_OK && ret_log)
        *ret_log = (uint32_t)reply.head.position;
    return rc;
}

/* ---- creating ---- */

static void row_fill(const struct leat_log_entry *settings, struct leat_catalogue_row *row)
{
    row->segment_bytes = settings->segment_bytes ? settings->segment_bytes : LOGS_SEGMENT;
    row->arena_bytes = settings->arena_bytes ? settings->arena_bytes : 2 * row->segment_bytes;
    uint64_t entry = settings->entry_bytes_max;
    if (entry == 0) { /* half of what a quarter of the arena leaves beside a full BASE frame */
        entry = row->arena_bytes / 4 > LEAT_BASE_PAYLOAD_BYTES_MAX
                    ? (row->arena_bytes / 4 - LEAT_BASE_PAYLOAD_BYTES_MAX) / 2
                    : 0;
        entry = entry > row->segment_bytes / 4 ? row->segment_bytes / 4 : entry;
        entry = entry > LOGS_ENTRY ? LOGS_ENTRY : entry & ~(uint64_t)1023;
    }
    row->entry_bytes_max = (uint32_t)entry;
    row->retention_bytes = settings->retention_bytes;
    row->retention_ns = settings->retention_ns;
    row->flags = settings->accepts_replicated ? LEAT_BASE_ACCEPTS_REPLICATED : 0;
}

/* The log runs here and a leader answers for it. */
static int log_await(const char *socket, uint32_t log, uint64_t deadline_ns)
{
    for (;;) {
        struct client_reply reply;
        struct leat_control_request request = client_request(LEAT_CONTROL_TAIL, log);
        request.node_id = LEAT_ACK_DURABLE;
        uint64_t now_ns = client_now_ns();
        if (now_ns >= deadline_ns)
            return LEAT_EDEADLINE;
        int rc = logs_ask(socket, &request, NULL, deadline_ns - now_ns, &reply);
        if (rc == LEAT_OK)
            reply_close(&reply);
        if (rc != LEAT_ENOLOG && rc != LEAT_ENOLEADER && rc != LEAT_EAGAIN)
            return rc;
        nanosleep(&(struct timespec){.tv_nsec = CLIENT_MS}, NULL); /* each look is a connection */
    }
}

int leat_log_create(const char *socket, const struct leat_log_entry *settings, uint64_t timeout_ns,
                    uint32_t *ret_log, char *explanation, size_t explanation_bytes)
{
    struct leat_catalogue_payload change = {.operation = LEAT_CATALOGUE_CREATE};
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    uint32_t log;
    if (strnlen(settings->name, sizeof(settings->name)) == sizeof(settings->name))
        return LEAT_EINVAL;
    memcpy(change.row.name, settings->name, strlen(settings->name));
    row_fill(settings, &change.row);
    int rc = logs_change(socket, &change, timeout_ns, &log, explanation, explanation_bytes);
    if (rc == LEAT_OK)
        rc = log_await(socket, log, deadline_ns);
    if (rc == LEAT_OK)
        *ret_log = log;
    return rc;
}

int leat_log_delete(const char *socket, uint32_t log, char *explanation, size_t explanation_bytes)
{
    struct leat_catalogue_payload change = {.operation = LEAT_CATALOGUE_DELETE,
                                            .row = {.log_id = log}};
    return logs_change(socket, &change, LOGS_CHANGE_NS, NULL, explanation, explanation_bytes);
}

int leat_log_configure(const char *socket, uint32_t log, uint64_t retention_bytes,
                       uint64_t retention_ns, char *explanation, size_t explanation_bytes)
{
    struct leat_catalogue_payload change = {
        .operation = LEAT_CATALOGUE_CONFIGURE,
        .row = {.log_id = log, .retention_bytes = retention_bytes, .retention_ns = retention_ns}};
    return logs_change(socket, &change, LOGS_CHANGE_NS, NULL, explanation, explanation_bytes);
}

/* ---- listing ---- */

static void entry_fill(const struct leat_catalogue_row *row, struct leat_log_entry *entry)
{
    *entry = (struct leat_log_entry){
        .log = row->log_id,
        .entry_bytes_max = row->entry_bytes_max,
        .segment_bytes = row->segment_bytes,
        .arena_bytes = row->arena_bytes,
        .retention_bytes = row->retention_bytes,
        .retention_ns = row->retention_ns,
        .created_ns = row->created_ns,
        .owner_uid = row->owner_uid,
        .accepts_replicated = (row->flags & LEAT_BASE_ACCEPTS_REPLICATED) != 0,
    };
    memcpy(entry->name, row->name, sizeof(entry->name));
    entry->name[sizeof(entry->name) - 1] = 0;
}

/* Calls `visit` for each log that exists, until it says false. */
static int logs_visit(const char *socket, bool (*visit)(void *, const struct leat_log_entry *),
                      void *context)
{
    struct client_reply reply;
    struct leat_catalogue_row row;
    struct leat_log_entry entry;
    struct leat_control_request request = client_request(LEAT_CONTROL_LOGS, 0);
    int rc = logs_ask(socket, &request, NULL, CLIENT_ATTACH_NS, &reply);
    if (rc != LEAT_OK)
        return rc;
    for (uint64_t i = 0; i < reply.head.position && rc == LEAT_OK; i++) {
        if (pread(reply.descriptors[0], &row, sizeof(row), (off_t)(i * sizeof(row))) !=
            (ssize_t)sizeof(row))
            rc = LEAT_EPROTO;
        if (rc != LEAT_OK || (row.flags & LEAT_CATALOGUE_DELETED))
            continue;
        entry_fill(&row, &entry);
        if (!visit(context, &entry))
            break;
    }
    reply_close(&reply);
    return rc;
}

struct logs_list {
    struct leat_log_entry *entries;
    size_t max, count;
};

static bool logs_list_one(void *context, const struct leat_log_entry *entry)
{
    struct logs_list *list = context;
    if (list->count < list->max)
        list->entries[list->count] = *entry;
    list->count++;
    return true;
}

int leat_logs(const char *socket, struct leat_log_entry *entries, size_t max, size_t *ret_count)
{
    struct logs_list list = {entries, max, 0};
    int rc = logs_visit(socket, logs_list_one, &list);
    if (rc == LEAT_OK)
        *ret_count = list.count;
    return rc;
}

struct logs_search {
    const char *name;
    struct leat_log_entry found;
    bool is_found;
};

static bool logs_search_one(void *context, const struct leat_log_entry *entry)
{
    struct logs_search *search = context;
    search->is_found = strcmp(entry->name, search->name) == 0;
    if (search->is_found)
        search->found = *entry;
    return !search->is_found;
}

int leat_log_find(const char *socket, const char *name, struct leat_log_entry *ret_entry)
{
    struct logs_search search = {.name = name};
    int rc = logs_visit(socket, logs_search_one, &search);
    if (rc == LEAT_OK && !search.is_found)
        return LEAT_ENOLOG;
    if (rc == LEAT_OK)
        *ret_entry = search.found;
    return rc;
}

/* ---- the tail ---- */

int leat_tail(struct leat_client *client, uint32_t log, enum leat_ack level, uint64_t *ret_position,
              uint64_t *ret_offset)
{
    struct client_reply reply;
    struct leat_control_request request = client_request(LEAT_CONTROL_TAIL, log);
    if (level != LEAT_ACK_DURABLE && level != LEAT_ACK_REPLICATED)
        return LEAT_EINVAL;
    request.node_id = (uint32_t)level;
    int rc = client_ask(client, &request, &reply);
    if (rc != LEAT_OK)
        return rc;
    reply_close(&reply);
    if (ret_position)
        *ret_position = reply.head.position;
    if (ret_offset)
        *ret_offset = reply.head.offset;
    return LEAT_OK;
}
