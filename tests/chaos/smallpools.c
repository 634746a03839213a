/* SPDX-License-Identifier: Apache-2.0
 *
 * A node with next to no packet buffers: leatd, linked so that its pools are made here (--wrap).
 * LEAT_SMALLPOOLS says how many buffers each has.
 */
#include <stdlib.h>

struct rte_mempool;
struct rte_mempool *__real_rte_mempool_create_empty(const char *name, unsigned count,
                                                    unsigned element_bytes, unsigned cache,
                                                    unsigned private_bytes, int socket,
                                                    unsigned flags);
struct rte_mempool *__wrap_rte_mempool_create_empty(const char *name, unsigned count,
                                                    unsigned element_bytes, unsigned cache,
                                                    unsigned private_bytes, int socket,
                                                    unsigned flags);

struct rte_mempool *__wrap_rte_mempool_create_empty(const char *name, unsigned count,
                                                    unsigned element_bytes, unsigned cache,
                                                    unsigned private_bytes, int socket,
                                                    unsigned flags)
{
    const char *small = getenv("LEAT_SMALLPOOLS");
    if (small)
        count = (unsigned)atoi(small), cache = 0;
    return __real_rte_mempool_create_empty(name, count, element_bytes, cache, private_bytes, socket,
                                           flags);
}
