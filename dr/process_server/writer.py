"""The writer of one server: its stream's position, its spool, and the task that brings the spool into the replica.

Rules:
- `received` is answered after the spool's fsync, `stored` after the replica claimed the position, never before.
- Two locks, always taken in this order: `_intake` (who may append or open), `_step` (who uses the replica). A segment
  is received while a batch is stored; opening a stream waits for both.
- An error of the store never ends the task: it waits, and tries the same step again. A lease that was lost ends this
  writer unless the vault still names us (then only the store lost the lease, and we take it again).
- What ends a writer voids its spool first and is a named state (`states`); only an agent's `open_stream` leaves it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from dr.errors import Conflict, LifeboatError, Unreachable
from dr.journal.layout import SHA256_BYTES
from dr.process_server import lineage
from dr.process_server.admission import admit
from dr.process_server.applying import Done, Step, next_step, perform
from dr.process_server.spool import Spool, Spooled, SpoolFull, SpoolShareFull
from dr.process_server.states import Opened, Position, SkippedPoint, WriterReport, WriterState
from dr.process_server.stream import Stream, fenced, require_near, writer_changed
from dr.process_server.table_room import TableRoom
from dr.process_server.vault_side import StoreUnavailable, VaultSide
from dr.vault import fitting, opening
from dr.vault.replica import ReplicaSet

T = TypeVar("T")
log = logging.getLogger("dr.process_server")

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 15.0
STOP_SECONDS = 5.0
LIVE = frozenset({WriterState.WRITING, WriterState.STORE_UNAVAILABLE})


class ServerWriter:
    """One protected server at this process server; all methods belong to one event loop."""

    def __init__(self, server: str, spool: Spool, vault: VaultSide, disk_threads: Executor, room: TableRoom) -> None:
        self.server = server
        self._spool, self._vault, self._disk_threads, self._room = spool, vault, disk_threads, room
        self._vault_thread = ThreadPoolExecutor(1, thread_name_prefix=f"writer-{server}")
        self._intake, self._step = asyncio.Lock(), asyncio.Lock()
        self._changed = asyncio.Event()
        self._state, self._cause = WriterState.CLOSED, ""
        self._stream: Stream | None = None
        self._replica: ReplicaSet | None = None
        self._retake = False  # the spool may hold what was received, and no replica is open
        self._went_back = False  # the store did, and its digests are still to be distrusted
        self._waiting: deque[Spooled] = deque()
        self._next = self._received = self._stored = 0
        self._last_digest = b""
        self._folded = 0
        self._full: SpoolFull | None = None  # why the last segment was not taken
        self._last_point: str | None = None
        self._skipped: SkippedPoint | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the task; what the spool kept from before is stored first."""
        self._retake = True
        self._task = asyncio.create_task(self._run(), name=f"writer-{self.server}")

    async def stop(self) -> None:
        """End the task; what is not stored stays in the spool. Never waits long for a store that is away."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._replica is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._in_vault(self._replica.close)
        self._replica = None
        self._vault_thread.shutdown(wait=False, cancel_futures=True)

    # What the API asks for

    async def open_stream(self, asked: Stream, next_sequence: int, told_stored: int = 0) -> Opened:
        """Become or stay the writer and return where the agent goes on; errors as `ReplicaSet.open`.

        `told_stored` is what the agent was told `stored`: a replica behind it is one whose store went back.
        """
        async with self._intake, self._step:
            self._refuse_older(asked)
            if not await self._still_holding(asked):
                await self._take(asked)
            assert self._stream is not None and self._replica is not None
            if self._went_back or self._stored < told_stored:
                # The agent learns of it by this answer and will compare: by then digests must promise nothing.
                await self._in_vault(self._replica.distrust)
                self._went_back = False
            require_near(self.server, next_sequence, self._received)
            self._next = max(next_sequence, self._received + 1)
            self._last_digest = b""
            log.info(
                "stream opened server=%s writer_epoch=%d next=%d", self.server, self._stream.writer_epoch, self._next
            )
            return Opened(
                self._stream.writer_epoch,
                self._next,
                self._received,
                self._stored,
                self._stored,
                self._replica.distrusted,
                self._replica.empty,
            )

    async def append(self, protection_epoch: int, sequence: int, writer_epoch: int, segment: bytes) -> Position:
        """Keep a segment durably, then answer.

        Raises `Conflict` (`writer-changed`, `sequence-gap`, `header-mismatch`), `Refused` `fenced`, `Corrupt`, or
        `spool-full` and `store-unavailable` (wait and send again).
        """
        async with self._intake:
            stream = self._accepting(protection_epoch, writer_epoch)
            # Its own SHA-256, which admission proved of the one that is kept.
            digest = segment[-SHA256_BYTES:]
            if sequence == self._received and digest == self._last_digest:
                return self.position()  # the answer was lost on its way
            if sequence != self._next:
                raise Conflict(
                    f"{self.server}: segment {sequence} came, {self._next} is next",
                    code="sequence-gap",
                    remedy="go on with the next sequence, or open the stream again",
                )
            check = partial(admit, segment, protection_epoch=protection_epoch, sequence=sequence, disks=stream.sizes)
            kind = await self._in_thread(check)
            entry = Spooled(self.server, stream.writer_epoch, protection_epoch, sequence, self._received, kind, 0)
            self._waiting.append(await self._keep(entry, segment))
            self._received, self._next, self._last_digest = sequence, sequence + 1, digest
            self._notify()
            return self.position()

    def position(self) -> Position:
        """Return how far the stream is. `Conflict` `writer-changed` when none is open here."""
        went_back = self._state is WriterState.STORE_WENT_BACK
        live = self._replica is not None and self._state in LIVE
        if self._stream is None or not (live or went_back):
            raise self._closed()
        return Position(
            self._received, self._stored, self._stream.writer_epoch, went_back, self._last_point, self._skipped
        )

    async def digests(self, disk: str, first: int, count: int, *, writer_epoch: int, stored: int) -> bytes:
        """Return digest entries of the replica, once everything up to `stored` is in it.

        Raises `Conflict` `writer-changed` or `not-yet-stored`, and what `ReplicaSet.digests` raises.
        """
        async with self._step:
            stream = self._stream
            if stream is None or self._replica is None or self._state not in LIVE:
                raise self._closed()
            if writer_epoch != stream.writer_epoch:
                raise writer_changed(self.server, f"writer epoch {writer_epoch} is over, it is {stream.writer_epoch}")
            if self._stored < stored:
                raise Conflict(
                    f"{self.server}: {self._stored} is stored, digests as of {stored} were asked for",
                    code="not-yet-stored",
                    remedy="ask again when the position says so",
                )
            return await self._in_vault(partial(self._replica.digests, disk, first, count))

    async def wait_stored(self, stored_after: int, seconds: float) -> Position:
        """Return the position when more than `stored_after` is stored, the state ends, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._state in LIVE and self._stored <= stored_after:
                    await self._changed.wait()
        return self.position()

    def report(self) -> WriterReport:
        """Return what `dr status` shows of this writer."""
        return WriterReport(
            server=self.server,
            state=self._state,
            cause=self._cause,
            writer_epoch=self._stream.writer_epoch if self._stream else 0,
            received=self._received,
            stored=self._stored,
            spool_bytes=self._spool.used_bytes_of(self.server),
            waiting_segments=len(self._waiting),
            folded_cuts=self._folded,
            last_point=self._last_point,
            skipped_point=self._skipped,
            spool_full=self._full is not None,
            spool_share_full=isinstance(self._full, SpoolShareFull),
        )

    # Intake

    def _refuse_older(self, asked: Stream) -> None:
        known = self._stream
        if known is None or self._replica is None:
            return
        if asked.protection_epoch < known.protection_epoch:
            raise fenced(self.server, asked.protection_epoch, known.protection_epoch)
        fitting.refuse_smaller(self.server, known.sizes, asked.sizes)

    def _accepting(self, protection_epoch: int, writer_epoch: int) -> Stream:
        stream = self._stream
        if stream is not None and protection_epoch < stream.protection_epoch:
            raise fenced(self.server, protection_epoch, stream.protection_epoch)
        if stream is None or self._replica is None or self._state not in LIVE:
            raise self._closed()
        if writer_epoch != stream.writer_epoch or protection_epoch != stream.protection_epoch:
            raise writer_changed(self.server, f"writer epoch {writer_epoch} is over, it is {stream.writer_epoch}")
        return stream

    def _closed(self) -> LifeboatError:
        return writer_changed(self.server, f"no stream is open here ({self._cause or self._state.value})")

    async def _keep(self, entry: Spooled, segment: bytes) -> Spooled:
        try:
            kept = await self._in_thread(partial(self._spool.append, entry, segment))
        except SpoolFull as full:
            self._full = full
            if self._state is WriterState.STORE_UNAVAILABLE:
                raise StoreUnavailable(f"{full.message}, and the store does not answer: {self._cause}") from full
            raise
        self._full = None
        return kept

    # Taking and losing the replica; all under both locks

    async def _still_holding(self, asked: Stream) -> bool:
        """Tell whether our open replica can go on; voids the spool when the store went back."""
        if self._replica is None or self._stream is None or self._state not in LIVE:
            return False
        if not self._stream.same_source(asked):
            return False
        try:
            await self._in_vault(self._replica.check_lease)
        except Conflict as error:
            if error.code == "store-went-back":
                self._went_back = True
                await self._in_thread(partial(self._spool.wipe, self.server))
            return False
        self._become(WriterState.WRITING, "")
        return True

    async def _take(self, stream: Stream) -> None:
        opening.check_disks(self.server, stream.disks)
        self._room.take(self.server, sum(stream.sizes.values()))
        before = self._stream
        if self._replica is not None:
            old, self._replica = self._replica, None
            await self._in_vault(old.close)
        self._waiting.clear()
        self._stream, self._retake = stream, True
        try:
            taken = await self._in_vault(partial(lineage.take, self._vault, self._spool, self.server, stream))
        except Unreachable as error:
            self._become(WriterState.STORE_UNAVAILABLE, error.message)
            raise
        except LifeboatError as error:
            self._retake = False
            self._become(WriterState.REFUSED, error.message)
            raise
        self._replica, self._stream, self._retake = taken.replica, taken.stream, False
        told = self._stored if before and before.protection_epoch == stream.protection_epoch else 0
        self._stored = taken.replica.sequence
        self._waiting.extend(taken.entries)
        self._received = taken.entries[-1].sequence if taken.entries else self._stored
        self._next = self._received + 1
        self._become(WriterState.WRITING, "")
        for name in taken.torn:
            log.warning("spool dropped server=%s file=%s: never acknowledged, or damaged since", self.server, name)
        if taken.voided:
            log.warning("spool void server=%s segments=%d why=%s", self.server, taken.voided, taken.why_void)
        if self._stored < told or taken.went_back:
            self._went_back = True
            log.warning("store went back server=%s position=%d stored=%d", self.server, self._stored, told)
        self._notify()

    async def _end(self, replica: ReplicaSet | None, state: WriterState, cause: str) -> None:
        """Stop writing `replica`, unless a new stream was opened meanwhile; the spool is void but for REFUSED."""
        async with self._intake, self._step:
            if self._replica is not replica:
                return
            self._replica = None
            if replica is not None:
                await self._in_vault(replica.close)
            voided = 0
            if state is not WriterState.REFUSED:
                voided = await self._in_thread(partial(self._spool.wipe, self.server))
            self._waiting.clear()
            self._retake = False
            self._went_back = self._went_back or state is WriterState.STORE_WENT_BACK
            self._become(state, cause)
            log.warning("writer ended server=%s state=%s voided=%d: %s", self.server, state.value, voided, cause)

    # The task

    async def _run(self) -> None:
        failures = 0
        while True:
            while not (self._retake or (self._waiting and self._replica is not None)):
                await self._changed.wait()
            try:
                await self._one_step()
                failures = 0
            except Unreachable as error:
                self._become(WriterState.STORE_UNAVAILABLE, error.message)
                failures += 1
            except LifeboatError as error:
                log.warning("replica refused server=%s: %s", self.server, error.message)
                self._become(WriterState.REFUSED, error.message)
                failures += 1
            except Exception as error:  # a fault of ours must be a state that somebody sees, not a dead task
                log.exception("fault in the writer of %s", self.server)
                await self._end(self._replica, WriterState.REFUSED, f"fault in the writer: {error}")
            if failures:
                await asyncio.sleep(min(FIRST_RETRY_SECONDS * 2 ** (failures - 1), LAST_RETRY_SECONDS))

    async def _one_step(self) -> None:
        if self._retake:
            await self._go_on_after_start()
            return
        async with self._step:
            replica = self._replica
            if replica is None or not self._waiting:
                return
            failure: LifeboatError | None = None
            try:
                done = await self._in_vault(partial(self._perform, replica, next_step(self._waiting)))
                self._settle(done)
                await self._in_thread(partial(self._spool.remove, done.entries))
            except Unreachable:
                raise
            except LifeboatError as error:
                failure = error
        if failure is not None:
            await self._resolve(replica, failure)

    def _perform(self, replica: ReplicaSet, step: Step) -> Done:
        return perform(self._spool, self._vault.store(), replica, step)

    def _settle(self, done: Done) -> None:
        for _ in done.entries:
            self._waiting.popleft()
        self._stored = done.entries[-1].sequence
        self._folded += done.folded_cuts
        if done.point:
            self._last_point, self._skipped = done.point, None
            log.info("recovery point server=%s id=%s", self.server, done.point)
        if done.skipped:
            self._skipped = done.skipped
            log.warning(
                "recovery point skipped server=%s code=%s: %s", self.server, done.skipped.code, done.skipped.message
            )
        self._become(WriterState.WRITING, "")
        self._notify()

    async def _resolve(self, replica: ReplicaSet, error: LifeboatError) -> None:
        """Decide what an error of the replica means that waiting does not cure."""
        endings = {
            "store-went-back": WriterState.STORE_WENT_BACK,
            "spool-corrupt": WriterState.SPOOL_CORRUPT,
            "writer-changed": WriterState.WRITER_CHANGED,
        }
        ending = endings.get(error.code, WriterState.REFUSED)
        if ending is WriterState.WRITER_CHANGED:
            check = partial(lineage.still_ours, self._vault, self.server, replica.writer_epoch)
            if await self._in_vault(check):
                async with self._intake, self._step:
                    if self._replica is replica and self._stream is not None:
                        log.warning("lease lost though the vault names us, taking it again server=%s", self.server)
                        await self._take(self._stream)
                return
        await self._end(replica, ending, error.message)

    async def _go_on_after_start(self) -> None:
        async with self._intake, self._step:
            if not self._retake:
                return
            if self._state is WriterState.CLOSED:
                self._become(WriterState.RECOVERING, "")
            try:
                kept = partial(lineage.kept_stream, self._vault, self._spool, self.server)
                stream = await self._in_vault(kept)
            except Conflict as error:
                self._retake = False
                self._become(WriterState.WRITER_CHANGED, error.message)
                return
            if stream is None:
                self._retake = False
                self._become(WriterState.CLOSED, "")
                return
            await self._take(stream)

    # Small things

    def _become(self, state: WriterState, cause: str) -> None:
        if (state, cause) != (self._state, self._cause):
            if state is not self._state:
                log.info("writer state server=%s %s -> %s %s", self.server, self._state.value, state.value, cause)
            self._state, self._cause = state, cause
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _in_vault(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._vault_thread, call)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk_threads, call)
