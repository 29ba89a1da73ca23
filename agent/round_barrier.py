"""A server's part in a round, between the thread that cuts and the one that talks to the other members."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from agent.reasons import Reason, reason
from agent.rounds import CUT, Member, Stage

Report = Tuple[str, Optional[Reason]]


class RoundBarrier:
    """What `Cutter.make` waits at; `report` hands a word to the thread that talks, and must be quick."""

    required = False  # without the others it is a point of this server alone

    def __init__(self, core: Member, report: Callable[[Report], None]) -> None:
        self._core = core
        self._report = report
        self._changed = threading.Condition()

    # -- the thread that cuts ------------------------------------------------------------------------------------

    def may_freeze(self) -> Optional[bool]:
        """Say that this server is ready; return whether to freeze now, None while others get ready."""
        with self._changed:
            self._core.tick(time.monotonic())
            self._say(self._core.prepared())
            return self._core.may_freeze()

    def wait(self, cut: str, seconds: float) -> bool:
        """Say that this server stands still; return whether all others do, within `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._say(self._core.frozen())
            while self._core.stage is Stage.FROZEN:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._say(self._core.gave_up())
                else:
                    self._changed.wait(left)
            return self._core.stage is Stage.RELEASED

    def failed(self, why: Reason) -> None:
        """Say that this attempt was no cut."""
        with self._changed:
            self._say(self._core.failed(why))

    def claim(self) -> Optional[Dict[str, Any]]:
        """Return what a valid cut says of the point that it is a part of, None when it is this server's alone."""
        with self._changed:
            word = self._core.cut()
            self._say(word)
            return self._core.shared.as_dict() if word == CUT else None

    def close(self) -> None:
        """End this server's part."""
        self.failed(reason("group-void", "no cut was made"))

    def _say(self, word: Optional[str]) -> None:
        if word is not None:
            self._report((word, self._core.reason))

    # -- the thread that talks -----------------------------------------------------------------------------------

    @property
    def shared(self) -> bool:
        """Tell whether this server's cut belongs to the shared point."""
        return self._core.stage is Stage.CUT

    @property
    def over(self) -> bool:
        """Tell whether this server's part has ended."""
        return self._core.over

    def heard(self, word: str, why: Optional[Reason]) -> None:
        """Take an order of the coordinator."""
        with self._changed:
            self._core.heard(word, why)
            self._changed.notify_all()

    def lost(self, why: str) -> None:
        """Note that the coordinator is gone."""
        with self._changed:
            self._core.lost(why)
            self._changed.notify_all()

    def tick(self, now: float) -> None:
        """Note the time."""
        with self._changed:
            self._core.tick(now)
            self._changed.notify_all()


class Mailbox:
    """Hands what one thread has to say to another that waits in a selector."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._reports: Deque[Report] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._read

    def put(self, report: Report) -> None:
        """Hand something over; what comes after `close` is dropped."""
        with self._lock:
            if not self._closed:
                self._reports.append(report)
                self._wake()

    def take(self) -> List[Report]:
        """Return what was handed over."""
        with self._lock:
            with suppress(BlockingIOError):
                os.read(self._read, 4096)
            taken = list(self._reports)
            self._reports.clear()
            return taken

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            self._closed = True
            os.close(self._read)
            os.close(self._write)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # enough bytes are there already
            os.write(self._write, b"!")
