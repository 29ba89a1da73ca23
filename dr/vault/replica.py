"""The replica of one server and its only writer: pages, digests, position, recovery points.

Rules, each of which a crash test defends:
- Digests never claim more than is stored: entries become unknown, durably, before their pages are written, and get
  their value only after. Then the position in each VHD's metadata; only then does `apply` return (`stored`).
- Every change carries the lease. A writer whose lease was broken changes nothing and ends with `writer-changed`.
- Nothing is taken for granted after a failure. Before the next batch the leases change their ids (a request of the
  failed batch that is still on its way can then do no harm), the positions are compared, the digests read again.
- A store that went back is noticed by the ETag that the last change of each VHD returned, before every batch and in
  every snapshot that becomes a point; after that this writer refuses to go on (`store-went-back`).
- `cut` needs a table without unknown entries; snapshots of all disks come first, the manifest last and create-only.
  A crash before the manifest leaves snapshots that no manifest names; they are no recovery point.

| state | means | next |
| --- | --- | --- |
| ready | memory and store agree | unsure, lost, went back |
| unsure | a call failed: what of it arrived is not known | ready (recovered), lost, went back |
| lost | another writer holds the lease | final: open again |
| went back | the store forgot what it had acknowledged | final: open again, the agent resyncs |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Self, TypeVar

from dr.compile import names
from dr.errors import Conflict, NotFound, Refused, Unreachable
from dr.vault import fitting, opening
from dr.vault import manifest as manifests
from dr.vault.batch import Change, DiskSpec, Write, extents, plan_batch
from dr.vault.digests import UNKNOWN, DigestTable
from dr.vault.drafting import Origin, draft_manifest, point_exists
from dr.vault.manifest import DiskPoint, Manifest
from dr.vault.store import BlobStore

__all__ = ["DiskSpec", "ReplicaSet", "Write"]

THREADS = 8
# A snapshot that no manifest names is removed after an hour; a writer that slept in between must not name it then.
CUT_LIMIT = timedelta(minutes=30)
T = TypeVar("T")
Clock = Callable[[], datetime]


class _State(Enum):
    READY = "ready"
    UNSURE = "unsure"
    LOST = "lost"
    WENT_BACK = "went back"


class ReplicaSet:
    """All disks of one server, opened for writing. Methods are serialised; share one instance, never two."""

    def __init__(
        self,
        store: BlobStore,
        server: str,
        *,
        site: str,
        protection_epoch: int,
        disks: Sequence[DiskSpec],
        facts: Mapping[str, Any],
        clock: Clock,
    ) -> None:
        self.server = server
        self.protection_epoch = protection_epoch
        self.disks = tuple(disks)
        self._store, self._site, self._facts, self._clock = store, site, dict(facts), clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"replica-{server}")
        self._lock = threading.RLock()
        self._state = _State.UNSURE
        self._claim = opening.Claim(0, "")
        self._leases: dict[str, str] = {}
        self._tables: dict[str, DigestTable] = {}
        self._positions: dict[str, int] = {}
        self._etags: dict[str, str] = {}
        self._attempted = -1  # the position that a failed batch may have left in the store
        self._attempted_manifest: tuple[str, bytes] | None = None

    @classmethod
    def open(
        cls,
        store: BlobStore,
        server: str,
        *,
        site: str,
        protection_epoch: int,
        process_server: str,
        disks: Sequence[DiskSpec],
        facts: Mapping[str, Any],
        clock: Clock,
    ) -> Self:
        """Become the one writer of `server`, creating its replica when there is none.

        Errors: `Refused` `fenced` (older protection epoch) or `disk-size`, `Conflict` `disks-changed` or
        `writer-changed` (another opener was faster), `Corrupt` `replica-incomplete`, `Unreachable`.
        """
        opening.check_disks(server, disks)
        replica = cls(
            store, server, site=site, protection_epoch=protection_epoch, disks=disks, facts=facts, clock=clock
        )
        try:
            replica._open(process_server)
        except BaseException:
            replica.close()
            raise
        return replica

    @property
    def writer_epoch(self) -> int:
        """The epoch of this writer; higher than that of every writer before it."""
        return self._claim.writer_epoch

    @property
    def sequence(self) -> int:
        """The position that the pages of all disks claim: everything up to it is stored."""
        return min(self._positions.values(), default=0)

    @property
    def unknown_chunks(self) -> int:
        """How many chunks have no digest; a point can be cut only when there is none."""
        return sum(table.unknown for table in self._tables.values())

    @property
    def distrusted(self) -> bool:
        """Tell whether no digest is known though something is stored: since `distrust`, nobody sent anything."""
        return self.sequence > 0 and all(table.unknown == table.chunks for table in self._tables.values())

    def apply(self, writes: Sequence[Write], sequence: int) -> None:
        """Store one batch and claim `sequence`; returning means `stored`.

        Errors: `Refused` `unaligned`, `out-of-range`, `unknown-disk`; `Conflict` `writer-changed`,
        `store-went-back` (both final), `sequence-gap`; `Unreachable` `store-unavailable`: repeat the same call.
        """
        with self._lock:
            changes = plan_batch(writes, self._tables)  # refuses before anything is touched
            if self._make_ready():
                changes = plan_batch(writes, self._tables)
            self._check_sequence(sequence)
            with self._changing():
                self._mark_unknown(changes)
                self._write_pages(changes)
                self._write_digests(changes)
                self._claim_position(sequence)

    def cut(self, cut_info: Mapping[str, Any], sequence: int) -> Manifest:
        """Make a recovery point of what is stored now and claim `sequence`, the cut's own place in the stream.

        `cut_info`: `number`, `kind`, `cut_time` (RFC 3339), and optionally `frozen` (mount points), `not_frozen`
        (`{"name", "reason"}`), `freeze_ms`, `firmware`, `facts`. Errors as `apply`, and `Refused` `cut-invalid`,
        `Conflict` `digests-unknown` or `point-exists` (a replayed cut: claim its position with `apply([], sequence)`).
        """
        with self._lock:
            self._make_ready()
            self._check_sequence(sequence)
            if self.unknown_chunks:
                raise Conflict(
                    f"{self.server}: {self.unknown_chunks} chunks have no digest, so no point can be claimed",
                    code="digests-unknown",
                    remedy="send these chunks again (a resync)",
                )
            draft = self._draft(cut_info, sequence)
            kept = self._kept_manifest(draft)
            if kept is not None:
                self._finish_cut(sequence)
                return kept
            begun = self._clock()
            with self._changing():
                point = self._with_snapshots(draft)
                opening.confirm_writer(self._store, self.server, self._claim)
                if self._clock() - begun > CUT_LIMIT:
                    raise Unreachable(
                        f"{self.server}: the snapshots of point {draft.number} took more than {CUT_LIMIT}",
                        code="store-unavailable",
                        remedy="nothing is lost; the point is cut again",
                    )
            self._attempted_manifest = (point.blob, manifests.to_bytes(point))
            self._put_manifest(*self._attempted_manifest)
            self._finish_cut(sequence)
            return point

    def digests(self, disk: str, first: int, count: int) -> bytes:
        """Return the digest entries of `count` chunks from `first` on, of what is stored now.

        Errors: `Refused` `unknown-disk`; `Conflict` `writer-changed` or `store-went-back`; `Unreachable`.
        """
        with self._lock:
            self._make_ready()
            if disk not in self._tables:
                raise Refused(f'the replica has no disk "{disk}"', code="unknown-disk")
            return self._tables[disk].entries(first, count)

    def distrust(self) -> None:
        """Make every digest unknown, durably: after a store went back, pages and digests need not be of one time.

        Errors: `Conflict` `writer-changed` or `store-went-back`; `Unreachable`.
        """
        with self._lock:
            self._make_ready()
            with self._changing():
                self._forget(*self.disks)

    def check_lease(self) -> None:
        """Check that this is still the writer. `Conflict` `writer-changed` or `store-went-back`, `Unreachable`."""
        with self._lock:
            self._make_ready()
            with self._changing():
                opening.confirm_writer(self._store, self.server, self._claim)

    def verify_position(self) -> bool:
        """Tell whether the store still holds what it acknowledged; False: it went back, open the stream again.

        Errors: `Conflict` `writer-changed`, `Unreachable`.
        """
        with self._lock:
            try:
                self._make_ready()
            except Conflict as err:
                if err.code != "store-went-back":
                    raise
                return False
            return True

    def close(self) -> None:
        """End the threads; the lease stays until the next writer breaks it."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    # Opening and recovery

    def _open(self, process_server: str) -> None:
        document = {
            "process_server": process_server,
            "protection_epoch": self.protection_epoch,
            "disks": [{"name": disk.name, "size_bytes": disk.size_bytes} for disk in self.disks],
            "facts": self._facts,
        }
        self._claim = opening.claim_writer(self._store, self.server, document)
        for disk in self.disks:
            opening.create_missing(self._store, self.server, disk, self._metadata(disk, 0))
        for blob in self._blobs():
            self._leases[blob] = opening.take_lease(self._store, self.server, blob)
        opening.confirm_writer(self._store, self.server, self._claim)
        with self._changing():
            now, shared = self._clock(), self._position_before()
            for disk in self.disks:
                table_lease, vhd_lease = self._leases[self._digests(disk)], self._leases[self._vhd(disk)]
                fitting.grow(self._store, self.server, disk, table_lease=table_lease, vhd_lease=vhd_lease)
                opening.ensure_footer(self._store, self.server, disk, vhd_lease, now)
                self._tables[disk.name] = opening.read_table(self._store, self.server, disk)
                if self._claim.before and disk.name not in self._claim.before:
                    self._forget(disk)
                    self._stamp(disk, shared)
                else:
                    self._stamp(disk, self._claimed(disk.name))
            self._state = _State.READY

    def _position_before(self) -> int:
        """Return the position that all disks had that were written until now; one that joins begins there."""
        there = (name for name in self._claim.before if opening.exists(self._store, self._blob_of(name)))
        return min((self._claimed(name) for name in there), default=0)

    def _claimed(self, disk: str) -> int:
        found = self._store.info(names.REPLICAS, self._blob_of(disk)).metadata
        return opening.claimed_position(found, self.protection_epoch)

    def _blob_of(self, disk: str) -> str:
        return names.replica_blob(self.server, disk)

    def _forget(self, *disks: DiskSpec) -> None:
        """Make every digest of these disks unknown, durably."""
        for disk in disks:
            self._tables[disk.name].forget()
        self._store_digests({disk.name: range(self._tables[disk.name].chunks) for disk in disks})

    def _make_ready(self) -> bool:
        """Check that store and memory agree; return whether they had to be brought together again."""
        self._raise_if_final()
        with self._changing():
            unsure = self._state is _State.UNSURE
            if unsure:
                self._recover()
            else:
                self._parallel(partial(self._compare_etag, disk) for disk in self.disks)
        return unsure

    def _recover(self) -> None:
        for blob in self._blobs():
            self._leases[blob] = self._store.change_lease(names.REPLICAS, blob, self._leases[blob])
        for disk in self.disks:
            found = self._store.info(names.REPLICAS, self._vhd(disk))
            position = opening.claimed_position(found.metadata, self.protection_epoch)
            expected = {self._positions[disk.name], self._attempted}
            if position not in expected or found.metadata.get("writer_epoch") != str(self.writer_epoch):
                raise self._not_ours(disk, position)
            self._tables[disk.name] = opening.read_table(self._store, self.server, disk)
            self._positions[disk.name], self._etags[disk.name] = position, found.etag
        self._state = _State.READY

    def _compare_etag(self, disk: DiskSpec) -> None:
        found = self._store.info(names.REPLICAS, self._vhd(disk))
        if found.etag != self._etags[disk.name]:
            raise self._not_ours(disk, opening.claimed_position(found.metadata, self.protection_epoch))

    def _not_ours(self, disk: DiskSpec, position: int) -> Conflict:
        if opening.superseded(self._store, self.server, self._claim):
            return opening.writer_changed(self.server)
        return opening.went_back(self.server, disk.name, position, self._positions[disk.name])

    def _raise_if_final(self) -> None:
        if self._state is _State.LOST:
            raise opening.writer_changed(self.server)
        if self._state is _State.WENT_BACK:
            raise opening.went_back(self.server, self.disks[0].name, None, self.sequence)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Turn any failure into this writer's next state, and the store's words into ours."""
        try:
            yield
        except Conflict as err:
            self._state = _State.WENT_BACK if err.code == "store-went-back" else _State.LOST
            if err.code in {"store-went-back", "writer-changed"}:
                raise
            raise opening.writer_changed(self.server) from err
        except NotFound as err:
            self._state = _State.WENT_BACK
            raise opening.went_back(self.server, self.disks[0].name, None, self.sequence) from err
        except BaseException:
            self._state = _State.UNSURE
            raise

    # One batch

    def _mark_unknown(self, changes: Mapping[str, Mapping[int, Change]]) -> None:
        for disk, chunks in changes.items():
            for chunk in chunks:
                self._tables[disk].set(chunk, UNKNOWN)
        self._store_digests(changes)

    def _write_pages(self, changes: Mapping[str, Mapping[int, Change]]) -> None:
        calls: list[Callable[[], object]] = []
        for disk, chunks in changes.items():
            blob = names.replica_blob(self.server, disk)
            lease = self._leases[blob]
            for extent in extents(chunks, self._tables[disk].size_bytes):
                if extent.data is None:
                    call = self._store.clear_pages
                    calls.append(partial(call, names.REPLICAS, blob, extent.offset, extent.length, lease=lease))
                else:
                    write = self._store.write_pages
                    calls.append(partial(write, names.REPLICAS, blob, extent.offset, extent.data, lease=lease))
        self._parallel(calls)

    def _write_digests(self, changes: Mapping[str, Mapping[int, Change]]) -> None:
        for disk, chunks in changes.items():
            for chunk, change in chunks.items():
                self._tables[disk].set(chunk, change.entry)
        self._store_digests(changes)

    def _store_digests(self, changes: Mapping[str, Iterable[int]]) -> None:
        calls = []
        for disk, chunks in changes.items():
            blob = names.digests_blob(self.server, disk)
            for offset, data in self._tables[disk].pages(chunks):
                lease = self._leases[blob]
                calls.append(partial(self._store.write_pages, names.REPLICAS, blob, offset, data, lease=lease))
        self._parallel(calls)

    def _claim_position(self, sequence: int) -> None:
        self._attempted = sequence
        self._parallel(partial(self._stamp, disk, sequence) for disk in self.disks)

    def _stamp(self, disk: DiskSpec, sequence: int) -> None:
        blob = self._vhd(disk)
        metadata = self._metadata(disk, sequence)
        etag = self._store.set_metadata(names.REPLICAS, blob, metadata, lease=self._leases[blob])
        self._positions[disk.name], self._etags[disk.name] = sequence, etag

    def _metadata(self, disk: DiskSpec, sequence: int) -> dict[str, str]:
        return {
            "protection_epoch": str(self.protection_epoch),
            "sequence": str(sequence),
            "writer_epoch": str(self.writer_epoch),
            "disk_size_bytes": str(disk.size_bytes),
        }

    def _check_sequence(self, sequence: int) -> None:
        if sequence < self.sequence:
            raise Conflict(
                f"{self.server}: position {sequence} comes after {self.sequence} was stored", code="sequence-gap"
            )

    # Recovery points

    def _draft(self, cut: Mapping[str, Any], sequence: int) -> Manifest:
        return draft_manifest(
            Origin(self.server, self._site, self.protection_epoch, self.writer_epoch, self._facts),
            cut,
            sequence=sequence,
            now=self._clock(),
            disks=[self._disk_point(disk, "-", "-") for disk in self.disks],
        )

    def _disk_point(self, disk: DiskSpec, snapshot: str, digests_snapshot: str) -> DiskPoint:
        return DiskPoint(
            name=disk.name,
            size_bytes=disk.size_bytes,
            blob=self._vhd(disk),
            snapshot=snapshot,
            digests_blob=self._digests(disk),
            digests_snapshot=digests_snapshot,
            merkle_root=self._tables[disk.name].merkle_root(),
        )

    def _kept_manifest(self, draft: Manifest) -> Manifest | None:
        """Return the point when an earlier call of ours wrote it and lost the answer. `Conflict` `point-exists`."""
        try:
            content, _ = self._store.get(names.MANIFESTS, draft.blob)
        except NotFound:
            return None
        if self._attempted_manifest == (draft.blob, content):
            return manifests.from_bytes(content, draft.blob)
        raise point_exists(draft.blob)

    def _with_snapshots(self, draft: Manifest) -> Manifest:
        blobs = self._blobs()
        calls = [partial(self._store.snapshot, names.REPLICAS, blob, lease=self._leases[blob]) for blob in blobs]
        taken = dict(zip(blobs, self._parallel(calls), strict=True))
        self._parallel(partial(self._compare_etag, disk) for disk in self.disks)
        # A store that went back in between may have forgotten the snapshots themselves.
        there = {(e.name, e.snapshot) for e in self._store.inventory(names.REPLICAS, f"{self.server}/")}
        if missing := set(taken.items()) - there:
            raise NotFound(f"the snapshots {sorted(missing)} are gone")
        points = (self._disk_point(disk, taken[self._vhd(disk)], taken[self._digests(disk)]) for disk in self.disks)
        return replace(draft, disks=tuple(points))

    def _put_manifest(self, blob: str, content: bytes) -> None:
        try:
            self._store.put(names.MANIFESTS, blob, content, if_absent=True)
        except Conflict as err:
            # A retried request may meet its own first attempt; the snapshots' ids make the content unique.
            if self._store.get(names.MANIFESTS, blob)[0] != content:
                raise point_exists(blob) from err

    def _finish_cut(self, sequence: int) -> None:
        with self._changing():
            self._claim_position(sequence)
        self._attempted_manifest = None

    # Names and threads

    def _vhd(self, disk: DiskSpec) -> str:
        return self._blob_of(disk.name)

    def _digests(self, disk: DiskSpec) -> str:
        return names.digests_blob(self.server, disk.name)

    def _blobs(self) -> list[str]:
        return [blob for disk in self.disks for blob in (self._vhd(disk), self._digests(disk))]

    def _parallel(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        """Run all calls in the pool and return their results; after a failure none of them is still running."""
        running = [self._threads.submit(call) for call in calls]
        wait(running, return_when=FIRST_EXCEPTION)
        for future in running:
            future.cancel()
        wait(running)
        failures = [error for f in running if not f.cancelled() and (error := f.exception()) is not None]
        if failures:
            # A lost lease explains the others, so it is the one to tell.
            raise next((error for error in failures if isinstance(error, Conflict)), failures[0])
        return [future.result() for future in running]
