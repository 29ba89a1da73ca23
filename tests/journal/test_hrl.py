"""Properties of `.hrl`: what is written is read; cut or damaged anywhere it is a prefix or refused."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dr.errors import Corrupt
from dr.journal import Cut, Data, Record, Segment, SegmentHeader, SegmentKind, SegmentWriter, Zero, read_segment, replay
from dr.journal.layout import CRC, HEADER, MAGIC, RECORD, RECORD_END, RECORD_ZERO

HEAD = SegmentHeader(3, 17, "sda", SegmentKind.DATA)


def packed(records: list[Record], header: SegmentHeader = HEAD) -> bytes:
    writer = SegmentWriter(header)
    for record in records:
        if isinstance(record, Data):
            writer.data(record.offset, record.payload)
        elif isinstance(record, Zero):
            writer.zero(record.offset, record.length)
        else:
            writer.cut(record.info)
    return writer.finish()


@st.composite
def data_records(draw: st.DrawFn) -> list[Record]:
    records: list[Record] = []
    offset = 0
    for _ in range(draw(st.integers(0, 6))):
        offset += 512 * draw(st.integers(0, 1 << 40))
        sectors = draw(st.integers(1, 4))
        seed = draw(st.integers(0, 2))
        if seed == 0:
            records.append(Zero(offset, 512 * sectors))
        elif seed == 1:
            records.append(Data(offset, bytes([sectors]) * (512 * sectors)))
        else:
            records.append(Data(offset, random.Random(offset).randbytes(512 * sectors)))
        offset += 512 * sectors
    return records


@given(data_records(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_what_is_written_is_read(records: list[Record], epoch: int, sequence: int) -> None:
    header = SegmentHeader(epoch, sequence, "nvme0n1", SegmentKind.DATA)
    data = packed(records, header)
    assert read_segment(data) == read_segment(data, proven=True) == Segment(header, tuple(records))
    assert replay(data) == (header, tuple(records), True)


SAMPLE: list[Record] = [
    Data(0, b"A" * 1024),
    Zero(65536, 65536),
    Data(1 << 40, random.Random(1).randbytes(512)),
    Data((1 << 40) + 4096, b"abcdefgh" * 64),
]


def test_cut_at_any_byte_it_is_a_prefix() -> None:
    data = packed(SAMPLE)
    for length in range(len(data)):
        with pytest.raises(Corrupt):
            read_segment(data[:length])
        header, records, complete = replay(data[:length])
        assert not complete
        assert header in (None, HEAD)
        assert list(records) == SAMPLE[: len(records)]
    assert replay(data[:-1])[1] == tuple(SAMPLE)


def test_any_bit_flipped_it_is_refused_and_replays_to_a_prefix() -> None:
    data = packed(SAMPLE)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(Corrupt):
                read_segment(bytes(damaged))
            header, records, complete = replay(bytes(damaged))
            assert not complete
            assert header in (None, HEAD)
            assert list(records) == SAMPLE[: len(records)]


@given(st.binary(max_size=300))
def test_garbage_is_refused(garbage: bytes) -> None:
    for data in (
        garbage,
        MAGIC + garbage,
        packed([]) + garbage + b"\0",
        packed(SAMPLE)[: -60 - len(garbage)] + garbage,
    ):
        with pytest.raises(Corrupt):
            read_segment(data)


def test_cut_segments() -> None:
    header = SegmentHeader(1, 9, "", SegmentKind.CUT)
    info = {"number": 4, "disks": ["sda", "sdb"], "label": "ünïcode"}
    assert read_segment(packed([Cut(info)], header)).records == (Cut(info),)
    with pytest.raises(ValueError, match="exactly one"):
        SegmentWriter(header).finish()
    with pytest.raises(ValueError, match="extents"):
        SegmentWriter(header).zero(0, 512)
    with pytest.raises(ValueError, match="exactly one"):
        SegmentWriter(HEAD).cut(info)
    with pytest.raises(ValueError, match="at most"):
        SegmentWriter(header).cut({"x": "y" * 70000})


def forged(records: list[tuple[int, int, int, int, bytes]], header: SegmentHeader = HEAD) -> bytes:
    """Pack (type, codec, offset, length, stored) with right checksums and no checks of the values."""
    name = header.disk.encode()
    body = HEADER.pack(MAGIC, 1, header.kind.value, 0, len(name), 0, header.protection_epoch, header.sequence) + name
    body += CRC.pack(zlib.crc32(body))
    for kind, codec, offset, length, stored in records:
        head = RECORD.pack(kind, codec, 0, len(stored), offset, length)
        body += head + CRC.pack(zlib.crc32(head + stored)) + stored
    digest = hashlib.sha256(body).digest()
    head = RECORD.pack(255, 0, 0, 32, 0, len(records))
    return body + head + CRC.pack(zlib.crc32(head + digest)) + digest


BOMB = lz4.block.compress(bytes(1 << 26), store_size=False)
MIB = lz4.block.compress(bytes(1 << 20), store_size=False)
CUT = SegmentHeader(1, 1, "", SegmentKind.CUT)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (forged([(1, 1, 0, 1 << 40, BOMB)]), "bytes"),
        (forged([(1, 1, 0, 1 << 20, BOMB)]), "LZ4"),
        (forged([(1, 1, 0, 1 << 20, lz4.block.compress(bytes(512), store_size=False))]), "instead of"),
        (forged([(1, 1, n << 20, 1 << 20, MIB) for n in range(5)]), "of payload"),
        (forged([(1, 0, 0, 512, b"x" * 511)]), "raw record"),
        (forged([(1, 0, 0, 0, b"")]), "outside"),
        (forged([(1, 7, 0, 1024, b"x" * 512)]), "codec"),
        (forged([(1, 0, 100, 512, b"x" * 512)]), "multiples"),
        (forged([(2, 0, 2**64 - 512, 1024, b"")]), "outside"),
        (forged([(2, 0, 0, 2**64 - 512, b"")]), "outside"),
        (forged([(2, 0, 0, 512, b"x")]), "zeros holds"),
        (forged([(2, 1, 0, 512, b"")]), "codec"),
        (forged([(2, 0, 512, 512, b""), (2, 0, 512, 512, b"")]), "ascend"),
        (forged([(2, 0, 512 * n, 512, b"") for n in range(20000)]), "too many"),
        (forged([(9, 0, 0, 512, b"")]), "unknown"),
        (forged([(3, 0, 0, 2, b"{}")]), "belong"),
        (forged([(2, 0, 0, 512, b"")], CUT), "belong"),
        (forged([], CUT), "exactly one"),
        (forged([(3, 0, 0, 2, b"{}")] * 2, CUT), "too many"),
        (forged([(3, 0, 0, 2, b"[]")], CUT), "object"),
        (forged([(3, 0, 0, 9, b'{"a":NaN}')], CUT), "JSON"),
        (forged([(3, 0, 0, 60000, b"[" * 60000)], CUT), "JSON"),
        (forged([(3, 0, 0, 1, b"\xff")], CUT), "JSON"),
        (forged([(3, 0, 0, 70000, b'"' + b"x" * 69998 + b'"')], CUT), "facts have more"),
        (forged([], SegmentHeader(1, 1, "../sda", SegmentKind.DATA)), "name"),
        (forged([], SegmentHeader(1, 1, "", SegmentKind.DATA)), "names its disk"),
        (bytes(6 << 20), "more than any"),
    ],
)
def test_hostile_segments_are_refused(data: bytes, why: str) -> None:
    for proven in (False, True):
        with pytest.raises(Corrupt, match=why):
            read_segment(data, proven=proven)


def test_only_the_sums_are_left_out_for_bytes_that_are_proven() -> None:
    whole = packed(SAMPLE)
    assert read_segment(whole, proven=True) == read_segment(whole)
    for cut in range(len(whole)):
        with pytest.raises(Corrupt):
            read_segment(whole[:cut], proven=True)


def test_the_writer_refuses_what_a_reader_would() -> None:
    for offset, length in ((1, 512), (0, 511), (0, 0), (-512, 512), (2**62, 512)):
        with pytest.raises(ValueError, match=r"multiples|outside"):
            SegmentWriter(HEAD).zero(offset, length)
    writer = SegmentWriter(HEAD)
    writer.data(512, b"x" * 512)
    with pytest.raises(ValueError, match="ascend"):
        writer.zero(512, 512)
    with pytest.raises(ValueError, match="at most"):
        writer.data(1024, bytes(2 << 20))
    for index in range(3):
        writer.data((1 + index) << 20, memoryview(bytearray(1 << 20)))
    with pytest.raises(ValueError, match="of payload"):
        writer.data(8 << 20, bytes(1 << 20))
    assert writer.payload_bytes == (3 << 20) + 512
    writer.zero(8 << 20, 64 << 20)
    with pytest.raises(ValueError, match="of zeros"):
        writer.zero(128 << 20, 512)


@pytest.mark.parametrize("extents", [[(0, 1 << 40)], [(0, 64 << 20), (64 << 20, 512)]])
def test_a_few_bytes_cannot_claim_a_disk_of_zeros(extents: list[tuple[int, int]]) -> None:
    """Whoever applies them needs memory for each chunk of them."""
    body = packed([])[: HEADER.size + 3 + CRC.size]
    for offset, length in extents:
        head = RECORD.pack(RECORD_ZERO, 0, 0, 0, offset, length)
        body += head + CRC.pack(zlib.crc32(head))
    end = RECORD.pack(RECORD_END, 0, 0, 32, 0, len(extents))
    sha = hashlib.sha256(body).digest()
    with pytest.raises(Corrupt, match="of zeros"):
        read_segment(body + end + CRC.pack(zlib.crc32(sha, zlib.crc32(end))) + sha)


@settings(deadline=None)
@given(st.binary(min_size=4, max_size=4))
def test_a_flip_below_the_crc_is_still_seen_by_the_sha(crc: bytes) -> None:
    data = packed([Data(0, b"A" * 512)])
    start = HEADER.size + 3 + CRC.size
    stored = struct.unpack_from("<I", data, start + 4)[0]
    end = start + RECORD.size + CRC.size + stored
    assert read_segment(data).records == (Data(0, b"A" * 512),)
    swapped = packed([Data(0, b"B" * 512)])
    with pytest.raises(Corrupt, match="SHA-256"):
        read_segment(data[:start] + swapped[start:end] + data[end:])
