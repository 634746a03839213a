/* SPDX-License-Identifier: Apache-2.0
 *
 * leat tail: a log's records to stdout.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "leat_cli.h"
#include "node/config.h"

static const char help[] =
    "usage: leat tail [OPTION...]\n"
    "\n"
    "Prints a log's records, as far as they are committed now.\n"
    "\n"
    "  --log LOG        the log, by name or number [1]\n"
    "  --from WHERE     start (the oldest held), end (what comes next), an offset, or\n"
    "                   time:WHEN, the first record that is not older: a date like\n"
    "                   2026-11-24T15:50:04Z, or -10min for ten minutes ago [start]\n"
    "  --count N        stop after N records\n"
    "  --follow         wait for more at the end\n"
    "  --level LEVEL    durable or replicated: what counts as committed [durable]\n"
    "  --raw            the records' bytes, one after the other [default]\n"
    "  --length-prefix  each record behind its length, 4 bytes little-endian\n"
    "  --json           one JSON object a line: offset, position, time_ns, and data as text, or\n"
    "                   data_base64 when it is not UTF-8\n"
    "  --socket PATH    the node's control socket\n"
    "  --config FILE    take the socket from a node's configuration\n"
    "\n"
    "examples:\n"
    "  leat tail --from start --count 10\n"
    "  leat tail --log orders --from time:-10min --follow --json\n";

enum form { FORM_RAW, FORM_LENGTH_PREFIX, FORM_JSON };

struct tail_run {
    uint32_t log;
    enum leat_from from;
    uint64_t value; /* OFFSET, TIME */
    uint64_t count;
    bool follow;
    enum leat_ack level;
    enum form form;
};

static void put_record(const struct leat_record *record, enum form form)
{
    const uint8_t *bytes = record->data;
    if (form == FORM_JSON) {
        bool text = cli_is_utf8(bytes, record->length);
        printf("{\"offset\":%" PRIu64 ",\"position\":%" PRIu64 ",\"time_ns\":%" PRIu64 ",\"%s\":",
               record->offset, record->position, record->time_ns, text ? "data" : "data_base64");
        if (text)
            cli_put_json_text(bytes, record->length);
        else
            cli_put_base64(bytes, record->length);
        fputs("}\n", stdout);
        return;
    }
    if (form == FORM_LENGTH_PREFIX) {
        for (unsigned shift = 0; shift < 32; shift += 8)
            putchar((int)(record->length >> shift & 0xff));
    }
    fwrite(bytes, 1, record->length, stdout);
}

/* ---- where to begin ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Digits behind the seconds: .5, .123456789. Moves *io_text past them. */
static uint64_t fraction_ns(const char **io_text)
{
    uint64_t ns = 0, place = 100000000;
    if (**io_text != '.' && **io_text != ',')
        return 0;
    for ((*io_text)++; **io_text >= '0' && **io_text <= '9'; (*io_text)++, place /= 10)
        ns += (uint64_t)(**io_text - '0') * place;
    return ns;
}

/* Seconds east of UTC: Z, +02:00, +0200, +02; nothing: UTC. */
static bool zone_seconds(const char *text, int64_t *ret_seconds)
{
    int hours = 0, minutes = 0, used = 0;
    if (text[0] == 0 || strcmp(text, "Z") == 0) {
        *ret_seconds = 0;
        return true;
    }
    if (text[0] != '+' && text[0] != '-')
        return false;
    const char *digits = text + 1;
    if (sscanf(digits, "%2d:%2d%n", &hours, &minutes, &used) != 2 || digits[used] != 0) {
        minutes = used = 0;
        if ((sscanf(digits, "%2d%2d%n", &hours, &minutes, &used) != 2 || digits[used] != 0) &&
            (sscanf(digits, "%2d%n", &hours, &used) != 1 || digits[used] != 0))
            return false;
    }
    if (hours < 0 || hours > 15 || minutes < 0 || minutes > 59)
        return false;
    *ret_seconds = (text[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

/* 2026-11-24, 2026-11-24T15:50, 2026-11-24T15:50:04.5+02:00; a blank may stand for the T. */
static bool read_date(const char *text, uint64_t *ret_ns)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                        "%Y-%m-%d %H:%M", "%Y-%m-%d"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct tm parts = {0};
        int64_t zone;
        const char *rest = strptime(text, forms[i], &parts);
        uint64_t ns = rest && i < 2 ? fraction_ns(&rest) : 0;
        if (!rest || !zone_seconds(rest, &zone))
            continue;
        int64_t seconds = (int64_t)timegm(&parts) - zone;
        if (seconds < 0)
            return false;
        bool fits = (uint64_t)seconds < UINT64_MAX / 1000000000u; /* 2554 and later: never */
        *ret_ns = fits ? (uint64_t)seconds * 1000000000u + ns : UINT64_MAX;
        return true;
    }
    return false;
}

/* An ISO 8601 date, -10min (before now), or nanoseconds since 1970. */
static bool read_time(const char *text, uint64_t *ret_ns)
{
    uint64_t back_ns, now = now_ns();
    if (text[0] == '-') {
        if (!leat_config_time(text + 1, &back_ns))
            return false;
        *ret_ns = now > back_ns ? now - back_ns : 0;
        return true;
    }
    return cli_number(text, UINT64_MAX, ret_ns) || read_date(text, ret_ns);
}

static bool read_from(struct tail_run *run, const char *text)
{
    if (strncmp(text, "time:", 5) == 0) {
        run->from = LEAT_FROM_TIME;
        return read_time(text + 5, &run->value);
    }
    run->from = strcmp(text, "start") == 0 ? LEAT_FROM_START
                : strcmp(text, "end") == 0 ? LEAT_FROM_END
                                           : LEAT_FROM_OFFSET;
    return run->from != LEAT_FROM_OFFSET || cli_number(text, UINT64_MAX - 1, &run->value);
}

/* CLI_OK to go on. */
static int tail_error(const struct tail_run *run, const struct leat_reader *reader, int rc,
                      bool *ret_end)
{
    *ret_end = false;
    if (rc == LEAT_EDEADLINE || rc == LEAT_EAGAIN) {
        fflush(stdout);
        *ret_end = !run->follow;
        return CLI_OK;
    }
    if (rc == LEAT_ETRIMMED || rc == LEAT_EROLLBACK || rc == LEAT_EVERIFYING) {
        fflush(stdout);
        cli_fail(CLI_OK, "%s; going on at offset %" PRIu64, leat_error_text(rc),
                 leat_reader_offset(reader));
        return CLI_OK;
    }
    return cli_fail_look(rc, "read");
}

static int tail_all(const struct tail_run *run, struct leat_reader *reader)
{
    struct leat_record record;
    uint64_t printed = 0;
    while (!cli_interrupted && printed < run->count) {
        bool end = false;
        int rc = leat_reader_next(reader, &record);
        if (rc == LEAT_EAGAIN && run->follow) {
            fflush(stdout);
            rc = leat_reader_wait(reader, 100000000, &record);
        }
        if (rc == LEAT_OK) {
            put_record(&record, run->form);
            printed++;
        } else {
            int exit_code = tail_error(run, reader, rc, &end);
            if (exit_code != CLI_OK || end)
                return exit_code;
        }
        if (ferror(stdout))
            return errno == EPIPE ? CLI_OK : cli_fail(CLI_FAILED, "stdout: %s", strerror(errno));
    }
    return CLI_OK;
}

static int tail_run(const struct cli_common *common, const struct tail_run *run)
{
    struct leat_client *client;
    struct leat_reader *reader;
    int exit_code = cli_attach(common, &client);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_reader_open(client, run->log, run->from, run->value, run->level, &reader);
    if (rc == LEAT_OK) {
        exit_code = tail_all(run, reader);
        leat_reader_close(reader);
    } else {
        exit_code = cli_fail_look(rc, "open");
    }
    leat_detach(client);
    return exit_code;
}

int cli_tail(int count, char **arguments)
{
    struct cli_common common = {.name = "tail", .help = help};
    struct tail_run run = {.log = LEAT_DEFAULT_LOG,
                           .from = LEAT_FROM_START,
                           .count = UINT64_MAX,
                           .level = LEAT_ACK_DURABLE};
    const char *log = NULL, *from = "start";
    bool prefix = false, raw = false;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &log, NULL},
        {"from", CLI_TEXT, &from, NULL},
        {"count", CLI_NUMBER, &run.count, NULL},
        {"follow", CLI_FLAG, &run.follow, NULL},
        {"level", CLI_LEVEL, &run.level, NULL},
        {"ack", CLI_LEVEL, &run.level, NULL}, /* the name it had first */
        {"raw", CLI_FLAG, &raw, NULL},
        {"length-prefix", CLI_FLAG, &prefix, NULL},
    };
    int exit_code =
        cli_read(&common, options, sizeof(options) / sizeof(options[0]), count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != 0)
        return cli_usage(&common, "'%s' is too much", common.operands[0]);
    if (common.json + prefix + raw > 1)
        return cli_usage(&common, "one of --raw, --length-prefix and --json");
    if (!read_from(&run, from))
        return cli_usage(&common,
                         "--from: '%s' is not start, end, an offset, or time: and a date or -10min",
                         from);
    run.form = common.json ? FORM_JSON : prefix ? FORM_LENGTH_PREFIX : FORM_RAW;
    if (log)
        exit_code = cli_log(&common, log, &run.log);
    return exit_code == CLI_OK ? tail_run(&common, &run) : exit_code;
}
