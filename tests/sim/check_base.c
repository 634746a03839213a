/* SPDX-License-Identifier: Apache-2.0
 *
 * T2: what a BASE frame says is the prefix's before it, however often those who wrote it began from
 * another one.
 */
#include "check_private.h"

#include <string.h>

static struct prefix {
    struct leat_sessions sessions; /* never loaded, so all of it was seen */
    uint64_t trim_pos, fence_epoch;
} prefixes[LEDGER_LOGS_MAX];

void check_base_begin(void)
{
    memset(prefixes, 0, sizeof(prefixes));
}

static bool base_is_of(const struct leat_base *base, const struct prefix *prefix)
{
    static struct leat_session_row rows[LEAT_SESSIONS_MAX];
    static struct leat_session_closed closed[LEAT_SESSIONS_CLOSED];
    const struct leat_base_head *head = base->head;
    leat_sessions_list(&prefix->sessions, rows);
    leat_sessions_list_closed(&prefix->sessions, closed);
    return head->trim_pos == prefix->trim_pos && head->fence_epoch == prefix->fence_epoch &&
           head->closed_unknown_pos == prefix->sessions.closed_unknown_pos &&
           head->session_count == prefix->sessions.count &&
           head->closed_count == leat_sessions_closed_known(&prefix->sessions) &&
           memcmp(base->sessions, rows, head->session_count * sizeof(rows[0])) == 0 &&
           memcmp(base->closed, closed, head->closed_count * sizeof(closed[0])) == 0;
}

void check_base(unsigned node, uint32_t log, uint64_t position, const struct leat_frame *frame)
{
    struct prefix *prefix = &prefixes[log];
    const void *payload = frame + 1;
    unsigned type = leat_frame_type(frame);
    if (type == LEAT_FRAME_TRIM)
        prefix->trim_pos = ((const struct leat_trim_payload *)payload)->trim_pos;
    else if (type == LEAT_FRAME_FENCE)
        prefix->fence_epoch = ((const struct leat_fence_payload *)payload)->epoch;
    if (leat_sessions_apply(&prefix->sessions, position, frame, payload) != LEAT_OK)
        world_fail("T2", "node %u committed at %lu of log %u what does not fit the sessions",
                   node + 1, (unsigned long)position, log);
    struct leat_base base;
    if (type == LEAT_FRAME_BASE &&
        (leat_base_parse(payload, frame->length_bytes - LEAT_FRAME_HEADER_BYTES, &base) !=
             LEAT_OK ||
         !base_is_of(&base, prefix)))
        world_fail("T2", "node %u committed a base frame at %lu of log %u that is not the prefix's",
                   node + 1, (unsigned long)position, log);
}
