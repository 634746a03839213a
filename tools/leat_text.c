/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tool writes: JSON text, sizes and times for people and for the configuration's reader.
 * Tests: tests/client/test_cli.sh.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "leat_cli.h"

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

bool cli_is_utf8(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t step = utf8_length(bytes + i, length - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

void cli_put_json_text(const uint8_t *bytes, size_t length)
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

void cli_put_base64(const uint8_t *bytes, size_t length)
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

/* What a double cannot print to the last digit is printed as a whole number again. */
static void json_whole(cJSON *item)
{
    char text[32];
    cJSON *child;
    cJSON_ArrayForEach(child, item)
    {
        json_whole(child);
        if (!cJSON_IsNumber(child) || child->valuedouble <= 9007199254740992.0)
            continue;
        snprintf(text, sizeof(text), "%.0f", child->valuedouble);
        cJSON *raw = cJSON_CreateRaw(text);
        char *name = raw && child->string ? strdup(child->string) : NULL;
        if (!name)
            cJSON_Delete(raw);
        else if (cJSON_ReplaceItemInObjectCaseSensitive(item, name, raw))
            child = raw;
        free(name);
    }
}

void cli_put_json(cJSON *object)
{
    json_whole(object);
    char *text = cJSON_PrintUnformatted(object);
    if (text)
        puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
}

/* ---- sizes and times ---- */

struct text_unit {
    const char *name;
    uint64_t factor;
};

/* The largest unit that divides it. */
static const char *text_exact(uint64_t value, const struct text_unit *units, const char *smallest,
                              char buffer[32])
{
    while (units->factor > 1 && (value == 0 || value % units->factor != 0))
        units++;
    const char *name = units->factor > 1 ? units->name : smallest;
    snprintf(buffer, 32, "%" PRIu64 "%s", value / units->factor, name);
    return buffer;
}

/* The largest unit that it has at least one of. */
static const char *text_about(uint64_t value, const struct text_unit *units, char buffer[32])
{
    while (units->factor > 1 && value < units->factor)
        units++;
    double amount = (double)value / (double)units->factor;
    snprintf(buffer, 32, units->factor > 1 && amount < 100 ? "%.1f %s" : "%.0f %s", amount,
             units->name);
    return buffer;
}

static const struct text_unit byte_units[] = {
    {"GiB", 1u << 30}, {"MiB", 1u << 20}, {"KiB", 1u << 10}, {"B", 1}};
static const struct text_unit time_units[] = {{"h", 3600000000000}, {"min", 60000000000},
                                              {"s", 1000000000},    {"ms", 1000000},
                                              {"us", 1000},         {"ns", 1}};

const char *cli_size_text(uint64_t bytes, char buffer[32])
{
    return text_exact(bytes, byte_units, "", buffer);
}

const char *cli_time_text(uint64_t ns, char buffer[32])
{
    return text_exact(ns, time_units, "ns", buffer);
}

const char *cli_about_bytes(uint64_t bytes, char buffer[32])
{
    return text_about(bytes, byte_units, buffer);
}

const char *cli_about_ns(uint64_t ns, char buffer[32])
{
    return text_about(ns, time_units, buffer);
}

const char *cli_date_text(uint64_t ns, char buffer[32])
{
    time_t seconds = (time_t)(ns / 1000000000u);
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) || strftime(buffer, 32, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(buffer, 32, "%" PRIu64 "ns", ns);
    return buffer;
}

/* ---- the node's state ---- */

uint64_t cli_json_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (uint64_t)item->valuedouble
                                                         : (uint64_t)cJSON_IsTrue(item);
}

const char *cli_json_string(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

int cli_state(const struct cli_common *common, const uint32_t *log, cJSON **ret_root,
              char **ret_text)
{
    char *text;
    int rc =
        log ? leat_status_log(common->socket, *log, &text) : leat_status(common->socket, &text);
    if (rc != LEAT_OK)
        return cli_fail_look(rc, common->name);
    cJSON *root = cJSON_Parse(text);
    const cJSON *logs = cJSON_GetObjectItemCaseSensitive(root, "logs");
    int exit_code = CLI_OK;
    if (!root)
        exit_code = cli_fail(CLI_FAILED, "%s: the node's answer is not JSON", common->name);
    else if (log && cJSON_GetArraySize(logs) == 0)
        exit_code = cli_fail(CLI_FAILED, "%s: this node has no log %" PRIu32 ": see leat log ls",
                             common->name, *log);
    if (exit_code != CLI_OK || !ret_text)
        free(text);
    else
        *ret_text = text;
    if (exit_code != CLI_OK)
        cJSON_Delete(root);
    else
        *ret_root = root;
    return exit_code;
}
