"""What retention itself has seen of a server, and since when: the only times that a deletion relies on.

Blob `SERVER.json` in container `observed`, which the retention identity alone may write:

    {"schema": 1, "retention_seconds": 1296000,
     "shorter": {"retention_seconds": 0, "since": "2026-05-17T09:30:00.000Z"}, "left": null,
     "pins": {"shop1-1-7": null, "shop1-1-9": "2026-05-17T09:30:00.000Z"},
     "loose": [{"blob": "shop1/os.vhd", "snapshot": "...", "since": "2026-05-17T09:30:00.000Z"}]}

Rules, each against a hand that may write `retention/site.json` and may not delete history, and against a wrong clock:
- All times are the store's, of the pass that saw something first. What site.json says of time decides nothing.
- A longer retention holds at once. A shorter one, a server that left and a pin that was taken away count only after
  the retention that held until then plus `GRACE`; who takes it back before has lost nothing.
- A retention that is shortened further begins to wait anew.
- A snapshot that no manifest names is `loose` since the first pass that saw it so.
- A record that can't be read stops the deletions of its server; it is never begun anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dr.compile import names
from dr.errors import Corrupt, NotFound
from dr.vault.declared import GRACE, Kept
from dr.vault.manifest import format_time, parse_time
from dr.vault.store import BlobStore

SCHEMA = 1
Snapshots = set[tuple[str, str]]  # (blob in container replicas, snapshot)


@dataclass(frozen=True, slots=True)
class Shorter:
    """A retention that is declared and does not hold yet."""

    retention: timedelta
    since: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """`retention` is the one that holds; a pin with a time was taken away then and still holds its point."""

    retention: timedelta
    shorter: Shorter | None = None
    left: datetime | None = None
    pins: Mapping[str, datetime | None] = field(default_factory=dict)
    loose: Mapping[tuple[str, str], datetime] = field(default_factory=dict)

    @property
    def until(self) -> datetime | None:
        """When the points of a server that left are removed; None while it is declared."""
        return None if self.left is None else self.left + self.retention + GRACE


def observe(
    store: BlobStore, server: str, kept: Kept, pins: Collection[str], loose: Snapshots, now: datetime
) -> Record:
    """Bring the record of `server` up to what is seen `now` and return it. `Corrupt`; `Conflict` (two passes at once).

    `pins` are the ids of its pinned points, `loose` its snapshots that no manifest names.
    """
    name = names.observed_blob(server)
    try:
        before, etag = store.get(names.OBSERVED, name)
    except NotFound:
        before, etag = b"", ""
    record = see(_parse(before, name) if etag else Record(kept.retention), kept, pins, loose, now)
    after = _to_bytes(record)
    if after != before:
        store.put(names.OBSERVED, name, after, if_absent=not etag, if_match=etag or None)
    return record


def forget_others(store: BlobStore, known: Collection[str]) -> None:
    """Remove the records of servers of which the vault holds nothing any more."""
    kept = {names.observed_blob(server) for server in known}
    for name in list(store.list(names.OBSERVED)):
        if name not in kept:
            store.delete(names.OBSERVED, name)


def see(record: Record, kept: Kept, pins: Collection[str], loose: Snapshots, now: datetime) -> Record:
    """Return the record after one look. Pure."""
    retention, shorter = _retention(record, kept.retention, now)
    gone = {pin: since or now for pin, since in record.pins.items() if pin not in pins}
    still = {pin: since for pin, since in gone.items() if now < since + retention + GRACE}
    return Record(
        retention=retention,
        shorter=shorter,
        left=None if kept.left is None else record.left or now,
        pins={**dict.fromkeys(pins), **still},
        loose={pair: record.loose.get(pair, now) for pair in loose},
    )


def _retention(record: Record, declared: timedelta, now: datetime) -> tuple[timedelta, Shorter | None]:
    if declared >= record.retention:
        return declared, None
    waiting = record.shorter
    since = now if waiting is None or declared < waiting.retention else waiting.since
    if now >= since + record.retention + GRACE:
        return declared, None
    return record.retention, Shorter(declared, since)


def _to_bytes(record: Record) -> bytes:
    shorter = record.shorter
    document = {
        "schema": SCHEMA,
        "retention_seconds": _seconds(record.retention),
        "shorter": shorter and {"retention_seconds": _seconds(shorter.retention), "since": format_time(shorter.since)},
        "left": record.left and format_time(record.left),
        "pins": {pin: since and format_time(since) for pin, since in record.pins.items()},
        "loose": [
            {"blob": blob, "snapshot": snapshot, "since": format_time(since)}
            for (blob, snapshot), since in sorted(record.loose.items())
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _parse(data: bytes, name: str) -> Record:
    try:
        document: dict[str, Any] = json.loads(data)
        shorter, left = document["shorter"], document["left"]
        return Record(
            _duration(document),
            None if shorter is None else Shorter(_duration(shorter), parse_time(shorter["since"])),
            None if left is None else parse_time(left),
            {pin: None if since is None else parse_time(since) for pin, since in document["pins"].items()},
            {(str(each["blob"]), str(each["snapshot"])): parse_time(each["since"]) for each in document["loose"]},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(
            f"{names.OBSERVED}/{name}, retention's own record, is not readable: {error!r}; nothing of this server is "
            "removed",
            code="retention-record-unreadable",
            remedy="restore the blob; if it is lost, who may purge deletes it, and every wait begins anew",
        ) from error


def _duration(document: Mapping[str, Any]) -> timedelta:
    seconds = int(document["retention_seconds"])
    if seconds < 0:
        raise ValueError("a negative retention")
    return timedelta(seconds=seconds)


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
