"""Which file systems lie on the protected disks, from /proc/self/mountinfo and /sys (the parsing is pure).

Rules kept here:
- A *superblock* is frozen once, however often it is mounted; upper before lower, root last.
- Partitions, device mapper, md, loop files and btrfs (whose device number is not its disk's) are followed down to the
  disks. What cannot be frozen is named, never left out silently.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

BLOCK = "/sys/class/block"
MAX_DEPTH = 8
MULTI_DEVICE = ("btrfs", "bcachefs")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo."""

    device: Tuple[int, int]
    mount_point: str
    kind: str
    source: str
    read_only: bool


@dataclass(frozen=True)
class FileSystem:
    """A file system on a protected disk; `depth` counts the layers between them."""

    mount_point: str
    kind: str
    depth: int


def parse_mountinfo(text: str) -> List[Mount]:
    """Parse /proc/self/mountinfo; `read_only` is the superblock's, not the mount's."""
    mounts = []
    for line in text.split("\n"):  # only this ends a line: a mount point may hold what `splitlines` would split at
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        major, _, minor = fields[2].partition(":")
        options = rest[2].split(",")
        mounts.append(Mount((int(major), int(minor)), _plain(fields[4]), rest[0], _plain(rest[1]), "ro" in options))
    return mounts


def superblocks(mounts: Iterable[Mount]) -> List[Mount]:
    """Return one mount for each writable superblock, in the order of mounting; the last mount of each is visible."""
    found: Dict[Tuple[int, int], Mount] = {}
    for mount in mounts:
        if not mount.read_only:
            shortest = found.get(mount.device)
            if shortest is None or len(mount.mount_point) < len(shortest.mount_point):
                found[mount.device] = mount
    return list(found.values())


def in_freezing_order(found: Iterable[FileSystem]) -> List[FileSystem]:
    """Sort for freezing: deepest stack first, then inner mount points before outer ones, root last."""
    return sorted(found, key=lambda each: (-each.depth, -each.mount_point.rstrip("/").count("/"), each.mount_point))


def on_disks(disks: FrozenSet[Tuple[int, int]]) -> List[FileSystem]:
    """Return the writable file systems on `disks` (major, minor), in the order of freezing."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = superblocks(parse_mountinfo(file.read()))
    found = []
    for mount in mounts:
        device = _device_of(mount)
        depth = _depth(device, disks, 0) if device else None
        if depth is not None:
            found.append(FileSystem(mount.mount_point, mount.kind, depth))
    return in_freezing_order(found)


def arrays_on(disks: FrozenSet[Tuple[int, int]]) -> List[str]:
    """Return the `array_state` files of the md arrays that lie on `disks`."""
    found = []
    for name in sorted(os.listdir(BLOCK)):
        state = f"{BLOCK}/{name}/md/array_state"
        if os.path.exists(state) and _depth(_number(f"{BLOCK}/{name}/dev"), disks, 0) is not None:
            found.append(state)
    return found


def swaps_on(disks: FrozenSet[Tuple[int, int]]) -> List[str]:
    """Return the swap areas that lie on `disks`: they are written whether or not anything is frozen."""
    found = []
    for path in swap_areas():
        try:
            facts = os.stat(path)
        except OSError:
            continue
        number = facts.st_rdev or facts.st_dev
        if _depth((os.major(number), os.minor(number)), disks, 0) is not None:
            found.append(path)
    return found


def swap_areas() -> List[str]:
    """Return the paths of all swap areas."""
    try:
        with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return []
    return [_plain(line.split()[0]) for line in lines if line.strip()]


def _depth(device: Tuple[int, int], disks: FrozenSet[Tuple[int, int]], layer: int) -> Optional[int]:
    if device in disks:
        return layer
    if layer >= MAX_DEPTH:
        return None
    depths = [_depth(below, disks, layer + 1) for below in _below(device)]
    return max((depth for depth in depths if depth is not None), default=None)


def _below(device: Tuple[int, int]) -> Set[Tuple[int, int]]:
    folder = os.path.realpath(f"/sys/dev/block/{device[0]}:{device[1]}")
    found = set()
    if os.path.exists(f"{folder}/partition"):
        found.add(_number(f"{os.path.dirname(folder)}/dev"))
    elif os.path.isdir(f"{folder}/slaves"):
        found |= {_number(f"{folder}/slaves/{name}/dev") for name in os.listdir(f"{folder}/slaves")}
    backing = _text(f"{folder}/loop/backing_file")
    if backing:
        try:
            number = os.stat(backing).st_dev
            found.add((os.major(number), os.minor(number)))
        except OSError:
            pass  # a backing file that was deleted or lies in another namespace
    return {each for each in found if each != (0, 0)}


def _device_of(mount: Mount) -> Optional[Tuple[int, int]]:
    if mount.device[0]:
        return mount.device
    # Any user may mount FUSE and call its source what he likes; the kernel's own multi-device file systems are honest.
    return _source_device(mount.source) if mount.kind in MULTI_DEVICE else None


def _source_device(source: str) -> Optional[Tuple[int, int]]:
    if not source.startswith("/dev/"):
        return None
    try:
        number = os.stat(source).st_rdev
    except OSError:
        return None
    return os.major(number), os.minor(number)


def _number(path: str) -> Tuple[int, int]:
    major, _, minor = _text(path).partition(":")
    return (int(major), int(minor)) if minor else (0, 0)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
