"""Install, inspect and remove the agent on one server: the thin shell around facts, blockers and plan.

Synchronous; every call opens a connection of its own and nothing is shared, so calls for different servers may
run in parallel. Each is idempotent: repeated after a failure it continues, repeated after success it does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dr.certificates.site import NO_CERTIFICATE, SiteCertificates
from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import LifeboatError, PrerequisiteMissing, Refused, RunFailed
from dr.push import layout, plan
from dr.push.blockers import findings, require_none
from dr.push.catalogue import Finding
from dr.push.connection import Connection, connect
from dr.push.credentials import Secrets
from dr.push.facts import PYTHON, Facts, ask, fitting, gather
from dr.push.plan import recorded
from dr.push.presence import UNIT, Presence, certificate_end, certificate_fingerprint, look
from dr.push.probes import read

SETTLE_SECONDS = 60.0  # an emulated server takes long to start Python
ENROL_SECONDS = 60.0  # an emulated server takes long to run openssl
STEADY_SECONDS = 3.0  # so long must one process live to count as running
NOT_ENROLLED = "the agent has no certificate yet: it exchanges its token when the configuration server answers"
UNREACHABLE = "configuration-server-unreachable"  # a finding

Progress = Callable[[str], None]
Interrupted = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Installed:
    """What is on the server. `problems` is empty when it is whole and runs."""

    package_sha256: str | None
    config: Mapping[str, Any] | None  # agent.json
    certificate_sha256: str | None
    certificate_end: datetime | None
    unit_state: str  # systemd's ActiveState
    digest: str  # of the installation that runs, empty when none does
    problems: tuple[str, ...]
    facts: Facts | None = None  # only after `install`
    concerns: tuple[Finding, ...] = ()  # only after `install`
    enrolled: bool = True  # only after `install`: False while the agent has a token and no certificate yet
    changed: tuple[str, ...] = ()  # the steps that `install` took; empty when nothing was to do


class PartlyInstalled(LifeboatError):
    """The installation was begun and is not whole; `installed` is what is there. Repeating it continues.

    `steps` are those that were begun; the last of them may not have been done.
    """

    code = "partly-installed"

    def __init__(self, cause: LifeboatError, installed: Installed | None, steps: Sequence[str]) -> None:
        super().__init__(cause.message, remedy=cause.remedy, code=cause.code)
        self.exit_code = cause.exit_code
        self.http_status = cause.http_status
        self.installed = installed
        self.steps = tuple(steps)


def _quiet(_: str) -> None:
    """Take progress nobody wants."""


def _never() -> bool:
    return False


def install(
    protection: ProtectionBlueprint,
    *,
    site: str,
    certificates: SiteCertificates,
    package: Path,
    protection_epoch: int,
    secrets: Secrets | None = None,
    progress: Progress = _quiet,
    interrupted: Interrupted = _never,
) -> Installed:
    """Make the agent of `package` run on the server, or update it; do only what is needed.

    One without a good certificate gets a token, and is waited for until it has exchanged that, if it can now.
    `interrupted` is asked before each step: what was begun then stays as it is until the next run continues.

    Raises `Refused` "install-blocked" with all blockers (nothing was changed), `Refused` or `Unreachable` of the
    connection (nothing was changed), or `PartlyInstalled` once something was.
    """
    try:
        program = package.read_bytes()
    except OSError as error:
        raise PrerequisiteMissing(
            f"the agent's package {package} cannot be read: {error.strerror}",
            code="package-missing",
            remedy="build it with `dr agent package`",
        ) from error
    with connect(protection, secrets=secrets) as connection:
        progress(f"{protection.server}: asking for facts")
        facts, present = gather(connection, protection), look(connection)
        found = findings(protection, facts, site=site, installed=present.config, protection_epoch=protection_epoch)
        require_none(protection.server, found)
        for finding in found:
            progress(f"{protection.server}: {finding}")
        wanted = plan.config(protection, facts, site=site, protection_epoch=protection_epoch)
        runner = _Runner(connection, protection.server, progress, interrupted)
        try:
            enrolling = _identify(runner, protection.server, present, certificates)
            target = plan.desired(wanted, facts, package=program, authority_pem=certificates.authority_pem)
            runner.run(plan.installation_steps(target, present))
            if runner.done:
                _settle(connection, protection.server, runner)
            if enrolling and UNREACHABLE not in {finding.code for finding in found}:
                progress(f"{protection.server}: waiting for the certificate")
                _await_certificate(connection, protection.server, certificates, runner)
        except LifeboatError as error:
            if not runner.done:
                raise
            seen = _inspect_if_possible(protection, certificates, secrets)
            raise PartlyInstalled(error, seen, runner.done) from error
        installed = _describe(protection.server, look(connection), certificates)
    waits = enrolling and NOT_ENROLLED in installed.problems
    problems = tuple(each for each in installed.problems if not (waits and each == NOT_ENROLLED))
    return replace(
        installed, problems=problems, enrolled=not waits, facts=facts, concerns=found, changed=tuple(runner.done)
    )


def inspect(
    protection: ProtectionBlueprint,
    *,
    certificates: SiteCertificates,
    secrets: Secrets | None = None,
    progress: Progress = _quiet,
) -> Installed | None:
    """Return what is on the server, or None when nothing of the agent is; changes nothing."""
    with connect(protection, secrets=secrets) as connection:
        _require_root(connection, protection)
        progress(f"{protection.server}: looking for the agent")
        present = look(connection)
        return _describe(protection.server, present, certificates) if present.anything else None


def adopt(
    protection: ProtectionBlueprint,
    *,
    site: str,
    certificates: SiteCertificates,
    secrets: Secrets | None = None,
    progress: Progress = _quiet,
) -> Installed | None:
    """Return what is on the server with its facts, and note its certificate; None when nothing of the agent is.

    Changes nothing on the server. Raises as `inspect`, and `Refused` "other-agent-config" for an agent that is of
    another site or server.
    """
    with connect(protection, secrets=secrets) as connection:
        _require_root(connection, protection)
        progress(f"{protection.server}: asking for facts and for the agent")
        facts, present = gather(connection, protection), look(connection)
        if not present.anything:
            return None
        held = present.config or {}
        if (held.get("site"), held.get("server")) != (site, protection.server):
            whose = (
                f"of site {held.get('site')}, server {held.get('server')}" if held else "that does not say whose it is"
            )
            raise Refused(
                f"{protection.server}: there is an agent {whose}",
                code="other-agent-config",
                remedy="check ssh.address; `pulumi up` of the site stack installs this site's agent",
            )
        certificates.adopt(protection.server, present.certificate_pem)
        found = findings(protection, facts, site=site, installed=present.config)
        described = _describe(protection.server, present, certificates)
    concerns = tuple(each for each in found if not each.blocks)
    return replace(described, facts=facts, concerns=concerns)


def remove(
    protection: ProtectionBlueprint,
    *,
    secrets: Secrets | None = None,
    progress: Progress = _quiet,
    interrupted: Interrupted = _never,
) -> bool:
    """Take the agent and everything of it off the server; return whether anything was there.

    Raises `RunFailed` "removal-incomplete" that names what is left.
    """
    with connect(protection, secrets=secrets) as connection:
        _require_root(connection, protection)
        present = look(connection)
        python = fitting(read(PYTHON, ask(connection, (PYTHON,))))
        runner = _Runner(connection, protection.server, progress, interrupted)
        runner.run(plan.removal_steps(present, python=python.path if python else None))
        if not runner.done:
            return False
        left = look(connection)
        if left.anything:
            names = [*left.paths, *left.trees, *([left.trace_instance] if left.trace_instance else [])]
            raise RunFailed(
                f"{protection.server}: the agent is not removed, left are {', '.join(names) or 'its processes'}",
                code="removal-incomplete",
                remedy="repeat it; docs/agent-install.md tells how to do it by hand",
            )
        return True


class _Runner:
    """Takes steps in order and remembers those that were begun."""

    def __init__(self, connection: Connection, server: str, progress: Progress, interrupted: Interrupted) -> None:
        self._connection = connection
        self._server = server
        self._progress = progress
        self._interrupted = interrupted
        self.done: list[str] = []

    def run(self, steps: Iterator[plan.Step]) -> None:
        for step in steps:
            self.go_on(step.what)
            self._progress(f"{self._server}: {step.what}")
            self.done.append(step.what)
            self._connection.must(recorded(step), step.what, stdin=step.stdin, seconds=step.seconds)

    def go_on(self, before: str) -> None:
        """Raise `RunFailed` "install-interrupted" when somebody wants us to stop before that."""
        if self._interrupted():
            raise RunFailed(
                f"{self._server}: interrupted before: {before}",
                code="install-interrupted",
                remedy="run the same command again; it continues where this one stopped",
            )


def _identify(runner: _Runner, server: str, present: Presence, certificates: SiteCertificates) -> bool:
    """Make sure of the folders; when no good certificate is there, see to key and token, and say so."""
    runner.run(plan.identity_steps(present))
    if certificates.problem(server, present.certificate_pem, present.key_public_pem) is None:
        return False
    # A token that waits with its key is as good as another one: a second run has nothing to do.
    if not (present.key_public_pem and certificates.token_waits(server, present.token_serial)):
        runner.run(plan.enrolment_steps(present, certificates.token(server)))
    return True


def _await_certificate(connection: Connection, server: str, certificates: SiteCertificates, runner: _Runner) -> None:
    """Wait until the agent has its certificate; one that gets none in time is a problem of the installation."""
    deadline = time.monotonic() + ENROL_SECONDS
    while time.monotonic() < deadline:
        runner.go_on("the certificate")
        present = look(connection)
        if certificates.problem(server, present.certificate_pem, present.key_public_pem) is None:
            return
        time.sleep(0.5)


def _settle(connection: Connection, server: str, runner: _Runner) -> None:
    """Wait until one process of the agent has lived a while; raise `RunFailed` with its last words if none does."""
    deadline = time.monotonic() + SETTLE_SECONDS
    pid, since = 0, 0.0
    while time.monotonic() < deadline:
        runner.go_on("the agent has run steadily for a while")
        unit = read(UNIT, ask(connection, (UNIT,)))
        if unit.active == "failed":
            break
        if unit.active != "active" or unit.pid != pid:
            pid, since = (unit.pid if unit.active == "active" else 0), time.monotonic()
        elif pid and time.monotonic() - since >= STEADY_SECONDS:
            return
        time.sleep(0.5)
    words = connection.run(f"journalctl -u {layout.UNIT} -n 20 -o cat --no-pager -q").text.strip().splitlines()
    raise RunFailed(
        f"{server}: the agent is installed and does not stay up: {words[-1] if words else 'it says nothing'}",
        code="agent-not-running",
        remedy=f"read `journalctl -u {layout.UNIT}` on the server, remove the cause, then run the same command again",
    )


def _describe(server: str, present: Presence, certificates: SiteCertificates) -> Installed:
    package = present.paths.get(layout.PROGRAM)
    return Installed(
        package_sha256=package.sha256 if package else None,
        config=present.config,
        certificate_sha256=certificate_fingerprint(present.certificate_pem),
        certificate_end=certificate_end(present.certificate_pem),
        unit_state=present.unit.active,
        digest=present.unit.digest,
        problems=(*_problems(present), *_certificate_problems(server, present, certificates)),
    )


def _problems(present: Presence) -> Iterator[str]:
    for place in (*layout.FOLDERS, *layout.FILES):
        state = present.paths.get(place.path)
        if state is None and place.path != layout.CERTIFICATE:  # of which more is said than that
            yield f"{place.path} is missing"
        elif state is None:
            continue
        elif (state.mode, state.owner) != (place.mode, "0:0"):
            yield f"{place.path} has mode {state.mode:o} and owner {state.owner}"
    if present.unit.active != "active":
        yield f"{layout.UNIT} is {present.unit.active} ({present.unit.sub})"
    if present.unit.enabled != "enabled":
        yield f"{layout.UNIT} is not started at boot"


def _certificate_problems(server: str, present: Presence, certificates: SiteCertificates) -> Iterator[str]:
    why = certificates.problem(server, present.certificate_pem, present.key_public_pem)
    if why == NO_CERTIFICATE:
        yield NOT_ENROLLED
    elif why is not None:
        yield f"the agent needs another certificate: {why}"


def _inspect_if_possible(
    protection: ProtectionBlueprint, certificates: SiteCertificates, secrets: Secrets | None
) -> Installed | None:
    try:
        return inspect(protection, certificates=certificates, secrets=secrets)
    except LifeboatError:
        return None  # the error that is being reported says more


def _require_root(connection: Connection, protection: ProtectionBlueprint) -> None:
    if connection.privilege_complaint is not None:
        raise Refused(
            f"{protection.server}: user {connection.user} cannot become root: {connection.privilege_complaint}",
            code="no-root",
            remedy="allow `sudo -n` in /etc/sudoers.d, or declare root as ssh.user",
        )
