"""Queued discards, because the block layer joins several into one request whose completion tells one range only.

    queued (block_bio_queue, a ring of its own, filtered to discards) -> its chunks wait, in files with holes
    each round: read what completed first, then what was queued; mark every waiting chunk again
    as many sectors completed as were queued -> all that waits is settled by this last marking

Rules kept here:
- Completed is read before queued: equal then means that whatever was queued has completed, and what is read after the
  marking is what the disk holds.
- A chunk is in its file before the ring's slot is emptied, so a kill loses none. What does not wait is a hole, which
  takes no memory.
- Where the sums cannot become equal (a discard that failed before it was a request, completions that the ring lost), a
  time without any change ends the waiting: `QUIET_SECONDS` while nothing is in flight, else `LONGEST_SECONDS`.
- Where they change without end, a chunk waits between once and twice `LONGEST_SECONDS`, which is longer than Linux
  tries a request (SCSI: six times 30 s, Documentation/scsi/scsi_eh.rst and the default of the timeout).
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Callable, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from agent.chunk_map import CHUNK_SECTORS, chunks_of
from agent.ring import Mark, Ring

QUIET_SECONDS = 10.0
LONGEST_SECONDS = 300.0

_BASE = struct.Struct("=q")


class Pending:
    """The chunks that wait, in files that survive the agent.

    Of each disk `DISK.discards`, and `DISK.discards-old` for those that waited long; `discards.base` for the sums.
    `disks` maps kernel devices to (name, bytes).
    """

    def __init__(self, folder: str, disks: Mapping[int, Tuple[str, int]]) -> None:
        self._chunks = {device: chunks_of(size) for device, (_, size) in disks.items()}
        self._paths = {device: os.path.join(folder, f"{name}.discards") for device, (name, _) in disks.items()}
        self._files: Dict[int, int] = {}
        self._old: Dict[int, int] = {}
        for device, path in self._paths.items():
            self._files[device] = _sized(path, self._chunks[device])
            self._old[device] = _sized(f"{path}-old", self._chunks[device])
        descriptor = _sized(os.path.join(folder, "discards.base"), _BASE.size)
        self._base = mmap.mmap(descriptor, _BASE.size)
        os.close(descriptor)

    @property
    def base(self) -> int:
        """Return what queued minus completed is when nothing is under way."""
        value: int = _BASE.unpack_from(self._base)[0]
        return value

    def add(self, device: int, sector: int, sectors: int) -> None:
        """Let the chunks of a range wait."""
        if device not in self._files:
            return
        first = sector // CHUNK_SECTORS
        stop = min((sector + sectors - 1) // CHUNK_SECTORS + 1, self._chunks[device])
        for start in range(first, stop, 1 << 20):
            os.pwrite(self._files[device], b"\x01" * min(1 << 20, stop - start), start)

    def tell(self, mark: Mark) -> bool:
        """Mark all that waits; return whether anything does."""
        found = False
        for device, descriptor in (*self._old.items(), *self._files.items()):
            for start, length in _extents(descriptor, self._chunks[device]):
                for first, count in _runs(os.pread(descriptor, length, start)):
                    mark(device, (start + first) * CHUNK_SECTORS, count * CHUNK_SECTORS)
                    found = True
        return found

    def settle(self, base: int) -> None:
        """Let nothing wait any more."""
        for device, descriptor in (*self._old.items(), *self._files.items()):
            os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, self._chunks[device])
        _BASE.pack_into(self._base, 0, base)

    def age(self) -> None:
        """Let what waited long wait no more, and count what waits as having waited long."""
        for device, path in self._paths.items():
            os.close(self._old[device])
            os.replace(path, f"{path}-old")
            self._old[device] = self._files[device]
            self._files[device] = _sized(path, self._chunks[device])

    def close(self) -> None:
        """Let go of the files."""
        self._base.close()
        for descriptor in (*self._old.values(), *self._files.values()):
            os.close(descriptor)


class Discards:
    """The ring of queued discards and what waits; `in_flight` tells whether the disks have anything under way."""

    def __init__(self, queued: Ring, pending: Pending, in_flight: Callable[[], bool]) -> None:
        self._queued = queued
        self._pending = pending
        self._in_flight = in_flight
        self._last = (0, 0)
        self._changed = 0.0
        self._aged: Optional[float] = None

    def recover(self) -> None:
        """Take in what a killed agent left in the slots. Raises `LostTrack`."""
        self._queued.recover(self._pending.add)

    def round(self, completed: int, mark: Mark, now: float) -> None:
        """Mark what waits; `completed` sectors were discarded as of *before* this call. Raises `LostTrack`."""
        waiting = self.catch_up(mark)
        if self._aged is None or now - self._aged >= LONGEST_SECONDS:
            if self._aged is not None and waiting:
                self._pending.age()
            self._aged = now
        sums = (self._queued.discarded, completed)
        difference = sums[0] - sums[1]
        if difference == self._pending.base:
            if waiting:
                self._pending.settle(difference)
        elif sums != self._last:
            self._last, self._changed = sums, now
        elif now - self._changed >= (LONGEST_SECONDS if self._in_flight() else QUIET_SECONDS):
            self._pending.settle(difference)

    def catch_up(self, mark: Mark) -> bool:
        """Mark what waits and let it wait on; return whether anything does. Raises `LostTrack`."""
        for missing in self._queued.drain(self._pending.add):
            raise missing.error
        return self._pending.tell(mark)

    def accept_loss(self) -> None:
        """Record again; a resync covers what was lost. What waits goes on waiting."""
        self._queued.switch_on()
        for cpu in range(self._queued.cpus):
            self._queued.accept_all(cpu)

    def close(self) -> None:
        """Stop reading; the ring goes on recording."""
        self._queued.close()
        self._pending.close()


def in_flight(nodes: Iterable[str]) -> bool:
    """Tell whether any of these disks has a request under way."""
    for node in nodes:
        with open(f"/sys/class/block/{node}/inflight", encoding="ascii") as file:
            if any(int(count) for count in file.read().split()):
                return True
    return False


def _sized(path: str, size: int) -> int:
    """Open a file of this size; a new one, or one of another size, is all hole."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.fstat(descriptor).st_size != size:
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, size)
    return descriptor


def _extents(descriptor: int, size: int) -> Iterator[Tuple[int, int]]:
    """Yield (start, length) of what is no hole, at most 1 MiB each."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: nothing but a hole
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        for piece in range(start, end, 1 << 20):
            yield piece, min(1 << 20, end - piece)
        position = end


def _runs(states: bytes) -> Iterator[Tuple[int, int]]:
    position = 0
    while True:
        first = states.find(b"\x01", position)
        if first < 0:
            return
        stop = states.find(b"\x00", first)
        position = stop if stop >= 0 else len(states)
        yield first, position - first
