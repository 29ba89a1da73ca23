"""`dr status`: health, RPO, backlog and mode of the servers; when the site is gone, what the vault alone tells."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from dr.cli.naming import unknown_server
from dr.cli.target import choose, target_option
from dr.errors import Degraded, LifeboatError
from dr.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dr.config_server.client import SiteUnreachable
    from dr.model import Declaration

WATCH_SECONDS = 2.0
Document = dict[str, Any]


@click.command()
@click.argument("server", required=False)
@click.option("--watch", is_flag=True, help="Ask again every two seconds until Ctrl-C, with progress bars.")
@target_option("Whose vault to read when the site does not answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/status.schema.json).")
def status(server: str | None, *, watch: bool, target: str | None, as_json: bool) -> None:
    """Show health, RPO, backlog and mode of all servers or of SERVER.

    Asks the configuration server of the site on this machine; when it does not answer, says so and shows what the
    vault alone tells. Exit code 7 when anything is degraded.

    \b
    Examples:
      dr status
      dr status shop1 --json | jq .servers.shop1.rpo_seconds
      dr status --watch
    """
    if watch and as_json:
        raise click.UsageError("--watch is for eyes, --json for programs: give one of them")
    if watch:
        _watch(server, target)
        return
    document = ask(server, target)
    failure = degraded(document)
    if as_json:
        click.echo(json.dumps(document | (failure.as_dict() if failure else {}), ensure_ascii=False))
    else:
        _show(document)
    if failure:
        sys.exit(failure.exit_code)


def ask(server: str | None, target: str | None) -> Document:
    """Return the status document, of one server only when `server` is given. `NotFound` when there is no such."""
    from dr.config_server.client import SiteClient, SiteUnreachable  # noqa: PLC0415 - `dr --help` needs none of it
    from dr.target.folders import Folders  # noqa: PLC0415

    try:
        document = SiteClient(Folders.from_environment().site).status()
    except SiteUnreachable as unreachable:
        document = _vault_status(unreachable, target)
    if server is None:
        return document
    if server in document["left"]:
        return {**document, "servers": {}, "groups": {}, "left": {server: document["left"][server]}}
    if server not in document["servers"]:
        known = ", ".join(document["servers"]) or "none yet"
        raise unknown_server(server, document["servers"], f"protected are: {known}")
    groups = {name: group for name, group in document["groups"].items() if server in group["members"]}
    return {**document, "servers": {server: document["servers"][server]}, "groups": groups, "left": {}}


def degraded(document: Document) -> LifeboatError | None:
    """Return the error that names what is degraded, None when all is well."""
    found = list(_states(document))
    if not found:
        return None
    codes = ", ".join(f"{name} {state['code']}" for name, state in found)
    return Degraded(f"degraded: {codes}", remedy=str(found[0][1]["remedy"]))


def _vault_status(unreachable: SiteUnreachable, target: str | None) -> Document:
    from dr.compile import names  # noqa: PLC0415
    from dr.config_server import groups, points  # noqa: PLC0415
    from dr.config_server.health import NamedState, status_document, vault_document  # noqa: PLC0415
    from dr.target.stores import open_store  # noqa: PLC0415

    chosen, now = choose(target), datetime.now(UTC)
    declaration, subscription = chosen.declaration, chosen.subscription
    account = names.storage_account(declaration.site.name, subscription)
    declared = {each.name: each for each in _declared(declaration)}
    servers = {
        name: vault_document(
            each,
            points.newest(
                lambda: open_store(subscription, account), name, None if each.app_consistent_seconds is None else set()
            ),
            now,
        )
        for name, each in declared.items()
    }
    looked = points.SharedNewest(lambda: open_store(subscription, account))
    shared = {
        name: groups.group_document(name, declared, None, looked.newest(name, groups.members_of(declared, name)), now)
        for name in groups.groups_of(declared)
    }
    left = points.left(lambda: open_store(subscription, account), now)
    state = NamedState(unreachable.code, unreachable.message, unreachable.remedy)
    return status_document(declaration.site.name, "vault", [state], servers, now, left, groups=shared)


def _declared(declaration: Declaration) -> Iterator[Any]:
    from dr.config_server.settings import Membership, ServerSettings  # noqa: PLC0415

    for name, server in sorted(declaration.servers.items()):
        policy = declaration.policies[server.policy]
        yield ServerSettings(
            name,
            0,
            policy.rpo_threshold_seconds,
            policy.crash_consistent_seconds,
            policy.retention_seconds,
            group=Membership(server.group, "", server.group_port) if server.group else None,
            app_consistent_seconds=policy.app_consistent_seconds if server.applications else None,
        )


def _watch(server: str | None, target: str | None) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    if not sys.stdout.isatty():
        while True:
            _show(ask(server, target))
            time.sleep(WATCH_SECONDS)
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(_table(ask(server, target)), refresh=True)
            time.sleep(WATCH_SECONDS)


def _show(document: Document) -> None:
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415

        Console().print(_table(document))
        return
    for row in _rows(document):
        click.echo(plain("  ".join(cell for cell in row if cell)))
    for name, state in _states(document):
        click.echo(plain(f"{name}: {state['code']}: {state['message']}"))
        if state["remedy"]:
            click.echo(plain(f"    remedy: {state['remedy']}"))
    for line in _locked_out(document):
        click.echo(plain(line))


def _table(document: Document) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    where = "" if document["source"] == "configuration-server" else ", from the vault alone"
    table = Table(title=f"site {document['site']}{where}")
    for column in ("server", "health", "mode", "RPO", "newest point", "app-consistent", "backlog", "sent"):
        table.add_column(column)
    for row in _rows(document):
        table.add_row(*(Text(plain(cell)) for cell in row))
    parts: list[RenderableType] = [table]
    for name, server in document["servers"].items():
        agent = server["agent"] or {}
        total = agent.get("initial_bytes_total") or 0
        if agent.get("mode") in {"initial-replication", "resync"} and total:
            bar = ProgressBar(total=total, completed=agent["initial_bytes_done"], width=40)
            grid = Table.grid(padding=(0, 1))
            grid.add_row(f"{name} {agent['mode']}", bar, _bytes(agent["initial_bytes_done"]), f"of {_bytes(total)}")
            parts.append(grid)
    for name, state in _states(document):
        parts.append(Text(plain(f"{name}: {state['code']}: {state['message']}"), style="yellow"))
        if state["remedy"]:
            parts.append(Text(plain(f"    remedy: {state['remedy']}")))
    parts += [Text(plain(line)) for line in _locked_out(document)]
    return Group(*parts)


def _states(document: Document) -> Iterator[tuple[str, Document]]:
    for state in document["states"]:
        yield "site", state
    for name, server in document["servers"].items():
        for state in server["states"]:
            yield name, state
    for name, group in document["groups"].items():
        for state in group["states"]:
            yield f"group {name}", state


def _locked_out(document: Document) -> Iterator[str]:
    for each in document.get("certificates", {}).get("revoked", ()):
        who = f"{each['role']} {each['name']}".rstrip()
        yield f"revoked: {who} {each['serial']} since {each['revoked_at']}: {each['reason']}"


def _rows(document: Document) -> Iterator[tuple[str, ...]]:
    for name, server in document["servers"].items():
        agent, point, rpo = server["agent"] or {}, server["newest_point"], server["rpo_seconds"]
        known = bool(agent)
        yield (
            name,
            server["health"],
            str(agent.get("mode", "unknown")),
            "no RPO" if rpo is None else f"RPO {_duration(rpo)}",
            "no point" if point is None else point["id"],
            _app_consistent(document, server),
            f"backlog {_bytes(agent['pending_bytes'])}" if known else "",
            f"sent {_bytes(agent['sent_bytes'])}" if known else "",
        )
    for name, group in document["groups"].items():
        rpo, point = group["rpo_seconds"], group["newest_point"]
        yield (
            f"group {name}",
            group["health"],
            f"of {', '.join(group['members'])}",
            "no RPO" if rpo is None else f"RPO {_duration(rpo)}",
            "no shared point" if point is None else f"shared {point['id']}",
            "",
            "",
            "",
        )
    for name, kept in document["left"].items():
        yield (name, "left", "not protected", "", f"points kept until {kept['until']}", "", "", "")


def _app_consistent(document: Document, server: Document) -> str:
    """Return when the last application-consistent point was; nothing where the policy wants none."""
    point = server["newest_app_consistent_point"]
    if point is None:
        return "" if server["app_consistent_seconds"] is None else "none app-consistent"
    asked, cut = (datetime.fromisoformat(text) for text in (document["asked_at"], point["cut_time"]))
    return f"app-consistent {_duration(max(0.0, (asked - cut).total_seconds()))} ago"


def _duration(seconds: float) -> str:
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
