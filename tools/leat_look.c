/* SPDX-License-Identifier: Apache-2.0
 *
 * leat session ls, counters, tail-position: what one looks at closely.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat_cli.h"

static const char session_help[] =
    "usage: leat session ls [--log LOG] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "The sessions of a log [1]: which clients append to it, and what each appended last, as far\n"
    "as it is durable (an append acknowledged as replicated may be missing for a moment).\n"
    "HERE: the client is attached to the node of this host now.\n"
    "\n"
    "examples:\n"
    "  leat session ls\n"
    "  leat session ls --log orders --json\n";

static const char counters_help[] =
    "usage: leat counters [--all] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Every counter of the node, one `name value` a line: what was received, sent, written, and "
    "each\n"
    "reason for which something was dropped or refused. Sums over all workers; with several "
    "workers\n"
    "also each one's (workers.N.); of each log (logs.N.).\n"
    "\n"
    "  --all   also those that are zero\n"
    "  --json  one JSON object of the same names\n"
    "\n"
    "examples:\n"
    "  leat counters\n"
    "  leat counters --all | grep drop\n";

static const char position_help[] =
    "usage: leat tail-position LOG [--level LEVEL] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Where LOG ends, linearizable: not below any append that was acknowledged at LEVEL (durable,\n"
    "replicated) [durable] by whichever node before. Its leader asks a majority.\n"
    "\n"
    "example:\n"
    "  leat tail-position orders\n";

/* ---- sessions ---- */

static void put_session(const cJSON *row)
{
    char date[32];
    uint64_t time_ns = cli_json_number(row, "last_time_ns");
    const char *error = cli_json_string(row, "last_error");
    printf("%7" PRIu64 "  %-36s  %-4s  %13" PRIu64 "  %11" PRIu64 "  %-20s%s%s\n",
           cli_json_number(row, "session"), cli_json_string(row, "client"),
           cli_json_number(row, "attached") ? "here" : "-", cli_json_number(row, "last_sequence"),
           cli_json_number(row, "last_offset"), time_ns ? cli_date_text(time_ns, date) : "-",
           strcmp(error, "LEAT_OK") == 0 ? "" : "  ", strcmp(error, "LEAT_OK") == 0 ? "" : error);
}

int cli_session_ls(int count, char **arguments)
{
    struct cli_common common = {.name = "session ls", .help = session_help};
    const char *option = NULL;
    uint32_t log = LEAT_DEFAULT_LOG;
    const struct cli_option options[] = {{"log", CLI_TEXT, &option, NULL}};
    const cJSON *row;
    cJSON *root;
    int exit_code = cli_read(&common, options, 1, count, arguments);
    if (common.done)
        return exit_code;
    if (option || common.operand_count > 0)
        exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "one LOG at a time");
    if (exit_code == CLI_OK)
        exit_code = cli_state(&common, &log, &root, NULL);
    if (exit_code != CLI_OK)
        return exit_code;
    cJSON *state = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "logs"), 0);
    cJSON *rows = cJSON_DetachItemFromObjectCaseSensitive(state, "session_rows");
    cJSON_Delete(root);
    if (common.json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "log", log);
        cJSON_AddItemToObject(object, "sessions", rows ? rows : cJSON_CreateArray());
        cli_put_json(object);
        return CLI_OK;
    }
    printf("%7s  %-36s  %-4s  %13s  %11s  %s\n", "SESSION", "CLIENT", "HERE", "LAST SEQUENCE",
           "LAST OFFSET", "LAST APPEND");
    cJSON_ArrayForEach(row, rows) put_session(row);
    cJSON_Delete(rows);
    return CLI_OK;
}

/* ---- counters ---- */

struct counters {
    bool all;
    cJSON *json; /* NULL: to be printed */
};

static void counter_put(const struct counters *counters, const char *name, double value)
{
    if (value == 0 && !counters->all)
        return;
    if (counters->json)
        cJSON_AddNumberToObject(counters->json, name, value);
    else
        printf("%s %.0f\n", name, value);
}

/* The numbers in `object`, and in the objects in it, under their path. */
static void counters_walk(const struct counters *counters, const char *path, const cJSON *object)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        char name[160];
        snprintf(name, sizeof(name), "%s%s%s", path, path[0] ? "." : "",
                 item->string ? item->string : "");
        if (cJSON_IsObject(item))
            counters_walk(counters, name, item);
        else if (cJSON_IsNumber(item))
            counter_put(counters, name, item->valuedouble);
    }
}

static void counters_of(const struct counters *counters, cJSON *root)
{
    static const char *const not_counters[] = {"node", "incarnation", "uptime_ms"};
    cJSON *logs = cJSON_DetachItemFromObjectCaseSensitive(root, "logs");
    cJSON *workers = cJSON_DetachItemFromObjectCaseSensitive(root, "workers");
    cJSON *item;
    char path[64];
    for (size_t i = 0; i < sizeof(not_counters) / sizeof(not_counters[0]); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(root, not_counters[i]);
    counters_walk(counters, "", root); /* peers are an array: state, not counters */
    cJSON_ArrayForEach(item, workers)
    {
        snprintf(path, sizeof(path), "workers.%" PRIu64, cli_json_number(item, "worker"));
        cJSON_DeleteItemFromObjectCaseSensitive(item, "worker");
        counters_walk(counters, path, item);
    }
    cJSON_ArrayForEach(item, logs)
    {
        snprintf(path, sizeof(path), "logs.%" PRIu64, cli_json_number(item, "log"));
        counters_walk(counters, path, cJSON_GetObjectItemCaseSensitive(item, "counters"));
    }
    cJSON_Delete(logs);
    cJSON_Delete(workers);
}

int cli_counters(int count, char **arguments)
{
    struct cli_common common = {.name = "counters", .help = counters_help};
    struct counters counters = {0};
    const struct cli_option options[] = {{"all", CLI_FLAG, &counters.all, NULL}};
    cJSON *root;
    int exit_code = cli_read(&common, options, 1, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != 0)
        return cli_usage(&common, "'%s' is too much", common.operands[0]);
    exit_code = cli_state(&common, NULL, &root, NULL);
    if (exit_code != CLI_OK)
        return exit_code;
    counters.json = common.json ? cJSON_CreateObject() : NULL;
    counters_of(&counters, root);
    if (counters.json)
        cli_put_json(counters.json);
    cJSON_Delete(root);
    return CLI_OK;
}

/* ---- where a log ends ---- */

int cli_tail_position(int count, char **arguments)
{
    struct cli_common common = {.name = "tail-position", .help = position_help};
    const char *option = NULL;
    enum leat_ack level = LEAT_ACK_DURABLE;
    struct leat_client *client;
    uint64_t position, offset;
    uint32_t log;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &option, NULL},
        {"level", CLI_LEVEL, &level, NULL},
        {"ack", CLI_LEVEL, &level, NULL},
    };
    int exit_code = cli_read(&common, options, 3, count, arguments);
    if (common.done)
        return exit_code;
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "one LOG at a time");
    if (exit_code == CLI_OK)
        exit_code = cli_attach(&common, &client);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_tail(client, log, level, &position, &offset);
    leat_detach(client);
    if (rc != LEAT_OK)
        return cli_fail_look(rc, "tail-position");
    printf(common.json ? "{\"log\":%" PRIu32 ",\"position\":%" PRIu64 ",\"next_offset\":%" PRIu64
                         "}\n"
                       : "log %" PRIu32 " ends at position %" PRIu64 ", next offset %" PRIu64 "\n",
           log, position, offset);
    return CLI_OK;
}
