/* SPDX-License-Identifier: Apache-2.0
 *
 * Appends to a Redis stream (XADD) and waits for one replica each time (WAIT 1). A connection that
 * waits is served nothing else, so the window is spread over connections: up to 64, each of which
 * sends its share as so many XADD and one WAIT.
 */
#include <hiredis/adapters/libuv.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define CONNECTIONS_MAX 64u
#define BATCH_MAX       1024u
#define POLL_MS         2u

struct connection {
    redisAsyncContext *context;
    uint32_t share;
    uint32_t added; /* that were acknowledged by the first, and wait for a replica */
    bool failed;
    uint64_t stamps[BATCH_MAX];
};

static struct {
    struct load_options options;
    char *payload;
    uv_loop_t loop;
    struct connection connections[CONNECTIONS_MAX];
    unsigned count;
} client;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "redis: %s: %s\n", what, why);
    exit(1);
}

static void on_added(redisAsyncContext *context, void *reply, void *privdata)
{
    const redisReply *said = reply;
    struct connection *connection = privdata;
    (void)context;
    connection->failed |= !said || said->type == REDIS_REPLY_ERROR;
}

static void send_share(struct connection *connection);

static void on_waited(redisAsyncContext *context, void *reply, void *privdata)
{
    const redisReply *said = reply;
    struct connection *connection = privdata;
    bool good =
        said && said->type == REDIS_REPLY_INTEGER && said->integer >= 1 && !connection->failed;
    (void)context;
    for (uint32_t i = 0; i < connection->added; i++)
        load_end(connection->stamps[i], good);
    send_share(connection);
}

static void send_share(struct connection *connection)
{
    connection->added = 0;
    connection->failed = false;
    while (connection->added < connection->share && load_may_start()) {
        connection->stamps[connection->added++] = load_start();
        redisAsyncCommand(connection->context, on_added, connection, "XADD bench * v %b",
                          client.payload, (size_t)client.options.size_bytes);
    }
    if (connection->added > 0)
        redisAsyncCommand(connection->context, on_waited, connection, "WAIT 1 10000");
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
    if (load_is_over())
        exit(load_report());
}

static void connect_all(void)
{
    char host[128];
    snprintf(host, sizeof(host), "%s", client.options.address);
    char *port = strchr(host, ':');
    if (!port)
        die("--address", "expected HOST:PORT");
    *port++ = '\0';
    uint32_t window = client.options.in_flight;
    client.count = window < CONNECTIONS_MAX ? window : CONNECTIONS_MAX;
    for (unsigned i = 0; i < client.count; i++) {
        struct connection *connection = &client.connections[i];
        connection->share = window / client.count + (i < window % client.count);
        if (connection->share > BATCH_MAX)
            die("--inflight", "at most 65536");
        connection->context = redisAsyncConnect(host, atoi(port));
        if (!connection->context || connection->context->err)
            die(client.options.address, connection->context ? connection->context->errstr : "");
        redisLibuvAttach(connection->context, &client.loop);
    }
}

int main(int argc, char **argv)
{
    uv_timer_t timer;
    load_begin(argc, argv, &client.options);
    client.payload = calloc(1, client.options.size_bytes);
    uv_loop_init(&client.loop);
    connect_all();
    for (unsigned i = 0; i < client.count; i++)
        send_share(&client.connections[i]);
    uv_timer_init(&client.loop, &timer);
    uv_timer_start(&timer, on_timer, POLL_MS, POLL_MS);
    return uv_run(&client.loop, UV_RUN_DEFAULT);
}
