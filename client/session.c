/* SPDX-License-Identifier: Apache-2.0
 *
 * An identity ends: the node is asked to close its sessions, or each would hold a place in its
 * log's table until it expires. It is a request, no promise: what the node has not done within
 * CLIENT_GOODBYE_NS (a log without a leader, a full disk) the sessions' end by time does.
 */
#include "client_private.h"

static bool all_answered(const struct leat_client *client)
{
    for (uint64_t i = client->first; i < client->next; i++) {
        if (!client_at(client, i)->answered)
            return false;
    }
    return true;
}

bool client_goodbye(struct leat_client *client, uint64_t now_ns)
{
    bool begins = client->goodbye_ns == 0;
    if (begins)
        client->goodbye_ns = client_deadline(now_ns, CLIENT_GOODBYE_NS);
    for (uint32_t i = 0; begins && i < client->log_count && client->state == CLIENT_UP; i++) {
        const struct client_log *log = &client->logs[i];
        if (log->next_sequence > 1 && !log->session_ended)
            (void)client_close_session(client, i);
    }
    if (client->state == CLIENT_UP && !all_answered(client) && now_ns < client->goodbye_ns)
        return false;
    client->goodbye_ns = 0;
    return true;
}

void client_goodbye_and_wait(struct leat_client *client)
{
    struct client_pace pace = {0};
    uint64_t now_ns = client_now_ns();
    while (client->state == CLIENT_UP && !client_goodbye(client, now_ns)) {
        client_pause(&pace);
        now_ns = client_now_ns();
        client_take_completions(client, now_ns);
    }
}
