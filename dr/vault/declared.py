"""What the declaration tells the vault: for how long the points of each server are kept, and which servers left.

Blob `site.json` in container `retention`, changed only by ETag:

    {"schema": 1, "site": "harbour",
     "servers": {"shop1": {"retention_seconds": 86400, "left": null},
                 "old1":  {"retention_seconds": 86400, "left": "2026-05-17T09:30:00.000Z"}}}

Rules:
- Written by an operator's `up` of the site stack; the site's own servers can read it and not change it. A hostile
  process server can't shorten a retention.
- A server that is taken out of the declaration stays in the list with the time when it left, by the store's clock: its
  points are kept until `left` + retention + `GRACE`. One that comes back has not left.
- Its times are for people. Retention deletes by what it saw itself (`dr.retention.record`), never earlier.
- A server that the list does not name is nobody's to delete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dr.compile import names
from dr.errors import Conflict, Corrupt, NotFound
from dr.vault.manifest import format_time, parse_time
from dr.vault.store import BlobStore

SCHEMA = 1
BLOB = "site.json"
GRACE = timedelta(days=14)
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """One server as the vault was told; `left` None: it is declared."""

    server: str
    retention: timedelta
    left: datetime | None

    @property
    def until(self) -> datetime | None:
        """When the points of a server that left are removed; None while it is declared."""
        return None if self.left is None else self.left + self.retention + GRACE

    def as_dict(self) -> dict[str, Any]:
        """Return it as `dr points` and `dr status` show it."""
        left, until = self.left, self.until
        return {
            "retention_seconds": int(self.retention.total_seconds()),
            "left": None if left is None else format_time(left),
            "until": None if until is None else format_time(until),
        }


def read(store: BlobStore) -> dict[str, Kept]:
    """Return every server that was ever declared; empty before the first `up`. `Corrupt`, `Unreachable`."""
    return _read(store)[0]


def was_told(store: BlobStore) -> bool:
    """Tell whether there is a list at all: without one, nobody knows what is declared. `Unreachable`."""
    try:
        store.get(names.RETENTION, BLOB)
    except NotFound:
        return False
    return True


def tell(store: BlobStore, site: str, retention_seconds: Mapping[str, int]) -> dict[str, Kept]:
    """Make the list say what is declared now, and return it; servers that it named and are not given have left."""
    now = store.time(names.RETENTION)
    for _ in range(_ATTEMPTS):
        before, etag = _read(store)
        after = {name: Kept(name, timedelta(seconds=seconds), None) for name, seconds in retention_seconds.items()}
        for name, kept in before.items():
            after.setdefault(name, Kept(name, kept.retention, kept.left or now))
        if after == before or _write(store, site, after, etag):
            return after
    raise _busy()


def forget(store: BlobStore, server: str) -> None:
    """Take a server out of the list, for one that was purged; no error when it is not in it."""
    for _ in range(_ATTEMPTS):
        before, etag = _read(store)
        if server not in before or _write(store, _site(store), {k: v for k, v in before.items() if k != server}, etag):
            return
    raise _busy()


def _read(store: BlobStore) -> tuple[dict[str, Kept], str]:
    try:
        data, etag = store.get(names.RETENTION, BLOB)
    except NotFound:
        return {}, ""
    try:
        servers: dict[str, Any] = json.loads(data)["servers"]
        return {name: _kept(name, values) for name, values in servers.items()}, etag
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(
            f"{names.RETENTION}/{BLOB} is not readable: {error!r}",
            code="retention-unreadable",
            remedy="nothing is aged out; restore it, or delete it and run `pulumi up --refresh` of the site stack",
        ) from error


def _kept(name: str, values: Mapping[str, Any]) -> Kept:
    left = values["left"]
    seconds = int(values["retention_seconds"])
    if seconds < 0:
        raise ValueError(f"{name} has a negative retention")
    return Kept(name, timedelta(seconds=seconds), None if left is None else parse_time(left))


def _write(store: BlobStore, site: str, servers: Mapping[str, Kept], etag: str) -> bool:
    document = {
        "schema": SCHEMA,
        "site": site,
        "servers": {
            name: {
                "retention_seconds": int(kept.retention.total_seconds()),
                "left": None if kept.left is None else format_time(kept.left),
            }
            for name, kept in servers.items()
        },
    }
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    try:
        store.put(names.RETENTION, BLOB, data, if_absent=not etag, if_match=etag or None)
    except Conflict:
        return False
    return True


def _site(store: BlobStore) -> str:
    return str(json.loads(store.get(names.RETENTION, BLOB)[0])["site"])


def _busy() -> Conflict:
    return Conflict(f"{names.RETENTION}/{BLOB} is being changed by others", remedy="run the same command again")
