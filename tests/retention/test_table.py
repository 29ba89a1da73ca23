"""The retention table: 15 simulated days against a count of its own, and what must never be thinned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dr.retention.table import Dated, surplus

START = datetime(2026, 5, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def dated(number: int, created: datetime, cut: datetime | None = None, *, app_consistent: bool = False) -> Dated:
    return Dated(f"shop1-1-{number}", (1, number), cut or created, created, app_consistent)


def simulate(retention: timedelta, days: int, passes: Callable[[int], bool]) -> list[Dated]:
    """Cut every five minutes; thin after the cuts that `passes` names; return what is left, oldest first."""
    points: list[Dated] = []
    for number in range(days * 288 + 1):
        points.append(dated(number, START + number * 5 * MINUTE))
        if passes(number):
            gone = set(surplus(points, retention, ()))
            points = [point for point in points if point.id not in gone]
    return points


def table_says(retention: timedelta, days: int) -> list[datetime]:
    """The table, counted out by hand: for each moment on the five-minute grid, is a point of it kept?"""
    end = START + days * DAY
    kept = []
    for minutes in range(0, days * 24 * 60 + 1, 5):
        moment = START + minutes * MINUTE
        age = end - moment
        if age > retention:
            continue
        if age <= 2 * HOUR:
            step = 5
        elif retention <= DAY:
            step = 60
        elif retention <= 7 * DAY or age <= 7 * DAY:
            step = 120
        else:
            step = 240
        if minutes % step == 0:
            kept.append(moment)
    return kept


@pytest.mark.parametrize("retention_days", [0.5, 1, 2, 7, 8, 15])
def test_fifteen_days_equal_the_table(retention_days: float) -> None:
    retention = timedelta(days=retention_days)
    left = [point.created for point in simulate(retention, 15, lambda number: number % 12 == 0)]
    assert left == table_says(retention, 15)


def test_the_numbers_of_the_table() -> None:
    counts = {days: len(simulate(days * DAY, 15, lambda number: number == 15 * 288)) for days in (1, 7, 15)}
    # 25 of the last two hours; then 22 hours; 6 d 22 h in twos; 7 days less 2 h in twos and 8 days in fours.
    assert counts == {1: 25 + 22, 7: 25 + 83, 15: 25 + 83 + 48}


def test_application_consistent_points_keep_slots_of_their_own() -> None:
    """One each four hours, never the first point of its hour: by the others' slots none would outlive two hours."""
    points = [dated(n, START + n * 5 * MINUTE, app_consistent=n % 48 == 7) for n in range(2 * 288)]
    left = set(surplus(points, DAY, ()))
    asked = [p for p in points if p.app_consistent and points[-1].created - p.created <= DAY]
    assert len(asked) == 6
    assert not left & {p.id for p in asked}
    plain = [p for p in points if not p.app_consistent]
    assert left - {p.id for p in points if p.app_consistent} == set(surplus(plain, DAY, ()))


def test_how_often_a_pass_ran_makes_no_difference() -> None:
    often = simulate(8 * DAY, 9, lambda number: True)
    seldom = simulate(8 * DAY, 9, lambda number: number % 700 == 0 or number == 9 * 288)
    assert often == seldom


def test_zero_keeps_the_newest_only() -> None:
    points = [dated(n, START + n * MINUTE) for n in range(5)]
    assert surplus(points, timedelta(0), ()) == [p.id for p in points[:4]]


def test_nothing_ages_while_no_new_point_arrives() -> None:
    left = simulate(DAY, 2, lambda number: True)
    assert surplus(left, DAY, ()) == []


def test_what_is_held_stays() -> None:
    points = [dated(n, START + n * 10 * HOUR) for n in range(10)]
    held = {points[0].id, points[2].id}
    assert set(surplus(points, DAY, held)) == {p.id for p in points[:7]} - held


def test_a_writer_that_lies_about_the_time_ages_nobody_out() -> None:
    """A forged point with a date in 2099 is one more point of today, and the real ones keep their slots."""
    real = [dated(n, START + n * 5 * MINUTE) for n in range(288)]
    forged = dated(999_999, START + DAY, cut=datetime(2099, 1, 1, tzinfo=UTC))
    honest = dated(288, START + DAY)
    assert surplus([*real, forged], 7 * DAY, ()) == surplus([*real, honest], 7 * DAY, ())
    backdated = [dated(1000 + n, START + DAY + n * MINUTE, cut=p.cut_time - MINUTE) for n, p in enumerate(real)]
    honest_ones = [dated(1000 + n, START + DAY + n * MINUTE) for n in range(len(real))]

    def lost(others: list[Dated]) -> set[str]:
        return {p.id for p in real} & set(surplus([*real, *others], 7 * DAY, ()))

    assert lost(backdated) == lost(honest_ones)


def test_a_clock_that_jumps_two_days_ahead_and_back_changes_nothing() -> None:
    honest = [dated(n, START + n * 5 * MINUTE) for n in range(600)]
    jumped = [dated(n, p.created, cut=p.cut_time + 2 * DAY) if 100 <= n < 200 else p for n, p in enumerate(honest)]
    assert surplus(jumped, 3 * DAY, ()) == surplus(honest, 3 * DAY, ())


def test_points_that_were_copied_into_another_account_stay_apart() -> None:
    """All manifests were created within a minute; their cuts are days apart."""
    copied = [dated(n, START + 10 * DAY, cut=START + n * 2 * HOUR) for n in range(100)]
    new = [dated(1000, START + 11 * DAY)]
    assert surplus([*copied, *new], 15 * DAY, ()) == []


@settings(max_examples=200, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 20 * 24 * 60), min_size=1, max_size=60, unique=True),
    hours=st.integers(0, 15 * 24),
    cut=st.integers(0, 60),
)
def test_thinning_twice_is_thinning_once_and_the_newest_stays(minutes: list[int], hours: int, cut: int) -> None:
    points = [dated(n, START + m * MINUTE) for n, m in enumerate(sorted(minutes))]
    retention = hours * HOUR
    gone = surplus(points, retention, ())
    left = [p for p in points if p.id not in set(gone)]
    assert points[-1] in left
    assert surplus(left, retention, ()) == []
    # A pass that was killed after some deletions ends where it would have ended.
    some = [p for p in points if p.id not in set(gone[:cut])]
    assert {*gone[:cut], *surplus(some, retention, ())} == set(gone)
