"""`dr:index:HealthCheck`: passes when the recovered server answers; what waits for it starts only then.

A check that does not pass in time leaves the resource in the state "booted, not healthy" with the last answer seen;
the next `up` asks again. `read` tells what is stored: a check is a fact of its moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC

from dr.errors import RunFailed
from dr.provider import logins
from dr.provider.probe import Answer, Probe, ask, heard
from dr.provider.probe_sql import ask_sql
from dr.provider.resource import NotReady, Problem, Properties, ResourceType, Session, kind_problems
from dr.provider.world import World

PAUSE_SECONDS = 1.0
PASSED = "passed"
NOT_HEALTHY = "booted, not healthy"
# kind -> what it needs beyond a port
KINDS = {"tcp": (), "http": (), "ssh": ("server", "ssh", "command"), "sql": ("engine",)}

Question = Callable[[str, int, float], Answer]  # host, port, seconds that are left


class HealthCheck(ResourceType):
    name = "HealthCheck"
    required = ("subscription", "resourceGroup", "vmName", "address", "kind", "port", "timeout")
    optional = ("path", "status", "contains", "command", "engine", "server", "ssh", "triggers")
    in_place = frozenset(
        {"address", "kind", "port", "timeout", "path", "status", "contains", "command", "engine", "server", "ssh"}
    )
    unclear = frozenset({"state", "lastAnswer", "passedAt", "endpoint"})

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, inputs: Properties) -> list[Problem]:
        return [*super().check(inputs), *kind_problems(inputs, KINDS, "a health check", "a check")]

    def due(self, state: Properties) -> str | None:
        # A refresh forgets that the resource was not ready; what did not pass is still to be asked.
        return None if state.get("state") == PASSED else "state"

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        resource_id = f"{inputs['vmName']}:{inputs['port']}"
        return resource_id, self._wait(resource_id, inputs, session)

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        asked = self.in_place - {"timeout", "ssh"}  # another way in is no other answer
        if state.get("state") == PASSED and all(state.get(name) == inputs.get(name) for name in asked):
            kept = {name: state[name] for name in self.unclear if name in state}
            return {**kept, **inputs}
        return self._wait(resource_id, inputs, session)

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        return

    def _wait(self, resource_id: str, inputs: Properties, session: Session) -> Properties:
        question, begun = self._question(inputs), time.monotonic()
        while True:
            host, port = self._world.reach(
                inputs["subscription"], inputs["resourceGroup"], inputs["vmName"], inputs["address"], inputs["port"]
            )
            answer = question(host, port, inputs["timeout"] - (time.monotonic() - begun))
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

    def _question(self, inputs: Properties) -> Question:
        kind = inputs["kind"]
        if kind == "sql":
            return lambda host, port, left: heard(lambda: ask_sql(inputs["engine"], host, port))
        if kind == "ssh":
            return self._by_ssh(inputs)
        probe = Probe(kind, inputs.get("path") or "/", inputs.get("status") or 200, inputs.get("contains"))
        return lambda host, port, left: ask(probe, host, port)

    def _by_ssh(self, inputs: Properties) -> Question:
        from dr.provider.probe_ssh import ask_ssh  # noqa: PLC0415 - loads paramiko
        from dr.push.credentials import Secrets  # noqa: PLC0415 - as above

        secrets = Secrets(key_store=lambda: self._world.key_store(inputs["subscription"]))
        server, login, command = inputs["server"], logins.ssh(inputs["ssh"]), inputs["command"]
        return lambda host, port, left: ask_ssh(server, login, command, secrets, host, port, left)
