"""A vault that takes everything at once: digests, positions and manifests are kept, the pages of disks are not.

With it a run measures the way to `received`, and the process server still does all of a writer's work but the sending.
What it kept proves what arrived: a digest for every chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dr.vault.memory import MemoryBlobStore
from dr.vault.store import PAGE, BlobInfo


class TakingStore(MemoryBlobStore):
    """`MemoryBlobStore`, with one page in place of each VHD: its lease, ETag, metadata and footer are real."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, int] = {}

    def create_pages(self, container: str, name: str, size_bytes: int, metadata: Mapping[str, str]) -> None:
        self._sizes[name] = size_bytes
        super().create_pages(container, name, PAGE if _is_disk(name) else size_bytes, metadata)

    def write_pages(self, container: str, name: str, offset: int, data: bytes, *, lease: str | None = None) -> None:
        if _is_disk(name):
            # The last page written stays, so the footer is read back right after it was written.
            offset, data = 0, data[-PAGE:]
        super().write_pages(container, name, offset, data, lease=lease)

    def clear_pages(self, container: str, name: str, offset: int, length: int, *, lease: str | None = None) -> None:
        if _is_disk(name):
            offset, length = 0, PAGE
        super().clear_pages(container, name, offset, length, lease=lease)

    def read(self, container: str, name: str, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        if _is_disk(name):
            offset = 0
        return super().read(container, name, offset, length, snapshot=snapshot)

    def info(self, container: str, name: str, *, snapshot: str | None = None) -> BlobInfo:
        found = super().info(container, name, snapshot=snapshot)
        return replace(found, size_bytes=self._sizes[name]) if _is_disk(name) else found


def _is_disk(name: str) -> bool:
    return name.endswith(".vhd")
