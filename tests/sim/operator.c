/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator asks of nodes through libleat, each wish by a process of its own.
 */
#include "client.h"

#include "check.h"
#include "cluster.h"
#include "draw.h"
#include "ledger.h"
#include "leat/leat.h"

#define ATTACH_NS (300 * SIM_MS)
#define AWAY_NS   (20 * SIM_MS) /* between looks whether a node listens */

static unsigned creating;

struct wish {
    enum operator_wish wish;
    unsigned node;
    uint32_t log;
    uint64_t argument;
};

static void create_logs(const char *socket)
{
    for (uint32_t id = 2; id <= draw.logs; id++) {
        struct leat_log_entry entry = {.segment_bytes = 1u << 20,
                                       .arena_bytes = 2u << 20,
                                       .entry_bytes_max = (uint32_t)draw.entry_kib << 10,
                                       .accepts_replicated = draw.replicated_ppm > 0};
        entry.name[0] = (char)('a' + id);
        uint32_t made;
        (void)leat_log_create(socket, &entry, SIM_S, &made, NULL, 0);
    }
    creating--;
}

/* C8: not below what was acknowledged before the question, not beyond what is committed. */
static void ask_tail(const char *socket, uint32_t log)
{
    struct leat_options options = {.socket = socket,
                                   .ring_bytes = 64u << 10,
                                   .in_flight_max = 16, /* it appends nothing */
                                   .attach_timeout_ns = ATTACH_NS};
    struct leat_client *client;
    uint64_t position, offset, acked_pos;
    if (leat_attach(&options, &client) != LEAT_OK)
        return;
    acked_pos = ledger.logs[log].acked_pos;
    int rc = leat_tail(client, log, LEAT_ACK_DURABLE, &position, &offset);
    if (rc == LEAT_OK && (position < acked_pos || position > check_committed_end(log)))
        world_fail("C8",
                   "log %u is said to end at %lu; %lu was acknowledged before, %lu is committed",
                   log, (unsigned long)position, (unsigned long)acked_pos,
                   (unsigned long)check_committed_end(log));
    leat_detach(client);
}

static void *operator_main(void *context)
{
    const struct wish *wish = context;
    const char *socket = cluster_socket(wish->node);
    for (unsigned tries = 0; !socket && wish->wish == OPERATOR_CREATE_LOGS; tries++) {
        thread_sleep(AWAY_NS);
        socket = cluster_socket(tries % cluster.count);
    }
    if (!socket)
        return NULL;
    if (wish->wish == OPERATOR_TAIL)
        ask_tail(socket, wish->log);
    else if (wish->wish == OPERATOR_TRANSFER)
        (void)leat_transfer(socket, wish->log, (uint32_t)wish->argument, NULL, 0);
    else if (wish->wish == OPERATOR_ACCEPT_AMNESIA)
        (void)leat_amnesia_accept(socket, wish->log, NULL, 0);
    else if (wish->wish == OPERATOR_TRIM)
        (void)leat_trim(socket, wish->log, wish->argument, NULL, 0);
    else
        create_logs(socket);
    return NULL;
}

static void operator_ended(struct sim_process *process, void *result)
{
    (void)process, (void)result;
}

void operator_wish(enum operator_wish kind, unsigned node, uint32_t log, uint64_t argument)
{
    struct wish *wish = sim_new(sizeof(*wish));
    creating += kind == OPERATOR_CREATE_LOGS;
    *wish = (struct wish){.wish = kind, .node = node, .log = log, .argument = argument};
    struct sim_process *process = process_start(&cluster.nodes[node].host, operator_main, wish);
    process->ended = operator_ended;
}

void operators_begin(void)
{
    creating = 0;
}

bool operators_are_done(void)
{
    return creating == 0;
}
