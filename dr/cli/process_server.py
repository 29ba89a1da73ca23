"""`dr process-server`: a process server alone, on a machine of its own, to scale a site out."""

from __future__ import annotations

import click

from dr.cli.serve import run_servers
from dr.config_server.site import Roles


@click.command("process-server")
def process_server() -> None:
    """Run a process server alone, on a machine of its own.

    For a site that outgrows one machine: declare it under `processServers` of the site, run `pulumi up` of the site
    stack there, and start this in place of `dr serve`. Agents go to the first declared process server that answers, so
    its loss costs the re-sending of what was not stored, and nothing else.

    \b
    Example:
      dr process-server
    """
    run_servers(Roles(configuration_server=False))
