"""`docs/support.md`: which servers were protected, recovered and booted; written from what was measured (pure).

A row is the last time that a shape came through; one that never did is named below the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tools.machines.shape import ALL, SHORT, Shape

_HEAD = f"""# What has been protected, replicated, failed over and booted

Written by `make prove-matrix`; do not edit. Each row is a virtual machine that plays a physical server and was laid out
by its own Debian's tools. From the first byte that was sent until it was killed, its shop took orders:

1. `pulumi up` put the agent on it, and its replica became complete;
2. a recovery point was made: equal, chunk by chunk, to a picture that QEMU took of all its disks at that instant;
3. it was killed, and `dr failover` started it from that point on target local;
4. it answered its health check and held every order from before the point, and nothing else in their place; asked over
   SSH, it had the kernel, Python, firmware, layout and root file system of its row. Then its row was written.

`make test` does the same with the first {len(SHORT)} rows, which hold every value at least once. There are {len(ALL)}
shapes, which are not all combinations: every Debian with every firmware and every file system, and every layout with
every Debian, every firmware and every file system.

The six took 28 minutes on two cores that others used too (load 5 to 15), the other twelve 80 (load 10 to 25). The
first time their disks are laid out as well, 1.5 to 7 minutes for each; they stay in the cache.

| layout | the root lies on |
| --- | --- |
| plain | a partition of one disk |
| lvm | a logical volume on one disk |
| lvm2 | one logical volume that reaches over two disks |
| md | a RAID 1 of two disks |

BIOS servers have an MBR label, UEFI servers a GPT and an EFI system partition. *Replication* is from the end of
`pulumi up` to the complete replica, *boot* from the VM's start to its passed health check. Both are rounded up to tens
of seconds and were taken with three machines side by side on two cores that emulate their processors, and other work
beside them: they show that nothing hangs, not how fast it is.

| server | Debian | kernel | Python | firmware | layout | file system | result | replication | boot | last run |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
_TAIL = """
None of this has met the real Azure, real hardware, or a kernel that is not Debian's own (`linux-image-cloud-amd64`).
The initramfs of these machines holds the drivers of the hardware they wake up on: virtio here, Hyper-V in Azure.
"""
_CELLS = 11
_RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Row:
    """One server that was recovered; `kernel` and `python` are the first two numbers of the version."""

    shape: Shape
    kernel: str
    python: str
    replication_seconds: int
    boot_seconds: int
    date: str  # of the run, YYYY-MM-DD


def page(rows: Iterable[Row]) -> str:
    """Return the page for `rows`, in the order of `ALL`."""
    found = {row.shape: row for row in rows}
    missing = ", ".join(shape.name for shape in ALL if shape not in found)
    table = "".join(f"| {' | '.join(_cells(found[shape]))} |\n" for shape in ALL if shape in found)
    return _HEAD + table + (f"\nNot run to its end yet: {missing}.\n" if missing else "") + _TAIL


def read(text: str) -> list[Row]:
    """Return the rows of a page; their seconds are those that it shows."""
    lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [
        Row(
            Shape(int(cells[1]), cells[4], cells[5], cells[6]),
            kernel=cells[2],
            python=cells[3],
            replication_seconds=int(cells[8].removesuffix(" s")),
            boot_seconds=int(cells[9].removesuffix(" s")),
            date=cells[10],
        )
        for cells in lines
        if len(cells) == _CELLS and cells[7] == _RECOVERED
    ]


def _cells(row: Row) -> list[str]:
    shape = row.shape
    what = [shape.name, str(shape.debian), row.kernel, row.python, shape.firmware, shape.layout, shape.file_system]
    return [*what, _RECOVERED, _tens(row.replication_seconds), _tens(row.boot_seconds), row.date]


def _tens(seconds: int) -> str:
    return f"{-(-seconds // 10) * 10} s"
