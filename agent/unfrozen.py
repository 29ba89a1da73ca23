"""Names what may write to the protected disks during a cut although every file system in sight is frozen.

| what | why it is not frozen |
| --- | --- |
| swap | the kernel writes it at any time |
| a file system that is mounted elsewhere only | a container's private mount, `umount -l`: no way in |
| a disk, partition or volume without a mounted one | raw users (a database, a virtual machine) have no freeze |

Rule kept here: an unfrozen writer spoils no point that it did not write to: the cut looks whether any write arrived. So
these are names for a person who reads the manifest, and for the one who wonders why a point was skipped.
"""

from __future__ import annotations

import os
from typing import Dict, FrozenSet, List, Set, Tuple

from agent.filesystems import BLOCK, devices_of, devices_under, mounts_now, number, swap_areas, swaps_on

Device = Tuple[int, int]
# Where the kernel lists its mounted file systems by device, whoever sees them.
MOUNTED = ("/sys/fs/ext4", "/sys/fs/xfs", "/sys/fs/f2fs")
NAMED = 64


def unfrozen(disks: FrozenSet[Device]) -> List[Dict[str, str]]:
    """Return `{"name", "reason"}` for each, the first 64; `disks` are numbers (major, minor)."""
    found = [{"name": f"swap:{path}", "reason": "swap is written at any time"} for path in swaps_on(disks)]
    used: Set[Device] = set()
    for mount in mounts_now():
        used |= devices_of(mount)
    for path in swap_areas():
        used |= devices_under(path)
    for name, device in _leaves(disks):
        if device not in used:
            found.append({"name": _shown(name), "reason": _reason(name)})
    return found[:NAMED]


def _leaves(disks: FrozenSet[Device]) -> List[Tuple[str, Device]]:
    """Return the devices on `disks` that nothing else lies on: disks, partitions, volumes, arrays."""
    waiting = [name for name in os.listdir(BLOCK) if number(f"{BLOCK}/{name}/dev") in disks]
    found: Dict[str, Device] = {}
    seen: Set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        above = _above(name)
        waiting += above
        if not above:
            found[name] = number(f"{BLOCK}/{name}/dev")
    return sorted(found.items())


def _above(name: str) -> List[str]:
    folder = os.path.realpath(f"{BLOCK}/{name}")
    try:
        parts = [part for part in os.listdir(folder) if os.path.exists(f"{folder}/{part}/partition")]
        return parts + (os.listdir(f"{folder}/holders") if os.path.isdir(f"{folder}/holders") else [])
    except OSError:
        return []  # it went meanwhile


def _reason(name: str) -> str:
    if any(os.path.exists(f"{folder}/{name}") for folder in MOUNTED):
        return "its file system is mounted where the agent cannot reach it"
    return "it holds no mounted file system: whoever writes to it is not frozen"


def _shown(name: str) -> str:
    try:
        with open(f"{BLOCK}/{name}/dm/name", encoding="utf-8", errors="replace") as file:
            return f"/dev/mapper/{file.read().strip()}"
    except OSError:
        return f"/dev/{name}"
