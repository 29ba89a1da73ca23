"""What a failover tells at its end; the JSON is a contract: `docs/formats/failover.schema.json`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dr.vault.manifest import format_time, parse_time

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class RecoveredServer:
    server: str
    vm: str
    address: str
    point: str
    cut_time: datetime
    endpoints: Mapping[str, str]  # port -> "host:port" as reached from here
    passed_at: tuple[datetime, ...]  # of its health checks


@dataclass(frozen=True, slots=True)
class DoneStep:
    """One action of the plan, done in this run."""

    step: str
    group: int
    when: str  # "before" | "after" the group
    kind: str
    said: str


@dataclass(frozen=True, slots=True)
class Result:
    """One run at its end."""

    plan: str
    run: str
    selector: str
    started: datetime
    servers: tuple[RecoveredServer, ...]
    changes: int  # resources that this call made, changed or removed
    source_may_be_alive: bool
    steps: tuple[DoneStep, ...] = ()

    @property
    def rpo_seconds(self) -> float:
        """Start of the failover minus the oldest point used."""
        lost = ((self.started - server.cut_time).total_seconds() for server in self.servers)
        return max(0.0, *lost)  # a run that changed to a newer point lost nothing

    @property
    def rto_seconds(self) -> float | None:
        """Start of the failover to the last health check passed; None when the plan has no check."""
        passed = [moment for server in self.servers for moment in server.passed_at]
        return (max(passed) - self.started).total_seconds() if passed else None

    @property
    def healthy(self) -> bool | None:
        """True: every health check passed, or there would be no result; None: none is declared."""
        return True if any(server.passed_at for server in self.servers) else None

    def as_dict(self) -> dict[str, Any]:
        rto = self.rto_seconds
        return {
            "schema": SCHEMA,
            "plan": self.plan,
            "run": self.run,
            "selector": self.selector,
            "started": format_time(self.started),
            "point": {server.server: server.point for server in self.servers},
            "rpo_seconds": round(self.rpo_seconds, 3),
            "rto_seconds": None if rto is None else round(rto, 3),
            "servers": [
                {
                    "server": server.server,
                    "address": server.address,
                    "endpoints": dict(server.endpoints),
                    "vm": server.vm,
                    "point": server.point,
                    "cut_time": format_time(server.cut_time),
                }
                for server in self.servers
            ],
            "steps": [
                {"step": one.step, "group": one.group, "when": one.when, "kind": one.kind, "said": one.said}
                for one in self.steps
            ],
            "changes": self.changes,
            "source_may_be_alive": self.source_may_be_alive,
            "healthy": self.healthy,
        }


def recovered(
    outputs: Sequence[Mapping[str, Any]], endpoints: Mapping[str, Mapping[str, str]]
) -> tuple[RecoveredServer, ...]:
    """Read the stack's output `servers`; `endpoints` are those found for each server."""
    return tuple(
        RecoveredServer(
            server=entry["server"],
            vm=entry["vm"],
            address=entry["address"],
            point=entry["point"],
            cut_time=parse_time(entry["cutTime"]),
            endpoints=endpoints.get(entry["server"], {}),
            passed_at=tuple(parse_time(check["passedAt"]) for check in entry["checks"]),
        )
        for entry in outputs
    )


def done_steps(outputs: Sequence[Mapping[str, Any]]) -> tuple[DoneStep, ...]:
    """Read the stack's output `steps`."""
    return tuple(
        DoneStep(one["step"], int(one["group"]), one["when"], one["kind"], str(one["said"])) for one in outputs
    )
