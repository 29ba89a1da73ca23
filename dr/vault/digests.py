"""The digest table of one disk: 16 bytes per 64 KiB chunk (`dr.chunk`), and the Merkle root over it. Pure.

The table is stored as it is, padded with zeros to 512 bytes. It never claims more than is stored: whoever writes a
chunk sets its entry to unknown first, durably. The Merkle tree is defined in `docs/formats/recovery-point.md`: leaves
are pieces of 4,096 bytes of the table, so that a cut costs by what changed and not by the disk's size.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from dr.chunk import CHUNK_BYTES, ENTRY_BYTES, UNKNOWN, ZERO, any_set, digest
from dr.errors import Corrupt

__all__ = ["CHUNK_BYTES", "UNKNOWN", "ZERO", "DigestTable", "any_set", "chunk_count", "digest", "table_blob_size"]

PAGE_BYTES = 512
LEAF_BYTES = 4096
# Two digest pages closer than this go out in one write: a request costs more than these bytes.
MERGE_GAP_BYTES = 32 << 10
_WRITE_BYTES = 4 << 20


def chunk_count(size_bytes: int) -> int:
    """Return the number of chunks of a disk."""
    return -(-size_bytes // CHUNK_BYTES)


def table_blob_size(size_bytes: int) -> int:
    """Return the size of the page blob that holds the table."""
    return -(-chunk_count(size_bytes) * ENTRY_BYTES // PAGE_BYTES) * PAGE_BYTES


class DigestTable:
    """The table in memory: 256 MiB per TiB of disk at most."""

    def __init__(self, size_bytes: int, data: bytes | None = None) -> None:
        """Start from the stored bytes (padding allowed), or from "never written". `Corrupt` for a wrong length."""
        self.size_bytes = size_bytes
        self.chunks = chunk_count(size_bytes)
        length = self.chunks * ENTRY_BYTES
        if data is not None and len(data) not in {length, table_blob_size(size_bytes)}:
            raise Corrupt(f"a digest table of {size_bytes} bytes of disk has {length} bytes, not {len(data)}")
        self._data = bytearray(length) if data is None else bytearray(data[:length])
        self._leaves: list[bytes | None] = [None] * max(1, -(-length // LEAF_BYTES))
        self._unknown = sum(1 for _ in self.unknown_chunks()) if UNKNOWN in self._data else 0

    def entry(self, chunk: int) -> bytes:
        """Return the entry of one chunk."""
        return bytes(self._data[chunk * ENTRY_BYTES : (chunk + 1) * ENTRY_BYTES])

    def entries(self, first: int, count: int) -> bytes:
        """Return the entries of `count` chunks from `first` on, fewer at the disk's end."""
        return bytes(self._data[first * ENTRY_BYTES : (first + count) * ENTRY_BYTES])

    def forget(self) -> None:
        """Make every chunk unknown."""
        self._data[:] = UNKNOWN * self.chunks
        self._leaves = [None] * len(self._leaves)
        self._unknown = self.chunks

    def set(self, chunk: int, value: bytes) -> None:
        """Replace the entry of one chunk."""
        self._unknown += (value == UNKNOWN) - (self.entry(chunk) == UNKNOWN)
        self._data[chunk * ENTRY_BYTES : (chunk + 1) * ENTRY_BYTES] = value
        self._leaves[chunk * ENTRY_BYTES // LEAF_BYTES] = None

    @property
    def empty(self) -> bool:
        """Tell whether every chunk is known to be zeros."""
        return self._data.count(0) == len(self._data)

    @property
    def unknown(self) -> int:
        """How many chunks are unknown."""
        return self._unknown

    def unknown_chunks(self) -> Iterable[int]:
        """Yield the chunks whose content is unknown, in order."""
        data = self._data
        for chunk in range(self.chunks):
            if data[chunk * ENTRY_BYTES : (chunk + 1) * ENTRY_BYTES] == UNKNOWN:
                yield chunk

    def pages(self, chunks: Iterable[int]) -> list[tuple[int, bytes]]:
        """Return the (offset, bytes) writes that make the entries of `chunks` durable, few and in order."""
        wanted = sorted({chunk * ENTRY_BYTES // PAGE_BYTES * PAGE_BYTES for chunk in chunks})
        ranges: list[tuple[int, int]] = []
        for start in wanted:
            if ranges:
                first, end = ranges[-1]
                if start - end <= MERGE_GAP_BYTES and start + PAGE_BYTES - first <= _WRITE_BYTES:
                    ranges[-1] = (first, start + PAGE_BYTES)
                    continue
            ranges.append((start, start + PAGE_BYTES))
        return [(start, bytes(self._data[start:end]).ljust(end - start, b"\0")) for start, end in ranges]

    def to_bytes(self) -> bytes:
        """Return the table without padding."""
        return bytes(self._data)

    def merkle_root(self) -> str:
        """Return the root over the table as 64 hexadecimal digits."""
        for index, leaf in enumerate(self._leaves):
            if leaf is None:
                piece = self._data[index * LEAF_BYTES : (index + 1) * LEAF_BYTES]
                self._leaves[index] = _hash(b"\x00" + piece)
        level = [leaf for leaf in self._leaves if leaf is not None]
        while len(level) > 1:
            joined = [_hash(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = joined + level[len(level) & ~1 :]
        return _hash(b"\x02" + self.size_bytes.to_bytes(8, "little") + level[0]).hex()


def _hash(data: bytes | bytearray) -> bytes:
    return blake2b(data, digest_size=32).digest()
