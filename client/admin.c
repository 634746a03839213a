/* SPDX-License-Identifier: Apache-2.0
 *
 * Status and operating: one request over a connection of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client_private.h"

#define STATUS_BYTES_MAX (64u << 20)

/* The reply's descriptor is the caller's when ret_reply is not NULL. */
static int admin_ask(const char *socket, const struct leat_control_request *request, char *text,
                     struct client_reply *ret_reply)
{
    struct client_reply reply;
    int descriptor = client_connect(client_socket_path(socket));
    if (descriptor < 0)
        return descriptor;
    int rc = client_exchange(descriptor, request, &reply, text, CLIENT_ATTACH_NS);
    close(descriptor);
    if (rc != LEAT_OK)
        return rc;
    if (ret_reply) {
        *ret_reply = reply;
        return reply.head.error;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (reply.descriptors[i] >= 0)
            close(reply.descriptors[i]);
    }
    return reply.head.error;
}

/* A long state comes as a file in memory. */
static int status_read(int descriptor, uint64_t bytes, char **ret_json)
{
    if (bytes > STATUS_BYTES_MAX)
        return LEAT_EPROTO;
    char *text = malloc(bytes + 1);
    if (!text)
        return LEAT_ENOMEM;
    for (uint64_t at = 0; at < bytes;) {
        ssize_t got = pread(descriptor, text + at, bytes - at, (off_t)at);
        if (got <= 0) {
            free(text);
            return LEAT_EPROTO;
        }
        at += (uint64_t)got;
    }
    text[bytes] = 0;
    *ret_json = text;
    return LEAT_OK;
}

static int status_ask(const char *socket, struct leat_control_request *request, char **ret_json)
{
    struct client_reply reply = {.descriptors = {-1, -1}};
    char *text = malloc(LEAT_CONTROL_TEXT_BYTES_MAX + 1);
    if (!text)
        return LEAT_ENOMEM;
    int rc = admin_ask(socket, request, text, &reply);
    if (rc == LEAT_OK && reply.descriptors[0] >= 0) {
        free(text);
        text = NULL;
        rc = status_read(reply.descriptors[0], reply.head.position, &text);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (reply.descriptors[i] >= 0)
            close(reply.descriptors[i]);
    }
    if (rc != LEAT_OK) {
        free(text);
        return rc;
    }
    *ret_json = text;
    return LEAT_OK;
}

int leat_status(const char *socket, char **ret_json)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_STATUS, 0);
    return status_ask(socket, &request, ret_json);
}

int leat_status_log(const char *socket, uint32_t log, char **ret_json)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_STATUS, log);
    request.position = 1;
    return status_ask(socket, &request, ret_json);
}

static int operate(const char *socket, const struct leat_control_request *request,
                   char *explanation, size_t explanation_bytes)
{
    char *text = calloc(1, LEAT_CONTROL_TEXT_BYTES_MAX + 1);
    if (!text)
        return LEAT_ENOMEM;
    int rc = admin_ask(socket, request, text, NULL);
    if (explanation && explanation_bytes > 0)
        snprintf(explanation, explanation_bytes, "%s", text);
    free(text);
    return rc;
}

int leat_transfer(const char *socket, uint32_t log, uint32_t to_node, char *explanation,
                  size_t explanation_bytes)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_TRANSFER, log);
    request.node_id = to_node;
    return operate(socket, &request, explanation, explanation_bytes);
}

int leat_amnesia_accept(const char *socket, uint32_t log, char *explanation,
                        size_t explanation_bytes)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_AMNESIA_ACCEPT, log);
    return operate(socket, &request, explanation, explanation_bytes);
}

int leat_damage_accept(const char *socket, uint32_t log, char *explanation,
                       size_t explanation_bytes)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_DAMAGE_ACCEPT, log);
    return operate(socket, &request, explanation, explanation_bytes);
}

int leat_trim(const char *socket, uint32_t log, uint64_t position, char *explanation,
              size_t explanation_bytes)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_TRIM, log);
    request.position = position;
    return operate(socket, &request, explanation, explanation_bytes);
}
