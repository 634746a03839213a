#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one of the gates beside meson's tests, and writes what came of it as one JSON object: what was
counted, what failed, and how to see that again. tools/test.sh and tools/soak.py call it.

  gates.py sim --build DIR --count 1000      so many seeds of the simulator; a fresh first one, printed
  gates.py planted --build DIR               every planted bug, with the seed that is recorded for it
  gates.py chaos --build DIR --minutes 1     a quarter of the rows; which one, the seed says (--all-rows: all)
  gates.py fuzz --build DIR --seconds 10     every fuzz target; DIR is the build for fuzzing

Exit status: 0 all passed, 1 something failed, 2 usage; 130, 143: a signal ended it.
"""
import argparse
import collections
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PLANTED = [os.path.join(ROOT, "tests", "sim", "planted")]
CHAOS = [os.path.join(ROOT, "tests", "chaos", "run")]
FUZZ = [os.path.join(ROOT, "tests", "fuzz", "run")]
SIM_FAILURES_MAX = 3  # the rest of a broken build's seeds say no more
SHRINK_SECONDS = 120
CHAOS_GROUPS = 4
WORDS_KEPT = 40
END_SECONDS = 120  # for a child that was told to end, to undo what it began


class Child:
    """A command whose output is taken line by line. When a signal asks for the end it is told, and gets the
    time to undo what it began; what is then left of its session is killed."""
    current = None
    stopped_by = 0  # the signal

    def __init__(self, command, take=None, env=None):
        self.out, self.words, self.take = [], collections.deque(maxlen=WORDS_KEPT), take
        self.process = subprocess.Popen(command, env={**os.environ, **(env or {})}, text=True, errors="replace",
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True)
        self.readers = [threading.Thread(target=self.read_out, daemon=True),
                        threading.Thread(target=self.read_words, daemon=True)]
        for reader in self.readers:
            reader.start()

    def read_out(self):
        for line in self.process.stdout:
            self.out.append(line.rstrip("\n"))
            if not self.take:
                print(line, end="", flush=True)

    def read_words(self):
        for line in self.process.stderr:
            self.words.append(line.rstrip("\n"))
            print(line, end="", file=sys.stderr, flush=True)

    def finish(self):
        """Returns the exit status, all lines taken."""
        Child.current = self
        told = 0
        while self.process.poll() is None and not (told and time.monotonic() - told > END_SECONDS):
            if Child.stopped_by and not told:
                told = time.monotonic()
                self.process.terminate()
            try:
                self.process.wait(0.5)
            except subprocess.TimeoutExpired:
                pass
        Child.current = None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        code = self.process.wait()
        for reader in self.readers:
            reader.join(10)
        for line in self.out if self.take else []:
            self.take(line)
        return code


def on_signal(number, _frame):
    Child.stopped_by = number


class Record:
    """What a gate did; each thing that it counts is a test."""

    def __init__(self, name, command, unit):
        self.name, self.command, self.unit = name, shlex.join(command), unit
        self.began, self.passed = time.time(), 0
        self.failed, self.skipped, self.rows, self.counts, self.figures = [], [], [], {unit: 0}, {}

    def count(self, passed):
        self.counts[self.unit] += 1
        self.passed += bool(passed)

    def failure(self, name, words=(), again=None):
        self.failed.append({"name": name, "words": list(words)[-WORDS_KEPT:], "again": again or self.command})

    def close(self, child, code):
        """A command that failed without saying at what has failed all the same; one that was stopped has not."""
        if code != 0 and not self.failed and not Child.stopped_by:
            self.failure(f"exit status {code}", child.words or child.out)
        return {"gate": self.name, "command": self.command, "unit": self.unit, "passed": self.passed,
                "failed": self.failed, "skipped": self.skipped, "counts": self.counts, "figures": self.figures,
                "rows": self.rows, "stopped": bool(Child.stopped_by), "seconds": round(time.time() - self.began, 1)}


def fresh_seed():
    return int.from_bytes(os.urandom(4), "little")


def sim(name, build, count, first=None, jobs=2, options=(), program="leat-sim"):
    first = fresh_seed() if first is None else first
    program = [os.path.join(build, "tests", "sim", program), *options]
    command = [*program, "--seed", str(first), "--seeds", str(count), "--jobs", str(jobs), "--max",
               str(SIM_FAILURES_MAX)]
    record = Record(name, command, "seeds")
    sums = dict.fromkeys(("events", "appends", "acked", "virtual_s"), 0)

    def take(line):
        row = json.loads(line)
        record.count(not row["failed"])
        for key in sums:
            sums[key] += row[key]
        if row["failed"]:
            record.rows.append(row)

    print(f"{name}: {count} seeds, the first is {first}", flush=True)
    child = Child([*command, "--json", "--no-shrink"], take)
    code = child.finish()
    for row in record.rows:
        sim_failure(record, [*program, "--seed", str(row["seed"])], row, build)
    record.figures.update(sums, first_seed=first)
    print(f"{name}: {record.counts['seeds']} seeds, {len(record.failed)} failed, {sums['appends']} appends "
          f"({sums['acked']} acknowledged), {sums['events']} events, {sums['virtual_s'] / 3600:.2f} simulated hours",
          flush=True)
    return record.close(child, code)


def sim_failure(record, command, row, build):
    """The seed once more, for its words and to make it smaller."""
    smaller = os.path.join(build, f"leat-sim-{row['seed']}.replay")
    again = shlex.join([*command, "--trace"])
    try:
        done = subprocess.run([*command, "--shrink", smaller], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", check=False, timeout=SHRINK_SECONDS)
        words = done.stdout.splitlines()
        if done.returncode == 0:
            words.append("it failed, and did not when it was run again: the seed does not decide everything")
        if os.path.exists(smaller):
            again += f"; smaller: {command[0]} --replay {smaller} --trace"
    except subprocess.TimeoutExpired as late:
        words = [*(late.stdout or b"").decode(errors="replace").splitlines(), "making it smaller took too long"]
    record.failure(f"seed {row['seed']}: {row['invariant']}", words, again)


def planted(name, build, options, jobs=2):
    command = [*PLANTED, "--build", build, "--jobs", str(jobs), *options]
    record = Record(name, command, "bugs")

    def take(line):
        row = json.loads(line)
        if Child.stopped_by and row["broken"]:
            return  # so it was, by the signal
        record.rows.append(row)
        record.count(row["caught"])
        if not row["caught"]:
            record.failure(f"{row['bug']}: {row['broken'] or 'not caught'}",
                           again=shlex.join([*PLANTED, row["bug"], "--build", build, *options]))

    child = Child([*command, "--json"], take)
    code = child.finish()
    record.figures.update(caught=record.passed)
    print(f"{name}: {record.passed} of {record.counts['bugs']} planted bugs caught", flush=True)
    return record.close(child, code)


def chaos_rows(seed, all_rows):
    """Every fourth row, so that each family has some; from which on, the seed says."""
    listed = subprocess.run([*CHAOS, "--list"], capture_output=True, text=True, check=True).stdout
    # an id takes its variants with it: N10 also N10-pool
    names = list(dict.fromkeys(line.split()[0].split("-")[0] for line in listed.splitlines() if line.strip()))
    return names if all_rows else names[seed % CHAOS_GROUPS::CHAOS_GROUPS]


def chaos(name, build, minutes, seed=None, all_rows=False):
    seed = fresh_seed() if seed is None else seed
    rows = chaos_rows(seed, all_rows)
    command = [*CHAOS, "--seed", str(seed), "--minutes", f"{minutes:g}", "--row", *rows]
    record = Record(name, [f"LEAT_BUILD={build}", *command], "rows")
    record.figures["seed"] = seed
    if os.geteuid() != 0:
        record.skipped.append([name, "needs root"])
        print(f"{name}: skipped, needs root", flush=True)
        return record.close(None, 0)

    def take(line):
        row = json.loads(line)
        record.rows.append(row)
        record.count(row["result"] == "ok")
        if row["result"] != "ok":
            words = [row["result"], json.dumps(row), *([f"kept: {row['kept']}"] if "kept" in row else [])]
            record.failure(f"{row['row']}: {row['result'].splitlines()[0][:200]}", words,
                           f"LEAT_BUILD={build} {shlex.join(CHAOS)} --row {row['row']} --seed {seed}")

    print(f"{name}: seed {seed}, rows {' '.join(rows)}", flush=True)
    child = Child([*command, "--json"], take, {"LEAT_BUILD": build})
    code = child.finish()
    for row in record.rows:
        print("{row:<4} injected {injected}, acknowledged {acknowledged} of {offered}, lost {lost}, doubled {duplicated}, "
              "reordered {reordered}, longest gap {longest_gap_ms:.0f} ms".format(**row), flush=True)
    print(f"{name}: {record.passed} of {record.counts['rows']} rows passed", flush=True)
    if record.counts["rows"] < len(rows) and not Child.stopped_by:
        record.failure(f"{record.counts['rows']} rows ran of {len(rows)} at least", child.words)
    return record.close(child, code)


def fuzz(name, build, seconds, jobs=2, keep=None):
    command = [*FUZZ, "--build", build, "--seconds", str(seconds), "--jobs", str(jobs),
               *(["--keep", keep] if keep else [])]
    record = Record(name, command, "targets")
    child = Child([*command, "--json"], lambda line: None)
    code = child.finish()
    try:
        record.rows = json.loads("\n".join(child.out))["targets"]
    except ValueError:
        if not Child.stopped_by:
            record.failure("no table was printed", child.words)
    for row in record.rows:
        record.count(row["passed"])
        record.counts[f"executions.{row['target']}"] = row["executions"]
        if not row["passed"]:
            again = f"{os.path.join(build, 'tests', 'fuzz', 'fuzz_' + row['target'])} {row['input'] or ''}".strip()
            record.failure(f"{row['target']}: {row['result']}", child.words, again)
    record.figures.update(executions=sum(row["executions"] for row in record.rows))
    return record.close(child, code)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gate", choices=("sim", "planted", "chaos", "fuzz"))
    parser.add_argument("--build", required=True, metavar="DIR")
    parser.add_argument("--out", metavar="FILE", help="where the JSON object goes")
    parser.add_argument("--name", help="in the sums (default: the gate's)")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="seeds of the simulator")
    parser.add_argument("--seed", type=int, help="the first one of the simulator, the one of chaos (default: fresh)")
    parser.add_argument("--simulator", default="leat-sim", metavar="NAME",
                        help="of the build's tests/sim: leat-sim, leat-sim-small-ring, leat-sim-few-sessions")
    parser.add_argument("--minutes", type=float, default=1, help="of load, all rows of chaos together")
    parser.add_argument("--all-rows", action="store_true")
    parser.add_argument("--seconds", type=int, default=10, help="for each fuzz target")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def main():
    given = arguments()
    name, build = given.name or given.gate, os.path.abspath(given.build)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    run = {"sim": lambda: sim(name, build, given.count, given.seed, given.jobs, program=given.simulator),
           "planted": lambda: planted(name, build, ["--recorded"], given.jobs),
           "chaos": lambda: chaos(name, build, given.minutes, given.seed, given.all_rows),
           "fuzz": lambda: fuzz(name, build, given.seconds, given.jobs)}
    record = run[given.gate]()
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
    if Child.stopped_by:
        return 128 + Child.stopped_by
    return 1 if record["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
