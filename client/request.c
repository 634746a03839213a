/* SPDX-License-Identifier: Apache-2.0
 *
 * One request and its reply on the node's control socket (base/control.h).
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "client_private.h"

const char *client_socket_path(const char *path)
{
    if (path)
        return path;
    path = getenv("LEAT_SOCKET");
    return path && path[0] ? path : LEAT_DEFAULT_SOCKET;
}

int client_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof(address.sun_path))
        return LEAT_EINVAL;
    memcpy(address.sun_path, path, length);
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return LEAT_ESYSTEM;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof(address)) == 0)
        return descriptor;
    int error = errno;
    close(descriptor);
    if (error == EACCES || error == EPERM)
        return LEAT_EPERM;
    return error == EAGAIN ? LEAT_EAGAIN : LEAT_ESYSTEM;
}

int client_send(int descriptor, const struct leat_control_request *request)
{
    ssize_t sent = send(descriptor, request, sizeof(*request), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)sizeof(*request))
        return LEAT_OK;
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? LEAT_EAGAIN : LEAT_ECLOSED;
}

/* Takes the descriptors out of a message; more than expected are closed. */
static unsigned take_descriptors(struct msghdr *message, int descriptors[2])
{
    unsigned count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t present = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < present; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (count < 2)
                descriptors[count++] = descriptor;
            else
                close(descriptor);
        }
    }
    return count;
}

static bool reply_is_whole(const struct leat_control_reply *head, size_t bytes, unsigned kind,
                           unsigned descriptor_count)
{
    return bytes >= sizeof(*head) && head->magic == LEAT_CONTROL_MAGIC && head->kind == kind &&
           head->text_bytes <= LEAT_CONTROL_TEXT_BYTES_MAX &&
           bytes == sizeof(*head) + head->text_bytes && head->error <= 0 &&
           head->descriptor_count == descriptor_count;
}

int client_receive(int descriptor, unsigned kind, struct client_reply *ret_reply, char *text)
{
    struct client_reply reply = {.descriptors = {-1, -1}, .text = text};
    char ignored[256]; /* an explanation that is not wanted; what is longer is cut off */
    struct iovec parts[2] = {
        {&reply.head, sizeof(reply.head)},
        {text ? text : ignored, text ? LEAT_CONTROL_TEXT_BYTES_MAX : sizeof(ignored)}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } ancillary;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = ancillary.bytes,
                             .msg_controllen = sizeof(ancillary.bytes)};
    ssize_t bytes = recvmsg(descriptor, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    if (bytes < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? LEAT_EAGAIN
                                                                         : LEAT_ECLOSED;
    if (bytes == 0)
        return LEAT_ECLOSED;
    unsigned count = take_descriptors(&message, reply.descriptors);
    if (reply_is_whole(&reply.head, (size_t)bytes, kind, count)) {
        if (text)
            text[reply.head.text_bytes] = 0;
        *ret_reply = reply;
        return LEAT_OK;
    }
    for (unsigned i = 0; i < count; i++)
        close(reply.descriptors[i]);
    return LEAT_EPROTO;
}

int client_exchange(int descriptor, const struct leat_control_request *request,
                    struct client_reply *ret_reply, char *text, uint64_t timeout_ns)
{
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    int rc = client_send(descriptor, request);
    if (rc != LEAT_OK)
        return rc;
    for (;;) {
        rc = client_receive(descriptor, request->kind, ret_reply, text);
        if (rc != LEAT_EAGAIN)
            return rc;
        uint64_t now_ns = client_now_ns();
        if (now_ns >= deadline_ns)
            return LEAT_EDEADLINE;
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        (void)poll(&wait, 1, (int)((deadline_ns - now_ns) / CLIENT_MS) + 1);
    }
}

struct leat_control_request client_request(enum leat_control_kind kind, uint32_t log_id)
{
    return (struct leat_control_request){
        .magic = LEAT_CONTROL_MAGIC,
        .version = LEAT_CONTROL_VERSION,
        .kind = (uint16_t)kind,
        .log_id = log_id,
    };
}

int client_ask(struct leat_client *client, const struct leat_control_request *request,
               struct client_reply *ret_reply)
{
    struct client_reply reply;
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->state == CLIENT_FAILED)
        return client->error;
    if (client->state != CLIENT_UP)
        return LEAT_EAGAIN;
    int rc = client_exchange(client->socket, request, &reply, NULL, CLIENT_REQUEST_NS);
    if (rc != LEAT_OK) { /* an answer that comes later would be taken for another's */
        client_hang_up(client, LEAT_ECLOSED, client_now_ns());
        return LEAT_EAGAIN;
    }
    if (reply.head.error != LEAT_OK) {
        for (unsigned i = 0; i < 2; i++) {
            if (reply.descriptors[i] >= 0)
                close(reply.descriptors[i]);
        }
        return reply.head.error;
    }
    *ret_reply = reply;
    return LEAT_OK;
}
