"""Becoming the one writer of a server's replica.

The order is what makes it safe; two openers can never both win:
1. read `writer.json`; refuse an older protection epoch and other disks before anything is changed;
2. raise the writer epoch by a conditional write (only one of two that read the same state succeeds);
3. create what is missing: digests before the VHD, because a VHD without its table would pass for "never written";
4. break and take the lease of every blob: from here on an older writer changes nothing;
5. read `writer.json` again: whoever raised the epoch after step 2 will break our leases or has done so, and a slow
   opener that broke the leases of a newer writer finds out here and gives up (the newer one opens again);
6. only now, under all leases, read digests and positions and stamp each replica with the writer epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dr.compile import names
from dr.errors import Conflict, Corrupt, NotFound, Refused
from dr.vault import fitting, vhd
from dr.vault.batch import DiskSpec
from dr.vault.digests import DigestTable, table_blob_size
from dr.vault.store import PAGE, BlobStore

_READ_BYTES = 4 << 20
MAX_BLOB_BYTES = 8 << 40  # a page blob's limit in Azure


@dataclass(frozen=True, slots=True)
class Claim:
    """What `writer.json` says since we wrote it; the ETag proves that it is still ours.

    `before` are the disks that an earlier writer had, `joining` those of ours that it had not: until `settle` the file
    names them, so that a crash does not make them disks of which something is known.
    """

    writer_epoch: int
    etag: str
    before: frozenset[str] = frozenset()
    joining: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Replica:
    """One disk as it was found: the position its pages claim and its digests."""

    position: int
    etag: str
    table: DigestTable


def claim_writer(store: BlobStore, server: str, document: Mapping[str, Any]) -> Claim:
    """Raise the writer epoch of `server`. `Refused` `fenced`; `Conflict` `disks-changed` or `writer-changed`."""
    blob = names.writer_blob(server)
    try:
        content, etag = store.get(names.REPLICAS, blob)
    except NotFound:
        content, etag = b"", ""
    older = _read_writer(content, blob) if content else {}
    check_successor(server, older, document)
    epoch = int(older.get("writer_epoch", 0)) + 1
    before = frozenset(fitting.sizes(older.get("disks", ()))) - frozenset(older.get("joining", ()))
    joining = frozenset(fitting.sizes(document["disks"])) - before if older else frozenset()
    data = _to_bytes({"writer_epoch": epoch, **document, **({"joining": sorted(joining)} if joining else {})})
    try:
        etag = store.put(names.REPLICAS, blob, data, if_absent=not content, if_match=etag or None)
    except Conflict as err:
        raise writer_changed(server) from err
    return Claim(epoch, etag, before, joining)


def settle(store: BlobStore, server: str, claim: Claim, document: Mapping[str, Any]) -> Claim:
    """Say that the disks that join are settled, and return the claim without them. `Conflict` `writer-changed`."""
    if not claim.joining:
        return claim
    data = _to_bytes({"writer_epoch": claim.writer_epoch, **document})
    try:
        etag = store.put(names.REPLICAS, names.writer_blob(server), data, if_match=claim.etag)
    except Conflict as err:
        raise writer_changed(server) from err
    return Claim(claim.writer_epoch, etag)


def check_successor(server: str, older: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Check that a writer with `document` may follow the one of `older`."""
    epoch, stored = document["protection_epoch"], older.get("protection_epoch", 0)
    if epoch < stored:
        raise Refused(
            f"{server}: protection epoch {epoch} is over, the vault is at {stored}",
            code="fenced",
            remedy="this server was failed over; reprotect the recovered one, or remove this one's protection",
        )
    if older:
        fitting.refuse_smaller(server, fitting.sizes(older["disks"]), fitting.sizes(document["disks"]))


def confirm_writer(store: BlobStore, server: str, claim: Claim) -> None:
    """Check that nobody raised the writer epoch since. `Conflict` `writer-changed`."""
    try:
        _, etag = store.get(names.REPLICAS, names.writer_blob(server))
    except NotFound as err:
        raise writer_changed(server) from err
    if etag != claim.etag:
        raise writer_changed(server)


def superseded(store: BlobStore, server: str, claim: Claim) -> bool:
    """Tell whether a newer writer exists; an older or missing `writer.json` means that the store went back."""
    blob = names.writer_blob(server)
    try:
        content, etag = store.get(names.REPLICAS, blob)
    except NotFound:
        return False
    return etag != claim.etag and int(_read_writer(content, blob)["writer_epoch"]) >= claim.writer_epoch


def writer_changed(server: str) -> Conflict:
    """Return the error of a writer that is not the current one."""
    return Conflict(
        f"{server}: another process server writes this replica now",
        code="writer-changed",
        remedy="open the stream again and send again what was not stored",
    )


def went_back(server: str, disk: str, found: int | None, known: int) -> Conflict:
    """Return the error of a store that forgot what it acknowledged; `found` None: the replica itself."""
    there = "is gone" if found is None else f"claims position {found}"
    return Conflict(
        f"{server}: the replica of disk {disk} {there}, but {known} was stored: the store went back",
        code="store-went-back",
        remedy="the agent resyncs by itself; no recovery point is claimed until it is done",
    )


def check_disks(server: str, disks: Sequence[DiskSpec]) -> None:
    """Check that there are disks, each with a name of its own and whole sectors, that fit. `Refused` `disk-size`."""
    if not disks or len({disk.name for disk in disks}) != len(disks):
        raise Refused(f"{server}: there must be a disk, and each needs a name of its own", code="disk-size")
    for disk in disks:
        if disk.size_bytes <= 0 or disk.size_bytes % PAGE:
            raise Refused(f"{server}: disk {disk.name} has {disk.size_bytes} bytes", code="disk-size")
        if vhd.blob_size(disk.size_bytes) > MAX_BLOB_BYTES:
            raise Refused(
                f"{server}: disk {disk.name} has {disk.size_bytes} bytes, a page blob holds less than {MAX_BLOB_BYTES}",
                code="disk-size",
                remedy="protect disks of up to 8 TiB",
            )


def create_missing(store: BlobStore, server: str, disk: DiskSpec, metadata: Mapping[str, str]) -> None:
    """Create the digest table and the VHD of a disk unless they exist. `Corrupt` when only one is left."""
    table, pages = names.digests_blob(server, disk.name), names.replica_blob(server, disk.name)
    has_table, has_pages = exists(store, table), exists(store, pages)
    if has_pages and not has_table:
        raise _incomplete(server, table)
    if has_table and not has_pages and any(store.page_ranges(names.REPLICAS, table)):
        raise _incomplete(server, pages)
    if not has_table:
        _create(store, table, table_blob_size(disk.size_bytes), {"disk_size_bytes": str(disk.size_bytes)})
    if not has_pages:
        _create(store, pages, vhd.blob_size(disk.size_bytes), metadata)


def exists(store: BlobStore, blob: str) -> bool:
    """Tell whether a blob of the replica is there."""
    try:
        store.info(names.REPLICAS, blob)
    except NotFound:
        return False
    return True


def take_lease(store: BlobStore, server: str, blob: str) -> str:
    """Break whoever's lease and take our own. `Conflict` `writer-changed` when another opener was faster."""
    store.break_lease(names.REPLICAS, blob)
    try:
        return store.acquire_lease(names.REPLICAS, blob)
    except Conflict as err:
        raise writer_changed(server) from err


def ensure_footer(store: BlobStore, server: str, disk: DiskSpec, lease: str, now: datetime) -> None:
    """Write the VHD footer unless a valid one is there (a crash may have come between creation and footer)."""
    blob, at = names.replica_blob(server, disk.name), vhd.padded_size(disk.size_bytes)
    try:
        if vhd.parse_footer(store.read(names.REPLICAS, blob, at, vhd.FOOTER_BYTES)).size_bytes == at:
            return
    except Corrupt:
        pass
    footer = vhd.build_footer(disk.size_bytes, vhd.unique_id(server, disk.name), now)
    store.write_pages(names.REPLICAS, blob, at, footer, lease=lease)


def read_table(store: BlobStore, server: str, disk: DiskSpec) -> DigestTable:
    """Read the digests of a disk from the store."""
    blob = names.digests_blob(server, disk.name)
    size = table_blob_size(disk.size_bytes)
    found = store.info(names.REPLICAS, blob).size_bytes
    if found != size:
        raise Corrupt(f"{blob} has {found} bytes, not {size}", code="replica-incomplete")
    data = bytearray(size)
    for offset, content in read_ranges(store, names.REPLICAS, blob):
        data[offset : offset + len(content)] = content
    return DigestTable(disk.size_bytes, bytes(data))


def read_ranges(
    store: BlobStore, container: str, blob: str, *, snapshot: str | None = None
) -> Iterable[tuple[int, bytes]]:
    """Yield (offset, content) of what a page blob holds, in pieces of at most 4 MiB."""
    for start, length in store.page_ranges(container, blob, snapshot=snapshot):
        for offset in range(start, start + length, _READ_BYTES):
            size = min(_READ_BYTES, start + length - offset)
            yield offset, store.read(container, blob, offset, size, snapshot=snapshot)


def position_of(store: BlobStore, server: str, disk: str, protection_epoch: int) -> int:
    """Return the position that the pages of one disk claim. `NotFound`."""
    return claimed_position(store.info(names.REPLICAS, names.replica_blob(server, disk)).metadata, protection_epoch)


def position_before(store: BlobStore, server: str, claim: Claim, protection_epoch: int) -> int:
    """Return the position that all disks had that were written until now; one that joins begins there."""
    there = (disk for disk in claim.before if exists(store, names.replica_blob(server, disk)))
    return min((position_of(store, server, disk, protection_epoch) for disk in there), default=0)


def claimed_position(metadata: Mapping[str, str], protection_epoch: int) -> int:
    """Return the position that a replica claims; positions of an earlier protection epoch count as 0."""
    if int(metadata.get("protection_epoch", "0")) != protection_epoch:
        return 0
    return int(metadata.get("sequence", "0"))


def _create(store: BlobStore, blob: str, size: int, metadata: Mapping[str, str]) -> None:
    try:
        store.create_pages(names.REPLICAS, blob, size, metadata)
    except Conflict as err:
        if err.code != "exists":
            raise
        # Another opener was faster with the same empty blob; who is the writer is decided by leases and epoch.


def _incomplete(server: str, missing: str) -> Corrupt:
    return Corrupt(
        f"{server}: {missing} is gone while the rest of the replica exists",
        code="replica-incomplete",
        remedy=f"restore it by the storage account's own means, or remove the replica of {server} and protect it anew",
    )


def _to_bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _read_writer(content: bytes, blob: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
        fitting.sizes(document["disks"])
        [str(name) for name in document.get("joining", ())]
        return {**document, "writer_epoch": int(document["writer_epoch"])}
    except (ValueError, KeyError, TypeError) as err:
        raise Corrupt(f"{blob} is not readable: {err}", code="replica-incomplete") from err
