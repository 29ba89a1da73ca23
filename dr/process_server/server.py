"""A process server: its spool, a writer for each protected server, and its listener."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dr.certificates.revocations import Revocations
from dr.certificates.tls import Peer
from dr.listener import Listener
from dr.process_server.api import application
from dr.process_server.spool import Spool, load_key
from dr.process_server.states import WriterReport
from dr.process_server.table_room import TableRoom
from dr.process_server.vault_side import StoreSource, VaultSide, instance_name
from dr.process_server.writer import ServerWriter

log = logging.getLogger("dr.process_server")

DISK_THREADS = 4
SPOOL_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class ProcessServerSettings:
    """What a process server needs to know; paths are the site's own."""

    site: str
    name: str
    listen: str
    port: int
    spool: Path
    spool_key: Path
    spool_bytes: int = SPOOL_BYTES


class ProcessServer:
    """All writers of one process server; belongs to one event loop."""

    def __init__(
        self,
        settings: ProcessServerSettings,
        context: ssl.SSLContext,
        source: StoreSource,
        revocations: Revocations | None = None,
    ) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool, load_key(settings.spool_key), settings.spool_bytes)
        self._vault = VaultSide(source, settings.site, instance_name(settings.name, settings.spool))
        self._disk_threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="spool")
        self._room = TableRoom()
        self._writers: dict[str, ServerWriter] = {}
        self._epochs: dict[str, int] = {}
        app = application(settings.site, self._writers, self._epochs, revocations)
        self._listener = Listener(app, context, settings.listen, settings.port)

    async def start(self, servers: Mapping[str, int]) -> int:
        """Take up what the spool kept, listen, and return the port; `servers` as for `protect`."""
        await self.protect(servers)
        port = await self._listener.start()
        log.info("process server listens name=%s port=%d servers=%d", self._settings.name, port, len(self._writers))
        return port

    async def protect(self, servers: Mapping[str, int]) -> None:
        """Serve exactly `servers`, each in its protection epoch.

        The spool of one that left is kept until it comes back or is purged.
        """
        self._epochs.clear()
        self._epochs.update(servers)
        self._spool.share_among(servers)
        self._room.share_among(servers)
        for gone in [name for name in self._writers if name not in servers]:
            await self._writers.pop(gone).stop()
            log.info("no longer protected server=%s", gone)
        for name in sorted(set(servers) - set(self._writers)):
            writer = ServerWriter(name, self._spool, self._vault, self._disk_threads, self._room)
            self._writers[name] = writer
            await writer.start()

    def end(self, unwelcome: Callable[[Peer], bool]) -> int:
        """Cut the connections of everybody who is unwelcome; return how many there were."""
        return self._listener.end(unwelcome)

    def reports(self) -> dict[str, WriterReport]:
        """Return what every writer says about itself."""
        return {name: writer.report() for name, writer in self._writers.items()}

    async def stop(self) -> None:
        """Stop listening, then the writers; what is not stored stays in the spool."""
        await self._listener.stop()
        await asyncio.gather(*(writer.stop() for writer in self._writers.values()))
        self._disk_threads.shutdown(wait=False, cancel_futures=True)
        self._vault.close()
