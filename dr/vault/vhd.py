"""Fixed VHD: the raw disk, zeros up to the next MiB (Azure's rule), and one 512-byte footer. Pure.

Footer, big-endian ("Virtual Hard Disk Image Format Specification", Microsoft, 2006):

| offset | bytes | field | here |
| --- | --- | --- | --- |
| 0 | 8 | cookie | `conectix` |
| 8 | 4 | features | 2 (reserved bit, always set) |
| 12 | 4 | file format version | 1.0 |
| 16 | 8 | data offset | all ones: fixed disk |
| 24 | 4 | timestamp | seconds since 2000-01-01 UTC |
| 28 | 4 | creator application | `win ` (see below) |
| 32 | 4 | creator version | 10.0 |
| 36 | 4 | creator host OS | `Wi2k` |
| 40 | 8 | original size | disk with padding |
| 48 | 8 | current size | the same |
| 56 | 4 | geometry | cylinders u16, heads u8, sectors u8 |
| 60 | 4 | disk type | 2: fixed |
| 64 | 4 | checksum | ones' complement of the sum of all other bytes |
| 68 | 16 | unique id | deterministic from server and disk |
| 84 | 1 | saved state | 0 |
| 85 | 427 | reserved | zeros |

The creator is `win ` because readers (QEMU's block/vpc.c) take the size from "current size" only for creators known
to mean it, and from the rounded geometry for all others, which would cut the disk's end off.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from dr.errors import Corrupt, Refused

FOOTER_BYTES = 512
ALIGNMENT_BYTES = 1 << 20
_LAYOUT = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_COOKIE = b"conectix"
_FEATURES = 2
_VERSION = 0x00010000
_NO_OFFSET = 0xFFFFFFFFFFFFFFFF
_CREATOR = b"win "
_CREATOR_VERSION = 0x000A0000
_CREATOR_HOST = b"Wi2k"
_FIXED = 2
_CHECKSUM_AT = slice(64, 68)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_IDS = uuid.UUID("5a1f9d1e-3c0e-5a52-9a2f-6d2b6c1f0e77")


@dataclass(frozen=True, slots=True)
class Footer:
    """What a footer says; sizes in bytes, without the footer itself."""

    size_bytes: int
    timestamp: datetime
    unique_id: uuid.UUID
    creator: bytes


def padded_size(disk_bytes: int) -> int:
    """Return the disk's size rounded up to a MiB: the offset of the footer."""
    return -(-disk_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def blob_size(disk_bytes: int) -> int:
    """Return the size of the page blob: padded disk and footer."""
    return padded_size(disk_bytes) + FOOTER_BYTES


def unique_id(server: str, disk: str) -> uuid.UUID:
    """Return the id that the VHD of this disk always carries."""
    return uuid.uuid5(_IDS, f"{server}/{disk}")


def build_footer(disk_bytes: int, identity: uuid.UUID, timestamp: datetime) -> bytes:
    """Return the footer of a disk of `disk_bytes` (padded to a MiB here). `Refused` for an empty disk."""
    if disk_bytes <= 0:
        raise Refused(f"a disk of {disk_bytes} bytes cannot be replicated", code="disk-size")
    size = padded_size(disk_bytes)
    seconds = int((timestamp - _EPOCH).total_seconds())
    fields = (_COOKIE, _FEATURES, _VERSION, _NO_OFFSET, seconds, _CREATOR, _CREATOR_VERSION, _CREATOR_HOST)
    rest = (size, size, *geometry(size // 512), _FIXED)
    footer = bytearray(_LAYOUT.pack(*fields, *rest, 0, identity.bytes, 0))
    footer[_CHECKSUM_AT] = struct.pack(">I", _checksum(footer))
    return bytes(footer)


def parse_footer(data: bytes) -> Footer:
    """Check a fixed disk's footer and return what it says. `Corrupt`."""
    if len(data) != FOOTER_BYTES:
        raise Corrupt(f"a VHD footer has {FOOTER_BYTES} bytes, not {len(data)}", code="vhd-footer")
    values = _LAYOUT.unpack(data)
    cookie, _, _, _, seconds, creator, _, _, _, size = values[:10]
    disk_type, checksum, identity = values[13:16]
    if cookie != _COOKIE:
        raise Corrupt("no VHD footer: the cookie is missing", code="vhd-footer")
    if checksum != _checksum(data):
        raise Corrupt("the VHD footer does not match its checksum", code="vhd-footer")
    if disk_type != _FIXED:
        raise Corrupt(f"not a fixed VHD: disk type {disk_type}", code="vhd-footer")
    timestamp = datetime.fromtimestamp(_EPOCH.timestamp() + seconds, UTC)
    return Footer(size, timestamp, uuid.UUID(bytes=identity), creator)


def geometry(sectors: int) -> tuple[int, int, int]:
    """Return (cylinders, heads, sectors per track) by the algorithm of the specification's appendix."""
    sectors = min(sectors, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    per_track, heads = 17, max(4, (sectors // 17 + 1023) // 1024)
    cylinders_heads = sectors // per_track
    if cylinders_heads >= heads * 1024 or heads > 16:
        per_track, heads = 31, 16
        cylinders_heads = sectors // per_track
    if cylinders_heads >= heads * 1024:
        per_track, heads = 63, 16
        cylinders_heads = sectors // per_track
    return cylinders_heads // heads, heads, per_track


def _checksum(footer: bytes | bytearray) -> int:
    return ~(sum(footer) - sum(footer[_CHECKSUM_AT])) & 0xFFFFFFFF
