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
    table = run("status", "--socket", leader.socket).decode()
    check(all(word in table for word in (" leader ", "behind: memory", "disk   write p50", "link   node ")), table)
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


def described(node, *arguments, code=0):
    return json.loads(run(*arguments, "--json", "--socket", node.socket, code=code) or b"null")


def logs(cluster):
    """Logs come, are configured, trimmed and go, by name and number, from any node."""
    leader = cluster.start()
    node = cluster.nodes[0]
    made = described(node, "log", "create", "orders", "--segment", "1MiB", "--arena", "2MiB", "--retention-age", "24h")
    check((made["name"], made["segment"], made["retention_ns"]) == ("orders", 1 << 20, 24 * 3600 * 10**9), str(made))
    number = str(made["log"])
    for other in cluster.nodes:
        def listed():
            names = run("log", "ls", "--names", "--socket", other.socket).decode().split()
            return "orders" in names and "default" in names
        wait_for(listed, f"node {other.id} to list the log")
    run("log", "create", "orders", "--socket", node.socket, code=1)  # there is one
    run("log", "create", "2orders", "--socket", node.socket, code=1)  # no name
    run("log", "create", "x", "--segment", "3MiB", "--socket", node.socket, code=1)
    described(cluster.nodes[1], "log", "configure", "orders", "--retention-bytes", "1GiB")

    def configured():
        info = described(cluster.nodes[2], "log", "info", number)
        return (info["name"], info["retention_bytes"], info["retention_ns"]) == ("orders", 1 << 30, 24 * 3600 * 10**9)
    wait_for(configured, "retention at another node")
    append(node, os.urandom(6 << 20), "--log", "orders", "--raw", "--size", "64KiB")
    append(node, b"not here\n")
    holder = cluster.nodes[described(node, "log", "info", "orders")["leader"] - 1]
    others = [n for n in cluster.nodes if n is not holder]
    run("log", "trim", "orders", "--offset", "50", "--socket", others[0].socket)  # sent on to the leader
    wait_for(lambda: described(others[0], "log", "info", "orders")["base"] > 2 << 20, "the trim at a follower")
    run("log", "trim", "orders", "--keep-bytes", "1MiB", "--socket", holder.socket)
    wait_for(lambda: described(others[1], "log", "info", "orders")["base"] >= 4 << 20, "the second trim at a follower")
    rows = tail(node, "--log", "orders", "--json", "--count", "1").splitlines()
    check(json.loads(rows[0])["offset"] > 50, "begins behind what was trimmed")
    run("log", "rm", "orders", "--socket", node.socket, code=2)
    run("log", "rm", "default", "--yes", "--socket", node.socket, code=1)
    run("log", "rm", number, "--yes", "--socket", node.socket)
    wait_for(lambda: b"orders" not in run("log", "ls", "--names", "--socket", others[0].socket), "the log to be gone")
    run("append", "--log", "orders", "--socket", node.socket, code=1, data=b"x\n")
    check(tail(node) == b"not here\n", "another log is as it was")
    check(leader.process.poll() is None, "the leader runs")


def written(cluster):
    """Batches, conditions, fences, and a tail that is linearizable."""
    cluster.start()
    node = cluster.nodes[0]
    done = described_append(node, b"a\nb\n\nc\n\n\nd\n", "--batch")
    check((done["appended"], done["first_offset"], done["last_offset"]) == (4, 0, 3), str(done))
    done = described_append(node, b"".join(b"%d\n" % i for i in range(100)), "--batch", "7", "--if-offset", "4")
    check((done["appended"], done["first_offset"], done["last_offset"]) == (100, 4, 103), str(done))
    done = described_append(node, b"x\ny\n", "--if-offset", "103", code=1)
    check((done["appended"], done["refused"], done["error"]) == (0, 1, "LEAT_ECONDITION"), str(done))
    everywhere(cluster, 104)
    for other in cluster.nodes:
        where = described(other, "tail-position", "default")
        check(where["next_offset"] == 104, f"the tail at node {other.id}: {where}")
    check(described(node, "fence", "default", "3")["epoch"] == 3, "fence")
    run("fence", "--log", "default", "3", "--socket", node.socket, code=1)
    done = described_append(node, b"old\n", code=1)
    check(done["error"] == "LEAT_EFENCEDOUT", str(done))
    check(described_append(cluster.nodes[1], b"new\n", "--writer-epoch", "3")["appended"] == 1, "epoch 3")
    left_behind(cluster, node, [(b"young\n", ["--writer-epoch", "3"]), (b"old\n", ["--writer-epoch", "2"])])
    sessions = described(node, "session", "ls")["sessions"]
    check({s["last_error"] for s in sessions} >= {"LEAT_OK", "LEAT_EFENCEDOUT"}, str(sessions))
    check(all(s["last_time_ns"] > 10**18 and isinstance(s["last_time_ns"], int) for s in sessions), str(sessions))


def described_append(node, data, *options, code=0):
    return json.loads(run("append", "--socket", node.socket, "--json", "--quiet", *options, code=code, data=data))


def by_time(cluster):
    """From each record's own time, as nanoseconds and as dates, in segments and in the arena."""
    leader = cluster.start()
    append(leader, os.urandom(5 << 20), "--raw", "--size", "16KiB", "--in-flight", "1")
    everywhere(cluster, 320)
    for node in cluster.nodes:
        rows = [json.loads(line) for line in tail(node, "--json").splitlines()]
        for row in rows[::13]:
            want = next(r for r in rows if r["time_ns"] >= row["time_ns"])["offset"]
            first = json.loads(tail(node, "--from", f"time:{row['time_ns']}", "--count", "1", "--json"))
            check(first["offset"] == want, f"node {node.id}: time of {row['offset']} gives {first['offset']}")
        check(json.loads(tail(node, "--from", "time:-1h", "--count", "1", "--json"))["offset"] == 0, "an hour ago")
        check(tail(node, "--from", "time:2999-01-01") == b"", "the future")
        check(tail(node, "--from", "time:2001-01-01T00:00:00.5+02:00", "--count", "1") != b"", "long ago")


def watched(cluster):
    """status --watch goes on through a restart of the node and ends with 0; counters are flat."""
    leader = cluster.start()
    out = os.path.join(cluster.dir, "watched")
    with open(out, "wb") as file:
        process = subprocess.Popen([LEAT, "status", "--watch", "0.05", "--json", "--socket", leader.socket],
                                   stdout=file, stderr=subprocess.DEVNULL)
    cluster.helpers.append(process)

    def incarnations():
        with open(out, "rb") as file:
            return {json.loads(line)["incarnation"] for line in file.read().split(b"\n")[:-1]}
    wait_for(lambda: len(incarnations()) == 1, "a status")
    leader.kill()
    leader.start()
    wait_for(lambda: len(incarnations()) == 2, "a status after the restart")
    process.send_signal(signal.SIGINT)
    check(process.wait(10) == 0, f"status --watch ended with {process.returncode}")
    cluster.leader()
    flat = dict(line.rsplit(" ", 1) for line in run("counters", "--all", "--socket", leader.socket).decode().splitlines())
    check({"drops.CRC", "drops.crc"} & flat.keys() and {"port.rx_packets", "logs.1.elections"} <= flat.keys(), str(flat))
    check(all(value.isdigit() for value in flat.values()), "numbers")


def left_behind(cluster, node, wishes):
    """Clients that append a record each and are killed: their sessions stay. wishes: (line, options)."""
    def listed():
        return described(node, "session", "ls", "--log", "default")["sessions"]
    clients = [subprocess.Popen([LEAT, "append", "--quiet", "--socket", node.socket, *options], stdin=subprocess.PIPE,
                                stderr=subprocess.DEVNULL) for _, options in wishes]
    cluster.helpers += clients
    for client, (line, _) in zip(clients, wishes):
        client.stdin.write(line)
        client.stdin.flush()
    wait_for(lambda: sum(s["attached"] and s["last_sequence"] > 0 for s in listed()) == len(wishes), "what they appended")
    for client in clients:
        client.kill()
        client.wait()
        client.stdin.close()
    wait_for(lambda: not any(s["attached"] for s in listed()), "nobody to be attached")


def many_sessions(cluster):
    """A table of sessions that takes the node more than one pass to tell."""
    node = cluster.start()
    for number in range(0, 150, 10):
        left_behind(cluster, node, [(b"%d\n" % (number + i), ["--ack", "replicated"]) for i in range(10)])
    sessions = described(node, "session", "ls", "--log", "default")["sessions"]
    check([s["session"] for s in sessions] == list(range(1, 151)), "all sessions")
    check(sorted(s["last_offset"] for s in sessions) == list(range(150)), "and all they appended")
    lines = run("session", "ls", "--socket", node.socket).decode().splitlines()
    check(len(lines) == 151 and lines[0].split()[0] == "SESSION", f"{len(lines)} lines")


COMPLETE = """source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _leat; printf '%s\\n' "${COMPREPLY[@]}" """


def completed(cluster):
    """bash completion: commands, options, and the names of the node's logs."""
    node = cluster.start()
    run("log", "create", "orders", "--segment", "1MiB", "--arena", "2MiB", "--socket", node.socket)
    script = os.path.join(os.path.dirname(__file__), "..", "..", "tools", "leat.bash")

    def complete(*words):
        done = subprocess.run(["bash", "-c", COMPLETE, "bash", script, LEAT, *words], capture_output=True, text=True,
                              timeout=30 * PATIENCE)
        check(done.returncode == 0, f"complete {words}: {done.stderr}")
        return set(done.stdout.split())
    check(complete("ta") == {"tail", "tail-position"}, "a command")
    check(complete("log", "") == {"create", "ls", "info", "configure", "trim", "rm"}, "a command of two words")
    check("--writer-epoch" in complete("append", "--w"), "an option")
    check(complete("tail", "--level", "r") == {"replicated"}, "a level")
    check(complete("tail", "--socket", node.socket, "--log", "o") == {"orders"}, "a log")
    check({"orders", "default"} <= complete("log", "info", "--socket", node.socket, "--log", ""), "all logs")
    for command in ("append", "tail", "tail-position", "fence", "status", "counters", "transfer", "inspect", "verify"):
        help_text = run(command, "--help").decode()
        unknown = [o for o in complete(command, "--") if o != "--help" and o not in help_text]
        check(not unknown, f"{command} has no {unknown}")


TESTS = [
    ("logs come and go", logs, {}),
    ("batches, conditions, fences", written, {}),
    ("a log is read from a time", by_time, {"segment": "1MiB", "arena": "2MiB", "window": "512KiB",
                                            "largest_entry": "64KiB"}),
    ("a node is watched", watched, {"count": 1}),
    ("many sessions", many_sessions, {"count": 1}),
    ("bash completes", completed, {"count": 1}),
    ("round trips in every form, from each node", round_trips, {}),
    ("a log is followed", followed, {}),
    ("a cluster is looked at", looked_at, {}),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
