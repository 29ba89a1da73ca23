"""`dr:index:Protection`: the agent on one server, put there, updated and removed over SSH.

- An update is due when the agent's package changed, and when something was found missing, stopped, or without a good
  certificate (the agent renews that itself). A policy change is no reason: the agent hears it with its next heartbeat,
  so `initialPolicy` is only what it starts with.
- `read` of a server that does not answer keeps what is stored and says so: a burnt site must not empty the state.
- While `dr rebuild` is at work, `create` takes over the agent that is there as it is, and nothing is due.
- `delete` removes the agent and revokes its certificates. If the server does not answer it fails, unless
  `dr:forgetUnreachable` names the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dr.certificates.site import SiteCertificates
from dr.compile.blueprint import DiskBlueprint, MembershipBlueprint, ProtectionBlueprint
from dr.errors import LifeboatError, NotFound, Unreachable
from dr.model import Application
from dr.provider import logins
from dr.provider.installation_log import extended
from dr.provider.resource import NotReady, Properties, ResourceType, Session
from dr.provider.world import World

if TYPE_CHECKING:
    from dr.push.credentials import Secrets
    from dr.push.install import Installed

FIRST_EPOCH = 1
FORGET = "forgetUnreachable"


class Protection(ResourceType):
    name = "Protection"
    required = (
        "site",
        "subscription",
        "certificateAuthority",
        "server",
        "ssh",  # as stacks.resources writes it: references to secrets, never a secret
        "disks",  # [{"name", "device", "replica", "digests"}]
        "processServers",
        "configurationServer",
        "initialPolicy",  # {"crashConsistentSeconds", "rpoThresholdSeconds", "retentionSeconds"}
    )
    # Commands come by the push alone: no server of the site may send any.
    optional = ("firmware", "groupPort", "applications")
    in_place = frozenset(
        {
            "certificateAuthority",
            "ssh",
            "disks",
            "processServers",
            "configurationServer",
            "initialPolicy",
            "firmware",
            "groupPort",
            "applications",
            "subscription",
        }
    )
    unclear = frozenset(
        {
            "agentSha256",
            "installation",
            "unitState",
            "problems",
            "log",
            "concerns",
            "productUuid",
            "diskBytes",
        }
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def due(self, state: Properties) -> str | None:
        if self._world.rebuilding:
            return None
        if state.get("problems"):
            return "problems"
        package = self._world.agent_package().read_bytes()
        return None if hashlib.sha256(package).hexdigest() == state.get("agentSha256") else "agentSha256"

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        if self._world.rebuilding:
            return inputs["server"], self._adopt(inputs, session)
        return inputs["server"], self._install(inputs, (), session)

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        return {**_measured(state), **self._install(inputs, state.get("log", ()), session)}

    def read(self, resource_id: str, state: Properties, session: Session) -> Properties | None:
        try:
            installed = self._world.push().inspect(
                _blueprint(state),
                certificates=self._certificates(),
                secrets=self._secrets(state),
                progress=session.progress,
            )
        except LifeboatError as error:
            session.warn(f"{resource_id} was not asked, its state is kept as it was: {error.message} ({error.remedy})")
            return state
        return None if installed is None else {**state, **_outputs(installed)}

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        try:
            self._world.push().remove(
                _blueprint(state),
                secrets=self._secrets(state),
                progress=session.progress,
                interrupted=session.cancelled.is_set,
            )
        except Unreachable as error:
            forgotten = {name.strip() for name in self._world.configuration.get(FORGET, "").split(",")}
            if resource_id not in forgotten:
                raise Unreachable(
                    f"the agent on {resource_id} cannot be removed: {error.message}",
                    code=error.code,
                    remedy=f"make it reachable and repeat; if {resource_id} is gone for good, `pulumi config set "
                    f"dr:{FORGET} {resource_id}` and repeat: its agent is then left as it is",
                ) from error
            session.warn(
                f"{resource_id} does not answer and was forgotten as dr:{FORGET} says; its agent was not removed"
            )
        self._certificates().revoke_removed(resource_id)
        session.warn(f"the recovery points of {resource_id} stay until their retention ends")

    def _secrets(self, properties: Properties) -> Secrets:
        from dr.push.credentials import Secrets  # noqa: PLC0415 - loads paramiko

        return Secrets(key_store=lambda: self._world.key_store(properties["subscription"]))

    def _certificates(self) -> SiteCertificates:
        return SiteCertificates(self._world.site, self._world.now)

    def _adopt(self, inputs: Properties, session: Session) -> Properties:
        installed = self._world.push().adopt(
            _blueprint(inputs),
            site=inputs["site"],
            certificates=self._certificates(),
            secrets=self._secrets(inputs),
            progress=session.progress,
        )
        if installed is None:
            raise NotFound(
                f"{inputs['server']}: there is no agent to take over",
                code="agent-missing",
                remedy="`pulumi up` of the site stack installs one",
            )
        agent = installed.package_sha256 or ""
        kept = extended((), self._world.now(), agent=agent, steps=("taken over by dr rebuild",))
        return {**inputs, **_outputs(installed), **_facts(installed), "log": kept}

    def _install(self, inputs: Properties, log: Sequence[Properties], session: Session) -> Properties:
        from dr.push.install import NOT_ENROLLED, PartlyInstalled  # noqa: PLC0415 - loads paramiko

        package = self._world.agent_package()
        agent = hashlib.sha256(package.read_bytes()).hexdigest()
        try:
            installed = self._world.push().install(
                _blueprint(inputs),
                site=inputs["site"],
                certificates=self._certificates(),
                package=package,
                protection_epoch=FIRST_EPOCH,
                secrets=self._secrets(inputs),
                progress=session.progress,
                interrupted=session.cancelled.is_set,
            )
        except PartlyInstalled as error:
            known = _outputs(error.installed) if error.installed else {}
            problems = known.get("problems") or [error.message]
            kept = extended(log, self._world.now(), agent=agent, steps=error.steps, outcome=error.code)
            outputs = {**inputs, **known, "problems": problems, "log": kept}
            raise NotReady(inputs["server"], outputs, error.message, remedy=error.remedy) from error
        if not installed.enrolled:
            session.warn(f"{inputs['server']}: {NOT_ENROLLED}")
        for concern in installed.concerns:
            session.warn(f"{inputs['server']}: {concern}")
        kept = extended(log, self._world.now(), agent=agent, steps=installed.changed)
        return {**inputs, **_outputs(installed), **_facts(installed), "log": kept}


def _blueprint(properties: Properties) -> ProtectionBlueprint:
    policy = properties["initialPolicy"]
    return ProtectionBlueprint(
        server=properties["server"],
        ssh=logins.ssh(properties["ssh"]),
        disks=tuple(DiskBlueprint(**disk) for disk in properties["disks"]),
        process_servers=tuple(properties["processServers"]),
        configuration_server=properties["configurationServer"],
        crash_consistent_seconds=policy["crashConsistentSeconds"],
        rpo_threshold_seconds=policy["rpoThresholdSeconds"],
        retention_seconds=policy["retentionSeconds"],
        firmware=properties.get("firmware"),
        group=_membership(properties.get("groupPort")),
        applications=tuple(_application(each) for each in properties.get("applications") or ()),
    )


def _application(given: Properties) -> Application:
    return Application(
        name=given["name"],
        timeout_seconds=int(given["timeoutSeconds"]),
        use=given.get("use"),
        settings=given.get("settings"),
        pre=tuple(given.get("pre") or ()),
        post=tuple(given.get("post") or ()),
    )


def _membership(port: int | None) -> MembershipBlueprint | None:
    # Where the members are, their agents hear from the configuration server; here only the port matters.
    return None if port is None else MembershipBlueprint("", "", int(port))


def _outputs(installed: Installed) -> dict[str, Any]:
    """Return what a look at the server shows; the same look always gives the same."""
    return {
        "agentSha256": installed.package_sha256,
        "installation": installed.digest,
        "unitState": installed.unit_state,
        "problems": list(installed.problems),
    }


def _facts(installed: Installed) -> Properties:
    if installed.facts is None:
        return {}
    return {
        "concerns": [str(concern) for concern in installed.concerns],
        "productUuid": installed.facts.product_uuid,
        "diskBytes": {name: disk.size_bytes for name, disk in installed.facts.disks.items()},
    }


def _measured(state: Properties) -> Properties:
    return {name: state[name] for name in ("concerns", "productUuid", "diskBytes") if name in state}
