/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands' options: read by a table per command, so that each has --socket, --config, --json
 * and --help, and a wrong value is told by its option. One thread. Tests: tests/client/test_cli.sh.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat_cli.h"
#include "node/config.h"

int cli_usage(const struct cli_common *common, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    return cli_fail(CLI_USAGE, "%s: %s: see leat %s --help", common->name, line, common->name);
}

bool cli_number(const char *text, uint64_t high, uint64_t *ret_value)
{
    char *end;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != 0 || value > high)
        return false;
    *ret_value = value;
    return true;
}

bool cli_seconds(const char *text, uint64_t *ret_ns)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end != 0 || !(seconds >= 0) || seconds > 1e9)
        return false;
    *ret_ns = (uint64_t)(seconds * 1e9);
    return true;
}

static bool value_level(const char *text, enum leat_ack *ret_level)
{
    bool durable = strcmp(text, "durable") == 0;
    if (!durable && strcmp(text, "replicated") != 0)
        return false;
    *ret_level = durable ? LEAT_ACK_DURABLE : LEAT_ACK_REPLICATED;
    return true;
}

/* NULL when it is good, else what was expected. */
static const char *option_take(const struct cli_option *option, const char *text)
{
    if (option->given)
        *option->given = true;
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)option->to = true;
        return NULL;
    case CLI_TEXT:
    case CLI_MAYBE:
        *(const char **)option->to = text ? text : "";
        return NULL;
    case CLI_NUMBER:
        return cli_number(text, UINT64_MAX - 1, option->to) ? NULL : "a number";
    case CLI_SIZE:
        return leat_config_size(text, option->to) ? NULL : "a size like 64KiB or 16MiB";
    case CLI_TIME:
        if (strcmp(text, "0") == 0)
            text = "0s";
        return leat_config_time(text, option->to) ? NULL : "a time like 150ms, 10min or 24h";
    case CLI_SECONDS:
        return cli_seconds(text, option->to) ? NULL : "a number of seconds";
    case CLI_LEVEL:
        return value_level(text, option->to) ? NULL : "durable or replicated";
    }
    return "another kind of option";
}

/* "--batch 16" is taken like "--batch=16" when what follows is a number. */
static const char *maybe_number(int count, char **arguments)
{
    uint64_t number;
    if (optarg)
        return optarg;
    if (optind < count && cli_seconds(arguments[optind], &number))
        return arguments[optind++];
    return "";
}

static int socket_of_config(struct cli_common *common, const char *path)
{
    struct leat_config config;
    char error[512];
    if (leat_config_read(path, &config, error, sizeof(error)) != LEAT_OK)
        return cli_fail(CLI_USAGE, "%s", error);
    memcpy(common->buffer, config.socket, sizeof(config.socket));
    common->socket = common->buffer;
    return CLI_OK;
}

static int options_read(struct cli_common *common, const struct cli_option *options,
                        size_t option_count, int count, char **arguments)
{
    struct option table[CLI_OPTIONS_MAX + 1];
    int which;
    memset(table, 0, sizeof(table));
    for (size_t i = 0; i < option_count; i++) {
        int takes = options[i].kind == CLI_FLAG    ? no_argument
                    : options[i].kind == CLI_MAYBE ? optional_argument
                                                   : required_argument;
        table[i] = (struct option){options[i].name, takes, NULL, (int)(1000 + i)};
    }
    while ((which = getopt_long(count, arguments, "h", table, NULL)) >= 0) {
        if (which < 1000)
            return cli_usage(common, "%s is not an option, or lacks its value",
                             optind > 1 ? arguments[optind - 1] : "this");
        const struct cli_option *option = &options[which - 1000];
        const char *text = option->kind == CLI_MAYBE ? maybe_number(count, arguments) : optarg;
        const char *expected = option_take(option, text);
        if (expected)
            return cli_usage(common, "--%s: '%s' is not %s", option->name, text, expected);
    }
    return CLI_OK;
}

static bool asks_for_help(int count, char **arguments)
{
    for (int i = 1; i < count && strcmp(arguments[i], "--") != 0; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0)
            return true;
    }
    return false;
}

static int common_read(struct cli_common *common, const struct cli_option *options,
                       size_t option_count, int count, char **arguments)
{
    struct cli_option all[CLI_OPTIONS_MAX] = {
        {"socket", CLI_TEXT, &common->socket, NULL},
        {"config", CLI_TEXT, &common->config, NULL},
        {"json", CLI_FLAG, &common->json, NULL},
    };
    if (option_count > CLI_OPTIONS_MAX - 3)
        abort();
    if (option_count > 0)
        memcpy(all + 3, options, option_count * sizeof(*options));
    int exit_code = options_read(common, all, option_count + 3, count, arguments);
    common->operands = arguments + optind;
    common->operand_count = count - optind;
    if (exit_code == CLI_OK && common->config && !common->socket)
        exit_code = socket_of_config(common, common->config);
    return exit_code;
}

int cli_read(struct cli_common *common, const struct cli_option *options, size_t option_count,
             int count, char **arguments)
{
    int exit_code = CLI_OK;
    common->done = asks_for_help(count, arguments);
    if (common->done) {
        fputs(common->help, stdout);
        return CLI_OK;
    }
    exit_code = common_read(common, options, option_count, count, arguments);
    common->done = exit_code != CLI_OK;
    return exit_code;
}

/* ---- logs ---- */

int cli_log(const struct cli_common *common, const char *text, uint32_t *ret_log)
{
    uint64_t number;
    struct leat_log_entry entry;
    if (cli_number(text, UINT32_MAX, &number)) {
        *ret_log = (uint32_t)number;
        return CLI_OK;
    }
    if (strlen(text) >= LEAT_LOG_NAME_BYTES)
        return cli_usage(common, "'%s' is no log's name: too long", text);
    int rc = leat_log_find(common->socket, text, &entry);
    if (rc == LEAT_ENOLOG)
        return cli_fail(CLI_FAILED, "%s: no log is named '%s': see leat log ls", common->name,
                        text);
    if (rc != LEAT_OK)
        return cli_fail_look(rc, common->name);
    *ret_log = entry.log;
    return CLI_OK;
}

int cli_log_operand(struct cli_common *common, const char *option, uint32_t *ret_log)
{
    if (!option && common->operand_count > 0) {
        option = common->operands[0];
        common->operands++;
        common->operand_count--;
    }
    if (!option)
        return cli_usage(common, "LOG is missing: its name or number");
    return cli_log(common, option, ret_log);
}

int cli_attach(const struct cli_common *common, struct leat_client **ret_client)
{
    struct leat_options options = {.socket = common->socket,
                                   .ring_bytes = 64u << 10,
                                   .in_flight_max = 64,
                                   .attach_timeout_ns = 2000000000};
    int rc = leat_attach(&options, ret_client);
    return rc == LEAT_OK ? CLI_OK : cli_fail_look(rc, "attach");
}
