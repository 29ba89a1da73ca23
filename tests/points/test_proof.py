"""The proof in its short form, and what proves it: each mutant must fail, by what it does to the points."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.agent.protected import CHECKOUT
from tests.points.__main__ import ABOUT
from tests.points.log import PER_FILE, RECORD, number_of, on_device, record
from tests.points.pictures import PLACES, out_of_order

# What each mutant must show in the verdict, any of these.
HARM = {
    "thawed-early": ("digest_mismatches", "order_violations", "torn_points"),
    "cut-before-its-data": ("digest_mismatches", "order_violations", "torn_points"),
    "received-before-sync": ("received_lost", "torn_points"),
}


def prove(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.points", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-3000:]
    verdict: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, verdict


@pytest.mark.real
@pytest.mark.timeout(900)
def test_every_point_is_one_instant_and_whole() -> None:
    code, verdict = prove("--points", "20", "--power-cuts", "20")
    assert (code, verdict["failures"]) == (0, [])
    assert verdict["points"] == 20 and verdict["power_cuts"] == 20
    assert verdict["points_frozen"] >= 8 and verdict["points_unfrozen"] >= 3 and verdict["points_pictured"] >= 2
    assert 0 < verdict["freeze_ms_median"] <= verdict["freeze_ms_max"]
    assert verdict["records"] > 100


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(ABOUT))
def test_each_mutant_fails(name: str) -> None:
    code, verdict = prove("--mutant", name)
    assert code == 1, "the patch must apply, and its proof must fail"
    assert any(verdict[harm] for harm in HARM[name]), verdict


def complete(newest: int) -> list[list[int]]:
    return [list(range(place, newest + 1, PLACES)) for place in range(PLACES)]


def test_a_prefix_is_in_order_and_a_hole_is_not() -> None:
    for newest in (-1, 0, 3, 17, PLACES * PER_FILE):
        assert out_of_order(complete(newest)) == (newest, [])
    for place in range(PLACES):
        logs = complete(100)
        logs[place].pop()
        newest, wrong = out_of_order(logs)
        assert wrong or newest == 99, (place, wrong)
    logs = complete(100)
    del logs[2][3]
    assert len(out_of_order(logs)[1]) == 1


def test_a_record_is_known_by_its_content() -> None:
    whole = record(41)
    assert number_of(whole) == 41 and len(whole) == RECORD
    assert number_of(whole[:-1] + bytes([whole[-1] ^ 1])) is None and number_of(bytes(RECORD)) is None
    assert on_device(record(3) + record(9) + bytes(4 * RECORD)) == [3, 9]
    with pytest.raises(ValueError, match="no whole record"):
        on_device(record(3) + bytes(RECORD) + record(9))
