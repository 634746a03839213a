/* SPDX-License-Identifier: Apache-2.0
 *
 * leat inspect and leat verify: a stopped node's data directory. Nothing is written.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat_cli.h"
#include "storage/inspect.h"

static const char inspect_help[] =
    "usage: leat inspect DIR [--identity] [--votes] [--journal] [--segments] [--frames]\n"
    "                    [--json]\n"
    "\n"
    "Shows what a stopped node's data directory holds, valid or not; all but the frames when\n"
    "nothing is chosen.\n"
    "\n"
    "example:\n"
    "  leat inspect data/node1 --journal\n";

static const char verify_help[] =
    "usage: leat verify [--log N] [--digest [--begin P] [--end P]] [--json] DIR...\n"
    "\n"
    "Checks every frame of a log in each stopped node's data directory and says where the intact\n"
    "chain ends. With --digest also prints the CRC32C of the committed bytes that all of the\n"
    "directories hold (or of the range given), and says whether they are equal.\n"
    "Exit code 5: damage, or digests that differ.\n"
    "\n"
    "examples:\n"
    "  leat verify data/node1\n"
    "  leat verify --digest data/node1 data/node2 data/node3\n";

/* `context`: the JSON array that takes the lines; NULL: stdout. */
static void print_line(void *context, const char *line)
{
    if (context)
        cJSON_AddItemToArray(context, cJSON_CreateString(line));
    else
        puts(line);
}

int cli_inspect(int count, char **arguments)
{
    struct cli_common common = {.name = "inspect", .help = inspect_help};
    bool parts[5] = {false};
    static const unsigned flags[5] = {LEAT_INSPECT_IDENTITY, LEAT_INSPECT_VOTES,
                                      LEAT_INSPECT_JOURNAL, LEAT_INSPECT_SEGMENTS,
                                      LEAT_INSPECT_FRAMES};
    const struct cli_option options[] = {
        {"identity", CLI_FLAG, &parts[0], NULL}, {"votes", CLI_FLAG, &parts[1], NULL},
        {"journal", CLI_FLAG, &parts[2], NULL},  {"segments", CLI_FLAG, &parts[3], NULL},
        {"frames", CLI_FLAG, &parts[4], NULL},
    };
    unsigned what = 0;
    char error[512] = "";
    int exit_code = cli_read(&common, options, 5, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count != 1)
        return cli_usage(&common, "one DIR");
    for (unsigned i = 0; i < 5; i++)
        what |= parts[i] ? flags[i] : 0;
    if (what == 0)
        what = LEAT_INSPECT_IDENTITY | LEAT_INSPECT_VOTES | LEAT_INSPECT_JOURNAL |
               LEAT_INSPECT_SEGMENTS;
    cJSON *object = common.json ? cJSON_CreateObject() : NULL;
    cJSON *lines = object ? cJSON_AddArrayToObject(object, "lines") : NULL;
    int rc = leat_inspect(common.operands[0], what, print_line, lines, error, sizeof(error));
    if (object)
        cli_put_json(object);
    if (rc == LEAT_OK)
        return CLI_OK;
    exit_code = cli_exit_for(rc) == CLI_DAMAGE ? CLI_DAMAGE : CLI_FAILED;
    return cli_fail(exit_code, "%s", error[0] ? error : leat_error_text(rc));
}

struct verify {
    uint64_t log;
    bool json, digest, has_begin, has_end;
    uint64_t begin_pos, end_pos;
};

static int verify_failed(const char *directory, int rc, const char *error)
{
    bool damage = rc == LEAT_ECORRUPT || rc == LEAT_ECHAIN || rc == LEAT_EVOTES;
    return cli_fail(damage ? CLI_DAMAGE : CLI_FAILED, "%s: %s", directory,
                    error[0] ? error : leat_error_text(rc));
}

static void verify_json(const char *directory, const struct leat_digest *digest)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "directory", directory);
    cJSON_AddNumberToObject(object, "begin", (double)digest->begin_pos);
    cJSON_AddNumberToObject(object, "end", (double)digest->end_pos);
    cJSON_AddNumberToObject(object, "records", (double)digest->records);
    cJSON_AddNumberToObject(object, "commit_durable", (double)digest->commit_d);
    cli_put_json(object);
}

static void digest_json(const char *directory, const struct verify *verify, uint32_t crc)
{
    char text[9];
    cJSON *object = cJSON_CreateObject();
    snprintf(text, sizeof(text), "%08" PRIx32, crc);
    cJSON_AddStringToObject(object, "directory", directory);
    cJSON_AddNumberToObject(object, "begin", (double)verify->begin_pos);
    cJSON_AddNumberToObject(object, "end", (double)verify->end_pos);
    cJSON_AddStringToObject(object, "crc32c", text);
    cli_put_json(object);
}

static int verify_frames(struct verify *verify, char **directories, int count)
{
    uint64_t begin_pos = 0, end_pos = UINT64_MAX;
    int worst = CLI_OK;
    for (int i = 0; i < count; i++) {
        struct leat_digest digest;
        char error[512] = "";
        int rc =
            leat_verify_log(directories[i], (uint32_t)verify->log, &digest, error, sizeof(error));
        if (rc != LEAT_OK) {
            int exit_code = verify_failed(directories[i], rc, error);
            worst = exit_code > worst ? exit_code : worst;
            continue;
        }
        if (verify->json)
            verify_json(directories[i], &digest);
        else
            printf("%s: log %" PRIu64 " intact from %" PRIu64 " to %" PRIu64 ", %" PRIu64
                   " records, durable commit known %" PRIu64 "\n",
                   directories[i], verify->log, digest.begin_pos, digest.end_pos, digest.records,
                   digest.commit_d);
        begin_pos = digest.begin_pos > begin_pos ? digest.begin_pos : begin_pos;
        end_pos = digest.commit_d < end_pos ? digest.commit_d : end_pos;
    }
    if (!verify->has_begin)
        verify->begin_pos = begin_pos;
    if (!verify->has_end)
        verify->end_pos = end_pos;
    return worst;
}

static int verify_digests(const struct verify *verify, char **directories, int count)
{
    uint32_t first = 0;
    bool equal = true;
    if (verify->begin_pos > verify->end_pos)
        return cli_fail(CLI_FAILED, "the directories hold no committed range in common");
    for (int i = 0; i < count; i++) {
        uint32_t digest;
        char error[512] = "";
        int rc = leat_digest_range(directories[i], (uint32_t)verify->log, verify->begin_pos,
                                   verify->end_pos, &digest, error, sizeof(error));
        if (rc != LEAT_OK)
            return verify_failed(directories[i], rc, error);
        first = i == 0 ? digest : first;
        equal &= digest == first;
        if (verify->json)
            digest_json(directories[i], verify, digest);
        else
            printf("%s: [%" PRIu64 ", %" PRIu64 ") crc32c %08" PRIx32 "\n", directories[i],
                   verify->begin_pos, verify->end_pos, digest);
    }
    return equal ? CLI_OK : cli_fail(CLI_DAMAGE, "the digests differ");
}

int cli_verify(int count, char **arguments)
{
    struct cli_common common = {.name = "verify", .help = verify_help};
    struct verify verify = {.log = LEAT_DEFAULT_LOG};
    const struct cli_option options[] = {
        {"log", CLI_NUMBER, &verify.log, NULL},
        {"digest", CLI_FLAG, &verify.digest, NULL},
        {"begin", CLI_NUMBER, &verify.begin_pos, &verify.has_begin},
        {"end", CLI_NUMBER, &verify.end_pos, &verify.has_end},
    };
    int exit_code = cli_read(&common, options, 4, count, arguments);
    if (common.done)
        return exit_code;
    if (common.operand_count == 0 || verify.log > UINT32_MAX)
        return cli_usage(&common, "one DIR at least, and --log by number");
    verify.json = common.json;
    exit_code = verify_frames(&verify, common.operands, common.operand_count);
    if (exit_code == CLI_OK && verify.digest)
        exit_code = verify_digests(&verify, common.operands, common.operand_count);
    return exit_code;
}
