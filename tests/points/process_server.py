"""A process server whose power may go: forked, because two hundred starts of an interpreter would take an hour."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sys
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dr.certificates.tls import server_context
from dr.process_server.server import ProcessServer, ProcessServerSettings
from tests.agent.whole_site import SERVER, SITE
from tests.tracking.vault import remote_store

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__])


async def _serve(told: dict[str, Any], ready: Connection) -> None:
    spool = Path(told["spool"])
    settings = ProcessServerSettings(SITE, told["name"], "127.0.0.1", told["port"], spool, spool.with_suffix(".key"))
    context = server_context(Path(told["cert"]), Path(told["tls_key"]), Path(told["ca"]))
    server = ProcessServer(settings, context, partial(remote_store, told["vault"], told["key"], told["name"]))
    ready.send(await server.start({SERVER: 1}))
    await asyncio.Event().wait()


def _run(told: dict[str, Any], ready: Connection) -> None:
    log = Path(told["log"]).open("a")  # noqa: SIM115 - for as long as the process lives
    sys.stderr = log
    logging.basicConfig(stream=log, level=logging.INFO)
    asyncio.run(_serve(told, ready))


def start(told: dict[str, Any]) -> tuple[BaseProcess, Connection]:
    """Start it; the connection brings its port when it listens, or its end."""
    here, there = _forks.Pipe(duplex=False)
    process = _forks.Process(target=_run, args=(told, there), daemon=True)
    process.start()
    there.close()
    return process, here
