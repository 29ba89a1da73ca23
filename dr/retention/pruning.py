"""One pass over the vault as the identity that may delete: what a policy does not keep, and what left long ago.

Rules, each against half a point or a lost one:
- The manifest goes first. From then on the point is listed nowhere; its snapshots go in a later pass, so that a run
  which chose the point in the same minute still finds them and then holds them.
- A snapshot is deleted only when no manifest and no run names it, when it is at least `ORPHAN` older than the pass, and
  when a newer whole point of its server exists. (The writer makes snapshots first and the manifest last, and gives a
  cut up that took longer than `dr.vault.replica` allows.)
- A pass can be killed anywhere and repeated: it decides from what is there.
- What can't be read is never counted on. An unreadable manifest keeps all snapshots of its server, an unreadable run or
  list ends the pass before anything is deleted.
- A point counts only when its snapshots exist: a forged manifest of nothing ages no real point out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dr.compile import names
from dr.errors import Conflict, Corrupt
from dr.retention.table import Dated, surplus
from dr.vault import declared
from dr.vault.declared import Kept
from dr.vault.manifest import Manifest
from dr.vault.points import Points, read_points, servers
from dr.vault.store import BlobStore

ORPHAN = timedelta(hours=1)
Snapshots = set[tuple[str, str]]  # (blob in container replicas, snapshot)


@dataclass(frozen=True, slots=True)
class InUse:
    """What runs and pins hold."""

    points: frozenset[str]
    snapshots: frozenset[tuple[str, str]]


@dataclass(slots=True)
class Pruned:
    """What a pass did to one server. `until` is when the points of a server that left are removed."""

    server: str
    until: datetime | None = None
    kept: int = 0
    removed: list[str] = field(default_factory=list)
    snapshots_removed: int = 0
    replica_removed: bool = False
    problems: list[str] = field(default_factory=list)


def prune(store: BlobStore, now: datetime) -> list[Pruned]:
    """Make one pass. `Corrupt` (nothing was deleted), `Unreachable` (repeat it), `Refused` (no right to delete)."""
    kept = declared.read(store)
    in_use = read_in_use(store)
    known = servers(store)
    unlisted = [Pruned(name, problems=[_UNLISTED]) for name in known if name not in kept]
    return [*(_prune_server(store, kept[name], in_use, now) for name in known if name in kept), *unlisted]


_UNLISTED = "the declaration never named this server: nothing of it is ever removed by itself (`dr purge` does)"


def read_in_use(store: BlobStore) -> InUse:
    """Return the points that a run chose or a person pinned, and the snapshots that runs read. `Corrupt`."""
    points, snapshots = set(pinned(store)), set()
    for name in store.list(names.RUNS):
        if not name.rpartition("/")[2].startswith("point-"):
            continue
        try:
            point = json.loads(store.get(names.RUNS, name)[0])["point"]
            points.add(str(point["id"]))
            snapshots |= {(str(disk["blob"]), str(disk["snapshot"])) for disk in point["disks"]}
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(
                f"{names.RUNS}/{name} is not readable: {error!r}; until it is known what it holds, nothing goes",
                code="selection-invalid",
                remedy="end the run (`pulumi destroy` of its stack), or delete the blob",
            ) from error
    return InUse(frozenset(points), frozenset(snapshots))


def pinned(store: BlobStore) -> Iterator[str]:
    """Yield the ids of the points that are pinned."""
    for name in store.list(names.RETENTION, names.PINS):
        yield name.rpartition("/")[2]


def _prune_server(store: BlobStore, kept: Kept, in_use: InUse, now: datetime) -> Pruned:
    pruned = Pruned(kept.server, kept.until)
    points = read_points(store, kept.server)
    pruned.problems += [broken.cause for broken in points.broken]
    created = {entry.name: entry.created for entry in store.inventory(names.MANIFESTS, f"{kept.server}/")}
    held = _snapshots(store, kept.server)
    whole = [point for point in points.good if point.blob in created and named_by(point) <= held]
    torn = [point for point in points.good if point.blob in created and point not in whole]
    pruned.problems += [f"{point.id} lacks a snapshot and is no recovery point" for point in torn]
    over = kept.until is not None and now >= kept.until
    _collect(store, pruned, points, whole, held, in_use, now, over=over)

    dated = [Dated(point.id, point.order, point.cut_time, created[point.blob]) for point in whole]
    going = {p.id for p in dated} - in_use.points if over else set(surplus(dated, kept.retention, in_use.points))
    if over:
        going |= {point.id for point in torn}
    pruned.kept = len(points.good)
    for point in sorted(points.good, key=lambda p: p.order):
        if point.id in going:
            _remove(store, point, pruned)
    if over and not pruned.kept and not points.broken:
        _remove_replica(store, pruned, in_use)
    return pruned


def _remove(store: BlobStore, point: Manifest, pruned: Pruned) -> None:
    try:
        store.delete(names.MANIFESTS, point.blob)
    except Conflict as conflict:
        if conflict.code != "immutable":
            raise
        return  # the store itself keeps it for a while yet; a later pass removes it
    pruned.removed.append(point.id)
    pruned.kept -= 1


def _collect(
    store: BlobStore,
    pruned: Pruned,
    points: Points,
    whole: list[Manifest],
    held: Snapshots,
    in_use: InUse,
    now: datetime,
    *,
    over: bool,
) -> None:
    """Delete the snapshots that nothing names, of earlier passes and of cuts that never became points."""
    if points.broken:
        return
    named = {pair for point in points.good for pair in named_by(point)} | in_use.snapshots
    newest = max((snapshot for point in whole for _, snapshot in named_by(point)), default="")
    for blob, snapshot in sorted(held - named):
        old = now - datetime.fromisoformat(snapshot) >= ORPHAN
        if old and (snapshot < newest or over):
            store.delete_snapshot(names.REPLICAS, blob, snapshot)
            pruned.snapshots_removed += 1


def _remove_replica(store: BlobStore, pruned: Pruned, in_use: InUse) -> None:
    """Remove what is left of a server whose time is over, unless a run still reads it."""
    blobs = list(store.list(names.REPLICAS, f"{pruned.server}/"))
    if any(blob in blobs for blob, _ in in_use.snapshots):
        return
    delete_replica(store, blobs)
    pruned.replica_removed = bool(blobs)


def delete_replica(store: BlobStore, blobs: list[str]) -> None:
    """Delete a replica's blobs with all their snapshots; the writer's record last, so that a repeated call finds it."""
    for blob in sorted(blobs, key=lambda name: name.endswith("/writer.json")):
        if not blob.endswith("/writer.json"):
            store.break_lease(names.REPLICAS, blob)
        store.delete(names.REPLICAS, blob)


def named_by(point: Manifest) -> Snapshots:
    """Return the snapshots of a point; what it names outside of its own server's replica is not its own."""
    pairs = {(disk.blob, disk.snapshot) for disk in point.disks}
    return pairs | {(disk.digests_blob, disk.digests_snapshot) for disk in point.disks}


def _snapshots(store: BlobStore, server: str) -> Snapshots:
    entries = store.inventory(names.REPLICAS, f"{server}/")
    return {(entry.name, entry.snapshot) for entry in entries if entry.snapshot is not None}
