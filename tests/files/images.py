"""Disks with real file systems, put into a store as a recovery point."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from dr.chunk import CHUNK_BYTES
from dr.vault.manifest import Manifest
from dr.vault.memory import MemoryBlobStore
from dr.vault.replica import DiskSpec, ReplicaSet, Write
from dr.vault.store import BlobStore

MIB = 1 << 20
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


class PointWriter:
    """Makes points of one server, "shop1", in a store; `sizes` are its disks' bytes."""

    def __init__(self, store: BlobStore, sizes: Mapping[str, int]) -> None:
        self._replica = ReplicaSet.open(
            store,
            "shop1",
            site="lab",
            protection_epoch=1,
            process_server="ps1",
            disks=[DiskSpec(name, size) for name, size in sizes.items()],
            facts={},
            clock=lambda: datetime(2026, 5, 17, tzinfo=UTC),
        )
        self._number = 0
        self._held: dict[tuple[str, int], bytes] = {}

    def point(self, disks: Mapping[str, bytes], day: int = 17, **cut: Any) -> Manifest:
        """Write what is new of these contents and cut."""
        self._number += 1
        writes = [Write(name, *where) for name, content in disks.items() for where in self._changed(name, content)]
        for first in range(0, len(writes), 256):
            self._replica.apply(writes[first : first + 256], self._replica.sequence + 1)
        asked = {"kind": "crash-consistent", "cut_time": f"2026-05-{day}T00:00:00Z", "frozen": ["/"], **cut}
        return self._replica.cut({"number": self._number, **asked}, self._replica.sequence + 1)

    def close(self) -> None:
        self._replica.close()

    def _changed(self, name: str, content: bytes) -> Iterator[tuple[int, bytes | None, int]]:
        for at in range(0, len(content), CHUNK_BYTES):
            chunk = content[at : at + CHUNK_BYTES]
            if chunk != self._held.get((name, at)):
                self._held[name, at] = chunk
                yield at, chunk if any(chunk) else None, len(chunk)


def point_of(disks: Mapping[str, bytes], **cut: Any) -> tuple[MemoryBlobStore, Manifest]:
    """Return a store with one point of these disks."""
    store = MemoryBlobStore()
    writer = PointWriter(store, {name: len(content) for name, content in disks.items()})
    point = writer.point(disks, **cut)
    writer.close()
    return store, point


def extfs(folder: Path, name: str, size: int, content: Path | None = None, *options: str) -> bytes:
    """Return an ext4 file system, with the files of a folder in it; needs no mount."""
    image = folder / f"{name}.ext4"
    with image.open("wb") as file:
        file.truncate(size)
    filled = ["-d", str(content)] if content else []
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, *filled, str(image)], check=True)
    return image.read_bytes()


@contextmanager
def mounted(image: Path, point: Path, *options: str) -> Iterator[Path]:
    """Mount an image by a loop device."""
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", ",".join(["loop", *options]), str(image), str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


def mbr(parts: Sequence[bytes], serial: int = 0xFEEDF00D) -> bytes:
    """Return a disk with an MBR and these partitions, each on a MiB."""
    table, body, at = b"", b"", MIB
    for part in parts:
        table += struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3, at // 512, len(part) // 512)
        padding = -len(part) % MIB
        body += part + bytes(padding)
        at += len(part) + padding
    head = bytes(440) + struct.pack("<I", serial) + bytes(2) + table.ljust(64, b"\0") + b"\x55\xaa"
    return head.ljust(MIB, b"\0") + body


def gpt(parts: Sequence[bytes], ids: Sequence[UUID]) -> bytes:
    """Return a disk with a GPT and these partitions, each on a MiB."""
    entries, body, at = b"", b"", MIB
    for number, (part, identity) in enumerate(zip(parts, ids, strict=True)):
        name = f"part{number}".encode("utf-16-le").ljust(72, b"\0")
        last = (at + len(part)) // 512 - 1
        entries += LINUX.bytes_le + identity.bytes_le + struct.pack("<QQQ", at // 512, last, 0) + name
        padding = -len(part) % MIB
        body += part + bytes(padding)
        at += len(part) + padding
    entries = entries.ljust(128 * 128, b"\0")
    total = at // 512 + 33

    def header(here: int, other: int, table: int) -> bytes:
        fields = (here, other, 34, total - 34, UUID(int=7).bytes_le, table, 128, 128, zlib.crc32(entries))
        blank = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, *fields)
        return (blank[:16] + struct.pack("<I", zlib.crc32(blank)) + blank[20:]).ljust(512, b"\0")

    protective = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0xEE, b"\0" * 3, 1, total - 1).ljust(64, b"\0")
    first = bytes(446) + protective + b"\x55\xaa"
    head = (first + header(1, total - 1, 2) + entries).ljust(MIB, b"\0")
    return head + body + entries + header(total - 1, 1, total - 33)


def small_tree(folder: Path, fstab: str = "") -> Path:
    """Make a folder with what a server has."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/fstab").write_text(fstab)
    (folder / "etc/hostname").write_text("shop1\n")
    (folder / "etc/hostname").chmod(0o640)
    (folder / "etc/name").symlink_to("hostname")
    (folder / "etc/away").symlink_to("/etc/hostname")
    (folder / "etc/out").symlink_to("../../../../etc/passwd")
    os.utime(folder / "etc/hostname", ns=(1_700_000_000_000000000, 1_700_000_000_000000000))
    (folder / "srv/deep/er").mkdir(parents=True)
    (folder / "srv/deep/er/big").write_bytes(os.urandom(3 * MIB + 17))
    return folder
