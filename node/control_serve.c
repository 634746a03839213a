/* SPDX-License-Identifier: Apache-2.0
 *
 * One request of a control connection: checked, answered here or by the worker, replied to. What
 * comes in is hostile until checked; every refusal is a reply of constant size and is counted. A
 * packet that is not a request at all also ends the connection. Replies never wait: a client that
 * does not take them is hung up on.
 * Control thread. Tests: tests/client/test_control.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "catalogue.h"
#include "control_private.h"
#include "leat/error.h"

struct reply {
    int error;
    uint64_t position, offset;
    const char *text;
    uint32_t text_bytes;
    int descriptors[2];
    uint32_t descriptor_count;
};

static bool reply_send(struct node_control *control, struct control_connection *connection,
                       const struct reply *reply)
{
    struct leat_control_reply head = {
        .magic = LEAT_CONTROL_MAGIC,
        .version = LEAT_CONTROL_VERSION,
        .kind = connection->kind,
        .error = reply->error,
        .node_id = control->config->node_id,
        .instance = control->instance,
        .position = reply->position,
        .offset = reply->offset,
        .text_bytes = reply->text_bytes,
        .descriptor_count = reply->descriptor_count,
    };
    struct iovec parts[2] = {{&head, sizeof(head)}, {(void *)reply->text, reply->text_bytes}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } ancillary;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = reply->text_bytes ? 2 : 1};
    memset(&ancillary, 0, sizeof(ancillary));
    if (reply->descriptor_count > 0) {
        LEAT_ASSERT(reply->descriptor_count <= 2);
        size_t bytes = reply->descriptor_count * sizeof(int);
        message.msg_control = ancillary.bytes;
        message.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(rights), reply->descriptors, bytes);
    }
    ssize_t sent = sendmsg(connection->descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        control->dropped_slow++;
    return sent >= 0;
}

static bool reply_error(struct node_control *control, struct control_connection *connection,
                        int error, const char *text)
{
    struct reply reply = {.error = error, .text = text, .text_bytes = (uint32_t)strlen(text)};
    return reply_send(control, connection, &reply);
}

static bool refuse(struct node_control *control, struct control_connection *connection, int error,
                   const char *text)
{
    control->refused_requests++;
    return reply_error(control, connection, error, text);
}

/* ---- attaching ---- */

static uint64_t ring_memory_of(const struct node_control *control, uint32_t uid)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        if (control->connections[i].state != CONTROL_FREE && control->connections[i].uid == uid)
            bytes += control->connections[i].ring_memory_bytes;
    }
    return bytes;
}

static uint32_t sessions_of(const struct node_control *control, uint32_t uid)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        count += control->connections[i].state != CONTROL_FREE && control->connections[i].rings &&
                 control->connections[i].uid == uid;
    return count;
}

static bool serve_attach(struct node_control *control, struct control_connection *connection,
                         const struct leat_control_request *request)
{
    uint64_t memory = rings_memory_bytes(request->ring_bytes, request->completion_count,
                                         control->config->worker_count);
    bool limited = !connection->operates;
    if (connection->rings)
        return refuse(control, connection, LEAT_EEXISTS, "this connection has its rings");
    if (leat_uuid_is_zero(&request->client))
        return refuse(control, connection, LEAT_EINVAL, "a zero client id");
    if (memory == 0)
        return refuse(control, connection, LEAT_EINVAL,
                      "ring sizes are powers of two within the limits");
    if (ring_memory_of(control, connection->uid) + memory >
        (limited ? control->config->quota_memory_bytes : CONTROL_RING_BYTES_PER_UID_MAX))
        return refuse(control, connection, LEAT_EQUOTA,
                      "this user's rings would take more memory than quotas.memory allows");
    if (limited && sessions_of(control, connection->uid) >= control->config->quota_sessions)
        return refuse(control, connection, LEAT_EQUOTA,
                      "this user has as many sessions as quotas.sessions allows");
    struct rings_descriptors descriptors;
    struct leat_uuid client = request->client;
    node_client_stamp(&client, limited ? connection->uid : NODE_ADMIN_OPERATOR);
    int rc = rings_make(&client, connection->uid, &control->instance, request->ring_bytes,
                        request->completion_count, control->config->worker_count,
                        &connection->rings, &descriptors);
    if (rc != LEAT_OK)
        return reply_error(control, connection, rc, "the rings could not be made");
    connection->client_region = descriptors.client_region;
    connection->ring_memory_bytes = memory;
    connection->worker = request->log_id % control->config->worker_count;
    struct reply reply = {
        .position = control->config->worker_count,
        .descriptors = {descriptors.client_region, descriptors.node_region},
        .descriptor_count = 2,
    };
    bool sent = reply_send(control, connection, &reply);
    close(descriptors.node_region);
    return sent;
}

/* ---- commands ---- */

/* Logs lie on workers by id; the catalogue's are worker 0's; a client's rings stay where they are.
 */
static uint32_t worker_of(const struct node_control *control,
                          const struct control_connection *connection, enum node_command_kind kind,
                          uint32_t log_id)
{
    if (kind == NODE_COMMAND_ATTACH)
        return connection->worker;
    if (kind == NODE_COMMAND_CHANGE || kind == NODE_COMMAND_CATALOGUE)
        return 0;
    return log_id % control->config->worker_count;
}

static bool push_command(struct node_control *control, struct control_connection *connection,
                         enum node_command_kind kind, const struct leat_control_request *request)
{
    struct node_command *command = &connection->command;
    memset(command, 0, sizeof(*command));
    command->kind = kind;
    command->log_id = request->log_id;
    command->node_id = request->node_id;
    command->position = request->position;
    command->rings = connection->rings;
    command->change = request->change;
    command->uid = connection->operates ? NODE_ADMIN_OPERATOR : connection->uid;
    command->descriptor = -1;
    connection->text = calloc(1, LEAT_CONTROL_TEXT_BYTES_MAX);
    if (!connection->text)
        return reply_error(control, connection, LEAT_ENOMEM, "");
    command->text = connection->text;
    command->text_bytes = LEAT_CONTROL_TEXT_BYTES_MAX;
    command->catalogue = connection->catalogue;
    uint32_t worker = worker_of(control, connection, kind, request->log_id);
    if (!node_commands_push(control->queues[worker], command)) {
        free(connection->text);
        connection->text = NULL;
        return reply_error(control, connection, LEAT_EAGAIN, "the node is busy");
    }
    connection->queued = true;
    connection->state = CONTROL_BUSY;
    return true;
}

static bool serve_ready(struct node_control *control, struct control_connection *connection,
                        const struct leat_control_request *request)
{
    if (!connection->rings || connection->attached)
        return refuse(control, connection, LEAT_EINVAL, "nothing waits to become ready");
    if (connection->client_region >= 0) {
        int rc = rings_seal(connection->rings, connection->client_region);
        if (rc != LEAT_OK)
            return reply_error(control, connection, rc, "the rings could not be sealed");
        close(connection->client_region);
        connection->client_region = -1;
    }
    return push_command(control, connection, NODE_COMMAND_ATTACH, request);
}

static bool push_status(struct node_control *control, struct control_connection *connection,
                        uint32_t worker)
{
    struct node_command *command = &connection->command;
    memset(command, 0, sizeof(*command));
    command->kind = NODE_COMMAND_STATUS;
    command->status = connection->status;
    command->descriptor = -1;
    connection->queued = node_commands_push(control->queues[worker], command);
    return connection->queued;
}

static bool serve_status(struct node_control *control, struct control_connection *connection,
                         const struct leat_control_request *request)
{
    uint32_t worker;
    connection->status = node_status_new(request->position == 1, request->log_id);
    if (!connection->status)
        return reply_error(control, connection, LEAT_ENOMEM, "");
    if (!node_status_next(connection->status, control->config->worker_count, &worker) ||
        !push_status(control, connection, worker)) {
        node_status_free(connection->status);
        connection->status = NULL;
        return reply_error(control, connection, LEAT_EAGAIN, "the node is busy");
    }
    connection->state = CONTROL_BUSY;
    return true;
}

static bool serve_logs(struct node_control *control, struct control_connection *connection,
                       const struct leat_control_request *request)
{
    connection->catalogue = calloc(1, sizeof(*connection->catalogue));
    if (!connection->catalogue)
        return reply_error(control, connection, LEAT_ENOMEM, "");
    bool pushed = push_command(control, connection, NODE_COMMAND_CATALOGUE, request);
    if (connection->state == CONTROL_BUSY)
        return pushed;
    free(connection->catalogue);
    connection->catalogue = NULL;
    return pushed;
}

static bool serve_events(struct node_control *control, struct control_connection *connection,
                         const struct leat_control_request *request)
{
    if (!connection->attached)
        return refuse(control, connection, LEAT_EINVAL, "only attached clients are woken");
    if (!connection->events)
        connection->events = events_new();
    if (!connection->events)
        return reply_error(control, connection, LEAT_ENOMEM, "");
    if (request->log_id != 0)
        return push_command(control, connection, NODE_COMMAND_LOG, request);
    struct reply reply = {.descriptors = {events_descriptor(connection->events)},
                          .descriptor_count = 1};
    return reply_send(control, connection, &reply);
}

static bool serve_checked(struct node_control *control, struct control_connection *connection,
                          const struct leat_control_request *request)
{
    if (!connection->allowed) {
        control->refused_user++;
        reply_error(control, connection, LEAT_EPERM, "");
        return false;
    }
    switch (request->kind) {
    case LEAT_CONTROL_ATTACH:
        return serve_attach(control, connection, request);
    case LEAT_CONTROL_READY:
        return serve_ready(control, connection, request);
    case LEAT_CONTROL_LOG:
        return push_command(control, connection, NODE_COMMAND_LOG, request);
    case LEAT_CONTROL_SEGMENT:
        return push_command(control, connection, NODE_COMMAND_SEGMENT, request);
    case LEAT_CONTROL_INDEX:
        return push_command(control, connection, NODE_COMMAND_INDEX, request);
    case LEAT_CONTROL_EVENTS:
        return serve_events(control, connection, request);
    case LEAT_CONTROL_LOGS:
        return serve_logs(control, connection, request);
    case LEAT_CONTROL_TAIL:
        return push_command(control, connection, NODE_COMMAND_TAIL, request);
    case LEAT_CONTROL_CHANGE: /* whose log it may be, the leader judges */
        return push_command(control, connection, NODE_COMMAND_CHANGE, request);
    case LEAT_CONTROL_STATUS:
        return serve_status(control, connection, request);
    default:
        break;
    }
    if (!connection->operates)
        return refuse(control, connection, LEAT_EPERM, "this takes the node's user or root");
    if (request->kind == LEAT_CONTROL_TRANSFER)
        return push_command(control, connection, NODE_COMMAND_TRANSFER, request);
    if (request->kind == LEAT_CONTROL_AMNESIA_ACCEPT)
        return push_command(control, connection, NODE_COMMAND_AMNESIA_ACCEPT, request);
    if (request->kind == LEAT_CONTROL_DAMAGE_ACCEPT)
        return push_command(control, connection, NODE_COMMAND_DAMAGE_ACCEPT, request);
    LEAT_ASSERT(request->kind == LEAT_CONTROL_TRIM);
    return push_command(control, connection, NODE_COMMAND_TRIM, request);
}

bool serve_request(struct node_control *control, struct control_connection *connection)
{
    struct {
        struct leat_control_request request;
        char more; /* a packet that reaches it is too long */
    } packet;
    LEAT_ASSERT(connection->state == CONTROL_IDLE);
    memset(&packet, 0, sizeof(packet));
    /* Without room for ancillary data the kernel closes descriptors that were sent to us. */
    ssize_t length = recv(connection->descriptor, &packet, sizeof(packet), MSG_DONTWAIT);
    if (length < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (length == 0)
        return false;
    connection->heard_ns = control->now_ns;
    const struct leat_control_request *request = &packet.request;
    bool whole = length == (ssize_t)sizeof(*request) && request->magic == LEAT_CONTROL_MAGIC;
    connection->kind = whole ? request->kind : 0;
    if (!whole) {
        refuse(control, connection, LEAT_EPROTO, "not a request");
        return false;
    }
    if (request->version != LEAT_CONTROL_VERSION) {
        refuse(control, connection, LEAT_EVERSION, "");
        return false;
    }
    if (request->kind == 0 || request->kind > LEAT_CONTROL_KIND_LAST)
        return refuse(control, connection, LEAT_EINVAL, "no such kind of request");
    return serve_checked(control, connection, request);
}

/* ---- what the worker answered ---- */

/* A reader's descriptor must not open the file for writing, whatever the worker duplicated. */
static int make_read_only(int descriptor)
{
    char path[64];
    int flags = fcntl(descriptor, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY)
        return descriptor;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    int read_only = open(path, O_RDONLY | O_CLOEXEC);
    close(descriptor);
    return read_only;
}

/* Adds what this thread counts to the workers' JSON object. Takes `text` over; NULL: no memory. */
static char *add_counters(const struct node_control *control, char *text)
{
    size_t length = text ? strlen(text) : 0;
    unsigned open_count = 0, attached = 0;
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        open_count += control->connections[i].state != CONTROL_FREE;
        attached += control->connections[i].attached;
    }
    char more[320];
    int bytes = snprintf(more, sizeof(more),
                         ",\"control\":{\"connections\":%u,\"attached\":%u,\"accepted\":%" PRIu64
                         ",\"refused_full\":%" PRIu64 ",\"refused_user\":%" PRIu64
                         ",\"refused_requests\":%" PRIu64 ",\"dropped_slow\":%" PRIu64 "}}",
                         open_count, attached, control->accepted, control->refused_full,
                         control->refused_user, control->refused_requests, control->dropped_slow);
    char *longer = length > 2 ? realloc(text, length + (size_t)bytes + 1) : NULL;
    if (!longer) {
        free(text);
        return NULL;
    }
    LEAT_ASSERT(longer[length - 1] == '}');
    memcpy(longer + length - 1, more, (size_t)bytes + 1);
    return longer;
}

/* What is too long for a packet goes out as a file in memory that cannot be changed. */
static int make_memfd(const void *bytes, size_t length)
{
    int descriptor = memfd_create("leat-reply", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0)
        return -1;
    for (size_t at = 0; at < length;) {
        ssize_t done = write(descriptor, (const char *)bytes + at, length - at);
        if (done <= 0) {
            close(descriptor);
            return -1;
        }
        at += (size_t)done;
    }
    if (fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
        0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

static bool reply_status(struct node_control *control, struct control_connection *connection)
{
    char *text = add_counters(control, node_status_json(connection->status));
    if (!text)
        return reply_error(control, connection, LEAT_ENOMEM, "");
    size_t length = strlen(text);
    struct reply reply = {.position = length};
    if (length < LEAT_CONTROL_TEXT_BYTES_MAX) {
        reply.text = text;
        reply.text_bytes = (uint32_t)length;
    } else {
        reply.descriptors[0] = make_memfd(text, length);
        reply.descriptor_count = reply.descriptors[0] >= 0;
        reply.error = reply.descriptor_count ? LEAT_OK : LEAT_ENOMEM;
    }
    bool sent = reply_send(control, connection, &reply);
    if (reply.descriptor_count > 0)
        close(reply.descriptors[0]);
    free(text);
    return sent;
}

static bool logs_done(struct node_control *control, struct control_connection *connection)
{
    struct node_catalogue *catalogue = connection->catalogue;
    struct reply reply = {.error = connection->command.error, .position = catalogue->count};
    connection->catalogue = NULL;
    if (reply.error == LEAT_OK) {
        reply.descriptors[0] =
            make_memfd(catalogue->rows, catalogue->count * sizeof(catalogue->rows[0]));
        reply.descriptor_count = reply.descriptors[0] >= 0;
        reply.error = reply.descriptor_count ? LEAT_OK : LEAT_ENOMEM;
    }
    free(catalogue);
    free(connection->text);
    connection->text = NULL;
    bool sent = !connection->hung_up && reply_send(control, connection, &reply);
    if (reply.descriptor_count > 0)
        close(reply.descriptors[0]);
    return sent;
}

/* One worker filled a part: it goes on, or the next does, or all is told. */
static bool status_done(struct node_control *control, struct control_connection *connection)
{
    uint32_t worker;
    bool stays = true;
    bool more = node_status_next(connection->status, control->config->worker_count, &worker);
    if (!connection->hung_up && more)
        stays = push_status(control, connection, worker) ||
                reply_error(control, connection, LEAT_EAGAIN, "the node is busy");
    else if (!connection->hung_up)
        stays = reply_status(control, connection);
    if (!connection->queued) {
        node_status_free(connection->status);
        connection->status = NULL;
    }
    return stays;
}

bool serve_done(struct node_control *control, struct control_connection *connection)
{
    struct node_command *command = &connection->command;
    LEAT_ASSERT(connection->state == CONTROL_BUSY);
    if (command->kind == NODE_COMMAND_STATUS)
        return status_done(control, connection);
    LEAT_ASSERT(connection->text);
    if (command->kind == NODE_COMMAND_CATALOGUE)
        return logs_done(control, connection);
    connection->text[LEAT_CONTROL_TEXT_BYTES_MAX - 1] = 0;
    if (command->kind == NODE_COMMAND_ATTACH && command->error == LEAT_OK)
        connection->attached = true;
    if (connection->kind == LEAT_CONTROL_EVENTS && command->descriptor >= 0) {
        command->error = events_watch(connection->events, command->log_id, command->descriptor);
        close(command->descriptor);
        command->descriptor = -1;
    }
    struct reply reply = {
        .error = command->error, .position = command->ret_position, .offset = command->ret_offset};
    if (command->descriptor >= 0) {
        reply.descriptors[0] = make_read_only(command->descriptor);
        reply.descriptor_count = reply.descriptors[0] >= 0;
        if (reply.descriptor_count == 0)
            reply.error = LEAT_ESYSTEM;
    }
    reply.text = connection->text;
    reply.text_bytes = (uint32_t)strlen(connection->text);
    bool sent = !connection->hung_up && reply_send(control, connection, &reply);
    if (reply.descriptor_count > 0)
        close(reply.descriptors[0]);
    free(connection->text);
    connection->text = NULL;
    return sent;
}
