#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/demo.sh with short files, as root and as an unprivileged user, over both networks: it ends well,
or with one line of advice, and leaves no process, namespace or file behind."""
import os
import re
import signal
import subprocess
import sys
import time

from cluster import BUILD, PATIENCE, check, run_tests, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DEMO = os.path.join(ROOT, "tools", "demo.sh")
UNPRIVILEGED = 65534
PLACES = ("/dev/shm", "/run", "/run/netns", "/tmp", "/var/tmp")
OURS = re.compile(r"leat-demo|leat-build|logbench|dpdk|rte_|^node[123]$|^netns$")


def files_left():
    names = set()
    for place in PLACES:
        if os.path.isdir(place):
            names |= {os.path.join(place, name) for name in os.listdir(place) if OURS.search(name)}
    return names


def processes_of(place):
    """Processes whose command line or environment names the demo's directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as variables:
                if place.encode() in line.read() + variables.read() and int(pid) != os.getpid():
                    found.append(pid)
        except OSError:
            continue
    return found


class Demo:
    """A run of demo.sh in a directory of its own."""

    def __init__(self, cluster, text=b"", user=None, arguments=()):
        self.before = files_left()
        self.dir = os.path.join(cluster.dir, "demo")
        self.file = os.path.join(cluster.dir, "text")
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(cluster.dir, 0o755)
        with open(self.file, "wb") as out:
            out.write(text)
        arguments = [DEMO, self.file, *arguments]
        if user is not None:
            os.chown(self.dir, user, user)
            arguments = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *arguments]
        environment = {**os.environ, "LEAT_BUILD": os.path.abspath(BUILD), "LEAT_DEMO_DIR": self.dir}
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment,
                                        start_new_session=True)
        cluster.helpers.append(self.process)

    def finish(self, seconds=60):
        out, err = self.process.communicate(timeout=seconds * PATIENCE)
        return self.process.returncode, out, err

    def nothing_is_left(self):
        wait_for(lambda: not processes_of(self.dir), "the demo's processes to end", 5)
        check(os.listdir(self.dir) == [], f"left in its directory: {os.listdir(self.dir)}")
        left = files_left() - self.before  # or in use by another's demo, which ends
        wait_for(lambda: not any(map(os.path.exists, left)), f"{sorted(left)} to be removed", 90)

    def succeeds(self, text):
        code, out, err = self.finish()
        check(code == 0, f"exit {code}: {err.strip()} {out[-300:]}")
        check(out.count(f"{text} bytes, identical") == 3, f"not three identical copies: {out[-800:]}")
        check("SIGKILL" in out and "p50" in out, f"an incomplete table: {out[-800:]}")
        self.nothing_is_left()

    def fails(self, with_code, *words):
        code, _, err = self.finish()
        check(code == with_code, f"exit {code}, not {with_code}: {err.strip()}")
        check(err.startswith("demo.sh: ") and err.count("\n") == 1, f"not one line: {err}")
        for word in words:
            check(word in err, f"'{word}' is missing: {err}")
        self.nothing_is_left()


# empty lines, bytes that are no text, and no newline at the end
ODD = b"\nfirst\n\n\n" + b"".join(b"line %d \xff\x00 with any bytes\r\n" % i for i in range(3000)) + b"\nlast"


def memif(cluster):
    Demo(cluster, ODD).succeeds(len(ODD))


def memif_unprivileged(cluster):
    Demo(cluster, ODD, user=UNPRIVILEGED, arguments=["--ack", "replicated"]).succeeds(len(ODD))


def af_packet(cluster):
    Demo(cluster, ODD, arguments=["--net", "af_packet"]).succeeds(len(ODD))


def af_packet_unprivileged(cluster):
    """In user namespaces where the machine has them, else one clear line."""
    probe = subprocess.run(["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups",
                            "unshare", "--user", "--map-root-user", "--net", "--mount", "true"],
                           capture_output=True)
    demo = Demo(cluster, ODD, user=UNPRIVILEGED, arguments=["--net", "af_packet"])
    if probe.returncode == 0:
        demo.succeeds(len(ODD))
    else:
        demo.fails(1, "namespaces", "memif")


def kept(cluster):
    """--keep with a single line: the commands that it prints work, and the one to end it leaves nothing."""
    demo = Demo(cluster, b"one line only", arguments=["--keep"])
    code, out, err = demo.finish()
    check(code == 0, f"exit {code}: {err}")
    commands = [line.strip() for line in out.splitlines() if line.startswith("  ")]
    status = next(c for c in commands if " status " in c)
    append = next(c for c in commands if " append " in c)
    end = next(c for c in commands if c.startswith("kill "))
    tail = next(c for c in commands if " tail " in c).replace("--from end --follow", "--from start --count 2")
    try:
        subprocess.run(status, shell=True, check=True, capture_output=True, timeout=20)
        subprocess.run(append, shell=True, check=True, capture_output=True, timeout=20)
        read = subprocess.run(tail, shell=True, check=True, capture_output=True, timeout=20).stdout
        check(read == b"one line onlyhello\n", f"read back {read}")
    finally:
        subprocess.run(end, shell=True, check=True, timeout=20)
    demo.nothing_is_left()


def interrupted(cluster):
    """Ctrl-C (to all of its processes), SIGTERM (to the script alone), at several places."""
    for number, (word, group) in enumerate((("three nodes", True), ("killed", False), ("measuring", True),
                                            ("measuring", False))):
        demo = Demo(cluster, ODD)
        seen = ""
        while word not in seen:
            line = demo.process.stdout.readline()
            check(line, f"ended before '{word}': {seen}")
            seen += line
        time.sleep(0.05 * number)
        if group:
            os.killpg(demo.process.pid, signal.SIGINT)
        else:
            demo.process.terminate()
        demo.fails(130 if group else 143, "interrupted", "nothing is left")


def wrong(cluster):
    Demo(cluster, b"").fails(2, "empty")
    Demo(cluster, b"x", arguments=["--net", "token-ring"]).fails(2, "memif or af_packet")
    Demo(cluster, b"x", arguments=["--ack"]).fails(2, "needs a value")
    Demo(cluster, b"x", arguments=["--nett", "memif"]).fails(2, "unknown option", "--help")
    Demo(cluster, b"x", arguments=["another"]).fails(2, "one FILE")
    Demo(cluster, b"y" * (3 << 20)).fails(1, "over 1 MiB", "shorter lines")


TESTS = [
    ("demo.sh over memif", memif, {}),
    ("demo.sh over memif, unprivileged, replicated", memif_unprivileged, {}),
    ("demo.sh over af_packet", af_packet, {}),
    ("demo.sh over af_packet, unprivileged", af_packet_unprivileged, {}),
    ("demo.sh --keep", kept, {}),
    ("demo.sh interrupted", interrupted, {}),
    ("demo.sh refuses", wrong, {}),
]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
