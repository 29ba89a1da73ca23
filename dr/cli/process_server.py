"""`dr process-server`: a process server alone, on a machine of its own, to scale a site out."""

from __future__ import annotations

import click

from dr.cli.serve import run_servers
from dr.config_server.site import Roles


@click.command("process-server")
def process_server() -> None:
    """Run a process server alone."""
    run_servers(Roles(configuration_server=False))
