/* SPDX-License-Identifier: Apache-2.0
 *
 * The leat tool's rooms: leat.c (which subcommand), leat_append.c, leat_tail.c, leat_admin.c
 * (status, format, operating), leat_offline.c (a stopped node's directory; built with storage/).
 *
 * Errors are one line on stderr that says what is wrong and, where there is something, what to do.
 */
#ifndef LEAT_TOOLS_CLI_H
#define LEAT_TOOLS_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "leat/leat.h"

/* docs/cli.md explains them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_UNREACHABLE = 3,
    CLI_UNKNOWN = 4,
    CLI_DAMAGE = 5,
    CLI_INTERRUPTED = 130,
};

/* SIGINT or SIGTERM came. */
extern volatile sig_atomic_t cli_interrupted;

/* "leat: ..." on stderr. Returns `exit_code`. */
int cli_fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As above for an error of the library: chooses the exit code and says what to do. */
int cli_fail_error(int error, const char *doing);

/* The exit code that an error of the library has. */
int cli_exit_for(int error);

/* Prints the help of a subcommand; returns CLI_OK for --help, CLI_USAGE after a wrong option. */
int cli_help(const char *text, bool wanted);

bool cli_number(const char *text, uint64_t high, uint64_t *ret_value);
bool cli_ack(const char *text, enum leat_ack *ret_ack);
bool cli_seconds(const char *text, uint64_t *ret_ns);

/* The control socket: --socket, else that of --config's file, else NULL (the library's default).
 * CLI_OK or an exit code after its line. `buffer` has room for a path. */
int cli_socket(const char *socket, const char *config, char buffer[256], const char **ret_socket);

int cli_append(int count, char **arguments);
int cli_tail(int count, char **arguments);
int cli_status(int count, char **arguments);
int cli_format(int count, char **arguments);
int cli_transfer(int count, char **arguments);
int cli_amnesia(int count, char **arguments);
int cli_trim(int count, char **arguments);
int cli_inspect(int count, char **arguments);
int cli_verify(int count, char **arguments);

#endif
