"""The point that a replication group shares in one run: chosen once for all its members, kept create-only.

`runs/PLAN/RUN/group-GROUP-HASH.json`, HASH of the selector, so that a change of point never meets the choice before it:

    {"schema": 1, "selector": "latest-group", "selected_time": "…Z", "group": "shop", "shared": ID,
     "points": {SERVER: point id}}

Rules:
- `latest-group` and a time choose what the whole group shares; `latest`, `latest-processed` and an id are each server's
  own choice, and say so.
- All members' choice is made by whoever comes first; the others take it, also when a newer point has come since.
- It goes with the last selection that was made by it. Whoever has selected looks whether the choice is still the one
  that it took: of two choices, made while the last one went, only one can have selections.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from dr.compile import names
from dr.compile.blueprint import ReplicationGroup
from dr.compile.recovery import LATEST_GROUP
from dr.errors import Conflict, Corrupt, NotFound
from dr.vault.manifest import Manifest, format_time
from dr.vault.points import Points, as_time, read_points
from dr.vault.shared import choose, read_shared
from dr.vault.store import BlobStore

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Share:
    """One group in one run."""

    plan: str
    run: str
    group: ReplicationGroup

    def blob(self, selector: str) -> str:
        """Return where the choice is kept."""
        digest = hashlib.sha256(selector.encode()).hexdigest()[:12]
        return f"{self.plan}/{self.run}/group-{self.group.name}-{digest}.json"


def chosen_together(selector: str) -> bool:
    """Tell whether a selector means one point of the whole group."""
    return selector == LATEST_GROUP or (as_time(selector) is not None)


def part(store: BlobStore, share: Share, server: str, selector: str) -> tuple[Manifest, Points]:
    """Return the server's part of the group's point, as it is kept or would be chosen now; and all its points.

    Raises `NotFound` `no-shared-point`, or when the kept point is gone.
    """
    kept = _kept(store, share, selector)
    if kept is None:
        found, shared = read_shared(store, share.group.name, share.group.members)
        moment = None if selector == LATEST_GROUP else as_time(selector)
        return choose(shared, share.group.name, share.group.members, moment).parts[server], found[server]
    points = read_points(store, server)
    for point in points.good:
        if point.id == kept.get(server):
            return point, points
    gone = f"{kept[server]} for {server}, and it is gone" if server in kept else f"without {server}"
    raise NotFound(
        f"run {share.run} chose {gone}",
        remedy="begin another run, or choose another point with --point",
    )


def keep(store: BlobStore, share: Share, selector: str, now: datetime) -> bytes:
    """Choose for the whole group, unless that was done; return what is kept. Raises `NotFound` `no-shared-point`."""
    if _kept(store, share, selector) is not None:
        return store.get(names.RUNS, share.blob(selector))[0]
    _, shared = read_shared(store, share.group.name, share.group.members)
    moment = None if selector == LATEST_GROUP else as_time(selector)
    chosen = choose(shared, share.group.name, share.group.members, moment)
    document = {
        "schema": SCHEMA,
        "selector": selector,
        "selected_time": format_time(now),
        "group": share.group.name,
        "shared": chosen.id,
        "points": {server: chosen.parts[server].id for server in share.group.members},
    }
    content = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    with suppress(Conflict):  # another member was faster; its choice counts
        store.put(names.RUNS, share.blob(selector), content, if_absent=True)
    return store.get(names.RUNS, share.blob(selector))[0]


def confirm(store: BlobStore, share: Share, selector: str, content: bytes) -> None:
    """See that the choice which a selection was made by is kept. Raises `Conflict` `selector-changed`."""
    with suppress(Conflict):
        store.put(names.RUNS, share.blob(selector), content, if_absent=True)
    if store.get(names.RUNS, share.blob(selector))[0] != content:
        raise Conflict(
            f"another point was chosen for group {share.group.name} in run {share.run} meanwhile",
            code="selector-changed",
            remedy="run the same command again",
        )


def drop(store: BlobStore, share: Share, selector: str) -> None:
    """Drop the choice, which no selection was made by any more."""
    store.delete(names.RUNS, share.blob(selector))


def _kept(store: BlobStore, share: Share, selector: str) -> dict[str, str] | None:
    name = share.blob(selector)
    try:
        data, _ = store.get(names.RUNS, name)
    except NotFound:
        return None
    try:
        document = json.loads(data)
        return {str(server): str(point) for server, point in document["points"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{names.RUNS}/{name} is not readable: {error}", code="selection-invalid") from error
