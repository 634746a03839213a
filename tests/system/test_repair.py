#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bits flip in sealed segments of a minority of the nodes, at rest and under running ones: the scrub and
the reads find it, peers' bytes repair it, readers are never given wrong ones, and at the end all replicas
are the same byte by byte."""
import glob
import os
import random
import subprocess
import sys

from cluster import LEAT, LEDGER, Library, check, run_tests, wait_for

SEGMENT = 1 << 20
BLOCK = 4096
HEADER = 48
RECORD, PAD, BASE = 1, 2, 4
RATE = 1e-6  # of bits
SMALL = {"segment": "1MiB", "arena": "2MiB", "window": "512KiB", "largest_entry": "64KiB", "scrub": "200MiB"}


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"ack": "mixed", "threads": 1, **options})
    return ledger


def end_of(node, log=1):
    return (node.state(log) or {"commit_durable": 0})["commit_durable"]


def fill(cluster, node, logs, count, **options):
    """`count` bytes more in each of the logs, by honest clients whose ledgers are kept."""
    begin = {log: wait_for(lambda: end_of(node, log), "status") for log in logs}
    ledgers = [load(cluster, node, log=log, **options) for log in logs]
    for log in logs:
        wait_for(lambda: end_of(node, log) >= begin[log] + count, f"{count} more bytes in log {log}", 60)
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0 and result["ok"] > 0, f"appends failed: {result}")


def segments(node, log):
    """The sealed ones: all of whose bytes are committed, by base."""
    files = {int(os.path.basename(path).split(".")[0], 16): path
             for path in glob.glob(os.path.join(node.data, "w*", f"log-{log}.*", "*.segment"))}
    return {base: path for base, path in files.items() if base + SEGMENT <= node.sealed_end[log]}


def remember(cluster, logs):
    """What is sealed by now; the newest sealed one is left alone, where recovery may begin."""
    cluster.level()
    for node in cluster.nodes:
        node.sealed_end = {log: end_of(node, log) // SEGMENT * SEGMENT - SEGMENT for log in logs}


def frames(path):
    """(place, type, length) of each frame of a segment file."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at + HEADER <= SEGMENT:
        length = int.from_bytes(data[at:at + 4], "little")
        if length < HEADER:
            break
        yield at, int.from_bytes(data[at + 4:at + 6], "little"), length
        at = at + length + 7 & ~7
        if SEGMENT - at < 80:
            break


def flip(path, place, bit):
    with open(path, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes((byte ^ 1 << bit,)), place)
        os.fsync(file.fileno())


def flip_kinds(node, logs, rng):
    """One bit in every kind of place. Returns how many."""
    wanted = {"base": (BASE, 100), "header": (RECORD, 24), "payload": (RECORD, HEADER + 40), "length": (RECORD, 1),
              "pad": (PAD, 16), "pad body": (PAD, HEADER + 8), "crc": (RECORD, 9), "chain": (RECORD, 13)}
    places = [(log, base, path) for log in logs for base, path in segments(node, log).items()]
    rng.shuffle(places)
    done = 0
    for log, base, path in places:
        if not wanted:
            break
        found = list(frames(path))
        rng.shuffle(found)
        for name, (kind, within) in list(wanted.items()):
            frame = next((f for f in found if f[1] == kind and f[2] > within), None)
            if frame:
                flip(path, frame[0] + within, rng.randrange(8))
                del wanted[name]
                done += 1
                break  # one a segment, so that each is found as itself
    check(not set(wanted) & {"base", "header", "payload", "length", "crc", "chain"},
          f"no place for a flip in {sorted(wanted)}: {len(places)} segments")
    return done


def flip_bits(node, logs, rng):
    """Bits of all sealed segments at RATE. Returns how many."""
    count = 0
    for log in logs:
        for path in segments(node, log).values():
            bits = SEGMENT * 8
            at = int(rng.expovariate(RATE))
            while at < bits:
                flip(path, at // 8, at % 8)
                count += 1
                at += 1 + int(rng.expovariate(RATE))
    return count


def verify(node):
    return subprocess.run([LEAT, "verify", node.data], capture_output=True, text=True, timeout=120)


def counted(node, logs, name):
    return sum((node.state(log) or {"counters": {name: 0}})["counters"][name] for log in logs)


def repaired(cluster, node, logs, damaged_paths):
    wait_for(lambda: counted(node, logs, "damages") > 0, f"node {node.id} to find damage", 60)

    left = dict(damaged_paths)

    def clean():  # what was found whole is not read again: this takes the nodes' cores
        while left and read(next(iter(left))) == left[next(iter(left))]:
            del left[next(iter(left))]
        return not left
    wait_for(clean, f"node {node.id}'s segments to be as they were", 80)
    check(counted(node, logs, "repairs") > 0, "no repair was counted")


def read(path):
    try:
        with open(path, "rb") as file:
            return hash(file.read())
    except OSError:
        return None


def picture(node, logs):
    return {path: read(path) for log in logs for path in segments(node, log).values()}


def several(cluster, leader):
    library = Library()
    return [1] + [library.must_create(leader, f"more-{i}", segment_bytes=SEGMENT, arena_bytes=2 * SEGMENT,
                                      entry_bytes_max=64 << 10, accepts_replicated=1) for i in range(2)]


def read_everything(node, logs):
    """A reader of a node with damage is given what is right, or an error. Records carry a CRC of their own,
    and offsets are dense."""
    outcomes = []
    for log in logs:
        done = subprocess.run([LEDGER, "audit", "--socket", node.socket, "--log", str(log)], capture_output=True,
                              text=True, timeout=120)
        refused = done.returncode == 1 and "reading: " in done.stderr
        check(done.returncode == 0 or refused, f"a reader of log {log}: {done.stdout} {done.stderr}")
        outcomes.append(refused)
    return outcomes


def at_rest(cluster, victims):
    rng = random.Random(31)
    leader = cluster.start()
    logs = several(cluster, leader)
    fill(cluster, leader, logs, 5 * SEGMENT, size=20000)
    fill(cluster, leader, logs[:1], 2 * SEGMENT, size=300)
    remember(cluster, logs)
    pictures = {}
    for node in cluster.nodes[:victims]:
        node.stop()
        pictures[node] = picture(node, logs)
        check(verify(node).returncode == 0, "damaged before anything was done to it")
        flips = flip_kinds(node, logs, rng) + flip_bits(node, logs, rng)
        check(flips >= 8, f"only {flips} bits were flipped")
        done = verify(node)
        check(done.returncode == 5 and node.data in done.stderr, f"verify: {done.returncode} {done.stderr}")
    for node in pictures:
        node.start()
    leader = cluster.leader()
    fill(cluster, leader, logs, SEGMENT, size=5000)  # it serves while it is repaired
    for node, before in pictures.items():
        repaired(cluster, node, logs, before)
    settle(cluster)


def one_at_rest(cluster):
    at_rest(cluster, 1)


def two_at_rest(cluster):
    at_rest(cluster, 2)


def settle(cluster):
    cluster.level()
    audit = cluster.audit()
    check(audit["acknowledged"] > 0, "nothing was acknowledged")
    for node in cluster.running():
        check(not node.state()["damaged"], f"node {node.id} is damaged still")
    cluster.verify_digests()


def while_running(cluster):
    """Bits flip in the files of running nodes, between writes, again and again, while clients append and
    read; a read that meets damage before the scrub does is refused or right."""
    rng = random.Random(37)
    leader = cluster.start()
    logs = several(cluster, leader)
    fill(cluster, leader, logs, 4 * SEGMENT, size=20000)
    fill(cluster, leader, logs[:1], SEGMENT, size=300)
    remember(cluster, logs)
    ledgers = [load(cluster, leader, log=log, size=2000, rate=1500) for log in logs]
    victims = [leader, next(n for n in cluster.nodes if n is not leader)][:(len(cluster.nodes) - 1) // 2]
    for round_number in range(2):
        pictures = {node: picture(node, logs) for node in victims}
        for node in victims:
            flips = flip_kinds(node, logs, rng) + flip_bits(node, logs, rng)
            check(flips >= 7, f"only {flips} bits were flipped")
        for node in victims:
            read_everything(node, logs)
            repaired(cluster, node, logs, pictures[node])
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0 and result["ok"] > 500, f"appends failed: {result}")
    settle(cluster)


def catching_up(cluster, disk_only=False):
    """A follower comes back and catches up from the disk of a leader with damage."""
    rng = random.Random(41)
    leader = cluster.start()
    follower = cluster.follower()
    fill(cluster, leader, [1], SEGMENT, size=20000)
    follower.kill()
    behind = end_of(leader) // SEGMENT * SEGMENT
    fill(cluster, leader, [1], 7 * SEGMENT, size=20000)
    leader.sealed_end = {1: end_of(leader) // SEGMENT * SEGMENT - SEGMENT}
    below = leader.sealed_end[1] - (2 * SEGMENT if disk_only else 0)  # what is above may come from the arena
    hit = {base: path for base, path in segments(leader, 1).items() if behind + SEGMENT <= base < below}
    check(len(hit) >= 3, f"{len(hit)} segments to catch up from")
    before = {path: read(path) for path in hit.values()}
    for path in hit.values():
        flip(path, rng.randrange(SEGMENT // 4, SEGMENT), rng.randrange(8))
    follower.start()
    wait_for(lambda: end_of(follower) == end_of(leader), "the follower to catch up", 60)
    if disk_only:  # what nobody needed stays as it is; another leader may have taken over meanwhile
        check(leader.state()["counters"]["repairs"] > 0 or leader.state()["role"] != "leader", "nothing was repaired")
        return
    wait_for(lambda: all(read(path) == good for path, good in before.items()), "the leader's disk to be repaired", 60)
    settle(cluster)


def catching_up_unscrubbed(cluster):
    """The same with the scrub off: what the follower refuses makes the leader look."""
    catching_up(cluster, disk_only=True)


def where_recovery_begins(cluster):
    """Bits of the segments that recovery begins in flip while the node is down."""
    for within in (100, SEGMENT // 2):
        leader = cluster.leader() if cluster.running() else cluster.start()
        fill(cluster, leader, [1], 3 * SEGMENT, size=20000)
        follower = cluster.follower()
        cluster.level()
        end = end_of(follower)
        follower.stop()
        follower.sealed_end = {1: end}
        hit = {path: base for base, path in segments(follower, 1).items() if base >= (end // SEGMENT - 2) * SEGMENT}
        sealed = {path: read(path) for path, base in hit.items() if base + SEGMENT <= end}
        for path in hit:
            flip(path, within, 3)
        follower.start()
        wait_for(follower.state, "the damaged node to answer")
        fill(cluster, leader, [1], SEGMENT, size=20000)
        wait_for(lambda: not follower.state()["damaged"], "the repair", 60)
        # what is below where recovery began is the scrub's; it mends it in its turn
        wait_for(lambda: all(read(path) == good for path, good in sealed.items()), "the scrub to repair the rest", 60)
    settle(cluster)


TESTS = [
    ("one of three, at rest", one_at_rest, SMALL),
    ("two of five, at rest", two_at_rest, {"count": 5, **SMALL}),
    ("one of three, running", while_running, SMALL),
    ("two of five, running", while_running, {"count": 5, **SMALL}),
    ("a follower catches up from damage", catching_up, SMALL),
    ("a follower catches up from damage, no scrub", catching_up_unscrubbed, {**SMALL, "scrub": "0"}),
    ("where recovery begins", where_recovery_begins, SMALL),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
