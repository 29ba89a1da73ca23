"""Whether this hardware is the one that the agent was installed on.

A recovered VM boots from the replicated disk and so *is* the agent, certificate included. Only its hardware tells the
two apart: product UUID and the disks' sizes and serials. On other hardware the agent is a `copy` and sends nothing.
"""

from __future__ import annotations

import os
from typing import Mapping, Tuple

from agent.config import Hardware

PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"
_SERIALS = ("serial", "device/serial", "device/wwid", "wwid")


def product_uuid() -> str:
    """Return the machine's SMBIOS UUID in lower case, or the empty string."""
    return _first_line(PRODUCT_UUID).strip().lower()


def disk_facts(device: str) -> Tuple[int, str]:
    """Return size in bytes and serial of a block device; size 0 when it is not there."""
    node = os.path.basename(os.path.realpath(device))
    folder = f"/sys/class/block/{node}"
    size = _first_line(f"{folder}/size").strip()
    serials = (_first_line(f"{folder}/{name}").strip() for name in _SERIALS)
    return int(size or 0) * 512, next((serial for serial in serials if serial), "")


def other_machine(installed: Hardware, disks: Mapping[str, str]) -> str:
    """Say how this machine differs from the one that was installed on; empty when it is the same.

    Where machines have no product UUID, their disks decide.
    """
    uuid = product_uuid()
    if uuid != installed.product_uuid:
        return f"the product UUID is {uuid or 'empty'}, installed on {installed.product_uuid or 'an empty one'}"
    # A recovered server's disks may be larger than the source's: where nothing else tells them apart, size must.
    return "" if uuid else other_disks(installed, disks, may_grow=False)


def other_disks(installed: Hardware, disks: Mapping[str, str], *, may_grow: bool = True) -> str:
    """Say which disks are not the ones that were installed on; empty when all are. One that grew is still the same."""
    found = []
    for name, device in disks.items():
        now = disk_facts(device)
        before = installed.disks.get(name)
        if before is None:
            found.append(f"disk {name} was not there")
        elif not now[0]:
            found.append(f"disk {name} ({device}) is not there")
        elif now != before and not (may_grow and now[1] == before[1] and now[0] > before[0]):
            found.append(f"disk {name} has {now[0]} bytes and serial {now[1]!r}, had {before[0]} and {before[1]!r}")
    return "; ".join(found)


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return _first_line("/proc/sys/kernel/random/boot_id").strip()


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline()
    except OSError:
        return ""
