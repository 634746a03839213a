#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The linearizable tail: never below what was acknowledged, also while leaders are paused, killed, replaced."""
import json
import os
import subprocess
import sys
import time

from cluster import BUILD, PATIENCE, check, run_tests, wait_for

TAILS = os.path.join(BUILD, "tests", "system", "tails")


def begin(cluster, seconds, least):
    cluster.start()
    wait_for(lambda: all(node.status() for node in cluster.nodes), "every node up", 30)
    process = subprocess.Popen([TAILS, str(seconds), str(least), *[node.socket for node in cluster.nodes]],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cluster.helpers.append(process)
    return process


def finish(process, seconds, least):
    out, err = process.communicate(timeout=(seconds + 120) * PATIENCE)
    check(process.returncode == 0, f"{out.strip()} {err.strip()}")
    result = json.loads(out)
    check(result["stale"] == 0 and result["appends"] >= least and result["tails"] >= least, f"too little: {result}")


def undisturbed(cluster):
    finish(begin(cluster, 4, 100), 4, 100)


def paused(cluster):
    """A leader that was paused comes back and is asked at once: it leads no more, and must not answer as if."""
    process = begin(cluster, 20, 50)
    for _ in range(4):
        leader = cluster.leader()
        leader.pause()
        try:
            wait_for(lambda: cluster.find_leader(but=leader), "another leader", 20)
            time.sleep(0.2)  # appends go on there
        finally:
            leader.go_on()
        wait_for(lambda: (leader.state() or {"role": ""})["role"] == "follower", "the old one follows", 20)
    finish(process, 20, 50)


def killed(cluster):
    process = begin(cluster, 15, 50)
    for _ in range(2):
        leader = cluster.leader()
        leader.kill()
        cluster.leader(but=leader)
        leader.start()
        wait_for(leader.status, "the killed node back", 20)
    finish(process, 15, 50)


TESTS = [
    ("the tail of an undisturbed log", undisturbed, {}),
    ("the tail while leaders are paused", paused, {}),
    ("the tail while leaders are killed", killed, {"workers": 2}),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
