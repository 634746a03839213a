/* SPDX-License-Identifier: Apache-2.0
 *
 * leat: what a person and a script do with a node. Commands by name, and how they fail.
 * One thread. Tests: tests/client/test_cli.sh, tests/system/test_cli.py.
 */
#include "leat_cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

volatile sig_atomic_t cli_interrupted;

static const char usage[] =
    "usage: leat COMMAND [OPTION...]\n"
    "\n"
    "  append         append records from a file or stdin to a log\n"
    "  tail           print a log's records\n"
    "  tail-position  where a log ends now, asked of its leader and a majority\n"
    "  fence          shut older writers out of a log\n"
    "\n"
    "  log create     make a log on every node\n"
    "  log ls         list the logs\n"
    "  log info       one log: sizes, retention, where it stands\n"
    "  log configure  set a log's retention\n"
    "  log trim       let go of a log's oldest records\n"
    "  log rm         delete a log and all its records\n"
    "\n"
    "  status         what the node on this host does and knows; --watch follows it\n"
    "  session ls     a log's sessions: who appends to it\n"
    "  counters       every counter and drop reason, one a line\n"
    "  transfer       hand a log's leadership over\n"
    "  amnesia        let a log go on after a majority lost its memory\n"
    "  damage         let a damaged replica vote and lead again\n"
    "\n"
    "  format         make a node's data directory\n"
    "  inspect        show what a stopped node's data directory holds\n"
    "  verify         check every frame of a stopped node's data directory\n"
    "\n"
    "leat COMMAND --help explains each, with examples. All take --socket PATH or --config FILE to\n"
    "find the node (else $LEAT_SOCKET, else " LEAT_DEFAULT_SOCKET ") and --json. LOG is a\n"
    "log's name or number.\n"
    "\n"
    "examples:\n"
    "  printf 'hello\\n' | leat append\n"
    "  leat log create orders --retention-age 24h\n"
    "  leat tail --log orders --from time:-10min --follow\n"
    "  leat status --watch\n";

static const struct command {
    const char *name;
    int (*run)(int count, char **arguments);
} commands[] = {
    {"append", cli_append},
    {"tail", cli_tail},
    {"tail-position", cli_tail_position},
    {"fence", cli_fence},
    {"log create", cli_log_create},
    {"log ls", cli_log_ls},
    {"log info", cli_log_info},
    {"log configure", cli_log_configure},
    {"log trim", cli_trim},
    {"log rm", cli_log_rm},
    {"status", cli_status},
    {"session ls", cli_session_ls},
    {"counters", cli_counters},
    {"transfer", cli_transfer},
    {"amnesia", cli_amnesia},
    {"damage", cli_damage},
    {"trim", cli_trim}, /* the name it had first */
    {"format", cli_format},
    {"inspect", cli_inspect},
    {"verify", cli_verify},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

int cli_fail(int exit_code, const char *format, ...)
{
    va_list arguments;
    fputs("leat: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return exit_code;
}

int cli_exit_for(int error)
{
    switch (error) {
    case LEAT_OK:
        return CLI_OK;
    case LEAT_ESYSTEM:
        return CLI_UNREACHABLE;
    case LEAT_ECORRUPT:
    case LEAT_ECHAIN:
    case LEAT_EDAMAGED:
        return CLI_DAMAGE;
    case LEAT_EDEADLINE:
    case LEAT_ECLOSED:
    case LEAT_ESESSION:
    case LEAT_EDELETED:
        return CLI_UNKNOWN;
    default:
        return CLI_FAILED;
    }
}

static const char *advice_for(int error)
{
    switch (error) {
    case LEAT_ESYSTEM:
        return " (no node answers at the socket: is leatd running?)";
    case LEAT_EPERM:
        return " (the node's user, root, and whom clients.uids and gids name may)";
    case LEAT_ENOLOG:
        return " (leat log ls lists them)";
    case LEAT_ENOLEADER:
        return " (is a majority of the nodes up? leat status says what this one sees)";
    case LEAT_ELEVEL:
        return " (a log takes them when it was created with --replicated)";
    default:
        return "";
    }
}

int cli_fail_error(int error, const char *doing)
{
    return cli_fail(cli_exit_for(error), "%s: %s%s", doing, leat_error_text(error),
                    advice_for(error));
}

int cli_fail_look(int error, const char *doing)
{
    if (error == LEAT_EDEADLINE || error == LEAT_ECLOSED)
        return cli_fail(CLI_UNREACHABLE, "%s: the node did not answer in time", doing);
    return cli_fail_error(error, doing);
}

static void on_signal(int signal_number)
{
    (void)signal_number;
    cli_interrupted = 1;
}

/* A command's name is one argument or two; *ret_words says which. */
static const struct command *command_find(int count, char **arguments, int *ret_words)
{
    char two[64] = "";
    if (count > 2)
        snprintf(two, sizeof(two), "%s %s", arguments[1], arguments[2]);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        bool one = strcmp(arguments[1], commands[i].name) == 0;
        *ret_words = one ? 1 : 2;
        if (one || strcmp(two, commands[i].name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int command_unknown(int count, char **arguments)
{
    bool group = strcmp(arguments[1], "log") == 0 || strcmp(arguments[1], "session") == 0;
    if (!group)
        return cli_fail(CLI_USAGE, "no command '%s': see leat --help", arguments[1]);
    bool help =
        count > 2 && (strcmp(arguments[2], "--help") == 0 || strcmp(arguments[2], "-h") == 0);
    if (!help)
        return cli_fail(CLI_USAGE, "no command '%s %s': see leat --help", arguments[1],
                        count > 2 ? arguments[2] : "");
    fputs(usage, stdout);
    return CLI_OK;
}

int main(int count, char **arguments)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no restart: a blocked read ends */
    int words;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    opterr = 0; /* an error is one line, ours */
    if (count < 2) {
        fputs(usage, stderr);
        return CLI_USAGE;
    }
    if (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0 ||
        strcmp(arguments[1], "help") == 0) {
        fputs(usage, stdout);
        return CLI_OK;
    }
    if (strcmp(arguments[1], "--version") == 0) {
        puts("leat " LEAT_VERSION);
        return CLI_OK;
    }
    const struct command *command = command_find(count, arguments, &words);
    if (!command)
        return command_unknown(count, arguments);
    int exit_code = command->run(count - words, arguments + words);
    if (fflush(stdout) != 0 && errno != EPIPE && exit_code == CLI_OK)
        return cli_fail(CLI_FAILED, "stdout: %s", strerror(errno));
    return exit_code;
}
