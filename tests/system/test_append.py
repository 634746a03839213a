#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What sequencers need, on real nodes that are killed and power-cut: batches are never seen in part
from any replica, of writers that race for an offset one wins, a fence shuts older writers out, and a
retry gets the answer that was given."""
import json
import os
import subprocess
import sys
import time

from cluster import BUILD, LEAT, PATIENCE, check, run_tests, wait_for

SEQUENCER = os.path.join(BUILD, "tests", "system", "sequencer")
SMALL = {"segment": "1MiB", "arena": "8MiB", "largest_entry": "64KiB", "window": "1MiB"}


class Sequencer:
    """One client in its own process."""

    runs = 0

    def __init__(self, cluster, node, mode, **options):
        Sequencer.runs = Sequencer.runs % 63 + 1
        self.path = os.path.join(cluster.dir, f"sequencer-{Sequencer.runs}")
        arguments = [SEQUENCER, mode, "--socket", node.socket, "--out", self.path, "--run", str(Sequencer.runs)]
        for name, value in options.items():
            arguments += ["--" + name, str(value)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        cluster.helpers.append(self.process)
        if mode not in ("watch", "events"):
            cluster.sequencers = getattr(cluster, "sequencers", []) + [self]

    def rows(self):
        return os.path.getsize(self.path) // 32 if os.path.exists(self.path) else 0

    def more(self, count):
        begin = self.rows()
        wait_for(lambda: self.rows() >= begin + count, f"{count} more appends to end", 60)

    def stop(self):
        """Its last line; also for one that ended by itself."""
        if self.process.poll() is None:
            self.process.terminate()
        out, err = self.process.communicate(timeout=90 * PATIENCE)
        check(self.process.returncode == 0, f"sequencer: {err.strip()} {out.strip()}")
        return json.loads(out.strip().splitlines()[-1])


def audit(cluster):
    """Every replica against every file; all replicas byte by byte."""
    cluster.level()
    audited = None
    for node in cluster.running():
        done = subprocess.run([SEQUENCER, "audit", "--socket", node.socket, *[s.path for s in cluster.sequencers]],
                              capture_output=True, text=True, timeout=120 * PATIENCE)
        check(done.returncode == 0, f"node {node.id}: {done.stdout.strip()} {done.stderr.strip()[:500]}")
        audited = json.loads(done.stdout)
    cluster.verify_digests()
    return audited


def batches_under_leader_kills(cluster):
    cluster.start()
    for _ in range(3):
        leader = cluster.leader()
        others = [node for node in cluster.nodes if node is not leader]
        watchers = [Sequencer(cluster, node, "watch") for node in others]
        writers = [Sequencer(cluster, node, "batch") for node in others]
        for writer in writers:
            writer.more(300)
        leader.kill()
        cluster.leader()
        for writer in writers:
            writer.more(300)
        leader.start()
        for writer in writers:
            result = writer.stop()
            check(result["unknown"] == 0 and result["no"] == 0, f"batches failed: {result}")
        for watcher in watchers:
            check(watcher.stop()["records"] > 0, "the watcher saw nothing")
    check(audit(cluster)["appends"] > 1800, "too few batches")


def batches_under_power_cuts(cluster):
    """Durable ones: two or three nodes without power at one time may lose what was only replicated (PR1)."""
    cluster.start()
    for victims in (1, 3, 2, 3):
        leader = cluster.leader()
        writers = [Sequencer(cluster, node, "batch", replicated=0) for node in cluster.nodes]
        for writer in writers:
            writer.more(150)
        for node in [leader, *[n for n in cluster.nodes if n is not leader]][:victims]:
            node.power_cut()
            node.start()
        cluster.leader(seconds=40)
        for writer in writers:
            writer.stop()
    check(audit(cluster)["appends"] > 1000, "too few batches")


def two_writers_with_fences(cluster):
    leader = cluster.start()
    follower = cluster.follower()
    first = Sequencer(cluster, follower, "fence", epoch=5)
    first.more(50)
    second = Sequencer(cluster, leader, "fence", epoch=7)
    wait_for(lambda: first.process.poll() is not None, "the older writer to be shut out", 30)
    result = first.stop()
    check(result["fenced_out"] == 1 and result["unknown"] == 0, f"first writer: {result}")
    late = Sequencer(cluster, follower, "fence", epoch=6)
    wait_for(lambda: late.process.poll() is not None, "an epoch below to be refused", 30)
    result = late.stop()
    check(result["fenced_out"] == 1 and result["ok"] == 0, f"late writer: {result}")
    second.more(600)  # over two base frames: they hold the fence
    leader.kill()  # the fence outlives its leader, and the memory of every node
    cluster.leader()
    leader.start()
    second.more(50)
    result = second.stop()
    check(result["fenced_out"] == 0 and result["no"] == 0, f"second writer: {result}")
    for node in cluster.nodes:
        node.power_cut()
    for node in cluster.nodes:
        node.start()
    cluster.leader(seconds=40)
    for epoch in (6, 7):
        late = Sequencer(cluster, follower, "fence", epoch=epoch)
        wait_for(lambda: late.process.poll() is not None, "an epoch below to be refused", 30)
        check(late.stop()["fenced_out"] == 1, f"epoch {epoch} after a restart")
    audit(cluster)


def one_winner_per_offset(cluster):
    leader = cluster.start()
    racers = [Sequencer(cluster, node, "race", inflight=4) for node in (leader, cluster.follower())]
    for racer in racers:
        racer.more(400)
    results = [racer.stop() for racer in racers]
    check(sum(r["condition"] for r in results) > 0, f"nobody raced: {results}")
    check(all(r["unknown"] == 0 for r in results), f"unknown: {results}")
    audited = audit(cluster)
    check(audited["records"] == sum(r["ok"] for r in results), f"records and winners differ: {audited} {results}")


def retries_get_the_same_answer(cluster):
    """Leaders die, and the racers' own nodes: what is handed over again ends as it ended."""
    cluster.start()
    for _ in range(4):
        follower = cluster.follower()
        racers = [Sequencer(cluster, node, "race", inflight=32) for node in (follower, cluster.leader())]
        racers[0].more(100)
        follower.pause()  # what it forwarded is decided without it
        racers[1].more(50)
        follower.kill()
        racers[1].more(2000)
        follower.start()
        racers[0].more(100)
        for racer in racers:
            racer.stop()
    for _ in range(3):
        leader = cluster.leader()
        racers = [Sequencer(cluster, node, "race", inflight=8) for node in cluster.nodes]
        for racer in racers:
            racer.more(100)
        leader.kill()
        leader.start()
        for racer in racers:
            racer.more(100)
        for racer in racers:
            racer.stop()
    audit(cluster)


def leaders_are_told(cluster):
    """A client learns who leads from shared memory: on both survivors, and what its own node became."""
    leader = cluster.start()
    followers = [node for node in cluster.nodes if node is not leader]
    outs = {}
    for node in followers:
        outs[node.id] = os.path.join(cluster.dir, f"events-{node.id}")
        with open(outs[node.id], "w", encoding="utf-8") as out:
            cluster.helpers.append(subprocess.Popen([SEQUENCER, "events", "--socket", node.socket], stdout=out))

    def last(node):
        with open(outs[node.id], encoding="utf-8") as lines:
            whole = [line for line in lines if line.endswith("}\n")]
        return json.loads(whole[-1]) if whole else {"leader": 0, "term": 0, "role": -1}

    for node in followers:
        wait_for(lambda n=node: last(n)["leader"] == leader.id and last(n)["role"] == 0, "the first leader to be told")
    term = last(followers[0])["term"]
    check(last(followers[0])["entry"] == 256 << 10, "the largest entry as configured")
    leader.kill()
    winner = cluster.leader()
    for node in followers:
        wait_for(lambda n=node: last(n)["leader"] == winner.id and last(n)["term"] > term, "the next leader to be told")
    wait_for(lambda: last(winner)["role"] == 2, "its own node to be told as leader")


def sessions(node, log=1):
    done = subprocess.run([LEAT, "session", "ls", "--log", str(log), "--json", "--socket", node.socket],
                          capture_output=True, text=True, timeout=30)
    check(done.returncode == 0, f"session ls: {done.stderr}")
    return json.loads(done.stdout)["sessions"]


def idle_sessions_end(cluster):
    """A session in use stays, for longer than `expire`; an idle one is closed, and what comes then is said to be
    unknown, not taken under an old number."""
    leader = cluster.start()
    node = cluster.follower()
    client = subprocess.Popen([LEAT, "append", "--socket", node.socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    cluster.helpers.append(client)

    def say(number):
        client.stdin.write(f"line {number}\n")
        client.stdin.flush()

    say(0)
    wait_for(lambda: len(sessions(leader)) == 1, "the session")
    opened = sessions(leader)[0]
    begin, number = time.monotonic(), 0
    while time.monotonic() < begin + 5:
        number += 1
        say(number)
        wait_for(lambda: [s["last_sequence"] for s in sessions(leader)] == [number + 1], f"line {number}")
    check(sessions(leader)[0]["client"] == opened["client"], "a session in use was closed")
    wait_for(lambda: not sessions(leader), "the idle session to be closed", 20)
    say(number + 1)
    client.stdin.close()
    error, code = client.stderr.read(), client.wait(30)
    check(code != 0 and "session" in error, f"an append after the close: exit {code}, {error}")
    done = subprocess.run([LEAT, "tail", "--socket", node.socket], capture_output=True, text=True, timeout=30)
    check(done.stdout == "".join(f"line {i}\n" for i in range(number + 1)), f"the log: {done.stdout[-200:]}")


def who_leaves_leaves_no_session(cluster):
    """A thousand short commands would fill the log's table otherwise, for everybody, until they expire. On each node's
    host, some at the same time."""
    leader = cluster.start()
    for number in range(20):
        shots = [subprocess.Popen([LEAT, "append", "--socket", node.socket], stdin=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for node in cluster.nodes]
        cluster.helpers += shots
        for shot in shots:
            _, error = shot.communicate(f"line {number}\n", timeout=60)
            check(shot.returncode == 0, f"append {number}: {error}")
        cluster.helpers[-len(shots):] = []
    # who leaves waits for 200 ms at most: while the disk stands still, some sessions are left to expire
    wait_for(lambda: len(sessions(leader)) <= 15, "three of four sessions to be closed, at least", 20)
    done = subprocess.run([LEAT, "tail", "--socket", leader.socket], capture_output=True, text=True, timeout=30)
    check(sorted(done.stdout.split("\n")[:-1]) == sorted(3 * [f"line {i}" for i in range(20)]), f"the log: {done.stdout[-200:]}")


if __name__ == "__main__":
    sys.exit(run_tests([
        ("batches are whole on every replica while leaders are killed", batches_under_leader_kills, SMALL),
        ("batches are whole after power cuts", batches_under_power_cuts, SMALL),
        ("of two writers the older epoch is shut out, for good", two_writers_with_fences, SMALL),
        ("conditional appends race: one winner per offset", one_winner_per_offset, {}),
        ("changes of leader are told", leaders_are_told, {}),
        ("retries of conditional appends get the same answers", retries_get_the_same_answer, {}),
        ("who leaves leaves no session behind", who_leaves_leaves_no_session, {}),
        ("idle sessions end, by the leader's clock", idle_sessions_end, {"more": "sessions: {expire: 1s}"}),
    ]))
