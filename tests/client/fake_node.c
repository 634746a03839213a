/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "catalogue.h"

uint64_t fake_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void fake_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* ---- rings ---- */

static struct fake_taken *slot_at(struct fake_client *client, uint64_t index)
{
    return &client->slots[index & (client->rings->completion_count - 1)];
}

static void client_end_as(struct fake_client *client, struct fake_taken *slot, int error,
                          uint64_t position, uint64_t last, uint64_t detail)
{
    struct node_rings *rings = client->rings;
    rings->completions[client->completion_tail & (rings->completion_count - 1)] =
        (struct leat_completion){
            .log_id = slot->log_id,
            .error = error,
            .sequence = slot->sequence,
            .position = position,
            .offset = error == LEAT_OK ? slot->sequence - 1 : UINT64_MAX,
            .last_sequence = last,
            .level = error == LEAT_OK ? slot->level : 0,
            .detail = detail,
        };
    client->completion_tail++;
    __atomic_store_n(&rings->answers->completion_tail.value, client->completion_tail,
                     __ATOMIC_RELEASE);
    slot->ended = true;
}

static void client_end(struct fake_client *client, struct fake_taken *slot, int error,
                       uint64_t position, uint64_t last)
{
    client_end_as(client, slot, error, position, last, 0);
}

static void see(struct fake_node *node, const struct fake_client *client,
                const struct fake_taken *slot)
{
    bool closes = slot->record.kind == LEAT_RING_CLOSE;
    atomic_uint *counter = closes ? &node->close_count : &node->seen_count;
    unsigned count = atomic_load(counter);
    LEAT_ASSERT(count < FAKE_RECORDS_MAX);
    (closes ? node->closes : node->seen)[count] =
        (struct fake_seen){client->rings->client, slot->log_id, slot->sequence, slot->first_byte};
    atomic_store(counter, count + 1);
}

static struct fake_session *session_of(struct fake_node *node, const struct leat_uuid *client,
                                       uint32_t log_id)
{
    for (unsigned i = 0; i < FAKE_SESSIONS_MAX; i++) {
        struct fake_session *session = &node->sessions[i];
        if (session->log_id == 0)
            *session = (struct fake_session){.client = *client, .log_id = log_id};
        if (session->log_id == log_id && memcmp(&session->client, client, sizeof(*client)) == 0)
            return session;
    }
    LEAT_ASSERT(!"room for a session");
    return NULL;
}

static void client_take(struct fake_node *node, struct fake_client *client)
{
    struct node_rings *rings = client->rings;
    uint64_t tail = __atomic_load_n(&rings->shared->tail.value, __ATOMIC_ACQUIRE);
    while (client->taken != tail && client->next - client->first < rings->completion_count) {
        struct leat_ring_record record;
        const uint8_t *at = rings->records + (client->taken & (rings->ring_bytes - 1));
        memcpy(&record, at, sizeof(record));
        client->taken += leat_ring_extent(record.payload_bytes);
        if (record.kind == LEAT_RING_SKIP)
            continue;
        LEAT_ASSERT(record.kind != LEAT_RING_SKIP && record.sequence > 0);
        *slot_at(client, client->next++) = (struct fake_taken){
            .sequence = record.sequence,
            .log_id = record.log_id,
            .ring_end = client->taken,
            .payload_bytes = record.payload_bytes,
            .level = record.level,
            .first_byte = record.payload_bytes > 0 ? at[sizeof(record)] : 0,
            .record = record,
        };
        if (record.kind == LEAT_RING_BATCH) {
            node->batch_count =
                leat_batch_parse(at + sizeof(record), record.payload_bytes, node->batch_lengths);
            LEAT_ASSERT(node->batch_count > 0 && record.payload_bytes <= FAKE_ENTRY_BYTES);
            memcpy(node->batch_bytes, at + sizeof(record), record.payload_bytes);
        }
        node->writer_epoch = record.writer_epoch;
        see(node, client, slot_at(client, client->next - 1));
    }
}

static void log_append(struct fake_node *node, const struct fake_client *client,
                       const struct fake_taken *slot)
{
    uint64_t at = slot->ring_end - leat_ring_extent(slot->payload_bytes);
    const uint8_t *record = client->rings->records + (at & (client->rings->ring_bytes - 1));
    fake_log_record(&node->log, record + sizeof(struct leat_ring_record), slot->payload_bytes);
    fake_log_commit(&node->log, node->log.chain.position, node->log.chain.position);
}

static void client_lose(struct fake_node *node, struct fake_client *client)
{
    for (uint64_t i = client->first; i < client->next && atomic_load(&node->lose) != 0; i++) {
        struct fake_taken *slot = slot_at(client, i);
        if (!slot->ended && slot->log_id == 1 && slot->sequence >= atomic_load(&node->lose_from))
            client_end(client, slot, atomic_exchange(&node->lose, 0), 0,
                       session_of(node, &client->rings->client, 1)->last_sequence);
    }
}

static void record(struct fake_node *node, const struct fake_client *client,
                   const struct fake_taken *slot)
{
    unsigned count = atomic_load(&node->record_count) + 1;
    LEAT_ASSERT(count < FAKE_RECORDS_MAX);
    node->recorded_bytes[count] = (uint64_t)slot->payload_bytes << 8 | slot->first_byte;
    if (atomic_load(&node->writes_log))
        log_append(node, client, slot);
    atomic_store(&node->record_count, count);
}

/* As a leader judges. */
static int judge(const struct fake_node *node, const struct leat_ring_record *record,
                 uint64_t *ret_detail)
{
    bool fence = record->kind == LEAT_RING_FENCE;
    *ret_detail = node->fence_epoch;
    if (fence ? record->writer_epoch <= node->fence_epoch
              : record->writer_epoch < node->fence_epoch)
        return LEAT_EFENCEDOUT;
    *ret_detail = node->next_offset;
    return (record->flags & LEAT_RING_FLAG_CONDITION) && record->condition != node->next_offset
               ? LEAT_ECONDITION
               : LEAT_OK;
}

static void client_answer(struct fake_node *node, struct fake_client *client)
{
    client_lose(node, client);
    for (uint64_t i = client->first; i < client->next && !atomic_load(&node->hold); i++) {
        struct fake_taken *slot = slot_at(client, i);
        if (slot->ended || (int)slot->log_id == atomic_load(&node->hold_log))
            continue;
        struct fake_session *session = session_of(node, &client->rings->client, slot->log_id);
        uint64_t last = session->last_sequence;
        if (slot->record.kind == LEAT_RING_CLOSE) {
            client_end(client, slot, LEAT_ENOSESSION, 0, last);
            continue;
        }
        if (slot->sequence > last + 1) {
            client_end(client, slot, LEAT_ESESSION, 0, last);
            continue;
        }
        if (slot->sequence <= last) {
            client_end(client, slot, slot->sequence == last ? LEAT_OK : LEAT_EUNKNOWN, 0, last);
            continue;
        }
        if (atomic_load(&node->hold_durable) && slot->level == LEAT_LEVEL_DURABLE) {
            if (i + 1 < client->next) { /* what follows at the other level may pass it */
                struct fake_taken *following = slot_at(client, i + 1);
                if (!following->ended && following->level == LEAT_LEVEL_REPLICATED)
                    client_end(client, following, LEAT_OK, 64, 0);
            }
            break;
        }
        uint64_t detail;
        int refused = slot->log_id == 1 ? judge(node, &slot->record, &detail) : LEAT_OK;
        session->last_sequence = slot->sequence;
        if (refused != LEAT_OK) {
            client_end_as(client, slot, refused, slot->sequence * 64, 0, detail);
            continue;
        }
        if (slot->log_id == 1 && slot->record.kind == LEAT_RING_FENCE)
            node->fence_epoch = slot->record.writer_epoch;
        else if (slot->log_id == 1)
            node->next_offset += slot->record.kind == LEAT_RING_BATCH ? node->batch_count : 1;
        record(node, client, slot);
        client_end(client, slot, LEAT_OK, slot->sequence * 64, 0);
    }
    uint64_t released = 0;
    while (client->first < client->next && slot_at(client, client->first)->ended)
        released = slot_at(client, client->first++)->ring_end;
    if (client->first == client->next)
        released = client->taken;
    if (released > client->rings->answers->head.value)
        __atomic_store_n(&client->rings->answers->head.value, released, __ATOMIC_RELEASE);
}

static int client_attach(struct fake_node *node, struct node_rings *rings)
{
    int refusal = atomic_exchange(&node->refusal, 0);
    if (refusal != 0)
        return refusal;
    for (unsigned i = 0; i < 4; i++) {
        if (node->clients[i].rings)
            continue;
        node->clients[i] = (struct fake_client){
            .rings = rings,
            .slots = calloc(rings->completion_count, sizeof(struct fake_taken)),
        };
        rings->slot = i;
        atomic_fetch_add(&node->attached, 1);
        atomic_fetch_add(&node->attaches, 1);
        return LEAT_OK;
    }
    return LEAT_EAGAIN;
}

static void client_detach(struct fake_node *node, struct node_rings *rings)
{
    struct fake_client *client = &node->clients[rings->slot];
    LEAT_ASSERT(client->rings == rings);
    free(client->slots);
    memset(client, 0, sizeof(*client));
    atomic_fetch_sub(&node->attached, 1);
}

/* ---- the worker ---- */

static void list_logs(struct node_catalogue *catalogue)
{
    static const char *const names[] = {"leat", "default", "other"};
    for (uint32_t i = 0; i < 3; i++) {
        struct leat_catalogue_row row = {
            .log_id = i,
            .generation = 1,
            .entry_bytes_max = FAKE_ENTRY_BYTES,
            .segment_bytes = FAKE_SEGMENT_BYTES,
            .arena_bytes = FAKE_ARENA_BYTES,
            .retention_bytes = i == 2 ? 8u << 20 : 0,
            .retention_ns = i == 2 ? 600000000000u : 0,
        };
        snprintf(row.name, sizeof(row.name), "%s", names[i]);
        catalogue->rows[catalogue->count++] = row;
    }
}

static void run_command(struct fake_node *node, struct node_command *command)
{
    switch (command->kind) {
    case NODE_COMMAND_ATTACH:
        command->error = client_attach(node, command->rings);
        break;
    case NODE_COMMAND_DETACH:
        client_detach(node, command->rings);
        break;
    case NODE_COMMAND_LOG:
        if (command->log_id == 1 || command->log_id == 2)
            command->descriptor =
                fcntl(command->log_id == 1 ? node->log.descriptor : node->other.descriptor,
                      F_DUPFD_CLOEXEC, 0);
        else
            command->error = LEAT_ENOLOG;
        break;
    case NODE_COMMAND_SEGMENT: {
        int rc = LEAT_EVERIFYING;
        if (atomic_load(&node->verifying) > 0)
            atomic_fetch_sub(&node->verifying, 1);
        else
            rc = fake_log_segment(&node->log, command->position, &command->ret_position);
        command->error = rc < 0 ? rc : LEAT_OK;
        command->descriptor = rc < 0 ? -1 : rc;
        break;
    }
    case NODE_COMMAND_INDEX: {
        atomic_fetch_add(&node->index_asked, 1);
        int rc = fake_log_index(&node->log, command->position, &command->ret_position);
        command->error = rc < 0 ? rc : LEAT_OK;
        command->descriptor = rc < 0 ? -1 : rc;
        break;
    }
    case NODE_COMMAND_STATUS:
        break; /* there is but one part */
    case NODE_COMMAND_CATALOGUE:
        list_logs(command->catalogue);
        break;
    case NODE_COMMAND_TAIL:
        command->ret_position = node->log.chain.position;
        command->ret_offset = node->log.chain.next_offset;
        break;
    default:
        snprintf(command->text, command->text_bytes, "kind %d log %u node %u position %llu",
                 (int)command->kind, command->log_id, command->node_id,
                 (unsigned long long)command->position);
        break;
    }
    atomic_store_explicit(&command->done, true, memory_order_release);
}

/* The state that the control thread gathers: here it is the same, whoever is asked. */
struct node_status {
    bool told;
};

struct node_status *node_status_new(bool one, uint32_t log_id)
{
    (void)one, (void)log_id;
    return calloc(1, sizeof(struct node_status));
}

void node_status_free(struct node_status *status)
{
    free(status);
}

bool node_status_next(struct node_status *status, uint32_t worker_count, uint32_t *ret_worker)
{
    bool more = !status->told;
    (void)worker_count;
    status->told = true;
    *ret_worker = 0;
    return more;
}

char *node_status_json(struct node_status *status)
{
    (void)status;
    return strdup("{\"node\":1}");
}

static void *worker_thread(void *context)
{
    struct fake_node *node = context;
    while (!atomic_load(&node->stop)) {
        struct node_command *command = node_commands_pop(&node->commands);
        if (command)
            run_command(node, command);
        int close_with = atomic_exchange(&node->close_with, 0);
        for (unsigned i = 0; i < 4; i++) {
            struct fake_client *client = &node->clients[i];
            if (!client->rings)
                continue;
            if (close_with != 0)
                __atomic_store_n(&client->rings->answers->closed.value,
                                 (uint64_t)(int64_t)close_with, __ATOMIC_RELEASE);
            if (atomic_load(&node->deaf))
                continue;
            client_take(node, client);
            client_answer(node, client);
        }
        fake_pause();
    }
    return NULL;
}

void fake_node_come_up(struct fake_node *node)
{
    char error[256] = "";
    struct leat_uuid instance;
    LEAT_ASSERT(leat_uuid_random(&instance) == LEAT_OK);
    atomic_store(&node->stop, false);
    struct node_commands *queue = &node->commands;
    int rc =
        node_control_start(&node->config, &instance, &queue, &node->control, error, sizeof(error));
    if (rc != LEAT_OK)
        fprintf(stderr, "%s\n", error);
    LEAT_ASSERT(rc == LEAT_OK);
    LEAT_ASSERT(pthread_create(&node->thread, NULL, worker_thread, node) == 0);
}

void fake_node_go_down(struct fake_node *node)
{
    node_control_stop(node->control);
    atomic_store(&node->stop, true);
    pthread_join(node->thread, NULL);
}

struct fake_node *fake_node_start(bool accepts_replicated)
{
    struct fake_node *node = NULL;
    LEAT_ASSERT(posix_memalign((void **)&node, 64, sizeof(*node)) == 0);
    memset(node, 0, sizeof(*node));
    const char *parent = getenv("TMPDIR");
    if (!parent || strlen(parent) > FAKE_PARENT_BYTES_MAX) /* a socket's path is short */
        parent = "/tmp";
    snprintf(node->directory, sizeof(node->directory), "%s/leat-client-XXXXXX", parent);
    LEAT_ASSERT(mkdtemp(node->directory));
    snprintf(node->config.socket, sizeof(node->config.socket), "%s/leat.sock", node->directory);
    node->config.node_id = 1;
    node->config.worker_count = 1;
    node->config.quota_sessions = 16;
    node->config.quota_memory_bytes = 256u << 20;
    fake_log_open(&node->log, node->directory, 1, accepts_replicated);
    fake_log_open(&node->other, node->directory, 2, accepts_replicated);
    fake_node_come_up(node);
    return node;
}

void fake_node_stop(struct fake_node *node)
{
    fake_node_go_down(node);
    fake_log_close(&node->log);
    fake_log_close(&node->other);
    LEAT_ASSERT(rmdir(node->directory) == 0); /* nothing of ours stays behind */
    free(node);
}

struct leat_client *fake_attach(struct fake_node *node, size_t ring_bytes, uint32_t in_flight)
{
    struct leat_client *client = NULL;
    struct leat_options options = {
        .socket = node->config.socket,
        .ring_bytes = ring_bytes,
        .in_flight_max = in_flight,
    };
    int rc = leat_attach(&options, &client);
    if (rc != LEAT_OK)
        fprintf(stderr, "attach: %s\n", leat_error_text(rc));
    return client;
}
