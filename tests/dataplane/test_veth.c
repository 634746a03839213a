/* SPDX-License-Identifier: Apache-2.0
 *
 * The port on kernel interfaces: a veth pair between two network namespaces, made and removed here
 * under names of this process. af_packet and af_xdp exchange datagrams after finding each other by
 * ARP; garbage of plain and raw sockets at the other end is dropped and counted by its reason.
 *
 * The nodes' addresses are not configured in the kernel, or it would answer too. Skipped without
 * root or where the kernel has no veth. Run by the build with PORT_ECHO naming the program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "echo_nodes.h"

#define PORT 7700

static char netns[2][32], veth[2][16];
static int netns_fd[2] = {-1, -1};

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return system(command);
}

static void remove_links(void)
{
    for (unsigned i = 0; i < 2; i++) {
        if (netns_fd[i] >= 0)
            close(netns_fd[i]);
        netns_fd[i] = -1;
        run("ip netns del %s 2>/dev/null", netns[i]); /* and its end of the pair */
    }
}

static int make_links(void)
{
    char path[64];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(netns[i], sizeof(netns[i]), "leat-test-%ld-%u", (long)getpid(), i);
        snprintf(veth[i], sizeof(veth[i]), "lt%ld-%u", (long)getpid() % 1000000, i);
        if (run("ip netns add %s 2>/dev/null", netns[i]) != 0)
            return -1;
        snprintf(path, sizeof(path), "/var/run/netns/%s", netns[i]);
        netns_fd[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (run("ip link add %s netns %s type veth peer name %s netns %s 2>/dev/null", veth[0],
            netns[0], veth[1], netns[1]) != 0)
        return -1;
    return run("ip -n %s link set %s up && ip -n %s link set %s up", netns[0], veth[0], netns[1],
               veth[1]);
}

static int set_up(void **state)
{
    (void)state;
    nodes_reset();
    return make_links();
}

static int tear_down(void **state)
{
    (void)state;
    nodes_reset();
    remove_links();
    return 0;
}

static void start_on(unsigned end, unsigned id, const char *kind, const char *peers)
{
    node_setting.kind = kind;
    node_setting.where = veth[end];
    node_setting.netns_fd = netns_fd[end];
    node_start(id, peers);
}

static void exchange(const char *kind)
{
    start_on(0, 1, kind, "2");
    start_on(1, 2, kind, "1");
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
    assert_true(nodes[1].page->counters.rx_arp > 0);
    node_end_well(1);
    node_end_well(2);
}

static void af_packet_exchanges(void **state)
{
    (void)state;
    exchange("af_packet");
}

static void af_packet_messages_share_datagrams(void **state)
{
    (void)state;
    node_setting.bundles = true;
    node_setting.bytes = 100;
    exchange("af_packet");
}

static void af_xdp_exchanges(void **state)
{
    (void)state;
    exchange("af_xdp");
}

/* The link goes down and up again under load: both ends see it, survive and go on. */
static void link_goes_down(const char *kind)
{
    start_on(0, 1, kind, "2");
    start_on(1, 2, kind, "1");
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(run("ip -n %s link set %s down", netns[0], veth[0]), 0);
        WAIT_UNTIL(nodes[1].page->counters.link_down == round + 1);
        WAIT_UNTIL(nodes[2].page->counters.link_down >= round + 1);
        WAIT_UNTIL(nodes[1].page->peers_up == 0 && nodes[2].page->peers_up == 0);
        assert_int_equal(run("ip -n %s link set %s up", netns[0], veth[0]), 0);
        uint64_t good = nodes[2].page->good, back = nodes[1].page->good;
        WAIT_UNTIL(nodes[1].page->peers_up == 1 && nodes[2].page->peers_up == 1);
        WAIT_UNTIL(nodes[2].page->good > good + NODE_DATAGRAMS &&
                   nodes[1].page->good > back + NODE_DATAGRAMS);
    }
    assert_int_equal(nodes[1].page->counters.link_up, 4);
    node_end_well(1);
    node_end_well(2);
}

static void af_packet_survives_a_link_that_goes_down(void **state)
{
    (void)state;
    link_goes_down("af_packet");
}

static void af_xdp_survives_a_link_that_goes_down(void **state)
{
    (void)state;
    link_goes_down("af_xdp"); /* flooded: all of its buffers go round */
}

/* --- workers */

/* Node 1 has `first` workers, node 2 `second`; each hears all of the other's, and nothing is lost.
 */
static void workers_exchange(const char *kind, unsigned first, unsigned second)
{
    char counts[2][8];
    snprintf(counts[0], sizeof(counts[0]), "%u", first);
    snprintf(counts[1], sizeof(counts[1]), "%u", second);
    node_setting.gap_us = 2000;
    node_setting.workers = first;
    node_setting.peer_workers = counts[1];
    start_on(0, 1, kind, "2");
    node_setting.workers = second;
    node_setting.peer_workers = counts[0];
    start_on(1, 2, kind, "1");
    WAIT_UNTIL(node_heard_all(1, first, 0, second, 200) &&
               node_heard_all(2, second, 0, first, 200));
    for (unsigned id = 1; id <= 2; id++) {
        uint64_t over = NODE_SUM(id, rx_handed_over), taken = NODE_SUM(id, rx_taken_over);
        if ((id == 1 ? first : second) == 1)
            assert_int_equal(over + taken, 0);
        else
            assert_true(taken > 0);
        assert_int_equal(NODE_SUM(id, rx_drop_handover) + NODE_SUM(id, tx_drop_handover), 0);
        assert_int_equal(nodes[id].page->lost, 0);
    }
    node_end_well(1);
    node_end_well(2);
    for (unsigned id = 1; id <= 2; id++) {
        uint64_t over = NODE_SUM(id, rx_handed_over), taken = NODE_SUM(id, rx_taken_over);
        assert_true(over >= taken && over - taken <= 16 * LEAT_PORT_HANDOVER_MAX);
    }
}

static void af_packet_workers_hear_each_other(void **state)
{
    (void)state;
    workers_exchange("af_packet", 2, 2);
}

static void af_packet_worker_counts_may_differ(void **state)
{
    (void)state;
    workers_exchange("af_packet", 1, 3);
}

/* One queue: what the others send goes through worker 0 as well. */
static void af_xdp_workers_hear_each_other(void **state)
{
    (void)state;
    workers_exchange("af_xdp", 2, 3);
    assert_true(NODE_SUM(1, tx_handed_over) > 0 && NODE_SUM(2, tx_handed_over) > 0);
}

/* --- sizes and faults */

static void af_packet_carries_9000_bytes(void **state)
{
    (void)state;
    node_setting.mtu = 9000;
    node_setting.bytes = 8900;
    start_on(0, 1, "af_packet", "2"); /* the interface carries 1500: said, and nothing opened */
    int status = 0;
    WAIT_UNTIL(waitpid(nodes[1].pid, &status, WNOHANG) == nodes[1].pid);
    nodes[1].pid = 0;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(run("ip -n %s link set %s mtu 9000", netns[i], veth[i]), 0);
    exchange("af_packet");
}

/* The path shrinks under a port: too large datagrams are dropped by name until it grows again. */
static void a_datagram_larger_than_the_path_is_dropped(void **state)
{
    (void)state;
    start_on(0, 1, "af_packet", "2");
    start_on(1, 2, "af_packet", "1");
    WAIT_UNTIL(nodes[2].page->good > NODE_DATAGRAMS);
    assert_int_equal(nodes[1].page->counters.tx_drop_size, 0);
    assert_int_equal(run("ip -n %s link set %s mtu 900", netns[0], veth[0]), 0);
    WAIT_UNTIL(nodes[1].page->counters.tx_drop_size > 100);
    assert_int_equal(run("ip -n %s link set %s mtu 1500", netns[0], veth[0]), 0);
    uint64_t good = nodes[2].page->good;
    WAIT_UNTIL(nodes[2].page->good > good + NODE_DATAGRAMS);
    node_end_well(1);
    node_end_well(2);
}

/* Its worker gives nothing back until the pool is empty: counted, and over when it does. */
static void af_packet_survives_an_empty_pool(void **state)
{
    (void)state;
    start_on(0, 1, "af_packet", "2");
    start_on(1, 2, "af_packet", "1");
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS);
    atomic_store(&nodes[1].page->hold, 1);
    WAIT_UNTIL(nodes[1].page->counters.rx_pool_empty > 0);
    atomic_store(&nodes[1].page->hold, 0);
    uint64_t good = nodes[1].page->good;
    WAIT_UNTIL(nodes[1].page->good > good + 4 * NODE_DATAGRAMS);
    node_end_well(1);
    node_end_well(2);
}

/* Thousands of its buffers are with the worker, so that all others go round: the kernel must take
 * each of them, in both directions, and give it back. */
static void af_xdp_survives_a_pool_in_use(void **state)
{
    (void)state;
    start_on(0, 1, "af_xdp", "2");
    start_on(1, 2, "af_xdp", "1");
    for (unsigned round = 0; round < 3; round++) {
        WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
        uint64_t held = nodes[1].page->good;
        atomic_store(&nodes[1].page->hold, 1);
        WAIT_UNTIL(nodes[1].page->good > held + 3000);
        atomic_store(&nodes[1].page->hold, 0);
        uint64_t good = nodes[1].page->good, back = nodes[2].page->good;
        WAIT_UNTIL(nodes[1].page->good > good + 4 * NODE_DATAGRAMS &&
                   nodes[2].page->good > back + 4 * NODE_DATAGRAMS);
    }
    node_end_well(1);
    node_end_well(2);
}

/* The peer's card is replaced while it says nothing: it is asked for again, and found. */
static void a_silent_peers_address_is_asked_for_again(void **state)
{
    (void)state;
    start_on(0, 1, "af_packet", "2");
    start_on(1, 2, "af_packet", "1");
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
    uint64_t asked = nodes[1].page->counters.tx_arp;
    node_kill(2);
    WAIT_UNTIL(nodes[1].page->counters.tx_arp >= asked + 2);
    assert_true(nodes[1].page->counters.tx_arp <= asked + 4); /* at most every two seconds */
    node_end_well(1);
}

/* --- garbage */

static int in_netns(unsigned end, int (*function)(void))
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(setns(netns_fd[end], CLONE_NEWNET) == 0 ? function() : 99);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int send_udp(uint16_t port, const char *from, int without_sum)
{
    static const char garbage[200] = "garbage";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in source = {.sin_family = AF_INET};
    inet_pton(AF_INET, "10.77.0.1", &to.sin_addr);
    inet_pton(AF_INET, from, &source.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &without_sum, sizeof(without_sum));
    int rc = bind(fd, (struct sockaddr *)&source, sizeof(source));
    for (unsigned bytes = 0; rc == 0 && bytes < sizeof(garbage); bytes += 20)
        rc = sendto(fd, garbage, bytes, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -1 : 0;
    close(fd);
    return rc;
}

/* Ten each: from a stranger, for another port, from a peer. */
static int send_plain_garbage(void)
{
    return send_udp(PORT, "10.77.0.9", 1) != 0 || send_udp(PORT + 1, "10.77.0.2", 1) != 0 ||
           send_udp(PORT, "10.77.0.2", 1) != 0;
}

static int send_raw_garbage(void)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
    uint8_t frame[60];
    to.sll_ifindex = (int)if_nametoindex(veth[1]);
    memset(to.sll_addr, 0xff, 6);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    int rc = 0;
    for (unsigned i = 0; i < 20 && rc == 0; i++) {
        memset(frame, 0, sizeof(frame));
        memset(frame, 0xff, 6);
        frame[12] = i < 10 ? 0x88 : 0x08; /* an unknown ethertype; IPv4 with nothing in it */
        frame[13] = i < 10 ? 0xb5 : 0x00;
        rc =
            sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)) == sizeof(frame)
                ? 0
                : -1;
    }
    close(fd);
    return rc != 0;
}

static void garbage_is_dropped_and_counted(void **state)
{
    (void)state;
    start_on(0, 1, "af_packet", "2");
    WAIT_UNTIL(nodes[1].page->ready == 1);
    assert_int_equal(run("ip -n %s addr add 10.77.0.2/24 dev %s && ip -n %s addr add 10.77.0.9/24 "
                         "dev %s",
                         netns[1], veth[1], netns[1], veth[1]),
                     0);
    assert_int_equal(in_netns(1, send_plain_garbage), 0); /* the kernel asks by ARP first */
    assert_int_equal(in_netns(1, send_raw_garbage), 0);
    const struct leat_port_counters *counters = &nodes[1].page->counters;
    WAIT_UNTIL(counters->rx_drop_source >= 10 && counters->rx_drop_port >= 10);
    WAIT_UNTIL(counters->rx_drop_ip >= 10 && counters->rx_drop_ethertype >= 10);
    WAIT_UNTIL(nodes[1].page->bad == 10); /* a peer's garbage is for the wire's checks */
    assert_int_equal(counters->rx_packets, 10);
    assert_int_equal(run("ip netns exec %s ping -c 1 -W 5 10.77.0.1 >/dev/null 2>&1 || "
                         "! command -v ping >/dev/null",
                         netns[1]),
                     0);
    nodes[1].page->bad = 0;
    node_end_well(1);
}

int main(void)
{
    if (getenv("PORT_ECHO") == NULL || geteuid() != 0 || make_links() != 0) {
        remove_links();
        printf("1..0 # SKIP needs root, ip(8) and veth\n");
        return 77;
    }
    remove_links();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(af_packet_exchanges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_packet_messages_share_datagrams, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_xdp_exchanges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_packet_survives_a_link_that_goes_down, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(af_xdp_survives_a_link_that_goes_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_packet_workers_hear_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_packet_worker_counts_may_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_xdp_workers_hear_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_packet_carries_9000_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_datagram_larger_than_the_path_is_dropped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(af_packet_survives_an_empty_pool, set_up, tear_down),
        cmocka_unit_test_setup_teardown(af_xdp_survives_a_pool_in_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_peers_address_is_asked_for_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(garbage_is_dropped_and_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("veth", tests, NULL, NULL);
}
