/* SPDX-License-Identifier: Apache-2.0
 *
 * replication/sessions.c: the table is a function of the log's prefix; every sequence is judged;
 * nothing is evicted, nothing opens silently.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "replication/sessions.h"

#define CLIENTS 2000u

static struct leat_sessions sessions;

static struct leat_uuid client_of(uint32_t number)
{
    struct leat_uuid uuid = {{0}};
    memcpy(uuid.bytes, &number, sizeof(number));
    return uuid;
}

static int apply_to(struct leat_sessions *table, uint32_t type, uint32_t session, uint32_t client,
                    uint64_t sequence, uint64_t position)
{
    struct leat_frame frame = {.type_flags = type,
                               .session = session,
                               .sequence = sequence,
                               .offset = position * 10,
                               .time_ns = position};
    struct leat_session_payload payload = {.client = client_of(client), .session = session};
    struct leat_refused_payload refused = {.error = LEAT_ECONDITION, .detail = 4711};
    return leat_sessions_apply(table, position, &frame,
                               type == LEAT_FRAME_REFUSED ? (void *)&refused : &payload);
}

static int apply(uint32_t type, uint32_t session, uint32_t client, uint64_t sequence,
                 uint64_t position)
{
    return apply_to(&sessions, type, session, client, sequence, position);
}

static int setup(void **state)
{
    (void)state;
    leat_sessions_init(&sessions);
    return 0;
}

static void every_sequence_is_judged(void **state)
{
    (void)state;
    assert_int_equal(leat_sessions_judge(&sessions, 1, 1), LEAT_SESSION_UNKNOWN);
    assert_int_equal(leat_sessions_judge(&sessions, 0, 1), LEAT_SESSION_UNKNOWN);
    assert_int_equal(leat_sessions_judge(&sessions, UINT32_MAX, 1), LEAT_SESSION_UNKNOWN);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 70, 0, 8), 0);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 0), LEAT_SESSION_OLDER);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 1), LEAT_SESSION_NEXT);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 2), LEAT_SESSION_GAP);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 1, 16), 0);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 2, 24), 0);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 1), LEAT_SESSION_OLDER);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 2), LEAT_SESSION_LAST);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 3), LEAT_SESSION_NEXT);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_position, 24);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_offset, 240);
}

static void frames_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static struct leat_sessions before;
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 70, 0, 8), 0);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 1, 16), 0);
    before = sessions;
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 1, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 3, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 2, 0, 1, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 0, 0, 1, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 71, 0, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 2, 70, 0, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 0, 71, 0, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, LEAT_SESSIONS_MAX + 1, 71, 0, 24),
                     LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_SESSION_CLOSE, 1, 71, 0, 24), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_SESSION_CLOSE, 2, 70, 0, 24), LEAT_ECORRUPT);
    assert_memory_equal(&before, &sessions, sizeof(before));
    assert_int_equal(apply(LEAT_FRAME_RECORD, 0, 0, 0, 24), 0); /* without a session */
    assert_int_equal(apply(LEAT_FRAME_TERM, 0, 0, 0, 32), 0);
}

static int apply_refused(uint64_t sequence, int32_t error, uint64_t position)
{
    struct leat_frame frame = {.type_flags = LEAT_FRAME_REFUSED,
                               .session = 1,
                               .sequence = sequence,
                               .offset = 5,
                               .time_ns = position};
    struct leat_refused_payload payload = {.error = error, .detail = 4711};
    return leat_sessions_apply(&sessions, position, &frame, &payload);
}

static void a_batch_is_one_sequence(void **state)
{
    (void)state;
    static struct leat_sessions before;
    const uint32_t continues = LEAT_FRAME_RECORD | LEAT_FRAME_FLAG_CONTINUES;
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 70, 0, 8), 0);
    before = sessions;
    assert_int_equal(apply(continues, 1, 0, 1, 16), 0);
    assert_int_equal(apply(continues, 1, 0, 1, 24), 0);
    assert_memory_equal(&before, &sessions, sizeof(before)); /* nothing yet */
    assert_int_equal(apply(continues, 1, 0, 2, 32), LEAT_ECORRUPT);
    assert_int_equal(apply(continues, 2, 0, 1, 32), LEAT_ECORRUPT);
    assert_int_equal(apply(continues, 0, 0, 0, 32), LEAT_ECORRUPT);
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 1, 32), 0);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_sequence, 1);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_position, 32);
    assert_int_equal(apply(continues, 1, 0, 1, 40), LEAT_ECORRUPT); /* not again */
}

static void a_refusal_is_remembered_like_a_record(void **state)
{
    (void)state;
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 70, 0, 8), 0);
    assert_int_equal(apply_refused(2, LEAT_ECONDITION, 16), LEAT_ECORRUPT);
    assert_int_equal(apply_refused(1, LEAT_OK, 16), LEAT_ECORRUPT);
    assert_int_equal(apply_refused(1, LEAT_EIO, 16), LEAT_ECORRUPT);
    assert_int_equal(apply_refused(1, LEAT_ECONDITION, 16), 0);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 1), LEAT_SESSION_LAST);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_error, LEAT_ECONDITION);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_offset, 4711);
    assert_int_equal(apply_refused(2, LEAT_EFENCEDOUT, 24), 0);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_error, LEAT_EFENCEDOUT);
    assert_int_equal(apply(LEAT_FRAME_FENCE, 1, 0, 3, 32), 0);
    assert_int_equal(leat_sessions_judge(&sessions, 1, 3), LEAT_SESSION_LAST);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_error, LEAT_OK);
    assert_int_equal(leat_sessions_row(&sessions, 1)->last_offset, 320);
}

static void a_full_table_refuses_and_evicts_nobody(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++) {
        uint32_t session = leat_sessions_free(&sessions);
        assert_int_equal(session, i + 1);
        assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, session, 1000 + i, 0, 8 * (i + 1)), 0);
    }
    assert_int_equal(leat_sessions_free(&sessions), 0);
    struct leat_uuid stranger = client_of(5);
    assert_int_equal(leat_sessions_find(&sessions, &stranger), 0);
    for (uint32_t i = 0; i < LEAT_SESSIONS_MAX; i++) {
        struct leat_uuid client = client_of(1000 + i);
        assert_int_equal(leat_sessions_find(&sessions, &client), i + 1);
    }
    assert_int_equal(apply(LEAT_FRAME_SESSION_CLOSE, 500, 1499, 0, 99999), 0);
    assert_int_equal(leat_sessions_free(&sessions), 500);
    assert_int_equal(leat_sessions_judge(&sessions, 500, 1), LEAT_SESSION_UNKNOWN);
}

/* Nobody else's close is taken for a client's own, as long as it is known whose they were. */
static void whose_were_closed_is_known_for_a_while(void **state)
{
    (void)state;
    struct leat_uuid first = client_of(70), other = client_of(71);
    assert_int_equal(leat_sessions_closed(&sessions, &first, 0), 0);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 70, 0, 8), 0);
    assert_int_equal(leat_sessions_closed(&sessions, &first, 0), 0);
    assert_int_equal(apply(LEAT_FRAME_SESSION_CLOSE, 1, 70, 0, 16), 0);
    assert_true(leat_sessions_closed(&sessions, &first, 0) != 0);
    assert_true(leat_sessions_closed(&sessions, &first, 16) != 0);
    assert_int_equal(leat_sessions_closed(&sessions, &first, 24), 0); /* it began behind that */
    assert_int_equal(leat_sessions_closed(&sessions, &other, 0), 0);
    uint64_t at = 24;
    for (unsigned i = 0; i < LEAT_SESSIONS_CLOSED; i++, at += 16) {
        assert_int_equal(leat_sessions_closed(&sessions, &other, 0), 0);
        assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 72, 0, at), 0);
        assert_int_equal(apply(LEAT_FRAME_SESSION_CLOSE, 1, 72, 0, at + 8), 0);
    }
    assert_true(leat_sessions_closed(&sessions, &first, 16) != 0); /* forgotten, and so anybody's */
    assert_true(leat_sessions_closed(&sessions, &other, 16) != 0);
    assert_int_equal(leat_sessions_closed(&sessions, &other, 24), 0);
}

/* The table as a base frame would have it, loaded again. */
static void load_what_is_listed(struct leat_sessions *table)
{
    static struct leat_session_row rows[LEAT_SESSIONS_MAX];
    static struct leat_session_closed closed[LEAT_SESSIONS_CLOSED];
    struct leat_base_head head = {.closed_unknown_pos = table->closed_unknown_pos};
    head.session_count = (uint16_t)leat_sessions_list(table, rows);
    head.closed_count = (uint16_t)leat_sessions_closed_known(table);
    leat_sessions_list_closed(table, closed);
    for (unsigned i = 1; i < head.closed_count; i++)
        assert_true(closed[i].position > closed[i - 1].position);
    leat_sessions_load(table,
                       &(struct leat_base){.head = &head, .sessions = rows, .closed = closed});
}

/* What two tables say of anybody is the same. */
static void assert_same(const struct leat_sessions *one, const struct leat_sessions *other,
                        uint64_t end_pos)
{
    assert_int_equal(one->count, other->count);
    assert_memory_equal(one->rows, other->rows, sizeof(one->rows));
    for (uint32_t client = 0; client < CLIENTS; client++) {
        struct leat_uuid uuid = client_of(client);
        assert_int_equal(leat_sessions_find(one, &uuid), leat_sessions_find(other, &uuid));
        for (uint64_t began = 0; began <= end_pos; began += 1 + end_pos / 4)
            assert_int_equal(leat_sessions_closed(one, &uuid, began),
                             leat_sessions_closed(other, &uuid, began));
    }
}

/* A client's identity may come twice: an old datagram of it opened a session once more. */
static void the_newest_of_a_clients_closes_counts(void **state)
{
    (void)state;
    struct leat_uuid twice = client_of(70);
    uint64_t at = 8;
    for (unsigned i = 0; i < LEAT_SESSIONS_CLOSED; i++, at += 16) {
        assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, i % 7 == 0 ? 70 : 71, 0, at), 0);
        assert_int_equal(apply(LEAT_FRAME_SESSION_CLOSE, 1, i % 7 == 0 ? 70 : 71, 0, at + 8), 0);
        assert_int_equal(leat_sessions_closed(&sessions, &twice, 0), at + 8 - i % 7 * 16);
    }
}

/* T2: the same prefix gives the same table, by frames or by a base frame in between: the one that
 * is loaded again and again says what the one says that never was. */
static void a_loaded_table_is_the_applied_one(void **state)
{
    (void)state;
    static struct leat_sessions loaded;
    struct leat_rng rng = {.state = 11};
    uint64_t position = 0;
    unsigned closes = 0;
    leat_sessions_init(&loaded);
    for (unsigned step = 0; step < 20000; step++) {
        uint32_t client = (uint32_t)leat_rng_below(&rng, CLIENTS);
        struct leat_uuid uuid = client_of(client);
        uint32_t session = leat_sessions_find(&sessions, &uuid), type = LEAT_FRAME_RECORD;
        uint64_t sequence = 0;
        position += 8;
        if (session == 0 && (session = leat_sessions_free(&sessions)) != 0)
            type = LEAT_FRAME_SESSION_OPEN;
        else if (session != 0 && leat_rng_below(&rng, 3) == 0)
            type = LEAT_FRAME_SESSION_CLOSE;
        else if (session != 0)
            sequence = leat_sessions_row(&sessions, session)->last_sequence + 1;
        else
            continue;
        if (sequence != 0 && step % 5 == 0)
            type = LEAT_FRAME_REFUSED;
        closes += type == LEAT_FRAME_SESSION_CLOSE;
        assert_int_equal(apply_to(&sessions, type, session, client, sequence, position), 0);
        assert_int_equal(apply_to(&loaded, type, session, client, sequence, position), 0);
        if (step % 37 == 0)
            load_what_is_listed(&loaded);
        if (step % 997 == 0)
            assert_same(&sessions, &loaded, position);
    }
    assert_true(closes > 2 * LEAT_SESSIONS_CLOSED);
}

static void a_session_below_the_mark_is_idle(void **state)
{
    (void)state;
    uint32_t cursor = 0;
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 1, 70, 0, 100), 0);
    assert_int_equal(apply(LEAT_FRAME_SESSION_OPEN, 2, 71, 0, 200), 0);
    /* without a record: by the time of the opening, and never at that time itself */
    assert_int_equal(leat_sessions_idle(&sessions, UINT64_MAX, 100, LEAT_SESSIONS_MAX, &cursor), 0);
    assert_int_equal(leat_sessions_idle(&sessions, 0, 101, LEAT_SESSIONS_MAX, &cursor), 1);
    /* with one: by where it lies, whatever the clock said */
    assert_int_equal(apply(LEAT_FRAME_RECORD, 1, 0, 1, 301), 0);
    uint64_t last = leat_sessions_row(&sessions, 1)->last_position;
    cursor = 0;
    assert_int_equal(leat_sessions_idle(&sessions, last, 0, LEAT_SESSIONS_MAX, &cursor), 0);
    assert_int_equal(leat_sessions_idle(&sessions, last + 1, 0, LEAT_SESSIONS_MAX, &cursor), 1);
    cursor = 1;
    assert_int_equal(leat_sessions_idle(&sessions, last + 1, 0, 1, &cursor), 0);
    assert_int_equal(cursor, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_sequence_is_judged, setup),
        cmocka_unit_test_setup(frames_that_do_not_fit_are_refused, setup),
        cmocka_unit_test_setup(a_batch_is_one_sequence, setup),
        cmocka_unit_test_setup(a_refusal_is_remembered_like_a_record, setup),
        cmocka_unit_test_setup(a_full_table_refuses_and_evicts_nobody, setup),
        cmocka_unit_test_setup(whose_were_closed_is_known_for_a_while, setup),
        cmocka_unit_test_setup(the_newest_of_a_clients_closes_counts, setup),
        cmocka_unit_test_setup(a_loaded_table_is_the_applied_one, setup),
        cmocka_unit_test_setup(a_session_below_the_mark_is_idle, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
