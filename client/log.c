/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client knows of a log: its limits, read from the arena's header at the log's first use in
 * each attach (a request to the node, the one place where starting an append makes system calls),
 * and its sequences.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_private.h"

static bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static int check_arena(const struct leat_arena_header *header, uint32_t log_id, uint64_t file_bytes)
{
    if (header->magic != LEAT_ARENA_MAGIC)
        return LEAT_ECORRUPT;
    if (header->version != LEAT_ARENA_VERSION)
        return LEAT_EVERSION;
    if (header->log_id != log_id || !is_power_of_two(header->arena_bytes) ||
        !is_power_of_two(header->segment_bytes) || header->segment_bytes < LEAT_SEGMENT_BYTES_MIN ||
        header->arena_bytes < 2 * header->segment_bytes ||
        header->entry_bytes_max > header->segment_bytes / 4 ||
        header->arena_bytes > LEAT_ARENA_BYTES_MAX ||
        file_bytes < leat_arena_file_bytes(header->arena_bytes))
        return LEAT_ECORRUPT;
    return LEAT_OK;
}

int client_map_arena(struct leat_client *client, uint32_t log_id, size_t bytes,
                     const struct leat_arena_header **ret_header, size_t *ret_bytes)
{
    struct client_reply reply;
    struct stat status;
    struct leat_control_request request = client_request(LEAT_CONTROL_LOG, log_id);
    int rc = client_ask(client, &request, &reply);
    if (rc != LEAT_OK)
        return rc;
    void *map = MAP_FAILED;
    if (reply.descriptors[0] < 0 || fstat(reply.descriptors[0], &status) != 0 ||
        status.st_size < (off_t)LEAT_ARENA_HEADER_BYTES)
        rc = LEAT_EPROTO;
    if (rc == LEAT_OK) {
        bytes = bytes ? bytes : (size_t)status.st_size;
        map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, reply.descriptors[0], 0);
        rc = map == MAP_FAILED ? LEAT_ENOMEM : check_arena(map, log_id, (uint64_t)status.st_size);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (reply.descriptors[i] >= 0)
            close(reply.descriptors[i]);
    }
    if (rc != LEAT_OK) {
        if (map != MAP_FAILED)
            munmap(map, bytes);
        return rc;
    }
    *ret_header = map;
    *ret_bytes = bytes;
    return LEAT_OK;
}

static int log_add(struct leat_client *client, uint32_t log_id, uint32_t *ret_place)
{
    uint64_t *places = calloc(client->table_count, sizeof(*places));
    struct client_log *logs =
        places ? realloc(client->logs, (client->log_count + 1) * sizeof(*logs)) : NULL;
    if (!logs) {
        free(places);
        return LEAT_ENOMEM;
    }
    client->logs = logs;
    logs[client->log_count] =
        (struct client_log){.log_id = log_id, .next_sequence = 1, .deliver = 1, .places = places};
    *ret_place = client->log_count++;
    client->log_places[log_id] = (uint16_t)client->log_count;
    return LEAT_OK;
}

void client_logs_begin(struct leat_client *client)
{
    for (uint32_t i = 0; i < client->log_count; i++) {
        struct client_log *log = &client->logs[i];
        log->session_ended = false;
        log->next_sequence = 1;
        log->deliver = 1;
        log->held = 0;
        log->ready = false;
    }
    client->ready_first = client->ready_last = 0;
}

void client_log_unmap(struct client_log *log)
{
    if (log->header)
        munmap((void *)log->header, LEAT_ARENA_HEADER_BYTES);
    log->header = NULL;
}

static int log_read_limits(struct leat_client *client, uint32_t place)
{
    const struct leat_arena_header *header;
    size_t bytes;
    struct client_log *log = &client->logs[place];
    int rc = client_map_arena(client, log->log_id, LEAT_ARENA_HEADER_BYTES, &header, &bytes);
    if (rc != LEAT_OK)
        return rc;
    log->entry_bytes_max = header->entry_bytes_max;
    log->accepts_replicated = header->flags & LEAT_ARENA_ACCEPTS_REPLICATED;
    log->attach_count = client->attach_count;
    client_log_unmap(log);
    log->header = header;
    return LEAT_OK;
}

int client_log(struct leat_client *client, uint32_t log_id, uint32_t *ret_place)
{
    uint32_t place;
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->state == CLIENT_FAILED)
        return client->error;
    if (log_id == 0 || log_id >= LEAT_LOGS_MAX)
        return LEAT_ENOLOG; /* log 0 is the node's own */
    int rc = LEAT_OK;
    if (client->log_places[log_id] == 0)
        rc = log_add(client, log_id, &place);
    else
        place = client->log_places[log_id] - 1u;
    if (rc != LEAT_OK)
        return rc;
    struct client_log *log = &client->logs[place];
    bool known = log->attach_count != 0;
    if (!known || (client->state == CLIENT_UP && log->attach_count != client->attach_count))
        rc = log_read_limits(client, place);
    if (rc != LEAT_OK)
        return rc;
    *ret_place = place;
    return LEAT_OK;
}
