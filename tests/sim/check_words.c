/* SPDX-License-Identifier: Apache-2.0
 *
 * What a leader holds of others is their own word, in this term and of their present life: who
 * voted for it, what they have, and whose amnesia it may end. And who was amnesiac is whole when it
 * is not so any more.
 */
#include <string.h>

#include "check_private.h"
#include "map.h"
#include "state.h"

/* What a node acknowledged to another, of one log. */
struct word {
    uint32_t term;
    uint64_t incarnation; /* its newest in that term */
    uint64_t memory_pos, durable_pos;
    uint64_t round;      /* of the term, in any life */
    bool amnesiac;       /* it said so in this life */
    uint64_t round_then; /* of who leads, when it first did */
};

static struct word words[SIM_HOSTS_MAX][SIM_HOSTS_MAX][LEDGER_LOGS_MAX]; /* from, to */
static struct sim_map grants; /* (log, 2 * voter, one further if amnesiac; term): candidate */
/* Known as replicated when the node last started; it was amnesiac. */
static uint64_t owed[SIM_HOSTS_MAX][LEDGER_LOGS_MAX];

void check_words_begin(void)
{
    memset(words, 0, sizeof(words));
    memset(owed, 0, sizeof(owed));
    grants = (struct sim_map){0};
}

/* ---- what is said ---- */

static void grant_note(unsigned node, const struct leat_message *message, uint32_t log_id)
{
    bool amnesiac = message->flags & LEAT_MESSAGE_AMNESIAC;
    const struct node_log *log = check_replicas[node][log_id].log; /* none in its first pass */
    struct sim_map_key key = {log_id, 2 * node + amnesiac, message->term};
    if (!(message->flags & LEAT_MESSAGE_GRANTED) || message->flags & LEAT_MESSAGE_PRE)
        return;
    map_put(&grants, key, message->to);
    if (!amnesiac && log && log->core.amnesiac)
        world_fail("W5", "node %u is amnesiac of log %u and grants its vote as intact", node + 1,
                   log_id);
}

/* G1: nothing is acknowledged to a leader but what was compared with its log in its term. */
static void ack_note(unsigned node, const struct leat_message *message, uint32_t log_id)
{
    struct word *word = &words[node][message->to][log_id];
    const struct leat_core *core = &check_replicas[node][log_id].log->core;
    const struct node_log *leader = check_replicas[message->to][log_id].log;
    if (core->term != message->term || core->leader != message->to || !core->reconciled)
        world_fail("G1",
                   "node %u acknowledges log %u to member %u in term %u and is not reconciled with "
                   "it",
                   node + 1, log_id, message->to, message->term);
    if (word->term != message->term)
        *word = (struct word){.term = message->term};
    if (word->incarnation != message->from_incarnation)
        *word = (struct word){
            .term = message->term, .incarnation = message->from_incarnation, .round = word->round};
    if (message->memory_pos > word->memory_pos)
        word->memory_pos = message->memory_pos;
    if (message->durable_pos > word->durable_pos)
        word->durable_pos = message->durable_pos;
    if (message->round > word->round)
        word->round = message->round;
    if (!(message->flags & LEAT_MESSAGE_AMNESIAC) || word->amnesiac)
        return;
    word->amnesiac = true;
    word->round_then = leader && leader->core.term == message->term ? leader->core.round : 0;
}

/* W5 b, c: a leader ends the amnesia of who said that it is amnesiac, when its own TERM frame is
 * known as replicated and a majority answered a round that was begun since. */
static void clears_look(unsigned node, const struct leat_message *message, uint32_t log_id)
{
    const struct word *word = &words[message->to][node][log_id];
    const struct leat_core *core = &check_replicas[node][log_id].log->core;
    const struct leat_run *last = &core->runs[core->run_count - 1];
    unsigned answered = 1;
    if (!(message->flags & LEAT_MESSAGE_CLEARS) || core->term != message->term ||
        (word->term == message->term && word->incarnation != message->to_incarnation))
        return; /* of a life that has ended: nobody takes it */
    for (unsigned i = 0; i < cluster.count; i++)
        answered += i != node && words[i][node][log_id].term == message->term &&
                    words[i][node][log_id].round > word->round_then;
    if (word->term != message->term || !word->amnesiac || answered <= cluster.count / 2)
        world_fail("W5",
                   "node %u ends the amnesia of member %u of log %u in term %u, and %u of %u "
                   "answered a round since it said that",
                   node + 1, message->to, log_id, message->term, answered, cluster.count);
    if (last->term != message->term || message->commit_r <= last->first_pos)
        world_fail("W5",
                   "node %u ends the amnesia of member %u of log %u by %lu, below its own term's "
                   "frame",
                   node + 1, message->to, log_id, (unsigned long)message->commit_r);
}

void check_word(unsigned node, const struct leat_message *message, uint32_t log_id)
{
    if (message->kind == LEAT_MESSAGE_VOTE_REPLY)
        grant_note(node, message, log_id);
    else if (!check_replicas[node][log_id].log)
        return;
    else if (message->kind == LEAT_MESSAGE_APPEND_ACK)
        ack_note(node, message, log_id);
    else if (message->kind == LEAT_MESSAGE_APPEND)
        clears_look(node, message, log_id);
}

/* ---- what is made of it ---- */

/* R1, W5: a majority voted for who leads in this very term; of intact ones, or of amnesiacs. Who
 * lost its memory after it had voted says so when it is asked again, and may count for either. */
static void elected_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    bool was_amnesiac =
        before->log == log && before->amnesiac && core->counters.amnesia_accepted == 0;
    unsigned intact = !was_amnesiac, amnesiac = was_amnesiac;
    uint64_t to;
    if (before->log == log && before->role == LEAT_LEADER && before->term == core->term)
        return;
    for (unsigned i = 0; i < cluster.count; i++) {
        struct sim_map_key key = {log->id, 2 * i, core->term};
        bool whole = map_get(&grants, key, &to) && to == node;
        key.position++;
        bool marked = map_get(&grants, key, &to) && to == node;
        intact += i != node && whole;
        amnesiac += i != node && marked;
    }
    if (intact <= cluster.count / 2 && amnesiac <= cluster.count / 2)
        world_fail("W5",
                   "node %u leads log %u in term %u, for which %u intact and %u amnesiac of %u "
                   "voted",
                   node + 1, log->id, core->term, intact, amnesiac, cluster.count);
}

/* R8: what a leader counts a peer for, the peer said in this term, in the life that is known. */
static void match_look(unsigned node, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    for (unsigned i = 0; i < cluster.count; i++) {
        const struct leat_core_peer *peer = &core->peers[i];
        const struct word *word = &words[i][node][log->id];
        if (i == node || !peer->matched || cluster.nodes[i].lost ||
            (word->term == core->term && word->incarnation > peer->incarnation))
            continue;
        if (word->term != core->term || word->incarnation != peer->incarnation ||
            peer->memory_pos > word->memory_pos || peer->durable_pos > word->durable_pos)
            world_fail("R8",
                       "node %u leads log %u in term %u and takes node %u to have it to %lu, "
                       "durable to %lu, which it did not say in this life",
                       node + 1, log->id, core->term, i + 1, (unsigned long)peer->memory_pos,
                       (unsigned long)peer->durable_pos);
    }
}

/* W5 a: who is healed has what was known as replicated when it came back without its memory. */
static void healed_look(unsigned node, const struct replica *before, const struct node_log *log)
{
    const struct leat_core *core = &log->core;
    if (before->log != log || !before->amnesiac || core->amnesiac ||
        core->counters.won_by_amnesiacs > 0 || core->counters.amnesia_accepted > 0)
        return;
    if (core->memory_pos < owed[node][log->id])
        world_fail("W5",
                   "node %u is not amnesiac of log %u any more and has it to %lu, below %lu, which "
                   "was replicated when it came back",
                   node + 1, log->id, (unsigned long)core->memory_pos,
                   (unsigned long)owed[node][log->id]);
}

void check_words(unsigned node, const struct replica *before, const struct node_log *log)
{
    healed_look(node, before, log);
    if (log->core.role != LEAT_LEADER)
        return;
    elected_look(node, before, log);
    match_look(node, log);
}

/* ---- lives ---- */

void check_words_life(unsigned node, uint32_t log_id, uint64_t replicated_pos)
{
    owed[node][log_id] = replicated_pos;
}

void check_words_forgiven(uint32_t log_id)
{
    for (unsigned i = 0; i < SIM_HOSTS_MAX; i++)
        owed[i][log_id] = 0;
}
