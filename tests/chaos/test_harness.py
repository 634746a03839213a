#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The harness of the chaos rows, on one short row: a node is killed under load and all is there. Then what
must be found is made up: the audit and the judge have to see it. And the rigs do what they are told. Needs root."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from stage import Stage, judge, mounts_of_our_own  # noqa: E402
from cluster import LEATD, LEDGER_ROW, Failure, check, wait_for  # noqa: E402
from faultcalls import WORDS  # noqa: E402
from row import ROWS  # noqa: E402
from rows_disk import resubmitted  # noqa: E402
from rows_network import SmallPools, counted, smallpools  # noqa: E402
from rows_process import Killed, Stopped, hog  # noqa: E402
import rows_other  # noqa: E402,F401

RATE, SECONDS, SEED = 5000, 1, 7
# the fault catalogue, but what needs versions, membership, keys or hooks in the product: O5, O6, O8, K2, M5
CATALOGUE = {"P": "123456", "N": [*"123456789", "10", "11"], "D": [*"123456789", "10", "11", "12", "13"], "K": "13",
             "M": "1234", "O": "123479"}
RUN, THREAD, ERROR, NUMBER, POSITION, OFFSET = range(6)
OK, ENOLOG = 0, -4


class Short(Killed):
    """One kill and no more."""
    least = 0.1


def killed(stage):
    stage.load()
    stage.grows()
    stage.look()
    check(0 < stage.usual < 2 * RATE, f"{stage.usual} a second")
    stage.injected += stage.row.inject(stage)
    stage.grows()
    stage.stop_load()
    stage.cluster.level()
    figures = stage.audit()
    judge(stage, figures)
    check(figures["acknowledged"] == stage.acknowledged > 500, f"{stage.acknowledged} acknowledged, {figures}")
    check(0 < figures["longest_gap_ms"] < 30000, f"longest gap: {figures}")


def with_lines(stage, change):
    """The audit of a ledger to which lines were added."""
    path = stage.loads[0].path
    shutil.copy(path, path + ".true")
    try:
        with open(path, "rb") as file:
            rows = [list(row) for row in LEDGER_ROW.iter_unpack(file.read())]
        good = next(row for row in rows if row[ERROR] == OK and row[NUMBER] % 3)  # ledger.c: of level durable
        with open(path, "ab") as file:
            file.write(LEDGER_ROW.pack(*change(good)))
        return stage.audit()
    finally:
        shutil.move(path + ".true", path)


def found(name, change):
    def test(stage):
        figures = with_lines(stage, change)
        check(figures[name] == 1, f"a made-up line was not reported as {name}: {figures}")
        try:
            judge(stage, figures)
        except Failure:
            return
        raise Failure(f"the judge lets {name} pass")
    return test


def changed(column, value):
    def change(row):
        row[column] = value(row[column])
        return row
    return change


def judged(word, **lie):
    def test(stage):
        before = {name: getattr(stage, name) for name in lie}
        stage.__dict__.update(lie)
        try:
            judge(stage, stage.audit())
        except Failure as failure:
            check(word in str(failure), f"another failure: {failure}")
            return
        finally:
            stage.__dict__.update(before)
        raise Failure(f"the judge lets it pass: {lie}")
    return test


def what_is_due(stage):
    """The row's share of what is offered, or a tenth of what the machine gave to begin with, where that is less."""
    usual = stage.usual
    try:
        for stage.usual, due in ((1e9, stage.offered * Short.least), (100, stage.offered / RATE * 10)):
            check(abs(stage.due() - due) <= 1 < due, f"{stage.due()} are due, not {due}")
    finally:
        stage.usual = usual


def too_many_campaigns(stage):
    node = stage.cluster.nodes[0]
    before = stage.campaigns()
    check(sum(before.values()) > 0, "nobody ever campaigned")
    stage.is_modest(node, before, 0)
    with open(node.log, "a", encoding="utf-8") as log:
        log.write("info node 1: log 1: candidate in term 99\n")
    stage.is_modest(node, before, 1)
    try:
        stage.is_modest(node, before, 0)
    except Failure:
        return
    raise Failure("a campaign was not seen")


# ---- the rigs ----

def built(_):
    due = {letter + number for letter, numbers in CATALOGUE.items() for number in numbers}
    there = {key.split("-")[0] for key in ROWS}
    check(there == due, f"missing: {sorted(due - there)}; of no catalogue: {sorted(there - due)}")


def same_words(_):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "faultcalls.c"), encoding="utf-8") as file:
        words = re.findall(r"_Atomic u?int64_t (\w+);", file.read())
    check(words == list(WORDS), f"the page's words are {words}")


def loaded(function):
    def test(stage):
        ledger = stage.cluster.ledger()
        ledger.start(stage.cluster.nodes[0], threads=2, size=1000, rate=6000, timeout_ms=60000)
        try:
            function(stage, stage.cluster.nodes[0])
        finally:
            ledger.stop()
    return test


@loaded
def last_call(stage, node):
    for what in ({"submits": 5}, {"calls": 20, "after": True}):
        calls = stage.calls[node]
        begin = calls["submits"]
        calls.kill_at(**what)
        calls.dies(f"the node to be killed: {what}")
        check(calls["submits"] > begin, "it submitted nothing before")
        node.start()
        stage.is_back(node)


@loaded
def answers(stage, node):
    calls, before = stage.calls[node], resubmitted(node)
    for share, told in (("short_share", "shortened"), ("refuse_share", "refused"), ("again_share", "again"),
                        ("swap_share", "swapped")):
        calls.set(**{share: 500000})
        wait_for(lambda: calls[told], f"something to be {told}")
        calls.clear()
    wait_for(lambda: resubmitted(node) > before, "the node to submit something again")
    stage.grows()


@loaded
def other_time(stage, node):
    calls = stage.calls[node]
    check(calls["realtime_told"] == 0, "it was told another time already")
    calls.set(realtime_ns=10**9)
    wait_for(lambda: calls["realtime_told"] > 10, "the node to be told another time")
    calls.clear()


def one_thread(stage):
    """Of the node's threads the one that is told to stands still, until it may go on."""
    pid = stage.cluster.nodes[0].process.pid

    def states():
        found = {}
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
                found[int(thread)] = file.read().rsplit(")", 1)[1].split()[0]
        return found
    with Stopped(pid):
        there = states()
        check(there[pid] == "t" and list(there.values()).count("t") == 1, f"threads: {there}")
    wait_for(lambda: states()[pid] != "t", "the thread to go on")


def hogs(_):
    for real_time in (False, True):
        process = hog(0, real_time)
        try:
            wait_for(lambda: used(process.pid) >= 5, "the hog to use its core")
            check(os.sched_getscheduler(process.pid) == (os.SCHED_FIFO if real_time else os.SCHED_OTHER), "its class")
            check(os.sched_getaffinity(process.pid) == {0}, "its core")
        finally:
            process.kill()
            process.wait()


def used(pid):
    """Ticks of a core."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return int(file.read().rsplit(")", 1)[1].split()[11])


@loaded
def few_buffers(stage, node):
    smallpools(stage, node, 8)
    wait_for(lambda: counted(node, *SmallPools.NAMES), "the buffers to run out")
    smallpools(stage, node, None)
    check(node.program == LEATD, "it has its buffers again")
    stage.is_back(node)


def compared(stage):
    stage.compare()


TESTS = [
    ("a node is killed: all that was acknowledged is there", killed),
    ("an append that nobody made is reported as lost", found("lost", changed(NUMBER, lambda n: n + 10**9))),
    ("an append at another place is reported as moved", found("moved", changed(OFFSET, lambda n: n + 1))),
    ("an append that was refused and is there is reported",
     found("refused_but_there", changed(ERROR, lambda _: ENOLOG))),
    ("a row that injected nothing fails", judged("nothing was injected", injected=0)),
    ("a row that did too little fails", judged("are due", acknowledged=0)),
    ("what is due", what_is_due),
    ("campaigns are counted", too_many_campaigns),
    ("every row of the catalogue is there", built),
    ("the page of faultcalls.c is faultcalls.py's", same_words),
    ("a node dies at the call that is to be its last", last_call),
    ("short writes, refusals, EAGAIN and completions out of order", answers),
    ("a node is told another time of day", other_time),
    ("one thread stands still", one_thread),
    ("a hog takes its core", hogs),
    ("a node's packet buffers run out", few_buffers),
    ("the replicas are the same", compared),
]


def main():
    print(f"1..{len(TESTS)}", flush=True)
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        for number, (name, _) in enumerate(TESTS, 1):
            print(f"ok {number} - {name} # SKIP needs root and loop devices")
        return 0
    mounts_of_our_own()
    stage, failed = Stage(Short(), SEED, RATE, SECONDS), False
    try:
        for number, (name, test) in enumerate(TESTS, 1):
            try:
                test(stage)
                print(f"ok {number} - {name}", flush=True)
            except Exception as error:  # the others say what they have to say
                failed = True
                print(f"# {name}: {error}", file=sys.stderr, flush=True)
                print(f"not ok {number} - {name}", flush=True)
    finally:
        stage.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
