#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is it slower than before? Builds two commits side by side and runs logbench on them in turns, A B A B, so that
what the machine does meanwhile falls on both. Prints for each figure the medians, the spread of both, and the
verdict: a loss is one when the median of either lies outside what the other showed.

  bench/ab.py HEAD~10 HEAD
  bench/ab.py origin/main . --rounds 9       "." is the source as it lies here, with what is not committed

A directory that holds a build (bench/logbench in it) is taken as it is. Nothing else should run meanwhile.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# what is run, and of that: figure, its place in logbench's object, whether more is better
RUNS = [
    (["--ack", "durable", "--inflight", "1"], [("durable, 1 in flight: p50, us", ("latency_us", "p50"), False)]),
    (["--ack", "durable", "--inflight", "1024"], [("durable, 1,024 in flight: appends/s", ("appends_per_s",), True)]),
    (["--ack", "replicated", "--inflight", "1"],
     [("replicated, 1 in flight: p50, us", ("latency_us", "p50"), False)]),
    (["--ack", "replicated", "--inflight", "1024"],
     [("replicated, 1,024 in flight: appends/s", ("appends_per_s",), True),
      ("the same: us of cpu an append", ("cpu_us_per_append",), False)]),
]


class Refused(Exception):
    pass


def stop(number, _frame):
    raise Refused(signal.Signals(number).name)


def call(command, cwd=None):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-500:] or "it says nothing: did nothing end in the time given?"
        raise Refused(f"{' '.join(command[:4])}: exit status {done.returncode}: {said}")
    return done.stdout


class Side:
    """One of the two: a build of its own, unless it is one already."""

    def __init__(self, name, letter, scratch):
        self.name = name
        if os.path.exists(os.path.join(name, "bench", "logbench")):
            self.build = os.path.abspath(name)
            return
        self.build = os.path.join(scratch, "build-" + letter)
        source = ROOT
        if name != ".":
            commit = call(["git", "-C", ROOT, "rev-parse", "--verify", name + "^{commit}"]).strip()
            source = os.path.join(scratch, "source-" + letter)
            os.mkdir(source)
            archive = os.path.join(scratch, letter + ".tar")
            call(["git", "-C", ROOT, "archive", "-o", archive, commit])
            call(["tar", "-xf", archive, "-C", source])
            self.name = f"{name} ({commit[:12]})"
        print(f"{letter}: building {self.name}", file=sys.stderr, flush=True)
        call(["meson", "setup", self.build, source, "-Dbuildtype=debugoptimized"])
        call(["ninja", "-C", self.build, "tools/leat", "tools/leatd", "bench/logbench"])

    def run(self, options, seconds, directory):
        out = call([os.path.join(self.build, "bench", "logbench"), "append", "--local", "3", "--size", "64",
                    "--clients", "1", "--seconds", str(seconds), "--no-limits", "--directory", directory, "--quiet",
                    "--json", *options])
        figures = json.loads(out)
        if figures["errors"] or not figures["appends"]:
            raise Refused(f"{self.name}: {figures['errors']} errors in {figures['appends']} appends")
        return figures


def take(figures, place):
    for key in place:
        figures = figures[key]
    return figures


def judge(old, new, more_is_better):
    """Returns the change in percent (more is more) and the verdict."""
    before, after = statistics.median(old), statistics.median(new)
    change = (after / before - 1) * 100
    fell, rose = after < min(old) and before > max(new), after > max(old) and before < min(new)
    if fell or rose:
        return change, "gain" if rose == more_is_better else "LOSS"
    return change, "within the spread"


def show(values):
    return f"{statistics.median(values):>12,.2f}  ({min(values):,.2f} to {max(values):,.2f})"


def measure(sides, given, scratch):
    """Returns by figure: the values of both sides."""
    values = {name: ([], []) for _, figures in RUNS for name, _, _ in figures}
    for turn in range(given.rounds):
        for options, figures in RUNS:
            for number, side in enumerate(sides):
                done = side.run(options, given.seconds, scratch)
                for name, place, _ in figures:
                    values[name][number].append(take(done, place))
        print(f"round {turn + 1} of {given.rounds}", file=sys.stderr, flush=True)
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Exit status: 0 no loss, 1 a loss beyond the spread, 2 could not measure.")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of all, on both (default 5)")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="of a single run (default 2)")
    parser.add_argument("--directory", default="/var/tmp", metavar="DIR", help="on a real disk (default %(default)s)")
    given = parser.parse_args()
    if given.rounds < 3:
        parser.error("--rounds is 3 at least: there is no spread without")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    scratch = tempfile.mkdtemp(prefix="leat-ab-", dir=given.directory)
    try:
        sides = [Side(given.old, "A", scratch), Side(given.new, "B", scratch)]
        values = measure(sides, given, scratch)
    except Refused as error:
        print(f"ab: {error}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lost = False
    print(f"A: {sides[0].name}\nB: {sides[1].name}\n{given.rounds} rounds, A B A B, {given.seconds:g} s each; median "
          "(least to most)")
    for name, _, more_is_better in (figure for _, figures in RUNS for figure in figures):
        old, new = values[name]
        change, verdict = judge(old, new, more_is_better)
        lost = lost or verdict == "LOSS"
        print(f"{name}\n  A {show(old)}\n  B {show(new)}  {change:+.1f} %: {verdict}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
