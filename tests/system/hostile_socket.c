/* SPDX-License-Identifier: Apache-2.0
 *
 * See hostile.h: the control protocol spoken by hand, what can be done to descriptors, floods.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "hostile.h"

#define PAGE          4096u
#define FLOOD_SOCKETS 200u

static char text[LEAT_CONTROL_TEXT_BYTES_MAX + 1];

int hostile_fail(const char *what, int error)
{
    fprintf(stderr, "hostile: %s: %s (%s)\n", what, leat_error_text(error), text);
    return 1;
}

const char *hostile_text(void)
{
    return text;
}

int hostile_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 && connect(descriptor, (void *)&address, sizeof(address)) == 0)
        return descriptor;
    int error = -errno;
    if (descriptor >= 0)
        close(descriptor);
    return error;
}

static struct leat_control_request request_make(int kind, uint32_t log_id, uint64_t position)
{
    return (struct leat_control_request){.magic = LEAT_CONTROL_MAGIC,
                                         .version = LEAT_CONTROL_VERSION,
                                         .kind = (uint16_t)kind,
                                         .log_id = log_id,
                                         .position = position};
}

static int reply_receive(int socket, struct leat_control_reply *ret_reply, int *ret_descriptors)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } ancillary;
    struct iovec parts[2] = {{ret_reply, sizeof(*ret_reply)}, {text, sizeof(text) - 1}};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = ancillary.bytes,
                             .msg_controllen = sizeof(ancillary.bytes)};
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    int descriptors[2] = {-1, -1};
    if (got < (ssize_t)sizeof(*ret_reply))
        return LEAT_ECLOSED;
    text[got - (ssize_t)sizeof(*ret_reply)] = 0;
    for (char *c = text; *c; c++)
        *c = *c == '"' ? '\'' : *c;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (rights)
        memcpy(descriptors, CMSG_DATA(rights), rights->cmsg_len - CMSG_LEN(0));
    for (int i = 0; i < 2; i++) {
        if (ret_descriptors)
            ret_descriptors[i] = descriptors[i];
        else if (descriptors[i] >= 0)
            close(descriptors[i]);
    }
    return ret_reply->error;
}

int hostile_ask(int socket, int kind, uint32_t log_id, uint64_t position,
                struct leat_control_reply *ret_reply, int *ret_descriptors)
{
    struct leat_control_request request = request_make(kind, log_id, position);
    if (send(socket, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
        return LEAT_ECLOSED;
    return reply_receive(socket, ret_reply, ret_descriptors);
}

/* Connected, both regions mapped, not yet ready. */
static int ring_map(const char *path, uint64_t ring_bytes, uint64_t completion_count,
                    struct hostile_ring *ret_ring)
{
    struct hostile_ring ring = {.socket = hostile_connect(path),
                                .ring_bytes = ring_bytes,
                                .completion_count = completion_count};
    struct leat_control_reply reply;
    text[0] = 0;
    if (ring.socket < 0)
        return LEAT_ECLOSED;
    struct leat_control_request request = request_make(LEAT_CONTROL_ATTACH, 1, 0);
    request.ring_bytes = ring_bytes;
    request.completion_count = completion_count;
    int rc = getrandom(&request.client, sizeof(request.client), 0) == sizeof(request.client) &&
                     send(ring.socket, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request)
                 ? reply_receive(ring.socket, &reply, ring.descriptors)
                 : LEAT_ECLOSED;
    if (rc != LEAT_OK) {
        close(ring.socket);
        return rc;
    }
    void *shared =
        mmap(NULL, PAGE + ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.descriptors[0], 0);
    void *answers = mmap(NULL, PAGE + completion_count * sizeof(struct leat_completion), PROT_READ,
                         MAP_SHARED, ring.descriptors[1], 0);
    if (shared == MAP_FAILED || answers == MAP_FAILED)
        return LEAT_ENOMEM;
    ring.shared = shared;
    ring.answers = answers;
    ring.records = (uint8_t *)shared + PAGE;
    *ret_ring = ring;
    return LEAT_OK;
}

int hostile_attach(const char *path, uint64_t ring_bytes, uint64_t completion_count,
                   struct hostile_ring *ret_ring)
{
    struct leat_control_reply reply;
    int rc = ring_map(path, ring_bytes, completion_count, ret_ring);
    if (rc != LEAT_OK)
        return rc;
    rc = hostile_ask(ret_ring->socket, LEAT_CONTROL_READY, 1, 0, &reply, NULL);
    if (rc != LEAT_OK)
        hostile_detach(ret_ring);
    return rc;
}

void hostile_detach(struct hostile_ring *ring)
{
    munmap(ring->shared, PAGE + ring->ring_bytes);
    munmap((void *)ring->answers, PAGE + ring->completion_count * sizeof(struct leat_completion));
    close(ring->descriptors[0]);
    close(ring->descriptors[1]);
    close(ring->socket);
}

/* ---- what can be done to a descriptor ---- */

static unsigned grab_count, grab_tried;

static void grab_note(const char *what, const char *how, bool done)
{
    grab_tried++;
    if (!done)
        return;
    printf("%s{\"what\":\"%s\",\"how\":\"%s\"}", grab_count++ ? "," : "", what, how);
}

static bool grab_maps(int descriptor)
{
    void *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (map != MAP_FAILED) {
        munmap(map, PAGE);
        return true;
    }
    map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED)
        return false;
    bool writable = mprotect(map, PAGE, PROT_READ | PROT_WRITE) == 0;
    munmap(map, PAGE);
    return writable;
}

static bool grab_reopens(int descriptor)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    int again = open(path, O_RDWR | O_CLOEXEC);
    bool done = again >= 0 && (pwrite(again, "x", 1, 100) == 1 || grab_maps(again));
    if (again >= 0)
        close(again);
    return done || truncate(path, 1) == 0 || chmod(path, 0666) == 0;
}

static void grab_descriptor(const char *what, int descriptor)
{
    struct stat before, after;
    fstat(descriptor, &before);
    grab_note(what, "write", pwrite(descriptor, "x", 1, 100) == 1);
    grab_note(what, "truncate", ftruncate(descriptor, 8) == 0);
    grab_note(what, "grow", ftruncate(descriptor, before.st_size + PAGE) == 0);
    grab_note(what, "punch",
              fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0);
    grab_note(what, "map", grab_maps(descriptor));
    grab_note(what, "reopen", grab_reopens(descriptor));
    grab_note(what, "mode", fchmod(descriptor, 0666) == 0);
    grab_note(what, "seal", fcntl(descriptor, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    grab_note(what, "lease", fcntl(descriptor, F_SETLEASE, F_WRLCK) == 0);
    fstat(descriptor, &after);
    grab_note(what, "size", before.st_size != after.st_size || before.st_mode != after.st_mode);
}

/* Its own region may be holed until it is ready; afterwards only the mapping that it has writes. */
void hostile_grab(const char *path)
{
    struct hostile_ring ring;
    struct leat_control_reply reply;
    static const struct {
        const char *name;
        int kind;
    } asked[] = {{"arena", LEAT_CONTROL_LOG},
                 {"segment", LEAT_CONTROL_SEGMENT},
                 {"index", LEAT_CONTROL_INDEX},
                 {"logs", LEAT_CONTROL_LOGS}};
    int rc = ring_map(path, LEAT_RING_BYTES_MIN, LEAT_RING_COMPLETIONS_MIN, &ring);
    if (rc != LEAT_OK)
        exit(hostile_fail("attach", rc));
    bool punched = fallocate(ring.descriptors[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                             PAGE + LEAT_RING_BYTES_MIN) == 0;
    rc = hostile_ask(ring.socket, LEAT_CONTROL_READY, 1, 0, &reply, NULL);
    if (rc != LEAT_OK)
        exit(hostile_fail("ready", rc));
    printf("{\"done\":[");
    grab_descriptor("client region", ring.descriptors[0]);
    grab_note("client region", "remove", madvise(ring.shared, PAGE, MADV_REMOVE) == 0);
    grab_descriptor("node region", ring.descriptors[1]);
    grab_note("node region", "protect",
              mprotect((void *)ring.answers, PAGE, PROT_READ | PROT_WRITE) == 0);
    for (unsigned i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        int descriptors[2];
        rc = hostile_ask(ring.socket, asked[i].kind, 1, 0, &reply, descriptors);
        if (rc != LEAT_OK || descriptors[0] < 0)
            exit(hostile_fail(asked[i].name, rc));
        grab_descriptor(asked[i].name, descriptors[0]);
        close(descriptors[0]);
    }
    static const int operators[] = {LEAT_CONTROL_TRANSFER, LEAT_CONTROL_AMNESIA_ACCEPT,
                                    LEAT_CONTROL_TRIM, LEAT_CONTROL_DAMAGE_ACCEPT};
    for (unsigned i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
        grab_note("node", "operate",
                  hostile_ask(ring.socket, operators[i], 1, 1u << 20, &reply, NULL) != LEAT_EPERM);
    printf("],\"tried\":%u,\"punched_before\":%d}\n", grab_tried, punched);
}

/* ---- floods ---- */

static void flood_one(int socket, struct leat_rng *rng)
{
    uint8_t bytes[1024];
    uint64_t draw = leat_rng_next(rng);
    struct leat_control_request request =
        request_make((int)(draw >> 8) % 20, (uint32_t)(draw >> 16) % 4, leat_rng_next(rng));
    if (draw % 4 == 0) {
        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)leat_rng_next(rng);
        send(socket, bytes, draw / 4 % sizeof(bytes) + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        return;
    }
    if (request.kind == LEAT_CONTROL_CHANGE) {
        for (unsigned i = 0; i < sizeof(request.change); i++)
            ((uint8_t *)&request.change)[i] = (uint8_t)leat_rng_next(rng);
    }
    request.ring_bytes = draw % 2 ? LEAT_RING_BYTES_MIN : leat_rng_next(rng);
    request.completion_count = draw % 3 ? LEAT_RING_COMPLETIONS_MIN : leat_rng_next(rng);
    memcpy(&request.client, &draw, sizeof(draw));
    size_t length = draw % 16 == 1 ? draw / 16 % sizeof(request) : sizeof(request);
    send(socket, &request, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Sockets that send and never read, as many that say nothing at all, and new ones in the place of
 * those that were hung up on. */
void hostile_flood(const char *path, double seconds, uint64_t seed)
{
    static int sockets[FLOOD_SOCKETS];
    struct leat_rng rng = {.state = seed};
    uint64_t end_ns = hostile_now_ns() + (uint64_t)(seconds * 1e9), sent = 0, connected = 0;
    for (unsigned i = 0; i < FLOOD_SOCKETS; i++)
        sockets[i] = -1;
    while (hostile_now_ns() < end_ns) {
        unsigned i = (unsigned)(leat_rng_next(&rng) % FLOOD_SOCKETS);
        char unused;
        if (sockets[i] >= 0 && recv(sockets[i], &unused, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
            close(sockets[i]);
            sockets[i] = -1;
        }
        if (sockets[i] < 0) {
            sockets[i] = hostile_connect(path);
            connected += sockets[i] >= 0;
        }
        for (unsigned k = 0; i % 2 == 0 && sockets[i] >= 0 && k < 4; k++, sent++)
            flood_one(sockets[i], &rng);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); /* a rate, not a wait */
    }
    printf("{\"sent\":%" PRIu64 ",\"connected\":%" PRIu64 "}\n", sent, connected);
}
