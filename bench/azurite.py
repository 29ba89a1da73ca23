"""Azurite behind the throttle, for the time of a `with` statement."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from bench.network import free_port, wait_for_port
from bench.ours import CHECKOUT
from dr.compile.names import CONTAINERS, REPLICAS
from dr.local.tools import azurite_command
from dr.vault.azure import AzureBlobStore
from dr.vault.replica import THREADS

REQUESTS_PER_SECOND = 500  # Azure's limits of one page blob, as documented for standard storage
BYTES_PER_SECOND = 60 << 20


@contextmanager
def throttled(folder: Path) -> Iterator[dict[str, str]]:
    """Run both; yield url, account and key."""
    folder.mkdir()
    account, key = "benchaccount", base64.b64encode(secrets.token_bytes(48)).decode()
    port = free_port()
    command = [azurite_command(), "--silent", "--location", str(folder), "--blobHost", "127.0.0.1"]
    with (folder / "log").open("ab") as log:
        azurite = subprocess.Popen(
            [*command, "--blobPort", str(port), "--skipApiVersionCheck", "--disableTelemetry"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},  # read by this user only, unlike arguments
            stdout=log,
            stderr=log,
        )
    throttle = subprocess.Popen(
        [sys.executable, "-m", "bench.throttle", str(port), str(REQUESTS_PER_SECOND), str(BYTES_PER_SECOND)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_port(port, 60)
        assert throttle.stdout is not None
        url = f"http://127.0.0.1:{throttle.stdout.readline().strip()}/{account}"
        service = BlobServiceClient(url, credential={"account_name": account, "account_key": key})
        for name in CONTAINERS:
            service.create_container(name)
        service.close()
        yield {"url": url, "account": account, "key": key}
    finally:
        throttle.terminate()
        throttle.wait(20)
        azurite.terminate()
        azurite.wait(60)


def seconds_alone(azurite: Mapping[str, str], blob: str, requests: int, bytes_each: int) -> float:
    """Return the seconds that the store itself needs for so many writes of pages, by a writer's number of threads."""
    store = AzureBlobStore(azurite["url"], {"account_name": azurite["account"], "account_key": azurite["key"]})
    store.create_pages(REPLICAS, blob, requests * bytes_each, {})
    content = secrets.token_bytes(bytes_each)
    begun = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        list(
            threads.map(lambda number: store.write_pages(REPLICAS, blob, number * bytes_each, content), range(requests))
        )
    seconds = time.monotonic() - begun
    store.close()
    return seconds
