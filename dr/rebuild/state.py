"""One stack's state made to fit what exists: import in rounds, take over what is ours, say what is left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil

from dr.errors import RunFailed
from dr.failover.engine import Event, Outcome
from dr.failover.repair import pending
from dr.failover.unlocking import Lockable, freed
from dr.rebuild import planning
from dr.rebuild.planning import Step
from dr.rebuild.result import Named, StackResult

ROUNDS = 12  # as deep as anything hangs on something else


class Stack(Lockable, Protocol):
    """One stack; `dr.failover.engine.Engine` is the real one."""

    def state(self) -> Mapping[str, Any] | None: ...

    def clear_pending(self) -> None: ...

    def preview(self, *options: str, import_file: Path) -> Mapping[str, Any]: ...

    def take_in(self, import_file: Path, *, protect: bool, report: Callable[[Event], None]) -> Outcome: ...

    def up_some(self, report: Callable[[Event], None], *options: str) -> Outcome: ...


class Recovered:
    """The work on one stack. `id_of` names the Azure resource that a type's inputs stand for, None while unknown."""

    def __init__(
        self,
        stack: Stack,
        *,
        protect: bool,
        id_of: Callable[[str, Mapping[str, Any]], str | None],
        say: Callable[[str], None],
        report: Callable[[Event], None],
        process_exists: Callable[[int], bool] = psutil.pid_exists,
    ) -> None:
        self._stack, self._protect, self._id_of = stack, protect, id_of
        self._say, self._report, self._process_exists = say, report, process_exists
        self._imported: list[str] = []
        self._tried: set[str] = set()  # imported, or not there: not to be asked for again
        self.states: list[Named] = []

    def run(self) -> StackResult:
        """Make state and folder fit; everything that is not taken over or made again stays as it is and is named.

        Raises `RunFailed` with the engine's words, and `StackLocked`. A second call goes on.
        """
        self._repair()
        todo = self._import()
        wanted, left = [s for s in todo if planning.harmless(s)], [s for s in todo if not planning.harmless(s)]
        made = self._make(wanted, only=bool(left)) if any(s.type.startswith(planning.OURS) for s in wanted) else []
        if left:
            self._name_left(left)
        return StackResult(self._stack.stack, self._imported, made, [step.label for step in left])

    def _repair(self) -> None:
        if pending(self._stack.state() or {}):
            self._say(f"{self._stack.stack}: an earlier call was cut off; what it was making is looked for again")
            try:
                self._stack.clear_pending()
            except RunFailed as error:
                if not self._freed([error.message]):
                    raise
                self._stack.clear_pending()

    def _import(self) -> list[Step]:
        """Import round by round; return the steps that a preview still shows."""
        with tempfile.TemporaryDirectory(prefix="lifeboat-rebuild-") as folder:
            file = Path(folder) / "import.json"
            for _ in range(ROUNDS):
                todo = self._preview(file)
                unseen = [step for step in todo if step.urn not in self._tried]
                # A preview that would create nothing writes a file without resources, or none.
                wanted = json.loads(file.read_bytes()).get("resources") if file.exists() else None
                turn = planning.importable(unseen, wanted or [], self._id_of)
                if not turn.ids:
                    return todo
                file.write_text(json.dumps({"resources": list(turn.entries)}))
                self._take_in(file, turn.ids)
        raise RunFailed(f"{self._stack.stack}: the import does not end", code="rebuild-failed")

    def _preview(self, file: Path) -> list[Step]:
        self._say(f"{self._stack.stack}: comparing the state with the declaration and what exists")
        return planning.steps(self._stack.preview("--refresh", import_file=file))

    def _take_in(self, file: Path, ids: Mapping[str, str]) -> None:
        self._say(f"{self._stack.stack}: importing {len(ids)} resources")
        outcome = self._unlocked(lambda: self._stack.take_in(file, protect=self._protect, report=self._report))
        held = {str(resource["urn"]) for resource in (self._stack.state() or {}).get("resources") or []}
        came = sorted(urn for urn in ids if urn in held)
        self._imported += [urn.rpartition("::")[2] for urn in came]
        absent = planning.missing(outcome.errors, {urn: each for urn, each in ids.items() if urn not in held})
        if not outcome.succeeded and (outcome.interrupted or not (absent or came)):
            raise self._failed("the import", outcome)
        self._tried |= ids.keys() if outcome.succeeded else {*came, *absent}

    def _make(self, wanted: list[Step], *, only: bool) -> list[str]:
        """Let our own types take over what exists; with `only`, nothing else of the stack is touched."""
        options = list(planning.targets(wanted)) if only else []
        self._say(f"{self._stack.stack}: taking over {', '.join(s.name for s in wanted if s.type.startswith('dr:'))}")
        options += ["--refresh", "--continue-on-error"]
        outcome = self._unlocked(lambda: self._stack.up_some(self._report, *options))
        if not outcome.succeeded:
            if outcome.interrupted:
                raise self._failed("taking over", outcome)
            self._name_failures(wanted, outcome)
        held = {str(r["urn"]) for r in (self._stack.state() or {}).get("resources") or [] if not r.get("initErrors")}
        return [step.label for step in wanted if step.type.startswith(planning.OURS) and step.urn in held]

    def _name_failures(self, wanted: Iterable[Step], outcome: Outcome) -> None:
        held = {str(resource["urn"]) for resource in (self._stack.state() or {}).get("resources") or []}
        lacking = [step for step in wanted if step.urn not in held]
        if any(step.type != "dr:index:Protection" for step in lacking) or not lacking:
            raise self._failed("taking over", outcome)
        for step in lacking:
            own = [error for error in outcome.errors if f"{step.name}:" in error]
            self.states.append(
                Named(
                    step.name,
                    "agent-not-taken-over",
                    own[0] if own else "its agent could not be asked",
                    "make the server reachable by SSH, then run `dr rebuild` again; or `pulumi up` of the site stack, "
                    "which changes of an agent only what is not as it should be",
                )
            )

    def _name_left(self, left: Iterable[Step]) -> None:
        for step in left:
            self.states.append(
                Named(
                    self._stack.stack,
                    "stack-differs",
                    f"a preview of {self._stack.stack} shows: {step.label}",
                    f"look at `pulumi preview --diff -s {self._stack.stack}`; `pulumi up` does it",
                )
            )

    def _unlocked(self, call: Callable[[], Outcome]) -> Outcome:
        outcome = call()
        return call() if not outcome.succeeded and self._freed(outcome.errors) else outcome

    def _freed(self, errors: Iterable[str]) -> bool:
        return freed(self._stack, errors, self._say, self._process_exists)

    def _failed(self, what: str, outcome: Outcome) -> RunFailed:
        why = "was interrupted" if outcome.interrupted else "failed"
        reasons = "\n".join(outcome.errors) or "no reason was given"
        return RunFailed(
            f"{self._stack.stack}: {what} {why}: {reasons}",
            code="interrupted" if outcome.interrupted else "rebuild-failed",
            remedy="remove the cause, then run `dr rebuild` again: it goes on where it stopped",
        )
