"""Unpacks `.hrl` segments that may come from a hostile client or a torn file.

Rules kept here:
- Every length is checked against the layout's limits and against what is there *before* anything is allocated or
  decompressed; LZ4 gets the exact size that it may produce.
- `read_segment` is strict: whole, in order, SHA-256 right, nothing behind it. `replay` returns what is proven before
  the first fault. Neither ever returns a record whose CRC-32 is wrong; whoever says `proven` has counted it before.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from typing import Any, Iterator, List, NoReturn, Optional, Tuple

import lz4.block

from dr.errors import Corrupt
from dr.journal import strict_json
from dr.journal.layout import (
    CODEC_LZ4,
    CODEC_RAW,
    CRC,
    HEADER,
    MAGIC,
    MAX_CUT_JSON_BYTES,
    MAX_DISK_NAME_BYTES,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_PAYLOAD_BYTES,
    MAX_SEGMENT_ZERO_BYTES,
    RECORD,
    RECORD_CUT,
    RECORD_DATA,
    RECORD_END,
    RECORD_ZERO,
    SHA256_BYTES,
    VERSION,
    Cut,
    Data,
    Record,
    Segment,
    SegmentHeader,
    SegmentKind,
    Zero,
    extent_fault,
    name_fault,
)

REMEDY = "the sender keeps its marks and sends the segment again; if it repeats, check the memory and disks on the way"


def read_segment(data: bytes, *, proven: bool = False) -> Segment:
    """Return the whole segment; `Corrupt` if any byte is missing, wrong or too many.

    `proven` says that these bytes were read so before, and that an authenticated seal has shown them to be the same:
    then the sums are not counted a second time. All else is checked as ever.
    """
    if len(data) > MAX_SEGMENT_BYTES:
        _corrupt(f"it has {len(data)} bytes, more than any segment")
    view = memoryview(data)
    header, start = _header(view)
    return Segment(header, tuple(_records(view, start, header.kind, proven=proven)))


def replay(data: bytes) -> Tuple[Optional[SegmentHeader], Tuple[Record, ...], bool]:
    """Return the header (None if it is not whole), the records before the first fault, and whether all was there."""
    view = memoryview(data)[:MAX_SEGMENT_BYTES]
    records: List[Record] = []
    try:
        header, start = _header(view)
    except Corrupt:
        return None, (), False
    try:
        records.extend(_records(view, start, header.kind))
    except Corrupt:
        return header, tuple(records), False
    return header, tuple(records), len(view) == len(data)


def _header(view: memoryview) -> Tuple[SegmentHeader, int]:
    if len(view) < HEADER.size + CRC.size:
        _corrupt("it ends inside its header")
    magic, version, kind, flags, name_bytes, reserved, epoch, sequence = HEADER.unpack_from(view)
    if magic != MAGIC:
        _corrupt("it does not begin as an .hrl file")
    if version != VERSION:
        _corrupt(f"its version is {version}; this program reads version {VERSION}")
    end = HEADER.size + name_bytes
    if name_bytes > MAX_DISK_NAME_BYTES or len(view) < end + CRC.size:
        _corrupt("it ends inside its header")
    if CRC.unpack_from(view, end)[0] != zlib.crc32(view[:end]):
        _corrupt("its header's CRC-32 is wrong")
    if flags or reserved or kind not in (SegmentKind.DATA.value, SegmentKind.CUT.value):
        _corrupt("its header holds values that version 1 does not know")
    try:
        disk = bytes(view[HEADER.size : end]).decode("utf-8")
    except UnicodeDecodeError:
        _corrupt("the disk's name is not UTF-8")
    fault = name_fault(disk, SegmentKind(kind))
    if fault:
        _corrupt(fault)
    return SegmentHeader(epoch, sequence, disk, SegmentKind(kind)), end + CRC.size


def _records(view: memoryview, position: int, kind: SegmentKind, *, proven: bool = False) -> Iterator[Record]:
    count = payload_bytes = zero_bytes = end_of_last = 0
    while True:
        record_type, codec, offset, length, stored, following = _record(view, position, proven)
        if record_type == RECORD_END:
            _end(view, position, count, (codec, offset, length), stored, proven)
            if following != len(view):
                _corrupt(f"{len(view) - following} bytes follow its end record")
            if kind is SegmentKind.CUT and count != 1:
                _corrupt("a cut segment holds exactly one cut record")
            return
        if count >= (1 if kind is SegmentKind.CUT else MAX_RECORDS):
            _corrupt("it holds too many records")
        if (record_type == RECORD_CUT) != (kind is SegmentKind.CUT):
            _corrupt(f"a record of type {record_type} does not belong into this kind of segment")
        if kind is SegmentKind.DATA:
            fault = extent_fault(offset, length)
            if fault or offset < end_of_last:
                _corrupt(fault or f"its extents do not ascend at {offset}")
            end_of_last = offset + length
            payload_bytes += length if record_type == RECORD_DATA else 0
            if payload_bytes > MAX_SEGMENT_PAYLOAD_BYTES:
                _corrupt(f"it holds more than {MAX_SEGMENT_PAYLOAD_BYTES} bytes of payload")
            zero_bytes += length if record_type == RECORD_ZERO else 0
            if zero_bytes > MAX_SEGMENT_ZERO_BYTES:
                _corrupt(f"it holds more than {MAX_SEGMENT_ZERO_BYTES} bytes of zeros")
        yield _value(record_type, codec, offset, length, stored)
        count += 1
        position = following


def _record(view: memoryview, position: int, proven: bool) -> Tuple[int, int, int, int, memoryview, int]:
    start = position + RECORD.size + CRC.size
    if start > len(view):
        _corrupt("it ends inside a record's header")
    record_type, codec, reserved, stored_bytes, offset, length = RECORD.unpack_from(view, position)
    if stored_bytes > len(view) - start:
        _corrupt("it ends inside a record's payload")
    stored = view[start : start + stored_bytes]
    if not proven and not _crc_is_right(view, position, stored):
        _corrupt(f"the CRC-32 of the record at byte {position} is wrong")
    if reserved:
        _corrupt("a record holds values that version 1 does not know")
    return record_type, codec, offset, length, stored, start + stored_bytes


def _crc_is_right(view: memoryview, position: int, stored: memoryview) -> bool:
    crc = zlib.crc32(stored, zlib.crc32(view[position : position + RECORD.size]))
    return bool(crc == CRC.unpack_from(view, position + RECORD.size)[0])


def _end(
    view: memoryview, position: int, count: int, fields: Tuple[int, int, int], stored: memoryview, proven: bool
) -> None:
    if fields != (CODEC_RAW, 0, count) or len(stored) != SHA256_BYTES:
        _corrupt(f"its end record does not fit {count} records")
    if not proven and not hmac.compare_digest(hashlib.sha256(view[:position]).digest(), bytes(stored)):
        _corrupt("its SHA-256 is wrong")


def _value(record_type: int, codec: int, offset: int, length: int, stored: memoryview) -> Record:
    if record_type == RECORD_DATA:
        return Data(offset, _content(codec, length, stored))
    if codec != CODEC_RAW:
        _corrupt(f"codec {codec} does not belong to a record of type {record_type}")
    if record_type == RECORD_ZERO:
        if stored:
            _corrupt("a record of zeros holds a payload")
        return Zero(offset, length)
    if record_type == RECORD_CUT:
        if offset or length != len(stored):
            _corrupt("a cut record's length is wrong")
        return Cut(_facts(stored))
    raise Corrupt(f".hrl segment: record type {record_type} is unknown to version 1", remedy=REMEDY)


def _content(codec: int, length: int, stored: memoryview) -> bytes:
    if length > MAX_RECORD_BYTES:
        _corrupt(f"a record holds {length} bytes, more than {MAX_RECORD_BYTES}")
    if codec == CODEC_RAW:
        if len(stored) != length:
            _corrupt("a raw record's length is wrong")
        return bytes(stored)
    if codec != CODEC_LZ4 or len(stored) >= length:
        _corrupt(f"codec {codec} is unknown, or its payload is not smaller than the content")
    try:
        content: bytes = lz4.block.decompress(stored, uncompressed_size=length)
    except lz4.block.LZ4BlockError as error:
        raise Corrupt(f".hrl segment: its LZ4 payload is broken: {error}", remedy=REMEDY) from error
    if len(content) != length:
        _corrupt(f"its LZ4 payload holds {len(content)} bytes instead of {length}")
    return content


def _facts(stored: memoryview) -> Any:
    if len(stored) > MAX_CUT_JSON_BYTES:
        _corrupt(f"a cut's facts have more than {MAX_CUT_JSON_BYTES} bytes")
    try:
        facts = strict_json.loads(bytes(stored).decode("utf-8"))
    except ValueError as error:
        raise Corrupt(f".hrl segment: a cut's facts are not JSON: {error}", remedy=REMEDY) from error
    if not isinstance(facts, dict):
        _corrupt("a cut's facts are not a JSON object")
    return facts


def _corrupt(what: str) -> NoReturn:
    raise Corrupt(f".hrl segment: {what}", remedy=REMEDY)
