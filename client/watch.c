/* SPDX-License-Identifier: Apache-2.0
 *
 * What a log's arena header says: limits, commit positions, who leads. Shared memory only, but for
 * the mapping of the header, once per log and attach. Tests: tests/client/test_sequencer.c.
 */
#include <string.h>

#include "client_private.h"

#define WATCH_TRIES 64u /* a change of leader is five stores */

const struct leat_limits *leat_limits(void)
{
    static const struct leat_limits limits = {
        .batch_records_max = LEAT_BATCH_RECORDS_MAX,
        .in_flight_max = LEAT_RING_COMPLETIONS_MAX,
        .sessions_max = LEAT_SESSIONS_MAX,
        .logs_max = LEAT_LOGS_MAX,
        .ring_bytes_min = LEAT_RING_BYTES_MIN,
        .ring_bytes_max = LEAT_RING_BYTES_MAX,
        .entry_bytes_max = LEAT_SEGMENT_BYTES_MAX / 4,
    };
    return &limits;
}

/* False: the node is in the middle of writing it, or died there. */
static bool leadership_read(const struct leat_arena_header *header, struct leat_event *event)
{
    const struct leat_arena_leadership *from = &header->leadership;
    for (unsigned i = 0; i < WATCH_TRIES; i++) {
        uint64_t counter = client_load(&from->counter); /* pairs with the writer's release */
        uint64_t term = __atomic_load_n(&from->term, __ATOMIC_RELAXED);
        uint64_t leader_node = __atomic_load_n(&from->leader_node, __ATOMIC_RELAXED);
        uint64_t role = __atomic_load_n(&from->role, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE); /* pairs with the writer's release fence */
        if (counter % 2 == 0 && counter == __atomic_load_n(&from->counter, __ATOMIC_RELAXED)) {
            event->term = (uint32_t)term;
            event->leader_node = (uint32_t)leader_node;
            event->role = (uint32_t)role;
            return true;
        }
    }
    return false;
}

int leat_log_info(struct leat_client *client, uint32_t log_id, struct leat_log_info *ret_info)
{
    uint32_t place;
    struct leat_event now = {0};
    int rc = client_log(client, log_id, &place);
    if (rc != LEAT_OK)
        return rc;
    const struct client_log *log = &client->logs[place];
    const struct leat_arena_header *header = log->header;
    if (client_arena_is_deleted(header))
        return LEAT_ENOLOG;
    if (!leadership_read(header, &now))
        now.leader_node = 0;
    *ret_info = (struct leat_log_info){
        .log = log_id,
        .entry_bytes_max = log->entry_bytes_max,
        .batch_records_max = LEAT_BATCH_RECORDS_MAX,
        .sessions_max = LEAT_SESSIONS_MAX,
        .accepts_replicated = log->accepts_replicated,
        .writer_epoch = log->writer_epoch,
        .segment_bytes = header->segment_bytes,
        .arena_bytes = header->arena_bytes,
        .begin_position = client_load(&header->base_pos.value),
        .commit_durable = client_load(&header->commit_d.value),
        .commit_replicated = client_load(&header->commit_r.value),
        .term = now.term,
        .leader_node = now.leader_node,
        .role = now.role,
        .rollbacks = client_load(&header->epoch.value),
    };
    return LEAT_OK;
}

int leat_watch(struct leat_client *client, uint32_t log_id)
{
    uint32_t place;
    int rc = client_log(client, log_id, &place);
    if (rc != LEAT_OK)
        return rc;
    client->logs[place].watched = true;
    memset(&client->logs[place].told, 0, sizeof(client->logs[place].told));
    return LEAT_OK;
}

static bool event_look(struct client_log *log, struct leat_event *ret_event)
{
    const struct leat_event *told = &log->told;
    struct leat_event now = {
        .log = log->log_id,
        .rollbacks = client_load(&log->header->epoch.value),
    };
    if (!leadership_read(log->header, &now))
        return false;
    if (told->kinds == 0) {
        now.kinds = LEAT_EVENT_LEADER | LEAT_EVENT_ROLE;
    } else {
        bool leader = now.term != told->term || now.leader_node != told->leader_node;
        now.kinds = (leader ? LEAT_EVENT_LEADER : 0u) |
                    (now.role != told->role ? LEAT_EVENT_ROLE : 0u) |
                    (now.rollbacks != told->rollbacks ? LEAT_EVENT_ROLLBACK : 0u);
    }
    if (now.kinds == 0)
        return false;
    log->told = now;
    *ret_event = now;
    return true;
}

int leat_events(struct leat_client *client, struct leat_event *events, unsigned max)
{
    unsigned count = 0;
    uint32_t place;
    if (client_is_forked(client))
        return LEAT_EFORK;
    client_drive(client, client_now_ns()); /* the node may have gone, or be back */
    for (uint32_t i = 0; i < client->log_count && count < max; i++) {
        struct client_log *log = &client->logs[i];
        if (!log->watched || client_log(client, log->log_id, &place) != LEAT_OK)
            continue;
        count += event_look(log, &events[count]);
    }
    if (count == 0)
        client_arm(client, client_now_ns());
    return (int)count;
}

int leat_wait_position(struct leat_client *client, uint32_t log_id, uint64_t position,
                       enum leat_ack level, uint64_t timeout_ns)
{
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    struct client_pace pace = {0};
    if (level != LEAT_ACK_DURABLE && level != LEAT_ACK_REPLICATED)
        return LEAT_EINVAL;
    for (;;) {
        uint32_t place;
        int rc = client_log(client, log_id, &place);
        if (rc == LEAT_OK) {
            const struct leat_arena_header *header = client->logs[place].header;
            bool deleted = client_arena_is_deleted(header); /* before the commit: it is the last */
            const struct leat_arena_word *commit =
                level == LEAT_ACK_DURABLE ? &header->commit_d : &header->commit_r;
            if (client_load(&commit->value) > position)
                return LEAT_OK;
            if (deleted)
                return LEAT_ENOLOG;
        } else if (rc != LEAT_EAGAIN) {
            return rc;
        }
        if (client_now_ns() >= deadline_ns)
            return LEAT_EDEADLINE;
        (void)leat_poll(client, NULL, 0);
        client_pause(&pace);
    }
}

int leat_flush(struct leat_client *client, uint64_t timeout_ns)
{
    uint64_t deadline_ns = client_deadline(client_now_ns(), timeout_ns);
    struct client_pace pace = {0};
    for (;;) {
        if (leat_poll(client, NULL, 0) < 0)
            return LEAT_EFORK;
        if (client->in_flight == 0)
            return LEAT_OK;
        if (client_now_ns() >= deadline_ns)
            return LEAT_EDEADLINE;
        client_pause(&pace);
    }
}
