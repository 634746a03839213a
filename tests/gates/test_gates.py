#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The gates of tools/test.sh and the soak: what failed, and what did not run, must be seen. The programs that
they run are made up here."""
import contextlib
import html.parser
import io
import json
import os
import stat
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import ab  # noqa: E402
import gates  # noqa: E402
import soak  # noqa: E402
import soak_report  # noqa: E402

SUMMARY = os.path.join(ROOT, "tools", "test_summary.py")
SEED = ('{{"seed":{seed},"failed":{failed},"invariant":"{invariant}","events":100,"appends":20,"acked":10,'
        '"virtual_s":36.0}}')


class Failure(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failure(text)


def program(folder, name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path


def quietly(function, *arguments, **options):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **options)


# ---- the summary ----

def summary(folder, counts, logs, must=("plain",)):
    """Returns its exit status and output, for logs by their paths below `folder`."""
    paths = []
    for name, rows in logs.items():
        paths.append(os.path.join(folder, name))
        os.makedirs(os.path.dirname(paths[-1]), exist_ok=True)
        with open(paths[-1], "w", encoding="utf-8") as file:
            file.write("\n".join(json.dumps(row) for row in rows))
    for name, text in (("skips", ""), ("counts", counts)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    # "root" is what compares the lists: they are compared here for whoever runs this
    code = "import os, runpy, sys; os.geteuid = lambda: 0; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], " \
           "run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, SUMMARY, *(word for name in must for word in ("--must", name)),
                           os.path.join(folder, "skips"), os.path.join(folder, "counts"), *paths],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def meson_test(name, stdout, result="OK", stderr=""):
    return {"name": name, "stdout": stdout, "stderr": stderr, "result": result}


def record(gate="sim-release", passed=5, failed=(), counts=None):
    return {"gate": gate, "command": "leat-sim", "unit": "seeds", "passed": passed, "failed": list(failed),
            "skipped": [], "counts": counts or {"seeds": 5}, "figures": {}, "rows": [], "stopped": False,
            "seconds": 1.0}


TWO_GOOD = meson_test("two", "1..2\nok 1 - a\nok 2 - b\n")
BESIDE, ALONE, GATE = "plain/meson-logs/beside.json", "plain/meson-logs/alone.json", "sim-release.gate.json"


def summary_adds_all(folder):
    code, out = summary(folder, "plain.subtests 3\nsim-release.seeds 5 # of it\n",
                        {BESIDE: [TWO_GOOD], ALONE: [meson_test("one", "")], GATE: [record()]},
                        ("plain", "sim-release"))
    check(code == 0 and out.endswith("8 passed, 0 failed, 0 skipped\n"), out)


def summary_sees_fewer_subtests(folder):
    code, out = summary(folder, "plain.subtests 3\n", {BESIDE: [TWO_GOOD]})
    check(code == 1 and "failed: plain.subtests: 2 ran, at least 3 are due" in out, out)


def summary_sees_fewer_seeds(folder):
    code, out = summary(folder, "plain.subtests 2\nsim-release.seeds 6\n", {BESIDE: [TWO_GOOD], GATE: [record()]},
                        ("plain", "sim-release"))
    check(code == 1 and "failed: sim-release.seeds: 5 ran, at least 6 are due" in out, out)


def summary_sees_a_gate_that_left_nothing(folder):
    code, out = summary(folder, "plain.subtests 2\nsim-release.seeds 5\n", {BESIDE: [TWO_GOOD]},
                        ("plain", "sim-release"))
    check(code == 1 and "sim-release.seeds: 0 ran" in out, out)
    done = subprocess.run([sys.executable, SUMMARY, os.path.join(folder, "skips"), os.path.join(folder, "counts"),
                           os.path.join(folder, BESIDE), os.path.join(folder, "none.gate.json")],
                          capture_output=True, text=True, check=False)
    check(done.returncode == 1 and "none.gate.json: cannot be read" in done.stdout, done.stdout)


def summary_sees_a_gate_without_a_number(folder):
    code, out = summary(folder, "plain.subtests 2\n", {BESIDE: [TWO_GOOD], GATE: [record()]},
                        ("plain", "sim-release"))
    check(code == 1 and "failed: sim-release: nothing says how much of it must run" in out, out)


def summary_says_why_at_the_end(folder):
    bad = {"name": "seed 7: R3", "words": ["  R3: a vote came back"], "again": "leat-sim --seed 7 --trace"}
    code, out = summary(folder, "plain.subtests 1\nsim-release.seeds 5\n",
                        {BESIDE: [meson_test("bad", "1..1\nnot ok 1 - c\n", "FAIL", "it was blue")],
                         GATE: [record(passed=4, failed=[bad])]}, ("plain", "sim-release"))
    for words in ("plain: bad: it was blue", "sim-release: seed 7: R3:   R3: a vote came back",
                  "again: leat-sim --seed 7 --trace", "failed: sim-release: seed 7: R3", "failed: plain: bad: c",
                  "4 passed, 2 failed, 0 skipped"):
        check(words in out, f"{words!r} is not in: {out}")
    check(code == 1, "it passed")


# ---- the gates ----

def simulator(folder, rows, code, words=""):
    lines = "\n".join(SEED.format(seed=seed, failed=str(bool(bad)).lower(), invariant=bad) for seed, bad in rows)
    program(folder, "tests/sim/leat-sim", f"""case "$*" in
*--json*) cat <<'ROWS'
{lines}
ROWS
exit {code};;
*) echo '{words}'; exit {code};;
esac
""")


def sim_counts(folder):
    simulator(folder, [(1, ""), (2, ""), (3, "")], 0)
    done = quietly(gates.sim, "sim", folder, 3, 1)
    check(done["passed"] == 3 and not done["failed"] and done["counts"] == {"seeds": 3}, str(done))
    check(done["figures"] == {"events": 300, "appends": 60, "acked": 30, "virtual_s": 108.0, "first_seed": 1},
          str(done["figures"]))


def sim_sees_a_failed_seed(folder):
    simulator(folder, [(1, ""), (2, "C2")], 1, "  C2: it is lost")
    done = quietly(gates.sim, "sim", folder, 9, 1)
    check(done["passed"] == 1 and done["counts"] == {"seeds": 2} and len(done["failed"]) == 1, str(done))
    failure = done["failed"][0]
    check(failure["name"] == "seed 2: C2" and failure["words"] == ["  C2: it is lost"] and
          failure["again"].endswith("--seed 2 --trace"), str(failure))


def sim_sees_a_crash(folder):
    program(folder, "tests/sim/leat-sim", "echo it broke >&2\nexit 3\n")
    done = quietly(gates.sim, "sim", folder, 9, 1)
    check(done["passed"] == 0 and done["failed"][0]["words"] == ["it broke"], str(done))


def with_command(name, command, function, *arguments, **options):
    before = getattr(gates, name)
    setattr(gates, name, [command])
    try:
        return quietly(function, *arguments, **options)
    finally:
        setattr(gates, name, before)


def planted_counts(folder):
    good, bad = '{"bug":"a","caught":true,"broken":null}', '{"bug":"b","caught":false,"broken":null}'
    for text, passed, failures in ((f"echo '{good}'", 1, 0), (f"echo '{good}'; echo '{bad}'; exit 1", 1, 1),
                                   (f"echo '{bad}'", 0, 1), ("exit 2", 0, 1)):
        done = with_command("PLANTED", program(folder, "planted", text + "\n"), gates.planted, "planted", folder, [])
        check(done["passed"] == passed and len(done["failed"]) == failures, f"{text}: {done}")
        check(not failures or "exit 2" in text or "planted b --build" in done["failed"][0]["again"], str(done))


def chaos_counts(folder):
    row = ('{"row":"%s","injected":2,"offered":9,"acknowledged":8,"lost":0,"duplicated":0,"reordered":0,'
           '"longest_gap_ms":7.0,"result":"%s"}')
    listed = "\n".join(f"R{number} 3 nodes\nR{number}-other 3 nodes" for number in range(8))
    command = program(folder, "chaos", f"""case "$*" in
--list) cat <<'ROWS'
{listed}
ROWS
;;
*R2*) echo '{row % ("R2", "ok")}';;
*) echo '{row % ("R1", "ok")}'; echo '{row % ("R5", "FAILED: it is lost")}'; exit 1;;
esac
""")
    before, os.geteuid = os.geteuid, lambda: 0
    try:
        done = with_command("CHAOS", command, gates.chaos, "chaos", folder, 1, 5)
        short = with_command("CHAOS", command, gates.chaos, "chaos", folder, 1, 6)
    finally:
        os.geteuid = before
    check("--row R1 R5" in done["command"], f"other rows than the seed says: {done['command']}")
    check(done["passed"] == 1 and done["counts"] == {"rows": 2} and done["figures"]["seed"] == 5, str(done))
    check(done["failed"][0]["again"].endswith("--row R5 --seed 5"), str(done["failed"]))
    check([row["name"] for row in short["failed"]] == ["1 rows ran of 2 at least"], str(short["failed"]))


def fuzz_counts(folder):
    row = {"target": "wire", "executions": 50, "edges": 3, "features": 4, "inputs": 5, "new": 1, "passed": False,
           "result": "assertion failed", "input": "found/wire-1"}
    command = program(folder, "fuzz", f"cat <<'T'\n{json.dumps({'targets': [row]})}\nT\nexit 1\n")
    done = with_command("FUZZ", command, gates.fuzz, "fuzz", folder, 1)
    check(done["counts"] == {"targets": 1, "executions.wire": 50} and done["passed"] == 0, str(done))
    check(done["failed"][0]["again"].endswith("fuzz_wire found/wire-1"), str(done["failed"]))
    done = with_command("FUZZ", program(folder, "fuzz", "exit 0\n"), gates.fuzz, "fuzz", folder, 1)
    check(len(done["failed"]) == 1, "no table, and it passed")


# ---- the soak ----

class Tags(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order; `text` is what a reader sees."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        check(not {"src", "href"} & {name for name, _ in attrs}, f"<{tag}> names another file")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        check(self.open.pop() == tag, f"</{tag}> closes another tag")

    def handle_data(self, data):
        self.text.append(data)


def reported(folder, todo, hours=1e-9):
    """Runs a soak of made-up parts; returns its exit status as main() makes it, JSON and the page's text."""
    given = type("Given", (), {"hours": hours, "out": folder, "only": ["all"]})
    report = soak_report.Report({"commit": "c0ffee", "host": "here", "kernel": "6", "hours_asked": hours})
    quietly(soak.soak, given, report, todo)
    code = quietly(soak.end, given, report)
    with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
        fields = json.load(file)
    tags = Tags()
    with open(os.path.join(folder, "report.html"), encoding="utf-8") as file:
        tags.feed(file.read())
    check(not tags.open, f"left open: {tags.open}")
    return code, fields, " ".join(tags.text)


CHAOS_ROW = {"row": "P1", "injected": 3, "offered": 100, "acknowledged": 90, "lost": 0, "duplicated": 0,
             "reordered": 0, "longest_gap_ms": 12.5, "result": "ok"}
FUZZ_ROW = {"target": "wire", "executions": 4321, "edges": 3, "features": 4, "inputs": 5, "new": 1, "passed": True,
            "result": "passed", "input": None}


def all_parts():
    chaos = {**record("chaos-all", 1, counts={"rows": 1}), "unit": "rows", "rows": [CHAOS_ROW]}
    fuzz = {**record("fuzz", 1, counts={"targets": 1}), "unit": "targets", "rows": [FUZZ_ROW],
            "figures": {"executions": 4321}}
    planted = {**record("planted", 3, counts={"bugs": 3}), "unit": "bugs", "rows": [{"bug": "a<b>", "caught": True, "invariant": "C2", "seeds": 7, "seed": 7}]}
    sim = {**record(), "figures": {"events": 1234, "virtual_s": 7200.0, "first_seed": 99}}
    return [soak.Part(done["gate"], lambda done=done: json.loads(json.dumps(done)), due)
            for done, due in ((sim, {"seeds": 5}), (planted, {"bugs": 3}), (chaos, {"rows": 1}),
                              (fuzz, {"targets": 1}))]


def a_soak_reports_every_part(folder):
    code, fields, text = reported(folder, all_parts())
    check(code == 0 and fields["passed"] and fields["complete"], str(fields))
    check(list(fields["parts"]) == ["sim-release", "planted", "chaos-all", "fuzz"], str(list(fields["parts"])))
    for word in (*fields["parts"], "c0ffee", "1,234", "2.0", "a<b>", "C2", "P1", "12.50", "4,321", "99"):
        check(word in " ".join(text.split()), f"{word} is not in the page: {text}")
    check(fields["parts"]["chaos-all"]["rows"]["P1"]["passed"] == 1, str(fields["parts"]["chaos-all"]))


def a_soak_adds_up_turns(folder):
    report, one = soak_report.Report({"hours_asked": 1}), all_parts()
    for _ in range(3):
        for part in one:
            report.add(part.run())
    parts = report.fields["parts"]
    check(parts["sim-release"]["runs"] == 3 and parts["sim-release"]["counts"] == {"seeds": 15} and
          parts["sim-release"]["figures"] == {"events": 3702, "virtual_s": 21600.0}, str(parts["sim-release"]))
    check(parts["chaos-all"]["rows"]["P1"] ==
          {"runs": 3, "passed": 3, "injected": 9, "offered": 300, "acknowledged": 270, "lost": 0, "duplicated": 0,
           "reordered": 0, "longest_gap_ms": 12.5}, str(parts["chaos-all"]["rows"]))


def a_soak_shows_a_failure(folder):
    bad = {"name": "seed 7: R3", "words": ["a vote <came> back"], "again": "leat-sim --seed 7 --trace"}
    todo = [*all_parts(), soak.Part("sim", lambda: record("sim-dassert", 4, [bad]), {})]
    code, fields, text = reported(folder, todo)
    check(code == 1 and not fields["passed"] and fields["failures"] == 1, str(fields))
    for word in ("FAILED: 1 failures", "seed 7: R3", "a vote <came> back", "leat-sim --seed 7 --trace"):
        check(word in text, f"{word} is not in the page: {text}")


def a_soak_fails_when_too_little_ran(folder):
    code, fields, _ = reported(folder, [soak.Part("sim", record, {"seeds": 6})])
    check(code == 1 and "at least 6 are due" in fields["parts"]["sim-release"]["failed"][0]["name"], str(fields))


def a_soak_goes_on_after_a_part_that_cannot_run(folder):
    def broken():
        raise OSError("no such program")
    code, fields, text = reported(folder, [soak.Part("chaos", broken, {"rows": 1}), *all_parts()])
    check(code == 1 and len(fields["parts"]) == 5 and "no such program" in text, text)


# ---- the comparison of speeds ----

def ab_judges(_folder):
    old = [10.0, 11.0, 12.0]
    for new, more_is_better, verdict in (([12.5, 13.0, 12.1], False, "LOSS"), ([11.0, 12.0, 30.0], False, "within the"),
                                         ([9.0, 9.5, 10.5], True, "LOSS"), ([9.0, 9.5, 12.0], True, "within the"), ([9.0, 9.0, 9.9], False, "gain"),
                                         ([13.0, 13.0, 11.5], True, "gain"), (old, True, "within the")):
        check(ab.judge(old, new, more_is_better)[1].startswith(verdict), f"{new}: not {verdict}")


def ab_measures_in_turns(folder):
    sides = []
    for side in "AB":
        program(folder, f"{side}/bench/logbench", f"""echo {side} >>{folder}/order
echo '{{"errors":0,"appends":5,"appends_per_s":100,"latency_us":{{"p50":7}},"cpu_us_per_append":1}}'
""")
        sides.append(quietly(ab.Side, os.path.join(folder, side), side, folder))
    values = quietly(ab.measure, sides, type("Given", (), {"rounds": 3, "seconds": 1}), folder)
    with open(os.path.join(folder, "order"), encoding="utf-8") as file:
        check(file.read().split() == ["A", "B"] * 12, "not in turns")
    check(len(values) == 5 and all(len(row) == 3 for pair in values.values() for row in pair), str(values))


def main():
    tests = [summary_adds_all, summary_sees_fewer_subtests, summary_sees_fewer_seeds,
             summary_sees_a_gate_that_left_nothing, summary_sees_a_gate_without_a_number, summary_says_why_at_the_end,
             sim_counts, sim_sees_a_failed_seed, sim_sees_a_crash, planted_counts, chaos_counts, fuzz_counts,
             a_soak_reports_every_part, a_soak_adds_up_turns, a_soak_shows_a_failure,
             a_soak_fails_when_too_little_ran, a_soak_goes_on_after_a_part_that_cannot_run, ab_judges,
             ab_measures_in_turns]
    failed = False
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        name = test.__name__.replace("_", " ")
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(folder)
                print(f"ok {number} - {name}", flush=True)
            except Exception as error:  # the others say what they have to say
                failed = True
                print(f"# {name}: {error!r}", file=sys.stderr)
                print(f"not ok {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
