#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/compare.sh: its figures, its ratios, its chart and its load clients' common part are tested with made-up
systems, and it measures Leat for real; the peers' programs are not needed here (TAP).
Usage: test_compare.py BUILD LOAD_ECHO"""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

BUILD, ECHO = sys.argv[1:]
COMPARE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "compare")
sys.path.insert(0, COMPARE)
import compare  # noqa: E402
from chart import draw  # noqa: E402
from systems import SYSTEMS, Failed, NotUp, System  # noqa: E402

POINT = {"size": 64, "inflight": 4, "seconds": 0.4, "warm": 0.1}


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def made_up(name, level, rate, p50):
    def figure(value):
        return {"median": value, "least": value / 2, "most": value * 2}
    return {"system": name, "level": level, "durability": "none", "size": 64, "inflight": 4, "rounds": 3,
            "appends_per_s": figure(rate), "p50_us": figure(p50), "p99_us": figure(9 * p50), "cpu_s_per_million": figure(1),
            "client_cpu_share": figure(0.5), "pinned": name == "leat-durable", "client_inside": name == "etcd"}


CELLS = [made_up("leat-durable", "durable", 1000, 20), made_up("etcd", "durable", 10, 500),
         made_up("leat-replicated", "memory", 3000, 5), made_up("nats-file", "memory", 100, 50)]


class Scripted(System):
    """Fails as often as it is told, with a node that is to be ended."""
    name, program, level, durability = "scripted", "scripted", "memory", "none"
    failures, errors, folders, pids = 0, 0, [], []

    def measure(self, point):
        self.folders.append(self.folder)
        self.spawn(1, "sleep", "1000")
        self.pids.append(self.nodes[0].pid)
        if Scripted.failures:
            Scripted.failures -= 1
            raise NotUp("as told")
        return {"appends": 100, "errors": self.errors, "seconds": 2.0, "p50_us": 1, "p99_us": 2, "max_us": 3,
                "client_cpu_s": 0.5, "servers_cpu_s": 1.5}


def measured_and_put_away(folder):
    Scripted.failures = compare.PATIENCE - 1
    seen = compare.measure(Scripted, BUILD, folder, POINT)
    check(seen["appends_per_s"] == 50 and seen["cpu_s_per_million"] == 20000 and seen["client_cpu_share"] == 0.25, f"{seen}")
    check(len(Scripted.folders) == compare.PATIENCE and not os.listdir(folder), f"left: {os.listdir(folder)}")
    for failures, errors, starts, word in ((compare.PATIENCE, 0, compare.PATIENCE, "as told"), (0, 3, 1, "3 appends failed")):
        Scripted.failures, Scripted.errors = failures, errors
        Scripted.folders.clear()
        try:
            compare.measure(Scripted, BUILD, folder, POINT)
        except (NotUp, Failed) as failure:
            check(word in str(failure) and len(Scripted.folders) == starts, f"said: {failure}, after {len(Scripted.folders)} starts")
        else:
            raise AssertionError(f"passed: {word}")
        check(not os.listdir(folder), f"left: {os.listdir(folder)}")
    check(not any(os.path.exists(f"/proc/{pid}") for pid in Scripted.pids), "a node was left running")


def ratios(_):
    found = {(r["leat"], r["other"]): (r["rate"], r["p50"]) for r in compare.ratios(CELLS)}
    check(found == {("leat-durable", "etcd"): (100, 25), ("leat-durable", "nats-file"): (10, 2.5),
                    ("leat-replicated", "nats-file"): (30, 10)}, f"{found}")
    check(compare.times_lower(2.5) == "2.5 x lower" and compare.times_lower(0.5) == "2.0 x higher", "a higher p50 is called lower")
    figures = compare.spread([{"x": 3}, {"x": 1}, {"x": 8}], "x")
    check(figures == {"median": 3, "least": 1, "most": 8}, f"{figures}")


def table_for_people(_):
    """What stands out of the row is said in it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        compare.table(CELLS, [{"leat": "leat-durable", "other": "etcd", "size": 64, "inflight": 4, "rate": 100, "p50": 0.25}])
    lines = {line.split()[0]: line for line in said.getvalue().splitlines() if line.startswith("  ")}
    check(lines["etcd"].endswith(" in leader") and lines["nats-file"].endswith(" 50 %"), f"the client's CPU: {lines}")
    check("p50 4.0 x higher" in said.getvalue(), f"{said.getvalue()}")
    check("pinned to cores: leat-durable; the scheduler places the others" in said.getvalue(), f"{said.getvalue()}")


def turns(_):
    """Each begins a round as often as any other."""
    kinds = ["a", "b", "c"]
    check([compare.rotated(kinds, n)[0] for n in range(4)] == ["a", "b", "c", "a"], "who begins")
    check(all(sorted(compare.rotated(kinds, n)) == kinds for n in range(4)), "all of them")


def mounts(folder):
    seen = compare.mount_of(folder)
    place = subprocess.run(["stat", "-c", "%m", folder], capture_output=True, text=True).stdout.strip()
    check(seen["mount"] == place and seen["options"].split(",")[0] in ("rw", "ro"), f"{seen}, of {place}")


def chart(folder):
    path = os.path.join(folder, "chart.svg")
    draw(path, CELLS)
    root = xml.parse(path).getroot()
    bars = [float(e.get("width")) for e in root.iter() if e.get("class") == "bar"]
    words = [e.text for e in root.iter() if e.text]
    check(len(bars) == 2 * len(CELLS), f"{len(bars)} bars")
    check(bars[0] > bars[1] > 0 and 0 < bars[2] < bars[3], f"durable rates and p50s: {bars}")
    check("1,000" in words and "etcd" in words, f"{words}")
    heights = [float(e.get("y")) for e in root.iter() if e.get("y") and e.get("class") == "bar"]
    check(max(heights) < float(root.get("height")), "a bar below the picture")
    os.remove(path)


def load(*words, code=0):
    done = subprocess.run([ECHO, "--address", "500", "--warm", "0.1", "--seconds", "0.4", *words], capture_output=True, text=True,
                          timeout=60)
    check(done.returncode == code, f"{words}: exit {done.returncode}: {done.stderr}")
    return done


def load_clients(_):
    done = load("--inflight", "8", "--pids", str(os.getpid()))
    seen = json.loads(done.stdout)
    check("most 8" in done.stderr, f"the window: {done.stderr}")
    check(seen["left"] == 0 and seen["errors"] == 0 and seen["appends"] >= 8, f"{seen}")
    check(500 <= seen["p50_us"] <= seen["p99_us"] <= seen["max_us"] * 1.02, f"not as long as they take: {seen}")
    check(seen["appends"] / seen["seconds"] <= 8 / 500e-6 and seen["seconds"] >= 0.4, f"faster than can be: {seen}")
    check(0 < seen["client_cpu_s"] < 60 and seen["servers_cpu_s"] >= 0, f"{seen}")
    seen = json.loads(load("--inflight", "2", "--mode", "bad").stdout)
    check(abs(seen["errors"] - seen["appends"]) <= 1 and seen["errors"] > 0, f"every second one failed: {seen}")
    seen = json.loads(load("--inflight", "2", "--mode", "lost", code=1).stdout)
    check(seen["left"] == 1, f"one does not end: {seen}")
    seen = json.loads(load("--inflight", "2", "--mode", "stall").stdout)
    check(seen["max_us"] > 450e3 and seen["errors"] == 1 and seen["left"] == 0, f"a stall that lasts to the end is hidden: {seen}")
    for words in (["--inflight", "0"], ["--colour", "red"], ["--size"]):
        check("--inflight" in load(*words, code=2).stderr, f"{words}: no usage")


def leat_itself(folder):
    out = os.path.join(folder, "out.json"), os.path.join(folder, "out.svg")
    done = subprocess.run([os.path.join(COMPARE, "compare.py"), "--build", BUILD, "--systems", "leat-replicated,leat-durable",
                           "--rounds", "2", "--seconds", "0.5", "--warm", "0.2", "--inflight", "1,16", "--directory", folder,
                           "--json", out[0], "--chart", out[1]], capture_output=True, text=True, timeout=240)
    check(done.returncode == 0, f"exit {done.returncode}: {done.stderr}")
    with open(out[0], encoding="utf-8") as file:
        seen = json.load(file)
    check([(c["system"], c["inflight"], c["rounds"]) for c in seen["cells"]] ==
          [(name, n, 2) for n in (1, 16) for name in ("leat-durable", "leat-replicated")], f"{seen['cells']}")
    for cell in seen["cells"]:
        check(all(0 < cell[name]["least"] <= cell[name]["median"] <= cell[name]["most"] for name in compare.FIGURES), f"{cell}")
    check(seen["orders"] == [["leat-durable", "leat-replicated"], ["leat-replicated", "leat-durable"]], f"{seen['orders']}")
    check(all(len(seen["limits"]) == 2 and each["disk_write_shared_us_p50"] > 0 for each in seen["limits"]), f"{seen['limits']}")
    check(not any(cell["pinned"] for cell in seen["cells"]) and "the scheduler places all" in done.stdout, "pinned, beside others that are not")
    check(seen["host"]["directory"]["options"], f"{seen['host']}")
    check("leat-durable" in done.stdout and "[8/8]" in done.stderr, f"for people: {done.stdout} {done.stderr}")
    for path in out:
        os.remove(path)
    check(not os.listdir(folder), f"left: {os.listdir(folder)}")


def refused(_):
    for words, reason in ((["--systems", "etcd,mysql"], "mysql"), (["--rounds", "0"], "positive"), (["--inflight", "x"], "'x'"),
                          (["--directory", "/nonexistent"], "/nonexistent")):
        done = subprocess.run([os.path.join(COMPARE, "compare.py"), "--build", BUILD, *words], capture_output=True, text=True)
        check(done.returncode == 2 and reason in done.stderr, f"{words}: {done.returncode} {done.stderr}")
    done = subprocess.run([os.path.join(COMPARE, "compare.py"), "--build", BUILD, "--list"], capture_output=True, text=True)
    check(done.returncode == 0 and all(kind.name in done.stdout for kind in SYSTEMS), f"--list: {done.stdout}")


TESTS = [measured_and_put_away, ratios, table_for_people, turns, mounts, chart, load_clients, leat_itself, refused]


def main():
    print(f"1..{len(TESTS)}", flush=True)
    failed = False
    for number, test in enumerate(TESTS, 1):
        name = test.__name__.replace("_", " ")
        with tempfile.TemporaryDirectory(prefix="leat-test-compare-", dir="/var/tmp") as folder:
            try:
                test(folder)
                print(f"ok {number} - {name}", flush=True)
            except Exception as error:  # the others say what they have to say
                failed = True
                print(f"# {name}: {error}", file=sys.stderr, flush=True)
                print(f"not ok {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
