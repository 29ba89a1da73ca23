"""Whether this hardware is the one that the agent was installed on.

A recovered VM boots from the replicated disk and so *is* the agent, certificate included. Only its hardware tells the
two apart: product UUID and the disks' sizes and serials. On other hardware the agent is a `copy` and sends nothing.
"""

from __future__ import annotations

import os
from typing import List, Mapping, Tuple

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


def differences(installed: Hardware, disks: Mapping[str, str]) -> List[str]:
    """Return how this machine differs from the one that was installed on; empty when it is the same."""
    found = []
    uuid = product_uuid()
    if uuid != installed.product_uuid:
        found.append(f"the product UUID is {uuid or 'empty'}, installed on {installed.product_uuid or 'an empty one'}")
    for name, device in disks.items():
        now = disk_facts(device)
        before = installed.disks.get(name)
        if before is None:
            found.append(f"disk {name} was not there")
        elif now != before:
            found.append(f"disk {name} has {now[0]} bytes and serial {now[1]!r}, had {before[0]} and {before[1]!r}")
    return found


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return _first_line("/proc/sys/kernel/random/boot_id").strip()


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline()
    except OSError:
        return ""
