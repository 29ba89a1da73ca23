"""What a page of the kernel's trace ring holds: parsers of the published layouts and of the pages themselves (pure).

Rules kept here:
- Offsets come from the texts that tracefs publishes (`events/header_page`, `events/header_event`, the event's
  `format`), never from a kernel version. A layout that is not understood is refused by name, not guessed at.
- A page that does not parse means that changes may have been missed: `LostTrack`, which leads to a resync by name.

Sources: Documentation/trace/ring-buffer-map.rst, include/linux/ring_buffer.h of the Linux kernel.
"""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import dataclass
from typing import List, Tuple

from dr.errors import LifeboatError, PrerequisiteMissing

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

# Bits of the page's commit word: events before this page were lost (their number may follow the data).
_MISSED_EVENTS = 1 << 31
_MISSED_STORED = 1 << 30
_COMMIT_MASK = _MISSED_STORED - 1

_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31

Event = Tuple[int, int, int, int]


class LostTrack(LifeboatError):
    """Changes may have happened that nobody recorded; only a resync makes the replica right again."""

    code = "tracker-lost"


class TrackerUnsupported(PrerequisiteMissing):
    """The kernel's tracing is not as this agent knows it."""

    code = "tracker-unsupported"
    remedy = "report the kernel's version; until then this server cannot be protected by change tracking"


@dataclass(frozen=True)
class PageLayout:
    """Where things are in a ring page (bytes)."""

    page_bytes: int
    commit_offset: int
    data_offset: int


@dataclass(frozen=True)
class EventLayout:
    """Where the fields of a block event are (bytes from the event's data); `rwbs` is 8 or more letters."""

    event_id: int
    dev: int
    sector: int
    nr_sector: int
    rwbs: int
    size: int


def parse_header_page(text: str) -> PageLayout:
    """Parse `events/header_page`; raises `TrackerUnsupported`."""
    fields = _fields(text)
    try:
        commit, commit_size = fields["commit"]
        data, data_size = fields["data"]
    except KeyError as error:
        raise TrackerUnsupported(f"the ring's pages have no field {error}") from error
    if sys.byteorder != "little" or commit_size != 8:
        raise TrackerUnsupported("change tracking needs a 64-bit little-endian kernel")
    return PageLayout(data + data_size, commit, data)


def check_header_event(text: str) -> None:
    """Raise `TrackerUnsupported` unless `events/header_event` describes the events this module parses."""
    found = dict(re.findall(r"^\s*(\w+)\s*:\s*(?:type == )?(\d+)(?: bits)?\s*$", text, re.MULTILINE))
    wanted = {"type_len": "5", "time_delta": "27", "array": "32", "padding": "29", "time_extend": "30"}
    differing = sorted(name for name, value in wanted.items() if found.get(name) != value)
    if differing:
        raise TrackerUnsupported(f"the ring's events differ in {', '.join(differing)}")


def parse_event_format(text: str) -> EventLayout:
    """Parse the `format` of `block_rq_complete` or `block_bio_queue`; raises `TrackerUnsupported`."""
    identity = re.search(r"^ID:\s*(\d+)\s*$", text, re.MULTILINE)
    fields = _fields(text)
    wanted = {"dev": 4, "sector": 8, "nr_sector": 4, "common_type": 2}
    differing = sorted(name for name, size in wanted.items() if fields.get(name, (0, 0))[1] != size)
    if identity is None or differing or fields["common_type"][0] != 0:
        raise TrackerUnsupported(f"the block event differs in {', '.join(differing) or 'its head'}")
    if "rwbs" not in fields:
        raise TrackerUnsupported("the block event does not say whether it is a read")
    dev, sector, nr_sector, rwbs = (fields[name][0] for name in ("dev", "sector", "nr_sector", "rwbs"))
    size = max(dev + 4, sector + 8, nr_sector + 4, rwbs + 1)
    return EventLayout(int(identity.group(1)), dev, sector, nr_sector, rwbs, size)


def used_bytes(page: memoryview, layout: PageLayout) -> int:
    """Return how many bytes of events the page holds; 0 for an empty slot. Raises `LostTrack` if impossible."""
    commit: int = _U64.unpack_from(page, layout.commit_offset)[0] & _COMMIT_MASK
    if commit > layout.page_bytes - layout.data_offset:
        raise LostTrack(f"a ring page claims {commit} bytes of events")
    return commit


def events_of(page: bytes, layout: PageLayout, event: EventLayout) -> Tuple[List[Event], int, bool]:
    """Return (dev, first sector, sectors, first letter of rwbs) of each event, their number, and whether some are lost.

    Raises `LostTrack` when the page does not parse.
    """
    commit = _U64.unpack_from(page, layout.commit_offset)[0]
    end = layout.data_offset + used_bytes(memoryview(page), layout)
    position = layout.data_offset
    found: List[Event] = []
    count = 0
    try:
        while position < end:
            head = _U32.unpack_from(page, position)[0]
            kind = head & 31
            if kind == _PADDING:
                if not head >> 5:
                    break  # the rest of the page is unused
                position += 4 + _U32.unpack_from(page, position + 4)[0]
                continue
            if kind in (_TIME_EXTEND, _TIME_STAMP):
                position += 8
                continue
            if kind:
                data, position = position + 4, position + 4 + kind * 4
            else:
                data, position = position + 8, position + 4 + _U32.unpack_from(page, position + 4)[0]
            count += 1
            if position > end:
                raise LostTrack("a ring page ends inside an event")
            if page[data] | page[data + 1] << 8 == event.event_id:
                if data + event.size > position:
                    raise LostTrack("an event of the ring is shorter than its format")
                found.append(_fields_of(page, data, event))
    except struct.error as error:
        raise LostTrack(f"a ring page does not parse: {error}") from error
    return found, count, bool(commit & _MISSED_EVENTS)


def parse_stats(text: str) -> "RingStats":
    """Parse `per_cpu/cpuN/stats`; raises `TrackerUnsupported` when a counter is missing."""
    numbers = dict(re.findall(r"^([a-z ]+): (\d+)\s*$", text, re.MULTILINE))
    try:
        lost = sum(int(numbers[name]) for name in ("overrun", "commit overrun", "dropped events"))
        return RingStats(int(numbers["entries"]), lost, int(numbers["read events"]))
    except KeyError as error:
        raise TrackerUnsupported(f"the ring's statistics have no {error}") from error


@dataclass(frozen=True)
class RingStats:
    """Counters of one CPU's ring since it was made: events to read, that nobody can read any more, that were read."""

    entries: int
    lost: int
    read: int

    @property
    def all(self) -> int:
        """Return how many events there ever were."""
        return self.entries + self.lost + self.read


def _fields(text: str) -> "dict[str, Tuple[int, int]]":
    found = re.findall(r"field:\s*([^;]+);\s*offset:(\d+);\s*size:(\d+);", text)
    return {re.sub(r"\[.*", "", name).split()[-1]: (int(offset), int(size)) for name, offset, size in found}


def _fields_of(page: bytes, data: int, event: EventLayout) -> Event:
    return (
        _U32.unpack_from(page, data + event.dev)[0],
        _U64.unpack_from(page, data + event.sector)[0],
        _U32.unpack_from(page, data + event.nr_sector)[0],
        page[data + event.rwbs],
    )
