"""`dr points SERVER`: the recovery points of a server, from the vault alone, and the proof of one's content."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from dr.cli.naming import about
from dr.cli.target import Chosen, choose, target_option
from dr.errors import Corrupt, Degraded, LifeboatError, NotFound
from dr.plain import plain

if TYPE_CHECKING:
    from dr.vault.declared import Kept
    from dr.vault.manifest import Manifest
    from dr.vault.points import Points
    from dr.vault.store import BlobStore
    from dr.vault.verify import Mismatch

_SHOWN_MISMATCHES = 20
_REQUEST_SECONDS = 300


@click.command()
@click.argument("server")
@click.option("--verify", "selector", metavar="ID", help="Compare every chunk of a point (or latest) to its digest.")
@click.option("--request", is_flag=True, help="Have a point made now, and wait for it; needs the site.")
@click.option("--app-consistent", is_flag=True, help="As --request, and ask the server's applications first.")
@target_option("Whose vault to read.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/points.schema.json).")
def points(
    server: str, *, selector: str | None, request: bool, app_consistent: bool, target: str | None, as_json: bool
) -> None:
    """List the recovery points of SERVER, newest first.

    Without --request only the declaration (for the site's name) and the vault are read; the site may be gone. A point
    that cannot be read is named, and makes the exit code 7. With --verify, a point whose content is not what was cut
    gives 9. With --app-consistent, a point that is only crash-consistent, because a script failed, gives 7.

    \b
    Examples:
      dr points shop1
      dr points shop1 --json | jq -r '.points[0].id'
      dr points shop1 --verify latest
      dr points shop1 --request
      dr points shop1 --app-consistent
    """
    if request or app_consistent:
        with about(server):
            _request(server, app_consistent=app_consistent)
    chosen = choose(target)
    with about(server):
        store = _open_store(chosen)
    try:
        with about(server):
            found = _read(store, server)
        kept, unread = _kept(store, server)
        report = _report(server, chosen.target, found, kept, _shared(store, found), datetime.now(UTC))
        failure = _degraded(found) or unread
        if selector is not None:
            report["verification"] = _verify(store, found, selector)
            failure = _corrupt(report["verification"]) or failure
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps(report | (failure.as_dict() if failure else {}), ensure_ascii=False))
    else:
        _show(report, verified_only=selector is not None)
        if failure:
            click.echo(plain(f"dr: {failure.message}\n    remedy: {failure.remedy}"), err=True)
    if failure:
        sys.exit(failure.exit_code)


def _request(server: str, *, app_consistent: bool) -> None:
    """Ask the site for a point and wait for it; `Degraded` with the agent's reason when it was skipped, or is less."""
    from dr.config_server.client import SiteClient  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415

    client = SiteClient(Folders.from_environment().site)
    request = client.request_cut(server, app_consistent=app_consistent)
    click.echo(f"asked for a point of {server}; waiting for its agent, at most {_REQUEST_SECONDS} s", err=True)
    answer = client.wait_cut(server, request, seconds=_REQUEST_SECONDS)
    if answer["state"] != "point":
        reason = answer["reason"] or {}
        raise Degraded(
            f"{server}: no point was made: {reason.get('message', 'no reason was given')}",
            code=reason.get("code", "point-skipped"),
            remedy=reason.get("remedy", f"see `dr status {server}`"),
        )
    if app_consistent and answer["reason"]:
        less = answer["reason"]
        raise Degraded(
            f"{answer['point']} is crash-consistent only: {less['message']}", code=less["code"], remedy=less["remedy"]
        )


def _open_store(chosen: Chosen) -> BlobStore:
    from dr.compile import names  # noqa: PLC0415
    from dr.target.stores import open_store  # noqa: PLC0415

    return open_store(chosen.subscription, names.storage_account(chosen.declaration.site.name, chosen.subscription))


def _read(store: BlobStore, server: str) -> Points:
    from dr.vault.points import read_points, servers  # noqa: PLC0415

    found = read_points(store, server)
    if not found.good and not found.broken:
        known = servers(store)
        if server not in known:
            there = f"it knows {', '.join(known)}" if known else "it knows no server yet"
            raise NotFound(f'the vault has nothing of a server "{server}"', remedy=there)
    return found


def _kept(store: BlobStore, server: str) -> tuple[Kept | None, LifeboatError | None]:
    """Return what the vault was told about a server; what can't be read must not keep points from being listed."""
    from dr.vault import declared  # noqa: PLC0415

    try:
        return declared.read(store).get(server), None
    except Corrupt as corrupt:
        return None, Degraded(corrupt.message, code=corrupt.code, remedy=corrupt.remedy)


def _shared(store: BlobStore, found: Points) -> dict[str, frozenset[str]]:
    """Return which members have their part of each point of a group, by the point's id."""
    from dr.vault.points import read_points  # noqa: PLC0415

    groups = [point.group for point in found.good if point.group is not None]
    have: dict[str, set[str]] = {group.id: set() for group in groups}
    for member in sorted({member for group in groups for member in group.members}):
        for point in read_points(store, member).good:
            if point.group in groups:
                have[point.group.id].add(member)
    return {identity: frozenset(members) for identity, members in have.items()}


def _verify(store: BlobStore, found: Points, selector: str) -> dict[str, Any]:
    from dr.vault.points import resolve  # noqa: PLC0415
    from dr.vault.verify import verify_point  # noqa: PLC0415

    point = resolve(found.good, selector, datetime.now(UTC))
    mismatches: list[Mismatch] = verify_point(store, point)
    return {
        "point": point.id,
        "verified": not mismatches,
        "disk_bytes": sum(disk.size_bytes for disk in point.disks),
        "mismatches": [asdict(mismatch) for mismatch in mismatches],
    }


def _corrupt(verification: dict[str, Any]) -> LifeboatError | None:
    if verification["verified"]:
        return None
    return Corrupt(
        f"{verification['point']}: {len(verification['mismatches'])} places are not what was cut",
        code="point-corrupt",
        remedy="use another point, and find out who changed the storage account",
    )


def _degraded(found: Points) -> LifeboatError | None:
    if not found.broken:
        return None
    return Degraded(
        "; ".join(point.cause for point in found.broken),
        code="manifest-invalid",
        remedy="the other points can be used; these manifests were damaged in the storage account",
    )


def _report(
    server: str, target: str, found: Points, kept: Kept | None, shared: dict[str, frozenset[str]], now: datetime
) -> dict[str, Any]:
    return {
        "server": server,
        "target": target,
        "retention": None if kept is None else kept.as_dict(),
        "points": [_point(point, shared, now) for point in found.good],
        "broken": [asdict(point) for point in found.broken],
        "verification": None,
    }


def _point(point: Manifest, shared: dict[str, frozenset[str]], now: datetime) -> dict[str, Any]:
    from dr.vault.manifest import as_document  # noqa: PLC0415

    document = as_document(point)
    kept = ("id", "protection_epoch", "number", "kind", "cut_time", "created_time", "sequence", "firmware")
    return {
        **{key: document[key] for key in kept},
        "age_seconds": round((now - point.cut_time).total_seconds(), 3),
        "freeze_ms": point.freeze_ms,
        "applications": document["applications"],
        "warning": document["warning"],
        "frozen": document["frozen"],
        "not_frozen": document["not_frozen"],
        "disks": [
            {"name": disk.name, "size_bytes": disk.size_bytes, "merkle_root": disk.merkle_root} for disk in point.disks
        ],
        "group": _group(point, shared),
    }


def _group(point: Manifest, shared: dict[str, frozenset[str]]) -> dict[str, Any] | None:
    """Return the shared point that this is a part of; one that lacks a part is shared by nobody."""
    group = point.group
    if group is None:
        return None
    missing = sorted(set(group.members) - shared[group.id])
    return {
        "name": group.name,
        "id": group.id,
        "members": list(group.members),
        "shared": not missing,
        "missing": missing,
    }


def _show(report: dict[str, Any], *, verified_only: bool) -> None:
    if not verified_only:
        _show_points(report)
    elif report["verification"]["verified"]:
        size = report["verification"]["disk_bytes"]
        click.echo(f"{report['verification']['point']}: {size} bytes of disk are what was cut")
    else:
        mismatches = report["verification"]["mismatches"]
        for item in mismatches[:_SHOWN_MISMATCHES]:
            click.echo(f"disk {item['disk']}, {item['length']} bytes at {item['offset']}: {item['cause']}")
        if len(mismatches) > _SHOWN_MISMATCHES:
            click.echo(f"and {len(mismatches) - _SHOWN_MISMATCHES} more (--json shows all)")


def _show_points(report: dict[str, Any]) -> None:
    where = "LOCAL" if report["target"] == "local" else "Azure"
    kept = report["retention"]
    if kept and kept["left"]:
        left = f"{report['server']} left the declaration at {kept['left']}; its points are kept until {kept['until']}"
        click.echo(plain(left), err=True)
    if not report["points"]:
        click.echo(f"{report['server']} ({where}): no recovery point yet; `dr status {report['server']}` tells why")
        return
    rows = list(_rows(report))
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("  ".join(row))
        _show_warning(report)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - names come from servers: no markup, no control characters

    table = Table(title=f"{report['server']} ({where})")
    for heading in ("point", "cut at", "age", "kind", "disks", "not frozen", "shared with"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
    _show_warning(report)


def _show_warning(report: dict[str, Any]) -> None:
    """Say why the newest point that was meant to be application-consistent is not, unless one came since."""
    for point in report["points"]:
        if point["kind"] == "application-consistent":
            return
        if point["warning"]:
            warning = point["warning"]
            said = f"{point['id']} is crash-consistent only: {warning['code']}: {warning['message']}"
            click.echo(plain(f"{said}\n    remedy: {warning['remedy']}"), err=True)
            return


def _rows(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for point in report["points"]:
        disks = ", ".join(f"{disk['name']} {disk['size_bytes'] / (1 << 30):.1f} GiB" for disk in point["disks"])
        loose = ", ".join(item["name"] for item in point["not_frozen"]) or "-"
        with_whom = _with_whom(report["server"], point["group"])
        cells = (point["id"], point["cut_time"], _age(point["age_seconds"]), point["kind"], disks, loose, with_whom)
        yield tuple(map(plain, cells))


def _with_whom(server: str, group: dict[str, Any] | None) -> str:
    if group is None:
        return "-"
    if group["missing"]:
        return f"not shared: no part of {', '.join(group['missing'])}"
    return f"{', '.join(member for member in group['members'] if member != server)} ({group['name']} {group['id']})"


def _age(seconds: float) -> str:
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
