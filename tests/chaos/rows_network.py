# SPDX-License-Identifier: Apache-2.0
"""N: links that lose, double, delay, corrupt, part, and the strangers on them."""
import os
import random
import threading

from cluster import BUILD, LEATD, check, wait_for
from test_packets import Forger, send
from wires import ip

from row import Row, row

SMALLPOOLS = os.path.join(BUILD, "tests", "chaos", "smallpools")


def link(a, b):
    return f'iifname "port{a.id}" oifname "port{b.id}"'


def pairs(stage):
    return [(a, b) for a in stage.cluster.nodes for b in stage.cluster.nodes if a is not b]


class Ruled(Row):
    """Faults by rules of the bridge: the packets they hit are the count."""

    def rules(self, stage):
        """Returns (what is said of them, the rules)."""
        raise NotImplementedError

    def lasts(self, stage):
        stage.sleep(1, 2.5)

    def inject(self, stage):
        text, rules = self.rules(stage)
        stage.forward(*rules)
        stage.note(text)
        self.lasts(stage)
        hits = stage.hits()
        stage.forward()
        stage.note(f"healed, {hits} packets hit")
        return hits


@row
class Loss(Ruled):
    id, what, least = "N1", "each direction of each link loses 0 to 60 % of its packets", 0.08

    def rules(self, stage):
        links = [(a, b, stage.rng.randint(0, 60)) for a, b in pairs(stage)]
        return "loss " + ", ".join(f"{a.id}>{b.id} {p}%" for a, b, p in links), \
            [f"{link(a, b)} numgen random mod 100 < {p} counter drop" for a, b, p in links if p]


class Switched(Row):
    """Faults by the faultswitch: what it says it did is the count."""
    switch, counted = True, ()

    def faults(self, stage):
        """Returns the settings of one link."""
        raise NotImplementedError

    def lasts(self, stage):
        stage.sleep(1, 2.5)

    def inject(self, stage):
        before = stage.switch.counts()
        for a, b in pairs(stage):
            stage.switch.set(a.id, b.id, **self.faults(stage))
        stage.note(f"the switch is set, the last link to {self.faults(stage)}")
        self.lasts(stage)
        stage.switch.clear()
        after = stage.switch.counts()
        done = {name: after[name] - before[name] for name in self.counted}
        stage.note(f"cleared: {done}")
        return sum(done.values())


@row
class Doubled(Switched):
    id, what, least = "N2", "packets come twice, and again seconds later, behind restarts too", 0.08
    counted = ("double", "replay")

    def faults(self, stage):
        return {"double": stage.rng.randint(0, 300), "replay": stage.rng.randint(0, 100),
                "replay_ms": stage.rng.randint(500, 6000)}

    def lasts(self, stage):
        stage.sleep(0.5, 1)
        node = stage.victim()
        node.kill()
        stage.note(f"killed {node.id}")
        node.start()
        stage.sleep(1, 3)


@row
class Reordered(Switched):
    id, what, counted, least = "N3", "packets overtake each other by up to 20 ms", ("late",), 0.08

    def faults(self, stage):
        return {"late": stage.rng.randint(50, 500), "late_us": int(stage.log_uniform(100, 20000))}


@row
class Corrupted(Switched):
    id, what, counted, least = "N4", "bits flip and packets are truncated", ("flip", "truncate"), 0.05

    def faults(self, stage):
        return {"flip": stage.rng.randint(10, 200), "truncate": stage.rng.randint(0, 100)}

    def end(self, stage):
        found = sum(sum(node.status()["drops"][name] for name in ("CRC", "PAYLOAD_CRC", "SHORT", "MAGIC"))
                    for node in stage.cluster.nodes)
        check(found > 0, "no node counted a corrupt datagram")


@row
class Parted(Ruled):
    id, what, nodes, least = "N5", "a minority is cut off: a node, the leader, two of five", 5, 0.08

    def rules(self, stage):
        leader = stage.cluster.leader(seconds=40)
        minority = stage.rng.choice(([leader], [stage.rng.choice(stage.others(leader))],
                                     [leader, stage.rng.choice(stage.others(leader))],
                                     stage.rng.sample(stage.others(leader), 2)))
        rest = stage.others(*minority)
        return f"{[n.id for n in minority]} cut off, {leader.id} led", \
            [f"{link(*ends)} counter drop" for a in minority for b in rest for ends in ((a, b), (b, a))]


@row
class OneWay(Row):
    id, what, least = "N6", "a node hears nobody, or is heard by nobody", 0.08

    def inject(self, stage):
        node, deaf = stage.victim(), stage.rng.random() < 0.5
        cut = stage.wires.deaf if deaf else stage.wires.mute
        cut(node)
        stage.note(f"node {node.id} is {'deaf' if deaf else 'mute'}")
        stage.sleep(1, 3)
        before = stage.campaigns()
        cut(node, False)
        stage.grows()
        stage.sleep(0.2, 0.5)
        stage.is_modest(node, before, 2)
        return 1


@row
class Partial(Ruled):
    id, what, nodes, least = "N7", "partial partitions of five: a pair, a ring of majorities, a chain", 5, 0.08

    def rules(self, stage):
        ring = stage.rng.sample(stage.cluster.nodes, 5)
        shape = stage.rng.choice(("pair", "ring", "chain"))
        joined = {"pair": lambda d, i, j: {i, j} != {0, 1}, "ring": lambda d, i, j: d in (1, 4),
                  "chain": lambda d, i, j: abs(i - j) == 1}[shape]
        cut = [(a, b) for i, a in enumerate(ring) for j, b in enumerate(ring)
               if i != j and not joined((j - i) % 5, i, j)]
        return f"{shape} {[n.id for n in ring]}", [f"{link(a, b)} counter drop" for a, b in cut]

    def lasts(self, stage):
        stage.sleep(2, 4)


@row
class SmallMtu(Ruled):
    id, what, least = "N8", "the links of one node lose what is longer than 600 to 1400 bytes", 0.06

    def rules(self, stage):
        node, longest = stage.victim(), stage.rng.randint(600, 1400)
        return f"nothing longer than {longest} bytes to and from node {node.id}", \
            [f"{link(*ends)} meta length > {longest} counter drop"
             for other in stage.others(node) for ends in ((node, other), (other, node))]


@row
class SlowLink(Switched):
    id, what, counted, least = "N9", "the links of one node are slow, or all are late", ("kbit", "delay_us"), 0.05

    def inject(self, stage):
        before = stage.switch.counts()
        if stage.rng.random() < 0.6:
            node, kbit = stage.victim(), int(stage.log_uniform(500, 20000))
            stage.switch.set(node.id, 0, kbit=kbit)
            stage.switch.set(0, node.id, kbit=kbit)
            stage.note(f"node {node.id} has {kbit} kbit/s")
        else:
            late = int(stage.log_uniform(500, 20000))
            stage.switch.set(0, 0, delay_us=late)
            stage.note(f"all links are {late} us long")
        stage.sleep(1, 3)
        stage.switch.clear()
        after = stage.switch.counts()
        return sum(after[name] - before[name] for name in self.counted)


@row
class Flaps(Row):
    id, what = "N10", "cables are pulled and plugged in again"

    def inject(self, stage):
        node, times = stage.victim(), stage.rng.randint(1, 5)
        for _ in range(times):
            stage.wires.cable(node, "down")
            stage.sleep(0.01, 0.8)
            stage.wires.cable(node, "up")
            stage.sleep(0.01, 0.3)
        stage.note(f"the cable of node {node.id} was pulled {times} times")
        stage.is_back(node)
        return times


def counted(node, *names):
    port = wait_for(node.status, f"status of node {node.id}")["port"]
    return sum(port[name] for name in names)


@row
class SmallPools(Row):
    id, what = "N10-pool", "a node has a few dozen packet buffers, which run out"
    NAMES = "rx_pool_empty", "rx_no_buffer", "tx_drop_no_buffer"

    def inject(self, stage):
        node, count = stage.victim(), int(stage.log_uniform(8, 40))
        smallpools(stage, node, count)
        wait_for(lambda: counted(node, *self.NAMES), f"the {count} buffers of node {node.id} to run out", 40)
        stage.sleep(0.5, 2)
        stage.grows(100, 30)
        hits = counted(node, *self.NAMES)
        stage.note(f"node {node.id} had {count} buffers, and {hits} times none")
        smallpools(stage, node, None)
        stage.is_back(node)
        return hits


def smallpools(stage, node, count):
    """Starts a node anew with so many packet buffers of each kind, or with all."""
    node.kill()
    stage.through(node, *([] if count is None else ["env", f"LEAT_SMALLPOOLS={count}"]))
    node.program = LEATD if count is None else SMALLPOOLS
    node.start()
    wait_for(node.state, f"node {node.id} to be up", 40)


@row
class FullRings(Row):
    id, what, memif = "N10-ring", "nodes do not empty the rings that others send into: they are full", True

    def inject(self, stage):
        node = stage.victim()
        rest = stage.others(node)
        before = sum(counted(n, "tx_drop_full", "tx_full") for n in rest)
        node.pause()
        try:
            wait_for(lambda: sum(counted(n, "tx_drop_full", "tx_full") for n in rest) > before,
                     f"the rings to node {node.id} to be full", 60)
            stage.sleep(0, 0.5)
        finally:
            node.go_on()
        hits = sum(counted(n, "tx_drop_full", "tx_full") for n in rest) - before
        stage.note(f"{hits} times the ring to node {node.id} was found full")
        stage.is_back(node)
        return hits


def garbage(stage):
    """Datagrams that the nodes dropped for what they are."""
    return sum(sum(wait_for(node.status, "status")["drops"].values()) for node in stage.cluster.nodes)


@row
class Strangers(Row):
    id, what = "N11", "a flood of garbage, and a second node of the same id and address"

    def begin(self, stage):
        self.raw = stage.wires.tap("attacker")
        rng = random.Random(stage.rng.getrandbits(32))
        self.frames = [frame for node in stage.cluster.nodes
                       for frames in Forger(stage.cluster, stage.wires, node).frames(rng).values() for frame in frames]
        rng.shuffle(self.frames)
        self.twin(stage)

    def twin(self, stage):
        """Lives for as long as the row does."""
        first = stage.cluster.nodes[0]
        twin = stage.stranger()
        ip("ip", "-n", stage.wires.names[-1], "link", "set", "leat0", "address", stage.wires.address(first).hex(":"))
        twin.id = first.id
        stage.cluster.write_config(twin)
        twin.format()
        twin.start()
        self.double = twin
        wait_for(lambda: any(n.says("is refused") for n in stage.cluster.nodes[1:]), "the twin to be refused", 30)
        stage.note(f"a second node {first.id} is refused")

    def inject(self, stage):
        sent = [0]

        def flood():
            sent[0] = send(self.raw, self.frames, 1.5, 8000)
        before = garbage(stage)
        thread = threading.Thread(target=flood)
        thread.start()
        wait_for(lambda: garbage(stage) > before, "some of it to arrive")
        stage.grows(100, 30)
        thread.join()
        stage.note(f"{sent[0]} packets of garbage")
        return sent[0]

    def end(self, stage):
        state = self.double.state() or {"role": "none", "next_offset": 0}
        check(state["role"] != "leader" and state["next_offset"] == 0, f"the second node 1 took part: {state}")
        self.double.kill()
        stage.is_back(stage.cluster.nodes[0])
