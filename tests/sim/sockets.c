/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets of the control kind: AF_UNIX, SOCK_SEQPACKET, packets that carry descriptors; eventfd;
 * poll. Nothing blocks but poll.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "files.h"

#define PASSED_MAX 2u

struct packet {
    struct packet *next;
    struct sim_open *passed[PASSED_MAX];
    unsigned passed_count;
    size_t bytes;
    uint8_t data[];
};

struct sim_socket {
    struct sim_socket *peer; /* NULL: it hung up, or there never was one */
    struct packet *first, *last;
    struct sim_socket *next_waiting; /* in a listener's queue */
    bool accepted;
};

struct sim_listener {
    struct sim_socket *waiting;
    struct sim_inode *inode; /* its name */
};

static int refuse(int error_number)
{
    errno = error_number;
    return -1;
}

static void packet_free(struct packet *packet)
{
    for (unsigned i = 0; i < packet->passed_count; i++)
        open_release(packet->passed[i]);
    __real_free(packet);
}

static void socket_free(struct sim_socket *socket)
{
    if (socket->peer)
        socket->peer->peer = NULL;
    while (socket->first) {
        struct packet *packet = socket->first;
        socket->first = packet->next;
        packet_free(packet);
    }
    __real_free(socket);
}

void socket_closed(struct sim_open *open)
{
    if (open->socket)
        socket_free(open->socket);
    if (open->listener) {
        while (open->listener->waiting) {
            struct sim_socket *socket = open->listener->waiting;
            open->listener->waiting = socket->next_waiting;
            socket_free(socket);
        }
        if (open->listener->inode) {
            open->listener->inode->listener = NULL;
            inode_release(open->listener->inode);
        }
        __real_free(open->listener);
    }
    if (open->kind != OPEN_FILE)
        thread_wake_pollers();
}

short socket_ready(const struct sim_open *open)
{
    if (open->kind == OPEN_EVENT)
        return open->count > 0 ? POLLIN : 0;
    if (open->kind == OPEN_LISTENER)
        return open->listener && open->listener->waiting ? POLLIN : 0;
    if (open->kind != OPEN_SOCKET || !open->socket)
        return POLLHUP;
    return (short)((open->socket->first || !open->socket->peer ? POLLIN : 0) |
                   (open->socket->peer ? 0 : POLLHUP | POLLRDHUP));
}

/* ---- making ---- */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
    (void)domain, (void)type, (void)protocol;
    return fd_new(open_new(OPEN_SOCKET));
}

int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
    (void)flags;
    struct sim_open *open = open_new(OPEN_EVENT);
    open->count = count;
    return fd_new(open);
}

int __wrap_bind(int fd, const struct sockaddr_un *address, socklen_t bytes);
int __wrap_bind(int fd, const struct sockaddr_un *address, socklen_t bytes)
{
    struct sim_open *open = open_of(fd);
    struct sim_inode *inode;
    (void)bytes;
    int rc = open ? path_make(address->sun_path, INODE_SOCKET, &inode) : EBADF;
    if (rc != 0)
        return refuse(rc == EEXIST ? EADDRINUSE : rc);
    open->kind = OPEN_LISTENER;
    open->listener = sim_new(sizeof(*open->listener));
    open->listener->inode = inode_hold(inode);
    return 0;
}

int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
    struct sim_open *open = open_of(fd);
    (void)backlog;
    if (!open || open->kind != OPEN_LISTENER)
        return refuse(EBADF);
    open->listener->inode->listener = open->listener;
    return 0;
}

int __wrap_connect(int fd, const struct sockaddr_un *address, socklen_t bytes);
int __wrap_connect(int fd, const struct sockaddr_un *address, socklen_t bytes)
{
    struct sim_open *open = open_of(fd);
    struct sim_inode *inode = path_find(address->sun_path);
    (void)bytes;
    if (!open || open->kind != OPEN_SOCKET)
        return refuse(EBADF);
    if (!inode || inode->kind != INODE_SOCKET)
        return refuse(ENOENT);
    if (!inode->listener)
        return refuse(ECONNREFUSED);
    struct sim_socket *near = sim_new(sizeof(*near)), *far = sim_new(sizeof(*far));
    near->peer = far;
    far->peer = near;
    open->socket = near;
    struct sim_socket **last = &inode->listener->waiting;
    while (*last)
        last = &(*last)->next_waiting;
    *last = far;
    thread_wake_pollers();
    return 0;
}

int __wrap_accept4(int fd, void *address, socklen_t *bytes, int flags);
int __wrap_accept4(int fd, void *address, socklen_t *bytes, int flags)
{
    struct sim_open *listener = open_of(fd);
    (void)address, (void)bytes, (void)flags;
    if (!listener || listener->kind != OPEN_LISTENER || !listener->listener->waiting)
        return refuse(EAGAIN);
    struct sim_open *open = open_new(OPEN_SOCKET);
    open->socket = listener->listener->waiting;
    listener->listener->waiting = open->socket->next_waiting;
    return fd_new(open);
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
    (void)level;
    if (!open_of(fd) || name != SO_PEERCRED || *bytes < sizeof(struct ucred))
        return refuse(ENOPROTOOPT);
    *(struct ucred *)value = (struct ucred){.pid = 1, .uid = geteuid(), .gid = getegid()};
    return 0;
}

/* ---- packets ---- */

static struct sim_socket *socket_of(int fd)
{
    struct sim_open *open = open_of(fd);
    return open && open->kind == OPEN_SOCKET ? open->socket : NULL;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct sim_socket *socket = socket_of(fd);
    size_t bytes = 0;
    (void)flags;
    if (!socket || !socket->peer)
        return refuse(EPIPE);
    for (size_t i = 0; i < message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    struct packet *packet = sim_new(sizeof(*packet) + bytes);
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        memcpy(packet->data + packet->bytes, message->msg_iov[i].iov_base,
               message->msg_iov[i].iov_len);
        packet->bytes += message->msg_iov[i].iov_len;
    }
    struct cmsghdr *rights = message->msg_controllen > 0 ? CMSG_FIRSTHDR(message) : NULL;
    for (size_t i = 0; rights && i < (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
        int passed;
        memcpy(&passed, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
        packet->passed[packet->passed_count++] = open_hold(open_of(passed));
    }
    struct sim_socket *to = socket->peer;
    if (to->last && to->first)
        to->last->next = packet;
    else
        to->first = packet;
    to->last = packet;
    thread_wake_pollers();
    return (ssize_t)bytes;
}

ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags)
{
    struct iovec part = {(void *)(uintptr_t)data, bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return __wrap_sendmsg(fd, &message, flags);
}

static void take_passed(struct packet *packet, struct msghdr *message)
{
    size_t bytes = packet->passed_count * sizeof(int);
    if (bytes == 0 || message->msg_controllen < CMSG_SPACE(bytes)) {
        message->msg_controllen = 0;
        return;
    }
    struct cmsghdr *rights = message->msg_control;
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(bytes);
    message->msg_controllen = CMSG_SPACE(bytes);
    for (unsigned i = 0; i < packet->passed_count; i++) {
        int fd = fd_new(packet->passed[i]);
        memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(int));
    }
    packet->passed_count = 0;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    struct sim_socket *socket = socket_of(fd);
    size_t done = 0;
    (void)flags;
    if (!socket)
        return refuse(EBADF);
    struct packet *packet = socket->first;
    if (!packet)
        return socket->peer ? refuse(EAGAIN) : 0;
    socket->first = packet->next;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        size_t left = packet->bytes - done, room = message->msg_iov[i].iov_len;
        size_t count = left < room ? left : room;
        memcpy(message->msg_iov[i].iov_base, packet->data + done, count);
        done += count;
    }
    ssize_t bytes = (ssize_t)(flags & MSG_TRUNC ? packet->bytes : done);
    if (message->msg_control)
        take_passed(packet, message);
    packet_free(packet);
    return bytes;
}

ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags)
{
    struct iovec part = {data, bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return __wrap_recvmsg(fd, &message, flags);
}

/* ---- poll ---- */

static int poll_look(struct pollfd *polls, nfds_t count)
{
    int ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        const struct sim_open *open = polls[i].fd < 0 ? NULL : open_of(polls[i].fd);
        polls[i].revents = 0;
        if (open)
            polls[i].revents = (short)(socket_ready(open) & (polls[i].events | POLLHUP));
        ready += polls[i].revents != 0;
    }
    return ready;
}

static int poll_until(struct pollfd *polls, nfds_t count, uint64_t until_ns)
{
    int ready = poll_look(polls, count);
    if (ready == 0 && until_ns > world.now_ns) {
        thread_poll_wait(until_ns); /* may have been woken for another: poll() may say 0 early */
        ready = poll_look(polls, count);
    }
    return ready;
}

int __wrap_poll(struct pollfd *polls, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *polls, nfds_t count, int timeout_ms)
{
    return poll_until(polls, count, world.now_ns + (uint64_t)timeout_ms * SIM_MS);
}

int __wrap_ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout,
                 const void *mask);
int __wrap_ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout,
                 const void *mask)
{
    (void)mask;
    if (timeout->tv_sec == 0) /* a command is out: workers spin, and see it at once */
        process_wake_workers(sim_current->process);
    return poll_until(polls, count,
                      world.now_ns + (uint64_t)timeout->tv_sec * SIM_S +
                          (uint64_t)timeout->tv_nsec);
}
