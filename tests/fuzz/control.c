/* SPDX-License-Identifier: Apache-2.0
 *
 * Packets to the control socket of the tests' fake node: each is answered, or the connection is
 * closed, whatever it holds; and the node serves the next connection. The socket's threads are
 * real.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_node.h"
#include "fuzz.h"

#define PACKETS_MAX     16u
#define PACKET_BYTES    1024u
#define RING_BYTES_MOST (256u << 10) /* larger ones cost time and show nothing else */

static struct fake_node *node;

static void node_stop(void)
{
    fake_node_stop(node);
}

static int control_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = 10};
    memcpy(address.sun_path, node->config.socket, strlen(node->config.socket));
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    LEAT_ASSERT(descriptor >= 0);
    LEAT_ASSERT(connect(descriptor, (struct sockaddr *)&address, sizeof(address)) == 0);
    LEAT_ASSERT(setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0);
    return descriptor;
}

static unsigned close_descriptors(struct msghdr *message)
{
    int descriptors[2];
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    LEAT_ASSERT(!(message->msg_flags & MSG_CTRUNC));
    if (!part)
        return 0;
    unsigned count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    LEAT_ASSERT(count <= 2);
    memcpy(descriptors, CMSG_DATA(part), count * sizeof(int));
    for (unsigned i = 0; i < count; i++)
        close(descriptors[i]);
    return count;
}

/* False: the node hung up. */
static bool take_answer(int descriptor)
{
    static char text[LEAT_CONTROL_TEXT_BYTES_MAX + 1];
    struct leat_control_reply head;
    char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
    struct iovec parts[2] = {{&head, sizeof(head)}, {text, sizeof(text)}};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t bytes = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC);
    if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        LEAT_ASSERT(!"every packet is answered or the connection closed");
    if (bytes <= 0)
        return false;
    unsigned descriptors = close_descriptors(&message);
    LEAT_ASSERT(bytes >= (ssize_t)sizeof(head) && !(message.msg_flags & MSG_TRUNC));
    LEAT_ASSERT(bytes == (ssize_t)(sizeof(head) + head.text_bytes));
    LEAT_ASSERT(head.magic == LEAT_CONTROL_MAGIC && head.version == LEAT_CONTROL_VERSION);
    LEAT_ASSERT(head.error <= 0 && head.descriptor_count == descriptors);
    return true;
}

/* A length, then that many bytes. */
static size_t packet_draw(struct fuzz_input *input, uint8_t packet[PACKET_BYTES])
{
    struct leat_control_request request;
    size_t length = fuzz_u16(input) % (PACKET_BYTES + 1);
    length = fuzz_take(input, packet, length);
    if (length < sizeof(request))
        return length;
    memcpy(&request, packet, sizeof(request));
    if (request.ring_bytes > RING_BYTES_MOST && request.ring_bytes <= LEAT_RING_BYTES_MAX)
        request.ring_bytes = RING_BYTES_MOST;
    if (request.completion_count > LEAT_RING_COMPLETIONS_MIN &&
        request.completion_count <= LEAT_RING_COMPLETIONS_MAX)
        request.completion_count = LEAT_RING_COMPLETIONS_MIN;
    memcpy(packet, &request, sizeof(request));
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    uint8_t packet[PACKET_BYTES];
    if (!node) {
        node = fake_node_start(true);
        atexit(node_stop);
    }
    int descriptor = control_connect();
    for (unsigned i = 0; i < PACKETS_MAX && input.left > 0; i++) {
        size_t packet_bytes = packet_draw(&input, packet);
        if (packet_bytes == 0) /* to the node this is the end of the connection */
            break;
        if (send(descriptor, packet, packet_bytes, MSG_NOSIGNAL) < 0 || !take_answer(descriptor))
            break;
    }
    close(descriptor);
    return 0;
}
