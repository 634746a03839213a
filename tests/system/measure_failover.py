#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures, by hand: the leader is killed under load; how long does a client on another node wait
between two acknowledged appends? Usage: measure_failover.py [RUNS] [durable|replicated]"""
import statistics
import sys

from cluster import Cluster, wait_for


def one(ack):
    cluster = Cluster(idle="yield")
    try:
        leader = cluster.start()
        other = cluster.follower()
        ledger = cluster.ledger()
        ledger.start(other, ack=ack, threads=1)
        grow(other, 3000)
        leader.kill()
        cluster.leader()
        grow(other, 3000)
        gap = ledger.stop()["longest_gap_ms"]
        cluster.level()
        cluster.audit()
        return gap
    finally:
        cluster.close()


def grow(node, records):
    begin = wait_for(lambda: node.state(), "status")["next_offset"]
    wait_for(lambda: (node.state() or {"next_offset": 0})["next_offset"] >= begin + records, "growth")


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    ack = sys.argv[2] if len(sys.argv) > 2 else "durable"
    gaps = sorted(one(ack) for _ in range(runs))
    print(f"{runs} kills, {ack}: longest gap between acknowledged appends: "
          f"min {gaps[0]:.0f} ms, median {statistics.median(gaps):.0f} ms, max {gaps[-1]:.0f} ms")


if __name__ == "__main__":
    main()
