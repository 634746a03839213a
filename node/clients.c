/* SPDX-License-Identifier: Apache-2.0
 *
 * Attached clients: records out of their rings, completions into them. Worker's thread.
 *
 * A record is taken into a slot, submitted to the log's leader (sealed here, or forwarded) and
 * ends when a commit at its level covers it, or with an error. It stays in the ring until then, so
 * that after a change of leader all that has not ended is submitted again, in order; the session
 * makes that exactly-once. Everything read from the ring is hostile (rule H1): each shared word is
 * loaded once, bounded, then used; a client that breaks the protocol is let go.
 */
#include <string.h>

#include "base/assert.h"
#include "worker.h"

#define CLIENT_FORWARD_RETRY_NS 20000000u /* without progress everything is forwarded again */

static struct client_slot *slot_at(const struct node_client *client, uint64_t index)
{
    return &client->slots[index & client->slot_mask];
}

struct node_append client_append(const struct node_client *client, const struct client_slot *slot)
{
    uint64_t at = slot->ring_pos & (client->rings->ring_bytes - 1);
    return (struct node_append){
        .sequence = slot->sequence,
        .level = (enum leat_level)slot->level,
        .kind = (enum leat_ring_kind)slot->kind,
        .conditional = slot->conditional,
        .writer_epoch = slot->writer_epoch,
        .condition = slot->condition,
        .payload = client->rings->records + at + sizeof(struct leat_ring_record),
        .payload_bytes = slot->payload_bytes,
    };
}

uint32_t clients_find(const struct node_worker *worker, const struct leat_uuid *client)
{
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        if (worker->clients[i].rings && leat_uuid_equal(&worker->clients[i].rings->client, client))
            return i;
    }
    return NODE_NO_CLIENT;
}

void clients_adopt(struct node_worker *worker, struct node_log *log)
{
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++)
        log->owners[i] = NODE_NO_CLIENT;
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        if (!worker->clients[i].rings)
            continue;
        uint32_t session = leat_sessions_find(&log->committed, &worker->clients[i].rings->client);
        if (session != 0)
            log->owners[session - 1] = i;
    }
}

/* The slots' memory is the control thread's (with the rings), so nothing is allocated here. */
int clients_attach(struct node_worker *worker, struct node_rings *rings)
{
    if (clients_find(worker, &rings->client) != NODE_NO_CLIENT)
        return LEAT_EEXISTS;
    for (uint32_t i = 0; i < NODE_CLIENTS_MAX; i++) {
        struct node_client *client = &worker->clients[i];
        if (client->rings)
            continue;
        memset(client, 0, sizeof(*client));
        client->rings = rings;
        client->slots = rings->slots;
        client->slot_mask = rings->completion_count - 1;
        rings->slot = i;
        if (i >= worker->clients_high)
            worker->clients_high = i + 1;
        for (uint32_t l = 0; l < worker->log_count; l++) {
            struct node_log *log = worker->logs[l];
            if (!log)
                continue;
            uint32_t session = leat_sessions_find(&log->committed, &rings->client);
            if (session != 0)
                log->owners[session - 1] = i;
        }
        return LEAT_OK;
    }
    return LEAT_EAGAIN;
}

void clients_detach(struct node_worker *worker, struct node_rings *rings)
{
    struct node_client *client = &worker->clients[rings->slot];
    if (client->rings != rings)
        return; /* let go before */
    for (uint32_t l = 0; l < worker->log_count; l++) {
        struct node_log *log = worker->logs[l];
        for (uint32_t s = 0; log && s < LEAT_SESSIONS_MAX; s++) {
            if (log->owners[s] == rings->slot)
                log->owners[s] = NODE_NO_CLIENT;
        }
    }
    memset(client, 0, sizeof(*client));
}

/* Tells the client why and stops looking at its rings; its connection's end detaches it. */
static void client_let_go(struct node_worker *worker, struct node_client *client, int error)
{
    static _Thread_local struct logger_rate rate;
    struct node_rings *rings = client->rings;
    worker->client_violations++;
    logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                   "a client of uid %u broke the protocol of its ring at %lu and is let go",
                   rings->uid, (unsigned long)client->taken);
    __atomic_store_n(&rings->answers->closed.value, (uint64_t)(int64_t)error, __ATOMIC_RELEASE);
    clients_detach(worker, rings);
}

/* ---- ending ---- */

static void client_push(struct node_client *client, const struct leat_completion *completion)
{
    struct node_rings *rings = client->rings;
    rings->completions[client->completion_tail & (rings->completion_count - 1)] = *completion;
    client->completion_tail++;
    __atomic_store_n(&rings->answers->completion_tail.value, client->completion_tail,
                     __ATOMIC_RELEASE); /* pairs with the client's acquire in its poll */
}

static void client_release(struct node_client *client)
{
    uint64_t released = client->released;
    while (client->slot_first < client->slot_next && slot_at(client, client->slot_first)->ended) {
        released = slot_at(client, client->slot_first)->ring_end;
        client->slot_first++;
    }
    if (client->slot_first == client->slot_next)
        released = client->taken;
    if (released == client->released)
        return;
    client->released = released;
    __atomic_store_n(&client->rings->answers->head.value, released, __ATOMIC_RELEASE);
}

static void client_end_slot(const struct node_worker *worker, struct node_client *client,
                            struct client_slot *slot, const struct leat_completion *completion)
{
    LEAT_ASSERT(!slot->ended);
    slot->ended = true;
    client_push(client, completion);
    client->logs[slot->log].forwarded_ns = worker->now_ns; /* progress: the timer begins anew */
}

/* The slot of (log, sequence): where it is when all slots are of one log, else looked for. */
static struct client_slot *client_find_slot(struct node_client *client, uint32_t log_index,
                                            uint64_t sequence)
{
    if (client->slot_first == client->slot_next)
        return NULL;
    uint64_t guess =
        client->slot_first + (sequence - slot_at(client, client->slot_first)->sequence);
    if (guess >= client->slot_first && guess < client->slot_next &&
        slot_at(client, guess)->log == log_index && slot_at(client, guess)->sequence == sequence)
        return slot_at(client, guess);
    for (uint64_t i = client->slot_first; i < client->slot_next; i++) {
        struct client_slot *slot = slot_at(client, i);
        if (slot->log == log_index && slot->sequence == sequence)
            return slot;
    }
    return NULL;
}

void clients_end(struct node_worker *worker, uint32_t owner, uint32_t log_index,
                 const struct leat_completion *completion)
{
    struct node_client *client = &worker->clients[owner];
    struct client_slot *slot = client_find_slot(client, log_index, completion->sequence);
    if (!slot || slot->ended)
        return;
    client_end_slot(worker, client, slot, completion);
    client_release(client);
}

void clients_complete(struct node_worker *worker, uint32_t owner, struct node_log *log,
                      const struct leat_frame *frame, uint64_t position, enum leat_level level)
{
    struct node_client *client = &worker->clients[owner];
    struct client_slot *slot = client_find_slot(client, log->index, frame->sequence);
    if (!slot || slot->ended || (level == LEAT_LEVEL_REPLICATED && slot->level != level))
        return;
    struct leat_completion completion = {
        .log_id = log->id,
        .sequence = frame->sequence,
        .position = position,
        .offset = frame->offset,
        .level = (uint8_t)level,
    };
    if (leat_frame_type(frame) == LEAT_FRAME_REFUSED) {
        struct leat_refused_payload refused; /* sealed or verified here */
        memcpy(&refused, frame + 1, sizeof(refused));
        completion.error = refused.error;
        completion.detail = refused.detail;
        completion.offset = UINT64_MAX;
    }
    client_end_slot(worker, client, slot, &completion);
    client_release(client);
}

void clients_end_session(struct node_worker *worker, uint32_t owner, struct node_log *log,
                         int error, uint64_t last_sequence)
{
    struct node_client *client = &worker->clients[owner];
    for (uint64_t i = client->slot_first; i < client->slot_next; i++) {
        struct client_slot *slot = slot_at(client, i);
        if (slot->log != log->index || slot->ended)
            continue;
        struct leat_completion completion = {
            .log_id = log->id,
            .error = error,
            .sequence = slot->sequence,
            .last_sequence = last_sequence,
            .offset = UINT64_MAX,
        };
        client_end_slot(worker, client, slot, &completion);
    }
    client->logs[log->index].next_sequence = 0;
    client_release(client);
}

void clients_resubmit(struct node_worker *worker, uint32_t owner, uint32_t log_index)
{
    struct node_client *client = &worker->clients[owner];
    client->logs[log_index].submit = client->slot_first;
}

/* ---- taking ---- */

static void client_refuse(struct node_client *client, const struct leat_ring_record *record,
                          int error)
{
    struct leat_completion completion = {
        .log_id = record->log_id,
        .error = error,
        .sequence = record->sequence,
        .offset = UINT64_MAX,
    };
    client_push(client, &completion);
}

static int record_error(const struct node_log *log, const struct leat_ring_record *record)
{
    if (!log || log->id == 0)
        return LEAT_ENOLOG; /* log 0 is the node's own */
    if (record->payload_bytes > log->shape.entry_bytes_max)
        return LEAT_ETOOBIG;
    if (record->level == LEAT_LEVEL_REPLICATED && !log->accepts_replicated)
        return LEAT_ELEVEL;
    return LEAT_OK;
}

static bool record_keeps_protocol(const struct node_client *client,
                                  const struct leat_ring_record *record, uint64_t extent,
                                  uint64_t available)
{
    uint64_t room = client->rings->ring_bytes - (client->taken & (client->rings->ring_bytes - 1));
    if (extent > room || extent > available)
        return false;
    if (record->kind == LEAT_RING_SKIP)
        return true;
    if ((record->level != LEAT_LEVEL_DURABLE && record->level != LEAT_LEVEL_REPLICATED) ||
        record->sequence == 0 || (record->flags & ~(unsigned)LEAT_RING_FLAG_CONDITION) != 0 ||
        (record->flags == 0 && record->condition != 0))
        return false;
    if (record->kind == LEAT_RING_FENCE)
        return record->flags == 0 && record->payload_bytes == 0 && record->writer_epoch != 0;
    return record->kind == LEAT_RING_APPEND || record->kind == LEAT_RING_BATCH;
}

/* What an honest library never writes is known at once; what comes later is judged when sealed. */
static int batch_error(const struct node_client *client, const struct node_log *log,
                       const struct client_slot *slot)
{
    uint32_t lengths[LEAT_BATCH_RECORDS_MAX], count;
    uint64_t frames_bytes;
    struct node_append append = client_append(client, slot);
    return log_batch_parse(log, append.payload, append.payload_bytes, lengths, &count,
                           &frames_bytes);
}

static bool client_take(struct node_worker *worker, struct node_client *client,
                        const struct leat_ring_record *record, uint64_t extent)
{
    uint64_t position = client->taken;
    client->taken += extent;
    if (record->kind == LEAT_RING_SKIP)
        return true;
    struct node_log *log = worker_log(worker, record->log_id);
    int error = record_error(log, record);
    if (error != LEAT_OK) {
        client_refuse(client, record, error);
        return true;
    }
    struct client_log *of_log = &client->logs[log->index];
    /* rising; not always by one: after a reconnect only what has not ended is handed over again */
    if (record->sequence < of_log->next_sequence)
        return false;
    of_log->next_sequence = record->sequence + 1;
    struct client_slot *slot = slot_at(client, client->slot_next++);
    *slot = (struct client_slot){
        .sequence = record->sequence,
        .ring_pos = position,
        .ring_end = client->taken,
        .condition = record->condition,
        .payload_bytes = record->payload_bytes,
        .writer_epoch = record->writer_epoch,
        .log = (uint16_t)log->index,
        .level = record->level,
        .kind = record->kind,
        .conditional = (record->flags & LEAT_RING_FLAG_CONDITION) != 0,
    };
    return record->kind != LEAT_RING_BATCH || batch_error(client, log, slot) == LEAT_OK;
}

/* Takes what the client published. Returns how many, or -1 when it broke the protocol. */
static int client_take_all(struct node_worker *worker, struct node_client *client)
{
    struct node_rings *rings = client->rings;
    uint64_t tail = __atomic_load_n(&rings->shared->tail.value, __ATOMIC_ACQUIRE);
    if (tail == client->taken)
        return 0;
    uint64_t head = __atomic_load_n(&rings->shared->completion_head.value, __ATOMIC_ACQUIRE);
    if (tail - client->released > rings->ring_bytes || tail % LEAT_RING_ALIGN != 0 ||
        client->completion_tail - head > rings->completion_count)
        return -1;
    uint64_t unread = client->completion_tail - head;
    int taken = 0;
    while (client->taken != tail && taken < (int)NODE_CLIENT_BURST &&
           client->slot_next - client->slot_first + unread + (uint64_t)taken <
               rings->completion_count) {
        struct leat_ring_record record; /* the one copy of the header that is looked at */
        memcpy(&record, rings->records + (client->taken & (rings->ring_bytes - 1)), sizeof(record));
        uint64_t extent = leat_ring_extent(record.payload_bytes);
        if (!record_keeps_protocol(client, &record, extent, tail - client->taken) ||
            !client_take(worker, client, &record, extent))
            return -1;
        taken++;
    }
    client_release(client);
    return taken;
}

/* ---- submitting ---- */

static void client_end_recorded(struct node_worker *worker, struct node_client *client,
                                struct node_log *log, struct client_slot *slot,
                                const struct leat_session_row *row)
{
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
    client_end_slot(worker, client, slot, &completion);
}

/* Seals one slot's record into a log led here. Returns false to stop for this pass. */
static bool client_seal(struct node_worker *worker, uint32_t owner, struct node_log *log,
                        struct client_slot *slot, bool oldest)
{
    struct node_client *client = &worker->clients[owner];
    struct leat_session_row row;
    struct node_append append = client_append(client, slot);
    int error = LEAT_OK;
    switch (session_append(log, &client->rings->client, &append, oldest, &row, &error)) {
    case APPEND_SEALED:
        return true;
    case APPEND_RECORDED: { /* completes with its commit, unless that has passed */
        uint32_t session = leat_sessions_find(&log->committed, &client->rings->client);
        const struct leat_session_row *committed = leat_sessions_row(&log->committed, session);
        if (committed && slot->sequence <= committed->last_sequence)
            client_end_recorded(worker, client, log, slot, committed);
        return true;
    }
    case APPEND_WAIT:
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

static unsigned client_submit(struct node_worker *worker, uint32_t owner, struct node_log *log)
{
    struct node_client *client = &worker->clients[owner];
    struct client_log *of_log = &client->logs[log->index];
    bool leads = leat_core_may_append(&log->core);
    bool forwards = !leads && log->core.role == LEAT_FOLLOWER &&
                    log->core.leader != LEAT_CORE_NOBODY && log->core.reconciled;
    if (of_log->role_epoch != log->role_epoch || of_log->submit < client->slot_first) {
        of_log->submit = client->slot_first;
        of_log->role_epoch = log->role_epoch;
    }
    if ((!leads && !forwards) || worker->draining)
        return 0;
    worker_wake(log);
    /* what ends is progress and begins the wait for the rest anew; without one of the two a record
     * lost on the way would wait for the client's next one */
    if (forwards && of_log->submit > client->slot_first) {
        if (of_log->forwarded_ns == 0)
            of_log->forwarded_ns = worker->now_ns;
        else if (worker->now_ns - of_log->forwarded_ns > CLIENT_FORWARD_RETRY_NS)
            of_log->submit = client->slot_first;
    }
    unsigned done = 0;
    uint64_t forwarded_bytes = 0;
    bool oldest = of_log->submit == client->slot_first;
    while (of_log->submit < client->slot_next && done < NODE_CLIENT_BURST) {
        struct client_slot *slot = slot_at(client, of_log->submit);
        if (slot->log == log->index && !slot->ended) {
            if (forwards && (of_log->submit - client->slot_first >= NODE_FORWARD_WINDOW ||
                             forwarded_bytes >= NODE_FORWARD_BYTES))
                break;
            forwarded_bytes += slot->payload_bytes;
            struct node_append append = client_append(client, slot);
            bool on = leads ? client_seal(worker, owner, log, slot, oldest)
                            : forward_record(log, &client->rings->client, &append, oldest);
            oldest = false;
            if (!on)
                break;
            if (of_log->submit == client->slot_first)
                of_log->forwarded_ns = worker->now_ns;
            done++;
        }
        of_log->submit++;
    }
    if (done > 0)
        client_release(client);
    return done;
}

unsigned clients_poll(struct node_worker *worker)
{
    unsigned work = 0;
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        struct node_client *client = &worker->clients[i];
        if (!client->rings)
            continue;
        int taken = client_take_all(worker, client);
        if (taken < 0) {
            client_let_go(worker, client, LEAT_EPROTO);
            continue;
        }
        work += (unsigned)taken;
        for (uint32_t l = 0; l < worker->log_count && client->slot_first < client->slot_next; l++)
            work += worker->logs[l] ? client_submit(worker, i, worker->logs[l]) : 0;
    }
    return work;
}
