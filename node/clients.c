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

#define CLIENT_TELL_EACH 16u /* of the completions of one pass */

struct node_append client_append(const struct node_client *client, const struct client_slot *slot)
{
    uint64_t at = slot->ring_pos & (client->rings->ring_bytes - 1);
    return (struct node_append){
        .sequence = slot->sequence,
        .level = (enum leat_level)slot->level,
        .kind = (enum leat_ring_kind)slot->kind,
        .conditional = slot->conditional,
        .again = slot->again,
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
        uint32_t session = leat_sessions_find(log->committed, &worker->clients[i].rings->client);
        if (session != 0)
            log->owners[session - 1] = i;
    }
}

uint32_t clients_owner(const struct node_log *log, uint32_t session, bool behind)
{
    uint32_t owner = log->owners[session - 1];
    if (!behind)
        return owner;
    const struct leat_session_row *row = leat_sessions_row(log->committed, session);
    if (!row)
        return NODE_NO_CLIENT;
    if (owner != NODE_NO_CLIENT &&
        leat_uuid_equal(&log->worker->clients[owner].rings->client, &row->client))
        return owner;
    return clients_find(log->worker, &row->client);
}

/* A client's session as of the end of what completions went over at either level; 0: none. */
static uint32_t clients_session(const struct node_log *log, const struct leat_uuid *client)
{
    uint32_t session = leat_sessions_find(log->committed, client);
    for (uint64_t position = log->applied.position; position < log->completed.position;) {
        const struct leat_frame *frame = (const void *)log_at(log, position);
        unsigned type = leat_frame_type(frame);
        struct leat_session_payload payload;
        position += leat_frame_extent(&log->shape, position, frame->length_bytes);
        if (type != LEAT_FRAME_SESSION_OPEN && type != LEAT_FRAME_SESSION_CLOSE)
            continue;
        memcpy(&payload, frame + 1, sizeof(payload));
        if (leat_uuid_equal(&payload.client, client))
            session = type == LEAT_FRAME_SESSION_OPEN ? payload.session : 0;
    }
    return session;
}

static void clients_own(struct node_worker *worker, uint32_t place)
{
    for (uint32_t l = 0; l < worker->log_count; l++) {
        struct node_log *log = worker->logs[l];
        if (!log)
            continue;
        uint32_t session = clients_session(log, &worker->clients[place].rings->client);
        if (session != 0)
            log->owners[session - 1] = place;
    }
}

static void clients_disown(struct node_worker *worker, uint32_t place)
{
    for (uint32_t l = 0; l < worker->log_count; l++) {
        struct node_log *log = worker->logs[l];
        for (uint32_t s = 0; log && s < LEAT_SESSIONS_MAX; s++) {
            if (log->owners[s] == place)
                log->owners[s] = NODE_NO_CLIENT;
        }
    }
}

/* A free place for a client, or for the guest of another worker's; the slots' memory is the control
 * thread's (with the rings), so nothing is allocated here. */
static struct node_client *clients_enter(struct node_worker *worker, struct node_rings *rings,
                                         uint32_t home)
{
    for (uint32_t i = 0; i < NODE_CLIENTS_MAX; i++) {
        struct node_client *client = &worker->clients[i];
        if (client->rings)
            continue;
        memset(client, 0, sizeof(*client));
        client->rings = rings;
        client->home = home;
        client->slots = rings->slots + worker->number * rings->completion_count;
        client->slot_mask = rings->completion_count - 1;
        if (i >= worker->clients_high)
            worker->clients_high = i + 1;
        clients_own(worker, i);
        return client;
    }
    return NULL;
}

int clients_attach(struct node_worker *worker, struct node_rings *rings)
{
    if (clients_find(worker, &rings->client) != NODE_NO_CLIENT)
        return LEAT_EEXISTS;
    struct node_client *client = clients_enter(worker, rings, worker->number);
    if (!client)
        return LEAT_EAGAIN;
    rings->slot = (uint32_t)(client - worker->clients);
    return LEAT_OK;
}

uint32_t clients_unended(const struct node_worker *worker, const struct node_rings *rings)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        struct node_client *client = &worker->clients[i];
        for (uint64_t n = client->slot_first; client->rings == rings && n < client->slot_next; n++)
            count += !client_slot_at(client, n)->ended;
    }
    return count;
}

static uint32_t client_awaits_memory(const struct node_client *client)
{
    uint32_t count = 0;
    for (uint64_t n = client->slot_first; n < client->slot_next; n++) {
        const struct client_slot *slot = client_slot_at(client, n);
        count +=
            !slot->ended && slot->log != CLIENT_FOREIGN_LOG && slot->level == LEAT_LEVEL_REPLICATED;
    }
    return count;
}

void clients_forget(struct node_worker *worker, const struct node_rings *rings)
{
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        if (worker->clients[i].rings != rings)
            continue;
        clients_disown(worker, i);
        worker->await_memory -= client_awaits_memory(&worker->clients[i]);
        memset(&worker->clients[i], 0, sizeof(worker->clients[i]));
    }
}

/* Guests of the client are detached first: they read its ring. */
int clients_detach(struct node_worker *worker, struct node_command *command)
{
    struct node_client *client = &worker->clients[command->rings->slot];
    LEAT_ASSERT(client->rings == command->rings && !client->detaching);
    if (worker->config->worker_count == 1) {
        clients_forget(worker, command->rings);
        return LEAT_OK;
    }
    clients_disown(worker, command->rings->slot);
    client->detaching = command;
    client->detach_waits = worker->config->worker_count - 1;
    handover_detach(worker, client);
    return NODE_COMMAND_LATER;
}

void clients_detached(struct node_worker *worker, struct node_client *client)
{
    struct node_command *command = client->detaching;
    LEAT_ASSERT(command && client->detach_waits > 0);
    if (--client->detach_waits > 0)
        return;
    clients_forget(worker, command->rings);
    command->error = LEAT_OK;
    atomic_store_explicit(&command->done, true, memory_order_release);
}

/* Tells the client why and looks at its ring no more; its connection's end detaches it. */
static void client_let_go(struct node_worker *worker, struct node_client *client, int error)
{
    static _Thread_local struct logger_rate rate;
    worker->client_violations++;
    client->let_go = true;
    logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                   "a client of uid %u broke the protocol of its ring at %lu and is let go",
                   client->rings->uid, (unsigned long)client->taken);
    __atomic_store_n(&client->rings->answers->closed.value, (uint64_t)(int64_t)error,
                     __ATOMIC_RELEASE);
}

/* ---- ending ---- */

static void client_tell(struct node_client *client)
{
    client->completion_told = client->completion_tail;
    __atomic_store_n(&client->rings->answers->completion_tail.value, client->completion_told,
                     __ATOMIC_RELEASE); /* pairs with the client's acquire in its poll */
}

static void client_push(struct node_client *client, const struct leat_completion *completion)
{
    struct node_rings *rings = client->rings;
    rings->completions[client->completion_tail & (rings->completion_count - 1)] = *completion;
    client->completion_tail++;
    if (client->completion_tail - client->completion_told >= CLIENT_TELL_EACH)
        client_tell(client);
}

static void client_release(struct node_worker *worker, struct node_client *client)
{
    uint64_t released = client->released;
    while (client->slot_first < client->slot_next &&
           client_slot_at(client, client->slot_first)->ended) {
        released = client_slot_at(client, client->slot_first)->ring_end;
        client->slot_first++;
    }
    if (client->home != worker->number)
        return; /* its ring is given back at home */
    if (client->slot_first == client->slot_next)
        released = client->taken;
    if (released == client->released)
        return;
    client->released = released;
    __atomic_store_n(&client->rings->answers->head.value, released, __ATOMIC_RELEASE);
}

void clients_tell(struct node_worker *worker)
{
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        struct node_client *client = &worker->clients[i];
        if (!client->rings)
            continue;
        if (client->completion_told != client->completion_tail)
            client_tell(client);
        client_release(worker, client);
    }
}

/* Ends the slot with number `number`, wherever its client is. */
void client_end_slot(struct node_worker *worker, struct node_client *client, uint64_t number,
                     const struct leat_completion *completion)
{
    struct client_slot *slot = client_slot_at(client, number);
    struct client_log *of_log = &client->logs[slot->log];
    LEAT_ASSERT(!slot->ended && of_log->unended > 0);
    slot->ended = true;
    of_log->unended--;
    worker->await_memory -= slot->level == LEAT_LEVEL_REPLICATED;
    of_log->forwarded_ns = worker->now_ns; /* progress: the timer begins anew */
    of_log->forwards = 0;
    if (of_log->submitted > 0)
        of_log->submitted--;
    while (of_log->first != CLIENT_NO_SLOT && client_slot_at(client, of_log->first)->ended) {
        if (of_log->submit == of_log->first)
            of_log->submit = client_slot_at(client, of_log->first)->next_of_log;
        of_log->first = client_slot_at(client, of_log->first)->next_of_log;
    }
    if (of_log->unended == 0)
        client->busy[slot->log / 64] &= ~(1ull << slot->log % 64);
    if (client->home != worker->number)
        handover_ended(worker, client, slot->home_slot, completion);
    else
        client_push(client, completion);
}

/* A log's list from where the search for `sequence` may begin. Commits in memory run ahead of those
 * on disk, which end the oldest: each walk finds its next one a step from its last. */
static uint64_t client_find_from(const struct node_client *client, uint32_t log_index,
                                 uint64_t sequence)
{
    const struct client_log *of_log = &client->logs[log_index];
    const struct client_slot *found = client_slot_at(client, of_log->found);
    bool is_listed = of_log->found >= of_log->first && of_log->found < client->slot_next &&
                     found->log == log_index;
    return is_listed && found->sequence <= sequence ? of_log->found : of_log->first;
}

/* The slot of (log, sequence) or none. */
static uint64_t client_find_slot(struct node_client *client, uint32_t log_index, uint64_t sequence)
{
    if (!(client->busy[log_index / 64] & 1ull << log_index % 64))
        return CLIENT_NO_SLOT;
    struct client_log *of_log = &client->logs[log_index];
    uint64_t number = client_find_from(client, log_index, sequence);
    while (number != CLIENT_NO_SLOT && client_slot_at(client, number)->sequence < sequence)
        number = client_slot_at(client, number)->next_of_log;
    if (number != CLIENT_NO_SLOT && number > of_log->found)
        of_log->found = number;
    return number != CLIENT_NO_SLOT && client_slot_at(client, number)->sequence == sequence &&
                   !client_slot_at(client, number)->ended
               ? number
               : CLIENT_NO_SLOT;
}

void clients_end(struct node_worker *worker, uint32_t owner, uint32_t log_index,
                 const struct leat_completion *completion)
{
    struct node_client *client = &worker->clients[owner];
    uint64_t number = client_find_slot(client, log_index, completion->sequence);
    if (number == CLIENT_NO_SLOT)
        return;
    client_end_slot(worker, client, number, completion);
}

void clients_complete(struct node_worker *worker, uint32_t owner, struct node_log *log,
                      const struct leat_frame *frame, uint64_t position, enum leat_level level)
{
    struct node_client *client = &worker->clients[owner];
    uint64_t number = client_find_slot(client, log->index, frame->sequence);
    if (number == CLIENT_NO_SLOT ||
        (level == LEAT_LEVEL_REPLICATED && client_slot_at(client, number)->level != level))
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
    client_end_slot(worker, client, number, &completion);
}

void clients_end_session(struct node_worker *worker, uint32_t owner, struct node_log *log,
                         int error, uint64_t last_sequence)
{
    struct node_client *client = &worker->clients[owner];
    uint64_t number = client->busy[log->index / 64] & 1ull << log->index % 64
                          ? client->logs[log->index].first
                          : CLIENT_NO_SLOT;
    while (number != CLIENT_NO_SLOT) {
        const struct client_slot *slot = client_slot_at(client, number);
        uint64_t next = slot->next_of_log;
        struct leat_completion completion = {
            .log_id = log->id,
            .error = error,
            .sequence = slot->sequence,
            .last_sequence = last_sequence,
            .offset = UINT64_MAX,
        };
        if (!slot->ended)
            client_end_slot(worker, client, number, &completion);
        number = next;
    }
    client->logs[log->index].next_sequence = 0;
    client->logs[log->index].sent_sequence = client->logs[log->index].former_sequence = 0;
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

static int record_error(const struct node_log *log, const struct client_slot *record)
{
    if (!log && record->again) /* a former node may have taken it */
        return LEAT_EDELETED;
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
        record->sequence == 0 ||
        (record->flags & ~(unsigned)(LEAT_RING_FLAG_CONDITION | LEAT_RING_FLAG_AGAIN)) != 0)
        return false;
    bool conditional = (record->flags & LEAT_RING_FLAG_CONDITION) != 0;
    if (!conditional && record->condition != 0 && record->sequence != 1)
        return false;
    if (record->kind == LEAT_RING_CLOSE) /* an append opened what it is to close */
        return !conditional && record->payload_bytes == 0 && record->writer_epoch == 0 &&
               record->sequence > 1;
    if (record->kind == LEAT_RING_FENCE)
        return !conditional && record->payload_bytes == 0 && record->writer_epoch != 0;
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

/* A record of a log of this worker gets its slot. An error that is the client's own breach of
 * protocol is EPROTO. */
static int client_admit(struct node_worker *worker, struct node_client *client, uint32_t log_id,
                        const struct client_slot *record)
{
    struct node_log *log = worker_log(worker, log_id);
    int error = record_error(log, record);
    if (error != LEAT_OK)
        return error;
    struct client_log *of_log = &client->logs[log->index];
    /* rising; not always by one: after a reconnect only what has not ended is handed over again */
    if (record->sequence < of_log->next_sequence ||
        (record->kind == LEAT_RING_BATCH && batch_error(client, log, record) != LEAT_OK))
        return LEAT_EPROTO;
    of_log->next_sequence = record->sequence + 1;
    if (record->again)
        of_log->former_sequence = of_log->sent_sequence = record->sequence;
    uint64_t number = client->slot_next++;
    struct client_slot *slot = client_slot_at(client, number);
    *slot = *record;
    slot->log = (uint16_t)log->index;
    slot->next_of_log = CLIENT_NO_SLOT;
    worker->await_memory += slot->level == LEAT_LEVEL_REPLICATED;
    if (of_log->unended++ == 0) {
        client->busy[log->index / 64] |= 1ull << log->index % 64;
        of_log->first = of_log->submit = number;
        of_log->submitted = 0;
    } else {
        client_slot_at(client, of_log->last)->next_of_log = number;
        if (of_log->submit == CLIENT_NO_SLOT)
            of_log->submit = number;
    }
    of_log->last = number;
    return LEAT_OK;
}

/* Of a log of another worker: it keeps its place here, and is worked on there. */
static void client_hand_over(struct node_worker *worker, struct node_client *client,
                             uint32_t log_id, const struct client_slot *record)
{
    uint64_t number = client->slot_next++;
    struct client_slot *slot = client_slot_at(client, number);
    *slot = *record;
    slot->log = CLIENT_FOREIGN_LOG;
    handover_record(worker, client, log_id, number, record);
}

static bool client_take(struct node_worker *worker, struct node_client *client,
                        const struct leat_ring_record *record, uint64_t extent)
{
    struct client_slot slot = {
        .sequence = record->sequence,
        .ring_pos = client->taken,
        .ring_end = client->taken + extent,
        .condition = record->condition,
        .payload_bytes = record->payload_bytes,
        .writer_epoch = record->writer_epoch,
        .level = record->level,
        .kind = record->kind,
        .conditional = (record->flags & LEAT_RING_FLAG_CONDITION) != 0,
        .again = (record->flags & LEAT_RING_FLAG_AGAIN) != 0,
    };
    client->taken += extent;
    if (record->kind == LEAT_RING_SKIP)
        return true;
    if (node_worker_of(record->log_id, worker->config->worker_count) != worker->number) {
        client_hand_over(worker, client, record->log_id, &slot);
        return true;
    }
    int error = client_admit(worker, client, record->log_id, &slot);
    if (error != LEAT_OK && error != LEAT_EPROTO)
        client_refuse(client, record, error);
    return error != LEAT_EPROTO;
}

void clients_foreign_ended(struct node_worker *worker, struct node_client *client, uint64_t number,
                           const struct leat_completion *completion)
{
    struct client_slot *slot = client_slot_at(client, number);
    if (client->detaching || client->let_go)
        return;
    LEAT_ASSERT(number >= client->slot_first && number < client->slot_next && !slot->ended);
    if (completion->error == LEAT_EPROTO) {
        client_let_go(worker, client, LEAT_EPROTO);
        return;
    }
    slot->ended = true;
    client_push(client, completion);
}

void clients_take_guest(struct node_worker *worker, uint32_t home, struct node_rings *rings,
                        uint32_t log_id, uint64_t home_slot, const struct client_slot *record)
{
    struct node_client *guest = NULL;
    struct client_slot slot = *record;
    struct leat_completion completion = {
        .log_id = log_id, .sequence = record->sequence, .offset = UINT64_MAX};
    for (uint32_t i = 0; i < worker->clients_high && !guest; i++)
        guest = worker->clients[i].rings == rings ? &worker->clients[i] : NULL;
    if (!guest)
        guest = clients_enter(worker, rings, home);
    LEAT_ASSERT(guest); /* as many places as connections */
    slot.home_slot = home_slot;
    completion.error = client_admit(worker, guest, log_id, &slot);
    if (completion.error != LEAT_OK)
        handover_ended(worker, guest, home_slot, &completion);
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
    while (client->taken != tail && taken < (int)worker->client_records &&
           client->slot_next - client->slot_first + unread + (uint64_t)taken <
               rings->completion_count) {
        struct leat_ring_record record; /* the one copy of the header that is looked at */
        memcpy(&record, rings->records + (client->taken & (rings->ring_bytes - 1)), sizeof(record));
        uint64_t extent = leat_ring_extent(record.payload_bytes);
        if (record.kind != LEAT_RING_SKIP && !handover_has_room(worker, record.log_id))
            break; /* enough of it is on its way to that worker */
        if (!record_keeps_protocol(client, &record, extent, tail - client->taken) ||
            !client_take(worker, client, &record, extent))
            return -1;
        taken++;
    }
    return taken;
}

unsigned clients_poll(struct node_worker *worker)
{
    unsigned work = 0;
    uint32_t attached = 0;
    for (uint32_t i = 0; i < worker->clients_high; i++) {
        struct node_client *client = &worker->clients[i];
        if (!client->rings)
            continue;
        attached++;
        if (client->detaching) {
            handover_detach(worker, client);
            continue;
        }
        if (client->let_go)
            continue;
        int taken = client->home == worker->number ? client_take_all(worker, client) : 0;
        if (taken < 0) {
            client_let_go(worker, client, LEAT_EPROTO);
            continue;
        }
        work += (unsigned)taken + client_submit_all(worker, i);
    }
    if (attached != worker->clients_attached) {
        worker->clients_attached = attached;
        worker->client_records = NODE_PASS_RECORDS / (attached > 0 ? attached : 1);
        if (worker->client_records < NODE_CLIENT_RECORDS)
            worker->client_records = NODE_CLIENT_RECORDS;
    }
    return work;
}
