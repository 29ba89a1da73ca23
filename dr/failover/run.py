"""One failover from its command to its end: decide, preflight, repair, `up`, measure.

Rules:
- A stack holds one run. A second call continues it, or finds everything done and changes nothing.
- Repair comes first: the lock of a dead engine, what was being created, what is in no state.
- The start of a run is kept with it (`runs/PLAN/RUN/started.json`, create-only), so that a run that was continued
  reports its RTO from its first start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import psutil

from dr import compile as compiler
from dr.compile import names
from dr.compile.blueprint import FailoverBlueprint
from dr.errors import Conflict, LifeboatError, Refused, RunFailed
from dr.failover.engine import Event, Outcome, Stack
from dr.failover.preflight import Checks, require
from dr.failover.repair import HeldRun, orphans, pending, run_of
from dr.failover.result import Result, done_steps, recovered
from dr.failover.source import Answers, answering, answers
from dr.failover.standing import RunStopped, standing
from dr.failover.unlocking import StackLocked, freed
from dr.model import Declaration
from dr.vault.manifest import format_time, parse_time
from dr.vault.store import BlobStore

LATEST = "latest"


class Reach(Protocol):
    def __call__(
        self, subscription: str, resource_group: str, vm_name: str, address: str, port: int
    ) -> tuple[str, int]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; None: not said."""

    plan: str
    run: str | None
    selector: str | None
    source_may_be_alive: bool
    replace: bool  # another selector may replace what already runs


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the run happens."""

    declaration: Declaration
    subscription: str
    engine: Stack
    prepare: Callable[[], None]  # makes the stack where it is missing
    store: Callable[[str], BlobStore]  # by account
    reach: Reach
    present: Callable[[str, str], Iterable[str]]  # (subscription, resource group) -> ARM ids
    exists: Callable[[str], bool | None]  # by ARM id; None: this target cannot be asked
    now: Callable[[], datetime]
    say: Callable[[str], None]  # a line for people
    report: Callable[[Event], None]  # the engine's events
    ask: Answers = answers
    process_exists: Callable[[int], bool] = psutil.pid_exists


@dataclass(frozen=True, slots=True)
class Decision:
    run: str
    selector: str
    continues: bool


def decide(held: HeldRun | None, request: Request, now: datetime, default: str = LATEST) -> Decision:
    """Say which run this call is about, and by which selector (`default`: when none was ever said).

    `Refused` when it would replace what runs without an explicit word.
    """
    if held is None:
        return Decision(request.run or now.strftime("%Y%m%d%H%M%S"), request.selector or default, False)
    if request.run not in {None, held.run}:
        raise Refused(
            f"plan {request.plan} is already failed over by run {held.run}; run {request.run} cannot begin beside it",
            code="run-exists",
            remedy=f"leave --run out to continue {held.run}, or `pulumi destroy` its stack first",
        )
    selector = request.selector or held.selector or default
    if held.selector not in {None, selector} and not request.replace:
        raise Refused(
            f'run {held.run} runs on "{held.selector}"; "{selector}" would replace its disks and VMs',
            code="would-replace",
            remedy="say --yes to replace them, or leave --point out to keep them",
        )
    return Decision(held.run, selector, True)


def fail_over(request: Request, around: Surroundings) -> Result:
    """Run a plan's failover to its end. Raises the errors of `dr.errors`; `RunFailed` names what remains."""
    begun = around.now()
    compiler.failover(around.declaration, request.plan, "r1", LATEST, around.subscription)  # is there such a plan?
    deployment = around.engine.state()
    held = run_of(deployment) if deployment else None
    decision = decide(held, request, begun, compiler.default_selector(around.declaration, request.plan))
    blueprint = compiler.failover(
        around.declaration, request.plan, decision.run, decision.selector, around.subscription
    )
    _require_dead_source(request, around, blueprint, decision)
    checks = Checks(lambda: around.store(blueprint.storage_account), around.exists)
    require(blueprint, around.subscription, checks, begun)
    store = around.store(blueprint.storage_account)
    started = _started(store, blueprint, begun)
    around.prepare()
    wanted, before = _configuration(request, around, decision), around.engine.configured()
    around.engine.configure(wanted)
    around.say(f"run {decision.run}: {'continued' if decision.continues else 'begun'}, point {decision.selector}")
    try:
        _repair(around, blueprint, deployment or {})
        outcome = _up(around)
    except StackLocked:
        # Another call is at work: a plain `pulumi up` after it must find its run here, not the one that was refused.
        around.engine.configure({name: before.get(name, "") for name in wanted})
        raise
    if not outcome.succeeded:
        raise _failed(around, blueprint, outcome)
    return _result(around, blueprint, started, outcome)


def _require_dead_source(
    request: Request, around: Surroundings, blueprint: FailoverBlueprint, decision: Decision
) -> None:
    if decision.continues or request.source_may_be_alive:
        return
    servers = [server.server for group in blueprint.groups for server in group.servers]
    alive = answering(around.declaration, servers, around.ask)
    if alive:
        raise Refused(
            f"source may be alive: {', '.join(alive)} still answers its SSH port",
            code="source-alive",
            remedy="shut the source down first; or say --source-may-be-alive if two copies can do no harm",
        )


def _configuration(request: Request, around: Surroundings, decision: Decision) -> dict[str, str]:
    values = {
        "azure-native:subscriptionId": around.subscription,
        "dr:run": decision.run,
        "dr:point": decision.selector,
    }
    if request.source_may_be_alive:
        return {**values, "dr:sourceMayBeAlive": "acknowledged"}
    # The word was given for the run before; it does not count for a new one.
    return values if decision.continues else {**values, "dr:sourceMayBeAlive": ""}


def _started(store: BlobStore, blueprint: FailoverBlueprint, begun: datetime) -> datetime:
    name = f"{blueprint.plan}/{blueprint.run}/started.json"
    document = json.dumps({"schema": 1, "started": format_time(begun)}).encode() + b"\n"
    try:
        store.put(names.RUNS, name, document, if_absent=True)
    except Conflict:
        data, _ = store.get(names.RUNS, name)
        return parse_time(json.loads(data)["started"])
    return parse_time(format_time(begun))


def _repair(around: Surroundings, blueprint: FailoverBlueprint, deployment: Mapping[str, Any]) -> None:
    cut_off = pending(deployment)
    if cut_off:
        around.say(f"repair: an earlier call was cut off while it made {', '.join(_short(urn) for urn in cut_off)}")
        _clear_pending(around)
        deployment = around.engine.state() or {}
    left = list(orphans(deployment, around.present(around.subscription, blueprint.resource_group)))
    if left:
        raise RunFailed(
            f"run {blueprint.run} left behind what its stack does not know: {', '.join(left)}",
            code="orphans",
            remedy="take each over with `pulumi import`, or delete it, and run the same command again",
        )


def _up(around: Surroundings) -> Outcome:
    outcome = around.engine.up(around.report)
    if outcome.succeeded or not _freed(around, outcome.errors):
        return outcome
    if pending(around.engine.state() or {}):
        around.engine.clear_pending()
    return around.engine.up(around.report)


def _clear_pending(around: Surroundings) -> None:
    try:
        around.engine.clear_pending()
    except RunFailed as error:
        if not _freed(around, [error.message]):
            raise
        around.engine.clear_pending()


def _freed(around: Surroundings, errors: Sequence[str]) -> bool:
    return freed(around.engine, errors, around.say, around.process_exists)


def _failed(around: Surroundings, blueprint: FailoverBlueprint, outcome: Outcome) -> RunStopped:
    deployment = around.engine.state() or {}
    made = len([r for r in deployment.get("resources") or [] if r.get("custom")])
    stands = standing(deployment, blueprint)
    code = "interrupted" if outcome.interrupted else stands.code
    why = {"interrupted": "was interrupted", "paused": "is paused"}.get(code, "failed")
    reasons = "\n".join(error for error in outcome.errors if error != "update failed")
    return RunStopped(
        f"run {blueprint.run} of plan {blueprint.plan} {why}: {reasons or 'no reason was given'}\n"
        + "".join(f"    {line}\n" for line in stands.lines())
        + f"{made} resources of it stand in {blueprint.resource_group} and are kept",
        code=code,
        remedy=f"`dr failover {blueprint.plan}` goes on where it stopped; `pulumi destroy -s {around.engine.stack}` "
        "removes it",
        plan=blueprint.plan,
        run=blueprint.run,
        standing=stands,
    )


def _result(around: Surroundings, blueprint: FailoverBlueprint, started: datetime, outcome: Outcome) -> Result:
    outputs = around.engine.outputs()
    endpoints = {
        server.server: _endpoints(
            around, blueprint, server.virtual_machine, server.address, server.subnet, server.server
        )
        for group in blueprint.groups
        for server in group.servers
    }
    return Result(
        plan=blueprint.plan,
        run=blueprint.run,
        selector=blueprint.selector,
        started=started,
        servers=recovered(outputs["servers"], endpoints),
        steps=done_steps(outputs.get("steps", ())),
        changes=sum(count for operation, count in outcome.changes.items() if operation != "same"),
        source_may_be_alive=True,
    )


def _endpoints(
    around: Surroundings, blueprint: FailoverBlueprint, vm: str, address: str, subnet: str, server: str
) -> dict[str, str]:
    checked = {check.port for group in blueprint.groups for check in group.checks if check.server == server}
    subnets = {declared.name: declared.inbound_ports for declared in around.declaration.site.network.subnets}
    found: dict[str, str] = {}
    for port in sorted({*checked, *subnets.get(subnet, ())}):
        try:
            host, there = around.reach(around.subscription, blueprint.resource_group, vm, address, port)
        except LifeboatError as error:
            around.say(f"{server}: port {port} cannot be reached from here: {error.message}")
            continue
        found[str(port)] = f"{host}:{there}"
    return found


def _short(urn: str) -> str:
    return urn.rpartition("::")[2]
