"""Packs records into one `.hrl` segment.

Rules kept here: what a strict reader would refuse is refused here as well, with `ValueError`, because it is a bug of
the caller; the layout is in `layout.py`.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any, List, Mapping, Union

import lz4.block

from dr.journal.layout import (
    CODEC_LZ4,
    CODEC_RAW,
    CRC,
    HEADER,
    MAGIC,
    MAX_CUT_JSON_BYTES,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    MAX_SEGMENT_PAYLOAD_BYTES,
    MAX_SEGMENT_ZERO_BYTES,
    RECORD,
    RECORD_CUT,
    RECORD_DATA,
    RECORD_END,
    RECORD_ZERO,
    VERSION,
    SegmentHeader,
    SegmentKind,
    extent_fault,
    name_fault,
)

Buffer = Union[bytes, bytearray, memoryview]


def _packed(header: SegmentHeader) -> bytes:
    name = header.disk.encode("utf-8")
    numbers = (header.protection_epoch, header.sequence)
    packed = HEADER.pack(MAGIC, VERSION, header.kind.value, 0, len(name), 0, *numbers) + name
    return packed + CRC.pack(zlib.crc32(packed))


class SegmentWriter:
    """Collect records in ascending order of offset, then `finish` once."""

    def __init__(self, header: SegmentHeader) -> None:
        fault = name_fault(header.disk, header.kind)
        if fault:
            raise ValueError(fault)
        self._header = header
        self._kind = header.kind
        self._parts: List[bytes] = []
        self._records = 0
        self._end_of_last = 0
        self._zero_bytes = 0
        self._finished = False
        self.payload_bytes = 0

    @property
    def records(self) -> int:
        """Count the records added so far."""
        return self._records

    def data(self, offset: int, payload: Buffer) -> None:
        """Add content of 512 bytes to 1 MiB at `offset`; stored by LZ4, or raw when that is not smaller."""
        length = len(payload)
        if length > MAX_RECORD_BYTES:
            raise ValueError(f"a record holds at most {MAX_RECORD_BYTES} bytes, not {length}")
        if self.payload_bytes + length > MAX_SEGMENT_PAYLOAD_BYTES:
            raise ValueError(f"a segment holds at most {MAX_SEGMENT_PAYLOAD_BYTES} bytes of payload")
        self._extent(offset, length)
        packed: bytes = lz4.block.compress(payload, store_size=False)
        if len(packed) < length:
            self._record(RECORD_DATA, CODEC_LZ4, offset, length, packed)
        else:
            self._record(RECORD_DATA, CODEC_RAW, offset, length, bytes(payload))
        self.payload_bytes += length

    def zero(self, offset: int, length: int) -> None:
        """Add `length` zero bytes at `offset`."""
        self._extent(offset, length)
        self._zero_bytes += length
        if self._zero_bytes > MAX_SEGMENT_ZERO_BYTES:
            raise ValueError(f"a segment holds at most {MAX_SEGMENT_ZERO_BYTES} bytes of zeros")
        self._record(RECORD_ZERO, CODEC_RAW, offset, length, b"")

    def cut(self, info: Mapping[str, Any]) -> None:
        """Add the one record of a cut segment: `info` as a JSON object of at most 64 KiB."""
        if self._kind is not SegmentKind.CUT or self._records:
            raise ValueError("a cut segment holds exactly one cut record, a data segment none")
        packed = json.dumps(info, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("utf-8")
        if len(packed) > MAX_CUT_JSON_BYTES:
            raise ValueError(f"a cut's facts hold at most {MAX_CUT_JSON_BYTES} bytes, not {len(packed)}")
        self._record(RECORD_CUT, CODEC_RAW, 0, len(packed), packed)

    def number(self, protection_epoch: int, sequence: int) -> None:
        """Give the segment its place in the stream, which may be known only after its records are packed."""
        self._header = replace(self._header, protection_epoch=protection_epoch, sequence=sequence)

    def finish(self) -> bytes:
        """Return the whole segment."""
        if self._kind is SegmentKind.CUT and self._records != 1:
            raise ValueError("a cut segment holds exactly one cut record")
        if self._finished:
            raise ValueError("the segment is finished")
        self._finished = True
        body = b"".join([_packed(self._header), *self._parts])
        self._parts = [body]
        self._record(RECORD_END, CODEC_RAW, 0, self._records, hashlib.sha256(body).digest())
        return b"".join(self._parts)

    def _extent(self, offset: int, length: int) -> None:
        if self._kind is not SegmentKind.DATA:
            raise ValueError("only data segments hold extents")
        fault = extent_fault(offset, length)
        if not fault and offset < self._end_of_last:
            fault = f"extents ascend: {offset} lies before {self._end_of_last}"
        if not fault and self._records >= MAX_RECORDS:
            fault = f"a segment holds at most {MAX_RECORDS} records"
        if fault:
            raise ValueError(fault)
        self._end_of_last = offset + length

    def _record(self, kind: int, codec: int, offset: int, length: int, stored: bytes) -> None:
        head = RECORD.pack(kind, codec, 0, len(stored), offset, length)
        self._parts += [head, CRC.pack(zlib.crc32(stored, zlib.crc32(head))), stored]
        self._records += 1
