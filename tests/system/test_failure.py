#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real nodes under load are killed, paused, power-cut and restarted; a ledger of every acknowledged
append is held against every replica afterwards (loss, duplication, order, place, content)."""
import sys
import time

from cluster import check, run_tests, wait_for


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"ack": "mixed", **options})
    return ledger


def under_load(cluster, node, records=2000):
    """Waits until the log of `node` has grown by `records`."""
    begin = wait_for(lambda: node.state(), "status")["next_offset"]
    wait_for(lambda: (node.state() or {"next_offset": 0})["next_offset"] >= begin + records,
             f"{records} more records", 30)


def settle(cluster, *options):
    cluster.level()
    audit = cluster.audit(*options)
    check(audit["acknowledged"] > 0, "nothing was acknowledged")
    cluster.verify_digests()
    return audit


def all_is_well(cluster):
    cluster.start()
    ledgers = [load(cluster, node) for node in cluster.nodes]
    under_load(cluster, cluster.leader(), 20000)
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0 and result["no"] == 0, f"appends failed: {result}")
    settle(cluster)


def leader_killed(cluster):
    leader = cluster.start()
    others = [node for node in cluster.nodes if node is not leader]
    ledgers = [load(cluster, node) for node in others]
    under_load(cluster, others[0])
    leader.kill()
    cluster.leader()
    under_load(cluster, others[0])
    leader.start()
    under_load(cluster, others[0])
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0, f"appends ended as unknown: {result}")
    settle(cluster)


def leader_killed_again_and_again(cluster):
    cluster.start()
    for _ in range(6):
        leader = cluster.leader()
        survivor = next(node for node in cluster.nodes if node is not leader)
        ledger = load(cluster, survivor)
        under_load(cluster, survivor, 1000)
        leader.kill()
        cluster.leader()
        under_load(cluster, survivor, 1000)
        leader.start()
        ledger.stop()
    settle(cluster)


def client_follows_its_node(cluster):
    """The client's own node dies and comes back: what has not ended is handed to it again."""
    leader = cluster.start()
    ledger = load(cluster, leader, timeout_ms=30000)
    under_load(cluster, leader)
    leader.kill()
    cluster.leader()
    leader.start()
    under_load(cluster, leader)
    result = ledger.stop()
    check(result["unknown"] == 0, f"appends ended as unknown: {result}")
    settle(cluster)


def every_node_killed(cluster):
    cluster.start()
    ledger = load(cluster, cluster.follower(), timeout_ms=30000)
    under_load(cluster, cluster.leader())
    for node in cluster.nodes:
        node.kill()
    for node in reversed(cluster.nodes):
        node.start()
    under_load(cluster, cluster.leader())
    result = ledger.stop()
    check(result["unknown"] == 0, f"appends ended as unknown: {result}")
    settle(cluster)


def follower_paused(cluster):
    leader = cluster.start()
    follower = cluster.follower()
    ledger = load(cluster, leader)
    under_load(cluster, leader)
    follower.pause()
    under_load(cluster, leader, 5000)
    follower.go_on()
    under_load(cluster, leader)
    result = ledger.stop()
    check(result["unknown"] == 0, f"appends ended as unknown: {result}")
    settle(cluster)


def leader_paused(cluster):
    leader = cluster.start()
    others = [node for node in cluster.nodes if node is not leader]
    ledgers = [load(cluster, node) for node in cluster.nodes]
    under_load(cluster, others[0])
    leader.pause()
    cluster.leader(but=leader)
    under_load(cluster, others[0])
    leader.go_on()
    under_load(cluster, others[0])
    told = wait_for(leader.status, "status")
    check(told["absences"] > 0 and told["absence_max_ns"] > 0 and leader.says("was away for"), "a pause was not told")
    for ledger in ledgers:
        ledger.stop()
    settle(cluster)


def follower_loses_power(cluster):
    leader = cluster.start()
    follower = cluster.follower()
    ledger = load(cluster, leader)
    under_load(cluster, leader)
    follower.power_cut()
    under_load(cluster, leader)
    follower.start()
    wait_for(lambda: follower.state() and not follower.state()["amnesiac"], "amnesia cleared")
    under_load(cluster, leader)
    ledger.stop()
    settle(cluster)
    check(follower.says("memory was lost"), "the loss of memory was not said")


def leader_loses_power(cluster):
    leader = cluster.start()
    other = cluster.follower()
    ledger = load(cluster, other)
    under_load(cluster, other)
    leader.power_cut()
    cluster.leader()
    under_load(cluster, other)
    leader.start()
    wait_for(lambda: leader.state() and not leader.state()["amnesiac"], "amnesia cleared")
    ledger.stop()
    settle(cluster)


def rack_loses_power(cluster):
    """Every process and every arena at once: heals by itself (W5 ii); durable appends are all there,
    replicated ones may be lost, and that is counted and said."""
    cluster.start()
    ledger = load(cluster, cluster.leader(), timeout_ms=30000)
    under_load(cluster, cluster.leader())
    for node in cluster.nodes:
        node.power_cut()
    for node in cluster.nodes:
        node.start()
    cluster.leader(seconds=30)
    wait_for(lambda: all(n.state() and not n.state()["amnesiac"] for n in cluster.nodes), "amnesia cleared")
    ledger.stop()
    check(any(node.says("replicated appends may be lost since position") for node in cluster.nodes),
          "it was not said that replicated appends may be lost")
    settle(cluster, "--lost-replicated-allowed")


def one_dead_one_amnesiac(cluster):
    """No leader until the operator accepts (W5)."""
    leader = cluster.start()
    ledger = load(cluster, leader)
    under_load(cluster, leader)
    ledger.stop()
    cluster.level()
    dead, amnesiac = [node for node in cluster.nodes if node is not leader]
    dead.kill()
    amnesiac.power_cut()
    leader.kill()
    leader.start()
    amnesiac.start()
    wait_for(lambda: amnesiac.state() and amnesiac.state()["amnesiac"], "an amnesiac replica")
    time.sleep(2)  # several election timeouts: what must not happen has time to
    check(cluster.find_leader() is None, "a leader without a majority of intact votes")
    accept(amnesiac)
    cluster.leader()
    dead.start()
    settle(cluster)


def accept(node):
    import subprocess
    from cluster import LEAT
    done = subprocess.run([LEAT, "amnesia", "accept", "1", "--socket", node.socket], capture_output=True,
                          text=True)
    check(done.returncode == 0, f"amnesia accept: {done.stdout}{done.stderr}")


def leadership_is_handed_over(cluster):
    import subprocess
    from cluster import LEAT
    leader = cluster.start()
    ledger = load(cluster, cluster.follower())
    under_load(cluster, leader)
    to = next(node for node in cluster.nodes if node is not leader)
    done = subprocess.run([LEAT, "transfer", "1", "--to", str(to.id), "--socket", leader.socket],
                          capture_output=True, text=True)
    check(done.returncode == 0, f"transfer: {done.stdout}{done.stderr}")
    wait_for(lambda: cluster.find_leader() is to, f"node {to.id} leads")
    under_load(cluster, to)
    result = ledger.stop()
    check(result["unknown"] == 0 and result["no"] == 0, f"appends failed: {result}")
    settle(cluster)


def sigterm_drains(cluster):
    """A leader that is told to stop hands over; nothing is lost, nobody waits for an election."""
    leader = cluster.start()
    other = cluster.follower()
    ledger = load(cluster, other)
    under_load(cluster, other)
    leader.stop()
    check(leader.says("stopped"), "a clean stop was not said")
    under_load(cluster, other)
    leader.start()
    under_load(cluster, other)
    result = ledger.stop()
    check(result["unknown"] == 0 and result["no"] == 0, f"appends failed: {result}")
    check(leader.says("clean stop"), "recovery did not see the clean stop")
    settle(cluster)


def follower_catches_up_from_disk(cluster):
    """Down for longer than the arena is long: the missing bytes come from the leader's segments."""
    leader = cluster.start()
    follower = cluster.follower()
    ledger = load(cluster, leader, size=20000, inflight=64)
    under_load(cluster, leader, 200)
    follower.kill()
    begin = leader.state()["commit_durable"]
    wait_for(lambda: max((node.state() or {"commit_durable": 0})["commit_durable"] for node in cluster.running())
             > begin + (12 << 20), "12 MiB more", 60)
    follower.start()
    wait_for(lambda: follower.state() and follower.state()["durable"] > begin + (12 << 20), "caught up", 60)
    ledger.stop()
    # leadership may have moved meanwhile: a disk that falls behind hands over
    reads = [node.state()["counters"]["catchup_reads"] for node in cluster.nodes]
    check(sum(reads) > 0, f"nothing was read from disk: {reads}")
    settle(cluster)


TESTS = [
    ("three clients on three nodes", all_is_well, {}),
    ("the leader is killed", leader_killed, {}),
    ("the leader is killed again and again", leader_killed_again_and_again, {}),
    ("a client's own node dies and comes back", client_follows_its_node, {}),
    ("every node is killed", every_node_killed, {}),
    ("a follower is paused", follower_paused, {}),
    ("the leader is paused", leader_paused, {}),
    ("a follower loses power", follower_loses_power, {}),
    ("the leader loses power", leader_loses_power, {}),
    ("the rack loses power", rack_loses_power, {}),
    ("one dead and one amnesiac: no leader until accepted", one_dead_one_amnesiac, {}),
    ("leadership is handed over", leadership_is_handed_over, {}),
    ("SIGTERM drains", sigterm_drains, {}),
    ("a follower catches up from disk", follower_catches_up_from_disk,
     {"segment": "1MiB", "arena": "4MiB", "window": "1MiB"}),
    ("durable only: the leader is killed", lambda c: durable_only(c), {"replicated": False}),
    ("five nodes: two are killed", lambda c: five_nodes(c), {"count": 5}),
]


def durable_only(cluster):
    leader = cluster.start()
    other = cluster.follower()
    ledger = load(cluster, other, ack="durable")
    under_load(cluster, other)
    leader.power_cut()
    cluster.leader()
    leader.start()
    under_load(cluster, other)
    ledger.stop()
    settle(cluster)


def five_nodes(cluster):
    leader = cluster.start()
    others = [node for node in cluster.nodes if node is not leader]
    ledger = load(cluster, others[0])
    under_load(cluster, others[0])
    leader.kill()
    others[1].power_cut()
    cluster.leader()
    under_load(cluster, others[0])
    leader.start()
    others[1].start()
    under_load(cluster, others[0])
    ledger.stop()
    settle(cluster)


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
