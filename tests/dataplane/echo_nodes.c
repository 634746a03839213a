/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "echo_nodes.h"

#define UNPRIVILEGED_USER 65534

static const struct node_setting setting_default = {
    .kind = "memif", .netns_fd = NODE_NO_NETNS, .cpu = -1};

struct node nodes[NODES];
struct node_setting node_setting;
uint32_t node_runs;

void node_pause(void)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    nanosleep(&pause, NULL);
}

static void pin(void)
{
    cpu_set_t one;
    if (node_setting.cpu < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET((unsigned)node_setting.cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

#define ARGUMENTS_MAX 40u

struct arguments {
    unsigned count;
    const char *list[ARGUMENTS_MAX];
    char numbers[ARGUMENTS_MAX][16];
};

static void add(struct arguments *arguments, const char *text)
{
    if (arguments->count + 1 < ARGUMENTS_MAX)
        arguments->list[arguments->count++] = text;
}

static void add_number(struct arguments *arguments, const char *name, unsigned value)
{
    char *text = arguments->numbers[arguments->count];
    snprintf(text, sizeof(arguments->numbers[0]), "%u", value);
    if (name != NULL)
        add(arguments, name);
    add(arguments, text);
}

static void add_setting(struct arguments *arguments)
{
    static const char *const flood[] = {"--flood", "--idle",  "spin", "--window",
                                        "32",      "--bytes", "1400"};
    for (unsigned i = 0; node_setting.flood && i < sizeof(flood) / sizeof(flood[0]); i++)
        add(arguments, flood[i]);
    if (node_setting.reference)
        add(arguments, "--reference");
    if (node_setting.bundles)
        add(arguments, "--bundles");
    if (node_setting.workers > 0)
        add_number(arguments, "--workers", node_setting.workers);
    if (node_setting.peer_workers != NULL) {
        add(arguments, "--peer-workers");
        add(arguments, node_setting.peer_workers);
    }
    if (node_setting.mtu > 0)
        add_number(arguments, "--mtu", node_setting.mtu);
    if (node_setting.bytes > 0)
        add_number(arguments, "--bytes", node_setting.bytes);
    if (node_setting.gap_us > 0) {
        add_number(arguments, "--gap-us", node_setting.gap_us);
        add_number(arguments, "--window", 1);
    }
    if (node_setting.tx_buffers > 0)
        add_number(arguments, "--tx-buffers", node_setting.tx_buffers);
}

static _Noreturn void become_echo(unsigned id, const char *peers)
{
    struct arguments arguments = {.list = {"port_echo", node_setting.kind, node_setting.where}};
    arguments.count = 3;
    add_number(&arguments, NULL, id);
    add(&arguments, peers);
    add_number(&arguments, "--page", (unsigned)nodes[id].page_fd);
    add_number(&arguments, "--run", node_runs);
    add_number(&arguments, "--seconds", 250);
    add_setting(&arguments);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin();
    if (node_setting.netns_fd >= 0 && setns(node_setting.netns_fd, CLONE_NEWNET) != 0)
        _exit(2);
    if (node_setting.unprivileged &&
        (setgid(UNPRIVILEGED_USER) != 0 || setuid(UNPRIVILEGED_USER) != 0))
        _exit(3);
    const char *program = getenv("PORT_ECHO");
    execv(program, (char *const *)(uintptr_t)arguments.list);
    _exit(4);
}

void node_start(unsigned id, const char *peers)
{
    struct node *node = &nodes[id];
    assert_int_equal(node->pid, 0);
    if (node->page == NULL) {
        node->page_fd = memfd_create("echo", 0);
        assert_int_equal(ftruncate(node->page_fd, sizeof(*node->page)), 0);
        node->page =
            mmap(NULL, sizeof(*node->page), PROT_READ | PROT_WRITE, MAP_SHARED, node->page_fd, 0);
    }
    memset(node->page, 0, sizeof(*node->page));
    node_runs++;
    node->pid = fork();
    assert_true(node->pid >= 0);
    if (node->pid == 0)
        become_echo(id, peers);
}

bool node_is_alive(unsigned id)
{
    return nodes[id].pid > 0 && waitpid(nodes[id].pid, NULL, WNOHANG) == 0;
}

void node_kill(unsigned id)
{
    kill(nodes[id].pid, SIGKILL);
    waitpid(nodes[id].pid, NULL, 0);
    nodes[id].pid = 0;
}

/* No runtime directory of this process under any place where DPDK would make one. */
static void assert_no_runtime_directory(pid_t pid)
{
    static const char *const places[] = {"/var/run/dpdk", "/run/dpdk", "/tmp/dpdk"};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/leat-%ld", places[i], (long)pid);
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

void node_end_well(unsigned id)
{
    int status = -1;
    pid_t pid = nodes[id].pid;
    atomic_store(&nodes[id].page->stop, 1);
    WAIT_UNTIL(waitpid(pid, &status, WNOHANG) == pid);
    nodes[id].pid = 0;
    assert_int_equal(status, 0);
    assert_int_equal(nodes[id].page->bad, 0);
    assert_no_runtime_directory(pid);
}

bool node_heard_all(unsigned id, unsigned workers, unsigned peer, unsigned peer_workers,
                    uint64_t count)
{
    for (unsigned worker = 0; worker < workers; worker++) {
        for (unsigned from = 0; from < peer_workers; from++) {
            if (nodes[id].page->from[worker][peer][from] < count)
                return false;
        }
    }
    return true;
}

uint64_t node_sum(unsigned id, size_t counter)
{
    uint64_t sum = 0, value;
    for (unsigned worker = 0; worker < LEAT_WORKERS_MAX; worker++) {
        memcpy(&value, (const char *)&nodes[id].page->workers[worker] + counter, sizeof(value));
        sum += value;
    }
    return sum;
}

pid_t node_start_busy(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin();
        for (volatile uint64_t i = 0;; i++)
            ;
    }
    return pid;
}

void nodes_reset(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].pid > 0)
            node_kill(i);
        if (nodes[i].page != NULL) {
            munmap(nodes[i].page, sizeof(*nodes[i].page));
            close(nodes[i].page_fd);
        }
        nodes[i] = (struct node){.pid = 0};
    }
    node_setting = setting_default;
}
