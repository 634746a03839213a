/* SPDX-License-Identifier: Apache-2.0
 *
 * The ledger: appends records that name themselves, writes down how each append ended, and later
 * holds a node's log against what was written down.
 *
 *   ledger append --socket S --out FILE --run R [--threads T] [--inflight W] [--ack LEVEL]
 *                 [--size MAX] [--timeout-ms M] [--seconds S] [--rate R] [--log L]
 *                                                                          until SIGTERM or S
 *   ledger audit --socket S [--log L] [--lost-replicated-allowed] [--trimmed-allowed]
 *                [--foreign-allowed] FILE...
 *
 * Each thread is a client with a session of its own. LEVEL is durable, replicated or mixed. Audit
 * reads the whole log at the durable level; what lies below the base of a trimmed log is counted
 * and not judged; nor are others' records, where foreign ones are allowed. One JSON object on
 * stdout; exit code 1 when an acknowledged append is lost, twice, out of order, elsewhere than
 * acknowledged, or altered, or one that ended as "no" is there.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/histogram.h"
#include "base/rng.h"
#include "leat/leat.h"

#define LEDGER_MAGIC 0x5245474445304c4cULL
#define THREADS_MAX  32u
#define RECORD_MAX   (256u << 10)
#define RESULTS      256
#define OPEN_NS      30000000000u

struct record_head {
    uint64_t magic;
    uint64_t run;
    uint32_t thread;
    uint32_t length; /* of the whole record */
    uint64_t number; /* 0, 1, 2, ... per run and thread */
    uint32_t crc;    /* of the record with this word zero */
    uint32_t reserved;
};

/* One line of the ledger file. */
struct ledger_row {
    uint64_t run;
    uint32_t thread;
    int32_t error; /* enum leat_error */
    uint64_t number;
    uint64_t position;
    uint64_t offset;
    uint32_t level;
    uint32_t reserved;
    uint64_t ended_ns; /* CLOCK_MONOTONIC, one for all clients of a machine */
};

struct options {
    const char *socket, *out, *ack;
    uint64_t run, timeout_ms, rate;
    uint32_t log;
    unsigned threads, in_flight;
    uint32_t size_max;
    double seconds;
    bool lost_replicated_allowed, trimmed_allowed, foreign_allowed;
};

struct appender {
    const struct options *options;
    pthread_t thread;
    unsigned index;
    FILE *out;
    uint64_t ok, no, unknown, sessions_lost;
    uint64_t longest_gap_ns, last_ok_ns;
    struct leat_histogram latency; /* of appends that ended well */
    int failed;
    int unknown_error; /* how the last that ended as unknown did; LEAT_OK: none */
};

static atomic_bool stopping;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_stop(int signal_number)
{
    (void)signal_number;
    atomic_store(&stopping, true);
}

/* ---- records ---- */

static uint32_t record_make(uint8_t *to, const struct options *options, uint32_t thread,
                            uint64_t number)
{
    struct leat_rng rng = {.state = options->run * 1000003 + thread * 7919 + number};
    uint32_t room = options->size_max - (uint32_t)sizeof(struct record_head);
    uint32_t length = (uint32_t)(sizeof(struct record_head) + leat_rng_next(&rng) % (room + 1));
    struct record_head head = {.magic = LEDGER_MAGIC,
                               .run = options->run,
                               .thread = thread,
                               .length = length,
                               .number = number};
    for (uint32_t i = sizeof(head); i < length; i++)
        to[i] = (uint8_t)(number + i * 31);
    memcpy(to, &head, sizeof(head));
    head.crc = leat_crc32c(0, to, length);
    memcpy(to, &head, sizeof(head));
    return length;
}

/* False: not one of ours, or altered. */
static bool record_read(const uint8_t *bytes, size_t length, struct record_head *ret_head)
{
    static uint8_t copy[RECORD_MAX];
    struct record_head head;
    if (length < sizeof(head) || length > sizeof(copy))
        return false;
    memcpy(&head, bytes, sizeof(head));
    memcpy(copy, bytes, length);
    ((struct record_head *)(void *)copy)->crc = 0;
    *ret_head = head;
    return head.magic == LEDGER_MAGIC && head.length == length &&
           leat_crc32c(0, copy, length) == head.crc;
}

static bool record_is_ours(const uint8_t *bytes, size_t length)
{
    uint64_t magic = LEDGER_MAGIC;
    return length >= sizeof(magic) && memcmp(bytes, &magic, sizeof(magic)) == 0;
}

/* ---- appending ---- */

static void write_down(struct appender *appender, const struct leat_result *result)
{
    struct ledger_row row = {
        .run = appender->options->run,
        .thread = appender->index,
        .error = result->error,
        .number = result->user,
        .position = result->position,
        .offset = result->offset,
        .level = (uint32_t)result->ack,
        .ended_ns = now_ns(),
    };
    if (result->error == LEAT_EUNKNOWN) /* recorded, position unknown */
        row.offset = UINT64_MAX;
    enum leat_end end = leat_outcome(result->error);
    appender->ok += end == LEAT_END_OK;
    appender->no += end == LEAT_END_NO;
    appender->unknown += end == LEAT_END_UNKNOWN;
    if (end == LEAT_END_UNKNOWN)
        appender->unknown_error = result->error;
    appender->sessions_lost += result->error == LEAT_ESESSION;
    if (end == LEAT_END_OK) {
        leat_histogram_record(&appender->latency, result->latency_ns);
        if (appender->last_ok_ns && row.ended_ns - appender->last_ok_ns > appender->longest_gap_ns)
            appender->longest_gap_ns = row.ended_ns - appender->last_ok_ns;
        appender->last_ok_ns = row.ended_ns;
    }
    pthread_mutex_lock(&out_lock);
    fwrite(&row, sizeof(row), 1, appender->out);
    pthread_mutex_unlock(&out_lock);
}

static enum leat_ack level_of(const struct options *options, uint64_t number)
{
    if (strcmp(options->ack, "mixed") == 0)
        return number % 3 == 0 ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE;
    return strcmp(options->ack, "replicated") == 0 ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE;
}

static int append_loop(struct appender *appender, struct leat_client *client)
{
    const struct options *options = appender->options;
    struct leat_result results[RESULTS];
    uint8_t *bytes = malloc(options->size_max);
    uint64_t number = 0, end = now_ns() + (uint64_t)(options->seconds * 1e9), begin = now_ns();
    int rc = LEAT_OK;
    while (rc == LEAT_OK) {
        bool stop = atomic_load(&stopping) || now_ns() > end;
        if (stop && leat_in_flight(client) == 0)
            break;
        bool paced = options->rate &&
                     number >= (now_ns() - begin) * options->rate / options->threads / 1000000000u;
        if (!stop && !paced && leat_in_flight(client) < options->in_flight) {
            uint32_t length = record_make(bytes, options, appender->index, number);
            uint64_t sequence;
            rc = leat_append_start(client, options->log, bytes, length, level_of(options, number),
                                   options->timeout_ms * 1000000u, number, &sequence);
            number += rc == LEAT_OK;
            rc = rc == LEAT_EAGAIN || rc == LEAT_ECLOSED ? LEAT_OK : rc;
        }
        int count = leat_in_flight(client) >= options->in_flight || stop || paced
                        ? leat_wait(client, results, RESULTS, 1000000)
                        : leat_poll(client, results, RESULTS);
        for (int i = 0; i < count; i++)
            write_down(appender, &results[i]);
    }
    free(bytes);
    return rc;
}

static void *append_thread(void *context)
{
    struct appender *appender = context;
    struct leat_client *client;
    struct leat_options options = {.socket = appender->options->socket,
                                   .in_flight_max = appender->options->in_flight,
                                   .attach_timeout_ns = 20000000000u};
    int rc = leat_attach(&options, &client);
    if (rc == LEAT_OK) {
        rc = append_loop(appender, client);
        leat_detach(client);
    }
    if (rc != LEAT_OK)
        fprintf(stderr, "ledger: thread %u: %s\n", appender->index, leat_error_text(rc));
    appender->failed = rc != LEAT_OK;
    return NULL;
}

static int run_append(const struct options *options)
{
    static struct appender appenders[THREADS_MAX];
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    FILE *out = fopen(options->out, "ab"); /* tells that it can be stopped */
    if (!out) {
        perror(options->out);
        return 1;
    }
    for (unsigned i = 0; i < options->threads; i++) {
        appenders[i] = (struct appender){.options = options, .index = i, .out = out};
        pthread_create(&appenders[i].thread, NULL, append_thread, &appenders[i]);
    }
    static struct appender sum;
    for (unsigned i = 0; i < options->threads; i++) {
        pthread_join(appenders[i].thread, NULL);
        sum.ok += appenders[i].ok;
        sum.no += appenders[i].no;
        sum.unknown += appenders[i].unknown;
        sum.sessions_lost += appenders[i].sessions_lost;
        sum.failed |= appenders[i].failed;
        if (appenders[i].unknown_error)
            sum.unknown_error = appenders[i].unknown_error;
        leat_histogram_add(&sum.latency, &appenders[i].latency);
        if (appenders[i].longest_gap_ns > sum.longest_gap_ns)
            sum.longest_gap_ns = appenders[i].longest_gap_ns;
    }
    if (fclose(out) != 0)
        sum.failed = 1;
    printf("{\"ok\":%" PRIu64 ",\"no\":%" PRIu64 ",\"unknown\":%" PRIu64
           ",\"unknown_error\":\"%s\",\"sessions_lost\":%" PRIu64
           ",\"longest_gap_ms\":%.1f,\"p50_us\":%.1f}\n",
           sum.ok, sum.no, sum.unknown, sum.unknown_error ? leat_error_name(sum.unknown_error) : "",
           sum.sessions_lost, (double)sum.longest_gap_ns / 1e6,
           (double)leat_histogram_at(&sum.latency, 0.5) / 1e3);
    return sum.failed;
}

/* ---- auditing ---- */

struct seen {
    uint64_t run, number, position, offset;
    uint32_t thread, length;
};

static struct seen *log_seen;
static size_t seen_count, seen_room;

static int seen_compare(const void *left, const void *right)
{
    const struct seen *a = left, *b = right;
    if (a->run != b->run)
        return a->run < b->run ? -1 : 1;
    if (a->thread != b->thread)
        return a->thread < b->thread ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static void seen_add(const struct record_head *head, const struct leat_record *record)
{
    if (seen_count == seen_room) {
        seen_room = seen_room ? seen_room * 2 : 65536;
        log_seen = realloc(log_seen, seen_room * sizeof(*log_seen));
        if (!log_seen)
            abort();
    }
    log_seen[seen_count++] = (struct seen){head->run,      head->number, record->position,
                                           record->offset, head->thread, head->length};
}

struct audit {
    uint64_t records, altered, gaps, acknowledged, lost, lost_replicated, duplicated, reordered,
        moved, refused_but_there, unknown, unknown_there, trimmed, foreign;
    uint64_t first; /* offset of the oldest record that is held */
};

/* A node whose disk or cores are taken may need seconds to answer: EAGAIN says so. */
static int audit_open(struct leat_client *client, uint32_t log, struct leat_reader **ret_reader)
{
    uint64_t until_ns = now_ns() + OPEN_NS;
    int rc;
    do {
        struct leat_result results[1];
        (void)leat_wait(client, results, 1, 1000000); /* attaches again, too */
        rc = leat_reader_open(client, log, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, ret_reader);
    } while (rc == LEAT_EAGAIN && now_ns() < until_ns);
    return rc;
}

/* Reads to the end of what is committed; of a log that grows meanwhile, to where it ended at the
 * start, if a leader could say so. */
static int audit_read(const struct options *settings, struct audit *audit)
{
    struct leat_options options = {.socket = settings->socket, .attach_timeout_ns = 20000000000u};
    struct leat_client *client;
    struct leat_reader *reader;
    struct leat_record record;
    struct record_head head;
    uint64_t next = 0, position, end = UINT64_MAX;
    int rc = leat_attach(&options, &client);
    if (rc == LEAT_OK &&
        leat_tail(client, settings->log, LEAT_ACK_DURABLE, &position, &end) != LEAT_OK)
        end = UINT64_MAX;
    if (rc == LEAT_OK)
        rc = audit_open(client, settings->log, &reader);
    if (rc != LEAT_OK)
        return rc;
    while (next < end && ((rc = leat_reader_wait(reader, 300000000u, &record)) == LEAT_OK ||
                          rc == LEAT_EVERIFYING)) {
        if (rc != LEAT_OK)
            continue;
        if (audit->records == 0 && settings->trimmed_allowed)
            audit->first = next = record.offset;
        audit->gaps += record.offset != next;
        next = record.offset + 1;
        audit->records++;
        if (record_read(record.data, record.length, &head))
            seen_add(&head, &record);
        else if (settings->foreign_allowed && !record_is_ours(record.data, record.length))
            audit->foreign++;
        else
            audit->altered++;
    }
    leat_reader_close(reader);
    leat_detach(client);
    return rc == LEAT_EDEADLINE ? LEAT_OK : rc;
}

static void audit_log(struct audit *audit)
{
    qsort(log_seen, seen_count, sizeof(*log_seen), seen_compare);
    for (size_t i = 1; i < seen_count; i++) {
        const struct seen *a = &log_seen[i - 1], *b = &log_seen[i];
        if (a->run != b->run || a->thread != b->thread)
            continue;
        audit->duplicated += a->number == b->number;
        audit->reordered += a->number < b->number && a->offset > b->offset;
    }
}

/* When anybody's append was acknowledged: the log was of use to somebody. */
static uint64_t *ended;
static size_t ended_count, ended_room;

static void ended_add(uint64_t at_ns)
{
    if (ended_count == ended_room) {
        ended_room = ended_room ? ended_room * 2 : 65536;
        ended = realloc(ended, ended_room * sizeof(*ended));
        if (!ended)
            abort();
    }
    ended[ended_count++] = at_ns;
}

static int ended_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* The longest time in which no client at all was acknowledged anything. */
static uint64_t longest_gap_ns(void)
{
    uint64_t longest = 0;
    qsort(ended, ended_count, sizeof(*ended), ended_compare);
    for (size_t i = 1; i < ended_count; i++)
        longest = ended[i] - ended[i - 1] > longest ? ended[i] - ended[i - 1] : longest;
    return longest;
}

static void audit_row(const struct ledger_row *row, struct audit *audit)
{
    struct seen key = {.run = row->run, .thread = row->thread, .number = row->number};
    size_t low = 0, high = seen_count;
    while (low < high) { /* the first that is not below the key */
        size_t middle = (low + high) / 2;
        key.offset = 0;
        if (seen_compare(&log_seen[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const struct seen *found = low < seen_count ? &log_seen[low] : NULL;
    if (found &&
        (found->run != row->run || found->thread != row->thread || found->number != row->number))
        found = NULL;
    bool judged =
        found || audit->first == 0 || (row->offset != UINT64_MAX && row->offset >= audit->first);
    switch (leat_outcome(row->error)) {
    case LEAT_END_OK:
        audit->acknowledged++;
        ended_add(row->ended_ns);
        if (!judged)
            audit->trimmed++;
        else if (!found && row->level == LEAT_ACK_REPLICATED)
            audit->lost_replicated++;
        else if (!found)
            audit->lost++;
        else if (row->offset != UINT64_MAX &&
                 (row->offset != found->offset || row->position != found->position))
            audit->moved++;
        break;
    case LEAT_END_NO:
        audit->refused_but_there += found != NULL;
        break;
    case LEAT_END_UNKNOWN:
        audit->unknown++;
        audit->unknown_there += found != NULL;
        break;
    }
}

static int run_audit(const struct options *options, char **files, int count)
{
    struct audit audit;
    uint64_t altered = 0, gaps = 0, first = 0;
    int rc = LEAT_ETRIMMED;
    /* what retention trims while it is read is begun anew behind the new base; what was wrong stays
     * so */
    for (int tries = 0; tries < 10 && rc == LEAT_ETRIMMED; tries++) {
        audit = (struct audit){.altered = altered, .gaps = gaps};
        seen_count = 0;
        rc = audit_read(options, &audit);
        if (rc == LEAT_ETRIMMED &&
            (!options->trimmed_allowed || (tries > 0 && audit.first < first)))
            break;
        altered = audit.altered;
        gaps = audit.gaps;
        first = audit.first;
    }
    if (rc != LEAT_OK) {
        fprintf(stderr, "ledger: reading: %s\n", leat_error_text(rc));
        return 1;
    }
    audit_log(&audit);
    for (int i = 0; i < count; i++) {
        struct ledger_row row;
        FILE *file = fopen(files[i], "rb");
        if (!file) {
            perror(files[i]);
            return 1;
        }
        while (fread(&row, sizeof(row), 1, file) == 1)
            audit_row(&row, &audit);
        fclose(file);
    }
    bool bad = audit.lost || audit.duplicated || audit.reordered || audit.moved || audit.altered ||
               audit.gaps || audit.refused_but_there ||
               (audit.lost_replicated && !options->lost_replicated_allowed);
    printf("{\"records\":%" PRIu64 ",\"acknowledged\":%" PRIu64 ",\"lost\":%" PRIu64
           ",\"lost_replicated\":%" PRIu64 ",\"duplicated\":%" PRIu64 ",\"reordered\":%" PRIu64
           ",\"moved\":%" PRIu64 ",\"altered\":%" PRIu64 ",\"gaps\":%" PRIu64
           ",\"refused_but_there\":%" PRIu64 ",\"unknown\":%" PRIu64 ",\"unknown_there\":%" PRIu64
           ",\"trimmed\":%" PRIu64 ",\"first\":%" PRIu64 ",\"foreign\":%" PRIu64
           ",\"longest_gap_ms\":%.1f}\n",
           audit.records, audit.acknowledged, audit.lost, audit.lost_replicated, audit.duplicated,
           audit.reordered, audit.moved, audit.altered, audit.gaps, audit.refused_but_there,
           audit.unknown, audit.unknown_there, audit.trimmed, audit.first, audit.foreign,
           (double)longest_gap_ns() / 1e6);
    return bad;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"socket", required_argument, NULL, 's'},
        {"out", required_argument, NULL, 'o'},
        {"ack", required_argument, NULL, 'a'},
        {"run", required_argument, NULL, 'r'},
        {"threads", required_argument, NULL, 't'},
        {"inflight", required_argument, NULL, 'w'},
        {"size", required_argument, NULL, 'z'},
        {"timeout-ms", required_argument, NULL, 'm'},
        {"seconds", required_argument, NULL, 'd'},
        {"rate", required_argument, NULL, 'R'},
        {"log", required_argument, NULL, 'L'},
        {"lost-replicated-allowed", no_argument, NULL, 'l'},
        {"trimmed-allowed", no_argument, NULL, 'T'},
        {"foreign-allowed", no_argument, NULL, 'F'},
        {NULL, 0, NULL, 0}};
    struct options options = {.ack = "durable",
                              .run = 1,
                              .log = LEAT_DEFAULT_LOG,
                              .timeout_ms = 20000,
                              .threads = 2,
                              .in_flight = 64,
                              .size_max = 300,
                              .seconds = 86400};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case 's':
            options.socket = optarg;
            break;
        case 'o':
            options.out = optarg;
            break;
        case 'a':
            options.ack = optarg;
            break;
        case 'r':
            options.run = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options.threads = (unsigned)atoi(optarg);
            break;
        case 'w':
            options.in_flight = (unsigned)atoi(optarg);
            break;
        case 'z':
            options.size_max = (uint32_t)atoi(optarg);
            break;
        case 'm':
            options.timeout_ms = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            options.seconds = atof(optarg);
            break;
        case 'R':
            options.rate = strtoull(optarg, NULL, 10);
            break;
        case 'L':
            options.log = (uint32_t)atoi(optarg);
            break;
        case 'l':
            options.lost_replicated_allowed = true;
            break;
        case 'T':
            options.trimmed_allowed = true;
            break;
        case 'F':
            options.foreign_allowed = true;
            break;
        default:
            return 2;
        }
    }
    bool sane = options.socket && options.threads >= 1 && options.threads <= THREADS_MAX &&
                options.size_max >= sizeof(struct record_head) && options.size_max <= RECORD_MAX;
    if (sane && optind < argc && strcmp(argv[optind], "append") == 0 && options.out)
        return run_append(&options);
    if (sane && optind < argc && strcmp(argv[optind], "audit") == 0)
        return run_audit(&options, argv + optind + 1, argc - optind - 1);
    fprintf(stderr, "usage: see the head of tests/system/ledger.c\n");
    return 2;
}
