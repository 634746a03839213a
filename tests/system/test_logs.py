#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many logs on several workers of real nodes: made, filled, deleted, trimmed by retention, while nodes die."""
import os
import subprocess
import sys
import threading

from cluster import LEAT, Library, check, run_tests, wait_for

MIB = 1 << 20
SMALL = {"segment_bytes": MIB, "arena_bytes": 4 * MIB, "entry_bytes_max": 65536}
EEXISTS, EINVAL, EBUDGET, EQUOTA, ENOLOG = -26, -1, -39, -38, -4
REFUSED, UNKNOWN = 1, 4  # exit codes of leat: certainly not in the log; it may be


def start(cluster):
    cluster.start()
    wait_for(lambda: all(node.status() for node in cluster.nodes), "every node up", 30)


def names(library, node):
    return {entry.name.decode(): entry.log for entry in library.logs(node)}


def make(library, node, name, **settings):
    error, log, why = library.create(node, name, **{**SMALL, **settings})
    check(error == 0, f"creating {name}: {error} {why}")
    return log


def everywhere(cluster, log):
    """Every running node has the log, and knows its leader."""
    def there():
        states = [node.state(log) for node in cluster.running()]
        return all(states) and all(s["leader"] for s in states)
    wait_for(there, f"log {log} on every node", 30)


def follow(cluster, node, log):
    """A reader of the log that has given its first record."""
    done = subprocess.run([LEAT, "append", "--log", str(log), "--socket", node.socket], input="here\n",
                          capture_output=True, text=True, timeout=30)
    check(done.returncode == 0, f"append: {done.stderr}")
    tail = subprocess.Popen([LEAT, "tail", "--follow", "--log", str(log), "--socket", node.socket],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cluster.helpers.append(tail)
    check(tail.stdout.readline() == "here\n", "the first record")
    return tail


def delete_under_load(cluster, library, log):
    """What is on its way when its log is deleted ends as unknown, not as "certainly not in the log". Seldom nothing is:
    all that the node took is acknowledged, and the rest lies in the ring still."""
    node = cluster.nodes[0]
    load = subprocess.Popen([LEAT, "append", "--log", str(log), "--socket", node.socket], stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    cluster.helpers.append(load)

    def feed():
        try:
            while True:
                load.stdin.write("a line that may be in it\n" * 1000)
        except (OSError, ValueError):
            pass
    feeder = threading.Thread(target=feed)
    feeder.start()
    before = node.state(log)["commit_durable"]
    wait_for(lambda: node.state(log)["commit_durable"] > before + 100000, "appends under way")
    check(library.delete(cluster.nodes[1], log)[0] == 0, "deleting under load")
    code = load.wait(timeout=30)
    said = load.stderr.read()
    feeder.join()
    nothing = code == REFUSED and "no such log" in said and ", 0 unknown" in said
    check(nothing or (code == UNKNOWN and "deleted" in said), f"appends of a deleted log: {code} {said}")


def life(cluster):
    library = Library()
    start(cluster)
    first = make(library, cluster.nodes[0], "alpha")
    check(library.create(cluster.nodes[1], "alpha", **SMALL)[0] == EEXISTS, "a name twice")
    second = make(library, cluster.nodes[2], "beta")
    check(second == first + 1, f"ids count up: {first}, {second}")
    for node in cluster.nodes:
        wait_for(lambda: names(library, node) == {"catalogue": 0, "default": 1, "alpha": first, "beta": second},
                 f"the list on node {node.id}")
    everywhere(cluster, first)
    everywhere(cluster, second)
    with follow(cluster, cluster.nodes[2], second) as tail:
        check(library.delete(cluster.nodes[1], second)[0] == 0, "deleting")
        check(library.delete(cluster.nodes[1], second)[0] == ENOLOG, "deleting again")
        said = tail.communicate(timeout=20)[1]
        check(tail.returncode != 0 and "no such log" in said, f"a reader of a deleted log: {tail.returncode} {said}")
    for node in cluster.nodes:
        wait_for(lambda: node.state(second) is None, f"log {second} gone from node {node.id}")
        workers = int(cluster.settings.get("workers", 1))
        directory = os.path.join(node.data, f"w{second % workers}", f"log-{second}.1")
        wait_for(lambda: not os.path.exists(directory), f"{directory} gone")
    third = make(library, cluster.nodes[0], "beta")
    everywhere(cluster, third)
    check(third == second + 1, f"an id is not given again: {third}")
    for bad in ("", "0x", "a b", "a" * 48, "-"):
        error = library.create(cluster.nodes[0], bad, **SMALL)[0]
        check(error == EINVAL, f"name {bad!r}: {error}")
    for wrong in ({"segment_bytes": 3 * MIB}, {"arena_bytes": MIB}, {"entry_bytes_max": 600000},
                  {"retention_bytes": MIB}):
        check(library.create(cluster.nodes[0], "wrong", **{**SMALL, **wrong})[0] == EINVAL, f"sizes {wrong}")
    delete_under_load(cluster, library, third)
    for log in (0, 1):
        check(library.delete(cluster.nodes[0], log)[0] == EINVAL, f"log {log} stays")
    error, _, why = library.create(cluster.nodes[0], "vast", segment_bytes=MIB, arena_bytes=1 << 33)
    check(error == EBUDGET and "memory.budget" in why, f"over the budget: {error} {why}")


def crowd(cluster):
    """Load on several logs from every node while nodes are killed and logs come and go."""
    library = Library()
    start(cluster)
    logs = [1] + [make(library, cluster.nodes[i % 3], f"log-{i}", accepts_replicated=1) for i in range(5)]
    ledgers = []
    for i, log in enumerate(logs):
        ledger = cluster.ledger()
        ledger.start(cluster.nodes[i % 3], log=log, ack="mixed", threads=2, size=3000, timeout_ms=60000)
        ledgers.append(ledger)
    for victim in cluster.nodes:
        rows = [ledger.rows() for ledger in ledgers]
        wait_for(lambda: all(l.rows() > r + 50 for l, r in zip(ledgers, rows)), "progress on every log", 60)
        victim.kill()
        victim.start()
        extra = make(library, next(n for n in cluster.nodes if n is not victim), f"extra-{victim.id}", seconds=60)
        everywhere(cluster, extra)
        check(library.delete(victim, extra)[0] == 0, "deleting while a node comes back")
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0 and result["ok"] > 150, f"log {ledger.log}: {result}")
    cluster.level()
    cluster.audit()
    cluster.verify_digests()


def held(node, log):
    state = node.state(log)
    return state["commit_durable"] - state["base"]


def retained(cluster):
    library = Library()
    start(cluster)
    log = make(library, cluster.nodes[0], "kept", retention_bytes=3 * MIB)
    ledger = cluster.ledger()
    ledger.start(cluster.nodes[0], log=log, threads=2, inflight=64, size=8000)
    wait_for(lambda: (cluster.nodes[0].state(log) or {"base": 0})["base"] >= 4 * MIB, "trims by bytes", 60)
    ledger.stop()
    cluster.level()
    for node in cluster.nodes:
        folder = os.path.join(node.data, f"w{log % int(cluster.settings.get('workers', 1))}", f"log-{log}.1")
        wait_for(lambda: held(node, log) <= 3 * MIB + 2 * MIB, f"the budget held by node {node.id}", 20)
        wait_for(lambda: len([f for f in os.listdir(folder) if f.endswith('.segment')]) <= 11,
                 f"few files at node {node.id}", 20)
    cluster.audit("--trimmed-allowed")
    check(library.configure(cluster.nodes[1], log, retention_ns=1)[0] == 0, "configuring")
    ledger = cluster.ledger()
    ledger.start(cluster.nodes[1], log=log, threads=1, size=8000, run=77)
    base = cluster.nodes[0].state(log)["base"]
    wait_for(lambda: cluster.nodes[0].state(log)["base"] > base + MIB, "trims by age", 60)
    ledger.stop()
    cluster.level()
    for node in cluster.nodes:
        state = node.state(log)
        check(state["retention_bytes"] == 0 and state["retention_ns"] == 1, f"node {node.id} says {state}")
    cluster.verify_digests()


def asked_anywhere(cluster):
    """Trims and transfers are asked of any node; without a leader they say so."""
    library = Library()
    start(cluster)
    log = make(library, cluster.nodes[0], "moved")
    everywhere(cluster, log)
    ledger = cluster.ledger()
    # a transfer that the disks are too slow for in time is given up
    ledger.start(cluster.nodes[0], log=log, threads=1, inflight=64, size=8000, rate=400)

    def ask(node, *words):
        return subprocess.run([LEAT, *words, "--socket", node.socket], capture_output=True, text=True, timeout=30)

    def leader():
        return next((n for n in cluster.running() if n.state(log)["role"] == "leader"), None)

    wait_for(lambda: cluster.nodes[1].state(log)["commit_durable"] > 4 * MIB, "appends", 60)
    for node in cluster.nodes:
        done = ask(node, "log", "trim", "moved", "--keep-bytes", "1MiB")
        check(done.returncode == 0 and "trims to position" in done.stdout, f"node {node.id}: {done}")
    for node in cluster.nodes:
        wait_for(lambda: node.state(log)["base"] >= 2 * MIB, f"node {node.id} trims", 30)
    for i in range(12):  # each node asks, of itself and of others, named and not
        asker, to = cluster.nodes[i % 3], cluster.nodes[(i // 3 + i) % 3]
        before = leader()
        words = ["--to", str(to.id)] if i % 2 else []
        done = ask(asker, "transfer", "moved", *words)
        check(done.returncode == 0, f"node {asker.id} asks for {words}: {done}")
        if words:
            wait_for(lambda: leader() is to, f"node {to.id} leads", 20)
        else:
            wait_for(lambda: leader() not in (before, None), "another node leads", 20)
    done = ask(cluster.nodes[0], "transfer", "moved", "--to", "9")
    check(done.returncode != 0 and "no node 9" in done.stderr, f"a node that is none: {done}")
    result = ledger.stop()
    check(result["unknown"] == 0 and result["no"] == 0, f"appends failed: {result}")
    cluster.level()
    cluster.audit("--trimmed-allowed")
    for node in cluster.nodes[1:]:
        node.stop()
    wait_for(lambda: not cluster.nodes[0].state(log)["leader"], "no leader", 20)
    for words in (["log", "trim", "moved", "--position", "0"], ["transfer", "moved"]):
        done = ask(cluster.nodes[0], *words)
        check(done.returncode != 0 and "no leader" in done.stderr, f"{words} without a leader: {done}")


def restarted(cluster):
    """The catalogue and every log survive kills and power cuts of all nodes."""
    library = Library()
    start(cluster)
    logs = [make(library, cluster.nodes[i % 3], f"log-{i}") for i in range(4)]
    ledgers = []
    for log in logs:
        ledger = cluster.ledger()
        ledger.start(cluster.leader(), log=log, threads=1, size=2000)
        ledgers.append(ledger)
    wait_for(lambda: all(ledger.rows() > 100 for ledger in ledgers), "appends on every log", 60)
    for ledger in ledgers:
        check(ledger.stop()["ok"] > 100, f"log {ledger.log}")
    check(library.delete(cluster.nodes[0], logs[1])[0] == 0, "deleting")
    for node in cluster.nodes:
        node.power_cut()
    for node in cluster.nodes:
        node.start()
    cluster.leader()
    for log in logs:
        if log != logs[1]:
            everywhere(cluster, log)
    for node in cluster.nodes:
        wait_for(lambda: node.state(logs[1]) is None, f"the deleted log gone from node {node.id}")
        check(logs[1] not in names(library, node).values(), "the list has no deleted log")
    cluster.ledgers = [ledger for ledger in cluster.ledgers if ledger.log != logs[1]]
    cluster.level()
    cluster.audit()
    cluster.verify_digests()


def unequal(cluster):
    """Nodes with 1, 2 and 3 workers: packets find the worker that has the log."""
    library = Library()
    workers = {1: 1, 2: 2, 3: 3}
    for node in cluster.nodes:
        text = open(node.config, encoding="utf-8").read()
        text = text.replace("worker: {count: 1,", f"worker: {{count: {workers[node.id]},")
        for other, count in workers.items():
            text = text.replace(f"ip: 10.77.0.{other}}}", f"ip: 10.77.0.{other}, workers: {count}}}")
        with open(node.config, "w", encoding="utf-8") as out:
            out.write(text)
    start(cluster)
    logs = [1] + [make(library, cluster.nodes[i % 3], f"log-{i}") for i in range(6)]
    ledgers = []
    for i, log in enumerate(logs):
        ledger = cluster.ledger()
        ledger.start(cluster.nodes[i % 3], log=log, threads=1, size=2000)
        ledgers.append(ledger)
    wait_for(lambda: all(ledger.rows() > 100 for ledger in ledgers), "appends on every log", 60)
    cluster.leader().kill()
    rows = [ledger.rows() for ledger in ledgers if ledger.process.poll() is None]
    next(node for node in cluster.nodes if node.process is None).start()
    wait_for(lambda: all(l.rows() > 200 for l in ledgers), f"appends after {rows}", 60)
    for ledger in ledgers:
        ledger.stop()
    cluster.level()
    cluster.audit()
    for node in cluster.nodes:
        placed = {s["log"]: s["worker"] for s in node.status()["logs"]}
        check(all(worker == log % workers[node.id] for log, worker in placed.items()), f"node {node.id}: {placed}")


TWO = {"workers": 2, "segment": "1MiB", "arena": "4MiB", "window": "1MiB", "largest_entry": "64KiB"}
ONE = {**TWO, "workers": 1}
sys.exit(run_tests([
    ("logs are made and deleted", life, ONE),
    ("logs are made and deleted on two workers", life, TWO),
    ("load on many logs while nodes are killed", crowd, ONE),
    ("load on many logs of two workers while nodes are killed", crowd, TWO),
    ("retention by bytes and by age", retained, TWO),
    ("trims and transfers asked of any node", asked_anywhere, TWO),
    ("every node loses power", restarted, TWO),
    ("nodes with unlike counts of workers", unequal, ONE),
]))
