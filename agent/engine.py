"""The agent's life: attach the tracker, replicate, cut, report, and leave cleanly.

Rules kept here:
- Track first, then read: what is written while the first reading runs is marked.
- One thread runs the loop and owns all that must not be torn; others only hand in what they learned.
- Every mode and reason that the loop knows is in the status, never in a log line alone.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

from agent import log, state, tracker
from agent.anew import disks_changed, why_anew
from agent.applications import Applications
from agent.chunk_map import ChunkMap, chunks_of, map_file
from agent.comparing import Digests
from agent.config import Config
from agent.control import Barrier, Control, CutRequest
from agent.cut import Cutter
from agent.disk import BufferPool, DiskIdentity, DiskReader, identify, resized
from agent.facts import cut_facts, firmware
from agent.follower import Follower
from agent.freezer import lock_memory, thaw_leftovers
from agent.group import Group, told
from agent.hold import Hold
from agent.identity import boot_id
from agent.link import Link, Tls
from agent.pulse import Pulse
from agent.reasons import Reason, reason
from agent.renewal import Renewal
from agent.replication import Replication
from agent.ring_format import LostTrack
from agent.sender import Sender
from agent.state import Lasting, Positions, Session
from agent.status import Status
from agent.tracker import Tracker, TrackerConfig
from dr.errors import Conflict, Unreachable

SOON_AGAIN_SECONDS = 10.0
REQUEST_SECONDS = 60.0
STATUS_SECONDS = 1.0
STOP_SECONDS = 3.0


class Engine:
    """Runs one protected server's agent until `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._wake = threading.Event()
        self._stopping = False
        self._unsaved: Optional[Reason] = None
        os.makedirs(config.run_folder, mode=0o700, exist_ok=True)
        os.makedirs(config.cache_folder, mode=0o700, exist_ok=True)
        for mount_point in thaw_leftovers(config.run_folder):
            log.say(f"thawed {mount_point}, which an earlier agent left frozen")
        self._disks = [identify(name, device) for name, device in config.disks.items()]
        self._positions = Positions(os.path.join(config.run_folder, "positions"))
        self._replication = self._attach()
        self._pulse = Pulse(config.cache_folder, [disk.kernel_device for disk in self._disks], config.pulse_seconds)
        self._cutter = Cutter(self._replication, config.run_folder, config.buffer_bytes)
        self._applications = Applications(config, self._wake)
        self._status = Status(config, self._replication, self._cutter, self._pulse, self._applications)
        self._cut_results: Deque[Tuple[Optional[CutRequest], Dict[str, Any], Optional[int]]] = deque()
        self._in_flight: List[str] = []
        self._answered: Deque[str] = deque(maxlen=256)
        self._next_cut = 0.0
        self._next_check = 0.0
        self._asked_since: Dict[str, float] = {}
        self._connect()

    def stop(self) -> None:
        """Ask the loop to end; may be called by a signal handler."""
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Replicate until stopped."""
        lock_memory()
        self._renewal.start()
        self._sender.start()
        self._follower.start()
        self._control.start()
        published = 0.0
        while not self._stopping:
            self._wake.clear()
            self._replication.watch()
            self._check_tracker()
            if self._follower.take_closed():
                self._sender.reopen()
            self._replication.handle(self._follower.position)
            self._group.follow(told(self._config.site, self._config.server, self._control.group, self._control.revoked))
            self._resync_if_asked()
            self._verify()
            self._finish_cuts()
            self._cut_if_due()
            self._replication.resync_waits_until = self._control.resync_waits_until
            busy = not self._fenced and self._replication.feed()
            if time.monotonic() - published >= STATUS_SECONDS or self._status.changed():
                published = time.monotonic()
                self._publish()
            if not busy:
                self._wake.wait(self._replication.pause_seconds)
        self._leave()

    def _check_tracker(self) -> None:
        """Notice what no counter tells: a pulse that does not appear, another filter, maps that see nothing."""
        now, pulse = time.monotonic(), self._pulse
        try:
            pulse.beat(now, self._replication.small_writes(pulse.devices))
            if now >= self._next_check:
                self._next_check = now + self._config.pulse_seconds
                self._replication.tracker.check()
        except LostTrack as error:
            self._replication.lost = error

    # -- beginning and end -------------------------------------------------------------------------------------

    def _attach(self) -> Replication:
        config = self._config
        session = state.load_session(config.run_folder)
        both = self._witnesses()
        lost: Optional[Reason] = None
        if session is not None and session.boot_id == boot_id() and session.protection_epoch == config.protection_epoch:
            changed = disks_changed(session.disks, self._sizes)
            try:
                if not changed:
                    return self._resume(session, both)
                lost = reason("disks-changed", changed)
            except (LostTrack, OSError, ValueError) as error:
                lost = reason("tracker-lost", str(error))
        return self._begin(both, session, lost)

    @property
    def _sizes(self) -> Dict[str, int]:
        return {disk.name: disk.size_bytes for disk in self._disks}

    def _witnesses(self) -> TrackerConfig:
        config = self._config
        return tracker.configure(
            config.tracefs,
            config.instance,
            config.pins,
            config.run_folder,
            {disk.kernel_device: (disk.name, disk.node, disk.size_bytes) for disk in self._disks},
            config.tracker_kib,
        )

    def _resume(self, session: Session, both: TrackerConfig) -> Replication:
        witnesses = tracker.reopen(both)
        maps = self._maps(create=False)
        replication = self._replicate(session, witnesses, maps)
        try:
            witnesses.recover(replication.mark)
        except LostTrack as error:
            replication.lost = error
        if session.resync_pending:
            why = session.reason or {"code": "tracker-lost", "message": "a resync was interrupted", "remedy": ""}
            replication.resync(Reason(**why))
        replication.drain()
        replication.ledger.start_over()
        log.say(f"tracking goes on in mode {session.mode}")
        return replication

    def _begin(self, both: TrackerConfig, before: Optional[Session], lost: Optional[Reason]) -> Replication:
        config, now = self._config, boot_id()
        lasting = state.load_lasting(config.cache_folder)
        why = lost or why_anew(lasting, before, now)
        session_file = os.path.join(config.run_folder, state.SESSION)
        if os.path.exists(session_file):
            os.unlink(session_file)
        witnesses = tracker.make(both)
        maps = self._maps(create=True)
        for name, value in (
            ("stored_sequence", 0),
            ("went_back_epoch", 0),
            ("sent_bytes", lasting.sent_bytes if lasting else 0),
            ("overruns", lasting.overruns if lasting else 0),
            ("events", lasting.events if lasting else 0),
            ("initial_bytes_total", sum(disk.size_bytes for disk in self._disks)),
        ):
            self._positions.set(name, value)
        if before is not None and before.protection_epoch != config.protection_epoch:
            self._positions.set("next_sequence", 0)
        session = Session(
            now,
            config.protection_epoch,
            "resync" if why else "initial-replication",
            dict(why.as_dict()) if why else None,
            fresh_replica=False,
            started=False,
            resync_pending=False,
            disks=self._sizes,
        )
        state.save_session(config.run_folder, session)
        self._save_lasting()
        log.say(f"tracking begins{f': {why.code}: {why.message}' if why else ''}")
        return self._replicate(session, witnesses, maps)

    def _maps(self, *, create: bool) -> Dict[str, ChunkMap]:
        folder = self._config.run_folder
        return {
            disk.name: map_file(os.path.join(folder, f"{disk.name}.map"), disk.size_bytes, create=create)
            for disk in self._disks
        }

    def _replicate(self, session: Session, witnesses: Tracker, maps: Mapping[str, ChunkMap]) -> Replication:
        buffers = BufferPool()
        readers = {disk.name: DiskReader(disk, buffers) for disk in self._disks}
        return Replication(self._config.run_folder, session, witnesses, maps, readers, self._positions)

    def _connect(self) -> None:
        config = self._config
        tls = Tls(config.ca, config.certificate, config.key)
        self._renewal = Renewal(config, tls)
        self._sender = Sender(
            config.server,
            config.protection_epoch,
            [Link(address, tls) for address in config.process_servers],
            _opening(self._disks),
            self._replication.ledger,
            self._positions,
            self._wake,
            lambda: self._control.bandwidth_bytes_per_second,
        )
        self._replication.sender = self._sender
        links = self._links(tls)
        self._follower = Follower(
            config.server,
            lambda: links[self._sender.link.address] if self._replication.sending else None,
            self._wake,
        )
        self._replication.digests = self._digests(tls, "what is read is sent")
        self._verifier = self._replication.verifier(
            self._digests(tls, "the verification pass waits"), self._wake.set, config.settle_seconds
        )
        self._control = Control(
            config.server, config.configuration_server, tls, lambda: self._status.document, self._wake
        )
        self._group = Group(tls, self._wake.set)

    def _links(self, tls: Tls) -> Dict[str, Link]:
        return {address: Link(address, tls) for address in self._config.process_servers}

    def _digests(self, tls: Tls, without: str) -> Digests:
        """Return what asks the process server of the stream for digests, on connections of its own."""
        links = self._links(tls)
        return Digests(self._config.server, lambda: links[self._sender.link.address], without)

    def _leave(self) -> None:
        self._sender.stop(STOP_SECONDS)
        self._follower.stop()
        self._control.stop()
        self._group.stop()
        self._renewal.stop()
        self._verifier.close()
        self._applications.leave()
        self._replication.drain()
        self._publish()
        self._save_lasting()
        log.say("the agent ends; the tracker goes on recording")

    def _save_lasting(self) -> None:
        get = self._positions.get
        lasting = Lasting(boot_id(), get("sent_bytes"), get("overruns"), get("events"))
        self._remember(lambda: state.save_lasting(self._config.cache_folder, lasting))

    def _remember(self, save: Callable[[], None]) -> None:
        """Save what the agent can do without: a full folder of the server must not end its protection."""
        try:
            save()
        except OSError as error:
            folders = f"{self._config.run_folder} or {self._config.cache_folder}"
            self._unsaved = reason("cannot-remember", f"{folders} cannot be written: {error.strerror}")
        else:
            self._unsaved = None

    @property
    def _fenced(self) -> bool:
        return self._control.protection_epoch > self._config.protection_epoch

    # -- status ------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        changed = resized(self._disks)
        if changed is not None:  # the next start finds what is there
            raise Conflict(changed.message, code=changed.code, remedy=changed.remedy)
        before = self._status.document.get("mode")
        document = self._status.refresh(
            self._sender,
            self._control,
            self._renewal.reason,
            self._unsaved,
            self._verifier.document,
            self._group.document(),
        )
        self._remember(lambda: state.save_json(os.path.join(self._config.run_folder, "status.json"), document))
        if document["mode"] != before:
            self._save_lasting()
            log.say(f"mode {document['mode']}" + (f" ({document['reason']['code']})" if document["reason"] else ""))
            self._control.soon()

    def _resync_if_asked(self) -> None:
        asked = self._control.resync_request
        if asked is None or asked == self._status.resync_request or self._fenced:
            return
        if self._replication.session.mode == "delta" or self._replication.waiting is not None:
            self._replication.resync(reason("requested", "somebody asked for it by `dr resync`"))
        # Otherwise the disks are being read from end to end already, which is what was asked for.
        self._status.resync_request = asked
        self._control.soon()

    def _verify(self) -> None:
        replication, verifier = self._replication, self._verifier
        if replication.session.mode != "delta" or self._fenced:
            verifier.abandon()
        elif replication.sending:
            get = self._positions.get
            verifier.step(self._control.verification_request, get("writer_epoch"), get("stored_sequence"))
        replication.verifying = verifier.running

    # -- cuts --------------------------------------------------------------------------------------------------

    def _cut_if_due(self) -> None:
        request = self._control.cut_request
        if request is not None and request.identity in self._answered:
            request = None
        now = time.monotonic()
        if self._fenced:
            self._group.refuse(reason("fenced", "its protection epoch is over"))
            return
        if self._replication.session.mode != "delta" or not self._replication.sending:
            self._group.refuse(reason("not-yet-protected", self._why_no_cut()))
            if request is not None and self._replication.session.mode != "delta":
                self._skip(request, reason("not-yet-protected", f"the mode is {self._replication.session.mode}"))
            return
        asked = request is not None and request.app_consistent
        if request is not None and asked and not self._applications.declared:
            self._skip(request, reason("no-applications", "the server has no applications that could be asked"))
            return
        due = now >= self._next_cut
        if self._in_flight:
            return
        barrier = self._group.turn(due=due, interval_seconds=self._interval()) if request is None else None
        if barrier is not None:
            self._cut(None, barrier)
            return
        wanted = self._applications.wanted(self._control.app_consistent_seconds, now, asked=asked)
        alone = due and not self._group.waits(now - self._next_cut, self._interval())
        if (request is not None or alone or wanted) and self._ready(request, now):
            self._ask_and_cut(request, now, wanted=wanted, alone=alone)

    def _ready(self, request: Optional[CutRequest], now: float) -> bool:
        """Tell whether a freeze would be short; what does not become so is named."""
        if not self._cutter.ready:
            self._replication.hurry()
            since = self._asked_since.setdefault(request.identity if request else "", now)
            if now - since > REQUEST_SECONDS:
                self._asked_since.clear()
                self._failed(request, reason("too-much-pending", "the server writes faster than it can be sent"))
            return False
        self._asked_since.clear()
        return True

    def _ask_and_cut(self, request: Optional[CutRequest], now: float, *, wanted: bool, alone: bool) -> None:
        """Cut, under applications that are held if that is wanted; `alone`: a cut without them is due as well."""
        hold = self._applications.held(now) if wanted else None
        if wanted and hold is None:  # scripts run; a cut without them waits for a while
            request = None if request is not None and request.app_consistent else request
            if not self._applications.slow or (request is None and not alone):
                return
        made = False
        try:
            made = self._cut(request, hold=hold)
        finally:
            if hold is not None:
                self._applications.over(hold, made, self._replication.drain)

    def _why_no_cut(self) -> str:
        why = self._status.document["reason"]
        mode = f"the mode is {self._replication.session.mode}"
        return f"{mode}: {why['code']}" if why else mode

    def _cut(
        self, request: Optional[CutRequest], barrier: Optional[Barrier] = None, hold: Optional[Hold] = None
    ) -> bool:
        if request is not None and request.barrier:
            try:
                barrier = self._control.barrier()
            except Unreachable as error:
                self._failed(request, reason("barrier-failed", error.message))
                return False
        info: Dict[str, Any] = {}

        def done(number: Optional[int]) -> None:
            self._cut_results.append((request, info, number))
            self._wake.set()

        try:
            cut = self._cutter.make(request, barrier, done, hold)
        finally:
            if barrier is not None:
                barrier.close()
        if cut.info is None:
            self._failed(request, cut.reason)
            return False
        info.update(cut.info)
        self._in_flight.append(request.identity if request else "")
        self._next_cut = time.monotonic() + self._interval()
        return True

    def _finish_cuts(self) -> None:
        while self._cut_results:
            request, info, number = self._cut_results.popleft()
            self._in_flight.clear()
            self._applications.arrived(info, number)
            if number is None:
                self._failed(request, reason("writer-changed", "the stream's writer changed before the cut arrived"))
                continue
            self._status.cut_sent(info, number)
            if request is not None:
                self._answered.append(request.identity)
                self._control.report(
                    request.identity, {"outcome": "sent", "number": number, "reason": info.get("warning")}
                )
            self._control.soon()

    def _failed(self, request: Optional[CutRequest], why: Optional[Reason]) -> None:
        assert why is not None
        self._next_cut = time.monotonic() + min(SOON_AGAIN_SECONDS, self._interval())
        self._status.cut_skipped(why)
        if request is not None:
            self._skip(request, why)

    def _skip(self, request: CutRequest, why: Reason) -> None:
        self._answered.append(request.identity)
        self._control.report(request.identity, {"outcome": "skipped", "number": None, "reason": why.as_dict()})

    def _interval(self) -> float:
        value = self._control.policy.get("crash_consistent_seconds")
        seconds = float(value) if isinstance(value, (int, float)) and value > 0 else 0.0
        return seconds or self._config.crash_consistent_seconds


def _opening(disks: List[DiskIdentity]) -> Dict[str, Any]:
    # Each agent process is another source, so that its opening raises the writer epoch: a segment that a killed one
    # had on its way can then not arrive under a number of ours, and pass for what we send.
    return {
        "disks": [{"name": disk.name, "size_bytes": disk.size_bytes} for disk in disks],
        "facts": {**cut_facts(), "firmware": firmware(), "agent_session": secrets.token_hex(8)},
    }


def map_bytes(disks: List[DiskIdentity]) -> int:
    """Return what the maps take in memory."""
    return sum(chunks_of(disk.size_bytes) for disk in disks)
