/* SPDX-License-Identifier: Apache-2.0
 *
 * leat status: the node's state as a table, as JSON, or again and again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "leat_cli.h"

static const char help[] =
    "usage: leat status [--log LOG] [--watch [SECONDS]] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "What the node on this host does and knows: who leads each log, the ends in memory (M) and on\n"
    "disk (D), the commits, how far its followers are behind, the health of disk and network.\n"
    "\n"
    "  --log LOG          only this log\n"
    "  --watch [SECONDS]  again every SECONDS [1], in place on a terminal, until interrupted\n"
    "  --json             one JSON object a line, for programs\n"
    "  --socket PATH      the node's control socket\n"
    "  --config FILE      take the socket from a node's configuration\n"
    "\n"
    "examples:\n"
    "  leat status\n"
    "  leat status --watch 0.5 --log orders\n"
    "  leat status --json --config node1.yaml\n";

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* ---- the node ---- */

static void put_node(const cJSON *root)
{
    char uptime[32];
    printf("node %" PRIu64 "  up %s  incarnation %" PRIu64 "  clients %" PRIu64 "%s\n",
           cli_json_number(root, "node"),
           cli_about_ns(cli_json_number(root, "uptime_ms") * 1000000, uptime),
           cli_json_number(root, "incarnation"), cli_json_number(root, "clients"),
           cli_json_number(root, "draining") ? "  draining" : "");
}

static void put_disk(const cJSON *root)
{
    const cJSON *disk = member(root, "disk");
    char p50[32], p99[32], max[32];
    if (!disk)
        return;
    printf("disk   write p50 %s, p99 %s, max %s",
           cli_about_ns(cli_json_number(disk, "write_p50_ns"), p50),
           cli_about_ns(cli_json_number(disk, "write_p99_ns"), p99),
           cli_about_ns(cli_json_number(disk, "write_max_ns"), max));
    if (cli_json_number(disk, "full_waits") > 0)
        printf(", no space %" PRIu64 " times", cli_json_number(disk, "full_waits"));
    if (cli_json_number(disk, "damages") > 0)
        printf(", %" PRIu64 " segments damaged, %" PRIu64 " repaired",
               cli_json_number(disk, "damages"), cli_json_number(disk, "repairs"));
    putchar('\n');
}

static void put_links(const cJSON *root)
{
    const cJSON *peer;
    cJSON_ArrayForEach(peer, member(root, "peers"))
    {
        char heard[32];
        bool up = cli_json_number(peer, "link") != 0;
        printf("link   node %" PRIu64 "  %s", cli_json_number(peer, "node"), up ? "up" : "DOWN");
        if (cli_json_number(peer, "known"))
            printf(", heard %s ago",
                   cli_about_ns(cli_json_number(peer, "heard_ms_ago") * 1000000, heard));
        else
            printf(", not heard of yet");
        printf("%s\n", cli_json_number(peer, "refused") ? ", REFUSED (see its log line)" : "");
    }
}

/* Counters of what was dropped or refused, when there are any. */
static void put_drops_of(const cJSON *counters, const char *group, const char *needle, bool *any)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, counters)
    {
        if (!cJSON_IsNumber(item) || item->valuedouble <= 0 || !strstr(item->string, needle))
            continue;
        printf("%s%s%s %.0f", *any ? ", " : "drops  ", group, item->string, item->valuedouble);
        *any = true;
    }
}

static void put_drops(const cJSON *root)
{
    bool any = false;
    put_drops_of(member(root, "drops"), "", "", &any);
    put_drops_of(member(root, "port"), "port ", "drop", &any);
    put_drops_of(member(root, "port"), "port ", "rx_no_buffer", &any);
    put_drops_of(member(root, "port"), "port ", "rx_missed", &any);
    put_drops_of(member(root, "control"), "control ", "refused", &any);
    put_drops_of(member(root, "control"), "control ", "dropped", &any);
    put_drops_of(root, "", "client_violations", &any);
    put_drops_of(root, "", "short_paths", &any);
    put_drops_of(root, "", "absences", &any);
    puts(any ? "" : "drops  none");
}

/* ---- its logs ---- */

static void put_log_notes(const cJSON *log)
{
    static const struct {
        const char *name, *text;
    } notes[] = {{"amnesiac", "AMNESIAC"}, {"damaged", "DAMAGED"}};
    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        if (cli_json_number(log, notes[i].name))
            printf("  %s", notes[i].text);
    }
    if (cli_json_number(log, "leader") == 0)
        printf("  NO LEADER");
    else if (!cli_json_number(log, "reconciled") &&
             strcmp(cli_json_string(log, "role"), "follower") == 0)
        printf("  reconciling");
}

static uint64_t behind(uint64_t ahead, uint64_t position)
{
    return ahead > position ? ahead - position : 0;
}

static void put_followers(const cJSON *log)
{
    const cJSON *follower;
    uint64_t end_pos = cli_json_number(log, "memory");
    cJSON_ArrayForEach(follower, member(log, "followers"))
    {
        char memory[32], disk[32];
        printf("%6s node %" PRIu64 "  ", "", cli_json_number(follower, "node"));
        if (!cli_json_number(follower, "matched"))
            printf("not reconciled yet");
        else
            printf("behind: memory %s, disk %s",
                   cli_about_bytes(behind(end_pos, cli_json_number(follower, "memory")), memory),
                   cli_about_bytes(behind(end_pos, cli_json_number(follower, "durable")), disk));
        printf("%s\n", cli_json_number(follower, "amnesiac") ? "  AMNESIAC" : "");
    }
}

static void put_logs(const cJSON *root)
{
    const cJSON *log;
    int width = 4;
    cJSON_ArrayForEach(log, member(root, "logs"))
    {
        int length = (int)strlen(cli_json_string(log, "name"));
        width = length > width ? length : width;
    }
    printf("\n%5s  %-*s  %-13s %6s %6s %12s %12s %12s %12s %10s %8s\n", "LOG", width, "NAME",
           "ROLE", "TERM", "LEADER", "M", "D", "COMMIT R", "COMMIT D", "NEXT", "SESSIONS");
    cJSON_ArrayForEach(log, member(root, "logs"))
    {
        printf("%5" PRIu64 "  %-*s  %-13s %6" PRIu64 " %6" PRIu64 " %12" PRIu64 " %12" PRIu64
               " %12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %8" PRIu64,
               cli_json_number(log, "log"), width, cli_json_string(log, "name"),
               cli_json_string(log, "role"), cli_json_number(log, "term"),
               cli_json_number(log, "leader"), cli_json_number(log, "memory"),
               cli_json_number(log, "durable"), cli_json_number(log, "commit_replicated"),
               cli_json_number(log, "commit_durable"), cli_json_number(log, "next_offset"),
               cli_json_number(log, "sessions"));
        put_log_notes(log);
        putchar('\n');
        put_followers(log);
    }
}

static void put_table(const cJSON *root)
{
    put_node(root);
    put_disk(root);
    put_links(root);
    put_drops(root);
    put_logs(root);
}

/* ---- again and again ---- */

static int status_once(const struct cli_common *common, const uint32_t *log, bool in_place)
{
    cJSON *root;
    char *text = NULL;
    int exit_code = cli_state(common, log, &root, &text);
    if (exit_code != CLI_OK)
        return exit_code;
    if (in_place)
        fputs("\033[H\033[J", stdout);
    if (common->json)
        puts(text);
    else
        put_table(root);
    fflush(stdout);
    cJSON_Delete(root);
    free(text);
    return CLI_OK;
}

static int status_watch(const struct cli_common *common, const uint32_t *log, uint64_t pause_ns)
{
    bool in_place = isatty(STDOUT_FILENO) && !common->json;
    struct timespec pause = {.tv_sec = (time_t)(pause_ns / 1000000000u),
                             .tv_nsec = (long)(pause_ns % 1000000000u)};
    for (bool first = true;; first = false) {
        if (!first && !in_place && !common->json)
            putchar('\n');
        int exit_code = status_once(common, log, in_place);
        if (exit_code != CLI_OK && first)
            return exit_code; /* later it may be away for a while */
        if (ferror(stdout))
            return CLI_OK;
        if (cli_interrupted || (nanosleep(&pause, NULL) != 0 && cli_interrupted))
            return CLI_OK;
    }
}

int cli_status(int count, char **arguments)
{
    struct cli_common common = {.name = "status", .help = help};
    const char *log_text = NULL, *watch = NULL;
    uint32_t log = 0;
    uint64_t pause_ns = 1000000000;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &log_text, NULL},
        {"watch", CLI_MAYBE, &watch, NULL},
    };
    int exit_code = cli_read(&common, options, 2, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != 0)
        return cli_usage(&common, "'%s' is too much", common.operands[0]);
    if (watch && watch[0] && (!cli_seconds(watch, &pause_ns) || pause_ns < 10000000))
        return cli_usage(&common, "--watch: '%s' is not a number of seconds from 0.01 on", watch);
    if (log_text)
        exit_code = cli_log(&common, log_text, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    return watch ? status_watch(&common, log_text ? &log : NULL, pause_ns)
                 : status_once(&common, log_text ? &log : NULL, false);
}
