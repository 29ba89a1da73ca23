"""What a rebuild did, what it could not know again and what is left to do: `docs/formats/rebuild.schema.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Named:
    """Something that a person has to know; `about` is a server, a stack or "site"."""

    about: str
    code: str
    message: str
    remedy: str
    severity: str = "degraded"  # or "note"


@dataclass(frozen=True, slots=True)
class StackResult:
    """One stack: what was imported and taken over, and what a preview would still change."""

    stack: str
    imported: Sequence[str]
    made: Sequence[str]
    left: Sequence[str]


@dataclass(frozen=True, slots=True)
class Result:
    """A whole rebuild. `changed` False: everything was there."""

    site: str
    target: str
    stacks: Sequence[StackResult]
    servers: Mapping[str, Mapping[str, Any]]  # {"points", "newest", "accepted"}
    revocations: int
    states: Sequence[Named]

    @property
    def changed(self) -> bool:
        return any(stack.imported or stack.made for stack in self.stacks)

    @property
    def degraded(self) -> list[Named]:
        """Return the states that want somebody's attention."""
        return [state for state in self.states if state.severity == "degraded"]

    def as_dict(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "target": self.target,
            "changed": self.changed,
            "stacks": [asdict(stack) for stack in self.stacks],
            "servers": {name: dict(facts) for name, facts in self.servers.items()},
            "revocations": self.revocations,
            "states": [asdict(state) for state in self.states],
        }
