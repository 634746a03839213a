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

/* As many logs' as there is room for. True: all of them. */
static bool ask_for_closes(struct leat_client *client)
{
    if (client->claimed && !client->claim_rings.shared)
        return true; /* the application writes where the next record would lie */
    for (; client->goodbye_next < client->log_count; client->goodbye_next++) {
        const struct client_log *log = &client->logs[client->goodbye_next];
        if (log->next_sequence > 1 && !log->session_ended &&
            client_close_session(client, client->goodbye_next) != LEAT_OK)
            return false;
    }
    return true;
}

bool client_goodbye(struct leat_client *client, uint64_t now_ns)
{
    if (client->goodbye_ns == 0) {
        client->goodbye_ns = client_deadline(now_ns, CLIENT_GOODBYE_NS);
        client->goodbye_next = 0;
    }
    client_retire(client);
    if (client->state == CLIENT_UP && now_ns < client->goodbye_ns &&
        (!ask_for_closes(client) || !all_answered(client)))
        return false;
    client->goodbye_ns = 0;
    return true;
}

/* Results that nobody will ask for take no room. */
static void results_forget(struct leat_client *client)
{
    for (uint64_t i = client->first; i < client->next; i++) {
        struct client_append *append = client_at(client, i);
        append->taken |= append->ended;
    }
}

void client_goodbye_and_wait(struct leat_client *client)
{
    struct client_pace pace = {0};
    uint64_t now_ns = client_now_ns();
    leat_claim_abort(client);
    while (client->state == CLIENT_UP) {
        results_forget(client);
        if (client_goodbye(client, now_ns))
            return;
        client_pause(&pace);
        now_ns = client_now_ns();
        client_take_completions(client, now_ns);
        client_look(client, now_ns);
    }
}
