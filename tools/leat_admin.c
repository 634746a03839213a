/* SPDX-License-Identifier: Apache-2.0
 *
 * leat transfer, amnesia, fence, format; how an operation's answer is told.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat_cli.h"
#include "node/node.h"

static const char transfer_help[] =
    "usage: leat transfer LOG [--to NODE] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Has LOG's leader hand leadership over: to NODE, or to the follower that is furthest. Any "
    "node\n"
    "may be asked.\n"
    "\n"
    "example:\n"
    "  leat transfer orders --to 2\n";

static const char amnesia_help[] =
    "usage: leat amnesia accept LOG [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Lets LOG elect a leader though replicas that lost their memory are needed for it: appends\n"
    "that were acknowledged as replicated, and not as durable, may be lost by it. It is counted\n"
    "and told in the status.\n"
    "\n"
    "example:\n"
    "  leat amnesia accept orders\n";

static const char damage_help[] =
    "usage: leat damage accept LOG [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Lets the replica of LOG on this node vote and lead again though it is damaged (leat status):\n"
    "what it had acknowledged, also as durable, and has no more may be lost by it. For a log that\n"
    "has no leader because of it, when no other replica can repair it. It is counted and logged.\n"
    "\n"
    "example:\n"
    "  leat damage accept orders\n";

static const char fence_help[] =
    "usage: leat fence LOG EPOCH [--timeout SECONDS] [--json] [--socket PATH | --config FILE]\n"
    "\n"
    "Shuts older writers out of LOG: from now on it takes appends only of writers with EPOCH or a\n"
    "higher one (leat append --writer-epoch, leat_fence, leat_writer_epoch). EPOCH has to be "
    "above\n"
    "the log's; then exactly one of any number of writers that ask for it gets it.\n"
    "\n"
    "example:\n"
    "  leat fence orders 7 && leat append --log orders --writer-epoch 7 orders.txt\n";

static const char format_help[] =
    "usage: leat format --config FILE [--json]\n"
    "\n"
    "Makes the data directory of the node that FILE describes. A directory that is formatted\n"
    "already is refused.\n"
    "\n"
    "example:\n"
    "  leat format --config node1.yaml\n";

int cli_operated(const struct cli_common *common, int rc, const char *explanation)
{
    if (rc == LEAT_OK && common->json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddBoolToObject(object, "done", true);
        cJSON_AddStringToObject(object, "text", explanation);
        cli_put_json(object);
        return CLI_OK;
    }
    if (rc == LEAT_OK) {
        printf("%s\n", explanation[0] ? explanation : "done");
        return CLI_OK;
    }
    if ((rc == LEAT_ECLOSED || rc == LEAT_EDEADLINE) && explanation[0] == 0)
        return cli_fail(CLI_UNKNOWN, "%s: the node did not answer: it may have been done",
                        common->name);
    if (explanation[0] == 0)
        return cli_fail_error(rc, common->name);
    return cli_fail(cli_exit_for(rc), "%s: %s (%s)", common->name, leat_error_text(rc),
                    explanation);
}

int cli_transfer(int count, char **arguments)
{
    struct cli_common common = {.name = "transfer", .help = transfer_help};
    const char *option = NULL;
    char explanation[512] = "";
    uint64_t to_node = 0;
    uint32_t log;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &option, NULL},
        {"to", CLI_NUMBER, &to_node, NULL},
    };
    int exit_code = cli_read(&common, options, 2, count, arguments);
    if (common.done)
        return exit_code;
    if (to_node >= UINT32_MAX)
        return cli_usage(&common, "--to: no such node");
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "one LOG at a time");
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = leat_transfer(common.socket, log, (uint32_t)to_node, explanation, sizeof(explanation));
    return cli_operated(&common, rc, explanation);
}

/* "amnesia accept LOG", "damage accept LOG" */
static int accept_loss(const char *name, const char *help, int count, char **arguments,
                       int accept(const char *, uint32_t, char *, size_t))
{
    struct cli_common common = {.name = name, .help = help};
    const char *option = NULL;
    char explanation[512] = "";
    uint32_t log;
    const struct cli_option options[] = {{"log", CLI_TEXT, &option, NULL}};
    int exit_code = cli_read(&common, options, 1, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count == 0 || strcmp(common.operands[0], "accept") != 0)
        return cli_usage(&common, "the word accept and one LOG");
    common.operands++;
    common.operand_count--;
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK && common.operand_count != 0)
        exit_code = cli_usage(&common, "one LOG at a time");
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = accept(common.socket, log, explanation, sizeof(explanation));
    return cli_operated(&common, rc, explanation);
}

int cli_amnesia(int count, char **arguments)
{
    return accept_loss("amnesia", amnesia_help, count, arguments, leat_amnesia_accept);
}

int cli_damage(int count, char **arguments)
{
    return accept_loss("damage", damage_help, count, arguments, leat_damage_accept);
}

/* ---- fence ---- */

static int fence_told(const struct cli_common *common, uint64_t epoch,
                      const struct leat_result *result)
{
    if (result->error == LEAT_EFENCEDOUT)
        return cli_fail(CLI_FAILED,
                        "fence: the log's epoch is %" PRIu64 ": a fence has to be above it",
                        result->detail);
    if (result->error != LEAT_OK)
        return cli_fail_error(result->error, "fence");
    if (common->json)
        printf("{\"log\":%" PRIu32 ",\"epoch\":%" PRIu64 ",\"offset\":%" PRIu64 "}\n", result->log,
               epoch, result->offset);
    else
        printf("fenced: log %" PRIu32 " takes writers of epoch %" PRIu64 " and above\n",
               result->log, epoch);
    return CLI_OK;
}

int cli_fence(int count, char **arguments)
{
    struct cli_common common = {.name = "fence", .help = fence_help};
    const char *option = NULL;
    struct leat_client *client;
    struct leat_result result;
    uint64_t epoch, timeout_ns = 10000000000;
    uint32_t log;
    const struct cli_option options[] = {
        {"log", CLI_TEXT, &option, NULL},
        {"timeout", CLI_SECONDS, &timeout_ns, NULL},
    };
    int exit_code = cli_read(&common, options, 2, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != (option ? 1 : 2) ||
        !cli_number(common.operands[option ? 0 : 1], UINT32_MAX, &epoch) || epoch == 0)
        return cli_usage(&common, "LOG, and an EPOCH from 1 to %" PRIu32, UINT32_MAX);
    exit_code = cli_log_operand(&common, option, &log);
    if (exit_code == CLI_OK)
        exit_code = cli_attach(&common, &client);
    if (exit_code != CLI_OK)
        return exit_code;
    (void)leat_fence(client, log, (uint32_t)epoch, timeout_ns, &result);
    exit_code = fence_told(&common, epoch, &result);
    leat_detach(client);
    return exit_code;
}

/* ---- format ---- */

int cli_format(int count, char **arguments)
{
    struct cli_common common = {.name = "format", .help = format_help};
    struct leat_config config;
    char error[512] = "";
    int exit_code = cli_read(&common, NULL, 0, count, arguments);
    if (common.done)
        return exit_code;
    if (!common.config || common.operand_count != 0)
        return cli_usage(&common, "--config FILE, and nothing else");
    if (leat_config_read(common.config, &config, error, sizeof(error)) != LEAT_OK)
        return cli_fail(CLI_USAGE, "%s", error);
    int rc = leat_node_format(&config, error, sizeof(error));
    if (rc != LEAT_OK)
        return cli_fail(CLI_FAILED, "%s", error[0] ? error : leat_error_text(rc));
    if (common.json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "node", config.node_id);
        cJSON_AddStringToObject(object, "data_dir", config.data_dir);
        cli_put_json(object);
        return CLI_OK;
    }
    printf("formatted node %" PRIu32 " in %s\n", config.node_id, config.data_dir);
    return CLI_OK;
}
