"""The second witness: pinned maps in which an eBPF program marks what was written, in one of two buffers.

    flip (the control word names the other buffer) -> grace -> tell the marks of the old one -> zero the old one

Rules kept here:
- The old buffer is zeroed only after all of its marks are in the chunk maps: who is killed before finds them again.
- Before a flip the other buffer is empty, or its marks would count for the next round only.
- Maps, program and link are pinned: they record while no agent runs. Pins that somebody removed are made again.
- It is never enough alone: the kernel skips runs of programs. `missing` says how many events of a CPU's ring it has
  not counted; as long as that stays what it was, it has marked every one since.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Dict, List, Tuple

from agent import bpf_kernel
from agent.bpf_kernel import NoEbpf
from agent.bpf_program import (
    COARSE,
    COARSE_CHUNKS,
    CONTROL_BYTES,
    EVENTS,
    IN_USE,
    OUTSIDE,
    PAGE_BYTES,
    SIGNATURE,
    Area,
    Plan,
    program,
)
from agent.chunk_map import CHUNK_SECTORS
from agent.ring import Mark
from agent.ring_format import EventLayout

CONTROL, MARKS, PROGRAM, LINK = "control", "marks", "program", "link"

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True)
class MarksConfig:
    """Where the pins lie, and how the maps are laid out."""

    folder: str
    layout: Plan


class Marks:
    """The maps and the attached program; `open_or_make` returns one."""

    def __init__(self, config: MarksConfig, held: Dict[str, int], *, made: bool, pinned: bool) -> None:
        self._config = config
        self._held = held
        self._cpus = bpf_kernel.possible_cpus()
        layout = config.layout
        self._control = mmap.mmap(held[CONTROL], _whole_pages((1 + self._cpus) * CONTROL_BYTES))
        self._marks = mmap.mmap(held[MARKS], 2 * layout.buffer_bytes)
        self._layout = layout
        self._merged_events = -1
        self.made = made
        self.pinned = pinned

    @property
    def events(self) -> int:
        """Return how many events it has marked since it was made."""
        return sum(self.events_of_cpu(cpu) for cpu in range(self._cpus))

    @property
    def coarse(self) -> int:
        """Return how many of them it marked by 16 MiB only."""
        return sum(self._counter(cpu, COARSE) for cpu in range(self._cpus))

    @property
    def outside(self) -> int:
        """Return how many events lay outside of the disks as they were laid out."""
        return sum(self._counter(cpu, OUTSIDE) for cpu in range(self._cpus))

    def events_of_cpu(self, cpu: int) -> int:
        """Return how many events of one CPU it has marked since it was made."""
        return self._counter(cpu, EVENTS)

    @property
    def skipped(self) -> "int | None":
        """Return how many runs the kernel says that it skipped; None where it does not count them."""
        return bpf_kernel.recursion_misses(self._held[PROGRAM])

    def flip(self) -> bool:
        """Let the program mark in the other buffer from now on; False when there is nothing new in this one."""
        events = self.events
        if events == self._merged_events:
            return False
        self._merged_events = events
        _U32.pack_into(self._control, IN_USE, 1 - self._in_use)
        bpf_kernel.grace()
        return True

    def merge_old(self, mark: Mark) -> int:
        """Tell the marks of the buffer that is not in use, then zero it; return how many bytes were set."""
        count = self._tell(1 - self._in_use, mark)
        if count:
            self._zero(1 - self._in_use)
        return count

    def keep_pinned(self) -> bool:
        """Pin again what somebody removed; return whether there was anything. Raises `NoEbpf`."""
        if not self.pinned or all(os.path.exists(self._path(name)) for name in self._held):
            return False
        _pin_all(self._config.folder, self._held)
        return True

    def close(self) -> None:
        """Let go of the maps; what is pinned goes on recording."""
        self._control.close()
        self._marks.close()
        for descriptor in self._held.values():
            os.close(descriptor)

    @property
    def _in_use(self) -> int:
        found: int = _U32.unpack_from(self._control, IN_USE)[0] & 1
        return found

    def _tell(self, buffer: int, mark: Mark) -> int:
        base = buffer * self._layout.buffer_bytes
        count = 0
        for area in self._layout.areas:
            for first, length in _set_runs(self._marks, base + area.coarse, area.coarse_areas):
                _tell_chunks(mark, area, first * COARSE_CHUNKS, length * COARSE_CHUNKS)
                count += length
            for first, length in _set_runs(self._marks, base + area.exact, area.chunks):
                _tell_chunks(mark, area, first, length)
                count += length
        return count

    def _zero(self, buffer: int) -> None:
        base, size = buffer * self._layout.buffer_bytes, self._layout.buffer_bytes
        for start in range(base, base + size, 1 << 20):
            end = min(start + (1 << 20), base + size)
            self._marks[start:end] = bytes(end - start)

    def _counter(self, cpu: int, offset: int) -> int:
        value: int = _U64.unpack_from(self._control, (1 + cpu) * CONTROL_BYTES + offset)[0]
        return value

    def _path(self, name: str) -> str:
        return os.path.join(self._config.folder, name)


def open_or_make(config: MarksConfig, event: EventLayout, *, fresh: bool) -> Marks:
    """Open the pinned witness, or make it: when `fresh`, when it is not there, or when it is of other disks.

    Raises `NoEbpf` where the kernel cannot have one.
    """
    bpf_kernel.grace()  # without it no buffer could ever be merged
    bpf_kernel.need_bpffs(os.path.dirname(config.folder))
    if not fresh:
        with suppress(NoEbpf):
            return _open(config, event)
    remove(config.folder)
    return _make(config, event)


def remove(folder: str) -> bool:
    """Remove the pins, which ends the witness; return whether there were any."""
    if not os.path.isdir(folder):
        return False
    shutil.rmtree(folder)
    return True


def _open(config: MarksConfig, event: EventLayout) -> Marks:
    held: Dict[str, int] = {}
    try:
        for name in (CONTROL, MARKS, PROGRAM, LINK):
            held[name] = bpf_kernel.pinned(os.path.join(config.folder, name))
        marks = Marks(config, held, made=False, pinned=True)
        found = bytes(marks._control[SIGNATURE : SIGNATURE + 8])
        if found != config.layout.signature:
            raise NoEbpf("it marks other disks")
    except (NoEbpf, OSError, ValueError) as error:
        for descriptor in held.values():
            os.close(descriptor)
        raise NoEbpf(f"what is pinned is not ours: {error}") from error
    return marks


def _make(config: MarksConfig, event: EventLayout) -> Marks:
    layout = config.layout
    held: Dict[str, int] = {}
    try:
        held[CONTROL] = bpf_kernel.array_map("lb_control", CONTROL_BYTES, 1 + bpf_kernel.possible_cpus())
        held[MARKS] = bpf_kernel.array_map("lb_marks", PAGE_BYTES, 2 * layout.buffer_bytes // PAGE_BYTES)
        held[PROGRAM] = bpf_kernel.load("lifeboat", program(layout, event, held[CONTROL], held[MARKS]))
        held[LINK], may_be_pinned = bpf_kernel.attach(held[PROGRAM], event.event_id)
        if may_be_pinned:
            _pin_all(config.folder, held)
        marks = Marks(config, held, made=True, pinned=may_be_pinned)
    except BaseException:
        for descriptor in held.values():
            os.close(descriptor)
        raise
    marks._control[SIGNATURE : SIGNATURE + 8] = layout.signature
    return marks


def _pin_all(folder: str, held: Dict[str, int]) -> None:
    with suppress(FileExistsError):
        os.makedirs(folder, mode=0o700)
    for name, descriptor in held.items():
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            bpf_kernel.pin(descriptor, path)


def _set_runs(buffer: mmap.mmap, start: int, length: int) -> List[Tuple[int, int]]:
    """Return the (first, count) of bytes that are 1."""
    runs: List[Tuple[int, int]] = []
    end, position = start + length, start
    while True:
        first = buffer.find(b"\x01", position, end)
        if first < 0:
            return runs
        stop = buffer.find(b"\x00", first, end)
        position = stop if stop >= 0 else end
        runs.append((first - start, position - first))


def _tell_chunks(mark: Mark, area: Area, first: int, count: int) -> None:
    mark(area.device, first * CHUNK_SECTORS, min(count, area.chunks - first) * CHUNK_SECTORS)


def _whole_pages(length: int) -> int:
    return -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
