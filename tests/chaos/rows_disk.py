# SPDX-License-Identifier: Apache-2.0
"""D: disks that tear, lie, rot, fail, crawl and get stuck, and files that change under a node."""
import glob
import mmap
import os
import shutil
import signal
import subprocess
import threading
import time

from cluster import LEATD, check, wait_for
from disks import MIB
from test_disk import ENOSPACE, append

from row import Row, row

FENCED = 6
SEGMENT, BLOCK = MIB, 4096
SMALL = {"segment": "1MiB", "arena": "4MiB", "window": "1MiB", "scrub": "200MiB"}


def file_of(node, name):
    return os.path.join(node.data, "w0", name)


def segments(node):
    """By their base."""
    return {int(os.path.basename(path).split(".")[0], 16): path
            for path in glob.glob(os.path.join(node.data, "w0", "log-1.*", "*.segment"))}


def sealed(stage, node):
    """A segment whose bytes are all committed, and not the newest such."""
    def some():
        state = node.state() or {"commit_durable": 0, "base": 0}
        end = state["commit_durable"] // SEGMENT * SEGMENT - SEGMENT
        return sorted(path for base, path in segments(node).items() if state["base"] <= base <= end - SEGMENT)
    return stage.rng.choice(wait_for(some, f"a sealed segment of node {node.id}", 40))


def active(stage, node):
    """The segment that is written."""
    end = stage.state(node)["durable"]
    return segments(node)[max(base for base in segments(node) if base <= end)]


def in_frames(stage):
    """A byte of a segment's first half: there are frames."""
    return stage.rng.randrange(SEGMENT // 2)


def block(path, at):
    """What the disk says, not the page cache; None when it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None
    try:
        with mmap.mmap(-1, BLOCK) as room:
            return room[:] if os.preadv(file, [room], at // BLOCK * BLOCK) == BLOCK else None
    except OSError:
        return None
    finally:
        os.close(file)


def is_mended(stage, node, path, at):
    """Replicas are the same byte by byte: of a sealed segment each has what the others have."""
    other, name = stage.others(node)[0], os.path.basename(path)

    def same():
        twin = next((p for p in segments(other).values() if os.path.basename(p) == name), None)
        mine = block(path, at)
        return twin and mine is not None and mine == block(twin, at)
    wait_for(same, f"node {node.id}'s {name}+{at} to be as node {other.id}'s", 40)


def power(stage, node):
    """The node loses its power, and gets it back; the disk says what became of what was not flushed."""
    disk = stage.disks[node]
    disk.ask("cut")
    node.power_cut()
    disk.power_cut()
    node.start()
    stage.is_back(node)


def delta(disk, before, *names):
    after = disk.counts()
    return sum(after[name] - before[name] for name in names)


class Faulty(Row):
    fault_disks, settings, share = True, SMALL, 0.4


@row
class Torn(Faulty):
    id, what = "D1", "a node loses power: of what was not flushed, each sector is new or old"

    def inject(self, stage):
        node = stage.victim()
        disk = stage.disks[node]
        before = disk.counts()
        disk.set(late_ms=stage.rng.choice((5, 20, 80)))  # so that more is under way
        stage.sleep(0.1, 0.6)
        wait_for(lambda: disk.counts()["pending"], "a write that is not flushed")
        power(stage, node)
        hits = delta(disk, before, "torn", "lost")
        stage.note(f"node {node.id} lost power, {hits} writes torn or lost")
        return hits


@row
class Lies(Faulty):
    id, what = "D2", "the journal's flushes lied: a power cut takes all that was written since"

    def inject(self, stage):
        """The others have it all: what one disk lied about is to be all that is missing."""
        node = stage.victim()
        disk = stage.disks[node]
        before = disk.counts()
        disk.within("lie", file_of(node, "journal"))
        stage.sleep(0.1, 0.6)
        for load in stage.loads:
            load.process.send_signal(signal.SIGSTOP)
        stage.cluster.level()
        disk.ask("cut")
        node.power_cut()
        disk.power_cut()
        stage.cluster.leader()
        for load in stage.loads:
            load.process.send_signal(signal.SIGCONT)
        node.start()
        hits = delta(disk, before, "lie")
        stage.note(f"node {node.id}'s journal is {hits} writes behind what it had said")
        self.is_judged(stage, node)
        return hits

    def is_judged(self, stage, node):
        """Taken back, or refused by those who remember more of it: then it is out, and no other may be harmed."""
        want = stage.committed()

        def refused():
            return node.process.poll() is not None or any(
                n.says(f"node {node.id}: a hello in its name is refused") for n in stage.others(node))

        wait_for(lambda: refused() or stage.has(node, want), f"node {node.id} to be refused or taken back", 40)
        if refused():
            stage.note(f"node {node.id} is refused: {node.last_lines(1)}")
            stage.out(node)


@row
class Misdirected(Faulty):
    id, what = "D3", "a block of a sealed segment lies where another should"

    def inject(self, stage):
        node = stage.rng.choice(stage.cluster.nodes)
        disk = stage.disks[node]
        source, to = sealed(stage, node), sealed(stage, node)
        a, b = in_frames(stage) // BLOCK * BLOCK, in_frames(stage) // BLOCK * BLOCK
        if (source, a) == (to, b):
            return 0
        disk.ask(f"move {disk.place_of(source, a)} {disk.place_of(to, b)} {BLOCK}")
        stage.note(f"node {node.id}: {os.path.basename(source)}+{a} lies at {os.path.basename(to)}+{b}")
        is_mended(stage, node, to, b)
        return 1


class Damage(Faulty):
    """Of a sealed segment under a running node; of the newest ones and a vote slot while it is down."""

    def harm(self, stage, disk, place):
        raise NotImplementedError

    def inject(self, stage):
        node = stage.victim()
        return self.running(stage, node) if stage.rng.random() < 0.6 else self.down(stage, node)

    def running(self, stage, node):
        disk = stage.disks[node]
        path, at = sealed(stage, node), in_frames(stage)
        self.harm(stage, disk, disk.place_of(path, at))
        stage.note(f"node {node.id}: {os.path.basename(path)}+{at} is damaged")
        is_mended(stage, node, path, at)
        return 1

    def down(self, stage, node):
        disk, end = stage.disks[node], stage.state(node)["durable"]
        node.power_cut()
        path = segments(node)[max(base for base in segments(node) if base <= end)]
        at = stage.rng.randrange(max(1, end % SEGMENT))
        if stage.rng.random() < 0.3:
            path, at = file_of(node, "votes"), stage.rng.choice((0, 64 << 10)) + stage.rng.randrange(64)
        self.harm(stage, disk, disk.place_of(path, at))
        stage.note(f"node {node.id} was down: {os.path.basename(path)}+{at} is damaged")
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
            drop.write("1")
        node.start()
        stage.is_back(node)
        wait_for(lambda: not stage.state(node)["damaged"], "the repair", 30)
        if path in segments(node).values():
            wait_for(lambda: stage.state(node)["commit_durable"] > int(os.path.basename(path).split(".")[0], 16) + SEGMENT,
                     "the segment to be sealed", 30)
            is_mended(stage, node, path, at)
        return 1


@row
class Rotten(Damage):
    id, what = "D4", "a bit flips in a segment or a vote slot"

    def harm(self, stage, disk, place):
        disk.ask(f"rot {place} {stage.rng.randrange(8)}")


@row
class Unreadable(Damage):
    id, what = "D5", "a sector of a segment or a vote slot cannot be read"

    def harm(self, stage, disk, place):
        disk.ask(f"bad {place // 512 * 512} 512")


@row
class Failing(Faulty):
    id, what = "D6", "a write or a flush fails, once or for good: the node fences itself"

    def inject(self, stage):
        node, kind = stage.victim(), stage.rng.choice(("eio_write", "eio_write", "eio_flush"))
        where = stage.rng.choice(("the journal", "segments", "all"))
        disk, once = stage.disks[node], stage.rng.random() < 0.5
        before = disk.counts()
        # one write or flush of the file system's own may fail without anybody's notice
        once &= where != "all" and kind == "eio_write"
        if kind == "eio_write" and where != "all":
            begin = active(stage, node)
            for path in [file_of(node, "journal")] if where == "the journal" else \
                    [path for path in segments(node).values() if os.path.basename(path) >= os.path.basename(begin)]:
                disk.within("only", path)
        disk.set(**{kind: 1000})
        if once:
            wait_for(lambda: delta(disk, before, kind), "a write to fail")
            disk.ask("clear")
        wait_for(lambda: node.process.poll() is not None,
                 f"node {node.id} to fence itself ({kind} in {where} {'once' if once else 'for good'})", 40)
        check(node.process.returncode == FENCED, f"node {node.id} ended with {node.process.returncode}, not {FENCED}")
        node.process = None
        hits = delta(disk, before, kind)
        stage.note(f"node {node.id}: {kind} in {where} {'once' if once else 'for good'}, {hits} failed")
        stage.grows()
        disk.ask("clear")
        disk.remount()
        node.start()
        stage.is_back(node)
        return hits


# ---- full ----

@row
class Full(Row):
    id, what = "D7", "a disk is full under load or at the node's start; all are: refused by name"
    settings, share = SMALL, 0.4

    def begin(self, stage):
        self.turn = stage.rng.randrange(3)

    def inject(self, stage):
        self.turn += 1
        hits = (self.one, self.every, self.at_start)[self.turn % 3](stage)
        for node in stage.cluster.nodes:
            stage.is_back(node)
        return hits

    @staticmethod
    def is_behind(stage, node):
        wait_for(lambda: stage.committed() > stage.state(node)["durable"] + 2 * SEGMENT,
                 f"node {node.id} to be behind for want of space", 60)

    def one(self, stage):
        """The others go on without it."""
        node = stage.victim()
        disk = stage.disks[node]
        disk.fill()
        stage.note(f"node {node.id}'s disk is full")
        self.is_behind(stage, node)
        stage.grows()
        disk.make_room()
        return 1

    @staticmethod
    def every(stage):
        """The load's appends wait: its windows are full of what was taken before. One more client is refused."""
        for disk in stage.disks.values():
            disk.fill()
        for node in stage.cluster.nodes:
            wait_for(lambda: ENOSPACE in append(node, "--timeout", "2")[1],
                     f"an append at node {node.id} to be refused for want of space", 60)
        stage.note("all disks are full, every node says so")
        for disk in stage.disks.values():
            disk.make_room()
        stage.grows()
        return len(stage.disks)

    def at_start(self, stage):
        node = stage.follower()
        disk = stage.disks[node]
        node.kill()
        disk.fill()
        node.start()
        wait_for(lambda: node.process.poll() is not None or node.state(), f"node {node.id} to start or to refuse")
        if node.process.poll() is None:
            stage.note(f"node {node.id} starts on a full disk")
            self.is_behind(stage, node)
            disk.make_room()
            return 1
        check(node.process.returncode == 1 and node.says("No space left"),
              f"node {node.id} ended with {node.process.returncode}: {node.last_lines()}")
        stage.note(f"node {node.id} refuses to start on a full disk: {node.last_lines(1)}")
        node.process = None
        disk.make_room()
        node.start()
        return 1


# ---- what the kernel may answer ----

@row
class Answers(Row):
    id, what, calls = "D8", "writes are cut short, submissions refused, EAGAIN, completions overtake each other", True
    TOLD = {"short_share": "shortened", "refuse_share": "refused", "again_share": "again", "swap_share": "swapped"}

    def inject(self, stage):
        node = stage.victim()
        calls, wanted = stage.calls[node], stage.state(node) and resubmitted(node)
        before = {told: calls[told] for told in self.TOLD.values()}
        calls.set(**{share: int(stage.log_uniform(10000, 400000)) for share in self.TOLD})
        stage.sleep(0.5, 2)
        wait_for(lambda: all(calls[told] > before[told] for told in self.TOLD.values()), "each to happen", 40)
        calls.clear()
        done = {told: calls[told] - before[told] for told in self.TOLD.values()}
        stage.note(f"node {node.id}: {done}")
        check(resubmitted(node) > wanted, f"node {node.id} submitted nothing again")
        return sum(done.values())


def resubmitted(node):
    return wait_for(node.status, f"node {node.id} to say how it is")["disk"]["resubmitted"]


@row
class Slow(Faulty):
    id, what = "D9", "a disk is slow, or stuck for seconds"

    def inject(self, stage):
        node = stage.victim()
        disk, before = stage.disks[node], stage.disks[node].counts()
        if stage.rng.random() < 0.5:
            late = int(stage.log_uniform(10, 1000))
            disk.set(slow_ms=late)
            stage.note(f"node {node.id}'s disk takes {late} ms")
        else:
            disk.set(stuck=1)
            stage.note(f"node {node.id}'s disk is stuck")
        stage.sleep(0.5, 4)
        stage.grows(100, 30)  # with the disk as it is
        disk.ask("clear")
        stage.is_back(node)
        return delta(disk, before, "slow_ms", "stuck")


@row
class Landing(Faulty):
    id, what = "D12", "kill -9 while the disk is slow: old writes land when the node is started again"

    def inject(self, stage):
        node, late = stage.victim(), stage.rng.randint(300, 2000)
        disk, before = stage.disks[node], stage.disks[node].counts()
        disk.set(slow_ms=late)
        stage.sleep(0.1, 0.5)
        node.process.kill()  # its parent need not wait for it, nor does the start
        killed, node.process = node.process, None
        node.start()
        stage.note(f"node {node.id} killed and started while writes take {late} ms")
        stage.sleep(0, 2)
        disk.ask("clear")
        killed.wait()
        if node.process.poll() is not None:  # it waits for ten seconds at most, and says so
            check(node.says("last writes"), f"node {node.id} ended: {node.last_lines()}")
            node.process = None
            node.start()
        stage.is_back(node)
        return delta(disk, before, "slow_ms")


@row
class FilesGo(Row):
    id, what, share, least = "D10", "journal, votes or segment removed or replaced: the node fences itself", 0.02, 0.4
    settings = {"segment": "16MiB", "arena": "32MiB"}  # a segment stays active for seconds

    def begin(self, stage):
        """What replaces a segment before the node's first look at it is not told from it: docs/STATUS.md."""
        stage.sleep(2.5, 2.5)

    def inject(self, stage):
        node, kind = stage.victim(), stage.rng.choice(("journal", "votes", "segment"))
        replaced = stage.rng.random() < 0.5
        path = active(stage, node) if kind == "segment" else file_of(node, kind)
        kept = path + ".kept"
        os.rename(path, kept)
        if replaced:
            shutil.copy(kept, path)
        stage.note(f"node {node.id}: {kind} {'replaced' if replaced else 'removed'}")
        wait_for(lambda: node.process.poll() is not None, f"node {node.id} to fence itself", 30)
        check(node.process.returncode == FENCED, f"node {node.id} ended with {node.process.returncode}, not {FENCED}")
        node.process = None
        os.rename(kept, path)
        node.start()
        stage.is_back(node)
        stage.sleep(2.5, 2.5)
        return 1


@row
class Twice(Row):
    id, what = "D11", "a second process is started on a running node's data"

    def inject(self, stage):
        node = stage.victim()
        done = subprocess.run([*node.enter, LEATD, "--config", node.config], capture_output=True, text=True, timeout=30)
        check(done.returncode == 1 and "in use by process" in done.stderr,
              f"the second process: exit {done.returncode}, {done.stderr}")
        check(node.process.poll() is None, f"node {node.id} ended")
        stage.note(f"a second process for node {node.id} was refused")
        stage.sleep(0.05, 0.3)
        return 1


@row
class Readers(Row):
    id, what, settings, share = "D13", "other programs read journal and segments through the page cache", SMALL, 0.4

    def inject(self, stage):
        over, reads = threading.Event(), [0]
        looker = threading.Thread(target=look, args=(stage, over, reads))
        looker.start()
        try:
            stage.sleep(0.5, 1.5)
            node = stage.victim()
            node.power_cut()
            node.start()
            stage.is_back(node)
        finally:
            over.set()
            looker.join()
        stage.note(f"{reads[0]} files read, node {node.id} lost its memory")
        return reads[0]


def look(stage, over, reads):
    while not over.is_set():
        for node in stage.cluster.nodes:
            for path in [file_of(node, "journal"), *segments(node).values()]:
                try:
                    with open(path, "rb") as file:
                        while not over.is_set() and file.read(MIB):
                            time.sleep(0.002)
                    reads[0] += 1
                except OSError:
                    continue
