/* SPDX-License-Identifier: Apache-2.0
 *
 * A descriptor for event loops: an epoll set of the node's eventfd (results, moved logs), the
 * control socket (the node went) and a timer (deadlines, attaching again). It is armed when a poll
 * or a reader found nothing: a store, and system calls only for what changed since the last time.
 * Protocol: base/ring.h. Tests: tests/client/test_wake.c.
 */
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client_private.h"

static bool wake_add(const struct leat_client *client, int descriptor, uint32_t events)
{
    struct epoll_event event = {.events = events};
    return epoll_ctl(client->wake, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

static void drain(int descriptor)
{
    uint64_t count;
    ssize_t bytes = read(descriptor, &count, sizeof(count)); /* EAGAIN: nothing to be taken */
    (void)bytes;
}

void client_wake_close(struct leat_client *client)
{
    int *const all[] = {&client->wake, &client->wake_event, &client->wake_timer};
    for (unsigned i = 0; i < 3; i++) {
        if (*all[i] >= 0)
            close(*all[i]);
        *all[i] = -1;
    }
}

/* The node's part, anew in each attach. */
static void wake_ask(struct leat_client *client)
{
    struct client_reply reply;
    struct leat_control_request request = client_request(LEAT_CONTROL_EVENTS, 0);
    if (client->wake_event >= 0)
        close(client->wake_event);
    client->wake_event = -1;
    client->wake_armed = 0;
    if (client_ask(client, &request, &reply) != LEAT_OK)
        return; /* not UP any more, or a node that cannot: the timer wakes */
    client->wake_attach_count = client->attach_count;
    client->wake_event = reply.descriptors[0];
    if (reply.descriptors[1] >= 0)
        close(reply.descriptors[1]);
    if (client->wake_event >= 0)
        (void)wake_add(client, client->wake_event, EPOLLIN);
    (void)wake_add(client, client->socket, EPOLLRDHUP);
}

static void wake_ask_for_logs(struct leat_client *client)
{
    for (uint32_t i = 0; i < client->log_count && client->state == CLIENT_UP; i++) {
        struct client_log *log = &client->logs[i];
        struct client_reply reply;
        struct leat_control_request request = client_request(LEAT_CONTROL_EVENTS, log->log_id);
        if ((!log->watched && log->readers == 0) || log->wake_attach_count == client->attach_count)
            continue;
        log->wake_attach_count = client->attach_count;
        (void)client_ask(client, &request, &reply);
    }
}

/* When something is due that the node does not know of. */
static void wake_set_timer(struct leat_client *client, uint64_t now_ns)
{
    uint64_t due_ns = client->deadline_next_ns;
    if (client->state == CLIENT_DOWN && client->retry_ns < due_ns)
        due_ns = client->retry_ns;
    bool soon = client->state == CLIENT_ASKED || client->state == CLIENT_MAPPED ||
                client->identity == CLIENT_ID_SPENT ||
                (client->state == CLIENT_UP && client->wake_event < 0);
    if (soon && now_ns + CLIENT_MS < due_ns)
        due_ns = now_ns + CLIENT_MS;
    if (due_ns <= now_ns)
        due_ns = now_ns + 1;
    bool fired = client->wake_timer_ns != 0 && client->wake_timer_ns <= now_ns;
    uint64_t wanted_ns = due_ns == UINT64_MAX ? 0 : due_ns;
    if (!fired && wanted_ns == client->wake_timer_ns)
        return;
    if (fired)
        drain(client->wake_timer);
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(wanted_ns / 1000000000u),
                                           .tv_nsec = (long)(wanted_ns % 1000000000u)}};
    (void)timerfd_settime(client->wake_timer, TFD_TIMER_ABSTIME, &when, NULL);
    client->wake_timer_ns = wanted_ns;
}

void client_arm(struct leat_client *client, uint64_t now_ns)
{
    if (client->wake < 0)
        return;
    if (client->state == CLIENT_UP) {
        if (client->wake_attach_count != client->attach_count)
            wake_ask(client);
        wake_ask_for_logs(client);
    }
    wake_set_timer(client, now_ns);
    if (client->state != CLIENT_UP && client->wake_event >= 0) {
        close(client->wake_event); /* of a node that went: it may be readable for ever */
        client->wake_event = -1;
        client->wake_attach_count = 0;
    }
    if (client->state != CLIENT_UP || client->wake_event < 0)
        return;
    uint64_t signaled = client_load(&client->rings.answers->signaled.value);
    if (client->wake_armed != 0 && signaled != client->wake_armed)
        return; /* still armed */
    if (client->wake_armed != 0)
        drain(client->wake_event);
    client->wake_armed = signaled + 1;
    __atomic_store_n(&client->rings.shared->armed.value, client->wake_armed, __ATOMIC_RELEASE);
}

int leat_poll_fd(struct leat_client *client)
{
    if (client_is_forked(client))
        return LEAT_EFORK;
    if (client->wake >= 0)
        return client->wake;
    client->wake = epoll_create1(EPOLL_CLOEXEC);
    client->wake_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (client->wake < 0 || client->wake_timer < 0 ||
        !wake_add(client, client->wake_timer, EPOLLIN)) {
        client_wake_close(client);
        return LEAT_ESYSTEM;
    }
    client->wake_timer_ns = 0;
    client->wake_attach_count = 0;
    client_arm(client, client_now_ns());
    return client->wake;
}
