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
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "dataplane/clock.h"
#include "port_echo.h"

#define KILLS             100u /* half of them servers, half clients */
#define RESUME_NS_MAX     1000000000u
#define WAIT_NS           20000000000u
#define NODES             4u
#define ARGUMENTS_MAX     16
#define LOAD_DATAGRAMS    2000u
#define UNPRIVILEGED_USER 65534

struct node {
    pid_t pid; /* 0: not running */
    struct echo_page *page;
    int page_fd;
};

static struct node nodes[NODES];
static char directory[64];
static uint32_t runs;
static bool unprivileged;
static int shared_cpu = -1;

static void pause_briefly(void)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    nanosleep(&pause, NULL);
}

#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        uint64_t wait_end = leat_clock_monotonic_ns() + WAIT_NS;                                   \
        while (!(condition)) {                                                                     \
            if (leat_clock_monotonic_ns() > wait_end)                                              \
                fail_msg("waited in vain for " #condition);                                        \
            pause_briefly();                                                                       \
        }                                                                                          \
    } while (0)

static void pin_to_shared_cpu(void)
{
    cpu_set_t one;
    if (shared_cpu < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET((unsigned)shared_cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

static _Noreturn void become_echo(unsigned id, const char *peers)
{
    char self[16], page[16], run[16];
    snprintf(self, sizeof(self), "%u", id);
    snprintf(page, sizeof(page), "%d", nodes[id].page_fd);
    snprintf(run, sizeof(run), "%u", runs);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_to_shared_cpu();
    if (unprivileged && (setgid(UNPRIVILEGED_USER) != 0 || setuid(UNPRIVILEGED_USER) != 0))
        _exit(3);
    const char *program = getenv("PORT_ECHO");
    execl(program, program, "memif", directory, self, peers, "--page", page, "--run", run,
          "--seconds", "250", (char *)NULL);
    _exit(4);
}

static void start(unsigned id, const char *peers)
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
    runs++;
    node->pid = fork();
    assert_true(node->pid >= 0);
    if (node->pid == 0)
        become_echo(id, peers);
}

static bool is_alive(unsigned id)
{
    return nodes[id].pid > 0 && waitpid(nodes[id].pid, NULL, WNOHANG) == 0;
}

static void forget_pages(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].page != NULL) {
            munmap(nodes[i].page, sizeof(*nodes[i].page));
            close(nodes[i].page_fd);
        }
        nodes[i] = (struct node){.pid = 0};
    }
}

static void kill_node(unsigned id)
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

static void end_well(unsigned id)
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
    return mkdtemp(directory) != NULL && chmod(directory, 0777) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].pid > 0)
            kill_node(i);
    }
    forget_pages();
    unprivileged = false;
    shared_cpu = -1;
    char command[96];
    snprintf(command, sizeof(command), "%s/1-2-w0.sock", directory);
    unlink(command);
    snprintf(command, sizeof(command), "%s/1-3-w0.sock", directory);
    unlink(command);
    snprintf(command, sizeof(command), "%s/2-3-w0.sock", directory);
    unlink(command);
    return rmdir(directory);
}

static void exchange(unsigned first, unsigned second)
{
    static const char *const peers[] = {"", "2", "1"};
    start(first, peers[first]);
    WAIT_UNTIL(atomic_load(&nodes[first].page->ready) == 1);
    start(second, peers[second]);
    WAIT_UNTIL(nodes[first].page->good > LOAD_DATAGRAMS &&
               nodes[second].page->good > LOAD_DATAGRAMS);
    assert_int_equal(nodes[first].page->affinity_kept, 1);
    assert_int_equal(nodes[first].page->counters.link_up, 1);
    end_well(second);
    end_well(first);
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
    unprivileged = getuid() == 0;
    exchange(1, 2);
}

/* Node 1 serves both others. While it is paused, its backlog fills with node 3's attempts; node 3
 * is started anew and must still find node 2. */
static void a_paused_server_holds_nobody_up(void **state)
{
    (void)state;
    start(1, "2,3");
    start(2, "1,3");
    start(3, "1,2");
    WAIT_UNTIL(nodes[3].page->heard[0] != 0 && nodes[3].page->heard[1] != 0);
    kill(nodes[1].pid, SIGSTOP);
    for (unsigned round = 0; round < 4; round++) {
        kill_node(3);
        start(3, "1,2");
        WAIT_UNTIL(nodes[3].page->heard[1] != 0 && nodes[2].page->heard[1] == runs);
        uint64_t good = nodes[3].page->good;
        WAIT_UNTIL(nodes[3].page->good > good + LOAD_DATAGRAMS);
    }
    kill(nodes[1].pid, SIGCONT);
    WAIT_UNTIL(nodes[1].page->heard[1] == runs && nodes[3].page->heard[0] != 0);
    end_well(3);
    end_well(2);
    end_well(1);
    assert_int_equal(files_in(directory), 0);
}

static pid_t start_busy_process(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin_to_shared_cpu();
        for (volatile uint64_t i = 0;; i++)
            ;
    }
    return pid;
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
        uint64_t load = page->good + leat_rng_below(&rng, LOAD_DATAGRAMS);
        WAIT_UNTIL(page->good > load);
        uint64_t killed_ns = leat_clock_monotonic_ns();
        kill_node(victim);
        start(victim, peers);
        WAIT_UNTIL(nodes[victim].page->ready == 1);
        uint64_t ready_ns = leat_clock_monotonic_ns();
        WAIT_UNTIL(page->heard[0] == runs && nodes[victim].page->good > 0);
        uint64_t now_ns = leat_clock_monotonic_ns();
        assert_true(is_alive(survivor));
        record->kills++;
        if (now_ns - ready_ns > record->longest_ns)
            record->longest_ns = now_ns - ready_ns;
        if (now_ns - killed_ns > record->longest_with_start_ns)
            record->longest_with_start_ns = now_ns - killed_ns;
    }
}

static void kill_phase(unsigned survivor, unsigned victim, struct kill_record *record)
{
    start(1, "2");
    start(2, "1");
    WAIT_UNTIL(nodes[1].page->good > 0 && nodes[2].page->good > 0);
    kill_again_and_again(survivor, victim, KILLS / 2, record);
    assert_int_equal(nodes[survivor].page->bad, 0);
    end_well(victim);
    end_well(survivor);
}

static void a_survivor_of_kills_lives_and_hears_the_next(void **state)
{
    (void)state;
    struct kill_record record = {.kills = 0};
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof(cpus), &cpus);
    for (shared_cpu = CPU_SETSIZE - 1; !CPU_ISSET((unsigned)shared_cpu, &cpus);)
        shared_cpu--;
    pid_t busy = start_busy_process();
    kill_phase(1, 2, &record);
    kill_phase(2, 1, &record);
    kill(busy, SIGKILL);
    waitpid(busy, NULL, 0);
    print_message(
        "# %u kills, none of a survivor; longest until traffic resumed: %.0f ms after the "
        "next peer was ready, %.0f ms after the kill\n",
        record.kills, (double)record.longest_ns / 1e6, (double)record.longest_with_start_ns / 1e6);
    assert_int_equal(record.kills, KILLS);
    assert_true(record.longest_ns < RESUME_NS_MAX);
}

int main(void)
{
    if (getenv("PORT_ECHO") == NULL) {
        printf("1..0 # SKIP PORT_ECHO does not name the program\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_server_may_start_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_client_may_start_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_works_without_privileges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_paused_server_holds_nobody_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_survivor_of_kills_lives_and_hears_the_next, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("memif", tests, NULL, NULL);
}
