"""`dr:index:Action`: one action of a recovery plan, done once for a run and the points it stands on.

What was done is told by the run's records in the store (`dr.failover.steps`), never by the state: `create` and `update`
both look there first. A step that is paused, failed or unknown is kept in the state under that name; what waits for it
does not start, and the next `up` looks again. `delete` leaves the records.
"""

from __future__ import annotations

import os
import socket
import uuid
from functools import partial

from dr.errors import RunFailed
from dr.failover.steps import context as contexts
from dr.failover.steps.context import StepContext
from dr.failover.steps.performing import Act, Doer, Policy, ask, perform, settling
from dr.failover.steps.records import Attempt, Key, State
from dr.provider import logins
from dr.provider.resource import NotReady, Problem, Properties, ResourceType, Session, kind_problems
from dr.provider.world import World
from dr.vault.manifest import format_time

MANUAL = "manual"
# kind -> what it needs
KINDS = {
    "script": ("command",),
    "command": ("command", "server", "ssh", "port", "vmName", "address"),
    "webhook": (),
    MANUAL: ("instructions",),
}


class Action(ResourceType):
    name = "Action"
    required = (
        "subscription",
        "account",
        "resourceGroup",
        "plan",
        "run",
        "runKind",
        "step",
        "kind",
        "group",
        "when",
        "timeout",
        "retries",
        "servers",
    )
    optional = ("command", "server", "ssh", "port", "vmName", "address", "url", "urlFrom", "instructions")
    # Records know what was done, so no change makes another resource; other points are another turn there.
    in_place = frozenset({*required, *optional}) - {"plan", "run", "step"}
    unclear = frozenset({"state", "said", "attempt", "endedAt"})

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, inputs: Properties) -> list[Problem]:
        problems = [*super().check(inputs), *kind_problems(inputs, KINDS, "an action", "an action")]
        if inputs.get("kind") == "webhook" and (inputs.get("url") is None) == (inputs.get("urlFrom") is None):
            problems.append(Problem("url", "an action of kind webhook needs url"))
        return problems

    def due(self, state: Properties) -> str | None:
        # A refresh forgets that the resource was not ready; what is not done is still to be done.
        return None if state.get("state") == State.DONE.value else "state"

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        resource_id = f"{inputs['plan']}/{inputs['run']}/{inputs['step']}"
        return resource_id, self._do(resource_id, inputs, session)

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        return self._do(resource_id, inputs, session)

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        return

    def _do(self, resource_id: str, inputs: Properties, session: Session) -> Properties:
        if session.cancelled.is_set():
            raise RunFailed(
                f"interrupted before step {inputs['step']}",
                code="interrupted",
                remedy="run the same command again to go on",
            )
        store = self._world.open_store(inputs["subscription"], inputs["account"])
        context = contexts.from_properties(inputs)
        policy = Policy(inputs["timeout"], inputs["retries"])
        doer = Doer(
            by=f"{socket.gethostname()} process {os.getpid()} {uuid.uuid4().hex[:12]}",
            now=self._world.now,
            wait=session.cancelled.wait,
            say=session.progress,
        )
        if inputs["kind"] == MANUAL:
            known = ask(store, context.key, policy, doer)
        else:
            prepare = partial(self._prepare, inputs, context)
            known = perform(store, context.key, inputs["kind"], policy, prepare, doer)
        last = known.last
        assert last is not None
        outputs = {**inputs, **_outputs(last)}
        if last.state is not State.DONE:
            raise _not_done(resource_id, outputs, context.key, last)
        return outputs

    def _prepare(self, inputs: Properties, context: StepContext) -> Act:
        from dr.failover.steps.command import command  # noqa: PLC0415 - loads paramiko
        from dr.failover.steps.script import script  # noqa: PLC0415 - the one of these that is needed
        from dr.failover.steps.webhook import webhook  # noqa: PLC0415 - as above
        from dr.push.credentials import Secrets  # noqa: PLC0415 - loads paramiko

        secrets = Secrets(key_store=lambda: self._world.key_store(inputs["subscription"]))
        told, kind, seconds = partial(contexts.to_bytes, context), inputs["kind"], inputs["timeout"]
        if kind == "script":
            return script(inputs["command"], told, secrets.path("."), seconds)
        if kind == "command":
            where = (inputs["subscription"], inputs["resourceGroup"], inputs["vmName"], inputs["address"])
            reach = partial(self._world.reach, *where, inputs["port"])
            login = logins.ssh(inputs["ssh"])
            return command(inputs["server"], login, inputs["command"], told, reach, secrets, seconds)
        reference = logins.reference(inputs.get("urlFrom"))
        what = f"plan {context.plan}: action {context.step}: webhook.urlFrom"
        url = inputs["url"] if reference is None else secrets.reveal(reference, what)
        return webhook(url, told, context.key.idempotency, seconds, secret=reference is not None)


def _outputs(last: Attempt) -> Properties:
    said = _said(last)
    ended = {} if last.result is None else {"endedAt": format_time(last.result.ended)}
    return {"state": last.state.value, "said": said, "attempt": last.number, **ended}


def _said(last: Attempt) -> str:
    if last.verdict is not None and last.state is not State.FAILED:
        return f"{last.verdict.who} said that it was done"
    if last.result is not None:
        return last.result.said
    if last.state is State.PAUSED:
        return f"waits for an approval until {format_time(last.intent.until)}"
    return f"it began at {format_time(last.intent.began)} by {last.intent.by}, and nobody saw its end"


def _not_done(resource_id: str, outputs: Properties, key: Key, last: Attempt) -> NotReady:
    step, said = outputs["step"], outputs["said"]
    if last.state is State.PAUSED:
        message = f'paused: step "{step}" {said}: {outputs["instructions"]}'
        return NotReady(resource_id, outputs, message, remedy=f"do it, then `dr approve {key.plan} {step}`")
    if last.state is State.UNKNOWN:
        return NotReady(resource_id, outputs, f'unknown: step "{step}": {said}', remedy=settling(key))
    where = f"runs/{key.folder}{last.number}-result.json"
    remedy = f"correct the cause and run the same command again, it is tried anew; what it wrote is kept in {where}"
    return NotReady(resource_id, outputs, f'step "{step}" failed: {said}', remedy=remedy)
