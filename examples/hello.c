/* SPDX-License-Identifier: Apache-2.0
 *
 * Appends a record and reads it back.
 *
 *   cc hello.c $(pkg-config --cflags --libs leat) -o hello
 *   ./hello node1.sock
 */
#include <leat/leat.h>
#include <stdio.h>

#define SECOND 1000000000ull

static int fail(const char *doing, int error)
{
    fprintf(stderr, "hello: %s: %s\n", doing, leat_error_text(error));
    return 1;
}

int main(int argc, char **argv)
{
    static const char text[] = "hello";
    static struct leat_options options; /* zeroes are defaults */
    struct leat_client *client;
    struct leat_reader *reader;
    struct leat_result result;
    struct leat_record record;

    options.socket = argc > 1 ? argv[1] : NULL; /* NULL: $LEAT_SOCKET, or the usual place */
    int rc = leat_attach(&options, &client);
    if (rc != LEAT_OK)
        return fail("attach", rc);

    rc = leat_append(client, LEAT_DEFAULT_LOG, text, sizeof(text) - 1, LEAT_ACK_DURABLE, 5 * SECOND,
                     &result);
    if (rc != LEAT_OK) { /* leat_outcome(rc) says whether it may be in the log all the same */
        leat_detach(client);
        return fail("append", rc);
    }
    printf("appended at offset %llu\n", (unsigned long long)result.offset);

    rc = leat_reader_open(client, LEAT_DEFAULT_LOG, LEAT_FROM_OFFSET, result.offset,
                          LEAT_ACK_DURABLE, &reader);
    if (rc == LEAT_OK) {
        rc = leat_reader_wait(reader, 5 * SECOND, &record);
        if (rc == LEAT_OK)
            printf("read back: %.*s\n", (int)record.length, (const char *)record.data);
        leat_reader_close(reader);
    }
    leat_detach(client);
    return rc == LEAT_OK ? 0 : fail("read", rc);
}
