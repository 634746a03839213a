/* SPDX-License-Identifier: Apache-2.0
 *
 * leat inspect and leat verify: a stopped node's data directory. Nothing is written.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat_cli.h"
#include "storage/inspect.h"

static const char inspect_help[] =
    "usage: leat inspect DIR [--identity] [--votes] [--journal] [--segments] [--frames]\n"
    "\n"
    "Shows what a stopped node's data directory holds, valid or not; all but the frames when\n"
    "nothing is chosen.\n"
    "\n"
    "example:\n"
    "  leat inspect data/node1 --journal\n";

static const char verify_help[] =
    "usage: leat verify [--log N] [--digest [--begin P] [--end P]] DIR...\n"
    "\n"
    "Checks every frame of a log in each stopped node's data directory and says where the intact\n"
    "chain ends. With --digest also prints the CRC32C of the committed bytes that all of the\n"
    "directories hold (or of the range given), and says whether they are equal.\n"
    "Exit code 5: damage, or digests that differ.\n"
    "\n"
    "examples:\n"
    "  leat verify data/node1\n"
    "  leat verify --digest data/node1 data/node2 data/node3\n";

static void print_line(void *context, const char *line)
{
    (void)context;
    puts(line);
}

int cli_inspect(int count, char **arguments)
{
    static const struct option options[] = {
        {"identity", no_argument, NULL, LEAT_INSPECT_IDENTITY},
        {"votes", no_argument, NULL, LEAT_INSPECT_VOTES},
        {"journal", no_argument, NULL, LEAT_INSPECT_JOURNAL},
        {"segments", no_argument, NULL, LEAT_INSPECT_SEGMENTS},
        {"frames", no_argument, NULL, LEAT_INSPECT_FRAMES},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    unsigned what = 0;
    int option;
    char error[512] = "";
    while ((option = getopt_long(count, arguments, "h", options, NULL)) >= 0) {
        if (option == 'h')
            return cli_help(inspect_help, true);
        if (option == '?')
            return cli_fail(CLI_USAGE, "inspect: a wrong option: see leat inspect --help");
        what |= (unsigned)option;
    }
    if (count - optind != 1)
        return cli_fail(CLI_USAGE, "inspect: one DIR: see leat inspect --help");
    if (what == 0)
        what = LEAT_INSPECT_IDENTITY | LEAT_INSPECT_VOTES | LEAT_INSPECT_JOURNAL |
               LEAT_INSPECT_SEGMENTS;
    int rc = leat_inspect(arguments[optind], what, print_line, NULL, error, sizeof(error));
    if (rc == LEAT_OK)
        return CLI_OK;
    int exit_code = cli_exit_for(rc) == CLI_DAMAGE ? CLI_DAMAGE : CLI_FAILED;
    return cli_fail(exit_code, "%s", error[0] ? error : leat_error_text(rc));
}

struct verify {
    uint64_t log;
    bool digest, has_begin, has_end;
    uint64_t begin_pos, end_pos;
};

static int verify_failed(const char *directory, int rc, const char *error)
{
    bool damage = rc == LEAT_ECORRUPT || rc == LEAT_ECHAIN || rc == LEAT_EVOTES;
    return cli_fail(damage ? CLI_DAMAGE : CLI_FAILED, "%s: %s", directory,
                    error[0] ? error : leat_error_text(rc));
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
        printf("%s: [%" PRIu64 ", %" PRIu64 ") crc32c %08" PRIx32 "\n", directories[i],
               verify->begin_pos, verify->end_pos, digest);
    }
    return equal ? CLI_OK : cli_fail(CLI_DAMAGE, "the digests differ");
}

int cli_verify(int count, char **arguments)
{
    static const struct option options[] = {
        {"log", required_argument, NULL, 'l'},   {"digest", no_argument, NULL, 'd'},
        {"begin", required_argument, NULL, 'b'}, {"end", required_argument, NULL, 'e'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    struct verify verify = {.log = LEAT_DEFAULT_LOG};
    int option;
    while ((option = getopt_long(count, arguments, "h", options, NULL)) >= 0) {
        if (option == 'h')
            return cli_help(verify_help, true);
        verify.digest |= option == 'd';
        verify.has_begin |= option == 'b';
        verify.has_end |= option == 'e';
        if (option == '?' || (option == 'l' && !cli_number(optarg, UINT32_MAX, &verify.log)) ||
            (option == 'b' && !cli_number(optarg, UINT64_MAX, &verify.begin_pos)) ||
            (option == 'e' && !cli_number(optarg, UINT64_MAX, &verify.end_pos)))
            return cli_fail(CLI_USAGE, "verify: a wrong option or value: see leat verify --help");
    }
    if (optind == count)
        return cli_fail(CLI_USAGE, "verify: one DIR at least: see leat verify --help");
    int exit_code = verify_frames(&verify, arguments + optind, count - optind);
    if (exit_code == CLI_OK && verify.digest)
        exit_code = verify_digests(&verify, arguments + optind, count - optind);
    return exit_code;
}
