/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void status_fill_log(const struct node_log *log, struct node_status_log *out)
{
    const struct leat_core *core = &log->core;
    const struct leat_config *config = log->worker->config;
    *out = (struct node_status_log){
        .id = log->id,
        .worker = log->worker->number,
        .term = core->term,
        .leader_node = core->leader == LEAT_CORE_NOBODY ? 0 : config->nodes[core->leader].id,
        .sessions = log->committed->count,
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

static void status_fill_peers(struct node_worker *worker, struct node_status *status)
{
    for (uint32_t i = 0; i < worker->peer_count; i++) {
        const struct node_peer *peer = &worker->peers[i];
        const struct node_link *link = &peer->links[0]; /* there always is one to worker 0 */
        status->peers[i].node_id = peer->node_id;
        status->peers[i].up = leat_port_peer_is_up(worker->port, i);
        status->peers[i].known = link->known;
        status->peers[i].refused = link->refused;
        status->peers[i].worker_count = peer->worker_count;
        status->peers[i].incarnation = link->incarnation;
        status->peers[i].heard_ago_ns = worker->now_ns - link->heard_ns;
    }
    status->peer_count = worker->peer_count;
}

static void status_fill_worker(struct node_worker *worker, struct node_status_worker *out)
{
    out->passes = worker->passes;
    out->busy_passes = worker->busy_passes;
    out->client_violations = worker->client_violations;
    out->short_paths = worker->short_paths;
    out->absences = worker->absences;
    out->absence_max_ns = worker->absence_max_ns;
    for (uint32_t i = 0; i < worker->clients_high; i++)
        out->clients += worker->clients[i].rings != NULL;
    memcpy(out->drops, worker->drops, sizeof(out->drops));
    out->port = *leat_port_counters(worker->port);
    out->storage = *leat_storage_counters(worker->storage);
    const struct leat_histogram *latency = leat_storage_latency(worker->storage);
    out->disk_p50_ns = leat_histogram_at(latency, 0.5);
    out->disk_p99_ns = leat_histogram_at(latency, 0.99);
    out->disk_max_ns = latency->max_ns;
}

static void status_fill_node(struct node_worker *worker, struct node_status *status)
{
    status->node_id = worker->config->node_id;
    status->node = worker->node;
    status->incarnation = worker->incarnation;
    status->uptime_ns = worker->now_ns - worker->started_ns;
    status->draining = worker->draining;
    status->worker_count = worker->config->worker_count;
    status->catalogue = *worker->catalogue;
    status_fill_peers(worker, status);
}

/* A slice of the log's session table; false when there is more. */
static bool status_fill_sessions(const struct node_log *log, uint32_t first,
                                 struct node_status *status)
{
    uint32_t end = first + STATUS_SESSIONS_PER_PASS;
    if (end > LEAT_SESSIONS_MAX)
        end = LEAT_SESSIONS_MAX;
    for (uint32_t i = first; i < end; i++) {
        const struct leat_session_row *row = leat_sessions_row(log->committed, i + 1);
        if (row && status->session_count < LEAT_SESSIONS_MAX)
            status->sessions[status->session_count++] = (struct node_status_session){
                .row = *row, .attached = log->owners[i] != NODE_NO_CLIENT};
    }
    return end == LEAT_SESSIONS_MAX;
}

static void status_fill_one(const struct node_worker *worker, struct node_status *status)
{
    const struct node_log *log = worker_log(worker, status->log_id);
    uint32_t first = status->cursor > 0 ? status->cursor - 1 : 0;
    if (log && status->cursor == 0) {
        status_fill_log(log, &status->logs[status->log_count++]);
        status->workers[worker->number].log_count++;
    }
    bool whole = !log || status_fill_sessions(log, first, status);
    status->cursor = whole ? STATUS_CURSOR_END : 1 + first + STATUS_SESSIONS_PER_PASS;
}

static void status_fill_all(const struct node_worker *worker, struct node_status *status)
{
    uint32_t filled = 0, i = status->cursor;
    for (; i < worker->log_count && filled < STATUS_LOGS_PER_PASS; i++) {
        const struct node_log *log = worker->logs[i];
        if (!log || status->log_count == NODE_LOGS_MAX)
            continue;
        status_fill_log(log, &status->logs[status->log_count++]);
        status->workers[worker->number].log_count++;
        filled++;
    }
    status->cursor = i < worker->log_count ? i : STATUS_CURSOR_END;
}

void node_status_fill(struct node_worker *worker, struct node_status *status)
{
    if (status->cursor == 0 && worker->number == 0)
        status_fill_node(worker, status);
    if (status->cursor == 0)
        status_fill_worker(worker, &status->workers[worker->number]);
    if (status->one)
        status_fill_one(worker, status);
    else
        status_fill_all(worker, status);
}

/* ---- gathering: control thread ---- */

struct node_status *node_status_new(bool one, uint32_t log_id)
{
    struct node_status *status = calloc(1, sizeof(*status));
    if (status) {
        status->one = one;
        status->log_id = log_id;
    }
    return status;
}

void node_status_free(struct node_status *status)
{
    free(status);
}

/* Worker 0 first, for what is of the node; then, of one log, only its own. */
bool node_status_next(struct node_status *status, uint32_t worker_count, uint32_t *ret_worker)
{
    if (status->cursor == STATUS_CURSOR_END) {
        uint32_t home = status->log_id % worker_count;
        status->cursor = 0;
        status->worker++;
        if (status->one)
            status->worker = status->worker <= home ? home : worker_count;
    }
    *ret_worker = status->worker;
    return status->worker < worker_count;
}

/* ---- JSON ---- */

/* Positions fit a double exactly up to 2^53 bytes, eight petabytes; times do not. */
static void add(cJSON *object, const char *name, uint64_t value)
{
    char text[24];
    if (value <= 1ull << 53) {
        cJSON_AddNumberToObject(object, name, (double)value);
        return;
    }
    snprintf(text, sizeof(text), "%" PRIu64, value);
    cJSON_AddRawToObject(object, name, text);
}

static void status_row_json(cJSON *object, const struct leat_catalogue_row *row)
{
    add(object, "segment", row->segment_bytes);
    add(object, "arena", row->arena_bytes);
    add(object, "largest_entry", row->entry_bytes_max);
    add(object, "retention_bytes", row->retention_bytes);
    add(object, "retention_ns", row->retention_ns);
    add(object, "owner", row->owner_uid);
}

static void status_sessions_json(cJSON *object, const struct node_status *status)
{
    cJSON *rows = cJSON_AddArrayToObject(object, "session_rows");
    for (uint32_t i = 0; i < status->session_count; i++) {
        const struct leat_session_row *row = &status->sessions[i].row;
        char client[LEAT_UUID_TEXT_BYTES];
        cJSON *one = cJSON_CreateObject();
        leat_uuid_format(&row->client, client);
        add(one, "session", row->session);
        cJSON_AddStringToObject(one, "client", client);
        cJSON_AddBoolToObject(one, "attached", status->sessions[i].attached);
        add(one, "last_sequence", row->last_sequence);
        add(one, "last_position", row->last_position);
        add(one, "last_offset", row->last_offset);
        add(one, "last_time_ns", row->last_time_ns);
        cJSON_AddStringToObject(one, "last_error", leat_error_name(row->last_error));
        cJSON_AddItemToArray(rows, one);
    }
}

static cJSON *status_log_json(const struct node_status *status, const struct node_status_log *log)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    cJSON *object = cJSON_CreateObject();
    const struct leat_catalogue_row *row = catalogue_find(&status->catalogue, log->id);
    add(object, "log", log->id);
    cJSON_AddStringToObject(object, "name", row ? row->name : "");
    add(object, "worker", log->worker);
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
    if (row)
        status_row_json(object, row);
    cJSON_AddBoolToObject(object, "accepts_replicated", log->accepts_replicated);
    cJSON_AddBoolToObject(object, "amnesiac", log->amnesiac);
    cJSON_AddBoolToObject(object, "damaged", log->damaged);
    cJSON_AddBoolToObject(object, "reconciled", log->reconciled);
    cJSON *counters = cJSON_AddObjectToObject(object, "counters");
    add(counters, "elections", log->core.elections);
    add(counters, "elections_won", log->core.elections_won);
    add(counters, "won_by_amnesiacs", log->core.won_by_amnesiacs);
    add(counters, "amnesia_accepted", log->core.amnesia_accepted);
    add(counters, "damage_accepted", log->core.damage_accepted);
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
    add(counters, "damages", log->log.damages);
    add(counters, "repairs", log->log.repairs);
    add(counters, "appends_no_space", log->log.appends_no_space);
    if (status->one)
        status_sessions_json(object, status);
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

/* One worker's counters, or the sums over all of them. */
static void status_counters_json(cJSON *root, const struct node_status_worker *worker)
{
    cJSON *drops = cJSON_AddObjectToObject(root, "drops");
    for (int i = 0; i < LEAT_WIRE_DROP_COUNT; i++)
        add(drops, leat_wire_drop_name((enum leat_wire_drop)i), worker->drops[i]);
    cJSON *port = cJSON_AddObjectToObject(root, "port");
#define STATUS_PORT(name, text) add(port, #name, worker->port.name);
    LEAT_PORT_COUNTERS(STATUS_PORT)
#undef STATUS_PORT
    const struct leat_storage_counters *storage = &worker->storage;
    cJSON *disk = cJSON_AddObjectToObject(root, "disk");
    add(disk, "journal_writes", storage->journal_writes);
    add(disk, "journal_bytes", storage->journal_bytes);
    add(disk, "segment_writes", storage->segment_writes);
    add(disk, "segment_bytes", storage->segment_bytes);
    add(disk, "vote_writes", storage->vote_writes);
    add(disk, "floor_records", storage->floor_records);
    add(disk, "reemitted_logs", storage->reemitted_logs);
    add(disk, "submits", storage->submits);
    add(disk, "segment_waits", storage->segment_waits);
    add(disk, "resubmitted", storage->resubmitted);
    add(disk, "logs_created", storage->logs_created);
    add(disk, "logs_deleted", storage->logs_deleted);
    add(disk, "full_waits", storage->full_waits);
    add(disk, "scrubbed_bytes", storage->scrubbed_bytes);
    add(disk, "damages", storage->damages);
    add(disk, "repairs", storage->repairs);
    add(disk, "write_p50_ns", worker->disk_p50_ns);
    add(disk, "write_p99_ns", worker->disk_p99_ns);
    add(disk, "write_max_ns", worker->disk_max_ns);
    add(root, "passes", worker->passes);
    add(root, "busy_passes", worker->busy_passes);
    add(root, "clients", worker->clients);
    add(root, "client_violations", worker->client_violations);
    add(root, "short_paths", worker->short_paths);
    add(root, "absences", worker->absences);
    add(root, "absence_max_ns", worker->absence_max_ns);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Counters add up; of latencies the largest is told. */
static void status_sum(const struct node_status *status, struct node_status_worker *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (uint32_t w = 0; w < status->worker_count; w++) {
        const struct node_status_worker *one = &status->workers[w];
        const uint64_t *port = (const uint64_t *)&one->port;
        const uint64_t *storage = (const uint64_t *)&one->storage;
        sum->passes += one->passes;
        sum->busy_passes += one->busy_passes;
        sum->clients += one->clients;
        sum->client_violations += one->client_violations;
        sum->short_paths += one->short_paths;
        sum->absences += one->absences;
        sum->absence_max_ns = larger(sum->absence_max_ns, one->absence_max_ns);
        for (unsigned i = 0; i < LEAT_WIRE_DROP_COUNT; i++)
            sum->drops[i] += one->drops[i];
        for (unsigned i = 0; i < sizeof(one->port) / sizeof(*port); i++)
            ((uint64_t *)&sum->port)[i] += port[i];
        for (unsigned i = 0; i < sizeof(one->storage) / sizeof(*storage); i++)
            ((uint64_t *)&sum->storage)[i] += storage[i];
        sum->disk_p50_ns = larger(sum->disk_p50_ns, one->disk_p50_ns);
        sum->disk_p99_ns = larger(sum->disk_p99_ns, one->disk_p99_ns);
        sum->disk_max_ns = larger(sum->disk_max_ns, one->disk_max_ns);
    }
}
_Static_assert(sizeof(struct leat_port_counters) % sizeof(uint64_t) == 0 &&
                   sizeof(struct leat_storage_counters) % sizeof(uint64_t) == 0,
               "counters are words");

static void status_peers_json(cJSON *root, const struct node_status *status)
{
    cJSON *peers = cJSON_AddArrayToObject(root, "peers");
    for (uint32_t i = 0; i < status->peer_count; i++) {
        cJSON *peer = cJSON_CreateObject();
        add(peer, "node", status->peers[i].node_id);
        cJSON_AddBoolToObject(peer, "link", status->peers[i].up);
        cJSON_AddBoolToObject(peer, "known", status->peers[i].known);
        cJSON_AddBoolToObject(peer, "refused", status->peers[i].refused);
        add(peer, "workers", status->peers[i].worker_count);
        add(peer, "incarnation", status->peers[i].incarnation);
        add(peer, "heard_ms_ago", status->peers[i].heard_ago_ns / 1000000);
        cJSON_AddItemToArray(peers, peer);
    }
}

static int status_by_id(const void *a, const void *b)
{
    const struct node_status_log *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

char *node_status_json(struct node_status *status)
{
    char uuid[LEAT_UUID_TEXT_BYTES];
    struct node_status_worker sum;
    cJSON *root = cJSON_CreateObject();
    leat_uuid_format(&status->node, uuid);
    add(root, "node", status->node_id);
    cJSON_AddStringToObject(root, "uuid", uuid);
    add(root, "incarnation", status->incarnation);
    add(root, "uptime_ms", status->uptime_ns / 1000000);
    cJSON_AddBoolToObject(root, "draining", status->draining);
    qsort(status->logs, status->log_count, sizeof(status->logs[0]), status_by_id);
    cJSON *logs = cJSON_AddArrayToObject(root, "logs");
    for (uint32_t i = 0; i < status->log_count; i++)
        cJSON_AddItemToArray(logs, status_log_json(status, &status->logs[i]));
    status_peers_json(root, status);
    status_sum(status, &sum);
    status_counters_json(root, &sum);
    cJSON *workers = cJSON_AddArrayToObject(root, "workers");
    for (uint32_t w = 0; w < status->worker_count && status->worker_count > 1; w++) {
        cJSON *worker = cJSON_CreateObject();
        add(worker, "worker", w);
        add(worker, "logs", status->workers[w].log_count);
        status_counters_json(worker, &status->workers[w]);
        cJSON_AddItemToArray(workers, worker);
    }
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}
