"""A private Azurite for tests: random account and key, a free port, stopped gently."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient

from dr.compile.names import CONTAINERS
from dr.vault.azure import AzureBlobStore

PROGRAM = Path.home() / ".cache/lifeboat/azurite-3.37.0/node_modules/.bin/azurite-blob"


@dataclass(frozen=True)
class Azurite:
    pid: int
    port: int
    unused_port: int
    account: str
    key: str
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{self.account}"

    @property
    def credential(self) -> dict[str, str]:
        return {"account_name": self.account, "account_key": self.key}

    def open(self, *, answer_seconds: int = 20) -> AzureBlobStore:
        return AzureBlobStore(self.url, self.credential, answer_seconds=answer_seconds)


@contextmanager
def running_azurite(folder: Path, account: str | None = None, options: Sequence[str] = ()) -> Iterator[Azurite]:
    """Run Azurite in `folder`; `options` are more of its own, a certificate among them means https."""
    port, unused = _free_ports(2)
    account, key = account or f"test{secrets.token_hex(6)}", base64.b64encode(secrets.token_bytes(48)).decode()
    with _process(folder, port, account, key, options) as process:
        azurite = Azurite(process.pid, port, unused, account, key, "https" if "--cert" in options else "http")
        _wait_until_it_answers(azurite, process, folder / "log")
        _make_containers(azurite)
        yield azurite


@contextmanager
def restarted(azurite: Azurite, folder: Path) -> Iterator[Azurite]:
    """Start Azurite again over the data that a killed one left, at the same address."""
    with _process(folder, azurite.port, azurite.account, azurite.key) as process:
        again = replace(azurite, pid=process.pid)
        _wait_until_it_answers(again, process, folder / "log")
        yield again


@contextmanager
def _process(
    folder: Path, port: int, account: str, key: str, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(PROGRAM), "--silent", "--location", str(folder), "--blobPort", str(port), *options]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--skipApiVersionCheck", "--disableTelemetry"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _make_containers(azurite: Azurite) -> None:
    service = BlobServiceClient(azurite.url, credential=azurite.credential, retry_total=0)
    for name in CONTAINERS:
        service.create_container(name)
    service.close()


def _wait_until_it_answers(azurite: Azurite, process: subprocess.Popen[bytes], log: Path) -> None:
    service = BlobServiceClient(azurite.url, credential=azurite.credential, retry_total=0)
    deadline = time.monotonic() + 60
    while True:
        try:
            service.get_service_properties()
            break
        except AzureError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Azurite did not start: {log.read_text()}") from None
            time.sleep(0.1)
    service.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
