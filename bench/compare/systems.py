# SPDX-License-Identifier: Apache-2.0
"""The systems that are compared: how three nodes of each are started on this host, how one knows that they serve, and
the load client's words. A system's nodes live in a folder of their own and are ended with it."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

START_SECONDS = 40


class NotUp(Exception):
    """It did not start: a port was taken from under it, say."""


class Failed(Exception):
    """It was up, and could not be measured."""


def free_ports(count):
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def version_of(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True).stdout.strip().splitlines()[0]
    except (FileNotFoundError, IndexError):
        return ""


def package_version(name):
    return version_of("dpkg-query", "-W", "-f", "${Version}", name)


class System:
    """Of one kind of peer. `durability` says what an acknowledgement means, in words; `level`: durable or memory."""
    name = program = level = durability = version = ""
    client_inside = False  # of a server's process, whose CPU time is that server's

    def __init__(self, build, folder):
        self.build, self.folder, self.nodes = build, folder, []

    def client(self):
        return os.path.join(self.build, "bench", "compare", "compare_" + self.program)

    def spawn(self, number, *words, cwd=None):
        log = open(os.path.join(self.folder, f"node{number}.log"), "ab")
        with log:
            self.nodes.append(subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def place(self, number):
        path = os.path.join(self.folder, f"node{number}")
        os.makedirs(path, exist_ok=True)
        return path

    def wait(self, condition, what):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            for number, node in enumerate(self.nodes, 1):
                if node.poll() is not None:
                    raise NotUp(f"{self.name}: node {number} ended: {self.last_words(number)}")
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise NotUp(f"{self.name}: not within {START_SECONDS} s: {what}")

    def last_words(self, number):
        with open(os.path.join(self.folder, f"node{number}.log"), encoding="utf-8", errors="replace") as file:
            return (file.read().strip().splitlines() or ["no output"])[-1][:300]

    def load(self, address, point, mode=""):
        """One JSON object of load.h, or Failed with the client's word."""
        words = [self.client(), "--address", address, "--size", point["size"], "--inflight", point["inflight"],
                 "--warm", point["warm"], "--seconds", point["seconds"], "--mode", mode]
        if self.nodes:
            words += ["--pids", ",".join(str(node.pid) for node in self.nodes)]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                              timeout=60 + point["seconds"])
        if done.returncode != 0:
            raise Failed(f"{self.name}: the client ended with {done.returncode}: {done.stderr.strip()[-300:]} {done.stdout.strip()}")
        return json.loads(done.stdout)

    def measure(self, point):
        raise NotImplementedError

    def close(self):
        for node in self.nodes:
            if node.poll() is None:
                node.send_signal(signal.SIGTERM)
        for node in self.nodes:
            try:
                node.wait(10)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()


class Etcd(System):
    name, program, level = "etcd", "etcd", "durable"
    durability = "fsync of a majority's WAL before the acknowledgement"

    def measure(self, point):
        ports = free_ports(6)
        peers = ",".join(f"n{i}=http://127.0.0.1:{ports[i]}" for i in range(3))
        for i in range(3):
            peer, client = f"http://127.0.0.1:{ports[i]}", f"http://127.0.0.1:{ports[3 + i]}"
            self.spawn(i + 1, "etcd", "--name", f"n{i}", "--data-dir", self.place(i + 1), "--initial-cluster", peers,
                       "--initial-cluster-state", "new", "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                       "--listen-client-urls", client, "--advertise-client-urls", client, "--logger", "zap",
                       "--log-level", "error", "--quota-backend-bytes", str(8 << 30))
        leader = self.wait(lambda: next((port for port in ports[3:] if self.leads(port)), None), "a leader")
        return self.load(f"127.0.0.1:{leader}", point)

    @staticmethod
    def leads(port):
        try:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            link.request("POST", "/v3/maintenance/status", "{}")
            status = json.loads(link.getresponse().read())
            link.close()
            return "leader" in status and status["leader"] == status["header"]["member_id"]
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return False


class Nats(System):
    program = "nats"

    def measure(self, point):
        ports = free_ports(6)
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports[:3])
        for i in range(3):
            place = self.place(i + 1)
            with open(os.path.join(place, "server.conf"), "w", encoding="utf-8") as out:
                out.write(f'server_name: n{i}\nlisten: "127.0.0.1:{ports[3 + i]}"\n'
                          f'jetstream {{ store_dir: "{place}/data", max_memory_store: 4GB, max_file_store: 16GB }}\n'
                          f'cluster {{ name: bench, listen: "127.0.0.1:{ports[i]}", routes: [{routes}] }}\n')
            self.spawn(i + 1, "nats-server", "-c", os.path.join(place, "server.conf"))
        self.wait(lambda: all(map(listens, ports[3:])) and self.has_leader(), "the servers to have a leader")
        address = ",".join(f"n{i}=nats://127.0.0.1:{ports[3 + i]}" for i in range(3))
        return self.load(address, point, self.mode)

    def has_leader(self):
        """All have met, and one leads what makes the streams."""
        texts = []
        for number in range(1, 4):
            with open(os.path.join(self.folder, f"node{number}.log"), encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        return all("Server is ready" in text for text in texts) and any(
            "JetStream cluster new metadata leader" in text for text in texts)


class NatsFile(Nats):
    name, level, mode = "nats-file", "memory", "file"
    durability = "written to files of a majority; acknowledged before fsync (synced every two minutes)"


class NatsMemory(Nats):
    name, level, mode = "nats-memory", "memory", "memory"
    durability = "in memory of a majority"


class Raft(System):
    name, program, level = "libraft", "raft", "durable"
    client_inside = True
    durability = "O_DIRECT and O_DSYNC on a majority; the client is inside the leader's process"

    def measure(self, point):
        addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(3))
        words = ["--address", addresses, "--size", str(point["size"]), "--inflight", str(point["inflight"]),
                 "--warm", str(point["warm"]), "--seconds", str(point["seconds"])]
        for number in (2, 3):
            self.spawn(number, self.client(), *words, "--mode", str(number), cwd=self.place(number))
        words += ["--pids", ",".join(str(node.pid) for node in self.nodes), "--mode", "1"]
        done = subprocess.run([self.client(), *words], cwd=self.place(1), capture_output=True, text=True,
                              timeout=60 + point["seconds"])
        if done.returncode != 0:
            raise Failed(f"libraft: the leader ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        seen = json.loads(done.stdout)
        seen["servers_cpu_s"] += seen["client_cpu_s"]  # the leader is the client
        seen["client_cpu_s"] = 0
        return seen

    def last_words(self, number):
        return super().last_words(number + 1)


class Redis(System):
    program = "redis"

    def measure(self, point):
        ports = free_ports(3)
        for i in range(3):
            replica = ["--replicaof", "127.0.0.1", str(ports[0])] if i else []
            self.spawn(i + 1, "redis-server", "--port", str(ports[i]), "--bind", "127.0.0.1", "--dir", self.place(i + 1),
                       "--save", "", "--repl-diskless-sync-delay", "0", *self.settings, *replica)
        self.wait(lambda: all(map(listens, ports)) and self.replicas(ports[0]) == 2, "both replicas")
        return self.load(f"127.0.0.1:{ports[0]}", point)

    @staticmethod
    def replicas(port):
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as link:
                link.sendall(b"INFO replication\r\n")
                return link.recv(8192).count(b"state=online")
        except OSError:
            return 0


class RedisAlways(Redis):
    name, level = "redis-always", "durable"
    settings = ["--appendonly", "yes", "--appendfsync", "always"]
    durability = "fsync on the first (appendfsync always), WAIT 1: a replica has it, which may not have fsynced it (7.0 has no WAITAOF)"


class RedisMemory(Redis):
    name, level = "redis-memory", "memory"
    settings = ["--appendonly", "no"]
    durability = "in memory of the first and of one replica (WAIT 1)"


class Leat(System):
    program = "leat"

    def measure(self, point):
        words = [os.path.join(self.build, "bench", "logbench"), "append", "--local", "3", "--ack", self.mode, "--size",
                 point["size"], "--inflight", point["inflight"], "--warm", point["warm"], "--seconds", point["seconds"],
                 "--directory", self.folder, "--json", "--quiet", "--no-limits", "--no-pin"]  # the others' are not pinned either
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120 + point["seconds"])
        if done.returncode != 0:
            raise Failed(f"{self.name}: logbench ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        seen = json.loads(done.stdout)
        return {"appends": seen["appends"], "errors": seen["errors"], "seconds": seen["seconds"],
                "p50_us": seen["latency_us"]["p50"], "p99_us": seen["latency_us"]["p99"], "max_us": seen["latency_us"]["max"],
                "client_cpu_s": seen["client_cpu_seconds"], "servers_cpu_s": seen["cpu_seconds"], "pinned": seen["pinned"]}


class LeatDurable(Leat):
    name, level, mode = "leat-durable", "durable", "durable"
    durability = "O_DIRECT and fdatasync (or FUA) on a majority before the acknowledgement"


class LeatReplicated(Leat):
    name, level, mode = "leat-replicated", "memory", "replicated"
    durability = "verified in memory of a majority, which outlives the processes"


SYSTEMS = [LeatDurable, Etcd, Raft, RedisAlways, LeatReplicated, NatsFile, NatsMemory, RedisMemory]
VERSIONS = {"etcd": lambda: package_version("etcd-server"), "nats": lambda: package_version("nats-server"),
            "raft": lambda: package_version("libraft-dev"), "redis": lambda: package_version("redis-server"),
            "leat": lambda: version_of("git", "-C", os.path.dirname(__file__), "rev-parse", "--short=12", "HEAD")}
