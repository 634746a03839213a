# SPDX-License-Identifier: Apache-2.0
"""A node's disk that can be told to fail: faultdisk -> loop device -> ext4 or xfs -> the node's data."""
import json
import os
import re
import subprocess

from cluster import BUILD, Failure, check, wait_for
from disks import Disk, command

FAULTDISK = os.path.join(BUILD, "tests", "chaos", "faultdisk")


class FaultDisk(Disk):
    loop_options = ("--direct-io=on",)
    process = folder = None

    def make_image(self, folder, bytes_max):
        self.folder = os.path.join(folder, f"fault{self.node.id}")
        os.mkdir(self.folder)
        with open(self.folder + ".log", "ab") as log:  # libfuse 3.14 complains of its own default there
            self.process = subprocess.Popen([FAULTDISK, "--seed", str(self.node.id), "--bytes", str(bytes_max),
                                             self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            text=True, start_new_session=True)  # a terminal's Ctrl-C is not for it
        check(self.process.stdout.readline() == "ready\n", "the disk does not start")
        path = os.path.join(self.folder, "disk")
        wait_for(lambda: os.path.exists(path), "the disk")
        return path

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        check(answer and answer != "what?\n", f"the disk does not understand: {line}")
        return answer

    def set(self, **what):
        for name, number in what.items():
            self.ask(f"set {name} {number}")

    def counts(self):
        return json.loads(self.ask("counts"))

    def extents(self, path):
        """[(place in the file, place on the disk, bytes)]"""
        out = command("filefrag", "-v", "-b512", path)
        found = re.findall(r"^\s*\d+:\s+(\d+)\.\.\s*\d+:\s+(\d+)\.\.\s*\d+:\s+(\d+):", out, re.MULTILINE)
        return [(int(a) * 512, int(b) * 512, int(c) * 512) for a, b, c in found]

    def place_of(self, path, offset):
        """Where on the disk a byte of a file lies."""
        for begin, place, length in self.extents(path):
            if begin <= offset < begin + length:
                return place + offset - begin
        return None

    def within(self, word, path):
        """`lie` or `only`: of what a file holds."""
        for _, place, length in self.extents(path):
            self.ask(f"{word} {place} {length}")

    def remount(self):
        """What a fenced node's file system, which may have failed as well, needs to be of use again."""
        self.unmount()
        self.detach()
        self.attach()
        self.mount()

    def power_cut(self):
        """The disk keeps what it has; the kernel above forgets the rest. The node must be dead."""
        self.unmount()
        self.detach()
        self.ask("power")
        self.ask("clear")
        self.attach()
        self.mount()

    def heal(self):
        super().heal()
        if self.process and self.process.poll() is None:
            self.ask("clear")

    def let_go(self):
        """Nothing waits for the disk any more."""
        try:
            self.heal()
        except (Failure, OSError, ValueError):  # it has ended already
            pass

    def close(self):
        self.let_go()
        self.unmount()
        self.detach()
        if self.folder:
            subprocess.run(["umount", "--lazy", self.folder], capture_output=True)
        if self.process:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
