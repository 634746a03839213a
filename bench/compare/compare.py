#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Leat beside etcd, NATS JetStream, libraft and Redis streams: three nodes each on this host over loopback (Leat: over
memif), the same payloads, the same appends in flight, one system after another and all of that again and again, so that
a slow minute of the machine is everybody's, each round beginning with another one. The scheduler places all their
processes. Medians, with the least and the most of the rounds, beside the limits of the machine, measured in each round.

Systems whose acknowledgement means the disk stand beside each other, and those whose means memory. What each
acknowledgement means is printed with the figures. Each is started anew for every measurement, with its defaults but
for what --list says, and ended after it. Run by bench/compare.sh, which builds what is needed."""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from chart import draw  # noqa: E402
from systems import SYSTEMS, VERSIONS, Failed, NotUp  # noqa: E402

FIGURES = ("appends_per_s", "p50_us", "p99_us", "cpu_s_per_million", "client_cpu_share")
PATIENCE = 3  # starts of a system for one measurement: its ports may be taken from under it. What was up and fails, fails


def measure(kind, build, directory, point):
    """One measurement: the figures, or NotUp, or Failed."""
    for attempt in range(PATIENCE):
        folder = tempfile.mkdtemp(prefix="leat-compare-", dir=directory)
        system = kind(build, folder)
        try:
            seen = system.measure(point)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{kind.name}: the load does not end: {error}") from error
        except NotUp as error:
            if attempt + 1 == PATIENCE:
                raise
            print(f"compare: {error}; once more", file=sys.stderr, flush=True)
            continue
        finally:
            system.close()
            shutil.rmtree(folder, ignore_errors=True)
        if seen["errors"]:
            raise Failed(f"{kind.name}: {seen['errors']} appends failed")
        cpu = seen["servers_cpu_s"] + seen["client_cpu_s"]
        return {"pinned": False, **seen, "appends_per_s": seen["appends"] / seen["seconds"], "cpu_s_per_million": cpu * 1e6 / seen["appends"],
                "client_cpu_share": seen["client_cpu_s"] / seen["seconds"]}


def spread(rows, name):
    values = [row[name] for row in rows]
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(kind, point, rows):
    return {"system": kind.name, "level": kind.level, "durability": kind.durability, "size": point["size"],
            "inflight": point["inflight"], "rounds": len(rows), "pinned": any(row["pinned"] for row in rows),
            "client_inside": kind.client_inside, **{name: spread(rows, name) for name in FIGURES}}


def limits_of(build, directory):
    """Of the machine, now: logbench's own."""
    words = [os.path.join(build, "bench", "logbench"), "limits", "--directory", directory, "--json", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise Failed(f"limits: logbench ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)["limits"]


def rotated(kinds, number):
    """Who begins is who came second the last time."""
    first = number % len(kinds)
    return kinds[first:] + kinds[:first]


def ratios(cells):
    """Leat over each other system, by the medians of one point: how many times its rate, how many times lower its p50."""
    found = []
    for ours in (cell for cell in cells if cell["system"].startswith("leat")):
        for other in cells:
            same = (other["size"], other["inflight"]) == (ours["size"], ours["inflight"])
            # against NATS, which never waits for the disk, durable Leat stands too
            if same and not other["system"].startswith("leat") and (other["level"] == ours["level"] or other["system"] == "nats-file"):
                found.append({"leat": ours["system"], "other": other["system"], "size": ours["size"], "inflight": ours["inflight"],
                              "rate": ours["appends_per_s"]["median"] / other["appends_per_s"]["median"],
                              "p50": other["p50_us"]["median"] / ours["p50_us"]["median"]})
    return found


def times_lower(ratio):
    return f"{ratio:.1f} x lower" if ratio >= 1 else f"{1 / ratio:.1f} x higher"


def table(cells, found):
    def cell(figure, places):
        return f"{figure['median']:,.{places}f} ({figure['least']:,.{places}f} - {figure['most']:,.{places}f})"
    pinned = sorted({c["system"] for c in cells if c["pinned"]})
    print(f"processes: {'pinned to cores: ' + ', '.join(pinned) + '; ' if pinned else ''}the scheduler places {'the others' if pinned else 'all'}")
    for size, inflight in sorted({(c["size"], c["inflight"]) for c in cells}):
        print(f"\n{size} B, {inflight} in flight: median (least - most)")
        print(f"  {'system':16} {'level':8} {'appends/s':>34} {'p50 us':>30} {'p99 us':>32} {'CPU s/million':>26} {'client':>9}")
        for c in (c for c in cells if (c["size"], c["inflight"]) == (size, inflight)):
            client = "in leader" if c["client_inside"] else f"{100 * c['client_cpu_share']['median']:.0f} %"
            print(f"  {c['system']:16} {c['level']:8} {cell(c['appends_per_s'], 0):>34} {cell(c['p50_us'], 1):>30} "
                  f"{cell(c['p99_us'], 1):>32} {cell(c['cpu_s_per_million'], 1):>26} {client:>9}")
        for r in (r for r in found if (r["size"], r["inflight"]) == (size, inflight)):
            print(f"  {r['leat']} over {r['other']}: {r['rate']:.1f} x the appends/s, p50 {times_lower(r['p50'])}")


def mount_of(directory):
    """The device that holds it, and how it is mounted."""
    real, best = os.path.realpath(directory), None
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            device, place, kind, options = line.split()[:4]
            if os.path.commonpath([real, place]) == place and (best is None or len(place) >= len(best["mount"])):
                best = {"device": device, "mount": place, "type": kind, "options": options}
    return best


def host(directory):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "directory": mount_of(directory)}


def numbers(text):
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1 or max(found) > 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, separated by commas")
    return found


def arguments():
    parser = argparse.ArgumentParser(prog="bench/compare.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [kind.name for kind in SYSTEMS]
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of all systems, one after another [5]")
    parser.add_argument("--seconds", type=float, default=3, metavar="S", help="measured, each [3]")
    parser.add_argument("--warm", type=float, default=1, metavar="S", help="before it [1]")
    parser.add_argument("--size", type=numbers, default=[64], metavar="B,...", help="payloads in bytes [64]")
    parser.add_argument("--inflight", type=numbers, default=[1, 1024], metavar="N,...", help="appends not ended at one time [1,1024]")
    parser.add_argument("--systems", default=",".join(names), metavar="NAME,...", help="[all]")
    parser.add_argument("--directory", default="/var/tmp", metavar="DIR", help="on a real disk [/var/tmp]")
    parser.add_argument("--json", metavar="FILE", help="all figures, of each round too")
    parser.add_argument("--chart", metavar="FILE", help="the medians as an SVG")
    parser.add_argument("--list", action="store_true", help="the systems, and what their acknowledgement means")
    options = parser.parse_args()
    chosen = options.systems.split(",")
    unknown = set(chosen) - set(names)
    if unknown:
        parser.error(f"not known: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.rounds < 1 or options.seconds <= 0 or options.warm < 0:
        parser.error("--rounds, --seconds and --warm are positive")
    if not os.path.isdir(options.directory):
        parser.error(f"{options.directory} is not a directory")
    options.kinds = [kind for kind in SYSTEMS if kind.name in chosen]
    return options


def main():
    options = arguments()
    versions = {kind.program: VERSIONS[kind.program]() for kind in options.kinds}
    for kind in options.kinds:
        print(f"{kind.name:16} {versions[kind.program]:24} {kind.durability}")
    if options.list:
        return 0
    points = [{"size": size, "inflight": inflight, "seconds": options.seconds, "warm": options.warm}
              for size in options.size for inflight in options.inflight]
    rows, orders, limits = {}, [], []
    total = options.rounds * len(points) * len(options.kinds)
    for number in range(options.rounds):
        kinds = rotated(options.kinds, number)
        orders.append([kind.name for kind in kinds])
        limits.append(limits_of(options.build, options.directory))
        for point in points:
            for kind in kinds:
                seen = measure(kind, options.build, options.directory, point)
                place = rows.setdefault((kind, point["size"], point["inflight"]), [])
                place.append(seen)
                done = sum(map(len, rows.values()))
                print(f"[{done}/{total}] round {number + 1}: {kind.name}, {point['size']} B, {point['inflight']} in flight: "
                      f"{seen['appends_per_s']:,.0f}/s, p50 {seen['p50_us']:,.1f} us", file=sys.stderr, flush=True)
    cells = [summary(kind, point, rows[kind, point["size"], point["inflight"]]) for point in points for kind in options.kinds]
    found = ratios(cells)
    print("limits, us: " + ", ".join(f"{name.replace('_us_p50', '')} {statistics.median(each[name] for each in limits):.1f}" for name in limits[0]))
    table(cells, found)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"bench": "compare", "host": host(options.directory), "versions": versions, "seconds": options.seconds,
                       "orders": orders, "limits": limits, "cells": cells,
                       "ratios": found, "rounds": [{"system": kind.name, "size": size, "inflight": inflight, "rows": seen}
                                                   for (kind, size, inflight), seen in rows.items()]}, file, indent=1)
    if options.chart:
        draw(options.chart, cells)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (NotUp, Failed) as failure:
        sys.exit(f"compare: {failure}")
    except KeyboardInterrupt:
        sys.exit("compare: interrupted")
