"""One pass over the vault as the identity that may delete: what a policy does not keep, and what left long ago.

Rules, each against half a point or a lost one:
- The manifest goes first. From then on the point is listed nowhere; its snapshots go in a later pass, so that a run
  which chose the point in the same minute still finds them and then holds them.
- A snapshot is deleted only when no manifest has named it for `LOOSE`, by the record of the passes, when no run names
  it, and when a newer whole point of its server exists. (The writer makes snapshots first and the manifest last, and
  gives a cut up that took longer than `dr.vault.cutting` allows.)
- What is left of a server that left goes only in a pass that found no manifest and leaves no snapshot.
- List, runs and pins are read again for each server, after its points and right before its deletions.
- All times are the store's and stand in retention's own record (`dr.retention.record`); site.json's decide nothing.
- A pass can be killed anywhere and repeated: it decides from what is there and from the record.
- What can't be read is never counted on. An unreadable manifest keeps every snapshot that is not younger than itself
  (manifests are written last, and never again), an unreadable record all of the server, an unreadable run or list ends
  the pass before anything is deleted.
- A point counts only when its snapshots exist: a forged manifest of nothing ages no real point out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dr.compile import names
from dr.errors import Conflict, Corrupt, Refused
from dr.retention import record
from dr.retention.record import Record, Snapshots
from dr.retention.table import Dated, surplus
from dr.vault import declared
from dr.vault.manifest import Manifest
from dr.vault.points import Points, read_points, servers
from dr.vault.store import BlobStore

LOOSE = timedelta(hours=1)
SAME_MOMENT = timedelta(minutes=1)  # between two clocks of one store


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


def prune(store: BlobStore) -> list[Pruned]:
    """Make one pass. `Corrupt` (nothing was deleted), `Unreachable`, `Conflict` (repeat it), `Refused` (no right)."""
    declared.read(store)
    read_in_use(store)
    known = servers(store)
    record.forget_others(store, known)
    return [_prune_server(store, server) for server in known]


_UNLISTED = "the declaration never named this server: nothing of it is ever removed by itself (`dr purge` does)"


def read_in_use(store: BlobStore) -> InUse:
    """Return the points that a run chose or a person pinned, and the snapshots that runs read. `Corrupt`."""
    points, snapshots = set(pinned(store)), set()
    for name in store.list(names.RUNS):
        if not is_selection(name):
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


def is_selection(blob: str) -> bool:
    """Tell whether a blob of container `runs` is the point that a run chose; it goes when the run is destroyed."""
    return blob.rpartition("/")[2].startswith("point-")


def pinned(store: BlobStore) -> Iterator[str]:
    """Yield the ids of the points that are pinned."""
    for name in store.list(names.RETENTION, names.PINS):
        yield name.rpartition("/")[2]


def _pinned_of(store: BlobStore, server: str) -> Iterator[str]:
    for name in store.list(names.RETENTION, names.pin_blob(server, "")):
        yield name.rpartition("/")[2]


def _prune_server(store: BlobStore, server: str) -> Pruned:
    pruned = Pruned(server)
    points = read_points(store, server)
    pruned.kept = len(points.good)
    pruned.problems += [broken.cause for broken in points.broken]
    created = {entry.name: entry.created for entry in store.inventory(names.MANIFESTS, f"{server}/")}
    held = _snapshots(store, server)
    loose = held - {pair for point in points.good for pair in named_by(point)} - _named_perhaps(points, held, created)
    whole = [point for point in points.good if point.blob in created and named_by(point) <= held]
    torn = [point for point in points.good if point.blob in created and point not in whole]
    pruned.problems += [f"{point.id} lacks a snapshot and is no recovery point" for point in torn]

    # From here to the deletions nothing long may be read: a run may choose, a person may pin, a server may come back.
    now, kept, in_use = store.time(names.MANIFESTS), declared.read(store).get(server), read_in_use(store)
    if kept is None:
        pruned.problems = [_UNLISTED]
        return pruned
    try:
        seen = record.observe(store, server, kept, list(_pinned_of(store, server)), loose, now)
    except Corrupt as unreadable:
        pruned.problems.append(unreadable.message)
        return pruned
    pruned.until = seen.until
    over = seen.until is not None and now >= seen.until
    left = held - _collect(store, pruned, whole, in_use, seen, now, over=over)

    hands_off = in_use.points | set(seen.pins)
    dated = [Dated(point.id, point.order, _moment(point), created[point.blob], point.app_consistent) for point in whole]
    everything = {point.id for point in (*whole, *torn)}
    going = everything - hands_off if over else set(surplus(dated, seen.retention, hands_off))
    for point in sorted(points.good, key=lambda p: p.order):
        if point.id in going:
            _remove(store, point, pruned)
    if over and not (points.good or points.broken or left):
        _remove_replica(store, pruned, in_use)
    return pruned


def _moment(point: Manifest) -> datetime:
    """Return the label that decides a point's slot: what a group shares falls into one slot on all its servers."""
    return point.cut_time if point.group is None else point.group.time


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
    whole: list[Manifest],
    in_use: InUse,
    seen: Record,
    now: datetime,
    *,
    over: bool,
) -> Snapshots:
    """Delete the snapshots that nothing names, of earlier passes and of cuts that never became points; return them."""
    newest = max((snapshot for point in whole for _, snapshot in named_by(point)), default="")
    due = {pair for pair, since in seen.loose.items() if now >= since + LOOSE} - in_use.snapshots
    going = {(blob, snapshot) for blob, snapshot in due if snapshot < newest or over}
    for blob, snapshot in sorted(going):
        store.delete_snapshot(names.REPLICAS, blob, snapshot)
    pruned.snapshots_removed = len(going)
    return going


def _remove_replica(store: BlobStore, pruned: Pruned, in_use: InUse) -> None:
    """Remove what is left of a server whose time is over, unless a run still reads it."""
    blobs = list(store.list(names.REPLICAS, f"{pruned.server}/"))
    if any(blob in blobs for blob, _ in in_use.snapshots):
        return
    try:
        delete_replica(store, blobs)
    except Refused as refused:
        # In Azure, to break a lease is to write, which this identity may not; the points are gone all the same.
        pruned.problems.append(
            f"the replica of a server that left stays, for this login may not remove it (`dr purge {pruned.server}` "
            f"does): {refused.message}"
        )
        return
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


def _named_perhaps(points: Points, held: Snapshots, created: Mapping[str, datetime]) -> Snapshots:
    """Return the snapshots that a manifest which can't be read may name: those that were there when it was written."""
    if not points.broken:
        return set()
    times = [created.get(broken.blob) for broken in points.broken]
    if None in times:
        return held  # it came after the list was read
    newest = max(time for time in times if time is not None) + SAME_MOMENT
    return {pair for pair in held if datetime.fromisoformat(pair[1]) <= newest}


def _snapshots(store: BlobStore, server: str) -> Snapshots:
    entries = store.inventory(names.REPLICAS, f"{server}/")
    return {(entry.name, entry.snapshot) for entry in entries if entry.snapshot is not None}
