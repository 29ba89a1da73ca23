"""The step that a person means: by its name, in a run, on the points that the run stands on now."""

from __future__ import annotations

from dr.compile import names
from dr.errors import NotFound
from dr.failover.steps.performing import read
from dr.failover.steps.records import Key, step_folder
from dr.model import RecoveryPlan
from dr.schema.findings import closest
from dr.vault.store import BlobStore


def find_key(store: BlobStore, plan: RecoveryPlan, run: str, step: str) -> Key:
    """Return the key of a step's newest turn. `NotFound`: the plan has no such action, or the run did not reach it."""
    known = [action.name for group in plan.groups for action in (*group.before, *group.after)]
    if step not in known:
        meant = closest(step, known)
        hint = f'did you mean "{meant}"?' if meant else f"its actions are: {', '.join(known) or 'none'}"
        raise NotFound(f'plan {plan.name} has no action "{step}"', code="unknown-step", remedy=hint)
    folder = step_folder(plan.name, run, step)
    turns = sorted({name.removeprefix(folder).partition("/")[0] for name in store.list(names.RUNS, folder)})
    begun = [
        (history.attempts[-1].intent.began, key)
        for key in (Key(plan.name, run, step, turn) for turn in turns)
        if (history := read(store, key)).attempts
    ]
    if not begun:
        raise NotFound(
            f"step {step} of run {run} was not reached yet",
            code="step-not-begun",
            remedy=f"`dr failover {plan.name}` goes on until it needs somebody",
        )
    return max(begun, key=lambda each: each[0])[1]
