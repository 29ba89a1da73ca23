"""Proof of a recovery point: its content against its digests, its digests against the manifest's Merkle root.

Reads only what the snapshots hold (page ranges); chunks without pages are zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dr.compile import names
from dr.errors import Corrupt
from dr.vault import vhd
from dr.vault.digests import CHUNK_BYTES, UNKNOWN, ZERO, DigestTable, digest, table_blob_size
from dr.vault.manifest import DiskPoint, Manifest
from dr.vault.opening import read_ranges
from dr.vault.store import BlobStore

_THREADS = 8
_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place whose content is not what the point says; `length` 0: the whole disk's digests."""

    disk: str
    offset: int
    length: int
    cause: str  # "content", "unknown digest", "merkle root", "padding", "footer"


def verify_point(store: BlobStore, manifest: Manifest) -> list[Mismatch]:
    """Compare every chunk of the point's snapshots; an empty list means that all is as it was cut.

    Errors: `NotFound` when a snapshot is gone, `Unreachable`.
    """
    return [mismatch for disk in manifest.disks for mismatch in _verify_disk(store, disk)]


def _verify_disk(store: BlobStore, disk: DiskPoint) -> Iterator[Mismatch]:
    table = _table(store, disk)
    if table.merkle_root() != disk.merkle_root:
        yield Mismatch(disk.name, 0, 0, "merkle root")
    pieces = _pieces_with_pages(store, disk)

    def check(start: int) -> list[Mismatch]:
        length = min(_PIECE_BYTES, disk.size_bytes - start)
        held = start // _PIECE_BYTES in pieces
        data = store.read(names.REPLICAS, disk.blob, start, length, snapshot=disk.snapshot) if held else None
        return list(_compare(table, disk.name, start, length, data))

    with ThreadPoolExecutor(_THREADS) as threads:
        for found in threads.map(check, range(0, disk.size_bytes, _PIECE_BYTES)):
            yield from found
    yield from _verify_end(store, disk)


def _table(store: BlobStore, disk: DiskPoint) -> DigestTable:
    data = bytearray(table_blob_size(disk.size_bytes))
    for offset, content in read_ranges(store, names.REPLICAS, disk.digests_blob, snapshot=disk.digests_snapshot):
        data[offset : offset + len(content)] = content
    return DigestTable(disk.size_bytes, bytes(data))


def _pieces_with_pages(store: BlobStore, disk: DiskPoint) -> set[int]:
    found: set[int] = set()
    for start, length in store.page_ranges(names.REPLICAS, disk.blob, snapshot=disk.snapshot):
        found.update(range(start // _PIECE_BYTES, (start + length - 1) // _PIECE_BYTES + 1))
    return found


def _compare(table: DigestTable, disk: str, start: int, length: int, data: bytes | None) -> Iterator[Mismatch]:
    for offset in range(start, start + length, CHUNK_BYTES):
        size = min(CHUNK_BYTES, start + length - offset)
        entry = table.entry(offset // CHUNK_BYTES)
        if entry == UNKNOWN:
            yield Mismatch(disk, offset, size, "unknown digest")
        elif entry != (ZERO if data is None else digest(data[offset - start : offset - start + size])):
            yield Mismatch(disk, offset, size, "content")


def _verify_end(store: BlobStore, disk: DiskPoint) -> Iterator[Mismatch]:
    """Check what follows the disk: zeros up to the MiB, then the footer that every reader of a VHD trusts."""
    at = vhd.padded_size(disk.size_bytes)
    size = at + vhd.FOOTER_BYTES - disk.size_bytes
    data = store.read(names.REPLICAS, disk.blob, disk.size_bytes, size, snapshot=disk.snapshot)
    padding, footer = data[: -vhd.FOOTER_BYTES], data[-vhd.FOOTER_BYTES :]
    if any(padding):
        yield Mismatch(disk.name, disk.size_bytes, len(padding), "padding")
    try:
        right = vhd.parse_footer(footer).size_bytes == at
    except Corrupt:
        right = False
    if not right:
        yield Mismatch(disk.name, at, vhd.FOOTER_BYTES, "footer")
