"""Replication groups at the configuration server: what each member is told, and the judgement over a group. Pure.

Rules:
- The first member by name coordinates; without all of them there is no shared point, so nobody has to stand in.
- A group that has no shared point for whatever reason is one named state with every cause in it, not one per member;
  it goes when the next shared point is there.
- What is shared, the vault alone tells: what the coordinator says explains it, and never replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dr.config_server.health import SILENT_SECONDS, NamedState
from dr.config_server.heartbeats import Heartbeat
from dr.config_server.settings import ServerSettings
from dr.vault.manifest import format_time
from dr.vault.shared import SharedPoint

LATE_INTERVALS = 2  # a round is tried with every point of the policy
LATE_SECONDS = 60.0  # on top: what a point takes until it is in the vault


@dataclass(frozen=True, slots=True)
class NewestShared:
    """The newest point that the present members share; `fault` when the vault could not be asked."""

    point: SharedPoint | None
    fault: NamedState | None = None


def members_of(servers: Mapping[str, ServerSettings], group: str) -> dict[str, ServerSettings]:
    """Return the members of a group, in order."""
    return {name: each for name, each in sorted(servers.items()) if each.group is not None and each.group.name == group}


def groups_of(servers: Mapping[str, ServerSettings]) -> list[str]:
    """Return the names of all groups of at least two servers: one alone has nobody to share with."""
    names = {each.group.name for each in servers.values() if each.group is not None}
    return sorted(name for name in names if len(members_of(servers, name)) > 1)


def told(servers: Mapping[str, ServerSettings], server: str) -> dict[str, Any] | None:
    """Return what the heartbeat's answer tells `server` of its group, None without one."""
    own = servers[server].group
    if own is None or own.name not in groups_of(servers):
        return None
    members = members_of(servers, own.name)
    addresses = {name: each.group.address for name, each in members.items() if each.group is not None}
    return {"name": own.name, "members": addresses, "coordinator": min(members), "port": own.port}


def group_document(
    name: str,
    servers: Mapping[str, ServerSettings],
    beats: Mapping[str, Heartbeat | None] | None,
    newest: NewestShared,
    now: datetime,
) -> dict[str, Any]:
    """Return what a status says about one group; schema `docs/formats/status.schema.json`.

    `beats` by member; None when the vault alone is asked, which knows no causes.
    """
    members = members_of(servers, name)
    states = list(_states(name, members, beats, newest, now))
    point = newest.point
    return {
        "members": list(members),
        "coordinator": min(members),
        "health": "degraded" if states else "healthy",
        "states": [asdict(state) for state in states],
        "newest_point": None if point is None else {"id": point.id, "cut_time": format_time(point.cut_time)},
        "rpo_seconds": None if point is None else round(_age(point, now), 1),
    }


def _states(
    name: str,
    members: Mapping[str, ServerSettings],
    beats: Mapping[str, Heartbeat | None] | None,
    newest: NewestShared,
    now: datetime,
) -> Iterator[NamedState]:
    if newest.fault is not None:
        yield newest.fault
        return
    heard = beats or {}
    causes = [cause for member in members if beats is not None for cause in _causes(member, heard.get(member), now)]
    last = _last_round(heard.get(min(members)))
    if last is not None and last.get("outcome") == "void" and not causes:
        causes.append(_text(last.get("reason")))
    point = newest.point
    interval = max(each.crash_consistent_seconds for each in members.values())
    late = point is not None and _age(point, now) > LATE_INTERVALS * interval + LATE_SECONDS
    if not causes and not late and point is not None:
        return
    since = f"the newest is of {format_time(point.cut_time)}" if point else "there is none yet"
    why = "; ".join(causes) or "the next one is awaited"
    yield NamedState(
        "group-not-shared",
        f"replication group {name} makes no shared recovery points, {since}: {why}",
        "see `dr status` of the servers that are named; their own points go on, and shared ones begin again by "
        "themselves when every member is replicated and reached on the group's port",
    )


def _causes(member: str, beat: Heartbeat | None, now: datetime) -> Iterator[str]:
    """Yield why this member cannot take part, by what was heard of it."""
    if beat is None:
        yield f"{member} has not been heard yet"
        return
    silent = (now - beat.received_at).total_seconds()
    if silent > SILENT_SECONDS:
        yield f"{member} has not been heard for {silent:.0f} s"
        return
    mode = str(beat.status.get("mode"))
    if mode != "delta":
        yield f"{member} is in mode {mode}"
    group = beat.status.get("group")
    if isinstance(group, Mapping) and group.get("reason"):
        yield f"{member}: {_text(group['reason'])}"


def _last_round(beat: Heartbeat | None) -> Mapping[str, Any] | None:
    group = beat.status.get("group") if beat else None
    last = group.get("last_round") if isinstance(group, Mapping) else None
    return last if isinstance(last, Mapping) else None


def _text(reason: object) -> str:
    message = reason.get("message") if isinstance(reason, Mapping) else None
    return str(message or "no reason was given")[:2000]


def _age(point: SharedPoint, now: datetime) -> float:
    return max(0.0, (now - point.cut_time).total_seconds())
