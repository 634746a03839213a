/* SPDX-License-Identifier: Apache-2.0
 *
 * What sequencers and databases need of the library, against a fake worker: batches, conditions,
 * fences, flush, positions, limits, leader events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "fake_node.h"

#define SECOND (1000 * FAKE_MS)

static struct fake_node *node;
static struct leat_client *client;

static int start(void **state)
{
    (void)state;
    node = fake_node_start(true);
    client = fake_attach(node, 0, 0);
    return client ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    leat_detach(client);
    fake_node_stop(node);
    return 0;
}

static struct leat_result next_result(void)
{
    struct leat_result result = {0};
    int rc = leat_wait(client, &result, 1, 10 * SECOND);
    if (rc != 1)
        fail_msg("no result: %s", leat_error_name(rc));
    return result;
}

/* ---- batches ---- */

static void a_batch_is_one_append(void **state)
{
    (void)state;
    void *room;
    assert_int_equal(leat_batch_begin(client, 1, 0, 0), LEAT_OK);
    assert_int_equal(leat_batch_add(client, "one", 3), LEAT_OK);
    assert_int_equal(leat_batch_add(client, "", 0), LEAT_OK);
    assert_int_equal(leat_batch_reserve(client, 9, &room), LEAT_OK);
    memcpy(room, "123456789", 9);
    uint64_t sequence;
    assert_int_equal(leat_batch_commit(client, LEAT_ACK_DURABLE, SECOND, 42, &sequence), LEAT_OK);
    struct leat_result result = next_result();
    assert_int_equal(result.error, LEAT_OK);
    assert_int_equal(result.sequence, sequence);
    assert_int_equal(result.user, 42);
    assert_int_equal(result.record_count, 3);
    assert_int_equal(node->batch_count, 3);
    assert_int_equal(node->batch_lengths[0], 3);
    assert_int_equal(node->batch_lengths[1], 0);
    assert_int_equal(node->batch_lengths[2], 9);
    static const uint8_t padding[8];
    assert_memory_equal(node->batch_bytes + 8, "one", 3);
    assert_memory_equal(node->batch_bytes + 11, padding, 5);
    assert_memory_equal(node->batch_bytes + 32, "123456789", 9);
    assert_memory_equal(node->batch_bytes + 41, padding, 7);
    /* and an ordinary one behind it */
    assert_int_equal(leat_append(client, 1, "x", 1, LEAT_ACK_DURABLE, SECOND, &result), LEAT_OK);
    assert_int_equal(result.sequence, sequence + 1);
    assert_int_equal(result.record_count, 1);
}

static void a_batch_is_bounded(void **state)
{
    (void)state;
    static uint8_t data[FAKE_ENTRY_BYTES];
    assert_int_equal(leat_batch_add(client, "x", 1), LEAT_EINVAL); /* none is open */
    assert_int_equal(leat_batch_begin(client, 1, LEAT_BATCH_RECORDS + 1, 0), LEAT_EINVAL);
    assert_int_equal(leat_batch_begin(client, 0, 0, 0), LEAT_ENOLOG);
    assert_int_equal(leat_batch_begin(client, 1, 0, 0), LEAT_OK);
    assert_int_equal(leat_batch_begin(client, 1, 0, 0), LEAT_EINVAL);
    assert_int_equal(leat_append_start(client, 1, "a", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
                     LEAT_EINVAL);
    assert_int_equal(leat_publish(client, LEAT_ACK_DURABLE, SECOND, 0, NULL), LEAT_EINVAL);
    assert_int_equal(leat_batch_commit(client, LEAT_ACK_DURABLE, SECOND, 0, NULL), LEAT_EINVAL);
    assert_int_equal(leat_batch_add(client, data, sizeof(data)), LEAT_ETOOBIG); /* its item too */
    for (unsigned i = 0; i < LEAT_BATCH_RECORDS; i++)
        assert_int_equal(leat_batch_add(client, data, 8), LEAT_OK);
    assert_int_equal(leat_batch_add(client, data, 8), LEAT_ETOOBIG);
    leat_batch_abort(client);
    /* headers count: 600 x (48 + 64) is more than 64 KiB, though 600 x 64 is not */
    unsigned fitted = 0;
    assert_int_equal(leat_batch_begin(client, 1, 0, 0), LEAT_OK);
    while (fitted < 600 && leat_batch_add(client, data, 64) == LEAT_OK)
        fitted++;
    assert_int_equal(fitted, (FAKE_ENTRY_BYTES + 48) / (48 + 64));
    leat_batch_abort(client);
    /* room asked for is room given */
    assert_int_equal(leat_batch_begin(client, 1, 2, 20), LEAT_OK);
    assert_int_equal(leat_batch_add(client, data, 9), LEAT_OK);
    assert_int_equal(leat_batch_add(client, data, 11), LEAT_OK);
    assert_int_equal(leat_batch_add(client, data, 1), LEAT_ETOOBIG);
    assert_int_equal(leat_batch_commit(client, LEAT_ACK_DURABLE, SECOND, 0, NULL), LEAT_OK);
    assert_int_equal(next_result().record_count, 2);
}

/* The node restarts under an open batch, and under one that it has not answered. */
static void a_batch_survives_a_restart(void **state)
{
    (void)state;
    struct leat_result results[2];
    atomic_store(&node->hold, true);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(leat_batch_begin(client, 1, 0, 0), LEAT_OK);
        assert_int_equal(leat_batch_add(client, "first", 5), LEAT_OK);
        assert_int_equal(leat_batch_add(client, "second", 6), LEAT_OK);
        if (i == 0)
            assert_int_equal(
                leat_batch_commit_at(client, 0, LEAT_ACK_DURABLE, 30 * SECOND, 1, NULL), LEAT_OK);
    }
    WAIT_UNTIL(atomic_load(&node->seen_count) == 1);
    fake_node_go_down(node);
    fake_node_come_up(node);
    uint64_t limit_ns = fake_now_ns() + 10 * SECOND;
    while (atomic_load(&node->seen_count) < 2 && fake_now_ns() < limit_ns)
        assert_int_equal(leat_poll(client, results, 2), 0);
    assert_int_equal(atomic_load(&node->seen_count), 2);
    assert_int_equal(leat_batch_add(client, "third", 5), LEAT_OK); /* into the former ring */
    assert_int_equal(leat_batch_commit_at(client, 2, LEAT_ACK_DURABLE, 30 * SECOND, 2, NULL),
                     LEAT_OK);
    WAIT_UNTIL(atomic_load(&node->seen_count) == 3);
    atomic_store(&node->hold, false);
    struct leat_result result = next_result();
    assert_int_equal(result.error, LEAT_OK);
    assert_int_equal(result.record_count, 2);
    assert_int_equal(next_result().user, 2);
    assert_int_equal(node->batch_count, 3);
    assert_memory_equal(node->batch_bytes + 40, "third", 5);
}

/* ---- conditions and fences ---- */

static void a_condition_that_does_not_hold_is_a_no(void **state)
{
    (void)state;
    struct leat_result result;
    assert_int_equal(leat_append_if(client, 1, 0, "a", 1, LEAT_ACK_DURABLE, SECOND, &result),
                     LEAT_OK);
    assert_int_equal(leat_append_if(client, 1, 0, "b", 1, LEAT_ACK_DURABLE, SECOND, &result),
                     LEAT_ECONDITION);
    assert_int_equal(result.detail, 1);
    assert_int_equal(result.offset, UINT64_MAX);
    assert_int_equal(leat_outcome(result.error), LEAT_END_NO);
    assert_int_equal(leat_append_at(client, 1, 1, "c", 1, LEAT_ACK_DURABLE, SECOND, 5, NULL), 0);
    result = next_result();
    assert_int_equal(result.error, LEAT_OK); /* no gap in the session */
    assert_int_equal(result.sequence, 3);
    assert_int_equal(result.user, 5);
    assert_int_equal(leat_batch_begin(client, 1, 1, 8), LEAT_OK);
    assert_int_equal(leat_batch_add(client, "d", 1), LEAT_OK);
    assert_int_equal(leat_batch_commit_at(client, 7, LEAT_ACK_DURABLE, SECOND, 0, NULL), LEAT_OK);
    result = next_result();
    assert_int_equal(result.error, LEAT_ECONDITION);
    assert_int_equal(result.detail, 2);
}

static void a_fence_shuts_out_and_is_carried(void **state)
{
    (void)state;
    struct leat_result result;
    struct leat_log_info info;
    struct leat_client *other = fake_attach(node, 0, 0);
    assert_int_equal(leat_fence(client, 1, 0, SECOND, &result), LEAT_EINVAL);
    assert_int_equal(leat_append(other, 1, "a", 1, LEAT_ACK_DURABLE, SECOND, &result), LEAT_OK);
    assert_int_equal(leat_fence(client, 1, 3, SECOND, &result), LEAT_OK);
    assert_int_equal(result.record_count, 0);
    assert_int_equal(leat_append(client, 1, "a", 1, LEAT_ACK_DURABLE, SECOND, &result), LEAT_OK);
    assert_int_equal(node->writer_epoch, 3);
    assert_int_equal(leat_append(other, 1, "b", 1, LEAT_ACK_DURABLE, SECOND, &result),
                     LEAT_EFENCEDOUT);
    assert_int_equal(result.detail, 3);
    assert_int_equal(leat_outcome(result.error), LEAT_END_NO);
    assert_int_equal(leat_fence(other, 1, 3, SECOND, &result), LEAT_EFENCEDOUT);
    assert_int_equal(leat_fence(other, 1, 4, SECOND, &result), LEAT_OK);
    assert_int_equal(leat_append(client, 1, "c", 1, LEAT_ACK_DURABLE, SECOND, &result),
                     LEAT_EFENCEDOUT);
    assert_int_equal(leat_log_info(client, 1, &info), LEAT_OK);
    assert_int_equal(info.writer_epoch, 3);
    leat_detach(other);
}

/* ---- waiting and looking ---- */

static void flush_waits_for_ends_and_keeps_results(void **state)
{
    (void)state;
    struct leat_result results[4];
    atomic_store(&node->hold, true);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(
            leat_append_start(client, 1, "a", 1, LEAT_ACK_DURABLE, 30 * SECOND, i, NULL), LEAT_OK);
    assert_int_equal(leat_flush(client, 20 * FAKE_MS), LEAT_EDEADLINE);
    atomic_store(&node->hold, false);
    assert_int_equal(leat_flush(client, 10 * SECOND), LEAT_OK);
    assert_int_equal(leat_in_flight(client), 0);
    assert_int_equal(leat_poll(client, results, 4), 3);
    assert_int_equal(results[2].user, 2);
}

static void a_position_is_waited_for_at_its_level(void **state)
{
    (void)state;
    fake_log_commit(&node->log, 800, 900);
    assert_int_equal(leat_wait_position(client, 1, 799, LEAT_ACK_DURABLE, SECOND), LEAT_OK);
    assert_int_equal(leat_wait_position(client, 1, 800, LEAT_ACK_DURABLE, 5 * FAKE_MS),
                     LEAT_EDEADLINE);
    assert_int_equal(leat_wait_position(client, 1, 800, LEAT_ACK_REPLICATED, SECOND), LEAT_OK);
    assert_int_equal(leat_wait_position(client, 1, 0, (enum leat_ack)0, SECOND), LEAT_EINVAL);
    assert_int_equal(leat_wait_position(client, 9, 0, LEAT_ACK_DURABLE, SECOND), LEAT_ENOLOG);
    fake_log_commit(&node->log, 801, 900);
    assert_int_equal(leat_wait_position(client, 1, 800, LEAT_ACK_DURABLE, SECOND), LEAT_OK);
}

static void limits_are_read(void **state)
{
    (void)state;
    struct leat_log_info info;
    fake_log_commit(&node->log, 640, 720);
    assert_int_equal(leat_log_info(client, 1, &info), LEAT_OK);
    assert_int_equal(info.log, 1);
    assert_int_equal(info.entry_bytes_max, FAKE_ENTRY_BYTES);
    assert_int_equal(info.segment_bytes, FAKE_SEGMENT_BYTES);
    assert_int_equal(info.arena_bytes, FAKE_ARENA_BYTES);
    assert_int_equal(info.accepts_replicated, 1);
    assert_int_equal(info.commit_durable, 640);
    assert_int_equal(info.commit_replicated, 720);
    assert_int_equal(info.batch_records_max, LEAT_BATCH_RECORDS);
    assert_int_equal(leat_log_info(client, 7, &info), LEAT_ENOLOG);
    assert_int_equal(leat_limits()->batch_records_max, LEAT_BATCH_RECORDS);
    assert_int_equal(leat_limits()->ring_bytes_min, LEAT_RING_BYTES_MIN);
}

static void leadership(uint64_t counter, uint64_t term, uint64_t leader_node, uint64_t role)
{
    struct leat_arena_leadership *to = &node->log.header->leadership;
    to->term = term;
    to->leader_node = leader_node;
    to->role = role;
    __atomic_store_n(&to->counter, counter, __ATOMIC_RELEASE);
}

static void changes_of_leader_are_told_once(void **state)
{
    (void)state;
    struct leat_event events[4];
    assert_int_equal(leat_events(client, events, 4), 0); /* nothing is watched */
    leadership(2, 7, 3, LEAT_ARENA_FOLLOWER);
    assert_int_equal(leat_watch(client, 1), LEAT_OK);
    assert_int_equal(leat_watch(client, 9), LEAT_ENOLOG);
    assert_int_equal(leat_events(client, events, 4), 1); /* what holds now */
    assert_int_equal(events[0].log, 1);
    assert_int_equal(events[0].term, 7);
    assert_int_equal(events[0].leader_node, 3);
    assert_int_equal(events[0].role, LEAT_ROLE_FOLLOWER);
    assert_int_equal(leat_events(client, events, 4), 0);
    leadership(3, 8, 1, LEAT_ARENA_LEADER); /* half written */
    assert_int_equal(leat_events(client, events, 4), 0);
    leadership(4, 8, 1, LEAT_ARENA_LEADER);
    assert_int_equal(leat_events(client, events, 0), 0);
    assert_int_equal(leat_events(client, events, 4), 1);
    assert_int_equal(events[0].kinds, LEAT_EVENT_LEADER | LEAT_EVENT_ROLE);
    assert_int_equal(events[0].role, LEAT_ROLE_LEADER);
    __atomic_store_n(&node->log.header->epoch.value, 1, __ATOMIC_RELEASE);
    assert_int_equal(leat_events(client, events, 4), 1);
    assert_int_equal(events[0].kinds, LEAT_EVENT_ROLLBACK);
    assert_int_equal(events[0].rollbacks, 1);
    assert_int_equal(leat_events(client, events, 4), 0);
}

/* ---- sessions of identities that end ---- */

static void append_to(uint32_t log, unsigned count)
{
    struct leat_result result;
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(leat_append(client, log, "a", 1, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                         LEAT_OK);
}

static void detach(void)
{
    leat_detach(client);
    client = NULL;
}

static void expect_close(unsigned number, uint32_t log, uint64_t sequence)
{
    assert_true(number < atomic_load(&node->close_count));
    assert_int_equal(node->closes[number].log_id, log);
    assert_int_equal(node->closes[number].sequence, sequence);
    assert_memory_equal(&node->closes[number].client, &node->seen[0].client,
                        sizeof(node->seen[0].client));
}

static void who_leaves_has_its_sessions_closed(void **state)
{
    (void)state;
    append_to(2, 1);
    append_to(1, 3);
    assert_int_equal(atomic_load(&node->close_count), 0);
    detach();
    assert_int_equal(atomic_load(&node->close_count), 2);
    expect_close(0, 2, 2); /* in the order in which the logs were first used */
    expect_close(1, 1, 4);
}

static void who_appended_nothing_has_none(void **state)
{
    struct leat_log_info info;
    (void)state;
    assert_int_equal(leat_log_info(client, 1, &info), LEAT_OK);
    detach();
    assert_int_equal(atomic_load(&node->close_count), 0);
}

/* Its next identity opens new ones in all logs. */
static void who_lost_one_session_has_the_others_closed(void **state)
{
    (void)state;
    append_to(2, 1);
    append_to(1, 1);
    atomic_store(&node->hold_log, 1);
    assert_int_equal(leat_append_start(client, 1, "b", 1, LEAT_ACK_DURABLE, 10 * SECOND, 0, NULL),
                     LEAT_OK);
    WAIT_UNTIL(atomic_load(&node->seen_count) == 3);
    atomic_store(&node->lose, LEAT_ESESSIONS);
    assert_int_equal(next_result().error, LEAT_ESESSIONS);
    WAIT_UNTIL((leat_poll(client, NULL, 0), atomic_load(&node->attaches) == 2));
    assert_int_equal(atomic_load(&node->close_count), 1);
    expect_close(0, 2, 2);
    atomic_store(&node->hold_log, 0);
    append_to(1, 1);
    assert_memory_not_equal(&node->seen[3].client, &node->seen[0].client,
                            sizeof(node->seen[0].client));
}

/* A claim lies where the next record would: the sessions are left to expire. */
static void an_open_claim_is_not_written_over(void **state)
{
    (void)state;
    void *bytes;
    char filled[200];
    uint64_t deadline_ns = fake_now_ns() + 10 * SECOND;
    int rc;
    append_to(2, 1);
    append_to(1, 1);
    memset(filled, 'q', sizeof(filled));
    atomic_store(&node->hold_log, 1);
    assert_int_equal(leat_append_start(client, 1, "b", 1, LEAT_ACK_DURABLE, 10 * SECOND, 0, NULL),
                     LEAT_OK);
    WAIT_UNTIL(atomic_load(&node->seen_count) == 3);
    assert_int_equal(leat_claim(client, 2, sizeof(filled), &bytes), LEAT_OK);
    memcpy(bytes, filled, sizeof(filled));
    atomic_store(&node->lose, LEAT_ESESSION);
    assert_int_equal(next_result().error, LEAT_ESESSION);
    while ((rc = leat_publish(client, LEAT_ACK_DURABLE, 10 * SECOND, 0, NULL)) == LEAT_EAGAIN &&
           fake_now_ns() < deadline_ns) {
        assert_memory_equal(bytes, filled, sizeof(filled));
        leat_poll(client, NULL, 0);
    }
    assert_int_equal(rc, LEAT_OK);
    assert_int_equal(next_result().error, LEAT_OK);
    assert_int_equal(atomic_load(&node->close_count), 0);
    assert_int_equal(node->recorded_bytes[3], (uint64_t)sizeof(filled) << 8 | 'q');
    atomic_store(&node->hold_log, 0);
}

/* The results that nobody takes have the whole table. */
static void who_leaves_with_a_full_table_has_its_sessions_closed(void **state)
{
    (void)state;
    struct leat_client *other = fake_attach(node, 0, 64);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(
            leat_append_start(other, 1, "f", 1, LEAT_ACK_DURABLE, 10 * SECOND, i, NULL), LEAT_OK);
    assert_int_equal(leat_append_start(other, 1, "f", 1, LEAT_ACK_DURABLE, 10 * SECOND, 64, NULL),
                     LEAT_EAGAIN);
    leat_detach(other);
    assert_int_equal(atomic_load(&node->record_count), 64);
    assert_int_equal(atomic_load(&node->close_count), 1);
    expect_close(0, 1, 65);
}

/* And is not waited for long. */
static void who_leaves_a_node_that_is_silent_leaves(void **state)
{
    (void)state;
    append_to(1, 1);
    atomic_store(&node->hold, true);
    assert_int_equal(leat_append_start(client, 1, "b", 1, LEAT_ACK_DURABLE, 10 * SECOND, 0, NULL),
                     LEAT_OK);
    detach();
    assert_int_equal(atomic_load(&node->record_count), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_batch_is_one_append),
        CASE(a_batch_is_bounded),
        CASE(a_batch_survives_a_restart),
        CASE(a_condition_that_does_not_hold_is_a_no),
        CASE(a_fence_shuts_out_and_is_carried),
        CASE(flush_waits_for_ends_and_keeps_results),
        CASE(a_position_is_waited_for_at_its_level),
        CASE(limits_are_read),
        CASE(changes_of_leader_are_told_once),
        CASE(who_leaves_has_its_sessions_closed),
        CASE(who_appended_nothing_has_none),
        CASE(who_lost_one_session_has_the_others_closed),
        CASE(an_open_claim_is_not_written_over),
        CASE(who_leaves_with_a_full_table_has_its_sessions_closed),
        CASE(who_leaves_a_node_that_is_silent_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
