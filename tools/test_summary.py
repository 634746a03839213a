#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up meson's JSON test logs and the gates' records (tools/gates.py), compares the skips with a
checked-in list, and what was run with a checked-in list of how much must have been.

usage: test_summary.py [--must NAME]... EXPECTED_SKIPS EXPECTED_COUNTS LOG...

A test without TAP output counts as one. A test that printed no result, printed fewer than its plan,
ended by a signal or a timeout, or exited with an error counts as failed even if every line it did print
is good. --must NAME: that build or gate must have run, and at least as much as EXPECTED_COUNTS says.
"""
import argparse
import json
import os
import re
import sys

RESULT = re.compile(r"^(not )?ok\b\s*\d*\s*-?\s*(.*?)\s*(?:#\s*(skip|todo)\b\s*(.*))?$", re.I)
PLAN = re.compile(r"^1\.\.(\d+)")


def read_tap(text):
    """Returns (passed, failed names, skipped (name, reason), planned)."""
    passed, failed, skipped, planned = 0, [], [], 0
    for line in text.splitlines():
        plan = PLAN.match(line)
        if plan:
            planned += int(plan.group(1))
            continue
        result = RESULT.match(line)
        if not result:
            continue
        negated, name, directive, reason = result.groups()
        if directive and directive.lower() == "skip":
            skipped.append((name, reason))
        elif negated:
            failed.append(name)
        else:
            passed += 1
    return passed, failed, skipped, planned


def print_words(where, lines):
    """What a failed test said of it, once more: the end of a long output is what is kept of it elsewhere."""
    for line in [line for line in lines if line.strip()][-40:]:
        print(f"{where}: {line[:800]}")


class Sum:
    def __init__(self):
        self.passed, self.failed, self.skips, self.words = 0, [], [], []
        self.counts = {}  # "NAME.WHAT": how much of it was run

    def count(self, name, number):
        self.counts[name] = self.counts.get(name, 0) + number

    def take_test(self, build, test):
        where = f"{build}: {test['name']}"
        good, bad, skip, planned = read_tap(test.get("stdout") or "")
        passed, failed = 0, []
        if planned:
            passed = good
            failed += [f"{where}: {name}" for name in bad]
            self.skips += [(f"{test['name']}: {name}", reason) for name, reason in skip]
            if not bad and (good + len(skip) != planned or test["result"] in
                            ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT")):
                failed.append(f"{where}: {test['result']}, {good + len(skip)} of {planned} subtests")
        elif test["result"] == "OK":
            passed = 1
        elif test["result"] == "SKIP":
            self.skips.append((test["name"], (test.get("stdout") or "").strip()))
        else:
            failed.append(f"{where}: {test['result']}")
        if failed:
            self.words.append((where, (test.get("stderr") or test.get("stdout") or "").splitlines()))
        self.passed += passed
        self.failed += failed
        self.count(f"{build}.subtests", passed + len(bad))

    def take_gate(self, record):
        name = record["gate"]
        self.passed += record["passed"]
        for failure in record["failed"]:
            where = f"{name}: {failure['name']}"
            self.failed.append(where)
            self.words.append((where, [*failure["words"], f"again: {failure['again']}"]))
        self.skips += record["skipped"]
        for what, number in record["counts"].items():
            self.count(f"{name}.{what}", number)

    def take(self, path):
        if path.endswith(".gate.json"):
            with open(path, encoding="utf-8") as file:
                self.take_gate(json.load(file))
            return
        build = os.path.basename(os.path.dirname(os.path.dirname(path)))
        with open(path, encoding="utf-8") as file:
            for line in file:
                self.take_test(build, json.loads(line))


def read_counts(path):
    """Lines "NAME.WHAT NUMBER"; '#' begins a comment."""
    with open(path, encoding="utf-8") as file:
        rows = [line.split("#")[0].split() for line in file]
    return {row[0]: int(row[1]) for row in rows if row}


def compare_counts(total, expected, must):
    """Every number of what must have run, and whether it suffices."""
    for name in must:
        due = {what: least for what, least in expected.items() if what.split(".")[0] == name}
        if not due:
            total.failed.append(f"{name}: nothing says how much of it must run")
        for what, least in due.items():
            ran = total.counts.get(what, 0)
            print(f"ran: {what} {ran}, at least {least} due")
            if ran < least:
                total.failed.append(f"{what}: {ran} ran, at least {least} are due")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--must", action="append", default=[], metavar="NAME")
    parser.add_argument("skips")
    parser.add_argument("counts")
    parser.add_argument("logs", nargs="+")
    given = parser.parse_args()
    with open(given.skips, encoding="utf-8") as file:
        expected = {line.strip() for line in file if line.strip() and not line.startswith("#")}
    total = Sum()
    for log in given.logs:
        try:
            total.take(log)
        except (OSError, ValueError, KeyError) as error:
            total.failed.append(f"{log}: cannot be read: {error!r}")
    for where, lines in total.words:
        print_words(where, lines)
    for name, reason in total.skips:
        print(f"skipped: {name}: {reason}")
    if os.geteuid() == 0:
        unexpected = sorted({name for name, _ in total.skips} - expected)
        total.failed += [f"skipped without being expected: {name}" for name in unexpected]
        compare_counts(total, read_counts(given.counts), given.must)
    else:
        print("not root: what was skipped and how much ran is compared with no list")
    for name in total.failed:
        print(f"failed: {name}")
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skips)} skipped")
    return 1 if total.failed or total.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
