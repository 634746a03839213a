# SPDX-License-Identifier: Apache-2.0
"""Real nodes for system tests: configured, formatted, started, killed, paused, power-cut, stopped.

A test is a function that takes a Cluster; run_tests() prints TAP. Waits are on conditions, with a bound
that fails the test. Every process is ended by its id, every file removed, whatever happens.
"""
import ctypes
import functools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

BUILD = os.environ.get("LEAT_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
LEATD = os.path.join(BUILD, "tools", "leatd")
LEAT = os.path.join(BUILD, "tools", "leat")
LEDGER = os.path.join(BUILD, "tests", "system", "ledger")
# sanitized nodes on two shared cores are several times slower: bounds, not conditions, grow
PATIENCE = float(os.environ.get("LEAT_TEST_PATIENCE", "1"))
# nodes that sleep when idle: several tests run side by side
IDLE = os.environ.get("LEAT_TEST_IDLE", "sleep")

LIBC = ctypes.CDLL(None)
LEDGER_ROW = struct.Struct("<QIiQQQIIQ")  # ledger.c, struct ledger_row


class Failure(Exception):
    pass


slow_waits = []  # of the test that runs: for a failed one's report


def wait_for(condition, what, seconds=20.0):
    """Returns the first true value of condition(); fails after `seconds`."""
    begin = time.monotonic()
    end = begin + seconds * PATIENCE
    while True:
        value = condition()
        waited = time.monotonic() - begin
        if value and waited > 2:
            slow_waits.append(f"{waited:.1f} s for {what}")
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.01)


# For tests in which nobody may campaign: the machine stands still for longer than the usual timeouts now and then.
CALM = {"election": "[1s, 2s]"}


def pressure(what):
    """Seconds that some task of the machine has waited for `what` ("io", "cpu") since it started; 0 where it is not told."""
    try:
        with open(f"/proc/pressure/{what}", encoding="ascii") as file:
            return int(file.readline().rsplit("total=", 1)[1]) / 1e6
    except OSError:
        return 0.0


def check(condition, what):
    if not condition:
        raise Failure(what)


class Node:
    def __init__(self, cluster, node_id):
        self.cluster, self.id = cluster, node_id
        self.socket = os.path.join(cluster.dir, f"node{node_id}.sock")
        self.config = os.path.join(cluster.dir, f"node{node_id}.yaml")
        self.data = os.path.join(cluster.dir, f"data{node_id}")
        self.log = os.path.join(cluster.dir, f"node{node_id}.log")
        self.arena = os.path.join(cluster.arena, f"node{node_id}")
        self.process, self.enter, self.program = None, [], LEATD  # enter: what leatd is started through

    def format(self):
        done = subprocess.run([LEAT, "format", "--config", self.config], capture_output=True, text=True)
        check(done.returncode == 0, f"format: {done.stdout}{done.stderr}")

    def start(self):
        check(self.process is None, f"node {self.id} runs already")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.enter, self.program, "--config", self.config], stdout=log, stderr=log,
                                            preexec_fn=self.cluster.preexec)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def power_cut(self):
        """The process and its memory are gone; the disk is as it is."""
        self.kill()
        shutil.rmtree(self.arena, ignore_errors=True)

    def stop(self):
        """SIGTERM: a clean stop."""
        self.process.terminate()
        try:
            code = self.process.wait(30 * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"node {self.id} did not stop")
        self.process = None
        check(code == 0, f"node {self.id} stopped with {code}: {self.last_lines(5)}")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def status(self):
        """The node's state, or None while it cannot say."""
        if self.process is None or self.process.poll() is not None:
            return None
        text = library().status(self.socket)
        return json.loads(text) if text else None

    def told(self):
        """What it counts, but zeros and what it is made of: for a failed test's report."""
        if not self.status():
            return "nothing is told"
        done = subprocess.run([LEAT, "counters", "--socket", self.socket], capture_output=True, text=True, timeout=5)
        skipped = ("workers.", "catalogue", "logs.0.counters")
        return ", ".join(line for line in done.stdout.splitlines() if not line.startswith(skipped))

    def state(self, log=1):
        status = self.status()
        return next((s for s in status["logs"] if s["log"] == log), None) if status else None

    def last_lines(self, count=3):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return " / ".join(line.strip() for line in log.readlines()[-count:])

    def says(self, text):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return text in log.read()


class LogEntry(ctypes.Structure):
    """struct leat_log_entry"""
    _fields_ = [("name", ctypes.c_char * 48), ("log", ctypes.c_uint32), ("entry_bytes_max", ctypes.c_uint32),
                ("segment_bytes", ctypes.c_uint64), ("arena_bytes", ctypes.c_uint64),
                ("retention_bytes", ctypes.c_uint64), ("retention_ns", ctypes.c_uint64),
                ("created_ns", ctypes.c_uint64), ("owner_uid", ctypes.c_uint32),
                ("accepts_replicated", ctypes.c_int)]


class Library:
    """libleat.so, for what the tools do not do."""

    def __init__(self):
        self.lib = ctypes.CDLL(os.path.join(BUILD, "client", "libleat.so"))

    def status(self, socket):
        """None while the node cannot say. Asked so often that a process each time would take the cores from the nodes."""
        text = ctypes.c_void_p()
        if self.lib.leat_status(socket.encode(), ctypes.byref(text)) != 0:
            return None
        try:
            return ctypes.string_at(text).decode()
        finally:
            LIBC.free(text)

    def create(self, node, name, seconds=30, **settings):
        """Returns (error, log id, explanation)."""
        entry = LogEntry(name=name.encode(), **settings)
        log, text = ctypes.c_uint32(), ctypes.create_string_buffer(256)
        error = self.lib.leat_log_create(node.socket.encode(), ctypes.byref(entry),
                                         ctypes.c_uint64(int(seconds * PATIENCE * 1e9)), ctypes.byref(log), text, 256)
        return error, log.value, text.value.decode()

    def must_create(self, node, name, **settings):
        error, log, why = self.create(node, name, **settings)
        check(error == 0, f"creating log {name}: {error} {why}")
        return log

    def delete(self, node, log):
        text = ctypes.create_string_buffer(256)
        return self.lib.leat_log_delete(node.socket.encode(), log, text, 256), text.value.decode()

    def configure(self, node, log, retention_bytes=0, retention_ns=0):
        text = ctypes.create_string_buffer(256)
        return self.lib.leat_log_configure(node.socket.encode(), log, ctypes.c_uint64(retention_bytes),
                                           ctypes.c_uint64(retention_ns), text, 256), text.value.decode()

    def logs(self, node):
        entries, count = (LogEntry * 1024)(), ctypes.c_size_t()
        error = self.lib.leat_logs(node.socket.encode(), entries, 1024, ctypes.byref(count))
        check(error == 0, f"leat_logs: {error}")
        return [entries[i] for i in range(count.value)]


@functools.cache
def library():
    return Library()


class Ledger:
    """Appends until stopped, or audits."""

    def __init__(self, cluster, run):
        self.path = os.path.join(cluster.dir, f"ledger-{run}")
        self.cluster, self.run, self.process, self.log = cluster, run, None, 1

    def start(self, node, **options):
        self.log = options.get("log", 1)
        arguments = [LEDGER, "append", "--socket", node.socket, "--out", self.path, "--run", str(self.run)]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.cluster.helpers.append(self.process)

    def rows(self):
        """How many appends were written down as ended so far (the file is buffered)."""
        return os.path.getsize(self.path) // LEDGER_ROW.size if os.path.exists(self.path) else 0

    def stop(self):
        """It makes its file when a signal can stop it: before that, one would end it without a word."""
        wait_for(lambda: self.process.poll() is not None or os.path.exists(self.path), f"ledger {self.run} to begin")
        if self.process.poll() is None:
            self.process.terminate()
        return self.finish()

    def finish(self, seconds=60):
        out, err = self.process.communicate(timeout=seconds * PATIENCE)
        check(self.process.returncode == 0, f"ledger {self.run}: {err.strip()} {out.strip()}")
        return json.loads(out)


class Cluster:
    def __init__(self, count=3, replicated=True, **settings):
        base = os.environ.get("LEAT_TEST_DIR", "/var/tmp")
        self.dir = tempfile.mkdtemp(prefix="leat-test-", dir=base)
        self.arena = os.path.join("/dev/shm", os.path.basename(self.dir))
        os.mkdir(self.arena, 0o700)
        self.helpers, self.ledgers, self.preexec = [], [], None
        self.uuid = str(uuid.uuid4())
        self.nodes = [Node(self, i + 1) for i in range(count)]
        self.settings = {"replicated": "true" if replicated else "false", **settings}
        for node in self.nodes:
            self.write_config(node)

    def write_config(self, node, **changes):
        settings = {**self.settings, **changes}
        memif = f"{{kind: memif, memif_dir: {os.path.join(self.dir, 'memif')}}}"
        with open(node.config, "w", encoding="utf-8") as out:
            out.write(f"cluster: {settings.get('cluster', self.uuid)}\nnode: {settings.get('node', node.id)}\n"
                      "nodes:\n")
            for other in self.nodes:
                out.write(f"  - {{id: {other.id}, ip: 10.77.0.{other.id}}}\n")
            out.write(f"socket: {node.socket}\n"
                      f"net: {settings.get('net', memif)}\n"
                      f"storage: {{data_dir: {settings.get('data', node.data)}, scrub: {settings.get('scrub', '10MiB')}}}\n"
                      f"memory: {{arena_dir: {node.arena}}}\n"
                      f"default_log: {{replicated: {settings['replicated']}, "
                      f"segment: {settings.get('segment', '16MiB')}, arena: {settings.get('arena', '32MiB')}, "
                      f"largest_entry: {settings.get('largest_entry', '256KiB')}}}\n"
                      f"worker: {{count: {settings.get('workers', 1)}, idle: {settings.get('idle', IDLE)}"
                      f"{', lcores: ' + settings['lcores'] if 'lcores' in settings else ''}"
                      f"{', trace: ' + settings['trace'] if 'trace' in settings else ''}}}\n"
                      f"raft: {{window: {settings.get('window', '4MiB')}, "
                      f"election_timeout: {settings.get('election', '[150ms, 300ms]')}}}\n"
                      f"{settings.get('more', '')}")

    def start(self):
        for node in self.nodes:
            node.format()
            node.start()
        return self.leader()

    def running(self):
        return [node for node in self.nodes if node.process is not None]

    def find_leader(self, but=None):
        for node in self.running():
            state = node.state() if node is not but else None
            if state and state["role"] == "leader":
                return node
        return None

    def leader(self, but=None, seconds=60):
        """All may have just been started, on a disk that stands still for seconds."""
        return wait_for(lambda: self.find_leader(but), "a leader", seconds)

    def follower(self):
        leader = self.leader()
        return next(node for node in self.running() if node is not leader)

    def ledger(self):
        self.ledgers.append(Ledger(self, len(self.ledgers) + 1))
        return self.ledgers[-1]

    def level(self):
        """Waits until all running nodes hold and have committed the same, all durable."""
        def level(states):
            return len({s["commit_durable"] for s in states}) == 1 and \
                all(s["durable"] == s["memory"] == s["commit_durable"] for s in states)

        def same():
            nodes = [node.status() for node in self.running()]
            if not all(nodes):
                return False
            logs = [{s["log"]: s for s in status["logs"]} for status in nodes]
            return all(l.keys() == logs[0].keys() for l in logs) and \
                all(level([l[log] for l in logs]) for log in logs[0] if log != 0)
        wait_for(same, "all replicas level", 60)

    def audit(self, *options):
        """Every ledger against every running node's log; returns the last audit."""
        result = None
        for log in sorted({ledger.log for ledger in self.ledgers}, reverse=True):  # log 1's is the last
            paths = [ledger.path for ledger in self.ledgers if ledger.log == log]
            for node in self.running():
                done = subprocess.run([LEDGER, "audit", "--socket", node.socket, "--log", str(log), *options, *paths],
                                      capture_output=True, text=True, timeout=120 * PATIENCE)
                check(done.returncode == 0,
                      f"audit of log {log} on node {node.id}: {done.stdout.strip()} {done.stderr.strip()}")
                result = json.loads(done.stdout)
        return result

    def verify_digests(self):
        """Stops every node clean and compares the replicas byte by byte."""
        for node in self.running():
            node.process.terminate()
        for node in self.running():
            node.stop()
        done = subprocess.run([LEAT, "verify", "--digest", *[n.data for n in self.nodes]],
                              capture_output=True, text=True, timeout=120 * PATIENCE)
        check(done.returncode == 0, f"verify: {done.stdout.strip()} {done.stderr.strip()}")

    def close(self):
        for helper in self.helpers:
            if helper.poll() is None:
                helper.kill()
                helper.wait()
        for node in self.nodes:
            if node.process is not None:
                node.process.send_signal(signal.SIGCONT)
                node.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.arena, ignore_errors=True)


def run_tests(tests):
    """tests: (name, function(cluster), keyword arguments of Cluster). Prints TAP; exit code."""
    chosen = [t for t in tests if not sys.argv[1:] or any(word in t[0] for word in sys.argv[1:])]
    print(f"1..{len(chosen)}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # out of time: the cluster is closed all the same
    failed = False
    for number, (name, function, arguments) in enumerate(chosen, 1):
        cluster = Cluster(**arguments)
        slow_waits.clear()
        began, waits = time.monotonic(), {what: pressure(what) for what in ("io", "cpu")}
        try:
            function(cluster)
            print(f"ok {number} - {name}\n# {time.monotonic() - began:.1f} s", flush=True)
        except Exception as error:  # whatever went wrong, the next test has its own cluster
            failed = True
            print(f"not ok {number} - {name}", flush=True)
            text = str(error) if isinstance(error, Failure) else traceback.format_exc()
            for line in text.splitlines():
                print(f"# {name}: {line}", file=sys.stderr, flush=True)  # meson shows a failed TAP test's stderr only
            waited = ", ".join(f"{pressure(what) - waits[what]:.1f} s for {what}" for what in waits)
            print(f"# {name}: {time.monotonic() - began:.1f} s, to {time.strftime('%H:%M:%S', time.gmtime())}; of them tasks "
                  f"waited {waited}", file=sys.stderr, flush=True)
            print(f"# {name}: slow waits: {'; '.join(slow_waits) or 'none'}", file=sys.stderr, flush=True)
            for node in cluster.nodes:
                if os.path.exists(node.log):
                    ended = node.process.poll() if node.process else "not running"
                    print(f"# node {node.id} (exit {ended}): {node.last_lines(25)}", file=sys.stderr, flush=True)
                    print(f"# node {node.id}: {node.told()}", file=sys.stderr, flush=True)
                    if os.environ.get("LEAT_TEST_STACKS") and node.process and ended is None:
                        subprocess.run(["gdb", "-p", str(node.process.pid), "-batch", "-ex", "thread apply all bt 12"],
                                       stderr=subprocess.DEVNULL)
        finally:
            cluster.close()
    return 1 if failed else 0
