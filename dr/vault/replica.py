"""The replica of one server and its only writer: pages, digests, position, recovery points.

Rules, each of which a crash test defends:
- Digests never claim more than is stored: entries become unknown, durably, before their pages are written, and get
  their value only after. Then the position in each VHD's metadata; only then does `apply` return (`stored`).
- Every change carries the lease. A writer whose lease was broken changes nothing and ends with `writer-changed`.
- Nothing is taken for granted after a failure. Before the next batch the leases change their ids (a request of the
  failed batch that is still on its way can then do no harm), the positions are compared, the digests read again.
- Digests claim their position before the pages do, so digests behind their pages went back alone: at the opening
  they all become unknown, and the agent compares.
- A store that went back is noticed by the ETag that the last change of each blob returned, before every batch and in
  every snapshot that becomes a point; after that this writer refuses to go on (`store-went-back`).
- `cut` needs a table without unknown entries; snapshots of all disks come first, the manifest last (`Cutting`). A
  crash before the manifest leaves snapshots that no manifest names; they are no recovery point.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any, Self, TypeVar

from dr.compile import names
from dr.errors import Conflict, NotFound, Refused
from dr.vault import fitting, opening
from dr.vault.batch import Change, DiskSpec, Write, extents, plan_batch
from dr.vault.cutting import Cutting
from dr.vault.digests import UNKNOWN, DigestTable
from dr.vault.drafting import Origin
from dr.vault.manifest import Manifest
from dr.vault.sending import run_all, store_extent
from dr.vault.store import BlobStore

__all__ = ["DiskSpec", "ReplicaSet", "Write"]

THREADS = 8
T = TypeVar("T")
Clock = Callable[[], datetime]


class _State(Enum):
    READY = "ready"
    UNSURE = "unsure"
    LOST = "lost"
    WENT_BACK = "went back"


class ReplicaSet:
    """All disks of one server, opened for writing. Methods are serialised; share one instance, never two."""

    _cutting: Cutting

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
        self._etags: dict[str, str] = {}  # of blobs
        self._attempted = -1  # the position that a failed batch may have left in the store

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

    @property
    def empty(self) -> bool:
        """Tell whether nothing is stored, and every page is known to be zeros: not what an earlier protection left."""
        return self.sequence == 0 and all(table.empty for table in self._tables.values())

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
            draft = self._cutting.draft(cut_info, self._tables, sequence=sequence, now=self._clock())
            kept = self._cutting.kept(draft)
            if kept is not None:
                self._finish_cut(sequence)
                return kept
            begun = self._clock()
            with self._changing():
                point = self._cutting.with_snapshots(draft, self._snapshots())
                opening.confirm_writer(self._store, self.server, self._claim)
                self._cutting.refuse_late(draft, self._clock() - begun)
            self._cutting.put(point)
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
                self._parallel(partial(self._stamp, disk, self._positions[disk.name]) for disk in self.disks)

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
        origin = Origin(self.server, self._site, self.protection_epoch, self.writer_epoch, self._facts)
        self._cutting = Cutting(self._store, origin, self.disks)
        for disk in self.disks:
            opening.create_missing(self._store, self.server, disk, self._metadata(disk, 0))
        for blob in self._blobs():
            self._leases[blob] = opening.take_lease(self._store, self.server, blob)
        opening.confirm_writer(self._store, self.server, self._claim)
        with self._changing():
            now = self._clock()
            positions = {disk.name: self._fit(disk, now) for disk in self.disks}
            if any(self._digests_position(disk) < positions[disk.name] for disk in self.disks):
                self._forget(*self.disks)
            for disk in self.disks:
                if disk.name in self._claim.joining:
                    self._forget(disk)
                    shared = opening.position_before(self._store, self.server, self._claim, self.protection_epoch)
                    self._stamp(disk, shared)
                else:
                    self._stamp(disk, positions[disk.name])
            self._claim = opening.settle(self._store, self.server, self._claim, document)
            self._state = _State.READY

    def _fit(self, disk: DiskSpec, now: datetime) -> int:
        """Make the blobs of a disk fit it, read its digests, and return the position that its pages claim."""
        known = self._store.info(names.REPLICAS, self._vhd(disk))
        table_lease, vhd_lease = self._leases[self._digests(disk)], self._leases[self._vhd(disk)]
        fitting.grow(self._store, self.server, disk, known, table_lease=table_lease, vhd_lease=vhd_lease)
        opening.ensure_footer(self._store, self.server, disk, vhd_lease, now)
        self._tables[disk.name] = opening.read_table(self._store, self.server, disk)
        return opening.claimed_position(known.metadata, self.protection_epoch)

    def _digests_position(self, disk: DiskSpec) -> int:
        found = self._store.info(names.REPLICAS, self._digests(disk))
        return opening.claimed_position(found.metadata, self.protection_epoch)

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
                self._compare_etags()
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
            digests = self._store.info(names.REPLICAS, self._digests(disk))
            told = opening.claimed_position(digests.metadata, self.protection_epoch)
            if told < position:
                raise self._not_ours(disk, told)
            self._tables[disk.name] = opening.read_table(self._store, self.server, disk)
            self._positions[disk.name] = position
            self._etags |= {self._vhd(disk): found.etag, self._digests(disk): digests.etag}
        self._state = _State.READY

    def _compare_etags(self) -> None:
        self._parallel(
            partial(self._compare_etag, disk, blob)
            for disk in self.disks
            for blob in (self._vhd(disk), self._digests(disk))
        )

    def _compare_etag(self, disk: DiskSpec, blob: str) -> None:
        found = self._store.info(names.REPLICAS, blob)
        if found.etag != self._etags[blob]:
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
        self._parallel(
            partial(store_extent, self._store, blob, extent, lease=self._leases[blob])
            for disk, chunks in changes.items()
            for blob in [names.replica_blob(self.server, disk)]
            for extent in extents(chunks, self._tables[disk].size_bytes)
        )

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
        metadata = self._metadata(disk, sequence)
        for blob in (self._digests(disk), self._vhd(disk)):
            self._etags[blob] = self._store.set_metadata(names.REPLICAS, blob, metadata, lease=self._leases[blob])
        self._positions[disk.name] = sequence

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

    def _snapshots(self) -> dict[str, str]:
        blobs = self._blobs()
        calls = [partial(self._store.snapshot, names.REPLICAS, blob, lease=self._leases[blob]) for blob in blobs]
        taken = dict(zip(blobs, self._parallel(calls), strict=True))
        self._compare_etags()
        return taken

    def _finish_cut(self, sequence: int) -> None:
        with self._changing():
            self._claim_position(sequence)
        self._cutting.done()

    # Names and threads

    def _vhd(self, disk: DiskSpec) -> str:
        return names.replica_blob(self.server, disk.name)

    def _digests(self, disk: DiskSpec) -> str:
        return names.digests_blob(self.server, disk.name)

    def _blobs(self) -> list[str]:
        return [blob for disk in self.disks for blob in (self._vhd(disk), self._digests(disk))]

    def _parallel(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        return run_all(self._threads, calls)
