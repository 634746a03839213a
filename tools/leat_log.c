/* SPDX-License-Identifier: Apache-2.0
 *
 * leat log create, ls, info, configure, trim, rm.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "leat_cli.h"

#define LOGS_MAX   1024u /* as leat_limits() has it */
#define TRIM_LOOKS 5u    /* of two seconds, while the node reads the segment through */

static const char create_help[] =
    "usage: leat log create NAME [OPTION...]\n"
    "\n"
    "Makes a log on every node; when it returns the log takes appends here.\n"
    "\n"
    "  --segment SIZE          its files' size, a power of two, at least 1MiB [16MiB]\n"
    "  --arena SIZE            memory it takes of each node, at least two segments [two segments]\n"
    "  --largest-entry SIZE    largest record, at most a quarter of a segment [up to 1MiB]\n"
    "  --replicated            takes appends acknowledged from the memory of a majority\n"
    "  --retention-bytes SIZE  what exceeds it is trimmed; 0: keeps everything [0]\n"
    "  --retention-age TIME    what is older is trimmed; 0: keeps everything [0]\n"
    "  --timeout SECONDS       [10]\n"
    "  --json                  the log as an object\n"
    "  --socket PATH, --config FILE\n"
    "\n"
    "examples:\n"
    "  leat log create orders\n"
    "  leat log create audit --retention-age 24h --segment 1MiB --arena 2MiB\n";

static const char ls_help[] =
    "usage: leat log ls [--names] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Lists the cluster's logs.\n"
    "\n"
    "  --names  names only, one a line\n"
    "  --json   {\"logs\": [...]}, sizes in bytes, times in nanoseconds\n"
    "\n"
    "examples:\n"
    "  leat log ls\n"
    "  leat log ls --names | sort\n";

static const char info_help[] =
    "usage: leat log info LOG [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "One log: its settings, and where it stands on the node of this host.\n"
    "\n"
    "examples:\n"
    "  leat log info orders\n"
    "  leat log info 1 --json\n";

static const char configure_help[] =
    "usage: leat log configure LOG [--retention-bytes SIZE] [--retention-age TIME] [--json]\n"
    "                          [--socket PATH | --config FILE]\n"
    "\n"
    "Sets a log's retention; what is not named stays. 0 keeps everything.\n"
    "\n"
    "examples:\n"
    "  leat log configure orders --retention-bytes 10GiB\n"
    "  leat log configure orders --retention-age 0\n";

static const char rm_help[] =
    "usage: leat log rm LOG [--yes] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Deletes a log and all its records, on every node, for good. Asks first on a terminal; "
    "elsewhere\n"
    "--yes has to say so.\n"
    "\n"
    "example:\n"
    "  leat log rm orders --yes\n";

static const char trim_help[] =
    "usage: leat log trim LOG (--position P | --offset N | --keep-bytes SIZE) [--json]\n"
    "                     [--socket PATH | --config FILE]\n"
    "\n"
    "Lets go of LOG's oldest records on all nodes, by whole segments. Any node may be asked.\n"
    "\n"
    "  --position P       what lies below the segment that holds position P (of leat tail --json)\n"
    "  --offset N         what lies below the segment that holds record N\n"
    "  --keep-bytes SIZE  all but the newest SIZE bytes\n"
    "\n"
    "examples:\n"
    "  leat log trim orders --offset 1000000\n"
    "  leat log trim orders --keep-bytes 1GiB\n";

static void log_json(cJSON *object, const struct leat_log_entry *entry)
{
    cJSON_AddNumberToObject(object, "log", entry->log);
    cJSON_AddStringToObject(object, "name", entry->name);
    cJSON_AddNumberToObject(object, "segment", (double)entry->segment_bytes);
    cJSON_AddNumberToObject(object, "arena", (double)entry->arena_bytes);
    cJSON_AddNumberToObject(object, "largest_entry", entry->entry_bytes_max);
    cJSON_AddBoolToObject(object, "accepts_replicated", entry->accepts_replicated);
    cJSON_AddNumberToObject(object, "retention_bytes", (double)entry->retention_bytes);
    cJSON_AddNumberToObject(object, "retention_ns", (double)entry->retention_ns);
    cJSON_AddNumberToObject(object, "created_ns", (double)entry->created_ns);
    cJSON_AddNumberToObject(object, "owner", entry->owner_uid);
}

/* CLI_OK, or an exit code after its line. */
static int logs_read(const struct cli_common *common, struct leat_log_entry **ret_entries,
                     size_t *ret_count)
{
    struct leat_log_entry *entries = calloc(LOGS_MAX, sizeof(*entries));
    if (!entries)
        return cli_fail(CLI_FAILED, "no memory for the list of logs");
    int rc = leat_logs(common->socket, entries, LOGS_MAX, ret_count);
    if (rc != LEAT_OK) {
        free(entries);
        return cli_fail_look(rc, common->name);
    }
    *ret_entries = entries;
    return CLI_OK;
}

static int log_entry(const struct cli_common *common, uint32_t log,
                     struct leat_log_entry *ret_entry)
{
    struct leat_log_entry *entries = NULL;
    size_t count, i;
    int exit_code = logs_read(common, &entries, &count);
    if (exit_code != CLI_OK)
        return exit_code;
    for (i = 0; i < count && entries[i].log != log; i++)
        continue;
    if (i < count)
        *ret_entry = entries[i];
    else
        exit_code =
            cli_fail(CLI_FAILED, "%s: no log %" PRIu32 ": see leat log ls", common->name, log);
    free(entries);
    return exit_code;
}

/* ---- create ---- */

static int create_run(const struct cli_common *common, const struct leat_log_entry *settings,
                      uint64_t timeout_ns)
{
    char explanation[512] = "";
    struct leat_log_entry made;
    uint32_t log;
    int rc = leat_log_create(common->socket, settings, timeout_ns, &log, explanation,
                             sizeof(explanation));
    if (rc != LEAT_OK)
        return cli_operated(common, rc, explanation);
    if (!common->json) {
        printf("log %" PRIu32 ", %s, takes appends\n", log, settings->name);
        return CLI_OK;
    }
    int exit_code = log_entry(common, log, &made);
    if (exit_code != CLI_OK)
        return exit_code;
    cJSON *object = cJSON_CreateObject();
    log_json(object, &made);
    cli_put_json(object);
    return CLI_OK;
}

int cli_log_create(int count, char **arguments)
{
    struct cli_common common = {.name = "log create", .help = create_help};
    struct leat_log_entry settings = {0};
    uint64_t entry_bytes = 0, timeout_ns = 10000000000;
    bool replicated = false;
    const struct cli_option options[] = {
        {"segment", CLI_SIZE, &settings.segment_bytes, NULL},
        {"arena", CLI_SIZE, &settings.arena_bytes, NULL},
        {"largest-entry", CLI_SIZE, &entry_bytes, NULL},
        {"replicated", CLI_FLAG, &replicated, NULL},
        {"retention-bytes", CLI_SIZE, &settings.retention_bytes, NULL},
        {"retention-age", CLI_TIME, &settings.retention_ns, NULL},
        {"timeout", CLI_SECONDS, &timeout_ns, NULL},
    };
    int exit_code =
        cli_read(&common, options, sizeof(options) / sizeof(options[0]), count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != 1 || strlen(common.operands[0]) >= sizeof(settings.name))
        return cli_usage(&common, "one NAME of at most %u bytes", LEAT_LOG_NAME_BYTES - 1);
    if (entry_bytes > UINT32_MAX)
        return cli_usage(&common, "--largest-entry: at most a quarter of a segment");
    strcpy(settings.name, common.operands[0]); /* its length was looked at */
    settings.entry_bytes_max = (uint32_t)entry_bytes;
    settings.accepts_replicated = replicated;
    return create_run(&common, &settings, timeout_ns);
}

/* ---- ls, info ---- */

static const char *retention_text(const struct leat_log_entry *entry, char buffer[80])
{
    char bytes[32], age[32];
    if (entry->retention_bytes == 0 && entry->retention_ns == 0)
        return "all";
    snprintf(buffer, 80, "%s%s%s",
             entry->retention_bytes ? cli_size_text(entry->retention_bytes, bytes) : "",
             entry->retention_bytes && entry->retention_ns ? " " : "",
             entry->retention_ns ? cli_time_text(entry->retention_ns, age) : "");
    return buffer;
}

static void ls_table(const struct leat_log_entry *entries, size_t count)
{
    char segment[32], arena[32], largest[32], retention[80];
    int width = 4;
    for (size_t i = 0; i < count; i++)
        width = (int)strlen(entries[i].name) > width ? (int)strlen(entries[i].name) : width;
    printf("%5s  %-*s  %8s  %8s  %13s  %-10s  %5s  %s\n", "LOG", width, "NAME", "SEGMENT", "ARENA",
           "LARGEST ENTRY", "REPLICATED", "OWNER", "KEEPS");
    for (size_t i = 0; i < count; i++) {
        const struct leat_log_entry *entry = &entries[i];
        printf("%5" PRIu32 "  %-*s  %8s  %8s  %13s  %-10s  %5" PRIu32 "  %s\n", entry->log, width,
               entry->name, cli_size_text(entry->segment_bytes, segment),
               cli_size_text(entry->arena_bytes, arena),
               cli_size_text(entry->entry_bytes_max, largest),
               entry->accepts_replicated ? "yes" : "no", entry->owner_uid,
               retention_text(entry, retention));
    }
}

int cli_log_ls(int count, char **arguments)
{
    struct cli_common common = {.name = "log ls", .help = ls_help};
    bool names = false;
    const struct cli_option options[] = {{"names", CLI_FLAG, &names, NULL}};
    struct leat_log_entry *entries = NULL;
    size_t log_count;
    int exit_code = cli_read(&common, options, 1, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != 0)
        return cli_usage(&common, "'%s' is too much", common.operands[0]);
    exit_code = logs_read(&common, &entries, &log_count);
    if (exit_code != CLI_OK)
        return exit_code;
    if (common.json) {
        cJSON *object = cJSON_CreateObject();
        cJSON *logs = cJSON_AddArrayToObject(object, "logs");
        for (size_t i = 0; i < log_count; i++) {
            cJSON *one = cJSON_CreateObject();
            log_json(one, &entries[i]);
            cJSON_AddItemToArray(logs, one);
        }
        cli_put_json(object);
    } else if (names) {
        for (size_t i = 0; i < log_count; i++)
            puts(entries[i].name);
    } else {
        ls_table(entries, log_count);
    }
    free(entries);
    return CLI_OK;
}

static void info_print(const struct leat_log_entry *entry, const cJSON *state)
{
    char text[80];
    uint64_t base_pos = cli_json_number(state, "base");
    uint64_t commit_d = cli_json_number(state, "commit_durable");
    printf("log            %" PRIu32 ", %s\n", entry->log, entry->name);
    printf("created        %s, by uid %" PRIu32 "\n", cli_date_text(entry->created_ns, text),
           entry->owner_uid);
    printf("segment        %s\n", cli_size_text(entry->segment_bytes, text));
    printf("arena          %s\n", cli_size_text(entry->arena_bytes, text));
    printf("largest entry  %s\n", cli_size_text(entry->entry_bytes_max, text));
    printf("replicated     %s\n", entry->accepts_replicated ? "yes" : "no");
    printf("keeps          %s\n", retention_text(entry, text));
    printf("role here      %s, term %" PRIu64 ", worker %" PRIu64 "\n",
           cli_json_string(state, "role"), cli_json_number(state, "term"),
           cli_json_number(state, "worker"));
    if (cli_json_number(state, "leader") != 0)
        printf("leader         node %" PRIu64 "\n", cli_json_number(state, "leader"));
    else
        printf("leader         none is known\n");
    printf("holds          %s, positions %" PRIu64 " to %" PRIu64 "\n",
           cli_about_bytes(commit_d > base_pos ? commit_d - base_pos : 0, text), base_pos,
           commit_d);
    printf("next offset    %" PRIu64 "\n", cli_json_number(state, "next_offset"));
    printf("sessions       %" PRIu64 "\n", cli_json_number(state, "sessions"));
}

int cli_log_info(int count, char **arguments)
{
    struct cli_common common = {.name = "log info", .help = info_help};
    const char *option = NULL;
    const struct cli_option options[] = {{"log", CLI_TEXT, &option, NULL}};
    struct leat_log_entry entry;
    cJSON *root;
    uint32_t log;
    int exit_code = cli_read(&common, options, 1, count, arguments);
    if (common.done)
        return exit_code;
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "'%s' is too much", common.operands[0]);
    if (exit_code == CLI_OK)
        exit_code = log_entry(&common, log, &entry);
    if (exit_code == CLI_OK)
        exit_code = cli_state(&common, &log, &root, NULL);
    if (exit_code != CLI_OK)
        return exit_code;
    cJSON *logs = cJSON_GetObjectItemCaseSensitive(root, "logs");
    cJSON *state = cJSON_DetachItemFromArray(logs, 0);
    cJSON_Delete(root);
    if (!common.json) {
        info_print(&entry, state);
        cJSON_Delete(state);
        return CLI_OK;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(state, "session_rows");
    cJSON_AddNumberToObject(state, "created_ns", (double)entry.created_ns);
    cli_put_json(state);
    return CLI_OK;
}

/* ---- configure, rm ---- */

int cli_log_configure(int count, char **arguments)
{
    struct cli_common common = {.name = "log configure", .help = configure_help};
    const char *option = NULL;
    char explanation[512] = "";
    uint64_t bytes = 0, age_ns = 0;
    bool has_bytes = false, has_age = false;
    struct leat_log_entry entry;
    uint32_t log;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &option, NULL},
        {"retention-bytes", CLI_SIZE, &bytes, &has_bytes},
        {"retention-age", CLI_TIME, &age_ns, &has_age},
    };
    int exit_code = cli_read(&common, options, 3, count, arguments);
    if (common.done)
        return exit_code;
    if (!has_bytes && !has_age)
        return cli_usage(&common, "--retention-bytes or --retention-age is missing");
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK)
        exit_code = log_entry(&common, log, &entry);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc =
        leat_log_configure(common.socket, log, has_bytes ? bytes : entry.retention_bytes,
                           has_age ? age_ns : entry.retention_ns, explanation, sizeof(explanation));
    return cli_operated(&common, rc, explanation);
}

/* CLI_OK: go on. */
static int rm_confirm(const struct cli_common *common, const struct leat_log_entry *entry)
{
    char answer[16] = "";
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return cli_usage(common, "this deletes all records of '%s': --yes confirms", entry->name);
    fprintf(stderr, "delete log %" PRIu32 ", %s, and all its records on every node? [y/N] ",
            entry->log, entry->name);
    if (!fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
        return cli_fail(CLI_FAILED, "log rm: not confirmed, nothing was done");
    return CLI_OK;
}

int cli_log_rm(int count, char **arguments)
{
    struct cli_common common = {.name = "log rm", .help = rm_help};
    const char *option = NULL;
    char explanation[512] = "";
    bool yes = false;
    struct leat_log_entry entry;
    uint32_t log;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &option, NULL},
        {"yes", CLI_FLAG, &yes, NULL},
    };
    int exit_code = cli_read(&common, options, 2, count, arguments);
    if (common.done)
        return exit_code;
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "one LOG at a time");
    if (exit_code == CLI_OK)
        exit_code = log_entry(&common, log, &entry);
    if (exit_code == CLI_OK && !yes)
        exit_code = rm_confirm(&common, &entry);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_log_delete(common.socket, log, explanation, sizeof(explanation));
    return cli_operated(&common, rc, explanation);
}

/* ---- trim ---- */

static int trim_by_offset(const struct cli_common *common, uint32_t log, uint64_t offset,
                          uint64_t *ret_position)
{
    struct leat_client *client;
    struct leat_reader *reader;
    struct leat_record record;
    int exit_code = cli_attach(common, &client);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_reader_open(client, log, LEAT_FROM_OFFSET, offset, LEAT_ACK_DURABLE, &reader);
    if (rc == LEAT_OK) {
        for (unsigned i = 0; i < TRIM_LOOKS && !cli_interrupted; i++) {
            rc = leat_reader_next(reader, &record);
            if (rc != LEAT_EVERIFYING)
                break;
        }
        leat_reader_close(reader);
    }
    leat_detach(client);
    if (rc == LEAT_EAGAIN)
        return cli_fail(CLI_FAILED, "log trim: no record %" PRIu64 " is committed yet", offset);
    if (rc != LEAT_OK)
        return cli_fail_look(rc, "log trim");
    *ret_position = record.position;
    return CLI_OK;
}

static int trim_by_size(const struct cli_common *common, uint32_t log, uint64_t keep_bytes,
                        uint64_t *ret_position)
{
    cJSON *root;
    int exit_code = cli_state(common, &log, &root, NULL);
    if (exit_code != CLI_OK)
        return exit_code;
    const cJSON *state = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "logs"), 0);
    uint64_t commit_d = cli_json_number(state, "commit_durable");
    *ret_position = commit_d > keep_bytes ? commit_d - keep_bytes : 0;
    cJSON_Delete(root);
    return CLI_OK;
}

int cli_trim(int count, char **arguments)
{
    struct cli_common common = {.name = "log trim", .help = trim_help};
    const char *option = NULL;
    char explanation[512] = "";
    uint64_t position = 0, offset = 0, keep_bytes = 0;
    bool by_position = false, by_offset = false, by_size = false;
    uint32_t log;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &option, NULL},
        {"position", CLI_NUMBER, &position, &by_position},
        {"offset", CLI_NUMBER, &offset, &by_offset},
        {"keep-bytes", CLI_SIZE, &keep_bytes, &by_size},
    };
    int exit_code = cli_read(&common, options, 4, count, arguments);
    if (common.done)
        return exit_code;
    if (by_position + by_offset + by_size != 1)
        return cli_usage(&common, "one of --position, --offset and --keep-bytes");
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "one LOG at a time");
    if (exit_code == CLI_OK && by_offset)
        exit_code = trim_by_offset(&common, log, offset, &position);
    if (exit_code == CLI_OK && by_size)
        exit_code = trim_by_size(&common, log, keep_bytes, &position);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_trim(common.socket, log, position, explanation, sizeof(explanation));
    return cli_operated(&common, rc, explanation);
}
