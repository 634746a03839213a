/* SPDX-License-Identifier: Apache-2.0
 *
 * The real ring: the same life of a node as over the fake.
 */
#include "support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void appended_bytes_are_there_after_a_crash(void **state)
{
    struct rig rig;
    (void)state;
    rig_format(&rig);
    rig_start(&rig);
    assert_int_equal(rig.incarnation >> LEAT_INCARNATION_RANDOM_BITS, 1);
    rig_append_term(&rig, 1, 1);
    for (int i = 0; i < 200; i++)
        rig_append_durably(&rig, 1, 64);
    for (int i = 0; i < 40; i++)
        rig_append_durably(&rig, 0, 64 << 10);
    uint64_t ends[2] = {rig.logs[0].reported_end, rig.logs[1].reported_end};
    rig_crash(&rig);
    rig_start(&rig);
    assert_int_equal(rig.incarnation >> LEAT_INCARNATION_RANDOM_BITS, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rig.logs[i].recovered.kind, LEAT_RECOVERED_DISK);
        assert_int_equal(rig.logs[i].recovered.durable_pos, ends[i]);
        assert_false(rig.logs[i].recovered.damaged);
        assert_false(rig.logs[i].recovered.torn);
    }
    leat_storage_vote(rig.storage, 1, 5, 2, 9);
    while (rig.logs[1].voted_seq < 9)
        assert_true(rig_turn(&rig) >= 0);
    rig_crash(&rig);
    rig_start(&rig);
    struct leat_storage_log_info info;
    leat_storage_log_info(rig.storage, 1, &info);
    assert_int_equal(info.vote_term, 5);
    assert_int_equal(info.voted_for, 2);
    rig_remove(&rig);
}

/* V3: the killed owner's last writes are waited for, and what it reported is there. */
static void a_killed_node_loses_nothing_that_it_reported(void **state)
{
    struct rig rig;
    int ends[2];
    uint64_t reported = 0, end;
    (void)state;
    rig_format(&rig);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        rig.config.writes_in_flight_max = 4;
        rig_start(&rig);
        for (;;) {
            rig_append_durably(&rig, 1, 20000);
            if (write(ends[1], &rig.logs[1].reported_end, sizeof(end)) != sizeof(end))
                _exit(1);
        }
    }
    close(ends[1]);
    for (int i = 0; i < 100; i++)
        assert_int_equal(read(ends[0], &reported, sizeof(reported)), sizeof(reported));
    assert_int_equal(rig_open(&rig), LEAT_EINUSE);
    kill(child, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    rig.config.lock_wait_ms = 30000;
    rig_start(&rig); /* the child is not even collected yet */
    while (read(ends[0], &end, sizeof(end)) == sizeof(end))
        reported = end;
    assert_true(rig.logs[1].recovered.durable_pos >= reported);
    assert_false(rig.logs[1].recovered.damaged);
    waitpid(child, NULL, 0);
    close(ends[0]);
    rig_remove(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_bytes_are_there_after_a_crash),
        cmocka_unit_test(a_killed_node_loses_nothing_that_it_reported)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
