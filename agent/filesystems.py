"""Which file systems lie on the protected disks, from /proc/self/mountinfo and /sys (the parsing is pure).

Rules kept here:
- A *superblock* is frozen once, however often it is mounted, and by a mount that no other one covers.
- Upper before lower: a file system in a loop file before the one that holds the file. Root last.
- Partitions, device mapper, md, loop files and btrfs (whose device number is not its disk's) are followed down to the
  disks. What cannot be frozen is named (here and in `unfrozen`), never left out silently.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

BLOCK = "/sys/class/block"
MAX_LAYERS = 8
MULTI_DEVICE = ("btrfs", "bcachefs")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo; `identity` is the kernel's number of the mount."""

    device: Tuple[int, int]
    mount_point: str
    kind: str
    source: str
    read_only: bool
    identity: int = 0


@dataclass(frozen=True)
class FileSystem:
    """A file system on a protected disk; `depth` counts the file systems below it, whose loop file it lies in."""

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
        device, point = (int(major), int(minor)), _plain(fields[4])
        mounts.append(Mount(device, point, rest[0], _plain(rest[1]), "ro" in options, int(fields[0])))
    return mounts


def superblocks(mounts: Iterable[Mount], visible: Callable[[Mount], bool] = lambda _: True) -> List[Mount]:
    """Return one mount for each writable superblock that is visible anywhere: that of the shortest mount point."""
    found: Dict[Tuple[int, int], Mount] = {}
    for mount in mounts:
        if not mount.read_only:
            shortest = found.get(mount.device)
            if (shortest is None or len(mount.mount_point) < len(shortest.mount_point)) and visible(mount):
                found[mount.device] = mount
    return list(found.values())


def in_freezing_order(found: Iterable[FileSystem]) -> List[FileSystem]:
    """Sort for freezing: those in loop files first, then inner mount points before outer ones, root last."""
    return sorted(found, key=lambda each: (-each.depth, -each.mount_point.rstrip("/").count("/"), each.mount_point))


def on_disks(disks: FrozenSet[Tuple[int, int]]) -> List[FileSystem]:
    """Return the writable file systems on `disks` (major, minor), in the order of freezing."""
    depths: Dict[Tuple[int, int], int] = {}
    ours = []
    for mount in mounts_now():
        found = [_depth(device, disks, 0, 0) for device in devices_of(mount)]
        depth = max((each for each in found if each is not None), default=None)
        if depth is not None:
            depths[mount.device] = depth
            ours.append(mount)
    # No other mount point is opened: it may lie on a server that is away.
    visible = superblocks(ours, _visible)
    return in_freezing_order(FileSystem(each.mount_point, each.kind, depths[each.device]) for each in visible)


def mounts_now() -> List[Mount]:
    """Return what is mounted where the agent sees it."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())


def _visible(mount: Mount) -> bool:
    """Tell whether its mount point leads to it, and not to a mount that covers it."""
    try:
        descriptor = os.open(mount.mount_point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        told = re.search(r"^mnt_id:\s*(\d+)$", _text(f"/proc/self/fdinfo/{descriptor}"), re.MULTILINE)
        return told is None or int(told.group(1)) == mount.identity
    finally:
        os.close(descriptor)


def arrays_on(disks: FrozenSet[Tuple[int, int]]) -> List[str]:
    """Return the `array_state` files of the md arrays that lie on `disks`."""
    found = []
    for name in sorted(os.listdir(BLOCK)):
        state = f"{BLOCK}/{name}/md/array_state"
        if os.path.exists(state) and _depth(number(f"{BLOCK}/{name}/dev"), disks, 0, 0) is not None:
            found.append(state)
    return found


def swaps_on(disks: FrozenSet[Tuple[int, int]]) -> List[str]:
    """Return the swap areas that lie on `disks`: they are written whether or not anything is frozen."""
    return [
        path for path in swap_areas() if any(_depth(device, disks, 0, 0) is not None for device in devices_under(path))
    ]


def swap_areas() -> List[str]:
    """Return the paths of all swap areas."""
    try:
        with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return []
    return [_plain(line.split()[0]) for line in lines if line.strip()]


def devices_under(path: str) -> Set[Tuple[int, int]]:
    """Return the block devices that a path's content lies on: itself, or those of its file system."""
    try:
        facts = os.stat(path)
    except OSError:
        return set()  # deleted, or in another namespace
    device = facts.st_rdev if stat.S_ISBLK(facts.st_mode) else facts.st_dev
    if os.major(device):
        return {(os.major(device), os.minor(device))}
    # btrfs: the number of its subvolume is nobody's device, so the mount that holds the path tells.
    holding = [mount for mount in mounts_now() if _holds(mount.mount_point, os.path.realpath(path))]
    return devices_of(max(holding, key=lambda mount: len(mount.mount_point))) if holding else set()


def _holds(mount_point: str, path: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _depth(device: Tuple[int, int], disks: FrozenSet[Tuple[int, int]], depth: int, layer: int) -> Optional[int]:
    """Return how many loop files lie between `device` and `disks`, None when it does not lie on them."""
    if device in disks:
        return depth
    if layer >= MAX_LAYERS:
        return None
    direct, file = _below(device)
    depths = [_depth(below, disks, depth, layer + 1) for below in direct]
    depths += [_depth(below, disks, depth + 1, layer + 1) for below in (devices_under(file) if file else ())]
    return max((each for each in depths if each is not None), default=None)


def _below(device: Tuple[int, int]) -> Tuple[Set[Tuple[int, int]], str]:
    """Return the devices directly below a device, and its file if it is a loop device."""
    folder = os.path.realpath(f"/sys/dev/block/{device[0]}:{device[1]}")
    found = set()
    if os.path.exists(f"{folder}/partition"):
        found.add(number(f"{os.path.dirname(folder)}/dev"))
    elif os.path.isdir(f"{folder}/slaves"):
        found |= {number(f"{folder}/slaves/{name}/dev") for name in os.listdir(f"{folder}/slaves")}
    return {each for each in found if each != (0, 0)}, _text(f"{folder}/loop/backing_file")


def devices_of(mount: Mount) -> Set[Tuple[int, int]]:
    """Return the block devices that a mounted file system lies on directly."""
    if mount.device[0]:
        return {mount.device}
    # Any user may mount FUSE and call its source what he likes; the kernel's own multi-device file systems are honest.
    device = _source_device(mount.source) if mount.kind in MULTI_DEVICE else None
    if device is None:
        return set()
    for folder in glob.glob("/sys/fs/btrfs/*/devices"):
        members = {number(f"{BLOCK}/{name}/dev") for name in os.listdir(folder)}
        if device in members:
            return members
    return {device}


def _source_device(source: str) -> Optional[Tuple[int, int]]:
    if not source.startswith("/dev/"):
        return None
    try:
        number = os.stat(source).st_rdev
    except OSError:
        return None
    return os.major(number), os.minor(number)


def number(path: str) -> Tuple[int, int]:
    """Return the number (major, minor) that a `dev` file of /sys holds; zeros without one."""
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
