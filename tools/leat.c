/* SPDX-License-Identifier: Apache-2.0
 *
 * leat: what a person and a script do with a node. Subcommands by name; what they share.
 * One thread. Tests: tests/client/test_cli.sh.
 */
#include "leat_cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/config.h"

volatile sig_atomic_t cli_interrupted;

static const char usage[] = "usage: leat COMMAND [OPTION...]\n"
                            "\n"
                            "  append    append records from a file or stdin to a log\n"
                            "  tail      print a log's records\n"
                            "  status    what the node on this host does and knows\n"
                            "  transfer  hand a log's leadership over\n"
                            "  trim      let go of a log's oldest records\n"
                            "  amnesia   let a log go on after a majority lost its memory\n"
                            "  format    make a node's data directory\n"
                            "  inspect   show what a stopped node's data directory holds\n"
                            "  verify    check every frame of a stopped node's data directory\n"
                            "\n"
                            "leat COMMAND --help explains each. The node is found by --socket, "
                            "$LEAT_SOCKET, or at\n" LEAT_DEFAULT_SOCKET ".\n"
                            "\n"
                            "examples:\n"
                            "  printf 'hello\\n' | leat append\n"
                            "  leat tail --from start\n"
                            "  leat status --json\n";

static const struct {
    const char *name;
    int (*run)(int count, char **arguments);
} commands[] = {
    {"append", cli_append},     {"tail", cli_tail},       {"status", cli_status},
    {"transfer", cli_transfer}, {"trim", cli_trim},       {"amnesia", cli_amnesia},
    {"format", cli_format},     {"inspect", cli_inspect}, {"verify", cli_verify},
};

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
    if (error == LEAT_OK)
        return CLI_OK;
    if (error == LEAT_ESYSTEM)
        return CLI_UNREACHABLE;
    if (error == LEAT_ECORRUPT || error == LEAT_ECHAIN || error == LEAT_EDAMAGED)
        return CLI_DAMAGE;
    return leat_outcome(error) == LEAT_END_UNKNOWN ? CLI_UNKNOWN : CLI_FAILED;
}

int cli_fail_error(int error, const char *doing)
{
    const char *advice = "";
    if (error == LEAT_ESYSTEM)
        advice = " (no node answers at the socket: is leatd running?)";
    else if (error == LEAT_EPERM)
        advice = " (the node's user, root, and whom clients.uids and gids name may)";
    return cli_fail(cli_exit_for(error), "%s: %s%s", doing, leat_error_text(error), advice);
}

int cli_help(const char *text, bool wanted)
{
    fputs(text, wanted ? stdout : stderr);
    return wanted ? CLI_OK : CLI_USAGE;
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

bool cli_ack(const char *text, enum leat_ack *ret_ack)
{
    bool durable = strcmp(text, "durable") == 0;
    if (!durable && strcmp(text, "replicated") != 0)
        return false;
    *ret_ack = durable ? LEAT_ACK_DURABLE : LEAT_ACK_REPLICATED;
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

int cli_socket(const char *socket, const char *config_path, char buffer[256],
               const char **ret_socket)
{
    struct leat_config config;
    char error[512];
    *ret_socket = socket;
    if (socket || !config_path)
        return CLI_OK;
    if (leat_config_read(config_path, &config, error, sizeof(error)) != LEAT_OK)
        return cli_fail(CLI_USAGE, "%s", error);
    memcpy(buffer, config.socket, sizeof(config.socket));
    *ret_socket = buffer;
    return CLI_OK;
}

static void on_signal(int signal_number)
{
    (void)signal_number;
    cli_interrupted = 1;
}

int main(int count, char **arguments)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no restart: a blocked read ends */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    opterr = 0; /* an error is one line, ours */
    if (count < 2)
        return cli_help(usage, false);
    if (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0 ||
        strcmp(arguments[1], "help") == 0)
        return cli_help(usage, true);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(arguments[1], commands[i].name) != 0)
            continue;
        int exit_code = commands[i].run(count - 1, arguments + 1);
        if (fflush(stdout) != 0 && errno != EPIPE && exit_code == CLI_OK)
            return cli_fail(CLI_FAILED, "stdout: %s", strerror(errno));
        return exit_code;
    }
    return cli_fail(CLI_USAGE, "no command '%s': see leat --help", arguments[1]);
}
