"""`dr compare SERVER`: a verification pass now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dr.cli.advance import progress
from dr.cli.looks import Server, looks
from dr.cli.naming import about
from dr.errors import Degraded, Unreachable
from dr.plain import plain

if TYPE_CHECKING:
    from dr.config_server.client import SiteClient

BEGIN_SECONDS = 60.0


@click.command()
@click.argument("server")
@click.option("--wait", is_flag=True, help="Stay, with progress, until the pass has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/compare.schema.json).")
def compare(server: str, *, wait: bool, as_json: bool) -> None:
    """Compare the disks of SERVER with its replica now: a verification pass, as the policy's `verifyEvery` makes them.

    Replication and recovery points go on. What differs although no write to it was seen is drift: it is named here and
    in `dr status`, and sent again. Chunks that change all the time are left out. Returns when the agent has begun, and
    with --wait when the pass has ended; then exit code 7 when anything drifted.

    \b
    Examples:
      dr compare shop1
      dr compare shop1 --wait
    """
    from dr.config_server.client import SiteClient  # noqa: PLC0415 - `dr --help` needs none of it
    from dr.target.folders import Folders  # noqa: PLC0415

    client = SiteClient(Folders.from_environment().site)
    with about(server):
        request = client.request_verification(server)
    told = _wait_begun(client, server, request)
    if not as_json:
        click.echo(plain(f"{server}: the agent has begun to compare"))
    if wait:
        told = _wait_ended(client, server, request, quiet=as_json)
    failure = _failure(server, told)
    if as_json:
        error = failure.as_dict() if failure else {}
        click.echo(json.dumps({"server": server, **told, **error}))
        if failure:
            raise SystemExit(failure.exit_code)
    elif failure:
        raise failure
    elif wait:
        click.echo(plain(f"{server}: {_summary(told)}"))


def _summary(told: dict[str, Any]) -> str:
    left = told["total_bytes"] - told["compared_bytes"]
    busy = f"; {left} bytes were never quiet" if left else ""
    return f"{told['compared_bytes']} bytes were compared, none differs{busy}"


def _failure(server: str, told: dict[str, Any]) -> Degraded | None:
    if told["state"] != "ended":
        return None
    if told["drift_bytes"]:
        message = f"{server}: {told['drift_bytes']} bytes differed from the replica though no write to them was seen"
        return Degraded(message, remedy=f"they are sent again; see `dr status {server}`")
    if told["unreadable"]:
        return Degraded(f"{server}: {told['unreadable']}", remedy="check the disk's health, then compare again")
    return None


def _wait_begun(client: SiteClient, server: str, request: str) -> dict[str, Any]:
    mode = "unknown"
    for shown in looks(client, server, BEGIN_SECONDS):
        told = _of(request, shown)
        if told:
            return told
        mode = shown["agent"].get("mode", "unknown")
    raise Unreachable(
        f"{server}: the agent did not begin within {BEGIN_SECONDS:.0f} s; its mode is {mode}",
        code="agent-silent" if mode == "delta" else "not-yet-protected",
        remedy=f"see `dr status {server}`; the request stays open, and the pass begins when deltas are replicated",
    )


def _wait_ended(client: SiteClient, server: str, request: str, *, quiet: bool) -> dict[str, Any]:
    told: dict[str, Any] = {}
    with progress(server, quiet=quiet) as advance:
        for shown in looks(client, server):
            told = _of(request, shown)
            if told:
                advance(told["compared_bytes"], told["total_bytes"])
                if told["state"] == "ended":
                    break
    return told


def _of(request: str, shown: Server) -> dict[str, Any]:
    """Return what the agent tells of the pass that was asked for, empty when it tells of none or of another."""
    told: dict[str, Any] = shown["agent"].get("verification") or {}
    return told if told.get("request") == request else {}
