/* SPDX-License-Identifier: Apache-2.0
 *
 * A bare port program: opens one port, sends numbered and filled datagrams to its peers and checks
 * what it receives, until told to stop. Also measures: with --ping each datagram waits for its
 * answer and the round trips are printed, with --answer it only sends back what comes.
 *
 *   port_echo KIND WHERE SELF PEERS [options]
 *     KIND memif | af_packet | af_xdp      WHERE directory of the links or interface
 *     SELF, PEERS node ids; a node's address is 10.77.0.ID
 *   --page FD     struct echo_page to report in     --ping COUNT   measure round trips
 *   --bytes N     payload size (default 1000)       --answer       send back, nothing else
 *   --idle spin|yield|sleep (default yield)         --seconds N    end by itself (default 60)
 *   --window N    datagrams sent per pass (8)       --mtu 1500|9000
 *   --run N       number of this run, carried in each datagram
 *   --reference   memif: payloads are sent from the arena, not gathered
 *   --verbose     print counters at the end
 *   --flood       payloads are neither filled nor compared: the time goes into the bursts
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#include "base/histogram.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "port_echo.h"

#define ECHO_NETWORK     0x0a4d0000u /* 10.77.0.0 */
#define ECHO_UDP_PORT    7700u
#define ECHO_ARENA_BYTES (4u << 20)
#define ECHO_FLOOD_POLLS 64u
#define ECHO_BYTES_MAX   8900u

struct echo_header {
    uint64_t sequence;
    uint32_t bytes;
    uint32_t from;
    uint32_t run; /* of the sending process, as the test numbers them */
    uint32_t reserved;
};

struct echo {
    struct leat_port_config config;
    struct leat_port *port;
    struct echo_page *page;
    struct leat_idle idle;
    uint32_t bytes, run;
    unsigned window;
    bool answer, flood, verbose;
    uint64_t ping_count, end_ns, sequence;
    uint64_t expected[LEAT_PORT_PEERS_MAX];
    uint8_t *arena;
    uint64_t arena_pos;
};

static void echo_fill(uint8_t *to, const struct echo_header *header)
{
    for (uint32_t i = 0; i < header->bytes; i++)
        to[i] = (uint8_t)(header->sequence * 31 + header->from * 7 + i);
}

static void echo_check(struct echo *echo, const struct leat_packet *packet)
{
    struct echo_header header;
    static uint8_t want[ECHO_BYTES_MAX];
    bool good = packet->length_bytes >= sizeof(header) && ((uintptr_t)packet->data & 7) == 0;
    if (good) {
        memcpy(&header, packet->data, sizeof(header));
        good = header.bytes == packet->length_bytes - sizeof(header) &&
               header.bytes <= sizeof(want) &&
               header.from == echo->config.peers[packet->peer].node_id;
    }
    if (good) {
        if (!echo->flood) {
            echo_fill(want, &header);
            good = memcmp(want, (const uint8_t *)packet->data + sizeof(header), header.bytes) == 0;
        }
        uint64_t *expected = &echo->expected[packet->peer];
        if (header.sequence > *expected && *expected != 0)
            echo->page->lost += header.sequence - *expected;
        *expected = header.sequence + 1;
        atomic_store(&echo->page->heard[packet->peer], header.run);
    }
    atomic_fetch_add(good ? &echo->page->good : &echo->page->bad, 1);
}

static bool echo_send(struct echo *echo, unsigned peer)
{
    struct echo_header header = {.sequence = ++echo->sequence,
                                 .bytes = echo->bytes,
                                 .from = echo->config.node_id,
                                 .run = echo->run};
    uint64_t place = echo->arena_pos % ECHO_ARENA_BYTES;
    if (place + header.bytes > ECHO_ARENA_BYTES) {
        echo->arena_pos += ECHO_ARENA_BYTES - place;
        place = 0;
    }
    uint64_t lowest = leat_port_lowest_referenced(echo->port, 0);
    if (lowest != UINT64_MAX && lowest + ECHO_ARENA_BYTES < echo->arena_pos + header.bytes)
        return false; /* the arena is full of what the device still reads */
    if (!echo->flood)
        echo_fill(echo->arena + place, &header);
    int rc = leat_port_send(echo->port, peer, 0, &header, sizeof(header), echo->arena + place,
                            header.bytes, 0, echo->arena_pos);
    echo->arena_pos += header.bytes;
    if (rc == 0)
        atomic_fetch_add(&echo->page->sent, 1);
    return rc == 0;
}

static unsigned echo_receive(struct echo *echo)
{
    struct leat_packet packets[LEAT_PORT_BURST_MAX];
    unsigned count =
        leat_port_receive(echo->port, leat_clock_monotonic_ns(), packets, LEAT_PORT_BURST_MAX);
    for (unsigned i = 0; i < count; i++) {
        if (echo->answer)
            leat_port_send(echo->port, packets[i].peer, 0, packets[i].data, packets[i].length_bytes,
                           NULL, 0, LEAT_PORT_NO_ARENA, 0);
        else
            echo_check(echo, &packets[i]);
    }
    leat_port_release(echo->port, packets, count);
    return count;
}

static unsigned echo_pass(struct echo *echo)
{
    unsigned work = echo_receive(echo);
    for (unsigned i = 0; echo->flood && i < ECHO_FLOOD_POLLS; i++)
        work += echo_receive(echo);
    for (unsigned peer = 0; !echo->answer && peer < echo->config.peer_count; peer++) {
        for (unsigned i = 0; i < echo->window && leat_port_peer_is_up(echo->port, peer); i++)
            echo_send(echo, peer);
    }
    leat_port_flush(echo->port);
    return work;
}

static bool echo_goes_on(const struct echo *echo)
{
    return !atomic_load(&echo->page->stop) && leat_clock_monotonic_ns() < echo->end_ns;
}

static void echo_run(struct echo *echo)
{
    while (echo_goes_on(echo)) {
        leat_idle_step(&echo->idle, echo_pass(echo));
        echo->page->counters = *leat_port_counters(echo->port);
    }
}

/* One datagram at a time; the payload is taken from the arena like a log's. */
static void echo_ping(struct echo *echo)
{
    static struct leat_histogram trips;
    uint64_t begin_ns = leat_clock_monotonic_ns();
    while (!leat_port_peer_is_up(echo->port, 0) && echo_goes_on(echo)) {
        echo_receive(echo);
        leat_idle_step(&echo->idle, 0);
    }
    for (uint64_t i = 0; i < echo->ping_count && echo_goes_on(echo); i++) {
        uint64_t sent_ns = leat_clock_monotonic_ns(), good = echo->page->good;
        echo_send(echo, 0);
        leat_port_flush(echo->port);
        unsigned work = 0;
        while ((work = echo_receive(echo)) == 0 && echo_goes_on(echo) &&
               leat_clock_monotonic_ns() - sent_ns < 100000000u)
            leat_idle_step(&echo->idle, 0);
        if (work > 0 && i > echo->ping_count / 10)
            leat_histogram_record(&trips, leat_clock_monotonic_ns() - sent_ns);
        (void)good;
    }
    printf("%u bytes: %llu round trips, p50 %llu ns, p99 %llu ns, p99.9 %llu ns, max %llu ns, "
           "%.1f s, lost %llu\n",
           echo->bytes, (unsigned long long)trips.count,
           (unsigned long long)leat_histogram_at(&trips, 0.5),
           (unsigned long long)leat_histogram_at(&trips, 0.99),
           (unsigned long long)leat_histogram_at(&trips, 0.999), (unsigned long long)trips.max_ns,
           (double)(leat_clock_monotonic_ns() - begin_ns) / 1e9,
           (unsigned long long)(echo->sequence - echo->page->good - echo->page->bad));
}

static void echo_peers(struct echo *echo, const char *list)
{
    char *end = NULL;
    for (const char *at = list; *at != '\0' && echo->config.peer_count < LEAT_PORT_PEERS_MAX;
         at = *end == ',' ? end + 1 : end) {
        uint32_t id = (uint32_t)strtoul(at, &end, 10);
        echo->config.peers[echo->config.peer_count++] =
            (struct leat_port_peer){.node_id = id, .ipv4 = ECHO_NETWORK + id};
    }
}

static int echo_options(struct echo *echo, int argc, char **argv)
{
    static const struct option options[] = {{"page", 1, 0, 'p'},   {"ping", 1, 0, 'c'},
                                            {"bytes", 1, 0, 'b'},  {"answer", 0, 0, 'a'},
                                            {"idle", 1, 0, 'i'},   {"seconds", 1, 0, 's'},
                                            {"window", 1, 0, 'w'}, {"mtu", 1, 0, 'm'},
                                            {"flood", 0, 0, 'f'},  {"verbose", 0, 0, 'v'},
                                            {"run", 1, 0, 'r'},    {"reference", 0, 0, 'R'},
                                            {0, 0, 0, 0}};
    const char *idle = "yield";
    uint64_t seconds = 60;
    int page = -1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'p':
            page = atoi(optarg);
            break;
        case 'c':
            echo->ping_count = strtoull(optarg, NULL, 10);
            break;
        case 'b':
            echo->bytes = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'a':
            echo->answer = true;
            break;
        case 'f':
            echo->flood = true;
            break;
        case 'R':
            echo->config.reference_payloads = true;
            break;
        case 'r':
            echo->run = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'v':
            echo->verbose = true;
            break;
        case 'i':
            idle = optarg;
            break;
        case 's':
            seconds = strtoull(optarg, NULL, 10);
            break;
        case 'w':
            echo->window = (unsigned)atoi(optarg);
            break;
        case 'm':
            echo->config.mtu_bytes = (uint16_t)atoi(optarg);
            break;
        default:
            return 2;
        }
    }
    if (argc - optind != 4 || echo->bytes > ECHO_BYTES_MAX)
        return 2;
    leat_idle_init(&echo->idle,
                   *idle == 's' && idle[1] == 'p' ? LEAT_IDLE_SPIN
                   : *idle == 'y'                 ? LEAT_IDLE_YIELD
                                                  : LEAT_IDLE_SLEEP,
                   50000);
    echo->end_ns = leat_clock_monotonic_ns() + seconds * 1000000000u;
    echo->page = mmap(NULL, sizeof(*echo->page), PROT_READ | PROT_WRITE,
                      page < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, page, 0);
    return echo->page == MAP_FAILED ? 1 : 0;
}

static int echo_config(struct echo *echo, char **argv)
{
    echo->config.kind = strcmp(argv[0], "memif") == 0       ? LEAT_PORT_MEMIF
                        : strcmp(argv[0], "af_packet") == 0 ? LEAT_PORT_AF_PACKET
                                                            : LEAT_PORT_AF_XDP;
    echo->config.memif_dir = echo->config.interface = argv[1];
    echo->config.node_id = (uint32_t)atoi(argv[2]);
    echo->config.ipv4 = ECHO_NETWORK + echo->config.node_id;
    echo->config.udp_port_base = ECHO_UDP_PORT;
    echo_peers(echo, argv[3]);
    return 0;
}

static void echo_print(const struct echo *echo, uint64_t open_ns)
{
    const struct leat_port_counters *counters = leat_port_counters(echo->port);
    printf("%s; start and open %.1f ms\n", leat_port_describe(echo->port), (double)open_ns / 1e6);
#define ECHO_PRINT(name, text)                                                                     \
    if (counters->name > 0)                                                                        \
        printf("  %-18s %llu\n", #name, (unsigned long long)counters->name);
    LEAT_PORT_COUNTERS(ECHO_PRINT)
#undef ECHO_PRINT
}

int main(int argc, char **argv)
{
    static struct echo echo = {.bytes = 1000, .window = 8, .config = {.mtu_bytes = 1500}};
    struct leat_dataplane_config dataplane = {.memory_mib = 0};
    char error[256];
    cpu_set_t before, after;
    int rc = echo_options(&echo, argc, argv);
    if (rc != 0) {
        fprintf(stderr, "usage: port_echo KIND WHERE SELF PEERS [options]\n");
        return rc;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    echo_config(&echo, argv + optind);
    echo.arena = calloc(1, ECHO_ARENA_BYTES);
    sched_getaffinity(0, sizeof(before), &before);
    uint64_t begin_ns = leat_clock_monotonic_ns();
    if (leat_dataplane_start(&dataplane, error, sizeof(error)) != 0 ||
        leat_port_open(&echo.config, &echo.port, error, sizeof(error)) != 0) {
        fprintf(stderr, "port_echo: %s\n", error);
        return 1;
    }
    uint64_t open_ns = leat_clock_monotonic_ns() - begin_ns;
    sched_getaffinity(0, sizeof(after), &after);
    echo.page->affinity_kept = CPU_EQUAL(&before, &after);
    echo.page->ready = 1;
    if (echo.ping_count > 0)
        echo_ping(&echo);
    else
        echo_run(&echo);
    echo.page->counters = *leat_port_counters(echo.port);
    if (echo.verbose)
        echo_print(&echo, open_ns);
    leat_port_close(echo.port);
    leat_dataplane_stop();
    return 0;
}
