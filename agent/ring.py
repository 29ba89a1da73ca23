"""The tracker: a tracefs instance of our own whose ring records every completed write of the tracked disks.

Rules kept here:
- The instance outlives the agent; a new agent goes on reading where the old one died.
- Reading consumes. Whole pages go straight into slots of a mapped file, are marked in the chunk maps, and only then is
  their slot emptied: a kill at any instant leaves a page in the ring, in a slot, or in the maps. Marking twice is
  harmless, so slots are merged again at start.
- For each CPU the file keeps how many events were merged and how many the ring had lost. After each drain both are
  compared with the kernel's own counters: overrun, a foreign reader, a reset ring and a switched-off instance all end
  as `LostTrack`, never in silence.

The slot file (native order, on a tmpfs): magic 8, page bytes 4, CPUs 4; from byte 64 for each CPU merged 8, lost 8;
at the next page boundary `SLOTS` pages, all of the CPU being read. The CPU's number is in bytes 16 to 20.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

from agent.ring_format import (
    EventLayout,
    LostTrack,
    PageLayout,
    RingStats,
    TrackerUnsupported,
    check_header_event,
    events_of,
    parse_event_format,
    parse_header_page,
    parse_stats,
    used_bytes,
)

EVENT = "events/block/block_rq_complete"
SLOTS = 64
MAX_FILLS = 256  # a disk that completes faster than Python parses must not hold the agent in one drain for ever
MAX_RING_KIB = 65536
MIN_RING_KIB_PER_CPU = 512

_MAGIC = b"LBRING1\0"
_HEAD = struct.Struct("=8sII")
_CPU = struct.Struct("=I")
_COUNTS = struct.Struct("=QQ")
_COUNTS_START = 64

Mark = Callable[[int, int, int], None]
"""Called with the device number (as the kernel counts them), the first sector and the number of sectors."""


@dataclass(frozen=True)
class RingConfig:
    """What to trace, and where: `devices` are kernel device numbers (major << 20 | minor)."""

    tracefs: str
    instance: str
    devices: Tuple[int, ...]
    kib_per_cpu: int
    slot_path: str

    @property
    def folder(self) -> str:
        """Return the instance's folder."""
        return f"{self.tracefs}/instances/{self.instance}"

    @property
    def filter(self) -> str:
        """Return the event filter; reads are what is denied, because the letters of writes differ by kernel."""
        devices = " || ".join(f"dev == {device}" for device in sorted(self.devices))
        return f'({devices}) && nr_sector > 0 && !(rwbs ~ "R*")'


def exists(config: RingConfig) -> bool:
    """Tell whether the instance is there."""
    return os.path.isdir(config.folder)


def create(config: RingConfig) -> None:
    """Make the instance anew and let it record; an older one of the same name is removed."""
    remove(config.tracefs, config.instance)
    os.mkdir(config.folder)
    cpus = len(_cpu_names(config.folder))
    each = max(MIN_RING_KIB_PER_CPU, min(config.kib_per_cpu, MAX_RING_KIB // cpus))
    _write(f"{config.folder}/buffer_size_kb", str(each))
    _write(f"{config.folder}/{EVENT}/filter", config.filter)
    _write(f"{config.folder}/tracing_on", "1")
    _write(f"{config.folder}/{EVENT}/enable", "1")
    layout, _ = layouts(config.tracefs)
    slots = _slot_start(cpus, layout.page_bytes)
    with open(config.slot_path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, slots + SLOTS * layout.page_bytes)
        file.write(_HEAD.pack(_MAGIC, layout.page_bytes, cpus))


def remove(tracefs: str, instance: str) -> bool:
    """Remove the instance if it is there; return whether it was."""
    folder = f"{tracefs}/instances/{instance}"
    if not os.path.isdir(folder):
        return False
    _write(f"{folder}/{EVENT}/enable", "0")
    try:
        os.rmdir(folder)
    except OSError as error:
        raise TrackerUnsupported(
            f"the tracing instance {instance} is held by another program: {error.strerror}",
            remedy="end the program that reads it (another agent, trace-cmd), then start the agent again",
            code="tracker-busy",
        ) from error
    return True


class Ring:
    """Read the instance of `config`; raises `LostTrack` if the slot file does not belong to it."""

    def __init__(self, config: RingConfig) -> None:
        self._folder = config.folder
        self.page, self.event = layouts(config.tracefs)
        names = _cpu_names(self._folder)
        self._open_slots(config.slot_path, len(names))
        if _read(f"{self._folder}/{EVENT}/filter").strip() != config.filter:
            raise LostTrack("the tracing instance records other disks")
        self._pages = [_open(f"{self._folder}/per_cpu/{name}/trace_pipe_raw") for name in names]
        self._stats = [_open(f"{self._folder}/per_cpu/{name}/stats") for name in names]
        self._switch_names = ("tracing_on", f"{EVENT}/enable")
        self._switches = [_open(f"{self._folder}/{name}") for name in self._switch_names]
        self._suspicion: Dict[int, int] = {}
        self.events = 0
        self.overruns = 0

    def recover(self, mark: Mark) -> None:
        """Merge what a killed agent left in the slots; raises `LostTrack` when it does not add up."""
        cpu = _CPU.unpack_from(self._file, _HEAD.size)[0]
        left, _ = self._merge(range(SLOTS), mark)
        if cpu >= len(self._pages):
            raise LostTrack("the slot file names a CPU that is not there")
        if left and self._statistics(cpu).read - self._counts(cpu)[0] == left:
            self._set_counts(cpu, self._counts(cpu)[0] + left, self._counts(cpu)[1])
        self._empty(range(SLOTS))

    def drain(self, mark: Mark) -> int:
        """Mark every write that has completed so far and return the number of events. Raises `LostTrack`.

        Everything that was read is marked before it raises.
        """
        count, missed = 0, False
        for cpu in range(len(self._pages)):
            events, lost = self._drain_cpu(cpu, mark)
            count += events
            missed |= lost
        self.events += count
        self._check(missed)
        return count

    def accept_loss(self) -> None:
        """Let the ring record again and take its counters as they are: a resync covers what was lost before."""
        for name in self._switch_names:
            _write(f"{self._folder}/{name}", "1")
        self._suspicion.clear()
        for cpu in range(len(self._pages)):
            stats = self._statistics(cpu)
            self._set_counts(cpu, stats.read, stats.lost)

    def close(self) -> None:
        """Stop reading; the instance goes on recording."""
        for descriptor in [*self._pages, *self._stats, *self._switches]:
            os.close(descriptor)
        self._file.close()

    def _open_slots(self, path: str, cpus: int) -> None:
        with open(path, "r+b") as file:
            self._file = mmap.mmap(file.fileno(), 0)
        self._slots = _slot_start(cpus, self.page.page_bytes)
        expected = _HEAD.pack(_MAGIC, self.page.page_bytes, cpus)
        size = self._slots + SLOTS * self.page.page_bytes
        if len(self._file) != size or self._file[: _HEAD.size] != expected:
            raise LostTrack("the slot file does not belong to this ring")
        # Resident before the kernel copies a page into it: a copy that fails half way would lose events.
        self._file[self._slots :: 4096] = bytes(self._file[self._slots :: 4096])
        self._view = memoryview(self._file)

    def _drain_cpu(self, cpu: int, mark: Mark) -> Tuple[int, bool]:
        count, missed = 0, False
        _CPU.pack_into(self._file, _HEAD.size, cpu)
        for _ in range(MAX_FILLS):
            filled = self._fill(cpu)
            events, lost = self._merge(range(filled), mark)
            merged, known_lost = self._counts(cpu)
            self._set_counts(cpu, merged + events, known_lost)
            self._empty(range(filled))
            count += events
            missed |= lost
            if filled < SLOTS:
                break
        return count, missed

    def _fill(self, cpu: int) -> int:
        size = self.page.page_bytes
        for slot in range(SLOTS):
            start = self._slots + slot * size
            try:
                got = os.readv(self._pages[cpu], [self._view[start : start + size]])
            except BlockingIOError:
                return slot
            if got == 0:
                return slot
        return SLOTS

    def _merge(self, slots: Sequence[int], mark: Mark) -> Tuple[int, bool]:
        count, missed = 0, False
        size = self.page.page_bytes
        for slot in slots:
            start = self._slots + slot * size
            if not used_bytes(self._view[start : start + size], self.page):
                continue
            found, events, lost = events_of(bytes(self._view[start : start + size]), self.page, self.event)
            for device, sector, sectors in found:
                mark(device, sector, sectors)
            count += events
            missed |= lost
        return count, missed

    def _empty(self, slots: Sequence[int]) -> None:
        for slot in slots:
            struct.pack_into("=Q", self._file, self._slots + slot * self.page.page_bytes + self.page.commit_offset, 0)

    def _check(self, missed: bool) -> None:
        if any(os.pread(descriptor, 16, 0).strip() != b"1" for descriptor in self._switches):
            raise LostTrack("the tracing instance was switched off")
        lost = 0
        for cpu in range(len(self._pages)):
            stats, (merged, known_lost) = self._statistics(cpu), self._counts(cpu)
            if stats.lost < known_lost or stats.read < merged:
                raise LostTrack("the tracing instance's ring was emptied by another program")
            lost += stats.lost - known_lost
            # A difference must be seen twice: the counters are read a moment after the ring.
            difference = stats.read - merged
            if difference and self._suspicion.get(cpu) == difference:
                raise LostTrack(f"another program read {difference} events from the tracing instance")
            self._suspicion[cpu] = difference
        if lost or missed:
            self.overruns += 1
            raise LostTrack(f"{lost or 'some'} events were overwritten before they were read", code="tracker-overrun")

    def _statistics(self, cpu: int) -> RingStats:
        return parse_stats(os.pread(self._stats[cpu], 4096, 0).decode())

    def _counts(self, cpu: int) -> Tuple[int, int]:
        merged, lost = _COUNTS.unpack_from(self._file, _COUNTS_START + cpu * _COUNTS.size)
        return merged, lost

    def _set_counts(self, cpu: int, merged: int, lost: int) -> None:
        _COUNTS.pack_into(self._file, _COUNTS_START + cpu * _COUNTS.size, merged, lost)


def layouts(tracefs: str) -> Tuple[PageLayout, EventLayout]:
    """Read the layouts that this kernel publishes; raises `TrackerUnsupported`."""
    try:
        check_header_event(_read(f"{tracefs}/events/header_event"))
        page = parse_header_page(_read(f"{tracefs}/events/header_page"))
        return page, parse_event_format(_read(f"{tracefs}/{EVENT}/format"))
    except OSError as error:
        raise TrackerUnsupported(f"{error.filename} cannot be read: {error.strerror}") from error


def _slot_start(cpus: int, page_bytes: int) -> int:
    return -(-(_COUNTS_START + cpus * _COUNTS.size) // page_bytes) * page_bytes


def _cpu_names(folder: str) -> List[str]:
    names = [name for name in os.listdir(f"{folder}/per_cpu") if name.startswith("cpu")]
    return sorted(names, key=lambda name: int(name[3:]))


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
