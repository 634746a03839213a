#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trims, damaged disks and kills at random moments of real nodes under load; ledgers are audited and the
replicas compared byte by byte afterwards."""
import glob
import os
import random
import shutil
import subprocess
import sys
import time

from cluster import CALM, LEAT, LEATD, check, run_tests, wait_for

SMALL = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB"}
CALM_SMALL = {**SMALL, **CALM}
SEGMENT = 1 << 20
BLOCK = 4096


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"ack": "mixed", **options})
    return ledger


def end_of(node):
    return (node.state() or {"commit_durable": 0})["commit_durable"]


def grows(node, count, seconds=60):
    """Waits until the log of `node` is `count` bytes longer."""
    begin = wait_for(lambda: end_of(node), "status")
    wait_for(lambda: end_of(node) >= begin + count, f"{count} more bytes on node {node.id}", seconds)


def stop(ledger):
    result = ledger.stop()
    check(result["unknown"] == 0, f"appends ended as unknown: {result}")


def settle(cluster, *options):
    cluster.level()
    audit = cluster.audit(*options)
    check(audit["acknowledged"] > 0, "nothing was acknowledged")
    for node in cluster.running():
        check(not node.state()["damaged"] and not node.state()["amnesiac"], f"node {node.id} is not whole")
    cluster.verify_digests()
    return audit


def trim(cluster, position):
    """At whoever leads: under load a disk that falls behind hands over."""
    def trims():
        done = subprocess.run([LEAT, "trim", "1", "--position", str(position), "--socket", cluster.leader().socket],
                              capture_output=True, text=True, timeout=30)
        check(done.returncode == 0 or "does not lead" in done.stderr, f"trim: {done.stdout}{done.stderr}")
        return done.returncode == 0
    wait_for(trims, f"a trim to {position}")


def segments(node):
    """The files of log 1 by base."""
    return {int(os.path.basename(path).split(".")[0], 16): path
            for path in glob.glob(os.path.join(node.data, "w0", "log-1.*", "*.segment"))}


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes((byte ^ 0x10,)))
        file.flush()
        os.fsync(file.fileno())


# ---- trims ----

AHEAD = 2  # `segments_ahead`: so many trimmed files wait to be used again


def trimmed(cluster):
    """A follower is down while the log is trimmed beyond what it holds: it begins at the leader's base."""
    leader = cluster.start()
    follower = cluster.follower()
    ledger = load(cluster, leader, size=20000)
    grows(leader, 2 * SEGMENT)
    follower.kill()
    behind = end_of(leader)
    grows(leader, 8 * SEGMENT)
    goal = (end_of(leader) - 3 * SEGMENT) // SEGMENT * SEGMENT
    check(goal > behind, "the follower would not be behind")
    trim(cluster, goal + 100)
    for node in cluster.running():
        wait_for(lambda: node.state()["base"] == goal, f"node {node.id} to trim to {goal}")
        wait_for(lambda: goal - AHEAD * SEGMENT <= min(segments(node), default=0) <= goal,
                 f"node {node.id}'s oldest file to be {goal:x}, or one that waits to be used again")
    follower.start()
    wait_for(lambda: (follower.state() or {"base": 0})["base"] == goal and end_of(follower) > goal + SEGMENT,
             "the follower to begin at the leader's base", 30)
    wait_for(lambda: min(segments(follower), default=0) == goal, "the follower's old files to go")
    grows(follower, SEGMENT)
    stop(ledger)
    audit = settle(cluster, "--trimmed-allowed")
    check(audit["trimmed"] > 0 and audit["first"] > 0, f"nothing was trimmed: {audit}")
    read = subprocess.run([LEAT, "tail", "--socket", follower.socket, "--from", "0"], capture_output=True)
    check(read.returncode == 3, "a stopped node answered")

    for node in cluster.nodes:  # a rack's restart of a trimmed log
        node.start()
    leader = cluster.leader()
    ledger = load(cluster, cluster.follower(), size=20000)
    grows(leader, 2 * SEGMENT)
    stop(ledger)
    for node in cluster.nodes:
        check(node.state()["base"] == goal, f"node {node.id} begins elsewhere after a restart")
    done = subprocess.run([LEAT, "tail", "--socket", leader.socket, "--from", "0", "--count", "1"],
                          capture_output=True, text=True, errors="replace", timeout=30)
    check(done.returncode == 0 and f"going on at offset {audit['first']}" in done.stderr, f"tail: {done.stderr}")
    settle(cluster, "--trimmed-allowed")


# ---- damage ----

def stopped_follower(cluster, clean):
    """A follower with some segments of log, stopped; and what it held durable."""
    leader = cluster.start()
    follower = cluster.follower()
    ledger = load(cluster, leader, size=5000)
    grows(follower, 2 * SEGMENT + SEGMENT // 2)
    stop(ledger)
    cluster.level()
    end = follower.state()["durable"]
    if clean:
        follower.stop()
        shutil.rmtree(follower.arena, ignore_errors=True)
    else:
        follower.kill()  # memory is left and must not hide the damage from the disk
    return leader, follower, end


def mended(cluster, leader, follower, said):
    """Started again under load, it says what is wrong, disturbs nobody and ends like the others."""
    term = leader.state()["term"]
    ledger = load(cluster, leader, size=5000)
    follower.start()
    wait_for(follower.state, "the damaged node to answer")
    check(follower.says(said), f"'{said}' was not said: {follower.last_lines(12)}")
    grows(follower, SEGMENT)
    wait_for(lambda: not follower.state()["damaged"] and not follower.state()["amnesiac"], "the repair")
    check(follower.state()["counters"]["elections"] == 0, "the damaged node campaigned")
    check(leader.state()["term"] == term, "the damaged node cost an election")
    stop(ledger)
    settle(cluster)


def segment_damaged(cluster):
    leader, follower, end = stopped_follower(cluster, clean=True)
    base = max(b for b in segments(follower) if b < end)
    flip(segments(follower)[base], (end - base) // 2)
    mended(cluster, leader, follower, "damaged at")


def segment_damaged_with_memory(cluster):
    leader, follower, end = stopped_follower(cluster, clean=False)
    base = max(b for b in segments(follower) if b < end)
    flip(segments(follower)[base], (end - base) // 2)
    mended(cluster, leader, follower, "log 1: ")


def sealed_segment_damaged(cluster):
    """Damage in an older segment: `leat verify` names it and the place."""
    _, follower, _ = stopped_follower(cluster, clean=True)
    base = sorted(segments(follower))[1]
    flip(segments(follower)[base], SEGMENT // 2)
    done = subprocess.run([LEAT, "verify", follower.data], capture_output=True, text=True, timeout=60)
    check(done.returncode == 5 and follower.data in done.stderr, f"verify: {done.returncode} {done.stderr}")


def journal_records(node):
    """(sequence, byte offset) of the node's journal records, oldest first."""
    with open(os.path.join(node.data, "identity"), "rb") as file:
        uuid = file.read(48)[32:48]
    found = []
    with open(os.path.join(node.data, "w0", "journal"), "rb") as file:
        at = 0
        while head := file.read(BLOCK):
            if head[16:32] == uuid:
                found.append((int.from_bytes(head[40:48], "little"), at))
            at += BLOCK
    return sorted(found)


def journal_damaged(cluster):
    """The newest record, then one in the middle: the first is a torn write to the node, the second damage
    or superseded. Either way it ends like the others."""
    for place in (-1, -20):
        leader, follower, _ = stopped_follower(cluster, clean=True) if place == -1 else again(cluster)
        _, at = journal_records(follower)[place]
        flip(os.path.join(follower.data, "w0", "journal"), at + 200)
        mended(cluster, leader, follower, "log 1: recovered")


def again(cluster):
    for node in cluster.nodes:
        node.start()
    leader = cluster.leader()
    follower = cluster.follower()
    ledger = load(cluster, leader, size=5000)
    grows(follower, SEGMENT)
    stop(ledger)
    cluster.level()
    end = follower.state()["durable"]
    follower.kill()
    return leader, follower, end


def votes_damaged(cluster):
    leader, follower, _ = stopped_follower(cluster, clean=True)
    votes = os.path.join(follower.data, "w0", "votes")
    flip(votes, 30)
    mended(cluster, leader, follower, "clean stop")
    flip(votes, 30)
    flip(votes, (64 << 10) + 30)
    done = subprocess.run([LEATD, "--config", follower.config], capture_output=True, text=True, timeout=30)
    check(done.returncode == 1 and "vote slots" in done.stderr, f"both slots bad: {done.returncode} {done.stderr}")


# ---- kills at random moments ----

def killed_at_random(cluster):
    cluster.start()
    rng = random.Random(23)
    for turn in range(20):
        ledgers = [load(cluster, node, threads=1, timeout_ms=30000, size=rng.choice((64, 3000, 60000)))
                   for node in cluster.nodes]
        time.sleep(rng.uniform(0.02, 0.4))
        victims = rng.sample(cluster.nodes, rng.choice((1, 1, 1, 2, 3)))
        for victim in victims:
            victim.kill()
            time.sleep(rng.choice((0, 0, 0.05)))
        time.sleep(rng.uniform(0, 0.3))
        rng.shuffle(victims)
        for victim in victims:
            victim.start()
        leader = cluster.leader()
        grows(leader, 20000)
        for ledger in ledgers:
            stop(ledger)
        cluster.level()
        if turn % 5 == 4:  # it reads all of the log, on each node
            cluster.audit()
    settle(cluster)


def every_replica_damaged(cluster):
    """What nobody can bring back keeps the log without a leader until an operator gives it up."""
    leader = cluster.start()
    ledger = load(cluster, leader, size=5000)
    grows(leader, SEGMENT)
    stop(ledger)
    cluster.level()
    end = leader.state()["durable"]
    for node in cluster.nodes:
        node.stop()  # a clean stop: all of it counts as acknowledged
        shutil.rmtree(node.arena, ignore_errors=True)
    for node in cluster.nodes:
        base = max(b for b in segments(node) if b < end)
        flip(segments(node)[base], (end - base) // 2)
        node.start()
    for node in cluster.nodes:
        wait_for(lambda: node.state() and node.state()["damaged"], f"node {node.id} to say that it is damaged")

    def ask(node):
        done = subprocess.run([LEAT, "damage", "accept", "1", "--socket", node.socket], capture_output=True, text=True,
                              timeout=30)
        check(done.returncode == 0, f"damage accept: {done.stderr}")
        return done.stdout
    elections = [node.state()["counters"]["elections"] for node in cluster.nodes]
    check("may be lost" in ask(cluster.nodes[0]), "what may be lost")
    check("is not damaged" in ask(cluster.nodes[0]), "accepted once")
    check(cluster.nodes[0].state()["counters"]["damage_accepted"] == 1, "it is counted")
    check(all(node.state()["counters"]["elections"] == before for node, before in zip(cluster.nodes, elections)),
          "the two that claim more do not elect the one that gave it up")
    ask(cluster.nodes[1])
    cluster.leader()
    wait_for(lambda: not cluster.nodes[2].state()["damaged"], "the third takes what the log is now")
    done = subprocess.run([LEAT, "append", "--socket", cluster.nodes[2].socket], input="and on\n", capture_output=True,
                          text=True, timeout=60)
    check(done.returncode == 0, f"append: {done.stderr}")


TESTS = [
    ("a trim, and a follower that was down meanwhile", trimmed, SMALL),
    ("a bit of the last segment flips", segment_damaged, CALM_SMALL),
    ("a bit of the last segment flips while memory is whole", segment_damaged_with_memory, CALM_SMALL),
    ("a bit of a sealed segment flips", sealed_segment_damaged, SMALL),
    ("bits of the journal flip", journal_damaged, CALM_SMALL),
    ("vote slots are damaged", votes_damaged, CALM_SMALL),
    ("every replica is damaged", every_replica_damaged, SMALL),
    ("killed at random moments", killed_at_random, SMALL),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
