"""What a run keeps of each of its steps: blobs of container `runs` that are created and never changed. Pure.

    PLAN/RUN/steps/STEP/TURN/NUMBER-intent.json      attempt NUMBER begins; written before anything is done
                                    -result.json     how it ended
                                    -approval.json   a person approved it (manual steps)
                                    -verdict.json    a person said what became of it, where nobody saw its end

The JSON is a contract: `docs/formats/run-record.schema.json`. TURN (`context.turn_of`) stands for the recovery points
that the run stands on: with others the plan begins anew, and so do its steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from dr.errors import Corrupt
from dr.vault.manifest import format_time, parse_time

SCHEMA = 1
_NAME = re.compile(r"(?P<number>[1-9][0-9]{0,5})-(?P<part>intent|result|approval|verdict)\.json")


class State(Enum):
    """How a step stands."""

    NOT_BEGUN = "not begun"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"  # it began, and nobody saw its end
    PAUSED = "paused"  # it waits for an approval
    APPROVED = "approved"  # it has one, and the run has not gone on yet


class Word(Enum):
    """What a person says of an attempt whose end nobody saw."""

    DONE = "done"  # it did what it should
    AGAIN = "again"  # it may be done once more


@dataclass(frozen=True, slots=True)
class Key:
    """One step of one run, on one set of recovery points."""

    plan: str
    run: str
    step: str
    turn: str

    @property
    def folder(self) -> str:
        return f"{step_folder(self.plan, self.run, self.step)}{self.turn}/"

    @property
    def idempotency(self) -> str:
        """The same for every attempt: a receiver that has seen it may answer without doing it twice."""
        return f"{self.plan}/{self.run}/{self.step}/{self.turn}"


def step_folder(plan: str, run: str, step: str) -> str:
    return f"{plan}/{run}/steps/{step}/"


@dataclass(frozen=True, slots=True)
class Intent:
    kind: str  # a value of `dr.model.ActionKind`
    began: datetime
    until: datetime  # its time-out; of a manual step, the last moment of an approval
    by: str  # who does it: host, process and a word that nobody else has


@dataclass(frozen=True, slots=True)
class Result:
    state: State  # DONE, FAILED or UNKNOWN
    ended: datetime
    said: str  # one line for people
    exit_code: int | None = None
    output: str = ""  # what the program wrote, bounded (`output.py`)
    output_left_out_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Approval:
    who: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    word: Word
    who: str
    at: datetime


Record = Intent | Result | Approval | Verdict


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    intent: Intent
    result: Result | None = None
    approval: Approval | None = None
    verdict: Verdict | None = None

    @property
    def manual(self) -> bool:
        return self.intent.kind == "manual"

    @property
    def state(self) -> State:
        """What is known of it. What was seen to be done is done; else a person's word counts before silence."""
        if self.result is not None and self.result.state is State.DONE:
            return State.DONE
        if self.verdict is not None:
            return State.DONE if self.verdict.word is Word.DONE else State.FAILED
        if self.result is not None:
            return self.result.state
        if self.manual:
            return State.PAUSED if self.approval is None else State.APPROVED
        return State.UNKNOWN


@dataclass(frozen=True, slots=True)
class History:
    """All attempts of a step, in order."""

    attempts: tuple[Attempt, ...] = ()

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def state(self) -> State:
        return self.last.state if self.last else State.NOT_BEGUN

    @property
    def next_number(self) -> int:
        return self.last.number + 1 if self.last else 1


def blob(key: Key, number: int, record: Record | type[Record]) -> str:
    """Return the name of a record's blob in container `runs`."""
    kind = record if isinstance(record, type) else type(record)
    return f"{key.folder}{number}-{kind.__name__.lower()}.json"


def to_bytes(key: Key, number: int, record: Record) -> bytes:
    """Return a record as its blob holds it."""
    head = {"plan": key.plan, "run": key.run, "step": key.step, "turn": key.turn, "attempt": number}
    body = {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}
    document = {"schema": SCHEMA, "record": type(record).__name__.lower(), **head, **body}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def history(blobs: Mapping[str, bytes]) -> History:
    """Read the records of one step, by blob name. `Corrupt` names the one that cannot be read."""
    parts: dict[int, dict[str, Any]] = {}
    for name, data in blobs.items():
        found = _NAME.fullmatch(name.rpartition("/")[2])
        if found is None:
            continue  # of a newer version of the product; what is understood here is told by the others
        try:
            parts.setdefault(int(found["number"]), {})[found["part"]] = _READERS[found["part"]](json.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(
                f"runs/{name} is no readable record of a step: {error!r}",
                code="run-record-invalid",
                remedy="compare it with docs/formats/run-record.schema.json; until it can be read nobody knows what "
                "was done, so the step is not begun",
            ) from error
    return History(tuple(_attempts(parts)))


def _attempts(parts: Mapping[int, Mapping[str, Any]]) -> Iterable[Attempt]:
    for number in sorted(parts):
        if "intent" not in parts[number]:
            raise Corrupt(
                f"attempt {number} of a step has {', '.join(sorted(parts[number]))} and no intent",
                code="run-record-invalid",
                remedy="somebody deleted a blob of the run; look what was done, and begin another run",
            )
        yield Attempt(number, **parts[number])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    return value.value if isinstance(value, Enum) else value


_READERS: dict[str, Callable[[Any], Record]] = {
    "intent": lambda read: Intent(read["kind"], parse_time(read["began"]), parse_time(read["until"]), str(read["by"])),
    "result": lambda read: Result(
        State(read["state"]),
        parse_time(read["ended"]),
        str(read["said"]),
        read["exit_code"],
        str(read["output"]),
        int(read["output_left_out_bytes"]),
    ),
    "approval": lambda read: Approval(str(read["who"]), parse_time(read["at"])),
    "verdict": lambda read: Verdict(Word(read["word"]), str(read["who"]), parse_time(read["at"])),
}
