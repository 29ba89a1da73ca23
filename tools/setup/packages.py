"""Debian packages: installs the missing ones as root, names them exactly otherwise."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess

from dr.errors import PrerequisiteMissing
from tools.setup.step import call

# One line each on what needs it.
NEEDED = (
    "qemu-system-x86",  # virtual machines of target local, of the demo's source and of the tests
    "qemu-utils",  # qemu-img: disks of those machines
    "ovmf",  # UEFI firmware
    "mmdebstrap",  # the source machine's Debian
    "e2fsprogs",  # its file system, and the replay of a journal before a failover's first boot
    "fdisk",  # sfdisk: its partition table
    "dosfstools",  # its EFI system partition
    "mtools",
    "grub-pc-bin",  # its boot loader, for BIOS
    "grub-efi-amd64-bin",  # and for UEFI
    "xfsprogs",  # XFS in tests of freezing, and of files from a point
    "lvm2",  # a volume group over two disks, in the same
    "fuse3",  # the file system of tests/points that forgets what was not synced
    "zstd",
    "openssh-server",  # a real sshd in tests of push installation
    "openssh-client",
    "postgresql",  # real databases in tests of application-consistent points
    "mariadb-server",
    "sudo",  # with and without a password, in the same tests
    "openssl",  # the agent's keys and requests
    "postgresql",  # real databases in tests of SQL checks
    "mariadb-server-core",
)


def install_packages(needed: tuple[str, ...] = NEEDED) -> str:
    """Install what is missing of `needed`; return what was installed."""
    missing = missing_packages(needed)
    if not missing:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PrerequisiteMissing(
            f"these Debian packages are missing: {' '.join(missing)}",
            remedy=f"as root: apt-get update && apt-get install --no-install-recommends {' '.join(missing)}",
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    call(["apt-get", "-q", "update"], environment=environment)
    command = ["apt-get", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600", "install", *missing]
    call(command, environment=environment)
    return f"installed {' '.join(missing)}"


def missing_packages(needed: tuple[str, ...] = NEEDED) -> tuple[str, ...]:
    """Return the needed packages that are not installed."""
    if shutil.which("uv") is None and importlib.util.find_spec("ensurepip") is None:
        needed += ("python3-venv",)  # to install uv in an environment of its own
    return tuple(name for name in needed if name not in _installed(needed))


def _installed(names: tuple[str, ...]) -> set[str]:
    if shutil.which("dpkg-query") is None:
        return set()
    result = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,  # it ends with 1 when any of the names is unknown, and still prints the others
    )
    lines = (line.split() for line in result.stdout.splitlines())
    return {words[0] for words in lines if words[1:] == ["installed"]}
