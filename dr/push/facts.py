"""Facts of a server before the agent is put on it: pure commands and parsers; `gather` is the one thin shell.

Nothing is changed on the server. What cannot be found out is None or empty, never guessed; `blockers.py` judges.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dr.compile.blueprint import ProtectionBlueprint
from dr.push.connection import Connection
from dr.push.group_port import port_probe
from dr.push.layout import TRACEFS_FOLDERS
from dr.push.probes import Output, Probe, bundle, read, split, words_of
from dr.push.storage import LAYOUT, WHOLE_DISKS, DiskFact, Layout, WholeDisk, disk_probe

FACTS_SECONDS = 180.0  # an emulated or starved server is slow; each single probe is quick
REACH_SECONDS = 4
OLDEST_PYTHON, NEWEST_PYTHON = (3, 9), (3, 13)
# What the agent imports of the standard library and what minimal installations leave out.
AGENT_MODULES = ("ctypes", "http.client", "json", "mmap", "ssl", "zipfile")
# Where an installation needs room, in bytes; what the program needs at run time under /run is the tracker's matter.
ROOM = {"/usr/local/lib": 64 << 20, "/var/cache": 16 << 20, "/etc": 1 << 20}
WRITTEN = ("/usr/local/lib", "/etc", "/etc/systemd/system", "/var/cache", "/run")
# What follows a server's disks as we do: a path that shows it, and its name.
KNOWN_AGENTS = {
    "/usr/local/ASR": "Azure Site Recovery",
    "/sys/module/involflt": "Azure Site Recovery",
    "/var/lib/aws-replication-agent": "AWS Elastic Disaster Recovery",
    "/sys/module/veeamsnap": "Veeam Agent",
    "/sys/module/blksnap": "Veeam Agent",
    "/sys/module/snapapi26": "Acronis",
    "/sys/module/dattobd": "Datto",
}
# The nearest folder above `p` that exists; its file system is the one that `p` will be on.
_NEAREST = 'e=$p; while [ ! -d "$e" ]; do e=${e%/*}; e=${e:-/}; done'
PYTHONS = ("/usr/bin/python3", *(f"/usr/bin/python3.{minor}" for minor in range(13, 8, -1)))


@dataclass(frozen=True, slots=True)
class PythonFact:
    """One interpreter; `missing` are standard modules that it cannot import."""

    path: str
    version: tuple[int, int]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TraceFact:
    mounted: str | None  # where tracefs is
    supported: bool  # the kernel has it
    event: bool  # block:block_rq_complete is there
    lockdown: str  # "none", "integrity", "confidentiality" or empty


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything known of one server at one moment."""

    privilege: str  # "root", "sudo" or "none"
    privilege_complaint: str | None
    system: str  # PRETTY_NAME
    kernel: str
    machine: str
    boot_id: str
    pythons: tuple[PythonFact, ...]
    systemd: int | None  # version, None when it is not the running init
    openssl: str | None
    trace: TraceFact
    free_bytes: Mapping[str, int]  # of the places in `ROOM`, and of /run
    unusable: tuple[str, ...]  # "read-only /etc", "noexec /var/cache"
    other_agents: tuple[str, ...]
    memory_available_bytes: int | None
    processors: int
    product_uuid: str
    firmware: str  # "bios" or "uefi"
    disks: Mapping[str, DiskFact]  # by declared name
    whole_disks: tuple[WholeDisk, ...]
    layout: Layout | None
    clock_skew_seconds: float | None  # the server's minus ours
    reach: Mapping[str, str]  # "address:port" -> open, refused, timeout, unresolved, failed or unknown
    group_port_holder: str = ""  # what listens at the port of its replication group, and is not the agent

    @property
    def python(self) -> PythonFact | None:
        """The first interpreter that the agent can run on."""
        return fitting(self.pythons)


def fitting(pythons: Sequence[PythonFact]) -> PythonFact | None:
    """Return the first interpreter that the agent can run on."""
    whole = (p for p in pythons if OLDEST_PYTHON <= p.version <= NEWEST_PYTHON and not p.missing)
    return next(whole, None)


def parse_os_release(output: Output) -> str:
    values = dict(line.split("=", 1) for line in output.lines if "=" in line)
    return values.get("PRETTY_NAME", values.get("ID", "unknown")).strip("\"'")


def parse_pythons(output: Output) -> tuple[PythonFact, ...]:
    """Each line: path, major, minor, then the missing modules."""
    found: dict[tuple[int, int], PythonFact] = {}
    for line in output.lines:
        fields = line.split()
        if len(fields) >= 3 and fields[1].isdigit() and fields[2].isdigit():
            version = (int(fields[1]), int(fields[2]))
            found.setdefault(version, PythonFact(fields[0], version, tuple(fields[3:])))
    return tuple(found.values())


def parse_systemd(output: Output) -> int | None:
    """First line `running` when it is the init, then `systemd 252 (252.38-1~deb12u1)`."""
    words = output.text.split()
    if len(words) < 3 or words[0] != "running" or not words[2].split(".")[0].isdigit():
        return None
    return int(words[2].split(".")[0])


def parse_openssl(output: Output) -> str | None:
    return " ".join(output.lines[0].split()[:2]) if output.code == 0 and output.lines else None


def parse_trace(output: Output) -> TraceFact:
    words = words_of(output)
    lockdown = words.get("lockdown", "")
    chosen = lockdown[lockdown.find("[") + 1 : lockdown.find("]")] if "[" in lockdown else ""
    return TraceFact(words.get("mounted"), "supported" in words, "event" in words, chosen)


def parse_space(output: Output) -> Mapping[str, int]:
    """Each line: path, free blocks, block size."""
    rows = (line.split() for line in output.lines)
    return {row[0]: int(row[1]) * int(row[2]) for row in rows if len(row) == 3 and row[1].isdigit()}


def parse_memory(output: Output) -> int | None:
    for line in output.lines:
        fields = line.split()
        if fields[0] == "MemAvailable:" and fields[1].isdigit():
            return int(fields[1]) * 1024
    return None


def parse_count(output: Output) -> int:
    return int(output.text) if output.text.strip().isdigit() else 1


def parse_line(output: Output) -> str:
    return output.lines[0] if output.lines else ""


def parse_lines(output: Output) -> tuple[str, ...]:
    return tuple(output.lines)


def parse_names(output: Output) -> tuple[str, ...]:
    return tuple(dict.fromkeys(output.lines))


def parse_uuid(output: Output) -> str:
    return parse_line(output).lower()


def parse_reach(output: Output) -> dict[str, str]:
    """Each line: address:port and how it went."""
    rows = (line.rsplit(" ", 1) for line in output.lines)
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _reach_probe(addresses: Sequence[str]) -> Probe[dict[str, str]]:
    code = f"""import socket, sys
for a in sys.argv[1:]:
    host, _, port = a.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), {REACH_SECONDS}).close(); r = "open"
    except ConnectionRefusedError: r = "refused"
    except socket.timeout: r = "timeout"
    except socket.gaierror: r = "unresolved"
    except OSError: r = "failed"
    print(a, r)"""
    words = " ".join(shlex.quote(address) for address in addresses)
    return Probe("reach", f"p=$(command -v python3) || exit 1; $p -I -c {shlex.quote(code)} {words}", parse_reach)


_PYTHON_CODE = f"""import sys
m = []
for n in {AGENT_MODULES!r}:
    try: __import__(n)
    except ImportError: m.append(n)
print(sys.argv[1], sys.version_info[0], sys.version_info[1], *m)"""

SYSTEM = Probe("system", "cat /etc/os-release", parse_os_release)
KERNEL = Probe("kernel", "uname -r", parse_line)
MACHINE = Probe("machine", "uname -m", parse_line)
BOOT_ID = Probe("boot-id", "cat /proc/sys/kernel/random/boot_id", parse_line)
PYTHON = Probe(
    "pythons",
    f"for p in {' '.join(PYTHONS)}; do [ -x $p ] && $p -I -c {shlex.quote(_PYTHON_CODE)} $p; done",
    parse_pythons,
)
SYSTEMD = Probe("systemd", "[ -d /run/systemd/system ] && echo running; systemctl --version | head -n1", parse_systemd)
OPENSSL = Probe("openssl", "openssl version", parse_openssl)
TRACE = Probe(
    "trace",
    f"""grep -qw tracefs /proc/filesystems && echo supported
for t in {" ".join(TRACEFS_FOLDERS)}; do
  [ -d $t/instances ] || continue; echo mounted $t; [ -d $t/events/block/block_rq_complete ] && echo event; m=1; break
done
[ -n "$m" ] || {{ grep -qw __tracepoint_block_rq_complete /proc/kallsyms && echo event; }}
echo lockdown "$(cat /sys/kernel/security/lockdown)" """,
    parse_trace,
)
SPACE = Probe(
    "space",
    f"""for p in {" ".join(ROOM)} /run; do {_NEAREST}
  echo "$p $(stat -f -c '%a %S' "$e")"
done""",
    parse_space,
)
PLACES = Probe(
    "places",
    f"""for p in {" ".join(WRITTEN)}; do {_NEAREST}
  [ -w "$e" ] || echo "read-only $p"
done
findmnt -rno OPTIONS -T /var/cache | grep -qw noexec && echo "noexec /var/cache"; true""",
    parse_lines,
)
OTHER_AGENTS = Probe(
    "other-agents",
    "".join(f"[ -e {path} ] && echo {shlex.quote(name)}; " for path, name in KNOWN_AGENTS.items()) + "true",
    parse_names,
)
MEMORY = Probe("memory", "cat /proc/meminfo", parse_memory)
PROCESSORS = Probe("processors", "getconf _NPROCESSORS_ONLN", parse_count)
PRODUCT_UUID = Probe("product-uuid", "cat /sys/class/dmi/id/product_uuid", parse_uuid)
FIRMWARE = Probe("firmware", "[ -d /sys/firmware/efi ] && echo uefi || echo bios", parse_line)
PROBES: tuple[Probe[object], ...] = (
    SYSTEM, KERNEL, MACHINE, BOOT_ID, PYTHON, SYSTEMD, OPENSSL, TRACE, SPACE, MEMORY, PROCESSORS, PRODUCT_UUID,
    FIRMWARE, PLACES, OTHER_AGENTS, WHOLE_DISKS, LAYOUT,
)  # fmt: skip


def probes_for(protection: ProtectionBlueprint) -> tuple[Probe[object], ...]:
    """Return all probes that the facts of this server come from."""
    disks = (disk_probe(disk.name, disk.device) for disk in protection.disks)
    ports = () if protection.group is None else (port_probe(protection.group.port),)
    return (*PROBES, _reach_probe(_addresses(protection)), *ports, *disks)


def facts_of(
    outputs: Mapping[str, Output],
    protection: ProtectionBlueprint,
    *,
    privilege: str,
    privilege_complaint: str | None = None,
    clock_skew_seconds: float | None = None,
) -> Facts:
    """Return the facts that the outputs of `probes_for` tell. Raises `Corrupt` when one is missing."""
    addresses = _addresses(protection)
    reached = read(_reach_probe(addresses), outputs)
    return Facts(
        privilege=privilege,
        privilege_complaint=privilege_complaint,
        system=read(SYSTEM, outputs),
        kernel=read(KERNEL, outputs),
        machine=read(MACHINE, outputs),
        boot_id=read(BOOT_ID, outputs),
        pythons=read(PYTHON, outputs),
        systemd=read(SYSTEMD, outputs),
        openssl=read(OPENSSL, outputs),
        trace=read(TRACE, outputs),
        free_bytes=read(SPACE, outputs),
        unusable=read(PLACES, outputs),
        other_agents=read(OTHER_AGENTS, outputs),
        memory_available_bytes=read(MEMORY, outputs),
        processors=read(PROCESSORS, outputs),
        product_uuid=read(PRODUCT_UUID, outputs),
        firmware=read(FIRMWARE, outputs),
        disks={disk.name: read(disk_probe(disk.name, disk.device), outputs) for disk in protection.disks},
        whole_disks=read(WHOLE_DISKS, outputs),
        layout=read(LAYOUT, outputs),
        clock_skew_seconds=clock_skew_seconds,
        reach={address: reached.get(address, "unknown") for address in addresses},
        group_port_holder=read(port_probe(protection.group.port), outputs) if protection.group else "",
    )


def gather(connection: Connection, protection: ProtectionBlueprint) -> Facts:
    """Ask the server everything in two round trips; changes nothing there. Raises what `Connection.run` does."""
    before = time.time()
    clock = connection.run("date +%s.%N").text.strip()
    skew = float(clock) - (before + time.time()) / 2 if clock.replace(".", "", 1).isdigit() else None
    return facts_of(
        ask(connection, probes_for(protection)),
        protection,
        privilege=_privilege(connection),
        privilege_complaint=connection.privilege_complaint,
        clock_skew_seconds=skew,
    )


def _addresses(protection: ProtectionBlueprint) -> tuple[str, ...]:
    return tuple(dict.fromkeys((protection.configuration_server, *protection.process_servers)))


def ask(connection: Connection, probes: Sequence[Probe[object]]) -> dict[str, Output]:
    """Run `probes` in one round trip, as root where we may."""
    nonce = f"=={secrets.token_hex(12)}"
    return split(connection.run(bundle(probes, nonce), seconds=FACTS_SECONDS).text, nonce)


def _privilege(connection: Connection) -> str:
    if connection.privilege_complaint is not None:
        return "none"
    return "sudo" if connection.uses_sudo else "root"
