/* SPDX-License-Identifier: Apache-2.0
 *
 * Logs made and deleted while the storage serves: each step of both with a crash behind it, many
 * of them, and what they cost.
 */
#include "support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "disk_fake.h"
#include "state.h"

#define ARENA (2ull << 20)

static struct rig rig;

struct made {
    struct leat_storage_create create;
    struct leat_chain chain;
    struct leat_log_shape shape;
    uint32_t index;
    uint64_t seq;
};

static void made_init(struct made *made, uint32_t log_id)
{
    *made = (struct made){.create = {.log = {.log_id = log_id,
                                             .entry_bytes_max = 64 << 10,
                                             .segment_bytes = RIG_SEGMENT,
                                             .arena_bytes = ARENA},
                                     .arena = {{9}},
                                     .boot = {{8}}},
                          .shape = rig_shape(&rig, log_id)};
    made->create.arena_bytes =
        mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(made->create.arena_bytes, MAP_FAILED);
}

static void made_free(struct made *made)
{
    munmap(made->create.arena_bytes, ARENA);
}

/* One step of either thread; true when there was something to do. */
static bool step(void)
{
    bool did = leat_storage_prepare_step(rig.storage);
    uint64_t writes = fake.writes;
    int count = rig_turn(&rig);
    assert_true(count >= 0);
    return did || count > 0 || fake.writes != writes;
}

static void wait_for(enum leat_storage_event_kind kind, unsigned count)
{
    for (unsigned i = 0; rig.events[kind] < count; i++) {
        assert_true(i < 100000);
        step();
    }
}

static void made_chain(struct made *made)
{
    made->chain = rig_genesis_chain(&made->shape, made->create.arena_bytes);
    made->seq = 0;
}

static void make(struct made *made)
{
    made->index = rig_make(&rig, &made->create);
    made_chain(made);
    assert_int_equal(rig.last[LEAT_STORAGE_CREATED].sequence, made->chain.position);
}

static void lay(struct made *made, uint32_t bytes)
{
    static const uint8_t payload[60000] = {1, 2, 3};
    struct leat_frame frame = {.length_bytes = LEAT_FRAME_HEADER_BYTES + bytes,
                               .type_flags = LEAT_FRAME_RECORD,
                               .time_ns = made->chain.last_time_ns + 1};
    leat_frame_seal(&made->shape, &made->chain,
                    made->create.arena_bytes + made->chain.position % ARENA, &frame, payload);
}

static void append(struct made *made, uint32_t bytes)
{
    lay(made, bytes);
    leat_storage_write(rig.storage, made->index, ++made->seq, &made->chain);
}

static void append_durably(struct made *made, uint32_t bytes)
{
    append(made, bytes);
    do
        step();
    while (rig.last[LEAT_STORAGE_WRITTEN].log_index != made->index ||
           rig.last[LEAT_STORAGE_WRITTEN].sequence != made->seq);
}

/* Starts again; `made` is recovered when it is there, and says where its log ends. */
static bool start_again(struct made *made)
{
    struct leat_recovered recovered;
    int rc = rig_open(&rig);
    if (rc != LEAT_OK)
        fail_msg("open: %s", rig.error);
    uint32_t count = leat_storage_log_count(rig.storage);
    assert_true(count == RIG_LOGS || count == RIG_LOGS + 1);
    for (uint32_t i = 0; i < RIG_LOGS; i++)
        rig_recover(&rig, i);
    if (count > RIG_LOGS) {
        struct leat_storage_arena arena = {.bytes = made->create.arena_bytes};
        memset(arena.bytes, 0, ARENA);
        made->index = RIG_LOGS;
        assert_int_equal(leat_storage_recover(rig.storage, made->index, &arena, NULL, NULL,
                                              &recovered, rig.error, sizeof(rig.error)),
                         LEAT_OK);
        assert_false(recovered.damaged || recovered.torn);
        assert_int_equal(leat_storage_begin(rig.storage, made->index, &recovered,
                                            &made->create.arena, &made->create.boot, false),
                         LEAT_OK);
        made->chain = recovered.chain;
        made->seq = 0;
    }
    rig_begin(&rig);
    memset(rig.events, 0, sizeof(rig.events));
    memset(rig.last, 0, sizeof(rig.last));
    return count > RIG_LOGS;
}

static unsigned directories_named(const char *prefix)
{
    char path[600];
    unsigned count = 0;
    rig_path(&rig, "w0", path);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(directory);
    return count;
}

static int setup(void **state)
{
    fake_rig_start(&rig);
    *state = &rig;
    return 0;
}

/* ---- one ---- */

static void a_log_is_made_used_and_found_again(void **state)
{
    (void)state;
    struct made made;
    made_init(&made, 7);
    make(&made);
    assert_int_equal(leat_storage_bytes_held(rig.storage, made.index), RIG_SEGMENT);
    append_durably(&made, 5000);
    leat_storage_vote(rig.storage, made.index, 3, 2, 1);
    wait_for(LEAT_STORAGE_VOTED, 1);
    uint64_t end = made.chain.position;
    uint32_t again;
    assert_int_equal(leat_storage_log_create(rig.storage, &made.create, &again), LEAT_EEXISTS);
    rig_crash(&rig);
    assert_true(start_again(&made));
    assert_int_equal(made.chain.position, end);
    struct leat_storage_log_info info;
    assert_int_equal(leat_storage_log_info(rig.storage, made.index, &info), LEAT_OK);
    assert_int_equal(info.log_id, 7);
    assert_int_equal(info.vote_term, 3);
    append_durably(&made, 100);
    leat_storage_log_delete(rig.storage, made.index);
    assert_false(leat_storage_log_exists(rig.storage, made.index));
    wait_for(LEAT_STORAGE_DELETED, 1);
    assert_int_equal(directories_named("log-"), RIG_LOGS);
    rig_crash(&rig);
    assert_false(start_again(&made));
    made_free(&made);
}

/* What is shorter than a block, the BASE frame with it, is in each of the log's records. */
static void the_record_that_named_a_log_rots(void **state)
{
    (void)state;
    struct made made;
    char path[600];
    struct leat_journal_record head;
    made_init(&made, 2);
    make(&made);
    uint64_t naming = rig.storage->record_sequence - 1;
    append_durably(&made, 100);
    append_durably(&made, 100);
    rig_append_durably(&rig, 0, 100);
    rig_append_durably(&rig, 1, 100);
    rig_crash(&rig);
    rig_path(&rig, "w0/journal", path);
    rig_file_flip(path, rig_find_record(&rig, naming, &head) + 300, 3);
    uint64_t end = made.chain.position;
    assert_true(start_again(&made));
    assert_int_equal(made.chain.position, end);
    made_free(&made);
}

static void what_cannot_be_made_is_refused(void **state)
{
    (void)state;
    struct made made;
    uint32_t index;
    made_init(&made, 7);
    made.create.log.segment_bytes = 3 << 20;
    assert_int_equal(leat_storage_log_create(rig.storage, &made.create, &index), LEAT_EINVAL);
    made.create.log.segment_bytes = RIG_SEGMENT;
    made.create.log.log_id = 1;
    assert_int_equal(leat_storage_log_create(rig.storage, &made.create, &index), LEAT_EEXISTS);
    made_free(&made);
}

/* Crashes after each step; the journal's writes of the last turn landed or did not. */
static void making_leaves_a_log_or_nothing(void **state)
{
    (void)state;
    struct made made;
    made_init(&made, 7);
    bool done = false;
    for (unsigned steps = 0; !done; steps++) {
        assert_true(steps < 50);
        for (unsigned landed = 0; landed < 2; landed++) {
            assert_int_equal(leat_storage_log_create(rig.storage, &made.create, &made.index),
                             LEAT_OK);
            unsigned at = 0;
            for (; at < steps && rig.events[LEAT_STORAGE_CREATED] == 0; at++)
                step();
            done = rig.events[LEAT_STORAGE_CREATED] > 0;
            fake.held = true;
            leat_storage_submit(rig.storage, rig.now_ns);
            fake.dead = landed == 0;
            rig_crash(&rig);
            fake.held = fake.dead = false;
            bool there = start_again(&made);
            assert_true(there || !done);
            assert_int_equal(directories_named("new-"), 0);
            assert_int_equal(directories_named("log-"), RIG_LOGS + there);
            if (!there)
                make(&made);
            append_durably(&made, 3000);
            leat_storage_log_delete(rig.storage, made.index);
            unsigned before = rig.events[LEAT_STORAGE_DELETED];
            wait_for(LEAT_STORAGE_DELETED, before + 1);
            rig_crash(&rig);
            assert_false(start_again(&made));
        }
    }
    made_free(&made);
}

static void deleting_leaves_a_whole_log_or_nothing(void **state)
{
    (void)state;
    struct made made;
    made_init(&made, 7);
    bool done = false;
    for (unsigned steps = 0; !done; steps++) {
        assert_true(steps < 50);
        for (unsigned landed = 0; landed < 2; landed++) {
            make(&made);
            append_durably(&made, 9000);
            uint64_t end = made.chain.position;
            leat_storage_log_delete(rig.storage, made.index);
            for (unsigned at = 0; at < steps && rig.events[LEAT_STORAGE_DELETED] == 0; at++)
                step();
            done = rig.events[LEAT_STORAGE_DELETED] > 0;
            fake.held = true;
            leat_storage_submit(rig.storage, rig.now_ns);
            fake.dead = landed == 0;
            rig_crash(&rig);
            fake.held = fake.dead = false;
            bool there = start_again(&made);
            assert_false(there && done);
            assert_int_equal(directories_named("log-"), RIG_LOGS + there);
            if (!there)
                continue;
            assert_int_equal(made.chain.position, end); /* all of it */
            leat_storage_log_delete(rig.storage, made.index);
            wait_for(LEAT_STORAGE_DELETED, 1);
            rig_crash(&rig);
            assert_false(start_again(&made));
        }
    }
    made_free(&made);
}

static void a_delete_waits_for_writes_in_flight(void **state)
{
    (void)state;
    struct made made;
    made_init(&made, 7);
    make(&made);
    fake.held = true;
    append(&made, 9000);
    rig_turn(&rig);
    assert_true(fake_queued() > 0);
    leat_storage_vote(rig.storage, made.index, 3, 2, 1);
    leat_storage_log_delete(rig.storage, made.index);
    unsigned written = rig.events[LEAT_STORAGE_WRITTEN];
    for (int i = 0; i < 20; i++)
        step();
    assert_int_equal(rig.events[LEAT_STORAGE_DELETED], 0);
    assert_int_equal(directories_named("log-"), RIG_LOGS + 1);
    fake.held = false;
    wait_for(LEAT_STORAGE_DELETED, 1);
    assert_int_equal(rig.events[LEAT_STORAGE_WRITTEN], written); /* nothing more is said of it */
    assert_int_equal(rig.events[LEAT_STORAGE_VOTED], 0);
    made_free(&made);
}

/* ---- many ---- */

static void logs_come_and_go_without_end(void **state)
{
    (void)state;
    struct made made;
    made_init(&made, 7);
    uint64_t wraps = 2 * (LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES) / 3; /* 3 records a life */
    for (uint64_t i = 0; i < wraps; i++) {
        made.create.log.log_id = (uint32_t)(7 + i);
        made.shape = rig_shape(&rig, made.create.log.log_id);
        make(&made);
        assert_int_equal(made.index, RIG_LOGS); /* the same again */
        append_durably(&made, 100);
        leat_storage_log_delete(rig.storage, made.index);
        wait_for(LEAT_STORAGE_DELETED, (unsigned)i + 1);
    }
    assert_int_equal(leat_storage_log_count(rig.storage), RIG_LOGS + 1);
    assert_true(leat_storage_counters(rig.storage)->journal_bytes > LEAT_JOURNAL_BYTES);
    rig_append_durably(&rig, 1, 100);
    rig_crash(&rig);
    assert_false(start_again(&made));
    made_free(&made);
}

static void make_many(struct made *all, uint32_t count)
{
    uint32_t before = rig.events[LEAT_STORAGE_CREATED];
    for (uint32_t i = 0; i < count; i++) {
        made_init(&all[i], 10 + i);
        assert_int_equal(leat_storage_log_create(rig.storage, &all[i].create, &all[i].index),
                         LEAT_OK);
    }
    wait_for(LEAT_STORAGE_CREATED, before + count);
    for (uint32_t i = 0; i < count; i++)
        made_chain(&all[i]);
}

static void one_record_a_pass_for_256_logs(void **state)
{
    (void)state;
    static struct made all[256];
    make_many(all, 256);
    while (step())
        ;
    for (int round = 0; round < 3; round++) {
        uint64_t records = leat_storage_counters(rig.storage)->journal_writes;
        unsigned written = rig.events[LEAT_STORAGE_WRITTEN];
        for (uint32_t i = 0; i < 256; i++)
            append(&all[i], 500);
        leat_storage_submit(rig.storage, ++rig.now_ns);
        assert_int_equal(leat_storage_counters(rig.storage)->journal_writes, records + 1); /* CM5 */
        wait_for(LEAT_STORAGE_WRITTEN, written + 256);
        assert_int_equal(leat_storage_counters(rig.storage)->journal_writes, records + 1);
    }
    for (uint32_t i = 0; i < 256; i++)
        made_free(&all[i]);
}

static void append_lazily(struct made *made, uint32_t bytes)
{
    lay(made, bytes);
    leat_storage_write_lazily(rig.storage, made->index, ++made->seq, &made->chain);
}

static bool submits(uint64_t after_ns)
{
    uint64_t records = leat_storage_counters(rig.storage)->journal_writes;
    rig.now_ns += after_ns;
    leat_storage_submit(rig.storage, rig.now_ns);
    return leat_storage_counters(rig.storage)->journal_writes > records;
}

/* The more logs there are, the longer what may wait does: a record holds a block of each. */
static void many_lazy_logs_wait_longer(void **state)
{
    (void)state;
    static struct made all[256];
    const uint32_t times = 256 / LEAT_STORAGE_LAZY_LOGS;
    make_many(all, 256);
    while (step())
        ;
    for (uint32_t i = 0; i < 256; i++)
        append_lazily(&all[i], LEAT_STORAGE_LAZY_BYTES / 256);
    assert_false(submits((uint64_t)(LEAT_STORAGE_LAZY_MOST - 1) * LEAT_STORAGE_LAZY_NS));
    assert_true(submits(2 * LEAT_STORAGE_LAZY_NS));
    while (step())
        ;
    for (uint32_t i = 0; i < 256; i++)
        append_lazily(&all[i], LEAT_STORAGE_LAZY_BYTES * (times - 1) / 256);
    assert_false(submits(1));
    for (uint32_t i = 0; i < 256; i++)
        append_lazily(&all[i], LEAT_STORAGE_LAZY_BYTES / 256);
    assert_true(submits(1));
    while (step())
        ;
    append_lazily(&all[0], 100); /* one log alone does not fill its arena meanwhile */
    for (uint32_t i = 1; i < 256; i++)
        append_lazily(&all[i], 100);
    for (uint32_t bytes = 0; bytes < ARENA / 8 - 60000; bytes += 60000)
        append_lazily(&all[0], 60000 - 200);
    assert_false(submits(1));
    append_lazily(&all[0], 60000);
    assert_true(submits(1));
    for (uint32_t i = 0; i < 256; i++)
        made_free(&all[i]);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void a_node_full_of_logs(void **state)
{
    (void)state;
    static struct made all[LEAT_LOGS_MAX];
    struct made more;
    uint32_t count = LEAT_LOGS_MAX - RIG_LOGS, index;
    unsigned descriptors = open_descriptors();
    make_many(all, count);
    made_init(&more, 5000);
    assert_int_equal(leat_storage_log_create(rig.storage, &more.create, &index), LEAT_EBUDGET);
    unsigned written = rig.events[LEAT_STORAGE_WRITTEN];
    for (uint32_t i = 0; i < count; i++)
        append(&all[i], 9000); /* blocks in place of every one */
    wait_for(LEAT_STORAGE_WRITTEN, written + count);
    /* every log's tail is nearly a block long; the ring comes round twice */
    for (uint32_t i = 0;
         leat_storage_counters(rig.storage)->journal_bytes < 3ull * LEAT_JOURNAL_BYTES; i++)
        append_durably(&all[i % 8], 300);
    assert_true(leat_storage_counters(rig.storage)->reemitted_logs > count);
    assert_true(open_descriptors() - descriptors <= SEGMENT_FDS_MAX);
    print_message("# %zu bytes of memory for a log\n", sizeof(struct log));
    assert_true(sizeof(struct log) < 6000);
    leat_storage_log_delete(rig.storage, all[3].index);
    wait_for(LEAT_STORAGE_DELETED, 1);
    assert_int_equal(leat_storage_log_create(rig.storage, &more.create, &index), LEAT_OK);
    assert_int_equal(index, all[3].index);
    wait_for(LEAT_STORAGE_CREATED, count + 1);
    for (uint32_t i = 0; i < count; i++)
        made_free(&all[i]);
    made_free(&more);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_log_is_made_used_and_found_again),
        CASE(what_cannot_be_made_is_refused),
        CASE(the_record_that_named_a_log_rots),
        CASE(making_leaves_a_log_or_nothing),
        CASE(deleting_leaves_a_whole_log_or_nothing),
        CASE(a_delete_waits_for_writes_in_flight),
        CASE(logs_come_and_go_without_end),
        CASE(one_record_a_pass_for_256_logs),
        CASE(many_lazy_logs_wait_longer),
        CASE(a_node_full_of_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
