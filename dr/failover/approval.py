"""A person's word about a step of the run that a plan's stack holds: an approval, or what became of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dr import compile as compiler
from dr.errors import NotFound
from dr.failover.repair import run_of
from dr.failover.run import LATEST, Surroundings
from dr.failover.steps.finding import find_key
from dr.failover.steps.performing import approve, settle
from dr.failover.steps.records import Approval, Verdict, Word
from dr.vault.manifest import format_time

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Said:
    """What is recorded now; the JSON is a contract: `docs/formats/approve.schema.json`."""

    plan: str
    run: str
    step: str
    attempt: int
    word: str  # "approved" | "done" | "again"
    who: str
    at: datetime

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "plan": self.plan,
            "run": self.run,
            "step": self.step,
            "attempt": self.attempt,
            "word": self.word,
            "who": self.who,
            "at": format_time(self.at),
        }


def say(around: Surroundings, plan: str, step: str, word: Word | None, who: str) -> Said:
    """Record an approval (`word` is None) or a verdict. Raises `NotFound`, `Conflict`, `Refused`; nothing goes on yet.

    An approval that is there already is returned as it was given.
    """
    blueprint = compiler.failover(around.declaration, plan, "r1", LATEST, around.subscription)
    deployment = around.engine.state()
    held = run_of(deployment) if deployment else None
    if held is None:
        raise NotFound(
            f"no run of plan {plan} is at work: stack {around.engine.stack} holds nothing",
            code="no-run",
            remedy=f"`dr failover {plan}` begins one",
        )
    store = around.store(blueprint.storage_account)
    key = find_key(store, around.declaration.plans[plan], held.run, step)
    now = around.now()
    attempt = approve(store, key, who, now) if word is None else settle(store, key, word, who, now)
    record: Approval | Verdict | None = attempt.approval if word is None else attempt.verdict
    assert record is not None  # both return the attempt as it is recorded
    said = "approved" if isinstance(record, Approval) else record.word.value
    return Said(plan, held.run, step, attempt.number, said, record.who, record.at)
