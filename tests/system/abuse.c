/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client can ask for and may not have, through the real library: each wrong append ends with
 * its own error, and what was accepted before, between and after is in the log, once and in order.
 *
 *   abuse --socket S errors       too large, unknown log, a level that the log refuses
 *   abuse --socket S full         fills the ring without taking results; says "full"; after a line
 * on stdin takes them all and reads the log back
 *
 * One line on stdout when all is as it should be; exit code 1 and a line on stderr otherwise.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leat/leat.h"

#define TIMEOUT_NS 30000000000u
#define FULL_BYTES 1000u
#define COUNT_MAX  (1u << 20)

static int fail(const char *what, int error)
{
    fprintf(stderr, "abuse: %s: %s\n", what, leat_error_name(error));
    return 1;
}

/* Appends `length` zeros and holds how it ended against what was expected. */
static int expect(struct leat_client *client, uint32_t log, size_t length, enum leat_ack ack,
                  int error, const char *what)
{
    struct leat_result result;
    void *bytes = calloc(1, length);
    if (!bytes)
        return fail("memory", LEAT_ENOMEM);
    int got = leat_append(client, log, bytes, length, ack, TIMEOUT_NS, &result);
    free(bytes);
    if (got != error || result.error != error)
        return fail(what, got);
    if (error != LEAT_OK && leat_outcome(error) != LEAT_END_NO)
        return fail("a refused append is not certainly absent", error);
    return 0;
}

static int run_errors(struct leat_client *client, size_t largest)
{
    const enum leat_ack durable = LEAT_ACK_DURABLE;
    if (expect(client, 1, 10, durable, LEAT_OK, "an append") ||
        expect(client, 1, largest + 1, durable, LEAT_ETOOBIG, "one byte over the limit") ||
        expect(client, 1, (size_t)64 << 20, durable, LEAT_ETOOBIG, "larger than the ring") ||
        expect(client, 1, largest, durable, LEAT_OK, "at the limit") ||
        expect(client, 7, 10, durable, LEAT_ENOLOG, "an unknown log") ||
        expect(client, UINT32_MAX, 10, durable, LEAT_ENOLOG, "an impossible log") ||
        expect(client, 1, 10, LEAT_ACK_REPLICATED, LEAT_ELEVEL, "a refused level") ||
        expect(client, 1, 0, durable, LEAT_OK, "an empty append after all of them"))
        return 1;
    puts("refused");
    return 0;
}

static bool read_back(struct leat_client *client, uint64_t count)
{
    struct leat_reader *reader;
    struct leat_record record;
    uint64_t number;
    if (leat_reader_open(client, 1, LEAT_FROM_START, 0, LEAT_ACK_DURABLE, &reader) != LEAT_OK)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (leat_reader_wait(reader, TIMEOUT_NS, &record) != LEAT_OK || record.length != FULL_BYTES)
            return false;
        memcpy(&number, record.data, sizeof(number));
        if (number != i)
            return false;
    }
    int rc = leat_reader_wait(reader, 200000000, &record);
    leat_reader_close(reader);
    return rc == LEAT_EDEADLINE;
}

static int run_full(struct leat_client *client)
{
    uint8_t bytes[FULL_BYTES] = {0};
    struct leat_result results[64];
    uint64_t count = 0, ended = 0;
    int rc = LEAT_OK;
    while (rc == LEAT_OK && count < COUNT_MAX) {
        memcpy(bytes, &count, sizeof(count));
        rc = leat_append_start(client, 1, bytes, sizeof(bytes), LEAT_ACK_DURABLE, TIMEOUT_NS, count,
                               NULL);
        count += rc == LEAT_OK;
    }
    if (rc != LEAT_EAGAIN)
        return fail("a full ring", rc);
    printf("full after %" PRIu64 "\n", count);
    fflush(stdout);
    if (getchar() == EOF)
        return fail("stdin", LEAT_EIO);
    while (ended < count) {
        int got = leat_wait(client, results, 64, TIMEOUT_NS);
        if (got <= 0)
            return fail("waiting", got);
        for (int i = 0; i < got; i++, ended++) {
            if (results[i].error != LEAT_OK || results[i].user != ended)
                return fail("an accepted append", results[i].error);
        }
    }
    if (!read_back(client, count))
        return fail("reading back", LEAT_ECORRUPT);
    puts("all there");
    return 0;
}

int main(int argc, char **argv)
{
    struct leat_client *client;
    if (argc < 4 || strcmp(argv[1], "--socket") != 0) {
        fprintf(stderr, "usage: see the head of tests/system/abuse.c\n");
        return 2;
    }
    bool full = strcmp(argv[3], "full") == 0;
    struct leat_options options = {.socket = argv[2],
                                   .ring_bytes = full ? 1u << 20 : 0,
                                   .in_flight_max = 65536,
                                   .attach_timeout_ns = TIMEOUT_NS};
    int rc = leat_attach(&options, &client);
    if (rc != LEAT_OK)
        return fail("attach", rc);
    int code =
        full ? run_full(client) : run_errors(client, argc > 4 ? strtoul(argv[4], NULL, 10) : 0);
    leat_detach(client);
    return code;
}
