/* SPDX-License-Identifier: Apache-2.0
 *
 * When followers are told of a commit (leat_core_hold): at once, after the time that it may
 * wait, or sooner with bytes that go their way; when they say that they have bytes. Virtual time,
 * no loss.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"

#define HOLD_NS   400000u
#define TRAVEL_NS 40000u /* more than any packet of these takes */

static struct cluster cluster;
static struct replica *leader;

static void run_until(uint64_t end_ns)
{
    while (cluster_next_ns(&cluster) <= end_ns)
        cluster_advance(&cluster, cluster_next_ns(&cluster));
    if (cluster.now_ns < end_ns)
        cluster_advance(&cluster, end_ns);
}

static void begin(bool accepts_replicated)
{
    cluster_init(&cluster, 3, accepts_replicated, 7);
    cluster.delay_ns = 20000;
    cluster.disk_ns = 20000;
    cluster.heartbeat_every_ns = 10000000; /* does not come into the way */
    for (uint8_t i = 0; i < 3; i++)
        replica_boot(&cluster, &cluster.replicas[i]);
    run_until(100000000);
    assert_true(cluster_leader(&cluster) < 3);
    leader = &cluster.replicas[cluster_leader(&cluster)];
    cluster.hold_ns = HOLD_NS;
    run_until(cluster.now_ns + 5000000);
}

static int set_up(void **state)
{
    (void)state;
    begin(true);
    return 0;
}

static void append_one(void)
{
    struct frame record = {.type = LEAT_FRAME_RECORD, .cells = 2, .level = 1};
    assert_true(replica_append(&cluster, leader, &record));
    replica_publish(&cluster, leader);
    replica_pass(&cluster, leader);
}

/* When the leader has, and when the last of the others knows, that `position` is durably committed.
 */
static void times_of(uint64_t position, uint64_t *ret_commit_ns, uint64_t *ret_known_ns)
{
    uint64_t end_ns = cluster.now_ns + 20000000;
    *ret_commit_ns = *ret_known_ns = 0;
    while (*ret_known_ns == 0 && cluster.now_ns < end_ns) {
        bool known = true;
        for (uint8_t i = 0; i < 3; i++)
            known = known && cluster.replicas[i].core.commit_d >= position;
        if (*ret_commit_ns == 0 && leader->core.commit_d >= position)
            *ret_commit_ns = cluster.now_ns;
        if (known)
            *ret_known_ns = cluster.now_ns;
        else
            cluster_advance(&cluster, cluster_next_ns(&cluster));
    }
    assert_true(*ret_commit_ns != 0 && *ret_known_ns != 0);
}

static void it_is_told_when_the_time_is_over(void **state)
{
    (void)state;
    uint64_t commit_ns, known_ns;
    append_one();
    times_of(leader->core.memory_pos, &commit_ns, &known_ns);
    /* the time begins with the first commit of it, in memory, a disk write earlier */
    assert_in_range(known_ns - commit_ns, HOLD_NS - 3 * TRAVEL_NS, HOLD_NS + TRAVEL_NS);
}

static void it_is_told_at_once_without(void **state)
{
    (void)state;
    uint64_t commit_ns, known_ns;
    cluster.hold_ns = 0;
    append_one();
    times_of(leader->core.memory_pos, &commit_ns, &known_ns);
    assert_in_range(known_ns - commit_ns, 0, TRAVEL_NS);
}

static void it_rides_on_bytes(void **state)
{
    (void)state;
    uint64_t commit_ns, known_ns, position;
    append_one();
    position = leader->core.memory_pos;
    run_until(cluster.now_ns + 4 * TRAVEL_NS);
    assert_true(leader->core.commit_d >= position);
    append_one();
    commit_ns = cluster.now_ns;
    times_of(position, &(uint64_t){0}, &known_ns);
    assert_in_range(known_ns - commit_ns, 0, TRAVEL_NS);
}

static void it_is_bounded_by_the_retransmission(void **state)
{
    (void)state;
    uint64_t commit_ns, known_ns;
    cluster.hold_ns = 1000000000;
    append_one();
    times_of(leader->core.memory_pos, &commit_ns, &known_ns);
    assert_in_range(known_ns - commit_ns, 0, cluster.retransmit_ns / 2 + TRAVEL_NS);
    assert_int_equal(leader->core.counters.retransmits, 0);
}

/* How long after an append the leader hears from anybody that its bytes are in memory there. */
static uint64_t acknowledged_after(void)
{
    append_one();
    uint64_t position = leader->core.memory_pos, begin_ns = cluster.now_ns;
    uint64_t end_ns = begin_ns + 20000000;
    while (cluster.now_ns < end_ns) {
        for (uint8_t i = 0; i < 3; i++) {
            if (leader != &cluster.replicas[i] && leader->core.peers[i].memory_pos >= position)
                return cluster.now_ns - begin_ns;
        }
        cluster_advance(&cluster, cluster_next_ns(&cluster));
    }
    fail();
    return 0;
}

static void begin_anew(bool accepts_replicated, uint64_t disk_ns)
{
    begin(accepts_replicated);
    cluster.disk_ns = disk_ns;
    run_until(cluster.now_ns + 5000000);
}

static void bytes_are_acknowledged_with_the_disks_word(void **state)
{
    (void)state;
    begin_anew(false, HOLD_NS / 2);
    assert_in_range(acknowledged_after(), HOLD_NS / 2 - TRAVEL_NS, HOLD_NS / 2 + 2 * TRAVEL_NS);
}

static void bytes_do_not_wait_for_a_slow_disk(void **state)
{
    (void)state;
    begin_anew(false, 4 * HOLD_NS);
    assert_in_range(acknowledged_after(), HOLD_NS, HOLD_NS + 2 * TRAVEL_NS);
}

static void bytes_of_a_log_that_accepts_replicated_do_not_wait(void **state)
{
    (void)state;
    begin_anew(true, 4 * HOLD_NS);
    assert_in_range(acknowledged_after(), 0, 2 * TRAVEL_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(it_is_told_when_the_time_is_over, set_up),
        cmocka_unit_test_setup(it_is_told_at_once_without, set_up),
        cmocka_unit_test_setup(it_rides_on_bytes, set_up),
        cmocka_unit_test_setup(it_is_bounded_by_the_retransmission, set_up),
        cmocka_unit_test(bytes_are_acknowledged_with_the_disks_word),
        cmocka_unit_test(bytes_do_not_wait_for_a_slow_disk),
        cmocka_unit_test(bytes_of_a_log_that_accepts_replicated_do_not_wait),
    };
    return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
