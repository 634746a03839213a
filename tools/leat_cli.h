/* SPDX-License-Identifier: Apache-2.0
 *
 * The leat tool's rooms: leat.c (which command), leat_options.c (options, names, values),
 * leat_text.c (text and JSON out), leat_append.c, leat_tail.c, leat_log.c (logs), leat_status.c,
 * leat_look.c (sessions, counters, the tail), leat_admin.c (format, operating), leat_offline.c (a
 * stopped node's directory; built with storage/).
 *
 * Errors are one line on stderr that says what is wrong and, where there is something, what to do.
 */
#ifndef LEAT_TOOLS_CLI_H
#define LEAT_TOOLS_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

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
/* For what only looks: without an answer the node could not be reached, nothing is in doubt. */
int cli_fail_look(int error, const char *doing);

/* The exit code that an error of the library has when something was asked to be done. */
int cli_exit_for(int error);

/* ---- leat_options.c ---- */

enum cli_kind {
    CLI_FLAG,    /* bool */
    CLI_TEXT,    /* const char * */
    CLI_NUMBER,  /* uint64_t */
    CLI_SIZE,    /* uint64_t: 4096, 64KiB, 16MiB, 1GiB */
    CLI_TIME,    /* uint64_t ns: 150ms, 1s, 10min, 24h; 0 */
    CLI_SECONDS, /* uint64_t ns, given in seconds */
    CLI_LEVEL,   /* enum leat_ack */
    CLI_MAYBE,   /* const char *: a number may follow, else "" */
};

/* One option of a command. */
struct cli_option {
    const char *name;
    enum cli_kind kind;
    void *to;
    bool *given; /* NULL: not asked */
};

#define CLI_OPTIONS_MAX 24u

/* What every command takes beside its own options. */
struct cli_common {
    const char *name; /* of the command, for messages */
    const char *help;
    bool json;
    const char *config; /* --config's file; NULL: none */
    const char *socket; /* resolved; NULL: the library's default */
    char **operands;    /* what is not an option, in order */
    int operand_count;
    bool done;        /* nothing is left to do: exit_code is the end */
    char buffer[256]; /* of `socket` */
};

/* Reads a command's options and finds the socket. CLI_OK; or, with `done`, an exit code: help was
 * printed, or a line that says what is wrong. */
int cli_read(struct cli_common *common, const struct cli_option *options, size_t option_count,
             int count, char **arguments);
int cli_usage(const struct cli_common *common, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool cli_number(const char *text, uint64_t high, uint64_t *ret_value);
bool cli_seconds(const char *text, uint64_t *ret_ns);
/* A log by number or name; asks the node for a name. CLI_OK or an exit code after its line. */
int cli_log(const struct cli_common *common, const char *text, uint32_t *ret_log);
/* The log that --log or the only operand names. */
int cli_log_operand(struct cli_common *common, const char *option, uint32_t *ret_log);

/* Attaches with a small ring, for what appends little or nothing. */
int cli_attach(const struct cli_common *common, struct leat_client **ret_client);

/* ---- leat_text.c ---- */

void cli_put_json_text(const uint8_t *bytes, size_t length);
void cli_put_base64(const uint8_t *bytes, size_t length);
bool cli_is_utf8(const uint8_t *bytes, size_t length);
/* Prints and deletes an object, on one line. */
void cli_put_json(cJSON *object);
/* 16MiB, 1GiB, 4097; as --segment and the configuration take them. */
const char *cli_size_text(uint64_t bytes, char buffer[32]);
/* 10min, 150ms. */
const char *cli_time_text(uint64_t ns, char buffer[32]);
/* About so much: 1.5 MiB, 3.2 ms. For people. */
const char *cli_about_bytes(uint64_t bytes, char buffer[32]);
const char *cli_about_ns(uint64_t ns, char buffer[32]);
/* 2026-11-24T15:50:04Z */
const char *cli_date_text(uint64_t ns, char buffer[32]);
/* A member of a JSON object: 0, "" or NULL without it. */
uint64_t cli_json_number(const cJSON *object, const char *name);
const char *cli_json_string(const cJSON *object, const char *name);
/* The node's state, of one log when `log` is not NULL. CLI_OK or an exit code after its line. */
int cli_state(const struct cli_common *common, const uint32_t *log, cJSON **ret_root,
              char **ret_text);

/* ---- commands ---- */

int cli_append(int count, char **arguments);
int cli_tail(int count, char **arguments);
int cli_tail_position(int count, char **arguments);
int cli_status(int count, char **arguments);
int cli_session_ls(int count, char **arguments);
int cli_counters(int count, char **arguments);
int cli_log_create(int count, char **arguments);
int cli_log_ls(int count, char **arguments);
int cli_log_info(int count, char **arguments);
int cli_log_rm(int count, char **arguments);
int cli_log_configure(int count, char **arguments);
int cli_trim(int count, char **arguments);
int cli_fence(int count, char **arguments);
int cli_format(int count, char **arguments);
int cli_transfer(int count, char **arguments);
int cli_amnesia(int count, char **arguments);
int cli_damage(int count, char **arguments);
int cli_inspect(int count, char **arguments);
int cli_verify(int count, char **arguments);

/* What an operation answered: its line, or why not. */
int cli_operated(const struct cli_common *common, int rc, const char *explanation);

#endif
