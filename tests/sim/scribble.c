/* SPDX-License-Identifier: Apache-2.0
 *
 * The dishonest client writes between two of a node's loads: where the node has taken a record's
 * header and has not copied its payload yet. (Calls between files of the product; see wraps.txt.)
 */
#include "client.h"
#include "draw.h"
#include "faults.h"
#include "worker.h"

static void scribble_now(void)
{
    if (draw.scribble_ms > 0 && faults_are_on() && world_chance(STREAM_CLIENTS, 20000)) {
        fault_counts.scribble++;
        clients_scribble_one();
    }
}

uint32_t __real_leat_batch_parse(const void *payload, uint32_t bytes, uint32_t *lengths);
uint32_t __wrap_leat_batch_parse(const void *payload, uint32_t bytes, uint32_t *lengths);
uint32_t __wrap_leat_batch_parse(const void *payload, uint32_t bytes, uint32_t *lengths)
{
    scribble_now();
    uint32_t count = __real_leat_batch_parse(payload, bytes, lengths);
    scribble_now();
    return count;
}

typedef enum append_verdict session_append_call(struct node_log *log,
                                                const struct leat_uuid *client,
                                                const struct node_append *append,
                                                uint64_t applied_pos, bool oldest,
                                                struct leat_session_row *ret_row, int *ret_error);
session_append_call __real_session_append, __wrap_session_append;
enum append_verdict __wrap_session_append(struct node_log *log, const struct leat_uuid *client,
                                          const struct node_append *append, uint64_t applied_pos,
                                          bool oldest, struct leat_session_row *ret_row,
                                          int *ret_error)
{
    scribble_now();
    return __real_session_append(log, client, append, applied_pos, oldest, ret_row, ret_error);
}

typedef bool forward_record_call(struct node_log *log, const struct leat_uuid *client,
                                 const struct node_append *append, bool oldest);
forward_record_call __real_forward_record, __wrap_forward_record;
bool __wrap_forward_record(struct node_log *log, const struct leat_uuid *client,
                           const struct node_append *append, bool oldest)
{
    scribble_now();
    return __real_forward_record(log, client, append, oldest);
}
