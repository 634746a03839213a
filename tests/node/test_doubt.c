/* SPDX-License-Identifier: Apache-2.0
 *
 * A log that is begun anew jumps over sessions' ends: what its clients have unended may lie below.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker.h"

#define SLOTS   16u
#define LOGS    2u
#define CLIENTS 3u /* the second is not there */

static struct node_worker *worker;
static struct node_log *logs[LOGS];
static struct node_rings rings;

static int setup(void **state)
{
    (void)state;
    worker = calloc(1, sizeof(*worker));
    assert_non_null(worker);
    worker->clients = calloc(CLIENTS, sizeof(*worker->clients));
    assert_non_null(worker->clients);
    worker->clients_high = CLIENTS;
    for (uint32_t i = 0; i < LOGS; i++) {
        logs[i] = calloc(1, sizeof(*logs[i]));
        assert_non_null(logs[i]);
        logs[i]->index = i;
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        worker->clients[i].rings = i == 1 ? NULL : &rings;
        worker->clients[i].slot_mask = SLOTS - 1;
        worker->clients[i].slots = calloc(SLOTS, sizeof(*worker->clients[i].slots));
        assert_non_null(worker->clients[i].slots);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < CLIENTS; i++)
        free(worker->clients[i].slots);
    for (uint32_t i = 0; i < LOGS; i++)
        free(logs[i]);
    free(worker->clients);
    free(worker);
    return 0;
}

/* Slots first, first + 2, ... are of one log, `count` many; the first `sent` were sealed or sent.
 */
static void unended(uint32_t owner, uint32_t log, uint64_t first, uint32_t count, uint64_t sent)
{
    struct node_client *client = &worker->clients[owner];
    struct client_log *of_log = &client->logs[log];
    client->busy[log / 64] |= 1ull << log % 64;
    *of_log = (struct client_log){.first = first, .unended = count, .sent_sequence = sent};
    for (uint32_t i = 0; i < count; i++) {
        struct client_slot *slot = client_slot_at(client, first + 2 * i);
        slot->sequence = i + 1;
        slot->next_of_log = i + 1 < count ? first + 2 * i + 2 : CLIENT_NO_SLOT;
    }
}

static unsigned doubted(uint32_t owner)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        count += worker->clients[owner].slots[i].again;
    return count;
}

static void what_is_unended_of_the_log_is_doubted(void **state)
{
    (void)state;
    unended(0, 0, 20, 5, 3); /* past the table's end */
    unended(0, 1, 21, 4, 4);
    unended(1, 0, 0, 2, 2);
    unended(2, 0, 1, 1, 0);
    clients_doubt(worker, logs[0]);
    assert_int_equal(doubted(0), 5);
    for (uint64_t number = 20; number < 30; number += 2)
        assert_true(client_slot_at(&worker->clients[0], number)->again);
    assert_int_equal(worker->clients[0].logs[0].former_sequence, 3);
    assert_int_equal(worker->clients[0].logs[1].former_sequence, 0); /* another log's */
    assert_int_equal(doubted(1), 0);
    assert_int_equal(doubted(2), 1);
}

static void what_is_idle_has_nothing_to_doubt(void **state)
{
    (void)state;
    unended(0, 1, 0, 4, 4);
    worker->clients[0].logs[0].first = 0; /* of long ago: holds only while something is unended */
    clients_doubt(worker, logs[0]);
    assert_int_equal(doubted(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_unended_of_the_log_is_doubted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_idle_has_nothing_to_doubt, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
