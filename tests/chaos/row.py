# SPDX-License-Identifier: Apache-2.0
"""A row of the fault catalogue, and the list of those that are built."""

ROWS = {}


class Row:
    """A fault that is injected into a stage again and again, and healed each time."""
    id = what = None
    nodes = 3
    switch = False        # the faultswitch in place of the bridge
    fault_disks = False   # the nodes' disks can be told to fail
    calls = False         # what the nodes ask of their libraries can be made to fail
    memif = False         # shared memory between the nodes in place of wires
    logs = (1,)           # that are appended to
    share = 1.0           # of the rate that is offered
    least = 0.08          # of what was offered has to be acknowledged (docs/STATUS.md has what was seen)
    trimmed = False       # what is trimmed is not looked for
    settings = {}         # of the nodes (Cluster)

    def prepare(self, stage):
        """Before the load."""

    def begin(self, stage):
        """Before the first injection, under load."""

    def inject(self, stage):
        """Injects once and heals; returns how often it did."""
        raise NotImplementedError

    def end(self, stage):
        """After the last, under load: what the row demands beyond the audit."""


def row(kind):
    ROWS[kind.id] = kind
    return kind
