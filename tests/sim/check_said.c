/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node says to others, when it says it: votes are given once, and to who has as much;
 * nothing leaves a node whose disk failed; each life has a higher number.
 */
#include <stdio.h>
#include <string.h>

#include "check_private.h"
#include "files.h"
#include "map.h"

static struct sim_map votes; /* (log, voter, term): whom it granted */
/* (log, 2 * candidate, term): the last term that it asked with; one further: its M */
static struct sim_map candidates;
static uint64_t incarnations[SIM_HOSTS_MAX][LEAT_WORKERS_MAX]; /* highest that ran */
static uint64_t spoken[SIM_HOSTS_MAX][LEAT_WORKERS_MAX];       /* it has sent something as that */
/* By node, its worker, a peer and that one's worker. */
static uint64_t known[SIM_HOSTS_MAX][LEAT_WORKERS_MAX][SIM_HOSTS_MAX][LEAT_WORKERS_MAX];

void check_said_begin(void)
{
    votes = candidates = (struct sim_map){0};
    memset(incarnations, 0, sizeof(incarnations));
    memset(spoken, 0, sizeof(spoken));
    memset(known, 0, sizeof(known));
}

void check_said_forget(unsigned node)
{
    memset(incarnations[node], 0, sizeof(incarnations[node]));
}

/* W4: who installs a log has nothing of it to lead with. */
static void campaign_look(unsigned node, const struct node_log *log)
{
    if (log && log->core.installing)
        world_fail("W4", "node %u asks for votes in log %u, which it installs", node + 1, log->id);
}

/* W7: a new life is a new incarnation, a higher one. */
void check_life(unsigned node, const struct node_worker *worker)
{
    uint64_t *highest = &incarnations[node][worker->number];
    if (worker->incarnation <= *highest)
        world_fail("W7", "node %u worker %u starts as incarnation %lu and has been %lu", node + 1,
                   worker->number, (unsigned long)worker->incarnation, (unsigned long)*highest);
    *highest = worker->incarnation;
    memset(known[node][worker->number], 0, sizeof(known[node][worker->number]));
}

/* W7: nothing is said in the name of a life that its disk may forget. */
static void life_look(unsigned node, const struct leat_wire_header *wire)
{
    char path[LEAT_CONFIG_TEXT_BYTES + 32];
    if (wire->worker >= LEAT_WORKERS_MAX || spoken[node][wire->worker] == wire->from_incarnation)
        return;
    spoken[node][wire->worker] = wire->from_incarnation;
    snprintf(path, sizeof(path), "%s/w%u/votes", cluster.nodes[node].config.data_dir,
             (unsigned)wire->worker);
    if (!files_hold(path, &wire->from_incarnation, sizeof(wire->from_incarnation)))
        world_fail("W7", "node %u worker %u speaks as incarnation %lu, which is not on its disk",
                   node + 1, (unsigned)wire->worker, (unsigned long)wire->from_incarnation);
}

/* R15, W7: who was known in a newer life is not taken for an older one. */
void check_links(unsigned node, const struct node_worker *worker)
{
    for (uint32_t i = 0; i < worker->peer_count; i++) {
        for (uint32_t other = 0; other < worker->config->worker_count; other++) {
            uint64_t now = worker->peers[i].links[other].incarnation;
            uint64_t *newest = &known[node][worker->number][i][other];
            if (now < *newest)
                world_fail("W7", "node %u takes node %u for its incarnation %lu, and knew its %lu",
                           node + 1, worker->peers[i].node_id, (unsigned long)now,
                           (unsigned long)*newest);
            *newest = now;
        }
    }
}

uint64_t check_incarnation(unsigned node)
{
    return incarnations[node][0];
}

static void asked_look(unsigned node, const struct leat_message *message, uint32_t log_id)
{
    if (message->kind != LEAT_MESSAGE_VOTE_REQUEST)
        return;
    campaign_look(node, check_replicas[node][log_id].log);
    if (message->flags & LEAT_MESSAGE_PRE)
        return;
    if (check_replicas[node][log_id].log)
        check_vote_spoken(node, check_replicas[node][log_id].log, message->term);
    struct sim_map_key key = {.log = log_id, .position = 2u * node, .term = message->term};
    map_put(&candidates, key, message->last_term);
    key.position++;
    map_put(&candidates, key, message->memory_pos);
}

/* W1: a vote goes to a candidate whose (last term, M) is not below the voter's. */
static void order_look(unsigned node, const struct replica *replica,
                       const struct leat_message *message, uint32_t log_id)
{
    struct sim_map_key key = {.log = log_id, .position = 2u * message->to, .term = message->term};
    uint64_t last_term, memory_pos;
    if (!map_get(&candidates, key, &last_term))
        world_fail("W1", "node %u grants member %u a vote in term %u of log %u that it did not ask",
                   node + 1, message->to, message->term, log_id);
    key.position++;
    if (world.failed || !map_get(&candidates, key, &memory_pos) || !replica->log)
        return;
    const struct leat_core *core = &replica->log->core;
    uint32_t own_term = core->runs[core->run_count - 1].term;
    if (core->term == message->term && core->role != LEAT_LEADER &&
        core->leader == LEAT_CORE_NOBODY &&
        own_term < message->term && /* a reply that waited: what the elected has sent since */
        (own_term > last_term || (own_term == last_term && core->memory_pos > memory_pos) ||
         (core->damaged && (core->claim_term > last_term || /* V2: and what it had */
                            (core->claim_term == last_term && core->claim_end > memory_pos)))))
        world_fail(
            "W1",
            "node %u has log %u to %lu, last term %u, and grants its vote to member %u, which "
            "asked with %lu, last term %lu",
            node + 1, log_id, (unsigned long)core->memory_pos, own_term, message->to,
            (unsigned long)memory_pos, (unsigned long)last_term);
}

static void granted_look(unsigned node, struct replica *replica, const struct leat_message *message,
                         uint32_t log_id)
{
    if (message->kind != LEAT_MESSAGE_VOTE_REPLY || !(message->flags & LEAT_MESSAGE_GRANTED) ||
        message->flags & LEAT_MESSAGE_PRE)
        return;
    if (replica->log)
        check_vote_spoken(node, replica->log, message->term);
    struct sim_map_key key = {.log = log_id, .position = node, .term = message->term};
    uint64_t to;
    if (!map_get(&votes, key, &to)) /* said again, it is the same vote */
        order_look(node, replica, message, log_id);
    to = map_put(&votes, key, message->to);
    if (to != message->to)
        world_fail("R3",
                   "node %u grants its vote in term %u of log %u to member %u, and gave it to "
                   "member %lu before",
                   node + 1, message->term, log_id, message->to, (unsigned long)to);
    if (message->term < replica->granted_term)
        return; /* one that waited for the disk: it is true all the same */
    replica->granted_term = message->term;
    replica->granted_to = message->to;
}

void check_sent(unsigned node, const struct sim_process *process, const void *header,
                uint32_t bytes)
{
    struct leat_wire_header wire;
    struct leat_message message;
    if (process->disk_failed && !cluster.nodes[node].lost)
        world_fail("J7", "node %u sends though a write of its disk failed", node + 1);
    if (bytes < sizeof(wire))
        return;
    memcpy(&wire, header, sizeof(wire));
    if (!cluster.nodes[node].lost)
        life_look(node, &wire);
    if (bytes < sizeof(wire) + sizeof(message) || wire.kind != LEAT_WIRE_LOG ||
        wire.log_id >= LEDGER_LOGS_MAX)
        return;
    memcpy(&message, (const uint8_t *)header + sizeof(wire), sizeof(message));
    struct replica *replica = &check_replicas[node][wire.log_id];
    asked_look(node, &message, wire.log_id);
    if (cluster.nodes[node].lost)
        return; /* nobody may listen, whatever else it says */
    granted_look(node, replica, &message, wire.log_id);
    check_word(node, &message, wire.log_id);
    if (message.kind != LEAT_MESSAGE_APPEND_ACK)
        return;
    if (replica->log)
        check_cut_recorded(node, replica->log);
    /* a log that begins anew says its base only, below which a majority's disks have all (ADR 0067)
     */
    bool begins_anew = replica->log && replica->log->core.installing;
    if (message.memory_pos > replica->said_memory_pos && !begins_anew)
        replica->said_memory_pos = message.memory_pos;
    if (message.durable_pos > replica->said_durable_pos)
        replica->said_durable_pos = message.durable_pos;
}
