/* SPDX-License-Identifier: Apache-2.0
 *
 * Publishes to a JetStream stream of three replicas, on the server that leads it. --mode file or
 * memory: the stream's storage. What is in flight is counted by acknowledgements of the stream,
 * each to a reply subject of its own, as the library's own asynchronous publishing does it, which
 * says nothing of when an acknowledgement came.
 */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define STREAM  "BENCH"
#define SUBJECT "bench"
#define WAIT_MS 20

static void must(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "nats: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

/* Makes the stream, or finds it there; returns the name of the server that leads it, to be freed.
 */
static char *stream_make(natsConnection *connection, bool in_memory)
{
    jsCtx *context;
    jsStreamConfig config;
    jsStreamInfo *info = NULL;
    const char *subject = SUBJECT;
    must(natsConnection_JetStream(&context, connection, NULL), "JetStream");
    jsStreamConfig_Init(&config);
    config.Name = STREAM;
    config.Subjects = &subject;
    config.SubjectsLen = 1;
    config.Replicas = 3;
    config.Storage = in_memory ? js_MemoryStorage : js_FileStorage;
    if (js_GetStreamInfo(&info, context, STREAM, NULL, NULL) != NATS_OK)
        must(js_AddStream(&info, context, &config, NULL, NULL), "making the stream");
    if (!info->Cluster || !info->Cluster->Leader)
        must(NATS_NOT_FOUND, "the stream's leader");
    char *leader = strdup(info->Cluster->Leader);
    jsStreamInfo_Destroy(info);
    jsCtx_Destroy(context);
    return leader;
}

/* address: NAME=URL,NAME=URL,... */
static natsConnection *connect_to(const char *address, const char *name, bool at_once)
{
    char copy[512], *rest = copy, *word;
    natsOptions *options;
    natsConnection *connection = NULL;
    snprintf(copy, sizeof(copy), "%s", address);
    must(natsOptions_Create(&options), "options");
    must(natsOptions_SetSendAsap(options, at_once), "options");
    must(natsOptions_SetNoRandomize(options, true), "options");
    while ((word = strsep(&rest, ",")) != NULL) {
        char *url = strchr(word, '=');
        if (!url)
            must(NATS_INVALID_ARG, address);
        *url++ = '\0';
        if (name && strcmp(name, word) != 0)
            continue;
        must(natsOptions_SetURL(options, url), url);
        must(natsConnection_Connect(&connection, options), url);
        break;
    }
    natsOptions_Destroy(options);
    if (!connection)
        must(NATS_NO_SERVER, "the stream's leader is none of the addresses");
    return connection;
}

/* A slot of the window is a reply subject; its stamp is when it was published. */
struct window {
    uint64_t *stamps;
    uint32_t *free;
    uint32_t free_count;
};

static void publish(natsConnection *connection, const char *inbox, struct window *window,
                    const char *payload, int bytes)
{
    char reply[128];
    uint32_t slot = window->free[--window->free_count];
    snprintf(reply, sizeof(reply), "%s.%u", inbox, slot);
    window->stamps[slot] = load_start();
    must(natsConnection_PublishRequest(connection, SUBJECT, reply, payload, bytes), "publish");
}

static void acknowledged(struct window *window, natsMsg *message)
{
    uint32_t slot = (uint32_t)strtoul(strrchr(natsMsg_GetSubject(message), '.') + 1, NULL, 10);
    const char *data = natsMsg_GetData(message);
    load_end(window->stamps[slot],
             natsMsg_GetDataLength(message) > 0 && strstr(data, "\"error\"") == NULL);
    window->free[window->free_count++] = slot;
    natsMsg_Destroy(message);
}

int main(int argc, char **argv)
{
    struct load_options options;
    struct window window;
    load_begin(argc, argv, &options);
    natsConnection *first = connect_to(options.address, NULL, true);
    char *leader = stream_make(first, strcmp(options.mode, "memory") == 0);
    /* one at a time: written at once, not by the library's thread that gathers what goes together
     */
    natsConnection *connection = connect_to(options.address, leader, options.in_flight == 1);
    natsSubscription *replies;
    natsInbox *inbox;
    char wildcard[128], *payload = calloc(1, options.size_bytes);
    window.stamps = calloc(options.in_flight, sizeof(*window.stamps));
    window.free = calloc(options.in_flight, sizeof(*window.free));
    for (window.free_count = 0; window.free_count < options.in_flight; window.free_count++)
        window.free[window.free_count] = window.free_count;
    must(natsInbox_Create(&inbox), "inbox");
    snprintf(wildcard, sizeof(wildcard), "%s.*", inbox);
    must(natsConnection_SubscribeSync(&replies, connection, wildcard), "subscribe");
    must(natsSubscription_SetPendingLimits(replies, -1, -1), "limits");
    while (!load_is_over()) {
        natsMsg *message;
        while (load_may_start())
            publish(connection, inbox, &window, payload, (int)options.size_bytes);
        if (natsSubscription_NextMsg(&message, replies, WAIT_MS) == NATS_OK)
            acknowledged(&window, message);
    }
    return load_report();
}
