/* SPDX-License-Identifier: Apache-2.0
 *
 * leat append: cuts its input into records and keeps as many in flight as are allowed. The first
 * record that does not end well stops the reading; what is in flight then still ends.
 */
#include <errno.h>
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
    "  --log LOG          the log, by name or number [1]\n"
    "  --ack LEVEL        durable (on disk on a majority) or replicated (in its memory) [durable]\n"
    "  --lines            one record a line, its newline included; the last may lack one "
    "[default]\n"
    "  --length-prefix    each record behind its length, 4 bytes little-endian\n"
    "  --raw              the input in pieces of --size bytes\n"
    "  --size SIZE        [64KiB]\n"
    "  --batch [N]        all or nothing: N records a batch; without N the lines between empty\n"
    "                     lines, which are not appended themselves\n"
    "  --if-offset N      only if the first record gets offset N, the next N+1, and so on: one\n"
    "                     append (with --batch, one batch) at a time, up to the first refused\n"
    "  --writer-epoch N   as a writer of epoch N (leat fence)\n"
    "  --timeout SECONDS  for each record or batch, from its start [10]\n"
    "  --in-flight N      appends on the way at one time [1024]\n"
    "  --quiet            no progress and no final line\n"
    "  --json             the final line as an object on stdout\n"
    "  --socket PATH      the node's control socket\n"
    "  --config FILE      take the socket from a node's configuration\n"
    "\n"
    "examples:\n"
    "  printf 'hello\\n' | leat append\n"
    "  leat append --log orders --ack replicated --in-flight 4096 events.ndjson\n"
    "  printf 'debit 5\\ncredit 5\\n' | leat append --batch\n"
    "  echo 'I am first' | leat append --if-offset 0\n";

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
    bool quiet, json;
    bool batches;         /* records go in batches: */
    uint64_t batch_count; /* of so many; 0: between empty lines */
    bool conditional;
    uint64_t first_condition;

    char *record;
    size_t record_room;
    uint64_t batch_open; /* records in the open batch */
    uint64_t started, done, bytes;
    uint64_t first_offset, last_offset;
    uint64_t begin_ns, shown_ns;
    uint64_t unknown, refused;
    int error; /* the first */
    uint64_t error_record, error_detail;
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

static void take_error(struct append_run *run, const struct leat_result *result)
{
    if (leat_outcome(result->error) == LEAT_END_UNKNOWN)
        run->unknown += result->record_count;
    else
        run->refused += result->record_count;
    if (run->error == LEAT_OK) {
        run->error = result->error;
        run->error_record = result->user;
        run->error_detail = result->detail;
    }
}

static void take_results(struct append_run *run, bool wait)
{
    struct leat_result results[RESULTS_MAX];
    int count = wait ? leat_wait(run->client, results, RESULTS_MAX, 100000000)
                     : leat_poll(run->client, results, RESULTS_MAX);
    for (int i = 0; i < count; i++) {
        const struct leat_result *result = &results[i];
        if (result->error != LEAT_OK) {
            take_error(run, result);
            continue;
        }
        if (result->offset != UINT64_MAX) {
            run->last_offset = result->offset;
            if (run->done == 0)
                run->first_offset = result->offset - result->record_count + 1;
        }
        run->done += result->record_count;
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

/* `rc` of a start: is it to be tried again? Waits a little then. */
static bool is_full(struct append_run *run, int rc)
{
    if (rc != LEAT_EAGAIN || cli_interrupted || run->error != LEAT_OK)
        return false;
    take_results(run, true);
    show_progress(run);
    return run->error == LEAT_OK; /* what was refused may be what the next one builds on */
}

static int start_record(struct append_run *run, size_t bytes)
{
    int rc;
    do {
        rc = run->conditional
                 ? leat_append_at(run->client, run->log, run->first_condition + run->started,
                                  run->record, bytes, run->ack, run->timeout_ns, run->started, NULL)
                 : leat_append_start(run->client, run->log, run->record, bytes, run->ack,
                                     run->timeout_ns, run->started, NULL);
    } while (is_full(run, rc));
    if (rc == LEAT_OK)
        run->started++;
    return rc;
}

static int commit_batch(struct append_run *run)
{
    int rc;
    if (run->batch_open == 0)
        return LEAT_OK;
    do {
        rc = run->conditional
                 ? leat_batch_commit_at(run->client, run->first_condition + run->started, run->ack,
                                        run->timeout_ns, run->started, NULL)
                 : leat_batch_commit(run->client, run->ack, run->timeout_ns, run->started, NULL);
    } while (is_full(run, rc));
    if (rc == LEAT_OK) {
        run->started += run->batch_open;
        run->batch_open = 0;
    }
    return rc;
}

static int batch_record(struct append_run *run, size_t bytes)
{
    int rc = LEAT_OK;
    if (run->batch_count == 0 && bytes == 1 && run->record[0] == '\n')
        return commit_batch(run);
    if (run->batch_open == 0) {
        do
            rc = leat_batch_begin(run->client, run->log, 0, 0);
        while (is_full(run, rc));
    }
    if (rc == LEAT_OK)
        rc = leat_batch_add(run->client, run->record, bytes);
    if (rc == LEAT_OK && ++run->batch_open == run->batch_count)
        rc = commit_batch(run);
    return rc;
}

static void start_failed(struct append_run *run, int rc)
{
    if (rc == LEAT_EAGAIN)
        return; /* interrupted, or one before it failed */
    run->refused += run->batch_open > 0 ? run->batch_open : 1;
    run->error = run->error ? run->error : rc;
    run->error_record = run->started;
}

static int read_and_start(struct append_run *run)
{
    size_t bytes = 0;
    int more = 0, rc = LEAT_OK;
    while (!cli_interrupted && run->error == LEAT_OK && rc == LEAT_OK &&
           (more = read_record(run, &bytes)) > 0) {
        rc = run->batches ? batch_record(run, bytes) : start_record(run, bytes);
        if (rc != LEAT_OK)
            break;
        run->bytes += bytes;
        if (run->started % 64 == 0) {
            take_results(run, false);
            show_progress(run);
        }
    }
    if (rc == LEAT_OK && more == 0 && run->error == LEAT_OK && !cli_interrupted)
        rc = commit_batch(run);
    if (rc != LEAT_OK)
        start_failed(run, rc);
    leat_batch_abort(run->client); /* what was not committed is not appended */
    return more;
}

static int append_all(struct append_run *run)
{
    int more = read_and_start(run);
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

static void report_json(const struct append_run *run, double seconds)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "appended", (double)run->done);
    if (run->done > 0) {
        cJSON_AddNumberToObject(object, "first_offset", (double)run->first_offset);
        cJSON_AddNumberToObject(object, "last_offset", (double)run->last_offset);
    }
    cJSON_AddNumberToObject(object, "seconds", seconds);
    cJSON_AddNumberToObject(object, "refused", (double)run->refused);
    cJSON_AddNumberToObject(object, "unknown", (double)run->unknown);
    cJSON_AddStringToObject(object, "error", leat_error_name(run->error));
    cli_put_json(object);
}

static void report_error(const struct append_run *run)
{
    char detail[64] = "";
    if (run->error == LEAT_ECONDITION)
        snprintf(detail, sizeof(detail), " (it is %" PRIu64 ")", run->error_detail);
    else if (run->error == LEAT_EFENCEDOUT)
        snprintf(detail, sizeof(detail), " (its epoch is %" PRIu64 ")", run->error_detail);
    cli_fail(CLI_FAILED,
             "record %" PRIu64 " of the input: %s%s; %" PRIu64 " certainly not appended, %" PRIu64
             " unknown",
             run->error_record, leat_error_text(run->error), detail, run->refused, run->unknown);
}

static int report(const struct append_run *run, int exit_code)
{
    double seconds = (double)(now_ns() - run->begin_ns) / 1e9;
    if (run->json)
        report_json(run, seconds);
    if (!run->quiet && !run->json) {
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
        report_error(run);
        exit_code = run->unknown > 0 ? CLI_UNKNOWN : CLI_FAILED;
    }
    if (exit_code == CLI_OK && cli_interrupted)
        exit_code = CLI_INTERRUPTED;
    return exit_code;
}

static int append_run(struct append_run *run, const struct cli_common *common, uint32_t epoch)
{
    struct leat_options attach = {.socket = common->socket,
                                  .in_flight_max = (uint32_t)run->in_flight,
                                  .attach_timeout_ns = 2000000000};
    int rc = leat_attach(&attach, &run->client);
    if (rc != LEAT_OK)
        return cli_fail_look(rc, "attach"); /* nothing was appended */
    run->begin_ns = now_ns();
    if (epoch != 0)
        rc = leat_writer_epoch(run->client, run->log, epoch);
    int exit_code = rc == LEAT_OK ? append_all(run) : cli_fail_look(rc, "append");
    leat_detach(run->client);
    return rc == LEAT_OK ? report(run, exit_code) : exit_code;
}

/* CLI_OK, or an exit code after its line. */
static int append_check(struct append_run *run, const struct cli_common *common, const char *batch,
                        uint64_t epoch)
{
    if (common->operand_count > 1)
        return cli_usage(common, "one FILE at most");
    if (run->piece_bytes == 0 || run->piece_bytes > RECORD_MAX)
        return cli_usage(common, "--size: from 1 to %u", RECORD_MAX);
    if (run->in_flight == 0 || run->in_flight > 65536)
        return cli_usage(common, "--in-flight: from 1 to 65536");
    if (epoch > UINT32_MAX)
        return cli_usage(common, "--writer-epoch: at most %" PRIu32, UINT32_MAX);
    if (run->conditional)
        run->in_flight = 1; /* behind a refused one the next one's condition may hold */
    run->batches = batch != NULL;
    if (batch && batch[0] &&
        (!cli_number(batch, LEAT_BATCH_RECORDS, &run->batch_count) || run->batch_count == 0))
        return cli_usage(common, "--batch: from 1 to %u records", LEAT_BATCH_RECORDS);
    if (batch && !batch[0] && run->cut != CUT_LINES)
        return cli_usage(common, "--batch takes a number unless records are lines");
    return CLI_OK;
}

static int append_open(struct append_run *run, const struct cli_common *common)
{
    if (common->operand_count == 0 || strcmp(common->operands[0], "-") == 0)
        return CLI_OK;
    run->input_name = common->operands[0];
    run->input = fopen(run->input_name, "re");
    return run->input ? CLI_OK : cli_fail(CLI_FAILED, "%s: %s", run->input_name, strerror(errno));
}

int cli_append(int count, char **arguments)
{
    struct cli_common common = {.name = "append", .help = help};
    struct append_run run = {
        .input = stdin,
        .input_name = "stdin",
        .log = LEAT_DEFAULT_LOG,
        .ack = LEAT_ACK_DURABLE,
        .piece_bytes = 65536,
        .timeout_ns = 10000000000,
        .in_flight = 1024,
    };
    const char *log = NULL, *batch = NULL;
    bool lines = false, prefix = false, raw = false;
    uint64_t epoch = 0;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &log, NULL},
        {"ack", CLI_LEVEL, &run.ack, NULL},
        {"lines", CLI_FLAG, &lines, NULL},
        {"length-prefix", CLI_FLAG, &prefix, NULL},
        {"raw", CLI_FLAG, &raw, NULL},
        {"size", CLI_SIZE, &run.piece_bytes, NULL},
        {"batch", CLI_MAYBE, &batch, NULL},
        {"if-offset", CLI_NUMBER, &run.first_condition, &run.conditional},
        {"writer-epoch", CLI_NUMBER, &epoch, NULL},
        {"timeout", CLI_SECONDS, &run.timeout_ns, NULL},
        {"in-flight", CLI_NUMBER, &run.in_flight, NULL},
        {"quiet", CLI_FLAG, &run.quiet, NULL},
    };
    int exit_code =
        cli_read(&common, options, sizeof(options) / sizeof(options[0]), count, arguments);
    if (common.done)
        return exit_code;
    if (lines + prefix + raw > 1)
        return cli_usage(&common, "one of --lines, --length-prefix and --raw");
    run.cut = prefix ? CUT_LENGTH_PREFIX : raw ? CUT_RAW : CUT_LINES;
    run.json = common.json;
    exit_code = append_check(&run, &common, batch, epoch);
    if (exit_code == CLI_OK && log)
        exit_code = cli_log(&common, log, &run.log);
    if (exit_code == CLI_OK)
        exit_code = append_open(&run, &common);
    if (exit_code == CLI_OK)
        exit_code = append_run(&run, &common, (uint32_t)epoch);
    if (run.input && run.input != stdin)
        fclose(run.input);
    free(run.record);
    return exit_code;
}
