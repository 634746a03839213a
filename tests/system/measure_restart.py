#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a node with much log takes to come back, and how much memory it holds; run by hand:

    LEAT_BUILD=build tests/system/measure_restart.py [MIB [ROUNDS]]

Fills a single node's log with MIB (2048) of records, then for each round kills it, starts it and prints
the seconds to its first acknowledged append and to a read of offset 0, and the VmRSS (with shared memory)
right after and when the whole log was read once. Floors: 5 s; 256 MiB."""
import os
import statistics
import subprocess
import sys
import time

from cluster import LEAT, Cluster, wait_for


def resident_mib(node):
    with open(f"/proc/{node.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def leat(node, *arguments, data=None):
    return subprocess.run([LEAT, arguments[0], "--socket", node.socket, *arguments[1:]], input=data,
                          capture_output=True, timeout=300)


def fill(node, mib):
    with open("/dev/urandom", "rb") as source:
        piece = source.read(1 << 20)
    append = subprocess.Popen([LEAT, "append", "--socket", node.socket, "--raw", "--size", "65536", "--timeout",
                               "60", "--quiet", "-"], stdin=subprocess.PIPE)
    for _ in range(mib):
        append.stdin.write(piece)
    append.stdin.close()
    return append.wait() == 0


def one_round(node):
    node.kill()
    begin = time.monotonic()
    node.start()
    wait_for(lambda: os.path.exists(node.socket) and leat(node, "append", "--quiet", "-", data=b"x\n").returncode == 0,
             "an acknowledged append", 120)
    appended = time.monotonic() - begin
    wait_for(lambda: len(leat(node, "tail", "--from", "0", "--count", "1").stdout) == 65536, "offset 0", 120)
    return appended, time.monotonic() - begin, resident_mib(node)


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    cluster = Cluster(count=1, idle="yield")
    try:
        node = cluster.start()
        begin = time.monotonic()
        if not fill(node, mib):
            return 1
        print(f"filled {mib} MiB in {time.monotonic() - begin:.1f} s, VmRSS {resident_mib(node):.0f} MiB")
        results = []
        for number in range(rounds):
            results.append(one_round(node))
            print(f"round {number + 1}: append {results[-1][0]:.2f} s, offset 0 {results[-1][1]:.2f} s, "
                  f"VmRSS {results[-1][2]:.0f} MiB", flush=True)
        subprocess.run([LEAT, "tail", "--socket", node.socket], stdout=subprocess.DEVNULL, timeout=300, check=True)
        median = [statistics.median(column) for column in zip(*results)]
        print(f"median of {rounds}: append {median[0]:.2f} s, offset 0 {median[1]:.2f} s, VmRSS {median[2]:.0f} MiB; "
              f"after reading all {resident_mib(node):.0f} MiB")
        return 0
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
