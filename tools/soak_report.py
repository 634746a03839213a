# SPDX-License-Identifier: Apache-2.0
"""What a soak did: records of gates (tools/gates.py) added up, as JSON and as one HTML file that needs no other."""
import html
import json
import os
import time

SUMMED = ("events", "appends", "acked", "virtual_s", "executions", "caught")
ROW_SUMMED = ("injected", "offered", "acknowledged", "lost", "duplicated", "reordered", "executions", "new")
ROW_MOST = ("longest_gap_ms", "edges", "features", "inputs")
ROW_LAST = ("invariant", "seeds", "seed")
ROW_NAMES = ("row", "target", "command", "bug")
STYLE = """body{font:15px/1.4 sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse;margin:.5em 0 1.5em}
td,th{border:1px solid #bbb;padding:.25em .6em;text-align:right}td:first-child,th:first-child{text-align:left}
th{background:#eee}.bad{background:#fbd}.good{background:#dfd}pre{background:#f4f4f4;padding:.6em;overflow:auto}"""


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Report:
    def __init__(self, about):
        self.began = time.time()
        self.fields = {**about, "began": now(), "ended": None, "complete": False, "parts": {}}

    def add(self, record):
        part = self.fields["parts"].setdefault(record["gate"], {
            "unit": record["unit"], "command": record["command"], "runs": 0, "stopped": 0, "passed": 0, "failed": [],
            "skipped": [], "counts": {}, "figures": {}, "first_seeds": [], "seconds": 0, "rows": {}})
        part["runs"] += 1
        part["stopped"] += record["stopped"]
        part["passed"] += record["passed"]
        part["seconds"] = round(part["seconds"] + record["seconds"], 1)
        part["failed"] += [{"gate": record["gate"], **failure} for failure in record["failed"]]
        part["skipped"] += record["skipped"]
        for what, number in record["counts"].items():
            part["counts"][what] = part["counts"].get(what, 0) + number
        self.add_figures(part, record["figures"])
        for row in record["rows"]:
            self.add_row(part["rows"], row)

    @staticmethod
    def add_figures(part, figures):
        for name, value in figures.items():
            if name in SUMMED:
                part["figures"][name] = part["figures"].get(name, 0) + value
            elif name in ROW_MOST:
                part["figures"][name] = max(part["figures"].get(name, 0), value)
            else:  # the seeds that were fresh
                part["first_seeds"].append(value)

    @staticmethod
    def add_row(rows, row):
        name = next((row[key] for key in ROW_NAMES if key in row), f"seed {row.get('seed')}")
        into = rows.setdefault(name, {"runs": 0, "passed": 0})
        into["runs"] += 1
        into["passed"] += row.get("result") in ("ok", "passed") or row.get("passed") is True or row.get("caught") is True
        into.update({key: row[key] for key in ROW_LAST if key in row})
        for key in ROW_SUMMED:
            if key in row:
                into[key] = into.get(key, 0) + row[key]
        for key in ROW_MOST:
            if key in row:
                into[key] = max(into.get(key, 0), row[key])

    def failures(self):
        return [failure for part in self.fields["parts"].values() for failure in part["failed"]]

    def runs(self):
        return sum(part["runs"] for part in self.fields["parts"].values())

    def close(self, stopped):
        self.fields["complete"] = not stopped

    def write(self, folder):
        self.fields.update(ended=now(), hours=round((time.time() - self.began) / 3600, 3),
                           failures=len(self.failures()), passed=self.runs() > 0 and not self.failures())
        for name, text in (("report.json", json.dumps(self.fields, indent=1)), ("report.html", page(self.fields))):
            path = os.path.join(folder, name)
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.replace(path + ".new", path)


# ---- HTML ----

def cell(value):
    if isinstance(value, float):
        value = f"{value:,.2f}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    return html.escape(str(value))


def table(heads, rows):
    """Rows are (class, cells)."""
    out = ["<table><tr>", *(f"<th>{cell(head)}</th>" for head in heads), "</tr>"]
    for kind, cells in rows:
        out += [f'<tr class="{kind}">', *(f"<td>{cell(value)}</td>" for value in cells), "</tr>"]
    return "".join([*out, "</table>"])


def summary(parts):
    rows = []
    for name, part in parts.items():
        figures = part["figures"]
        hours = f"{figures['virtual_s'] / 3600:,.1f}" if "virtual_s" in figures else ""
        rows.append(("bad" if part["failed"] else "good",
                     (name, part["runs"], f"{part['counts'].get(part['unit'], 0):,} {part['unit']}", part["passed"],
                      len(part["failed"]), figures.get("events", ""), hours, figures.get("executions", ""),
                      part["seconds"])))
    return table(("part", "runs", "what ran", "passed", "failures", "events", "simulated hours", "executions",
                  "seconds"), rows)


def details(name, part):
    out = [f"<h2>{cell(name)}</h2><p><code>{cell(part['command'])}</code>"]
    if part["first_seeds"]:
        out.append(f"<br>first seeds: {cell(' '.join(map(str, part['first_seeds'])))}")
    if part["stopped"]:
        out.append("<br>the last run was stopped by a signal; what it had done by then counts")
    out.append("</p>")
    if part["rows"]:
        keys = [key for key in ("runs", "passed", *ROW_SUMMED, *ROW_MOST, *ROW_LAST)
                if any(key in row for row in part["rows"].values())]
        out.append(table(("", *keys), [("good" if row["passed"] == row["runs"] else "bad",
                                        (row_name, *(row.get(key, "") for key in keys)))
                                       for row_name, row in part["rows"].items()]))
    for skipped in part["skipped"]:
        out.append(f"<p class=\"bad\">skipped: {cell(': '.join(skipped))}</p>")
    return "".join(out)


def page(fields):
    verdict = "passed" if fields["passed"] else f"FAILED: {fields['failures']} failures"
    if not fields["complete"]:
        verdict += ", not complete"
    said = [(key, fields[key]) for key in ("commit", "changed_since", "host", "kernel", "processor", "cores", "only",
                                           "hours_asked", "hours", "began", "ended") if key in fields]
    out = ['<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Leat soak: ', cell(verdict), "</title>",
           f"<style>{STYLE}</style></head><body><h1 class=\"{'good' if fields['passed'] else 'bad'}\">Leat soak: ",
           cell(verdict), "</h1>", table(("", ""), [("", pair) for pair in said]), summary(fields["parts"])]
    failures = [failure for part in fields["parts"].values() for failure in part["failed"]]
    if failures:
        out.append("<h2>Failures</h2>")
    for failure in failures:
        out += [f"<h3 class=\"bad\">{cell(failure['gate'])}: {cell(failure['name'])}</h3>",
                f"<p>again: <code>{cell(failure['again'])}</code></p>",
                f"<pre>{cell(chr(10).join(failure['words']))}</pre>"]
    out += [details(name, part) for name, part in fields["parts"].items()]
    return "".join([*out, "</body></html>"])
