"""Rounds come soon while there is something to send, and less and less often while there is nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.rhythm import LONGEST_SECONDS, SHORTEST_SECONDS, Rhythm


def test_quiet_disks_are_looked_at_less_and_less_often_and_busy_ones_at_once_again() -> None:
    rhythm, now, pauses = Rhythm(), 100.0, []
    for _ in range(6):
        rhythm.ended(now, found=False)
        pauses.append(rhythm.pause_seconds)
    assert pauses == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert not rhythm.due(now + 0.99) and rhythm.due(now + 1.0)
    rhythm.ended(now + 1.0, found=True)
    assert not rhythm.due(now + 1.09) and rhythm.due(now + 1.1)


def test_who_is_in_a_hurry_waits_for_nothing() -> None:
    rhythm = Rhythm()
    for _ in range(5):
        rhythm.ended(7.0, found=False)
    rhythm.hurry()
    assert rhythm.due(7.0) and rhythm.pause_seconds == SHORTEST_SECONDS


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=1, max_size=30))
def test_no_change_waits_longer_than_the_longest_pause(rounds: list[tuple[float, bool]]) -> None:
    rhythm, now = Rhythm(), 0.0
    for took, found in rounds:
        now += took
        rhythm.ended(now, found=found)
        assert SHORTEST_SECONDS <= rhythm.pause_seconds <= LONGEST_SECONDS
        assert rhythm.due(now + LONGEST_SECONDS)
