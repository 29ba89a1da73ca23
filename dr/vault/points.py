"""Recovery points as the vault tells them: from the manifests alone, with nothing but a store.

Rules:
- The order is (protection epoch, number); times are labels of the server's clock.
- A manifest that can't be read is reported by name, never skipped in silence: `read_points` returns it beside the
  good ones, so that one damaged manifest does not stop a failover, and `list_points` raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from dr.compile import names
from dr.compile.recovery import LATEST, LATEST_GROUP
from dr.errors import Corrupt, NotFound, Refused
from dr.vault.manifest import Manifest, format_time, from_bytes
from dr.vault.store import BlobStore

LATEST_PROCESSED = "latest-processed"
LATEST_APP_CONSISTENT = "latest-app-consistent"
WORDS = (LATEST, LATEST_PROCESSED, LATEST_APP_CONSISTENT, LATEST_GROUP)
_THREADS = 8
_SHOWN = 5
_ID = re.compile(r"[a-z][a-z0-9-]*-[0-9]+-[0-9]+")  # as `dr.compile.names.point_id` makes them


@dataclass(frozen=True, slots=True)
class BrokenPoint:
    """A manifest that exists and can't be used."""

    blob: str
    cause: str


@dataclass(frozen=True, slots=True)
class Points:
    """All points of a server, newest first, and the manifests that could not be read."""

    good: tuple[Manifest, ...]
    broken: tuple[BrokenPoint, ...]


def servers(store: BlobStore) -> list[str]:
    """Return the servers that the vault knows, by replica or by recovery point."""
    found = {name.split("/")[0] for name in store.list(names.REPLICAS) if name.endswith("/writer.json")}
    return sorted(found | {name.split("/")[0] for name in store.list(names.MANIFESTS) if "/" in name})


def read_points(store: BlobStore, server: str) -> Points:
    """Read every manifest of `server`. `Unreachable`."""
    blobs = list(store.list(names.MANIFESTS, f"{server}/"))

    def read(blob: str) -> Manifest | BrokenPoint | None:
        try:
            content, _ = store.get(names.MANIFESTS, blob)
            return from_bytes(content, blob)
        except NotFound:
            return None  # retention removed it between the list and here
        except Corrupt as err:
            return BrokenPoint(blob, err.message)

    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(read, blobs))
    good = sorted((p for p in found if isinstance(p, Manifest)), key=lambda p: p.order, reverse=True)
    return Points(tuple(good), tuple(p for p in found if isinstance(p, BrokenPoint)))


def list_points(store: BlobStore, server: str) -> list[Manifest]:
    """Return the points of `server`, newest first. `Corrupt` `manifest-invalid` names every broken one."""
    points = read_points(store, server)
    if points.broken:
        raise Corrupt(
            "; ".join(point.cause for point in points.broken),
            code="manifest-invalid",
            remedy=f"see `dr points {server}`; the other points can be used by id",
        )
    return list(points.good)


def refuse_selector(selector: str, now: datetime) -> None:
    """Raise `Refused` `selector-invalid` for what selects no point of any vault: no word, no id, no time that came."""
    if selector in WORDS or _ID.fullmatch(selector):
        return
    moment = as_time(selector)
    if moment is None:
        raise _selects_nothing(selector, now)
    _refuse_future(moment, now)


def resolve(points: Sequence[Manifest], selector: str, now: datetime) -> Manifest:
    """Return the point that `selector` means: one of `WORDS`, an id, or a time (RFC 3339).

    `latest-group` is what a group shares (`dr.failover.sharing`), and for a server in none its latest processed one.
    `latest-app-consistent` is never a crash-consistent one. A time means the newest point that was cut at or before it.
    Without a process server's help `latest` and `latest-processed` are the same: what the vault holds. Errors:
    `NotFound` with what exists, `Refused` `selector-invalid`.
    """
    ordered = sorted(points, key=lambda point: point.order, reverse=True)
    if not ordered:
        raise NotFound(
            "there is no recovery point", remedy="a first one appears after the initial replication: see `dr status`"
        )
    if selector in {LATEST, LATEST_PROCESSED, LATEST_GROUP}:
        return ordered[0]
    if selector == LATEST_APP_CONSISTENT:
        return _latest_app_consistent(ordered)
    for point in ordered:
        if point.id == selector:
            return point
    moment = as_time(selector)
    if moment is not None:
        return _at(ordered, moment, now)
    if selector.startswith(f"{ordered[0].server}-"):
        raise NotFound(f'there is no recovery point "{selector}"', remedy=_existing(ordered))
    raise _selects_nothing(selector, now, _existing(ordered))


def _latest_app_consistent(ordered: Sequence[Manifest]) -> Manifest:
    found = next((point for point in ordered if point.app_consistent), None)
    if found is None:
        raise NotFound(
            f"{ordered[0].server} has no application-consistent recovery point",
            remedy=f"use another selector; {_existing(ordered)}; `dr status {ordered[0].server}` tells why it is so",
        )
    return found


def _selects_nothing(selector: str, now: datetime, existing: str = "`dr points SERVER` lists them") -> Refused:
    return Refused(
        f'"{selector}" selects no recovery point',
        code="selector-invalid",
        remedy=f"use {', '.join(WORDS)}, a time like {format_time(now)}, or an id; {existing}",
    )


def _refuse_future(moment: datetime, now: datetime) -> None:
    if moment > now:
        raise Refused(
            f"{format_time(moment)} has not come yet: it is {format_time(now)}",
            code="selector-invalid",
            remedy="use latest for the newest point",
        )


def _at(ordered: Sequence[Manifest], moment: datetime, now: datetime) -> Manifest:
    _refuse_future(moment, now)
    for point in ordered:
        if point.cut_time <= moment:
            return point
    raise NotFound(f"no recovery point is as old as {format_time(moment)}", remedy=_existing(ordered))


def as_time(selector: str) -> datetime | None:
    """Return the time that a selector is, None when it is none. `Refused` `selector-invalid` without a zone."""
    try:
        moment = datetime.fromisoformat(selector)
    except ValueError:
        return None
    if moment.tzinfo is None:
        raise Refused(
            f'"{selector}" has no time zone',
            code="selector-invalid",
            remedy=f'add one, for example "{selector}Z" for UTC',
        )
    return moment


def _existing(ordered: Sequence[Manifest]) -> str:
    newest = ", ".join(f"{point.id} ({format_time(point.cut_time)})" for point in ordered[:_SHOWN])
    if len(ordered) <= _SHOWN:
        return f"there are {newest}"
    oldest = ordered[-1]
    return f"there are {len(ordered)}, from {oldest.id} ({format_time(oldest.cut_time)}) to {newest}"
