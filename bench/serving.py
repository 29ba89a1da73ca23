"""A process server as a process of its own: `python -m bench.serving`. The product's own, with a store by choice.

The first line of stdin says where everything lies, as JSON (a key travels in no argument); the answer is its port.
Each further line asks for a report: the times at which its position changed, and the cuts among its segments.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.taking import TakingStore
from dr.certificates.tls import server_context
from dr.compile import names
from dr.freed_memory import keep_freed_memory
from dr.process_server.server import ProcessServer, ProcessServerSettings
from dr.vault.azure import AzureBlobStore
from dr.vault.digests import DigestTable, table_blob_size
from dr.vault.store import BlobStore

LOOK_SECONDS = 0.01


async def serve(told: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    store = _store(told)
    spool = Path(told["spool"])
    settings = ProcessServerSettings(told["site"], "ps1", "127.0.0.1", 0, spool, spool.with_suffix(".key"))
    context = server_context(Path(told["cert"]), Path(told["tls_key"]), Path(told["ca"]))
    server = ProcessServer(settings, context, lambda: store)
    print(await server.start({told["server"]: 1}), flush=True)
    moments: list[tuple[float, int, int]] = []
    looking = asyncio.create_task(_look(server, told["server"], moments))
    loop = asyncio.get_running_loop()
    while question := await loop.run_in_executor(None, sys.stdin.readline):
        await loop.run_in_executor(None, _answer, json.loads(question), store, told["server"], moments)
    looking.cancel()
    await server.stop()


async def _look(server: ProcessServer, name: str, moments: list[tuple[float, int, int]]) -> None:
    while True:
        report = server.reports()[name]
        if not moments or moments[-1][1:] != (report.received, report.stored):
            moments.append((time.monotonic(), report.received, report.stored))
        await asyncio.sleep(LOOK_SECONDS)


def _answer(question: dict[str, Any], store: BlobStore, server: str, moments: list[tuple[float, int, int]]) -> None:
    # Moments first: of a cut that they show as stored, the manifest is there.
    answer: dict[str, Any] = {"moments": list(moments), "cuts": [], "digests": ""}
    for blob in store.list(names.MANIFESTS, f"{server}/"):
        answer["cuts"].append(json.loads(store.get(names.MANIFESTS, blob)[0])["sequence"])
    if "disk" in question:
        size_bytes = question["size_bytes"]
        blob = names.digests_blob(server, question["disk"])
        table = store.read(names.REPLICAS, blob, 0, table_blob_size(size_bytes))
        answer["digests"] = DigestTable(size_bytes, table).merkle_root()
    print(json.dumps(answer), flush=True)


def _store(told: dict[str, Any]) -> BlobStore:
    azurite = told["azurite"]
    if azurite is None:
        return TakingStore()
    credential = {"account_name": azurite["account"], "account_key": azurite["key"]}
    return AzureBlobStore(azurite["url"], credential)


if __name__ == "__main__":
    keep_freed_memory()  # as `dr serve` does
    asyncio.run(serve(json.loads(sys.stdin.readline())))
