/* SPDX-License-Identifier: Apache-2.0
 *
 * The bare durable write, for benchmarks: one 4 KiB block at a time to a zero-written file, with
 * the ring, the flags and the file preparation of the journal. What a node's durable append is
 * compared with. One thread.
 */
#ifndef LEAT_STORAGE_PROBE_H
#define LEAT_STORAGE_PROBE_H

#include <stdint.h>

#include "base/histogram.h"

enum leat_probe_wait {
    LEAT_PROBE_YIELD, /* sched_yield between looks at the ring */
    LEAT_PROBE_BLOCK, /* waits in the kernel */
    LEAT_PROBE_SPIN,
};

/* Writes to `path` (made, and removed at the end) for `seconds`, recording each write's
 * nanoseconds. Returns 0, LEAT_ESYSTEM (with errno: the file system may refuse O_DIRECT) or
 * LEAT_EIO. */
int leat_disk_probe(const char *path, enum leat_probe_wait wait, double seconds,
                    struct leat_histogram *histogram);

#endif
