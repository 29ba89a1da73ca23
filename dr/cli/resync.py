"""`dr resync SERVER`: have a server's disks compared with its replica from end to end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dr.cli.advance import progress
from dr.cli.looks import Server, looks
from dr.cli.naming import about
from dr.errors import Unreachable
from dr.plain import plain

if TYPE_CHECKING:
    from dr.config_server.client import SiteClient

BEGIN_SECONDS = 60.0


@click.command()
@click.argument("server")
@click.option("--wait", is_flag=True, help="Stay, with progress, until the resync has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/resync.schema.json).")
def resync(server: str, *, wait: bool, as_json: bool) -> None:
    """Have the disks of SERVER compared with its replica from end to end, and what differs sent.

    Nothing has to be wrong: without a difference only digests travel. No recovery point is made until it ends; the
    last one stays. Returns when the agent has begun, and with --wait when it has ended. A server whose disks are being
    read already (initial replication, another resync) goes on with that.

    \b
    Examples:
      dr resync shop1
      dr resync shop1 --wait
    """
    from dr.config_server.client import SiteClient  # noqa: PLC0415 - `dr --help` needs none of it
    from dr.target.folders import Folders  # noqa: PLC0415

    client = SiteClient(Folders.from_environment().site)
    with about(server):
        request = client.request_resync(server)
    shown = _wait_begun(client, server, request)
    if not as_json:
        point = shown["newest_point"]
        stays = f"; {point['id']} stays the newest recovery point until it ends" if point else ""
        click.echo(plain(f"{server}: the agent has begun, mode {_mode(shown)}{stays}"))
    if wait:
        shown = _wait_ended(client, server, quiet=as_json)
    if as_json:
        click.echo(json.dumps(_report(server, request, shown)))
    elif wait:
        click.echo(plain(f"{server}: the replica is complete, mode {_mode(shown)}"))


def _report(server: str, request: str, shown: Server) -> dict[str, Any]:
    point, agent = shown["newest_point"], shown["agent"]
    return {
        "server": server,
        "request": request,
        "mode": _mode(shown),
        "newest_point": point["id"] if point else None,
        "remaining_seconds": agent.get("remaining_seconds"),
    }


def _wait_begun(client: SiteClient, server: str, request: str) -> Server:
    for shown in looks(client, server, BEGIN_SECONDS):
        if shown["agent"].get("resync_request") == request:
            return shown
    raise Unreachable(
        f"{server}: the agent did not take the request up within {BEGIN_SECONDS:.0f} s",
        code="agent-silent",
        remedy=f"see `dr status {server}`; the request stays open until the configuration server is restarted",
    )


def _wait_ended(client: SiteClient, server: str, *, quiet: bool) -> Server:
    shown: Server = {}
    with progress(server, quiet=quiet) as advance:
        for shown in looks(client, server):
            agent = shown["agent"]
            advance(agent.get("initial_bytes_done") or 0, agent.get("initial_bytes_total") or 0)
            if _mode(shown) not in {"resync", "initial-replication"}:
                break
    return shown


def _mode(shown: Server) -> str:
    return str(shown["agent"].get("mode", "unknown"))
