/* SPDX-License-Identifier: Apache-2.0
 *
 * Ethernet, IPv4, UDP, ARP and ICMP as the port speaks them. Frames are made here by hand, so that
 * net.c's own writer is not its only judge.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "dataplane/clock.h"
#include "dataplane/idle.h"
#include "net.h"

#define SELF_IP  0x0a000001u
#define PEER_IP  0x0a000002u
#define OTHER_IP 0x0a000009u
#define PORT     7700u
#define MS       1000000u

static const uint8_t self_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t zero_mac[6];

struct bench {
    struct leat_net net;
    struct leat_port_counters counters;
    uint8_t frame[2000];
    uint32_t bytes;
    struct leat_net_datagram datagram;
};

static void set_up(struct bench *bench, const uint8_t mac[6])
{
    struct leat_port_config config = {
        .ipv4 = SELF_IP, .udp_port_base = PORT, .worker = 3, .worker_count = 5, .peer_count = 1};
    config.peers[0].ipv4 = PEER_IP;
    memcpy(config.peers[0].mac, mac, 6);
    memset(bench, 0, sizeof(*bench));
    leat_net_init(&bench->net, &config, self_mac);
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The checksum by its textbook definition. */
static unsigned checksum(const uint8_t *bytes, unsigned count, unsigned long sum)
{
    for (unsigned i = 0; i < count; i++)
        sum += i % 2 ? bytes[i] : (unsigned long)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (unsigned)(~sum & 0xffff);
}

static void finish_ip(struct bench *bench)
{
    put16(bench->frame + 24, 0);
    put16(bench->frame + 24, checksum(bench->frame + 14, 20, 0));
}

static void make_ip(struct bench *bench, unsigned protocol, unsigned l4_bytes)
{
    uint8_t *frame = bench->frame;
    memset(frame, 0, sizeof(bench->frame));
    memcpy(frame, self_mac, 6);
    memcpy(frame + 6, peer_mac, 6);
    put16(frame + 12, 0x0800);
    frame[14] = 0x45;
    put16(frame + 16, 20 + l4_bytes);
    frame[22] = 9;
    frame[23] = (uint8_t)protocol;
    put32(frame + 26, PEER_IP);
    put32(frame + 30, SELF_IP);
    finish_ip(bench);
    bench->bytes = 34 + l4_bytes;
}

static void finish_udp(struct bench *bench)
{
    unsigned bytes = bench->bytes - 34;
    put16(bench->frame + 40, 0);
    unsigned long pseudo = 17 + bytes;
    for (unsigned i = 26; i < 34; i++)
        pseudo += i % 2 ? bench->frame[i] : (unsigned long)bench->frame[i] << 8;
    put16(bench->frame + 40, checksum(bench->frame + 34, bytes, pseudo));
}

static void make_udp(struct bench *bench, unsigned payload_bytes)
{
    make_ip(bench, 17, 8 + payload_bytes);
    put16(bench->frame + 34, 555);
    put16(bench->frame + 36, PORT + 3);
    put16(bench->frame + 38, 8 + payload_bytes);
    for (unsigned i = 0; i < payload_bytes; i++)
        bench->frame[42 + i] = (uint8_t)(i + 1);
}

static enum leat_net_action receive(struct bench *bench)
{
    /* in an allocation of exactly its size, so that a read past it is seen */
    uint8_t *exact = malloc(bench->bytes + 1u);
    memcpy(exact, bench->frame, bench->bytes);
    enum leat_net_action action =
        leat_net_receive(&bench->net, &bench->counters, exact, bench->bytes,
                         LEAT_NET_CHECKSUM_UNKNOWN, &bench->datagram);
    memcpy(bench->frame, exact, bench->bytes);
    free(exact);
    return action;
}

static void what_is_written_is_received(void **state)
{
    (void)state;
    struct bench a, b;
    uint8_t headers[LEAT_NET_HEADERS_BYTES];
    set_up(&a, peer_mac);
    set_up(&b, peer_mac);
    b.net.ipv4 = PEER_IP; /* b is the peer; a is b's peer */
    b.net.peers[0].ipv4 = SELF_IP;
    leat_net_write_headers(&a.net, 0, 3, 100, headers);
    memcpy(b.frame, headers, sizeof(headers));
    b.bytes = 142;
    assert_int_equal(checksum(headers + 14, 20, 0), 0);
    assert_memory_equal(headers, peer_mac, 6);
    assert_memory_equal(headers + 6, self_mac, 6);
    assert_int_equal(receive(&b), LEAT_NET_DATAGRAM);
    assert_int_equal(b.datagram.payload_offset, 42);
    assert_int_equal(b.datagram.length_bytes, 100);
    assert_int_equal(b.datagram.peer, 0);
    assert_int_equal(b.datagram.worker, 3);
    leat_net_write_headers(&a.net, 0, 4, 100, b.frame);
    assert_int_equal(receive(&b), LEAT_NET_DATAGRAM); /* to another worker of the same node */
    assert_int_equal(b.datagram.worker, 4);
}

static void udp_checksum_is_verified_when_there_is_one(void **state)
{
    (void)state;
    struct bench bench;
    set_up(&bench, peer_mac);
    for (unsigned bytes = 1; bytes < 50; bytes++) {
        make_udp(&bench, bytes);
        finish_udp(&bench);
        assert_int_equal(receive(&bench), LEAT_NET_DATAGRAM);
        bench.frame[41 + bytes] ^= 4;
        assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
        assert_int_equal(leat_net_receive(&bench.net, &bench.counters, bench.frame, bench.bytes,
                                          LEAT_NET_CHECKSUM_GOOD, &bench.datagram),
                         LEAT_NET_DATAGRAM); /* the device said so */
    }
    assert_int_equal(bench.counters.rx_drop_udp, 49);
}

static void padding_of_short_frames_is_not_payload(void **state)
{
    (void)state;
    struct bench bench;
    set_up(&bench, peer_mac);
    make_udp(&bench, 5);
    finish_udp(&bench);
    memset(bench.frame + 47, 0xee, 13);
    bench.bytes = 60;
    assert_int_equal(receive(&bench), LEAT_NET_DATAGRAM);
    assert_int_equal(bench.datagram.length_bytes, 5);
}

static void each_fault_is_counted_by_its_reason(void **state)
{
    (void)state;
    struct bench bench;
    set_up(&bench, peer_mac);
#define DROPPED(change, counter)                                                                   \
    do {                                                                                           \
        uint64_t before = bench.counters.counter;                                                  \
        make_udp(&bench, 30);                                                                      \
        change;                                                                                    \
        assert_int_equal(receive(&bench), LEAT_NET_NOTHING);                                       \
        assert_int_equal(bench.counters.counter, before + 1);                                      \
    } while (0)
#define WITH_SUM(change) change, finish_ip(&bench)
    uint8_t *frame = bench.frame;
    DROPPED(bench.bytes = 0, rx_drop_runt);
    DROPPED(bench.bytes = 13, rx_drop_runt);
    DROPPED(bench.bytes = 33, rx_drop_runt);
    DROPPED((put16(frame + 12, 0x0806), bench.bytes = 41), rx_drop_runt);
    DROPPED(put16(frame + 12, 0x86dd), rx_drop_ethertype);
    DROPPED(put16(frame + 12, 0x8100), rx_drop_ethertype);
    DROPPED(put16(frame + 12, 0x0806), rx_drop_ethertype); /* not Ethernet and IPv4 */
    DROPPED(frame[24] ^= 1, rx_drop_ip);
    DROPPED((WITH_SUM(frame[14] = 0x46)), rx_drop_ip);          /* options */
    DROPPED((WITH_SUM(frame[14] = 0x65)), rx_drop_ip);          /* version 6 */
    DROPPED((WITH_SUM(put16(frame + 20, 0x2000))), rx_drop_ip); /* first fragment */
    DROPPED((WITH_SUM(put16(frame + 20, 0x0001))), rx_drop_ip); /* last fragment */
    DROPPED((WITH_SUM(put16(frame + 20, 0x8000))), rx_drop_ip); /* reserved bit */
    DROPPED((WITH_SUM(put16(frame + 16, 19))), rx_drop_ip);     /* shorter than its header */
    DROPPED((WITH_SUM(put16(frame + 16, 59))), rx_drop_ip);     /* longer than the frame */
    DROPPED((WITH_SUM(put32(frame + 30, OTHER_IP))), rx_drop_address);
    DROPPED((WITH_SUM(put32(frame + 30, 0xffffffff))), rx_drop_address);
    DROPPED((WITH_SUM(frame[23] = 6)), rx_drop_protocol);
    DROPPED((WITH_SUM(frame[23] = 1)), rx_drop_protocol); /* not an echo request */
    DROPPED(put16(frame + 38, 37), rx_drop_udp);
    DROPPED(put16(frame + 38, 39), rx_drop_udp);
    DROPPED((WITH_SUM(put16(frame + 16, 27))), rx_drop_udp); /* no room for UDP */
    DROPPED(put16(frame + 40, 0x1234), rx_drop_udp);
    DROPPED(put16(frame + 36, PORT - 1), rx_drop_port);
    DROPPED(put16(frame + 36, PORT + 5), rx_drop_port);
    DROPPED((WITH_SUM(put32(frame + 26, OTHER_IP))), rx_drop_source);
    assert_int_equal(bench.counters.rx_arp, 0);
}

static void make_arp(struct bench *bench, unsigned operation, uint32_t sender, uint32_t target)
{
    static const uint8_t start[6] = {0, 1, 8, 0, 6, 4};
    memset(bench->frame, 0, sizeof(bench->frame));
    memset(bench->frame, 0xff, 6);
    memcpy(bench->frame + 6, peer_mac, 6);
    put16(bench->frame + 12, 0x0806);
    memcpy(bench->frame + 14, start, 6);
    put16(bench->frame + 20, operation);
    memcpy(bench->frame + 22, peer_mac, 6);
    put32(bench->frame + 28, sender);
    put32(bench->frame + 38, target);
    bench->bytes = 60;
}

static void arp_requests_are_answered_and_learned_from(void **state)
{
    (void)state;
    struct bench bench;
    set_up(&bench, zero_mac);
    make_arp(&bench, 1, PEER_IP, SELF_IP);
    assert_int_equal(receive(&bench), LEAT_NET_REPLY);
    assert_int_equal(bench.datagram.length_bytes, 42);
    assert_memory_equal(bench.frame, peer_mac, 6);
    assert_memory_equal(bench.frame + 6, self_mac, 6);
    assert_int_equal(bench.frame[21], 2);
    assert_memory_equal(bench.frame + 22, self_mac, 6);
    assert_int_equal(get32(bench.frame + 28), SELF_IP);
    assert_memory_equal(bench.frame + 32, peer_mac, 6);
    assert_int_equal(get32(bench.frame + 38), PEER_IP);
    assert_true(leat_net_peer_is_known(&bench.net, 0));
    assert_memory_equal(bench.net.peers[0].mac, peer_mac, 6);
    make_arp(&bench, 1, PEER_IP, OTHER_IP); /* for somebody else */
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_int_equal(bench.counters.rx_arp, 2);
}

static void arp_is_asked_again_until_answered(void **state)
{
    (void)state;
    struct bench bench;
    uint8_t request[LEAT_NET_ARP_BYTES];
    uint64_t now = 5000 * (uint64_t)MS;
    set_up(&bench, zero_mac);
    assert_false(leat_net_peer_is_known(&bench.net, 0));
    assert_true(leat_net_arp_due(&bench.net, now, request));
    assert_int_equal(get32(request + 38), PEER_IP);
    assert_int_equal(request[21], 1);
    assert_false(leat_net_arp_due(&bench.net, now, request));
    assert_false(leat_net_arp_due(&bench.net, now + 99 * MS, request));
    assert_true(leat_net_arp_due(&bench.net, now + 100 * MS, request));
    make_arp(&bench, 2, OTHER_IP, SELF_IP); /* nobody's */
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_false(leat_net_peer_is_known(&bench.net, 0));
    make_arp(&bench, 2, PEER_IP, SELF_IP);
    bench.frame[22] |= 1; /* a group address is nobody's */
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_false(leat_net_peer_is_known(&bench.net, 0));
    make_arp(&bench, 2, PEER_IP, SELF_IP);
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_true(leat_net_peer_is_known(&bench.net, 0));
    assert_false(leat_net_arp_due(&bench.net, now + 1000 * MS, request));
}

static void a_silent_peer_is_asked_for_again_and_sent_to_meanwhile(void **state)
{
    (void)state;
    struct bench bench;
    uint8_t request[LEAT_NET_ARP_BYTES];
    uint64_t now = 5000 * (uint64_t)MS;
    set_up(&bench, zero_mac);
    bench.net.now_ns = now;
    assert_true(leat_net_arp_due(&bench.net, now, request));
    make_arp(&bench, 2, PEER_IP, SELF_IP);
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_int_equal(bench.net.spoke, 1);
    assert_false(leat_net_arp_due(&bench.net, now + LEAT_NET_ARP_SILENCE_NS - 1, request));
    assert_true(leat_net_arp_due(&bench.net, now + LEAT_NET_ARP_SILENCE_NS, request));
    assert_true(leat_net_peer_is_known(&bench.net, 0));
    assert_false(leat_net_arp_due(&bench.net, now + 2 * LEAT_NET_ARP_SILENCE_NS - 1, request));
    assert_true(leat_net_arp_due(&bench.net, now + 2 * LEAT_NET_ARP_SILENCE_NS, request));
    now += 3 * LEAT_NET_ARP_SILENCE_NS;
    bench.net.now_ns = now;
    make_arp(&bench, 2, PEER_IP, SELF_IP);
    bench.frame[27] = 0x77; /* the new card */
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_int_equal(bench.net.peers[0].mac[5], 0x77);
    assert_false(leat_net_arp_due(&bench.net, now + LEAT_NET_ARP_SILENCE_NS - 1, request));
}

static void a_configured_address_is_never_overwritten(void **state)
{
    (void)state;
    static const uint8_t configured[6] = {2, 0, 0, 0, 0, 0x77};
    struct bench bench;
    uint8_t request[LEAT_NET_ARP_BYTES];
    set_up(&bench, configured);
    assert_false(leat_net_arp_due(&bench.net, 1, request));
    make_arp(&bench, 2, PEER_IP, SELF_IP);
    assert_int_equal(receive(&bench), LEAT_NET_NOTHING);
    assert_memory_equal(bench.net.peers[0].mac, configured, 6);
}

static void echo_requests_are_answered(void **state)
{
    (void)state;
    struct bench bench;
    set_up(&bench, peer_mac);
    make_ip(&bench, 1, 8 + 33);
    put32(bench.frame + 26, OTHER_IP); /* from anybody */
    finish_ip(&bench);
    bench.frame[34] = 8;
    for (unsigned i = 38; i < bench.bytes; i++)
        bench.frame[i] = (uint8_t)i;
    put16(bench.frame + 36, checksum(bench.frame + 34, 41, 0));
    struct bench damaged = bench;
    assert_int_equal(receive(&bench), LEAT_NET_REPLY);
    assert_int_equal(bench.datagram.length_bytes, bench.bytes);
    assert_int_equal(bench.frame[34], 0);
    assert_int_equal(checksum(bench.frame + 14, 20, 0), 0);
    assert_int_equal(checksum(bench.frame + 34, 41, 0), 0);
    assert_int_equal(get32(bench.frame + 26), SELF_IP);
    assert_int_equal(get32(bench.frame + 30), OTHER_IP);
    assert_memory_equal(bench.frame, peer_mac, 6);
    damaged.frame[50] ^= 1;
    assert_int_equal(receive(&damaged), LEAT_NET_NOTHING);
    assert_int_equal(damaged.counters.rx_drop_protocol, 1);
}

static void random_frames_are_survived(void **state)
{
    (void)state;
    struct bench bench;
    struct leat_rng rng = {.state = 4};
    set_up(&bench, zero_mac);
    for (unsigned round = 0; round < 300000; round++) {
        make_udp(&bench, (unsigned)leat_rng_below(&rng, 100));
        if (round % 3 == 0)
            make_arp(&bench, 1, PEER_IP, SELF_IP);
        for (unsigned hits = (unsigned)leat_rng_below(&rng, 5); hits > 0; hits--)
            bench.frame[leat_rng_below(&rng, 60)] = (uint8_t)leat_rng_next(&rng);
        if (round % 2 == 0)
            bench.bytes = (uint32_t)leat_rng_below(&rng, bench.bytes + 1);
        if (round % 5 == 0)
            finish_ip(&bench);
        if (receive(&bench) == LEAT_NET_DATAGRAM)
            assert_true(bench.datagram.payload_offset + bench.datagram.length_bytes <= bench.bytes);
    }
}

static void clocks_and_idling_go_on(void **state)
{
    (void)state;
    struct leat_idle idle;
    uint64_t begin_ns = leat_clock_monotonic_ns();
    assert_true(leat_clock_realtime_ns() > 1700000000ull * 1000000000ull);
    for (enum leat_idle_strategy s = LEAT_IDLE_SPIN; s <= LEAT_IDLE_SLEEP; s++) {
        leat_idle_init(&idle, s, 1000, 1000);
        for (unsigned i = 0; i < LEAT_IDLE_YIELDS_BEFORE_SLEEP + 3; i++)
            leat_idle_step(&idle, 0, 0, false);
        assert_int_equal(idle.sleeps, s == LEAT_IDLE_SLEEP ? 3 : 0);
        leat_idle_step(&idle, 0, 1, false); /* work: yields come first again */
        leat_idle_step(&idle, 0, 0, false);
        assert_int_equal(idle.sleeps, s == LEAT_IDLE_SLEEP ? 3 : 0);
        uint64_t yields = idle.yields, sleeps = idle.sleeps;
        for (unsigned i = 0; i < 1000; i++)
            leat_idle_step(&idle, 0, 0, true); /* it comes soon: the core is kept */
        assert_true(idle.yields == yields && idle.sleeps == sleeps);
    }
    leat_idle_init(&idle, LEAT_IDLE_YIELD, 1000, 1000); /* now and then it leaves the run queue */
    for (uint64_t now_ns = 0; now_ns < 2 * LEAT_IDLE_YIELD_NS; now_ns += 1000)
        leat_idle_step(&idle, now_ns, 0, false);
    assert_int_equal(idle.sleeps, 1);
    leat_idle_step(&idle, 2 * LEAT_IDLE_YIELD_NS, 1, false); /* but not soon after work */
    leat_idle_step(&idle, 3 * LEAT_IDLE_YIELD_NS - 1, 0, false);
    assert_int_equal(idle.sleeps, 1);
    assert_true(leat_clock_monotonic_ns() > begin_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_received),
        cmocka_unit_test(udp_checksum_is_verified_when_there_is_one),
        cmocka_unit_test(padding_of_short_frames_is_not_payload),
        cmocka_unit_test(each_fault_is_counted_by_its_reason),
        cmocka_unit_test(arp_requests_are_answered_and_learned_from),
        cmocka_unit_test(arp_is_asked_again_until_answered),
        cmocka_unit_test(a_silent_peer_is_asked_for_again_and_sent_to_meanwhile),
        cmocka_unit_test(a_configured_address_is_never_overwritten),
        cmocka_unit_test(echo_requests_are_answered),
        cmocka_unit_test(random_frames_are_survived),
        cmocka_unit_test(clocks_and_idling_go_on),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
