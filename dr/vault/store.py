"""The storage interface of the vault: what we need of Azure Storage, and no more.

Implementations: `dr.vault.azure` (the real service and Azurite) and `dr.vault.memory` (a fake of ours). Both pass
`tests/vault/contract.py`.

Rules:
- Offsets and lengths of pages are multiples of 512; one write is at most 4 MiB.
- Errors are ours: `NotFound`, `Conflict` (exists already, ETag or lease mismatch), `Unreachable` (the store
  does not answer; the caller keeps its data and tries again).
- `lease` is a lease id; a write with a lease that was broken raises `Conflict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

PAGE = 512
MAX_PAGES_WRITE = 4 << 20


@dataclass(frozen=True, slots=True)
class BlobInfo:
    name: str
    size_bytes: int
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """One line of an inventory: a blob, or one of its snapshots; `created` is by the store's own clock."""

    name: str
    snapshot: str | None
    created: datetime


class BlobStore(Protocol):
    """Blobs of one storage account."""

    def put(
        self, container: str, name: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        """Write a block blob and return its ETag. `Conflict` when a condition does not hold."""

    def get(self, container: str, name: str) -> tuple[bytes, str]:
        """Return content and ETag of a block blob. `NotFound`."""

    def list(self, container: str, prefix: str = "") -> Iterator[str]:
        """Yield blob names below `prefix` in lexical order, without snapshots."""

    def inventory(self, container: str, prefix: str = "") -> Iterator[BlobEntry]:
        """Yield every blob below `prefix` and every snapshot of one. No writer can set what it tells of time."""

    def time(self, container: str) -> datetime:
        """Return the store's own time, to the second; asks for the right to list `container`."""

    def delete(self, container: str, name: str) -> None:
        """Delete a blob with its snapshots; no error when it is not there."""

    def create_pages(self, container: str, name: str, size_bytes: int, metadata: Mapping[str, str]) -> None:
        """Create an empty page blob. `Conflict` when it exists."""

    def resize_pages(self, container: str, name: str, size_bytes: int, *, lease: str | None = None) -> None:
        """Make a page blob larger; the new pages are zeros, its snapshots stay as they are. `NotFound`."""

    def info(self, container: str, name: str, *, snapshot: str | None = None) -> BlobInfo:
        """Return the properties. `NotFound`."""

    def write_pages(self, container: str, name: str, offset: int, data: bytes, *, lease: str | None = None) -> None: ...

    def clear_pages(self, container: str, name: str, offset: int, length: int, *, lease: str | None = None) -> None: ...

    def read(self, container: str, name: str, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        """Return exactly `length` bytes of a page blob; never-written pages are zeros. `Refused` `out-of-range`."""

    def page_ranges(self, container: str, name: str, *, snapshot: str | None = None) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the ranges that hold data, in order."""

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str], *, lease: str | None = None) -> str:
        """Replace the metadata and return the new ETag; every change of pages or metadata makes another one."""

    def snapshot(self, container: str, name: str, *, lease: str | None = None) -> str:
        """Snapshot a page blob and return the snapshot's id (a timestamp string)."""

    def delete_snapshot(self, container: str, name: str, snapshot: str) -> None:
        """Delete one snapshot, also of a leased blob; no error when it is not there."""

    def acquire_lease(self, container: str, name: str) -> str:
        """Take an infinite lease. `Conflict` while somebody holds one."""

    def change_lease(self, container: str, name: str, lease: str) -> str:
        """Swap a lease that is held for a new id, so that late requests under the old one fail. `Conflict`."""

    def break_lease(self, container: str, name: str) -> None:
        """Break whatever lease there is, at once."""

    def copy_snapshot(self, container: str, name: str, snapshot: str, to_container: str, to_name: str) -> None:
        """Copy a snapshot of a page blob to a new blob inside the account and wait for the end."""

    def url(self, container: str, name: str) -> str:
        """The blob's address, without credentials."""

    def close(self) -> None: ...
