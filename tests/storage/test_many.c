/* SPDX-License-Identifier: Apache-2.0
 *
 * A thousand busy logs, until the ring came round: records of all of them and whole entries in
 * turn.
 */
#include "support.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "disk_fake.h"

#define MANY  1000u
#define ARENA (2ull << 20)

static struct rig rig;
static struct {
    uint8_t *arena;
    struct leat_log_shape shape;
    struct leat_chain chain;
    uint64_t write_seq;
    uint32_t index;
} many[MANY];

static void make(uint32_t i)
{
    uint32_t log_id = RIG_LOGS + i;
    many[i].arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(many[i].arena, MAP_FAILED);
    struct leat_storage_create create = {.log = {.log_id = log_id,
                                                 .entry_bytes_max = 64 << 10,
                                                 .segment_bytes = RIG_SEGMENT,
                                                 .arena_bytes = ARENA},
                                         .arena_bytes = many[i].arena,
                                         .arena = {{9}},
                                         .boot = {{8}}};
    many[i].index = rig_make(&rig, &create);
    many[i].shape = rig_shape(&rig, log_id);
    many[i].chain = rig_genesis_chain(&many[i].shape, many[i].arena);
}

static void append(uint32_t i)
{
    static const uint8_t payload[16] = {1};
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + sizeof(payload),
                               .type_flags = LEAT_FRAME_RECORD,
                               .time_ns = many[i].chain.last_time_ns + 1};
    leat_frame_seal(&many[i].shape, &many[i].chain, many[i].arena + many[i].chain.position, &frame,
                    payload);
    leat_storage_write(rig.storage, many[i].index, ++many[i].write_seq, &many[i].chain);
}

static void append_to_all(void)
{
    unsigned reported = rig.events[LEAT_STORAGE_WRITTEN];
    for (uint32_t i = 0; i < MANY; i++)
        append(i);
    while (rig.events[LEAT_STORAGE_WRITTEN] < reported + MANY)
        assert_true(rig_turn(&rig) >= 0);
}

static void recover(uint32_t i)
{
    struct leat_storage_arena arena = {.bytes = many[i].arena};
    struct leat_recovered recovered;
    if (leat_storage_recover(rig.storage, many[i].index, &arena, NULL, NULL, &recovered, rig.error,
                             sizeof(rig.error)) != LEAT_OK)
        fail_msg("recover: %s", rig.error);
    assert_false(recovered.damaged || recovered.torn);
    assert_int_equal(recovered.durable_pos, many[i].chain.position);
    assert_int_equal(recovered.chain.crc, many[i].chain.crc);
}

static void a_thousand_logs_are_found_where_they_were(void **state)
{
    (void)state;
    fake_reset();
    rig_format(&rig);
    rig_start(&rig);
    for (uint32_t i = 0; i < MANY; i++)
        make(i);
    const struct leat_storage_counters *counters = leat_storage_counters(rig.storage);
    while (counters->journal_bytes < LEAT_JOURNAL_BYTES + LEAT_JOURNAL_BYTES / 8)
        append_to_all();
    rig_crash(&rig);
    if (rig_open(&rig) != LEAT_OK)
        fail_msg("open: %s", rig.error);
    assert_int_equal(leat_storage_log_count(rig.storage), RIG_LOGS + MANY);
    for (uint32_t i = 0; i < MANY; i++)
        recover(i);
    rig_remove(&rig);
    for (uint32_t i = 0; i < MANY; i++)
        munmap(many[i].arena, ARENA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_thousand_logs_are_found_where_they_were)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
