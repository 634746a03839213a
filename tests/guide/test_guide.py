#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/guide.md does what it says. Its ```sh blocks run one after the other in one shell, in an empty
directory; its ```c blocks are put into the guide's own frame, compiled and run in between. The ```text block
behind one is what it prints: `...` stands for anything, on a line or, alone, for lines. Also: every key of the
configuration is explained in the example and in the man page."""
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOURCE, BUILD = os.environ["LEAT_SOURCE"], os.environ["LEAT_BUILD"]
PATIENCE = float(os.environ.get("LEAT_TEST_PATIENCE", "1"))
MARK = "@@ended"


class Failure(Exception):
    pass


def blocks(text):
    """(first line's number, language, body) of each fenced block."""
    found, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        if lines[at].startswith("```"):
            end = lines.index("```", at + 1)
            found.append((at + 1, lines[at][3:], "\n".join(lines[at + 1:end]) + "\n"))
            at = end
        at += 1
    return found


def steps(text):
    """(line, language, body, expected or None); expected belongs to all that ran since the last one."""
    result = []
    for line, language, body in blocks(text):
        if language == "text":
            result[-1][3] = body
        else:
            result.append([line, language, body, None])
    return result


def matches(expected, got):
    pattern = ""
    for line in expected.splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, got) is not None


class Shell:
    def __init__(self, directory):
        self.directory = directory
        path = os.path.join(BUILD, "tools") + ":" + os.environ["PATH"]
        self.errors = open(os.path.join(directory, ".errors"), "w+", encoding="utf-8", errors="replace")
        self.bash = subprocess.Popen(["bash", "--norc"], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=self.errors, env={**os.environ, "PATH": path, "LC_ALL": "C"},
                                     start_new_session=True)

    def run(self, script, seconds=60):
        """Its output; a command that fails, but for those behind !, ends the block."""
        # in this shell, for what it sets and starts; a trap, since set -e would end the shell
        name = os.path.join(self.directory, ".block")
        with open(name, "w", encoding="utf-8") as out:
            out.write(script)
        self.bash.stdin.write(f"failed=0; trap 'failed=$?' ERR; . ./.block; printf '{MARK} %s\\n' $failed\n".encode())
        self.bash.stdin.flush()
        text, end = b"", time.monotonic() + seconds * PATIENCE
        while MARK.encode() not in text or not text.endswith(b"\n"):
            ready, _, _ = select.select([self.bash.stdout], [], [], max(0, end - time.monotonic()))
            piece = os.read(self.bash.stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise Failure(f"not done in {seconds} s, or the shell ended: {self.said()}")
            text += piece
        out, _, code = text.decode().rpartition(MARK)
        if code.strip() != "0":
            raise Failure(f"a command ended with {code.strip()}: {self.said()}")
        return out

    def said(self):
        self.errors.flush()
        self.errors.seek(0)
        return self.errors.read()[-600:]

    def close(self):
        os.killpg(self.bash.pid, signal.SIGKILL)  # this shell and the nodes that it started
        self.bash.wait()
        self.errors.close()


def compiled(frame, body, directory, line):
    source, program = os.path.join(directory, f"c{line}.c"), os.path.join(directory, f"c{line}")
    with open(source, "w", encoding="utf-8") as out:
        out.write(frame.replace("/* here */", body))
    done = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
                           "-I" + os.path.join(SOURCE, "include"), "-o", program, source,
                           "-L" + os.path.join(BUILD, "client"), "-lleat",
                           "-Wl,-rpath," + os.path.join(BUILD, "client")], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(done.stderr)
    return os.path.basename(program)


def run_guide(guide, directory, report):
    shell, frame = Shell(directory), None
    try:
        for line, language, body, expected in guide:
            try:
                if language == "c frame":
                    frame = body
                    compiled(frame, "(void)client;", directory, line)
                    continue
                got = shell.run(body if language == "sh" else "./" + compiled(frame, body, directory, line) + "\n")
                if expected is not None and not matches(expected, got):
                    raise Failure(f"expected:\n{expected}got:\n{got}")
                report(line, language, None)
            except Failure as failure:
                report(line, language, failure)
                return
    finally:
        shell.close()


def explained_keys():
    with open(os.path.join(SOURCE, "node", "config.c"), encoding="utf-8") as text:
        keys = re.findall(r'^    \{"(\w*)", "(\w+)", CONFIG_', text.read(), flags=re.M)
    if len(keys) < 30:
        raise Failure(f"only {len(keys)} keys found")
    with open(os.path.join(SOURCE, "docs", "leat.example.yaml"), encoding="utf-8") as text:
        example = text.read()
    with open(os.path.join(SOURCE, "docs", "man", "leat.yaml.5.scd"), encoding="utf-8") as text:
        page = text.read()
    for section, name in keys:
        in_section = example if not section else example.split(f"\n{section}:\n")[-1].split("\n\n")[0]
        if not re.search(rf"^\s*(# )?{name}:", in_section, flags=re.M):
            raise Failure(f"docs/leat.example.yaml does not have {section}.{name}")
        if f"*{name}*" not in page or (section and f"*{section}*" not in page):
            raise Failure(f"docs/man/leat.yaml.5.scd does not have {section}.{name}")


def main():
    with open(os.path.join(SOURCE, "docs", "guide.md"), encoding="utf-8") as text:
        guide = steps(text.read())
    runs = [step for step in guide if step[1] != "c frame"]
    print(f"1..{len(runs) + 1}", flush=True)
    count, failed = 0, False

    def report(line, language, failure):
        nonlocal count, failed
        count += 1
        failed |= failure is not None
        print(f"{'not ok' if failure else 'ok'} {count} - guide.md:{line} {language}", flush=True)
        for each in str(failure).splitlines() if failure else ():
            print(f"# {each}", flush=True)

    directory = tempfile.mkdtemp(prefix="leat-guide-", dir=os.environ.get("LEAT_TEST_DIR", "/var/tmp"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run_guide(guide, directory, report)
        for line, language, _, _ in runs[count:]:
            report(line, language, "not run: an earlier block failed")
        try:
            explained_keys()
            report(0, "every key is explained", None)
        except Failure as failure:
            report(0, "every key is explained", failure)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(os.path.join("/dev/shm", os.path.basename(directory)), ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
