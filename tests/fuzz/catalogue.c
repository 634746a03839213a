/* SPDX-License-Identifier: Apache-2.0
 *
 * A series of changes of the catalogue: judged as a leader does before it seals them, then applied;
 * some, as the input says, applied without a judge, as a hostile leader's would be.
 */
#include "catalogue.h"

#include "fuzz.h"
#include "leat/error.h"

#define CHANGE_UNJUDGED 1u
#define CHANGE_LIMITED  2u

static struct node_catalogue catalogue;

static struct node_catalogue_limits limits_draw(struct fuzz_input *input)
{
    struct node_catalogue_limits limits = {0};
    limits.arena_budget_bytes = (uint64_t)fuzz_u16(input) << 20;
    limits.window_bytes = (uint64_t)fuzz_u16(input) << 16;
    limits.logs_per_user = fuzz_u8(input);
    limits.uid = fuzz_u8(input) % 4;
    return limits;
}

/* What must hold whoever wrote the changes. */
static void catalogue_holds(uint32_t last_id_before)
{
    LEAT_ASSERT(catalogue.count <= LEAT_LOGS_MAX);
    for (uint32_t i = 0; i < catalogue.count; i++) {
        const struct leat_catalogue_row *row = &catalogue.rows[i];
        LEAT_ASSERT(i == 0 || row->log_id > catalogue.rows[i - 1].log_id);
        LEAT_ASSERT(!(row->flags & LEAT_CATALOGUE_DELETED) ||
                    !catalogue_find(&catalogue, row->log_id));
    }
    LEAT_ASSERT(catalogue_last_id(&catalogue) >= last_id_before);
}

/* What a judged change owes beyond that. */
static void change_holds(const struct leat_catalogue_payload *change,
                         const struct node_catalogue_limits *limits)
{
    const struct leat_catalogue_row *row = catalogue_find(&catalogue, change->row.log_id);
    uint64_t arena_bytes = 0;
    if (change->operation == LEAT_CATALOGUE_DELETE) {
        LEAT_ASSERT(!row && change->row.log_id > 1);
        return;
    }
    LEAT_ASSERT(row && catalogue_find_name(&catalogue, row->name) == row);
    LEAT_ASSERT(strnlen(row->name, sizeof(row->name)) < sizeof(row->name));
    if (change->operation != LEAT_CATALOGUE_CREATE)
        return;
    LEAT_ASSERT(row->log_id > 1 && row->owner_uid == limits->uid && row->generation == 1);
    LEAT_ASSERT(
        leat_log_sizes_are_legal(row->segment_bytes, row->arena_bytes, row->entry_bytes_max));
    for (uint32_t i = 0; i < catalogue.count; i++)
        arena_bytes +=
            catalogue.rows[i].flags & LEAT_CATALOGUE_DELETED ? 0 : catalogue.rows[i].arena_bytes;
    LEAT_ASSERT(arena_bytes <= limits->arena_budget_bytes);
}

/* Whether a leader would still be the honest one of catalogue_judge()'s promises afterwards. */
static bool change_one(struct fuzz_input *input, struct node_catalogue_limits *limits, bool honest)
{
    struct leat_catalogue_payload change;
    char why[256];
    uint8_t how = fuzz_u8(input);
    uint32_t last_id = catalogue_last_id(&catalogue);
    fuzz_take(input, &change, sizeof(change));
    limits->unlimited = !(how & CHANGE_LIMITED);
    if (how & CHANGE_UNJUDGED) {
        int rc = catalogue_apply(&catalogue, &change);
        LEAT_ASSERT(rc == LEAT_OK || rc == LEAT_ECORRUPT);
        honest = honest && rc != LEAT_OK;
    } else if (catalogue_judge(&catalogue, limits, 1, &change, why, sizeof(why)) == LEAT_OK) {
        LEAT_ASSERT(catalogue_apply(&catalogue, &change) == LEAT_OK);
        if (honest)
            change_holds(&change, limits);
    } else {
        LEAT_ASSERT(memchr(why, 0, sizeof(why)));
    }
    catalogue_holds(last_id);
    return honest;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct node_catalogue_limits limits = limits_draw(&input);
    bool honest = true;
    memset(&catalogue, 0, sizeof(catalogue));
    while (input.left > 0)
        honest = change_one(&input, &limits, honest);
    return 0;
}
