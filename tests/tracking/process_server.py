"""A process server of the proof, as a process of its own that may be killed: `python -m tests.tracking.process_server`.

Reads one JSON line (where the vault is, who it is) and prints its port when it listens.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

from dr.certificates.tls import server_context
from dr.process_server.server import ProcessServer, ProcessServerSettings
from tests.agent.whole_site import SERVER, SITE
from tests.tracking.vault import remote_store


async def serve(told: dict[str, str]) -> None:
    spool = Path(told["spool"])
    settings = ProcessServerSettings(SITE, told["name"], "127.0.0.1", 0, spool, spool.with_suffix(".key"))
    context = server_context(Path(told["cert"]), Path(told["tls_key"]), Path(told["ca"]))
    source = partial(remote_store, told["vault"], told["key"], told["name"])
    server = ProcessServer(settings, context, source)
    print(await server.start({SERVER: 1}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
