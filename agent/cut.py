"""Makes a recovery point's cut: one instant of all disks, in the stream behind everything that belongs to it.

    catch up -> sync -> [freeze, let arrays come to rest] -> drain -> read all that is pending -> drain, no mark? ->
    [barrier] -> drain, no mark? -> [thaw, all of it our own?] -> send what was read -> cut segment

Rules kept here:
- A cut is valid only if no write completed between the first drain and the last, and every thaw was our own. A
  successful FIFREEZE proves nothing: swap and raw writers go on.
- Every earlier reading has ended before the first drain; a reading after the thaw would not belong to the instant.
- While frozen there is no log, no import, no file; what is read stays in a bounded buffer.
- An overrun of the deadline switches freezing off, by name, until a person has looked.
- What an invalid attempt has read is still good as changes, and is sent.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

from agent import log, state
from agent.arrays import Arrays
from agent.control import Barrier, CutRequest
from agent.disk import DiskUnreadable, Piece, resized
from agent.facts import cut_facts, firmware
from agent.filesystems import FileSystem, arrays_on, on_disks, swaps_on
from agent.freezer import FreezeFailed, Freezer, sync_file_system
from agent.ledger import Batch
from agent.reasons import Reason, from_dict, of_error, reason
from agent.replication import Replication
from agent.sender import CutParcel
from dr.errors import Unreachable

DEADLINE_SECONDS = 5.0
BARRIER_SECONDS = 2.0
SYNC_SECONDS = 2.0
READINGS_SECONDS = 30.0
CATCH_UP_SECONDS = 20.0
ATTEMPTS = 3
FREEZING_OFF = "freezing-off.json"


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
        self._syncing: List[threading.Thread] = []

    @property
    def freezing_off(self) -> Optional[Reason]:
        """Return why file systems are not frozen any more, None while they are."""
        return from_dict(state.load_json(os.path.join(self._folder, FREEZING_OFF)))

    @property
    def ready(self) -> bool:
        """Tell whether so little is pending that a freeze would be short."""
        return self._replication.dirty_bytes <= self._buffer_bytes // 2

    def make(self, request: Optional[CutRequest], barrier: Optional[Barrier], done: Any) -> Cut:
        """Make a cut and queue it; `done` is told its number when it is received, None when it went down."""
        disks = frozenset((disk.kernel_device >> 20, disk.kernel_device & 0xFFFFF) for disk in self._replication.disks)
        file_systems = on_disks(disks)
        facts = self._facts(request, disks)
        why = self.freezing_off or self._sync(file_systems)
        failure: Optional[Reason] = None
        for _ in range(ATTEMPTS):
            if self._replication.lost is not None:
                return Cut(None, of_error(self._replication.lost))
            if not self._caught_up():
                return Cut(None, reason("too-much-pending", f"more than {self._buffer_bytes // 2} bytes stay pending"))
            if not self._readings_done():
                return Cut(None, reason("too-much-pending", "earlier readings of the disks did not end"))
            # What the cut takes and the maps tell of later is sent twice: let them tell now.
            self._replication.begin_round()
            freezer = Freezer(self._folder, DEADLINE_SECONDS)
            arrays = Arrays(arrays_on(disks))
            try:
                if why is None:
                    freezer.prepare(file_systems)
            except FreezeFailed as error:
                why = of_error(error)
            try:
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
                info = self._outcome(facts, freezer, attempt, file_systems, why)
                self._replication.send_read(attempt.taken, CutParcel(info, done))
                return Cut(info, None)
            self._replication.send_read(attempt.taken, None)
            failure = attempt.reason
            if attempt.final:
                break
        return Cut(None, failure)

    def _attempt(
        self, freezer: Freezer, arrays: Arrays, request: Optional[CutRequest], barrier: Optional[Barrier]
    ) -> _Attempt:
        replication = self._replication
        attempt = _Attempt([])
        log.hold()
        began = time.monotonic()
        freezer.freeze()
        try:
            if freezer.frozen_mount_points:
                arrays.settle()  # one that does not, because it is rebuilt, is seen by the drains below
            replication.drain()
            if replication.dirty_bytes > self._buffer_bytes:
                attempt.reason = reason("too-much-pending", f"{replication.dirty_bytes} bytes changed before the cut")
                return attempt
            attempt.taken = replication.take_and_read()
            attempt.cut_time = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._quiet(attempt)
            if barrier is not None and request is not None and attempt.reason is None:
                self._hold(attempt, barrier, request, began)
                if attempt.reason is None:
                    self._quiet(attempt)
                attempt.final = True
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

    def _hold(self, attempt: _Attempt, barrier: Barrier, request: CutRequest, began: float) -> None:
        left = DEADLINE_SECONDS - 1.0 - (time.monotonic() - began)
        try:
            if left <= 0.2 or not barrier.wait(request.identity, min(BARRIER_SECONDS, left)):
                attempt.reason = reason("barrier-timeout", "the point was not released in time")
        except Unreachable as error:
            attempt.reason = reason("barrier-failed", error.message)

    def _judge(self, freezer: Freezer, attempt: _Attempt) -> None:
        """Switch freezing off if the deadline was overrun."""
        if not freezer.overrun and attempt.freeze_ms <= DEADLINE_SECONDS * 1000:
            return
        why = reason("freeze-deadline", f"a cut kept file systems frozen for {attempt.freeze_ms} ms")
        if freezer.frozen_mount_points:
            state.save_json(os.path.join(self._folder, FREEZING_OFF), dict(why.as_dict()))
            log.say(f"freezing is off: {why.message}")
        attempt.reason = attempt.reason or why

    def _sync(self, file_systems: List[FileSystem]) -> Optional[Reason]:
        self._syncing = [thread for thread in self._syncing if thread.is_alive()]
        if not self._syncing:
            self._syncing = [threading.Thread(target=_sync_one, args=(each,), daemon=True) for each in file_systems]
            for thread in self._syncing:
                thread.start()
        deadline = time.monotonic() + SYNC_SECONDS
        while any(thread.is_alive() for thread in self._syncing) and time.monotonic() < deadline:
            self._replication.drain()
            time.sleep(0.02)
        if any(thread.is_alive() for thread in self._syncing):
            return reason("slow-sync", f"writing back took longer than {SYNC_SECONDS:.0f} s")
        return None

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
            "not_frozen": [
                {"name": f"swap:{path}", "reason": "swap is written at any time"} for path in swaps_on(disks)
            ],
        }

    @staticmethod
    def _outcome(
        facts: Dict[str, Any],
        freezer: Freezer,
        attempt: _Attempt,
        file_systems: List[FileSystem],
        why: Optional[Reason],
    ) -> Dict[str, Any]:
        refused = freezer.not_frozen
        if why is not None:
            refused = [{"name": each.mount_point, "reason": why.code} for each in file_systems]
        return {
            **facts,
            "frozen": freezer.frozen_mount_points,
            "not_frozen": refused + facts["not_frozen"],
            "cut_time": attempt.cut_time,
            "freeze_ms": attempt.freeze_ms if why is None else 0,
        }


def _sync_one(file_system: FileSystem) -> None:
    try:
        descriptor = os.open(file_system.mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # unmounted meanwhile
    try:
        sync_file_system(descriptor)
    except OSError:
        pass  # the freeze that follows flushes as well, and names what fails
    finally:
        os.close(descriptor)
