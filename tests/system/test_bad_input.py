#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input to real programs: configurations, directories, appends, dying clients, wrong calls. Each is
refused by name, and what was there is as it was."""
import fcntl
import glob
import hashlib
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid

from cluster import BUILD, LEAT, LEATD, PATIENCE, check, run_tests, wait_for

ABUSE = os.path.join(BUILD, "tests", "system", "abuse")
IDENTITY = struct.Struct("<QII16s16sIII28sQII")  # docs/format.md


def snapshot(*paths):
    """Everything below `paths`: names, modes, sizes, times of change, contents."""
    found = {}
    for path in paths:
        for folder, folders, files in os.walk(path):
            for name in sorted(folders + files):
                full = os.path.join(folder, name)
                state = os.lstat(full)
                content = b""
                if name in files and os.path.isfile(full):
                    with open(full, "rb") as file:
                        content = hashlib.blake2b(file.read()).digest()
                found[full] = (state.st_mode, state.st_size, state.st_mtime_ns, content)
    return found


def untouched(before, *paths):
    after = snapshot(*paths)
    changed = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    check(not changed, f"touched: {changed}")


def call(*arguments, code, words=(), seconds=30, **options):
    """Runs to its end; one line on stderr that begins with the program's name and holds `words`."""
    done = subprocess.run(arguments, capture_output=True, timeout=seconds * PATIENCE, **options)
    err = done.stderr.decode(errors="replace")
    shown = " ".join(arguments[1:])[:100]
    check(done.returncode == code, f"{shown}: exit {done.returncode}, not {code}: {err}")
    if code != 0:
        check(err.count("\n") == 1 and err.endswith("\n"), f"{shown}: not one line: {err!r}")
    for word in words:
        check(word in err, f"{shown}: '{word}' is missing: {err}")
    return done.stdout


def refused_start(cluster, node, *words, seconds=30):
    """leatd ends with 1 and says `words`; data, arenas and the directory are as they were."""
    before = snapshot(cluster.dir, cluster.arena)
    call(LEATD, "--config", node.config, code=1, words=words, seconds=seconds)
    untouched(before, cluster.dir, cluster.arena)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def patch_identity(node, **changes):
    """Changes fields of the identity and makes its CRC right again."""
    names = ("magic", "version", "crc", "cluster", "node", "node_id", "workers", "count", "members", "created", "secret",
             "reserved")
    with open(os.path.join(node.data, "identity"), "r+b") as file:
        fields = dict(zip(names, IDENTITY.unpack(file.read(IDENTITY.size))))
        fields.update(changes, crc=0)
        fields["crc"] = crc32c(IDENTITY.pack(*fields.values()))
        file.seek(0)
        file.write(IDENTITY.pack(*fields.values()))


# ---- configurations ----

def configurations(cluster):
    node = cluster.nodes[0]
    node.format()
    with open(node.config, encoding="utf-8") as file:
        good = file.read().splitlines()
    wrong = [  # (line to find, what replaces it, words of the refusal)
        ("raft:", "rafft: {window: 4MiB}", ("rafft", "unknown")),
        ("raft:", "raft: {windw: 4MiB}", ("windw", "unknown")),
        ("raft:", "raft: {window: plenty}", ("window", "'plenty'", "a size")),
        ("raft:", "raft: [4MiB]", ("raft", "a list")),
        ("raft:", "raft: {heartbeat: 140ms}", ("heartbeat", "third")),
        ("raft:", "raft: {election_timeout: [300ms, 150ms]}", ("election_timeout",)),
        ("raft:", "raft: {window: 4MiB", ("YAML",)),
        ("node:", "node: one", ("node", "'one'", "whole number")),
        ("node:", "node: 9", ("node 9", "not in the list")),
        ("cluster:", "cluster: 1234", ("cluster", "uuid")),
        ("  - {id: 2", "  - {id: 1, ip: 10.77.0.2}", ("node id 1 a second time",)),
        ("  - {id: 2", "  - {id: 2, ip: 10.77.0.1}", ("ip of node 1 a second time",)),
        ("  - {id: 2", "  - {id: 2}", ("without ip",)),
        ("  - {id: 2", "  - {id: 2, ip: 10.77.0.256}", ("10.77.0.256", "IPv4")),
        ("  - {id: 2", "  - {id: 2, ip: 10.77.0.2, mac: 02:00}", ("mac",)),
        ("  - {id: 2", "", ("2 nodes", "1, 3, 5 or 7")),
        ("net:", "net: {kind: token_ring}", ("token_ring", "memif")),
        ("net:", "net: {kind: memif}", ("memif_dir",)),
        ("net:", "net: {kind: af_packet}", ("interface",)),
        ("storage:", "storage: {}", ("storage.data_dir",)),
        ("default_log:", "default_log: {segment: 3MiB}", ("segment", "power of two")),
        ("default_log:", "default_log: {segment: 1MiB, largest_entry: 512KiB}", ("largest_entry", "quarter")),
        ("socket:", f"socket: /{'x' * 120}", ("socket", "107")),
    ]
    bad = os.path.join(cluster.dir, "bad.yaml")
    for find, replacement, words in wrong:
        at = next(i for i, line in enumerate(good) if line.startswith(find))
        with open(bad, "w", encoding="utf-8") as file:
            file.write("\n".join(good[:at] + [replacement] * bool(replacement) + good[at + 1:]) + "\n")
        before = snapshot(cluster.dir, cluster.arena)
        for command in ((LEATD, "--config"), (LEATD, "--check", "--config"), (LEAT, "format", "--config")):
            done = subprocess.run([*command, bad], capture_output=True, text=True, timeout=20)
            check(done.returncode == 2, f"{replacement}: exit {done.returncode}: {done.stderr}")
            place = re.match(rf"leatd?: {re.escape(bad)}:(\d+): .*expected", done.stderr)
            check(place and done.stderr.count("\n") == 1, f"{replacement}: no file, line, expected: {done.stderr}")
            if replacement and "data_dir" not in words[0] and "YAML" not in words[0]:
                check(int(place[1]) == at + 1, f"{replacement}: line {place[1]}, not {at + 1}: {done.stderr}")
            for word in words:
                check(word in done.stderr, f"{replacement}: '{word}' is missing: {done.stderr}")
        untouched(before, cluster.dir, cluster.arena)
    call(LEATD, "--config", bad + ".none", code=2, words=("No such file",))
    call(LEATD, "--config", cluster.dir, code=2, words=(cluster.dir,))
    call(LEATD, code=2)
    call(LEATD, "--confg", node.config, code=2)
    call(LEATD, "--config", node.config, "--check", code=0)


# ---- directories ----

def directories(cluster):
    first, second = cluster.nodes[:2]
    refused_start(cluster, first, "not formatted", first.data, "leat format")
    os.mkdir(second.data)
    refused_start(cluster, second, "not formatted", second.data)
    os.rmdir(second.data)
    first.format()

    cluster.write_config(first, cluster=uuid.uuid4())
    refused_start(cluster, first, "belongs to cluster", cluster.uuid)
    cluster.write_config(first)
    cluster.write_config(second, data=first.data)
    refused_start(cluster, second, "belongs to node 1", "not 2")
    cluster.write_config(second)

    with open(os.path.join(first.data, "identity"), "rb") as file:
        identity = file.read()
    patch_identity(first, version=99)
    refused_start(cluster, first, "format 99", "this build reads")
    with open(os.path.join(first.data, "identity"), "wb") as file:
        file.write(identity)
    patch_identity(first, workers=4)
    refused_start(cluster, first, "4 workers, not 1")
    patch_identity(first, workers=1, members=struct.pack("<3I", 1, 2, 5).ljust(28, b"\0"))
    refused_start(cluster, first, "other members")
    with open(os.path.join(first.data, "identity"), "wb") as file:
        file.write(identity[:40] + b"\xff" + identity[41:])
    refused_start(cluster, first, "identity is damaged")
    with open(os.path.join(first.data, "identity"), "wb") as file:
        file.write(identity)

    with open(os.path.join(first.data, "w0", "journal"), "r+b") as file:
        size = os.path.getsize(file.name)
        file.truncate(size // 2)
    refused_start(cluster, first, "journal has not the size")
    shutil.rmtree(first.data)
    cluster.start()


def traces(cluster):
    """A file of notes is there while it is asked for, is taken away by a start that does not ask, and is not laid over
    what is something else."""
    node = cluster.start()

    def there():
        return glob.glob(os.path.join(node.arena, "*", "trace-*"))
    check([os.path.getsize(path) for path in there()] == [4096 + (1 << 20)], f"traces: {there()}")
    check(os.stat(there()[0]).st_mode & 0o777 == 0o600, "others may read it")
    path = there()[0]
    node.stop()
    cluster.settings.pop("trace")
    cluster.write_config(node)
    node.start()
    cluster.leader()
    check(not there(), f"left: {there()}")
    node.stop()
    os.mkdir(path)
    cluster.write_config(node, trace="1MiB")
    call(LEATD, "--config", node.config, code=1, words=("trace-0", "File exists"))
    check(os.path.isdir(path), "it was taken away")


def spins_without_a_core(cluster):
    node = cluster.start()
    check(node.says("1 of 1 workers spin without a core of their own"), f"no warning: {node.last_lines(12)}")
    node.stop()
    with open(node.config, encoding="utf-8") as file:
        text = file.read()
    with open(node.config, "w", encoding="utf-8") as file:
        file.write(text.replace("idle: spin", "idle: spin, lcore: 0"))
    before = os.path.getsize(node.log)
    node.start()
    cluster.leader()
    with open(node.log, encoding="utf-8") as file:
        check("without a core" not in file.read()[before:], "a warning though it has a core")


def formatted_twice(cluster):
    node = cluster.nodes[0]
    node.format()
    before = snapshot(cluster.dir, cluster.arena)
    call(LEAT, "format", "--config", node.config, code=1, words=("formatted already", "nothing was changed"))
    untouched(before, cluster.dir, cluster.arena)
    other = os.path.join(cluster.dir, "other")
    os.mkdir(other)
    with open(os.path.join(other, "letters"), "w", encoding="utf-8") as file:
        file.write("dear")
    cluster.write_config(node, data=other)
    before = snapshot(cluster.dir, cluster.arena)
    call(LEAT, "format", "--config", node.config, code=1, words=("not empty", "letters"))
    untouched(before, cluster.dir, cluster.arena)
    cluster.write_config(node, data=os.path.join(cluster.arena, "data"))
    call(LEAT, "format", "--config", node.config, code=1, words=("tmpfs", "disk"))


def in_use(cluster):
    """By a live node: named by its process. By a dead one's last writes: waited for, at most 10 s."""
    cluster.start()
    node = cluster.nodes[0]
    owner = node.process.pid
    node.pause()  # so that nothing but the intruder could change a byte
    refused_start(cluster, node, f"in use by process {owner}", node.data)
    call(LEAT, "verify", node.data, code=1, words=("in use", str(owner)))
    node.go_on()
    wait_for(node.state, "the node to go on")
    node.kill()

    with open(os.path.join(node.data, "lock"), "r+b") as lock:  # as the kernel holds it for a dead owner
        fcntl.flock(lock, fcntl.LOCK_EX)
        node.start()
        wait_for(lambda: node.says("waiting for the last writes of process"), "progress", 10)
        time.sleep(0.5)  # what must not happen has time to
        check(node.state() is None and node.process.poll() is None, "the lock was not waited for")
    wait_for(node.state, "the node to start once the lock is free")
    node.kill()
    with open(os.path.join(node.data, "lock"), "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begin = time.monotonic()
        done = subprocess.run([LEATD, "--config", node.config], capture_output=True, text=True, timeout=30)
        took = time.monotonic() - begin
        check(done.returncode == 1 and "locked by the last writes" in done.stderr, done.stderr)
        check(took > 9, f"waited {took:.1f} s, not 10")  # the run's own bound is the most, on cores that others use too


# ---- appends ----

def appends_refused(cluster):
    node = cluster.start()
    largest = 256 * 1024
    done = call(ABUSE, "--socket", node.socket, "errors", str(largest), code=0)
    check(done == b"refused\n", str(done))
    big = os.path.join(cluster.dir, "big")
    with open(big, "wb") as file:
        file.write(b"first\n" + b"x" * (largest + 1) + b"\nlast\n")
    call(LEAT, "append", "--quiet", "--socket", node.socket, big, code=1,
         words=("record 1 of the input", "largest entry", "1 certainly not appended"))
    call(LEAT, "append", "--quiet", "--socket", node.socket, "--log", "9", big, code=1, words=("no such log",))
    call(LEAT, "append", "--quiet", "--socket", node.socket, "--ack", "replicated", big, code=1, words=("refuses",))
    read = call(LEAT, "tail", "--socket", node.socket, "--from", "3", code=0)
    check(read == b"first\n", f"in the log: {read[:100]}")


def ring_full(cluster):
    node = cluster.start()
    node.pause()
    abuse = subprocess.Popen([ABUSE, "--socket", node.socket, "full"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cluster.helpers.append(abuse)
    node.go_on()  # to attach
    line = abuse.stdout.readline()
    check(line.startswith("full after"), f"{line} {abuse.communicate()[1] if not line else ''}")
    out, err = abuse.communicate("\n", timeout=60 * PATIENCE)
    check(abuse.returncode == 0 and "all there" in out, f"{out} {err}")


def clients_killed(cluster):
    """Clients die at random points; others on the same node do not notice and their rings come back."""
    leader = cluster.start()
    follower = cluster.follower()
    steady = []
    for node in (leader, follower):
        ledger = cluster.ledger()
        ledger.start(node, ack="mixed", threads=1, rate=3000)
        steady.append(ledger)
    rng = random.Random(7)
    wait_for(lambda: (leader.status() or {"clients": 0})["clients"] == 1, "a client on the leader")
    for _ in range(25):
        node = rng.choice((leader, follower))
        victim = cluster.ledger()
        victim.start(node, ack="mixed", threads=rng.randint(1, 4), inflight=rng.choice((1, 64, 512)),
                     size=rng.choice((64, 5000, 200000)))
        time.sleep(rng.uniform(0.0, 0.12))
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
    for node in (leader, follower):
        wait_for(lambda node=node: node.status()["clients"] == 1, f"dead clients' rings of node {node.id}")
        check(node.status()["client_violations"] == 0, "a dying client counted as a violation")
    for ledger in steady:
        result = ledger.stop()
        check(result["ok"] > 0 and result["no"] == result["unknown"] == result["sessions_lost"] == 0,
              f"others noticed: {result}")
    cluster.level()
    cluster.ledgers = [ledger for ledger in cluster.ledgers if os.path.exists(ledger.path)]
    audit = cluster.audit()
    check(audit["acknowledged"] > 0, str(audit))
    cluster.verify_digests()


# ---- the command line ----

def wrong_calls(cluster):
    node = cluster.start()
    socket = ("--socket", node.socket)
    nowhere = ("--socket", os.path.join(cluster.dir, "nobody.sock"))
    text = os.path.join(cluster.dir, "text")
    with open(text, "wb") as file:
        file.write(b"a\n")
    cases = [  # (exit code, arguments)
        (2, ["appendd"]), (2, ["append", "--ack", "soon", text]), (2, ["append", text, text]),
        (2, ["append", "--size", "0"]), (2, ["append", "--log"]), (2, ["tail", "--folow"]), (2, ["status", "--to", "1"]), (1, ["append", *socket, text + ".none"]),
        (2, ["append", "--config", text, text]), (3, ["append", *nowhere, text]), (3, ["tail", *nowhere]),
        (3, ["status", *nowhere]), (3, ["status", "--socket", text]), (2, ["tail", "--from", "yesterday"]),
        (2, ["tail", "too-much"]), (1, ["tail", *socket, "--log", "7"]), (2, ["transfer"]),
        (2, ["transfer", "1", "--to", "x"]), (3, ["transfer", "1", *nowhere]), (2, ["amnesia", "accept"]),
        (2, ["amnesia", "reject", "1"]), (2, ["damage", "reject", "1"]), (2, ["trim", "1"]), (1, ["trim", "7", "--position", "0", *socket]),
        (1, ["transfer", "7", *socket]), (2, ["format"]), (2, ["inspect"]), (2, ["verify"]),
        (1, ["inspect", cluster.dir]), (1, ["verify", cluster.dir]), (2, ["verify", "--log", "x", node.data]),
    ]
    for code, arguments in cases:
        call(LEAT, *arguments, code=code, words=("leat: ",), stdin=subprocess.DEVNULL)


def append_interrupted(cluster):
    """SIGINT: what was read ends, the final line counts it, and the log holds exactly that."""
    node = cluster.start()
    append = subprocess.Popen([LEAT, "append", "--socket", node.socket, "-"], stdin=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    cluster.helpers.append(append)
    fed = 0
    while fed < 5000:
        append.stdin.write(b"%d\n" % fed)
        fed += 1
    append.stdin.flush()
    wait_for(lambda: (node.state() or {"next_offset": 0})["next_offset"] > 0, "records")
    append.send_signal(signal.SIGINT)
    check(append.wait(20) == 130, f"exit {append.returncode}")
    final = append.stderr.read().decode()
    append.stdin.close()
    count = int(re.search(r"appended (\d+) records", final)[1])
    read = call(LEAT, "tail", "--socket", node.socket, code=0)
    check(read == b"".join(b"%d\n" % i for i in range(count)), f"{count} said, {read.count(10)} there: {final}")


TESTS = [
    ("configurations are refused by file and line", configurations, {}),
    ("directories are refused by name", directories, {}),
    ("notes for who measures", traces, {"count": 1, "trace": "1MiB"}),
    ("a worker that spins without a core", spins_without_a_core, {"count": 1, "idle": "spin"}),
    ("format refuses", formatted_twice, {}),
    ("a directory in use", in_use, {"count": 1}),
    ("appends are refused", appends_refused, {"count": 1, "replicated": False}),
    ("a full ring loses nothing", ring_full, {"count": 1}),
    ("clients are killed", clients_killed, {}),
    ("the command line", wrong_calls, {"count": 1}),
    ("append is interrupted", append_interrupted, {"count": 1}),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
