/* SPDX-License-Identifier: Apache-2.0
 *
 * The descriptor for event loops: it wakes for results, for moved logs, for deadlines, for the
 * node's end and return, and not for nothing. A client after fork. Several clients of a process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_node.h"

#define SECOND (1000 * FAKE_MS)

static struct fake_node *node;
static struct leat_client *client;
static int descriptor;

static int start(void **state)
{
    (void)state;
    node = fake_node_start(true);
    atomic_store(&node->writes_log, true);
    client = fake_attach(node, 0, 0);
    descriptor = client ? leat_poll_fd(client) : -1;
    return descriptor >= 0 ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    leat_detach(client);
    fake_node_stop(node);
    return 0;
}

static bool is_readable(int timeout_ms)
{
    struct pollfd look = {.fd = descriptor, .events = POLLIN};
    return poll(&look, 1, timeout_ms) == 1;
}

static void start_append(uint64_t timeout_ns)
{
    assert_int_equal(
        leat_append_start(client, 1, "record", 6, LEAT_ACK_DURABLE, timeout_ns, 0, NULL), LEAT_OK);
}

/* Sleeps for the descriptor, then takes: as an event loop does. */
static int sleep_and_take(struct leat_result *ret_result)
{
    for (uint64_t until_ns = fake_now_ns() + 10 * SECOND; fake_now_ns() < until_ns;) {
        int count = leat_poll(client, ret_result, 1);
        if (count != 0)
            return count;
        if (!is_readable(10000))
            return LEAT_EDEADLINE;
    }
    return LEAT_EDEADLINE;
}

/* It may wake for what was seen already, once or twice. */
static void settle(void)
{
    struct leat_result result;
    for (unsigned quiet = 0; quiet < 1;) {
        assert_int_equal(leat_poll(client, &result, 1), 0);
        quiet += !is_readable(30);
    }
}

static void test_results(void **state)
{
    struct leat_result result;
    (void)state;
    settle();
    for (unsigned i = 0; i < 200; i++) {
        start_append(10 * SECOND);
        assert_int_equal(sleep_and_take(&result), 1);
        assert_int_equal(result.error, LEAT_OK);
        assert_int_equal(result.sequence, i + 1);
    }
    settle();
    assert_false(is_readable(50));
}

/* One result at a time, though all are there: the rest is found by looking on. */
static void test_many_results(void **state)
{
    struct leat_result result;
    unsigned taken = 0;
    (void)state;
    atomic_store(&node->hold, true);
    for (unsigned i = 0; i < 100; i++)
        start_append(20 * SECOND);
    settle();
    atomic_store(&node->hold, false);
    while (taken < 100) {
        assert_int_equal(sleep_and_take(&result), 1);
        taken++;
    }
    settle();
}

static void test_log_moves(void **state)
{
    struct leat_reader *reader;
    struct leat_record record;
    struct leat_result result;
    (void)state;
    assert_int_equal(leat_reader_open(client, 1, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader),
                     LEAT_OK);
    struct leat_client *writer = fake_attach(node, 0, 0);
    assert_non_null(writer);
    for (unsigned i = 0; i < 50; i++) {
        int rc = leat_reader_next(reader, &record);
        assert_int_equal(rc, LEAT_EAGAIN);
        assert_int_equal(
            leat_append(writer, 1, &i, sizeof(i), LEAT_ACK_DURABLE, 10 * SECOND, &result), LEAT_OK);
        for (uint64_t until_ns = fake_now_ns() + 10 * SECOND; rc == LEAT_EAGAIN;) {
            assert_true(is_readable(10000));
            assert_true(fake_now_ns() < until_ns);
            rc = leat_reader_next(reader, &record);
        }
        assert_int_equal(rc, LEAT_OK);
        assert_int_equal(record.offset, i);
    }
    leat_reader_close(reader);
    leat_detach(writer);
}

static void test_leader_changes(void **state)
{
    struct leat_event event;
    struct leat_arena_leadership *leadership = &node->log.header->leadership;
    (void)state;
    assert_int_equal(leat_watch(client, 1), LEAT_OK);
    assert_int_equal(leat_events(client, &event, 1), 1);
    assert_int_equal(leat_events(client, &event, 1), 0);
    while (is_readable(30))
        assert_int_equal(leat_events(client, &event, 1), 0);
    leadership->leader_node = 3;
    __atomic_store_n(&leadership->counter, leadership->counter + 2, __ATOMIC_RELEASE);
    assert_true(is_readable(10000));
    assert_int_equal(leat_events(client, &event, 1), 1);
    assert_int_equal(event.leader_node, 3);
}

static void test_deadline(void **state)
{
    struct leat_result result;
    (void)state;
    atomic_store(&node->hold, true);
    settle();
    uint64_t start_ns = fake_now_ns();
    start_append(100 * FAKE_MS);
    assert_int_equal(sleep_and_take(&result), 1);
    assert_int_equal(result.error, LEAT_EDEADLINE);
    assert_true(fake_now_ns() - start_ns >= 100 * FAKE_MS);
}

static void test_node_goes_and_returns(void **state)
{
    struct leat_result result;
    (void)state;
    settle();
    atomic_store(&node->hold, true);
    start_append(30 * SECOND);
    assert_int_equal(leat_poll(client, &result, 1), 0);
    fake_node_go_down(node);
    memset(node->clients, 0, sizeof(node->clients));
    assert_true(is_readable(10000));
    assert_int_equal(leat_poll(client, &result, 1), 0);
    atomic_store(&node->hold, false);
    fake_node_come_up(node);
    assert_int_equal(sleep_and_take(&result), 1);
    assert_int_equal(result.error, LEAT_OK);
    settle();
    start_append(10 * SECOND);
    assert_int_equal(sleep_and_take(&result), 1);
    assert_int_equal(result.error, LEAT_OK);
}

/* ---- fork ---- */

/* In the child: every call answers EFORK, and the parent's rings are as they were. */
static int child_calls(struct leat_reader *reader)
{
    struct leat_result result;
    struct leat_record record;
    struct leat_log_info info;
    struct leat_event event;
    struct leat_reader *other;
    uint64_t position, offset;
    void *bytes;
    const int codes[] = {
        leat_append_start(client, 1, "x", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
        leat_append(client, 1, "x", 1, LEAT_ACK_DURABLE, SECOND, &result),
        leat_append_at(client, 1, 0, "x", 1, LEAT_ACK_DURABLE, SECOND, 0, NULL),
        leat_append_if(client, 1, 0, "x", 1, LEAT_ACK_DURABLE, SECOND, &result),
        leat_claim(client, 1, 1, &bytes),
        leat_publish(client, LEAT_ACK_DURABLE, SECOND, 0, NULL),
        leat_batch_begin(client, 1, 0, 0),
        leat_batch_add(client, "x", 1),
        leat_batch_reserve(client, 1, &bytes),
        leat_batch_commit(client, LEAT_ACK_DURABLE, SECOND, 0, NULL),
        leat_batch_commit_at(client, 0, LEAT_ACK_DURABLE, SECOND, 0, NULL),
        leat_fence(client, 1, 1, SECOND, &result),
        leat_writer_epoch(client, 1, 1),
        leat_poll(client, &result, 1),
        leat_wait(client, &result, 1, SECOND),
        leat_flush(client, SECOND),
        leat_wait_position(client, 1, 0, LEAT_ACK_DURABLE, SECOND),
        leat_poll_fd(client),
        leat_log_info(client, 1, &info),
        leat_watch(client, 1),
        leat_events(client, &event, 1),
        leat_tail(client, 1, LEAT_ACK_DURABLE, &position, &offset),
        leat_reader_open(client, 1, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &other),
        leat_reader_next(reader, &record),
        leat_reader_wait(reader, SECOND, &record),
    };
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i] != LEAT_EFORK)
            return 1 + (int)i;
    }
    leat_reader_close(reader);
    leat_detach(client);
    client = fake_attach(node, 0, 0); /* one of its own */
    if (!client || leat_append(client, 1, "child", 5, LEAT_ACK_DURABLE, 10 * SECOND, &result) != 0)
        return 100;
    leat_detach(client);
    return 0;
}

static int child_exit(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

static void test_fork(void **state)
{
    struct leat_reader *reader;
    struct leat_result result;
    struct leat_record record;
    (void)state;
    assert_int_equal(leat_append(client, 1, "first", 5, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                     LEAT_OK);
    assert_int_equal(leat_reader_open(client, 1, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader),
                     LEAT_OK);
    pid_t child = fork();
    if (child == 0)
        _exit(child_calls(reader));
    assert_int_equal(child_exit(child), 0);
    assert_int_equal(leat_append(client, 1, "third", 5, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                     LEAT_OK);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(leat_reader_wait(reader, 10 * SECOND, &record), LEAT_OK);
    assert_memory_equal(record.data, "third", 5);
    assert_int_equal(leat_poll(client, &result, 1), 0);
    leat_reader_close(reader);
}

/* Forked from a child that has a client itself: neither's nor its parent's is the grandchild's. */
static int grandchild_calls(struct leat_client *of_parent, struct leat_client *of_child)
{
    struct leat_result result;
    if (leat_poll(of_parent, &result, 1) != LEAT_EFORK)
        return 1;
    if (leat_poll(of_child, &result, 1) != LEAT_EFORK)
        return 2;
    struct leat_client *own = fake_attach(node, 0, 0);
    if (!own || leat_poll(own, &result, 1) != 0)
        return 3;
    bool still = leat_poll(of_parent, &result, 1) == LEAT_EFORK &&
                 leat_poll(of_child, &result, 1) == LEAT_EFORK;
    leat_detach(own);
    return still ? 0 : 4;
}

static void test_fork_twice(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        struct leat_client *of_child = fake_attach(node, 0, 0);
        pid_t grandchild = of_child ? fork() : -1;
        if (grandchild == 0)
            _exit(grandchild_calls(client, of_child));
        int status = 0;
        bool good =
            grandchild > 0 && waitpid(grandchild, &status, 0) == grandchild && WIFEXITED(status);
        leat_detach(of_child);
        _exit(good ? WEXITSTATUS(status) : 50);
    }
    assert_int_equal(child_exit(child), 0);
}

static void test_two_clients(void **state)
{
    struct leat_result result;
    (void)state;
    struct leat_client *other = fake_attach(node, 0, 0);
    assert_non_null(other);
    int other_descriptor = leat_poll_fd(other);
    assert_true(other_descriptor >= 0 && other_descriptor != descriptor);
    assert_int_equal(leat_append(other, 1, "b", 1, LEAT_ACK_DURABLE, 10 * SECOND, &result),
                     LEAT_OK);
    assert_int_equal(result.sequence, 1);
    start_append(10 * SECOND);
    assert_int_equal(sleep_and_take(&result), 1);
    assert_int_equal(result.sequence, 1); /* sequences are each client's own */
    assert_int_equal(result.error, LEAT_OK);
    leat_detach(other);
    start_append(10 * SECOND);
    assert_int_equal(sleep_and_take(&result), 1);
    assert_int_equal(result.error, LEAT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_results, start, stop),
        cmocka_unit_test_setup_teardown(test_many_results, start, stop),
        cmocka_unit_test_setup_teardown(test_log_moves, start, stop),
        cmocka_unit_test_setup_teardown(test_leader_changes, start, stop),
        cmocka_unit_test_setup_teardown(test_deadline, start, stop),
        cmocka_unit_test_setup_teardown(test_node_goes_and_returns, start, stop),
        cmocka_unit_test_setup_teardown(test_fork, start, stop),
        cmocka_unit_test_setup_teardown(test_fork_twice, start, stop),
        cmocka_unit_test_setup_teardown(test_two_clients, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
