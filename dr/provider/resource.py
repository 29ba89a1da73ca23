"""What a resource type of ours is.

Rules:
- `check` is pure and `due` changes nothing; `due`, `create`, `read`, `update` and `delete` may block and run in a
  thread of their own.
- Properties are plain JSON values. `dr.plugin.values.UNKNOWN` stands for what only a later step will know.
- Outputs repeat the inputs, so that `read` can show what is really there under the same names.
- No secret is ever an input or output: keys live in the key store and in files of the site.
- What was made and does not work raises `NotReady`: the resource is kept in the state, what depends on it does not
  start, and the next `up` calls `update`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dr.errors import LifeboatError, RunFailed

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    property: str
    reason: str


def _quiet(_: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Session:
    """One operation: where it reports to, and whether somebody wants it to stop.

    `progress` is a passing line, `warn` stays under the diagnostics of the run.
    """

    progress: Callable[[str], None] = _quiet
    warn: Callable[[str], None] = _quiet
    cancelled: threading.Event = field(default_factory=threading.Event)


class NotReady(LifeboatError):
    """A resource exists and is not in the state it should be in; `outputs` is kept with it."""

    code = "not-ready"
    exit_code = RunFailed.exit_code

    def __init__(self, resource_id: str, outputs: Properties, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.resource_id = resource_id
        self.outputs = outputs


def kind_problems(inputs: Properties, kinds: Mapping[str, Sequence[str]], what: str, called: str) -> list[Problem]:
    """Return what is wrong with the `kind` of inputs: that there is no such kind, else what it needs and is not there.

    `what` is what is of a kind, `called` what a kind of it is called.
    """
    needs = kinds.get(str(inputs.get("kind")))
    if needs is None:
        return [Problem("kind", f"{what} is of kind {', '.join(kinds)}")]
    missing = (name for name in needs if inputs.get(name) is None)
    return [Problem(name, f"{called} of kind {inputs['kind']} needs {name}") for name in missing]


class ResourceType(ABC):
    """One type of the provider; subclasses say what they need of the world in their constructor."""

    name: ClassVar[str]
    required: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    in_place: ClassVar[frozenset[str]] = frozenset()  # a change of any other input replaces
    unclear: ClassVar[frozenset[str]] = frozenset()  # outputs that an update may change: unknown in its preview

    @property
    def token(self) -> str:
        return f"dr:index:{self.name}"

    def check(self, inputs: Properties) -> Sequence[Problem]:
        """Return what is wrong with the inputs; values may still be unknown."""
        known = {*self.required, *self.optional}
        missing = [Problem(name, f"{self.name} needs {name}") for name in self.required if inputs.get(name) is None]
        foreign = [Problem(name, f"{self.name} has no property {name}") for name in inputs if name not in known]
        return [*missing, *foreign]

    def due(self, state: Properties) -> str | None:
        """Return the name of an output that calls for an update although no input changed, or None."""
        return None

    def preview(self, inputs: Properties) -> Properties:
        """Return the outputs that are known before `create`; touches nothing and never fails on unknowns."""
        return inputs

    @abstractmethod
    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        """Make the resource, or take over what an interrupted `create` made; return its id and outputs."""

    def read(self, resource_id: str, state: Properties, session: Session) -> Properties | None:
        """Return the outputs as they really are; None means that the resource is gone."""
        return state

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        """Bring the resource from `state` to `inputs` in place and return the new outputs."""
        raise NotImplementedError(f"{self.name} has nothing that changes in place")

    @abstractmethod
    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        """Remove the resource; no error when it is gone already."""
