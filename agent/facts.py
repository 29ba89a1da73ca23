"""Facts of this server: for the installation (`probe`), for a stream, and for a cut."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from typing import Any, Dict, List, Optional

from agent.filesystems import parse_mountinfo, swap_areas
from agent.identity import boot_id, disk_facts, product_uuid

_BLOCK = "/sys/class/block"


def firmware() -> str:
    """Return `uefi` or `bios`."""
    return "uefi" if os.path.isdir("/sys/firmware/efi") else "bios"


def cut_facts() -> Dict[str, Any]:
    """Return what a recovery point says about its server."""
    return {
        "hostname": socket.gethostname(),
        "os": _os_name(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "swap": swap_areas(),
        "boot_id": boot_id(),
        "mounts": _mounts(),
    }


def probe(tracefs: str) -> Dict[str, Any]:
    """Return everything that an installation wants to know, without changing anything."""
    return {
        **cut_facts(),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "tracefs": {
            "supported": "tracefs" in _text("/proc/filesystems").split(),
            "mounted": os.path.isdir(f"{tracefs}/instances"),
            "event": os.path.isdir(f"{tracefs}/events/block/block_rq_complete"),
        },
        "openssl": _openssl(),
        "disks": _disks(),
        "firmware": firmware(),
        "product_uuid": product_uuid(),
        "root": os.geteuid() == 0,
    }


def _disks() -> List[Dict[str, Any]]:
    found = []
    for node in sorted(os.listdir(_BLOCK)):
        folder = os.path.join(_BLOCK, node)
        stacked = os.path.exists(f"{folder}/slaves") and os.listdir(f"{folder}/slaves")
        if os.path.exists(f"{folder}/partition") or stacked:
            continue
        size_bytes, serial = disk_facts(f"/dev/{node}")
        if size_bytes:
            found.append({"device": f"/dev/{node}", "size_bytes": size_bytes, "serial": serial})
    return found


def _mounts() -> List[Dict[str, str]]:
    mounts = parse_mountinfo(_text("/proc/self/mountinfo"))
    return [
        {"source": mount.source, "mount": mount.mount_point, "type": mount.kind}
        for mount in mounts
        if mount.source.startswith("/dev/")
    ][:64]


def _os_name() -> str:
    for line in _text("/etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return platform.system()


def _openssl() -> Optional[str]:
    try:
        done = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
