"""The chunk map: one byte for each 64 KiB of a disk, in a mapped file that survives the agent.

    0 CLEAN    the store holds it            1 DIRTY   changed and not yet read
    2 SENT     read, not known to be stored  3 UNREAD  not yet read by an initial replication or resync
    4 DUE      changed, and to be read in this round

| from \\ event | mark   | a round begins | take, to be read | stored, its newest reading | agent, writer restarts |
| ------------ | ------ | -------------- | ---------------- | ------------------------ | ---------------------- |
| CLEAN        | DIRTY  |                |                  |                            |                        |
| DIRTY        | DIRTY  | DUE            |                  |                            |                        |
| DUE          | DUE    |                | SENT             |                            | DIRTY                  |
| SENT         | DIRTY  |                |                  | CLEAN                      | DIRTY                  |
| UNREAD       | UNREAD |                | SENT             |                            |                        |

Rules kept here:
- A chunk becomes SENT *before* it is read: a write that lands during the reading makes it DIRTY again.
- What is marked during a round waits for the next one: two witnesses tell of a write at different times, and a chunk
  that was taken between the two would be sent twice.
- Only one thread changes a map.
"""

from __future__ import annotations

import mmap
import os
from typing import List, Tuple, Union

from dr.chunk import CHUNK_BYTES

CHUNK_SECTORS = CHUNK_BYTES // 512

CLEAN, DIRTY, SENT, UNREAD, DUE = 0, 1, 2, 3, 4

_SLICE = 1 << 20
_UNKNOWN = bytes([UNREAD]) * 251
_MARK = bytes([DIRTY, DIRTY, DIRTY, UNREAD, DUE]) + _UNKNOWN
_AGAIN = bytes([CLEAN, DIRTY, DIRTY, UNREAD, DIRTY]) + _UNKNOWN
_CHOSEN = bytes([CLEAN, DUE, SENT, UNREAD, DUE]) + _UNKNOWN

Run = Tuple[int, int]
"""First chunk and number of chunks."""


class ChunkMap:
    """States of the chunks of one disk, over any writable buffer (a mapped file, or a bytearray in tests)."""

    def __init__(self, buffer: Union[mmap.mmap, bytearray]) -> None:
        self._states = buffer
        self.chunks = len(buffer)

    def mark(self, first: int, last: int) -> None:
        """Note that chunks `first` to `last` (inclusive) changed; what lies behind the disk's end is left out."""
        states = self._states
        if first == last and last < self.chunks:
            if states[first] == CLEAN or states[first] == SENT:
                states[first] = DIRTY
            return
        stop = min(last + 1, self.chunks)
        for start in range(first, stop, _SLICE):
            end = min(start + _SLICE, stop)
            states[start:end] = bytes(states[start:end]).translate(_MARK)

    def choose(self) -> None:
        """Make every DIRTY chunk DUE: a round begins."""
        for start in range(0, self.chunks, _SLICE):
            part = bytes(self._states[start : start + _SLICE])
            if DIRTY in part:
                self._states[start : start + _SLICE] = part.translate(_CHOSEN)

    def take(self, state: int, cursor: int, limit: int) -> Tuple[List[Run], int]:
        """Turn up to `limit` chunks of `state` at or after `cursor` into SENT; return their runs and the next cursor.

        An empty list says that there is none up to the disk's end.
        """
        states, wanted = self._states, bytes([state])
        runs: List[Run] = []
        while limit > 0:
            first = states.find(wanted, cursor)
            if first < 0:
                return runs, self.chunks
            stop, bound = first + 1, min(first + limit, self.chunks)
            while stop < bound and states[stop] == state:
                stop += 1
            states[first:stop] = bytes([SENT]) * (stop - first)
            runs.append((first, stop - first))
            limit -= stop - first
            cursor = stop
        return runs, cursor

    def settle(self, chunk: int) -> None:
        """Make `chunk` CLEAN unless it changed since it was read."""
        if self._states[chunk] == SENT:
            self._states[chunk] = CLEAN

    def put_back(self, chunk: int) -> None:
        """Make `chunk` DIRTY if it is SENT: its reading came to nothing."""
        if self._states[chunk] == SENT:
            self._states[chunk] = DIRTY

    def send_again(self) -> None:
        """Make every SENT chunk DIRTY: nobody knows any more whether it is stored. The round is over."""
        for start in range(0, self.chunks, _SLICE):
            part = bytes(self._states[start : start + _SLICE])
            if SENT in part or DUE in part:
                self._states[start : start + _SLICE] = part.translate(_AGAIN)

    def forget_all(self) -> None:
        """Make every chunk UNREAD: a resync begins."""
        for start in range(0, self.chunks, _SLICE):
            end = min(start + _SLICE, self.chunks)
            self._states[start:end] = bytes([UNREAD]) * (end - start)

    def count(self, state: int) -> int:
        """Count the chunks of `state`."""
        wanted = bytes([state])
        starts = range(0, self.chunks, _SLICE)
        return sum(bytes(self._states[start : start + _SLICE]).count(wanted) for start in starts)

    def any(self, state: int) -> bool:
        """Tell whether any chunk is in `state`."""
        return self._states.find(bytes([state])) >= 0

    @property
    def sound(self) -> bool:
        """Tell whether every byte is a state: a chunk in any other would never be read again."""
        known = bytes((CLEAN, DIRTY, SENT, UNREAD, DUE))
        starts = range(0, self.chunks, _SLICE)
        return not any(bytes(self._states[start : start + _SLICE]).translate(None, known) for start in starts)

    def state(self, chunk: int) -> int:
        """Return the state of `chunk`."""
        return self._states[chunk]


def chunks_of(disk_bytes: int) -> int:
    """Count the chunks of a disk; the last one may be shorter."""
    return -(-disk_bytes // CHUNK_BYTES)


def map_file(path: str, disk_bytes: int, *, create: bool) -> ChunkMap:
    """Map the file of a disk's chunk states; a created one says UNREAD everywhere.

    Raises `FileNotFoundError`, and `ValueError` when an existing file is damaged or of a disk of another size.
    """
    size = chunks_of(disk_bytes)
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if create:
            os.posix_fallocate(descriptor, 0, size)  # now, by name: a full tmpfs would kill at the first store
        elif os.fstat(descriptor).st_size != size:
            raise ValueError(f"{path} is not the map of a disk of {disk_bytes} bytes")
        states = ChunkMap(mmap.mmap(descriptor, size))
    finally:
        os.close(descriptor)
    if create:
        states.forget_all()
    elif not states.sound:
        raise ValueError(f"{path} holds states that there are not")
    return states
