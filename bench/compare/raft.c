/* SPDX-License-Identifier: Apache-2.0
 *
 * A node of libraft (Canonical's C-Raft) over its libuv transport and its own storage, in the
 * current directory; entries go to files opened with O_DIRECT and O_DSYNC. --mode I: the I-th of
 * --address A,B,C. The first leads, since the others wait longer for a leader, and has the client
 * inside: it is the load. The others serve until they are ended.
 */
#include <raft.h>
#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define ELECTION_MS        1000u
#define ELECTION_LATER_MS  20000u
#define HEARTBEAT_MS       100u
#define SNAPSHOT_THRESHOLD 1000000000u /* none while it is measured */
#define POLL_MS            2u

static struct {
    struct load_options options;
    unsigned id;
    uv_loop_t loop;
    uv_timer_t timer;
    struct raft_uv_transport transport;
    struct raft_io io;
    struct raft_fsm fsm;
    struct raft raft;
} node;

struct append {
    struct raft_apply request;
    uint64_t stamp;
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "raft: %s: %s %s\n", what, raft_strerror(rc), raft_errmsg(&node.raft));
    exit(1);
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **ret_result)
{
    (void)fsm, (void)buffer;
    *ret_result = NULL;
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *count)
{
    (void)fsm;
    *count = 1;
    *buffers = raft_malloc(sizeof(**buffers));
    (*buffers)[0] = (struct raft_buffer){raft_calloc(1, 8), 8};
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
    (void)fsm;
    raft_free(buffer->base);
    return 0;
}

static void start_more(void);

static void append_ended(struct raft_apply *request, int status, void *result)
{
    struct append *append = (void *)request;
    (void)result;
    load_end(append->stamp, status == 0);
    free(append);
    start_more();
}

static void start_more(void)
{
    while (load_may_start()) {
        struct append *append = malloc(sizeof(*append));
        size_t bytes = (node.options.size_bytes + 7u) & ~7u;
        struct raft_buffer buffer = {raft_malloc(bytes), bytes};
        if (!append || !buffer.base)
            die("append", RAFT_NOMEM);
        memset(buffer.base, 0x5a, bytes);
        append->stamp = load_start();
        int rc = raft_apply(&node.raft, &append->request, &buffer, 1, append_ended);
        if (rc != 0)
            die("append", rc);
    }
}

static void on_timer(uv_timer_t *timer)
{
    static bool leads;
    (void)timer;
    if (node.id != 1)
        return;
    if (!leads && raft_state(&node.raft) == RAFT_LEADER) {
        leads = true;
        start_more();
    }
    if (leads && load_is_over())
        exit(load_report());
}

int main(int argc, char **argv)
{
    struct raft_configuration members;
    char addresses[256], *rest = addresses, *address, *own = NULL;
    load_begin(argc, argv, &node.options);
    node.id = (unsigned)atoi(node.options.mode);
    node.fsm = (struct raft_fsm){
        .version = 1, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
    raft_configuration_init(&members);
    snprintf(addresses, sizeof(addresses), "%s", node.options.address);
    for (unsigned id = 1; (address = strsep(&rest, ",")) != NULL; id++) {
        raft_configuration_add(&members, id, address, RAFT_VOTER);
        own = id == node.id ? address : own;
    }
    if (!own)
        die("--mode is the number of an address", RAFT_INVALID);
    uv_loop_init(&node.loop);
    int rc = raft_uv_tcp_init(&node.transport, &node.loop);
    if (rc == 0)
        rc = raft_uv_init(&node.io, &node.loop, ".", &node.transport);
    if (rc == 0)
        rc = raft_init(&node.raft, &node.io, &node.fsm, node.id, own);
    if (rc != 0)
        die("init", rc);
    raft_set_election_timeout(&node.raft, node.id == 1 ? ELECTION_MS : ELECTION_LATER_MS);
    raft_set_heartbeat_timeout(&node.raft, HEARTBEAT_MS);
    raft_set_snapshot_threshold(&node.raft, SNAPSHOT_THRESHOLD);
    rc = raft_bootstrap(&node.raft, &members);
    if (rc == 0)
        rc = raft_start(&node.raft);
    if (rc != 0)
        die("start", rc);
    uv_timer_init(&node.loop, &node.timer);
    uv_timer_start(&node.timer, on_timer, POLL_MS, POLL_MS);
    return uv_run(&node.loop, UV_RUN_DEFAULT);
}
