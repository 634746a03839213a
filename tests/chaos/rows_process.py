# SPDX-License-Identifier: Apache-2.0
"""P: processes that are killed, stopped, starved, and that crash again and again."""
import ctypes
import os
import resource
import shutil
import subprocess
import sys

from cluster import Library, check, wait_for
from disks import MIB

from row import Row, row


@row
class Killed(Row):
    id, what, calls = "P1", "kill -9 of one node, of the leader, of all; and at the k-th submission to its disk", True

    def inject(self, stage):
        return self.at_a_submission(stage) if stage.rng.random() < 0.4 else self.at_random(stage)

    def at_random(self, stage):
        victims = [stage.victim()] if stage.rng.random() < 0.8 else list(stage.cluster.nodes)
        for node in victims:
            node.kill()
        stage.note(f"killed {[n.id for n in victims]}")
        stage.sleep(0, 0.8)
        for node in victims:
            node.start()
        stage.grows()
        for node in victims:
            stage.is_back(node)
        return len(victims)

    def at_a_submission(self, stage):
        node, k, after = stage.victim(), stage.rng.randint(1, 500), stage.rng.random() < 0.5
        calls = stage.calls[node]
        calls.kill_at(after, submits=k)
        calls.dies(f"node {node.id} to be killed at its submission {k}")
        stage.note(f"node {node.id} was killed {'after' if after else 'before'} submission {k}")
        stage.grows()
        node.start()
        stage.is_back(node)
        return 1


@row
class Boundary(Row):
    """k goes up from one injection to the next; the seed says where it begins, and BOUNDARIES where it begins anew."""
    id, what, calls = "P2", "a crash at each change of the disk in turn, also while that is recovered from", True
    BOUNDARIES = 120  # a start has 20 to 30; those behind are the load's

    def begin(self, stage):
        self.k = stage.rng.randrange(self.BOUNDARIES)

    def inject(self, stage):
        self.k = self.k % self.BOUNDARIES + 1
        node = stage.victim()
        node.kill()
        again = stage.rng.randint(1, 40)
        for k in (self.k, again):
            after, forgets = stage.rng.random() < 0.5, stage.rng.random() < 0.3
            self.crash(stage, node, k, after)
            if forgets:
                shutil.rmtree(node.arena, ignore_errors=True)
            stage.note(f"node {node.id} crashed {'after' if after else 'before'} its change {k}" +
                       (", memory lost" if forgets else ""))
        node.start()
        stage.is_back(node)
        return 2

    @staticmethod
    def crash(stage, node, k, after):
        stage.calls[node].kill_at(after, calls=k)
        node.start()
        stage.calls[node].dies(f"node {node.id} to crash at its change {k} of the disk")


@row
class Paused(Row):
    id, what = "P3", "SIGSTOP of one node or all for 10 ms to 3 s"

    def inject(self, stage):
        victims = [stage.victim()] if stage.rng.random() < 0.9 else list(stage.cluster.nodes)
        seconds = stage.log_uniform(0.01, 3)
        for node in victims:
            node.pause()
        stage.note(f"stopped {[n.id for n in victims]} for {seconds:.3f} s")
        stage.sleep(seconds, seconds)
        for node in victims:
            node.go_on()
        return len(victims)


@row
class CrashLoop(Row):
    id, what = "P4", "a follower crashes again and again while it starts: no term goes up"

    def inject(self, stage):
        node, crashes = stage.follower(), stage.rng.randint(3, 6)
        before = stage.campaigns()
        for _ in range(crashes):
            node.kill()
            stage.sleep(0, 0.1)
            node.start()
            stage.sleep(0.02, 0.4)
        stage.note(f"node {node.id} crashed {crashes} times")
        stage.is_back(node)
        stage.is_modest(node, before, 1)
        return crashes


# ---- what is short ----

def lines_with(node, text):
    with open(node.log, encoding="utf-8", errors="replace") as log:
        return sum(text in line for line in log)


def hog(core, first_in_first_out):
    """A process that takes the core for itself, for ten seconds of it at most."""
    def become():
        os.sched_setaffinity(0, {core})
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        if first_in_first_out:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=become)


@row
class Short(Row):
    id, what = "P5", "memory is short at a node's start: refused or right; another takes its core: bounded"

    def begin(self, stage):
        self.turn = stage.rng.randrange(3)

    def inject(self, stage):
        self.turn += 1
        return (self.unlocked, self.narrow, self.starved)[self.turn % 3](stage, stage.victim())

    def unlocked(self, stage, node):
        """Not root's, who may lock what he likes."""
        limit = stage.rng.choice((0, 64 << 10, MIB, 4 * MIB))
        told = "not registered (RLIMIT_MEMLOCK)"
        before = lines_with(node, told)
        self.anew(stage, node, "setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock",
                  "prlimit", f"--memlock={limit}")
        self.is_right(stage, node, f"{limit} bytes that it may lock")
        check(node.process.poll() is not None or lines_with(node, told) > before,
              f"node {node.id} registers buffers with {limit} bytes that it may lock")
        self.heal(stage, node)
        return 1

    def narrow(self, stage, node):
        room = int(self.usual(node) * stage.rng.uniform(0.02, 1.1))
        self.anew(stage, node, "prlimit", f"--as={room}")
        self.is_right(stage, node, f"{room} bytes of addresses")
        self.heal(stage, node)
        return 1

    @staticmethod
    def anew(stage, node, *through):
        stage.through(node, *through)
        node.kill()
        node.start()

    @staticmethod
    def is_right(stage, node, limit):
        """It says why it does not start, or it is as good as ever."""
        wait_for(lambda: node.process.poll() is not None or node.state(), f"node {node.id} to start or to refuse", 40)
        if node.process.poll() is None:
            stage.is_back(node)
        code = node.process.poll()
        stage.note(f"node {node.id} has {limit}: " + ("runs" if code is None else node.last_lines(1)))
        check(code is None or code == 1 and " error " in node.last_lines(1), f"node {node.id} ended with {code}: "
              f"{node.last_lines()}")
        stage.grows()

    @staticmethod
    def usual(node):
        with open(f"/proc/{node.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()

    @staticmethod
    def heal(stage, node):
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()
        node.process = None
        stage.through(node)
        node.start()
        stage.is_back(node)

    @staticmethod
    def starved(stage, node):
        core, real_time = stage.rng.choice(sorted(os.sched_getaffinity(0))), stage.rng.random() < 0.5
        usual, seconds = os.sched_getaffinity(node.process.pid), stage.rng.uniform(0.3, 1.5)
        pin(node, {core})
        hogs = [hog(core, real_time) for _ in range(1 if real_time else 8)]
        try:
            stage.note(f"node {node.id} has core {core} with {len(hogs)} {'real-time' if real_time else 'plain'} hogs")
            stage.sleep(seconds, seconds)
            stage.grows(100, 30)
            check(all(each.poll() is None for each in hogs), "a hog ended")
        finally:
            for each in hogs:
                each.kill()
                each.wait()
            pin(node, usual)
        stage.is_back(node)
        return len(hogs)


def pin(node, cores):
    for thread in os.listdir(f"/proc/{node.process.pid}/task"):
        os.sched_setaffinity(int(thread), cores)


# ---- one worker of several ----

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


class Stopped:
    """with Stopped(thread): one thread of a process stands still."""

    def __init__(self, thread):
        self.thread, self.libc = thread, ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self.libc.ptrace.restype = ctypes.c_long

    def ask(self, what):
        check(self.libc.ptrace(what, self.thread, None, None) == 0, f"ptrace: {os.strerror(ctypes.get_errno())}")

    def __enter__(self):
        self.ask(PTRACE_SEIZE)
        self.ask(PTRACE_INTERRUPT)
        os.waitpid(self.thread, WALL)
        return self

    def __exit__(self, *_):
        self.ask(PTRACE_DETACH)
        return False


def worker_thread(node, number):
    """Worker n is the one that is pinned to core n alone. (Its io_uring's kernel threads are so as well.)"""
    def of_leatd(folder):
        with open(os.path.join(folder, "comm"), encoding="ascii") as name:
            return name.read().startswith("leatd")
    threads = f"/proc/{node.process.pid}/task"
    found = [int(thread) for thread in os.listdir(threads)
             if os.sched_getaffinity(int(thread)) == {number} and of_leatd(os.path.join(threads, thread))]
    check(len(found) == 1, f"worker {number} of node {node.id}: {found}")
    return found[0]


@row
class OneWorker(Row):
    """Over memif, where workers have queues of their own: with af_packet one's datagrams come through the other."""
    id, what = "P6", "one of two workers of a node stands still: the other's log goes on, its own fails over"
    logs, memif, settings = (1, 2), True, {"workers": 2, "lcores": "[0, 1]"}

    def prepare(self, stage):
        log = Library().must_create(stage.cluster.leader(), "other", segment_bytes=4 * MIB, arena_bytes=16 * MIB,
                                    entry_bytes_max=65536, accepts_replicated=1)
        check(log == 2, f"log {log} was made")

    def begin(self, stage):
        self.disturbed = self.stalls = 0
        stage.grows(log=2)

    def inject(self, stage):
        own = stage.rng.choice((1, 2))  # log n is worker n % 2's
        other = 3 - own
        node = wait_for(lambda: self.leads(stage.cluster.nodes, own), f"a leader of log {own}", 40)
        term = stage.term(other)
        rest = [n for n in stage.cluster.nodes if n is not node]
        with Stopped(worker_thread(node, own % 2)):
            stage.note(f"worker {own % 2} of node {node.id}, which leads log {own}, stands still")
            before = self.reached(rest, other)
            wait_for(lambda: self.reached(rest, other) >= before + 100000, f"log {other} to go on", 40)
            wait_for(lambda: self.leads(rest, own), f"log {own} to fail over", 40)
            after = self.reached(rest, own)
            wait_for(lambda: self.reached(rest, own) > after + 10000, f"log {own} to go on", 40)
        self.stalls += 1
        self.disturbed += stage.term(other) != term
        stage.note(f"it goes on; log {other}'s term was {term} and is {stage.term(other)}")
        stage.grows(log=own)
        return 1

    def end(self, stage):
        """An election of its own accord is forgiven, where cores are few."""
        stage.note(f"{self.disturbed} of {self.stalls} stalls came with an election of the other log")
        check(2 * self.disturbed <= self.stalls, f"{self.disturbed} of {self.stalls} stalls disturbed the other log")

    @staticmethod
    def leads(nodes, log):
        return next((n for n in nodes if (n.state(log) or {"role": "none"})["role"] == "leader"), None)

    @staticmethod
    def reached(nodes, log):
        return max((s["commit_durable"] for s in (n.state(log) for n in nodes) if s), default=0)
