"""A whole site for the agent's tests: the real process server and configuration server over TLS, a vault in memory."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dr.certificates.authority import identity_uri
from dr.certificates.revocations import Revocations
from dr.certificates.site import SiteCertificates
from dr.certificates.tls import server_context
from dr.compile import names
from dr.config_server.server import ConfigurationServer
from dr.config_server.settings import Address, Membership, ServerSettings, SiteSettings
from dr.model import Traffic
from dr.process_server.server import ProcessServer, ProcessServerSettings
from dr.process_server.stream import Stream
from dr.vault.batch import DiskSpec
from dr.vault.memory import MemoryBlobStore
from tests.certificates.holders import hold, site_certificates
from tests.config_server.rig import Caller
from tests.process_server.scripted import data_segment

SITE = "hq"
SERVER = "shop1"
T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Where the certificates of the test's site lie; `agents` by server."""

    ca: Path
    server: tuple[Path, Path]
    agents: Mapping[str, tuple[Path, Path]]

    @property
    def agent(self) -> tuple[Path, Path]:
        return self.agents[SERVER]


def certificates(folder: Path, servers: Sequence[str] = (SERVER,)) -> Files:
    made = site_certificates(folder, SITE)
    stems = {server: folder / "agent/agent" if server == SERVER else folder / server / "agent" for server in servers}
    for server, stem in stems.items():
        hold(made, stem, identity_uri(SITE, "agent", server))
    return Files(folder / "tls/ca.crt", _pair(folder / "tls/server"), {name: _pair(stems[name]) for name in servers})


def _pair(stem: Path) -> tuple[Path, Path]:
    return stem.with_suffix(".crt"), stem.with_suffix(".key")


class Site:
    """Runs the site's servers in a thread of their own; the process server may be stopped and started."""

    def __init__(
        self,
        folder: Path,
        crash_consistent_seconds: int = 3600,
        groups: Mapping[str, Membership | None] | None = None,
    ) -> None:
        self.folder = folder
        self.store = MemoryBlobStore()
        self._groups = groups or {SERVER: None}
        self.files = certificates(folder, list(self._groups))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._process_server: ProcessServer | None = None
        self._revocations = Revocations()
        self.process_port = 0
        self.protection_epoch = 1  # that the process server is told when it starts
        protected = {
            name: ServerSettings(name, 1, 900, crash_consistent_seconds, 86400, group=group)
            for name, group in self._groups.items()
        }
        self._settings = SiteSettings(
            SITE, "none", "none", Address("127.0.0.1", 0), "ps1", Address("127.0.0.1", 0), protected
        )
        self.process_port = self.start_process_server()
        self.configuration = self._on_loop(self._configure())
        self.configuration_port = self._on_loop(self.configuration.start())

    def start_process_server(self, spool: str = "spool") -> int:
        async def start() -> int:
            settings = ProcessServerSettings(
                SITE, "ps1", "127.0.0.1", self.process_port, self.folder / spool, self.folder / f"{spool}.key"
            )
            self._process_server = ProcessServer(settings, self._tls(), lambda: self.store, self._revocations)
            return await self._process_server.start(dict.fromkeys(self._groups, self.protection_epoch))

        return self._on_loop(start())

    def stop_process_server(self) -> None:
        assert self._process_server is not None
        self._on_loop(self._process_server.stop())
        self._process_server = None

    def request_cut(self, *, barrier: bool = False, app_consistent: bool = False) -> str:
        async def ask() -> str:
            return self.configuration._cuts.request(SERVER, barrier=barrier, app_consistent=app_consistent).id

        return self._on_loop(ask())

    def request_resync(self) -> str:
        async def ask() -> str:
            return self.configuration._resyncs.request(SERVER)

        return self._on_loop(ask())

    def request_verification(self) -> str:
        async def ask() -> str:
            return self.configuration._verifications.request(SERVER)

        return self._on_loop(ask())

    def cut(self, identity: str) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            return dict(self.configuration._cuts.find(SERVER, identity).document())

        return self._on_loop(look())

    def send_as_somebody_else(self, disk: str, size: int, chunks: Mapping[int, bytes]) -> None:
        """Send a segment for each of these chunks, as whoever holds the agent's certificate can."""

        async def send() -> None:
            assert self._process_server is not None
            writer = self._process_server._writers[SERVER]
            opened = await writer.open_stream(Stream(1, (DiskSpec(disk, size),), {}), 1)
            for sequence, (chunk, content) in enumerate(chunks.items(), opened.next_sequence):
                segment = data_segment(1, sequence, disk, {chunk: content})
                await writer.append(1, sequence, opened.writer_epoch, segment)

        self._on_loop(send())

    def release(self, identity: str) -> None:
        async def do() -> None:
            self.configuration._cuts.release(self.configuration._cuts.find(SERVER, identity))

        self._on_loop(do())

    def follow_revocations(self, certificates: SiteCertificates) -> int:
        """Do what `dr serve` does within a look; return how many connections that ended."""

        async def follow() -> int:
            self._revocations.become(each.serial for each in certificates.register.revoked())
            servers = (self._process_server, self.configuration)
            return sum(server.end(self._revocations.__contains__) for server in servers if server is not None)

        return self._on_loop(follow())

    def raise_protection_epoch(self) -> None:
        self.declare(protection_epoch=2)

    def declare_policy(self, crash_consistent_seconds: int, app_consistent_seconds: int | None) -> None:
        changes = {
            "crash_consistent_seconds": crash_consistent_seconds,
            "app_consistent_seconds": app_consistent_seconds,
        }
        servers = {SERVER: replace(self._settings.servers[SERVER], **changes)}  # type: ignore[arg-type]  # by name
        self.configuration.settings = replace(self._settings, servers=servers)

    def declare_traffic(self, traffic: Traffic) -> None:
        self.declare(traffic=traffic)

    def declare_points(self, every_seconds: int) -> None:
        """Change how often the policy makes a recovery point; the agent hears it with its next heartbeat."""
        self.declare(crash_consistent_seconds=every_seconds)

    def declare(self, server: str = SERVER, **changes: Any) -> None:
        """Change the settings of a server, as `up` of the site stack does; the others stay as they were changed."""
        before = self.configuration.settings
        servers = {**before.servers, server: replace(before.servers[server], **changes)}
        self.configuration.settings = replace(before, servers=servers)

    def status(self) -> dict[str, Any]:
        """Return what the configuration server says."""
        return Caller(self.folder, "operator/operator", self.configuration_port)("GET", "/v1/status")[1]

    def manifests(self, server: str = SERVER) -> list[dict[str, Any]]:
        """Return every recovery point's manifest, oldest first."""
        found = [
            json.loads(self.store.get(names.MANIFESTS, name)[0])
            for name in sorted(self.store.list(names.MANIFESTS, f"{server}/"))
        ]
        return sorted(found, key=lambda manifest: manifest["number"])

    def replica(self, disk: str, size: int, snapshot: str | None = None, server: str = SERVER) -> bytes:
        blob = names.replica_blob(server, disk)
        return b"".join(
            self.store.read(names.REPLICAS, blob, offset, min(4 << 20, size - offset), snapshot=snapshot)
            for offset in range(0, size, 4 << 20)
        )

    def heard(self) -> dict[str, Any]:
        """Return what the configuration server keeps of the agent's last heartbeats; it saves when a mode changes."""
        with suppress(OSError, ValueError):
            document: dict[str, Any] = json.loads((self.folder / "heartbeats.json").read_text())
            return document
        return {}

    def close(self) -> None:
        if self._process_server is not None:
            self.stop_process_server()
        self._on_loop(self.configuration.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        # Replicas and their snapshots are hundreds of MiB; reference cycles would keep them through the whole session.
        self.store.rollback({})

    async def _configure(self) -> ConfigurationServer:
        return ConfigurationServer(
            self._settings,
            self._tls(),
            lambda: self.store,
            lambda: self._process_server.reports() if self._process_server else {},
            self.folder,
            self._revocations,
        )

    def _tls(self) -> ssl.SSLContext:
        return server_context(*self.files.server, self.files.ca)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
