/* SPDX-License-Identifier: Apache-2.0
 *
 * What a disk does by itself, for benchmarks: blocks one after another to (or from) a file that was
 * written before, with the ring, the flags and the preparation of the journal. What a node's
 * durable appends, and its reads of what it holds, are compared with. One thread.
 */
#ifndef LEAT_STORAGE_PROBE_H
#define LEAT_STORAGE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"

enum leat_probe_wait {
    LEAT_PROBE_YIELD, /* sched_yield between looks at the ring */
    LEAT_PROBE_BLOCK, /* waits in the kernel */
    LEAT_PROBE_SPIN,
};

struct leat_probe {
    enum leat_probe_wait wait;
    uint32_t block_bytes; /* a multiple of 4 KiB, at most 1 MiB */
    uint32_t in_flight;   /* 1 to 64 */
    uint64_t file_bytes;  /* a multiple of 1 MiB, and so many blocks at least */
    bool reads;
    double seconds;                  /* from when it is warm: 50 blocks, or a fifth of a second */
    void (*prepared)(void *context); /* NULL, or what is done between the preparation and that */
    void *context;
};

struct leat_probe_result {
    struct leat_histogram latency; /* ns, of each block */
    double bytes_per_second;
};

/* On `path`, made, and removed at the end. Returns 0, LEAT_EINVAL, LEAT_ENOMEM, LEAT_ESYSTEM (with
 * errno: the file system may refuse O_DIRECT) or LEAT_EIO. */
int leat_disk_probe(const char *path, const struct leat_probe *probe,
                    struct leat_probe_result *ret_result);

#endif
