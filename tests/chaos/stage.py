# SPDX-License-Identifier: Apache-2.0
"""What every chaos row is played on: real nodes in network namespaces, their data on file systems of their
own, clients on several nodes at a stated rate, a schedule of what was done to them, and the audit.

All of it lies in a tmpfs and ends with close(), whatever happened.
"""
import ctypes
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from cluster import BUILD, LEAT, LEDGER, PATIENCE, Cluster, Failure, Node, check, wait_for  # noqa: E402
from disks import MIB, Disk  # noqa: E402
from faultcalls import FaultCalls  # noqa: E402
from faultdisk import FaultDisk  # noqa: E402
from wires import Wires  # noqa: E402

FAULTSWITCH = os.path.join(BUILD, "tests", "chaos", "faultswitch")
AF_PACKET = "{kind: af_packet, interface: leat0}"
DISK_BYTES = 640 * MIB  # sparse; xfs takes no less than 300 MiB
CLIENT_NODES = 3
FRAME_BYTES = 100  # of a record, about
MORE_SECONDS = 10  # for a row that has injected nothing yet
USUAL_SECONDS = 0.5  # before the first injection: what the machine lets the cluster do today
USUAL_SHARE = 0.1  # of that is enough, where it is less than the row's own minimum
HEALED_SECONDS = 1  # of load behind the last injection: what was harmed does its work again
CLONE_NEWNS, MS_REC, MS_SLAVE = 0x20000, 0x4000, 0x80000
WRONG = ("lost", "lost_replicated", "duplicated", "reordered", "moved", "altered", "gaps", "refused_but_there")


def mounts_of_our_own():
    """Others that start meanwhile would get copies of ours: a file system that we unmount would live on in them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None) != 0:
        raise OSError(ctypes.get_errno(), "a mount namespace")


class Switch:
    """The faultswitch in place of the bridge between the nodes."""

    def __init__(self, stage):
        wires, ports = stage.wires, [f"port{n.id}" for n in stage.cluster.nodes]
        for port in ports:
            wires.inside("ip", "link", "set", port, "nomaster")
        # a switch has a processor of its own: starved of one it delays everything, whatever it was told
        self.process = subprocess.Popen(["nice", "-n", "-15", "nsenter", f"--net=/run/netns/{wires.switch}",
                                         FAULTSWITCH, "--seed", str(stage.rng.getrandbits(32)), *ports],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)  # a terminal's Ctrl-C is not for it
        check(self.process.stdout.readline() == "ready\n", "the switch does not start")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        check(answer and answer != "what?\n", f"the switch does not understand: {line}")
        return answer

    def set(self, source, to, **what):
        """Faults of the link from one node to another; 0: of all."""
        for name, number in what.items():
            self.ask(f"set {source} {to} {name} {number}")

    def clear(self):
        self.ask("clear")

    def counts(self):
        return json.loads(self.ask("counts"))

    def close(self):
        self.process.kill()
        self.process.wait()


class Stage:
    def __init__(self, row, seed, rate, seconds):
        self.row, self.seed, self.seconds = row, seed, seconds
        self.rate = int(rate * row.share)
        self.rng = random.Random(f"{seed} {row.id}")
        self.kind = self.rng.choice(("ext4", "xfs"))
        self.schedule, self.injected, self.acknowledged, self.offered, self.usual = [], 0, 0, 0, 0
        self.began, self.over = time.monotonic(), False
        self.wires = self.switch = self.cluster = None
        self.disks, self.calls, self.loads, self.spikes, self.strangers = {}, {}, [], [], []
        self.base = tempfile.mkdtemp(prefix="leat-chaos-", dir="/dev/shm")
        os.environ["LEAT_TEST_DIR"] = self.base
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        settings = {"segment": "4MiB", "arena": "16MiB", "largest_entry": "64KiB", "window": "2MiB"}
        net = {} if self.row.memif else {"net": AF_PACKET}
        self.cluster = Cluster(count=self.row.nodes, **{**settings, **net, **self.row.settings})
        self.wires = Wires(self.cluster)
        for node in self.cluster.nodes:
            if self.row.calls:
                self.calls[node] = FaultCalls(self.base, node)
            self.through(node)
        if self.row.switch:
            self.switch = Switch(self)
        make = FaultDisk if self.row.fault_disks else Disk
        for node in self.cluster.nodes:
            self.disks[node] = make(self.cluster, node, DISK_BYTES, kind=self.kind)
        self.cluster.start()
        for node in self.cluster.nodes:  # one may be late: the others lead without it
            self.state(node)
        self.note(f"{self.row.nodes} nodes on {self.kind}, node {self.cluster.leader().id} leads")

    def through(self, node, *more):
        """What the node's process is started through from now on. It has its own network and no more: `ip netns
        exec` would give it copies of the mounts too, in which the others' file systems stay mounted."""
        node.enter = ["nsenter", f"--net=/run/netns/leat-{node.id}-{self.wires.tag}", *more,
                      *(self.calls[node].environment if node in self.calls else [])]

    # ---- what a row asks and says ----

    def note(self, text):
        at = time.monotonic() - self.began
        self.schedule.append(f"{at:.3f} {text}")
        print(f"# {self.row.id} {at:6.2f} s  {text}", file=sys.stderr, flush=True)

    def sleep(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    def log_uniform(self, least, most):
        return least * (most / least) ** self.rng.random()

    def victim(self):
        """Every second time the leader."""
        leader = self.cluster.leader(seconds=40)
        return leader if self.rng.random() < 0.5 else self.rng.choice(self.others(leader))

    def others(self, *nodes):
        return [n for n in self.cluster.nodes if n not in nodes]

    def out(self, node):
        """For good: it is refused. With one node less nothing more may be injected."""
        if node.process.poll() is None:
            node.kill()
        node.process = None
        self.over = True

    def follower(self):
        return self.rng.choice(self.others(self.cluster.leader(seconds=40)))

    def state(self, node):
        return wait_for(node.state, f"node {node.id} to say how it is")

    def most(self, name, log=1):
        """By whoever knows of most."""
        states = [node.state(log) for node in self.cluster.running()]
        return max((s[name] for s in states if s), default=0)

    def committed(self, log=1):
        """Bytes."""
        return self.most("commit_durable", log)

    def term(self, log=1):
        return self.most("term", log)

    def campaigns(self, log=1):
        """By node; of all its lives."""
        def count(node):
            with open(node.log, encoding="utf-8", errors="replace") as lines:
                return sum(f" log {log}: candidate in term " in line for line in lines)
        return {node: count(node) for node in self.cluster.nodes}

    def is_modest(self, node, before, most):
        """The node did not campaign more than that, or no more than the others: who lacks cores loses leaders."""
        since = {n: count - before[n] for n, count in self.campaigns().items()}
        others = sum(since.values()) - since[node]
        check(since[node] <= most + others, f"node {node.id} campaigned {since[node]} times, all others {others} times")

    def stranger(self):
        """A node on a wire and a disk of its own that is not one of the cluster's; not yet configured."""
        node = Node(self.cluster, self.row.nodes + len(self.strangers) + 1)
        self.wires.wire(node)
        self.through(node)
        self.strangers.append(node)
        self.disks[node] = Disk(self.cluster, node, DISK_BYTES, kind=self.kind)
        return node

    def grows(self, count=200, seconds=40, log=1):
        """Appends are committed."""
        begin = self.committed(log)
        wait_for(lambda: self.committed(log) >= begin + count * FRAME_BYTES, f"{count} more records of log {log}",
                 seconds)

    def is_back(self, node, seconds=60):
        """A node has what was committed when it was asked for, and its memory."""
        want = self.committed()
        wait_for(lambda: self.has(node, want), f"node {node.id} to catch up", seconds)

    @staticmethod
    def has(node, want):
        state = node.state()
        return state and state["commit_durable"] >= want and not state["amnesiac"]

    def nft(self, rules):
        done = subprocess.run(["ip", "netns", "exec", self.wires.switch, "nft", "-f", "-"], input=rules,
                              capture_output=True, text=True)
        check(done.returncode == 0, f"nft: {done.stderr.strip()}")

    def forward(self, *rules):
        """Rules for what the switch passes on; replaces those there were. With none: it passes on all."""
        self.nft("table bridge faults\ndelete table bridge faults\n" + ("" if not rules else
                 "table bridge faults { chain forward { type filter hook forward priority 0; policy accept;\n" +
                 "\n".join(rules) + "\n}\n}\n"))

    def hits(self, family="bridge"):
        """Packets that the rules' counters have counted."""
        out = json.loads(self.wires.inside("nft", "-j", "list", "table", family, "faults"))
        return sum(part["counter"]["packets"] for line in out["nftables"]
                   for part in line.get("rule", {}).get("expr", []) if "counter" in part)

    # ---- load and audit ----

    def load(self):
        nodes = self.cluster.nodes[:CLIENT_NODES]
        for node, log in ((node, log) for node in nodes for log in self.row.logs):
            ledger = self.cluster.ledger()
            ledger.start(node, ack="mixed", threads=2, inflight=256, size=100, log=log, timeout_ms=60000,
                         rate=max(1, self.rate // len(nodes) // len(self.row.logs)))
            self.loads.append(ledger)
        self.load_began = time.monotonic()

    def look(self):
        """How many records a second it takes when nothing is wrong yet."""
        def records():
            return sum(self.most("next_offset", log) for log in self.row.logs)
        begin, before = time.monotonic(), records()
        time.sleep(USUAL_SECONDS)
        after = wait_for(lambda: max(0, records() - before), "a record", 40)
        self.usual = after / (time.monotonic() - begin)

    def due(self):
        """How many appends have to be acknowledged."""
        return int(min(self.offered * self.row.least, self.offered / self.rate * self.usual * USUAL_SHARE))

    def stop_load(self):
        self.offered = int(self.rate * (time.monotonic() - self.load_began))
        for ledger in self.loads:
            ledger.process.terminate()
        for ledger in self.loads:
            self.acknowledged += ledger.finish(90)["ok"]
        self.load_ended = time.monotonic()

    def audit(self):
        """Every ledger against every running node; the worst of each figure over nodes and logs."""
        worst = {}
        for node, log in ((node, log) for node in self.cluster.running() for log in self.row.logs):
            done = subprocess.run([LEDGER, "audit", "--socket", node.socket, "--log", str(log), "--foreign-allowed",
                                   *(["--trimmed-allowed"] if self.row.trimmed else []),
                                   *(ledger.path for ledger in self.loads + self.spikes if ledger.log == log)],
                                  capture_output=True, text=True, timeout=120 * PATIENCE)
            check(done.stdout.startswith("{"), f"audit on node {node.id}: {done.stderr.strip()}")
            figures = json.loads(done.stdout)
            check((done.returncode != 0) == any(figures[name] for name in WRONG),
                  f"audit on node {node.id}: exit {done.returncode}, yet {figures}")
            worst = {name: max(value, worst.get(name, 0)) for name, value in figures.items()}
        return worst

    def compare(self):
        """Stops the nodes, and compares the replicas byte by byte."""
        nodes = self.cluster.running()
        for node in nodes:
            node.process.terminate()
        for node in nodes:
            node.stop()
        done = subprocess.run([LEAT, "verify", "--digest", *[n.data for n in nodes]], capture_output=True, text=True,
                              timeout=120 * PATIENCE)
        check(done.returncode == 0, f"verify: {done.stdout.strip()} {done.stderr.strip()}")

    def keep(self, folder):
        """What is needed to understand a failure."""
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "schedule"), "w", encoding="utf-8") as out:
            out.write("\n".join(self.schedule) + "\n")
        for node in self.cluster.nodes:
            for path in (node.log, node.config):
                if os.path.exists(path):
                    shutil.copy(path, folder)
        for ledger in self.loads + self.spikes:
            if os.path.exists(ledger.path):
                shutil.copy(ledger.path, folder)

    def close(self):
        """Each step whatever became of the one before, and none of them interrupted."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_IGN)
        nodes = [*(self.cluster.running() if self.cluster else []), *(n for n in self.strangers if n.process)]
        steps = [*(functools.partial(end, helper) for helper in (self.cluster.helpers if self.cluster else [])),
                 *(disk.let_go for disk in self.disks.values()),  # a node that waits for its disk cannot die
                 *(node.go_on for node in nodes), *(node.kill for node in nodes),
                 *([self.switch.close] if self.switch else []), *([self.wires.close] if self.wires else []),
                 *(disk.close for disk in self.disks.values()), *([self.cluster.close] if self.cluster else [])]
        for step in steps:
            try:
                step()
            except Exception as error:
                print(f"# {self.row.id}: while cleaning up: {error}", file=sys.stderr, flush=True)
        shutil.rmtree(self.base, ignore_errors=True)
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def end(process):
    if process.poll() is None:
        process.kill()
        process.wait()


def play(row, seed, rate, seconds, keep=None):
    """One row; returns its line of the table."""
    print(f"# {row.id}: {row.what}", file=sys.stderr, flush=True)
    result = {"row": row.id, "injected": 0, "offered": 0, "acknowledged": 0, "lost": 0, "duplicated": 0,
              "reordered": 0, "longest_gap_ms": 0, "result": "ok",
              "wall_s": 0, "set_up_s": 0, "audit_s": 0, "undo_s": 0}
    stage, began = None, time.monotonic()
    try:
        stage = Stage(row, seed, rate, seconds)
        result["set_up_s"] = round(time.monotonic() - began, 1)
        figures = act(stage)
        result.update(due=stage.due(), usual=round(stage.usual))
        result["audit_s"] = round(time.monotonic() - stage.load_ended, 1)
        result.update(injected=stage.injected, offered=stage.offered, acknowledged=stage.acknowledged,
                      lost=figures["lost"] + figures["lost_replicated"], duplicated=figures["duplicated"],
                      reordered=figures["reordered"], longest_gap_ms=figures["longest_gap_ms"])
        judge(stage, figures)
    except Exception as error:  # whatever went wrong, the next row has its own stage
        text = str(error).strip() if isinstance(error, Failure) else traceback.format_exc().strip()
        result["result"] = f"FAILED: {text}"
        if stage:
            result.update(injected=stage.injected, offered=stage.offered, acknowledged=stage.acknowledged)
            stage.note(result["result"])
            for node in stage.cluster.nodes:
                if os.path.exists(node.log):
                    stage.note(f"node {node.id} (exit {node.process.poll() if node.process else '-'}): "
                               f"{node.last_lines(4)}")
            if keep:
                stage.keep(keep)
                result["kept"] = keep
    finally:
        over = time.monotonic()
        if stage:
            stage.close()
        result["undo_s"], result["wall_s"] = (round(time.monotonic() - since, 1) for since in (over, began))
    return result


def act(stage):
    row = stage.row
    row.prepare(stage)
    stage.load()
    for log in row.logs:
        stage.grows(log=log)
    stage.look()
    row.begin(stage)
    end = stage.load_began + stage.seconds
    while not stage.over and (stage.injected == 0 or time.monotonic() < end):
        before = stage.injected
        stage.injected += row.inject(stage)
        stage.grows()
        if stage.injected == before and time.monotonic() >= end + MORE_SECONDS:
            break
    time.sleep(max(HEALED_SECONDS, end - time.monotonic()))
    row.end(stage)
    stage.stop_load()
    stage.cluster.level()
    figures = stage.audit()
    stage.compare()
    return figures


def judge(stage, figures):
    least = stage.due()
    check(stage.injected > 0, "nothing was injected")
    wrong = {name: figures[name] for name in WRONG if figures[name]}
    check(not wrong, f"the audit: {wrong}")
    check(stage.acknowledged >= least,
          f"{stage.acknowledged} appends acknowledged of {stage.offered} offered, at least {least} are due; "
          f"{stage.usual:.0f} a second before the first fault")
