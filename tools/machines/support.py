"""`docs/support.md`: which servers were protected, recovered and booted; written from what was measured (pure).

No dates, and seconds only as tens, so that it changes when something has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.machines.shape import ALL, SHORT, Shape

_HEAD = f"""# What has been protected, replicated, failed over and booted

Written by `make prove-matrix`; do not edit. Each row is a virtual machine that plays a physical server, laid out by its
own Debian's tools. It ran and wrote all the time; `pulumi up` protected it; its replica became complete; a recovery
point was equal, byte by byte, to a picture that QEMU took of all its disks at the same instant; its site burnt; the
recovery plan failed over; and what booted on target local passed its health check, held every order from before the
point, and had the kernel, Python, firmware, layout and root file system of its row (asked over SSH). `make test` does
the same with the first {len(SHORT)} rows.

These are not all combinations: every Debian is there with every firmware and every file system, and every layout with
every Debian, every firmware and every file system.

| layout | the root lies on |
| --- | --- |
| plain | a partition of one disk |
| lvm | a logical volume on one disk |
| lvm2 | one logical volume that reaches over two disks |
| md | a RAID 1 of two disks |

BIOS servers have an MBR label, UEFI servers a GPT and an EFI system partition. Seconds are rounded up to tens, and of
{len(SHORT)} machines side by side on emulated processors: they show that nothing hangs, not how fast it is.

| server | Debian | kernel | Python | firmware | layout | file system | result | replication s | boot s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
_TAIL = """
None of this has met the real Azure, real hardware, or a kernel that is not Debian's own (`linux-image-cloud-amd64`).
The initramfs of these machines holds the drivers of the hardware they wake up on: virtio here, Hyper-V in Azure.
"""
_CELLS = 10
_RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Row:
    """One server that was recovered; `kernel` and `python` are the first two numbers of the version."""

    shape: Shape
    kernel: str
    python: str
    replication_seconds: int
    boot_seconds: int


def page(rows: Sequence[Row]) -> str:
    """Return the page for `rows`, in the order of `ALL`."""
    ordered = sorted(rows, key=lambda row: ALL.index(row.shape))
    return _HEAD + "".join(f"| {' | '.join(_cells(row))} |\n" for row in ordered) + _TAIL


def read(text: str) -> list[Row]:
    """Return the rows of a page; their seconds are those that it shows."""
    lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [
        Row(Shape(int(cells[1]), cells[4], cells[5], cells[6]), cells[2], cells[3], int(cells[8]), int(cells[9]))
        for cells in lines
        if len(cells) == _CELLS and cells[7] == _RECOVERED
    ]


def _cells(row: Row) -> list[str]:
    shape = row.shape
    what = [shape.name, str(shape.debian), row.kernel, row.python, shape.firmware, shape.layout, shape.file_system]
    return [*what, _RECOVERED, _tens(row.replication_seconds), _tens(row.boot_seconds)]


def _tens(seconds: int) -> str:
    return str(-(-seconds // 10) * 10)
