/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket against clients that do not behave: packets, seals, rights, and their end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_node.h"

#define CLIENT_REGION (LEAT_RING_HEADER_BYTES + LEAT_RING_BYTES_MIN)
#define NODE_REGION   (LEAT_RING_HEADER_BYTES + 64 * sizeof(struct leat_completion))
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static struct fake_node *node;

static int start(void **state)
{
    (void)state;
    node = fake_node_start(false);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_node_stop(node);
    return 0;
}

static int connect_raw(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, node->config.socket, strlen(node->config.socket));
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = 10};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    assert_int_equal(connect(descriptor, (struct sockaddr *)&address, sizeof(address)), 0);
    return descriptor;
}

static struct leat_control_request request_of(unsigned kind)
{
    return (struct leat_control_request){
        .magic = LEAT_CONTROL_MAGIC,
        .version = LEAT_CONTROL_VERSION,
        .kind = (uint16_t)kind,
        .log_id = 1,
        .client = {{1, 2, 3}},
        .ring_bytes = LEAT_RING_BYTES_MIN,
        .completion_count = 64,
    };
}

struct answer {
    struct leat_control_reply head;
    char text[LEAT_CONTROL_TEXT_BYTES_MAX + 1];
    int descriptors[2];
    unsigned descriptor_count;
};

/* False: the node hung up. */
static bool receive(int descriptor, struct answer *answer)
{
    char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
    memset(answer, 0, sizeof(*answer));
    struct iovec parts[2] = {{&answer->head, sizeof(answer->head)},
                             {answer->text, LEAT_CONTROL_TEXT_BYTES_MAX}};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t bytes = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC);
    if (bytes <= 0)
        return false;
    assert_true(bytes >= (ssize_t)sizeof(answer->head));
    assert_int_equal(bytes, sizeof(answer->head) + answer->head.text_bytes);
    assert_int_equal(answer->head.magic, LEAT_CONTROL_MAGIC);
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    if (part) {
        answer->descriptor_count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(answer->descriptors, CMSG_DATA(part), answer->descriptor_count * sizeof(int));
    }
    assert_int_equal(answer->descriptor_count, answer->head.descriptor_count);
    return true;
}

static int ask(int descriptor, struct leat_control_request request, struct answer *answer)
{
    assert_int_equal(send(descriptor, &request, sizeof(request), MSG_NOSIGNAL), sizeof(request));
    assert_true(receive(descriptor, answer));
    assert_int_equal(answer->head.kind, request.kind);
    return answer->head.error;
}

static struct answer answer; /* large */

static void test_seals(void **state)
{
    (void)state;
    int connection = connect_raw();
    assert_int_equal(ask(connection, request_of(LEAT_CONTROL_ATTACH), &answer), LEAT_OK);
    assert_int_equal(answer.descriptor_count, 2);
    int client_region = answer.descriptors[0], node_region = answer.descriptors[1];
    struct stat status;
    assert_int_equal(fstat(client_region, &status), 0);
    assert_int_equal(status.st_size, CLIENT_REGION);
    assert_int_equal(status.st_mode & 0777, 0600);

    /* The node region: never writable here, whatever the descriptor's mode. */
    assert_ptr_equal(mmap(NULL, NODE_REGION, PROT_READ | PROT_WRITE, MAP_SHARED, node_region, 0),
                     MAP_FAILED);
    void *map = mmap(NULL, NODE_REGION, PROT_READ, MAP_SHARED, node_region, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_not_equal(mprotect(map, NODE_REGION, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(pwrite(node_region, "x", 1, 0), -1);
    assert_int_not_equal(
        fallocate(node_region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    const struct leat_ring_node *answers = map;
    assert_int_equal(answers->ring_bytes, LEAT_RING_BYTES_MIN);
    assert_int_equal(answers->completion_count, 64);
    assert_memory_equal(&answers->instance, &answer.head.instance, sizeof(answers->instance));

    /* The client region: one writable mapping, made before READY; a hole punched before is filled.
     */
    void *ring = mmap(NULL, CLIENT_REGION, PROT_READ | PROT_WRITE, MAP_SHARED, client_region, 0);
    assert_ptr_not_equal(ring, MAP_FAILED);
    assert_int_equal(
        fallocate(client_region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096), 0);
    assert_int_not_equal(ftruncate(client_region, 4096), 0);
    assert_int_not_equal(ftruncate(client_region, 1 << 20), 0);
    assert_int_equal(ask(connection, request_of(LEAT_CONTROL_READY), &answer), LEAT_OK);
    assert_int_equal(atomic_load(&node->attached), 1);
    assert_int_equal(fstat(client_region, &status), 0);
    assert_int_equal(status.st_blocks * 512, CLIENT_REGION);
    assert_int_not_equal(
        fallocate(client_region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096), 0);
    assert_int_equal(errno, EPERM);
    assert_int_not_equal(madvise((char *)ring + 8192, 4096, MADV_REMOVE), 0);
    assert_int_equal(pwrite(client_region, "x", 1, 0), -1);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, client_region, 0),
                     MAP_FAILED);
    assert_int_not_equal(fcntl(client_region, F_ADD_SEALS, F_SEAL_WRITE), 0);
    int seals = fcntl(client_region, F_GET_SEALS);
    assert_int_equal(seals & (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE),
                     F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
    memset((char *)ring + 8192, 1, 4096); /* the one mapping still writes */

    close(connection); /* HUP gives the rings back */
    WAIT_UNTIL(atomic_load(&node->attached) == 0);
    assert_int_equal((int64_t)__atomic_load_n(&answers->closed.value, __ATOMIC_ACQUIRE) == 0 ||
                         (int64_t)answers->closed.value == LEAT_ECLOSED,
                     1);
    munmap(map, NODE_REGION);
    munmap(ring, CLIENT_REGION);
    close(client_region);
    close(node_region);
}

static void expect_refused(struct leat_control_request request, int error)
{
    int connection = connect_raw();
    int rc = ask(connection, request, &answer);
    if (rc != error)
        fail_msg("kind %u: %s, expected %s", request.kind, leat_error_name(rc),
                 leat_error_name(error));
    assert_int_equal(answer.descriptor_count, 0);
    close(connection);
}

static void test_attach_bounds(void **state)
{
    (void)state;
    const uint64_t rings[] = {0,
                              1,
                              LEAT_RING_BYTES_MIN - 1,
                              LEAT_RING_BYTES_MIN + 32,
                              LEAT_RING_BYTES_MIN / 2,
                              LEAT_RING_BYTES_MAX * 2ull,
                              UINT64_MAX,
                              1ull << 63};
    const uint64_t counts[] = {0, 32, 65, LEAT_RING_COMPLETIONS_MAX * 2ull, UINT64_MAX, 1ull << 63};
    struct leat_control_request request;
    for (unsigned i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
        request = request_of(LEAT_CONTROL_ATTACH);
        request.ring_bytes = rings[i];
        expect_refused(request, LEAT_EINVAL);
    }
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        request = request_of(LEAT_CONTROL_ATTACH);
        request.completion_count = counts[i];
        expect_refused(request, LEAT_EINVAL);
    }
    request = request_of(LEAT_CONTROL_ATTACH);
    memset(&request.client, 0, sizeof(request.client));
    expect_refused(request, LEAT_EINVAL);
    expect_refused(request_of(LEAT_CONTROL_READY), LEAT_EINVAL);
    assert_int_equal(atomic_load(&node->attaches), 0);
}

/* Not a request: one reply, then the node hangs up. */
static void expect_hang_up(const void *packet, size_t bytes, int error)
{
    int connection = connect_raw();
    assert_int_equal(send(connection, packet, bytes, MSG_NOSIGNAL), bytes);
    assert_true(receive(connection, &answer));
    assert_int_equal(answer.head.error, error);
    assert_false(receive(connection, &answer));
    close(connection);
}

static void test_bad_packets(void **state)
{
    (void)state;
    struct leat_control_request request = request_of(LEAT_CONTROL_STATUS);
    static char large[70000];
    memcpy(large, &request, sizeof(request));
    expect_hang_up(&request, sizeof(request) - 1, LEAT_EPROTO);
    expect_hang_up(&request, 1, LEAT_EPROTO);
    expect_hang_up(large, sizeof(request) + 1, LEAT_EPROTO);
    expect_hang_up(large, sizeof(large), LEAT_EPROTO);
    request.magic ^= 1;
    expect_hang_up(&request, sizeof(request), LEAT_EPROTO);
    request = request_of(LEAT_CONTROL_STATUS);
    request.version++;
    expect_hang_up(&request, sizeof(request), LEAT_EVERSION);
    expect_refused(request_of(0), LEAT_EINVAL);
    expect_refused(request_of(LEAT_CONTROL_KIND_LAST + 1), LEAT_EINVAL);
    expect_refused(request_of(0xffff), LEAT_EINVAL);

    char *json;
    assert_int_equal(leat_status(node->config.socket, &json), LEAT_OK);
    assert_non_null(strstr(json, "{\"node\":1,\"control\":{"));
    assert_non_null(strstr(json, "\"refused_requests\":9"));
    free(json);
}

static void test_descriptors_sent_to_the_node_are_dropped(void **state)
{
    (void)state;
    int connection = connect_raw();
    struct leat_control_request request = request_of(LEAT_CONTROL_STATUS);
    struct iovec part = {&request, sizeof(request)};
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    memset(control, 0, sizeof(control));
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &pipes[1], sizeof(int));
    assert_int_equal(sendmsg(connection, &message, 0), sizeof(request));
    close(pipes[1]);
    assert_true(receive(connection, &answer));
    char byte;
    assert_int_equal(read(pipes[0], &byte, 1), 0); /* no one holds the other end */
    close(pipes[0]);
    close(connection);
}

static void test_requests_reach_the_worker(void **state)
{
    (void)state;
    char explanation[128];
    assert_int_equal(leat_transfer(node->config.socket, 1, 3, explanation, sizeof(explanation)), 0);
    assert_string_equal(explanation, "kind 6 log 1 node 3 position 0");
    assert_int_equal(leat_amnesia_accept(node->config.socket, 2, explanation, sizeof(explanation)),
                     0);
    assert_string_equal(explanation, "kind 7 log 2 node 0 position 0");
    assert_int_equal(leat_trim(node->config.socket, 1, 4096, explanation, sizeof(explanation)), 0);
    assert_string_equal(explanation, "kind 8 log 1 node 0 position 4096");
    assert_int_equal(leat_damage_accept(node->config.socket, 2, explanation, sizeof(explanation)),
                     0);
    assert_string_equal(explanation, "kind 9 log 2 node 0 position 0");
    int connection = connect_raw();
    assert_int_equal(ask(connection, request_of(LEAT_CONTROL_LOG), &answer), LEAT_OK);
    assert_int_equal(answer.descriptor_count, 1);
    assert_int_equal(fcntl(answer.descriptors[0], F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, answer.descriptors[0], 0),
                     MAP_FAILED);
    close(answer.descriptors[0]);
    close(connection);
}

/* As another user: 0 all right, else the line where it was not. */
static int as_user(uid_t uid, gid_t gid, int (*body)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (setgid(gid) != 0 || setuid(uid) != 0)
            _exit(255);
        _exit(body());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 254;
}

static int stranger(void)
{
    char *json;
    return leat_status(node->config.socket, &json) == LEAT_EPERM ? 0 : 1;
}

static int reader_only(void)
{
    char *json;
    struct leat_options options = {.socket = node->config.socket};
    struct leat_client *client;
    if (leat_status(node->config.socket, &json) != LEAT_OK)
        return 1;
    if (leat_transfer(node->config.socket, 1, 0, NULL, 0) != LEAT_EPERM)
        return 2;
    if (leat_trim(node->config.socket, 1, 0, NULL, 0) != LEAT_EPERM)
        return 3;
    if (leat_damage_accept(node->config.socket, 1, NULL, 0) != LEAT_EPERM ||
        leat_amnesia_accept(node->config.socket, 1, NULL, 0) != LEAT_EPERM)
        return 4;
    if (leat_attach(&options, &client) != LEAT_OK)
        return 5;
    leat_detach(client);
    return 0;
}

static void test_other_users(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(node->directory, 0755), 0);
    struct stat status;
    assert_int_equal(stat(node->config.socket, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600); /* nobody else is configured */
    assert_int_equal(as_user(12345, 12345, stranger), 0);
    fake_node_go_down(node);
    node->config.client_uids[0] = 12345;
    node->config.client_uid_count = 1;
    node->config.client_gids[0] = 23456;
    node->config.client_gid_count = 1;
    fake_node_come_up(node);
    assert_int_equal(as_user(12345, 12345, reader_only), 0);
    assert_int_equal(as_user(999, 23456, reader_only), 0);
    assert_int_equal(as_user(999, 999, stranger), 0);
    WAIT_UNTIL(atomic_load(&node->attached) == 0);
}

static void test_killed_client_is_reclaimed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        int connection = connect_raw();
        assert_int_equal(ask(connection, request_of(LEAT_CONTROL_ATTACH), &answer), LEAT_OK);
        close(answer.descriptors[0]);
        close(answer.descriptors[1]);
        struct leat_control_request ready = request_of(LEAT_CONTROL_READY);
        if (i % 2) /* gone while the worker is asked */
            assert_int_equal(send(connection, &ready, sizeof(ready), 0), sizeof(ready));
        close(connection);
    }
    WAIT_UNTIL(atomic_load(&node->attached) == 0);
    struct leat_client *client = fake_attach(node, 0, 0);
    assert_non_null(client);
    leat_detach(client);
}

/* A client that asks and never reads costs nobody else anything. */
static void test_slow_client(void **state)
{
    (void)state;
    int connection = connect_raw();
    struct leat_control_request request = request_of(LEAT_CONTROL_STATUS);
    uint64_t until_ns = fake_now_ns() + 2000 * FAKE_MS;
    while (fake_now_ns() < until_ns &&
           (send(connection, &request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) > 0 ||
            errno == EAGAIN))
        fake_pause();
    char *json;
    assert_int_equal(leat_status(node->config.socket, &json), LEAT_OK);
    assert_non_null(strstr(json, "\"dropped_slow\":1"));
    free(json);
    close(connection);
}

static void test_connection_limit(void **state)
{
    (void)state;
    static int connections[400];
    unsigned count = 0;
    for (; count < 300; count++)
        connections[count] = connect_raw();
    struct pollfd last = {.fd = connections[299], .events = POLLIN | POLLRDHUP};
    assert_int_equal(poll(&last, 1, 10000), 1);
    assert_true(last.revents & (POLLHUP | POLLRDHUP));
    assert_int_equal(ask(connections[0], request_of(LEAT_CONTROL_STATUS), &answer), LEAT_OK);
    while (count > 0)
        close(connections[--count]);
    char *json = NULL;
    WAIT_UNTIL(leat_status(node->config.socket, &json) == LEAT_OK);
    free(json);
}

static void test_socket_in_use_and_stale(void **state)
{
    (void)state;
    struct node_commands *queue = &node->commands;
    struct node_control *other;
    struct leat_uuid instance = {{1}};
    char error[256] = "";
    assert_int_equal(
        node_control_start(&node->config, &instance, &queue, &other, error, sizeof(error)),
        LEAT_EINUSE);
    assert_non_null(strstr(error, node->config.socket));
    fake_node_go_down(node);
    assert_int_not_equal(access(node->config.socket, F_OK), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, node->config.socket, strlen(node->config.socket));
    int stale = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof(address)), 0);
    close(stale); /* as a killed node leaves it */
    fake_node_come_up(node);
    struct leat_client *client = fake_attach(node, 0, 0);
    assert_non_null(client);
    leat_detach(client);
    fake_node_go_down(node);
    int file = open(node->config.socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(file);
    assert_int_equal(
        node_control_start(&node->config, &instance, &queue, &other, error, sizeof(error)),
        LEAT_EINUSE);
    assert_int_equal(unlink(node->config.socket), 0); /* not ours: left alone */
    fake_node_come_up(node);
}

static void test_stop_tells_clients(void **state)
{
    (void)state;
    int connection = connect_raw();
    assert_int_equal(ask(connection, request_of(LEAT_CONTROL_ATTACH), &answer), LEAT_OK);
    const struct leat_ring_node *answers =
        mmap(NULL, NODE_REGION, PROT_READ, MAP_SHARED, answer.descriptors[1], 0);
    close(answer.descriptors[0]);
    close(answer.descriptors[1]);
    assert_int_equal(ask(connection, request_of(LEAT_CONTROL_READY), &answer), LEAT_OK);
    fake_node_go_down(node);
    assert_int_equal((int64_t)answers->closed.value, LEAT_ECLOSED);
    assert_false(receive(connection, &answer));
    munmap((void *)answers, NODE_REGION);
    close(connection);
    fake_node_come_up(node);
}

int main(void)
{
#define WITH_NODE(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        WITH_NODE(test_seals),
        WITH_NODE(test_attach_bounds),
        WITH_NODE(test_bad_packets),
        WITH_NODE(test_descriptors_sent_to_the_node_are_dropped),
        WITH_NODE(test_requests_reach_the_worker),
        WITH_NODE(test_other_users),
        WITH_NODE(test_killed_client_is_reclaimed),
        WITH_NODE(test_slow_client),
        WITH_NODE(test_connection_limit),
        WITH_NODE(test_socket_in_use_and_stale),
        WITH_NODE(test_stop_tells_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
