"""One step, whatever dies when: never done twice unasked, never said to be done when it was not, always with a name."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from jsonschema import Draft202012Validator

from dr.errors import Conflict, Corrupt, LifeboatError, NotFound, PrerequisiteMissing, Refused, Unreachable
from dr.failover.steps.performing import Act, Doer, Outcome, Policy, approve, ask, perform, read, settle
from dr.failover.steps.records import Intent, Key, Result, State, Word, blob, to_bytes
from dr.retention.pruning import is_selection, read_in_use
from dr.vault.memory import MemoryBlobStore
from tests.failover.steps.killing import DONE, FAILED, KEY, POLICY, Clock, Killed, Mortal, MortalStore, World
from tests.provider.worlds import NOW

SCHEMA = Draft202012Validator(
    json.loads((Path(__file__).parents[3] / "docs/formats/run-record.schema.json").read_text())
)
CALLS = some.lists(
    some.tuples(
        some.none() | some.integers(1, 24),  # when the process dies
        some.text("..EA", max_size=6),  # what the store does to changing calls
        some.sampled_from(["", "again", "done"]),  # what a person says, if it is unknown then
    ),
    max_size=6,
)
OUTCOMES = some.lists(some.sampled_from([FAILED, DONE, Outcome(State.UNKNOWN, "no answer")]), max_size=5)


@settings(deadline=None, max_examples=60)
@given(CALLS, OUTCOMES)
def test_whatever_dies_when_no_step_is_done_twice_unasked(
    calls: list[tuple[int | None, str, str]], outcomes: list[Outcome]
) -> None:
    store, clock = MortalStore(), Clock()
    world, again, said_done = World(store, outcomes), 0, False
    for death, letters, word in [*calls, *[(None, "", "again")] * (len(outcomes) + 2)]:
        store.mortal = Mortal(death)
        store.script(letters)
        before = list(world.effects)
        unknown_before = read_quietly(store) is State.UNKNOWN
        ended: State | None = None
        with suppress(Killed, LifeboatError):
            ended = perform(store, KEY, "script", POLICY, world.prepare, clock.doer()).state
        store.heal()
        store.mortal = Mortal()
        known = read(store, KEY)
        numbers = [number for number, _ in world.effects]
        assert len(numbers) == len(set(numbers)), "an attempt had two effects"
        assert set(numbers) <= {attempt.number for attempt in known.attempts}, "an effect without an intent"
        if unknown_before:
            assert world.effects == before, "an unknown step was done unasked"
        well = [state for _, state in world.effects].count(State.DONE)
        assert well <= 1 + again, "done once more without a word"
        if ended is State.DONE or known.state is State.DONE:
            assert well or said_done, "said to be done and was not"
        if ended is not None:
            assert ended is known.state
        if known.state is State.UNKNOWN and word:
            settle(store, KEY, Word(word), "olga@desk", clock.now)
            again, said_done = again + (word == "again"), said_done or word == "done"
    assert read(store, KEY).state is State.DONE, "with nothing in the way it comes to its end"
    for name in store.list("runs"):
        SCHEMA.validate(json.loads(store.get("runs", name)[0]))


def read_quietly(store: MortalStore) -> State:
    mortal, store.mortal = store.mortal, Mortal()
    try:
        return read(store, KEY).state
    finally:
        store.mortal = mortal


def test_every_moment_of_a_step_is_one_that_the_property_kills_at() -> None:
    store = MortalStore()
    world = World(store, [FAILED])
    perform(store, KEY, "script", POLICY, world.prepare, Clock().doer())
    assert world.effects == [(1, State.FAILED), (2, State.DONE)]
    assert 16 <= store.mortal.moments <= 24


def test_what_failed_is_tried_as_often_as_declared_and_by_each_later_call() -> None:
    store, clock = MortalStore(), Clock()
    world = World(store, [FAILED] * 3)
    said: list[str] = []
    doer = Doer("x", clock.tick, lambda seconds: False, said.append)
    assert perform(store, KEY, "script", POLICY, world.prepare, doer).state is State.FAILED
    assert said == ["failed, trying again in 0 s: exit code 3"]
    known = perform(store, KEY, "script", POLICY, world.prepare, Clock(clock.now, 5).doer())
    assert (known.state, known.next_number) == (State.DONE, 5)
    assert [state for _, state in world.effects] == [State.FAILED] * 3 + [State.DONE]
    assert perform(store, KEY, "script", POLICY, world.prepare, clock.doer()).state is State.DONE
    assert len(world.effects) == 4


def test_a_wait_that_is_cut_short_leaves_the_failure_that_was_seen() -> None:
    store = MortalStore()
    world = World(store, [FAILED])
    doer = Doer("x", Clock().tick, lambda seconds: True)
    assert perform(store, KEY, "script", POLICY, world.prepare, doer).state is State.FAILED
    assert len(world.effects) == 1


def test_a_secret_that_is_missing_leaves_no_trace() -> None:
    def prepare() -> Act:
        raise PrerequisiteMissing("no such variable")

    store = MemoryBlobStore()
    with pytest.raises(PrerequisiteMissing):
        perform(store, KEY, "webhook", POLICY, prepare, Clock().doer())
    assert list(store.list("runs")) == []


def test_of_two_who_try_one_does_it() -> None:
    store, clock = MortalStore(), Clock()
    world = World(store)

    def prepare() -> Act:
        other = Intent("script", NOW, NOW, "elsewhere/2/b")
        store.put("runs", blob(KEY, 1, other), to_bytes(KEY, 1, other), if_absent=True)
        return world

    with pytest.raises(Conflict, match="being done by somebody else"):
        perform(store, KEY, "script", POLICY, prepare, clock.doer())
    assert world.effects == []
    assert perform(store, KEY, "script", POLICY, world.prepare, clock.doer()).state is State.UNKNOWN


def test_an_end_that_comes_late_counts_before_anybody_spoke() -> None:
    store, clock = MortalStore(), Clock()
    intent = Intent("script", NOW, NOW, "here/1/a")
    store.put("runs", blob(KEY, 1, intent), to_bytes(KEY, 1, intent))
    assert read(store, KEY).state is State.UNKNOWN
    late = Result(State.DONE, NOW, "well")
    store.put("runs", blob(KEY, 1, late), to_bytes(KEY, 1, late))
    assert perform(store, KEY, "script", POLICY, World(store).prepare, clock.doer()).state is State.DONE
    with pytest.raises(Conflict, match="not unknown: it is done"):
        settle(store, KEY, Word.AGAIN, "olga", clock.now)


@pytest.mark.parametrize("moment", range(1, 20))
def test_a_manual_step_pauses_and_goes_on_whatever_dies_when(moment: int) -> None:
    store, clock, policy = MortalStore(), Clock(), Policy(3600)
    store.mortal = Mortal(moment)
    with suppress(Killed):
        ask(store, KEY, policy, clock.doer())
        ask(store, KEY, policy, clock.doer())
    store.mortal = Mortal()
    assert ask(store, KEY, policy, clock.doer()).state is State.PAUSED
    assert approve(store, KEY, "olga@desk", clock.now).approval is not None
    assert approve(store, KEY, "hugo@desk", clock.now).approval == read(store, KEY).attempts[0].approval
    assert read(store, KEY).state is State.APPROVED
    store.mortal = Mortal(moment)
    with suppress(Killed):
        ask(store, KEY, policy, clock.doer())
    store.mortal = Mortal()
    known = ask(store, KEY, policy, clock.doer())
    assert known.state is State.DONE
    assert known.last is not None
    assert known.last.result is not None
    assert known.last.result.said.startswith("approved by olga@desk at 2026-11-23T12:00:")
    assert ask(store, KEY, policy, clock.doer()) == known
    for name in store.list("runs"):
        SCHEMA.validate(json.loads(store.get("runs", name)[0]))


def test_nobody_approves_for_ever() -> None:
    store, clock, policy = MortalStore(), Clock(), Policy(3600)
    ask(store, KEY, policy, clock.doer())
    clock.now += timedelta(hours=2)
    with pytest.raises(Conflict, match="it waited until 2026-11-23T13:00:01"):
        approve(store, KEY, "olga", clock.now)
    assert ask(store, KEY, policy, clock.doer()).state is State.FAILED
    with pytest.raises(Conflict, match="nobody approved it until 2026-11-23T13:00:01"):
        approve(store, KEY, "olga", clock.now)
    assert ask(store, KEY, policy, clock.doer()).state is State.PAUSED, "the next call asks anew"
    assert approve(store, KEY, "olga", clock.now).number == 2


def test_what_cannot_be_approved_says_why() -> None:
    store, clock = MortalStore(), Clock()
    with pytest.raises(NotFound, match="was not reached yet"):
        approve(store, KEY, "olga", clock.now)
    perform(store, KEY, "script", POLICY, World(store).prepare, clock.doer())
    with pytest.raises(Refused, match="no manual step"):
        approve(store, KEY, "olga", clock.now)


def test_a_record_that_cannot_be_read_stops_the_step() -> None:
    store = MemoryBlobStore()
    store.put("runs", f"{KEY.folder}1-intent.json", b"{}")
    with pytest.raises(Corrupt, match=r"1-intent.json is no readable record"):
        read(store, KEY)
    other = MemoryBlobStore()
    other.put("runs", f"{KEY.folder}1-result.json", to_bytes(KEY, 1, Result(State.DONE, NOW, "well")))
    with pytest.raises(Corrupt, match="no intent"):
        read(other, KEY)


def test_a_store_that_is_down_begins_nothing() -> None:
    store = MortalStore()
    store.script("D")
    world = World(store)
    with pytest.raises(Unreachable):
        perform(store, KEY, "script", POLICY, world.prepare, Clock().doer())
    assert world.effects == []


def test_no_step_is_taken_for_the_point_of_a_run() -> None:
    """Retention keeps what runs chose: `runs/PLAN/RUN/point-SERVER.json`. A step may have any name."""
    store = MemoryBlobStore()
    perform(
        store, Key("shop", "r1", "point-out", "0badcafe"), "script", POLICY, lambda: lambda number: DONE, Clock().doer()
    )
    assert not [name for name in store.list("runs") if is_selection(name)]
    assert read_in_use(store).points == frozenset()
