"""The tracker: two witnesses of the same tracepoint, and the union of what they saw.

    ring (agent/ring.py)        keeps every event, until it is full
    marks (agent/bpf_marks.py)  never full, but the kernel skips runs of its program

Rules kept here:
- Everything that either has seen is marked. The ring is drained all the time; a *round* drains it and then takes the
  marks of a whole buffer.
- What the ring lost (overrun, a foreign reader) is no loss of track if the marks have it, and that is counted, not
  hoped for: for each CPU, events of the ring minus events marked must be what it was at the last round, when nothing
  was missing. Both counters are read *on* that CPU, where no handler of the tracepoint can be half done.
- The last round's difference is read before the drain, or an event between the two would count as known. A difference
  that shrinks says that the ring was paused meanwhile: lost track, whatever the switches say now.
- Without the marks (old kernel, no bpffs, lockdown) the ring works alone, by name.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from agent import bpf_marks, log, ring
from agent.bpf_kernel import NoEbpf, release_bpffs
from agent.bpf_marks import Marks, MarksConfig
from agent.bpf_program import plan
from agent.certificate import Certificate
from agent.chunk_map import chunks_of
from agent.discards import Discards, Pending, in_flight
from agent.reasons import Reason, of_error
from agent.ring import QUEUED, Mark, Missing, Ring, RingConfig
from agent.ring_format import LostTrack

LOOKS = 20
QUEUED_SHARE = 8  # one part in so many of the rings' memory is for queued discards
SILENT_CHECKS = 3  # the kernel may have skipped the program by chance, but not each time
_UNKNOWN = -(1 << 63)


@dataclass(frozen=True)
class TrackerConfig:
    """Both witnesses and the ring of queued discards; `disks` maps kernel devices to (name, node, bytes)."""

    ring: RingConfig
    queued: RingConfig
    marks: MarksConfig
    run_folder: str
    disks: Mapping[int, Tuple[str, str, int]]


@dataclass(frozen=True)
class Look:
    """A CPU's counters at one instant: events of the ring so far, and how many of them are not marked."""

    all_events: int
    unmarked: int


class Tracker:
    """Both witnesses of one server; for the thread that owns the chunk maps."""

    def __init__(
        self,
        events: Ring,
        marks: Optional[Marks],
        discards: Optional[Discards],
        ring_only: Optional[Reason],
        marks_anew: Optional[Callable[[], Marks]] = None,
    ) -> None:
        self._ring = events
        self._discards = discards
        self._marks_anew = marks_anew
        self._checked = (0, 0)
        self._silent_checks = 0
        self._marks = marks
        self.ring_only = ring_only
        self._vouching = marks is not None and not marks.made
        self._round = 0
        self._before = self._totals()
        self._lost = 0
        self._covered = 0
        self.certificate: Optional[Certificate] = None

    @property
    def kind(self) -> str:
        """Return which witnesses there are."""
        return "ring" if self._marks is None else "ring+maps"

    @property
    def events(self) -> int:
        """Return how many events this process has read from the ring."""
        return self._ring.events

    def recover(self, mark: Mark) -> None:
        """Take in what a killed agent left half done; raises `LostTrack` when it does not add up."""
        if self._marks is not None:
            self._marks.merge_old(mark)
        self._ring.recover(mark)
        if self._discards is not None:
            self._discards.recover()

    def drain(self, mark: Mark) -> int:
        """Mark every write that the ring holds; return how many. Raises `LostTrack`; what was read is marked then."""
        before = self._ring.events
        missing = self._ring.drain(mark)
        return self._ring.events - before + self._find(missing, mark)

    def catch_up(self, mark: Mark) -> None:
        """Mark the discards that were queued and of which completions do not tell all. Raises `LostTrack`."""
        if self._discards is not None:
            self._discards.catch_up(mark)

    def round(self, mark: Mark, drained: Callable[[], None]) -> Certificate:
        """Drain both witnesses and certify it; raises `LostTrack`.

        `drained` is called when all is marked that completed before the round began: what completes later is marked
        (perhaps again) by the next round.
        """
        looks = self._looks()
        try:
            self.drain(mark)
            self._remember(looks)
            if self._discards is not None:
                self._discards.round(self._ring.discarded, mark, time.monotonic())
        except LostTrack as error:
            self._certify(of_error(error))
            raise
        drained()
        if self._marks is not None and self._marks.flip():
            self._marks.merge_old(mark)
        return self._certify(None)

    def check(self) -> None:
        """Look at what no counter tells: the instance's filter, the pins, maps that see nothing. Raises `LostTrack`.

        To be called from time to time, with writes in between.
        """
        self._ring.check_filter()
        if self._marks is None:
            return
        try:
            if self._marks.keep_pinned():
                log.say("tracker: the pins of the maps were removed, and are there again")
            if self._marks_are_silent(self._marks) and self._marks_anew is not None:
                log.say("tracker: the maps have not seen what the ring has, and are made anew")
                self._marks.close()
                self._marks, self._vouching = self._marks_anew(), False
                self._before = self._totals()
        except NoEbpf as error:
            self._go_on_alone(of_error(error))

    def accept_loss(self) -> None:
        """Record again, and take all counters as they are: a resync covers what was lost before."""
        self._ring.switch_on()
        if self._discards is not None:
            self._discards.accept_loss()
        looks = self._looks()
        for cpu in range(self._ring.cpus):
            self._ring.accept_all(cpu)
            self._ring.set_unmarked(cpu, looks[cpu].unmarked if cpu in looks else _UNKNOWN)
        self._vouching = self._marks is not None

    def close(self) -> None:
        """Stop reading; both witnesses go on recording."""
        self._ring.close()
        if self._discards is not None:
            self._discards.close()
        if self._marks is not None:
            self._marks.close()

    def _marks_are_silent(self, marks: Marks) -> bool:
        before, self._checked = self._checked, (self._ring.events, marks.events)
        silent = self._checked[0] > before[0] and self._checked[1] == before[1]
        self._silent_checks = self._silent_checks + 1 if silent else 0
        return self._silent_checks >= SILENT_CHECKS

    def _go_on_alone(self, why: Reason) -> None:
        log.say(f"tracker: {why.code}: {why.message}")
        self._marks, self._vouching, self.ring_only = None, False, why

    # -- what the ring has no more -----------------------------------------------------------------------------

    def _find(self, missing: "List[Missing]", mark: Mark) -> int:
        """Mark what `missing` was about from the maps; raise the `LostTrack` of what they do not have."""
        if not missing:
            return 0
        found, not_found = 0, None
        for each in missing:
            self._lost += each.lost
            if self._vouching and self._all_marked(each.cpu):
                found += each.lost + each.taken
            else:
                not_found = not_found or each.error
        if self._marks is not None and self._marks.flip():
            self._marks.merge_old(mark)
        if not_found is not None:
            raise not_found
        for each in missing:
            self._ring.accept(each)
        self._covered += found
        log.say(f"tracker: {found} events that the ring lost are marked in the maps")
        return found

    def _all_marked(self, cpu: int) -> bool:
        look = self._look(cpu)
        return look is not None and look.unmarked == self._ring.unmarked(cpu)

    def _looks(self) -> Dict[int, Look]:
        if self._marks is None:
            return {}
        found = {cpu: self._look(cpu) for cpu in range(self._ring.cpus)}
        return {cpu: look for cpu, look in found.items() if look is not None}

    def _look(self, cpu: int) -> Optional[Look]:
        """Read both counters of a CPU at one instant; None when it is too busy, or not ours to run on."""
        assert self._marks is not None
        number = self._ring.cpu_numbers[cpu]
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {number})
        except OSError:
            return None
        try:
            for _ in range(LOOKS):
                marked = self._marks.events_of_cpu(number)
                counted = self._ring.statistics(cpu).all
                if self._marks.events_of_cpu(number) == marked:
                    return Look(counted, counted - marked)
            return None
        finally:
            os.sched_setaffinity(0, before)

    def _remember(self, looks: Dict[int, Look]) -> None:
        for cpu, look in looks.items():
            # Only what was drained since is known: an event that waits in the ring may be one that is not marked.
            before = self._ring.unmarked(cpu)
            if self._ring.known(cpu) < look.all_events or before == look.unmarked:
                continue
            if self._vouching and before > look.unmarked:
                # A pause that no switch shows any more: somebody read `trace`, or switched it off and on again.
                raise LostTrack(f"the ring did not record {before - look.unmarked} events or more that are marked")
            self._ring.set_unmarked(cpu, look.unmarked)
        self._vouching = self._marks is not None

    # -- the certificate ---------------------------------------------------------------------------------------

    def _totals(self) -> Tuple[int, int, int, Optional[int]]:
        if self._marks is None:
            return self._ring.events, 0, 0, None
        return self._ring.events, self._marks.events, self._marks.coarse, self._marks.skipped

    def _certify(self, why: Optional[Reason]) -> Certificate:
        now, before = self._totals(), self._before
        self._round += 1
        marks = self._marks
        skipped = now[3] - before[3] if now[3] is not None and before[3] is not None else None
        self.certificate = Certificate(
            number=self._round,
            complete=why is None,
            reason=why.as_dict() if why else None,
            ring_events=now[0] - before[0],
            marked_events=now[1] - before[1] if marks else None,
            coarse_events=now[2] - before[2] if marks else None,
            overrun_events=self._lost,
            covered_events=self._covered,
            skipped_runs=skipped,
            unmarked_events=sum(self._ring.unmarked(cpu) for cpu in range(self._ring.cpus)) if self._vouching else None,
        )
        self._before, self._lost, self._covered = now, 0, 0
        return self.certificate


def configure(
    tracefs: str, instance: str, pins: str, run_folder: str, disks: Mapping[int, Tuple[str, str, int]], kib: int
) -> TrackerConfig:
    """Lay out the tracker of `disks` (kernel device to name, node, bytes), with `kib` for all rings together."""
    queued, devices = kib // QUEUED_SHARE, tuple(disks)
    slots, queued_slots = (os.path.join(run_folder, name) for name in ("ring.slots", "discards.slots"))
    return TrackerConfig(
        RingConfig(tracefs, instance, devices, kib - queued, slots),
        RingConfig(tracefs, queued_instance(instance), devices, queued, queued_slots, QUEUED, "D"),
        MarksConfig(pins, plan([(device, chunks_of(size)) for device, (_, _, size) in disks.items()])),
        run_folder,
        disks,
    )


def exists(config: TrackerConfig) -> bool:
    """Tell whether the rings are there; without maps they are enough to go on."""
    return ring.exists(config.ring) and ring.exists(config.queued)


def make(config: TrackerConfig) -> Tracker:
    """Make both witnesses anew and let them record."""
    bpf_marks.remove(config.marks.folder)
    ring.create(config.ring)
    ring.create(config.queued)
    tracker = _open(config, fresh=True)
    tracker.accept_loss()
    return tracker


def reopen(config: TrackerConfig) -> Tracker:
    """Open the witnesses of an earlier agent; raises `LostTrack`, or `OSError` when there is none."""
    if not exists(config):
        raise LostTrack("the tracing instance is gone")
    return _open(config, fresh=False)


def remove(tracefs: str, instance: str, pins: str) -> None:
    """Remove both witnesses, and what was mounted for them."""
    for name in (instance, queued_instance(instance)):
        ring.remove(tracefs, name)
    bpf_marks.remove(pins)
    with suppress(OSError):
        release_bpffs(os.path.dirname(pins))


def _open(config: TrackerConfig, *, fresh: bool) -> Tracker:
    events = Ring(config.ring)

    discards = _discards(config)

    def anew() -> Marks:
        return bpf_marks.open_or_make(config.marks, events.event, fresh=True)

    try:
        marks = anew() if fresh else bpf_marks.open_or_make(config.marks, events.event, fresh=False)
        return Tracker(events, marks, discards, None, anew)
    except NoEbpf as error:
        why = of_error(error)
        log.say(f"tracker: {why.code}: {why.message}")
        return Tracker(events, None, discards, why)


def queued_instance(instance: str) -> str:
    """Return the name of the tracing instance for queued discards."""
    return f"{instance}-discards"


def _discards(config: TrackerConfig) -> Discards:
    nodes = [node for _, node, _ in config.disks.values()]
    pending = Pending(config.run_folder, {device: (name, size) for device, (name, _, size) in config.disks.items()})
    return Discards(Ring(config.queued), pending, lambda: in_flight(nodes))
