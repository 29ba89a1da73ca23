"""The journal `.hrl`: changed extents of one disk between two positions (bytes in, records out).

`layout.py` holds the layout and its limits, `writer.py` packs, `reader.py` unpacks. The format is described byte by
byte in `docs/formats/hrl.md`. Pure; runs on Python 3.9 with the standard library and lz4.
"""

from __future__ import annotations

from dr.journal.layout import (
    MAX_CUT_JSON_BYTES,
    MAX_RECORD_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_PAYLOAD_BYTES,
    SECTOR_BYTES,
    Cut,
    Data,
    Record,
    Segment,
    SegmentHeader,
    SegmentKind,
    Zero,
)
from dr.journal.reader import read_segment, replay
from dr.journal.writer import SegmentWriter

__all__ = [
    "MAX_CUT_JSON_BYTES",
    "MAX_RECORD_BYTES",
    "MAX_SEGMENT_BYTES",
    "MAX_SEGMENT_PAYLOAD_BYTES",
    "SECTOR_BYTES",
    "Cut",
    "Data",
    "Record",
    "Segment",
    "SegmentHeader",
    "SegmentKind",
    "SegmentWriter",
    "Zero",
    "read_segment",
    "replay",
]
