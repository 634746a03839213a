/* SPDX-License-Identifier: Apache-2.0
 *
 * A value of the configuration as libyaml gives it, to its field: type, bounds, lists, paths.
 * Every refusal says with its line what was found and what was expected.
 * Tests: tests/client/test_config.c.
 */
#include <stdio.h>
#include <string.h>

#include "config_private.h"
#include "dataplane/port.h"

/* ---- what a YAML node is ---- */

size_t config_node_line(const yaml_node_t *node)
{
    return node->start_mark.line + 1;
}

const char *config_node_text(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

bool config_node_is_text(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE &&
           strlen(config_node_text(node)) == node->data.scalar.length;
}

/* What was found, for an error: at most 40 characters of a scalar, without control characters. */
const char *config_node_found(const yaml_node_t *node, char buffer[48])
{
    if (node->type == YAML_MAPPING_NODE)
        return "a mapping";
    if (node->type == YAML_SEQUENCE_NODE)
        return "a list";
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0)
        return "nothing";
    size_t length = node->data.scalar.length < 40 ? node->data.scalar.length : 40;
    buffer[0] = '\'';
    for (size_t i = 0; i < length; i++) {
        unsigned char c = node->data.scalar.value[i];
        buffer[i + 1] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    buffer[length + 1] = '\'';
    buffer[length + 2] = 0;
    return buffer;
}

int config_fail_found(struct config_reader *reader, const yaml_node_t *node, const char *name,
                      const char *expected)
{
    char buffer[48];
    return config_fail(reader, config_node_line(node), "%s is %s, expected %s", name,
                       config_node_found(node, buffer), expected);
}

/* ---- values ---- */

static const char *type_expected(enum config_type type)
{
    switch (type) {
    case CONFIG_UUID:
        return "a uuid as 8-4-4-4-12 hex digits, not all zero";
    case CONFIG_UNSIGNED:
    case CONFIG_SIGNED:
        return "a whole number";
    case CONFIG_SIZE:
        return "a size like 4096, 64KiB or 16MiB";
    case CONFIG_TIME:
        return "a time like 5us, 150ms, 1s or 10min";
    case CONFIG_RANGE:
        return "a list of two times like [150ms, 300ms]";
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_IDS:
        return "a list of numeric ids";
    case CONFIG_NODES:
        return "a list of {id, ip, mac}";
    default:
        return "text";
    }
}

static void put_number(struct leat_config *config, size_t at, size_t bytes, uint64_t value)
{
    memcpy((char *)config + at, &value, bytes); /* little-endian hosts only, like the formats */
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "put_number");

static int fail_bounds(struct config_reader *reader, const yaml_node_t *node,
                       const struct config_key *key)
{
    char expected[96];
    if (key->type == CONFIG_SIGNED)
        snprintf(expected, sizeof(expected), "%lld to %lld", (long long)key->low,
                 (long long)key->high);
    else
        snprintf(expected, sizeof(expected), "%llu to %llu%s", (unsigned long long)key->low,
                 (unsigned long long)key->high,
                 key->type == CONFIG_SIZE                                ? " bytes"
                 : key->type == CONFIG_TIME || key->type == CONFIG_RANGE ? " ns"
                                                                         : "");
    return config_fail_found(reader, node, key->name, expected);
}

static int read_number(struct config_reader *reader, const yaml_node_t *node,
                       const struct config_key *key, uint64_t *ret_value)
{
    uint64_t value = 0;
    int64_t number = 0;
    bool ok = config_node_is_text(node);
    if (key->type == CONFIG_SIGNED)
        ok = ok && config_value_signed(config_node_text(node), &number);
    else if (key->type == CONFIG_SIZE)
        ok = ok && leat_config_size(config_node_text(node), &value);
    else if (key->type == CONFIG_TIME || key->type == CONFIG_RANGE)
        ok = ok && leat_config_time(config_node_text(node), &value);
    else
        ok = ok && config_value_unsigned(config_node_text(node), &value);
    if (!ok)
        return config_fail_found(reader, node, key->name, type_expected(key->type));
    if (key->type == CONFIG_SIGNED) {
        if (number < (int64_t)key->low || number > (int64_t)key->high)
            return fail_bounds(reader, node, key);
        value = (uint64_t)number;
    } else if (value < key->low || value > key->high) {
        return fail_bounds(reader, node, key);
    }
    *ret_value = value;
    return LEAT_OK;
}

static int read_choice(struct config_reader *reader, const yaml_node_t *node,
                       const struct config_key *key, uint64_t *ret_value)
{
    char expected[96] = "";
    size_t length = 0;
    for (uint64_t i = 0; key->choices[i]; i++) {
        if (config_node_is_text(node) && strcmp(config_node_text(node), key->choices[i]) == 0) {
            *ret_value = i;
            return LEAT_OK;
        }
        length += (size_t)snprintf(expected + length, sizeof(expected) - length, "%s%s",
                                   i == 0                ? ""
                                   : key->choices[i + 1] ? ", "
                                                         : " or ",
                                   key->choices[i]);
    }
    return config_fail_found(reader, node, key->name, expected);
}

static int read_text(struct config_reader *reader, const yaml_node_t *node,
                     const struct config_key *key)
{
    if (!config_node_is_text(node) || node->data.scalar.length == 0)
        return config_fail_found(reader, node, key->name,
                                 key->type == CONFIG_PATH ? "a path" : "a name");
    bool relative = key->type == CONFIG_PATH && config_node_text(node)[0] != '/';
    char text[2 * LEAT_CONFIG_TEXT_BYTES];
    int length = snprintf(text, sizeof(text), "%s%s%s", relative ? reader->directory : "",
                          relative ? "/" : "", config_node_text(node));
    if (length < 0 || length >= (int)LEAT_CONFIG_TEXT_BYTES)
        return config_fail(reader, config_node_line(node), "%s is %d bytes, expected at most %u",
                           key->name, length, LEAT_CONFIG_TEXT_BYTES - 1);
    memcpy((char *)reader->config + key->at, text, (size_t)length + 1);
    return LEAT_OK;
}

static int read_range(struct config_reader *reader, yaml_document_t *document,
                      const yaml_node_t *node, const struct config_key *key)
{
    uint64_t values[2] = {0, 0};
    if (node->type != YAML_SEQUENCE_NODE ||
        node->data.sequence.items.top - node->data.sequence.items.start != 2)
        return config_fail_found(reader, node, key->name, type_expected(key->type));
    for (unsigned i = 0; i < 2; i++) {
        const yaml_node_t *item =
            yaml_document_get_node(document, node->data.sequence.items.start[i]);
        int rc = read_number(reader, item, key, &values[i]);
        if (rc != LEAT_OK)
            return rc;
    }
    put_number(reader->config, key->at, key->bytes, values[0]);
    put_number(reader->config, key->at_2, key->bytes, values[1]);
    return LEAT_OK;
}

static int read_ids(struct config_reader *reader, yaml_document_t *document,
                    const yaml_node_t *node, const struct config_key *key)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return config_fail_found(reader, node, key->name, type_expected(key->type));
    uint32_t count = 0;
    for (const yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        uint64_t value = 0;
        const yaml_node_t *entry = yaml_document_get_node(document, *item);
        if (count == LEAT_CONFIG_IDS_MAX)
            return config_fail(reader, config_node_line(entry),
                               "%s has more, expected at most %u ids", key->name,
                               LEAT_CONFIG_IDS_MAX);
        int rc = read_number(reader, entry, key, &value);
        if (rc != LEAT_OK)
            return rc;
        put_number(reader->config, key->at_2 + count++ * sizeof(uint32_t), sizeof(uint32_t), value);
    }
    put_number(reader->config, key->at, key->bytes, count);
    return LEAT_OK;
}

/* ---- the list of nodes ---- */

enum { NODE_ID = 1, NODE_IP = 2, NODE_MAC = 4, NODE_WORKERS = 8 };

static int read_node_key(struct config_reader *reader, const yaml_node_t *name,
                         const yaml_node_t *value, struct leat_config_node *node, unsigned *seen)
{
    static const struct config_key id_key = {
        .name = "id", .type = CONFIG_UNSIGNED, .low = 1, .high = UINT32_MAX - 1};
    static const struct config_key workers_key = {
        .name = "workers", .type = CONFIG_UNSIGNED, .low = 1, .high = LEAT_WORKERS_MAX};
    const char *text = config_node_is_text(name) ? config_node_text(name) : "";
    unsigned which = strcmp(text, "id") == 0        ? NODE_ID
                     : strcmp(text, "ip") == 0      ? NODE_IP
                     : strcmp(text, "mac") == 0     ? NODE_MAC
                     : strcmp(text, "workers") == 0 ? NODE_WORKERS
                                                    : 0;
    char buffer[48];
    if (which == 0)
        return config_fail(reader, config_node_line(name),
                           "unknown key %s in nodes, expected id, ip, mac or workers",
                           config_node_found(name, buffer));
    if (*seen & which)
        return config_fail(reader, config_node_line(name),
                           "%s a second time, expected each key once", text);
    *seen |= which;
    if (which == NODE_ID) {
        uint64_t id = 0;
        int rc = read_number(reader, value, &id_key, &id);
        node->id = (uint32_t)id;
        return rc;
    }
    if (which == NODE_WORKERS) {
        uint64_t count = 0;
        int rc = read_number(reader, value, &workers_key, &count);
        node->worker_count = (uint16_t)count;
        return rc;
    }
    if (which == NODE_IP &&
        (!config_node_is_text(value) || !config_value_ipv4(config_node_text(value), &node->ipv4)))
        return config_fail_found(reader, value, "ip", "a host's IPv4 address like 10.0.0.1");
    if (which == NODE_MAC &&
        (!config_node_is_text(value) || !config_value_mac(config_node_text(value), node->mac)))
        return config_fail_found(reader, value, "mac",
                                 "a station's address like 02:00:00:00:00:01");
    return LEAT_OK;
}

static int read_node(struct config_reader *reader, yaml_document_t *document,
                     const yaml_node_t *entry, struct leat_config_node *node)
{
    unsigned seen = 0;
    if (entry->type != YAML_MAPPING_NODE)
        return config_fail_found(reader, entry, "an entry of nodes", "{id, ip, mac}");
    for (const yaml_node_pair_t *pair = entry->data.mapping.pairs.start;
         pair < entry->data.mapping.pairs.top; pair++) {
        int rc = read_node_key(reader, yaml_document_get_node(document, pair->key),
                               yaml_document_get_node(document, pair->value), node, &seen);
        if (rc != LEAT_OK)
            return rc;
    }
    if ((seen & (NODE_ID | NODE_IP)) != (NODE_ID | NODE_IP))
        return config_fail(reader, config_node_line(entry),
                           "an entry of nodes without %s, expected one",
                           seen & NODE_ID ? "ip" : "id");
    return LEAT_OK;
}

static int read_nodes(struct config_reader *reader, yaml_document_t *document,
                      const yaml_node_t *list)
{
    struct leat_config *config = reader->config;
    reader->nodes_line = config_node_line(list);
    if (list->type != YAML_SEQUENCE_NODE ||
        list->data.sequence.items.top == list->data.sequence.items.start)
        return config_fail_found(reader, list, "nodes", type_expected(CONFIG_NODES));
    for (const yaml_node_item_t *item = list->data.sequence.items.start;
         item < list->data.sequence.items.top; item++) {
        const yaml_node_t *entry = yaml_document_get_node(document, *item);
        if (config->node_count == LEAT_MEMBERS_MAX)
            return config_fail(reader, config_node_line(entry),
                               "nodes has more, expected at most %u", LEAT_MEMBERS_MAX);
        reader->node_lines[config->node_count] = config_node_line(entry);
        int rc = read_node(reader, document, entry, &config->nodes[config->node_count]);
        if (rc != LEAT_OK)
            return rc;
        config->node_count++;
    }
    return LEAT_OK;
}

int config_read_value(struct config_reader *reader, yaml_document_t *document,
                      const yaml_node_t *node, const struct config_key *key)
{
    uint64_t value = 0;
    bool yes = false;
    int rc = LEAT_OK;
    struct leat_uuid uuid;
    switch (key->type) {
    case CONFIG_NODES:
        return read_nodes(reader, document, node);
    case CONFIG_IDS:
        return read_ids(reader, document, node, key);
    case CONFIG_RANGE:
        return read_range(reader, document, node, key);
    case CONFIG_WORD:
    case CONFIG_PATH:
        return read_text(reader, node, key);
    case CONFIG_UUID:
        if (!config_node_is_text(node) ||
            leat_uuid_parse(config_node_text(node), &uuid) != LEAT_OK || leat_uuid_is_zero(&uuid))
            return config_fail_found(reader, node, key->name, type_expected(key->type));
        memcpy((char *)reader->config + key->at, &uuid, sizeof(uuid));
        return LEAT_OK;
    case CONFIG_BOOL:
        if (!config_node_is_text(node) || !config_value_bool(config_node_text(node), &yes))
            return config_fail_found(reader, node, key->name, type_expected(key->type));
        value = yes;
        break;
    case CONFIG_CHOICE:
        rc = read_choice(reader, node, key, &value);
        break;
    default:
        rc = read_number(reader, node, key, &value);
    }
    if (rc == LEAT_OK && key->at == CONFIG_NO_FIELD)
        reader->profile = value;
    else if (rc == LEAT_OK)
        put_number(reader->config, key->at, key->bytes, value);
    return rc;
}
