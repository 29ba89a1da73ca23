"""`dr:index:HealthCheck`: passes when the recovered server answers; what waits for it starts only then.

A check that does not pass in time leaves the resource in the state "booted, not healthy" with the last answer seen;
the next `up` asks again. `read` tells what is stored: a check is a fact of its moment.
"""

from __future__ import annotations

import time
from datetime import UTC

from dr.errors import RunFailed
from dr.provider.probe import Probe, ask
from dr.provider.resource import NotReady, Problem, Properties, ResourceType, Session
from dr.provider.world import World

PAUSE_SECONDS = 1.0
PASSED = "passed"
NOT_HEALTHY = "booted, not healthy"


class HealthCheck(ResourceType):
    name = "HealthCheck"
    required = ("subscription", "resourceGroup", "vmName", "address", "kind", "port", "timeout")
    optional = ("path", "status", "contains", "triggers")
    in_place = frozenset({"address", "kind", "port", "timeout", "path", "status", "contains"})
    unclear = frozenset({"state", "lastAnswer", "passedAt", "endpoint"})

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, inputs: Properties) -> list[Problem]:
        problems = list(super().check(inputs))
        if inputs.get("kind") not in {"tcp", "http"}:
            problems.append(Problem("kind", "a health check is of kind tcp or http"))
        return problems

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        resource_id = f"{inputs['vmName']}:{inputs['port']}"
        return resource_id, self._wait(resource_id, inputs, session)

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        asked = self.in_place - {"timeout"}
        if state.get("state") == PASSED and all(state.get(name) == inputs.get(name) for name in asked):
            kept = {name: state[name] for name in self.unclear if name in state}
            return {**kept, **inputs}
        return self._wait(resource_id, inputs, session)

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        return

    def _wait(self, resource_id: str, inputs: Properties, session: Session) -> Properties:
        probe = Probe(
            kind=inputs["kind"],
            path=inputs.get("path") or "/",
            status=inputs.get("status") or 200,
            contains=inputs.get("contains"),
        )
        begun = time.monotonic()
        while True:
            host, port = self._world.reach(
                inputs["subscription"], inputs["resourceGroup"], inputs["vmName"], inputs["address"], inputs["port"]
            )
            answer = ask(probe, host, port)
            outputs = {**inputs, "endpoint": f"{host}:{port}", "lastAnswer": answer.text}
            if answer.passed:
                passed_at = self._world.now().astimezone(UTC).isoformat()
                return {**outputs, "state": PASSED, "passedAt": passed_at}
            waited = time.monotonic() - begun
            if waited >= inputs["timeout"]:
                raise NotReady(
                    resource_id,
                    {**outputs, "state": NOT_HEALTHY},
                    f"{inputs['vmName']} booted and is not healthy: after {inputs['timeout']} s port "
                    f"{inputs['port']} ({inputs['kind']}) last answered: {answer.text}",
                    remedy="look at the VM's boot diagnostics (its console); run the same command again to ask once "
                    "more, or choose another recovery point",
                )
            session.progress(f"waiting for {inputs['kind']} {inputs['port']}: {answer.text} ({waited:.0f} s)")
            if session.cancelled.wait(PAUSE_SECONDS):
                raise RunFailed(
                    f"interrupted while {inputs['vmName']} was starting; it goes on starting",
                    code="interrupted",
                    remedy="run the same command again to go on",
                )
