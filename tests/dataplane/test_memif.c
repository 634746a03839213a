/* SPDX-License-Identifier: Apache-2.0
 *
 * memif between real processes (port_echo): any start order, an unprivileged user, a paused
 * server, and counter-example CE8: peers killed under load on one shared CPU with a busy process
 * beside them; the survivor lives and hears the next peer within a second. Nothing stays behind.
 *
 * Run by the build with PORT_ECHO naming the program. Every wait is for a condition, with a bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "echo_nodes.h"

#define KILLS         100u /* half of them servers, half clients */
#define KILLS_WORKERS 10u
#define RESUME_NS_MAX 1000000000u

static char directory[64];

/* LEAT_TEST_KILLS: another number, for a soak. */
static unsigned kills_wanted(void)
{
    const char *text = getenv("LEAT_TEST_KILLS");
    unsigned kills = text ? (unsigned)strtoul(text, NULL, 10) / 2 * 2 : KILLS;
    assert_true(kills > 0);
    return kills;
}

static unsigned files_in(const char *path)
{
    unsigned count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/leat-test-memif-XXXXXX");
    nodes_reset();
    node_setting.where = directory;
    return mkdtemp(directory) != NULL && chmod(directory, 0777) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    nodes_reset();
    static const char *const links[] = {"1-2", "1-3", "2-3"};
    for (unsigned i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        for (unsigned queues = 1; queues <= 3; queues++) {
            char path[96];
            snprintf(path, sizeof(path), "%s/%s-q%u.sock", directory, links[i], queues);
            unlink(path); /* of a server that was killed */
        }
    }
    return rmdir(directory);
}

static void exchange(unsigned first, unsigned second)
{
    static const char *const peers[] = {"", "2", "1"};
    node_start(first, peers[first]);
    WAIT_UNTIL(atomic_load(&nodes[first].page->ready) == 1);
    node_start(second, peers[second]);
    WAIT_UNTIL(nodes[first].page->good > NODE_DATAGRAMS &&
               nodes[second].page->good > NODE_DATAGRAMS);
    assert_int_equal(nodes[first].page->affinity_kept, 1);
    assert_int_equal(nodes[first].page->counters.link_up, 1);
    node_end_well(second);
    node_end_well(first);
    assert_int_equal(files_in(directory), 0);
}

static void the_server_may_start_first(void **state)
{
    (void)state;
    exchange(1, 2);
}

static void the_client_may_start_first(void **state)
{
    (void)state;
    exchange(2, 1);
}

static void it_works_without_privileges(void **state)
{
    (void)state;
    node_setting.unprivileged = getuid() == 0;
    exchange(1, 2);
}

static void payloads_may_be_sent_from_where_they_lie(void **state)
{
    (void)state;
    node_setting.reference = true;
    node_start(1, "2");
    node_start(2, "1");
    WAIT_UNTIL(nodes[1].page->good > 10 * NODE_DATAGRAMS &&
               nodes[2].page->good > 10 * NODE_DATAGRAMS);
    assert_true(nodes[1].page->counters.tx_referenced > 0);
    assert_int_equal(nodes[1].page->counters.tx_gathered, 0);
    node_end_well(2);
    node_end_well(1);
}

/* Sizes that leave gaps to be filled, that fill a datagram, and one message that fills one. */
static void messages_share_datagrams(void **state)
{
    static const unsigned sizes[] = {37, 400, 1400};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        node_setting.bundles = true;
        node_setting.bytes = sizes[i];
        node_start(1, "2");
        node_start(2, "1");
        WAIT_UNTIL(nodes[1].page->good > 10 * NODE_DATAGRAMS &&
                   nodes[2].page->good > 10 * NODE_DATAGRAMS);
        bool shared = nodes[1].page->counters.tx_bundled > 0;
        assert_int_equal(shared, sizes[i] < 1400);
        node_end_well(2);
        node_end_well(1);
    }
}

/* Node 1 serves both others. While it is paused, its backlog fills with node 3's attempts; node 3
 * is started anew and must still find node 2. */
static void a_paused_server_holds_nobody_up(void **state)
{
    (void)state;
    node_start(1, "2,3");
    node_start(2, "1,3");
    node_start(3, "1,2");
    WAIT_UNTIL(nodes[3].page->heard[0] != 0 && nodes[3].page->heard[1] != 0);
    kill(nodes[1].pid, SIGSTOP);
    for (unsigned round = 0; round < 4; round++) {
        node_kill(3);
        node_start(3, "1,2");
        WAIT_UNTIL(nodes[3].page->heard[1] != 0 && nodes[2].page->heard[1] == node_runs);
        uint64_t good = nodes[3].page->good;
        WAIT_UNTIL(nodes[3].page->good > good + NODE_DATAGRAMS);
    }
    kill(nodes[1].pid, SIGCONT);
    WAIT_UNTIL(nodes[1].page->heard[1] == node_runs && nodes[3].page->heard[0] != 0);
    node_end_well(3);
    node_end_well(2);
    node_end_well(1);
    assert_int_equal(files_in(directory), 0);
}

/* --- workers, sizes, faults */

/* Every worker hears every worker of the peer, over a queue of its own; nothing is lost. */
static void workers_exchange(unsigned first, unsigned second)
{
    char counts[2][8];
    snprintf(counts[0], sizeof(counts[0]), "%u", first);
    snprintf(counts[1], sizeof(counts[1]), "%u", second);
    node_setting.gap_us = 2000;
    node_setting.workers = first;
    node_setting.peer_workers = counts[1];
    node_start(1, "2");
    node_setting.workers = second;
    node_setting.peer_workers = counts[0];
    node_start(2, "1");
    WAIT_UNTIL(node_heard_all(1, first, 0, second, 200) &&
               node_heard_all(2, second, 0, first, 200));
    for (unsigned id = 1; id <= 2; id++) {
        bool several = (id == 1 ? first : second) > 1;
        assert_int_equal(NODE_SUM(id, rx_taken_over) > 0, several);
        assert_int_equal(NODE_SUM(id, rx_drop_handover), 0);
        assert_int_equal(nodes[id].page->lost, 0);
    }
    node_end_well(2);
    node_end_well(1);
    assert_int_equal(files_in(directory), 0);
}

static void workers_hear_each_other(void **state)
{
    (void)state;
    workers_exchange(2, 2);
}

static void worker_counts_may_differ(void **state)
{
    (void)state;
    workers_exchange(1, 3);
    workers_exchange(3, 2);
}

/* Ends that were told different things do not meet, rather than misread each other's queues. */
static void ends_that_disagree_on_queues_do_not_connect(void **state)
{
    (void)state;
    node_start(1, "2");
    node_setting.workers = 2;
    node_start(2, "1");
    WAIT_UNTIL(nodes[1].page->ready == 1 && nodes[2].page->ready == 1);
    assert_int_equal(nodes[1].page->counters.link_up + nodes[2].page->counters.link_up, 0);
    node_end_well(2);
    node_setting.workers = 1;
    node_start(2, "1");
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS);
    node_end_well(2);
    node_end_well(1);
}

static void it_carries_9000_bytes(void **state)
{
    (void)state;
    node_setting.mtu = 9000;
    node_setting.bytes = 8900;
    exchange(1, 2);
}

/* A peer that does not read fills its ring; one that holds what it read empties its pool. */
static void full_rings_and_empty_pools_are_counted_and_survived(void **state)
{
    (void)state;
    node_start(1, "2");
    node_start(2, "1");
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
    kill(nodes[2].pid, SIGSTOP);
    uint64_t full = nodes[1].page->counters.tx_drop_full;
    WAIT_UNTIL(nodes[1].page->counters.tx_drop_full > full + 1000);
    kill(nodes[2].pid, SIGCONT);
    atomic_store(&nodes[1].page->hold, 1);
    WAIT_UNTIL(nodes[1].page->counters.rx_pool_empty > 0);
    atomic_store(&nodes[1].page->hold, 0);
    uint64_t good[2] = {nodes[1].page->good, nodes[2].page->good};
    WAIT_UNTIL(nodes[1].page->good > good[0] + NODE_DATAGRAMS * 4 &&
               nodes[2].page->good > good[1] + NODE_DATAGRAMS * 4);
    node_end_well(2);
    node_end_well(1);
}

/* One whose sender asks first loses nothing: what does not fit waits. */
static void a_full_ring_holds_up_who_asks(void **state)
{
    (void)state;
    node_start(1, "2");
    node_start(2, "1");
    atomic_store(&nodes[1].page->patient, 1);
    WAIT_UNTIL(nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
    uint64_t dropped = nodes[1].page->counters.tx_drop_full;
    kill(nodes[2].pid, SIGSTOP);
    uint64_t full = nodes[1].page->counters.tx_full;
    WAIT_UNTIL(nodes[1].page->counters.tx_full > full + 1000);
    kill(nodes[2].pid, SIGCONT);
    uint64_t good = nodes[2].page->good; /* what waited is there too, and what comes after it */
    WAIT_UNTIL(nodes[2].page->good > good + NODE_DATAGRAMS * 4);
    assert_int_equal(nodes[1].page->counters.tx_drop_full, dropped);
    assert_int_equal(nodes[2].page->bad, 0);
    node_end_well(2);
    node_end_well(1);
}

/* Fewer buffers than one burst queues. */
static void a_sender_without_buffers_goes_on(void **state)
{
    (void)state;
    node_setting.tx_buffers = 7;
    node_start(1, "2");
    node_start(2, "1");
    WAIT_UNTIL(nodes[1].page->counters.tx_drop_no_buffer > 100 &&
               nodes[1].page->good > NODE_DATAGRAMS && nodes[2].page->good > NODE_DATAGRAMS);
    node_end_well(2);
    node_end_well(1);
}

struct kill_record {
    unsigned kills;
    uint64_t longest_ns; /* from the next peer's being ready to its first datagram's arrival */
    uint64_t longest_with_start_ns; /* from the kill, the start of a process included */
};

/* Kills `victim` under load again and again; `survivor` must hear each next one. */
static void kill_again_and_again(unsigned survivor, unsigned victim, unsigned kills,
                                 struct kill_record *record)
{
    const char *peers = survivor == 1 ? "1" : "2";
    struct leat_rng rng = {.state = survivor};
    struct echo_page *page = nodes[survivor].page;
    for (unsigned i = 0; i < kills; i++) {
        uint64_t load = page->good + leat_rng_below(&rng, NODE_DATAGRAMS);
        WAIT_UNTIL(page->good > load);
        uint64_t killed_ns = leat_clock_monotonic_ns();
        node_kill(victim);
        node_start(victim, peers);
        WAIT_UNTIL(nodes[victim].page->ready == 1);
        uint64_t ready_ns = leat_clock_monotonic_ns();
        WAIT_UNTIL(page->heard[0] == node_runs && nodes[victim].page->good > 0);
        uint64_t now_ns = leat_clock_monotonic_ns();
        assert_true(node_is_alive(survivor));
        record->kills++;
        if (now_ns - ready_ns > record->longest_ns)
            record->longest_ns = now_ns - ready_ns;
        if (now_ns - killed_ns > record->longest_with_start_ns)
            record->longest_with_start_ns = now_ns - killed_ns;
    }
}

static void kill_phase(unsigned survivor, unsigned victim, unsigned kills,
                       struct kill_record *record)
{
    node_start(1, "2");
    node_start(2, "1");
    WAIT_UNTIL(nodes[1].page->good > 0 && nodes[2].page->good > 0);
    kill_again_and_again(survivor, victim, kills, record);
    assert_int_equal(nodes[survivor].page->bad, 0);
    node_end_well(victim);
    node_end_well(survivor);
}

static void a_survivor_of_kills_lives_and_hears_the_next(void **state)
{
    (void)state;
    struct kill_record record = {.kills = 0};
    unsigned kills = kills_wanted();
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof(cpus), &cpus);
    node_setting.flood = true;
    node_setting.cpu = CPU_SETSIZE - 1;
    while (!CPU_ISSET((unsigned)node_setting.cpu, &cpus))
        node_setting.cpu--;
    pid_t busy = node_start_busy();
    kill_phase(1, 2, kills / 2, &record);
    kill_phase(2, 1, kills / 2, &record);
    kill(busy, SIGKILL);
    waitpid(busy, NULL, 0);
    print_message(
        "# %u kills, none of a survivor; longest until traffic resumed: %.0f ms after the "
        "next peer was ready, %.0f ms after the kill\n",
        record.kills, (double)record.longest_ns / 1e6, (double)record.longest_with_start_ns / 1e6);
    assert_int_equal(record.kills, kills);
    /* the rest is how long a process takes to start */
    assert_true(record.longest_ns < RESUME_NS_MAX);
}

/* The same with two workers in bursts at once: the control path waits for both. */
static void a_survivor_with_two_workers_lives(void **state)
{
    (void)state;
    struct kill_record record = {.kills = 0};
    node_setting.flood = true;
    node_setting.workers = 2;
    kill_phase(1, 2, KILLS_WORKERS, &record);
    kill_phase(2, 1, KILLS_WORKERS, &record);
    assert_int_equal(record.kills, 2 * KILLS_WORKERS);
}

/* One argument: only the tests that match it. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (getenv("PORT_ECHO") == NULL) {
        printf("1..0 # SKIP PORT_ECHO does not name the program\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_server_may_start_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_client_may_start_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_works_without_privileges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_share_datagrams, set_up, tear_down),
        cmocka_unit_test_setup_teardown(payloads_may_be_sent_from_where_they_lie, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_paused_server_holds_nobody_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(workers_hear_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(worker_counts_may_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ends_that_disagree_on_queues_do_not_connect, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(it_carries_9000_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_rings_and_empty_pools_are_counted_and_survived, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_ring_holds_up_who_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sender_without_buffers_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_survivor_with_two_workers_lives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_survivor_of_kills_lives_and_hears_the_next, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("memif", tests, NULL, NULL);
}
