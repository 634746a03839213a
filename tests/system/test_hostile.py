#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of another uid that keep to no rule (hostile.c), on the leader's and on followers' hosts, while
ledgers of honest ones are kept: only the hostile sessions suffer, refusals are counted, and what one costs
the others is bounded. Needs root, to be another user."""
import json
import os
import statistics
import subprocess
import sys
import time

from cluster import BUILD, PATIENCE, Failure, Library, check, run_tests, wait_for

HOSTILE = os.path.join(BUILD, "tests", "system", "hostile")
UID = 65533
OTHER_UID = 65532
QUOTAS = ("clients: {uids: [65533, 65532]}\n"
          "quotas: {sessions: 6, memory: 4MiB, logs: 3}\n")
SMALL = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB", "more": QUOTAS}
EQUOTA, ENOLOG, EPERM = -38, -4, -14


def hostile(cluster, node, *arguments, uid=UID):
    process = subprocess.Popen([HOSTILE, "--socket", node.socket, "--uid", str(uid), *map(str, arguments)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cluster.helpers.append(process)
    return process


def said(process, seconds=60):
    """Ends it and returns what it said, one object a line."""
    out, err = process.communicate(timeout=seconds * PATIENCE)
    check(process.returncode == 0, f"hostile: exit {process.returncode}: {err.strip()}")
    return [json.loads(line) for line in out.splitlines()]


def line_of(process):
    line = process.stdout.readline()
    if not line:
        raise Failure(f"hostile ended: {process.stderr.read().strip()}")
    return json.loads(line)


def start(cluster):
    os.chmod(cluster.dir, 0o755)  # the sockets are in it
    leader = cluster.start()
    log = Library().must_create(leader, "hostile", segment_bytes=1 << 20, arena_bytes=4 << 20, accepts_replicated=1)
    check(log == 2, "hostile.c has another log in mind")
    return leader


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"ack": "mixed", "threads": 1, "rate": 3000, **options})
    return ledger


def records(node):
    return (node.state() or {"next_offset": -1})["next_offset"]


def grows(node, count, seconds=30):
    begin = wait_for(lambda: records(node) + 1, "status") - 1
    wait_for(lambda: records(node) >= begin + count, f"{count} more records on node {node.id}", seconds)


def settle(cluster, ledgers, *options):
    """The honest ones' appends all ended well and are all there, once, in order, everywhere."""
    for ledger in ledgers:
        result = ledger.stop()
        check(result["ok"] > 300, f"an honest client did too little: {result}")
        check(result["unknown"] == 0 and result["no"] == 0 and result["sessions_lost"] == 0,
              f"an honest client suffered: {result}")
    for node in cluster.nodes:
        check(node.process.poll() is None, f"node {node.id} ended")
    cluster.level()
    audit = cluster.audit("--foreign-allowed", *options)
    cluster.verify_digests()
    return audit


def counted(nodes, *path):
    total = 0
    for node in nodes:
        value = wait_for(node.status, "status")
        for name in path:
            value = value[name]
        total += value
    return total


def honest(cluster, leader):
    follower = next(node for node in cluster.nodes if node is not leader)
    return [load(cluster, leader), load(cluster, follower)]


def scribbled(cluster):
    """Rings scribbled over while the node reads them, at the leader and at a follower."""
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    grows(leader, 1000)
    attackers = [hostile(cluster, node, "scribble", 8, 100 + node.id) for node in cluster.nodes[:2]]
    results = [said(each)[0] for each in attackers]
    for result in results:
        check(result["attached"] > 15 and result["written"] > 100000 and result["published"] > 1000,
              f"too little was scribbled: {result}")
    check(sum(r["let_go"] for r in results) > 10, f"hardly any breach was seen: {results}")
    violations = counted(cluster.nodes, "client_violations")
    check(violations >= sum(r["let_go"] for r in results), f"{violations} counted, {results}")
    grows(leader, 1000)
    audit = settle(cluster, ledgers)
    check(audit["foreign"] > 100, f"nothing of the hostile clients was taken: {audit}")


def died(cluster):
    """Hundreds of clients are killed at random moments."""
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    attackers = [hostile(cluster, node, "die", 250, node.id) for node in cluster.nodes[:2]]
    for each in attackers:
        check(said(each)[0]["killed"] == 250, "too few died")
    wait_for(lambda: counted(cluster.nodes, "control", "attached") == 2, "the dead to be let go of")
    grows(leader, 1000)
    settle(cluster, ledgers)


def took_nothing(cluster):
    """Clients that fill their rings and take no completion, on the leader's and on a follower's host."""
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    gluttons = [hostile(cluster, node, "glutton") for node in cluster.nodes[:2] for _ in range(2)]
    for each in gluttons:
        result = line_of(each)
        check(result["closed"] == 0, f"it was let go: {result}")
        check(result["completions"] == 256 and 256 <= result["published"] <= 1024,
              f"more completions than there is room for, or not all: {result}")
    grows(leader, 2000)
    for each in gluttons:
        each.stdin.close()
        check(each.wait(20) == 0, "a glutton did not end")
    wait_for(lambda: counted(cluster.nodes, "control", "attached") == 2, "the gluttons' rings to be given back")
    settle(cluster, ledgers)


def grabbed(cluster):
    """What is passed to a client can be read and not changed."""
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    ledgers.append(load(cluster, leader, size=20000))
    wait_for(lambda: leader.state()["commit_durable"] > 3 << 20, "sealed segments")
    index = os.path.join(leader.data, "w0", "log-1.1", f"{0:016x}.index")
    wait_for(lambda: os.path.exists(index), "the first segment's index")
    for node in cluster.nodes:
        result = said(hostile(cluster, node, "grab"))[0]
        check(not result["done"], f"a client could: {result['done']}")
        check(result["tried"] > 50 and result["punched_before"] == 1, f"too little was tried: {result}")
    grows(leader, 1000)
    settle(cluster, ledgers)


def restarted(cluster):
    """A client that goes on in the ring of a node that was started anew says nothing to anybody."""
    leader = start(cluster)
    node = next(n for n in cluster.nodes if n is not leader)
    ledgers = [load(cluster, leader)]
    stale = hostile(cluster, node, "stale")
    check(line_of(stale)["published"] == 100, "it could not begin")
    grows(leader, 500)
    node.kill()
    node.start()
    wait_for(node.state, "the node to be back")
    before = counted([node], "client_violations")
    stale.stdin.write("go on\n")
    result = said(stale)[0]
    check(result["answered"] == 0 and result["asked"] < 0, f"somebody answered: {result}")
    check(counted([node], "client_violations") == before, "the new node looked at an old ring")
    grows(leader, 500)
    settle(cluster, ledgers)


def flooded(cluster):
    """Garbage, replies that nobody reads, and more connections than a user may have."""
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    grows(leader, 500)
    attackers = [hostile(cluster, node, "flood", 8, node.id, uid=uid)
                 for node in cluster.nodes[:2] for uid in (UID, OTHER_UID, 65531)]  # the last may not attach
    begin = time.monotonic()
    answers = 0
    while time.monotonic() < begin + 6:  # the operator's questions are answered meanwhile
        answers += leader.status() is not None
    check(answers > 5, f"the operator got {answers} answers in 6 s")
    for each in attackers:
        result = said(each)[0]
        check(result["sent"] > 500 and result["connected"] > 20, f"too little was sent: {result}")
    for name in ("refused_full", "refused_user", "refused_requests"):
        count = counted(cluster.nodes[:2], "control", name)
        check(count >= 10, f"only {count} counted as {name}")
    late = load(cluster, leader)  # and another honest client comes in
    grows(leader, 3000)
    settle(cluster, [*ledgers, late])


# ---- quotas ----

def refused_at(cluster, node, ring_bytes, count, word):
    process = hostile(cluster, node, "sessions", ring_bytes)
    result = line_of(process)
    check(result["attached"] == count and result["error"] == EQUOTA and word in result["text"],
          f"{count} were to go in, and {word} to be named: {result}")
    return process


def quotas(cluster):
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    sessions = refused_at(cluster, leader, 64 << 10, 6, "quotas.sessions")
    other = hostile(cluster, leader, "sessions", 64 << 10, uid=OTHER_UID)  # another user has its own
    check(line_of(other)["attached"] == 6, "one user's sessions counted for another's")
    memory = refused_at(cluster, cluster.nodes[leader.id % 3], 1 << 20, 3, "quotas.memory")
    for process in (sessions, other, memory):
        check(said(process)[0]["again"] == 0, "what was given back was not to be had again")
    made, again, last = said(hostile(cluster, leader, "logs", 5))
    for result in (made, again):
        check(result["made"] == 3 and result["error"] == EQUOTA and "quotas.logs" in result["text"],
              f"3 logs were to be made: {result}")
    check(last["deleted"] == 0 and last["log_1"] == EPERM, f"deleting: {last}")
    settle(cluster, ledgers)


def log_sessions(cluster):
    """One user cannot take every session of a log: it is refused, others still open theirs."""
    leader = start(cluster)
    ledgers = honest(cluster, leader)
    grows(leader, 500)
    attackers = [hostile(cluster, node, "churn", 200) for node in cluster.nodes]
    results = [said(each, 80)[0] for each in attackers]
    check(sum(r["taken"] for r in results) == 512 and sum(r["refused"] for r in results) == 88,
          f"512 sessions were to be had: {results}")
    check(512 < leader.state()["sessions"] <= 516, f"{leader.state()['sessions']} sessions are held")
    other = said(hostile(cluster, leader, "churn", 5, uid=OTHER_UID))[0]
    check(other["taken"] == 5, f"another user was refused: {other}")
    late = load(cluster, cluster.nodes[leader.id % 3])
    grows(leader, 2000)
    settle(cluster, [*ledgers, late])


# ---- what one costs ----

def p50_us(cluster, node, seconds):
    """The median of an honest client's durable appends, one at a time."""
    ledger = cluster.ledger()
    ledger.start(node, ack="durable", threads=1, inflight=1, seconds=seconds, size=64)
    result = ledger.finish()
    check(result["ok"] > 40 and result["no"] == result["unknown"] == 0, f"an honest client suffered: {result}")
    return result["p50_us"]


def cost(cluster):
    """An honest client's median beside a hostile one that asks for all that the pass budget gives it, against its
    median beside an honest one that keeps as much in flight: both in turns, in one run."""
    leader = start(cluster)
    beside = {"hostile": [], "honest": []}
    for _ in range(3):
        ledger = cluster.ledger()
        ledger.start(leader, ack="durable", threads=1, inflight=IN_FLIGHT, seconds=4, size=64)
        grows(leader, 2000)
        beside["honest"].append(p50_us(cluster, leader, 1.5))
        grows(leader, 2000)  # it was busy to the end
        ledger.finish()
        busy = hostile(cluster, leader, "busy", 4)
        grows(leader, 2000)
        beside["hostile"].append(p50_us(cluster, leader, 1.5))
        grows(leader, 2000)
        result = said(busy)[0]
        check(result["ended"] > 4000 and result["closed"] == 0, f"it was not busy: {result}")
    medians = {name: statistics.median(each) for name, each in beside.items()}
    print(f"# p50 beside a busy honest client {medians['honest']:.0f} us, beside a hostile one {medians['hostile']:.0f} us",
          flush=True)
    check(medians["hostile"] < COST_RATIO_MAX * medians["honest"], f"a hostile client costs too much: {beside}")
    settle(cluster, [])


COST_RATIO_MAX = 3
IN_FLIGHT = 8192  # completions that the hostile one has room for

TESTS = [
    ("rings are scribbled over", scribbled, SMALL),
    ("clients die at random moments", died, SMALL),
    ("clients take no completions", took_nothing, SMALL),
    ("descriptors cannot be changed", grabbed, SMALL),
    ("a ring from before the node's restart", restarted, SMALL),
    ("the control socket is flooded", flooded, SMALL),
    ("quotas of sessions, memory and logs", quotas, SMALL),
    ("one user's share of a log's sessions", log_sessions, SMALL),
    ("what one client costs another", cost, SMALL),
]

if __name__ == "__main__":
    if os.geteuid() != 0:
        print(f"1..{len(TESTS)}")
        for number, (name, _, _) in enumerate(TESTS, 1):
            print(f"ok {number} - {name} # SKIP needs root to be another user")
        sys.exit(0)
    sys.exit(run_tests(TESTS))
