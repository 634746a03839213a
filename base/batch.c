/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of a batch in a client's ring (base/ring.h). Any thread. Tests: tests/unit/.
 */
#include <string.h>

#include "base/ring.h"

uint32_t leat_batch_parse(const void *payload, uint32_t payload_bytes, uint32_t *lengths)
{
    uint32_t count = 0;
    uint64_t at = 0;
    while (at < payload_bytes) {
        struct leat_batch_item item; /* the one load of these words */
        if (count == LEAT_BATCH_RECORDS_MAX || payload_bytes - at < sizeof(item))
            return 0;
        memcpy(&item, (const char *)payload + at, sizeof(item));
        uint64_t extent = leat_batch_item_extent(item.payload_bytes);
        if (item.zero != 0 || extent > payload_bytes - at)
            return 0;
        lengths[count++] = item.payload_bytes;
        at += extent;
    }
    return count;
}
