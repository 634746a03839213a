/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold after every step (FAULTS' R, C and W rows), each looked at only where something
 * changed. The first violation is kept as a sentence.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "clients.h"

void check_fail(struct cluster *cluster, const char *format, ...)
{
    va_list arguments;
    if (cluster->checks.broken[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(cluster->checks.broken, sizeof(cluster->checks.broken), format, arguments);
    va_end(arguments);
    cluster_line(cluster, "VIOLATED %s", cluster->checks.broken);
}

static bool same_cells(const uint32_t *a, const uint32_t *b, uint64_t begin, uint64_t end)
{
    return begin >= end || memcmp(a + cell_of(begin), b + cell_of(begin),
                                  (cell_of(end) - cell_of(begin)) * sizeof(a[0])) == 0;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- elections ---- */

static void check_vote(struct cluster *cluster, const struct replica *replica, uint32_t term,
                       uint8_t candidate)
{
    uint8_t *vote = &cluster->checks.vote_of[replica->self][term % TERMS_MAX];
    const struct journal *journal = &replica->journal;
    if (*vote != 0 && *vote != candidate + 1)
        check_fail(cluster, "R3: %c votes for %c and for %c in term %u",
                   replica_name(replica->self), replica_name((uint8_t)(*vote - 1)),
                   replica_name(candidate), term);
    *vote = (uint8_t)(candidate + 1);
    if (journal->vote_term < term ||
        (journal->vote_term == term && journal->voted_for != candidate))
        check_fail(cluster, "R3: %c speaks of its vote in term %u before it is durable",
                   replica_name(replica->self), term);
}

/* W5: replicated appends that a new leader lacks are lost; only a counted event allows it. */
static void check_replicated_of_leader(struct cluster *cluster, const struct replica *replica)
{
    struct checks *checks = &cluster->checks;
    uint64_t at = larger(replica->core.base_pos, checks->committed_end);
    while (at < checks->replicated_end &&
           replica->arena[cell_of(at)] == checks->replicated[cell_of(at)] &&
           at < replica->core.memory_pos)
        at += CELL_BYTES;
    if (at >= checks->replicated_end)
        return;
    if (cluster->accepts_replicated && !checks->replicated_excused)
        check_fail(cluster,
                   "R11 (replicated): %c leads term %u without what was committed at [%lu, %lu)",
                   replica_name(replica->self), replica->core.term, (unsigned long)at,
                   (unsigned long)checks->replicated_end);
    checks->replicated_lost++;
    checks->replicated_end = at;
}

static void check_leader(struct cluster *cluster, const struct replica *replica)
{
    const struct leat_core *core = &replica->core;
    struct checks *checks = &cluster->checks;
    uint8_t *leader = &checks->leader_of[core->term % TERMS_MAX];
    if (*leader != 0 && (*leader != replica->self + 1 || replica->seen_role != LEAT_LEADER))
        check_fail(cluster, "R1: %c and %c lead term %u", replica_name((uint8_t)(*leader - 1)),
                   replica_name(replica->self), core->term);
    *leader = (uint8_t)(replica->self + 1);
    if (replica->seen_role == LEAT_LEADER || core->term < checks->highest_led)
        return; /* elected late, into a term of the past: it need not have what came after */
    checks->highest_led = core->term;
    if (core->memory_pos < checks->committed_end ||
        !same_cells(replica->arena, checks->committed, core->base_pos, checks->committed_end))
        check_fail(cluster, "R11 (durable): %c leads term %u without all of [0, %lu)",
                   replica_name(replica->self), core->term, (unsigned long)checks->committed_end);
    check_replicated_of_leader(cluster, replica);
}

/* ---- commits ---- */

static void check_quorum_of_disks(struct cluster *cluster, uint64_t begin, uint64_t end)
{
    unsigned holders = 0;
    for (uint8_t i = 0; i < cluster->count; i++)
        holders += same_cells(cluster->replicas[i].disk, cluster->checks.committed, begin, end);
    if (holders < cluster->count / 2u + 1)
        check_fail(cluster, "PR1: [%lu, %lu) is committed durably and lies on %u of %u disks",
                   (unsigned long)begin, (unsigned long)end, holders, cluster->count);
}

static void check_commit_d(struct cluster *cluster, const struct replica *replica)
{
    struct checks *checks = &cluster->checks;
    uint64_t begin = larger(replica->seen_commit_d, replica->core.base_pos);
    uint64_t end = replica->core.commit_d;
    uint64_t known = end < checks->committed_end ? end : checks->committed_end;
    if (!same_cells(replica->arena, checks->committed, begin, known))
        check_fail(cluster, "C6: %c commits other bytes at [%lu, %lu)", replica_name(replica->self),
                   (unsigned long)begin, (unsigned long)known);
    if (end <= checks->committed_end)
        return;
    begin = checks->committed_end;
    for (uint32_t i = cell_of(begin); i < cell_of(end); i++) {
        checks->committed[i] = replica->arena[i];
        if ((replica->arena[i] & 0xff) == 0)
            clients_committed(cluster, replica->arena[i] >> 8);
    }
    checks->committed_end = end;
    check_quorum_of_disks(cluster, begin, end);
}

static void check_commit_r(struct cluster *cluster, const struct replica *replica)
{
    struct checks *checks = &cluster->checks;
    uint64_t begin = larger(replica->seen_commit_r, replica->core.base_pos);
    uint64_t end = replica->core.commit_r;
    uint64_t known = end < checks->replicated_end ? end : checks->replicated_end;
    if (!same_cells(replica->arena, checks->replicated, begin, known)) {
        if (cluster->accepts_replicated && !checks->replicated_excused)
            check_fail(cluster, "C6 (replicated): %c commits other bytes at [%lu, %lu)",
                       replica_name(replica->self), (unsigned long)begin, (unsigned long)known);
        checks->replicated_end = begin;
    }
    if (end <= checks->replicated_end)
        return;
    for (uint32_t i = cell_of(checks->replicated_end); i < cell_of(end); i++)
        checks->replicated[i] = replica->arena[i];
    checks->replicated_end = end;
}

static void check_commits(struct cluster *cluster, struct replica *replica)
{
    const struct leat_core *core = &replica->core;
    if (core->commit_d < replica->seen_commit_d || core->commit_r < replica->seen_commit_r)
        check_fail(cluster, "R2: the commit of %c goes back", replica_name(replica->self));
    if (core->cut_settling && replica->installing)
        return;
    if (core->commit_d > replica->seen_commit_d && !replica->installing)
        check_commit_d(cluster, replica);
    if (core->commit_r > replica->seen_commit_r && !replica->installing)
        check_commit_r(cluster, replica);
    replica->seen_commit_d = core->commit_d;
    replica->seen_commit_r = core->commit_r;
}

/* ---- what a leader believes of its peers ---- */

static void check_belief(struct cluster *cluster, struct replica *leader, uint8_t of)
{
    const struct leat_core_peer *peer = &leader->core.peers[of];
    const struct replica *replica = &cluster->replicas[of];
    if (leader->seen_role != LEAT_LEADER || leader->believed_of[of] != peer->incarnation) {
        leader->believed_of[of] = peer->incarnation;
        leader->believed_memory[of] = 0;
        leader->believed_durable[of] = 0;
    }
    if (!peer->matched || !replica->up || replica->core.incarnation != peer->incarnation ||
        replica->core.term != leader->core.term)
        return;
    uint64_t low = larger(replica->core.base_pos, leader->core.base_pos);
    if (peer->memory_pos > leader->believed_memory[of] &&
        (peer->memory_pos > replica->core.memory_pos ||
         !same_cells(leader->arena, replica->arena, larger(low, leader->believed_memory[of]),
                     peer->memory_pos)))
        check_fail(cluster, "G1: %c believes that %c has [0, %lu) in memory",
                   replica_name(leader->self), replica_name(of), (unsigned long)peer->memory_pos);
    if (peer->durable_pos > leader->believed_durable[of] &&
        !same_cells(leader->arena, replica->disk, larger(low, leader->believed_durable[of]),
                    peer->durable_pos))
        check_fail(cluster, "R8: %c believes that %c has [0, %lu) on disk",
                   replica_name(leader->self), replica_name(of), (unsigned long)peer->durable_pos);
    leader->believed_memory[of] = peer->memory_pos;
    leader->believed_durable[of] = peer->durable_pos;
}

void check_replica(struct cluster *cluster, struct replica *replica)
{
    const struct leat_core *core = &replica->core;
    if (core->term < replica->seen_term)
        check_fail(cluster, "R2: the term of %c goes back", replica_name(replica->self));
    if (core->memory_pos > replica->published_end)
        check_fail(cluster, "W4: %c counts %lu and has published %lu", replica_name(replica->self),
                   (unsigned long)core->memory_pos, (unsigned long)replica->published_end);
    if (core->role == LEAT_LEADER) {
        check_leader(cluster, replica);
        for (uint8_t i = 0; i < cluster->count; i++) {
            if (i != replica->self)
                check_belief(cluster, replica, i);
        }
    }
    check_commits(cluster, replica);
    replica->seen_term = core->term;
    replica->seen_role = core->role;
}

void check_message(struct cluster *cluster, struct replica *replica,
                   const struct leat_message *message)
{
    if (message->flags & LEAT_MESSAGE_PRE)
        return;
    if (message->kind == LEAT_MESSAGE_VOTE_REQUEST)
        check_vote(cluster, replica, message->term, replica->self);
    if (message->kind == LEAT_MESSAGE_VOTE_REPLY && message->flags & LEAT_MESSAGE_GRANTED)
        check_vote(cluster, replica, message->term, message->to);
    if (message->kind != LEAT_MESSAGE_APPEND_ACK)
        return;
    if (message->memory_pos > replica->published_end)
        check_fail(cluster, "W4: %c acknowledges %lu and has published %lu",
                   replica_name(replica->self), (unsigned long)message->memory_pos,
                   (unsigned long)replica->published_end);
    uint64_t begin = larger(replica->acked_durable, replica->core.base_pos);
    if (!same_cells(replica->arena, replica->disk, begin, message->durable_pos))
        check_fail(cluster, "J1: %c acknowledges %lu as durable, its disk has other bytes",
                   replica_name(replica->self), (unsigned long)message->durable_pos);
    replica->acked_durable = larger(replica->acked_durable, message->durable_pos);
    replica->acked_memory = larger(replica->acked_memory, message->memory_pos);
}

void check_boot(struct cluster *cluster, struct replica *replica, const struct leat_core_boot *boot)
{
    if (boot->damaged && !cluster->checks.damage)
        check_fail(cluster, "V2: the intact disk of %c is called damaged",
                   replica_name(replica->self));
    if (boot->durable_pos < replica->acked_durable && !boot->damaged)
        check_fail(cluster, "J4: %c recovers D %lu, it had acknowledged %lu",
                   replica_name(replica->self), (unsigned long)boot->durable_pos,
                   (unsigned long)replica->acked_durable);
    if (boot->memory_pos < replica->acked_memory)
        check_fail(cluster, "W4: %c recovers M %lu, it had acknowledged %lu",
                   replica_name(replica->self), (unsigned long)boot->memory_pos,
                   (unsigned long)replica->acked_memory);
    if (boot->commit_d > cluster->checks.committed_end ||
        !same_cells(replica->arena, cluster->checks.committed, boot->base_pos, boot->commit_d))
        check_fail(cluster, "W6: %c recovers commitD %lu over other bytes",
                   replica_name(replica->self), (unsigned long)boot->commit_d);
}

void check_forgive(struct cluster *cluster)
{
    cluster->checks.replicated_excused = true;
}

void check_equal(struct cluster *cluster)
{
    uint8_t leader = cluster_leader(cluster);
    if (leader == LEAT_CORE_NOBODY) {
        check_fail(cluster, "L1: no leader after healing");
        return;
    }
    const struct replica *of = &cluster->replicas[leader];
    for (uint8_t i = 0; i < cluster->count; i++) {
        const struct replica *replica = &cluster->replicas[i];
        const struct leat_core *core = &replica->core;
        uint64_t low = larger(core->base_pos, of->core.base_pos);
        if (core->memory_pos != of->core.memory_pos || core->durable_pos != core->memory_pos ||
            core->commit_d != core->memory_pos || core->term != of->core.term)
            check_fail(cluster, "L1: after healing %c is at M %lu D %lu commit %lu/%lu term %u",
                       replica_name(i), (unsigned long)core->memory_pos,
                       (unsigned long)core->durable_pos, (unsigned long)core->commit_r,
                       (unsigned long)core->commit_d, core->term);
        else if (!same_cells(of->arena, replica->arena, low, core->memory_pos) ||
                 !same_cells(of->arena, replica->disk, low, core->memory_pos))
            check_fail(cluster, "C6: after healing %c holds other bytes", replica_name(i));
        else if (memcmp(of->committed.rows, replica->committed.rows, sizeof(of->committed.rows)) !=
                 0)
            check_fail(cluster, "T2: after healing %c has other sessions", replica_name(i));
        if (core->amnesiac)
            check_fail(cluster, "L1: after healing %c is amnesiac", replica_name(i));
    }
}
