# SPDX-License-Identifier: Apache-2.0
"""A node whose library calls can be made to fail, and to be its last: faultcalls.c, told by a page of words."""
import mmap
import os
import signal
import struct

from cluster import BUILD, check, wait_for

LIBRARY = os.path.join(BUILD, "tests", "chaos", "faultcalls.so")
# struct page's
WORDS = {name: place for place, name in enumerate((
    "calls", "submits", "kill_call", "kill_submit", "kill_after", "killed", "short_share", "shortened",
    "refuse_share", "refused", "again_share", "again", "swap_share", "swapped", "realtime_ns", "realtime_told"))}
FAULTS = ("kill_call", "kill_submit", "kill_after", "short_share", "refuse_share", "again_share", "swap_share",
          "realtime_ns")


class FaultCalls:
    """Outlives the node's process: what is set holds for the next one too."""

    def __init__(self, folder, node):
        self.node, path = node, os.path.join(folder, f"calls{node.id}")
        with open(path, "wb") as file:
            file.truncate(mmap.PAGESIZE)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.environment = ["env", f"LD_PRELOAD={LIBRARY}", f"LEAT_FAULTCALLS={path}"]

    def __getitem__(self, name):
        return struct.unpack_from("q", self.page, 8 * WORDS[name])[0]

    def set(self, **what):
        for name, number in what.items():
            check(name in FAULTS, f"{name} is not a fault")
            struct.pack_into("q", self.page, 8 * WORDS[name], number)

    def clear(self):
        self.set(**dict.fromkeys(FAULTS, 0))

    def dies(self, what, seconds=40):
        """Waits until the process is dead by its own hand."""
        process = self.node.process
        wait_for(lambda: process.poll() is not None, what, seconds)
        check(process.returncode == -signal.SIGKILL and self["killed"] > self.deaths,
              f"{what}: it ended with {process.returncode}: {self.node.last_lines()}")
        self.clear()
        self.node.process = None

    def kill_at(self, after=False, calls=0, submits=0):
        """At its next call but so many of those that change its disk, or of its submissions."""
        self.deaths = self["killed"]
        self.set(kill_after=int(after), kill_call=calls and self["calls"] + calls,
                 kill_submit=submits and self["submits"] + submits)
