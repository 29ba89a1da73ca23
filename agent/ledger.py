"""The ledger of what was read and sent but is not known to be stored (pure).

A *batch* is a set of chunks of one disk that were taken together; it becomes one segment of the stream, or none when
all of it may be left out. The ledger decides when a chunk may be forgotten.

Rules kept here:
- The newest reading of a chunk is fixed when it is *taken*, not when it is sent: an older segment that is stored
  while a newer reading is still being packed must not make the chunk clean, or a crash would lose the change.
- A chunk that was taken UNREAD has no older segment on its way (a resync clears the ledger first), so only chunks
  taken DUE cost memory, and `MAX_RESENT_CHUNKS` bounds them: past it the marks simply stay in the map.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict, List, Mapping, Tuple

from agent.chunk_map import DUE, ChunkMap, Run

MAX_RESENT_CHUNKS = 131072


@dataclass(frozen=True)
class Batch:
    """Chunks of `disk` that were taken together, from `state` (DUE or UNREAD)."""

    number: int
    disk: str
    state: int
    runs: Tuple[Run, ...]


class Ledger:
    """Pairs batches with sequences; `assign` may be called by the sending thread, all else by the map's owner."""

    def __init__(self, maps: Mapping[str, ChunkMap]) -> None:
        self._maps = maps
        self._newest: Dict[str, Dict[int, int]] = {disk: {} for disk in maps}
        self._sent: Deque[Tuple[int, Batch]] = deque()
        self._number = 0
        self._void = 0

    def take(self, disk: str, state: int, cursor: int, limit: int) -> "Tuple[Batch | None, int]":
        """Take up to `limit` chunks of `state` from `cursor` on; return the batch, if any, and cursor."""
        runs, cursor = self._maps[disk].take(state, cursor, limit)
        if not runs:
            return None, cursor
        self._number += 1
        batch = Batch(self._number, disk, state, tuple(runs))
        if state == DUE:
            newest = self._newest[disk]
            for first, count in runs:
                for chunk in range(first, first + count):
                    newest[chunk] = batch.number
        return batch, cursor

    def assign(self, batch: Batch, sequence: int) -> None:
        """Note that `batch` is sent as segment `sequence`; sequences ascend."""
        self._sent.append((sequence, batch))

    def stored(self, sequence: int) -> None:
        """Forget what all segments up to `sequence` hold, where it is still the newest reading."""
        while self._sent and self._sent[0][0] <= sequence:
            self.settle(self._sent.popleft()[1])

    def settle(self, batch: Batch) -> None:
        """Forget a batch that is stored, or that needs no segment."""
        if batch.number <= self._void:
            return
        chunks, newest = self._maps[batch.disk], self._newest[batch.disk]
        for first, count in batch.runs:
            for chunk in range(first, first + count):
                reading = newest.get(chunk, batch.number)
                if reading == batch.number:
                    chunks.settle(chunk)
                    newest.pop(chunk, None)

    def put_back(self, batch: Batch) -> None:
        """Mark again what could not be read."""
        chunks, newest = self._maps[batch.disk], self._newest[batch.disk]
        for first, count in batch.runs:
            for chunk in range(first, first + count):
                if newest.get(chunk, batch.number) == batch.number:
                    chunks.put_back(chunk)

    def start_over(self) -> None:
        """Mark again everything that is not known to be stored: agent or writer restarted."""
        self.clear()
        for chunks in self._maps.values():
            chunks.send_again()

    def clear(self) -> None:
        """Forget every reading; acknowledgements of those that are still on their way change nothing."""
        self._void = self._number
        self._sent.clear()
        for newest in self._newest.values():
            newest.clear()

    @property
    def has_room(self) -> bool:
        """Tell whether more changed chunks may be taken."""
        return sum(len(newest) for newest in self._newest.values()) < MAX_RESENT_CHUNKS

    def waiting(self) -> List[int]:
        """Return the sequences that are not known to be stored."""
        return [sequence for sequence, _ in self._sent]
