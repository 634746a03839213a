#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the rest costs the appends, on three nodes of this host; one JSON object each.

measure_costs.py reader [PAIRS]       CPU of the leader, sleeping when idle, at 5,000 appends a second, with a reader
                                      that follows it and without, in turn; the difference with its 95 % interval
measure_costs.py scrub [PAIRS]        p50 of durable appends, one in flight, over 1 GiB of sealed log, with the scrub at
                                      50 MB/s and without, in turn
measure_costs.py elections [SECONDS]  changes of leader under full load (default: 300 s)
"""
import json
import math
import os
import statistics
import subprocess
import sys
import time

from cluster import BUILD, LEAT, Cluster, Library, check, wait_for
from measure_logs import cpu_seconds

LOGBENCH = os.path.join(BUILD, "bench", "logbench")
FULL = "50000000"  # bytes a second
T_95 = {4: 2.776, 9: 2.262, 14: 2.145, 19: 2.093}  # two-sided, by degrees of freedom


def load(node, *options):
    done = subprocess.run([LOGBENCH, "append", "--attach", node.socket, "--json", "--no-limits", *options],
                          capture_output=True, text=True, timeout=900)
    check(done.returncode == 0, f"logbench: {done.stderr}")
    return json.loads(done.stdout)


def rewrite(node, old, new):
    with open(node.config, encoding="utf-8") as config:
        text = config.read()
    check(old in text, f"{old} is not in {node.config}")
    with open(node.config, "w", encoding="utf-8") as config:
        config.write(text.replace(old, new))


def interval(differences):
    """Mean and half width of the 95 % interval (Student)."""
    n = len(differences)
    t = min((value for freedom, value in T_95.items() if freedom <= n - 1), default=12.7)
    return statistics.mean(differences), t * statistics.stdev(differences) / math.sqrt(n)


def reader(cluster, pairs):
    leader = cluster.start()
    used, differences = {True: [], False: []}, []

    def run(follows):
        tail = None
        if follows:
            with open(os.devnull, "wb") as null:
                tail = subprocess.Popen([LEAT, "tail", "--socket", leader.socket, "--follow", "--from", "end"], stdout=null)
            cluster.helpers.append(tail)
        before = cpu_seconds(leader.process.pid)
        load(leader, "--rate", "5000", "--inflight", "64", "--seconds", "4", "--warm", "0.5")
        spent = cpu_seconds(leader.process.pid) - before
        if tail:
            tail.terminate()
            tail.wait()
        used[follows].append(round(spent, 2))
        return spent

    run(True)
    used[True].clear()
    for pair in range(pairs):
        order = (True, False) if pair % 2 else (False, True)
        spent = {follows: run(follows) for follows in order}
        differences.append(100 * (spent[True] / spent[False] - 1))
    mean, half = interval(differences)
    return {"cpu_s_with": used[True], "cpu_s_without": used[False], "cost_percent": round(mean, 2),
            "interval_95": [round(mean - half, 2), round(mean + half, 2)]}


def scrub(cluster, pairs):
    leader = cluster.start()
    load(leader, "--size", "32768", "--inflight", "64", "--ack", "durable", "--seconds", "12")
    held = leader.state()["durable"]
    check(held > 1 << 30, f"only {held} bytes of log")
    p50, read = {FULL: [], "0": []}, 0
    last = "10MiB"
    for pair in range(pairs):
        for rate in (FULL, "0") if pair % 2 else ("0", FULL):
            for node in cluster.running():
                node.stop()
            for node in cluster.nodes:
                rewrite(node, f"scrub: {last}", f"scrub: {rate}")
                node.start()
            last = rate
            leader = cluster.leader()
            cluster.level()
            before = leader.status()["disk"]["scrubbed_bytes"]
            p50[rate].append(load(leader, "--ack", "durable", "--seconds", "4")["latency_us"]["p50"])
            read += (leader.status()["disk"]["scrubbed_bytes"] - before) if rate != "0" else 0
    with_, without = statistics.median(p50[FULL]), statistics.median(p50["0"])
    return {"p50_us_with": p50[FULL], "p50_us_without": p50["0"], "scrubbed_mib_at_leader": read >> 20,
            "cost_percent": round(100 * (with_ / without - 1), 1)}


def elections(cluster, seconds):
    leader = cluster.start()
    wait_for(lambda: all(log["leader"] for log in leader.status()["logs"]), "every log led")
    error, why = Library().configure(leader, 1, retention_bytes=2 << 30)  # five minutes fill a disk
    check(error == 0, f"retention: {error} {why}")

    def counted():
        return sum(log["counters"]["elections"] for node in cluster.nodes for log in node.status()["logs"])
    before, begin = counted(), time.monotonic()
    result = load(leader, "--ack", "replicated", "--inflight", "1024", "--seconds", str(seconds))
    return {"elections": counted() - before, "seconds": round(time.monotonic() - begin, 1),
            "appends_per_s": round(result["appends_per_s"]), "p50_us": result["latency_us"]["p50"],
            "max_us": result["latency_us"]["max"]}


def main():
    measures = {"reader": (reader, 10), "scrub": (scrub, 5), "elections": (elections, 300)}
    if len(sys.argv) < 2 or sys.argv[1] not in measures:
        sys.exit(__doc__)
    measure, count = measures[sys.argv[1]]
    cluster = Cluster(3, idle="sleep" if measure is reader else "yield", segment="64MiB", arena="128MiB")
    try:
        print(json.dumps(measure(cluster, int(sys.argv[2]) if len(sys.argv) > 2 else count)))
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
