"""The recovery point that a selector stood for in one run: resolved once, kept create-only, read ever after.

`runs/PLAN/RUN/point-SERVER.json`:

    {"schema": 1, "selector": "latest", "selected_time": "…Z",
     "point": {"id", "cut_time", "firmware", "disks": [{"name", "size_bytes", "blob", "snapshot", "merkle_root"}]}}

Retention and new points change what a selector would find tomorrow; the run keeps what it began with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime

from dr.compile import names
from dr.compile.blueprint import ReplicationGroup
from dr.errors import Conflict, Corrupt, NotFound
from dr.failover.sharing import Share, chosen_together, confirm, drop, keep, part
from dr.vault.manifest import Manifest, format_time, parse_time, whole_milliseconds
from dr.vault.points import read_points, resolve
from dr.vault.store import BlobStore

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SelectedDisk:
    name: str
    size_bytes: int
    blob: str
    snapshot: str
    merkle_root: str


@dataclass(frozen=True, slots=True)
class Selection:
    """A point as a run keeps it."""

    selector: str
    point: str
    cut_time: datetime
    firmware: str
    disks: tuple[SelectedDisk, ...]
    passed_over: tuple[str, ...] = ()  # manifests that could not be read when it was selected; not kept
    selected_time: datetime | None = None  # None: a candidate, which no run has chosen yet


def candidate(store: BlobStore, server: str, selector: str, now: datetime, share: Share | None = None) -> Selection:
    """Return what `selector` stands for at this moment, changing nothing. `NotFound` when no point fits.

    `share` is the server's replication group in this run. A manifest that cannot be read does not stop a failover: it
    is passed over and named in the selection.
    """
    if share is not None and chosen_together(selector):
        point, points = part(store, share, server, selector)
    else:
        points = read_points(store, server)
        point = resolve(points.good, selector, now)
    passed_over = tuple(f"{broken.blob}: {broken.cause}" for broken in points.broken)
    return _from_manifest(point, selector, passed_over)


def kept(store: BlobStore, plan: str, run: str, server: str) -> Selection | None:
    """Return the selection of a run, or None before it was made. `Corrupt` when it cannot be read."""
    name = selection_blob(plan, run, server)
    try:
        data, _ = store.get(names.RUNS, name)
    except NotFound:
        return None
    try:
        document = json.loads(data)
        point = document["point"]
        disks = tuple(SelectedDisk(**disk) for disk in point["disks"])
        cut, selected = parse_time(point["cut_time"]), parse_time(document["selected_time"])
        return Selection(document["selector"], point["id"], cut, point["firmware"], disks, selected_time=selected)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{names.RUNS}/{name} is not readable: {error}", code="selection-invalid") from error


def select(
    store: BlobStore,
    plan: str,
    run: str,
    server: str,
    selector: str,
    now: datetime,
    group: ReplicationGroup | None = None,
) -> Selection:
    """Resolve `selector` for this run and keep the answer; one that is kept already is returned as it is.

    Raises `NotFound` when no point fits, `Conflict` when the run was begun with another selector.
    """
    before = kept(store, plan, run, server)
    if before is None:
        share = Share(plan, run, group) if group is not None else None
        together = share if share is not None and chosen_together(selector) else None
        choice = b"" if together is None else keep(store, together, selector, now)
        chosen = candidate(store, server, selector, now, together)
        try:
            store.put(names.RUNS, selection_blob(plan, run, server), _document(chosen, now), if_absent=True)
        except Conflict:
            before = kept(store, plan, run, server)  # somebody else was faster; theirs counts
        else:
            if together is not None:
                confirm(store, together, selector, choice)
            return replace(chosen, selected_time=whole_milliseconds(now))
    if before is None or before.selector != selector:
        chosen_before = "gone again" if before is None else f'"{before.selector}" ({before.point})'
        raise Conflict(
            f'run {run} of plan {plan} selected for {server} {chosen_before}, not "{selector}"',
            code="selector-changed",
            remedy="continue with the selector of the run, or begin another run",
        )
    return before


def forget(
    store: BlobStore, plan: str, run: str, server: str, selector: str = "", group: ReplicationGroup | None = None
) -> None:
    """Drop a run's selection, and the choice of its group with the last one; the recovery point itself stays."""
    store.delete(names.RUNS, selection_blob(plan, run, server))
    if group is None or not chosen_together(selector):
        return
    others = (kept(store, plan, run, member) for member in group.members)
    if all(other is None or other.selector != selector for other in others):
        drop(store, Share(plan, run, group), selector)


def selection_blob(plan: str, run: str, server: str) -> str:
    return f"{plan}/{run}/point-{server}.json"


def _from_manifest(manifest: Manifest, selector: str, passed_over: tuple[str, ...]) -> Selection:
    disks = tuple(
        SelectedDisk(disk.name, disk.size_bytes, disk.blob, disk.snapshot, disk.merkle_root) for disk in manifest.disks
    )
    return Selection(selector, manifest.id, manifest.cut_time, manifest.firmware, disks, passed_over)


def _document(selection: Selection, now: datetime) -> bytes:
    document = {
        "schema": SCHEMA,
        "selector": selection.selector,
        "selected_time": format_time(now),
        "point": {
            "id": selection.point,
            "cut_time": format_time(selection.cut_time),
            "firmware": selection.firmware,
            "disks": [
                {
                    "name": disk.name,
                    "size_bytes": disk.size_bytes,
                    "blob": disk.blob,
                    "snapshot": disk.snapshot,
                    "merkle_root": disk.merkle_root,
                }
                for disk in selection.disks
            ],
        },
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
