/* SPDX-License-Identifier: Apache-2.0
 *
 * The sparse index of a sealed segment, `<base>.index` beside it: from an offset or a log time to
 * a position by binary search. Written whole by the node's helper, and again when it is missing or
 * does not verify, so nothing depends on it but speed. Who reads it checks magic, version, crc, log
 * and base first, and every frame it leads to by the frame's own rules.
 */
#ifndef LEAT_BASE_SEGMENT_INDEX_H
#define LEAT_BASE_SEGMENT_INDEX_H

#include <stdint.h>

#include "base/frame.h"

#define LEAT_INDEX_MAGIC      0x31584449544145ccULL
#define LEAT_INDEX_VERSION    1u
#define LEAT_INDEX_STEP_BYTES (64u << 10)
#define LEAT_INDEX_ROWS_MAX   (LEAT_SEGMENT_BYTES_MAX / LEAT_INDEX_STEP_BYTES)

struct leat_index_head {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* of head and rows, with this word zero */
    struct leat_uuid log;
    uint32_t generation;
    uint32_t row_count; /* at least 1 */
    uint64_t base_pos;
    uint64_t segment_bytes;
    uint64_t end_offset; /* the next offset behind the segment */
};
_Static_assert(sizeof(struct leat_index_head) == 64, "no padding");

/* The first frame that begins at or behind each LEAT_INDEX_STEP_BYTES of the segment; ascending,
 * each frame once. Row 0 is the BASE frame. */
struct leat_index_row {
    uint64_t position;
    uint64_t offset; /* as struct leat_frame has it */
    uint64_t time_ns;
};
_Static_assert(sizeof(struct leat_index_row) == 24, "no padding");

#endif
