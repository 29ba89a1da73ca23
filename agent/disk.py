"""Reads the source's disks past the page cache, and packs what was read into records.

Rules kept here:
- O_DIRECT only: what is read is what the device holds, and the server's page cache is left alone.
- Each reading uses one of a few aligned buffers, so that memory stays bounded however many readings are asked for.
- Nothing is ever written to a source's disk.
"""

from __future__ import annotations

import mmap
import os
import queue
import stat
from dataclasses import dataclass
from typing import Iterable, Iterator, List, Optional, Tuple

from agent.chunk_map import Run
from agent.reasons import Reason, reason
from dr.chunk import CHUNK_BYTES, any_set
from dr.errors import LifeboatError, NotFound
from dr.journal import MAX_RECORD_BYTES, SegmentWriter

BATCH_CHUNKS = 64  # one segment's payload, 4 MiB
BUFFERS = 3

_RECORD_CHUNKS = MAX_RECORD_BYTES // CHUNK_BYTES

Piece = Tuple[int, int, "bytes | None"]
"""Offset and length in bytes, and the content; None for zeros."""


class DiskUnreadable(LifeboatError):
    """A disk of the source cannot be read."""

    code = "disk-unreadable"
    remedy = "check the disk's health; the chunk is read again until it works, and no recovery point is claimed before"


@dataclass(frozen=True)
class DiskIdentity:
    """A disk as the kernel knows it: `kernel_device` is major << 20 | minor, as tracepoints print it."""

    name: str
    device: str
    node: str
    kernel_device: int
    size_bytes: int


def identify(name: str, device: str) -> DiskIdentity:
    """Look at the block device `device`; raises `NotFound`."""
    try:
        path = os.path.realpath(device)
        facts = os.stat(path)
        if not stat.S_ISBLK(facts.st_mode):
            raise NotFound(f"disk {name}: {device} is no block device", code="disk-missing")
        major, minor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        node = os.path.basename(os.path.realpath(f"/sys/dev/block/{major}:{minor}"))
        with open(f"/sys/class/block/{node}/size", encoding="ascii") as file:
            size_bytes = int(file.read()) * 512
    except OSError as error:
        raise NotFound(f"disk {name}: {device}: {error.strerror}", code="disk-missing") from error
    return DiskIdentity(name, path, node, major << 20 | minor, size_bytes)


def resized(disks: Iterable[DiskIdentity]) -> Optional[Reason]:
    """Return which disks have another size than when they were identified, or are gone; None when none has.

    The reason is `disk-grown` when they only grew, else `disk-exchanged`.
    """
    found, only_grown = [], True
    for disk in disks:
        try:
            with open(f"/sys/class/block/{disk.node}/size", encoding="ascii") as file:
                size_bytes = int(file.read()) * 512
        except (OSError, ValueError):
            size_bytes = 0
        if not size_bytes:
            found.append(f"disk {disk.name} ({disk.device}) is not there any more")
        elif size_bytes != disk.size_bytes:
            found.append(f"disk {disk.name} has {size_bytes} bytes now, had {disk.size_bytes}")
        only_grown = only_grown and size_bytes >= disk.size_bytes
    return reason("disk-grown" if only_grown else "disk-exchanged", "; ".join(found)) if found else None


class DiskReader:
    """Reads runs of chunks of one disk; may be used by several threads."""

    def __init__(self, disk: DiskIdentity, buffers: "BufferPool") -> None:
        self.disk = disk
        self._buffers = buffers
        self._descriptor = os.open(disk.device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)

    def pieces(self, runs: "Tuple[Run, ...]") -> Iterator[Piece]:
        """Read `runs` and yield their content in order, contiguous data up to 1 MiB in a piece. `DiskUnreadable`."""
        for first, count in runs:
            for start in range(first, first + count, BATCH_CHUNKS):
                yield from self._read(start, min(BATCH_CHUNKS, first + count - start))

    def close(self) -> None:
        """Close the disk."""
        os.close(self._descriptor)

    def _read(self, first: int, count: int) -> Iterator[Piece]:
        offset = first * CHUNK_BYTES
        length = min(count * CHUNK_BYTES, self.disk.size_bytes - offset)
        with self._buffers.lent() as buffer:
            self._fill(buffer, offset, length)
            position = 0
            while position < length:
                end, zeros = _extent(buffer, position, length)
                yield offset + position, end - position, None if zeros else buffer[position:end]
                position = end

    def _fill(self, buffer: mmap.mmap, offset: int, length: int) -> None:
        view = memoryview(buffer)
        done = 0
        try:
            while done < length:
                got = os.preadv(self._descriptor, [view[done:length]], offset + done)
                if got == 0:
                    raise DiskUnreadable(f"disk {self.disk.name} ends before its {self.disk.size_bytes} bytes")
                done += got
        except OSError as error:
            where = f"at byte {offset + done}"
            raise DiskUnreadable(f"disk {self.disk.name} cannot be read {where}: {error.strerror}") from error
        finally:
            view.release()


class BufferPool:
    """A fixed number of aligned buffers of one batch each; a borrower waits for a free one."""

    def __init__(self, count: int = BUFFERS) -> None:
        self._free: "queue.SimpleQueue[mmap.mmap]" = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(mmap.mmap(-1, BATCH_CHUNKS * CHUNK_BYTES))

    def lent(self) -> "_Lent":
        """Lend a buffer for the time of a `with` statement."""
        return _Lent(self._free)


class _Lent:
    def __init__(self, free: "queue.SimpleQueue[mmap.mmap]") -> None:
        self._free = free

    def __enter__(self) -> mmap.mmap:
        self._buffer = self._free.get()
        return self._buffer

    def __exit__(self, *_: object) -> None:
        self._free.put(self._buffer)


def _extent(buffer: mmap.mmap, start: int, length: int) -> Tuple[int, bool]:
    zeros = _is_zero(buffer, start, length)
    position = min(start + CHUNK_BYTES, length)
    bound = length if zeros else min(start + _RECORD_CHUNKS * CHUNK_BYTES, length)
    while position < bound and _is_zero(buffer, position, length) == zeros:
        position = min(position + CHUNK_BYTES, length)
    return position, zeros


def _is_zero(buffer: mmap.mmap, start: int, length: int) -> bool:
    # A copy, and still far faster than comparing through a memoryview.
    return not any_set(buffer[start : min(start + CHUNK_BYTES, length)])


def pack(writer: SegmentWriter, pieces: "Iterator[Piece] | List[Piece]", *, leave_out_zeros: bool) -> SegmentWriter:
    """Add `pieces` to `writer` as records."""
    for offset, length, content in pieces:
        if content is not None:
            writer.data(offset, content)
        elif not leave_out_zeros:
            writer.zero(offset, length)
    return writer
