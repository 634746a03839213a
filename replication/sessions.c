/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests: tests/replication/test_sessions.c.
 */
#include "replication/sessions.h"

#include <string.h>

#include "base/assert.h"

static uint32_t slot_of(const struct leat_uuid *client)
{
    uint64_t words[2];
    memcpy(words, client->bytes, sizeof(words));
    uint64_t mixed = (words[0] ^ (words[1] << 1 | words[1] >> 63)) * 0x9e3779b97f4a7c15ULL;
    return (uint32_t)(mixed >> 40) % LEAT_SESSION_SLOTS;
}

/* Linear probing: the slot that names the client, or the first empty one behind its own. */
static uint32_t slot_find(const struct leat_sessions *sessions, const struct leat_uuid *client)
{
    uint32_t slot = slot_of(client);
    while (sessions->slots[slot] != 0 &&
           memcmp(sessions->rows[sessions->slots[slot] - 1].client.bytes, client->bytes,
                  sizeof(client->bytes)) != 0)
        slot = (slot + 1) % LEAT_SESSION_SLOTS;
    return slot;
}

static void slots_rebuild(struct leat_sessions *sessions)
{
    memset(sessions->slots, 0, sizeof(sessions->slots));
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++) {
        if (sessions->rows[i].session != 0)
            sessions->slots[slot_find(sessions, &sessions->rows[i].client)] = (uint16_t)(i + 1);
    }
}

void leat_sessions_init(struct leat_sessions *sessions)
{
    memset(sessions, 0, sizeof(*sessions));
}

void leat_sessions_load(struct leat_sessions *sessions, const struct leat_base *base)
{
    const struct leat_session_row *rows = base->sessions;
    LEAT_ASSERT(base->head->session_count <= LEAT_SESSIONS_MAX);
    LEAT_ASSERT(base->head->closed_count <= LEAT_SESSIONS_CLOSED);
    leat_sessions_init(sessions);
    for (uint32_t i = 0; i < base->head->session_count; i++) {
        LEAT_ASSERT(rows[i].session >= 1 && rows[i].session <= LEAT_SESSIONS_MAX);
        sessions->rows[rows[i].session - 1] = rows[i];
    }
    sessions->count = base->head->session_count;
    memcpy(sessions->closed, base->closed, base->head->closed_count * sizeof(base->closed[0]));
    sessions->closed_next = base->head->closed_count % LEAT_SESSIONS_CLOSED;
    sessions->closed_unknown_pos = base->head->closed_unknown_pos;
    slots_rebuild(sessions);
}

static int apply_open(struct leat_sessions *sessions, const struct leat_frame *frame,
                      const struct leat_session_payload *payload)
{
    uint32_t session = payload->session;
    if (session != frame->session || session == 0 || session > LEAT_SESSIONS_MAX ||
        sessions->rows[session - 1].session != 0 ||
        leat_sessions_find(sessions, &payload->client) != 0)
        return LEAT_ECORRUPT;
    struct leat_session_row *row = &sessions->rows[session - 1];
    memset(row, 0, sizeof(*row));
    row->session = session;
    row->client = payload->client;
    row->last_time_ns = frame->time_ns;
    sessions->slots[slot_find(sessions, &payload->client)] = (uint16_t)session;
    sessions->count++;
    return LEAT_OK;
}

static void note_closed(struct leat_sessions *sessions, uint64_t position,
                        const struct leat_uuid *client)
{
    struct leat_session_closed *closed = &sessions->closed[sessions->closed_next];
    if (closed->position != 0)
        sessions->closed_unknown_pos = closed->position;
    *closed = (struct leat_session_closed){*client, position};
    sessions->closed_next = (sessions->closed_next + 1) % LEAT_SESSIONS_CLOSED;
}

/* Linear probing without tombstones (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
 */
static void slot_free(struct leat_sessions *sessions, uint32_t slot)
{
    for (uint32_t at = (slot + 1) % LEAT_SESSION_SLOTS; sessions->slots[at] != 0;
         at = (at + 1) % LEAT_SESSION_SLOTS) {
        uint32_t home = slot_of(&sessions->rows[sessions->slots[at] - 1].client);
        if ((at - home) % LEAT_SESSION_SLOTS < (at - slot) % LEAT_SESSION_SLOTS)
            continue; /* it would not be found before its home */
        sessions->slots[slot] = sessions->slots[at];
        slot = at;
    }
    sessions->slots[slot] = 0;
}

static int apply_close(struct leat_sessions *sessions, uint64_t position,
                       const struct leat_session_payload *payload)
{
    uint32_t slot = slot_find(sessions, &payload->client), session = sessions->slots[slot];
    if (session == 0 || session != payload->session)
        return LEAT_ECORRUPT;
    slot_free(sessions, slot);
    memset(&sessions->rows[session - 1], 0, sizeof(sessions->rows[0]));
    sessions->count--;
    note_closed(sessions, position, &payload->client);
    return LEAT_OK;
}

/* RECORD, FENCE, REFUSED (then `refused`): the frame of a session's next sequence. */
static int apply_record(struct leat_sessions *sessions, uint64_t position,
                        const struct leat_frame *frame, const struct leat_refused_payload *refused)
{
    bool continues = (frame->type_flags & LEAT_FRAME_FLAG_CONTINUES) != 0;
    if (frame->session == 0)
        return frame->sequence == 0 && !continues && !refused ? LEAT_OK : LEAT_ECORRUPT;
    if (leat_sessions_judge(sessions, frame->session, frame->sequence) != LEAT_SESSION_NEXT)
        return LEAT_ECORRUPT;
    if (refused && refused->error != LEAT_ECONDITION && refused->error != LEAT_EFENCEDOUT)
        return LEAT_ECORRUPT;
    if (continues)
        return LEAT_OK; /* the last of the batch moves the row */
    struct leat_session_row *row = &sessions->rows[frame->session - 1];
    row->last_sequence = frame->sequence;
    row->last_position = position;
    row->last_offset = refused ? refused->detail : frame->offset;
    row->last_error = refused ? refused->error : LEAT_OK;
    row->last_time_ns = frame->time_ns;
    return LEAT_OK;
}

int leat_sessions_apply(struct leat_sessions *sessions, uint64_t position,
                        const struct leat_frame *frame, const void *payload)
{
    struct leat_session_payload session;
    struct leat_refused_payload refused;
    switch (leat_frame_type(frame)) {
    case LEAT_FRAME_RECORD:
    case LEAT_FRAME_FENCE:
        return apply_record(sessions, position, frame, NULL);
    case LEAT_FRAME_REFUSED:
        memcpy(&refused, payload, sizeof(refused));
        return apply_record(sessions, position, frame, &refused);
    case LEAT_FRAME_SESSION_OPEN:
        memcpy(&session, payload, sizeof(session));
        return apply_open(sessions, frame, &session);
    case LEAT_FRAME_SESSION_CLOSE:
        memcpy(&session, payload, sizeof(session));
        return apply_close(sessions, position, &session);
    default:
        return LEAT_OK;
    }
}

uint32_t leat_sessions_find(const struct leat_sessions *sessions, const struct leat_uuid *client)
{
    return sessions->slots[slot_find(sessions, client)];
}

uint64_t leat_sessions_closed(const struct leat_sessions *sessions, const struct leat_uuid *client,
                              uint64_t began_pos)
{
    uint64_t newest_pos = sessions->closed_unknown_pos;
    for (uint32_t i = 0; i < LEAT_SESSIONS_CLOSED; i++) {
        const struct leat_session_closed *closed = &sessions->closed[i];
        if (closed->position > newest_pos && leat_uuid_equal(&closed->client, client))
            newest_pos = closed->position;
    }
    return newest_pos >= began_pos ? newest_pos : 0;
}

uint32_t leat_sessions_free(const struct leat_sessions *sessions)
{
    if (sessions->count == LEAT_SESSIONS_MAX)
        return 0;
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++) {
        if (sessions->rows[i].session == 0)
            return i + 1;
    }
    LEAT_ASSERT(!"count and rows agree");
    return 0;
}

const struct leat_session_row *leat_sessions_row(const struct leat_sessions *sessions,
                                                 uint32_t session)
{
    if (session == 0 || session > LEAT_SESSIONS_MAX || sessions->rows[session - 1].session == 0)
        return 0;
    return &sessions->rows[session - 1];
}

enum leat_session_verdict leat_sessions_judge(const struct leat_sessions *sessions,
                                              uint32_t session, uint64_t sequence)
{
    const struct leat_session_row *row = leat_sessions_row(sessions, session);
    if (!row)
        return LEAT_SESSION_UNKNOWN;
    if (sequence == row->last_sequence + 1)
        return LEAT_SESSION_NEXT;
    if (sequence > row->last_sequence)
        return LEAT_SESSION_GAP;
    return sequence == row->last_sequence && sequence != 0 ? LEAT_SESSION_LAST : LEAT_SESSION_OLDER;
}

uint32_t leat_sessions_idle(const struct leat_sessions *sessions, uint64_t below_pos,
                            uint64_t below_time_ns, uint32_t effort, uint32_t *cursor)
{
    for (uint32_t i = 0; i < effort; i++) {
        const struct leat_session_row *row = &sessions->rows[*cursor % LEAT_SESSIONS_MAX];
        *cursor = (*cursor + 1) % LEAT_SESSIONS_MAX;
        if (row->session != 0 && (row->last_sequence != 0 ? row->last_position < below_pos
                                                          : row->last_time_ns < below_time_ns))
            return row->session;
    }
    return 0;
}

uint32_t leat_sessions_list(const struct leat_sessions *sessions, struct leat_session_row *rows)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++) {
        if (sessions->rows[i].session != 0)
            rows[count++] = sessions->rows[i];
    }
    LEAT_ASSERT(count == sessions->count);
    return count;
}

uint32_t leat_sessions_closed_known(const struct leat_sessions *sessions)
{
    bool is_full = sessions->closed[sessions->closed_next].position != 0;
    return is_full ? LEAT_SESSIONS_CLOSED : sessions->closed_next;
}

void leat_sessions_list_closed(const struct leat_sessions *sessions,
                               struct leat_session_closed *closed)
{
    uint32_t known = leat_sessions_closed_known(sessions);
    uint32_t oldest = sessions->closed_next + LEAT_SESSIONS_CLOSED - known;
    for (uint32_t i = 0; i < known; i++)
        closed[i] = sessions->closed[(oldest + i) % LEAT_SESSIONS_CLOSED];
}
