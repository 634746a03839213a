/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration file: libyaml's document, driven by one table of keys. A key's row says where
 * it lies in the file, what it may hold, where it goes and what holds without it; what the table
 * does not name is an error with its line. Nothing but the file is touched.
 *
 * Values: config_yaml.c. Scalars: config_values.c. Rules over several keys: config_check.c.
 * Called once at start, any thread. Tests: tests/client/test_config.c.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "config_private.h"
#include "dataplane/port.h"
#include "leat/leat.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define US  1000ull
#define MS  1000000ull
#define S   1000000000ull

static const char *const profile_choices[] = {"development", "rack", NULL};
static const char *const net_choices[] = {"memif", "af_packet", "af_xdp", "pci", NULL};
static const char *const idle_choices[] = {"spin", "yield", "sleep", NULL};
static const char *const level_choices[] = {"error", "warning", "info", "debug", NULL};

#define FIELD(name)                                                                                \
    .at = offsetof(struct leat_config, name), .bytes = sizeof(((struct leat_config *)NULL)->name)
#define NO_FIELD       .at = CONFIG_NO_FIELD
#define BOUNDS(l, h)   .low = (uint64_t)(l), .high = (uint64_t)(h)
#define DEFAULTS(d, r) .development = (uint64_t)(d), .rack = (uint64_t)(r)

/* clang-format off */
static const struct config_key config_keys[] = {
    {"", "cluster", CONFIG_UUID, true, FIELD(cluster)},
    {"", "node", CONFIG_UNSIGNED, true, FIELD(node_id), BOUNDS(1, UINT32_MAX - 1)},
    {"", "profile", CONFIG_CHOICE, false, NO_FIELD, .choices = profile_choices},
    {"", "nodes", CONFIG_NODES, true, NO_FIELD},
    {"", "socket", CONFIG_PATH, false, FIELD(socket)},

    {"net", "kind", CONFIG_CHOICE, true, FIELD(net), .choices = net_choices},
    {"net", "interface", CONFIG_WORD, false, FIELD(interface)},
    {"net", "memif_dir", CONFIG_PATH, false, FIELD(memif_dir)},
    {"net", "udp_port", CONFIG_UNSIGNED, false, FIELD(udp_port_base),
     BOUNDS(1024, 65000), DEFAULTS(7400, 7400)},
    {"net", "mtu", CONFIG_UNSIGNED, false, FIELD(mtu_bytes), BOUNDS(1280, 9000), DEFAULTS(1500, 1500)},
    {"net", "huge_pages", CONFIG_BOOL, false, FIELD(huge_pages), DEFAULTS(false, true)},

    {"storage", "data_dir", CONFIG_PATH, true, FIELD(data_dir)},
    {"storage", "writes_in_flight", CONFIG_UNSIGNED, false, FIELD(writes_in_flight_max),
     BOUNDS(1, 4), DEFAULTS(1, 1)},
    {"storage", "segments_ahead", CONFIG_UNSIGNED, false, FIELD(segments_ahead),
     BOUNDS(1, 8), DEFAULTS(2, 4)},

    {"storage", "scrub", CONFIG_SIZE, false, FIELD(scrub_bytes_per_s), BOUNDS(0, 64 * GIB),
     DEFAULTS(10 * MIB, 100 * MIB)},

    {"memory", "arena_dir", CONFIG_PATH, false, FIELD(arena_dir)},
    {"memory", "budget", CONFIG_SIZE, false, FIELD(arena_budget_bytes), BOUNDS(4 * MIB, 1024 * GIB),
     DEFAULTS(4 * GIB, 64 * GIB)},

    {"log", "file", CONFIG_PATH, false, FIELD(log_file)},
    {"log", "level", CONFIG_CHOICE, false, FIELD(log_severity), .choices = level_choices,
     DEFAULTS(LEAT_LOG_INFO, LEAT_LOG_INFO)},

    {"worker", "count", CONFIG_UNSIGNED, false, FIELD(worker_count), BOUNDS(1, LEAT_WORKERS_MAX), DEFAULTS(1, 1)},
    {"worker", "idle", CONFIG_CHOICE, false, FIELD(idle), .choices = idle_choices,
     DEFAULTS(LEAT_IDLE_YIELD, LEAT_IDLE_SPIN)},
    {"worker", "lcore", CONFIG_SIGNED, false, FIELD(lcore), BOUNDS(-1, 1023),
     DEFAULTS(UINT64_MAX, UINT64_MAX)},
    {"worker", "lcores", CONFIG_IDS, false, FIELD(lcore_count),
     .at_2 = offsetof(struct leat_config, lcores), BOUNDS(0, 1023)},
    {"worker", "trace", CONFIG_SIZE, false, FIELD(trace_bytes), BOUNDS(0, 1 * GIB)},

    {"raft", "election_timeout", CONFIG_RANGE, false, FIELD(election_min_ns),
     .at_2 = offsetof(struct leat_config, election_max_ns), BOUNDS(1 * MS, 60 * S),
     DEFAULTS(150 * MS, 5 * MS), .development_2 = 300 * MS, .rack_2 = 10 * MS},
    {"raft", "heartbeat", CONFIG_TIME, false, FIELD(heartbeat_ns), BOUNDS(100 * US, 10 * S),
     DEFAULTS(30 * MS, 1 * MS)},
    {"raft", "window", CONFIG_SIZE, false, FIELD(window_bytes), BOUNDS(64 * KIB, 1 * GIB),
     DEFAULTS(4 * MIB, 16 * MIB)},

    {"sessions", "expire", CONFIG_TIME, false, FIELD(session_ttl_ns), BOUNDS(1 * S, 86400 * S),
     DEFAULTS(600 * S, 600 * S)},

    {"default_log", "segment", CONFIG_SIZE, false, FIELD(segment_bytes),
     BOUNDS(LEAT_SEGMENT_BYTES_MIN, 1 * GIB), DEFAULTS(16 * MIB, 64 * MIB)},
    {"default_log", "arena", CONFIG_SIZE, false, FIELD(arena_bytes),
     BOUNDS(LEAT_ARENA_BYTES_MIN, 64 * GIB), DEFAULTS(32 * MIB, 256 * MIB)},
    {"default_log", "largest_entry", CONFIG_SIZE, false, FIELD(entry_bytes_max),
     BOUNDS(1 * KIB, 256 * MIB), DEFAULTS(1 * MIB, 4 * MIB)},
    {"default_log", "replicated", CONFIG_BOOL, false, FIELD(accepts_replicated), DEFAULTS(false, false)},

    {"quotas", "sessions", CONFIG_UNSIGNED, false, FIELD(quota_sessions), BOUNDS(1, 64),
     DEFAULTS(16, 16)},
    {"quotas", "memory", CONFIG_SIZE, false, FIELD(quota_memory_bytes), BOUNDS(1 * MIB, 1 * GIB),
     DEFAULTS(256 * MIB, 256 * MIB)},
    {"quotas", "logs", CONFIG_UNSIGNED, false, FIELD(quota_logs), BOUNDS(0, 1024), DEFAULTS(16, 16)},

    {"clients", "uids", CONFIG_IDS, false, FIELD(client_uid_count),
     .at_2 = offsetof(struct leat_config, client_uids), BOUNDS(0, UINT32_MAX - 1)},
    {"clients", "gids", CONFIG_IDS, false, FIELD(client_gid_count),
     .at_2 = offsetof(struct leat_config, client_gids), BOUNDS(0, UINT32_MAX - 1)},
};
/* clang-format on */

#define KEY_COUNT (sizeof(config_keys) / sizeof(config_keys[0]))
_Static_assert(sizeof(uid_t) == 4 && sizeof(gid_t) == 4, "CONFIG_IDS writes 32-bit ids");

int config_fail(struct config_reader *reader, size_t line, const char *format, ...)
{
    va_list arguments;
    int at = snprintf(reader->error, reader->error_bytes, "%s:%zu: ", reader->path, line);
    if (at >= 0 && (unsigned)at < reader->error_bytes) {
        va_start(arguments, format);
        vsnprintf(reader->error + at, reader->error_bytes - (unsigned)at, format, arguments);
        va_end(arguments);
    }
    return LEAT_ECONFIG;
}

static const struct config_key *key_find(const char *section, const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    }
    return NULL;
}

size_t config_line(const struct config_reader *reader, const char *section, const char *name,
                   size_t otherwise)
{
    const struct config_key *key = key_find(section, name);
    LEAT_ASSERT(key);
    size_t line = reader->lines[key - config_keys];
    return line ? line : otherwise;
}

/* ---- the document ---- */

static bool section_exists(const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (config_keys[i].section[0] && strcmp(config_keys[i].section, name) == 0)
            return true;
    }
    return false;
}

static int read_mapping(struct config_reader *reader, yaml_document_t *document,
                        const yaml_node_t *mapping, const char *section);

static int read_section(struct config_reader *reader, yaml_document_t *document,
                        const yaml_node_t *value, const yaml_node_pair_t *pair,
                        const yaml_node_t *root)
{
    const yaml_node_t *name = yaml_document_get_node(document, pair->key);
    for (const yaml_node_pair_t *other = root->data.mapping.pairs.start; other < pair; other++) {
        const yaml_node_t *before = yaml_document_get_node(document, other->key);
        if (config_node_is_text(before) &&
            strcmp(config_node_text(before), config_node_text(name)) == 0)
            return config_fail(reader, config_node_line(name),
                               "%s a second time, expected each key once", config_node_text(name));
    }
    return read_mapping(reader, document, value, config_node_text(name));
}

static int read_key(struct config_reader *reader, yaml_document_t *document,
                    const yaml_node_t *mapping, const yaml_node_pair_t *pair, const char *section)
{
    const yaml_node_t *name = yaml_document_get_node(document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(document, pair->value);
    bool top = section[0] == 0;
    char buffer[48];
    if (top && config_node_is_text(name) && section_exists(config_node_text(name)))
        return read_section(reader, document, value, pair, mapping);
    const struct config_key *key =
        config_node_is_text(name) ? key_find(section, config_node_text(name)) : NULL;
    if (!key)
        return config_fail(reader, config_node_line(name),
                           "unknown key %s%s%s, expected one of docs/leat.example.yaml",
                           config_node_found(name, buffer), top ? "" : " in ", section);
    size_t *line = &reader->lines[key - config_keys];
    if (*line != 0)
        return config_fail(reader, config_node_line(name),
                           "%s a second time, expected each key once", key->name);
    *line = config_node_line(name);
    return config_read_value(reader, document, value, key);
}

static int read_mapping(struct config_reader *reader, yaml_document_t *document,
                        const yaml_node_t *mapping, const char *section)
{
    if (mapping->type != YAML_MAPPING_NODE)
        return config_fail_found(reader, mapping, section[0] ? section : "the file",
                                 "keys and values");
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        int rc = read_key(reader, document, mapping, pair, section);
        if (rc != LEAT_OK)
            return rc;
    }
    return LEAT_OK;
}

/* ---- defaults ---- */

static void fill_defaults(struct config_reader *reader)
{
    struct leat_config *config = reader->config;
    bool rack = reader->profile == 1;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        uint64_t value = rack ? key->rack : key->development;
        uint64_t value_2 = rack ? key->rack_2 : key->development_2;
        if (reader->lines[i] != 0 || value == 0)
            continue; /* given, or zero by now */
        memcpy((char *)config + key->at, &value, key->bytes);
        if (key->type == CONFIG_RANGE)
            memcpy((char *)config + key->at_2, &value_2, key->bytes);
    }
    if (config->socket[0] == 0)
        snprintf(config->socket, sizeof(config->socket), "%s", LEAT_DEFAULT_SOCKET);
    if (config->arena_dir[0] == 0)
        snprintf(config->arena_dir, sizeof(config->arena_dir), "/dev/shm/leat-%u",
                 (unsigned)getuid());
}

static int check_required(struct config_reader *reader)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->required && reader->lines[i] == 0)
            return config_fail(reader, 1, "no %s%s%s, expected it: it has no default", key->section,
                               key->section[0] ? "." : "", key->name);
    }
    return LEAT_OK;
}

static int node_by_id(const void *a, const void *b)
{
    const struct leat_config_node *first = a, *second = b;
    return (first->id > second->id) - (first->id < second->id);
}

/* ---- the file ---- */

static int fail_yaml(struct config_reader *reader, const yaml_parser_t *parser)
{
    return config_fail(reader, parser->problem_mark.line + 1, "not YAML (%s), expected YAML 1.1",
                       parser->problem ? parser->problem : "unreadable");
}

static int read_document(struct config_reader *reader, yaml_document_t *document)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (!root)
        return config_fail(reader, 1, "the file is empty, expected keys and values");
    int rc = read_mapping(reader, document, root, "");
    if (rc == LEAT_OK)
        rc = check_required(reader);
    if (rc != LEAT_OK)
        return rc;
    fill_defaults(reader);
    rc = config_check(reader);
    qsort(reader->config->nodes, reader->config->node_count, sizeof(reader->config->nodes[0]),
          node_by_id);
    return rc;
}

static int read_file(struct config_reader *reader, FILE *file)
{
    yaml_parser_t parser;
    yaml_document_t document, second;
    if (!yaml_parser_initialize(&parser))
        return config_fail(reader, 1, "out of memory");
    yaml_parser_set_input_file(&parser, file);
    int rc = LEAT_ECONFIG;
    if (!yaml_parser_load(&parser, &document)) {
        rc = fail_yaml(reader, &parser);
        yaml_parser_delete(&parser);
        return rc;
    }
    rc = read_document(reader, &document);
    yaml_document_delete(&document);
    if (rc == LEAT_OK && !yaml_parser_load(&parser, &second)) {
        rc = fail_yaml(reader, &parser);
    } else if (rc == LEAT_OK) {
        if (yaml_document_get_root_node(&second))
            rc = config_fail(reader, second.start_mark.line + 1, "a second document, expected one");
        yaml_document_delete(&second);
    }
    yaml_parser_delete(&parser);
    return rc;
}

/* The file's absolute path and directory, by name: links are not followed. */
static bool place_file(struct config_reader *reader)
{
    char absolute[PATH_MAX + LEAT_CONFIG_TEXT_BYTES];
    char current[PATH_MAX] = "";
    if (reader->path[0] != '/' && !getcwd(current, sizeof(current)))
        return false;
    int length = snprintf(absolute, sizeof(absolute), "%s%s%s", current,
                          reader->path[0] == '/' ? "" : "/", reader->path);
    if (length < 0 || length >= (int)sizeof(reader->config->path))
        return false;
    memcpy(reader->config->path, absolute, (size_t)length + 1);
    size_t directory_length = (size_t)(strrchr(absolute, '/') - absolute);
    memcpy(reader->directory, absolute, directory_length);
    reader->directory[directory_length] = 0;
    return true;
}

int leat_config_read(const char *path, struct leat_config *ret_config, char *error,
                     unsigned error_bytes)
{
    struct leat_config config;
    size_t lines[KEY_COUNT] = {0};
    struct config_reader reader = {.path = path,
                                   .config = &config,
                                   .error = error,
                                   .error_bytes = error_bytes,
                                   .lines = lines};
    memset(&config, 0, sizeof(config));
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
        return LEAT_ESYSTEM;
    }
    int rc = LEAT_ECONFIG;
    if (!place_file(&reader))
        config_fail(&reader, 1, "the file's absolute path is too long, expected at most %u bytes",
                    LEAT_CONFIG_TEXT_BYTES - 1);
    else
        rc = read_file(&reader, file);
    if (ferror(file)) {
        snprintf(error, error_bytes, "%s: it cannot be read (is it a file?)", path);
        rc = LEAT_ESYSTEM;
    }
    fclose(file);
    if (rc == LEAT_OK)
        *ret_config = config;
    return rc;
}

int leat_config_node_index(const struct leat_config *config, uint32_t node_id)
{
    for (uint32_t i = 0; i < config->node_count; i++) {
        if (config->nodes[i].id == node_id)
            return (int)i;
    }
    return -1;
}
