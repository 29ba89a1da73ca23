"""What protected servers look like: Debian, firmware, layout of the disks, root file system; and which are tried."""

from __future__ import annotations

from dataclasses import dataclass

DEBIANS = (11, 12, 13)
FIRMWARES = ("bios", "uefi")
FILE_SYSTEMS = ("ext4", "xfs", "btrfs")
# How many disks a layout takes. `lvm2`: one logical volume over two disks; `md`: a RAID 1.
LAYOUTS = {"plain": 1, "lvm": 1, "lvm2": 2, "md": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of server; `layout` is where its root lies."""

    debian: int
    firmware: str
    layout: str
    file_system: str

    @property
    def name(self) -> str:
        """A server's name, and its row in `docs/support.md`."""
        return f"d{self.debian}-{self.firmware}-{self.layout}-{self.file_system}"

    @property
    def disks(self) -> int:
        return LAYOUTS[self.layout]


def _shapes(*names: str) -> tuple[Shape, ...]:
    rows = (name.removeprefix("d").split("-") for name in names)
    return tuple(Shape(int(debian), firmware, layout, kind) for debian, firmware, layout, kind in rows)


# Every value at least once, and what is most of the trouble: a root over two disks under both firmwares.
SHORT = _shapes(
    "d11-bios-lvm2-ext4",
    "d11-uefi-plain-xfs",
    "d12-bios-plain-btrfs",
    "d12-uefi-md-ext4",
    "d13-bios-md-xfs",
    "d13-uefi-lvm-btrfs",
)
# With them, every Debian with every firmware and every file system, and every layout with each of the three.
ALL = SHORT + _shapes(
    "d11-bios-md-btrfs",
    "d11-bios-lvm-xfs",
    "d11-uefi-md-ext4",
    "d11-uefi-lvm2-btrfs",
    "d12-bios-lvm-ext4",
    "d12-bios-lvm2-xfs",
    "d12-uefi-lvm-xfs",
    "d12-uefi-plain-btrfs",
    "d13-bios-plain-ext4",
    "d13-bios-md-btrfs",
    "d13-uefi-lvm2-ext4",
    "d13-uefi-plain-xfs",
)


def chosen(words: str) -> tuple[Shape, ...]:
    """Return all shapes, the "short" list, or those that are named, in the order of `ALL`. `ValueError` otherwise."""
    if words in ("all", "short"):
        return ALL if words == "all" else SHORT
    names = set(words.split())
    unknown = names - {shape.name for shape in ALL}
    if unknown or not names:
        raise ValueError(f'no shape is called "{" ".join(sorted(unknown))}": "all", "short", or names as in support.md')
    return tuple(shape for shape in ALL if shape.name in names)
