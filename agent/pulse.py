"""A known write, once a minute: a tracker that somebody silenced by whatever means does not show it, and is noticed.

    resting --due--> writing (a thread: the file system may be frozen by others, and the loop must not wait)
    writing --> written --one more drain--> awaited --it has it--> resting
                                                    --it lacks it--> `LostTrack`

Rules kept here:
- The file is our own, in the cache folder, allocated once; it is written past the page cache, and its content never
  changes. Only if that folder lies on a protected disk there is a pulse; otherwise its absence has a name.
- Nothing is written while the agent freezes: a cut runs in the loop that would begin the write.
"""

from __future__ import annotations

import mmap
import os
import threading
from enum import Enum
from typing import FrozenSet, Iterable, Optional, Set

from agent.reasons import Reason, reason
from agent.ring_format import LostTrack

PULSE_BYTES = 4096
PULSE_SECTORS = PULSE_BYTES // 512
FILE = "pulse"


class _State(Enum):
    RESTING = "resting"
    WRITING = "writing"
    WRITTEN = "written"
    AWAITED = "awaited"


class Pulse:
    """Beats every `seconds`; for the loop that drains the tracker."""

    def __init__(self, folder: str, devices: Iterable[int], seconds: float) -> None:
        self._path = os.path.join(folder, FILE)
        self._seconds = seconds
        self._state = _State.RESTING
        self._next = 0.0
        self._seen_before = 0
        self._failed = ""
        self.devices = disks_below(folder) & frozenset(devices)

    @property
    def off(self) -> Optional[Reason]:
        """Return why there is no pulse, None when there is one."""
        if not self.devices:
            return reason("no-pulse", f"{os.path.dirname(self._path)} is on no protected disk")
        return reason("no-pulse", self._failed) if self._failed else None

    def beat(self, now: float, seen: int) -> None:
        """Go on; `seen` counts the events of the pulse's kind so far. To be called after each drain.

        Raises `LostTrack` when the write is done and the drain after it does not have it.
        """
        if self._state is _State.AWAITED:
            self._state = _State.RESTING
            if seen == self._seen_before:
                raise LostTrack("a write that the agent made did not appear in the tracing instance")
        elif self._state is _State.WRITTEN:
            self._state = _State.AWAITED  # it may have been done after the drain that was just made
        if self._state is _State.RESTING and self.devices and now >= self._next:
            self._next, self._seen_before = now + self._seconds, seen
            self._state = _State.WRITING
            threading.Thread(target=self._write, name="pulse", daemon=True).start()

    def _write(self) -> None:
        try:
            write_pulse(self._path)
        except OSError as error:
            self._failed = f"{self._path} cannot be written: {error.strerror}"
            self._state = _State.RESTING
        else:
            self._failed = ""
            self._state = _State.WRITTEN


def write_pulse(path: str) -> None:
    """Write the file past the page cache; makes it when it is not there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != PULSE_BYTES:
            os.posix_fallocate(descriptor, 0, PULSE_BYTES)
        with mmap.mmap(-1, PULSE_BYTES) as buffer:
            os.pwritev(descriptor, [buffer], 0)
    finally:
        os.close(descriptor)


def disks_below(path: str) -> FrozenSet[int]:
    """Return the kernel devices of the whole disks that hold `path`, also below LVM, md and dm-crypt."""
    number = os.stat(path).st_dev
    found: Set[int] = set()
    _add_disks(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}", found)
    return frozenset(found)


def _add_disks(link: str, found: Set[int]) -> None:
    folder = os.path.realpath(link)
    try:
        slaves = os.listdir(f"{folder}/slaves")
    except OSError:
        slaves = []
    for slave in slaves:
        _add_disks(f"{folder}/slaves/{slave}", found)
    if slaves:
        return
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(folder)
    try:
        with open(f"{folder}/dev", encoding="ascii") as file:
            major, minor = file.read().split(":")
    except OSError:
        return  # no block device: a tmpfs, an overlay
    found.add(int(major) << 20 | int(minor))
