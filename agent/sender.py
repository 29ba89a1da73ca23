"""The sending thread: takes parcels in order, gives each its sequence, and delivers them to a process server.

    OPENING --stream opened, and its writer is new to us--> ASKING --`go`--> SENDING
    SENDING --connection lost, stream opened again under the same writer epoch--> SENDING (the same segment again)
    SENDING --writer changed--> ASKING      any --403 fenced--> FENCED

Rules kept here:
- Segments are numbered when they are sent, one after the other, never twice under one writer epoch with other bytes.
- In ASKING nothing is sent until the owner of the maps has marked again what is not known to be stored.
- A parcel that was answered by 503 is sent again after `Retry-After`; its marks stay.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Deque, Dict, Mapping, Optional

from agent import log
from agent.disk import DiskUnreadable
from agent.ledger import Batch, Ledger
from agent.link import Link, counter, pause_seconds
from agent.pacing import Pacer
from agent.reasons import Reason, of_error, reason
from agent.state import Positions
from dr.errors import LifeboatError, Unreachable
from dr.journal import SegmentHeader, SegmentKind, SegmentWriter

PUT_SECONDS = 60.0
OPEN_SECONDS = 60.0
TRIES_PER_SERVER = 3


class SenderState(Enum):
    """Where the sending thread stands."""

    OPENING = "opening"
    ASKING = "asking"
    SENDING = "sending"
    FENCED = "fenced"


class _WriterChanged(Exception):
    """The stream has another writer; what is not stored must be read and sent again."""


class _Stopped(Exception):
    """The agent ends."""


@dataclass(frozen=True)
class Opened:
    """The answer to an opened stream."""

    writer_epoch: int
    next_sequence: int
    received_sequence: int
    stored_sequence: int
    replica_sequence: int
    store_went_back: bool
    replica_empty: bool

    def forgot(self, told: int) -> bool:
        """Tell whether the store went back: behind what we were `told`, or behind what only the process server knew."""
        return self.store_went_back or self.replica_sequence < told


@dataclass(frozen=True)
class Parcel:
    """A batch on its way: `packed` resolves to its writer, or raises `DiskUnreadable`."""

    batch: Batch
    packed: "Future[SegmentWriter]"


@dataclass(frozen=True)
class CutParcel:
    """A cut on its way; `info` is completed with its number, `done` is told the number or None (writer changed)."""

    info: Mapping[str, Any]
    done: Callable[[Optional[int]], None]


class Sender:
    """Owns the connection for segments. All public members may be used by the owner of the maps."""

    def __init__(
        self,
        server: str,
        protection_epoch: int,
        links: "list[Link]",
        opening: Mapping[str, Any],
        ledger: Ledger,
        positions: Positions,
        wake: threading.Event,
        bandwidth: Callable[[], Optional[int]],
    ) -> None:
        self._path = f"/v1/servers/{server}"
        self._epoch = protection_epoch
        self._links = links
        self._which = 0
        self._opening = opening
        self._ledger = ledger
        self._positions = positions
        self._wake = wake
        self._bandwidth = bandwidth
        self._pacer = Pacer()
        self._parcels: Deque[Any] = deque()
        self._condition = threading.Condition()
        self._stop = threading.Event()
        self._reopen = False
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self.state = SenderState.OPENING
        self.opened: Optional[Opened] = None
        self.trouble: Optional[Reason] = None
        self.finished: Deque[Batch] = deque()
        self.unreadable: Deque[Batch] = deque()

    def start(self) -> None:
        """Begin to open the stream."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Finish the segment that is being sent, then end; wait for it at most `seconds`."""
        self._stop.set()
        with self._condition:
            self._condition.notify_all()
        self._thread.join(seconds)

    def put(self, parcel: Any) -> None:
        """Queue a parcel."""
        with self._condition:
            self._parcels.append(parcel)
            self._condition.notify_all()

    @property
    def queued(self) -> int:
        """Count the parcels that are not delivered."""
        return len(self._parcels)

    def unread(self) -> "list[Future[SegmentWriter]]":
        """Return the packings that are not finished yet."""
        parcels = list(self._parcels)
        return [each.packed for each in parcels if isinstance(each, Parcel) and not each.packed.done()]

    def drop(self) -> None:
        """Forget what is queued; only while ASKING, by the owner of the maps."""
        with self._condition:
            parcels, self._parcels = self._parcels, deque()
        for parcel in parcels:
            if isinstance(parcel, CutParcel):
                parcel.done(None)
            else:
                parcel.packed.cancel()

    def go(self) -> None:
        """Begin to send under the stream that was opened."""
        with self._condition:
            self.state = SenderState.SENDING
            self._condition.notify_all()

    def reopen(self) -> None:
        """Open the stream again although there may be nothing to send: the process server lost it."""
        with self._condition:
            self._reopen = True
            self._condition.notify_all()

    @property
    def link(self) -> Link:
        """Return the link to the process server that serves the stream now."""
        return self._links[self._which]

    def _run(self) -> None:
        try:
            self._open_anew()
            while True:
                self._await(lambda: self.state is SenderState.SENDING and (self._reopen or len(self._parcels) > 0))
                try:
                    if self._reopen:
                        self._reopen = False
                        self._open_again(self._positions.get("next_sequence"))
                        continue
                    self._deliver(self._parcels[0])
                except _WriterChanged:
                    continue
                with self._condition:
                    if self._parcels:
                        self._parcels.popleft()
                self._wake.set()
        except _Stopped:
            return
        except LifeboatError as error:  # fenced
            self.trouble = of_error(error)
            self.state = SenderState.FENCED
            self._wake.set()

    def _await(self, ready: Callable[[], bool]) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stop.is_set() or ready())
        if self._stop.is_set():
            raise _Stopped

    def _deliver(self, parcel: Any) -> None:
        sequence = self._positions.get("next_sequence")
        if isinstance(parcel, CutParcel):
            writer = SegmentWriter(SegmentHeader(self._epoch, sequence, "", SegmentKind.CUT))
            writer.cut({**parcel.info, "number": sequence})
            self._send(writer.finish(), sequence)
            parcel.done(sequence)
            return
        try:
            writer = parcel.packed.result()
        except DiskUnreadable as error:
            self.trouble = of_error(error)
            self.unreadable.append(parcel.batch)
            self._sleep(1.0)
            return
        if writer.records == 0:
            self.finished.append(parcel.batch)
            return
        writer.number(self._epoch, sequence)
        self._ledger.assign(parcel.batch, sequence)
        self._send(writer.finish(), sequence)

    def _send(self, data: bytes, sequence: int) -> None:
        while True:
            epoch = self._positions.get("writer_epoch")
            path = f"{self._path}/segments/{self._epoch}/{sequence}?writer_epoch={epoch}"
            try:
                answer = self.link.request("PUT", path, data, seconds=PUT_SECONDS)
            except Unreachable as error:
                self.trouble = reason("process-server-unreachable", error.message)
                if self._open_again(sequence):
                    break
                continue
            if answer.ok:
                break
            self.trouble = Reason(answer.code, answer.message, answer.remedy)
            if answer.status == 503:
                self._sleep(answer.retry_after_seconds)
            elif answer.code == "fenced":
                raise LifeboatError(answer.message, code="fenced")
            elif self._open_again(sequence, pause=answer.status != 409):
                break
        self.trouble = None
        self._positions.set("next_sequence", sequence + 1)
        self._positions.add("sent_bytes", len(data))
        self._sleep(self._pacer.wait_seconds(len(data), self._bandwidth(), time.monotonic()))

    def _open_again(self, sequence: int, *, pause: bool = False) -> bool:
        """Open the stream after a trouble; tell whether segment `sequence` had arrived. Raises `_WriterChanged`."""
        if pause:
            self._sleep(2.0)
        opened = self._open(sequence)
        # A store that went back may have forgotten a writer too, and its epoch is then given a second time.
        same = opened.writer_epoch == self._positions.get("writer_epoch")
        if same and opened.next_sequence - sequence in (0, 1) and not opened.forgot(self._told):
            return opened.next_sequence > sequence
        self._ask(opened)
        raise _WriterChanged

    @property
    def _told(self) -> int:
        return self._positions.get("stored_sequence")

    def _open_anew(self) -> None:
        self._ask(self._open(max(1, self._positions.get("next_sequence"))))

    def _ask(self, opened: Opened) -> None:
        self.opened = opened
        self.state = SenderState.ASKING
        self._wake.set()

    def _open(self, next_sequence: int) -> Opened:
        attempt = 0
        while True:
            try:
                body = {
                    "protection_epoch": self._epoch,
                    "next_sequence": next_sequence,
                    "stored_sequence": self._told,
                    **self._opening,
                }
                answer = self.link.request("POST", f"{self._path}/stream", body, seconds=OPEN_SECONDS)
                if answer.ok:
                    return _opened(answer.body)
                if answer.code == "fenced":
                    raise LifeboatError(answer.message, code="fenced")
                trouble = Reason(answer.code, answer.message, answer.remedy)
                self._note(trouble)
                self._sleep(answer.retry_after_seconds if answer.status == 503 else pause_seconds(attempt))
            except Unreachable as error:
                self._note(reason("process-server-unreachable", error.message))
                self._sleep(pause_seconds(attempt))
            attempt += 1
            if attempt % TRIES_PER_SERVER == 0:
                self._which = (self._which + 1) % len(self._links)

    def _note(self, trouble: Reason) -> None:
        if self.trouble is None or self.trouble.code != trouble.code:
            log.say(f"stream: {trouble.code}: {trouble.message}")
        self.trouble = trouble
        self._wake.set()

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped


def _opened(body: Dict[str, Any]) -> Opened:
    try:
        return Opened(
            writer_epoch=counter(body["writer_epoch"]),
            next_sequence=counter(body["next_sequence"]),
            received_sequence=counter(body["received_sequence"]),
            stored_sequence=counter(body["stored_sequence"]),
            replica_sequence=counter(body["replica_sequence"]),
            store_went_back=bool(body.get("store_went_back")),
            replica_empty=body.get("replica_empty") is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable(f"the answer to the stream is not understood: {error!r}") from error
