/* SPDX-License-Identifier: Apache-2.0
 *
 * What ties the configuration's keys together: node list, geometry of the default log, timers,
 * what each kind of port needs. Called once by config.c when every key has its value.
 * Tests: tests/client/test_config.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/assert.h"
#include "config_private.h"

static int check_node_ids(struct config_reader *reader)
{
    const struct leat_config *config = reader->config;
    for (uint32_t i = 0; i < config->node_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (config->nodes[i].id == config->nodes[j].id)
                return config_fail(reader, reader->node_lines[i],
                                   "node id %" PRIu32 " a second time, expected each id once",
                                   config->nodes[i].id);
            if (config->nodes[i].ipv4 == config->nodes[j].ipv4)
                return config_fail(reader, reader->node_lines[i],
                                   "the ip of node %" PRIu32
                                   " a second time, expected one per node",
                                   config->nodes[j].id);
        }
    }
    return LEAT_OK;
}

static int check_nodes(struct config_reader *reader)
{
    const struct leat_config *config = reader->config;
    if (config->node_count % 2 == 0)
        return config_fail(reader, reader->nodes_line, "%" PRIu32 " nodes, expected 1, 3, 5 or 7",
                           config->node_count);
    int rc = check_node_ids(reader);
    if (rc == LEAT_OK && leat_config_node_index(config, config->node_id) < 0)
        rc = config_fail(reader, config_line(reader, "", "node", 1),
                         "node %" PRIu32 " is not in the list, expected an entry with its id",
                         config->node_id);
    return rc;
}

static bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static int check_log_geometry(struct config_reader *reader)
{
    const struct leat_config *config = reader->config;
    size_t segment_line = config_line(reader, "default_log", "segment", 1);
    size_t arena_line = config_line(reader, "default_log", "arena", segment_line);
    if (!is_power_of_two(config->segment_bytes))
        return config_fail(reader, segment_line,
                           "segment is %" PRIu64 " bytes, expected a power of two",
                           config->segment_bytes);
    if (!is_power_of_two(config->arena_bytes))
        return config_fail(reader, arena_line,
                           "arena is %" PRIu64 " bytes, expected a power of two",
                           config->arena_bytes);
    if (config->arena_bytes < 2 * config->segment_bytes)
        return config_fail(reader, arena_line,
                           "arena is %" PRIu64 " bytes, expected at least two segments (%" PRIu64
                           ")",
                           config->arena_bytes, 2 * config->segment_bytes);
    if (config->window_bytes > config->arena_bytes / 4)
        return config_fail(reader, config_line(reader, "raft", "window", arena_line),
                           "window is %" PRIu64
                           " bytes, expected at most a quarter of the arena (%" PRIu64 ")",
                           config->window_bytes, config->arena_bytes / 4);
    size_t entry_line = config_line(reader, "default_log", "largest_entry", segment_line);
    if (config->entry_bytes_max > config->segment_bytes / 4)
        return config_fail(reader, entry_line,
                           "largest_entry is %" PRIu32
                           " bytes, expected at most a quarter of the segment (%" PRIu64 ")",
                           config->entry_bytes_max, config->segment_bytes / 4);
    /* the largest entry, the PAD that it may need before it, and a full BASE frame in between */
    if (2 * (uint64_t)config->entry_bytes_max + LEAT_SEGMENT_BYTES_MIN / 4 > config->window_bytes)
        return config_fail(reader, config_line(reader, "raft", "window", entry_line),
                           "largest_entry is %" PRIu32 " bytes and window %" PRIu64
                           ", expected a window of twice the largest entry and 256KiB, or more",
                           config->entry_bytes_max, config->window_bytes);
    return LEAT_OK;
}

static int check_timers(struct config_reader *reader)
{
    const struct leat_config *config = reader->config;
    size_t line = config_line(reader, "raft", "election_timeout", 1);
    if (config->election_min_ns >= config->election_max_ns)
        return config_fail(reader, line,
                           "election_timeout's first is not below its second, expected a range "
                           "[least, most] to draw from");
    if (config->heartbeat_ns > config->election_min_ns / 3)
        return config_fail(reader, config_line(reader, "raft", "heartbeat", line),
                           "heartbeat is %" PRIu64
                           " ns, expected at most a third of election_timeout's first (%" PRIu64
                           ")",
                           config->heartbeat_ns, config->election_min_ns / 3);
    return LEAT_OK;
}

static int check_workers(struct config_reader *reader)
{
    const struct leat_config *config = reader->config;
    size_t line = config_line(reader, "worker", "lcores", 1);
    if (config->lcore_count != 0 && config->lcore_count != config->worker_count)
        return config_fail(reader, line,
                           "lcores names %" PRIu32 " cores, expected one per worker (%" PRIu32 ")",
                           config->lcore_count, config->worker_count);
    int self = leat_config_node_index(config, config->node_id);
    if (config->nodes[self].worker_count != 0 &&
        config->nodes[self].worker_count != config->worker_count)
        return config_fail(reader, reader->node_lines[self],
                           "workers of this node is %u, expected worker.count (%" PRIu32 ")",
                           config->nodes[self].worker_count, config->worker_count);
    if (config->arena_bytes + LEAT_ARENA_BYTES_MIN > config->arena_budget_bytes)
        return config_fail(reader, config_line(reader, "memory", "budget", line),
                           "budget is %" PRIu64
                           " bytes, expected room for the arenas of logs 0 and 1 (%" PRIu64 ")",
                           config->arena_budget_bytes, config->arena_bytes + LEAT_ARENA_BYTES_MIN);
    return LEAT_OK;
}

static int check_net(struct config_reader *reader)
{
    const struct leat_config *config = reader->config;
    size_t line = config_line(reader, "net", "kind", 1);
    if (config->net != LEAT_NET_MEMIF && config->interface[0] == 0)
        return config_fail(reader, line, "no net.interface, expected one with this kind");
    if (config->net == LEAT_NET_MEMIF && config->memif_dir[0] == 0 && config->node_count > 1)
        return config_fail(reader, line,
                           "no net.memif_dir, expected one with kind memif: a directory that all "
                           "nodes of the host share");
    size_t socket_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (strlen(config->socket) > socket_max)
        return config_fail(reader, config_line(reader, "", "socket", 1),
                           "the socket's absolute path is %zu bytes, expected at most %zu",
                           strlen(config->socket), socket_max);
    return LEAT_OK;
}

int config_check(struct config_reader *reader)
{
    int rc = check_nodes(reader);
    if (rc == LEAT_OK)
        rc = check_log_geometry(reader);
    if (rc == LEAT_OK)
        rc = check_timers(reader);
    if (rc == LEAT_OK)
        rc = check_workers(reader);
    if (rc == LEAT_OK)
        rc = check_net(reader);
    return rc;
}
