/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket: bound, listened on, polled by one thread; who may come in, and how a
 * connection leaves. States: control_private.h. Requests: control_serve.c.
 *
 * The thread waits only in poll(2). Commands are asked after every LOOK_NS while any is out, since
 * the worker makes no system call to say that it is done.
 * Tests: tests/client/test_control.c.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "control_private.h"
#include "leat/error.h"

#define LOOK_NS         100000
#define PEER_GROUPS_MAX 1024u

static uint64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- who may come in ---- */

static bool gid_is_configured(const struct leat_config *config, gid_t gid)
{
    for (uint32_t i = 0; i < config->client_gid_count; i++) {
        if (config->client_gids[i] == gid)
            return true;
    }
    return false;
}

static bool peer_is_configured(const struct leat_config *config, int descriptor,
                               const struct ucred *peer)
{
    for (uint32_t i = 0; i < config->client_uid_count; i++) {
        if (config->client_uids[i] == peer->uid)
            return true;
    }
    if (gid_is_configured(config, peer->gid))
        return true;
    gid_t groups[PEER_GROUPS_MAX];
    socklen_t bytes = sizeof(groups);
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0)
        return false;
    for (size_t i = 0; i < bytes / sizeof(groups[0]); i++) {
        if (gid_is_configured(config, groups[i]))
            return true;
    }
    return false;
}

static uint32_t connections_of(const struct node_control *control, uint32_t uid)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        count +=
            control->connections[i].state != CONTROL_FREE && control->connections[i].uid == uid;
    return count;
}

static struct control_connection *free_connection(struct node_control *control)
{
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        if (control->connections[i].state == CONTROL_FREE)
            return &control->connections[i];
    }
    return NULL;
}

static void connection_accept(struct node_control *control)
{
    int descriptor = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0)
        return;
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    struct control_connection *connection = free_connection(control);
    bool known = getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0;
    bool operates = known && (peer.uid == 0 || peer.uid == geteuid());
    if (!known || !connection ||
        (!operates && connections_of(control, peer.uid) >= CONTROL_CONNECTIONS_PER_UID_MAX)) {
        control->refused_full++;
        close(descriptor);
        return;
    }
    control->accepted++;
    *connection = (struct control_connection){
        .state = CONTROL_IDLE,
        .descriptor = descriptor,
        .uid = peer.uid,
        .allowed = operates || peer_is_configured(control->config, descriptor, &peer),
        .operates = operates,
        .heard_ns = control->now_ns,
        .client_region = -1,
    };
}

/* ---- how a connection leaves ---- */

static void connection_free(struct control_connection *connection)
{
    LEAT_ASSERT(!connection->queued && !connection->attached);
    events_free(connection->events);
    if (connection->rings)
        rings_free(connection->rings);
    if (connection->client_region >= 0)
        close(connection->client_region);
    close(connection->descriptor);
    LEAT_ASSERT(!connection->status && !connection->catalogue);
    memset(connection, 0, sizeof(*connection));
}

/* Asks the worker to let go of the rings; retried by the loop while the queue is full. */
static void connection_detach(struct node_control *control, struct control_connection *connection)
{
    LEAT_ASSERT(connection->state == CONTROL_LEAVING && !connection->queued);
    memset(&connection->command, 0, sizeof(connection->command));
    connection->command.kind = NODE_COMMAND_DETACH;
    connection->command.rings = connection->rings;
    connection->command.descriptor = -1;
    connection->queued =
        node_commands_push(control->queues[connection->worker], &connection->command);
}

static void connection_leave(struct node_control *control, struct control_connection *connection)
{
    connection->hung_up = true;
    if (connection->state != CONTROL_IDLE)
        return; /* when the worker is done */
    connection->state = CONTROL_LEAVING;
    if (connection->attached)
        connection_detach(control, connection);
    else
        connection_free(connection);
}

static void connection_look(struct node_control *control, struct control_connection *connection)
{
    if (connection->state == CONTROL_LEAVING && !connection->queued) {
        connection_detach(control, connection);
        return;
    }
    if (!connection->queued ||
        !atomic_load_explicit(&connection->command.done, memory_order_acquire))
        return;
    connection->queued = false;
    if (connection->state == CONTROL_LEAVING) {
        connection->attached = false;
        __atomic_store_n(&connection->rings->answers->closed.value, (uint64_t)(int64_t)LEAT_ECLOSED,
                         __ATOMIC_RELEASE);
        connection_free(connection);
        return;
    }
    bool stays = serve_done(control, connection);
    if (connection->queued)
        return; /* it goes on at another worker */
    connection->state = CONTROL_IDLE;
    if (!stays || connection->hung_up)
        connection_leave(control, connection);
}

/* ---- the loop ---- */

struct loop_wait {
    struct pollfd polls[CONTROL_CONNECTIONS_MAX + 2];
    uint32_t connection[CONTROL_CONNECTIONS_MAX + 2];
    nfds_t count;
    bool commands_out;
    bool events; /* somebody may have to be woken */
};

static void loop_fill(const struct node_control *control, struct loop_wait *wait)
{
    wait->polls[0] =
        (struct pollfd){.fd = control->stopping ? -1 : control->wake, .events = POLLIN};
    wait->polls[1] =
        (struct pollfd){.fd = control->stopping ? -1 : control->listener, .events = POLLIN};
    wait->count = 2;
    wait->commands_out = false;
    wait->events = false;
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        const struct control_connection *connection = &control->connections[i];
        wait->commands_out |=
            connection->state == CONTROL_BUSY || connection->state == CONTROL_LEAVING;
        wait->events |= connection->events != NULL;
        if (connection->state == CONTROL_FREE || connection->hung_up)
            continue;
        short events = POLLRDHUP | (connection->state == CONTROL_IDLE ? POLLIN : 0);
        wait->connection[wait->count] = i;
        wait->polls[wait->count++] =
            (struct pollfd){.fd = connection->descriptor, .events = events};
    }
}

static void loop_serve(struct node_control *control, const struct loop_wait *wait)
{
    for (nfds_t i = 2; i < wait->count; i++) {
        struct control_connection *connection = &control->connections[wait->connection[i]];
        short events = wait->polls[i].revents;
        if (connection->state == CONTROL_IDLE && (events & POLLIN) &&
            !serve_request(control, connection))
            connection_leave(control, connection);
        else if (connection->state != CONTROL_FREE &&
                 (events & (POLLHUP | POLLERR | POLLNVAL | POLLRDHUP)))
            connection_leave(control, connection);
    }
}

static void loop_wake(struct node_control *control)
{
    if (control->now_ns - control->events_ns < CONTROL_EVENTS_NS)
        return;
    control->events_ns = control->now_ns;
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        struct control_connection *connection = &control->connections[i];
        if (connection->state != CONTROL_FREE && connection->events && connection->rings)
            events_look(connection->events, connection->rings);
    }
}

static void loop_look(struct node_control *control)
{
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        struct control_connection *connection = &control->connections[i];
        if (connection->state == CONTROL_FREE)
            continue;
        connection_look(control, connection);
        if (connection->state == CONTROL_IDLE &&
            (control->stopping ||
             (!connection->attached && control->now_ns - connection->heard_ns > CONTROL_IDLE_NS)))
            connection_leave(control, connection);
    }
}

static bool loop_is_empty(const struct node_control *control)
{
    for (uint32_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        if (control->connections[i].state != CONTROL_FREE)
            return false;
    }
    return true;
}

static void *control_thread(void *context)
{
    struct node_control *control = context;
    struct loop_wait wait;
    uint64_t stop_ns = 0;
    for (;;) {
        loop_fill(control, &wait);
        bool looks = wait.commands_out || wait.events;
        struct timespec timeout = {.tv_sec = looks ? 0 : 1,
                                   .tv_nsec = wait.commands_out ? LOOK_NS
                                              : wait.events     ? (long)CONTROL_EVENTS_NS
                                                                : 0};
        int ready = ppoll(wait.polls, wait.count, &timeout, NULL);
        control->now_ns = clock_now_ns();
        if (ready > 0 && wait.polls[0].revents && !control->stopping) {
            control->stopping = true;
            stop_ns = control->now_ns + CONTROL_STOP_NS;
        }
        if (ready > 0)
            loop_serve(control, &wait);
        if (ready > 0 && !control->stopping && (wait.polls[1].revents & POLLIN))
            connection_accept(control);
        loop_look(control);
        if (wait.events)
            loop_wake(control);
        if (control->stopping && (loop_is_empty(control) || control->now_ns > stop_ns))
            return NULL;
    }
}

/* ---- start and stop ---- */

static bool socket_is_stale(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return false;
    int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return false;
    int rc = connect(probe, (const struct sockaddr *)address, sizeof(*address));
    bool stale = rc != 0 && errno == ECONNREFUSED;
    close(probe);
    return stale;
}

/* Its mode holds from the moment it can be seen: bind takes the descriptor's. */
static int socket_bind(struct node_control *control, const struct leat_config *config, char *error,
                       unsigned error_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    bool others = config->client_uid_count + config->client_gid_count > 0;
    LEAT_ASSERT(strlen(config->socket) < sizeof(address.sun_path));
    memcpy(address.sun_path, config->socket, strlen(config->socket));
    fchmod(control->listener, 0600);
    int rc = bind(control->listener, (struct sockaddr *)&address, sizeof(address));
    if (rc != 0 && errno == EADDRINUSE && socket_is_stale(&address)) {
        unlink(config->socket);
        rc = bind(control->listener, (struct sockaddr *)&address, sizeof(address));
    }
    if (rc != 0) {
        snprintf(error, error_bytes, "%s: %s", config->socket,
                 errno == EADDRINUSE ? "another node listens here, or it is not a socket"
                                     : strerror(errno));
        return errno == EADDRINUSE ? LEAT_EINUSE : LEAT_ESYSTEM;
    }
    struct stat status;
    if (lstat(config->socket, &status) == 0) {
        control->socket_device = status.st_dev;
        control->socket_inode = status.st_ino;
    }
    if ((others && chmod(config->socket, 0666) != 0) || listen(control->listener, 64) != 0) {
        snprintf(error, error_bytes, "%s: %s", config->socket, strerror(errno));
        unlink(config->socket);
        return LEAT_ESYSTEM;
    }
    return LEAT_OK;
}

static int thread_start(struct node_control *control)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    int rc = pthread_create(&control->thread, NULL, control_thread, control);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? LEAT_OK : LEAT_ESYSTEM;
}

static void socket_remove(const struct node_control *control)
{
    struct stat status;
    if (lstat(control->socket, &status) == 0 && status.st_dev == control->socket_device &&
        status.st_ino == control->socket_inode)
        unlink(control->socket);
}

int node_control_start(const struct leat_config *config, const struct leat_uuid *instance,
                       struct node_commands *const *queues, struct node_control **ret_control,
                       char *error, unsigned error_bytes)
{
    struct node_control *control = calloc(1, sizeof(*control));
    if (!control) {
        snprintf(error, error_bytes, "out of memory for the control socket");
        return LEAT_ENOMEM;
    }
    control->config = config;
    control->instance = *instance;
    LEAT_ASSERT(config->worker_count >= 1 && config->worker_count <= LEAT_WORKERS_MAX);
    memcpy(control->queues, queues, config->worker_count * sizeof(*queues));
    control->now_ns = clock_now_ns();
    snprintf(control->socket, sizeof(control->socket), "%s", config->socket);
    control->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    control->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = LEAT_ESYSTEM;
    if (control->listener < 0 || control->wake < 0)
        snprintf(error, error_bytes, "the control socket: %s", strerror(errno));
    else
        rc = socket_bind(control, config, error, error_bytes);
    if (rc == LEAT_OK) {
        rc = thread_start(control);
        if (rc == LEAT_OK) {
            *ret_control = control;
            return LEAT_OK;
        }
        snprintf(error, error_bytes, "the control thread cannot be started");
        socket_remove(control);
    }
    if (control->listener >= 0)
        close(control->listener);
    if (control->wake >= 0)
        close(control->wake);
    free(control);
    return rc;
}

void node_control_stop(struct node_control *control)
{
    uint64_t one = 1;
    socket_remove(control); /* first: a client that comes now finds nothing and waits for a node */
    if (write(control->wake, &one, sizeof(one)) != sizeof(one))
        LEAT_ASSERT(!"an eventfd takes its first count");
    pthread_join(control->thread, NULL);
    close(control->listener);
    close(control->wake);
    if (loop_is_empty(control))
        free(control);
    /* else a worker that does not answer still holds rings and commands: they stay mapped */
}
