#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""logbench measures what it says, on clusters of its own, and leaves nothing behind (TAP). Of speed nothing is
asked here: figures have to be there, to add up, and to fit each other.
Usage: test_logbench.py LOGBENCH [TEST...]"""
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

LOGBENCH = sys.argv[1]
os.environ["LEAT_BUILD"] = os.path.dirname(os.path.dirname(os.path.abspath(LOGBENCH)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from cluster import LEAT, Cluster  # noqa: E402

MEMORY = ["--ack", "replicated"]  # no disk is waited for: those that tests share stand still for half a second now and then


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def left_behind(folder):
    return os.listdir(folder) + glob.glob("/dev/shm/" + "logbench-*")


def run(folder, *words, code=(0,)):
    before = set(glob.glob("/dev/shm/logbench-*"))
    done = subprocess.run([LOGBENCH, *words, "--directory", folder, "--quiet"], capture_output=True, text=True, timeout=240)
    check(done.returncode in code, f"{words}: exit {done.returncode}: {done.stderr}")
    check(not os.listdir(folder), f"{words} left {os.listdir(folder)}")
    check(set(glob.glob("/dev/shm/logbench-*")) <= before, f"{words} left memory")
    return done


def measured(folder, *words):
    return json.loads(run(folder, *words, "--json").stdout)


def latency_is_sane(row):
    check(0 < row["p50"] <= row["p90"] <= row["p99"] <= row["p999"], f"not in order: {row}")
    check(row["p50"] <= row["max"] * 1.02, f"beyond the maximum: {row}")
    check(row["count"] > 0, f"of nothing: {row}")


def appends(folder):
    seen = measured(folder, "append", "--local", "3", "--seconds", "1", "--inflight", "16", *MEMORY)
    latency_is_sane(seen["latency_us"])
    check(seen["errors"] == 0, f"errors: {seen}")
    # by when they end and by when they begin: the window's edges are in flight
    check(abs(seen["appends"] - seen["latency_us"]["count"]) <= 16, "not each append has its latency")
    line = seen["timeline"]
    check(line["interval_ms"] == 100 and len(line["appends"]) == len(line["max_us"]) == 10, f"time line: {line}")
    check(sum(line["appends"]) == seen["appends"], "the time line does not add up")
    check(sum(n > 0 for n in line["appends"]) > 1, f"all in one moment: {line}")
    check(seen["limits"]["disk_write_shared_us_p50"] > 0 and seen["ratio_to_limit"] > 0, f"limits: {seen['limits']}")
    text = run(folder, "append", "--local", "1", "--seconds", "2", "--no-limits").stdout
    check("appends/s" in text and "the slowest 100 ms" in text, f"for people: {text}")


def accounted(seen, rate, seconds):
    """Each append that was due has its latency, or is an error, whatever became of it."""
    due, told = rate * seconds, seen["latency_us"]["count"] + seen["errors"]
    check(abs(told - due) <= 4, f"{due} were due, {told} are accounted for: {seen}")


def open_loop(folder):
    """What is asked for is accounted for, where it can be done and where it cannot."""
    seen = measured(folder, "append", "--local", "1", "--rate", "500", "--inflight", "64", "--seconds", "2", *MEMORY,
                    "--no-limits")
    accounted(seen, 500, 2)
    check("limits" not in seen and "ratio_to_limit" not in seen, f"limits that were not measured: {seen}")
    seen = measured(folder, "append", "--local", "1", "--rate", "3000000", "--inflight", "1", "--clients", "2", "--seconds", "1",
                    *MEMORY, "--no-limits")
    accounted(seen, 3000000, 1)
    check(seen["behind"] > 1000000 and seen["latency_us"]["p50"] > 100000, f"it keeps a pace that it cannot: {seen}")
    check(seen["appends_per_s"] < 1000000, f"done, that was not: {seen['appends_per_s']}")
    seen = measured(folder, "append", "--local", "1", "--rate", "700000000", "--seconds", "0.1", "--warm", "0.1", *MEMORY,
                    "--no-limits")
    accounted(seen, 700000000, 0.1)  # an interval of more than one nanosecond and less than two
    text = run(folder, "append", "--local", "1", "--rate", "300", "--seconds", "1", *MEMORY, "--no-limits").stdout
    done = re.search(r"300/s offered, (\d+)/s done", text)
    check(done and 100 <= int(done.group(1)) <= 500, f"for people: {text}")


def nodes_of(program):
    """The node processes of a logbench that runs, by number."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(os.path.dirname(path) + "/cmdline", encoding="utf-8", errors="replace") as file:
                node = re.search(r"leatd\0--config\0.*/node(\d+)\.yaml", file.read())
        except (OSError, IndexError):
            continue  # it went
        if parent == program.pid and node:
            found[int(node.group(1))] = int(os.path.basename(os.path.dirname(path)))
    return found


def stalled(folder, begin, length, *words):
    """An open loop on three nodes, of which two are stopped `begin` seconds after appends began, for so long."""
    program = subprocess.Popen([LOGBENCH, "append", "--local", "3", *words, *MEMORY, "--no-limits", "--json", "--directory", folder,
                                "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not threads_append(program) and time.monotonic() < deadline:
            time.sleep(0.01)
        begin += time.monotonic()
        followers = [pid for number, pid in nodes_of(program).items() if number != 1]
        check(len(followers) == 2, f"of {program.pid}: {followers}")
        time.sleep(max(0, begin - time.monotonic()))
        for pid in followers:
            os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + length
        while program.poll() is None and time.monotonic() < end:  # one that ends wakes and ends them itself
            time.sleep(0.01)
        for pid in nodes_of(program).values():
            os.kill(pid, signal.SIGCONT)
        out, err = program.communicate(timeout=120)
    finally:
        if program.poll() is None:
            program.terminate()
            program.communicate(timeout=60)
    check(program.returncode == 0 and not os.listdir(folder), f"{words}: exit {program.returncode}: {err}")
    return json.loads(out)


def threads_append(program):
    """The clients are threads of their own, and are there from when the cluster is."""
    try:
        return len(os.listdir(f"/proc/{program.pid}/task")) > 1
    except OSError:
        return False


def late(seen, from_us):
    """How many took so long, at least and at most, by the percentiles."""
    row = seen["latency_us"]
    fast = max((p for p, us in row["percentiles"] if us < from_us), default=0)
    slow = min((p for p, us in row["percentiles"] if us >= from_us), default=1)
    return (1 - slow) * row["count"], (1 - fast) * row["count"]


def stall_is_seen(seen, rate, seconds):
    """Half a second in which nothing is acknowledged: all that was due in it is late, evenly from 0 to 500 ms."""
    accounted(seen, rate, seconds)
    check(seen["latency_us"]["max"] >= 450e3, f"half a second of stall, and the longest took {seen['latency_us']['max']} us")
    for from_us in 100e3, 250e3, 350e3:
        expected, (least, most) = rate * (0.5 - from_us / 1e6), late(seen, from_us)
        check(most >= expected * 0.9, f"at least {expected} took over {from_us} us, and {least} to {most} are told: {seen['latency_us']}")
    check(late(seen, 50e3)[0] <= rate * 1.5, f"three times as many are late as there can be: {seen['latency_us']}")
    line = seen["timeline"]
    check(max(line["max_us"]) >= 350e3, f"the time line does not show it: {line}")
    empty = [us for us, count in zip(line["max_us"], line["appends"]) if count == 0]
    check(len(empty) >= 3 and all(us > 0 for us in empty), f"nothing waits where nothing ends: {line}")


def stall_within(folder):
    with tempfile.TemporaryDirectory(prefix="leat-test-page-") as place:
        path = os.path.join(place, "page.html")
        stall_is_seen(stalled(folder, 1.5, 0.5, "--rate", "500", "--inflight", "64", "--seconds", "4", "--html", path), 500, 4)
        curves, _ = drawn(path)
        check(curves["longest"] == curves["rate"] == [40], f"the time in which nothing ended is not drawn: {curves}")


def stall_at_the_end(folder):
    """Ended only after the stop."""
    seen = stalled(folder, 0.5 + 4 - 0.55, 0.8, "--rate", "500", "--inflight", "64", "--seconds", "4")
    stall_is_seen(seen, 500, 4)
    check(seen["behind"] >= 100, f"more were due than the window lets: {seen['behind']} behind")


def lost_at_the_end(folder):
    """What is not acknowledged within its ten seconds is an error, though the window was over long before."""
    seen = stalled(folder, 0.5 + 1 - 0.5, 20, "--rate", "500", "--inflight", "8", "--seconds", "1")
    check(seen["errors"] == 8, f"eight were in flight, and {seen['errors']} are told to be lost")
    accounted(seen, 500, 1)


def tail(folder):
    seen = measured(folder, "tail", "--local", "1", "--seconds", "1", "--inflight", "64", "--readers", "2", *MEMORY)
    latency_is_sane(seen["follow_us"])
    check(seen["follow_us"]["count"] >= 2 * 0.9 * seen["appends"],
          f"two readers saw {seen['follow_us']['count']} of {seen['appends']} appends")


def counted_by_the_log(folder):
    """What is told to be appended, followed and replayed is what a running node's log says that it holds."""
    cluster = Cluster(1)
    try:
        socket = cluster.start().socket

        def records():
            done = subprocess.run([LEAT, "tail-position", "1", "--socket", socket, "--json", "--level", "replicated"], capture_output=True, text=True)
            return json.loads(done.stdout)["next_offset"]
        load = ("--attach", socket, "--rate", "500", "--inflight", "64", "--seconds", "1", "--warm", "0.2", *MEMORY)
        seen = measured(folder, "append", *load, "--no-limits")
        meant = seen["latency_us"]["count"] - seen["behind"]
        check(meant <= records() <= meant + 0.2 * 500 + 10, f"{meant} measured, the log has {records()}")
        seen, before = measured(folder, "tail", *load, "--readers", "2"), records()
        meant = seen["latency_us"]["count"] - seen["behind"]
        check(seen["follow_us"]["count"] == 2 * meant, f"two readers saw {seen['follow_us']['count']} of {meant} each")
        memory = seen["replay"]["memory"]
        check(memory["records"] == 5 * before, f"five replays of {before} records saw {memory['records']}")
        check(abs(memory["bytes_per_s"] * memory["seconds"] / (64 * 5 * before) - 1) < 0.01, f"of 64 bytes each: {memory}")
        check(seen["replay"]["files"]["records"] == 0, f"all of it is in memory: {seen['replay']}")
    finally:
        cluster.close()


def replay_of_files(folder):
    """A log of more than two arenas (2 x 32 MiB): what lies further back comes from files."""
    for seconds in "2", "8", "32":  # a busy machine takes longer to write as much
        done = run(folder, "tail", "--local", "1", "--seconds", seconds, "--inflight", "256", "--size", "16384", *MEMORY, "--json", code=(0, 1))
        check(done.returncode == 0 or "--seconds measures for longer" in done.stderr, f"exit 1: {done.stderr}")
        seen = json.loads(done.stdout or '{"appends": 0}')
        if seen["appends"] * 16384 > 100 << 20:
            break
    files = seen["replay"]["files"]
    check(seen["appends"] * 16384 > 100 << 20, f"the log is too short for this test: {seen['appends']} appends")
    check(files["records"] > 0 and files["bytes_per_s"] > 0, f"replay of files: {files}")


def breakdown(folder):
    """What was noted on the way fits what the client measured."""
    on_way = ["the leader picked it up", "first handed to the port", "a follower has it", "committed", "the client saw it"]
    on_disk = ["on the leader's disk", "on a follower's disk"]
    for words, points in (([*MEMORY], on_way), ([], on_way[:3] + on_disk + on_way[3:]),
                          (["--local", "1"], [on_way[0], on_disk[0], *on_way[3:]]),
                          (["--inflight", "64", "--local", "5", *MEMORY], on_way)):
        seen = measured(folder, "breakdown", "--seconds", "1", *words)
        check([p["point"] for p in seen["points_us"]] == points, f"{words}: points {seen['points_us']}")
        check(seen["traced"] > 0.9 * min(seen["appends"], 1 << 18) and seen["missed"] < 0.1 * seen["traced"],
              f"{words}: {seen['traced']} of {seen['appends']} traced, {seen['missed']} not whole")
        times = {p["point"]: p["since_p50"] for p in seen["points_us"]}
        check(0 < times[on_way[0]] <= times[on_way[3]] < times[on_way[4]], f"{words}: not in order: {times}")
        whole = seen["latency_us"]["p50"]
        check(seen["appends"] > 1 << 18 or abs(times[on_way[4]] / whole - 1) < 0.1, f"{words}: {times} of {whole} us")
        check(all(p["stage_p50"] <= p["since_p50"] for p in seen["points_us"]), f"{words}: a part above the whole")
    check("the client saw it" in run(folder, "breakdown", "--seconds", "0.5", *MEMORY).stdout, "for people")


def sustain(folder):
    seen = measured(folder, "sustain", "--local", "1", "--seconds", "4", "--size", "16384", "--inflight", "64", "--retain", "32", *MEMORY)
    latency_is_sane(seen["latency_us"])
    line, log = seen["timeline"], seen["log_bytes"]
    check(log >= 16384 * (seen["appends"] - 64), f"{seen['appends']} appends, {log} bytes of log")
    check(abs(seen["log_bytes_s_all_nodes"] - log / seen["seconds"]) < 1, "one node's bytes a second")
    rolls, segment = len(line["rolls"]), 16 << 20
    check(0 < rolls <= log // segment + 1 and line["trims"], f"{log} bytes, and rolls {line['rolls']}, trims {line['trims']}")
    check(all(0 <= i < len(line["appends"]) for what in ("rolls", "trims", "elections") for i in line[what]), f"out of the line: {line}")
    check(seen["prepared_bytes_max"] == 8 * segment, f"prepared: {seen}")
    limits = seen["limits"]
    check(all(limits[name] > 0 for name in ("disk_write_shared_bytes_s", "disk_write_shared_large_bytes_s", "disk_read_bytes_s", "hiccup_us_max")),
          f"limits: {limits}")
    check(limits["disk_block_bytes"] == 16384, f"of another size: {limits}")
    check(seen["disk_write_us_max"] > 0 and seen["beyond_us"] >= 0 and seen["share"] == seen["top_rate"] == 0, f"waits: {seen}")
    text = run(folder, "sustain", "--local", "1", "--seconds", "1", "--share", "25", "--inflight", "16", *MEMORY, "--no-limits")
    check("25 % of" in text.stdout and "takes more --seconds" in text.stderr, f"for people: {text.stdout} {text.stderr}")


def elections_are_marked(folder):
    """A leader is made to hand over in the middle: the time line says so."""
    process = subprocess.Popen([LOGBENCH, "append", "--local", "3", "--seconds", "4", "--no-pin", *MEMORY, "--no-limits", "--json",
                                "--directory", folder, "--quiet"], stdout=subprocess.PIPE, text=True)
    moved, began = False, 0
    for _ in range(600):
        if process.poll() is not None:
            break
        for socket in glob.glob(os.path.join(folder, "logbench-*", "node?.sock")):
            shown = subprocess.run([LEAT, "status", "--json", "--socket", socket], capture_output=True, text=True)
            logs = json.loads(shown.stdout)["logs"] if shown.returncode == 0 else []
            leads = any(log["log"] == 1 and log["role"] == "leader" and log["counters"]["appends"] > 0 for log in logs)
            began = began or (time.monotonic() if leads else 0)
            if leads and not moved and time.monotonic() > began + 1.5:  # the window is from 0.5 to 4.5
                moved = subprocess.run([LEAT, "transfer", "1", "--socket", socket], capture_output=True).returncode == 0
        time.sleep(0.05)
    seen = json.loads(process.communicate(timeout=120)[0])
    check(process.returncode == 0 and moved, f"not handed over: {process.returncode}")
    check(seen["timeline"]["elections"], f"no election on the line: {seen['timeline']}")


def failover(folder):
    for fault in "kill", "pause", "transfer":
        seen = measured(folder, "failover", "--runs", "2", "--fault", fault, "--inflight", "4")
        check(seen["runs"] == 2 and seen["fault"] == fault, f"{fault}: {seen}")
        # the old leader, which is asked to hand over, acknowledges some that are started after that
        check(("first_us" in seen) == (fault != "transfer"), f"{fault}: {seen}")
        for row in (seen[name] for name in ("first_us", "gap_us") if name in seen):
            latency_is_sane(row)
        # nobody acknowledges before the others miss the leader
        if fault != "transfer":
            check(seen["first_us"]["percentiles"][0][1] > 50000, f"{fault}: by the old leader: {seen['first_us']}")
        # without a leader for less than it takes to miss one: then it was no fault
        check(fault == "transfer" or seen["gap_us"]["p50"] > 100000, f"{fault}: no gap: {seen['gap_us']}")


def sweep(folder):
    text = run(folder, "sweep", "--size", "64,1024", "--inflight", "1,16", "--clients", "1", *MEMORY,
               "--local", "1,3", "--seconds", "0.3", "--warm", "0.1", "--no-limits", "--json").stdout
    rows = [json.loads(line) for line in text.splitlines()]
    seen = {(row["nodes"], row["size"], row["inflight"]) for row in rows}
    check(len(rows) == len(seen) == 8, f"rows: {seen}")
    check(all(row["appends"] > 0 and row["ack"] == "replicated" for row in rows), "a row without appends")


def scale(folder):
    """At least what is cheap of it; a cluster that is killed as a whole comes back."""
    with tempfile.TemporaryDirectory(prefix="leat-test-page-") as place:
        path = os.path.join(place, "page.html")
        text = run(folder, "scale", "--over", "length", "--length", "1", "--seconds", "0.5", "--no-limits", "--json", "--html", path).stdout
        rows = [json.loads(line) for line in text.splitlines()]
        seen = sections_of(path)["measured"]
        check("behind 1 GiB" in seen and f"{rows[0]['restart_seconds']:.2f}" in seen, f"nothing of the length on the page: {seen}")
    check(len(rows) == 1 and rows[0]["log_gib"] == 1 and rows[0]["appends"] > 0, f"length: {rows}")
    check(rows[0]["verify_bytes_s"] > 0, f"verify: {rows[0]}")
    check(0 < rows[0]["restart_seconds"] < 60, f"restart: {rows[0]['restart_seconds']} s")
    text = run(folder, "scale", "--over", "nodes", "--seconds", "0.3", "--warm", "0.1", *MEMORY, "--no-limits").stdout
    check([line.split()[0] for line in text.splitlines()[1:]] == ["1", "3", "5", "7"], f"nodes: {text}")
    done = run(folder, "scale", "--over", "length", "--logs", "4", code=(2,))  # those would be other logs than the one that is filled
    check("--logs" in done.stderr, f"logs: {done.stderr}")
    done = run(folder, "scale", "--over", "length", "--length", "1000", "--no-limits", code=(1,))
    check("--length takes less" in done.stderr, f"no room: {done.stderr}")


def refused(folder):
    for words, reason in ((["append"], "--local"), (["append", "--local", "2"], "2"), (["flood"], "flood"), ([], "say"),
                          (["append", "--local", "3", "--size", "1,2"], "sweep"), (["tail", "--local", "1", "--size", "4"], "8"),
                          (["failover", "--local", "1"], "3"), (["failover", "--fault", "burn"], "burn"),
                          (["sweep", "--attach", "x"], "--attach"), (["limits", "--html", "x"], "--html"),
                          (["tail", "--local", "1", "--logs", "4"], "--logs"), (["failover", "--logs", "4"], "--logs"), (["append", "--local", "3", "--inflight", "1.5"], "1.5"),
                          (["append", "--local", "1", "--rate", "0.5"], "0.5"), (["append", "--local", "1", "--rate", "0"], "0"),
                          (["append", "--logs", "1022"], "--local"), (["append", "--logs", "1023"], "1023"),
                          (["breakdown", "--workers", "2"], "--workers"), (["append", "--local", "1", "--length", "1"], "--length"),
                          (["scale", "--length", "4,2"], "4,2"), (["scale", "--over", "the moon"], "the moon"), (["breakdown", "--attach", "x"], "--attach"),
                          (["append", "--attach", "x", "--logs", "4"], "--logs")):
        done = run(folder, *words, code=(2,))
        check(reason in done.stderr and "--help" in done.stderr and done.stderr.count("\n") == 1,
              f"{words}: {done.stderr}")
    done = run(folder, "append", "--attach", "/nonexistent", "--no-limits", code=(1,))
    check(done.stderr.startswith("logbench: "), done.stderr)


def unused(folder):
    """What a command does not use it refuses, lest its figures be taken for what they are not."""
    always = ("--net memif", "--json")
    nodes = (*always, "--profile rack", "--no-pin", "--ack replicated", "--size 8", "--inflight 1")
    load = (*nodes, "--clients 1", "--rate 9", "--seconds 1", "--warm 0")
    local, attach = ("--local 3", "--workers 2"), "--attach x"
    own = ("--readers 2", "--share 50", "--retain 64", "--fault kill", "--runs 1", "--logs 2", "--over logs", "--length 1", "--no-limits", "--html x")
    takes = {"limits": (*always, "--local 3", "--size 8"),
             "sustain": (*load, *local, "--share 50", "--retain 64", "--no-limits", "--html x"), "append": (*load, *local, attach, "--logs 2", "--no-limits", "--html x"),
             "tail": (*load, *local, attach, "--readers 2", "--html x"), "breakdown": (*load, "--local 3", "--html x"),
             "failover": (*nodes, *local, "--fault kill", "--runs 1", "--html x"),
             "sweep": (*load, *local, "--logs 2", "--no-limits", "--html x"),
             "scale": ({*load} - {"--clients 1"} | {"--workers 2", "--over logs", "--length 1", "--no-limits", "--html x"}),
             "scale --over length": (*load, "--workers 2", "--length 1", "--no-limits", "--html x"),
             "scale --over nodes": ({*load} - {"--clients 1"} | {"--workers 2", "--no-limits", "--html x"}),
             "append --attach x": ({*load} - {"--profile rack", "--no-pin"} | {"--no-limits", "--html x"})}
    for command, used in takes.items():
        for option in {*load, *local, attach, *own} - {word for word in (attach, "--over logs") if word.split()[0] in command}:
            words = [*command.split(), *option.split()]
            done = run(folder, *words, code=(2,)) if option not in used else None
            check(not done or f"{option.split()[0]} is not for" in done.stderr, f"{words}: {done and done.stderr}")
    run(folder, "append", "--local", "1", "--workers", "2", "--logs", "1", "--no-pin", "--no-limits", *MEMORY, "--seconds", "0.2",
        "--warm", "0", "--rate", "100", "--clients", "1")


def interrupted(folder):
    for words in (["append", "--local", "3", "--no-limits", "--seconds", "60"], ["failover", "--runs", "1000"],
                  ["tail", "--local", "3", "--seconds", "60"]):
        program = subprocess.Popen([LOGBENCH, *words, "--directory", folder, "--quiet"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not glob.glob(folder + "/logbench-*/node*.sock") and time.monotonic() < deadline:
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
        check(program.returncode == 1 and "interrupted" in err and not out, f"{words}: {program.returncode} {out} {err}")
        check(not left_behind(folder), f"{words} left {left_behind(folder)}")


def sections_of(page):
    """What a browser makes of a page: its charts and tables by name."""
    done = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "file://" + page],
                          capture_output=True, text=True, timeout=120)
    check(done.returncode == 0, f"chromium: {done.stderr[-500:]}")
    check("undefined" not in done.stdout.split("<script")[0] and "NaN" not in done.stdout.split("<script")[0],
          "a figure is missing on the page")
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', done.stdout, re.S))


def drawn(page):
    """Of each chart how many points its curves have, and of each table its rows."""
    sections = sections_of(page).items()
    curves = {name: [len(re.findall("[ML]", d)) for d in re.findall(r'<path class="curve"[^>]* d="([^"]*)"', text)]
              for name, text in sections}
    return curves, {name: text.count("<tr>") for name, text in sections}


def page(folder):
    with tempfile.TemporaryDirectory(prefix="leat-test-page-") as place:
        path = os.path.join(place, "page.html")
        seen = measured(folder, "append", "--local", "1", "--seconds", "1", "--inflight", "4", *MEMORY, "--html", path)
        curves, rows = drawn(path)
        check(curves["percentiles"] == [len(seen["latency_us"]["percentiles"])], f"percentiles: {curves}")
        check(len(curves["rate"]) == len(curves["longest"]) == 1 and curves["rate"][0] >= 9, f"time line: {curves}")
        check(rows["measured"] == 2 and rows["limits"] >= 3 and rows["host"] >= 5, f"tables: {rows}")
        run(folder, "sweep", "--local", "1", "--size", "64,256,1024", "--inflight", "1,4", "--clients", "1,2", *MEMORY,
            "--seconds", "0.3", "--warm", "0.1", "--no-limits", "--html", path)
        curves, rows = drawn(path + "#size=256")
        check(len(curves["percentiles"]) == 4 and curves["throughput"] == [2, 2], f"of a size: {curves}")
        check(rows["measured"] == 13, f"sweep: {rows}")
        curves, _ = drawn(path + "#size=1024&clients=2&inflight=4")
        check(len(curves["percentiles"]) == 1 and curves["throughput"] == [2], f"of one: {curves}")
        # the first look has no more curves than can be told from each other; the rest is a choice away
        seen = sections_of(path)
        check(seen["percentiles"].count('class="curve"') <= 8 and "of 12" in seen["percentiles"], "too much at once")
        check(all(f'<option value="{n}"' in seen["percentiles"] for n in (64, 256, 1024, 1, 2, 4)), "no choice")
        run(folder, "failover", "--runs", "2", "--fault", "transfer", "--html", path)
        curves, rows = drawn(path)
        check(len(curves["percentiles"]) == 1 and rows["times"] == 2, f"failover: {curves} {rows}")
        run(folder, "tail", "--local", "1", "--seconds", "1", "--inflight", "64", *MEMORY, "--html", path)
        curves, rows = drawn(path)
        check(len(curves["percentiles"]) == 2 and rows["replay"] == 3, f"tail: {curves} {rows}")
        run(folder, "sustain", "--local", "1", "--seconds", "2", "--size", "16384", "--inflight", "64", *MEMORY, "--html", path)
        curves, rows = drawn(path)
        check(sections_of(path)["rate"].count('class="mark"') > 0 and rows["sustained"] == 8 and rows["limits"] == 9, f"sustain: {curves} {rows}")
        run(folder, "breakdown", "--local", "1", "--seconds", "1", *MEMORY, "--html", path)
        curves, rows = drawn(path)
        check(len(curves["percentiles"]) == 1 and rows["breakdown"] == 4, f"breakdown: {curves} {rows}")
        run(folder, "append", "--local", "1", "--html", os.path.join(place, "none", "page.html"), code=(1,))
        check(os.listdir(place) == ["page.html"], f"left: {os.listdir(place)}")


TESTS = [appends, open_loop, stall_within, stall_at_the_end, lost_at_the_end, tail, counted_by_the_log, replay_of_files, breakdown, sustain, elections_are_marked, failover, sweep, scale, page, refused, unused, interrupted]


def main():
    """All tests, or those that are named after LOGBENCH."""
    unknown = set(sys.argv[2:]) - {test.__name__ for test in TESTS}
    if unknown:
        sys.exit(f"no such test: {' '.join(sorted(unknown))}")
    tests = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    print(f"1..{len(tests)}", flush=True)
    failed = False
    for number, test in enumerate(tests, 1):
        name = test.__name__.replace("_", " ")
        with tempfile.TemporaryDirectory(prefix="leat-test-bench-", dir="/var/tmp") as folder:
            try:
                test(folder)
                print(f"ok {number} - {name}", flush=True)
            except Exception as error:
                failed = True
                print(f"not ok {number} - {name}", flush=True)
                print(f"# {name}: {error}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
