"""A scripted agent: makes segments and knows what the disks must be like in the end."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from dr.compile import names
from dr.journal import SegmentHeader, SegmentKind, SegmentWriter
from dr.process_server.stream import Stream
from dr.vault.batch import DiskSpec
from dr.vault.store import BlobStore

CHUNK = 64 << 10
SERVER = "shop1"
CHUNKS = 16


def data_segment(epoch: int, sequence: int, disk: str, contents: dict[int, bytes | None]) -> bytes:
    """Return a segment with whole chunks by index; None is zeros."""
    writer = SegmentWriter(SegmentHeader(epoch, sequence, disk, SegmentKind.DATA))
    for chunk in sorted(contents):
        content = contents[chunk]
        if content is None:
            writer.zero(chunk * CHUNK, CHUNK)
        else:
            writer.data(chunk * CHUNK, content)
    return writer.finish()


def cut_segment(epoch: int, sequence: int, number: int, kind: str = "crash-consistent", **more: object) -> bytes:
    writer = SegmentWriter(SegmentHeader(epoch, sequence, "", SegmentKind.CUT))
    told: dict[str, object] = {"number": number, "kind": kind, "cut_time": "2026-01-02T03:04:05.000Z"}
    writer.cut({**told, **more})
    return writer.finish()


def content_of(tag: str) -> bytes:
    """Return one chunk that LZ4 can't shrink and that is found again by its start."""
    return random.Random(tag).randbytes(CHUNK)


def stream(epoch: int = 1, disks: tuple[str, ...] = ("os", "data")) -> Stream:
    return Stream(epoch, tuple(DiskSpec(name, CHUNKS * CHUNK) for name in disks), {"firmware": "bios"})


@dataclass
class Disks:
    """What the replica must hold once everything received is stored."""

    expected: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def segment(self, epoch: int, sequence: int, disk: str, chunks: list[int]) -> bytes:
        contents: dict[int, bytes | None] = {c: content_of(f"{epoch}/{sequence}/{disk}/{c}") for c in chunks}
        for chunk, content in contents.items():
            assert content is not None
            self.expected[disk, chunk] = content
        return data_segment(epoch, sequence, disk, contents)

    def differences(self, store: BlobStore, server: str = SERVER) -> list[tuple[str, int]]:
        return [
            (disk, chunk)
            for (disk, chunk), content in sorted(self.expected.items())
            if _sum(store.read(names.REPLICAS, names.replica_blob(server, disk), chunk * CHUNK, CHUNK)) != _sum(content)
        ]


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
