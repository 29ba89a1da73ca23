"""The explicit end of one server's history: `dr purge SERVER`.

Rules:
- Only for a server that neither the declaration nor the vault's list names as protected, and that no run holds. A vault
  without its list is refused: it may have been taken away to make a protected server look as if it had left.
- Manifests go first, the list of servers last: stopped anywhere, what is left is no point, and a repeated call ends it.
- While the store itself keeps a manifest (immutability), its replica stays: half a point is never listed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dr.compile import names
from dr.errors import Conflict, Degraded, NotFound, Refused
from dr.retention.pruning import delete_replica, read_in_use
from dr.vault import declared
from dr.vault.manifest import format_time
from dr.vault.points import read_points
from dr.vault.store import BlobStore


@dataclass(frozen=True, slots=True)
class Loss:
    """What a purge removes; sizes are those of the disks, not of what is stored."""

    server: str
    points: int
    oldest: str | None
    newest: str | None
    pinned: int
    unreadable_points: int
    replicas: tuple[str, ...]
    disk_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "replicas": list(self.replicas)}


def survey(store: BlobStore, server: str) -> Loss:
    """Return what a purge of `server` would remove. `NotFound` when the vault has nothing of it."""
    points = read_points(store, server)
    replicas = tuple(name for name in store.list(names.REPLICAS, f"{server}/") if name.endswith(".vhd"))
    others = list(store.list(names.REPLICAS, f"{server}/"))
    listed = server in declared.read(store)
    if not (points.good or points.broken or others or listed):
        raise NotFound(f'the vault has nothing of a server "{server}"', remedy="`dr status` names the servers it knows")
    cuts: list[datetime] = [point.cut_time for point in reversed(points.good)]
    return Loss(
        server=server,
        points=len(points.good),
        oldest=format_time(cuts[0]) if cuts else None,
        newest=format_time(cuts[-1]) if cuts else None,
        pinned=len(list(store.list(names.RETENTION, names.pin_blob(server, "")))),
        unreadable_points=len(points.broken),
        replicas=replicas,
        disk_bytes=sum(store.info(names.REPLICAS, name).size_bytes for name in replicas),
    )


def refuse(store: BlobStore, server: str) -> None:
    """Raise `Refused` while a server is declared or a run holds one of its points, and without a list of servers."""
    if not declared.was_told(store) and list(store.list(names.REPLICAS)):
        raise Refused(
            f"the vault has no {names.RETENTION}/{declared.BLOB}, so nobody knows which servers are protected",
            code="list-missing",
            remedy="`pulumi up --refresh` of the site stack writes it",
        )
    kept = declared.read(store).get(server)
    if kept is not None and kept.left is None:
        raise Refused(
            f"{server} is still protected: what is removed now would come back, and its agent would start anew",
            code="still-protected",
            remedy=f"take {server} out of the declaration and run `pulumi up` of the site stack first",
        )
    used = sorted(blob for blob, _ in read_in_use(store).snapshots if blob.startswith(f"{server}/"))
    if used:
        raise Refused(
            f"a run holds a recovery point of {server} ({used[0]})",
            code="point-in-use",
            remedy="end the run first: `pulumi destroy` of its stack",
        )


def purge(store: BlobStore, server: str) -> Loss:
    """Remove every point and the replica of `server`; return what went. `Refused`, `Degraded` `immutable`."""
    refuse(store, server)
    loss = survey(store, server)
    kept = [name for name in list(store.list(names.MANIFESTS, f"{server}/")) if not _removed(store, name)]
    if kept:
        raise Degraded(
            f"{server}: the storage account itself keeps {len(kept)} of its manifests (immutability), and so the "
            "replica stays with them",
            code="immutable",
            remedy="run the same command again when the immutability policy's time is over",
        )
    for name in list(store.list(names.RETENTION, names.pin_blob(server, ""))):
        store.delete(names.RETENTION, name)
    delete_replica(store, list(store.list(names.REPLICAS, f"{server}/")))
    declared.forget(store, server)
    return loss


def _removed(store: BlobStore, manifest: str) -> bool:
    try:
        store.delete(names.MANIFESTS, manifest)
    except Conflict as conflict:
        if conflict.code != "immutable":
            raise
        return False
    return True
