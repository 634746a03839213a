/* SPDX-License-Identifier: Apache-2.0
 *
 * What was taken from clients on its way to the log's leader: sealed here when this node leads the
 * log, else forwarded, and again after a change of leader or when nothing ends. Slots of one log
 * are a list in order; a client's logs with something unended are bits. Worker's thread.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define CLIENT_FORWARDS_MOST    50u /* a second without progress: its way may lose long datagrams */
#define CLIENT_FORWARD_RETRY_NS 20000000u /* without progress everything is forwarded again */

static void client_end_recorded(struct node_worker *worker, struct node_client *client,
                                struct node_log *log, uint64_t number,
                                const struct leat_session_row *row)
{
    const struct client_slot *slot = client_slot_at(client, number);
    struct node_append append = client_append(client, slot);
    struct leat_completion completion = {
        .log_id = log->id,
        .sequence = slot->sequence,
        .level = LEAT_LEVEL_DURABLE,
        .offset = UINT64_MAX,
        .error = log_recorded_error(log, row, &append),
    };
    if (slot->sequence == row->last_sequence) {
        completion.position = row->last_position;
        if (row->last_error == LEAT_OK)
            completion.offset = row->last_offset;
        else
            completion.detail = row->last_offset;
    }
    client_end_slot(worker, client, number, &completion);
}

/* The disk is full: what no leader can have sealed is refused, in order up to the newest; what a
 * former one may have waits for its outcome. The session has a gap then, so the library goes on
 * under another identity. */
static void client_end_from(struct node_worker *worker, struct node_client *client,
                            struct node_log *log, uint64_t number)
{
    while (number != CLIENT_NO_SLOT) {
        const struct client_slot *slot = client_slot_at(client, number);
        uint64_t next = slot->next_of_log;
        struct leat_completion completion = {.log_id = log->id,
                                             .error = LEAT_ENOSPACE,
                                             .sequence = slot->sequence,
                                             .offset = UINT64_MAX};
        if (!slot->ended && slot->sequence > client->logs[log->index].former_sequence) {
            log->counters.appends_no_space++;
            client_end_slot(worker, client, number, &completion);
        }
        number = next;
    }
}

void clients_refuse_from(struct node_worker *worker, uint32_t owner, struct node_log *log,
                         uint64_t sequence)
{
    struct node_client *client = &worker->clients[owner];
    uint64_t number = client->busy[log->index / 64] & 1ull << log->index % 64
                          ? client->logs[log->index].first
                          : CLIENT_NO_SLOT;
    while (number != CLIENT_NO_SLOT && client_slot_at(client, number)->sequence < sequence)
        number = client_slot_at(client, number)->next_of_log;
    client_end_from(worker, client, log, number);
}

/* Seals one slot's record into a log led here. Returns false to stop for this pass. */
static bool client_seal(struct node_worker *worker, uint32_t owner, struct node_log *log,
                        uint64_t number, const struct node_append *append, bool oldest)
{
    struct node_client *client = &worker->clients[owner];
    struct leat_session_row row;
    int error = LEAT_OK;
    switch (session_append(log, &client->rings->client, append, log->applied.position, oldest, &row,
                           &error)) {
    case APPEND_SEALED:
        return true;
    case APPEND_RECORDED: { /* completes with its commit, unless that has passed */
        uint32_t session = leat_sessions_find(log->committed, &client->rings->client);
        const struct leat_session_row *committed = leat_sessions_row(log->committed, session);
        if (committed && append->sequence <= committed->last_sequence)
            client_end_recorded(worker, client, log, number, committed);
        return true;
    }
    case APPEND_WAIT:
        if (log_has_no_space(log))
            client_end_from(worker, client, log, number);
        return false;
    case APPEND_GAP:
        clients_end_session(worker, owner, log, LEAT_ESESSION, row.last_sequence);
        return false;
    case APPEND_REFUSED:
        clients_end_session(worker, owner, log, error, 0);
        return false;
    }
    return false;
}

/* A change of leader, or too long without progress: from the oldest on again. */
static void client_begin_again(struct client_log *of_log, uint32_t role_epoch)
{
    of_log->submit = of_log->first;
    of_log->submitted = 0;
    of_log->role_epoch = role_epoch;
}

static void client_forward_again(struct node_worker *worker, struct node_log *log,
                                 struct client_log *of_log)
{
    unsigned peer = worker->peer_of_member[log->core.leader];
    client_begin_again(of_log, log->role_epoch);
    if (++of_log->forwards >= CLIENT_FORWARDS_MOST)
        path_stalls(worker, peer, peers_worker_of(&worker->peers[peer], log->id));
}

static unsigned client_submit(struct node_worker *worker, uint32_t owner, struct node_log *log)
{
    struct node_client *client = &worker->clients[owner];
    struct client_log *of_log = &client->logs[log->index];
    bool leads = leat_core_may_append(&log->core);
    bool forwards = !leads && log->core.role == LEAT_FOLLOWER &&
                    log->core.leader != LEAT_CORE_NOBODY && log->core.reconciled;
    if (of_log->role_epoch != log->role_epoch) {
        of_log->former_sequence = of_log->sent_sequence;
        client_begin_again(of_log, log->role_epoch);
    }
    if ((!leads && !forwards) || worker->draining)
        return 0;
    /* what ends is progress and begins the wait for the rest anew; without one of the two a record
     * lost on the way would wait for the client's next one */
    if (forwards && of_log->submit != of_log->first) {
        if (of_log->forwarded_ns == 0)
            of_log->forwarded_ns = worker->now_ns;
        else if (worker->now_ns - of_log->forwarded_ns > CLIENT_FORWARD_RETRY_NS)
            client_forward_again(worker, log, of_log);
    }
    if (of_log->submit == CLIENT_NO_SLOT)
        return 0;
    worker_wake(log);
    unsigned done = 0;
    uint64_t forwarded_bytes = 0;
    bool oldest = of_log->submit == of_log->first;
    while (of_log->submit != CLIENT_NO_SLOT && done < worker->client_records) {
        uint64_t number = of_log->submit;
        const struct client_slot *slot = client_slot_at(client, number);
        uint64_t next = slot->next_of_log;
        if (!slot->ended) {
            if (forwards &&
                (of_log->submitted >= NODE_FORWARD_WINDOW || forwarded_bytes >= NODE_FORWARD_BYTES))
                break;
            forwarded_bytes += slot->payload_bytes;
            struct node_append append = client_append(client, slot);
            if (oldest)
                of_log->forwarded_ns = worker->now_ns;
            of_log->submitted++;
            if (of_log->sent_sequence < slot->sequence)
                of_log->sent_sequence = slot->sequence;
            bool on = leads ? client_seal(worker, owner, log, number, &append, oldest)
                            : forward_record(log, &client->rings->client, &append, oldest);
            oldest = false;
            if (!on) {
                if (of_log->submitted > 0)
                    of_log->submitted--;
                break;
            }
            done++;
        }
        if (of_log->submit == number) /* it may have ended, and moved on, in the call */
            of_log->submit = next;
    }
    return done;
}

void clients_doubt(struct node_worker *worker, struct node_log *log)
{
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        struct node_client *client = &worker->clients[i];
        struct client_log *of_log = &client->logs[log->index];
        if (!client->rings || !(client->busy[log->index / 64] & 1ull << log->index % 64))
            continue;
        of_log->former_sequence = of_log->sent_sequence;
        for (uint64_t number = of_log->first; number != CLIENT_NO_SLOT;
             number = client_slot_at(client, number)->next_of_log)
            client_slot_at(client, number)->again = true;
    }
}

unsigned client_submit_all(struct node_worker *worker, uint32_t owner)
{
    unsigned done = 0;
    for (uint32_t word = 0; word * 64 < worker->log_count; word++) {
        uint64_t bits = worker->clients[owner].busy[word];
        while (bits != 0) {
            uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            LEAT_DASSERT(worker->logs[index]);
            done += client_submit(worker, owner, worker->logs[index]);
        }
    }
    return done;
}
