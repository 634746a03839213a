/* SPDX-License-Identifier: Apache-2.0
 *
 * A bare port program: opens one port, sends numbered and filled datagrams to its peers and checks
 * what it receives, until told to stop. Also measures: with --ping each datagram waits for its
 * answer and the round trips are printed, with --answer it only sends back what comes.
 *
 *   port_echo KIND WHERE SELF PEERS [options]
 *     KIND memif | af_packet | af_xdp | pci
 *     WHERE directory of the links, interface or device
 *     SELF, PEERS node ids; a node's address is 10.77.0.ID
 *   --page FD     struct echo_page to report in     --ping COUNT   measure round trips
 *   --bytes N     payload size (default 1000)       --answer       send back, nothing else
 *   --idle spin|yield|sleep (default yield)         --seconds N    end by itself (default 60)
 *   --window N    datagrams sent per pass (8)       --mtu 1500|9000
 *   --run N       number of this run, carried in each datagram
 *   --reference   memif: payloads are sent from the arena, not gathered
 *   --verbose     print counters at the end
 *   --workers N   threads, each with a port; each sends to every worker of every peer
 *   --peer-workers N,N   how many the peers have, in their order (default: as many)
 *   --gap-us N    time between sending passes (0)
 *   --bundles     messages of a pass share datagrams
 *   --tx-buffers N
 *   --flood       payloads are neither filled nor compared: the time goes into the bursts
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
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
#define ECHO_HELD_MAX    8192u

struct echo_header {
    uint64_t sequence;
    uint32_t bytes;
    uint32_t from;
    uint32_t run; /* of the sending process, as the test numbers them */
    uint16_t from_worker, to_worker;
};

struct echo {
    struct leat_port_config config;
    struct leat_port *port;
    struct echo_page *page;
    struct leat_idle idle;
    uint32_t bytes, run;
    unsigned window;
    int page_fd;
    const char *idle_name;
    uint64_t seconds;
    pthread_t thread;
    bool answer, flood, verbose;
    uint64_t ping_count, end_ns, gap_ns, send_ns, sequence;
    uint64_t sequences[LEAT_PORT_PEERS_MAX][LEAT_WORKERS_MAX];
    uint64_t expected[LEAT_PORT_PEERS_MAX][LEAT_WORKERS_MAX];
    unsigned held_count;
    struct leat_packet held[ECHO_HELD_MAX];
    uint8_t *arena, *want;
    uint64_t arena_pos;
};

static struct echo echoes[LEAT_WORKERS_MAX];

static void echo_fill(uint8_t *to, const struct echo_header *header)
{
    for (uint32_t i = 0; i < header->bytes; i++)
        to[i] = (uint8_t)(header->sequence * 31 + header->from * 7 + i);
}

/* The message at the beginning of `data`; returns where the next begins, or `length_bytes`. */
static uint32_t echo_check_one(struct echo *echo, const struct leat_packet *packet,
                               const uint8_t *data, uint32_t length_bytes)
{
    struct echo_header header = {.from_worker = 0};
    uint32_t extent = length_bytes;
    bool good = length_bytes >= sizeof(header) && ((uintptr_t)data & 7) == 0;
    if (good) {
        memcpy(&header, data, sizeof(header));
        uint64_t end = sizeof(header) + (uint64_t)header.bytes;
        if (echo->config.bundles && end < length_bytes)
            extent = (uint32_t)((end + LEAT_PORT_BUNDLE_ALIGN - 1) & ~(LEAT_PORT_BUNDLE_ALIGN - 1));
        for (uint64_t i = end; good && i < extent && extent < length_bytes; i++)
            good = data[i] == 0;
        good = good && (extent < length_bytes || end == length_bytes) &&
               header.bytes <= ECHO_BYTES_MAX && header.from_worker < LEAT_WORKERS_MAX &&
               header.to_worker == echo->config.worker &&
               header.from == echo->config.peers[packet->peer].node_id;
    }
    if (good) {
        if (!echo->flood) {
            echo_fill(echo->want, &header);
            good = memcmp(echo->want, data + sizeof(header), header.bytes) == 0;
        }
        uint64_t *expected = &echo->expected[packet->peer][header.from_worker];
        if (header.sequence > *expected && *expected != 0)
            echo->page->lost += header.sequence - *expected;
        *expected = header.sequence + 1;
        atomic_store(&echo->page->heard[packet->peer], header.run);
        atomic_fetch_add(&echo->page->from[echo->config.worker][packet->peer][header.from_worker],
                         1);
    }
    atomic_fetch_add(good ? &echo->page->good : &echo->page->bad, 1);
    return good ? extent : length_bytes;
}

static void echo_check(struct echo *echo, const struct leat_packet *packet)
{
    uint32_t at = 0;
    do
        at += echo_check_one(echo, packet, (const uint8_t *)packet->data + at,
                             packet->length_bytes - at);
    while (at < packet->length_bytes);
}

static bool echo_send(struct echo *echo, unsigned peer, unsigned worker)
{
    echo->sequence++;
    struct echo_header header = {.sequence = ++echo->sequences[peer][worker],
                                 .bytes = echo->bytes,
                                 .from = echo->config.node_id,
                                 .run = echo->run,
                                 .from_worker = echo->config.worker,
                                 .to_worker = (uint16_t)worker};
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
    int rc = leat_port_send(echo->port, peer, worker, &header, sizeof(header), echo->arena + place,
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
    if (atomic_load(&echo->page->hold) && echo->held_count + count <= ECHO_HELD_MAX) {
        memcpy(echo->held + echo->held_count, packets, count * sizeof(packets[0]));
        echo->held_count += count;
        return count;
    }
    leat_port_release(echo->port, echo->held, echo->held_count);
    echo->held_count = 0;
    leat_port_release(echo->port, packets, count);
    return count;
}

static unsigned echo_peer_workers(const struct echo *echo, unsigned peer)
{
    unsigned count = echo->config.peers[peer].worker_count;
    return count > 0 ? count : echo->config.worker_count;
}

/* True when it is time to send again. */
static bool echo_may_send(struct echo *echo)
{
    uint64_t now_ns = leat_clock_monotonic_ns();
    if (echo->answer || (echo->gap_ns > 0 && now_ns < echo->send_ns))
        return false;
    echo->send_ns = now_ns + echo->gap_ns;
    return true;
}

static unsigned echo_pass(struct echo *echo)
{
    unsigned work = echo_receive(echo);
    for (unsigned i = 0; echo->flood && i < ECHO_FLOOD_POLLS; i++)
        work += echo_receive(echo);
    for (unsigned peer = 0, go = echo_may_send(echo); go && peer < echo->config.peer_count;
         peer++) {
        for (unsigned i = 0; i < echo->window && leat_port_peer_is_up(echo->port, peer); i++) {
            if (atomic_load(&echo->page->patient) && leat_port_is_full(echo->port, peer))
                break;
            for (unsigned worker = 0; worker < echo_peer_workers(echo, peer); worker++)
                echo_send(echo, peer, worker);
        }
    }
    leat_port_flush(echo->port);
    return work;
}

static bool echo_goes_on(const struct echo *echo)
{
    return !atomic_load(&echo->page->stop) && leat_clock_monotonic_ns() < echo->end_ns;
}

static void echo_report(const struct echo *echo)
{
    uint32_t up = 0;
    echo->page->workers[echo->config.worker] = *leat_port_counters(echo->port);
    if (echo->config.worker != 0)
        return;
    echo->page->counters = *leat_port_counters(echo->port);
    for (unsigned peer = 0; peer < echo->config.peer_count; peer++)
        up |= (uint32_t)leat_port_peer_is_up(echo->port, peer) << peer;
    atomic_store(&echo->page->peers_up, up);
}

static void echo_run(struct echo *echo)
{
    while (echo_goes_on(echo)) {
        leat_idle_step(&echo->idle, leat_clock_monotonic_ns(), echo_pass(echo), false);
        echo_report(echo);
    }
    leat_port_release(echo->port, echo->held, echo->held_count);
    echo->held_count = 0;
}

/* One datagram at a time; the payload is taken from the arena like a log's. */
static void echo_ping(struct echo *echo)
{
    static struct leat_histogram trips;
    uint64_t begin_ns = leat_clock_monotonic_ns();
    while (!leat_port_peer_is_up(echo->port, 0) && echo_goes_on(echo)) {
        echo_receive(echo);
        leat_idle_step(&echo->idle, leat_clock_monotonic_ns(), 0, false);
    }
    for (uint64_t i = 0; i < echo->ping_count && echo_goes_on(echo); i++) {
        uint64_t sent_ns = leat_clock_monotonic_ns(), good = echo->page->good;
        echo_send(echo, 0, 0);
        leat_port_flush(echo->port);
        unsigned work = 0;
        while ((work = echo_receive(echo)) == 0 && echo_goes_on(echo) &&
               leat_clock_monotonic_ns() - sent_ns < 100000000u)
            leat_idle_step(&echo->idle, leat_clock_monotonic_ns(), 0, false);
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
        struct leat_port_peer *peer = &echo->config.peers[echo->config.peer_count++];
        peer->node_id = id;
        peer->ipv4 = ECHO_NETWORK + id;
    }
}

static void echo_list_workers(struct echo *echo, const char *list)
{
    char *end = NULL;
    for (unsigned peer = 0; *list != '\0' && peer < LEAT_PORT_PEERS_MAX; peer++) {
        echo->config.peers[peer].worker_count = (uint16_t)strtoul(list, &end, 10);
        list = *end == ',' ? end + 1 : end;
    }
}

static bool echo_flag(struct echo *echo, int option)
{
    switch (option) {
    case 'a':
        return echo->answer = true;
    case 'f':
        return echo->flood = true;
    case 'R':
        return echo->config.reference_payloads = true;
    case 'B':
        return echo->config.bundles = true;
    case 'v':
        return echo->verbose = true;
    default:
        return false;
    }
}

static bool echo_value(struct echo *echo, int option, const char *text)
{
    uint64_t value = strtoull(text != NULL ? text : "", NULL, 10);
    switch (option) {
    case 'p':
        echo->page_fd = (int)value;
        return true;
    case 'c':
        echo->ping_count = value;
        return true;
    case 'b':
        echo->bytes = (uint32_t)value;
        return true;
    case 'r':
        echo->run = (uint32_t)value;
        return true;
    case 'i':
        echo->idle_name = text;
        return true;
    case 's':
        echo->seconds = value;
        return true;
    case 'w':
        echo->window = (unsigned)value;
        return true;
    case 'm':
        echo->config.mtu_bytes = (uint16_t)value;
        return true;
    case 'W':
        echo->config.worker_count = (uint16_t)value;
        return value >= 1 && value <= LEAT_WORKERS_MAX;
    case 'P':
        echo_list_workers(echo, text);
        return true;
    case 'g':
        echo->gap_ns = value * 1000;
        return true;
    case 't':
        echo->config.tx_buffer_count = (uint16_t)value;
        return true;
    default:
        return false;
    }
}

static int echo_options(struct echo *echo, int argc, char **argv)
{
    static const struct option options[] = {
        {"page", 1, 0, 'p'},    {"ping", 1, 0, 'c'},         {"bytes", 1, 0, 'b'},
        {"answer", 0, 0, 'a'},  {"idle", 1, 0, 'i'},         {"seconds", 1, 0, 's'},
        {"window", 1, 0, 'w'},  {"mtu", 1, 0, 'm'},          {"flood", 0, 0, 'f'},
        {"verbose", 0, 0, 'v'}, {"run", 1, 0, 'r'},          {"reference", 0, 0, 'R'},
        {"workers", 1, 0, 'W'}, {"peer-workers", 1, 0, 'P'}, {"gap-us", 1, 0, 'g'},
        {"bundles", 0, 0, 'B'}, {"tx-buffers", 1, 0, 't'},   {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (!echo_flag(echo, c) && !echo_value(echo, c, optarg))
            return 2;
    }
    if (argc - optind != 4 || echo->bytes > ECHO_BYTES_MAX)
        return 2;
    echo->end_ns = leat_clock_monotonic_ns() + echo->seconds * 1000000000u;
    echo->page =
        mmap(NULL, sizeof(*echo->page), PROT_READ | PROT_WRITE,
             echo->page_fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, echo->page_fd, 0);
    return echo->page == MAP_FAILED ? 1 : 0;
}

static int echo_config(struct echo *echo, char **argv)
{
    echo->config.kind = strcmp(argv[0], "memif") == 0       ? LEAT_PORT_MEMIF
                        : strcmp(argv[0], "af_packet") == 0 ? LEAT_PORT_AF_PACKET
                        : strcmp(argv[0], "pci") == 0       ? LEAT_PORT_PCI
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
    printf("  %-18s %llu\n  %-18s %llu\n", "good", (unsigned long long)echo->page->good, "bad",
           (unsigned long long)echo->page->bad);
#define ECHO_PRINT(name, text)                                                                     \
    if (counters->name > 0)                                                                        \
        printf("  %-18s %llu\n", #name, (unsigned long long)counters->name);
    LEAT_PORT_COUNTERS(ECHO_PRINT)
#undef ECHO_PRINT
}

static void *echo_thread(void *argument)
{
    struct echo *echo = argument;
    leat_port_thread_begin(echo->port);
    echo_run(echo);
    echo_report(echo);
    leat_port_thread_end(echo->port);
    return NULL;
}

/* Worker `worker`'s own, after the first's. */
static int echo_open(unsigned worker, char *error, unsigned error_bytes)
{
    struct echo *echo = &echoes[worker];
    if (worker > 0)
        *echo = echoes[0];
    const char *idle = echo->idle_name;
    leat_idle_init(&echo->idle,
                   *idle == 's' && idle[1] == 'p' ? LEAT_IDLE_SPIN
                   : *idle == 'y'                 ? LEAT_IDLE_YIELD
                                                  : LEAT_IDLE_SLEEP,
                   50000, 2000000);
    echo->config.worker = (uint16_t)worker;
    echo->arena = calloc(1, ECHO_ARENA_BYTES);
    echo->want = calloc(1, ECHO_BYTES_MAX);
    return leat_port_open(&echo->config, &echo->port, error, error_bytes);
}

static int echo_open_all(const struct leat_dataplane_config *dataplane)
{
    char error[256];
    int rc = leat_dataplane_start(dataplane, error, sizeof(error));
    for (unsigned worker = 0; rc == 0 && worker < echoes[0].config.worker_count; worker++)
        rc = echo_open(worker, error, sizeof(error));
    if (rc != 0)
        fprintf(stderr, "port_echo: %s\n", error);
    return rc;
}

static void echo_run_all(void)
{
    unsigned count = echoes[0].config.worker_count;
    for (unsigned worker = 1; worker < count; worker++) {
        if (pthread_create(&echoes[worker].thread, NULL, echo_thread, &echoes[worker]) != 0)
            abort();
    }
    echo_thread(&echoes[0]);
    for (unsigned worker = 1; worker < count; worker++)
        pthread_join(echoes[worker].thread, NULL);
}

int main(int argc, char **argv)
{
    struct echo *echo = &echoes[0];
    cpu_set_t before, after;
    *echo = (struct echo){.bytes = 1000,
                          .window = 8,
                          .page_fd = -1,
                          .idle_name = "yield",
                          .seconds = 60,
                          .config = {.mtu_bytes = 1500, .worker_count = 1}};
    int rc = echo_options(echo, argc, argv);
    if (rc != 0) {
        fprintf(stderr, "usage: port_echo KIND WHERE SELF PEERS [options]\n");
        return rc;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    echo_config(echo, argv + optind);
    const struct leat_dataplane_config dataplane = {
        .memory_mib = leat_port_memory_mib(&echo->config),
        .huge_pages = echo->config.kind == LEAT_PORT_PCI,
        .pci = echo->config.kind == LEAT_PORT_PCI};
    sched_getaffinity(0, sizeof(before), &before);
    uint64_t begin_ns = leat_clock_monotonic_ns();
    if (echo_open_all(&dataplane) != 0)
        return 1;
    uint64_t open_ns = leat_clock_monotonic_ns() - begin_ns;
    sched_getaffinity(0, sizeof(after), &after);
    echo->page->affinity_kept = CPU_EQUAL(&before, &after);
    echo->page->ready = 1;
    if (echo->ping_count > 0)
        echo_ping(echo);
    else
        echo_run_all();
    echo_report(echo);
    if (echo->verbose)
        echo_print(echo, open_ns);
    for (unsigned worker = echo->config.worker_count; worker > 0; worker--)
        leat_port_close(echoes[worker - 1].port);
    leat_dataplane_stop();
    return 0;
}
