/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection to the node: attach, notice its end, attach again under the same identity, or
 * under a new one after a session's end (states: client_private.h). Nothing here blocks but
 * leat_attach, which drives the same machine.
 *
 * The end is noticed by the socket (looked at every CLIENT_LOOK_NS, no oftener: a system call) or
 * by the `closed` word. Appends that the old ring's node had not answered are put into the new ring
 * with their sequences, so that the session sorts out which of them it has.
 */
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "client_private.h"

uint64_t client_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t client_deadline(uint64_t now_ns, uint64_t timeout_ns)
{
    return timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
}

void client_pause(struct client_pace *pace)
{
    if (++pace->looks < CLIENT_SPINS) {
        __builtin_ia32_pause();
        return;
    }
    uint64_t now_ns = client_now_ns();
    if (pace->looks == CLIENT_SPINS)
        pace->yields_until_ns = now_ns + CLIENT_YIELD_NS;
    if (now_ns < pace->yields_until_ns)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = CLIENT_SLEEP_NS}, NULL);
}

/* ---- mappings ---- */

static size_t client_region_bytes(const struct leat_client *client)
{
    return LEAT_RING_HEADER_BYTES + client->ring_bytes;
}

static size_t node_region_bytes(const struct leat_client *client)
{
    return LEAT_RING_HEADER_BYTES + client->table_count * sizeof(struct leat_completion);
}

void client_rings_unmap(const struct leat_client *client, struct client_rings *rings)
{
    if (rings->shared)
        munmap(rings->shared, client_region_bytes(client));
    if (rings->answers)
        munmap((void *)rings->answers, node_region_bytes(client));
    memset(rings, 0, sizeof(*rings));
}

static void *map_region(int descriptor, size_t bytes, int protection)
{
    struct stat status;
    if (descriptor < 0 || fstat(descriptor, &status) != 0 || (size_t)status.st_size != bytes)
        return NULL;
    void *map = mmap(NULL, bytes, protection, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    return map == MAP_FAILED ? NULL : map;
}

static int map_rings(const struct leat_client *client, const int descriptors[2],
                     struct client_rings *ret_rings)
{
    struct client_rings rings = {0};
    rings.shared = map_region(descriptors[0], client_region_bytes(client), PROT_READ | PROT_WRITE);
    rings.answers = map_region(descriptors[1], node_region_bytes(client), PROT_READ);
    if (!rings.shared || !rings.answers || rings.answers->ring_bytes != client->ring_bytes ||
        rings.answers->completion_count != client->table_count) {
        client_rings_unmap(client, &rings);
        return LEAT_EPROTO;
    }
    rings.records = (uint8_t *)rings.shared + LEAT_RING_HEADER_BYTES;
    rings.completions = (const void *)((const uint8_t *)rings.answers + LEAT_RING_HEADER_BYTES);
    *ret_rings = rings;
    return LEAT_OK;
}

/* ---- the machine ---- */

static bool is_final(int error)
{
    return error == LEAT_EPROTO || error == LEAT_EPERM || error == LEAT_EVERSION ||
           error == LEAT_EINVAL;
}

static void let_go(struct leat_client *client)
{
    if (client->socket >= 0)
        close(client->socket);
    client->socket = -1;
    client_rings_unmap(client, &client->fresh);
    client->state = CLIENT_DOWN;
}

void client_hang_up(struct leat_client *client, int error, uint64_t now_ns)
{
    if (client->state == CLIENT_FAILED)
        return;
    let_go(client);
    client->error = error;
    client->backoff_ns = client->backoff_ns == 0 ? CLIENT_BACKOFF_FIRST_NS : 2 * client->backoff_ns;
    if (client->backoff_ns > CLIENT_BACKOFF_LAST_NS)
        client->backoff_ns = CLIENT_BACKOFF_LAST_NS;
    client->retry_ns = now_ns + client->backoff_ns;
    if (is_final(error)) {
        client->state = CLIENT_FAILED;
        client_end_all(client, error, now_ns);
    }
}

static void drive_down(struct leat_client *client, uint64_t now_ns)
{
    if (now_ns < client->retry_ns)
        return;
    int socket = client_connect(client->path);
    if (socket < 0) {
        client_hang_up(client, socket, now_ns);
        return;
    }
    client->socket = socket;
    /* of the worker that most appends are for; those of other logs are handed over in the node */
    struct leat_control_request request = client_request(LEAT_CONTROL_ATTACH, LEAT_DEFAULT_LOG);
    request.client = client->id;
    request.ring_bytes = client->ring_bytes;
    request.completion_count = client->table_count;
    int rc = client_send(socket, &request);
    if (rc != LEAT_OK) {
        client_hang_up(client, rc, now_ns);
        return;
    }
    client->state = CLIENT_ASKED;
    client->asked_ns = now_ns;
}

/* 0: the reply came and is good. EAGAIN: not yet. Else the client hung up. */
static int await_reply(struct leat_client *client, enum leat_control_kind kind,
                       struct client_reply *reply, uint64_t now_ns)
{
    int rc = client_receive(client->socket, kind, reply, NULL);
    if (rc == LEAT_EAGAIN && now_ns - client->asked_ns < CLIENT_ATTACH_NS)
        return LEAT_EAGAIN;
    if (rc == LEAT_EAGAIN)
        rc = LEAT_EDEADLINE;
    if (rc == LEAT_OK)
        rc = reply->head.error; /* a refusal carries no descriptors */
    if (rc != LEAT_OK)
        client_hang_up(client, rc, now_ns);
    return rc;
}

static void drive_asked(struct leat_client *client, uint64_t now_ns)
{
    struct client_reply reply;
    if (await_reply(client, LEAT_CONTROL_ATTACH, &reply, now_ns) != LEAT_OK)
        return;
    int rc = map_rings(client, reply.descriptors, &client->fresh);
    for (unsigned i = 0; i < 2; i++) {
        if (reply.descriptors[i] >= 0)
            close(reply.descriptors[i]);
    }
    struct leat_control_request request = client_request(LEAT_CONTROL_READY, 0);
    if (rc == LEAT_OK)
        rc = client_send(client->socket, &request);
    if (rc != LEAT_OK) {
        client_hang_up(client, rc, now_ns);
        return;
    }
    client->state = CLIENT_MAPPED;
}

static void drive_mapped(struct leat_client *client, uint64_t now_ns)
{
    struct client_reply reply;
    if (await_reply(client, LEAT_CONTROL_READY, &reply, now_ns) != LEAT_OK)
        return;
    struct client_rings before = client->rings;
    if (before.shared)
        client_take_completions(client, now_ns); /* what the old node answered stands */
    if (client->state != CLIENT_MAPPED)
        return; /* its answers broke the protocol */
    client->rings = client->fresh;
    memset(&client->fresh, 0, sizeof(client->fresh));
    client_resubmit(client, &before);
    if (client->claimed && !client->claim_rings.shared)
        client->claim_rings = before; /* the application is writing there */
    else
        client_rings_unmap(client, &before);
    client->state = CLIENT_UP;
    if (client->identity == CLIENT_ID_FRESH)
        client->identity = CLIENT_ID_GOOD;
    client->attach_count++;
    client->backoff_ns = 0;
    client->looked_ns = now_ns;
}

void client_look(struct leat_client *client, uint64_t now_ns)
{
    int64_t closed = (int64_t)client_load(&client->rings.answers->closed.value);
    if (closed < 0) {
        client_hang_up(client, (int)closed, now_ns);
        return;
    }
    if (now_ns - client->looked_ns < CLIENT_LOOK_NS)
        return;
    client->looked_ns = now_ns;
    struct pollfd look = {.fd = client->socket, .events = POLLRDHUP};
    if (poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        client_hang_up(client, LEAT_ECLOSED, now_ns);
}

/* What the node has not answered is forgotten with the old identity, never resent. */
static void identity_renew(struct leat_client *client)
{
    if (leat_uuid_random(&client->id) != LEAT_OK)
        return; /* again at the next look */
    let_go(client);
    client->first = client->next;
    client_logs_begin(client);
    client->identity = CLIENT_ID_FRESH;
}

void client_drive(struct leat_client *client, uint64_t now_ns)
{
    if (client->identity == CLIENT_ID_SPENT && client->state != CLIENT_FAILED &&
        client_all_taken(client) && client_goodbye(client, now_ns))
        identity_renew(client);
    switch (client->state) {
    case CLIENT_DOWN:
        drive_down(client, now_ns);
        break;
    case CLIENT_ASKED:
        drive_asked(client, now_ns);
        break;
    case CLIENT_MAPPED:
        drive_mapped(client, now_ns);
        break;
    case CLIENT_UP:
        client_look(client, now_ns);
        break;
    case CLIENT_FAILED:
        break;
    }
}

/* ---- attach and detach ---- */

static uint64_t table_count_for(uint32_t in_flight_max)
{
    uint64_t count = LEAT_RING_COMPLETIONS_MIN;
    while (count < in_flight_max)
        count *= 2;
    return count;
}

static int client_make(const struct leat_options *options, struct leat_client **ret_client)
{
    uint64_t ring_bytes = options->ring_bytes ? options->ring_bytes : CLIENT_RING_BYTES;
    uint32_t in_flight = options->in_flight_max ? options->in_flight_max : CLIENT_IN_FLIGHT;
    const char *path = client_socket_path(options->socket);
    if (ring_bytes < LEAT_RING_BYTES_MIN || ring_bytes > LEAT_RING_BYTES_MAX ||
        (ring_bytes & (ring_bytes - 1)) != 0 || in_flight > LEAT_RING_COMPLETIONS_MAX ||
        strlen(path) >= sizeof(((struct leat_client *)NULL)->path))
        return LEAT_EINVAL;
    struct leat_client *client = calloc(1, sizeof(*client));
    if (!client)
        return LEAT_ENOMEM;
    client->socket = client->wake = client->wake_event = client->wake_timer = -1;
    client->process = client_process();
    snprintf(client->path, sizeof(client->path), "%s", path);
    client->ring_bytes = ring_bytes;
    client->in_flight_max = in_flight;
    client->table_count = table_count_for(in_flight);
    client->deadline_next_ns = UINT64_MAX;
    client->appends = calloc(client->table_count, sizeof(*client->appends));
    int rc = client->appends && client->process != 0 ? LEAT_OK : LEAT_ENOMEM;
    if (rc == LEAT_OK)
        rc = leat_uuid_random(&client->id);
    if (rc != LEAT_OK) {
        leat_detach(client);
        return rc;
    }
    *ret_client = client;
    return LEAT_OK;
}

int leat_attach(const struct leat_options *options, struct leat_client **ret_client)
{
    static const struct leat_options defaults;
    struct leat_client *client;
    if (!options)
        options = &defaults;
    int rc = client_make(options, &client);
    if (rc != LEAT_OK)
        return rc;
    uint64_t timeout_ns =
        options->attach_timeout_ns ? options->attach_timeout_ns : CLIENT_ATTACH_NS;
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    struct client_pace pace = {.looks = CLIENT_SPINS - 1}; /* no spinning */
    while (client->state != CLIENT_UP) {
        uint64_t now_ns = client_now_ns();
        client_drive(client, now_ns);
        rc = client->state == CLIENT_FAILED ? client->error
             : now_ns < deadline_ns         ? LEAT_OK
             : client->error != LEAT_OK     ? client->error
                                            : LEAT_EDEADLINE;
        if (client->state != CLIENT_UP && rc != LEAT_OK) {
            leat_detach(client);
            return rc;
        }
        client_pause(&pace);
    }
    *ret_client = client;
    return LEAT_OK;
}

void leat_detach(struct leat_client *client)
{
    if (!client)
        return;
    if (!client_is_forked(client))
        client_goodbye_and_wait(client);
    if (client->socket >= 0)
        close(client->socket);
    client_wake_close(client);
    client_rings_unmap(client, &client->rings);
    client_rings_unmap(client, &client->fresh);
    client_rings_unmap(client, &client->claim_rings);
    for (uint32_t i = 0; i < client->log_count; i++) {
        client_log_unmap(&client->logs[i]);
        free(client->logs[i].places);
    }
    free(client->logs);
    free(client->appends);
    free(client);
}
