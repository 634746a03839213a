/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of a BASE frame, taken over as a node does: sessions and catalogue. No CRC lies in
 * it: its frame has that.
 */
#include "base/base_frame.h"
#include "catalogue.h"
#include "fuzz.h"
#include "replication/sessions.h"

static void base_sessions(const struct leat_base *base)
{
    static struct leat_sessions sessions;
    static struct leat_session_row listed[LEAT_SESSIONS_MAX];
    static struct leat_session_closed closed[LEAT_SESSIONS_CLOSED];
    const struct leat_session_row *rows = base->sessions;
    leat_sessions_load(&sessions, base);
    LEAT_ASSERT(leat_sessions_list(&sessions, listed) == base->head->session_count);
    LEAT_ASSERT(memcmp(listed, rows, base->head->session_count * sizeof(*rows)) == 0);
    LEAT_ASSERT(leat_sessions_closed_known(&sessions) == base->head->closed_count);
    leat_sessions_list_closed(&sessions, closed);
    LEAT_ASSERT(memcmp(closed, base->closed, base->head->closed_count * sizeof(*closed)) == 0);
    for (uint32_t i = 0; i < base->head->session_count; i++) {
        uint32_t session = leat_sessions_find(&sessions, &rows[i].client);
        const struct leat_session_row *row = leat_sessions_row(&sessions, session);
        LEAT_ASSERT(row && memcmp(&row->client, &rows[i].client, sizeof(row->client)) == 0);
    }
    leat_sessions_free(&sessions);
}

static void base_catalogue(const struct leat_base *base)
{
    static struct node_catalogue catalogue;
    const struct leat_catalogue_row *known = base->catalogue;
    catalogue_load(&catalogue, known, base->head->catalogue_count);
    for (uint32_t i = 0; i < base->head->catalogue_count; i++) {
        const struct leat_catalogue_row *row = catalogue_find(&catalogue, known[i].log_id);
        bool deleted = known[i].flags & LEAT_CATALOGUE_DELETED;
        LEAT_ASSERT(deleted ? !row : row && row->log_id == known[i].log_id);
        LEAT_ASSERT(deleted || catalogue_find_name(&catalogue, known[i].name));
        LEAT_ASSERT(known[i].log_id <= catalogue_last_id(&catalogue));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input_bytes, size_t input_length)
{
    struct fuzz_input input = {input_bytes, input_length};
    struct leat_base base;
    size_t length;
    uint8_t *bytes = fuzz_rest(&input, &length);
    if (leat_base_parse(bytes, (uint32_t)length, &base) == LEAT_OK) {
        const struct leat_base_head *head = base.head;
        LEAT_ASSERT(leat_base_payload_bytes(head) == length);
        LEAT_ASSERT(head->trim_pos <= head->position && head->run_first_pos <= head->position &&
                    head->closed_unknown_pos <= head->position);
        fuzz_touch(base.members, head->member_count * sizeof(*base.members));
        base_sessions(&base);
        if (head->catalogue_count > 0)
            base_catalogue(&base);
    }
    free(bytes);
    return 0;
}
