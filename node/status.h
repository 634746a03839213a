/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's state as its workers hand it to the control thread, and its JSON form (leat status).
 * Each worker fills its part, a slice of its logs (or, asked of one log, of its sessions) per
 * command, so that no pass stands still for a thousand of them: `cursor` says where it goes on. How
 * it is gathered: commands.h.
 */
#ifndef LEAT_NODE_STATUS_H
#define LEAT_NODE_STATUS_H

#include "worker.h"

#define STATUS_LOGS_PER_PASS     32u
#define STATUS_SESSIONS_PER_PASS 128u
#define STATUS_CURSOR_END        UINT32_MAX

struct node_status_log {
    uint32_t id;
    uint32_t worker;
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

struct node_status_session {
    struct leat_session_row row;
    bool attached; /* its client is attached to this node now */
};

struct node_status_worker {
    uint32_t clients, log_count;
    uint64_t passes, busy_passes, client_violations, short_paths;
    uint64_t absences, absence_max_ns;
    uint64_t drops[LEAT_WIRE_DROP_COUNT];
    struct leat_port_counters port;
    struct leat_storage_counters storage;
    uint64_t disk_p50_ns, disk_p99_ns, disk_max_ns;
};

struct node_status {
    /* asked */
    bool one; /* only the log `log_id` */
    uint32_t log_id;
    /* how far it is */
    uint32_t worker;
    uint32_t cursor; /* 0: the worker begins; of all logs: its next; of one: 1 + its next session */
    /* told */
    uint32_t node_id;
    struct leat_uuid node;
    uint64_t incarnation, uptime_ns;
    bool draining;
    uint32_t peer_count;
    struct {
        uint32_t node_id;
        bool up, known, refused;
        uint32_t worker_count;
        uint64_t incarnation, heard_ago_ns;
    } peers[LEAT_MEMBERS_MAX];
    uint32_t worker_count;
    struct node_status_worker workers[LEAT_WORKERS_MAX];
    uint32_t log_count;
    struct node_status_log logs[NODE_LOGS_MAX];
    uint32_t session_count; /* asked of one log */
    struct node_status_session sessions[LEAT_SESSIONS_MAX];
    struct node_catalogue catalogue; /* names, sizes, retention; filled by worker 0 */
};

/* Worker. */
void node_status_fill(struct node_worker *worker, struct node_status *status);

#endif
