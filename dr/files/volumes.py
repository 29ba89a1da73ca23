"""What is on the disks of a point: partitions, LVM over all of them, and the file systems in both.

A volume is named as a person knows it: "os:1" (disk and partition), "os" (a disk without partitions), "vg0/root". What
cannot be opened stays in the list with its reason; nothing is skipped in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, cast
from uuid import UUID

from dissect.extfs import ExtFS
from dissect.volume.disk import Disk
from dissect.volume.lvm import LVM2, LVM2Device
from dissect.xfs import XFS

from dr.errors import Corrupt, LifeboatError
from dr.files.journal import FastCommits, Overlaid, replayed
from dr.files.nodes import ExtNode, Node, XfsNode
from dr.files.snapshot import SnapshotStream
from dr.vault.manifest import Manifest

NOT_REPLAYED = "journal-not-replayed"
_RECOVER, _JOURNAL_DEVICE = 0x4, 0x8  # of ext4's incompatible features
_MOST_DEVICES = 4096


class Sized(Protocol):
    """A stream that knows its size."""

    size: int

    def seek(self, offset: int, whence: int = 0) -> int: ...

    def read(self, length: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Warned:
    """Something about a volume that makes its files less than they should be."""

    code: str
    message: str
    remedy: str


@dataclass(slots=True)
class Volume:
    """One volume of the server; `root` None when `problem` says why it cannot be opened."""

    name: str
    size_bytes: int
    kind: str  # ext4, xfs, swap, or what it seems to be
    uuid: str = ""
    label: str = ""
    partition: str = ""  # the partition's own id (PARTUUID), for fstab
    root: Node | None = None
    problem: str = ""
    warnings: list[Warned] = field(default_factory=list)


def volumes(point: Manifest, disks: Mapping[str, SnapshotStream]) -> list[Volume]:
    """Return every volume of a point; `disks` are its streams by name. `Corrupt` `point-corrupt`, `Unreachable`."""
    plain, physical = [], []
    for name, partition, stream in _devices(disks):
        if _is_physical(stream):
            physical.append((name, stream))
        else:
            plain.append((name, partition, stream))
    found = [_opened(name, stream, point, partition) for name, partition, stream in plain]
    return sorted([*found, *_logical(physical, point)], key=lambda volume: volume.name)


def _devices(disks: Mapping[str, SnapshotStream]) -> Iterator[tuple[str, str, Sized]]:
    """Yield name, partition id and stream of every partition, and of every disk without any."""
    for name, stream in sorted(disks.items()):
        whole = cast("Sized", stream)
        if _is_physical(whole) or _magic(whole):
            yield name, "", whole
            continue
        try:
            stream.seek(0)
            table = Disk(cast("BinaryIO", stream))
        except LifeboatError:
            raise
        except Exception:
            yield name, "", whole
            continue
        for part in table.partitions[:_MOST_DEVICES]:
            if part.size > 0 and part.offset + part.size <= stream.size:
                yield f"{name}:{part.number}", _partition_id(table, part), part.open()


def _partition_id(table: Any, part: Any) -> str:
    if part.guid is not None:
        return str(part.guid).lower()
    serial = table.serial
    return "" if serial is None else f"{serial:08x}-{part.number:02x}"


def _is_physical(stream: Sized) -> bool:
    stream.seek(0)
    head = stream.read(2048)
    return any(head[at : at + 8] == b"LABELONE" for at in range(0, len(head), 512))


def _magic(stream: Sized) -> str:
    """Return what the first bytes say: ext4, xfs, swap, md, luks, vfat or nothing."""
    stream.seek(0)
    head = stream.read(8192)
    if head[1080:1082] == b"\x53\xef":
        return "ext4"
    if head[:4] == b"XFSB":
        return "xfs"
    if head[4086:4096] == b"SWAPSPACE2":
        return "swap"
    if head[4096:4100] == b"\xfc\x4e\x2b\xa9" or head[:4] == b"\xfc\x4e\x2b\xa9":
        return "md"
    if head[:6] == b"LUKS\xba\xbe":
        return "luks"
    return "vfat" if head[54:57] == b"FAT" or head[82:87] == b"FAT32" else ""


def _logical(physical: list[tuple[str, Sized]], point: Manifest) -> Iterator[Volume]:
    """Yield the logical volumes of every volume group whose physical volumes were found."""
    groups: dict[str, list[tuple[str, LVM2Device]]] = defaultdict(list)
    for name, stream in physical:
        try:
            device = LVM2Device(cast("BinaryIO", stream))
            metadata = device.metadata or {}
            group = next((str(v["id"]) for v in metadata.values() if isinstance(v, dict) and "id" in v), "")
            groups[group].append((name, device))
        except LifeboatError:
            raise
        except Exception as error:
            yield Volume(name, stream.size, "lvm", problem=f"its LVM label cannot be read: {_words(error)}")
    for members in groups.values():
        yield from _group(members, point)


def _group(members: list[tuple[str, LVM2Device]], point: Manifest) -> Iterator[Volume]:
    names = ", ".join(name for name, _ in members)
    try:
        group = LVM2([device for _, device in members]).volume_group
        logical = [volume for volume in group.lv if volume.is_visible]
    except LifeboatError:
        raise
    except Exception as error:
        yield Volume(members[0][0], members[0][1].size, "lvm", problem=f"its volume group ({names}): {_words(error)}")
        return
    for volume in logical:
        name = f"{group.name}/{volume.name}"
        try:
            stream = cast("Sized", volume.open())
            stream.seek(0)
            yield _opened(name, stream, point, "")
        except LifeboatError:
            raise
        except Exception as error:
            yield Volume(name, 0, "lvm", problem=f"it cannot be opened from {names}: {_words(error)}")


def _opened(name: str, stream: Sized, point: Manifest, partition: str) -> Volume:
    kind = _magic(stream)
    volume = Volume(name, stream.size, kind or "unknown", partition=partition)
    try:
        if kind == "ext4":
            _open_ext(volume, stream)
        elif kind == "xfs":
            _open_xfs(volume, stream, point)
        else:
            volume.problem = _NO_FILES.get(kind, "no file system that can be read here")
    except LifeboatError as error:
        if error.code == "point-corrupt" or not isinstance(error, Corrupt):
            raise
        volume.problem = error.message
    except Exception as error:
        volume.problem = f"it cannot be read: {_words(error)}"
    return volume


_NO_FILES = {
    "swap": "it is swap",
    "md": "it is a part of a software RAID, which is not read here",
    "luks": "it is encrypted by LUKS",
    "vfat": "it is FAT, which is not read here",
}


def _open_ext(volume: Volume, stream: Sized) -> None:
    below = cast("BinaryIO", stream)
    opened = ExtFS(below)
    features = int(opened.sb.s_feature_incompat)
    if features & _RECOVER:
        if features & _JOURNAL_DEVICE or not opened.sb.s_journal_inum:
            volume.warnings.append(_not_replayed(volume, "it is on a device of its own"))
        else:
            try:
                blocks = replayed(opened.journal.fh, opened.block_size)
                opened = ExtFS(cast("BinaryIO", Overlaid(below, stream.size, opened.block_size, blocks)))
            except FastCommits:
                volume.warnings.append(_not_replayed(volume, "it has fast commits"))
    volume.uuid, volume.label = str(opened.uuid), opened.volume_name
    volume.kind = {2: "ext2", 3: "ext3"}.get(_digit(opened.type), "ext4")
    volume.root = ExtNode(opened.root)


def _open_xfs(volume: Volume, stream: Sized, point: Manifest) -> None:
    opened = XFS(cast("BinaryIO", stream))
    volume.uuid, volume.label = str(opened.uuid), opened.name
    loose = [each.name for each in point.not_frozen if each.name.startswith("/") and "vfat" not in each.reason]
    if not point.frozen or loose:
        why = f"not frozen were {', '.join(loose)}" if loose else "nothing was frozen for this point"
        volume.warnings.append(_not_replayed(volume, f"XFS replays its log itself, and {why}"))
    volume.root = XfsNode(opened.root)


def _not_replayed(volume: Volume, why: str) -> Warned:
    return Warned(
        NOT_REPLAYED,
        f"{volume.name}: the file system's journal was not replayed: {why}. What changed in the last seconds before "
        "the point may be missing or half there",
        "take a point that froze its file systems (`dr points SERVER --json`: frozen), or fail over and read it there",
    )


def _digit(kind: object) -> int:
    text = str(kind)
    return int(text[-1]) if text[-1:].isdigit() else 4


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def canonical_uuid(text: str) -> str:
    """Return a UUID as volumes have it; anything else in lower case."""
    try:
        return str(UUID(text))
    except ValueError:
        return text.lower()
