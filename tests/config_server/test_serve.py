"""`dr serve` as a process, over Azurite: waiting, readiness, a gentle end, and kill -9 at random moments."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from dr.certificates.tls import client_context
from dr.config_server.client import SiteClient
from dr.target.access import grant_site
from dr.target.folders import Folders
from dr.target.secrets import FolderKeyStore
from dr.vault.points import list_points
from tests.certificates.holders import hold
from tests.config_server.rig import build_site
from tests.config_server.test_cuts_and_health import SCHEMA
from tests.process_server.scripted import Disks, content_of, cut_segment
from tests.process_server.test_api import OPEN, SEGMENTS, STREAM
from tests.vault.azurite import Azurite, running_azurite

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
ACCOUNT, PASSPHRASE = "stlbtest", "correct horse battery staple"


class Serve:
    """One `dr serve` after the other over the same folder."""

    def __init__(self, root: Path) -> None:
        self.folders = Folders(root)
        self.log = root / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # No break-glass secret: the site's own login must do.
        environment = os.environ | {"LIFEBOAT_LOCAL": str(self.folders.root)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dr", "serve"], env=environment, stdout=log, stderr=log
            )

    def state(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.folders.site / "serve.json").read_bytes())
        except FileNotFoundError:
            return {"state": "", "pid": 0}
        return document

    def wait(self, state: str) -> None:
        assert self.process is not None
        pid = self.process.pid
        until(lambda: (self.state()["state"], self.state()["pid"]) == (state, pid))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[Azurite]:
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, ACCOUNT) as running:
        yield running
        os.kill(running.pid, signal.SIGCONT)


@pytest.fixture
def serve(tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    root = tmp_path / "local"
    folders = Folders(root)
    FolderKeyStore(folders.key_store, PASSPHRASE).put(f"storage-{ACCOUNT}", azurite.key.encode())
    accounts = {"endpoint": f"http://127.0.0.1:{azurite.port}", "accounts": [ACCOUNT]}
    folders.accounts.write_text(json.dumps(accounts))
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
    grant_site(ACCOUNT, azurite.url, folders, datetime.now(UTC))
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    running = Serve(root)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()


class Agent:
    """A scripted agent that never sends again what was received, and takes every answer at its word."""

    def __init__(self, site: Path, disks: Disks) -> None:
        self._context = client_context(site / "agents/shop1.crt", site / "agents/shop1.key", site / "tls/ca.crt")
        self._port = json.loads((site / "config.json").read_text())["process_server"]["port"]
        self._disks = disks
        self._connection: http.client.HTTPSConnection | None = None
        self._epoch = 0
        self.next = 1
        self.stored = 0

    def send(self, disk: str, chunks: list[int]) -> None:
        """Deliver one segment, whatever happens on the way."""
        self._deliver(lambda sequence: self._disks.segment(1, sequence, disk, chunks))

    def cut(self, requested: str | None = None) -> None:
        self._deliver(lambda sequence: cut_segment(1, sequence, sequence, requested=requested))

    def position(self) -> dict[str, Any]:
        while True:
            with suppress(OSError, http.client.HTTPException):
                status, answer = self._call(
                    "GET", f"/v1/servers/shop1/position?stored_after={self.stored}&wait=2", None
                )
                if status == 200:
                    assert not answer["store_went_back"]
                    self.stored = answer["stored"]
                    return answer
                self._open()
            time.sleep(0.1)

    def _deliver(self, segment: Callable[[int], bytes]) -> None:
        while True:
            try:
                if not self._epoch:
                    self._open()
                path = f"{SEGMENTS}/1/{self.next}?writer_epoch={self._epoch}"
                status, _ = self._call("PUT", path, segment(self.next))
                if status == 200:
                    self.next += 1
                    return
                if status == 409:
                    self._epoch = 0
                else:
                    assert status == 503
                    time.sleep(0.2)
            except (OSError, http.client.HTTPException):
                self._epoch = 0
                time.sleep(0.1)

    def _open(self) -> None:
        body = {**OPEN, "next_sequence": self.next}
        status, answer = self._call("POST", STREAM, json.dumps(body).encode())
        if status == 200:
            assert answer["replica_sequence"] >= self.stored, "the store cannot have gone back"
            self._epoch, self.next = answer["writer_epoch"], answer["next_sequence"]

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=30, context=self._context)
        try:
            self._connection.request(method, path, body)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise


def test_it_waits_for_the_site_follows_it_and_ends_without_a_store(serve: Serve, azurite: Azurite) -> None:
    serve.start()
    serve.wait("waiting-for-site")
    certificates = build_site(serve.folders.site)
    renewed = serve.folders.root / "renewed"
    hold(certificates, renewed / "server", "lifeboat://hq/server/ps1")
    serve.wait("serving")
    document = SiteClient(serve.folders.site).status()
    SCHEMA.validate(document)
    config = json.loads((serve.folders.site / "config.json").read_text())
    del config["servers"]["db1"]
    (serve.folders.site / "config.json").write_text(json.dumps(config))
    until(lambda: list(SiteClient(serve.folders.site).status()["servers"]) == ["shop1"])
    for suffix in ("crt", "key"):
        (serve.folders.site / f"tls/server.{suffix}").write_bytes((renewed / f"server.{suffix}").read_bytes())
    until(lambda: _serial_of(config["configuration_server"]["port"]) == _serial(renewed / "server.crt"))
    assert "process server listens" not in serve.log.read_text().split("servers now", 1)[1]
    second = Serve(serve.folders.root)
    second.start()
    assert second.process is not None and second.process.wait(30) == 6
    agent = Agent(serve.folders.site, Disks())
    agent.send("os", [1])
    os.kill(azurite.pid, signal.SIGSTOP)
    agent.send("os", [2])
    started = time.monotonic()
    assert serve.end() == 0 and time.monotonic() - started < 15
    assert not (serve.folders.site / "serve.json").exists()
    text = serve.log.read_text()
    assert PASSPHRASE not in text and azurite.key not in text


def test_killed_at_any_moment_nothing_received_is_lost(serve: Serve, azurite: Azurite) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    build_site(serve.folders.site)
    serve.start()
    serve.wait("serving")
    disks = Disks()
    agent = Agent(serve.folders.site, disks)
    for round_number in range(4):
        if round_number % 2:
            agent.position()
            os.kill(azurite.pid, signal.SIGSTOP)  # now only the spool can hold what is received
        for _ in range(moments.randrange(3, 20)):
            agent.send("os", sorted(moments.sample(range(16), moments.randrange(1, 4))))
            if moments.random() < 0.2:
                agent.cut()
            time.sleep(moments.random() * 0.02)
        if round_number % 2:
            _nothing_readable(serve.folders.site / "spool", disks)
        serve.kill()
        os.kill(azurite.pid, signal.SIGCONT)
        serve.start()
    agent.cut("requested")
    last = agent.next - 1
    until(lambda: agent.position()["stored"] >= last)
    store = azurite.open()
    assert disks.differences(store) == []
    newest = list_points(store, "shop1")[0]
    assert newest.number == last and agent.position()["last_point"] == newest.id
    store.close()
    assert serve.end() == 0


def _serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def _serial_of(port: int) -> int:
    """Return the serial number of the certificate that a listener shows to anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"").serial_number


def _nothing_readable(spool: Path, disks: Disks) -> None:
    files = [file for file in spool.rglob("0*") if file.is_file()]
    assert files, "the spool is empty while the store does not answer"
    markers = [content[:32] for content in disks.expected.values()]
    assert markers and content_of("x") != content_of("y")
    for file in files:
        data = file.read_bytes()
        assert not any(marker in data for marker in markers)
