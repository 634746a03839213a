/* SPDX-License-Identifier: Apache-2.0
 *
 * The way out: the node's completions, deadlines, results in order per log.
 *
 * An append has three ends that may come in any order: it ended (its result holds: by the node's
 * answer or by its deadline), it was answered (the node is done with it), it was taken (the
 * application has the result). Its place in the table is free after all three.
 */
#include <string.h>

#include "base/assert.h"
#include "client_private.h"

enum leat_end leat_outcome(int error)
{
    switch (error) {
    case LEAT_OK:
    case LEAT_EUNKNOWN: /* recorded */
        return LEAT_END_OK;
    case LEAT_EINVAL:
    case LEAT_EAGAIN:
    case LEAT_ETOOBIG:
    case LEAT_ENOLOG:
    case LEAT_ELEVEL:
    case LEAT_ECONDITION: /* said when it is committed: for good */
    case LEAT_EFENCEDOUT:
    case LEAT_EPERM:
    case LEAT_EVERSION:
    case LEAT_ENOMEM:
    case LEAT_ESYSTEM:
        return LEAT_END_NO;
    default:
        return LEAT_END_UNKNOWN;
    }
}

static void ready_push(struct leat_client *client, uint32_t place)
{
    struct client_log *log = &client->logs[place];
    if (log->ready)
        return;
    log->ready = true;
    log->ready_next = 0;
    if (client->ready_last != 0)
        client->logs[client->ready_last - 1].ready_next = place + 1;
    else
        client->ready_first = place + 1;
    client->ready_last = place + 1;
}

static void ready_pop(struct leat_client *client)
{
    struct client_log *log = &client->logs[client->ready_first - 1];
    log->ready = false;
    client->ready_first = log->ready_next;
    if (client->ready_first == 0)
        client->ready_last = 0;
}

static void append_end(struct leat_client *client, struct client_append *append, int error,
                       uint64_t now_ns)
{
    LEAT_ASSERT(!append->ended && client->in_flight > 0);
    append->ended = true;
    client->in_flight--;
    ready_push(client, append->log_place);
    append->result = (struct leat_result){
        .sequence = append->sequence,
        .position = UINT64_MAX,
        .offset = UINT64_MAX,
        .user = append->user,
        .log = client->logs[append->log_place].log_id,
        .error = error,
        .ack = (enum leat_ack)append->level,
        .latency_ns = now_ns - append->start_ns,
        .record_count = append->record_count,
    };
}

void client_end_all(struct leat_client *client, int error, uint64_t now_ns)
{
    /* Records were handed over before: "certainly not" is no longer for us to say. */
    if (leat_outcome(error) != LEAT_END_UNKNOWN)
        error = LEAT_ECLOSED;
    for (uint64_t i = client->first; i < client->next; i++) {
        struct client_append *append = client_at(client, i);
        if (!append->ended)
            append_end(client, append, error, now_ns);
        append->answered = true;
    }
}

/* ---- completions ---- */

static struct client_append *append_find(struct leat_client *client, const struct client_log *log,
                                         uint64_t sequence)
{
    uint64_t count = log->places[sequence & (client->table_count - 1)];
    struct client_append *append = client_at(client, count);
    if (count < client->first || count >= client->next || append->sequence != sequence ||
        client->logs[append->log_place].log_id != log->log_id)
        return NULL;
    return append;
}

/* W8: what is unended in this log is lost or unknown, and the identity is spent; see leat.h for how
 * it goes on. */
static void log_end_session(struct leat_client *client, struct client_log *log,
                            const struct leat_completion *completion, uint64_t now_ns)
{
    log->session_ended = true;
    if (client->identity == CLIENT_ID_GOOD)
        client->identity = CLIENT_ID_SPENT;
    /* of this one, and so of what follows it, a copy may be on its way to a later leader, or have
     * come to one just after it was refused; what precedes it has its own answer */
    bool refused = completion->error == LEAT_ESESSIONS || completion->error == LEAT_ENOSPACE;
    for (uint64_t i = client->first; i < client->next; i++) {
        struct client_append *append = client_at(client, i);
        if (append->ended || client->logs[append->log_place].log_id != log->log_id ||
            (refused && append->sequence < completion->sequence))
            continue;
        append_end(client, append, completion->error, now_ns);
        append->result.last_sequence = completion->last_sequence;
    }
}

static void completion_take(struct leat_client *client, const struct leat_completion *completion,
                            uint64_t now_ns)
{
    uint32_t id = completion->log_id;
    struct client_log *log = id < LEAT_LOGS_MAX && client->log_places[id] != 0
                                 ? &client->logs[client->log_places[id] - 1u]
                                 : NULL;
    struct client_append *append = log ? append_find(client, log, completion->sequence) : NULL;
    if (!append || append->answered)
        return; /* ended with a former ring */
    append->answered = true;
    int error = completion->error == LEAT_EUNKNOWN ? LEAT_OK : completion->error;
    if (error == LEAT_ESESSION || error == LEAT_ENOSESSION || error == LEAT_ESESSIONS ||
        error == LEAT_ENOSPACE)
        log_end_session(client, log, completion, now_ns);
    if (completion->error == LEAT_OK && append->fence_epoch > log->writer_epoch)
        log->writer_epoch = append->fence_epoch; /* though its deadline may have passed */
    if (append->ended)
        return;
    append_end(client, append, error, now_ns);
    if (completion->error == LEAT_OK) {
        append->result.position = completion->position;
        append->result.offset = completion->offset;
    } else if (error == LEAT_ECONDITION || error == LEAT_EFENCEDOUT) {
        append->result.position = completion->position;
        append->result.detail = completion->detail;
    }
    if (completion->level == LEAT_LEVEL_DURABLE || completion->level == LEAT_LEVEL_REPLICATED)
        append->result.ack = (enum leat_ack)completion->level;
}

void client_take_completions(struct leat_client *client, uint64_t now_ns)
{
    struct client_rings *rings = &client->rings;
    uint64_t tail = client_load(&rings->answers->completion_tail.value);
    if (tail == rings->completion_head)
        return;
    if (tail - rings->completion_head > client->table_count) {
        client_hang_up(client, LEAT_EPROTO, now_ns);
        return;
    }
    while (rings->completion_head != tail) {
        struct leat_completion completion =
            rings->completions[rings->completion_head & (client->table_count - 1)];
        rings->completion_head++;
        completion_take(client, &completion, now_ns);
    }
    __atomic_store_n(&rings->shared->completion_head.value, tail, __ATOMIC_RELEASE);
}

/* ---- deadlines and results ---- */

static void deadlines_pass(struct leat_client *client, uint64_t now_ns)
{
    if (now_ns < client->deadline_next_ns)
        return;
    client->deadline_next_ns = UINT64_MAX;
    for (uint64_t i = client->first; i < client->next; i++) {
        struct client_append *append = client_at(client, i);
        if (append->ended)
            continue;
        if (append->deadline_ns <= now_ns)
            append_end(client, append, LEAT_EDEADLINE, now_ns);
        else if (append->deadline_ns < client->deadline_next_ns)
            client->deadline_next_ns = append->deadline_ns;
    }
}

static unsigned results_take(struct leat_client *client, struct client_log *log,
                             struct leat_result *results, unsigned max)
{
    unsigned count = 0;
    while (count < max) {
        struct client_append *append = append_find(client, log, log->deliver);
        if (!append || !append->ended || append->taken)
            break;
        results[count++] = append->result;
        append->taken = true;
        log->deliver++;
    }
    return count;
}

bool client_all_taken(const struct leat_client *client)
{
    for (uint64_t i = client->first; i < client->next; i++) {
        if (!client_at(client, i)->taken)
            return false;
    }
    return true;
}

void client_retire(struct leat_client *client)
{
    while (client->first < client->next) {
        struct client_append *append = client_at(client, client->first);
        if (!append->answered || !append->taken)
            return;
        client->logs[append->log_place].held--;
        client->first++;
    }
}

int leat_poll(struct leat_client *client, struct leat_result *results, unsigned max)
{
    if (client_is_forked(client))
        return LEAT_EFORK;
    uint64_t now_ns = client_now_ns();
    if (client->state != CLIENT_FAILED)
        client_take_completions(client, now_ns);
    client_drive(client, now_ns);
    deadlines_pass(client, now_ns);
    unsigned count = 0;
    while (client->ready_first != 0 && count < max) {
        count += results_take(client, &client->logs[client->ready_first - 1], results + count,
                              max - count);
        if (count < max) /* else it may have more */
            ready_pop(client);
    }
    client_retire(client);
    if (count == 0)
        client_arm(client, now_ns);
    return (int)count;
}

int leat_wait(struct leat_client *client, struct leat_result *results, unsigned max,
              uint64_t timeout_ns)
{
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    struct client_pace pace = {0};
    if (max == 0)
        return LEAT_EINVAL;
    for (;;) {
        int count = leat_poll(client, results, max);
        if (count != 0)
            return count;
        if (client_now_ns() >= deadline_ns)
            return LEAT_EDEADLINE;
        client_pause(&pace);
    }
}

int client_start_and_wait(struct leat_client *client, uint32_t log, const void *data, size_t length,
                          const struct client_wish *wish, struct leat_result *result)
{
    struct client_wish left = *wish;
    uint64_t start_ns = client_now_ns();
    uint64_t deadline_ns = client_deadline(start_ns, wish->timeout_ns);
    struct client_pace pace = {0};
    memset(result, 0, sizeof(*result));
    result->log = log;
    result->ack = wish->ack;
    for (;;) {
        uint64_t now_ns = client_now_ns();
        left.timeout_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
        int rc = client_start(client, log, data, length, &left, &result->sequence);
        if (rc == LEAT_OK)
            break;
        result->error = rc;
        result->record_count = wish->record_count;
        result->latency_ns = now_ns - start_ns;
        if (rc != LEAT_EAGAIN || left.timeout_ns == 0 || client->claimed)
            return rc;
        client_pause(&pace);
        (void)leat_poll(client, NULL, 0);
    }
    /* Its own deadline ends it. */
    while (leat_poll(client, result, 1) == 0)
        client_pause(&pace);
    return result->error;
}
