/* SPDX-License-Identifier: Apache-2.0 */
#include "clients.h"

#include <string.h>

#include "base/assert.h"

void clients_init(struct cluster *cluster, struct clients *clients, uint32_t count, uint64_t seed)
{
    LEAT_ASSERT(count <= CLIENTS_MAX);
    memset(clients, 0, sizeof(*clients));
    clients->rng.state = seed;
    clients->count = count;
    clients->retry_ns = 4000000;
    cluster->clients = clients;
    for (uint32_t i = 0; i < count; i++) {
        struct client *client = &clients->list[i];
        client->id = (uint8_t)(i + 1);
        client->home = (uint8_t)leat_rng_below(&clients->rng, cluster->count);
        client->first = 1;
        client->submit = 1;
        client->depth = 1 + (uint32_t)leat_rng_below(&clients->rng, 8);
    }
}

static uint32_t session_open(struct cluster *cluster, struct replica *leader, uint8_t client)
{
    struct frame open = {.type = LEAT_FRAME_SESSION_OPEN,
                         .cells = 9,
                         .client = client,
                         .session = leat_sessions_free(&leader->tail)};
    return open.session != 0 && replica_append(cluster, leader, &open) ? open.session : 0;
}

int client_append_at(struct cluster *cluster, struct replica *leader, uint8_t client,
                     uint64_t sequence, uint8_t level, uint8_t cells)
{
    struct leat_uuid uuid = {{client, client >> 4, 7}};
    uint32_t session = leat_sessions_find(&leader->tail, &uuid);
    if (session == 0 && sequence != 1)
        return -3;
    if (session == 0)
        session = session_open(cluster, leader, client);
    if (session == 0)
        return 0;
    switch (leat_sessions_judge(&leader->tail, session, sequence)) {
    case LEAT_SESSION_NEXT:
        break;
    case LEAT_SESSION_LAST:
    case LEAT_SESSION_OLDER:
        return -1;
    case LEAT_SESSION_GAP:
        return -2;
    case LEAT_SESSION_UNKNOWN:
        return -3;
    }
    struct frame record = {.type = LEAT_FRAME_RECORD,
                           .cells = cells,
                           .client = client,
                           .level = level,
                           .session = session,
                           .sequence = sequence,
                           .payload = (uint32_t)client << 16 | (uint32_t)sequence};
    return replica_append(cluster, leader, &record) ? 1 : 0;
}

static void client_end(struct client *client, struct append *append)
{
    append->ended = true;
    while (client->first <= client->begun && client->appends[client->first].ended)
        client->first++;
    if (client->submit < client->first)
        client->submit = client->first;
}

static void acknowledge(struct cluster *cluster, struct client *client, uint32_t sequence,
                        bool durable, uint64_t position)
{
    struct append *append = &client->appends[sequence];
    struct checks *checks = &cluster->checks;
    if (durable) {
        append->acked_durable = true;
        checks->durable_acks++;
        if (append->committed_frame == NO_FRAME)
            check_fail(cluster, "C2 (durable): client %u append %u was acknowledged uncommitted",
                       client->id, sequence);
    } else {
        append->acked_replicated = true;
        checks->replicated_acks++;
    }
    if (position > cluster->clients->highest_acked_pos)
        cluster->clients->highest_acked_pos = position;
    client_end(client, append);
}

void clients_committed(struct cluster *cluster, uint32_t id)
{
    const struct frame *frame = &cluster->frames[id];
    struct clients *clients = cluster->clients;
    if (!clients || frame->type != LEAT_FRAME_RECORD || frame->client == 0 ||
        frame->client > clients->count)
        return;
    struct append *append = &clients->list[frame->client - 1].appends[frame->sequence];
    if (append->committed_frame != NO_FRAME && append->committed_frame != id)
        check_fail(cluster, "C1: append %lu of client %u is committed twice",
                   (unsigned long)frame->sequence, frame->client);
    if (frame->position < append->after_pos && !cluster->checks.replicated_excused)
        check_fail(cluster, "C5: an append begun after %lu was acknowledged lies at %lu",
                   (unsigned long)append->after_pos, (unsigned long)frame->position);
    append->committed_frame = id;
}

void clients_complete(struct cluster *cluster, struct replica *replica, const struct frame *frame,
                      bool durable)
{
    struct clients *clients = cluster->clients;
    if (!clients || frame->type != LEAT_FRAME_RECORD || frame->client == 0 ||
        frame->client > clients->count)
        return;
    struct client *client = &clients->list[frame->client - 1];
    struct append *append = &client->appends[frame->sequence];
    if (client->home != replica->self || append->ended || frame->sequence > client->begun ||
        (!durable && append->level == 0))
        return;
    acknowledge(cluster, client, (uint32_t)frame->sequence, durable, frame->position);
}

/* W8: what it had acknowledged as replicated is gone; it gives up by name, never resends. */
static void client_lose(struct cluster *cluster, struct client *client, int verdict)
{
    if (!cluster->checks.replicated_excused)
        check_fail(cluster, "W8: client %u at %c is told %s, though nothing was lost", client->id,
                   replica_name(client->home), verdict == -2 ? "ESESSION" : "ENOSESSION");
    client->lost = true;
    for (uint32_t i = client->first; i <= client->begun; i++)
        client->appends[i].ended = true;
    client->first = client->begun + 1;
}

static void client_take(struct cluster *cluster, struct client *client, struct replica *leader,
                        bool oldest, int verdict, uint32_t sequence)
{
    if (verdict == -1) {
        struct leat_uuid uuid = {{client->id, client->id >> 4, 7}};
        uint32_t session = leat_sessions_find(&leader->committed, &uuid);
        const struct leat_session_row *row = leat_sessions_row(&leader->committed, session);
        if (row && row->last_sequence >= sequence) {
            uint64_t position = row->last_sequence == sequence ? row->last_position : 0;
            uint32_t id = client->appends[sequence].committed_frame;
            if (position != 0 && id != NO_FRAME && cluster->frames[id].position != position)
                check_fail(cluster, "C1: a retry of client %u is told another position",
                           client->id);
            acknowledge(cluster, client, sequence, true, position);
        }
    } else if (verdict < -1 && oldest && leader->core.term == cluster->checks.highest_led) {
        /* a leader that was deposed and does not know it may miss appends that another took: its
         * verdict must wait for a round of its quorum. Here the test knows; a node must ask. */
        client_lose(cluster, client, verdict);
    }
}

/* The node that seals what this client hands in: its home, or its home's leader. */
static struct replica *client_sealer(struct cluster *cluster, const struct client *client)
{
    struct replica *home = &cluster->replicas[client->home];
    if (!home->up || home->fenced || home->paused_until_ns > cluster->now_ns)
        return NULL;
    struct replica *leader = home;
    if (!leat_core_may_append(&home->core)) {
        if (home->core.role != LEAT_FOLLOWER || home->core.leader == LEAT_CORE_NOBODY ||
            !home->core.reconciled)
            return NULL;
        leader = &cluster->replicas[home->core.leader];
    }
    if (!leader->up || leader->fenced || leader->paused_until_ns > cluster->now_ns ||
        !leat_core_may_append(&leader->core) || !leader->tail_is_valid)
        return NULL;
    if (leader != home && (cluster->cut_link[client->home][leader->self] ||
                           cluster->cut_link[leader->self][client->home]))
        return NULL;
    return leader;
}

static void client_poll(struct cluster *cluster, struct client *client)
{
    struct clients *clients = cluster->clients;
    struct replica *home = &cluster->replicas[client->home];
    while (!client->lost && client->begun < client->wanted &&
           client->begun + 1 - client->first < client->depth) {
        struct append *append = &client->appends[++client->begun];
        append->level = cluster->accepts_replicated && leat_rng_below(&clients->rng, 2);
        append->after_pos = clients->highest_acked_pos;
    }
    if (client->first > client->begun)
        return;
    bool late = cluster->now_ns - client->handed_ns > clients->retry_ns;
    if (client->epoch != home->role_epoch || late) {
        cluster->injected[INJECTED_RETRY] += client->submit > client->first;
        client->submit = client->first;
        client->epoch = home->role_epoch;
    }
    struct replica *leader = client_sealer(cluster, client);
    if (!leader)
        return;
    while (client->submit <= client->begun) {
        uint32_t sequence = client->submit;
        client->handed_ns = cluster->now_ns;
        if (client->appends[sequence].ended) {
            client->submit++;
            continue;
        }
        if (leader != home && cluster_chance(&clients->rng, clients->forward_loss_permille)) {
            client->submit++; /* lost on the way: those behind it will be gaps */
            continue;
        }
        bool oldest = sequence == client->first;
        uint8_t cells = (uint8_t)(6 + leat_rng_below(&clients->rng, 20));
        int verdict = client_append_at(cluster, leader, client->id, sequence,
                                       client->appends[sequence].level, cells);
        if (verdict == 0)
            break;
        client->submit++;
        client_take(cluster, client, leader, oldest, verdict, sequence);
    }
}

void clients_poll(struct cluster *cluster)
{
    struct clients *clients = cluster->clients;
    for (uint32_t i = 0; i < clients->count; i++)
        client_poll(cluster, &clients->list[i]);
}

bool clients_are_done(const struct cluster *cluster)
{
    const struct clients *clients = cluster->clients;
    for (uint32_t i = 0; i < clients->count; i++) {
        const struct client *client = &clients->list[i];
        if (client->first <= client->begun || (!client->lost && client->begun < client->wanted))
            return false;
    }
    return true;
}
