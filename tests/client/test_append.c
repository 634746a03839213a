/* SPDX-License-Identifier: Apache-2.0
 *
 * Appending through the rings to a fake worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fake_node.h"

#define SECOND (1000 * FAKE_MS)

static int start_node(void **state)
{
    *state = fake_node_start(true);
    return 0;
}

static int stop_node(void **state)
{
    fake_node_stop(*state);
    return 0;
}

static uint64_t start_append(struct leat_client *client, const char *text, enum leat_ack ack,
                             uint64_t timeout_ns)
{
    uint64_t sequence = 0;
    int rc = leat_append_start(client, 1, text, strlen(text), ack, timeout_ns, 77, &sequence);
    if (rc != LEAT_OK)
        fail_msg("append: %s", leat_error_name(rc));
    return sequence;
}

static struct leat_result next_result(struct leat_client *client)
{
    struct leat_result result;
    memset(&result, 0, sizeof(result));
    int rc = leat_wait(client, &result, 1, 10 * SECOND);
    if (rc != 1)
        fail_msg("no result: %s", leat_error_name(rc));
    return result;
}

static void test_append_and_result(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    assert_non_null(client);
    assert_int_equal(start_append(client, "one", LEAT_ACK_DURABLE, SECOND), 1);
    assert_int_equal(start_append(client, "", LEAT_ACK_REPLICATED, SECOND), 2);
    assert_int_equal(leat_in_flight(client), 2);
    struct leat_result result = next_result(client);
    assert_int_equal(result.error, LEAT_OK);
    assert_int_equal(result.sequence, 1);
    assert_int_equal(result.position, 64);
    assert_int_equal(result.offset, 0);
    assert_int_equal(result.user, 77);
    assert_int_equal(result.log, 1);
    assert_int_equal(result.ack, LEAT_ACK_DURABLE);
    assert_true(result.latency_ns > 0);
    result = next_result(client);
    assert_int_equal(result.sequence, 2);
    assert_int_equal(result.ack, LEAT_ACK_REPLICATED);
    assert_int_equal(leat_in_flight(client), 0);
    assert_int_equal(leat_append(client, 1, "x", 1, LEAT_ACK_DURABLE, SECOND, &result), LEAT_OK);
    assert_int_equal(result.sequence, 3);
    leat_detach(client);
    WAIT_UNTIL(atomic_load(&node->attached) == 0);
}

static void test_refused_before_a_sequence(void **state)
{
    struct fake_node *node = *state;
    static char large[FAKE_ENTRY_BYTES + 1];
    struct leat_client *client = fake_attach(node, 0, 0);
    assert_int_equal(
        leat_append_start(client, 1, large, sizeof(large), LEAT_ACK_DURABLE, SECOND, 0, NULL),
        LEAT_ETOOBIG);
    assert_int_equal(leat_append_start(client, 5, "a", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
                     LEAT_ENOLOG);
    assert_int_equal(leat_append_start(client, 0, "a", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
                     LEAT_ENOLOG);
    assert_int_equal(leat_append_start(client, 1, "a", 1, (enum leat_ack)3, SECOND, 0, NULL),
                     LEAT_EINVAL);
    assert_int_equal(start_append(client, "a", LEAT_ACK_DURABLE, SECOND), 1);
    assert_int_equal(next_result(client).error, LEAT_OK);
    leat_detach(client);
}

static void test_level_refused(void **state)
{
    (void)state;
    struct fake_node *node = fake_node_start(false);
    struct leat_client *client = fake_attach(node, 0, 0);
    assert_int_equal(leat_append_start(client, 1, "a", 1, LEAT_ACK_REPLICATED, SECOND, 0, NULL),
                     LEAT_ELEVEL);
    assert_int_equal(start_append(client, "a", LEAT_ACK_DURABLE, SECOND), 1);
    assert_int_equal(next_result(client).error, LEAT_OK);
    leat_detach(client);
    fake_node_stop(node);
}

static void test_levels_end_out_of_order(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    struct leat_result results[4];
    atomic_store(&node->hold_durable, true);
    start_append(client, "d", LEAT_ACK_DURABLE, 10 * SECOND);
    start_append(client, "r", LEAT_ACK_REPLICATED, 10 * SECOND);
    uint64_t until_ns = fake_now_ns() + 10 * SECOND;
    while (leat_in_flight(client) != 1 && fake_now_ns() < until_ns)
        assert_int_equal(leat_poll(client, results, 4), 0); /* held back: results are in order */
    assert_int_equal(leat_in_flight(client), 1);
    atomic_store(&node->hold_durable, false);
    assert_int_equal(next_result(client).sequence, 1);
    assert_int_equal(next_result(client).sequence, 2);
    leat_detach(client);
}

static void test_full_ring_and_wrap(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, LEAT_RING_BYTES_MIN, 64);
    static char data[24000];
    unsigned started = 0, ended = 0, refused = 0;
    struct leat_result results[64];
    atomic_store(&node->deaf, true);
    while (ended < 500) {
        size_t length = (started * 7919u) % sizeof(data);
        memset(data, (int)(started & 0xff), length);
        int rc = started < 500 ? leat_append_start(client, 1, data, length, LEAT_ACK_DURABLE,
                                                   30 * SECOND, started, NULL)
                               : LEAT_EAGAIN;
        if (rc == LEAT_OK) {
            started++;
            continue;
        }
        assert_int_equal(rc, LEAT_EAGAIN);
        refused++;
        atomic_store(&node->deaf, false);
        int count = leat_poll(client, results, 64);
        for (int i = 0; i < count; i++) {
            assert_int_equal(results[i].error, LEAT_OK);
            assert_int_equal(results[i].user, ended++);
        }
    }
    assert_true(refused > 0);
    assert_int_equal(atomic_load(&node->record_count), 500);
    for (unsigned i = 0; i < 500; i++) {
        uint64_t length = (i * 7919u) % sizeof(data);
        assert_int_equal(node->recorded_bytes[i + 1], length << 8 | (length ? i & 0xff : 0));
    }
    leat_detach(client);
}

/* A record of more than half the ring finds room whatever the place. */
static void test_large_record_in_small_ring(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, LEAT_RING_BYTES_MIN, 64);
    static char data[60000];
    struct leat_result result;
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(leat_append(client, 1, data, i % 2 ? sizeof(data) : 9000, LEAT_ACK_DURABLE,
                                     10 * SECOND, &result),
                         LEAT_OK);
    }
    assert_int_equal(
        leat_append_start(client, 1, data, FAKE_ENTRY_BYTES, LEAT_ACK_DURABLE, SECOND, 0, NULL),
        LEAT_ETOOBIG);
    leat_detach(client);
}

static void test_in_flight_limit(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 3);
    atomic_store(&node->hold, true);
    for (unsigned i = 0; i < 3; i++)
        start_append(client, "a", LEAT_ACK_DURABLE, 10 * SECOND);
    assert_int_equal(leat_append_start(client, 1, "a", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
                     LEAT_EAGAIN);
    atomic_store(&node->hold, false);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(next_result(client).error, LEAT_OK);
    start_append(client, "a", LEAT_ACK_DURABLE, 10 * SECOND);
    leat_detach(client);
}

static void test_deadline_is_unknown_and_late_answer_swallowed(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    struct leat_result results[4];
    atomic_store(&node->hold, true);
    start_append(client, "late", LEAT_ACK_DURABLE, 20 * FAKE_MS);
    struct leat_result result = next_result(client);
    assert_int_equal(result.error, LEAT_EDEADLINE);
    assert_int_equal(leat_outcome(result.error), LEAT_END_UNKNOWN);
    assert_int_equal(leat_in_flight(client), 0);
    assert_int_equal(leat_wait(client, results, 4, 5 * FAKE_MS), LEAT_EDEADLINE);
    atomic_store(&node->hold, false);
    WAIT_UNTIL(atomic_load(&node->record_count) == 1);
    assert_int_equal(start_append(client, "next", LEAT_ACK_DURABLE, 10 * SECOND), 2);
    result = next_result(client);
    assert_int_equal(result.error, LEAT_OK);
    assert_int_equal(result.sequence, 2);
    leat_detach(client);
}

static void test_claim_publish_abort(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, LEAT_RING_BYTES_MIN, 64);
    void *bytes, *other;
    assert_int_equal(leat_publish(client, LEAT_ACK_DURABLE, SECOND, 0, NULL), LEAT_EINVAL);
    assert_int_equal(leat_claim(client, 1, 100, &bytes), LEAT_OK);
    assert_int_equal(leat_claim(client, 1, 100, &other), LEAT_EINVAL);
    assert_int_equal(leat_append_start(client, 1, "a", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
                     LEAT_EINVAL);
    leat_claim_abort(client);
    for (unsigned i = 0; i < 200; i++) {
        int rc;
        while ((rc = leat_claim(client, 1, 1000, &bytes)) == LEAT_EAGAIN)
            leat_poll(client, NULL, 0);
        assert_int_equal(rc, LEAT_OK);
        memset(bytes, (int)i, 1000);
        assert_int_equal(leat_publish(client, LEAT_ACK_DURABLE, 10 * SECOND, i, NULL), LEAT_OK);
        struct leat_result result = next_result(client);
        assert_int_equal(result.user, i);
        assert_int_equal(node->recorded_bytes[i + 1], 1000u << 8 | (i & 0xff));
    }
    leat_detach(client);
}

static void test_reconnect_hands_over_what_is_unended(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    struct leat_result results[8];
    for (unsigned i = 0; i < 3; i++)
        start_append(client, "before", LEAT_ACK_DURABLE, 30 * SECOND);
    WAIT_UNTIL(atomic_load(&node->record_count) == 3);
    atomic_store(&node->hold, true);
    start_append(client, "expires", LEAT_ACK_DURABLE, FAKE_MS); /* 4: must not leave a gap */
    for (unsigned i = 0; i < 3; i++)
        start_append(client, "held", LEAT_ACK_DURABLE, 30 * SECOND); /* 5, 6, 7 */
    for (unsigned i = 1; i <= 4; i++) {
        struct leat_result result = next_result(client);
        assert_int_equal(result.sequence, i);
        assert_int_equal(result.error, i == 4 ? LEAT_EDEADLINE : LEAT_OK);
    }
    fake_node_go_down(node);
    assert_int_equal(leat_wait(client, results, 8, 20 * FAKE_MS), LEAT_EDEADLINE);
    start_append(client, "meanwhile", LEAT_ACK_DURABLE, 30 * SECOND); /* 8: into the old ring */
    atomic_store(&node->hold, false);
    fake_node_come_up(node);
    for (unsigned i = 5; i <= 8; i++) {
        struct leat_result result = next_result(client);
        assert_int_equal(result.error, LEAT_OK);
        assert_int_equal(result.sequence, i);
    }
    assert_int_equal(atomic_load(&node->record_count), 8); /* each once */
    assert_int_equal(node->recorded_bytes[7], 4u << 8 | 'h');
    assert_int_equal(node->recorded_bytes[8], 9u << 8 | 'm');
    assert_int_equal(atomic_load(&node->attaches), 2);
    leat_detach(client);
}

static void test_claim_survives_a_reconnect(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    void *bytes;
    assert_int_equal(leat_claim(client, 1, 10, &bytes), LEAT_OK);
    memset(bytes, 'a', 5);
    fake_node_go_down(node);
    fake_node_come_up(node);
    uint64_t until_ns = fake_now_ns() + 10 * SECOND;
    while (atomic_load(&node->attaches) < 2 && fake_now_ns() < until_ns)
        leat_poll(client, NULL, 0);
    leat_wait(client, &(struct leat_result){0}, 1, 20 * FAKE_MS);
    memset((char *)bytes, 'q', 10);
    assert_int_equal(leat_publish(client, LEAT_ACK_DURABLE, 10 * SECOND, 0, NULL), LEAT_OK);
    assert_int_equal(next_result(client).error, LEAT_OK);
    assert_int_equal(node->recorded_bytes[1], 10u << 8 | 'q');
    leat_detach(client);
}

/* ---- a session's end ---- */

static bool same_client(const struct fake_seen *a, const struct fake_seen *b)
{
    return memcmp(&a->client, &b->client, sizeof(a->client)) == 0;
}

static void start_held(struct fake_node *node, struct leat_client *client, uint32_t log,
                       unsigned count, uint64_t timeout_ns)
{
    unsigned seen = atomic_load(&node->seen_count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(leat_append_start(client, log, log == 1 ? "lost" : "other", 4,
                                           LEAT_ACK_DURABLE, timeout_ns, i, NULL),
                         LEAT_OK);
    WAIT_UNTIL(atomic_load(&node->seen_count) == seen + count);
}

static void refused_for_now(struct leat_client *client)
{
    for (uint32_t log = 1; log <= 2; log++)
        assert_int_equal(
            leat_append_start(client, log, "new", 3, LEAT_ACK_DURABLE, SECOND, 0, NULL),
            LEAT_EAGAIN);
}

static void expect_lost(struct leat_client *client, unsigned count, int error)
{
    for (unsigned i = 0; i < count; i++) {
        struct leat_result result = next_result(client);
        assert_int_equal(result.error, error);
        assert_int_equal(result.log, 1);
        assert_int_equal(result.user, i);
        refused_for_now(client);
    }
}

/* The next append of each log is the first of a new identity, and nothing but these was sent. */
static void expect_new_identity(struct fake_node *node, struct leat_client *client)
{
    struct leat_result result;
    unsigned before = atomic_load(&node->seen_count), recorded = atomic_load(&node->record_count);
    atomic_store(&node->hold, false);
    atomic_store(&node->hold_log, 0);
    for (uint32_t log = 1; log <= 2; log++) {
        assert_int_equal(leat_append(client, log, "new", 3, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                         LEAT_OK);
        assert_int_equal(result.sequence, 1);
        assert_int_equal(result.offset, 0);
        assert_int_equal(node->recorded_bytes[recorded + log], 3u << 8 | 'n');
        const struct fake_seen *seen = &node->seen[before + log - 1];
        assert_int_equal(seen->log_id, log);
        assert_int_equal(seen->sequence, 1);
        assert_int_equal(seen->first_byte, 'n');
        assert_true(same_client(seen, &node->seen[before]));
    }
    assert_int_equal(atomic_load(&node->seen_count), before + 2);
    for (unsigned i = 0; i < before; i++)
        assert_false(same_client(&node->seen[i], &node->seen[before]));
    WAIT_UNTIL(atomic_load(&node->attached) == 1);
    assert_int_equal(leat_append(client, 1, "", 0, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                     LEAT_OK);
    assert_int_equal(result.sequence, 2);
}

static void test_every_attach_is_another_client(void **state)
{
    struct fake_node *node = *state;
    struct leat_result result;
    for (unsigned i = 1; i <= 3; i++) {
        struct leat_client *client = fake_attach(node, 0, 0);
        assert_int_equal(leat_append(client, 1, "a", 1, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                         LEAT_OK);
        assert_int_equal(result.sequence, 1);
        assert_int_equal(atomic_load(&node->record_count), i);
        leat_detach(client);
    }
    assert_false(same_client(&node->seen[0], &node->seen[1]));
    assert_false(same_client(&node->seen[0], &node->seen[2]));
    assert_false(same_client(&node->seen[1], &node->seen[2]));
}

static void test_lost_session(void **state)
{
    struct fake_node *node = *state;
    static const int errors[] = {LEAT_ESESSION, LEAT_ENOSESSION};
    struct leat_client *client = fake_attach(node, 0, 0);
    start_append(client, "kept", LEAT_ACK_REPLICATED, 30 * SECOND);
    assert_int_equal(next_result(client).error, LEAT_OK);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&node->hold, true);
        start_held(node, client, 1, 3, 30 * SECOND);
        atomic_store(&node->lose, errors[i]); /* the node answers one, all end */
        struct leat_result result = next_result(client);
        assert_int_equal(result.error, errors[i]);
        assert_int_equal(leat_outcome(result.error), LEAT_END_UNKNOWN);
        assert_int_equal(result.last_sequence, i == 0 ? 1 : 2);
        assert_int_equal(leat_in_flight(client), 0);
        assert_int_equal(next_result(client).user, 1);
        leat_poll(client, NULL, 0);
        refused_for_now(client); /* a result is not taken */
        assert_int_equal(atomic_load(&node->attaches), i + 1);
        assert_int_equal(next_result(client).user, 2);
        refused_for_now(client);
        expect_new_identity(node, client);
        assert_int_equal(atomic_load(&node->attaches), i + 2);
    }
    leat_detach(client);
}

/* A refused first sequence is not used again either. */
static void test_full_session_table(void **state)
{
    struct fake_node *node = *state;
    static const int errors[] = {LEAT_ESESSIONS, LEAT_ENOSPACE};
    struct leat_client *client = fake_attach(node, 0, 0);
    for (unsigned i = 0; i < 2; i++) { /* the node answers one; what follows it cannot be there */
        atomic_store(&node->hold, true);
        start_held(node, client, 1, 3, 30 * SECOND);
        atomic_store(&node->lose, errors[i]);
        expect_lost(client, 3, errors[i]);
        assert_int_equal(leat_outcome(errors[i]), LEAT_END_UNKNOWN);
        expect_new_identity(node, client);
    }
    leat_detach(client);
}

/* What precedes the refused one may be in the log: it waits for its own answer. */
static void test_refused_behind_another(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    atomic_store(&node->hold, true);
    start_held(node, client, 1, 3, 30 * SECOND);
    atomic_store(&node->lose_from, 2);
    atomic_store(&node->lose, LEAT_ENOSPACE);
    WAIT_UNTIL((leat_poll(client, NULL, 0), leat_in_flight(client) == 1));
    atomic_store(&node->hold, false);
    struct leat_result result = next_result(client);
    assert_int_equal(result.error, LEAT_OK);
    assert_int_equal(result.sequence, 1);
    for (unsigned user = 1; user < 3; user++) {
        result = next_result(client);
        assert_int_equal(result.error, LEAT_ENOSPACE);
        assert_int_equal(result.user, user);
    }
    leat_detach(client);
}

static void test_lost_session_waits_for_other_logs(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    struct leat_result results[4];
    atomic_store(&node->hold, true);
    start_held(node, client, 2, 1, 30 * SECOND);
    start_held(node, client, 2, 1, SECOND);
    start_held(node, client, 1, 2, 30 * SECOND);
    atomic_store(&node->lose, LEAT_ESESSION);
    expect_lost(client, 2, LEAT_ESESSION);
    assert_int_equal(leat_in_flight(client), 2);
    assert_int_equal(leat_wait(client, results, 4, 20 * FAKE_MS), LEAT_EDEADLINE);
    refused_for_now(client);
    uint64_t until_ns = fake_now_ns() + 10 * SECOND;
    while (leat_in_flight(client) != 1 && fake_now_ns() < until_ns)
        assert_int_equal(leat_poll(client, results, 4), 0); /* behind the first of its log */
    assert_int_equal(atomic_load(&node->attaches), 1);
    atomic_store(&node->hold, false);
    struct leat_result result = next_result(client);
    assert_int_equal(result.error, LEAT_OK);
    assert_int_equal(result.log, 2);
    assert_int_equal(result.sequence, 1);
    result = next_result(client);
    assert_int_equal(result.error, LEAT_EDEADLINE);
    assert_int_equal(result.sequence, 2);
    expect_new_identity(node, client);
    assert_int_equal(atomic_load(&node->attaches), 2);
    leat_detach(client);
}

/* The node restarts while another log is waited for: that log's append is handed over under the old
 * identity, the lost ones are not. */
static void test_lost_session_and_a_restart(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    struct leat_result results[4];
    atomic_store(&node->hold, true);
    start_held(node, client, 1, 3, 30 * SECOND);
    start_held(node, client, 2, 1, 30 * SECOND);
    atomic_store(&node->lose, LEAT_ESESSION);
    expect_lost(client, 3, LEAT_ESESSION);
    fake_node_go_down(node);
    assert_int_equal(leat_wait(client, results, 4, 20 * FAKE_MS), LEAT_EDEADLINE);
    refused_for_now(client);
    fake_node_come_up(node);
    uint64_t until_ns = fake_now_ns() + 10 * SECOND;
    while (atomic_load(&node->seen_count) < 5 && fake_now_ns() < until_ns)
        assert_int_equal(leat_poll(client, results, 4), 0);
    assert_int_equal(atomic_load(&node->seen_count), 5);
    assert_int_equal(node->seen[4].log_id, 2);
    assert_true(same_client(&node->seen[4], &node->seen[0]));
    atomic_store(&node->hold, false);
    assert_int_equal(next_result(client).error, LEAT_OK);
    expect_new_identity(node, client);
    assert_int_equal(atomic_load(&node->attaches), 3);
    leat_detach(client);
}

/* All is taken while the node is away: it comes back to the new identity only. */
static void test_new_identity_while_the_node_is_away(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    struct leat_result results[4];
    atomic_store(&node->hold, true);
    start_held(node, client, 1, 3, 30 * SECOND);
    start_held(node, client, 2, 1, SECOND);
    atomic_store(&node->lose, LEAT_ESESSION);
    expect_lost(client, 3, LEAT_ESESSION);
    fake_node_go_down(node);
    assert_int_equal(next_result(client).error, LEAT_EDEADLINE);
    assert_int_equal(leat_wait(client, results, 4, 20 * FAKE_MS), LEAT_EDEADLINE);
    refused_for_now(client); /* not into the old identity's ring */
    fake_node_come_up(node);
    expect_new_identity(node, client);
    assert_int_equal(atomic_load(&node->attaches), 2);
    leat_detach(client);
}

static void test_claim_survives_a_new_identity(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    uint64_t sequence, until_ns = fake_now_ns() + 10 * SECOND;
    void *bytes;
    int rc;
    atomic_store(&node->hold, true);
    start_held(node, client, 1, 2, 30 * SECOND);
    assert_int_equal(leat_claim(client, 2, 10, &bytes), LEAT_OK);
    memset(bytes, 'a', 5);
    atomic_store(&node->lose, LEAT_ESESSION);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(next_result(client).error, LEAT_ESESSION);
    memset(bytes, 'q', 10);
    assert_int_equal(leat_publish(client, LEAT_ACK_DURABLE, 10 * SECOND, 0, NULL), LEAT_EAGAIN);
    atomic_store(&node->hold, false);
    while ((rc = leat_publish(client, LEAT_ACK_DURABLE, 10 * SECOND, 0, &sequence)) ==
               LEAT_EAGAIN &&
           fake_now_ns() < until_ns)
        leat_poll(client, NULL, 0);
    assert_int_equal(rc, LEAT_OK);
    assert_int_equal(sequence, 1);
    assert_int_equal(next_result(client).error, LEAT_OK);
    assert_int_equal(atomic_load(&node->attaches), 2);
    assert_int_equal(atomic_load(&node->seen_count), 3);
    assert_int_equal(node->seen[2].first_byte, 'q');
    assert_false(same_client(&node->seen[2], &node->seen[0]));
    leat_detach(client);
}

/* ---- refused ---- */

static void test_let_go_for_good(void **state)
{
    struct fake_node *node = *state;
    struct leat_client *client = fake_attach(node, 0, 0);
    atomic_store(&node->hold, true);
    start_append(client, "a", LEAT_ACK_DURABLE, 30 * SECOND);
    atomic_store(&node->close_with, LEAT_EPROTO);
    assert_int_equal(next_result(client).error, LEAT_EPROTO);
    assert_int_equal(leat_append_start(client, 1, "a", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
                     LEAT_EPROTO);
    leat_detach(client);
}

static void test_attach_refused_and_retried(void **state)
{
    struct fake_node *node = *state;
    atomic_store(&node->refusal, LEAT_EEXISTS); /* the former connection is not yet gone */
    struct leat_client *client = fake_attach(node, 0, 0);
    assert_non_null(client);
    leat_detach(client);
    struct leat_options options = {.socket = "/nowhere/leat.sock",
                                   .attach_timeout_ns = 20 * FAKE_MS};
    assert_int_equal(leat_attach(&options, &client), LEAT_ESYSTEM);
    options.ring_bytes = 12345;
    assert_int_equal(leat_attach(&options, &client), LEAT_EINVAL);
}

int main(void)
{
#define WITH_NODE(name) cmocka_unit_test_setup_teardown(name, start_node, stop_node)
    const struct CMUnitTest tests[] = {
        WITH_NODE(test_append_and_result),
        WITH_NODE(test_refused_before_a_sequence),
        cmocka_unit_test(test_level_refused),
        WITH_NODE(test_levels_end_out_of_order),
        WITH_NODE(test_full_ring_and_wrap),
        WITH_NODE(test_large_record_in_small_ring),
        WITH_NODE(test_in_flight_limit),
        WITH_NODE(test_deadline_is_unknown_and_late_answer_swallowed),
        WITH_NODE(test_claim_publish_abort),
        WITH_NODE(test_reconnect_hands_over_what_is_unended),
        WITH_NODE(test_claim_survives_a_reconnect),
        WITH_NODE(test_every_attach_is_another_client),
        WITH_NODE(test_lost_session),
        WITH_NODE(test_full_session_table),
        WITH_NODE(test_refused_behind_another),
        WITH_NODE(test_lost_session_waits_for_other_logs),
        WITH_NODE(test_lost_session_and_a_restart),
        WITH_NODE(test_new_identity_while_the_node_is_away),
        WITH_NODE(test_claim_survives_a_new_identity),
        WITH_NODE(test_let_go_for_good),
        WITH_NODE(test_attach_refused_and_retried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
