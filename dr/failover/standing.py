"""How a run stands by what its stack holds: which servers booted and are healthy, which steps are done. Pure.

It is told when a run did not reach its goal; the JSON is a contract: `docs/formats/failover-stopped.schema.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dr.compile.blueprint import FailoverBlueprint
from dr.errors import Degraded, RunFailed
from dr.failover.steps.records import State

HEALTHY = "healthy"
NOT_HEALTHY = "booted, not healthy"
NOT_ASKED = "booted, not asked yet"
NO_CHECK = "booted, health unknown"
NOT_STARTED = "not started"
NOT_REACHED = "not reached"
_CHECK, _ACTION, _MACHINE = "dr:index:HealthCheck", "dr:index:Action", "azure-native:compute:VirtualMachine"


@dataclass(frozen=True, slots=True)
class ServerStanding:
    server: str
    group: int
    state: str
    said: str  # the last answer of a check that did not pass, or empty


@dataclass(frozen=True, slots=True)
class StepStanding:
    step: str
    group: int
    when: str
    kind: str
    state: str  # a value of `State`, or NOT_REACHED
    said: str


@dataclass(frozen=True, slots=True)
class Standing:
    servers: tuple[ServerStanding, ...]
    steps: tuple[StepStanding, ...]

    @property
    def code(self) -> str:
        """Return the name of what keeps the run from its goal; the one that wants a person's eyes most."""
        steps = {step.state for step in self.steps}
        if State.UNKNOWN.value in steps:
            return "step-unknown"
        if State.FAILED.value in steps:
            return "step-failed"
        if any(server.state == NOT_HEALTHY for server in self.servers):
            return "not-healthy"
        return "paused" if State.PAUSED.value in steps else "run-failed"

    def lines(self) -> Iterator[str]:
        """Yield a line for each server and step, in the order of the run."""
        groups = sorted({one.group for one in self.servers} | {one.group for one in self.steps})
        for group in groups:
            for when in ("before", "after"):
                if when == "after":
                    yield from (_line(one.server, one.state, one.said) for one in self.servers if one.group == group)
                steps = (one for one in self.steps if (one.group, one.when) == (group, when))
                yield from (_line(f"step {one.step}", one.state, one.said) for one in steps)

    def as_dict(self) -> dict[str, Any]:
        return {
            "servers": [
                {"server": one.server, "group": one.group, "state": one.state, "said": one.said} for one in self.servers
            ],
            "steps": [
                {
                    "step": one.step,
                    "group": one.group,
                    "when": one.when,
                    "kind": one.kind,
                    "state": one.state,
                    "said": one.said,
                }
                for one in self.steps
            ],
        }


class RunStopped(RunFailed):
    """A run did not reach its goal; `standing` says how far it came. Paused is no failure: its exit code is 7."""

    def __init__(self, message: str, *, code: str, remedy: str, plan: str, run: str, standing: Standing) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.exit_code = Degraded.exit_code if code == "paused" else RunFailed.exit_code
        self.plan = plan
        self.run = run
        self.standing = standing

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "plan": self.plan, "run": self.run, **self.standing.as_dict()}


def standing(deployment: Mapping[str, Any], blueprint: FailoverBlueprint) -> Standing:
    """Return how each server and step of a run stands, whatever of it the stack holds."""
    held = [resource for resource in deployment.get("resources") or [] if resource.get("id")]
    machines = {_name(one) for one in held if one["type"] == _MACHINE}
    found = {_name(one): one.get("outputs") or {} for one in held if one["type"] in {_CHECK, _ACTION}}
    servers: list[ServerStanding] = []
    steps: list[StepStanding] = []
    for number, group in enumerate(blueprint.groups, 1):
        for server in group.servers:
            checks = [found.get(check.name, {}) for check in group.checks if check.server == server.server]
            state, said = _of_server(server.virtual_machine in machines, checks)
            servers.append(ServerStanding(server.server, number, state, said))
        for when, actions in (("before", group.before), ("after", group.after)):
            for action in actions:
                outputs = found.get(action.name, {})
                state, said = str(outputs.get("state", NOT_REACHED)), str(outputs.get("said", ""))
                steps.append(StepStanding(action.step, number, when, action.kind, state, said))
    return Standing(tuple(servers), tuple(steps))


def _of_server(booted: bool, checks: list[Mapping[str, Any]]) -> tuple[str, str]:
    if not booted:
        return NOT_STARTED, ""
    for check in checks:
        if check.get("state") == NOT_HEALTHY:
            return NOT_HEALTHY, str(check.get("lastAnswer", ""))
    if not checks:
        return NO_CHECK, ""
    return (HEALTHY if all(check.get("state") == "passed" for check in checks) else NOT_ASKED), ""


def _name(resource: Mapping[str, Any]) -> str:
    return str(resource["urn"]).rpartition("::")[2]


def _line(who: str, state: str, said: str) -> str:
    return f"{who}: {state}{f' ({said})' if said else ''}"
