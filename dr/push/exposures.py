"""What `systemd-analyze security` still finds exposed of the agent's unit, each with its reason.

`docs/agent-install.md` shows the table; a test on a real machine compares it with what systemd says there.
"""

from __future__ import annotations

from collections.abc import Mapping

# The overall exposure that systemd 252 (Debian 12) computes, 0 to 10; "OK" there is up to 5.
SCORE = 3.7
# systemd's name of the exposure -> why it has to stay
EXPOSURES: Mapping[str, str] = {
    "User=/DynamicUser=": "tracefs, whole disks and FIFREEZE are root's alone",
    "CapabilityBoundingSet=~CAP_SYS_ADMIN": "FIFREEZE, FITHAW and tracefs ask for it",
    "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)": "to open mount points that root has no rights on, for "
    "freezing them",
    "CapabilityBoundingSet=~CAP_IPC_LOCK": "mlockall: an agent that is paged out while it has frozen / never wakes",
    "CapabilityBoundingSet=~CAP_SYS_(NICE|RESOURCE)": "the watchdogs that thaw must run when nothing else does",
    "CapabilityBoundingSet=~CAP_KILL": "to end its own watchdogs",
    "DeviceAllow=": "it reads disks; the list lets it read block devices and write none",
    "PrivateDevices=": "would hide the disks",
    "ProtectClock=": "implies a list of devices without the disks; the clock's system calls and capability are taken "
    "away all the same",
    "ProtectKernelTunables=": "makes tracefs read-only",
    "ProtectHome=": "`yes` lays another file system over /home, which must be frozen; it is read-only",
    "PrivateTmp=": "lays another file system over /tmp, which must be frozen",
    "RootDirectory=/RootImage=": "as above, for the whole system",
    "PrivateUsers=": "capabilities of another user namespace freeze nothing",
    "ProcSubset=": "it reads /proc/swaps, /proc/filesystems and the id of the boot",
    "MemoryDenyWriteExecute=": "ctypes, which calls the kernel for it, makes closures",
    "PrivateNetwork=": "it sends what changed",
    "RestrictAddressFamilies=~AF_(INET|INET6)": "it sends what changed",
    "RestrictAddressFamilies=~AF_UNIX": "names are resolved by way of it",
    "RestrictAddressFamilies=~AF_NETLINK": "names are resolved by way of it",
    "IPAddressDeny=": "the site's servers may be declared by name",
    "SystemCallFilter=~@debug": "the group holds perf_event_open, by which the tracker attaches",
    "SystemCallFilter=~@privileged": "the group holds bpf, by which the tracker counts",
    "SystemCallFilter=~@mount": "it mounts bpffs where the system did not",
    "SystemCallFilter=~@resources": "it lowers its own priority and raises its watchdogs'",
}
