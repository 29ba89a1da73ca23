"""What a resync leaves out: chunks whose content the replica holds already, told by their digests.

Rules kept here:
- Digests are of use only once everything that was sent before the resync is stored: a segment that is still in a
  process server's spool would change a chunk after it was found equal. `Replication` waits for that position, and the
  process server refuses to answer before it.
- A chunk that is compared has been taken from UNREAD, and nothing newer of it was sent: its digest stands still.
- Without an answer everything is sent. That costs network, never data.
"""

from __future__ import annotations

import threading
from base64 import b64decode
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from agent import log
from agent.chunk_map import Run
from agent.disk import BATCH_CHUNKS, Piece
from agent.link import Link
from dr.chunk import CHUNK_BYTES, ENTRY_BYTES, ZERO, digest
from dr.errors import Unreachable
from dr.journal import MAX_RECORD_BYTES

WINDOW_CHUNKS = 4096  # what a process server answers at most: 256 MiB of disk in 64 KiB
WINDOWS = 4
ASK_SECONDS = 30.0

Entries = Callable[[int], Optional[bytes]]
"""The replica's digest of a chunk; None when it is not known."""


class Digests:
    """Asks a process server for windows of digests and keeps the last few; for several threads."""

    def __init__(self, server: str, link: Callable[[], Link], without: str) -> None:
        """Without an answer `without` is what happens, for the log."""
        self._without = without
        self._path = f"/v1/servers/{server}/digests"
        self._link = link
        self._lock = threading.Lock()
        self._windows: Dict[Tuple[str, str, int], bytes] = {}
        self._asking = ""
        self.answered = True

    def as_of(self, writer_epoch: int, stored: int) -> None:
        """Ask from now on for digests of this writer with everything up to `stored`; never waits."""
        self._asking = f"writer_epoch={writer_epoch}&stored={stored}"

    def entries(self, disk: str, runs: Iterable[Run]) -> Entries:
        """Return the entries of the chunks in `runs`."""
        known: Dict[int, bytes] = {}
        for first, count in runs:
            for window in range(first // WINDOW_CHUNKS, (first + count - 1) // WINDOW_CHUNKS + 1):
                if window not in known:
                    known[window] = self._window(disk, window)

        def entry(chunk: int) -> Optional[bytes]:
            window, place = divmod(chunk, WINDOW_CHUNKS)
            found = known[window][place * ENTRY_BYTES : (place + 1) * ENTRY_BYTES]
            return found if len(found) == ENTRY_BYTES else None

        return entry

    def _window(self, disk: str, window: int) -> bytes:
        with self._lock:
            key = (self._asking, disk, window)
            kept = self._windows.get(key)
            if kept is not None:
                return kept
            found = self._ask(*key)
            self.answered = bool(found)
            if found:
                while len(self._windows) >= WINDOWS:
                    del self._windows[next(iter(self._windows))]
                self._windows[key] = found
            return found

    def _ask(self, asking: str, disk: str, window: int) -> bytes:
        path = f"{self._path}/{disk}?first={window * WINDOW_CHUNKS}&count={WINDOW_CHUNKS}&{asking}"
        try:
            answer = self._link().request("GET", path, seconds=ASK_SECONDS)
            if answer.ok:
                return b64decode(str(answer.body["entries"]), validate=True)
            why = f"{answer.code}: {answer.message}"
        except (Unreachable, KeyError, ValueError) as error:
            why = str(error)
        if self.answered:
            log.say(f"no digests, {self._without}: {why}")
        return b""


def differing(pieces: Iterable[Piece], entry: Entries) -> Iterator[Piece]:
    """Yield of `pieces` what differs from the replica, neighbours joined up to a record's size."""
    joined: List[Piece] = []
    for piece in pieces:
        for part in _chunks(piece):
            if _holds(part, entry):
                continue
            if joined and not _joins(joined, part):
                yield _join(joined)
                joined = []
            joined.append(part)
    if joined:
        yield _join(joined)


def unequal_chunks(pieces: Iterable[Piece], entry: Entries) -> Optional[List[int]]:
    """Return the chunks of `pieces` whose content is not the replica's; None when a digest could not be had."""
    unequal: List[int] = []
    for piece in pieces:
        for part in _chunks(piece):
            chunk = part[0] // CHUNK_BYTES
            if entry(chunk) is None:
                return None
            if not _holds(part, entry):
                unequal.append(chunk)
    return unequal


def _chunks(piece: Piece) -> Iterator[Piece]:
    offset, length, content = piece
    for start in range(0, length, CHUNK_BYTES):
        end = min(start + CHUNK_BYTES, length)
        yield offset + start, end - start, None if content is None else content[start:end]


def _holds(part: Piece, entry: Entries) -> bool:
    offset, _, content = part
    return entry(offset // CHUNK_BYTES) == (ZERO if content is None else digest(content))


def _joins(joined: List[Piece], part: Piece) -> bool:
    first, (offset, length, content) = joined[0], joined[-1]
    if offset + length != part[0] or (content is None) != (part[2] is None):
        return False
    limit = BATCH_CHUNKS * CHUNK_BYTES if content is None else MAX_RECORD_BYTES
    return part[0] + part[1] - first[0] <= limit


def _join(joined: List[Piece]) -> Piece:
    length = joined[-1][0] + joined[-1][1] - joined[0][0]
    contents = [content for _, _, content in joined if content is not None]
    return joined[0][0], length, b"".join(contents) if contents else None
