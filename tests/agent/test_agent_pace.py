"""How long a reading will still take."""

from __future__ import annotations

from agent.pace import Pace


def test_the_pace_so_far_tells_the_rest() -> None:
    pace = Pace()
    assert pace.remaining_seconds(1000, 0.0) is None
    assert pace.remaining_seconds(990, 1.0) is None, "too early to tell"
    assert pace.remaining_seconds(500, 10.0) == 11
    assert pace.remaining_seconds(500, 20.0) == 21, "a pause counts"
    assert pace.remaining_seconds(0, 30.0) is None


def test_a_new_reading_has_a_pace_of_its_own() -> None:
    pace = Pace()
    pace.remaining_seconds(100, 0.0)
    pace.remaining_seconds(10, 100.0)
    assert pace.remaining_seconds(1000, 110.0) is None
    assert pace.remaining_seconds(900, 120.0) == 91
