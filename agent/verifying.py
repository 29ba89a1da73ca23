"""The verification pass: disks and replica are compared while replication goes on; what differs is *drift*.

    a chunk that is CLEAN ── read, and compared by digest ──> equal: verified
                                    │ differs
                                    v
                             suspect for SETTLE_SECONDS ── a witness tells of a write ──> left to replication
                                    │ nobody does, and it differs again
                                    v
                             drift: named in the status, and sent

Rules kept here:
- One look proves nothing: a write is on the disk before its completion is told. A suspect waits longer than any
  witness takes to be heard, so that a second difference is one that tracking did not see.
- Chunks that are being replicated are left out and looked at again in later sweeps. What was never quiet, or could not
  be read, is missing in `compared_bytes`.
- Reading takes a quarter of the time at most, so that the server hardly notices.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

from agent import log
from agent.chunk_map import CLEAN, ChunkMap, Run
from agent.comparing import Digests, unequal_chunks
from agent.config import SETTLE_SECONDS
from agent.disk import DiskReader, DiskUnreadable
from dr.chunk import CHUNK_BYTES

LOOK_CHUNKS = 1024  # 64 MiB: one question for digests, well under a second of reading
SWEEPS = 4
RESTS = 3  # times as long as the look before
RETRY_SECONDS = 5.0  # when the process server did not answer
NAMED_CHUNKS = 8


@dataclass(frozen=True)
class Look:
    """Chunks to be compared now; `again` when they are suspects."""

    disk: str
    runs: Tuple[Run, ...]
    again: bool


class Pass:
    """What is verified of all disks. Pure; the clock is the caller's, one thread owns it and the maps."""

    def __init__(self, identity: str, maps: Mapping[str, ChunkMap], settle_seconds: float = SETTLE_SECONDS) -> None:
        self.identity = identity
        self._maps = maps
        self._settle_seconds = settle_seconds
        self._todo: Deque[Tuple[str, int, int]] = deque((name, 0, chunks.chunks) for name, chunks in maps.items())
        self._later: List[Tuple[str, int, int]] = []
        self._sweep, self._sweep_at = 1, 0.0
        self._suspects: Dict[Tuple[str, int], float] = {}
        self._looking = 0
        self.total = sum(chunks.chunks for chunks in maps.values())
        self.compared = 0
        self.drift: List[Tuple[str, int]] = []
        self.unreadable = ""  # what a disk said last that could not be read

    @property
    def ended(self) -> bool:
        """Tell whether nothing is left to compare."""
        return not (self._todo or self._later or self._suspects or self._looking)

    def written(self, disk: str, first: int, last: int) -> None:
        """Note that a witness told of a write: what it touched is replication's business."""
        if self._suspects:
            for suspect in [each for each in self._suspects if each[0] == disk and first <= each[1] <= last]:
                self._postpone(suspect)

    def next(self, now: float) -> Optional[Look]:
        """Return what to look at, None when there is nothing now."""
        look = self._second_look(now) or self._first_look(now)
        if look is not None:
            self._looking += 1
        return look

    def looked(self, look: Look, unequal: Optional[List[int]], now: float) -> None:
        """Take in a look's result: the chunks that differ, or None when nothing could be compared."""
        self._looking -= 1
        if unequal is None:
            if not look.again:
                self._todo.extend((look.disk, first, count) for first, count in look.runs)
            return
        differ = set(unequal)
        for first, count in look.runs:
            for chunk in range(first, first + count):
                self._judge((look.disk, chunk), chunk in differ, look.again, now)

    def failed(self, look: Look, why: str) -> None:
        """Note that a disk cannot be read: what the look was for stays unverified."""
        self._looking -= 1
        self.unreadable = why
        for first, count in look.runs if look.again else ():
            for chunk in range(first, first + count):
                self._suspects.pop((look.disk, chunk), None)

    def _judge(self, chunk: Tuple[str, int], differs: bool, again: bool, now: float) -> None:
        disk, number = chunk
        if again and chunk not in self._suspects:
            return  # written meanwhile, and postponed by that
        if differs and self._maps[disk].state(number) != CLEAN:
            self._postpone(chunk)
        elif differs and not again:
            self._suspects[chunk] = now + self._settle_seconds
        else:
            self._suspects.pop(chunk, None)
            self.compared += 1
            if differs:
                self.drift.append(chunk)
                self._maps[disk].mark(number, number)

    def _postpone(self, chunk: Tuple[str, int]) -> None:
        self._suspects.pop(chunk, None)
        self._leave(chunk[0], chunk[1], 1)

    def _leave(self, disk: str, first: int, count: int) -> None:
        if self._sweep < SWEEPS:
            self._later.append((disk, first, count))

    def _second_look(self, now: float) -> Optional[Look]:
        due = [chunk for chunk, at in self._suspects.items() if at <= now][:LOOK_CHUNKS]
        chunks = sorted(number for disk, number in due if disk == due[0][0])
        return Look(due[0][0], tuple((number, 1) for number in chunks), again=True) if chunks else None

    def _first_look(self, now: float) -> Optional[Look]:
        while True:
            if not self._todo and self._later and now >= self._sweep_at:
                self._sweep += 1
                self._todo.extend(self._later)
                self._later.clear()
            if not self._todo:
                return None
            disk, runs = self._todo[0][0], []
            room = LOOK_CHUNKS
            while room and self._todo and self._todo[0][0] == disk:
                _, first, count = self._todo.popleft()
                taken = min(count, room)
                if taken < count:
                    self._todo.appendleft((disk, first + taken, count - taken))
                runs += self._clean(disk, first, taken)
                room -= taken
            self._sweep_at = now + self._settle_seconds
            if runs:
                return Look(disk, tuple(runs), again=False)

    def _clean(self, disk: str, first: int, count: int) -> List[Run]:
        """Return the CLEAN runs of a range, and leave the others for later."""
        clean: List[Run] = []
        start, chunks = first, self._maps[disk]
        while start < first + count:
            is_clean, end = chunks.state(start) == CLEAN, start + 1
            while end < first + count and (chunks.state(end) == CLEAN) == is_clean:
                end += 1
            if is_clean:
                clean.append((start, end - start))
            else:
                self._leave(disk, start, end - start)
            start = end
        return clean


class Verifier:
    """Runs passes: `step` in the thread that owns the maps, reading and comparing in a thread of its own."""

    def __init__(
        self,
        maps: Mapping[str, ChunkMap],
        readers: Mapping[str, DiskReader],
        digests: Digests,
        wake: Callable[[], None],
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._maps, self._readers, self._digests, self._wake = maps, readers, digests, wake
        self._settle_seconds = settle_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._job: "Optional[Tuple[Pass, Look, Future[Optional[List[int]]], float]]" = None
        self._next = 0.0
        self.running: Optional[Pass] = None
        self.document: Optional[Dict[str, Any]] = None

    def step(self, request: Optional[str], writer_epoch: int, stored: int) -> None:
        """Go on with the pass `request`; begin it if it is a new one. Call only while deltas are replicated."""
        now = time.monotonic()
        self._collect(now)
        told = self.document["request"] if self.document else None
        if self.running is None and request is not None and request != told:
            self.running = Pass(request, self._maps, self._settle_seconds)
            log.say("verification: disks and replica are compared")
            self._tell("running")
        if self.running is None or self._job is not None or now < self._next:
            return
        look = self.running.next(now)
        if look is not None:
            self._digests.as_of(writer_epoch, stored)
            future = self._thread.submit(self._compare, look)
            self._job = (self.running, look, future, now)
            future.add_done_callback(lambda _: self._wake())
        elif self.running.ended:
            self._end(self.running)

    def abandon(self) -> None:
        """Forget the pass: a resync compares everything, and after it the pass begins anew."""
        if self.running is not None:
            log.say("verification: given up, what it would compare is being read from end to end")
            self.running, self.document = None, None

    def close(self) -> None:
        """End the thread after its look."""
        self._thread.shutdown(wait=True)

    def _collect(self, now: float) -> None:
        if self._job is None or not self._job[2].done():
            return
        owner, look, future, begun = self._job
        self._job = None
        self._next = now + RESTS * (now - begun)
        try:
            unequal = future.result()
        except DiskUnreadable as error:
            owner.failed(look, error.message)
        else:
            owner.looked(look, unequal, now)
            if unequal is None:
                self._next = now + RETRY_SECONDS
        if owner is self.running:
            self._tell("running")

    def _compare(self, look: Look) -> Optional[List[int]]:
        pieces = self._readers[look.disk].pieces(look.runs)
        return unequal_chunks(pieces, self._digests.entries(look.disk, look.runs))

    def _end(self, done: Pass) -> None:
        named = ", ".join(f"{disk} at byte {chunk * CHUNK_BYTES}" for disk, chunk in done.drift[:NAMED_CHUNKS])
        log.say(f"verification: ended, {len(done.drift)} chunks differed{': ' + named if named else ''}")
        self._tell("ended")
        self.running = None

    def _tell(self, state: str) -> None:
        done = self.running
        assert done is not None
        self.document = {
            "request": done.identity,
            "state": state,
            "total_bytes": done.total * CHUNK_BYTES,
            "compared_bytes": done.compared * CHUNK_BYTES,
            "drift_bytes": len(done.drift) * CHUNK_BYTES,
            "unreadable": done.unreadable or None,
            "drift": [{"disk": disk, "offset": chunk * CHUNK_BYTES} for disk, chunk in done.drift[:NAMED_CHUNKS]],
        }
