#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""leat append, tail, status, inspect and verify against real nodes: what goes in comes out byte for byte,
from each node, from any offset, in every form, and while it is followed."""
import base64
import json
import os
import random
import signal
import struct
import subprocess
import sys

from cluster import LEAT, PATIENCE, check, run_tests, wait_for


def run(*arguments, code=0, data=None):
    done = subprocess.run([LEAT, *arguments], input=data, capture_output=True, timeout=60 * PATIENCE)
    check(done.returncode == code, f"leat {' '.join(arguments[:4])}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def append(node, data, *options):
    run("append", "--socket", node.socket, *options, "-", data=data)


def tail(node, *options):
    return run("tail", "--socket", node.socket, *options)


def everywhere(cluster, count):
    for node in cluster.nodes:
        wait_for(lambda: (node.state() or {"next_offset": 0})["next_offset"] >= count, f"node {node.id} at {count}")


def prefixed(records):
    return b"".join(struct.pack("<I", len(r)) + r for r in records)


def round_trips(cluster):
    """Lines from one node, length-prefixed records from another, raw pieces from the third; all from all."""
    cluster.start()
    rng = random.Random(3)
    lines = [b"\n", b"a line\n", b"\xff\x00 no text\n", b"x" * 200000 + b"\n", b"\n", b"the last has no newline"]
    pieces = [b"", b"\n\n", rng.randbytes(1), rng.randbytes(256 * 1024), b"", rng.randbytes(70000)]
    raw = rng.randbytes(1000003)
    append(cluster.nodes[0], b"".join(lines))
    append(cluster.nodes[1], prefixed(pieces), "--length-prefix", "--ack", "replicated")
    append(cluster.nodes[2], raw, "--raw", "--size", "4096", "--in-flight", "7")
    records = lines + pieces + [raw[i:i + 4096] for i in range(0, len(raw), 4096)]
    everywhere(cluster, len(records))
    for node in cluster.nodes:
        check(tail(node) == b"".join(records), f"node {node.id}: raw")
        check(tail(node, "--length-prefix") == prefixed(records), f"node {node.id}: length-prefixed")
        rows = [json.loads(line) for line in tail(node, "--json").splitlines()]
        check([row["offset"] for row in rows] == list(range(len(records))), f"node {node.id}: offsets")
        data = [row["data"].encode() if "data" in row else base64.b64decode(row["data_base64"]) for row in rows]
        check(data == records, f"node {node.id}: json")
        positions = [row["position"] for row in rows]
        check(positions == sorted(set(positions)), f"node {node.id}: positions")
        for begin, count in ((0, 1), (5, 3), (7, 1), (len(records) - 1, 9)):
            read = tail(node, "--from", str(begin), "--count", str(count), "--length-prefix")
            check(read == prefixed(records[begin:begin + count]), f"node {node.id}: {count} from {begin}")
        check(tail(node, "--from", "end") == b"", f"node {node.id}: from the end")
        check(tail(node, "--ack", "replicated") == b"".join(records), f"node {node.id}: replicated")


def followed(cluster):
    """tail --follow on each node sees what comes, through the death of the leader; SIGINT ends it with 0."""
    leader = cluster.start()
    append(leader, b"before\n")
    everywhere(cluster, 1)
    survivors = [node for node in cluster.nodes if node is not leader]
    tails = []
    for node in survivors:
        out = os.path.join(cluster.dir, f"followed{node.id}")
        with open(out, "wb") as file:
            process = subprocess.Popen([LEAT, "tail", "--socket", node.socket, "--from", "start", "--follow"],
                                       stdout=file, stderr=subprocess.PIPE)
        cluster.helpers.append(process)
        tails.append((process, out))
    expected = b"before\n"
    for number in range(20):
        if number == 10:
            leader.kill()
        line = b"line %d\n" % number
        append(survivors[number % 2], line, "--timeout", "20")
        expected += line
    for process, out in tails:
        def arrived():
            with open(out, "rb") as file:
                return file.read() == expected
        wait_for(arrived, f"{out} to hold what was appended")
        process.send_signal(signal.SIGINT)
        check(process.wait(10) == 0, f"tail ended with {process.returncode}: {process.stderr.read()}")


def looked_at(cluster):
    """status in both forms; inspect and verify of stopped nodes; a reader that goes away."""
    leader = cluster.start()
    append(leader, b"".join(b"%d\n" % i for i in range(5000)))
    everywhere(cluster, 5000)
    status = json.loads(run("status", "--json", "--config", leader.config))
    check(status["node"] == leader.id and {"logs", "peers", "drops", "port", "disk"} <= status.keys(), "status")
    check(b"role: leader" in run("status", "--socket", leader.socket), "status as text")
    first = subprocess.run(f"{LEAT} tail --socket {leader.socket} | head -n 1; echo ${{PIPESTATUS[0]}}", shell=True,
                           executable="/bin/bash", capture_output=True, timeout=30)
    check(first.stdout == b"0\n0\n" and first.stderr == b"", f"tail | head: {first.stdout} {first.stderr}")
    cluster.level()
    cluster.verify_digests()
    for node in cluster.nodes:
        seen = run("inspect", node.data).decode()
        check(all(word in seen for word in ("identity", "vote", "journal", "segment")), f"inspect: {seen[:300]}")
        frames = run("inspect", node.data, "--frames").decode()
        check(frames.upper().count("RECORD") >= 5000, f"inspect --frames: {frames[:300]}")
        check(b"5000 records" in run("verify", node.data), "verify")


TESTS = [
    ("round trips in every form, from each node", round_trips, {}),
    ("a log is followed", followed, {}),
    ("a cluster is looked at", looked_at, {}),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
