#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up, stick, slow down, fail, or lose files under running nodes: a small ext4 on a loop
device for each node that is to suffer. Appends are refused by name while reads go on, leadership moves,
a failing disk fences its node, and nothing acknowledged is lost. Needs root."""
import functools
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from cluster import CALM, LEAT, Library, check, run_tests, wait_for
from disks import MIB, Disks, command

SMALL = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB", "largest_entry": "64KiB"}
ENOSPACE = "no space left"
FENCED = 6


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"threads": 1, "size": 8000, "rate": 400, **options})
    return ledger


def end_of(node):
    return (node.state() or {"commit_durable": 0})["commit_durable"]


def grows(node, count, seconds=30):
    begin = wait_for(lambda: end_of(node), "status")
    wait_for(lambda: end_of(node) >= begin + count, f"{count} more bytes on node {node.id}", seconds)


def append(node, *options):
    """One line; returns (exit code, what was said)."""
    done = subprocess.run([LEAT, "append", "--socket", node.socket, "--timeout", "8", *options, "-"], input="one line\n",
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def is_refused(node):
    code, err = append(node)
    return code != 0 and ENOSPACE in err


def stop(ledger, unknown_allowed=False):
    result = ledger.stop()
    check(unknown_allowed or result["unknown"] == 0, f"appends ended as unknown: {result}")
    return result


def settle(cluster, digests=True, *options):
    cluster.level()
    audit = cluster.audit("--foreign-allowed", *options)
    check(audit["acknowledged"] > 0, "nothing was acknowledged")
    if digests:
        cluster.verify_digests()


def reads(node):
    done = subprocess.run([LEAT, "tail", "--socket", node.socket, "--from", "start", "--count", "20"],
                          capture_output=True, timeout=30)
    return done.returncode == 0 and len(done.stdout) > 100


# ---- full ----

def new_term(cluster):
    """A leader that cannot commit the first frame of its own term for want of space says so as well. (Who gets the
    lead may hand it on: its disk is behind.)"""
    old = cluster.leader()
    term, to = old.state()["term"], next(n for n in cluster.nodes if n is not old)
    subprocess.run([LEAT, "transfer", "default", "--to", str(to.id), "--socket", old.socket], capture_output=True)
    wait_for(lambda: (cluster.leader().state() or {"term": 0})["term"] > term, "a new term")
    for node in cluster.nodes:
        wait_for(lambda: is_refused(node), f"node {node.id} to say why in the new term")


def full_everywhere(cluster):
    """All disks are full: refused by name, reads go on, and appends too when there is room again."""
    with Disks(cluster, cluster.nodes, 96 * MIB) as disks:
        leader = cluster.start()
        ledger = load(cluster, leader)
        grows(leader, 2 * MIB)
        for disk in disks.values():
            disk.fill()
        wait_for(lambda: is_refused(leader), "an append to be refused for want of space", 40)
        for node in cluster.nodes:
            check(is_refused(node), f"node {node.id} does not say why")
            check(reads(node), f"node {node.id} gives nothing to read")
        if len(cluster.nodes) > 1:
            new_term(cluster)
        check(leader.state()["counters"]["appends_no_space"] + sum(
            n.state()["counters"]["appends_no_space"] for n in cluster.nodes if n is not leader) > 0, "not counted")
        result = stop(ledger, unknown_allowed=True)  # what was sealed before anybody knew
        check(result["ok"] > 0, f"nothing was appended: {result}")
        for disk in disks.values():
            disk.make_room()
        wait_for(lambda: append(leader)[0] == 0, "an append to go in again", 40)
        late = load(cluster, cluster.nodes[leader.id % len(cluster.nodes)])
        grows(leader, 3 * MIB)
        stop(late)
        settle(cluster)


def one_is_full(cluster):
    """One of three has a full disk: nobody notices but it."""
    with Disks(cluster, [cluster.nodes[2]], 96 * MIB) as disks:
        leader = cluster.start()
        if leader is cluster.nodes[2]:
            subprocess.run([LEAT, "transfer", "1", "--socket", leader.socket], capture_output=True, timeout=30)
            leader = cluster.leader(but=cluster.nodes[2])
        node, disk = cluster.nodes[2], disks[cluster.nodes[2]]
        ledger = load(cluster, leader)
        grows(leader, MIB)
        disk.fill()
        grows(leader, 8 * MIB, 60)
        check(node.state() is not None, "the full node does not answer")
        disk.make_room()
        wait_for(lambda: end_of(node) >= end_of(leader) - MIB, "the full node to come up with the others", 60)
        result = stop(ledger)
        check(result["no"] == 0, f"one full disk of three cost appends: {result}")
        settle(cluster)


def retained(cluster):
    """A log with a retention of bytes lives on a disk that holds a part of what is appended."""
    with Disks(cluster, cluster.nodes, 96 * MIB):
        leader = cluster.start()
        error, why = Library().configure(leader, 1, retention_bytes=8 * MIB)
        check(error == 0, f"retention: {error} {why}")
        ledger = load(cluster, leader, size=60000, rate=200)
        grows(leader, 110 * MIB, 80)
        result = stop(ledger)
        check(result["no"] == 0, f"appends were refused: {result}")
        wait_for(lambda: all(len(glob.glob(os.path.join(n.data, "w0", "log-1.*", "*.segment"))) <= 16
                             for n in cluster.nodes), "old segments to go")
        settle(cluster, True, "--trimmed-allowed")


# ---- files and file systems that change under a node ----

def ended_fenced(node, *words):
    wait_for(lambda: node.process.poll() is not None, f"node {node.id} to fence itself", 90)
    check(node.process.returncode == FENCED, f"exit code {node.process.returncode}")
    check(any(node.says(word) for word in words), f"it does not say {words}: {node.last_lines(4)}")
    node.process = None


def fence(cluster, harm, *words, disk_of=None):
    """`harm` comes to a running follower: it is fenced with its reason; the others go on."""
    leader = cluster.leader()
    node = disk_of or next(n for n in cluster.nodes if n is not leader)
    other = next(n for n in cluster.nodes if n is not node)
    ledger = load(cluster, other, rate=50, timeout_ms=30000)  # the active segment is to stay so for a second
    grows(other, MIB // 4)
    harm(node)
    ended_fenced(node, *words)
    grows(cluster.leader(), MIB // 2)
    stop(ledger)
    return node


def active_segment(node):
    base = node.state()["durable"] // MIB * MIB
    return os.path.join(node.data, "w0", "log-1.1", f"{base:016x}.segment")


def file_goes(cluster, which):
    """Journal, votes, segments: truncated, removed, replaced under a running node."""
    def journal_truncated(node):
        os.truncate(os.path.join(node.data, "w0", "journal"), MIB)

    def journal_removed(node):
        os.unlink(os.path.join(node.data, "w0", "journal"))

    def votes_replaced(node):
        votes = os.path.join(node.data, "w0", "votes")
        shutil.copy(votes, votes + ".copy")
        os.rename(votes + ".copy", votes)

    def segment_truncated(node):
        os.truncate(active_segment(node), 4096)

    def segment_removed(node):
        os.unlink(active_segment(node))

    harm, word = {"journal truncated": (journal_truncated, "journal"), "journal removed": (journal_removed, "journal"),
                  "votes replaced": (votes_replaced, "votes"), "segment truncated": (segment_truncated, "segment"),
                  "segment removed": (segment_removed, "segment")}[which]
    cluster.start()
    fence(cluster, harm, word)
    cluster.level()
    cluster.audit()


def read_only(cluster):
    """The file system is remounted read-only."""
    with Disks(cluster, [cluster.nodes[2]], 96 * MIB) as disks:
        cluster.start()
        node = cluster.nodes[2]

        def error_of_the_file_system(_):  # what is open for writing forbids an ordinary remount
            command("mount", "-o", "remount,errors=remount-ro", node.data)
            device = os.path.basename(disks[node].device)
            with open(f"/sys/fs/ext4/{device}/trigger_fs_error", "w", encoding="ascii") as trigger:
                trigger.write("a test")
        fence(cluster, error_of_the_file_system, "Read-only", "failed", disk_of=node)
        cluster.level()
        cluster.audit()


def io_error(cluster):
    """A sparse image in a tmpfs that is full: writes of blocks that it does not hold yet fail with EIO."""
    backing = tempfile.mkdtemp(prefix="leat-test-backing-", dir=cluster.dir)
    command("mount", "-t", "tmpfs", "-o", "size=100m", "leat-test", backing)
    try:
        with Disks(cluster, [cluster.nodes[2]], 200 * MIB, backing):
            cluster.start()
            fill_until_fenced(cluster)
    finally:
        subprocess.run(["umount", "--lazy", backing], capture_output=True)


def fill_until_fenced(cluster):
    node = cluster.nodes[2]
    others = cluster.nodes[:2]
    ledger = load(cluster, others[0], size=60000, rate=800, timeout_ms=30000)
    ended_fenced(node, "failed", "error")
    leader = cluster.leader()
    grows(leader, 2 * MIB)
    stop(ledger)
    cluster.level()
    cluster.audit()


# ---- stuck and slow ----

def stuck(cluster):
    """The leader's disk takes no more writes: leadership goes to a node whose does; thawed, it catches up."""
    with Disks(cluster, cluster.nodes, 96 * MIB) as disks:
        leader = cluster.start()
        rest = [n for n in cluster.nodes if n is not leader]
        ledger = load(cluster, rest[0], size=2000, timeout_ms=40000)
        grows(leader, MIB)
        disks[leader].freeze()
        begin = time.monotonic()
        after = cluster.leader(but=leader, seconds=20)
        took = time.monotonic() - begin
        print(f"# leadership left the stuck disk after {took:.1f} s", flush=True)
        grows(after, MIB)
        disks[leader].thaw()
        wait_for(lambda: end_of(leader) >= end_of(after) - MIB, "the thawed node to catch up", 40)
        result = stop(ledger)
        check(result["no"] == 0, f"a stuck disk cost appends: {result}")
        settle(cluster)


def slow(cluster):
    """One follower's disk is slow: the others do not wait for it, and it catches up; the leader's does not
    cost leadership by itself."""
    with Disks(cluster, cluster.nodes, 96 * MIB) as disks:
        leader = cluster.start()
        follower = cluster.follower()
        ledger = load(cluster, leader, size=4000, rate=400, timeout_ms=30000)
        grows(leader, MIB // 2)
        if not disks[follower].throttle(200 << 10):
            print("# no block throttle here: the slow disk is not tested", flush=True)
        term = leader.state()["term"]
        grows(leader, 3 * MIB)
        disks[follower].throttle(0)
        wait_for(lambda: end_of(follower) >= end_of(leader) - MIB, "the slow node to catch up", 60)
        check(leader.state()["term"] == term, "a slow follower cost an election")
        result = stop(ledger)
        check(result["no"] == 0, f"a slow disk cost appends: {result}")
        settle(cluster)


# ---- other eyes ----

def looked_at(cluster):
    """Other programs read journal and segments, in the page cache too, all the time."""
    leader = cluster.start()
    ledger = load(cluster, leader, ack="mixed")
    over, rounds = threading.Event(), [0]

    def look():
        while not over.is_set():
            for node in cluster.nodes:
                for path in glob.glob(os.path.join(node.data, "w0", "journal")) + \
                        glob.glob(os.path.join(node.data, "w0", "log-1.*", "*.segment")):
                    try:
                        with open(path, "rb") as file:
                            while file.read(MIB):
                                pass
                    except OSError:
                        continue
            rounds[0] += 1
    looker = threading.Thread(target=look)
    looker.start()
    try:
        grows(leader, 8 * MIB, 60)
        wait_for(lambda: rounds[0] >= 3, "everything to be read thrice", 60)
        victim = cluster.follower()  # what it reads after a kill is what it wrote
        victim.power_cut()
        victim.start()
        wait_for(victim.state, "the node")
        grows(leader, MIB)
    finally:
        over.set()
        looker.join()
    stop(ledger)
    settle(cluster)


TESTS = [
    ("all disks are full", full_everywhere, SMALL),
    ("a single node's disk is full", full_everywhere, {"count": 1, **SMALL}),
    ("one disk of three is full", one_is_full, SMALL),
    ("retention keeps a log on its disk", retained, SMALL),
    *((f"{which} under a running node", functools.partial(file_goes, which=which), SMALL)
      for which in ("journal truncated", "journal removed", "votes replaced", "segment truncated", "segment removed")),
    ("the file system becomes read-only", read_only, SMALL),
    ("writes fail", io_error, SMALL),
    ("the leader's disk is stuck", stuck, SMALL),
    ("a follower's disk is slow", slow, {**SMALL, **CALM}),
    ("other programs read the files", looked_at, SMALL),
]

if __name__ == "__main__":
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        print(f"1..{len(TESTS)}")
        for number, (name, _, _) in enumerate(TESTS, 1):
            print(f"ok {number} - {name} # SKIP needs root and loop devices")
        sys.exit(0)
    sys.exit(run_tests(TESTS))
