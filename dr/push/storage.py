"""Facts of a server's disks: what each declared device is, and how file systems, LVM, md, LUKS lie on them.

Pure commands and parsers, as in `facts.py`. The graph comes from sysfs, so it is the kernel's own view:

    disk <- partition <- md, dm (LVM, LUKS, multipath), bcache <- … <- file system <- mount point
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from dr.push.probes import Output, Probe, words_of


@dataclass(frozen=True, slots=True)
class DiskFact:
    """What the declared device is. `kind`: disk, partition, stacked, unsupported, not-a-device or absent."""

    device: str
    kind: str
    node: str  # resolved, such as /dev/sda
    parent: str  # of a partition
    size_bytes: int
    serial: str
    sector_bytes: int = 512  # logical
    requests: bool = True  # the block layer sees its writes as requests, so the tracepoint fires
    multipath: str = ""  # the multipath device that it is one path of


@dataclass(frozen=True, slots=True)
class WholeDisk:
    """One disk of the server, declared or not. `by_id` is its stable name, empty when it has none."""

    node: str
    size_bytes: int
    by_id: str

    def __str__(self) -> str:
        return f"{self.by_id or self.node} ({size(self.size_bytes)})"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system that is mounted from a block device."""

    target: str
    node: str
    kind: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of /etc/fstab whose device is there."""

    target: str
    node: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How everything lies on the disks; nodes are resolved (/dev/dm-0)."""

    below: Mapping[str, tuple[str, ...]]  # node -> what it lies on directly; a disk has nothing
    names: Mapping[str, str]  # node -> what people call it ("vg0-root"), where that differs
    kinds: Mapping[str, str]  # node -> "crypto_LUKS", "LVM2_member", "ext4", …
    mirrors: frozenset[str]  # md devices of level raid1
    together: tuple[tuple[str, ...], ...]  # nodes of one btrfs
    mounts: tuple[Mount, ...]
    fstab: tuple[Entry, ...]

    def disks(self, node: str) -> frozenset[str]:
        """Return the disks below a node; of a btrfs on several devices, all of theirs."""
        group = next((nodes for nodes in self.together if node in nodes), (node,))
        return frozenset().union(*(self._roots(each, frozenset()) for each in group))

    def way(self, node: str) -> frozenset[str]:
        """Return the node and everything below it."""
        found: set[str] = set()
        rest = [node]
        while rest:
            each = rest.pop()
            if each not in found:
                found.add(each)
                rest += self.below.get(each, ())
        return frozenset(found)

    def called(self, node: str) -> str:
        return self.names.get(node, node)

    def _roots(self, node: str, seen: frozenset[str]) -> frozenset[str]:
        below = [each for each in self.below.get(node, ()) if each not in seen]
        if not below:
            return frozenset((node,))
        return frozenset().union(*(self._roots(each, seen | {node}) for each in below))


def size(size_bytes: int) -> str:
    """Return a size as people say it."""
    return f"{size_bytes / 2**30:.0f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"


def parse_disk(device: str, output: Output) -> DiskFact:
    """Lines `word value`; see `disk_probe`."""
    words = words_of(output)
    sectors, sector = words.get("sectors", ""), words.get("sector", "")
    return DiskFact(
        device=device,
        kind=words.get("kind", "absent"),
        node=words.get("node", ""),
        parent=words.get("parent", ""),
        size_bytes=int(sectors) * 512 if sectors.isdigit() else 0,
        serial=words.get("serial", "").strip(),
        sector_bytes=int(sector) if sector.isdigit() else 512,
        requests=words.get("requests") != "no",
        multipath=words.get("multipath", ""),
    )


def disk_probe(name: str, device: str) -> Probe[DiskFact]:
    """Look at one declared device; the serial's sources are those of `docs/architecture.md`, "Agent"."""
    command = f"""d={shlex.quote(device)}; [ -e "$d" ] || {{ echo kind absent; exit; }}
r=$(readlink -f -- "$d"); n=${{r##*/}}; s=/sys/class/block/$n; echo node "$r"
[ -b "$r" ] && [ -d "$s" ] || {{ echo kind not-a-device; exit; }}
echo sectors "$(cat "$s/size")"
for f in serial device/serial device/wwid wwid; do
  [ -r "$s/$f" ] || continue; v=$(tr -d '\\000' <"$s/$f"); case "$v" in *[!\\ ]*) echo "serial $v"; break;; esac
done
case "$n" in zram*|ram*|pmem*|sr*|fd*) echo kind unsupported; exit;; esac
if [ -e "$s/partition" ]; then p=$(readlink -f "$s/.."); echo parent "/dev/${{p##*/}}"; echo kind partition
elif [ -n "$(ls "$s/slaves")" ]; then echo kind stacked
else
  echo sector "$(cat "$s/queue/logical_block_size")"
  [ -d "$s/mq" ] || grep -q '\\[' "$s/queue/scheduler" || echo requests no
  for h in "$s"/holders/*; do grep -q ^mpath- "$h/dm/uuid" && echo multipath "$(cat "$h/dm/name")"; done
  echo kind disk
fi"""
    return Probe(f"disk-{name}", command, lambda output: parse_disk(device, output))


def parse_whole_disks(output: Output) -> tuple[WholeDisk, ...]:
    """Each line: node, sectors of 512 bytes, stable name or nothing."""
    rows = (line.split() for line in output.lines)
    return tuple(
        WholeDisk(row[0], int(row[1]) * 512, row[2] if len(row) > 2 else "")
        for row in rows
        if len(row) in (2, 3) and row[1].isdigit() and int(row[1]) > 0
    )


def parse_layout(output: Output) -> Layout | None:
    """Lines `below`, `name`, `kind`, `mirror`, `btrfs`, `mount`, `fstab`; None when there is not one disk."""
    rows: dict[str, list[list[str]]] = {}
    for line in output.lines:
        word, *fields = line.split()
        rows.setdefault(word, []).append(fields)
    below: dict[str, tuple[str, ...]] = {}
    for fields in rows.get("below", ()):
        if fields:
            below[fields[0]] = (*below.get(fields[0], ()), *fields[1:])
    groups: dict[str, tuple[str, ...]] = {}
    for identity, node in _of(rows, "btrfs", 2):
        groups[identity] = (*groups.get(identity, ()), node)
    if not below:
        return None
    return Layout(
        below=below,
        names={fields[0]: fields[1] for fields in _of(rows, "name", 2)},
        kinds={fields[0]: fields[1] for fields in _of(rows, "kind", 2)},
        mirrors=frozenset(node for (node,) in _of(rows, "mirror", 1)),
        together=tuple(nodes for nodes in groups.values() if len(nodes) > 1),
        mounts=tuple(Mount(_plain(target), node, kind) for target, node, kind in _of(rows, "mount", 3)),
        fstab=tuple(Entry(_plain(t), node, tuple(o.split(","))) for t, node, o in _of(rows, "fstab", 3)),
    )


def _of(rows: Mapping[str, list[list[str]]], word: str, count: int) -> list[list[str]]:
    return [fields for fields in rows.get(word, ()) if len(fields) == count]


def _plain(target: str) -> str:
    return target.replace("\\x20", " ").replace("\\x09", "\t")


WHOLE_DISKS = Probe(
    "whole-disks",
    """for b in /sys/block/*; do
  case "${b##*/}" in loop*|ram*|zram*|dm-*|md*|sr*|fd*|nbd*|bcache*) continue;; esac
  n=/dev/${b##*/}; i=; for l in /dev/disk/by-id/*; do [ "$(readlink -f "$l")" = "$n" ] && { i=$l; break; }; done
  echo "$n $(cat $b/size) $i"
done""",
    parse_whole_disks,
)
# Whose file system a FUSE mount says it is, any user may choose; the kernel's own are honest.
LAYOUT = Probe(
    "layout",
    """for s in /sys/class/block/*; do
  n=/dev/${s##*/}; b=; [ -e "$s/partition" ] && { p=$(readlink -f "$s/.."); b=" /dev/${p##*/}"; }
  for l in "$s"/slaves/*; do [ -e "$l" ] && b="$b /dev/${l##*/}"; done
  echo "below $n$b"
  [ -r "$s/dm/name" ] && echo "name $n $(cat "$s/dm/name")"
  [ "$(cat "$s/md/level")" = raid1 ] && echo "mirror $n"
done
lsblk -rnpo KNAME,FSTYPE | while read -r n f; do [ -n "$f" ] && echo "kind $n $f"; done
for d in /sys/fs/btrfs/*/devices/*; do
  [ -e "$d" ] || continue; u=${d%/devices/*}; echo "btrfs ${u##*/} /dev/${d##*/}"
done
findmnt -rno TARGET,SOURCE,FSTYPE | while read -r t s f; do
  case "$f" in fuse*) continue;; esac
  case "$s" in /dev/*) echo "mount $t $(readlink -f "${s%%[*}") $f";; esac
done
findmnt --fstab --evaluate -rno TARGET,SOURCE,OPTIONS | while read -r t s o; do
  case "$s" in /dev/*) [ -e "$s" ] && echo "fstab $t $(readlink -f "$s") $o";; esac
done
true""",
    parse_layout,
)
