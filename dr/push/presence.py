"""What of the agent is on a server now: pure probes and parsers, and what its certificate says.

The private key is looked at on the server only (its public half, its owner and mode).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dr.push import layout
from dr.push.connection import Connection
from dr.push.facts import ask
from dr.push.probes import Output, Probe, read


@dataclass(frozen=True, slots=True)
class PathState:
    """One path that we own; `sha256` is empty for a folder."""

    mode: int
    owner: str  # "0:0"
    sha256: str


@dataclass(frozen=True, slots=True)
class UnitState:
    """The unit as systemd sees it. `digest` is that of the installation the running agent was started from."""

    active: str  # active, activating, inactive, failed
    sub: str
    enabled: str
    reload_needed: bool
    pid: int
    restarts: int
    digest: str


@dataclass(frozen=True, slots=True)
class Presence:
    """Everything of ours on one server."""

    paths: Mapping[str, PathState]  # folders and files that exist
    trees: tuple[str, ...]  # of `layout.TREES`, those that exist
    config: Mapping[str, Any] | None  # None when missing or not JSON
    certificate_pem: bytes
    authority_pem: bytes
    key_public_pem: bytes
    token_serial: str  # of the token's certificate, in hexadecimal; empty without one
    unit: UnitState
    trace_instance: str | None

    @property
    def anything(self) -> bool:
        """Whether any trace of the agent is there."""
        left = (self.paths, self.trees, self.trace_instance, self.unit.pid, self.unit.enabled == "enabled")
        return any(left)


# A server that has nothing of ours.
NOTHING = Presence({}, (), None, b"", b"", b"", "", UnitState("inactive", "dead", "", False, 0, 0, ""), None)


def parse_paths(output: Output) -> Mapping[str, PathState]:
    """Each line: hexadecimal mode, uid:gid, SHA-256 or `-`, path."""
    found = {}
    for line in output.lines:
        fields = re.fullmatch(r"([0-9a-f]+) (\d+:\d+) ([0-9a-f]{64}|-) (/.*)", line)
        if fields:
            mode, owner, digest, path = fields.groups()
            found[path] = PathState(int(mode, 16) & 0o7777, owner, "" if digest == "-" else digest)
    return found


def parse_config(output: Output) -> Mapping[str, Any] | None:
    try:
        value = json.loads(output.text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse_pem(output: Output) -> bytes:
    return output.text.strip().encode() + b"\n" if "-----BEGIN" in output.text else b""


def parse_unit(output: Output) -> UnitState:
    """Lines `Property=value` of `systemctl show`, and our own `Digest=`."""
    values = dict(line.split("=", 1) for line in output.lines if "=" in line)
    pid, restarts = values.get("MainPID", ""), values.get("NRestarts", "")
    return UnitState(
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        enabled=values.get("UnitFileState", ""),
        reload_needed=values.get("NeedDaemonReload") == "yes",
        pid=int(pid) if pid.isdigit() else 0,
        restarts=int(restarts) if restarts.isdigit() else 0,
        digest=values.get("Digest", ""),
    )


def parse_serial(output: Output) -> str:
    """`serial=0A1B` as openssl prints it."""
    return output.lines[0].partition("=")[2].lower().lstrip("0") if output.lines else ""


def parse_first(output: Output) -> str | None:
    return output.lines[0] if output.lines else None


def parse_lines(output: Output) -> tuple[str, ...]:
    return tuple(output.lines)


_OWNED = " ".join(place.path for place in (*layout.FOLDERS, *layout.FILES))
PATHS = Probe(
    "paths",
    f"""for p in {_OWNED}; do
  [ -e "$p" ] || [ -L "$p" ] || continue
  h=-; [ -f "$p" ] && {{ h=$(sha256sum <"$p"); h=${{h%% *}}; }}; echo "$(stat -c '%f %u:%g' "$p") $h $p"
done""",
    parse_paths,
)
TREES = Probe("trees", f'for p in {" ".join(layout.TREES)}; do [ -e "$p" ] && echo "$p"; done; true', parse_lines)
CONFIG = Probe("config", f"cat {layout.CONFIG}", parse_config)
CERTIFICATE = Probe("certificate", f"cat {layout.CERTIFICATE}", parse_pem)
AUTHORITY = Probe("authority", f"cat {layout.CA_CERTIFICATE}", parse_pem)
KEY_PUBLIC = Probe("key-public", f"openssl pkey -in {layout.KEY} -pubout", parse_pem)
TOKEN = Probe("token", f"openssl x509 -in {layout.TOKEN} -noout -serial", parse_serial)
_PROPERTIES = "ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID,NRestarts"
UNIT = Probe(
    "unit",
    f"""shown=$(systemctl show {layout.UNIT} -p {_PROPERTIES}); echo "$shown"
pid=$(echo "$shown" | sed -n 's/^MainPID=//p')
[ "${{pid:-0}}" != 0 ] && tr '\\000' '\\n' </proc/$pid/environ | sed -n 's/^{layout.DIGEST_VARIABLE}=/Digest=/p'""",
    parse_unit,
)
_INSTANCES = " ".join(layout.instance_folders())
TRACE_INSTANCE = Probe(
    "trace-instance", f'for i in {_INSTANCES}; do [ -d "$i" ] && echo "$i" && break; done', parse_first
)
PROBES: tuple[Probe[object], ...] = (
    PATHS, TREES, CONFIG, CERTIFICATE, AUTHORITY, KEY_PUBLIC, TOKEN, UNIT, TRACE_INSTANCE,
)  # fmt: skip


def presence_of(outputs: Mapping[str, Output]) -> Presence:
    """Return what the outputs of `PROBES` tell. Raises `Corrupt` when one is missing."""
    return Presence(
        paths=read(PATHS, outputs),
        trees=read(TREES, outputs),
        config=read(CONFIG, outputs),
        certificate_pem=read(CERTIFICATE, outputs),
        authority_pem=read(AUTHORITY, outputs),
        key_public_pem=read(KEY_PUBLIC, outputs),
        token_serial=read(TOKEN, outputs),
        unit=read(UNIT, outputs),
        trace_instance=read(TRACE_INSTANCE, outputs),
    )


def look(connection: Connection) -> Presence:
    """Ask the server what of the agent is there, in one round trip. Raises what `Connection.run` does."""
    return presence_of(ask(connection, PROBES))


def certificate_end(certificate_pem: bytes) -> datetime | None:
    """Return when the certificate ends, or None when it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc.astimezone(UTC)
    except ValueError:
        return None


def certificate_fingerprint(certificate_pem: bytes) -> str | None:
    """Return the certificate's SHA-256 in hexadecimal, or None when it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()
    except ValueError:
        return None
