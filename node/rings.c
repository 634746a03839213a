/* SPDX-License-Identifier: Apache-2.0
 *
 * See rings.h. Tests: tests/client/test_control.c.
 */
#include "rings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "leat/error.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* since Linux 6.3 */
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

static uint64_t client_region_bytes(uint64_t ring_bytes)
{
    return LEAT_RING_HEADER_BYTES + ring_bytes;
}

static uint64_t node_region_bytes(uint64_t completion_count)
{
    return LEAT_RING_HEADER_BYTES + completion_count * sizeof(struct leat_completion);
}

static bool in_bounds(uint64_t value, uint64_t low, uint64_t high)
{
    return value >= low && value <= high && (value & (value - 1)) == 0;
}

uint64_t rings_memory_bytes(uint64_t ring_bytes, uint64_t completion_count, uint32_t worker_count)
{
    if (!in_bounds(ring_bytes, LEAT_RING_BYTES_MIN, LEAT_RING_BYTES_MAX) ||
        !in_bounds(completion_count, LEAT_RING_COMPLETIONS_MIN, LEAT_RING_COMPLETIONS_MAX))
        return 0;
    return client_region_bytes(ring_bytes) + node_region_bytes(completion_count) +
           worker_count * completion_count * sizeof(struct client_slot);
}

/* Every page is there before anyone maps it: later there is neither a fault nor a SIGBUS. */
static int region_fill(int descriptor, uint64_t bytes)
{
    while (fallocate(descriptor, 0, 0, (off_t)bytes) != 0) {
        if (errno != EINTR)
            return LEAT_ENOMEM;
    }
    return LEAT_OK;
}

static int region_make(const char *name, uint64_t bytes, int *ret_descriptor)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int descriptor = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (descriptor < 0 && errno == EINVAL)
        descriptor = memfd_create(name, flags);
    if (descriptor < 0)
        return LEAT_ESYSTEM;
    int rc = LEAT_ESYSTEM;
    if (fchmod(descriptor, 0600) == 0 && ftruncate(descriptor, (off_t)bytes) == 0)
        rc = region_fill(descriptor, bytes);
    if (rc == LEAT_OK && fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
        rc = LEAT_ESYSTEM;
    if (rc != LEAT_OK) {
        close(descriptor);
        return rc;
    }
    *ret_descriptor = descriptor;
    return LEAT_OK;
}

static int seal_for_ever(int descriptor)
{
    return fcntl(descriptor, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 ? LEAT_OK
                                                                                  : LEAT_ESYSTEM;
}

static int map_client_region(struct node_rings *rings, int *ret_descriptor)
{
    uint64_t bytes = client_region_bytes(rings->ring_bytes);
    int descriptor;
    int rc = region_make("leat-client", bytes, &descriptor);
    if (rc != LEAT_OK)
        return rc;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    if (map == MAP_FAILED) {
        close(descriptor);
        return LEAT_ENOMEM;
    }
    rings->shared = map;
    rings->records = (const uint8_t *)map + LEAT_RING_HEADER_BYTES;
    *ret_descriptor = descriptor;
    return LEAT_OK;
}

static int map_node_region(struct node_rings *rings, const struct leat_uuid *instance,
                           int *ret_descriptor)
{
    uint64_t bytes = node_region_bytes(rings->completion_count);
    int descriptor;
    int rc = region_make("leat-node", bytes, &descriptor);
    if (rc != LEAT_OK)
        return rc;
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    rc = map == MAP_FAILED ? LEAT_ENOMEM : seal_for_ever(descriptor);
    if (map != MAP_FAILED) {
        rings->answers = map;
        rings->completions = (void *)((uint8_t *)map + LEAT_RING_HEADER_BYTES);
    }
    if (rc != LEAT_OK) {
        close(descriptor);
        return rc;
    }
    rings->answers->instance = *instance;
    rings->answers->ring_bytes = rings->ring_bytes;
    rings->answers->completion_count = rings->completion_count;
    *ret_descriptor = descriptor;
    return LEAT_OK;
}

int rings_make(const struct leat_uuid *client, uint32_t uid, const struct leat_uuid *instance,
               uint64_t ring_bytes, uint64_t completion_count, uint32_t worker_count,
               struct node_rings **ret_rings, struct rings_descriptors *ret_descriptors)
{
    if (rings_memory_bytes(ring_bytes, completion_count, worker_count) == 0)
        return LEAT_EINVAL;
    struct node_rings *rings = calloc(1, sizeof(*rings));
    if (!rings)
        return LEAT_ENOMEM;
    rings->client = *client;
    rings->uid = uid;
    rings->ring_bytes = ring_bytes;
    rings->completion_count = completion_count;
    rings->slots = calloc(worker_count * completion_count, sizeof(*rings->slots));
    struct rings_descriptors descriptors = {.client_region = -1, .node_region = -1};
    int rc = rings->slots ? map_client_region(rings, &descriptors.client_region) : LEAT_ENOMEM;
    if (rc == LEAT_OK)
        rc = map_node_region(rings, instance, &descriptors.node_region);
    if (rc != LEAT_OK) {
        if (descriptors.client_region >= 0)
            close(descriptors.client_region);
        rings_free(rings);
        return rc;
    }
    *ret_rings = rings;
    *ret_descriptors = descriptors;
    return LEAT_OK;
}

int rings_seal(const struct node_rings *rings, int client_region)
{
    uint64_t bytes = client_region_bytes(rings->ring_bytes);
    LEAT_ASSERT(client_region >= 0);
    int rc = seal_for_ever(client_region);
    if (rc == LEAT_OK)
        rc = region_fill(client_region, bytes);
    if (rc == LEAT_OK) /* an older kernel faults the pages in when they are first looked at */
        (void)madvise(rings->shared, bytes, MADV_POPULATE_READ);
    return rc;
}

void rings_free(struct node_rings *rings)
{
    if (rings->shared)
        munmap(rings->shared, client_region_bytes(rings->ring_bytes));
    if (rings->answers)
        munmap(rings->answers, node_region_bytes(rings->completion_count));
    free(rings->slots);
    free(rings);
}
