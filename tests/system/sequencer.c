/* SPDX-License-Identifier: Apache-2.0
 *
 * What sequencers do: batches, conditional appends, fences. Writes down how each append ended, and
 * holds a node's log against what was written down.
 *
 *   sequencer batch --socket S --out FILE --run R [--replicated N]   batches of 1 to 24 records,
 * until SIGTERM; every Nth (3; 0: none) asks for the replicated level sequencer race  --socket S
 * --out FILE --run R [--inflight W]   each only at the next offset sequencer fence --socket S --out
 * FILE --run R --epoch E        fences, then appends sequencer watch --socket S        follows the
 * log and fails when the tail is inside a batch sequencer events --socket S       one line per
 * change of leader, role or epoch, until SIGTERM sequencer audit --socket S FILE...
 *
 * One JSON object on stdout. Exit code 1 when something acknowledged is not where it was said to
 * be, something refused is there, a record is there twice or out of order, or a batch in part.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "leat/leat.h"

#define MAGIC       0x31514553544145ULL
#define RUNS_MAX    64u
#define NUMBERS_MAX (1u << 20)
#define BATCH_MAX   24u
#define SECOND      1000000000ull

struct record {
    uint64_t magic;
    uint64_t number; /* of the append, 0, 1, ... per run */
    uint32_t run;
    uint32_t index; /* in its batch */
    uint32_t count;
    uint32_t filler_bytes; /* behind this, each (uint8_t)number */
};

/* One line of the file. */
struct row {
    uint64_t number;
    uint64_t offset;
    uint64_t detail;
    uint32_t run;
    int32_t error;
};

struct options {
    const char *socket, *out;
    uint32_t run, epoch;
    uint32_t replicated; /* every so-manieth batch asks for that level only; 0: none */
    unsigned in_flight;
};

static atomic_bool stopping;

static void on_stop(int signal_number)
{
    (void)signal_number;
    atomic_store(&stopping, true);
}

static struct leat_client *attach(const struct options *options)
{
    struct leat_options to = {.socket = options->socket, .attach_timeout_ns = 20 * SECOND};
    struct leat_client *client = NULL;
    int rc = leat_attach(&to, &client);
    if (rc == LEAT_OK)
        return client;
    fprintf(stderr, "sequencer: attach: %s\n", leat_error_text(rc));
    exit(1);
}

static size_t record_make(uint8_t *to, uint32_t run, uint64_t number, uint32_t index,
                          uint32_t count, uint32_t filler_bytes)
{
    struct record record = {.magic = MAGIC,
                            .number = number,
                            .run = run,
                            .index = index,
                            .count = count,
                            .filler_bytes = filler_bytes};
    memcpy(to, &record, sizeof(record));
    memset(to + sizeof(record), (int)(number & 0xff), filler_bytes);
    return sizeof(record) + filler_bytes;
}

/* ---- writing ---- */

struct tally {
    FILE *out;
    uint64_t ok, no, unknown, condition, fenced_out;
};

static void write_down(struct tally *tally, uint32_t run, const struct leat_result *result)
{
    struct row row = {.number = result->user,
                      .offset = result->offset,
                      .detail = result->detail,
                      .run = run,
                      .error = result->error};
    enum leat_end end = leat_outcome(result->error);
    tally->ok += end == LEAT_END_OK;
    tally->no += end == LEAT_END_NO;
    tally->unknown += end == LEAT_END_UNKNOWN;
    tally->condition += result->error == LEAT_ECONDITION;
    tally->fenced_out += result->error == LEAT_EFENCEDOUT;
    fwrite(&row, sizeof(row), 1, tally->out);
    fflush(tally->out);
}

static int batch_one(struct leat_client *client, const struct options *options, uint64_t number)
{
    static uint8_t bytes[8192];
    struct leat_rng rng = {.state = options->run * 7919 + number};
    uint32_t count = 1 + (uint32_t)leat_rng_below(&rng, BATCH_MAX);
    bool replicated = options->replicated != 0 && number % options->replicated == 0;
    int rc = leat_batch_begin(client, LEAT_DEFAULT_LOG, 0, 0);
    for (uint32_t i = 0; rc == LEAT_OK && i < count; i++) {
        uint32_t filler = (uint32_t)leat_rng_below(&rng, number % 4 == 0 ? 2000 : 60);
        rc = leat_batch_add(client, bytes,
                            record_make(bytes, options->run, number, i, count, filler));
    }
    if (rc == LEAT_OK)
        rc = leat_batch_commit(client, replicated ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE,
                               30 * SECOND, number, NULL);
    if (rc != LEAT_OK)
        leat_batch_abort(client);
    return rc;
}

static void write_batches(struct leat_client *client, const struct options *options,
                          struct tally *tally)
{
    struct leat_result results[64];
    uint64_t number = 0;
    while (!atomic_load(&stopping) || leat_in_flight(client) > 0) {
        if (!atomic_load(&stopping) && leat_in_flight(client) < options->in_flight &&
            number < NUMBERS_MAX)
            number += batch_one(client, options, number) == LEAT_OK;
        int count = leat_in_flight(client) < options->in_flight
                        ? leat_poll(client, results, 64)
                        : leat_wait(client, results, 64, SECOND / 1000);
        for (int i = 0; i < count; i++)
            write_down(tally, options->run, &results[i]);
    }
}

/* A round of `in_flight` appends at the offsets that come next, as this writer believes. */
static void write_race(struct leat_client *client, const struct options *options,
                       struct tally *tally)
{
    struct leat_result results[64];
    uint8_t bytes[256];
    uint64_t number = 0, next = 0;
    while (!atomic_load(&stopping) && number < NUMBERS_MAX) {
        uint64_t guess = next;
        for (unsigned i = 0; i < options->in_flight && number < NUMBERS_MAX; i++) {
            size_t length = record_make(bytes, options->run, number, 0, 1, 40);
            if (leat_append_at(client, LEAT_DEFAULT_LOG, guess, bytes, length, LEAT_ACK_DURABLE,
                               30 * SECOND, number, NULL) != LEAT_OK)
                break;
            number++;
            guess++;
        }
        if (leat_flush(client, 60 * SECOND) != LEAT_OK)
            break;
        int count = leat_poll(client, results, 64);
        for (int i = 0; i < count; i++) {
            write_down(tally, options->run, &results[i]);
            if (results[i].error == LEAT_OK && results[i].offset != UINT64_MAX)
                next = results[i].offset + 1;
            else if (results[i].error == LEAT_ECONDITION && results[i].detail > next)
                next = results[i].detail;
        }
    }
}

static int write_fenced(struct leat_client *client, const struct options *options,
                        struct tally *tally)
{
    struct leat_result result;
    uint8_t bytes[8192];
    int rc = leat_fence(client, LEAT_DEFAULT_LOG, options->epoch, 30 * SECOND, &result);
    printf("{\"fence\": \"%s\", \"detail\": %" PRIu64 "}\n", leat_error_name(rc), result.detail);
    fflush(stdout);
    for (uint64_t number = 0; !atomic_load(&stopping) && number < NUMBERS_MAX; number++) {
        size_t length = record_make(bytes, options->run, number, 0, 1, 4000);
        leat_append(client, LEAT_DEFAULT_LOG, bytes, length, LEAT_ACK_DURABLE, 30 * SECOND,
                    &result);
        result.user = number;
        write_down(tally, options->run, &result);
        if (result.error == LEAT_EFENCEDOUT)
            break; /* for good */
    }
    return rc;
}

/* ---- reading ---- */

struct seen {
    uint64_t offset; /* of its last record, + 1; 0: not seen */
};

static struct seen *seen[RUNS_MAX];

struct check {
    struct record open; /* the batch that the next record belongs to; count 0: none */
    uint64_t records, appends, errors;
    uint64_t last_number[RUNS_MAX]; /* + 1 */
};

static void wrong(struct check *check, const char *what, const struct record *record,
                  uint64_t offset)
{
    if (check->errors++ >= 8)
        return;
    fprintf(stderr, "%s: run %u append %" PRIu64 " record %u of %u at offset %" PRIu64 "\n", what,
            record->run, record->number, record->index, record->count, offset);
}

static void check_record(struct check *check, const struct leat_record *at)
{
    struct record record = {0};
    if (at->length >= sizeof(record))
        memcpy(&record, at->data, sizeof(record));
    check->records++;
    if (record.magic != MAGIC || at->length != sizeof(record) + record.filler_bytes ||
        record.run >= RUNS_MAX || record.number >= NUMBERS_MAX || record.index >= record.count) {
        wrong(check, "altered", &record, at->offset);
        return;
    }
    const struct record *open = &check->open;
    bool goes_on = open->count != 0 && record.run == open->run && record.number == open->number &&
                   record.index == open->index + 1 && record.count == open->count;
    if (open->count != 0 ? !goes_on : record.index != 0)
        wrong(check, "a batch in part before", &record, at->offset);
    if (record.index == 0 && record.number < check->last_number[record.run])
        wrong(check, "twice or out of order", &record, at->offset);
    check->last_number[record.run] = record.number + 1;
    check->open = record;
    if (record.index + 1 == record.count) {
        check->open.count = 0;
        check->appends++;
        if (!seen[record.run])
            seen[record.run] = calloc(NUMBERS_MAX, sizeof(struct seen));
        seen[record.run][record.number].offset = at->offset + 1;
    }
}

static void check_file(struct check *check, const char *path)
{
    struct row row;
    FILE *file = fopen(path, "rb");
    while (file && fread(&row, sizeof(row), 1, file) == 1) {
        uint64_t found = seen[row.run] ? seen[row.run][row.number].offset : 0;
        struct record record = {.run = row.run, .number = row.number};
        enum leat_end end = leat_outcome(row.error);
        if (end == LEAT_END_OK && found == 0)
            wrong(check, "acknowledged and lost", &record, row.offset);
        else if (end == LEAT_END_OK && row.offset != UINT64_MAX && found != row.offset + 1)
            wrong(check, "elsewhere than acknowledged", &record, row.offset);
        else if (end == LEAT_END_NO && found != 0)
            wrong(check, leat_error_name(row.error), &record, found - 1);
    }
    if (file)
        fclose(file);
}

static int audit(struct leat_client *client, char **files, int file_count)
{
    static struct check check;
    struct leat_reader *reader;
    struct leat_record record;
    int rc =
        leat_reader_open(client, LEAT_DEFAULT_LOG, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader);
    while (rc == LEAT_OK && (rc = leat_reader_next(reader, &record)) == LEAT_OK)
        check_record(&check, &record);
    if (rc != LEAT_EAGAIN) {
        fprintf(stderr, "sequencer: reading: %s\n", leat_error_text(rc));
        return 1;
    }
    if (check.open.count != 0)
        wrong(&check, "the log ends inside a batch", &check.open, 0);
    for (int i = 0; i < file_count; i++)
        check_file(&check, files[i]);
    leat_reader_close(reader);
    printf("{\"records\": %" PRIu64 ", \"appends\": %" PRIu64 ", \"errors\": %" PRIu64 "}\n",
           check.records, check.appends, check.errors);
    return check.errors != 0;
}

/* At the replicated level, live: whenever nothing more is to be had, no batch may be open. */
static int watch(struct leat_client *client)
{
    static struct check check;
    struct leat_reader *reader;
    struct leat_record record;
    uint64_t looks = 0, rollbacks = 0;
    int rc = leat_reader_open(client, LEAT_DEFAULT_LOG, LEAT_FROM_START, 0, LEAT_ACK_REPLICATED,
                              &reader);
    while (rc == LEAT_OK && !atomic_load(&stopping)) {
        rc = leat_reader_next(reader, &record);
        if (rc == LEAT_OK) {
            check_record(&check, &record);
            continue;
        }
        looks += rc == LEAT_EAGAIN;
        if (rc == LEAT_EAGAIN && check.open.count != 0)
            wrong(&check, "the tail is inside a batch", &check.open, leat_reader_offset(reader));
        if (rc == LEAT_EROLLBACK) { /* goes on at a boundary, with what may have been read before */
            rollbacks++;
            memset(&check.open, 0, sizeof(check.open));
            memset(check.last_number, 0, sizeof(check.last_number));
        }
        if (rc == LEAT_EAGAIN)
            usleep(100);
        if (rc == LEAT_EAGAIN || rc == LEAT_EROLLBACK)
            rc = LEAT_OK;
    }
    if (rc != LEAT_OK)
        fprintf(stderr, "sequencer: watching: %s\n", leat_error_text(rc));
    leat_reader_close(reader);
    printf("{\"records\": %" PRIu64 ", \"looks\": %" PRIu64 ", \"rollbacks\": %" PRIu64
           ", \"errors\": %" PRIu64 "}\n",
           check.records, looks, rollbacks, check.errors);
    return check.errors != 0 || rc != LEAT_OK;
}

static int events(struct leat_client *client)
{
    struct leat_event event;
    struct leat_log_info info;
    int rc = leat_watch(client, LEAT_DEFAULT_LOG);
    while (rc == LEAT_OK && !atomic_load(&stopping)) {
        if (leat_events(client, &event, 1) == 0) {
            usleep(100);
            continue;
        }
        rc = leat_log_info(client, LEAT_DEFAULT_LOG, &info);
        printf("{\"kinds\": %u, \"term\": %u, \"leader\": %u, \"role\": %u, \"entry\": %u}\n",
               event.kinds, event.term, event.leader_node, event.role, info.entry_bytes_max);
        fflush(stdout);
    }
    return rc != LEAT_OK;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"socket", required_argument, 0, 's'},
        {"out", required_argument, 0, 'o'},
        {"run", required_argument, 0, 'r'},
        {"epoch", required_argument, 0, 'e'},
        {"inflight", required_argument, 0, 'i'},
        {"replicated", required_argument, 0, 'l'},
        {0, 0, 0, 0},
    };
    struct options options = {.out = "/dev/null", .in_flight = 16, .replicated = 3};
    struct tally tally = {0};
    int option, failed = 0;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 's':
            options.socket = optarg;
            break;
        case 'o':
            options.out = optarg;
            break;
        case 'r':
            options.run = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'e':
            options.epoch = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'i':
            options.in_flight = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'l':
            options.replicated = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    if (optind >= argc || options.run >= RUNS_MAX || options.in_flight > 64)
        return 2;
    const char *mode = argv[optind];
    signal(SIGTERM, on_stop);
    struct leat_client *client = attach(&options);
    tally.out = fopen(options.out, "ab");
    if (strcmp(mode, "batch") == 0)
        write_batches(client, &options, &tally);
    else if (strcmp(mode, "race") == 0)
        write_race(client, &options, &tally);
    else if (strcmp(mode, "fence") == 0)
        write_fenced(client, &options, &tally);
    else if (strcmp(mode, "watch") == 0)
        failed = watch(client);
    else if (strcmp(mode, "events") == 0)
        failed = events(client);
    else if (strcmp(mode, "audit") == 0)
        failed = audit(client, argv + optind + 1, argc - optind - 1);
    else
        failed = 2;
    if (options.run != 0 && strcmp(mode, "audit") != 0 && strcmp(mode, "watch") != 0 &&
        strcmp(mode, "events") != 0)
        printf("{\"ok\": %" PRIu64 ", \"no\": %" PRIu64 ", \"unknown\": %" PRIu64
               ", \"condition\": %" PRIu64 ", \"fenced_out\": %" PRIu64 "}\n",
               tally.ok, tally.no, tally.unknown, tally.condition, tally.fenced_out);
    if (tally.out)
        fclose(tally.out);
    leat_detach(client);
    return failed;
}
