#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a thousand logs cost: measure_logs.py [COUNT]. Makes COUNT small logs (default 1022, with the cluster's own
two 1,024) on three nodes that sleep when idle, waits until each has a leader, then measures each node's memory and
CPU over ten idle seconds. One JSON object."""
import json
import os
import sys
import threading
import time

from cluster import Cluster, Library, check, wait_for

MIB = 1 << 20


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        values = dict(line.split(":", 1) for line in status)
    return {name: int(values[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssShmem")}


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1022
    cluster = Cluster(3, idle="sleep", segment="1MiB", arena="2MiB", window="512KiB", largest_entry="64KiB")
    try:
        cluster.start()
        library, failures, lock = Library(), [], threading.Lock()
        left = iter(range(count))
        begin = time.monotonic()

        def maker():
            while True:
                with lock:
                    i = next(left, None)
                if i is None:
                    return
                error, _, why = library.create(cluster.nodes[i % 3], f"log-{i}", seconds=120, segment_bytes=MIB,
                                               arena_bytes=2 * MIB, entry_bytes_max=65536)
                if error:
                    failures.append((i, error, why))

        threads = [threading.Thread(target=maker) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = time.monotonic() - begin
        check(not failures, f"{len(failures)} were not made: {failures[:3]}")

        def settled():
            return all(len(s["logs"]) == count + 2 and all(l["leader"] for l in s["logs"])
                       for s in (node.status() or {"logs": []} for node in cluster.nodes))
        wait_for(settled, "every log led", 120)
        time.sleep(3)
        before = [cpu_seconds(node.process.pid) for node in cluster.nodes]
        elections = [sum(l["counters"]["elections"] for l in node.status()["logs"]) for node in cluster.nodes]
        time.sleep(10)
        used = [100 * (cpu_seconds(n.process.pid) - b) / 10 for n, b in zip(cluster.nodes, before)]
        later = [sum(l["counters"]["elections"] for l in node.status()["logs"]) for node in cluster.nodes]
        print(json.dumps({"logs": count + 2, "making_s": round(made, 1), "idle_cpu_percent": used,
                          "elections_while_idle": [b - a for a, b in zip(elections, later)],
                          "led": [sum(l["role"] == "leader" for l in n.status()["logs"]) for n in cluster.nodes],
                          "memory_mib": [memory_mib(n.process.pid) for n in cluster.nodes]}))
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
