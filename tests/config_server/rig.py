"""A site in a folder, with certificates of its own CA, and its servers in a thread over the store in memory."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dr.certificates.revocations import Revocations
from dr.certificates.site import SiteCertificates
from dr.certificates.tls import client_context, server_context
from dr.config_server import settings
from dr.config_server.server import WATCH_SECONDS, ConfigurationServer
from dr.process_server.server import ProcessServer, ProcessServerSettings
from dr.vault.memory import MemoryBlobStore
from tests.certificates.holders import hold, site_certificates

SERVERS = {
    name: {
        "protection_epoch": 1,
        "rpo_threshold_seconds": 3600,
        "crash_consistent_seconds": 300,
        "retention_seconds": 86400,
    }
    for name in ("shop1", "db1")
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def build_site(folder: Path, site: str = "hq") -> SiteCertificates:
    """Write what `up` of the site stack writes, and agents' certificates beside it."""
    certificates = site_certificates(folder, site)
    for server in SERVERS:
        hold(certificates, folder / f"agents/{server}", f"lifeboat://{site}/agent/{server}")
    document = {
        "site": site,
        "subscription": "00000000-10ca-4000-8000-000000000000",
        "storage_account": "stlbtest",
        "configuration_server": {"listen": "127.0.0.1", "port": free_port()},
        "process_server": {"name": "ps1", "listen": "127.0.0.1", "port": free_port()},
        "servers": SERVERS,
    }
    (folder / "config.json").write_text(json.dumps(document))
    return certificates


class Caller:
    """Whoever holds the certificate `stem`; one connection per call."""

    def __init__(self, folder: Path, stem: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._context = context or client_context(folder / f"{stem}.crt", folder / f"{stem}.key", folder / "tls/ca.crt")
        self._port = port

    def __call__(self, method: str, path: str, body: bytes | object = None) -> tuple[int, dict[str, Any]]:
        """Return status and JSON body; every answer must be JSON."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=20, context=self._context)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def code(self, method: str, path: str, body: bytes | object = None) -> tuple[int, str]:
        status, answer = self(method, path, body)
        assert set(answer["error"]) == {"code", "message", "remedy"}, answer
        return status, answer["error"]["code"]


class RunningSite:
    """Both servers of a site's folder over a store in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryBlobStore()
        self.settings = settings.load(folder / "config.json")
        self.revocations = Revocations()
        self.loop = asyncio.new_event_loop()
        self.servers: list[ProcessServer | ConfigurationServer] = []
        self.operator = Caller(folder, "operator/operator", self.settings.configuration_server.port)

    def agent(self, server: str = "shop1") -> Caller:
        return Caller(self.folder, f"agents/{server}", self.settings.configuration_server.port)

    def holder(self, stem: str) -> Caller:
        """Return whoever holds a certificate, as it calls the configuration server."""
        return Caller(self.folder, stem, self.settings.configuration_server.port)

    def revoke(self, serials: list[str]) -> None:
        """Let `serials` be revoked, as `dr serve` does when the register changed."""

        async def follow() -> None:
            if self.revocations.become(serials):
                for server in self.servers:
                    server.end(self.revocations.__contains__)

        asyncio.run_coroutine_threadsafe(follow(), self.loop).result(10)

    def declare_epoch(self, server: str, epoch: int) -> None:
        """Let the process server know another protection epoch, as `up` of the site stack does."""
        epochs = {name: each.protection_epoch for name, each in self.settings.servers.items()} | {server: epoch}

        async def declare() -> None:
            for each in self.servers:
                if isinstance(each, ProcessServer):
                    await each.protect(epochs)

        asyncio.run_coroutine_threadsafe(declare(), self.loop).result(10)

    def revoke_soon(self, serials: list[str], *, after_seconds: float) -> None:
        threading.Timer(after_seconds, self.revoke, [serials]).start()

    def sender(self, stem: str = "agents/shop1") -> Caller:
        return Caller(self.folder, stem, self.settings.process_server.port)


@contextmanager
def running_site(folder: Path, watch_seconds: float = WATCH_SECONDS) -> Iterator[RunningSite]:
    """Serve the site in `folder` from a thread."""
    site = RunningSite(folder)
    ready, loop = threading.Event(), site.loop
    stop = asyncio.Event()

    async def serve() -> None:
        context = server_context(folder / "tls/server.crt", folder / "tls/server.key", folder / "tls/ca.crt")
        address = site.settings.process_server
        spool = ProcessServerSettings(
            "hq", "ps1", address.listen, address.port, folder / "spool", folder / "keys/spool.key"
        )
        process_server = ProcessServer(spool, context, lambda: site.store, site.revocations)
        await process_server.start({name: server.protection_epoch for name, server in site.settings.servers.items()})
        configuration_server = ConfigurationServer(
            site.settings,
            context,
            lambda: site.store,
            process_server.reports,
            folder,
            site.revocations,
            watch_seconds,
        )
        site.servers += [process_server, configuration_server]
        await configuration_server.start()
        ready.set()
        await stop.wait()
        await configuration_server.stop()
        await process_server.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield site
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)
        loop.close()


class BeatingAgent:
    """An agent that is a script: sends heartbeats until it ends; `following` makes the next status from the answer."""

    def __init__(
        self, site: RunningSite, status: dict[str, Any], following: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self._caller, self._status, self._following = site.agent(), status, following
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            answer: dict[str, Any] = self._caller("POST", "/v1/agents/shop1/heartbeat", self._status)[1]
            self._status = self._following(answer)
            time.sleep(0.3)
