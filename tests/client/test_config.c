/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration: the example file parses to what it says, profiles set defaults, and each kind
 * of mistake is refused with its line, what was found and what was expected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/config.h"

static char directory[64];
static char file[96];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/leat-config-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(file, sizeof(file), "%s/leat.yaml", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(directory); /* fails when reading a configuration made anything */
}

static void write_file(const char *text)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, strlen(text), out), strlen(text));
    assert_int_equal(fclose(out), 0);
}

/* A whole configuration, line by line; a test replaces one line or adds some at the end. */
static const char *const good_lines[] = {
    "cluster: 5f0c1d52-6f2e-4c4e-9d7c-2a9a6f0e3b11", /* 1 */
    "node: 2",                                       /* 2 */
    "nodes:",                                        /* 3 */
    "  - {id: 3, ip: 10.0.0.3}",                     /* 4 */
    "  - {id: 1, ip: 10.0.0.1}",                     /* 5 */
    "  - {id: 2, ip: 10.0.0.2}",                     /* 6 */
    "net: {kind: memif, memif_dir: m}",              /* 7 */
    "storage: {data_dir: d}",                        /* 8 */
    "raft: {}",                                      /* 9 */
    "default_log: {segment: 1MiB}",                  /* 10 */
};
#define GOOD_LINES (sizeof(good_lines) / sizeof(good_lines[0]))

static void write_changed(unsigned line, const char *replacement)
{
    char text[4096] = "";
    size_t length = 0;
    for (unsigned i = 0; i < GOOD_LINES; i++) {
        const char *now = i + 1 == line ? replacement : good_lines[i];
        if (i == 9 && line != 10)
            now = "default_log: {}";
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s\n", now);
    }
    if (line > GOOD_LINES)
        snprintf(text + length, sizeof(text) - length, "%s\n", replacement);
    write_file(text);
}

static void read_good(struct leat_config *config)
{
    char error[512] = "";
    int rc = leat_config_read(file, config, error, sizeof(error));
    if (rc != LEAT_OK)
        fail_msg("refused: %s", error);
}

static void test_example_parses(void **state)
{
    (void)state;
    struct leat_config config;
    char error[512] = "";
    const char *path = getenv("LEAT_EXAMPLE");
    assert_non_null(path);
    int rc = leat_config_read(path, &config, error, sizeof(error));
    if (rc != LEAT_OK)
        fail_msg("the example is refused: %s", error);
    assert_int_equal(config.node_count, 3);
    assert_int_equal(config.nodes[1].ipv4, 0x0a4d0002);
    assert_int_equal(config.nodes[1].mac[5], 2);
    assert_int_equal(config.election_min_ns, 150000000);
    assert_int_equal(config.session_ttl_ns, 600000000000);
    assert_int_equal(config.segment_bytes, 16 << 20);
    assert_int_equal(config.client_uid_count, 1);
    assert_int_equal(config.client_uids[0], 1000);
    assert_int_equal(config.client_gid_count, 0);
    assert_int_equal(config.lcore, -1);
    assert_string_equal(config.socket, "/run/leat/leat.sock");
}

static void test_defaults_and_relative_paths(void **state)
{
    (void)state;
    struct leat_config config;
    char expected[128];
    write_changed(0, "");
    read_good(&config);
    assert_string_equal(config.path, file);
    snprintf(expected, sizeof(expected), "%s/d", directory);
    assert_string_equal(config.data_dir, expected);
    assert_int_equal(config.nodes[0].id, 1); /* sorted */
    assert_int_equal(leat_config_node_index(&config, 3), 2);
    assert_int_equal(leat_config_node_index(&config, 4), -1);
    assert_int_equal(config.window_bytes, 4 << 20);
    assert_int_equal(config.idle, LEAT_IDLE_YIELD);
    assert_int_equal(config.log_severity, LEAT_LOG_INFO);
    assert_int_equal(config.log_file[0], 0);
    assert_false(config.accepts_replicated);
}

static void test_rack_profile(void **state)
{
    (void)state;
    struct leat_config config;
    write_changed(11, "profile: rack");
    read_good(&config);
    assert_int_equal(config.election_min_ns, 5000000);
    assert_int_equal(config.election_max_ns, 10000000);
    assert_int_equal(config.heartbeat_ns, 1000000);
    assert_int_equal(config.segment_bytes, 64 << 20);
    assert_int_equal(config.arena_bytes, 256 << 20);
    assert_int_equal(config.entry_bytes_max, 4 << 20);
    assert_int_equal(config.idle, LEAT_IDLE_SPIN);
    assert_int_equal(config.segments_ahead, 4);
    assert_true(config.huge_pages);
}

struct mistake {
    unsigned line;
    const char *text;
    unsigned error_line; /* 0: the same */
    const char *found;
};

static const struct mistake mistakes[] = {
    {11, "nonsense: 1", 0, "unknown key 'nonsense'"},
    {9, "raft: {hartbeat: 30ms}", 0, "unknown key 'hartbeat' in raft"},
    {11, "[a, b]: 1", 0, "unknown key a list"},
    {2, "node: two", 0, "node is 'two', expected a whole number"},
    {2, "node: [2]", 0, "node is a list, expected a whole number"},
    {2, "node:", 0, "node is nothing"},
    {2, "node: 0", 0, "expected 1 to"},
    {2, "node: 99999999999999999999999", 0, "expected a whole number"},
    {2, "node: 7", 0, "node 7 is not in the list"},
    {2, "#", 1, "no node, expected it"},
    {8, "storage: {segments_ahead: 2}", 1, "no storage.data_dir"},
    {11, "node: 2", 0, "node a second time"},
    {11, "raft: {}", 0, "raft a second time"},
    {9, "raft: {heartbeat: 1ms, heartbeat: 1ms}", 0, "heartbeat a second time"},
    {9, "raft: 3", 0, "raft is '3', expected keys and values"},
    {6, "  - {id: 3, ip: 10.0.0.2}", 0, "node id 3 a second time"},
    {6, "  - {id: 2, ip: 10.0.0.1}", 0, "ip of node 1 a second time"},
    {6, "  - {id: 2, ip: 10.0.0}", 0, "ip is '10.0.0', expected a host's IPv4"},
    {6, "  - {id: 2, ip: 255.255.255.255}", 0, "expected a host's IPv4"},
    {6, "  - {id: 2}", 0, "without ip"},
    {6, "  - {ip: 10.0.0.2}", 0, "without id"},
    {6, "  - {id: 2, ip: 10.0.0.2, port: 3}", 0, "unknown key 'port' in nodes"},
    {6, "  - {id: 2, id: 2, ip: 10.0.0.2}", 0, "id a second time"},
    {6, "  - {id: 2, ip: 10.0.0.2, mac: 02:00}", 0, "mac is '02:00', expected"},
    {6, "  - {id: 2, ip: 10.0.0.2, mac: '01:00:00:00:00:01'}", 0, "mac is"},
    {6, "  - 2", 0, "an entry of nodes is '2'"},
    {5, "#", 4, "2 nodes, expected 1, 3, 5 or 7"},
    {1, "cluster: 5f0c1d52", 0, "cluster is '5f0c1d52', expected a uuid"},
    {1, "cluster: 00000000-0000-0000-0000-000000000000", 0, "expected a uuid"},
    {7, "net: {kind: carrier_pigeon}", 0, "expected memif, af_packet, af_xdp or pci"},
    {7, "net: {kind: af_xdp}", 0, "no net.interface"},
    {7, "net: {kind: memif}", 0, "no net.memif_dir"},
    {7, "net: {kind: memif, memif_dir: ''}", 0, "memif_dir is nothing, expected a path"},
    {7, "net: {kind: memif, memif_dir: m, mtu: 20}", 0, "mtu is '20', expected 1280 to 9000"},
    {7, "net: {kind: memif, memif_dir: m, huge_pages: yes}", 0, "expected true or false"},
    {10, "default_log: {segment: 3MB}", 0, "segment is '3MB', expected a size"},
    {10, "default_log: {segment: 3MiB}", 0, "expected a power of two"},
    {10, "default_log: {segment: 512KiB}", 0, "expected 1048576 to"},
    {10, "default_log: {arena: 48MiB}", 0, "expected a power of two"},
    {10, "default_log: {arena: 16MiB}", 0, "at least two segments"},
    {10, "default_log: {largest_entry: 5MiB}", 0, "a quarter of the segment"},
    {10, "default_log: {largest_entry: 4MiB}", 0, "a window of twice the largest entry"},
    {9, "raft: {window: 16MiB}", 0, "a quarter of the arena"},
    {9, "raft: {window: -1}", 0, "window is '-1', expected a size"},
    {9, "raft: {heartbeat: 30}", 0, "heartbeat is '30', expected a time"},
    {9, "raft: {heartbeat: 100ms}", 0, "at most a third"},
    {9, "raft: {election_timeout: 150ms}", 0, "expected a list of two times"},
    {9, "raft: {election_timeout: [1s, 1s]}", 0, "expected a range"},
    {11, "worker: {lcore: -2}", 0, "lcore is '-2', expected -1 to 1023"},
    {11, "worker: {count: 17}", 0, "expected 1 to 16"},
    {11, "clients: {uids: root}", 0, "uids is 'root', expected a list"},
    {11, "clients: {gids: [wheel]}", 0, "gids is 'wheel'"},
    {11, "clients: {uids: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", 0, "at most 16 ids"},
    {11,
     "socket: /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     0, "expected at most 107"},
    {11, "log: {level: loud}", 0, "expected error, warning, info or debug"},
    {11, "a: b: c", 0, "not YAML"},
    {11, "---\nmore: 1", 11, "a second document"},
    {11, "storage: {data_dir: \"x\\0y\"}", 0, "storage a second time"},
    {8, "storage: {data_dir: \"x\\0y\"}", 0, "data_dir is 'x?y', expected a path"},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *mistake = &mistakes[i];
        struct leat_config config, untouched;
        char error[512] = "";
        char start[128];
        memset(&config, 0x5a, sizeof(config));
        memset(&untouched, 0x5a, sizeof(untouched));
        write_changed(mistake->line, mistake->text);
        int rc = leat_config_read(file, &config, error, sizeof(error));
        snprintf(start, sizeof(start), "%s:%u: ", file,
                 mistake->error_line ? mistake->error_line : mistake->line);
        if (rc != LEAT_ECONFIG || strncmp(error, start, strlen(start)) != 0 ||
            !strstr(error, mistake->found) || strchr(error, '\n'))
            fail_msg("\"%s\": %d \"%s\", expected line %s and \"%s\"", mistake->text, rc, error,
                     start, mistake->found);
        assert_memory_equal(&config, &untouched, sizeof(config));
    }
}

static void test_files(void **state)
{
    (void)state;
    struct leat_config config;
    char error[512] = "";
    assert_int_equal(leat_config_read("/nowhere/leat.yaml", &config, error, sizeof(error)),
                     LEAT_ESYSTEM);
    assert_non_null(strstr(error, "/nowhere/leat.yaml: No such file"));
    assert_int_equal(leat_config_read("/tmp", &config, error, sizeof(error)), LEAT_ESYSTEM);
    write_file("");
    assert_int_equal(leat_config_read(file, &config, error, sizeof(error)), LEAT_ECONFIG);
    assert_non_null(strstr(error, "the file is empty"));
    write_file("cluster: 1\n  \"");
    assert_int_equal(leat_config_read(file, &config, error, sizeof(error)), LEAT_ECONFIG);
    char small[8];
    assert_int_equal(leat_config_read(file, &config, small, sizeof(small)), LEAT_ECONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example_parses), cmocka_unit_test(test_defaults_and_relative_paths),
        cmocka_unit_test(test_rack_profile),   cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
