"""`dr events`: what began and ended at the site, in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from dr.cli.naming import about, unknown_server
from dr.plain import plain

if TYPE_CHECKING:
    from dr.config_server.client import SiteClient

LOOK_SECONDS = 2.0


@click.command()
@click.argument("server", required=False)
@click.option("--last", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many of the newest.")
@click.option("--follow", is_flag=True, help="Stay, and print what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line (docs/formats/events.schema.json).")
def events(server: str | None, *, last: int, follow: bool, as_json: bool) -> None:
    """Show when which state of SERVER, or of the site and all servers, was entered and cleared.

    The states are those of `dr status`: an RPO over its threshold is one event, and its return another. The
    configuration server looks every 30 seconds and keeps the newest 10,000.

    \b
    Examples:
      dr events
      dr events shop1 --last 10
      dr events --follow --json | jq 'select(.code == "rpo-over-threshold")'
    """
    from dr.config_server.client import SiteClient  # noqa: PLC0415 - `dr --help` needs none of it
    from dr.target.folders import Folders  # noqa: PLC0415

    client = SiteClient(Folders.from_environment().site)
    with about(server) if server else nullcontext():
        found = client.events(server=server, limit=last)
        if server and not found and server not in (known := client.status()["servers"]):
            raise unknown_server(server, known, "see `dr status`")
    if not found and not follow and not as_json:
        click.echo("nothing has begun or ended yet; the first look comes 30 s after `dr serve` began")
    for event in found:
        click.echo(_line(event, as_json=as_json))
    if follow:
        for event in _coming(client, server, found[-1]["number"] if found else 0):
            click.echo(_line(event, as_json=as_json))


def _coming(client: SiteClient, server: str | None, seen: int) -> Iterator[dict[str, Any]]:
    while True:
        time.sleep(LOOK_SECONDS)
        for event in client.events(after=seen, server=server):
            seen = event["number"]
            yield event


def _line(event: dict[str, Any], *, as_json: bool) -> str:
    if as_json:
        return json.dumps(event, ensure_ascii=False)
    sign = "-" if event["change"] == "cleared" else "!" if event["severity"] == "degraded" else "+"
    what = f"{event['server'] or 'the site'}: {event['code']} {event['change']}: {event['message']}"
    return plain(f"{event['at']}  {sign} {what}")
