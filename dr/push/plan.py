"""The plan: what is wanted against what is there; only the steps that are needed, as data (pure).

Rules:
- The same wanted state twice yields no step the second time, and after a failure in the middle the next plan is
  the rest.
- A file appears whole or not at all: temporary name, checksum, fsync, rename. A connection cut during an upload
  leaves only a temporary file that the next run overwrites.
- The agent is restarted when the installation it was started from (a digest in its environment) is not the wanted
  one, so a run that broke off between the last file and the restart is noticed.
- Identity first. The certificate is the agent's own business: it gets a key and a token, and no certificate.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dr.compile.blueprint import ProtectionBlueprint
from dr.push import layout, unit
from dr.push.blockers import TRACKER_KIB
from dr.push.connection import COMMAND_SECONDS
from dr.push.facts import Facts
from dr.push.layout import temporary
from dr.push.presence import Presence

UPLOAD_SECONDS = 600.0
STOP_SECONDS = unit.STOP_SECONDS + COMMAND_SECONDS
BUFFER_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One change on the server: `what` is for people, `script` for the shell, `stdin` its input.

    `unless` is a test in the shell's words that succeeds where the step is not needed: the manual way, which takes
    the same steps without us, asks it on the server (empty: always needed).
    """

    what: str
    script: str
    stdin: bytes = field(default=b"", repr=False)
    seconds: float = COMMAND_SECONDS
    unless: str = ""


def recorded(step: Step) -> str:
    """Return the step's script, which also writes what was done, or not done, into the server's journal."""
    done, failed = (f"logger -t {layout.JOURNAL_TAG} -- {shlex.quote(step.what + end)}" for end in ("", ": failed"))
    # Where no journal listens, the step counts all the same.
    return f"( {step.script}\n) && {{ {done}; true; }} 2>/dev/null || {{ c=$?; {failed} 2>/dev/null; exit $c; }}"


@dataclass(frozen=True, slots=True)
class Desired:
    """The wanted installation, without choices: the content of each file but private key and certificate."""

    files: Mapping[str, bytes] = field(repr=False)
    digest: str


def config(protection: ProtectionBlueprint, facts: Facts, *, site: str, protection_epoch: int) -> dict[str, Any]:
    """Return `agent.json`."""
    disks = {d.name: facts.disks[d.name] for d in protection.disks}
    return {
        "server": protection.server,
        "site": site,
        "protection_epoch": protection_epoch,
        "configuration_server": protection.configuration_server,
        "process_servers": list(protection.process_servers),
        "disks": [{"name": d.name, "device": d.device} for d in protection.disks],
        "tls": {
            "ca": layout.CA_CERTIFICATE,
            "cert": layout.CERTIFICATE,
            "key": layout.KEY,
            "token": layout.TOKEN,
        },
        "hardware": {
            "product_uuid": facts.product_uuid,
            "disks": {name: {"size_bytes": d.size_bytes, "serial": d.serial} for name, d in disks.items()},
        },
        "policy": {"crash_consistent_seconds": protection.crash_consistent_seconds},
        "applications": [asdict(application) for application in protection.applications],
        "limits": {"tracker_kib": TRACKER_KIB, "buffer_bytes": BUFFER_BYTES},
    }


def desired(agent_config: Mapping[str, Any], facts: Facts, *, package: bytes, authority_pem: bytes) -> Desired:
    """Return the wanted installation; `facts.python` must be there."""
    assert facts.python is not None  # a blocker otherwise
    disk_bytes = sum(d["size_bytes"] for d in agent_config["hardware"]["disks"].values())
    files = {
        layout.CA_CERTIFICATE: authority_pem,
        layout.CONFIG: (json.dumps(agent_config, indent=2, sort_keys=True) + "\n").encode(),
        layout.PROGRAM: package,
    }
    template = unit.render(python=facts.python.path, digest="", disk_bytes=disk_bytes)
    digest = _digest({**files, layout.UNIT_FILE: template})
    files[layout.UNIT_FILE] = unit.render(python=facts.python.path, digest=digest, disk_bytes=disk_bytes)
    return Desired(files, digest)


def identity_steps(present: Presence) -> Iterator[Step]:
    """Yield what must be there before anything else: the folders, and the rights of what is in them."""
    for folder in layout.FOLDERS:
        if not _sound(present, folder):
            script = f"install -d -m {folder.mode:o} -o root -g root {folder.path}"
            yield Step(f"folder {folder.path}", script, unless=_there(folder))
    for place in layout.FILES:
        if (
            place.path in {layout.KEY, layout.CERTIFICATE}
            and place.path in present.paths
            and not _sound(present, place)
        ):
            what = "private key" if place.path == layout.KEY else "certificate"
            script = f"chown root:root {place.path} && chmod {place.mode:o} {place.path}"
            yield Step(f"rights of the {what}", script)


def key_step() -> Step:
    """Return the making of a new key; a certificate that was for an older one goes.

    It goes after: a key without a certificate is always a new one, whatever breaks off in between.
    """
    t = temporary(layout.KEY)
    return Step(
        "private key, made on the server",
        f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve "
        f"-out {t} && chmod 600 {t} && sync {t} && mv -fT {t} {layout.KEY} && "
        f"sync {layout.TLS_FOLDER} && rm -f {layout.CERTIFICATE} && sync {layout.TLS_FOLDER}",
        unless=f"[ -s {layout.KEY} ]",
    )


def enrolment_steps(present: Presence, token_pem: bytes) -> Iterator[Step]:
    """Yield a new key, and the token with which the agent gets a certificate for it.

    A certificate that was revoked or ended goes with its key; a key that never had one stays. The token travels and
    lies as a secret does.
    """
    if layout.CERTIFICATE in present.paths or not present.key_public_pem:
        yield key_step()
    yield _put(layout.TOKEN_FILE, token_pem, what="token for a certificate")


def installation_steps(wanted: Desired, present: Presence) -> Iterator[Step]:
    """Yield files, unit and start, as far as needed."""
    reload_needed = present.unit.reload_needed
    for place in layout.FILES:
        content = wanted.files.get(place.path)
        if content is None:
            continue
        if _differs(present, place, content):
            yield _put(place, content)
            reload_needed |= place.path == layout.UNIT_FILE
    if reload_needed:
        reloaded = f'[ "$(systemctl show {layout.UNIT} -p NeedDaemonReload)" = NeedDaemonReload=no ]'
        yield Step("systemd reads the unit", "systemctl daemon-reload", unless=reloaded)
    if present.unit.enabled != "enabled":
        enabled = f'[ "$(systemctl show {layout.UNIT} -p UnitFileState)" = UnitFileState=enabled ]'
        yield Step("start at boot", f"systemctl --quiet enable {layout.UNIT}", unless=enabled)
    if present.unit.active != "active" or present.unit.digest != wanted.digest:
        script = f"systemctl reset-failed {layout.UNIT} 2>/dev/null; systemctl restart {layout.UNIT}"
        yield Step("start of the agent", script, seconds=STOP_SECONDS, unless=_runs(wanted.digest))


def removal_steps(present: Presence, *, python: str | None) -> Iterator[Step]:
    """Yield what takes the agent off the server; nothing when nothing is there.

    The program goes last but its own `cleanup` runs first: were it the other way, a failure in the middle would
    leave a ring that nobody empties.
    """
    if not present.anything:
        return
    if layout.UNIT_FILE in present.paths or present.unit.pid:
        script = f"systemctl --quiet disable {layout.UNIT}; systemctl stop {layout.UNIT}"
        yield Step("stop of the agent", script, seconds=STOP_SECONDS, unless=f"[ ! -e {layout.UNIT_FILE} ]")
    if layout.PROGRAM in present.paths and layout.CONFIG in present.paths and python:
        script = f"{python} -I {layout.PROGRAM} cleanup --config {layout.CONFIG}"
        nothing = f"[ ! -e {layout.PROGRAM} ] || [ ! -e {layout.CONFIG} ]"
        yield Step("the agent's own cleanup", script, unless=nothing)
    instances = " ".join(layout.instance_folders())
    yield Step(
        "the trace instance is gone",
        f'for i in {instances}; do [ -d "$i" ] || continue; echo 0 >"$i/tracing_on"; rmdir "$i" || exit 1; done',
        unless=f'for i in {instances}; do [ ! -d "$i" ] || exit 1; done',
    )
    yield Step(
        "unit and folders are gone",
        f"rm -f {layout.UNIT_FILE} {temporary(layout.UNIT_FILE)} && rm -rf {' '.join(layout.TREES)} && "
        f"systemctl daemon-reload && {{ systemctl reset-failed {layout.UNIT} 2>/dev/null; true; }}",
        unless=f'for p in {layout.UNIT_FILE} {" ".join(layout.TREES)}; do [ ! -e "$p" ] || exit 1; done',
    )


def _put(place: layout.Place, content: bytes, *, what: str | None = None) -> Step:
    t, folder = temporary(place.path), place.path.rpartition("/")[0]
    sha256 = hashlib.sha256(content).hexdigest()
    script = (
        f"cat >{t} && h=$(sha256sum <{t}) && "
        f'{{ [ "${{h%% *}}" = {sha256} ] || {{ echo "the upload broke off" >&2; exit 1; }}; }} && '
        f"chown root:root {t} && chmod {place.mode:o} {t} && sync {t} && mv -fT {t} {place.path} && sync {folder}"
    )
    unless = f'{_there(place)} && [ "$(sha256sum <{place.path} | cut -c-64)" = {sha256} ]'
    return Step(what or place.path, script, content, UPLOAD_SECONDS, unless)


def _there(place: layout.Place) -> str:
    return f'[ "$(stat -c %a:%u:%g {place.path} 2>/dev/null)" = {place.mode:o}:0:0 ]'


def _runs(digest: str) -> str:
    environment = f'"/proc/$(systemctl show {layout.UNIT} -p MainPID | cut -d= -f2)/environ"'
    return f"cat {environment} 2>/dev/null | tr '\\0' '\\n' | grep -qx {layout.DIGEST_VARIABLE}={digest}"


def _differs(present: Presence, place: layout.Place, content: bytes) -> bool:
    state = present.paths.get(place.path)
    return state is None or not _sound(present, place) or state.sha256 != hashlib.sha256(content).hexdigest()


def _sound(present: Presence, place: layout.Place) -> bool:
    state = present.paths.get(place.path)
    return state is not None and state.mode == place.mode and state.owner == "0:0"


def _digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(shlex.quote(path).encode() + b"\0" + hashlib.sha256(files[path]).digest())
    return whole.hexdigest()
