#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes on a switch, under load: hostile packets from a further host are dropped and counted by
reason; networks are cut in two, in one direction, in part, and healed. Ledgers are audited afterwards."""
import os
import random
import struct
import sys
import time
import uuid

from cluster import check, run_tests, wait_for
from wires import Wires

AF_PACKET = {"net": "{kind: af_packet, interface: leat0}"}
UDP_PORT = 7400
WIRE = struct.Struct("<IHHII16sIIQIIIHBBQ")  # docs/format.md, struct leat_wire_header
HELLO, HEARTBEAT, FORWARD = 2, 3, 4
HELLO_BYTES, HEARTBEAT_BYTES, FORWARD_BYTES = 56, 64, 56


def wired(function):
    def test(cluster):
        wires = Wires(cluster)
        try:
            function(cluster, wires)
        finally:
            for node in cluster.running():
                node.kill()
            wires.close()
    return test


def load(cluster, node, **options):
    ledger = cluster.ledger()
    ledger.start(node, **{"ack": "mixed", **options})
    return ledger


def records(node):
    return (node.state() or {"next_offset": -1})["next_offset"]


def grows(node, count=1000, seconds=30):
    begin = wait_for(lambda: records(node) + 1, "status") - 1
    wait_for(lambda: records(node) >= begin + count, f"{count} more records on node {node.id}", seconds)


def settle(cluster):
    cluster.level()
    audit = cluster.audit()
    check(audit["acknowledged"] > 0, "nothing was acknowledged")
    cluster.verify_digests()


# ---- packets ----

def make_crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data[:len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def address(n):
    return bytes((10, 77, 0, n))


def ipv4(source, to, payload, protocol=17, flags=0, options=b"", length=None):
    head = struct.pack(">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0,
                       length or 20 + len(options) + len(payload), 7, flags, 64, protocol, 0, source, to) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def udp(payload, port=UDP_PORT, length=None, check_sum=0):
    return struct.pack(">HHHH", UDP_PORT, port, length or 8 + len(payload), check_sum) + payload


class Forger:
    """Frames to one node, each of a kind that is to be counted under one reason."""

    def __init__(self, cluster, wires, node, peer=None):
        self.cluster, self.node = cluster, node
        self.peer = peer or next(other for other in cluster.nodes if other is not node)
        self.ethernet = wires.address(node) + bytes.fromhex("02bad0bad0ba")
        self.incarnation = next(p for p in wait_for(node.status, "status")["peers"] if p["node"] == self.peer.id)["incarnation"]

    def frame(self, payload, kind=0x0800):
        return self.ethernet + struct.pack(">H", kind) + payload

    def datagram(self, payload, source=None, **options):
        return self.frame(ipv4(source or address(self.peer.id), address(self.node.id), udp(payload, **options)))

    def message(self, kind=HEARTBEAT, body=bytes(HEARTBEAT_BYTES), payload=b"", crc=None, payload_crc=None, **changes):
        fields = {"magic": 0x5441454C, "version": 6, "kind": kind, "crc": 0,
                  "payload_crc": crc32c(payload) if payload else 0, "cluster": uuid.UUID(self.cluster.uuid).bytes,
                  "from": self.peer.id, "to": self.node.id, "incarnation": self.incarnation, "log": 1,
                  "generation": 1, "payload": len(payload), "body": len(body), "worker": 0, "workers": 1, "epoch": 0}
        fields.update(changes)
        if payload_crc is not None:
            fields["payload_crc"] = payload_crc
        whole = WIRE.pack(*fields.values()) + body
        fields["crc"] = crc32c(whole) if crc is None else crc
        return WIRE.pack(*fields.values()) + body + payload

    def frames(self, rng):
        here, peer = address(self.node.id), address(self.peer.id)
        good = self.message()
        piece = struct.pack("<16sQIIIIQQ", rng.randbytes(16), 1, 100, 0, 0, 0, 0, 0)
        arp = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, rng.randbytes(6), address(99), bytes(6), here)
        plain = udp(good)
        return {
            ("port", "rx_drop_runt"): [self.frame(arp[:10], 0x0806), self.frame(arp[:27], 0x0806)],
            ("port", "rx_drop_ethertype"): [self.frame(rng.randbytes(60), 0x86DD), self.frame(rng.randbytes(1500), 0x88B5),
                                            self.frame(b"\0\6" + arp[2:], 0x0806)],
            # the kernel's packet socket puts fragments together and shows none
            ("", "fragments"): [self.frame(ipv4(peer, here, plain, flags=0x2000)),
                                self.frame(ipv4(peer, here, rng.randbytes(800), flags=100))],
            ("port", "rx_drop_ip"): [self.frame(ipv4(peer, here, plain, options=bytes((7, 4, 4, 0)))),
                                     self.frame(ipv4(peer, here, plain, length=1400)),
                                     self.frame(b"\x45" + rng.randbytes(400))],
            ("port", "rx_drop_address"): [self.frame(ipv4(peer, address(77), plain))],
            ("port", "rx_drop_protocol"): [self.frame(ipv4(peer, here, rng.randbytes(40), protocol=6)),
                                           self.frame(ipv4(peer, here, rng.randbytes(40), protocol=1))],
            ("port", "rx_drop_udp"): [self.datagram(good, length=9), self.datagram(good, length=2000),
                                      self.datagram(good, check_sum=0x1234), self.frame(ipv4(peer, here, b"\x1c"))],
            ("port", "rx_drop_port"): [self.datagram(good, port=7401), self.datagram(rng.randbytes(30), port=53)],
            ("port", "rx_drop_source"): [self.datagram(good, source=address(200)), self.datagram(good, source=here)],
            ("port", "rx_arp"): [self.frame(arp, 0x0806),
                                 b"\xff" * 6 + self.ethernet[6:] + b"\x08\x06" + arp[:7] + b"\2" + arp[8:]],
            ("drops", "SHORT"): [self.datagram(b""), self.datagram(good[:71]), self.datagram(good[:-1])],
            ("drops", "LONG"): [self.datagram(good + b"x"), self.datagram(good + bytes(WIRE.size - 1))],
            ("drops", "MAGIC"): [self.datagram(rng.randbytes(200)), self.datagram(rng.randbytes(1472)),
                                 self.datagram(good + rng.randbytes(1472 - len(good)))],
            ("drops", "VERSION"): [self.datagram(self.message(version=1))],
            ("drops", "KIND"): [self.datagram(self.message(kind=99)), self.datagram(self.message(body=bytes(8)))],
            ("drops", "CRC"): [self.datagram(self.message(crc=rng.getrandbits(32))),
                               self.datagram(good[:20] + bytes((good[20] ^ 1,)) + good[21:])],
            ("drops", "PAYLOAD_CRC"): [self.datagram(self.message(FORWARD, piece, rng.randbytes(100), payload_crc=5))],
            ("drops", "CLUSTER"): [self.datagram(self.message(cluster=rng.randbytes(16)))],
            ("drops", "TO"): [self.datagram(self.message(to=self.peer.id)), self.datagram(self.message(to=55))],
            ("drops", "FROM"): [self.datagram(self.message(**{"from": 55})),
                                self.datagram(self.message(**{"from": self.node.id}))],
            ("drops", "WORKER"): [self.datagram(self.message(worker=9))],
            ("drops", "BODY"): [self.datagram(self.message(epoch=1)),
                                self.datagram(self.message(FORWARD, piece[:32] + b"\xff" * 4 + piece[36:], rng.randbytes(100)))],
            ("drops", "INCARNATION"): [self.datagram(self.message(incarnation=0))],
            ("drops", "LOG"): [self.datagram(self.message(FORWARD, piece, rng.randbytes(100), log=4711)),
                               self.datagram(self.message(FORWARD, piece, rng.randbytes(100), generation=9))],
        }


def counters(node):
    status = wait_for(node.status, f"status of node {node.id}")
    return {(group, name): value for group in ("port", "drops") for name, value in status[group].items()}


def send(raw, frames, seconds, a_second):
    """`frames` in turn at a rate; returns how many were sent."""
    begin, sent = time.monotonic(), 0
    while time.monotonic() < begin + seconds:
        while sent < (time.monotonic() - begin) * a_second:
            try:
                raw.send(frames[sent % len(frames)])
            except OSError:  # the queue is full
                break
            sent += 1
        time.sleep(0.001)
    return sent


@wired
def hostile(cluster, wires):
    leader = cluster.start()
    ledgers = [load(cluster, node, threads=1, rate=4000) for node in (leader, cluster.follower())]
    grows(leader)
    raw, rng = wires.tap("attacker"), random.Random(11)
    before = {node: counters(node) for node in cluster.nodes}
    flood, sent = [], {}
    for node in cluster.nodes:
        for reason, frames in Forger(cluster, wires, node).frames(rng).items():
            flood += frames
            sent[node, reason] = len(frames)
    rng.shuffle(flood)
    begin = records(leader)
    rounds = send(raw, flood, 4, 6000) / len(flood)
    check(rounds > 5, f"only {rounds} rounds were sent")
    check(records(leader) > begin + 1000, "appends did not go on under the flood")
    for (node, reason), count in sent.items():
        wait_for(lambda: not reason[0] or counters(node)[reason] - before[node][reason] >= count * rounds * 0.5,
                 f"node {node.id} to count {count * rounds:.0f} packets as {reason}", 3)
    grows(leader)
    for ledger in ledgers:
        result = ledger.stop()
        check(result["unknown"] == 0 and result["no"] == 0, f"appends failed: {result}")
    settle(cluster)


@wired
def oversized(cluster, wires):
    leader = cluster.start()
    ledger = load(cluster, leader, threads=1, rate=4000)
    wires.widen(9000)
    raw, rng = wires.tap("attacker"), random.Random(13)
    before = {node: counters(node) for node in cluster.nodes}
    frames = []
    for node in cluster.nodes:
        forger = Forger(cluster, wires, node)
        frames += [forger.datagram(rng.randbytes(size)) for size in (1473, 2000, 2040, 2048, 4000, 8900)]
        frames += [forger.datagram(forger.message() + rng.randbytes(size)) for size in (1800, 1900, 5000)]
    check(send(raw, frames, 2, 3000) > 1000, "too few were sent")
    for node in cluster.nodes:
        now = counters(node)
        check(sum(now[r] - before[node][r] for r in now if "drop" in r[1] and r[0] == "port" or r[0] == "drops") > 100,
              f"node {node.id} counted no drops: {now}")
    grows(leader)
    check(ledger.stop()["unknown"] == 0, "appends failed")
    settle(cluster)


@wired
def replayed(cluster, wires):
    """What node 1 and the others said to each other is said again: at once, bit-flipped, and after node 1
    was restarted."""
    leader = cluster.start()
    node = cluster.nodes[0]
    ledger = load(cluster, cluster.nodes[1], threads=1, rate=4000, timeout_ms=30000)
    grows(leader)
    listener, raw, rng = wires.tap("port1"), wires.tap("attacker"), random.Random(17)
    listener.settimeout(5)
    heard = [frame for frame in (listener.recv(2048) for _ in range(3000)) if frame[12:14] == b"\x08\x00"]
    listener.close()
    # from the attacker's own hardware address: else the switch would take the nodes to be at its port
    heard = [frame[:6] + bytes.fromhex("02bad0bad0ba") + frame[12:] for frame in heard]
    check(len(heard) > 1000, f"only {len(heard)} captured")
    before = {n: counters(n) for n in cluster.nodes}
    send(raw, heard, 2, 6000)
    flipped = []
    for frame in heard:
        bit = rng.randrange(8 * 42, 8 * len(frame))  # beyond the headers, which the switch needs
        flipped.append(frame[:bit // 8] + bytes((frame[bit // 8] ^ 1 << bit % 8,)) + frame[bit // 8 + 1:])
    send(raw, flipped, 2, 6000)
    dropped = sum(counters(n)["drops", name] - before[n]["drops", name] for n in cluster.nodes
                  for name in ("CRC", "PAYLOAD_CRC", "MAGIC", "VERSION", "KIND", "SHORT", "LONG"))
    check(dropped > 1000, f"only {dropped} bit-flipped datagrams were counted")
    node.kill()
    node.start()
    wait_for(node.state, "node 1")
    send(raw, heard, 2, 6000)
    grows(cluster.nodes[1])
    past = counters(node)["drops", "INCARNATION"] + counters(cluster.nodes[1])["drops", "INCARNATION"]
    check(past > 100, f"only {past} datagrams of a past life were counted")
    result = ledger.stop()
    check(result["unknown"] == 0, f"appends failed: {result}")
    settle(cluster)


@wired
def impostor(cluster, wires):
    """A datagram that says hello as a peer, with another identity or from the past, is counted, said, and
    does not part those who know each other."""
    leader = cluster.start()
    ledger = load(cluster, leader, threads=1, rate=4000)
    grows(leader)
    raw = wires.tap("attacker")
    node = leader
    before = counters(node)
    frames = []
    for peer in others(cluster, node):
        forger = Forger(cluster, wires, node, peer)
        # struct leat_wire_hello: uuid, incarnation, highest durable of two logs, genesis of two logs, flags
        stranger = struct.pack("<16sQQQII8s", os.urandom(16), forger.incarnation, 1 << 40, 1 << 40, 1, 2, bytes(8))
        frames.append(forger.datagram(forger.message(HELLO, stranger)))
    send(raw, frames, 2, 1000)
    check(counters(node)["drops", "IDENTITY"] - before["drops", "IDENTITY"] > 500, "IDENTITY was not counted")
    check(node.says("is refused"), "nothing was said")
    grows(leader)
    check(all(p["known"] for p in node.status()["peers"]), "an impostor sent the peers away")
    check(ledger.stop()["unknown"] == 0, "appends failed")
    settle(cluster)


# ---- cuts ----

def others(cluster, node):
    return [other for other in cluster.nodes if other is not node]


def minority_is_silent(ledger):
    """Appends that were started on the cut-off side end as unknown or no, never as acknowledged."""
    result = ledger.stop()
    check(result["ok"] == 0, f"the minority acknowledged: {result}")


@wired
def partition(cluster, wires):
    leader = cluster.start()
    majority = others(cluster, leader)
    ledger = load(cluster, majority[0])
    grows(leader)
    wires.deaf(leader)
    wires.mute(leader)
    wait_for(lambda: (leader.state() or {"role": ""})["role"] != "leader", "the cut-off leader to step down", 10)
    cut_off = load(cluster, leader, timeout_ms=1500, threads=1, inflight=8)
    cluster.leader(but=leader)
    grows(majority[0], 5000)
    minority_is_silent(cut_off)
    wires.deaf(leader, False)
    wires.mute(leader, False)
    grows(majority[0])
    after = load(cluster, leader)
    grows(leader)
    for each in (ledger, after):
        check(each.stop()["unknown"] == 0, "appends of the majority failed")
    settle(cluster)


@wired
def asymmetric(cluster, wires):
    """A leader that hears nobody steps down; one that nobody hears is replaced; a deaf or mute follower
    disturbs nobody."""
    cluster.start()
    for cut in (wires.deaf, wires.mute):
        leader = cluster.leader()
        rest = others(cluster, leader)
        ledger = load(cluster, rest[0])
        grows(rest[0])
        cut(leader)
        cluster.leader(but=leader)
        grows(rest[0], 3000)
        cut(leader, False)
        grows(leader)
        check(ledger.stop()["unknown"] == 0, "appends failed")
    for cut in (wires.deaf, wires.mute):
        leader = cluster.leader()
        follower = others(cluster, leader)[0]
        ledger = load(cluster, leader)
        grows(leader)
        term = leader.state()["term"]
        cut(follower)
        grows(leader, 3000)
        time.sleep(1.5)  # several election timeouts: what must not happen has time to
        cut(follower, False)
        grows(follower)
        check(leader.state()["term"] <= term + 1, "a half-deaf follower deposed leaders again and again")
        check(ledger.stop()["unknown"] == 0, "appends failed")
    settle(cluster)


@wired
def partial(cluster, wires):
    """Leader and one follower do not hear each other, both hear the third: one leader stays or comes, and
    all appends go on."""
    leader = cluster.start()
    first, second = others(cluster, leader)
    ledger = load(cluster, second, timeout_ms=30000)
    grows(leader)
    wires.apart(leader, first)
    grows(second, 20000, 60)
    wires.apart(leader, first, False)
    grows(second)
    check(ledger.stop()["unknown"] == 0, "appends failed")
    settle(cluster)


@wired
def cable_pulled(cluster, wires):
    leader = cluster.start()
    rest = others(cluster, leader)
    ledger = load(cluster, rest[0], timeout_ms=30000)
    grows(leader)
    for node in (rest[1], leader):
        for _ in range(3):
            wires.cable(node, "down")
            grows(rest[0], 2000)
            wires.cable(node, "up")
            grows(node, 500)
    for node in cluster.nodes:
        wires.cable(node, "down")
    wait_for(lambda: cluster.find_leader() is None, "no leader while all cables are pulled", 10)
    for node in cluster.nodes:
        wires.cable(node, "up")
    grows(rest[0])
    check(ledger.stop()["unknown"] == 0, "appends failed")
    settle(cluster)


TESTS = [
    ("hostile packets are counted by reason", hostile, AF_PACKET),
    ("oversized packets", oversized, AF_PACKET),
    ("replayed and bit-flipped packets", replayed, AF_PACKET),
    ("an impostor's hello", impostor, AF_PACKET),
    ("the leader is cut off", partition, AF_PACKET),
    ("deaf and mute nodes", asymmetric, AF_PACKET),
    ("two nodes do not hear each other", partial, AF_PACKET),
    ("cables are pulled", cable_pulled, AF_PACKET),
]

if __name__ == "__main__":
    if os.geteuid() != 0:
        print(f"1..{len(TESTS)}")
        for number, (name, _, _) in enumerate(TESTS, 1):
            print(f"ok {number} - {name} # SKIP needs root for network namespaces")
        sys.exit(0)
    sys.exit(run_tests(TESTS))
