"""The agent, with a bomb: `python -m tests.tracking.killable FUNCTION[:LOCAL] COUNT run --config FILE`.

It kills itself (SIGKILL) at the COUNT-th return of the function (its qualified name) at which its local variable is
true, or truthy; without one, at any. Nothing of the agent is changed: the interpreter's own profiler looks on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from agent.main import main

# What lies between two steps of drain, merge, read, received and stored.
STEPS = (
    "Ring._fill",
    "Ring._merge",
    "Ring._set_counts",
    "Ring._empty:slots",
    "Ring.drain",
    "Marks.flip",
    "Marks._tell:count",
    "Marks.merge_old:count",
    "Tracker._remember",
    "Replication._choose",
    "ChunkMap.take:runs",
    "DiskReader._fill",
    "Replication._pack",
    "Ledger.assign",
    "Sender._send",
    "Positions.set",
    "Ledger.stored",
    "Ledger.settle",
    "ChunkMap.settle",
)


class Bomb:
    """Looks at each return, in every thread."""

    def __init__(self, where: str, count: int) -> None:
        self._function, _, self._local = where.partition(":")
        self._left = count

    def look(self, frame: FrameType, event: str, _: object) -> None:
        if event != "return" or frame.f_code.co_qualname != self._function:
            return
        if self._local and not frame.f_locals.get(self._local):
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    bomb = Bomb(sys.argv[1], int(sys.argv[2]))
    threading.setprofile(bomb.look)
    sys.setprofile(bomb.look)
    sys.exit(main(sys.argv[3:]))
