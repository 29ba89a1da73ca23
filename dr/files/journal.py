"""An ext4 journal replayed in memory: what a mount would write first, laid over the disk as it was cut. Pure.

Format: the kernel's `jbd2` (Documentation/filesystems/ext4/journal.rst), big-endian. Only whole transactions count,
from the log's start on, as long as the sequence goes on; a block that a later transaction revokes is not written. Of a
crash-consistent point a commit block is proof of its transaction: the kernel writes it behind a flush.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from dissect.util.stream import AlignedStream

from dr.errors import Corrupt

MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_WIDE, _CSUM2, _CSUM3, _FAST = 0x2, 0x8, 0x10, 0x20
_HEADER = struct.Struct(">III")
_MOST_BLOCKS = 1 << 20  # of one journal: 4 GiB, more than any that mke2fs makes


class FastCommits(Exception):
    """The journal has fast commits, which this does not know."""


@dataclass(slots=True)
class _Transaction:
    blocks: list[tuple[int, int, bool]] = field(default_factory=list)  # (block, place in the journal, escaped)
    revoked: list[int] = field(default_factory=list)


def replayed(journal: BinaryIO, block_bytes: int) -> Mapping[int, bytes]:
    """Return block number to content of all that the journal holds and the disk may lack; empty when it is clean.

    `Corrupt` `journal-invalid`, `FastCommits`.
    """
    journal.seek(0)
    head = journal.read(256)
    if len(head) < 256 or _HEADER.unpack_from(head)[0] != MAGIC:
        raise _invalid("it does not begin as one")
    size, count, first, sequence, start = struct.unpack_from(">IIIII", head, 12)
    features = struct.unpack_from(">I", head, 40)[0] if _HEADER.unpack_from(head)[1] == 4 else 0
    if size != block_bytes or not 0 < first < count <= _MOST_BLOCKS or start >= count:
        raise _invalid(f"{count} blocks of {size} bytes, from {first}, log from {start}")
    if start == 0:
        return {}
    if features & _FAST:
        raise FastCommits
    log = _Log(journal, block_bytes, first, count, start, features)
    return log.replay(sequence)


class _Log:
    def __init__(self, journal: BinaryIO, size: int, first: int, count: int, start: int, features: int) -> None:
        self._journal, self._size, self._first, self._count = journal, size, first, count
        self._start, self._features = start, features

    def replay(self, sequence: int) -> dict[int, bytes]:
        done = list(self._transactions(sequence))
        revoked: dict[int, int] = {}
        for number, transaction in done:
            revoked.update(dict.fromkeys(transaction.revoked, number))
        latest: dict[int, tuple[int, bool]] = {}
        for number, transaction in done:
            for block, place, escaped in transaction.blocks:
                if number > revoked.get(block, -1):
                    latest[block] = place, escaped
        return {block: self._content(*where) for block, where in latest.items()}

    def _transactions(self, sequence: int) -> Iterator[tuple[int, _Transaction]]:
        """Yield every whole transaction with its place in the order."""
        at, number, passed, open_one = self._start, 0, 0, _Transaction()
        while passed < self._count:
            block = self._block(at)
            magic, kind, found = _HEADER.unpack_from(block)
            if magic != MAGIC or found != sequence:
                return
            after = self._next(at)
            passed += 1
            if kind == _DESCRIPTOR:
                for target, flags in self._tags(block):
                    open_one.blocks.append((target, after, bool(flags & _ESCAPED)))
                    after = self._next(after)
                    passed += 1
            elif kind == _REVOKE:
                open_one.revoked += self._revoked(block)
            elif kind == _COMMIT:
                yield number, open_one
                number, sequence, open_one = number + 1, (sequence + 1) & 0xFFFFFFFF, _Transaction()
            else:
                return
            at = after

    def _tags(self, block: bytes) -> Iterator[tuple[int, int]]:
        csum3, wide = self._features & _CSUM3, self._features & _WIDE
        length = 16 if csum3 else 12 + (2 if self._features & _CSUM2 else 0) - (0 if wide else 4)
        end = self._size - (4 if self._features & (_CSUM2 | _CSUM3) else 0)
        at = _HEADER.size
        while at + length <= end:
            low, flags = struct.unpack_from(">II" if csum3 else ">IxxH", block, at)
            high = struct.unpack_from(">I", block, at + 8)[0] if wide else 0
            yield high << 32 | low, flags
            if flags & _LAST:
                return
            at += length + (0 if flags & _SAME_UUID else 16)

    def _revoked(self, block: bytes) -> list[int]:
        form = ">Q" if self._features & _WIDE else ">I"
        used = min(struct.unpack_from(">I", block, 12)[0], self._size)
        step = struct.calcsize(form)
        return [struct.unpack_from(form, block, at)[0] for at in range(16, used - step + 1, step)]

    def _content(self, place: int, escaped: bool) -> bytes:
        content = self._block(place)
        return struct.pack(">I", MAGIC) + content[4:] if escaped else content

    def _block(self, number: int) -> bytes:
        self._journal.seek(number * self._size)
        content = self._journal.read(self._size)
        if len(content) != self._size:
            raise _invalid(f"block {number} is beyond its end")
        return content

    def _next(self, number: int) -> int:
        return number + 1 if number + 1 < self._count else self._first


class Overlaid(AlignedStream):  # type: ignore[misc]  # dissect publishes no types
    """A file system's device with some blocks replaced."""

    def __init__(self, below: BinaryIO, size: int, block_bytes: int, blocks: Mapping[int, bytes]) -> None:
        super().__init__(size, align=block_bytes)
        self._below, self._block_bytes, self._blocks = below, block_bytes, blocks

    def _read(self, offset: int, length: int) -> bytes:
        self._below.seek(offset)
        content = bytearray(self._below.read(min(length, self.size - offset)))
        first = offset // self._block_bytes
        for block in range(first, -(-(offset + len(content)) // self._block_bytes)):
            held = self._blocks.get(block)
            if held is not None:
                at = block * self._block_bytes - offset
                content[at : at + len(held)] = held
        return bytes(content)


def _invalid(why: str) -> Corrupt:
    return Corrupt(f"the file system's journal cannot be read: {why}", code="journal-invalid")
