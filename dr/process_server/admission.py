"""What a segment must be before it is acknowledged. Pure.

A segment that is received will be applied, or its stream stops: so everything that the replica could refuse is
refused here, while the agent still holds the data. That is why the payload is decompressed here as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from dr.errors import Conflict, Refused
from dr.journal import Cut, Data, Record, Segment, SegmentKind, Zero, read_segment
from dr.process_server.spool import Kind
from dr.vault.batch import Write
from dr.vault.digests import CHUNK_BYTES

PLAIN = "crash-consistent"


def admit(data: bytes, *, protection_epoch: int, sequence: int, disks: Mapping[str, int]) -> Kind:
    """Return what kind of segment `data` is; `disks` gives each disk's size in bytes.

    Raises `Corrupt` (no whole segment), `Conflict` `header-mismatch` (not the place in the stream that the address
    says), `Refused` `unknown-disk`, `out-of-range` or `unaligned`.
    """
    segment = read_segment(data)
    header = segment.header
    if (header.protection_epoch, header.sequence) != (protection_epoch, sequence):
        raise Conflict(
            f"the address says segment {protection_epoch}/{sequence}, "
            f"its header {header.protection_epoch}/{header.sequence}",
            code="header-mismatch",
        )
    if header.kind is SegmentKind.CUT:
        return Kind.PLAIN_CUT if is_plain(cut_info(segment)) else Kind.KEPT_CUT
    size_bytes = disks.get(header.disk)
    if size_bytes is None:
        raise Refused(f'the stream was opened without a disk "{header.disk}"', code="unknown-disk")
    for record in segment.records:
        _check_extent(record, size_bytes)
    return Kind.DATA


def writes_of(data: bytes) -> list[Write]:
    """Return the writes of an admitted data segment that came from the spool, whose seal proves every byte."""
    segment = read_segment(data, proven=True)
    disk = segment.header.disk
    writes = []
    for record in segment.records:
        if isinstance(record, Data):
            writes.append(Write(disk, record.offset, record.payload, len(record.payload)))
        elif isinstance(record, Zero):
            writes.append(Write(disk, record.offset, None, record.length))
    return writes


def info_of(data: bytes) -> Mapping[str, object]:
    """Return the facts of an admitted cut segment."""
    return cut_info(read_segment(data))


def cut_info(segment: Segment) -> Mapping[str, object]:
    """Return the facts that a whole cut segment carries."""
    record = segment.records[0]
    assert isinstance(record, Cut)
    return record.info


def is_plain(info: Mapping[str, object]) -> bool:
    """Tell whether a cut may be folded: nobody waits for it by its number, no group shares it, no warning is lost."""
    named = info.get("requested") or info.get("group") or info.get("warning")
    return info.get("kind") == PLAIN and not named


def _check_extent(record: Record, size_bytes: int) -> None:
    assert not isinstance(record, Cut)
    length = len(record.payload) if isinstance(record, Data) else record.length
    end = record.offset + length
    if end > size_bytes:
        raise Refused(f"{length} bytes at {record.offset} are outside of the disk's {size_bytes}", code="out-of-range")
    if record.offset % CHUNK_BYTES or (length % CHUNK_BYTES and end != size_bytes):
        raise Refused(f"{length} bytes at {record.offset} are not whole chunks of {CHUNK_BYTES}", code="unaligned")
