/* SPDX-License-Identifier: Apache-2.0
 *
 * Format and what open refuses: by name, and with the directory as it was.
 */
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "disk_fake.h"

static int setup(void **state)
{
    static struct rig rig;
    fake_reset();
    rig_format(&rig);
    *state = &rig;
    return 0;
}

static void expect_refusal(struct rig *rig, int rc, const char *says)
{
    uint32_t before = rig_fingerprint(rig);
    struct leat_storage *storage = NULL;
    assert_int_equal(leat_storage_open(&rig->config, &storage, rig->error, sizeof(rig->error)), rc);
    assert_null(storage);
    if (!strstr(rig->error, says))
        fail_msg("'%s' does not say '%s'", rig->error, says);
    assert_int_equal(rig_fingerprint(rig), before);
}

static void a_formatted_directory_starts_at_the_genesis(void **state)
{
    struct rig *rig = *state;
    uint8_t genesis[LEAT_BLOCK_BYTES];
    rig_start(rig);
    for (uint32_t i = 0; i < RIG_LOGS; i++) {
        const struct leat_recovered *recovered = &rig->logs[i].recovered;
        uint64_t extent = leat_genesis_frame(&rig->format, &rig->format.logs[i], genesis);
        assert_int_equal(recovered->durable_pos, extent);
        assert_true(recovered->clean);
        assert_false(recovered->damaged || recovered->torn);
        assert_memory_equal(rig->logs[i].arena, genesis, extent);
        assert_int_equal(leat_storage_base_pos(rig->storage, i), 0);
    }
}

static void the_genesis_is_a_pure_function(void **state)
{
    struct rig *rig = *state;
    uint8_t first[LEAT_BLOCK_BYTES], second[LEAT_BLOCK_BYTES];
    struct leat_format_config other = rig->format;
    other.directory = "elsewhere";
    other.node_id = 3;
    uint64_t extent = leat_genesis_frame(&rig->format, &rig->format.logs[1], first);
    assert_int_equal(leat_genesis_frame(&other, &other.logs[1], second), extent);
    assert_memory_equal(first, second, extent);
}

static void the_genesis_of_the_catalogue_names_the_logs(void **state)
{
    struct rig *rig = *state;
    uint8_t block[LEAT_BLOCK_BYTES] __attribute__((aligned(8)));
    struct leat_base base;
    const struct leat_frame *frame = (const void *)block;
    struct leat_format_config config = rig->format;
    strcpy(config.logs[1].name, "orders");
    config.logs[1].retention_bytes = 5u << 20;
    leat_genesis_frame(&config, &config.logs[0], block);
    uint32_t bytes = frame->length_bytes - LEAT_FRAME_HEADER_BYTES;
    assert_int_equal(leat_base_parse(frame + 1, bytes, &base), LEAT_OK);
    assert_int_equal(base.head->catalogue_count, 2);
    const struct leat_catalogue_row *rows = base.catalogue;
    assert_string_equal(rows[0].name, "catalogue");
    assert_int_equal(rows[0].log_id, 0);
    assert_string_equal(rows[1].name, "orders");
    assert_int_equal(rows[1].generation, 1);
    assert_int_equal(rows[1].flags, LEAT_BASE_ACCEPTS_REPLICATED);
    assert_int_equal(rows[1].retention_bytes, 5u << 20);
    leat_genesis_frame(&config, &config.logs[1], block);
    bytes = frame->length_bytes - LEAT_FRAME_HEADER_BYTES;
    assert_int_equal(leat_base_parse(frame + 1, bytes, &base), LEAT_OK);
    assert_int_equal(base.head->catalogue_count, 0);
}

static void more_workers_than_there_can_be_are_refused(void **state)
{
    struct rig *rig = *state;
    struct leat_format_config config = rig->format;
    config.worker_count = LEAT_WORKERS_MAX + 1;
    assert_int_equal(leat_storage_format(&config, rig->error, sizeof(rig->error)), LEAT_EINVAL);
}

static void formatting_twice_is_refused(void **state)
{
    struct rig *rig = *state;
    uint32_t before = rig_fingerprint(rig);
    assert_int_equal(leat_storage_format(&rig->format, rig->error, sizeof(rig->error)),
                     LEAT_EEXISTS);
    assert_int_equal(rig_fingerprint(rig), before);
}

static void a_directory_with_something_else_is_refused(void **state)
{
    struct rig *rig = *state;
    char path[600];
    rig_path(rig, "identity", path);
    unlink(path);
    uint32_t before = rig_fingerprint(rig);
    assert_int_equal(leat_storage_format(&rig->format, rig->error, sizeof(rig->error)),
                     LEAT_EINVAL);
    assert_non_null(strstr(rig->error, "not empty"));
    assert_int_equal(rig_fingerprint(rig), before);
}

static void a_directory_in_memory_is_refused(void **state)
{
    struct rig *rig = *state;
    struct leat_format_config config = rig->format;
    config.directory = "/dev/shm/leat-format-test";
    if (access("/dev/shm", W_OK) != 0)
        skip();
    int rc = leat_storage_format(&config, rig->error, sizeof(rig->error));
    rmdir(config.directory);
    assert_int_equal(rc, LEAT_ESYSTEM);
    assert_non_null(strstr(rig->error, "on a disk"));
}

static void unformatted_is_refused(void **state)
{
    struct rig *rig = *state;
    char path[600];
    rig_path(rig, "identity", path);
    unlink(path); /* as after a crash in format */
    expect_refusal(rig, LEAT_EUNFORMATTED, "leat format");
    rig_path(rig, "lock", path);
    unlink(path);
    expect_refusal(rig, LEAT_EUNFORMATTED, "leat format");
}

static void another_cluster_is_refused(void **state)
{
    struct rig *rig = *state;
    rig->config.cluster.bytes[5] ^= 1;
    expect_refusal(rig, LEAT_ECLUSTER, "belongs to cluster");
}

static void another_node_is_refused(void **state)
{
    struct rig *rig = *state;
    rig->config.node_id = 2;
    expect_refusal(rig, LEAT_ENODE, "belongs to node 1");
}

static void another_worker_count_is_refused(void **state)
{
    struct rig *rig = *state;
    rig->config.worker_count = 2;
    expect_refusal(rig, LEAT_EWORKERS, "formatted for 1 workers");
}

static void a_newer_version_is_refused(void **state)
{
    struct rig *rig = *state;
    char path[600], newer[16];
    struct leat_identity identity;
    rig_path(rig, "identity", path);
    rig_file_read(path, 0, &identity, sizeof(identity));
    identity.version++;
    identity.crc = 0;
    identity.crc = leat_crc32c(0, &identity, sizeof(identity));
    rig_file_write(path, 0, &identity, sizeof(identity));
    snprintf(newer, sizeof(newer), "format %u,", LEAT_STORAGE_VERSION + 1);
    expect_refusal(rig, LEAT_EVERSION, newer);
}

static void a_damaged_identity_is_refused(void **state)
{
    struct rig *rig = *state;
    char path[600];
    rig_path(rig, "identity", path);
    rig_file_flip(path, 20, 3);
    expect_refusal(rig, LEAT_ECORRUPT, "damaged");
}

static void a_directory_in_use_is_refused_at_once(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->config.lock_wait_ms = 60000;
    expect_refusal(rig, LEAT_EINUSE, "in use by process");
    rig->config.lock_wait_ms = 0;
}

static void a_log_without_a_record_is_refused(void **state)
{
    struct rig *rig = *state;
    char path[600], to[600];
    rig_path(rig, "w0/log-1.1", path);
    rig_path(rig, "w0/log-9.1", to);
    assert_int_equal(rename(path, to), 0);
    expect_refusal(rig, LEAT_ECORRUPT, "log-9.1");
    assert_int_equal(rename(to, path), 0);
}

static void workers_have_their_own_files(void **state)
{
    struct rig *rig = *state, two;
    char error[256];
    memset(&two, 0, sizeof(two));
    two.format = rig->format;
    snprintf(two.directory, sizeof(two.directory), "%.400s-workers", rig->directory);
    two.format.directory = two.directory;
    two.format.worker_count = 3; /* the third has no log */
    assert_int_equal(leat_storage_format(&two.format, error, sizeof(error)), LEAT_OK);
    for (uint32_t worker = 0; worker < 3; worker++) {
        struct leat_storage_config config = rig->config;
        struct leat_storage *storage = NULL;
        uint64_t incarnation;
        config.directory = two.directory;
        config.worker = worker;
        config.worker_count = 3;
        assert_int_equal(leat_storage_open(&config, &storage, error, sizeof(error)), LEAT_OK);
        assert_int_equal(leat_storage_log_count(storage), worker < 2);
        if (worker == 2)
            assert_int_equal(leat_storage_commit_begin(storage, &incarnation), LEAT_OK);
        leat_storage_close(storage);
    }
    rig_remove(&two);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fake_rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_formatted_directory_starts_at_the_genesis),
        CASE(the_genesis_is_a_pure_function),
        CASE(the_genesis_of_the_catalogue_names_the_logs),
        CASE(more_workers_than_there_can_be_are_refused),
        CASE(formatting_twice_is_refused),
        CASE(a_directory_with_something_else_is_refused),
        CASE(a_directory_in_memory_is_refused),
        CASE(unformatted_is_refused),
        CASE(another_cluster_is_refused),
        CASE(another_node_is_refused),
        CASE(another_worker_count_is_refused),
        CASE(a_newer_version_is_refused),
        CASE(a_damaged_identity_is_refused),
        CASE(a_directory_in_use_is_refused_at_once),
        CASE(a_log_without_a_record_is_refused),
        CASE(workers_have_their_own_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
