/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalogue as a pure table: what may be changed, what a change does, what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "catalogue.h"

#define MIB (1ull << 20)

static struct node_catalogue table;
static const struct node_catalogue_limits admin = {
    .arena_budget_bytes = 8192 * MIB,
    .window_bytes = 4 * MIB,
    .logs_per_user = 2,
    .unlimited = true,
};

static struct leat_catalogue_payload creation(const char *name)
{
    struct leat_catalogue_payload payload = {.operation = LEAT_CATALOGUE_CREATE};
    payload.row.segment_bytes = MIB;
    payload.row.arena_bytes = 4 * MIB;
    payload.row.entry_bytes_max = 65536;
    strncpy(payload.row.name, name, sizeof(payload.row.name) - 1);
    return payload;
}

static int judge_as(struct leat_catalogue_payload *payload,
                    const struct node_catalogue_limits *limits)
{
    char why[256];
    int rc = catalogue_judge(&table, limits, 1000, payload, why, sizeof(why));
    assert_true(rc == LEAT_OK || rc == LEAT_EBUDGET || why[0] != 0);
    return rc;
}

static uint32_t create(const char *name)
{
    struct leat_catalogue_payload payload = creation(name);
    assert_int_equal(judge_as(&payload, &admin), LEAT_OK);
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
    return payload.row.log_id;
}

static int change(enum leat_catalogue_operation operation, uint32_t log_id)
{
    struct leat_catalogue_payload payload = {.operation = operation, .row = {.log_id = log_id}};
    int rc = judge_as(&payload, &admin);
    if (rc == LEAT_OK)
        assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
    return rc;
}

static int begin(void **state)
{
    (void)state;
    struct leat_catalogue_row rows[2] = {
        {.name = "catalogue", .segment_bytes = MIB, .arena_bytes = 2 * MIB, .generation = 1},
        {.name = "default", .log_id = 1, .segment_bytes = MIB, .arena_bytes = 2 * MIB}};
    catalogue_load(&table, rows, 2);
    return 0;
}

static void ids_are_never_given_again(void **state)
{
    (void)state;
    uint32_t first = create("a"), second = create("b");
    assert_int_equal(first, 2);
    assert_int_equal(second, 3);
    assert_int_equal(change(LEAT_CATALOGUE_DELETE, second),
                     LEAT_OK); /* the highest: a mark stays */
    assert_null(catalogue_find(&table, second));
    assert_null(catalogue_find_name(&table, "b"));
    assert_int_equal(create("b"), 4);
    assert_int_equal(change(LEAT_CATALOGUE_DELETE, first), LEAT_OK);
    assert_int_equal(change(LEAT_CATALOGUE_DELETE, first), LEAT_ENOLOG);
    assert_int_equal(create("a"), 5);
    assert_int_equal(table.count, 4); /* 0, 1, 4, 5: no mark is needed */
}

static void names_and_sizes_are_judged(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "1a", "-a", ".a", "a b", "a/b", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct leat_catalogue_payload payload = creation(bad[i]);
        assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
    }
    struct leat_catalogue_payload payload = creation("x");
    memset(payload.row.name, 'x', sizeof(payload.row.name)); /* no zero at the end */
    assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
    payload = creation("x");
    payload.row.name[10] = 'y'; /* behind the zero */
    assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
    payload = creation("default");
    assert_int_equal(judge_as(&payload, &admin), LEAT_EEXISTS);
    payload = creation("x");
    payload.row.segment_bytes = 3 * MIB;
    assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
    payload = creation("x");
    payload.row.entry_bytes_max = 600 * 1024; /* more than a quarter of the segment */
    assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
    payload = creation("x");
    payload.row.segment_bytes = 4 * MIB;
    payload.row.arena_bytes = 8 * MIB;
    payload.row.entry_bytes_max = 1 << 20; /* does not fit the window of two MiB twice */
    assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
}

static void budget_and_quota_are_kept(void **state)
{
    (void)state;
    struct node_catalogue_limits limits = admin;
    limits.arena_budget_bytes = 9 * MIB;
    struct leat_catalogue_payload payload = creation("x");
    assert_int_equal(judge_as(&payload, &limits), LEAT_OK); /* 2 + 2 + 4 of 9 */
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
    payload = creation("y");
    assert_int_equal(judge_as(&payload, &limits), LEAT_EBUDGET);

    struct node_catalogue_limits user = admin;
    user.unlimited = false;
    user.uid = 1000;
    for (unsigned i = 0; i < user.logs_per_user; i++) {
        char name[] = {'u', (char)('0' + i), 0};
        payload = creation(name);
        assert_int_equal(judge_as(&payload, &user), LEAT_OK);
        assert_int_equal(payload.row.owner_uid, 1000);
        assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
    }
    payload = creation("z");
    assert_int_equal(judge_as(&payload, &user), LEAT_EQUOTA);
    payload = (struct leat_catalogue_payload){.operation = LEAT_CATALOGUE_DELETE,
                                              .row = {.log_id = 2}}; /* somebody else's */
    assert_int_equal(judge_as(&payload, &user), LEAT_EPERM);
    payload.row.log_id = 3;
    assert_int_equal(judge_as(&payload, &user), LEAT_OK);
}

static void the_clusters_own_logs_stay(void **state)
{
    (void)state;
    assert_int_equal(change(LEAT_CATALOGUE_DELETE, 0), LEAT_EINVAL);
    assert_int_equal(change(LEAT_CATALOGUE_DELETE, 1), LEAT_EINVAL);
    assert_int_equal(change(7, 1), LEAT_EINVAL);
    struct leat_catalogue_payload payload = {
        .operation = LEAT_CATALOGUE_CONFIGURE,
        .row = {.log_id = 1, .retention_bytes = 2 * MIB, .retention_ns = 5}};
    assert_int_equal(judge_as(&payload, &admin), LEAT_OK);
    assert_string_equal(payload.row.name, "default"); /* all else is what it was */
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
    assert_int_equal(catalogue_find(&table, 1)->retention_ns, 5);
    payload.row.retention_bytes = MIB; /* less than two segments */
    assert_int_equal(judge_as(&payload, &admin), LEAT_EINVAL);
}

static void frames_that_do_not_fit_are_corrupt(void **state)
{
    (void)state;
    struct leat_catalogue_payload payload = creation("x");
    payload.row.log_id = 1; /* given before */
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_ECORRUPT);
    payload.row.log_id = 2;
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
    payload.row.log_id = 3; /* the same name */
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_ECORRUPT);
    payload.operation = LEAT_CATALOGUE_DELETE;
    payload.row.log_id = 9;
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_ECORRUPT);
    payload.operation = 99;
    payload.row.log_id = 2;
    assert_int_equal(catalogue_apply(&table, &payload), LEAT_ECORRUPT);
}

/* Sorted, unique, bounded, and the same by whatever way it came to be. */
static void a_thousand_changes_keep_the_table_whole(void **state)
{
    (void)state;
    struct leat_rng rng = {.state = 7};
    struct node_catalogue *copy = malloc(sizeof(*copy));

    for (unsigned i = 0; i < 5000; i++) {
        uint32_t last = catalogue_last_id(&table);
        char name[16];
        snprintf(name, sizeof(name), "n%u", i);
        struct leat_catalogue_payload payload = creation(name);
        if (leat_rng_below(&rng, 2) == 0) {
            payload.operation = LEAT_CATALOGUE_DELETE;
            payload.row.log_id = (uint32_t)leat_rng_below(&rng, last + 2);
        }
        if (judge_as(&payload, &admin) == LEAT_OK)
            assert_int_equal(catalogue_apply(&table, &payload), LEAT_OK);
        assert_true(catalogue_last_id(&table) >= last);
        assert_true(table.count <= LEAT_LOGS_MAX);
        for (uint32_t r = 1; r < table.count; r++)
            assert_true(table.rows[r].log_id > table.rows[r - 1].log_id);
    }
    catalogue_load(copy, table.rows, table.count);
    assert_memory_equal(copy->rows, table.rows, table.count * sizeof(table.rows[0]));
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(ids_are_never_given_again, begin),
        cmocka_unit_test_setup(names_and_sizes_are_judged, begin),
        cmocka_unit_test_setup(budget_and_quota_are_kept, begin),
        cmocka_unit_test_setup(the_clusters_own_logs_stay, begin),
        cmocka_unit_test_setup(frames_that_do_not_fit_are_corrupt, begin),
        cmocka_unit_test_setup(a_thousand_changes_keep_the_table_whole, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
