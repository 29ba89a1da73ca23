"""`dr serve`: run the site's servers in the foreground until SIGTERM or Ctrl-C; one line per event on stdout."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import click

from dr.config_server.site import Roles, SiteServers
from dr.freed_memory import keep_freed_memory
from dr.target.folders import Folders
from dr.undumpable import forbid_dumps


@click.command()
def serve() -> None:
    """Run the site's configuration server and process server.

    Waits until `pulumi up` of the site stack has written the site's configuration, and follows its changes. One line
    per event goes to stdout; SIGTERM or Ctrl-C ends it, and what was received stays in the spool. On target local `dr
    local up` starts it; on target azure it is a service of the site's machine (docs/azure.md). `dr status` asks it.

    \b
    Examples:
      dr serve
      dr status --watch
    """
    run_servers(Roles())


def run_servers(roles: Roles) -> None:
    """Serve until a signal; then end the process, even when a thread still waits for a store that is away."""
    forbid_dumps()
    keep_freed_memory()
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    logging.getLogger("azure").setLevel(logging.WARNING)
    asyncio.run(_until_signal(roles))
    logging.shutdown()
    sys.stdout.flush()
    # A request to a store that does not answer may hold a thread for a minute; nothing depends on its end.
    os._exit(0)


async def _until_signal(roles: Roles) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stop.set)
    await SiteServers(Folders.from_environment(), roles).run(stop)
