"""A server's disks changed: which change a replica can follow, and how its blobs become larger.

| change | what happens |
| --- | --- |
| grown | both blobs of the disk become larger under their leases; the new part is unknown until it was sent |
| joined | blobs are made, or those of an earlier time are taken up; nothing of the disk is known until it was sent |
| left | its blobs stay as they are, nobody writes them any more; points are made of the others |
| smaller | refused: what is on another disk now would be mixed with what was on this one |

Growing is repeated by the next opening until the VHD's metadata has the new size, which is written last:
1. the digest table gets its size, and what is new in it becomes unknown, durably: also the chunk that the old end cut
   through, and the one in which the old footer lies
2. the VHD gets its size, the old footer is cleared (the new one is written as for any VHD that has none)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dr.chunk import CHUNK_BYTES, ENTRY_BYTES, UNKNOWN
from dr.compile import names
from dr.errors import Conflict
from dr.vault import vhd
from dr.vault.batch import DiskSpec
from dr.vault.digests import table_blob_size
from dr.vault.store import MAX_PAGES_WRITE, PAGE, BlobInfo, BlobStore


def refuse_smaller(server: str, older: Mapping[str, int], newer: Mapping[str, int]) -> None:
    """Raise `Conflict` `disks-changed` when a disk (name to bytes) became smaller."""
    smaller = [name for name, size in older.items() if newer.get(name, size) < size]
    if smaller:
        told = ", ".join(f"{name} has {newer[name]} bytes, its replica {older[name]}" for name in sorted(smaller))
        raise Conflict(
            f"{server}: disk {told}: a disk that became smaller is another disk",
            code="disks-changed",
            remedy="give it another name in the declaration and run `pulumi up` of the site stack; the recovery points "
            "of the old one stay",
        )


def sizes(disks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the bytes of each disk by name, of disks as `writer.json` and the APIs have them."""
    return {str(disk["name"]): int(disk["size_bytes"]) for disk in disks}


def grow(store: BlobStore, server: str, disk: DiskSpec, known: BlobInfo, *, table_lease: str, vhd_lease: str) -> None:
    """Make the blobs of a disk as large as it is now, if they are not; `known` is its VHD as it was found."""
    table, pages = names.digests_blob(server, disk.name), names.replica_blob(server, disk.name)
    before = int(known.metadata["disk_size_bytes"])
    if before >= disk.size_bytes:
        return
    footer = vhd.padded_size(before)
    moves = footer < vhd.padded_size(disk.size_bytes)
    if store.info(names.REPLICAS, table).size_bytes < table_blob_size(disk.size_bytes):
        store.resize_pages(names.REPLICAS, table, table_blob_size(disk.size_bytes), lease=table_lease)
    _forget_from(store, table, before // CHUNK_BYTES, disk, lease=table_lease)
    if moves:
        if known.size_bytes < vhd.blob_size(disk.size_bytes):
            store.resize_pages(names.REPLICAS, pages, vhd.blob_size(disk.size_bytes), lease=vhd_lease)
        store.clear_pages(names.REPLICAS, pages, footer, vhd.FOOTER_BYTES, lease=vhd_lease)


def _forget_from(store: BlobStore, table: str, first: int, disk: DiskSpec, *, lease: str) -> None:
    """Make the entries from chunk `first` on unknown; those before it keep their value."""
    start = first * ENTRY_BYTES // PAGE * PAGE
    end = table_blob_size(disk.size_bytes)
    chunks = -(-disk.size_bytes // CHUNK_BYTES)
    kept = store.read(names.REPLICAS, table, start, first * ENTRY_BYTES - start) if first * ENTRY_BYTES > start else b""
    data = kept + UNKNOWN * (chunks - first)
    data += bytes(end - start - len(data))
    for offset in range(0, len(data), MAX_PAGES_WRITE):
        store.write_pages(names.REPLICAS, table, start + offset, data[offset : offset + MAX_PAGES_WRITE], lease=lease)
