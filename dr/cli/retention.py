"""`dr retention`: one pass of the identity that may delete, or a loop of them."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dr.errors import Degraded, LifeboatError
from dr.plain import plain

if TYPE_CHECKING:
    from datetime import datetime

    from dr.retention.pruning import Pruned

LOOP_SECONDS = 600.0
RETRY_SECONDS = 15.0
SCHEMA = "docs/formats/retention.schema.json"


@click.command()
@click.option("--loop", is_flag=True, help="Make a pass every ten minutes until SIGTERM or Ctrl-C.")
@click.option("--account", metavar="NAME", help="On target azure: the vault's storage account.")
@click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object for each pass ({SCHEMA}).")
def retention(*, loop: bool, account: str | None, as_json: bool) -> None:
    """Remove the recovery points that their policy does not keep.

    This is the only part of Lifeboat that deletes history by itself, and it runs under an identity of its own: as a
    job in Azure, on target local as a process that `dr local up` starts beside the storage. It needs neither the site
    nor the declaration: what is declared, `pulumi up` of the site stack has told the vault.

    Kept are: everything for 2 hours, then one point per hour (1-day policy), per 2 hours (2 to 7 days), or per 2 hours
    for 7 days and per 4 hours after that (8 to 15 days). Nothing is removed while no new point arrives. A point that a
    run uses or that is pinned stays, and so does everything of a server that cannot be read. A shorter retention, a
    server that left and a pin that was taken away count only after the old retention and 14 days.

    \b
    Examples:
      dr retention
      dr retention --json | jq '.servers[].removed'
    """
    if not loop:
        document = one_pass(account)
        _show(document, as_json=as_json)
        failure = _degraded(document)
        if failure and not as_json:
            raise failure
        if failure:
            raise SystemExit(failure.exit_code)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    said = ""
    while not stop.is_set():
        pause = LOOP_SECONDS
        try:
            _show(one_pass(account), as_json=as_json)
            said = ""
        except LifeboatError as error:  # the next pass tries again; what cannot be read is never removed
            text = json.dumps(error.as_dict()) if as_json else plain(f"dr: {error.message}\n    {error.remedy}")
            if text != said:
                click.echo(text)
            said, pause = text, RETRY_SECONDS
        except Exception as error:  # a fault of ours must not end the loop: the next pass decides from what is there
            click.echo(f"fault in a pass of retention: {error!r}")
            pause = RETRY_SECONDS
        stop.wait(pause)


def one_pass(account: str | None) -> dict[str, Any]:
    """Make a pass and return its report. Errors of `dr.retention.pruning.prune` and of the store."""
    from contextlib import closing  # noqa: PLC0415 - `dr --help` needs none of this

    from dr.compile import names  # noqa: PLC0415
    from dr.retention.pruning import prune  # noqa: PLC0415
    from dr.target.access import retention_login  # noqa: PLC0415
    from dr.target.folders import LOCAL_SUBSCRIPTION, Folders  # noqa: PLC0415
    from dr.target.stores import open_as_retention  # noqa: PLC0415

    folders = Folders.from_environment()
    subscription = "azure" if account else LOCAL_SUBSCRIPTION
    with closing(open_as_retention(subscription, account or retention_login(folders).account, folders)) as store:
        return report(prune(store), store.time(names.RETENTION))


def report(done: list[Pruned], now: datetime) -> dict[str, Any]:
    """Return the JSON document of a pass."""
    from dr.vault.manifest import format_time  # noqa: PLC0415

    servers = [{**asdict(each), "until": None if each.until is None else format_time(each.until)} for each in done]
    return {"version": 1, "at": format_time(now), "servers": servers}


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    failure = _degraded(document)
    if as_json:
        click.echo(json.dumps(document | (failure.as_dict() if failure else {}), ensure_ascii=False))
        return
    click.echo(f"{document['at']}: a pass over {len(document['servers'])} servers")
    for each in document["servers"]:
        until = f"; left the declaration, kept until {each['until']}" if each["until"] else ""
        gone = ", its replica too" if each["replica_removed"] else ""
        removed = f"{len(each['removed'])} points and {each['snapshots_removed']} snapshots removed{gone}"
        click.echo(plain(f"{each['server']}: {each['kept']} points kept, {removed}{until}"))
        for problem in each["problems"]:
            click.echo(plain(f"{each['server']}: {problem}"))


def _degraded(document: dict[str, Any]) -> Degraded | None:
    found = [f"{each['server']}: {problem}" for each in document["servers"] for problem in each["problems"]]
    if not found:
        return None
    return Degraded(
        "; ".join(found),
        code="retention-hindered",
        remedy="what is named stays as it is; `dr points SERVER` shows it, `dr purge SERVER` removes a server for good",
    )
