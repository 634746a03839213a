# SPDX-License-Identifier: Apache-2.0
"""Disks of the nodes' own: small file systems on loop devices that can be filled, frozen and slowed down."""
import os
import subprocess
import time

from cluster import check

MIB = 1 << 20


def command(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    check(done.returncode == 0, f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def make_file_system(kind, device):
    if kind == "xfs":
        command("mkfs.xfs", "-q", device)
    else:
        command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-m", "0", device)


def empty(place):
    """A new file system has nothing in it, whatever its kind."""
    lost = os.path.join(place, "lost+found")
    if os.path.isdir(lost):
        os.rmdir(lost)


class Disk:
    """A file system of its own for a node's data: image in a tmpfs or a directory -> loop device -> mount."""

    loop_options = ()

    def __init__(self, cluster, node, bytes_max, backing=None, kind="ext4"):
        self.node, self.place, self.device, self.mounted, self.frozen = node, node.data, None, False, False
        self.throttled, self.kind = None, kind
        os.makedirs(self.place)
        try:
            self.image = self.make_image(backing or cluster.dir, bytes_max)
            self.attach()
            make_file_system(kind, self.device)
            self.mount()
            empty(self.place)
        except Exception:
            self.close()
            raise

    def make_image(self, folder, bytes_max):
        path = os.path.join(folder, f"disk{self.node.id}")
        with open(path, "wb") as image:
            image.truncate(bytes_max)
        return path

    def attach(self):
        self.device = command("losetup", *self.loop_options, "--find", "--show", self.image)

    def detach(self):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], capture_output=True)
        self.device = None

    def mount(self):
        command("mount", self.device, self.place)
        self.mounted = True

    def unmount(self):
        """A dead node's last writes hold its files for a while. (A file system that was shut down cannot even be
        asked whether it is mounted.)"""
        end = time.monotonic() + 5
        while self.mounted:
            done = subprocess.run(["umount", self.place], capture_output=True, text=True)
            if done.returncode == 0 or "not mounted" in done.stderr:
                break
            if time.monotonic() > end:
                subprocess.run(["umount", "--lazy", self.place], capture_output=True)
                break
            time.sleep(0.05)
        self.mounted = False

    def left(self):
        fs = os.statvfs(self.place)
        return fs.f_bavail * fs.f_frsize

    def fill(self, leave=0):
        """A file that takes what there is but `leave` bytes: most of it is not written, only taken."""
        with open(os.path.join(self.place, "filler"), "ab") as filler:
            take = self.left() - leave
            while take > MIB:
                try:
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, take)
                    take = min(take, self.left() - leave)
                except OSError:
                    take //= 2
            block = bytes(64 << 10)
            try:
                while self.left() > leave:
                    filler.write(block[:max(4096, min(len(block), self.left() - leave))])
                    filler.flush()
                    os.fsync(filler.fileno())
            except OSError:
                pass

    def make_room(self):
        os.unlink(os.path.join(self.place, "filler"))

    def freeze(self):
        command("fsfreeze", "-f", self.place)
        self.frozen = True

    def thaw(self):
        command("fsfreeze", "-u", self.place)
        self.frozen = False

    def throttle(self, bytes_per_s):
        """Of all writes to the device, by the block throttle of the root group (cgroup v1) or of none."""
        number = os.stat(self.device).st_rdev
        line = f"{os.major(number)}:{os.minor(number)} {bytes_per_s}"
        for knob in ("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device",):
            if os.path.exists(knob):
                with open(knob, "w", encoding="ascii") as out:
                    out.write(line)
                self.throttled = knob if bytes_per_s else None
                return True
        return False

    def heal(self):
        if self.frozen:
            self.thaw()
        if self.throttled:
            self.throttle(0)

    def let_go(self):
        """Before those who may wait for it are ended."""
        self.heal()

    def close(self):
        self.let_go()
        self.unmount()
        self.detach()


class Disks:
    """with Disks(cluster, ...): the nodes' data lies on loop devices; undone whatever happens."""

    def __init__(self, cluster, nodes, bytes_max, backing=None):
        self.cluster, self.disks = cluster, {}
        self.arguments = nodes, bytes_max, backing

    def __enter__(self):
        nodes, bytes_max, backing = self.arguments
        try:
            for node in nodes:
                self.disks[node] = Disk(self.cluster, node, bytes_max, backing)
        except Exception:
            self.__exit__(None, None, None)
            raise
        return self.disks

    def __exit__(self, *_):
        for disk in self.disks.values():
            disk.heal()
        for node in self.cluster.running():
            node.kill()
        for disk in self.disks.values():
            disk.close()
        return False
