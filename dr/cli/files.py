"""`dr files`: single files from a recovery point, without a failover."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dr.cli.main import of_the_system
from dr.cli.naming import about
from dr.cli.target import choose, target_option
from dr.errors import Degraded, Interrupted, LifeboatError, NotFound, Refused
from dr.plain import plain

if TYPE_CHECKING:
    from dr.files.opened import OpenPoint
    from dr.files.tree import Place, Tree
    from dr.files.volumes import Volume, Warned
    from dr.files.writing import Written

_SHOWN_SKIPPED = 20


@click.group()
def files() -> None:
    """List and fetch single files of a recovery point, straight from its snapshots.

    Only what is needed is read, and each range is compared with the digests of the point. ext2 to ext4 and XFS, on
    partitions (MBR, GPT), on LVM over any number of disks, and on whole disks. PATH is the server's own, put together
    as its fstab says; VOLUME:/PATH names a place on one volume.
    """


@files.command("ls")
@click.argument("server")
@click.argument("path", required=False)
@click.option("--point", "selector", default="latest", show_default=True, help="latest, a time or a point's id.")
@target_option("Whose vault to read.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/files.schema.json).")
def ls(server: str, path: str | None, *, selector: str, target: str | None, as_json: bool) -> None:
    """List PATH of SERVER as it was at a point; without PATH, the volumes.

    \b
    Examples:
      dr files ls shop1
      dr files ls shop1 /etc
      dr files ls shop1 vg0/data:/orders --point 2026-05-04T11:30:00Z
    """
    with _opened(server, selector, target) as opened:
        document = _about(server, opened, path)
        if path is None:
            document["volumes"] = [_volume(volume) for volume in opened.volumes]
            warned: list[Warned] = [w for volume in opened.volumes for w in volume.warnings]
        else:
            tree, place = opened.find(path)
            listed = tree.children(place) if place.node.kind == "directory" else iter([place])
            document["entries"] = [_entry(each) for each in sorted(listed, key=lambda each: each.path)]
            warned = _warnings(tree)
        _finish(document, opened, warned, as_json, _show_listing)


@files.command("get")
@click.argument("server")
@click.argument("path")
@click.option("--point", "selector", default="latest", show_default=True, help="latest, a time or a point's id.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; default: the name in this folder.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@target_option("Whose vault to read.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/files.schema.json).")
def get(
    server: str,
    path: str,
    *,
    selector: str,
    output: Path | None,
    overwrite: bool,
    target: str | None,
    as_json: bool,
) -> None:
    """Fetch PATH of SERVER as it was at a point; a directory with all that is in it.

    Modes and times are kept, owners are not. Links come as links and are never followed; devices and the like are left
    out by name. Nothing is overwritten without --overwrite. Exit code 7: something was left out, or a journal could not
    be replayed; the output says what.

    \b
    Examples:
      dr files get shop1 /etc/nginx/nginx.conf
      dr files get shop1 /srv/orders -o /tmp/orders --point shop1-1-125
    """
    from dr.files.writing import Writer, require_target  # noqa: PLC0415 - `dr --help` needs none of this

    with _opened(server, selector, target) as opened:
        tree, place = opened.find(path)
        wanted = _target(place, output)
        require_target(wanted)
        with _progress() as (say, progress):
            writer = Writer(tree, overwrite=overwrite, say=say, progress=progress)
            with _told_if_not_whole(wanted, writer.written):
                writer.write(place, wanted)
        document = _about(server, opened, path)
        document["target"] = str(wanted)
        document["written"] = asdict(writer.written)
        warned = _warnings(tree) + _left_out(writer.written)
        _finish(document, opened, warned, as_json, _show_written)


def _target(place: Place, output: Path | None) -> Path:
    name = place.path.rpartition("/")[2]
    if output is not None and not (output.is_dir() and name):
        return output.absolute()
    if not name:
        raise Refused("the root has no name of its own", code="no-target", remedy="name the target with -o")
    return ((output or Path.cwd()) / name).absolute()


@contextmanager
def _told_if_not_whole(wanted: Path, written: Written) -> Iterator[None]:
    """Say of a directory that was cut short that it is not all there: its files are whole, and it looks whole, too."""
    try:
        yield
    except (KeyboardInterrupt, LifeboatError, OSError) as failure:
        if not written.directories:
            raise
        cause = _as_ours(failure)
        first = f"{cause.remedy}; then " if cause.remedy else ""
        raise type(cause)(
            f"{cause.message}; {wanted} is not whole: it holds {written.files} files of the point so far",
            code=cause.code,
            remedy=f"{first}run the same command with --overwrite, or remove it",
        ) from failure


def _as_ours(failure: BaseException) -> LifeboatError:
    if isinstance(failure, LifeboatError):
        return failure
    return of_the_system(failure) if isinstance(failure, OSError) else Interrupted("interrupted")


@contextmanager
def _opened(server: str, selector: str, target: str | None) -> Iterator[OpenPoint]:
    from dr.compile import names  # noqa: PLC0415
    from dr.files.opened import open_point  # noqa: PLC0415
    from dr.target.stores import open_store  # noqa: PLC0415
    from dr.vault.points import read_points, refuse_selector, resolve  # noqa: PLC0415

    now = datetime.now(UTC)
    refuse_selector(selector, now)
    chosen = choose(target)
    account = names.storage_account(chosen.declaration.site.name, chosen.subscription)
    with about(server):
        store = open_store(chosen.subscription, account)
    with closing(store):
        with about(server):
            found = read_points(store, server)
            if not found.good:
                raise NotFound(f"there is no recovery point of {server}", remedy=f"see `dr points {server}`")
        yield open_point(store, resolve(found.good, selector, now))


def _warnings(tree: Tree) -> list[Warned]:
    from dr.files.opened import warnings  # noqa: PLC0415

    return warnings(tree)


def _left_out(written: Written) -> list[Warned]:
    from dr.files.volumes import Warned  # noqa: PLC0415

    if not written.skipped:
        return []
    return [Warned("left-out", f"{len(written.skipped)} entries were not written", "they are named in `skipped`")]


def _about(server: str, opened: OpenPoint, path: str | None) -> dict[str, Any]:
    from dr.vault.manifest import format_time  # noqa: PLC0415

    return {"server": server, "point": opened.point.id, "cut_time": format_time(opened.point.cut_time), "path": path}


def _volume(volume: Volume) -> dict[str, Any]:
    return {
        "name": volume.name,
        "kind": volume.kind,
        "size_bytes": volume.size_bytes,
        "uuid": volume.uuid,
        "label": volume.label,
        "problem": volume.problem,
    }


def _entry(place: Place) -> dict[str, Any]:
    node = place.node
    return {
        "path": place.path,
        "kind": node.kind,
        "mode": f"{node.mode & 0o7777:04o}",
        "size_bytes": node.size,
        "uid": node.uid,
        "gid": node.gid,
        "modified": _time(node.mtime_ns),
        "link": node.link() if node.kind == "link" else None,
    }


def _time(nanoseconds: int) -> str:
    from dr.vault.manifest import format_time  # noqa: PLC0415

    try:
        return format_time(datetime.fromtimestamp(nanoseconds / 1e9, UTC))
    except (OverflowError, ValueError, OSError):
        return "unknown"


def _finish(
    document: dict[str, Any],
    opened: OpenPoint,
    warned: list[Warned],
    as_json: bool,
    show: Callable[[dict[str, Any]], None],
) -> None:
    document["warnings"] = [asdict(each) for each in warned]
    document["read"] = asdict(opened.traffic)
    failure: LifeboatError | None = None
    if warned:
        codes = ", ".join(dict.fromkeys(each.code for each in warned))
        failure = Degraded(f"with warnings: {codes}", remedy=warned[0].remedy)
    if as_json:
        body = document | (failure.as_dict() if failure else {})
        click.echo(json.dumps(body))  # ASCII: names need not be valid in any encoding
    else:
        show(document)
        for each in warned:
            click.echo(plain(f"warning: {each.message}\n    remedy: {each.remedy}"), err=True)
    if failure:
        sys.exit(failure.exit_code)


def _show_listing(document: dict[str, Any]) -> None:
    click.echo(plain(f"{document['server']}, point {document['point']}, cut at {document['cut_time']}"), err=True)
    for volume in document.get("volumes", ()):
        about_it = volume["problem"] or f"{volume['uuid']} {volume['label']}".strip()
        click.echo(plain(f"{volume['name']:<20} {volume['kind']:<8} {volume['size_bytes']:>16}  {about_it}"))
    for entry in document.get("entries", ()):
        name = entry["path"] if entry["link"] is None else f"{entry['path']} -> {entry['link']}"
        size = f"{entry['size_bytes']:>14}"
        click.echo(plain(f"{entry['kind']:<9} {entry['mode']} {size}  {entry['modified']}  {name}"))


def _show_written(document: dict[str, Any]) -> None:
    done, read = document["written"], document["read"]
    counts = f"{done['files']} files, {done['directories']} directories, {done['links']} links, {done['bytes']} bytes"
    click.echo(plain(f"{document['target']}: {counts} of point {document['point']}"))
    click.echo(f"read {read['content_bytes']} bytes of the disks in {read['requests']} requests", err=True)
    for skipped in done["skipped"][:_SHOWN_SKIPPED]:
        click.echo(plain(f"left out: {skipped['path']}: {skipped['reason']}"), err=True)
    if len(done["skipped"]) > _SHOWN_SKIPPED:
        click.echo(f"and {len(done['skipped']) - _SHOWN_SKIPPED} more (--json shows all)", err=True)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """Yield what hears of paths and bytes: one live line on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda path: None, lambda count: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.status import Status  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - names come from servers: no markup

    with Status("", console=Console(stderr=True)) as status:
        current = [""]

        def say(path: str) -> None:
            current[0] = plain(path)
            status.update(Text(current[0]))

        yield say, lambda count: status.update(Text(f"{count >> 20} MiB  {current[0]}"))
