#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tries everything again and again for as long as asked, each part once at least, and reports it.

  sim        fresh seeds of the simulator: the plain build, the one that asserts more, beyond the fault atlas
  planted    the full hunt for every planted bug, from a fresh seed on
  chaos      every row of real faults on real nodes
  fuzz       every fuzz target
  kills      500 processes at the end of a memif port killed under load
  property   the core's property test, fresh seeds
  debian     a clean Debian 12 in which the README's two commands run (tools/clean_debian.sh)

Writes DIR/report.json and DIR/report.html after every part, so that both tell what was done by then. Needs
root for chaos, kills and debian. Exit status: 0 all passed, 1 something failed (the report
says how to see it again), 2 usage or no build, 130 or 143: a signal ended it, and nothing had failed.
"""
import argparse
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gates  # noqa: E402
import soak_report  # noqa: E402
from gates import ROOT, Child, Record, fresh_seed  # noqa: E402
from test_summary import read_counts  # noqa: E402

PROPERTY_SEEDS = 8000  # of one run, which demands that every fault was injected
KILLS = 500
HUNT_SEEDS = 2000
KILLS_SAID = re.compile(r"# (\d+) kills, none of a survivor; longest until traffic resumed: (\d+) ms after the next "
                        r"peer was ready, (\d+) ms after the kill")
EVENTS_SAID = re.compile(r"^# events (\d+),")
COMMAND_SAID = re.compile(r"^clean Debian: (.+): (passed|FAILED)")
BUILDS = {"plain": ["-Dbuildtype=debugoptimized"], "dassert": ["-Dbuildtype=debugoptimized", "-Ddassert=true"]}
NEEDS = {"sim": ("plain", "dassert"), "planted": ("plain",), "chaos": ("plain",), "kills": ("plain",),
         "property": ("plain",)}


class Part:
    """`run` returns a list of records; `due` is the least that each must have counted."""

    def __init__(self, name, run, due):
        self.name, self.run, self.due = name, run, due


def kills(build):
    program = os.path.join(build, "tests", "dataplane", "test_dataplane_memif")
    env = {"LEAT_TEST_KILLS": str(KILLS), "PORT_ECHO": os.path.join(build, "tests", "dataplane", "port_echo"),
           "CMOCKA_MESSAGE_OUTPUT": "TAP"}
    command = [program, "a_survivor_of_kills_lives_and_hears_the_next"]
    record = Record("kills", [*(f"{key}={value}" for key, value in env.items()), *command], "kills")
    child = Child(command, env=env)
    code = child.finish()
    said = next((match for match in map(KILLS_SAID.search, [*child.out, *child.words]) if match), None)
    if said:
        record.counts["kills"] = int(said.group(1))
        record.passed = record.counts["kills"] if code == 0 else 0
        record.figures["longest_gap_ms"] = int(said.group(3))
    return record.close(child, code)


def property_seeds(build, count):
    """Runs of PROPERTY_SEEDS each, of which each must reach all that there is to reach."""
    program = os.path.join(build, "tests", "replication", "property")
    first = fresh_seed()
    record, events = Record("property", [program, "--seeds", str(count), "--from", str(first)], "seeds"), 0
    child, code = None, 0
    for begin in range(first, first + count, PROPERTY_SEEDS):
        command = [program, "--seeds", str(PROPERTY_SEEDS), "--from", str(begin)]
        child = Child(command)
        code = child.finish()
        if Child.stopped_by:
            break
        record.counts["seeds"] += PROPERTY_SEEDS
        events += sum(int(match.group(1)) for match in map(EVENTS_SAID.match, child.out) if match)
        if code != 0:
            record.failure(f"seeds from {begin} on", [*child.out, *child.words], shlex.join(command))
        else:
            record.passed += PROPERTY_SEEDS
    record.figures.update(first_seed=first, events=events)
    return record.close(child, code)


def debian(quick):
    command = [os.path.join(ROOT, "tools", "clean_debian.sh"), *(["--quick"] if quick else [])]
    record = Record("debian", command, "commands")
    child = Child(command)
    code = child.finish()
    for match in filter(None, map(COMMAND_SAID.match, child.out)):
        record.count(match.group(2) == "passed")
        record.rows.append({"command": match.group(1), "result": match.group(2)})
        if match.group(2) != "passed":
            record.failure(match.group(1), child.out)
    return record.close(child, code)


def parts(given, builds):
    """In small runs of little each, so that a short soak has all."""
    scale = min(1, given.hours)
    release, dassert, hours = max(100, int(2000 * scale)), max(40, int(500 * scale)), given.hours
    core = PROPERTY_SEEDS * max(1, int(10 * scale))
    jobs, expected = given.jobs, read_counts(os.path.join(ROOT, "tests", "expected-counts.txt"))

    def due(gate):
        return {what.partition(".")[2]: least for what, least in expected.items() if what.startswith(gate + ".")}

    def hunt():
        return gates.planted("planted", builds["plain"], ["--seeds", str(HUNT_SEEDS), "--first", str(fresh_seed())],
                             jobs)

    all_parts = [
        Part("sim", lambda: gates.sim("sim-release", builds["plain"], release, jobs=jobs), {"seeds": release}),
        Part("sim", lambda: gates.sim("sim-dassert", builds["dassert"], dassert, jobs=jobs), {"seeds": dassert}),
        Part("sim", lambda: gates.sim("sim-beyond", builds["plain"], dassert, jobs=jobs, options=["--profile", "beyond"]),
             {"seeds": dassert}),
        Part("sim", lambda: gates.sim("sim-ring", builds["plain"], dassert, jobs=jobs, program="leat-sim-small-ring"),
             {"seeds": dassert}),
        Part("sim", lambda: gates.sim("sim-sessions", builds["plain"], dassert, jobs=jobs,
                                      program="leat-sim-few-sessions"), {"seeds": dassert}),
        Part("planted", hunt, due("planted")),
        Part("chaos", lambda: gates.chaos("chaos-all", builds["plain"], max(1, 10 * scale), all_rows=True),
             due("chaos-all")),
        Part("fuzz", lambda: gates.fuzz("fuzz", builds["fuzz"], max(2, int(60 * scale)), jobs,
                                        os.path.join(given.out, "found")), {"targets": due("fuzz")["targets"]}),
        Part("kills", lambda: kills(builds["plain"]), {"kills": KILLS}),
        Part("property", lambda: property_seeds(builds["plain"], core), {"seeds": core}),
        Part("debian", lambda: debian(quick=hours < 2), due("debian")),
    ]
    return [part for part in all_parts if part.name in given.only]


def compare(record, due):
    """What ran less than it must is a failure, unless it was stopped."""
    if record["stopped"]:
        return
    for what, least in due.items():
        ran = record["counts"].get(what, 0)
        if ran < least:
            record["failed"].append({"name": f"{ran} {what} ran, at least {least} are due", "words": [],
                                     "again": record["command"]})


def build_all(root, only):
    needed = [name for name in BUILDS if any(name in NEEDS.get(part, ()) for part in only)]
    for name in needed:
        folder = os.path.join(root, name)
        targets = ["tests/sim/leat-sim"] if name == "dassert" else []
        commands = [["ninja", "-C", folder, *targets]]
        if not os.path.exists(os.path.join(folder, "build.ninja")):
            commands.insert(0, ["meson", "setup", folder, ROOT, *BUILDS[name]])
        for command in commands:
            print(f"soak: {shlex.join(command)}", flush=True)
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0 or Child.stopped_by:
                print("\n".join(done.stdout.splitlines()[-30:]), file=sys.stderr)
                return None
    return {name: os.path.join(root, name) for name in [*BUILDS, "fuzz"]}


def git(*arguments):
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def about(given):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return {"commit": git("rev-parse", "HEAD") or "unknown",
            "changed_since": bool(git("status", "--porcelain", "--untracked-files=no")),
            "host": platform.node(), "kernel": platform.release(), "processor": model, "cores": os.cpu_count(),
            "hours_asked": given.hours, "only": given.only}


def arguments():
    names = ["sim", "planted", "chaos", "fuzz", "kills", "property", "debian"]
    parser = argparse.ArgumentParser(prog="tools/soak.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, required=True, metavar="H", help="fractions are fine")
    parser.add_argument("--out", metavar="DIR", help="where the report goes (default: a new one in build-soak)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=names, metavar="PART,...",
                        help="only these parts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="J",
                        help="seeds, bugs and targets side by side (default: as many as processors)")
    given = parser.parse_args()
    if unknown := [name for name in given.only if name not in names]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(names)}")
    if os.geteuid() != 0 and (rooted := sorted({"chaos", "debian", "kills"} & set(given.only))):
        parser.error(f"needs root for {', '.join(rooted)}")
    if given.hours <= 0:
        parser.error("--hours is more than 0")
    given.out = os.path.abspath(given.out or os.path.join(ROOT, "build-soak", time.strftime("%Y-%m-%dT%H%M%S")))
    return given


def soak(given, report, todo):
    end, turn = time.monotonic() + given.hours * 3600, 0
    while not Child.stopped_by and (turn == 0 or time.monotonic() < end):
        for part in todo:
            if Child.stopped_by or (turn > 0 and time.monotonic() >= end):
                break
            left = max(0, end - time.monotonic())
            print(f"soak: turn {turn + 1}, {part.name}; {left / 3600:.2f} hours left, "
                  f"{len(report.failures())} failed so far", flush=True)
            try:
                record = part.run()
            except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
                lost = Record(part.name, [part.name], "runs")  # the others go on
                lost.failure(f"could not be run: {error!r}")
                record = lost.close(None, 0)
            compare(record, part.due)
            report.add(record)
            report.write(given.out)
        turn += 1


def end(given, report):
    report.close(bool(Child.stopped_by))
    report.write(given.out)
    for failure in report.failures():
        print(f"failed: {failure['gate']}: {failure['name']}\n  again: {failure['again']}")
    print(f"soak: {report.runs()} runs, {len(report.failures())} failures; {given.out}/report.html")
    if report.failures():
        return 1
    return 128 + Child.stopped_by if Child.stopped_by else 0


def main():
    given = arguments()
    signal.signal(signal.SIGINT, gates.on_signal)
    signal.signal(signal.SIGTERM, gates.on_signal)
    os.makedirs(given.out, exist_ok=True)
    builds = build_all(os.environ.get("LEAT_BUILD_ROOT", os.path.join(ROOT, "build-test")), given.only)
    if not builds:
        return 128 + Child.stopped_by if Child.stopped_by else 2
    report = soak_report.Report(about(given))
    soak(given, report, parts(given, builds))
    return end(given, report)


if __name__ == "__main__":
    sys.exit(main())
