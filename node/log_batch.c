/* SPDX-License-Identifier: Apache-2.0
 *
 * A batch in a client's ring, measured against its log. Worker's thread; apart from log.c, so that
 * tests take records out of rings without a log behind them. Tests: tests/fuzz/ring.c.
 */
#include "log.h"

#include "leat/error.h"

int log_batch_parse(const struct node_log *log, const void *payload, uint32_t payload_bytes,
                    uint32_t *lengths, uint32_t *ret_count, uint64_t *ret_frames_bytes)
{
    uint32_t count = leat_batch_parse(payload, payload_bytes, lengths);
    uint64_t frames_bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        frames_bytes += leat_batch_frame_extent(lengths[i]);
    if (count == 0)
        return LEAT_EPROTO;
    if (!leat_batch_fits(payload_bytes, frames_bytes, log->shape.entry_bytes_max))
        return LEAT_ETOOBIG;
    *ret_count = count;
    *ret_frames_bytes = frames_bytes;
    return LEAT_OK;
}
