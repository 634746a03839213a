# SPDX-License-Identifier: Apache-2.0
"""M: clients that keep to no rule; K: clocks; O: nodes and operators that are not who or where they should be."""
import glob
import json
import os
import shutil
import subprocess
import uuid

from cluster import LEAT, check, wait_for
from test_hostile import QUOTAS, hostile, line_of, said
from test_storage import trim
from test_tail import TAILS
from wires import ip

from row import Row, row


# ---- clients ----

class Hostile(Row):
    settings = {"more": QUOTAS}

    def begin(self, stage):
        """The sockets are for another user."""
        for folder in (stage.base, stage.cluster.dir):
            os.chmod(folder, 0o755)


@row
class Scribbled(Hostile):
    id, what = "M1", "clients scribble over their rings while the node reads them"

    def inject(self, stage):
        attackers = [hostile(stage.cluster, node, "scribble", 2, stage.rng.getrandbits(31))
                     for node in stage.rng.sample(stage.cluster.nodes, 2)]
        written = sum(said(each)[0]["written"] for each in attackers)
        stage.note(f"{written} words scribbled")
        check(all(node.process.poll() is None for node in stage.cluster.nodes), "a node ended")
        return written


@row
class Died(Hostile):
    id, what = "M2", "clients are killed at random moments"

    def inject(self, stage):
        node, count = stage.rng.choice(stage.cluster.nodes), stage.rng.randint(20, 60)
        result = said(hostile(stage.cluster, node, "die", count, stage.rng.getrandbits(31)))[0]
        stage.note(f"clients of node {node.id} killed: {result}")
        return count


@row
class Holes(Hostile):
    id, what = "M3", "clients punch holes into what is passed to them, truncate it, remove its pages"
    settings = {**Hostile.settings, "segment": "1MiB", "arena": "4MiB", "window": "1MiB"}

    def begin(self, stage):
        """The first segment and its index are among what is passed."""
        super().begin(stage)
        for node in stage.cluster.nodes:
            wait_for(lambda: glob.glob(os.path.join(node.data, "w*", "log-1.1", f"{0:016x}.index")),
                     f"the first segment's index on node {node.id}", 60)

    def inject(self, stage):
        node = stage.victim()
        result = said(hostile(stage.cluster, node, "grab"))[0]
        check(result["punched_before"] == 1, f"the ring could not be punched before it was given away: {result}")
        check(not result["done"], f"a client could: {result['done']}")
        check(node.process.poll() is None, f"node {node.id} ended")
        stage.note(f"a client of node {node.id} tried {result['tried']} things in vain")
        stage.sleep(0, 0.2)
        return result["tried"]


@row
class Stale(Hostile):
    id, what = "M4", "a client goes on in the ring of a node that was started anew"

    def inject(self, stage):
        node = stage.victim()
        stale = hostile(stage.cluster, node, "stale")
        check(line_of(stale)["published"] == 100, "it could not begin")
        node.kill()
        node.start()
        stage.is_back(node)
        stale.stdin.write("go on\n")
        result = said(stale)[0]
        check(result["answered"] == 0 and result["asked"] < 0, f"somebody answered: {result}")
        stage.note(f"node {node.id} was started anew: {result}")
        return 1


# ---- clocks ----

@row
class Clocks(Row):
    id, what = "K1", "a node starts with a monotonic clock days away; its time of day steps by up to ten years"
    calls = True
    LEAST_NS, MOST_NS = 1e7, 10 * 365 * 86400e9

    def inject(self, stage):
        node = stage.victim()
        return self.starts(stage, node) if stage.rng.random() < 0.4 else self.steps(stage, node)

    @staticmethod
    def starts(stage, node):
        days = stage.rng.randint(1, 3000)
        node.kill()
        stage.through(node, "unshare", "-T", "--monotonic", str(days * 86400), "--boottime", str(days * 86400))
        node.start()
        stage.note(f"node {node.id}'s clock is {days} days ahead")
        stage.is_back(node)
        return 1

    def steps(self, stage, node):
        calls, steps = stage.calls[node], stage.rng.randint(2, 6)
        for _ in range(steps):
            away = stage.rng.choice((-1, 1)) * int(stage.log_uniform(self.LEAST_NS, self.MOST_NS))
            told = calls["realtime_told"]
            calls.set(realtime_ns=away)
            wait_for(lambda: calls["realtime_told"] > told + 100, f"node {node.id} to look at the time of day")
            stage.note(f"node {node.id}'s time of day is {away / 1e9:+.2f} s away")
            stage.sleep(0, 0.3)
        calls.clear()
        return steps


@row
class Storm(Row):
    id, what, share = "K3", "all nodes are stopped again and again for 1 to 50 ms: no tail is stale", 0.5

    def begin(self, stage):
        self.tails = subprocess.Popen([TAILS, str(int(stage.seconds) + 1), *[n.socket for n in stage.cluster.nodes]],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        stage.cluster.helpers.append(self.tails)

    def inject(self, stage):
        stops = 0
        for _ in range(20):
            node = stage.rng.choice(stage.cluster.nodes)
            node.pause()
            stage.sleep(0.001, 0.05)
            node.go_on()
            stage.sleep(0, 0.03)
            stops += 1
        stage.note(f"{stops} stops")
        return stops

    def end(self, stage):
        out, err = self.tails.communicate(timeout=60)
        check(self.tails.returncode == 0, f"tails: {out.strip()} {err.strip()}")
        result = json.loads(out)
        stage.note(f"tails: {result}")
        check(result["stale"] == 0 and result["tails"] > 20, f"tails: {result}")


# ---- who is who ----

def drops(stage, name):
    return sum(wait_for(node.status, "status")["drops"][name] for node in stage.cluster.running())


@row
class Foreigner(Row):
    id, what = "O1", "a node of another cluster has the address of one of ours"

    def begin(self, stage):
        self.node = stage.stranger()
        self.node.id = stage.rng.choice(stage.cluster.nodes).id
        stage.cluster.write_config(self.node, cluster=str(uuid.UUID(int=stage.rng.getrandbits(128), version=4)))
        self.node.format()

    def inject(self, stage):
        before = drops(stage, "CLUSTER")
        self.node.start()
        stage.sleep(0.5, 1.5)
        stage.grows()
        refused = drops(stage, "CLUSTER") - before
        state = self.node.state() or {"role": "none"}
        check(state["role"] != "leader", f"it leads: {state}")
        self.node.kill()
        stage.note(f"a node {self.node.id} of another cluster: {refused} datagrams refused")
        return refused


def copied(source, to):
    """A node's data as a copy of a disk has it; all but the lock."""
    for name in os.listdir(to):
        path = os.path.join(to, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    subprocess.run(["cp", "-a", "--sparse=always", source + "/.", to], check=True)


def is_refused(by, node):
    return any(by.says(f"node {node.id}{text}")
               for text in (" is refused", ": a hello in its name is refused", ": a hello of another life"))


class Replaced(Row):
    """A follower comes back with other data than it had: refused. Then with its own: taken."""
    settings = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB"}

    def begin(self, stage):
        self.harmed = []

    def other_data(self, stage, node):
        raise NotImplementedError

    def inject(self, stage):
        """Each node once: what its peers said of it is looked for in their logs."""
        left = [n for n in stage.others(stage.cluster.leader()) if n not in self.harmed]
        if not left:
            stage.sleep(0.5, 1)
            return 0
        node = stage.rng.choice(left)
        self.harmed.append(node)
        self.other_data(stage, node)
        own = os.path.join(stage.base, f"own{node.id}")
        node.start()
        wait_for(lambda: node.process.poll() is not None or any(is_refused(n, node) for n in stage.others(node)),
                 "the other data to be refused", 20)
        stage.sleep(0.3, 1)
        stage.grows()
        state = node.state() or {"role": "none"}
        check(state["role"] != "leader", f"it leads: {state}")
        stage.note(f"node {node.id} had other data: {node.last_lines(1)}")
        node.power_cut() if node.process.poll() is None else node.process.wait()
        node.process = None
        copied(own, node.data)
        shutil.rmtree(own)
        node.start()
        stage.is_back(node)
        return 1


@row
class Backup(Replaced):
    id, what = "O3", "a node is started from an old copy of its disk"

    def other_data(self, stage, node):
        backup = os.path.join(stage.base, "backup")
        node.power_cut()
        shutil.copytree(node.data, backup)
        node.start()
        stage.is_back(node)
        stage.grows(2000)
        stage.is_back(node)
        node.power_cut()
        shutil.copytree(node.data, os.path.join(stage.base, f"own{node.id}"))
        copied(backup, node.data)
        shutil.rmtree(backup)


@row
class Wiped(Replaced):
    id, what = "O4", "a node's disk is wiped and formatted anew"

    def other_data(self, stage, node):
        node.power_cut()
        shutil.copytree(node.data, os.path.join(stage.base, f"own{node.id}"))
        for name in os.listdir(node.data):
            path = os.path.join(node.data, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        node.format()


@row
class Clone(Row):
    id, what = "O2", "a copy of a node's disk is started elsewhere, beside the node"
    settings = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB"}

    def begin(self, stage):
        self.clone = stage.stranger()
        self.of = stage.cluster.nodes[0]
        ip("ip", "-n", stage.wires.names[-1], "link", "set", "leat0", "address",
           stage.wires.address(self.of).hex(":"))
        self.clone.id = self.of.id
        stage.cluster.write_config(self.clone)

    def inject(self, stage):
        self.of.power_cut()
        copied(self.of.data, self.clone.data)
        self.of.start()
        stage.is_back(self.of)
        self.clone.start()
        stage.note(f"node {self.of.id} and its clone run")
        stage.sleep(0.5, 2)
        states = [n.state() or {"role": "none", "term": 0} for n in (self.of, self.clone)]
        stage.note("first and clone: " + ", ".join(f"{s['role']} of term {s['term']}" for s in states))
        check(len({s["term"] for s in states if s["role"] == "leader"}) == sum(s["role"] == "leader" for s in states),
              f"two leaders of one term: {states}")
        if self.clone.process.poll() is None:
            self.clone.power_cut()
        self.clone.process = None
        if self.of.process.poll() is not None:
            stage.note(f"the first ended: {self.of.last_lines(2)}")
            self.of.process = None
            self.of.start()
        stage.grows()
        stage.is_back(self.of)
        return 1


# ---- operators and load ----

@row
class Trims(Row):
    id, what = "O7", "the log is trimmed again and again under readers and a node that was down"
    settings, trimmed = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB"}, True

    def inject(self, stage):
        node = stage.follower()
        node.kill()
        stage.grows(5000)
        end = stage.committed()
        place = int(end * stage.rng.uniform(0.2, 1))
        reader = subprocess.Popen([LEAT, "tail", "--socket", stage.others(node)[0].socket, "--from", "start",
                                   "--count", "100000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stage.cluster.helpers.append(reader)
        trim(stage.cluster, place)
        node.start()
        stage.note(f"trimmed to {place} of {end} while node {node.id} was down")
        stage.is_back(node)
        reader.kill()
        reader.wait()
        return 1


@row
class Overload(Row):
    id, what = "O9", "ten times the load for a second: the rate is as before within 10 s"

    def begin(self, stage):
        self.usual = stage.rate

    def inject(self, stage):
        node = stage.rng.choice(stage.cluster.nodes)
        spike = stage.cluster.ledger()
        spike.start(node, ack="mixed", threads=8, inflight=1024, size=100, rate=10 * stage.rate, seconds=1,
                    timeout_ms=60000)
        stage.spikes.append(spike)
        result = spike.finish(90)
        stage.note(f"a spike at node {node.id}: {result}")
        stage.grows(self.usual // 10, 10)
        return result["ok"]
