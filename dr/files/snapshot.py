"""One disk of a recovery point as a stream: only the ranges that are asked for are read, and each is proved.

Reads go by pieces of 256 KiB (a metadata block costs one) or 4 MiB (content that is read on), and a few are kept. Every
chunk is compared with the digest that belongs to the point: what is not what was cut is never handed out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from dissect.util.stream import AlignedStream

from dr.chunk import CHUNK_BYTES, ENTRY_BYTES, UNKNOWN, digest
from dr.compile import names
from dr.errors import Corrupt
from dr.vault.manifest import DiskPoint
from dr.vault.store import PAGE, BlobStore

PIECE_BYTES = 256 << 10
STREAK_BYTES = 4 << 20
KEPT_PIECES = 256
_DIGESTS_BYTES = 4096  # of 256 chunks, 16 MiB of disk


@dataclass(slots=True)
class Traffic:
    """What was read from the store, for all disks of one command."""

    requests: int = 0
    content_bytes: int = 0
    digest_bytes: int = 0


class SnapshotStream(AlignedStream):  # type: ignore[misc]  # dissect publishes no types
    """A disk's content at its point. Reading raises `Corrupt` `point-corrupt`, `Unreachable`, `NotFound`."""

    def __init__(self, store: BlobStore, disk: DiskPoint, traffic: Traffic) -> None:
        super().__init__(disk.size_bytes, align=PAGE)
        self._store, self._disk, self.traffic = store, disk, traffic
        self._pieces: OrderedDict[int, bytes] = OrderedDict()
        self._digests: dict[int, bytes] = {}
        self._expected = -1  # where the next read begins if content is read on

    def _read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self._disk.size_bytes)
        found = bytearray()
        while offset < end:
            start = offset - offset % PIECE_BYTES
            piece = self._piece(start, end)
            part = piece[offset - start : end - start]
            found += part
            offset += len(part)
        return bytes(found)

    def _piece(self, start: int, wanted_end: int) -> bytes:
        kept = self._pieces.get(start)
        if kept is None:
            self._fetch(start, wanted_end)
            kept = self._pieces[start]
        self._pieces.move_to_end(start)
        return kept

    def _fetch(self, start: int, wanted_end: int) -> None:
        length = PIECE_BYTES
        if start == self._expected or wanted_end - start > PIECE_BYTES:
            length = STREAK_BYTES
        length = min(length, self._disk.size_bytes - start)
        self._expected = start + length
        data = self._store.read(names.REPLICAS, self._disk.blob, start, length, snapshot=self._disk.snapshot)
        self.traffic.requests += 1
        self.traffic.content_bytes += length
        for at in range(0, length, CHUNK_BYTES):
            self._prove(start + at, data[at : at + CHUNK_BYTES])
        for at in range(0, length, PIECE_BYTES):
            self._pieces[start + at] = data[at : at + PIECE_BYTES]
        while len(self._pieces) > KEPT_PIECES:
            self._pieces.popitem(last=False)

    def _prove(self, offset: int, content: bytes) -> None:
        entry = self._entry(offset // CHUNK_BYTES)
        if entry == UNKNOWN or entry != digest(content):
            raise Corrupt(
                f"disk {self._disk.name}: the {len(content)} bytes at {offset} are not what was cut",
                code="point-corrupt",
                remedy="use another point, and find out who changed the storage account",
            )

    def _entry(self, chunk: int) -> bytes:
        page, at = divmod(chunk * ENTRY_BYTES, _DIGESTS_BYTES)
        held = self._digests.get(page)
        if held is None:
            blob, snapshot = self._disk.digests_blob, self._disk.digests_snapshot
            chunks = -(-self._disk.size_bytes // CHUNK_BYTES)
            size = -(-chunks * ENTRY_BYTES // PAGE) * PAGE
            start = page * _DIGESTS_BYTES
            length = min(_DIGESTS_BYTES, size - start)
            held = self._store.read(names.REPLICAS, blob, start, length, snapshot=snapshot)
            self._digests[page] = held
            self.traffic.requests += 1
            self.traffic.digest_bytes += length
        return held[at : at + ENTRY_BYTES]
