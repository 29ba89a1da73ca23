"""The first witness: a tracefs instance of our own whose ring records every completed write of the tracked disks.

Rules kept here:
- The instance outlives the agent; a new agent goes on reading where the old one died.
- Reading consumes. Whole pages go straight into slots of a mapped file, are told, and only then is their slot emptied:
  a kill at any instant leaves a page in the ring, in a slot, or in the chunk maps. Telling twice is harmless, so slots
  are told again at start.
- For each CPU the file keeps how many events were merged and how many the ring had lost. After each drain both are
  compared with the kernel's own counters: what an overrun or a foreign reader took is `missing`, for the tracker to
  find elsewhere; a reset ring and a switched-off instance are `LostTrack`, never silence.

The slot file (native order, on a tmpfs): magic 8, page bytes 4, CPUs 4, the CPU being read 4; from byte 64 for each CPU
merged 8, lost 8, unmarked 8 (the events of this ring minus those marked, at the last look; with a sign), discarded 8
(sectors of the discards among those merged); at the next page boundary `SLOTS` pages, all of the CPU being read.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, replace
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

COMPLETED, QUEUED = "block_rq_complete", "block_bio_queue"
SLOTS = 64
MAX_FILLS = 256  # a disk that completes faster than Python parses must not hold the agent in one drain for ever
MIN_RING_KIB_PER_CPU = 64
DISCARD = ord("D")

_MAGIC = b"LBRING3\0"
_HEAD = struct.Struct("=8sII")
_CPU = struct.Struct("=I")
_COUNTS = 4  # numbers of 8 bytes
_COUNTS_START = 64

Mark = Callable[[int, int, int], None]
"""Called with the device number (as the kernel counts them), the first sector and the number of sectors."""


@dataclass(frozen=True)
class RingConfig:
    """What to trace, and where: `devices` are kernel device numbers (major << 20 | minor); `only` a letter of rwbs."""

    tracefs: str
    instance: str
    devices: Tuple[int, ...]
    kib: int
    slot_path: str
    event: str = COMPLETED
    only: str = ""

    @property
    def folder(self) -> str:
        """Return the instance's folder."""
        return f"{self.tracefs}/instances/{self.instance}"

    @property
    def filter(self) -> str:
        """Return the event filter; reads are what is denied, because the letters of writes differ by kernel."""
        devices = " || ".join(f"dev == {device}" for device in sorted(self.devices))
        letters = f'(rwbs ~ "{self.only}*")' if self.only else '!(rwbs ~ "R*")'
        return f"({devices}) && nr_sector > 0 && {letters}"


def exists(config: RingConfig) -> bool:
    """Tell whether the instance is there."""
    return os.path.isdir(config.folder)


def create(config: RingConfig) -> None:
    """Make the instance anew and let it record; an older one of the same name is removed."""
    remove(config.tracefs, config.instance)
    os.mkdir(config.folder)
    cpus = len(_cpu_names(config.folder))
    _write(f"{config.folder}/buffer_size_kb", str(max(MIN_RING_KIB_PER_CPU, config.kib // cpus)))
    _write(f"{config.folder}/events/block/{config.event}/filter", config.filter)
    _write(f"{config.folder}/tracing_on", "1")
    _write(f"{config.folder}/events/block/{config.event}/enable", "1")
    layout, _ = layouts(config.tracefs, config.event)
    slots = _slot_start(cpus, layout.page_bytes)
    with open(config.slot_path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, slots + SLOTS * layout.page_bytes)
        file.write(_HEAD.pack(_MAGIC, layout.page_bytes, cpus))


def remove(tracefs: str, instance: str) -> bool:
    """Remove the instance if it is there; return whether it was."""
    folder = f"{tracefs}/instances/{instance}"
    if not os.path.isdir(folder):
        return False
    _write(f"{folder}/events/enable", "0")
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
        self._filter = config.filter
        self.page, self.event = layouts(config.tracefs, config.event)
        names = _cpu_names(self._folder)
        self._open_slots(config.slot_path, len(names))
        self.cpus = len(names)
        self.cpu_numbers = [int(name[3:]) for name in names]
        self._filter_path = f"{self._folder}/events/block/{config.event}/filter"
        lists = (f"{self._folder}/{name}" for name in ("set_event_pid", "set_event_notrace_pid"))
        self._pid_lists = [path for path in lists if os.path.exists(path)]
        self.check_filter()
        self._pages = [_open(f"{self._folder}/per_cpu/{name}/trace_pipe_raw") for name in names]
        self._stats = [_open(f"{self._folder}/per_cpu/{name}/stats") for name in names]
        self._switch_names = ("tracing_on", f"events/block/{config.event}/enable")
        self._switches = [_open(f"{self._folder}/{name}") for name in self._switch_names]
        self._suspicion: Dict[int, int] = {}
        self.events = 0

    def check_filter(self) -> None:
        """Raise `LostTrack` unless the instance records our disks, and writes alone, on all CPUs for all processes."""
        if _read(self._filter_path).strip() != self._filter:
            raise LostTrack("the tracing instance records other disks")
        traced = int(_read(f"{self._folder}/tracing_cpumask").strip().replace(",", ""), 16)
        if any(not traced >> cpu & 1 for cpu in self.cpu_numbers):
            raise LostTrack("the tracing instance does not record all processors")
        if any(_read(path).strip() for path in self._pid_lists):
            raise LostTrack("the tracing instance does not record all processes")

    def recover(self, tell: Mark) -> None:
        """Merge what a killed agent left in the slots; raises `LostTrack` when it does not add up."""
        cpu = _CPU.unpack_from(self._file, _HEAD.size)[0]
        left, discarded, _ = self._merge(range(SLOTS), tell)
        if cpu >= self.cpus:
            raise LostTrack("the slot file names a CPU that is not there")
        before = self._counts(cpu)
        if left and self.statistics(cpu).read - before.merged == left:
            self._set_counts(cpu, before.plus(left, discarded))
        self._empty(range(SLOTS))

    def drain(self, tell: Mark) -> "List[Missing]":
        """Tell every event that is there; return what others than we took from the ring. Raises `LostTrack`.

        Everything that was read is told before it raises.
        """
        torn = [self._drain_cpu(cpu, tell) for cpu in range(self.cpus)]
        if any(os.pread(descriptor, 16, 0).strip() != b"1" for descriptor in self._switches):
            raise LostTrack("the tracing instance was switched off")
        found = [self._missing(cpu, torn[cpu]) for cpu in range(self.cpus)]
        return [missing for missing in found if missing is not None]

    def accept(self, missing: "Missing") -> None:
        """Miss these events no more: they were found elsewhere. What is lost from now on is missing again."""
        before = self._counts(missing.cpu)
        merged, lost = before.merged + missing.taken, before.lost + missing.lost
        self._set_counts(missing.cpu, replace(before, merged=merged, lost=lost))
        self._suspicion.pop(missing.cpu, None)

    def accept_all(self, cpu: int) -> None:
        """Take the counters of a CPU as they are: a resync covers what is missing."""
        stats = self.statistics(cpu)
        self._set_counts(cpu, replace(self._counts(cpu), merged=stats.read, lost=stats.lost))
        self._suspicion.pop(cpu, None)

    def switch_on(self) -> None:
        """Let the instance record our disks again, and nothing else, for all processes on all processors."""
        _write(self._filter_path, self._filter)
        _write(f"{self._folder}/tracing_cpumask", _mask(self.cpu_numbers))
        for path in self._pid_lists:
            _write(path, "")  # opened and truncated: of all processes
        for name in self._switch_names:
            _write(f"{self._folder}/{name}", "1")

    def known(self, cpu: int) -> int:
        """Return how many events of a CPU were merged or accepted as lost."""
        counts = self._counts(cpu)
        return counts.merged + counts.lost

    def unmarked(self, cpu: int) -> int:
        """Return how many events of a CPU the marks had not counted at the last look."""
        return self._counts(cpu).unmarked

    def set_unmarked(self, cpu: int, count: int) -> None:
        """Remember it."""
        self._set_counts(cpu, replace(self._counts(cpu), unmarked=count))

    @property
    def discarded(self) -> int:
        """Return how many sectors were discarded by the events that were merged so far."""
        return sum(self._counts(cpu).discarded for cpu in range(self.cpus))

    def statistics(self, cpu: int) -> RingStats:
        """Return the kernel's counters of a CPU."""
        return parse_stats(os.pread(self._stats[cpu], 4096, 0).decode())

    def close(self) -> None:
        """Stop reading; the instance goes on recording."""
        for descriptor in [*self._pages, *self._stats, *self._switches]:
            os.close(descriptor)
        self._numbers.release()
        self._view.release()
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
        self._numbers = self._view.cast("q")

    def _drain_cpu(self, cpu: int, tell: Mark) -> bool:
        torn = False
        _CPU.pack_into(self._file, _HEAD.size, cpu)
        for _ in range(MAX_FILLS):
            filled = self._fill(cpu)
            events, discarded, lost = self._merge(range(filled), tell)
            self._set_counts(cpu, self._counts(cpu).plus(events, discarded))
            self._empty(range(filled))
            self.events += events
            torn |= lost
            if filled < SLOTS:
                break
        return torn

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

    def _merge(self, slots: Sequence[int], tell: Mark) -> Tuple[int, int, bool]:
        count, discarded, torn = 0, 0, False
        size = self.page.page_bytes
        for slot in slots:
            start = self._slots + slot * size
            if not used_bytes(self._view[start : start + size], self.page):
                continue
            found, events, lost = events_of(bytes(self._view[start : start + size]), self.page, self.event)
            for device, sector, sectors, letter in found:
                tell(device, sector, sectors)
                if letter == DISCARD:
                    discarded += sectors
            count += events
            torn |= lost
        return count, discarded, torn

    def _empty(self, slots: Sequence[int]) -> None:
        for slot in slots:
            struct.pack_into("=Q", self._file, self._slots + slot * self.page.page_bytes + self.page.commit_offset, 0)

    def _missing(self, cpu: int, torn: bool) -> "Missing | None":
        stats, known = self.statistics(cpu), self._counts(cpu)
        if stats.lost < known.lost or stats.read < known.merged:
            raise LostTrack("the tracing instance's ring was emptied by another program")
        # What is missing must be missing twice: the counters are read a moment after the ring. The two numbers need not
        # be equal, or whoever reads all the time would never be noticed.
        difference = stats.read - known.merged
        taken = min(difference, self._suspicion.get(cpu, 0))
        self._suspicion[cpu] = difference
        lost = stats.lost - known.lost
        if lost or torn or taken:
            return Missing(cpu, lost, taken)
        return None

    def _counts(self, cpu: int) -> "_Counts":
        place = self._place(cpu)
        return _Counts(*self._numbers[place : place + _COUNTS])

    def _set_counts(self, cpu: int, counts: "_Counts") -> None:
        # Each is one store. `struct` clears them all first, and a kill between would leave zeros.
        new = (counts.merged, counts.lost, counts.unmarked, counts.discarded)
        for place, count in enumerate(new, self._place(cpu)):
            self._numbers[place] = count

    @staticmethod
    def _place(cpu: int) -> int:
        return _COUNTS_START // 8 + cpu * _COUNTS


@dataclass(frozen=True)
class _Counts:
    """What the slot file keeps of one CPU."""

    merged: int
    lost: int
    unmarked: int
    discarded: int

    def plus(self, events: int, discarded: int) -> "_Counts":
        return replace(self, merged=self.merged + events, discarded=self.discarded + discarded)


@dataclass(frozen=True)
class Missing:
    """Events of one CPU that the ring has no more: overwritten before they were read, or read by another program."""

    cpu: int
    lost: int
    taken: int

    @property
    def error(self) -> LostTrack:
        """Return why this is a resync when it is found nowhere else."""
        if self.taken:
            return LostTrack(f"another program read {self.taken} events from the tracing instance")
        return LostTrack(f"{self.lost or 'some'} events were overwritten before they were read", code="tracker-overrun")


def layouts(tracefs: str, event: str = COMPLETED) -> Tuple[PageLayout, EventLayout]:
    """Read the layouts that this kernel publishes; raises `TrackerUnsupported`."""
    try:
        check_header_event(_read(f"{tracefs}/events/header_event"))
        page = parse_header_page(_read(f"{tracefs}/events/header_page"))
        return page, parse_event_format(_read(f"{tracefs}/events/block/{event}/format"))
    except OSError as error:
        raise TrackerUnsupported(f"{error.filename} cannot be read: {error.strerror}") from error


def _mask(cpus: Sequence[int]) -> str:
    """Return a mask of processors as the kernel writes it: words of 32 bits, the highest first."""
    bits = sum(1 << cpu for cpu in cpus)
    return ",".join(f"{bits >> shift & 0xFFFFFFFF:08x}" for shift in range(max(cpus) // 32 * 32, -1, -32))


def _slot_start(cpus: int, page_bytes: int) -> int:
    return -(-(_COUNTS_START + cpus * _COUNTS * 8) // page_bytes) * page_bytes


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
