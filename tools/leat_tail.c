/* SPDX-License-Identifier: Apache-2.0
 *
 * leat tail: a log's records to stdout.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat_cli.h"

static const char help[] =
    "usage: leat tail [OPTION...]\n"
    "\n"
    "Prints a log's records, as far as they are committed now.\n"
    "\n"
    "  --log N          the log [1]\n"
    "  --from WHERE     an offset, start (the oldest held) or end (what comes next) [start]\n"
    "  --count N        stop after N records\n"
    "  --follow         wait for more at the end\n"
    "  --ack LEVEL      durable or replicated: what counts as committed [durable]\n"
    "  --raw            the records' bytes, one after the other [default]\n"
    "  --length-prefix  each record behind its length, 4 bytes little-endian\n"
    "  --json           one JSON object a line: offset, position, time_ns, and data as text, or\n"
    "                   data_base64 when it is not UTF-8\n"
    "  --socket PATH    the node's control socket\n"
    "  --config FILE    take the socket from a node's configuration\n"
    "\n"
    "examples:\n"
    "  leat tail --from start --count 10\n"
    "  leat tail --from end --follow --json\n";

enum form { FORM_RAW, FORM_LENGTH_PREFIX, FORM_JSON };

struct tail_run {
    uint32_t log;
    enum leat_from from;
    uint64_t offset;
    uint64_t count;
    bool follow;
    enum leat_ack level;
    enum form form;
    const char *socket, *config;
    bool help;
};

/* Length of the UTF-8 sequence at `at`; 0: none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const uint8_t *at, size_t left)
{
    static const uint8_t low[] = {0x80, 0xa0, 0x80, 0x90};
    static const uint8_t high[] = {0xbf, 0xbf, 0x9f, 0x8f};
    size_t length = at[0] < 0x80                     ? 1
                    : at[0] >= 0xc2 && at[0] <= 0xdf ? 2
                    : at[0] >= 0xe0 && at[0] <= 0xef ? 3
                    : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || length > left)
        return 0;
    unsigned rule = at[0] == 0xe0 ? 1 : at[0] == 0xed ? 2 : at[0] == 0xf0 ? 3 : 0;
    uint8_t last = at[0] == 0xf4 ? high[3] : high[rule == 2 ? 2 : 0];
    if (length > 1 && (at[1] < low[rule] || at[1] > last))
        return 0;
    for (size_t i = 2; i < length; i++) {
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    }
    return length;
}

static bool is_utf8(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t step = utf8_length(bytes + i, length - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

static void put_json_text(const uint8_t *bytes, size_t length)
{
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\')
            printf("\\%c", bytes[i]);
        else if (bytes[i] == '\n')
            fputs("\\n", stdout);
        else if (bytes[i] < 0x20)
            printf("\\u%04x", bytes[i]);
        else
            putchar(bytes[i]);
    }
    putchar('"');
}

static void put_base64(const uint8_t *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    putchar('"');
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        putchar(digits[word >> 18]);
        putchar(digits[word >> 12 & 63]);
        putchar(left > 1 ? digits[word >> 6 & 63] : '=');
        putchar(left > 2 ? digits[word & 63] : '=');
    }
    putchar('"');
}

static void put_record(const struct leat_record *record, enum form form)
{
    const uint8_t *bytes = record->data;
    if (form == FORM_JSON) {
        bool text = is_utf8(bytes, record->length);
        printf("{\"offset\":%" PRIu64 ",\"position\":%" PRIu64 ",\"time_ns\":%" PRIu64 ",\"%s\":",
               record->offset, record->position, record->time_ns, text ? "data" : "data_base64");
        if (text)
            put_json_text(bytes, record->length);
        else
            put_base64(bytes, record->length);
        fputs("}\n", stdout);
        return;
    }
    if (form == FORM_LENGTH_PREFIX) {
        for (unsigned shift = 0; shift < 32; shift += 8)
            putchar((int)(record->length >> shift & 0xff));
    }
    fwrite(bytes, 1, record->length, stdout);
}

static const struct option long_options[] = {
    {"log", required_argument, NULL, 'l'},     {"from", required_argument, NULL, 'f'},
    {"count", required_argument, NULL, 'n'},   {"follow", no_argument, NULL, 'F'},
    {"ack", required_argument, NULL, 'a'},     {"raw", no_argument, NULL, 'R'},
    {"length-prefix", no_argument, NULL, 'P'}, {"json", no_argument, NULL, 'j'},
    {"socket", required_argument, NULL, 'S'},  {"config", required_argument, NULL, 'C'},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
};

static bool read_from(struct tail_run *run, const char *text)
{
    run->from = strcmp(text, "start") == 0 ? LEAT_FROM_START
                : strcmp(text, "end") == 0 ? LEAT_FROM_END
                                           : LEAT_FROM_OFFSET;
    return run->from != LEAT_FROM_OFFSET || cli_number(text, UINT64_MAX - 1, &run->offset);
}

static bool read_option(struct tail_run *run, int option)
{
    uint64_t number = 0;
    switch (option) {
    case 'l':
        if (!cli_number(optarg, UINT32_MAX, &number))
            return false;
        run->log = (uint32_t)number;
        return true;
    case 'f':
        return read_from(run, optarg);
    case 'n':
        return cli_number(optarg, UINT64_MAX, &run->count);
    case 'a':
        return cli_ack(optarg, &run->level);
    case 'F':
        run->follow = true;
        return true;
    case 'R':
    case 'P':
    case 'j':
        run->form = option == 'R' ? FORM_RAW : option == 'P' ? FORM_LENGTH_PREFIX : FORM_JSON;
        return true;
    case 'S':
        run->socket = optarg;
        return true;
    case 'C':
        run->config = optarg;
        return true;
    case 'h':
        run->help = true;
        return true;
    default:
        return false;
    }
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
    if (rc == LEAT_ETRIMMED || rc == LEAT_EROLLBACK) {
        fflush(stdout);
        cli_fail(CLI_OK, "%s; going on at offset %" PRIu64, leat_error_text(rc),
                 leat_reader_offset(reader));
        return CLI_OK;
    }
    return cli_fail_error(rc, "read");
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

int cli_tail(int count, char **arguments)
{
    struct tail_run run = {.log = LEAT_DEFAULT_LOG,
                           .from = LEAT_FROM_START,
                           .count = UINT64_MAX,
                           .level = LEAT_ACK_DURABLE};
    char buffer[256];
    int option;
    while ((option = getopt_long(count, arguments, "h", long_options, NULL)) >= 0) {
        if (!read_option(&run, option))
            return cli_fail(CLI_USAGE, "tail: a wrong option or value: see leat tail --help");
    }
    if (run.help)
        return cli_help(help, true);
    if (optind != count)
        return cli_fail(CLI_USAGE, "tail: '%s' is too much: see leat tail --help",
                        arguments[optind]);
    struct leat_options options = {
        .ring_bytes = 64u << 10, .in_flight_max = 64, .attach_timeout_ns = 2000000000};
    int exit_code = cli_socket(run.socket, run.config, buffer, &options.socket);
    if (exit_code != CLI_OK)
        return exit_code;
    struct leat_client *client;
    struct leat_reader *reader;
    int rc = leat_attach(&options, &client);
    if (rc != LEAT_OK)
        return rc == LEAT_EPERM ? cli_fail_error(rc, "attach")
                                : (cli_fail_error(rc, "attach"), CLI_UNREACHABLE);
    rc = leat_reader_open(client, run.log, run.from, run.offset, run.level, &reader);
    if (rc == LEAT_OK) {
        exit_code = tail_all(&run, reader);
        leat_reader_close(reader);
    } else {
        exit_code = cli_fail_error(rc, "open");
    }
    leat_detach(client);
    return exit_code;
}
