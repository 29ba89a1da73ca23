"""Planning of one batch of writes: which chunks change, to what, in which requests. Pure.

Rules:
- A write covers whole chunks; only the one that ends with the disk may end inside a chunk.
- Later writes of a batch win over earlier ones.
- A chunk whose entry already says exactly this content needs no request: the entry never claims more than is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dr.errors import Refused
from dr.vault.digests import CHUNK_BYTES, DigestTable, any_set, digest
from dr.vault.store import MAX_PAGES_WRITE


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A disk as its server sees it."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Write:
    """New content of `length` bytes at `offset` of a disk; `payload` None means zeros."""

    disk: str
    offset: int
    payload: bytes | None
    length: int


@dataclass(frozen=True, slots=True)
class Change:
    """One chunk's new content (None: zeros) and its entry in the digest table."""

    content: bytes | None
    entry: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """One request: write `data` at `offset`, or clear `length` bytes when `data` is None."""

    offset: int
    length: int
    data: bytes | None


def plan_batch(writes: Iterable[Write], tables: Mapping[str, DigestTable]) -> dict[str, dict[int, Change]]:
    """Return for each disk the chunks that must change. `Refused` `unaligned`, `out-of-range` or `unknown-disk`."""
    contents: dict[str, dict[int, bytes | None]] = {}
    for write in writes:
        table = tables.get(write.disk)
        if table is None:
            raise Refused(f'the replica has no disk "{write.disk}"', code="unknown-disk")
        _check(write, table.size_bytes)
        contents.setdefault(write.disk, {}).update(_split(write))
    return {disk: _changes(chunks, tables[disk]) for disk, chunks in contents.items()}


def extents(changes: Mapping[int, Change], size_bytes: int) -> list[Extent]:
    """Return the requests that store `changes`, neighbours joined (data up to 4 MiB)."""
    result: list[Extent] = []
    run: list[int] = []
    for chunk in sorted(changes):
        if run and not _joins(changes, run, chunk):
            result.append(_extent(changes, run, size_bytes))
            run = []
        run.append(chunk)
    if run:
        result.append(_extent(changes, run, size_bytes))
    return result


def _check(write: Write, size_bytes: int) -> None:
    where = f"write of {write.length} bytes at {write.offset} of disk {write.disk}"
    end = write.offset + write.length
    if write.offset < 0 or write.length <= 0 or end > size_bytes:
        raise Refused(f"{where} is outside of its {size_bytes} bytes", code="out-of-range")
    if write.offset % CHUNK_BYTES or (write.length % CHUNK_BYTES and end != size_bytes):
        raise Refused(f"{where} does not cover whole chunks of {CHUNK_BYTES} bytes", code="unaligned")
    if write.payload is not None and len(write.payload) != write.length:
        raise Refused(f"{where} carries {len(write.payload)} bytes", code="unaligned")


def _split(write: Write) -> Iterator[tuple[int, bytes | None]]:
    first = write.offset // CHUNK_BYTES
    for index, start in enumerate(range(0, write.length, CHUNK_BYTES)):
        piece = None if write.payload is None else write.payload[start : start + CHUNK_BYTES]
        yield first + index, piece if piece is not None and any_set(piece) else None


def _changes(contents: Mapping[int, bytes | None], table: DigestTable) -> dict[int, Change]:
    result = {}
    for chunk, content in contents.items():
        entry = digest(content)
        if table.entry(chunk) != entry:
            result[chunk] = Change(content, entry)
    return result


def _joins(changes: Mapping[int, Change], run: Sequence[int], chunk: int) -> bool:
    if chunk != run[-1] + 1 or (changes[chunk].content is None) != (changes[run[-1]].content is None):
        return False
    return changes[chunk].content is None or len(run) < MAX_PAGES_WRITE // CHUNK_BYTES


def _extent(changes: Mapping[int, Change], run: Sequence[int], size_bytes: int) -> Extent:
    offset = run[0] * CHUNK_BYTES
    if changes[run[0]].content is None:
        return Extent(offset, min((run[-1] + 1) * CHUNK_BYTES, size_bytes) - offset, None)
    data = b"".join(content for chunk in run if (content := changes[chunk].content) is not None)
    return Extent(offset, len(data), data)
