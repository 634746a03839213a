/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes and their threads. A thread is a stack; a switch saves what the System V ABI for x86-64
 * calls callee-saved registers. Nothing preempts: a thread runs until it waits.
 */
#include "system.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define STACK_BYTES (256u << 10)
#define STACKS_KEPT 64u
#define FOR_EVER    (UINT64_MAX / 2)

void *__real_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);

struct sim_thread *sim_current;
static void *scheduler_stack_pointer;
static uint8_t *stacks[STACKS_KEPT];
static unsigned stack_count;
static struct sim_thread *pollers[1024];
static unsigned poller_count;
static int next_pid = 100;
static int last_pids[256]; /* by number modulo: who lives */

void stack_switch(void **save, void *load);
__asm__(".text\n"
        ".globl stack_switch\n"
        ".hidden stack_switch\n"
        ".type stack_switch,@function\n"
        "stack_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp,(%rdi)\n"
        "  movq %rsi,%rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size stack_switch,.-stack_switch\n");

/* ---- switching ---- */

static void thread_leave(void)
{
    struct sim_thread *thread = sim_current;
    sim_current = NULL;
    stack_switch(&thread->stack_pointer, scheduler_stack_pointer);
}

static void stack_give(struct sim_thread *thread)
{
    if (stack_count < STACKS_KEPT)
        stacks[stack_count++] = thread->stack;
    else
        munmap(thread->stack, STACK_BYTES);
    thread->stack = NULL;
}

static void process_reap(struct sim_process *process)
{
    if (process->dying)
        process->dying(process);
    process->alive = false;
    if (process_lives(process->pid))
        last_pids[process->pid % 256] = 0;
    disk_orphan(process);
    port_orphan(process);
    process_close_all(process);
    memory_free_all(process);
    for (struct sim_thread *thread = process->threads; thread; thread = thread->next) {
        thread->ticket++; /* events on their way find nobody */
        thread->done = true;
        if (thread->stack)
            stack_give(thread);
    }
    thread_wake_pollers(); /* who was connected to it is hung up on */
}

static void thread_run(struct sim_thread *thread)
{
    struct sim_process *process = thread->process;
    sim_current = thread;
    stack_switch(&scheduler_stack_pointer, thread->stack_pointer);
    if (thread->done && thread->stack)
        stack_give(thread);
    bool over = thread->done && !thread->next; /* the first one ends the process */
    if (over && process->alive && !process->doomed) {
        process_reap(process);
        process->ended(process, thread->result);
    } else if (process->doomed && process->alive) {
        process_reap(process);
        if (process->killed)
            process->killed(process);
    }
}

static void thread_event(void *context, uint64_t ticket)
{
    struct sim_thread *thread = context;
    struct sim_process *process = thread->process;
    if (thread->ticket != ticket || thread->done)
        return;
    if (thread->stalled_until_ns > world.now_ns) {
        world_at(thread->stalled_until_ns, EVENT_THREAD, thread_event, thread, ticket);
        return;
    }
    if (process->paused_until_ns > world.now_ns) {
        thread->put_off = true;
        world_at(process->paused_until_ns, EVENT_THREAD, thread_event, thread, ticket);
        return;
    }
    thread->ticket++;
    thread->waiting = thread->waking = thread->put_off = false;
    world.events[EVENT_THREAD]++;
    thread_run(thread);
}

static void thread_begin(void)
{
    struct sim_thread *thread = sim_current;
    thread->result = thread->entry(thread->context);
    thread->done = true;
    thread_leave();
    abort();
}

static struct sim_thread *thread_new(struct sim_process *process, void *(*entry)(void *),
                                     void *context)
{
    struct sim_thread *thread = sim_new(sizeof(*thread));
    thread->process = process;
    thread->entry = entry;
    thread->context = context;
    thread->stack = stack_count > 0 ? stacks[--stack_count]
                                    : __real_mmap64(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (thread->stack == MAP_FAILED)
        abort();
    uint64_t *top = (uint64_t *)(void *)(thread->stack + STACK_BYTES - 64);
    top[-1] = 0; /* where thread_begin would return to */
    top[-2] = (uint64_t)(uintptr_t)thread_begin;
    memset(&top[-8], 0, 6 * sizeof(top[0]));
    thread->stack_pointer = &top[-8];
    thread->waiting = true;
    thread->next = process->threads;
    process->threads = thread;
    thread_wake(thread);
    return thread;
}

/* ---- waiting ---- */

static void thread_block(void)
{
    struct sim_thread *thread = sim_current;
    thread->waiting = true;
    thread_leave();
}

void thread_wait(uint64_t until_ns)
{
    if (until_ns < FOR_EVER)
        world_at(until_ns, EVENT_THREAD, thread_event, sim_current, sim_current->ticket);
    thread_block();
}

void thread_sleep(uint64_t ns)
{
    thread_wait(world.now_ns + ns);
}

void thread_wake(struct sim_thread *thread)
{
    if (!thread->waiting || thread->waking || thread->done)
        return;
    thread->waking = true;
    world_at(world.now_ns, EVENT_THREAD, thread_event, thread, thread->ticket);
}

void thread_poll_wait(uint64_t until_ns)
{
    struct sim_thread *thread = sim_current;
    if (poller_count == sizeof(pollers) / sizeof(pollers[0]))
        abort();
    pollers[poller_count++] = thread;
    thread->polling = true;
    thread_wait(until_ns);
    for (unsigned i = 0; i < poller_count && thread->polling; i++) {
        if (pollers[i] == thread) {
            pollers[i] = pollers[--poller_count];
            thread->polling = false;
        }
    }
}

void thread_wake_pollers(void)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < poller_count; i++) {
        if (pollers[i]->done) /* killed meanwhile */
            continue;
        thread_wake(pollers[i]);
        pollers[kept++] = pollers[i];
    }
    poller_count = kept;
}

void thread_yield_point(void)
{
    struct sim_process *process = sim_current ? sim_current->process : NULL;
    if (!process || process->dies_in == 0 || --process->dies_in > 0)
        return;
    process->doomed = true;
    thread_leave();
}

/* ---- processes ---- */

bool process_lives(int pid)
{
    return last_pids[pid % 256] == pid;
}

void process_wake_workers(struct sim_process *process)
{
    for (struct sim_thread *thread = process->threads; thread; thread = thread->next) {
        if (thread->idle)
            thread_wake(thread);
    }
}

struct sim_process *process_start(struct sim_host *host, void *(*entry)(void *), void *context)
{
    struct sim_process *process = sim_new(sizeof(*process));
    process->host = host;
    process->pid = next_pid++;
    process->alive = true;
    last_pids[process->pid % 256] = process->pid;
    process->lives_since_ns = world.now_ns;
    thread_new(process, entry, context);
    return process;
}

void process_kill(struct sim_process *process)
{
    if (!process->alive)
        return;
    process->doomed = true;
    if (sim_current && sim_current->process == process)
        thread_leave();
    process_reap(process);
    if (process->killed)
        process->killed(process);
}

void process_signal(struct sim_process *process)
{
    process->signaled = true;
    for (struct sim_thread *thread = process->threads; thread; thread = thread->next)
        thread_wake(thread); /* waits are loops: the one in sigwait() looks */
}

void process_pause(struct sim_process *process, uint64_t until_ns)
{
    bool sooner = until_ns < process->paused_until_ns;
    process->paused_until_ns = process->stood_until_ns = until_ns;
    for (struct sim_thread *thread = process->threads; thread; thread = thread->next) {
        if (thread->stalled_until_ns > process->stood_until_ns)
            process->stood_until_ns = thread->stalled_until_ns;
        if (sooner && thread->put_off)
            world_at(until_ns, EVENT_THREAD, thread_event, thread, thread->ticket);
    }
}

bool process_stall(struct sim_process *process, uint64_t until_ns)
{
    struct sim_thread *chosen = NULL;
    uint64_t seen = 0;
    for (struct sim_thread *thread = process->threads; thread; thread = thread->next) {
        if (thread->works && world_draw(STREAM_FAULTS, ++seen) == 0)
            chosen = thread;
    }
    if (!chosen)
        return false;
    if (chosen->stalled_until_ns < until_ns)
        chosen->stalled_until_ns = until_ns;
    if (process->stood_until_ns < until_ns)
        process->stood_until_ns = until_ns;
    return true;
}

/* ---- libc's calls ---- */

int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                          void *(*entry)(void *), void *context);
int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                          void *(*entry)(void *), void *context)
{
    (void)attributes;
    *ret_thread = (pthread_t)(uintptr_t)thread_new(sim_current->process, entry, context);
    return 0;
}

int __wrap_pthread_join(pthread_t which, void **ret_result);
int __wrap_pthread_join(pthread_t which, void **ret_result)
{
    struct sim_thread *thread = (struct sim_thread *)(uintptr_t)which;
    while (!thread->done)
        thread_sleep(SIM_MS);
    if (ret_result)
        *ret_result = thread->result;
    return 0;
}

int __wrap_sigwait(const void *set, int *ret_signal);
int __wrap_sigwait(const void *set, int *ret_signal)
{
    (void)set;
    while (!sim_current->process->signaled)
        thread_wait(UINT64_MAX);
    *ret_signal = 15;
    return 0;
}

int __wrap_pthread_sigmask(int how, const void *set, void *before);
int __wrap_pthread_sigmask(int how, const void *set, void *before)
{
    (void)how, (void)set, (void)before;
    return 0;
}

void *__wrap_signal(int number, void *handler);
void *__wrap_signal(int number, void *handler)
{
    (void)number, (void)handler;
    return NULL;
}

int __wrap_sched_setaffinity(pid_t pid, size_t bytes, const void *set);
int __wrap_sched_setaffinity(pid_t pid, size_t bytes, const void *set)
{
    (void)pid, (void)bytes, (void)set;
    return 0;
}

pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void)
{
    return sim_current ? sim_current->process->pid : 1;
}

/* An assertion of the product: the run has failed, the thread stays where it is. */
void __wrap_leat_assert_fail(const char *expression, const char *file, int line);
void __wrap_leat_assert_fail(const char *expression, const char *file, int line)
{
    world_fail("ASSERT", "%s:%d: %s", file, line, expression);
    while (sim_current)
        thread_block();
    abort();
}
