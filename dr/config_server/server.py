"""A configuration server: the desk behind its interface, and the task that sees cuts become recovery points."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from dr.certificates.revocations import Revocations
from dr.certificates.site import SiteCertificates
from dr.certificates.tls import Peer
from dr.config_server import points
from dr.config_server.api import Desk, application, site_document
from dr.config_server.cuts import Cut, CutDesk
from dr.config_server.events import CLEARED, SITE, EventLog
from dr.config_server.groups import NewestShared, members_of
from dr.config_server.health import Left, NamedState, Newest
from dr.config_server.heartbeats import Heartbeats
from dr.config_server.resyncs import ResyncDesk
from dr.config_server.settings import SiteSettings
from dr.config_server.verifications import VerificationDesk
from dr.errors import LifeboatError
from dr.listener import Listener
from dr.process_server.states import WriterReport
from dr.target.access import site_granted
from dr.vault.store import BlobStore

log = logging.getLogger("dr.config_server")

VAULT_SECONDS = 5.0
LOOK_SECONDS = 0.5
WATCH_SECONDS = 30.0  # each look asks the vault for every server's newest point
THREADS = 4


_SILENT = NamedState(
    "store-unavailable",
    f"the vault did not answer within {VAULT_SECONDS:.0f} s",
    "wait; check the storage account and the way to it",
)
T = TypeVar("T")


class ConfigurationServer:
    """The configuration server of one site; belongs to one event loop."""

    def __init__(
        self,
        settings: SiteSettings,
        context: ssl.SSLContext,
        store: Callable[[], BlobStore],
        writers: Callable[[], Mapping[str, WriterReport]],
        folder: Path,
        revocations: Revocations | None = None,
        watch_seconds: float = WATCH_SECONDS,
        not_in_vault: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        self.settings = settings
        self._store = store
        self._writers = writers
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="status")
        self._folder = folder
        self._heartbeats = Heartbeats(folder / "heartbeats.json")
        self._cuts = CutDesk(time.monotonic)
        self._passed: dict[str, set[str]] = {}  # see `points.newest`; of servers that want application-consistent ones
        self._resyncs = ResyncDesk()
        self._shared = points.SharedNewest(store)
        self._verifications = VerificationDesk(folder / "verifications.json")
        self._events = EventLog(folder / "events.db")
        self._watch_seconds = watch_seconds
        self._desk = Desk(
            settings=lambda: self.settings,
            heartbeats=self._heartbeats,
            cuts=self._cuts,
            resyncs=self._resyncs,
            verifications=self._verifications,
            events=self._events,
            newest=self._newest,
            newest_shared=self._newest_shared,
            certificates=SiteCertificates(folder),
            revocations=revocations if revocations is not None else Revocations(),
            writers=writers,
            left=self._left,
            access_ends=self._access_ends,
            not_in_vault=not_in_vault,
            now=lambda: datetime.now(UTC),
        )
        address = settings.configuration_server
        self._listener = Listener(application(settings.site, self._desk), context, address.listen, address.port)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Listen, and return the port."""
        port = await self._listener.start()
        self._tasks = [
            asyncio.create_task(self._look_for_points(), name="cuts"),
            asyncio.create_task(self._watch(), name="events"),
        ]
        # Opening the store loads the SDK, which takes seconds on a busy machine: not during the first question.
        asyncio.get_running_loop().run_in_executor(self._threads, self._warm_up)
        log.info("configuration server listens site=%s port=%d", self.settings.site, port)
        return port

    async def stop(self) -> None:
        """Stop listening and keep what is known."""
        await self._listener.stop()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._heartbeats.save()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def end(self, unwelcome: Callable[[Peer], bool]) -> int:
        """Cut the connections of everybody who is unwelcome; return how many there were."""
        return self._listener.end(unwelcome)

    def _warm_up(self) -> None:
        with suppress(LifeboatError):  # whoever asks for the status is told
            self._store()

    def _access_ends(self) -> datetime | None:
        granted = site_granted(self._folder)
        return None if granted is None else granted.until

    async def _newest(self, server: str) -> Newest:
        try:
            settings = self.settings.servers.get(server)
            wanted = settings is not None and settings.app_consistent_seconds is not None
            passed = self._passed.setdefault(server, set()) if wanted else None
            return await self._ask(partial(points.newest, self._store, server, passed))
        except TimeoutError:
            return Newest(None, _SILENT)

    async def _newest_shared(self, group: str) -> NewestShared:
        try:
            return await self._ask(partial(self._shared.newest, group, tuple(members_of(self.settings.servers, group))))
        except TimeoutError:
            return NewestShared(None, _SILENT)

    async def _left(self) -> Left:
        try:
            return await self._ask(partial(points.left, self._store, datetime.now(UTC)))
        except TimeoutError:
            return [], _SILENT

    async def _ask(self, question: Callable[[], T]) -> T:
        async with asyncio.timeout(VAULT_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    async def _watch(self) -> None:
        """Note each state that was entered or cleared; the first look is late, for agents need a while to be heard."""
        while True:
            await asyncio.sleep(self._watch_seconds)
            try:
                document = await site_document(self._desk)
            except LifeboatError:
                continue  # whoever asks for the status is told
            states = {SITE: document["states"], **{n: each["states"] for n, each in document["servers"].items()}}
            states |= {f"group {name}": each["states"] for name, each in document["groups"].items()}
            note = partial(self._events.note, states, datetime.now(UTC))
            for event in await asyncio.get_running_loop().run_in_executor(self._threads, note):
                tell = log.info if event.change == CLEARED else log.warning
                tell("state %s server=%s %s: %s", event.change, event.server or "-", event.code, event.message)

    async def _look_for_points(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for cut in self._cuts.open_sent():
                # The vault does not answer for now: the cut stays "sent", and the writer's state says why.
                with suppress(LifeboatError):
                    await self._look_for(cut)

    async def _look_for(self, cut: Cut) -> None:
        assert cut.number is not None
        settings, report = self.settings.servers.get(cut.server), self._writers().get(cut.server)
        if settings is None:
            return
        epoch, loop = settings.protection_epoch, asyncio.get_running_loop()
        look = partial(self._point_of, cut.server, epoch, cut.number)
        point, newer = await loop.run_in_executor(self._threads, look)
        skipped = report.skipped_point if report else None
        if point is not None:
            self._cuts.became(cut, point)
        elif skipped is not None and skipped.number == cut.number:
            reason = {"code": skipped.code, "message": skipped.message, "remedy": skipped.remedy}
            self._cuts.skipped(cut, reason)
        elif newer:
            message = "the process server that had received the cut lost it; a newer recovery point exists"
            self._cuts.skipped(cut, {"code": "cut-void", "message": message, "remedy": "ask again if you need one"})

    def _point_of(self, server: str, epoch: int, number: int) -> tuple[str | None, bool]:
        store = self._store()
        newest = points.newest(self._store, server).manifest
        # The order matters: a newer one that was seen first means that ours must be there, if it ever comes.
        point = points.point_of(store, server, epoch, number)
        return point, newest is not None and newest.order > (epoch, number)
