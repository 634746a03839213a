#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions an operation hold their budget, and bench/micro would say if they did not (TAP).
Usage: test_micro.py BUILD"""
import json
import os
import runpy
import subprocess
import sys
import tempfile

BUILD = sys.argv[1]
COUNTED = tempfile.NamedTemporaryFile("w+", prefix="leat-test-counted-")  # by the first test
BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench")


def micro(*words, budget=None):
    more = ["--budget", budget] if budget else []
    return subprocess.run([os.path.join(BENCH, "micro"), "--build", BUILD, *more, *words], capture_output=True, text=True)


def rows():
    with open(os.path.join(BENCH, "micro.budget"), encoding="utf-8") as file:
        return [line.rsplit(None, 1) for line in file if not line.startswith("#")]


def held():
    done = micro("--json")
    COUNTED.write(done.stdout)
    COUNTED.flush()
    assert done.returncode == 0, done.stderr
    assert all(row["ticks"] > 0 and row["instructions"] > 0 for row in json.loads(done.stdout)), done.stdout


def refuses(changed, *words):
    with tempfile.NamedTemporaryFile("w", prefix="leat-test-budget-") as file:
        file.writelines(f"{name} {count}\n" for name, count in changed)
        file.flush()
        done = micro("--counted", COUNTED.name, budget=file.name)
    assert done.returncode == 1 and all(word in done.stderr for word in words), f"{done.returncode} {done.stderr}"
    assert done.stderr.count("\n") == 1, f"one is wrong: {done.stderr}"


def growth_is_told():
    changed = rows()
    changed[0][1] = str(int(int(changed[0][1]) / 1.07))
    refuses(changed, changed[0][0], "over its budget")


def a_gain_that_could_be_lost_again_is_told():
    judge = runpy.run_path(os.path.join(BENCH, "micro"))["judge"]
    said = judge({"cheap": 100, "held": 100, "dear": 100}, {"cheap": 111, "held": 109, "dear": 95})
    assert "cheaper" in said["cheap"] and "--rewrite" in said["cheap"], said
    assert said["held"] is None and "over its budget" in said["dear"], said


def an_operation_without_budget_is_told():
    refuses(rows()[1:], rows()[0][0], "no budget")


def a_budget_without_operation_is_told():
    refuses(rows() + [["an operation of old", "100"]], "an operation of old", "not counted")


def a_broken_budget_is_told():
    refuses([["frame", "cheap"]], "expected")


TESTS = [held, growth_is_told, a_gain_that_could_be_lost_again_is_told, an_operation_without_budget_is_told, a_budget_without_operation_is_told,
         a_broken_budget_is_told]


def main():
    print(f"1..{len(TESTS)}", flush=True)
    failed = False
    for number, test in enumerate(TESTS, 1):
        try:
            test()
            print(f"ok {number} - {test.__name__.replace('_', ' ')}", flush=True)
        except AssertionError as error:
            failed = True
            print(f"not ok {number} - {test.__name__.replace('_', ' ')}", flush=True)
            print(f"# {error}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
