/* SPDX-License-Identifier: Apache-2.0
 *
 * leat append: cuts its input into records and keeps as many in flight as are allowed. The first
 * record that does not end well stops the reading; what is in flight then still ends.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "leat_cli.h"

#define RESULTS_MAX 256u
#define RECORD_MAX  (256u << 20) /* larger than any log's largest entry */

static const char help[] =
    "usage: leat append [OPTION...] [FILE|-]\n"
    "\n"
    "Appends the records of FILE or stdin to a log.\n"
    "\n"
    "  --log N            the log [1]\n"
    "  --ack LEVEL        durable (on disk on a majority) or replicated (in its memory) [durable]\n"
    "  --lines            one record a line, its newline included; the last may lack one "
    "[default]\n"
    "  --length-prefix    each record behind its length, 4 bytes little-endian\n"
    "  --raw              the input in pieces of --size bytes\n"
    "  --size N           [65536]\n"
    "  --timeout SECONDS  for each record, from its start [10]\n"
    "  --in-flight N      records on the way at one time [1024]\n"
    "  --quiet            no progress and no final line\n"
    "  --socket PATH      the node's control socket\n"
    "  --config FILE      take the socket from a node's configuration\n"
    "\n"
    "examples:\n"
    "  printf 'hello\\n' | leat append\n"
    "  leat append --ack replicated --in-flight 4096 events.ndjson\n"
    "  leat append --raw --size 1024 /dev/zero --timeout 1\n";

enum cut { CUT_LINES, CUT_LENGTH_PREFIX, CUT_RAW };

struct append_run {
    struct leat_client *client;
    FILE *input;
    const char *input_name;
    uint32_t log;
    enum leat_ack ack;
    enum cut cut;
    uint64_t piece_bytes;
    uint64_t timeout_ns;
    uint64_t in_flight;
    bool quiet;

    char *record;
    size_t record_room;
    uint64_t started, done, bytes;
    uint64_t first_offset, last_offset;
    uint64_t begin_ns, shown_ns;
    unsigned unknown, refused;
    int error; /* the first */
    uint64_t error_record;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool record_room(struct append_run *run, size_t bytes)
{
    if (bytes <= run->record_room)
        return true;
    char *record = realloc(run->record, bytes);
    if (record) {
        run->record = record;
        run->record_room = bytes;
    }
    return record != NULL;
}

/* 1: a record of *ret_bytes; 0: the end; -1: a broken input, told. */
static int read_record(struct append_run *run, size_t *ret_bytes)
{
    uint8_t prefix[4];
    size_t wanted = run->piece_bytes;
    if (run->cut == CUT_LINES) {
        ssize_t bytes = getline(&run->record, &run->record_room, run->input);
        *ret_bytes = bytes > 0 ? (size_t)bytes : 0;
        return bytes > 0;
    }
    if (run->cut == CUT_LENGTH_PREFIX) {
        size_t bytes = fread(prefix, 1, sizeof(prefix), run->input);
        if (bytes == 0)
            return 0;
        wanted = (size_t)prefix[0] | (size_t)prefix[1] << 8 | (size_t)prefix[2] << 16 |
                 (size_t)prefix[3] << 24;
        if (bytes < sizeof(prefix) || wanted > RECORD_MAX) {
            cli_fail(CLI_FAILED, "%s: record %" PRIu64 " has no sound length before it",
                     run->input_name, run->started);
            return -1;
        }
    }
    if (!record_room(run, wanted ? wanted : 1)) {
        cli_fail(CLI_FAILED, "no memory for a record of %zu bytes", wanted);
        return -1;
    }
    *ret_bytes = fread(run->record, 1, wanted, run->input);
    if (run->cut == CUT_RAW)
        return *ret_bytes > 0;
    if (*ret_bytes < wanted) {
        cli_fail(CLI_FAILED, "%s: ends inside record %" PRIu64, run->input_name, run->started);
        return -1;
    }
    return 1;
}

static void take_results(struct append_run *run, bool wait)
{
    struct leat_result results[RESULTS_MAX];
    int count = wait ? leat_wait(run->client, results, RESULTS_MAX, 100000000)
                     : leat_poll(run->client, results, RESULTS_MAX);
    for (int i = 0; i < count; i++) {
        if (results[i].error == LEAT_OK) {
            if (results[i].offset != UINT64_MAX) {
                run->first_offset = run->done == 0 ? results[i].offset : run->first_offset;
                run->last_offset = results[i].offset;
            }
            run->done++;
            continue;
        }
        if (leat_outcome(results[i].error) == LEAT_END_UNKNOWN)
            run->unknown++;
        else
            run->refused++;
        if (run->error == LEAT_OK) {
            run->error = results[i].error;
            run->error_record = results[i].user;
        }
    }
}

static void show_progress(struct append_run *run)
{
    uint64_t now = now_ns();
    if (run->quiet || !isatty(STDERR_FILENO) || now - run->shown_ns < 200000000)
        return;
    run->shown_ns = now;
    double seconds = (double)(now - run->begin_ns) / 1e9;
    fprintf(stderr, "\r%" PRIu64 " records, %.0f/s \033[K", run->done, (double)run->done / seconds);
}

static int start_record(struct append_run *run, size_t bytes)
{
    for (;;) {
        int rc = leat_append_start(run->client, run->log, run->record, bytes, run->ack,
                                   run->timeout_ns, run->started, NULL);
        if (rc != LEAT_EAGAIN || cli_interrupted || run->error != LEAT_OK)
            return rc;
        take_results(run, true);
        show_progress(run);
    }
}

static int append_all(struct append_run *run)
{
    size_t bytes = 0;
    int more = 0;
    while (!cli_interrupted && run->error == LEAT_OK && (more = read_record(run, &bytes)) > 0) {
        int rc = start_record(run, bytes);
        if (rc == LEAT_EAGAIN)
            break; /* interrupted, or one before it failed */
        if (rc != LEAT_OK) {
            run->refused++;
            run->error = run->error ? run->error : rc;
            run->error_record = run->started;
            break;
        }
        run->started++;
        run->bytes += bytes;
        if (run->started % 64 == 0) {
            take_results(run, false);
            show_progress(run);
        }
    }
    while (leat_in_flight(run->client) > 0 || run->done + run->unknown < run->started) {
        uint64_t before = run->done + run->unknown + run->refused;
        take_results(run, true);
        show_progress(run);
        if (leat_in_flight(run->client) == 0 && before == run->done + run->unknown + run->refused)
            break;
    }
    if (ferror(run->input) && !cli_interrupted)
        return cli_fail(CLI_FAILED, "%s: %s", run->input_name, strerror(errno));
    return more < 0 ? CLI_FAILED : CLI_OK;
}

static int report(const struct append_run *run, int exit_code)
{
    double seconds = (double)(now_ns() - run->begin_ns) / 1e9;
    if (!run->quiet) {
        if (isatty(STDERR_FILENO))
            fputs("\r\033[K", stderr);
        fprintf(stderr, "appended %" PRIu64 " records in %.3f s, %.0f/s", run->done, seconds,
                seconds > 0 ? (double)run->done / seconds : 0.0);
        if (run->done > 0)
            fprintf(stderr, ", offsets %" PRIu64 " to %" PRIu64, run->first_offset,
                    run->last_offset);
        fputc('\n', stderr);
    }
    if (run->error != LEAT_OK) {
        cli_fail(CLI_FAILED,
                 "record %" PRIu64 " of the input: %s; %u certainly not appended, %u unknown",
                 run->error_record, leat_error_text(run->error), run->refused, run->unknown);
        exit_code = run->unknown > 0 ? CLI_UNKNOWN : CLI_FAILED;
    }
    if (exit_code == CLI_OK && cli_interrupted)
        exit_code = CLI_INTERRUPTED;
    return exit_code;
}

struct append_options {
    const char *socket, *config;
    bool help;
};

static const struct option long_options[] = {
    {"log", required_argument, NULL, 'l'},
    {"ack", required_argument, NULL, 'a'},
    {"lines", no_argument, NULL, 'L'},
    {"length-prefix", no_argument, NULL, 'P'},
    {"raw", no_argument, NULL, 'R'},
    {"size", required_argument, NULL, 's'},
    {"timeout", required_argument, NULL, 't'},
    {"in-flight", required_argument, NULL, 'i'},
    {"quiet", no_argument, NULL, 'q'},
    {"socket", required_argument, NULL, 'S'},
    {"config", required_argument, NULL, 'C'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static bool read_option(struct append_run *run, struct append_options *options, int option)
{
    uint64_t number = 0;
    switch (option) {
    case 'l':
        if (!cli_number(optarg, UINT32_MAX, &number))
            return false;
        run->log = (uint32_t)number;
        return true;
    case 'a':
        return cli_ack(optarg, &run->ack);
    case 'L':
        run->cut = CUT_LINES;
        return true;
    case 'P':
        run->cut = CUT_LENGTH_PREFIX;
        return true;
    case 'R':
        run->cut = CUT_RAW;
        return true;
    case 's':
        return cli_number(optarg, RECORD_MAX, &run->piece_bytes) && run->piece_bytes > 0;
    case 't':
        return cli_seconds(optarg, &run->timeout_ns);
    case 'i':
        return cli_number(optarg, 65536, &run->in_flight) && run->in_flight > 0;
    case 'q':
        run->quiet = true;
        return true;
    case 'S':
        options->socket = optarg;
        return true;
    case 'C':
        options->config = optarg;
        return true;
    case 'h':
        options->help = true;
        return true;
    default:
        return false;
    }
}

static int append_run(struct append_run *run, const struct append_options *options)
{
    char buffer[256];
    struct leat_options attach = {.in_flight_max = (uint32_t)run->in_flight,
                                  .attach_timeout_ns = 2000000000};
    int exit_code = cli_socket(options->socket, options->config, buffer, &attach.socket);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_attach(&attach, &run->client);
    if (rc != LEAT_OK) {
        exit_code = cli_fail_error(rc, "attach");
        return exit_code == CLI_UNKNOWN ? CLI_UNREACHABLE : exit_code; /* nothing was appended */
    }
    run->begin_ns = now_ns();
    exit_code = append_all(run);
    leat_detach(run->client);
    return report(run, exit_code);
}

int cli_append(int count, char **arguments)
{
    struct append_run run = {
        .input = stdin,
        .input_name = "stdin",
        .log = LEAT_DEFAULT_LOG,
        .ack = LEAT_ACK_DURABLE,
        .piece_bytes = 65536,
        .timeout_ns = 10000000000,
        .in_flight = 1024,
    };
    struct append_options options = {NULL, NULL, false};
    int option;
    while ((option = getopt_long(count, arguments, "h", long_options, NULL)) >= 0) {
        if (!read_option(&run, &options, option))
            return cli_fail(CLI_USAGE, "append: a wrong option or value: see leat append --help");
    }
    if (options.help)
        return cli_help(help, true);
    if (count - optind > 1)
        return cli_fail(CLI_USAGE, "append: one FILE at most: see leat append --help");
    if (optind < count && strcmp(arguments[optind], "-") != 0) {
        run.input_name = arguments[optind];
        run.input = fopen(run.input_name, "re");
        if (!run.input)
            return cli_fail(CLI_FAILED, "%s: %s", run.input_name, strerror(errno));
    }
    int exit_code = append_run(&run, &options);
    if (run.input != stdin)
        fclose(run.input);
    free(run.record);
    return exit_code;
}
