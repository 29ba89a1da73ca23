"""What a piece of work cost: seconds of the clock, processor seconds, bytes on the wire, peak memory of each side."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, processor seconds, bytes, bytes of memory."""

    seconds: float
    cpu_seconds: float
    wire_bytes: int
    source_memory_bytes: int
    target_memory_bytes: int


@dataclass
class Memory:
    """Watches the peaks of processes and of what they start: the sum of each process's own peak (VmHWM)."""

    roots: Callable[[], Iterable[int]]
    _peaks: dict[int, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._stop.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        """Return the sum of the peaks."""
        return sum(self._peaks.values())

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for root in self.roots():
            with suppress(psutil.Error):
                for process in (parent := psutil.Process(root), *parent.children(recursive=True)):
                    peak = peak_memory_bytes(process.pid)
                    self._peaks[process.pid] = max(peak, self._peaks.get(process.pid, 0))


def peak_memory_bytes(pid: int) -> int:
    """Return the peak of one process's resident memory; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds_of(*pids: int) -> float:
    """Return the processor time of running processes and of their ended children."""
    return sum(sum(psutil.Process(pid).cpu_times()[:4]) for pid in pids)


def cpu_seconds_of_ended() -> float:
    """Return the processor time of all that this process started and that has ended."""
    times = os.times()
    return times.children_user + times.children_system


def busy_processors() -> Callable[[], float]:
    """Return a function that says how many processors others kept busy on average since now."""
    begun, all_before, ours_before = time.monotonic(), _busy_seconds(), _our_seconds()

    def since() -> float:
        others = (_busy_seconds() - all_before) - (_our_seconds() - ours_before)
        return max(0.0, others / (time.monotonic() - begun))

    return since


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + getattr(times, "steal", 0.0))


def _our_seconds() -> float:
    return sum(os.times()[:4])
