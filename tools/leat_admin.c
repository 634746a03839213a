/* SPDX-License-Identifier: Apache-2.0
 *
 * leat status, format, transfer, amnesia, trim.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "leat_cli.h"
#include "node/node.h"

struct admin {
    const char *socket, *config;
    bool json, help, has_position;
    uint64_t to_node;
    uint64_t position;
};

static const struct option long_options[] = {
    {"socket", required_argument, NULL, 'S'},
    {"config", required_argument, NULL, 'C'},
    {"json", no_argument, NULL, 'j'},
    {"to", required_argument, NULL, 't'},
    {"position", required_argument, NULL, 'p'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* Options that a command does not take are refused: `allowed` names its own. */
static bool read_options(int count, char **arguments, const char *allowed, struct admin *ret_admin)
{
    int option;
    *ret_admin = (struct admin){0};
    while ((option = getopt_long(count, arguments, "h", long_options, NULL)) >= 0) {
        if (option == 'h')
            ret_admin->help = true;
        else if (option == '?' || !strchr(allowed, option))
            return false;
        else if (option == 'S')
            ret_admin->socket = optarg;
        else if (option == 'C')
            ret_admin->config = optarg;
        else if (option == 'j')
            ret_admin->json = true;
        else if (option == 't' && !cli_number(optarg, UINT32_MAX - 1, &ret_admin->to_node))
            return false;
        else if (option == 'p') {
            ret_admin->has_position = true;
            if (!cli_number(optarg, UINT64_MAX - 1, &ret_admin->position))
                return false;
        }
    }
    return true;
}

/* ---- status ---- */

static void put_value(const cJSON *value, unsigned depth)
{
    const cJSON *item;
    unsigned place = 0;
    if (!cJSON_IsObject(value) && !cJSON_IsArray(value)) {
        char *text = cJSON_IsString(value) ? NULL : cJSON_PrintUnformatted(value);
        printf(" %s\n", text ? text : cJSON_IsString(value) ? value->valuestring : "");
        cJSON_free(text);
        return;
    }
    putchar('\n');
    cJSON_ArrayForEach(item, value)
    {
        if (item->string)
            printf("%*s%s:", (int)(2 * depth), "", item->string);
        else
            printf("%*s- %u:", (int)(2 * depth), "", place++);
        put_value(item, depth + 1);
    }
}

int cli_status(int count, char **arguments)
{
    static const char help[] =
        "usage: leat status [--json] [--socket PATH | --config FILE]\n"
        "\n"
        "Prints what the node on this host does and knows: roles, positions, peers, counters.\n"
        "\n"
        "  --json         one JSON object, for programs\n"
        "  --socket PATH  the node's control socket\n"
        "  --config FILE  take the socket from a node's configuration\n"
        "\n"
        "examples:\n"
        "  leat status\n"
        "  leat status --json --config node1.yaml\n";
    struct admin admin;
    const char *socket;
    char buffer[256], *json;
    if (!read_options(count, arguments, "SCj", &admin) || optind != count)
        return cli_fail(CLI_USAGE, "status: a wrong option or value: see leat status --help");
    if (admin.help)
        return cli_help(help, true);
    int exit_code = cli_socket(admin.socket, admin.config, buffer, &socket);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_status(socket, &json);
    if (rc != LEAT_OK) {
        cli_fail_error(rc, "status");
        return rc == LEAT_EPERM ? CLI_FAILED : CLI_UNREACHABLE;
    }
    cJSON *root = admin.json ? NULL : cJSON_Parse(json);
    const cJSON *item = NULL;
    if (!root)
        printf("%s\n", json);
    cJSON_ArrayForEach(item, root)
    {
        printf("%s:", item->string ? item->string : "-");
        put_value(item, 1);
    }
    cJSON_Delete(root);
    free(json);
    return CLI_OK;
}

/* ---- operating ---- */

static int operated(int rc, const char *doing, const char *explanation)
{
    if (rc == LEAT_OK) {
        printf("%s\n", explanation[0] ? explanation : "done");
        return CLI_OK;
    }
    if (rc == LEAT_ECLOSED || rc == LEAT_EDEADLINE)
        return cli_fail(CLI_UNKNOWN, "%s: the node did not answer: it may have been done", doing);
    if (explanation[0] == 0)
        return cli_fail_error(rc, doing);
    return cli_fail(cli_exit_for(rc), "%s: %s (%s)", doing, leat_error_text(rc), explanation);
}

static bool log_argument(int count, char **arguments, uint32_t *ret_log)
{
    uint64_t number;
    if (count - optind != 1 || !cli_number(arguments[optind], UINT32_MAX, &number))
        return false;
    *ret_log = (uint32_t)number;
    return true;
}

int cli_transfer(int count, char **arguments)
{
    static const char help[] =
        "usage: leat transfer LOG [--to NODE] [--socket PATH | --config FILE]\n"
        "\n"
        "Asks the node on this host, which leads LOG, to hand leadership over: to NODE, or to the\n"
        "peer that is furthest.\n"
        "\n"
        "example:\n"
        "  leat transfer 1 --to 2\n";
    struct admin admin;
    const char *socket;
    char buffer[256], explanation[512] = "";
    uint32_t log;
    bool good = read_options(count, arguments, "SCt", &admin);
    if (good && admin.help)
        return cli_help(help, true);
    if (!good || !log_argument(count, arguments, &log))
        return cli_fail(CLI_USAGE, "transfer: one LOG and valid options: see leat transfer --help");
    int exit_code = cli_socket(admin.socket, admin.config, buffer, &socket);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_transfer(socket, log, (uint32_t)admin.to_node, explanation, sizeof(explanation));
    return operated(rc, "transfer", explanation);
}

int cli_amnesia(int count, char **arguments)
{
    static const char help[] = "usage: leat amnesia accept LOG [--socket PATH | --config FILE]\n"
                               "\n"
                               "Lets LOG elect a leader though replicas that lost their memory are "
                               "needed for it: appends\n"
                               "that were acknowledged as replicated, and not as durable, may be "
                               "lost by it. It is counted\n"
                               "and told in the status.\n"
                               "\n"
                               "example:\n"
                               "  leat amnesia accept 1\n";
    struct admin admin;
    const char *socket;
    char buffer[256], explanation[512] = "";
    uint32_t log;
    bool good = read_options(count, arguments, "SC", &admin);
    if (good && admin.help)
        return cli_help(help, true);
    good = good && optind < count && strcmp(arguments[optind], "accept") == 0;
    optind += good;
    if (!good || !log_argument(count, arguments, &log))
        return cli_fail(CLI_USAGE, "amnesia: accept and one LOG: see leat amnesia --help");
    int exit_code = cli_socket(admin.socket, admin.config, buffer, &socket);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_amnesia_accept(socket, log, explanation, sizeof(explanation));
    return operated(rc, "amnesia accept", explanation);
}

int cli_trim(int count, char **arguments)
{
    static const char help[] =
        "usage: leat trim LOG --position P [--socket PATH | --config FILE]\n"
        "\n"
        "Lets go of LOG's records below the segment that holds position P, on all nodes.\n"
        "Positions are those of leat tail --json.\n"
        "\n"
        "example:\n"
        "  leat trim 1 --position 33554432\n";
    struct admin admin;
    const char *socket;
    char buffer[256], explanation[512] = "";
    uint32_t log;
    bool good = read_options(count, arguments, "SCp", &admin);
    if (good && admin.help)
        return cli_help(help, true);
    if (!good || !admin.has_position || !log_argument(count, arguments, &log))
        return cli_fail(CLI_USAGE, "trim: one LOG and --position: see leat trim --help");
    int exit_code = cli_socket(admin.socket, admin.config, buffer, &socket);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_trim(socket, log, admin.position, explanation, sizeof(explanation));
    return operated(rc, "trim", explanation);
}

/* ---- format ---- */

int cli_format(int count, char **arguments)
{
    static const char help[] =
        "usage: leat format --config FILE\n"
        "\n"
        "Makes the data directory of the node that FILE describes. A directory that is formatted\n"
        "already is refused.\n"
        "\n"
        "example:\n"
        "  leat format --config node1.yaml\n";
    struct admin admin;
    struct leat_config config;
    char error[512] = "";
    bool good = read_options(count, arguments, "C", &admin);
    if (good && admin.help)
        return cli_help(help, true);
    if (!good || !admin.config || optind != count)
        return cli_fail(CLI_USAGE, "format: --config FILE: see leat format --help");
    if (leat_config_read(admin.config, &config, error, sizeof(error)) != LEAT_OK)
        return cli_fail(CLI_USAGE, "%s", error);
    int rc = leat_node_format(&config, error, sizeof(error));
    if (rc != LEAT_OK)
        return cli_fail(CLI_FAILED, "%s", error[0] ? error : leat_error_text(rc));
    printf("formatted node %" PRIu32 " in %s\n", config.node_id, config.data_dir);
    return CLI_OK;
}
