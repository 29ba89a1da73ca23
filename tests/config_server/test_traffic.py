"""A policy's traffic at one moment: windows, midnight, time zones, and what the agent is told."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest

from dr.config_server.settings import parse
from dr.config_server.traffic import Limits, limits_at
from dr.model import Traffic, TrafficWindow
from tests.config_server.rig import SERVERS

WORK = TrafficWindow((0, 1, 2, 3, 4), 8 * 60, 18 * 60, 1000, resync=False)
NIGHT = TrafficWindow((4,), 22 * 60, 6 * 60, 2000, resync=True)  # from Friday to Saturday
ALL_DAY = TrafficWindow((6,), 0, 0, None, resync=False)
TRAFFIC = Traffic("Europe/Berlin", 5000, (WORK, NIGHT, ALL_DAY))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "bandwidth", "until"),
    [
        ("2026-01-05T06:59:59", 5000, None),  # Monday, 7:59 in Berlin
        ("2026-01-05T07:00:00", 1000, "2026-01-05T17:00:00"),
        ("2026-01-05T16:59:00", 1000, "2026-01-05T17:00:00"),
        ("2026-01-05T17:00:00", 5000, None),
        ("2026-01-10T07:00:00", 5000, None),  # Saturday
        ("2026-01-09T21:00:00", 2000, None),  # Friday, 22:00
        ("2026-01-10T04:59:00", 2000, None),  # Saturday, 5:59: still Friday's window
        ("2026-01-10T05:00:00", 5000, None),
        ("2026-01-08T21:00:00", 5000, None),  # Thursday night
        ("2026-01-10T23:00:00", None, "2026-01-11T23:00:00"),  # Sunday as a whole
        ("2026-01-11T22:59:00", None, "2026-01-11T23:00:00"),
        ("2026-07-06T06:00:00", 1000, "2026-07-06T16:00:00"),  # summer time
    ],
)
def test_the_first_window_that_holds_the_time_counts(now: str, bandwidth: int | None, until: str | None) -> None:
    assert limits_at(TRAFFIC, at(now)) == Limits(bandwidth, at(until) if until else None)


def test_a_window_ends_by_the_wall_clock_also_when_the_clock_is_changed() -> None:
    night = Traffic("Europe/Berlin", None, (TrafficWindow((5,), 22 * 60, 6 * 60, None, resync=False),))
    assert limits_at(night, at("2026-03-28T22:00:00")).resync_waits_until == at("2026-03-29T04:00:00")
    assert limits_at(night, at("2026-03-29T04:00:00")).resync_waits_until is None


def test_without_anything_said_nothing_is_limited() -> None:
    now = at("2026-01-05T12:00:00")
    for hours in range(0, 170, 5):
        assert limits_at(Traffic(), now + timedelta(hours=hours)) == Limits(None, None)


def test_it_survives_the_way_through_config_json_where_numbers_may_be_floats() -> None:
    document = {
        "site": "hq", "subscription": "s", "storage_account": "a",
        "configuration_server": {"listen": "127.0.0.1", "port": 1},
        "process_server": {"name": "ps1", "listen": "127.0.0.1", "port": 2},
        "servers": {"shop1": SERVERS["shop1"] | {"traffic": asdict(TRAFFIC)}},
    }  # fmt: skip
    floats = json.loads(json.dumps(document), parse_int=float)
    assert parse(floats).servers["shop1"].traffic == TRAFFIC
