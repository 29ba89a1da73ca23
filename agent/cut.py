"""Makes a recovery point's cut: one instant of all disks, in the stream behind everything that belongs to it.

    catch up -> sync -> [freeze, let arrays come to rest] -> drain -> read all that is pending -> drain, no mark? ->
    [barrier] -> drain, no mark? -> [thaw, all of it our own?] -> send what was read -> cut segment

Rules kept here:
- A cut is valid only if no write completed between the first drain and the last, and every thaw was our own. A
  successful FIFREEZE proves nothing: swap and raw writers go on.
- Every earlier reading has ended before the first drain; a reading after the thaw would not belong to the instant.
- While frozen there is no log, no import, no file; what is read stays in a bounded buffer.
- An overrun of the deadline switches freezing off for that file system, by name, until a person has looked.
- Where nothing is frozen, a quiet interval is as good: an attempt costs the server nothing, so there are more of them.
- What an invalid attempt has read is still good as changes, and is sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, FrozenSet, List, Optional, Set, Tuple

from agent import log
from agent.arrays import Arrays
from agent.control import Barrier, CutRequest
from agent.disk import DiskUnreadable, Piece, resized
from agent.facts import cut_facts, firmware
from agent.filesystems import arrays_on, on_disks
from agent.freezer import FreezeFailed, Freezer, first
from agent.hold import Hold
from agent.ledger import Batch
from agent.quieting import Quieting
from agent.reasons import Reason, of_error, reason
from agent.replication import Replication
from agent.sender import CutParcel
from agent.unfrozen import unfrozen
from dr.errors import Unreachable

DEADLINE_SECONDS = 5.0
BARRIER_SECONDS = 2.0
READINGS_SECONDS = 30.0
CATCH_UP_SECONDS = 20.0
ATTEMPTS = 3
UNFROZEN_SECONDS = 5.0  # for as many attempts as fit, when nothing is frozen
QUIET_SECONDS = 0.01


@dataclass(frozen=True)
class Cut:
    """A valid cut that is queued behind its data, or the reason why there is none."""

    info: Optional[Dict[str, Any]]
    reason: Optional[Reason]


@dataclass
class _Attempt:
    taken: "List[Tuple[Batch, List[Piece]]]"
    reason: Optional[Reason] = None
    final: bool = False
    freeze_ms: int = 0
    cut_time: str = ""


class Cutter:
    """Makes cuts of `replication`; for the thread that owns it."""

    def __init__(self, replication: Replication, run_folder: str, buffer_bytes: int) -> None:
        self._replication = replication
        self._folder = run_folder
        self._buffer_bytes = buffer_bytes
        self.quieting = Quieting(run_folder)

    @property
    def ready(self) -> bool:
        """Tell whether so little is pending that a freeze would be short."""
        return self._replication.dirty_bytes <= self._buffer_bytes // 2

    def make(
        self, request: Optional[CutRequest], barrier: Optional[Barrier], done: Any, hold: Optional[Hold] = None
    ) -> Cut:
        """Make a cut and queue it; `done` is told its number when it is received, None when it went down.

        Applications that `hold` keeps are let go right after the thaw; how that went decides what the cut is called.
        """
        disks = frozenset((disk.kernel_device >> 20, disk.kernel_device & 0xFFFFF) for disk in self._replication.disks)
        file_systems = on_disks(disks)
        facts = self._facts(request, disks)
        loose = self.quieting.slow(file_systems, self._replication.drain)
        failure: Optional[Reason] = None
        began, number = time.monotonic(), 0
        while True:
            if self._replication.lost is not None:
                return Cut(None, of_error(self._replication.lost))
            if not self._caught_up():
                return Cut(None, reason("too-much-pending", f"more than {self._buffer_bytes // 2} bytes stay pending"))
            if not self._readings_done():
                return Cut(None, reason("too-much-pending", "earlier readings of the disks did not end"))
            loose.update((name, why.code) for name, why in self.quieting.off.items())
            holding = [each for each in file_systems if each.mount_point not in loose]
            with first():
                freezer = Freezer(self._folder, DEADLINE_SECONDS)
                arrays = Arrays(arrays_on(disks))
                try:
                    freezer.prepare(holding)
                except FreezeFailed as error:
                    loose.update(dict.fromkeys((each.mount_point for each in holding), error.code))
                    freezer.close()
                    freezer, holding = Freezer(self._folder, DEADLINE_SECONDS), []
                # What the cut takes and the maps tell of later is sent twice: let them tell now.
                self._replication.begin_round()
                if not holding:
                    self._quiet_moment(began + UNFROZEN_SECONDS)
                try:
                    unready = self._wait_for_others(barrier) if barrier is not None else None
                    attempt = _Attempt([], unready, final=True)
                    if unready is None:
                        attempt = self._attempt(freezer, arrays, request, barrier)
                finally:
                    freezer.close()
                    arrays.close()
                    log.release()
            self._judge(freezer, attempt)
            changed = resized(self._replication.disks)
            if changed is not None:
                attempt.reason, attempt.final = changed, True
            if attempt.reason is None:
                names = {each.mount_point for each in file_systems}
                info = self._outcome(facts, freezer, attempt, names, loose)
                info["group"] = barrier.claim() if barrier is not None else None
                return self._queued(attempt, info, done, hold, {name: loose[name] for name in names & loose.keys()})
            if barrier is not None:
                barrier.failed(attempt.reason)
            self._replication.send_read(attempt.taken)
            failure, number = attempt.reason, number + 1
            more = number < ATTEMPTS or (not holding and time.monotonic() < began + UNFROZEN_SECONDS)
            if attempt.final or not more:
                return Cut(None, failure)

    def _queued(
        self, attempt: _Attempt, info: Dict[str, Any], done: Any, hold: Optional[Hold], loose: Dict[str, str]
    ) -> Cut:
        """Queue a valid cut behind its data; applications are let go first, for that decides what it is called."""
        self._replication.send_read(attempt.taken)
        if hold is not None:
            info.update(hold.end(self._replication.drain, loose))
        self._replication.send_cut(CutParcel(info, done))
        return Cut(info, None)

    def _attempt(
        self, freezer: Freezer, arrays: Arrays, request: Optional[CutRequest], barrier: Optional[Barrier]
    ) -> _Attempt:
        replication = self._replication
        attempt = _Attempt([])
        log.hold()
        began = time.monotonic()
        try:
            if not freezer.freeze():
                return attempt  # thawed at once, and judged
            if freezer.frozen_mount_points:
                arrays.settle()  # one that does not, because it is rebuilt, is seen by the drains below
            replication.catch_up()
            if replication.dirty_bytes > self._buffer_bytes:
                attempt.reason = reason("too-much-pending", f"{replication.dirty_bytes} bytes changed before the cut")
                return attempt
            attempt.taken = replication.take_and_read()
            attempt.cut_time = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._quiet(attempt)
            if barrier is not None and attempt.reason is None:
                self._hold(attempt, barrier, request, began)
                if attempt.reason is None:
                    self._quiet(attempt)
                attempt.final = attempt.final or barrier.required
        except DiskUnreadable as error:
            attempt.reason = of_error(error)
        finally:
            own = freezer.thaw()
            attempt.freeze_ms = round((time.monotonic() - began) * 1000)
        if not own and attempt.reason is None:
            attempt.reason = reason("thaw-lost", "a file system was thawed before the cut was done")
        return attempt

    def _quiet(self, attempt: _Attempt) -> None:
        count = self._replication.drain()
        if self._replication.lost is not None:
            attempt.reason, attempt.final = of_error(self._replication.lost), True
        elif count:
            what = f"{count} writes reached the disks while they were read"
            attempt.reason = reason("busy-unfrozen-writer", what)

    def _wait_for_others(self, barrier: Barrier) -> Optional[Reason]:
        """Keep up until the others of a group are ready for a freeze as well; return why there can be no cut."""
        replication, waited = self._replication, False
        while barrier.may_freeze() is None:
            waited = True
            if replication.lost is not None:
                return of_error(replication.lost)
            replication.handle(None)
            if replication.session.mode != "delta" or not replication.sending:
                return reason("not-yet-protected", f"the mode became {replication.session.mode}, or the stream ended")
            replication.hurry()
            replication.feed()
            replication.drain()
            time.sleep(0.005)
        if waited and not self._readings_done():
            return reason("too-much-pending", "earlier readings of the disks did not end")
        if waited:
            replication.begin_round()
        return None

    def _hold(self, attempt: _Attempt, barrier: Barrier, request: Optional[CutRequest], began: float) -> None:
        left = DEADLINE_SECONDS - 1.0 - (time.monotonic() - began)
        cut = request.identity if request else ""
        try:
            released = left > 0.2 and barrier.wait(cut, min(BARRIER_SECONDS, left))
            if barrier.required and not released:
                attempt.reason = reason("barrier-timeout", "the point was not released in time")
        except Unreachable as error:
            attempt.reason = reason("barrier-failed", error.message)

    def _judge(self, freezer: Freezer, attempt: _Attempt) -> None:
        """Switch freezing off for what overran the deadline: whose own freeze stalled, else what was thawed late."""
        late = freezer.stalled or freezer.overran
        if not late and attempt.freeze_ms > DEADLINE_SECONDS * 1000:
            late = freezer.frozen_mount_points
        if late:
            attempt.reason = self.quieting.switch_off(late, attempt.freeze_ms)

    def _quiet_moment(self, until: float) -> None:
        """Wait for a moment in which nobody writes."""
        quiet_since = time.monotonic()
        while time.monotonic() < min(until, quiet_since + QUIET_SECONDS):
            time.sleep(0.001)
            if self._replication.drain():
                quiet_since = time.monotonic()

    def _caught_up(self) -> bool:
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while not self.ready:
            self._replication.handle(None)
            if time.monotonic() > deadline or not self._replication.sending or self._replication.unread:
                return False
            self._replication.hurry()
            self._replication.feed()
            self._replication.drain()
            time.sleep(0.01)
        return True

    def _readings_done(self) -> bool:
        deadline = time.monotonic() + READINGS_SECONDS
        while not self._replication.readings_done():
            if time.monotonic() > deadline:
                return False
            self._replication.drain()
            time.sleep(0.005)
        return True

    def _facts(self, request: Optional[CutRequest], disks: "FrozenSet[Tuple[int, int]]") -> Dict[str, Any]:
        return {
            "kind": "crash-consistent",
            "requested": request.identity if request else None,
            "disks": [disk.name for disk in self._replication.disks],
            "firmware": firmware(),
            "facts": cut_facts(),
            "not_frozen": unfrozen(disks),
        }

    @staticmethod
    def _outcome(
        facts: Dict[str, Any], freezer: Freezer, attempt: _Attempt, mount_points: Set[str], loose: Dict[str, str]
    ) -> Dict[str, Any]:
        refused = [{"name": name, "reason": why} for name, why in sorted(loose.items()) if name in mount_points]
        return {
            **facts,
            "frozen": freezer.frozen_mount_points,
            "not_frozen": freezer.not_frozen + refused + facts["not_frozen"],
            "cut_time": attempt.cut_time,
            "freeze_ms": attempt.freeze_ms if freezer.frozen_mount_points else 0,
        }
