"""One step of a run, on a store: intent, then the action, then its result; and what people say of it.

Rules:
- The intent is there before anything is done, create-only: of two who try, one does it.
- What was seen to fail is tried again, as often as declared, and once more by each later call of the run.
- An intent without an end is *unknown*: it is reported and never repeated, until a person says what became of it.
- A manual step is one attempt that waits: for an approval until its time-out, and then for the next call to ask anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from dr.compile import names
from dr.errors import Conflict, NotFound, Refused, Unreachable
from dr.failover.steps.records import (
    Approval,
    Attempt,
    History,
    Intent,
    Key,
    Record,
    Result,
    State,
    Verdict,
    Word,
    blob,
    history,
    to_bytes,
)
from dr.vault.manifest import format_time
from dr.vault.store import BlobStore

MANUAL = "manual"
WRITES = 3  # tries of one record: what was done and could not be written down is unknown


@dataclass(frozen=True, slots=True)
class Policy:
    """How long one attempt may take, and how often it is tried again after it failed."""

    timeout_seconds: int
    retries: int = 0
    pause_seconds: float = 5.0  # between two tries


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; the state is DONE, FAILED, or UNKNOWN where nobody can tell."""

    state: State
    said: str
    exit_code: int | None = None
    output: str = ""
    output_left_out_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Doer:
    """Who performs: clock, a wait that says whether it was cut short, and a name that nobody else has."""

    by: str
    now: Callable[[], datetime]
    wait: Callable[[float], bool]
    say: Callable[[str], None] = lambda line: None


Act = Callable[[int], Outcome]  # given the number of the attempt


def read(store: BlobStore, key: Key) -> History:
    """Return what is known of a step. `Corrupt`, `Unreachable`."""
    found: dict[str, bytes] = {}
    for name in store.list(names.RUNS, key.folder):
        try:
            found[name] = store.get(names.RUNS, name)[0]
        except NotFound:
            continue  # listed and gone: a purge is at work
    return history(found)


def perform(store: BlobStore, key: Key, kind: str, policy: Policy, prepare: Callable[[], Act], doer: Doer) -> History:
    """Do a step that is not done yet, and return how it stands then: DONE, FAILED or UNKNOWN.

    `prepare` finds what the action needs (a secret, a connection); it is called before the intent, and what it raises
    leaves no trace. What the action itself raises leaves the step unknown. Raises `Conflict` when somebody else does
    the step at this moment, `Unreachable` or `Corrupt` from the store.
    """
    known = read(store, key)
    if known.state in {State.DONE, State.UNKNOWN}:
        return known
    act = prepare()
    for again in range(policy.retries + 1):
        if again:
            doer.say(f"failed, trying again in {policy.pause_seconds:.0f} s: {_said(known)}")
            if doer.wait(policy.pause_seconds):
                return known
        number = known.next_number
        _begin(store, key, number, kind, policy, doer)
        outcome = act(number)
        result = Result(
            outcome.state,
            doer.now(),
            outcome.said,
            outcome.exit_code,
            outcome.output,
            outcome.output_left_out_bytes,
        )
        _write(store, key, number, result)
        known = read(store, key)
        if outcome.state is not State.FAILED:
            return known
    return known


def ask(store: BlobStore, key: Key, policy: Policy, doer: Doer) -> History:
    """Ask for an approval, or take the one that there is; return how the step stands: DONE, FAILED or PAUSED."""
    known = read(store, key)
    if known.state is State.DONE:
        return known
    if known.state in {State.NOT_BEGUN, State.FAILED}:
        _begin(store, key, known.next_number, MANUAL, policy, doer)
        return read(store, key)
    last = known.last
    assert last is not None  # it is paused or approved
    if last.approval is not None:
        said = f"approved by {last.approval.who} at {format_time(last.approval.at)}"
        _write(store, key, last.number, Result(State.DONE, doer.now(), said))
    elif doer.now() > last.intent.until:
        said = f"nobody approved it until {format_time(last.intent.until)}"
        _write(store, key, last.number, Result(State.FAILED, doer.now(), said))
    return read(store, key)


def approve(store: BlobStore, key: Key, who: str, now: datetime) -> Attempt:
    """Approve a manual step that waits; to do so twice changes nothing. `NotFound`, `Conflict`, `Refused`."""
    last = _last(store, key)
    if not last.manual:
        raise Refused(
            f"step {key.step} is no manual step: there is nothing to approve, it is {last.state.value}",
            code="nothing-to-approve",
            remedy=settling(key) if last.state is State.UNKNOWN else f"`dr failover {key.plan}` goes on",
        )
    if last.approval is not None:
        return last
    if last.state is not State.PAUSED or now > last.intent.until:
        raise Conflict(
            f"step {key.step} does not wait for an approval any more: "
            + (_said(History((last,))) if last.result else f"it waited until {format_time(last.intent.until)}"),
            code="not-waiting",
            remedy=f"`dr failover {key.plan}` asks anew if it has to be asked",
        )
    with suppress(Conflict):  # somebody else was faster; theirs counts
        _write(store, key, last.number, Approval(who, now))
    return _last(store, key)


def settling(key: Key) -> str:
    """Return the remedy of a step whose end nobody saw."""
    word = f"dr approve {key.plan} {key.step}"
    return f"look what became of it; then `{word} --done` goes on, and `{word} --again` does it once more"


def settle(store: BlobStore, key: Key, word: Word, who: str, now: datetime) -> Attempt:
    """Say what became of an attempt that nobody saw the end of. `NotFound`, `Conflict`."""
    last = _last(store, key)
    if last.state is not State.UNKNOWN:
        raise Conflict(
            f"step {key.step} is not unknown: it is {last.state.value}",
            code="not-unknown",
            remedy="a word is only asked for where nobody saw the end; `dr failover` goes on from what was seen",
        )
    _write(store, key, last.number, Verdict(word, who, now))
    return _last(store, key)


def _last(store: BlobStore, key: Key) -> Attempt:
    last = read(store, key).last
    if last is None:
        raise NotFound(
            f"step {key.step} of run {key.run} was not reached yet",
            code="step-not-begun",
            remedy=f"`dr failover {key.plan}` goes on until it needs somebody",
        )
    return last


def _said(known: History) -> str:
    last = known.last
    return last.result.said if last is not None and last.result is not None else known.state.value


def _begin(store: BlobStore, key: Key, number: int, kind: str, policy: Policy, doer: Doer) -> None:
    began = doer.now()
    intent = Intent(kind, began, began + timedelta(seconds=policy.timeout_seconds), doer.by)
    try:
        _write(store, key, number, intent)
    except Conflict as error:
        raise Conflict(
            f"step {key.step} of run {key.run} is being done by somebody else",
            code="step-taken",
            remedy="wait for them; then run the same command again",
        ) from error


def _write(store: BlobStore, key: Key, number: int, record: Record) -> None:
    """Create a record. `Conflict` when another one stands there; our own, whose answer was lost, is none."""
    name, data = blob(key, number, record), to_bytes(key, number, record)
    for left in reversed(range(WRITES)):
        try:
            store.put(names.RUNS, name, data, if_absent=True)
        except Unreachable:
            if not left:
                raise
        except Conflict:
            if store.get(names.RUNS, name)[0] == data:
                return
            raise
        else:
            return
