"""What an interrupted run left behind, and what is done about it before it goes on. Pure.

Tried facts: a CLI that was killed leaves a lock; a create that was cut off stays "pending", and the next `up` only
warns and creates again; what a killed provider had made is in no state at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dr.compile import names

_LOCK = re.compile(r"created by (?P<user>\S+?)@(?P<host>\S+) \(pid (?P<pid>\d+)\)")


@dataclass(frozen=True, slots=True)
class Lock:
    """Who holds the lock of a stack."""

    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class HeldRun:
    """The run whose resources a stack holds; no selector when it was cut off before one was resolved."""

    run: str
    selector: str | None


def locks(errors: Iterable[str]) -> tuple[Lock, ...]:
    """Return the locks that a refused `up` named; empty when it failed for another reason."""
    text = "\n".join(errors)
    if "currently locked" not in text:
        return ()
    return tuple(Lock(found["host"], int(found["pid"])) for found in _LOCK.finditer(text))


def pending(deployment: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the URNs of what was being created when a run was cut off."""
    operations = deployment.get("pending_operations") or []
    return tuple(operation["resource"]["urn"] for operation in operations if operation["type"] == "creating")


def run_of(deployment: Mapping[str, Any]) -> HeldRun | None:
    """Return the run that a stack holds, or None when it holds nothing."""
    held: HeldRun | None = None
    for resource in deployment.get("resources") or []:
        inputs = resource.get("inputs") or {}
        if resource["type"] == "dr:index:RecoveryPoint":
            return HeldRun(inputs["run"], inputs["selector"])
        run = (inputs.get("tags") or {}).get(names.TAG_RUN)
        held = HeldRun(run, None) if run else held
    return held


def orphans(deployment: Mapping[str, Any], present: Iterable[str]) -> Iterator[str]:
    """Yield the ids among `present` (what really is in the run's resource group) that the state does not know."""
    known = {str(resource.get("id", "")).lower() for resource in deployment.get("resources") or []}
    for resource_id in sorted(present):
        if resource_id.lower() not in known:
            yield resource_id
