"""What speaks against an installation because of the disks: what cannot be tracked, what would be missing, what would
not boot (pure). The names and remedies are in `catalogue.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dr.compile.blueprint import ProtectionBlueprint
from dr.compile.limits import wrong_with_disk
from dr.push.catalogue import Finding, finding
from dr.push.facts import Facts
from dr.push.storage import DiskFact, Layout, Mount, WholeDisk

SYSTEM = ("/", "/boot", "/boot/efi")
NOT_DISKS = ("loop", "sr", "fd", "zram", "ram", "nbd")


def disk_findings(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    """Yield everything about the declared disks, alone and together."""
    there = ", ".join(map(str, facts.whole_disks)) or "none was found"
    for name, disk in facts.disks.items():
        yield from _kind(name, disk, there)
    yield from _twice(facts.disks)
    yield from _limits(protection, facts)
    yield from _stable_names(facts)
    if protection.firmware is not None and protection.firmware != facts.firmware:
        yield finding("firmware-differs", f"declared is {protection.firmware}, the server boots by {facts.firmware}")
    declared = {disk.node: name for name, disk in facts.disks.items() if disk.kind == "disk" and not disk.multipath}
    if facts.layout is None:
        if facts.privilege != "none":
            yield finding("layout-unknown", "sysfs, lsblk and findmnt tell of no block device")
    elif len(declared) == len(facts.disks):  # else what is missing has its own finding
        yield from _layout(_View(facts.layout, declared, {disk.node: disk for disk in facts.whole_disks}))


def _kind(name: str, disk: DiskFact, there: str) -> Iterator[Finding]:
    seen = f"{name}: {disk.device}"
    if disk.kind == "absent":
        yield finding("disk-missing", f"{seen} is not there", f"declare one of its disks: {there}")
    elif disk.kind == "partition":
        yield finding("disk-not-whole", f"{seen} is a partition", f"declare the whole disk, {disk.parent}")
    elif disk.kind != "disk" or disk.size_bytes == 0:
        kind = "empty" if disk.kind == "disk" else disk.kind.replace("-", " ")
        yield finding("disk-unsupported", f"{seen} ({disk.node}) is {kind}")
    elif disk.multipath:
        yield finding("disk-multipath", f"{seen} ({disk.node}) is one path of {disk.multipath}")
    elif not disk.requests:
        yield finding("disk-unseen", f"{seen} ({disk.node}) has no request queue")


def _twice(disks: Mapping[str, DiskFact]) -> Iterator[Finding]:
    counts = Counter(disk.node for disk in disks.values() if disk.kind == "disk")
    for node, count in counts.items():
        if count > 1:
            names = " and ".join(name for name, disk in disks.items() if disk.node == node)
            yield finding("disk-twice", f"{names} are both {node}")


def _limits(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    for index, (name, disk) in enumerate(facts.disks.items()):
        if disk.sector_bytes != 512:
            yield finding("sector-size", f"{name}: {disk.node} has logical sectors of {disk.sector_bytes} bytes")
        firmware = protection.firmware or facts.firmware
        wrong = wrong_with_disk(disk.size_bytes, boots=index == 0, firmware=firmware)  # the first one boots
        if wrong:
            yield finding("disk-too-large", f"{name} {wrong}")


def _stable_names(facts: Facts) -> Iterator[Finding]:
    stable = {disk.node: disk.by_id for disk in facts.whole_disks if disk.by_id}
    for name, disk in facts.disks.items():
        if disk.device == disk.node and disk.node in stable:
            cause = f"{name}: {disk.node} may be another disk after the next boot"
            yield finding("disk-name-unstable", cause, f"declare {stable[disk.node]}")


@dataclass(frozen=True, slots=True)
class _View:
    """The layout with the eyes of somebody who will have the declared disks only."""

    layout: Layout
    declared: Mapping[str, str]  # node -> declared name, in the order of the declaration
    known: Mapping[str, WholeDisk]

    def away(self, node: str) -> frozenset[str]:
        """Return the undeclared disks that a node lies on."""
        return frozenset(d for d in self.layout.disks(node) - self.declared.keys() if not d[5:].startswith(NOT_DISKS))

    def here(self, node: str) -> frozenset[str]:
        """Return the declared disks that a node lies on."""
        return self.layout.disks(node) & self.declared.keys()

    def named(self, nodes: frozenset[str]) -> str:
        return ", ".join(str(self.known.get(node, node)) for node in sorted(nodes))


def _layout(view: _View) -> Iterator[Finding]:
    torn = _torn(view)
    for away, nodes in sorted(torn.items(), key=lambda item: sorted(item[1])):
        names = ", ".join(sorted(map(view.layout.called, nodes)))
        here = " and ".join(sorted({view.declared[disk] for node in nodes for disk in view.here(node)}))
        code = "mirror-half" if all(_mirrored(view.layout, node) for node in nodes) else "disk-incomplete"
        yield finding(code, f"{names}: on {here}, and on {view.named(away)}, which is not declared")
    left_out: dict[tuple[str, frozenset[str]], list[str]] = {}
    for mount in view.layout.mounts:
        away = view.away(mount.node)
        if away and away not in torn:
            targets = left_out.setdefault((_left_out(view.layout, mount), away), [])
            targets += [mount.target] if mount.target not in targets else []
    for (code, away), targets in left_out.items():
        verb = "is" if len(targets) == 1 else "are"
        yield finding(code, f"{', '.join(targets)} {verb} on {view.named(away)}, which is not declared")
    yield from _boot_disk(view)
    yield from _encrypted(view)


def _torn(view: _View) -> Mapping[frozenset[str], set[str]]:
    """Return what lies on a declared disk and on another one as well: the undeclared disks, and the nodes on them."""
    torn: dict[frozenset[str], set[str]] = {}
    for node in {*view.layout.below, *(each for group in view.layout.together for each in group)}:
        away = view.away(node)
        if away and view.here(node):
            torn.setdefault(away, set()).add(node)
    return torn


def _mirrored(layout: Layout, node: str) -> bool:
    return bool(layout.way(node) & layout.mirrors)


def _left_out(layout: Layout, mount: Mount) -> str:
    if mount.target in SYSTEM:
        return "system-undeclared"
    entries = (each for each in layout.fstab if (each.target, each.node) == (mount.target, mount.node))
    wanted = any(not {"nofail", "noauto"} & set(entry.options) for entry in entries)
    return "mount-undeclared" if wanted else "data-undeclared"


def _boot_disk(view: _View) -> Iterator[Finding]:
    """The first declared disk becomes the OS disk of the VM, which is the only one that Azure boots from."""
    targets = {mount.target: mount.node for mount in view.layout.mounts}
    boot = next((target for target in reversed(SYSTEM) if target in targets), None)
    first = next(iter(view.declared))
    if boot is None or first in view.layout.disks(targets[boot]):
        return
    for disk in sorted(view.here(targets[boot]))[:1]:
        name = view.declared[disk]
        cause = f"the first declared disk is {view.declared[first]} ({first}), and {boot} is on {name} ({disk})"
        yield finding("boot-disk-not-first", cause, f"declare {name} first")


def _encrypted(view: _View) -> Iterator[Finding]:
    for node, kind in sorted(view.layout.kinds.items()):
        if kind == "crypto_LUKS" and view.here(node):
            above = [mount.target for mount in view.layout.mounts if node in view.layout.way(mount.node)]
            under = f"; on it are {', '.join(dict.fromkeys(above))}" if above else ""
            yield finding("disk-encrypted", f"{view.layout.called(node)} is encrypted by LUKS{under}")
