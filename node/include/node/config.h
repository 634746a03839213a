/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's configuration: one YAML file (docs/leat.example.yaml has every key explained). Read
 * once at start; nothing is touched before it is whole and valid.
 */
#ifndef LEAT_NODE_CONFIG_H
#define LEAT_NODE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base_frame.h"
#include "base/uuid.h"
#include "dataplane/idle.h"

#define LEAT_CONFIG_TEXT_BYTES 256u
#define LEAT_CONFIG_IDS_MAX    16u

enum leat_config_net { LEAT_NET_MEMIF, LEAT_NET_AF_PACKET, LEAT_NET_AF_XDP, LEAT_NET_PCI };
enum leat_config_severity { LEAT_LOG_ERROR, LEAT_LOG_WARNING, LEAT_LOG_INFO, LEAT_LOG_DEBUG };

struct leat_config_node {
    uint32_t id;           /* from 1 */
    uint32_t ipv4;         /* host byte order */
    uint8_t mac[6];        /* zero: asked for by ARP */
    uint16_t worker_count; /* 0: as many as this node */
};

struct leat_config {
    char path[LEAT_CONFIG_TEXT_BYTES]; /* of the file itself */
    struct leat_uuid cluster;
    uint32_t node_id;
    uint32_t node_count; /* 1, 3, 5 or 7, this node included, sorted by id */
    struct leat_config_node nodes[LEAT_MEMBERS_MAX];

    char data_dir[LEAT_CONFIG_TEXT_BYTES];
    char arena_dir[LEAT_CONFIG_TEXT_BYTES]; /* on tmpfs; default /dev/shm/leat-<uid> */
    char socket[LEAT_CONFIG_TEXT_BYTES];    /* control socket */
    char log_file[LEAT_CONFIG_TEXT_BYTES];  /* empty: stderr */
    enum leat_config_severity log_severity;

    enum leat_config_net net;
    char interface[LEAT_CONFIG_TEXT_BYTES]; /* af_packet, af_xdp, pci */
    char memif_dir[LEAT_CONFIG_TEXT_BYTES];
    uint16_t udp_port_base;
    uint16_t mtu_bytes;
    bool huge_pages;

    uint32_t worker_count; /* fixed at format */
    enum leat_idle_strategy idle;
    int32_t lcore;        /* worker 0 is pinned to it; -1: floats */
    uint32_t lcore_count; /* 0: by `lcore`; else one per worker */
    uint32_t lcores[LEAT_CONFIG_IDS_MAX];
    uint64_t trace_bytes; /* of events for each worker (base/trace.h); 0: off */
    uint32_t writes_in_flight_max;
    uint32_t segments_ahead;
    uint64_t scrub_bytes_per_s; /* 0: off */

    uint64_t election_min_ns;
    uint64_t election_max_ns;
    uint64_t heartbeat_ns;
    uint64_t window_bytes;
    uint64_t session_ttl_ns;

    uint64_t segment_bytes; /* of log 1, at format */
    uint64_t arena_bytes;
    uint32_t entry_bytes_max;
    bool accepts_replicated;

    uint64_t arena_budget_bytes; /* of all logs' arenas together */
    uint32_t quota_sessions;     /* per uid that is neither the node's nor root */
    uint32_t quota_logs;
    uint64_t quota_memory_bytes; /* of rings */

    uint32_t client_uid_count;
    uint32_t client_gid_count;
    uid_t client_uids[LEAT_CONFIG_IDS_MAX]; /* beside the node's own uid and root */
    gid_t client_gids[LEAT_CONFIG_IDS_MAX];
};

/* Reads and checks a file. On failure `error` is one line: file, line, what was found and what was
 * expected; nothing else happened. Returns 0, LEAT_ECONFIG or LEAT_ESYSTEM (cannot be read). */
int leat_config_read(const char *path, struct leat_config *ret_config, char *error,
                     unsigned error_bytes);

/* Sizes and times as the file has them: 4096, 64KiB, 16MiB, 1GiB; 5us, 150ms, 1s, 10min, 24h. */
bool leat_config_size(const char *text, uint64_t *ret_bytes);
bool leat_config_time(const char *text, uint64_t *ret_ns);

/* Place of `node_id` in nodes[], or -1. */
int leat_config_node_index(const struct leat_config *config, uint32_t node_id);

#endif
