"""From a cut to a recovery point, by the one writer of a server: a draft, the snapshots in it, and last the manifest.

Rules, which the crash tests of the replica defend:
- A point exists when its manifest does; it is written once, create-only, after all snapshots.
- A snapshot counts only if the store still has it when all are taken: a store that went back may have forgotten it.
- The snapshots' ids make a manifest's content unique. So a number that is taken is either our own earlier write, whose
  answer was lost, or another point; which of them, the content tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dr.compile import names
from dr.errors import Conflict, NotFound, Unreachable
from dr.vault import manifest as manifests
from dr.vault.batch import DiskSpec
from dr.vault.digests import DigestTable
from dr.vault.drafting import Origin, draft_manifest, point_exists
from dr.vault.manifest import DiskPoint, Manifest
from dr.vault.store import BlobStore

# A snapshot that no manifest names is removed after an hour; a writer that slept in between must not name it then.
CUT_LIMIT = timedelta(minutes=30)


class Cutting:
    """Remembers of the last manifest that was tried whether its answer came."""

    def __init__(self, store: BlobStore, origin: Origin, disks: Sequence[DiskSpec]) -> None:
        self._store, self._origin, self._disks = store, origin, tuple(disks)
        self._attempted: tuple[str, bytes] | None = None

    def draft(
        self, cut: Mapping[str, Any], tables: Mapping[str, DigestTable], *, sequence: int, now: datetime
    ) -> Manifest:
        """Return the manifest of `cut` without its snapshots. `Conflict` `digests-unknown`, `Refused` `cut-invalid`."""
        if unknown := sum(table.unknown for table in tables.values()):
            raise Conflict(
                f"{self._origin.server}: {unknown} chunks have no digest, so no point can be claimed",
                code="digests-unknown",
                remedy="send these chunks again (a resync)",
            )
        disks = [self._disk_point(disk, tables[disk.name]) for disk in self._disks]
        return draft_manifest(self._origin, cut, sequence=sequence, now=now, disks=disks)

    def kept(self, draft: Manifest) -> Manifest | None:
        """Return the point when an earlier call of ours wrote it and lost the answer. `Conflict` `point-exists`."""
        try:
            content, _ = self._store.get(names.MANIFESTS, draft.blob)
        except NotFound:
            return None
        if self._attempted == (draft.blob, content):
            return manifests.from_bytes(content, draft.blob)
        raise point_exists(draft.blob)

    def with_snapshots(self, draft: Manifest, taken: Mapping[str, str]) -> Manifest:
        """Return the draft with the snapshots in it, blob to snapshot. `NotFound` when the store forgot one."""
        there = {(e.name, e.snapshot) for e in self._store.inventory(names.REPLICAS, f"{draft.server}/")}
        if missing := set(taken.items()) - there:
            raise NotFound(f"the snapshots {sorted(missing)} are gone")
        disks = tuple(
            replace(disk, snapshot=taken[disk.blob], digests_snapshot=taken[disk.digests_blob]) for disk in draft.disks
        )
        return replace(draft, disks=disks)

    def refuse_late(self, draft: Manifest, taken: timedelta) -> None:
        """Raise `Unreachable` `store-unavailable` when the snapshots took so long that they may be gone."""
        if taken > CUT_LIMIT:
            raise Unreachable(
                f"{draft.server}: the snapshots of point {draft.number} took more than {CUT_LIMIT}",
                code="store-unavailable",
                remedy="nothing is lost; the point is cut again",
            )

    def put(self, point: Manifest) -> None:
        """Write the manifest. `Conflict` `point-exists`; after any other failure `kept` tells what came of it."""
        blob, content = self._attempted = point.blob, manifests.to_bytes(point)
        try:
            self._store.put(names.MANIFESTS, blob, content, if_absent=True)
        except Conflict as err:
            # A retried request may meet its own first attempt.
            if self._store.get(names.MANIFESTS, blob)[0] != content:
                raise point_exists(blob) from err

    def done(self) -> None:
        """Note that the cut has its place in the stream: no call of it comes again."""
        self._attempted = None

    def _disk_point(self, disk: DiskSpec, table: DigestTable) -> DiskPoint:
        return DiskPoint(
            name=disk.name,
            size_bytes=disk.size_bytes,
            blob=names.replica_blob(self._origin.server, disk.name),
            snapshot="-",
            digests_blob=names.digests_blob(self._origin.server, disk.name),
            digests_snapshot="-",
            merkle_root=table.merkle_root(),
        )
