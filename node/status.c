/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include <cjson/cJSON.h>
#include <string.h>

static void status_fill_log(const struct node_log *log, struct node_status_log *out)
{
    const struct leat_core *core = &log->core;
    const struct leat_config *config = log->worker->config;
    *out = (struct node_status_log){
        .id = log->id,
        .term = core->term,
        .leader_node = core->leader == LEAT_CORE_NOBODY ? 0 : config->nodes[core->leader].id,
        .sessions = log->committed.count,
        .role = (uint8_t)core->role,
        .amnesiac = core->amnesiac,
        .damaged = core->damaged,
        .reconciled = core->reconciled,
        .accepts_replicated = log->accepts_replicated,
        .memory_pos = core->memory_pos,
        .durable_pos = core->durable_pos,
        .commit_r = core->commit_r,
        .commit_d = core->commit_d,
        .base_pos = core->base_pos,
        .next_offset = log->applied.next_offset,
        .epoch = log->arena.header->epoch.value,
        .core = core->counters,
        .log = log->counters,
    };
    if (core->role != LEAT_LEADER)
        return;
    for (unsigned i = 0; i < core->config.member_count; i++) {
        if (i == core->config.self)
            continue;
        unsigned at = out->peer_count++;
        out->peers[at].node_id = config->nodes[i].id;
        out->peers[at].matched = core->peers[i].matched;
        out->peers[at].amnesiac = core->peers[i].amnesiac;
        out->peers[at].memory_pos = core->peers[i].memory_pos;
        out->peers[at].durable_pos = core->peers[i].durable_pos;
    }
}

void node_status_fill(struct node_worker *worker, struct node_status *status)
{
    memset(status, 0, sizeof(*status));
    status->node_id = worker->config->node_id;
    status->node = worker->node;
    status->incarnation = worker->incarnation;
    status->uptime_ns = worker->now_ns - worker->started_ns;
    status->passes = worker->passes;
    status->busy_passes = worker->busy_passes;
    status->client_violations = worker->client_violations;
    status->draining = worker->draining;
    for (uint32_t i = 0; i < worker->clients_high; i++)
        status->clients += worker->clients[i].rings != NULL;
    status->log_count = worker->log_count;
    for (uint32_t i = 0; i < worker->log_count; i++)
        status_fill_log(&worker->logs[i], &status->logs[i]);
    status->peer_count = worker->peer_count;
    for (uint32_t i = 0; i < worker->peer_count; i++) {
        const struct node_peer *peer = &worker->peers[i];
        status->peers[i].node_id = peer->node_id;
        status->peers[i].up = leat_port_peer_is_up(worker->port, i);
        status->peers[i].known = peer->known;
        status->peers[i].refused = peer->refused;
        status->peers[i].incarnation = peer->incarnation;
        status->peers[i].heard_ago_ns = worker->now_ns - peer->heard_ns;
    }
    memcpy(status->drops, worker->drops, sizeof(status->drops));
    status->port = *leat_port_counters(worker->port);
    status->storage = *leat_storage_counters(worker->storage);
    const struct leat_histogram *latency = leat_storage_latency(worker->storage);
    status->disk_p50_ns = leat_histogram_at(latency, 0.5);
    status->disk_p99_ns = leat_histogram_at(latency, 0.99);
    status->disk_max_ns = latency->max_ns;
}

/* ---- JSON; positions fit a double exactly up to 2^53 bytes, eight petabytes ---- */

static void add(cJSON *object, const char *name, uint64_t value)
{
    cJSON_AddNumberToObject(object, name, (double)value);
}

static cJSON *status_log_json(const struct node_status_log *log)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    cJSON *object = cJSON_CreateObject();
    add(object, "log", log->id);
    cJSON_AddStringToObject(object, "role", roles[log->role]);
    add(object, "term", log->term);
    add(object, "leader", log->leader_node);
    add(object, "memory", log->memory_pos);
    add(object, "durable", log->durable_pos);
    add(object, "commit_replicated", log->commit_r);
    add(object, "commit_durable", log->commit_d);
    add(object, "base", log->base_pos);
    add(object, "next_offset", log->next_offset);
    add(object, "sessions", log->sessions);
    add(object, "epoch", log->epoch);
    cJSON_AddBoolToObject(object, "accepts_replicated", log->accepts_replicated);
    cJSON_AddBoolToObject(object, "amnesiac", log->amnesiac);
    cJSON_AddBoolToObject(object, "damaged", log->damaged);
    cJSON_AddBoolToObject(object, "reconciled", log->reconciled);
    cJSON *counters = cJSON_AddObjectToObject(object, "counters");
    add(counters, "elections", log->core.elections);
    add(counters, "elections_won", log->core.elections_won);
    add(counters, "won_by_amnesiacs", log->core.won_by_amnesiacs);
    add(counters, "amnesia_accepted", log->core.amnesia_accepted);
    add(counters, "amnesia_cleared", log->core.amnesia_cleared);
    add(counters, "stepped_down_quorum", log->core.stepped_down_quorum);
    add(counters, "cuts", log->core.cuts);
    add(counters, "resets", log->core.resets);
    add(counters, "retransmits", log->core.retransmits);
    add(counters, "naks_taken", log->core.naks);
    add(counters, "stale_messages", log->core.stale_messages);
    add(counters, "transfers", log->core.transfers);
    add(counters, "appends", log->log.appends);
    add(counters, "append_bytes", log->log.append_bytes);
    add(counters, "frames_verified", log->log.frames_verified);
    add(counters, "frames_refused", log->log.frames_refused);
    add(counters, "datagrams_duplicate", log->log.datagrams_duplicate);
    add(counters, "datagrams_window", log->log.datagrams_window);
    add(counters, "naks_sent", log->log.naks_sent);
    add(counters, "catchup_reads", log->log.catchup_reads);
    add(counters, "catchup_errors", log->log.catchup_errors);
    add(counters, "rollbacks", log->log.rollbacks);
    add(counters, "forwards_in", log->log.forwards_in);
    add(counters, "forward_gaps", log->log.forward_gaps);
    cJSON *peers = cJSON_AddArrayToObject(object, "followers");
    for (uint32_t i = 0; i < log->peer_count; i++) {
        cJSON *peer = cJSON_CreateObject();
        add(peer, "node", log->peers[i].node_id);
        cJSON_AddBoolToObject(peer, "matched", log->peers[i].matched);
        cJSON_AddBoolToObject(peer, "amnesiac", log->peers[i].amnesiac);
        add(peer, "memory", log->peers[i].memory_pos);
        add(peer, "durable", log->peers[i].durable_pos);
        cJSON_AddItemToArray(peers, peer);
    }
    return object;
}

static void status_counters_json(cJSON *root, const struct node_status *status)
{
    cJSON *drops = cJSON_AddObjectToObject(root, "drops");
    for (int i = 0; i < LEAT_WIRE_DROP_COUNT; i++)
        add(drops, leat_wire_drop_name((enum leat_wire_drop)i), status->drops[i]);
    cJSON *port = cJSON_AddObjectToObject(root, "port");
#define STATUS_PORT(name, text) add(port, #name, status->port.name);
    LEAT_PORT_COUNTERS(STATUS_PORT)
#undef STATUS_PORT
    cJSON *disk = cJSON_AddObjectToObject(root, "disk");
    add(disk, "journal_writes", status->storage.journal_writes);
    add(disk, "journal_bytes", status->storage.journal_bytes);
    add(disk, "segment_writes", status->storage.segment_writes);
    add(disk, "segment_bytes", status->storage.segment_bytes);
    add(disk, "vote_writes", status->storage.vote_writes);
    add(disk, "floor_records", status->storage.floor_records);
    add(disk, "segment_waits", status->storage.segment_waits);
    add(disk, "write_p50_ns", status->disk_p50_ns);
    add(disk, "write_p99_ns", status->disk_p99_ns);
    add(disk, "write_max_ns", status->disk_max_ns);
}

int node_status_json(const struct node_status *status, char *text, unsigned text_bytes)
{
    char uuid[LEAT_UUID_TEXT_BYTES];
    cJSON *root = cJSON_CreateObject();
    leat_uuid_format(&status->node, uuid);
    add(root, "node", status->node_id);
    cJSON_AddStringToObject(root, "uuid", uuid);
    add(root, "incarnation", status->incarnation);
    add(root, "uptime_ms", status->uptime_ns / 1000000);
    add(root, "passes", status->passes);
    add(root, "busy_passes", status->busy_passes);
    add(root, "clients", status->clients);
    add(root, "client_violations", status->client_violations);
    cJSON_AddBoolToObject(root, "draining", status->draining);
    cJSON *logs = cJSON_AddArrayToObject(root, "logs");
    for (uint32_t i = 0; i < status->log_count; i++)
        cJSON_AddItemToArray(logs, status_log_json(&status->logs[i]));
    cJSON *peers = cJSON_AddArrayToObject(root, "peers");
    for (uint32_t i = 0; i < status->peer_count; i++) {
        cJSON *peer = cJSON_CreateObject();
        add(peer, "node", status->peers[i].node_id);
        cJSON_AddBoolToObject(peer, "link", status->peers[i].up);
        cJSON_AddBoolToObject(peer, "known", status->peers[i].known);
        cJSON_AddBoolToObject(peer, "refused", status->peers[i].refused);
        add(peer, "incarnation", status->peers[i].incarnation);
        add(peer, "heard_ms_ago", status->peers[i].heard_ago_ns / 1000000);
        cJSON_AddItemToArray(peers, peer);
    }
    status_counters_json(root, status);
    bool fits = cJSON_PrintPreallocated(root, text, (int)text_bytes, 0);
    cJSON_Delete(root);
    return fits ? LEAT_OK : LEAT_ENOMEM;
}
