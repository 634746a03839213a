/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's state as the worker hands it to the control thread, and its JSON form (leat status).
 */
#ifndef LEAT_NODE_STATUS_H
#define LEAT_NODE_STATUS_H

#include "worker.h"

struct node_status_log {
    uint32_t id;
    uint32_t term;
    uint32_t leader_node; /* 0: none known */
    uint32_t sessions;
    uint8_t role;
    bool amnesiac, damaged, reconciled, accepts_replicated;
    uint64_t memory_pos, durable_pos, commit_r, commit_d, base_pos, next_offset, epoch;
    struct leat_core_counters core;
    struct node_log_counters log;
    uint32_t peer_count;
    struct {
        uint32_t node_id;
        bool matched, amnesiac;
        uint64_t memory_pos, durable_pos;
    } peers[LEAT_MEMBERS_MAX];
};

struct node_status {
    uint32_t node_id;
    uint32_t clients;
    struct leat_uuid node;
    uint64_t incarnation, uptime_ns, passes, busy_passes, client_violations;
    bool draining;
    uint32_t log_count;
    struct node_status_log logs[NODE_LOGS_MAX];
    uint32_t peer_count;
    struct {
        uint32_t node_id;
        bool up, known, refused;
        uint64_t incarnation, heard_ago_ns;
    } peers[LEAT_MEMBERS_MAX];
    uint64_t drops[LEAT_WIRE_DROP_COUNT];
    struct leat_port_counters port;
    struct leat_storage_counters storage;
    uint64_t disk_p50_ns, disk_p99_ns, disk_max_ns;
};

/* Worker. */
void node_status_fill(struct node_worker *worker, struct node_status *status);

/* Any thread. Returns 0 or LEAT_ENOMEM (the text does not fit). */
int node_status_json(const struct node_status *status, char *text, unsigned text_bytes);

#endif
