"""Layout of `.hrl` v1: the structs, the limits, and the values that records become.

    segment header   magic(8) version(2) kind(1) flags(1) name_bytes(2) reserved(2) protection_epoch(8) sequence(8)
                     disk name, UTF-8    CRC-32(4) of all before it
    record           type(1) codec(1) reserved(2) stored_bytes(4) offset(8) length(8)   CRC-32(4) of the 24 bytes
                     before it and of the stored payload     stored payload
    end record       a record of type END; `length` is the number of records before it, the payload is the SHA-256
                     of all bytes of the segment before the end record

Rules kept here:
- Little-endian, no alignment. Offsets and lengths are bytes on the disk, multiples of 512.
- The header comes before the payload, so that a reader checks every bound before it allocates.
- The CRC-32 makes each record readable alone, so that a file cut anywhere replays to a prefix; the SHA-256 makes the
  whole file one fact.
- Extents of one segment ascend and never overlap: whoever writes them may do it in parallel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any, Mapping, Tuple, Union

MAGIC = b"\x89HRL\r\n\x1a\n"  # as PNG's: a transfer as text, or a file cut at Ctrl-Z, is seen at once
VERSION = 1

HEADER = struct.Struct("<8sHBBHHQQ")
RECORD = struct.Struct("<BBHIQQ")
CRC = struct.Struct("<I")
SHA256_BYTES = 32

RECORD_DATA = 1
RECORD_ZERO = 2
RECORD_CUT = 3
RECORD_END = 255

CODEC_RAW = 0
CODEC_LZ4 = 1

SECTOR_BYTES = 512
MAX_RECORD_BYTES = 1 << 20
MAX_SEGMENT_PAYLOAD_BYTES = 4 << 20
MAX_SEGMENT_ZERO_BYTES = 64 << 20  # they take no room on the wire, but memory for each chunk where they are applied
MAX_RECORDS = 16384
MAX_CUT_JSON_BYTES = 64 << 10
MAX_DISK_NAME_BYTES = 64
MAX_DISK_BYTES = 1 << 62
# Room for the payload stored raw, every record's header, the segment's header and the end record.
MAX_SEGMENT_BYTES = MAX_SEGMENT_PAYLOAD_BYTES + MAX_RECORDS * (RECORD.size + CRC.size) + 4096


class SegmentKind(Enum):
    """What a segment is: changes of one disk, or a barrier for all disks of the server."""

    DATA = 1
    CUT = 2


@dataclass(frozen=True)
class SegmentHeader:
    """Identify a segment: its place in the server's stream and its disk (empty for a cut)."""

    protection_epoch: int
    sequence: int
    disk: str
    kind: SegmentKind


@dataclass(frozen=True)
class Data:
    """Content at `offset` (bytes on the disk)."""

    offset: int
    payload: bytes


@dataclass(frozen=True)
class Zero:
    """`length` zero bytes at `offset`."""

    offset: int
    length: int


@dataclass(frozen=True)
class Cut:
    """Facts of a recovery point's cut, as JSON object."""

    info: Mapping[str, Any]


Record = Union[Data, Zero, Cut]


@dataclass(frozen=True)
class Segment:
    """A whole, checked segment."""

    header: SegmentHeader
    records: Tuple[Record, ...]


def extent_fault(offset: int, length: int) -> str:
    """Return what is wrong with an extent (bytes), or the empty string."""
    if offset % SECTOR_BYTES or length % SECTOR_BYTES:
        return f"offset {offset} and length {length} must be multiples of {SECTOR_BYTES}"
    if length <= 0 or offset < 0 or offset + length > MAX_DISK_BYTES:
        return f"extent of {length} bytes at {offset} is outside of any disk"
    return ""


def name_fault(disk: str, kind: SegmentKind) -> str:
    """Return what is wrong with a disk's name in a header of `kind`, or the empty string."""
    if kind is SegmentKind.DATA and not disk:
        return "a data segment names its disk"
    if len(disk.encode("utf-8", "surrogatepass")) > MAX_DISK_NAME_BYTES:
        return f"the disk's name is longer than {MAX_DISK_NAME_BYTES} bytes"
    if (
        not disk.isascii()
        or not all(character.isalnum() or character in "-_." for character in disk)
        or disk.startswith(".")
    ):
        return f"the disk's name {disk!r} may hold ASCII letters, digits, '-', '_' and '.' only"
    return ""
