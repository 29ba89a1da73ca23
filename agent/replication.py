"""Moves changes from the disks to the stream: tracker -> maps -> batches -> segments, and acknowledgements back.

Rules kept here:
- One thread, the caller's, owns maps, ledger and tracker. Packing runs in a small pool, sending in `Sender`'s thread.
- A round begins with both witnesses, and reads what had changed before it began; what changes meanwhile is the next
  round's.
- The ring is drained whether or not anything can be sent; what can't be sent stays marked in the maps.
- What might have been missed leads to `resync` with a named reason; the session says so on disk before the maps do.
- A resync reads everything and sends what differs from the replica (`comparing`), all disks side by side.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Callable, Deque, Dict, Iterable, List, Mapping, Optional, Tuple

from agent import log, state
from agent.chunk_map import CHUNK_SECTORS, DIRTY, DUE, UNREAD, ChunkMap
from agent.comparing import Digests, differing
from agent.disk import BATCH_CHUNKS, DiskIdentity, DiskReader, Piece, pack
from agent.follower import Position
from agent.ledger import Batch, Ledger
from agent.pulse import PULSE_SECTORS
from agent.reasons import Reason, of_error, reason
from agent.rhythm import Rhythm
from agent.ring_format import LostTrack
from agent.sender import CutParcel, Opened, Parcel, Sender, SenderState
from agent.state import Positions, Session
from agent.tracker import Tracker
from agent.verifying import Pass, Verifier
from dr.chunk import CHUNK_BYTES
from dr.journal import SegmentHeader, SegmentKind, SegmentWriter

QUEUED_PARCELS = 4
PACKERS = 2
CERTIFICATE_SECONDS = 5.0  # also while nothing can be sent
RESYNC_SECONDS = 5.0  # whoever keeps breaking the tracker must not make the agent fill maps without end


class Replication:
    """The state of a server's replication on its own side."""

    def __init__(
        self,
        run_folder: str,
        session: Session,
        tracker: Tracker,
        maps: Mapping[str, ChunkMap],
        readers: Mapping[str, DiskReader],
        positions: Positions,
    ) -> None:
        self._folder = run_folder
        self.tracker = tracker
        self._maps = maps
        self._readers = readers
        self._by_device = {reader.disk.kernel_device: maps[name] for name, reader in readers.items()}
        self._names = {reader.disk.kernel_device: name for name, reader in readers.items()}
        self._pool = ThreadPoolExecutor(PACKERS, thread_name_prefix="packer")
        self._cursors: Dict[str, int] = {}
        self._turns: Deque[str] = deque(maps)
        self._rhythm = Rhythm()
        self._next_certificate = 0.0
        self._round_found = False
        self._next_resync = 0.0
        self._last_position: Optional[Position] = None
        self._opened_with = (0, 0)  # the stream's next and received sequence
        self._comparable_from: Optional[int] = None  # the position that the replica's digests must be of
        self.digests: Optional[Digests] = None
        self.verifying: Optional[Pass] = None  # hears of every write
        self.resync_waits_until: Optional[str] = None  # what the policy says now
        self._small_writes: Dict[int, int] = {}
        self.session = session
        self.positions = positions
        self.ledger = Ledger(maps)
        self.lost: Optional[LostTrack] = None
        self.sender: Optional[Sender] = None

    # -- changes -----------------------------------------------------------------------------------------------

    def mark(self, device: int, sector: int, sectors: int) -> None:
        """Mark a completed write; the callback of the tracker."""
        chunks = self._by_device.get(device)
        if chunks is not None and sectors:
            first, last = sector // CHUNK_SECTORS, (sector + sectors - 1) // CHUNK_SECTORS
            chunks.mark(first, last)
            if self.verifying is not None:
                self.verifying.written(self._names[device], first, last)
            if sectors == PULSE_SECTORS:  # the maps tell whole chunks, so this is the ring's word
                self._small_writes[device] = self._small_writes.get(device, 0) + 1

    def small_writes(self, devices: Iterable[int]) -> int:
        """Count the writes of a pulse's size that the ring has shown on these disks."""
        return sum(self._small_writes.get(device, 0) for device in devices)

    def watch(self) -> None:
        """Drain, and have it certified from time to time even when no round begins."""
        if time.monotonic() >= self._next_certificate:
            self.begin_round()
        else:
            self.drain()

    def drain(self) -> int:
        """Mark every write completed so far; return how many. What was lost is kept in `lost`, for `handle`."""
        before = self.tracker.events
        found = 0
        try:
            found = self.tracker.drain(self.mark)
        except LostTrack as error:
            self.lost = error
        self.positions.add("events", self.tracker.events - before)
        return max(found, self.tracker.events - before)

    def catch_up(self) -> None:
        """Mark every write completed so far, and every discard of which completions do not tell all."""
        self.drain()
        try:
            self.tracker.catch_up(self.mark)
        except LostTrack as error:
            self.lost = error

    def begin_round(self) -> None:
        """Take what both witnesses saw, and make all of it due."""
        self._next_certificate = time.monotonic() + CERTIFICATE_SECONDS
        before = self.tracker.events
        try:
            self.tracker.round(self.mark, self._choose)
        except LostTrack as error:
            self.lost = error
            self._choose()
        self.positions.add("events", self.tracker.events - before)

    def _choose(self) -> None:
        for chunks in self._maps.values():
            chunks.choose()

    def resync(self, why: Reason) -> None:
        """Begin to read and send everything again, zeros included."""
        log.say(f"resync: {why.code}: {why.message}")
        self._change(mode="resync", reason=why.as_dict(), fresh_replica=False, resync_pending=True)
        self.ledger.clear()
        # Record first: what is written while the maps are filled must be seen.
        self.tracker.accept_loss()
        for chunks in self._maps.values():
            chunks.forget_all()
        self.lost = None
        self._cursors.clear()
        self._comparable_from = None
        self._change(resync_pending=False)

    # -- what happened elsewhere --------------------------------------------------------------------------------

    def handle(self, position: Optional[Position]) -> None:
        """Take in everything that other threads reported since the last call."""
        assert self.sender is not None
        if self.lost is not None and time.monotonic() >= self._next_resync:
            self._next_resync = time.monotonic() + RESYNC_SECONDS
            if self.lost.code == "tracker-overrun":
                self.positions.add("overruns", 1)
            self.resync(of_error(self.lost) if self.lost.remedy else reason(self.lost.code, self.lost.message))
        if self.sender.state is SenderState.ASKING and self.sender.opened is not None:
            self._begin(self.sender.opened)
        while self.sender.unreadable:
            self.ledger.put_back(self.sender.unreadable.popleft())
        while self.sender.finished:
            self.ledger.settle(self.sender.finished.popleft())
        if position is not None and position != self._last_position:
            self._last_position = position
            self._stored(position)
        if self.session.mode in ("initial-replication", "resync") and self.session.started and not self.unread:
            log.say(f"{self.session.mode}: everything has been read")
            self._change(mode="delta", reason=None)

    def _begin(self, opened: Opened) -> None:
        assert self.sender is not None
        self.sender.drop()
        self.ledger.start_over()
        positions = self.positions
        sent = positions.get("next_sequence")  # the last that may have arrived, if it was on its way
        if not self.session.started:
            positions.set("next_sequence", opened.next_sequence)  # before we have begun: all before it is others'
            self._decide(opened)
        elif opened.received_sequence > sent:
            what = f"segments up to {opened.received_sequence} were received, and {sent} is the last that was sent here"
            self.resync(reason("another-sender", what))
        elif opened.forgot(positions.get("stored_sequence")) and not self._resync_since_it_went_back:
            told = positions.get("stored_sequence")
            what = f"the replica holds segments up to {opened.replica_sequence}, {told} was acknowledged as stored"
            self.resync(reason("store-went-back", what))
        positions.set("stored_sequence", min(positions.get("stored_sequence"), opened.replica_sequence))
        positions.set("writer_epoch", opened.writer_epoch)
        positions.set("next_sequence", opened.next_sequence)
        # Numbers of a void spool are never used again, so the next one says nothing about what can still be stored.
        self._opened_with = (opened.next_sequence, opened.received_sequence)
        self._comparable_from = None
        log.say(f"stream: writer epoch {opened.writer_epoch}, next segment {opened.next_sequence}")
        self.sender.go()

    def _decide(self, opened: Opened) -> None:
        # Not told by positions: those of an earlier protection count as 0, and its pages are there.
        fresh = opened.next_sequence == 1 and opened.replica_empty
        if self.session.reason is not None:
            self._change(started=True, mode="resync", fresh_replica=False)
        elif fresh:
            self._change(started=True, mode="initial-replication", fresh_replica=True)
        else:
            why = reason("reinstalled", "the agent is new here, and the vault holds a replica of this server")
            self._change(started=True, mode="resync", reason=why.as_dict(), fresh_replica=False)

    def _stored(self, position: Position) -> None:
        positions = self.positions
        epoch = positions.get("writer_epoch")
        if position.writer_epoch != epoch:
            return
        if position.store_went_back:
            if positions.get("went_back_epoch") != epoch:
                positions.set("went_back_epoch", epoch)
                self.resync(reason("store-went-back", "the store forgot what it had acknowledged as stored"))
                if self.sender is not None:
                    self.sender.reopen()  # there may be nothing to send, and this writer answers no more
            return
        if position.stored > positions.get("stored_sequence"):
            positions.set("stored_sequence", position.stored)
        self.ledger.stored(position.stored)

    @property
    def _resync_since_it_went_back(self) -> bool:
        """Tell whether the writer that is over said so already. (`stored_sequence` stays, for the next one to see.)"""
        why, positions = self.session.reason, self.positions
        begun = self.session.mode == "resync" and why is not None and why["code"] == "store-went-back"
        return begun and positions.get("went_back_epoch") == positions.get("writer_epoch")

    # -- sending -----------------------------------------------------------------------------------------------

    @property
    def sending(self) -> bool:
        """Tell whether segments may be sent now."""
        return self.sender is not None and self.sender.state is SenderState.SENDING

    def feed(self) -> bool:
        """Take batches and queue them while there is room; return whether any was taken."""
        assert self.sender is not None
        fed = False
        while self.sending and self.sender.queued < QUEUED_PARCELS:
            batch = self._next_batch()
            if batch is None:
                break
            fed = True
            self.sender.put(Parcel(batch, self._pool.submit(self._pack, batch)))
        return fed

    def _next_batch(self) -> Optional[Batch]:
        if self.session.mode != "delta" and (self.session.fresh_replica or self._resync_may_go_on()):
            batch = self._next_unread()
            if batch is not None:
                return batch
        if not self.ledger.has_room or not self._round_running():
            return None
        for name, chunks in self._maps.items():
            batch, cursor = self.ledger.take(name, DUE, self._cursors.get(name, 0), BATCH_CHUNKS)
            self._cursors[name] = cursor
            if batch is not None:
                self._round_found = True
                return batch
            self._cursors[name] = chunks.chunks
        self._end_round()
        return None

    def _next_unread(self) -> Optional[Batch]:
        for _ in self._maps:
            name = self._turns[0]
            self._turns.rotate(-1)
            batch, _ = self.ledger.take(name, UNREAD, self._cursors.get(f"unread {name}", 0), BATCH_CHUNKS)
            if batch is not None:
                last = batch.runs[-1]
                self._cursors[f"unread {name}"] = last[0] + last[1]
                return batch
        return None

    @property
    def waiting(self) -> Optional[Reason]:
        """Return why a resync stands still, None when it does not."""
        why = self.session.reason
        if self.resync_waits_until is None or self.session.mode != "resync" or (why and why["code"] == "requested"):
            return None
        about = f"{why['code']}: {why['message']}" if why else "resync"
        return reason("resync-waits", f"{about}; the policy lets it begin at {self.resync_waits_until}")

    def _resync_may_go_on(self) -> bool:
        return self.waiting is None and self._comparable()

    def _comparable(self) -> bool:
        """Tell whether the replica's digests may be compared with: nothing older of an unread chunk is on its way."""
        assert self.sender is not None and self.digests is not None
        positions = self.positions
        if self._comparable_from is None and self.sender.queued == 0:
            opened_next, received = self._opened_with
            next_sequence = positions.get("next_sequence")
            self._comparable_from = received if next_sequence == opened_next else next_sequence - 1
            self.digests.as_of(positions.get("writer_epoch"), self._comparable_from)
        return self._comparable_from is not None and positions.get("stored_sequence") >= self._comparable_from

    def _round_running(self) -> bool:
        if all(name in self._cursors for name in self._maps):
            return True
        if not self._rhythm.due(time.monotonic()):
            return False
        self._cursors.update(dict.fromkeys(self._maps, 0))
        self.begin_round()
        self._round_found = False
        return True

    def _end_round(self) -> None:
        for name in self._maps:
            del self._cursors[name]
        self._rhythm.ended(time.monotonic(), found=self._round_found)

    def hurry(self) -> None:
        """Let the next round begin at once."""
        self._rhythm.hurry()

    @property
    def pause_seconds(self) -> float:
        """Return how long to sleep when nothing wakes the loop earlier."""
        return self._rhythm.pause_seconds

    def _pack(self, batch: Batch) -> SegmentWriter:
        pieces = self._readers[batch.disk].pieces(batch.runs)
        writer = SegmentWriter(SegmentHeader(0, 0, batch.disk, SegmentKind.DATA))
        unread, fresh = batch.state == UNREAD, self.session.fresh_replica
        if unread and not fresh and self.digests is not None:
            pieces = differing(pieces, self.digests.entries(batch.disk, batch.runs))
        return pack(writer, pieces, leave_out_zeros=unread and fresh)

    def verifier(self, digests: Digests, wake: Callable[[], None], settle_seconds: float) -> Verifier:
        """Return what compares these disks with the replica while they are replicated."""
        return Verifier(self._maps, self._readers, digests, wake, settle_seconds)

    # -- for a cut ---------------------------------------------------------------------------------------------

    @property
    def unread(self) -> bool:
        """Tell whether an initial replication or resync has chunks left to read."""
        return any(chunks.any(UNREAD) for chunks in self._maps.values())

    @property
    def unread_bytes(self) -> int:
        """Return what an initial replication or resync has left to read."""
        return sum(chunks.count(UNREAD) for chunks in self._maps.values()) * CHUNK_BYTES

    @property
    def dirty_bytes(self) -> int:
        """Return what is marked as changed and not yet read."""
        return sum(chunks.count(DIRTY) + chunks.count(DUE) for chunks in self._maps.values()) * CHUNK_BYTES

    @property
    def disks(self) -> List[DiskIdentity]:
        """Return the protected disks."""
        return [reader.disk for reader in self._readers.values()]

    def readings_done(self) -> bool:
        """Tell whether all that was taken has been read: a reading after the thaw would not belong to the cut."""
        assert self.sender is not None
        return not self.sender.unread()

    def take_and_read(self) -> "List[Tuple[Batch, List[Piece]]]":
        """Take every changed chunk and read it into memory. Raises `DiskUnreadable`, and marks all of it again."""
        taken: "List[Tuple[Batch, List[Piece]]]" = []
        batches: List[Batch] = []
        self._choose()
        try:
            for name in self._maps:
                cursor = 0
                while True:
                    batch, cursor = self.ledger.take(name, DUE, cursor, BATCH_CHUNKS)
                    if batch is None:
                        break
                    batches.append(batch)
                    taken.append((batch, list(self._readers[name].pieces(batch.runs))))
        except BaseException:
            for batch in batches:
                self.ledger.put_back(batch)
            raise
        return taken

    def send_read(self, taken: "List[Tuple[Batch, List[Piece]]]") -> None:
        """Queue what `take_and_read` returned."""
        assert self.sender is not None
        for batch, pieces in taken:
            packed: "Future[SegmentWriter]" = self._pool.submit(_pack_read, batch, pieces)
            self.sender.put(Parcel(batch, packed))

    def send_cut(self, cut: CutParcel) -> None:
        """Queue a cut behind all that was queued before."""
        assert self.sender is not None
        self.sender.put(cut)

    def _change(self, **changes: object) -> None:
        self.session = replace(self.session, **changes)  # type: ignore[arg-type]  # names are the dataclass's
        state.save_session(self._folder, self.session)

    def close(self) -> None:
        """Stop packing and reading; the tracker goes on recording."""
        self._pool.shutdown(wait=True)
        self.tracker.close()
        for reader in self._readers.values():
            reader.close()


def _pack_read(batch: Batch, pieces: List[Piece]) -> SegmentWriter:
    writer = SegmentWriter(SegmentHeader(0, 0, batch.disk, SegmentKind.DATA))
    return pack(writer, pieces, leave_out_zeros=False)
