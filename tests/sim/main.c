/* SPDX-License-Identifier: Apache-2.0
 *
 * leat-sim: runs seeds, each in a process of its own, several at a time.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "commit.h"
#include "options.h"
#include "run.h"
#include "shrink.h"

#define JOBS_MAX 64u

struct totals {
    uint64_t seeds, failed, known, halted, appends, acked, events, virtual_ns;
    uint64_t starts, fences, packets, lost, replicated_lost;
    struct sim_fault_counts faults;
    struct sim_reached reached;
    double began_s, said_s;
};

double sim_wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t events_of(const struct sim_result *result)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < EVENT_KINDS; i++)
        sum += result->events[i];
    return sum;
}

/* ---- what is said ---- */

static void say_failure(const struct sim_options *options, uint64_t seed,
                        const struct sim_result *result)
{
    printf("FAILED seed %" PRIu64 " commit %s\n", seed, LEAT_SIM_COMMIT);
    printf("  %s: %s\n  draw: ", result->failure, result->sentence);
    world_begin(seed);
    draw_make(&options->overrides);
    draw_print(stdout);
    printf("  again: leat-sim --seed %" PRIu64 " --trace", seed);
    options_print(options, stdout);
    putchar('\n');
    fflush(stdout);
}

static void say_json(uint64_t seed, const struct sim_result *result)
{
    printf("{\"seed\":%" PRIu64 ",\"failed\":%s,\"invariant\":\"%s\",\"hash\":\"%016" PRIx64
           "\",\"events\":%" PRIu64 ",\"appends\":%" PRIu64 ",\"acked\":%" PRIu64
           ",\"virtual_s\":%.3f,\"starts\":%" PRIu64 ",\"fences\":%" PRIu64 ",\"packets\":%" PRIu64,
           seed, result->failed ? "true" : "false", result->failure, result->hash,
           events_of(result), result->appends, result->acked, (double)result->virtual_ns / 1e9,
           result->starts, result->fences, result->packets);
#define SIM_FAULT_JSON(name, row) printf(",\"" #name "\":%u", result->faults.name);
    SIM_FAULTS(SIM_FAULT_JSON)
#undef SIM_FAULT_JSON
    printf("}\n");
    fflush(stdout);
}

static void say_one(uint64_t seed, const struct sim_result *result)
{
    printf("seed %" PRIu64 ": %s, hash %016" PRIx64 ", %" PRIu64 " events, %.1f virtual s, "
           "%" PRIu64 " appends: %" PRIu64 " acknowledged, %" PRIu64 " refused, %" PRIu64
           " unknown; %" PRIu64 " starts\n",
           seed, result->failed ? "FAILED" : "ok", result->hash, events_of(result),
           (double)result->virtual_ns / 1e9, result->appends, result->acked, result->refused,
           result->unknown, result->starts);
}

static bool is_known(const struct sim_options *options, const struct sim_result *result)
{
    for (unsigned i = 0; i < options->excepted_count; i++) {
        if (result->failed && !strcmp(options->excepted[i], result->failure))
            return true;
    }
    return false;
}

static void totals_add(struct totals *totals, const struct sim_options *options,
                       const struct sim_result *result)
{
    bool known = is_known(options, result);
    totals->seeds++;
    totals->failed += result->failed && !known;
    totals->known += known;
    totals->halted += result->halted;
    totals->appends += result->appends;
    totals->acked += result->acked;
    totals->events += events_of(result);
    totals->virtual_ns += result->virtual_ns;
    totals->starts += result->starts;
    totals->fences += result->fences;
    totals->packets += result->packets;
    totals->lost += result->lost;
    totals->replicated_lost += result->replicated_lost;
#define SIM_FAULT_ADD(name, row) totals->faults.name += result->faults.name;
    SIM_FAULTS(SIM_FAULT_ADD)
#undef SIM_FAULT_ADD
#define SIM_REACHED_ADD(name) totals->reached.name += result->reached.name;
    SIM_REACHED(SIM_REACHED_ADD)
#undef SIM_REACHED_ADD
}

static void say_totals(const struct totals *totals, FILE *to)
{
    double seconds = sim_wall_s() - totals->began_s;
    fprintf(to,
            "%" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64 " appends (%" PRIu64
            " acknowledged), %" PRIu64 " events, %.0f virtual s in %.1f s: %.0f seeds a minute, "
            "%.0f events a second\n",
            totals->seeds, totals->failed, totals->appends, totals->acked, totals->events,
            (double)totals->virtual_ns / 1e9, seconds, (double)totals->seeds * 60 / seconds,
            (double)totals->events / seconds);
}

/* By rows of the catalogue. */
static const char *say_fault(const char *row_before, const char *row, const char *name,
                             uint32_t count)
{
    if (strcmp(row_before, row) != 0)
        printf("%s %s", *row_before ? "," : "", row);
    printf(" %s %u", name, count);
    return row;
}

static void say_rows(const struct totals *totals)
{
    const char *row_before = "";
    printf("faults, by row of the catalogue:");
#define SIM_FAULT_SAY(name, row)                                                                   \
    row_before = say_fault(row_before, #row, #name, totals->faults.name);
    SIM_FAULTS(SIM_FAULT_SAY)
#undef SIM_FAULT_SAY
    printf("\nnot simulated: " SIM_ROWS_OUT);
}

static void say_faults(const struct totals *totals)
{
    printf("%" PRIu64 " starts, %" PRIu64 " fences, %" PRIu64 " datagrams, %" PRIu64
           " lost; %" PRIu64 " replicated appends lost with a majority's memory\n",
           totals->starts, totals->fences, totals->packets, totals->lost, totals->replicated_lost);
    if (totals->known > 0)
        printf("%" PRIu64 " of the seeds ended with a failure that is known (--except)\n",
               totals->known);
    if (totals->halted > 0)
        printf("%" PRIu64 " of the seeds ended with a log that stands still, beyond the atlas\n",
               totals->halted);
    say_rows(totals);
    printf("\nreached:");
#define SIM_REACHED_SAY(name) printf(" %s %" PRIu64, #name, totals->reached.name);
    SIM_REACHED(SIM_REACHED_SAY)
#undef SIM_REACHED_SAY
    printf("\n");
}

/* ---- processes ---- */

struct job {
    pid_t pid;
    uint64_t seed;
    struct sim_result *result; /* shared with the child */
};

static void job_start(struct job *job, const struct sim_options *options, uint64_t seed)
{
    job->seed = seed;
    memset(job->result, 0, sizeof(*job->result));
    job->result->died = true;
    fflush(NULL);
    job->pid = fork();
    if (job->pid < 0) {
        perror("leat-sim: fork");
        exit(1);
    }
    if (job->pid > 0)
        return;
    world.trace = options->trace;
    struct sim_result result;
    struct rlimit limit = {.rlim_cur = options->seconds_max, .rlim_max = options->seconds_max + 5};
    setrlimit(RLIMIT_CPU, &limit);
    run_seed(seed, &options->overrides, &result);
    *job->result = result;
    _exit(0);
}

static void job_end(struct job *job, int status)
{
    struct sim_result *result = job->result;
    job->pid = 0;
    if (!result->died)
        return;
    result->failed = true;
    bool stuck = WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU;
    snprintf(result->failure, sizeof(result->failure), "%s", stuck ? "STUCK" : "DIED");
    snprintf(result->sentence, sizeof(result->sentence), "the simulator's process ended by %s %d",
             WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static struct job *job_wait(struct job *jobs, unsigned count)
{
    int status;
    pid_t pid = wait(&status);
    for (unsigned i = 0; i < count; i++) {
        if (jobs[i].pid != pid)
            continue;
        job_end(&jobs[i], status);
        return &jobs[i];
    }
    perror("leat-sim: wait");
    exit(1);
}

void sim_run_in_child(uint64_t seed, const struct sim_options *options, struct sim_result *ret)
{
    static struct job job;
    int status;
    if (!job.result)
        job.result = mmap(NULL, sizeof(*job.result), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    job_start(&job, options, seed);
    if (waitpid(job.pid, &status, 0) != job.pid) {
        perror("leat-sim: waitpid");
        exit(1);
    }
    job_end(&job, status);
    *ret = *job.result;
}

/* ---- modes ---- */

static void seed_done(const struct sim_options *options, struct totals *totals, uint64_t seed,
                      const struct sim_result *result)
{
    totals_add(totals, options, result);
    if (options->json)
        say_json(seed, result);
    else if (options->seed_count == 1)
        say_one(seed, result);
    if (result->failed && !options->json)
        say_failure(options, seed, result);
    double pause_s = isatty(STDERR_FILENO) ? 2 : 60;
    if (options->seed_count > 1 && sim_wall_s() - totals->said_s > pause_s) {
        totals->said_s = sim_wall_s();
        say_totals(totals, stderr);
    }
}

/* The same seed twice: the same hash, or the simulator decides nothing by its seed. */
static bool seed_twice(const struct sim_options *options, uint64_t seed,
                       const struct sim_result *first)
{
    struct sim_result second;
    sim_run_in_child(seed, options, &second);
    if (second.hash == first->hash && second.failed == first->failed)
        return true;
    printf("FAILED seed %" PRIu64 ": two runs differ: hash %016" PRIx64 " and %016" PRIx64 "\n",
           seed, first->hash, second.hash);
    return false;
}

static int run_seeds(const struct sim_options *options)
{
    struct totals totals = {.began_s = sim_wall_s(), .said_s = sim_wall_s()};
    struct job jobs[JOBS_MAX] = {0};
    unsigned job_count = options->jobs < JOBS_MAX ? options->jobs : JOBS_MAX, running = 0;
    uint64_t next = 0, failures = 0;
    struct sim_result *results = mmap(NULL, job_count * sizeof(*results), PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < job_count; i++)
        jobs[i].result = &results[i];
    while (next < options->seed_count || running > 0) {
        for (unsigned i = 0; i < job_count && next < options->seed_count; i++) {
            if (jobs[i].pid != 0)
                continue;
            job_start(&jobs[i], options, options->first_seed + next++);
            running++;
        }
        struct job *job = job_wait(jobs, job_count);
        running--;
        seed_done(options, &totals, job->seed, job->result);
        failures += job->result->failed && !is_known(options, job->result);
        if (options->twice && running == 0 && !seed_twice(options, job->seed, job->result))
            failures++;
        if (failures >= options->failures_max)
            next = options->seed_count;
        if (job->result->failed && !options->no_shrink && !options->trace &&
            !is_known(options, job->result))
            shrink(options, job->seed, job->result);
    }
    if (!options->json && options->seed_count > 1) {
        say_totals(&totals, stdout);
        say_faults(&totals);
    }
    return failures > 0;
}

int main(int argc, char **argv)
{
    struct sim_options options;
    int rc = options_read(argc, argv, &options);
    if (rc != 0)
        return rc > 0 ? rc : 0;
    memory_begin();
    if (!options.seed_is_given && getrandom(&options.first_seed, 4, 0) != 4)
        return 1;
    if (!options.json)
        printf("first seed %" PRIu64 "\n", options.first_seed);
    return run_seeds(&options);
}
