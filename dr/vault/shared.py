"""The points that the servers of a replication group share: which exist, from the members' manifests alone.

Pure but for `read_shared`.

Rules:
- A shared point exists when the manifests of all its members do, each naming the same group, id and members, and each
  once. What lacks a member's part (its cut was not valid or got lost, retention removed it) is shared by nobody: its
  parts are points of the single servers.
- The order of shared points is that of any member's own points; all agree, for each lies in one ordered stream.
- A member that joined later has no part in older points; whoever wants all present members waits for the next one.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dr.errors import NotFound
from dr.vault.manifest import Manifest, format_time
from dr.vault.points import Points, read_points
from dr.vault.store import BlobStore


@dataclass(frozen=True, slots=True)
class SharedPoint:
    """One instant of several servers; `parts` by server."""

    group: str
    id: str
    parts: Mapping[str, Manifest]

    @property
    def cut_time(self) -> datetime:
        """When it was cut, by the member whose clock says the latest: no part of it is younger."""
        return max(part.cut_time for part in self.parts.values())


def read_shared(store: BlobStore, group: str, members: Iterable[str]) -> tuple[dict[str, Points], list[SharedPoint]]:
    """Read the points of `members`, and of whoever was a member; return them by server, and what they share.

    `Unreachable`. A manifest that can't be read is beside the good ones, and makes no shared point.
    """
    found = {server: read_points(store, server) for server in members}
    for server in sorted(former_members({name: points.good for name, points in found.items()}, group)):
        found[server] = read_points(store, server)
    return found, shared_points({name: points.good for name, points in found.items()}, group)


def shared_points(points: Mapping[str, Sequence[Manifest]], group: str) -> list[SharedPoint]:
    """Return the shared points of `group`, newest first; `points` by server, of all who ever were members."""
    claims: dict[str, dict[str, list[Manifest]]] = {}
    for server, manifests in points.items():
        for manifest in manifests:
            if manifest.group is not None and manifest.group.name == group and manifest.server == server:
                claims.setdefault(manifest.group.id, {}).setdefault(server, []).append(manifest)
    found = [SharedPoint(group, identity, _single(parts)) for identity, parts in claims.items() if _whole(parts)]
    return _newest_first(found)


def former_members(points: Mapping[str, Sequence[Manifest]], group: str) -> set[str]:
    """Return the servers that manifests name as members and whose own points are not in `points`."""
    groups = [manifest.group for manifests in points.values() for manifest in manifests]
    named = {member for each in groups if each is not None and each.name == group for member in each.members}
    return named - set(points)


def choose(shared: Sequence[SharedPoint], group: str, members: Collection[str], moment: datetime | None) -> SharedPoint:
    """Return the newest shared point that all `members` have, cut at or before `moment` (None: the newest).

    `NotFound` `no-shared-point` says why there is none.
    """
    fitting = [point for point in shared if set(members) <= set(point.parts)]
    for point in fitting:
        if moment is None or point.cut_time <= moment:
            return point
    raise NotFound(
        f"{', '.join(sorted(members))} of replication group {group} share no recovery point"
        f"{_but(shared, fitting, members)}",
        code="no-shared-point",
        remedy="`dr status` tells why; the selector latest-processed takes the newest point of each server, which are "
        "of different moments",
    )


def _but(shared: Sequence[SharedPoint], fitting: Sequence[SharedPoint], members: Collection[str]) -> str:
    if fitting:
        oldest, newest = format_time(fitting[-1].cut_time), format_time(fitting[0].cut_time)
        return f" that is so old; the oldest is of {oldest}, the newest of {newest}"
    if shared:
        without = sorted(set(members) - set(shared[0].parts))
        return f": {', '.join(without)} joined after the newest one, of {format_time(shared[0].cut_time)}"
    return ""


def _whole(parts: Mapping[str, Sequence[Manifest]]) -> bool:
    named = {manifest.group for manifests in parts.values() for manifest in manifests}
    if len(named) != 1 or any(len(manifests) != 1 for manifests in parts.values()):
        return False
    (group,) = named
    return group is not None and set(group.members) == set(parts)


def _single(parts: Mapping[str, Sequence[Manifest]]) -> dict[str, Manifest]:
    return {server: manifests[0] for server, manifests in sorted(parts.items())}


def _newest_first(found: Sequence[SharedPoint]) -> list[SharedPoint]:
    """Order by the first member that two points have in common; points without one by their time."""

    def compared(one: SharedPoint, other: SharedPoint) -> int:
        common = sorted(set(one.parts) & set(other.parts))
        if not common:
            return (one.cut_time > other.cut_time) - (one.cut_time < other.cut_time)
        mine, theirs = one.parts[common[0]].order, other.parts[common[0]].order
        return (mine > theirs) - (mine < theirs)

    return sorted(found, key=functools.cmp_to_key(compared), reverse=True)
