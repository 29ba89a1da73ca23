"""A kernel for tests of the tracker: a ring that overruns, maps whose program is skipped, and a bomb between all steps.

The same calls as `agent.ring.Ring` and `agent.bpf_marks.Marks`; what would survive kill -9 is in `Kernel`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.chunk_map import CHUNK_SECTORS
from agent.ring import Mark, Missing
from agent.ring_format import LostTrack, RingStats

DEVICE = 8 << 20


class Killed(Exception):
    """The agent was killed here."""


@dataclass
class Bomb:
    """Kills the agent after `steps` more steps; None never."""

    steps: int | None = None

    def step(self) -> None:
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                raise Killed


@dataclass
class Kernel:
    """What the kernel and the mapped files hold."""

    entries: list[int] = field(default_factory=list)  # chunks, in the ring
    slots: list[int] = field(default_factory=list)
    counted: int = 0
    lost: int = 0
    read: int = 0
    merged: int = 0
    known_lost: int = 0
    unmarked: int = 0
    buffers: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))
    in_use: int = 0
    marked: int = 0
    lost_chunks: set[int] = field(default_factory=set)  # for the test's own eyes

    def complete(self, chunk: int, *, skipped: bool) -> None:
        """A write completed; the kernel may skip the program's run."""
        self.entries.append(chunk)
        if not skipped:
            self.buffers[self.in_use].add(chunk)
            self.marked += 1

    def overrun(self, count: int) -> None:
        """Overwrite the oldest events."""
        self.lost_chunks |= set(self.entries[:count])
        self.lost += len(self.entries[:count])
        del self.entries[:count]

    @property
    def unseen(self) -> set[int]:
        """Return what the agent may still find somewhere, or must find out that it is lost."""
        missing = self.lost_chunks if self.lost != self.known_lost else set()
        return {*self.entries, *self.slots, *self.buffers[0], *self.buffers[1], *missing}


class SimulatedRing:
    """As `Ring`, of one CPU."""

    cpus = 1
    cpu_numbers = (0,)

    def __init__(self, kernel: Kernel, bomb: Bomb) -> None:
        self._kernel = kernel
        self._bomb = bomb
        self.events = 0

    def recover(self, tell: Mark) -> None:
        kernel = self._kernel
        self._tell(tell)
        if kernel.slots and kernel.read - kernel.merged == len(kernel.slots):
            kernel.merged = kernel.read
        self._bomb.step()
        kernel.slots = []

    def drain(self, tell: Mark) -> list[Missing]:
        kernel = self._kernel
        kernel.slots, kernel.entries = kernel.entries, []
        kernel.read += len(kernel.slots)
        self._bomb.step()
        self._tell(tell)
        kernel.merged += len(kernel.slots)
        self.events += len(kernel.slots)
        self._bomb.step()
        kernel.slots = []
        self._bomb.step()
        lost = kernel.lost - kernel.known_lost
        return [Missing(0, lost, 0)] if lost else []

    def _tell(self, tell: Mark) -> None:
        for chunk in self._kernel.slots:
            tell(DEVICE, chunk * CHUNK_SECTORS, CHUNK_SECTORS)
            self._bomb.step()

    def accept(self, missing: Missing) -> None:
        self._kernel.known_lost += missing.lost
        self._bomb.step()

    def accept_all(self, _: int) -> None:
        self._kernel.merged, self._kernel.known_lost = self._kernel.read, self._kernel.lost
        self._bomb.step()

    def switch_on(self) -> None:
        self._bomb.step()

    def check_filter(self) -> None:
        if self._kernel.read < self._kernel.merged:
            raise LostTrack("emptied")

    def known(self, _: int) -> int:
        return self._kernel.merged + self._kernel.known_lost

    def unmarked(self, _: int) -> int:
        return self._kernel.unmarked

    def set_unmarked(self, _: int, count: int) -> None:
        self._kernel.unmarked = count
        self._bomb.step()

    def statistics(self, _: int) -> RingStats:
        return RingStats(len(self._kernel.entries), self._kernel.lost, self._kernel.read)


class SimulatedMarks:
    """As `Marks`."""

    made = False
    coarse = 0
    skipped = None

    def __init__(self, kernel: Kernel, bomb: Bomb) -> None:
        self._kernel = kernel
        self._bomb = bomb

    @property
    def events(self) -> int:
        return self._kernel.marked

    def events_of_cpu(self, _: int) -> int:
        return self._kernel.marked

    def flip(self) -> bool:
        self._kernel.in_use = 1 - self._kernel.in_use
        self._bomb.step()
        return True

    def merge_old(self, mark: Mark) -> int:
        old = self._kernel.buffers[1 - self._kernel.in_use]
        for chunk in sorted(old):
            mark(DEVICE, chunk * CHUNK_SECTORS, CHUNK_SECTORS)
            self._bomb.step()
        count = len(old)
        old.clear()
        self._bomb.step()
        return count
