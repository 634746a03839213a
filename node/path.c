/* SPDX-License-Identifier: Apache-2.0
 *
 * What the way to a peer carries. One that loses long datagrams only (an MTU that is smaller
 * somewhere between) is not seen by heartbeats: they are short and arrive, so nobody campaigns, and
 * the log would stand still for as long. So where bytes go again and again without progress, to a
 * peer that is heard, the rest goes in datagrams that every path carries; after a while long ones
 * are tried again. Worker's thread.
 */
#include "base/assert.h"
#include "worker.h"

#define PATH_SHORT_BYTES  548u         /* IPv4's 576, without its header and UDP's */
#define PATH_SHORT_NS     10000000000u /* the first time; twice as long if long ones fail again */
#define PATH_SHORT_NS_MAX 160000000000u
#define PATH_AGAIN_NS     5000000000u /* so soon after long ones were tried again */
#define PATH_HEARTBEATS   4u /* a peer not heard for so many is away, not cut off from long ones */

uint32_t path_datagram_bytes(struct node_worker *worker, unsigned index)
{
    struct node_peer *peer = &worker->peers[index];
    uint32_t most = leat_port_datagram_bytes_max(worker->port);
    if (peer->is_short && worker->now_ns >= peer->short_until_ns) {
        peer->is_short = false;
        leat_port_bundle_limit(worker->port, index, UINT32_MAX);
    }
    return peer->is_short && most > PATH_SHORT_BYTES ? PATH_SHORT_BYTES : most;
}

void path_stalls(struct node_worker *worker, unsigned index, unsigned other)
{
    struct node_peer *peer = &worker->peers[index];
    const struct node_link *link = &peer->links[other];
    static _Thread_local struct logger_rate rate;
    LEAT_ASSERT(other < LEAT_WORKERS_MAX);
    if (!link->known || peer->is_short ||
        worker->now_ns - link->heard_ns > PATH_HEARTBEATS * worker->config->heartbeat_ns)
        return;
    bool again = peer->short_until_ns != 0 && worker->now_ns - peer->short_until_ns < PATH_AGAIN_NS;
    peer->short_ns = again ? 2 * peer->short_ns : PATH_SHORT_NS;
    if (peer->short_ns > PATH_SHORT_NS_MAX)
        peer->short_ns = PATH_SHORT_NS_MAX;
    peer->is_short = true;
    peer->short_until_ns = worker->now_ns + peer->short_ns;
    worker->short_paths++;
    leat_port_bundle_limit(worker->port, index, PATH_SHORT_BYTES);
    logger_limited(worker->out, &rate, worker->now_ns, LEAT_LOG_WARNING,
                   "node %u is heard and what is sent to it does not arrive: datagrams of %u bytes "
                   "for %lu s; is its way's MTU as configured?",
                   peer->node_id, PATH_SHORT_BYTES, (unsigned long)(peer->short_ns / 1000000000u));
}
