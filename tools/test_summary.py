#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts subtests over meson's JSON test logs and compares the skips with a checked-in list.

usage: test_summary.py EXPECTED_SKIPS TESTLOG.json...

A test without TAP output counts as one. A test that printed no result, printed fewer than its plan,
ended by a signal or a timeout, or exited with an error counts as failed even if every line it did print
is good.
"""
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


def main():
    expected_path, logs = sys.argv[1], sys.argv[2:]
    with open(expected_path, encoding="utf-8") as file:
        expected = {line.strip() for line in file if line.strip() and not line.startswith("#")}
    passed, failed, skips = 0, [], []
    for log in logs:
        build = os.path.basename(os.path.dirname(os.path.dirname(log)))
        with open(log, encoding="utf-8") as file:
            for line in file:
                test = json.loads(line)
                where = f"{build}: {test['name']}"
                good, bad, skip, planned = read_tap(test.get("stdout") or "")
                if planned:
                    passed += good
                    failed += [f"{where}: {name}" for name in bad]
                    skips += [(f"{test['name']}: {name}", reason) for name, reason in skip]
                    if not bad and (good + len(skip) != planned or test["result"] in
                                    ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT")):
                        failed.append(f"{where}: {test['result']}, {good + len(skip)} of {planned} subtests")
                elif test["result"] == "OK":
                    passed += 1
                elif test["result"] == "SKIP":
                    skips.append((test["name"], (test.get("stdout") or "").strip()))
                else:
                    failed.append(f"{where}: {test['result']}")
    for name, reason in skips:
        print(f"skipped: {name}: {reason}")
    if os.geteuid() == 0:
        unexpected = sorted({name for name, _ in skips} - expected)
        failed += [f"skipped without being expected: {name}" for name in unexpected]
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed, {len(skips)} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
