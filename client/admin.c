/* SPDX-License-Identifier: Apache-2.0
 *
 * Status and operating: one request over a connection of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client_private.h"

static int admin_ask(const char *socket, const struct leat_control_request *request, char *text)
{
    struct client_reply reply;
    int descriptor = client_connect(client_socket_path(socket));
    if (descriptor < 0)
        return descriptor;
    int rc = client_exchange(descriptor, request, &reply, text, CLIENT_ATTACH_NS);
    close(descriptor);
    if (rc != LEAT_OK)
        return rc;
    for (unsigned i = 0; i < 2; i++) {
        if (reply.descriptors[i] >= 0)
            close(reply.descriptors[i]);
    }
    return reply.head.error;
}

int leat_status(const char *socket, char **ret_json)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_STATUS, 0);
    char *text = malloc(LEAT_CONTROL_TEXT_BYTES_MAX + 1);
    if (!text)
        return LEAT_ENOMEM;
    int rc = admin_ask(socket, &request, text);
    if (rc != LEAT_OK) {
        free(text);
        return rc;
    }
    *ret_json = text;
    return LEAT_OK;
}

static int operate(const char *socket, const struct leat_control_request *request,
                   char *explanation, size_t explanation_bytes)
{
    char *text = calloc(1, LEAT_CONTROL_TEXT_BYTES_MAX + 1);
    if (!text)
        return LEAT_ENOMEM;
    int rc = admin_ask(socket, request, text);
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

int leat_trim(const char *socket, uint32_t log, uint64_t position, char *explanation,
              size_t explanation_bytes)
{
    struct leat_control_request request = client_request(LEAT_CONTROL_TRIM, log);
    request.position = position;
    return operate(socket, &request, explanation, explanation_bytes);
}
