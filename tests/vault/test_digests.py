"""The digest table, and its Merkle root against a second implementation written from the format's page."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import pytest

from dr.errors import Corrupt
from dr.vault.digests import CHUNK_BYTES, UNKNOWN, ZERO, DigestTable, chunk_count, digest, table_blob_size


def hashed(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def root_by_the_page(size: int, table: bytes) -> str:
    def top(pieces: list[bytes]) -> bytes:
        if len(pieces) == 1:
            return hashed(b"\0" + pieces[0])
        split = 1
        while split * 2 < len(pieces):
            split *= 2
        return hashed(b"\1" + top(pieces[:split]) + top(pieces[split:]))

    return hashed(
        b"\2" + size.to_bytes(8, "little") + top([table[i : i + 4096] for i in range(0, len(table), 4096)])
    ).hex()


@pytest.mark.parametrize("chunks", [1, 2, 255, 256, 257, 512, 513, 768, 1281, 1800])
def test_the_root_is_what_the_page_says(chunks: int) -> None:
    random = Random(chunks)
    size = chunks * CHUNK_BYTES - random.randrange(0, CHUNK_BYTES, 512)
    table = DigestTable(size)
    assert table.merkle_root() == root_by_the_page(size, bytes(16 * chunks))
    for _ in range(20):
        table.set(random.randrange(chunks), random.randbytes(16))
    assert table.merkle_root() == root_by_the_page(size, table.to_bytes())
    table.set(chunks - 1, b"l" * 16)
    assert table.merkle_root() == root_by_the_page(size, table.to_bytes()), "a cached leaf went stale"


def test_the_root_tells_disks_of_other_sizes_apart() -> None:
    assert DigestTable(CHUNK_BYTES).merkle_root() != DigestTable(CHUNK_BYTES - 512).merkle_root()


def test_a_fixed_vector() -> None:
    """Another version of this code must come to the same root, or old points can't be verified."""
    table = DigestTable(600 * CHUNK_BYTES)
    for chunk in range(0, 600, 7):
        table.set(chunk, digest(chunk.to_bytes(2, "big") * (CHUNK_BYTES // 2)))
    assert table.entry(7).hex() == "46bf5858d7664e3979d11b20a3466b98"
    assert table.merkle_root() == "99d95f93181fd6addc0ba049d0b7d13b54d4357686f128bed0ba41bc6cd85193"


def test_zeros_have_the_zero_entry() -> None:
    assert digest(None) == digest(bytes(CHUNK_BYTES)) == digest(bytes(512)) == ZERO
    assert digest(b"\0" * 511 + b"\1") not in {ZERO, UNKNOWN}


def test_unknown_entries_are_counted_after_reading_too() -> None:
    table = DigestTable(10 * CHUNK_BYTES)
    table.set(3, UNKNOWN)
    table.set(3, UNKNOWN)
    table.set(9, UNKNOWN)
    again = DigestTable(10 * CHUNK_BYTES, table.to_bytes())
    assert (table.unknown, again.unknown, list(again.unknown_chunks())) == (2, 2, [3, 9])
    again.set(3, ZERO)
    assert again.unknown == 1


def test_pages_cover_the_chunks_and_join_neighbours() -> None:
    table = DigestTable(10_000 * CHUNK_BYTES)
    for chunk in (0, 40, 9_999):
        table.set(chunk, bytes([1 + chunk % 250]) * 16)
    writes = table.pages([0, 40, 9_999])
    assert [offset for offset, _ in writes] == [0, 9_999 * 16 // 512 * 512]
    assert all(len(data) % 512 == 0 for _, data in writes)
    image = bytearray(table_blob_size(table.size_bytes))
    for offset, data in writes:
        image[offset : offset + len(data)] = data
    assert DigestTable(table.size_bytes, bytes(image)).to_bytes() == table.to_bytes()


def test_sizes() -> None:
    assert [chunk_count(n) for n in (1, CHUNK_BYTES, CHUNK_BYTES + 1)] == [1, 1, 2]
    assert [table_blob_size(n * CHUNK_BYTES) for n in (1, 32, 33)] == [512, 512, 1024]
    with pytest.raises(Corrupt):
        DigestTable(10 * CHUNK_BYTES, b"short")
