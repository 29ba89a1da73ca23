"""Everything that can stand against an installation, by name: the table that `docs/agent-install.md` shows.

A *blocker* stops the installation before anything is changed on the server. A *concern* does not (the site's
servers may start later than the agent), but it is shown by name, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SERVE = "start it (`dr serve`) and open the way; the agent tries on"
_OLD = "a source without one is too old for the agent"

# code -> (blocks, what it means, remedy)
CATALOGUE: Mapping[str, tuple[bool, str, str]] = {
    "no-root": (
        True,
        "the user is not root and cannot become root by sudo",
        "declare ssh.sudoPassword, or allow it without one (`USER ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d), or "
        "declare root",
    ),
    "machine-unsupported": (True, "the processor is not x86-64", "none; only x86-64 servers are recovered so far"),
    "python-missing": (
        True,
        "no Python 3.9 to 3.13 with its whole standard library under /usr/bin",
        f"install it from the distribution (Debian: python3; RHEL 8: python39); {_OLD}",
    ),
    "systemd-missing": (True, "systemd 239 or newer is not the init", "a source without it is too old for the agent"),
    "openssl-missing": (True, "the program openssl is not there; it makes the key", "install the package openssl"),
    "tracefs-missing": (
        True,
        "the kernel offers no tracefs, so writes cannot be seen",
        "boot a kernel with CONFIG_TRACING (every distribution's has it since 4.10)",
    ),
    "tracepoint-missing": (
        True,
        "the tracepoint block:block_rq_complete is not there",
        "boot a kernel with CONFIG_BLK_DEV_IO_TRACE or tracepoints on",
    ),
    "kernel-lockdown": (
        True,
        "the kernel is locked down to confidentiality, which forbids tracing",
        "boot with lockdown=integrity, which Secure Boot is content with",
    ),
    "disk-missing": (True, "a declared device is not there", "declare one of the server's disks"),
    "disk-not-whole": (True, "a declared device is a partition", "declare the whole disk"),
    "disk-unsupported": (
        True,
        "a declared device is stacked (LVM, md, multipath), memory or not a block device",
        "declare the physical disks below it",
    ),
    "disk-twice": (True, "two declared disks are one device", "declare each disk once"),
    "disk-multipath": (
        True,
        "a declared disk is one path of a multipath device: writes that take another path would be missed",
        "none so far; take the disk out of multipath (`blacklist` in multipath.conf) if it has one path only",
    ),
    "disk-unseen": (
        True,
        "a declared disk's writes do not pass the tracepoint (an NVMe multipath head, or a driver without requests)",
        "for NVMe boot with nvme_core.multipath=N; for others none",
    ),
    "sector-size": (
        True,
        "a declared disk has logical sectors of 4,096 bytes; Azure's have 512, so its partitions would not be found",
        "none so far, unless the disk can be reformatted to 512-byte sectors",
    ),
    "disk-too-large": (
        True,
        "a disk is larger than Azure takes: 8 TiB, or to boot from 2,048 GiB by BIOS and 4,095 GiB by UEFI",
        "move its data to smaller disks; leave one that may be lost out of the declaration",
    ),
    "disk-incomplete": (
        True,
        "what lies on a declared disk lies on an undeclared one as well (LVM, md, btrfs): each alone is worthless",
        "declare the other disk too",
    ),
    "system-undeclared": (
        True,
        "/, /boot or /boot/efi is on an undeclared disk: the recovered VM would not boot",
        "declare that disk",
    ),
    "mount-undeclared": (
        True,
        "/etc/fstab wants a file system of an undeclared disk: the recovered VM would wait for it and not come up",
        "declare the disk, or give the entry in /etc/fstab the option nofail",
    ),
    "boot-disk-not-first": (
        True,
        "the server boots from another disk than the first declared one, which becomes the VM's OS disk",
        "declare the boot disk first",
    ),
    "firmware-differs": (
        True,
        "the server boots by another firmware than declared; the recovered VM would not boot",
        "correct target.firmware",
    ),
    "hardware-changed": (
        True,
        "the server is not the hardware that the installed agent belongs to: a recovered copy or replaced parts",
        "is it the copy, correct ssh.address; else take the server out of the declaration, `pulumi up`, and put it in "
        "again",
    ),
    "other-site": (
        True,
        "the agent of another site, or of another server of this one, is installed",
        "is the address right, take the server out of the other declaration first (`pulumi up` there)",
    ),
    "clock-skew": (True, "the server's clock is more than 5 minutes off", "let it keep time (chrony, timesyncd)"),
    "space-short": (True, "too little room where the program and its settings go", "free some space"),
    "space-run": (True, "/run is too small for the maps of the tracker", "enlarge the tmpfs on /run"),
    "place-read-only": (
        True,
        "a folder that the installation writes to is on a read-only file system",
        "mount it writable, if the system is meant to be changed at all",
    ),
    "cache-noexec": (
        True,
        "/var/cache forbids execution, and the agent's compression library is loaded from there",
        "mount it without noexec",
    ),
    "memory-short": (
        True,
        "too little memory is available for agent, rings and maps",
        "free memory, or protect the server by other means",
    ),
    "group-port-taken": (
        True,
        "another program listens at the port on which the members of its replication group reach the server",
        "declare another port in groupPort, or end that program",
    ),
    "configuration-server-unreachable": (
        False,
        "the server cannot reach the configuration server now",
        _SERVE,
    ),
    "process-server-unreachable": (
        False,
        "the server cannot reach a process server now",
        _SERVE,
    ),
    "hardware-unnamed": (
        False,
        "the hardware tells no product UUID, so a copy is known by its disks only",
        "give the machine one, if it is virtual",
    ),
    "disk-name-unstable": (
        False,
        "a disk is declared by a name that the kernel gives anew at each boot, and it has a stable one",
        "declare the stable name",
    ),
    "mirror-half": (
        False,
        "one half of an md mirror is declared, the other is not: the recovered VM runs on a degraded array",
        "declare the other disk too, or leave it so",
    ),
    "data-undeclared": (
        False,
        "a file system is on an undeclared disk: it is not protected",
        "declare the disk, or leave it so",
    ),
    "disk-encrypted": (
        False,
        "a declared disk is encrypted by LUKS: so is its replica, and the VM asks for the passphrase at boot",
        "have it ready for the VM's serial console; a key in this server's TPM does not come along",
    ),
    "layout-unknown": (
        False,
        "how file systems lie on the disks cannot be found out, so nobody knows whether something is left out",
        "install util-linux (lsblk, findmnt)",
    ),
    "clock-unknown": (
        False,
        "the server's clock was not compared with ours (the manual way, or `date` does not work there)",
        "compare them: certificates have a time of validity",
    ),
    "other-agent": (
        False,
        "another agent that follows this server's disks is there",
        "both may run; take the other off once this one has recovery points, for each reads whole disks",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: `cause` says what was seen on this server."""

    code: str
    cause: str
    remedy: str
    blocks: bool

    def __str__(self) -> str:
        return f"{self.code}: {self.cause} (remedy: {self.remedy})"


def finding(code: str, cause: str, remedy: str = "") -> Finding:
    """Return the finding of the table's entry `code`, with a remedy of its own where it knows a better one."""
    blocks, _, general = CATALOGUE[code]
    return Finding(code, cause, remedy or general, blocks)
