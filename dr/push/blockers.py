"""What speaks against an installation: facts and declaration in, findings out, all at once (pure).

Their names, meanings and remedies are in `catalogue.py`; the disks' rules are in `disk_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import Refused
from dr.push.catalogue import Finding, finding
from dr.push.disk_rules import disk_findings
from dr.push.facts import ROOM, Facts
from dr.push.unit import map_bytes, tracker_bytes

OLDEST_SYSTEMD = 239  # RuntimeDirectoryPreserve (235), groups of system calls, bpffs mounted by it (238)
MACHINES = ("x86_64",)
CLOCK_SKEW_SECONDS = 300
RUN_FREE_BYTES = 32 << 20  # ring pages in flight; the maps come on top
TRACKER_KIB = 65536  # the rings of all processors together
AGENT_MEMORY_BYTES = 128 << 20


def findings(
    protection: ProtectionBlueprint,
    facts: Facts,
    *,
    site: str,
    installed: Mapping[str, object] | None = None,
    protection_epoch: int = 0,
) -> tuple[Finding, ...]:
    """Return everything that speaks against the installation.

    `installed` is the `agent.json` that is on the server, if any: hardware that differs from it blocks unless
    `protection_epoch` is higher than the installed one.
    """
    found = [finding for rule in _RULES for finding in rule(protection, facts)]
    if installed is not None:
        found += _held(protection, site, installed)
        found += _hardware(facts, installed, protection_epoch)
        # its agent uses what it needs already
        found = [finding for finding in found if finding.code not in ("space-run", "memory-short")]
    return tuple(found)


def require_none(server: str, found: tuple[Finding, ...]) -> None:
    """Raise `Refused` that names every blocker of `found`."""
    if any(finding.blocks for finding in found):
        raise Refused(
            blocked(server, found),
            code="install-blocked",
            remedy="remove what stands against it, then run the same command again",
        )


def blocked(server: str, found: tuple[Finding, ...]) -> str:
    """Return the message that names every blocker of `found`, each with its remedy."""
    blockers = [finding for finding in found if finding.blocks]
    return f"{server}: the agent cannot be installed, nothing was changed. {_counted(len(blockers))}:" + "".join(
        f"\n  {each.code}: {each.cause}\n      remedy: {each.remedy}" for each in blockers
    )


def _counted(count: int) -> str:
    return "This stands against it" if count == 1 else f"These {count} stand against it"


def _system(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.privilege == "none":
        yield finding("no-root", f"user {protection.ssh.user}: {facts.privilege_complaint}")
    if facts.machine not in MACHINES:
        yield finding("machine-unsupported", f"the processor is {facts.machine}")
    if facts.systemd is None or facts.systemd < OLDEST_SYSTEMD:
        seen = f"it is systemd {facts.systemd}" if facts.systemd else "the init is not systemd"
        yield finding("systemd-missing", f"{seen} on {facts.system}")
    if facts.openssl is None:
        yield finding("openssl-missing", "there is no openssl")
    if facts.clock_skew_seconds is None:
        yield finding("clock-unknown", "its answer holds no time that can be compared")
    elif abs(facts.clock_skew_seconds) > CLOCK_SKEW_SECONDS:
        side = "ahead" if facts.clock_skew_seconds > 0 else "behind"
        yield finding("clock-skew", f"the server's clock is {abs(facts.clock_skew_seconds):.0f} s {side}")
    if not facts.product_uuid and facts.privilege != "none":
        yield finding("hardware-unnamed", "/sys/class/dmi/id/product_uuid is not there")


def _python(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.python is not None:
        return
    seen = ", ".join(
        f"{p.path} is {p.version[0]}.{p.version[1]}" + (f" without {' '.join(p.missing)}" if p.missing else "")
        for p in facts.pythons
    )
    yield finding("python-missing", seen or f"there is no python3 on {facts.system}")


def _tracing(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.privilege == "none":
        return  # only root sees it
    if facts.trace.lockdown == "confidentiality":
        yield finding("kernel-lockdown", "lockdown is confidentiality")
    elif not facts.trace.supported:
        yield finding("tracefs-missing", f"kernel {facts.kernel} knows no tracefs")
    elif not facts.trace.event:
        yield finding("tracepoint-missing", f"kernel {facts.kernel} lacks block:block_rq_complete")


def _room(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    for path, needed in ROOM.items():
        yield from _short("space-short", path, facts.free_bytes.get(path), needed)
    disk_bytes = sum(disk.size_bytes for disk in facts.disks.values())
    yield from _short("space-run", "/run", facts.free_bytes.get("/run"), RUN_FREE_BYTES + map_bytes(disk_bytes))
    needed = AGENT_MEMORY_BYTES + tracker_bytes(disk_bytes) + (TRACKER_KIB << 10)
    free = facts.memory_available_bytes
    if free is not None and free < needed:
        yield finding("memory-short", f"{free >> 20} MiB are available, {-(-needed >> 20)} MiB are needed")


def _short(code: str, path: str, free: int | None, needed: int) -> Iterator[Finding]:
    if free is not None and free < needed:
        yield finding(code, f"{path} has {free >> 20} MiB free, {-(-needed >> 20)} MiB are needed")


def _places(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if facts.privilege == "none":
        return  # of course he may not write there
    closed = [each.removeprefix("read-only ") for each in facts.unusable if each.startswith("read-only ")]
    if closed:
        yield finding("place-read-only", f"{', '.join(closed)} cannot be written")
    if "noexec /var/cache" in facts.unusable:
        yield finding("cache-noexec", "/var/cache is mounted noexec")


def _others(_: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    for name in facts.other_agents:
        yield finding("other-agent", f"{name} is there")


def _reach(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    for address, how in facts.reach.items():
        if how in ("open", "unknown"):
            continue
        if address == protection.configuration_server:
            yield finding("configuration-server-unreachable", f"{address}: {how}")
        if address in protection.process_servers:
            yield finding("process-server-unreachable", f"{address}: {how}")


def _group(protection: ProtectionBlueprint, facts: Facts) -> Iterator[Finding]:
    if protection.group is not None and facts.group_port_holder:
        yield finding("group-port-taken", f"{facts.group_port_holder} listens at port {protection.group.port}")


def _held(protection: ProtectionBlueprint, site: str, installed: Mapping[str, object]) -> Iterator[Finding]:
    held = (installed.get("site"), installed.get("server"))
    if all(held) and held != (site, protection.server):
        yield finding("other-site", f'the agent here is that of server "{held[1]}" of site "{held[0]}"')


def _hardware(facts: Facts, installed: Mapping[str, object], protection_epoch: int) -> Iterator[Finding]:
    if facts.privilege == "none":
        return
    before = installed.get("hardware")
    epoch = installed.get("protection_epoch")
    if not isinstance(before, dict) or (isinstance(epoch, int) and epoch < protection_epoch):
        return
    if before.get("product_uuid", "") != facts.product_uuid:
        yield finding("hardware-changed", f"product UUID is {facts.product_uuid}, was {before.get('product_uuid')}")
    known = before.get("disks")
    for name, disk in facts.disks.items():
        was = known.get(name) if isinstance(known, dict) else None
        if not isinstance(was, dict) or disk.kind != "disk":
            continue  # a disk that is new in the declaration, or one that has its own finding
        now = {"size_bytes": disk.size_bytes, "serial": disk.serial}
        if was != now:
            sizes = f"{now['size_bytes']} bytes and serial {now['serial']!r}"
            before_that = f"{was.get('size_bytes')} bytes and {was.get('serial')!r}"
            yield finding("hardware-changed", f"disk {name} has {sizes}, had {before_that}")


_RULES: tuple[Callable[[ProtectionBlueprint, Facts], Iterator[Finding]], ...] = (
    _system, _python, _tracing, disk_findings, _room, _places, _others, _group, _reach,
)  # fmt: skip
