#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes in network namespaces: over af_xdp, with jumbo frames, over links that lose, double and
misdirect, and beside a second node of the same id and hardware address. Ledgers are audited. Needs root."""
import json
import os
import subprocess
import sys

from cluster import CALM, Node, check, run_tests, wait_for
from wires import Wires, ip

AF_PACKET = "{kind: af_packet, interface: leat0}"


def wired(mtu=None):
    def decorate(function):
        def test(cluster):
            wires = Wires(cluster)
            twins = []
            try:
                if mtu:
                    wires.widen(mtu)
                function(cluster, wires, twins)
            except Exception:
                for node in cluster.running():  # while they run: run_tests() finds them gone
                    print(f"# node {node.id}: {node.told()}", file=sys.stderr, flush=True)
                raise
            finally:
                for node in [*cluster.running(), *twins]:
                    if node.process is not None:
                        node.kill()
                wires.close()
        return test
    return decorate


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"ack": "mixed", "threads": 1, "rate": 3000, "timeout_ms": 30000, **options})
    return ledger


def records(node):
    return (node.state() or {"next_offset": -1})["next_offset"]


def grows(node, count, seconds=40):
    begin = wait_for(lambda: records(node) + 1, "status") - 1
    wait_for(lambda: records(node) >= begin + count, f"{count} more records on node {node.id}", seconds)


def stop(ledger):
    result = ledger.stop()
    check(result["unknown"] == 0 and result["no"] == 0 and result["ok"] > 500, f"appends: {result}")


def settle(cluster, *ledgers):
    for ledger in ledgers:
        stop(ledger)
    cluster.level()
    audit = cluster.audit()
    check(audit["acknowledged"] > 0, "nothing was acknowledged")
    cluster.verify_digests()


def elections(cluster):
    return sum(node.state()["counters"]["elections_won"] for node in cluster.running())


def counted(node, name):
    return wait_for(node.status, f"status of node {node.id}")["port"][name]


def whole_life(cluster):
    """Appends from two nodes, the death of the leader, its return."""
    leader = cluster.start()
    follower = cluster.follower()
    ledgers = [load(cluster, follower, size=3000, rate=800), load(cluster, follower, size=60000, rate=40)]
    grows(leader, 1000)
    leader.kill()
    cluster.leader(but=leader)
    grows(follower, 1000)
    leader.start()
    wait_for(lambda: records(leader) >= records(follower) - 500, "the killed leader to catch up", 40)
    for node in cluster.nodes:
        check(node.says(cluster.driver), f"node {node.id} has another port: {node.last_lines(8)}")
    settle_large(cluster, ledgers)


def settle_large(cluster, ledgers):
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0 and result["no"] == 0 and result["ok"] > 50, f"appends: {result}")
    settle(cluster)


@wired()
def xdp(cluster, wires, _):
    cluster.driver = "net_af_xdp"
    whole_life(cluster)


@wired(mtu=9000)
def jumbo(cluster, wires, _):
    cluster.driver = "net_af_packet"
    whole_life(cluster)
    check(all(node.says("8972 bytes") for node in cluster.nodes), "the datagrams are not large")


def jumbo_memif(cluster):
    cluster.driver = "net_memif"
    memif = os.path.join(cluster.dir, "memif")
    for node in cluster.nodes:
        cluster.write_config(node, net=f"{{kind: memif, memif_dir: {memif}, mtu: 9000}}")
    whole_life(cluster)
    check(all(node.says("8972 bytes") for node in cluster.nodes), "the datagrams are not large")


# ---- bad links, made by nftables in the switch ----

def nft(wires, rules):
    done = subprocess.run(["ip", "netns", "exec", wires.switch, "nft", "-f", "-"], input=rules, capture_output=True,
                          text=True)
    check(done.returncode == 0, f"nft: {done.stderr.strip()}")


def packets_of(wires, family, table):
    out = json.loads(wires.inside("nft", "-j", "list", "table", family, table))
    return sum(part["counter"]["packets"] for row in out["nftables"] for part in row.get("rule", {}).get("expr", [])
               if "counter" in part)


@wired()
def lossy(cluster, wires, _):
    """A third of all packets is lost: appends go on, exactly once; one leader stays, or few follow."""
    leader = cluster.start()
    ledger = load(cluster, cluster.follower(), rate=1500)
    grows(leader, 500)
    nft(wires, """table bridge faults {
        chain forward { type filter hook forward priority 0; policy accept;
          iifname { "port1", "port2", "port3" } numgen random mod 100 < 30 counter drop
        }
        }""")
    before = elections(cluster)
    grows(cluster.nodes[0], 2000, 60)
    check(packets_of(wires, "bridge", "faults") > 500, "hardly a packet was lost")
    won = elections(cluster) - before
    check(won <= 10, f"{won} changes of leader under loss")
    nft(wires, "delete table bridge faults")
    grows(cluster.nodes[0], 500)
    settle(cluster, ledger)


@wired()
def doubled(cluster, wires, _):
    """Packets come twice, and to the wrong nodes too: counted, without effect."""
    leader = cluster.start()
    ledgers = [load(cluster, node, rate=2000) for node in cluster.nodes[:2]]
    grows(leader, 500)
    chains = "".join(f"""
        chain from{a} {{ type filter hook ingress device "port{a}" priority 0; policy accept;
          numgen random mod 100 < 30 counter dup to "near{b}"
          numgen random mod 100 < 30 counter dup to "near{c}"
        }}""" for a, b, c in ((1, 2, 3), (2, 3, 1), (3, 1, 2)))
    nft(wires, f"table netdev faults {{ {chains}\n}}\n")
    before = elections(cluster)
    grows(leader, 5000, 60)
    check(packets_of(wires, "netdev", "faults") > 2000, "hardly a packet came twice")
    strays = sum(counted(node, "rx_drop_address") for node in cluster.nodes)
    check(strays > 100, f"{strays} packets for others were counted")
    check(elections(cluster) <= before + 2, "packets that come twice cost elections")
    again = [n.state()["counters"]["datagrams_duplicate"] for n in cluster.nodes]
    # most are verified together with the first of their kind
    check(sum(again) > 0, f"duplicates counted: {again}")
    settle(cluster, *ledgers)


@wired()
def short_paths(cluster, wires, _):
    """What is longer than 700 bytes vanishes at the leader's port, both ways: short datagrams go on, for large
    records of clients on both sides, and long ones again when the way is whole."""
    leader = cluster.start()
    follower = cluster.follower()
    ledgers = [load(cluster, node, size=3000, inflight=64, rate=400) for node in (leader, follower)]
    grows(leader, 200)
    nft(wires, f"""table bridge small {{
        chain forward {{
            type filter hook forward priority 0;
            iifname "port{leader.id}" meta length > 700 counter drop
            oifname "port{leader.id}" meta length > 700 counter drop
        }}
    }}""")
    before = elections(cluster)
    grows(leader, 1000)
    check(packets_of(wires, "bridge", "small") > 0, "nothing was lost")
    check(sum(node.status()["short_paths"] for node in cluster.nodes) > 0, "no path was seen to be short")
    nft(wires, "delete table bridge small")
    grows(leader, 1000)
    check(elections(cluster) == before, "long packets that vanish cost an election")
    settle_large(cluster, ledgers)


@wired()
def cut_by_rules(cluster, wires, _):
    """One direction between two nodes is cut, in turn; then each pair in both: within a bound there is a
    leader, and it stays. The clients are at the third node: what one sends through a node that does not
    reach the leader waits for as long."""
    cluster.start()
    ports = {node.id: wires.address(node).hex(":") for node in cluster.nodes}
    for a, b, both in ((1, 2, False), (2, 1, False), (1, 2, True), (3, 1, False)):
        third = next(node for node in cluster.nodes if node.id not in (a, b))
        ledger = load(cluster, third, rate=1500)
        grows(third, 300)
        rules = [f'ether saddr {ports[a]} ether daddr {ports[b]} counter drop']
        if both:
            rules.append(f'ether saddr {ports[b]} ether daddr {ports[a]} counter drop')
        nft(wires, "table bridge faults { chain forward { type filter hook forward priority 0; policy accept;\n" +
            "\n".join(rules) + "\n}\n}\n")
        grows(third, 500, 40)  # it has a leader, whoever does not hear whom
        before = elections(cluster)
        grows(third, 3000, 40)
        won = elections(cluster) - before
        check(won <= 1, f"{won} changes of leader while {a} does not reach {b}")
        check(packets_of(wires, "bridge", "faults") > 0, "nothing was cut")
        nft(wires, "delete table bridge faults")
        stop(ledger)
    settle(cluster)


@wired()
def twin(cluster, wires, twins):
    """A second node 1, of the same hardware address, with a directory of its own: refused by name; the
    majority goes on, and nothing is lost."""
    cluster.start()
    first = cluster.nodes[0]
    ledger = load(cluster, cluster.nodes[1], rate=2000)
    grows(cluster.nodes[1], 500)
    double = Node(cluster, 4)
    wires.wire(double)
    double.id = 1
    cluster.write_config(double)
    ip("ip", "-n", wires.names[4], "link", "set", "leat0", "address", wires.address(first).hex(":"))
    double.format()
    double.start()
    twins.append(double)
    wait_for(lambda: any(node.says("is refused") for node in cluster.nodes[1:]), "the second node 1 to be refused", 30)
    grows(cluster.nodes[1], 4000, 60)
    refused = sum(wait_for(node.status, "status")["drops"]["IDENTITY"] for node in cluster.nodes[1:])
    check(refused > 0, "no foreign identity was counted")
    role = (double.state() or {"role": "none", "next_offset": 0})
    check(role["role"] != "leader" and role["next_offset"] == 0, f"the second node 1 took part: {role}")
    double.kill()
    grows(first, 500)
    settle(cluster, ledger)


TESTS = [
    ("af_xdp on veth", xdp, {"net": "{kind: af_xdp, interface: leat0}"}),
    ("jumbo frames over af_packet", jumbo, {"net": "{kind: af_packet, interface: leat0, mtu: 9000}"}),
    ("jumbo frames over memif", jumbo_memif, {}),
    ("a third of the packets is lost", lossy, {"net": AF_PACKET}),
    ("long packets are lost", short_paths, {"net": AF_PACKET, **CALM}),
    ("packets come twice and to others", doubled, {"net": AF_PACKET}),
    ("directions are cut by rules", cut_by_rules, {"net": AF_PACKET}),
    ("two nodes of one id and address", twin, {"net": AF_PACKET}),
]

if __name__ == "__main__":
    if os.geteuid() != 0:
        print(f"1..{len(TESTS)}")
        for number, (name, _, _) in enumerate(TESTS, 1):
            print(f"ok {number} - {name} # SKIP needs root for network namespaces")
        sys.exit(0)
    sys.exit(run_tests(TESTS))
