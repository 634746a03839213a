/* SPDX-License-Identifier: Apache-2.0
 *
 * A switch between network interfaces that does to packets what a bridge cannot be asked for:
 * delays, reorders, doubles, replays them much later, truncates them, flips their bits, and has
 * slow links.
 *
 *   faultswitch --seed S INTERFACE...
 *
 * Port n is the nth interface. One thread; commands on stdin, one a line, each answered by a line
 * on stdout:
 *
 *   set FROM TO WHAT NUMBER   on the link from one port to another; 0 stands for all of them
 *   clear                     no more faults; what is kept for a replay is kept on
 *   counts                    one JSON object: what was done how often
 *
 * WHAT: loss, double, replay, truncate, flip, late (per mille of the packets), delay_us (of all),
 * late_us (at most, of those that are late, at random: so they are reordered), replay_ms, kbit
 * (a second; a packet that would have to wait for QUEUE_NS is lost). Ends with stdin.
 *
 * Packets wait in a heap by the time they are due. The same seed and the same packets give the same
 * decisions. Used by tests/chaos (rows N2, N3, N4, N9).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"

#define PORTS_MAX    16u
#define PACKET_MAX   2048u
#define WAITING_MAX  16384u /* 32 MiB of packets on their way */
#define REPLAYS_MAX  4096u  /* of them kept for a replay */
#define BURST        64
#define QUEUE_NS     200000000u /* of a slow link */
#define SOCKET_BYTES (1 << 20)  /* more is delay: what is not passed on in time is better lost */

enum what { LOSS, DOUBLE, REPLAY, TRUNCATE, FLIP, LATE, DELAY_US, LATE_US, REPLAY_MS, KBIT, WHATS };

static const char *const names[WHATS] = {"loss", "double",   "replay",  "truncate",  "flip",
                                         "late", "delay_us", "late_us", "replay_ms", "kbit"};

struct link {
    uint64_t set[WHATS];
    uint64_t free_ns; /* when a slow link has sent what it was given */
};

struct port {
    int socket;
    uint8_t address[ETH_ALEN]; /* of who was last heard here */
    bool heard;
};

struct packet {
    uint64_t due_ns, order;
    uint32_t length;
    unsigned to;
    bool again; /* a replay */
    uint8_t bytes[PACKET_MAX];
};

static struct {
    struct port ports[PORTS_MAX];
    unsigned count;
    struct link links[PORTS_MAX][PORTS_MAX];
    struct packet *heap[WAITING_MAX];
    size_t waiting, replays;
    uint64_t orders;
    struct leat_rng rng;
    uint64_t done[WHATS];
    uint64_t forwarded, overflowed;
} self;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- what waits ---- */

static bool before(const struct packet *a, const struct packet *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
    struct packet *kept = self.heap[a];
    self.heap[a] = self.heap[b];
    self.heap[b] = kept;
}

static void keep(const uint8_t *bytes, uint32_t length, unsigned to, uint64_t due_ns, bool again)
{
    struct packet *packet = self.waiting < WAITING_MAX ? malloc(sizeof(*packet)) : NULL;
    if (!packet) {
        self.overflowed++;
        return;
    }
    packet->due_ns = due_ns;
    packet->order = self.orders++;
    packet->length = length;
    packet->to = to;
    packet->again = again;
    memcpy(packet->bytes, bytes, length);
    self.replays += again;
    size_t at = self.waiting++;
    self.heap[at] = packet;
    for (; at > 0 && before(self.heap[at], self.heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(at, (at - 1) / 2);
}

static struct packet *take(void)
{
    struct packet *first = self.heap[0];
    self.heap[0] = self.heap[--self.waiting];
    for (size_t at = 0;;) {
        size_t least = at, left = 2 * at + 1, right = left + 1;
        if (left < self.waiting && before(self.heap[left], self.heap[least]))
            least = left;
        if (right < self.waiting && before(self.heap[right], self.heap[least]))
            least = right;
        if (least == at)
            break;
        swap(at, least);
        at = least;
    }
    self.replays -= first->again;
    return first;
}

/* ---- what is done to a packet ---- */

static bool chance(const struct link *link, enum what what)
{
    bool hit = link->set[what] && leat_rng_next(&self.rng) % 1000 < link->set[what];
    self.done[what] += hit;
    return hit;
}

/* When a slow link will have sent it; 0 when its queue is full. */
static uint64_t through(struct link *link, uint32_t length, uint64_t now)
{
    if (!link->set[KBIT])
        return now;
    uint64_t begin = link->free_ns > now ? link->free_ns : now;
    self.done[KBIT]++;
    if (begin - now > QUEUE_NS)
        return 0;
    link->free_ns = begin + (uint64_t)length * 8 * 1000000 / link->set[KBIT];
    return link->free_ns;
}

static void pass_on(unsigned from, unsigned to, const uint8_t *bytes, uint32_t length, uint64_t now)
{
    struct link *link = &self.links[from][to];
    uint8_t copy[PACKET_MAX];
    if (chance(link, LOSS))
        return;
    memcpy(copy, bytes, length);
    if (chance(link, FLIP))
        copy[leat_rng_next(&self.rng) % length] ^= (uint8_t)(1u << leat_rng_next(&self.rng) % 8);
    if (chance(link, TRUNCATE))
        length = ETH_HLEN + (uint32_t)(leat_rng_next(&self.rng) % (length - ETH_HLEN));
    uint64_t due = through(link, length, now);
    if (due == 0)
        return;
    if (link->set[DELAY_US]) {
        self.done[DELAY_US]++;
        due += link->set[DELAY_US] * 1000;
    }
    if (link->set[LATE_US] && chance(link, LATE))
        due += leat_rng_next(&self.rng) % (link->set[LATE_US] * 1000);
    keep(copy, length, to, due, false);
    if (chance(link, DOUBLE))
        keep(copy, length, to, due, false);
    if (self.replays < REPLAYS_MAX && chance(link, REPLAY))
        keep(copy, length, to, now + link->set[REPLAY_MS] * 1000000, true);
}

/* To the port where the address was heard, or to all others. */
static void forward(unsigned from, const uint8_t *bytes, uint32_t length, uint64_t now)
{
    struct port *port = &self.ports[from];
    memcpy(port->address, bytes + ETH_ALEN, ETH_ALEN);
    port->heard = true;
    for (unsigned to = 0; to < self.count; to++) {
        const struct port *other = &self.ports[to];
        if (to != from && other->heard && memcmp(other->address, bytes, ETH_ALEN) == 0) {
            pass_on(from, to, bytes, length, now);
            return;
        }
    }
    for (unsigned to = 0; to < self.count; to++)
        if (to != from)
            pass_on(from, to, bytes, length, now);
}

static void receive(unsigned from)
{
    uint8_t bytes[PACKET_MAX];
    struct sockaddr_ll source;
    uint64_t now = now_ns();
    for (int i = 0; i < BURST; i++) {
        socklen_t size = sizeof(source);
        ssize_t length = recvfrom(self.ports[from].socket, bytes, sizeof(bytes), MSG_DONTWAIT,
                                  (struct sockaddr *)&source, &size);
        if (length < 0)
            return;
        if (length > ETH_HLEN && source.sll_pkttype != PACKET_OUTGOING)
            forward(from, bytes, (uint32_t)length, now);
    }
}

static void send_due(void)
{
    uint64_t now = now_ns();
    while (self.waiting && self.heap[0]->due_ns <= now) {
        struct packet *packet = take();
        /* a full queue is a switch's right to lose it */
        if (send(self.ports[packet->to].socket, packet->bytes, packet->length, MSG_DONTWAIT) >= 0)
            self.forwarded++;
        else
            self.overflowed++;
        free(packet);
    }
}

/* ---- commands ---- */

static void say_counts(void)
{
    printf("{\"forwarded\":%" PRIu64 ",\"overflowed\":%" PRIu64, self.forwarded, self.overflowed);
    for (int what = 0; what < WHATS; what++)
        printf(",\"%s\":%" PRIu64, names[what], self.done[what]);
    printf("}\n");
}

static bool set(unsigned from, unsigned to, const char *name, uint64_t number)
{
    for (int what = 0; what < WHATS; what++) {
        if (strcmp(names[what], name) != 0)
            continue;
        for (unsigned a = 0; a < self.count; a++)
            for (unsigned b = 0; b < self.count; b++)
                if ((from == 0 || from == a + 1) && (to == 0 || to == b + 1))
                    self.links[a][b].set[what] = number;
        return true;
    }
    return false;
}

static void obey(const char *line)
{
    unsigned from, to;
    char name[32];
    uint64_t number;
    if (strcmp(line, "counts\n") == 0) {
        say_counts();
    } else if (strcmp(line, "clear\n") == 0) {
        memset(self.links, 0, sizeof(self.links));
        puts("ok");
    } else if (sscanf(line, "set %u %u %31s %" SCNu64, &from, &to, name, &number) == 4 &&
               set(from, to, name, number)) {
        puts("ok");
    } else {
        puts("what?");
    }
    fflush(stdout);
}

/* ---- */

static bool open_port(const char *name)
{
    int one = 1, bytes = SOCKET_BYTES;
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(name)};
    int raw = socket(AF_PACKET, SOCK_RAW, 0);
    if (raw < 0 || address.sll_ifindex == 0 || self.count == PORTS_MAX)
        return false;
    setsockopt(raw, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    setsockopt(raw, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    if (setsockopt(raw, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) != 0 ||
        bind(raw, (struct sockaddr *)&address, sizeof(address)) != 0)
        return false;
    self.ports[self.count++].socket = raw;
    return true;
}

static int wait_ms(void)
{
    if (!self.waiting)
        return 1000;
    uint64_t now = now_ns(), due = self.heap[0]->due_ns;
    return due <= now ? 0 : (int)((due - now) / 1000000 > 1000 ? 1000 : (due - now) / 1000000);
}

static void run(void)
{
    struct pollfd waits[PORTS_MAX + 1];
    char line[128];
    for (unsigned i = 0; i < self.count; i++)
        waits[i] = (struct pollfd){.fd = self.ports[i].socket, .events = POLLIN};
    waits[self.count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        if (poll(waits, self.count + 1, wait_ms()) < 0 && errno != EINTR)
            return;
        for (unsigned i = 0; i < self.count; i++)
            if (waits[i].revents & POLLIN)
                receive(i);
        send_due();
        if (waits[self.count].revents) {
            if (!fgets(line, sizeof(line), stdin))
                return;
            obey(line);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {{"seed", required_argument, NULL, 's'},
                                                 {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) == 's')
        self.rng.state = strtoull(optarg, NULL, 10);
    if (option != -1 || argc - optind < 2) {
        fprintf(stderr, "usage: faultswitch --seed S INTERFACE INTERFACE...\n");
        return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() has to see what was not read */
    for (int i = optind; i < argc; i++) {
        if (!open_port(argv[i])) {
            fprintf(stderr, "faultswitch: %s: %s\n", argv[i], strerror(errno));
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    run();
    return 0;
}
