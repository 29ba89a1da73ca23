"""The newest recovery point of a server, and what became of a cut, as the vault alone tells it. Synchronous."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import datetime

from dr.compile import names
from dr.config_server.groups import NewestShared
from dr.config_server.health import Left, NamedState, Newest
from dr.errors import Corrupt, LifeboatError, NotFound
from dr.vault import declared
from dr.vault import manifest as manifests
from dr.vault.manifest import Manifest
from dr.vault.shared import former_members, shared_points
from dr.vault.store import BlobStore


def newest(source: Callable[[], BlobStore], server: str, passed: set[str] | None = None) -> Newest:
    """Return the newest readable point; what keeps it from being read is in `fault`.

    With `passed`, also the newest application-consistent one; it is kept between calls, and holds the manifests that
    are known to be of other points (a manifest is never changed).
    """
    fault: NamedState | None = None
    first: Manifest | None = None
    try:
        store = source()
        blobs = sorted(store.list(names.MANIFESTS, f"{server}/"), reverse=True)
        if passed is not None:
            passed.intersection_update(blobs)
        for blob in blobs:
            if first is not None and passed is not None and blob in passed:
                continue
            try:
                found = _read(store, blob)
            except Corrupt as error:
                fault = fault or NamedState(error.code, error.message, error.remedy)
                continue
            except NotFound:
                continue  # retention removed it between the list and here
            first = first or found
            if passed is None or found.app_consistent:
                return Newest(first, None, found if found.app_consistent else None)
            passed.add(blob)
    except LifeboatError as error:
        return Newest(None, NamedState(error.code, f"the vault cannot be asked: {error.message}", error.remedy))
    return Newest(first, None if first else fault)


def left(source: Callable[[], BlobStore], now: datetime) -> Left:
    """Return the servers that left the declaration and whose points are still kept."""
    try:
        known = declared.read(source()).values()
    except LifeboatError as error:
        return [], NamedState(error.code, f"the vault's list of servers: {error.message}", error.remedy)
    return sorted((k for k in known if k.until is not None and k.until > now), key=lambda k: k.server), None


def point_of(store: BlobStore, server: str, protection_epoch: int, number: int) -> str | None:
    """Return the id of the point with this number, None while there is none."""
    try:
        return _read(store, names.manifest_blob(server, protection_epoch, number)).id
    except NotFound:
        return None


class SharedNewest:
    """Finds the newest point that a group shares; reads each manifest once, for they never change."""

    def __init__(self, source: Callable[[], BlobStore]) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._read: dict[str, Manifest | None] = {}  # by blob; None: it cannot be read

    def newest(self, group: str, members: Collection[str]) -> NewestShared:
        """Return the newest point that all `members` share; `fault` when the vault cannot be asked."""
        try:
            with self._lock:
                store = self._source()
                points = {member: self._points(store, member) for member in members}
                for former in sorted(former_members(points, group)):
                    points[former] = self._points(store, former)
        except LifeboatError as error:
            fault = NamedState(error.code, f"the vault cannot be asked: {error.message}", error.remedy)
            return NewestShared(None, fault)
        fitting = (point for point in shared_points(points, group) if set(members) <= set(point.parts))
        return NewestShared(next(fitting, None))

    def _points(self, store: BlobStore, server: str) -> list[Manifest]:
        there = set(store.list(names.MANIFESTS, f"{server}/"))
        for gone in [blob for blob in self._read if blob.startswith(f"{server}/") and blob not in there]:
            del self._read[gone]
        for blob in there - set(self._read):
            try:
                self._read[blob] = _read(store, blob)
            except Corrupt:  # the status of its server names it
                self._read[blob] = None
            except NotFound:
                continue  # retention removed it meanwhile
        return [point for blob in there if (point := self._read.get(blob)) is not None]


def _read(store: BlobStore, blob: str) -> Manifest:
    return manifests.from_bytes(store.get(names.MANIFESTS, blob)[0], blob)
