"""What speaks against an installation: facts and declaration in, findings out, all at once (pure).

A *blocker* stops the installation before anything is changed on the server. A *concern* does not (the site's
servers may start later than the agent), but it is shown by name, never dropped. `CATALOGUE` is the table of all of
them, and `docs/agent-install.md` is generated from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dr.compile.blueprint import ProtectionBlueprint
from dr.compile.limits import wrong_with_disk
from dr.errors import Refused
from dr.push.facts import DiskFact, Facts
from dr.push.unit import map_bytes, tracker_bytes

OLDEST_SYSTEMD = 235  # RuntimeDirectoryPreserve
MACHINES = ("x86_64",)
CLOCK_SKEW_SECONDS = 300
ROOT_FREE_BYTES = 64 << 20
RUN_FREE_BYTES = 32 << 20  # ring pages in flight; the maps come on top
TRACKER_KIB = 65536  # the rings of all processors together
AGENT_MEMORY_BYTES = 128 << 20

# code -> (blocks, what it means, remedy)
CATALOGUE: Mapping[str, tuple[bool, str, str]] = {
    "no-root": (True, "the user is not root and cannot become root by `sudo -n`",
                "allow it without a password (`USER ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d), or declare root"),
    "machine-unsupported": (True, "the processor is not x86-64", "none; only x86-64 servers are recovered so far"),
    "python-missing": (True, "no Python 3.9 to 3.13 with its whole standard library under /usr/bin",
                       "install it from the distribution (Debian: python3; RHEL 8: python39); a source without one "
                       "is too old for the agent"),
    "systemd-missing": (True, "systemd 235 or newer is not the init", "a source without it is too old for the agent"),
    "openssl-missing": (True, "the program openssl is not there; it makes the key", "install the package openssl"),
    "tracefs-missing": (True, "the kernel offers no tracefs, so writes cannot be seen",
                        "boot a kernel with CONFIG_TRACING (every distribution's has it since 4.10)"),
    "tracepoint-missing": (True, "the tracepoint block:block_rq_complete is not there",
                           "boot a kernel with CONFIG_BLK_DEV_IO_TRACE or tracepoints on"),
    "kernel-lockdown": (True, "the kernel is locked down to confidentiality, which forbids tracing",
                        "boot with lockdown=integrity, which Secure Boot is content with"),
    "disk-missing": (True, "a declared device is not there", "declare one of the server's disks"),
    "disk-not-whole": (True, "a declared device is a partition", "declare the whole disk"),
    "disk-unsupported": (True, "a declared device is stacked (LVM, md, multipath), memory or not a block device",
                         "declare the physical disks below it"),
    "disk-twice": (True, "two declared disks are one device", "declare each disk once"),
    "disk-too-large": (True, "a disk is larger than Azure takes: 8 TiB, or to boot from 2,048 GiB by BIOS and 4,095 "
                       "GiB by UEFI",
                       "move its data to smaller disks; leave one that may be lost out of the declaration"),
    "firmware-differs": (True, "the server boots by another firmware than declared; the recovered VM would not boot",
                         "correct target.firmware"),
    "hardware-changed": (True, "the server is not the hardware that the installed agent belongs to: a recovered copy "
                         "or replaced parts",
                         "is it the copy, correct ssh.address; else take the server out of the declaration, `pulumi "
                         "up`, and put it in again"),
    "clock-skew": (True, "the server's clock is more than 5 minutes off", "let it keep time (chrony, timesyncd)"),
    "space-root": (True, "less than 64 MiB are free on /", "free some space"),
    "space-run": (True, "/run is too small for the maps of the tracker", "enlarge the tmpfs on /run"),
    "memory-short": (True, "too little memory is available for agent, rings and maps",
                     "free memory, or protect the server by other means"),
    "configuration-server-unreachable": (False, "the server cannot reach the configuration server now",
                                         "start it (`dr serve`) and open the way; the agent tries on"),
    "process-server-unreachable": (False, "the server cannot reach a process server now",
                                   "start it (`dr serve`) and open the way; the agent tries on"),
    "hardware-unnamed": (False, "the hardware tells no product UUID, so a copy is known by its disks only",
                         "give the machine one, if it is virtual"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: `cause` says what was seen on this server."""

    code: str
    cause: str
    remedy: str
    blocks: bool

    def __str__(self) -> str:
        return f"{self.code}: {self.cause} (remedy: {self.remedy})"


def findings(
    protection: ProtectionBlueprint,
    facts: Facts,
    *,
    installed: Mapping[str, object] | None = None,
    protection_epoch: int = 0,
) -> tuple[Finding, ...]:
    """Return everything that speaks against the installation.

    `installed` is the `agent.json` that is on the server, if any: hardware that differs from it blocks unless
    `protection_epoch` is higher than the installed one.
    """
    found = [finding for rule in _RULES for finding in rule(protection, facts)]
    found += _hardware(facts, installed, protection_epoch)
    if installed is not None:  # its agent uses what it needs already
        found = [finding for finding in found if finding.code not in ("space-run", "memory-short")]
    return tuple(found)


def require_none(server: str, found: tuple[Finding, ...]) -> None:
    """Raise `Refused` that names every blocker of `found`."""
    blockers = [finding for finding in found if finding.blocks]
    if blockers:
        raise Refused(
            f"{server}: the agent cannot be installed, nothing was changed: " + "; ".join(map(str, blockers)),
            code="install-blocked",
            remedy="remove these causes, then run the same command again",
        )


def _finding(code: str, cause: str, remedy: str = "") -> Finding:
    blocks, _, general = CATALOGUE[code]
    return Finding(code, cause, remedy or general, blocks)


def _system(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.privilege == "none":
        yield _finding("no-root", f"user {protection.ssh.user}: {facts.privilege_complaint}")
    if facts.machine not in MACHINES:
        yield _finding("machine-unsupported", f"the processor is {facts.machine}")
    if facts.systemd is None or facts.systemd < OLDEST_SYSTEMD:
        seen = f"it is systemd {facts.systemd}" if facts.systemd else "the init is not systemd"
        yield _finding("systemd-missing", f"{seen} on {facts.system}")
    if facts.openssl is None:
        yield _finding("openssl-missing", "there is no openssl")
    if abs(facts.clock_skew_seconds) > CLOCK_SKEW_SECONDS:
        side = "ahead" if facts.clock_skew_seconds > 0 else "behind"
        yield _finding("clock-skew", f"the server's clock is {abs(facts.clock_skew_seconds):.0f} s {side}")
    if not facts.product_uuid and facts.privilege != "none":
        yield _finding("hardware-unnamed", "/sys/class/dmi/id/product_uuid is not there")


def _python(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.python is not None:
        return
    seen = ", ".join(
        f"{p.path} is {p.version[0]}.{p.version[1]}" + (f" without {' '.join(p.missing)}" if p.missing else "")
        for p in facts.pythons
    )
    yield _finding("python-missing", seen or f"there is no python3 on {facts.system}")


def _tracing(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.privilege == "none":
        return  # only root sees it
    if facts.trace.lockdown == "confidentiality":
        yield _finding("kernel-lockdown", "lockdown is confidentiality")
    elif not facts.trace.supported:
        yield _finding("tracefs-missing", f"kernel {facts.kernel} knows no tracefs")
    elif not facts.trace.event:
        yield _finding("tracepoint-missing", f"kernel {facts.kernel} lacks block:block_rq_complete")


def _disks(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    there = ", ".join(facts.other_disks) or "none was found"
    for name, disk in facts.disks.items():
        yield from _disk(name, disk, there)
    for index, declared in enumerate(protection.disks):  # the first one boots
        size_bytes = facts.disks[declared.name].size_bytes if declared.name in facts.disks else 0
        wrong = wrong_with_disk(size_bytes, boots=index == 0, firmware=facts.firmware)
        if wrong:
            yield _finding("disk-too-large", f"{declared.name} {wrong}")
    counts = Counter(disk.node for disk in facts.disks.values() if disk.kind == "disk")
    for node, count in counts.items():
        if count > 1:
            names = " and ".join(name for name, disk in facts.disks.items() if disk.node == node)
            yield _finding("disk-twice", f"{names} are both {node}")
    if protection.firmware is not None and protection.firmware != facts.firmware:
        yield _finding("firmware-differs", f"declared is {protection.firmware}, the server boots by {facts.firmware}")


def _disk(name: str, disk: DiskFact, there: str) -> Iterator[Finding]:
    if disk.kind == "absent":
        yield _finding("disk-missing", f"{name}: {disk.device} is not there", f"declare one of its disks: {there}")
    elif disk.kind == "partition":
        yield _finding(
            "disk-not-whole", f"{name}: {disk.device} is a partition", f"declare the whole disk, {disk.parent}"
        )
    elif disk.kind != "disk" or disk.size_bytes == 0:
        kind = "empty" if disk.kind == "disk" else disk.kind.replace("-", " ")
        yield _finding("disk-unsupported", f"{name}: {disk.device} ({disk.node}) is {kind}")


def _room(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    disk_bytes = sum(disk.size_bytes for disk in facts.disks.values())
    maps = map_bytes(disk_bytes)
    for path, needed, code in (("/", ROOT_FREE_BYTES, "space-root"), ("/run", RUN_FREE_BYTES + maps, "space-run")):
        free = facts.free_bytes.get(path)
        if free is not None and free < needed:
            yield _finding(code, f"{path} has {free >> 20} MiB free, {-(-needed >> 20)} MiB are needed")
    needed = AGENT_MEMORY_BYTES + tracker_bytes(disk_bytes) + (TRACKER_KIB << 10)
    free = facts.memory_available_bytes
    if free is not None and free < needed:
        yield _finding("memory-short", f"{free >> 20} MiB are available, {needed >> 20} MiB are needed")


def _reach(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    for address, how in facts.reach.items():
        if how in ("open", "unknown"):
            continue
        if address == protection.configuration_server:
            yield _finding("configuration-server-unreachable", f"{address}: {how}")
        if address in protection.process_servers:
            yield _finding("process-server-unreachable", f"{address}: {how}")


def _hardware(facts: Facts, installed: Mapping[str, object] | None, protection_epoch: int) -> Iterator[Finding]:
    if installed is None or facts.privilege == "none":
        return
    before = installed.get("hardware")
    epoch = installed.get("protection_epoch")
    if not isinstance(before, dict) or (isinstance(epoch, int) and epoch < protection_epoch):
        return
    if before.get("product_uuid", "") != facts.product_uuid:
        yield _finding("hardware-changed", f"product UUID is {facts.product_uuid}, was {before.get('product_uuid')}")
    known = before.get("disks")
    for name, disk in facts.disks.items():
        was = known.get(name) if isinstance(known, dict) else None
        if not isinstance(was, dict) or disk.kind != "disk":
            continue  # a disk that is new in the declaration, or one that has its own finding
        now = {"size_bytes": disk.size_bytes, "serial": disk.serial}
        if was != now:
            yield _finding("hardware-changed", f"disk {name} is {now}, was {was}")


_RULES: tuple[Callable[[ProtectionBlueprint, Facts], Iterator[Finding]], ...] = (
    _system, _python, _tracing, _disks, _room, _reach,
)  # fmt: skip
