"""What a step is told of its run: one JSON object, a contract (`docs/formats/step-context.schema.json`). Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dr.failover.steps.records import Key

SCHEMA = 1
TURN_LETTERS = 8


@dataclass(frozen=True, slots=True)
class ServerContext:
    """One server of the groups up to the step's own."""

    server: str
    group: int  # 1 is the first
    vm: str
    address: str  # declared, inside the landing zone
    running: bool  # False: its group has not started by then
    point: str
    cut_time: str
    selected_time: str  # when the run chose the point: the same point chosen anew is another turn


@dataclass(frozen=True, slots=True)
class StepContext:
    plan: str
    run: str
    kind: str  # of the run: a value of `dr.model.RunKind`
    step: str
    group: int
    when: str  # "before" | "after" the group
    resource_group: str
    servers: tuple[ServerContext, ...]

    @property
    def key(self) -> Key:
        return Key(self.plan, self.run, self.step, turn_of(self.servers))


def turn_of(servers: Sequence[ServerContext]) -> str:
    """Return a short word for the recovery points that a step stands on."""
    points = sorted((server.server, server.point, server.selected_time) for server in servers)
    return hashlib.sha256(json.dumps(points).encode()).hexdigest()[:TURN_LETTERS]


def to_json(context: StepContext, attempt: int) -> dict[str, Any]:
    """Return what attempt `attempt` of a step is told."""
    return {
        "schema": SCHEMA,
        "plan": context.plan,
        "run": context.run,
        "kind": context.kind,
        "step": context.step,
        "group": context.group,
        "when": context.when,
        "attempt": attempt,
        "idempotency_key": context.key.idempotency,
        "resource_group": context.resource_group,
        "servers": [
            {
                "server": server.server,
                "group": server.group,
                "vm": server.vm,
                "address": server.address,
                "running": server.running,
                "point": server.point,
                "cut_time": server.cut_time,
            }
            for server in context.servers
        ],
    }


def to_bytes(context: StepContext, attempt: int) -> bytes:
    return json.dumps(to_json(context, attempt), indent=1).encode() + b"\n"


def from_properties(given: Mapping[str, Any]) -> StepContext:
    """Read the properties of a resource `dr:index:Action`."""
    return StepContext(
        plan=given["plan"],
        run=given["run"],
        kind=given["runKind"],
        step=given["step"],
        group=given["group"],
        when=given["when"],
        resource_group=given["resourceGroup"],
        servers=tuple(
            ServerContext(
                server=one["server"],
                group=one["group"],
                vm=one["vm"],
                address=one["address"],
                running=one["running"],
                point=one["point"],
                cut_time=one["cutTime"],
                selected_time=one["selectedTime"],
            )
            for one in given["servers"]
        ),
    )
