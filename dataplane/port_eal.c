/* SPDX-License-Identifier: Apache-2.0
 *
 * Starts and ends DPDK's environment (EAL) in this process, as any user, with or without huge
 * pages. Called once per process, before the workers' threads exist.
 *
 * No file is left behind, however the process ends, because none is made: the EAL takes a missing
 * runtime directory for a warning under --no-shconf, so it is given one that cannot be made, by
 * the environment variable that it prefers to all others and that is put back right afterwards.
 *
 * The main lcore floats over the CPUs that the process may use: whoever calls pins his own
 * threads. DPDK's errors are captured while a call of ours runs, else go to stderr.
 *
 * Tests: tests/dataplane/test_memif.c.
 */
#include "port_dpdk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_mempool.h>

#include "base/assert.h"
#include "leat/error.h"

#define EAL_MEMORY_MIB_DEFAULT 64u
#define EAL_ARGUMENTS_MAX      16
#define EAL_LCORES_BYTES       (8u + 5u * CPU_SETSIZE)
#define EAL_RUNTIME_VARIABLE   "RUNTIME_DIRECTORY"
#define EAL_RUNTIME_NOWHERE    "/dev/null"    /* not a directory: nothing can be made in it */
#define EAL_PCI_NOTHING        "ffff:ff:1f.7" /* an address that no device has */
#define EAL_HUGE_PAGES_PATH    "/sys/kernel/mm/hugepages"

static bool eal_running;
static bool eal_huge_pages;
static FILE *eal_log;
static _Thread_local struct port_log_capture *eal_capture;

/* --- DPDK's log: a stream of ours, written on the thread that logs */

static ssize_t eal_log_write(void *cookie, const char *text, size_t bytes)
{
    (void)cookie;
    struct port_log_capture *capture = eal_capture;
    if (capture == NULL) {
        ssize_t written = write(STDERR_FILENO, text, bytes);
        (void)written; /* nobody to tell */
    } else if (capture->first[0] == '\0') {
        size_t take = bytes < sizeof(capture->first) ? bytes : sizeof(capture->first) - 1;
        memcpy(capture->first, text, take);
        capture->first[take] = '\0';
        capture->first[strcspn(capture->first, "\n")] = '\0';
    }
    return (ssize_t)bytes;
}

void port_log_capture_begin(struct port_log_capture *capture)
{
    LEAT_ASSERT(eal_capture == NULL);
    capture->first[0] = '\0';
    eal_capture = capture;
}

void port_log_capture_end(void)
{
    LEAT_ASSERT(eal_capture != NULL);
    eal_capture = NULL;
}

int port_error(char *error, unsigned error_bytes, const char *what,
               const struct port_log_capture *capture, const char *why, int result)
{
    const char *text = capture != NULL && capture->first[0] != '\0' ? capture->first : why;
    snprintf(error, error_bytes, "%s: %s", what, text);
    return result;
}

bool port_eal_is_running(void)
{
    return eal_running;
}

bool port_eal_has_huge_pages(void)
{
    return eal_huge_pages;
}

/* --- start */

/* Free huge pages of any size, in MiB. */
static uint64_t eal_huge_mib(void)
{
    DIR *directory = opendir(EAL_HUGE_PAGES_PATH);
    uint64_t mib = 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        unsigned long kib, pages = 0;
        char path[sizeof(EAL_HUGE_PAGES_PATH) + sizeof(entry->d_name) + 20];
        if (sscanf(entry->d_name, "hugepages-%lukB", &kib) != 1)
            continue;
        snprintf(path, sizeof(path), EAL_HUGE_PAGES_PATH "/%s/free_hugepages", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue;
        if (fscanf(file, "%lu", &pages) == 1)
            mib += (uint64_t)pages * kib / 1024u;
        fclose(file);
    }
    if (directory != NULL)
        closedir(directory);
    return mib;
}

/* One lcore over all CPUs of `cpus`: "0@(0,1)". */
static void eal_write_lcores(const cpu_set_t *cpus, char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "0@(");
    const char *separator = "";
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, cpus))
            continue;
        used += (size_t)snprintf(text + used, bytes - used, "%s%d", separator, cpu);
        separator = ",";
    }
    used += (size_t)snprintf(text + used, bytes - used, ")");
    LEAT_ASSERT(used < bytes);
}

struct eal_arguments {
    int count;
    char *values[EAL_ARGUMENTS_MAX + 1];
    char lcores[EAL_LCORES_BYTES];
    char memory[16];
    char prefix[64];
};

static void eal_add(struct eal_arguments *arguments, const char *value)
{
    LEAT_ASSERT(arguments->count < EAL_ARGUMENTS_MAX);
    arguments->values[arguments->count++] = (char *)(uintptr_t)value; /* the EAL permutes them */
    arguments->values[arguments->count] = NULL;
}

static void eal_make_arguments(struct eal_arguments *arguments, const cpu_set_t *cpus,
                               const struct leat_dataplane_config *config)
{
    unsigned memory_mib = config->memory_mib ? config->memory_mib : EAL_MEMORY_MIB_DEFAULT;
    *arguments = (struct eal_arguments){.count = 0};
    eal_huge_pages = config->huge_pages && eal_huge_mib() >= memory_mib;
    eal_write_lcores(cpus, arguments->lcores, sizeof(arguments->lcores));
    snprintf(arguments->memory, sizeof(arguments->memory), "%u", memory_mib);
    if (config->file_prefix != NULL)
        snprintf(arguments->prefix, sizeof(arguments->prefix), "%s", config->file_prefix);
    else
        snprintf(arguments->prefix, sizeof(arguments->prefix), "leat-%ld", (long)getpid());
    eal_add(arguments, "leat");
    eal_add(arguments, "--no-shconf");
    eal_add(arguments, "--no-telemetry");
    eal_add(arguments, "--log-level=error");
    eal_add(arguments, "--iova-mode=va");
    /* --in-memory: huge pages are unlinked at once; it cannot be combined with --no-huge */
    eal_add(arguments, eal_huge_pages ? "--in-memory" : "--no-huge");
    eal_add(arguments, "-m");
    eal_add(arguments, arguments->memory);
    eal_add(arguments, "--lcores");
    eal_add(arguments, arguments->lcores);
    eal_add(arguments, "--file-prefix");
    eal_add(arguments, arguments->prefix);
    if (!config->pci)
        eal_add(arguments, "--no-pci");
    else /* only what a port names, when it is opened: other devices are other processes' */
        eal_add(arguments, "-a"), eal_add(arguments, EAL_PCI_NOTHING);
}

/* rte_eal_init in an environment without a runtime directory. Returns 0 or its rte_errno. */
static int eal_init(struct eal_arguments *arguments)
{
    const char *old = getenv(EAL_RUNTIME_VARIABLE);
    char *kept = old != NULL ? strdup(old) : NULL;
    if ((old != NULL && kept == NULL) || setenv(EAL_RUNTIME_VARIABLE, EAL_RUNTIME_NOWHERE, 1) != 0)
        return ENOMEM;
    int rc = rte_eal_init(arguments->count, arguments->values) < 0 ? rte_errno : 0;
    if (kept != NULL)
        setenv(EAL_RUNTIME_VARIABLE, kept, 1);
    else
        unsetenv(EAL_RUNTIME_VARIABLE);
    free(kept);
    return rc;
}

static int eal_open_log(void)
{
    static const cookie_io_functions_t functions = {.write = eal_log_write};
    eal_log = fopencookie(NULL, "w", functions);
    if (eal_log == NULL)
        return LEAT_ENOMEM;
    return rte_openlog_stream(eal_log) == 0 ? 0 : LEAT_ESYSTEM;
}

int leat_dataplane_start(const struct leat_dataplane_config *config, char *error,
                         unsigned error_bytes)
{
    static bool tried;                     /* the EAL can be started once in a process's life */
    static struct eal_arguments arguments; /* the EAL keeps pointers into it */
    struct port_log_capture capture;
    cpu_set_t cpus;
    if (tried)
        return port_error(error, error_bytes, "starting DPDK", NULL,
                          "it was started before in this process", LEAT_EINVAL);
    tried = true;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || eal_open_log() != 0)
        return port_error(error, error_bytes, "starting DPDK", NULL, strerror(errno), LEAT_ESYSTEM);
    eal_make_arguments(&arguments, &cpus, config);
    port_log_capture_begin(&capture);
    int rc = eal_init(&arguments);
    port_log_capture_end();
    if (rc != 0)
        return port_error(error, error_bytes, "starting DPDK", &capture, rte_strerror(rc),
                          rc == ENOMEM ? LEAT_ENOMEM : LEAT_ESYSTEM);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0 || port_memif_start() != 0) {
        rte_eal_cleanup();
        return port_error(error, error_bytes, "starting DPDK", NULL,
                          "its control thread does not answer", LEAT_ESYSTEM);
    }
    eal_running = true;
    return 0;
}

void leat_dataplane_stop(void)
{
    if (!eal_running)
        return;
    eal_running = false;
    struct port_log_capture capture; /* its complaints at the end are of no use to anybody */
    port_memif_stop();
    port_log_capture_begin(&capture);
    rte_eal_cleanup();
    port_log_capture_end();
    rte_openlog_stream(NULL);
    fclose(eal_log);
    eal_log = NULL;
}
