/* SPDX-License-Identifier: Apache-2.0
 *
 * Between config.c (the document and its table of keys), config_yaml.c (a value to its field),
 * config_values.c (one scalar) and config_check.c (what ties several keys together).
 */
#ifndef LEAT_NODE_CONFIG_PRIVATE_H
#define LEAT_NODE_CONFIG_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <yaml.h>

#include "node/config.h"

#define CONFIG_NO_FIELD SIZE_MAX /* the profile: it goes nowhere itself */

enum config_type {
    CONFIG_UUID,
    CONFIG_UNSIGNED,
    CONFIG_SIGNED, /* low and high as int64_t */
    CONFIG_SIZE,
    CONFIG_TIME,
    CONFIG_RANGE, /* [time, time] */
    CONFIG_BOOL,
    CONFIG_CHOICE, /* one of `choices`; the number is its place */
    CONFIG_WORD,
    CONFIG_PATH,
    CONFIG_IDS, /* a list of numbers; `at` is its count, `at_2` the list */
    CONFIG_NODES,
};

struct config_key {
    const char *section; /* "": the top level */
    const char *name;
    enum config_type type;
    bool required;
    size_t bytes; /* of the field */
    size_t at;    /* in struct leat_config */
    size_t at_2;
    uint64_t low, high;
    uint64_t development, rack; /* defaults */
    uint64_t development_2, rack_2;
    const char *const *choices;
};

/* Where a key of the file was found; line 0: it was not, and its default holds. */
struct config_reader {
    const char *path;                       /* as the caller named it: begins every error */
    char directory[LEAT_CONFIG_TEXT_BYTES]; /* absolute, of the file: relative paths begin here */
    struct leat_config *config;
    char *error;
    unsigned error_bytes;
    size_t *lines;    /* by place in the table of keys */
    uint64_t profile; /* place in its choices */
    size_t nodes_line;
    size_t node_lines[LEAT_MEMBERS_MAX];
};

/* Writes "FILE:LINE: ..." and returns LEAT_ECONFIG. */
int config_fail(struct config_reader *reader, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The line of a key, or `otherwise` when its default holds. */
size_t config_line(const struct config_reader *reader, const char *section, const char *name,
                   size_t otherwise);

/* What a YAML node is. */
size_t config_node_line(const yaml_node_t *node);
const char *config_node_text(const yaml_node_t *node);
bool config_node_is_text(const yaml_node_t *node);
const char *config_node_found(const yaml_node_t *node, char buffer[48]);
int config_fail_found(struct config_reader *reader, const yaml_node_t *node, const char *name,
                      const char *expected);

/* Reads a key's value into its field. Returns 0 or LEAT_ECONFIG. */
int config_read_value(struct config_reader *reader, yaml_document_t *document,
                      const yaml_node_t *node, const struct config_key *key);

/* Each reads the whole text or returns false and writes nothing. */
bool config_value_unsigned(const char *text, uint64_t *ret_value);
bool config_value_signed(const char *text, int64_t *ret_value);
bool config_value_bool(const char *text, bool *ret_value); /* true, false */
bool config_value_ipv4(const char *text, uint32_t *ret_ipv4);
bool config_value_mac(const char *text, uint8_t ret_mac[6]);

/* Rules over several keys. Returns 0 or LEAT_ECONFIG. */
int config_check(struct config_reader *reader);

#endif
