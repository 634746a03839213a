# SPDX-License-Identifier: Apache-2.0
"""Nodes joined by virtual cables: a network namespace per node, a switch in one of its own, and between
each node and the switch a wire whose two directions can be cut apart.

    node n: leat0 == near_n [bridge wire_n] far_n == port_n [bridge br0] == an attacker's port

A cut direction is a queue with no room, at the end that sends into it. A node's address is in no kernel.
All of it ends with the namespaces; close() removes those.
"""
import ctypes
import os
import socket
import subprocess

from cluster import check

ETH_P_ALL = 0x0003
CLONE_NEWNET = 0x40000000


def ip(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    check(done.returncode == 0, f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Wires:
    def __init__(self, cluster):
        self.tag = os.path.basename(cluster.dir)[-8:]
        self.switch = f"leat-sw-{self.tag}"
        self.names, self.count = [], len(cluster.nodes)
        self.had_folder = os.path.isdir("/run/netns")
        self.namespace(self.switch)
        for family in ("ip", "ip6", "arp"):  # where the kernel's firewall looks at bridges, it would drop first
            self.inside("sh", "-c", f"echo 0 >/proc/sys/net/bridge/bridge-nf-call-{family}tables 2>/dev/null || true")
        self.bridge("br0")
        for node in cluster.nodes:
            self.wire(node)
        self.inside("ip", "link", "add", "attacker", "type", "veth", "peer", "name", "port0")
        self.join("br0", "port0")
        self.up("attacker")

    def namespace(self, name):
        ip("ip", "netns", "add", name)
        self.names.append(name)

    def inside(self, *arguments):
        if arguments[0] in ("ip", "bridge", "tc"):  # enter by themselves, at a third of the price
            return ip(arguments[0], "-n", self.switch, *arguments[1:])
        return ip("ip", "netns", "exec", self.switch, *arguments)

    def up(self, name):
        self.inside("ip", "link", "set", name, "addrgenmode", "none")
        self.inside("ip", "link", "set", name, "up")

    def bridge(self, name):
        self.inside("ip", "link", "add", name, "type", "bridge")
        self.up(name)

    def join(self, bridge, name):
        self.inside("ip", "link", "set", name, "master", bridge)
        self.up(name)

    def wire(self, node):
        n, home = node.id, f"leat-{node.id}-{self.tag}"
        self.namespace(home)
        self.bridge(f"wire{n}")
        self.inside("ip", "link", "add", f"far{n}", "type", "veth", "peer", "name", f"port{n}")
        self.inside("ip", "link", "add", f"near{n}", "type", "veth", "peer", "name", "leat0", "netns", home)
        for bridge, name in ((f"wire{n}", f"near{n}"), (f"wire{n}", f"far{n}"), ("br0", f"port{n}")):
            self.join(bridge, name)
        ip("ip", "-n", home, "link", "set", "leat0", "addrgenmode", "none")
        ip("ip", "-n", home, "link", "set", "leat0", "up")
        node.enter = ["ip", "netns", "exec", home]

    # ---- cutting ----

    def _queue(self, name, cut):
        if cut:
            self.inside("tc", "qdisc", "replace", "dev", name, "root", "blackhole")
        else:
            self.inside("tc", "qdisc", "del", "dev", name, "root")

    def deaf(self, node, cut=True):
        """What is sent to the node is lost."""
        self._queue(f"port{node.id}", cut)

    def mute(self, node, cut=True):
        """What the node sends is lost."""
        self._queue(f"far{node.id}", cut)

    def apart(self, first, second, cut=True):
        """The two do not hear each other; everybody else hears both."""
        for here, other in ((first, second), (second, first)):
            address = self.address(other).hex(":")
            kind = ("static", "sticky") if cut else ()
            self.inside("bridge", "fdb", "replace" if cut else "del", address, "dev", f"near{here.id}", "master",
                        *kind)

    def cable(self, node, state):
        """The node's cable is pulled ("down") or plugged in ("up")."""
        self.inside("ip", "link", "set", f"near{node.id}", state)

    def widen(self, mtu):
        """Every cable takes larger packets than the nodes are configured for."""
        for n in range(1, self.count + 1):
            ip("ip", "-n", self.names[n], "link", "set", "leat0", "mtu", str(mtu))
            for name in (f"near{n}", f"far{n}", f"port{n}"):
                self.inside("ip", "link", "set", name, "mtu", str(mtu))
        for name in ("port0", "attacker"):
            self.inside("ip", "link", "set", name, "mtu", str(mtu))

    def address(self, node):
        text = ip("ip", "-n", self.names[node.id], "-br", "link", "show", "leat0").split()[2]
        return bytes.fromhex(text.replace(":", ""))

    def tap(self, interface):
        """A raw socket at one of the switch's interfaces: `attacker`, or `port1` to listen to node 1."""
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.switch}", os.O_RDONLY)
        try:
            enter_namespace(there)
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        finally:
            enter_namespace(here)
            os.close(here)
            os.close(there)
        raw.bind((interface, ETH_P_ALL))
        return raw

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        if not self.had_folder:
            subprocess.run(["umount", "/run/netns"], capture_output=True)
            os.rmdir("/run/netns")


def enter_namespace(descriptor):
    check(ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) == 0, "setns")
